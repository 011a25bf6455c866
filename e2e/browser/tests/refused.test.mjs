/**
 * @file What is refused while a dialog is open is told in the dialog, with the way on: a backend that has
 * gone, and every answer of the server that is no success.
 */

import assert from 'node:assert/strict';
import { after, before, beforeEach, afterEach, describe, it } from 'node:test';
import { noSeriousFault } from './axe.mjs';
import { Stand, hasText, newestReport, openConsole, picture, rowOf, startBrowser, until } from './harness.mjs';

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

const problem = () => page.locator('#diff-problem');
const take = () => page.locator('#diff-ways button');

async function stageWeight(backend, weight) {
  const input = rowOf(page, backend).locator('.weight-input');
  await input.fill(String(weight));
  await input.press('Tab');
}

function leave({ ip, port }) {
  return stand.call('DELETE', '/api/register', { ip, port });
}

/** Nothing lies over it, and it is not cut off. */
async function isInSight(locator) {
  await locator.waitFor();
  return locator.evaluate((target) => {
    const { left, top, width, height } = target.getBoundingClientRect();
    const [x, y] = [left + Math.min(width / 2, 40), top + height / 2];
    return target.contains(document.elementFromPoint(x, y)) && left >= 0 && left + width <= innerWidth;
  });
}

describe('a backend that goes while its change is under review', () => {
  for (const [locale, width, colorScheme, gone, out, mark] of [
    ['en-GB', 1280, 'dark', /is no longer listed\. Nothing is applied/, /^Take it out of the change$/, /no longer listed/],
    ['zh-CN', 1280, 'light', /已不在列表中。移出之前/, /^从变更中移出$/, /已不在列表中/],
    ['en-GB', 390, 'light', /is no longer listed\. Nothing is applied/, /^Take it out of the change$/, /no longer listed/],
    ['zh-CN', 390, 'dark', /已不在列表中。移出之前/, /^从变更中移出$/, /已不在列表中/],
  ]) {
    it(`is_named_in_the_review_and_can_be_taken_out: ${locale}, ${width} px`, async () => {
      page = await openConsole(browser, stand, { locale, width, height: 844, colorScheme });
      await page.locator(`input[name="theme"][value="${colorScheme}"]`).evaluate((radio) => radio.click());
      await rowOf(page, backends[0]).waitFor();
      await stageWeight(backends[0], 11);
      await stageWeight(backends[1], 22);
      await page.locator('#pending-review').click();
      await page.locator('#diff-dialog[open]').waitFor();
      await leave(backends[0]);
      await hasText(problem(), gone);
      assert.match((await problem().textContent()) ?? '', new RegExp(backends[0].key));
      assert.ok(await isInSight(problem()), 'nothing lies over it');
      await hasText(page.locator('#diff-rows .is-conflict'), mark);
      await picture(page, `refused-gone-${locale}-${width}`);
      await noSeriousFault(page, 'the review of a backend that is gone');
      // Nothing is sent that can only be refused.
      await page.locator('#diff-apply').click();
      await hasText(take(), out);
      assert.ok(await take().evaluate((button) => button === document.activeElement), 'the way on has the focus');
      await page.keyboard.press('Enter');
      await problem().waitFor({ state: 'hidden' });
      await page.locator('#diff-apply').click();
      await stand.publishedWeight(backends[1], 22);
      await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
      await page.locator('#pending').waitFor({ state: 'hidden' });
    });
  }

  it('opens_the_review_where_it_is_applied_without', async () => {
    page = await openConsole(browser, stand, { expected: /status of 400/ });
    await rowOf(page, backends[0]).waitFor();
    await stageWeight(backends[0], 11);
    await leave(backends[0]);
    await page.locator('#pending-apply').click();
    await hasText(problem(), /no longer listed/);
    await hasText(page.locator('#pending-conflict'), /^1 backend no longer listed$/);
    await take().click();
    await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
    await page.locator('#pending').waitFor({ state: 'hidden' });
  });

  it('that_comes_back_is_no_problem_any_more', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, backends[0]).waitFor();
    await stageWeight(backends[0], 11);
    await page.locator('#pending-review').click();
    await page.locator('#diff-dialog[open]').waitFor();
    await leave(backends[0]);
    await hasText(problem(), /no longer listed/);
    await stand.call('POST', '/api/register', { ip: '127.0.0.1', port: backends[0].port, weight: 10 });
    await problem().waitFor({ state: 'hidden' });
    await page.locator('#diff-apply').click();
    await stand.publishedWeight(backends[0], 11);
  });
});

/** As the server gives them: what it is, and what the dialog says of it. */
const ANSWERS = [
  ['400', { status: 400, json: { detail: 'note: too long' } }, /failed: note: too long/],
  ['403', { status: 403, json: { detail: 'needs the scope write' } }, /not allowed: needs the scope write/],
  ['404', { status: 404, json: { detail: 'not found here' } }, /failed: not found here/],
  ['409', { status: 409, json: { detail: 'the file changed' } }, /failed: the file changed/],
  ['500', { status: 500, json: { detail: 'disk full' } }, /failed: disk full/],
  ['no network', null, /^not in force: the control server did not answer/],
];

/** Answers one call in place of the server. */
async function refuse(route, answer) {
  if (answer === null) await route.abort();
  else await route.fulfill(answer);
}

describe('a refusal', () => {
  it('of_a_large_change_is_told_in_its_review', async () => {
    page = await openConsole(browser, stand, { expected: /status of [45]|net::ERR_/ });
    let answer;
    await page.route('**/api/v1/changes', (route) => (answer === undefined ? route.continue() : refuse(route, answer)));
    for (const backend of backends) await rowOf(page, backend).locator('.choose').check();
    await page.locator('#bulk-disable').click();
    await page.locator('#pending-apply').click();
    await page.locator('#diff-word').fill('3');
    for (const [what, given, said] of ANSWERS) {
      answer = given;
      await page.locator('#diff-word').press('Enter');
      await hasText(problem(), said);
      assert.ok(await isInSight(problem()), `${what}: nothing lies over it`);
      assert.equal(await page.locator('#diff-word').inputValue(), '3', `${what}: the word stays`);
    }
    await picture(page, 'refused-large');
    answer = undefined;
    await page.locator('#diff-word').press('Enter');
    await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
    await page.locator('#pending').waitFor({ state: 'hidden' });
  });

  it('of_a_roll_back_is_told_in_its_dialog', async () => {
    const change = { changes: [{ id: backends[0].key, weight: 40 }], note: 'the big one' };
    await stand.call('POST', '/api/v1/changes', change, { 'if-match': '*' });
    page = await openConsole(browser, stand, { view: 'changes', expected: /status of [45]|net::ERR_/ });
    let answer;
    await page.route('**/roll_back', (route) => (answer === undefined ? route.continue() : refuse(route, answer)));
    await page.locator('#edits .edit').first().getByRole('button').click();
    await until('it is shown', async () => (await page.locator('#diff-rows tr').count()) === 1);
    const stale = ['412', { status: 412, json: { detail: 'stale' } }, /Someone else has edited since/];
    for (const [what, given, said] of [...ANSWERS, stale]) {
      answer = given;
      await page.locator('#diff-apply').click();
      await hasText(problem(), said);
      assert.ok(await isInSight(problem()), `${what}: nothing lies over it`);
    }
    await picture(page, 'refused-roll-back');
    answer = undefined;
    await page.locator('#diff-apply').click();
    await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
    await stand.publishedWeight(backends[0], 10);
  });

  for (const [locale, made] of [
    ['en-GB', /— in force: the control server made the change, but its answer was lost/],
    ['zh-CN', /— 已生效：控制面已完成变更，但响应丢失/],
  ]) {
    it(`is_none_where_only_the_answer_was_lost: ${locale}`, async () => {
      page = await openConsole(browser, stand, { locale, expected: /net::ERR_/ });
      await page.route('**/api/v1/changes', async (route) => {
        await route.fetch();
        await route.abort();
      });
      await rowOf(page, backends[0]).waitFor();
      await stageWeight(backends[0], 11);
      await stageWeight(backends[1], 22);
      await page.locator('#pending-review').click();
      await page.locator('#diff-apply').click();
      await stand.publishedWeight(backends[1], 22);
      await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
      await page.locator('#pending').waitFor({ state: 'hidden' });
      await hasText(newestReport(page), made);
      await picture(page, `answer-lost-${locale}`);
    });
  }

  it('of_a_roll_back_is_none_where_only_the_answer_was_lost', async () => {
    const change = { changes: [{ id: backends[0].key, weight: 40 }] };
    await stand.call('POST', '/api/v1/changes', change, { 'if-match': '*' });
    page = await openConsole(browser, stand, { view: 'changes', expected: /net::ERR_/ });
    await page.route('**/roll_back', async (route) => {
      await route.fetch();
      await route.abort();
    });
    await page.locator('#edits .edit').first().getByRole('button').click();
    await until('it is shown', async () => (await page.locator('#diff-rows tr').count()) === 1);
    await page.locator('#diff-apply').click();
    await hasText(problem(), /^in force: the control server made the change/);
    await stand.publishedWeight(backends[0], 10);
  });

  it('is_not_sent_for_by_the_keys_of_another_dialog', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, backends[0]).waitFor();
    let calls = 0;
    page.on('request', (request) => (calls += Number(request.url().endsWith('/api/v1/changes'))));
    await stageWeight(backends[0], 11);
    await page.keyboard.press('Escape');
    await page.locator('#open-help').click();
    await page.locator('#help-dialog[open]').waitFor();
    await page.keyboard.press('Control+Enter');
    await page.locator('#help-dialog [data-close]').click();
    assert.equal(calls, 0, 'what waits behind a dialog is not applied');
    await page.locator('#pending-review').click();
    await page.locator('#diff-dialog[open]').waitFor();
    await page.locator('#diff-note').focus();
    await page.keyboard.press('Control+Enter');
    await stand.publishedWeight(backends[0], 11);
    await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
    assert.equal(calls, 1);
  });
});
