/**
 * @file Ping, audit, sync, refresh and the keyboard; and what the page says of the proxy.
 */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Stand, hasAttribute, hasText, newestReport, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let backend;
let page;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
  backend = await stand.register({ weight: 10 });
});

describe('the ping tool', () => {
  it('pings_a_backend_from_its_row_and_shows_the_output_in_the_log', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, backend).getByRole('button', { name: 'Ping' }).click();
    assert.equal(await page.locator('#ping-target').inputValue(), '127.0.0.1');
    await page.getByRole('button', { name: 'Start ping' }).click();
    await hasText(page.locator('#ping-result'), /127\.0\.0\.1.*ms/);
    await picture(page, 'ping');
    await page.keyboard.press('Escape');
    await page.locator('#ping-dialog').waitFor({ state: 'hidden' });
    await page.getByRole('link', { name: 'Diagnostics' }).click();
    await hasText(page.locator('#ping-log'), /127\.0\.0\.1.*ms/);
    await hasText(newestReport(page), /Ping 127\.0\.0\.1 — done/);
  });

  it('shows_each_probe_as_it_comes_and_how_it_was_made', async () => {
    page = await openConsole(browser, stand);
    await page.keyboard.press('p');
    await page.locator('#ping-target').selectOption('127.0.0.1');
    await page.locator('#ping-start').click();
    const result = page.locator('#ping-result');
    await hasText(result, /^(ICMP echo to|TCP connects to) 127\.0\.0\.1.* 1.*: [\d.]+ ms/);
    assert.doesNotMatch((await result.textContent()) ?? '', /answered/, 'the sum comes last');
    await hasText(result, /4 of 4 answered; min \/ avg \/ max [\d.]+ ms/);
  });

  it('opens_from_the_bar_and_by_key', async () => {
    page = await openConsole(browser, stand, { locale: 'zh-CN' });
    await page.locator('#open-ping').click();
    await page.getByRole('button', { name: '关闭' }).click();
    await page.keyboard.press('p');
    await page.getByRole('button', { name: '开始 Ping' }).click();
    await hasText(page.locator('#ping-result'), /ms/);
  });
});

describe('audit, sync and refresh', () => {
  for (const locale of ['en-GB', 'zh-CN']) {
    it(`the_audit_log_is_followed in ${locale}`, async () => {
      page = await openConsole(browser, stand, { locale });
      await page.keyboard.press('a');
      await stand.call('POST', `/api/backends/127.0.0.1/${backend.port}/weight`, { weight: 33 });
      await hasText(page.locator('#audit'), /override\.weight \S+ → 33/);
      await stand.call('DELETE', `/api/backends/127.0.0.1/${backend.port}/override`);
      await hasText(page.locator('#audit'), /override\.weight 33 → –/);
      await hasText(page.locator('#audit-path'), /audit\.log$/);
      await picture(page, `audit-${locale}`);
    });
  }

  it('the_log_and_the_reasons_speak_chinese_too', async () => {
    const refused = { ip: '127.0.0.1', port: 9 };
    await stand.call('POST', '/api/register', { ...refused, weight: 1 });
    await stand.call('POST', '/api/backends/127.0.0.1/9/weight', { weight: 77 });
    page = await openConsole(browser, stand, { view: 'changes', locale: 'zh-CN' });
    const line = page.locator('#audit .audit-line').filter({ hasText: 'override.weight – → 77' });
    await hasText(line.locator('.audit-action'), /^权重$/);
    await hasText(line.locator('.audit-detail'), /完成$/);
    await page.locator('#audit-filter').fill('127.0.0.1:9 权重');
    await until('only that action', async () => {
      const actions = await page.locator('#audit .audit-action').allTextContents();
      return actions.length > 0 && actions.every((action) => action === '权重');
    });
    await page.locator('#audit-action').selectOption({ label: '权重' });
    const known = await page.locator('#audit-action option').allTextContents();
    assert.deepEqual(known.filter((name) => !/\p{Script=Han}|^Ping$/u.test(name)), []);
    await page.goto(`${stand.origin}/?page=backends&open=127.0.0.1:9`);
    await hasText(page.locator('.side-reason'), /^探测失败：连接被拒（\d\/3）；不影响 UDP 流$|^探测失败：连接被拒（\d\/3）$/);
    await hasText(page.locator('.side-list').last(), /权重/);
    await stand.call('DELETE', '/api/backends/127.0.0.1/9/override');
    await stand.call('DELETE', '/api/register', refused);
  });

  it('the_log_is_filtered_and_downloaded', async () => {
    page = await openConsole(browser, stand, { view: 'changes' });
    await stand.call('POST', '/api/ping', { ip: '127.0.0.1' });
    await hasText(page.locator('#audit'), /ping/);
    await page.locator('#audit-filter').fill('ping 127.0.0.1');
    await until('only pings', async () => {
      const actions = await page.locator('#audit .audit-action').allTextContents();
      return actions.length > 0 && actions.every((action) => action === 'ping');
    });
    const [download] = await Promise.all([page.waitForEvent('download'), page.locator('#audit-download').click()]);
    assert.equal(download.suggestedFilename(), 'audit.log');
    const text = await readFile(await download.path(), 'utf8');
    const lines = text.trim().split('\n').map((line) => JSON.parse(line));
    assert.ok(lines.length > 0 && lines.every(({ action }) => action === 'ping'));
  });

  for (const locale of ['en-GB', 'zh-CN']) {
    it(`the_algorithm_is_switched_and_the_files_are_shown in ${locale}`, async () => {
      page = await openConsole(browser, stand, { view: 'settings', locale });
      await hasText(page.locator('#settings-published'), /"generation"/);
      const choice = (name) => page.locator(`input[name="algorithm"]${name}`);
      const before = await choice(':checked').inputValue();
      const other = await choice(':not(:checked)').first().inputValue();
      for (const name of [other, before]) {
        await choice(`[value="${name}"]`).check();
        await page.locator('#settings-save').click();
        await until(`${name} is published`, async () => {
          return (await stand.readJson('config/proxy_config.json'))?.algorithm === name;
        });
        await hasText(page.locator('#settings-published'), new RegExp(`"algorithm": "${name}"`));
      }
      await picture(page, `settings-${locale}`);
    });
  }

  it('an_algorithm_that_is_chosen_stays_so_when_somebody_else_publishes', async () => {
    page = await openConsole(browser, stand, { view: 'settings' });
    await hasText(page.locator('#settings-published'), /"generation"/);
    const other = page.locator('input[name="algorithm"]:not(:checked)').first();
    const chosen = await other.inputValue();
    await other.check();
    const { generation } = await stand.readJson('config/proxy_config.json');
    await stand.call('POST', `/api/backends/127.0.0.1/${backend.port}/weight`, { weight: 12 });
    await until('it is published', async () => (await stand.readJson('config/proxy_config.json')).generation > generation);
    // The news of it come within a second, and a look at the file with them.
    const look = page.waitForResponse((response) => response.url().endsWith('/config'));
    await stand.call('POST', `/api/backends/127.0.0.1/${backend.port}/weight`, { weight: 10 });
    await look;
    await pause(500);
    assert.equal(await page.locator('input[name="algorithm"]:checked').inputValue(), chosen);
  });

  it('ping_by_key_has_the_current_row_chosen', async () => {
    const other = { ip: '127.0.0.3', port: 9 };
    await stand.call('POST', '/api/register', { ...other, weight: 1 });
    page = await openConsole(browser, stand);
    const row = rowOf(page, { key: '127.0.0.3:9' });
    await row.waitFor();
    await page.locator('.head-address button').click();
    await page.locator('#backends').focus();
    await page.keyboard.press('p');
    assert.equal(await page.locator('#ping-target').inputValue(), '127.0.0.1', 'no row is current');
    await page.keyboard.press('Escape');
    for (const _ of [backend, other]) await page.keyboard.press('j');
    await hasAttribute(row, 'class', 'is-current');
    await page.keyboard.press('p');
    await page.locator('#ping-dialog').waitFor();
    assert.equal(await page.locator('#ping-target').inputValue(), other.ip);
    await page.keyboard.press('Escape');
    await stand.call('DELETE', '/api/register', other);
    // A row stays for ten seconds after an act in the table.
    await row.waitFor({ state: 'detached', timeout: 30_000 });
  });

  it('sync_by_button_and_by_key_shows_its_reload_info', async () => {
    page = await openConsole(browser, stand);
    const signalled = new RegExp(`Sync — applied.*sent SIGHUP to pid=${stand.proxy.child.pid}.*1 backend published`);
    await page.locator('#sync').click();
    await hasText(newestReport(page), signalled);
    await hasText(page.locator('#last-sync'), /^generation \d+ published at .*: applied/);
    await page.keyboard.press('s');
    await page.locator('#reports .report').nth(1).waitFor({ state: 'attached' });
    await hasText(newestReport(page), signalled);
  });

  it('refresh_by_button_and_by_key_tells_what_was_read', async () => {
    page = await openConsole(browser, stand, { locale: 'zh-CN' });
    await page.locator('#refresh').click();
    await hasText(newestReport(page), /刷新 — 已读取 1 个后端/);
    await page.locator('#backends-title').click();
    await page.keyboard.press('r');
    await page.locator('#reports .report').nth(1).waitFor({ state: 'attached' });
  });

  it('a_key_typed_into_a_field_is_only_text', async () => {
    page = await openConsole(browser, stand);
    await page.locator('#filter').fill('');
    await page.locator('#filter').pressSequentially('rps?a');
    assert.equal(await page.locator('#filter').inputValue(), 'rps?a');
    assert.equal(await page.locator('dialog[open]').count(), 0);
    assert.equal(await page.locator('#reports .report').count(), 0);
  });

  it('help_lists_the_keys', async () => {
    page = await openConsole(browser, stand);
    await page.keyboard.press('?');
    await hasText(page.locator('#keys'), /Filter the table/);
    await page.keyboard.press('Escape');
    await page.locator('#help-dialog').waitFor({ state: 'hidden' });
  });
});

describe('what the page says of the proxy', () => {
  it('names_the_generation_that_runs_and_the_sessions', async () => {
    page = await openConsole(browser, stand, { view: 'overview' });
    await hasText(page.locator('#proxy'), /Traffic flows.*generation \d+ applied \d+ s ago/);
    await hasText(page.locator('#figure-taking .figure-value'), /^1 \/ 1$/);
    await hasText(page.locator('#figure-sessions .figure-value'), /^0$/);
    await hasText(page.locator('#algorithm'), /weighted_round_robin/);
  });

  it('a_proxy_without_status_is_told_and_a_change_is_signalled', async () => {
    const other = await Stand.start({ proxy: 'dummy_proxy' });
    try {
      const registered = await other.register({ weight: 10 });
      page = await openConsole(browser, other);
      await hasText(page.locator('#proxy'), /Proxy gives no status/);
      await hasText(page.locator('#warning-list'), new RegExp(`Process ${other.proxy.child.pid} has no admin socket`));
      await hasText(page.locator('#figure-sessions .figure-value'), /^–$/);
      const input = rowOf(page, registered).locator('.weight-input');
      await input.fill('12');
      await input.press('Enter');
      await hasText(newestReport(page), /10 → 12 — saved, proxy signalled/);
      await hasText(newestReport(page), new RegExp(`sent SIGHUP to pid=${other.proxy.child.pid}`));
      await other.publishedWeight(registered, 12);
      await picture(page, 'dummy-proxy');

      await other.proxy.stop();
      await input.fill('13');
      await input.press('Enter');
      await hasText(newestReport(page), /12 → 13 — saved, but the proxy was not signalled/);
      await other.publishedWeight(registered, 13);
      await hasText(page.locator('#proxy'), /Proxy not running/);
      await picture(page, 'proxy-stopped');
    } finally {
      await other.close();
    }
  });
});
