/**
 * @file One line of the audit log: who did what to what, what it was before and is now, and what came
 * of it.
 */

import { addressOf } from './address.js';
import { actionText, resultText, targetText } from './audit-words.js';
import { element } from './dom.js';
import { UNKNOWN, momentText } from './format.js';
import { words } from './i18n.js';

/**
 * @typedef {object} Entry
 * @property {string} [time] RFC 3339
 * @property {number} [seq]
 * @property {string} [actor]
 * @property {string} [action]
 * @property {string} [target]
 * @property {unknown} [old]
 * @property {unknown} [new]
 * @property {string} [note] why, in the words of whoever did it
 * @property {number | null} [before_edit] of a roll back: the edit before which it restores the state
 * @property {string} [result] `ok`, or why not
 * @property {number} [repeated] how often since the line before that says the same
 * @property {number} [heartbeats] that changed nothing, summed up
 * @property {number} [backends] that these heartbeats came from
 */

/** @typedef {'people' | 'backends' | 'system'} Kind whose doing a line tells of */

/** @type {readonly Kind[]} */
export const KINDS = ['people', 'backends', 'system'];

/** Of an override, who set it and when: the line itself says both. */
const TOLD_ELSEWHERE = ['at', 'actor'];
/** What backends do, and what their silence leads to. */
const OF_BACKENDS = ['register', 'unregister', 'expire', 'remove', 'warm', 'heartbeats', 'freeze_expiry', 'unfreeze_expiry'];
/** Changes of one line that are shown at once. */
const SHOWN = 4;
/** An address as backends have it; anything else in a line is no link. */
const ADDRESS = /^(\d+(\.\d+){3}|\[[0-9a-f:.]+\]):\d+$/;

/** @param {Entry} entry @returns {Kind} */
export function kindOf({ actor = '', action = '' }) {
  if (OF_BACKENDS.includes(action)) return 'backends';
  // A file that somebody has edited is told by control.
  const isOfControl = String(actor).startsWith('control: ') && action !== 'file_edit';
  return isOfControl || action === 'access' ? 'system' : 'people';
}

/** @param {Entry} entry */
export function lineElement(entry) {
  const when = Date.parse(entry.time ?? '');
  const time = Number.isNaN(when) ? String(entry.time ?? '') : momentText(when);
  return element(
    'li',
    { class: 'audit-line', title: JSON.stringify(entry) },
    element('time', { class: 'faint', datetime: entry.time ?? '' }, time),
    element('span', { class: 'audit-actor' }, words().said(entry.actor ?? '')),
    element('span', { class: 'audit-action' }, actionText(entry)),
    element('span', { class: 'audit-target' }, linked(targetText(entry))),
    element(
      'span',
      { class: 'audit-detail' },
      ...details(entry),
      ...(entry.note === undefined ? [] : [element('q', { class: 'edit-note' }, entry.note)]),
      element('span', { class: isGood(entry) ? 'faint' : 'bad' }, resultText(entry)),
    ),
  );
}

/** An address as a link to the panel of its backend. @param {string} text */
function linked(text) {
  return ADDRESS.test(text) ? element('a', { href: `?${new URLSearchParams(addressOf(text))}` }, text) : words().said(text);
}

/**
 * Done, applied by the proxy, or an access that was answered.
 * @param {Entry} entry
 */
function isGood({ result }) {
  return result === undefined || /^(ok|applied\b.*|[23]\d\d)$/.test(result);
}

/** @param {Entry} entry */
function details(entry) {
  const counted = countText(entry);
  if (counted !== null) return [`${counted} `];
  const changes = changesOf(entry).map(changeElement);
  if (changes.length <= SHOWN) return changes;
  const more = changes.splice(SHOWN - 1);
  const summary = element('summary', {}, words().auditMore(more.length));
  return [...changes, element('details', { class: 'audit-more' }, summary, ...more)];
}

/** @param {{path: string, before: string, after: string}} change */
function changeElement({ path, before, after }) {
  return element(
    'span',
    { class: 'audit-change' },
    `${path} `,
    element('span', { class: 'audit-old' }, before),
    ' → ',
    element('span', { class: 'audit-new' }, after),
    ' ',
  );
}

/** The same as one text. @param {Entry} entry */
export function detailText(entry) {
  const changes = changesOf(entry).map(({ path, before, after }) => `${path} ${before} → ${after}`.trim());
  return countText(entry) ?? changes.join(', ');
}

/** What a line counts; null where it tells of one event. @param {Entry} entry */
function countText({ heartbeats, backends, repeated }) {
  if (typeof heartbeats === 'number') return words().heartbeats(heartbeats, backends ?? 0);
  return typeof repeated === 'number' ? words().repeated(repeated) : null;
}

/**
 * Each value that is another one now. What begins as false says nothing: a new registration has not
 * expired.
 * @param {Entry} entry
 */
function changesOf(entry) {
  const before = leaves(entry.old);
  const after = leaves(entry.new);
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((path) => before.get(path) !== after.get(path))
    .filter((path) => before.has(path) || after.get(path) !== 'false')
    .map((path) => ({ path, before: before.get(path) ?? UNKNOWN, after: after.get(path) ?? UNKNOWN }));
}

/**
 * Every value inside `value` that is not null, by its path.
 * @param {unknown} value
 * @param {string} [path]
 * @param {Map<string, string>} [found]
 */
function leaves(value, path = '', found = new Map()) {
  if (typeof value === 'object' && value !== null) {
    for (const [key, inner] of Object.entries(value)) {
      if (!TOLD_ELSEWHERE.includes(key)) leaves(inner, path === '' ? key : `${path}.${key}`, found);
    }
  } else if (value !== null && value !== undefined) {
    found.set(path, String(value));
  }
  return found;
}
