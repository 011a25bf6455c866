/**
 * @file What the event stream says of a change, applied to what was known. An object stands for its
 * members that changed, a plain value for itself, and a list of one for what comes whole.
 */

/**
 * The value after the patch; what was known stays as it was.
 * @param {any} value
 * @param {any} patch
 * @returns {any}
 */
export function patched(value, patch) {
  if (Array.isArray(patch)) return patch[0];
  if (typeof patch !== 'object' || patch === null) return patch;
  const known = typeof value === 'object' && value !== null ? value : {};
  const changed = Object.entries(patch).map(([name, change]) => [name, patched(known[name], change)]);
  return { ...known, ...Object.fromEntries(changed) };
}

/**
 * Changes an object in place, so that thousands of them need not be copied each second.
 * @param {Record<string, any>} known
 * @param {any} patch
 */
export function patchInPlace(known, patch) {
  const now = patched(known, patch);
  for (const name of Object.keys(known)) if (!(name in now)) delete known[name];
  Object.assign(known, now);
}
