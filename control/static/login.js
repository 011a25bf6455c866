/**
 * @file The login page: a token becomes a session of this browser, and the console opens where the
 * person wanted to be.
 */

import { CallError, readSession, signIn } from './api.js';
import { byId, setText } from './dom.js';
import { onLanguage, startLanguage, words } from './i18n.js';
import { startTheme } from './theme.js';

/** Why the last attempt failed; said again when the language changes. @type {CallError | null} */
let failure = null;

async function start() {
  startTheme();
  startLanguage();
  onLanguage(showFailure);
  byId('login', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    void submit();
  });
  // Until here nobody would have heard it.
  byId('sign-in', HTMLButtonElement).disabled = false;
  // Who needs no token, or is signed in already, is not asked for one.
  const session = await readSession().catch(() => null);
  if (session !== null && session.scope !== null) goOn();
}

async function submit() {
  const field = byId('token', HTMLInputElement);
  const button = byId('sign-in', HTMLButtonElement);
  button.setAttribute('aria-busy', 'true');
  try {
    await signIn(field.value.trim());
    goOn();
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    failure = error;
    showFailure();
    field.select();
  }
  button.removeAttribute('aria-busy');
}

function showFailure() {
  const place = byId('login-problem', HTMLElement);
  place.hidden = failure === null;
  if (failure === null) return;
  const { kind, message } = failure;
  setText(place, kind === 'away' ? words().awayFromStart : words().signInFailed(message));
}

/** The console's state stands in the address, which login has kept. */
function goOn() {
  location.replace(`/${location.search}${location.hash}`);
}

void start();
