/**
 * @file What is narrow shows all of it: the marks of a backend beside an edit that waits, the longest states,
 * the verdict beside the open panel, many events on a chart, and a chart that has nothing to show.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { noSeriousFault } from './axe.mjs';
import { hasText, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

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
  for (let at = 0; at < 3; at += 1) backends.push(await stand.register({ weight: 10 }));
});

const LOOKS = [
  { locale: 'en-GB', colorScheme: 'dark', width: 1280 },
  { locale: 'zh-CN', colorScheme: 'light', width: 1280 },
  { locale: 'en-GB', colorScheme: 'light', width: 390 },
  { locale: 'zh-CN', colorScheme: 'dark', width: 390 },
];

/** @param {(typeof LOOKS)[number] & {view?: string}} look */
async function open(look) {
  page = await openConsole(browser, stand, look);
  await page.locator(`input[name="theme"][value="${look.colorScheme}"]`).evaluate((radio) => radio.click());
}

/** What of the row's state lies outside of what is shown of it, or under something else. */
function cutIn(backend) {
  return rowOf(page, backend).evaluate((row) => {
    // The dock may stand over it elsewhere.
    row.scrollIntoView({ block: 'center' });
    const cut = [];
    const line = row.querySelector('.cell-state').getBoundingClientRect();
    for (const mark of row.querySelectorAll('.cell-state .shape-place svg')) {
      const { top, bottom, left, width } = mark.getBoundingClientRect();
      if (top < line.top || bottom > line.bottom) cut.push(`mark ${top}-${bottom} of ${line.top}-${line.bottom}`);
      const over = document.elementFromPoint(left + width / 2, top + 2);
      if (over?.closest('.state') === null) cut.push(`mark under ${over.className}`);
    }
    const badge = row.querySelector('.badge-pending');
    if (badge.scrollWidth > badge.clientWidth) cut.push(`badge ${badge.textContent}`);
    return cut;
  });
}

describe('the table beside the panel', () => {
  for (const width of [1200, 1280, 1366, 1440]) {
    it(`shows_the_figures_of_each_backend_whole at ${width} px`, async () => {
      const figures = { weight: 10, gpu_usage: 1, vram_usage: 0.98 };
      for (const backend of backends) await stand.heartbeat(backend, figures);
      page = await openConsole(browser, stand, { width });
      await page.goto(`${stand.origin}/?page=backends&open=${encodeURIComponent(backends[0].key)}`);
      await page.locator('#side .side-state').waitFor();
      await hasText(rowOf(page, backends[1]).locator('.cell-vram .usage-number'), /^98%/);
      await picture(page, `fits-beside-${width}`);
      const cut = await page.evaluate(() => {
        const edge = document.querySelector('.table-scroll').getBoundingClientRect().right;
        const numbers = [...document.querySelectorAll('#rows .usage-number')];
        return numbers.filter((number) => number.getBoundingClientRect().right > edge).map((number) => number.textContent);
      });
      assert.deepEqual(cut, []);
    });
  }
});

describe('the state of a backend', () => {
  for (const look of LOOKS) {
    it(`shows_its_marks_beside_an_edit_that_waits: ${look.locale}, ${look.width} px`, async () => {
      await open(look);
      const [backend] = backends;
      await until('both marks', async () => (await rowOf(page, backend).locator('.cell-state svg').count()) === 2);
      const input = rowOf(page, backend).locator('.weight-input');
      await input.fill('22');
      await input.press('Tab');
      await hasText(rowOf(page, backend).locator('.badge-pending'), /22/);
      await picture(page, `fits-pending-${look.locale}-${look.width}`);
      assert.deepEqual(await cutIn(backend), []);
    });

    it(`has_room_for_the_longest_words: ${look.locale}, ${look.width} px`, async () => {
      await open(look);
      const [backend] = backends;
      const word = rowOf(page, backend).locator('.state-word');
      await word.waitFor();
      // As row.js writes it, for states that no stand comes to by itself.
      const english = ['up', 'not probed yet', 'pool not defined', 'TCP down\nUDP unknown', 'draining · not probed yet', 'disabled · warming up'];
      const chinese = ['健康', '待探测', '后端池未定义', 'TCP 宕机\nUDP 未知', '排空中 · 待探测', '已停用 · 预热中'];
      for (const text of look.locale === 'en-GB' ? english : chinese) {
        const [cut, room] = await word.evaluate(async (target, said) => {
          const { isLong } = await import('/static/protocols.js');
          target.textContent = said;
          target.classList.toggle('is-long', isLong(said));
          const written = document.createRange();
          written.selectNodeContents(target);
          const [text, cell] = [written, target.closest('td')].map((one) => one.getBoundingClientRect());
          const isCut = target.scrollHeight > target.clientHeight || target.scrollWidth > target.clientWidth;
          return [isCut, Math.min(text.top - cell.top, cell.bottom - text.bottom)];
        }, text);
        assert.equal(cut, false, text);
        assert.ok(room >= 2, `${text}: ${room} px from the edge of its row`);
      }
    });
  }
});

describe('the verdict beside the open panel', () => {
  for (const look of LOOKS.filter(({ width }) => width === 1280)) {
    it(`is_whole_and_ends_in_dots_at_worst in ${look.locale}`, async () => {
      for (const { port } of backends) await stand.call('POST', `/api/backends/127.0.0.1/${port}/enabled`, { enabled: false });
      await open(look);
      await page.goto(`${stand.origin}/?page=backends&open=${encodeURIComponent(backends[0].key)}`);
      await page.locator('#side').waitFor();
      const text = page.locator('#proxy-text');
      await hasText(text, /No backend takes traffic|没有后端接收流量/);
      await picture(page, `fits-pill-${look.locale}`);
      const [inside, style] = await text.evaluate((target) => {
        const pill = target.closest('.proxy').getBoundingClientRect();
        return [target.scrollWidth <= target.clientWidth && target.getBoundingClientRect().right <= pill.right, getComputedStyle(target).textOverflow];
      });
      assert.deepEqual([inside, style], [true, 'ellipsis']);
      for (const { port } of backends) await stand.call('DELETE', `/api/backends/127.0.0.1/${port}/override`);
    });
  }
});

describe('the charts', () => {
  for (const look of LOOKS) {
    it(`count_events_that_are_near_each_other_and_say_where_there_is_nothing: ${look.locale}, ${look.width} px`, async () => {
      for (let edit = 0; edit < 40; edit += 1) {
        await stand.call('POST', '/api/v1/changes', { changes: [{ id: backends[1].key, weight: 11 + (edit % 2) }] }, { 'if-match': '*' });
      }
      await open({ ...look, view: 'overview' });
      const chart = page.locator('[data-chart="sessions"]');
      const counts = async () => ((await chart.getAttribute('data-marks')) ?? '').split(' ').map(Number);
      await until('all edits are on the chart', async () => (await counts()).reduce((sum, count) => sum + count, 0) >= 40);
      assert.ok((await counts()).length <= 12, `${await counts()}`);
      await hasText(page.locator('[data-chart="firstByte"] .chart-empty'), /^(No data in this time yet\.|这段时间还没有数据。)$/);
      assert.equal(await page.locator('[data-chart="firstByte"] .uplot').evaluate((plot) => getComputedStyle(plot).visibility), 'hidden');
      assert.equal(await chart.locator('.chart-empty').isVisible(), false, 'sessions are known');
      await picture(page, `fits-charts-${look.locale}-${look.width}`);
      await noSeriousFault(page, 'the charts');
    });
  }
});
