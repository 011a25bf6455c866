/**
 * @file The last edits of overrides and settings, and the way back to what stood before one of them: first
 * shown, then carried out as an edit of its own.
 */

import * as api from './api.js';
import { isWord, wordOf } from './capacity.js';
import { change, failureOutcome } from './changes.js';
import { diffRow, valueText } from './diff.js';
import { byId, element, setAttribute, setText } from './dom.js';
import { momentText } from './format.js';
import { onLanguage, words } from './i18n.js';
import { guarded } from './may.js';
import { sumText } from './reach.js';

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
/** The tag that the dialog's difference was made on. */
let madeOn = '*';
/** What the person types where the way back leaves too little. @type {string | null} */
let word = null;
let isBusy = false;
/** The tag of the edits that the list was read for. */
let readFor = '';

export function startEdits() {
  byId('edits-more', HTMLButtonElement).addEventListener('click', () => {
    isWhole = true;
    write();
  });
  byId('roll-back-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    void rollBack();
  });
  onLanguage(write);
}

/**
 * Reads the list again where somebody has edited.
 * @param {import('./shapes.js').WholeAnswer} whole
 */
export function showEdits({ etag }) {
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
    element('time', { class: 'faint', datetime: new Date(edit.at_ms).toISOString() }, momentText(edit.at_ms)),
    element('span', { class: 'edit-what' }, whatText(edit)),
    element('span', { class: 'faint' }, edit.actor),
    element('span', { class: 'edit-note' }, edit.note ?? ''),
    button,
  );
}

/** @param {PastEdit} edit */
function whatText({ overrides, settings }) {
  const told = words().rollBack;
  const parts = [];
  const [first] = overrides;
  if (first !== undefined && overrides.length === 1) {
    parts.push(`${first.id}: ${partsOf(first.old, first.new).map((part) => partText(part, first.old, first.new)).join(', ')}`);
  }
  if (overrides.length > 1) parts.push(told.backends(overrides.length));
  if (settings !== null) parts.push(told.settings(changedKeys(settings.old, settings.new).map(([key]) => key).join(', ')));
  return parts.join('; ');
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

/**
 * Says what the overrides of a way back do to the capacity, and asks for a word where they leave too little.
 * @param {WayBack['changes']} changes
 * @param {import('./shapes.js').Backend[]} backends
 */
function askForWord(changes, backends) {
  const made = changes.map(({ id, old, new: now }) => {
    const parts = partsOf(old.override ?? {}, now.override ?? {});
    return { id, ...Object.fromEntries(parts.map((part) => [part, now[part]])) };
  });
  word = wordOf(backends, made);
  byId('roll-back-confirm', HTMLElement).hidden = word === null;
  setText(byId('roll-back-confirm-text', HTMLElement), word === null ? '' : words().typeToConfirm(word));
  if (made.length === 0) return;
  const sum = byId('roll-back-sum', HTMLElement);
  setText(sum, words().sentences(sumText(backends, made), sum.textContent ?? ''));
}

/** Shows what the way back would change. @param {PastEdit} edit */
async function show(edit) {
  chosen = edit;
  for (const id of ['roll-back-note', 'roll-back-word']) byId(id, HTMLInputElement).value = '';
  problem('');
  byId('roll-back-dialog', HTMLDialogElement).showModal();
  await tryOut();
}

async function tryOut() {
  if (chosen === null) return;
  setText(byId('roll-back-title', HTMLElement), words().rollBack.title(momentText(chosen.at_ms)));
  byId('roll-back-rows', HTMLTableSectionElement).replaceChildren();
  setText(byId('roll-back-sum', HTMLElement), words().loading);
  byId('roll-back-confirm', HTMLElement).hidden = true;
  const now = byId('roll-back-now', HTMLButtonElement);
  now.disabled = true;
  try {
    const [answer, { backends }] = await Promise.all([api.tryRollBack(chosen.number), api.readWhole()]);
    madeOn = answer.etag;
    now.disabled = writeDifference(answer) === 0;
    askForWord(answer.changes, backends);
    (word === null ? now : byId('roll-back-word', HTMLInputElement)).focus();
  } catch (error) {
    if (!(error instanceof api.CallError)) throw error;
    setText(byId('roll-back-sum', HTMLElement), '');
    problem(failureOutcome(error).text);
  }
}

/** @param {WayBack} answer @returns {number} how many lines differ */
function writeDifference({ changes, settings, gone }) {
  const told = words().rollBack;
  /** @type {unknown[][]} */
  const lines = changes.flatMap(({ id, old, new: now }) => {
    const [before, after] = [old.override ?? {}, now.override ?? {}];
    return partsOf(before, after).map((part) => [id, words().part[part], before[part], after[part]]);
  });
  if (settings !== null) {
    lines.push(...changedKeys(settings.old, settings.new).map(([key, before, after]) => [told.setting, key, before, after]));
  }
  const rows = lines.slice(0, MAX_LINES).map(([what, part, before, after]) => {
    const head = element('th', { scope: 'row', class: 'mono' }, String(what));
    return diffRow(head, String(part), valueText(before), valueText(after));
  });
  byId('roll-back-rows', HTMLTableSectionElement).replaceChildren(...rows);
  const sum = [lines.length === 0 ? told.nothing : told.sum(lines.length)];
  if (lines.length > MAX_LINES) sum.push(told.first(MAX_LINES));
  if (gone.length > 0) sum.push(told.gone(gone.join(', ')));
  setText(byId('roll-back-sum', HTMLElement), sum.join(' '));
  return lines.length;
}

async function rollBack() {
  if (chosen === null || isBusy) return;
  const field = byId('roll-back-word', HTMLInputElement);
  const isTyped = isWord(field.value, word);
  setAttribute(field, 'aria-invalid', isTyped ? null : 'true');
  if (!isTyped) return field.focus();
  isBusy = true;
  const { number, at_ms: at } = chosen;
  const note = byId('roll-back-note', HTMLInputElement).value.trim();
  const now = byId('roll-back-now', HTMLButtonElement);
  now.setAttribute('aria-busy', 'true');
  try {
    const answer = await api.rollBack(number, madeOn, note);
    byId('roll-back-dialog', HTMLDialogElement).close();
    await change(['rollBackOf', momentText(at)], async () => answer);
  } catch (error) {
    if (!(error instanceof api.CallError)) throw error;
    if (error.kind === 'stale') {
      await tryOut();
      problem(words().rollBack.stale);
    } else {
      problem(failureOutcome(error).text);
    }
  } finally {
    isBusy = false;
    now.removeAttribute('aria-busy');
  }
}

/** @param {string} text */
function problem(text) {
  const place = byId('roll-back-problem', HTMLElement);
  place.hidden = text === '';
  setText(place, text);
}
