/**
 * @file What the proxy refuses, as the pages tell it: on every page until it is over, and at the form
 * whose change was rolled back.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { afterEach, describe, it } from 'node:test';
import { Stand, applyReview, hasAttribute, hasText, newestReport, onOneStand, openConsole, picture, until } from './harness.mjs';

const VIEWS = ['overview', 'backends', 'changes', 'diagnostics', 'batch', 'settings', 'api'];

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
/** Another program that has the port. @type {net.Server} */
let other;
let taken;

onOneStand({ config: { auto_sync_interval_sec: 1 } }, async (started, onIt) => {
  browser = started;
  stand = onIt;
  await stand.register({ weight: 10 });
});

afterEach(async () => {
  if (other?.listening) await letGo();
  await stand.call('POST', '/api/settings', { listen: { host: null, port: null } });
  await until('the first listener serves', async () => (await publishedPort()) === stand.proxyPort);
});

async function takePort() {
  other = net.createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  taken = other.address().port;
}

async function letGo() {
  other.close();
  await once(other, 'close');
}

async function publishedPort() {
  return (await stand.readJson('config/proxy_config.json'))?.listen.port;
}

describe('an incident', () => {
  for (const [locale, why, pill] of [
    ['en-GB', (port) => `Listen address 127.0.0.1:${port}/tcp refused: the port is in use. Sessions are still accepted on 127.0.0.1:${stand.proxyPort}. Retrying every 1 s.`, /Configuration refused in part$/],
    ['zh-CN', (port) => `监听地址 127.0.0.1:${port}/tcp 被拒绝：端口已被占用。仍在 127.0.0.1:${stand.proxyPort} 上接受会话。每 1 秒重试一次。`, /部分配置被拒绝$/],
  ]) {
    it(`stands_on_every_page_until_it_is_over in ${locale}`, async () => {
      await takePort();
      const answer = await stand.call('POST', '/api/settings', { listen: { port: taken }, on_refusal: 'keep_trying' });
      assert.deepEqual([answer.ok, answer.applied], [true, false], JSON.stringify(answer));
      const pages = [];
      for (const view of VIEWS) {
        const page = await openConsole(browser, stand, { view, locale });
        await page.locator('#warnings').waitFor();
        await until('the sentence', async () => {
          const told = await page.locator('#warning-list li').allTextContents();
          return told.length === 1 && told[0] === why(taken);
        }).catch(async (error) => {
          throw new Error(`${error.message}; ${view} says ${await page.locator('#warning-list').innerText()}`);
        });
        await hasText(page.locator('#proxy'), pill);
        await hasAttribute(page.locator('#proxy'), 'data-level', 'bad');
        pages.push(page);
      }
      await letGo();
      for (const page of pages) {
        await page.locator('#warnings').waitFor({ state: 'hidden' });
        await hasAttribute(page.locator('#proxy'), 'data-level', 'good');
      }
      assert.equal(await publishedPort(), taken);
    });
  }
});

describe('a listen address that is refused', () => {
  for (const [locale, rolledBack] of [
    ['en-GB', (port) => `Rolled back: the settings are as before. Listen address 127.0.0.1:${port}/tcp refused: the port is in use. Not applied: listen/port ${port}.`],
    ['zh-CN', (port) => `已回滚，设置已恢复为之前的值。监听地址 127.0.0.1:${port}/tcp 被拒绝：端口已被占用。未应用：listen/port ${port}。`],
  ]) {
    it(`is_rolled_back_and_the_form_shows_what_is_in_force in ${locale}`, async () => {
      await takePort();
      const page = await openConsole(browser, stand, { view: 'settings', locale, expected: /status of 409/ });
      const port = page.locator('[data-pointer="/listen/port"]');
      assert.equal(await page.locator('#on-refusal').inputValue(), 'roll_back');
      await port.fill(String(taken));
      await page.locator('#fields-save').click();
      await applyReview(page, String(stand.proxyPort));
      await hasText(page.locator('#fields-problem'), new RegExp(`^${rolledBack(taken)}$`));
      await until('the port in force', async () => (await port.inputValue()) === String(stand.proxyPort));
      await hasText(page.locator('#fields-count'), /^$/);
      await page.locator('#warnings').waitFor({ state: 'hidden' });
      await hasAttribute(page.locator('#proxy'), 'data-level', 'good');
      assert.equal(await publishedPort(), stand.proxyPort);
      await picture(page, `rolled-back-${locale}`);
    });
  }

  it('is_tried_again_where_that_is_chosen', async () => {
    await takePort();
    const page = await openConsole(browser, stand, { view: 'settings' });
    await page.locator('[data-pointer="/listen/port"]').fill(String(taken));
    await page.locator('#on-refusal').selectOption({ label: 'Keep trying' });
    await page.locator('#fields-save').click();
    await applyReview(page, String(stand.proxyPort));
    await hasText(page.locator('#warning-list'), new RegExp(`127\\.0\\.0\\.1:${taken}/tcp refused: the port is in use`));
    await hasText(newestReport(page), /Settings — saved, but not applied by the proxy/);
    assert.equal(await page.locator('#fields-problem').isVisible(), false);
    await letGo();
    await page.locator('#warnings').waitFor({ state: 'hidden' });
    await until('the new listener', async () => (await publishedPort()) === taken);
  });
});
