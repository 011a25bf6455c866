/**
 * @file Why control refused something, and what it says of a signal to the proxy, in Chinese: what a
 * setting was found to be and may be (contract/src), why a call was refused (control/src/model.rs), what
 * became of a reload (contract/src/reload.rs). What is not known here stays as it is.
 */

import { refusalText } from './reasons-zh.js';

/** @typedef {[RegExp, (...found: string[]) => string]} Phrase */

/** @type {Record<string, string>} */
const WHOLE = {
  // Edits
  'no mass expiry is being held back': '当前没有被暂缓的大规模过期',
  'the outcome of this call is known already': '该操作的结果已经确定',
  'the control server is stopping': '控制面正在停止',
  'someone else has edited since: read again, review the differences, and send the change with the new ETag':
    '已被他人修改：请重新读取，核对差异后用新的 ETag 提交',
  // The proxy
  'no reload needed: only load figures changed': '无需重载：只有负载数据变化',
  'applied, but may be lost in a power failure': '已生效，但断电时可能丢失',
  'another program keeps replacing it': '另一个程序不断替换该文件',
  'the proxy did not confirm in time': '代理没有及时确认',
  'nothing was signalled': '未发送信号',
  'not published in time': '没有及时发布',
  'restored or written by others, and read by the proxy; published again': '被恢复或由他人写入，且代理已读取；已重新发布',
  // What a value may be
  'a JSON object': 'JSON 对象',
  'an object': '对象',
  'an object of parameters': '参数对象',
  'an object {host, port, tcp, udp}': '对象 {host, port, tcp, udp}',
  'an object of optional keys of proxy_config.json': '由 proxy_config.json 的可选键组成的对象',
  'an optional key of proxy_config.json': 'proxy_config.json 的可选键',
  'a number, or null': '数字或 null',
  'a number from 0 to 1, or null': '0 至 1 的数字，或 null',
  'true or false': 'true 或 false',
  'a string': '字符串',
  'a path that begins with /': '以 / 开头的路径',
  'a host name or address': '主机名或地址',
  'send or send_hex for a udp probe': 'udp 探测需要 send 或 send_hex',
  'send, expect or both (send_hex, expect_hex) for a send_expect probe': 'send_expect 探测需要 send 或 expect（或 send_hex、expect_hex），也可两者都有',
  '[LOWEST, HIGHEST], both from 100 to 599 and in this order': '[最小, 最大]，均为 100 至 599，且由小到大',
  'an address and port that the control server does not listen on': '控制面未使用的地址和端口',
  'an IPv4 or IPv6 address, 0.0.0.0 or :: for all': 'IPv4 或 IPv6 地址；0.0.0.0 或 :: 表示全部地址',
  // What was found
  'an unknown key': '未知的键',
  nothing: '空',
  both: '两者都有',
  'a base key': '基本键',
  'an array': '数组',
  'no number': '不是数字',
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
};

/** @type {Phrase[]} */
const PHRASES = [
  [/^an integer from (\S+) to (\S+)$/, (from, to) => `${from} 至 ${to} 的整数`],
  [/^a number from (\S+) to (\S+)$/, (from, to) => `${from} 至 ${to} 的数字`],
  [/^one of (.*?)(?:; did you mean (".*")\?)?$/, (list, meant) => `以下之一：${list}${meant === undefined ? '' : `；是否想写 ${meant}？`}`],
  [/^a known key; did you mean (".*")\?$/, (meant) => `已知的键；是否想写 ${meant}？`],
  [/^at most (\d+) bytes$/, (most) => `不超过 ${most} 字节`],
  [/^at least base_ms, which is (\d+)$/, (least) => `不小于 base_ms（${least}）`],
  [/^(.*), 1 to (\d+) printable ASCII characters without spaces$/, (what = '', most) => `${saidText(what)}，1 至 ${most} 个可打印的 ASCII 字符，不含空格`],
  [/^an even number of hexadecimal digits, at most (\d+) bytes$/, (most) => `偶数个十六进制数字，不超过 ${most} 字节`],
  [/^(\w+) or (\w+), not both$/, (one, two) => `${one} 或 ${two}，不能两者都有`],
  [/^an array of at most (\d+) networks as (.*) or (".*")$/, (most, list, last) => `最多 ${most} 个网段的数组，例如 ${list}、${last}`],
  [/^(\d+) networks$/, (count) => `${count} 个网段`],
  [/^(.*), where the control server listens \((.*)\)$/, (value, control) => `${value}，而控制面正监听 ${control}`],
  [/^(\S*): found (.*), allowed: (.*)$/s, (place, found = '', allowed = '') => `${place}：收到 ${saidText(found)}，允许：${saidText(allowed)}`],
  [/^no backend (\S+) is registered, listed or discovered$/, (id) => `没有后端 ${id}：未注册，也不在静态列表或服务发现中`],
  [/^backend (\S+) has no registration$/, (id) => `后端 ${id} 没有注册`],
  [/^backend (\S+) is not in the static list$/, (id) => `后端 ${id} 不在静态列表中`],
  [/^the static list is full: at most (\d+) backends$/, (most) => `静态列表已满：最多 ${most} 个后端`],
  [/^the registry is full: at most (\d+) backends$/, (most) => `注册表已满：最多 ${most} 个后端`],
  [/^the static list cannot be read, so nothing was changed in it: (.*); repair the file first$/s, (why) => `静态列表无法读取，未做任何修改：${why}；请先修复该文件`],
  [/^the change was made for revision (\d+); the current revision is (\d+)$/, (expected, current) => `此修改基于编辑版本 ${expected}，当前为 ${current}`],
  [/^nothing was changed: (.*) cannot be written: (.*)$/s, (file, why) => `未做任何修改：${file} 无法写入：${why}`],
  [/^rolled back: (.*)$/s, (why = '') => `已回滚：${saidText(why)}`],
  [/^no such path: (.*)$/, (path) => `没有此路径：${path}`],
  // Signals
  [/^sent SIGHUP to pid=(\d+)$/, (pid) => `已向进程 ${pid} 发送 SIGHUP`],
  [/^no process with pid=(\d+): the proxy is not running$/, (pid) => `进程 ${pid} 不存在：代理未运行`],
  [/^no pid file (\S+): the proxy is not running$/, (file) => `没有 pid 文件 ${file}：代理未运行`],
  [/^pid=(\d+) is not proven to be the proxy: (.*); nothing was signalled$/s, (pid, why) => `无法证明进程 ${pid} 是代理：${why}；未发送信号`],
  [/^the proxy has no admin socket \((.*)\)$/s, (why) => `代理没有管理套接字（${why}）`],
  [/^(\d+) backends? published$/, (count) => `已发布 ${count} 个后端`],
  [/^asked for a reload over proxy\.sock, pid=(\d+); no signal: (.*)$/s, (pid, why = '') => `已通过 proxy.sock 请求进程 ${pid} 重载；未发信号：${saidText(why)}`],
  [/^no confirmation within (\S+): (.*)$/s, (span, runs = '') => `${span} 内未确认：${saidText(runs)}`],
  [/^the proxy refused it and still runs generation (\d+): (.*)$/s, (still, why = '') => `代理已拒绝，仍运行配置版本 ${still}：${saidText(why)}`],
  [/^the proxy runs generation (\d+)$/, (still) => `代理运行的是配置版本 ${still}`],
  [/^the proxy reads another file: it reads (.*), control writes (.*)$/s, (proxy, control) => `代理读取的是另一个文件：代理读取 ${proxy}，控制面写入 ${control}`],
  // The audit log: who, what, and what came of it
  [/^generation (\d+)$/, (number) => `配置版本 ${number}`],
  [/^control: (\w+)$/, (part = '') => `控制面：${PARTS[part] ?? part}`],
  [/^(\S+) with a session of token (.*) \((\w+)\)$/, (ip, name, scope) => `${name}（${scope}，控制台，${ip}）`],
  [/^(\S+) with token (.*) \((\w+)\)$/, (ip, name, scope) => `${name}（${scope}，${ip}）`],
  [/^silent registrations: (\d+)$/, (count) => `${count} 个注册没有心跳`],
  [/^refreshed without a token until (.*)$/, (until) => `${until} 之前可不带令牌续期`],
];

/** @param {string} text as control says it */
export function saidText(text) {
  const whole = WHOLE[text];
  if (whole !== undefined) return whole;
  for (const [pattern, made] of PHRASES) {
    const found = pattern.exec(text);
    if (found !== null) return made(...found.slice(1));
  }
  return refusalText(text);
}

/** Several such texts, as a report joins them. @param {string} text */
export function saidTexts(text) {
  return text.split(' · ').map(saidText).join(' · ');
}
