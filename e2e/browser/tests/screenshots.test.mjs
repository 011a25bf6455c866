/**
 * @file Pictures of every page in both themes, as README and docs/console.md show them. They are taken in each run, so
 * that none of the pages can go missing, and written to docs/screenshots/ only where
 * WICKETGATE_SCREENSHOTS=1 asks for it: times and ports differ from run to run.
 */

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { smallPng } from './png.mjs';
import { Stand, hasText, openConsole, rowOf, startBrowser, until } from './harness.mjs';

const FOLDER = '../../docs/screenshots';
const IS_ASKED_FOR = process.env.WICKETGATE_SCREENSHOTS === '1';
/** So long a page looks on before its picture is taken, where somebody is to see it. */
const LOOK_MS = IS_ASKED_FOR ? 20_000 : 0;
/** A picture in a README must not weigh on it. */
const MOST_BYTES = 100_000;

let browser;
let stand;
let traffic;
let simulators = [];
let found;

before(async () => {
  browser = await startBrowser();
  stand = await Stand.start({ config: { proxy: { health: { interval_ms: 300, fall: 1 } } } });
  found = await stand.discover(
    ...[0.31, 0.44, 0.52, 0.83, 0.61, 0.93, 0.27, 0.7].map((vram_usage, at) => ({
      weight: 10 + 5 * (at % 4), gpu_usage: ((at * 37) % 90) / 100, vram_usage,
    })),
  );
  simulators = [['nobatch', 1], ['batch', 2]].map(([mode, last]) =>
    stand.simulate('sim_backend_register_batch', ['--mode', mode, '--ip', `127.0.0.${last}`, '--port', '19006', '--interval', '1']));
  await until('discovery is read', async () => (await stand.call('GET', '/api/backends')).backends.length >= 10);
  await stand.call('POST', '/api/settings', { algorithm: 'gpu_aware' });
  await stand.call('POST', `/api/backends/127.0.0.1/${found[0].port}/weight`, { weight: 40 });
  await stand.call('POST', `/api/backends/127.0.0.1/${found[6].port}/drain`, { drain: true });
  stand.backends[2].close();
  traffic = setInterval(() => {
    const socket = net.connect(stand.proxyPort, '127.0.0.1');
    socket.on('error', () => {});
    socket.resume();
    socket.write(Buffer.alloc(4_000 + Math.floor(Math.random() * 40_000)));
    setTimeout(() => socket.destroy(), 300 + Math.random() * 2_500);
  }, 80);
});

after(async () => {
  clearInterval(traffic);
  await browser?.close();
  for (const simulator of simulators) await simulator.stop();
  await stand?.close();
});

/** Every page with its key after `g`, and what is there once it has come. */
const PAGES = [
  ['overview', 'o', '#worst tr'],
  ['backends', 'b', '#rows .weight-input'],
  ['changes', 'a', '#audit .audit-line'],
  ['diagnostics', 'd', '#facts-health dd'],
  ['batch', 'm', '[data-chart="batch"] .u-legend'],
  ['settings', 's', '#fields .setting'],
  ['api', 'i', '#api-calls .api-call'],
];

describe('the pages have their pictures', () => {
  for (const [theme, locale, phone] of [['dark', 'en-GB', 'zh-CN'], ['light', 'zh-CN', 'en-GB']]) {
    it(`in ${theme}`, async () => {
      const page = await open(theme, { locale, width: 1440, height: 900 });
      await pause(LOOK_MS);
      for (const [view, key, ready] of PAGES) {
        await show(page, key, ready);
        await take(page, `${view}-${theme}`);
      }
      await show(page, 'b', '#rows .weight-input');
      await rowOf(page, found[5]).locator('.cell-sessions').click();
      await hasText(page.locator('.layers'), /in force|当前采用/);
      const input = rowOf(page, found[1]).locator('.weight-input');
      await input.fill('25');
      await input.press('Tab');
      await take(page, `backend-${theme}`);
      await page.keyboard.press('Control+k');
      await page.keyboard.type('1');
      await hasText(page.locator('#palette-list'), /127/);
      await take(page, `palette-${theme}`);
      assert.deepEqual(page.complaints, []);
      await page.context().close();
    });

    it(`in ${theme}, on a phone`, async () => {
      const page = await open(theme, { locale: phone, width: 390, height: 844 });
      await pause(LOOK_MS / 3);
      for (const [view, key, ready] of PAGES.slice(0, 2)) {
        await show(page, key, ready);
        await take(page, `${view}-phone-${theme}`);
      }
      assert.deepEqual(page.complaints, []);
      await page.context().close();
    });
  }
});

async function open(theme, options) {
  const page = await openConsole(browser, stand, { view: 'overview', ...options });
  await page.locator(`input[name="theme"][value="${theme}"]`).evaluate((radio) => radio.click());
  return page;
}

async function show(page, key, ready) {
  await page.keyboard.press('g');
  await page.keyboard.press(key);
  await page.locator(ready).first().waitFor();
}

async function take(page, name) {
  const bytes = smallPng(await page.screenshot());
  assert.ok(bytes.length < MOST_BYTES, `${name} has ${bytes.length} bytes`);
  if (!IS_ASKED_FOR) return;
  await mkdir(FOLDER, { recursive: true });
  await writeFile(`${FOLDER}/${name}.png`, bytes);
}
