/**
 * @file Sets the page that the address names, the remembered theme and the fold of the rail before
 * anything is painted, so that nothing flashes by, and tells where a file of the page does not come.
 * A classic script on purpose: modules run after the first paint, and not at all where one is missing.
 * All else is in main.js.
 */
const page = new URLSearchParams(location.search).get('page');
if (page !== null) document.documentElement.dataset.page = page;
try {
  document.documentElement.dataset.theme = localStorage.getItem('wicketgate.theme') ?? 'dark';
  document.documentElement.dataset.rail = localStorage.getItem('wicketgate.rail') ?? 'open';
} catch {
  // Storage may be forbidden; the page is then dark, as the markup says.
}

// A script's own error has the window as its target.
addEventListener(
  'error',
  ({ target }) => {
    if (target instanceof HTMLScriptElement || target instanceof HTMLLinkElement) tellOfMissing();
  },
  true,
);

/** Without it the page would look alive, and nothing on it would do anything. */
function tellOfMissing() {
  if (document.body === null) {
    addEventListener('DOMContentLoaded', tellOfMissing, { once: true });
    return;
  }
  if (document.getElementById('missing') !== null) return;
  const note = document.createElement('div');
  note.id = 'missing';
  note.setAttribute('role', 'alert');
  // In both languages: the words may be what is missing.
  for (const [lang, text] of [
    ['en', 'A part of this page could not be loaded.'],
    ['zh-CN', '本页面有一部分未能加载。'],
  ]) {
    const line = note.appendChild(document.createElement('span'));
    line.lang = lang ?? '';
    line.textContent = `${text} `;
  }
  const again = note.appendChild(document.createElement('button'));
  again.type = 'button';
  again.textContent = 'Reload 刷新';
  again.addEventListener('click', () => location.reload());
  document.body.prepend(note);
}
