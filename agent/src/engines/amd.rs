//! GPUs as AMD's exporters show them: the Device Metrics Exporter, the AMD SMI Exporter before it, and
//! Omnistat's ROCm collector.

use super::devices::{self, Device};
use super::samples::Samples;
use crate::figures::Figures;
use crate::gpus::{Gpu, GpuFigures, Memory};

/// Percent. The Device Metrics Exporter's names may be given a prefix, and were in upper case once.
const ACTIVITY: &[&str] = &[
    "gpu_gfx_activity",
    "amd_gpu_gfx_activity",
    "GPU_GFX_ACTIVITY",
    "rocm_utilization_percentage",
    SMI,
];
/// Of the AMD SMI Exporter, which shows how busy the memory is and not how full.
const SMI: &str = "amd_gpu_use_percent";
/// MB.
const USED: &[&str] = &["gpu_used_vram", "amd_gpu_used_vram", "GPU_USED_VRAM"];
/// MB.
const TOTAL: &[&str] = &["gpu_total_vram", "amd_gpu_total_vram", "GPU_TOTAL_VRAM"];
/// Percent.
const USED_PERCENT: &[&str] = &["rocm_vram_used_percentage"];
const TOTAL_BYTES: &[&str] = &["rocm_vram_total_bytes"];

pub fn names() -> Vec<&'static str> {
    [ACTIVITY, USED, TOTAL, USED_PERCENT, TOTAL_BYTES].concat()
}

pub fn read(samples: &mut Samples, gpus: &[Gpu]) -> Figures {
    let has_memory = samples.shown(ACTIVITY) != Some(SMI);
    let due = [Some(ACTIVITY), has_memory.then_some(USED)];
    devices::read(samples, gpus, &names(), due, figures_of)
}

fn figures_of(samples: &mut Samples, device: Device) -> GpuFigures {
    let exposition = samples.exposition;
    let value = |names| devices::value(exposition, names, device);
    let usage = value(ACTIVITY).map(|percent| (ACTIVITY[0], percent / 100.0));
    let of = |what, used, total| (what, Memory { used, total });
    let memory = value(USED)
        .zip(value(TOTAL))
        .map(|(used, total)| of(USED[0], used, total));
    let memory = memory.or_else(|| {
        let percent = value(USED_PERCENT)?;
        let total = value(TOTAL_BYTES)?;
        Some(of(USED_PERCENT[0], percent / 100.0 * total, total))
    });
    devices::figures(&mut samples.faults, usage, memory)
}
