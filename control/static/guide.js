/**
 * @file What to do first, for a fresh installation: it goes when traffic flows.
 */

import { byId, setText } from './dom.js';

/** @typedef {import('./shapes.js').ProxyStatus} ProxyStatus */

export function startGuide() {
  byId('guide-add', HTMLButtonElement).addEventListener('click', () => {
    void import('./static-list.js').then(({ openAdd }) => openAdd());
  });
  setText(byId('guide-register', HTMLElement), registration());
  setText(byId('guide-discovery', HTMLElement), DISCOVERY);
}

/**
 * @param {number} backends that are listed
 * @param {ProxyStatus | null} status null where the proxy tells none
 */
export function showGuide(backends, status) {
  const totals = status?.totals ?? null;
  const hasServed = totals !== null && totals.sessions_total + totals.flows_total > 0;
  const guide = byId('guide', HTMLElement);
  // A proxy that is not heard may be serving; without any backend it is not.
  guide.hidden = hasServed || (totals === null && backends > 0);
  if (guide.hidden) return;
  setDone('guide-step-backend', backends > 0);
  const listener = status?.listeners.find(({ tcp }) => tcp) ?? status?.listeners[0];
  byId('guide-step-proxy', HTMLElement).hidden = listener !== undefined;
  const send = byId('guide-send', HTMLElement);
  send.hidden = listener === undefined;
  if (listener !== undefined) setText(send, request(listener.addr, listener.tcp));
}

/** @param {string} id @param {boolean} isDone */
function setDone(id, isDone) {
  byId(id, HTMLElement).toggleAttribute('data-done', isDone);
}

/** A backend that registers itself, once. */
function registration() {
  const body = '{"ip": "10.0.0.5", "port": 8000, "weight": 10}';
  return `curl -X POST ${location.origin}/api/register -H 'Content-Type: application/json' -d '${body}'`;
}

const DISCOVERY = '{"backends": [{"ip": "10.0.0.5", "port": 8000, "weight": 10}]}';

/**
 * One session or flow through the proxy, from the machine that the console is read on.
 * @param {string} addr `ip:port`
 * @param {boolean} isTcp
 */
function request(addr, isTcp) {
  const at = addr.lastIndexOf(':');
  const [ip, port] = [addr.slice(0, at), addr.slice(at + 1)];
  const isAny = ip === '0.0.0.0' || ip === '[::]';
  const host = isAny ? location.hostname : ip;
  return isTcp ? `curl http://${host}:${port}/` : `echo hello | nc -u -w 2 ${host.replace(/[[\]]/g, '')} ${port}`;
}
