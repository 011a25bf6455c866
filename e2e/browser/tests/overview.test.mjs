/**
 * @file The figures and charts of the overview against the proxy's own counters, and what axe-core
 * finds on the page.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import { describe, it } from 'node:test';
import { noSeriousFault } from './axe.mjs';
import { Stand, hasText, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let backend;
let page;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
  backend = await stand.register({ weight: 10, gpu_usage: 0.4, vram_usage: 0.85, max_batch: 8, batch_window_ms: 5 });
  await stand.register({ weight: 10, gpu_usage: 0.2, vram_usage: 0.3, max_batch: 1, batch_window_ms: 5 });
});

/** A session through the proxy that sends bytes and gets them back. */
async function session(bytes) {
  const socket = net.connect(stand.proxyPort, '127.0.0.1');
  await once(socket, 'connect');
  socket.write(Buffer.alloc(bytes, 7));
  let got = 0;
  socket.on('data', (chunk) => {
    got += chunk.length;
  });
  await until('all of it is back', () => got >= bytes);
  return socket;
}

async function totals() {
  const { proxy } = await stand.call('GET', '/api/v1/status');
  return proxy.totals;
}

describe('the charts', () => {
  it('hold_what_the_proxy_counts_while_traffic_runs', async () => {
    page = await openConsole(browser, stand, { view: 'overview' });
    await page.locator('[data-chart="traffic"] .u-legend').waitFor();
    const before = await totals();
    const first = await page.evaluate(() => import('/static/history.js').then(({ history }) => history().length));
    for (let round = 0; round < 20; round += 1) {
      const socket = await session(50_000);
      socket.destroy();
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const open = await session(1000);
    await until('the sessions are over, but one', async () => (await totals()).sessions_active === 1);
    const now = await totals();
    const sums = await until('the page has seen it all', async () => {
      const found = await page.evaluate(async (from) => {
        const { history } = await import('/static/history.js');
        const all = history();
        let sessions = 0;
        let down = 0;
        for (let at = Math.max(1, from); at < all.length; at += 1) {
          const seconds = (all[at].at - all[at - 1].at) / 1000;
          sessions += (all[at].sessionRate ?? 0) * seconds;
          down += (all[at].down ?? 0) * seconds;
        }
        return { sessions, down, open: all.at(-1)?.sessions };
      }, first);
      return found.open === 1 && Math.abs(found.sessions - (now.sessions_total - before.sessions_total)) < 0.01 && found;
    });
    assert.ok(Math.abs(sums.down - (now.bytes_down - before.bytes_down)) < 1, `${sums.down} bytes`);
    assert.equal(now.sessions_total - before.sessions_total, 21);
    await hasText(page.locator('#figure-sessions .figure-value'), /^1$/);
    // Twenty-one first bytes, all of them in the last seconds.
    const timed = now.first_byte.buckets.reduce((sum, [, count]) => sum + count, 0);
    const { p50, p99 } = await page.evaluate(() => import('/static/history.js').then(({ history }) => history().at(-1)));
    assert.ok(timed >= 21 && p50 > 0 && p50 <= p99 && p99 <= now.first_byte.buckets.at(-1)[0], `${p50} ${p99}`);
    await hasText(page.locator('#figure-first-byte .figure-value'), /^\d/);
    await hasText(page.locator('[data-chart="firstByte"] .u-legend'), /median.*\d.*p99.*\d/);
    await picture(page, 'overview');
    open.destroy();
  });

  for (const [locale, lines, paused] of [
    ['en-GB', /one by one.*batched/, /Paused/],
    ['zh-CN', /逐个处理.*批处理/, /已暂停/],
  ]) {
    it(`can_be_paused_and_show_batched_beside_unbatched in ${locale}`, async () => {
      page = await openConsole(browser, stand, { view: 'overview', locale });
      await page.locator('#charts-pause').click();
      await hasText(page.locator('#charts-note'), paused);
      await page.locator('.rail a[data-page="batch"]').click();
      await hasText(page.locator('[data-chart="batch"] .u-legend'), lines);
      await hasText(page.locator('#batch-unbatched'), /^30%$/);
      await hasText(page.locator('#batch-batched'), /^85%$/);
    });
  }

  it('tell_of_the_first_bytes_of_the_last_seconds_alone', async () => {
    page = await openConsole(browser, stand, { view: 'overview' });
    const found = await page.evaluate(async () => {
      // One of its own, beside that of the page.
      const { recordFirstBytes, firstByteOf } = await import('/static/first-byte.js?apart');
      const look = (/** @type {number} */ pid, /** @type {number} */ at, /** @type {[number, number][]} */ buckets) => {
        recordFirstBytes({ pid, totals: { first_byte: { sum_us: 0, buckets } } }, at);
        return [firstByteOf(0.5), firstByteOf(0.99)];
      };
      const slow = /** @type {[number, number][]} */ ([[100, 1000], [900, 98], [50_000, 2]]);
      return [
        look(7, 0, [[100, 1000]]),
        look(7, 1000, slow),
        look(7, 11_000, slow),
        look(7, 22_000, slow),
        look(8, 23_000, [[100, 5]]),
        look(8, 24_000, [[100, 6]]),
      ];
    });
    assert.deepEqual(found, [[null, null], [900, 50_000], [null, null], [null, null], [null, null], [100, 100]]);
  });

  it('are_said_to_be_missing_where_the_build_has_none', async () => {
    const text = await readFile('../../control/templates/index.html', 'utf8');
    page = await openConsole(browser, stand, { view: 'overview' });
    await page.route(`${stand.origin}/?page=*`, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: text });
    });
    await page.reload();
    await hasText(page.locator('#charts-missing'), /no charts/);
    await until('the small lines', async () => (await page.locator('#figure-vram .figure-line path').getAttribute('d'))?.includes('L'));
  });
});

describe('axe', () => {
  for (const locale of ['en-GB', 'zh-CN']) {
    for (const [theme, width] of [['dark', 1280], ['light', 1280], ['dark', 375], ['light', 320]]) {
      it(`finds_nothing_serious in ${locale}, ${theme}, ${width} px`, async () => {
        page = await openConsole(browser, stand, { locale, width, colorScheme: theme });
        await page.locator(`input[name="theme"][value="${theme}"]`).evaluate((radio) => radio.click());
        await rowOf(page, backend).waitFor();
        await rowOf(page, backend).locator('.choose').check();
        await rowOf(page, backend).locator('.weight-input').fill('44');
        await page.locator('#bulk-drain').click();
        await page.locator('#pending').waitFor();
        await noSeriousFault(page, 'the page');
        await picture(page, `page-${theme}-${width}-${locale}`);
        await page.locator('#pending-review').click();
        await page.locator('#diff-dialog[open]').waitFor();
        await noSeriousFault(page, 'the diff');
        await page.keyboard.press('Escape');
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(overflow <= 0, `${overflow} px are cut off`);
      });
    }
  }
});
