/**
 * @file Compares docs/metrics-and-logs.md with the log lines of the three programs, in both directions: each line
 * of its tables is in the code, and each line of the code is in a table, in both languages. `make test` runs it.
 *
 *     node scripts/log_events.mjs
 *
 * A line is known by its fixed words: what stands between `...` in the document, and between the figures of the
 * format in the code. Lines below INFO, and lines that only pass on the text of an error, are left out.
 */

import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const DOCUMENTS = ['docs/metrics-and-logs.md', 'docs/zh-CN/metrics-and-logs.md'];
/** Of each table of lines, in order: the crates whose lines it has. */
const PROGRAMS = [
  ['proxy/server/src', 'proxy/engine/src', 'proxy/core/src', 'contract/src'],
  ['control/src', 'contract/src'],
  ['agent/src', 'control/client/src', 'contract/src'],
];
/** Fewer letters are the words of many lines. */
const FEWEST = 8;

/** The production code of the files in a folder, with the lines of each string joined. @param {string} folder @returns {string[]} */
function codeIn(folder) {
  const entries = readdirSync(join(ROOT, folder), { withFileTypes: true });
  return entries.flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return entry.name === 'tests' || entry.name === 'simulation' ? [] : codeIn(path);
    if (!entry.name.endsWith('.rs') || /tests?\.rs$/.test(entry.name)) return [];
    const [code = ''] = readFileSync(join(ROOT, path), 'utf8').split(/#\[cfg\(test\)\]\n(?:pub(?:\(crate\))? )?mod /);
    return [code.replace(/\\\n\s*/g, '')];
  });
}

/** The lines of each table of lines of a document. @param {string} path */
function tables(path) {
  const tables = readFileSync(join(ROOT, path), 'utf8').split(/\n(?=#)/).slice(1);
  const lines = tables.map((table) => [...table.matchAll(/^\| `([^`]+)` \| (?:INFO|WARN|ERROR)/gm)].map(([, line = '']) => line));
  return lines.filter((table) => table.length > 0);
}

/** The fixed words of a line, without fields and what stands for another word. @param {string[]} parts */
function wordsOf(parts) {
  return parts
    .flatMap((part) => part.split(/\bsessions?\b|\w+=|\\"/))
    .map((part) => part.replace(/^[\s:;,(.]+|[\s:;,(]+$/g, ''))
    .filter((part) => part.length >= FEWEST);
}

/** The texts of log macros. @param {string} code */
function linesOf(code) {
  return [...code.matchAll(/\b(?:info|warn|error)!\(\s*(?:[\w.]+(?: = [^,"]+)?,\s*)*"((?:[^"\\]|\\.)*)"/g)].map(([, line = '']) => line);
}

/** @type {string[]} */
const faults = [];
for (const path of DOCUMENTS) {
  const documented = tables(path);
  if (documented.length !== PROGRAMS.length) faults.push(`${path}: ${documented.length} tables of log lines instead of ${PROGRAMS.length}`);
  for (const [at, folders] of PROGRAMS.entries()) {
    const code = folders.flatMap(codeIn);
    const all = code.join('\n');
    const lines = documented[at] ?? [];
    const text = lines.join('\n');
    for (const line of lines) {
      const words = wordsOf(line.split(/\.\.\.|ENGINE|CONTROL/));
      if (words.length > 0 && !words.some((part) => all.includes(part))) faults.push(`${path}: no program writes "${line}"`);
    }
    for (const line of code.flatMap(linesOf)) {
      const words = wordsOf(line.split(/\{[^}]*\}/));
      if (words.length > 0 && !words.some((part) => text.includes(part) || text.includes(part.split(':')[0] ?? part))) {
        faults.push(`${path}: lacks "${line}" of ${folders[0]}`);
      }
    }
  }
}
for (const fault of new Set(faults)) console.log(fault);
process.exit(faults.length === 0 ? 0 : 1);
