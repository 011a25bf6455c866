/**
 * @file The one tooltip: what stands behind a number or a word, on hover and on focus, and under a finger
 * that rests. Its text is made when it is shown, and made anew each second while it stays, so that ages
 * are true.
 */

import { byId, setText } from './dom.js';

const GAP = 6;
const MARGIN = 8;
/** A finger that rests so long asks, and presses nothing. */
const REST_MS = 500;

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
  startTouch();
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

/** A finger has no hover: resting is what asks, and the press that would follow is none. */
function startTouch() {
  let timer = 0;
  let hasAsked = false;
  document.addEventListener('pointerdown', ({ target, pointerType }) => {
    if (pointerType !== 'touch') return;
    hasAsked = false;
    show(null);
    const owner = ownerOf(target);
    if (owner === null) return;
    timer = setTimeout(() => {
      hasAsked = true;
      show(owner);
    }, REST_MS);
  });
  // The browser cancels the pointer of a finger that scrolls.
  for (const end of ['pointerup', 'pointercancel']) document.addEventListener(end, () => clearTimeout(timer));
  for (const name of ['click', 'contextmenu']) {
    document.addEventListener(
      name,
      (event) => {
        if (!hasAsked) return;
        if (name === 'click') hasAsked = false;
        event.preventDefault();
        event.stopPropagation();
      },
      true,
    );
  }
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
  const top = isRoomBelow ? place.bottom + GAP : Math.max(MARGIN, place.top - GAP - box.offsetHeight);
  // Moved and not placed: then it is no shift of the layout.
  box.style.transform = `translate(${Math.max(MARGIN, left)}px, ${top}px)`;
}
