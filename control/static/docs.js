/**
 * @file The page that shows `openapi.json`: each call with its parameters, its body and its answers,
 * schemas written out as a shape.
 */

import { CallError, readDescription } from './api.js';
import { byId, element, setText } from './dom.js';
import { onLanguage, startLanguage, words } from './i18n.js';

/** @typedef {import('./api.js').Description} Description */
/** @typedef {import('./api.js').Operation} Operation */
/** @typedef {import('./api.js').Schema} Schema */

async function start() {
  startLanguage();
  try {
    const description = await readDescription();
    const show = () => showDescription(description);
    onLanguage(show);
    show();
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    const place = byId('docs-problem', HTMLElement);
    place.hidden = false;
    const text = error.kind === 'away' ? words().awayFromStart : words().forbidden(error.message);
    place.replaceChildren(text, ' ', element('a', { href: '/login' }, words().signIn));
  }
}

/** @param {Description} description */
function showDescription(description) {
  setText(byId('docs-about', HTMLElement), description.info.description);
  const base = description.servers[0]?.url ?? '';
  const calls = Object.entries(description.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) =>
      callOf(description, `${method.toUpperCase()} ${base}${path}`, operation),
    ),
  );
  byId('docs-calls', HTMLElement).replaceChildren(...calls);
}

/**
 * @param {Description} description
 * @param {string} name method and path
 * @param {Operation} operation
 */
function callOf(description, name, operation) {
  const { docsParts } = words();
  const parameters = (operation.parameters ?? []).flatMap(({ name, in: where, description: about }) => [
    element('dt', { class: 'mono' }, name),
    element('dd', {}, `${where}${about === undefined ? '' : `: ${about}`}`),
  ]);
  const answers = Object.entries(operation.responses).flatMap(([status, answer]) => [
    element('dt', { class: 'mono' }, status),
    element('dd', {}, answer.description),
  ]);
  const good = operation.responses['200']?.content;
  return element(
    'details',
    {},
    element('summary', {}, element('strong', { class: 'mono' }, name), ` ${operation.summary}`),
    element(
      'div',
      { class: 'docs-call' },
      operation.description !== undefined && element('p', {}, operation.description),
      parameters.length > 0 && element('h3', {}, docsParts.parameters),
      parameters.length > 0 && element('dl', {}, ...parameters),
      ...shapeOf(description, docsParts.body, operation.requestBody?.content),
      ...shapeOf(description, docsParts.answer, good),
      element('h3', {}, docsParts.statuses),
      element('dl', {}, ...answers),
    ),
  );
}

/**
 * @param {Description} description
 * @param {string} title
 * @param {Record<string, {schema: Schema}> | undefined} content
 */
function shapeOf(description, title, content) {
  return Object.entries(content ?? {}).flatMap(([type, { schema }]) => [
    element('h3', {}, `${title} (${type})`),
    element('pre', { class: 'mono', tabindex: 0 }, written(description, schema, '')),
  ]);
}

/**
 * A schema as the text of a value of it.
 * @param {Description} description
 * @param {Schema} schema
 * @param {string} indent
 * @returns {string}
 */
function written(description, schema, indent) {
  const name = schema.$ref?.split('/').at(-1);
  const known = name === undefined ? schema : (description.components.schemas[name] ?? {});
  if (known.anyOf !== undefined) {
    return known.anyOf.map((choice) => written(description, choice, indent)).join(' | ');
  }
  const deeper = `${indent}  `;
  if (known.items !== undefined) return `[${written(description, known.items, indent)}, …]`;
  if (known.properties !== undefined) {
    const lines = Object.entries(known.properties).map(([key, inner]) => {
      const about = inner.description === undefined ? '' : `  // ${inner.description}`;
      return `${deeper}${key}: ${written(description, inner, deeper)},${about}\n`;
    });
    return `{\n${lines.join('')}${indent}}`;
  }
  if (known.enum !== undefined) return known.enum.map((value) => JSON.stringify(value)).join(' | ');
  return [known.type ?? 'any'].flat().join(' | ');
}

void start();
