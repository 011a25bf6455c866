//! Which GPU a sample is of.

use crate::exposition::{Exposition, Sample};
use crate::gpus::Gpu;

/// A GPU, or a part of one, as a sample's labels name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
            index: first(&["gpu"]),
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

/// Every device that has samples of one of `names`, once each.
pub fn shown<'e>(exposition: &'e Exposition, names: &'e [&str]) -> Vec<Device<'e>> {
    let mut devices = Vec::new();
    for sample in names.iter().flat_map(|name| exposition.of(name)) {
        let device = Device::of(sample);
        if !devices.contains(&device) {
            devices.push(device);
        }
    }
    devices
}

/// What the first of `names` that is there says of one device. An exporter that adds the names of
/// pods repeats a device for each of them, with the same value.
pub fn value(exposition: &Exposition, names: &[&str], device: Device) -> Option<f64> {
    names.iter().find_map(|name| {
        let of_device = exposition
            .of(name)
            .find(|sample| Device::of(sample) == device);
        of_device.map(|sample| sample.value)
    })
}
