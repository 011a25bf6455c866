//! `settings_runtime.json`, the settings by API: its last known state, reading and writing it.

use std::path::{Path, PathBuf};

use contract::config::MAX_FILE_BYTES;
use contract::{Faults, digest, parse_object};

use super::put_aside;
use crate::bounded_read::{Found, find, find_apart};
use crate::calls::{self, PendingCall};
use crate::clock::Now;
use crate::file_version::{FileVersion, warn_once};
use crate::layer::Layer;
use crate::model::Model;
use crate::shared::Shared;
use crate::store::{StoreError, is_stored};

#[derive(Debug)]
pub struct SettingsByApi {
    path: PathBuf,
    /// Its version when it was last read.
    version: Option<FileVersion>,
    digest: Option<String>,
    /// The file there cannot be read as settings; it is put aside before it is overwritten.
    is_broken: bool,
    /// The file does not hold what is in memory: it is missing, or was restored with calls of another time.
    is_unwritten: bool,
    notes: Vec<String>,
}

/// The settings, and the calls whose outcome is unknown.
type ReadSettings = (Layer, Vec<PendingCall>);

fn parse_settings(bytes: &[u8]) -> Result<ReadSettings, Faults> {
    let mut document = parse_object(bytes, MAX_FILE_BYTES)?;
    document.remove("updated_at");
    let pending = calls::from_json(document.remove("pending"));
    let layer = Layer::default().patched(&document)?;
    Ok((layer, pending))
}

impl SettingsByApi {
    pub fn at(path: &Path) -> SettingsByApi {
        SettingsByApi {
            path: path.to_owned(),
            version: None,
            digest: None,
            is_broken: false,
            is_unwritten: false,
            notes: Vec::new(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it, in words.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads it at the start; `published` is what the published file says of settings.
    pub fn begin(&mut self, published: &Layer, model: &mut Model) {
        let found = find(&self.path, MAX_FILE_BYTES);
        let base = &model.base_settings;
        (model.runtime_settings, model.pending) = match self.take(found) {
            Ok(Some(read)) => read,
            // The first start: without this file, values that control has published for
            // `control_config.json` could later not be distinguished from values written by hand.
            Ok(None) => {
                self.is_unwritten = true;
                (published.beyond(base), Vec::new())
            }
            // What `control_config.json` says stays its own, or later edits of that file would have no effect.
            Err(why) => {
                let kept = published.unlike(base);
                self.notes = vec![note_of_kept(&why, &kept)];
                (kept, Vec::new())
            }
        };
    }

    /// Writes the settings by API if their file does not hold them. A failure is reported, and the write
    /// retried at the next call.
    pub async fn write_unwritten(&mut self, shared: &Shared) {
        if !self.is_unwritten {
            return;
        }
        let warned = self.notes.clone();
        let (settings, pending) = {
            let model = shared.model();
            (model.runtime_settings.clone(), model.pending.clone())
        };
        let now = shared.clock.now();
        if let Err(StoreError { place, error }) = self.write(&settings, &pending, now).await {
            self.notes = vec![format!("{place} cannot be written: {error}; retrying")];
        }
        warn_once(&warned, &self.notes);
    }

    /// Takes over what others have written, such as a restored backup.
    pub async fn read(&mut self, shared: &Shared) {
        let found;
        (found, self.version) = find_apart(self.path.clone(), MAX_FILE_BYTES).await;
        let before = self.digest.clone();
        let warned = self.notes.clone();
        let taken = self.take(found);
        let mut model = shared.model();
        let mut changed = false;
        match taken {
            // Its content applies. Calls of another time have their outcome, and so have waiting calls
            // that it does not mention.
            Ok(Some((layer, pending))) if self.digest != before => {
                self.notes.clear();
                changed = layer != model.runtime_settings;
                model.runtime_settings = layer;
                model.pending.retain(|call| pending.contains(call));
                self.is_unwritten = model.pending.len() < pending.len();
            }
            // Faults of a file were reported when it was read.
            Ok(Some(_)) => {}
            Ok(None) => self.is_unwritten = true,
            // The note of the start names the settings in effect since then.
            Err(why) if warned.iter().any(|note| note.starts_with(&why)) => {}
            Err(why) => {
                self.notes = vec![format!("{why}; keeping the settings in memory")];
            }
        }
        model.revision += u64::from(changed);
        model.edits += u64::from(changed);
        drop(model);
        if changed {
            let path = self.path.display().to_string();
            tracing::info!("{path} was changed by others: its settings apply now");
            shared.audit_own("sources", "file_edit", &path, "taken over");
            shared.state_changed.notify_one();
        }
        warn_once(&warned, &self.notes);
    }

    /// The content of the file; `None` if it does not exist. A file with faults counts as unread: it is read
    /// again at the next look.
    fn take(&mut self, found: Found) -> Result<Option<ReadSettings>, String> {
        self.digest = None;
        self.is_broken = false;
        let Some(bytes) = found? else {
            return Ok(None);
        };
        let read = parse_settings(&bytes).map_err(|faults| {
            self.is_broken = true;
            format!("{}: {faults}", self.path.display())
        })?;
        self.digest = Some(digest(&bytes));
        Ok(Some(read))
    }

    /// Writes it.
    pub async fn write(
        &mut self,
        settings: &Layer,
        pending: &[PendingCall],
        now: Now,
    ) -> Result<(), StoreError> {
        let mut document = settings.to_json();
        if !pending.is_empty() {
            document["pending"] = calls::to_json(pending);
        }
        document["updated_at"] = now.unix_s().into();
        let bytes = format!("{document:#}\n").into_bytes();
        let new_digest = digest(&bytes);
        if self.is_broken {
            put_aside(self.path.clone()).await?;
            self.version = None;
        }
        let written = super::write(self.path.clone(), bytes, self.version).await;
        if is_stored(&written) {
            self.is_broken = false;
            self.digest = Some(new_digest);
            self.is_unwritten = false;
            self.notes.clear();
        }
        written
    }
}

/// What control goes by where `settings_runtime.json` cannot be read.
fn note_of_kept(why: &str, kept: &Layer) -> String {
    let keys: Vec<String> = kept.differing(&Layer::default()).into_iter().collect();
    match keys.is_empty() {
        true => format!("{why}; keeping the published settings"),
        false => {
            let keys = keys.join(", ");
            format!("{why}; keeping the published settings, as set by API: {keys}")
        }
    }
}
