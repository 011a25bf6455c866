/**
 * @file Checks the decisions in docs/adr: each begins with its number and title, a date and a status, its
 * number is taken once, and the table of docs/adr/README.md has a row that says the same. `make test` runs it.
 *
 *     node scripts/adr.mjs
 */

import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const FOLDER = resolve(dirname(fileURLToPath(import.meta.url)), '../docs/adr');
const STATUS = /^(?:accepted|(?:accepted, in part )?superseded by (\d{4}))$/;
/** @type {string[]} */
const faults = [];

/** The row of the table that a record asks for, or null if the record has not the form. @param {string} file */
function rowOf(file) {
  const number = /^(\d{4})-[a-z0-9-]+\.md$/.exec(file)?.[1];
  if (number === undefined) return fault(file, 'its name is not NNNN-short-name.md');
  const [heading = '', blank, date = '', status = '', end] = readFileSync(join(FOLDER, file), 'utf8').split('\n');
  const title = heading.startsWith(`# ${number}: `) ? heading.slice(8) : '';
  const state = status.startsWith('Status: ') ? status.slice(8) : '';
  if (title === '') return fault(file, `the first line is not "# ${number}: title"`);
  if (blank !== '' || !isDate(date)) return fault(file, 'the third line is not "Date: YYYY-MM-DD"');
  const later = STATUS.exec(state);
  if (later === null || end !== '') {
    return fault(file, 'the fourth line is not "Status: accepted", "Status: superseded by NNNN" or "Status: accepted, in part superseded by NNNN"');
  }
  const by = later[1];
  if (by !== undefined && (by <= number || !files.some((name) => name.startsWith(by)))) {
    return fault(file, `no later record has the number ${by}`);
  }
  return `| [${number}](${file}) | ${title} | ${state} |`;
}

/** @param {string} line */
function isDate(line) {
  const day = /^Date: (\d{4}-\d{2}-\d{2})$/.exec(line)?.[1];
  const time = day === undefined ? NaN : Date.parse(day);
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(day ?? '');
}

/** @param {string} file @param {string} words @returns {null} */
function fault(file, words) {
  faults.push(`docs/adr/${file}: ${words}`);
  return null;
}

const files = readdirSync(FOLDER).filter((name) => name !== 'README.md').sort();
for (const [index, file] of files.entries()) {
  if (index > 0 && files[index - 1]?.slice(0, 4) === file.slice(0, 4)) fault(file, `${files[index - 1]} has the same number`);
}
const wanted = files.map(rowOf).filter((row) => row !== null);
const rows = readFileSync(join(FOLDER, 'README.md'), 'utf8').split('\n').filter((line) => line.startsWith('| ['));
for (const row of wanted) if (!rows.includes(row)) fault('README.md', `the table lacks the row: ${row}`);
for (const row of rows) if (!wanted.includes(row)) fault('README.md', `no record has the row: ${row}`);
if (rows.join() !== rows.toSorted().join()) fault('README.md', 'the rows are not in the order of their numbers');
for (const words of faults) console.log(words);
process.exit(faults.length === 0 ? 0 : 1);
