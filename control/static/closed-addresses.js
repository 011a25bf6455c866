/**
 * @file Which addresses a change of settings closes to new clients, and how many came there lately. Pure.
 */

import { valueAt } from './settings-fields.js';

/** @typedef {{host: string, port: number, tcp: boolean, udp: boolean}} Listen */
/** @typedef {import('./shapes.js').WholeAnswer['status']} Status */

const PROTOCOLS = /** @type {const} */ (['tcp', 'udp']);

/**
 * @param {Listen} now
 * @param {Listen} then
 * @returns {('tcp' | 'udp')[]} what is no longer served where it is served now
 */
export function closedBy(now, then) {
  const isMoved = now.port !== then.port || !covers(then.host, now.host);
  return PROTOCOLS.filter((protocol) => now[protocol] && (isMoved || !then[protocol]));
}

/**
 * Where a change leads.
 * @param {import('./api.js').SettingsAnswer} settings
 * @param {Record<string, unknown>} patch
 * @returns {{now: Listen, then: Listen}}
 */
export function listenOf(settings, patch) {
  const read = (/** @type {(pointer: string) => unknown} */ value) =>
    /** @type {Listen} */ (Object.fromEntries(['host', 'port', ...PROTOCOLS].map((key) => [key, value(`/listen/${key}`)])));
  const { in_force: inForce, by_file: byFile, defaults } = settings;
  const listen = /** @type {Record<string, unknown>} */ (patch.listen ?? {});
  return {
    now: read((pointer) => valueAt(inForce, pointer)),
    then: read((pointer) => {
      const value = listen[pointer.slice('/listen/'.length)];
      return value === undefined ? valueAt(inForce, pointer) : (value ?? valueAt(byFile, pointer) ?? valueAt(defaults, pointer));
    }),
  };
}

/** Whether who connects to one address of a host meets the other. @param {string} host @param {string} old */
function covers(host, old) {
  return host === old || host === '::' || (host === '0.0.0.0' && !old.includes(':'));
}

/**
 * How many clients began lately there, and how many are there.
 * @param {Status | null} status
 * @param {('tcp' | 'udp')[]} closed
 * @returns {{began: number, seconds: number, open: number} | null} null where the proxy does not say
 */
export function clientsOf(status, closed) {
  const traffic = status?.verdict?.traffic;
  const proxy = status?.proxy ?? null;
  if (traffic === undefined || proxy === null) return null;
  const sum = (/** @type {number} */ tcp, /** @type {number} */ udp) => (closed.includes('tcp') ? tcp : 0) + (closed.includes('udp') ? udp : 0);
  return {
    began: sum(traffic.new_sessions, traffic.flows),
    seconds: traffic.window_s,
    open: sum(proxy.totals.sessions_active, proxy.totals.flows_active),
  };
}
