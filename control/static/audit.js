/**
 * @file The page of changes: the audit log, newest first, followed while the page is shown and read
 * back as far as it goes. Lines that come while the person is in the list wait, so that nothing moves
 * under the hand.
 */

import * as api from './api.js';
import { actionText, lineElement } from './audit-line.js';
import { byId, element, setText } from './dom.js';
import { momentText } from './format.js';
import { onLanguage, words } from './i18n.js';

/** @typedef {import('./audit-line.js').Entry} Entry */

/** Lines of one reading, and how many the page keeps at most. */
const PAGE = 200;
const MAX_LINES = 5_000;
/** Lines on the page at first, and with each press of the button. */
const SHOWN = 200;
const RETRY_MS = 2_000;

/** What the page of changes does by itself. */
export const page = { start, enter: () => void followForever(), leave };

/** The oldest first. @type {Entry[]} */
let entries = [];
let shownLimit = SHOWN;
/** Whether nothing older is to be had. */
let isWhole = false;
/** @type {AbortController | null} */
let following = null;
/** Newer lines that wait for the person to leave the list. */
let waiting = 0;
let path = '';

function start() {
  for (const id of ['audit-filter', 'audit-from', 'audit-to', 'audit-actor', 'audit-action', 'audit-reads']) {
    byId(id, HTMLElement).addEventListener('input', write);
  }
  byId('audit-clear', HTMLButtonElement).addEventListener('click', clearFilters);
  byId('audit-download', HTMLButtonElement).addEventListener('click', download);
  byId('audit-older', HTMLButtonElement).addEventListener('click', () => void showOlder());
  byId('audit', HTMLOListElement).addEventListener('pointerleave', () => {
    if (waiting > 0) write();
  });
  byId('audit-waiting', HTMLButtonElement).addEventListener('click', write);
  onLanguage(write);
}

function leave() {
  following?.abort();
  following = null;
}

/** Reads the newest lines and then each as it comes, until the page is left. */
async function followForever() {
  leave();
  const abort = new AbortController();
  following = abort;
  while (!abort.signal.aborted) {
    try {
      const after = newest();
      take(await api.readAudit(after === null ? { limit: PAGE } : { after, limit: PAGE, follow: true }, abort.signal));
      problem('');
    } catch (error) {
      if (abort.signal.aborted) return;
      if (!(error instanceof api.CallError)) throw error;
      // A server that is away is the banner's to tell; the lines stay.
      problem(error.kind === 'away' ? '' : words().auditFailed(error.message));
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/** The highest number of what is known; a line that somebody else wrote may have any. */
function newest() {
  const numbers = entries.map(({ seq }) => seq).filter((seq) => typeof seq === 'number');
  return numbers.length === 0 ? null : Math.max(...numbers);
}

/** @param {api.AuditAnswer} answer */
function take(answer) {
  const isFirst = entries.length === 0;
  path = answer.path;
  entries.push(...answer.lines);
  entries.splice(0, entries.length - MAX_LINES);
  if (isFirst) isWhole = answer.lines.length < PAGE;
  const isHeld = byId('audit', HTMLOListElement).matches(':hover') && !isFirst;
  waiting += answer.lines.filter((entry) => matches(entry, readFilter())).length;
  if (isHeld) writeWaiting();
  else write();
}

/** Shows more of what is known; reads what came before it where that is not enough. */
async function showOlder() {
  shownLimit += SHOWN;
  const first = entries.find(({ seq }) => typeof seq === 'number')?.seq ?? 0;
  if (!isWhole && filtered().length < shownLimit) await readBefore(first);
  write();
}

/** @param {number} first the number of the oldest line that is known */
async function readBefore(first) {
  try {
    const { lines } = await api.readAudit({ after: Math.max(0, first - 1 - PAGE), limit: PAGE });
    const older = lines.filter(({ seq }) => typeof seq === 'number' && seq < first);
    isWhole = older.length === 0 || entries.length + older.length >= MAX_LINES;
    entries = [...older, ...entries];
  } catch (error) {
    if (!(error instanceof api.CallError)) throw error;
    problem(words().auditFailed(error.message));
  }
}

/** @typedef {{text: string[], actor: string, action: string, from: number, to: number, reads: boolean}} Filter */

/** @returns {Filter} */
function readFilter() {
  const value = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (byId(id, HTMLElement)).value;
  const moment = (/** @type {string} */ id, /** @type {number} */ open) => {
    const at = Date.parse(value(id));
    return Number.isNaN(at) ? open : at;
  };
  return {
    text: value('audit-filter').toLowerCase().split(/\s+/),
    actor: value('audit-actor'),
    action: value('audit-action'),
    from: moment('audit-from', -Infinity),
    // To the minute that is named, and all of it.
    to: moment('audit-to', Infinity) + 59_999,
    reads: byId('audit-reads', HTMLInputElement).checked,
  };
}

/**
 * @param {Entry} entry
 * @param {Filter} filter
 */
function matches(entry, { text, actor, action, from, to, reads }) {
  if (!reads && entry.action === 'access') return false;
  if (actor !== '' && entry.actor !== actor) return false;
  if (action !== '' && entry.action !== action) return false;
  const at = Date.parse(entry.time ?? '');
  if (at < from || at > to) return false;
  const line = `${JSON.stringify(entry)} ${actionText(entry)}`.toLowerCase();
  return text.every((word) => line.includes(word));
}

function filtered() {
  const filter = readFilter();
  return entries.filter((entry) => matches(entry, filter));
}

function clearFilters() {
  for (const id of ['audit-filter', 'audit-from', 'audit-to', 'audit-actor', 'audit-action']) {
    /** @type {HTMLInputElement} */ (byId(id, HTMLElement)).value = '';
  }
  write();
}

function write() {
  waiting = 0;
  writeWaiting();
  writeChoices('audit-actor', words().anyActor, entries.map(({ actor }) => actor), (actor) => actor);
  writeChoices('audit-action', words().anyAction, entries.map(({ action }) => action), (action) => actionText({ action }));
  const found = filtered();
  const lines = found.slice(-shownLimit).reverse();
  byId('audit', HTMLOListElement).replaceChildren(...lines.map(lineElement));
  setText(byId('audit-count', HTMLElement), words().auditCount(lines.length, entries.length));
  setText(byId('audit-path', HTMLElement), path);
  byId('audit-loading', HTMLElement).hidden = path !== '';
  byId('audit-empty', HTMLElement).hidden = path === '' || entries.length > 0;
  byId('audit-nothing', HTMLElement).hidden = entries.length === 0 || found.length > 0;
  byId('audit-older', HTMLButtonElement).hidden = isWhole && found.length <= shownLimit;
  const oldest = entries.find(({ time }) => time !== undefined)?.time;
  setText(byId('audit-since', HTMLElement), oldest === undefined ? '' : words().auditSince(momentText(Date.parse(oldest))));
}

function writeWaiting() {
  const button = byId('audit-waiting', HTMLButtonElement);
  button.hidden = waiting === 0;
  setText(button, words().auditWaiting(waiting));
}

/**
 * @param {string} id of a select
 * @param {string} any the choice of all
 * @param {(string | undefined)[]} values
 * @param {(value: string) => string} textOf what a value is called
 */
function writeChoices(id, any, values, textOf) {
  const select = byId(id, HTMLSelectElement);
  const known = [...new Set(values.filter((value) => value !== undefined))].sort();
  const wanted = [any, ...known.map(textOf)];
  const shown = [...select.options].map(({ text }) => text);
  if (wanted.length === shown.length && wanted.every((text, at) => text === shown[at])) return;
  const chosen = select.value;
  select.replaceChildren(
    element('option', { value: '' }, any),
    ...known.map((value) => element('option', { value }, textOf(value))),
  );
  select.value = known.includes(chosen) ? chosen : '';
}

/** @param {string} text empty where there is none */
function problem(text) {
  const place = byId('audit-problem', HTMLElement);
  place.hidden = text === '';
  setText(place, text);
  if (text !== '') byId('audit-loading', HTMLElement).hidden = true;
}

/** The lines that the filter lets through, as the file has them. */
function download() {
  const lines = filtered().map((entry) => `${JSON.stringify(entry)}\n`);
  const link = element('a', { download: 'audit.log' });
  link.href = URL.createObjectURL(new Blob(lines, { type: 'application/x-ndjson' }));
  link.click();
  URL.revokeObjectURL(link.href);
}
