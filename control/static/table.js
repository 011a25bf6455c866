/**
 * @file The table of backends: keeps one view a row, filters and sorts, and holds still while the
 * person is in it. What is filtered and sorted by stands in the address of the page.
 */

import { keepInAddress, onVisit, parameter } from './address.js';
import { byId, element, setAttribute, setText } from './dom.js';
import { onLanguage, words } from './i18n.js';
import { Standing } from './order.js';
import { RowView } from './row.js';
import { COLUMNS, matches, rowsOf, sortRows } from './rows.js';
import { stagedOf } from './staged.js';

/** @typedef {import('./rows.js').Row} Row */
/** @typedef {import('./rows.js').Order} Order */

/** As table.css says. */
const ROW_HEIGHT = 36;
/** Rows beyond what can be seen, so that a fast hand sees no gap. */
const OVERSCAN = 12;
/** Cards at first, and with each press of the button. */
const CARDS = 60;

/** @type {Map<string, RowView>} */
const views = new Map();
/** @type {Row[] | null} null until the first answer */
let rows = null;
let filter = '';
/** @type {Order} */
let order = { column: 'state', descending: false };

/** @type {string | null} */
let current = null;
let cardLimit = CARDS;
const standings = new Standing();
/** @type {import('./order.js').Entry[]} */
let entries = [];

const areCards = matchMedia('(max-width: 720px)');
const canHover = matchMedia('(hover: hover)');

/** What the page of backends does by itself. */
export const page = { update: showWhole };

/** Binds the filter field and the headers. */
export function startTable() {
  readAddress();
  onVisit(() => {
    readAddress();
    writeHeaders();
    render();
  });
  const field = byId('filter', HTMLInputElement);
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
  body.addEventListener('focusin', ({ target }) => {
    const row = target instanceof Element ? target.closest('tr') : null;
    current = [...views.values()].find((view) => view.element === row)?.row.key ?? current;
  });
  let isDue = false;
  byId('table-scroll', HTMLElement).addEventListener('scroll', () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      place(Date.now());
    });
  });
  areCards.addEventListener('change', render);
  byId('more-rows', HTMLButtonElement).addEventListener('click', () => {
    cardLimit += CARDS;
    render();
  });
  writeHeaders();
  onLanguage(() => {
    writeHeaders();
    render();
  });
}

/** @param {import('./api.js').WholeAnswer} whole */
function showWhole({ backends }) {
  rows = rowsOf(backends);
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
  const isHeld = isPersonInside(byId('rows', HTMLTableSectionElement));
  const listed = new Set(all.map((row) => row.key));
  const standing = standings.update(sortRows(shown, order), listed, isHeld, now);
  entries = standing.entries;
  byId('order-held', HTMLElement).hidden = !standing.isHeldBack;
  place(now);
  writeCounts(all.length, shown.length);
}

/**
 * Puts the rows that can be seen on the page, moving only those that stand wrong, and keeps the room
 * of the others. A row with the keyboard in it stays, wherever it is.
 * @param {number} now unix milliseconds
 */
function place(now) {
  const { from, to } = seenRange(entries.length);
  /** @type {Set<string>} */
  const keys = new Set();
  const elements = entries.flatMap(({ row, isGone }, at) => {
    const kept = views.get(row.key);
    const isSeen = at >= from && at < to;
    if (kept?.isHeld()) keys.add(row.key);
    if (!isSeen && !kept?.element.contains(document.activeElement)) return [];
    const view = kept ?? new RowView(row);
    views.set(row.key, view);
    keys.add(row.key);
    if (isGone) view.markGone();
    else view.update(row, now);
    setAttribute(view.element, 'aria-rowindex', String(at + 2));
    view.element.classList.toggle('is-current', row.key === current);
    return [view.element];
  });
  for (const key of views.keys()) if (!keys.has(key)) views.delete(key);
  setAttribute(byId('table', HTMLTableElement), 'aria-rowcount', String(entries.length + 1));
  const body = byId('rows', HTMLTableSectionElement);
  /** @type {Element[]} */
  const wanted = [spacer('before', from), ...elements, spacer('after', entries.length - to)];

  const wantedSet = new Set(wanted);
  for (const child of [...body.children]) if (!wantedSet.has(child)) child.remove();
  /** @type {Element | null} */
  let next = body.firstElementChild;
  for (const target of wanted) {
    if (target === next) next = next.nextElementSibling;
    else body.insertBefore(target, next);
  }
}

/**
 * Which rows can be seen, and some around them. As cards they have no one height; there are then
 * some, and a button for more.
 * @param {number} count
 */
function seenRange(count) {
  const more = byId('more-rows', HTMLButtonElement);
  more.hidden = !areCards.matches || count <= cardLimit;
  if (areCards.matches) return { from: 0, to: Math.min(count, cardLimit) };
  const scroller = byId('table-scroll', HTMLElement);
  const first = Math.floor(scroller.scrollTop / ROW_HEIGHT) - OVERSCAN;
  const visible = Math.ceil((scroller.clientHeight || innerHeight) / ROW_HEIGHT);
  const from = Math.max(0, Math.min(first, count - visible - OVERSCAN));
  return { from, to: Math.min(count, from + visible + 2 * OVERSCAN) };
}

/** @type {Record<'before' | 'after', HTMLTableRowElement>} */
const spacers = { before: spacerRow(), after: spacerRow() };

function spacerRow() {
  return element('tr', { class: 'spacer', 'aria-hidden': 'true' });
}

/**
 * @param {'before' | 'after'} where
 * @param {number} count rows that are not there
 */
function spacer(where, count) {
  const height = `${areCards.matches ? 0 : count * ROW_HEIGHT}px`;
  const row = spacers[where];
  if (row.style.height !== height) row.style.height = height;
  row.hidden = count === 0 || areCards.matches;
  return row;
}

/**
 * Moves the current row by the keyboard.
 * @param {1 | -1} step
 */
export function moveCurrent(step) {
  const at = entries.findIndex(({ row }) => row.key === current);
  const next = at === -1 ? 0 : Math.min(entries.length - 1, Math.max(0, at + step));
  current = entries[next]?.row.key ?? null;
  const scroller = byId('table-scroll', HTMLElement);
  const top = next * ROW_HEIGHT;
  if (!areCards.matches && (top < scroller.scrollTop || top > scroller.scrollTop + scroller.clientHeight - 3 * ROW_HEIGHT)) {
    scroller.scrollTop = top - scroller.clientHeight / 2;
  }
  place(Date.now());
  const view = currentView();
  view?.element.focus({ preventScroll: !areCards.matches });
}

/** The row that the keyboard acts on. */
export function currentView() {
  return current === null ? null : (views.get(current) ?? null);
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
  filter = parameter('filter');
  byId('filter', HTMLInputElement).value = filter;
  const [name, direction] = parameter('sort').split('.');
  const column = COLUMNS.find((known) => known === name) ?? 'state';
  order = { column, descending: direction === 'descending' };
}

function writeAddress() {
  const isFirst = order.column === 'state' && !order.descending;
  const sort = order.descending ? `${order.column}.descending` : order.column;
  keepInAddress({ filter, sort: isFirst ? '' : sort });
}
