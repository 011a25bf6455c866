//! GPUs as NVIDIA's DCGM exporter shows them, in a row for each GPU or each part of one.

use super::devices::{self, Device};
use super::samples::Samples;
use crate::figures::Figures;
use crate::gpus::{Gpu, GpuFigures, Memory};

/// Percent; and the name under `--use-old-namespace`.
const UTILIZATION: &[&str] = &["DCGM_FI_DEV_GPU_UTIL", "dcgm_gpu_utilization"];
/// A share; for a MIG part it goes first.
const ACTIVE: &[&str] = &["DCGM_FI_PROF_GR_ENGINE_ACTIVE"];
/// MiB.
const USED: &[&str] = &["DCGM_FI_DEV_FB_USED", "dcgm_fb_used"];
/// MiB.
const FREE: &[&str] = &["DCGM_FI_DEV_FB_FREE", "dcgm_fb_free"];

pub const NAMES: &[&str] = &[
    UTILIZATION[0],
    USED[0],
    FREE[0],
    ACTIVE[0],
    UTILIZATION[1],
    USED[1],
    FREE[1],
];

/// DCGM's words for "no value" are the largest numbers of each type; the smallest of them is that of
/// 32 bits (`DCGM_INT32_BLANK`, dcgm_structs.h).
const BLANK: f64 = 2_147_483_632.0;

pub fn read(samples: &mut Samples, gpus: &[Gpu]) -> Figures {
    let due = [Some(UTILIZATION), Some(USED)];
    devices::read(samples, gpus, NAMES, due, figures_of)
}

fn figures_of(samples: &mut Samples, device: Device) -> GpuFigures {
    let exposition = samples.exposition;
    let value = |names| devices::value(exposition, names, device).filter(|value| *value < BLANK);
    let percent = value(UTILIZATION).map(|percent| percent / 100.0);
    let usage = match device.is_part() {
        false => percent.or_else(|| value(ACTIVE)),
        // The exporter's versions 3 show a utilization of 0 for every part, however busy it is
        // (dcgm-exporter#216).
        true => value(ACTIVE).or_else(|| percent.filter(|percent| *percent > 0.0)),
    };
    let memory = value(USED).zip(value(FREE)).map(|(used, free)| Memory {
        used,
        total: used + free,
    });
    devices::figures(
        &mut samples.faults,
        usage.map(|usage| (UTILIZATION[0], usage)),
        memory.map(|memory| (USED[0], memory)),
    )
}
