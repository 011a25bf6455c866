/**
 * @file The table under a finger: a tap waits to be applied, and the next one meets what stood there.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stand, hasText, newestReport, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

/** As table.js says. */
const ORDER_HELD_MS = 10_000;
const PHONE = { width: 390, height: 844, touch: true };

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
  for (let at = 0; at < 4; at += 1) backends.push(await stand.register({ weight: 10, vram_usage: 0.4 }));
});

/** Which backends people have set something of. */
async function overridden() {
  const { backends: listed } = await stand.call('GET', '/api/v1/backends');
  return listed.filter(({ override }) => override).map(({ id }) => id);
}

function order() {
  return page.locator('#rows .cell-address').allTextContents();
}

/** Where a switch is, in the middle of the screen. */
async function placeOf(locator) {
  await locator.evaluate((target) => target.scrollIntoView({ block: 'center' }));
  const box = await locator.boundingBox();
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
}

/** The backend whose card stands there. */
function keyAt({ x, y }) {
  return page.evaluate(([left, top]) => document.elementFromPoint(left, top)?.closest('tr')?.querySelector('.cell-address')?.textContent, [x, y]);
}

describe('a finger', () => {
  for (const [locale, pending, disabled] of [
    ['en-GB', /^1 pending$/, /^disabled/],
    ['zh-CN', /^1 项待生效变更$/, /^已停用/],
  ]) {
    it(`that_taps_twice_at_one_place_changes_one_machine in ${locale}`, async () => {
      page = await openConsole(browser, stand, { ...PHONE, locale });
      for (const backend of backends) await hasText(rowOf(page, backend).locator('.state-word'), /^(up|健康)$/);
      const before = await order();
      const first = { key: before[0] };
      const place = await placeOf(rowOf(page, first).getByRole('switch'));
      await page.touchscreen.tap(place.x, place.y);
      await hasText(page.locator('#pending-count'), pending);
      assert.deepEqual(await overridden(), [], 'a tap alone changes nothing');

      await page.locator('#pending-apply').tap();
      await hasText(rowOf(page, first).locator('.state-word'), disabled);
      await hasText(newestReport(page), /(applied in \d+ ms|\d+ ms 后生效)/);
      // Sorted by state it would stand last now, and another one here.
      await page.locator('#order-held').waitFor();
      assert.deepEqual(await order(), before);
      assert.equal(await keyAt(place), first.key);

      await page.touchscreen.tap(place.x, place.y);
      await hasText(page.locator('#pending-count'), pending);
      await hasText(rowOf(page, first).locator('.badge-pending'), /^→ (Enable|启用)$/);
      assert.deepEqual(await overridden(), [first.key]);
      await picture(page, `touch-${locale}`);
      // The same tap once more takes it back.
      await rowOf(page, first).getByRole('switch').tap();
      await page.locator('#pending').waitFor({ state: 'hidden' });

      const sorted = [...before.slice(1), first.key];
      await until('the order that is asked for', async () => String(await order()) === String(sorted), 3 * ORDER_HELD_MS);
      await stand.call('DELETE', `/api/backends/127.0.0.1/${first.key.split(':')[1]}/override`);
    });
  }

  it('that_taps_drain_or_clears_an_override_makes_it_wait', async () => {
    const [, second] = backends;
    await stand.call('POST', `/api/backends/127.0.0.1/${second.port}/weight`, { weight: 11 });
    page = await openConsole(browser, stand, PHONE);
    const row = rowOf(page, second);
    await row.locator('.badge-override').waitFor();
    await row.locator('.cell-actions [aria-pressed]').tap();
    await hasText(row.locator('.badge-pending'), /^→ Drain$/);
    await row.locator('.cell-actions [aria-pressed]').tap();
    await row.locator('.badge-pending').waitFor({ state: 'hidden' });
    await row.getByRole('button', { name: 'Clear override' }).tap();
    await hasText(row.locator('.badge-pending'), /^→ Clear override/);
    assert.deepEqual(await overridden(), [second.key]);
    await page.locator('#pending-discard').tap();
    await stand.call('DELETE', `/api/backends/127.0.0.1/${second.port}/override`);
  });

  it('reaches_the_last_row_above_a_dock_of_many_lines', async () => {
    page = await openConsole(browser, stand, PHONE);
    // In the height of one card, the dock covers the card below: only the end of the page can clear it.
    await page.locator('#pending').evaluate((pending) => { pending.style.minHeight = '330px'; });
    const last = page.locator('#rows tr:not(.spacer)').last();
    await last.waitFor();
    await last.locator('.cell-actions [aria-pressed]').tap();
    await hasText(last.locator('.badge-pending'), /^→ Drain$/);
    for (const button of await last.locator('button, input').all()) {
      await button.focus();
      const isCovered = await button.evaluate((target) => {
        const { left, top, width, height } = target.getBoundingClientRect();
        const there = document.elementFromPoint(left + width / 2, top + height / 2);
        return width > 0 && there?.closest('tr') === null;
      });
      assert.equal(isCovered, false, `the dock covers ${await button.getAttribute('aria-label')}`);
    }
    await last.locator('.cell-actions [aria-pressed]').tap();
    await last.locator('.badge-pending').waitFor({ state: 'hidden' });
  });

  it('finds_the_text_in_the_dock_whole', async () => {
    page = await openConsole(browser, stand, PHONE);
    const input = rowOf(page, backends[2]).locator('.weight-input');
    await input.fill('12');
    await input.press('Enter');
    await hasText(newestReport(page), /10 → 12 — applied/);
    const cut = await page.evaluate(() => {
      const dock = document.querySelector('#newest .report');
      const [inner, outer] = [dock.querySelector('.report-text').getBoundingClientRect(), dock.getBoundingClientRect()];
      return { above: outer.top - inner.top, below: inner.bottom - outer.bottom, hidden: dock.scrollHeight - dock.clientHeight };
    });
    assert.ok(Object.values(cut).every((pixels) => pixels <= 0), JSON.stringify(cut));
    await picture(page, 'touch-dock');
    await stand.call('DELETE', `/api/backends/127.0.0.1/${backends[2].port}/override`);
  });
});
