/**
 * @file What failed at each backend by the proxy's own counters, which only grow: all of it, what failed in
 * the last minute, and the one order in which reasons are named.
 */

import { words } from './i18n.js';
import { endText } from './verdict.js';

/** @typedef {import('./shapes.js').SeenBackend} SeenBackend */
/** @typedef {Record<string, number>} Counts by reason; those of UDP flows begin with `FLOW` */

/** As the server's own window. */
const WINDOW_MS = 60_000;
const FLOW = 'flow.';

/** What the proxy counted before the window, and after each failure in it, the oldest first. @type {Map<string, {at: number, sum: number, counts: Counts}[]>} */
const looks = new Map();
/** The process that counted. @type {number | null} */
let process = null;

/**
 * Reasons by their counts, the most first; of equal counts in the order of their codes.
 * @param {Counts} counts
 * @returns {[reason: string, count: number][]}
 */
export function mostFirst(counts) {
  return Object.entries(counts).sort(([left, many], [right, more]) => more - many || (left < right ? -1 : 1));
}

/**
 * Sessions that it did not take, or failed after that, since the proxy started.
 * @param {SeenBackend | null} seen
 */
export function errorsOf(seen) {
  if (seen === null) return null;
  const failed = Object.values(seen.sessions_failed ?? {}).reduce((sum, count) => sum + count, 0);
  // `connect_failures` counts refused flows.
  return seen.connect_failures + seen.connect_timeouts + failed + (seen.flows_failed?.unanswered ?? 0);
}

/** @param {SeenBackend} seen @returns {Counts} */
function countsOf(seen) {
  const { refused = 0, unanswered = 0 } = seen.flows_failed ?? {};
  return {
    connect_refused: seen.connect_failures - refused,
    connect_timeout: seen.connect_timeouts,
    ...seen.sessions_failed,
    [`${FLOW}refused`]: refused,
    [`${FLOW}unanswered`]: unanswered,
  };
}

/** @param {import('./shapes.js').WholeAnswer} whole */
export function recordFailures({ backends, status }) {
  const pid = status.proxy?.pid ?? null;
  // A restarted proxy counts anew.
  if (pid !== process) looks.clear();
  process = pid;
  const at = status.at_ms;
  for (const { id, proxy } of backends) {
    if (proxy === null) continue;
    const sum = errorsOf(proxy) ?? 0;
    const known = looks.get(id) ?? [];
    const last = known.at(-1);
    // One that was removed and came back counts anew.
    if (last === undefined || sum < last.sum) looks.set(id, [{ at, sum, counts: countsOf(proxy) }]);
    else if (sum > last.sum) known.push({ at, sum, counts: countsOf(proxy) });
    while ((known[1]?.at ?? Infinity) < at - WINDOW_MS) known.shift();
  }
  if (looks.size > backends.length) {
    const listed = new Set(backends.map(({ id }) => id));
    for (const id of looks.keys()) if (!listed.has(id)) looks.delete(id);
  }
}

/**
 * Whether a backend has failed of late, and how: in the last minute, as far as this page has looked on; in a
 * row until now; or so that the scheduler still counts it.
 * @param {import('./rows.js').Row} row
 * @returns {{count: number, why: string}} a count of 0: it has not
 */
export function recentFailures({ key, seen, backend }) {
  const known = looks.get(key) ?? [];
  const [first, last] = [known[0], known.at(-1)];
  const count = first === undefined || last === undefined ? 0 : last.sum - first.sum;
  if (count > 0) {
    const grown = Object.entries(last?.counts ?? {}).map(([reason, now]) => [reason, now - (first?.counts[reason] ?? 0)]);
    const [most] = mostFirst(Object.fromEntries(grown));
    return { count, why: words().failedLately(count, reasonText(most?.[0] ?? '')) };
  }
  const inRow = seen?.session_failures_in_row ?? 0;
  if (inRow > 0) return { count: inRow, why: words().ofReason(words().side.failedInRow, String(inRow)) };
  const remembered = backend.cost?.failures ?? 0;
  return remembered > 0 ? { count: 1, why: words().cost.stillFailing } : { count: 0, why: '' };
}

/** @param {string} reason */
function reasonText(reason) {
  if (!reason.startsWith(FLOW)) return endText(reason, 'session');
  return words().ofReason(words().flows, endText(reason.slice(FLOW.length), 'flow'));
}
