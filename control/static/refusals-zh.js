/**
 * @file Refusals, results and reasons of control in Chinese: what was found in a setting and what is
 * allowed (contract/src), why a call was refused (control/src/model.rs, control/src/web), and what became
 * of a reload (contract/src/reload.rs). An unknown text stays as it is. scripts/plain_words.mjs checks
 * that each text of a setting is known here.
 */

/** @typedef {[RegExp, (...found: string[]) => string]} Phrase */

/** @type {Record<string, string>} */
const WHOLE = {
  // Edits
  'no mass expiry is being held back': '当前没有被暂缓的大规模过期',
  'the outcome of this call is already known': '该操作的结果已经确定',
  'the control server is stopping': '控制面正在停止',
  'someone else has edited since: read again, review the differences, and send the change with the new ETag':
    '已被他人修改：请重新读取，核对差异后用新的 ETag 提交',
  'If-Match is required: the ETag of what was read, or * for any': '缺少 If-Match：应为读取时的 ETag，或用 * 表示任意版本',
  "changing the proxy's settings needs a token with the scope admin": '修改代理设置需要 admin 权限的令牌',
  'settings_runtime.json cannot be written: if control restarts before it can, and the proxy then refuses these settings, they are rolled back':
    '无法写入 settings_runtime.json：如果控制面在写入成功之前重启，而代理随后拒绝这些设置，设置将被回滚',
  // The proxy
  'no reload needed: no backend or setting has changed': '无需重载：后端和设置均无变化',
  'another program keeps replacing it': '另一个程序不断替换该文件',
  'the proxy did not confirm in time': '代理没有及时确认',
  'no signal was sent': '未发送信号',
  'not published in time': '没有及时发布',
  'replaced by others, and the proxy read it; published again': '文件被他人替换，且代理已读取；已重新发布',
  'the pid file is locked by a process that is not visible from here': 'pid 文件被一个此处不可见的进程锁定',
  'the pid file is not locked, and any user can write it': 'pid 文件未被锁定，且任何用户都可写入',
  'its /proc entry cannot be read': '无法读取该进程的 /proc',
  'it started after the pid file was written': '该进程启动于 pid 文件写入之后',
  // What a value may be
  'a JSON object': 'JSON 对象',
  'a JSON object; save the file as UTF-8 without a byte order mark': 'JSON 对象；请将文件存为不带字节顺序标记的 UTF-8',
  'valid JSON, nested at most 128 levels': '有效的 JSON，嵌套不超过 128 层',
  'an object': '对象',
  'an object of parameters': '参数对象',
  'an object with ip and port': '含 ip 和 port 的对象',
  'an object {host, port, tcp, udp}': '对象 {host, port, tcp, udp}',
  'an object of optional keys of proxy_config.json': '由 proxy_config.json 的可选键组成的对象',
  'an optional key of proxy_config.json': 'proxy_config.json 的可选键',
  'a known key': '已知的键',
  'a number, or null': '数字或 null',
  'a number from 0 to 1, or null': '0 至 1 的数字，或 null',
  'true or false': 'true 或 false',
  'true for tcp, udp or both': 'tcp 和 udp 至少一个为 true',
  'a string': '字符串',
  'an array, which may be empty': '数组，可以为空',
  'a path that begins with /': '以 / 开头的路径',
  'a host name or address': '主机名或地址',
  'send or send_hex for a udp probe': 'udp 探测需要 send 或 send_hex',
  'send, expect or both (send_hex, expect_hex) for a send_expect probe': 'send_expect 探测需要 send 或 expect（或 send_hex、expect_hex），也可两者都有',
  '[LOWEST, HIGHEST], both from 100 to 599 and in this order': '[最小, 最大]，均为 100 至 599，且由小到大',
  'each key once': '每个键只写一次',
  'each ip:port once': '每个 ip:port 只列一次',
  'each backend once': '每个后端只列一次',
  'at least one of "weight", "enabled", "drain"': 'weight、enabled、drain 中至少一项',
  '"ip:port" of a backend, an IPv6 address in brackets': '后端的 ip:port，IPv6 地址须加方括号',
  '"ip:port" of a registered, listed or discovered backend': '已知后端的 ip:port（已注册、在静态列表中或由服务发现给出）',
  '"ip:port" with an address of one host, an IPv6 address in brackets': '单个主机的 ip:port，IPv6 地址须加方括号',
  'a registered, listed or discovered backend': '已知的后端（已注册、在静态列表中或由服务发现给出）',
  'the ip of a registered, listed or discovered backend, or 127.0.0.1': '已知后端的 IP，或 127.0.0.1',
  'an address and port that the control server does not listen on': '控制面未使用的地址和端口',
  'an address that this proxy does not listen on': '代理未使用的地址和端口',
  'an address that neither the proxy nor the control server listens on': '代理和控制面都未使用的地址和端口',
  'a unicast IPv4 or IPv6 address (no host name, no brackets, no port)': '单播 IPv4 或 IPv6 地址（不含主机名、方括号和端口）',
  'an IPv4 or IPv6 address, 0.0.0.0 or :: for all': 'IPv4 或 IPv6 地址；0.0.0.0 或 :: 表示全部地址',
  'an address of another machine: loopback is for clients of this one': '其他机器的地址：回环地址只能由本机的客户端使用',
  'one process id above 1': '一个大于 1 的进程号',
  "the console's own page": '控制台自己的页面',
  'a value that can be read': '可读取的值',
  'a token': '令牌',
  // What was found
  'an unknown key': '未知的键',
  'an unknown parameter': '未知的参数',
  nothing: '空',
  both: '两者都有',
  'no string': '不是字符串',
  'no edit': '没有修改',
  'a pool that no listener leads to; the same call may also remove the listener': '没有监听指向的后端池；可以在同一次调用中一并移除监听',
  'no pool but default: /api/v1/pools/POOL/backends/IP:PORT names other pools':
    '只能是 default；其他后端池的后端用 /api/v1/pools/POOL/backends/IP:PORT',
  'a base key': '基本键',
  'an array of listeners with their names, or an object by name': '监听的数组（各有名称），或以名称为键的对象',
  'an object of pools by name': '以名称为键的后端池对象',
  'a name: 1 to 63 of a-z, 0-9, - and _, beginning with a letter': '名称：1 至 63 个 a-z、0-9、-、_，以字母开头',
  'no name': '没有名称',
  'nothing but a name': '只有名称',
  'host and port, or a key to change': 'host 和 port，或要修改的键',
  'the same name again': '重复的名称',
  'no host, port or protocol: the listener default stays at "listen", in control_config.json at default_listen_host and default_listen_port':
    '不写 host、port 或 protocol：监听 default 的地址由 listen 设定，在 control_config.json 中由 default_listen_host 和 default_listen_port 设定',
  'each name once': '名称不得重复',
  'each address and protocol once': '同一地址和协议只能出现一次',
  'a list of backends': '后端列表',
  'settings of the pool; backends are registered, listed or discovered': '后端池的设置；后端来自注册、静态列表或服务发现',
  'null, and control_config.json defines it': 'null，但它是在 control_config.json 中定义的',
  'null for what was set by API; take this one out of the file, and have control read it again':
    '只有通过 API 设置的内容可以用 null 清除；请从文件中删去，再让控制面重新读取',
  // Routes and splits
  'an array of 1 to 256 routes, each with a pool or a split': '1 至 256 条路由的数组，每条有 pool 或 split',
  'an object with a pool or a split': '含 pool 或 split 的对象',
  'a host name such as "a.example", or "*.example" for all names below it': '域名，如 "a.example"；"*.example" 表示其下所有域名',
  'a protocol such as "h2" or "http/1.1", of 1 to 255 bytes': '协议名，如 "h2"、"http/1.1"，1 至 255 字节',
  'nothing beside routes: a route without source, sni and alpn is for all other sessions':
    '有 routes 时不写：不含 source、sni、alpn 的路由接收其余所有会话',
  'a value': '有值',
  '"protocol": "tcp" for a listener with routes; datagrams have no routes': '有路由的监听须写 "protocol": "tcp"；数据报没有路由',
  'routes of a listener that takes UDP': '接受 UDP 的监听带有路由',
  'a route for everything only as the last one: no session would reach those after it': '匹配一切的路由只能放在最后，否则其后的路由不会被用到',
  'neither source, sni nor alpn': '没有 source、sni、alpn',
  'neither pool nor split': '没有 pool，也没有 split',
  'a pool or a split': 'pool 或 split',
  'split_by without split': '有 split_by 而没有 split',
  'split_by beside a split': 'split_by 与 split 同时写',
  'a split beside a pool': '同时写了 pool 和 split',
  'only shares of 0': '份额全为 0',
  'at least one share above 0': '至少一个份额大于 0',
  'a boolean': '布尔值',
  'a number': '数字',
  'an array': '数组',
  'a key given twice': '重复的键',
  'an empty document': '空文档',
  'a byte order mark (EF BB BF)': '字节顺序标记（EF BB BF）',
  'a larger body': '更大的请求体',
  'false, with udp false too': 'false，且 udp 也为 false',
};

/** Which part of control did it. @type {Record<string, string>} */
const PARTS = {
  publisher: '发布',
  expiry: '过期检查',
  sources: '来源文件',
  server: '服务',
  tokens: '令牌',
  tls: '证书',
  settings: '设置',
  audit: '审计日志',
};

/** Why the proxy refuses a part of the configuration. @type {Record<string, string>} */
const CODES = {
  unreadable: '文件无法读取',
  invalid: '值无效',
  address_in_use: '端口已被占用',
  address_not_available: '没有此地址',
  needs_restart: '需要重启代理',
  cannot_bind: '无法绑定',
  own_listener: '是代理自己的监听地址',
  other: '原因未知',
};

/** What special addresses are for (control/src/admission/special.rs). @type {Record<string, string>} */
const PURPOSES = {
  'link-local': '链路本地',
  documentation: '文档示例',
  multicast: '组播',
  broadcast: '广播',
  unspecified: '未指定',
  'translated loopback': '转换后的回环',
};

/** @type {Phrase[]} */
const PHRASES = [
  [/^an integer from (\S+) to (\S+)$/, (from, to) => `${from} 至 ${to} 的整数`],
  [/^([\d.]+) to ([\d.]+)$/, (from, to) => `${from} 至 ${to}`],
  [/^an integer, beside (\w+)$/, (key) => `整数，须与 ${key} 同时给出`],
  [/^a number from (\S+) to (\S+)$/, (from, to) => `${from} 至 ${to} 的数字`],
  [/^one of (.*?)(?:; did you mean (".*")\?)?$/, (list, meant) => `以下之一：${list}${meant === undefined ? '' : `；是否想写 ${meant}？`}`],
  [/^a known key; did you mean (".*")\?$/, (meant) => `已知的键；是否想写 ${meant}？`],
  [/^at most (\d+) (bytes|backends)$/, (most, unit) => `不超过 ${most} ${unit === 'bytes' ? '字节' : '个后端'}`],
  [/^at least base_ms, which is (\d+)$/, (least) => `不小于 base_ms（${least}）`],
  [/^(.*), 1 to (\d+) printable ASCII characters without spaces$/, (what = '', most) => `${saidText(what)}，1 至 ${most} 个可打印的 ASCII 字符，不含空格`],
  [/^an even number of hexadecimal digits, at most (\d+) bytes$/, (most) => `偶数个十六进制数字，不超过 ${most} 字节`],
  [/^(\w+) or (\w+), not both$/, (one, two) => `${one} 或 ${two}，不能两者都有`],
  [/^an array of at most (\d+) networks as (.*) or (".*")$/, (most, list, last) => `最多 ${most} 个网段的数组，例如 ${list}、${last}`],
  [/^an array of 1 to (\d+) networks as (.*) or (".*"), without bits beyond the prefix$/, (most, list, last) => `1 至 ${most} 个网段的数组，例如 ${list}、${last}，前缀之外的位必须为 0`],
  [/^an object of 1 to (\d+) pools with their shares, as (.*)$/, (most, example) => `1 至 ${most} 个后端池及其份额的对象，例如 ${example}`],
  [/^an array, each (.*)$/, (each = '') => `数组，每项为${saidText(each)}`],
  [/^1 to (\d+), each (.*)$/, (most, each = '') => `1 至 ${most} 项，每项为${saidText(each)}`],
  [/^an address, or an array of 1 to (\d+) addresses$/, (most) => `一个地址，或 1 至 ${most} 个地址的数组`],
  [/^(\d+) addresses$/, (count) => `${count} 个地址`],
  [/^(\S+), while listener (\S+) has (\S+)$/, (addr, name, other) => `${addr}，而监听 ${name} 使用 ${other}`],
  [/^(\d+) entries$/, (count) => `${count} 项`],
  [/^an array of 1 to (\d+) edits$/, (most) => `1 至 ${most} 项修改的数组`],
  [/^a text of at most (\d+) characters$/, (most) => `不超过 ${most} 个字符的文本`],
  [/^a text of (\d+) characters$/, (count) => `${count} 个字符的文本`],
  [/^(\d+) (networks|backends|edits|bytes|routes)$/, (count, unit = '') => `${count} ${{ networks: '个网段', backends: '个后端', edits: '项修改', bytes: '字节', routes: '条路由' }[unit]}`],
  [/^at most (\d+) (listeners|pools|\d)$/, (most, unit) => `最多 ${most} 个${unit === 'pools' ? '后端池' : '监听'}`],
  [/^(\d+) (listeners|pools)$/, (count, unit) => `${count} 个${unit === 'pools' ? '后端池' : '监听'}`],
  [/^(\S+), or no name: the key is the name$/, (name) => `${name}，或不写 name：键就是名称`],
  [/^removed, while listener (\S+) leads to pool (\S+)$/, (listener, pool) => `已移除，但监听 ${listener} 仍指向后端池 ${pool}`],
  [/^the name (".*"|\d+)$/, (name) => `名称 ${name}`],
  [/^(\S+), which listener (\S+) has$/, (addr, name) => `${addr}，监听 ${name} 已使用`],
  [/^no pool (\S+) is defined$/, (pool) => `后端池 ${pool} 没有定义`],
  [/^no pool (\S+) is defined: the backend is stored, and published once it is$/, (pool) => `后端池 ${pool} 没有定义：后端已保存，定义后即发布`],
  [/^(.*), where the control server listens \((.*)\)$/, (value, control) => `${value}，而控制面正监听 ${control}`],
  [/^(.*), which is the proxy's own listener (\S+)$/, (value, listener) => `${value}，即代理自己的监听地址 ${listener}`],
  [/^(\S+), already listed at (\S+)$/, (value, place) => `${value}，已列于 ${place}`],
  [/^(\S+), which is not a known backend$/, (ip) => `${ip}，不是已知后端`],
  [/^a port where a probe of (\S+) does not reach the proxy's own listener (\S+)$/, (addr, listener) => `探测 ${addr} 时不会连到代理自己的监听地址 ${listener} 的端口`],
  [/^no (.*) address, unless "allowed_cidrs" names its network$/, (purpose = '') => `不是特殊用途（${PURPOSES[purpose] ?? purpose}）的地址，除非 allowed_cidrs 列出其网段`],
  [/^invalid JSON: (.*)$/s, (why) => `JSON 无效：${why}`],
  [/^an address that control listens on, .*$/, () => '控制面监听的地址、localhost 或回环地址（须带其端口），或 control_config.json 中 allowed_hosts 的名称；带令牌的程序不限'],
  [/^the proxy refuses (\S+) (.*) \((\w+)(?:, (.*?))?\)(; the entry is left out)?(?:; (.*) stays in force)?(; control does not retry: .*)?$/s, refusedPart],
  [
    /^another program changed proxy_config\.json, and the proxy refuses the file \((\w+), (.*)\) and keeps its running configuration; .*$/s,
    (code = '', detail = '') =>
      `另一个程序修改了 proxy_config.json，代理拒绝该文件（${CODES[code] ?? code}，${saidText(detail)}），继续运行原有配置；控制面每隔 auto_sync_interval_sec 重写该文件`,
  ],
  [/^allowed: (.*)$/s, (allowed = '') => `允许：${saidText(allowed)}`],
  [/^the proxy listens on (\S+)$/, (listener) => `代理监听 ${listener}`],
  [/^(.*?): found (.*), allowed: (.*)$/s, (place, found = '', allowed = '') => `${placeText(place)}：收到 ${saidText(found)}，允许：${saidText(allowed)}`],
  [/^(\S+) is required: (.*)$/s, (place, allowed = '') => `${placeText(place)} 必填：${saidText(allowed)}`],
  [/^(\S+): unknown key(?:; did you mean (".*")\?)?$/, (place, meant) => `${placeText(place)}：未知的键${meant === undefined ? '' : `；是否想写 ${meant}？`}`],
  [/^(\S+): unknown key, allowed: (.*)$/s, (place, allowed = '') => `${placeText(place)}：未知的键，允许：${saidText(allowed)}`],
  [/^and (\d+) more$/, (count) => `还有 ${count} 处`],
  [/^no backend (\S+) is registered, listed or discovered$/, (id) => `没有后端 ${id}：未注册，也不在静态列表或服务发现中`],
  [/^backend (\S+) has no registration$/, (id) => `后端 ${id} 没有注册`],
  [/^backend (\S+) is not in the static list$/, (id) => `后端 ${id} 不在静态列表中`],
  [/^the static list is full: at most (\d+) backends$/, (most) => `静态列表已满：最多 ${most} 个后端`],
  [/^the registry is full: at most (\d+) backends$/, (most) => `注册表已满：最多 ${most} 个后端`],
  [/^the static list cannot be read, so nothing was changed in it: (.*); repair the file first$/s, (why = '') => `静态列表无法读取，未做任何修改：${saidText(why)}；请先修复该文件`],
  [/^the change was made for revision (\d+); the current revision is (\d+)$/, (expected, current) => `此修改基于编辑版本 ${expected}，当前为 ${current}`],
  [/^nothing was changed: (.*)$/s, (why = '') => `未做任何修改：${saidText(why)}`],
  [/^stored, but not published yet: (.*); control is retrying$/s, (why = '') => `已保存，但尚未发布：${saidText(why)}；控制面正在重试`],
  [/^the proxy would refuse it: (.*)$/s, (faults = '') => `代理会拒绝：${saidText(faults)}`],
  [/^(\S+): applied, but may be lost in a power failure: the folder cannot be synced: (.*)$/s, (file, why) => `${file} 已生效，但断电时可能丢失：目录无法同步：${why}`],
  [/^(\S+) cannot be written: (.*)$/s, (file, why = '') => `无法写入 ${file}：${saidText(why)}`],
  [/^rolled back: (.*)$/s, (why = '') => `已回滚：${saidText(why)}`],
  [/^no edit "(.*)": the last 50 are kept, .*$/, (number) => `没有编号为 ${number} 的修改：只保留最近 50 次`],
  [/^no such path: (.*)$/, (path) => `没有此路径：${path}`],
  [/^the body did not arrive within (\S+)$/, (span) => `请求体没有在 ${span} 内到达`],
  [/^(\d+) pings are running already; .*$/, (count) => `已有 ${count} 个 Ping 在运行，请几秒后重试`],
  [/^(\d+) event streams are open, (\d+) of them yours; allowed: (\d+) and (\d+)$/, (all, own, most, mostOwn) => `已打开 ${all} 个事件流，其中您的 ${own} 个；上限分别为 ${most} 和 ${mostOwn}`],
  // Signals
  [/^sent SIGHUP to pid=(\d+)$/, (pid) => `已向进程 ${pid} 发送 SIGHUP`],
  [/^no process with pid=(\d+): the proxy is not running$/, (pid) => `进程 ${pid} 不存在：代理未运行`],
  [/^no pid file (\S+): the proxy is not running$/, (file) => `没有 pid 文件 ${file}：代理未运行`],
  [/^pid=(\d+) is not proven to be the proxy: (.*); no signal was sent$/s, (pid, why = '') => `无法证明进程 ${pid} 是代理：${saidText(why)}；未发送信号`],
  [/^the pid file is locked by pid=(\d+)$/, (pid) => `pid 文件被进程 ${pid} 锁定`],
  [/^its name is (".*"), not one of (.*)$/, (name, names) => `进程名为 ${name}，不在 ${names} 之列`],
  [/^the proxy has no admin socket \((.*)\)$/s, (why) => `代理没有管理套接字（${why}）`],
  [/^admin socket (\S+): (.*): the proxy does not support this call$/, (socket, call) => `管理套接字 ${socket}：代理不支持 ${call}`],
  [/^admin socket (\S+): (\S+): no answer in (\S+)$/, (socket, call, span) => `管理套接字 ${socket}：${call} 在 ${span} 内没有应答`],
  [/^(\d+) backends? published$/, (count) => `已发布 ${count} 个后端`],
  [/^asked for a reload over proxy\.sock, pid=(\d+); no signal: (.*)$/s, (pid, why = '') => `已通过 proxy.sock 请求进程 ${pid} 重载；未发信号：${saidText(why)}`],
  [/^no confirmation within (\S+): (.*)$/s, (span, runs = '') => `${span} 内未确认：${saidText(runs)}`],
  [/^the proxy refused it and still runs generation (\d+): (.*)$/s, (still, why = '') => `代理已拒绝，仍运行配置版本 ${still}：${saidText(why)}`],
  [/^the proxy runs generation (\d+)$/, (still) => `代理运行的是配置版本 ${still}`],
  [/^the proxy runs a configuration of generation (\d+) that control has not published$/, (still) => `代理运行的配置版本 ${still} 不是控制面发布的`],
  [/^the proxy reads another file: it reads (.*), control writes (.*)$/s, (proxy, control) => `代理读取的是另一个文件：代理读取 ${proxy}，控制面写入 ${control}`],
  // The audit log: who, what, and what came of it
  [/^generation (\d+)$/, (number) => `配置版本 ${number}`],
  [/^control: (\w+)$/, (part = '') => `控制面：${PARTS[part] ?? part}`],
  [/^(\S+) with a session of token (.*) \((\w+)\)$/, (ip, name, scope) => `${name}（${scope}，控制台，${ip}）`],
  [/^(\S+) with token (.*) \((\w+)\)$/, (ip, name, scope) => `${name}（${scope}，${ip}）`],
  [/^silent registrations: (\d+)$/, (count) => `${count} 个注册没有心跳`],
  [/^refreshed without a token until (.*)$/, (until) => `${until} 之前可不带令牌续期`],
  // Access
  [/^unknown or revoked token$/, () => '令牌无效'],
  [/^this token has expired$/, () => '令牌已过期'],
  [/^this session has ended: sign in again$/, () => '会话已结束，请重新登录'],
  [/^no tokens are configured, so there is nothing to sign in with$/, () => '未配置令牌，无需登录'],
  [/^a token is needed: .*$/, () => '需要令牌，请先登录'],
  [/^the token lacks the scope (\w+)$/, (scope) => `令牌没有 ${scope} 权限`],
  [/^Sec-Fetch-Site: .*$/, () => '不允许其他网站的页面使用此 API'],
  [/^Origin is required: .*$/, () => '缺少 Origin：此会话只能由控制台自己的页面使用'],
  [
    /^too many wrong tokens from this address: try again in (\d+) s, .*$/,
    (seconds) => `此地址输错令牌的次数过多，请 ${seconds} 秒后重试，或使用由 control_server token create 生成的令牌`,
  ],
  [
    /^protected mode: .*$/,
    () =>
      '保护模式：未配置令牌，只服务本机的客户端。请用 control_server token create 生成令牌，并在 control/config/control_config.json 中设置 allowed_hosts；' +
      '也可以用隧道：ssh -L 8080:127.0.0.1:8080 控制面所在的机器',
  ],
];

/** Between the faults of one document. */
const NEXT_FAULT = /; (?=\/\S*(?::| is required)|\(top\)|and \d+ more$)/;

/** @param {string} text as control says it @returns {string} */
export function saidText(text) {
  const whole = WHOLE[text];
  if (whole !== undefined) return whole;
  const faults = text.split(NEXT_FAULT);
  if (faults.length > 1) return faults.map(saidText).join('；');
  for (const [pattern, made] of PHRASES) {
    const found = pattern.exec(text);
    if (found !== null) return made(...found.slice(1));
  }
  return text;
}

/** Several such texts, as a report joins them. @param {string} text */
export function saidTexts(text) {
  return text.split(' · ').map(saidText).join(' · ');
}

/** @param {string | undefined} place */
function placeText(place) {
  return place === '(top)' ? '最外层' : place;
}

/**
 * A part that the proxy refuses, and what holds in its place.
 * @param {string} [place] @param {string} [value] @param {string} [code] @param {string} [detail]
 * @param {string} [leftOut] @param {string} [kept] @param {string} [restart]
 */
function refusedPart(place, value, code = '', detail, leftOut, kept, restart) {
  const why = detail === undefined ? '' : `，${saidText(detail)}`;
  return [
    `代理拒绝 ${placeText(place)} ${value}（${CODES[code] ?? code}${why}）`,
    leftOut === undefined ? '' : '已跳过该条目',
    kept === undefined ? '' : `继续使用 ${kept}`,
    restart === undefined ? '' : '控制面不再重试：请加上 --keep-bind 重启代理，或改用其他端口',
  ].filter((part) => part !== '').join('；');
}
