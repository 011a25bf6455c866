/**
 * @file Settings that somebody else changes while they are being edited here: marked with the value then and
 * now, kept or overwritten on purpose alone, and what is not edited follows.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { noSeriousFault } from './axe.mjs';
import { hasText, onOneStand, openConsole, picture, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {import('./harness.mjs').Stand} */
let stand;
let page;

onOneStand({}, (started, onIt) => {
  browser = started;
  stand = onIt;
});

const field = (name) => page.locator(`[data-pointer="/proxy/${name}"]`);
const settingOf = (name) => page.locator('.setting', { has: field(name) });
const mark = (name) => settingOf(name).locator('.setting-overtaken');
const byOthers = (proxy) => stand.call('POST', '/api/settings', { proxy });
const byApi = async () => (await stand.call('GET', '/api/settings')).settings.by_api;

describe('a setting that somebody else changes while it is edited', () => {
  for (const [locale, width, colorScheme, said, refused, theirs, mine] of [
    ['en-GB', 1280, 'dark', /7000 when you began; changed to 9000 by someone else/, /^Not applied: someone else has changed a setting/, 'Keep theirs', 'Overwrite theirs'],
    ['zh-CN', 1280, 'light', /开始修改时为 7000，已被他人改为 9000/, /^未应用：正在修改的设置中有 1 项/, '保留对方', '覆盖对方'],
    ['en-GB', 390, 'light', /7000 when you began; changed to 9000 by someone else/, /^Not applied: someone else has changed a setting/, 'Keep theirs', 'Overwrite theirs'],
    ['zh-CN', 390, 'dark', /开始修改时为 7000，已被他人改为 9000/, /^未应用：正在修改的设置中有 1 项/, '保留对方', '覆盖对方'],
  ]) {
    it(`is_marked_and_overwritten_on_purpose_alone: ${locale}, ${width} px`, async () => {
      await byOthers({ udp_idle_ms: 7000, connect_attempts: null, max_flows: null });
      page = await openConsole(browser, stand, { view: 'settings', locale, width, colorScheme });
      await page.locator(`input[name="theme"][value="${colorScheme}"]`).evaluate((radio) => radio.click());
      await until('it is read', async () => (await field('udp_idle_ms').inputValue()) === '7000');
      await field('udp_idle_ms').fill('8000');
      await field('connect_attempts').fill('4');
      await field('connect_attempts').evaluate((input) => input.setSelectionRange(0, 1));
      await byOthers({ udp_idle_ms: 9000, max_flows: 500 });
      await hasText(mark('udp_idle_ms'), said);
      await until('what is not edited follows', async () => (await field('max_flows').inputValue()) === '500');
      assert.deepEqual([await field('udp_idle_ms').inputValue(), await field('connect_attempts').inputValue()], ['8000', '4']);
      assert.equal(await page.locator('.setting-overtaken').count(), 1, 'the other edit meets nobody');
      const caret = await field('connect_attempts').evaluate((input) => [document.activeElement === input, input.selectionStart, input.selectionEnd]);
      assert.deepEqual(caret, [true, 0, 1], 'the caret stays where the person types');
      await page.locator('#fields-save').click();
      await hasText(page.locator('#fields-problem'), refused);
      assert.equal((await byApi()).proxy.udp_idle_ms, 9000, 'nothing is sent');
      await picture(page, `settings-others-${locale}-${width}`);
      await noSeriousFault(page, 'settings that others have changed');
      // It is marked on the page that is loaded again, too.
      await page.reload();
      await hasText(mark('udp_idle_ms'), said);
      await mark('udp_idle_ms').getByRole('button', { name: theirs }).click();
      await until('theirs is shown', async () => (await field('udp_idle_ms').inputValue()) === '9000');
      assert.equal(await page.locator('.setting-overtaken').count(), 0);
      await field('udp_idle_ms').fill('8500');
      await byOthers({ udp_idle_ms: 9500 });
      await mark('udp_idle_ms').getByRole('button', { name: mine }).click();
      await page.locator('#fields-save').click();
      await until('mine stands', async () => (await byApi()).proxy.udp_idle_ms === 8500);
      assert.equal((await byApi()).proxy.connect_attempts, 4);
    });
  }

  it('is_found_by_the_server_where_the_page_has_not_heard_of_it', async () => {
    await byOthers({ udp_idle_ms: 7000, connect_attempts: null });
    page = await openConsole(browser, stand, { view: 'settings', expected: /status of 412|net::ERR_/ });
    await until('it is read', async () => (await field('udp_idle_ms').inputValue()) === '7000');
    await page.route('**/api/v1/events*', (route) => route.abort());
    await page.reload();
    await until('it is read again', async () => (await field('udp_idle_ms').inputValue()) === '7000');
    await field('udp_idle_ms').fill('8000');
    await byOthers({ udp_idle_ms: 9000 });
    await page.locator('#fields-save').click();
    await hasText(mark('udp_idle_ms'), /changed to 9000/);
    assert.equal((await byApi()).proxy.udp_idle_ms, 9000);
    // Somebody edits something else: mine goes through.
    await mark('udp_idle_ms').getByRole('button', { name: 'Overwrite theirs' }).click();
    await byOthers({ connect_attempts: 5 });
    await page.locator('#fields-save').click();
    await until('mine stands', async () => (await byApi()).proxy.udp_idle_ms === 8000);
    assert.equal((await byApi()).proxy.connect_attempts, 5);
  });

  it('may_be_the_algorithm', async () => {
    await stand.call('POST', '/api/settings', { algorithm: 'round_robin' });
    page = await openConsole(browser, stand, { view: 'settings' });
    const choice = (name) => page.locator(`input[name="algorithm"][value="${name}"]`);
    await until('it is read', () => choice('round_robin').isChecked());
    await choice('random').check();
    await stand.call('POST', '/api/settings', { algorithm: 'gpu_aware' });
    const told = page.locator('#algorithm-overtaken');
    await hasText(told, /round_robin when you began; changed to gpu_aware by someone else/);
    await picture(page, 'settings-others-algorithm');
    await page.locator('#settings-save').click();
    await hasText(page.locator('#settings-outcome'), /^Not applied/);
    assert.equal((await byApi()).algorithm, 'gpu_aware');
    await told.getByRole('button', { name: 'Keep theirs' }).click();
    await until('theirs is chosen', () => choice('gpu_aware').isChecked());
    await choice('random').check();
    await page.locator('#settings-save').click();
    await until('mine stands', async () => (await byApi()).algorithm === 'random');
  });
});
