/**
 * @file What leaves little of the capacity is asked for, whichever way it is made, and what was agreed to is
 * no word for more.
 */

import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { hasText, newestReport, onOneStand, openConsole, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {import('./harness.mjs').Stand} */
let stand;
let backends;
let page;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
  backends = [];
  for (let at = 0; at < 5; at += 1) backends.push(await stand.register({ weight: 10 }));
});

const path = (backend, what) => `/api/backends/127.0.0.1/${backend.port}/${what}`;
const disable = (backend) => stand.call('POST', path(backend, 'enabled'), { enabled: false });
const typed = () => page.locator('#diff-word');
const rowIsUp = async (backend) => hasText(rowOf(page, backend).locator('.state-word'), /^up$/);

async function overrides() {
  const { backends: listed } = await stand.call('GET', '/api/v1/backends');
  return listed.filter(({ override }) => override).map(({ id }) => id);
}

describe('a large change', () => {
  beforeEach(async () => {
    for (const backend of backends) await stand.call('DELETE', path(backend, 'override'));
  });

  it('is_one_that_clears_an_override_too', async () => {
    const [first] = backends;
    await stand.call('POST', path(first, 'weight'), { weight: 900 });
    page = await openConsole(browser, stand);
    await rowIsUp(first);
    await rowOf(page, first).getByRole('button', { name: 'Clear override' }).click();
    await hasText(page.locator('#diff-sum'), /100% → 5%/);
    await page.locator('#diff-apply').click();
    assert.deepEqual(await overrides(), [first.key], 'nothing is made without the word');
    await typed().fill(first.key);
    await page.locator('#diff-apply').click();
    await until('it is cleared', async () => (await overrides()).length === 0);
  });

  it('wants_its_word_again_when_it_leaves_less_than_when_it_was_typed', async () => {
    const [a, b, c, d] = backends;
    page = await openConsole(browser, stand);
    for (const backend of [a, b, c]) {
      await rowIsUp(backend);
      await rowOf(page, backend).locator('.choose').check();
    }
    await page.locator('#bulk-disable').click();
    await page.locator('#pending-review').click();
    await hasText(page.locator('#diff-sum'), /100% → 40%/);
    await typed().fill('3');
    assert.equal(await page.locator('#diff-apply').getAttribute('data-unconfirmed'), null);
    await disable(d);
    await until('the word is gone', async () => (await typed().inputValue()) === '');
    await hasText(page.locator('#diff-sum'), /100% → 25%/);
    await page.locator('#diff-apply').click();
    assert.deepEqual(await overrides(), [d.key]);
    await page.keyboard.press('Escape');
    await page.locator('#pending-discard').click();
  });

  it('is_what_a_roll_back_becomes_while_its_dialog_is_open', async () => {
    const [a, b, ...others] = backends;
    const change = (enabled, note) => stand.call('POST', '/api/v1/changes', { changes: [a, b].map(({ key }) => ({ id: key, enabled })), note }, { 'if-match': '*' });
    await change(false, 'out');
    await change(true, 'back in');
    page = await openConsole(browser, stand, { view: 'changes' });
    await page.locator('#edits .edit').filter({ hasText: 'back in' }).getByRole('button').click();
    await hasText(page.locator('#diff-sum'), /100% → 60%/);
    assert.equal(await page.locator('#diff-confirm').isVisible(), false);
    // Registrations are no edits: the tag of the edits stays.
    for (const { ip, port } of others) await stand.call('POST', '/api/register', { ip, port, enabled: false });
    await page.locator('#diff-confirm').waitFor();
    await page.locator('#diff-apply').click();
    assert.deepEqual((await overrides()).sort(), [a.key, b.key].sort());
    const { backends: listed } = await stand.call('GET', '/api/v1/backends');
    assert.ok([a, b].every(({ key }) => listed.find(({ id }) => id === key).enabled), 'nothing is made without the word');
    for (const { ip, port } of others) await stand.call('POST', '/api/register', { ip, port, enabled: true });
    await page.keyboard.press('Escape');
  });

  it('can_still_be_undone_after_its_review_was_left', async () => {
    for (const backend of backends) await disable(backend);
    page = await openConsole(browser, stand);
    for (const backend of backends.slice(0, 4)) await rowOf(page, backend).locator('.choose').check();
    await page.locator('#bulk-enable').click();
    await page.locator('#pending-apply').click();
    await hasText(newestReport(page), /applied/);
    await rowIsUp(backends[0]);
    await newestReport(page).getByRole('button', { name: 'Undo' }).click();
    await page.locator('#diff-confirm').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
    await newestReport(page).getByRole('button', { name: 'Undo' }).waitFor();
  });

  it('can_be_undone_before_the_page_has_read_what_it_made', async () => {
    for (const backend of backends) await disable(backend);
    page = await openConsole(browser, stand);
    for (const backend of backends.slice(0, 4)) await rowOf(page, backend).locator('.choose').check();
    await page.locator('#bulk-enable').click();
    let held;
    await page.route('**/api/v1/status', (route) => {
      if (held !== undefined) return route.continue();
      held = route;
    });
    await page.locator('#pending-apply').click();
    await hasText(newestReport(page), /applied/);
    await until('the page reads', () => held !== undefined);
    await newestReport(page).getByRole('button', { name: 'Undo' }).click();
    // It has read for itself what it takes back; only then does the page get what it waited for.
    await page.waitForResponse((response) => response.url().includes('/api/v1/backends'));
    await held.continue();
    await page.locator('#pending-apply:not([aria-busy])').waitFor({ state: 'attached' });
    await page.locator('#diff-confirm').waitFor();
    await page.locator('#pending').waitFor();
    await page.keyboard.press('Escape');
  });
});
