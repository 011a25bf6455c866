/**
 * @file What the side panel shows of a backend that is listed no more: since when, where it came from,
 * and what happened to it. Nothing in it looks alive, and nothing in it changes anything.
 */

import { serverNow } from './api.js';
import { editLine, section, sideHead, stateLine, writeEditLine, writeStateLine } from './detail-view.js';
import { element, setText, writeChildren } from './dom.js';
import * as format from './format.js';
import { words } from './i18n.js';
import { shapeIcon } from './state.js';

/** @typedef {import('./shapes.js').Gone} Gone */

export class GoneView {
  /**
   * @param {string} key
   * @param {() => void} close
   */
  constructor(key, close) {
    const told = words().side;
    this.since = element('p', { class: 'side-reason' });
    this.source = element('p', { class: 'faint' });
    this.history = element('ol', { class: 'side-list' });
    this.edits = element('ol', { class: 'side-list' });
    this.sections = [section(told.history, this.history), section(told.edits, this.edits)];
    this.elements = [
      sideHead(element('span', { class: 'shape-place' }, shapeIcon('unknown')), key, close),
      element('div', { class: 'side-section' }, element('p', { class: 'side-state' }, words().gone), this.since, this.source),
      ...this.sections,
    ];
  }

  /** @param {Gone | 'asking' | 'unknown'} known what control says of it */
  update(known) {
    const told = words().goneView;
    const gone = typeof known === 'string' ? null : known;
    setText(this.since, gone === null ? (known === 'unknown' ? told.unknown : words().loading) : sinceText(gone.at_ms));
    const names = (gone?.sources ?? []).map((name) => (name === 'override' ? words().override : words().source(name)));
    setText(this.source, names.length === 0 ? '' : told.source(names));
    writeChildren(this.history, gone?.history ?? [], stateLine, writeStateLine);
    writeChildren(this.edits, gone?.edits ?? [], editLine, writeEditLine);
    for (const [at, list] of [this.history, this.edits].entries()) {
      const place = this.sections[at];
      if (place !== undefined) place.hidden = list.children.length === 0;
    }
  }
}

/** @param {number | null} at unix milliseconds */
function sinceText(at) {
  const told = words().goneView;
  if (at === null) return told.beforeStart;
  return told.since(format.momentText(at), format.spanText((serverNow() - at) / 1000));
}
