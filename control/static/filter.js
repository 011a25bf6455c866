/**
 * @file Which rows are wanted: by text, and by state. Both stand in the address of the page.
 */

import { keepInAddress, onVisit, parameter } from './address.js';
import { byId, element, setAttribute, setText } from './dom.js';
import { countText } from './format.js';
import { matches } from './rows.js';
import { SHAPES, shapeIcon, shapeOf, shapeWord } from './state.js';

/** @typedef {import('./rows.js').Row} Row */
/** @typedef {import('./state.js').Shape} Shape */

let text = '';
/** None: rows of every state. @type {Set<Shape>} */
let states = new Set();
/** @type {Map<Shape, HTMLButtonElement>} */
const chips = new Map();
/** The states that the page has shown. @type {Set<Shape>} */
const seen = new Set();
/** @type {() => void} */
let changed = () => {};

/** @param {() => void} onChange */
export function startFilter(onChange) {
  changed = onChange;
  // The person may have typed already, while this was being loaded.
  const typed = byId('filter', HTMLInputElement).value.trim();
  if (typed !== '') keepInAddress({ filter: typed });
  readAddress();
  onVisit(() => {
    readAddress();
    changed();
  });
  const field = byId('filter', HTMLInputElement);
  field.addEventListener('input', () => setFilter(field.value.trim(), states));
  field.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    clear();
    field.blur();
  });
  byId('clear-filter', HTMLButtonElement).addEventListener('click', () => {
    clear();
    field.focus();
  });
  for (const shape of SHAPES) chips.set(shape, chip(shape));
  byId('state-chips', HTMLElement).append(...chips.values());
}

function readAddress() {
  text = parameter('filter');
  byId('filter', HTMLInputElement).value = text;
  const asked = parameter('state').split(',');
  states = new Set(SHAPES.filter((shape) => asked.includes(shape)));
}

/** @param {Shape} shape */
function chip(shape) {
  const button = element('button', { type: 'button', class: 'chip', 'aria-pressed': 'false', hidden: true });
  button.append(shapeIcon(shape), element('span'), element('span', { class: 'chip-count' }));
  button.addEventListener('click', () => {
    const wanted = new Set(states);
    if (!wanted.delete(shape)) wanted.add(shape);
    setFilter(text, wanted);
  });
  return button;
}

/**
 * @param {string} wanted
 * @param {Set<Shape>} wantedStates
 */
function setFilter(wanted, wantedStates) {
  text = wanted;
  states = wantedStates;
  keepInAddress({ filter: text, state: [...states].join(',') });
  changed();
}

function clear() {
  byId('filter', HTMLInputElement).value = '';
  setFilter('', new Set());
}

/** @param {Row} row */
export function isWanted(row) {
  return (states.size === 0 || states.has(shapeOf(row.state))) && matches(row, text);
}

/**
 * A chip for each state that is there, with how many are in it.
 * @param {Row[]} rows all of them
 */
export function writeFilter(rows) {
  /** @type {Map<Shape, number>} */
  const counts = new Map();
  for (const { state } of rows) {
    const shape = shapeOf(state);
    counts.set(shape, (counts.get(shape) ?? 0) + 1);
  }
  for (const [shape, button] of chips) {
    const count = counts.get(shape) ?? 0;
    // One that has come stays, and one that comes stands behind the others: none moves under the hand.
    if (count > 0 && !seen.has(shape)) {
      seen.add(shape);
      button.parentElement?.append(button);
    }
    button.hidden = count === 0 && !states.has(shape) && !seen.has(shape);
    setAttribute(button, 'aria-pressed', String(states.has(shape)));
    const [, word, number] = button.children;
    if (word !== undefined) setText(word, shapeWord(shape));
    if (number !== undefined) setText(number, countText(count));
  }
  byId('clear-filter', HTMLButtonElement).hidden = text === '' && states.size === 0;
}
