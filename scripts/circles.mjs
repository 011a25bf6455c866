/**
 * @file Names the circles of imports between the files of each crate, and between the modules of the console.
 * In a circle no file can be understood, tested or moved alone. scripts/circles.txt lists the imports that are
 * part of a circle today; `make test` fails if there is another one, or if the list names more than there are:
 * it may only become shorter.
 *
 *     node scripts/circles.mjs            compares with the list; exits with 1 if they differ
 *     node scripts/circles.mjs --print    prints the present circles in the form of the list
 *
 * In Rust, a file imports the files that define what its `use` lines and its paths from `crate`, `super` or
 * `self` name, `pub use` followed; code under `#[cfg(test)]` is left out. A module's face (mod.rs, or the file
 * that declares it) takes its parts from the module's own files, which does not count. In JavaScript, only
 * static imports count: what a page loads later is no circle.
 */

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * @typedef {object} Module
 * @property {string} file
 * @property {string} folder Where the files of its children are.
 * @property {Module | null} parent
 * @property {Map<string, Module>} children
 * @property {Map<string, string[]>} exports Names of `pub use`, with the paths behind them.
 */
/** @typedef {Map<string, Set<string>>} Graph From each file to those that it imports. */

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const LIST = 'scripts/circles.txt';
/** One import can close many circles; the shortest say which it is. */
const MOST_SHOWN = 3;

/** @param {string} path */
function read(path) {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** The circles of each program and library of a crate. @param {string} folder */
function circlesOfCrate(folder) {
  return rootsOf(folder).flatMap((file) => {
    const root = moduleOf(file, dirname(file), null);
    /** @type {Graph} */
    const graph = new Map();
    /** @type {(() => void)[]} */
    const later = [];
    declare(root, codeOf(read(file)), graph, later);
    // Paths can be followed once all modules are known.
    for (const resolvePaths of later) resolvePaths();
    return circles(graph);
  });
}

/** The files that programs and library of a crate begin with. @param {string} folder */
function rootsOf(folder) {
  const named = [...read(`${folder}/Cargo.toml`).matchAll(/^path = "([^"]+\.rs)"/gm)].map(([, path = '']) => path);
  const bin = join(ROOT, folder, 'src/bin');
  const bins = existsSync(bin) ? readdirSync(bin).filter((name) => name.endsWith('.rs')).map((name) => `src/bin/${name}`) : [];
  const all = new Set(['src/lib.rs', 'src/main.rs', ...bins, ...named]);
  return [...all].map((path) => `${folder}/${path}`).filter((path) => existsSync(join(ROOT, path)));
}

/** Adds the modules that this one declares, and what their files import. @param {Module} module @param {string} code @param {Graph} graph @param {(() => void)[]} later */
function declare(module, code, graph, later) {
  if (!graph.has(module.file)) graph.set(module.file, new Set());
  let own = code;
  const declared = /(?:#\[path = "([^"]*)"\]\s*)?(?<![\w:])mod\s+(\w+)\s*([;{])/g;
  for (let found = declared.exec(own); found !== null; found = declared.exec(own)) {
    const [, path, name = '', sign] = found;
    const isInline = sign === '{';
    const child = isInline ? moduleOf(module.file, join(module.folder, name), module) : childOf(module, name, path);
    module.children.set(name, child);
    const end = isInline ? afterBraces(own, declared.lastIndex - 1) : declared.lastIndex;
    declare(child, isInline ? own.slice(declared.lastIndex, end - 1) : codeOf(read(child.file)), graph, later);
    own = own.slice(0, found.index) + own.slice(end);
    declared.lastIndex = found.index;
  }
  for (const [, tree = ''] of own.matchAll(/\bpub(?:\([^)]*\))?\s+use\s+([^;]+);/g)) {
    for (const { path, name } of expand(tree)) module.exports.set(name, path);
  }
  later.push(() => {
    for (const path of pathsOf(own)) {
      const file = follow(module, path, 0)?.file;
      if (file !== undefined && file !== module.file && !hasFile(module, file)) graph.get(module.file)?.add(file);
    }
  });
}

/** @param {string} file @param {string} folder @param {Module | null} parent @returns {Module} */
function moduleOf(file, folder, parent) {
  return { file, folder, parent, children: new Map(), exports: new Map() };
}

/** @param {Module} module @param {string} name @param {string | undefined} path */
function childOf(module, name, path) {
  if (path !== undefined) return moduleOf(join(dirname(module.file), path), dirname(module.file), module);
  const folder = join(module.folder, name);
  return moduleOf(existsSync(join(ROOT, `${folder}.rs`)) ? `${folder}.rs` : `${folder}/mod.rs`, folder, module);
}

/** Whether a file belongs to this module. @param {Module} module @param {string} file @returns {boolean} */
function hasFile(module, file) {
  return [...module.children.values()].some((child) => child.file === file || hasFile(child, file));
}

/** The paths of `use` lines, and those in code that begin with `crate`, `super` or `self`. @param {string} code */
function pathsOf(code) {
  /** @type {string[][]} */
  const found = [];
  const rest = code.replace(/\buse\s+([^;]+);/g, (_, tree) => {
    found.push(...expand(tree).map(({ path }) => path));
    return '';
  });
  const inCode = rest.replace(/\bpub\s*\(\s*in[^)]*\)/g, '').matchAll(/(?<![$\w:])((?:crate|super|self)(?:::\w+)+)/g);
  for (const [, path = ''] of inCode) found.push(path.split('::'));
  return found;
}

/** `a::{b, c as d}` as its paths, each with the name that it gets. @param {string} tree @returns {{ path: string[], name: string }[]} */
function expand(tree) {
  const open = tree.indexOf('{');
  if (open < 0) {
    const [path = '', name] = tree.trim().split(/\s+as\s+/);
    const parts = path.split('::').filter((part) => part !== '');
    return [{ path: parts, name: name ?? (parts.at(-1) === 'self' ? parts.at(-2) : parts.at(-1)) ?? '' }];
  }
  const before = tree.slice(0, open).trim().split('::').filter((part) => part !== '');
  /** @type {string[]} */
  const parts = [''];
  let depth = 0;
  for (const sign of tree.slice(open + 1, tree.lastIndexOf('}'))) {
    if (sign === '{') depth += 1;
    if (sign === '}') depth -= 1;
    if (sign === ',' && depth === 0) parts.push('');
    else parts[parts.length - 1] += sign;
  }
  const filled = parts.filter((part) => part.trim() !== '');
  return filled.flatMap(expand).map(({ path, name }) => ({ path: [...before, ...path], name: name === 'self' ? before.at(-1) ?? '' : name }));
}

/** The module that defines what a path names, or null if it leads out of the crate. @param {Module} from @param {string[]} path @param {number} depth @returns {Module | null} */
function follow(from, path, depth) {
  /** @type {Module} */
  let at = from;
  let index = 0;
  if (path[0] === 'crate') {
    while (at.parent !== null) at = at.parent;
    index = 1;
  } else if (path[0] !== 'self' && path[0] !== 'super' && !from.children.has(path[0] ?? '')) {
    return null;
  }
  for (; index < path.length; index += 1) {
    const part = path[index] ?? '';
    if (part === 'self') continue;
    const next = part === 'super' ? at.parent : at.children.get(part);
    if (next === undefined || next === null) {
      const exported = at.exports.get(part);
      // A name that leads to itself ends somewhere; 8 is more than anybody follows.
      return (exported !== undefined && depth < 8 ? follow(at, exported, depth + 1) : null) ?? at;
    }
    at = next;
  }
  return at;
}

/** Rust without comments, strings and what only tests have. @param {string} text */
function codeOf(text) {
  const tokens = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|#\[path = "[^"]*"\]|\bb?r(#*)"[\s\S]*?"\1|b?"(?:\\[\s\S]|[^"\\])*"|'(?:\\.[^']*|[^'\\])'/g;
  let code = text.replace(tokens, (all) => (all.startsWith('#[path') ? all : all.startsWith('/') ? '' : '0'));
  if (/^#!\[cfg\(test\)\]/m.test(code)) return '';
  for (let at = code.indexOf('#[cfg(test)]'); at >= 0; at = code.indexOf('#[cfg(test)]', at)) {
    code = code.slice(0, at) + code.slice(afterItem(code, at + '#[cfg(test)]'.length));
  }
  return code;
}

/** @param {string} code @param {number} from */
function afterItem(code, from) {
  const isUse = /^\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?use\s/.test(code.slice(from, from + 200));
  if (isUse) return code.indexOf(';', from) + 1;
  let depth = 0;
  for (let at = from; at < code.length; at += 1) {
    const sign = code[at] ?? '';
    if ('(['.includes(sign)) depth += 1;
    if (')]'.includes(sign)) depth -= 1;
    if (depth === 0 && (sign === ';' || sign === ',')) return at + 1;
    if (depth === 0 && sign === '{') return afterBraces(code, at);
  }
  return code.length;
}

/** Behind the brace that closes the one at `open`. @param {string} code @param {number} open */
function afterBraces(code, open) {
  let depth = 0;
  for (let at = open; at < code.length; at += 1) {
    if (code[at] === '{') depth += 1;
    if (code[at] === '}') depth -= 1;
    if (depth === 0) return at + 1;
  }
  return code.length;
}

/** The sets of more than one file that all lead to each other (Tarjan). @param {Graph} graph */
function circles(graph) {
  /** @type {Map<string, { index: number, low: number, isOpen: boolean }>} */
  const seen = new Map();
  /** @type {string[]} */
  const stack = [];
  /** @type {string[][]} */
  const found = [];
  /** @param {string} file */
  const visit = (file) => {
    const own = { index: seen.size, low: seen.size, isOpen: true };
    seen.set(file, own);
    stack.push(file);
    for (const next of graph.get(file) ?? []) {
      const other = seen.get(next) ?? visit(next);
      if (other.isOpen) own.low = Math.min(own.low, other.low);
    }
    if (own.low === own.index) {
      const circle = stack.splice(stack.indexOf(file));
      for (const name of circle) (seen.get(name) ?? own).isOpen = false;
      if (circle.length > 1) found.push(importsWithin(circle.sort(), graph));
    }
    return own;
  };
  for (const file of graph.keys()) if (!seen.has(file)) visit(file);
  return found;
}

/** @param {string[]} files @param {Graph} graph */
function importsWithin(files, graph) {
  return files.flatMap((file) => files.filter((other) => graph.get(file)?.has(other)).map((other) => `${file} -> ${other}`));
}

/** @param {string} folder */
function circlesOfModules(folder) {
  const files = readdirSync(join(ROOT, folder)).filter((name) => name.endsWith('.js')).map((name) => `${folder}/${name}`);
  /** @type {Graph} */
  const graph = new Map();
  for (const file of files) {
    const code = read(file).replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
    const imports = code.matchAll(/^(?:import|export)\b[^;'"()]*['"](\.[^'"]+)['"]/gm);
    graph.set(file, new Set([...imports].map(([, path = '']) => join(dirname(file), path))));
  }
  return circles(graph);
}

/** The shortest circle that an import is part of. @param {string} line @param {Iterable<string>} lines */
function shortest(line, lines) {
  const [from = '', to = ''] = line.split(' -> ');
  const ways = [[from, to]];
  const reached = new Set([to]);
  for (const way of ways) {
    if (way.at(-1) === from) return way;
    for (const other of lines) {
      const [start = '', end = ''] = other.split(' -> ');
      if (start !== way.at(-1) || reached.has(end)) continue;
      reached.add(end);
      ways.push([...way, end]);
    }
  }
  return [from, to];
}

/** The fewest circles that show all new imports, short ones first. @param {string[]} added @param {Iterable<string>} lines */
function circlesWith(added, lines) {
  const all = added.map((line) => shortest(line, lines)).sort((one, other) => one.length - other.length);
  /** @type {Set<string>} */
  const shown = new Set();
  return all.filter((way) => {
    const imports = way.slice(1).map((file, index) => `${way[index]} -> ${file}`);
    const isNew = imports.some((line) => added.includes(line) && !shown.has(line));
    for (const line of imports) shown.add(line);
    return isNew;
  });
}

const members = /members = \[([^\]]*)\]/.exec(read('Cargo.toml'))?.[1] ?? '';
const crates = [...members.matchAll(/"([^"]+)"/g)].map(([, folder = '']) => folder);
const found = [...crates.flatMap(circlesOfCrate), ...circlesOfModules('control/static')];
const present = new Set(found.flat());
if (process.argv.includes('--print')) {
  const texts = new Set(found.map((circle) => circle.join('\n')));
  console.log([...texts].sort().join('\n\n'));
  process.exit(0);
}
const known = new Set(read(LIST).split('\n').filter((line) => line !== '' && !line.startsWith('#')));
const added = [...present].filter((line) => !known.has(line));
const gone = [...known].filter((line) => !present.has(line));
const news = circlesWith(added, present);
for (const way of news.slice(0, MOST_SHOWN)) console.log(`new circle of imports: ${way.join(' -> ')}`);
if (news.length > MOST_SHOWN) console.log(`and ${news.length - MOST_SHOWN} longer ones`);
for (const line of gone) console.log(`${LIST}: no circle has this import any longer, remove the line: ${line}`);
process.exit(added.length + gone.length === 0 ? 0 : 1);
