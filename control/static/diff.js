/**
 * @file One line of a difference: what it is about, the value before and the value after.
 */

import { element } from './dom.js';
import { UNKNOWN } from './format.js';
import { words } from './i18n.js';

/** @param {unknown} value */
export function valueText(value) {
  if (value === undefined || value === null) return UNKNOWN;
  if (value === true) return words().yes;
  if (value === false) return words().no;
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/**
 * @param {Element} head what it is about
 * @param {string} part of it
 * @param {string} before
 * @param {string} after
 * @param {string} [problem] with this line
 */
export function diffRow(head, part, before, after, problem = '') {
  if (problem !== '') head.append(element('span', { class: 'diff-mark bad' }, problem));
  return element(
    'tr',
    { class: problem === '' ? '' : 'is-conflict' },
    head,
    element('td', {}, part),
    element('td', { class: 'number' }, before),
    element('td', { class: 'diff-arrow', 'aria-hidden': 'true' }, '→'),
    element('td', { class: 'number diff-new' }, after),
  );
}
