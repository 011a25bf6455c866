/**
 * @file Everything that the person can change. Each change is one call, one line in the status area,
 * and a fresh look at the table; what a click or a key does is in the modules that call this one.
 */

import * as api from './api.js';
import { words, wordsOf } from './i18n.js';
import { refusalReason } from './incidents.js';
import { addReport, outcomeKnown } from './report.js';

/** @typedef {import('./shapes.js').Backend} Backend */
/** @typedef {import('./shapes.js').Edit} Edit */
/** @typedef {import('./report.js').Outcome} Outcome */
/** @typedef {import('./report.js').Undo} Undo */
/** @typedef {import('./i18n.js').Said} Said */

/** @type {() => Promise<void>} */
let look = async () => {};
/**
 * Edits whose answer never came, for a while: what stands says what became of them. The server may still be
 * about to make them, so that they are not in force is not the last word.
 * @type {{edits: Edit[], until: number, isInForce: boolean | null}[]}
 */
let unanswered = [];
const UNANSWERED_MS = 60_000;
/** What asks first before a large change. @type {Pick<typeof import('./apply.js'), 'mustAsk' | 'propose'>} */
let asking = { mustAsk: () => false, propose: async () => {} };

/**
 * @param {() => Promise<void>} lookNow brings the table up to date
 * @param {typeof asking} asks
 */
export function startChanges(lookNow, asks) {
  look = lookNow;
  asking = asks;
}

/**
 * @param {Backend} backend as it was before
 * @param {number} weight
 * @returns {Promise<() => Outcome>}
 */
export function changeWeight(backend, weight) {
  const address = backend.id;
  const before = backend.weight;
  /** @type {Said} */
  const what = ['weightChange', address, before, weight];
  return change(what, () => api.setWeight(backend, weight), undoOf(what, backend, { weight }));
}

/**
 * @param {Backend} backend as it was before
 * @param {boolean} enabled
 * @returns {Promise<() => Outcome>}
 */
export function changeEnabled(backend, enabled) {
  const address = backend.id;
  /** @type {Said} */
  const what = [enabled ? 'enableChange' : 'disableChange', address];
  return change(what, () => api.setEnabled(backend, enabled), undoOf(what, backend, { enabled }));
}

/**
 * @param {Backend} backend as it was before
 * @param {boolean} drain
 * @returns {Promise<() => Outcome>}
 */
export function changeDrain(backend, drain) {
  const address = backend.id;
  /** @type {Said} */
  const what = [drain ? 'drainChange' : 'undrainChange', address];
  // Nobody but an operator drains, so the end of it is no word of its own: the override goes.
  const end = async () => ({ sync: (await api.change([{ id: backend.id, drain: null }], '*')).sync });
  return change(what, drain ? () => api.setDrain(backend, true) : end, undoOf(what, backend, { drain: drain ? true : null }));
}

/** @param {Backend} backend as it was before */
export function clearOverride(backend) {
  const address = backend.id;
  /** @type {Said} */
  const what = ['overrideCleared', address];
  const all = { weight: null, enabled: null, drain: null };
  return change(what, () => api.clearOverride(backend), undoOf(what, backend, all));
}

/**
 * Many edits as one change; undoing them is one too.
 * @param {Edit[]} edits
 * @param {string} etag that they were made on
 * @param {string} note why; empty: none
 * @returns {Promise<'done' | 'stale' | (() => Outcome)>} why not, where it failed
 */
export async function changeAll(edits, etag, note) {
  /** @type {Said} */
  const what = ['changedBackends', new Set(edits.map(({ id }) => id)).size];
  try {
    await send(what, edits.map(asSent), etag, note);
    return 'done';
  } catch (error) {
    if (error instanceof api.CallError && error.kind === 'stale') return 'stale';
    return reportFailure(what, error, edits.map(asSent));
  }
}

/**
 * @param {Said} said
 * @param {unknown} error
 * @param {Edit[]} edits that it came of; none: another kind of change
 * @returns {() => Outcome}
 */
function reportFailure(said, error, edits) {
  const failed = failureOutcome(error);
  const sent = { edits, until: Date.now() + UNANSWERED_MS, isInForce: /** @type {boolean | null} */ (null) };
  if (failed.isUnknown && edits.length > 0) unanswered.push(sent);
  /** @returns {Outcome} */
  const outcome = () => {
    if (sent.isInForce === null) return failureOutcome(error);
    return sent.isInForce ? { level: 'good', text: words().inForceUnanswered } : { level: 'warn', text: words().notInForce };
  };
  addReport({ what: () => wordsOf(said), outcome, info: '', undo: null });
  return outcome;
}

/** @param {Backend[]} backends as they stand now */
export function settleUnanswered(backends) {
  if (unanswered.length === 0) return;
  const known = new Map(backends.map((backend) => [backend.id, backend]));
  for (const sent of unanswered) sent.isInForce = sent.edits.every((edit) => stands(edit, known.get(edit.id)));
  unanswered = unanswered.filter(({ isInForce, until }) => !isInForce && until > Date.now());
  outcomeKnown();
}

/**
 * What waited and was made by somebody else meanwhile.
 * @param {number} count backends
 */
export function reportSettled(count) {
  addReport({
    what: () => words().changedBackends(count),
    outcome: () => ({ level: 'good', text: words().madeByOthers }),
    info: '',
    undo: null,
  });
}

/** The end of a drain leaves no override behind. @param {Edit} edit @returns {Edit} */
function asSent(edit) {
  return edit.drain === false ? { ...edit, drain: null } : edit;
}

/**
 * @param {Said} what
 * @param {Edit[]} edits
 * @param {string} etag
 * @param {string} [note] why
 */
async function send(what, edits, etag, note = '') {
  const { sync, undo: back } = await api.change(edits, etag, note);
  const outcome = () => syncOutcome(sync);
  const undo = back.length === 0 ? null : /** @type {const} */ ({ kind: 'edits', what, made: edits, back });
  addReport({ what: () => wordsOf(what), outcome, info: syncInfo(sync), undo });
  await look();
}

/** Lets the mass expiry happen that the control plane holds back. */
export async function acknowledgeExpiry() {
  await change(['acknowledgeExpiry'], api.acknowledgeExpiry);
}

/** The manual sync: merge, publish, signal. */
export async function syncNow() {
  await change(
    ['sync'],
    async () => ({ sync: await api.sync() }),
  );
}

/**
 * What reading all anew brought.
 * @param {number} count backends
 */
export function reportRefresh(count) {
  addReport({
    what: () => words().refresh,
    outcome: () => ({ level: 'good', text: words().refreshed(count) }),
    info: '',
    undo: null,
  });
}

/**
 * What undoes an edit of one backend: each part that it set is what the override said before, or is
 * given back where it said nothing.
 * @param {Said} what
 * @param {Backend} backend as it was before
 * @param {Omit<Edit, 'id'>} made
 * @returns {Undo}
 */
function undoOf(what, { id, override }, made) {
  const parts = /** @type {(keyof typeof made)[]} */ (Object.keys(made));
  const back = Object.fromEntries(parts.map((part) => [part, override?.[part] ?? null]));
  return { kind: 'edits', what, made: [{ id, ...made }], back: [{ id, ...back }] };
}

/**
 * Takes a change back; what the other kinds need is loaded when it is first asked for.
 * @param {Undo} undo
 */
export async function takeBackAny({ kind, what, made, back }) {
  switch (kind) {
    case 'edits':
      return takeBack(what, made, back);
    case 'settings':
      return (await import('./settings-change.js')).takeBack(what, made, back);
    case 'static':
      return (await import('./static-list.js')).takeBack(what, made, back);
  }
}

/**
 * Undoes a change, unless somebody has edited the same meanwhile: their edit is not ours to take back.
 * @param {Said} what was done
 * @param {Edit[]} made
 * @param {Edit[]} back
 */
async function takeBack(what, made, back) {
  /** @type {Said} */
  const said = ['undoing', what];
  const told = () => wordsOf(said);
  try {
    const { backends, etag } = await api.readWhole();
    const known = new Map(backends.map((backend) => [backend.id, backend]));
    const overtaken = made.filter((edit) => !stands(edit, known.get(edit.id)));
    if (overtaken.length === 0) {
      if (asking.mustAsk(back, backends)) {
        await asking.propose(back, backends);
        return 'asked';
      }
      return await send(said, back, etag);
    }
    const ids = overtaken.map(({ id }) => id).join(', ');
    addReport({ what: told, outcome: () => ({ level: 'bad', text: words().undoOvertaken(ids) }), info: '', undo: null });
  } catch (error) {
    addReport({ what: told, outcome: () => failureOutcome(error), info: '', undo: null });
  }
}

/**
 * Whether an edit is still what stands.
 * @param {Edit} edit
 * @param {Backend | undefined} backend
 */
function stands({ id: _, ...parts }, backend) {
  const override = backend?.override;
  return Object.entries(parts).every(([part, value]) => {
    return (override?.[/** @type {keyof import('./shapes.js').Override} */ (part)] ?? null) === value;
  });
}

/**
 * One call, told in the status area.
 * @param {Said} said
 * @param {() => Promise<{sync: import('./shapes.js').Sync, undo?: Undo | null}>} call which may find out what undoes it
 * @param {Undo | null} [known] what undoes it, where that is known before
 * @returns {Promise<() => Outcome>}
 */
export async function change(said, call, known = null) {
  const what = () => wordsOf(said);
  try {
    const { sync, undo = known } = await call();
    const outcome = () => syncOutcome(sync);
    addReport({ what, outcome, info: syncInfo(sync), undo });
    return outcome;
  } catch (error) {
    return reportFailure(said, error, known?.kind === 'edits' ? known.made : []);
  } finally {
    await look();
  }
}

/**
 * @param {import('./shapes.js').Sync} sync
 * @returns {Outcome}
 */
function syncOutcome({ ok, reason, reload }) {
  if (!ok) return { level: 'bad', text: words().notPublished(reason) };
  if (reload.ok === null && reload.applied === false) return { level: 'warn', text: words().notApplied };
  if (reload.ok === null) return { level: 'good', text: words().noReload };
  return reloadOutcome({ ...reload, signalled: reload.ok });
}

/**
 * What became of one signal to the proxy.
 * @param {{signalled: boolean, applied?: boolean | null, applied_in_ms?: number | null}} reload
 * @returns {Outcome}
 */
export function reloadOutcome({ signalled, applied, applied_in_ms: milliseconds }) {
  if (!signalled) return { level: 'warn', text: words().notSignalled };
  if (applied === true) return { level: 'good', text: words().appliedIn(milliseconds ?? null) };
  if (applied === false) return { level: 'warn', text: words().notConfirmed };
  return { level: 'good', text: words().signalled };
}

/** @param {import('./shapes.js').Sync} sync */
function syncInfo({ reload, merged_count: count }) {
  const parts = [reload.info];
  if (reload.reason && reload.reason !== reload.info) parts.push(reload.reason);
  if (typeof reload.generation === 'number') parts.push(words().generation(reload.generation));
  if (typeof count === 'number') parts.push(words().mergedCount(count));
  return parts.join(' · ');
}

/**
 * @param {unknown} error
 * @returns {Outcome}
 */
export function failureOutcome(error) {
  if (!(error instanceof api.CallError)) throw error;
  switch (error.kind) {
    case 'away':
      return { level: 'bad', text: words().failedAway, isUnknown: true };
    case 'forbidden':
      return { level: 'bad', text: words().failedForbidden(error.message) };
    case 'stale':
    case 'refused':
      if (error.refusals.length > 0) {
        const reasons = error.refusals.map((refusal) => refusalReason(refusal)).join(' ');
        return { level: 'bad', text: words().rolledBack(reasons) };
      }
      return { level: 'bad', text: words().failed(error.message) };
  }
}
