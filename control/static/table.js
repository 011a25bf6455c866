/**
 * @file The table of backends: keeps one view a row, filters and sorts, and holds still while the
 * person is in it. What is filtered and sorted by stands in the address of the page.
 */

import { byId, element, setAttribute, setText } from './dom.js';
import { onLanguage, words } from './i18n.js';
import { RowView } from './row.js';
import { COLUMNS, matches, sortRows } from './rows.js';
import { stagedOf } from './staged.js';

/** @typedef {import('./rows.js').Row} Row */
/** @typedef {import('./rows.js').Order} Order */

/** How long a row that is listed no more stays, in grey. */
const GONE_STAYS_MS = 5_000;

/** @type {Map<string, RowView>} */
const views = new Map();
/** @type {Row[] | null} null until the first answer */
let rows = null;
let filter = '';
/** @type {Order} */
let order = { column: 'state', descending: false };

const canHover = matchMedia('(hover: hover)');

/** Binds the filter field and the headers. */
export function startTable() {
  readAddress();
  const field = byId('filter', HTMLInputElement);
  field.value = filter;
  field.addEventListener('input', () => {
    filter = field.value.trim();
    writeAddress();
    render();
  });
  field.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') clearFilter();
  });
  byId('clear-filter', HTMLButtonElement).addEventListener('click', () => {
    clearFilter();
    field.focus();
  });
  const body = byId('rows', HTMLTableSectionElement);
  body.addEventListener('pointerleave', render);
  writeHeaders();
  onLanguage(() => {
    writeHeaders();
    render();
  });
}

/** @param {Row[]} latest */
export function showRows(latest) {
  rows = latest;
  render();
}

/** Shows anew what is chosen and staged; edits that were discarded leave their fields. */
export function rewriteChoices() {
  for (const [key, view] of views) {
    const waited = view.element.classList.contains('is-pending');
    view.writeChoice();
    if (waited && stagedOf(key) === null) view.weight.forget();
  }
}

/** The keys of the rows that the filter shows. */
export function visibleKeys() {
  return (rows ?? []).filter((row) => matches(row, filter)).map((row) => row.key);
}

function clearFilter() {
  const field = byId('filter', HTMLInputElement);
  field.value = '';
  filter = '';
  field.blur();
  writeAddress();
  render();
}

function render() {
  if (rows === null) return;
  const now = Date.now();
  const all = rows;
  const shown = all.filter((row) => matches(row, filter) || views.get(row.key)?.isHeld());
  dropViews(new Set(all.map((row) => row.key)), new Set(shown.map((row) => row.key)), now);
  for (const row of shown) {
    const view = views.get(row.key) ?? new RowView(row);
    views.set(row.key, view);
    view.update(row, now);
  }
  place(sortRows(shown, order));
  writeCounts(all.length, shown.length);
}

/**
 * @param {Set<string>} listed
 * @param {Set<string>} shown
 * @param {number} now unix milliseconds
 */
function dropViews(listed, shown, now) {
  for (const [key, view] of views) {
    if (shown.has(key)) continue;
    if (!listed.has(key)) view.markGone(now);
    if (view.goneSince === null || now - view.goneSince > GONE_STAYS_MS) {
      view.element.remove();
      views.delete(key);
    }
  }
}

/**
 * Puts the rows in order, moving only those that stand wrong. While the person is in the table
 * nothing moves; new rows then come last.
 * @param {Row[]} sorted
 */
function place(sorted) {
  const body = byId('rows', HTMLTableSectionElement);
  const wanted = sorted.flatMap((row) => views.get(row.key)?.element ?? []);
  /** @type {Set<Element>} */
  const wantedSet = new Set(wanted);
  const present = [...body.children].filter((child) => wantedSet.has(child));
  const presentWanted = wanted.filter((target) => target.parentElement === body);
  const differs = presentWanted.some((target, index) => target !== present[index]);
  const isHeld = isPersonInside(body);
  byId('order-held', HTMLElement).hidden = !(isHeld && differs);
  if (isHeld) {
    for (const target of wanted) if (target.parentElement === null) body.append(target);
    return;
  }
  /** @type {Element | null} */
  let next = body.firstElementChild;
  for (const target of wanted) {
    while (next?.classList.contains('is-gone')) next = next.nextElementSibling;
    if (target === next) next = next.nextElementSibling;
    else body.insertBefore(target, next);
  }
}

/** @param {HTMLElement} body */
function isPersonInside(body) {
  const isPointing = canHover.matches && body.matches(':hover');
  return isPointing || body.querySelector(':focus-visible') !== null;
}

/**
 * @param {number} all
 * @param {number} shown
 */
function writeCounts(all, shown) {
  const hiddenCount = all - shown;
  setText(byId('count', HTMLElement), words().count(all));
  const hidden = byId('hidden-count', HTMLElement);
  setText(hidden, hiddenCount === 0 ? '' : words().hidden(hiddenCount));
  byId('clear-filter', HTMLButtonElement).hidden = filter === '';
  byId('loading', HTMLElement).hidden = true;
  byId('no-backends', HTMLElement).hidden = all !== 0;
  byId('nothing-matches', HTMLElement).hidden = !(all > 0 && shown === 0);
}

function writeHeaders() {
  const cells = COLUMNS.map((column) => {
    const isSorted = order.column === column;
    const name = words().column[column];
    const button = element(
      'button',
      { type: 'button', class: 'sort', title: words().sortBy(name), onclick: () => sortBy(column) },
      name,
      element('span', { class: 'sort-mark', 'aria-hidden': 'true' }, isSorted ? (order.descending ? '↓' : '↑') : ''),
    );
    const direction = order.descending ? 'descending' : 'ascending';
    return element(
      'th',
      {
        role: 'columnheader',
        scope: 'col',
        class: `head-${column}`,
        'aria-sort': isSorted ? direction : 'none',
      },
      button,
    );
  });
  const actions = element(
    'th',
    { role: 'columnheader', scope: 'col', class: 'head-actions' },
    element('span', { class: 'sort' }, words().column.actions),
  );
  byId('headers', HTMLTableRowElement).replaceChildren(...cells, actions);
  setAttribute(byId('table', HTMLTableElement), 'aria-label', words().backends);
}

/** @param {import('./rows.js').Column} column */
function sortBy(column) {
  order = { column, descending: order.column === column && !order.descending };
  writeAddress();
  writeHeaders();
  // The headers were written anew, and the keyboard must not lose its place.
  const button = document.querySelector(`.head-${column} button`);
  if (button instanceof HTMLElement) button.focus();
  render();
}

function readAddress() {
  const query = new URLSearchParams(location.search);
  filter = query.get('filter') ?? '';
  const [name, direction] = (query.get('sort') ?? '').split('.');
  const column = COLUMNS.find((known) => known === name);
  if (column !== undefined) order = { column, descending: direction === 'descending' };
}

function writeAddress() {
  const query = new URLSearchParams();
  if (filter !== '') query.set('filter', filter);
  if (order.column !== 'state' || order.descending) {
    query.set('sort', order.descending ? `${order.column}.descending` : order.column);
  }
  const text = query.toString();
  history.replaceState(null, '', text === '' ? location.pathname : `?${text}`);
}
