/**
 * @file The VRAM of each backend over the last minutes, kept in the page and drawn as a small line:
 * a server that answers its requests one by one and one that batches them look different here.
 */

import { setAttribute, svg } from './dom.js';
import { percentText } from './format.js';
import { words } from './i18n.js';

/** How far back the line reaches. */
export const WINDOW_MS = 3 * 60_000;
/** News come more often than the line has points to show: those of this long share one. */
const SPAN_MS = 2_000;
const MAX_SPANS = WINDOW_MS / SPAN_MS;
/** Less than the time between two spans, as news do not come to the millisecond. */
const REDRAWN_AFTER_MS = SPAN_MS - 200;
/** A longer silence than this is a gap in the line, not a slope. */
const GAP_MS = 12_000;
const WIDTH = 100;
const HEIGHT = 22;

/** @typedef {{at: number, share: number}} Sample */

/**
 * The last minutes of one backend, in a ring of spans: thousands of backends must not cost a page its
 * memory. Of each span the two extremes are kept, in the order in which they came: a peak that lasted
 * for one report must not be lost because another one came soon after.
 */
class Spans {
  #at = new Float64Array(MAX_SPANS);
  #early = new Float32Array(MAX_SPANS);
  #late = new Float32Array(MAX_SPANS);
  #count = 0;

  /** @param {number} at @param {number} share */
  add(at, share) {
    if (this.#count === 0 || at - this.lastAt() >= SPAN_MS) {
      const slot = this.#count % MAX_SPANS;
      this.#at[slot] = at;
      this.#early[slot] = share;
      this.#late[slot] = share;
      this.#count += 1;
      return;
    }
    const slot = this.#lastSlot();
    const low = Math.min(this.#early[slot] ?? share, this.#late[slot] ?? share);
    const high = Math.max(this.#early[slot] ?? share, this.#late[slot] ?? share);
    if (share >= low && share <= high) return;
    this.#early[slot] = share < low ? high : low;
    this.#late[slot] = share;
  }

  #lastSlot() {
    return (this.#count - 1) % MAX_SPANS;
  }

  /** @returns {number} when the last span began */
  lastAt() {
    return this.#count === 0 ? -Infinity : (this.#at[this.#lastSlot()] ?? 0);
  }

  /** @param {number} from @returns {Sample[]} the oldest first */
  since(from) {
    const kept = [];
    for (let span = Math.max(0, this.#count - MAX_SPANS); span < this.#count; span += 1) {
      const slot = span % MAX_SPANS;
      const at = this.#at[slot] ?? 0;
      if (at < from) continue;
      const early = this.#early[slot] ?? 0;
      const late = this.#late[slot] ?? 0;
      kept.push({ at, share: early });
      if (late !== early) kept.push({ at, share: late });
    }
    return kept;
  }
}

/** @type {Map<string, Spans>} */
const histories = new Map();

/**
 * Adds what each backend says now and forgets those that are silent for longer than the window.
 * @param {import('./shapes.js').Backend[]} backends
 * @param {number} now unix milliseconds
 */
export function recordVram(backends, now) {
  for (const { id, vram_usage: share } of backends) {
    if (share === null) continue;
    let spans = histories.get(id);
    if (spans === undefined) {
      spans = new Spans();
      histories.set(id, spans);
    }
    spans.add(now, share);
  }
  for (const [id, spans] of histories) {
    if (spans.lastAt() < now - WINDOW_MS) histories.delete(id);
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

/** A line across at this share. @param {number} share 0..1 */
export function guardLine(share) {
  const y = heightOf(share);
  return svg('path', { class: 'sparkline-guard', d: `M0 ${y}H${WIDTH}`, 'vector-effect': 'non-scaling-stroke' });
}

/** @param {number} share 0..1 */
function heightOf(share) {
  return (1 + (HEIGHT - 2) * (1 - share)).toFixed(1);
}

/** When each was drawn last, and of whom. @type {WeakMap<SVGSVGElement, {key: string, at: number}>} */
const drawn = new WeakMap();

/**
 * Draws it, unless it was drawn so shortly before that it would hardly move.
 * @param {SVGSVGElement} target made by `sparkline`
 * @param {string} key
 * @param {number} now unix milliseconds, the right edge
 */
export function drawVram(target, key, now) {
  const last = drawn.get(target);
  if (last?.key === key && now - last.at < REDRAWN_AFTER_MS) return;
  drawn.set(target, { key, at: now });
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
    const y = heightOf(sample.share);
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
      const y = heightOf(high > 0 ? value / high : 0);
      const step = at - before > GAP_MS ? 'M' : 'L';
      before = at;
      return `${step}${x} ${y}`;
    })
    .join('');
}
