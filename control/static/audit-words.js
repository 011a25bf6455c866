/**
 * @file What the audit log's words are called on the page: the action of a line, what it is about,
 * and what came of it.
 */

import { words } from './i18n.js';

/** @typedef {import('./audit-line.js').Entry} Entry */

/** @param {Pick<Entry, 'action' | 'before_edit'>} entry */
export function actionText({ action = '', before_edit: before }) {
  if (typeof before === 'number') return words().rollBackBefore(before);
  return words().auditActions[action] ?? action;
}

/** A count of backends in words; an address, and what else the server says, as it stands. @param {Pick<Entry, 'target'>} entry */
export function targetText({ target = '' }) {
  const [, count] = /^(\d+) backends$/.exec(target) ?? [];
  return count === undefined ? String(target) : words().count(Number(count));
}

/** The common ones in words; what else the server says stays as it is. @param {Entry} entry */
export function resultText({ result = '' }) {
  return words().auditResults[result] ?? words().said(result);
}
