/**
 * @file The field that edits one weight: type or step, then Enter or Save; Escape takes the edit back.
 * It shows "applying", then what came of it, then rests. It does not know how a weight is saved.
 */

import { element, setAttribute, setText } from './dom.js';
import { words } from './i18n.js';

/** @typedef {import('./report.js').Outcome} Outcome */

const MAX_WEIGHT = 1000;
/** How far a key steps; with Shift ten times as far. @type {Record<string, number>} */
const STEPS = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
/** How long good news stays. Bad news stays until the next edit. */
const NOTE_RESTS_AFTER_MS = 6_000;

export class WeightEditor {
  /** @type {(() => Outcome) | null} */
  #note = null;
  #isBusy = false;
  /** What the control plane says; null before it has said anything. @type {number | null} */
  #saved = null;
  /** The edit of it that waits to be applied. @type {number | null} */
  #waiting = null;
  #effective = '';
  /** The language that it was written in. @type {ReturnType<typeof words> | null} */
  #named = null;

  /**
   * @param {(weight: number) => Promise<(() => Outcome) | null>} save null where it waits instead, or was given up
   * @param {(weight: number) => void} leave told where the field is left with an edit, or with none
   */
  constructor(save, leave) {
    this.save = save;
    this.leave = leave;
    this.input = element('input', {
      type: 'text',
      role: 'spinbutton',
      'aria-valuemin': 0,
      'aria-valuemax': MAX_WEIGHT,
      inputmode: 'numeric',
      class: 'weight-input',
      'data-needs': 'write',
      maxlength: 4,
      autocomplete: 'off',
      oninput: () => this.#onInput(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#onKey(event),
      onfocus: () => this.input.select(),
      onblur: () => this.#onLeave(),
    });
    this.button = element('button', {
      type: 'button',
      class: 'primary small',
      onmousedown: stayInField,
      onclick: () => this.#submit(),
    });
    this.note = element('span', { class: 'weight-note' });
    this.effective = element('span', { class: 'weight-note' });
    const stepper = element('span', { class: 'stepper' }, this.#stepButton(-1), this.input, this.#stepButton(1));
    this.was = element('span', { class: 'weight-was' });
    const parts = [stepper, this.button, this.note, this.effective, this.was];
    this.element = element('span', { class: 'weight' }, ...parts);
  }

  /** Keys step too, so that Tab need not stop here. @param {1 | -1} by */
  #stepButton(by) {
    const attributes = { type: 'button', class: 'step', 'data-needs': 'write', tabindex: -1, 'aria-hidden': 'true' };
    const acts = { onmousedown: stayInField, onclick: () => this.#step(by) };
    return element('button', { ...attributes, ...acts }, by === 1 ? '+' : '−');
  }

  /** @param {number} by */
  #step(by) {
    if (this.#isBusy) return;
    const from = parseWeight(this.input.value) ?? this.#saved ?? 0;
    this.input.value = String(Math.min(MAX_WEIGHT, Math.max(0, from + by)));
    this.#onInput();
    // A field that has the focus is left later, and what stands in it waits then.
    if (document.activeElement !== this.input) this.#onLeave();
  }

  isEdited() {
    return this.#saved !== null && (this.input.value !== String(this.#saved) || this.#isBusy);
  }

  focus() {
    this.input.focus();
  }

  /**
   * @param {number} weight what the control plane says now
   * @param {number | null} effective what new sessions are given by, where the proxy says
   * @param {string} address whose weight it is
   */
  update(weight, effective, address) {
    const counts = effective === null || effective === weight ? '' : words().effective(effective);
    if (weight === this.#saved && counts === this.#effective && words() === this.#named) return;
    const wasEdited = this.isEdited();
    // A field that was out of sight has forgotten what waits.
    const isNew = this.#saved === null;
    this.#saved = weight;
    this.#effective = counts;
    this.#named = words();
    if (!wasEdited && this.input.value !== String(weight)) this.input.value = String(weight);
    if (isNew && this.#waiting !== null) this.input.value = String(this.#waiting);
    setAttribute(this.input, 'aria-label', words().weightOf(address));
    setAttribute(this.button, 'aria-label', words().saveWeightOf(address));
    setText(this.button, words().save);
    this.#write();
  }

  #onInput() {
    this.#note = null;
    this.#write();
  }

  #onLeave() {
    if (this.#isBusy) return;
    const weight = parseWeight(this.input.value);
    if (weight !== null) return this.leave(weight);
    this.#note = () => ({ level: 'bad', text: words().weightRange });
    this.#write();
  }

  /**
   * An edit that waits no more leaves the field, unless the person is typing the next one.
   * @param {number | null} waiting the edit that does
   */
  wait(waiting) {
    const waited = this.#waiting;
    this.#waiting = waiting;
    if (waited === waiting || this.#isBusy || this.#saved === null) return;
    const shown = String(waited ?? this.#saved);
    if (document.activeElement === this.input && this.input.value !== shown) return this.#write();
    this.input.value = String(waiting ?? this.#saved);
    this.#note = null;
    this.#write();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.isComposing) return;
    if (event.key === 'Enter') void this.#submit();
    const step = STEPS[event.key];
    if (step !== undefined) {
      event.preventDefault();
      this.#step(event.shiftKey ? 10 * step : step);
    }
    if (event.key === 'Escape') {
      this.input.value = String(this.#waiting ?? this.#saved);
      this.#note = null;
      this.#write();
      const row = this.input.closest('tr');
      if (row === null) this.input.blur();
      else row.focus({ preventScroll: true });
      event.stopPropagation();
    }
  }

  async #submit() {
    if (this.#isBusy || !this.isEdited()) return;
    const weight = parseWeight(this.input.value);
    if (weight === null) {
      this.#note = () => ({ level: 'bad', text: words().weightRange });
      this.#write();
      return;
    }
    const before = this.#saved;
    this.#isBusy = true;
    this.#note = () => ({ level: 'busy', text: words().applying });
    this.#write();
    const outcome = await this.save(weight);
    this.#isBusy = false;
    this.#note = outcome;
    if (outcome === null) return this.#write();
    // What was saved is no edit any more, even where somebody else has set another weight since.
    if (outcome().level !== 'bad' && this.#saved !== before) this.input.value = String(this.#saved);
    this.#write();
    if (outcome().level === 'good') {
      setTimeout(() => {
        if (this.#note === outcome) this.#note = null;
        this.#write();
      }, NOTE_RESTS_AFTER_MS);
    }
  }

  #write() {
    const note = this.#note?.() ?? null;
    const isInvalid = note?.level === 'bad';
    setText(this.note, note?.text ?? '');
    this.note.hidden = note === null;
    setAttribute(this.note, 'title', note?.text ?? null);
    setAttribute(this.note, 'data-level', note?.level ?? null);
    setAttribute(this.input, 'aria-valuenow', String(parseWeight(this.input.value) ?? this.#saved));
    setAttribute(this.input, 'aria-invalid', isInvalid ? 'true' : null);
    this.input.readOnly = this.#isBusy;
    const isWaiting = this.#waiting !== null && this.input.value === String(this.#waiting);
    this.button.hidden = !this.isEdited() || isWaiting || note !== null;
    this.was.hidden = !isWaiting || note !== null;
    setText(this.was, isWaiting && this.#saved !== null ? words().weightWas(this.#saved) : '');
    setText(this.effective, this.#effective);
    this.effective.hidden = this.isEdited() || note !== null;
    this.element.classList.toggle('is-edited', this.isEdited());
  }
}

/** Pressing the field's own buttons is not leaving it. @param {MouseEvent} event */
function stayInField(event) {
  event.preventDefault();
}

/**
 * @param {string} text
 * @returns {number | null} null where it is no weight
 */
export function parseWeight(text) {
  const trimmed = text.trim();
  if (!/^\d{1,4}$/.test(trimmed)) return null;
  const weight = Number(trimmed);
  return weight <= MAX_WEIGHT ? weight : null;
}
