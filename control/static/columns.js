/**
 * @file The headers of the table: by which column it is sorted, and which columns are shown. Both
 * stand in the address of the page.
 */

import { keepInAddress, onVisit, parameter } from './address.js';
import { byId, element, setAttribute } from './dom.js';
import { onLanguage, words } from './i18n.js';
import { COLUMNS } from './rows.js';

/** @typedef {import('./rows.js').Column} Column */
/** @typedef {import('./rows.js').Order} Order */

/** Broken rows first. @type {Order} */
const FIRST_ORDER = { column: 'state', descending: false };
/** Said elsewhere too: in the side panel, and by the time that is left. @type {Column[]} */
const HIDDEN_AT_FIRST = ['latency', 'seen'];
/** What a row cannot do without. @type {Column[]} */
const ALWAYS = ['address', 'state'];

let order = FIRST_ORDER;
/** @type {Set<Column>} */
let hidden = new Set(HIDDEN_AT_FIRST);
/** @type {() => void} */
let changed = () => {};

/** @param {() => void} onChange */
export function startColumns(onChange) {
  changed = onChange;
  readAddress();
  onVisit(() => {
    readAddress();
    write();
    changed();
  });
  const menu = byId('columns', HTMLDetailsElement);
  menu.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !menu.open) return;
    event.stopPropagation();
    menu.open = false;
    menu.querySelector('summary')?.focus();
  });
  document.addEventListener('pointerdown', ({ target }) => {
    if (target instanceof Node && !menu.contains(target)) menu.open = false;
  });
  write();
  onLanguage(write);
}

function readAddress() {
  const [name, direction] = parameter('sort').split('.');
  const column = COLUMNS.find((known) => known === name);
  order = column === undefined ? FIRST_ORDER : { column, descending: direction === 'descending' };
  const asked = parameter('columns').split(',');
  const isAsked = parameter('columns') !== '';
  hidden = new Set(COLUMNS.filter((known) => (isAsked ? !isShownBy(asked, known) : HIDDEN_AT_FIRST.includes(known))));
}

/** @param {string[]} asked @param {Column} column */
function isShownBy(asked, column) {
  return ALWAYS.includes(column) || asked.includes(column);
}

export function currentOrder() {
  return order;
}

function write() {
  writeHeaders();
  writeMenu();
  setAttribute(byId('table', HTMLTableElement), 'data-hidden', [...hidden].join(' '));
}

function writeHeaders() {
  const actions = element(
    'th',
    { role: 'columnheader', scope: 'col', class: 'head-actions' },
    element('span', { class: 'sort' }, words().column.actions),
  );
  byId('headers', HTMLTableRowElement).replaceChildren(...COLUMNS.map(header), actions);
  setAttribute(byId('table', HTMLTableElement), 'aria-label', words().backends);
}

/** @param {Column} column */
function header(column) {
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
    { role: 'columnheader', scope: 'col', class: `head-${column}`, 'aria-sort': isSorted ? direction : 'none' },
    button,
  );
}

/** @param {Column} column */
function sortBy(column) {
  order = { column, descending: order.column === column && !order.descending };
  const isFirst = order.column === FIRST_ORDER.column && !order.descending;
  keepInAddress({ sort: isFirst ? '' : order.descending ? `${column}.descending` : column });
  writeHeaders();
  // The headers were written again, and the keyboard must not lose its place.
  const button = document.querySelector(`.head-${column} button`);
  if (button instanceof HTMLElement) button.focus();
  changed();
}

function writeMenu() {
  const boxes = COLUMNS.filter((column) => !ALWAYS.includes(column)).map((column) => {
    const box = element('input', { type: 'checkbox', name: 'column', value: column });
    box.checked = !hidden.has(column);
    box.addEventListener('change', () => choose(column, box.checked));
    return element('label', {}, box, words().column[column]);
  });
  byId('column-list', HTMLElement).replaceChildren(...boxes);
}

/**
 * @param {Column} column
 * @param {boolean} isShown
 */
function choose(column, isShown) {
  if (isShown) hidden.delete(column);
  else hidden.add(column);
  const isFirst = String([...hidden]) === String(HIDDEN_AT_FIRST);
  keepInAddress({ columns: isFirst ? '' : COLUMNS.filter((known) => !hidden.has(known)).join(',') });
  setAttribute(byId('table', HTMLTableElement), 'data-hidden', [...hidden].join(' '));
  changed();
}
