/**
 * @file The chart of failed sessions is made of their reasons, one upon the other, which the server has
 * kept from before the page was opened; which ends are failures is the server's word.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import { hasText, onOneStand, openConsole, picture, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {import('./harness.mjs').Stand} */
let stand;
let page;
/** @type {net.Server[]} */
const servers = [];

onOneStand({ config: { proxy: { ejection: { failures: 0 } } } }, async (started, onIt) => {
  browser = started;
  stand = onIt;
  for (const end of ['resetAndDestroy', 'end']) {
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket[end]());
    });
    servers.push(server.listen(0, '127.0.0.1'));
    await once(server, 'listening');
    const answer = await stand.call('POST', '/api/register', { ip: '127.0.0.1', port: server.address().port, weight: 10 });
    assert.equal(answer.ok, true, JSON.stringify(answer));
  }
});

after(() => servers.forEach((server) => server.close()));

/** A session that its backend fails. */
async function fail() {
  const client = net.connect(stand.proxyPort, '127.0.0.1');
  client.on('error', () => {});
  client.write('hello');
  client.resume();
  await new Promise((resolve) => client.on('close', resolve));
}

describe('the list of what needs attention first', () => {
  for (const [locale, colorScheme, width, why] of [
    ['en-GB', 'dark', 1280, /\d+ failures in the last minute, mostly: closed by the backend without an answer/],
    ['zh-CN', 'light', 1280, /最近一分钟失败 \d+ 次，主要是后端未应答即关闭/],
    ['en-GB', 'light', 390, /\d+ failures in the last minute, mostly: closed by the backend without an answer/],
    ['zh-CN', 'dark', 390, /最近一分钟失败 \d+ 次，主要是后端未应答即关闭/],
  ]) {
    it(`names_those_that_fail_after_those_that_are_out_and_before_the_healthy: ${locale}, ${width} px`, async () => {
      const full = await stand.register({ weight: 1, vram_usage: 0.99 });
      const gone = await stand.register({ weight: 1 });
      const { backends } = await stand.call('GET', '/api/v1/backends');
      const failing = servers.map((server) => `127.0.0.1:${server.address().port}`);
      // Only one of the two fails now, and it is full of nothing.
      const [resetting, ending] = failing;
      assert.ok(resetting !== undefined && backends.length >= 4);
      await stand.call('POST', '/api/v1/changes', { changes: [{ id: resetting, weight: 0 }, { id: ending, weight: 900 }] }, { 'if-match': '*' });
      page = await openConsole(browser, stand, { view: 'overview', locale, colorScheme, width });
      await page.locator(`input[name="theme"][value="${colorScheme}"]`).evaluate((radio) => radio.click());
      await page.locator('#worst tr').first().waitFor();
      const server = stand.backends.at(-1);
      server.close();
      server.closeAllConnections?.();
      const keys = () => page.locator('#worst th').allTextContents();
      await until('the order', async () => {
        await fail();
        const shown = await keys();
        return shown[0] === gone.key && shown[1] === ending && shown.indexOf(full.key) > 1;
      });
      await hasText(page.locator('#worst tr').nth(1).locator('.worst-why'), why);
      await picture(page, `worst-failing-${locale}-${width}`);
      for (const { ip, port } of [full, gone]) await stand.call('DELETE', '/api/register', { ip, port });
      await stand.call('POST', '/api/v1/changes', { changes: [{ id: resetting, weight: null }, { id: ending, weight: null }] }, { 'if-match': '*' });
    });
  }

  it('names_reasons_that_are_as_frequent_in_one_order', async () => {
    page = await openConsole(browser, stand, { view: 'overview' });
    const named = await page.evaluate(async () => {
      const { mostFirst } = await import(/** @type {string} */ ('/static/failures.js'));
      return [mostFirst({ b: 2, a: 2, c: 5 }), mostFirst({ a: 2, c: 5, b: 2 })].map((all) => all.map(([reason]) => reason).join(''));
    });
    assert.deepEqual(named, ['cab', 'cab']);
  });
});

const RESET = 'failed_backend_reset_rate';
const UNANSWERED = 'failed_backend_closed_unanswered_rate';

describe('the chart of failures', () => {
  for (const [locale, colorScheme, reset, unanswered, calm] of [
    ['en-GB', 'dark', 'reset by the backend', 'closed by the backend without an answer', 'failed/s'],
    ['zh-CN', 'light', '后端重置连接', '后端未应答即关闭', '失败/秒'],
  ]) {
    it(`stacks_the_reasons_that_the_server_has_kept in ${locale}`, async () => {
      await until('the server has kept both', async () => {
        for (let at = 0; at < 4; at += 1) await fail();
        const { series } = await stand.call('GET', '/api/v1/series');
        return [RESET, UNANSWERED].every((name) => series[name].some((rate) => rate > 0)) && series;
      });
      const { series, count } = await stand.call('GET', '/api/v1/series');
      const parts = Object.keys(series).filter((name) => /^failed_.+_rate$/.test(name));
      const { failures } = await stand.call('GET', '/api/v1/status');
      assert.deepEqual(parts.sort(), failures.sessions.map((reason) => `failed_${reason}_rate`).sort());
      for (let at = 0; at < count; at += 1) {
        const sum = parts.reduce((all, name) => all + (series[name][at] ?? 0), 0);
        assert.ok(Math.abs(sum - (series.failed_rate[at] ?? 0)) < 0.01 * Math.max(1, sum), `${sum}, ${series.failed_rate[at]}`);
      }

      const opened = Date.now();
      page = await openConsole(browser, stand, { view: 'overview', locale, colorScheme });
      const legend = page.locator('[data-chart="failed"] .u-legend');
      await hasText(legend, new RegExp(`${unanswered}.*${reset}|${reset}.*${unanswered}`));
      const seen = await page.evaluate(() => import('/static/history.js').then(({ history }) => [...history()]));
      const early = seen.filter((sample) => sample.at < opened);
      assert.ok(early.some((sample) => sample[RESET] > 0) && early.some((sample) => sample[UNANSWERED] > 0), 'from before the page was opened');
      await page.locator(`input[name="theme"][value="${colorScheme}"]`).evaluate((radio) => radio.click());
      await until('the page counts its own by reason', async () => {
        await fail();
        await fail();
        const samples = await page.evaluate((since) => import('/static/history.js').then(({ history }) => history().filter(({ at }) => at > since)), opened);
        const whole = samples.filter((sample) => sample[RESET] + sample[UNANSWERED] > 0 && Math.abs(sample[RESET] + sample[UNANSWERED] - sample.failedRate) < 0.001);
        return whole.length >= 6;
      });
      assert.ok(!(await legend.textContent())?.includes(calm));
      await picture(page, `failures-chart-${locale}`);
    });
  }
});
