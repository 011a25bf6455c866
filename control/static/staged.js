/**
 * @file Edits that wait to be applied together, each with what stood when it was begun. Pure but for
 * telling whoever shows them; sending them is apply.js's.
 */

/** @typedef {import('./shapes.js').Backend} Backend */
/** @typedef {import('./shapes.js').Edit} Edit */
/** @typedef {{weight: number, enabled: boolean, drain: boolean}} Stand what an edit can change */

/**
 * @typedef {object} Staged
 * @property {string} id
 * @property {Omit<Edit, 'id'>} edit `null` gives a part back to the backend
 * @property {Partial<Stand>} base what stood of each part when the person first edited it
 */

/** @type {Map<string, Staged>} */
const staged = new Map();
/** @type {(() => void)[]} */
const listeners = [];

/** What a page that was loaded before has left. @param {Staged[]} left */
export function restoreStaged(left) {
  for (const one of left) staged.set(one.id, one);
}

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
 * An edit that changes nothing is taken off again.
 * @param {Backend} backend
 * @param {Omit<Edit, 'id'>} edit
 */
function add(backend, edit) {
  const now = standOf(backend);
  const before = staged.get(backend.id);
  const both = { ...before?.edit, ...edit };
  const parts = partsLeft(backend, both);
  const kept = Object.fromEntries(parts.map((part) => [part, both[part]]));
  keep(backend.id, kept, Object.fromEntries(parts.map((part) => [part, before?.base[part] ?? now[part]])));
}

/**
 * @param {string} id
 * @param {Omit<Edit, 'id'>} edit
 * @param {Partial<Stand>} base
 */
function keep(id, edit, base) {
  if (Object.keys(edit).length === 0) staged.delete(id);
  else staged.set(id, { id, edit, base });
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

/**
 * What waited for these backends before waits again, and nothing else.
 * @param {Map<string, Staged | null>} before
 */
export function restage(before) {
  for (const [id, one] of before) {
    if (one === null) staged.delete(id);
    else staged.set(id, one);
  }
  tell();
}

/** @param {string[]} [ids] all, where none are named */
export function unstage(ids = [...staged.keys()]) {
  for (const id of ids) staged.delete(id);
  tell();
}

/**
 * What was sent stands now and waits no more; what was edited since waits on, and is made on it.
 * @param {Staged[]} sent
 */
export function settle(sent) {
  for (const { id, edit: made } of sent) {
    const { edit, base } = staged.get(id) ?? { edit: {}, base: {} };
    const parts = /** @type {(keyof Stand)[]} */ (Object.keys(edit)).filter((part) => edit[part] !== made[part]);
    const later = Object.fromEntries(parts.map((part) => [part, edit[part]]));
    keep(id, later, Object.fromEntries(parts.map((part) => [part, made[part] ?? base[part]])));
  }
  tell();
}

/**
 * The backends whose staged edits are overtaken.
 * @param {Backend[]} backends as they stand now
 * @returns {{edited: string[], made: string[], gone: string[]}} what they were made on no longer stands; some
 *   of it stands already as it was to be made; listed no more
 */
export function overtaken(backends) {
  const known = new Map(backends.map((backend) => [backend.id, backend]));
  const isEdited = (/** @type {Staged} */ { id, edit, base }) => {
    const backend = known.get(id);
    return backend !== undefined && partsLeft(backend, edit).some((part) => standOf(backend)[part] !== base[part]);
  };
  const isMade = (/** @type {Staged} */ { id, edit }) => {
    const backend = known.get(id);
    return backend !== undefined && partsLeft(backend, edit).length < Object.keys(edit).length;
  };
  return {
    edited: allStaged().filter(isEdited).map(({ id }) => id),
    made: allStaged().filter(isMade).map(({ id }) => id),
    gone: [...staged.keys()].filter((id) => !known.has(id)),
  };
}

/**
 * Takes what stands now as what the edits were made on: the person is shown it. What stands as it was to be
 * made is no edit any more.
 * @param {Backend[]} backends
 * @returns {number} how many backends have no edits left for that
 */
export function rebase(backends) {
  const before = staged.size;
  const known = new Map(backends.map((backend) => [backend.id, backend]));
  for (const { id, edit } of allStaged()) {
    const backend = known.get(id);
    if (backend === undefined) continue;
    const stand = standOf(backend);
    const parts = partsLeft(backend, edit);
    keep(id, Object.fromEntries(parts.map((part) => [part, edit[part]])), Object.fromEntries(parts.map((part) => [part, stand[part]])));
  }
  const settled = before - staged.size;
  tell();
  return settled;
}

/**
 * The parts of an edit that would change something.
 * @param {Backend} backend
 * @param {Omit<Edit, 'id'>} edit
 */
function partsLeft(backend, edit) {
  const stand = standOf(backend);
  const parts = /** @type {(keyof Stand)[]} */ (Object.keys(edit));
  return parts.filter((part) => (edit[part] === null ? hasOverride(backend, part) : edit[part] !== stand[part]));
}

function tell() {
  for (const listener of listeners) listener();
}
