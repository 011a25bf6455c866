/**
 * @file What each page beside the table shows and does, in both languages: overview, changes and audit,
 * diagnostics, batch demonstration, settings, interface; and the palette that finds all of it.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Stand, hasAttribute, hasText, newestReport, onOneStand, openConsole, picture, rowOf, until } from './harness.mjs';

const LOCALES = ['en-GB', 'zh-CN'];

/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Stand} */
let stand;
let full;
let calm;
let page;

const config = {
  proxy: { health: { interval_ms: 200, fall: 1, rise: 1 } },
  // So that control does not put right by itself what one of the tests breaks.
  auto_sync_interval_sec: 3600,
};

onOneStand({ config }, async (started, onIt) => {
  browser = started;
  stand = onIt;
  full = await stand.register({ weight: 10, vram_usage: 0.95 });
  calm = await stand.register({ weight: 10, vram_usage: 0.2 });
});

/** The settings that were made by API. */
async function byApi() {
  return (await stand.call('GET', '/api/settings')).settings.by_api;
}

describe('the overview', () => {
  for (const [locale, well, ill, cause] of [
    ['en-GB', /3 of 3 backends take traffic/, /1 of 3 backends out.*1 down/, /refused/],
    ['zh-CN', /3 \/ 3 个后端接收流量/, /1 \/ 3 个后端不可用.*1 个宕机/, /连接被拒/],
  ]) {
    it(`tells_health_apart_from_what_is_applied in ${locale}`, async () => {
      const dying = await stand.register({ weight: 10 });
      const server = stand.backends.at(-1);
      page = await openConsole(browser, stand, { view: 'overview', locale });
      await hasText(page.locator('#answer-health'), well);
      server.close();
      server.closeAllConnections?.();
      await hasText(page.locator('#answer-health'), ill);
      await hasAttribute(page.locator('#answer-health'), 'data-level', 'warn');
      // All that was asked for is applied, and says so, and that is no word on health.
      await hasAttribute(page.locator('#answer-config'), 'data-level', 'good');
      await hasAttribute(page.locator('#answer-proxy'), 'data-level', 'good');
      const first = page.locator('#worst tr').first();
      await hasText(first, new RegExp(`${dying.port}.*${cause.source}`));
      await first.getByRole('link').click();
      await rowOf(page, dying).waitFor();
      await hasText(page.locator('#side-title'), new RegExp(`^${dying.key}$`));
      await stand.call('DELETE', '/api/register', { ip: dying.ip, port: dying.port });
    });
  }

  for (const [locale, why] of [
    ['en-GB', /VRAM usage above 92%/],
    ['zh-CN', /显存占用 超过 92%/],
  ]) {
    it(`puts_the_fullest_first_and_says_why in ${locale}`, async () => {
      page = await openConsole(browser, stand, { view: 'overview', locale });
      const first = page.locator('#worst tr').first();
      await hasText(first, new RegExp(full.key));
      await hasText(first.locator('.worst-why'), why);
      await hasText(page.locator('#answer-config'), locale === 'en-GB' ? /last change \d+/ : /最近变更：/);
    });
  }

  for (const [locale, stands] of [
    ['en-GB', /k8s_endpoints\.json: .*; keeping the last valid backends of discovery/],
    ['zh-CN', /k8s_endpoints\.json: .*；沿用服务发现上次给出的内容/],
  ]) {
    it(`warns_of_a_source_that_cannot_be_read in ${locale}`, async () => {
      page = await openConsole(browser, stand, { view: 'overview', locale });
      await stand.writeJson('data/k8s_endpoints.json', 7);
      await hasText(page.locator('#warning-list'), stands);
      await stand.discover();
      await page.locator('#warnings').waitFor({ state: 'hidden' });
    });
  }

  it('refused_configuration_is_told_with_what_traffic_follows', async () => {
    page = await openConsole(browser, stand, { view: 'overview' });
    const file = await stand.readJson('config/proxy_config.json');
    await stand.writeJson('config/proxy_config.json', { ...file, generation: file.generation + 1, algorithm: 'fastest' });
    stand.proxy.child.kill('SIGHUP');
    await hasText(page.locator('#answer-config'), /refused.*algorithm.*Traffic follows generation \d+/);
    await hasAttribute(page.locator('#proxy'), 'data-level', 'bad');
    await stand.call('POST', '/api/sync');
    await hasAttribute(page.locator('#answer-config'), 'data-level', 'good');
  });
});

describe('changes and audit', () => {
  it('is_filtered_by_actor_action_time_and_target', async () => {
    page = await openConsole(browser, stand, { view: 'changes' });
    await stand.call('POST', `/api/backends/127.0.0.1/${calm.port}/weight`, { weight: 21 });
    await hasText(page.locator('#audit'), /override\.weight \S+ → 21/);
    const actions = () => page.locator('#audit .audit-action').allTextContents();
    assert.ok(!(await actions()).includes('access'), 'reading is left out at first');
    await page.locator('#audit-reads').check();
    assert.ok((await actions()).includes('access'));
    await page.locator('#audit-action').selectOption('weight');
    assert.deepEqual([...new Set(await actions())], ['weight']);
    await page.locator('#audit-filter').fill(String(full.port));
    await page.locator('#audit-nothing').waitFor();
    await page.locator('#audit-filter').fill(String(calm.port));
    await until('the line is back', async () => (await actions()).length > 0);
    await page.locator('#audit-actor').selectOption('127.0.0.1');
    assert.ok((await actions()).length > 0);
    await page.locator('#audit-to').fill('2001-01-01T00:00');
    await page.locator('#audit-nothing').waitFor();
    await page.locator('#audit-clear').click();
    await until('all is back', async () => new Set(await actions()).size > 1);
    await stand.call('DELETE', `/api/backends/127.0.0.1/${calm.port}/override`);
  });

  for (const [locale, backends, system, register, weight] of [
    ['en-GB', 'Backends', 'System', 'register', 'weight'],
    ['zh-CN', '后端', '系统', '注册', '权重'],
  ]) {
    it(`opens_on_what_people_did_and_keeps_its_filter_in_the_address in ${locale}`, async () => {
      const late = await stand.register({ weight: 3, gpu_usage: 0.5, vram_usage: 0.5 });
      await stand.call('POST', `/api/backends/127.0.0.1/${late.port}/weight`, { weight: 4 });
      page = await openConsole(browser, stand, { view: 'changes', locale });
      const chip = (name) => page.locator('#audit-kinds .chip').filter({ hasText: name });
      const actions = () => page.locator('#audit .audit-action').allTextContents();
      await hasText(page.locator('#audit'), new RegExp(`${late.port}.*→ 4`));
      assert.ok((await actions()).includes(weight));
      assert.ok(!(await actions()).includes(register), 'backends come after people');
      assert.equal(await page.locator('#audit', { hasText: 'control: ' }).count(), 0, 'so does control itself');
      await chip(backends).click();
      await until('what backends did', async () => (await actions()).includes(register));
      await hasAttribute(chip(system), 'aria-pressed', 'false');
      // A registration says what it brought and not what it is not.
      assert.doesNotMatch((await page.locator('#audit').textContent()) ?? '', /– → false/);
      await page.locator('#audit-filter').fill(late.key);
      await page.locator('#audit-action').selectOption({ label: weight });
      const query = { page: 'changes', text: late.key, action: 'weight', kinds: 'people,backends' };
      await until('the address', () => JSON.stringify(Object.fromEntries([...new URL(page.url()).searchParams].sort())) === JSON.stringify(Object.fromEntries(Object.entries(query).sort())));
      await page.reload();
      await until('the same lines', async () => String(await actions()) === weight);
      await hasAttribute(chip(backends), 'aria-pressed', 'true');
      assert.equal(await page.locator('#audit-filter').inputValue(), late.key);
      // What can be pressed looks so, and nothing else does.
      const [action, target, text] = await page.evaluate(() =>
        ['#audit .audit-action', '#audit .audit-target a', 'h1'].map((place) => getComputedStyle(document.querySelector(place)).color),
      );
      assert.ok(action === text && target !== text, `${action} ${target} ${text}`);
      await picture(page, `audit-people-${locale}`);
      await page.locator('#audit .audit-target a').click();
      await hasText(page.locator('#side-title'), new RegExp(`^${late.key}$`));
      await page.goBack();
      await until('the filter again', async () => (await page.locator('#audit-filter').inputValue()) === late.key);
      await stand.call('DELETE', '/api/register', { ip: late.ip, port: late.port });
      await stand.call('DELETE', `/api/backends/127.0.0.1/${late.port}/override`);
    });
  }

  it('holds_still_under_the_pointer_and_says_what_waits', async () => {
    page = await openConsole(browser, stand, { view: 'changes' });
    await page.locator('#audit .audit-line').first().hover();
    const before = await page.locator('#audit').textContent();
    await stand.call('POST', '/api/sync');
    await hasText(page.locator('#audit-waiting'), /\d new lines?, shown when you leave/);
    assert.equal(await page.locator('#audit').textContent(), before);
    await page.locator('h1:visible').hover();
    await page.locator('#audit-waiting').waitFor({ state: 'hidden' });
    assert.notEqual(await page.locator('#audit').textContent(), before);
  });

  it('follows_only_while_it_is_shown', async () => {
    page = await openConsole(browser, stand, { view: 'changes' });
    await page.locator('#audit .audit-line').first().waitFor();
    let asked = 0;
    page.on('request', (request) => {
      if (request.url().includes('/api/v1/audit')) asked += 1;
    });
    await page.locator('.rail a[data-page="batch"]').click();
    await page.locator('#page-batch').waitFor();
    await stand.call('POST', '/api/sync');
    await stand.call('POST', '/api/sync');
    await until('the page has seen it', async () => page.evaluate(() => document.querySelector('#last-sync')?.textContent !== ''));
    assert.equal(asked, 0);
  });

  it('reads_back_as_far_as_the_log_goes', async () => {
    const other = await Stand.start({ proxy: null });
    try {
      const backend = await other.register({ weight: 1 });
      for (let weight = 1; weight <= 130; weight += 1) {
        await other.call('POST', `/api/backends/127.0.0.1/${backend.port}/weight`, { weight: 500 + weight });
      }
      page = await openConsole(browser, other, { view: 'changes&kinds=all' });
      await page.locator('#audit-action').waitFor();
      await hasText(page.locator('#audit'), /→ 630/);
      const older = page.locator('#audit-older');
      await older.click();
      await hasText(page.locator('#audit'), /→ 501/);
      await until('nothing is left', async () => {
        // A reading that is under way may end with nothing older to show, and the button is gone.
        if (await older.isVisible()) await older.click({ timeout: 1_000 }).catch(() => {});
        return !(await older.isVisible());
      });
      await hasText(page.locator('#audit'), /start/);
    } finally {
      await other.close();
    }
  });
});

describe('diagnostics', () => {
  for (const [locale, names] of [
    ['en-GB', [/Process\d+/, /Workers1: \d+ open of/, /Probetcp/, /Accessprotected/]],
    ['zh-CN', [/进程\d+/, /工作线程1：会话 \d+ 活跃/, /探测tcp/, /访问保护模式/]],
  ]) {
    it(`names_the_facts_of_both_planes in ${locale}`, async () => {
      page = await openConsole(browser, stand, { view: 'diagnostics', locale });
      const facts = page.locator('#page-diagnostics');
      for (const name of names) await hasText(facts, name);
      await hasText(page.locator('#facts-proxy'), new RegExp(String(stand.proxy.child.pid)));
      await hasText(page.locator('#facts-proxy'), new RegExp(`127\\.0\\.0\\.1:${stand.proxyPort} TCP \\+ UDP`));
      await hasText(page.locator('#facts-control'), new RegExp(stand.origin));
      await page.locator('#diagnose-ping').click();
      await page.locator('#ping-probes').selectOption('10');
      await page.locator('#ping-start').click();
      await hasText(page.locator('#ping-result'), /10 of 10 answered|10 次中 10 次应答/);
    });
  }

  it('leads_to_the_interface_which_is_readable', async () => {
    page = await openConsole(browser, stand, { view: 'diagnostics' });
    await page.getByRole('link', { name: 'API reference' }).click();
    const { paths, components } = await stand.call('GET', '/api/openapi.json');
    const calls = Object.values(paths).flatMap((methods) => Object.keys(methods)).length;
    await until('every call is listed', async () => (await page.locator('#api-calls .api-call').count()) === calls);
    assert.equal(await page.locator('#api-schemas .api-call').count(), Object.keys(components.schemas).length);
    const change = page.locator('#api-calls .api-call', { hasText: '/api/v1/changes' });
    await change.locator('summary').click();
    await hasText(change, /POST.*If-Match header.*changes array.*required.*412/);
  });
});

describe('the batch demonstration', () => {
  for (const [locale, empty, note] of [
    ['en-GB', /No backend has reported its batching yet/, /average of 1 backend/],
    ['zh-CN', /还没有后端上报/, /1 个后端平均/],
  ]) {
    it(`says_how_to_begin_and_then_shows_both_lines in ${locale}`, async () => {
      const other = await Stand.start({ proxy: null });
      try {
        page = await openConsole(browser, other, { view: 'batch', locale });
        await hasText(page.locator('#batch-empty'), empty);
        await hasText(page.locator('#batch-commands'), /nobatch.*--mode batch/);
        const commands = ((await page.locator('#batch-commands').textContent()) ?? '').split('\n');
        // Just as the page says it, but for the folder of the programs.
        const runs = commands.map((command) => other.simulate('sim_backend_register_batch', [...command.split(/\s+/).slice(3), '--interval', '0.2']));
        assert.ok(commands.every((command) => command.includes(`--base ${other.origin} `)));
        await hasText(page.locator('[data-chart="batch"] .u-legend'), /\d+%.*\d+%/);
        await hasText(page.locator('#batch-batched-note'), note);
        const share = async (id) => Number.parseInt((await page.locator(id).textContent()) ?? '', 10);
        await until('unbatched holds far more', async () => (await share('#batch-unbatched')) > 2 * (await share('#batch-batched')));
        assert.ok((await share('#batch-saved')) > 20);
        for (const run of runs) await run.stop();
      } finally {
        await other.close();
      }
    });
  }
});

describe('settings', () => {
  for (const [locale, refused, here] of [
    ['en-GB', /Found 0; allowed: .*meaning|Found 0; allowed: /, /set here/],
    ['zh-CN', /收到 0；允许：/, /在此设定/],
  ]) {
    it(`are_edited_refused_at_the_field_and_given_back in ${locale}`, async () => {
      page = await openConsole(browser, stand, { view: 'settings', locale, expected: /status of 400/ });
      const attempts = page.locator('[data-pointer="/proxy/connect_attempts"]');
      const rise = page.locator('[data-pointer="/proxy/health/rise"]');
      await attempts.fill('0');
      await rise.fill('x');
      await page.locator('#fields-save').click();
      await hasText(page.locator('.setting', { has: attempts }), refused);
      await hasText(page.locator('.setting', { has: rise }), /"x"/);
      await hasAttribute(attempts, 'aria-invalid', 'true');
      assert.deepEqual([await attempts.inputValue(), await rise.inputValue()], ['0', 'x'], 'what was typed stays');
      assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('data-pointer')), '/proxy/connect_attempts');
      assert.deepEqual(await byApi(), {});

      await attempts.fill('3');
      await rise.fill('2');
      await page.locator('#fields-save').click();
      await hasText(page.locator('.setting', { has: attempts }), here);
      await until('it is published', async () => (await stand.readJson('config/proxy_config.json'))?.connect_attempts === 3);
      // An object goes whole: what control_config.json says of it is kept.
      assert.deepEqual((await byApi()).proxy, { connect_attempts: 3, health: { interval_ms: 200, fall: 1, rise: 2 } });
      await hasText(page.locator('#settings-effective'), /"connect_attempts": 3/);

      await attempts.fill('');
      await page.locator('#fields-save').click();
      await until('it is given back', async () => (await byApi()).proxy.connect_attempts === undefined);
      await stand.call('POST', '/api/settings', { proxy: { health: null } });
    });
  }

  for (const [locale, byDefault, inFile, here] of [
    ['en-GB', /· default$/, /· set in control_config\.json; default: \d+$/, /· set here or by API; default: 4$/],
    ['zh-CN', /· 默认值$/, /· 由 control_config\.json 设定；默认值：\d+$/, /· 在此设定（或通过 API）；默认值：4$/],
  ]) {
    it(`show_what_is_in_force_who_set_it_and_are_found_by_a_filter in ${locale}`, async () => {
      await stand.call('POST', '/api/settings', { proxy: { connect_attempts: 3 } });
      page = await openConsole(browser, stand, { view: 'settings', locale });
      const field = (name) => page.locator(`[data-pointer="/proxy/${name}"]`);
      const note = (name) => page.locator('.setting', { has: field(name) }).locator('.setting-note');
      await hasText(note('connect_timeout_ms'), byDefault);
      assert.deepEqual([await field('connect_timeout_ms').inputValue(), await field('connect_timeout_ms').getAttribute('placeholder')], ['', '2000']);
      assert.equal(await field('health/interval_ms').inputValue(), '200');
      await hasText(note('health/interval_ms'), inFile);
      assert.equal(await field('connect_attempts').inputValue(), '3');
      await hasText(note('connect_attempts'), here);
      // What holds if it is emptied.
      assert.equal(await field('connect_attempts').getAttribute('placeholder'), '4');
      await hasText(page.locator('#settings-effective'), /"connect_timeout_ms": 2000/);
      assert.doesNotMatch((await page.locator('#settings-effective').textContent()) ?? '', /by_api|algorithms/);

      await page.keyboard.press('/');
      await page.keyboard.type('vram_');
      const names = await page.locator('.setting label:visible').allTextContents();
      assert.ok(names.length > 3 && names.every((name) => name.includes('vram_') || name === 'gpu_cost'), String(names));
      await page.keyboard.press('Enter');
      assert.equal(await page.locator('#newest .report').count(), 0, 'Enter applies nothing');
      await page.locator('#fields-filter').fill('no such setting');
      await page.locator('#fields-nothing').waitFor();
      await page.locator('#fields-filter').press('Escape');
      await field('connect_attempts').waitFor();
      await picture(page, `settings-origin-${locale}`);
      await stand.call('POST', '/api/settings', { proxy: { connect_attempts: null } });
    });
  }

  it('are_taken_back_as_they_were_unless_somebody_else_has_changed_them', async () => {
    await stand.call('POST', '/api/settings', { proxy: { udp_idle_ms: 9000 } });
    page = await openConsole(browser, stand, { view: 'settings', expected: /412/ });
    const idle = page.locator('[data-pointer="/proxy/udp_idle_ms"]');
    const attempts = page.locator('[data-pointer="/proxy/connect_attempts"]');
    await until('it is shown', async () => (await idle.inputValue()) === '9000');
    const change = async () => {
      await idle.fill('8000');
      await attempts.fill('4');
      await page.locator('#fields-save').click();
      await hasText(newestReport(page), /\dSettings.*applied in/);
      assert.deepEqual((await byApi()).proxy, { udp_idle_ms: 8000, connect_attempts: 4 });
    };
    await change();
    await newestReport(page).getByRole('button', { name: 'Undo' }).click();
    await hasText(newestReport(page), /Undo: Settings.*applied in/);
    // One was set here before, the other by nobody.
    assert.deepEqual((await byApi()).proxy, { udp_idle_ms: 9000 });
    await until('it is shown again', async () => (await idle.inputValue()) === '9000');

    await change();
    await stand.call('POST', '/api/settings', { proxy: { connect_attempts: 2 } });
    await newestReport(page).getByRole('button', { name: 'Undo' }).click();
    await hasText(newestReport(page), /not undone: changed by someone else since: \/proxy\/connect_attempts/);
    assert.deepEqual((await byApi()).proxy, { udp_idle_ms: 8000, connect_attempts: 2 });

    // An algorithm that nobody had chosen is given back, not chosen.
    await page.locator('input[name="algorithm"][value="random"]').check();
    await page.locator('#settings-save').click();
    await hasText(newestReport(page), /\dAlgorithm random.*applied in/);
    assert.equal((await byApi()).algorithm, 'random');
    await newestReport(page).getByRole('button', { name: 'Undo' }).click();
    await until('it is given back', async () => (await byApi()).algorithm === undefined);
    await stand.call('POST', '/api/settings', { proxy: { udp_idle_ms: null, connect_attempts: null } });
  });

  it('that_somebody_else_changes_are_shown_unless_one_is_editing', async () => {
    page = await openConsole(browser, stand, { view: 'settings' });
    const idle = page.locator('[data-pointer="/proxy/udp_idle_ms"]');
    await idle.waitFor();
    await stand.call('POST', '/api/settings', { proxy: { udp_idle_ms: 9000 } });
    await until('it is shown', async () => (await idle.inputValue()) === '9000');
    await idle.fill('8000');
    await stand.call('POST', '/api/settings', { proxy: { udp_idle_ms: 7000 } });
    await hasText(page.locator('#fields-count'), /1 changed/);
    assert.equal(await idle.inputValue(), '8000');
    await page.locator('#fields-reset').click();
    await until('the newest is shown', async () => (await idle.inputValue()) === '7000');
    await stand.call('POST', '/api/settings', { proxy: { udp_idle_ms: null } });
  });

  it('that_are_typed_or_chosen_stay_while_something_else_happens_on_the_page', async () => {
    page = await openConsole(browser, stand, { view: 'settings' });
    const idle = page.locator('[data-pointer="/proxy/udp_idle_ms"]');
    const choice = (name) => page.locator(`input[name="algorithm"][value="${name}"]`);
    await idle.fill('8000');
    await choice('random').check();
    await page.locator('#settings-save').click();
    await hasText(newestReport(page), /\dAlgorithm random.*applied in/);
    await hasText(page.locator('#settings-effective'), /"algorithm": "random"/);
    assert.equal(await idle.inputValue(), '8000');

    await choice('source_hash').check();
    await page.getByText('中文', { exact: true }).click();
    await hasText(page.locator('.rail'), /概览/);
    assert.deepEqual([await idle.inputValue(), await choice('source_hash').isChecked()], ['8000', true]);

    await page.locator('#fields-save').click();
    await until('it is saved', async () => (await byApi()).proxy?.udp_idle_ms === 8000);
    await hasText(page.locator('#settings-effective'), /"udp_idle_ms": 8000/);
    assert.equal(await choice('source_hash').isChecked(), true);
    assert.equal((await byApi()).algorithm, 'random');
    await stand.call('POST', '/api/settings', { algorithm: null, proxy: { udp_idle_ms: null } });
  });

  it('of_one_object_leave_what_somebody_else_has_changed_in_it_meanwhile', async () => {
    page = await openConsole(browser, stand, { view: 'settings', expected: /status of 412/ });
    const rise = page.locator('[data-pointer="/proxy/health/rise"]');
    await until('it is read', async () => (await rise.inputValue()) === '1');
    await rise.fill('3');
    await stand.call('POST', '/api/settings', { proxy: { health: { interval_ms: 200, fall: 4, rise: 1 } } });
    await page.locator('#fields-save').click();
    await until('both are in force', async () => (await byApi()).proxy?.health?.rise === 3);
    assert.deepEqual((await byApi()).proxy.health, { interval_ms: 200, fall: 4, rise: 3 });
    await stand.call('POST', '/api/settings', { proxy: { health: null } });
  });

  for (const locale of LOCALES) {
    it(`say_what_each_algorithm_does in ${locale}`, async () => {
      page = await openConsole(browser, stand, { view: 'settings', locale });
      const options = page.locator('#settings-algorithms .option');
      await options.first().waitFor();
      for (const text of await options.allTextContents()) assert.match(text, /^[a-z0-9_]+\S+/);
      const notes = await options.locator('.option-note').allTextContents();
      assert.equal(notes.filter((note) => note === '').length, 0);
      assert.equal(new Set(notes).size, notes.length);
    });
  }
});

describe('the palette', () => {
  for (const [locale, query, view] of [
    ['en-GB', 'diag', 'diagnostics'],
    ['zh-CN', '诊断', 'diagnostics'],
    ['en-GB', 'bdemo', 'batch'],
  ]) {
    it(`finds_a_page_by_a_few_letters: ${query}`, async () => {
      page = await openConsole(browser, stand, { view: 'overview', locale });
      await page.keyboard.press('Control+k');
      await page.keyboard.type(query);
      await page.locator('#palette-list [aria-selected="true"]').waitFor();
      await page.keyboard.press('Enter');
      await page.locator(`#page-${view}`).waitFor();
      await page.locator('#palette').waitFor({ state: 'hidden' });
    });
  }

  it('finds_a_backend_by_its_address', async () => {
    page = await openConsole(browser, stand, { view: 'overview' });
    await hasText(page.locator('#worst'), new RegExp(calm.key));
    await page.locator('#open-palette').click();
    await page.keyboard.type(String(calm.port));
    await hasText(page.locator('#palette-list [aria-selected="true"]'), new RegExp(calm.key));
    await page.keyboard.press('Enter');
    await rowOf(page, calm).waitFor();
    await hasText(page.locator('#side-title'), new RegExp(`^${calm.key}$`));
  });

  it('acts_switches_and_is_walked_by_the_arrows', async () => {
    page = await openConsole(browser, stand, { view: 'overview' });
    const field = page.locator('#palette-field');
    const chosen = page.locator('#palette-list [aria-selected="true"]');
    await page.keyboard.press('Control+k');
    await hasAttribute(field, 'aria-activedescendant', 'palette-0');
    await page.keyboard.press('ArrowDown');
    await hasText(chosen, /Backends/);
    await hasAttribute(field, 'aria-activedescendant', 'palette-1');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('ArrowUp');
    assert.equal(await chosen.evaluate((line) => line === line.parentElement?.lastElementChild), true);
    await field.fill('no such thing at all');
    await page.locator('#palette-nothing').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#palette').waitFor({ state: 'hidden' });

    const ask = async (text) => {
      await page.keyboard.press('Control+k');
      await field.fill(text);
      await page.keyboard.press('Enter');
    };
    await ask('theme light');
    await hasAttribute(page.locator('html'), 'data-theme', 'light');
    await ask('sync');
    await hasText(newestReport(page), /Sync — applied/);
    await ask('algorithm random');
    await until('it is published', async () => (await stand.readJson('config/proxy_config.json'))?.algorithm === 'random');
    await hasText(newestReport(page), /Algorithm random/);
    await newestReport(page).getByRole('button', { name: 'Undo' }).click();
    await until('it is undone', async () => (await stand.readJson('config/proxy_config.json'))?.algorithm === 'weighted_round_robin');
    await ask('language 中文');
    await hasText(page.locator('.rail'), /概览/);
    await stand.call('POST', '/api/settings', { algorithm: null });
  });
});

describe('a report in the dock', () => {
  it('goes_along_to_every_page_and_is_put_away', async () => {
    page = await openConsole(browser, stand, { view: 'backends' });
    await page.locator('#sync').click();
    await hasText(newestReport(page), /Sync — applied/);
    await page.locator('.rail a[data-page="settings"]').click();
    await hasText(newestReport(page), /Sync — applied/);
    await newestReport(page).getByRole('button', { name: 'Close' }).click();
    await page.locator('#newest').waitFor({ state: 'hidden' });
    await page.locator('.rail a[data-page="changes"]').click();
    await hasText(page.locator('#reports'), /Sync — applied/);
  });
});

it('the_first_page_loads_only_what_it_needs', async () => {
  page = await openConsole(browser, stand, { view: 'overview' });
  await page.locator('[data-chart="traffic"] .u-legend').waitFor();
  // The other pages come after it, when there is time.
  const names = await page.evaluate(() => {
    const end = performance.getEntriesByName('preload')[0]?.startTime ?? Infinity;
    return performance.getEntriesByType('resource').filter(({ startTime }) => startTime < end).map(({ name }) => name);
  });
  for (const late of ['table.js', 'settings.js', 'settings-change.js', 'audit.js', 'palette.js', 'openapi.js', 'words-zh.js']) {
    assert.ok(!names.some((name) => name.endsWith(`/${late}`)), `${late} is loaded at first`);
  }
});
