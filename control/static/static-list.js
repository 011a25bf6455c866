/**
 * @file The static list: a dialog that puts a backend on it, and taking one off. A backend of the list
 * needs no heartbeat to stay.
 */

import * as api from './api.js';
import { partLeft, reachOf, wordOf } from './capacity.js';
import { change } from './changes.js';
import { DiffDialog } from './diff-dialog.js';
import { diffRow, valueText } from './diff.js';
import { byId, element, setText } from './dom.js';
import { carryText, sumText } from './edit-effects.js';
import { words, wordsOf } from './i18n.js';
import { parseWeight } from './weight.js';

/** @typedef {import('./shapes.js').Backend} Backend */
/** @typedef {import('./shapes.js').Edit} Edit */

/** An address and a port, an IPv6 address in brackets; the server says whether a backend can have it. */
const ADDRESS = /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):\d{1,5}$/;

/** The backend that is to go, and all of them as they stand. @type {{address: string, backends: Backend[]}} */
let leaving = { address: '', backends: [] };
const dialog = new DiffDialog({ shown, rows, carryOut: () => void carryOut() });

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

/**
 * Takes a backend off the list; where that leaves little of the capacity, not before it has been shown.
 * @param {string} address of a backend on the list
 */
export async function takeOff(address) {
  try {
    leaving = { address, backends: (await api.readWhole()).backends };
  } catch {
    // The call itself says what is wrong.
    leaving = { address, backends: [] };
  }
  if (wordOf(leaving.backends, lossOf(leaving)) === null) await remove(address);
  else dialog.open();
}

/**
 * What leaving does to the capacity: nothing while another source knows the backend.
 * @param {{address: string, backends: Backend[]}} leaving
 * @returns {Edit[]}
 */
function lossOf({ address, backends }) {
  const sources = backends.find(({ id }) => id === address)?.sources ?? [];
  const isAlone = sources.every((name) => name === 'static' || name === 'override');
  return isAlone ? [{ id: address, enabled: false }] : [];
}

/** @returns {import('./diff-dialog.js').Shown} */
function shown() {
  const { address, backends } = leaving;
  const loss = lossOf(leaving);
  return {
    title: wordsOf(['removeStaticOf', address]),
    sum: sumText(backends, loss),
    carry: carryText(backends, loss),
    problem: null,
    heads: [words().oldValue, words().newValue],
    word: wordOf(backends, loss),
    left: partLeft(reachOf(backends, loss)),
    hint: '',
    action: words().side.takeOff,
    isBusy: false,
    isReady: true,
  };
}

function rows() {
  const head = element('th', { scope: 'row', class: 'mono' }, leaving.address);
  return [diffRow(head, words().source('static'), valueText(true), valueText(false))];
}

async function carryOut() {
  dialog.done();
  await remove(leaving.address);
}

/** @param {string} address */
function remove(address) {
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
