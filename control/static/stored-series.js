/**
 * @file What the figures were before this page was opened, and what happened meanwhile: the server
 * keeps both. A page that is opened after the fact begins with them.
 */

import { readSeries } from './api.js';

/** @typedef {import('./history.js').Sample} Sample */
/** @typedef {import('./history.js').Series} Series */

/**
 * @typedef {{at_ms: number} & (
 *     {kind: 'edit', actor: string, action: string, target: string}
 *   | {kind: 'state', to: string, count: number, backends: string[]}
 *   | {kind: 'applied', generation: number}
 *   | {kind: 'refused', generation: number, reason: string})} Mark
 */

/**
 * @typedef {object} Answer of `GET /api/v1/series`
 * @property {number} step_ms
 * @property {number} first_ms
 * @property {number} count
 * @property {Record<string, (number | null)[]>} series
 * @property {Mark[]} marks
 */

/** How far back the charts reach. */
export const RANGES = /** @type {const} */ ({ quarter: 15 * 60_000, hour: 60 * 60_000, day: 24 * 60 * 60_000 });
/** @typedef {keyof typeof RANGES} Range */

/** Soon enough for an event to be seen on the chart that it explains. */
const READ_AGAIN_MS = 15_000;

/** What the page calls a figure, and what the server does. @type {[Series, string][]} */
const NAMES = [
  ['taking', 'taking'],
  ['sessions', 'sessions'],
  ['sessionRate', 'session_rate'],
  ['failedRate', 'failed_rate'],
  ['flows', 'flows'],
  ['up', 'bytes_up_rate'],
  ['down', 'bytes_down_rate'],
  ['p50', 'first_byte_p50_us'],
  ['p99', 'first_byte_p99_us'],
  ['gpu', 'gpu'],
  ['vram', 'vram'],
  ['batched', 'vram_batched'],
  ['unbatched', 'vram_unbatched'],
];

/** @type {Sample[]} */
let samples = [];
/** @type {Mark[]} */
let marks = [];
/** @type {Range} */
let range = 'quarter';
let readAt = -Infinity;
let isReading = false;

/** @returns {readonly Sample[]} of the range, the oldest first; the server's figures alone */
export function pastSamples() {
  return samples;
}

/** @returns {readonly Mark[]} of the range, the oldest first */
export function pastMarks() {
  return marks;
}

export function rangeMs() {
  return RANGES[range];
}

export function rangeNow() {
  return range;
}

/** @param {Range} wanted */
export function setRange(wanted) {
  if (wanted === range) return;
  range = wanted;
  samples = [];
  marks = [];
  readAt = -Infinity;
}

/**
 * Reads the past where it is not known yet, or is old.
 * @param {number} now unix milliseconds, by the server's clock
 * @returns {Promise<boolean>} whether something new came
 */
export async function readPast(now) {
  if (isReading || now - readAt < READ_AGAIN_MS) return false;
  isReading = true;
  const wanted = range;
  try {
    const answer = await readSeries(now - RANGES[wanted]);
    // Another range may have been chosen meanwhile: that one is still to be read.
    if (wanted !== range) return false;
    readAt = now;
    samples = samplesOf(answer);
    marks = answer.marks;
    return true;
  } catch {
    // An older control knows no past; the charts then begin with this page.
    if (wanted === range) readAt = now;
    return false;
  } finally {
    isReading = false;
  }
}

/** @param {Answer} answer @returns {Sample[]} */
function samplesOf({ step_ms: step, first_ms: first, count, series }) {
  // By reason, under the server's own names.
  const names = [...NAMES, ...Object.keys(series).filter((name) => /^failed_.+_rate$/.test(name)).map((name) => [name, name])];
  return Array.from({ length: count }, (_, at) => {
    const figures = names.map(([name, theirs = '']) => [name, series[theirs]?.[at] ?? null]);
    return /** @type {Sample} */ ({ at: first + at * step, ...Object.fromEntries(figures) });
  });
}
