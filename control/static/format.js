/**
 * @file Numbers, times and addresses as text. Units stand with every number that has one; what is
 * not known is a dash, never a zero.
 */

import { locale, words } from './i18n.js';

export const UNKNOWN = '–';

/** Making a formatter takes longer than writing a row. @type {Map<string, any>} */
const formatters = new Map();

/**
 * @template Formatter
 * @param {string} name
 * @param {(locale: string) => Formatter} make
 * @returns {Formatter}
 */
function formatter(name, make) {
  const key = `${name} ${locale()}`;
  const known = formatters.get(key) ?? make(locale());
  formatters.set(key, known);
  return known;
}

/** @param {number} digits after the point */
function numbers(digits) {
  return formatter(`number ${digits}`, (tag) => new Intl.NumberFormat(tag, { maximumFractionDigits: digits }));
}

/** @param {{ip: string, port: number}} address */
export function addressText({ ip, port }) {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** @param {number | null | undefined} share 0..1 */
export function percentText(share) {
  return isNumber(share) ? `${Math.round(share * 100)}%` : UNKNOWN;
}

/** A share that may be small: `6.3%`. @param {number | null | undefined} share 0..1 */
export function shareText(share) {
  if (!isNumber(share)) return UNKNOWN;
  const percent = share * 100;
  return `${numbers(percent < 10 ? 1 : 0).format(percent)}%`;
}

/** @param {number | null | undefined} count */
export function countText(count) {
  return isNumber(count) ? numbers(0).format(count) : UNKNOWN;
}

/** @param {number | null | undefined} rate a second */
export function rateText(rate) {
  if (!isNumber(rate)) return UNKNOWN;
  return numbers(rate < 10 ? 1 : 0).format(rate);
}

/** @param {number | null | undefined} rate bytes a second */
export function byteRateText(rate) {
  const text = byteText(rate);
  return text === UNKNOWN ? UNKNOWN : `${text}/s`;
}

/** @param {number | null | undefined} count bytes */
export function byteText(count) {
  if (!isNumber(count)) return UNKNOWN;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let power = 0;
  let scaled = count;
  while (scaled >= 1000 && power < units.length - 1) {
    scaled /= 1024;
    power += 1;
  }
  return `${rateText(scaled)} ${units[power]}`;
}

/** @param {number | null | undefined} microseconds */
export function latencyText(microseconds) {
  if (!isNumber(microseconds)) return UNKNOWN;
  if (microseconds < 1000) return `${Math.round(microseconds)} µs`;
  const milliseconds = microseconds / 1000;
  return `${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
}

/**
 * A span of time in the one unit that matters at a glance: `3 s`, `4 min`, `2 h`, `5 d`.
 * @param {number} seconds
 */
export function spanText(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const { seconds: inSeconds, minutes, hours, days } = words().span;
  if (whole < 90) return inSeconds(whole);
  if (whole < 5400) return minutes(Math.round(whole / 60));
  if (whole < 172_800) return hours(Math.round(whole / 3600));
  return days(Math.round(whole / 86_400));
}

/** A span to the second, as a clock has it: `00:01:14`. @param {number} milliseconds */
export function elapsedText(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return parts.map((part) => String(part).padStart(2, '0')).join(':');
}

/**
 * How old a figure is: `1.2 s`, and as `spanText` from ten seconds on.
 * @param {number} milliseconds
 */
export function ageText(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000;
  return seconds < 10 ? words().span.seconds(Math.round(seconds * 10) / 10) : spanText(seconds);
}

/** @param {number | Date} when unix milliseconds */
export function clockText(when) {
  const style = /** @type {const} */ ({ timeStyle: 'medium', hourCycle: 'h23' });
  return formatter('clock', (tag) => new Intl.DateTimeFormat(tag, style)).format(when);
}

/**
 * The time of day, and before it the day where that is not today.
 * @param {number} when unix milliseconds
 */
export function momentText(when) {
  const isToday = new Date(when).toDateString() === new Date().toDateString();
  if (isToday) return clockText(when);
  const style = /** @type {const} */ ({ dateStyle: 'short', timeStyle: 'medium', hourCycle: 'h23' });
  return new Intl.DateTimeFormat(locale(), style).format(when);
}

/**
 * `29 Nov 2026, 23:55:27 UTC`; in Chinese `2026-11-29 23:55:27 UTC`.
 * @param {number | Date} when unix milliseconds
 */
export function dateTimeText(when) {
  if (locale() === 'zh-CN') {
    // Swedish dates are written as ISO 8601 has them.
    const time = new Intl.DateTimeFormat('sv-SE', { dateStyle: 'short', timeStyle: 'medium' }).format(when);
    const parts = new Intl.DateTimeFormat('en-GB', { timeZoneName: 'short' }).formatToParts(when);
    return `${time} ${parts.find(({ type }) => type === 'timeZoneName')?.value ?? ''}`.trim();
  }
  const style = /** @type {const} */ ({ dateStyle: 'medium', timeStyle: 'long', hourCycle: 'h23' });
  return formatter('date', (tag) => new Intl.DateTimeFormat(tag, style)).format(when);
}

/**
 * @param {unknown} value
 * @returns {value is number}
 */
export function isNumber(value) {
  return typeof value === 'number' && Number.isFinite(value);
}
