/**
 * @file Nothing moves by itself: the layout shifts by nothing while a row is chosen, the order is held, an
 * override comes and goes, edits wait, and the verdict changes; with the side panel open, too.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stand, hasText, newestReport, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let backends;
let page;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
  backends = [];
  for (let at = 0; at < 5; at += 1) backends.push(await stand.register({ weight: 10, gpu_usage: 0.3, vram_usage: 0.4 }));
  // As the table has them: one that is disabled goes to the end, which the last one is at already.
  backends.sort((one, other) => one.port - other.port);
});

/** Counts what shifts from now on, also right after what the person does. */
async function watch() {
  await page.evaluate(() => {
    const shifts = [];
    Object.assign(window, { shifts });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        const { value, sources } = /** @type {any} */ (entry);
        const what = sources.map(({ node, previousRect: from, currentRect: to }) => {
          const target = node instanceof Element ? node : node?.parentElement;
          return `${target?.id || target?.className || target?.tagName} ${from.x},${from.y} ${from.width}x${from.height} -> ${to.x},${to.y} ${to.width}x${to.height}`;
        });
        shifts.push({ value, what });
      }
    }).observe({ type: 'layout-shift' });
  });
}

/** Two frames: what is written is laid out and looked at. */
function laidOut() {
  return page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve, 50)))));
}

/** @param {string} what was done */
async function nothingShifted(what) {
  await laidOut();
  const shifts = await page.evaluate(() => /** @type {any} */ (window).shifts.splice(0));
  assert.deepEqual(shifts, [], what);
}

/** A picture lays the page out in another size for a moment. @param {string} name */
async function pictureOf(name) {
  await picture(page, name);
  await laidOut();
  await page.evaluate(() => { /** @type {any} */ (window).shifts.length = 0; });
}

const call = (backend, path, body) => stand.call('POST', `/api/backends/127.0.0.1/${backend.port}/${path}`, body);

describe('the layout', () => {
  for (const [locale, width] of [['en-GB', 1280], ['zh-CN', 1440]]) {
    it(`stays_where_it_is in ${locale} at ${width} px`, async () => {
      for (const backend of backends) await stand.call('DELETE', `/api/backends/127.0.0.1/${backend.port}/override`);
      page = await openConsole(browser, stand, { locale, width });
      for (const backend of backends) await hasText(rowOf(page, backend).locator('.state-word'), /^(up|健康)$/);
      await hasText(page.locator('#proxy-text'), /^(Traffic flows|流量正常)$/);
      await page.evaluate(() => document.fonts.ready);
      await watch();
      await nothingShifted('nothing is done');

      await rowOf(page, backends[0]).locator('.choose').check();
      await page.locator('#bulk').waitFor();
      await nothingShifted('the first row is chosen');
      await page.locator('#bulk-drain').click();
      await page.locator('#pending').waitFor();
      await nothingShifted('an edit waits');
      await pictureOf(`shift-waiting-${locale}`);
      await page.locator('#pending-discard').click();
      await page.locator('#bulk-none').click();
      await page.locator('#pending').waitFor({ state: 'hidden' });
      await nothingShifted('nothing is chosen and nothing waits');

      await call(backends[1], 'weight', { weight: 11 });
      await rowOf(page, backends[1]).locator('.badge-override').waitFor();
      await nothingShifted('an override comes');

      await page.mouse.move(700, 300);
      await rowOf(page, backends[0]).hover();
      await call(backends[0], 'enabled', { enabled: false });
      await page.locator('#order-held').waitFor();
      await nothingShifted('the order is held, and a state is counted that was not there');
      // The pointer stays in the table, where the order is held.
      await page.keyboard.press('r');
      await newestReport(page).waitFor();
      await nothingShifted('a report comes');

      for (const backend of backends) await call(backend, 'enabled', { enabled: false });
      await hasText(page.locator('#warnings'), /(No backend takes traffic|没有后端接收流量)/);
      await nothingShifted('the verdict is an outage');
      await pictureOf(`shift-outage-${locale}`);
      for (const backend of backends) await stand.call('DELETE', `/api/backends/127.0.0.1/${backend.port}/override`);
      await page.locator('#warnings').waitFor({ state: 'hidden' });
      await until('all are as they were', async () => (await page.locator('.badge-override:visible').count()) === 0);
      await nothingShifted('the outage is over');
    });
  }

  for (const [locale, options] of [
    ['en-GB', { width: 1280 }],
    ['zh-CN', { width: 1280 }],
    ['en-GB', { width: 390, height: 844, touch: true }],
    ['zh-CN', { width: 390, height: 844, touch: true }],
  ]) {
    it(`stays_where_it_is_with_the_panel_open in ${locale} at ${options.width} px`, async () => {
      const [open, other] = backends;
      for (const backend of backends) await stand.call('DELETE', `/api/backends/127.0.0.1/${backend.port}/override`);
      await stand.heartbeat(open, { weight: 10, gpu_usage: 0.3, vram_usage: 0.4 });
      page = await openConsole(browser, stand, { locale, ...options });
      for (const backend of backends) await hasText(rowOf(page, backend).locator('.state-word'), /^(up|健康)$/);
      await hasText(page.locator('#proxy-text'), /^(Traffic flows|流量正常)$/);
      // Sorted by what does not change: a row that is sorted elsewhere goes there.
      await page.goto(`${stand.origin}/?page=backends&sort=address&open=${encodeURIComponent(open.key)}`);
      await hasText(page.locator('#side .side-list').last(), /127\.0\.0\.1/);
      await hasText(page.locator('#side .side-state'), /^(up|健康)$/);
      await page.evaluate(() => document.fonts.ready);
      await watch();
      await nothingShifted('nothing is done');

      await stand.heartbeat(open, { weight: 10, gpu_usage: 0.95, vram_usage: 0.98 });
      await hasText(page.locator('#side .usage-number').first(), /^95%$/);
      await nothingShifted('figures come');
      await call(open, 'weight', { weight: 1000 });
      await hasText(page.locator('#side .layers'), /1,000/);
      await nothingShifted('an override comes');
      await call(open, 'enabled', { enabled: false });
      await hasText(page.locator('#side .side-state'), /^(disabled|已停用)/);
      await hasText(page.locator('#side .side-before'), /127\.0\.0\.1/);
      await nothingShifted('it is disabled, and the panel says by whom');
      await pictureOf(`shift-panel-${locale}-${options.width}`);
      await call(other, 'enabled', { enabled: false });
      await until('the other is disabled', async () => (await stand.call('GET', '/api/v1/backends')).backends.filter(({ enabled }) => !enabled).length === 2);
      await nothingShifted('another is disabled');
      for (const backend of [open, other]) await stand.call('DELETE', `/api/backends/127.0.0.1/${backend.port}/override`);
      await hasText(page.locator('#side .side-state'), /^(up|健康)$/);
      await nothingShifted('it is as it was');
    });
  }
});
