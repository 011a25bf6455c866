/**
 * @file Whether what the page shows can be believed: the banner that says so when the server is away,
 * forbids reading, answers wrongly or is late, and the way to sign in.
 */

import { CallError } from './api.js';
import { byId, setAttribute, setText } from './dom.js';
import { clockText, spanText } from './format.js';
import { words } from './i18n.js';

/** Seven of the second's news missed. */
const STALE_AFTER_MS = 7_000;

/** When the last good answer came, in unix milliseconds. @type {number | null} */
let goodAt = null;
/** @type {CallError | null} */
let problem = null;

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
  const signIn = byId('banner-sign-in', HTMLAnchorElement);
  signIn.hidden = kind !== 'forbidden';
  signIn.href = `/login${location.search}${location.hash}`;
  // Guarded: written again each second, it would cost the whole page its styles.
  setAttribute(document.documentElement, 'data-connection', kind);
  const age = goodAt === null ? '' : words().updatedAgo(spanText((Date.now() - goodAt) / 1000));
  setText(byId('updated', HTMLElement), age);
}

/** How old what the page shows is, in milliseconds; null while it is news, and before there is any. */
export function ageOfLastKnown() {
  return goodAt === null || trouble().kind === 'none' ? null : Date.now() - goodAt;
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
