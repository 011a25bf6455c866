/**
 * @file The console's entry: binds the parts, asks the control plane every two seconds, and hands
 * each answer to the parts that show it. State lives in the parts; here is only the last answer.
 */

import * as api from './api.js';
import { showAudit, startAudit } from './audit.js';
import { reportRefresh, startChanges, syncNow } from './changes.js';
import { connectionFailed, connectionIsGood, showConnection, startConnection } from './connection.js';
import { byId, setText } from './dom.js';
import { dateTimeText } from './format.js';
import { onLanguage, startLanguage } from './i18n.js';
import { startKeys } from './keys.js';
import { recordTotals, showFigures, showProxy, showWarnings, startOverview } from './overview.js';
import { knowTargets, openPing, startPing } from './ping.js';
import { startPolling } from './poll.js';
import { startReports } from './report.js';
import { joinRows } from './rows.js';
import { recordVram } from './sparkline.js';
import { showRows, startTable } from './table.js';
import { startTabs } from './tabs.js';
import { startTheme } from './theme.js';

/** @type {{backends: api.BackendsAnswer, proxy: api.ProxyAnswer} | null} */
let latest = null;

async function look() {
  try {
    const [backends, proxy] = await Promise.all([api.readBackends(), api.readProxy()]);
    latest = { backends, proxy };
    connectionIsGood();
    const now = Date.now();
    recordTotals(proxy.status, now);
    recordVram(joinRows(backends.backends, proxy.status), now);
    knowTargets(backends.backends);
    show();
    if (!byId('panel-audit', HTMLElement).hidden) await showAudit();
  } catch (error) {
    connectionFailed(error);
  }
}

function show() {
  if (latest === null) {
    showProxy(null);
    return;
  }
  const { backends, proxy } = latest;
  const rows = joinRows(backends.backends, proxy.status);
  showRows(rows);
  showProxy(proxy);
  showFigures(rows, proxy);
  showWarnings(backends);
}

function everySecond() {
  showConnection();
  if (latest !== null) showProxy(latest.proxy);
  setText(byId('clock', HTMLElement), dateTimeText(Date.now()));
}

function start() {
  startTheme();
  startLanguage();
  startReports();
  startOverview();
  startTable();
  startPing();
  startAudit();
  const chooseTab = startTabs(byId('log', HTMLElement));
  const lookNow = startPolling(look);
  const lookAtAll = async () => {
    await Promise.all([lookNow(), showAudit()]);
  };
  startChanges(lookAtAll);
  startConnection(lookAtAll);

  const refresh = async () => {
    await lookAtAll();
    if (latest !== null && document.documentElement.dataset.connection === 'none') {
      reportRefresh(latest.backends.backends.length);
    }
  };
  const viewAudit = () => {
    chooseTab('tab-audit');
    void showAudit();
    byId('log', HTMLElement).scrollIntoView({ block: 'nearest' });
    byId('tab-audit', HTMLElement).focus({ preventScroll: true });
  };
  const actions = { refresh, ping: () => openPing(), sync: syncNow, audit: viewAudit };
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
}

start();
