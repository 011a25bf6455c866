/**
 * @file The pages of the console: the rail and the keys that lead to them, the address, the way back,
 * and where the keyboard stands afterwards.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Stand, hasAttribute, hasText, onOneStand, openConsole, rowOf, until } from './harness.mjs';

/** Each page with its key after `g` and its names. */
const PAGES = [
  ['overview', 'o', 'Overview', '概览'],
  ['backends', 'b', 'Backends', '后端'],
  ['changes', 'a', 'Changes & audit', '变更与审计'],
  ['diagnostics', 'd', 'Diagnostics', '诊断'],
  ['batch', 'm', 'Batch demo', '批处理演示'],
  ['settings', 's', 'Settings', '设置'],
];

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let backend;
let page;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
  backend = await stand.register({ weight: 10, gpu_usage: 0.4, vram_usage: 0.85 });
});

/** Only the page that is named is seen, its link is the current one, and the keyboard is at its title. */
async function isShown(view, title) {
  await page.locator(`#page-${view}`).waitFor();
  assert.equal(await page.locator('.page:visible').count(), 1);
  await until(`the title ${title}`, async () => (await page.title()) === `${title} · Wicketgate`);
  await hasAttribute(page.locator(`.rail a[data-page="${view}"]`), 'aria-current', 'page');
  assert.equal(await page.locator('.rail [aria-current]').count(), 1);
}

describe('the pages', () => {
  for (const [locale, at] of [['en-GB', 2], ['zh-CN', 3]]) {
    it(`are_reached_by_the_rail_and_left_by_the_way_back in ${locale}`, async () => {
      page = await openConsole(browser, stand, { view: 'overview', locale });
      for (const names of PAGES.slice(1)) {
        await page.getByRole('link', { name: names[at], exact: true }).click();
        await isShown(names[0], names[at]);
        assert.equal(await page.evaluate(() => document.activeElement?.textContent), names[at]);
      }
      for (const names of PAGES.slice(0, -1).reverse()) {
        await page.goBack();
        await isShown(names[0], names[at]);
      }
      await page.goForward();
      await page.reload();
      await isShown('backends', PAGES[1][at]);
    });
  }

  it('are_reached_by_keys', async () => {
    page = await openConsole(browser, stand, { view: 'settings' });
    for (const [view, key, title] of PAGES) {
      await page.keyboard.press('g');
      await page.keyboard.press(key);
      await isShown(view, title);
    }
  });

  it('are_reached_by_who_hesitates_between_two_keys', async () => {
    page = await openConsole(browser, stand);
    await page.keyboard.press('g');
    await pause(1_200);
    await page.keyboard.press('s');
    await isShown('settings', 'Settings');
    // Alone the second key would have been a sync.
    assert.equal(await page.locator('#newest .report').count(), 0);
    // Whoever points at something has left off.
    await page.keyboard.press('g');
    await page.locator('#page-settings h1').click();
    await page.keyboard.press('o');
    await page.keyboard.press('a');
    await isShown('changes', 'Changes & audit');
    await page.goBack();
    await isShown('settings', 'Settings');
    // So has whoever opens the palette.
    await page.keyboard.press('g');
    await page.keyboard.press('Control+k');
    await page.locator('#palette').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#palette').waitFor({ state: 'hidden' });
    await page.keyboard.press('o');
    await page.keyboard.press('a');
    await isShown('changes', 'Changes & audit');
    await page.goBack();
    await isShown('settings', 'Settings');
  });

  it('keep_the_filter_of_the_table_in_the_address', async () => {
    page = await openConsole(browser, stand, { view: 'overview' });
    await page.keyboard.press('/');
    await isShown('backends', 'Backends');
    await page.keyboard.type('nothing like it');
    await hasText(page.locator('#hidden-count'), /^1 hidden/);
    await page.locator('.rail a[data-page="overview"]').click();
    await isShown('overview', 'Overview');
    await page.goBack();
    await hasText(page.locator('#hidden-count'), /^1 hidden/);
    await page.goBack();
    await isShown('overview', 'Overview');
  });

  it('are_found_by_links_from_before_there_were_pages', async () => {
    page = await openConsole(browser, stand, { view: 'overview' });
    await page.goto(`${stand.origin}/?filter=registered`);
    await isShown('backends', 'Backends');
    await rowOf(page, backend).waitFor();
    await page.goto(`${stand.origin}/`);
    await isShown('overview', 'Overview');
  });

  it('have_a_rail_that_folds_and_stays_so', async () => {
    page = await openConsole(browser, stand, { view: 'overview' });
    const width = async () => (await page.locator('.rail').boundingBox())?.width ?? 0;
    assert.ok((await width()) > 150);
    await page.locator('#rail-fold').click();
    assert.ok((await width()) < 60);
    await page.reload();
    await page.locator('#rail-fold').waitFor();
    assert.ok((await width()) < 60);
    await hasAttribute(page.locator('#rail-fold'), 'aria-expanded', 'false');
    await page.keyboard.press('[');
    assert.ok((await width()) > 150);
  });
});
