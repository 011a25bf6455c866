/**
 * @file Asking never twice at once: an answer that comes late cannot overwrite a newer one.
 */

/**
 * @param {() => Promise<void>} read never rejects
 * @returns {() => Promise<void>} asks; resolves when an answer that was asked for after this call
 *   has come
 */
export function oneAtATime(read) {
  /** @type {Promise<void> | null} */
  let current = null;
  /** @type {Promise<void> | null} */
  let following = null;

  function ask() {
    current = read().finally(() => {
      current = null;
    });
    return current;
  }

  return () => {
    if (current === null) return ask();
    following ??= current.then(() => {
      following = null;
      return ask();
    });
    return following;
  };
}
