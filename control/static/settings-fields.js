/**
 * @file Which settings can be edited, in what order and by what kind of field. What they mean is in
 * the words; what they default to and may be is the server's to say, and stands nowhere else.
 */

/**
 * @typedef {object} Field
 * @property {string} pointer where it stands in what `POST /api/settings` takes, as a JSON pointer
 * @property {'number' | 'text' | 'list'} [kind] what is typed; a text where nothing is said
 * @property {string[]} [choices] one of these
 * @property {string} [unit]
 */

/**
 * @typedef {object} Group
 * @property {keyof ReturnType<typeof import('./i18n.js').words>['settingGroup']} name
 * @property {string | null} whole the pointer of an object that is only ever replaced as a whole
 * @property {Field[]} fields
 */

const SWITCH = ['true', 'false'];

/**
 * @param {string} of pointer of the object that they are in
 * @param {string} names of numbers, by spaces; their unit is the end of their name
 * @returns {Field[]}
 */
function numbers(of, names) {
  return names.split(' ').map((name) => ({ pointer: `${of}/${name}`, kind: 'number', unit: unitOf(name) }));
}

/** @param {string} name */
function unitOf(name) {
  const unit = /_(ms|us|percent)$/.exec(name)?.[1] ?? '';
  return { ms: 'ms', us: 'µs', percent: '%' }[unit] ?? '';
}

/** @type {Group[]} */
export const GROUPS = [
  {
    name: 'listen',
    whole: null,
    fields: [
      { pointer: '/listen/host' },
      ...numbers('/listen', 'port'),
      { pointer: '/listen/tcp', choices: SWITCH },
      { pointer: '/listen/udp', choices: SWITCH },
    ],
  },
  {
    name: 'sessions',
    whole: null,
    fields: [
      ...numbers('/proxy', 'connect_timeout_ms connect_attempts idle_timeout_ms half_close_timeout_ms drain_timeout_ms backend_gone_timeout_ms max_sessions busy_poll_us'),
      { pointer: '/proxy/session_log', choices: ['all', 'failures', 'off', 'unlimited'] },
    ],
  },
  {
    name: 'flows',
    whole: null,
    fields: [
      ...numbers('/proxy', 'udp_idle_ms udp_responses max_flows'),
      { pointer: '/proxy/udp_peers', kind: 'list' },
    ],
  },
  {
    name: 'warming',
    whole: null,
    fields: [{ pointer: '/proxy/warming_share', choices: ['tenth', 'none'] }, ...numbers('/proxy', 'slow_start_ms')],
  },
  {
    name: 'health',
    whole: '/proxy/health',
    fields: [
      { pointer: '/proxy/health/probe', choices: ['off', 'tcp', 'send_expect', 'http', 'udp'] },
      ...numbers('/proxy/health', 'interval_ms jitter_percent timeout_ms rise fall port'),
      { pointer: '/proxy/health/http_path' },
      { pointer: '/proxy/health/http_host' },
      { pointer: '/proxy/health/http_status', kind: 'list' },
      { pointer: '/proxy/health/send' },
      { pointer: '/proxy/health/expect' },
    ],
  },
  { name: 'allDown', whole: null, fields: [{ pointer: '/proxy/all_down', choices: ['fail_open', 'reject'] }] },
  { name: 'ejection', whole: '/proxy/ejection', fields: numbers('/proxy/ejection', 'failures base_ms max_ms max_percent') },
  {
    name: 'gpuAware',
    whole: '/proxy/gpu_aware',
    fields: numbers(
      '/proxy/gpu_aware',
      'idle_weight vram_soft vram_full vram_hard vram_cost vram_hard_cost vram_per_load gpu_cost failure_cost failure_cap failure_half_life_ms slowness_min slowness_max latency_samples latency_memory_ms trial_interval_ms ramp_ms heartbeat_ms scan_limit samples',
    ),
  },
];

/** Every field of every group. */
export const FIELDS = GROUPS.flatMap(({ fields }) => fields);

/**
 * The value at a JSON pointer.
 * @param {unknown} document
 * @param {string} pointer
 * @returns {unknown} undefined where there is none
 */
export function valueAt(document, pointer) {
  /** @type {any} */
  let value = document;
  for (const key of pointer.split('/').slice(1)) value = value?.[key];
  return value ?? undefined;
}

/**
 * Who set what is in force at a pointer. An object that is only ever replaced as a whole hides all of it
 * that is below.
 * @param {import('./api.js').SettingsAnswer} settings
 * @param {string} pointer
 * @returns {'api' | 'file' | 'default'}
 */
export function originOf({ by_api: byApi, by_file: byFile }, pointer) {
  if (valueAt(byApi, pointer) !== undefined) return 'api';
  const whole = GROUPS.find(({ fields }) => fields.some((field) => field.pointer === pointer))?.whole ?? null;
  const isHidden = whole !== null && valueAt(byApi, whole) !== undefined;
  return !isHidden && valueAt(byFile, pointer) !== undefined ? 'file' : 'default';
}

/**
 * What is typed, as a value; what cannot be read as its kind goes to the server as it stands, which
 * says what is allowed.
 * @param {Field} field
 * @param {string} text not empty
 * @returns {unknown}
 */
function valueOf({ kind = 'text', choices }, text) {
  if (choices === SWITCH) return text === 'true';
  if (kind === 'number') return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
  if (kind === 'list') return text.split(/[\s,–-]+/).map((part) => (/^\d+$/.test(part) ? Number(part) : part));
  return text;
}

/** @param {unknown} value @returns {string} as it is typed */
export function textOf(value) {
  if (value === undefined) return '';
  return Array.isArray(value) ? value.join(' ') : String(value);
}

/**
 * What to send for the fields that were changed: a field that was emptied is given back; an object
 * that is only ever replaced as a whole goes whole, with what somebody else has changed in it since.
 * @param {Map<string, string>} texts what is typed, by pointer
 * @param {object} shown what the fields were filled from
 * @param {object} now what is in force
 * @returns {Record<string, unknown>} nothing in it where nothing was changed
 */
export function patchOf(texts, shown, now) {
  /** @type {Record<string, unknown>} */
  const patch = {};
  for (const { whole, fields } of GROUPS) {
    const changed = fields.filter(({ pointer }) => texts.get(pointer) !== textOf(valueAt(shown, pointer)));
    if (changed.length === 0) continue;
    if (whole !== null) {
      const object = { .../** @type {object} */ (valueAt(now, whole) ?? {}) };
      for (const field of changed) put(object, field.pointer.slice(whole.length), field, texts);
      const left = Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null));
      putAt(patch, whole, Object.keys(left).length === 0 ? null : left);
    } else {
      for (const field of changed) put(patch, field.pointer, field, texts);
    }
  }
  return patch;
}

/**
 * @param {Record<string, unknown>} object
 * @param {string} pointer
 * @param {Field} field
 * @param {Map<string, string>} texts
 */
function put(object, pointer, field, texts) {
  const text = texts.get(field.pointer) ?? '';
  putAt(object, pointer, text.trim() === '' ? null : valueOf(field, text));
}

/**
 * @param {Record<string, unknown>} object
 * @param {string} pointer
 * @param {unknown} value
 */
function putAt(object, pointer, value) {
  const keys = pointer.split('/').slice(1);
  const last = keys.pop() ?? '';
  /** @type {any} */
  let place = object;
  for (const key of keys) place = place[key] ??= {};
  place[last] = value;
}
