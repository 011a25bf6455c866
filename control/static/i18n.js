/**
 * @file Which language the page speaks. Words are functions and strings of one typed object a
 * language, so that `tsc` finds a string that one of them lacks.
 */

import { setAttribute, setText } from './dom.js';
import { recall, remember } from './storage.js';

/** @typedef {typeof import('./words-en.js').en} Words */
/** @typedef {'en' | 'zh'} Language */

/** Only the language that is spoken is loaded. @type {Record<Language, () => Promise<Words>>} */
const LOADS = {
  en: async () => (await import('./words-en.js')).en,
  zh: async () => (await import('./words-zh.js')).zh,
};

/** @type {Language} */
let spoken = firstLanguage();
let current = await LOADS[spoken]();
/** @type {(() => void)[]} */
const listeners = [];

/** The words of the current language. */
export function words() {
  return current;
}

/**
 * A word by its name, with its arguments: what is said so can be kept, and follows the language.
 * @typedef {readonly [string, ...unknown[]]} Said
 */

/** @param {Said} said an argument may be one too @returns {string} */
export function wordsOf([name, ...args]) {
  const word = /** @type {any} */ (words())[name];
  const told = args.map((arg) => (Array.isArray(arg) ? wordsOf(/** @type {any} */ (arg)) : arg));
  return typeof word === 'function' ? word(...told) : String(word ?? name);
}

/** Which language is spoken. */
export function language() {
  return spoken;
}

/** For `Intl`. */
export function locale() {
  return spoken === 'zh' ? 'zh-CN' : 'en-GB';
}

/**
 * Calls back after every change of language, to write again what index.html does not hold.
 * @param {() => void} listener
 */
export function onLanguage(listener) {
  listeners.push(listener);
}

/** Writes the page in the first language and binds the radio buttons of the top bar. */
export function startLanguage() {
  for (const radio of document.querySelectorAll('input[name="language"]')) {
    if (!(radio instanceof HTMLInputElement)) continue;
    radio.addEventListener('change', () => void choose(radio.value === 'zh' ? 'zh' : 'en'));
  }
  markChosen();
  translateMarkup();
}

function markChosen() {
  const radio = document.querySelector(`input[name="language"][value="${spoken}"]`);
  if (radio instanceof HTMLInputElement) radio.checked = true;
}

/** @param {Language} chosen */
async function choose(chosen) {
  const loaded = await LOADS[chosen]().catch(() => null);
  if (loaded === null) {
    // The server is away, which the banner tells; the language stays.
    markChosen();
    return;
  }
  current = loaded;
  spoken = chosen;
  remember('language', spoken);
  translateMarkup();
  for (const listener of listeners) listener();
}

/** @returns {Language} */
function firstLanguage() {
  const remembered = recall('language');
  if (remembered === 'en' || remembered === 'zh') return remembered;
  const known = navigator.languages.find((tag) => /^(en|zh)\b/i.test(tag));
  return known !== undefined && /^zh/i.test(known) ? 'zh' : 'en';
}

const TRANSLATED_ATTRIBUTES = /** @type {const} */ ([
  ['data-label', 'aria-label'],
  ['data-hint', 'title'],
  ['data-placeholder', 'placeholder'],
]);

/**
 * In index.html `data-text`, `data-label`, `data-hint` and `data-placeholder` name the word that
 * becomes an element's text, its name for screen readers, its tooltip, its placeholder; `page.batch` is
 * the word `batch` of `page`.
 */
function translateMarkup() {
  document.documentElement.lang = spoken === 'zh' ? 'zh-CN' : 'en';
  for (const target of document.querySelectorAll('[data-text]')) {
    setText(target, plainWord(target, 'data-text'));
  }
  for (const [from, to] of TRANSLATED_ATTRIBUTES) {
    for (const target of document.querySelectorAll(`[${from}]`)) {
      setAttribute(target, to, plainWord(target, from));
    }
  }
}

/**
 * @param {Element} target
 * @param {string} attribute
 */
function plainWord(target, attribute) {
  const name = target.getAttribute(attribute) ?? '';
  /** @type {any} */
  let word = words();
  for (const step of name.split('.')) word = word?.[step];
  if (typeof word !== 'string') throw new Error(`index.html asks for the unknown word ${name}`);
  return word;
}
