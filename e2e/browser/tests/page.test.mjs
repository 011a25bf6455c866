/**
 * @file The page itself: languages, themes, hostile strings, and what it says when the server is away
 * or forbids reading.
 */

import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { Stand, hasText, isReady, newestReport, onOneStand, openConsole, openPage, picture, rowOf, until } from './harness.mjs';

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let backend;
let page;

onOneStand({}, async (started, onIt) => {
  browser = started;
  stand = onIt;
  backend = await stand.register({ weight: 10, gpu_usage: 0.3, vram_usage: 0.6 });
});

/** Every text that the page shows or speaks, but for what is data and the same in all languages. */
function spoken() {
  const isData = (/** @type {Element | null} */ target) =>
    target?.closest('.mono, #algorithm, #proxy-detail, [lang="en"], [lang="zh-CN"]:not(html), kbd, .brand, script, style, noscript') !== null;
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent?.trim() ?? '';
    if (text !== '' && !isData(walker.currentNode.parentElement)) texts.push(text);
  }
  for (const target of document.querySelectorAll('[aria-label], [title], [placeholder]')) {
    if (isData(target)) continue;
    for (const name of ['aria-label', 'placeholder']) {
      const text = target.getAttribute(name);
      if (text) texts.push(text);
    }
  }
  return texts;
}

describe('language', () => {
  it('follows_the_browser_is_switched_and_remembered', async () => {
    page = await openConsole(browser, stand, { locale: 'zh-TW' });
    await hasText(page.locator('#backends-title'), /^后端$/);
    assert.equal(await page.locator('html').getAttribute('lang'), 'zh-CN');
    await page.getByText('EN', { exact: true }).click();
    await hasText(page.locator('#backends-title'), /^Backends$/);
    await page.reload();
    await hasText(page.locator('#backends-title'), /^Backends$/);
    assert.equal(await page.locator('html').getAttribute('lang'), 'en');
  });

  it('changes_every_string_also_those_already_on_the_page', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, backend).waitFor();
    await page.locator('#refresh').click();
    await newestReport(page).waitFor();
    const english = await page.evaluate(spoken);
    assert.deepEqual(english.filter((text) => /\p{Script=Han}/u.test(text)), []);

    await page.getByText('中文', { exact: true }).click();
    await hasText(newestReport(page), /刷新/);
    // Names that Chinese pages write in Latin letters too.
    const latin = /Wicketgate|(Open)?API|gpu_agent|control_config\.json|uPlot|scripts\/\S+|Ping|GPU|TCP|UDP|VRAM|Shift|JSON|control\/data\/\S+|[\d.]+ ?(ms|µs|[KMG]i?B\/s|B\/s)|p99|UTC|127\.0\.0\.1:\d+|[a-z]\)|\( \/ \)/g;
    await until('no English is left', async () => {
      const chinese = await page.evaluate(spoken);
      const left = chinese.map((text) => text.replace(latin, '')).filter((text) => /[A-Za-z]{2,}/.test(text));
      page.left = left;
      return left.length === 0;
    }).catch((error) => {
      throw new Error(`${error.message}: ${JSON.stringify(page.left)}`);
    });
  });
});

describe('theme', () => {
  it('is_dark_first_light_by_choice_and_auto_by_the_system', async () => {
    page = await openConsole(browser, stand, { colorScheme: 'light' });
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await ground();
    await page.getByText('Light', { exact: true }).click();
    const light = await ground();
    assert.notEqual(light, dark);
    await page.reload();
    assert.equal(await ground(), light);
    await page.getByText('Auto', { exact: true }).click();
    assert.equal(await ground(), light);
    await page.emulateMedia({ colorScheme: 'dark' });
    assert.equal(await ground(), dark);
  });

  it('has_enough_contrast_in_both', async () => {
    page = await openConsole(browser, stand);
    for (const theme of ['Dark', 'Light']) {
      await page.getByText(theme, { exact: true }).click();
      const ratios = await page.evaluate(contrasts);
      for (const [pair, ratio] of Object.entries(ratios)) {
        const wanted = pair.startsWith('--text ') ? 7 : 4.5;
        assert.ok(ratio >= wanted, `${theme}: ${pair} has ${ratio.toFixed(2)}, wanted ${wanted}`);
      }
    }
  });
});

/** The contrast (WCAG 2, relative luminance) of every text colour on every ground it stands on. */
function contrasts() {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const probe = document.body.appendChild(document.createElement('i'));
  const luminance = (/** @type {string} */ name) => {
    probe.style.color = `var(${name})`;
    canvas.fillStyle = getComputedStyle(probe).color;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].map((byte) => {
      const part = byte / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const pairs = { '--on-accent --accent': 0 };
  for (const text of ['--text', '--soft', '--accent', '--up', '--down', '--warn', '--drain']) {
    for (const ground of ['--ground', '--surface', '--raised']) pairs[`${text} ${ground}`] = 0;
  }
  for (const pair of ['--accent --accent-wash', '--text --down-wash', '--text --warn-wash', '--down --down-wash']) {
    pairs[pair] = 0;
  }
  for (const pair of Object.keys(pairs)) {
    const [light, dark] = pair.split(' ').map(luminance).sort((a, b) => b - a);
    pairs[pair] = (light + 0.05) / (dark + 0.05);
  }
  probe.remove();
  return pairs;
}

describe('safety', () => {
  /** Thirty payloads: in markup, in attributes, in addresses, in templates, in what ends a line. */
  const HOSTILE = [
    '<script>window.hit = 1</script>',
    '<img src=x onerror="window.hit = 2">',
    '"><svg onload=alert(3)>',
    "'-alert(4)-'",
    '<a href="javascript:alert(5)">x</a>',
    '</td></tr></table><iframe srcdoc="<script>parent.hit = 6</script>"></iframe>',
    '<svg><script>window.hit = 7</script></svg>',
    '<body onload=alert(8)>',
    '<input autofocus onfocus=alert(9)>',
    '<details open ontoggle=alert(10)>',
    '<video><source onerror=alert(11)></video>',
    '<math><mtext><script>window.hit = 12</script>',
    '" onmouseover="alert(13)" x="',
    "' onfocus='alert(14)' autofocus x='",
    'javascript:alert(15)',
    'data:text/html,<script>alert(16)</script>',
    '<style>@import "javascript:alert(17)";</style>',
    '<link rel=stylesheet href=data:,*{color:red}>',
    '<base href="https://elsewhere.example/">',
    '<meta http-equiv=refresh content="0;url=javascript:alert(20)">',
    '<object data="javascript:alert(21)">',
    '<embed src="javascript:alert(22)">',
    '<form action="javascript:alert(23)"><button>x</button></form>',
    '{{constructor.constructor("alert(24)")()}}',
    '${alert(25)}',
    '<!--><script>window.hit = 26</script>-->',
    '<![CDATA[<script>window.hit = 27</script>]]>',
    '&lt;script&gt;window.hit = 28&lt;/script&gt;',
    '\u202e<script>window.hit = 29</script>',
    '__proto__',
  ];

  it('the_policy_allows_only_our_own_files', async () => {
    const response = await fetch(`${stand.origin}/`);
    const policy = response.headers.get('content-security-policy') ?? '';
    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe-/);
  });

  it('script_in_the_log_and_in_an_answer_stays_text', async () => {
    for (const hostile of HOSTILE) {
      await appendFile(stand.path('logs/audit.log'), `${hostile}\n`);
      const line = { time: hostile, seq: 1, actor: hostile, action: hostile, target: hostile, result: hostile, old: hostile, new: { [hostile]: hostile } };
      await appendFile(stand.path('logs/audit.log'), `${JSON.stringify(line)}\n`);
    }
    page = await openConsole(browser, stand, { view: 'changes' });
    await hasText(page.locator('#audit'), /window\.hit = 1/);
    await assertInert(page);
  });

  // The server checks what it takes in, so hostile answers are put in its place here.
  it('script_in_every_field_of_a_backend_stays_text', async () => {
    page = await openConsole(browser, stand, { expected: /net::ERR_|status of 404/ });
    for (const hostile of HOSTILE) {
      const whole = hostileWhole(hostile);
      const event = `id: x-1\nevent: snapshot\ndata: ${JSON.stringify(whole)}\n\n`;
      const routes = {
        'events*': { contentType: 'text/event-stream', body: event },
        status: { json: whole.status },
        'backends*': { json: { total: 1, next: null, backends: whole.backends } },
        'backends/**': { json: hostileDetail(hostile) },
        '../sync': { json: { ok: true, reason: hostile, reload: { ok: false, info: hostile }, merged_count: 1 } },
      };
      for (const [path, answer] of Object.entries(routes)) {
        const pattern = path.startsWith('../') ? `**/api/${path.slice(3)}` : `**/api/v1/${path}`;
        await page.route(pattern, (route) => route.fulfill(answer));
      }
      const lines = [
        { kind: 'start', ip: hostile, via: 'tcp' },
        { kind: 'probe', sequence: 0, port: hostile, time_ms: null, error: hostile },
      ];
      const answer = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
      await page.route('**/api/v1/pings', (route) => route.fulfill({ body: answer }));
      await page.goto(`${stand.origin}/?page=backends&open=${encodeURIComponent(hostile)}`);
      await isReady(page);
      await page.locator('#sync').click();
      const places = ['#warnings', '#proxy', '#rows', '#reports', '#side-title', '.side-reason', '.side-facts >> nth=2', '.side-facts >> nth=3', '.side-list >> nth=0', '.side-list >> nth=1'];
      for (const place of places) {
        await until(`${hostile} in ${place}`, async () => (await page.locator(place).textContent())?.includes(hostile));
      }
      await page.locator('#rows .state').hover();
      await until('the reason on hover', async () => (await page.locator('#tip').textContent())?.includes(hostile));
      await page.locator('#open-ping').click();
      await page.locator('#ping-start').click();
      await until('the output', async () => (await page.locator('#ping-result').textContent())?.split(hostile).length === 4);
      await page.keyboard.press('Escape');
      await assertInert(page);
      await page.unrouteAll();
    }
  });

  function hostileWhole(hostile) {
    const status = { etag: 'x-1', running: false, proxy: null, why: hostile, last_publish: null, published_generation: 1, warnings: [hostile], audit_seq: 1, verdict: hostileVerdict(hostile) };
    const backend = { id: hostile, ip: hostile, port: hostile, weight: hostile, gpu_usage: null, vram_usage: null, enabled: true, is_warming_up: false, last_seen: hostile, source: hostile, sources: [hostile], override: { weight: hostile, actor: hostile } };
    const proxy = { configured: true, admin: 'ready', operational: 'down', reason: hostile, reasons: [{ code: 'probe_failed', args: { failure: hostile, count: hostile, of: hostile } }, { code: 'failed_in_row', args: { protocol: hostile, count: hostile } }], probe_result: hostile, probe_failure: { failure: 'http_status', status: hostile }, probed_at_ms: 1, weight: hostile, weight_effective: hostile, sessions_active: hostile, sessions_total: hostile, flows_active: hostile, flows_total: hostile, connect_failures: hostile, connect_timeouts: hostile, sessions_failed: { [hostile]: 1 } };
    return { etag: 'x-1', status, backends: [{ ...backend, proxy }] };
  }

  /** Of a code that the page does not know, which is told in the server's words. */
  function hostileVerdict(hostile) {
    const finding = { level: 'down', code: hostile, args: { why: hostile }, since: 1, text: hostile };
    const others = ['proxy_unseen', 'refused', 'sessions_failing'].map((code) => ({ ...finding, code, args: { why: hostile, refusal: hostile, place: hostile, value: hostile, detail: hostile, reason: hostile } }));
    return { ...finding, others, pools: { default: finding }, traffic: { failed_reasons: { [hostile]: 1 }, flows_ended: {}, dropped_reasons: {} }, at_ms: 1 };
  }

  function hostileDetail(hostile) {
    const transition = { at_ms: 1, admin: 'ready', operational: 'down', reason: hostile, reasons: [{ code: hostile }] };
    const edit = { time: hostile, seq: 1, actor: hostile, action: hostile, target: hostile, result: hostile, old: hostile, new: { [hostile]: hostile } };
    const layer = { weight: hostile, actor: hostile };
    return { layers: { override: layer, registration: layer, discovery: layer }, history: [transition], edits: [edit], settings_edits: [edit] };
  }

  async function assertInert(checked) {
    const found = await checked.evaluate(() => ({
      hit: /** @type {any} */ (window).hit ?? null,
      foreign: document.querySelectorAll('#rows *:is(img, script, a), #side *:is(img, script, a), #tip *, iframe, #audit *:is(img, svg, script, a:not([href^="?page=backends&open="])), #reports *:is(img, svg, script, a), .output *:is(img, svg, script, a), body > script').length,
    }));
    assert.deepEqual(found, { hit: null, foreign: 0 });
  }
});

describe('a file of the page', () => {
  for (const [target, file, is] of [
    ['/', 'main.js', 'its script'],
    ['/?page=backends', 'first.js', 'what its script needs'],
    ['/', 'console.css', 'a style'],
    ['/login', 'login.js', 'the script of another page'],
  ]) {
    it(`that_does_not_come_is_told: ${is}`, async () => {
      page = await openPage(browser, stand, target, {
        expected: /net::ERR_FAILED/,
        before: (empty) => empty.route(`**/static/${file}`, (route) => route.abort()),
      });
      const missing = page.locator('#missing');
      await hasText(missing, /could not be loaded.*未能加载/);
      if (is === 'its script') await picture(page, 'missing');
      await page.unroute(`**/static/${file}`);
      await missing.getByRole('button').click();
      await missing.waitFor({ state: 'detached' });
      if (target !== '/login') await isReady(page);
    });
  }
});

describe('the server', () => {
  it('that_goes_away_is_told_and_the_page_goes_on_when_it_is_back', async () => {
    const other = await Stand.start({ proxy: null });
    try {
      const registered = await other.register({ weight: 10 });
      // The browser itself writes a line for each request that finds no server.
      page = await openConsole(browser, other, { expected: /net::ERR_/ });
      await rowOf(page, registered).waitFor();
      await other.control.stop();
      await hasText(page.locator('#banner'), /does not answer.*The proxy does not need it/);
      await rowOf(page, registered).waitFor();
      await picture(page, 'away');
      const input = rowOf(page, registered).locator('.weight-input');
      await input.fill('11');
      await input.press('Enter');
      await hasText(newestReport(page), /result unknown/);
      assert.equal(await input.inputValue(), '11');
      await other.startControl();
      await page.locator('#banner').waitFor({ state: 'hidden' });
      await hasText(newestReport(page), /not in force: the control server did not answer/);
      await input.press('Enter');
      await other.publishedWeight(registered, 11);
    } finally {
      await other.close();
    }
  });
});

describe('a narrow screen', () => {
  for (const [width, locale] of [
    [320, 'en-GB'],
    [320, 'zh-CN'],
    [375, 'en-GB'],
    [768, 'zh-CN'],
  ]) {
    it(`cuts_nothing_off at ${width} px in ${locale}`, async () => {
      page = await openConsole(browser, stand, { width, locale, height: 800 });
      await rowOf(page, backend).waitFor();
      const widths = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(widths[0] <= widths[1], `the page is ${widths[0]} px wide on ${widths[1]}`);
      await rowOf(page, backend).locator('.weight-input').fill('10');
      await rowOf(page, backend).getByRole('switch').waitFor();
      await picture(page, `narrow-${width}-${locale}`);
    });
  }
});

describe('for screen readers', () => {
  it('everything_that_can_be_pressed_or_typed_into_has_a_name', async () => {
    page = await openConsole(browser, stand);
    await rowOf(page, backend).waitFor();
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('button, input, select, [role=tab], [role=switch]')]
        .filter((target) => target.checkVisibility())
        .filter((target) => {
          const labelled = target.getAttribute('aria-label') ?? target.closest('label')?.textContent ?? target.textContent;
          return (labelled ?? '').trim() === '';
        })
        .map((target) => target.outerHTML),
    );
    assert.deepEqual(nameless, []);
  });

  it('an_answer_is_announced', async () => {
    page = await openConsole(browser, stand);
    await page.locator('#sync').click();
    await hasText(page.locator('#announce'), /Sync: applied/);
  });
});
