/**
 * @file Which rows the table has and in what order: filtering, sorting. Pure;
 * nothing here touches the page.
 */

import { errorsOf } from './failures.js';
import { words } from './i18n.js';
import { stateOf, stateRank, stateText } from './state.js';
import { rateOf } from './traffic.js';

/** @typedef {import('./shapes.js').Backend} Backend */
/** @typedef {import('./shapes.js').SeenBackend} SeenBackend */

/**
 * @typedef {object} Row
 * @property {string} key the address, which is the backend's identity
 * @property {string} place the address as text that sorts as addresses do
 * @property {Backend} backend
 * @property {SeenBackend | null} seen null where the proxy does not report it
 * @property {import('./state.js').State} state
 */

/** @typedef {'address' | 'state' | 'source' | 'weight' | 'gpu' | 'vram' | 'sessions' | 'rate' | 'latency' | 'errors' | 'seen'} Column */
/** @typedef {{column: Column, descending: boolean}} Order */

/** @type {readonly Column[]} */
export const COLUMNS = [
  'address',
  'state',
  'source',
  'weight',
  'gpu',
  'vram',
  'sessions',
  'rate',
  'latency',
  'errors',
  'seen',
];

/**
 * In the order of addresses: they mostly come so already, and sorting what is sorted costs little.
 * @param {Backend[]} backends
 * @returns {Row[]}
 */
export function rowsOf(backends) {
  const rows = backends.map((backend) => {
    const seen = backend.proxy;
    return { key: backend.id, place: placeOf(backend.id), backend, seen, state: stateOf(backend, seen) };
  });
  return rows.sort((left, right) => compare(left.place, right.place));
}

/**
 * Where the backend comes from. An operator's edit makes `source` read `runtime`, which is the
 * contract, so what was there before the edit is taken from `sources`.
 * @param {Backend} backend
 */
export function sourceOf({ source, sources }) {
  return sources?.find((known) => known !== 'override') ?? source;
}

/**
 * Every word of the filter must occur somewhere in what the row shows.
 * @param {Row} row
 * @param {string} filter
 */
export function matches(row, filter) {
  if (filter === '') return true;
  const { backend } = row;
  const source = sourceOf(backend);
  const shown = [row.key, words().source(source), source, stateText(row.state)];
  if (backend.override) shown.push(words().override, 'override');
  const text = shown.join(' ').toLowerCase();
  return filter
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

/**
 * Equal rows stay in the order of addresses, as sorting is stable: an order is always whole, and rows
 * never swap for nothing.
 * @param {Row[]} rows in the order of addresses
 * @param {Order} order
 */
export function sortRows(rows, { column, descending }) {
  const keyOf = SORT_KEYS[column];
  const sign = descending ? -1 : 1;
  const keyed = rows.map((row) => ({ row, key: keyOf(row) ?? -1 }));
  keyed.sort((left, right) => sign * compare(left.key, right.key));
  return keyed.map(({ row }) => row);
}

/** @type {Map<string, string>} */
const places = new Map();
/** Bounds the memory of addresses that have come and gone. */
const MAX_PLACES = 50_000;

/**
 * The address with its numbers of one width, so that comparing text compares numbers: a collator
 * takes longer over 3,000 rows than a frame.
 * @param {string} address
 */
function placeOf(address) {
  let place = places.get(address);
  if (place === undefined) {
    if (places.size >= MAX_PLACES) places.clear();
    place = address.replace(/[0-9a-f]+/gi, (digits) => digits.padStart(5, '0'));
    places.set(address, place);
  }
  return place;
}

/** @type {Record<Column, (row: Row) => string | number | null | undefined>} */
const SORT_KEYS = {
  state: (row) => stateRank(row.state),
  address: (row) => row.place,
  source: (row) => sourceOf(row.backend),
  weight: (row) => row.backend.weight,
  gpu: (row) => row.backend.gpu_usage,
  vram: (row) => row.backend.vram_usage,
  sessions: (row) => row.seen && row.seen.sessions_active + row.seen.flows_active,
  rate: (row) => rateOf(row.key),
  latency: (row) => row.seen?.first_byte_latency_us,
  errors: (row) => errorsOf(row.seen),
  seen: (row) => row.backend.last_seen,
};

/**
 * What is not known stands as -1, less than any number.
 * @param {string | number} a
 * @param {string | number} b
 */
function compare(a, b) {
  return a === b ? 0 : a < b ? -1 : 1;
}
