/**
 * @file The five backends that most want to be looked at, and why, in this order: those that are out (down, then
 * expired, then ejected); those that failed in the last minute, the most failures first; those whose VRAM is
 * nearly full; the rest, by VRAM; and last what somebody took out on purpose.
 */

import { addressOf } from './address.js';
import { byId, element, setAttribute, setText, writeChildren } from './dom.js';
import { recentFailures } from './failures.js';
import { countText, latencyText } from './format.js';
import { words } from './i18n.js';
import { isBroken, shapeIcon, shapeOf, stateText } from './state.js';
import { usageBar, vramGuard, writeBar } from './usage.js';

/** @typedef {import('./rows.js').Row} Row */

const COUNT = 5;

/** Whose lines are on the page. @type {string[]} */
let shown = [];

/** The backends that are named. */
export function worstRows() {
  return shown;
}

/** @param {Row[]} rows */
export function showWorst(rows) {
  const body = byId('worst', HTMLTableSectionElement);
  const worst = heldIn(body, rows) ?? worstOf(rows);
  shown = worst.map(({ key }) => key);
  writeChildren(body, worst, lineElement, writeLine);
  byId('worst-empty', HTMLElement).hidden = worst.length > 0;
}

/**
 * The same as before while the person is in the list: a link must not become another one under the hand.
 * @param {HTMLElement} body
 * @param {Row[]} rows
 */
function heldIn(body, rows) {
  if (!body.matches(':hover, :focus-within')) return null;
  const held = shown.flatMap((key) => rows.find((row) => row.key === key) ?? []);
  return held.length === shown.length ? held : null;
}

/** @param {Row[]} rows */
function worstOf(rows) {
  return rows
    .map((row) => ({ row, ...rankOf(row) }))
    .sort((a, b) => a.rank - b.rank || b.failed - a.failed || (b.row.backend.vram_usage ?? 0) - (a.row.backend.vram_usage ?? 0))
    .slice(0, COUNT)
    .map(({ row }) => row);
}

/**
 * Less is worse; of the same rank, who has failed more.
 * @param {Row} row
 */
function rankOf(row) {
  const { state, backend } = row;
  if (isBroken(state.operational)) return { rank: ['down', 'expired', 'no_pool', 'ejected'].indexOf(state.operational), failed: 0 };
  if (state.admin !== 'ready') return { rank: 20, failed: 0 };
  const { count } = recentFailures(row);
  return { rank: count > 0 ? 9 : 10 + ['full', 'high', 'near', 'calm'].indexOf(vramGuard(backend.vram_usage)), failed: count };
}

/** @param {Row} row */
function whyOf(row) {
  const { state, backend } = row;
  if (isBroken(state.operational)) return state.reason;
  const { why } = recentFailures(row);
  if (state.admin === 'ready' && why !== '') return why;
  const guard = vramGuard(backend.vram_usage);
  if (guard !== 'calm') return words().usageOf(words().vramMean, words().vramGuard[guard]);
  return state.reason;
}

function lineElement() {
  return element(
    'tr',
    {},
    element('th', { scope: 'row', class: 'mono' }, element('a')),
    element('td', { class: 'worst-state' }, element('span', { class: 'shape-place' }), element('span')),
    element('td', { class: 'worst-why' }),
    element('td', { class: 'number' }),
    element('td', { class: 'number' }),
    element('td', { class: 'worst-vram' }, usageBar()),
  );
}

/**
 * @param {HTMLTableRowElement} line
 * @param {Row} row
 */
function writeLine(line, row) {
  const { key, state, seen, backend } = row;
  const [address, stateCell, why, sessions, latency, vram] = /** @type {HTMLElement[]} */ ([...line.children]);
  if (address === undefined || stateCell === undefined || why === undefined || sessions === undefined || latency === undefined || vram === undefined) return;
  line.classList.toggle('is-broken', isBroken(state.operational));
  const link = /** @type {Element} */ (address.firstElementChild);
  setAttribute(link, 'href', `?${new URLSearchParams(addressOf(key))}`);
  setText(link, key);
  const [place, word] = /** @type {HTMLElement[]} */ ([...stateCell.children]);
  const shape = shapeOf(state);
  if (place !== undefined && place.dataset.shape !== shape) {
    place.dataset.shape = shape;
    place.replaceChildren(shapeIcon(shape));
  }
  if (word !== undefined) setText(word, ` ${stateText(state)}`);
  setText(why, whyOf(row));
  setText(sessions, countText(seen?.sessions_active));
  setText(latency, latencyText(seen?.first_byte_latency_us));
  const { column } = words();
  for (const [cell, name] of /** @type {const} */ ([[sessions, column.sessions], [latency, column.latency], [vram, column.vram]])) {
    setAttribute(cell, 'data-column', name);
  }
  writeBar(/** @type {HTMLElement} */ (vram.firstElementChild), words().vramMean, backend.vram_usage, vramGuard(backend.vram_usage));
}
