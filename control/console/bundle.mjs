/**
 * @file Bundles the console's modules into static/bundle/: one file for what the first page needs, one
 * for each part that is loaded later. A browser then asks for five files and not for forty, half as
 * large. The server serves the modules themselves where there is no bundle, or an older one.
 */

import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { rolldown } from 'rolldown';

const folder = join(import.meta.dirname, '..', 'static');
const out = join(folder, 'bundle');

/** Both pages of the console begin with these; `overview.js` is the first page for most. */
const ENTRIES = ['main.js', 'login.js'];
const first = withImports([...ENTRIES, 'overview.js']);
// What they do when they are run is for their own page.
for (const name of ENTRIES) first.delete(join(folder, name));

/** What the page holds, under the modules' own names: the tests read it. */
const HELD = ['failures.js', 'history.js', 'stored-series.js'];

rmSync(out, { recursive: true, force: true });
const bundle = await rolldown({
  input: Object.fromEntries([...ENTRIES, ...HELD].map((name) => [name.replace('.js', ''), join(folder, name)])),
});
await bundle.write({
  dir: out,
  format: 'esm',
  minify: true,
  entryFileNames: '[name].js',
  // The server finds a page's part by its module's name.
  chunkFileNames: '[name].js',
  codeSplitting: { groups: [{ name: 'first', test: (/** @type {string} */ id) => first.has(id) }] },
});
await bundle.close();

/** The modules and all that they import, but for what they load later. @param {string[]} names */
function withImports(names) {
  /** @type {Set<string>} */
  const known = new Set();
  const add = (/** @type {string} */ name) => {
    const path = join(folder, name);
    if (known.has(path)) return;
    known.add(path);
    for (const [, imported] of readFileSync(path, 'utf8').matchAll(/^(?:import|export|\} from)\b.*? ?from '\.\/([\w.-]+)'/gm)) add(imported);
  };
  names.forEach(add);
  return known;
}
