/**
 * @file The live view of the whole: one stream of server-sent events, resumed after a break. Tabs of
 * one browser share it: the tab that holds the lock reads it and tells the others. Of many backends it
 * asks for the figures of those that the tabs show; those of the others come every few seconds.
 *
 * `EventSource` tells neither why a stream was refused nor that it has fallen silent, so it is read by
 * hand.
 */

import { CallError, readClock, refusalOf } from './api.js';
import { patchInPlace, patched } from './patch.js';

/** @typedef {import('./shapes.js').WholeAnswer} WholeAnswer */

/** The server says something every second; a silence this long is a break. */
const SILENCE_MS = 6_000;
const RETRY_MS = 2_000;
const SHARED_NAME = 'wicketgate-feed';
/** The figures of so many backends all come each second. */
const ALL_FRESH = 200;
/** Rows that are asked for; the server takes 500. */
const MAX_ROWS = 300;
/** What a tab shows counts for this long, as a tab that is closed says nothing. */
const TAB_MS = 5_000;

/**
 * @typedef {object} Delta what changed, as patch.js says
 * @property {string} etag
 * @property {Record<string, unknown>} status
 * @property {({id: string} | [WholeAnswer['backends'][number]])[]} backends
 * @property {string[]} gone
 */

/**
 * What tabs tell each other; news go as the text that they came as, which costs least to pass on.
 * @typedef {{kind: 'hello'}
 *   | {kind: 'shown', tab: string, rows: string[]}
 *   | {kind: 'snapshot' | 'delta', id: string, text: string}
 *   | {kind: 'problem', problem: CallError['kind'], reason: string}} Message
 */

/** @type {string | null} */
let lastId = null;
/** @type {WholeAnswer | null} */
let whole = null;
/** @type {BroadcastChannel | null} */
let channel = null;
let isLeading = false;
/** What other tabs show. @type {Map<string, {at: number, rows: string[]}>} */
const tabs = new Map();
const ownTab = Math.random().toString(36).slice(2);
/**
 * @type {{onWhole: (whole: WholeAnswer) => void, onProblem: (problem: CallError) => void, shownRows: () => string[]}}
 */
let listener = { onWhole: () => {}, onProblem: () => {}, shownRows: () => [] };

/**
 * Whether figures of backends that no tab shows come every few seconds only.
 * @param {number} count of all backends
 */
export function areFiguresSlow(count) {
  return count > ALL_FRESH;
}

/** @param {typeof listener} given told of every change, once a second at most */
export function startFeed(given) {
  listener = given;
  // Locks are for secure pages only; elsewhere each tab has its own stream.
  if (navigator.locks === undefined) {
    void readForever();
    return;
  }
  channel = new BroadcastChannel(SHARED_NAME);
  channel.addEventListener('message', ({ data }) => onMessage(data));
  channel.postMessage({ kind: 'hello' });
  void navigator.locks.request(SHARED_NAME, () => {
    isLeading = true;
    return readForever();
  });
}

/** @param {Message} message */
function onMessage(message) {
  if (message.kind === 'shown') {
    tabs.set(message.tab, { at: Date.now(), rows: message.rows });
    return;
  }
  if (isLeading) {
    if (message.kind !== 'hello' || whole === null || lastId === null) return;
    share({ kind: 'snapshot', id: lastId, text: JSON.stringify(whole) });
    return;
  }
  if (message.kind === 'hello') return;
  take(message);
  share({ kind: 'shown', tab: ownTab, rows: listener.shownRows() });
}

/** @param {Message} message */
function share(message) {
  channel?.postMessage(message);
}

/** @param {Exclude<Message, {kind: 'hello' | 'shown'}>} message */
function take(message) {
  const began = performance.now();
  takeNews(message);
  // For whoever looks at how fast the page is, the tests among them.
  performance.clearMeasures('update');
  performance.measure('update', { start: began, end: performance.now() });
}

/** @param {Exclude<Message, {kind: 'hello' | 'shown'}>} message */
function takeNews(message) {
  if (message.kind === 'problem') {
    listener.onProblem(new CallError(message.problem, message.reason));
    return;
  }
  if (message.kind === 'delta' && whole === null) return;
  const data = JSON.parse(message.text);
  whole = message.kind === 'snapshot' ? data : changed(/** @type {WholeAnswer} */ (whole), data);
  lastId = message.id;
  listener.onWhole(/** @type {WholeAnswer} */ (whole));
}

/**
 * Backends are changed in place: copies of thousands each second would cost more than all the rest.
 * @param {WholeAnswer} before
 * @param {Delta} delta
 * @returns {WholeAnswer}
 */
function changed(before, { etag, status, backends: changes, gone }) {
  const isGone = new Set(gone);
  const backends = before.backends.filter(({ id }) => !isGone.has(id));
  const byId = new Map(backends.map((backend) => [backend.id, backend]));
  for (const change of changes) {
    const { id } = Array.isArray(change) ? change[0] : change;
    const backend = byId.get(id);
    if (backend !== undefined) patchInPlace(backend, change);
    else backends.push(patched(null, change));
  }
  return { etag, status: patched(before.status, status), backends };
}

/** The rows whose figures are asked for; null asks for all. @returns {string[] | null} */
function wantedRows() {
  if (whole === null || !areFiguresSlow(whole.backends.length)) return null;
  const now = Date.now();
  const others = [...tabs.values()].filter(({ at }) => at >= now - TAB_MS).flatMap(({ rows }) => rows);
  return [...new Set([...listener.shownRows(), ...others])].slice(0, MAX_ROWS);
}

async function readForever() {
  for (;;) {
    try {
      await read(new AbortController());
    } catch (error) {
      const problem = error instanceof CallError ? error : new CallError('away', '');
      const { kind, message: reason } = problem;
      const message = /** @type {const} */ ({ kind: 'problem', problem: kind, reason });
      take(message);
      share(message);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/**
 * A stream from where the last one stopped.
 * @param {string[] | null} rows
 * @param {AbortController} abort
 */
async function ask(rows, abort) {
  /** @type {Record<string, string>} */
  const headers = { accept: 'text/event-stream' };
  if (lastId !== null) headers['last-event-id'] = lastId;
  const query = rows === null ? '' : `&rows=${rows.join(',')}`;
  const path = `/api/v1/events?patch=true${query}`;
  const response = await fetch(path, { headers, cache: 'no-store', signal: abort.signal });
  readClock(response);
  if (!response.ok) throw refusalOf(response.status, await response.text());
  return /** @type {ReadableStream<Uint8Array>} */ (response.body)
    .pipeThrough(/** @type {TransformStream<Uint8Array, string>} */ (new TextDecoderStream()))
    .getReader();
}

/** @param {AbortController} abort */
async function read(abort) {
  let silence = setTimeout(() => abort.abort('silence'), SILENCE_MS);
  let current = abort;
  try {
    let asked = wantedRows();
    let reader = await ask(asked, current);
    let rest = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new CallError('away', '');
      clearTimeout(silence);
      silence = setTimeout(() => current.abort('silence'), SILENCE_MS);
      rest += value;
      const events = rest.split('\n\n');
      rest = events.pop() ?? '';
      for (const event of events) takeEvent(event);
      const wanted = wantedRows();
      if (events.length === 0 || isAskedFor(wanted, asked)) continue;
      // The next stream is there before this one ends, so that the server keeps what it told.
      const next = new AbortController();
      const following = await ask(wanted, next);
      current.abort('other rows');
      [current, reader, asked, rest] = [next, following, wanted, ''];
    }
  } finally {
    clearTimeout(silence);
    current.abort('over');
  }
}

/**
 * @param {string[] | null} wanted
 * @param {string[] | null} asked
 */
function isAskedFor(wanted, asked) {
  if (asked === null || wanted === null) return asked === wanted;
  const known = new Set(asked);
  return wanted.every((id) => known.has(id)) && asked.length <= 2 * wanted.length + MAX_ROWS / 6;
}

/** @param {string} text one event */
function takeEvent(text) {
  const fields = new Map(
    text.split('\n').map((line) => {
      const at = line.indexOf(': ');
      return [line.slice(0, at), line.slice(at + 2)];
    }),
  );
  const kind = fields.get('event');
  if (kind !== 'snapshot' && kind !== 'delta') return;
  const id = fields.get('id') ?? '';
  const message = /** @type {const} */ ({ kind, id, text: fields.get('data') ?? '{}' });
  take(message);
  share(message);
}
