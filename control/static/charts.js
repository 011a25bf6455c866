/**
 * @file The charts of the overview, drawn by uPlot where the build has brought it; else the page says
 * what is missing. They show what history.js holds and can be paused to be read.
 */

import { byId, element, setAttribute, setText } from './dom.js';
import { byteRateText, clockText, latencyText, percentText, rateText } from './format.js';
import { history } from './history.js';
import { onLanguage, words } from './i18n.js';

/** @typedef {import('./history.js').Series} Series */
/** @typedef {{setData: (data: unknown) => void, setSize: (size: object) => void, destroy: () => void}} Plot */
/** @typedef {(value: number | null | undefined) => string} Writer */

/** @typedef {'sessions' | 'traffic' | 'firstByte' | 'usage' | 'batch'} Name */

/**
 * @typedef {object} Chart
 * @property {Name} name
 * @property {Series[]} series
 * @property {Writer} write
 * @property {[number, number]} [range] where the values have bounds
 */

const SCRIPT = '/static/vendor/uPlot.iife.min.js';
const STYLE = '/static/vendor/uPlot.min.css';
const HEIGHT = 130;
/** Between the times of an axis, which are written to the second. */
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300];

/** @type {Chart[]} */
const CHARTS = [
  { name: 'sessions', series: ['sessionRate', 'sessions', 'flows'], write: rateText },
  { name: 'traffic', series: ['down', 'up'], write: byteRateText },
  { name: 'firstByte', series: ['p50', 'p99'], write: latencyText },
  { name: 'usage', series: ['gpu', 'vram'], write: percentText, range: [0, 1] },
  { name: 'batch', series: ['batched', 'unbatched'], write: percentText, range: [0, 1] },
];
/** One colour a line, and a dash for the second, so that colour is never alone. */
const LINES = [
  { colour: '--accent', dash: [] },
  { colour: '--warn', dash: [6, 4] },
  { colour: '--drain', dash: [2, 3] },
];

/** @type {Map<Name, {plot: Plot, place: HTMLElement}>} */
const plots = new Map();
let isPaused = false;
let isLoaded = false;

/** Loads uPlot where it is there. */
export function startCharts() {
  const isPresent = document.documentElement.dataset.charts === 'present';
  byId('charts-missing', HTMLElement).hidden = isPresent;
  const pause = byId('charts-pause', HTMLButtonElement);
  pause.hidden = !isPresent;
  if (!isPresent) return;
  pause.addEventListener('click', () => {
    isPaused = !isPaused;
    setAttribute(pause, 'aria-pressed', String(isPaused));
    setText(byId('charts-note', HTMLElement), isPaused ? words().paused : '');
    drawCharts();
  });
  const script = element('script', { src: SCRIPT });
  script.addEventListener('load', () => {
    isLoaded = true;
    rebuild();
  });
  document.head.append(element('link', { rel: 'stylesheet', href: STYLE }), script);
  onLanguage(rebuild);
  for (const radio of document.querySelectorAll('input[name="theme"]')) {
    radio.addEventListener('change', rebuild);
  }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', rebuild);
  new ResizeObserver(resize).observe(byId('chart-places', HTMLElement));
}

/** Brings the charts up to date. */
export function drawCharts() {
  if (!isLoaded || isPaused) return;
  if (wanted().length !== plots.size) rebuild();
  for (const chart of wanted()) plots.get(chart.name)?.plot.setData(dataOf(chart));
}

/** The batch demonstration is shown once somebody batches. */
function wanted() {
  const hasBatches = history().some(({ batched, unbatched }) => batched !== null || unbatched !== null);
  return CHARTS.filter(({ name }) => name !== 'batch' || hasBatches);
}

/** @param {Chart} chart */
function dataOf({ series }) {
  const samples = history();
  const times = samples.map(({ at }) => at / 1000);
  return [times, ...series.map((name) => samples.map((sample) => sample[name]))];
}

/** Colours and words are given to uPlot once, so a change of either makes the charts anew. */
function rebuild() {
  if (!isLoaded) return;
  for (const { plot } of plots.values()) plot.destroy();
  plots.clear();
  const places = byId('chart-places', HTMLElement);
  places.replaceChildren();
  for (const chart of wanted()) {
    const place = element('div', { class: 'chart', 'data-chart': chart.name });
    const figure = element('figure', {}, element('figcaption', {}, words().chart[chart.name]), place);
    places.append(figure);
    const { uPlot } = /** @type {{uPlot: new (options: object, data: unknown, place: Element) => Plot}} */ (
      /** @type {unknown} */ (window)
    );
    plots.set(chart.name, { plot: new uPlot(optionsOf(chart, place), dataOf(chart), place), place });
  }
}

/**
 * @param {Chart} chart
 * @param {HTMLElement} place
 */
function optionsOf({ series, write, range }, place) {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => resolved(style.getPropertyValue(name));
  const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false } };
  const lines = series.map((name, at) => {
    const { colour: of = '--accent', dash = [] } = LINES[at] ?? {};
    return {
      label: words().series[name],
      stroke: colour(of),
      width: 1.5,
      dash,
      value: (/** @type {unknown} */ _plot, /** @type {number | null} */ value) => write(value),
    };
  });
  return {
    width: Math.max(200, place.clientWidth),
    height: HEIGHT,
    scales: { y: { range: range ?? fromZero } },
    axes: [
      { ...axis, incrs: STEPS_S, values: (/** @type {unknown} */ _plot, /** @type {number[]} */ splits) => splits.map((at) => clockText(at * 1000)) },
      { ...axis, size: 76, values: (/** @type {unknown} */ _plot, /** @type {number[]} */ splits) => splits.map(write) },
    ],
    series: [
      { label: words().series.time, value: (/** @type {unknown} */ _plot, /** @type {number | null} */ at) => (at === null ? '–' : clockText(at * 1000)) },
      ...lines,
    ],
  };
}

/**
 * A line of nothing still needs a height.
 * @param {unknown} _plot
 * @param {number | null} _low
 * @param {number | null} high
 */
function fromZero(_plot, _low, high) {
  return [0, Math.max(1, (high ?? 0) * 1.1)];
}

/**
 * A canvas knows no `light-dark()`, so the browser is asked what it comes to.
 * @param {string} colour
 */
function resolved(colour) {
  const probe = element('span', { class: 'unseen' });
  probe.style.color = colour;
  document.body.append(probe);
  const plain = getComputedStyle(probe).color;
  probe.remove();
  return plain;
}

function resize() {
  for (const { plot, place } of plots.values()) {
    plot.setSize({ width: Math.max(200, place.clientWidth), height: HEIGHT });
  }
}
