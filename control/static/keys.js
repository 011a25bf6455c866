/**
 * @file The keyboard. A key counts only where it types nothing: not in a field, not with a modifier,
 * not while a dialog is open. Escape in a field is that field's own.
 */

import { byId, element } from './dom.js';
import { onLanguage, words } from './i18n.js';

/**
 * @param {{refresh: () => void, ping: () => void, sync: () => void, audit: () => void}} actions
 */
export function startKeys(actions) {
  /** @type {Record<string, () => void>} */
  const keys = {
    '/': () => byId('filter', HTMLInputElement).select(),
    r: actions.refresh,
    p: actions.ping,
    s: actions.sync,
    a: actions.audit,
    '?': openHelp,
  };
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    if (document.querySelector('dialog[open]') !== null || isTyping(event.target)) return;
    const act = keys[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
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

function openHelp() {
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

/** @param {EventTarget | null} target */
function isTyping(target) {
  return target instanceof HTMLElement && target.matches('input:not([type=radio]), textarea, select');
}
