//! Reloads: a file is taken over, or refused as a whole, or only tried.

use std::path::Path;

use contract::status::{Reload, Trial};

use super::listeners::status::words;
use super::listeners::wanted::Wanted;
use super::{Supervisor, refusals};
use crate::clock::unix_ms;
use crate::config_file::{self, ConfigFile, ConfigFileError, Loaded, backend_count};

impl Supervisor {
    /// Takes the configuration that the file now holds, or keeps the one that runs.
    pub async fn reload(&self) {
        if self.state().is_draining {
            tracing::warn!("reload ignored: the proxy is draining");
            return;
        }
        let at_ms = unix_ms();
        let Loaded { found_at, file } = config_file::load(&self.config_path);
        let found_at = found_at.map(|path| path.display().to_string());
        let file = file.and_then(|file| file.held_by(&self.limits, &self.config_path));
        match file {
            Ok(file) => self.apply(file, found_at, at_ms).await,
            Err(error) => self.refuse(&error, found_at, at_ms),
        }
    }

    /// Keeps what runs, and says why.
    fn refuse(&self, error: &ConfigFileError, found_at: Option<String>, at_ms: u64) {
        let hint = self.hint(error);
        let reason = hint
            .as_ref()
            .map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"));
        tracing::error!("reload config refused: {reason}");
        let refusals = {
            let mut state = self.state();
            state.reloads_refused += 1;
            state.of_file = refusals::of_file(error, hint.as_deref(), at_ms);
            state.refusals(&self.confinement)
        };
        self.running.send_modify(|running| {
            refusals::update(&mut running.refusals, refusals);
            // One that cannot be read is where the last one was, as far as anybody knows.
            running.config_path = found_at.or(running.config_path.take());
            running.last_reload = Some(Reload {
                at_ms,
                ok: false,
                generation: error.generation(),
                reason: Some(reason),
            });
        });
    }

    /// Whether a file is refused for what the process gave up at its start.
    fn hint(&self, error: &ConfigFileError) -> Option<String> {
        let hint = self.confinement.of_reading();
        hint.filter(|_| error.is_forbidden())
    }

    /// Carries a checked file out.
    async fn apply(&self, file: ConfigFile, found_at: Option<String>, at_ms: u64) {
        file.log_unknown_keys();
        let ConfigFile {
            checked,
            digest,
            addresses,
        } = file;
        let config_digest = checked.config_digest.clone();
        let backends = backend_count(&checked.config);
        let before = self.running.borrow().generation;
        let generation = checked.config.generation.unwrap_or(before + 1);
        let told = {
            let mut state = self.state();
            state.of_file.clear();
            let change = state.listeners.change_to(Wanted::of(&checked));
            state.install(change, checked, &addresses, &self.limits)
        };
        let (listeners, refusals) = self.carry_out(told).await;
        self.state().reloads_ok += 1;
        let listen = words(&listeners);
        let mut is_new = false;
        self.running.send_modify(|running| {
            is_new = running.listeners != listeners;
            running.generation = generation;
            running.digest = digest;
            running.config_digest = Some(config_digest);
            running.config_path = found_at;
            running.loaded_at_ms = unix_ms();
            running.listeners = listeners;
            running.addresses = addresses.0;
            // Whoever waits for this generation learns of these with it.
            refusals::update(&mut running.refusals, refusals);
            running.last_reload = Some(Reload {
                at_ms,
                ok: true,
                generation: Some(generation),
                reason: None,
            });
        });
        let listen = match is_new {
            true => format!(" listen={listen}"),
            false => String::new(),
        };
        tracing::info!("reload config success generation={generation} backends={backends}{listen}");
        self.close_unused().await;
    }

    /// What would be refused of a file that holds `bytes`. Nothing that runs changes.
    pub fn try_out(&self, bytes: &[u8]) -> Trial {
        let path = Path::new("the document");
        let file = config_file::check(path, bytes);
        let refusals = match file.and_then(|file| file.held_by(&self.limits, path)) {
            Ok(file) => {
                let state = self.state();
                let wanted = Wanted::of(&file.checked);
                let now_ms = unix_ms();
                let listeners = &state.listeners;
                let mut refusals = listeners.try_out(&wanted, &self.confinement, now_ms);
                // Where it would be bound, nothing else is accepted on.
                let kept = match refusals.is_empty() {
                    true => Vec::new(),
                    false => state.listeners.addresses(),
                };
                let (_, skipped) = file.checked.while_listening(&kept, &file.addresses);
                refusals.extend(refusals::of_skipped(&skipped, now_ms));
                refusals
            }
            Err(error) => refusals::of_file(&error, None, unix_ms()),
        };
        Trial {
            refusals: refusals::dated(&self.running.borrow().refusals, refusals),
            warnings: config_file::warnings(bytes, &config_file::local_addresses()),
        }
    }
}
