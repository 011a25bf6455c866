/**
 * @file What state a backend is in, on both axes, and how that looks. The proxy's word counts; where
 * there is none, only what the control plane was told is shown, and never "up".
 */

import { serverNow } from './api.js';
import { svg } from './dom.js';
import { spanText } from './format.js';
import { words } from './i18n.js';
import { reasonsText } from './state-reasons.js';

/** @typedef {import('./shapes.js').Backend} Backend */
/** @typedef {import('./shapes.js').SeenBackend} SeenBackend */
/** @typedef {'ready' | 'drain' | 'disabled'} Admin */
/** @typedef {'up' | 'down' | 'checking' | 'warming' | 'ejected' | 'expired' | 'no_pool' | 'no_listener' | 'unknown'} Operational */
/** @typedef {{admin: Admin, operational: Operational, reason: string}} State */

/**
 * @param {Backend} backend
 * @param {SeenBackend | null} seen
 * @returns {State}
 */
export function stateOf(backend, seen) {
  return {
    admin: adminOf(backend),
    operational: operationalOf(backend, seen),
    reason: reasonOf(backend, seen),
  };
}

/** How long a registration lives without a heartbeat, in milliseconds. @type {number | null} */
let ttlMs = null;

/** @param {number | undefined} milliseconds */
export function knowTtl(milliseconds) {
  ttlMs = milliseconds ?? null;
}

/** @param {Backend} backend @param {SeenBackend | null} seen */
function reasonOf(backend, seen) {
  if (backend.state === 'no_pool') return words().noPoolWord(backend.pool ?? '');
  if (backend.state === 'no_listener') return words().noListenerWord(backend.pool ?? '');
  if (backend.state === 'expired' && typeof backend.last_seen === 'number') {
    const silent = spanText(serverNow() / 1000 - backend.last_seen);
    return words().noHeartbeat(silent, ttlMs === null ? '' : spanText(ttlMs / 1000));
  }
  return seen === null ? words().noProxyWord : reasonsText(seen);
}

/**
 * @param {Backend} backend
 * @returns {Admin}
 */
function adminOf(backend) {
  if (!backend.enabled) return 'disabled';
  return backend.weight === 0 || isDraining(backend) ? 'drain' : 'ready';
}

/**
 * @param {Backend} backend
 * @param {SeenBackend | null} seen
 * @returns {Operational}
 */
function operationalOf(backend, seen) {
  if (backend.state === 'expired' || backend.state === 'no_pool' || backend.state === 'no_listener') return backend.state;
  if (seen !== null) return seen.operational;
  return backend.is_warming_up ? 'warming' : 'unknown';
}

/** @param {Backend} backend */
export function isDraining(backend) {
  return backend.override?.drain === true;
}

/**
 * Whether a backend in this state takes nothing new although it should.
 * @param {Operational} operational
 */
export function isBroken(operational) {
  return operational === 'down' || operational === 'ejected' || operational === 'expired' || operational === 'no_pool';
}

/**
 * Whether a backend in this state takes nothing new, by a fault or by the settings.
 * @param {Operational} operational
 */
export function isUnused(operational) {
  return isBroken(operational) || operational === 'no_listener';
}

/**
 * Whether new sessions may go to a backend in this state.
 * @param {State} state
 * @param {number} weight
 */
export function takesTraffic({ admin, operational }, weight) {
  return admin === 'ready' && weight > 0 && !isUnused(operational);
}

/** @param {State} state */
export function stateText({ admin, operational }) {
  const operationalWord = words().operational[operational];
  // Control disables what has expired; no operator has.
  return admin === 'ready' || operational === 'expired' ? operationalWord : `${words().admin[admin]} · ${operationalWord}`;
}

/**
 * How much a row wants to be looked at: broken ones first.
 * @param {State} state
 */
export function stateRank({ admin, operational }) {
  /** @type {Record<Operational, number>} */
  const ranks = { down: 0, expired: 1, no_pool: 1, ejected: 2, no_listener: 3, checking: 3, unknown: 3, warming: 3, up: 3 };
  return admin === 'ready' ? ranks[operational] : ranks[operational] + 4;
}

/** @typedef {Operational | 'drain' | 'disabled'} Shape */

/** Those that want to be looked at first. @type {readonly Shape[]} */
export const SHAPES = ['down', 'expired', 'no_pool', 'ejected', 'no_listener', 'checking', 'unknown', 'warming', 'up', 'drain', 'disabled'];

/**
 * The name of the shape and of the colour: a shape for each state, so colour is never alone.
 * @param {State} state
 * @returns {Shape}
 */
export function shapeOf({ admin, operational }) {
  if (isBroken(operational)) return operational;
  return admin === 'ready' ? operational : admin;
}

/** @param {Shape} shape */
export function shapeWord(shape) {
  return shape === 'drain' || shape === 'disabled' ? words().admin[shape] : words().operational[shape];
}

/**
 * @param {Shape} shape
 * @returns {SVGSVGElement}
 */
export function shapeIcon(shape) {
  const icon = svg('svg', {
    class: `shape shape-${shape}`,
    viewBox: '0 0 12 12',
    'aria-hidden': 'true',
  });
  icon.append(...DRAWN[shape]());
  return icon;
}

/** @type {Record<Shape, () => SVGElement[]>} */
const DRAWN = {
  up: () => [svg('circle', { cx: 6, cy: 6, r: 4.5, fill: 'currentColor' })],
  checking: () => [ring()],
  unknown: () => [ring({ 'stroke-dasharray': '1.8 1.75' })],
  warming: () => [ring(), svg('path', { d: 'M6 1.8a4.2 4.2 0 0 1 0 8.4z', fill: 'currentColor' })],
  drain: () => [svg('path', { d: 'M1.2 2.5h9.6L6 10.5z', fill: 'currentColor' })],
  disabled: () => [stroke('M2 6h8')],
  down: () => [stroke('M2.5 2.5l7 7m0-7l-7 7')],
  ejected: () => [ring(), stroke('M3.1 8.9l5.8-5.8', 1.5)],
  expired: () => [ring(), stroke('M6 3.6V6l1.8 1.2', 1.2)],
  no_pool: () => [ring({ 'stroke-dasharray': '1.8 1.75' }), stroke('M6 3.4v3.2m0 2v.1', 1.4)],
  no_listener: () => [ring({ 'stroke-dasharray': '1.8 1.75' }), stroke('M3.8 6h4.4', 1.4)],
};

/** @param {import('./dom.js').Attributes} [more] */
function ring(more = {}) {
  const base = { cx: 6, cy: 6, r: 4.5, fill: 'none', stroke: 'currentColor', 'stroke-width': 1.5 };
  return svg('circle', { ...base, ...more });
}

/**
 * @param {string} d
 * @param {number} [width]
 */
function stroke(d, width = 2) {
  const line = { fill: 'none', stroke: 'currentColor', 'stroke-linecap': 'round' };
  return svg('path', { ...line, d, 'stroke-width': width });
}
