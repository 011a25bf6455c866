/** @file The dark theme, in English on a desk and in Chinese on a small phone. */

import { findNothingWrong } from './sound.mjs';

findNothingWrong('dark', [['en-GB', 1280], ['zh-CN', 320]]);
