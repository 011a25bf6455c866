/**
 * @file Building elements. Data only ever enters the page through `textContent` and through
 * attributes set one by one, so nothing that a backend or a log line says can become markup.
 */

/** @typedef {Node | string | null | undefined | false} Child */
/** @typedef {Record<string, string | number | boolean | ((event: any) => void) | null | undefined>} Attributes */

/**
 * Makes an element. An attribute that is false, null or undefined is left out; one that is a
 * function, as `onclick`, listens.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children strings become text
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  setAttributes(made, attributes);
  append(made, children);
  return made;
}

/**
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  setAttributes(made, attributes);
  append(made, children);
  return made;
}

/**
 * The element of the page's own markup with this id.
 * @template {HTMLElement} Kind
 * @param {string} id
 * @param {new () => Kind} kind
 * @returns {Kind}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`index.html has no ${kind.name} with id ${id}`);
  return found;
}

/**
 * Writes only what differs: an unchanged text node keeps a reader's selection and costs no layout.
 * @param {Element} target
 * @param {string} text
 */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * Makes as many children as there are items, and writes each; those that are there stay.
 * @template Item
 * @template {Element} Child
 * @param {Element} parent
 * @param {readonly Item[]} items
 * @param {() => Child} make
 * @param {(child: Child, item: Item) => void} write
 */
export function writeChildren(parent, items, make, write) {
  while (parent.children.length > items.length) parent.lastElementChild?.remove();
  while (parent.children.length < items.length) parent.append(make());
  for (const [at, item] of items.entries()) write(/** @type {Child} */ (parent.children[at]), item);
}

/**
 * @param {Element} target
 * @param {string} name
 * @param {string | null} value null removes it
 */
export function setAttribute(target, name, value) {
  if (value === null) target.removeAttribute(name);
  else if (target.getAttribute(name) !== value) target.setAttribute(name, value);
}

/**
 * @param {Element} target
 * @param {Attributes} attributes
 */
function setAttributes(target, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === 'function') target.addEventListener(name.replace(/^on/, ''), value);
    else target.setAttribute(name, value === true ? '' : String(value));
  }
}

/**
 * @param {Element} target
 * @param {Child[]} children
 */
function append(target, children) {
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) target.append(child);
  }
}
