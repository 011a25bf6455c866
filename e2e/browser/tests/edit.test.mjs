/**
 * @file Edits that wait, are applied as one change, meet somebody else's, and are undone; and the
 * stream that shows all of it.
 */

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { Stand, applyReview, hasText, isReady, newestReport, openConsole, picture, rowOf, startBrowser, until } from './harness.mjs';

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
  for (const weight of [10, 20, 30]) backends.push(await stand.register({ weight, vram_usage: 0.5 }));
});

afterEach(async () => {
  const complaints = page?.complaints ?? [];
  await stand?.close();
  assert.deepEqual(complaints, []);
});

/** Types a weight and leaves the field, so that the edit waits. */
async function stageWeight(backend, weight) {
  const input = rowOf(page, backend).locator('.weight-input');
  await input.fill(String(weight));
  await input.press('Tab');
}

/** By the bar of the selection, which is put away again. */
async function stageDrain(backend) {
  await rowOf(page, backend).locator('.choose').check();
  await page.locator('#bulk-drain').click();
  await page.locator('#bulk-none').click();
}

/** What people have set of a backend. */
async function overrideOf({ key }) {
  const { backend } = await stand.call('GET', `/api/v1/backends/${key}`);
  const { weight, drain } = backend.override;
  return { weight, drain };
}

async function published() {
  const file = await stand.readJson('config/proxy_config.json');
  return { generation: file.generation, weights: new Map(file.backends.map(({ port, weight }) => [port, weight])) };
}

describe('edits that wait', () => {
  for (const [locale, pending, applied] of [
    ['en-GB', /^2 pending$/, /applied in \d+ ms/],
    ['zh-CN', /^2 项待生效变更$/, /\d+ ms 后生效/],
  ]) {
    it(`are_counted_shown_and_applied_as_one_change in ${locale}`, async () => {
      page = await openConsole(browser, stand, { locale });
      await rowOf(page, backends[0]).waitFor();
      const before = await published();
      await stageWeight(backends[0], 11);
      await stageWeight(backends[1], 22);
      await hasText(page.locator('#pending-count'), pending);
      assert.equal((await published()).generation, before.generation, 'nothing is sent yet');
      await page.locator('#pending-review').click();
      await hasText(page.locator('#diff-rows tr').first(), /10.*→.*11/);
      await picture(page, `diff-${locale}`);
      await page.keyboard.press('Enter');
      await hasText(newestReport(page), applied);
      const now = await published();
      assert.equal(now.generation, before.generation + 1, 'one change, one reload');
      assert.deepEqual([now.weights.get(backends[0].port), now.weights.get(backends[1].port)], [11, 22]);
      await page.locator('#pending').waitFor({ state: 'hidden' });

      await newestReport(page).getByRole('button', { name: /^(Undo|撤销)$/ }).click();
      await until('undone', async () => (await published()).weights.get(backends[0].port) === 10);
      assert.equal((await published()).weights.get(backends[1].port), 20);
      await rowOf(page, backends[0]).locator('.badge-override').waitFor({ state: 'hidden' });
    });
  }

  it('are_taken_back_by_discard', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, backends[0]).waitFor();
    await stageWeight(backends[0], 11);
    await page.locator('#pending-discard').click();
    await page.locator('#pending').waitFor({ state: 'hidden' });
    assert.equal(await rowOf(page, backends[0]).locator('.weight-input').inputValue(), '10');
  });

  it('are_made_for_a_whole_selection', async () => {
    page = await openConsole(browser, stand);
    for (const backend of backends.slice(0, 2)) await rowOf(page, backend).locator('.choose').check();
    await hasText(page.locator('#bulk-count'), /^2 selected$/);
    await page.locator('#bulk-weight').fill('77');
    await page.locator('#bulk-weight').press('Enter');
    await page.locator('#bulk-disable').click();
    await hasText(page.locator('#pending-count'), /^4 pending on 2 backends$/);
    await picture(page, 'bulk');
    await page.locator('#pending-apply').click();
    await hasText(page.locator('#diff-title'), /^Pending changes: 4 on 2 backends$/);
    assert.equal(await page.locator('#diff-rows tr').count(), 4);
    await applyReview(page, '2');
    await stand.publishedWeight(backends[1], 77);
    const file = await stand.readJson('config/proxy_config.json');
    assert.deepEqual(file.backends.map(({ enabled }) => enabled).sort(), [false, false, true]);
  });

  it('meet_somebody_elses_only_where_both_touch_the_same', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, backends[0]).waitFor();
    // Somebody edits another backend: no conflict.
    await stageWeight(backends[0], 11);
    await stand.call('POST', `/api/backends/127.0.0.1/${backends[2].port}/weight`, { weight: 33 });
    await page.locator('#pending-apply').click();
    await stand.publishedWeight(backends[0], 11);
    await page.locator('#pending').waitFor({ state: 'hidden' });

    // Somebody edits the same one: shown, and mine only on my word.
    await stageWeight(backends[0], 12);
    await stand.call('POST', `/api/backends/127.0.0.1/${backends[0].port}/weight`, { weight: 99 });
    await page.locator('#pending-apply').click();
    await page.locator('#diff-problem').waitFor();
    await hasText(page.locator('#diff-rows tr'), /99.*→.*12/);
    await picture(page, 'conflict');
    assert.equal((await published()).weights.get(backends[0].port), 99);
    // From 99 to 12 is most of what there is.
    await applyReview(page, backends[0].key);
    await stand.publishedWeight(backends[0], 12);
    page.complaints = page.complaints.filter((text) => !/412/.test(text));
  });

  it('meet_somebody_elses_as_soon_as_the_page_knows_of_them', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, backends[0]).waitFor();
    await stageWeight(backends[0], 12);
    await stand.call('POST', `/api/backends/127.0.0.1/${backends[0].port}/weight`, { weight: 99 });
    await hasText(page.locator('#pending-conflict'), /^1 backend changed by someone else meanwhile$/);
    // Nothing is overwritten by a press that was meant for what stood before.
    await page.locator('#pending-apply').click();
    await hasText(page.locator('#diff-rows tr'), /changed by someone else.*99.*→.*12/);
    await hasText(page.locator('#diff-problem'), /Someone else changed/);
    await hasText(page.locator('#diff-apply'), /^Overwrite theirs$/);
    assert.equal((await published()).weights.get(backends[0].port), 99);
    await page.locator('#diff-ways button').click();
    await page.locator('#pending').waitFor({ state: 'hidden' });
  });

  it('wait_no_more_once_somebody_else_has_made_the_same', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, backends[0]).waitFor();
    const made = (backend, weight) => stand.call('POST', `/api/backends/127.0.0.1/${backend.port}/weight`, { weight });
    await stageWeight(backends[0], 12);
    await stageWeight(backends[1], 22);
    await stageWeight(backends[2], 32);
    await page.locator('#pending-review').click();
    await page.locator('#diff-dialog[open]').waitFor();
    await made(backends[0], 12);
    await hasText(page.locator('#pending-count'), /^2 pending$/);
    assert.equal(await page.locator('#diff-problem').isVisible(), false, 'it is in nobody\'s way');
    await until('the review has two', async () => (await page.locator('#diff-rows tr').count()) === 2);
    await made(backends[1], 22);
    await made(backends[2], 32);
    await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
    await page.locator('#pending').waitFor({ state: 'hidden' });
    await hasText(newestReport(page), /in force already: someone else has made the same change/);
  });

  it('are_edits_of_what_stood_when_they_were_begun', async () => {
    page = await openConsole(browser, stand, { expected: /status of 412/ });
    await rowOf(page, backends[0]).waitFor();
    await stageWeight(backends[0], 12);
    await stand.call('POST', `/api/backends/127.0.0.1/${backends[0].port}/weight`, { weight: 99 });
    await stand.call('POST', `/api/backends/127.0.0.1/${backends[2].port}/weight`, { weight: 333 });
    const last = rowOf(page, backends[2]).locator('.weight-input');
    await until('the page has the news', async () => (await last.inputValue()) === '333');
    // Into the field and out, and another part of the same backend: no new look at its weight.
    await rowOf(page, backends[0]).locator('.weight-input').focus();
    await page.keyboard.press('Tab');
    await stageDrain(backends[0]);
    await page.locator('#pending-apply').click();
    await page.locator('#diff-problem').waitFor();
    await hasText(page.locator('#diff-rows tr').first(), /99.*→.*12/);
    assert.equal((await published()).weights.get(backends[0].port), 99);

    // What stands now is no edit, whatever stood before.
    await page.locator('#diff-dialog [data-close]').click();
    await stageWeight(backends[0], 99);
    await hasText(rowOf(page, backends[0]).locator('.badge-pending'), /^→ Drain$/);
    await stageWeight(backends[0], 10);
    await page.locator('#pending-apply').click();
    await page.locator('#pending').waitFor({ state: 'hidden' });
    assert.deepEqual(await overrideOf(backends[0]), { weight: 10, drain: true });
  });

  for (const [locale, gone, apply, applyMine] of [
    ['en-GB', /is no longer listed/, /^Apply$/, /^Overwrite theirs$/],
    ['zh-CN', /已不在列表中/, /^应用$/, /^覆盖对方$/],
  ]) {
    it(`of_a_backend_that_is_gone_wait_until_it_is_taken_out in ${locale}`, async () => {
      page = await openConsole(browser, stand, { locale, expected: /status of 4(00|12)/ });
      await rowOf(page, backends[0]).waitFor();
      await stageWeight(backends[0], 11);
      await stageWeight(backends[1], 22);
      // Somebody edits another backend as well: the server refuses the tag before it looks at the backends.
      await stand.call('DELETE', '/api/register', { ip: '127.0.0.1', port: backends[0].port });
      await stand.call('POST', `/api/backends/127.0.0.1/${backends[2].port}/weight`, { weight: 32 });
      await page.locator('#pending-apply').click();
      await hasText(page.locator('#diff-problem'), gone);
      await picture(page, `gone-${locale}`);
      assert.equal((await published()).weights.get(backends[1].port), 20);
      // The others wait for another word, and are no conflict.
      await page.locator('#diff-ways button').click();
      await hasText(page.locator('#diff-apply'), apply);
      await page.locator('#diff-apply').click();
      await stand.publishedWeight(backends[1], 22);
      await page.locator('#pending').waitFor({ state: 'hidden' });

      // A conflict that the person has ended says nothing of later edits.
      await stageWeight(backends[1], 23);
      await stand.call('POST', `/api/backends/127.0.0.1/${backends[1].port}/weight`, { weight: 99 });
      await page.locator('#pending-apply').click();
      await hasText(page.locator('#diff-apply'), applyMine);
      await page.locator('#diff-dialog [data-close]').click();
      await stageWeight(backends[1], 99);
      await stageWeight(backends[2], 33);
      await hasText(page.locator('#pending-apply'), apply);
    });
  }

  it('go_on_waiting_where_they_are_made_while_others_are_applied', async () => {
    page = await openConsole(browser, stand, { expected: /status of 412/ });
    const inputs = backends.map((backend) => rowOf(page, backend).locator('.weight-input'));
    const values = () => Promise.all(inputs.map((input) => input.inputValue()));
    let release = () => {};
    const released = new Promise((resolve) => {
      release = () => resolve(undefined);
    });
    await page.route('**/api/v1/changes', async (route) => {
      const response = await route.fetch();
      await released;
      await route.fulfill({ response });
    });
    await stageWeight(backends[0], 11);
    await stageWeight(backends[1], 22);
    await page.locator('#pending-apply').click();
    await stand.publishedWeight(backends[1], 22);

    // Another part of one, another weight for the next, one more, and one that is still being typed.
    await stageDrain(backends[0]);
    await stageWeight(backends[1], 23);
    await stageWeight(backends[2], 33);
    await inputs[0].fill('13');
    release();
    await hasText(newestReport(page), /Change of 2 backends — applied/);
    await hasText(page.locator('#pending-count'), /^3 pending$/);
    await hasText(rowOf(page, backends[0]).locator('.badge-pending'), /^→ Drain$/);
    await hasText(rowOf(page, backends[1]).locator('.badge-pending'), /^→ weight 23$/);
    assert.deepEqual(await values(), ['13', '23', '33']);

    // What was applied is what they are made on: they meet nobody's.
    await page.locator('#pending-apply').click();
    await hasText(newestReport(page), /Change of 3 backends — applied/);
    await page.locator('#pending').waitFor({ state: 'hidden' });
    const { weights } = await published();
    assert.deepEqual([weights.get(backends[1].port), weights.get(backends[2].port)], [23, 33]);
    assert.deepEqual(await overrideOf(backends[0]), { weight: 13, drain: true });
  });

  it('are_all_applied_or_none', async () => {
    page = await openConsole(browser, stand, { expected: /status of 400/ });
    await rowOf(page, backends[0]).waitFor();
    await stageWeight(backends[0], 11);
    await stageWeight(backends[1], 22);
    // It leaves while the change is on its way: a page that knows of it would ask first.
    await page.route('**/api/v1/changes', async (route) => {
      await stand.call('DELETE', '/api/register', { ip: '127.0.0.1', port: backends[1].port });
      await route.continue();
    });
    await page.locator('#pending-apply').click();
    await hasText(newestReport(page), /Change of 2 backends — failed/);
    const { weights } = await published();
    assert.equal(weights.get(backends[0].port), 10, 'not the other one either');
    await hasText(page.locator('#pending-count'), /^2 pending$/);
  });

  it('are_made_by_steps_of_keys_and_buttons', async () => {
    page = await openConsole(browser, stand);
    const input = rowOf(page, backends[1]).locator('.weight-input');
    await input.focus();
    for (const key of ['ArrowUp', 'ArrowUp', 'ArrowDown', 'PageUp', 'Shift+ArrowDown']) await input.press(key);
    assert.equal(await input.inputValue(), '21');
    assert.equal(await input.getAttribute('aria-valuenow'), '21');
    await input.press('Tab');
    await hasText(page.locator('#pending-count'), /^1 pending$/);
    await rowOf(page, backends[0]).hover();
    await rowOf(page, backends[0]).locator('.step').first().click();
    await hasText(page.locator('#pending-count'), /^2 pending$/);
    await page.keyboard.press('Control+Enter');
    await stand.publishedWeight(backends[0], 9);
    await stand.publishedWeight(backends[1], 21);
  });

  it('do_not_stand_in_the_way_of_the_quick_path', async () => {
    page = await openConsole(browser, stand);
    const input = rowOf(page, backends[0]).locator('.weight-input');
    await input.fill('15');
    await input.press('Enter');
    await hasText(newestReport(page), /applied in \d+ ms/);
    assert.equal(await page.locator('#pending').isVisible(), false);
  });

  it('keep_their_other_parts_when_a_weight_is_saved_by_itself', async () => {
    page = await openConsole(browser, stand, { expected: /status of 412/ });
    await stageDrain(backends[0]);
    await stageWeight(backends[0], 12);
    await hasText(rowOf(page, backends[0]).locator('.badge-pending'), /^→ Drain$/);
    const input = rowOf(page, backends[0]).locator('.weight-input');
    await input.fill('15');
    await input.press('Enter');
    await stand.publishedWeight(backends[0], 15);
    await hasText(rowOf(page, backends[0]).locator('.badge-pending'), /^→ Drain$/);
    await page.locator('#pending-apply').click();
    await page.locator('#pending').waitFor({ state: 'hidden' });
    assert.deepEqual(await overrideOf(backends[0]), { weight: 15, drain: true });
  });
});

describe('edits on edits', () => {
  it('are_made_on_what_the_page_has_read_after_the_first', async () => {
    page = await openConsole(browser, stand, { expected: /net::ERR_/ });
    // Only what is read after a change tells of it now.
    await page.route('**/api/v1/events*', (route) => route.abort());
    await page.reload();
    await isReady(page);
    const statuses = [];
    page.on('response', (response) => {
      if (response.url().endsWith('/api/v1/changes')) statuses.push(response.status());
    });
    for (const weight of [21, 22]) {
      await stageWeight(backends[0], weight);
      await page.locator('#pending').waitFor();
      await page.locator('#pending-apply').click();
      await page.locator('#pending').waitFor({ state: 'hidden' });
      await stand.publishedWeight(backends[0], weight);
    }
    assert.deepEqual(statuses, [200, 200]);
  });
});

describe('an undo', () => {
  it('gives_back_what_stood_and_is_in_the_audit_log', async () => {
    page = await openConsole(browser, stand);
    const input = rowOf(page, backends[0]).locator('.weight-input');
    await input.fill('15');
    await input.press('Enter');
    await stand.publishedWeight(backends[0], 15);
    await newestReport(page).getByRole('button', { name: 'Undo' }).click();
    await stand.publishedWeight(backends[0], 10);
    await hasText(newestReport(page), /Undo: Weight of \S+ 10 → 15 — applied in \d+ ms/);
    const { lines } = await stand.call('GET', '/api/v1/audit');
    const last = lines.findLast(({ action, result }) => action === 'changes' && result === 'ok');
    assert.equal(last.old[backends[0].key].weight, 15);
  });

  it('leaves_what_somebody_else_has_set_meanwhile', async () => {
    page = await openConsole(browser, stand);
    const input = rowOf(page, backends[0]).locator('.weight-input');
    await input.fill('15');
    await input.press('Enter');
    await stand.publishedWeight(backends[0], 15);
    await stand.call('POST', `/api/backends/127.0.0.1/${backends[0].port}/weight`, { weight: 99 });
    await newestReport(page).getByRole('button', { name: 'Undo' }).click();
    await hasText(newestReport(page), /not undone: changed by someone else since/);
    assert.equal((await published()).weights.get(backends[0].port), 99);
  });
});

describe('a weight', () => {
  it('that_somebody_else_sets_while_ours_is_saved_is_shown_and_is_no_edit', async () => {
    page = await openConsole(browser, stand);
    const input = rowOf(page, backends[0]).locator('.weight-input');
    await page.route('**/api/backends/*/*/weight', async (route) => {
      const response = await route.fetch();
      await stand.call('POST', `/api/backends/127.0.0.1/${backends[0].port}/weight`, { weight: 99 });
      await route.fulfill({ response });
    });
    await input.fill('15');
    await input.press('Enter');
    await hasText(newestReport(page), /10 → 15.*applied/);
    await until('what stands is shown', async () => (await input.inputValue()) === '99');
    await input.press('Tab');
    assert.equal(await page.locator('#pending').isVisible(), false, 'nothing waits');
    assert.equal((await published()).weights.get(backends[0].port), 99);
  });
});

describe('the stream', () => {
  it('is_one_for_all_tabs_and_passes_on_when_its_tab_closes', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, backends[0]).waitFor();
    const second = await page.context().newPage();
    let streams = 0;
    second.on('request', (request) => {
      if (request.url().includes('/api/v1/events')) streams += 1;
    });
    await second.goto(`${stand.origin}/?page=backends`);
    const input = second.locator('#rows tr').filter({ hasText: backends[0].key }).locator('.weight-input');
    await input.waitFor();
    await stand.call('POST', `/api/backends/127.0.0.1/${backends[0].port}/weight`, { weight: 41 });
    await until('the second tab sees it', async () => (await input.inputValue()) === '41');
    assert.equal(streams, 0, 'by the first tab alone');
    await page.close();
    await stand.call('POST', `/api/backends/127.0.0.1/${backends[0].port}/weight`, { weight: 42 });
    await until('the second tab goes on', async () => (await input.inputValue()) === '42');
    assert.equal(streams, 1);
  });

  it('replaces_a_backend_that_comes_whole_with_its_lists_and_without_what_it_lost', async () => {
    page = await openConsole(browser, stand);
    const patched = await page.evaluate(async () => {
      const { patchInPlace } = await import(/** @type {string} */ ('/static/patch.js'));
      const known = { id: 'a', sources: ['k8s'], cost: { total: 1 }, proxy: { sessions: 1, reason: '' } };
      patchInPlace(known, { id: 'a', sources: [['runtime']], proxy: { sessions: 2 } });
      const inParts = structuredClone(known);
      patchInPlace(known, [{ id: 'a', sources: ['static'], proxy: null }]);
      return { inParts, whole: known };
    });
    const inParts = { id: 'a', sources: ['runtime'], cost: { total: 1 }, proxy: { sessions: 2, reason: '' } };
    assert.deepEqual(patched, { inParts, whole: { id: 'a', sources: ['static'], proxy: null } });
  });
});
