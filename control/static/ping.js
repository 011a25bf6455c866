/**
 * @file The ping tool: a dialog that is opened from a row or from the bar. pings.js does the pings.
 */

import { CallError } from './api.js';
import { connectionFailed } from './connection.js';
import { byId, element } from './dom.js';

const LOOPBACK = '127.0.0.1';

/** @type {import('./shapes.js').Backend[]} */
let backends = [];

/** Binds the dialog and the button of its page. */
export function startPing() {
  byId('diagnose-ping', HTMLButtonElement).addEventListener('click', () => openPing());
  byId('ping-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    void ping(byId('ping-target', HTMLSelectElement).value, Number(byId('ping-probes', HTMLSelectElement).value));
  });
}

/** @param {import('./shapes.js').Backend[]} known which the server lets be pinged */
export function knowTargets(known) {
  backends = known;
}

/** @param {string} [ip] chosen beforehand */
export function openPing(ip = '') {
  const targets = [...new Set([LOOPBACK, ...backends.map((backend) => backend.ip)])];
  const select = byId('ping-target', HTMLSelectElement);
  const chosen = targets.includes(ip) ? ip : select.value;
  select.replaceChildren(...targets.map((target) => element('option', { value: target }, target)));
  select.value = targets.includes(chosen) ? chosen : LOOPBACK;
  byId('ping-result', HTMLElement).hidden = true;
  byId('ping-dialog', HTMLDialogElement).showModal();
  select.focus();
}

/**
 * @param {string} ip
 * @param {number} probes
 */
async function ping(ip, probes) {
  try {
    await (await import('./pings.js')).pingNow(ip, probes);
  } catch {
    connectionFailed(new CallError('away', ''));
  }
}
