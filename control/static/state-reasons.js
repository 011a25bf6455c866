/**
 * @file Why a backend is in its state, in words, by the codes that the proxy and control give.
 */

import { words } from './i18n.js';

/** @typedef {{code: string, args?: Record<string, any>}} StateReason */

/**
 * @param {{reason: string, reasons?: StateReason[]}} said
 * @returns {string} what an older proxy says, in English, where there are no codes, or one is not known here
 */
export function reasonsText({ reason, reasons = [] }) {
  const told = words().stateReason;
  const texts = reasons.flatMap(({ code, args = {} }) => (Object.hasOwn(told, code) ? (told[code]?.(args) ?? []) : []));
  return reasons.length === 0 || texts.length < reasons.length ? reason : words().reasonsJoined(texts);
}

/** How the last probe ended. @param {import('./shapes.js').SeenBackend | null} seen */
export function probeText(seen) {
  const { probe_failure: failure, probe_result: result } = seen ?? {};
  if (failure) return words().probeFailed(failure);
  return result === 'passed' ? words().probePassed : (result ?? '');
}
