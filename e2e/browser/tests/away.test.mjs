/**
 * @file Control that goes away while a page is open: every page still opens with what was known last, says
 * how old that is, and claims nothing that nobody knows any more.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { noSeriousFault } from './axe.mjs';
import { Stand, hasAttribute, hasText, openConsole, picture, rowOf, startBrowser, until } from './harness.mjs';

/** Seconds of a clock such as `00:01:14`. */
function seconds(text) {
  const [hours = 0, minutes = 0, rest = 0] = (/\d\d:\d\d:\d\d/.exec(text)?.[0] ?? '').split(':').map(Number);
  return hours * 3600 + minutes * 60 + rest;
}

describe('where control is away', () => {
  for (const [locale, theme, known, age] of [
    ['en-GB', 'dark', /^Last known: Traffic flows$/, /^\d\d:\d\d:\d\d ago$/],
    ['zh-CN', 'light', /^最后已知：流量正常$/, /^\d\d:\d\d:\d\d 之前$/],
  ]) {
    it(`the_last_data_stays_on_every_page_and_says_how_old_it_is in ${locale}`, async () => {
      const browser = await startBrowser();
      const stand = await Stand.start();
      try {
        const backend = await stand.register({ weight: 17, gpu_usage: 0.5 });
        const page = await openConsole(browser, stand, { view: 'overview', locale, colorScheme: theme, expected: /net::ERR_/ });
        await page.locator(`input[name="theme"][value="${theme}"]`).evaluate((radio) => radio.click());
        const pill = page.locator('#proxy');
        await hasAttribute(pill, 'data-level', 'good');
        await hasText(page.locator('#figure-taking .figure-value'), /^1 \/ 1$/);
        const bright = await page.locator('#figure-taking .figure-value').evaluate((value) => getComputedStyle(value).color);
        await until('the other pages are there', () =>
          page.evaluate(() => performance.getEntriesByName('preloaded').length > 0),
        );
        await stand.control.stop();
        await hasAttribute(pill, 'data-level', 'unknown');
        await hasText(page.locator('#proxy-text'), known);
        await hasText(page.locator('#proxy-detail'), age);
        assert.match(await page.title(), /^\? /);
        assert.equal(await page.locator('#proxy-shape').getAttribute('data-shape'), 'unknown', 'no green');
        const first = seconds((await page.locator('#proxy-detail').textContent()) ?? '');
        await until('it counts', async () => seconds((await page.locator('#proxy-detail').textContent()) ?? '') > first);
        await hasText(page.locator('#figure-taking .figure-value'), /^1 \/ 1$/);
        const dim = await page.locator('#figure-taking .figure-value').evaluate((value) => getComputedStyle(value).color);
        assert.notEqual(dim, bright, 'the figures are dimmed');
        await picture(page, `away-overview-${locale}`);
        await noSeriousFault(page, 'the overview');

        // None of these was shown before.
        await page.locator('.rail a[data-page="backends"]').click();
        await rowOf(page, backend).waitFor();
        assert.equal(await rowOf(page, backend).locator('.weight-input').inputValue(), '17');
        assert.equal(await rowOf(page, backend).locator('.time-left').isVisible(), false, 'nothing counts down');
        await picture(page, `away-backends-${locale}`);
        await noSeriousFault(page, 'the table');
        for (const view of ['changes', 'diagnostics', 'settings']) {
          await page.locator(`.rail a[data-page="${view}"]`).click();
          await page.locator('#content:not([aria-busy])').waitFor();
          await page.locator(`#page-${view} h1`).waitFor();
        }
        await page.keyboard.press('Control+k');
        await page.locator('#palette-list li').first().waitFor();
        await page.keyboard.press('Escape');

        await stand.startControl();
        await page.locator('#banner').waitFor({ state: 'hidden' });
        await hasAttribute(pill, 'data-level', 'good');
      } finally {
        await browser.close();
        await stand.close();
      }
    });
  }
});
