/**
 * @file The static list: a dialog that puts a backend on it, and taking one off. A backend of the list
 * needs no heartbeat to stay.
 */

import * as api from './api.js';
import { change } from './changes.js';
import { byId, setText } from './dom.js';
import { words } from './i18n.js';
import { parseWeight } from './weight.js';

/** An address and a port, an IPv6 address in brackets; the server says whether a backend can have it. */
const ADDRESS = /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):\d{1,5}$/;

// This file is loaded when it is first needed, so once.
byId('add-form', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault();
  void add();
});

export function openAdd() {
  byId('add-problem', HTMLElement).hidden = true;
  byId('add-dialog', HTMLDialogElement).showModal();
  byId('add-address', HTMLInputElement).select();
}

async function add() {
  const address = byId('add-address', HTMLInputElement).value.trim();
  const typed = byId('add-weight', HTMLInputElement).value.trim();
  const weight = typed === '' ? null : parseWeight(typed);
  if (!ADDRESS.test(address)) return refuse(words().addAddressBad);
  if (typed !== '' && weight === null) return refuse(words().weightRange);
  const outcome = await change(
    ['addBackendOf', address],
    () => putWithUndo(address, { weight }),
  );
  const { level, text } = outcome();
  if (level === 'bad') return refuse(text);
  byId('add-dialog', HTMLDialogElement).close();
}

/** @param {string} text */
function refuse(text) {
  const problem = byId('add-problem', HTMLElement);
  problem.hidden = false;
  setText(problem, text);
}

/**
 * @param {string} address
 * @param {import('./shapes.js').Said} said
 */
async function putWithUndo(address, said) {
  const answer = await api.putStatic(address, said);
  return { ...answer, undo: undoOf(address, answer.old) };
}

/** @param {string} address of a backend on the list */
export function takeOff(address) {
  return change(
    ['removeStaticOf', address],
    async () => {
      const answer = await api.removeStatic(address);
      return { ...answer, undo: undoOf(address, answer.old) };
    },
  );
}

/**
 * What makes the list say of a backend what it said before.
 * @param {string} address
 * @param {import('./shapes.js').Said | null} before
 * @returns {import('./report.js').Undo}
 */
function undoOf(address, before) {
  const what = /** @type {const} */ ([before === null ? 'addBackendOf' : 'removeStaticOf', address]);
  return { kind: 'static', what, made: address, back: before };
}

/**
 * @param {import('./i18n.js').Said} what was done
 * @param {string} address
 * @param {import('./shapes.js').Said | null} before
 */
export function takeBack(what, address, before) {
  return change(['undoing', what], () => (before === null ? api.removeStatic(address) : api.putStatic(address, before)));
}
