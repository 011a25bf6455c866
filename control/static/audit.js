/**
 * @file The page of changes: the audit log, newest first, followed while the page is shown and read
 * back as far as it goes. Lines that come while the person is in the list wait, so that nothing moves
 * under the hand.
 */

import { keepInAddress, onVisit, parameter } from './address.js';
import * as api from './api.js';
import { KINDS, kindOf, lineElement } from './audit-line.js';
import { actionText } from './audit-words.js';
import { byId, element, setAttribute, setText } from './dom.js';
import { showEdits, startEdits } from './edits.js';
import { momentText } from './format.js';
import { onLanguage, words } from './i18n.js';

/** @typedef {import('./audit-line.js').Entry} Entry */

/** Lines of one reading, and how many the page keeps at most. */
const PAGE = 200;
const MAX_LINES = 5_000;
/** Lines on the page at first, and with each press of the button. */
const SHOWN = 200;
const RETRY_MS = 2_000;

/** People's edits are looked for so far back by itself, where the newest lines have few of them. */
const ENOUGH = 25;
const LOOK_BACK = 1_000;
const LOOKS_BACK = 4;

/** @typedef {import('./audit-line.js').Kind} Kind */

/** What the filter is made of, by its name in the address. */
const FIELDS = /** @type {const} */ ({ text: 'audit-filter', actor: 'audit-actor', action: 'audit-action', from: 'audit-from', to: 'audit-to' });

/** What the page of changes does by itself. */
export const page = { start, enter: () => void followForever(), update: showEdits, leave };

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
/** Whose lines are shown; none: everybody's. @type {Set<Kind>} */
let kinds = new Set();
/** @type {Map<Kind, HTMLButtonElement>} */
const chips = new Map();

function start() {
  startEdits();
  for (const id of [...Object.values(FIELDS), 'audit-reads']) byId(id, HTMLElement).addEventListener('input', filterChanged);
  for (const kind of KINDS) chips.set(kind, chip(kind));
  byId('audit-kinds', HTMLElement).append(...chips.values());
  readAddress();
  onVisit(() => {
    if (parameter('page') !== 'changes') return;
    readAddress();
    write();
  });
  byId('audit-clear', HTMLButtonElement).addEventListener('click', clearFilters);
  byId('audit-download', HTMLButtonElement).addEventListener('click', download);
  byId('audit-older', HTMLButtonElement).addEventListener('click', () => void showOlder());
  byId('audit', HTMLOListElement).addEventListener('pointerleave', () => {
    if (waiting > 0 && !isPersonInside()) write();
  });
  byId('audit-waiting', HTMLButtonElement).addEventListener('click', write);
  onLanguage(write);
}

/** @param {string} id */
function field(id) {
  return /** @type {HTMLInputElement | HTMLSelectElement} */ (byId(id, HTMLElement));
}

/** @param {Kind} kind */
function chip(kind) {
  const button = element('button', { type: 'button', class: 'chip' });
  button.addEventListener('click', () => {
    if (!kinds.delete(kind)) kinds.add(kind);
    filterChanged();
  });
  return button;
}

/** At first what people have done. */
function readAddress() {
  for (const [name, id] of Object.entries(FIELDS)) {
    const value = parameter(name);
    // A choice that no line has yet.
    if (field(id) instanceof HTMLSelectElement) field(id).append(element('option', { value }, value));
    field(id).value = value;
  }
  byId('audit-reads', HTMLInputElement).checked = parameter('reads') !== '';
  const asked = parameter('kinds') === '' ? ['people'] : parameter('kinds').split(',');
  kinds = new Set(KINDS.filter((kind) => asked.includes(kind)));
}

/** Keeps the filter in the address, where a reload and a sent link find it. */
function filterChanged() {
  /** @type {Record<string, string>} */
  const parts = {};
  for (const [name, id] of Object.entries(FIELDS)) parts[name] = field(id).value;
  const isFirst = kinds.size === 1 && kinds.has('people');
  parts.kinds = isFirst ? '' : [...kinds].join(',') || 'all';
  parts.reads = byId('audit-reads', HTMLInputElement).checked ? 'yes' : '';
  keepInAddress(parts);
  write();
  void lookBack();
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
      if (after === null) await lookBack();
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
  waiting += answer.lines.filter((entry) => matches(entry, readFilter())).length;
  if (!isFirst && isPersonInside()) writeWaiting();
  else write();
}

/** Reads there, or has opened a line: it would be closed by being written anew. */
function isPersonInside() {
  return byId('audit', HTMLOListElement).matches(':hover, :focus-within, :has(details[open])');
}

/** Shows more of what is known; reads what came before it where that is not enough. */
async function showOlder() {
  shownLimit += SHOWN;
  const first = entries.find(({ seq }) => typeof seq === 'number')?.seq ?? 0;
  if (!isWhole && filtered().length < shownLimit) await readBefore(first);
  write();
}

/** Publishes and registrations may be all that the newest lines tell of: what is asked for may be older. */
async function lookBack() {
  for (let look = 0; look < LOOKS_BACK && !isWhole && filtered().length < ENOUGH; look += 1) {
    const known = entries.length;
    await readBefore(entries.find(({ seq }) => typeof seq === 'number')?.seq ?? 0, LOOK_BACK);
    if (entries.length === known) break;
    write();
  }
}

/**
 * @param {number} first the number of the oldest line that is known
 * @param {number} [count] lines that are read
 */
async function readBefore(first, count = PAGE) {
  try {
    const { lines } = await api.readAudit({ after: Math.max(0, first - 1 - count), limit: count });
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
  const value = (/** @type {string} */ id) => field(id).value;
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
  if (entry.action === 'access') {
    if (!reads) return false;
  } else if (kinds.size > 0 && !kinds.has(kindOf(entry))) return false;
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
  for (const id of Object.values(FIELDS)) field(id).value = '';
  filterChanged();
}

function write() {
  waiting = 0;
  writeWaiting();
  writeChoices('audit-actor', words().anyActor, entries.map(({ actor }) => actor), words().said);
  writeChoices('audit-action', words().anyAction, entries.map(({ action }) => action), (action) => actionText({ action }));
  for (const [kind, button] of chips) {
    setText(button, words().auditKind[kind]);
    setAttribute(button, 'aria-pressed', String(kinds.has(kind)));
  }
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
  const chosen = select.value;
  // What is chosen stays a choice: the address may name what no line has yet.
  const known = [...new Set([...values, chosen])].flatMap((value) => (value ? [value] : [])).sort();
  const wanted = [any, ...known.map(textOf)];
  const shown = [...select.options].map(({ text }) => text);
  if (wanted.length === shown.length && wanted.every((text, at) => text === shown[at])) return;
  select.replaceChildren(
    element('option', { value: '' }, any),
    ...known.map((value) => element('option', { value }, textOf(value))),
  );
  select.value = chosen;
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
