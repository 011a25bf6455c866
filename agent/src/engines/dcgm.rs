//! GPUs as NVIDIA's DCGM exporter shows them, in a row for each GPU or each part of one.

use super::devices::{self, Device};
use super::samples::Samples;
use crate::exposition::Exposition;
use crate::figures::{Figures, share};
use crate::gpus::{Gpu, GpuFigures, Memory, together};

/// Percent; and the name under `--use-old-namespace`.
const UTILIZATION: &[&str] = &["DCGM_FI_DEV_GPU_UTIL", "dcgm_gpu_utilization"];
/// A share; what there is for a MIG part, which has no utilization.
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
    let exposition = samples.exposition;
    let chosen = match choose(&devices::shown(exposition, NAMES), gpus) {
        Ok(chosen) => chosen,
        Err(fault) => {
            samples.faults.push(fault);
            return Figures::default();
        }
    };
    let figures: Vec<GpuFigures> = chosen
        .into_iter()
        .map(|device| figures_of(exposition, device))
        .collect();
    let (usage, memory) = together(&figures);
    let mut known = |names: &[&str], found: Option<f64>| match found {
        None => {
            samples.faults.push(format!("no {}", names[0]));
            None
        }
        Some(found) => {
            let found = share(names[0], found);
            found.map_err(|fault| samples.faults.push(fault)).ok()
        }
    };
    Figures {
        gpu_usage: known(UTILIZATION, usage),
        vram_usage: known(USED, memory),
        queue: None,
        running: None,
    }
}

/// The named devices; without names the only one, since which of several is meant cannot be known.
fn choose<'e>(shown: &[Device<'e>], gpus: &[Gpu]) -> Result<Vec<Device<'e>>, String> {
    let listed = || {
        let names: Vec<String> = shown.iter().map(Device::name).collect();
        names.join(", ")
    };
    if gpus.is_empty() {
        return match shown {
            [only] => Ok(vec![*only]),
            _ => Err(format!(
                "several GPUs and none is named, allowed: {}",
                listed()
            )),
        };
    }
    let find = |gpu: &Gpu| {
        let found = shown.iter().find(|device| device.is(gpu));
        found
            .copied()
            .ok_or_else(|| format!("GPU {gpu} is not there, allowed: {}", listed()))
    };
    gpus.iter().map(find).collect()
}

fn figures_of(exposition: &Exposition, device: Device) -> GpuFigures {
    let value = |names| devices::value(exposition, names, device).filter(|value| *value < BLANK);
    let percent = value(UTILIZATION).map(|percent| percent / 100.0);
    let memory = value(USED).zip(value(FREE));
    GpuFigures {
        usage: percent.or_else(|| value(ACTIVE)),
        memory: memory.map(|(used, free)| Memory {
            used,
            total: used + free,
        }),
    }
}
