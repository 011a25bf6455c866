/**
 * @file The pages of the console and the rail that leads to them. One is shown, the one that the
 * address names; what only it needs is loaded when it is first shown.
 */

import { CallError } from './api.js';
import { keepInAddress, onVisit, parameter, startAddress, visitPage } from './address.js';
import { connectionFailed } from './connection.js';
import { byId, setAttribute } from './dom.js';
import { onLanguage, words } from './i18n.js';
import { remember } from './storage.js';

/** @typedef {import('./shapes.js').WholeAnswer} WholeAnswer */
/** @typedef {'overview' | 'backends' | 'changes' | 'diagnostics' | 'batch' | 'settings' | 'api'} Page */

/**
 * What a page does by itself, each where it is needed.
 * @typedef {object} PageParts
 * @property {() => void} [start] once, before it is first shown
 * @property {() => void} [enter] each time that it is shown
 * @property {(whole: WholeAnswer) => void} [update] with all news while it is shown
 * @property {() => void} [leave]
 * @property {() => string[]} [rows] the backends whose figures it shows
 * @property {Record<string, () => void>} [keys] that mean something only while it is shown
 * @property {() => {text: string, act: () => void}[]} [commands] of the palette, likewise
 */

/** @type {Record<Page, () => Promise<{page: PageParts}>>} */
const LOADS = {
  overview: () => import('./overview.js'),
  backends: () => import('./table.js'),
  changes: () => import('./audit.js'),
  diagnostics: () => import('./diagnostics.js'),
  batch: () => import('./batch.js'),
  settings: () => import('./settings.js'),
  api: () => import('./openapi.js'),
};

export const PAGES = /** @type {Page[]} */ (Object.keys(LOADS));

/** @type {Map<Page, Promise<PageParts | null>>} */
const loaded = new Map();
/** @type {Page | null} */
let shown = null;
/** @type {PageParts} */
let parts = {};
/** @type {WholeAnswer | null} */
let latest = null;

/** Shows the page that the address names, and binds the rail. */
export function startPages() {
  startAddress();
  keepInAddress({ page: currentPage() });
  onVisit(show);
  onLanguage(writeTitle);
  byId('rail-fold', HTMLButtonElement).addEventListener('click', toggleRail);
  writeRail();
  show();
}

/** @returns {Page} */
export function currentPage() {
  const named = PAGES.find((page) => page === parameter('page'));
  if (named !== undefined) return named;
  // Links from before there were pages lead into the table.
  const isTable = parameter('filter') !== '' || parameter('sort') !== '';
  return isTable ? 'backends' : 'overview';
}

/** What single keys do on the page that is shown. */
export function keysOfPage() {
  return parts.keys ?? {};
}

/** What the palette can do on the page that is shown. */
export function commandsOfPage() {
  return parts.commands?.() ?? [];
}

/** The backends whose figures the page shows. */
export function rowsOfPage() {
  return parts.rows?.() ?? [];
}

/** @param {Page} page */
export function goTo(page) {
  visitPage(page);
}

/** @param {WholeAnswer} whole */
export function updatePage(whole) {
  latest = whole;
  parts.update?.(whole);
}

/** What is loaded when it is first asked for, and is no page. */
const DIALOGS = [() => import('./palette.js'), () => import('./pings.js'), () => import('./stack.js'), () => import('./static-list.js'), () => import('./settings-change.js')];

/**
 * Brings what the other pages need while there is nothing else to do: where control goes away, they
 * still open with what was known last.
 */
export async function preloadPages() {
  await loaded.get(currentPage());
  await idle();
  // For whoever asks what the page itself needs.
  performance.mark('preload');
  for (const load of [...Object.values(LOADS), ...DIALOGS]) {
    await load().catch(() => null);
    await idle();
  }
  // For whoever takes control away and asks what still opens.
  performance.mark('preloaded');
}

/** Resolves when the browser has time, or has had none for long. @returns {Promise<unknown>} */
function idle() {
  // Not in every browser.
  if (window.requestIdleCallback === undefined) return new Promise((resolve) => setTimeout(resolve, 200));
  return new Promise((resolve) => requestIdleCallback(resolve, { timeout: 5_000 }));
}

/** Folds the rail to its icons, or unfolds it. */
export function toggleRail() {
  const root = document.documentElement;
  const isFolded = root.dataset.rail === 'folded';
  root.dataset.rail = isFolded ? 'open' : 'folded';
  remember('rail', root.dataset.rail);
  writeRail();
}

function writeRail() {
  const isFolded = document.documentElement.dataset.rail === 'folded';
  setAttribute(byId('rail-fold', HTMLButtonElement), 'aria-expanded', String(!isFolded));
}

function show() {
  const page = currentPage();
  if (page === shown) return;
  const isFirst = shown === null;
  parts.leave?.();
  parts = {};
  shown = page;
  document.documentElement.dataset.page = page;
  for (const link of document.querySelectorAll('.rail a[data-page]')) {
    const isCurrent = link.getAttribute('data-page') === page;
    setAttribute(link, 'aria-current', isCurrent ? 'page' : null);
  }
  writeTitle();
  if (!isFirst) {
    scrollTo(0, 0);
    const title = document.querySelector(`#page-${page} h1`);
    if (title instanceof HTMLElement) title.focus({ preventScroll: true });
  }
  void enter(page);
}

/** @param {Page} page */
async function enter(page) {
  const content = byId('content', HTMLElement);
  setAttribute(content, 'aria-busy', 'true');
  const wanted = await (loaded.get(page) ?? load(page));
  if (page !== shown) return;
  parts = wanted ?? {};
  parts.enter?.();
  if (latest !== null) parts.update?.(latest);
  setAttribute(content, 'aria-busy', null);
}

/** @param {Page} page */
function load(page) {
  const loading = LOADS[page]().then(
    ({ page: found }) => {
      found.start?.();
      return found;
    },
    () => {
      // The server is away: the next visit tries again.
      loaded.delete(page);
      connectionFailed(new CallError('away', ''));
      return null;
    },
  );
  loaded.set(page, loading);
  return loading;
}

/** What is the matter, before the title of each page. */
let alarm = '';

/** @param {string} text empty where nothing is */
export function showAlarm(text) {
  if (text === alarm) return;
  alarm = text;
  writeTitle();
}

function writeTitle() {
  if (shown === null) return;
  const title = `${words().page[shown]} · ${words().title}`;
  document.title = alarm === '' ? title : `${alarm} · ${title}`;
}
