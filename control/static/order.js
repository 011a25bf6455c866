/**
 * @file In what order rows stand on the page, over time: sorted, but unmoved while the person is in
 * the table; a row that is listed no more stays a moment in its place. Pure.
 */

/** @typedef {import('./rows.js').Row} Row */
/** @typedef {{row: Row, isGone: boolean}} Entry */

/** How long a row that is listed no more stays, in grey. */
const GONE_STAYS_MS = 5_000;

export class Standing {
  /** @type {Entry[]} */
  #entries = [];
  /** @type {Map<string, number>} */
  #goneSince = new Map();

  /**
   * @param {Row[]} sorted the rows that the filter shows, in the order that is asked for
   * @param {Set<string>} listed all keys, also those that the filter hides
   * @param {boolean} isHeld nothing may move; new rows come last
   * @param {number} now unix milliseconds
   * @returns {{entries: Entry[], isHeldBack: boolean}} whether the order would be another one
   */
  update(sorted, listed, isHeld, now) {
    const byKey = new Map(sorted.map((row) => [row.key, row]));
    this.#letGo(listed, now);
    const kept = this.#entries.flatMap(({ row }) => {
      const current = byKey.get(row.key);
      if (current !== undefined) return [{ row: current, isGone: false }];
      return this.#goneSince.has(row.key) ? [{ row, isGone: true }] : [];
    });
    const before = new Set(kept.map(({ row }) => row.key));
    const added = sorted.filter(({ key }) => !before.has(key)).map((row) => ({ row, isGone: false }));
    const held = [...kept, ...added];
    const living = held.filter(({ isGone }) => !isGone);
    const differs = living.some(({ row }, at) => row !== sorted[at]);
    this.#entries = isHeld || !differs ? held : withGone(sorted, kept);
    return { entries: this.#entries, isHeldBack: isHeld && differs };
  }

  /**
   * @param {Set<string>} listed
   * @param {number} now
   */
  #letGo(listed, now) {
    for (const { row } of this.#entries) {
      if (!listed.has(row.key) && !this.#goneSince.has(row.key)) this.#goneSince.set(row.key, now);
    }
    for (const [key, since] of this.#goneSince) {
      if (listed.has(key) || now - since > GONE_STAYS_MS) this.#goneSince.delete(key);
    }
    this.#entries = this.#entries.filter(({ row }) => listed.has(row.key) || this.#goneSince.has(row.key));
  }
}

/**
 * @param {Row[]} sorted
 * @param {Entry[]} kept as they stood, those that are gone among them
 * @returns {Entry[]}
 */
function withGone(sorted, kept) {
  const entries = sorted.map((row) => ({ row, isGone: false }));
  for (const [at, entry] of kept.entries()) if (entry.isGone) entries.splice(at, 0, entry);
  return entries;
}
