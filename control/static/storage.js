/**
 * @file What the page remembers: choices for good, and drafts, which are work that is not done yet, for
 * the tab. A browser that forbids storage loses the memory, and is asked before it loses a draft.
 */

const PREFIX = 'wicketgate.';

/**
 * @param {string} name
 * @returns {string | null}
 */
export function recall(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

/**
 * @param {string} name
 * @param {string} value
 */
export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // Forbidden or full: the choice then holds until the page is left.
  }
}

/** Drafts that could not be kept, and would be lost with the page. @type {Set<string>} */
const unkept = new Set();

/** What is still being typed becomes a draft before the page goes, and what is no draft is asked about. */
export function startDrafts() {
  const leave = () => {
    const { activeElement } = document;
    if (activeElement instanceof HTMLInputElement) activeElement.blur();
  };
  addEventListener('pagehide', leave);
  addEventListener('beforeunload', (event) => {
    leave();
    if (unkept.size > 0) event.preventDefault();
  });
}

/**
 * @param {string} name
 * @returns {any} null where there is none
 */
export function recallDraft(name) {
  try {
    return JSON.parse(sessionStorage.getItem(PREFIX + name) ?? 'null');
  } catch {
    return null;
  }
}

/**
 * @param {string} name
 * @param {unknown} draft null: there is none any more
 */
export function keepDraft(name, draft) {
  try {
    if (draft === null) sessionStorage.removeItem(PREFIX + name);
    else sessionStorage.setItem(PREFIX + name, JSON.stringify(draft));
    unkept.delete(name);
  } catch {
    if (draft === null) unkept.delete(name);
    else unkept.add(name);
  }
}

/** Whoever signs in next in this tab has begun nothing yet. */
export function forgetDrafts() {
  for (const name of ['staged', 'undo', 'settings']) keepDraft(name, null);
}
