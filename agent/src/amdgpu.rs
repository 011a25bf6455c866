//! AMD's GPUs as the amdgpu driver shows them in `/sys` (kernel documentation, `gpu/amdgpu`). No library
//! is needed for it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::gpus::{Gpu, GpuFigures, Gpus, Memory};

const CARDS: &str = "/sys/class/drm";
/// AMD's number in `vendor`.
const VENDOR: &str = "0x1002";

/// The cards of one machine.
pub struct AmdGpus {
    cards: PathBuf,
}

impl Default for AmdGpus {
    fn default() -> AmdGpus {
        AmdGpus {
            cards: CARDS.into(),
        }
    }
}

impl AmdGpus {
    /// The folders of the GPUs, in PCI order.
    fn devices(&self) -> Vec<PathBuf> {
        let cards = fs::read_dir(&self.cards).into_iter().flatten().flatten();
        let mut devices: Vec<PathBuf> = cards
            .filter(|card| is_card(&card.file_name().to_string_lossy()))
            // The link's target has the PCI address for its name.
            .filter_map(|card| fs::canonicalize(card.path().join("device")).ok())
            .filter(|device| text(device, "vendor").as_deref() == Some(VENDOR))
            .filter(|device| device.join("mem_info_vram_total").exists())
            .collect();
        devices.sort();
        devices.dedup();
        devices
    }

    pub fn has_any(&self) -> bool {
        !self.devices().is_empty()
    }
}

impl Gpus for AmdGpus {
    fn read(&self, gpu: &Gpu) -> Result<GpuFigures, String> {
        let devices = self.devices();
        let known = devices.len();
        let Gpu::Index(index) = gpu else {
            return Err(format!(
                "GPU {gpu}: name an AMD GPU by its number in PCI order, from 0; the driver knows {known}"
            ));
        };
        let device = devices
            .get(*index as usize)
            .ok_or_else(|| format!("GPU {gpu}: the amdgpu driver knows {known}"))?;
        let number = |name| text(device, name)?.parse::<f64>().ok();
        let memory = number("mem_info_vram_used").zip(number("mem_info_vram_total"));
        Ok(GpuFigures {
            // Percent.
            usage: number("gpu_busy_percent").map(|percent| percent / 100.0),
            memory: memory.map(|(used, total)| Memory { used, total }),
        })
    }
}

/// `card0`, and not `card0-DP-1`, which is a connector of it.
fn is_card(name: &str) -> bool {
    let number = name.strip_prefix("card").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn text(device: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(device.join(name)).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_read_by_number_in_the_order_of_their_addresses() {
        let temp = tempfile::tempdir().expect("a folder");
        let cards = temp.path().join("drm");
        fs::create_dir(&cards).expect("made");
        let card = |name: &str, pci: &str, files: &[(&str, &str)]| {
            let device = temp.path().join(pci);
            fs::create_dir_all(&device).expect("made");
            fs::create_dir(cards.join(name)).expect("made");
            for (file, text) in files {
                fs::write(device.join(file), format!("{text}\n")).expect("written");
            }
            std::os::unix::fs::symlink(&device, cards.join(name).join("device")).expect("linked");
        };
        let all = |used: &'static str, busy: &'static str| {
            vec![
                ("vendor", VENDOR),
                ("mem_info_vram_used", used),
                ("mem_info_vram_total", "100"),
                ("gpu_busy_percent", busy),
            ]
        };
        card("card1", "0000:c3:00.0", &all("25", "50"));
        card("card2", "0000:03:00.0", &all("75", "oops"));
        card("card0", "0000:00:02.0", &[("vendor", "0x8086")]);
        card("card1-DP-1", "0000:99:00.0", &all("1", "1"));
        let gpus = AmdGpus { cards };
        let one = gpus.read(&Gpu::Index(1)).expect("there");
        let memory = |used| Some(Memory { used, total: 100.0 });
        assert_eq!((one.usage, one.memory), (Some(0.5), memory(25.0)));
        let first = gpus.read(&Gpu::Index(0)).expect("there");
        assert_eq!((first.usage, first.memory), (None, memory(75.0)));
        for missing in [Gpu::Index(2), Gpu::Uuid("GPU-x".into())] {
            let why = gpus.read(&missing).expect_err("not there");
            assert!(why.contains("knows 2"), "{why}");
        }
        assert!(
            !AmdGpus {
                cards: temp.path().join("none")
            }
            .has_any()
        );
    }
}
