/**
 * @file The top bar of every page: the proxy and its configuration in one line, and below it what the
 * control plane warns of.
 */

import { configAnswer, proxyAnswer } from './answers.js';
import { serverNow } from './api.js';
import { acknowledgeExpiry, reloadOutcome } from './changes.js';
import { byId, element, setAttribute, setText } from './dom.js';
import * as format from './format.js';
import { words } from './i18n.js';
import { warningTexts } from './incidents.js';
import { shapeIcon } from './state.js';

/** @typedef {import('./api.js').ProxyAnswer} ProxyAnswer */

/** Binds the button that goes with a held-back expiry, and on a phone the one for all that has no room. */
export function startBar() {
  const more = byId('bar-more', HTMLButtonElement);
  more.addEventListener('click', () => {
    const isOpen = more.getAttribute('aria-expanded') === 'true';
    setAttribute(more, 'aria-expanded', String(!isOpen));
  });
  byId('acknowledge', HTMLButtonElement).addEventListener('click', acknowledgeExpiry);
}

/** @param {import('./api.js').WholeAnswer} whole @returns {ProxyAnswer} */
export function proxyOf({ status }) {
  return { ...status, status: status.proxy };
}

/** @param {ProxyAnswer | null} proxy null before the first answer */
export function showProxy(proxy) {
  const { level, text, detail } = pillAnswer(proxy);
  const pill = byId('proxy', HTMLElement);
  setAttribute(pill, 'data-level', level);
  setText(byId('proxy-text', HTMLElement), text);
  setText(byId('proxy-detail', HTMLElement), detail);
  showLevel(byId('proxy-shape', HTMLElement), level);
  setText(byId('last-sync', HTMLElement), lastPublishText(proxy));
}

/** The proxy and its configuration in one line: what is wrong, else that both are well. @param {ProxyAnswer | null} proxy */
function pillAnswer(proxy) {
  const up = proxyAnswer(proxy, serverNow());
  if (up.level !== 'good') return up;
  const config = configAnswer(proxy, serverNow());
  return config.level === 'good' ? { ...up, detail: config.text } : config;
}

/**
 * A shape beside the word, so that colour is not alone.
 * @param {HTMLElement} place
 * @param {import('./answers.js').Answer['level']} level
 */
export function showLevel(place, level) {
  const shape = level === 'good' ? 'up' : level === 'bad' ? 'down' : 'checking';
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

/** @param {import('./api.js').WholeAnswer['status']} status */
export function showWarnings(status) {
  const texts = warningTexts(status);
  byId('warnings', HTMLElement).hidden = texts.length === 0;
  byId('acknowledge', HTMLButtonElement).hidden = !status.freeze;
  const list = byId('warning-list', HTMLUListElement);
  const shown = [...list.children].map((line) => line.textContent);
  if (shown.length === texts.length && shown.every((text, at) => text === texts[at])) return;
  list.replaceChildren(...texts.map((text) => element('li', {}, text)));
}
