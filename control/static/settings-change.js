/**
 * @file Changes of settings, and taking them back: what the API said before is said again, and what it
 * did not say is given back to control_config.json.
 */

import * as api from './api.js';
import { change, failureOutcome } from './changes.js';
import { words, wordsOf } from './i18n.js';
import { addReport } from './report.js';

/** @typedef {import('./report.js').Outcome} Outcome */
/** @typedef {Record<string, unknown>} Patch as `POST /api/settings` takes it */

/** The objects of a patch that hold settings; what else stands in it is one. */
const HOLDERS = ['listen', 'proxy'];

/** Whatever stands. @param {string} algorithm */
export async function changeAlgorithm(algorithm) {
  /** @type {import('./i18n.js').Said} */
  const what = ['algorithmChange', algorithm];
  try {
    await changeSettings({ algorithm }, { ...(await api.readConfig()), etag: '*' }, what);
  } catch (error) {
    await change(what, () => Promise.reject(error));
  }
}

/**
 * @param {Patch} patch
 * @param {Pick<api.ConfigAnswer, 'effective' | 'etag'>} on what it was made on
 * @param {import('./i18n.js').Said} [what] is changed
 * @returns {Promise<'stale' | {outcome: () => Outcome, faults: api.Fault[], isRolledBack: boolean}>} what the
 *   server refused of it, and whether the proxy refused it after it was stored; `stale`: somebody has edited
 *   something since, nothing is changed or told
 */
export async function changeSettings(patch, on, what = ['settingsChange']) {
  try {
    const { sync, settings } = await api.changeSettings(patch, on.etag);
    const [back, made] = [saidOf(patch, on.effective), saidOf(patch, settings)];
    const undo = differing(back, made).length === 0 ? null : { kind: /** @type {const} */ ('settings'), what, made, back };
    return { outcome: await change(what, async () => ({ sync, undo })), faults: [], isRolledBack: false };
  } catch (error) {
    if (!(error instanceof api.CallError)) throw error;
    if (error.kind === 'stale') return 'stale';
    const outcome = await change(what, () => Promise.reject(error));
    return { outcome, faults: error.faults, isRolledBack: error.refusals.length > 0 };
  }
}

/**
 * Undoes a change, unless somebody has changed the same meanwhile.
 * @param {import('./i18n.js').Said} what was done
 * @param {Patch} made
 * @param {Patch} before
 */
export async function takeBack(what, made, before) {
  /** @type {import('./i18n.js').Said} */
  const said = ['undoing', what];
  const told = () => wordsOf(said);
  try {
    const { effective, etag } = await api.readConfig();
    const overtaken = differing(made, saidOf(made, effective));
    if (overtaken.length === 0) {
      await change(said, () => api.changeSettings(before, etag));
      return;
    }
    const places = overtaken.join(', ');
    addReport({ what: told, outcome: () => ({ level: 'bad', text: words().undoOvertaken(places) }), info: '', undo: null });
  } catch (error) {
    addReport({ what: told, outcome: () => failureOutcome(error), info: '', undo: null });
  }
}

/**
 * What the API says of each setting that a patch speaks of, as a patch: null where it says nothing.
 * @param {Patch} patch
 * @param {api.SettingsAnswer} settings
 * @returns {Patch}
 */
function saidOf(patch, { by_api: byApi }) {
  const said = /** @type {Patch} */ (byApi);
  return Object.fromEntries(
    Object.entries(patch).map(([key, value]) => {
      if (!HOLDERS.includes(key)) return [key, said[key] ?? null];
      const held = /** @type {Patch | undefined} */ (said[key]);
      const names = Object.keys(/** @type {Patch} */ (value));
      return [key, Object.fromEntries(names.map((name) => [name, held?.[name] ?? null]))];
    }),
  );
}

/**
 * The places where two answers of the server, cut down to the same patch, do not say the same.
 * @param {Patch} one
 * @param {Patch} other
 * @returns {string[]} JSON pointers
 */
function differing(one, other) {
  return Object.entries(one).flatMap(([key, value]) => {
    if (!HOLDERS.includes(key)) return isSame(value, other[key]) ? [] : [`/${key}`];
    const held = /** @type {Patch} */ (other[key]);
    const parts = Object.entries(/** @type {Patch} */ (value));
    return parts.flatMap(([name, part]) => (isSame(part, held[name]) ? [] : [`/${key}/${name}`]));
  });
}

/**
 * The server writes the same value always the same.
 * @param {unknown} one
 * @param {unknown} other
 */
function isSame(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}
