/**
 * @file Applying what is staged: the bar that counts it, the dialog that shows old and new, the one
 * call that carries all of it or none, and what to do where somebody else was faster.
 */

import { changeAll } from './changes.js';
import { byId, element, setText } from './dom.js';
import { UNKNOWN } from './format.js';
import { onLanguage, words } from './i18n.js';
import { addReport } from './report.js';
import { allStaged, onStaged, overtaken, rebase, settle, unstage } from './staged.js';

/** @typedef {import('./staged.js').Staged} Staged */
/** @typedef {import('./staged.js').Stand} Stand */

/** @type {() => Promise<import('./api.js').WholeAnswer | null>} */
let lookNow = async () => null;
/** The tag of what the page shows. */
let shown = '*';
/** The tag that what is staged was made on. */
let madeOn = '*';
let isBusy = false;
/** What somebody else changed meanwhile, by backend. @type {Map<string, Stand>} */
let conflicts = new Map();

/** @param {() => Promise<import('./api.js').WholeAnswer | null>} look reads the whole anew */
export function startApply(look) {
  lookNow = look;
  byId('pending-review', HTMLButtonElement).addEventListener('click', review);
  byId('pending-discard', HTMLButtonElement).addEventListener('click', discard);
  byId('pending-apply', HTMLButtonElement).addEventListener('click', () => void apply());
  byId('diff-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    void apply();
  });
  byId('diff-drop', HTMLButtonElement).addEventListener('click', () => {
    unstage([...conflicts.keys()]);
    conflicts = new Map();
    show();
    if (allStaged().length === 0) byId('diff-dialog', HTMLDialogElement).close();
  });
  onStaged(() => {
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

function discard() {
  conflicts = new Map();
  unstage();
}

/** One call for all. What somebody else has not touched goes through however often they edit. */
export async function apply() {
  if (isBusy || allStaged().length === 0) return;
  isBusy = true;
  show();
  const sent = allStaged();
  const result = await changeAll(
    sent.map(({ id, edit }) => ({ id, ...edit })),
    madeOn,
  );
  isBusy = false;
  if (result !== 'stale') {
    if (result === 'done') {
      conflicts = new Map();
      byId('diff-dialog', HTMLDialogElement).close();
      settle(sent);
    }
    show();
    return;
  }
  const whole = await lookNow();
  if (whole === null) return show();
  madeOn = whole.etag;
  const met = overtaken(whole.backends);
  if (met.length === 0) return apply();
  conflicts = new Map(met.flatMap(({ staged, now }) => (now === null ? [] : [[staged.id, now]])));
  tellGone(met.filter(({ now }) => now === null).map(({ staged }) => staged.id));
  rebase(whole.backends);
  show();
  const dialog = byId('diff-dialog', HTMLDialogElement);
  if (allStaged().length === 0) dialog.close();
  else if (!dialog.open) review();
}

/** Edits of backends that are listed no more go with them. @param {string[]} ids */
function tellGone(ids) {
  if (ids.length === 0) return;
  const what = () => words().changedBackends(ids.length);
  const outcome = () => ({ level: /** @type {const} */ ('bad'), text: words().editsGone(ids.join(', ')) });
  addReport({ what, outcome, info: '', undo: null });
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
  // Thousands of lines that nobody sees would be written with every edit.
  const seen = byId('diff-dialog', HTMLDialogElement).open ? staged : [];
  byId('diff-rows', HTMLTableSectionElement).replaceChildren(...seen.flatMap(diffRows));
}

/** @param {Staged} staged */
function diffRows({ id, edit, base }) {
  return Object.entries(edit).map(([part, value]) => {
    const name = /** @type {keyof Stand} */ (part);
    const before = conflicts.get(id)?.[name] ?? base[name];
    return element(
      'tr',
      { class: conflicts.has(id) ? 'is-conflict' : '' },
      element('th', { scope: 'row', class: 'mono' }, id),
      element('td', {}, words().part[name]),
      element('td', { class: 'number' }, valueText(before)),
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
