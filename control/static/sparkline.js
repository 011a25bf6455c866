/**
 * @file The VRAM of each backend over the last minutes, kept in the page and drawn as a small line:
 * a server that answers its requests one by one and one that batches them look different here.
 */

import { setAttribute, svg } from './dom.js';
import { percentText } from './format.js';
import { WINDOW_MS as HISTORY_MS } from './history.js';
import { words } from './i18n.js';

/** How far back the line reaches. */
export const WINDOW_MS = 3 * 60_000;
/** Bounds the memory of one line, however often the page is refreshed by hand. */
const MAX_SAMPLES = 300;
/** A longer silence than this is a gap in the line, not a slope. */
const GAP_MS = 12_000;
const WIDTH = 100;
const HEIGHT = 22;

/** @typedef {{at: number, share: number}} Sample */

/** @type {Map<string, Sample[]>} */
const histories = new Map();

/**
 * Adds one sample for each backend and forgets what is older than the window.
 * @param {import('./rows.js').Row[]} rows
 * @param {number} now unix milliseconds
 */
export function recordVram(rows, now) {
  for (const { key, backend } of rows) {
    if (backend.vram_usage === null) continue;
    const samples = histories.get(key) ?? [];
    histories.set(key, samples);
    samples.push({ at: now, share: backend.vram_usage });
  }
  for (const [key, samples] of histories) {
    const firstKept = samples.findIndex((sample) => sample.at >= now - WINDOW_MS);
    if (firstKept === -1) histories.delete(key);
    else samples.splice(0, Math.max(firstKept, samples.length - MAX_SAMPLES));
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
  const samples = histories.get(key) ?? [];
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
 * A line as high as its highest value, or as `top`, over `HISTORY_MS`.
 * @param {{at: number, value: number}[]} samples the oldest first
 * @param {number} now unix milliseconds, the right edge
 * @param {number | null} top
 */
export function linePath(samples, now, top) {
  const high = top ?? samples.reduce((highest, { value }) => Math.max(highest, value), 0);
  let before = 0;
  return samples
    .map(({ at, value }) => {
      const x = (WIDTH * (1 - (now - at) / HISTORY_MS)).toFixed(1);
      const y = (1 + (HEIGHT - 2) * (1 - (high > 0 ? value / high : 0))).toFixed(1);
      const step = at - before > GAP_MS ? 'M' : 'L';
      before = at;
      return `${step}${x} ${y}`;
    })
    .join('');
}
