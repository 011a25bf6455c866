/**
 * @file Why `gpu_aware` gives a backend what it gives it: the parts that its cost is the sum of, and
 * what they are multiplied by. The formula is that of `contract/src/cost.rs`. Pure.
 */

import { ageText, isNumber, percentText, rateText } from './format.js';
import { words } from './i18n.js';

/** @typedef {import('./shapes.js').Cost} Cost */
/** @typedef {{name: string, share: number, value: string, words: string}} CostLine `share` is 0..1 */

/** Less of the whole than this is a rounding. */
const ROUNDING = 0.01;

/**
 * What is added up; the shares of all of them make one.
 * @param {Cost} cost
 * @returns {CostLine[]}
 */
export function costParts(cost) {
  const told = words().cost;
  const session = cost.slowness / (cost.weight * cost.warm_up);
  const load = (cost.in_flight + 1) * session;
  const failures = cost.failures * session;
  const vram = cost.report_weight * cost.vram;
  const gpu = cost.report_weight * cost.gpu;
  const part = (/** @type {string} */ name, /** @type {number} */ value, /** @type {string} */ text) => ({
    name,
    share: cost.total > 0 ? value / cost.total : 0,
    value: costText(value),
    words: text,
  });
  const expected = isNumber(cost.vram_expected) ? told.vramWhy(percentText(cost.vram_expected)) : told.noReport;
  const parts = [
    part(told.load, load, told.loadWhy(rateText(cost.in_flight))),
    part(told.failures, failures, failuresWhy(cost)),
    part(told.vram, vram, expected),
    part(told.gpu, gpu, told.gpuWhy),
  ];
  // A warming backend that has its one session costs much more than its parts.
  const rest = cost.total - load - failures - vram - gpu;
  if (rest > cost.total * ROUNDING) parts.push(part(told.warming, rest, told.warmingWhy));
  return parts;
}

/** What has failed, how often, and when last. @param {Cost} cost */
function failuresWhy({ failures, failed = [] }) {
  const told = words().cost;
  if (failures === 0) return told.noFailures;
  const kinds = failed.map(({ what, count, age_ms: age }) => told.failedOf(told.failed[what] ?? what, count, ageText(age)));
  return [told.failuresWhy(rateText(failures)), ...kinds].join('; ');
}

/**
 * What the parts are multiplied by.
 * @param {Cost} cost
 * @returns {CostLine[]}
 */
export function costFactors(cost) {
  const told = words().cost;
  const age = isNumber(cost.report_age_ms) ? told.reportWhy(ageText(cost.report_age_ms)) : told.noReport;
  return [
    factor(told.speed, cost.slowness, told.speedWhy(cost.latency_samples)),
    factor(told.weight, cost.weight, told.weightWhy),
    { name: told.warmUp, share: cost.warm_up, value: percentText(cost.warm_up), words: told.warmUpWhy },
    { name: told.report, share: cost.report_weight, value: percentText(cost.report_weight), words: age },
  ];
}

/**
 * One that is 1 where a backend is like the others: its bar is then half full.
 * @param {string} name
 * @param {number} value
 * @param {string} text
 */
function factor(name, value, text) {
  return { name, share: value / (value + 1), value: `× ${value.toFixed(2)}`, words: text };
}

/** @param {number} cost */
export function costText(cost) {
  return cost < 100 ? cost.toFixed(2) : rateText(cost);
}

/**
 * Where a backend stands among all that have a cost; the least gets the next session.
 * @param {Cost} cost
 * @param {Cost[]} all
 */
export function rankOf(cost, all) {
  return { rank: 1 + all.filter(({ total }) => total < cost.total).length, count: all.length };
}
