/**
 * @file The table of backends: keeps one view a row that can be seen, and holds still while the person
 * is in it. What it is filtered and sorted by is filter.js's and columns.js's.
 */

import { currentOrder, startColumns } from './columns.js';
import { followDetail, openDetail, openKey, showDetail, startDetail } from './detail.js';
import { byId, element, setAttribute, setText } from './dom.js';
import { isWanted, startFilter, writeFilter } from './filter.js';
import { onLanguage, words } from './i18n.js';
import { Standing } from './order.js';
import { guarded } from './permissions.js';
import { openPing } from './ping.js';
import { RowView } from './row.js';
import { rowsOf, sortRows } from './rows.js';
import { chosenBackends, knowBackends, startSelection } from './selection.js';
import { onStaged, stage } from './staged.js';

/** @typedef {import('./rows.js').Row} Row */

/** As table.css says. */
const ROW_HEIGHT = 32;
/** Rows beyond what can be seen, so that a fast hand sees no gap. */
const OVERSCAN = 8;
/** Cards at first, and with each press of the button. */
const CARDS = 60;
/** A click on one of these is its own. */
const PRESSABLE = 'button, input, label, select, a';
/** How long rows keep their places after a touch, a click or an edit: the next one is meant for what stands there. */
const ORDER_HELD_MS = 10_000;

/** @type {Map<string, RowView>} */
const views = new Map();
/** In the order of addresses. @type {Row[] | null} null until the first answer */
let rows = null;

/** @type {string | null} */
let current = null;
/** What a link leads to, until the table has shown it. @type {string | null} */
let sought = null;
let cardLimit = CARDS;
const standings = new Standing();
/** @type {import('./order.js').Entry[]} */
let entries = [];
/** Until when rows keep their places, by the clock of the page, and what lets them go then. */
let heldUntil = 0;
let release = 0;

const areCards = matchMedia('(max-width: 720px)');
const canHover = matchMedia('(hover: hover)');
/** Paper has no scrolling. */
const isPaper = matchMedia('print');

/** What the page of backends does by itself. */
export const page = {
  start: startTable,
  update: showWhole,
  rows: () => [...views.keys(), openKey()].filter((key) => key !== null),
  keys: {
    j: () => moveTo(currentAt() + 1),
    k: () => moveTo(currentAt() - 1),
    e: guarded('write', () => words().keys.weight, () => onCurrent((view) => view.weight.focus())),
    d: guarded('write', () => words().keys.drain, () => onCurrent((view) => view.onDrain())),
    x: guarded('write', () => words().keys.choose, () => onCurrent((view) => view.onChoose())),
    p: guarded('write', () => words().pingTool, () => openPing(currentView()?.row.backend.ip)),
  },
  commands,
};

/** Binds filter, headers and rows. */
function startTable() {
  startSelection(rewriteChoices, visibleKeys);
  onStaged(() => {
    holdOrder();
    rewriteChoices();
  });
  startDetail(rewriteChoices, (key) => {
    sought = key;
  });
  startFilter(reorder);
  startColumns(reorder);
  const body = byId('rows', HTMLTableSectionElement);
  // Before what they do, and whoever stops them.
  for (const name of ['pointerdown', 'click', 'input']) {
    for (const place of [body, byId('side', HTMLElement)]) place.addEventListener(name, holdOrder, { capture: true, passive: true });
  }
  body.addEventListener('pointerleave', render);
  body.addEventListener('focusin', ({ target }) => {
    current = viewAt(target)?.row.key ?? current;
    rove();
  });
  body.addEventListener('focusout', ({ relatedTarget }) => {
    if (!(relatedTarget instanceof Node && body.contains(relatedTarget))) rove();
  });
  body.addEventListener('click', ({ target }) => {
    const isMarking = !(getSelection()?.isCollapsed ?? true);
    const isOwn = target instanceof Element && target.closest(PRESSABLE) !== null;
    const view = isOwn || isMarking ? undefined : viewAt(target);
    if (view !== undefined) openDetail(view.row.key);
  });
  body.addEventListener('keydown', onRowKey);
  let isDue = false;
  byId('table-scroll', HTMLElement).addEventListener('scroll', () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      place(Date.now(), false);
    });
  });
  for (const query of [areCards, isPaper]) query.addEventListener('change', render);
  byId('more-rows', HTMLButtonElement).addEventListener('click', () => {
    cardLimit += CARDS;
    render();
  });
  onLanguage(render);
}

/** The person is at work: no row leaves its place before the next touch can be meant. */
function holdOrder() {
  heldUntil = Date.now() + ORDER_HELD_MS;
  clearTimeout(release);
  release = setTimeout(render, ORDER_HELD_MS);
}

/** Another order or other rows, by the person's own word. */
function reorder() {
  heldUntil = 0;
  render();
}

/** @param {EventTarget | null} target */
function viewAt(target) {
  const row = target instanceof Element ? target.closest('tr') : null;
  return [...views.values()].find((view) => view.element === row);
}

/** @param {import('./shapes.js').WholeAnswer} whole */
function showWhole(whole) {
  knowBackends(whole.backends);
  rows = rowsOf(whole.backends);
  render();
  showDetail(rows, whole);
}

/** Shows anew what is chosen and staged. */
function rewriteChoices() {
  for (const view of views.values()) view.writeChoice();
}

/** The keys of the rows that the filter shows. */
function visibleKeys() {
  return (rows ?? []).filter(isWanted).map((row) => row.key);
}

function render() {
  if (rows === null) return;
  const now = Date.now();
  const held = new Set([...views.values()].filter((view) => view.isHeld()).map(({ row }) => row.key));
  const isHeld = now < heldUntil || isPersonInside(byId('rows', HTMLTableSectionElement));
  // A row that an edit takes out of the filter stays under the finger as well.
  if (now < heldUntil) for (const { row } of entries) held.add(row.key);
  const shown = rows.filter((row) => isWanted(row) || held.has(row.key));
  const listed = new Set(rows.map((row) => row.key));
  const standing = standings.update(sortRows(shown, currentOrder()), listed, isHeld, now);
  entries = standing.entries;
  byId('order-held', HTMLElement).hidden = !standing.isHeldBack;
  reveal();
  place(now, true);
  writeFilter(rows);
  writeCounts(rows.length, shown.length);
}

/**
 * Puts the rows that can be seen on the page, moving only those that stand wrong, and keeps the room
 * of the others. A row with the keyboard in it stays, wherever it is.
 * @param {number} now unix milliseconds
 * @param {boolean} isNews what is on the page already is written too
 */
function place(now, isNews) {
  const { from, to } = seenRange(entries.length);
  const places = Array.from({ length: to - from }, (_, at) => from + at);
  const focused = viewAt(document.activeElement);
  const focusedAt = focused === undefined ? -1 : entries.findIndex(({ row }) => row.key === focused.row.key);
  if (focusedAt !== -1 && focusedAt < from) places.unshift(focusedAt);
  if (focusedAt >= to) places.push(focusedAt);
  /** @type {Set<string>} */
  const keys = new Set();
  const elements = places.map((at) => {
    const { row, isGone } = /** @type {import('./order.js').Entry} */ (entries[at]);
    const kept = views.get(row.key);
    const view = kept ?? new RowView(row, openDetail);
    views.set(row.key, view);
    keys.add(row.key);
    if (isGone) view.markGone();
    else if (isNews || kept === undefined) view.update(row, now);
    setAttribute(view.element, 'aria-rowindex', String(at + 2));
    view.element.classList.toggle('is-current', row.key === current);
    return view.element;
  });
  for (const [key, view] of views) if (!keys.has(key) && !isAtWork(view)) views.delete(key);
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
  rove();
}

/** Out of sight, but the person has begun to edit it. @param {RowView} view */
function isAtWork(view) {
  return view.isHeld() && entries.some(({ row }) => row.key === view.row.key);
}

/**
 * Which rows can be seen, and some around them. As cards they have no one height; there are then
 * some, and a button for more.
 * @param {number} count
 */
function seenRange(count) {
  const more = byId('more-rows', HTMLButtonElement);
  more.hidden = !areCards.matches || count <= cardLimit;
  if (isPaper.matches) return { from: 0, to: count };
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
 * The keys of a row, and of what is in it: arrows go from row to row and along a row. In a field they are
 * the field's own.
 * @param {KeyboardEvent} event
 */
function onRowKey(event) {
  const { key, target } = event;
  const view = viewAt(target);
  const isField = target instanceof HTMLInputElement && target.type === 'text';
  if (view === undefined || isField || event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === 'Enter' && target === view.element) return openDetail(view.row.key);
  const along = { ArrowRight: 1, ArrowLeft: -1 }[key];
  const at = { ArrowDown: currentAt() + 1, ArrowUp: currentAt() - 1, Home: 0, End: entries.length - 1 }[key];
  if (along === undefined && at === undefined) return;
  event.preventDefault();
  if (along !== undefined) view.step(along);
  else if (at !== undefined) moveTo(at);
}

/** Where the current row stands; before the first where none is. */
function currentAt() {
  const key = current ?? openKey();
  return entries.findIndex(({ row }) => row.key === key);
}

/** Makes another row the current one, and shows it in the panel where that is open. @param {number} wanted */
function moveTo(wanted) {
  const at = Math.min(entries.length - 1, Math.max(0, wanted));
  current = entries[at]?.row.key ?? null;
  if (current === null) return;
  // Who reads in the panel goes on reading there.
  const isInPanel = byId('side', HTMLElement).contains(document.activeElement);
  scrollToRow(at);
  place(Date.now(), false);
  if (!isInPanel) currentView()?.element.focus({ preventScroll: !areCards.matches });
  followDetail(current);
}

/**
 * The table is one stop of the Tab key: its current row, or the first in sight. What is in a row is
 * reached along it, and by Tab from there on.
 */
function rove() {
  const first = Math.floor(byId('table-scroll', HTMLElement).scrollTop / ROW_HEIGHT);
  const isPlaced = current !== null && views.get(current)?.element.isConnected === true;
  const stop = isPlaced ? current : entries[Math.min(first, entries.length - 1)]?.row.key;
  for (const [key, view] of views) view.rove(key === stop);
}

/** What the palette can do to the selection, or to the current row where nothing is selected. */
function commands() {
  const chosen = chosenBackends();
  const key = openKey() ?? current;
  const row = rows?.find((known) => known.key === key);
  const backends = chosen.length > 0 || row === undefined ? chosen : [row.backend];
  if (backends.length === 0) return [];
  const { command } = words();
  const of = (/** @type {string} */ action) =>
    chosen.length > 0 ? command.ofSelection(action, chosen.length) : command.ofRow(action, backends[0]?.id ?? '');
  /** @param {() => string} what @param {() => void} act */
  const changing = (what, act) => ({ text: of(what()), act: guarded('write', what, act) });
  /** @param {() => string} what @param {Omit<import('./shapes.js').Edit, 'id'>} edit */
  const staging = (what, edit) => changing(what, () => stage(backends, edit));
  const focusWeight = () => {
    if (chosen.length > 0) byId('bulk-weight', HTMLInputElement).focus();
    else if (row !== undefined) {
      moveTo(entries.findIndex((entry) => entry.row.key === row.key));
      currentView()?.weight.focus();
    }
  };
  return [
    staging(() => words().enable, { enabled: true }),
    staging(() => words().disable, { enabled: false }),
    staging(() => words().drain, { drain: true }),
    staging(() => words().endDrain, { drain: false }),
    changing(() => words().setWeight, focusWeight),
    ...(backends.length === 1 ? [{ text: of(command.open), act: () => openDetail(backends[0]?.id ?? '') }] : []),
  ];
}

/** What a key does to the current row; the rows stay where they are. @param {(view: RowView) => unknown} act */
function onCurrent(act) {
  const view = currentView();
  if (view === null) return;
  holdOrder();
  act(view);
}

/** Scrolls only where the row cannot be seen. @param {number} at */
function scrollToRow(at) {
  const scroller = byId('table-scroll', HTMLElement);
  const top = at * ROW_HEIGHT;
  if (!areCards.matches && (top < scroller.scrollTop || top > scroller.scrollTop + scroller.clientHeight - 3 * ROW_HEIGHT)) {
    scroller.scrollTop = top - scroller.clientHeight / 2;
  }
}

/** Brings the row that a link leads to into sight, once it is there. */
function reveal() {
  const at = entries.findIndex(({ row }) => row.key === sought);
  if (at === -1) return;
  current = sought;
  sought = null;
  scrollToRow(at);
}

/** The row that the keyboard acts on. */
function currentView() {
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
  byId('loading', HTMLElement).hidden = true;
  byId('no-backends', HTMLElement).hidden = all !== 0;
  byId('nothing-matches', HTMLElement).hidden = !(all > 0 && shown === 0);
}
