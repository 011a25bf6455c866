/**
 * @file What the page remembers: choices for good, the token until the tab closes. A browser that
 * forbids storage loses nothing but the memory.
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

let token = readToken();

/** @returns {string | null} the bearer token, where one was given */
export function currentToken() {
  return token;
}

/** @param {string} given empty forgets it */
export function keepToken(given) {
  token = given === '' ? null : given;
  try {
    if (token === null) sessionStorage.removeItem(PREFIX + 'token');
    else sessionStorage.setItem(PREFIX + 'token', token);
  } catch {
    // Forbidden: the token then holds until the page is left.
  }
}

function readToken() {
  try {
    return sessionStorage.getItem(PREFIX + 'token');
  } catch {
    return null;
  }
}
