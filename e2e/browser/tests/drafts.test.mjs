/**
 * @file Work that is not done yet survives a reload of the page: edits that wait, settings that are being
 * typed, and the undo of the last minute.
 */

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { Stand, hasText, isReady, newestReport, openConsole, picture, rowOf, startBrowser, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let backends;
let page;

before(async () => {
  browser = await startBrowser();
});

after(() => browser?.close());

beforeEach(async () => {
  stand = await Stand.start();
  backends = [];
  for (const weight of [10, 20, 30]) backends.push(await stand.register({ weight }));
});

afterEach(async () => {
  const complaints = page?.complaints ?? [];
  await stand?.close();
  assert.deepEqual(complaints, []);
});

const weightOf = (backend) => rowOf(page, backend).locator('.weight-input');

async function stageWeight(backend, weight) {
  await weightOf(backend).fill(String(weight));
  await weightOf(backend).press('Tab');
}

async function reload() {
  await page.reload();
  await isReady(page);
}

async function publishedWeights() {
  const file = await stand.readJson('config/proxy_config.json');
  return backends.map(({ port }) => file.backends.find((backend) => backend.port === port)?.weight);
}

describe('edits that wait', () => {
  it('survive_a_reload_with_what_was_still_being_typed', async () => {
    page = await openConsole(browser, stand);
    await stageWeight(backends[0], 11);
    await weightOf(backends[1]).fill('22');
    await reload();
    await hasText(page.locator('#pending-count'), /^2 pending$/);
    await until('both are shown', async () => (await weightOf(backends[0]).inputValue()) === '11' && (await weightOf(backends[1]).inputValue()) === '22');
    // On another page of the console too.
    await page.goto(`${stand.origin}/?page=settings`);
    await hasText(page.locator('#pending-count'), /^2 pending$/);
    await page.locator('#pending-apply').click();
    await stand.publishedWeight(backends[1], 22);
    await page.locator('#pending').waitFor({ state: 'hidden' });
    await reload();
    assert.equal(await page.locator('#pending').isVisible(), false, 'what is applied waits no more');
  });

  it('are_gone_for_good_once_they_are_discarded', async () => {
    page = await openConsole(browser, stand);
    await stageWeight(backends[0], 11);
    await page.locator('#pending-discard').click();
    await reload();
    await rowOf(page, backends[0]).waitFor();
    assert.equal(await page.locator('#pending').isVisible(), false);
  });

  for (const [locale, gone, conflict, mine] of [
    ['en-GB', /^1 backend no longer listed$/, /^1 backend changed by someone else meanwhile$/, /^Overwrite theirs$/],
    ['zh-CN', /^1 个后端已不在列表中$/, /^其中 1 个后端已被他人修改$/, /^覆盖对方$/],
  ]) {
    it(`are_compared_after_a_reload_with_what_stands_then in ${locale}`, async () => {
      page = await openConsole(browser, stand, { locale });
      await stageWeight(backends[0], 11);
      await stageWeight(backends[1], 22);
      await stageWeight(backends[2], 33);
      await page.goto('about:blank');
      await stand.call('POST', `/api/backends/127.0.0.1/${backends[0].port}/weight`, { weight: 99 });
      await stand.call('DELETE', '/api/register', { ip: '127.0.0.1', port: backends[2].port });
      await page.goto(`${stand.origin}/?page=backends`);
      await hasText(page.locator('#pending-conflict'), gone);
      await page.locator('#pending-review').click();
      await hasText(page.locator('#diff-problem'), new RegExp(backends[2].key));
      await page.locator('#diff-ways button').first().click();
      await hasText(page.locator('#pending-conflict'), conflict);
      await hasText(page.locator('#diff-apply'), mine);
      await hasText(page.locator('#diff-rows .is-conflict'), /99.*→.*11/);
      await picture(page, `restored-${locale}`);
      assert.deepEqual((await publishedWeights()).slice(0, 2), [99, 20]);
      await page.locator('#diff-ways button').click();
      await page.locator('#diff-apply').click();
      await stand.publishedWeight(backends[1], 22);
      assert.deepEqual((await publishedWeights()).slice(0, 2), [99, 22]);
    });
  }

  it('are_asked_about_where_the_browser_forbids_to_keep_them', async () => {
    page = await openConsole(browser, stand, {
      before: (empty) => empty.addInitScript(() => {
        Storage.prototype.setItem = () => {
          throw new DOMException('full', 'QuotaExceededError');
        };
      }),
    });
    await rowOf(page, backends[0]).waitFor();
    let asked = 0;
    page.on('dialog', () => (asked += 1));
    await reload();
    assert.equal(asked, 0, 'nothing would be lost');
    await rowOf(page, backends[0]).waitFor();
    await stageWeight(backends[0], 11);
    await page.reload().catch(() => {});
    await until('the browser asks', () => asked > 0);
    await hasText(page.locator('#pending-count'), /^1 pending$/);
    page.complaints = page.complaints.filter((text) => !text.startsWith('a dialog opened'));
    await page.locator('#pending-discard').click();
  });
});

describe('settings that are being typed', () => {
  for (const [locale, conflict] of [['en-GB', /default when you began; changed to 9000 by someone else/], ['zh-CN', /开始修改时为 默认值?.*已被他人改为 9000/]]) {
    it(`survive_another_page_and_a_reload_and_tell_of_others in ${locale}`, async () => {
      page = await openConsole(browser, stand, { view: 'settings', locale });
      const idle = () => page.locator('[data-pointer="/proxy/udp_idle_ms"]');
      const attempts = () => page.locator('[data-pointer="/proxy/connect_attempts"]');
      const random = () => page.locator('input[name="algorithm"][value="random"]');
      await idle().fill('8000');
      await attempts().fill('4');
      await random().check();
      await page.locator('.rail a[data-page="overview"]').click();
      await page.locator('#page-overview').waitFor();
      await page.locator('.rail a[data-page="settings"]').click();
      await until('it is there', async () => (await idle().inputValue()) === '8000');
      await page.goto('about:blank');
      await stand.call('POST', '/api/settings', { proxy: { udp_idle_ms: 9000 } });
      await page.goto(`${stand.origin}/?page=settings`);
      await until('it is there again', async () => (await attempts().inputValue()) === '4');
      assert.deepEqual([await idle().inputValue(), await random().isChecked()], ['8000', true]);
      await hasText(page.locator('.setting', { has: idle() }), conflict);
      assert.doesNotMatch(await page.locator('.setting', { has: attempts() }).textContent(), conflict);
      await picture(page, `settings-restored-${locale}`);
      await page.locator('#fields-save').click();
      await hasText(page.locator('#fields-problem'), /someone else|他人/);
      assert.equal((await stand.call('GET', '/api/settings')).settings.by_api.proxy?.udp_idle_ms, 9000, 'theirs stands');
      await page.getByRole('button', { name: /^(Overwrite theirs|覆盖对方)$/ }).click();
      await page.locator('#fields-save').click();
      await until('it is saved', async () => (await stand.call('GET', '/api/settings')).settings.by_api.proxy?.udp_idle_ms === 8000);
      await until('the algorithm still waits', () => random().isChecked());
      await page.reload();
      await until('what is saved is no draft', async () => (await page.locator('[data-changed]').count()) === 0);
      await until('the other is', () => random().isChecked());
    });
  }
});

describe('the undo of the last minute', () => {
  it('survives_a_reload', async () => {
    page = await openConsole(browser, stand);
    await weightOf(backends[0]).fill('15');
    await weightOf(backends[0]).press('Enter');
    await stand.publishedWeight(backends[0], 15);
    await hasText(newestReport(page), /10 → 15 — applied/);
    await reload();
    await hasText(newestReport(page), /Weight of \S+ 10 → 15 — applied/);
    await newestReport(page).getByRole('button', { name: 'Undo' }).click();
    await stand.publishedWeight(backends[0], 10);
    await hasText(newestReport(page), /Undo: Weight of \S+ 10 → 15/);

    // Settings, too: what undoes them is loaded then.
    await page.goto(`${stand.origin}/?page=settings`);
    await page.locator('[data-pointer="/proxy/udp_idle_ms"]').fill('8000');
    await page.locator('#fields-save').click();
    await hasText(newestReport(page), /Settings — applied/);
    await reload();
    await page.keyboard.press('u');
    await until('it is given back', async () => (await stand.call('GET', '/api/settings')).settings.by_api.proxy?.udp_idle_ms === undefined);
  });
});
