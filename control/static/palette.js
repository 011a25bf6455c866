/**
 * @file The command palette: pages, actions and backends, found by a few letters of their names and
 * chosen by the keyboard.
 */

import { addressOf, visit } from './address.js';
import { byId, element, setAttribute } from './dom.js';
import { words } from './i18n.js';
import { PAGES, goTo } from './pages.js';

/**
 * @typedef {object} Command
 * @property {string} kind what sort of thing it is, in words
 * @property {string} text
 * @property {string} [hint] the key that does the same
 * @property {() => void} act
 */

/** Commands shown at once. */
const MAX_SHOWN = 12;
/** What a hit counts by where it stands: at the start of a word, after the letter before, elsewhere. */
const AT_WORD = 8;
const IN_ROW = 5;
const ELSEWHERE = 1;

/** @type {Command[]} */
let commands = [];
/** @type {Command[]} */
let found = [];
let chosen = 0;
let isBound = false;

/**
 * @param {{text: string, hint?: string, act: () => void}[]} actions
 * @param {import('./shapes.js').Backend[]} backends
 */
export function fillPalette(actions, backends) {
  if (!isBound) bind();
  commands = [
    ...PAGES.map((page) => ({ kind: words().kind.page, text: words().page[page], act: () => goTo(page) })),
    ...actions.map((action) => ({ kind: words().kind.action, ...action })),
    ...backends.map(({ id }) => ({
      kind: words().kind.backend,
      text: id,
      act: () => visit(addressOf(id)),
    })),
  ];
  find();
}

function bind() {
  isBound = true;
  const field = byId('palette-field', HTMLInputElement);
  field.addEventListener('input', find);
  field.addEventListener('keydown', (event) => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (step !== 0) {
      event.preventDefault();
      choose((chosen + step + found.length) % Math.max(1, found.length));
    } else if (event.key === 'Enter' && !event.isComposing) {
      event.preventDefault();
      run(found[chosen]);
    }
  });
}

function find() {
  const wanted = byId('palette-field', HTMLInputElement).value.trim();
  found = commands
    .map((command) => ({ command, score: scoreOf(wanted, `${command.text} ${command.kind}`) }))
    .filter(({ score }) => score >= 0)
    .sort((a, b) => b.score - a.score)
    .slice(0, MAX_SHOWN)
    .map(({ command }) => command);
  byId('palette-list', HTMLElement).replaceChildren(
    ...found.map((command, at) =>
      element(
        'li',
        { role: 'option', id: `palette-${at}`, class: 'palette-line', onclick: () => run(command) },
        element('span', { class: 'palette-kind' }, command.kind),
        element('span', { class: 'palette-text' }, command.text),
        command.hint !== undefined && element('kbd', {}, command.hint),
      ),
    ),
  );
  byId('palette-nothing', HTMLElement).hidden = found.length > 0;
  choose(0);
}

/** @param {number} at */
function choose(at) {
  chosen = at;
  for (const [index, line] of [...byId('palette-list', HTMLElement).children].entries()) {
    setAttribute(line, 'aria-selected', String(index === at));
    if (index === at) line.scrollIntoView({ block: 'nearest' });
  }
  const active = found.length === 0 ? null : `palette-${at}`;
  setAttribute(byId('palette-field', HTMLInputElement), 'aria-activedescendant', active);
}

/** @param {Command | undefined} command */
function run(command) {
  if (command === undefined) return;
  byId('palette', HTMLDialogElement).close();
  command.act();
}

/**
 * How well `text` answers `wanted`: its letters must all be there, in order; negative where not. Less
 * is lost to letters between and to a long text.
 * @param {string} wanted
 * @param {string} text
 */
function scoreOf(wanted, text) {
  const letters = [...wanted.toLowerCase()].filter((letter) => letter !== ' ');
  const lower = text.toLowerCase();
  let score = 0;
  let from = 0;
  for (const letter of letters) {
    const at = lower.indexOf(letter, from);
    if (at === -1) return -1;
    const isWord = at === 0 || /[\s.:_/-]/.test(lower[at - 1] ?? '');
    score += at === from && from > 0 ? IN_ROW : isWord ? AT_WORD : ELSEWHERE;
    from = at + 1;
  }
  return letters.length === 0 ? 0 : score + Math.max(0, 1 - lower.length / 100);
}
