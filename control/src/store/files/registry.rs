//! `backends_runtime.json` and its journal: their last known state, reading and writing them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use contract::{BackendKey, digest};

use super::journal::JournalFile;
use super::put_aside;
use crate::bounded_read::{Found, find, find_apart};
use crate::clock::Now;
use crate::file_version::{FileVersion, warn_once};
use crate::model::Model;
use crate::registry::Registry;
use crate::shared::Shared;
use crate::sources::journal::{Digests, Journal, Record, digests};
use crate::sources::runtime::{self, Origin};
use crate::store::{StoreError, is_stored};
use crate::words::{counted, many};

#[derive(Debug)]
pub struct RegistryFile {
    path: PathBuf,
    /// Its version when it was last read.
    version: Option<FileVersion>,
    digest: Option<String>,
    /// What the file there states as its seal.
    seal: Option<String>,
    /// Its entries, against which edits by others are recognized.
    known: Digests,
    /// Changes that it does not hold yet.
    journal: JournalFile,
    /// `updated_at` of the last written version.
    updated_at: u64,
    /// The file there cannot be read as a registry; it is put aside before it is overwritten.
    is_broken: bool,
    notes: Vec<String>,
}

impl RegistryFile {
    pub fn at(path: &Path) -> RegistryFile {
        RegistryFile {
            path: path.to_owned(),
            version: None,
            digest: None,
            seal: None,
            known: Digests::new(),
            journal: JournalFile::beside(path),
            updated_at: 0,
            is_broken: false,
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

    /// Reads file and journal at the start. False if the file could not be read.
    pub fn begin(&mut self, model: &mut Model, now: Now) -> bool {
        let found = find(&self.path, runtime::MAX_FILE_BYTES);
        let is_read = self.take(found, model, now).is_some();
        let unfolded = self.journal.begin(self.seal.as_deref());
        self.take_journal(unfolded, model, now);
        is_read
    }

    /// Whether it does not hold the last heartbeats, or was removed.
    pub fn is_behind(&self, registry: &Registry) -> bool {
        let is_missing = self.digest.is_none() && !registry.entries.is_empty();
        is_missing || registry.updated_at > self.updated_at
    }

    /// Whether the journal holds changes that are to be folded into the file.
    pub fn is_journal_used(&self) -> bool {
        self.journal.is_used()
    }

    /// Takes over what others have written. What they have written in the journal is not among it.
    pub async fn read(&mut self, shared: &Shared) {
        if self.journal.is_changed_by_others().await {
            self.warn_of_journal(shared);
        }
        let found;
        (found, self.version) = find_apart(self.path.clone(), runtime::MAX_FILE_BYTES).await;
        let now = shared.clock.now();
        let mut model = shared.model();
        let warned = self.notes.clone();
        let edited = self.take(found, &mut model, now);
        let edited = edited.map_or(0, |edited| edited.len());
        let changed = edited > 0;
        model.revision += u64::from(changed);
        model.edits += u64::from(changed);
        drop(model);
        if changed {
            let path = self.path.display().to_string();
            let edited = many(edited, "backend");
            tracing::info!("{path} was changed by others: {edited} updated");
            shared.audit_own("sources", "file_edit", &path, "taken over");
            shared.state_changed.notify_one();
        }
        warn_once(&warned, &self.notes);
    }

    fn warn_of_journal(&self, shared: &Shared) {
        let path = self.journal.path().display().to_string();
        tracing::warn!("{path} was changed by others: its content is ignored and removed");
        shared.audit_own("sources", "file_edit", &path, "ignored");
    }

    /// The same, if the file is not the version that was read last. Reading 20,000 entries for each batch would take
    /// longer than storing it.
    pub async fn read_newer(&mut self, shared: &Shared) {
        let path = self.path.clone();
        let version = tokio::task::spawn_blocking(move || FileVersion::of(&path)).await;
        let version = version.expect("asking for a file's version does not panic");
        if version != self.version {
            self.read(shared).await;
        }
    }

    /// Stores the entries of these backends as they are in `model`, in the journal.
    pub async fn append(
        &mut self,
        model: &Model,
        keys: &BTreeSet<&BackendKey>,
        now: Now,
    ) -> Result<(), StoreError> {
        // What others have put in its place may lack batches that are not in the file yet.
        if self.journal.is_changed_by_others().await {
            let path = self.journal.path().display();
            tracing::warn!("{path} was changed by others: its content is ignored and removed");
            return self.write_file(model.clone(), now).await;
        }
        let mut changed = runtime::entries(&model.registry, model.listed(), now);
        // What is known of a file that is gone counts for a file that is put in its place, but not here.
        let there = self.digest.as_ref();
        let there = there.map(|_| &self.known);
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
        let after = self.seal.as_deref();
        self.journal.append(&records, updated_at, after).await
    }

    /// Writes the registry's file, and empties the journal.
    pub async fn write(&mut self, model: Model, now: Now) -> Result<(), StoreError> {
        self.write_file(model, now).await?;
        match self.journal.is_used() {
            true => self.journal.clear().await,
            false => Ok(()),
        }
    }

    /// Lines of the journal count for nothing from then on.
    async fn write_file(&mut self, model: Model, now: Now) -> Result<(), StoreError> {
        let updated_at = model.registry.updated_at;
        // Thousands of entries would block the runtime's thread.
        let rendered = tokio::task::spawn_blocking(move || {
            let entries = runtime::entries(&model.registry, model.listed(), now);
            let (bytes, seal) = runtime::render(&entries, updated_at);
            (digest(&bytes), seal, digests(&entries), bytes)
        });
        let (new_digest, seal, known, bytes) = rendered.await.expect("rendering does not panic");
        if self.is_broken {
            put_aside(self.path.clone()).await?;
            self.version = None;
        }
        let path = self.path.clone();
        let written = super::write(path, bytes, self.version).await;
        if is_stored(&written) {
            self.digest = Some(new_digest);
            self.seal = Some(seal);
            self.known = known;
            self.updated_at = updated_at;
            self.is_broken = false;
        }
        written
    }

    /// The backends that others have edited; `None` if the file could not be read.
    fn take(&mut self, found: Found, model: &mut Model, now: Now) -> Option<Vec<BackendKey>> {
        let bytes = match found {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                (self.digest, self.seal) = (None, None);
                self.notes.clear();
                self.is_broken = false;
                return Some(Vec::new());
            }
            Err(why) => {
                self.notes = vec![format!("{why}; keeping the state in memory")];
                return None;
            }
        };
        let digest = Some(digest(&bytes));
        if digest == self.digest {
            return (!self.is_broken).then(Vec::new);
        }
        (self.digest, self.seal) = (digest, None);
        let file = match runtime::read(&bytes) {
            Ok(file) => file,
            Err(faults) => {
                self.is_broken = true;
                let note = format!("backends_runtime.json: {faults}; keeping the state in memory");
                self.notes = vec![note];
                return None;
            }
        };
        let mut notes = file.notes;
        self.seal = file.seal;
        let warmup_ms = model.policy.warmup_ms;
        let origin = match file.is_ours {
            true => Origin::Restored,
            false => Origin::Edited,
        };
        let edited = runtime::merge_edits(
            &mut model.registry,
            &self.known,
            &file.entries,
            origin,
            now,
            warmup_ms,
            &mut notes,
        );
        if let Some(updated_at) = file.updated_at {
            model.registry.updated_at = model.registry.updated_at.max(updated_at);
        }
        self.known = digests(&file.entries);
        self.is_broken = false;
        let named = |note| format!("backends_runtime.json: {note}");
        self.notes = notes.into_iter().map(named).collect();
        Some(edited)
    }

    /// Takes over the changes that the registry's file did not hold yet when control ended.
    fn take_journal(&mut self, journal: Journal, model: &mut Model, now: Now) {
        let mut notes = journal.notes;
        if journal.others > 0 {
            let others = counted(journal.others, "batch", "batches");
            let path = self.journal.path().display();
            tracing::warn!(
                "{path}: {others} ignored: written after another version of backends_runtime.json"
            );
        }
        let warmup_ms = model.policy.warmup_ms;
        let mut taken = 0_usize;
        for (key, record) in journal.records {
            // Somebody's edit of the entry wins.
            if self.known.get(&key) != record.was.as_ref() {
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
        self.notes.extend(notes.into_iter().map(named));
    }
}
