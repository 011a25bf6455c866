//! The keeper's files: their last known state, reading and writing them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::config::MAX_FILE_BYTES;
use contract::publish::{PublishError, end_of_links};
use contract::{BackendKey, Checked, Faults, LocalAddresses, check, digest, parse_object};
use serde_json::{Map, Value};

use crate::bounded_read::{Found, find, find_apart};
use crate::calls::{self, PendingCall};
use crate::clock::{Clock, Now};
use crate::file_version::FileVersion;
use crate::layer::Layer;
use crate::model::Model;
use crate::publish::sources::{self, SourcesOf};
use crate::publish::{self, Published, accepted};
use crate::registry::{Registered, Registry, Requests, Warming};
use crate::render::{OwnAddresses, Plan};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::sources::Source;
use crate::sources::entry::Said;
use crate::sources::file::ListingFile;
use crate::sources::journal::{Digests, Journal, Record, digests};
use crate::sources::listed::{Discovered, Listing};
use crate::sources::listing;
use crate::sources::runtime::{self, Origin};
use crate::words::many;

use super::journal::JournalFile;
use super::{WriteError, discovery, warn_once};

/// The last seen versions of files that others may write.
#[derive(Debug)]
pub struct Files {
    registry_path: PathBuf,
    settings_path: PathBuf,
    /// Its version when it was last read.
    registry_version: Option<FileVersion>,
    settings_version: Option<FileVersion>,
    registry_digest: Option<String>,
    /// Its entries, against which edits by others are recognized.
    registry_known: Digests,
    /// Changes that it does not hold yet.
    journal: JournalFile,
    /// `updated_at` of the last written version.
    registry_updated_at: u64,
    /// The file there cannot be read as a registry; it is put aside before it is overwritten.
    registry_is_broken: bool,
    statics: ListingFile,
    settings_digest: Option<String>,
    /// The file there cannot be read as settings; it is put aside before it is overwritten.
    settings_is_broken: bool,
    /// `settings_runtime.json` does not hold what is in memory: it is missing, or was restored with calls of
    /// another time.
    is_settings_unwritten: bool,
    settings_notes: Vec<String>,
    registry_notes: Vec<String>,
}

/// The state found at the start.
pub struct Loaded {
    pub model: Model,
    pub files: Files,
    /// In the order of the model's.
    pub sources: Vec<Source>,
    pub found: publish::Found,
}

/// Reads everything once, before anything is written.
pub fn load(settings: &Settings, own: OwnAddresses, clock: &Clock) -> Loaded {
    let now = clock.now();
    let (journal, unfolded) = JournalFile::beside(&settings.runtime_backends_path);
    let mut files = Files::at(settings, journal);
    let published = read_published(&settings.proxy_config_path);
    let published_settings = published
        .as_ref()
        .map(|(document, _, _)| Layer::of_published(document))
        .unwrap_or_default();
    let found = find(&settings.settings_runtime_path, MAX_FILE_BYTES);
    let (runtime_settings, pending) = match files.take_settings(found) {
        Ok(Some(read)) => read,
        // The first start: without this file, values that control has published for
        // `control_config.json` could later not be distinguished from values written by hand.
        Ok(None) => {
            files.is_settings_unwritten = true;
            (published_settings.beyond(&settings.proxy), Vec::new())
        }
        // What `control_config.json` says stays its own, or later edits of that file would have no effect.
        Err(why) => {
            let kept = published_settings.unlike(&settings.proxy);
            files.settings_notes = vec![note_of_kept(&why, &kept)];
            (kept, Vec::new())
        }
    };
    let mut model = Model {
        registry: Registry::default(),
        discovered: Vec::new(),
        statics: Arc::default(),
        runtime_settings,
        pending,
        base_settings: settings.proxy.clone(),
        revision: 1,
        edits: 0,
        policy: settings.expiry,
        max_registrations: settings.admission.max_backends,
        own,
        kept: Vec::new(),
        warnings: Vec::new(),
    };
    let accepted = accepted::read(&settings.settings_accepted_path);
    model.drop_accepted(accepted.as_deref().unwrap_or_default());
    let found = find(&settings.runtime_backends_path, runtime::MAX_FILE_BYTES);
    let registry_read = files.take_registry(found, &mut model, now).is_some();
    files.take_journal(unfolded, &mut model, now);
    let found = files.statics.find_now();
    // Without listed backends the file may be missing.
    let is_missing = found == Ok(None);
    let statics = files.statics.take(found, &model.statics).map(Arc::new);
    let is_read = ReadAtStart {
        registry: registry_read,
        statics: is_missing || statics.is_some(),
    };
    model.statics = statics.unwrap_or_default();
    let mut sources = discovery::sources(settings);
    for source in &mut sources {
        model.discovered.push(Discovered {
            listing: source.begin().map_or_else(carried, Arc::new),
            ..Discovered::nothing_by(source.name().clone())
        });
    }
    let published_by = sources::read(&settings.published_sources_path);
    if let Some((_, checked, _)) = &published {
        carry_over(&mut model, checked, &published_by, &is_read, now);
    }
    for (source, discovered) in sources.iter_mut().zip(&mut model.discovered) {
        source.note_carried(&discovered.listing);
        discovered.faults = source.faults().to_vec();
    }
    files.statics.note_carried(&model.statics);
    model.warnings = files.warnings();
    let published = published.map(|(document, checked, digest)| {
        let generation = checked.config.generation.unwrap_or(0);
        let pools = checked.config.pools.into_iter();
        let pools = pools.map(|pool| (pool.name, pool.backends)).collect();
        Published {
            plan: Plan {
                head: Layer::of_published(&document).head(),
                pools,
            },
            generation,
            digest,
            config_digest: checked.config_digest,
            updated_at: checked.config.updated_at.map(|seconds| seconds as u64),
        }
    });
    Loaded {
        model,
        files,
        sources,
        found: publish::Found {
            published,
            accepted,
            sources: published_by,
        },
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

/// Which of the operators' files could be read at the start.
struct ReadAtStart {
    registry: bool,
    statics: bool,
}

/// The list of a source that could not be read at the start.
fn carried() -> Arc<Listing> {
    Arc::new(Listing {
        is_carried: true,
        ..Listing::default()
    })
}

/// Fail static: published backends stay until each source that could drop them has been read. `sources`
/// names these sources; for a backend that it does not name, all of them.
fn carry_over(
    model: &mut Model,
    checked: &Checked,
    sources: &SourcesOf,
    is_read: &ReadAtStart,
    now: Now,
) {
    let pools = checked.config.pools.iter();
    let published =
        pools.flat_map(|pool| pool.backends.iter().map(|backend| (&pool.name, backend)));
    if !is_read.statics {
        model.statics = carried();
    }
    let mut gone = 0_usize;
    for (pool, backend) in published {
        let key = BackendKey::new(pool.clone(), backend.addr);
        if model.knows(&key) {
            continue;
        }
        let by = sources.get(&key);
        let said = Said::all_of(pool, backend);
        let mut is_carried = false;
        let discovered = model.discovered.iter_mut();
        let discovered = discovered
            .filter(|source| by.is_none_or(|by| by.discovered_by.contains(&source.name)))
            .map(|source| &mut source.listing);
        let statics = by.is_none_or(|by| by.r#static);
        let statics = statics.then_some(&mut model.statics);
        let lists = discovered.chain(statics);
        for listing in lists.filter(|listing| listing.is_carried) {
            let backends = &mut Arc::make_mut(listing).backends;
            backends.insert(key.clone(), said.clone());
            is_carried = true;
        }
        if is_carried {
            continue;
        }
        if !is_read.registry && by.is_none_or(|by| by.runtime) {
            // It was a registration; it has a TTL to register again.
            let entry = model.registry.entries.entry(key).or_default();
            entry.registered = Some(carried_registration(backend, now));
        } else {
            gone += 1;
        }
    }
    if gone > 0 {
        tracing::info!("removed {gone} published backends that no source lists now");
    }
}

fn carried_registration(backend: &contract::Backend, now: Now) -> Registered {
    Registered {
        weight: Some(backend.weight),
        enabled: Some(backend.enabled),
        warming: Warming::Said(backend.is_warming_up),
        report: backend.report,
        requests: Requests::default(),
        batch: backend.batch,
        owner: None,
        heard_at_ms: now.listened_ms,
        fresh_at_ms: None,
        last_seen: now.unix_s(),
        expired_at_ms: None,
    }
}

fn read_published(path: &Path) -> Option<(Map<String, Value>, Checked, String)> {
    let bytes = match find(path, MAX_FILE_BYTES) {
        Ok(bytes) => bytes?,
        Err(why) => {
            tracing::warn!("{why}; control will write it again");
            return None;
        }
    };
    // The proxy's own listeners are checked when publishing.
    match check(&bytes, &LocalAddresses::default()) {
        Ok(checked) => {
            let document = parse_object(&bytes, MAX_FILE_BYTES).ok()?;
            Some((document, checked, digest(&bytes)))
        }
        Err(faults) => {
            let path = path.display();
            tracing::warn!("{path}: {faults}; control will write it again");
            None
        }
    }
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

/// Replaces a file, if it is still the version that was read. Runs outside the runtime's thread, which a slow
/// disk would block.
async fn write(path: PathBuf, bytes: Vec<u8>, read: Option<FileVersion>) -> Result<(), WriteError> {
    tokio::task::spawn_blocking(move || {
        let is_as_read = || FileVersion::of(&path) == read;
        let written = contract::publish::publish_over(&path, &bytes, is_as_read);
        written.map_err(|error| (path, Arc::new(error)))
    })
    .await
    .expect("publishing a file does not panic")
}

/// Whether the file holds what was written, even if a power failure may lose it.
pub fn is_in_file(written: &Result<(), WriteError>) -> bool {
    match written {
        Ok(()) => true,
        Err((_, error)) => matches!(**error, PublishError::NotLasting(_)),
    }
}

/// Whether another program replaced the file during the write: its version must be read first.
pub fn is_overtaken(written: &Result<(), WriteError>) -> bool {
    matches!(written, Err((_, error)) if matches!(**error, PublishError::Overtaken))
}

/// Keeps a file that cannot be read as registry or settings, since its content may still be needed. A link
/// stays, and its target is renamed.
async fn put_aside(path: PathBuf) -> Result<(), WriteError> {
    let rename = |path: &Path| {
        let file = end_of_links(path)?;
        let mut aside = file.as_os_str().to_owned();
        aside.push(".broken");
        std::fs::rename(&file, aside)
    };
    tokio::task::spawn_blocking(move || {
        rename(&path).map_err(|error| (path, Arc::new(error.into())))
    })
    .await
    .expect("renaming a file does not panic")
}

impl Files {
    fn at(settings: &Settings, journal: JournalFile) -> Files {
        Files {
            registry_path: settings.runtime_backends_path.clone(),
            settings_path: settings.settings_runtime_path.clone(),
            registry_version: None,
            settings_version: None,
            registry_digest: None,
            registry_known: Digests::new(),
            journal,
            registry_updated_at: 0,
            registry_is_broken: false,
            statics: ListingFile::at(
                &settings.static_backends_path,
                "static_backends.json",
                "the static list",
            ),
            settings_digest: None,
            settings_is_broken: false,
            is_settings_unwritten: false,
            settings_notes: Vec::new(),
            registry_notes: Vec::new(),
        }
    }

    /// All problems with the files, in words.
    pub fn warnings(&self) -> Vec<String> {
        let backends = self.registry_notes.iter().chain(self.statics.notes());
        self.settings_notes
            .iter()
            .chain(backends)
            .cloned()
            .collect()
    }

    /// The files whose changes concern it.
    pub fn watched(&self) -> Vec<PathBuf> {
        vec![
            self.statics.path().to_owned(),
            self.registry_path.clone(),
            self.settings_path.clone(),
        ]
    }

    pub fn registry_updated_at(&self) -> u64 {
        self.registry_updated_at
    }

    /// Whether there is something to store that no file holds.
    pub fn is_registry_missing(&self, shared: &Shared) -> bool {
        self.registry_digest.is_none() && !shared.model().registry.entries.is_empty()
    }

    /// Writes the settings by API if their file does not hold them. A failure is reported, and the write
    /// retried at the next call.
    pub async fn write_unwritten_settings(&mut self, shared: &Shared) {
        if !self.is_settings_unwritten {
            return;
        }
        let warned = self.settings_notes.clone();
        let (settings, pending) = {
            let model = shared.model();
            (model.runtime_settings.clone(), model.pending.clone())
        };
        let now = shared.clock.now();
        if let Err((path, error)) = self.write_settings(&settings, &pending, now).await {
            let path = path.display();
            self.settings_notes = vec![format!("{path} cannot be written: {error}; retrying")];
        }
        shared.model().warnings = self.warnings();
        warn_once(&warned, &self.settings_notes);
    }

    /// Takes over what others have written into `settings_runtime.json`, such as a restored backup.
    pub async fn read_settings(&mut self, shared: &Shared) {
        let found;
        (found, self.settings_version) =
            find_apart(self.settings_path.clone(), MAX_FILE_BYTES).await;
        let before = self.settings_digest.clone();
        let warned = self.settings_notes.clone();
        let taken = self.take_settings(found);
        let mut model = shared.model();
        let mut changed = false;
        match taken {
            // Its content applies. Calls of another time have their outcome, and so have waiting calls
            // that it does not mention.
            Ok(Some((layer, pending))) if self.settings_digest != before => {
                self.settings_notes.clear();
                changed = layer != model.runtime_settings;
                model.runtime_settings = layer;
                model.pending.retain(|call| pending.contains(call));
                self.is_settings_unwritten = model.pending.len() < pending.len();
            }
            // Faults of a file were reported when it was read.
            Ok(Some(_)) => {}
            Ok(None) => self.is_settings_unwritten = true,
            // The note of the start names the settings in effect since then.
            Err(why) if warned.iter().any(|note| note.starts_with(&why)) => {}
            Err(why) => {
                self.settings_notes = vec![format!("{why}; keeping the settings in memory")];
            }
        }
        model.warnings = self.warnings();
        model.revision += u64::from(changed);
        model.edits += u64::from(changed);
        drop(model);
        if changed {
            let path = self.settings_path.display().to_string();
            tracing::info!("{path} was changed by others: its settings apply now");
            shared.audit_own("sources", "file_edit", &path, "taken over");
            shared.state_changed.notify_one();
        }
        warn_once(&warned, &self.settings_notes);
    }

    /// The content of the file; `None` if it does not exist. A file with faults counts as unread: it is read
    /// again at the next look.
    fn take_settings(&mut self, found: Found) -> Result<Option<ReadSettings>, String> {
        self.settings_digest = None;
        self.settings_is_broken = false;
        let Some(bytes) = found? else {
            return Ok(None);
        };
        let read = parse_settings(&bytes).map_err(|faults| {
            self.settings_is_broken = true;
            format!("{}: {faults}", self.settings_path.display())
        })?;
        self.settings_digest = Some(digest(&bytes));
        Ok(Some(read))
    }

    /// Takes over what others have written into the registry's file.
    pub async fn read_edits(&mut self, shared: &Shared) {
        let found;
        (found, self.registry_version) =
            find_apart(self.registry_path.clone(), runtime::MAX_FILE_BYTES).await;
        let now = shared.clock.now();
        let mut model = shared.model();
        let warned = self.registry_notes.clone();
        let edited = self.take_registry(found, &mut model, now);
        let edited = edited.map_or(0, |edited| edited.len());
        let changed = edited > 0;
        model.warnings = self.warnings();
        model.revision += u64::from(changed);
        model.edits += u64::from(changed);
        drop(model);
        if changed {
            let path = self.registry_path.display().to_string();
            let edited = many(edited, "backend");
            tracing::info!("{path} was changed by others: {edited} updated");
            shared.audit_own("sources", "file_edit", &path, "taken over");
            shared.state_changed.notify_one();
        }
        warn_once(&warned, &self.registry_notes);
    }

    /// Takes over what others have written into the static list, and has it published.
    pub async fn read_statics(&mut self, shared: &Shared) {
        let found = self.statics.find().await;
        let held = shared.model().statics.clone();
        if found == Ok(None) && !held.backends.is_empty() {
            return self.write_missing_statics(shared).await;
        }
        let warned = self.statics.notes().to_vec();
        let new = self.statics.take(found, &held).map(Arc::new);
        let mut model = shared.model();
        if let Some(new) = &new {
            model.statics = new.clone();
            model.revision += 1;
        }
        model.warnings = self.warnings();
        drop(model);
        if let Some(new) = new {
            shared.tell_of_list(self.statics.path().display(), &held, &new);
        }
        warn_once(&warned, self.statics.notes());
    }

    /// The static list was removed, but its content is known: it is written again, as the registry is.
    async fn write_missing_statics(&mut self, shared: &Shared) {
        let (mut listing, now) = (shared.model().statics.clone(), shared.clock.now());
        let warned = self.statics.notes().to_vec();
        self.statics.forget();
        match self.write_statics(&mut listing, now).await {
            Ok(()) => {
                tracing::warn!("static_backends.json was removed; restored");
                self.statics.set_notes(Vec::new());
            }
            Err((path, error)) => {
                let path = path.display();
                let note = format!("{path} cannot be written: {error}; retrying");
                self.statics.set_notes(vec![note]);
            }
        };
        shared.model().warnings = self.warnings();
        warn_once(&warned, self.statics.notes());
    }

    /// Why the static list cannot be edited: what cannot be read must not be overwritten.
    pub fn statics_unread(&self) -> Option<&str> {
        self.statics.unread()
    }

    /// Writes `static_backends.json`: the present file with the backends of `listing`.
    pub async fn write_statics(
        &mut self,
        listing: &mut Arc<Listing>,
        now: Now,
    ) -> Result<(), WriteError> {
        let path = self.statics.path().to_owned();
        let failed = |error: PublishError| (path.clone(), Arc::new(error));
        let unread = |why: String| failed(std::io::Error::other(why).into());
        let (found, _) = find_apart(path.clone(), MAX_FILE_BYTES).await;
        let before = found.map_err(unread)?;
        // Only over what `listing` was made of.
        if !self.statics.is_last_read(before.as_deref()) {
            return Err(failed(PublishError::Overtaken));
        }
        let edited = listing::edited(before.as_deref(), &listing.backends, now.unix_s());
        let bytes = edited.map_err(|why| unread(why.to_string()))?;
        let new_digest = digest(&bytes);
        let read = listing::read(&bytes);
        let written = write(path.clone(), bytes, self.statics.version()).await;
        if is_in_file(&written) {
            if let Ok(read) = read {
                *listing = Arc::new(read);
            }
            // Earlier faults may be fixed, or be at another place.
            self.statics.note_written(new_digest, &listing.notes);
        }
        written
    }

    /// The backends that others have edited; `None` if the file could not be read.
    fn take_registry(
        &mut self,
        found: Found,
        model: &mut Model,
        now: Now,
    ) -> Option<Vec<BackendKey>> {
        let bytes = match found {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                self.registry_digest = None;
                self.registry_notes.clear();
                self.registry_is_broken = false;
                return Some(Vec::new());
            }
            Err(why) => {
                self.registry_notes = vec![format!("{why}; keeping the state in memory")];
                return None;
            }
        };
        let digest = Some(digest(&bytes));
        if digest == self.registry_digest {
            return (!self.registry_is_broken).then(Vec::new);
        }
        self.registry_digest = digest;
        let file = match runtime::read(&bytes) {
            Ok(file) => file,
            Err(faults) => {
                self.registry_is_broken = true;
                let note = format!("backends_runtime.json: {faults}; keeping the state in memory");
                self.registry_notes = vec![note];
                return None;
            }
        };
        let mut notes = file.notes;
        let warmup_ms = model.policy.warmup_ms;
        let origin = match file.is_ours {
            true => Origin::Restored,
            false => Origin::Edited,
        };
        let edited = runtime::merge_edits(
            &mut model.registry,
            &self.registry_known,
            &file.entries,
            origin,
            now,
            warmup_ms,
            &mut notes,
        );
        if let Some(updated_at) = file.updated_at {
            model.registry.updated_at = model.registry.updated_at.max(updated_at);
        }
        self.registry_known = digests(&file.entries);
        self.registry_is_broken = false;
        let named = |note| format!("backends_runtime.json: {note}");
        self.registry_notes = notes.into_iter().map(named).collect();
        Some(edited)
    }

    /// Takes over the changes that the registry's file did not hold yet when control ended.
    fn take_journal(&mut self, journal: Journal, model: &mut Model, now: Now) {
        let mut notes = journal.notes;
        let warmup_ms = model.policy.warmup_ms;
        let mut taken = 0_usize;
        for (key, record) in journal.records {
            // Somebody's edit of the entry wins.
            if self.registry_known.get(&key) != record.was.as_ref() {
                continue;
            }
            taken += 1;
            let entries = &mut model.registry.entries;
            match record.now {
                Some(entry) => {
                    let entry = runtime::read_entry(&entry, now, warmup_ms, &mut notes);
                    entries.insert(key, entry);
                }
                None => _ = entries.remove(&key),
            }
        }
        if taken > 0 {
            model.registry.updated_at = model.registry.updated_at.max(journal.updated_at);
            let taken = many(taken, "backend");
            tracing::info!(
                "control stopped before backends_runtime.json was up to date: changes of {taken} applied from its journal"
            );
        }
        let named = |note| format!("backends_runtime.journal: {note}");
        self.registry_notes.extend(notes.into_iter().map(named));
    }

    /// Whether the journal holds changes that are to be folded into the registry's file.
    pub fn is_journal_used(&self) -> bool {
        self.journal.is_used()
    }

    /// Takes over what others have written into the registry's file, if it is not the version that was read
    /// last. Reading 20,000 entries for each batch would take longer than storing it.
    pub async fn read_newer_edits(&mut self, shared: &Shared) {
        let path = self.registry_path.clone();
        let version = tokio::task::spawn_blocking(move || FileVersion::of(&path)).await;
        let version = version.expect("asking for a file's version does not panic");
        if version != self.registry_version {
            self.read_edits(shared).await;
        }
    }

    /// Stores the entries of these backends as they are in `model`, in the journal.
    pub async fn append_to_journal(
        &mut self,
        model: &Model,
        keys: &BTreeSet<&BackendKey>,
        now: Now,
    ) -> Result<(), WriteError> {
        let mut changed = runtime::entries(&model.registry, model.listed(), now);
        // What is known of a file that is gone counts for a file that is put in its place, but not here.
        let there = self.registry_digest.as_ref();
        let there = there.map(|_| &self.registry_known);
        let records: Vec<Record> = keys
            .iter()
            .map(|&key| Record {
                key: key.clone(),
                was: there.and_then(|known| known.get(key).copied()),
                now: changed.remove(key),
            })
            .collect();
        if records.is_empty() {
            return Ok(());
        }
        let updated_at = model.registry.updated_at;
        self.journal.append(&records, updated_at).await
    }

    /// Writes the registry's file, and empties the journal.
    pub async fn write_registry(&mut self, model: Model, now: Now) -> Result<(), WriteError> {
        let updated_at = model.registry.updated_at;
        // Thousands of entries would block the runtime's thread.
        let rendered = tokio::task::spawn_blocking(move || {
            let entries = runtime::entries(&model.registry, model.listed(), now);
            let bytes = runtime::render(&entries, updated_at);
            (digest(&bytes), digests(&entries), bytes)
        });
        let (new_digest, known, bytes) = rendered.await.expect("rendering does not panic");
        if self.registry_is_broken {
            put_aside(self.registry_path.clone()).await?;
            self.registry_version = None;
        }
        let path = self.registry_path.clone();
        let written = write(path, bytes, self.registry_version).await;
        if is_in_file(&written) {
            self.registry_digest = Some(new_digest);
            self.registry_known = known;
            self.registry_updated_at = updated_at;
            self.registry_is_broken = false;
        }
        written?;
        match self.journal.is_used() {
            true => self.journal.clear().await,
            false => Ok(()),
        }
    }

    /// Writes `settings_runtime.json`.
    pub async fn write_settings(
        &mut self,
        settings: &Layer,
        pending: &[PendingCall],
        now: Now,
    ) -> Result<(), WriteError> {
        let mut document = settings.to_json();
        if !pending.is_empty() {
            document["pending"] = calls::to_json(pending);
        }
        document["updated_at"] = now.unix_s().into();
        let bytes = format!("{document:#}\n").into_bytes();
        let new_digest = digest(&bytes);
        if self.settings_is_broken {
            put_aside(self.settings_path.clone()).await?;
            self.settings_version = None;
        }
        let written = write(self.settings_path.clone(), bytes, self.settings_version).await;
        if is_in_file(&written) {
            self.settings_is_broken = false;
            self.settings_digest = Some(new_digest);
            self.is_settings_unwritten = false;
            self.settings_notes.clear();
        }
        written
    }
}
