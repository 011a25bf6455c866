//! Names of GPUs, and their figures; [`crate::nvml`] asks the driver.

use std::fmt;

/// The most GPUs of one engine.
pub const MAX_GPUS: usize = 64;

/// One GPU, or one part of it, as operators name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpu {
    /// The driver's number for it, in PCI order; a reboot may change it.
    Index(u32),
    /// `GPU-...`, or, of AMD's, the UUID alone.
    Uuid(String),
    /// `MIG-...`, of a multi-instance GPU.
    Mig(String),
}

/// What [`Gpu::parse`] takes, in words for a message.
pub const ALLOWED_GPU: &str =
    "an index from 0 to 255, or a UUID that begins with GPU- or MIG-, as nvidia-smi -L lists them";

impl Gpu {
    pub fn parse(text: &str) -> Option<Gpu> {
        const LONGEST: usize = 96;
        if let Ok(index) = text.parse::<u8>() {
            return Some(Gpu::Index(index.into()));
        }
        let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '/');
        if text.len() > LONGEST || !text.chars().all(plain) {
            return None;
        }
        let has_more = |prefix| {
            text.strip_prefix(prefix)
                .is_some_and(|more| !more.is_empty())
        };
        if has_more("GPU-") {
            Some(Gpu::Uuid(text.to_owned()))
        } else if has_more("MIG-") {
            Some(Gpu::Mig(text.to_owned()))
        } else if is_bare_uuid(text) {
            Some(Gpu::Uuid(text.to_owned()))
        } else {
            None
        }
    }

    /// Whether it is a name of AMD's tools, without a prefix before the UUID.
    pub fn is_bare(&self) -> bool {
        matches!(self, Gpu::Uuid(name) if is_bare_uuid(name))
    }

    /// The UUID of the whole GPU and the number of the instance in it, where a MIG name gives them:
    /// `MIG-GPU-.../INSTANCE/COMPUTE`, as drivers before 470 wrote it.
    pub fn instance(&self) -> Option<(&str, &str)> {
        let Gpu::Mig(name) = self else { return None };
        let (parent, numbers) = name.strip_prefix("MIG-")?.split_once('/')?;
        let (instance, _) = numbers.split_once('/')?;
        parent.starts_with("GPU-").then_some((parent, instance))
    }
}

/// Five groups of hexadecimal digits (RFC 9562).
fn is_bare_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths = groups.iter().map(|group| group.len());
    lengths.eq([8, 4, 4, 4, 12]) && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gpu::Index(index) => index.fmt(f),
            Gpu::Uuid(name) | Gpu::Mig(name) => name.fmt(f),
        }
    }
}

/// The figures of one GPU; `None` if the GPU has no such figure, as MIG parts have no utilization.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct GpuFigures {
    /// Share of time in which some kernel ran, 0..=1.
    pub usage: Option<f64>,
    pub memory: Option<Memory>,
}

/// Any unit, the same for both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    pub used: f64,
    pub total: f64,
}

/// A source of GPU figures.
pub trait Gpus: Send + Sync {
    /// # Errors
    /// In words: what was looked for, and why it could not be read.
    fn read(&self, gpu: &Gpu) -> Result<GpuFigures, String>;
}

/// The GPUs of one engine as one: the mean of their usage, the share of all their memory. A figure
/// that one of them lacks is unknown for all.
pub fn together(gpus: &[GpuFigures]) -> (Option<f64>, Option<f64>) {
    if gpus.is_empty() {
        return (None, None);
    }
    let usage: Option<f64> = gpus.iter().map(|gpu| gpu.usage).sum();
    let used: Option<f64> = gpus.iter().map(|gpu| Some(gpu.memory?.used)).sum();
    let total: Option<f64> = gpus.iter().map(|gpu| Some(gpu.memory?.total)).sum();
    let share = used.zip(total).filter(|(_, total)| *total > 0.0);
    (
        usage.map(|usage| usage / gpus.len() as f64),
        share.map(|(used, total)| used / total),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_named_as_nvidia_smi_lists_them() {
        let uuid = "GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52";
        assert_eq!(Gpu::parse("0"), Some(Gpu::Index(0)));
        assert_eq!(Gpu::parse(uuid), Some(Gpu::Uuid(uuid.into())));
        let mig = "MIG-b6ba1f4f-6a4c-5f59-a6f2-5da9abb51763";
        let parsed = Gpu::parse(mig).expect("a name");
        assert_eq!((&parsed, parsed.instance()), (&Gpu::Mig(mig.into()), None));
        let older = Gpu::parse(&format!("MIG-{uuid}/7/0")).expect("a name");
        assert_eq!(older.instance(), Some((uuid, "7")));
        let amd = Gpu::parse("ccff74a1-0000-1000-80e0-c6d49f5b0d86").expect("a name");
        assert!(amd.is_bare() && !parsed.is_bare());
        for bad in [
            "ccff74a1-0000-1000-80e0-c6d49f5b0d8",
            "",
            "-1",
            "256",
            "gpu0",
            "GPU-",
            "MIG-",
            "GPU-a b",
            "GPU-\n",
            "0,1",
        ] {
            assert_eq!(Gpu::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn several_gpus_are_one_by_mean_and_by_share() {
        let gpu = |usage, used, total| GpuFigures {
            usage: Some(usage),
            memory: Some(Memory { used, total }),
        };
        let pair = [gpu(0.2, 10.0, 40.0), gpu(0.6, 50.0, 80.0)];
        let (usage, memory) = together(&pair);
        assert!((usage.expect("both say it") - 0.4).abs() < 1e-9);
        assert_eq!(memory, Some(0.5));
        let silent = GpuFigures::default();
        assert_eq!(together(&[pair[0], silent]), (None, None));
        assert_eq!(together(&[]), (None, None));
        assert_eq!(together(&[gpu(0.0, 0.0, 0.0)]).1, None);
    }
}
