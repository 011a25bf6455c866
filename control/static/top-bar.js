/**
 * @file The top bar of every page: the proxy and its configuration in one line, and below it what the
 * control plane warns of.
 */

import { serverNow } from './api.js';
import { acknowledgeExpiry, reloadOutcome } from './changes.js';
import { ageOfLastKnown } from './connection.js';
import { byId, element, setAttribute, setText } from './dom.js';
import * as format from './format.js';
import { words } from './i18n.js';
import { warningTexts } from './incidents.js';
import { showAlarm } from './pages.js';
import { shapeIcon } from './state.js';
import { wholeAnswer } from './summary.js';
import { tip } from './tooltip.js';
import { outageTexts, sentenceOf, showIcon } from './verdict.js';

/** @typedef {import('./shapes.js').ProxyAnswer} ProxyAnswer */

/** @type {Record<import('./verdict.js').Answer['level'], import('./state.js').Shape>} */
const SHAPES_OF = { good: 'up', warn: 'checking', bad: 'down', unknown: 'unknown' };

/** Before the title of a page whose verdict is not good. */
const MARKS = { warn: '▲', bad: '✕', unknown: '?' };

/** The verdict in full. */
let wholeText = '';

/** Binds the button that goes with a held-back expiry, and on a phone the one for all that has no room. */
export function startBar() {
  const more = byId('bar-more', HTMLButtonElement);
  more.addEventListener('click', () => {
    const isOpen = more.getAttribute('aria-expanded') === 'true';
    setAttribute(more, 'aria-expanded', String(!isOpen));
  });
  byId('acknowledge', HTMLButtonElement).addEventListener('click', acknowledgeExpiry);
  // It never grows: what has no room in it is here, and where it matters most on every page.
  tip(byId('proxy', HTMLElement), () => wholeText);
}

/** @param {import('./shapes.js').WholeAnswer} whole @returns {ProxyAnswer} */
export function proxyOf({ status }) {
  return { ...status, status: status.proxy };
}

/**
 * The verdict: in the top bar, in the title and in the icon of the page.
 * @param {ProxyAnswer | null} proxy null before the first answer
 * @param {import('./shapes.js').Verdict} [verdict]
 */
export function showProxy(proxy, verdict) {
  const { level, text, detail } = lastKnown(wholeAnswer(proxy, verdict, serverNow()));
  if (verdict !== undefined) {
    wholeText = sentenceOf(verdict);
    showIcon(level);
    showAlarm(level === 'good' ? '' : `${MARKS[level]} ${text}`);
  }
  const pill = byId('proxy', HTMLElement);
  setAttribute(pill, 'data-level', level);
  setText(byId('proxy-text', HTMLElement), text);
  setText(byId('proxy-detail', HTMLElement), detail);
  showLevel(byId('proxy-shape', HTMLElement), level);
  setText(byId('last-sync', HTMLElement), lastPublishText(proxy));
}

/**
 * Where control is away, what it said is old: it is no longer told as what is, and its ages stand.
 * @param {import('./verdict.js').Answer} answer
 * @returns {import('./verdict.js').Answer}
 */
function lastKnown(answer) {
  const age = ageOfLastKnown();
  if (age === null) return answer;
  return { level: 'unknown', text: words().lastKnown(answer.text), detail: words().lastKnownAge(format.elapsedText(age)) };
}

/**
 * A shape beside the word, so that colour is not alone.
 * @param {HTMLElement} place
 * @param {import('./verdict.js').Answer['level']} level
 */
export function showLevel(place, level) {
  const shape = SHAPES_OF[level];
  if (place.dataset.shape === shape) return;
  place.dataset.shape = shape;
  place.replaceChildren(shapeIcon(shape));
}

/** @param {ProxyAnswer | null} proxy */
function lastPublishText(proxy) {
  const publish = proxy?.last_publish ?? null;
  if (publish === null) return '';
  const generation = words().generation(publish.generation);
  return words().lastPublish(format.clockText(publish.at_ms), generation, reloadOutcome(publish).text);
}

/** @param {import('./shapes.js').WholeAnswer['status']} status */
export function showWarnings(status) {
  const outages = outageTexts(status.verdict);
  const texts = [...outages, ...warningTexts(status)];
  const place = byId('warnings', HTMLElement);
  place.hidden = texts.length === 0;
  const isBad = status.verdict?.level === 'down' || (status.refusals ?? []).length > 0;
  setAttribute(place, 'data-level', isBad ? 'bad' : 'warn');
  byId('acknowledge', HTMLButtonElement).hidden = !status.freeze;
  const list = byId('warning-list', HTMLUListElement);
  const shown = [...list.children].map((line) => line.textContent);
  if (shown.length === texts.length && shown.every((text, at) => text === texts[at])) return;
  list.replaceChildren(...texts.map((text) => element('li', {}, text)));
}
