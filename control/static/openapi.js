/**
 * @file The page that makes `/api/openapi.json` readable: each call with what it takes and answers.
 * Only what our own document uses of OpenAPI is known here.
 */

import { readOpenApi } from './api.js';
import { failureOutcome } from './changes.js';
import { byId, element, setText } from './dom.js';
import { onLanguage, words } from './i18n.js';

/** @typedef {Record<string, any>} Part of the document */

/** What the page does by itself. */
export const page = { start: () => onLanguage(write), enter: () => void read() };

/** @type {Part | null} */
let described = null;

async function read() {
  if (described !== null) return;
  try {
    described = /** @type {Part} */ (await readOpenApi());
    write();
  } catch (error) {
    byId('api-problem', HTMLElement).hidden = false;
    setText(byId('api-problem', HTMLElement), failureOutcome(error).text);
  }
}

function write() {
  if (described === null) return;
  const { info, servers, paths, components } = described;
  byId('api-problem', HTMLElement).hidden = true;
  setText(byId('api-about', HTMLElement), info.description ?? '');
  const base = (servers?.[0]?.url ?? '').replace(/\/$/, '');
  /** @type {[string, string, Part][]} */
  const calls = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(/** @type {Part} */ (methods)).map(([method, call]) => /** @type {[string, string, Part]} */ ([method, base + path, call])),
  );
  byId('api-calls', HTMLElement).replaceChildren(...calls.map(callElement));
  byId('api-schemas', HTMLElement).replaceChildren(
    ...Object.entries(/** @type {Part} */ (components.schemas)).map(([name, schema]) =>
      element('section', { class: 'api-call', id: `schema-${name}` }, element('h3', { class: 'mono' }, name), schemaElement(schema)),
    ),
  );
}

/** @param {[string, string, Part]} call its method, its path, what is said of it */
function callElement([method, path, call]) {
  const body = call.requestBody?.content;
  const title = element(
    'summary',
    {},
    element('span', { class: 'api-method mono', 'data-method': method }, method.toUpperCase()),
    element('span', { class: 'mono' }, path),
    element('span', { class: 'faint' }, call.summary ?? ''),
  );
  return element(
    'details',
    { class: 'api-call' },
    title,
    element('div', { class: 'api-inside' },
      call.description !== undefined && element('p', {}, call.description),
      ...section(words().apiTakes, (call.parameters ?? []).map(parameterElement)),
      ...section(words().apiBody, body === undefined ? [] : Object.entries(body).map(contentElement)),
      ...section(words().apiAnswers, Object.entries(call.responses ?? {}).map(responseElement)),
    ),
  );
}

/**
 * @param {string} title
 * @param {Element[]} parts
 */
function section(title, parts) {
  return parts.length === 0 ? [] : [element('h4', {}, title), element('ul', { class: 'api-list' }, ...parts)];
}

/** @param {Part} parameter */
function parameterElement({ name, in: place, required, description, schema }) {
  return element('li', {},
    element('span', { class: 'mono' }, name), ` ${place}, `, typeText(schema), required ? `, ${words().apiRequired}` : '',
    ...(description === undefined ? [] : [': ', description]));
}

/** @param {[string, Part]} content */
function contentElement([type, { schema }]) {
  return element('li', {}, element('span', { class: 'mono faint' }, type), schemaElement(schema));
}

/** @param {[string, Part]} response */
function responseElement([status, { description, content = {} }]) {
  const parts = Object.entries(/** @type {Record<string, Part>} */ (content));
  return element('li', {},
    element('strong', { class: 'mono' }, status), ` ${description ?? ''}`,
    ...(status.startsWith('2') ? parts.map(([type, { schema }]) => element('div', {}, element('span', { class: 'mono faint' }, type), schemaElement(schema))) : []));
}

/** @param {Part | undefined} schema @returns {Element} */
function schemaElement(schema = {}) {
  const reference = referenceOf(schema);
  if (reference !== null) return element('p', {}, reference);
  if (schema.oneOf !== undefined) return element('div', {}, ...schema.oneOf.map(schemaElement));
  const required = new Set(schema.required ?? []);
  const properties = Object.entries(/** @type {Record<string, Part>} */ (schema.properties ?? {}));
  if (properties.length === 0) return element('p', {}, typeText(schema));
  return element('ul', { class: 'api-list' },
    ...properties.map(([name, part]) => {
      const inner = part.properties ?? part.items?.properties;
      return element('li', {},
        element('span', { class: 'mono' }, name), ' ', referenceOf(part) ?? typeText(part),
        required.has(name) && `, ${words().apiRequired}`,
        part.description !== undefined && `: ${part.description}`,
        inner !== undefined && schemaElement(part.properties ? part : part.items));
    }));
}

/** A link to the shape that is meant. @param {Part} schema */
function referenceOf(schema) {
  const reference = schema.$ref ?? schema.items?.$ref ?? schema.anyOf?.find((/** @type {Part} */ part) => part.$ref)?.$ref;
  if (typeof reference !== 'string') return null;
  const name = reference.slice(reference.lastIndexOf('/') + 1);
  const list = schema.items === undefined ? '' : '[]';
  return element('a', { href: `#schema-${name}`, class: 'mono' }, name + list);
}

/** @param {Part | undefined} schema */
function typeText(schema = {}) {
  const { type, const: only, minimum, maximum, default: initial, items } = schema;
  const choices = only === undefined ? schema.enum : [only];
  const parts = [
    choices === undefined ? [type ?? words().apiAny].flat().join(' | ') : choices.join(' | '),
    items?.type !== undefined && `[${items.type}]`,
    minimum !== undefined && `${minimum}..${maximum ?? ''}`,
    initial !== undefined && `= ${initial}`,
  ];
  return element('span', { class: 'mono faint' }, parts.filter(Boolean).join(' '));
}
