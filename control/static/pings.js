/**
 * @file One ping after the other, told line by line in the dialog, and its output in the log. Loaded when
 * the first one starts.
 */

import * as api from './api.js';
import { failureOutcome } from './changes.js';
import { byId, element, setText } from './dom.js';
import { UNKNOWN, clockText, isNumber } from './format.js';
import { words } from './i18n.js';
import { addReport } from './report.js';

/** How many outputs the log keeps. */
const MAX_OUTPUTS = 20;

let isBusy = false;

/**
 * @param {string} ip
 * @param {number} probes
 */
export async function pingNow(ip, probes) {
  if (isBusy) return;
  isBusy = true;
  const button = byId('ping-start', HTMLButtonElement);
  button.setAttribute('aria-busy', 'true');
  setText(button, words().pinging);
  try {
    let output = '';
    for await (const line of api.ping(ip, probes)) {
      output += `${lineText(line)}\n`;
      showProgress(output);
    }
    showOutput(ip, output);
    report(ip, () => ({ level: 'good', text: words().pingDone }));
  } catch (error) {
    const outcome = () => failureOutcome(error);
    showOutput(ip, outcome().text);
    report(ip, outcome);
  } finally {
    isBusy = false;
    button.removeAttribute('aria-busy');
    setText(button, words().startPing);
  }
}

/**
 * @param {string} ip
 * @param {() => import('./report.js').Outcome} outcome
 */
function report(ip, outcome) {
  addReport({ what: () => words().pingOf(ip), outcome, info: '', undo: null });
}

/** @param {api.PingLine} line */
function lineText(line) {
  switch (line.kind) {
    case 'start':
      return line.via === 'icmp' ? words().pingByIcmp(line.ip) : words().pingByTcp(line.ip);
    case 'probe': {
      const port = line.port === null ? '' : ` ${words().pingPort(line.port)}`;
      const what = line.time_ms === null ? (line.error ?? UNKNOWN) : millisecondsText(line.time_ms);
      return `${line.sequence + 1}${port}: ${what}`;
    }
    case 'summary': {
      const [low, mean, high] = [line.min_ms, line.avg_ms, line.max_ms].map(millisecondsText);
      return words().pingSum(line.received, line.sent, `${low} / ${mean} / ${high}`);
    }
  }
}

/** @param {number | null | undefined} milliseconds */
function millisecondsText(milliseconds) {
  return isNumber(milliseconds) ? `${milliseconds.toFixed(milliseconds < 10 ? 3 : 1)} ms` : UNKNOWN;
}

/** @param {string} output so far */
function showProgress(output) {
  const result = byId('ping-result', HTMLElement);
  result.hidden = false;
  setText(result, output);
}

/**
 * @param {string} ip
 * @param {string} output
 */
function showOutput(ip, output) {
  showProgress(output);
  const log = byId('ping-log', HTMLElement);
  byId('ping-empty', HTMLElement).hidden = true;
  log.prepend(
    element(
      'article',
      { class: 'output' },
      element('h4', { class: 'mono' }, `${clockText(Date.now())}  ${ip}`),
      element('pre', { class: 'mono' }, output),
    ),
  );
  while (log.childElementCount > MAX_OUTPUTS) log.lastElementChild?.remove();
}
