//! One reading of one engine, from whatever source has its figures.

use crate::command;
use crate::fetch::Http;
use crate::figures::{Figures, Reading, share};
use crate::gpus::{GpuFigures, Gpus, together};
use crate::settings::{EngineSettings, Source};

/// Reads an engine once.
///
/// # Errors
/// In words, if its source gave nothing at all.
pub fn read(settings: &EngineSettings, http: &Http, gpus: &dyn Gpus) -> Result<Reading, String> {
    let source = &settings.source;
    let reading = match source {
        Source::Nvml => return read_gpus(settings, gpus).map(|gpus| of_gpus(gpus, true)),
        Source::Command(text) => command::read(text, settings.timeout),
        Source::Metrics { engine, url } => http.read(url, |body| engine.read(body, &settings.gpus)),
    };
    let reading = reading.map_err(|why| format!("{}: {why}", source.place()))?;
    Ok(completed(reading, settings, gpus))
}

/// Adds figures that the engine does not report and the driver may know. The driver's memory figure
/// counts only if the engine does not allocate all memory when it starts.
fn completed(mut reading: Reading, settings: &EngineSettings, gpus: &dyn Gpus) -> Reading {
    let (wants_gpus, wants_memory) = match &settings.source {
        Source::Nvml => (false, false),
        Source::Command(_) => (true, true),
        Source::Metrics { engine, .. } => (!engine.shows_gpus_only(), !engine.preallocates()),
    };
    let figures = &mut reading.figures;
    let lacks = figures.gpu_usage.is_none() || (wants_memory && figures.vram_usage.is_none());
    if !wants_gpus || !lacks || settings.gpus.is_empty() {
        return reading;
    }
    match read_gpus(settings, gpus) {
        Err(why) => reading.faults.push(why),
        Ok(asked) => {
            let driver = of_gpus(asked, wants_memory);
            figures.gpu_usage = figures.gpu_usage.or(driver.figures.gpu_usage);
            if wants_memory {
                figures.vram_usage = figures.vram_usage.or(driver.figures.vram_usage);
            }
            reading.faults.extend(driver.faults);
        }
    }
    reading
}

fn read_gpus(settings: &EngineSettings, gpus: &dyn Gpus) -> Result<Vec<GpuFigures>, String> {
    settings.gpus.iter().map(|gpu| gpus.read(gpu)).collect()
}

fn of_gpus(gpus: Vec<GpuFigures>, wants_memory: bool) -> Reading {
    let (usage, memory) = together(&gpus);
    let mut faults = Vec::new();
    let mut known = |what: &str, found: Option<f64>| {
        let found = found.ok_or_else(|| format!("the driver has no {what} of this GPU"));
        let found = found.and_then(|found| share(what, found));
        found.map_err(|fault| faults.push(fault)).ok()
    };
    let figures = Figures {
        gpu_usage: known("utilization", usage),
        vram_usage: wants_memory.then(|| known("memory", memory)).flatten(),
        ..Figures::default()
    };
    Reading {
        figures,
        faults,
        warnings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpus::{Gpu, Memory};
    use crate::settings::read_engine;
    use contract::Faults;
    use serde_json::json;
    use std::time::Duration;

    /// GPUs by index: 0 and 1 whole, 2 a part without utilization, the others absent.
    struct Bench;

    impl Gpus for Bench {
        fn read(&self, gpu: &Gpu) -> Result<GpuFigures, String> {
            let memory = |used| Some(Memory { used, total: 80.0 });
            match gpu {
                Gpu::Index(0) => Ok(GpuFigures {
                    usage: Some(0.9),
                    memory: memory(76.0),
                }),
                Gpu::Index(1) => Ok(GpuFigures {
                    usage: Some(0.1),
                    memory: memory(4.0),
                }),
                Gpu::Index(2) => Ok(GpuFigures {
                    usage: None,
                    memory: memory(40.0),
                }),
                Gpu::Index(_) | Gpu::Uuid(_) | Gpu::Mig(_) => Err(format!("GPU {gpu}: not here")),
            }
        }
    }

    fn settings(engine: serde_json::Value) -> EngineSettings {
        let mut faults = Faults::default();
        let mut engine = engine;
        engine["advertise"] = "127.0.0.1:9001".into();
        let map = engine.as_object().expect("the test gives objects");
        read_engine(map, "", &mut faults).unwrap_or_else(|| panic!("{faults}"))
    }

    fn http() -> Http {
        Http::open(Duration::from_secs(1), &Default::default()).expect("no files")
    }

    #[test]
    fn the_driver_alone_gives_usage_and_memory() {
        let read = |gpu| {
            read(
                &settings(json!({ "source": "nvml", "gpu": gpu })),
                &http(),
                &Bench,
            )
        };
        let one = read(json!(0)).expect("it is there").figures;
        assert_eq!((one.gpu_usage, one.vram_usage), (Some(0.9), Some(0.95)));
        assert_eq!((one.queue, one.running), (None, None));
        let both = read(json!([0, 1])).expect("they are there").figures;
        assert_eq!((both.gpu_usage, both.vram_usage), (Some(0.5), Some(0.5)));
        let part = read(json!(2)).expect("it is there");
        assert_eq!(part.figures.vram_usage, Some(0.5));
        assert!(part.figures.gpu_usage.is_none() && part.faults.len() == 1);
        assert!(
            read(json!("GPU-x"))
                .expect_err("it is not")
                .contains("GPU-x")
        );
    }

    fn completed_with(source: &str, gpu: serde_json::Value, figures: Figures) -> Reading {
        let mut engine = json!({ "source": source, "gpu": gpu });
        if source == "command" {
            engine["command"] = "true".into();
        }
        let reading = Reading {
            figures,
            ..Reading::default()
        };
        completed(reading, &settings(engine), &Bench)
    }

    #[test]
    fn the_engines_own_figures_go_before_the_drivers() {
        let cache = Figures {
            vram_usage: Some(0.2),
            ..Figures::default()
        };
        let vllm = completed_with("vllm", json!(0), cache).figures;
        assert_eq!((vllm.gpu_usage, vllm.vram_usage), (Some(0.9), Some(0.2)));
        let own = Figures {
            gpu_usage: Some(0.3),
            ..cache
        };
        assert_eq!(completed_with("triton", json!(0), own).figures, own);
    }

    #[test]
    fn memory_of_an_engine_that_takes_all_of_it_is_not_the_drivers_to_tell() {
        for source in ["vllm", "sglang", "trtllm", "tgi"] {
            let figures = completed_with(source, json!(0), Figures::default()).figures;
            let shares = (figures.gpu_usage, figures.vram_usage);
            assert_eq!(shares, (Some(0.9), None), "{source}");
        }
        for source in ["triton", "command"] {
            let figures = completed_with(source, json!(0), Figures::default()).figures;
            let shares = (figures.gpu_usage, figures.vram_usage);
            assert_eq!(shares, (Some(0.9), Some(0.95)), "{source}");
        }
    }

    #[test]
    fn a_gpu_that_cannot_be_read_costs_only_its_figures() {
        let cache = Figures {
            vram_usage: Some(0.2),
            queue: Some(3),
            ..Figures::default()
        };
        let reading = completed_with("vllm", json!(7), cache);
        assert_eq!((reading.figures, reading.faults.len()), (cache, 1));
    }
}
