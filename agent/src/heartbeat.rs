//! The thread that reports one engine: registers it, sends heartbeats, and deregisters it at the end. With
//! several controls it stays with one until that one does not answer as control does.

use std::time::{Duration, Instant};

use control_client::{
    Access, BaseUrl, CallError, ControlClient, LONGEST_PAUSE, Patience, Registration,
};

use crate::access::Entrance;
use crate::latest::{Latest, Word};
use crate::sampler::with_jitter;
use crate::settings::EngineSettings;

/// The longest pause after a refusal that only a person can resolve, such as a wrong token. A change of
/// the credential files ends it.
const LONGEST_PAUSE_REFUSED: Duration = Duration::from_secs(60);
/// How often a pause checks for such a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One engine's heartbeats.
pub struct Heartbeat<'a> {
    pub settings: &'a EngineSettings,
    pub controls: &'a [BaseUrl],
    pub entrance: &'a Entrance,
    pub interval: Duration,
    pub stale_after: Duration,
    pub latest: &'a Latest,
}

/// The state of an engine's registration at a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Registered,
    Away,
    Refused(u16),
    NotControl(u16),
}

/// One control, and what was last logged about it.
struct Control {
    client: ControlClient,
    standing: Option<Standing>,
}

/// All controls, and which one is called.
struct Controls {
    all: Vec<Control>,
    current: usize,
    access: Access,
    version: u64,
}

impl Controls {
    fn new(bases: &[BaseUrl], entrance: &Entrance) -> Controls {
        let (version, access) = entrance.access();
        let all = bases.iter().map(|base| Control {
            client: ControlClient::new(base.clone(), access.clone()),
            standing: None,
        });
        Controls {
            all: all.collect(),
            current: 0,
            access,
            version,
        }
    }

    fn current(&mut self) -> &mut Control {
        &mut self.all[self.current]
    }

    fn next(&mut self) {
        self.current = (self.current + 1) % self.all.len();
    }
}

impl Heartbeat<'_> {
    /// Sends heartbeats until the end, and then deregisters. A heartbeat follows each fresh reading at once;
    /// without one it is half an interval late.
    pub fn run(self) {
        let mut controls = Controls::new(self.controls, self.entrance);
        let mut patience: Option<(Duration, Patience)> = None;
        let mut news = 0;
        // The last reading that control has accepted.
        let mut said = None;
        // Controls that did not answer since one has answered, or since the last pause.
        let mut silent = 0;
        let mut is_refused = false;
        self.latest.wait_newer(news, self.interval * 3 / 2);
        while !self.latest.is_stopping() {
            if self.renew(&mut controls, is_refused) {
                patience = None;
            }
            let word = self.latest.word(Instant::now(), self.stale_after);
            news = word.news;
            let registration = self.registration(&word, said);
            let outcome = controls.current().client.register(&registration);
            self.latest.counts().called(outcome.is_ok());
            self.tell(controls.current(), &outcome);
            is_refused =
                matches!(outcome, Err(CallError::Refused { status, .. }) if is_of_caller(status));
            let longest = match outcome {
                Ok(_) => {
                    said = word.reading.map(|(number, _)| number);
                    (patience, silent) = (None, 0);
                    self.latest.wait_newer(news, self.interval * 3 / 2);
                    continue;
                }
                Err(error) if error.is_final() => {
                    // A change since the call applies at once.
                    if is_refused && self.entrance.look(true) != controls.version {
                        continue;
                    }
                    LONGEST_PAUSE_REFUSED
                }
                Err(_) => {
                    controls.next();
                    silent += 1;
                    if silent < controls.all.len() {
                        continue;
                    }
                    silent = 0;
                    LONGEST_PAUSE
                }
            };
            let same = patience.take().filter(|(bound, _)| *bound == longest);
            let fresh = || (longest, Patience::new(self.interval, longest));
            let (_, patience) = patience.insert(same.unwrap_or_else(fresh));
            if self.rest(with_jitter(patience.next_pause()), controls.version) {
                break;
            }
        }
        self.leave(controls.current());
    }

    /// Uses the credentials that the files hold now; true if they have changed.
    fn renew(&self, controls: &mut Controls, is_refused: bool) -> bool {
        if self.entrance.look(is_refused) == controls.version {
            return false;
        }
        let before = std::mem::replace(controls, Controls::new(self.controls, self.entrance));
        // No other owner could refresh the former owner's registration until it expires.
        if before.access.owner != controls.access.owner {
            let engine = self.settings;
            match before.all[before.current]
                .client
                .leave(engine.advertise, engine.pool.as_ref())
            {
                Ok(_) => tracing::info!(
                    "{engine}: deregistered; registering again with the new owner's secret"
                ),
                Err(error) => {
                    tracing::warn!(
                        "{engine}: cannot deregister with the old owner's secret: {error}"
                    )
                }
            }
        }
        controls.current = before.current;
        for (control, before) in controls.all.iter_mut().zip(before.all) {
            control.standing = before.standing;
        }
        true
    }

    /// Rests for `pause`, until the files hold something newer than `version`, or until the end; true at
    /// the end.
    fn rest(&self, pause: Duration, version: u64) -> bool {
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if self.latest.rest(left.min(LOOK_EVERY)) {
                return true;
            }
            if left <= LOOK_EVERY || self.entrance.look(false) != version {
                return false;
            }
        }
    }

    /// Figures that were reported before, or could not be reported when they were read, carry their age:
    /// control must not take them for fresh ones.
    fn registration(&self, word: &Word, said: Option<u64>) -> Registration {
        let old = word
            .reading
            .filter(|(number, age)| said == Some(*number) || *age >= self.interval);
        let age_ms = old.map(|(_, age)| (age.as_millis() as u64).max(1));
        Registration {
            pool: self.settings.pool.clone(),
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

    /// Logs the state of a control, once for each change.
    fn tell(&self, control: &mut Control, outcome: &Result<String, CallError>) {
        let now = match outcome {
            Ok(_) => Standing::Registered,
            Err(CallError::Away(_)) => Standing::Away,
            Err(CallError::Refused { status, .. }) => Standing::Refused(*status),
            Err(CallError::NotControl { status, .. }) => Standing::NotControl(*status),
        };
        if control.standing.replace(now) == Some(now) {
            return;
        }
        let (engine, base) = (self.settings, control.client.base());
        match outcome {
            Ok(info) => tracing::info!("{engine}: registered with {base}: {info}"),
            Err(error) => {
                let hint = match now {
                    Standing::Refused(401 | 403) => {
                        "; give a token for registering with --token-file, --token or WICKETGATE_TOKEN"
                    }
                    Standing::Registered
                    | Standing::Away
                    | Standing::Refused(_)
                    | Standing::NotControl(_) => "",
                };
                let next = match !error.is_final() && self.controls.len() > 1 {
                    true => "trying the next control",
                    false => "retrying with back-off",
                };
                tracing::error!("{engine}: {base}: {error}{hint}; {next}");
            }
        }
    }

    /// Deregisters. The registration may exist even if the last heartbeat failed.
    fn leave(&self, control: &Control) {
        let (engine, base) = (self.settings, control.client.base());
        let was_registered = control.standing == Some(Standing::Registered);
        match control
            .client
            .leave(self.settings.advertise, self.settings.pool.as_ref())
        {
            Ok(info) => tracing::info!("{engine}: deregistered from {base}: {info}"),
            Err(error) if was_registered => {
                tracing::warn!("{engine}: {base}: {error}; the registration expires after its TTL")
            }
            Err(error) => tracing::info!("{engine}: {base}: {error}"),
        }
    }
}

/// Whether a refusal concerns the credentials: token or owner.
fn is_of_caller(status: u16) -> bool {
    matches!(status, 401 | 403)
}
