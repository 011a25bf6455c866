/**
 * @file A page that is opened after the fact: it begins with what the server has kept, and says what
 * happened meanwhile.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, it } from 'node:test';
import { hasText, onOneStand, openConsole, picture, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {import('./harness.mjs').Stand} */
let stand;
let backend;
let isWarming = false;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
  backend = await stand.register({ weight: 10, gpu_usage: 0.4, vram_usage: 0.85 });
});

async function session() {
  const socket = net.connect(stand.proxyPort, '127.0.0.1');
  await once(socket, 'connect');
  socket.end();
  socket.resume();
  await once(socket, 'close');
}

async function stateMarks() {
  const { marks } = await stand.call('GET', '/api/v1/series');
  return marks.filter(({ kind }) => kind === 'state');
}

/** What the page's charts are drawn from. */
function samplesOf(page) {
  return page.evaluate(() => import('/static/history.js').then(({ history }) => [...history()]));
}

describe('the past', () => {
  it('is_there_when_the_page_is_opened_and_ranges_reach_further', async () => {
    await until('the server has kept some sessions', async () => {
      await session();
      const { series } = await stand.call('GET', '/api/v1/series');
      return series.session_rate.some((rate) => rate > 0);
    });
    const opened = Date.now();
    const page = await openConsole(browser, stand, { view: 'overview' });
    const seen = await until('the page has it', async () => {
      const samples = await samplesOf(page);
      return samples.some(({ at, sessionRate }) => at < opened && sessionRate > 0) && samples;
    });
    assert.ok(seen.every(({ at }, place) => place === 0 || at > seen[place - 1].at), 'in order');
    for (const [range, label] of [['hour', /1 h/], ['day', /24 h/], ['quarter', /15 min/]]) {
      const choice = page.locator('#charts-range label', { has: page.locator(`[value="${range}"]`) });
      await hasText(choice, label);
      await choice.click();
      await until(`the range ${range} is shown`, async () => {
        const now = await page.evaluate(() => import('/static/stored-series.js').then(({ rangeNow }) => rangeNow()));
        const samples = await samplesOf(page);
        return now === range && samples.length > 0 && samples;
      });
    }
  });

  for (const [locale, edit, ofTwo, state] of [
    ['en-GB', /127\.0\.0\.1: weight, /, /, 2 backends/, /1 backend now .*: /],
    ['zh-CN', /127\.0\.0\.1：权重，/, /，2 个后端/, /1 个后端变为/],
  ]) {
    it(`tells_what_was_edited_and_which_states_changed in ${locale}`, async () => {
      const [ip, port] = backend.key.split(':');
      await stand.call('POST', `/api/backends/${ip}/${port}/weight`, { weight: 11 });
      const other = await stand.register({ weight: 10 });
      const changes = [backend, other].map(({ key }) => ({ id: key, weight: 12 }));
      await stand.call('POST', '/api/v1/changes', { changes }, { 'if-match': '*' });
      const before = (await stateMarks()).length;
      isWarming = !isWarming;
      await stand.heartbeat(backend, { weight: 10, is_warming_up: isWarming });
      await until('a state has changed', async () => (await stateMarks()).length > before);

      const page = await openConsole(browser, stand, { view: 'overview', locale });
      await hasText(page.locator('#events'), edit);
      await hasText(page.locator('#events'), ofTwo);
      await hasText(page.locator('#events'), state);
      assert.equal(await page.locator('#events-none').isVisible(), false);
      await picture(page, `history-${locale}`);
    });
  }
});
