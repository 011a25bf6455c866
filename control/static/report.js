/**
 * @file The status area: what was asked for and what came of it, newest first, each with what the
 * proxy was told (`reload.info`). A line keeps what it says as data, so that it follows the language.
 */

import { byId, element, setText } from './dom.js';
import { clockText } from './format.js';
import { onLanguage, words } from './i18n.js';

/** @typedef {'good' | 'warn' | 'bad' | 'busy'} Level */
/** @typedef {{level: Level, text: string}} Outcome */

/**
 * @typedef {object} Report
 * @property {() => string} what
 * @property {() => Outcome} outcome
 * @property {string} info the server's own words, `reload.info` among them
 * @property {(() => Promise<unknown>) | null} undo
 */

const MAX_REPORTS = 30;
const UNDO_OFFERED_MS = 60_000;

/** @type {{report: Report, line: HTMLLIElement, at: number}[]} */
const shown = [];

/** Binds the status area. */
export function startReports() {
  onLanguage(() => {
    setText(byId('announce', HTMLElement), '');
    for (const { report, line, at } of shown) write(line, report, at);
  });
}

/** Takes back the newest change that can be. */
export function undoNewest() {
  const line = shown.find(({ report }) => report.undo !== null)?.line;
  line?.querySelector('button')?.click();
}

/** @param {Report} report */
export function addReport(report) {
  const line = element('li', { class: 'report' });
  const at = Date.now();
  write(line, report, at);
  byId('reports', HTMLOListElement).prepend(line);
  byId('reports-empty', HTMLElement).hidden = true;
  shown.unshift({ report, line, at });
  for (const old of shown.splice(MAX_REPORTS)) old.line.remove();
  setText(byId('announce', HTMLElement), `${report.what()}: ${report.outcome().text}`);
  if (report.undo !== null) {
    setTimeout(() => {
      report.undo = null;
      line.querySelector('button')?.remove();
    }, UNDO_OFFERED_MS);
  }
}

/**
 * @param {HTMLLIElement} line
 * @param {Report} report
 * @param {number} at unix milliseconds
 */
function write(line, report, at) {
  const { level, text } = report.outcome();
  line.className = `report level-${level}`;
  line.replaceChildren(
    element('time', { class: 'mono faint' }, clockText(at)),
    element(
      'div',
      { class: 'report-text' },
      `${report.what()} — `,
      element('span', { class: 'report-outcome' }, text),
      report.info !== '' && element('span', { class: 'report-info mono' }, report.info),
    ),
  );
  if (report.undo !== null) line.append(undoButton(report));
}

/** @param {Report} report */
function undoButton(report) {
  const button = element('button', { type: 'button', class: 'quiet' }, words().undo);
  button.addEventListener('click', async () => {
    const undo = report.undo;
    report.undo = null;
    button.remove();
    await undo?.();
  });
  return button;
}
