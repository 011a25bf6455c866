/**
 * @file The table of backends, and every change that can be made in it.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stand, applyReview, hasAttribute, hasText, newestReport, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

/** As table.js says. */
const ORDER_HELD_MS = 10_000;

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let discovered;
let registered;
let page;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
  discovered = await stand.discover(
    { weight: 10, gpu_usage: 0.21, vram_usage: 0.42 },
    { weight: 30, gpu_usage: 0.55, vram_usage: 0.95 },
  );
  registered = await stand.register({ weight: 20, vram_usage: 0.1 });
});

describe('the table', () => {
  for (const [locale, source, vram] of [
    ['en-GB', /discovered/, 'VRAM usage 95%, above 92%'],
    ['zh-CN', /服务发现/, '显存占用 95%, 超过 92%'],
  ]) {
    it(`lists_every_backend_with_its_source_and_figures in ${locale}`, async () => {
      page = await openConsole(browser, stand, { locale });
      for (const backend of [...discovered, registered]) await rowOf(page, backend).waitFor();
      const row = rowOf(page, discovered[1]);
      await hasText(row.locator('.cell-source'), source);
      assert.equal(await row.locator('.weight-input').inputValue(), '30');
      assert.equal(await row.locator('.cell-vram .usage').getAttribute('aria-label'), vram);
      assert.equal(await row.locator('.cell-gpu .usage-number').textContent(), '55%');
      await picture(page, `table-${locale}`);
    });
  }

  it('shows_a_new_backend_by_itself_and_lets_a_removed_one_go', async () => {
    page = await openConsole(browser, stand);
    const late = await stand.register({ weight: 5 });
    await rowOf(page, late).waitFor();
    await stand.call('DELETE', '/api/register', { ip: late.ip, port: late.port });
    await hasText(rowOf(page, late), /no longer listed/);
    await rowOf(page, late).waitFor({ state: 'detached' });
  });

  it('filters_by_text_says_how_many_are_hidden_and_keeps_it_in_the_address', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, registered).waitFor();
    await page.keyboard.press('/');
    await page.keyboard.type('registered');
    await hasText(page.locator('#hidden-count'), /^2 hidden by filter$/);
    assert.equal(await page.locator('#rows tr:not(.spacer)').count(), 1);
    assert.match(page.url(), /\?page=backends&filter=registered$/);
    await page.reload();
    await hasText(page.locator('#hidden-count'), /^2 hidden by filter$/);
    await page.locator('#filter').press('Escape');
    await hasText(page.locator('#hidden-count'), /^$/);
    await page.locator('#filter').fill('no such backend');
    await page.locator('#nothing-matches').waitFor();
  });

  it('shows_the_states_that_are_asked_for_and_counts_them', async () => {
    page = await openConsole(browser, stand);
    const chip = (name) => page.locator('.chip').filter({ hasText: name });
    await stand.call('POST', `/api/backends/127.0.0.1/${discovered[0].port}/enabled`, { enabled: false });
    await hasText(chip('disabled'), /^disabled1$/);
    await chip('disabled').click();
    await hasText(page.locator('#hidden-count'), /^2 hidden by filter$/);
    await rowOf(page, discovered[0]).waitFor();
    assert.match(page.url(), /state=disabled/);
    await page.reload();
    await hasText(page.locator('#hidden-count'), /^2 hidden by filter$/);
    await hasAttribute(chip('disabled'), 'aria-pressed', 'true');
    await page.locator('#clear-filter').click();
    await hasText(page.locator('#hidden-count'), /^$/);
    await stand.call('DELETE', `/api/backends/127.0.0.1/${discovered[0].port}/override`);
  });

  it('shows_the_columns_that_are_chosen', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, registered).waitFor();
    assert.equal(await page.locator('.head-seen').isVisible(), false);
    await page.locator('#columns summary').click();
    await page.getByRole('checkbox', { name: 'Heartbeat' }).check();
    await page.getByRole('checkbox', { name: 'GPU usage' }).uncheck();
    await page.keyboard.press('Escape');
    await page.reload();
    await rowOf(page, registered).locator('.cell-seen').waitFor();
    assert.equal(await page.locator('.head-gpu').isVisible(), false);
    assert.equal(await rowOf(page, registered).locator('.cell-gpu').isVisible(), false);
  });

  for (const [locale, width] of [['en-GB', 1280], ['zh-CN', 1280], ['en-GB', 1440]]) {
    it(`shows_its_first_columns_whole_at_${width}_px in ${locale}`, async () => {
      page = await openConsole(browser, stand, { locale, width });
      // The widest of all cells: an override with a time that is left, and an address of version 6.
      const wide = { ip: '2a00:1450:1234:5678:9abc:def0:1234:5678', port: 65535 };
      await stand.call('POST', '/api/register', { ...wide, weight: 1000, vram_usage: 0.99 });
      await stand.call('POST', `/api/backends/127.0.0.1/${registered.port}/weight`, { weight: 1000 });
      await rowOf(page, registered).locator('.badge-override').waitFor();
      await rowOf(page, { key: `[${wide.ip}]:${wide.port}` }).waitFor();
      assert.equal(await page.locator('html').getAttribute('data-rail'), 'open');
      const [whole, room] = await page.locator('#table-scroll').evaluate((scroller) => [scroller.scrollWidth, scroller.clientWidth]);
      assert.ok(whole <= room, `${whole} px wide on ${room}`);
      const heights = await page.locator('#rows tr:not(.spacer)').evaluateAll((rows) => rows.map((row) => row.getBoundingClientRect().height));
      assert.deepEqual([...new Set(heights)], [32], 'each row has the height that table.js counts on');
      const input = rowOf(page, registered).locator('.weight-input');
      assert.ok(await input.evaluate(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth), 'a weight is not cut off');
      await picture(page, `table-${locale}-${width}`);
      await stand.call('DELETE', `/api/backends/127.0.0.1/${registered.port}/override`);
      await stand.call('DELETE', '/api/register', wide);
    });
  }

  it('sorts_by_every_column_both_ways', async () => {
    page = await openConsole(browser, stand);
    await page.goto(`${stand.origin}/?page=backends&columns=source,weight,gpu,vram,sessions,rate,latency,errors,seen`);
    await rowOf(page, registered).waitFor();
    for (const column of ['address', 'source', 'weight', 'gpu', 'vram', 'sessions', 'rate', 'latency', 'errors', 'seen', 'state']) {
      const head = page.locator(`.head-${column}`);
      await head.getByRole('button').click();
      await hasAttribute(head, 'aria-sort', 'ascending');
      await head.getByRole('button').click();
      await hasAttribute(head, 'aria-sort', 'descending');
      assert.equal(await page.locator('[aria-sort]:not([aria-sort="none"])').count(), 1);
      assert.match(page.url(), new RegExp(`sort=${column}.descending`));
    }
  });

  it('says_why_on_hover_and_on_focus_and_how_old_each_number_is', async () => {
    page = await openConsole(browser, stand);
    const row = rowOf(page, registered);
    const tip = page.locator('#tip');
    await row.locator('.state').hover();
    await hasText(tip, /(up|not probed yet): \S+/);
    await row.locator('.cell-vram').hover();
    await hasText(tip, /^VRAM usage 10%, reported [\d.]+ (s|min) ago by the backend’s agent$/);
    await row.locator('.cell-sessions').hover();
    await hasText(tip, /counted by the proxy, [\d.]+ s ago$/);
    await row.locator('.cell-errors').hover();
    await hasText(tip, /0 connects refused, 0 timed out/);
    await row.locator('.time-left').hover();
    await hasText(tip, /last heartbeat at .*expires in .* without a heartbeat/);
    await page.mouse.move(0, 0);
    await tip.waitFor({ state: 'hidden' });
    await row.locator('.choose').focus();
    await page.keyboard.press('Tab');
    await hasText(tip, /(up|not probed yet): \S+/);
    assert.equal(await row.locator('.state').getAttribute('aria-describedby'), 'tip');
  });

  it('sorts_by_a_column_and_holds_the_order_while_one_edits', async () => {
    page = await openConsole(browser, stand);
    const order = () => page.locator('#rows .cell-address').allTextContents();
    await page.getByRole('button', { name: 'Weight', exact: true }).click();
    const byWeight = [discovered[0].key, registered.key, discovered[1].key];
    await until('the order by weight', async () => String(await order()) === String(byWeight));
    assert.equal(await page.locator('.head-weight').getAttribute('aria-sort'), 'ascending');

    await rowOf(page, registered).locator('.weight-input').fill('777');
    await stand.call('POST', `/api/backends/127.0.0.1/${discovered[0].port}/weight`, { weight: 500 });
    await until('the new weight is shown', async () => {
      const shown = await rowOf(page, discovered[0]).locator('.weight-input').inputValue();
      return shown === '500';
    });
    assert.deepEqual(await order(), byWeight);
    assert.equal(await rowOf(page, registered).locator('.weight-input').inputValue(), '777');
    await page.locator('#order-held').waitFor();

    await page.keyboard.press('Escape');
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), 'TR', 'the keyboard goes back to the row');
    await page.locator('#backends').focus();
    const sorted = [registered.key, discovered[1].key, discovered[0].key];
    // Not at once: the next click may be meant for what stood there.
    assert.deepEqual(await order(), byWeight);
    await until('the new order', async () => String(await order()) === String(sorted), 3 * ORDER_HELD_MS);
    await stand.call('DELETE', `/api/backends/127.0.0.1/${discovered[0].port}/override`);
  });

  it('draws_the_vram_of_the_last_minutes', async () => {
    page = await openConsole(browser, stand);
    const line = rowOf(page, registered).locator('.sparkline');
    await stand.heartbeat(registered, { weight: 20, vram_usage: 0.9 });
    const label = () => line.getAttribute('aria-label');
    await until('the later report', async () => /to 90%/.test((await label()) ?? ''));
    await stand.heartbeat(registered, { weight: 20, vram_usage: 0.1 });
    await until('both reports', async () => /10% to 90%/.test((await label()) ?? ''));
    const path = await line.locator('.sparkline-line').getAttribute('d');
    assert.match(path ?? '', /^M[\d.]+ [\d.]+(L[\d.]+ [\d.]+)+$/);
  });
});

describe('a change', () => {
  it('of_a_weight_by_enter_is_published_applied_and_told', async () => {
    page = await openConsole(browser, stand);
    const row = rowOf(page, discovered[0]);
    await row.locator('.weight-input').fill('25');
    await row.locator('.weight-input').press('Enter');
    await hasText(row.locator('.weight-note').first(), /applied in \d+ ms/);
    await stand.publishedWeight(discovered[0], 25);
    await hasText(newestReport(page), /10 → 25 — applied in \d+ ms/);
    await hasText(newestReport(page), new RegExp(`sent SIGHUP to pid=${stand.proxy.child.pid}`));
    await hasText(row.locator('.cell-source'), /override/);
    await page.keyboard.press('Escape');
    await page.locator('#view-audit').click();
    await hasText(page.locator('#audit'), /weight.*override\.weight – → 25/);
    await picture(page, 'weight-applied');
  });

  it('of_a_weight_by_the_button_works_too_and_can_be_undone', async () => {
    page = await openConsole(browser, stand, { locale: 'zh-CN' });
    const row = rowOf(page, registered);
    await row.locator('.weight-input').fill('0');
    await row.getByRole('button', { name: `保存 ${registered.key} 的权重` }).click();
    await hasText(newestReport(page), /\d+ ms 后生效/);
    await stand.publishedWeight(registered, 0);
    await hasText(row.locator('.state-word'), /排空中/);
    await newestReport(page).getByRole('button', { name: '撤销' }).click();
    await stand.publishedWeight(registered, 20);
    await row.getByText('人工覆盖').waitFor({ state: 'hidden' });
    // Where an override stood before, it stands again.
    for (const weight of [5, 6]) {
      await row.locator('.weight-input').fill(String(weight));
      await row.locator('.weight-input').press('Enter');
      await hasText(newestReport(page), new RegExp(`→ ${weight} — .*\\d+ ms 后生效`));
    }
    await newestReport(page).getByRole('button', { name: '撤销' }).click();
    await stand.publishedWeight(registered, 5);
    await stand.call('DELETE', `/api/backends/127.0.0.1/${registered.port}/override`);
    await stand.publishedWeight(registered, 20);
  });

  it('that_is_no_weight_is_refused_in_the_field_and_taken_back_by_escape', async () => {
    page = await openConsole(browser, stand);
    const input = rowOf(page, discovered[1]).locator('.weight-input');
    for (const bad of ['1001', '-1', '1.5', 'ten', '']) {
      await input.fill(bad);
      await input.press('Enter');
      assert.equal(await input.getAttribute('aria-invalid'), 'true', bad);
    }
    await input.press('Escape');
    assert.equal(await input.inputValue(), '30');
    assert.equal(await input.getAttribute('aria-invalid'), null);
    assert.equal(await page.locator('#reports .report').count(), 0);
  });

  it('disables_enables_drains_and_clears_the_override', async () => {
    // Half of the capacity is this one's, so that its end is asked about.
    await stand.call('DELETE', `/api/backends/127.0.0.1/${discovered[0].port}/override`);
    await stand.effectiveWeight(discovered[0], 10);
    page = await openConsole(browser, stand);
    const row = rowOf(page, discovered[1]);
    const enabled = row.getByRole('switch');
    await enabled.click();
    await applyReview(page, discovered[1].key);
    await hasText(row.locator('.state-word'), /^disabled/);
    await hasAttribute(enabled, 'aria-checked', 'false');
    await hasText(newestReport(page), /Change of 1 backend — applied/);
    await enabled.click();
    await hasText(newestReport(page), /Enable .* — applied/);
    await hasAttribute(enabled, 'aria-checked', 'true');

    const drain = row.locator('.cell-actions [aria-pressed]');
    await drain.click();
    await applyReview(page, discovered[1].key);
    await hasText(row.locator('.state-word'), /^draining/);
    await stand.publishedWeight(discovered[1], 0);
    await hasAttribute(drain, 'aria-pressed', 'true');
    assert.equal(await row.locator('.weight-input').inputValue(), '30');

    await row.getByRole('button', { name: 'Clear override' }).click();
    await hasText(newestReport(page), /Clear override .* — applied/);
    await row.getByText('override', { exact: true }).waitFor({ state: 'hidden' });
    await stand.publishedWeight(discovered[1], 30);
  });
});
