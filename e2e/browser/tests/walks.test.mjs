/**
 * @file Three walks as an operator takes them, from what the page shows at first to the end: why traffic
 * is down, a node drained safely on a phone, a bad change rolled back.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Stand, hasText, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

const PHONE = { width: 390, height: 844, touch: true };

/** @type {import('playwright-core').Browser} */
let browser;
/** One for each walk: an operator begins with what is there. @type {Stand} */
let stand;
let backends;
let page;

onOneStand({ proxy: null }, (started) => {
  browser = started;
});

beforeEach(async () => {
  stand = await Stand.start();
  backends = [];
  for (let at = 0; at < 3; at += 1) backends.push(await stand.register({ weight: 10, gpu_usage: 0.3, vram_usage: 0.4 }));
});

afterEach(() => stand.close());

/** An edit by a colleague, elsewhere. */
function edit(changes, note) {
  return stand.call('POST', '/api/v1/changes', { changes, note }, { 'if-match': '*' });
}

async function isWell(text) {
  await hasText(page.locator('#proxy-text'), text);
  assert.equal(await page.locator('#proxy').getAttribute('data-level'), 'good');
}

const LANGUAGES = [
  {
    locale: 'en-GB', colorScheme: 'dark',
    well: /^Traffic flows$/, down: /^No backend takes traffic$/,
    cause: /^Since .*earlier: .* by 127\.0\.0\.1.*\(new driver\)\.?$/,
    carry: /1 drained; capacity 100% → 67%.*The remaining backends can carry the load: .*2/, draining: /^draining/, nobody: /^0$/,
    slip: /3 backends/, button: /^Roll back$/,
  },
  {
    locale: 'zh-CN', colorScheme: 'light',
    well: /^流量正常$/, down: /^没有后端接收流量$/,
    cause: /127\.0\.0\.1.*new driver/,
    carry: /100% → 67%.*2/, draining: /^排空/, nobody: /^0$/,
    slip: /3 个后端/, button: /^回滚$/,
  },
];

describe('a walk', () => {
  for (const { locale, colorScheme, well, down, cause, carry, draining, nobody, slip, button } of LANGUAGES) {
    it(`find_out_why_traffic_is_down in ${locale}`, async () => {
      page = await openConsole(browser, stand, { view: 'diagnostics', locale, colorScheme });
      await isWell(well);
      await edit(backends.map(({ key }) => ({ id: key, enabled: false })), 'new driver');
      // The bar of every page is red, and leads to the overview.
      await hasText(page.locator('#proxy-text'), down);
      assert.equal(await page.locator('#proxy').getAttribute('data-level'), 'bad');
      await page.locator('#proxy').click();
      await page.locator('#page-overview').waitFor();
      await hasText(page.locator('#answer-health .answer-text'), down);
      await picture(page, `walk-down-${locale}`);
      // The first of those that want to be looked at: since when, who, what and why.
      await page.locator('#worst a').first().click();
      await hasText(page.locator('.side-before'), cause);
      await picture(page, `walk-cause-${locale}`);
    });

    it(`drain_a_node_safely_on_a_phone in ${locale}`, async () => {
      const clients = [];
      try {
        const first = backends[0];
        const open = () => stand.call('GET', `/api/v1/backends/${encodeURIComponent(first.key)}`).then(({ backend }) => backend.proxy?.sessions_active ?? 0);
        await until('the node has a session', async () => {
          const client = net.connect(stand.proxyPort, '127.0.0.1');
          client.on('error', () => {});
          await once(client, 'connect');
          clients.push(client);
          return (await open()) > 0;
        });
        page = await openConsole(browser, stand, { ...PHONE, locale, colorScheme });
        const card = rowOf(page, first);
        await hasText(card.locator('.cell-sessions'), /^[1-9]/);
        await card.locator('.cell-actions [aria-pressed]').tap();
        // What the others will carry is said before anything happens.
        await hasText(page.locator('#pending-reach'), carry);
        assert.deepEqual((await stand.call('GET', '/api/v1/backends')).backends.filter(({ override }) => override), []);
        await picture(page, `walk-drain-${locale}`);
        await page.locator('#pending-apply').tap();
        await hasText(card.locator('.state-word'), draining);
        assert.match((await card.locator('.cell-sessions').textContent()) ?? '', /^[1-9]/, 'open sessions finish');
        for (const client of clients) client.end();
        await hasText(card.locator('.cell-sessions'), nobody);
        const shift = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(shift <= 0, `${shift} px wider than the screen`);
        await picture(page, `walk-drained-${locale}`);
      } finally {
        for (const client of clients) client.destroy();
      }
    });

    it(`roll_back_a_bad_change in ${locale}`, async () => {
      page = await openConsole(browser, stand, { view: 'backends', locale, colorScheme });
      await isWell(well);
      await edit(backends.map(({ key }) => ({ id: key, weight: 0 })), 'a slip');
      await hasText(page.locator('#proxy-text'), down);
      await page.locator('#proxy').click();
      // The overview tells of the edit beside the outage.
      await page.locator('#events .event[data-kind="edit"]').first().waitFor();
      await page.locator('.rail a[data-page="changes"]').click();
      const line = page.locator('#edits .edit').filter({ hasText: 'a slip' }).first();
      await hasText(line, slip);
      await line.getByRole('button', { name: button }).click();
      await until('what comes back is shown', async () => (await page.locator('#diff-rows tr').count()) === 3);
      await picture(page, `walk-roll-back-${locale}`);
      await page.locator('#diff-apply').click();
      await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
      await isWell(well);
      for (const backend of backends) await stand.publishedWeight(backend, 10);
    });
  }
});
