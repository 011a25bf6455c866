/**
 * @file The table by keyboard: one stop of the Tab key, arrows within it, the panel that follows, and the
 * palette, which acts on the selection.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stand, hasText, onOneStand, openConsole, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let page;
const backends = [1, 2, 3, 4].map((last) => ({ key: `10.3.0.${last}:9001` }));

onOneStand({ proxy: null }, async (started, onIt) => {
  browser = started;
  stand = onIt;
  await stand.publishDiscovery(backends.map((_, at) => ({ ip: `10.3.0.${at + 1}`, port: 9001, weight: 10 })));
});

/** The table in the order of addresses. */
async function open(locale = 'en-GB') {
  page = await openConsole(browser, stand, { view: 'backends&sort=address', locale });
  for (const backend of backends) await rowOf(page, backend).waitFor();
}

/** The address of the row that has the keyboard, and what of it. */
function focused() {
  return page.evaluate(() => {
    const active = document.activeElement;
    const address = active?.closest('#rows tr')?.querySelector('.cell-address span')?.textContent ?? null;
    return [address, active?.tagName];
  });
}

/** @param {number} at @param {string} tag */
async function isAt(at, tag = 'TR') {
  await until(`the keyboard at row ${at}, ${tag}`, async () => JSON.stringify(await focused()) === JSON.stringify([backends[at].key, tag]));
}

describe('the table by keyboard', () => {
  it('is_one_stop_and_is_walked_by_arrows', async () => {
    await open();
    const stops = () => page.locator('#rows [tabindex="0"]').count();
    assert.equal(await stops(), 1);
    await page.locator('.head-errors button').focus();
    await page.keyboard.press('Tab');
    await isAt(0);
    for (const [key, at] of [['ArrowDown', 1], ['j', 2], ['End', 3], ['ArrowDown', 3], ['k', 2], ['Home', 0], ['ArrowUp', 0]]) {
      await page.keyboard.press(String(key));
      await isAt(Number(at));
    }
    assert.equal(await stops(), 1);
    // Out of the table by one Tab, and back to the same row.
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Tab');
    assert.equal((await focused())[0], null);
    await page.keyboard.press('Shift+Tab');
    await isAt(1);
    // Along the row, where Tab goes on from there.
    await page.keyboard.press('ArrowRight');
    await isAt(1, 'INPUT');
    await page.keyboard.press('Tab');
    await isAt(1, 'BUTTON');
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowLeft');
    await isAt(1);
    // Keys of a row act on it.
    await page.keyboard.press('x');
    await hasText(page.locator('#bulk-count'), /^1 selected$/);
    assert.equal(await rowOf(page, backends[1]).locator('.choose').isChecked(), true);
    await page.keyboard.press('e');
    await isAt(1, 'INPUT');
    await page.keyboard.press('Escape');
  });

  it('moves_the_open_panel', async () => {
    await open();
    await rowOf(page, backends[0]).locator('.cell-sessions').click();
    await hasText(page.locator('#side-title'), new RegExp(`^${backends[0].key}$`));
    await page.keyboard.press('j');
    await hasText(page.locator('#side-title'), new RegExp(`^${backends[1].key}$`));
    await page.keyboard.press('j');
    await hasText(page.locator('#side-title'), new RegExp(`^${backends[2].key}$`));
    // Who reads in the panel stays there.
    assert.equal(await page.evaluate(() => document.activeElement?.id), 'side-title');
    await page.keyboard.press('k');
    await hasText(page.locator('#side-title'), new RegExp(`^${backends[1].key}$`));
    assert.match(page.url(), /open=10\.3\.0\.2%3A9001/);
    await page.keyboard.press('Escape');
    await page.locator('#side').waitFor({ state: 'hidden' });
  });

  for (const [locale, two, one, pending] of [
    ['en-GB', 'Disable: 2 selected', `Drain: ${backends[3].key}`, /^2 /],
    ['zh-CN', '停用：已选 2 个', `排空：${backends[3].key}`, /2/],
  ]) {
    it(`has_a_palette_that_acts_on_the_selection in ${locale}`, async () => {
      await open(locale);
      const run = async (text) => {
        await page.keyboard.press('Control+k');
        await page.keyboard.type(text);
        await hasText(page.locator('#palette-list [aria-selected="true"] .palette-text'), new RegExp(`^${text}$`));
        await page.keyboard.press('Enter');
      };
      for (const at of [0, 2]) await rowOf(page, backends[at]).locator('.choose').check();
      await run(two);
      await hasText(page.locator('#pending-count'), pending);
      for (const at of [0, 2]) await rowOf(page, backends[at]).locator('.badge-pending').waitFor();
      await page.locator('#pending-discard').click();
      await page.locator('#bulk-none').click();
      // Nothing is selected: the row that the keyboard is at.
      await rowOf(page, backends[3]).locator('.choose').focus();
      await run(one);
      await rowOf(page, backends[3]).locator('.badge-pending').waitFor();
      await page.locator('#pending-discard').click();
    });
  }
});
