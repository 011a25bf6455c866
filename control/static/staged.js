/**
 * @file Edits that wait to be applied together, each with what stood when it was made. Pure but for
 * telling whoever shows them; sending them is apply.js's.
 */

/** @typedef {import('./api.js').Backend} Backend */
/** @typedef {import('./api.js').Edit} Edit */
/** @typedef {{weight: number, enabled: boolean, drain: boolean}} Stand what an edit can change */

/**
 * @typedef {object} Staged
 * @property {string} id
 * @property {Omit<Edit, 'id'>} edit `null` gives a part back to the backend
 * @property {Stand} base what stood when each part of it was made
 */

/** @type {Map<string, Staged>} */
const staged = new Map();
/** @type {(() => void)[]} */
const listeners = [];

/** @param {() => void} listener called after every change of what is staged */
export function onStaged(listener) {
  listeners.push(listener);
}

/** @param {Backend} backend @returns {Stand} */
function standOf(backend) {
  return {
    weight: backend.weight,
    enabled: backend.enabled,
    drain: backend.override?.drain === true,
  };
}

/**
 * Adds the same to what is staged for each of these backends, and tells of it once.
 * @param {Backend[]} backends
 * @param {Omit<Edit, 'id'>} edit
 */
export function stage(backends, edit) {
  for (const backend of backends) add(backend, edit);
  tell();
}

/**
 * An edit that changes nothing is taken off again. One that waited already stays made on what stood
 * at first, or what somebody else has set meanwhile would be overwritten unseen.
 * @param {Backend} backend
 * @param {Omit<Edit, 'id'>} edit
 */
function add(backend, edit) {
  const stand = standOf(backend);
  const before = staged.get(backend.id);
  const whole = { ...before?.edit, ...edit };
  /** @type {Record<string, unknown>} */
  const kept = {};
  for (const [part, value] of Object.entries(whole)) {
    const stands = stand[/** @type {keyof Stand} */ (part)];
    const clears = value === null && hasOverride(backend, part);
    if (clears || (value !== null && value !== stands)) kept[part] = value;
  }
  put(backend.id, kept, { ...stand, ...(before && partsOf(before.base, before.edit)) });
}

/** @param {string} id @param {Omit<Edit, 'id'>} edit @param {Stand} base */
function put(id, edit, base) {
  if (Object.keys(edit).length === 0) staged.delete(id);
  else staged.set(id, { id, edit, base });
}

/**
 * What `whole` says of the parts that `edit` has.
 * @template {object} Whole
 * @param {Whole} whole
 * @param {object} edit
 * @returns {Partial<Whole>}
 */
function partsOf(whole, edit) {
  const parts = Object.entries(whole).filter(([part]) => part in edit);
  return /** @type {Partial<Whole>} */ (Object.fromEntries(parts));
}

/** @param {Backend} backend @param {string} part */
function hasOverride(backend, part) {
  const value = backend.override?.[/** @type {'weight' | 'enabled' | 'drain'} */ (part)];
  return value !== null && value !== undefined;
}

/** @param {string} id */
export function stagedOf(id) {
  return staged.get(id)?.edit ?? null;
}

/** @returns {Staged[]} */
export function allStaged() {
  return [...staged.values()];
}

/** @param {string[]} [ids] all, where none are named */
export function unstage(ids = [...staged.keys()]) {
  for (const id of ids) staged.delete(id);
  tell();
}

/** One part of an edit waits no more. @param {string} id @param {keyof Stand} part */
export function unstagePart(id, part) {
  const before = staged.get(id);
  if (before === undefined) return;
  const { [part]: _, ...edit } = before.edit;
  put(id, edit, before.base);
  tell();
}

/**
 * These edits were applied. What was edited since they were sent goes on waiting, made on them.
 * @param {Staged[]} sent
 */
export function settle(sent) {
  for (const { id, edit } of sent) {
    const now = staged.get(id);
    if (now === undefined) continue;
    const applied = new Map(Object.entries(edit));
    const later = Object.entries(now.edit).filter(([part, value]) => applied.get(part) !== value);
    const stand = [...applied].filter(([, value]) => value !== null);
    put(id, Object.fromEntries(later), { ...now.base, ...Object.fromEntries(stand) });
  }
  tell();
}

/**
 * The edits that somebody else has overtaken: what they were made on no longer stands.
 * @param {Backend[]} backends as they stand now
 * @returns {{staged: Staged, now: Stand | null}[]} `now` is null where the backend is gone
 */
export function overtaken(backends) {
  const known = new Map(backends.map((backend) => [backend.id, standOf(backend)]));
  return allStaged().flatMap((edit) => {
    const now = known.get(edit.id) ?? null;
    const parts = /** @type {(keyof Stand)[]} */ (Object.keys(edit.edit));
    const stands = now !== null && parts.every((part) => now[part] === edit.base[part]);
    return stands ? [] : [{ staged: edit, now }];
  });
}

/** Takes what stands now as what the edits were made on: the person has seen it. @param {Backend[]} backends */
export function rebase(backends) {
  const known = new Map(backends.map((backend) => [backend.id, standOf(backend)]));
  for (const [id, edit] of staged) {
    const now = known.get(id);
    if (now === undefined) staged.delete(id);
    else staged.set(id, { ...edit, base: now });
  }
  tell();
}

function tell() {
  for (const listener of listeners) listener();
}
