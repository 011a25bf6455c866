/**
 * @file The side panel: everything about one backend, beside the table, as the stream goes on.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import { describe, it } from 'node:test';
import { noSeriousFault } from './axe.mjs';
import { Stand, applyReview, hasAttribute, hasText, isReady, newestReport, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let backend;
let other;
let page;

onOneStand({ config: { default_algorithm: 'gpu_aware' } }, async (started, onIt) => {
  browser = started;
  stand = onIt;
  backend = await stand.register({ weight: 20, gpu_usage: 0.4, vram_usage: 0.94 });
  other = await stand.register({ weight: 100, gpu_usage: 0.1, vram_usage: 0.2 });
  await stand.publishDiscovery([{ ip: '127.0.0.1', port: backend.port, weight: 30 }]);
});

/** The section of the panel with this title. */
function section(title) {
  return page.locator('.side-section').filter({ has: page.getByRole('heading', { name: title, exact: true }) });
}

async function open(options = {}) {
  page = await openConsole(browser, stand, options);
  await rowOf(page, backend).locator('.cell-sessions').click();
  await hasText(page.locator('#side-title'), new RegExp(`^${backend.key}$`));
}

describe('the side panel', () => {
  it('opens_by_enter_stays_in_the_address_and_gives_the_keyboard_back', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, backend).waitFor();
    await page.locator('.head-address button').click();
    const keys = await page.locator('#rows .cell-address').allTextContents();
    await page.locator('#backends').focus();
    for (let press = 0; press <= keys.indexOf(backend.key); press += 1) await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.locator('#side').waitFor();
    await until('the keyboard is in it', () => page.evaluate(() => document.activeElement?.id === 'side-title'));
    assert.equal(new URL(page.url()).searchParams.get('open'), backend.key);
    await page.reload();
    await hasText(page.locator('#side-title'), new RegExp(`^${backend.key}$`));
    await rowOf(page, other).locator('.state').click();
    await hasText(page.locator('#side-title'), new RegExp(`^${other.key}$`));
    await page.keyboard.press('Escape');
    await page.locator('#side').waitFor({ state: 'hidden' });
    assert.equal(new URL(page.url()).searchParams.get('open'), null);
    assert.equal(await page.evaluate(() => document.activeElement?.className), 'state');
    assert.equal(await page.evaluate(() => document.activeElement?.closest('tr')?.querySelector('.cell-address')?.textContent), other.key);
  });

  it('says_which_weight_counts_and_why_and_follows_the_stream', async () => {
    await open();
    const weight = section('Weight');
    await hasText(weight, /Override–Registration20in forceStatic list–Discovery30Configured20Effective20/);
    await stand.call('POST', `/api/backends/127.0.0.1/${backend.port}/weight`, { weight: 7 });
    await hasText(weight, /Override7in forceRegistration20Static list–Discovery30Configured7/);
    assert.equal(await page.locator('.side .weight-input').inputValue(), '7');
    await hasText(section('Last entries of the audit log'), /weight.*127\.0\.0\.1.*7/);
    await stand.call('DELETE', `/api/backends/127.0.0.1/${backend.port}/override`);
    await hasText(weight, /Override–Registration20in force/);
  });

  it('shows_no_dash_for_a_weight_that_is_still_asked_for', async () => {
    page = await openConsole(browser, stand);
    let release = () => {};
    const released = new Promise((resolve) => {
      release = () => resolve(undefined);
    });
    await page.route('**/api/v1/backends/*', async (route) => {
      await released;
      await route.continue();
    });
    await rowOf(page, backend).locator('.cell-sessions').click();
    await hasText(section('Weight'), /^WeightOverride…Registration…Static list…Discovery…Configured20/);
    release();
    await hasText(section('Weight'), /Override–Registration20in forceStatic list–Discovery30/);
  });

  it('shows_the_states_with_their_times', async () => {
    await open();
    const history = section('States since control started');
    await stand.call('POST', `/api/backends/127.0.0.1/${backend.port}/enabled`, { enabled: false });
    await hasText(history.locator('li').first(), /^disabled · .*since .*\d\d:\d\d:\d\d/);
    await stand.call('DELETE', `/api/backends/127.0.0.1/${backend.port}/override`);
    await until('the state after it', async () => !(await history.locator('li').first().textContent())?.startsWith('disabled'));
    await history.locator('li').filter({ hasText: /^disabled · / }).first().waitFor();
  });

  it('shows_the_parts_of_the_cost_which_add_up', async () => {
    await open();
    const cost = section('Scheduling cost');
    await hasText(cost, /Cost of the next session: [\d.]+, rank [12] of 2/);
    const lines = await cost.locator('ul').first().locator('li').allTextContents();
    assert.deepEqual(lines.map((line) => /^[A-Za-z ]+/.exec(line)?.[0]), ['Load', 'Failures', 'VRAM guard', 'GPU']);
    const { backends } = await stand.call('GET', '/api/v1/backends');
    const listed = backends.find(({ id }) => id === backend.key);
    await until('the bars add up', async () => {
      const widths = await cost.locator('ul').first().locator('.usage-fill').evaluateAll((bars) => bars.map((bar) => Number.parseFloat(bar.style.transform.slice('scaleX('.length))));
      return Math.abs(widths.reduce((sum, width) => sum + width, 0) - 1) < 0.01;
    });
    assert.ok(listed.cost.vram > 0, 'the guard costs at 94%');
  });

  it('has_the_controls_of_its_backend', async () => {
    await open();
    const controls = page.locator('.side-controls');
    await controls.locator('.step').last().click();
    await hasText(page.locator('#pending-count'), /^1 pending$/);
    await page.locator('#pending-discard').click();
    await controls.locator('.weight-input').fill('44');
    await controls.locator('.weight-input').press('Enter');
    await hasText(newestReport(page), /20 → 44 — applied in \d+ ms/);
    await controls.getByRole('button', { name: /^Drain/ }).click();
    await applyReview(page);
    await stand.publishedWeight(backend, 0);
    await controls.getByRole('button', { name: /^Clear override/ }).click();
    await stand.publishedWeight(backend, 20);
    await controls.getByRole('switch').click();
    await hasText(page.locator('.side-state'), /^disabled/);
    await controls.getByRole('switch').click();
    await until('enabled again', async () => !(await page.locator('.side-state').textContent())?.startsWith('disabled'));
    await controls.getByRole('button', { name: /^Clear override/ }).click();
    await controls.getByRole('button', { name: /^Ping/ }).click();
    await page.locator('#ping-dialog').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#ping-dialog').waitFor({ state: 'hidden' });
    assert.equal(await page.locator('#side').isVisible(), true, 'Escape closes one thing at a time');
  });

  it('loses_no_press_that_was_for_what_it_shows', async () => {
    await open();
    const enabled = page.locator('.side-controls').getByRole('switch');
    let letGo = () => {};
    const held = new Promise((resolve) => {
      letGo = () => resolve(undefined);
    });
    // The answer is late, so that the events show what became of the first press before it ends.
    await page.route('**/enabled', async (route) => {
      const response = await route.fetch();
      await held;
      await route.fulfill({ response });
    });
    await enabled.click();
    await enabled.click();
    await hasText(page.locator('.side-state'), /^disabled/);
    await hasAttribute(enabled, 'aria-checked', 'false');
    await enabled.click();
    letGo();
    await until('enabled again', async () => !(await page.locator('.side-state').textContent())?.startsWith('disabled'));
    await hasAttribute(enabled, 'aria-busy', null);
    const log = await readFile(stand.path('logs/audit.log'), 'utf8');
    const switched = log.split('\n').filter((line) => line.includes('"action":"enabled"')).slice(-2);
    assert.deepEqual(switched.map((line) => JSON.parse(line).new.override.enabled), [false, true], 'the second press was the first');
    await stand.call('DELETE', `/api/backends/127.0.0.1/${backend.port}/override`);
  });

  it('stays_where_its_backend_goes', async () => {
    // What is asked of it may come after it has gone.
    page = await openConsole(browser, stand, { expected: /status of 404/ });
    const late = await stand.register({ weight: 5 });
    await rowOf(page, late).locator('.state').click();
    await hasText(page.locator('#side-title'), new RegExp(`^${late.key}$`));
    await stand.call('DELETE', '/api/register', { ip: late.ip, port: late.port });
    await hasText(page.locator('.side-state'), /^no longer listed$/);
    await hasText(page.locator('.side-reason'), /^Not listed since .*New sessions no longer go to it\.$/);
    await isLifeless();
    // It is back: so are its controls.
    await stand.heartbeat(late, { weight: 5 });
    await page.locator('.side-controls').getByRole('switch').waitFor();
    await stand.call('DELETE', '/api/register', { ip: late.ip, port: late.port });
    await isLifeless();
  });

  /** Nothing in the panel looks as if the backend were there. */
  async function isLifeless() {
    await page.locator('.side-controls').waitFor({ state: 'detached' });
    assert.equal(await page.locator('.side-head .shape-up, .side-state .shape-up').count(), 0, 'no green dot');
    assert.deepEqual(await page.locator('#side :is(input, button, [role=switch])').evaluateAll((all) => all.map(({ textContent }) => textContent)), ['×']);
  }

  for (const [locale, theme, since, source, unknown] of [
    ['en-GB', 'dark', /^Not listed since \d.*, \d+ s ago\./, /^Last source: registered$/, /^The control server knows no backend/],
    ['zh-CN', 'light', /^自 \d.* 起不再列出（\d+ 秒前），/, /^最后来源：动态注册$/, /没有这个地址的后端记录。$/],
  ]) {
    it(`of_a_backend_that_is_gone_says_since_when_and_is_closed in ${locale}`, async () => {
      const late = await stand.register({ weight: 5 });
      await until('control has seen it', async () => (await stand.call('GET', `/api/v1/backends/${late.key}`)).history?.length > 0);
      await stand.call('DELETE', '/api/register', { ip: late.ip, port: late.port });
      page = await openConsole(browser, stand, { locale, colorScheme: theme, expected: /status of 404/ });
      await page.locator(`input[name="theme"][value="${theme}"]`).evaluate((radio) => radio.click());
      await page.goto(`${stand.origin}/?page=backends&open=${encodeURIComponent(late.key)}`);
      await isReady(page);
      await hasText(page.locator('#side-title'), new RegExp(`^${late.key}$`));
      await hasText(page.locator('.side-reason'), since);
      await hasText(page.locator('.side-section .faint').first(), source);
      await hasText(page.locator('#side .side-list').last(), new RegExp('127\\.0\\.0\\.1'));
      await isLifeless();
      await picture(page, `gone-${locale}-${theme}`);
      await noSeriousFault(page, 'the panel of a backend that is gone');
      await page.locator('.side-head button').click();
      await page.locator('#side').waitFor({ state: 'hidden' });
      assert.equal(new URL(page.url()).search, '?page=backends');

      await page.goto(`${stand.origin}/?page=backends&open=10.9.9.9:1`);
      await hasText(page.locator('.side-reason'), unknown);
      await isLifeless();
      await page.keyboard.press('Escape');
      await page.locator('#side').waitFor({ state: 'hidden' });
    });
  }

  for (const [locale, title, reset] of [
    ['en-GB', 'Failures', 'reset by the backend'],
    ['zh-CN', '失败', '后端重置连接'],
  ]) {
    it(`counts_its_failures_by_reason in ${locale}`, async () => {
      const own = await Stand.start({ config: { proxy: { ejection: { failures: 0 } } } });
      const server = net.createServer((socket) => {
        socket.on('error', () => {});
        socket.once('data', () => socket.resetAndDestroy());
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      try {
        const { port } = server.address();
        const key = `127.0.0.1:${port}`;
        await own.call('POST', '/api/register', { ip: '127.0.0.1', port, weight: 10 });
        page = await openConsole(browser, own, { locale });
        await page.goto(`${own.origin}/?page=backends&open=${encodeURIComponent(key)}`);
        await isReady(page);
        const failures = page.locator('.side-section').filter({ has: page.getByRole('heading', { name: title, exact: true }) });
        await until('all reasons are listed', async () => (await failures.locator('dt').count()) === 8);
        await until('the proxy resets three sessions', async () => {
          const client = net.connect(own.proxyPort, '127.0.0.1');
          client.on('error', () => {});
          client.write('hello');
          await new Promise((resolve) => client.on('close', resolve));
          const { backend: told } = await own.call('GET', `/api/v1/backends/${encodeURIComponent(key)}`);
          return (told.proxy?.sessions_failed?.backend_reset ?? 0) >= 3;
        });
        const fact = failures.locator('dl > div').filter({ hasText: reset });
        await hasText(fact.locator('dd').first(), /^[3-9]$/);
        assert.equal(await failures.locator('dt').count(), 8, 'no line has come');
        const errors = rowOf(page, { key }).locator('.cell-errors');
        if (await errors.isVisible()) {
          await errors.hover();
          await hasText(page.locator('#tip'), new RegExp(`${reset} \\d`));
        }
        await picture(page, `failures-${locale}`);
      } finally {
        server.close();
        await own.close();
      }
    });
  }

  for (const [locale, theme, width] of [
    ['en-GB', 'dark', 1440],
    ['zh-CN', 'light', 1440],
    ['en-GB', 'light', 320],
    ['zh-CN', 'dark', 375],
  ]) {
    it(`is_whole_and_accessible in ${locale}, ${theme}, at ${width} px`, async () => {
      page = await openConsole(browser, stand, { locale, width });
      await page.evaluate((name) => {
        localStorage.setItem('wicketgate.theme', name);
      }, theme);
      await page.goto(`${stand.origin}/?page=backends&open=${encodeURIComponent(backend.key)}`);
      await isReady(page);
      await hasText(page.locator('.side-list').last(), /override/);
      await hasAttribute(page.locator('html'), 'data-theme', theme);
      if (locale === 'zh-CN') {
        const titles = await page.locator('.side :is(h3, h4, dt)').allTextContents();
        assert.deepEqual(titles.filter((title) => !/\p{Script=Han}|^(TCP|UDP)$/u.test(title)), []);
      }
      const widths = await page.evaluate(() => [
        [document.documentElement.scrollWidth, innerWidth],
        [document.querySelector('#side').scrollWidth, document.querySelector('#side').clientWidth],
      ]);
      for (const [wide, room] of widths) assert.ok(wide <= room, `${wide} px wide on ${room}`);
      await picture(page, `panel-${locale}-${theme}-${width}`);
      await noSeriousFault(page, 'the panel');
      await page.locator('.side-head button').click();
      await noSeriousFault(page, 'the table');
    });
  }

  for (const [locale, theme] of [
    ['en-GB', 'dark'],
    ['zh-CN', 'light'],
  ]) {
    it(`is_accessible_where_it_is_disabled_by_an_override in ${locale}, ${theme}`, async () => {
      await stand.call('POST', `/api/backends/127.0.0.1/${backend.port}/enabled`, { enabled: false });
      page = await openConsole(browser, stand, { locale });
      await page.locator(`label:has(input[value="${theme}"])`).click();
      await rowOf(page, backend).locator('.state').click();
      await hasText(page.locator('.side-state'), /^disabled|^已停用/);
      await noSeriousFault(page, 'the panel');
      await page.locator('.side-head button').click();
      await noSeriousFault(page, 'the table');
      await stand.call('DELETE', `/api/backends/127.0.0.1/${backend.port}/override`);
    });
  }

  for (const locale of ['en-GB', 'zh-CN']) {
    it(`leaves_the_table_room_at_1440_px in ${locale}`, async () => {
      const long = { ip: '10.244.112.113', port: 30080, key: '10.244.112.113:30080' };
      await stand.heartbeat(long, {});
      page = await openConsole(browser, stand, { locale, width: 1440 });
      await rowOf(page, long).waitFor();
      await rowOf(page, backend).locator('.cell-sessions').click();
      await page.locator('#side-title').waitFor();
      await until('nothing to scroll to', () =>
        page.locator('#table-scroll').evaluate(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth),
      );
      const gone = await stand.call('DELETE', '/api/register', { ip: long.ip, port: long.port });
      assert.equal(gone.ok, true, JSON.stringify(gone));
      // A row that goes is pale for a while, which is no fault of the next test's page.
      // A row stays for ten seconds after an act in the table.
      await rowOf(page, long).waitFor({ state: 'detached', timeout: 30_000 });
    });
  }

  it('and_the_dialogs_have_no_fault_for_screen_readers', async () => {
    page = await openConsole(browser, stand);
    const input = rowOf(page, backend).locator('.weight-input');
    await input.fill('21');
    await input.press('Tab');
    await page.locator('#pending-review').click();
    await page.locator('#diff-dialog').waitFor();
    await noSeriousFault(page, 'the diff');
    await page.keyboard.press('Escape');
    await page.locator('#pending-discard').click();
    await page.locator('#columns summary').click();
    await noSeriousFault(page, 'the columns');
  });
});
