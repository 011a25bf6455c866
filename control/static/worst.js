/**
 * @file The five backends that most want to be looked at, and why.
 */

import { byId, element } from './dom.js';
import { countText, latencyText } from './format.js';
import { words } from './i18n.js';
import { isBroken, shapeIcon, shapeOf, stateText } from './state.js';
import { usageBar, vramGuard, writeBar } from './usage.js';

/** @typedef {import('./rows.js').Row} Row */

const COUNT = 5;

/** What is on the page, so that it is written only where it differs. */
let shown = '';

/** @param {Row[]} rows */
export function showWorst(rows) {
  const worst = rows
    .map((row) => ({ row, rank: rankOf(row) }))
    .sort((a, b) => a.rank - b.rank || (b.row.backend.vram_usage ?? 0) - (a.row.backend.vram_usage ?? 0))
    .slice(0, COUNT)
    .map(({ row }) => row);
  const lines = worst.map(textsOf);
  const text = JSON.stringify(lines);
  if (text === shown) return;
  shown = text;
  byId('worst', HTMLTableSectionElement).replaceChildren(
    ...worst.map((row, at) => lineElement(row, /** @type {ReturnType<typeof textsOf>} */ (lines[at]))),
  );
  byId('worst-empty', HTMLElement).hidden = worst.length > 0;
}

/**
 * Less is worse: those that are out first, then those that are full, then the rest; what somebody
 * took out on purpose comes last.
 * @param {Row} row
 */
function rankOf({ state, backend }) {
  if (isBroken(state.operational)) return ['down', 'expired', 'ejected'].indexOf(state.operational);
  if (state.admin !== 'ready') return 20;
  return 10 + ['full', 'high', 'near', 'calm'].indexOf(vramGuard(backend.vram_usage));
}

/** @param {Row} row */
function textsOf({ key, state, seen, backend }) {
  return {
    key,
    shape: shapeOf(state),
    state: stateText(state),
    why: whyOf(state, backend),
    sessions: countText(seen?.sessions_active),
    latency: latencyText(seen?.first_byte_latency_us),
    vram: backend.vram_usage,
  };
}

/**
 * @param {Row['state']} state
 * @param {Row['backend']} backend
 */
function whyOf(state, backend) {
  if (isBroken(state.operational)) return state.reason;
  const guard = vramGuard(backend.vram_usage);
  if (guard !== 'calm') return words().usageOf(words().vramMean, words().vramGuard[guard]);
  return state.reason;
}

/**
 * @param {Row} row
 * @param {ReturnType<typeof textsOf>} texts
 */
function lineElement(row, texts) {
  const bar = usageBar();
  writeBar(bar, words().vramMean, texts.vram, vramGuard(texts.vram));
  const query = new URLSearchParams({ page: 'backends', filter: texts.key });
  return element(
    'tr',
    { class: isBroken(row.state.operational) ? 'is-broken' : '' },
    element('th', { scope: 'row', class: 'mono' }, element('a', { href: `?${query}` }, texts.key)),
    element('td', { class: 'worst-state' }, shapeIcon(texts.shape), ` ${texts.state}`),
    element('td', { class: 'worst-why' }, texts.why),
    element('td', { class: 'number', 'data-column': words().column.sessions }, texts.sessions),
    element('td', { class: 'number', 'data-column': words().column.latency }, texts.latency),
    element('td', { class: 'worst-vram', 'data-column': words().column.vram }, bar),
  );
}
