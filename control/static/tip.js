/**
 * @file The one tooltip: what stands behind a number or a word, on hover and on focus. Its text is
 * made when it is shown, and made anew each second while it stays, so that ages are true.
 */

import { byId, setText } from './dom.js';

const GAP = 6;
const MARGIN = 8;

/** @type {WeakMap<Element, () => string>} */
const texts = new WeakMap();
/** @type {Element | null} */
let shown = null;

/**
 * @template {Element} Kind
 * @param {Kind} target
 * @param {() => string} text empty where there is nothing to say
 * @returns {Kind}
 */
export function tip(target, text) {
  texts.set(target, text);
  target.setAttribute('data-tip', '');
  return target;
}

/** Binds the tooltip to everything that has one, now and later. */
export function startTips() {
  document.addEventListener('pointerover', ({ target, pointerType }) => {
    if (pointerType !== 'touch') show(ownerOf(target));
  });
  document.addEventListener('focusin', ({ target }) => {
    if (target instanceof Element && target.matches(':focus-visible')) show(ownerOf(target));
  });
  document.addEventListener('focusout', () => show(null));
  document.addEventListener('keydown', ({ key }) => {
    if (key === 'Escape') show(null);
  });
  // Capturing, since scrolling does not bubble.
  document.addEventListener('scroll', () => show(null), true);
  setInterval(write, 1000);
}

/** @param {EventTarget | null} target */
function ownerOf(target) {
  return target instanceof Element ? target.closest('[data-tip]') : null;
}

/** @param {Element | null} owner */
function show(owner) {
  if (owner === shown) return;
  shown?.removeAttribute('aria-describedby');
  shown = owner;
  owner?.setAttribute('aria-describedby', 'tip');
  write();
}

function write() {
  const box = byId('tip', HTMLElement);
  const text = shown === null || !shown.isConnected ? '' : (texts.get(shown)?.() ?? '');
  box.hidden = text === '';
  if (text === '' || shown === null) return;
  setText(box, text);
  const place = shown.getBoundingClientRect();
  const left = Math.min(place.left, innerWidth - box.offsetWidth - MARGIN);
  const isRoomBelow = place.bottom + GAP + box.offsetHeight < innerHeight;
  box.style.left = `${Math.max(MARGIN, left)}px`;
  box.style.top = `${isRoomBelow ? place.bottom + GAP : Math.max(MARGIN, place.top - GAP - box.offsetHeight)}px`;
}
