//! Which GPU a sample is of.

use std::collections::HashSet;

use crate::exposition::{Exposition, Sample};
use crate::figures::{Figures, share};
use crate::gpus::{Gpu, GpuFigures, Memory, together};

use super::samples::Samples;

/// How many devices are named in a message.
const MOST_NAMED: usize = 16;

/// A GPU, or a part of one, as a sample's labels name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device<'e> {
    index: Option<&'e str>,
    uuid: Option<&'e str>,
    /// The GPU instance; an exporter shows the UUID of the whole GPU beside it.
    instance: Option<&'e str>,
}

impl<'e> Device<'e> {
    fn of(sample: &'e Sample) -> Device<'e> {
        let first = |names: &[&str]| names.iter().find_map(|name| sample.label(name));
        Device {
            index: first(&["gpu", "gpu_id", "card", "gpu_use_percent"]),
            uuid: first(&["UUID", "uuid", "gpu_uuid"]),
            instance: first(&["GPU_I_ID"]).filter(|instance| !instance.is_empty()),
        }
    }

    pub fn is(&self, gpu: &Gpu) -> bool {
        match gpu {
            Gpu::Index(index) => {
                self.instance.is_none() && self.index == Some(index.to_string().as_str())
            }
            Gpu::Uuid(uuid) => self.instance.is_none() && self.uuid == Some(uuid),
            Gpu::Mig(_) => gpu.instance().is_some_and(|(parent, instance)| {
                self.uuid == Some(parent) && self.instance == Some(instance)
            }),
        }
    }

    /// Whether it is a part of a GPU.
    pub fn is_part(&self) -> bool {
        self.instance.is_some()
    }

    /// A name that `--gpu` takes, where the labels suffice for one.
    pub fn name(&self) -> String {
        let whole = self.index.or(self.uuid).unwrap_or("without a name");
        match (self.uuid, self.instance) {
            (Some(uuid), Some(instance)) => format!("MIG-{uuid}/{instance}/0"),
            (None, Some(instance)) => format!("{whole}, instance {instance}"),
            (_, None) => whole.to_owned(),
        }
    }
}

/// The GPUs' figures together, as an exporter shows each by `names`. `due` are the names by which
/// usage and memory are shown, where the exporter shows them.
pub fn read<'e>(
    samples: &mut Samples<'e>,
    gpus: &[Gpu],
    names: &[&'static str],
    due: [Option<&[&str]>; 2],
    figures_of: impl Fn(&mut Samples<'e>, Device<'e>) -> GpuFigures,
) -> Figures {
    let exposition = samples.exposition;
    let chosen = match choose(&shown(exposition, names), gpus) {
        Ok(chosen) => chosen,
        Err(fault) => {
            samples.faults.push(fault);
            return Figures::default();
        }
    };
    let before = samples.faults.len();
    let figures: Vec<GpuFigures> = chosen
        .into_iter()
        .map(|device| figures_of(samples, device))
        .collect();
    let has_new_faults = samples.faults.len() > before;
    let (usage, memory) = together(&figures);
    for (names, found) in due.into_iter().zip([usage, memory]) {
        if let (Some(names), None, false) = (names, found, has_new_faults) {
            samples.faults.push(format!("no {}", names[0]));
        }
    }
    Figures {
        gpu_usage: usage,
        vram_usage: memory,
        queue: None,
        running: None,
    }
}

/// Every device that has samples of one of `names`, once each.
pub fn shown<'e, 'n>(
    exposition: &'e Exposition,
    names: impl IntoIterator<Item = &'n &'static str>,
) -> Vec<Device<'e>> {
    let mut known = HashSet::new();
    let mut devices = Vec::new();
    for sample in names.into_iter().flat_map(|name| exposition.of(name)) {
        let device = Device::of(sample);
        if known.insert(device) {
            devices.push(device);
        }
    }
    devices
}

/// The named devices; without names the only device, since which of several is meant is unknown.
///
/// # Errors
/// In words, with the names that are there.
fn choose<'e>(shown: &[Device<'e>], gpus: &[Gpu]) -> Result<Vec<Device<'e>>, String> {
    let listed = || {
        let names: Vec<String> = shown.iter().take(MOST_NAMED).map(Device::name).collect();
        let more = shown.len().saturating_sub(MOST_NAMED);
        let more = (more > 0).then(|| format!(" and {more} more"));
        format!("{}{}", names.join(", "), more.unwrap_or_default())
    };
    if gpus.is_empty() {
        return match shown {
            [only] => Ok(vec![*only]),
            _ => Err(format!(
                "found several GPUs, and --gpu names none; allowed: {}",
                listed()
            )),
        };
    }
    let find = |gpu: &Gpu| {
        let found = shown.iter().find(|device| device.is(gpu));
        found
            .copied()
            .ok_or_else(|| format!("no GPU {gpu}; allowed: {}", listed()))
    };
    gpus.iter().map(find).collect()
}

/// The value of the first present one of `names` for one device. An exporter that adds the names of
/// pods repeats a device for each of them, with the same value.
pub fn value(exposition: &Exposition, names: &[&str], device: Device) -> Option<f64> {
    names.iter().find_map(|name| {
        let of_device = exposition
            .of(name)
            .find(|sample| Device::of(sample) == device);
        of_device.map(|sample| sample.value)
    })
}

/// One device's figures, each right by itself: a mean over several could hide one that is not.
pub fn figures(
    faults: &mut Vec<String>,
    usage: Option<(&str, f64)>,
    memory: Option<(&str, Memory)>,
) -> GpuFigures {
    let usage =
        usage.and_then(|(what, usage)| share(what, usage).map_err(|fault| faults.push(fault)).ok());
    let memory = memory.and_then(|(what, Memory { used, total })| {
        let used = match total.is_finite() {
            true => share(what, used / total).map(|share| share * total),
            false => Err(format!("{what}: found {used} of {total}")),
        };
        used.map_err(|fault| faults.push(fault))
            .ok()
            .map(|used| Memory { used, total })
    });
    GpuFigures { usage, memory }
}
