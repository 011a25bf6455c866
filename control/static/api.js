/**
 * @file Every call to the control plane, one function each; shapes.js describes the answers. What an
 * answer means to the person is decided elsewhere; here is only what was said, or why nothing was.
 */

/** @import {Address, Backend, Detail, Edit, Gone, ProxyRefusal, Said, Session, Sync, WholeAnswer} from './shapes.js' */

/** Long enough for a publish that waits for the proxy, and for a ping that gets no answer. */
const CALL_TIMEOUT_MS = 15_000;
/** The most probes, each with its own time, one after the other. */
const PING_TIMEOUT_MS = 60_000;

/** @typedef {{place: string, found: string, allowed: string}} Fault `place` is a JSON pointer into what was sent */

/**
 * Why a call brought no answer: `away` no server, `forbidden` no right (401, 403), `stale` made for
 * what no longer stands (412), `refused` all other errors.
 */
export class CallError extends Error {
  /**
   * @param {'away' | 'forbidden' | 'stale' | 'refused'} kind
   * @param {string} reason in the server's words; empty where it said nothing
   * @param {Fault[]} [faults] each by itself, where the server tells them apart
   * @param {ProxyRefusal[]} [refusals] for which the proxy had it rolled back
   */
  constructor(kind, reason, faults = [], refusals = []) {
    super(reason);
    this.kind = kind;
    this.faults = faults;
    this.refusals = refusals;
    /** Of a backend that is listed no more. @type {Gone | null} */
    this.gone = null;
  }
}

/** How far the server's clock is ahead of ours, in milliseconds. */
let clockAhead = 0;
/** The `date` header counts whole seconds, so a smaller difference says nothing. */
const CLOCK_TOLERANCE_MS = 2_000;

/** The time by the server's clock, in unix milliseconds: ages are told by one clock only. */
export function serverNow() {
  return Date.now() + clockAhead;
}

/** Backends of one page, and how many pages are read at most: more than the server keeps. */
const PAGE = 10_000;
const MAX_PAGES = 10;

/** @returns {Promise<WholeAnswer>} */
export async function readWhole() {
  // The tag before the rows: were it newer than they are, an edit could overwrite what nobody has seen.
  const status = await call('GET', '/api/v1/status');
  const backends = await readBackends();
  return { etag: status.etag, status, backends };
}

/** @returns {Promise<Backend[]>} */
async function readBackends() {
  /** @type {Backend[]} */
  const all = [];
  let path = `/api/v1/backends?limit=${PAGE}`;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const { backends, next } = await call('GET', path);
    all.push(...backends);
    if (next === null) break;
    path = `/api/v1/backends?limit=${PAGE}&cursor=${encodeURIComponent(next)}`;
  }
  return all;
}

/** @param {string} id @returns {Promise<Detail>} */
export function readDetail(id) {
  return call('GET', `/api/v1/backends/${encodeURIComponent(id)}`);
}

/**
 * What the figures were, and what happened meanwhile.
 * @param {number} from unix milliseconds
 * @returns {Promise<import('./stored-series.js').Answer>}
 */
export function readSeries(from) {
  return call('GET', `/api/v1/series?from_ms=${Math.floor(from)}`);
}

/** The last edits, the newest first. @returns {Promise<{edits: import('./shapes.js').PastEdit[]}>} */
export function readEdits() {
  return call('GET', '/api/v1/edits');
}

/**
 * What the way back to before an edit would change.
 * @param {number} number of the edit
 * @returns {Promise<import('./shapes.js').WayBack>}
 */
export function tryRollBack(number) {
  return call('POST', `/api/v1/edits/${number}/roll_back?dry_run=true`, {});
}

/**
 * @param {number} number of the edit
 * @param {string} etag that the difference was shown for
 * @param {string} note empty: none
 * @returns {Promise<{sync: Sync}>}
 */
export function rollBack(number, etag, note) {
  return call('POST', `/api/v1/edits/${number}/roll_back`, note === '' ? {} : { note }, { 'if-match': etag });
}

/**
 * All edits or none.
 * @param {Edit[]} changes
 * @param {string} etag that they were made on; `*` for any
 * @param {string} [note] why
 * @returns {Promise<{sync: Sync, undo: Edit[]}>}
 */
export function change(changes, etag, note = '') {
  const body = note === '' ? { changes } : { changes, note };
  return call('POST', '/api/v1/changes', body, { 'if-match': etag });
}

/** @typedef {{lines: import('./audit-line.js').Entry[], path: string}} AuditAnswer the oldest line first */

/** How long the server waits for a line before it says that there is none, and then some. */
const FOLLOW_TIMEOUT_MS = 30_000;

/**
 * The lines after number `after`, the oldest first; without it the newest ones.
 * @param {{after?: number, limit: number, follow?: boolean}} asked `follow` waits for a next line
 * @param {AbortSignal} [abort]
 * @returns {Promise<AuditAnswer>}
 */
export function readAudit(asked, abort) {
  const query = new URLSearchParams(Object.entries(asked).map(([name, value]) => [name, String(value)]));
  const timeout = AbortSignal.timeout(FOLLOW_TIMEOUT_MS);
  const signal = abort === undefined ? timeout : AbortSignal.any([timeout, abort]);
  return call('GET', `/api/v1/audit?${query}`, undefined, {}, signal);
}

/** @returns {Promise<Sync>} */
export function sync() {
  return call('POST', '/api/sync');
}

/**
 * One line of a ping: how it is made, each probe as it ends, and the sum.
 * @typedef {{kind: 'start', ip: string, via: 'icmp' | 'tcp'}
 *   | {kind: 'probe', sequence: number, port: number | null, time_ms: number | null, error: string | null}
 *   | {kind: 'summary', sent: number, received: number, min_ms: number | null, avg_ms: number | null, max_ms: number | null}} PingLine
 */

/**
 * @param {string} ip
 * @param {number} probes
 * @returns {AsyncGenerator<PingLine>}
 */
export async function* ping(ip, probes) {
  const response = await ask('POST', '/api/v1/pings', { ip, probes }, {}, AbortSignal.timeout(PING_TIMEOUT_MS));
  const lines = /** @type {ReadableStream<Uint8Array>} */ (response.body)
    .pipeThrough(/** @type {TransformStream<Uint8Array, string>} */ (new TextDecoderStream()))
    .getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await lines.read().catch(() => {
      throw new CallError('away', '');
    });
    if (done) return;
    rest += value;
    const whole = rest.split('\n');
    rest = whole.pop() ?? '';
    for (const line of whole) yield JSON.parse(line);
  }
}

/**
 * Settings as `POST /api/settings` takes them: only what is set.
 * @typedef {object} Settings
 * @property {string} [algorithm]
 * @property {Record<string, unknown>} [listen]
 * @property {Record<string, unknown>} [proxy] optional keys of proxy_config.json
 */

/**
 * The settings that are set, by the API or in control_config.json; and what holds with the defaults.
 * @typedef {Settings & {algorithm: string, algorithms: string[], by_api: Settings, by_file: Settings, in_force: Settings, defaults: Settings}} SettingsAnswer
 */

/**
 * @typedef {object} ConfigAnswer
 * @property {string} etag of the edits that it shows
 * @property {SettingsAnswer} effective
 * @property {{generation: number} | null} published
 * @property {string} path
 * @property {number | null} updated_at unix seconds
 */

/** @returns {Promise<ConfigAnswer>} */
export function readConfig() {
  return call('GET', '/api/v1/config');
}

/**
 * @param {Record<string, unknown>} patch as `Settings`; null gives a part back to control_config.json
 * @param {string} etag that it was made on; `*` for any
 * @returns {Promise<{sync: Sync, settings: SettingsAnswer}>}
 */
export function changeSettings(patch, etag) {
  return call('POST', '/api/settings', patch, { 'if-match': etag });
}

/** What the interface is, by itself. @returns {Promise<any>} */
export function readOpenApi() {
  return call('GET', '/api/openapi.json');
}

/**
 * @param {Named} backend
 * @param {number} weight 0..1000
 * @returns {Promise<{sync: Sync}>}
 */
export function setWeight(backend, weight) {
  if (!isInDefault(backend)) return change([{ id: backend.id, weight }], '*');
  return call('POST', `${backendPath(backend)}/weight`, { weight });
}

/**
 * @param {Named} backend
 * @param {boolean} enabled
 * @returns {Promise<{sync: Sync}>}
 */
export function setEnabled(backend, enabled) {
  if (!isInDefault(backend)) return change([{ id: backend.id, enabled }], '*');
  return call('POST', `${backendPath(backend)}/enabled`, { enabled });
}

/**
 * @param {Named} backend
 * @param {boolean} drain
 * @returns {Promise<{sync: Sync}>}
 */
export function setDrain(backend, drain) {
  if (!isInDefault(backend)) return change([{ id: backend.id, drain }], '*');
  return call('POST', `${backendPath(backend)}/drain`, { drain });
}

/**
 * @param {Named} backend
 * @returns {Promise<{sync: Sync}>}
 */
export function clearOverride(backend) {
  if (!isInDefault(backend)) return change([{ id: backend.id, weight: null, enabled: null, drain: null }], '*');
  return call('DELETE', `${backendPath(backend)}/override`);
}

/**
 * Puts a backend on the static list, or lists it otherwise.
 * @param {string} id ip:port
 * @param {Said} said
 * @returns {Promise<{sync: Sync, old: Said | null}>}
 */
export function putStatic(id, said) {
  return call('PUT', `/api/v1/static/${encodeURIComponent(id)}`, said);
}

/**
 * @param {string} id ip:port
 * @returns {Promise<{sync: Sync, old: Said | null}>}
 */
export function removeStatic(id) {
  return call('DELETE', `/api/v1/static/${encodeURIComponent(id)}`);
}

/**
 * Lets a held-back mass expiry happen.
 * @returns {Promise<{sync: Sync}>}
 */
export function acknowledgeExpiry() {
  return call('POST', '/api/expiry/acknowledge');
}

/** @returns {Promise<Session>} */
export function readSession() {
  return call('GET', '/api/v1/session');
}

/**
 * @param {string} token
 * @returns {Promise<Session>}
 */
export function signIn(token) {
  return call('POST', '/api/v1/session', { token });
}

export function signOut() {
  return call('DELETE', '/api/v1/session');
}

/** @typedef {Address & {id: string, pool?: string}} Named a backend by its address and its pool */

/**
 * The calls with an address in their path mean the pool `default`.
 * @param {Named} backend
 */
function isInDefault({ pool = 'default' }) {
  return pool === 'default';
}

/** @param {Address} address */
function backendPath({ ip, port }) {
  return `/api/backends/${encodeURIComponent(ip)}/${port}`;
}

/**
 * @param {'GET' | 'POST' | 'PUT' | 'DELETE'} method
 * @param {string} path
 * @param {object} [body]
 * @param {Record<string, string>} [headers]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
async function call(method, path, body, headers, signal) {
  const response = await ask(method, path, body, headers, signal);
  const answer = parse(await textOf(response));
  if (answer === null) throw new CallError('refused', `HTTP ${response.status}`);
  return answer;
}

/**
 * The answer of a call that was no failure, its body not read yet.
 * @param {'GET' | 'POST' | 'PUT' | 'DELETE'} method
 * @param {string} path
 * @param {object} [body]
 * @param {Record<string, string>} [headers]
 * @param {AbortSignal} [signal]
 */
async function ask(method, path, body, headers = {}, signal = AbortSignal.timeout(CALL_TIMEOUT_MS)) {
  if (body !== undefined) headers['content-type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      cache: 'no-store',
      signal,
    });
  } catch {
    // The browser says only that it failed; the page says what that means.
    throw new CallError('away', '');
  }
  readClock(response);
  if (!response.ok) throw refusalOf(response.status, await textOf(response));
  return response;
}

/** @param {Response} response */
async function textOf(response) {
  try {
    return await response.text();
  } catch {
    throw new CallError('away', '');
  }
}

/**
 * What an answer that is no success means.
 * @param {number} status
 * @param {string} text its body
 */
export function refusalOf(status, text) {
  const answer = parse(text);
  const reason = reasonIn(answer);
  if (status === 401 || status === 403) return new CallError('forbidden', reason);
  if (status === 412) return new CallError('stale', reason);
  const faults = Array.isArray(answer?.faults) ? answer.faults : [];
  const refusals = Array.isArray(answer?.refusals) ? answer.refusals : [];
  const error = new CallError('refused', reason || `HTTP ${status}`, faults, refusals);
  error.gone = /** @type {Gone | null} */ (answer?.gone ?? null);
  return error;
}

/** @param {Response} response */
export function readClock(response) {
  const ahead = Date.parse(response.headers.get('date') ?? '') - Date.now();
  if (Number.isFinite(ahead)) clockAhead = Math.abs(ahead) > CLOCK_TOLERANCE_MS ? ahead : 0;
}

/**
 * @param {string} text
 * @returns {Record<string, unknown> | null} null where it is no JSON object
 */
function parse(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === 'object' ? value : null;
  } catch {
    return null;
  }
}

/** @param {Record<string, unknown> | null} answer */
function reasonIn(answer) {
  const said = answer?.error ?? answer?.detail ?? answer?.message ?? answer?.reason;
  return typeof said === 'string' ? said : '';
}
