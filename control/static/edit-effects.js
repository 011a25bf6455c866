/**
 * @file What edits would do, in words: how many backends for what, the capacity before and after, and
 * whether the remaining backends can carry the load.
 */

import { loadOf, reachOf } from './capacity.js';
import { countText, percentText, rateText } from './format.js';
import { words } from './i18n.js';

/** @typedef {import('./shapes.js').Backend} Backend */
/** @typedef {import('./shapes.js').Edit} Edit */

/** What an edit does, the gravest first. @type {Record<keyof ReturnType<typeof words>['reach']['kind'], (edit: Edit) => boolean>} */
const KINDS = {
  disabled: ({ enabled }) => enabled === false,
  drained: ({ drain }) => drain === true,
  weightless: ({ weight }) => weight === 0,
  enabled: ({ enabled }) => enabled === true,
  undrained: ({ drain }) => drain === false,
  weighted: ({ weight }) => typeof weight === 'number' && weight > 0,
  cleared: ({ weight, enabled, drain }) => weight === null || enabled === null || drain === null,
};

/**
 * `3,001 disabled; capacity 100% → 0%`.
 * @param {Backend[]} backends all
 * @param {Edit[]} edits
 */
export function sumText(backends, edits) {
  const { reach } = words();
  const reached = reachOf(backends, edits);
  const counts = Object.entries(KINDS).flatMap(([kind, is]) => {
    const count = edits.filter(is).length;
    return count === 0 ? [] : [reach.kind[/** @type {keyof typeof KINDS} */ (kind)](countText(count))];
  });
  const share = reached.before === 0 ? null : reached.after / reached.before;
  const capacity = share === null ? reach.noCapacity : reach.capacity(percentText(1), percentText(share));
  return reach.sum(counts.join(words().reach.comma), capacity);
}

/**
 * Whether the others can carry what is taken off some, and by what that is judged; empty where nothing
 * is taken off.
 * @param {Backend[]} backends all
 * @param {Edit[]} edits
 * @returns {{level: 'bad' | 'warn' | 'good', text: string} | null}
 */
export function carryText(backends, edits) {
  const reached = reachOf(backends, edits);
  if (reached.before === 0 || reached.after >= reached.before) return null;
  const { reach } = words();
  const load = loadOf(backends, edits);
  const level = load.verdict === 'enough' ? 'good' : load.verdict === 'none' || load.verdict === 'short' ? 'bad' : 'warn';
  const facts = [reach.backends(countText(reached.usedBefore), countText(reached.usedAfter))];
  if (!reached.isReported) facts.push(reach.configured);
  if (load.sessions !== null && load.sessionsAfter !== null) facts.push(reach.sessions(rateText(load.sessions), rateText(load.sessionsAfter)));
  if (load.rate !== null && reached.usedAfter > 0) facts.push(reach.rate(rateText(load.rate / reached.usedBefore), rateText(load.rate / reached.usedAfter)));
  if (load.gpu !== null && load.gpuAfter !== null) facts.push(reach.gpu(percentText(load.gpu), percentText(load.gpuAfter)));
  if (load.vramAfter !== null) facts.push(reach.vram(percentText(load.vramAfter)));
  return { level, text: `${reach.carry[load.verdict]}${facts.join(words().reach.comma)}${reach.end}` };
}
