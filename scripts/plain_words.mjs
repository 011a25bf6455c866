/**
 * @file Checks what users read: no words that scripts/plain_words.txt lists, the same keys, placeholders,
 * sections, rows and code in both languages, links that lead somewhere, and a reference that names every call,
 * option and key.
 * `make test` begins with it.
 *
 * Read are README*, SECURITY.md, CONTRIBUTING.md, CHANGELOG.md, docs/ (of docs/adr only the list),
 * the words of the console, openapi.json, what Makefile and scripts print, and the Rust sources' strings and help texts. In
 * Rust, a string counts if it has a blank and is no proof of an `expect`; tests are left out.
 *
 *     node scripts/plain_words.mjs            all of it; exits with 1 if there is a fault
 *     node scripts/plain_words.mjs FILE...    only the words of these files
 */

import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..');
/** By a name in the log; where a name is absent, it is shown itself. */
const OPEN_LISTS = new Set(['auditActions', 'auditResults']);
/** Pages of docs/ that contributors read. */
const ONLY_ENGLISH = new Set(['reliability.md']);
/** Files whose refusals the console shows: of settings, and of edits. */
const REFUSING = ['config', 'health', 'gpu_aware', 'networks', 'object', 'raw', 'route', 'value'].map((name) => `contract/src/${name}.rs`).concat(
  ['layer', 'changes', 'model', 'services'].map((name) => `control/src/${name}.rs`),
);
/** Texts of these files that are no refusals, or are refusals to other programs. */
const NO_REFUSAL = /^(?: at line |.*struct of|.*another owner|.*without "owner"|all 7 registrations|(?:7)?; did you mean|an object 7$)/;
/** @type {string[]} */
const faults = [];

/** @param {string} path */
function read(path) {
  return readFileSync(resolve(ROOT, path), 'utf8');
}

/** @param {string} path */
function isThere(path) {
  return existsSync(join(ROOT, path));
}

/** @param {string} text */
function readPatterns(text) {
  /** @type {{ en: {pattern: RegExp, instead: string}[], zh: {pattern: RegExp, instead: string}[] }} */
  const found = { en: [], zh: [] };
  let list = found.en;
  for (const line of text.split('\n')) {
    if (line.trim() === '[zh]') list = found.zh;
    const parts = /^(\S.*?)\s{2,}(\S.*)$/.exec(line);
    if (line.startsWith('#') || parts === null) continue;
    const [, source = '', instead = ''] = parts;
    const begin = /^\w/.test(source) || source.startsWith('(') ? '\\b' : '';
    const end = list === found.en && /[\w)?]$/.test(source) ? '\\b' : '';
    list.push({ pattern: new RegExp(`${list === found.en ? begin : ''}(?:${source})${end}`, 'iu'), instead });
  }
  return found;
}

/** @param {string} path @param {number} line @param {string} text */
function checkWords(path, line, text) {
  const list = /\p{Script=Han}/u.test(text) ? patterns.zh : patterns.en;
  for (const { pattern, instead } of list) {
    const found = pattern.exec(text);
    if (found !== null) faults.push(`${path}:${line}: "${found[0]}" (instead: ${instead}): ${text.trim().slice(0, 140)}`);
  }
}

function filesToRead() {
  const markdown = ['README.md', 'README.zh-CN.md', 'SECURITY.md', 'SECURITY.zh-CN.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'docs/adr/README.md'];
  for (const folder of ['docs', 'docs/zh-CN']) {
    for (const name of readdirSync(join(ROOT, folder))) {
      if (name.endsWith('.md')) markdown.push(`${folder}/${name}`);
    }
  }
  const sources = readdirSync(ROOT, { recursive: true, encoding: 'utf8' }).filter(isUsersRust);
  const consoles = ['words-en', 'words-zh', 'warnings-zh', 'refusals-zh'].map((name) => `control/static/${name}.js`);
  const scripts = readdirSync(join(ROOT, 'scripts')).filter((name) => name.endsWith('.sh'));
  return [
    ...markdown,
    ...consoles,
    'api/openapi.json',
    'Makefile',
    ...scripts.map((name) => `scripts/${name}`),
    ...sources.sort(),
  ];
}

/** Whether a program that users run has its strings in this file. @param {string} path */
function isUsersRust(path) {
  const isProgram = /^(agent|bounds|contract|control|proxy|serve)\/(?!(.*\/)?(tests|target|benches|examples)\/)/.test(path);
  return isProgram && path.endsWith('.rs') && !/(^|[/_])tests\.rs$/.test(path) && !/\/(simulation|testing)/.test(path);
}

/** The texts of a file that users read, each with its line. @param {string} path */
function textsOf(path) {
  const text = read(path);
  if (path.endsWith('.md')) return ofMarkdown(text);
  if (path.endsWith('.rs')) return ofRust(text);
  if (path.endsWith('.json')) return ofOpenApi(text);
  if (path.endsWith('.js')) return ofJavaScript(text);
  return ofScript(text);
}

/** Paragraphs, rows of tables and items, without code. @param {string} text */
function ofMarkdown(text) {
  /** @type {{line: number, text: string}[]} */
  const found = [];
  let isCode = false;
  let isNew = true;
  for (const [index, line] of text.split('\n').entries()) {
    if (line.startsWith('```')) isCode = !isCode;
    if (isCode || line.startsWith('    ') || line.startsWith('```') || line.trim() === '') {
      isNew = true;
      continue;
    }
    const plain = line.replace(/`[^`]*`/g, 'X').replace(/\]\([^)]*\)/g, ']');
    const last = found.at(-1);
    if (isNew || last === undefined || /^(\||#|- )/.test(line)) found.push({ line: index + 1, text: plain });
    else last.text += ` ${plain.trim()}`;
    isNew = line.startsWith('|') || line.startsWith('#');
  }
  return found;
}

/** String literals with a blank in them, and the help texts of clap. @param {string} text */
function ofRust(text) {
  /** @type {{line: number, text: string}[]} */
  const found = [];
  // Tests stand last in a file.
  const code = text.split(/^#\[cfg\(test\)\]\nmod /m)[0] ?? '';
  const isHelp = /derive\([^)]*(Parser|Args|Subcommand|ValueEnum)/.test(code);
  const tokens = /\/\/[^\n]*|\bb?r(#*)"[\s\S]*?"\1|b?"(?:\\[\s\S]|[^"\\])*"|'(?:\\.[^']*|[^'\\])'/g;
  for (const token of code.matchAll(tokens)) {
    const line = code.slice(0, token.index).split('\n').length;
    const [all] = token;
    if (all.startsWith('///') && isHelp) {
      const last = found.at(-1);
      const words = all.slice(3).trim();
      if (last !== undefined && last.line === line - 1 - (last.text.match(/\n/g)?.length ?? 0)) last.text += `\n${words}`;
      else found.push({ line, text: words });
    }
    if (all.startsWith('//') || all.startsWith("'")) continue;
    const before = code.slice(Math.max(0, token.index - 12), token.index);
    if (/expect\(\s*$/.test(before)) continue;
    const words = all.replace(/\\\n\s*/g, '').replace(/\{[^}]*\}/g, 'X');
    if (/[a-z] [a-z]/.test(words)) found.push({ line, text: words });
  }
  return found.map(({ line, text: words }) => ({ line, text: words.replaceAll('\n', ' ') }));
}

/** Titles, summaries and descriptions. @param {string} text */
function ofOpenApi(text) {
  return text.split('\n').flatMap((line, index) => {
    const words = /"(?:description|summary|title)": (".*"),?$/.exec(line);
    return words === null ? [] : [{ line: index + 1, text: JSON.parse(words[1] ?? '""') }];
  });
}

/** @param {string} text */
function ofJavaScript(text) {
  return text.split('\n').flatMap((line, index) => {
    const isComment = /^\s*(\/\/|\/?\*)/.test(line);
    const words = isComment ? [] : [...line.matchAll(/'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`/g)];
    return words.map(([all]) => ({ line: index + 1, text: all }));
  });
}

/** What a script or the Makefile prints. @param {string} text */
function ofScript(text) {
  return text.split('\n').flatMap((line, index) => {
    const words = /\b(?:echo|printf|fail|say)\b(.*)$/.exec(line);
    return words === null || line.trim().startsWith('#') ? [] : [{ line: index + 1, text: words[1] ?? '' }];
  });
}

/** The words of both languages: the same names, and the same placeholders of each. */
async function checkConsoleWords() {
  // No package.json says that the console's files are modules, and not every Node.js finds that out.
  const folder = mkdtempSync(join(tmpdir(), 'plain-words-'));
  try {
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    for (const name of ['words-en.js', 'words-zh.js', 'warnings-zh.js', 'refusals-zh.js']) {
      writeFileSync(join(folder, name), read(`control/static/${name}`));
    }
    const { en } = await import(pathToFileURL(join(folder, 'words-en.js')).href);
    const { zh } = await import(pathToFileURL(join(folder, 'words-zh.js')).href);
    compareWords(en, zh, '');
    checkStateReasons(en, zh);
    const { saidText } = await import(pathToFileURL(join(folder, 'refusals-zh.js')).href);
    for (const path of REFUSING) checkChineseRefusals(path, saidText);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The words of each code that a backend's state can have, with each of its figures. @param {any} en @param {any} zh */
function checkStateReasons(en, zh) {
  const path = 'contract/src/state_reason.rs';
  const reasons = variantsOf(path, 'StateReason');
  const { code } = JSON.parse(read('api/openapi.json')).components.schemas.StateReason.properties;
  if (code.enum.join(' ') !== [...reasons.keys()].join(' ')) faults.push(`openapi.json: StateReason has other codes than ${path}`);
  for (const [language, words] of Object.entries({ English: en, Chinese: zh })) {
    const codes = [...reasons.keys()].sort().join(' ');
    if (Object.keys(words.stateReason).sort().join(' ') !== codes) faults.push(`console words: stateReason has other codes in ${language} than ${path}`);
    const failures = [...variantsOf(path, 'ProbeFailure').keys()].sort().join(' ');
    if (Object.keys(words.probeFailure).sort().join(' ') !== failures) faults.push(`console words: probeFailure has other codes in ${language} than ${path}`);
    for (const [code, fields] of reasons) {
      const figures = fields.map((field, index) => [field, field === 'protocol' ? 'udp' : field === 'failure' ? 'refused' : (7000 + index) * 1000]);
      const args = Object.fromEntries(figures);
      const said = words.stateReason[code]?.(args) ?? '';
      for (const [field, value] of figures) {
        const shown = { protocol: /flow|UDP/, failure: new RegExp(words.probeFailure.refused), latency_us: new RegExp(`${value / 1000}`) }[field] ?? new RegExp(`${value}`);
        if (!shown.test(said)) faults.push(`console words: stateReason.${code} does not show ${field} in ${language}`);
      }
    }
  }
}

/**
 * The variants of a Rust enum, as JSON has them, each with the names of its fields.
 * @param {string} path @param {string} name
 */
function variantsOf(path, name) {
  const body = new RegExp(`pub enum ${name} \\{\\n(.*?)\\n\\}`, 's').exec(read(path))?.[1] ?? '';
  /** @type {Map<string, string[]>} */
  const variants = new Map();
  for (const [, variant = '', fields = ''] of body.matchAll(/^ {4}([A-Z]\w*)(?: \{\n(.*?)\n {4}\})?,$/gms)) {
    const code = variant.replaceAll(/(?<!^)[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
    variants.set(code, [...fields.matchAll(/^ {8}(\w+):/gm)].map(([, field = '']) => field));
  }
  if (variants.size === 0) faults.push(`${path} has no enum ${name}`);
  return variants;
}

/** Each text of a refusal that the console shows, which has to be known in Chinese. @param {string} path @param {(text: string) => string} saidText */
function checkChineseRefusals(path, saidText) {
  for (const { line, text } of textsOf(path)) {
    const said = text.slice(1, -1).replaceAll('\\"', '"').replaceAll('X', '7');
    if (NO_REFUSAL.test(said) || /\p{Script=Han}/u.test(saidText(said))) continue;
    faults.push(`${path}:${line}: refusals-zh.js does not know "${said}"`);
  }
}

/** @param {any} en @param {any} zh @param {string} place */
function compareWords(en, zh, place) {
  const where = place === '' ? 'words' : place;
  if (typeof en !== typeof zh) {
    faults.push(`console words: ${where} is a ${typeof en} in English and a ${typeof zh} in Chinese`);
  } else if (typeof en === 'object') {
    for (const key of new Set([...Object.keys(en), ...Object.keys(zh)])) {
      if (OPEN_LISTS.has(place)) continue;
      if (!(key in en) || !(key in zh)) faults.push(`console words: ${place}.${key} is only in one language`);
      else compareWords(en[key], zh[key], place === '' ? key : `${place}.${key}`);
    }
  } else if (typeof en === 'function') {
    const missing = placeholdersMissing(en, zh);
    if (missing !== '') faults.push(`console words: ${where} ${missing}`);
  }
}

/** Which arguments one language shows and the other does not. @param {Function} en @param {Function} zh */
function placeholdersMissing(en, zh) {
  if (zh.length > en.length) return `takes ${en.length} arguments in English and ${zh.length} in Chinese`;
  const shown = (/** @type {Function} */ words) => {
    const marks = Array.from({ length: en.length }, (_, index) => `\u{e000}${index}\u{e001}`);
    try {
      const said = String(words(...marks));
      return marks.map((mark) => said.includes(mark));
    } catch {
      return null; // A list or a number is wanted, which no mark stands for.
    }
  };
  const [first, second] = [shown(en), shown(zh)];
  if (first === null || second === null) return '';
  const differing = first.findIndex((is, index) => is !== second[index]);
  return differing < 0 ? '' : `shows argument ${differing + 1} in one language only`;
}

/** Pages with a Chinese twin: the same sections and lines of code, and the same names in each row and section. */
function checkTwins() {
  const twins = readdirSync(join(ROOT, 'docs/zh-CN')).map((name) => [`docs/${name}`, `docs/zh-CN/${name}`]);
  for (const name of ['README', 'SECURITY']) twins.unshift([`${name}.md`, `${name}.zh-CN.md`]);
  for (const name of readdirSync(join(ROOT, 'docs')).filter((file) => file.endsWith('.md') && !ONLY_ENGLISH.has(file))) {
    if (!isThere(`docs/zh-CN/${name}`)) faults.push(`docs/${name} has no Chinese page`);
  }
  for (const [english = '', chinese = ''] of twins) {
    if (!isThere(english)) {
      faults.push(`${chinese} has no English page`);
      continue;
    }
    const [en, zh] = [outline(read(english)), outline(read(chinese))];
    for (let index = 0; index < Math.max(en.length, zh.length); index += 1) {
      const [one, other] = [en[index], zh[index]];
      if (one?.form === other?.form) continue;
      const at = (/** @type {typeof one} */ part, /** @type {string} */ path) =>
        part === undefined ? `${path} ends` : `${path}:${part.line} has ${part.form}`;
      faults.push(`languages differ: ${at(one, english)}, ${at(other, chinese)}`);
      break;
    }
    const [ours, theirs] = [namesBySection(read(english)), namesBySection(read(chinese))];
    for (const [index, { line, names }] of ours.entries()) {
      const others = theirs[index]?.names ?? new Set();
      const alone = [...names, ...others].filter((name) => !names.has(name) || !others.has(name));
      if (alone.length > 0) faults.push(`languages differ: ${english}:${line}, section ${index + 1}: only one names ${alone.join(' ')}`);
    }
  }
}

/** What each section names as code. @param {string} text */
function namesBySection(text) {
  /** @type {{line: number, names: Set<string>}[]} */
  const sections = [{ line: 1, names: new Set() }];
  // A name may continue in the next line.
  let paragraph = '';
  const close = () => {
    for (const [name] of paragraph.matchAll(/`[^`]*`/g)) sections.at(-1)?.names.add(name.replace(/\s+/g, ' '));
    paragraph = '';
  };
  for (const { line, text: words } of linesOutsideCode(text)) {
    if (words === '' || words.startsWith('#')) close();
    if (words.startsWith('#')) sections.push({ line, names: new Set() });
    paragraph += `${words} `;
  }
  close();
  return sections;
}

/** Links between pages: the page and the section exist, and a Chinese page leads to Chinese ones where there are any. */
function checkLinks() {
  const pages = filesToRead().filter((path) => path.endsWith('.md'));
  for (const page of [...pages, 'ARCHITECTURE.md']) {
    const isChinese = page.includes('zh-CN');
    for (const { line, text } of linesOutsideCode(read(page))) {
      for (const [, target = ''] of text.replace(/`[^`]*`/g, 'X').matchAll(/\]\(([^)\s]+)\)/g)) {
        const [path = '', section] = target.split('#');
        if (/^[a-z]+:/.test(target)) continue;
        const file = path === '' ? page : join(dirname(page), path);
        if (!isThere(file)) faults.push(`${page}:${line}: ${target} does not exist`);
        else if (section !== undefined && file.endsWith('.md') && !sectionsOf(read(file)).has(decodeURIComponent(section))) {
          faults.push(`${page}:${line}: ${file} has no section #${section}`);
        }
        const twin = chinesePageOf(file);
        if (isChinese && twin !== page && twin !== file && isThere(twin)) {
          faults.push(`${page}:${line}: links to ${file}, not to ${twin}`);
        }
      }
    }
  }
}

/** Where the Chinese version of a page is, if there is one. @param {string} path */
function chinesePageOf(path) {
  return path.replace(/^docs\/([^/]+\.md)$/, 'docs/zh-CN/$1').replace(/^(README|SECURITY)\.md$/, '$1.zh-CN.md');
}

/** The anchors that GitHub gives to headings. @param {string} text */
function sectionsOf(text) {
  /** @type {Set<string>} */
  const found = new Set();
  for (const { text: line } of linesOutsideCode(text)) {
    const heading = /^#+ (.*)$/.exec(line)?.[1];
    if (heading === undefined) continue;
    const words = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').trim().toLowerCase();
    const name = words.replace(/[^\p{L}\p{N}\p{M}_ -]/gu, '').replaceAll(' ', '-');
    let unique = name;
    for (let count = 1; found.has(unique); count += 1) unique = `${name}-${count}`;
    found.add(unique);
  }
  return found;
}

/** @param {string} text */
function linesOutsideCode(text) {
  let isCode = false;
  return text.split('\n').flatMap((line, index) => {
    if (line.startsWith('```')) isCode = !isCode;
    return isCode || line.startsWith('    ') ? [] : [{ line: index + 1, text: line }];
  });
}

/** The reference names every call of the API, every option of the agent and every key of both files. */
function checkReference() {
  /** @type {Record<string, Record<string, unknown>>} */
  const paths = JSON.parse(read('api/openapi.json')).paths;
  const calls = Object.entries(paths).flatMap(([path, methods]) => {
    const shown = path.replace('{ip}/{port}', 'IP/PORT').replace('sessions/{id}', 'sessions/ID').replace('{id}', 'IP:PORT').replace('{pool}', 'POOL').replace('{number}', 'N');
    return Object.keys(methods).filter((name) => name !== 'parameters').map((name) => `${name.toUpperCase()} ${shown}`);
  });
  demand('docs/api.md', calls, (text, call) => new RegExp(`\`${escaped(call)}[\`?]`).test(text));

  const options = [...read('agent/src/arguments.rs').matchAll(/#\[arg\([^\]]*long[^\]]*\)\]\s+(?:pub )?(\w+):/g)];
  const named = options.map(([, field = '']) => `--${field.replaceAll('_', '-')}`);
  demand('docs/agent.md', named, (text, option) => new RegExp(`\\| [^|]*\`${option}\\b`).test(text));

  const readers = ['config', 'settings', 'health', 'gpu_aware', 'batch', 'networks'].map((name) => `contract/src/${name}.rs`);
  const keys = [...readers, 'control/src/settings.rs', 'control/src/admission.rs'].flatMap((path) => {
    const code = read(path).split(/^#\[cfg\(test\)\]\nmod /m)[0] ?? '';
    const taken = /(?:take\w*|integer|path|read_\w+)\(\s*(?:&mut )?(?:\w+,\s*)?\[?"(\w+)"|^\s+\(?"(\w+)",\s*[\d.]/gm;
    return [...code.matchAll(taken)].map(([, one, other]) => one ?? other ?? '');
  });
  demand('docs/configuration.md', [...new Set(keys)], (text, key) => new RegExp(`[\`"]${key}[\`"]`).test(text));
}

/** @param {string} path @param {string[]} names @param {(text: string, name: string) => boolean} isNamed */
function demand(path, names, isNamed) {
  const text = read(path);
  for (const name of names) if (!isNamed(text, name)) faults.push(`${path} does not describe ${name}`);
}

/** @param {string} text */
function escaped(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** Headings by their level, the code in each row, and the lines of code without their comments. @param {string} text */
function outline(text) {
  let isCode = false;
  return text.split('\n').flatMap((line, index) => {
    if (line.startsWith('```')) {
      isCode = !isCode;
      return [{ line: index + 1, form: line }];
    }
    if (isCode || line.startsWith('    ')) return [{ line: index + 1, form: line.replace(/(^|\s+)#.*/, '') }];
    const heading = /^(#+) /.exec(line);
    if (heading !== null) return [{ line: index + 1, form: `a heading of level ${heading[1]?.length}` }];
    if (!line.startsWith('| ')) return [];
    const names = (/** @type {string} */ cells) => new Set([...cells.matchAll(/`[^`]*`/g)].map(([name]) => name));
    const key = [...names(line.split(' | ')[0] ?? '')].sort().join(' ');
    return [{ line: index + 1, form: `a row ${key}: ${[...names(line)].sort().join(' ')}` }];
  });
}

const named = process.argv.slice(2);
const patterns = readPatterns(read('scripts/plain_words.txt'));
for (const path of named.length > 0 ? named : filesToRead()) {
  for (const { line, text } of textsOf(path)) checkWords(path, line, text);
}
if (named.length === 0) {
  await checkConsoleWords();
  checkTwins();
  checkLinks();
  checkReference();
}
for (const fault of faults) console.log(fault);
if (faults.length > 0) {
  console.log(`${faults.length} faults; scripts/plain_words.txt says what to write instead`);
  process.exit(1);
}
