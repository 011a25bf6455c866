/**
 * @file The server's verdict in the words of the page: in the top bar, in the page's title and icon, and
 * on the overview. Whether traffic flows is decided by the server alone; here it is only said.
 */

import { serverNow } from './api.js';
import * as format from './format.js';
import { words } from './i18n.js';
import { refusalReason } from './incidents.js';

/** @typedef {import('./shapes.js').Finding} Finding */
/** @typedef {import('./shapes.js').Verdict} Verdict */
/** `unknown`: what was known last. @typedef {{level: 'good' | 'warn' | 'bad' | 'unknown', text: string, detail: string}} Answer */

/** What does not reach the proxy is as bad for whoever has asked for it as an outage. */
const BAD_CODES = ['refused', 'other_file', 'not_published'];

/** What is said of a count of backends, the gravest first. */
const COUNTS = ['down', 'ejected', 'expired', 'left_out', 'no_pool', 'no_listener', 'disabled', 'drained', 'weight_0', 'warming', 'unknown'];

/** Findings by the card that they stand on. */
export const PROXY_CODES = ['not_looked', 'proxy_not_running', 'proxy_stuck', 'proxy_without_status', 'proxy_unseen', 'proxy_draining', 'not_listening'];
export const CONFIG_CODES = ['refused', 'other_file', 'not_published', 'not_applied', 'listener_not_applied'];
export const TRAFFIC_CODES = ['no_backend_known', 'no_backend_usable', 'sessions_failing', 'flows_failing', 'fail_open', 'udp_alone', 'backends_out', 'no_pool', 'no_listener', 'serving'];

/** What every page says in full: nothing flows, nobody knows, or all that is left are backends that are down. */
const SAID_EVERYWHERE = ['fail_open'];

/**
 * @param {Verdict | null | undefined} verdict
 * @returns {Finding[]} the worst first
 */
export function findingsOf(verdict) {
  return verdict ? [verdict, ...verdict.others] : [];
}

/**
 * @param {Verdict | null | undefined} verdict
 * @param {string[]} codes
 */
export function firstOf(verdict, codes) {
  return findingsOf(verdict).find(({ code }) => codes.includes(code));
}

/** @param {Finding} finding @returns {Answer} */
export function answerOf(finding) {
  const [text, detail] = said(finding);
  return { level: levelOf(finding), text, detail };
}

/** @param {Finding} finding */
function levelOf({ level, code }) {
  if (level === 'down' || BAD_CODES.includes(code)) return 'bad';
  return level === 'ok' ? 'good' : 'warn';
}

/**
 * Sentences that stand on every page while they are true.
 * @param {Verdict | null | undefined} verdict
 */
export function outageTexts(verdict) {
  return findingsOf(verdict).filter(isOutage).map(sentenceOf);
}

/** @param {Finding} finding */
function isOutage({ level, code }) {
  return code !== 'not_looked' && (level === 'down' || level === 'unknown' || SAID_EVERYWHERE.includes(code));
}

/** Whether every page says it in full, below the top bar. @param {Finding} finding */
export function isSaidInFull(finding) {
  return isOutage(finding) || CONFIG_CODES.includes(finding.code);
}

/** @param {Finding} finding */
export function sentenceOf(finding) {
  return words().finding.sentences(said(finding));
}

/** How many are out for what, the gravest first. @param {Record<string, number>} backends */
export function countsText(backends) {
  const told = COUNTS.filter((name) => (backends[name] ?? 0) > 0);
  return told.map((name) => `${format.countText(backends[name])} ${words().finding.count[name]}`).join(' · ');
}

/**
 * What is the matter, and the rest of the sentence.
 * @param {Finding} finding
 * @returns {[string, string]}
 */
function said({ code, args, since, text }) {
  const { finding } = words();
  const counts = () => countsText(args.backends ?? {});
  const rate = args.refused_per_s > 0 ? finding.refusedRate(format.rateText(args.refused_per_s)) : '';
  const moment = since === null ? '' : finding.since(format.momentText(since));
  switch (code) {
    case 'not_looked':
      return [finding.notLooked, ''];
    case 'proxy_not_running':
      return [finding.proxyNotRunning(moment), finding.proxyGone(args.pid)];
    case 'proxy_stuck':
      return [finding.proxyStuck(since === null ? '' : format.spanText((serverNow() - since) / 1000)), finding.stuckProcess(args.pid)];
    case 'proxy_without_status':
      return [finding.proxyWithoutStatus, finding.withoutStatus(args.pid)];
    case 'proxy_unseen':
      return [finding.proxyUnseen, words().said(args.why)];
    case 'proxy_draining':
      return [finding.proxyDraining, finding.draining(args.sessions)];
    case 'not_listening':
      return [finding.notListening(args.protocol), finding.cannotListen((args.values ?? []).join(', '), refusalWord(args.refusal))];
    case 'no_backend_known':
      return [finding.noBackendKnown, rate];
    case 'no_backend_usable':
      return [finding.noBackendUsable(args.protocol), finding.parts([rate, counts()])];
    case 'fail_open':
      return [finding.failOpen(args.protocol), counts()];
    case 'udp_alone':
      return [finding.udpAlone, finding.sentences([args.failed > 0 ? finding.udpAloneFailed(args.failed, args.window_s) : '', finding.udpAloneAdvice])];
    case 'sessions_failing':
    case 'flows_failing': {
      const share = format.shareText(args.share);
      const reason = endText(args.reason, code === 'sessions_failing' ? 'session' : 'flow');
      return [finding.failing(share, code === 'flows_failing'), finding.failingWhy(format.rateText(args.per_s), reason, args.failed, args.of, args.window_s)];
    }
    case 'refused':
      return [finding.refused(args.generation), finding.sentences([refusalReason(refusalOf(args)), finding.follows(args.running)])];
    case 'other_file':
      return [words().otherFile, words().otherFileWarning(args.proxy, args.control)];
    case 'not_published':
      return [finding.notPublished, words().said(args.why)];
    case 'not_applied':
      return [words().notAppliedYet(args.published), finding.follows(args.running)];
    case 'backends_out':
      return [finding.backendsOut(outOf(args.backends), wantedOf(args.backends)), counts()];
    case 'listener_not_applied':
      return [finding.listenerNotApplied(args.listener), finding.sentences([words().said(args.why), finding.listenerKeeps(args.kept), finding.moreListeners(args.listeners - 1)])];
    case 'no_pool':
      return [finding.noPool, finding.notPublishedThere(args.backends.total)];
    case 'no_listener':
      return [finding.noListener, finding.noTrafficThere(args.backends.total)];
    case 'serving':
      return [finding.serving, finding.usable(args.backends.usable, args.backends.total)];
    default:
      // Of a newer server.
      return [text, ''];
  }
}

/** @param {Record<string, any>} args @returns {import('./shapes.js').ProxyRefusal} */
function refusalOf({ refusal: code, place, value, detail }) {
  return { code, place, value, detail, since: 0, kept: null, try_again_s: null, message: '' };
}

/** @param {string | null} code */
function refusalWord(code) {
  const reasons = /** @type {Record<string, string>} */ (words().refusal.reason);
  return code === null ? '' : (reasons[code] ?? reasons.other ?? '');
}

/**
 * Why a session or a flow ended, or a datagram was dropped.
 * @param {string} reason
 * @param {'session' | 'flow' | 'drop'} kind
 */
export function endText(reason, kind) {
  const ends = /** @type {Record<string, string>} */ (words().ends[kind]);
  return (Object.hasOwn(ends, reason) && ends[reason]) || reason;
}

/** @param {Record<string, number>} backends */
function outOf({ expired = 0, down = 0, ejected = 0, left_out: leftOut = 0 }) {
  return expired + down + ejected + leftOut;
}

/** @param {Record<string, number>} backends */
function wantedOf({ total = 0, disabled = 0, drained = 0, weight_0: weightless = 0, no_pool: noPool = 0, no_listener: noListener = 0 }) {
  return total - disabled - drained - weightless - noPool - noListener;
}

/** The icon of the page by level: a tab that nobody looks at shows an outage too. */
const DOTS = { good: '', warn: '#e0a030', bad: '#e5484d', unknown: '#8a99ab' };
const ICON =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#4da3ff" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><path d="M4 20V9m5.3 11V5m5.4 15V5M20 20V9M2 9l10-6 10 6"/>';

/** @param {Answer['level']} level */
export function showIcon(level) {
  const link = document.querySelector('link[rel="icon"]');
  if (!(link instanceof HTMLLinkElement) || link.dataset.level === level) return;
  link.dataset.level = level;
  const shape = level === 'bad' ? '<path d="M13 13l9 9m0-9l-9 9" stroke-width="4"' : '<circle cx="17" cy="17" r="5" stroke="none"';
  const dot = DOTS[level];
  const mark = dot === '' ? '' : `${shape} ${level === 'bad' ? 'stroke' : 'fill'}="${dot}"/>`;
  link.href = level === 'good' ? '/static/icon.svg' : `data:image/svg+xml,${encodeURIComponent(`${ICON}${mark}</svg>`)}`;
}
