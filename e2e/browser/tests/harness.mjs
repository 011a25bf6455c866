/**
 * @file What every browser test needs: a root folder of its own with the real binaries on it, and a
 * page in Chromium. Everything that is started here is ended by `close`, by its process id.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const BIN_DIR = path.resolve(process.env.WICKETGATE_BIN_DIR ?? '../../target/debug');
/** run.sh finds it in PATH. */
const BROWSER = process.env.CHROMIUM ?? '/usr/bin/chromium';
/** How long anything may take before a test calls it failed; longer on a machine that is busy with other things. */
export const DEADLINE_MS = Number(process.env.WICKETGATE_DEADLINE_MS ?? 30_000);
/** Answers of the control server reach the page this much later at most, each by chance: finds tests, and pages, that rely on a quick answer. */
const LATE_MS = Number(process.env.WICKETGATE_LATE_MS ?? 0);
/** How many times slower than this machine the browser computes. */
const SLOWER = Number(process.env.WICKETGATE_SLOWER ?? 1);
/** Long enough that no registration of a test expires by itself. */
const TTL_S = 3600;

const BROWSER_ARGUMENTS = [
  '--disable-gpu',
  '--disable-lcd-text',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** A port of the loopback address that is free for TCP and UDP, from the kernel. */
export async function freePort() {
  for (;;) {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    const isFree = await isFreeForUdp(port);
    server.close();
    await once(server, 'close');
    if (isFree) return port;
  }
}

/** @param {number} port */
async function isFreeForUdp(port) {
  const socket = dgram.createSocket('udp4');
  try {
    socket.bind(port, '127.0.0.1');
    await once(socket, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    socket.close();
  }
}

/**
 * Waits until `probe` gives something true.
 * @template Value
 * @param {string} what is waited for, for the message
 * @param {() => Promise<Value> | Value} probe
 * @param {number} [deadline] in milliseconds
 * @returns {Promise<Value>}
 */
export async function until(what, probe, deadline = DEADLINE_MS) {
  const end = Date.now() + deadline;
  for (;;) {
    const value = await probe();
    if (value) return value;
    assert.ok(Date.now() < end, `not within ${deadline} ms: ${what}`);
    await pause(25);
  }
}

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();
// A test file that is ended by the runner's time limit must leave nothing behind either.
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

/** A process of ours; its output is kept for the message of a test that fails. */
class Program {
  constructor(name, args) {
    this.name = name;
    this.output = '';
    this.child = spawn(path.join(BIN_DIR, name), args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.ended = once(this.child, 'exit');
    running.add(this.child);
    void this.ended.then(() => running.delete(this.child));
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.on('data', (chunk) => {
        this.output += chunk;
      });
    }
  }

  hasEnded() {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  async stop(signal = 'SIGINT') {
    if (this.hasEnded()) return;
    this.child.kill(signal);
    await this.ended;
  }
}

/** A backend that takes connections, so that the proxy finds it up. */
async function startBackend() {
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** The control plane and a proxy on a folder of their own. */
export class Stand {
  /**
   * @param {{proxy?: 'proxy_server' | 'dummy_proxy' | null, config?: object}} [options] `config` are
   *   further keys of control_config.json
   */
  static async start({ proxy = 'proxy_server', config = {} } = {}) {
    const stand = new Stand();
    stand.root = await mkdtemp(path.join(tmpdir(), 'wicketgate-console-'));
    stand.port = await freePort();
    stand.proxyPort = await freePort();
    stand.origin = `http://127.0.0.1:${stand.port}`;
    stand.backends = [];
    stand.pages = [];
    stand.config = config;
    for (const folder of ['config', 'data', 'run', 'logs']) await mkdir(path.join(stand.root, folder));
    await stand.writeJson('config/control_config.json', {
      host: '127.0.0.1',
      port: stand.port,
      default_listen_host: '127.0.0.1',
      default_listen_port: stand.proxyPort,
      runtime_ttl_sec: TTL_S,
      ...config,
    });
    await stand.startControl();
    stand.proxy = null;
    if (proxy !== null) await stand.startProxy(proxy);
    return stand;
  }

  async startControl() {
    this.control = new Program('control_server', ['--root', this.root]);
    await until('control_server answers', async () => {
      assert.ok(!this.control.hasEnded(), `control_server ended:\n${this.control.output}`);
      return fetch(`${this.origin}/livez`).then((response) => response.ok, () => false);
    });
  }

  async startProxy(name) {
    await until('the first proxy_config.json', () => this.readJson('config/proxy_config.json'));
    this.proxy = new Program(name, ['--root', this.root]);
    await until(`${name} is ready`, async () => {
      assert.ok(!this.proxy.hasEnded(), `${name} ended:\n${this.proxy.output}`);
      const pid = await readFile(this.path('run/proxy.pid'), 'utf8').catch(() => '');
      return pid.trim() === String(this.proxy.child.pid);
    });
  }

  path(name) {
    return path.join(this.root, name);
  }

  /** @returns {Promise<any>} null where there is no such file, or not whole yet */
  async readJson(name) {
    try {
      return JSON.parse(await readFile(this.path(name), 'utf8'));
    } catch {
      return null;
    }
  }

  /** As discovery does it: the file is always whole. */
  async writeJson(name, value) {
    await writeFile(this.path(`${name}.new`), JSON.stringify(value));
    await rename(this.path(`${name}.new`), this.path(name));
  }

  /** Calls the API as another client would. */
  async call(method, target, body, headers = {}) {
    const response = await fetch(this.origin + target, {
      method,
      headers: body === undefined ? headers : { 'content-type': 'application/json', ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    return response.json();
  }

  /** Starts a backend that registers itself; returns its address. */
  async register(more = {}) {
    const server = await startBackend();
    this.backends.push(server);
    const { port } = server.address();
    const answer = await this.call('POST', '/api/register', { ip: '127.0.0.1', port, ...more });
    assert.equal(answer.ok, true, JSON.stringify(answer));
    return { ip: '127.0.0.1', port, key: `127.0.0.1:${port}` };
  }

  /** Says it anew of a registered backend, as its heartbeat does. */
  async heartbeat({ ip, port }, more) {
    const answer = await this.call('POST', '/api/register', { ip, port, ...more });
    assert.equal(answer.ok, true, JSON.stringify(answer));
  }

  /**
   * Starts one of our simulators against this stand's control; the caller stops it.
   * @param {string} name
   * @param {string[]} args
   */
  simulate(name, args) {
    return new Program(name, ['--base', this.origin, ...args]);
  }

  /** Starts backends that discovery hands out; returns their addresses. */
  async discover(...descriptions) {
    const found = [];
    for (const description of descriptions) {
      const server = await startBackend();
      this.backends.push(server);
      found.push({ ip: '127.0.0.1', port: server.address().port, ...description });
    }
    await this.publishDiscovery(found);
    return found.map(({ ip, port }) => ({ ip, port, key: `${ip}:${port}` }));
  }

  async publishDiscovery(backends) {
    await this.writeJson('data/k8s_endpoints.json', {
      source: 'k8s',
      updated_at: Math.floor(Date.now() / 1000),
      backends,
    });
  }

  /** Waits until the published file has this weight for this backend. */
  async publishedWeight({ port }, weight) {
    await until(`weight ${weight} of port ${port} is published`, async () => {
      const file = await this.readJson('config/proxy_config.json');
      return file?.backends.some((backend) => backend.port === port && backend.weight === weight);
    });
  }

  /** The proxy uses it, and control knows. */
  async effectiveWeight({ key }, weight) {
    await until(`weight ${weight} of ${key} is in use`, async () => {
      const { backends } = await this.call('GET', '/api/v1/backends');
      return backends.find(({ id }) => id === key)?.proxy?.weight_effective === weight;
    });
  }

  async close() {
    // Pages first: one that looks on would complain that its server is gone.
    for (const page of this.pages) await page.context().close();
    await this.proxy?.stop();
    await this.control.stop();
    for (const server of this.backends) {
      server.close();
      server.closeAllConnections?.();
    }
    await rm(this.root, { recursive: true, force: true });
  }
}

/** The pages of the test that runs, on whatever stand. */
const opened = [];

/**
 * What most files of tests have: one browser and one stand for all of them, and pages of which nobody
 * complains. After each test its pages are closed.
 * @param {object} options of `Stand.start`
 * @param {(browser: import('playwright-core').Browser, stand: Stand) => Promise<void> | void} prepare
 */
export function onOneStand(options, prepare) {
  /** @type {import('playwright-core').Browser | undefined} */
  let browser;
  /** @type {Stand | undefined} */
  let stand;
  before(async () => {
    browser = await startBrowser();
    stand = await Stand.start(options);
    await prepare(browser, stand);
  });
  after(async () => {
    await browser?.close();
    await stand?.close();
  });
  afterEach(async () => {
    const pages = opened.splice(0);
    for (const page of pages) await page.context().close();
    assert.deepEqual(pages.flatMap((page) => page.complaints), []);
  });
}

/** Chromium with a profile of its own. */
export function startBrowser() {
  const sandbox = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  return chromium.launch({
    executablePath: BROWSER,
    headless: true,
    args: [...sandbox, ...BROWSER_ARGUMENTS],
  });
}

/**
 * A page on the stand's console, in a browser context of its own. What the browser complains of is
 * kept in `page.complaints`: errors of scripts, of the content security policy, of loading.
 * @param {import('playwright-core').Browser} browser
 * @param {Stand} stand
 * @param {{view?: string, locale?: string, width?: number, height?: number, colorScheme?: 'dark' | 'light', touch?: boolean, expected?: RegExp}} [options]
 *   `touch` is a phone or a tablet, without a mouse; `view` is the console's page; complaints that are `expected` are not kept
 */
export async function openConsole(browser, stand, options = {}) {
  const page = await openPage(browser, stand, `/?page=${options.view ?? 'backends'}`, options);
  await isReady(page);
  await page.locator('#loading').waitFor({ state: 'hidden' });
  return page;
}

/** Keys and buttons are bound, and the page that is shown is loaded. */
export async function isReady(page) {
  // The title names the page once the keys are bound.
  await page.waitForFunction(() => document.title.includes('·')).catch((error) => {
    throw new Error(`${error}; the browser says: ${page.complaints}`);
  });
  await page.locator('#content:not([aria-busy])').waitFor();
}

/** The same on any path of the stand, which may lead elsewhere; `before` has the empty page first. */
export async function openPage(browser, stand, target, options = {}) {
  const { locale = 'en-GB', width = 1280, height = 900, colorScheme, touch = false, expected } = options;
  const context = await browser.newContext({ locale, viewport: { width, height }, colorScheme, hasTouch: touch, isMobile: touch });
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  stand.pages.push(page);
  opened.push(page);
  page.complaints = [];
  page.on('pageerror', (error) => page.complaints.push(String(error)));
  page.on('console', (message) => {
    // An edit that was made on an older state is refused, compared, and sent again.
    const isRetried = /status of 412 /.test(message.text()) && message.location().url.endsWith('/api/v1/changes');
    // A panel asks for a backend that has just gone, and says so.
    const isGone = /status of 404 /.test(message.text()) && message.location().url.includes('/api/v1/backends/');
    const isComplaint = ['error', 'warning'].includes(message.type()) && !isRetried && !isGone;
    if (isComplaint && !expected?.test(message.text())) page.complaints.push(message.text());
  });
  page.on('dialog', (dialog) => {
    page.complaints.push(`a dialog opened: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await slowDown(context, page);
  await options.before?.(page);
  await page.goto(stand.origin + target);
  return page;
}

/** Makes the page as slow as the environment asks for. */
async function slowDown(context, page) {
  if (SLOWER > 1) {
    const devtools = await context.newCDPSession(page);
    await devtools.send('Emulation.setCPUThrottlingRate', { rate: SLOWER });
  }
  if (LATE_MS === 0) return;
  await page.addInitScript((lateMs) => {
    const askNow = window.fetch;
    const wait = () => new Promise((resolve) => setTimeout(resolve, Math.random() * lateMs));
    window.fetch = async (...request) => {
      const answer = await askNow(...request);
      await wait();
      return answer;
    };
  }, LATE_MS);
}

/** The table's row of a backend. */
export function rowOf(page, { key }) {
  return page.locator('#rows tr').filter({ has: page.getByText(key, { exact: true }) });
}

/**
 * Applies what the review shows.
 * @param {import('playwright-core').Page} page
 * @param {string} [word] that is typed, where the change is a large one
 */
export async function applyReview(page, word) {
  await page.locator('#diff-dialog[open]').waitFor();
  if (word !== undefined) await page.locator('#diff-word').fill(word);
  await page.keyboard.press('Enter');
  await page.locator('#diff-dialog').waitFor({ state: 'hidden' });
}

/** What was last done, as the dock of every page tells it. */
export function newestReport(page) {
  return page.locator('#newest .report');
}

/**
 * Waits until the element's text has what is wanted.
 * @param {import('playwright-core').Locator} locator
 * @param {RegExp} wanted
 */
export async function hasText(locator, wanted) {
  let text = '';
  await until(`text ${wanted} in ${locator}`, async () => {
    text = ((await locator.textContent().catch(() => '')) ?? '').replace(/\s+/g, ' ').trim();
    return wanted.test(text);
  }).catch((error) => {
    throw new Error(`${error.message}; it reads: ${text}`);
  });
}

/**
 * @param {import('playwright-core').Locator} locator
 * @param {string} name
 * @param {string} wanted
 */
export async function hasAttribute(locator, name, wanted) {
  await until(`${name}=${wanted} on ${locator}`, async () => {
    return (await locator.getAttribute(name)) === wanted;
  });
}

/** Saves a picture where WICKETGATE_PICTURES names a folder; a test does not look at it. */
export async function picture(page, name) {
  const folder = process.env.WICKETGATE_PICTURES;
  if (folder) await page.screenshot({ path: path.join(folder, `${name}.png`), fullPage: true });
}
