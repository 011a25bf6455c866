//! The main figures of each backend, once a minute for an hour, in at most 600 bytes a backend.
//!
//! Counts are kept as the upper half of an `f32` (bfloat16), within 0.4 %; a latency as a byte, in ten
//! steps an octave, within 4 %; a share in steps of half a percent. A chart shows no more than that.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use contract::status::BackendStatus;
use contract::{BackendKey, Name};

use super::MINUTE_MS;

/// Minutes that are kept.
pub const MINUTES: usize = 60;
/// The most bytes that one backend takes, its place in the map included.
pub const BYTES: u64 = 600;

/// The figures of a backend for one minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Sessions and flows that are open.
    pub open: f32,
    /// New sessions and flows a second.
    pub rate: f32,
    /// Connects that failed in the minute; 254 means 254 or more.
    pub failures: f32,
    pub first_byte_us: f32,
    /// 0 to 1.
    pub gpu: f32,
    /// 0 to 1.
    pub vram: f32,
}

impl Figures {
    pub const NAMES: [&str; 6] = [
        "open",
        "rate",
        "connect_failures",
        "first_byte_us",
        "gpu",
        "vram",
    ];
    const GAP: Figures = Figures {
        open: f32::NAN,
        rate: f32::NAN,
        failures: f32::NAN,
        first_byte_us: f32::NAN,
        gpu: f32::NAN,
        vram: f32::NAN,
    };

    /// In the order of [`Figures::NAMES`].
    pub fn all(self) -> [f32; 6] {
        [
            self.open,
            self.rate,
            self.failures,
            self.first_byte_us,
            self.gpu,
            self.vram,
        ]
    }
}

#[derive(Debug, Clone, Copy)]
struct Packed {
    open: u16,
    rate: u16,
    first_byte: u8,
    failures: u8,
    gpu: u8,
    vram: u8,
}

const NO_BYTE: u8 = u8::MAX;
const SHARE_STEPS: f32 = 200.0;
const OCTAVE_STEPS: f32 = 10.0;

impl Packed {
    fn of(figures: Figures) -> Packed {
        let byte = |figure: f32, steps: f32| match figure.is_nan() {
            true => NO_BYTE,
            false => (figure * steps).round().clamp(0.0, f32::from(NO_BYTE - 1)) as u8,
        };
        Packed {
            open: half(figures.open),
            rate: half(figures.rate),
            first_byte: byte(figures.first_byte_us.max(1.0).log2(), OCTAVE_STEPS),
            failures: byte(figures.failures, 1.0),
            gpu: byte(figures.gpu, SHARE_STEPS),
            vram: byte(figures.vram, SHARE_STEPS),
        }
    }

    fn figures(self) -> Figures {
        let whole = |byte: u8, steps: f32| match byte {
            NO_BYTE => f32::NAN,
            byte => f32::from(byte) / steps,
        };
        Figures {
            open: unhalved(self.open),
            rate: unhalved(self.rate),
            failures: whole(self.failures, 1.0),
            first_byte_us: whole(self.first_byte, OCTAVE_STEPS).exp2(),
            gpu: whole(self.gpu, SHARE_STEPS),
            vram: whole(self.vram, SHARE_STEPS),
        }
    }
}

/// The upper half of an `f32`, rounded to the nearest.
fn half(figure: f32) -> u16 {
    match figure.is_nan() {
        true => (f32::NAN.to_bits() >> 16) as u16,
        false => (figure.to_bits().saturating_add(0x8000) >> 16) as u16,
    }
}

fn unhalved(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// Two counters as the proxy has them, modulo 2^32.
#[derive(Debug, Clone, Copy)]
struct Counted {
    /// Sessions and flows.
    all: u32,
    /// Connects that failed.
    failed: u32,
}

#[derive(Debug)]
struct Kept {
    /// The counters a minute ago.
    counted: Option<Counted>,
    /// Indexed by the minute since the Unix epoch, modulo its length.
    minutes: Box<[Packed; MINUTES]>,
}

/// A backend's address in 20 bytes, where a socket address takes 32.
type Address = (IpAddr, u16);

/// Of all backends.
#[derive(Debug)]
pub struct Backends {
    most: usize,
    /// By pool first, so that no backend takes room for the name.
    of: BTreeMap<Name, BTreeMap<Address, Kept>>,
    newest_minute: Option<u64>,
    /// The process of the counters.
    process: Option<(u32, Option<u64>)>,
    /// How many backends had no room in the last minute.
    pub left_out: usize,
}

impl Backends {
    pub fn new(most: usize) -> Backends {
        Backends {
            most,
            of: BTreeMap::new(),
            newest_minute: None,
            process: None,
            left_out: 0,
        }
    }

    pub fn resize(&mut self, most: usize) {
        self.most = most;
        let mut surplus = self.count().saturating_sub(most);
        for pool in self.of.values_mut().rev() {
            while surplus > 0 && pool.pop_last().is_some() {
                surplus -= 1;
            }
        }
    }

    fn count(&self) -> usize {
        self.of.values().map(BTreeMap::len).sum()
    }

    fn kept(&mut self) -> impl Iterator<Item = &mut Kept> {
        self.of.values_mut().flat_map(BTreeMap::values_mut)
    }

    /// Keeps one minute of the backends' status, and forgets backends without a figure for an hour.
    pub fn push(&mut self, at_ms: u64, process: (u32, Option<u64>), seen: &[BackendStatus]) {
        let minute = at_ms / MINUTE_MS;
        self.make_gaps(minute);
        if self.process != Some(process) {
            // A new process counts from 0.
            self.kept().for_each(|kept| kept.counted = None);
            self.process = Some(process);
        }
        self.left_out = 0;
        let mut room = self.most.saturating_sub(self.count());
        for backend in seen {
            let Some(BackendKey { pool, .. }) = backend.key() else {
                continue;
            };
            let of_pool = self.of.entry(pool).or_default();
            let kept = match of_pool.entry((backend.ip, backend.port)) {
                Entry::Occupied(kept) => kept.into_mut(),
                Entry::Vacant(place) if room > 0 => {
                    room -= 1;
                    place.insert(Kept {
                        counted: None,
                        minutes: Box::new([Packed::of(Figures::GAP); MINUTES]),
                    })
                }
                Entry::Vacant(_) => {
                    self.left_out += 1;
                    continue;
                }
            };
            let place = (minute % MINUTES as u64) as usize;
            kept.minutes[place] = Packed::of(figures(backend, kept.counted));
            kept.counted = Some(counted(backend));
        }
    }

    /// Marks the minutes from the newest one to this one as unknown.
    fn make_gaps(&mut self, minute: u64) {
        let before = self.newest_minute.replace(minute);
        // After a clock was set back, the times of all entries are unknown.
        let missed = match before {
            Some(before) if minute >= before => (minute - before).min(MINUTES as u64),
            Some(_) | None => MINUTES as u64,
        };
        let gap = Packed::of(Figures::GAP);
        for kept in self.kept() {
            for back in 0..missed {
                kept.minutes[(minute.wrapping_sub(back) % MINUTES as u64) as usize] = gap;
            }
            if missed > 1 {
                kept.counted = None;
            }
        }
        self.of.retain(|_, pool| {
            pool.retain(|_, kept| {
                let mut minutes = kept.minutes.iter();
                minutes.any(|packed| !packed.figures().open.is_nan())
            });
            !pool.is_empty()
        });
    }

    /// The figures of a backend, the oldest minute first, and when that began in Unix milliseconds;
    /// `None` if nothing is kept of it.
    pub fn of(&self, key: &BackendKey) -> Option<(u64, Vec<Figures>)> {
        let address = (key.addr.ip(), key.addr.port());
        let (kept, newest) = (self.of.get(&key.pool)?.get(&address)?, self.newest_minute?);
        let oldest = (newest + 1).saturating_sub(MINUTES as u64);
        let figures = (oldest..=newest).map(|minute| {
            let place = (minute % MINUTES as u64) as usize;
            kept.minutes[place].figures()
        });
        Some((oldest * MINUTE_MS, figures.collect()))
    }
}

fn counted(backend: &BackendStatus) -> Counted {
    let counters = &backend.counters;
    Counted {
        all: (counters.sessions_total + counters.flows_total) as u32,
        failed: (counters.connect_failures + counters.connect_timeouts) as u32,
    }
}

fn figures(backend: &BackendStatus, before: Option<Counted>) -> Figures {
    let now = counted(backend);
    let known = |figure: Option<f64>| figure.map_or(f32::NAN, |figure| figure as f32);
    let since = |of: fn(Counted) -> u32| {
        before.map_or(f32::NAN, |before| of(now).wrapping_sub(of(before)) as f32)
    };
    Figures {
        open: (backend.counters.sessions_active + backend.counters.flows_active) as f32,
        rate: since(|counted| counted.all) / (MINUTE_MS / 1000) as f32,
        failures: since(|counted| counted.failed),
        first_byte_us: backend
            .first_byte_latency_us
            .map_or(f32::NAN, |us| us as f32),
        gpu: known(backend.gpu_usage),
        vram: known(backend.vram_usage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: (u32, Option<u64>) = (7, Some(1));

    fn seen(last: u8, sessions: u64) -> BackendStatus {
        let mut one = crate::history::tests::seen("up", "").backends.remove(0);
        one.ip = [10, 0, 0, last].into();
        one.counters.sessions_active = sessions;
        one.counters.sessions_total = 10 * sessions;
        one.first_byte_latency_us = Some(1_500);
        one.gpu_usage = Some(0.42);
        one
    }

    fn key(last: u8) -> BackendKey {
        seen(last, 0).key().expect("a pool with a name")
    }

    #[test]
    fn a_backend_takes_no_more_than_it_may() {
        // The allocator's own word, and nodes of a map that are as empty as they may be.
        let minutes = size_of::<[Packed; MINUTES]>() + 16;
        let place = (size_of::<Address>() + size_of::<Kept>()) * 11 / 5;
        assert!(minutes + place <= BYTES as usize, "{minutes} + {place}");
    }

    #[test]
    fn one_address_in_two_pools_has_figures_in_each() {
        let mut other = seen(1, 30);
        other.pool = "chat".to_owned();
        let other_key = other.key().expect("a pool with a name");
        let mut backends = Backends::new(2);
        backends.push(100 * MINUTE_MS, PROCESS, &[seen(1, 6), other.clone()]);
        let newest = |key: &BackendKey| backends.of(key).expect("kept").1[59].open;
        assert_eq!((newest(&key(1)), newest(&other_key)), (6.0, 30.0));
        backends.push(101 * MINUTE_MS, PROCESS, &[seen(1, 6), other, seen(2, 1)]);
        assert_eq!(backends.left_out, 1, "both pools share the room");
        backends.resize(1);
        assert_eq!(backends.count(), 1);
    }

    #[test]
    fn figures_come_back_within_their_precision() {
        for figure in [0.0, 1.0, 3.0, 257.0, 65_537.0, 1e9] {
            let back = unhalved(half(figure));
            assert!(
                (back - figure).abs() <= figure * 0.004,
                "{figure} as {back}"
            );
        }
        assert!(unhalved(half(f32::NAN)).is_nan());
        let figures = Figures {
            open: 12.0,
            rate: 0.3,
            failures: 1_000.0,
            first_byte_us: 98_000.0,
            gpu: 1.0,
            vram: f32::NAN,
        };
        let back = Packed::of(figures).figures();
        assert_eq!((back.open, back.failures, back.gpu), (12.0, 254.0, 1.0));
        assert!((back.first_byte_us / figures.first_byte_us - 1.0).abs() < 0.04);
        assert!(back.vram.is_nan() && !back.rate.is_nan());
    }

    #[test]
    fn each_minute_has_its_figures_and_a_restart_of_the_proxy_no_rate() {
        let mut backends = Backends::new(10);
        backends.push(100 * MINUTE_MS, PROCESS, &[seen(1, 6)]);
        backends.push(101 * MINUTE_MS + 900, PROCESS, &[seen(1, 12), seen(2, 1)]);
        backends.push(103 * MINUTE_MS, PROCESS, &[seen(1, 18)]);
        backends.push(104 * MINUTE_MS, (8, None), &[seen(1, 24)]);
        let (first_ms, figures) = backends.of(&key(1)).expect("kept");
        assert_eq!(first_ms, 45 * MINUTE_MS);
        let open: Vec<f32> = figures[55..].iter().map(|one| one.open).collect();
        assert_eq!(
            (open[0], open[1], open[3], open[4]),
            (6.0, 12.0, 18.0, 24.0)
        );
        assert!(figures[54].open.is_nan() && open[2].is_nan());
        let rates: Vec<bool> = figures[55..].iter().map(|one| one.rate.is_nan()).collect();
        assert_eq!(rates, [true, false, true, true, true]);
        assert!(
            (figures[56].rate - 1.0).abs() < 0.01,
            "{}",
            figures[56].rate
        );
        let (_, other) = backends.of(&key(2)).expect("kept for an hour");
        assert!(other[59].open.is_nan() && !other[56].open.is_nan());
    }

    #[test]
    fn what_an_hour_says_nothing_of_is_forgotten_and_room_is_bounded() {
        let mut backends = Backends::new(2);
        let three = [seen(1, 1), seen(2, 1), seen(3, 1)];
        backends.push(100 * MINUTE_MS, PROCESS, &three);
        assert_eq!((backends.left_out, backends.of(&key(3))), (1, None));
        backends.push(159 * MINUTE_MS, PROCESS, &three[1..]);
        assert!(backends.of(&key(1)).is_some());
        backends.push(160 * MINUTE_MS, PROCESS, &three[1..]);
        assert!(backends.of(&key(1)).is_none() && backends.of(&key(2)).is_some());
        backends.push(161 * MINUTE_MS, PROCESS, &three[1..]);
        assert_eq!(backends.left_out, 0);
        // The clock is set back.
        backends.push(5 * MINUTE_MS, PROCESS, &three[1..2]);
        let (_, figures) = backends.of(&key(2)).expect("kept");
        let known = figures.iter().filter(|one| !one.open.is_nan());
        assert_eq!(known.count(), 1);
        backends.resize(0);
        assert_eq!(backends.of(&key(2)), None);
    }
}
