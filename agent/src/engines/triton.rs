//! Triton: any model's queue, GPUs by DCGM's library inside it, and, where its TensorRT-LLM backend
//! serves, that backend's own requests and cache.

use super::devices::{self, Device};
use super::samples::{Names, Samples, every};
use crate::exposition::Sample;
use crate::figures::{Figures, share};
use crate::gpus::{Gpu, GpuFigures, MAX_GPUS, Memory, together};

const PENDING: Names = &["nv_inference_pending_request_count"];
const REQUESTS: Names = &["nv_trt_llm_request_metrics"];
const BLOCKS: Names = &["nv_trt_llm_kv_cache_block_metrics"];
const GPU_USAGE: Names = &["nv_gpu_utilization"];
const MEMORY_USED: Names = &["nv_gpu_memory_used_bytes"];
const MEMORY_TOTAL: Names = &["nv_gpu_memory_total_bytes"];
const OF_GPUS: [Names; 3] = [GPU_USAGE, MEMORY_USED, MEMORY_TOTAL];

pub fn names() -> Vec<&'static str> {
    [
        PENDING,
        REQUESTS,
        BLOCKS,
        GPU_USAGE,
        MEMORY_USED,
        MEMORY_TOTAL,
    ]
    .concat()
}

pub fn read(samples: &mut Samples, gpus: &[Gpu]) -> Figures {
    let (gpu_usage, memory_usage) = gpu_figures(samples, gpus);
    let pending = samples.count(PENDING, every);
    if samples.shown(REQUESTS).is_none() {
        return Figures {
            gpu_usage,
            vram_usage: memory_usage,
            queue: pending,
            running: None,
        };
    }
    let running = samples.count(REQUESTS, requests("scheduled"));
    Figures {
        gpu_usage,
        // The backend's cache is allocated when it starts, so memory does not show the load.
        vram_usage: cache_usage(samples),
        // What Triton has handed on waits inside the backend.
        queue: pending
            .zip(waiting(samples, running))
            .map(|(outside, inside)| outside + inside),
        running,
    }
}

/// Requests that wait inside the backend. Older versions do not report them, but show how many requests
/// the backend has taken in and how many of them are scheduled, counted one after the other.
fn waiting(samples: &mut Samples, running: Option<u64>) -> Option<u64> {
    let mut rows = samples.exposition.of(REQUESTS[0]);
    if rows.any(requests("waiting")) {
        return samples.count(REQUESTS, requests("waiting"));
    }
    let active = samples.count(REQUESTS, requests("active"))?;
    Some(active.saturating_sub(running?))
}

fn requests(kind: &'static str) -> impl Fn(&Sample) -> bool + Copy {
    move |sample| sample.label("request_type") == Some(kind)
}

fn blocks(kind: &'static str) -> impl Fn(&Sample) -> bool + Copy {
    move |sample| sample.label("kv_cache_block_type") == Some(kind)
}

/// The backend's own fraction, or, in versions without it, used blocks of all.
fn cache_usage(samples: &mut Samples) -> Option<f64> {
    if samples.exposition.of(BLOCKS[0]).any(blocks("fraction")) {
        return samples.fullest(BLOCKS, blocks("fraction"));
    }
    let used = samples.count(BLOCKS, blocks("used"))?;
    let max = samples.count(BLOCKS, blocks("max"))?;
    let usage = share(BLOCKS[0], used as f64 / max as f64);
    usage.map_err(|fault| samples.faults.push(fault)).ok()
}

/// The GPUs that were named, or all that Triton uses. It knows them by UUID alone: those named by
/// an index or as a part are the driver's to tell.
fn gpu_figures(samples: &mut Samples, gpus: &[Gpu]) -> (Option<f64>, Option<f64>) {
    let exposition = samples.exposition;
    let shown = devices::shown(exposition, OF_GPUS.into_iter().flatten());
    let is_chosen = |device: &Device| gpus.is_empty() || gpus.iter().any(|gpu| device.is(gpu));
    let chosen: Vec<Device> = shown.into_iter().filter(is_chosen).collect();
    if !gpus.is_empty() && chosen.len() < gpus.len() {
        return (None, None);
    }
    if chosen.len() > MAX_GPUS {
        let found = format!("{} GPUs, allowed: at most {MAX_GPUS}", chosen.len());
        samples.faults.push(found);
        return (None, None);
    }
    let figures: Vec<GpuFigures> = chosen
        .into_iter()
        .map(|device| {
            let value = |names| devices::value(exposition, names, device);
            let memory = value(MEMORY_USED).zip(value(MEMORY_TOTAL));
            devices::figures(
                &mut samples.faults,
                value(GPU_USAGE).map(|usage| (GPU_USAGE[0], usage)),
                memory.map(|(used, total)| (MEMORY_USED[0], Memory { used, total })),
            )
        })
        .collect();
    together(&figures)
}
