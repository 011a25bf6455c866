/**
 * @file The proxy's reasons for a backend's state, and control's warnings, in Chinese. Both are said in
 * English: reasons from a closed set of phrases (proxy/src/health/words.rs) joined by semicolons,
 * warnings (control/src/web/answers.rs, control/src/keeper/files.rs) around the words of whatever
 * failed. A phrase that is not known here stays as it is.
 */

/** @type {Record<string, string>} */
const WORK = { sessions: '会话', flows: 'UDP 流', 'sessions failed': '会话失败', 'flows were refused': 'UDP 流被拒' };

/** What a probe found. @type {Record<string, string>} */
const FOUND = {
  passed: '通过',
  refused: '连接被拒',
  unreachable: '不可达',
  'no answer in time': '超时未应答',
  'closed before an answer': '应答前连接已关闭',
  'not the expected answer': '应答不符合预期',
  'the answer is not HTTP': '应答不是 HTTP',
};

/** @type {Record<string, string>} */
const WHOLE = {
  ...FOUND,
  'it reports that it warms up': '后端上报正在预热',
  'the last connect was refused': '最近一次连接被拒',
  'the last connect timed out': '最近一次连接超时',
  'the last connect succeeded': '最近一次连接成功',
  'the last flow was answered': '最近的 UDP 流得到了应答',
  'the last flow was refused': '最近的 UDP 流被拒',
  'no probe has ended yet': '尚无探测结果',
  'no connect was tried yet': '尚未连接过',
  'still used: all backends are out (all_down: fail_open)': '后端全部不可用，仍继续使用（all_down: fail_open）',
  // Control's own, where there is no proxy to ask.
  'the proxy does not report it': '代理没有该后端的信息',
};

/** @type {[RegExp, (...found: string[]) => string][]} */
const PHRASES = [
  [/^HTTP status (\d+)$/, (status) => `HTTP 状态码 ${status}`],
  [/^probe: passed in ([\d.]+ ms)$/, (time) => `探测通过，用时 ${time}`],
  [/^probe: passed \((\d+) of (\d+)\)$/, (count, of) => `探测通过（${count}/${of}）`],
  [/^probe: (.+) \((\d+) of (\d+)\)$/, (found = '', count, of) => `探测失败：${phrase(found)}（${count}/${of}）`],
  [/^not probed: health\.port leads to our own listener (\S+)$/, (listener) => `未探测：health.port 指向代理自己的监听 ${listener}`],
  [/^does not affect (sessions|flows)$/, (work = '') => work === 'flows' ? '不影响 UDP 流' : '不影响会话'],
  [/^(\d+) (sessions|flows) in a row failed$/, (count, work = '') => `连续 ${count} 个${WORK[work]}失败`],
  [/^slow start: (\d+) % of its share$/, (percent) => `慢启动：份额的 ${percent}%`],
  [
    /^ejected for (\d+) s: (\d+) (sessions failed|flows were refused) in a row$/,
    (span, count, what = '') => `已摘除，还有 ${span} 秒：连续 ${count} 个${WORK[what]}`,
  ],
  [
    /^ejected until probes pass \((\d+) of (\d+)\): (\d+) (sessions failed|flows were refused) in a row$/,
    (passed, of, count, what = '') => `已摘除，直到探测通过（${passed}/${of}）：连续 ${count} 个${WORK[what]}`,
  ],
];

/** @type {[RegExp, (...found: string[]) => string][]} */
const WARNINGS = [
  [/^mass expiry held back: .*$/, () => '大规模过期已暂缓：超过一半的注册后端没有上报'],
  [/^(\S+) is left out: (.*)$/, (address, why) => `${address} 未被发布：${why}`],
  [
    /^the audit log's disk does not answer; lines that wait to be written: (\d+)$/,
    (waiting) => `审计日志所在的磁盘没有响应，${waiting} 行等待写入`,
  ],
  [/^the proxy does not answer any more: (.*)$/, (why) => `代理已停止响应：${why}`],
  [/^(.*) \(said before it stopped answering\)$/, (what = '') => `${firstOf(WARNINGS, what)}（代理停止响应之前的报告）`],
  [
    /^the audit log cannot be written since (.*), lines lost: (\d+): (.*)$/,
    (since, lost, why) => `审计日志自 ${since} 起无法写入，已丢失 ${lost} 行：${why}`,
  ],
  [
    /^(\S+) cannot be read, so published backends are kept until it can: (\d+)$/,
    (file, kept) => `${file} 无法读取，暂时保留已发布的 ${kept} 个后端`,
  ],
  [/^not published: (.*)$/, (why) => `未发布：${why}`],
  [/^(.*); keeping the state in memory$/, (why) => `${why}；沿用内存中的内容`],
  [/^(.*); keeping the last valid backends of discovery$/, (why) => `${why}；沿用服务发现上次给出的内容`],
  [/^(.*); keeping the last valid backends of the static list$/, (why) => `${why}；沿用静态列表上次的内容`],
  [/^(.*); keeping the published settings$/, (why) => `${why}；沿用已发布的设置`],
];

/** Why a request was refused. @type {Record<string, string>} */
const REFUSALS = {
  'unknown or revoked token': '令牌无效',
  'this token has expired': '令牌已过期',
  'this session has ended: sign in again': '会话已结束，请重新登录',
};

/** @param {string} text as control says it */
export function refusalText(text) {
  return REFUSALS[text] ?? text;
}

/** @param {string} text as control says it */
export function warningText(text) {
  return firstOf(WARNINGS, text);
}

/** @param {string} text as the proxy says it */
export function reasonText(text) {
  return text.split('; ').map(phrase).join('；');
}

/** @param {string} text */
function phrase(text) {
  return WHOLE[text] ?? firstOf(PHRASES, text);
}

/**
 * @param {[RegExp, (...found: string[]) => string][]} phrases
 * @param {string} text
 */
function firstOf(phrases, text) {
  for (const [pattern, made] of phrases) {
    const found = pattern.exec(text);
    if (found !== null) return made(...found.slice(1));
  }
  return text;
}
