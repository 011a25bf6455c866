//! The rows of the table of keys. A key is added here, in the struct that holds it, and where it is used.

use super::{Key, Kind, Place, Topic, Value, key};

const HOUR_MS: u64 = 3_600_000;
const WEEK_MS: u64 = 7 * 24 * HOUR_MS;
/// Above any meaningful cost, and far below the overflow of an `f32`.
const MAX_COST: f64 = 1_000.0;

/// Every optional key but `algorithm`, `backends`, `listeners` and `pools`, which are read by themselves.
pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "sessions",
        inside: None,
        keys: SESSIONS,
    },
    Topic {
        name: "flows",
        inside: None,
        keys: FLOWS,
    },
    Topic {
        name: "warming",
        inside: None,
        keys: WARMING,
    },
    Topic {
        name: "health",
        inside: Some("health"),
        keys: HEALTH,
    },
    Topic {
        name: "all_down",
        inside: None,
        keys: ALL_DOWN,
    },
    Topic {
        name: "ejection",
        inside: Some("ejection"),
        keys: EJECTION,
    },
    Topic {
        name: "gpu_aware",
        inside: Some("gpu_aware"),
        keys: GPU_AWARE,
    },
];

const SESSIONS: &[Key] = &[
    key("connect_timeout_ms", Place::Pool, Kind::Integer(1, 600_000), Value::Integer(2_000))
        .means("how long one connect to a backend may take", "连接一个后端的时限"),
    key("connect_attempts", Place::Pool, Kind::Integer(1, 8), Value::Integer(4))
        .means("how many backends one session tries", "一个会话最多尝试几个后端")
        .in_full("how many backends one session tries before it fails", "一个会话最多尝试几个后端"),
    key("idle_timeout_ms", Place::Listener, Kind::Integer(1, WEEK_MS), Value::Integer(HOUR_MS))
        .means("how long a session may be silent both ways", "会话双向静默的时限")
        .in_full("how long a session may be silent both ways; a peer that still takes bytes sent earlier is not silent", "会话双向静默的最长时间；对端仍在接收先前发出的数据时不算静默"),
    key("half_close_timeout_ms", Place::Listener, Kind::Integer(1, WEEK_MS), Value::Integer(600_000))
        .means("how long a session may be silent with one direction closed", "一个方向已关闭时，静默的时限"),
    key("preface_timeout_ms", Place::Listener, Kind::Integer(1, 60_000), Value::Integer(3_000))
        .means("how long a client may take to send the TLS ClientHello that a route asks for", "路由需要 TLS ClientHello 时，最多等客户端多久")
        .in_full("how long a client may take to send the TLS ClientHello that a route with `sni` or `alpn` asks for", "路由带有 `sni` 或 `alpn` 时，最多等客户端多久发完 TLS ClientHello"),
    key("on_not_tls", Place::Listener, Kind::Choice(&["default", "refuse"]), Value::Word("default"))
        .means("what happens to a session without a ClientHello where a route asks for one", "路由需要 ClientHello 而会话没有时怎么办")
        .in_full("what happens to a session whose first bytes are no TLS ClientHello, or one that is longer than 16 KiB or too slow, where a route asks for one: `default` takes the first route that asks for no TLS, `refuse` resets the session (`not_tls`)", "路由需要 TLS ClientHello，而会话开头不是、超过 16 KiB 或来得太慢时：`default` 走第一条不看 TLS 的路由，`refuse` 重置会话（`not_tls`）"),
    key("drain_timeout_ms", Place::Process, Kind::Integer(0, WEEK_MS), Value::Integer(30_000))
        .means("how long a stopping proxy waits for open sessions", "代理关闭时最多等待会话多久")
        .in_full("how long `SIGTERM` waits for open sessions", "`SIGTERM` 等待已有会话的最长时间"),
    key("backend_gone_timeout_ms", Place::Pool, Kind::Integer(0, WEEK_MS), Value::None)
        .without("no limit", "不限")
        .means("how long sessions and flows of a removed or disabled backend may continue", "后端移除或停用后，其会话和流还能继续多久")
        .in_full("how long sessions and [UDP flows](traffic.md#udp-flows) of a removed or disabled backend may continue; then they end (`backend_gone`). 0: at once. Without the key, sessions continue until they close, and flows while the backend answers", "后端被移除或停用后，其已有会话和 [UDP 流](traffic.md#udp-流)还能继续多久，之后结束（`backend_gone`）。0：立即；不设则会话直到自行关闭，UDP 流只要后端仍应答就继续"),
    key("max_sessions", Place::Listener, Kind::Integer(1, 10_000_000), Value::None)
        .without("by descriptors", "按文件描述符上限")
        .means("sessions at once", "同时的会话数")
        .in_full("sessions at once; by default as many as the limit on descriptors allows", "同时存在的会话数；默认由描述符上限决定"),
    key("busy_poll_us", Place::Process, Kind::Integer(0, 10_000), Value::Integer(0))
        .means("how long a worker polls for events before it sleeps", "工作线程休眠前忙轮询的时间")
        .in_full("how long a worker polls for events before it sleeps: less latency for more CPU", "工作线程休眠前忙轮询事件的时长：用更多 CPU 换取更低延迟"),
    key("session_log", Place::Listener, Kind::Choice(&["all", "failures", "off", "unlimited"]), Value::Word("all"))
        .means("which ended sessions are logged", "记录哪些已结束的会话")
        .in_full("which ended sessions and flows are logged: `all`, `failures`, `off`, `unlimited`; see [Session log](traffic.md#session-log)", "记录哪些已结束的会话和流：`all`、`failures`、`off`、`unlimited`，见[会话日志](traffic.md#会话日志)"),
];

const FLOWS: &[Key] = &[
    key("udp_idle_ms", Place::Listener, Kind::Integer(1, HOUR_MS), Value::Integer(30_000))
        .means("how long a flow lives without a datagram", "流没有数据报时保留多久")
        .in_full("how long a UDP flow lives without a datagram", "没有数据报时 UDP 流保留多久"),
    key("udp_responses", Place::Listener, Kind::Integer(0, 1_000_000), Value::Integer(0))
        .means("a flow ends after this many answers for each request; 0: only when idle", "每个请求收到多少个应答后流结束；0：只按空闲结束")
        .in_full("a UDP flow ends when it has had this many answers for each of its requests; 0: only when idle", "UDP 流的每个请求都收到这么多个应答后结束；0 表示只按空闲结束"),
    key("max_flows", Place::Listener, Kind::Integer(1, 10_000_000), Value::None)
        .without("by descriptors", "按文件描述符上限")
        .means("UDP flows at once", "同时的 UDP 流数")
        .in_full("UDP flows at once; by default from the limit on descriptors and the range of local ports", "同时存在的 UDP 流数；默认由描述符上限和本地端口范围决定"),
    key("udp_peers", Place::Listener, Kind::Networks, Value::None)
        .without("none", "无")
        .means("networks of other balancers, whose datagrams start no flow", "其他负载均衡器的网段，其数据报不建立新流")
        .in_full("networks of other balancers, such as `\"10.0.0.0/24\"`, whose datagrams start no flow; see [UDP flows](traffic.md#udp-flows)", "其他负载均衡器所在的网段，如 `\"10.0.0.0/24\"`，来自其中的数据报不建立新流；见 [UDP 流](traffic.md#udp-流)"),
];

const WARMING: &[Key] = &[
    key("warming_share", Place::Pool, Kind::Choice(&["tenth", "none"]), Value::Word("tenth"))
        .means("share of its weight that a warming backend gets", "预热中的后端得到的权重份额")
        .in_full("share of its weight that a warming backend gets: `tenth` (rounded up) or `none`", "预热中的后端得到多少权重：`tenth`（十分之一，向上取整）或 `none`"),
    key("slow_start_ms", Place::Pool, Kind::Integer(0, HOUR_MS), Value::Integer(0))
        .means("how long a new or returned backend takes to reach its full share", "新加入或恢复的后端多久达到全部份额")
        .in_full("how long the share of a new, returned or warmed-up backend takes to grow from a tenth to the whole", "新加入、恢复或预热完成的后端，从十分之一份额升到全部份额要多久"),
];

const ALL_DOWN: &[Key] = &[
    key("all_down", Place::Pool, Kind::Choice(&["reject", "fail_open"]), Value::Word("fail_open"))
        .means("still use all backends, or refuse new sessions and flows", "仍使用全部后端，或拒绝新会话和新流")
        .in_full("if every backend is out because of its health: `fail_open` still uses all of them, `reject` refuses new sessions and flows", "后端因健康问题全部不可用时：`fail_open` 仍照常使用全部后端，`reject` 拒绝新会话和新流"),
];

const HEALTH: &[Key] = &[
    key("probe", Place::Pool, Kind::Choice(&["off", "tcp", "send_expect", "http", "udp"]), Value::Word("tcp"))
        .means("how backends are probed", "探测方式")
        .in_full("`off`, `tcp` (a connect), `send_expect`, `http` (`GET`), `udp`", "`off`、`tcp`（建立连接）、`send_expect`、`http`（`GET`）、`udp`"),
    key("interval_ms", Place::Pool, Kind::Integer(10, HOUR_MS), Value::Integer(2_000))
        .means("how often each backend is probed", "探测间隔"),
    key("jitter_percent", Place::Pool, Kind::Integer(0, 50), Value::Integer(10))
        .means("random variation of the interval", "间隔的浮动"),
    key("timeout_ms", Place::Pool, Kind::Integer(1, 60_000), Value::Integer(1_000))
        .means("time-out of one probe", "一次探测的时限")
        .in_full("time-out of one probe, from connect to answer", "一次探测从连接到应答的总时限"),
    key("rise", Place::Pool, Kind::Integer(1, 100), Value::Integer(2))
        .means("consecutive successes that bring a backend back", "连续成功多少次恢复"),
    key("fall", Place::Pool, Kind::Integer(1, 100), Value::Integer(3))
        .means("consecutive failures that take a backend out", "连续失败多少次退出"),
    key("port", Place::Pool, Kind::Integer(1, 65_535), Value::None)
        .without("the backend's", "后端自己的端口")
        .means("another port to probe", "探测用的另一个端口")
        .in_full("another port to probe; a backend is not probed if this would reach a listener of the proxy; `--check` calls it a fault", "改为探测另一个端口；如果这样会探测到代理自己的监听，则不探测该后端；`--check` 视为错误"),
    key("http_path", Place::Pool, Kind::Text, Value::Word("/"))
        .means("path of the HTTP request", "HTTP 请求的路径"),
    key("http_host", Place::Pool, Kind::Text, Value::None)
        .without("the backend's address", "后端的地址")
        .means("host name of the HTTP request", "HTTP 请求的主机名"),
    key("http_status", Place::Pool, Kind::StatusRange, Value::Range(200, 399))
        .means("lowest and highest status that is healthy", "健康的最低与最高状态码"),
    key("send", Place::Pool, Kind::Payload("send_hex"), Value::None)
        .without("nothing", "无")
        .means("what send_expect and udp send", "send_expect 和 udp 发送的内容")
        .in_full("what `send_expect` and `udp` send", "`send_expect` 和 `udp` 发送的内容"),
    key("expect", Place::Pool, Kind::Payload("expect_hex"), Value::None)
        .without("nothing", "无")
        .means("what the answer must contain", "应答必须包含的内容"),
];

const EJECTION: &[Key] = &[
    key("failures", Place::Pool, Kind::Integer(0, 10_000), Value::Integer(5))
        .means("consecutive failures that eject a backend: failed connects, unanswered sessions; 0: never", "连续多少次连接失败或会话无应答即摘除；0：从不")
        .in_full("consecutive failures that eject a backend, see below; 0: never", "连续失败这么多次即摘除（何为失败见下）；0 表示从不"),
    key("base_ms", Place::Pool, Kind::Integer(1, HOUR_MS), Value::Integer(5_000))
        .means("length of the first ejection; each next one lasts twice as long, up to max_ms", "第一次摘除的时长；之后每次加倍，最长为 max_ms")
        .in_full("length of the first ejection; each next one lasts twice as long, up to `max_ms`", "首次摘除的时长；之后每次加倍，最长为 `max_ms`"),
    key("max_ms", Place::Pool, Kind::Integer(1, 24 * HOUR_MS), Value::Integer(300_000))
        .means("length of the longest ejection", "最长的摘除时长")
        .in_full("length of the longest ejection; at least `base_ms`", "最长的摘除时长；不小于 `base_ms`"),
    key("max_percent", Place::Pool, Kind::Integer(0, 100), Value::Integer(50))
        .means("percentage of the pool that may be ejected", "最多可摘除的后端百分比")
        .in_full("percentage of the pool that may be ejected; backends that probes took out count as ejected", "后端池中允许摘除的后端百分比；探测判定宕机的后端也计入"),
];

const GPU_AWARE: &[Key] = &[
    key("idle_weight", Place::Pool, Kind::Number(0.0, 1.0), Value::Number(0.1))
        .means("load of a silent session", "一个静默会话计多少负载")
        .in_full("load of a silent session that waits for no answer", "静默且不在等待应答的会话计多少负载"),
    key("vram_soft", Place::Pool, Kind::Number(0.0, 1.0), Value::Number(0.8))
        .means("share of VRAM at which the cost begins", "显存占用达到此值起计入开销")
        .in_full("share of VRAM at which the cost begins; `vram_soft` < `vram_full` <= `vram_hard`", "显存占用达到此值起计入开销；`vram_soft` < `vram_full` <= `vram_hard`"),
    key("vram_full", Place::Pool, Kind::Number(0.0, 1.0), Value::Number(0.92))
        .means("share of VRAM at which the cost is full", "显存占用达到此值时开销全额计入"),
    key("vram_hard", Place::Pool, Kind::Number(0.0, 1.0), Value::Number(0.97))
        .means("share of VRAM at which a backend gets almost no sessions", "显存占用达到此值时几乎不再分配会话"),
    key("vram_cost", Place::Pool, Kind::Number(0.0, MAX_COST), Value::Number(2.0))
        .means("cost at vram_full", "vram_full 时的开销"),
    key("vram_hard_cost", Place::Pool, Kind::Number(0.0, MAX_COST), Value::Number(18.0))
        .means("cost at vram_hard", "vram_hard 时的开销"),
    key("vram_per_load", Place::Pool, Kind::Number(0.0, 1.0), Value::Number(0.02))
        .means("share of VRAM of one session, until reports give a better value", "每个会话占用的显存份额（上报给出更准确的值之前）")
        .in_full("share of VRAM that one session takes, until reports give a better value", "一个会话占用的显存份额（上报给出更准确的值之前）"),
    key("gpu_cost", Place::Pool, Kind::Number(0.0, MAX_COST), Value::Number(0.5))
        .means("cost of a GPU busy with other work", "GPU 忙于其他任务时的开销")
        .in_full("cost of a GPU that is fully busy with other work", "GPU 完全忙于其他工作时的开销"),
    key("failure_cost", Place::Pool, Kind::Number(0.0, 64.0), Value::Number(2.0))
        .means("cost of one failure", "一次失败的开销")
        .in_full("cost of one failure, as `ejection` counts failures; each further failure in a row doubles the cost, up to `failure_cap`", "一次失败的开销，失败的定义与 `ejection` 相同；之后每连续失败一次加倍，最高为 `failure_cap`"),
    key("failure_cap", Place::Pool, Kind::Number(0.0, 100.0), Value::Number(64.0))
        .means("the highest cost of failures", "失败开销的上限"),
    key("failure_half_life_ms", Place::Pool, Kind::Integer(100, HOUR_MS), Value::Integer(5_000))
        .means("half-life of the cost of failures", "失败开销减半的时间"),
    key("slowness_min", Place::Pool, Kind::Number(0.01, 1.0), Value::Number(0.22))
        .means("lower bound of the response time relative to the pool median", "响应时间与后端池中位数之比的下限"),
    key("slowness_max", Place::Pool, Kind::Number(1.0, 100.0), Value::Number(12.0))
        .means("upper bound of the response time relative to the pool median", "响应时间与后端池中位数之比的上限"),
    key("latency_samples", Place::Pool, Kind::Integer(4, 65_536), Value::Integer(64))
        .means("samples that speed is learned from", "学习速度的样本数"),
    key("latency_memory_ms", Place::Pool, Kind::Integer(1_000, HOUR_MS), Value::Integer(120_000))
        .means("how long a learned speed is trusted without new samples", "没有新样本时，学到的速度有效多久"),
    key("trial_interval_ms", Place::Pool, Kind::Integer(0, HOUR_MS), Value::Integer(30_000))
        .means("time without a session before a trial; 0: no trials", "多久没有会话就试探一次；0：不试探")
        .in_full("how long a backend may go without a session before it gets a trial session; 0: no trials. Time counts more slowly while the pool gets fewer than 4 sessions per backend in this interval", "后端多久没有会话就得到一个试探会话；0：不试探。后端池在此间隔内平均每个后端不足 4 个会话时，计时相应变慢"),
    key("ramp_ms", Place::Pool, Kind::Integer(0, HOUR_MS), Value::Integer(30_000))
        .means("how long a warmed-up backend takes to reach its full share", "预热完成的后端多久达到全部份额"),
    key("heartbeat_ms", Place::Pool, Kind::Integer(100, HOUR_MS), Value::Integer(5_000))
        .means("report interval of a backend that sets none", "后端未给出上报间隔时采用的值"),
    key("scan_limit", Place::Pool, Kind::Integer(1, 1_024), Value::Integer(64))
        .means("largest pool in which each pick compares all backends", "后端不超过此数时全部比较")
        .in_full("in pools of up to this many backends, each pick compares all of them", "后端不超过此数时，每次选择都比较全部后端"),
    key("samples", Place::Pool, Kind::Integer(2, 64), Value::Integer(8))
        .means("backends drawn at random in larger pools", "后端更多时随机抽取多少个")
        .in_full("backends drawn at random for each pick in larger pools", "后端更多时每次随机抽取多少个"),
];
