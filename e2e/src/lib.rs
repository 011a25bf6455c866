//! The promises of the whole system, kept by the real binaries against scripted peers.
//!
//! | tests | promise |
//! |---|---|
//! | `loop` | traffic follows the weights, and a change by API takes effect with nothing lost |
//! | `reload` | a reload touches nothing that is open |
//! | `reload_listen`, `listen_changes` | a changed listen address loses nobody |
//! | `reload_refused` | a bad file changes nothing; one bad entry costs the others nothing |
//! | `listen_refused` | a listener that cannot be bound holds nothing else up, and is taken when it can |
//! | `start_unbound` | so at a start, where the proxy waits for it |
//! | `tcp` | bytes arrive whole, ends are forwarded and named |
//! | `storm` | twenty thousand sessions of every shape, each checked at both ends |
//! | `slow_readers` | what arrives for a reader that takes nothing wakes nobody |
//! | `odd_peers` | urgent data, and clients that leave early |
//! | `connect`, `algorithms` | failed connects are retried, backends are chosen as configured |
//! | `gpu_aware` | reports, latencies and failures move new sessions, and costs are explained |
//! | `gpu_aware_loop` | so do heartbeats at control, without a reload; slow and full servers get less |
//! | `udp` | datagrams arrive byte-identical, flows are bounded and move when they must |
//! | `udp_flows` | flows stay where they are answered, in a full table and at a backend that is gone |
//! | `udp_sources` | what would go round for ever goes nowhere |
//! | `udp_alone` | a service of one protocol is told of in its own words |
//! | `udp_bursts` | bursts pass as they were sent, losses in the kernel's queue are counted |
//! | `health` | backends that fail their probes are left out, and come back |
//! | `probes` | what servers notice of probes: nothing, or an orderly end |
//! | `ejection` | so are those that fail sessions, within bounds; who is back starts slowly |
//! | `verdict` | an outage is told within two seconds, in one way everywhere |
//! | `status` | what passes is counted and shown, and the admin socket takes anything |
//! | `process` | start, check, signals and exit codes |
//! | `descriptors` | at the descriptor limit accepting pauses and all else goes on |
//! | `hardening` | silent clients, an unread log and odd files harm nobody |
//! | `confinement` | the proxy gives up what it does not need, and says what is refused for that |
//! | `separate_users` | no root needed; as two users or in two containers every change still arrives |
//! | `packaging` | systemd takes the units, and finds little exposed |
//! | `units` | under a systemd that runs they confine, close the loop and come back |
//! | `control_api` | the API field for field |
//! | `control_access` | who may call it, and what is refused of what they say |
//! | `control_stalls` | stalls of control, and crowds before its door, expire nobody who goes on beating |
//! | `control_loop` | discovery, registrations and overrides reach the proxy, and outlive control |
//! | `services_loop` | listeners, pools and the backends in them come, move and go by control |
//! | `control_keeps` | settings and edits survive, many callers at once are each served |
//! | `control_faults` | what is broken around control stays outside, nobody else is signalled |
//! | `control_refusals` | what the proxy refuses is told, rolled back or tried again; all else is applied |
//! | `control_crashes` | a mutation is killed, or fails, at every one of its system calls |
//! | `control_disks` | a full or a read-only disk is told, and control recovers |
//! | `hosts` | backends and clients on other hosts vanish without a word |
//! | `local_ports` | where ports to connect from run out, no backend is blamed |
//! | `link_local` | a client whose address counts on its link alone is answered there |
//! | `networks` | over slow, sliced, stalling and broken networks what can arrive arrives |
//! | `demonstrations` | the six of docs/demonstrations.md, with every program that takes part |
//! | `simulators` | what each simulator says that it does |
//! | `agent` | what the GPU agent reads reaches control, whatever fails meanwhile |
//!
//! Here stands what several of them share. Build the programs first: `cargo build --workspace
//! --bins`.

pub mod api_bench;
pub mod beats;
pub mod datagrams;
pub mod far_proxy;
pub mod health;
pub mod loop_bench;
pub mod proxy_bench;
pub mod repository;
pub mod scripted;
pub mod sessions;
pub mod slow_reader;
pub mod spread;
pub mod strangers;
pub mod traffic;

/// The names of the algorithms, which other people's files rely on.
pub const ALGORITHMS: [&str; 9] = [
    "round_robin",
    "weighted_round_robin",
    "least_connections",
    "weighted_least_connections",
    "random",
    "power_of_two",
    "source_hash",
    "gpu_aware",
    "peak_ewma",
];
