//! What the engines' metrics mean. Pure: the text of one scrape in, one reading out.
//!
//! The names are those of the engines' own sources: vLLM `vllm/v1/metrics/loggers.py`, SGLang
//! `srt/metrics/collector.py`, TensorRT-LLM `tensorrt_llm/metrics/collector.py`, Triton
//! `core/src/metrics.cc` with its TensorRT-LLM backend, text-generation-inference
//! `docs/source/reference/metrics.md`, dcgm-exporter `rendermetrics/render_metrics.go`. Older names
//! stand behind the newer ones.

mod dcgm;
mod devices;
mod samples;
mod triton;

use crate::exposition::Exposition;
use crate::figures::{Figures, Reading};
use crate::gpus::Gpu;
use samples::{Samples, every};

/// A program that shows its state as Prometheus metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Vllm,
    Sglang,
    Triton,
    Trtllm,
    Tgi,
    Dcgm,
}

/// The names of an engine that has a cache of its own.
struct Cached {
    waiting: &'static str,
    running: &'static str,
    /// The cache's usage, newest name first.
    usage: &'static [&'static str],
}

const VLLM: Cached = Cached {
    waiting: "vllm:num_requests_waiting",
    running: "vllm:num_requests_running",
    usage: &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
};
const SGLANG: Cached = Cached {
    waiting: "sglang:num_queue_reqs",
    running: "sglang:num_running_reqs",
    usage: &["sglang:token_usage"],
};
const TRTLLM: Cached = Cached {
    waiting: "trtllm_num_requests_waiting",
    running: "trtllm_num_requests_running",
    usage: &["trtllm_kv_cache_utilization"],
};
/// It shows no usage of its cache.
const TGI: Cached = Cached {
    waiting: "tgi_queue_size",
    running: "tgi_batch_current_size",
    usage: &[],
};

impl Engine {
    pub const ALL: [Engine; 6] = [
        Engine::Vllm,
        Engine::Sglang,
        Engine::Triton,
        Engine::Trtllm,
        Engine::Tgi,
        Engine::Dcgm,
    ];

    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Vllm => "vllm",
            Engine::Sglang => "sglang",
            Engine::Triton => "triton",
            Engine::Trtllm => "trtllm",
            Engine::Tgi => "tgi",
            Engine::Dcgm => "dcgm",
        }
    }

    /// Where it shows its metrics, unless told otherwise.
    pub fn default_url(self) -> &'static str {
        match self {
            Engine::Vllm => "http://127.0.0.1:8000/metrics",
            Engine::Sglang => "http://127.0.0.1:30000/metrics",
            Engine::Triton => "http://127.0.0.1:8002/metrics",
            // Its /metrics is a list of iterations in JSON.
            Engine::Trtllm => "http://127.0.0.1:8000/prometheus/metrics",
            Engine::Tgi => "http://127.0.0.1:3000/metrics",
            Engine::Dcgm => "http://127.0.0.1:9400/metrics",
        }
    }

    /// The port, where it is another than that of the metrics, and the path at which it says that
    /// it serves. DCGM's exporter knows nothing of what is served.
    pub fn health(self) -> Option<(Option<u16>, &'static str)> {
        match self {
            Engine::Vllm | Engine::Sglang | Engine::Trtllm | Engine::Tgi => Some((None, "/health")),
            Engine::Triton => Some((Some(8000), "/v2/health/ready")),
            Engine::Dcgm => None,
        }
    }

    /// Whether it takes nearly all of the GPU's memory when it starts, so that the driver's figure
    /// says nothing of its load.
    pub fn preallocates(self) -> bool {
        match self {
            Engine::Vllm | Engine::Sglang | Engine::Trtllm | Engine::Tgi => true,
            Engine::Triton | Engine::Dcgm => false,
        }
    }

    /// Reads a scrape. `gpus` are those of the engine, as far as they were named.
    ///
    /// # Errors
    /// In words, where the text holds none of this engine's metrics.
    pub fn read(self, text: &str, gpus: &[Gpu]) -> Result<Reading, String> {
        let names = self.names();
        let exposition = Exposition::parse(text, &names)?;
        if exposition.is_empty() {
            return Err(format!(
                "none of its metrics is there: {}",
                names.join(", ")
            ));
        }
        let mut samples = Samples::of(&exposition);
        let figures = match self {
            Engine::Vllm => cached(&mut samples, &VLLM),
            Engine::Sglang => cached(&mut samples, &SGLANG),
            Engine::Trtllm => cached(&mut samples, &TRTLLM),
            Engine::Tgi => cached(&mut samples, &TGI),
            Engine::Triton => triton::read(&mut samples, gpus),
            Engine::Dcgm => dcgm::read(&mut samples, gpus),
        };
        let mut faults = samples.faults;
        if exposition.malformed > 0 {
            faults.push(format!("{} lines are no samples", exposition.malformed));
        }
        Ok(Reading { figures, faults })
    }

    fn names(self) -> Vec<&'static str> {
        let of = |cached: &Cached| [&[cached.waiting, cached.running], cached.usage].concat();
        match self {
            Engine::Vllm => of(&VLLM),
            Engine::Sglang => of(&SGLANG),
            Engine::Trtllm => of(&TRTLLM),
            Engine::Tgi => of(&TGI),
            Engine::Triton => triton::NAMES.to_vec(),
            Engine::Dcgm => dcgm::NAMES.to_vec(),
        }
    }
}

fn cached(samples: &mut Samples, names: &Cached) -> Figures {
    let has_usage = !names.usage.is_empty();
    Figures {
        gpu_usage: None,
        vram_usage: has_usage
            .then(|| samples.fullest(names.usage, every))
            .flatten(),
        queue: samples.count(names.waiting, every),
        running: samples.count(names.running, every),
    }
}
