/**
 * @file The VRAM of each backend over the last minutes, kept in the page and drawn as a small line:
 * a server that answers its requests one by one and one that batches them look different here.
 */

import { setAttribute, svg } from './dom.js';
import { percentText } from './format.js';
import { words } from './i18n.js';

/** How far back the line reaches. */
export const WINDOW_MS = 3 * 60_000;
/** A sample is taken this often, though news come more often: the line has no more points to show. */
const APART_MS = 2_000;
const MAX_SAMPLES = WINDOW_MS / APART_MS;
/** A longer silence than this is a gap in the line, not a slope. */
const GAP_MS = 12_000;
const WIDTH = 100;
const HEIGHT = 22;

/** @typedef {{at: number, share: number}} Sample */

/** The last samples of one backend, in a ring: thousands of backends must not cost a page its memory. */
class Samples {
  #at = new Float64Array(MAX_SAMPLES);
  #share = new Float32Array(MAX_SAMPLES);
  #count = 0;

  /** @param {number} at @param {number} share */
  add(at, share) {
    const slot = this.#count % MAX_SAMPLES;
    this.#at[slot] = at;
    this.#share[slot] = share;
    this.#count += 1;
  }

  /** @returns {number} when the last one was taken */
  lastAt() {
    return this.#count === 0 ? 0 : (this.#at[(this.#count - 1) % MAX_SAMPLES] ?? 0);
  }

  /** @param {number} from @returns {Sample[]} the oldest first */
  since(from) {
    const kept = [];
    for (let at = Math.max(0, this.#count - MAX_SAMPLES); at < this.#count; at += 1) {
      const slot = at % MAX_SAMPLES;
      const sample = { at: this.#at[slot] ?? 0, share: this.#share[slot] ?? 0 };
      if (sample.at >= from) kept.push(sample);
    }
    return kept;
  }
}

/** @type {Map<string, Samples>} */
const histories = new Map();
let recordedAt = -Infinity;

/**
 * Adds one sample for each backend and forgets those that are silent for longer than the window.
 * @param {import('./api.js').Backend[]} backends
 * @param {number} now unix milliseconds
 */
export function recordVram(backends, now) {
  // News do not come to the millisecond.
  if (now - recordedAt < APART_MS - 100) return;
  recordedAt = now;
  for (const { id, vram_usage: share } of backends) {
    if (share === null) continue;
    let samples = histories.get(id);
    if (samples === undefined) {
      samples = new Samples();
      histories.set(id, samples);
    }
    samples.add(now, share);
  }
  for (const [id, samples] of histories) {
    if (samples.lastAt() < now - WINDOW_MS) histories.delete(id);
  }
}

/** @returns {SVGSVGElement} an empty line, to be drawn by `drawVram` */
export function sparkline() {
  return svg(
    'svg',
    {
      class: 'sparkline',
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: 'none',
      role: 'img',
    },
    svg('title'),
    svg('path', { class: 'sparkline-area' }),
    svg('path', { class: 'sparkline-line', 'vector-effect': 'non-scaling-stroke' }),
  );
}

/**
 * @param {SVGSVGElement} target made by `sparkline`
 * @param {string} key
 * @param {number} now unix milliseconds, the right edge
 */
export function drawVram(target, key, now) {
  const samples = histories.get(key)?.since(now - WINDOW_MS) ?? [];
  const [title, area, line] = target.children;
  const { lineData, areaData } = paths(samples, now);
  setAttribute(/** @type {Element} */ (area), 'd', areaData);
  setAttribute(/** @type {Element} */ (line), 'd', lineData);
  const shares = samples.map((sample) => sample.share);
  const spoken =
    shares.length === 0
      ? words().noVramYet
      : words().vramSpan(percentText(Math.min(...shares)), percentText(Math.max(...shares)));
  if (title !== undefined && title.textContent !== spoken) title.textContent = spoken;
  setAttribute(target, 'aria-label', spoken);
}

/**
 * @param {Sample[]} samples
 * @param {number} now
 */
function paths(samples, now) {
  let lineData = '';
  let areaData = '';
  let before = null;
  for (const sample of samples) {
    const x = (WIDTH * (1 - (now - sample.at) / WINDOW_MS)).toFixed(1);
    const y = (1 + (HEIGHT - 2) * (1 - sample.share)).toFixed(1);
    if (before === null || sample.at - before.at > GAP_MS) {
      if (before !== null) areaData += `V${HEIGHT}Z`;
      lineData += `M${x} ${y}`;
      areaData += `M${x} ${HEIGHT}V${y}`;
    } else {
      lineData += `L${x} ${y}`;
      areaData += `L${x} ${y}`;
    }
    before = sample;
  }
  if (before !== null) areaData += `V${HEIGHT}Z`;
  return { lineData, areaData };
}

/**
 * A line as high as its highest value, or as `top`.
 * @param {{at: number, value: number}[]} samples the oldest first
 * @param {number} from unix milliseconds, the left edge
 * @param {number} to the right edge
 * @param {number | null} top
 */
export function linePath(samples, from, to, top) {
  const high = top ?? samples.reduce((highest, { value }) => Math.max(highest, value), 0);
  let before = 0;
  return samples
    .map(({ at, value }) => {
      const x = ((WIDTH * (at - from)) / (to - from)).toFixed(1);
      const y = (1 + (HEIGHT - 2) * (1 - (high > 0 ? value / high : 0))).toFixed(1);
      const step = at - before > GAP_MS ? 'M' : 'L';
      before = at;
      return `${step}${x} ${y}`;
    })
    .join('');
}
