/**
 * @file What the person may do here, by the scope of the token they signed in with, and signing out.
 *
 * A control that changes something carries `data-needs="write"` or `data-needs="admin"` in its markup.
 * Where the scope is less, it is disabled and says why; so is one that is added later. What a key or
 * the palette does goes through `guarded`. The server refuses all the same: this is only so that nobody
 * presses a dead button.
 */

import { readSession, signOut } from './api.js';
import { byId, setText } from './dom.js';
import { onLanguage, words } from './i18n.js';
import { addReport } from './report.js';
import { forgetDrafts } from './storage.js';

/** @typedef {import('./shapes.js').Scope} Scope */
/** @typedef {'write' | 'admin'} Needs */

/** What each scope may use, by the name in `data-needs`. @type {Record<Scope, string[]>} */
const ALLOWED = { read: [], register: [], write: ['write'], admin: ['write', 'admin'] };

/** @type {Scope} */
let scope = 'admin';

/** Asks who we are, and binds the button that signs out. */
export async function startMay() {
  byId('sign-out', HTMLButtonElement).addEventListener('click', async () => {
    await signOut();
    forgetDrafts();
    location.replace('/login');
  });
  // Without an answer the banner says what is wrong, and nothing is known to be forbidden.
  const session = await readSession().catch(() => null);
  if (session === null || session.scope === null) return;
  scope = session.scope;
  document.documentElement.dataset.may = scope;
  byId('sign-out', HTMLButtonElement).hidden = !session.signed_in;
  const write = () => {
    const note = byId('may-note', HTMLElement);
    note.hidden = scope === 'admin';
    setText(note, words().mayNote[scope]);
    note.title = session.by ?? '';
    bindAll(document.body);
  };
  write();
  onLanguage(write);
  if (scope === 'admin') return;
  new MutationObserver((records) => {
    for (const record of records) for (const node of record.addedNodes) bindAll(node);
  }).observe(document.body, { childList: true, subtree: true });
}

/**
 * `act` for who may do it; for anybody else a line that says why nothing is done.
 * @param {Needs} needs
 * @param {() => string} what it is called
 * @param {() => unknown} act
 * @returns {() => void}
 */
export function guarded(needs, what, act) {
  return () => {
    if (ALLOWED[scope].includes(needs)) return void act();
    const outcome = () => /** @type {const} */ ({ level: 'warn', text: words().needsScope(needs) });
    addReport({ what, outcome, info: '', undo: null });
  };
}

/** @param {Node} node */
function bindAll(node) {
  if (!(node instanceof Element)) return;
  for (const target of [node, ...node.querySelectorAll('[data-needs]')]) {
    const needs = target.getAttribute('data-needs');
    if (needs === null || ALLOWED[scope].includes(needs)) continue;
    target.setAttribute('disabled', '');
    target.setAttribute('title', words().needsScope(needs));
  }
}
