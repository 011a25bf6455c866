/**
 * @file A fresh installation: the overview says what to do first, and stops when traffic flows.
 */

import { once } from 'node:events';
import net from 'node:net';
import { describe, it } from 'node:test';
import { hasText, onOneStand, openConsole, picture, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {import('./harness.mjs').Stand} */
let stand;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
});

describe('the guide', () => {
  it('leads_from_the_first_backend_to_the_first_session_and_goes', async () => {
    const page = await openConsole(browser, stand, { view: 'overview' });
    await hasText(page.locator('#guide-title'), /Getting started/);
    await hasText(page.locator('#guide-register'), new RegExp(`POST ${new URL(page.url()).origin}/api/register`));
    await hasText(page.locator('#guide-send'), new RegExp(`curl http://127\\.0\\.0\\.1:${stand.proxyPort}/`));
    await picture(page, 'guide');
    await page.locator('#guide-add').click();
    await page.locator('#add-dialog[open]').waitFor();
    await page.keyboard.press('Escape');

    await stand.register({ weight: 10 });
    await page.locator('#guide-step-backend[data-done]').waitFor();
    const socket = net.connect(stand.proxyPort, '127.0.0.1');
    await once(socket, 'connect');
    socket.end();
    socket.resume();
    await page.locator('#guide').waitFor({ state: 'hidden' });

    const later = await openConsole(browser, stand, { view: 'overview', locale: 'zh-CN' });
    await until('the past is read', async () => (await later.locator('#figure-taking .figure-value').innerText()).includes('1'));
    await later.locator('#guide').waitFor({ state: 'hidden' });
  });
});
