/**
 * @file The optional keys of `proxy_config.json`, for the form of settings. Written from the table of keys in
 * contract/src/keys/table.rs by contract/tests/keys.rs, and edited only there.
 */

/**
 * @typedef {object} Key
 * @property {string} name it ends with its unit
 * @property {'number' | 'text' | 'list' | 'choice'} kind
 * @property {string[]} choices none unless it is one
 * @property {{en: string, zh: string}} without what holds where nothing is said; empty where there is a default
 * @property {{en: string, zh: string}} meaning
 */

/** @typedef {'sessions' | 'flows' | 'warming' | 'health' | 'all_down' | 'ejection' | 'gpu_aware'} TopicName */

/** @type {{name: TopicName, inside: string | null, keys: Key[]}[]} */
export const TOPICS = [
  {
    name: 'sessions',
    inside: null,
    keys: [
      { name: 'connect_timeout_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how long one connect to a backend may take', zh: '连接一个后端的时限' } },
      { name: 'connect_attempts', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how many backends one session tries', zh: '一个会话最多尝试几个后端' } },
      { name: 'idle_timeout_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how long a session may be silent both ways', zh: '会话双向静默的时限' } },
      { name: 'half_close_timeout_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how long a session may be silent with one direction closed', zh: '一个方向已关闭时，静默的时限' } },
      { name: 'preface_timeout_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how long a client may take to send the TLS ClientHello that a route asks for', zh: '路由需要 TLS ClientHello 时，最多等客户端多久' } },
      { name: 'on_not_tls', kind: 'choice', choices: ['default', 'refuse'], without: { en: '', zh: '' }, meaning: { en: 'what happens to a session without a ClientHello where a route asks for one', zh: '路由需要 ClientHello 而会话没有时怎么办' } },
      { name: 'drain_timeout_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how long a stopping proxy waits for open sessions', zh: '代理关闭时最多等待会话多久' } },
      { name: 'backend_gone_timeout_ms', kind: 'number', choices: [], without: { en: 'no limit', zh: '不限' }, meaning: { en: 'how long sessions and flows of a removed or disabled backend may continue', zh: '后端移除或停用后，其会话和流还能继续多久' } },
      { name: 'max_sessions', kind: 'number', choices: [], without: { en: 'by descriptors', zh: '按文件描述符上限' }, meaning: { en: 'sessions at once', zh: '同时的会话数' } },
      { name: 'busy_poll_us', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how long a worker polls for events before it sleeps', zh: '工作线程休眠前忙轮询的时间' } },
      { name: 'session_log', kind: 'choice', choices: ['all', 'failures', 'off', 'unlimited'], without: { en: '', zh: '' }, meaning: { en: 'which ended sessions are logged', zh: '记录哪些已结束的会话' } },
    ],
  },
  {
    name: 'flows',
    inside: null,
    keys: [
      { name: 'udp_idle_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how long a flow lives without a datagram', zh: '流没有数据报时保留多久' } },
      { name: 'udp_responses', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'a flow ends after this many answers for each request; 0: only when idle', zh: '每个请求收到多少个应答后流结束；0：只按空闲结束' } },
      { name: 'max_flows', kind: 'number', choices: [], without: { en: 'by descriptors', zh: '按文件描述符上限' }, meaning: { en: 'UDP flows at once', zh: '同时的 UDP 流数' } },
      { name: 'udp_peers', kind: 'list', choices: [], without: { en: 'none', zh: '无' }, meaning: { en: 'networks of other balancers, whose datagrams start no flow', zh: '其他负载均衡器的网段，其数据报不建立新流' } },
    ],
  },
  {
    name: 'warming',
    inside: null,
    keys: [
      { name: 'warming_share', kind: 'choice', choices: ['tenth', 'none'], without: { en: '', zh: '' }, meaning: { en: 'share of its weight that a warming backend gets', zh: '预热中的后端得到的权重份额' } },
      { name: 'slow_start_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how long a new or returned backend takes to reach its full share', zh: '新加入或恢复的后端多久达到全部份额' } },
    ],
  },
  {
    name: 'health',
    inside: 'health',
    keys: [
      { name: 'probe', kind: 'choice', choices: ['off', 'tcp', 'send_expect', 'http', 'udp'], without: { en: '', zh: '' }, meaning: { en: 'how backends are probed', zh: '探测方式' } },
      { name: 'interval_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how often each backend is probed', zh: '探测间隔' } },
      { name: 'jitter_percent', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'random variation of the interval', zh: '间隔的浮动' } },
      { name: 'timeout_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'time-out of one probe', zh: '一次探测的时限' } },
      { name: 'rise', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'consecutive successes that bring a backend back', zh: '连续成功多少次恢复' } },
      { name: 'fall', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'consecutive failures that take a backend out', zh: '连续失败多少次退出' } },
      { name: 'port', kind: 'number', choices: [], without: { en: "the backend's", zh: '后端自己的端口' }, meaning: { en: 'another port to probe', zh: '探测用的另一个端口' } },
      { name: 'http_path', kind: 'text', choices: [], without: { en: '', zh: '' }, meaning: { en: 'path of the HTTP request', zh: 'HTTP 请求的路径' } },
      { name: 'http_host', kind: 'text', choices: [], without: { en: "the backend's address", zh: '后端的地址' }, meaning: { en: 'host name of the HTTP request', zh: 'HTTP 请求的主机名' } },
      { name: 'http_status', kind: 'list', choices: [], without: { en: '', zh: '' }, meaning: { en: 'lowest and highest status that is healthy', zh: '健康的最低与最高状态码' } },
      { name: 'send', kind: 'text', choices: [], without: { en: 'nothing', zh: '无' }, meaning: { en: 'what send_expect and udp send', zh: 'send_expect 和 udp 发送的内容' } },
      { name: 'expect', kind: 'text', choices: [], without: { en: 'nothing', zh: '无' }, meaning: { en: 'what the answer must contain', zh: '应答必须包含的内容' } },
    ],
  },
  {
    name: 'all_down',
    inside: null,
    keys: [
      { name: 'all_down', kind: 'choice', choices: ['reject', 'fail_open'], without: { en: '', zh: '' }, meaning: { en: 'still use all backends, or refuse new sessions and flows', zh: '仍使用全部后端，或拒绝新会话和新流' } },
    ],
  },
  {
    name: 'ejection',
    inside: 'ejection',
    keys: [
      { name: 'failures', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'consecutive failures that eject a backend: failed connects, unanswered sessions; 0: never', zh: '连续多少次连接失败或会话无应答即摘除；0：从不' } },
      { name: 'base_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'length of the first ejection; each next one lasts twice as long, up to max_ms', zh: '第一次摘除的时长；之后每次加倍，最长为 max_ms' } },
      { name: 'max_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'length of the longest ejection', zh: '最长的摘除时长' } },
      { name: 'max_percent', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'percentage of the pool that may be ejected', zh: '最多可摘除的后端百分比' } },
    ],
  },
  {
    name: 'gpu_aware',
    inside: 'gpu_aware',
    keys: [
      { name: 'idle_weight', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'load of a silent session', zh: '一个静默会话计多少负载' } },
      { name: 'vram_soft', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'share of VRAM at which the cost begins', zh: '显存占用达到此值起计入开销' } },
      { name: 'vram_full', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'share of VRAM at which the cost is full', zh: '显存占用达到此值时开销全额计入' } },
      { name: 'vram_hard', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'share of VRAM at which a backend gets almost no sessions', zh: '显存占用达到此值时几乎不再分配会话' } },
      { name: 'vram_cost', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'cost at vram_full', zh: 'vram_full 时的开销' } },
      { name: 'vram_hard_cost', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'cost at vram_hard', zh: 'vram_hard 时的开销' } },
      { name: 'vram_per_load', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'share of VRAM of one session, until reports give a better value', zh: '每个会话占用的显存份额（上报给出更准确的值之前）' } },
      { name: 'gpu_cost', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'cost of a GPU busy with other work', zh: 'GPU 忙于其他任务时的开销' } },
      { name: 'failure_cost', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'cost of one failure', zh: '一次失败的开销' } },
      { name: 'failure_cap', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'the highest cost of failures', zh: '失败开销的上限' } },
      { name: 'failure_half_life_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'half-life of the cost of failures', zh: '失败开销减半的时间' } },
      { name: 'slowness_min', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'lower bound of the response time relative to the pool median', zh: '响应时间与后端池中位数之比的下限' } },
      { name: 'slowness_max', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'upper bound of the response time relative to the pool median', zh: '响应时间与后端池中位数之比的上限' } },
      { name: 'latency_samples', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'samples that speed is learned from', zh: '学习速度的样本数' } },
      { name: 'latency_memory_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how long a learned speed is trusted without new samples', zh: '没有新样本时，学到的速度有效多久' } },
      { name: 'trial_interval_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'time without a session before a trial; 0: no trials', zh: '多久没有会话就试探一次；0：不试探' } },
      { name: 'ramp_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'how long a warmed-up backend takes to reach its full share', zh: '预热完成的后端多久达到全部份额' } },
      { name: 'heartbeat_ms', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'report interval of a backend that sets none', zh: '后端未给出上报间隔时采用的值' } },
      { name: 'scan_limit', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'largest pool in which each pick compares all backends', zh: '后端不超过此数时全部比较' } },
      { name: 'samples', kind: 'number', choices: [], without: { en: '', zh: '' }, meaning: { en: 'backends drawn at random in larger pools', zh: '后端更多时随机抽取多少个' } },
    ],
  },
];
