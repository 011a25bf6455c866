/**
 * @file What the backends can carry, now and once edits are applied. Capacity is the sum of the weights
 * that new sessions follow, as the proxy reports them; what the rest will carry is estimated from what
 * backends and proxy report, and unknown where they report nothing. Pure.
 */

import { isNumber } from './format.js';
import { isDraining, isUnused, stateOf } from './state.js';
import { rateOf } from './traffic.js';

/** @typedef {import('./shapes.js').Backend} Backend */
/** @typedef {Omit<import('./shapes.js').Edit, 'id'>} Parts */
/** @typedef {import('./shapes.js').Edit} Edit */

/**
 * @typedef {object} Reach
 * @property {number} before capacity
 * @property {number} after
 * @property {number} usedBefore backends that take new sessions
 * @property {number} usedAfter
 * @property {boolean} isReported by the proxy; else it follows from what is configured
 */

/**
 * What the remaining backends meet once all sessions of those that are taken out have moved to them.
 * @typedef {object} Load
 * @property {'none' | 'short' | 'tight' | 'enough' | 'unknown'} verdict whether they can carry it
 * @property {number | null} sessions a backend now, UDP flows included
 * @property {number | null} sessionsAfter
 * @property {number | null} rate new sessions and flows a second, all together
 * @property {number | null} gpu usage, the average now; null unless all report it
 * @property {number | null} gpuAfter
 * @property {number | null} vramAfter of the fullest; null unless the proxy has learned what a session takes
 */

/** A change that leaves no more than this part of the capacity wants a typed word. */
const LEAST_LEFT = 0.5;
/** Where the scheduler begins to hold back, and where a GPU has no room for more. */
const TIGHT = 0.8;
const FULL = { gpu: 1, vram: 0.97 };

/**
 * @param {Backend[]} backends all
 * @param {Edit[]} edits
 * @returns {Reach}
 */
export function reachOf(backends, edits) {
  const lines = linesOf(backends, edits);
  const sum = (/** @type {'now' | 'then'} */ when) => lines.reduce((total, line) => total + line[when], 0);
  return {
    before: sum('now'),
    after: sum('then'),
    usedBefore: lines.filter(({ now }) => now > 0).length,
    usedAfter: lines.filter(({ then }) => then > 0).length,
    isReported: backends.some(({ proxy }) => proxy !== null),
  };
}

/** Whether so little is left that the person must say so. @param {Reach} reach */
export function isLarge(reach) {
  return partLeft(reach) <= LEAST_LEFT;
}

/** What is left of the capacity, 0 to 1 or more; of none, all is left. @param {Reach} reach */
export function partLeft({ before, after }) {
  return before > 0 ? after / before : 1;
}

/**
 * What a person types to make a large change: how many backends it is of, or the address of the one.
 * @param {Backend[]} backends
 * @param {Edit[]} edits
 * @returns {string | null} null if the change is not large
 */
export function wordOf(backends, edits) {
  const [first, ...others] = edits;
  if (first === undefined || !isLarge(reachOf(backends, edits))) return null;
  return others.length === 0 ? first.id : String(edits.length);
}

/**
 * Whether it was typed; a number may have separators.
 * @param {string} typed
 * @param {string | null} word
 */
export function isWord(typed, word) {
  return word === null || typed.trim() === word || typed.replace(/[\s,.’]/g, '') === word;
}

/**
 * @param {Backend[]} backends all
 * @param {Edit[]} edits
 * @returns {Load}
 */
export function loadOf(backends, edits) {
  const lines = linesOf(backends, edits);
  const used = lines.filter(({ now }) => now > 0);
  const rest = lines.filter(({ then }) => then > 0);
  const isSeen = used.length > 0 && used.every(({ backend }) => backend.proxy !== null);
  const open = isSeen ? used.reduce((sum, { backend }) => sum + openAt(backend), 0) : null;
  const moved = used.filter(({ then }) => then === 0).reduce((sum, { backend }) => sum + openAt(backend), 0);
  const rates = used.map(({ backend }) => rateOf(backend.id)).filter(isNumber);
  const shares = used.map(({ backend }) => backend.gpu_usage).filter(isNumber);
  const isGpuKnown = used.length > 0 && shares.length === used.length;
  const work = shares.reduce((sum, share) => sum + share, 0);
  const gpuAfter = isGpuKnown && rest.length > 0 ? work / rest.length : null;
  const vramAfter = fullestAfter(rest, moved);
  return {
    verdict: rest.length === 0 ? 'none' : verdictOf(gpuAfter, vramAfter),
    sessions: open === null ? null : open / used.length,
    sessionsAfter: open === null || rest.length === 0 ? null : open / rest.length,
    rate: rates.length === 0 ? null : rates.reduce((sum, rate) => sum + rate, 0),
    gpu: isGpuKnown ? work / used.length : null,
    gpuAfter,
    vramAfter,
  };
}

/** @typedef {{backend: Backend, now: number, then: number}} Line */

/** @param {Backend[]} backends @param {Edit[]} edits @returns {Line[]} */
function linesOf(backends, edits) {
  const isReported = backends.some(({ proxy }) => proxy !== null);
  /** @type {Map<string, Parts>} */
  const byId = new Map(edits.map(({ id, ...parts }) => [id, parts]));
  return backends.map((backend) => {
    const now = isReported ? (backend.proxy?.weight_effective ?? 0) : isOn(backend) ? backend.weight : 0;
    const edit = byId.get(backend.id);
    return { backend, now, then: edit === undefined ? now : weightAfter(backend, edit, now) };
  });
}

/** Whether the configuration alone lets it take new sessions. @param {Backend} backend */
function isOn(backend) {
  return backend.enabled && !isDraining(backend) && backend.weight > 0;
}

/**
 * What is given back is what the sources below the override say.
 * @param {Backend} backend
 * @param {Parts} edit
 * @param {number} now
 */
function weightAfter(backend, edit, now) {
  const beneath = backend.without_override ?? backend;
  const weight = edit.weight ?? (edit.weight === null ? beneath : backend).weight;
  const enabled = edit.enabled ?? (edit.enabled === null ? beneath : backend).enabled;
  const drain = edit.drain ?? (edit.drain !== null && isDraining(backend));
  if (!enabled || drain || weight === 0) return 0;
  if (isOn(backend)) return now * (weight / backend.weight);
  return isUnused(stateOf(backend, backend.proxy).operational) ? 0 : weight;
}

/** @param {Backend} backend */
function openAt({ proxy }) {
  return proxy === null ? 0 : proxy.sessions_active + proxy.flows_active;
}

/**
 * The proxy expects of each what one session more takes; those that move are shared by weight.
 * @param {Line[]} rest
 * @param {number} moved sessions
 * @returns {number | null}
 */
function fullestAfter(rest, moved) {
  const capacity = rest.reduce((sum, { then }) => sum + then, 0);
  const expected = rest.map(({ backend, then }) => {
    const [used, next] = [backend.vram_usage, backend.cost?.vram_expected];
    if (!isNumber(used) || !isNumber(next)) return null;
    return used + Math.max(0, next - used) * ((moved * then) / capacity);
  });
  const known = expected.filter(isNumber);
  return known.length < rest.length || known.length === 0 ? null : Math.max(...known);
}

/**
 * @param {number | null} gpu
 * @param {number | null} vram
 * @returns {Load['verdict']}
 */
function verdictOf(gpu, vram) {
  if (gpu === null && vram === null) return 'unknown';
  if ((gpu ?? 0) > FULL.gpu || (vram ?? 0) >= FULL.vram) return 'short';
  return Math.max(gpu ?? 0, vram ?? 0) > TIGHT ? 'tight' : 'enough';
}
