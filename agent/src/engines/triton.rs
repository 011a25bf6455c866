//! Triton: any model's queue, GPUs by DCGM's library inside it, and, where its TensorRT-LLM backend
//! serves, that backend's own requests and cache.

use super::devices::{self, Device};
use super::samples::{Samples, every};
use crate::exposition::Sample;
use crate::figures::{Figures, share};
use crate::gpus::{Gpu, GpuFigures, Memory, together};

const PENDING: &str = "nv_inference_pending_request_count";
const REQUESTS: &str = "nv_trt_llm_request_metrics";
const BLOCKS: &str = "nv_trt_llm_kv_cache_block_metrics";
const GPU_USAGE: &str = "nv_gpu_utilization";
const MEMORY_USED: &str = "nv_gpu_memory_used_bytes";
const MEMORY_TOTAL: &str = "nv_gpu_memory_total_bytes";

pub const NAMES: &[&str] = &[
    PENDING,
    REQUESTS,
    BLOCKS,
    GPU_USAGE,
    MEMORY_USED,
    MEMORY_TOTAL,
];

pub fn read(samples: &mut Samples, gpus: &[Gpu]) -> Figures {
    let (gpu_usage, memory_usage) = gpu_figures(samples, gpus);
    let pending = samples.count(PENDING, every);
    if !samples.have(REQUESTS) {
        return Figures {
            gpu_usage,
            vram_usage: memory_usage,
            queue: pending,
            running: None,
        };
    }
    // What Triton has handed on waits inside the backend.
    let waiting = samples.count(REQUESTS, |sample| is(sample, "request_type", "waiting"));
    let running = samples.count(REQUESTS, |sample| is(sample, "request_type", "scheduled"));
    Figures {
        gpu_usage,
        // The backend's cache is allocated when it starts, so memory says nothing of the load.
        vram_usage: cache_usage(samples),
        queue: pending
            .zip(waiting)
            .map(|(outside, inside)| outside + inside),
        running,
    }
}

fn is(sample: &Sample, label: &str, value: &str) -> bool {
    sample.label(label) == Some(value)
}

/// The backend's own fraction, or, in versions without it, used blocks of all.
fn cache_usage(samples: &mut Samples) -> Option<f64> {
    const KIND: &str = "kv_cache_block_type";
    let has_fraction = samples
        .exposition
        .of(BLOCKS)
        .any(|sample| is(sample, KIND, "fraction"));
    if has_fraction {
        return samples.fullest(&[BLOCKS], |sample| is(sample, KIND, "fraction"));
    }
    let used = samples.count(BLOCKS, |sample| is(sample, KIND, "used"))?;
    let max = samples.count(BLOCKS, |sample| is(sample, KIND, "max"))?;
    let usage = share(BLOCKS, used as f64 / max as f64);
    usage.map_err(|fault| samples.faults.push(fault)).ok()
}

/// The GPUs that were named, or all that Triton uses. It knows them by UUID alone: those named by
/// an index or as a part are the driver's to tell.
fn gpu_figures(samples: &mut Samples, gpus: &[Gpu]) -> (Option<f64>, Option<f64>) {
    let exposition = samples.exposition;
    let shown = devices::shown(exposition, &NAMES[3..]);
    let is_chosen = |device: &Device| gpus.is_empty() || gpus.iter().any(|gpu| device.is(gpu));
    let chosen: Vec<Device> = shown.into_iter().filter(is_chosen).collect();
    if !gpus.is_empty() && chosen.len() < gpus.len() {
        return (None, None);
    }
    let figures: Vec<GpuFigures> = chosen
        .into_iter()
        .map(|device| {
            let value = |name| devices::value(exposition, &[name], device);
            let usage = value(GPU_USAGE).map(|value| share(GPU_USAGE, value));
            let memory = value(MEMORY_USED).zip(value(MEMORY_TOTAL));
            GpuFigures {
                usage: usage
                    .and_then(|usage| usage.map_err(|fault| samples.faults.push(fault)).ok()),
                memory: memory.map(|(used, total)| Memory { used, total }),
            }
        })
        .collect();
    let (usage, memory) = together(&figures);
    let memory = memory.map(|memory| share(MEMORY_USED, memory));
    let memory = memory.and_then(|memory| memory.map_err(|fault| samples.faults.push(fault)).ok());
    (usage, memory)
}
