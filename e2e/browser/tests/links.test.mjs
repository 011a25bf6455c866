/**
 * @file Where links and the palette lead: each sets the whole query, opens the panel of its backend, and
 * never lands on an empty table.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stand, hasText, isReady, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let down;
let page;

onOneStand({ config: { proxy: { health: { interval_ms: 200, fall: 1, rise: 1 } } } }, async (started, onIt) => {
  browser = started;
  stand = onIt;
  await stand.register({ weight: 10 });
  // Nobody listens there.
  down = { key: '127.0.0.1:9', ip: '127.0.0.1', port: 9 };
  await stand.call('POST', '/api/register', { ip: down.ip, port: down.port, weight: 10 });
});

/** The overview, with a filter of the table behind it that hides the backend that is down. */
async function openOverview(locale) {
  page = await openConsole(browser, stand, { locale });
  await page.goto(`${stand.origin}/?page=backends&state=up&filter=registered&sort=weight`);
  await isReady(page);
  await until('the filter', async () => (await page.locator('#hidden-count').textContent()) !== '');
  await page.locator('.rail a[data-page="overview"]').click();
  await page.locator('#worst a').first().waitFor();
}

/** The panel of the backend that is down, and the table behind it whole. */
async function isOpen() {
  await hasText(page.locator('#side-title'), /^127\.0\.0\.1:9$/);
  await rowOf(page, down).waitFor();
  assert.equal(await page.locator('#nothing-matches').isVisible(), false);
  assert.equal(await page.locator('#rows tr:not(.spacer)').count(), 2);
  assert.equal(new URL(page.url()).search, '?page=backends&open=127.0.0.1%3A9');
}

describe('a link', () => {
  for (const locale of ['en-GB', 'zh-CN']) {
    it(`of_the_worst_list_sets_the_whole_query_and_opens_the_panel in ${locale}`, async () => {
      await openOverview(locale);
      await page.locator('#worst a').first().click();
      await isOpen();
    });

    it(`of_the_palette_does_so_too in ${locale}`, async () => {
      await openOverview(locale);
      await page.keyboard.press('Control+k');
      await page.keyboard.type(down.key);
      await hasText(page.locator('#palette-list [aria-selected="true"]'), /127\.0\.0\.1:9/);
      await page.keyboard.press('Enter');
      await isOpen();
    });
  }

  it('of_the_health_card_shows_those_that_are_out', async () => {
    await openOverview('en-GB');
    await hasText(page.locator('#answer-health'), /1 down/);
    await picture(page, 'overview-cards');
    await page.locator('#answer-health').click();
    await rowOf(page, down).waitFor();
    await until('only that row', async () => (await page.locator('#rows tr:not(.spacer)').count()) === 1);
    assert.equal(new URL(page.url()).search, '?page=backends&sort=state&state=down');
  });

  it('of_each_figure_shows_every_backend', async () => {
    await openOverview('en-GB');
    for (const name of ['taking', 'sessions', 'failed', 'flows', 'traffic', 'first-byte', 'gpu', 'vram']) {
      await page.locator(`#figure-${name}`).click();
      await rowOf(page, down).waitFor();
      assert.equal(await page.locator('#rows tr:not(.spacer)').count(), 2, name);
      assert.match(page.url(), /[?&]sort=/);
      await page.goBack();
      await page.locator('#page-overview').waitFor();
    }
  });

  it('of_the_rail_leads_to_the_table_as_it_was_left', async () => {
    await openOverview('en-GB');
    await page.locator('.rail a[data-page="settings"]').click();
    assert.equal(new URL(page.url()).search, '?page=settings');
    await page.locator('.rail a[data-page="backends"]').click();
    await until('the filter', () => new URL(page.url()).search === '?page=backends&state=up&filter=registered&sort=weight');
    await hasText(page.locator('#hidden-count'), /^1 hidden/);
  });
});
