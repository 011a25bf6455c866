/**
 * @file The shapes of what the control plane answers: types for `tsc`, which no page loads.
 */

/**
 * An operator's word on a backend, above what the backend and discovery say of it.
 * @typedef {object} Override
 * @property {number | null} [weight]
 * @property {boolean | null} [enabled]
 * @property {boolean | null} [drain]
 * @property {string} [actor] who set it last
 * @property {number} [at] when, in unix seconds
 */

/**
 * @typedef {object} Backend
 * @property {string} id `ip:port`, an IPv6 address in brackets; `pool/ip:port` in another pool than `default`
 * @property {string} [pool]
 * @property {string} ip
 * @property {number} port
 * @property {number} weight 0..1000
 * @property {number | null} gpu_usage 0..1
 * @property {number | null} vram_usage 0..1
 * @property {boolean} enabled
 * @property {boolean} is_warming_up
 * @property {number | null} last_seen unix seconds
 * @property {string} source who has the word: `k8s` or `runtime`, which an override is too
 * @property {string[]} [sources] all who know it, the strongest first: `override`, `runtime`, `k8s`
 * @property {Override | null} [override]
 * @property {{weight: number, enabled: boolean} | null} [without_override] what holds once it is cleared
 * @property {string} [state] the control plane's word: `expired` where its registration expired
 * @property {number | null} [expires_at_ms] when it expires unless it is heard again
 * @property {SeenBackend | null} proxy null where the proxy does not report it
 * @property {Cost | null} [cost] where the algorithm has one
 * @property {number | null} [reported_at_ms] when its GPU and VRAM were reported
 * @property {number | null} [queue] requests that wait there, by its own word
 * @property {number | null} [running] requests that it works on
 * @property {number | null} [max_batch] how many requests it serves together
 * @property {number | null} [batch_window_ms]
 */

/**
 * What one session more costs at a backend, with its parts, as `contract/src/cost.rs` says.
 * @typedef {object} Cost
 * @property {number} total
 * @property {number} in_flight
 * @property {number} weight in proportion to the mean of the pool
 * @property {number} slowness
 * @property {number} latency_samples
 * @property {number} warm_up
 * @property {number} failures
 * @property {{what: string, count: number, age_ms: number}[]} [failed] what they were, while they cost something
 * @property {number | null} vram_expected
 * @property {number} vram
 * @property {number} gpu
 * @property {number} report_weight
 * @property {number | null} report_age_ms
 */

/**
 * A state that a backend came into.
 * @typedef {object} Transition
 * @property {number} at_ms
 * @property {import('./state.js').Admin} admin
 * @property {import('./state.js').Operational} operational
 * @property {string} reason
 * @property {import('./state-reasons.js').StateReason[]} [reasons]
 */

/**
 * What one source says; an override may leave a part to the others.
 * @typedef {{weight?: number | null, enabled?: boolean | null, drain?: boolean | null, is_expired?: boolean, at?: number, actor?: string}} Layer
 */

/**
 * What the static list says of a backend; what it does not mention is left to discovery.
 * @typedef {{weight?: number | null, enabled?: boolean | null, is_warming_up?: boolean | null}} Said
 */

/**
 * What an override says; null is what it leaves to the others.
 * @typedef {{weight?: number | null, enabled?: boolean | null, drain?: boolean | null}} Parts
 */

/**
 * An edit by a person, with what it changed. Settings are those that the API has set.
 * @typedef {object} PastEdit
 * @property {number} number
 * @property {number} at_ms
 * @property {string} actor
 * @property {string} action
 * @property {string} target
 * @property {string | null} note
 * @property {number | null} [before_edit] of a roll back: the edit before which it restores the state
 * @property {{id: string, old: Parts, new: Parts}[]} overrides
 * @property {{old: Record<string, any>, new: Record<string, any>} | null} settings
 */

/**
 * What a way back changes.
 * @typedef {object} WayBack
 * @property {string} etag
 * @property {{id: string, old: {override: Parts | null}, new: {override: Parts | null, weight: number, enabled: boolean, drain: boolean}}[]} changes what follows for each backend
 * @property {{old: Record<string, any>, new: Record<string, any>} | null} settings
 * @property {string[]} gone backends that are no longer known
 */

/**
 * @typedef {object} Detail
 * @property {{override: Layer | null, registration: Layer | null, static: Layer | null, discovery: Layer | null}} layers the strongest first
 * @property {Transition[]} history the newest first
 * @property {import('./audit-line.js').Entry[]} edits lines of the audit log, the newest first
 * @property {import('./audit-line.js').Entry[]} settings_edits changes of settings, the newest first
 */

/**
 * What control still knows of a backend that is listed no more.
 * @typedef {object} Gone
 * @property {number | null} at_ms since when; null: since before control started
 * @property {string[]} sources who knew it last, the strongest first
 * @property {Transition[]} history the newest first
 * @property {import('./audit-line.js').Entry[]} edits the newest first
 */

/**
 * One thing that control finds, by its code; `args` are the figures of that code.
 * @typedef {object} Finding
 * @property {'ok' | 'degraded' | 'unknown' | 'down'} level
 * @property {string} code
 * @property {Record<string, any>} args
 * @property {number | null} since unix milliseconds; null: since before control started
 * @property {string} text the same in English
 */

/**
 * What clients met in the last minute.
 * @typedef {object} Traffic
 * @property {number} window_s what the figures cover
 * @property {number} sessions began or ended, whichever are more
 * @property {number} new_sessions
 * @property {number} failed
 * @property {number | null} failed_share
 * @property {number} failed_per_s
 * @property {Record<string, number>} failed_reasons
 * @property {number} retries
 * @property {number} flows
 * @property {number} flows_failed
 * @property {number | null} flows_failed_share
 * @property {Record<string, number>} flows_ended
 * @property {number} datagrams_dropped
 * @property {Record<string, number>} dropped_reasons
 */

/**
 * Whether traffic flows: the worst that is found, and all else that is, the worst first.
 * @typedef {Finding & {others: Finding[], pools: Record<string, Finding>, traffic: Traffic, at_ms: number}} Verdict
 */

/**
 * What is known of one proxy.
 * @typedef {{name: string, is_local: boolean, published_generation: number | null, generation: number | null, applied: boolean | null, level: string, code: string}} KnownProxy
 */

/**
 * The whole, by `/api/v1`. `proxy` is the one of this node, which `proxies` has too.
 * @typedef {object} WholeAnswer
 * @property {string} etag of the edits as they stand
 * @property {Omit<ProxyAnswer, 'status'> & {proxy: ProxyStatus | null, proxies?: KnownProxy[], verdict?: Verdict, failures?: import('./history.js').Failures, warnings?: string[], freeze?: object | null, at_ms: number, etag?: string, audit_seq?: number, ttl_ms?: number, protected?: boolean, updated_at?: number | null, k8s_updated_at?: number | null, runtime_updated_at?: number | null}} status
 * @property {Backend[]} backends
 */

/**
 * An edit of one backend's override; `null` gives a part back to the backend and to discovery.
 * @typedef {object} Edit
 * @property {string} id
 * @property {number | null} [weight]
 * @property {boolean | null} [enabled]
 * @property {boolean | null} [drain]
 */

/**
 * One backend as the proxy sees it.
 * @typedef {object} SeenBackend
 * @property {boolean} configured
 * @property {'ready' | 'drain' | 'disabled'} admin
 * @property {'up' | 'down' | 'checking' | 'warming' | 'ejected'} operational
 * @property {string} reason in English
 * @property {import('./state-reasons.js').StateReason[]} [reasons] absent from older proxies
 * @property {number} weight
 * @property {number} weight_effective
 * @property {number} sessions_active
 * @property {number} sessions_total
 * @property {number} flows_active
 * @property {number} flows_total
 * @property {number} bytes_up
 * @property {number} bytes_down
 * @property {number} connect_failures
 * @property {number} connect_timeouts
 * @property {Record<string, number>} [sessions_failed] after the connect, by reason
 * @property {Record<string, number>} [flows_failed] by reason; `connect_failures` counts refused ones, too
 * @property {number | null} [connect_latency_us]
 * @property {number | null} [first_byte_latency_us]
 * @property {number} [probes_total]
 * @property {number} [probe_failures_total]
 * @property {number | null} [probed_at_ms]
 * @property {string | null} [probe_result]
 * @property {{failure: string, status?: number} | null} [probe_failure]
 * @property {number | null} [probe_latency_us]
 * @property {number} [session_failures_in_row]
 * @property {number} [ejections_total]
 * @property {number | null} [ejected_for_ms]
 * @property {number} [slow_start]
 * @property {SeenBackend['operational'] | null} [tcp] the state over TCP alone; null where no listener takes it
 * @property {SeenBackend['operational'] | null} [udp]
 */

/**
 * @typedef {object} ProxyStatus
 * @property {string} version
 * @property {number} pid
 * @property {number} generation
 * @property {number} loaded_at_ms
 * @property {{at_ms: number, ok: boolean, generation: number | null, reason: string | null} | null} last_reload
 * @property {number} started_at_ms
 * @property {boolean} [draining]
 * @property {number} [reloads_ok]
 * @property {number} [reloads_refused]
 * @property {{sessions_active: number, sessions_total: number, flows_active: number}[]} [workers]
 * @property {{max_sessions: number, max_flows: number, accept_pauses: number, log_lines_dropped: number}} [limits]
 * @property {string} algorithm
 * @property {{addr: string, tcp: boolean, udp: boolean}[]} listeners
 * @property {{probe?: string, all_down?: string, ejections_spared?: number, tcp: ProtocolHealth, udp: ProtocolHealth}} [health] absent from older proxies
 * @property {{sessions_active: number, sessions_total: number, flows_active: number, flows_total: number, bytes_up: number, bytes_down: number, connect_retries?: number, sessions_ended?: Record<string, number>, flows_ended?: Record<string, number>, datagrams_dropped?: Record<string, number>, first_byte?: {sum_us: number, buckets: [number, number][]}}} totals `first_byte` is absent from older proxies
 */

/**
 * What health left of the backends for one protocol.
 * @typedef {object} ProtocolHealth
 * @property {number} ready
 * @property {number} available
 * @property {'reject' | 'fail_open' | null} all_down_in_force the rule, while all are out
 */

/** @typedef {{proxy: string, control: string, message: string}} OtherFile the two paths */

/**
 * A part of the configuration that the proxy refuses.
 * @typedef {object} ProxyRefusal
 * @property {string} code
 * @property {string} place JSON pointer; empty for the whole file
 * @property {string} value
 * @property {string} detail what the proxy said
 * @property {number} since unix milliseconds
 * @property {unknown} kept what stays in force
 * @property {number | null} try_again_s null where only a restart of the proxy helps
 * @property {string} message the same as a sentence of the server
 */

/**
 * @typedef {object} ProxyAnswer
 * @property {boolean} running
 * @property {ProxyStatus | null} status null where the proxy has no admin socket
 * @property {string | null} [why] why it gives no status
 * @property {number} published_generation
 * @property {Publish | null} last_publish null before the first
 * @property {boolean | null} [verified] whether what it runs is known by its digest; false for an older proxy
 * @property {OtherFile | null} [other_file] where it reads another file than control writes
 * @property {ProxyRefusal[]} [refusals]
 */

/**
 * The last time that the control plane published and signalled, on whosever word.
 * @typedef {object} Publish
 * @property {number} at_ms
 * @property {number} generation
 * @property {boolean} signalled
 * @property {string} info
 * @property {boolean | null} applied null where it cannot be known
 * @property {string | null} reason why it was not applied, or why it cannot be known
 * @property {number | null} applied_in_ms
 */

/**
 * @typedef {object} Sync
 * @property {boolean} ok stored and published
 * @property {string} reason
 * @property {Reload} reload
 * @property {number} merged_count
 */

/**
 * @typedef {object} Reload
 * @property {boolean | null} ok whether the proxy was signalled; null where there was no need
 * @property {string} info
 * @property {boolean | null} [applied] null where it cannot be known
 * @property {string | null} [reason] why it was not applied, or why it cannot be known
 * @property {number | null} [generation]
 * @property {number | null} [applied_in_ms]
 */

/** @typedef {{ip: string, port: number}} Address */

/** @typedef {'read' | 'register' | 'write' | 'admin'} Scope */

/**
 * Who we are to the control plane.
 * @typedef {object} Session
 * @property {boolean} needs_token false where only this machine is served
 * @property {boolean} signed_in by a session that can be signed out of
 * @property {Scope | null} scope null where we are nobody yet
 * @property {string | null} by
 */

export {};
