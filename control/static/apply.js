/**
 * @file Applying what is staged: the bar that counts it, the dialog that shows old and new, the one
 * call that carries all of it or none, and what to do where somebody else was faster.
 */

import { changeAll } from './changes.js';
import { byId, element, setText } from './dom.js';
import { UNKNOWN } from './format.js';
import { onLanguage, words } from './i18n.js';
import { addReport } from './report.js';
import { allStaged, onStaged, overtaken, rebase, settle, stagedOf, unstage } from './staged.js';

/** @typedef {import('./staged.js').Staged} Staged */
/** @typedef {import('./staged.js').Stand} Stand */

/** @type {() => Promise<import('./shapes.js').WholeAnswer | null>} */
let lookNow = async () => null;
/** The tag of what the page shows. */
let shown = '*';
/** The tag that what is staged was made on. */
let madeOn = '*';
let isBusy = false;
/** The staged backends that somebody else has edited meanwhile. @type {Set<string>} */
let conflicts = new Set();

/** @param {() => Promise<import('./shapes.js').WholeAnswer | null>} look reads the whole anew */
export function startApply(look) {
  lookNow = look;
  byId('pending-review', HTMLButtonElement).addEventListener('click', review);
  byId('pending-discard', HTMLButtonElement).addEventListener('click', () => unstage());
  byId('pending-apply', HTMLButtonElement).addEventListener('click', () => void apply());
  byId('diff-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    void apply();
  });
  byId('diff-drop', HTMLButtonElement).addEventListener('click', () => unstage([...conflicts]));
  onStaged(() => {
    conflicts = new Set([...conflicts].filter((id) => stagedOf(id) !== null));
    followTag();
    show();
  });
  onLanguage(show);
}

/** @param {string} tag of what the page shows */
export function knowEtag(tag) {
  shown = tag;
  followTag();
}

/** While edits wait, the tag stays the one that they were made on. */
function followTag() {
  if (allStaged().length === 0) madeOn = shown;
}

export function review() {
  if (allStaged().length === 0) return;
  byId('diff-dialog', HTMLDialogElement).showModal();
  show();
  byId('diff-apply', HTMLButtonElement).focus();
}

/** One call for all. What somebody else has not touched goes through however often they edit. */
export async function apply() {
  if (isBusy || allStaged().length === 0) return;
  isBusy = true;
  show();
  const sent = allStaged();
  const result = await changeAll(sent.map(({ id, edit }) => ({ id, ...edit })), madeOn);
  isBusy = false;
  if (result !== 'stale') {
    if (result === 'done') {
      conflicts = new Set();
      byId('diff-dialog', HTMLDialogElement).close();
      settle(sent);
    }
    show();
    return;
  }
  const whole = await lookNow();
  if (whole === null) return show();
  madeOn = whole.etag;
  const { edited, gone } = overtaken(whole.backends);
  if (edited.length + gone.length === 0) return apply();
  conflicts = new Set(edited);
  rebase(whole.backends);
  if (gone.length > 0) reportDropped(gone);
  const dialog = byId('diff-dialog', HTMLDialogElement);
  // What only lost a part is for the person to apply, once they have seen what is dropped.
  if (edited.length === 0) dialog.close();
  else if (!dialog.open) review();
}

/** @param {string[]} ids backends that are gone, and what was staged for them with them */
function reportDropped(ids) {
  const outcome = () => /** @type {const} */ ({ level: 'bad', text: words().droppedAsGone(ids.join(', ')) });
  addReport({ what: () => words().changedBackends(ids.length), outcome, info: '', undo: null });
}

function show() {
  const staged = allStaged();
  const bar = byId('pending', HTMLElement);
  bar.hidden = staged.length === 0;
  setText(byId('pending-count', HTMLElement), words().pending(staged.length));
  for (const id of ['pending-apply', 'diff-apply']) {
    const button = byId(id, HTMLButtonElement);
    if (isBusy) button.setAttribute('aria-busy', 'true');
    else button.removeAttribute('aria-busy');
    setText(button, isBusy ? words().applying : conflicts.size > 0 ? words().applyMine : words().apply);
  }
  byId('diff-conflict', HTMLElement).hidden = conflicts.size === 0;
  byId('diff-drop', HTMLButtonElement).hidden = conflicts.size === 0;
  const dialog = byId('diff-dialog', HTMLDialogElement);
  if (staged.length === 0) dialog.close();
  // Thousands of lines that nobody sees would be written with every edit.
  const seen = dialog.open ? staged : [];
  byId('diff-rows', HTMLTableSectionElement).replaceChildren(...seen.flatMap(diffRows));
}

/** @param {Staged} staged */
function diffRows({ id, edit, base }) {
  return Object.entries(edit).map(([part, value]) => {
    const name = /** @type {keyof Stand} */ (part);
    return element(
      'tr',
      { class: conflicts.has(id) ? 'is-conflict' : '' },
      element('th', { scope: 'row', class: 'mono' }, id),
      element('td', {}, words().part[name]),
      element('td', { class: 'number' }, valueText(base[name])),
      element('td', { class: 'diff-arrow', 'aria-hidden': 'true' }, '→'),
      element('td', { class: 'number diff-new' }, value === null ? words().givenBack : valueText(value)),
      element('td', { class: 'bad' }, conflicts.has(id) && words().overtaken),
    );
  });
}

/** @param {unknown} value */
function valueText(value) {
  if (value === true) return words().yes;
  if (value === false) return words().no;
  return typeof value === 'number' ? String(value) : UNKNOWN;
}
