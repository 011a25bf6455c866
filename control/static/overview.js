/**
 * @file The overview: is the proxy up, is what was asked for applied, is anyone unhealthy, how
 * much flows, how full are the GPUs. Numbers that only the proxy knows are dashes without it.
 */

import { serverNow } from './api.js';
import { showWorst, worstRows } from './attention.js';
import { showEvents } from './chart-events.js';
import { Charts, haveCharts } from './charts.js';
import { byId, setAttribute, setText } from './dom.js';
import { mostFirst } from './failures.js';
import { firstByteCount } from './first-byte.js';
import * as format from './format.js';
import { showGuide, startGuide } from './guide.js';
import { currentRates, failedSeries, history, meanOf, newestAt, windowStart } from './history.js';
import { words } from './i18n.js';
import { rowsOf } from './rows.js';
import { linePath } from './sparkline.js';
import { SHAPES, isBroken, shapeOf, takesTraffic } from './state.js';
import { rangeNow, readPast, setRange } from './stored-series.js';
import { configAnswer, healthAnswer, proxyAnswer } from './summary.js';
import { tip } from './tooltip.js';
import { proxyOf, showLevel } from './top-bar.js';
import { endText } from './verdict.js';

/** @typedef {import('./shapes.js').ProxyStatus} ProxyStatus */
/** @typedef {import('./rows.js').Row} Row */

/** What flows, and how full the GPUs are. @type {import('./charts.js').Chart[]} */
const CHARTS = [
  { name: 'sessions', series: ['sessionRate', 'sessions'], write: format.rateText },
  { name: 'failed', series: ['failedRate'], stack: failedSeries, write: format.rateText },
  { name: 'traffic', series: ['down', 'up'], write: format.byteRateText, isBytes: true },
  { name: 'firstByte', series: ['p50', 'p99'], write: format.latencyText },
  { name: 'usage', series: ['gpu', 'vram'], write: format.percentText, range: [0, 1] },
];

/** What the overview does by itself. */
export const page = { start: startOverview, enter: () => void bringPast(), update: showOverview, rows: worstRows };

/** @type {Charts | null} null before the start */
let charts = null;
/** @type {import('./shapes.js').WholeAnswer | null} */
let latest = null;

function startOverview() {
  startGuide();
  for (const name of ['proxy', 'config', 'health']) answer(name, { level: 'warn', text: words().loading, detail: '' });
  for (const name of TRACED) tip(byId(`figure-${name}`, HTMLElement), () => traceOf(name));
  charts = new Charts(byId('chart-places', HTMLElement), CHARTS);
  const isPresent = haveCharts();
  byId('charts-missing', HTMLElement).hidden = isPresent;
  const pause = byId('charts-pause', HTMLButtonElement);
  pause.hidden = !isPresent;
  pause.addEventListener('click', () => {
    const isPaused = charts?.togglePause() ?? false;
    setAttribute(pause, 'aria-pressed', String(isPaused));
    setText(byId('charts-note', HTMLElement), isPaused ? words().paused : '');
  });
  for (const radio of document.querySelectorAll('input[name="range"]')) {
    if (!(radio instanceof HTMLInputElement)) continue;
    radio.checked = radio.value === rangeNow();
    radio.addEventListener('change', () => {
      setRange(/** @type {import('./stored-series.js').Range} */ (radio.value));
      void bringPast();
    });
  }
}

/** Draws what the server has kept, once it has come. */
async function bringPast() {
  if (!(await readPast(serverNow()))) return;
  drawFigureLines();
  charts?.draw();
  showEvents();
}

/** @param {import('./shapes.js').WholeAnswer} whole */
function showOverview(whole) {
  latest = whole;
  const rows = rowsOf(whole.backends);
  const proxy = proxyOf(whole);
  const { verdict } = whole.status;
  answer('proxy', proxyAnswer(proxy, verdict, serverNow()));
  answer('config', configAnswer(proxy, verdict, serverNow()));
  answer('health', healthAnswer(verdict));
  setAttribute(/** @type {Element} */ (document.querySelector('#answer-health a')), 'href', outAddress(rows));
  showGuide(rows.length, proxy.status);
  showFigures(rows, proxy.status, verdict?.traffic ?? null);
  showWorst(rows);
  drawFigureLines();
  charts?.draw();
  void bringPast();
}

/** Where those that are out can be seen; where none is, all of them. @param {Row[]} rows */
function outAddress(rows) {
  const states = SHAPES.filter((shape) => rows.some(({ state }) => isBroken(state.operational) && shapeOf(state) === shape));
  /** @type {Record<string, string>} */
  const query = { page: 'backends', sort: 'state' };
  if (states.length > 0) query.state = states.join(',');
  return `?${new URLSearchParams(query)}`;
}

/**
 * @param {string} name
 * @param {import('./verdict.js').Answer} said
 */
function answer(name, { level, text, detail }) {
  const place = byId(`answer-${name}`, HTMLElement);
  setAttribute(place, 'data-level', level);
  showLevel(/** @type {HTMLElement} */ (place.querySelector('.shape-place')), level);
  setText(/** @type {Element} */ (place.querySelector('.answer-text')), text);
  setText(/** @type {Element} */ (place.querySelector('.answer-detail')), detail);
}

/**
 * @param {Row[]} rows
 * @param {ProxyStatus | null} status null where the proxy tells none
 * @param {import('./shapes.js').Traffic | null} traffic
 */
function showFigures(rows, status, traffic) {
  const totals = status?.totals ?? null;
  const rates = currentRates();
  const newest = history().at(-1);
  const none = words().noProxyFigures;
  const taking = rows.filter(({ state, backend }) => takesTraffic(state, backend.weight)).length;
  const gpu = meanOf(rows.map(({ backend }) => backend.gpu_usage));
  const vram = meanOf(rows.map(({ backend }) => backend.vram_usage));

  // Without the proxy's word nobody can say who takes traffic.
  figure('taking', `${format.countText(status && taking)} / ${format.countText(rows.length)}`, [
    status === null ? none : words().backendsUnit,
  ]);
  figure('sessions', format.countText(totals?.sessions_active), [
    totals === null ? none : words().sessionsRate(format.rateText(rates?.sessions)),
  ]);
  figure('failed', format.shareText(totals && (traffic?.failed_share ?? 0)), [totals === null || traffic === null ? none : failedText(traffic)]);
  setAttribute(byId('figure-failed', HTMLElement), 'data-level', (traffic?.failed_share ?? 0) >= FAILING_SHARE ? 'bad' : 'good');
  figure('flows', format.countText(totals?.flows_active), [totals === null ? none : words().flowsUnit]);
  figure('traffic', format.byteRateText(rates?.down), [
    totals === null ? none : words().trafficBack(format.byteRateText(rates?.up)),
  ]);
  figure('first-byte', format.latencyText(newest?.p50), [
    totals === null ? none : words().firstByteUnit(format.latencyText(newest?.p99), format.countText(firstByteCount())),
  ]);
  figure('gpu', format.percentText(gpu.mean), [words().meanHint(gpu.count)]);
  figure('vram', format.percentText(vram.mean), [words().meanHint(vram.count)]);
  setText(byId('algorithm', HTMLElement), status === null ? '' : words().algorithm(status.algorithm));
}

/** From which share on the server finds that sessions fail. */
const FAILING_SHARE = 0.01;

/** How fast sessions fail, and mostly why. @param {import('./shapes.js').Traffic} traffic */
function failedText({ failed, failed_per_s: rate, failed_reasons: reasons, sessions, window_s: window }) {
  const [most] = mostFirst(reasons);
  if (failed === 0 || most === undefined) return words().noneFailed(format.countText(sessions), window);
  return words().failedRate(format.rateText(rate), endText(most[0], 'session'));
}

/** The lines under the figures, over the time that the charts show. */
function drawFigureLines() {
  for (const [name, series, top] of FIGURE_LINES) {
    const samples = history().flatMap(({ at, [series]: value }) => (value === null ? [] : [{ at, value }]));
    const line = document.querySelector(`#figure-${name} .figure-line path`);
    if (line !== null) setAttribute(line, 'd', linePath(samples, windowStart(), newestAt(), top));
  }
}

/** @type {[string, import('./history.js').Series, number | null][]} a share's line is as high as one */
const FIGURE_LINES = [
  ['taking', 'taking', null],
  ['sessions', 'sessions', null],
  ['failed', 'failedRate', null],
  ['flows', 'flows', null],
  ['traffic', 'down', null],
  ['first-byte', 'p50', null],
  ['gpu', 'gpu', 1],
  ['vram', 'vram', 1],
];

/** The figures that have a tip. */
const TRACED = /** @type {const} */ (['taking', 'sessions', 'failed', 'flows', 'traffic', 'first-byte', 'gpu', 'vram']);

/** Where a figure comes from, how old it is, and how many samples it rests on. @param {typeof TRACED[number]} name */
function traceOf(name) {
  if (latest === null) return '';
  const { backends, status } = latest;
  const age = format.ageText(serverNow() - status.at_ms);
  const told = words().figureTrace;
  const traffic = status.verdict?.traffic;
  const reporting = backends.filter((backend) => format.isNumber(name === 'gpu' ? backend.gpu_usage : backend.vram_usage)).length;
  switch (name) {
    case 'first-byte':
      return told.firstByte(format.countText(firstByteCount()), age);
    case 'failed':
      return traffic === undefined ? '' : told.failed(reasonsText(traffic.failed_reasons, 'session'), traffic.failed, traffic.sessions, traffic.window_s, format.countText(traffic.retries), age);
    case 'flows':
      return traffic === undefined ? '' : told.flows(traffic.flows_failed, traffic.flows, format.countText(traffic.datagrams_dropped), traffic.window_s, age);
    case 'gpu':
    case 'vram':
      return told.reported(reporting, backends.length, age);
    case 'taking':
    case 'sessions':
    case 'traffic':
      return told.counted(age);
  }
}

/** @param {Record<string, number>} reasons @param {'session' | 'flow' | 'drop'} kind */
function reasonsText(reasons, kind) {
  return mostFirst(reasons).map(([reason, count]) => `${endText(reason, kind)} ${format.countText(count)}`).join(' · ');
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
