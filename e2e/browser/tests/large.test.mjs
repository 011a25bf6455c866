/**
 * @file A change that leaves little is reviewed and confirmed by typing, however it is asked for; before a
 * drain the page says what the remaining backends would carry.
 */

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { Stand, applyReview, hasText, newestReport, openConsole, picture, rowOf, startBrowser, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let backends;
let page;
/** What the page has asked for that changes something. */
let sent;

before(async () => {
  browser = await startBrowser();
});

after(() => browser?.close());

beforeEach(async () => {
  stand = await Stand.start();
  backends = [];
});

afterEach(async () => {
  const complaints = page?.complaints ?? [];
  await stand?.close();
  assert.deepEqual(complaints, []);
});

/** @param {object[]} descriptions @param {object} [options] */
async function open(descriptions, options) {
  for (const description of descriptions) backends.push(await stand.register(description));
  page = await openConsole(browser, stand, options);
  sent = [];
  page.on('request', (request) => {
    if (request.method() !== 'GET') sent.push(new URL(request.url()).pathname);
  });
  for (const backend of backends) await hasText(rowOf(page, backend).locator('.state-word'), /^(up|健康)$/);
}

const dialog = () => page.locator('#diff-dialog');

async function enabledOnes() {
  const file = await stand.readJson('config/proxy_config.json');
  return file.backends.filter(({ enabled, weight }) => enabled && weight > 0).length;
}

describe('a change of all backends', () => {
  for (const [locale, sum, ask, none] of [
    ['en-GB', /^6 disabled; capacity 100% → 0%$/, /^Type 6 to confirm/, /No backend is left for new sessions/],
    ['zh-CN', /^停用 6 个；容量 100% → 0%$/, /^请输入 6 以确认/, /没有后端可接收新会话/],
  ]) {
    it(`is_summed_up_and_confirmed_by_typing_whatever_the_shortcut in ${locale}`, async () => {
      await open(Array.from({ length: 6 }, () => ({ weight: 10 })), { locale });
      await rowOf(page, backends[0]).locator('.choose').check();
      await page.locator('#bulk-all').click();
      await page.locator('#bulk-disable').click();
      await hasText(page.locator('#pending-reach'), none);
      await page.keyboard.press('Control+Enter');
      await hasText(page.locator('#diff-sum'), sum);
      await hasText(page.locator('#diff-confirm'), ask);
      // Equal edits are one line, which can be opened.
      assert.equal(await page.locator('#diff-rows tr').count(), 1);
      await page.locator('#diff-rows summary').click();
      await hasText(page.locator('.diff-ids'), new RegExp(backends[5].key));
      await picture(page, `large-${locale}`);
      await page.keyboard.press('Control+Enter');
      await page.locator('#diff-word').fill('5');
      await page.keyboard.press('Enter');
      assert.equal(await page.locator('#diff-word').getAttribute('aria-invalid'), 'true');
      await page.locator('#diff-apply').click();
      assert.deepEqual(sent, []);
      await applyReview(page, '6');
      await until('all are out', async () => (await enabledOnes()) === 0);
      assert.deepEqual(sent, ['/api/v1/changes']);
      // Where nothing is taken off, nothing is asked.
      await newestReport(page).getByRole('button', { name: /Undo|撤销/ }).click();
      await until('all are in again', async () => (await enabledOnes()) === 6);
    });
  }
});

describe('a change of one backend that leaves half of the capacity', () => {
  const acts = {
    'its switch': (row) => row.getByRole('switch').click(),
    'its drain button': (row) => row.locator('.cell-actions [aria-pressed]').click(),
    'a weight of 0 and Enter': async (row) => {
      await row.locator('.weight-input').fill('0');
      await row.locator('.weight-input').press('Enter');
    },
    'a small weight and Save': async (row) => {
      await row.locator('.weight-input').fill('1');
      await row.getByRole('button', { name: /^Save/ }).click();
    },
    'the key d': async (row) => {
      await row.click({ position: { x: 2, y: 2 } });
      await page.keyboard.press('Escape');
      await page.keyboard.press('d');
    },
    'the bar of what waits': async (row) => {
      await row.locator('.weight-input').fill('0');
      await row.locator('.weight-input').press('Tab');
      await page.locator('#pending-apply').click();
    },
  };
  it('is_confirmed_by_its_address_whatever_makes_it', async () => {
    await open([{ weight: 40 }, { weight: 20 }]);
    const [backend] = backends;
    for (const [name, act] of Object.entries(acts)) {
      sent.length = 0;
      await act(rowOf(page, backend));
      await hasText(page.locator('#diff-confirm'), new RegExp(`Type ${backend.key} to confirm`));
      await page.locator('#diff-apply').click();
      await page.locator('#diff-word').fill(backends[1].key);
      await page.keyboard.press('Enter');
      assert.deepEqual(sent, [], name);
      await applyReview(page, backend.key);
      await hasText(newestReport(page), /Change of 1 backend — applied/);
      await stand.call('DELETE', `/api/backends/127.0.0.1/${backend.port}/override`);
      await until('it is as it was', async () => (await rowOf(page, backend).locator('.badge-override').isVisible()) === false);
      await until('capacity is as it was', async () => (await enabledOnes()) === 2);
      await hasText(rowOf(page, backend).locator('.state-word'), /^up$/);
      await page.locator('#pending').waitFor({ state: 'hidden' });
      await until('its weight is shown', async () => (await rowOf(page, backend).locator('.weight-input').inputValue()) === '40');
      // The capacity is what the proxy uses, and what the page knows of it.
      await stand.effectiveWeight(backend, 40);
      await until('it is used', async () => !/effective/.test((await rowOf(page, backend).locator('.cell-weight').innerText()) ?? ''));
    }
  });

  it('is_given_up_with_the_review', async () => {
    await open([{ weight: 40 }, { weight: 20 }]);
    await rowOf(page, backends[0]).getByRole('switch').click();
    await dialog().and(page.locator('[open]')).waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#pending').waitFor({ state: 'hidden' });
    assert.deepEqual(sent, []);
    assert.equal(await rowOf(page, backends[0]).getByRole('switch').getAttribute('aria-checked'), 'true');
  });

  it('is_asked_for_where_an_undo_makes_it', async () => {
    await open([{ weight: 40 }, { weight: 20 }]);
    await stand.call('POST', `/api/backends/127.0.0.1/${backends[0].port}/enabled`, { enabled: false });
    const row = rowOf(page, backends[0]);
    await hasText(row.locator('.state-word'), /^disabled/);
    await row.getByRole('switch').click();
    await hasText(newestReport(page), /Enable .* — applied/);
    await hasText(row.locator('.state-word'), /^up$/);
    await page.keyboard.press('u');
    await hasText(page.locator('#diff-confirm'), new RegExp(backends[0].key));
    assert.equal(await enabledOnes(), 2);
    await applyReview(page, backends[0].key);
    await until('it is out again', async () => (await enabledOnes()) === 1);
  });
});

describe('before a drain', () => {
  for (const [locale, enough, sessions, short, unknown] of [
    ['en-GB', /can carry the load: backends in use 4 → 3.*GPU usage 40% → about 53%/, /open sessions per backend 0 → 0/, /probably cannot carry.*GPU usage 95% → about 127%/, /^Whether .* is unknown.* backends in use 4 → 3/],
    ['zh-CN', /剩余后端可以承载：可用后端 4 → 3.*GPU 利用率 40% → 约 53%/, /每个后端的会话 0 → 0/, /可能承载不了.*GPU 利用率 95% → 约 127%/, /^无法判断.*可用后端 4 → 3/],
  ]) {
    it(`the_page_says_what_the_others_would_carry in ${locale}`, async () => {
      await open(Array.from({ length: 4 }, () => ({ weight: 10, gpu_usage: 0.4 })), { locale });
      const reach = page.locator('#diff-reach');
      const ask = () => rowOf(page, backends[0]).locator('.cell-actions [aria-pressed]').click();
      await ask();
      await hasText(reach, enough);
      await hasText(reach, sessions);
      assert.equal(await page.locator('#diff-confirm').isVisible(), false, 'three of four are enough');
      await picture(page, `drain-${locale}`);
      // What they report meanwhile counts.
      for (const backend of backends) await stand.heartbeat(backend, { weight: 10, gpu_usage: 0.95 });
      await hasText(reach, short);
      await page.keyboard.press('Escape');
      for (const backend of backends) await stand.heartbeat(backend, { weight: 10, gpu_usage: null });
      await until('no report is left', async () => (await page.locator('#rows .cell-gpu').allTextContents()).every((text) => text.includes('–')));
      await ask();
      await hasText(reach, unknown);
      await applyReview(page);
      await hasText(rowOf(page, backends[0]).locator('.state-word'), /^(draining|排空中)/);
    });
  }
});

describe('the capacity', () => {
  it('is_the_sum_of_the_weights_that_count', async () => {
    await open([]);
    const results = await page.evaluate(async () => {
      const { isLarge, loadOf, reachOf } = await import(`${location.origin}/static/capacity.js`);
      const backend = (id, more = {}, proxy = {}) => ({
        id, weight: 10, enabled: true, override: null, gpu_usage: null, vram_usage: null, cost: null, ...more,
        proxy: { operational: 'up', weight_effective: 10, sessions_active: 0, flows_active: 0, sessions_total: 0, flows_total: 0, ...proxy },
      });
      const two = [backend('a'), backend('b')];
      const offDown = backend('c', { enabled: false }, { operational: 'down', weight_effective: 0 });
      const offUp = backend('c', { enabled: false }, { weight_effective: 0 });
      const given = (beneath) => backend('b', { override: { enabled: true, weight: 10 }, without_override: beneath });
      const clear = [{ id: 'b', enabled: null, weight: null, drain: null }];
      const unseen = [{ ...backend('a'), proxy: null }, { ...backend('b'), proxy: null }];
      const cases = {
        'half is large': [two, [{ id: 'a', enabled: false }], 20, 10, true],
        'a raise elsewhere makes up': [two, [{ id: 'a', drain: true }, { id: 'b', weight: 30 }], 20, 30, false],
        'weights in proportion': [two, [{ id: 'a', weight: 1 }], 20, 11, false],
        'one that is down brings nothing': [[...two, offDown], [{ id: 'c', enabled: true }, { id: 'a', enabled: false }], 20, 10, true],
        'one that is up brings its weight': [[...two, offUp], [{ id: 'c', enabled: true }, { id: 'a', enabled: false }], 20, 20, false],
        'what is given back may be off': [[backend('a'), given({ weight: 10, enabled: false })], clear, 20, 10, true],
        'what is given back may be less': [[backend('a'), given({ weight: 0, enabled: true })], clear, 20, 10, true],
        'what is given back may be more': [[backend('a'), given({ weight: 30, enabled: true })], clear, 20, 40, false],
        'a drain that is ended counts': [[backend('a', { override: { drain: true } }, { weight_effective: 0 })], [{ id: 'a', drain: null }], 0, 10, false],
        'nothing to lose': [[offUp], [{ id: 'c', weight: 0 }], 0, 0, false],
        'without a proxy what is configured': [unseen, [{ id: 'a', weight: 0 }], 20, 10, true],
      };
      const reached = Object.entries(cases).map(([name, [all, edits, before, after, large]]) => {
        const reach = reachOf(all, edits);
        return { name, found: [reach.before, reach.after, isLarge(reach)], wanted: [before, after, large] };
      });
      // Ten sessions move to two backends; each takes 1 % of VRAM.
      const full = (id, vram, open) => backend(id, { vram_usage: vram, cost: { vram_expected: vram + 0.01 } }, { sessions_active: open });
      const load = loadOf([full('a', 0.5, 10), full('b', 0.9, 10), full('c', 0.3, 10)], [{ id: 'a', drain: true }]);
      return { reached, load };
    });
    for (const { name, found, wanted } of results.reached) assert.deepEqual(found, wanted, name);
    assert.equal(results.load.verdict, 'tight');
    assert.ok(Math.abs(results.load.vramAfter - 0.95) < 1e-9);
    assert.deepEqual([results.load.sessions, results.load.sessionsAfter], [10, 15]);
  });
});
