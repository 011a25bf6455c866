//! The thread that reads one engine, every interval, and less often while it fails.

use std::time::{Duration, Instant};

use control_client::Patience;

use crate::fetch::Http;
use crate::figures::Reading;
use crate::gpus::Gpus;
use crate::health::Warmth;
use crate::latest::Latest;
use crate::settings::EngineSettings;
use crate::source;

/// The longest rest after a slow read.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// The longest pause between two attempts at a source that fails is two intervals, so that an engine that
/// comes back is seen within three, and this where the intervals are long.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Reads until the end comes.
pub fn run(
    settings: &EngineSettings,
    http: &Http,
    interval: Duration,
    stale_after: Duration,
    gpus: &dyn Gpus,
    latest: &Latest,
) {
    let new_patience = || Patience::new(interval, LONGEST_PAUSE.min(interval * 2));
    let mut warmth = Warmth::default();
    let mut patience = new_patience();
    let mut teller = Teller::default();
    loop {
        let begun = Instant::now();
        let reading = source::read(settings, http, gpus);
        latest.counts().read(reading.is_ok());
        let health = settings.health.check(http, settings.timeout);
        let is_warming_up = warmth.is_warming_up(health.is_ok());
        let figures = reading.as_ref().ok().map(|reading| reading.figures);
        latest.put(figures, is_warming_up, Instant::now());
        let is_stale = latest.word(Instant::now(), stale_after).reading.is_none();
        teller.tell_source(settings, &reading, is_stale);
        teller.tell_warmth(settings, is_warming_up, health);
        let pause = if figures.is_some() {
            patience = new_patience();
            let took = begun.elapsed();
            teller.tell_pace(settings, took, interval);
            rest(took, interval)
        } else {
            with_jitter(patience.next_pause())
        };
        if latest.rest(pause) {
            return;
        }
    }
}

/// How long to rest after a successful read: to the end of the interval, and at least as long as the read
/// took, so that a slow engine is not read all the time.
fn rest(took: Duration, interval: Duration) -> Duration {
    let to_the_end = interval.saturating_sub(took);
    to_the_end.max(took.min(LONGEST_REST))
}

/// A random time from three quarters of `pause` to all of it, so that agents that failed together do not
/// retry together.
pub fn with_jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + 0.25 * fastrand::f64())
}

/// The state of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Whole,
    /// All figures are known, with warnings.
    Odd,
    /// Some figures are missing.
    Partial,
    /// It cannot be read; the last reading still counts.
    Failing,
    /// It cannot be read, and the last reading has expired.
    Unknown,
}

/// Logs the state of an engine, once for each change: its messages may differ from read to read, and a
/// log that repeats them hides the rest.
#[derive(Default)]
struct Teller {
    standing: Option<Standing>,
    was_warming_up: Option<bool>,
    is_slow: bool,
}

impl Teller {
    /// Logs that a read takes longer than the interval, until it takes at most half of it.
    fn tell_pace(&mut self, engine: &EngineSettings, took: Duration, interval: Duration) {
        if !self.is_slow && took > interval {
            self.is_slow = true;
            tracing::warn!(
                "{engine}: slow: a read took {took:?}, longer than the interval of {interval:?}; reading less often"
            );
        } else if self.is_slow && took <= interval / 2 {
            self.is_slow = false;
            tracing::info!(
                "{engine}: no longer slow: a read took {took:?}; reading every {interval:?}"
            );
        }
    }

    fn tell_source(
        &mut self,
        engine: &EngineSettings,
        reading: &Result<Reading, String>,
        is_stale: bool,
    ) {
        let standing = match reading {
            Ok(reading) if !reading.faults.is_empty() => Standing::Partial,
            Ok(reading) if !reading.warnings.is_empty() => Standing::Odd,
            Ok(_) => Standing::Whole,
            Err(_) if is_stale => Standing::Unknown,
            Err(_) => Standing::Failing,
        };
        if self.standing.replace(standing) == Some(standing) {
            return;
        }
        match reading {
            Ok(reading) if !reading.faults.is_empty() => {
                let told = [reading.faults.as_slice(), &reading.warnings].concat();
                let told = told.join("; ");
                tracing::warn!("{engine}: figures incomplete: {told}");
            }
            Ok(reading) if !reading.warnings.is_empty() => {
                let warnings = reading.warnings.join("; ");
                tracing::warn!("{engine}: figures read, with warnings: {warnings}");
            }
            Ok(_) => tracing::info!("{engine}: figures read"),
            Err(why) if is_stale => {
                tracing::error!("{engine}: figures unknown: {why}");
            }
            Err(why) => tracing::warn!(
                "{engine}: figures cannot be read; using the last ones until they expire: {why}"
            ),
        }
    }

    fn tell_warmth(
        &mut self,
        engine: &EngineSettings,
        is_warming_up: bool,
        health: Result<(), String>,
    ) {
        if self.was_warming_up.replace(is_warming_up) == Some(is_warming_up) {
            return;
        }
        match health {
            Err(why) if is_warming_up => tracing::warn!("{engine}: warming up: {why}"),
            Err(_) | Ok(()) => tracing::info!("{engine}: ready"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_engine_is_left_alone_for_as_long_as_it_took() {
        let second = Duration::from_secs(1);
        for (took, expected) in [
            (0.0, 1.0),
            (0.25, 0.75),
            (0.5, 0.5),
            (0.75, 0.75),
            (2.0, 2.0),
            (9.0, 5.0),
        ] {
            let rest = rest(second.mul_f64(took), second);
            assert_eq!(rest, second.mul_f64(expected), "{took}");
        }
    }
}
