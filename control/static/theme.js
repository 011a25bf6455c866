/**
 * @file Dark, light, or what the system says. The choice is remembered; `first-paint.js` reads the
 * same key before the first paint. What the themes look like is in style.css.
 */

import { remember } from './storage.js';

/** Binds the three radio buttons of the top bar. */
export function startTheme() {
  const chosen = document.documentElement.dataset.theme ?? 'dark';
  for (const radio of document.querySelectorAll('input[name="theme"]')) {
    if (!(radio instanceof HTMLInputElement)) continue;
    radio.checked = radio.value === chosen;
    radio.addEventListener('change', () => {
      document.documentElement.dataset.theme = radio.value;
      remember('theme', radio.value);
    });
  }
}
