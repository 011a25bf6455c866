/**
 * @file One row of the table: built once, then only what changed is written. What the person is
 * typing is theirs: an update never touches a weight that is being edited.
 */

import { serverNow } from './api.js';
import { changeDrain, changeEnabled, changeWeight, clearOverride } from './changes.js';
import { element, setAttribute, setText } from './dom.js';
import { countText, dateTimeText, isNumber, latencyText, spanText } from './format.js';
import { words } from './i18n.js';
import { openPing } from './ping.js';
import { sourceOf } from './rows.js';
import { isChosen, toggleChosen } from './selection.js';
import { drawVram, sparkline } from './sparkline.js';
import { stage, stagedOf, unstage } from './staged.js';
import { isDraining, shapeIcon, shapeOf, stateText } from './state.js';
import { usageBar, vramGuard, writeBar } from './usage.js';
import { WeightEditor } from './weight.js';

/** @typedef {import('./rows.js').Row} Row */


export class RowView {
  /** @param {Row} row */
  constructor(row) {
    this.row = row;
    this.shape = element('span', { class: 'shape-place' });
    this.state = element('span', { class: 'state-word' });
    this.source = element('span', { class: 'badge' });
    this.override = element('span', { class: 'badge badge-override' });
    this.clear = element('button', { type: 'button', class: 'quiet small', onclick: () => this.onClear() });
    this.gpu = usageBar();
    this.vram = usageBar();
    this.sparkline = sparkline();
    this.sessions = element('span');
    this.latency = element('span');
    this.seen = element('span');
    this.choose = element('input', {
      type: 'checkbox',
      class: 'choose',
      onchange: () => toggleChosen(this.row.key),
    });
    this.pending = element('span', { class: 'badge badge-pending' });
    this.weight = new WeightEditor(
      (weight) => this.onWeight(weight),
      (weight) => stage(this.row.backend, { weight }),
    );
    this.enabled = element(
      'button',
      { type: 'button', role: 'switch', class: 'switch', onclick: () => this.onEnabled() },
      element('span', { class: 'switch-track', 'aria-hidden': 'true' }),
      element('span', { class: 'switch-word' }),
    );
    this.drain = element('button', { type: 'button', class: 'small', onclick: () => this.onDrain() });
    this.ping = element('button', {
      type: 'button',
      class: 'small',
      onclick: () => openPing(this.row.backend.ip),
    });

    this.cells = {
      address: cell('cell-address mono', element('label', {}, this.choose, element('span', {}, row.key))),
      state: cell('cell-state', this.shape, this.state, this.pending),
      source: cell('cell-source', this.source, this.override, this.clear),
      weight: cell('cell-weight', this.weight.element),
      gpu: cell('cell-gpu', this.gpu),
      vram: cell('cell-vram', this.vram, this.sparkline),
      sessions: cell('cell-sessions number', this.sessions),
      latency: cell('cell-latency number', this.latency),
      seen: cell('cell-seen number', this.seen),
      actions: cell('cell-actions', this.enabled, this.drain, this.ping),
    };
    this.cells.address.setAttribute('role', 'rowheader');
    this.element = element('tr', { role: 'row', tabindex: -1 }, ...Object.values(this.cells));
  }

  /** Whether the person is at work in this row, so that it must stay. */
  isHeld() {
    return this.weight.isEdited() || this.element.querySelector(':focus-visible') !== null;
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
    this.#writeWeight();
    this.#writeUsage(now);
    this.#writeTraffic();
    this.#writeActions();
    for (const [column, target] of Object.entries(this.cells)) {
      setAttribute(target, 'data-column', words().column[/** @type {keyof typeof this.cells} */ (column)]);
    }
  }

  /** The backend is listed no more; the row stays a moment, so that the eye can follow. */
  markGone() {
    this.element.classList.add('is-gone');
    setText(this.state, words().gone);
  }

  #writeState() {
    const { state } = this.row;
    const shape = shapeOf(state);
    if (this.shape.dataset.shape !== shape) {
      this.shape.dataset.shape = shape;
      this.shape.replaceChildren(shapeIcon(shape));
    }
    setText(this.state, stateText(state));
    setAttribute(this.cells.state, 'title', state.reason);
    this.writeChoice();
    this.element.classList.toggle('is-off', state.admin === 'disabled');
  }

  /** Whether it is chosen, and what waits for it. */
  writeChoice() {
    const { key } = this.row;
    this.choose.checked = isChosen(key);
    setAttribute(this.choose, 'aria-label', words().chooseOf(key));
    const edit = stagedOf(key);
    this.pending.hidden = edit === null;
    setText(this.pending, edit === null ? '' : pendingText(edit));
    setAttribute(this.pending, 'title', words().pendingBadge);
    this.element.classList.toggle('is-pending', edit !== null);
  }

  /** @param {number} weight */
  onWeight(weight) {
    unstage([this.row.key]);
    return changeWeight(this.row.backend, weight);
  }

  #writeSource() {
    const { backend, key } = this.row;
    setText(this.source, words().source(sourceOf(backend)));
    setAttribute(this.source, 'title', backend.sources?.join(', ') ?? backend.source);
    this.override.hidden = !backend.override;
    this.clear.hidden = !backend.override;
    setText(this.override, words().override);
    setAttribute(this.override, 'title', words().overrideHint(overrideParts(backend.override)));
    setText(this.clear, '×');
    setAttribute(this.clear, 'aria-label', words().clearOverrideOf(key));
    setAttribute(this.clear, 'title', words().clearOverride);
  }

  #writeWeight() {
    const { backend, seen, key } = this.row;
    this.weight.update(backend.weight, seen?.weight_effective ?? null, key, stagedOf(key)?.weight ?? null);
  }

  /** @param {number} now unix milliseconds */
  #writeUsage(now) {
    const { backend, key } = this.row;
    writeBar(this.gpu, words().gpuMean, backend.gpu_usage, 'calm');
    writeBar(this.vram, words().vramMean, backend.vram_usage, vramGuard(backend.vram_usage));
    drawVram(this.sparkline, key, now);
  }

  #writeTraffic() {
    const { backend, seen } = this.row;
    setText(this.sessions, countText(seen === null ? null : seen.sessions_active + seen.flows_active));
    const failed = seen === null ? 0 : seen.connect_failures + seen.connect_timeouts;
    const firstByte = latencyText(seen?.first_byte_latency_us);
    const spoken = seen && words().sessionsOf(seen.sessions_total, failed, firstByte);
    setAttribute(this.cells.sessions, 'title', spoken);
    setText(this.latency, firstByte);
    const seenAt = backend.last_seen;
    const isSeen = isNumber(seenAt) && seenAt > 0;
    setText(this.seen, isSeen ? spanText(serverNow() / 1000 - seenAt) : '–');
    setAttribute(this.cells.seen, 'title', isSeen ? this.#heartbeatText(seenAt) : words().never);
  }

  /** @param {number} seenAt unix seconds */
  #heartbeatText(seenAt) {
    const expires = this.row.backend.expires_at_ms;
    const at = dateTimeText(seenAt * 1000);
    if (!isNumber(expires)) return at;
    return `${at}, ${words().expiresIn(spanText((expires - serverNow()) / 1000))}`;
  }

  #writeActions() {
    const { backend, key } = this.row;
    setAttribute(this.enabled, 'aria-checked', String(backend.enabled));
    setAttribute(this.enabled, 'aria-label', words().enabledOf(key));
    const word = backend.enabled ? words().enabled : words().disabled;
    setText(/** @type {Element} */ (this.enabled.lastElementChild), word);
    setText(this.drain, words().drain);
    setAttribute(this.drain, 'aria-pressed', String(isDraining(backend)));
    setAttribute(this.drain, 'aria-label', words().drainOf(key));
    setAttribute(this.drain, 'title', words().drainOf(key));
    setText(this.ping, words().ping);
    setAttribute(this.ping, 'aria-label', words().pingOf(key));
  }

  onEnabled() {
    return whileBusy(this.enabled, () => changeEnabled(this.row.backend, !this.row.backend.enabled));
  }

  onDrain() {
    return whileBusy(this.drain, () => changeDrain(this.row.backend, !isDraining(this.row.backend)));
  }

  onChoose() {
    toggleChosen(this.row.key);
  }

  async onClear() {
    await whileBusy(this.clear, () => clearOverride(this.row.backend));
    // The button is gone with the override; the keyboard goes on from the row's weight.
    if (this.clear.hidden) this.weight.focus();
  }
}

/**
 * A second press while the first is under way does nothing. The button keeps the focus, which
 * `disabled` would take from it.
 * @param {HTMLButtonElement} button
 * @param {() => Promise<unknown>} act
 */
async function whileBusy(button, act) {
  if (button.getAttribute('aria-busy') === 'true') return;
  button.setAttribute('aria-busy', 'true');
  await act();
  button.removeAttribute('aria-busy');
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
 * @param {Omit<import('./api.js').Edit, 'id'>} edit
 */
function pendingText({ weight, enabled, drain }) {
  const parts = [];
  if (weight === null || enabled === null || drain === null) parts.push(words().clearOverride);
  if (isNumber(weight)) parts.push(words().overrideWeight(weight));
  if (typeof enabled === 'boolean') parts.push(enabled ? words().enable : words().disable);
  if (typeof drain === 'boolean') parts.push(drain ? words().drain : words().endDrain);
  return `→ ${parts.join(', ')}`;
}

/** @param {import('./api.js').Override | null | undefined} override */
function overrideParts(override) {
  const parts = [];
  if (isNumber(override?.weight)) parts.push(words().overrideWeight(override.weight));
  if (override?.enabled === true) parts.push(words().enabled);
  if (override?.enabled === false) parts.push(words().admin.disabled);
  if (override?.drain === true) parts.push(words().admin.drain);
  return parts.join(', ');
}
