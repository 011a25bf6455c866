/**
 * @file What can be done to one backend: its weight, enable, drain, clear the override, ping. A row of
 * the table has these, and the side panel has them too.
 */

import { changeDrain, changeEnabled, changeWeight, clearOverride } from './changes.js';
import { element, setAttribute, setText, svg } from './dom.js';
import { words } from './i18n.js';
import { openPing } from './ping.js';
import { stage, stagedOf } from './staged.js';
import { isDraining } from './state.js';
import { WeightEditor } from './weight.js';

/** @typedef {import('./shapes.js').Backend} Backend */
/** @typedef {import('./rows.js').Row} Row */

/** What a row has room for in place of the words: what empties, and a pulse. */
const ICONS = { drain: 'M5 6h14L12 18z', ping: 'M3 12h4l3-7 4 14 3-7h4' };

export class Controls {
  /** @param {() => Backend} backendOf whose controls they are, as it stands */
  constructor(backendOf) {
    this.backendOf = backendOf;
    /** @type {ReturnType<typeof words> | null} */
    this.named = null;
    this.weight = new WeightEditor(
      (weight) => {
        // Staging what stands takes off a weight that waits, and nothing else that does.
        stage([backendOf()], { weight: backendOf().weight });
        return changeWeight(backendOf(), weight);
      },
      (weight) => stage([backendOf()], { weight }),
    );
    this.enabled = element(
      'button',
      { type: 'button', role: 'switch', class: 'switch', 'data-needs': 'write', onclick: () => this.#switchEnabled() },
      element('span', { class: 'switch-track', 'aria-hidden': 'true' }),
      element('span', { class: 'switch-word' }),
    );
    this.drain = actionButton(ICONS.drain, () => this.switchDrain());
    this.ping = actionButton(ICONS.ping, () => openPing(backendOf().ip));
    this.clear = element('button', { type: 'button', class: 'quiet small', 'data-needs': 'write', onclick: () => this.#clear() });
  }

  /** @param {Row} row */
  update({ backend, seen, key }) {
    this.weight.wait(stagedOf(key)?.weight ?? null);
    this.weight.update(backend.weight, seen?.weight_effective ?? null, key);
    setAttribute(this.enabled, 'aria-checked', String(backend.enabled));
    writeWord(this.enabled, backend.enabled ? words().enabled : words().disabled);
    setAttribute(this.drain, 'aria-pressed', String(isDraining(backend)));
    this.clear.hidden = !backend.override;
    if (this.named !== words()) this.#name(key);
  }

  /** What they are called, in the language of the page. @param {string} key */
  #name(key) {
    this.named = words();
    setAttribute(this.enabled, 'aria-label', words().enabledOf(key));
    writeWord(this.drain, words().drain);
    setAttribute(this.drain, 'aria-label', words().drainOf(key));
    setAttribute(this.drain, 'title', words().drainOf(key));
    writeWord(this.ping, words().ping);
    setAttribute(this.ping, 'aria-label', words().pingOf(key));
    setAttribute(this.ping, 'title', words().pingOf(key));
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
 * A button with an icon for where there is little room, and a word for where there is more.
 * @param {string} icon
 * @param {() => unknown} act
 */
function actionButton(icon, act) {
  return element(
    'button',
    { type: 'button', class: 'small', 'data-needs': 'write', onclick: act },
    svgIcon(icon),
    element('span', { class: 'action-word' }),
  );
}

/** @param {string} path */
function svgIcon(path) {
  const icon = svg('svg', { class: 'action-icon', viewBox: '0 0 24 24', 'aria-hidden': 'true' });
  icon.append(svg('path', { d: path }));
  return icon;
}

/** @param {HTMLButtonElement} button @param {string} word */
function writeWord(button, word) {
  setText(/** @type {Element} */ (button.lastElementChild), word);
}

/** What buttons showed when they were pressed, and what that came to. @type {WeakMap<Element, {shown: string, done: Promise<unknown>}>} */
const underWay = new WeakMap();

/**
 * A second press while the first is under way does nothing, unless the page shows already what the
 * first was for: then it is another wish, and follows. The button keeps the focus, which `disabled`
 * would take from it.
 * @param {HTMLButtonElement} button
 * @param {() => Promise<unknown>} act
 */
async function whileBusy(button, act) {
  const shown = ['aria-checked', 'aria-pressed', 'hidden'].map((name) => button.getAttribute(name)).join();
  const before = underWay.get(button);
  if (before?.shown === shown) return;
  const press = { shown, done: before === undefined ? act() : before.done.then(act) };
  underWay.set(button, press);
  button.setAttribute('aria-busy', 'true');
  await press.done;
  if (underWay.get(button) !== press) return;
  underWay.delete(button);
  button.removeAttribute('aria-busy');
}
