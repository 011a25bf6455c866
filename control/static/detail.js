/**
 * @file The side panel: which backend is open, which stands in the address of the page, and what the
 * control plane says of it beyond the list. How it looks is detail-view.js's. The table stays usable
 * beside it: it is no dialog.
 */

import { keepInAddress, onVisit, parameter } from './address.js';
import * as api from './api.js';
import { DetailView } from './detail-view.js';
import { byId } from './dom.js';
import { onLanguage } from './i18n.js';
import { oneAtATime } from './one-at-a-time.js';
import { GoneView } from './removed-view.js';
import { onStaged } from './staged.js';

/** @typedef {import('./rows.js').Row} Row */

/** @type {string | null} */
let open = null;
/** @type {DetailView | GoneView | null} */
let view = null;
/** @type {Row[] | null} null until the first answer */
let rows = null;
/** What control says of a backend that is listed no more. @type {import('./shapes.js').Gone | 'asking' | 'unknown'} */
let gone = 'asking';
/** @type {import('./shapes.js').Detail | null} */
let detail = null;
/** What the detail was read for, so that it is read anew when something has happened. */
let readFor = '';
/** What the keyboard goes back to. @type {Element | null} */
let opener = null;
/** @type {() => void} */
let changed = () => {};
/** @type {(key: string) => void} */
let visited = () => {};

const readNow = oneAtATime(read);

/**
 * @param {() => void} onChange told when another backend is open, or none
 * @param {(key: string) => void} onVisited told of a backend that a link leads to
 */
export function startDetail(onChange, onVisited) {
  changed = onChange;
  visited = onVisited;
  open = parameter('open') || null;
  if (open !== null) visited(open);
  onVisit(() => {
    const asked = parameter('open') || null;
    if (asked !== open) choose(asked);
    if (asked !== null) visited(asked);
  });
  document.addEventListener('keydown', (event) => {
    const isElsewhere = event.target instanceof Element && event.target.matches('input, select, textarea');
    const isInDialog = document.querySelector('dialog[open]') !== null;
    if (event.key === 'Escape' && open !== null && !isElsewhere && !isInDialog) closeDetail();
  });
  onStaged(write);
  onLanguage(() => {
    view = null;
    write();
  });
}

/** Whose panel is open. */
export function openKey() {
  return open;
}

/** Shows another backend where one is shown; the keyboard stays where it is. @param {string} key */
export function followDetail(key) {
  if (open === null || open === key) return;
  opener = document.activeElement;
  choose(key);
}

/** @param {string} key */
export function isOpen(key) {
  return key === open;
}

/** @param {string} key */
export function openDetail(key) {
  if (key === open) return closeDetail();
  if (!byId('side', HTMLElement).contains(document.activeElement)) opener = document.activeElement;
  choose(key);
  byId('side', HTMLElement).querySelector('h2')?.focus();
}

function closeDetail() {
  const hadFocus = byId('side', HTMLElement).contains(document.activeElement);
  choose(null);
  if (hadFocus && opener instanceof HTMLElement && opener.isConnected) opener.focus();
  else if (hadFocus) byId('backends', HTMLElement).focus({ preventScroll: true });
}

/** @param {string | null} key */
function choose(key) {
  open = key;
  view = null;
  detail = null;
  gone = 'asking';
  readFor = '';
  keepInAddress({ open: key ?? '' });
  write();
  changed();
}

/**
 * @param {Row[]} latest
 * @param {import('./shapes.js').WholeAnswer} whole
 */
export function showDetail(latest, whole) {
  rows = latest;
  write();
  if (open === null) return;
  const row = rows.find(({ key }) => key === open);
  const now = row === undefined ? `${open} gone` : [open, whole.etag, whole.status.audit_seq, ...partsOf(row)].join(' ');
  if (now === readFor) return;
  readFor = now;
  void readNow();
}

/** What the detail is read anew for. @param {Row} row */
function partsOf({ state, backend }) {
  return [state.admin, state.operational, backend.weight, backend.enabled, backend.sources];
}

async function read() {
  const key = open;
  if (key === null) return;
  try {
    const answer = await api.readDetail(key);
    if (key !== open) return;
    detail = answer;
  } catch (error) {
    if (!(error instanceof api.CallError)) throw error;
    if (key !== open) return;
    // The banner says what is wrong; it is asked for again with the next news.
    if (error.kind === 'refused') gone = error.gone ?? 'unknown';
    else readFor = '';
  }
  write();
}

function write() {
  const side = byId('side', HTMLElement);
  side.hidden = open === null;
  if (open === null) {
    side.replaceChildren();
    return;
  }
  if (rows === null) return;
  const row = rows.find(({ key }) => key === open);
  const isRight = row === undefined ? view instanceof GoneView : view instanceof DetailView;
  if (!isRight) {
    const hadFocus = side.contains(document.activeElement);
    view = row === undefined ? new GoneView(open, closeDetail) : new DetailView(row, closeDetail);
    side.replaceChildren(...view.elements);
    if (hadFocus) side.querySelector('h2')?.focus();
  }
  if (view instanceof GoneView) view.update(gone);
  else if (row !== undefined) view?.update(row, rows, detail);
}
