/**
 * @file Every call to the control plane, one function each, and the shapes of the answers. What an
 * answer means to the person is decided elsewhere; here is only what was said, or why nothing was.
 */

/**
 * An operator's word on a backend, above what the backend and discovery say of it.
 * @typedef {object} Override
 * @property {number | null} [weight]
 * @property {boolean | null} [enabled]
 * @property {boolean | null} [drain]
 */

/**
 * @typedef {object} Backend
 * @property {string} id `ip:port`, an IPv6 address in brackets
 * @property {string} ip
 * @property {number} port
 * @property {number} weight 0..1000
 * @property {number | null} gpu_usage 0..1
 * @property {number | null} vram_usage 0..1
 * @property {boolean} enabled
 * @property {boolean} is_warming_up
 * @property {number | null} last_seen unix seconds
 * @property {string} source who has the word: `k8s` or `runtime`, which an override is too
 * @property {string[]} [sources] all who know it, the strongest first: `override`, `runtime`, `k8s`
 * @property {Override | null} [override]
 * @property {string} [state] the control plane's word: `expired` where its registration expired
 * @property {number | null} [expires_at_ms] when it expires unless it is heard again
 * @property {SeenBackend | null} proxy null where the proxy does not report it
 * @property {Cost | null} [cost] where the algorithm has one
 * @property {number | null} [reported_at_ms] when its GPU and VRAM were reported
 * @property {number | null} [queue] requests that wait there, by its own word
 * @property {number | null} [running] requests that it works on
 * @property {number | null} [max_batch] how many requests it serves together
 * @property {number | null} [batch_window_ms]
 */

/**
 * What one session more costs at a backend, with its parts, as `contract/src/cost.rs` says.
 * @typedef {object} Cost
 * @property {number} total
 * @property {number} in_flight
 * @property {number} weight in proportion to the mean of the pool
 * @property {number} slowness
 * @property {number} latency_samples
 * @property {number} warm_up
 * @property {number} failures
 * @property {{what: string, count: number, age_ms: number}[]} [failed] what they were, while they cost something
 * @property {number | null} vram_expected
 * @property {number} vram
 * @property {number} gpu
 * @property {number} report_weight
 * @property {number | null} report_age_ms
 */

/**
 * A state that a backend came into.
 * @typedef {object} Transition
 * @property {number} at_ms
 * @property {import('./state.js').Admin} admin
 * @property {import('./state.js').Operational} operational
 * @property {string} reason
 */

/**
 * What one source says; an override may leave a part to the others.
 * @typedef {{weight?: number | null, enabled?: boolean | null, drain?: boolean | null, is_expired?: boolean, at?: number, actor?: string}} Layer
 */

/**
 * What the static list says of a backend; what it does not mention is left to discovery.
 * @typedef {{weight?: number | null, enabled?: boolean | null, is_warming_up?: boolean | null}} Said
 */

/**
 * @typedef {object} Detail
 * @property {{override: Layer | null, registration: Layer | null, static: Layer | null, discovery: Layer | null}} layers the strongest first
 * @property {Transition[]} history the newest first
 * @property {import('./audit-line.js').Entry[]} edits lines of the audit log, the newest first
 */

/**
 * One thing that control finds, by its code; `args` are the figures of that code.
 * @typedef {object} Finding
 * @property {'ok' | 'degraded' | 'unknown' | 'down'} level
 * @property {string} code
 * @property {Record<string, any>} args
 * @property {number | null} since unix milliseconds; null: since before control started
 * @property {string} text the same in English
 */

/**
 * What clients met in the last minute.
 * @typedef {object} Traffic
 * @property {number} window_s what the figures cover
 * @property {number} sessions began or ended, whichever are more
 * @property {number} new_sessions
 * @property {number} failed
 * @property {number | null} failed_share
 * @property {number} failed_per_s
 * @property {Record<string, number>} failed_reasons
 * @property {number} retries
 * @property {number} flows
 * @property {number} flows_failed
 * @property {number | null} flows_failed_share
 * @property {Record<string, number>} flows_ended
 * @property {number} datagrams_dropped
 * @property {Record<string, number>} dropped_reasons
 */

/**
 * Whether traffic flows: the worst that is found, and all else that is, the worst first.
 * @typedef {Finding & {others: Finding[], pools: Record<string, Finding>, traffic: Traffic, at_ms: number}} Verdict
 */

/**
 * The whole, by `/api/v1`.
 * @typedef {object} WholeAnswer
 * @property {string} etag of the edits as they stand
 * @property {Omit<ProxyAnswer, 'status'> & {proxy: ProxyStatus | null, verdict?: Verdict, warnings?: string[], freeze?: object | null, at_ms: number, etag?: string, audit_seq?: number, ttl_ms?: number, protected?: boolean, updated_at?: number | null, k8s_updated_at?: number | null, runtime_updated_at?: number | null}} status
 * @property {Backend[]} backends
 */

/**
 * An edit of one backend's override; `null` gives a part back to the backend and to discovery.
 * @typedef {object} Edit
 * @property {string} id
 * @property {number | null} [weight]
 * @property {boolean | null} [enabled]
 * @property {boolean | null} [drain]
 */

/**
 * One backend as the proxy sees it.
 * @typedef {object} SeenBackend
 * @property {boolean} configured
 * @property {'ready' | 'drain' | 'disabled'} admin
 * @property {'up' | 'down' | 'checking' | 'warming' | 'ejected'} operational
 * @property {string} reason
 * @property {number} weight
 * @property {number} weight_effective
 * @property {number} sessions_active
 * @property {number} sessions_total
 * @property {number} flows_active
 * @property {number} flows_total
 * @property {number} bytes_up
 * @property {number} bytes_down
 * @property {number} connect_failures
 * @property {number} connect_timeouts
 * @property {number | null} [connect_latency_us]
 * @property {number | null} [first_byte_latency_us]
 * @property {number} [probes_total]
 * @property {number} [probe_failures_total]
 * @property {number | null} [probed_at_ms]
 * @property {string | null} [probe_result]
 * @property {number | null} [probe_latency_us]
 * @property {number} [session_failures_in_row]
 * @property {number} [ejections_total]
 * @property {number | null} [ejected_for_ms]
 * @property {number} [slow_start]
 */

/**
 * @typedef {object} ProxyStatus
 * @property {string} version
 * @property {number} pid
 * @property {number} generation
 * @property {number} loaded_at_ms
 * @property {{at_ms: number, ok: boolean, generation: number | null, reason: string | null} | null} last_reload
 * @property {number} started_at_ms
 * @property {boolean} [draining]
 * @property {number} [reloads_ok]
 * @property {number} [reloads_refused]
 * @property {{sessions_active: number, sessions_total: number, flows_active: number}[]} [workers]
 * @property {{max_sessions: number, max_flows: number, accept_pauses: number, log_lines_dropped: number}} [limits]
 * @property {string} algorithm
 * @property {{addr: string, tcp: boolean, udp: boolean}[]} listeners
 * @property {{probe?: string, all_down?: string, ejections_spared?: number, tcp: ProtocolHealth, udp: ProtocolHealth}} [health] absent from older proxies
 * @property {{sessions_active: number, sessions_total: number, flows_active: number, flows_total: number, bytes_up: number, bytes_down: number, connect_retries?: number, sessions_ended?: Record<string, number>, flows_ended?: Record<string, number>, datagrams_dropped?: Record<string, number>, first_byte?: {sum_us: number, buckets: [number, number][]}}} totals `first_byte` is absent from older proxies
 */

/**
 * What health left of the backends for one protocol.
 * @typedef {object} ProtocolHealth
 * @property {number} ready
 * @property {number} available
 * @property {'reject' | 'fail_open' | null} all_down_in_force the rule, while all are out
 */

/** @typedef {{proxy: string, control: string, message: string}} OtherFile the two paths */

/**
 * A part of the configuration that the proxy refuses.
 * @typedef {object} ProxyRefusal
 * @property {string} code
 * @property {string} place JSON pointer; empty for the whole file
 * @property {string} value
 * @property {string} detail what the proxy said
 * @property {number} since unix milliseconds
 * @property {unknown} kept what stays in force
 * @property {number | null} try_again_s null where only a restart of the proxy helps
 * @property {string} message the same as a sentence of the server
 */

/**
 * @typedef {object} ProxyAnswer
 * @property {boolean} running
 * @property {ProxyStatus | null} status null where the proxy has no admin socket
 * @property {string | null} [why] why it gives no status
 * @property {number} published_generation
 * @property {Publish | null} last_publish null before the first
 * @property {boolean | null} [verified] whether what it runs is known by its digest; false for an older proxy
 * @property {OtherFile | null} [other_file] where it reads another file than control writes
 * @property {ProxyRefusal[]} [refusals]
 */

/**
 * The last time that the control plane published and signalled, on whosever word.
 * @typedef {object} Publish
 * @property {number} at_ms
 * @property {number} generation
 * @property {boolean} signalled
 * @property {string} info
 * @property {boolean | null} applied null where it cannot be known
 * @property {string | null} reason why it was not applied, or why it cannot be known
 * @property {number | null} applied_in_ms
 */

/**
 * @typedef {object} Sync
 * @property {boolean} ok stored and published
 * @property {string} reason
 * @property {Reload} reload
 * @property {number} merged_count
 */

/**
 * @typedef {object} Reload
 * @property {boolean | null} ok whether the proxy was signalled; null where there was no need
 * @property {string} info
 * @property {boolean | null} [applied] null where it cannot be known
 * @property {string | null} [reason] why it was not applied, or why it cannot be known
 * @property {number | null} [generation]
 * @property {number | null} [applied_in_ms]
 */

/** @typedef {{ip: string, port: number}} Address */

/** @typedef {'read' | 'register' | 'write' | 'admin'} Scope */

/**
 * Who we are to the control plane.
 * @typedef {object} Session
 * @property {boolean} needs_token false where only this machine is served
 * @property {boolean} signed_in by a session that can be signed out of
 * @property {Scope | null} scope null where we are nobody yet
 * @property {string | null} by
 */

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
 * @returns {Promise<import('./past.js').Answer>}
 */
export function readSeries(from) {
  return call('GET', `/api/v1/series?from_ms=${Math.floor(from)}`);
}

/**
 * All edits or none.
 * @param {Edit[]} changes
 * @param {string} etag that they were made on; `*` for any
 * @returns {Promise<{sync: Sync, undo: Edit[]}>}
 */
export function change(changes, etag) {
  return call('POST', '/api/v1/changes', { changes }, { 'if-match': etag });
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
 * The settings in force, and those of them that the API has set.
 * @typedef {Settings & {algorithm: string, algorithms: string[], by_api: Settings}} SettingsAnswer
 */

/**
 * @typedef {object} ConfigAnswer
 * @property {SettingsAnswer} effective
 * @property {{generation: number} | null} published
 * @property {string} path
 * @property {number | null} updated_at unix seconds
 */

/** @returns {Promise<ConfigAnswer>} */
export function readConfig() {
  return call('GET', '/api/v1/config');
}

/** @returns {Promise<SettingsAnswer>} */
export async function readSettings() {
  return (await call('GET', '/api/settings')).settings;
}

/**
 * @param {Record<string, unknown>} patch as `Settings`; null gives a part back to control_config.json
 * @returns {Promise<{sync: Sync, settings: SettingsAnswer}>}
 */
export function changeSettings(patch) {
  return call('POST', '/api/settings', patch);
}

/** What the interface is, by itself. @returns {Promise<any>} */
export function readOpenApi() {
  return call('GET', '/api/openapi.json');
}

/**
 * @param {Address} address
 * @param {number} weight 0..1000
 * @returns {Promise<{sync: Sync}>}
 */
export function setWeight(address, weight) {
  return call('POST', `${backendPath(address)}/weight`, { weight });
}

/**
 * @param {Address} address
 * @param {boolean} enabled
 * @returns {Promise<{sync: Sync}>}
 */
export function setEnabled(address, enabled) {
  return call('POST', `${backendPath(address)}/enabled`, { enabled });
}

/**
 * @param {Address} address
 * @param {boolean} drain
 * @returns {Promise<{sync: Sync}>}
 */
export function setDrain(address, drain) {
  return call('POST', `${backendPath(address)}/drain`, { drain });
}

/**
 * @param {Address} address
 * @returns {Promise<{sync: Sync}>}
 */
export function clearOverride(address) {
  return call('DELETE', `${backendPath(address)}/override`);
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
  return new CallError('refused', reason || `HTTP ${status}`, faults, refusals);
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
