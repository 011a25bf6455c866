//! What the engines' metrics mean. Pure: the text of one scrape in, one reading out.
//!
//! The names are those of the engines' own sources: vLLM `vllm/v1/metrics/loggers.py` and
//! `ray_wrappers.py`, SGLang `srt/observability/metrics_collector.py`, TensorRT-LLM
//! `tensorrt_llm/metrics/collector.py`, Triton `core/src/metrics.cc` with its TensorRT-LLM backend,
//! text-generation-inference `docs/source/reference/metrics.md`, LMDeploy `lmdeploy/metrics/loggers.py`,
//! llama.cpp `tools/server/README.md`, dcgm-exporter `rendermetrics/render_metrics.go`, and AMD's
//! exporters. Older names follow the newer ones. `docs/agent.md` lists them for operators.

mod amd;
mod dcgm;
mod devices;
mod samples;
mod triton;

use std::io::Read;

use crate::exposition::{Exposition, ReadError};
use crate::figures::{Figures, Reading};
use crate::gpus::Gpu;
use samples::{Names, Samples, every};

/// A program that shows its state as Prometheus metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Vllm,
    Sglang,
    Triton,
    Trtllm,
    Tgi,
    Lmdeploy,
    Llamacpp,
    Dcgm,
    Amd,
}

/// A name in all spellings: with the colon, with an underscore in its place, as OpenTelemetry wants it,
/// and both behind Ray's prefix.
macro_rules! spelled {
    ($engine:literal: $($name:literal),+) => {
        &[$(
            concat!($engine, ":", $name),
            concat!($engine, "_", $name),
            concat!("ray_", $engine, ":", $name),
            concat!("ray_", $engine, "_", $name),
        )+]
    };
}

/// The names of an engine that has a cache of its own.
struct Cached {
    waiting: Names,
    /// Where requests wait beside that, in versions and modes that have such queues.
    also_waiting: &'static [Names],
    running: Names,
    also_running: &'static [Names],
    usage: Names,
    /// Whether there are versions that do not show it.
    may_lack_usage: bool,
}

const VLLM: Cached = Cached {
    waiting: spelled!("vllm": "num_requests_waiting"),
    also_waiting: &[],
    running: spelled!("vllm": "num_requests_running"),
    also_running: &[],
    usage: spelled!("vllm": "kv_cache_usage_perc", "gpu_cache_usage_perc"),
    may_lack_usage: false,
};
/// Where prefill and decode are done by different servers, a request waits for its partner and for the
/// cache's transfer before it comes to the waiting queue, and behind the prefill for its transfer.
const SGLANG: Cached = Cached {
    waiting: spelled!("sglang": "num_queue_reqs"),
    also_waiting: &[
        spelled!("sglang": "num_prefill_bootstrap_queue_reqs", "num_prefill_prealloc_queue_reqs"),
        spelled!("sglang": "num_decode_prealloc_queue_reqs"),
        spelled!("sglang": "num_decode_transfer_queue_reqs"),
    ],
    running: spelled!("sglang": "num_running_reqs"),
    also_running: &[spelled!("sglang": "num_prefill_inflight_queue_reqs")],
    usage: spelled!("sglang": "token_usage"),
    may_lack_usage: false,
};
const TRTLLM: Cached = Cached {
    waiting: spelled!("trtllm": "num_requests_waiting"),
    also_waiting: &[],
    running: spelled!("trtllm": "num_requests_running"),
    also_running: &[],
    usage: spelled!("trtllm": "kv_cache_utilization"),
    may_lack_usage: false,
};
/// It shows no usage of its cache.
const TGI: Cached = Cached {
    waiting: &["tgi_queue_size"],
    also_waiting: &[],
    running: &["tgi_batch_current_size"],
    also_running: &[],
    usage: &[],
    may_lack_usage: true,
};
/// Its newer versions also have a queue before the engine's.
const LMDEPLOY: Cached = Cached {
    waiting: spelled!("lmdeploy": "num_requests_waiting"),
    also_waiting: &[spelled!("lmdeploy": "num_api_requests_waiting")],
    running: spelled!("lmdeploy": "num_requests_running"),
    also_running: &[],
    usage: spelled!("lmdeploy": "gpu_cache_usage_perc"),
    may_lack_usage: true,
};
const LLAMACPP: Cached = Cached {
    waiting: spelled!("llamacpp": "requests_deferred"),
    also_waiting: &[],
    running: spelled!("llamacpp": "requests_processing"),
    also_running: &[],
    usage: spelled!("llamacpp": "kv_cache_usage_ratio"),
    may_lack_usage: true,
};

impl Engine {
    pub const ALL: [Engine; 9] = [
        Engine::Vllm,
        Engine::Sglang,
        Engine::Triton,
        Engine::Trtllm,
        Engine::Tgi,
        Engine::Lmdeploy,
        Engine::Llamacpp,
        Engine::Dcgm,
        Engine::Amd,
    ];

    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Vllm => "vllm",
            Engine::Sglang => "sglang",
            Engine::Triton => "triton",
            Engine::Trtllm => "trtllm",
            Engine::Tgi => "tgi",
            Engine::Lmdeploy => "lmdeploy",
            Engine::Llamacpp => "llamacpp",
            Engine::Dcgm => "dcgm",
            Engine::Amd => "amd",
        }
    }

    /// The default URL of its metrics. For an engine that serves metrics and clients on one port, only
    /// the path counts: the port is the advertised one.
    pub fn default_url(self) -> &'static str {
        match self {
            Engine::Vllm => "http://127.0.0.1:8000/metrics",
            Engine::Sglang => "http://127.0.0.1:30000/metrics",
            Engine::Triton => "http://127.0.0.1:8002/metrics",
            // Its /metrics is a list of iterations in JSON.
            Engine::Trtllm => "http://127.0.0.1:8000/prometheus/metrics",
            Engine::Tgi => "http://127.0.0.1:3000/metrics",
            Engine::Lmdeploy => "http://127.0.0.1:23333/metrics",
            Engine::Llamacpp => "http://127.0.0.1:8080/metrics",
            Engine::Dcgm => "http://127.0.0.1:9400/metrics",
            Engine::Amd => "http://127.0.0.1:5000/metrics",
        }
    }

    /// Whether its metrics are at the port at which it serves clients.
    pub fn shows_metrics_where_it_serves(self) -> bool {
        match self {
            Engine::Vllm
            | Engine::Sglang
            | Engine::Trtllm
            | Engine::Tgi
            | Engine::Lmdeploy
            | Engine::Llamacpp => true,
            Engine::Triton | Engine::Dcgm | Engine::Amd => false,
        }
    }

    /// The port, if it differs from that of the metrics, and the path of its health check. Exporters of
    /// GPUs know nothing about what is served.
    pub fn health(self) -> Option<(Option<u16>, &'static str)> {
        match self {
            Engine::Vllm
            | Engine::Sglang
            | Engine::Trtllm
            | Engine::Tgi
            | Engine::Lmdeploy
            | Engine::Llamacpp => Some((None, "/health")),
            Engine::Triton => Some((Some(8000), "/v2/health/ready")),
            Engine::Dcgm | Engine::Amd => None,
        }
    }

    /// Whether it takes nearly all of the GPU's memory when it starts, so that the driver's figure does not
    /// show its load.
    pub fn preallocates(self) -> bool {
        match self {
            Engine::Vllm
            | Engine::Sglang
            | Engine::Trtllm
            | Engine::Tgi
            | Engine::Lmdeploy
            | Engine::Llamacpp => true,
            Engine::Triton | Engine::Dcgm | Engine::Amd => false,
        }
    }

    /// Whether it shows only GPUs: figures that it does not report, the driver does not know either.
    pub fn shows_gpus_only(self) -> bool {
        matches!(self, Engine::Dcgm | Engine::Amd)
    }

    /// Reads a scrape to its end. `gpus` are those of the engine, as far as they were named.
    ///
    /// # Errors
    /// In words, if the text has none of this engine's metrics, or was cut.
    pub fn read(self, text: impl Read, gpus: &[Gpu]) -> Result<Reading, String> {
        let exposition = Exposition::read(text, &self.names());
        let exposition = exposition.map_err(|error| match error {
            ReadError::Nothing => {
                let expected = self.preferred().join(", ");
                format!("no metrics of this engine in the answer; expected: {expected}")
            }
            ReadError::Io(_) | ReadError::TooMany | ReadError::TooLarge | ReadError::Cut => {
                error.to_string()
            }
        })?;
        let mut samples = Samples::of(&exposition);
        let figures = match self.cached() {
            Some(names) => cached(&mut samples, names),
            None if self == Engine::Triton => triton::read(&mut samples, gpus),
            None if self == Engine::Amd => amd::read(&mut samples, gpus),
            None => dcgm::read(&mut samples, gpus),
        };
        let mark = "skipped a byte order mark at the start of the metrics";
        Ok(Reading {
            figures,
            faults: samples.faults,
            warnings: Vec::from_iter(exposition.has_mark.then(|| mark.to_owned())),
        })
    }

    /// The preferred name of each figure.
    fn preferred(self) -> Vec<&'static str> {
        match self.cached() {
            Some(names) => {
                let names = [names.waiting, names.running, names.usage];
                names
                    .iter()
                    .filter_map(|names| names.first().copied())
                    .collect()
            }
            None => self.names(),
        }
    }

    fn cached(self) -> Option<&'static Cached> {
        match self {
            Engine::Vllm => Some(&VLLM),
            Engine::Sglang => Some(&SGLANG),
            Engine::Trtllm => Some(&TRTLLM),
            Engine::Tgi => Some(&TGI),
            Engine::Lmdeploy => Some(&LMDEPLOY),
            Engine::Llamacpp => Some(&LLAMACPP),
            Engine::Triton | Engine::Dcgm | Engine::Amd => None,
        }
    }

    fn names(self) -> Vec<&'static str> {
        match (self.cached(), self) {
            (Some(names), _) => {
                let one = [names.waiting, names.running, names.usage].concat();
                let more = names.also_waiting.iter().chain(names.also_running);
                one.into_iter()
                    .chain(more.copied().flatten().copied())
                    .collect()
            }
            (None, Engine::Triton) => triton::names(),
            (None, Engine::Amd) => amd::names(),
            (None, _) => dcgm::NAMES.to_vec(),
        }
    }
}

fn cached(samples: &mut Samples, names: &Cached) -> Figures {
    let is_shown = !names.may_lack_usage || samples.shown(names.usage).is_some();
    Figures {
        gpu_usage: None,
        vram_usage: is_shown
            .then(|| samples.fullest(names.usage, every))
            .flatten(),
        queue: samples.count_with(names.waiting, names.also_waiting),
        running: samples.count_with(names.running, names.also_running),
    }
}
