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
  return { ...known, ...membersPatched(known, patch) };
}

/**
 * The members of an object that a patch changes, as they are after it.
 * @param {Record<string, any>} known
 * @param {Record<string, any>} patch
 */
export function membersPatched(known, patch) {
  return Object.fromEntries(Object.entries(patch).map(([name, change]) => [name, patched(known[name], change)]));
}
