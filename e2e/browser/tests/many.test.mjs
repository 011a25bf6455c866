/**
 * @file Three thousand backends, each with new figures every second: the page stays smooth, and the
 * keyboard finds its way.
 */

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fleet } from './fleet.mjs';
import { Stand, hasText, newestReport, openConsole, picture, startBrowser, until } from './harness.mjs';

const SECONDS = Number(process.env.WICKETGATE_MANY_SECONDS ?? 15);
/** More writes to the page than an update needs for the rows in sight. */
const WRITTEN_EACH = 2_000;

let browser;
let stand;
let page;

before(async () => {
  browser = await startBrowser();
  // The addresses are nobody's, so that nothing is to be probed.
  stand = await Stand.start({ proxy: null });
  await stand.publishDiscovery(fleet(0));
});

after(async () => {
  const complaints = page?.complaints ?? [];
  await browser?.close();
  await stand?.close();
  assert.deepEqual(complaints, []);
});

describe('three thousand backends', () => {
  it('are_all_there_and_cost_little_each_second', async () => {
    page = await openConsole(browser, stand, { width: 1440 });
    await hasText(page.locator('#count'), /^3000 backends$/);
    await until('but few rows are on the page', async () => {
      const count = await page.locator('#rows tr:not(.spacer)').count();
      return count > 10 && count < 80;
    });
    await page.evaluate(() => {
      const seen = { updates: [], frames: [], written: 0 };
      Object.assign(window, { seen });
      new PerformanceObserver((list) => {
        for (const { name, duration } of list.getEntries()) if (name === 'update') seen.updates.push(duration);
      }).observe({ type: 'measure' });
      new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) seen.frames.push(duration);
      }).observe({ type: 'longtask' });
      const everything = { subtree: true, childList: true, attributes: true, characterData: true };
      new MutationObserver((records) => (seen.written += records.length)).observe(document.body, everything);
    });
    const heap = () => page.evaluate(() => /** @type {any} */ (performance).memory.usedJSHeapSize / 1e6);
    const heapBefore = await heap();
    for (let second = 1; second <= SECONDS; second += 1) {
      await stand.publishDiscovery(fleet(second));
      await page.locator('#table-scroll').evaluate((scroller, top) => scroller.scrollTo(0, top), second * 500);
      await pause(1_000);
    }
    const { updates, frames, written } = await page.evaluate(() => /** @type {any} */ (window).seen);
    updates.sort((a, b) => a - b);
    const p99 = updates[Math.min(updates.length - 1, Math.floor(updates.length * 0.99))];
    const figures = { updates: updates.length, median: updates[Math.floor(updates.length / 2)], p99, longFrames: frames, writtenEach: Math.round(written / updates.length), heapBefore, heapAfter: await heap() };
    console.log(`# ${JSON.stringify(figures)}`);
    // Fewer than seconds on a busy machine, where news that come together are shown together.
    assert.ok(updates.length >= SECONDS / 3, `${updates.length} updates`);
    await picture(page, 'many');
    // What an update costs in time depends on the machine, and is printed above; what it writes does
    // not. The rows in sight are some fifty, and all of them would be three thousand.
    assert.ok(figures.writtenEach < WRITTEN_EACH, `${figures.writtenEach} writes each update`);
  });

  it('are_walked_through_by_the_keyboard', async () => {
    await page.locator('#table-scroll').evaluate((scroller) => scroller.scrollTo(0, 0));
    await page.locator('.head-address button').click();
    await page.locator('#backends').focus();
    for (let press = 0; press < 60; press += 1) await page.keyboard.press('j');
    const current = page.locator('#rows .is-current');
    await until('the sixtieth row', async () => (await current.locator('.cell-address').textContent())?.includes('10.1.0.60:9001'));
    await page.keyboard.press('x');
    await hasText(page.locator('#bulk-count'), /^1 selected$/);
    await page.keyboard.press('e');
    await page.keyboard.type('55');
    await page.keyboard.press('Tab');
    await hasText(page.locator('#pending-count'), /^1 pending$/);
    // What waits is not forgotten with the row that is out of sight.
    await page.locator('#table-scroll').evaluate((scroller) => scroller.scrollTo(0, 50_000));
    await page.locator('#backends').focus();
    await page.keyboard.press('Control+Enter');
    await until('it is published', async () => {
      const file = await stand.readJson('config/proxy_config.json');
      return file?.backends.some(({ ip, weight }) => ip === '10.1.0.60' && weight === 55);
    });
    await page.locator('#pending').waitFor({ state: 'hidden' });
  });

  it('are_selected_edited_and_applied_all_at_once', async () => {
    await page.locator('#table-scroll').evaluate((scroller) => scroller.scrollTo(0, 0));
    await page.locator('#rows .choose').first().check();
    await page.locator('#bulk-all').click();
    await hasText(page.locator('#bulk-count'), /^3000 selected$/);
    const started = Date.now();
    await page.locator('#bulk-weight').fill('77');
    await page.locator('#bulk-weight').press('Enter');
    await hasText(page.locator('#pending-count'), /^3000 pending$/);
    const stagedAfter = Date.now() - started;
    await page.locator('#pending-review').click();
    await hasText(page.locator('#diff-rows tr'), /^3000 backends.*and 2,800 more.*77$/);
    const shownAfter = Date.now() - started;
    await page.keyboard.press('Enter');
    await until('all are published', async () => {
      const file = await stand.readJson('config/proxy_config.json');
      return file?.backends.length === 3000 && file.backends.every(({ weight }) => weight === 77);
    });
    await page.locator('#pending').waitFor({ state: 'hidden' });
    await hasText(newestReport(page), /^\S+Change of 3000 backends — saved/);
    console.log(`# staged after ${stagedAfter} ms, in the diff after ${shownAfter}, applied after ${Date.now() - started}`);
    assert.ok(stagedAfter < 3_000, `staging took ${stagedAfter} ms`);
  });
});
