/**
 * @file What one wants to know first, each apart from the others: is the proxy up, does it run what
 * was asked for, does traffic flow. What is wrong is the server's verdict; here is what is said where
 * nothing is. Pure.
 */

import { reloadOutcome } from './changes.js';
import * as format from './format.js';
import { words } from './i18n.js';
import { CONFIG_CODES, PROXY_CODES, TRAFFIC_CODES, answerOf, countsText, findingsOf, firstOf, isSaidInFull } from './verdict.js';

/** @typedef {import('./shapes.js').ProxyAnswer} ProxyAnswer */
/** @typedef {import('./shapes.js').Verdict} Verdict */
/** @typedef {import('./verdict.js').Answer} Answer */

/**
 * @param {ProxyAnswer | null} proxy null before the first answer
 * @param {Verdict | undefined} verdict
 * @param {number} now by the server's clock, unix milliseconds
 * @returns {Answer}
 */
export function proxyAnswer(proxy, verdict, now) {
  const found = firstOf(verdict, PROXY_CODES);
  if (found !== undefined) return answerOf(found);
  const status = proxy?.status ?? null;
  if (status === null) return unknown();
  const detail = words().proxyProcess(status.pid, format.spanText((now - status.started_at_ms) / 1000));
  return { level: 'good', text: words().proxyRunning, detail };
}

/**
 * @param {ProxyAnswer | null} proxy
 * @param {Verdict | undefined} verdict
 * @param {number} now
 * @returns {Answer}
 */
export function configAnswer(proxy, verdict, now) {
  const found = firstOf(verdict, CONFIG_CODES);
  if (found !== undefined) return answerOf(found);
  if (proxy === null) return unknown();
  const { status, last_publish: publish, published_generation: published } = proxy;
  // Nobody says that it runs.
  if (status === null) return { level: 'warn', text: words().generationPublished(published), detail: '' };
  const runs = runsText(status, now);
  if (published > status.generation) return { level: 'warn', text: words().notAppliedYet(published), detail: runs };
  if (proxy.verified === false) return { level: 'good', text: runs, detail: words().unverified };
  const changed = publish && words().lastChange(format.spanText((now - publish.at_ms) / 1000), reloadOutcome(publish).text);
  return { level: 'good', text: runs, detail: changed ?? '' };
}

/**
 * @param {Verdict | undefined} verdict
 * @returns {Answer}
 */
export function healthAnswer(verdict) {
  const found = findingsOf(verdict).filter(({ code }) => TRAFFIC_CODES.includes(code));
  const [first, ...others] = found.map(answerOf);
  const pool = verdict?.pools.default;
  if (first === undefined) {
    // The pool may serve while something else is wrong.
    const isServing = pool?.code === 'serving';
    return isServing ? withCounts(pool) : { level: 'warn', text: words().healthUnknown, detail: '' };
  }
  if (found[0]?.code === 'serving') return withCounts(found[0]);
  return { ...first, detail: [first.detail, ...others.map(({ text }) => text)].filter((text) => text !== '').join(' · ') };
}

/** @param {import('./shapes.js').Finding} serving */
function withCounts(serving) {
  const { level, detail: text } = answerOf(serving);
  return { level, text, detail: countsText(serving.args.backends) };
}

/**
 * The verdict in one line, and beside it what runs where all is well. What stands in full below the top
 * bar is not said twice.
 * @param {ProxyAnswer | null} proxy
 * @param {Verdict | undefined} verdict
 * @param {number} now
 * @returns {Answer}
 */
export function wholeAnswer(proxy, verdict, now) {
  if (proxy === null || verdict === undefined) return unknown();
  const answer = answerOf(verdict);
  const status = proxy.status;
  if (answer.level === 'good' && status !== null) return { ...answer, detail: runsText(status, now) };
  return isSaidInFull(verdict) ? { ...answer, detail: '' } : answer;
}

/** @param {import('./shapes.js').ProxyStatus} status @param {number} now */
function runsText(status, now) {
  const span = format.spanText((now - status.loaded_at_ms) / 1000);
  return `${words().generation(status.generation)} ${words().appliedAgo(span)}`;
}

/** @returns {Answer} */
function unknown() {
  return { level: 'warn', text: words().proxyUnknown, detail: '' };
}
