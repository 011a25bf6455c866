//! The thread that says what is known of one engine: registers it, beats, and takes it back at the
//! end.

use std::time::{Duration, Instant};

use control_client::{CallError, ControlClient, LONGEST_PAUSE, Patience, Registration};

use crate::latest::{Latest, Word};
use crate::sampler::with_jitter;
use crate::settings::EngineSettings;

/// The longest pause after a refusal that only a person can end, such as that of a token.
const LONGEST_PAUSE_REFUSED: Duration = Duration::from_secs(60);

/// One engine's beats.
pub struct Heartbeat<'a> {
    pub settings: &'a EngineSettings,
    pub control: &'a ControlClient,
    pub interval: Duration,
    pub stale_after: Duration,
    pub latest: &'a Latest,
}

/// How control stands to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Registered,
    Away,
    Refused(u16),
}

impl Heartbeat<'_> {
    /// Beats until the end comes, and then leaves. A beat follows each fresh reading at once; where
    /// none comes it is half an interval late.
    pub fn run(self) {
        let mut standing = None;
        let mut patience: Option<(Duration, Patience)> = None;
        let mut news = 0;
        // The reading that control has taken last.
        let mut said = None;
        self.latest.wait_newer(news, self.interval * 3 / 2);
        while !self.latest.is_stopping() {
            let word = self.latest.word(Instant::now(), self.stale_after);
            news = word.news;
            let outcome = self.control.register(&self.registration(&word, said));
            self.tell(&mut standing, &outcome);
            let longest = match outcome {
                Ok(_) => {
                    said = word.reading.map(|(number, _)| number);
                    patience = None;
                    self.latest.wait_newer(news, self.interval * 3 / 2);
                    continue;
                }
                Err(CallError::Refused { status, .. }) if is_final(status) => LONGEST_PAUSE_REFUSED,
                Err(CallError::Refused { .. } | CallError::Away(_)) => LONGEST_PAUSE,
            };
            let same = patience.take().filter(|(bound, _)| *bound == longest);
            let fresh = || (longest, Patience::new(self.interval, longest));
            let (_, patience) = patience.insert(same.unwrap_or_else(fresh));
            if self.latest.rest(with_jitter(patience.next_pause())) {
                break;
            }
        }
        self.leave(standing == Some(Standing::Registered));
    }

    /// Figures that were said before, or could not be said when they were read, go with their age:
    /// control must not take them for fresh ones.
    fn registration(&self, word: &Word, said: Option<u64>) -> Registration {
        let old = word
            .reading
            .filter(|(number, age)| said == Some(*number) || *age >= self.interval);
        let age_ms = old.map(|(_, age)| (age.as_millis() as u64).max(1));
        Registration {
            weight: self.settings.weight,
            gpu_usage: word.figures.gpu_usage,
            vram_usage: word.figures.vram_usage,
            report_age_ms: age_ms,
            heartbeat_ms: Some(self.interval.as_millis() as u64),
            is_warming_up: Some(word.is_warming_up),
            queue: word.figures.queue,
            running: word.figures.running,
            batch: self.settings.batch,
            ..Registration::of(self.settings.advertise)
        }
    }

    /// Says how control stands, once for each change.
    fn tell(&self, standing: &mut Option<Standing>, outcome: &Result<String, CallError>) {
        let now = match outcome {
            Ok(_) => Standing::Registered,
            Err(CallError::Away(_)) => Standing::Away,
            Err(CallError::Refused { status, .. }) => Standing::Refused(*status),
        };
        if standing.replace(now) == Some(now) {
            return;
        }
        let (engine, base) = (self.settings, self.control.base());
        match outcome {
            Ok(info) => tracing::info!("{engine}: registered with {base}: {info}"),
            Err(error) => {
                let hint = match now {
                    Standing::Refused(401 | 403) => {
                        "; control's token for registering is given by --token-file, --token or \
                         WICKETGATE_TOKEN"
                    }
                    Standing::Registered | Standing::Away | Standing::Refused(_) => "",
                };
                tracing::error!("{engine}: {base}: {error}{hint}; trying again, ever less often");
            }
        }
    }

    /// Takes the registration back. It may be there even where the last beat failed.
    fn leave(&self, was_registered: bool) {
        let (engine, base) = (self.settings, self.control.base());
        match self.control.leave(self.settings.advertise) {
            Ok(info) => tracing::info!("{engine}: left {base}: {info}"),
            Err(error) if was_registered => tracing::warn!(
                "{engine}: {base}: {error}; the registration ends with its time to live"
            ),
            Err(error) => tracing::info!("{engine}: {base}: {error}"),
        }
    }
}

/// Whether a refusal stands until somebody changes something. The others are control's own troubles,
/// such as a full disk.
fn is_final(status: u16) -> bool {
    (400..500).contains(&status)
}
