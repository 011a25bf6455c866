/**
 * @file Algorithm and settings: what is in force, what was last published, and the switch of the
 * algorithm, which counts for new sessions at once and is kept over restarts.
 */

import * as api from './api.js';
import { changeAlgorithm, failureOutcome } from './changes.js';
import { byId, element, setText } from './dom.js';
import { dateTimeText, isNumber } from './format.js';
import { words } from './i18n.js';

/** What the page of settings does by itself. */
export const page = { start: startSettings, enter: () => void read() };

function startSettings() {
  byId('settings-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    void save();
  });
}

async function read() {
  const problem = byId('settings-problem', HTMLElement);
  try {
    const { effective, published, path, updated_at: at } = await api.readConfig();
    problem.hidden = true;
    const select = byId('settings-algorithm', HTMLSelectElement);
    const choices = effective.algorithms.map((name) => element('option', { value: name }, name));
    select.replaceChildren(...choices);
    select.value = effective.algorithm;
    setText(byId('settings-effective', HTMLElement), JSON.stringify(effective, null, 2));
    const file = published === null ? words().nothingPublished : JSON.stringify(published, null, 2);
    setText(byId('settings-published', HTMLElement), file);
    setText(byId('settings-path', HTMLElement), isNumber(at) ? `${path}, ${dateTimeText(at * 1000)}` : path);
  } catch (error) {
    problem.hidden = false;
    setText(problem, failureOutcome(error).text);
  }
}

async function save() {
  const button = byId('settings-save', HTMLButtonElement);
  button.setAttribute('aria-busy', 'true');
  const outcome = await changeAlgorithm(byId('settings-algorithm', HTMLSelectElement).value);
  button.removeAttribute('aria-busy');
  setText(byId('settings-outcome', HTMLElement), outcome().text);
  await read();
}
