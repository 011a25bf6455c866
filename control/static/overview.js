/**
 * @file The top of the page: is the proxy up, is what was asked for applied, is anyone unhealthy, how
 * much flows, how full are the GPUs. Numbers that only the proxy knows are dashes without it.
 */

import { serverNow } from './api.js';
import { acknowledgeExpiry, reloadOutcome } from './changes.js';
import { drawCharts } from './charts.js';
import { byId, element, setAttribute, setText } from './dom.js';
import * as format from './format.js';
import { currentRates, history, meanOf } from './history.js';
import { words } from './i18n.js';
import { linePath } from './sparkline.js';
import { rowsOf } from './rows.js';
import { isBroken, shapeIcon } from './state.js';

/** @typedef {import('./api.js').ProxyAnswer} ProxyAnswer */
/** @typedef {import('./api.js').ProxyStatus} ProxyStatus */
/** @typedef {import('./rows.js').Row} Row */
/** @param {ProxyAnswer | null} proxy null before the first answer */
export function showProxy(proxy) {
  const pill = byId('proxy', HTMLElement);
  const { level, text, detail } = proxyLine(proxy);
  setAttribute(pill, 'data-level', level);
  setText(byId('proxy-text', HTMLElement), text);
  setText(byId('proxy-detail', HTMLElement), detail);
  const shape = level === 'good' ? 'up' : level === 'bad' ? 'down' : 'checking';
  const place = byId('proxy-shape', HTMLElement);
  if (place.dataset.shape !== shape) {
    place.dataset.shape = shape;
    place.replaceChildren(shapeIcon(shape));
  }
  setText(byId('last-sync', HTMLElement), lastPublishText(proxy));
}

/**
 * @param {ProxyAnswer | null} proxy
 * @returns {{level: 'good' | 'warn' | 'bad', text: string, detail: string}}
 */
function proxyLine(proxy) {
  if (proxy === null) return { level: 'warn', text: words().proxyUnknown, detail: '' };
  const { status, why, last_publish: publish, published_generation: published } = proxy;
  if (status === null) return lineWithoutStatus(publish, why ?? '');
  const runs = `${words().generation(status.generation)} ${words().appliedAgo(
    format.spanText((serverNow() - status.loaded_at_ms) / 1000),
  )}`;
  const reload = status.last_reload;
  if (reload !== null && reload !== undefined && !reload.ok) {
    const refused = words().refusedGeneration(String(reload.generation ?? '?'));
    return { level: 'bad', text: refused, detail: `${reload.reason ?? ''} · ${runs}` };
  }
  if (published > status.generation) {
    return { level: 'warn', text: words().notAppliedYet(published), detail: runs };
  }
  return { level: 'good', text: words().proxyRunning, detail: runs };
}

/**
 * A proxy without an admin socket is known only by the signals that it takes.
 * @param {import('./api.js').Publish | null} publish
 * @param {string} why
 * @returns {{level: 'warn' | 'bad', text: string, detail: string}}
 */
function lineWithoutStatus(publish, why) {
  if (publish?.signalled === true) {
    return { level: 'warn', text: words().proxySilent, detail: publish.info };
  }
  return { level: 'bad', text: words().proxyStopped, detail: publish?.info ?? why };
}

/** @param {ProxyAnswer | null} proxy */
function lastPublishText(proxy) {
  const publish = proxy?.last_publish ?? null;
  if (publish === null) return '';
  const generation = words().generation(publish.generation);
  return words().lastPublish(format.clockText(publish.at_ms), generation, reloadOutcome(publish).text);
}

/** What the overview does by itself; the top bar is on every page. */
export const page = { update: showOverview };

/** @param {import('./api.js').WholeAnswer} whole */
function showOverview(whole) {
  showFigures(rowsOf(whole.backends), whole.status.proxy);
  drawFigureLines();
  drawCharts();
}

/**
 * @param {Row[]} rows
 * @param {ProxyStatus | null} status null where the proxy tells none
 */
function showFigures(rows, status) {
  const totals = status?.totals ?? null;
  const rates = currentRates();
  const none = words().noProxyFigures;
  const taking = rows.filter(takesTraffic).length;
  const broken = rows.filter(({ state }) => isBroken(state.operational)).length;
  const gpu = meanOf(rows.map(({ backend }) => backend.gpu_usage));
  const vram = meanOf(rows.map(({ backend }) => backend.vram_usage));

  // Without the proxy's word nobody can say who takes traffic, still less that none is down.
  figure('taking', `${format.countText(status && taking)} / ${format.countText(rows.length)}`, [
    allDownText(status) ??
      (broken > 0 ? words().notUp(broken) : status === null ? none : words().noneDown),
  ]);
  setAttribute(byId('figure-taking', HTMLElement), 'data-level', broken === 0 ? null : 'bad');
  figure('sessions', format.countText(totals?.sessions_active), [
    totals === null ? none : words().sessionsRate(format.rateText(rates?.sessions)),
  ]);
  figure('flows', format.countText(totals?.flows_active), [totals === null ? none : words().flowsUnit]);
  figure('traffic', format.byteRateText(rates?.down), [
    totals === null ? none : words().trafficBack(format.byteRateText(rates?.up)),
  ]);
  figure('first-byte', format.latencyText(totals?.first_byte_p50_us), [
    totals === null ? none : words().firstByteUnit(format.latencyText(totals.first_byte_p99_us)),
  ]);
  figure('gpu', format.percentText(gpu.mean), [words().meanHint(gpu.count)]);
  figure('vram', format.percentText(vram.mean), [words().meanHint(vram.count)]);
  setText(byId('algorithm', HTMLElement), status === null ? '' : words().algorithm(status.algorithm));
}

/** The lines under the figures: the last fifteen minutes, as far as this page has seen them. */
function drawFigureLines() {
  for (const [name, series, top] of FIGURE_LINES) {
    const samples = history().flatMap(({ at, [series]: value }) => (value === null ? [] : [{ at, value }]));
    const line = document.querySelector(`#figure-${name} .figure-line path`);
    if (line !== null) setAttribute(line, 'd', linePath(samples, serverNow(), top));
  }
}

/** @type {[string, import('./history.js').Series, number | null][]} a share's line is as high as one */
const FIGURE_LINES = [
  ['sessions', 'sessions', null],
  ['flows', 'flows', null],
  ['traffic', 'down', null],
  ['first-byte', 'p50', null],
  ['gpu', 'gpu', 1],
  ['vram', 'vram', 1],
];

/** Binds the button that goes with a held-back expiry. */
export function startOverview() {
  byId('acknowledge', HTMLButtonElement).addEventListener('click', acknowledgeExpiry);
}

/** @param {import('./api.js').WholeAnswer['status']} status */
export function showWarnings({ warnings = [], freeze }) {
  byId('warnings', HTMLElement).hidden = warnings.length === 0;
  byId('acknowledge', HTMLButtonElement).hidden = !freeze;
  const list = byId('warning-list', HTMLUListElement);
  const shown = [...list.children].map((line) => line.textContent);
  if (shown.length === warnings.length && shown.every((text, at) => text === warnings[at])) return;
  list.replaceChildren(...warnings.map((warning) => element('li', {}, warning)));
}

/**
 * What is done while every backend is out for its health; null while that is not so.
 * @param {import('./api.js').ProxyStatus | null} status
 */
function allDownText(status) {
  const rule = status?.health?.tcp.all_down_in_force ?? status?.health?.udp.all_down_in_force;
  return rule ? words().allDown[rule] : null;
}

/** @param {Row} row */
function takesTraffic({ state, backend }) {
  return state.admin === 'ready' && backend.weight > 0 && !isBroken(state.operational);
}

/**
 * @param {string} name
 * @param {string} value
 * @param {string[]} notes
 */
function figure(name, value, notes) {
  const place = byId(`figure-${name}`, HTMLElement);
  setText(/** @type {Element} */ (place.querySelector('.figure-value')), value);
  setText(/** @type {Element} */ (place.querySelector('.figure-note')), notes.join(' · '));
}
