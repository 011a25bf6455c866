/**
 * @file One row of the table: built once, then only what changed is written. What the person is
 * typing is theirs: an update never touches a weight that is being edited.
 */

import { serverNow } from './api.js';
import { Controls } from './controls.js';
import { isOpen } from './detail.js';
import { element, setAttribute, setText } from './dom.js';
import { errorsOf } from './failures.js';
import { UNKNOWN, countText, isNumber, latencyText, momentText, rateText, spanText } from './format.js';
import { words } from './i18n.js';
import { isLong, showMarks, stateWord } from './protocols.js';
import * as trace from './provenance.js';
import { sourceOf } from './rows.js';
import { isChosen, toggleChosen } from './selection.js';
import { drawVram, sparkline } from './sparkline.js';
import { stagedOf } from './staged.js';
import { tip } from './tooltip.js';
import { rateOf } from './traffic.js';
import { usageBar, usageText, vramGuard, writeBar } from './usage.js';

/** @typedef {import('./rows.js').Row} Row */

export class RowView {
  /**
   * @param {Row} row
   * @param {(key: string) => void} open shows everything about it
   */
  constructor(row, open) {
    this.row = row;
    /** @type {ReturnType<typeof words> | null} */
    this.named = null;
    this.shape = element('span', { class: 'shape-place' });
    this.state = element('span', { class: 'state-word' });
    this.opener = element('button', { type: 'button', class: 'state', 'aria-controls': 'side', onclick: () => open(this.row.key) });
    this.opener.append(this.shape, this.state);
    this.source = element('span', { class: 'source-word' });
    this.left = element('span', { class: 'time-left' });
    this.override = element('span', { class: 'badge badge-override' });
    this.controls = new Controls(() => this.row.backend);
    this.gpu = usageBar();
    this.vram = usageBar();
    this.sparkline = sparkline();
    this.choose = element('input', {
      type: 'checkbox',
      class: 'choose',
      onchange: () => toggleChosen(this.row.key),
    });
    this.pending = element('span', { class: 'badge badge-pending' });
    const { weight, enabled, drain, ping, clear } = this.controls;
    this.cells = {
      address: cell('cell-address mono', element('label', {}, this.choose, element('span', {}, row.key))),
      state: cell('cell-state', element('span', { class: 'state-line' }, this.opener, this.pending)),
      source: cell('cell-source', element('span', { class: 'source' }, this.source, this.left), this.override, clear),
      weight: cell('cell-weight', weight.element),
      gpu: cell('cell-gpu', this.gpu),
      vram: cell('cell-vram', element('span', { class: 'vram' }, this.vram, this.sparkline)),
      sessions: cell('cell-sessions number'),
      rate: cell('cell-rate number'),
      latency: cell('cell-latency number'),
      errors: cell('cell-errors number'),
      seen: cell('cell-seen number'),
      actions: cell('cell-actions', enabled, drain, ping),
    };
    this.cells.address.setAttribute('role', 'rowheader');
    this.element = element('tr', { role: 'row', tabindex: -1 }, ...Object.values(this.cells));
    /** What can be pressed or typed into, from left to right. */
    this.pressable = [...this.element.querySelectorAll(':is(input, button):not([aria-hidden])')].flatMap((found) => (found instanceof HTMLElement ? [found] : []));
    for (const target of this.pressable) target.tabIndex = -1;
    this.isEntered = false;
    this.#traceNumbers();
  }

  /** What a hover over each cell says. */
  #traceNumbers() {
    const { cells } = this;
    tip(this.opener, () => trace.stateReason(this.row));
    tip(this.pending, () => `${words().pendingBadge} ${this.pending.textContent}`);
    tip(this.source, () => trace.heartbeatText(this.row));
    tip(this.left, () => trace.heartbeatText(this.row));
    tip(this.override, () => overrideText(this.row.backend.override));
    tip(this.controls.weight.effective, () => trace.weightReason(this.row));
    tip(cells.gpu, () => trace.reportedText(this.row, usageText(words().gpuMean, this.row.backend.gpu_usage)));
    tip(cells.vram, () => {
      const share = this.row.backend.vram_usage;
      return trace.reportedText(this.row, usageText(words().vramMean, share, vramGuard(share)));
    });
    tip(cells.sessions, () => trace.sessionsText(this.row));
    tip(cells.rate, () => trace.countedText(words().rateOf(rateText(rateOf(this.row.key)))));
    tip(cells.latency, () => trace.latencyTip(this.row));
    tip(cells.errors, () => trace.errorsText(this.row));
    tip(cells.seen, () => trace.heartbeatText(this.row));
  }

  get weight() {
    return this.controls.weight;
  }

  /** @param {boolean} isStop whether Tab comes to this row */
  rove(isStop) {
    if (this.element.tabIndex !== (isStop ? 0 : -1)) this.element.tabIndex = isStop ? 0 : -1;
    const active = document.activeElement;
    const isEntered = active !== this.element && this.element.contains(active);
    if (isEntered === this.isEntered) return;
    this.isEntered = isEntered;
    for (const target of this.pressable) target.tabIndex = isEntered ? 0 : -1;
  }

  /** Moves the keyboard along the row. @param {number} by */
  step(by) {
    const stops = [this.element, ...this.pressable.filter((target) => target.checkVisibility() && !target.matches(':disabled'))];
    const at = stops.findIndex((target) => target === document.activeElement);
    stops[Math.min(stops.length - 1, Math.max(0, at + by))]?.focus();
  }

  /** Whether the person is at work in this row, so that it must stay. */
  isHeld() {
    const active = document.activeElement;
    const isFocused = active !== null && this.element.contains(active) && active.matches(':focus-visible');
    return isFocused || this.weight.isEdited();
  }

  /**
   * @param {Row} row
   * @param {number} now unix milliseconds
   */
  update(row, now) {
    this.row = row;
    this.element.classList.remove('is-gone');
    this.#writeState();
    this.#writeSource();
    this.controls.update(row);
    setText(this.controls.clear, '×');
    this.#writeUsage(now);
    this.#writeTraffic();
    if (this.named !== words()) this.#nameCells();
  }

  /** The names that cards show, in the language of the page. */
  #nameCells() {
    this.named = words();
    for (const [column, target] of Object.entries(this.cells)) {
      target.setAttribute('data-column', words().column[/** @type {keyof typeof this.cells} */ (column)]);
    }
  }

  /** The backend is listed no more; the row stays a moment, so that the eye can follow. */
  markGone() {
    this.element.classList.add('is-gone');
    setText(this.state, words().gone);
  }

  #writeState() {
    showMarks(this.shape, this.row);
    const word = stateWord(this.row);
    setText(this.state, word);
    this.state.classList.toggle('is-long', isLong(word));
    this.writeChoice();
    this.element.classList.toggle('is-off', this.row.state.admin === 'disabled');
  }

  /** Whether it is chosen, and what waits for it. */
  writeChoice() {
    const { key } = this.row;
    this.choose.checked = isChosen(key);
    setAttribute(this.choose, 'aria-label', words().chooseOf(key));
    const edit = stagedOf(key);
    this.pending.hidden = edit === null;
    setText(this.pending, edit === null ? '' : pendingText(edit));
    this.controls.wait(this.row.backend);
    this.element.classList.toggle('is-pending', edit !== null);
    this.element.classList.toggle('is-open', isOpen(key));
    setAttribute(this.opener, 'aria-expanded', String(isOpen(key)));
  }

  #writeSource() {
    const { backend } = this.row;
    setText(this.source, words().source(sourceOf(backend)));
    const expires = backend.expires_at_ms;
    this.left.hidden = !isNumber(expires) || backend.state === 'expired';
    setText(this.left, isNumber(expires) ? trace.timeLeft(expires) : '');
    this.override.hidden = !backend.override;
    setText(this.override, words().override);
  }

  /** @param {number} now unix milliseconds */
  #writeUsage(now) {
    const { backend, key } = this.row;
    writeBar(this.gpu, words().gpuMean, backend.gpu_usage);
    writeBar(this.vram, words().vramMean, backend.vram_usage, vramGuard(backend.vram_usage));
    drawVram(this.sparkline, key, now);
  }

  #writeTraffic() {
    const { backend, seen, key } = this.row;
    const { cells } = this;
    setText(cells.sessions, openText(seen));
    setText(cells.rate, rateText(rateOf(key)));
    setText(cells.latency, latencyText(seen?.first_byte_latency_us));
    setText(cells.errors, countText(errorsOf(seen)));
    cells.errors.classList.toggle('is-bad', (errorsOf(seen) ?? 0) > 0);
    const seenAt = backend.last_seen;
    const isSeen = isNumber(seenAt) && seenAt > 0;
    setText(cells.seen, isSeen ? spanText(serverNow() / 1000 - seenAt) : UNKNOWN);
  }

  onDrain() {
    return this.controls.switchDrain();
  }

  onChoose() {
    toggleChosen(this.row.key);
  }
}

/** Sessions, and beside them the UDP flows where there are any. @param {Row['seen']} seen */
function openText(seen) {
  const sessions = countText(seen?.sessions_active);
  return (seen?.flows_active ?? 0) > 0 ? `${sessions} + ${countText(seen?.flows_active)} UDP` : sessions;
}

/**
 * @param {string} className
 * @param {...import('./dom.js').Child} children
 */
function cell(className, ...children) {
  return element('td', { role: 'cell', class: className }, ...children);
}

/**
 * What waits to be applied, in a few words.
 * @param {Omit<import('./shapes.js').Edit, 'id'>} edit
 */
function pendingText({ weight, enabled, drain }) {
  const parts = [];
  if (weight === null || enabled === null || drain === null) parts.push(words().clearOverride);
  // The weight stands in its own cell.
  if (isNumber(weight) && enabled === undefined && drain === undefined) parts.push(words().overrideWeight(weight));
  if (typeof enabled === 'boolean') parts.push(enabled ? words().enable : words().disable);
  if (typeof drain === 'boolean') parts.push(drain ? words().drain : words().endDrain);
  return `→ ${parts.join(', ')}`;
}

/** What was set, by whom and when. @param {import('./shapes.js').Override | null | undefined} override */
function overrideText(override) {
  const at = override?.at;
  const when = isNumber(at) && at > 0 ? momentText(at * 1000) : '';
  return words().overrideHint(overrideParts(override), override?.actor ?? '', when);
}

/** @param {import('./shapes.js').Override | null | undefined} override */
function overrideParts(override) {
  const parts = [];
  if (isNumber(override?.weight)) parts.push(words().overrideWeight(override.weight));
  if (override?.enabled === true) parts.push(words().enabled);
  if (override?.enabled === false) parts.push(words().admin.disabled);
  if (override?.drain === true) parts.push(words().admin.drain);
  return parts.join(', ');
}
