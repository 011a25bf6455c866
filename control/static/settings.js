/**
 * @file The page of settings: the algorithm with what each does, the settings beyond it, and what is
 * in force and was last published. What the server refuses is told at the field that it is about; so is what
 * somebody else has set since the person began to edit it, and only on purpose is theirs overwritten. A change
 * that closes an address to clients is shown first and wants a typed word.
 */

import * as api from './api.js';
import { failureOutcome } from './changes.js';
import { clientsOf, closedBy, listenOf } from './closed-addresses.js';
import { DiffDialog } from './diff-dialog.js';
import { diffRow } from './diff.js';
import { byId, element, setAttribute, setText } from './dom.js';
import { addressText, dateTimeText, isNumber } from './format.js';
import { language, onLanguage, words } from './i18n.js';
import { changeSettings } from './settings-change.js';
import { FIELDS, GROUPS, originOf, patchOf, textOf, valueAt } from './settings-fields.js';
import { keepDraft, recallDraft } from './storage.js';

/** @typedef {import('./settings-fields.js').Field} Field */

/**
 * @typedef {object} Edits what the person has begun to edit
 * @property {Map<string, string>} fields what is typed and not in force, by pointer
 * @property {string | undefined} algorithm that is chosen and not in force
 */

/** @type {Edits} */
const NOTHING = { fields: new Map(), algorithm: undefined };

/** What the page of settings does by itself. */
export const page = { start, enter: () => void read(recalled), update };

/** As last read. @type {api.ConfigAnswer | null} */
let config = null;
/** While a change is sent, what stands may already be ours. */
let isSaving = false;
let isReading = false;
/** The generation that it says; a newer one may say otherwise. @type {number | null} */
let readAt = null;
/** The newest generation that was heard of. @type {number | null} */
let newest = null;
/** The tag of the edits that were heard of. */
let newestTag = '';
/** What the proxy's traffic was when it was last heard of. @type {import('./shapes.js').WholeAnswer['status'] | null} */
let traffic = null;
/** A change that closes an address to clients, shown before it is made. */
const closing = new DiffDialog({ shown: closingShown, rows: closingRows, carryOut: () => void makeClosing() });
/** What is chosen for a listen address that the proxy refuses. */
let onRefusal = 'roll_back';
/** Where the algorithm stands among the settings. */
const ALGORITHM = '/algorithm';
/** How often a change is made again on what others have edited elsewhere. */
const ATTEMPTS = 5;
/** What was in force of each edited setting when its edit began, by pointer. @type {Map<string, string>} */
let begunOn = new Map();
/** What the server said against a field, by its pointer. @type {Map<string, string>} */
let refusals = new Map();

function start() {
  byId('settings-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    void saveAlgorithm();
  });
  const fields = byId('fields-form', HTMLFormElement);
  fields.addEventListener('submit', (event) => {
    event.preventDefault();
    void saveFields();
  });
  fields.addEventListener('input', writeChanged);
  byId('settings-form', HTMLFormElement).addEventListener('change', keep);
  byId('fields-reset', HTMLButtonElement).addEventListener('click', () => {
    refusals = new Map();
    write({ ...edits(), fields: NOTHING.fields });
  });
  const filter = byId('fields-filter', HTMLInputElement);
  filter.addEventListener('input', writeFilter);
  filter.addEventListener('keydown', (event) => {
    // It is in the form, and applies nothing.
    if (event.key === 'Enter') event.preventDefault();
    if (event.key !== 'Escape') return;
    filter.value = '';
    writeFilter();
  });
  onLanguage(() => write(edits()));
}

/** @param {import('./shapes.js').WholeAnswer} whole */
function update({ etag, status }) {
  newest = status.published_generation;
  newestTag = etag;
  traffic = status;
  closing.write();
  if (config === null || isSaving || isReading) return;
  // What somebody else has set meanwhile; what the person is editing stays, and is marked.
  if (newest !== readAt || newestTag !== config.etag) void read(edits);
}

/**
 * @param {() => Edits} keep what goes on being edited, asked once what is in force is known
 * @returns {Promise<boolean>} whether it could be read
 */
async function read(keep) {
  const problem = byId('settings-problem', HTMLElement);
  isReading = true;
  try {
    const answer = await api.readConfig();
    const kept = keep();
    const isSame = keep === edits && JSON.stringify(answer.effective) === JSON.stringify(config?.effective);
    config = answer;
    readAt = answer.published?.generation ?? newest;
    problem.hidden = true;
    if (isSame) writeFacts();
    else write(kept);
    return true;
  } catch (error) {
    problem.hidden = false;
    setText(problem, failureOutcome(error).text);
    return false;
  } finally {
    isReading = false;
  }
}

/** What was typed and chosen, but not applied, when the page was left. @returns {Edits} */
function recalled() {
  const draft = recallDraft('settings');
  if (draft === null) return NOTHING;
  begunOn = new Map(draft.begunOn);
  onRefusal = draft.onRefusal ?? onRefusal;
  const fields = new Map(draft.fields);
  const known = FIELDS.flatMap(({ pointer }) => {
    const text = fields.get(pointer);
    return typeof text === 'string' ? [/** @type {const} */ ([pointer, text])] : [];
  });
  return { fields: new Map(known), algorithm: draft.algorithm };
}

/** Keeps what is edited for a page that is loaded again. */
function keep() {
  const { fields, algorithm } = edits();
  const edited = [...fields.keys(), ...(algorithm === undefined ? [] : [ALGORITHM])];
  const now = new Map(edited.map((pointer) => [pointer, begunOn.get(pointer) ?? inForce(pointer)]));
  begunOn = now;
  const draft = { fields: [...fields], algorithm, begunOn: [...now], onRefusal };
  keepDraft('settings', fields.size > 0 || algorithm !== undefined ? draft : null);
}

/** @param {string} pointer */
function inForce(pointer) {
  return textOf(valueAt(config?.effective, pointer));
}

/** Whether somebody else has set it since the edit of it began. @param {string} pointer */
function isOvertaken(pointer) {
  const before = begunOn.get(pointer);
  return before !== undefined && before !== inForce(pointer);
}

/** The value then and now, and what to do about it. @param {string} pointer */
function overtakenElement(pointer) {
  const text = words().overtakenSetting(begunOn.get(pointer) || words().byDefault, inForce(pointer) || words().byDefault);
  const keepTheirs = () => {
    const { fields, algorithm } = edits();
    fields.delete(pointer);
    settle(pointer, { fields, algorithm: pointer === ALGORITHM ? undefined : algorithm });
  };
  const overwrite = () => {
    begunOn.set(pointer, inForce(pointer));
    settle(pointer, edits());
  };
  return element(
    'span',
    { class: 'setting-overtaken' },
    element('strong', { class: 'bad' }, text),
    element('button', { type: 'button', class: 'small', 'data-needs': 'admin', onclick: keepTheirs }, words().dropMine),
    element('button', { type: 'button', class: 'small', 'data-needs': 'admin', onclick: overwrite }, words().applyMine),
  );
}

/** The mark has gone, and with it the button that had the focus. @param {string} pointer @param {Edits} kept */
function settle(pointer, kept) {
  write(kept);
  const choice = document.querySelector('input[name="algorithm"]:checked');
  const next = pointer === ALGORITHM ? choice : byId(idOf(pointer), HTMLElement);
  if (next instanceof HTMLElement) next.focus();
}

/** @param {Edits} kept shown over what is in force */
function write(kept) {
  if (config === null) return;
  for (const pointer of begunOn.keys()) {
    const text = pointer === ALGORITHM ? kept.algorithm : kept.fields.get(pointer);
    if (text === undefined || text === inForce(pointer)) begunOn.delete(pointer);
  }
  keepingFocus(() => writeForms(kept));
  writeFacts();
}

/** @param {Edits} kept */
function writeForms(kept) {
  if (config === null) return;
  const { effective } = config;
  const chosen = kept.algorithm ?? effective.algorithm;
  const choices = effective.algorithms.map((name) => algorithmChoice(name, name === chosen));
  byId('settings-algorithms', HTMLElement).replaceChildren(...choices);
  const mark = isOvertaken(ALGORITHM) ? [overtakenElement(ALGORITHM)] : [];
  byId('algorithm-overtaken', HTMLElement).replaceChildren(...mark);
  byId('fields', HTMLElement).replaceChildren(...GROUPS.map(groupElement));
  for (const [pointer, text] of kept.fields) {
    /** @type {HTMLInputElement} */ (byId(idOf(pointer), HTMLElement)).value = text;
  }
  writeChanged();
  writeFilter();
}

/** Fields are made anew under the hand of the person who types. @param {() => void} act */
function keepingFocus(act) {
  const focused = document.activeElement;
  const id = focused?.id ?? '';
  const isText = focused instanceof HTMLInputElement && focused.type === 'text';
  const selection = isText ? /** @type {const} */ ([focused.selectionStart, focused.selectionEnd]) : null;
  act();
  const again = id === '' ? null : document.getElementById(id);
  if (again === null || again === document.activeElement) return;
  again.focus({ preventScroll: true });
  if (selection !== null && again instanceof HTMLInputElement) again.setSelectionRange(...selection);
}

/** What is in force, and the file. */
function writeFacts() {
  if (config === null) return;
  const { effective, published, path, updated_at: at } = config;
  setText(byId('settings-effective', HTMLElement), JSON.stringify(effective.in_force, null, 2));
  const file = published === null ? words().nothingPublished : JSON.stringify(published, null, 2);
  setText(byId('settings-published', HTMLElement), file);
  setText(byId('settings-path', HTMLElement), isNumber(at) ? `${path}, ${dateTimeText(at * 1000)}` : path);
}

/** @param {string} name @param {boolean} checked */
function algorithmChoice(name, checked) {
  const radio = element('input', { id: `algorithm-${name}`, type: 'radio', name: 'algorithm', value: name, checked, 'data-needs': 'admin' });
  const meanings = /** @type {Record<string, string>} */ (words().algorithmMeaning);
  return element(
    'label',
    { class: 'option' },
    radio,
    element('span', { class: 'mono' }, name),
    element('span', { class: 'option-note' }, meanings[name] ?? ''),
  );
}

/** @param {import('./settings-fields.js').Group} group */
function groupElement({ name, fields }) {
  const { title, note } = words().settingGroup[name];
  return element(
    'fieldset',
    { class: 'setting-group' },
    element('legend', {}, title),
    note !== '' && element('p', { class: 'faint' }, note),
    ...fields.map(fieldElement),
    name === 'listen' && onRefusalElement(),
  );
}

/** What becomes of a listen address that the proxy refuses: it goes with the change, and is no setting. */
function onRefusalElement() {
  const id = 'on-refusal';
  const choices = words().onRefusalChoice;
  const names = /** @type {(keyof typeof choices)[]} */ (Object.keys(choices));
  const select = element('select', { id, 'aria-describedby': `${id}-note`, 'data-needs': 'admin' }, ...names.map((value) => element('option', { value }, choices[value])));
  select.value = onRefusal;
  select.addEventListener('change', () => {
    onRefusal = select.value;
  });
  return element(
    'div',
    { class: 'setting' },
    element('label', { for: id }, words().onRefusal),
    element('span', { class: 'setting-value' }, select, element('span', { class: 'setting-unit' })),
    element('span', { class: 'setting-note', id: `${id}-note` }, words().onRefusalHint),
  );
}

/** @param {Field} field */
function fieldElement(field) {
  const { pointer, choices, unit = '' } = field;
  const key = pointer.slice(pointer.lastIndexOf('/') + 1);
  const id = idOf(pointer);
  const text = textOf(valueAt(config?.effective, pointer));
  const refusal = refusals.get(pointer);
  const attributes = { id, 'data-pointer': pointer, 'aria-describedby': `${id}-note`, 'data-needs': 'admin' };
  const unset = unsetText(field);
  const input = choices === undefined ? textInput(attributes, text, unset) : choiceInput(attributes, choices, text, isOfFile(pointer) ? unset : words().defaultIs(unset));
  if (refusal !== undefined) input.setAttribute('aria-invalid', 'true');
  const meanings = /** @type {Record<string, string>} */ (words().listenMeaning);
  const meaning = field.meaning?.[language()] ?? meanings[key] ?? '';
  return element(
    'div',
    { class: 'setting' },
    element('label', { for: id, class: 'mono' }, key),
    element('span', { class: 'setting-value' }, input, element('span', { class: 'setting-unit' }, unit)),
    element('span', { class: 'setting-note', id: `${id}-note` },
      refusal !== undefined && element('strong', { class: 'bad' }, `${refusal} `),
      meaning !== '' && `${meaning} · `,
      element('span', { class: 'setting-origin', 'data-origin': originNow(pointer) }, originText(field)),
    ),
    isOvertaken(pointer) && overtakenElement(pointer),
  );
}

/**
 * @param {import('./dom.js').Attributes} attributes
 * @param {string} value
 * @param {string} unset what holds where nothing is typed
 */
function textInput(attributes, value, unset) {
  const input = element('input', { ...attributes, type: 'text', class: 'mono', placeholder: unset, autocomplete: 'off', spellcheck: 'false' });
  input.value = value;
  return input;
}

/**
 * @param {import('./dom.js').Attributes} attributes
 * @param {string[]} choices
 * @param {string} value
 * @param {string} unset what holds where nothing is chosen
 */
function choiceInput(attributes, choices, value, unset) {
  const options = ['', ...choices].map((choice) => element('option', { value: choice }, choice || unset));
  const select = element('select', { ...attributes, class: 'mono' }, ...options);
  select.value = value;
  return select;
}

/** Who set it, and what it would be otherwise. @param {Field} field */
function originText(field) {
  const origin = originNow(field.pointer);
  if (origin === 'default') return words().byDefault;
  const said = origin === 'api' ? words().setHere : words().setInFile;
  return words().setOverDefault(said, defaultText(field));
}

/** @param {string} pointer */
function originNow(pointer) {
  return config === null ? 'default' : originOf(config.effective, pointer);
}

/** What holds where nothing is set here: what control_config.json says, or the default. @param {Field} field */
function unsetText(field) {
  return isOfFile(field.pointer) ? textOf(valueAt(config?.effective.by_file, field.pointer)) : defaultText(field);
}

/** @param {string} pointer */
function isOfFile(pointer) {
  return valueAt(config?.effective.by_file, pointer) !== undefined;
}

/** @param {Field} field */
function defaultText({ pointer, without }) {
  const value = valueAt(config?.effective.defaults, pointer);
  return value === undefined ? without?.[language()] || words().nothing : textOf(value);
}

/** Hides the fields that do not have all words of the filter in what is said of them. */
function writeFilter() {
  const wanted = byId('fields-filter', HTMLInputElement).value.toLowerCase().split(/\s+/);
  const form = byId('fields', HTMLElement);
  let shown = 0;
  for (const group of form.querySelectorAll('fieldset')) {
    let inGroup = 0;
    for (const field of group.querySelectorAll('.setting')) {
      if (!(field instanceof HTMLElement)) continue;
      const text = `${group.querySelector('legend')?.textContent} ${field.textContent}`.toLowerCase();
      // What is being edited stays in sight.
      const isShown = field.querySelector('[data-changed]') !== null || wanted.every((word) => text.includes(word));
      field.hidden = !isShown;
      if (isShown) inGroup += 1;
    }
    group.hidden = inGroup === 0;
    shown += inGroup;
  }
  byId('fields-nothing', HTMLElement).hidden = shown > 0;
}

/** @param {string} pointer */
function idOf(pointer) {
  return `setting${pointer.replaceAll('/', '-')}`;
}

/** What stands in the fields, by pointer. */
function texts() {
  const inputs = /** @type {NodeListOf<HTMLInputElement | HTMLSelectElement>} */ (
    byId('fields', HTMLElement).querySelectorAll('[data-pointer]')
  );
  return new Map([...inputs].map((input) => [input.dataset.pointer ?? '', input.value]));
}

function changedFields() {
  const typed = texts();
  return FIELDS.filter(({ pointer }) => typed.has(pointer) && typed.get(pointer) !== textOf(valueAt(config?.effective, pointer)));
}

function writeChanged() {
  const changed = changedFields();
  for (const { pointer } of FIELDS) {
    const isChanged = changed.some((field) => field.pointer === pointer);
    setAttribute(byId(idOf(pointer), HTMLElement), 'data-changed', isChanged ? '' : null);
  }
  keep();
  byId('fields-save', HTMLButtonElement).disabled = changed.length === 0;
  const overtaken = changed.filter(({ pointer }) => isOvertaken(pointer)).length;
  byId('fields-save', HTMLButtonElement).toggleAttribute('data-unconfirmed', overtaken > 0);
  byId('settings-save', HTMLButtonElement).toggleAttribute('data-unconfirmed', isOvertaken(ALGORITHM));
  const problem = byId('fields-problem', HTMLElement);
  if (overtaken === 0 && problem.dataset.about === 'overtaken') problem.hidden = true;
  byId('fields-reset', HTMLButtonElement).hidden = changed.length === 0 && refusals.size === 0;
  setText(byId('fields-count', HTMLElement), changed.length === 0 ? '' : words().changedSettings(changed.length, overtaken));
}

/** @returns {Edits} */
function edits() {
  const typed = texts();
  const fields = changedFields().map(({ pointer }) => /** @type {const} */ ([pointer, typed.get(pointer) ?? '']));
  const chosen = chosenAlgorithm();
  return { fields: new Map(fields), algorithm: chosen === config?.effective.algorithm ? undefined : chosen };
}

/** What the person has chosen; before there is a choice, nothing. */
function chosenAlgorithm() {
  const chosen = document.querySelector('input[name="algorithm"]:checked');
  return chosen instanceof HTMLInputElement ? chosen.value : undefined;
}

/**
 * Makes a change on what is in force, again where somebody has edited something else meanwhile.
 * @param {() => Record<string, unknown>} patchNow
 * @param {() => string[]} overtaken what is sent and was set by somebody else
 * @param {import('./i18n.js').Said} [what]
 * @returns {Promise<Exclude<Awaited<ReturnType<typeof changeSettings>>, 'stale'> | string>} why nothing was sent
 */
async function send(patchNow, overtaken, what) {
  for (let attempt = 0; attempt < ATTEMPTS && config !== null; attempt += 1) {
    const count = overtaken().length;
    if (count > 0) return words().overtakenSettings(count);
    const result = await changeSettings(patchNow(), config, what);
    if (result !== 'stale') return result;
    if (!(await read(edits))) return words().failedAway;
  }
  return words().rollBack.stale;
}

async function saveAlgorithm() {
  const chosen = chosenAlgorithm();
  if (chosen === undefined || config === null) return;
  await busy('settings-save', async () => {
    const result = await send(() => ({ algorithm: chosen }), () => [ALGORITHM].filter(isOvertaken), ['algorithmChange', chosen]);
    const isSent = typeof result !== 'string';
    setText(byId('settings-outcome', HTMLElement), isSent ? result.outcome().text : result);
    if (isSent) await read(() => ({ ...edits(), algorithm: NOTHING.algorithm }));
    else focusMark(byId('algorithm-overtaken', HTMLElement));
  });
}

/** @param {HTMLElement} within where what somebody else has set is marked */
function focusMark(within) {
  within.querySelector('.setting-overtaken button')?.scrollIntoView({ block: 'nearest' });
  const button = within.querySelector('.setting-overtaken button');
  if (button instanceof HTMLElement) button.focus();
}

/** What is typed, as a call of the API. @returns {Record<string, unknown>} */
function patchNow() {
  const effective = /** @type {api.ConfigAnswer} */ (config).effective;
  const patch = patchOf(texts(), effective, effective);
  return 'listen' in patch ? { ...patch, on_refusal: onRefusal } : patch;
}

/** Where clients come now, and what of it the change closes. */
function closingNow() {
  const { now, then } = listenOf(/** @type {api.ConfigAnswer} */ (config).effective, patchNow());
  return { now, closed: closedBy(now, then) };
}

/** @returns {import('./diff-dialog.js').Shown} */
function closingShown() {
  const { now, closed } = closingNow();
  const said = words().closing;
  const clients = clientsOf(traffic, closed);
  return {
    title: said.title,
    sum: said.sum(closed.map((protocol) => protocol.toUpperCase()), addressText({ ip: now.host, port: now.port })),
    carry: clients === null ? null : { level: clients.began > 0 ? 'bad' : 'warn', text: said.clients(clients.began, clients.seconds, clients.open) },
    problem: null,
    heads: [words().oldValue, words().newValue],
    word: closed.length === 0 ? null : String(now.port),
    left: 1,
    hint: words().diffHint,
    action: words().apply,
    isBusy: false,
    isReady: true,
  };
}

function closingRows() {
  const typed = texts();
  return changedFields().map(({ pointer }) => {
    const key = pointer.slice(1).replaceAll('/', '.');
    return diffRow(element('th', { scope: 'row', class: 'mono' }, words().rollBack.setting), key, inForce(pointer) || words().byDefault, typed.get(pointer) || words().byDefault);
  });
}

/** What is refused of it is told at the fields. */
async function makeClosing() {
  const note = closing.note();
  closing.done();
  await sendFields(note);
}

async function saveFields() {
  if (config === null) return;
  if (closingNow().closed.length > 0) closing.open();
  else await sendFields('');
}

/** @param {string} note why; empty: none */
async function sendFields(note) {
  const typed = texts();
  const changed = changedFields().map(({ pointer }) => `${pointer.slice(1)} ${typed.get(pointer) || words().byDefault}`);
  const patchWithNote = () => (note === '' ? patchNow() : { ...patchNow(), note });
  await busy('fields-save', async () => {
    const problem = byId('fields-problem', HTMLElement);
    const result = await send(patchWithNote, () => changedFields().flatMap(({ pointer }) => (isOvertaken(pointer) ? [pointer] : [])));
    if (typeof result === 'string') {
      problem.hidden = false;
      problem.dataset.about = 'overtaken';
      setText(problem, result);
      return focusMark(byId('fields', HTMLElement));
    }
    problem.dataset.about = 'refused';
    const { outcome, faults, isRolledBack } = result;
    const known = new Map(faults.map((fault) => [fault.place, words().refusedSetting(fault.found, fault.allowed)]));
    refusals = new Map(FIELDS.flatMap(({ pointer }) => {
      const said = known.get(pointer);
      known.delete(pointer);
      return said === undefined ? [] : [[pointer, said]];
    }));
    const isRefused = outcome().level === 'bad';
    // What no field is about is told above them; a field that is wrong keeps what was typed.
    const rest = [...known].map(([place, said]) => `${place}: ${said}`).join('; ');
    problem.hidden = !isRefused;
    setText(problem, refusals.size > 0 && rest === '' ? words().refusedSettings(refusals.size) : rest || outcome().text);
    if (isRolledBack) {
      setText(problem, words().fieldsRolledBack(outcome().text, changed.join(', ')));
      await read(() => ({ ...edits(), fields: NOTHING.fields }));
    } else if (isRefused) markRefused();
    else await read(() => ({ ...edits(), fields: NOTHING.fields }));
  });
}

/** Writes the refusals beside what was typed. */
function markRefused() {
  write(edits());
  const [first] = refusals.keys();
  if (first !== undefined) byId(idOf(first), HTMLElement).focus();
}

/**
 * @param {string} id of the button that was pressed
 * @param {() => Promise<void>} act
 */
async function busy(id, act) {
  const button = byId(id, HTMLButtonElement);
  button.setAttribute('aria-busy', 'true');
  isSaving = true;
  await act();
  isSaving = false;
  button.removeAttribute('aria-busy');
}
