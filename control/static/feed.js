/**
 * @file The live view of the whole: one stream of server-sent events, resumed after a break. Tabs of
 * one browser share it: the tab that holds the lock reads it and tells the others.
 *
 * `EventSource` tells neither why a stream was refused nor that it has fallen silent, so it is read by
 * hand.
 */

import { CallError, readClock, refusalOf } from './api.js';

/** @typedef {import('./shapes.js').WholeAnswer} WholeAnswer */

/** The server says something every second; a silence this long is a break. */
const SILENCE_MS = 6_000;
const RETRY_MS = 2_000;
const SHARED_NAME = 'wicketgate-feed';

/**
 * @typedef {object} Delta what changed: of each backend only the fields that did
 * @property {string} etag
 * @property {WholeAnswer['status']} status
 * @property {{id: string}[]} backends
 * @property {string[]} gone
 */

/**
 * What tabs tell each other; news go as the text that they came as, which costs least to pass on.
 * @typedef {{kind: 'hello'}
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
/** @type {{onWhole: (whole: WholeAnswer) => void, onProblem: (problem: CallError) => void}} */
let listener = { onWhole: () => {}, onProblem: () => {} };

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
  if (isLeading) {
    if (message.kind !== 'hello' || whole === null || lastId === null) return;
    share({ kind: 'snapshot', id: lastId, text: JSON.stringify(whole) });
    return;
  }
  if (message.kind !== 'hello') take(message);
}

/** @param {Message} message */
function share(message) {
  channel?.postMessage(message);
}

/** @param {Exclude<Message, {kind: 'hello'}>} message */
function take(message) {
  const began = performance.now();
  takeNews(message);
  // For whoever looks at how fast the page is, the tests among them.
  performance.clearMeasures('update');
  performance.measure('update', { start: began, end: performance.now() });
}

/** @param {Exclude<Message, {kind: 'hello'}>} message */
function takeNews(message) {
  if (message.kind === 'problem') {
    listener.onProblem(new CallError(message.problem, message.reason));
    return;
  }
  if (message.kind === 'delta' && whole === null) return;
  const data = JSON.parse(message.text);
  whole = message.kind === 'snapshot' ? data : patched(/** @type {WholeAnswer} */ (whole), data);
  lastId = message.id;
  listener.onWhole(/** @type {WholeAnswer} */ (whole));
}

/**
 * Backends are changed in place: copies of thousands each second would cost more than all the rest.
 * @param {WholeAnswer} before
 * @param {Delta} delta
 * @returns {WholeAnswer}
 */
function patched(before, { etag, status, backends, gone }) {
  const changes = new Map(backends.map((backend) => [backend.id, backend]));
  for (const backend of before.backends) {
    Object.assign(backend, changes.get(backend.id));
    changes.delete(backend.id);
  }
  const isGone = new Set(gone);
  const kept = before.backends.filter(({ id }) => !isGone.has(id));
  // A backend that was not known before comes whole.
  const added = /** @type {WholeAnswer['backends']} */ ([...changes.values()]);
  return { etag, status, backends: [...kept, ...added] };
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

/** @param {AbortController} abort */
async function read(abort) {
  /** @type {Record<string, string>} */
  const headers = { accept: 'text/event-stream' };
  if (lastId !== null) headers['last-event-id'] = lastId;
  let silence = setTimeout(() => abort.abort('silence'), SILENCE_MS);
  try {
    const response = await fetch('/api/v1/events', { headers, cache: 'no-store', signal: abort.signal });
    readClock(response);
    if (!response.ok) throw refusalOf(response.status, await response.text());
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body)
      .pipeThrough(/** @type {TransformStream<Uint8Array, string>} */ (new TextDecoderStream()))
      .getReader();
    let rest = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new CallError('away', '');
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort('silence'), SILENCE_MS);
      rest += value;
      const events = rest.split('\n\n');
      rest = events.pop() ?? '';
      for (const event of events) takeEvent(event);
    }
  } finally {
    clearTimeout(silence);
  }
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
