/**
 * @file Room for the dock. It stands over the end of the page, so the page ends with as much room as the dock is high:
 * the last row can be scrolled clear of it, and what has the focus is never under it (WCAG 2.2, 2.4.11).
 */

import { byId } from './dom.js';

/** Pixels. @type {Map<Element, number>} */
const heights = new Map();
let room = 0;

export function startDock() {
  const observer = new ResizeObserver((entries) => {
    for (const { target, borderBoxSize } of entries) heights.set(target, borderBoxSize[0]?.blockSize ?? 0);
    const height = Math.ceil([...heights.values()].reduce((sum, part) => sum + part, 0));
    // The room never shrinks: a page that is scrolled to its end would move under the finger.
    if (height <= room) return;
    room = height;
    document.documentElement.style.setProperty('--dock-room', `${room}px`);
  });
  for (const id of ['newest', 'pending']) observer.observe(byId(id, HTMLElement));
}
