/**
 * @file The lines of what waits: each change, equal ones together. It is loaded when it is first asked for.
 */

import { diffRow, valueText } from './diff.js';
import { element } from './dom.js';
import { countText } from './format.js';
import { words } from './i18n.js';

/** @typedef {import('./staged.js').Staged} Staged */
/** @typedef {import('./staged.js').Stand} Stand */
/** @typedef {{id: string, part: keyof Stand, old: unknown, value: unknown}} Change */

/** Fewer equal changes stand each by itself. */
const GROUPED_FROM = 5;
/** Addresses of a group that are listed. */
const LISTED = 200;

/**
 * @param {Staged[]} staged
 * @param {Set<string>} conflicts the backends that somebody else has edited meanwhile
 * @param {Set<string>} gone those that are listed no more
 * @returns {HTMLTableRowElement[]}
 */
export function reviewRows(staged, conflicts, gone) {
  const changes = staged.flatMap(changesOf);
  /** @type {Map<string, Change[]>} */
  const equal = new Map();
  for (const change of changes) {
    const key = conflicts.has(change.id) ? `${change.id} ${change.part}` : `${gone.has(change.id)} ${change.part} ${change.value}`;
    const group = equal.get(key);
    if (group === undefined) equal.set(key, [change]);
    else group.push(change);
  }
  const problemOf = (/** @type {string} */ id) => (gone.has(id) ? words().gone : conflicts.has(id) ? words().overtaken : '');
  return [...equal.values()].flatMap((group) =>
    group.length < GROUPED_FROM ? group.map((change) => line(change, problemOf(change.id))) : [groupLine(group, problemOf)],
  );
}

/** @param {Staged} staged @returns {Change[]} */
function changesOf({ id, edit, base }) {
  return Object.entries(edit).map(([name, value]) => {
    const part = /** @type {keyof Stand} */ (name);
    return { id, part, old: base[part], value };
  });
}

/** @param {Change} change @param {string} problem */
function line(change, problem) {
  const head = element('th', { scope: 'row', class: 'mono' }, change.id);
  return row(head, change, valueText(change.old), problem);
}

/**
 * @param {Change[]} group at least one, all with the same part, value and problem
 * @param {(id: string) => string} problemOf
 */
function groupLine(group, problemOf) {
  const [first] = group;
  if (first === undefined) throw new Error('a group has changes');
  const ids = group.map(({ id }) => id);
  const rest = ids.length - LISTED;
  const list = element(
    'details',
    {},
    element('summary', {}, words().count(ids.length)),
    element('p', { class: 'mono diff-ids' }, ids.slice(0, LISTED).join(' ')),
    rest > 0 && element('p', {}, words().andMore(countText(rest))),
  );
  const olds = new Set(group.map(({ old }) => valueText(old)));
  const old = olds.size === 1 ? valueText(first.old) : words().various;
  return row(element('th', { scope: 'row' }, list), first, old, problemOf(first.id));
}

/**
 * @param {Element} head
 * @param {Pick<Change, 'part' | 'value'>} change
 * @param {string} old
 * @param {string} problem
 */
function row(head, { part, value }, old, problem) {
  const after = value === null ? words().givenBack : valueText(value);
  return diffRow(head, words().part[part], old, after, problem);
}
