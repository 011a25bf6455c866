/**
 * @file TCP and UDP health of a backend, where the service takes both: a mark for each, and words.
 */

import { setAttribute } from './dom.js';
import { words } from './i18n.js';
import { isBroken, shapeIcon, shapeOf, stateText } from './state.js';

/** @typedef {import('./rows.js').Row} Row */

/**
 * What is found of a backend over each protocol, where the service takes both.
 * @param {Row} row
 * @returns {[name: string, operational: import('./state.js').Operational][]}
 */
function protocolsOf({ seen, state }) {
  if (!seen?.tcp || !seen.udp) return [];
  const isExpired = state.operational === 'expired';
  return [
    ['TCP', isExpired ? 'expired' : seen.tcp],
    ['UDP', isExpired ? 'expired' : seen.udp],
  ];
}

/** @param {Row} row */
export function protocolText(row) {
  return protocolsOf(row).map(([name, operational]) => `${name} ${words().operational[operational]}`).join(' · ');
}

/** A state that takes more than so many Latin letters takes two lines, or smaller ones. */
const LONG_STATE = 12;

/** Whether a state is to be written smaller: two lines of the usual letters reach the edges of a row. @param {string} word */
export function isLong(word) {
  const letters = [...word].reduce((sum, letter) => sum + (letter < '\u2e80' ? 1 : 2), 0);
  return letters > LONG_STATE || word.includes('\n');
}

/**
 * The state in the room of a cell: where only one protocol is out, a line for each mark.
 * @param {Row} row
 */
export function stateWord(row) {
  const told = protocolsOf(row);
  const out = told.filter(([, operational]) => isBroken(operational));
  if (row.state.admin !== 'ready' || out.length !== 1) return stateText(row.state);
  return told.map(([name, operational]) => `${name} ${words().operational[operational === 'checking' ? 'unknown' : operational]}`).join('\n');
}

/**
 * A mark for each protocol that the service takes, TCP above UDP.
 * @param {HTMLElement} place
 * @param {Row} row
 */
export function showMarks(place, row) {
  const told = protocolsOf(row);
  const states = told.length > 0 ? told.map(([, operational]) => ({ ...row.state, operational })) : [row.state];
  const shapes = states.map(shapeOf);
  setAttribute(place, 'role', told.length > 0 ? 'img' : null);
  setAttribute(place, 'aria-label', protocolText(row) || null);
  if (place.dataset.shape === shapes.join(' ')) return;
  place.dataset.shape = shapes.join(' ');
  place.replaceChildren(...shapes.map(shapeIcon));
}
