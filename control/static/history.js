/**
 * @file What the figures were: what this page has seen in the last fifteen minutes, and before that what
 * the server has kept (stored-series.js). Rates come from two looks at counters that only grow.
 */

import { firstByteOf, recordFirstBytes } from './first-byte.js';
import { stateOf, takesTraffic } from './state.js';
import { RANGES, pastSamples, rangeMs, rangeNow } from './stored-series.js';

/** @typedef {import('./shapes.js').ProxyStatus} ProxyStatus */
/** @typedef {import('./shapes.js').Backend} Backend */
/** @typedef {{sessions: number, failed: number, byReason: Record<FailedSeries, number>, up: number, down: number}} Rates a second; `sessions` without those that reached no backend */

/** A line over less than this would show nothing but noise. */
const LEAST_SHOWN_MS = 60_000;
/** News come once a second; a hand that refreshes adds no more than one a half. */
const LEAST_APART_MS = 500;

/** What is kept of each moment; `null` is what was not known. */
const SERIES = /** @type {const} */ ([
  'taking',
  'sessions',
  'sessionRate',
  'failedRate',
  'flows',
  'up',
  'down',
  'p50',
  'p99',
  'gpu',
  'vram',
  'batched',
  'unbatched',
]);

/** @typedef {typeof SERIES[number]} Series */
/** How many sessions failed a second for one reason. @typedef {`failed_${string}_rate`} FailedSeries */
/** @typedef {{at: number} & Record<Series | FailedSeries, number | null>} Sample */
/** The ends that the server counts as failures. @typedef {{sessions: string[], unconnected: string[]}} Failures */

/** @type {Failures} */
let failures = { sessions: [], unconnected: [] };

/** @type {Sample[]} */
const samples = [];
/** @type {{at: number, pid: number, totals: ProxyStatus['totals']} | null} */
let before = null;
/** @type {Rates | null} */
let rates = null;

/** @param {string} reason @returns {FailedSeries} as the server calls it */
const seriesOf = (reason) => `failed_${reason}_rate`;

/**
 * @param {ProxyStatus | null} status
 * @param {Backend[]} backends
 * @param {number} at unix milliseconds, by the server's clock
 * @param {Failures} [counted]
 */
export function record(status, backends, at, counted) {
  failures = counted ?? failures;
  const last = samples.at(-1);
  if (last !== undefined && at - last.at < LEAST_APART_MS) return;
  rates = ratesSince(status, at);
  recordFirstBytes(status, at);
  before = status === null ? null : { at, pid: status.pid, totals: status.totals };
  const totals = status?.totals ?? null;
  const batched = backends.filter((backend) => batchingOf(backend) === 'batched');
  const unbatched = backends.filter((backend) => batchingOf(backend) === 'unbatched');
  samples.push({
    at,
    taking: status === null ? null : backends.filter(isTaking).length,
    sessions: totals?.sessions_active ?? null,
    sessionRate: rates?.sessions ?? null,
    failedRate: rates?.failed ?? null,
    flows: totals?.flows_active ?? null,
    up: rates?.up ?? null,
    down: rates?.down ?? null,
    p50: firstByteOf(0.5),
    p99: firstByteOf(0.99),
    gpu: meanOf(backends.map((backend) => backend.gpu_usage)).mean,
    vram: meanOf(backends.map((backend) => backend.vram_usage)).mean,
    batched: meanOf(batched.map((backend) => backend.vram_usage)).mean,
    unbatched: meanOf(unbatched.map((backend) => backend.vram_usage)).mean,
    ...rates?.byReason,
  });
  const firstKept = samples.findIndex((sample) => sample.at >= at - RANGES.quarter);
  samples.splice(0, firstKept);
}

/**
 * Whether a backend serves requests together, or says what it runs and takes each by itself. Null is
 * one that says neither.
 * @param {Backend} backend
 * @returns {'batched' | 'unbatched' | null}
 */
export function batchingOf({ max_batch: max, running }) {
  if (typeof max === 'number' && max > 1) return 'batched';
  return max === 1 || typeof running === 'number' ? 'unbatched' : null;
}

/** @param {Backend} backend */
function isTaking(backend) {
  return takesTraffic(stateOf(backend, backend.proxy), backend.weight);
}

/**
 * A restarted proxy counts anew.
 * @param {ProxyStatus | null} status
 * @param {number} at
 * @returns {Rates | null}
 */
function ratesSince(status, at) {
  if (status === null || before === null || before.pid !== status.pid || at <= before.at) return null;
  const seconds = (at - before.at) / 1000;
  const { totals } = status;
  const ended = (/** @type {string[]} */ reasons) => sumOf(totals.sessions_ended, reasons) - sumOf(before?.totals.sessions_ended, reasons);
  const accepted = totals.sessions_total - before.totals.sessions_total;
  return {
    // One that is refused after a while began in an earlier look.
    sessions: Math.max(0, accepted - ended(failures.unconnected)) / seconds,
    failed: ended(failures.sessions) / seconds,
    byReason: Object.fromEntries(failures.sessions.map((reason) => [seriesOf(reason), ended([reason]) / seconds])),
    up: (totals.bytes_up - before.totals.bytes_up) / seconds,
    down: (totals.bytes_down - before.totals.bytes_down) / seconds,
  };
}

/** @param {Record<string, number> | undefined} counts @param {string[]} reasons */
function sumOf(counts, reasons) {
  return reasons.reduce((sum, reason) => sum + (counts?.[reason] ?? 0), 0);
}

/** The reasons for which sessions failed in the time that is shown, each as a series. */
export function failedSeries() {
  const all = history();
  const reasons = failures.sessions.filter((reason) => all.some((sample) => (sample[seriesOf(reason)] ?? 0) > 0));
  return reasons.map((reason) => ({ reason, name: seriesOf(reason) }));
}

/** Of the last second; null where two looks are not there. */
export function currentRates() {
  return rates;
}

/** @returns {readonly Sample[]} of the range that is shown, the oldest first */
export function history() {
  const past = pastSamples();
  // What this page has seen is finer, but does not reach beyond a quarter of an hour.
  if (rangeNow() === 'quarter') {
    const [from, seenFrom] = [newestAt() - rangeMs(), samples.at(0)?.at ?? Infinity];
    return [...past.filter(({ at }) => at >= from && at < seenFrom), ...samples];
  }
  const pastTo = past.at(-1)?.at ?? -Infinity;
  return [...past, ...samples.filter(({ at }) => at > pastTo)];
}

/** When the newest moment was, in unix milliseconds. */
export function newestAt() {
  return samples.at(-1)?.at ?? 0;
}

/** From when on lines are drawn: as far back as is known, but a minute at least. */
export function windowStart() {
  return Math.min(history().at(0)?.at ?? 0, newestAt() - LEAST_SHOWN_MS);
}

/** @param {(number | null)[]} shares */
export function meanOf(shares) {
  const known = shares.filter((share) => typeof share === 'number');
  const sum = known.reduce((total, share) => total + share, 0);
  return { mean: known.length === 0 ? null : sum / known.length, count: known.length };
}
