/**
 * @file Charts over the last fifteen minutes, drawn by uPlot where the build has brought it. They show
 * what history.js holds.
 */

import { element } from './dom.js';
import { clockText } from './format.js';
import { history } from './history.js';
import { onLanguage, words } from './i18n.js';

/** @typedef {import('./history.js').Series} Series */
/** @typedef {{setData: (data: unknown) => void, setSize: (size: object) => void, destroy: () => void}} Plot */
/** @typedef {(value: number | null | undefined) => string} Writer */
/** @typedef {keyof ReturnType<typeof words>['chart']} Name */

/**
 * @typedef {object} Chart
 * @property {Name} name
 * @property {Series[]} series
 * @property {Writer} write
 * @property {[number, number]} [range] where the values have bounds
 */

const SCRIPT = '/static/vendor/uPlot.iife.min.js';
const STYLE = '/static/vendor/uPlot.min.css';
const HEIGHT = 150;
/** Between the times of an axis, which are written to the second. */
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300];
/** Room for one time on the axis, and for the values beside it. */
const TIME_WIDTH = 76;
const VALUE_WIDTH = 68;

/** One colour a line, and a dash for all but the first, so that colour is never alone. */
const LINES = [
  { colour: '--accent', dash: [] },
  { colour: '--warn', dash: [6, 4] },
  { colour: '--drain', dash: [2, 3] },
];

/** @type {Promise<boolean> | null} */
let loading = null;

/** Whether the build has brought what draws charts. */
export function haveCharts() {
  return document.documentElement.dataset.charts === 'present';
}

/** Charts of one place of the page. */
export class Charts {
  #places;
  #charts;
  /** @type {{chart: Chart, plot: Plot, place: HTMLElement}[]} */
  #plots = [];
  #isPaused = false;

  /**
   * @param {HTMLElement} places where they go
   * @param {Chart[]} charts
   */
  constructor(places, charts) {
    this.#places = places;
    this.#charts = charts;
    if (!haveCharts()) return;
    loading ??= load();
    const rebuild = () => void loading?.then((isLoaded) => isLoaded && this.#rebuild());
    rebuild();
    // Colours and words are given to uPlot once.
    onLanguage(rebuild);
    for (const radio of document.querySelectorAll('input[name="theme"]')) {
      radio.addEventListener('change', rebuild);
    }
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', rebuild);
    new ResizeObserver(() => this.#resize()).observe(places);
  }

  /** Brings them up to date. */
  draw() {
    if (this.#isPaused) return;
    for (const { chart, plot } of this.#plots) plot.setData(dataOf(chart));
  }

  /** @returns {boolean} whether they now wait */
  togglePause() {
    this.#isPaused = !this.#isPaused;
    this.draw();
    return this.#isPaused;
  }

  #rebuild() {
    for (const { plot } of this.#plots) plot.destroy();
    const { uPlot } = /** @type {{uPlot: new (options: object, data: unknown, place: Element) => Plot}} */ (
      /** @type {unknown} */ (window)
    );
    this.#places.replaceChildren();
    this.#plots = this.#charts.map((chart) => {
      const place = element('div', { class: 'chart', 'data-chart': chart.name });
      this.#places.append(element('figure', {}, element('figcaption', {}, words().chart[chart.name]), place));
      return { chart, plot: new uPlot(optionsOf(chart, place), dataOf(chart), place), place };
    });
  }

  #resize() {
    for (const { plot, place } of this.#plots) plot.setSize({ width: widthOf(place), height: HEIGHT });
  }
}

/** @returns {Promise<boolean>} whether uPlot is there */
function load() {
  return new Promise((resolve) => {
    const script = element('script', { src: SCRIPT });
    script.addEventListener('load', () => resolve(true));
    script.addEventListener('error', () => {
      loading = null;
      resolve(false);
    });
    document.head.append(element('link', { rel: 'stylesheet', href: STYLE }), script);
  });
}

/** @param {Chart} chart */
function dataOf({ series }) {
  const samples = history();
  const times = samples.map(({ at }) => at / 1000);
  return [times, ...series.map((name) => samples.map((sample) => sample[name]))];
}

/**
 * @param {Chart} chart
 * @param {HTMLElement} place
 */
function optionsOf({ series, write, range }, place) {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => resolved(style.getPropertyValue(name));
  const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false } };
  const times = (/** @type {unknown} */ _plot, /** @type {number[]} */ splits) => splits.map((at) => clockText(at * 1000));
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
    width: widthOf(place),
    height: HEIGHT,
    scales: { y: { range: range ?? fromZero } },
    axes: [
      { ...axis, space: TIME_WIDTH, incrs: STEPS_S, values: times },
      { ...axis, size: VALUE_WIDTH, values: (/** @type {unknown} */ _plot, /** @type {number[]} */ splits) => splits.map(write) },
    ],
    series: [
      { label: words().series.time, value: (/** @type {unknown} */ _plot, /** @type {number | null} */ at) => (at === null ? '–' : clockText(at * 1000)) },
      ...lines,
    ],
  };
}

/** @param {HTMLElement} place */
function widthOf(place) {
  return Math.max(200, place.clientWidth);
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
