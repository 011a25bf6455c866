/**
 * @file What came just before the state that a backend is in: since when that is, and the last edit of
 * this backend or of the settings before it, by whom and why.
 */

import { actionText } from './audit-words.js';
import { momentText, spanText } from './format.js';
import { words } from './i18n.js';

const LOOKED_BACK_MS = 10 * 60_000;
/** An edit and what follows from it are noted by two clocks of one machine. */
const TOLERANCE_MS = 1_000;

/** @param {import('./shapes.js').Detail | null} detail */
export function beforeText(detail) {
  const since = detail?.history[0]?.at_ms;
  if (detail === null || since === undefined) return '';
  const told = words().before;
  const momentOf = (/** @type {import('./audit-line.js').Entry} */ { time = '' }) => Date.parse(time);
  const [edit] = [...detail.edits, ...detail.settings_edits]
    // A refused one has changed nothing.
    .filter((line) => (line.old ?? line.new ?? null) !== null)
    .filter((line) => momentOf(line) <= since + TOLERANCE_MS && momentOf(line) >= since - LOOKED_BACK_MS)
    .sort((one, other) => momentOf(other) - momentOf(one));
  const when = told.since(momentText(since));
  if (edit === undefined) return words().sentences(when, told.none);
  const span = spanText(Math.max(0, since - momentOf(edit)) / 1000);
  return words().sentences(when, told.edit(span, actionText(edit), edit.actor ?? '', edit.note ?? ''));
}
