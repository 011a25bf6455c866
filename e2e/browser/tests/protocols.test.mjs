/**
 * @file TCP and UDP are two marks in the state of a backend, where the service takes both: by shape, by
 * colour and in words, without a row that grows or a word that moves.
 */

import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { Stand, hasText, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
/** @type {{ip: string, port: number, key: string}} */
let both;
/** Answers UDP at a port that refuses TCP. */
let udpAlone;
let page;

const HEALTH = { interval_ms: 50, timeout_ms: 500, fall: 1, rise: 1 };

onOneStand({ config: { proxy: { health: HEALTH, ejection: { failures: 0 } } } }, async (started, onIt) => {
  browser = started;
  stand = onIt;
  both = await stand.register({ weight: 10 });
  await echoAt(both.port);
  const port = await echoAt(0);
  udpAlone = { ip: '127.0.0.1', port, key: `127.0.0.1:${port}` };
  const answer = await stand.call('POST', '/api/register', { ip: '127.0.0.1', port, weight: 10 });
  assert.equal(answer.ok, true, JSON.stringify(answer));
});

/** Answers datagrams. @param {number} wanted */
async function echoAt(wanted) {
  const echo = dgram.createSocket('udp4').unref();
  echo.on('message', (datagram, { port, address }) => echo.send(datagram, port, address));
  echo.bind(wanted, '127.0.0.1');
  await once(echo, 'listening');
  return echo.address().port;
}

/** Sends flows through the proxy until the backend has answered one. @param {{key: string}} backend */
async function serveFlow({ key }) {
  await until(`${key} answers a flow`, async () => {
    const client = dgram.createSocket('udp4');
    const answered = once(client, 'message').then(() => true);
    client.send('anybody?', stand.proxyPort, '127.0.0.1');
    await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, 100))]);
    client.close();
    const { backend } = await stand.call('GET', `/api/v1/backends/${encodeURIComponent(key)}`);
    return backend.proxy?.udp === 'up';
  });
}

/** What the state of a backend shows. @param {{key: string}} backend */
function shown(backend) {
  return rowOf(page, backend).evaluate((row) => {
    const place = row.querySelector('.cell-state .shape-place');
    const marks = [...(place?.querySelectorAll('svg') ?? [])];
    return {
      shapes: place?.getAttribute('data-shape'),
      name: place?.getAttribute('aria-label'),
      colours: marks.map((mark) => getComputedStyle(mark).color),
      marks: marks.map((mark) => mark.getBoundingClientRect()).map(({ x, y, width, height }) => ({ x, y, right: x + width, bottom: y + height })),
      cell: row.querySelector('.cell-state')?.getBoundingClientRect().toJSON(),
      word: row.querySelector('.state-word')?.textContent,
      wordAt: row.querySelector('.state-word')?.getBoundingClientRect().toJSON(),
      height: row.getBoundingClientRect().height,
    };
  });
}

describe('the state of a backend', () => {
  for (const { locale, colorScheme, width, name, word } of [
    { locale: 'en-GB', colorScheme: 'dark', width: 1280, name: 'TCP down · UDP up', word: 'TCP down\nUDP up' },
    { locale: 'zh-CN', colorScheme: 'light', width: 1440, name: 'TCP 宕机 · UDP 健康', word: 'TCP 宕机\nUDP 健康' },
    { locale: 'en-GB', colorScheme: 'light', width: 390, name: 'TCP down · UDP up', word: 'TCP down\nUDP up' },
  ]) {
    it(`has_a_mark_for_each_protocol in ${locale} at ${width} px`, async () => {
      await serveFlow(udpAlone);
      await serveFlow(both);
      page = await openConsole(browser, stand, { locale, colorScheme, width });
      await until('the marks are shown', async () => (await shown(udpAlone)).shapes === 'down up' && (await shown(both)).shapes === 'up up');
      const [out, well] = [await shown(udpAlone), await shown(both)];
      assert.deepEqual([out.name, out.word], [name, word]);
      assert.notEqual(out.colours[0], out.colours[1]);
      assert.match(well.word ?? '', /^(up|健康)$/, 'one word is enough where both are the same');
      const [tcp, udp] = out.marks;
      assert.ok(tcp !== undefined && udp !== undefined && tcp.bottom <= udp.y && tcp.x === udp.x, JSON.stringify(out));
      for (const mark of out.marks) assert.ok(mark.y >= out.cell.top && mark.bottom <= out.cell.bottom, JSON.stringify(out));
      assert.equal(out.height, well.height);
      await rowOf(page, udpAlone).locator('.state').hover();
      await hasText(page.locator('#tip'), new RegExp(`${name}$`));
      await picture(page, `protocols-${locale}-${width}`);
      await rowOf(page, udpAlone).locator('.state').click();
      await hasText(page.locator('.side-section').filter({ hasText: /Probes and ejections|探测与摘除/ }), /TCP(down|宕机)UDP(up|健康)/);
      await picture(page, `protocols-panel-${locale}-${width}`);
    });
  }

  it('is_one_mark_where_the_service_takes_one_protocol', async () => {
    page = await openConsole(browser, stand);
    await until('there are two', async () => (await shown(both)).shapes?.includes(' '));
    const before = await shown(both);
    const set = await stand.call('POST', '/api/settings', { listen: { udp: false } });
    assert.equal(set.ok, true, JSON.stringify(set));
    await until('there is one', async () => (await shown(both)).shapes === 'up');
    const after = await shown(both);
    assert.deepEqual([after.height, after.wordAt, after.name], [before.height, before.wordAt, null]);
    await hasText(rowOf(page, udpAlone).locator('.state-word'), /^down$/);
    await picture(page, 'protocols-one');
  });
});
