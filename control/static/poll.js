/**
 * @file Asking again and again, only while the page is visible, and never twice at once: an answer
 * that comes late cannot overwrite a newer one.
 */

const PERIOD_MS = 2_000;

/**
 * @param {() => Promise<void>} read never rejects
 * @returns {() => Promise<void>} asks at once; resolves when an answer that was asked for after
 *   this call is on the page
 */
export function startPolling(read) {
  /** @type {number | undefined} */
  let timer;
  /** @type {Promise<void> | null} */
  let current = null;
  /** @type {Promise<void> | null} */
  let following = null;

  function ask() {
    clearTimeout(timer);
    current = read().finally(() => {
      current = null;
      if (!document.hidden) timer = setTimeout(ask, PERIOD_MS);
    });
    return current;
  }

  function askNow() {
    if (current === null) return ask();
    following ??= current.then(() => {
      following = null;
      return ask();
    });
    return following;
  }

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) clearTimeout(timer);
    else void askNow();
  });
  void ask();
  return askNow;
}
