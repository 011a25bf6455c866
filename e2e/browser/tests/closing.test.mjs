/**
 * @file A change of settings that closes an address to clients says what it closes and who is there, and is
 * made on a typed word alone.
 */

import assert from 'node:assert/strict';
import net from 'node:net';
import { once } from 'node:events';
import { beforeEach, describe, it } from 'node:test';
import { noSeriousFault } from './axe.mjs';
import { freePort, hasText, newestReport, onOneStand, openConsole, picture, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {import('./harness.mjs').Stand} */
let stand;
let page;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
  await stand.register({ weight: 10 });
});

const field = (name) => page.locator(`[data-pointer="/listen/${name}"]`);
const inForce = async () => (await stand.call('GET', '/api/settings')).settings.in_force.listen;

async function open(options = {}) {
  page = await openConsole(browser, stand, { view: 'settings', ...options });
  await until('it is read', async () => (await field('port').inputValue()) === String(stand.proxyPort));
}

describe('a change of settings that closes an address', () => {
  beforeEach(async () => {
    await stand.call('POST', '/api/settings', { listen: { tcp: null, udp: null, host: null, port: null } });
  });

  for (const [locale, colorScheme, width, sum, clients] of [
    ['en-GB', 'dark', 1280, (port) => `127.0.0.1:${port} will take no new TCP clients.`, /\d+ new in the last \d+ s, 1 open/],
    ['zh-CN', 'light', 1280, (port) => `127.0.0.1:${port} 将不再接受新的 TCP 客户端。`, /新建 \d+ 个，当前 1 个/],
    ['en-GB', 'light', 390, (port) => `127.0.0.1:${port} will take no new TCP clients.`, /\d+ new in the last \d+ s, 1 open/],
  ]) {
    it(`says_who_is_there_and_wants_a_word: ${locale}, ${width} px`, async () => {
      await open({ locale, colorScheme, width, height: 844 });
      await page.locator(`input[name="theme"][value="${colorScheme}"]`).evaluate((radio) => radio.click());
      const client = net.connect(stand.proxyPort, '127.0.0.1');
      try {
        await once(client, 'connect');
        await field('tcp').selectOption('false');
        await page.locator('#fields-save').click();
        await hasText(page.locator('#diff-sum'), new RegExp(sum(stand.proxyPort).replaceAll('.', '\\.')));
        await hasText(page.locator('#diff-reach'), clients);
        await hasText(page.locator('#diff-rows tr'), /listen\.tcp.*→.*false/);
        await picture(page, `closing-${locale}-${width}`);
        await noSeriousFault(page, 'a change that closes an address');
        await page.locator('#diff-apply').click();
        assert.equal((await inForce()).tcp, true, 'nothing is sent without the word');
        await page.locator('#diff-word').fill(String(stand.proxyPort));
        await page.locator('#diff-note').fill('UDP only from now on');
        await page.locator('#diff-apply').click();
        await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
        await until('TCP is off', async () => (await inForce()).tcp === false);
        const { edits } = await stand.call('GET', '/api/v1/edits');
        assert.equal(edits[0].note, 'UDP only from now on');
      } finally {
        client.destroy();
        await until('the session has ended', async () => (await stand.call('GET', '/api/v1/status')).proxy.totals.sessions_active === 0);
      }
    });
  }

  it('is_one_that_moves_it_and_leaving_the_dialog_changes_nothing', async () => {
    await open();
    const port = await freePort();
    await field('port').fill(String(port));
    await page.locator('#fields-save').click();
    await hasText(page.locator('#diff-sum'), /will take no new TCP or UDP clients/);
    await page.keyboard.press('Escape');
    await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
    assert.equal((await inForce()).port, stand.proxyPort);
    assert.equal(await field('port').inputValue(), String(port), 'what was typed stays');
  });

  it('is_not_one_that_opens_more', async () => {
    await open();
    await field('host').fill('0.0.0.0');
    await page.locator('#fields-save').click();
    await hasText(newestReport(page), /applied in/);
    assert.equal((await inForce()).host, '0.0.0.0');
    await page.waitForFunction(() => document.querySelector('#fields-save')?.getAttribute('aria-busy') === null);
    // Back to one address: who comes to another one of this host is turned away.
    await field('host').fill('127.0.0.1');
    await page.locator('#fields-save').click();
    await hasText(page.locator('#diff-sum'), /^0\.0\.0\.0:\d+ will take no new TCP or UDP clients/);
    await page.keyboard.press('Escape');
  });
});
