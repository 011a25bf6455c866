/**
 * @file Which rows the table has and in what order: filtering, sorting. Pure;
 * nothing here touches the page.
 */

import { words } from './i18n.js';
import { stateOf, stateRank, stateText } from './state.js';

/** @typedef {import('./api.js').Backend} Backend */
/** @typedef {import('./api.js').SeenBackend} SeenBackend */

/**
 * @typedef {object} Row
 * @property {string} key the address, which is the backend's identity
 * @property {Backend} backend
 * @property {SeenBackend | null} seen null where the proxy says nothing of it
 * @property {import('./state.js').State} state
 */

/** @typedef {'state' | 'address' | 'source' | 'weight' | 'gpu' | 'vram' | 'sessions' | 'latency' | 'seen'} Column */
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
  'latency',
  'seen',
];

/**
 * @param {Backend[]} backends
 * @returns {Row[]}
 */
export function rowsOf(backends) {
  return backends.map((backend) => {
    const seen = backend.proxy;
    return { key: backend.id, backend, seen, state: stateOf(backend, seen) };
  });
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
 * Equal rows stand by address, so that an order is always whole and rows never swap for nothing.
 * @param {Row[]} rows
 * @param {Order} order
 */
export function sortRows(rows, { column, descending }) {
  const keyOf = SORT_KEYS[column];
  const sign = descending ? -1 : 1;
  const keyed = rows.map((row) => ({ row, key: keyOf(row) ?? -1, address: addressKey(row.key) }));
  keyed.sort((left, right) => {
    const byKey = compare(left.key, right.key);
    return byKey === 0 ? compare(left.address, right.address) : sign * byKey;
  });
  return keyed.map(({ row }) => row);
}

/** @type {Map<string, string>} */
const addressKeys = new Map();
/** Bounds the memory of addresses that have come and gone. */
const MAX_KEYS = 50_000;

/**
 * The address with its numbers of one width, so that comparing text compares numbers: a collator
 * takes longer over 3,000 rows than a frame.
 * @param {string} address
 */
function addressKey(address) {
  let key = addressKeys.get(address);
  if (key === undefined) {
    if (addressKeys.size >= MAX_KEYS) addressKeys.clear();
    key = String(address).replace(/[0-9a-f]+/gi, (digits) => digits.padStart(5, '0'));
    addressKeys.set(address, key);
  }
  return key;
}

/** @type {Record<Column, (row: Row) => string | number | null | undefined>} */
const SORT_KEYS = {
  state: (row) => stateRank(row.state),
  address: (row) => addressKey(row.key),
  source: (row) => sourceOf(row.backend),
  weight: (row) => row.backend.weight,
  gpu: (row) => row.backend.gpu_usage,
  vram: (row) => row.backend.vram_usage,
  sessions: (row) => row.seen?.sessions_active,
  latency: (row) => row.seen?.first_byte_latency_us,
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
