//! The parameters of the `gpu_aware` algorithm: the optional object `gpu_aware` of
//! `proxy_config.json`. [`crate::keys`] has defaults and ranges; `proxy_core::score` explains each of them.

use serde::Serialize;
use serde_json::Value;

use crate::fault::Faults;
use crate::keys::{Reader, by_default};
use crate::object::{Object, kind};

/// Serialized, it has the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GpuAware {
    /// Load of an idle session; a busy one counts 1.
    pub idle_weight: f64,
    /// Share of VRAM in use at which the cost begins.
    pub vram_soft: f64,
    /// Share at which the cost is `vram_cost`.
    pub vram_full: f64,
    /// Share from which the cost is `vram_hard_cost`.
    pub vram_hard: f64,
    /// Cost at `vram_full`.
    pub vram_cost: f64,
    /// Cost from `vram_hard` on.
    pub vram_hard_cost: f64,
    /// Share of VRAM that one session is assumed to use until reports give a better value.
    pub vram_per_load: f64,
    /// Cost of a GPU that is fully busy with other work.
    pub gpu_cost: f64,
    /// Cost of the first failure; each consecutive one costs twice the one before.
    pub failure_cost: f64,
    /// The most that failures cost.
    pub failure_cap: f64,
    /// Time in which the cost of failures halves.
    pub failure_half_life_ms: u64,
    /// Bounds of a backend's learned response time relative to the pool's median.
    pub slowness_min: f64,
    /// The upper one of the bounds.
    pub slowness_max: f64,
    /// Number of requests over which a backend's latency is learned.
    pub latency_samples: u64,
    /// Time in which the trust in a latency without new samples falls by a factor of e.
    pub latency_memory_ms: u64,
    /// Time without a session after which a backend gets one as a trial; 0: no trials.
    pub trial_interval_ms: u64,
    /// Length of the ramp after a warm-up.
    pub ramp_ms: u64,
    /// Report interval assumed for backends that do not send one.
    pub heartbeat_ms: u64,
    /// Up to this number of backends, each pick compares all of them.
    pub scan_limit: u64,
    /// Number of backends drawn for each pick in larger pools.
    pub samples: u64,
}

impl Default for GpuAware {
    fn default() -> Self {
        by_default(GpuAware::read_keys)
    }
}

impl GpuAware {
    /// Reads `gpu_aware`, in which absent keys have their defaults; `otherwise` where there is none.
    pub(crate) fn read(
        object: &mut Object,
        otherwise: GpuAware,
        faults: &mut Faults,
        unknown_keys: &mut Faults,
    ) -> GpuAware {
        let place = object.pointer("gpu_aware");
        let map = match object.take("gpu_aware") {
            None => return otherwise,
            Some(Value::Object(map)) => map,
            Some(other) => {
                faults.add(&place, kind(other), "an object of parameters");
                return otherwise;
            }
        };
        let mut keys = Object::new(map, place.clone());
        let read = GpuAware::read_keys(&mut keys, faults);
        keys.unknown_keys(unknown_keys);
        if !(read.vram_soft < read.vram_full && read.vram_full <= read.vram_hard) {
            let found = format!(
                "vram_soft {}, vram_full {}, vram_hard {}",
                read.vram_soft, read.vram_full, read.vram_hard
            );
            faults.add(&place, found, "vram_soft < vram_full <= vram_hard");
        }
        read
    }

    fn read_keys(object: &mut Object, faults: &mut Faults) -> GpuAware {
        let mut keys = Reader::inside("gpu_aware", object, faults);
        GpuAware {
            idle_weight: keys.number("idle_weight"),
            vram_soft: keys.number("vram_soft"),
            vram_full: keys.number("vram_full"),
            vram_hard: keys.number("vram_hard"),
            vram_cost: keys.number("vram_cost"),
            vram_hard_cost: keys.number("vram_hard_cost"),
            vram_per_load: keys.number("vram_per_load"),
            gpu_cost: keys.number("gpu_cost"),
            failure_cost: keys.number("failure_cost"),
            failure_cap: keys.number("failure_cap"),
            failure_half_life_ms: keys.integer("failure_half_life_ms", None),
            slowness_min: keys.number("slowness_min"),
            slowness_max: keys.number("slowness_max"),
            latency_samples: keys.integer("latency_samples", None),
            latency_memory_ms: keys.integer("latency_memory_ms", None),
            trial_interval_ms: keys.integer("trial_interval_ms", None),
            ramp_ms: keys.integer("ramp_ms", None),
            heartbeat_ms: keys.integer("heartbeat_ms", None),
            scan_limit: keys.integer("scan_limit", None),
            samples: keys.integer("samples", None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    fn read(parameters: Value) -> (GpuAware, Vec<String>) {
        let map = Map::from_iter([("gpu_aware".to_owned(), parameters)]);
        let (mut faults, mut unknown_keys) = (Faults::default(), Faults::default());
        let mut object = Object::new(&map, "");
        let read = GpuAware::read(
            &mut object,
            GpuAware::default(),
            &mut faults,
            &mut unknown_keys,
        );
        let all = faults.0.into_iter().chain(unknown_keys.0);
        (read, all.map(|fault| fault.place).collect())
    }

    #[test]
    fn absent_keys_have_their_defaults() {
        let (parameters, faults) = read(json!({"ramp_ms": 0, "vram_hard": 0.99}));
        let expected = GpuAware {
            ramp_ms: 0,
            vram_hard: 0.99,
            ..GpuAware::default()
        };
        assert_eq!((parameters, faults), (expected, Vec::new()));
        assert_eq!(read(json!(null)), (GpuAware::default(), Vec::new()));
    }

    #[test]
    fn what_is_written_out_is_read_back_the_same() {
        let odd = GpuAware {
            idle_weight: 0.3,
            samples: 9,
            slowness_max: 7.5,
            ..GpuAware::default()
        };
        let written = serde_json::to_value(odd).expect("numbers");
        assert_eq!(read(written), (odd, Vec::new()));
    }

    #[test]
    fn each_bad_parameter_is_named_by_its_place() {
        for (parameters, place) in [
            (json!(7), "/gpu_aware"),
            (json!({"idle_weight": -0.1}), "/gpu_aware/idle_weight"),
            (json!({"vram_hard": "all"}), "/gpu_aware/vram_hard"),
            (json!({"samples": 1}), "/gpu_aware/samples"),
            (
                json!({"trial_interval_ms": -1}),
                "/gpu_aware/trial_interval_ms",
            ),
            (
                json!({"failure_half_life_ms": 0}),
                "/gpu_aware/failure_half_life_ms",
            ),
            (json!({"vram_soft": 0.95}), "/gpu_aware"),
            (json!({"ramp": 1}), "/gpu_aware/ramp"),
        ] {
            assert_eq!(read(parameters).1, [place]);
        }
    }
}
