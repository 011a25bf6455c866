//! GPUs as NVIDIA's driver sees them, through its management library, which is loaded at run time. Where
//! it cannot be loaded and there are GPUs of AMD, those are read.

use std::ffi::OsStr;
use std::sync::Mutex;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::amdgpu::AmdGpus;
use crate::gpus::{Gpu, GpuFigures, Gpus, Memory};

/// The name that the driver installs, then the one that its development files add.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];

/// The library, once it could be loaded; without it, AMD's GPUs, where there are any.
#[derive(Default)]
pub struct DriverGpus {
    loaded: Mutex<Option<&'static Nvml>>,
    amd: AmdGpus,
}

impl DriverGpus {
    /// Loads the library where that has not succeeded yet: a driver may come after the agent.
    fn library(&self) -> Result<&'static Nvml, String> {
        let mut loaded = self
            .loaded
            .lock()
            .expect("loading a library does not panic");
        if let Some(nvml) = *loaded {
            return Ok(nvml);
        }
        // Never unloaded, so that no reader has to hold the lock while the driver takes its time.
        let nvml: &Nvml = Box::leak(Box::new(load()?));
        *loaded = Some(nvml);
        Ok(nvml)
    }
}

fn load() -> Result<Nvml, String> {
    let mut failures = Vec::new();
    for library in LIBRARIES {
        match Nvml::builder().lib_path(OsStr::new(library)).init() {
            Ok(nvml) => return Ok(nvml),
            Err(error) => failures.push(format!("{library}: {error}")),
        }
    }
    Err(format!(
        "NVML, the library of NVIDIA's driver, cannot be used ({}); install the driver; \
         in a container, pass in its utility libraries",
        failures.join("; ")
    ))
}

impl Gpus for DriverGpus {
    fn read(&self, gpu: &Gpu) -> Result<GpuFigures, String> {
        if gpu.is_bare() {
            return self.amd.read(gpu);
        }
        let nvml = match self.library() {
            Ok(nvml) => nvml,
            Err(_) if self.amd.has_any() => return self.amd.read(gpu),
            Err(why) => return Err(why),
        };
        let device = find(nvml, gpu).map_err(|error| {
            let known = match nvml.device_count() {
                Ok(count) => format!("the driver knows {count}"),
                Err(error) => format!("the driver does not report their number: {error}"),
            };
            format!("GPU {gpu}: {error}; {known}")
        })?;
        let usage = known(device.utilization_rates());
        let memory = known(device.memory_info());
        Ok(GpuFigures {
            usage: naming_gpu(gpu, usage)?.map(|rates| f64::from(rates.gpu) / 100.0),
            memory: naming_gpu(gpu, memory)?.map(|memory| Memory {
                used: memory.used as f64,
                total: memory.total as f64,
            }),
        })
    }
}

fn find<'nvml>(nvml: &'nvml Nvml, gpu: &Gpu) -> Result<Device<'nvml>, NvmlError> {
    match gpu {
        Gpu::Index(index) => nvml.device_by_index(*index),
        // NVML finds parts of a GPU by the same call.
        Gpu::Uuid(name) | Gpu::Mig(name) => nvml.device_by_uuid(name.as_str()),
    }
}

/// `None` where a device of this kind has no such figure: a MIG part has no utilization.
fn known<T>(asked: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match asked {
        Ok(figure) => Ok(Some(figure)),
        Err(NvmlError::NotSupported | NvmlError::InvalidArg) => Ok(None),
        Err(error) => Err(error),
    }
}

fn naming_gpu<T>(gpu: &Gpu, asked: Result<T, NvmlError>) -> Result<T, String> {
    asked.map_err(|error| format!("GPU {gpu}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_it_says_what_was_looked_for_and_with_one_it_reads() {
        match DriverGpus::default().read(&Gpu::Index(0)) {
            Ok(figures) => assert!(figures.memory.is_some(), "{figures:?}"),
            Err(why) => assert!(why.contains("NVML") || why.contains("GPU 0"), "{why}"),
        }
    }
}
