/**
 * @file The keyboard. A key counts only where it types nothing: not in a field, not with a modifier,
 * not while a dialog is open. Escape in a field is that field's own.
 */

import { byId, element } from './dom.js';
import { onLanguage, words } from './i18n.js';
import { currentPage, goTo, keysOfPage, toggleRail } from './pages.js';

/**
 * @typedef {object} Actions what keys do elsewhere
 * @property {() => void} refresh
 * @property {() => void} ping
 * @property {() => void} sync
 * @property {() => void} apply
 * @property {() => void} undo
 * @property {() => void} palette
 */

/**
 * After `g`, however much later: who hesitates is taken to a page, where the second key alone might
 * change something.
 * @type {Record<string, import('./pages.js').Page>}
 */
const PAGE_KEYS = {
  o: 'overview',
  b: 'backends',
  a: 'changes',
  d: 'diagnostics',
  m: 'batch',
  s: 'settings',
  i: 'api',
};

/** @param {Actions} actions */
export function startKeys(actions) {
  /** @type {Record<string, () => void>} */
  const keys = {
    '/': filter,
    r: actions.refresh,
    p: actions.ping,
    s: actions.sync,
    a: () => goTo('changes'),
    u: actions.undo,
    '?': openHelp,
    '[': toggleRail,
  };
  let isGoing = false;
  document.addEventListener('keydown', (event) => {
    const isSecond = isGoing;
    // Whatever is done next ends it, but for holding `g` down.
    if (!event.repeat) isGoing = false;
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      const open = document.querySelector('dialog[open]');
      if (open === null) return actions.apply();
      // What waits is behind the dialog: only the dialog's own form is sent.
      event.preventDefault();
      open.querySelector('form')?.requestSubmit();
      return;
    }
    if (event.key.toLowerCase() === 'k' && (event.ctrlKey || event.metaKey) && !event.shiftKey) {
      event.preventDefault();
      if (document.querySelector('dialog[open]') === null) actions.palette();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    if (document.querySelector('dialog[open]') !== null || isTyping(event.target)) return;
    const page = isSecond ? PAGE_KEYS[event.key] : undefined;
    isGoing = event.key === 'g';
    const act = page === undefined ? (keysOfPage()[event.key] ?? keys[event.key]) : () => goTo(page);
    if (act === undefined) return;
    event.preventDefault();
    act();
  });
  document.addEventListener('pointerdown', () => {
    isGoing = false;
  });
  byId('open-help', HTMLButtonElement).addEventListener('click', openHelp);
  for (const button of document.querySelectorAll('dialog [data-close]')) {
    button.addEventListener('click', () => button.closest('dialog')?.close());
  }
  for (const dialog of document.querySelectorAll('dialog')) {
    // A click on the dialog itself, not on what it holds, is one on the backdrop.
    dialog.addEventListener('click', (event) => {
      if (event.target === dialog) dialog.close();
    });
  }
  writeHelp();
  onLanguage(writeHelp);
}

/** The filter of the page; where it has none, that of the table. */
function filter() {
  if (currentPage() === 'changes') return byId('audit-filter', HTMLInputElement).select();
  if (currentPage() === 'settings') return byId('fields-filter', HTMLInputElement).select();
  if (currentPage() !== 'backends') goTo('backends');
  byId('filter', HTMLInputElement).select();
}

export function openHelp() {
  byId('help-dialog', HTMLDialogElement).showModal();
}

function writeHelp() {
  const { keys } = words();
  /** @type {[string, string][]} */
  const lines = [
    ['/', keys.filter],
    ['r', keys.refresh],
    ['p', keys.ping],
    ['s', keys.sync],
    ['a', keys.audit],
    ['j k', keys.move],
    ['↑ ↓ Home End', keys.rows],
    ['← →', keys.along],
    ['Enter', keys.open],
    ['x', keys.choose],
    ['e', keys.weight],
    ['↑ ↓', keys.step],
    ['d', keys.drain],
    ['u', keys.undo],
    ['Ctrl Enter', keys.apply],
    [Object.keys(PAGE_KEYS).map((key) => `g ${key}`).join('  '), keys.go],
    ['Ctrl K', keys.palette],
    ['[', keys.rail],
    ['Enter', keys.enter],
    ['Esc', keys.escape],
    ['?', keys.help],
  ];
  byId('keys', HTMLElement).replaceChildren(
    ...lines.flatMap(([key, meaning]) => [
      element('dt', {}, element('kbd', {}, key)),
      element('dd', {}, meaning),
    ]),
  );
}

/**
 * A dialog that has just closed still has the focus for a moment, in a field that nobody sees any more.
 * @param {EventTarget | null} target
 */
function isTyping(target) {
  if (!(target instanceof HTMLElement) || target.closest('dialog:not([open])') !== null) return false;
  return target.matches('input:not([type=radio]), textarea, select');
}
