/**
 * @file What the page shows stands in its address, so that it can be sent to somebody and survives a
 * reload. Each part of the page has its own names in the query and leaves the others alone.
 */

/** @param {string} name @returns {string} empty where it is not there */
export function fromAddress(name) {
  return new URLSearchParams(location.search).get(name) ?? '';
}

/**
 * @param {string} name
 * @param {string} value empty takes it out
 */
export function toAddress(name, value) {
  const query = new URLSearchParams(location.search);
  if (value === '') query.delete(name);
  else query.set(name, value);
  const text = query.toString();
  history.replaceState(history.state, '', `${location.pathname}${text === '' ? '' : `?${text}`}${location.hash}`);
}
