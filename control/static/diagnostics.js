/**
 * @file The page of diagnostics: facts of the proxy and of the control plane, each as they say it
 * themselves. The pings beside them are ping.js's.
 */

import { serverNow } from './api.js';
import { reloadOutcome } from './changes.js';
import { byId, element } from './dom.js';
import { UNKNOWN, countText, dateTimeText, isNumber, spanText } from './format.js';
import { words } from './i18n.js';
import { endText } from './verdict.js';

/** @typedef {import('./shapes.js').WholeAnswer} WholeAnswer */
/** @typedef {import('./shapes.js').ProxyStatus} ProxyStatus */
/** @typedef {[string, string | null | undefined]} Fact its name and what is said; null leaves it out */

/** What the page does by itself. */
export const page = { update };

/** What is on the page, so that it is written only where it differs. @type {Record<string, string>} */
const shown = {};

/** @param {WholeAnswer} whole */
function update({ status }) {
  const proxy = status.proxy;
  byId('facts-none', HTMLElement).hidden = proxy !== null;
  write('facts-proxy', proxy === null ? [] : proxyFacts(proxy));
  write('facts-health', proxy === null ? [] : healthFacts(proxy));
  write('facts-ends', proxy === null ? [] : endFacts(proxy));
  write('facts-control', controlFacts(status));
}

/** @param {ProxyStatus} proxy @returns {Fact[]} */
function proxyFacts(proxy) {
  const { fact } = words();
  const reload = proxy.last_reload;
  const limits = proxy.limits;
  return [
    [fact.version, proxy.version],
    [fact.pid, String(proxy.pid)],
    [fact.started, agoText(proxy.started_at_ms)],
    [fact.listeners, proxy.listeners.map(listenerText).join('\n')],
    [fact.algorithm, proxy.algorithm],
    [fact.generation, `${proxy.generation}, ${agoText(proxy.loaded_at_ms)}`],
    [fact.lastReload, reload && (reload.ok ? agoText(reload.at_ms) : words().reloadRefused(agoText(reload.at_ms), reload.reason ?? ''))],
    [fact.reloads, words().reloadCounts(countText(proxy.reloads_ok), countText(proxy.reloads_refused))],
    [fact.workers, proxy.workers?.map((worker, at) => words().worker(at + 1, countText(worker.sessions_active), countText(worker.sessions_total), countText(worker.flows_active))).join('\n')],
    [fact.limits, limits && words().limits(countText(limits.max_sessions), countText(limits.max_flows))],
    [fact.pauses, limits && countText(limits.accept_pauses)],
    [fact.linesLost, limits && countText(limits.log_lines_dropped)],
    [fact.draining, proxy.draining ? words().yes : words().no],
  ];
}

/** A row for each reason, since the proxy started, the most frequent first. @param {ProxyStatus} proxy @returns {Fact[]} */
function endFacts({ totals }) {
  const { fact } = words();
  const rows = (/** @type {string} */ what, /** @type {'session' | 'flow' | 'drop'} */ kind, /** @type {Record<string, number>} */ counts = {}) =>
    Object.entries(counts)
      .sort(([, left], [, right]) => right - left)
      .map(([reason, count]) => /** @type {Fact} */ ([words().ofReason(what, endText(reason, kind)), countText(count)]));
  return [
    [fact.connectRetries, countText(totals.connect_retries)],
    ...rows(fact.sessionsEnded, 'session', totals.sessions_ended),
    ...rows(fact.flowsEnded, 'flow', totals.flows_ended),
    ...rows(fact.datagramsDropped, 'drop', totals.datagrams_dropped),
  ];
}

/** @param {ProxyStatus} proxy @returns {Fact[]} */
function healthFacts({ health }) {
  const { fact } = words();
  if (health === undefined) return [];
  const of = (/** @type {import('./shapes.js').ProtocolHealth} */ { ready, available, all_down_in_force: rule }) =>
    words().available(available, ready) + (rule ? `, ${words().allDown[rule]}` : '');
  return [
    [fact.probe, health.probe],
    ['TCP', of(health.tcp)],
    ['UDP', of(health.udp)],
    [fact.allDown, health.all_down],
    [fact.spared, countText(health.ejections_spared)],
  ];
}

/** @param {WholeAnswer['status']} status @returns {Fact[]} */
function controlFacts(status) {
  const { fact } = words();
  const publish = status.last_publish;
  const ttl = status.ttl_ms;
  return [
    [fact.address, location.origin],
    [fact.clock, dateTimeText(serverNow())],
    [fact.published, `${status.published_generation}${isNumber(status.updated_at) ? `, ${agoText(status.updated_at * 1000)}` : ''}`],
    [fact.lastPublish, publish && `${agoText(publish.at_ms)}: ${reloadOutcome(publish).text}`],
    [fact.signal, publish?.info],
    [fact.discovery, isNumber(status.k8s_updated_at) ? agoText(status.k8s_updated_at * 1000) : UNKNOWN],
    [fact.registrations, isNumber(status.runtime_updated_at) ? agoText(status.runtime_updated_at * 1000) : UNKNOWN],
    [fact.ttl, isNumber(ttl) ? spanText(ttl / 1000) : null],
    [fact.access, status.protected ? words().protectedMode : words().tokenMode],
    [fact.revision, status.etag],
    [fact.auditLines, countText(status.audit_seq)],
  ];
}

/** @param {{addr: string, tcp: boolean, udp: boolean}} listener */
function listenerText({ addr, tcp, udp }) {
  return `${addr} ${[tcp && 'TCP', udp && 'UDP'].filter(Boolean).join(' + ')}`;
}

/** @param {number} at unix milliseconds */
function agoText(at) {
  return words().ago(spanText((serverNow() - at) / 1000));
}

/**
 * @param {string} id of a list of facts
 * @param {Fact[]} facts
 */
function write(id, facts) {
  const told = facts.filter(([, value]) => value !== null && value !== undefined);
  const text = JSON.stringify(told);
  if (shown[id] === text) return;
  shown[id] = text;
  byId(id, HTMLElement).replaceChildren(
    ...told.flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]),
  );
}
