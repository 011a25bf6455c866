/**
 * @file What axe-core finds on a page.
 */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

/**
 * Fails where axe-core finds a serious fault.
 * @param {import('playwright-core').Page} page
 * @param {string} what is on the page, for the message
 */
export async function noSeriousFault(page, what) {
  // By evaluating it, since the page's policy forbids scripts that are not ours.
  await page.evaluate(await readFile(AXE, 'utf8'));
  const violations = await page.evaluate(async () => {
    const { violations: all } = await /** @type {any} */ (window).axe.run();
    return all
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html.slice(0, 120)} ${failureSummary}`).join(' | ')}`);
  });
  assert.deepEqual(violations, [], what);
}
