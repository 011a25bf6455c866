/**
 * @file One line of the audit log: who did what to what, what it was before and is now, and what came
 * of it.
 */

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
 * @property {string} [result] `ok`, or why not
 * @property {number} [repeated] how often since the line before that says the same
 * @property {number} [heartbeats] that changed nothing, summed up
 * @property {number} [backends] that these heartbeats came from
 */

/** Of an override, who set it and when: the line itself says both. */
const TOLD_ELSEWHERE = ['at', 'actor'];

/** @param {Entry} entry */
export function lineElement(entry) {
  const when = Date.parse(entry.time ?? '');
  const time = Number.isNaN(when) ? String(entry.time ?? '') : momentText(when);
  return element(
    'li',
    { class: 'audit-line', title: JSON.stringify(entry) },
    element('time', { class: 'faint', datetime: entry.time ?? '' }, time),
    element('span', { class: 'audit-actor' }, entry.actor ?? ''),
    element('span', { class: 'audit-action' }, actionText(entry)),
    element('span', { class: 'audit-target' }, entry.target ?? ''),
    element(
      'span',
      { class: 'audit-detail' },
      ...details(entry),
      element('span', { class: isGood(entry) ? 'faint' : 'bad' }, resultText(entry)),
    ),
  );
}

/** @param {Entry} entry */
export function actionText({ action = '' }) {
  return words().auditActions[action] ?? action;
}

/** The common ones in words; what else the server says stays as it is. @param {Entry} entry */
export function resultText({ result = '' }) {
  return words().auditResults[result] ?? result;
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
  return changesOf(entry).map(({ path, before, after }) =>
    element(
      'span',
      { class: 'audit-change' },
      `${path} `,
      element('span', { class: 'audit-old' }, before),
      ' → ',
      element('span', { class: 'audit-new' }, after),
      ' ',
    ),
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

/** Each value that is another one now. @param {Entry} entry */
function changesOf(entry) {
  const before = leaves(entry.old);
  const after = leaves(entry.new);
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((path) => before.get(path) !== after.get(path))
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
