//! The store in files: `data/backends_runtime.json` with its journal, `static_backends.json`, `settings_runtime.json` and
//! `edits.jsonl`. People and other programs may edit the first three.

mod journal;
mod registry;
mod settings;
mod statics;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use contract::BackendKey;
use contract::publish::end_of_links;
use serde_json::Value;

use super::{Part, Store, StoreError};
use crate::clock::Now;
use crate::edits::{Edits, EditsFile};
use crate::file_version::FileVersion;
use crate::layer::Layer;
use crate::model::Model;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::shared::Shared;
use registry::RegistryFile;
use settings::SettingsByApi;
use statics::StaticsFile;

/// Up to this number of entries, a batch writes the registry's file whole: other programs read it at once, and
/// it takes no longer than waiting for the disk.
const WHOLE_UP_TO: usize = 1_000;

#[derive(Debug)]
pub struct Files {
    registry: RegistryFile,
    statics: StaticsFile,
    settings: SettingsByApi,
    edits_path: PathBuf,
    /// `None` until the keeper has asked for the list.
    edits: Option<EditsFile>,
    /// [`WHOLE_UP_TO`], or what a simulation plays.
    pub whole_up_to: usize,
}

/// Which parts could be read at the start.
pub struct IsRead {
    pub registry: bool,
    pub statics: bool,
}

impl Files {
    pub fn at(settings: &Settings) -> Files {
        Files {
            registry: RegistryFile::at(&settings.runtime_backends_path),
            statics: StaticsFile::at(&settings.static_backends_path),
            settings: SettingsByApi::at(&settings.settings_runtime_path),
            edits_path: settings.edits_path.clone(),
            edits: None,
            whole_up_to: WHOLE_UP_TO,
        }
    }

    /// Reads everything at the start, before anything is written; `published` is what the published file says of
    /// settings.
    pub fn begin(&mut self, published: &Layer, model: &mut Model, now: Now) -> IsRead {
        self.settings.begin(published, model);
        let registry = self.registry.begin(model, now);
        let statics = self.statics.begin(model);
        IsRead { registry, statics }
    }

    /// The published backends of what could not be read are in the model.
    pub fn note_carried(&mut self, model: &mut Model) {
        self.statics.note_carried(&model.statics);
        model.warnings = self.warnings();
    }

    /// The files whose changes concern it.
    pub fn watched(&self) -> Vec<PathBuf> {
        let (statics, registry) = (self.statics.path(), self.registry.path());
        [statics, registry, self.settings.path()]
            .map(Path::to_owned)
            .to_vec()
    }

    /// All problems with the files, in words.
    fn warnings(&self) -> Vec<String> {
        let backends = self.registry.notes().iter().chain(self.statics.notes());
        self.settings
            .notes()
            .iter()
            .chain(backends)
            .cloned()
            .collect()
    }
}

impl Store for Files {
    fn begin_edits(&mut self) -> Edits {
        let (file, edits) = EditsFile::open(&self.edits_path);
        self.edits = Some(file);
        edits
    }

    async fn read_all(&mut self, shared: &Shared) {
        self.settings.read(shared).await;
        self.settings.write_unwritten(shared).await;
        self.registry.read(shared).await;
        self.statics.read(shared).await;
        shared.model().warnings = self.warnings();
    }

    async fn read(&mut self, part: Part, shared: &Shared) {
        match part {
            Part::Registry => {
                let is_whole = self.takes_whole(&shared.model().registry);
                match is_whole {
                    true => self.registry.read(shared).await,
                    false => self.registry.read_newer(shared).await,
                }
            }
            Part::Statics => self.statics.read(shared).await,
            Part::Settings => self.settings.read(shared).await,
        }
        shared.model().warnings = self.warnings();
    }

    fn takes_whole(&self, registry: &Registry) -> bool {
        registry.entries.len() <= self.whole_up_to
    }

    async fn store_registry(
        &mut self,
        staged: &mut Model,
        touched: &BTreeSet<&BackendKey>,
        now: Now,
    ) -> Result<(), StoreError> {
        match staged.registry.is_whole() {
            true => self.registry.write(staged.clone(), now).await,
            false => self.registry.append(staged, touched, now).await,
        }
    }

    async fn store_whole_registry(&mut self, model: Model, now: Now) -> Result<(), StoreError> {
        self.registry.write(model, now).await
    }

    fn is_behind(&self, registry: &Registry) -> bool {
        self.registry.is_behind(registry)
    }

    fn is_unmerged(&self) -> bool {
        self.registry.is_journal_used()
    }

    fn unread_statics(&self) -> Option<&str> {
        self.statics.unread()
    }

    async fn store_statics(&mut self, staged: &mut Model, now: Now) -> Result<(), StoreError> {
        let stored = self.statics.write(&mut staged.statics, now).await;
        staged.warnings = self.warnings();
        stored
    }

    async fn store_settings(&mut self, staged: &mut Model, now: Now) -> Result<(), StoreError> {
        let (settings, pending) = (&staged.runtime_settings, &staged.pending);
        let stored = self.settings.write(settings, pending, now).await;
        staged.warnings = self.warnings();
        stored
    }

    async fn store_edits(
        &mut self,
        new: Vec<Value>,
        is_changed: bool,
        all: impl FnOnce() -> Vec<Value> + Send,
    ) {
        let Some(file) = &mut self.edits else { return };
        if is_changed {
            file.replace_next();
        }
        file.write(new, all).await;
    }

    fn edits_fault(&self) -> Option<String> {
        self.edits.as_ref()?.failing()
    }
}

/// Replaces a file, if it is still the version that was read. Runs outside the runtime's thread, which a slow
/// disk would block.
async fn write(path: PathBuf, bytes: Vec<u8>, read: Option<FileVersion>) -> Result<(), StoreError> {
    tokio::task::spawn_blocking(move || {
        let is_as_read = || FileVersion::of(&path) == read;
        let written = contract::publish::publish_over(&path, &bytes, is_as_read);
        written.map_err(|error| StoreError::at(path.display(), error))
    })
    .await
    .expect("publishing a file does not panic")
}

/// Keeps a file that cannot be read as registry or settings, since its content may still be needed. A link
/// stays, and its target is renamed.
async fn put_aside(path: PathBuf) -> Result<(), StoreError> {
    let rename = |path: &Path| {
        let file = end_of_links(path)?;
        let mut aside = file.as_os_str().to_owned();
        aside.push(".broken");
        std::fs::rename(&file, aside)
    };
    tokio::task::spawn_blocking(move || {
        rename(&path).map_err(|error| StoreError::at(path.display(), error))
    })
    .await
    .expect("renaming a file does not panic")
}
