/**
 * @file In what order rows stand on the page, over time: sorted, but unmoved while the person is in
 * the table; a row that is listed no more stays a moment in its place. Pure.
 */

/** @typedef {import('./rows.js').Row} Row */
/** @typedef {{row: Row, isGone: boolean}} Entry */

/** How long a row that is listed no more stays, in grey; while nothing may move, longer. */
const GONE_STAYS_MS = { moving: 5_000, held: 15_000 };

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
    this.#letGo(listed, now - (isHeld ? GONE_STAYS_MS.held : GONE_STAYS_MS.moving), now);
    if (!isHeld) {
      this.#entries = this.#withGone(sorted);
      return { entries: this.#entries, isHeldBack: false };
    }
    this.#entries = this.#held(sorted);
    const living = this.#entries.filter(({ isGone }) => !isGone);
    return { entries: this.#entries, isHeldBack: living.some(({ row }, at) => row !== sorted[at]) };
  }

  /**
   * In the order that is asked for, those that are gone where they stood.
   * @param {Row[]} sorted
   * @returns {Entry[]}
   */
  #withGone(sorted) {
    const entries = sorted.map((row) => ({ row, isGone: false }));
    if (this.#goneSince.size === 0) return entries;
    for (const [at, { row }] of this.#entries.entries()) {
      if (this.#goneSince.has(row.key)) entries.splice(at, 0, { row, isGone: true });
    }
    return entries;
  }

  /** As they stood, each as it is now. @param {Row[]} sorted @returns {Entry[]} */
  #held(sorted) {
    const byKey = new Map(sorted.map((row) => [row.key, row]));
    const kept = this.#entries.flatMap(({ row }) => {
      const current = byKey.get(row.key);
      byKey.delete(row.key);
      if (current !== undefined) return [{ row: current, isGone: false }];
      return this.#goneSince.has(row.key) ? [{ row, isGone: true }] : [];
    });
    return [...kept, ...[...byKey.values()].map((row) => ({ row, isGone: false }))];
  }

  /**
   * @param {Set<string>} listed
   * @param {number} before when a row must have gone to be let go
   * @param {number} now
   */
  #letGo(listed, before, now) {
    for (const { row } of this.#entries) {
      if (!listed.has(row.key) && !this.#goneSince.has(row.key)) this.#goneSince.set(row.key, now);
    }
    for (const [key, since] of this.#goneSince) {
      if (listed.has(key) || since < before) this.#goneSince.delete(key);
    }
    this.#entries = this.#entries.filter(({ row }) => listed.has(row.key) || this.#goneSince.has(row.key));
  }
}
