/**
 * @file Bars for the share of a GPU and of its VRAM that is in use. A bar carries its number, and turns
 * where the guard of VRAM has its thresholds.
 */

import { element, setAttribute, setText } from './dom.js';
import { percentText } from './format.js';
import { words } from './i18n.js';

/** @typedef {'calm' | 'near' | 'high' | 'full'} Guard */

/** Where VRAM changes colour, and the word that goes with it. */
const VRAM_GUARDS = /** @type {const} */ ([
  [0.97, 'full'],
  [0.92, 'high'],
  [0.8, 'near'],
]);

/** An empty bar, to be written by `writeBar`. */
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
 * @param {Guard} guard
 */
export function writeBar(bar, what, share, guard) {
  const fill = /** @type {HTMLElement} */ (bar.querySelector('.usage-fill'));
  const number = /** @type {HTMLElement} */ (bar.querySelector('.usage-number'));
  const text = percentText(share);
  setText(number, text);
  const width = `${Math.round((share ?? 0) * 1000) / 10}%`;
  if (fill.style.width !== width) fill.style.width = width;
  setAttribute(bar, 'data-guard', guard);
  const warning = words().vramGuard[guard];
  const spoken = share === null ? words().usageUnknown(what) : words().usageOf(what, text);
  const whole = warning === '' ? spoken : `${spoken}, ${warning}`;
  setAttribute(bar, 'aria-label', whole);
  setAttribute(bar, 'title', whole);
}

/** @param {number | null | undefined} share @returns {Guard} */
export function vramGuard(share) {
  return VRAM_GUARDS.find(([from]) => (share ?? 0) >= from)?.[1] ?? 'calm';
}
