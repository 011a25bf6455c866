/**
 * @file Control's warnings in Chinese (control/src/web/answers.rs, control/src/keeper/files.rs). They enclose
 * the error of what failed. An unknown phrase stays as it is.
 */

import { saidText } from './refusals-zh.js';

/** @type {[RegExp, (...found: string[]) => string][]} */
const WARNINGS = [
  [/^mass expiry held back: .*$/, () => '大规模过期已暂缓：超过一半的注册后端没有心跳'],
  [/^(\S+) is left out: (.*)$/, (address, why) => `${address} 未发布：${cause(why)}`],
  [
    /^the audit log's disk does not respond; lines waiting to be written: (\d+)$/,
    (waiting) => `审计日志所在的磁盘没有响应，${waiting} 行等待写入`,
  ],
  [/^the proxy no longer answers: (.*)$/, (why = '') => `代理已停止响应：${saidText(why)}`],
  [/^(.*) \(reported before the proxy stopped answering\)$/, (what = '') => `${warningText(what)}（代理停止响应之前的报告）`],
  [
    /^the audit log cannot be written since (.*), lines lost: (\d+): (.*)$/,
    (since, lost, why) => `审计日志自 ${since} 起无法写入，已丢失 ${lost} 行：${why}`,
  ],
  [
    /^(\S+) cannot be read; keeping (\d+) published backends until it can$/,
    (file, kept) => `${file} 无法读取，暂时保留已发布的 ${kept} 个后端`,
  ],
  [/^listener (\S+): its settings are not applied: (.*)$/s, (name, why = '') => `监听 ${name} 的设置未生效：${saidText(why)}`],
  [/^not published: (.*)$/, (why = '') => `未发布：${saidText(why)}`],
  [/^(.*); keeping the state in memory$/, (why) => `${cause(why)}；沿用内存中的内容`],
  [/^(.*); keeping the settings in memory$/, (why) => `${cause(why)}；沿用内存中的设置`],
  [/^(.*); keeping the last valid backends of discovery$/, (why) => `${cause(why)}；沿用服务发现上次给出的内容`],
  [/^(.*); keeping the last valid backends of the static list$/, (why) => `${cause(why)}；沿用静态列表上次的内容`],
  [/^(.*); keeping the published settings$/, (why) => `${cause(why)}；沿用已发布的设置`],
  [/^(.*); keeping the published settings, as set by API: (.*)$/, (why, keys) => `${cause(why)}；沿用已发布的设置，视为通过 API 设置的有：${keys}`],
  [
    /^(\S+): together with the settings made by API, the proxy would refuse it: (.*); the previous settings stay in effect$/s,
    (file, why = '') => `${file}：与通过 API 设定的值合并后，代理会拒绝：${saidText(why)}；继续使用原有设置`,
  ],
  [/^(.*); the previous settings stay in effect$/, (why) => `${cause(why)}；继续使用原有设置`],
  [/^(\S+): (.*) changed: restart control to apply this$/, (file, keys) => `${file}：${keys} 已修改，重启控制面后生效`],
  [/^(\S+): line (\d+) is not a valid batch of changes, and is ignored$/, (file, line) => `${file}：第 ${line} 行不是有效的变更，已忽略`],
  [/^(\S+) cannot be written: (.*); retrying$/, (file, why) => `无法写入 ${file}：${why}；将重试`],
  [/^(.*); value ignored$/, (why) => `${cause(why)}；已忽略该值`],
  [/^(.*); entry skipped$/, (why) => `${cause(why)}；已跳过该条目`],
  [/^(.*): found (.*), taken as (.*)$/, (place, found, meant) => `${place}：收到 ${found}，按 ${meant} 处理`],
  [/^(\S+): and (\d+) more$/, (file, count) => `${file}：还有 ${count} 处`],
];

/** What is wrong with a file or a backend. @type {[RegExp, (...found: string[]) => string][]} */
const CAUSES = [
  [/^(.*): the file does not exist$/, (file) => `${file}：文件不存在`],
  [/^(\S+\.json): (\/.*)$/s, (file, faults = '') => `${file}：${saidText(faults)}`],
  [/^(.*) a second time$/, (entry) => `${entry} 重复`],
  [/^it is the proxy's own listener (\S+)$/, (listener) => `与代理自己的监听地址 ${listener} 相同`],
  [/^it is the control server's own address (\S+)$/, (address) => `与控制面自己的地址 ${address} 相同`],
  [/^more than (\d+) backends$/, (most) => `后端超过上限 ${most} 个`],
];

/** @param {string} text as control says it @returns {string} */
export function warningText(text) {
  const said = firstOf(WARNINGS, text);
  return said === text ? saidText(text) : said;
}

/** @param {string | undefined} text */
function cause(text = '') {
  const said = firstOf(CAUSES, text);
  return said === text ? saidText(text) : said;
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
