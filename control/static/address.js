/**
 * @file The query of the page's address, where all that a reload or a sent link must bring back is
 * kept: which page is shown, what its table is filtered and sorted by.
 */

/** @type {(() => void)[]} */
const listeners = [];
/** The last query of each page, so that the rail leads back to it as it was left. @type {Map<string, string>} */
const queries = new Map();

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
  noteQuery();
}

/**
 * Goes where the query says, and nothing of the old one is left: a filter that stays behind would hide
 * what the link leads to. The browser's way back leads here again.
 * @param {Record<string, string>} query
 */
export function visit(query) {
  go(`?${new URLSearchParams(query)}`);
}

/** The query that opens the panel of a backend. @param {string} id */
export function addressOf(id) {
  return { page: 'backends', open: id };
}

/** Goes to a page as it was last left. @param {string} page */
export function visitPage(page) {
  go(queries.get(page) ?? `?${new URLSearchParams({ page })}`);
}

/** @param {string} query */
function go(query) {
  if (query !== location.search) window.history.pushState(null, '', query);
  noteQuery();
  tell();
}

function noteQuery() {
  queries.set(parameter('page'), location.search);
}

/** @param {() => void} listener called after each visit, the browser's own back and forth among them */
export function onVisit(listener) {
  listeners.push(listener);
}

/** Lets links to `?...` be visits, and the browser's way back too. Those of the rail name only a page. */
export function startAddress() {
  addEventListener('popstate', () => {
    noteQuery();
    tell();
  });
  document.addEventListener('click', (event) => {
    const link = event.target instanceof Element ? event.target.closest('a[href^="?"]') : null;
    const isPlain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
    if (link === null || !isPlain) return;
    event.preventDefault();
    const page = link.getAttribute('data-page');
    if (page === null) visit(Object.fromEntries(new URLSearchParams(link.getAttribute('href') ?? '')));
    else visitPage(page);
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
