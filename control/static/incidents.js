/**
 * @file What the proxy refuses, said from its codes in the language of the page: what is refused and
 * why, what still works, and what to do. Pure.
 */

import { words } from './i18n.js';

/** @typedef {import('./shapes.js').ProxyRefusal} ProxyRefusal */

/** Reasons of which the proxy's own text says more than the code. */
const TOLD_IN_FULL = ['unreadable', 'invalid', 'cannot_bind', 'other'];

/**
 * @param {ProxyRefusal} refusal
 * @param {string[]} listening the addresses that sessions are accepted on
 */
export function refusalText(refusal, listening) {
  const reason = refusalReason(refusal);
  if (refusal.place === '/backends') return reason;
  return words().refusal.sentences([reason, keptText(refusal.place, listening), nextText(refusal)]);
}

/**
 * What is refused, and why.
 * @param {ProxyRefusal} refusal
 */
export function refusalReason({ code, place, value, detail }) {
  const told = words().refusal;
  const reasons = /** @type {Record<string, string>} */ (told.reason);
  const reason = reasons[code] ?? reasons.other ?? '';
  const isInFull = TOLD_IN_FULL.includes(code) && detail !== '';
  const why = isInFull ? told.inFull(reason, detail) : reason;
  return place === '/backends' ? told.backend(value, why) : told.refused(whatText(place, value), why);
}

/** @param {string} place @param {string} value */
function whatText(place, value) {
  if (place === '/listen') return words().refusal.listen(value);
  return place === '' ? words().refusal.file : words().refusal.setting(place.slice(1), value);
}

/** @param {string} place @param {string[]} listening */
function keptText(place, listening) {
  if (place !== '/listen') return words().refusal.kept;
  return listening.length === 0 ? words().refusal.noListener : words().refusal.stillOn(listening.join(', '));
}

/** @param {ProxyRefusal} refusal */
function nextText({ try_again_s: seconds }) {
  return seconds === null ? words().refusal.restart : words().refusal.tryingAgain(seconds);
}

/**
 * What is shown on every page: incidents by their codes, then all else that the server warns of.
 * @param {import('./shapes.js').WholeAnswer['status']} status
 * @returns {string[]}
 */
export function warningTexts({ warnings = [], refusals = [], other_file: otherFile = null, proxy, verdict }) {
  const listening = (proxy?.listeners ?? []).map(({ addr }) => addr);
  const texts = refusals.map((refusal) => refusalText(refusal, listening));
  if (otherFile !== null) texts.push(words().otherFileWarning(otherFile.proxy, otherFile.control));
  // The server says the same in its own words, for those who read no codes.
  const said = [...refusals, ...(otherFile === null ? [] : [otherFile])].map(({ message }) => message);
  const findings = verdict ? [verdict, ...verdict.others].map(({ text }) => text) : [];
  const isSaid = (/** @type {string} */ warning) => said.some((message) => warning.endsWith(message));
  const rest = warnings.filter((warning) => !isSaid(warning) && !findings.includes(warning));
  return [...texts, ...rest.map(words().warning)];
}
