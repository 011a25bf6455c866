/**
 * @file Signing in and out, what those see who may only read, how a session ends under an open page,
 * and what the first load weighs.
 */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { describe, it } from 'node:test';
import { Stand, hasAttribute, hasText, newestReport, onOneStand, openConsole, openPage, picture, rowOf, until } from './harness.mjs';

const tokens = { read: 'reader-token-1', register: 'registrar-token-1', write: 'writer-token-1' };
const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** What the files of the first load may weigh, compressed. */
const MAX_LOAD_BYTES = 90_000;
/** The browser writes a line of its own for a refused request. */
const REFUSED = /status of 40[13]/;

let browser;
let stand;
let backend;
let page;

/** The page's token becomes a session. */
async function signIn(token) {
  await page.locator('#token').fill(token);
  await page.locator('#sign-in').click();
}

onOneStand({ proxy: null, config: { tokens } }, async (started, onIt) => {
  browser = started;
  stand = onIt;
  backend = { ip: '127.0.0.1', port: 9, key: '127.0.0.1:9' };
  const body = { ip: backend.ip, port: backend.port, weight: 10 };
  const answer = await stand.call('POST', '/api/register', body, { authorization: `Bearer ${tokens.register}` });
  assert.equal(answer.ok, true, JSON.stringify(answer));
});

describe('who needs a token', () => {
  it('is_led_to_the_login_and_back_to_where_they_wanted_to_be', async () => {
    page = await openPage(browser, stand, '/?sort=weight#backends', { expected: REFUSED });
    await page.waitForURL(/\/login\?sort=weight#backends$/);
    await picture(page, 'login');
    await signIn('a wrong one');
    await hasText(page.locator('#login-problem'), /Sign-in failed: unknown or revoked token/);
    await signIn(tokens.register);
    await hasText(page.locator('#login-problem'), /Sign-in failed: .*lacks the scope read/);
    await signIn(tokens.write);
    // The page names itself, which links from before there were pages did not.
    await page.waitForURL(/\/\?sort=weight&page=backends$/);
    await rowOf(page, backend).waitFor();
    const cookies = await page.context().cookies();
    assert.equal(cookies.length, 1);
    assert.ok(cookies[0].httpOnly && cookies[0].sameSite === 'Strict', JSON.stringify(cookies));
    const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
    assert.ok(!stored.includes(tokens.write) && !stored.includes('wicketgate_session'), stored);
  });

  it('signs_in_in_chinese_too_and_by_keys_alone', async () => {
    page = await openPage(browser, stand, '/?page=backends', { locale: 'zh-CN', expected: REFUSED });
    await hasText(page.locator('#sign-in'), /^登录$/);
    await picture(page, 'login-zh');
    await page.keyboard.type('a wrong one');
    await page.keyboard.press('Enter');
    await hasText(page.locator('#login-problem'), /^登录失败/);
    await page.keyboard.type(tokens.read);
    await page.keyboard.press('Enter');
    await rowOf(page, backend).waitFor();
    await hasText(page.locator('#may-note'), /^只读$/);
  });

  it('waits_for_the_script_and_loses_no_click', async () => {
    page = await openPage(browser, stand, '/login', { expected: REFUSED });
    let letGo = () => {};
    const held = new Promise((resolve) => {
      letGo = () => resolve(undefined);
    });
    await page.route('**/static/login.js', async (route) => {
      await held;
      await route.continue();
    });
    await page.goto(`${stand.origin}/login?page=backends`, { waitUntil: 'commit' });
    await page.locator('#token').fill(tokens.read);
    await page.keyboard.press('Enter');
    assert.equal(await page.locator('#sign-in').isDisabled(), true);
    letGo();
    await page.locator('#sign-in').click();
    await rowOf(page, backend).waitFor();
  });

  for (const colorScheme of /** @type {const} */ (['dark', 'light'])) {
    it(`finds_a_login_page_without_serious_faults in ${colorScheme}`, async () => {
      page = await openPage(browser, stand, '/login', { colorScheme, width: 320 });
      await page.locator(`label:has(input[value="auto"])`).click();
      await page.evaluate(AXE);
      const found = await page.evaluate(() => window.axe.run());
      const serious = found.violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
      assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), []);
      const widths = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(widths[0] <= widths[1], `${widths[0]} px on ${widths[1]}`);
    });
  }
});

describe('who may only read', () => {
  it('sees_everything_and_has_no_dead_buttons', async () => {
    page = await openPage(browser, stand, '/login?page=backends', { expected: REFUSED });
    await signIn(tokens.read);
    const row = rowOf(page, backend);
    await row.waitFor();
    await hasText(page.locator('#may-note'), /^read only$/);
    await until('what changes something is disabled', async () => {
      const enabled = await page.evaluate(
        () => [...document.querySelectorAll('[data-needs]:not(:disabled)')].map(({ outerHTML }) => outerHTML),
      );
      return enabled.length === 0;
    });
    assert.equal(await row.locator('.weight-input').inputValue(), '10');
    assert.match(await page.locator('#sync').getAttribute('title'), /token with the scope write/);
    await picture(page, 'read-only');
    // Keys and the palette say why they do nothing, and send nothing.
    const sent = [];
    page.on('request', (request) => {
      if (request.method() !== 'GET') sent.push(request.url());
    });
    await page.locator('#backends').focus();
    await page.keyboard.press('j');
    for (const [key, what] of [
      ['e', 'Edit the weight of the row'],
      ['d', 'Drain the row'],
      ['x', 'Select the row'],
      ['p', 'Ping tool'],
      ['s', 'Sync'],
      ['u', 'Undo'],
      ['Control+Enter', 'Apply pending changes'],
    ]) {
      await page.keyboard.press(key);
      await hasText(newestReport(page), new RegExp(`${what}.* — Needs a token with the scope write`));
    }
    await page.keyboard.press('Control+k');
    await page.keyboard.type('Algorithm random');
    await hasText(page.locator('#palette-list li').first(), /Algorithm random/);
    await page.keyboard.press('Enter');
    await hasText(newestReport(page), /Algorithm random — Needs a token with the scope admin/);
    assert.deepEqual(sent, []);
    assert.equal(await page.locator('dialog[open]').count(), 0);
    assert.equal(await page.locator('#bulk').isVisible(), false);
    // The server refuses all the same.
    const status = await page.evaluate(() => fetch('/api/sync', { method: 'POST' }).then(({ status }) => status));
    assert.equal(status, 403);
  });
});

describe('a session', () => {
  it('ends_when_it_is_signed_out_in_every_tab', async () => {
    page = await openPage(browser, stand, '/login?page=backends', { expected: REFUSED });
    await signIn(tokens.write);
    await rowOf(page, backend).waitFor();
    const other = await page.context().newPage();
    await other.goto(`${stand.origin}/?page=backends`);
    await rowOf(other, backend).waitFor();
    await page.locator('#sign-out').click();
    await page.waitForURL(/\/login$/);
    await hasText(other.locator('#banner'), /This browser may not read.*a token is needed.*Sign in/);
    await picture(other, 'forbidden');
    await other.locator('#banner-sign-in').click();
    await other.waitForURL(/\/login\?page=backends$/);
  });

  it('that_may_not_change_settings_has_no_field_to_type_into_and_reads_them_all', async () => {
    page = await openPage(browser, stand, '/login?page=settings', { expected: REFUSED });
    await signIn(tokens.read);
    const attempts = page.locator('[data-pointer="/proxy/connect_attempts"]');
    await hasAttribute(attempts, 'placeholder', '4');
    const all = '#settings-form :is(input, select), #fields :is(input, select)';
    await until('none can be edited', () => page.locator(all).evaluateAll((fields) => fields.every((field) => field.disabled)));
    // What is written anew stays so.
    await page.getByText('中文', { exact: true }).click();
    await hasText(page.locator('#page-settings h1'), /^设置$/);
    await until('none can be edited', () => page.locator(all).evaluateAll((fields) => fields.every((field) => field.disabled)));
  });

  it('edits_as_its_token_may', async () => {
    page = await openPage(browser, stand, '/login?page=backends', { expected: REFUSED });
    await signIn(tokens.write);
    const input = rowOf(page, backend).locator('.weight-input');
    await input.fill('33');
    await input.press('Enter');
    await stand.publishedWeight(backend, 33);
    const log = await readFile(stand.path('logs/audit.log'), 'utf8');
    assert.match(log, /"actor":"127\.0\.0\.1 with a session of the write token","action":"weight"/);
  });
});

describe('the address of the API’s page', () => {
  it('leads_there_by_the_login', async () => {
    page = await openPage(browser, stand, '/docs', { expected: REFUSED });
    await signIn(tokens.read);
    await page.waitForURL(/\/\?page=api$/);
    await page.locator('#api-calls .api-call').first().waitFor();
  });
});

describe('the first load', () => {
  it('weighs_little_and_the_second_almost_nothing', async () => {
    const open = await Stand.start({ proxy: null });
    try {
      page = await openConsole(browser, open, { view: 'overview' });
      // With all that the first page loads, its charts among it.
      const weigh = async () => {
        // Without a proxy it has nothing to show.
        await page.locator('[data-chart="traffic"] .u-legend').waitFor({ state: 'attached' });
        return page.evaluate(() => {
          // From then on it loads what other pages need.
          const end = performance.getEntriesByName('preload')[0]?.startTime ?? Infinity;
          return ['navigation', 'resource']
            .flatMap((kind) => performance.getEntriesByType(kind))
            .filter(({ name, startTime }) => !new URL(name).pathname.startsWith('/api/') && startTime < end)
            .reduce(
              ([bytes, whole], { encodedBodySize, transferSize }) => [bytes + encodedBodySize, whole + transferSize],
              [0, 0],
            );
        });
      };
      const [first, firstWhole] = await weigh();
      await page.reload();
      const [, secondWhole] = await weigh();
      console.log(`first load: ${first} bytes compressed, ${firstWhole} with headers; again: ${secondWhole}`);
      assert.ok(first <= MAX_LOAD_BYTES, `${first} bytes`);
      assert.ok(secondWhole < firstWhole / 4, `${secondWhole} bytes after ${firstWhole}`);
    } finally {
      await open.close();
    }
  });
});
