/**
 * @file What happened in the time that the charts show: the newest events in words, and each as a mark on
 * the charts.
 */

import { actionText, targetText } from './audit-words.js';
import { byId, element } from './dom.js';
import { clockText, momentText } from './format.js';
import { words } from './i18n.js';
import { pastMarks, rangeNow } from './stored-series.js';

/** @typedef {import('./stored-series.js').Mark} Mark */

const SHOWN = 6;

/** All that `colourOf` gives, the gravest first. */
export const MARK_COLOURS = ['--down', '--up', '--accent', '--edge'];

/** The colour of an event's mark, by what it means for traffic. @param {Mark} mark */
export function colourOf(mark) {
  if (mark.kind === 'refused') return '--down';
  if (mark.kind === 'state') return ['down', 'ejected', 'expired'].includes(mark.to) ? '--down' : '--up';
  return mark.kind === 'edit' ? '--accent' : '--edge';
}

/** The newest first. What an edit led to is seen on the charts, so generations are left out here. */
export function showEvents() {
  const told = pastMarks().filter(({ kind }) => kind !== 'applied');
  const newest = told.slice(-SHOWN).reverse();
  const place = byId('events', HTMLElement);
  place.replaceChildren(...newest.map(eventElement));
  byId('events-none', HTMLElement).hidden = newest.length > 0;
}

/** @param {Mark} mark */
function eventElement(mark) {
  const when = rangeNow() === 'day' ? momentText(mark.at_ms) : clockText(mark.at_ms);
  return element(
    'li',
    { class: 'event', 'data-kind': mark.kind },
    element('time', { class: 'faint', datetime: new Date(mark.at_ms).toISOString() }, when),
    element('span', {}, textOf(mark)),
  );
}

/** @param {Mark} mark */
function textOf(mark) {
  const { event } = words();
  switch (mark.kind) {
    case 'edit':
      return event.edit(mark.actor, actionText({ action: mark.action }), targetText(mark));
    case 'state':
      return event.state(mark.count, mark.backends.join(', '), operational(mark.to));
    case 'refused':
      return event.refused(mark.generation, mark.reason);
    case 'applied':
      return event.applied(mark.generation);
  }
}

/** What an older or newer server says besides stays as it is. @param {string} state */
function operational(state) {
  const known = /** @type {Record<string, string>} */ (words().operational);
  return known[state] ?? state;
}
