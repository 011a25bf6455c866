/**
 * @file The demonstration of batching: the VRAM of backends that serve small requests together, beside
 * that of those that serve each by itself.
 */

import { Charts, haveCharts } from './charts.js';
import { byId, setText } from './dom.js';
import { percentText } from './format.js';
import { batchingOf, history, meanOf } from './history.js';
import { words } from './i18n.js';

/** @typedef {import('./shapes.js').WholeAnswer} WholeAnswer */

/** What the page does by itself. */
export const page = { start, update };

/** @type {import('./charts.js').Chart[]} */
const CHARTS = [{ name: 'batch', series: ['unbatched', 'batched'], write: percentText, range: [0, 1], height: 280 }];

/** @type {Charts | null} null before the start */
let charts = null;

function start() {
  charts = new Charts(byId('batch-places', HTMLElement), CHARTS);
  byId('batch-missing', HTMLElement).hidden = haveCharts();
  writeCommands();
}

/** As one types them in the root of the repository. */
function writeCommands() {
  const program = 'control/scripts/sim_backend_register_batch';
  const base = `--base ${location.origin}`;
  const lines = [
    `${program} ${base} --mode nobatch --port 19006`,
    `${program} ${base} --mode batch   --port 19007`,
  ];
  setText(byId('batch-commands', HTMLElement), lines.join('\n'));
}

/** @param {WholeAnswer} whole */
function update({ backends }) {
  const now = /** @type {const} */ (['unbatched', 'batched']).map((kind) => {
    const shares = backends.filter((backend) => batchingOf(backend) === kind).map((backend) => backend.vram_usage);
    const { mean, count } = meanOf(shares);
    setText(byId(`batch-${kind}`, HTMLElement), percentText(mean));
    setText(byId(`batch-${kind}-note`, HTMLElement), words().meanHint(count));
    return mean;
  });
  const [unbatched = null, batched = null] = now;
  const isBoth = unbatched !== null && batched !== null;
  setText(byId('batch-saved', HTMLElement), isBoth && unbatched > 0 ? percentText(1 - batched / unbatched) : percentText(null));
  const hasHistory = history().some((sample) => sample.batched !== null || sample.unbatched !== null);
  byId('batch-empty', HTMLElement).hidden = hasHistory;
  byId('batch-places', HTMLElement).hidden = !hasHistory;
  charts?.draw();
}
