/**
 * @file Whether what the page shows can be believed: the banner that says so when the server is away,
 * forbids reading, answers wrongly or is late, and the field for the token.
 */

import { CallError } from './api.js';
import { byId, setAttribute, setText } from './dom.js';
import { restartFeed } from './feed.js';
import { clockText, spanText } from './format.js';
import { words } from './i18n.js';
import { currentToken, keepToken } from './storage.js';

/** Seven of the second's news missed. */
const STALE_AFTER_MS = 7_000;

/** When the last good answer came, in unix milliseconds. @type {number | null} */
let goodAt = null;
/** @type {CallError | null} */
let problem = null;

/** @param {() => Promise<void>} lookNow */
export function startConnection(lookNow) {
  byId('token-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    const field = byId('token', HTMLInputElement);
    keepToken(field.value.trim());
    field.value = '';
    restartFeed();
    void lookNow();
  });
  byId('forget-token', HTMLButtonElement).addEventListener('click', () => {
    keepToken('');
    restartFeed();
    void lookNow();
  });
}

export function connectionIsGood() {
  goodAt = Date.now();
  problem = null;
  showConnection();
}

/** @param {unknown} error */
export function connectionFailed(error) {
  if (!(error instanceof CallError)) throw error;
  problem = error;
  showConnection();
}

/** Once a second too: a request that hangs says nothing, and yet the data grows old. */
export function showConnection() {
  const { kind, text } = trouble();
  const banner = byId('banner', HTMLElement);
  banner.hidden = kind === 'none';
  setAttribute(banner, 'data-kind', kind);
  setText(byId('banner-text', HTMLElement), text);
  byId('token-form', HTMLFormElement).hidden = kind !== 'forbidden';
  byId('forget-token', HTMLButtonElement).hidden = currentToken() === null;
  // Guarded: written anew each second, it would cost the whole page its styles.
  setAttribute(document.documentElement, 'data-connection', kind);
  const age = goodAt === null ? '' : words().updatedAgo(spanText((Date.now() - goodAt) / 1000));
  setText(byId('updated', HTMLElement), age);
}

/** @returns {{kind: 'none' | 'away' | 'forbidden' | 'refused' | 'stale', text: string}} */
function trouble() {
  const time = goodAt === null ? null : clockText(goodAt);
  if (problem?.kind === 'away') {
    return { kind: 'away', text: time === null ? words().awayFromStart : words().away(time) };
  }
  if (problem?.kind === 'forbidden') {
    return { kind: 'forbidden', text: words().forbidden(problem.message) };
  }
  if (problem?.kind === 'refused' || problem?.kind === 'stale') {
    return { kind: 'refused', text: words().troubled(problem.message) };
  }
  if (goodAt !== null && Date.now() - goodAt > STALE_AFTER_MS) {
    return { kind: 'stale', text: words().stale(clockText(goodAt)) };
  }
  return { kind: 'none', text: '' };
}
