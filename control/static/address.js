/**
 * @file The query of the page's address, where all that a reload or a sent link must bring back is
 * kept: which page is shown, what its table is filtered and sorted by.
 */

/** @type {(() => void)[]} */
const listeners = [];

/**
 * @param {string} name
 * @returns {string} empty where the address does not have it
 */
export function parameter(name) {
  return new URLSearchParams(location.search).get(name) ?? '';
}

/**
 * Writes parts of the query without a step in the browser's history.
 * @param {Record<string, string>} parts an empty one is left out
 */
export function keepInAddress(parts) {
  window.history.replaceState(null, '', queryWith(parts));
}

/**
 * Goes where the parts of the query say; the browser's way back leads here again.
 * @param {Record<string, string>} parts an empty one is left out
 */
export function visit(parts) {
  const query = queryWith(parts);
  const isElsewhere = query !== (location.search || location.pathname);
  if (isElsewhere) window.history.pushState(null, '', query);
  tell();
}

/** @param {() => void} listener called after each visit, the browser's own back and forth among them */
export function onVisit(listener) {
  listeners.push(listener);
}

/** Lets links to `?...` be visits, and the browser's way back too. */
export function startAddress() {
  addEventListener('popstate', tell);
  document.addEventListener('click', (event) => {
    const link = event.target instanceof Element ? event.target.closest('a[href^="?"]') : null;
    const isPlain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
    if (link === null || !isPlain) return;
    event.preventDefault();
    visit(Object.fromEntries(new URLSearchParams(link.getAttribute('href') ?? '')));
  });
}

/** @param {Record<string, string>} parts */
function queryWith(parts) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(parts)) {
    if (value === '') query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  // Without a query, the path is what takes the old one away.
  return text === '' ? location.pathname : `?${text}`;
}

function tell() {
  for (const listener of listeners) listener();
}
