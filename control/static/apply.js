/**
 * @file Applying what is staged: the bar that counts it and says what it leaves, the dialog that shows old
 * and new, the one call that carries all of it or none, and what to do where somebody else was faster. A
 * change that leaves half of the capacity or less wants a typed word, however it was asked for.
 */

import * as api from './api.js';
import { isLarge, isWord, reachOf, wordOf } from './capacity.js';
import { changeAll } from './changes.js';
import { connectionFailed } from './connection.js';
import { byId, setAttribute, setText } from './dom.js';
import { onLanguage, words } from './i18n.js';
import { carryText, sumText } from './reach.js';
import { addReport } from './report.js';
import { keepDraft, recallDraft } from './storage.js';
import { allStaged, onStaged, overtaken, rebase, restage, restoreStaged, settle, stage, stagedOf, unstage } from './staged.js';

/** @typedef {import('./shapes.js').Backend} Backend */
/** @typedef {import('./shapes.js').Edit} Edit */
/** @typedef {import('./staged.js').Staged} Staged */

/** @type {() => Promise<import('./shapes.js').WholeAnswer | null>} */
let lookNow = async () => null;
/** As the page shows them. @type {Backend[]} */
let backends = [];
/** The tag of nothing that stands: what is sent with it is compared first. */
const NEVER = '"0-0"';
/** The tag of what the page shows. */
let shown = '*';
/** The tag that what is staged was made on. */
let madeOn = '*';
let isBusy = false;
/** The staged backends that somebody else has edited meanwhile. @type {Set<string>} */
let conflicts = new Set();
/** What waited for the backends of a single act before it; leaving its review takes the act back. @type {Map<string, Staged | null> | null} */
let proposed = null;
/** What waits was left by a page before this one, and is not yet looked at beside what stands now. */
let isRestored = false;
/** Writes the lines of the review, once it is loaded. @type {typeof import('./review.js').writeReview | null} */
let writeReview = null;

/** @param {() => Promise<import('./shapes.js').WholeAnswer | null>} look reads the whole anew */
export function startApply(look) {
  lookNow = look;
  byId('pending-review', HTMLButtonElement).addEventListener('click', () => void review());
  byId('pending-discard', HTMLButtonElement).addEventListener('click', () => unstage());
  byId('pending-apply', HTMLButtonElement).addEventListener('click', () => void apply());
  byId('diff-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    void apply();
  });
  byId('diff-word', HTMLInputElement).addEventListener('input', ({ target }) => {
    if (target instanceof Element) setAttribute(target, 'aria-invalid', null);
    show();
  });
  byId('diff-dialog', HTMLDialogElement).addEventListener('close', () => {
    const before = proposed;
    proposed = null;
    if (before !== null) restage(before);
  });
  byId('diff-drop', HTMLButtonElement).addEventListener('click', () => unstage([...conflicts]));
  const left = recallDraft('staged');
  if (Array.isArray(left)) restoreStaged(left);
  isRestored = allStaged().length > 0;
  if (isRestored) madeOn = NEVER;
  onStaged(() => {
    keepDraft('staged', allStaged().length === 0 ? null : allStaged());
    conflicts = new Set([...conflicts].filter((id) => stagedOf(id) !== null));
    followTag();
    show();
  });
  onLanguage(show);
}

/** @param {import('./shapes.js').WholeAnswer} whole that the page shows */
export function knowWhole({ etag, backends: known }) {
  shown = etag;
  backends = known;
  followTag();
  if (isRestored) void lookAtRestored();
  if (allStaged().length > 0) show();
}

/**
 * What others have changed since the page before was left is a conflict like any other. The stream
 * begins with what it told last, which may be older than their edit, so the whole is read anew.
 */
async function lookAtRestored() {
  isRestored = false;
  const whole = await lookNow();
  if (whole === null) {
    isRestored = true;
    return;
  }
  madeOn = whole.etag;
  meetOthers();
  show();
}

/**
 * Marks what others have changed, and drops what is for backends that are gone.
 * @returns {{edited: string[], gone: string[]}}
 */
function meetOthers() {
  const met = overtaken(backends);
  if (met.edited.length + met.gone.length === 0) return met;
  conflicts = new Set(met.edited);
  rebase(backends);
  if (met.gone.length > 0) reportDropped(met.gone);
  return met;
}

/** While edits wait, the tag stays the one that they were made on. */
function followTag() {
  if (allStaged().length === 0) madeOn = shown;
}

/** @returns {Edit[]} */
function waiting() {
  return allStaged().map(({ id, edit }) => ({ id, ...edit }));
}

export async function review() {
  if (allStaged().length === 0) return;
  try {
    ({ writeReview } = await import('./review.js'));
  } catch {
    return connectionFailed(new api.CallError('away', ''));
  }
  const dialog = byId('diff-dialog', HTMLDialogElement);
  const field = byId('diff-word', HTMLInputElement);
  if (allStaged().length === 0 || dialog.open) return;
  field.value = '';
  setAttribute(field, 'aria-invalid', null);
  dialog.showModal();
  show();
  (byId('diff-confirm', HTMLElement).hidden ? byId('diff-apply', HTMLButtonElement) : field).focus();
}

/**
 * Whether an edit is not made by one click: a drain, since it is shown first what the others will carry,
 * and whatever leaves too little.
 * @param {Edit[]} edits
 * @param {Backend[]} known all
 */
export function mustAsk(edits, known = backends) {
  return edits.some(({ drain }) => drain === true) || isLarge(reachOf(known, edits));
}

/**
 * Lets edits wait and opens their review; who leaves it takes them back.
 * @param {Edit[]} edits
 * @param {Backend[]} known all
 */
export async function propose(edits, known = backends) {
  const byKey = new Map(known.map((backend) => [backend.id, backend]));
  const before = new Map(edits.map(({ id }) => [id, allStaged().find((one) => one.id === id) ?? null]));
  for (const { id, ...edit } of edits) {
    const backend = byKey.get(id);
    if (backend !== undefined) stage([backend], edit);
  }
  await review();
  if (byId('diff-dialog', HTMLDialogElement).open) proposed = before;
}

/** What is typed in a review that is closed counts for nothing. */
function isTyped() {
  const typed = byId('diff-dialog', HTMLDialogElement).open ? byId('diff-word', HTMLInputElement).value : '';
  return isWord(typed, wordOf(backends, waiting()));
}

/** Why, where the review is open and says so. */
function noteNow() {
  return byId('diff-dialog', HTMLDialogElement).open ? byId('diff-note', HTMLInputElement).value.trim() : '';
}

/** Nothing is sent without it. */
async function askForWord() {
  if (!byId('diff-dialog', HTMLDialogElement).open) return review();
  const field = byId('diff-word', HTMLInputElement);
  setAttribute(field, 'aria-invalid', 'true');
  field.focus();
}

/** One call for all. What somebody else has not touched goes through however often they edit. */
export async function apply() {
  if (isBusy || allStaged().length === 0) return;
  if (!isTyped()) return askForWord();
  isBusy = true;
  show();
  const sent = allStaged();
  const result = await changeAll(waiting(), madeOn, noteNow());
  isBusy = false;
  if (result !== 'stale') {
    if (result === 'done') {
      conflicts = new Set();
      proposed = null;
      byId('diff-note', HTMLInputElement).value = '';
      byId('diff-dialog', HTMLDialogElement).close();
      settle(sent);
    }
    show();
    return;
  }
  const whole = await lookNow();
  if (whole === null) return show();
  madeOn = whole.etag;
  backends = whole.backends;
  const { edited, gone } = meetOthers();
  // The stream may have told of them before.
  const isLess = sent.some(({ id }) => stagedOf(id) === null);
  if (edited.length + gone.length === 0 && !isLess && conflicts.size === 0) return apply();
  const dialog = byId('diff-dialog', HTMLDialogElement);
  // What only lost a part is for the person to apply, once they have seen what is dropped.
  if (edited.length === 0) dialog.close();
  else if (!dialog.open) await review();
  show();
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
  const changes = staged.reduce((count, { edit }) => count + Object.keys(edit).length, 0);
  setText(byId('pending-count', HTMLElement), words().pending(changes, staged.length));
  for (const id of ['pending-apply', 'diff-apply']) {
    const button = byId(id, HTMLButtonElement);
    setAttribute(button, 'aria-busy', isBusy ? 'true' : null);
    setText(button, isBusy ? words().applying : conflicts.size > 0 ? words().applyMine : words().apply);
  }
  const conflict = byId('pending-conflict', HTMLElement);
  conflict.hidden = conflicts.size === 0;
  setText(conflict, words().conflictsOf(conflicts.size));
  byId('diff-conflict', HTMLElement).hidden = conflicts.size === 0;
  byId('diff-drop', HTMLButtonElement).hidden = conflicts.size === 0;
  const dialog = byId('diff-dialog', HTMLDialogElement);
  if (staged.length === 0) dialog.close();
  const edits = waiting();
  const carry = staged.length === 0 ? null : carryText(backends, edits);
  writeCarry('pending-reach', carry === null ? null : { ...carry, text: words().sentences(sumText(backends, edits), carry.text) });
  // Thousands of lines that nobody sees would be written with every edit.
  if (!dialog.open) return;
  setText(byId('diff-sum', HTMLElement), sumText(backends, edits));
  writeCarry('diff-reach', carry);
  const word = wordOf(backends, edits);
  byId('diff-confirm', HTMLElement).hidden = word === null;
  setText(byId('diff-confirm-text', HTMLElement), word === null ? '' : words().typeToConfirm(word));
  byId('diff-apply', HTMLButtonElement).toggleAttribute('data-unconfirmed', !isTyped());
  writeReview?.(staged, conflicts);
}

/**
 * @param {string} id
 * @param {{level: string, text: string} | null} carry
 */
function writeCarry(id, carry) {
  const place = byId(id, HTMLElement);
  place.hidden = carry === null;
  setText(place, carry?.text ?? '');
  setAttribute(place, 'data-level', carry?.level ?? null);
}
