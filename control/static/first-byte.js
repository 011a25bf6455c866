/**
 * @file How long first bytes took of late: quantiles of what the proxy has counted in the last seconds,
 * between two looks. The quantiles that it tells itself are since its start: after a day of traffic
 * they say nothing of now.
 */

/** @typedef {import('./shapes.js').ProxyStatus} ProxyStatus */
/** @typedef {{at: number, pid: number, counts: Map<number, number>}} Look */

/** Long enough for some hundred sessions where there are a few dozen a second. */
const SPAN_MS = 10_000;

/** The oldest first. @type {Look[]} */
let looks = [];

/**
 * @param {ProxyStatus | null} status
 * @param {number} at unix milliseconds, by the server's clock
 */
export function recordFirstBytes(status, at) {
  const buckets = status?.totals.first_byte?.buckets;
  // None from an older proxy; one that was restarted counts anew.
  if (status === null || buckets === undefined) {
    looks = [];
    return;
  }
  looks = looks.filter((look) => look.pid === status.pid && look.at >= at - SPAN_MS);
  looks.push({ at, pid: status.pid, counts: new Map(buckets) });
}

/** How many first bytes the figures rest on. */
export function firstByteCount() {
  const before = looks.at(0)?.counts;
  const now = looks.at(-1)?.counts;
  if (before === undefined || now === undefined) return 0;
  return [...now].reduce((sum, [most, count]) => sum + count - (before.get(most) ?? 0), 0);
}

/**
 * Microseconds that a share of the last seconds' first bytes took at most; null where none came.
 * @param {number} share 0 to 1
 * @returns {number | null}
 */
export function firstByteOf(share) {
  const before = looks.at(0)?.counts;
  const now = looks.at(-1)?.counts;
  if (before === undefined || now === undefined) return null;
  const since = [...now].map(([most, count]) => /** @type {const} */ ([most, count - (before.get(most) ?? 0)]));
  const total = since.reduce((sum, [, count]) => sum + count, 0);
  let left = Math.ceil(share * total);
  if (left === 0) return null;
  for (const [most, count] of since) {
    left -= count;
    if (left <= 0) return most;
  }
  return null;
}
