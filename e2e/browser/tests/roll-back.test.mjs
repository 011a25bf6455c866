/**
 * @file A bad change is found in the list of edits, and taken back with all that followed it.
 */

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Stand, freePort, hasText, openConsole, picture, startBrowser, until } from './harness.mjs';

let browser;
let stand;

before(async () => {
  browser = await startBrowser();
  stand = await Stand.start();
});

after(async () => {
  await browser?.close();
  await stand?.close();
});

const LANGUAGES = [
  { locale: 'en-GB', button: /^Roll back$/, title: /^Roll back to before the edit of /, nobody: /No edits of weights, switches/, before: (edit) => `roll back to before edit #${edit}` },
  { locale: 'zh-CN', button: /^回滚$/, title: /^回滚到 .* 的修改之前$/, nobody: /还没有人修改过/, before: (edit) => `回滚到修改 #${edit} 之前` },
];

describe('a bad change', () => {
  for (const { locale, button, title, nobody, before: beforeEdit } of LANGUAGES) {
    it(`is_rolled_back: ${locale}`, async () => {
      const first = locale === 'en-GB';
      const backend = await stand.register({ weight: 10 });
      const page = await openConsole(browser, stand, { view: 'changes', locale, colorScheme: first ? 'dark' : 'light' });
      if (first) await hasText(page.locator('#edits-none'), nobody);
      const change = (body) => stand.call('POST', '/api/v1/changes', body, { 'if-match': '*' });
      await change({ changes: [{ id: backend.key, weight: 40 }], note: 'the big one' });
      await change({ changes: [{ id: backend.key, weight: 0 }], note: `a slip ${locale}` });
      await stand.call('POST', '/api/settings', { proxy: { max_sessions: first ? 500 : 600 } });
      const slip = page.locator('#edits .edit').filter({ hasText: `a slip ${locale}` });
      await slip.waitFor();
      assert.match((await slip.textContent()) ?? '', /40 → 0/);
      await picture(page, `edits-${locale}`);
      await slip.getByRole('button', { name: button }).click();
      await hasText(page.locator('#diff-title'), title);
      const rows = page.locator('#diff-rows tr');
      await until('the override and the setting are shown', async () => (await rows.count()) === 2);
      const shown = await rows.allTextContents();
      assert.ok(shown.some((row) => row.includes(backend.key) && /0.*→.*40/.test(row)), shown.join('\n'));
      assert.ok(shown.some((row) => row.includes('max_sessions')), shown.join('\n'));
      await picture(page, `roll-back-${locale}`);
      const { edits } = await stand.call('GET', '/api/v1/edits');
      const { number } = edits.find(({ note }) => note === `a slip ${locale}`);
      await page.locator('#diff-note').fill(`it took the big one out ${locale}`);
      await page.keyboard.press('Enter');
      await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
      await until('it is published', async () => {
        const file = await stand.readJson('config/proxy_config.json');
        return file?.backends.some(({ port, weight }) => port === backend.port && weight === 40);
      });
      const made = page.locator('#edits .edit').filter({ hasText: `it took the big one out ${locale}` }).first();
      await hasText(made, new RegExp(beforeEdit(number)));
      await hasText(page.locator('#edits .edit').filter({ hasText: `a slip ${locale}` }).filter({ hasText: '40 → 0' }), new RegExp(`#${number} `));
      await hasText(page.locator('#audit'), new RegExp(beforeEdit(number)));
      await page.goto(`${stand.origin}/?page=backends&open=${encodeURIComponent(backend.key)}`);
      await hasText(page.locator('#side .side-list').last(), new RegExp(beforeEdit(number)));
      assert.deepEqual(page.complaints, []);
    });
  }

  it('that_somebody_else_has_followed_is_shown_again_before_it_is_taken_back', async () => {
    const backend = await stand.register({ weight: 10 });
    const page = await openConsole(browser, stand, { view: 'changes', expected: /412/ });
    const change = (weight) => stand.call('POST', '/api/v1/changes', { changes: [{ id: backend.key, weight }], note: `to ${weight}` }, { 'if-match': '*' });
    await change(70);
    const line = page.locator('#edits .edit').filter({ hasText: 'to 70' });
    await line.getByRole('button').click();
    await until('it is shown', async () => (await page.locator('#diff-rows tr').count()) === 1);
    await change(71);
    await page.locator('#diff-apply').click();
    await page.locator('#diff-problem').waitFor({ state: 'visible' });
    await until('the new value is shown', async () => /71/.test((await page.locator('#diff-rows').textContent()) ?? ''));
    await page.locator('#diff-apply').click();
    await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
    assert.deepEqual(page.complaints, []);
  });

  it('is_named_in_the_panel_of_the_backend_that_it_took_out', async () => {
    const backend = await stand.register({ weight: 10 });
    const page = await openConsole(browser, stand);
    await stand.call('POST', '/api/v1/changes', { changes: [{ id: backend.key, enabled: false }], note: 'new driver' }, { 'if-match': '*' });
    await page.goto(`${stand.origin}/?page=backends&open=${encodeURIComponent(backend.key)}`);
    await hasText(page.locator('.side-before'), /^Since .*earlier: .*\(new driver\)$/);
    await picture(page, 'before');
    assert.deepEqual(page.complaints, []);
  });

  it('of_the_settings_is_named_in_the_panel_of_a_backend_that_went_down', async () => {
    const backend = await stand.register({ weight: 10 });
    const page = await openConsole(browser, stand);
    await stand.call('POST', '/api/settings', { proxy: { health: { port: await freePort() } }, note: 'moved the probe' });
    await page.goto(`${stand.origin}/?page=backends&open=${encodeURIComponent(backend.key)}`);
    await hasText(page.locator('.side-state'), /^down/);
    await hasText(page.locator('.side-before'), /^Since .*earlier: settings by .*\(moved the probe\)$/);
    await stand.call('POST', '/api/settings', { proxy: { health: null } });
    assert.deepEqual(page.complaints, []);
  });

  it('that_leaves_too_little_is_typed_as_any_other_change', async () => {
    const own = await Stand.start();
    try {
      const both = [await own.register({ weight: 10 }), await own.register({ weight: 10 })];
      const change = (enabled) => own.call('POST', '/api/v1/changes', { changes: both.map(({ key: id }) => ({ id, enabled })) }, { 'if-match': '*' });
      await change(false);
      await change(true);
      for (const backend of both) await own.effectiveWeight(backend, 10);
      const page = await openConsole(browser, own, { view: 'changes' });
      await page.locator('#edits .edit').first().getByRole('button').click();
      await hasText(page.locator('#diff-confirm-text'), /^Type 2 to confirm$/);
      await hasText(page.locator('#diff-sum'), /capacity 100 ?% → 0 ?%/);
      await picture(page, 'roll-back-large');
      await page.keyboard.press('Enter');
      await until('it is asked for', async () => (await page.locator('#diff-word').getAttribute('aria-invalid')) === 'true');
      assert.equal((await own.call('GET', '/api/v1/edits')).edits.length, 2, 'nothing is sent');
      await page.locator('#diff-word').fill('2');
      await page.keyboard.press('Enter');
      await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
      for (const backend of both) await own.effectiveWeight(backend, 0);
      assert.deepEqual(page.complaints, []);
    } finally {
      await own.close();
    }
  });
});
