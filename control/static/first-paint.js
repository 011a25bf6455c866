/**
 * @file Sets the remembered theme and fold of the rail before anything is painted, so that a light
 * page never flashes dark. A classic script on purpose: modules run after the first paint. All else
 * is in main.js.
 */
try {
  document.documentElement.dataset.theme = localStorage.getItem('wicketgate.theme') ?? 'dark';
  document.documentElement.dataset.rail = localStorage.getItem('wicketgate.rail') ?? 'open';
} catch {
  // Storage may be forbidden; the page is then dark, as the markup says.
}
