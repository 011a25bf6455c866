/**
 * @file The dialog that shows a change before it is made: what it comes to, each line of it, the word that
 * a large one wants typed, a note, and what stands in its way. apply.js shows in it what waits, edits.js a
 * roll back; each says what is written and what the buttons do.
 */

import { isWord } from './capacity.js';
import { byId, element, setAttribute, setText } from './dom.js';
import { onLanguage, words } from './i18n.js';

/** @typedef {{text: string, act: () => void}} Way */

/**
 * @typedef {object} Shown
 * @property {string} title
 * @property {string} sum
 * @property {{level: string, text: string} | null} carry whether the remaining backends can carry the load
 * @property {{text: string, ways: Way[]} | null} problem why it is not made as it stands, and the ways on
 * @property {[before: string, after: string]} heads of the two columns of values
 * @property {string | null} word what the person types first; null: nothing
 * @property {number} left of the capacity, 0 to 1 or more
 * @property {string} hint
 * @property {string} action what the button is called
 * @property {boolean} isBusy
 * @property {boolean} isReady whether it can be made as it stands
 */

/** Whose change the dialog shows while it is open. @type {DiffDialog | null} */
let owner = null;

/** One kind of change in the dialog. */
export class DiffDialog {
  /**
   * @param {object} change
   * @param {() => Shown} change.shown
   * @param {() => HTMLTableRowElement[]} change.rows
   * @param {() => void} change.carryOut
   * @param {() => void} [change.left] the dialog was closed
   */
  constructor({ shown, rows, carryOut, left = () => {} }) {
    this.shown = shown;
    this.rows = rows;
    this.carryOut = carryOut;
    this.left = left;
    /** What was typed as the reason when it was closed. */
    this.draft = '';
    /** What is left by what it shows, and what was when the word was typed. */
    this.partLeft = 1;
    this.leftWhenTyped = 0;
  }

  isOpen() {
    return owner === this && dialog().open;
  }

  /** Unless it is open, opens it with no word typed. */
  open() {
    if (dialog().open) return;
    closed();
    owner = this;
    field().value = '';
    noteField().value = this.draft;
    dialog().showModal();
    this.write();
    this.focus();
  }

  /** What the person does next. */
  focus() {
    setAttribute(field(), 'aria-invalid', null);
    const { word, isReady } = this.shown();
    const next = !isReady ? firstWay() : word === null ? null : field();
    (next ?? byId('diff-apply', HTMLButtonElement)).focus();
  }

  close() {
    if (this.isOpen()) dialog().close();
  }

  /** The change is made: the next one has a reason of its own. */
  done() {
    if (this.isOpen()) noteField().value = '';
    this.draft = '';
    this.close();
  }

  /** Why; empty unless it is open and says so. */
  note() {
    return this.isOpen() ? noteField().value.trim() : '';
  }

  /** Whether the word is typed, where one is wanted. What was typed in a dialog that is closed counts for nothing. */
  isTyped(word = this.shown().word) {
    return isWord(this.isOpen() ? field().value : '', word);
  }

  askForWord() {
    setAttribute(field(), 'aria-invalid', 'true');
    field().focus();
  }

  /** Thousands of lines that nobody sees are not written. */
  write() {
    if (!this.isOpen()) return;
    const { title, sum, carry, problem, heads, word, left, hint, action, isBusy, isReady } = this.shown();
    // Who typed it has agreed to what was left then, and not to less.
    if (left < this.leftWhenTyped) field().value = '';
    if (field().value === '') this.leftWhenTyped = 0;
    this.partLeft = left;
    setText(byId('diff-title', HTMLElement), title);
    setText(byId('diff-sum', HTMLElement), sum);
    writeCarry('diff-reach', carry);
    writeProblem(problem);
    setText(byId('diff-before', HTMLElement), heads[0]);
    setText(byId('diff-after', HTMLElement), heads[1]);
    byId('diff-confirm', HTMLElement).hidden = word === null;
    setText(byId('diff-confirm-text', HTMLElement), word === null ? '' : words().typeToConfirm(word));
    byId('diff-hint', HTMLElement).hidden = hint === '';
    setText(byId('diff-hint', HTMLElement), hint);
    const button = byId('diff-apply', HTMLButtonElement);
    setText(button, action);
    setAttribute(button, 'aria-busy', isBusy ? 'true' : null);
    button.toggleAttribute('data-unconfirmed', !isReady || !this.isTyped(word));
    writeRows(this.rows());
  }
}

/** Lines that say the same stay: one of them may be opened. @param {HTMLTableRowElement[]} rows */
function writeRows(rows) {
  const body = byId('diff-rows', HTMLTableSectionElement);
  const textOf = (/** @type {Iterable<Element>} */ lines) => [...lines].map(({ textContent }) => textContent).join('\n');
  if (body.children.length !== rows.length || textOf(body.children) !== textOf(rows)) body.replaceChildren(...rows);
}

/** Tells whose change it showed. It is told late by the browser, when the next one may be open. */
function closed() {
  const whose = owner;
  owner = null;
  if (whose === null) return;
  whose.draft = noteField().value;
  whose.left();
}

export function startDiffDialog() {
  byId('diff-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    if (owner === null) return;
    const { isReady, word } = owner.shown();
    if (!isReady) owner.focus();
    else if (owner.isTyped(word)) owner.carryOut();
    else owner.askForWord();
  });
  field().addEventListener('input', () => {
    setAttribute(field(), 'aria-invalid', null);
    if (owner !== null) owner.leftWhenTyped = owner.partLeft;
    owner?.write();
  });
  dialog().addEventListener('close', () => {
    if (!dialog().open) closed();
  });
  onLanguage(() => owner?.write());
}

/**
 * @param {string} id
 * @param {Shown['carry']} carry
 */
export function writeCarry(id, carry) {
  const place = byId(id, HTMLElement);
  place.hidden = carry === null;
  setText(place, carry?.text ?? '');
  setAttribute(place, 'data-level', carry?.level ?? null);
}

/** @param {Shown['problem']} problem */
function writeProblem(problem) {
  const place = byId('diff-problem', HTMLElement);
  place.hidden = problem === null;
  setText(place, problem?.text ?? '');
  const ways = problem?.ways ?? [];
  const buttons = byId('diff-ways', HTMLElement);
  const wanted = ways.map(({ text }) => text);
  const stand = [...buttons.children].map(({ textContent }) => textContent);
  // A button that is about to be pressed stays the same one.
  if (wanted.length === stand.length && wanted.every((text, at) => text === stand[at])) return;
  buttons.replaceChildren(...ways.map(({ text, act }) => element('button', { type: 'button', onclick: act }, text)));
}

function firstWay() {
  return byId('diff-ways', HTMLElement).querySelector('button');
}

function dialog() {
  return byId('diff-dialog', HTMLDialogElement);
}

function noteField() {
  return byId('diff-note', HTMLInputElement);
}

function field() {
  return byId('diff-word', HTMLInputElement);
}
