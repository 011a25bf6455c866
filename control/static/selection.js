/**
 * @file Which rows are chosen, and the bar that stages one edit for all of them.
 */

import { byId, setText } from './dom.js';
import { onLanguage, words } from './i18n.js';
import { stage } from './staged.js';

/** @typedef {import('./shapes.js').Backend} Backend */

/** @type {Set<string>} */
const chosen = new Set();
/** @type {Backend[]} */
let backends = [];
/** @type {() => void} */
let rewrite = () => {};
/** @type {() => string[]} */
let visible = () => [];

/**
 * @param {() => void} rewriteRows shows the choice in the rows
 * @param {() => string[]} visibleIds the rows that the filter shows
 */
export function startSelection(rewriteRows, visibleIds) {
  rewrite = rewriteRows;
  visible = visibleIds;
  const onClick = (/** @type {string} */ id, /** @type {() => void} */ act) =>
    byId(id, HTMLButtonElement).addEventListener('click', act);
  byId('bulk-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    const field = byId('bulk-weight', HTMLInputElement);
    const weight = Number(field.value);
    const isWeight = /^\d{1,4}$/.test(field.value.trim()) && weight <= 1000;
    field.toggleAttribute('aria-invalid', !isWeight);
    if (isWeight) stageAll({ weight });
  });
  onClick('bulk-enable', () => stageAll({ enabled: true }));
  onClick('bulk-disable', () => stageAll({ enabled: false }));
  onClick('bulk-drain', () => stageAll({ drain: true }));
  onClick('bulk-undrain', () => stageAll({ drain: false }));
  onClick('bulk-clear', () => stageAll({ weight: null, enabled: null, drain: null }));
  onClick('bulk-none', () => choose([]));
  onClick('bulk-all', () => choose(visible()));
  onLanguage(show);
}

/** @param {Backend[]} known those that are gone are chosen no more */
export function knowBackends(known) {
  backends = known;
  if (chosen.size === 0) return;
  const ids = new Set(known.map(({ id }) => id));
  for (const id of chosen) if (!ids.has(id)) chosen.delete(id);
  show();
}

/** @param {string} id */
export function isChosen(id) {
  return chosen.has(id);
}

/** Those that are chosen, as they stand. */
export function chosenBackends() {
  return chosen.size === 0 ? [] : backends.filter(({ id }) => chosen.has(id));
}

/** @param {string} id */
export function toggleChosen(id) {
  if (!chosen.delete(id)) chosen.add(id);
  show();
  rewrite();
}

/** @param {string[]} ids */
function choose(ids) {
  chosen.clear();
  for (const id of ids) chosen.add(id);
  show();
  rewrite();
}

/** @param {Omit<import('./shapes.js').Edit, 'id'>} edit */
function stageAll(edit) {
  stage(backends.filter(({ id }) => chosen.has(id)), edit);
}

function show() {
  byId('bulk', HTMLElement).hidden = chosen.size === 0;
  setText(byId('bulk-count', HTMLElement), words().selected(chosen.size));
}
