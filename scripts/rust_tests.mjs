/**
 * @file Runs all Rust tests, some programs of tests at once: most of them wait for something, and cargo runs
 * one after the other. What a program writes is shown when it ends. AT_ONCE says how many run at a time.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { dirname } from 'node:path';

const CARGO = process.env.CARGO ?? 'cargo';
const AT_ONCE = Number(process.env.AT_ONCE ?? 2);

/** It floods control, and counts what gets through: it runs first, and alone. */
const ALONE = 'control_stalls';

/** @returns {Promise<{name: string, program: string, folder: string}[]>} what cargo has built */
async function programs() {
  const args = ['test', '--workspace', '--locked', '--no-run', '--message-format=json-render-diagnostics'];
  const cargo = spawn(CARGO, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(cargo, 'close');
  const built = [];
  for await (const line of createInterface({ input: cargo.stdout })) {
    const { reason, profile, executable, manifest_path: manifest, target } = JSON.parse(line);
    if (reason !== 'compiler-artifact' || executable === null || profile.test !== true) continue;
    const folder = dirname(manifest);
    built.push({ name: `${folder.split('/').at(-1)} ${target.name}`, program: executable, folder });
  }
  const [code] = await ended;
  if (code !== 0) process.exit(code ?? 1);
  return built;
}

/** Runs one as cargo would. @returns {Promise<boolean>} whether it passed */
async function run({ name, program, folder }) {
  const began = Date.now();
  const env = { ...process.env, CARGO_MANIFEST_DIR: folder };
  const child = spawn(program, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  /** @type {Buffer[]} */
  const said = [];
  child.stdout.on('data', (bytes) => said.push(bytes));
  child.stderr.on('data', (bytes) => said.push(bytes));
  const [code, signal] = await once(child, 'close');
  const seconds = ((Date.now() - began) / 1000).toFixed(1);
  process.stdout.write(`\n${name}: ${seconds} s\n${Buffer.concat(said)}`);
  if (code !== 0) process.stdout.write(`${name} failed: ${signal ?? `status ${code}`}\n`);
  return code === 0;
}

const waiting = await programs();
/** @type {string[]} */
const failed = [];
const runner = async () => {
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    if (!(await run(next))) failed.push(next.name);
  }
};
const alone = waiting.findIndex(({ name }) => name.endsWith(` ${ALONE}`));
if (alone >= 0) {
  const [program] = waiting.splice(alone, 1);
  if (!(await run(program))) failed.push(program.name);
}
await Promise.all(Array.from({ length: AT_ONCE }, runner));
if (failed.length > 0) {
  console.error(`failed: ${failed.join(', ')}`);
  process.exit(1);
}
