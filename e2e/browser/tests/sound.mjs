/**
 * @file Every page and every dialog in one theme: what axe-core finds there, and that nothing is cut
 * off. The themes have a test file each, since either takes a while.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { noSeriousFault } from './axe.mjs';
import { Stand, hasText, onOneStand, openConsole, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let backend;
let page;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
  backend = await stand.register({ weight: 10, gpu_usage: 0.4, vram_usage: 0.95, max_batch: 8, batch_window_ms: 5 });
  // The longest that an address can be.
  await stand.call('POST', '/api/register', { ip: '2a00:1450:1111:2222:3333:4444:5555:6666', port: 65535, max_batch: 1 });
  // The audit log opens with what people did.
  const edit = { changes: [{ id: backend.key, weight: 12 }], note: 'more memory' };
  await stand.call('POST', '/api/v1/changes', edit, { 'if-match': '*' });
});

/** What of each page is there only after it has asked the server. */
const READY = {
  overview: '#worst tr',
  backends: '#rows .weight-input',
  changes: '#audit .audit-line',
  diagnostics: '#facts-control dd',
  batch: '[data-chart="batch"] .u-legend',
  settings: '#fields .setting',
  api: '#api-calls .api-call',
};

/** What leads to each page after `g`. */
const KEYS = { overview: 'o', backends: 'b', changes: 'a', diagnostics: 'd', batch: 'm', settings: 's', api: 'i' };

async function isSound(what) {
  await noSeriousFault(page, what);
  // Only what is meant to scroll sideways may hold more than it shows.
  const [overflow, cut] = await page.evaluate(() => [
    document.documentElement.scrollWidth - innerWidth,
    [...document.querySelectorAll('.bar, .rail, main, .dock, .foot, dialog[open]')]
      .filter((part) => part.checkVisibility() && part.scrollWidth > part.clientWidth + 1)
      .map((part) => `${part.tagName}.${part.className}`),
  ]);
  assert.ok(overflow <= 0, `${what}: ${overflow} px are cut off`);
  assert.deepEqual(cut, [], what);
}

/**
 * @param {'dark' | 'light'} theme
 * @param {[locale: string, width: number][]} looks
 */
export function findNothingWrong(theme, looks) {
  for (const [locale, width] of looks) describeOne(theme, locale, width);
}

function describeOne(theme, locale, width) {
  describe(`in ${theme}, ${locale}, ${width} px`, () => {
    it('nothing_is_wrong_with the pages', async () => {
      page = await openConsole(browser, stand, { view: 'overview', locale, width, height: 800 });
      await page.locator(`input[name="theme"][value="${theme}"]`).evaluate((radio) => radio.click());
      for (const [view, ready] of Object.entries(READY)) {
        await page.keyboard.press('g');
        await page.keyboard.press(KEYS[view]);
        await page.locator(ready).first().waitFor();
        if (view === 'api') {
          for (const call of await page.locator('#api-calls summary').all()) await call.click();
        }
        await isSound(view);
      }
      // Folded the rail still has its names.
      await page.keyboard.press('[');
      await isSound('a folded rail');
    });

    it('nothing_is_wrong_with the dialogs, the dock and the banner', async () => {
      page = await openConsole(browser, stand, { locale, width, height: 800, expected: /net::ERR_/ });
      await page.locator(`input[name="theme"][value="${theme}"]`).evaluate((radio) => radio.click());
      await rowOf(page, backend).waitFor();
      for (const [key, dialog] of [['p', '#ping-dialog'], ['?', '#help-dialog'], ['Control+k', '#palette']]) {
        await page.keyboard.press(key);
        await page.locator(dialog).waitFor();
        if (dialog === '#palette') await hasText(page.locator('#palette-list'), /./);
        await isSound(dialog);
        await page.keyboard.press('Escape');
        await page.locator(dialog).waitFor({ state: 'hidden' });
      }
      await page.keyboard.press('s');
      await page.locator('#newest .report').waitFor();
      await rowOf(page, backend).locator('.weight-input').fill('44');
      await page.keyboard.press('Tab');
      await page.locator('#pending').waitFor();
      await isSound('the dock');
      await page.locator('#pending-review').click();
      await page.locator('#diff-dialog').waitFor();
      await isSound('#diff-dialog');
      await page.keyboard.press('Escape');
      await page.locator('#pending-discard').click();
      await stand.control.stop();
      try {
        await until('the banner', () => page.locator('#banner').isVisible());
        await isSound('the banner');
        assert.ok(await page.locator('#banner').isVisible(), 'it stays');
      } finally {
        await stand.startControl();
      }
    });
  });
}
