//! Notices that a source file has changed, by whatever program and in whatever way.
//!
//! The folders are watched, not the files: a watch on a file sees nothing after the first rename over it.
//! A file that is a symbolic link may also change at its target, or by another target, so that the
//! folder of each name on the way is watched. A replaced folder ends even that, so the sources
//! are also read every `auto_sync_interval_sec`, and the watch is set again if the folder was replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::EventKind;
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::keeper::Keeper;
use crate::shared::Shared;

/// How long a file must be left alone before it is read.
const QUIET: Duration = Duration::from_millis(100);
/// How long a file that is never left alone goes unread.
const PATIENCE: Duration = Duration::from_millis(500);

/// Reads the sources whenever one of `files` changes, and every `auto_sync_interval_sec` besides.
pub async fn run(keeper: Keeper, files: Vec<PathBuf>, shared: Arc<Shared>) {
    let changed = Arc::new(Notify::new());
    let mut folders = Folders::new(&files, changed.clone());
    let mut live = shared.watch_live();
    let mut poll = shared.live().auto_sync();
    loop {
        tokio::select! {
            () = changed.notified() => settle(&changed).await,
            Ok(()) = live.changed() => poll = shared.live().auto_sync(),
            _ = poll.tick() => {}
        }
        // Before reading: what changes after this wakes us again. Away from the runtime's thread,
        // which a file system that does not answer would hold up.
        let watched = tokio::task::spawn_blocking(move || {
            folders.watch();
            folders
        });
        folders = watched.await.expect("watching folders does not panic");
        keeper.read_sources().await;
    }
}

/// Waits until no more changes come, within reason.
async fn settle(changed: &Notify) {
    let quiet = async {
        while tokio::time::timeout(QUIET, changed.notified())
            .await
            .is_ok()
        {}
    };
    // Past the patience the file is read as it is; the next change reads it again.
    let _ = tokio::time::timeout(PATIENCE, quiet).await;
}

/// The names of which a change concerns us.
type Names = Arc<Mutex<BTreeSet<OsString>>>;

struct Folders {
    files: Vec<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    names: Names,
    /// Device and inode of the folder as it is watched.
    watched: BTreeMap<PathBuf, Option<(u64, u64)>>,
}

impl Folders {
    fn new(files: &[PathBuf], changed: Arc<Notify>) -> Folders {
        let names = Names::default();
        let ours = names.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let names = ours.lock().unwrap_or_else(PoisonError::into_inner);
            if event.is_ok_and(|event| concerns(&event, &names)) {
                changed.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!("no folder watch: {error}; polling instead"))
            .ok();
        Folders {
            files: files.to_vec(),
            watcher,
            names,
            watched: BTreeMap::new(),
        }
    }

    /// Watches every folder that is not watched, or is no longer the one that was, and no others.
    fn watch(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut folders = BTreeSet::new();
        let mut names = BTreeSet::new();
        for path in self.files.iter().flat_map(|file| names_on_the_way(file)) {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            folders.insert(folder.unwrap_or(Path::new(".")).to_owned());
            names.extend(path.file_name().map(OsString::from));
        }
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        for folder in self
            .watched
            .keys()
            .filter(|folder| !folders.contains(*folder))
        {
            // The watch of a folder that is gone may have gone with it.
            let _ = watcher.unwatch(folder);
        }
        self.watched.retain(|folder, _| folders.contains(folder));
        for folder in folders {
            let watched = self.watched.entry(folder.clone()).or_default();
            let there = std::fs::metadata(&folder).ok();
            let there = there.map(|found| (found.dev(), found.ino()));
            if there == *watched {
                continue;
            }
            let _ = watcher.unwatch(&folder);
            *watched =
                there.filter(
                    |_| match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                        Ok(()) => true,
                        Err(error) => {
                            tracing::debug!("{}: {error}", folder.display());
                            false
                        }
                    },
                );
        }
    }
}

/// The file's own name, each link on the way to it, and its end; of a loop the name alone.
fn names_on_the_way(file: &Path) -> Vec<PathBuf> {
    let names = contract::links::follow(file).map(|links| links.names);
    let mut names = names.unwrap_or_default();
    names.push(file.to_owned());
    names
}

/// Reading a file is an event too, and our own reading must not wake us.
fn concerns(event: &Event, names: &BTreeSet<OsString>) -> bool {
    !matches!(event.kind, EventKind::Access(_))
        && event
            .paths
            .iter()
            .filter_map(|path| path.file_name())
            .any(|name| names.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, ModifyKind, RenameMode};

    #[test]
    fn changes_of_our_files_concern_us_and_reads_and_others_do_not() {
        let names = BTreeSet::from([OsString::from("k8s_endpoints.json")]);
        let rename = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        assert!(concerns(&event(rename, "/d/k8s_endpoints.json"), &names));
        assert!(!concerns(
            &event(rename, "/d/.k8s_endpoints.json.7.tmp"),
            &names
        ));
        let read = EventKind::Access(AccessKind::Any);
        assert!(!concerns(&event(read, "/d/k8s_endpoints.json"), &names));
    }

    #[tokio::test]
    async fn a_rename_over_a_watched_file_is_noticed_again_and_again() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let file = temp.path().join("k8s_endpoints.json");
        let changed = Arc::new(Notify::new());
        let mut folders = Folders::new(std::slice::from_ref(&file), changed.clone());
        folders.watch();
        for round in 0..3 {
            contract::publish(&file, format!("{round}").as_bytes()).expect("published");
            let noticed = tokio::time::timeout(Duration::from_secs(10), changed.notified());
            noticed.await.expect("noticed");
            settle(&changed).await;
        }
    }

    #[tokio::test]
    async fn a_change_at_the_end_of_links_is_noticed_and_so_is_another_target() {
        use std::fs;
        use std::os::unix::fs::symlink;
        let temp = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| temp.path().join(name);
        for folder in ["ours", "volume/v1", "volume/v2"] {
            fs::create_dir_all(at(folder)).expect("a folder");
            fs::write(at(folder).join("named-otherwise.json"), folder).expect("written");
        }
        // As kubelet mounts a ConfigMap, and with another name at the target.
        symlink("v1", at("volume/..data")).expect("linked");
        let file = at("ours/k8s_endpoints.json");
        symlink("../volume/..data/named-otherwise.json", &file).expect("linked");
        let changed = Arc::new(Notify::new());
        let mut folders = Folders::new(std::slice::from_ref(&file), changed.clone());
        let noticed = async |folders: &mut Folders, what: &str| {
            let noticed = tokio::time::timeout(Duration::from_secs(10), changed.notified());
            noticed.await.expect(what);
            settle(&changed).await;
            folders.watch();
        };
        folders.watch();
        contract::publish(&file, b"new").expect("published");
        noticed(&mut folders, "the target").await;
        symlink("v2", at("volume/..new")).expect("linked");
        fs::rename(at("volume/..new"), at("volume/..data")).expect("renamed");
        noticed(&mut folders, "the swapped folder").await;
        fs::write(at("volume/v2/named-otherwise.json"), "newer").expect("written");
        noticed(&mut folders, "the target after the swap").await;
        fs::remove_file(&file).expect("removed");
        noticed(&mut folders, "the link itself").await;
    }
}
