/**
 * @file Parts of a sum in a chart, one upon the other, from below. Loaded when a chart has some.
 */

import { endText } from './verdict.js';

/** A colour a part, and a dash for its upper edge, so that colour is never alone. */
const COLOURS = ['--down', '--warn', '--accent', '--drain', '--up', '--edge', '--soft', '--text'];
const DASHES = [[], [6, 4], [2, 3]];

/** @typedef {import('./history.js').FailedSeries} FailedSeries */

/** @param {{reason: string, name: FailedSeries}[]} parts why sessions failed */
export function namedParts(parts) {
  return parts.map(({ reason, name }) => ({ name, label: endText(reason, 'session') }));
}

/**
 * Each part with all below it; where it is not known, nothing is.
 * @param {(number | null)[][]} parts
 */
export function sums(parts) {
  const below = (parts[0] ?? []).map(() => 0);
  return parts.map((part) =>
    part.map((figure, at) => {
      below[at] = (below[at] ?? 0) + (figure ?? 0);
      return figure === null ? null : (below[at] ?? 0);
    }),
  );
}

/**
 * How a part is drawn; below the pointer it tells what it adds, and not the sum.
 * @param {number} part
 * @param {(name: string) => string} colour
 * @param {import('./charts.js').Writer} write
 */
export function look(part, colour, write) {
  const stroke = colour(COLOURS[part % COLOURS.length] ?? '');
  return {
    stroke,
    fill: stroke.replace(/^rgb\((.*)\)$/, 'rgba($1, 0.35)'),
    dash: DASHES[part % DASHES.length],
    value: (/** @type {{data: (number | null)[][]}} */ { data }, /** @type {unknown} */ _value, /** @type {number} */ line, /** @type {number | null} */ index) => {
      const [top, below] = [data[line]?.at(index ?? -1), line > 1 ? data[line - 1]?.at(index ?? -1) : 0];
      return write(typeof top === 'number' ? top - (below ?? 0) : null);
    },
  };
}

/** Each is filled down to the one below it. @param {number} count */
export function bands(count) {
  return { bands: Array.from({ length: Math.max(0, count - 1) }, (_, at) => ({ series: [at + 2, at + 1] })) };
}
