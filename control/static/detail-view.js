/**
 * @file What the side panel shows of one backend: built once, then only what changed is written, as
 * the stream goes on.
 */

import { serverNow } from './api.js';
import { detailText } from './audit-line.js';
import { actionText, resultText } from './audit-words.js';
import { Controls } from './controls.js';
import { costFactors, costParts, costText, rankOf } from './cost.js';
import { element, setText, writeChildren } from './dom.js';
import * as format from './format.js';
import { words } from './i18n.js';
import { showMarks } from './protocols.js';
import * as trace from './provenance.js';
import { sourceOf } from './rows.js';
import { drawVram, guardLine, sparkline } from './sparkline.js';
import { beforeText } from './state-cause.js';
import { probeText, reasonsText } from './state-reasons.js';
import { shapeIcon, shapeOf, stateText, takesTraffic } from './state.js';
import { takeOff } from './static-list.js';
import { tip } from './tooltip.js';
import { rateOf } from './traffic.js';
import { VRAM_GUARDS, setFill, usageBar, usageText, vramGuard, writeBar } from './usage.js';
import { endText } from './verdict.js';

/** @typedef {import('./rows.js').Row} Row */
/** @typedef {import('./shapes.js').Detail} Detail */
/** @typedef {[name: string, value: string, why?: string]} Fact */

/** Stands where an answer is still to come, unlike the dash, which is one. */
const ASKING = '…';

export class DetailView {
  /**
   * @param {Row} row
   * @param {() => void} close
   */
  constructor(row, close) {
    this.row = row;
    const told = words().side;
    this.shape = element('span', { class: 'shape-place' });
    this.state = element('p', { class: 'side-state' });
    this.reason = element('p', { class: 'side-reason' });
    this.source = element('span', { class: 'faint' });
    this.controls = new Controls(() => this.row.backend);
    this.gpu = tip(usageBar(), () => trace.reportedText(this.row, usageText(words().gpuMean, this.row.backend.gpu_usage)));
    this.vram = tip(usageBar(), () => trace.reportedText(this.row, usageText(words().vramMean, this.row.backend.vram_usage)));
    this.line = sparkline();
    this.line.append(...VRAM_GUARDS.map(([share]) => guardLine(share)));
    this.layers = element('dl', { class: 'side-facts layers' });
    this.weightWhy = element('p', { class: 'faint' });
    this.costSection = section(told.cost);
    this.costRank = element('p');
    this.costParts = element('ul', { class: 'cost' });
    this.costFactors = element('ul', { class: 'cost' });
    this.traffic = element('dl', { class: 'side-facts' });
    this.failures = element('dl', { class: 'side-facts' });
    this.health = element('dl', { class: 'side-facts' });
    this.before = element('p', { class: 'side-before' });
    this.history = element('ol', { class: 'side-list' });
    this.edits = element('ol', { class: 'side-list' });
    this.noEdits = element('p', { class: 'faint' }, told.noEdits);

    this.takeOff = element(
      'button',
      { type: 'button', class: 'quiet small', 'data-needs': 'write', onclick: () => takeOff(this.row.key) },
      told.takeOff,
    );
    const { weight, enabled, drain, clear, ping } = this.controls;
    this.costSection.append(
      this.costRank,
      this.costParts,
      element('h4', {}, told.factors),
      this.costFactors,
    );
    this.elements = [
      sideHead(this.shape, row.key, close),
      element('div', { class: 'side-section side-standing' }, this.state, this.reason, this.before, this.source),
      element('div', { class: 'side-section side-controls' }, weight.element, enabled, drain, ping, clear, this.takeOff),
      section(told.weight, this.layers, this.weightWhy),
      section(
        told.usage,
        element('div', { class: 'side-usage' }, words().gpuMean, this.gpu, words().vramMean, this.vram),
        this.line,
        element('p', { class: 'faint' }, told.guards),
      ),
      this.costSection,
      section(told.traffic, this.traffic),
      section(words().cost.failures, this.failures),
      section(told.health, this.health),
      section(told.history, this.history),
      section(told.edits, this.noEdits, this.edits),
    ];
  }

  /**
   * @param {Row} row
   * @param {Row[]} rows all of them
   * @param {Detail | null} detail null until it has been read
   */
  update(row, rows, detail) {
    this.row = row;
    this.#writeState();
    this.controls.update(row);
    setText(this.controls.clear, words().clearOverride);
    this.takeOff.hidden = !row.backend.sources?.includes('static');
    this.#writeUsage();
    setText(this.before, takesTraffic(row.state, row.backend.weight) ? '' : beforeText(detail));
    this.#writeLayers(detail);
    this.#writeCost(rows);
    writeFacts(this.traffic, trafficFacts(row));
    writeFacts(this.failures, failureFacts(row));
    writeFacts(this.health, healthFacts(row));
    writeChildren(this.history, detail?.history ?? [], stateLine, writeStateLine);
    writeChildren(this.edits, detail?.edits ?? [], editLine, writeEditLine);
    this.noEdits.hidden = detail === null || detail.edits.length > 0;
  }

  #writeState() {
    const { state, backend } = this.row;
    showMarks(this.shape, this.row);
    setText(this.state, stateText(state));
    setText(this.reason, state.reason);
    setText(this.source, `${words().source(sourceOf(backend))}: ${trace.heartbeatText(this.row)}`);
  }

  #writeUsage() {
    const { backend, key } = this.row;
    writeBar(this.gpu, words().gpuMean, backend.gpu_usage);
    writeBar(this.vram, words().vramMean, backend.vram_usage, vramGuard(backend.vram_usage));
    drawVram(this.line, key, Date.now());
  }

  /** @param {Detail | null} detail */
  #writeLayers(detail) {
    const { backend, seen } = this.row;
    const told = words().side;
    const { override = null, registration = null, static: listed = null, discovery = null } = detail?.layers ?? {};
    const isListed = listed !== null || discovery !== null;
    const counts = registration?.is_expired === true && isListed ? null : registration;
    const said = Object.entries({ override, registration: counts, static: listed, discovery });
    const winner = said.find(([, layer]) => format.isNumber(layer?.weight))?.[0];
    /** @type {Fact[]} */
    const facts = Object.entries({ override, registration, static: listed, discovery }).map(([name, layer]) => {
      const layerName = /** @type {'override' | 'registration' | 'static' | 'discovery'} */ (name);
      const isExpired = layer?.is_expired === true ? told.layerExpired : '';
      const why = detail !== null && name === winner ? told.inForce : isExpired;
      return [told.layer[layerName], detail === null ? ASKING : format.countText(layer?.weight), why];
    });
    facts.push([told.configured, format.countText(backend.weight)]);
    facts.push([told.effective, format.countText(seen?.weight_effective)]);
    writeFacts(this.layers, facts);
    setText(this.weightWhy, trace.weightReason(this.row));
  }

  /** @param {Row[]} rows */
  #writeCost(rows) {
    const cost = this.row.backend.cost ?? null;
    this.costSection.hidden = cost === null;
    if (cost === null) return;
    const all = rows.flatMap(({ backend }) => (backend.cost ? [backend.cost] : []));
    const { rank, count } = rankOf(cost, all);
    setText(this.costRank, words().cost.rank(costText(cost.total), rank, count));
    writeChildren(this.costParts, costParts(cost), costLine, writeCostLine);
    writeChildren(this.costFactors, costFactors(cost), costLine, writeCostLine);
  }
}

/** @param {Row} row @returns {Fact[]} */
function trafficFacts({ backend, seen, key }) {
  const told = words().side;
  return [
    [told.sessionsNow, format.countText(seen?.sessions_active)],
    [told.flowsNow, format.countText(seen?.flows_active)],
    [told.rate, format.rateText(rateOf(key))],
    [told.sessionsTotal, format.countText(seen?.sessions_total)],
    [told.flowsTotal, format.countText(seen?.flows_total)],
    [told.bytesUp, format.byteText(seen?.bytes_up)],
    [told.bytesDown, format.byteText(seen?.bytes_down)],
    [told.connect, format.latencyText(seen?.connect_latency_us)],
    [told.firstByte, format.latencyText(seen?.first_byte_latency_us)],
    [told.queue, format.countText(backend.queue)],
    [told.running, format.countText(backend.running)],
    [told.maxBatch, format.countText(backend.max_batch)],
  ];
}

/**
 * Each reason with its count since the proxy started, those that have not occurred too, so that the first
 * one moves nothing.
 * @param {Row} row
 * @returns {Fact[]}
 */
function failureFacts({ seen }) {
  const told = words().side;
  if (seen === null) return [];
  const sessions = { ...NO_FAILURES, ...seen.sessions_failed };
  const flows = seen.flows_failed?.refused ?? 0;
  return [
    // The proxy counts refused flows among them.
    [told.refused, format.countText(seen.connect_failures - flows)],
    [told.timedOut, format.countText(seen.connect_timeouts)],
    ...Object.entries(sessions).map(([reason, count]) => /** @type {Fact} */ ([endText(reason, 'session'), format.countText(count)])),
    [words().ofReason(words().flows, endText('refused', 'flow')), format.countText(flows)],
    [words().ofReason(words().flows, endText('unanswered', 'flow')), format.countText(seen.flows_failed?.unanswered ?? 0)],
  ];
}

/** The order in which they are shown. */
const NO_FAILURES = { backend_closed_unanswered: 0, backend_reset: 0, backend_lost: 0, backend_stalled: 0 };

/** @param {Row} row @returns {Fact[]} */
function healthFacts({ seen }) {
  const told = words().side;
  const at = seen?.probed_at_ms;
  const probed = format.isNumber(at) ? told.ago(format.ageText(serverNow() - at)) : told.noProbe;
  const { operational } = words();
  /** @type {Fact[]} */
  const facts = [
    ...(seen?.tcp ? [/** @type {Fact} */ (['TCP', operational[seen.tcp]])] : []),
    ...(seen?.udp ? [/** @type {Fact} */ (['UDP', operational[seen.udp]])] : []),
    [told.probed, probed, probeText(seen)],
    [told.probeTook, format.latencyText(seen?.probe_latency_us)],
    [told.probes, format.countText(seen?.probes_total)],
    [told.probesFailed, format.countText(seen?.probe_failures_total)],
    [told.failedInRow, format.countText(seen?.session_failures_in_row)],
    [told.ejections, format.countText(seen?.ejections_total)],
    [told.slowStart, format.percentText(seen?.slow_start)],
  ];
  const left = seen?.ejected_for_ms;
  if (format.isNumber(left) && left > 0) facts.push([told.ejectedFor, format.spanText(left / 1000)]);
  return facts;
}

/**
 * @param {Element} shape of the state
 * @param {string} key
 * @param {() => void} close
 */
export function sideHead(shape, key, close) {
  return element(
    'header',
    { class: 'side-head' },
    shape,
    element('h2', { id: 'side-title', class: 'mono', tabindex: -1 }, key),
    element('button', { type: 'button', class: 'quiet', 'aria-label': words().close, onclick: close }, '×'),
  );
}

/**
 * @param {string} title
 * @param {...Node} children
 */
export function section(title, ...children) {
  return element('section', { class: 'side-section' }, element('h3', {}, title), ...children);
}

/**
 * @param {HTMLDListElement} list
 * @param {Fact[]} facts
 */
function writeFacts(list, facts) {
  const make = () => element('div', {}, element('dt'), element('dd'), element('dd', { class: 'faint' }));
  writeChildren(list, facts, make, (line, [name, value, why = '']) => writeTexts(line, [name, value, why]));
}

/**
 * Each text into the child at its place.
 * @param {Element} parent
 * @param {string[]} texts
 */
function writeTexts(parent, texts) {
  for (const [at, text] of texts.entries()) {
    const child = parent.children[at];
    if (child !== undefined) setText(child, text);
  }
}

function costLine() {
  const track = element('span', { class: 'usage-track' }, element('span', { class: 'usage-fill' }));
  return element('li', {}, element('span'), track, element('span', { class: 'number' }), element('span', { class: 'faint' }));
}

/**
 * @param {Element} line
 * @param {import('./cost.js').CostLine} cost
 */
function writeCostLine(line, { name, share, value, words: text }) {
  const [label, track, number, why] = line.children;
  setFill(track?.firstElementChild ?? null, share);
  for (const [target, said] of /** @type {const} */ ([[label, name], [number, value], [why, text]])) {
    if (target !== undefined) setText(target, said);
  }
}

export function stateLine() {
  const shape = element('span', { class: 'shape-place' });
  return element('li', {}, shape, element('strong'), element('time', { class: 'faint' }), element('span', { class: 'faint' }));
}

/**
 * @param {HTMLElement} line
 * @param {import('./shapes.js').Transition} transition
 */
export function writeStateLine(line, { at_ms: at, admin, operational, reason, reasons }) {
  const state = { admin, operational, reason };
  const shape = shapeOf(state);
  if (line.dataset.shape !== shape) {
    line.dataset.shape = shape;
    line.firstElementChild?.replaceChildren(shapeIcon(shape));
  }
  const [, word, time, why] = line.children;
  if (word !== undefined) setText(word, stateText(state));
  if (time !== undefined) setText(time, words().side.since(format.dateTimeText(at)));
  if (why !== undefined) setText(why, reasonsText({ reason, reasons }));
}

export function editLine() {
  const names = ['audit-action', 'audit-actor', 'faint', 'faint', 'audit-detail'];
  return element('li', {}, ...names.map((name) => element('span', { class: name })));
}

/**
 * @param {Element} line
 * @param {import('./audit-line.js').Entry} entry
 */
export function writeEditLine(line, entry) {
  const when = new Date(String(entry.time ?? ''));
  const time = Number.isNaN(when.getTime()) ? String(entry.time ?? '') : format.dateTimeText(when);
  writeTexts(line, [
    actionText(entry),
    String(entry.actor ?? ''),
    time,
    resultText(entry),
    detailText(entry),
  ]);
}
