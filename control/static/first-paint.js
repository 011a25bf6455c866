/**
 * @file Sets the page that the address names, the remembered theme and the fold of the rail before
 * anything is painted, so that nothing flashes by. A classic script on purpose: modules run after the
 * first paint. All else is in main.js.
 */
const page = new URLSearchParams(location.search).get('page');
if (page !== null) document.documentElement.dataset.page = page;
try {
  document.documentElement.dataset.theme = localStorage.getItem('wicketgate.theme') ?? 'dark';
  document.documentElement.dataset.rail = localStorage.getItem('wicketgate.rail') ?? 'open';
} catch {
  // Storage may be forbidden; the page is then dark, as the markup says.
}
