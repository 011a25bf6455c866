/**
 * @file Which settings can be edited, in what order and by what kind of field: the listen address, and the keys of
 * the table. What they default to and may be is the server's to say, and stands nowhere else.
 */

import { TOPICS } from './setting-keys.js';

/**
 * @typedef {object} Field
 * @property {string} pointer where it stands in what `POST /api/settings` takes, as a JSON pointer
 * @property {'number' | 'text' | 'list'} [kind] what is typed; a text where nothing is said
 * @property {string[]} [choices] one of these
 * @property {string} [unit]
 * @property {{en: string, zh: string}} [meaning] in the words of the page where it is absent
 * @property {{en: string, zh: string}} [without] what holds where nothing is set and there is no default
 */

/**
 * @typedef {object} Group
 * @property {keyof ReturnType<typeof import('./i18n.js').words>['settingGroup']} name
 * @property {string | null} whole the pointer of an object that is only ever replaced as a whole
 * @property {Field[]} fields
 */

const SWITCH = ['true', 'false'];

/** @param {import('./setting-keys.js').Key} key @param {string} of pointer of the object that it is in @returns {Field} */
function fieldOf({ name, kind, choices, without, meaning }, of) {
  const said = { pointer: `${of}/${name}`, without, meaning, unit: unitOf(name) };
  return kind === 'choice' ? { ...said, choices } : { ...said, kind };
}

/** @param {string} name */
function unitOf(name) {
  const unit = /_(ms|us|percent)$/.exec(name)?.[1] ?? '';
  return { ms: 'ms', us: 'µs', percent: '%' }[unit] ?? '';
}

/** @type {Group} */
const LISTEN = {
  name: 'listen',
  whole: null,
  fields: [
    { pointer: '/listen/host' },
    { pointer: '/listen/port', kind: 'number' },
    { pointer: '/listen/tcp', choices: SWITCH },
    { pointer: '/listen/udp', choices: SWITCH },
  ],
};

/** @type {Group[]} */
export const GROUPS = [
  LISTEN,
  ...TOPICS.map(({ name, inside, keys }) => {
    const whole = inside === null ? null : `/proxy/${inside}`;
    return { name, whole, fields: keys.map((key) => fieldOf(key, whole ?? '/proxy')) };
  }),
];

/** Every field of every group. */
export const FIELDS = GROUPS.flatMap(({ fields }) => fields);

/**
 * The value at a JSON pointer.
 * @param {unknown} document
 * @param {string} pointer
 * @returns {unknown} undefined where there is none
 */
export function valueAt(document, pointer) {
  /** @type {any} */
  let value = document;
  for (const key of pointer.split('/').slice(1)) value = value?.[key];
  return value ?? undefined;
}

/**
 * Who set what is in force at a pointer. An object that is only ever replaced as a whole hides all of it
 * that is below.
 * @param {import('./api.js').SettingsAnswer} settings
 * @param {string} pointer
 * @returns {'api' | 'file' | 'default'}
 */
export function originOf({ by_api: byApi, by_file: byFile }, pointer) {
  if (valueAt(byApi, pointer) !== undefined) return 'api';
  const whole = GROUPS.find(({ fields }) => fields.some((field) => field.pointer === pointer))?.whole ?? null;
  const isHidden = whole !== null && valueAt(byApi, whole) !== undefined;
  return !isHidden && valueAt(byFile, pointer) !== undefined ? 'file' : 'default';
}

/**
 * What is typed, as a value; what cannot be read as its kind goes to the server as it stands, which
 * says what is allowed.
 * @param {Field} field
 * @param {string} text not empty
 * @returns {unknown}
 */
function valueOf({ kind = 'text', choices }, text) {
  if (choices === SWITCH) return text === 'true';
  if (kind === 'number') return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
  if (kind === 'list') return text.split(/[\s,–-]+/).map((part) => (/^\d+$/.test(part) ? Number(part) : part));
  return text;
}

/** @param {unknown} value @returns {string} as it is typed */
export function textOf(value) {
  if (value === undefined) return '';
  return Array.isArray(value) ? value.join(' ') : String(value);
}

/**
 * What to send for the fields that were changed: a field that was emptied is given back; an object
 * that is only ever replaced as a whole goes whole, with what somebody else has changed in it since.
 * @param {Map<string, string>} texts what is typed, by pointer
 * @param {object} shown what the fields were filled from
 * @param {object} now what is in force
 * @returns {Record<string, unknown>} nothing in it where nothing was changed
 */
export function patchOf(texts, shown, now) {
  /** @type {Record<string, unknown>} */
  const patch = {};
  for (const { whole, fields } of GROUPS) {
    const changed = fields.filter(({ pointer }) => texts.get(pointer) !== textOf(valueAt(shown, pointer)));
    if (changed.length === 0) continue;
    if (whole !== null) {
      const object = { .../** @type {object} */ (valueAt(now, whole) ?? {}) };
      for (const field of changed) put(object, field.pointer.slice(whole.length), field, texts);
      const left = Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null));
      putAt(patch, whole, Object.keys(left).length === 0 ? null : left);
    } else {
      for (const field of changed) put(patch, field.pointer, field, texts);
    }
  }
  return patch;
}

/**
 * @param {Record<string, unknown>} object
 * @param {string} pointer
 * @param {Field} field
 * @param {Map<string, string>} texts
 */
function put(object, pointer, field, texts) {
  const text = texts.get(field.pointer) ?? '';
  putAt(object, pointer, text.trim() === '' ? null : valueOf(field, text));
}

/**
 * @param {Record<string, unknown>} object
 * @param {string} pointer
 * @param {unknown} value
 */
function putAt(object, pointer, value) {
  const keys = pointer.split('/').slice(1);
  const last = keys.pop() ?? '';
  /** @type {any} */
  let place = object;
  for (const key of keys) place = place[key] ??= {};
  place[last] = value;
}
