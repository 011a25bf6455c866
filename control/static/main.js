/**
 * @file The console's entry: binds the parts, listens to the control plane, and hands what it
 * says to the parts that show it. State lives in the parts; here is only the last answer.
 */

import * as api from './api.js';
import { apply, knowEtag, startApply } from './apply.js';
import { reportRefresh, startChanges, syncNow } from './changes.js';
import { connectionFailed, connectionIsGood, showConnection, startConnection } from './connection.js';
import { startCharts } from './charts.js';
import { byId, setText } from './dom.js';
import { startFeed } from './feed.js';
import { dateTimeText } from './format.js';
import { record } from './history.js';
import { onLanguage, startLanguage } from './i18n.js';
import { startKeys } from './keys.js';
import { showProxy, showWarnings, startOverview } from './overview.js';
import { goTo, startPages, updatePage } from './pages.js';
import { knowTargets, openPing, startPing } from './ping.js';
import { oneAtATime } from './once.js';
import { startReports, undoNewest } from './report.js';
import { knowBackends, startSelection } from './selection.js';
import { onStaged } from './staged.js';
import { recordVram } from './sparkline.js';
import { rewriteChoices, startTable, visibleKeys } from './table.js';
import { startTheme } from './theme.js';
import { startTips } from './tip.js';
import { recordTraffic } from './traffic.js';

/** @type {api.WholeAnswer | null} */
let latest = null;

/** Reads everything anew: at the start, when asked to, and after each change. */
async function look() {
  try {
    take(await api.readWhole());
  } catch (error) {
    connectionFailed(error);
  }
}

/**
 * News from the stream may have been made before what a look has brought.
 * @param {api.WholeAnswer} whole
 */
function take(whole) {
  if (latest !== null && isOlder(whole.etag, latest.etag)) return;
  latest = whole;
  connectionIsGood();
  const now = Date.now();
  record(whole.status.proxy, whole.backends, whole.status.at_ms);
  recordVram(whole.backends, now);
  recordTraffic(whole);
  knowTargets(whole.backends);
  knowBackends(whole.backends);
  knowEtag(whole.etag);
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

/** @param {api.WholeAnswer} whole @returns {api.ProxyAnswer} */
function proxyOf({ status }) {
  return { ...status, status: status.proxy };
}

function show() {
  if (latest === null) {
    showProxy(null);
    return;
  }
  showProxy(proxyOf(latest));
  showWarnings(latest.status);
  updatePage(latest);
}

function everySecond() {
  showConnection();
  if (latest !== null) showProxy(proxyOf(latest));
  setText(byId('clock', HTMLElement), dateTimeText(Date.now()));
}

function start() {
  startTheme();
  startLanguage();
  startReports();
  startOverview();
  startCharts();
  startTable();
  startTips();
  startPing();
  const lookNow = oneAtATime(look);
  startChanges(lookNow);
  startConnection(lookNow);
  startSelection(rewriteChoices, visibleKeys);
  startApply(async () => {
    await lookNow();
    return latest;
  });
  onStaged(rewriteChoices);

  const refresh = async () => {
    await lookNow();
    if (latest !== null && document.documentElement.dataset.connection === 'none') {
      reportRefresh(latest.backends.length);
    }
  };
  const actions = { refresh, ping: () => openPing(), sync: syncNow, apply: () => void apply(), undo: undoNewest };
  byId('refresh', HTMLButtonElement).addEventListener('click', refresh);
  byId('open-ping', HTMLButtonElement).addEventListener('click', actions.ping);
  byId('sync', HTMLButtonElement).addEventListener('click', actions.sync);
  byId('view-audit', HTMLButtonElement).addEventListener('click', () => goTo('changes'));
  startKeys(actions);
  startPages();
  onLanguage(() => {
    show();
    everySecond();
  });
  setInterval(everySecond, 1000);
  show();
  everySecond();
  void lookNow();
  startFeed({ onWhole: take, onProblem: connectionFailed });
}

start();
