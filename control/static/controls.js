/**
 * @file What can be done to one backend: its weight, enable, drain, clear the override, ping. A row of
 * the table has these, and the side panel has them too.
 */

import { mustAsk, propose } from './apply.js';
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
      async (weight) => {
        const edits = [{ id: backendOf().id, weight }];
        if (mustAsk(edits)) {
          await propose(edits);
          return null;
        }
        // Staging what stands takes off a weight that waits, and nothing else that does.
        stage([backendOf()], { weight: backendOf().weight });
        return changeWeight(backendOf(), weight);
      },
      (weight) => stage([backendOf()], { weight }),
    );
    this.enabled = element(
      'button',
      { type: 'button', role: 'switch', class: 'switch', 'data-needs': 'write', onclick: (/** @type {Event} */ event) => this.#switchEnabled(event) },
      element('span', { class: 'switch-track', 'aria-hidden': 'true' }),
      element('span', { class: 'switch-word' }),
    );
    this.drain = actionButton(ICONS.drain, (event) => this.switchDrain(event));
    this.ping = actionButton(ICONS.ping, () => openPing(backendOf().ip));
    this.clear = element('button', { type: 'button', class: 'quiet small', 'data-needs': 'write', onclick: (/** @type {Event} */ event) => this.#clear(event) });
  }

  /** @param {Row} row */
  update({ backend, seen, key }) {
    this.weight.update(backend.weight, seen?.weight_effective ?? null, key);
    this.wait(backend);
    this.clear.hidden = !backend.override;
    if (this.named !== words()) this.#name(key);
  }

  /** Shows what is, and over it what waits to be. @param {Backend} backend */
  wait(backend) {
    const edit = stagedOf(backend.id);
    this.weight.wait(edit?.weight ?? null);
    const enabled = edit?.enabled ?? backend.enabled;
    setAttribute(this.enabled, 'aria-checked', String(enabled));
    writeWord(this.enabled, enabled ? words().enabled : words().disabled);
    setAttribute(this.drain, 'aria-pressed', String(edit?.drain ?? isDraining(backend)));
    this.enabled.classList.toggle('is-waiting', typeof edit?.enabled === 'boolean');
    this.drain.classList.toggle('is-waiting', typeof edit?.drain === 'boolean');
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

  /** @param {Event} event */
  #switchEnabled(event) {
    const backend = this.backendOf();
    const waiting = stagedOf(backend.id)?.enabled;
    if (typeof waiting === 'boolean' || isByTouch(event)) return stage([backend], { enabled: !(waiting ?? backend.enabled) });
    return this.#make(this.enabled, { enabled: !backend.enabled }, () => changeEnabled(this.backendOf(), !this.backendOf().enabled));
  }

  /** @param {Event} [event] none where a key asks for it */
  switchDrain(event) {
    const backend = this.backendOf();
    const waiting = stagedOf(backend.id)?.drain;
    if (typeof waiting === 'boolean' || isByTouch(event)) return stage([backend], { drain: !(waiting ?? isDraining(backend)) });
    return this.#make(this.drain, { drain: !isDraining(backend) }, () => changeDrain(this.backendOf(), !isDraining(this.backendOf())));
  }

  /**
   * At once, unless it is to be asked for first.
   * @param {HTMLButtonElement} button
   * @param {Omit<import('./shapes.js').Edit, 'id'>} edit
   * @param {() => Promise<unknown>} act
   */
  #make(button, edit, act) {
    const edits = [{ id: this.backendOf().id, ...edit }];
    return mustAsk(edits) ? propose(edits) : whileBusy(button, act);
  }

  /** @param {Event} event */
  async #clear(event) {
    const edit = { weight: null, enabled: null, drain: null };
    if (isByTouch(event)) return stage([this.backendOf()], edit);
    await this.#make(this.clear, edit, () => clearOverride(this.backendOf()));
    // The button is gone with the override; the keyboard goes on from the weight.
    if (this.clear.hidden) this.weight.focus();
  }
}

/**
 * A finger slips, and cards move under it: what it switches waits to be applied.
 * @param {Event} [event]
 */
function isByTouch(event) {
  return event instanceof PointerEvent ? event.pointerType === 'touch' : event !== undefined && matchMedia('(hover: none)').matches;
}

/**
 * A button with an icon for where there is little room, and a word for where there is more.
 * @param {string} icon
 * @param {(event: Event) => unknown} act
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
