/**
 * @file The console's entry: binds the parts, listens to the control plane, and hands what it
 * says to the parts that show it. State lives in the parts; here is only the last answer.
 */

import * as api from './api.js';
import { apply, knowWhole, mustAsk, propose, review, startApply } from './apply.js';
import { reportRefresh, settleUnanswered, startChanges, syncNow, takeBackAny } from './changes.js';
import { connectionFailed, connectionIsGood, showConnection } from './connection.js';
import { startDiffDialog } from './diff-dialog.js';
import { startDock } from './dock.js';
import { byId, setText } from './dom.js';
import { recordFailures } from './failures.js';
import { startFeed } from './feed.js';
import { dateTimeText } from './format.js';
import { record } from './history.js';
import { onLanguage, startLanguage, words } from './i18n.js';
import { openHelp, startKeys } from './keys.js';
import { oneAtATime } from './one-at-a-time.js';
import { commandsOfPage, goTo, preloadPages, rowsOfPage, startPages, toggleRail, updatePage } from './pages.js';
import { guarded, startMay } from './permissions.js';
import { knowTargets, openPing, startPing } from './ping.js';
import { startReports, undoNewest } from './report.js';
import { recordVram } from './sparkline.js';
import { knowTtl } from './state.js';
import { startDrafts } from './storage.js';
import { startTheme } from './theme.js';
import { startTips } from './tooltip.js';
import { proxyOf, showProxy, showWarnings, startBar } from './top-bar.js';
import { recordTraffic } from './traffic.js';

/** @type {import('./shapes.js').WholeAnswer | null} */
let latest = null;

/** Reads everything anew: at the start, when asked to, and after each change. */
async function look() {
  try {
    take(await api.readWhole());
  } catch (error) {
    connectionFailed(error);
  }
}

/** Where the stream cannot be read, the page shows at least what stands now. @param {api.CallError} problem */
function streamFailed(problem) {
  connectionFailed(problem);
  if (latest === null) void look();
}

/**
 * News from the stream may have been made before what a look has brought.
 * @param {import('./shapes.js').WholeAnswer} whole
 */
function take(whole) {
  if (latest !== null && isOlder(whole.etag, latest.etag)) return;
  if (latest === null) void preloadPages();
  latest = whole;
  connectionIsGood();
  const now = Date.now();
  knowTtl(whole.status.ttl_ms);
  record(whole.status.proxy, whole.backends, whole.status.at_ms, whole.status.failures);
  recordVram(whole.backends, now);
  recordTraffic(whole);
  recordFailures(whole);
  knowTargets(whole.backends);
  settleUnanswered(whole.backends);
  knowWhole(whole);
  show();
}

/**
 * @param {string} etag `"start-edits"`
 * @param {string} than
 */
function isOlder(etag, than) {
  const [start, edits] = etag.split('-');
  const [thanStart, thanEdits] = than.split('-');
  return start === thanStart && parseInt(edits ?? '', 10) < parseInt(thanEdits ?? '', 10);
}

function show() {
  if (latest === null) {
    showProxy(null);
    return;
  }
  // First, since it asks where the page is scrolled to, which costs a layout once anything is written.
  updatePage(latest);
  showProxy(proxyOf(latest), latest.status.verdict);
  showWarnings(latest.status);
}

function everySecond() {
  showConnection();
  if (latest !== null) showProxy(proxyOf(latest), latest.status.verdict);
  setText(byId('clock', HTMLElement), dateTimeText(Date.now()));
}

function start() {
  startTheme();
  startLanguage();
  startDrafts();
  startReports(takeBackAny);
  startDock();
  startBar();
  startTips();
  startPing();
  startDiffDialog();
  byId('add-backend', HTMLButtonElement).addEventListener('click', () => void openAdd());
  const lookNow = oneAtATime(look);
  startChanges(lookNow, { mustAsk, propose });
  const readNow = async () => {
    await lookNow();
    return document.documentElement.dataset.connection === 'none' ? latest : null;
  };
  startApply(readNow);

  const refresh = async () => {
    const whole = await readNow();
    if (whole !== null) reportRefresh(whole.backends.length);
  };
  const actions = { ...changing(), refresh, palette: () => void showPalette(refresh) };
  byId('refresh', HTMLButtonElement).addEventListener('click', refresh);
  byId('open-ping', HTMLButtonElement).addEventListener('click', actions.ping);
  byId('sync', HTMLButtonElement).addEventListener('click', actions.sync);
  byId('view-audit', HTMLButtonElement).addEventListener('click', () => goTo('changes'));
  byId('open-palette', HTMLButtonElement).addEventListener('click', actions.palette);
  startKeys(actions);
  startPages();
  onLanguage(() => {
    show();
    everySecond();
  });
  setInterval(everySecond, 1000);
  void startMay();
  show();
  everySecond();
  startFeed({ onWhole: take, onProblem: streamFailed, shownRows: rowsOfPage });
}

/** What keys and palette do that not everybody may. */
function changing() {
  return {
    ping: guarded('write', () => words().pingTool, () => openPing()),
    add: guarded('write', () => words().addBackend, openAdd),
    sync: guarded('write', () => words().sync, syncNow),
    apply: guarded('write', () => words().command.apply, apply),
    undo: guarded('write', () => words().undo, undoNewest),
  };
}

async function openAdd() {
  (await import('./static-list.js')).openAdd();
}

/**
 * The palette with what can be done now; it is loaded when it is first asked for.
 * @param {() => void} refresh
 */
async function showPalette(refresh) {
  const backends = latest?.backends ?? [];
  const { command } = words();
  const algorithm = latest?.status.proxy?.algorithm;
  const can = changing();
  const actions = [
    ...commandsOfPage(),
    { text: words().refresh, hint: 'r', act: refresh },
    { text: words().sync, hint: 's', act: can.sync },
    { text: words().pingTool, hint: 'p', act: can.ping },
    { text: words().addBackend, act: can.add },
    { text: words().help, hint: '?', act: openHelp },
    { text: words().undo, hint: 'u', act: can.undo },
    { text: command.apply, hint: 'Ctrl Enter', act: can.apply },
    { text: command.review, act: review },
    { text: command.rail, hint: '[', act: toggleRail },
    ...Object.entries(command.theme).map(([value, text]) => ({ text, act: () => press('theme', value) })),
    ...Object.entries(command.language).map(([value, text]) => ({ text, act: () => press('language', value) })),
    ...Object.keys(words().algorithmMeaning)
      .filter((name) => name !== algorithm)
      .map((name) => {
        const what = () => words().algorithmChange(name);
        return { text: what(), act: guarded('admin', what, () => chooseAlgorithm(name)) };
      }),
  ];
  // What is typed while it is loading goes into its field.
  const dialog = byId('palette', HTMLDialogElement);
  byId('palette-field', HTMLInputElement).value = '';
  dialog.showModal();
  try {
    const { fillPalette } = await import('./palette.js');
    fillPalette(actions, backends);
  } catch {
    dialog.close();
    connectionFailed(new api.CallError('away', ''));
  }
}

/** @param {string} name */
async function chooseAlgorithm(name) {
  const { changeAlgorithm } = await import('./settings-change.js');
  await changeAlgorithm(name);
}

/**
 * Chooses one of the radio buttons of the top bar.
 * @param {string} name
 * @param {string} value
 */
function press(name, value) {
  const radio = document.querySelector(`input[name="${name}"][value="${value}"]`);
  if (radio instanceof HTMLInputElement) radio.click();
}

start();
