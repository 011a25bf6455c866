/**
 * @file Applying what is staged: the bar that counts it and says what it leaves, the dialog that shows old
 * and new, the one call that carries all of it or none, and what to do where somebody else was faster, a
 * backend has gone, or the server refuses. A change that leaves half of the capacity or less wants a typed
 * word, however it was asked for.
 */

import * as api from './api.js';
import { isLarge, partLeft, reachOf, wordOf } from './capacity.js';
import { changeAll, reportSettled } from './changes.js';
import { connectionFailed } from './connection.js';
import { DiffDialog, writeCarry } from './diff-dialog.js';
import { byId, setAttribute, setText } from './dom.js';
import { carryText, sumText } from './edit-effects.js';
import { onLanguage, words } from './i18n.js';
import { allStaged, onStaged, overtaken, rebase, restage, restoreStaged, settle, stage, stagedOf, unstage } from './staged.js';
import { keepDraft, recallDraft } from './storage.js';

/** @typedef {import('./shapes.js').Backend} Backend */
/** @typedef {import('./shapes.js').Edit} Edit */
/** @typedef {import('./staged.js').Staged} Staged */

/** @type {() => Promise<import('./shapes.js').WholeAnswer | null>} */
let lookNow = async () => null;
/** As the page shows them. @type {Backend[]} */
let backends = [];
/** Backends that are named at most. */
const NAMED = 3;
/** The tag of nothing that stands: what is sent with it is compared first. */
const NEVER = '"0-0"';
/** The tag of what the page shows. */
let shownTag = '*';
/** The tag that what is staged was made on. */
let madeOn = '*';
let isBusy = false;
/** Ends once what is being sent is settled, and its review closed. */
let sending = Promise.resolve();
/** The staged backends that somebody else has edited meanwhile. @type {Set<string>} */
let conflicts = new Set();
/** Whether the person has yet to be shown one of them. */
let isUnseen = false;
/** Why the review that is open was not applied. @type {(() => string) | null} */
let refused = null;
/** Whether an answer never came, and nothing is known yet of what stands. */
let isUnknown = false;
/** What waited for the backends of a single act before it; leaving its review takes the act back. @type {Map<string, Staged | null> | null} */
let proposed = null;
/** What waits was left by a page before this one, and is not yet looked at beside what stands now. */
let isRestored = false;
/** Makes the lines of the review, once it is loaded. @type {typeof import('./review.js').reviewRows} */
let reviewRows = () => [];
/** What waits, shown before it is applied. */
const dialog = new DiffDialog({
  shown,
  rows: () => reviewRows(allStaged(), conflicts, new Set(gone())),
  carryOut: () => void apply(),
  left: () => {
    refused = null;
    const before = proposed;
    proposed = null;
    if (before !== null) restage(before);
  },
});

/** @param {() => Promise<import('./shapes.js').WholeAnswer | null>} look reads the whole anew */
export function startApply(look) {
  lookNow = look;
  byId('pending-review', HTMLButtonElement).addEventListener('click', () => void review());
  byId('pending-discard', HTMLButtonElement).addEventListener('click', () => unstage());
  byId('pending-apply', HTMLButtonElement).addEventListener('click', () => void apply());
  const left = recallDraft('staged');
  if (Array.isArray(left)) restoreStaged(left);
  isRestored = allStaged().length > 0;
  if (isRestored) madeOn = NEVER;
  onStaged(() => {
    keepDraft('staged', allStaged().length === 0 ? null : allStaged());
    conflicts = new Set([...conflicts].filter((id) => stagedOf(id) !== null));
    isUnseen &&= conflicts.size > 0;
    refused = null;
    followTag();
    show();
  });
  onLanguage(show);
}

/** @param {import('./shapes.js').WholeAnswer} whole that the page shows */
export function knowWhole({ etag, backends: known }) {
  shownTag = etag;
  backends = known;
  followTag();
  if (isRestored) void lookAtRestored();
  else meetOthers();
  // What was sent and is in force waits no more; the rest is not.
  if (isUnknown) refused = () => words().notInForce;
  isUnknown = false;
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
  meetOthers();
  show();
}

/** Marks what others have changed, as soon as the page knows of it. */
function meetOthers() {
  // What is being sent stands before its answer has come.
  if (isBusy || madeOn === shownTag) return;
  madeOn = shownTag;
  const { edited, made } = overtaken(backends);
  if (edited.length + made.length === 0) return;
  conflicts = new Set([...conflicts, ...edited]);
  if (edited.length > 0) isUnseen = !dialog.isOpen();
  const settled = rebase(backends);
  // What was sent without an answer has a report of its own.
  if (settled > 0 && !isUnknown) reportSettled(settled);
}

/** The backends with edits that are listed no more: the server would refuse all of the change. */
function gone() {
  return overtaken(backends).gone;
}

/** While edits wait, the tag stays the one that they were made on. */
function followTag() {
  if (allStaged().length === 0) madeOn = shownTag;
}

/** @returns {Edit[]} */
function waiting() {
  return allStaged().map(({ id, edit }) => ({ id, ...edit }));
}

export async function review() {
  if (allStaged().length === 0) return;
  try {
    ({ reviewRows } = await import('./review.js'));
  } catch {
    return connectionFailed(new api.CallError('away', ''));
  }
  if (allStaged().length === 0) return;
  dialog.open();
  isUnseen = false;
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
  // A report offers to take back what is not yet settled here, and that would close the review.
  await sending;
  const byKey = new Map(known.map((backend) => [backend.id, backend]));
  const before = new Map(edits.map(({ id }) => [id, allStaged().find((one) => one.id === id) ?? null]));
  for (const { id, ...edit } of edits) {
    const backend = byKey.get(id);
    if (backend !== undefined) stage([backend], edit);
  }
  await review();
  if (dialog.isOpen()) proposed = before;
}

/** Nothing is sent without the word. */
async function askForWord() {
  if (dialog.isOpen()) dialog.askForWord();
  else await review();
}

/** One call for all. What somebody else has not touched goes through however often they edit. */
export async function apply() {
  if (isBusy || allStaged().length === 0) return;
  // Nothing of others is overwritten unseen.
  if (gone().length > 0 || isUnseen) return review();
  if (!dialog.isTyped(wordOf(backends, waiting()))) return askForWord();
  sending = send();
  return sending;
}

async function send() {
  isBusy = true;
  refused = null;
  show();
  const sent = allStaged();
  const result = await changeAll(waiting(), madeOn, dialog.note());
  isBusy = false;
  if (result === 'done') {
    conflicts = new Set();
    proposed = null;
    dialog.done();
    settle(sent);
    return show();
  }
  isUnknown = result !== 'stale' && result().isUnknown === true;
  // Whatever it was refused for, the page may not know yet what stands now.
  const isRead = (await lookNow()) !== null;
  const isBlocked = gone().length > 0;
  if (result === 'stale' && isRead && !isBlocked && conflicts.size === 0) return apply();
  if (dialog.isOpen()) refused = reasonOf(result, isRead);
  else if (isBlocked || conflicts.size > 0) await review();
  show();
}

/**
 * @param {'stale' | (() => import('./report.js').Outcome)} result of what was sent
 * @param {boolean} isRead what stands now
 */
function reasonOf(result, isRead) {
  if (result === 'stale') return isRead ? null : () => words().failedAway;
  return result().isUnknown && isRead ? () => words().notInForce : () => result().text;
}

function show() {
  const staged = allStaged();
  const bar = byId('pending', HTMLElement);
  bar.hidden = staged.length === 0;
  setText(byId('pending-count', HTMLElement), words().pending(changeCount(), staged.length));
  const button = byId('pending-apply', HTMLButtonElement);
  setAttribute(button, 'aria-busy', isBusy ? 'true' : null);
  setText(button, isUnseen ? words().apply : actionText());
  const conflict = byId('pending-conflict', HTMLElement);
  const blocked = staged.length === 0 ? 0 : gone().length;
  conflict.hidden = blocked + conflicts.size === 0;
  setText(conflict, blocked > 0 ? words().goneCount(blocked) : words().conflictsOf(conflicts.size));
  if (staged.length === 0) dialog.close();
  const edits = waiting();
  const carry = staged.length === 0 ? null : carryText(backends, edits);
  writeCarry('pending-reach', carry === null ? null : { ...carry, text: words().sentences(sumText(backends, edits), carry.text) });
  dialog.write();
}

/** @returns {import('./diff-dialog.js').Shown} */
function shown() {
  const edits = waiting();
  const blocked = gone();
  return {
    title: words().pendingOf(words().pendingChanges, changeCount(), edits.length),
    sum: sumText(backends, edits),
    carry: edits.length === 0 ? null : carryText(backends, edits),
    problem: problemOf(blocked),
    heads: [words().oldValue, words().newValue],
    word: wordOf(backends, edits),
    left: partLeft(reachOf(backends, edits)),
    hint: words().diffHint,
    action: actionText(),
    isBusy,
    isReady: edits.length > 0 && blocked.length === 0,
  };
}

/** @param {string[]} blocked the backends that are gone @returns {import('./diff-dialog.js').Shown['problem']} */
function problemOf(blocked) {
  const texts = [];
  const ways = [];
  if (blocked.length > 0) {
    texts.push(words().goneOf(blocked.slice(0, NAMED).join(', '), blocked.length, NAMED));
    ways.push({ text: words().takeOut(blocked.length), act: () => unstage(gone()) });
  }
  if (conflicts.size > 0) {
    texts.push(words().conflictHint);
    ways.push({ text: words().dropMine, act: () => unstage([...conflicts]) });
  }
  if (refused !== null && blocked.length === 0) texts.push(refused());
  return texts.length === 0 ? null : { text: words().refusal.sentences(texts), ways };
}

/** Parts of backends. */
function changeCount() {
  return allStaged().reduce((count, { edit }) => count + Object.keys(edit).length, 0);
}

function actionText() {
  return isBusy ? words().applying : conflicts.size > 0 ? words().applyMine : words().apply;
}
