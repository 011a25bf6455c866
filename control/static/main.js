/**
 * @file The console's entry: binds the parts, listens to the control plane, and hands what it
 * says to the parts that show it. State lives in the parts; here is only the last answer.
 */

import * as api from './api.js';
import { showAudit, startAudit } from './audit.js';
import { apply, knowEtag, startApply } from './apply.js';
import { reportRefresh, startChanges, syncNow } from './changes.js';
import { connectionFailed, connectionIsGood, showConnection, startConnection } from './connection.js';
import { drawCharts, startCharts } from './charts.js';
import { showDetail, startDetail } from './detail.js';
import { byId, setText } from './dom.js';
import { startFeed } from './feed.js';
import { dateTimeText } from './format.js';
import { record } from './history.js';
import { onLanguage, startLanguage } from './i18n.js';
import { startKeys } from './keys.js';
import { drawFigureLines, showFigures, showProxy, showWarnings, startOverview } from './overview.js';
import { knowTargets, openPing, startPing } from './ping.js';
import { oneAtATime } from './once.js';
import { startReports, undoNewest } from './report.js';
import { rowsOf } from './rows.js';
import { startSettings } from './settings.js';
import { knowBackends, startSelection } from './selection.js';
import { onStaged } from './staged.js';
import { recordVram } from './sparkline.js';
import { rewriteChoices, showRows, startTable, visibleKeys } from './table.js';
import { startTabs } from './tabs.js';
import { startTheme } from './theme.js';
import { startTips } from './tip.js';
import { recordTraffic } from './traffic.js';

/** @type {api.WholeAnswer | null} */
let latest = null;
let auditSeq = -1;

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
  const seq = whole.status.audit_seq ?? -1;
  if (seq !== auditSeq && !byId('panel-audit', HTMLElement).hidden) void showAudit();
  auditSeq = seq;
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
  const rows = rowsOf(latest.backends);
  const proxy = proxyOf(latest);
  showRows(rows);
  showDetail(rows, latest);
  showProxy(proxy);
  showFigures(rows, proxy);
  showWarnings(latest.status);
  drawFigureLines();
  drawCharts();
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
  startDetail(rewriteChoices);
  startTips();
  startPing();
  startAudit();
  startSettings();
  const chooseTab = startTabs(byId('log', HTMLElement));
  const lookNow = oneAtATime(look);
  const lookAtAll = async () => {
    await Promise.all([lookNow(), showAudit()]);
  };
  startChanges(lookAtAll);
  startConnection(lookAtAll);
  startSelection(rewriteChoices, visibleKeys);
  startApply(async () => {
    await lookNow();
    return latest;
  });
  onStaged(rewriteChoices);

  const refresh = async () => {
    await lookAtAll();
    if (latest !== null && document.documentElement.dataset.connection === 'none') {
      reportRefresh(latest.backends.length);
    }
  };
  const viewAudit = () => {
    chooseTab('tab-audit');
    void showAudit();
    byId('log', HTMLElement).scrollIntoView({ block: 'nearest' });
    byId('tab-audit', HTMLElement).focus({ preventScroll: true });
  };
  const actions = { refresh, ping: () => openPing(), sync: syncNow, audit: viewAudit, apply: () => void apply(), undo: undoNewest };
  byId('refresh', HTMLButtonElement).addEventListener('click', refresh);
  byId('open-ping', HTMLButtonElement).addEventListener('click', actions.ping);
  byId('sync', HTMLButtonElement).addEventListener('click', actions.sync);
  byId('view-audit', HTMLButtonElement).addEventListener('click', viewAudit);
  startKeys(actions);
  onLanguage(() => {
    show();
    everySecond();
  });
  setInterval(everySecond, 1000);
  show();
  everySecond();
  void showAudit();
  void lookNow();
  startFeed({ onWhole: take, onProblem: connectionFailed });
}

start();
