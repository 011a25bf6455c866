/**
 * @file What a tip says, for who has no pointer to hover with: a finger that rests asks, and presses nothing.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stand, hasText, onOneStand, openConsole, rowOf } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
const backend = { key: '10.4.0.1:9001' };

onOneStand({ proxy: null }, async (started, onIt) => {
  browser = started;
  stand = onIt;
  await stand.publishDiscovery([{ ip: '10.4.0.1', port: 9001, weight: 10, vram_usage: 0.4 }]);
});

describe('a finger', () => {
  for (const [locale, said] of [['en-GB', /^VRAM usage 40%/], ['zh-CN', /^显存占用 40%/]]) {
    it(`that_rests_asks_and_presses_nothing in ${locale}`, async () => {
      const page = await openConsole(browser, stand, { locale });
      const cell = rowOf(page, backend).locator('.cell-vram');
      const touch = (/** @type {string} */ type) => cell.dispatchEvent(type, { pointerType: 'touch', bubbles: true });
      const tip = page.locator('#tip');
      await touch('pointerdown');
      await hasText(tip, said);
      await touch('pointerup');
      await cell.dispatchEvent('click');
      assert.equal(await page.locator('#side').isVisible(), false, 'the press that ends it opens nothing');
      assert.equal(await tip.isVisible(), true, 'it stays to be read');
      // A short press is one.
      await cell.evaluate((target) => {
        for (const type of ['pointerdown', 'pointerup']) target.dispatchEvent(new PointerEvent(type, { pointerType: 'touch', bubbles: true }));
        target.dispatchEvent(new MouseEvent('click', { bubbles: true }));
      });
      await hasText(page.locator('#side-title'), /^10\.4\.0\.1:9001$/);
      assert.equal(await tip.isVisible(), false);
    });
  }
});
