/**
 * @file Where the numbers of a backend come from and how old they are, and why its state and its
 * weight are what they are: what a hover says, and the side panel.
 */

import { serverNow } from './api.js';
import { ageText, dateTimeText, isNumber, latencyText, spanText } from './format.js';
import { words } from './i18n.js';
import { protocolText } from './protocols.js';
import { isBroken, stateText } from './state.js';
import { lookedAt } from './traffic.js';
import { endText } from './verdict.js';

/** @typedef {import('./rows.js').Row} Row */

/**
 * A figure that the backend itself, or discovery, has reported.
 * @param {Row} row
 * @param {string} what
 */
export function reportedText({ backend }, what) {
  const at = backend.reported_at_ms;
  if (!isNumber(at)) return what;
  const isOwn = backend.sources?.includes('runtime') ?? backend.source === 'runtime';
  const who = isOwn ? words().byItself : words().byDiscovery;
  return words().reported(what, ageText(serverNow() - at), who);
}

/** A figure that the proxy has counted. @param {string} what */
export function countedText(what) {
  const at = lookedAt();
  return at === null ? words().noProxyWord : words().counted(what, ageText(serverNow() - at));
}

/** @param {Row} row */
export function stateReason(row) {
  const { state } = row;
  const why = state.reason === '' ? stateText(state) : `${stateText(state)}: ${state.reason}`;
  return [why, protocolText(row)].filter((part) => part !== '').join(' · ');
}

/** @param {Row} row */
export function sessionsText({ seen }) {
  if (seen === null) return words().noProxyWord;
  return countedText(words().sessionsOf(seen.sessions_active, seen.flows_active, seen.sessions_total));
}

/** @param {Row} row */
export function errorsText({ seen }) {
  if (seen === null) return words().noProxyWord;
  const failed = Object.entries(seen.sessions_failed ?? {}).map(([reason, count]) => `${endText(reason, 'session')} ${count}`);
  const unanswered = seen.flows_failed?.unanswered ?? 0;
  const flows = unanswered > 0 ? [`${words().ofReason(words().flows, endText('unanswered', 'flow'))} ${unanswered}`] : [];
  return countedText([words().errorsOf(seen.connect_failures, seen.connect_timeouts), ...failed, ...flows].join(' · '));
}

/** @param {Row} row */
export function latencyTip({ seen }) {
  const connect = latencyText(seen?.connect_latency_us);
  return countedText(words().latencyOf(latencyText(seen?.first_byte_latency_us), connect));
}

/**
 * When the backend was last heard, and when that runs out.
 * @param {Row} row
 */
export function heartbeatText({ backend }) {
  const { last_seen: seenAt, expires_at_ms: expires, sources } = backend;
  if (!isNumber(seenAt) || seenAt <= 0) return sources?.includes('static') ? words().neverListed : words().never;
  const at = words().heardAt(dateTimeText(seenAt * 1000));
  // What is over does not end once more.
  return isNumber(expires) && backend.state !== 'expired' ? `${at}, ${words().expiresIn(timeLeft(expires))}` : at;
}

/** @param {number} at unix milliseconds */
export function timeLeft(at) {
  return spanText((at - serverNow()) / 1000);
}

/**
 * Why new sessions are given by another weight than the configured one.
 * @param {Row} row
 */
export function weightReason({ backend, seen, state }) {
  if (seen === null) return words().noProxyWord;
  const why = words().weightWhy;
  if (state.admin === 'disabled') return why.disabled;
  if (state.admin === 'drain') return why.drain;
  if (isBroken(state.operational)) return why.out(state.reason);
  if (seen.weight_effective === backend.weight) return why.same;
  if (state.operational === 'warming') return why.warming;
  return why.algorithm;
}
