/**
 * @file The tail of the audit log, newest last, as a log reads. A line that is not the control
 * plane's own JSON is shown as it stands.
 */

import * as api from './api.js';
import { byId, element, setText } from './dom.js';
import { UNKNOWN, clockText } from './format.js';
import { words } from './i18n.js';

/**
 * One line of the log.
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

/** What is on the page, so that an unchanged log costs nothing and keeps a reader's selection. */
let shownData = /** @type {string | null} */ (null);

/** What the page of changes does by itself. */
export const page = { start: startAudit, update: showNewer };

/** The newest line that the page knows of. */
let lastSeq = -1;

/** @param {api.WholeAnswer} whole */
function showNewer({ status }) {
  const seq = status.audit_seq ?? -1;
  if (seq !== lastSeq) void showAudit();
  lastSeq = seq;
}

/** Binds the choice of how many lines. */
function startAudit() {
  byId('audit-tail', HTMLSelectElement).addEventListener('change', () => void showAudit());
  byId('audit-filter', HTMLInputElement).addEventListener('input', writeLines);
  byId('audit-download', HTMLButtonElement).addEventListener('click', download);
}

/** Reads the log and shows it; stays at the newest line where the reader stood there. */
async function showAudit() {
  const tail = Number(byId('audit-tail', HTMLSelectElement).value);
  const problem = byId('audit-problem', HTMLElement);
  try {
    const { data, path } = await api.readAudit(tail);
    problem.hidden = true;
    setText(byId('audit-path', HTMLElement), path);
    write(data);
  } catch (error) {
    if (!(error instanceof api.CallError)) throw error;
    // A server that is away is the banner's to tell; the lines stay.
    problem.hidden = error.kind === 'away';
    byId('audit-empty', HTMLElement).hidden = true;
    setText(problem, words().auditFailed(error.message));
  }
}

/** @param {string} data lines of JSON */
function write(data) {
  if (data === shownData) return;
  shownData = data;
  writeLines();
}

/** Every word of the filter must occur in a line: an actor, an action, a target, a day or an hour. */
function filteredLines() {
  const wanted = byId('audit-filter', HTMLInputElement).value.toLowerCase().split(/\s+/);
  return (shownData ?? '').split('\n').filter((line) => {
    const text = line.toLowerCase();
    return line.trim() !== '' && wanted.every((word) => text.includes(word));
  });
}

function writeLines() {
  const lines = filteredLines();
  const list = byId('audit', HTMLOListElement);
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.replaceChildren(...lines.map(lineElement));
  byId('audit-empty', HTMLElement).hidden = lines.length > 0;
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

/** The lines that are shown, as the file has them. */
function download() {
  const lines = filteredLines().map((line) => `${line}\n`);
  const link = element('a', { download: 'audit.log' });
  link.href = URL.createObjectURL(new Blob(lines, { type: 'application/x-ndjson' }));
  link.click();
  URL.revokeObjectURL(link.href);
}

/** @param {string} line */
function lineElement(line) {
  const entry = parse(line);
  if (entry === null) return element('li', { class: 'audit-line raw' }, line);
  const when = new Date(entry.time ?? '');
  const time = Number.isNaN(when.getTime()) ? String(entry.time ?? '') : clockText(when);
  return element(
    'li',
    { class: 'audit-line', title: line },
    element('time', { class: 'faint', datetime: entry.time ?? '' }, time),
    element('span', { class: 'audit-actor' }, entry.actor ?? ''),
    element('span', { class: 'audit-action' }, entry.action ?? ''),
    element('span', { class: 'audit-target' }, entry.target ?? ''),
    element(
      'span',
      { class: 'audit-detail' },
      `${detailText(entry)} `,
      element('span', { class: isGood(entry) ? 'faint' : 'bad' }, entry.result ?? ''),
    ),
  );
}

/**
 * Done, applied by the proxy, or an access that was answered.
 * @param {Entry} entry
 */
function isGood({ result }) {
  return result === undefined || /^(ok|applied\b.*|[23]\d\d)$/.test(result);
}

/** @param {Entry} entry */
export function detailText(entry) {
  if (typeof entry.heartbeats === 'number') {
    return words().heartbeats(entry.heartbeats, entry.backends ?? 0);
  }
  if (typeof entry.repeated === 'number') return words().repeated(entry.repeated);
  const before = leaves(entry.old);
  const after = leaves(entry.new);
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((path) => before.get(path) !== after.get(path))
    .map((path) => `${path} ${before.get(path) ?? UNKNOWN} → ${after.get(path) ?? UNKNOWN}`.trim())
    .join(', ');
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

/**
 * @param {string} line
 * @returns {Entry | null}
 */
function parse(line) {
  try {
    const value = JSON.parse(line);
    return typeof value === 'object' && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
