/**
 * @file What was asked for here and what came of it, newest first, each with what the proxy was told
 * (`reload.info`): all of it on the page of changes, the newest in the dock of every page. A line
 * keeps what it says as data, so that it follows the language.
 */

import { byId, element, setText } from './dom.js';
import { clockText } from './format.js';
import { onLanguage, words, wordsOf } from './i18n.js';
import { keepDraft, recallDraft } from './storage.js';

/** @typedef {'good' | 'warn' | 'bad' | 'busy'} Level */
/** @typedef {{level: Level, text: string, isUnknown?: boolean}} Outcome */

/**
 * What takes a change back, as data: it outlives a reload of the page.
 * @typedef {object} Undo
 * @property {'edits' | 'settings' | 'static'} kind
 * @property {import('./i18n.js').Said} what was done
 * @property {any} made
 * @property {any} back
 */

/**
 * @typedef {object} Report
 * @property {() => string} what
 * @property {() => Outcome} outcome
 * @property {string} info the server's own words, `reload.info` among them
 * @property {Undo | null} undo
 */

const MAX_REPORTS = 30;
const UNDO_OFFERED_MS = 60_000;

/** The newest first. @type {{report: Report, at: number}[]} */
const kept = [];
/** The report in the dock that the person has put away. @type {Report | null} */
let putAway = null;

/** @type {(undo: Undo) => Promise<unknown>} */
let carryOut = async () => {};

/**
 * Binds the list and the dock, and offers again what a reload of the page has interrupted.
 * @param {(undo: Undo) => Promise<unknown>} takeBack
 */
export function startReports(takeBack) {
  carryOut = takeBack;
  const undoable = /** @type {{undo: Undo, outcome: Outcome, info: string, at: number}[]} */ (recallDraft('undo') ?? []);
  for (const { undo, outcome, info, at } of undoable.reverse()) {
    // What an older page has left may be of another form.
    if (Array.isArray(undo?.what) && isRecent(at)) addReport({ what: () => wordsOf(undo.what), outcome: () => outcome, info, undo }, at);
  }
  onLanguage(() => {
    setText(byId('announce', HTMLElement), '');
    show();
  });
}

/** Takes back the newest change that can be. */
export function undoNewest() {
  const newest = kept.find(({ report }) => report.undo !== null)?.report;
  if (newest !== undefined) void takeBackOf(newest);
}

/**
 * @param {Report} report
 * @param {number} at unix milliseconds
 */
export function addReport(report, at = Date.now()) {
  kept.unshift({ report, at });
  kept.splice(MAX_REPORTS);
  show();
  setText(byId('announce', HTMLElement), `${report.what()}: ${report.outcome().text}`);
  setTimeout(() => {
    report.undo = null;
    show();
  }, at + UNDO_OFFERED_MS - Date.now());
}

/** @param {Report} report */
async function takeBackOf(report) {
  const undo = report.undo;
  report.undo = null;
  show();
  if (undo === null || (await carryOut(undo)) !== 'asked') return;
  // A review asks for it first, and who leaves that has taken nothing back.
  const entry = kept.find((one) => one.report === report);
  if (entry === undefined || !isRecent(entry.at)) return;
  report.undo = undo;
  show();
}

/** What can be taken back, for a page that is loaded again. */
function keepUndoable() {
  const undoable = kept.filter(({ report }) => report.undo !== null);
  const drafts = undoable.map(({ report, at }) => ({ undo: report.undo, outcome: report.outcome(), info: report.info, at }));
  keepDraft('undo', drafts.length === 0 ? null : drafts);
}

/** An outcome has become known. */
export function outcomeKnown() {
  show();
}

/** The whole list on its page; on every page the newest, while it is news. */
function show() {
  keepUndoable();
  byId('reports', HTMLOListElement).replaceChildren(
    ...kept.map(({ report, at }) => written(element('li'), report, at)),
  );
  byId('reports-empty', HTMLElement).hidden = kept.length > 0;
  const dock = byId('newest', HTMLElement);
  const [newest] = kept;
  const isNews = newest !== undefined && (isRecent(newest.at) || newest.report.outcome().level === 'bad');
  dock.hidden = !isNews || newest.report === putAway;
  if (newest === undefined || dock.hidden) return;
  const line = written(element('div'), newest.report, newest.at);
  const away = element('button', { type: 'button', class: 'quiet small', 'aria-label': words().close }, '×');
  away.addEventListener('click', () => {
    putAway = newest.report;
    show();
  });
  line.append(away);
  dock.replaceChildren(line);
}

/** @param {number} at unix milliseconds */
function isRecent(at) {
  return Date.now() - at < UNDO_OFFERED_MS;
}

/**
 * @template {HTMLElement} Line
 * @param {Line} line
 * @param {Report} report
 * @param {number} at unix milliseconds
 */
function written(line, report, at) {
  const { level, text } = report.outcome();
  line.className = `report level-${level}`;
  line.replaceChildren(
    element('time', { class: 'mono faint' }, clockText(at)),
    element(
      'div',
      { class: 'report-text' },
      `${report.what()} — `,
      element('span', { class: 'report-outcome' }, text),
      report.info !== '' && element('span', { class: 'report-info mono' }, words().said(report.info)),
    ),
  );
  if (report.undo !== null) {
    const undo = () => void takeBackOf(report);
    line.append(element('button', { type: 'button', class: 'quiet small', onclick: undo }, words().undo));
  }
  return line;
}
