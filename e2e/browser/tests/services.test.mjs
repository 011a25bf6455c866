/**
 * @file Backends of several pools on one page: each row is one backend of one pool, whatever its address.
 */

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { freePort, hasText, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

let browser;
/** @type {import('./harness.mjs').Stand} */
let stand;
let own;
let other;

onOneStand({}, async (theBrowser, theStand) => {
  browser = theBrowser;
  stand = theStand;
  const pool = { algorithm: 'weighted_round_robin', health: { probe: 'off' } };
  const listener = { host: '127.0.0.1', port: await freePort(), pool: 'chat' };
  const proxy = { listeners: { chat: listener }, pools: { chat: pool } };
  const answer = await stand.call('POST', '/api/settings', { proxy });
  assert.equal(answer.ok, true, JSON.stringify(answer));
  own = await stand.register({ weight: 10 });
  other = { ...own, key: `chat/${own.key}` };
  const said = await stand.call('POST', '/api/register', { ip: own.ip, port: own.port, pool: 'chat', weight: 20 });
  assert.equal(said.ok, true, JSON.stringify(said));
});

/** The weights that hold, in each pool. */
async function weights() {
  const { backends } = await stand.call('GET', '/api/v1/backends');
  return Object.fromEntries(backends.map(({ id, weight }) => [id, weight]));
}

it('one address in two pools is two rows, and an edit changes its own row alone', async () => {
  const page = await openConsole(browser, stand);
  const input = (backend) => rowOf(page, backend).locator('.weight-input');
  assert.equal(await input(own).inputValue(), '10');
  assert.equal(await input(other).inputValue(), '20');
  assert.match(await rowOf(page, other).innerText(), /chat\/127\.0\.0\.1/);
  await input(other).fill('35');
  await input(other).press('Enter');
  await until('the edit is in force', async () => (await weights())[other.key] === 35);
  assert.equal((await weights())[own.key], 10);
  await until('the row shows it', async () => (await input(other).inputValue()) === '35');
  assert.equal(await input(own).inputValue(), '10');
  await picture(page, 'two-pools');
});

it('the panel is of the backend in its pool, and clears the override there', async () => {
  for (const { key } of [own, other]) {
    await stand.call('POST', '/api/v1/changes', { changes: [{ id: key, weight: 50 }] }, { 'if-match': '*' });
  }
  const page = await openConsole(browser, stand);
  await rowOf(page, other).locator('.cell-sessions').click();
  await hasText(page.locator('#side-title'), new RegExp(`^${other.key}$`));
  await picture(page, 'two-pools-panel');
  const clear = page.locator('.side-controls').getByRole('button', { name: /^Clear override/ });
  await clear.click();
  await until('it is cleared', async () => (await weights())[other.key] === 20);
  assert.equal((await weights())[own.key], 50);
});

it('a row of a pool that no listener leads to says so, as state, reason and filter', async () => {
  const settings = (/** @type {unknown} */ proxy) => stand.call('POST', '/api/settings', { proxy });
  for (const [locale, state, reason] of /** @type {const} */ ([
    ['en-GB', 'no listener', /No listener leads to pool chat/],
    ['zh-CN', '无监听', /没有监听指向后端池 chat/],
  ])) {
    const page = await openConsole(browser, stand, { locale });
    await hasText(rowOf(page, own).locator('.state-word'), /./);
    assert.equal((await settings({ listeners: { chat: null } })).ok, true);
    await hasText(rowOf(page, other).locator('.state-word'), new RegExp(`^${state}$`));
    assert.equal(await rowOf(page, other).locator('.shape-no_listener').count(), 1);
    assert.doesNotMatch(await rowOf(page, own).locator('.state-word').innerText(), new RegExp(state));
    await rowOf(page, other).locator('.cell-sessions').click();
    await hasText(page.locator('.side-reason'), reason);
    await picture(page, `no-listener-${locale}`);
    const listener = { host: '127.0.0.1', port: await freePort(), pool: 'chat' };
    assert.equal((await settings({ listeners: { chat: listener } })).ok, true);
    await hasText(rowOf(page, other).locator('.state-word'), new RegExp(`^(?!${state}).+$`, 's'));
  }
});
