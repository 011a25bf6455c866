/** @file The light theme, in Chinese on a desk and in English on a small phone. */

import { findNothingWrong } from './sound.mjs';

findNothingWrong('light', [['zh-CN', 1280], ['en-GB', 320]]);
