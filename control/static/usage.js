/**
 * @file A share as a bar with its number; VRAM changes colour at the guard's thresholds and says so.
 */

import { element, setAttribute, setText } from './dom.js';
import { percentText } from './format.js';
import { words } from './i18n.js';

/** @typedef {keyof ReturnType<typeof words>['vramGuard']} Guard */

/** From where on the scheduler holds back, and the word that goes with it. */
export const VRAM_GUARDS = /** @type {const} */ ([
  [0.97, 'full'],
  [0.92, 'high'],
  [0.8, 'near'],
]);

export function usageBar() {
  return element(
    'span',
    { class: 'usage', role: 'img' },
    element('span', { class: 'usage-track' }, element('span', { class: 'usage-fill' })),
    element('span', { class: 'usage-number' }),
  );
}

/**
 * @param {HTMLElement} bar made by `usageBar`
 * @param {string} what
 * @param {number | null} share 0..1
 * @param {Guard} [guard]
 */
export function writeBar(bar, what, share, guard = 'calm') {
  const [track, number] = bar.children;
  if (number !== undefined) setText(number, percentText(share));
  setFill(track?.firstElementChild ?? null, share ?? 0);
  setAttribute(bar, 'data-guard', guard);
  setAttribute(bar, 'aria-label', usageText(what, share, guard));
}

/** What each fill was given: asking its style costs more than the rest of a bar. @type {WeakMap<Element, string>} */
const scales = new WeakMap();

/**
 * Scaled and not sized: of all the bars that move each second none then costs a layout.
 * @param {Element | null} fill
 * @param {number} share 0..1
 */
export function setFill(fill, share) {
  if (!(fill instanceof HTMLElement)) return;
  const scale = `scaleX(${Math.round(Math.min(1, Math.max(0, share)) * 1000) / 1000})`;
  if (scales.get(fill) === scale) return;
  scales.set(fill, scale);
  fill.style.transform = scale;
}

/**
 * @param {string} what
 * @param {number | null} share
 * @param {Guard} [guard]
 */
export function usageText(what, share, guard = 'calm') {
  if (share === null) return words().usageUnknown(what);
  const warning = words().vramGuard[guard];
  const text = words().usageOf(what, percentText(share));
  return warning === '' ? text : `${text}, ${warning}`;
}

/** @param {number | null | undefined} share @returns {Guard} */
export function vramGuard(share) {
  return VRAM_GUARDS.find(([from]) => (share ?? 0) >= from)?.[1] ?? 'calm';
}
