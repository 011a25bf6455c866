/**
 * @file The last edits of overrides and settings, and the way back to what stood before one of them: first
 * shown, then carried out as an edit of its own.
 */

import * as api from './api.js';
import { partLeft, reachOf, wordOf } from './capacity.js';
import { change, failureOutcome } from './changes.js';
import { DiffDialog } from './diff-dialog.js';
import { diffRow, valueText } from './diff.js';
import { byId, element, setText } from './dom.js';
import { sumText } from './edit-effects.js';
import { momentText } from './format.js';
import { onLanguage, words } from './i18n.js';
import { guarded } from './permissions.js';

/** @typedef {import('./shapes.js').PastEdit} PastEdit */
/** @typedef {import('./shapes.js').WayBack} WayBack */
/** @typedef {import('./shapes.js').Parts} Parts */

/** Edits on the page at first. */
const SHOWN = 5;
/** Lines of one difference. */
const MAX_LINES = 200;

/** The newest first. @type {PastEdit[]} */
let edits = [];
let isWhole = false;
/** The edit that the dialog is about. @type {PastEdit | null} */
let chosen = null;
/** The way back to before it, and the backends as they stood then; null until it is known. @type {{way: WayBack, backends: import('./shapes.js').Backend[]} | null} */
let found = null;
/** Why it is not made. */
let problem = () => '';
/** Whether an answer never came, and nothing is known yet of what became of it. */
let isUnknown = false;
let isBusy = false;
/** The way back, shown before it is made. */
const dialog = new DiffDialog({ shown, rows, carryOut: () => void rollBack() });
/** The tag of the edits that the list was read for. */
let readFor = '';

export function startEdits() {
  byId('edits-more', HTMLButtonElement).addEventListener('click', () => {
    isWhole = true;
    write();
  });
  onLanguage(write);
}

/**
 * Reads the list again where somebody has edited.
 * @param {import('./shapes.js').WholeAnswer} whole
 */
export function showEdits({ etag, backends }) {
  // What the way back leaves depends on them.
  if (found !== null && dialog.isOpen()) {
    found.backends = backends;
    dialog.write();
  }
  if (isUnknown && dialog.isOpen() && !isBusy) void lookAtUnknown();
  if (etag === readFor) return;
  readFor = etag;
  void readEdits();
}

async function readEdits() {
  try {
    edits = (await api.readEdits()).edits;
  } catch (error) {
    // A server that is away is the banner's to tell; the list stays.
    if (!(error instanceof api.CallError)) throw error;
    readFor = '';
  }
  write();
}

function write() {
  const shown = isWhole ? edits : edits.slice(0, SHOWN);
  byId('edits', HTMLOListElement).replaceChildren(...shown.map(lineElement));
  byId('edits-none', HTMLElement).hidden = edits.length > 0;
  const more = byId('edits-more', HTMLButtonElement);
  more.hidden = shown.length === edits.length;
  setText(more, words().rollBack.more(edits.length - shown.length));
}

/** @param {PastEdit} edit */
function lineElement(edit) {
  const told = words().rollBack;
  const button = element('button', { type: 'button', class: 'small', 'data-needs': 'write' }, told.button);
  button.addEventListener('click', guarded('write', () => told.button, () => void show(edit)));
  return element(
    'li',
    { class: 'edit' },
    // A roll back names the edit by its number.
    element('span', { class: 'faint' }, `#${edit.number} `, element('time', { datetime: new Date(edit.at_ms).toISOString() }, momentText(edit.at_ms))),
    element('span', { class: 'edit-what' }, whatText(edit)),
    element('span', { class: 'faint' }, edit.actor),
    element('span', { class: 'edit-note' }, edit.note ?? ''),
    button,
  );
}

/** @param {PastEdit} edit */
function whatText({ overrides, settings, before_edit: before }) {
  const told = words().rollBack;
  const parts = [];
  const [first] = overrides;
  if (first !== undefined && overrides.length === 1) {
    parts.push(`${first.id}: ${partsOf(first.old, first.new).map((part) => partText(part, first.old, first.new)).join(', ')}`);
  }
  if (overrides.length > 1) parts.push(told.backends(overrides.length));
  if (settings !== null) parts.push(told.settings(changedKeys(settings.old, settings.new).map(([key]) => key).join(', ')));
  return typeof before === 'number' ? words().ofReason(words().rollBackBefore(before), parts.join('; ')) : parts.join('; ');
}

/**
 * @param {Parts} old
 * @param {Parts} now
 * @returns {(keyof Parts)[]}
 */
function partsOf(old, now) {
  const all = /** @type {const} */ (['weight', 'enabled', 'drain']);
  return all.filter((part) => (old[part] ?? null) !== (now[part] ?? null));
}

/**
 * @param {keyof Parts} part
 * @param {Parts} old
 * @param {Parts} now
 */
function partText(part, old, now) {
  return `${words().part[part]} ${valueText(old[part])} → ${valueText(now[part])}`;
}

/**
 * The settings of which the two say something else, by their names in the settings file.
 * @param {Record<string, any>} old
 * @param {Record<string, any>} now
 * @returns {[string, unknown, unknown][]}
 */
function changedKeys(old, now) {
  const flat = (/** @type {Record<string, any>} */ layer) => ({
    ...(layer.algorithm === undefined ? {} : { algorithm: layer.algorithm }),
    ...Object.fromEntries(Object.entries(layer.listen ?? {}).map(([key, value]) => [`listen.${key}`, value])),
    ...layer.proxy,
  });
  const [before, after] = [flat(old), flat(now)];
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const changed = keys.filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]));
  return changed.map((key) => [key, before[key], after[key]]);
}

/** Shows what the way back would change. @param {PastEdit} edit */
async function show(edit) {
  chosen = edit;
  problem = () => '';
  isUnknown = false;
  found = null;
  dialog.draft = '';
  dialog.open();
  await tryOut();
}

/** Shows what it would change now. That is said last: who reads it may go on at once. */
async function lookAtStale() {
  await tryOut();
  if (found !== null) problem = () => words().rollBack.stale;
}

/** Tries out again what was sent without an answer: where nothing of it is left to do, it was made. */
async function lookAtUnknown() {
  isUnknown = false;
  await tryOut();
  if (found === null) isUnknown = true;
  else problem = linesOf(found.way).length > 0 ? () => words().notInForce : () => words().inForceUnanswered;
  dialog.write();
}

async function tryOut() {
  if (chosen === null) return;
  found = null;
  dialog.write();
  try {
    const [way, { backends }] = await Promise.all([api.tryRollBack(chosen.number), api.readWhole()]);
    found = { way, backends };
  } catch (error) {
    if (!(error instanceof api.CallError)) throw error;
    problem = () => failureOutcome(error).text;
  }
  dialog.write();
  dialog.focus();
}

/** @returns {import('./diff-dialog.js').Shown} */
function shown() {
  const told = words().rollBack;
  const made = found === null ? [] : editsOf(found.way);
  const text = problem();
  return {
    title: chosen === null ? '' : told.title(momentText(chosen.at_ms)),
    sum: found !== null ? (made.length === 0 ? countText(found.way) : sumText(found.backends, made)) : text === '' ? words().loading : '',
    carry: null,
    problem: text === '' ? null : { text, ways: [] },
    heads: [told.now, told.then],
    word: found === null ? null : wordOf(found.backends, made),
    left: found === null ? 1 : partLeft(reachOf(found.backends, made)),
    hint: found === null || made.length === 0 ? '' : countText(found.way),
    action: told.button,
    isBusy,
    isReady: found !== null && linesOf(found.way).length > 0,
  };
}

/** What a way back does to the overrides, as edits. @param {WayBack} way */
function editsOf({ changes }) {
  return changes.map(({ id, old, new: now }) => {
    const parts = partsOf(old.override ?? {}, now.override ?? {});
    return { id, ...Object.fromEntries(parts.map((part) => [part, now[part]])) };
  });
}

/** How much of what a way back changes, and what it leaves. @param {WayBack} way */
function countText(way) {
  const told = words().rollBack;
  const count = linesOf(way).length;
  const sum = [count === 0 ? told.nothing : told.sum(count)];
  if (count > MAX_LINES) sum.push(told.first(MAX_LINES));
  if (way.gone.length > 0) sum.push(told.gone(way.gone.join(', ')));
  return sum.join(' ');
}

/** @returns {HTMLTableRowElement[]} */
function rows() {
  const lines = found === null ? [] : linesOf(found.way);
  return lines.slice(0, MAX_LINES).map(([what, part, before, after]) => {
    const head = element('th', { scope: 'row', class: 'mono' }, what);
    return diffRow(head, part, valueText(before), valueText(after));
  });
}

/** @param {WayBack} way @returns {[what: string, part: string, before: unknown, after: unknown][]} */
function linesOf({ changes, settings }) {
  /** @type {[string, string, unknown, unknown][]} */
  const lines = changes.flatMap(({ id, old, new: now }) => {
    const [before, after] = [old.override ?? {}, now.override ?? {}];
    return partsOf(before, after).map((part) => /** @type {[string, string, unknown, unknown]} */ ([id, words().part[part], before[part], after[part]]));
  });
  const keys = settings === null ? [] : changedKeys(settings.old, settings.new);
  for (const [key, before, after] of keys) lines.push([words().rollBack.setting, key, before, after]);
  return lines;
}

async function rollBack() {
  if (chosen === null || found === null || isBusy) return;
  isBusy = true;
  problem = () => '';
  dialog.write();
  const { number, at_ms: at } = chosen;
  try {
    const answer = await api.rollBack(number, found.way.etag, dialog.note());
    dialog.done();
    // It is an edit of the list, which has the way back from it.
    await change(['rollBackOf', momentText(at)], async () => ({ sync: answer.sync, undo: null }));
  } catch (error) {
    if (!(error instanceof api.CallError)) throw error;
    if (error.kind === 'stale') await lookAtStale();
    else problem = () => failureOutcome(error).text;
    if (failureOutcome(error).isUnknown) await lookAtUnknown();
  } finally {
    isBusy = false;
    dialog.write();
  }
}
