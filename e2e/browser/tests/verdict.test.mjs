/**
 * @file The ten worst outages as the page tells them: red in the top bar, in the title, in the icon of
 * the tab and on the overview, in both languages, within two seconds of when control can know.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { after, afterEach, before, describe, it } from 'node:test';
import { Stand, hasText, openConsole, picture, startBrowser, until } from './harness.mjs';

/** How soon an outage is red. */
const SOON_MS = 2_000;
/** Of what takes a while to be one: probes that fail, a TTL that ends, a proxy that is silent. */
const LATER_MS = 9_000;

const PROBES = { interval_ms: 50, timeout_ms: 500, fall: 1, rise: 1 };
const CONFIG = { proxy: { health: PROBES, all_down: 'reject', ejection: { failures: 0 } }, auto_sync_interval_sec: 1 };

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
/** In each language. @type {import('playwright-core').Page[]} */
let pages = [];
let backend;

before(async () => {
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
});

afterEach(async () => {
  backend = undefined;
  const complaints = pages.flatMap((page) => page.complaints);
  for (const page of pages.splice(0)) await page.context().close();
  await stand?.close();
  assert.deepEqual(complaints, []);
});

/** A stand with one backend, and the overview in both languages, all well. */
async function allIsWell(config = {}) {
  stand = await Stand.start({ config: { ...CONFIG, ...config } });
  backend = await stand.register({ weight: 10 });
  pages = [
    await openConsole(browser, stand, { view: 'overview', locale: 'en-GB', colorScheme: 'dark' }),
    await openConsole(browser, stand, { view: 'overview', locale: 'zh-CN' }),
  ];
  await pages[1].evaluate(() => /** @type {any} */ (document.querySelector('input[name="theme"][value="light"]')).click());
  for (const [page, text] of [[pages[0], /^Traffic flows/], [pages[1], /^流量正常/]]) {
    await hasText(page.locator('#proxy'), text);
    assert.equal(await page.locator('#proxy').getAttribute('data-level'), 'good');
    assert.match(await page.title(), /^(Overview|概览) · Wicketgate$/);
  }
}

/**
 * What each page shows in the places that tell the verdict.
 * @param {import('playwright-core').Page} page
 */
function shown(page) {
  return page.evaluate(() => ({
    level: document.querySelector('#proxy')?.getAttribute('data-level'),
    text: document.querySelector('#proxy-text')?.textContent ?? '',
    title: document.title,
    icon: document.querySelector('link[rel="icon"]')?.getAttribute('data-level'),
    full: document.querySelector('#warning-list')?.textContent ?? '',
    cards: ['proxy', 'config', 'health'].map((name) => document.querySelector(`#answer-${name}`)?.getAttribute('data-level')),
    height: document.querySelector('#proxy')?.getBoundingClientRect().height ?? 0,
  }));
}

/**
 * @param {number} deadlineMs
 * @param {'bad' | 'warn'} level
 * @param {[RegExp, RegExp]} texts of the top bar and the title
 * @param {[RegExp, RegExp]} full of the line below it
 * @param {string} card that says it too
 */
async function areTold(deadlineMs, level, texts, full, card) {
  const end = Date.now() + deadlineMs;
  for (const [at, page] of pages.entries()) {
    for (;;) {
      const found = await shown(page);
      const isTold = found.level === level && texts[at].test(found.text) && texts[at].test(found.title) && found.icon === level && full[at].test(found.full);
      const isOnCard = found.cards[['proxy', 'config', 'health'].indexOf(card)] === level;
      if (isTold && isOnCard) {
        assert.ok(found.height <= 31, `the pill grows: ${found.height} px`);
        break;
      }
      assert.ok(Date.now() < end, `not within ${deadlineMs} ms: ${JSON.stringify(found)}`);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
}

/** @param {string} name */
async function pictures(name) {
  await picture(pages[0], `verdict-${name}-en-dark`);
  await picture(pages[1], `verdict-${name}-zh-light`);
}

/** @param {net.Socket} client whose end may be a reset */
function closed(client) {
  return new Promise((resolve) => client.on('close', resolve));
}

function edit(key, value) {
  return stand.call('POST', `/api/backends/127.0.0.1/${backend.port}/${key}`, { [key]: value });
}

async function areWell() {
  for (const page of pages) await until('all is well again', async () => (await shown(page)).level === 'good');
}

describe('an outage', () => {
  it('proxy_killed', async () => {
    await allIsWell();
    const { pid } = stand.proxy.child;
    stand.proxy.child.kill('SIGKILL');
    await areTold(
      SOON_MS,
      'bad',
      [/Proxy not running since \d\d:\d\d:\d\d/, /代理未运行（自 \d\d:\d\d:\d\d 起）/],
      [new RegExp(`Process ${pid} is gone\\. Nothing is forwarded\\. Start it: `), new RegExp(`进程 ${pid} 已不存在。流量全部中断。启动命令：`)],
      'proxy',
    );
    // Nothing beside it says that all is well.
    const { cards } = await shown(pages[0]);
    assert.deepEqual(cards, ['bad', 'warn', 'warn']);
    await pictures('proxy-killed');
  });

  it('proxy_stopped', async () => {
    await allIsWell();
    await stand.proxy.stop('SIGTERM');
    await areTold(SOON_MS, 'bad', [/Proxy not running/, /代理未运行/], [/Nothing is forwarded/, /流量全部中断/], 'proxy');
  });

  it('proxy_stuck', async () => {
    await allIsWell();
    stand.proxy.child.kill('SIGSTOP');
    await areTold(LATER_MS, 'warn', [/Proxy does not answer/, /代理无响应/], [/Whether traffic flows is unknown/, /无法判断流量是否正常/], 'proxy');
    await pictures('proxy-stuck');
    stand.proxy.child.kill('SIGCONT');
    await areWell();
  });

  for (const [name, key, bad, good, counted] of [
    ['all_disabled', 'enabled', false, true, [/1 disabled/, /1 个停用/]],
    ['all_drained', 'drain', true, false, [/1 drained/, /1 个排空/]],
    ['all_at_weight_0', 'weight', 0, 10, [/1 at weight 0/, /1 个权重为 0/]],
  ]) {
    it(name, async () => {
      await allIsWell();
      const edited = edit(key, bad);
      await areTold(SOON_MS, 'bad', [/No backend takes traffic/, /没有后端接收流量/], counted, 'health');
      await edited;
      // Whoever comes is counted, and is no traffic.
      if (name === 'all_disabled') {
        for (let count = 0; count < 20; count += 1) {
          const client = net.connect(stand.proxyPort, '127.0.0.1');
          client.on('error', () => {});
          await closed(client);
        }
        await hasText(pages[0].locator('#warning-list'), /new sessions\/s are refused/);
        await hasText(pages[1].locator('#warning-list'), /每秒拒绝/);
        await pictures('all-disabled');
      }
      await edit(key, good);
      await areWell();
    });
  }

  it('all_down', async () => {
    await allIsWell();
    const [server] = stand.backends;
    server.close();
    await areTold(LATER_MS, 'bad', [/No backend takes/, /没有后端接收/], [/1 down/, /1 个宕机/], 'health');
  });

  it('all_expired', async () => {
    // It beats until the pages are there.
    const beat = setInterval(() => backend && void stand.heartbeat(backend, { weight: 10 }), 300);
    await allIsWell({ runtime_ttl_sec: 2 });
    clearInterval(beat);
    await areTold(LATER_MS, 'bad', [/No backend takes traffic/, /没有后端接收流量/], [/1 expired/, /1 个已过期/], 'health');
    // Since when, and what would have kept it; nobody has disabled it.
    await hasText(pages[0].locator('#worst tr'), /expired ?no heartbeat for \d+ s \(limit 2 s\)/);
    await hasText(pages[1].locator('#worst tr'), /已过期 ?\d+ 秒没有心跳（上限 2 秒）/);
    await pictures('all-expired');
  });

  it('sessions_failing', async () => {
    await allIsWell();
    const resetting = net.createServer((socket) => socket.on('error', () => {}).on('data', () => socket.resetAndDestroy()));
    resetting.listen(0, '127.0.0.1');
    await once(resetting, 'listening');
    stand.backends.push(resetting);
    const { port } = resetting.address();
    await stand.call('POST', '/api/register', { ip: '127.0.0.1', port, weight: 10 });
    await edit('enabled', false);
    for (let count = 0; count < 20; count += 1) {
      const client = net.connect(stand.proxyPort, '127.0.0.1');
      client.on('error', () => {});
      client.write('asked');
      await closed(client);
    }
    await areTold(SOON_MS, 'bad', [/% of sessions fail/, /的会话失败/], [/mostly: reset by the backend/, /主要原因：后端重置连接/], 'health');
    await pictures('sessions-failing');
    for (const [at, mostly, ended] of /** @type {[number, RegExp, RegExp][]} */ ([
      [0, /mostly reset by the backend/, /Sessions ended: reset by the backend ?20/],
      [1, /主要是后端重置连接/, /结束的会话：后端重置连接 ?20/],
    ])) {
      await hasText(pages[at].locator('#figure-failed .figure-value'), /^100%$/);
      await hasText(pages[at].locator('#figure-failed .figure-note'), mostly);
      await pages[at].locator('.rail a[data-page="diagnostics"]').click();
      await hasText(pages[at].locator('#facts-ends'), ended);
    }
    await picture(pages[0], 'verdict-ends-en-dark');
  });

  it('port_refused', async () => {
    await allIsWell();
    const other = net.createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address();
    void stand.call('POST', '/api/settings', { listen: { port }, on_refusal: 'keep_trying' });
    const said = [new RegExp(`^Listen address 127\\.0\\.0\\.1:${port}/tcp refused: the port is in use`), new RegExp(`^监听地址 127\\.0\\.0\\.1:${port}/tcp 被拒绝：端口已被占用`)];
    await areTold(SOON_MS, 'bad', [/Configuration refused in part/, /部分配置被拒绝/], said, 'config');
    // It is said in full once on the page, and once on its card.
    const { full, cards } = await shown(pages[0]);
    assert.equal(full.split('refused').length, 2, full);
    assert.deepEqual(cards, ['good', 'bad', 'good']);
    await pictures('port-refused');
    other.close();
    await areWell();
  });
});
