/**
 * @file The demonstration of batching, as one sees it: the row of a server that takes small requests
 * one by one, and then in batches.
 */

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Stand, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;

onOneStand({}, (started, onIt) => {
  browser = started;
  stand = onIt;
});

it('the_row_of_a_server_falls_as_it_begins_to_batch', async () => {
  const server = await stand.register();
  const page = await openConsole(browser, stand);
  const usage = rowOf(page, server).locator('.cell-vram .usage');
  const overview = await openConsole(browser, stand, { view: 'overview' });
  const mean = overview.locator('#figure-vram .figure-value');
  const percent = async (text) => Number.parseInt((await text.textContent()) ?? '', 10);
  const shown = () => percent(usage.locator('.usage-number'));
  const run = (mode) =>
    stand.simulate('sim_backend_register_batch', [
      '--mode', mode, '--port', String(server.port), '--interval', '0.2',
    ]);

  const unbatched = run('nobatch');
  await until('one by one they fill most of it', async () => (await shown()) >= 85);
  assert.equal(await usage.getAttribute('data-guard'), 'near');
  await until('the mean of the pool is of this one server', async () => (await percent(mean)) >= 60);
  await picture(page, 'batch-none');
  await unbatched.stop();
  assert.match(unbatched.output, /nobatch: .* 8\.0% of VRAM each;.*\n +batch: .* 1\.6% of VRAM each;/);

  const batched = run('batch');
  await until('in batches they take little', async () => (await shown()) <= 30);
  assert.equal(await usage.getAttribute('data-guard'), 'calm');
  await until('the mean falls with it', async () => (await percent(mean)) <= 30);
  const line = rowOf(page, server).locator('.sparkline');
  await until('the line has both', async () => {
    const [least, most] = ((await line.getAttribute('aria-label')) ?? '').match(/\d+(?=%)/g) ?? [];
    return Number(least) <= 30 && Number(most) >= 85;
  });
  await picture(page, 'batch');
  await batched.stop();
  assert.deepEqual([...page.complaints, ...overview.complaints], []);
});
