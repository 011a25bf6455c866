/**
 * @file English. Every string of the page; words-zh.js has the same names, which `tsc` checks.
 */

/**
 * @param {number} count
 * @param {string} noun
 */
function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

export const en = {
  title: 'Wicketgate',
  skip: 'Skip to backends',
  language: 'Language',
  theme: 'Theme',
  dark: 'Dark',
  light: 'Light',
  auto: 'Auto',
  help: 'Keyboard help',
  close: 'Close',
  span: {
    seconds: (/** @type {number} */ count) => `${count} s`,
    minutes: (/** @type {number} */ count) => `${count} min`,
    hours: (/** @type {number} */ count) => `${count} h`,
    days: (/** @type {number} */ count) => `${count} d`,
  },

  // The top bar
  proxyUnknown: 'Proxy: asking…',
  proxyRunning: 'Proxy running',
  proxyStopped: 'Proxy not running',
  generation: (/** @type {number} */ number) => `generation ${number}`,
  appliedAgo: (/** @type {string} */ span) => `applied ${span} ago`,
  notAppliedYet: (/** @type {number} */ number) => `generation ${number} not applied yet`,
  refusedGeneration: (/** @type {string} */ number) => `generation ${number} refused`,
  proxySilent: 'Proxy tells no status',
  updatedAgo: (/** @type {string} */ span) => `updated ${span} ago`,

  // The figures
  figures: 'Overview',
  takingTraffic: 'Taking traffic',
  notUp: (/** @type {number} */ down) => `${down} down, ejected or expired`,
  noneDown: 'none down',
  allDown: {
    reject: 'all down: nothing new is taken',
    fail_open: 'all down: used all the same',
  },
  sessions: 'Sessions',
  sessionsRate: (/** @type {string} */ rate) => `${rate} new/s`,
  flows: 'UDP flows',
  flowsUnit: 'open now',
  traffic: 'Traffic to clients',
  trafficBack: (/** @type {string} */ rate) => `${rate} to backends`,
  firstByte: 'First byte',
  firstByteUnit: (/** @type {string} */ p99) => `median · p99 ${p99}`,
  gpuMean: 'GPU usage',
  vramMean: 'VRAM usage',
  meanHint: (/** @type {number} */ count) =>
    count === 0 ? 'none reports it' : `mean of ${count} that report`,
  algorithm: (/** @type {string} */ name) => `algorithm ${name}`,
  lastPublish: (
    /** @type {string} */ time,
    /** @type {string} */ generation,
    /** @type {string} */ result,
  ) => `${generation} published at ${time}: ${result}`,
  noProxyFigures: 'the proxy tells none',

  // The banner
  away: (/** @type {string} */ time) =>
    `The control server does not answer. Shown is what it said at ${time}. Traffic goes on without it; this page tries again every 2 s.`,
  awayFromStart:
    'The control server does not answer. Traffic goes on without it; this page tries again every 2 s.',
  stale: (/** @type {string} */ time) =>
    `The data is old: the last answer came at ${time}. Numbers below may have changed since.`,
  forbidden: (/** @type {string} */ reason) =>
    `The control server does not let this browser read: ${reason || 'it gives no reason'}`,
  troubled: (/** @type {string} */ reason) => `The control server answered with an error: ${reason}`,
  token: 'Token',
  useToken: 'Use token',
  tokenHint: 'Kept in this tab only, and forgotten when it closes.',
  forgetToken: 'Forget token',
  warnings: 'Warnings',

  // The table
  backends: 'Backends',
  filter: 'Filter',
  filterHint: 'Address, source or state  ( / )',
  clearFilter: 'Clear filter',
  hidden: (/** @type {number} */ count) => `${count} hidden by filter`,
  count: (/** @type {number} */ count) => counted(count, 'backend'),
  refresh: 'Refresh',
  refreshHint: 'Read everything anew (r)',
  refreshed: (/** @type {number} */ count) => `${counted(count, 'backend')} read`,
  ping: 'Ping',
  pingHint: 'Open the ping tool (p)',
  sync: 'Sync',
  syncHint: 'Merge all sources, publish and signal the proxy (s)',
  orderHeld: 'Order held while you are in the table',
  column: {
    state: 'State',
    address: 'Backend',
    source: 'Source',
    weight: 'Weight',
    gpu: 'GPU usage',
    vram: 'VRAM usage, last 3 min',
    sessions: 'Sessions',
    latency: 'First byte',
    seen: 'Heartbeat',
    actions: 'Actions',
  },
  sortBy: (/** @type {string} */ column) => `Sort by ${column}`,
  noBackends: 'No backends yet.',
  noBackendsHint:
    'Start an agent or a demo backend, or write control/data/k8s_endpoints.json; they appear here by themselves.',
  nothingMatches: 'No backend matches the filter.',
  loading: 'Loading…',
  admin: { ready: 'ready', drain: 'draining', disabled: 'disabled' },
  operational: {
    up: 'up',
    down: 'down',
    checking: 'not tried yet',
    warming: 'warming up',
    ejected: 'ejected',
    expired: 'expired',
    unknown: 'not known',
  },
  noProxyWord: 'The proxy says nothing of it.',
  gone: 'no longer listed',
  source: (/** @type {string} */ source) =>
    source === 'k8s' ? 'discovered' : source === 'runtime' ? 'registered' : source,
  override: 'override',
  overrideHint: (/** @type {string} */ parts) =>
    `Set by an operator: ${parts}. It stands above what the backend or discovery says.`,
  overrideWeight: (/** @type {number} */ weight) => `weight ${weight}`,
  clearOverride: 'Clear override',
  clearOverrideOf: (/** @type {string} */ address) => `Clear the override of ${address}`,
  weightOf: (/** @type {string} */ address) => `Weight of ${address}`,
  effective: (/** @type {number} */ weight) => `counts as ${weight}`,
  effectiveHint: 'The weight that new sessions are given by: after algorithm, state and warm-up.',
  save: 'Save',
  saveWeightOf: (/** @type {string} */ address) => `Save the weight of ${address}`,
  applying: 'applying…',
  weightRange: 'Only 0 to 1000',
  enabledOf: (/** @type {string} */ address) => `${address} enabled`,
  enabled: 'On',
  disabled: 'Off',
  drain: 'Drain',
  drainOf: (/** @type {string} */ address) => `Drain ${address}: no new sessions, open ones finish`,
  pingOf: (/** @type {string} */ address) => `Ping ${address}`,
  usageOf: (/** @type {string} */ what, /** @type {string} */ share) => `${what} ${share}`,
  usageUnknown: (/** @type {string} */ what) => `${what} not reported`,
  vramGuard: { calm: '', near: 'above 80%', high: 'above 92%', full: 'above 97%' },
  vramSpan: (/** @type {string} */ low, /** @type {string} */ high) =>
    `VRAM over the last 3 minutes: ${low} to ${high}`,
  noVramYet: 'No VRAM reports yet',
  never: 'discovery alone knows it: it sends no heartbeats',
  expiresIn: (/** @type {string} */ span) => `expires in ${span} unless it is heard again`,
  sessionsOf: (
    /** @type {number} */ total,
    /** @type {number} */ failed,
    /** @type {string} */ firstByte,
  ) =>
    `${counted(total, 'session')} since the proxy started, ${counted(failed, 'failed connect')}, first byte after ${firstByte}`,

  // The status area
  status: 'Status',
  statusEmpty: 'What you change and what came of it appears here.',
  undo: 'Undo',
  weightChange: (
    /** @type {string} */ address,
    /** @type {number} */ before,
    /** @type {number} */ after,
  ) => `Weight of ${address} ${before} → ${after}`,
  enableChange: (/** @type {string} */ address) => `Enable ${address}`,
  disableChange: (/** @type {string} */ address) => `Disable ${address}`,
  drainChange: (/** @type {string} */ address) => `Drain ${address}`,
  undrainChange: (/** @type {string} */ address) => `End the drain of ${address}`,
  overrideCleared: (/** @type {string} */ address) => `Clear the override of ${address}`,
  appliedIn: (/** @type {number | null} */ milliseconds) =>
    milliseconds === null ? 'applied' : `applied in ${milliseconds} ms`,
  signalled: 'saved, proxy signalled',
  noReload: 'nothing to reload',
  acknowledgeExpiry: 'Let the silent registrations expire',
  notConfirmed: 'saved and signalled, but the proxy did not confirm it',
  notSignalled: 'saved, but the proxy was not signalled',
  notPublished: (/** @type {string} */ reason) => `not published: ${reason}`,
  mergedCount: (/** @type {number} */ count) => `${counted(count, 'backend')} published`,
  failed: (/** @type {string} */ reason) => `not done: ${reason}`,
  failedAway: 'not known to be done: the control server did not answer',
  failedForbidden: (/** @type {string} */ reason) => `not allowed: ${reason}`,

  // Ping and audit
  log: 'Log',
  pingTool: 'Ping tool',
  pingTarget: 'Address',
  pingTargets: 'Backends of the table and 127.0.0.1 can be pinged.',
  startPing: 'Start ping',
  pinging: 'Pinging…',
  pingDone: 'done, see the log',
  pingEmpty: 'No ping yet.',
  pingOutput: 'Ping output',
  auditLog: 'Audit log',
  viewAudit: 'View audit log',
  auditLines: 'Lines',
  auditEmpty: 'The audit log is empty.',
  repeated: (/** @type {number} */ count) => counted(count, 'more time'),
  heartbeats: (/** @type {number} */ count, /** @type {number} */ backends) =>
    `${counted(count, 'heartbeat')} of ${counted(backends, 'backend')} changed nothing`,
  auditFailed: (/** @type {string} */ reason) => `The audit log cannot be read: ${reason}`,

  // Help
  keys: {
    filter: 'Filter the table',
    refresh: 'Read everything anew',
    ping: 'Open the ping tool',
    sync: 'Sync: merge, publish, signal the proxy',
    audit: 'View the audit log',
    help: 'This help',
    escape: 'Take back an edit, clear the filter, close a dialog',
    enter: 'Save the weight that is being edited',
  },
};
