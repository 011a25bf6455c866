/**
 * @file The log area's tabs, by the pattern that screen readers know: arrows move, one is in the
 * tab order.
 */

/**
 * Binds the tabs inside `root`: buttons of role tab, each naming its panel by `aria-controls`.
 * @param {HTMLElement} root
 * @returns {(id: string) => void} chooses the tab with that id
 */
export function startTabs(root) {
  const tabs = [...root.querySelectorAll('[role=tab]')].filter((tab) => tab instanceof HTMLElement);

  /** @param {HTMLElement} chosen */
  function choose(chosen) {
    for (const tab of tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute('aria-selected', String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      const panel = document.getElementById(tab.getAttribute('aria-controls') ?? '');
      if (panel !== null) panel.hidden = !isChosen;
    }
  }

  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener('click', () => choose(tab));
    tab.addEventListener('keydown', (event) => {
      const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
      const next = tabs.at((index + step) % tabs.length);
      if (step === 0 || next === undefined) return;
      choose(next);
      next.focus();
    });
  }
  return (id) => {
    const tab = tabs.find((known) => known.id === id);
    if (tab !== undefined) choose(tab);
  };
}
