/**
 * @file How many sessions each backend gets a second, from the proxy's own counters, which only grow:
 * the mean of the last seconds, as far as this page has seen them.
 */

import { areFiguresSlow } from './feed.js';

/** @typedef {import('./shapes.js').SeenBackend} SeenBackend */
/** @typedef {{at: number, pid: number, sessions: Map<string, number>}} Look */

/** A mean over this long: one second alone jumps. */
const RATE_SPAN_MS = 5_000;
/** Where the counters of a backend come every five seconds: two of them. */
const SLOW_SPAN_MS = 10_000;

/** The oldest first. @type {Look[]} */
let looks = [];

/** @param {import('./shapes.js').WholeAnswer} whole */
export function recordTraffic({ backends, status }) {
  const at = status.at_ms;
  const pid = status.proxy?.pid ?? null;
  // A restarted proxy counts anew.
  if (pid === null || looks.at(-1)?.pid !== pid) looks = [];
  if (pid === null || (looks.at(-1)?.at ?? -Infinity) >= at) return;
  const sessions = new Map();
  for (const { id, proxy } of backends) if (proxy !== null) sessions.set(id, startedOf(proxy));
  const span = areFiguresSlow(backends.length) ? SLOW_SPAN_MS : RATE_SPAN_MS;
  looks = looks.filter((look) => look.at >= at - span);
  looks.push({ at, pid, sessions });
}

/** @param {string} id @returns {number | null} null where two looks are not there */
export function rateOf(id) {
  const last = looks.at(-1);
  const first = looks.find(({ sessions }) => sessions.has(id));
  if (last === undefined || first === undefined || last === first) return null;
  const now = last.sessions.get(id);
  const before = first.sessions.get(id);
  // One that was removed and came back counts anew.
  if (now === undefined || before === undefined || now < before) return null;
  return (now - before) / ((last.at - first.at) / 1000);
}

/** When the proxy's word was last heard, in unix milliseconds. */
export function lookedAt() {
  return looks.at(-1)?.at ?? null;
}

/** @param {SeenBackend} seen sessions and flows that it was given */
function startedOf({ sessions_total: sessions, flows_total: flows }) {
  return sessions + flows;
}
