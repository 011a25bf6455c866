/**
 * @file The console on paper: light, the whole table, no rail and no bars.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stand, hasText, onOneStand, openConsole, picture, until } from './harness.mjs';

/** More than fit on a screen, each with an address of nobody. */
const COUNT = 120;

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;

onOneStand({ proxy: null }, async (started, onIt) => {
  browser = started;
  stand = onIt;
  await stand.publishDiscovery(Array.from({ length: COUNT }, (_, at) => ({ ip: `10.2.0.${at + 1}`, port: 9001, weight: 10 })));
});

describe('on paper', () => {
  for (const [locale, theme] of [['en-GB', 'dark'], ['zh-CN', 'light']]) {
    it(`the_table_is_whole_and_light_without_rail_and_bars in ${locale}, ${theme}`, async () => {
      const page = await openConsole(browser, stand, { locale, width: 1100 });
      await page.locator(`input[name="theme"][value="${theme}"]`).evaluate((radio) => radio.click());
      await hasText(page.locator('#count'), new RegExp(String(COUNT)));
      const rows = page.locator('#rows tr:not(.spacer)');
      assert.ok((await rows.count()) < COUNT, 'a screen shows some of them');
      await page.emulateMedia({ media: 'print' });
      await until('every row', async () => (await rows.count()) === COUNT);
      for (const gone of ['.rail', '.bar', '.dock', '.toolbar-end', '.head-actions']) {
        assert.equal(await page.locator(gone).first().isVisible(), false, gone);
      }
      const { ground, scrolls } = await page.evaluate(() => {
        const probe = document.body.appendChild(document.createElement('i'));
        probe.style.color = 'var(--surface)';
        const scroller = document.querySelector('#table-scroll');
        return { ground: getComputedStyle(probe).color, scrolls: scroller.scrollHeight > scroller.clientHeight + 1 };
      });
      assert.match(ground, /255, 255, 255/, 'light');
      assert.equal(scrolls, false, 'nothing is left to scroll to');
      await picture(page, `print-${locale}-${theme}`);
      await page.emulateMedia({ media: 'screen' });
      await until('as before', async () => (await rows.count()) < COUNT);
    });
  }
});
