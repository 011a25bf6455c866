/**
 * @file The static list: a backend that somebody adds on the page, and takes off again.
 */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { Stand, hasText, newestReport, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
});

const ADDRESS = '127.0.0.1:19001';
const BACKEND = { key: ADDRESS };

async function listed() {
  const file = path.join(stand.root, 'data/static_backends.json');
  const text = await readFile(file, 'utf8').catch(() => '{"backends": []}');
  return JSON.parse(text).backends;
}

describe('the static list', () => {
  for (const [locale, add, added, source, takeOff, look] of [
    ['en-GB', 'Add backend', /Add 127\.0\.0\.1:19001/, 'static', 'Take off the static list', 'light'],
    ['zh-CN', '添加后端', /添加 127\.0\.0\.1:19001/, '静态列表', '移出静态列表', 'dark'],
  ]) {
    it(`takes_a_backend_and_gives_it_up_again_in_${locale}`, async () => {
      const page = await openConsole(browser, stand, { locale, colorScheme: look, expected: /status of 404/ });
      await page.getByRole('button', { name: add, exact: true }).click();
      await page.locator('#add-address').fill('gpu-1:9001');
      await page.locator('#add-now').click();
      await hasText(page.locator('#add-problem'), /10\.0\.0\.7:9001/);
      await page.locator('#add-address').fill(ADDRESS);
      await page.locator('#add-weight').fill('2000');
      await page.locator('#add-now').click();
      await hasText(page.locator('#add-problem'), /1000/);
      await picture(page, `static-add-${locale}`);
      await page.locator('#add-weight').fill('7');
      await page.locator('#add-now').click();
      await page.locator('#add-dialog').waitFor({ state: 'hidden' });
      await hasText(newestReport(page), added);
      assert.deepEqual(await listed(), [{ ip: '127.0.0.1', port: 19001, weight: 7 }]);
      await hasText(rowOf(page, BACKEND).locator('.source-word'), new RegExp(source));

      await page.locator('#backends').focus();
      await page.keyboard.press('j');
      await page.keyboard.press('Enter');
      const takenOff = page.locator('#side').getByRole('button', { name: takeOff, exact: true });
      await takenOff.waitFor();
      await picture(page, `static-detail-${locale}`);
      await takenOff.click();
      // It is all of the capacity.
      await hasText(page.locator('#diff-sum'), /100% → 0%/);
      await picture(page, `static-take-off-${locale}`);
      await page.locator('#diff-apply').click();
      assert.equal((await listed()).length, 1, 'nothing is made without the word');
      await page.locator('#diff-word').fill(ADDRESS);
      await page.locator('#diff-apply').click();
      await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
      await until('it is off the list', async () => (await listed()).length === 0);
      // A row stays for ten seconds after an act in the table.
      await rowOf(page, BACKEND).waitFor({ state: 'detached', timeout: 30_000 });

      // Undoing it brings it back as it was.
      await page.keyboard.press('Escape');
      await page.keyboard.press('u');
      await until('it is on the list again', async () => (await listed()).length === 1);
      assert.deepEqual(await listed(), [{ ip: '127.0.0.1', port: 19001, weight: 7 }]);
      await stand.call('DELETE', `/api/v1/static/${ADDRESS}`);
    });
  }

  it('says_what_the_server_refuses', async () => {
    const page = await openConsole(browser, stand, { expected: /status of 400/ });
    await page.locator('#add-backend').click();
    await page.locator('#add-address').fill('224.0.0.1:9001');
    await page.locator('#add-now').click();
    await hasText(page.locator('#add-problem'), /address of one host/);
    assert.equal(await page.locator('#add-dialog').isVisible(), true, 'what was typed is not lost');
  });
});
