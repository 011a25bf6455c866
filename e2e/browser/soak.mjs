/**
 * @file Looks on for ten minutes while three thousand backends say something new every second, and
 * fails where the page's memory grows. `make soak` runs it; SOAK_SECONDS makes it shorter.
 */

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { COUNT, fleet } from './tests/fleet.mjs';
import { Stand, hasText, openConsole, startBrowser } from './tests/harness.mjs';

const SECONDS = Number(process.env.SOAK_SECONDS ?? 600);
const LOOKS = 10;
/** What is filled first is no growth: caches, and the first samples of each line. */
const SETTLING_SECONDS = 30;
/** The page keeps fifteen minutes of figures, which come to less than this. */
const MAX_GROWTH_BYTES = 2_000_000;

const browser = await startBrowser();
const stand = await Stand.start({ proxy: null });
try {
  await stand.publishDiscovery(fleet(0));
  const page = await openConsole(browser, stand, { width: 1440 });
  await hasText(page.locator('#count'), new RegExp(`^${COUNT} backends$`));
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('Performance.enable');

  let second = 0;
  const goOn = async (seconds) => {
    for (const end = second + seconds; second < end; ) {
      second += 1;
      await stand.publishDiscovery(fleet(second));
      await page.locator('#table-scroll').evaluate((scroller, top) => scroller.scrollTo(0, top), (second % 100) * 500);
      await pause(1_000);
    }
  };
  const look = async () => {
    await cdp.send('HeapProfiler.collectGarbage');
    const { metrics } = await cdp.send('Performance.getMetrics');
    const named = Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
    const { JSHeapUsedSize: heap, Nodes: nodes, JSEventListeners: listeners } = named;
    console.log(`${String(second).padStart(5)} s: ${(heap / 1e6).toFixed(2)} MB, ${nodes} nodes, ${listeners} listeners`);
    return heap;
  };

  await goOn(SETTLING_SECONDS);
  const first = await look();
  let last = first;
  for (let at = 0; at < LOOKS; at += 1) {
    await goOn(Math.round(SECONDS / LOOKS));
    last = await look();
  }
  assert.ok(last - first < MAX_GROWTH_BYTES, `the page has grown by ${((last - first) / 1e6).toFixed(2)} MB`);
  assert.deepEqual(page.complaints, []);
} finally {
  await browser.close();
  await stand.close();
}
