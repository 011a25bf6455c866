/**
 * @file What one wants to know first, each apart from the others: is the proxy up, does it run what
 * was asked for, is anyone unhealthy. That all is applied says nothing of health, and the other way
 * round. Pure.
 */

import { reloadOutcome } from './changes.js';
import * as format from './format.js';
import { words } from './i18n.js';
import { isBroken } from './state.js';

/** @typedef {import('./api.js').ProxyAnswer} ProxyAnswer */
/** @typedef {import('./rows.js').Row} Row */
/** @typedef {{level: 'good' | 'warn' | 'bad', text: string, detail: string}} Answer */

/**
 * @param {ProxyAnswer | null} proxy null before the first answer
 * @param {number} now by the server's clock, unix milliseconds
 * @returns {Answer}
 */
export function proxyAnswer(proxy, now) {
  if (proxy === null) return { level: 'warn', text: words().proxyUnknown, detail: '' };
  const { status, why, last_publish: publish } = proxy;
  if (status !== null) {
    const detail = words().proxyProcess(status.pid, format.spanText((now - status.started_at_ms) / 1000));
    if (status.draining) return { level: 'warn', text: words().proxyDraining, detail };
    return { level: 'good', text: words().proxyRunning, detail };
  }
  // A proxy without an admin socket is known only by the signals that it takes.
  if (publish?.signalled === true) return { level: 'warn', text: words().proxySilent, detail: publish.info };
  return { level: 'bad', text: words().proxyStopped, detail: publish?.info ?? why ?? '' };
}

/**
 * @param {ProxyAnswer | null} proxy
 * @param {number} now
 * @returns {Answer}
 */
export function configAnswer(proxy, now) {
  if (proxy === null) return { level: 'warn', text: words().proxyUnknown, detail: '' };
  const { status, last_publish: publish, published_generation: published } = proxy;
  if (status === null) {
    const outcome = publish === null ? words().nothingPublished : reloadOutcome(publish).text;
    return { level: 'warn', text: words().generationPublished(published), detail: outcome };
  }
  if (proxy.other_file) {
    const { proxy: theirs, control } = proxy.other_file;
    return { level: 'bad', text: words().otherFile, detail: words().otherFileWarning(theirs, control) };
  }
  const span = format.spanText((now - status.loaded_at_ms) / 1000);
  const runs = `${words().generation(status.generation)} ${words().appliedAgo(span)}`;
  const reload = status.last_reload;
  if (reload && !reload.ok) {
    const refused = words().refusedGeneration(String(reload.generation ?? '?'));
    return { level: 'bad', text: refused, detail: words().stillFollows(reload.reason ?? '', runs) };
  }
  if (published > status.generation) {
    return { level: 'warn', text: words().notAppliedYet(published), detail: runs };
  }
  if ((proxy.refusals ?? []).length > 0) {
    return { level: 'warn', text: words().refusedParts(proxy.refusals?.length ?? 0), detail: runs };
  }
  if (proxy.verified === false) return { level: 'good', text: runs, detail: words().unverified };
  const changed = publish && words().lastChange(format.spanText((now - publish.at_ms) / 1000), reloadOutcome(publish).text);
  return { level: 'good', text: runs, detail: changed ?? '' };
}

/**
 * @param {Row[]} rows
 * @param {import('./api.js').ProxyStatus | null} status
 * @returns {Answer}
 */
export function healthAnswer(rows, status) {
  if (rows.length === 0) return { level: 'warn', text: words().noBackends, detail: '' };
  const admin = rows.filter(({ state }) => state.admin !== 'ready');
  const counts = [
    ...countsOf(rows.map(({ state }) => state.operational).filter((word) => word !== 'up'), words().operational),
    ...countsOf(admin.map(({ state }) => state.admin), words().admin),
  ];
  const detail = counts.join(' · ');
  const down = /** @type {const} */ (['tcp', 'udp']).filter((protocol) => status?.health?.[protocol].all_down_in_force);
  const rule = down.map((protocol) => status?.health?.[protocol].all_down_in_force)[0];
  if (rule) {
    const of = down.length === 1 ? `${down[0]?.toUpperCase()} · ` : '';
    return { level: 'bad', text: of + words().allDown[rule], detail };
  }
  const broken = rows.filter(({ state }) => isBroken(state.operational)).length;
  if (broken > 0) return { level: 'bad', text: words().unhealthyOf(broken, rows.length), detail };
  if (status === null) return { level: 'warn', text: words().healthUnknown, detail };
  return { level: 'good', text: words().noneUnhealthy(rows.length), detail };
}

/**
 * @template {string} Word
 * @param {Word[]} found
 * @param {Record<Word, string>} names
 */
function countsOf(found, names) {
  return [...new Set(found)].map((word) => `${found.filter((one) => one === word).length} ${names[word]}`);
}
