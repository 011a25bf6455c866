/**
 * @file What can be done to one backend: its weight, enable, drain, clear the override, ping. A row of
 * the table has these, and the side panel has them too.
 */

import { changeDrain, changeEnabled, changeWeight, clearOverride } from './changes.js';
import { element, setAttribute, setText } from './dom.js';
import { words } from './i18n.js';
import { openPing } from './ping.js';
import { stage, stagedOf, unstage } from './staged.js';
import { isDraining } from './state.js';
import { WeightEditor } from './weight.js';

/** @typedef {import('./api.js').Backend} Backend */
/** @typedef {import('./rows.js').Row} Row */

export class Controls {
  /** @param {() => Backend} backendOf whose controls they are, as it stands */
  constructor(backendOf) {
    this.backendOf = backendOf;
    /** @type {ReturnType<typeof words> | null} */
    this.named = null;
    this.weight = new WeightEditor(
      (weight) => {
        unstage([backendOf().id]);
        return changeWeight(backendOf(), weight);
      },
      (weight) => stage(backendOf(), { weight }),
    );
    this.enabled = element(
      'button',
      { type: 'button', role: 'switch', class: 'switch', 'data-needs': 'write', onclick: () => this.#switchEnabled() },
      element('span', { class: 'switch-track', 'aria-hidden': 'true' }),
      element('span', { class: 'switch-word' }),
    );
    this.drain = element('button', { type: 'button', class: 'small', 'data-needs': 'write', onclick: () => this.switchDrain() });
    this.ping = element('button', { type: 'button', class: 'small', 'data-needs': 'write', onclick: () => openPing(backendOf().ip) });
    this.clear = element('button', { type: 'button', class: 'quiet small', 'data-needs': 'write', onclick: () => this.#clear() });
  }

  /** @param {Row} row */
  update({ backend, seen, key }) {
    this.weight.update(backend.weight, seen?.weight_effective ?? null, key, stagedOf(key)?.weight ?? null);
    setAttribute(this.enabled, 'aria-checked', String(backend.enabled));
    const word = backend.enabled ? words().enabled : words().disabled;
    setText(/** @type {Element} */ (this.enabled.lastElementChild), word);
    setAttribute(this.drain, 'aria-pressed', String(isDraining(backend)));
    this.clear.hidden = !backend.override;
    if (this.named !== words()) this.#name(key);
  }

  /** What they are called, in the language of the page. @param {string} key */
  #name(key) {
    this.named = words();
    setAttribute(this.enabled, 'aria-label', words().enabledOf(key));
    setText(this.drain, words().drain);
    setAttribute(this.drain, 'aria-label', words().drainOf(key));
    setAttribute(this.drain, 'title', words().drainOf(key));
    setText(this.ping, words().ping);
    setAttribute(this.ping, 'aria-label', words().pingOf(key));
    setAttribute(this.clear, 'aria-label', words().clearOverrideOf(key));
    setAttribute(this.clear, 'title', words().clearOverride);
  }

  #switchEnabled() {
    return whileBusy(this.enabled, () => changeEnabled(this.backendOf(), !this.backendOf().enabled));
  }

  switchDrain() {
    return whileBusy(this.drain, () => changeDrain(this.backendOf(), !isDraining(this.backendOf())));
  }

  async #clear() {
    await whileBusy(this.clear, () => clearOverride(this.backendOf()));
    // The button is gone with the override; the keyboard goes on from the weight.
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
