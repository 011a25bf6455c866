/**
 * @file Charts over the last quarter of an hour, hour or day, drawn by uPlot where the build has brought
 * it. They show what history.js holds, and mark what happened meanwhile.
 */

import { MARK_COLOURS, colourOf } from './chart-events.js';
import { element, setAttribute, setText } from './dom.js';
import { clockText } from './format.js';
import { history, newestAt, windowStart } from './history.js';
import { onLanguage, words } from './i18n.js';
import { pastMarks } from './stored-series.js';

/** @typedef {import('./history.js').Series} Series */
/** @typedef {{data: (number | null)[][], setData: (data: unknown) => void, setSize: (size: object) => void, destroy: () => void}} Plot */
/** @typedef {(value: number | null | undefined) => string} Writer */
/** @typedef {keyof ReturnType<typeof words>['chart']} Name */

/**
 * @typedef {object} Chart
 * @property {Name} name
 * @property {Series[]} series
 * @property {typeof import('./history.js').failedSeries} [stack] the parts that `series` is the sum of, which are drawn
 *   one upon the other where there are any
 * @property {Writer} write
 * @property {[number, number]} [range] where the values have bounds
 * @property {boolean} [isBytes] whether the values are bytes
 * @property {number} [height] in pixels, where it is not `HEIGHT`
 */

const SCRIPT = '/static/vendor/uPlot.iife.min.js';
const STYLE = '/static/vendor/uPlot.min.css';
const HEIGHT = 160;
/** Between the times of an axis, which are written to the second. */
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600];
/** Between the values of an axis of bytes, which are written by powers of 1024. */
const STEPS_BYTES = Array.from({ length: 41 }, (_, power) => 2 ** power);
/** Room for one time on the axis, below it, and for the values beside it. */
const TIME_WIDTH = 76;
const TIME_HEIGHT = 30;
const VALUE_WIDTH = 68;
/** Room for the marks of events, above the lines. */
const MARKS_HEIGHT = 20;
/** Marks that are nearer are one, in pixels. */
const MARK_WIDTH = 24;

/** One colour a line, and a dash for all but the first, so that colour is never alone. */
const LINES = [
  { colour: '--accent', dash: [], border: 'solid' },
  { colour: '--warn', dash: [6, 4], border: 'dashed' },
  { colour: '--drain', dash: [2, 3], border: 'dotted' },
];

/** What draws parts one upon the other, loaded when there are some. @type {typeof import('./stack.js') | null} */
let stacked = null;

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
  /** @type {{chart: Chart, plot: Plot, place: HTMLElement, parts: string}[]} */
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
    // A reason that is new to the chart is a line of its own.
    if (this.#plots.some(({ chart, parts }) => parts !== partsText(chart))) return this.#rebuild();
    for (const { chart, plot, place } of this.#plots) {
      const data = dataOf(chart);
      plot.setData(data);
      showEmpty(place, data);
    }
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
    const empty = this.#charts.map((chart) => ({
      chart,
      place: element('div', { class: 'chart', 'data-chart': chart.name }, element('p', { class: 'chart-empty' })),
    }));
    this.#places.replaceChildren(
      ...empty.map(({ chart, place }) => element('figure', {}, element('figcaption', {}, words().chart[chart.name]), place)),
    );
    // How wide one is depends on all of them.
    this.#plots = empty.map(({ chart, place }) => {
      const data = dataOf(chart);
      showEmpty(place, data);
      return { chart, place, parts: partsText(chart), plot: new uPlot(optionsOf(chart, place), data, place) };
    });
  }

  #resize() {
    for (const { chart, plot, place } of this.#plots) plot.setSize({ width: widthOf(place), height: chart.height ?? HEIGHT });
  }
}

/** An axis of nothing would have values of its own making. @param {HTMLElement} place @param {(number | null)[][]} data */
function showEmpty(place, [, ...lines]) {
  const isEmpty = lines.every((line) => line.every((figure) => figure === null));
  setAttribute(place, 'data-empty', isEmpty ? '' : null);
  setText(/** @type {Element} */ (place.querySelector('.chart-empty')), isEmpty ? words().chartEmpty : '');
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

/**
 * What is drawn, and how each line is called; `stack` where it is parts.
 * @param {Chart} chart
 */
function linesOf({ series, stack }) {
  const parts = stack?.() ?? [];
  if (parts.length > 0 && stacked !== null) return { stack: stacked, lines: stacked.namedParts(parts) };
  if (parts.length > 0) void import('./stack.js').then((module) => (stacked = module), () => null);
  return { stack: null, lines: series.map((name) => ({ name, label: words().series[name] })) };
}

/** @param {Chart} chart */
function partsText(chart) {
  return linesOf(chart).lines.map(({ name }) => name).join(' ');
}

/** @param {Chart} chart */
function dataOf(chart) {
  const samples = history();
  const times = samples.map(({ at }) => at / 1000);
  const { stack, lines } = linesOf(chart);
  const figures = lines.map(({ name }) => samples.map((sample) => sample[name] ?? null));
  return [times, ...(stack?.sums(figures) ?? figures)];
}

/**
 * @param {Chart} chart
 * @param {HTMLElement} place
 */
function optionsOf(chart, place) {
  const { write, range, isBytes = false, height = HEIGHT } = chart;
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => resolved(style.getPropertyValue(name));
  const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false } };
  const times = (/** @type {unknown} */ _plot, /** @type {number[]} */ splits) => splits.map((at) => clockText(at * 1000));
  // Charts are built again where colours change, and drawn once a second.
  const marks = new Map(MARK_COLOURS.map((name) => [name, colour(name)]));
  const { stack, lines: drawn } = linesOf(chart);
  const lines = drawn.map(({ label }, at) => {
    const { colour: of = '--accent', dash = [] } = LINES[at] ?? {};
    return {
      label,
      stroke: colour(of),
      width: 1.5,
      dash,
      points: { show: false },
      // Under the pointer; without one, the newest.
      value: (/** @type {Plot} */ plot, /** @type {number | null} */ value, /** @type {number} */ line, /** @type {number | null} */ index) =>
        write(index === null ? plot.data[line]?.at(-1) : value),
      ...stack?.look(at, colour, write),
    };
  });
  return {
    width: widthOf(place),
    height,
    padding: [MARKS_HEIGHT, null, null, null],
    ...stack?.bands(lines.length),
    scales: { x: { range: () => [windowStart() / 1000, newestAt() / 1000] }, y: { range: range ?? fromZero } },
    legend: { markers: { dash: (/** @type {unknown} */ _plot, /** @type {number} */ at) => LINES[(at - 1) % LINES.length]?.border ?? 'solid' } },
    hooks: { drawAxes: [(/** @type {Parameters<typeof drawMarks>[0]} */ plot) => drawMarks(plot, marks)] },
    axes: [
      { ...axis, space: TIME_WIDTH, size: TIME_HEIGHT, incrs: STEPS_S, values: times },
      { ...axis, size: VALUE_WIDTH, ...(isBytes && { incrs: STEPS_BYTES }), values: (/** @type {unknown} */ _plot, /** @type {number[]} */ splits) => splits.map(write) },
    ],
    series: [
      { label: words().series.time, value: (/** @type {unknown} */ _plot, /** @type {number | null} */ at) => clockText(at === null ? newestAt() : at * 1000) },
      ...lines,
    ],
  };
}

/**
 * Draws a mark for the events of each time, above the lines, with their number where they are several.
 * @param {{root: HTMLElement, ctx: CanvasRenderingContext2D, bbox: {left: number, top: number, width: number, height: number}, valToPos: (value: number, scale: string, isCanvas: boolean) => number}} plot
 * @param {Map<string, string>} colours as a canvas takes them, by their names
 */
function drawMarks({ root, ctx, bbox, valToPos }, colours) {
  const from = windowStart();
  const placed = pastMarks()
    .map((mark) => ({ colour: colourOf(mark), at: mark.at_ms, x: Math.round(valToPos(mark.at_ms / 1000, 'x', true)) }))
    .filter(({ at, x }) => at >= from && x >= bbox.left && x <= bbox.left + bbox.width);
  const groups = groupsOf(placed, MARK_WIDTH * devicePixelRatio);
  setAttribute(/** @type {Element} */ (root.parentElement), 'data-marks', groups.map(({ count }) => count).join(' '));
  const [size, end] = [4 * devicePixelRatio, bbox.top - 2 * devicePixelRatio];
  ctx.save();
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  [ctx.textAlign, ctx.textBaseline] = ['left', 'bottom'];
  for (const { x, count, colour } of groups) {
    ctx.fillStyle = colours.get(colour) ?? '';
    ctx.beginPath();
    ctx.moveTo(x - size, end - 1.5 * size);
    ctx.lineTo(x + size, end - 1.5 * size);
    ctx.lineTo(x, end);
    ctx.fill();
    if (count > 1) ctx.fillText(String(count), x + 1.5 * size, end);
  }
  ctx.restore();
}

/**
 * Those that are near each other as one, at the place of the first, in the colour of the gravest.
 * @param {{x: number, colour: string}[]} marks the leftmost first
 * @param {number} width
 */
function groupsOf(marks, width) {
  /** @type {{x: number, count: number, colour: string}[]} */
  const groups = [];
  for (const { x, colour } of marks) {
    const last = groups.at(-1);
    if (last === undefined || x - last.x >= width) {
      groups.push({ x, count: 1, colour });
      continue;
    }
    last.count += 1;
    if (MARK_COLOURS.indexOf(colour) < MARK_COLOURS.indexOf(last.colour)) last.colour = colour;
  }
  return groups;
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
