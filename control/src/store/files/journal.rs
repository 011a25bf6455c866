//! The journal's file: appending to it, and emptying it once its changes are in `backends_runtime.json`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::bounded_read::read_file;
use crate::sources::journal::{self, Journal, Record};
use crate::store::StoreError;

/// The largest journal. It holds the changes of about a second, unless the JSON file cannot be written.
const MAX_BYTES: usize = 64 << 20;

#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    /// It may hold changes.
    is_used: bool,
    /// An append failed, and its bytes could not be removed.
    is_torn: bool,
    /// As it was written last.
    own: Written,
}

/// Which file was written, and how long it was then; `None`: it was empty, or not there.
type Written = Option<(u64, u64, u64)>;

impl JournalFile {
    /// The journal of the registry's file at `path`.
    pub fn beside(path: &Path) -> JournalFile {
        let path = path.with_extension("journal");
        JournalFile {
            // Whatever it holds is to be removed.
            is_used: path.exists(),
            is_torn: false,
            own: None,
            path,
        }
    }

    /// What it says at the start, beside a registry's file that states `seal`.
    pub fn begin(&mut self, seal: Option<&str>) -> Journal {
        let read = match read_file(&self.path, MAX_BYTES) {
            Ok(found) => journal::read(&found.unwrap_or_default(), seal),
            Err(error) => Journal {
                notes: vec![error.to_string()],
                ..Journal::default()
            },
        };
        self.own = written(&self.path);
        read
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether others have changed, replaced or removed it since it was written. It is to be replaced by a whole
    /// registry's file then, and emptied.
    pub async fn is_changed_by_others(&mut self) -> bool {
        let path = self.path.clone();
        let found = tokio::task::spawn_blocking(move || written(&path)).await;
        let found = found.expect("asking for a file's state does not panic");
        let is_changed = !self.is_torn && found != self.own;
        if is_changed {
            (self.is_used, self.own) = (true, found);
        }
        is_changed
    }

    /// Whether there is something to fold.
    pub fn is_used(&self) -> bool {
        self.is_used
    }

    /// Appends a batch and synchronizes it; nothing of it stays if that fails.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub async fn append(
        &mut self,
        records: &[Record],
        updated_at: u64,
        after: Option<&str>,
    ) -> Result<(), StoreError> {
        let (path, line) = (self.path.clone(), journal::line(records, updated_at, after));
        // A part of an earlier batch is to be removed first.
        let whole = self
            .is_torn
            .then(|| self.own.map_or(0, |(_, _, length)| length));
        self.is_used = true;
        let appended = tokio::task::spawn_blocking(move || {
            (append(&path, line.as_bytes(), whole), written(&path))
        });
        let (appended, found) = appended.await.expect("appending to a file does not panic");
        self.is_torn = matches!(appended, Err((_, true)));
        if !self.is_torn {
            self.own = found;
        }
        appended.map_err(|(error, _)| StoreError::at(self.path.display(), error))
    }

    /// Empties it: its changes are in the JSON file.
    pub async fn clear(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let cleared = tokio::task::spawn_blocking(move || clear(&path)).await;
        let cleared = cleared.expect("emptying a file does not panic");
        if cleared.is_ok() {
            (self.is_used, self.is_torn, self.own) = (false, false, None);
        }
        cleared.map_err(|error| StoreError::at(self.path.display(), error))
    }
}

/// The error, and whether the file may hold a part of the line.
type Failed = (io::Error, bool);

/// `torn`: an earlier line was written in part, behind so many bytes.
fn append(path: &Path, line: &[u8], torn: Option<u64>) -> Result<(), Failed> {
    let whole = |error| (error, torn.is_some());
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let mut file = open(options, path).map_err(whole)?;
    if let Some(length) = torn {
        file.set_len(length).map_err(whole)?;
    }
    let length = file.metadata().map_err(whole)?.len();
    if length + line.len() as u64 > MAX_BYTES as u64 {
        return Err(whole(io::Error::other("it is full")));
    }
    // Whatever somebody has put there must not spoil this line.
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1).map_err(whole)?;
    }
    let written = match last {
        [b'\n'] => file.write_all(line),
        _ => file.write_all(&[b"\n", line].concat()),
    };
    let written = written.and_then(|()| file.sync_data());
    let written = match is_new {
        true => written.and_then(|()| sync_folder(path)),
        false => written,
    };
    written.map_err(|error| {
        let removed = file.set_len(length).and_then(|()| file.sync_data());
        (error, removed.is_err())
    })
}

fn written(path: &Path) -> Written {
    let found = std::fs::symlink_metadata(path).ok()?;
    (found.len() > 0 || !found.is_file()).then(|| (found.dev(), found.ino(), found.len()))
}

fn clear(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    match open(options, path) {
        Ok(file) => file.set_len(0).and_then(|()| file.sync_data()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens a regular file: a FIFO in its place would block, and a link could lead into another program's file.
fn open(mut options: OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = options.custom_flags(flags.bits() as i32).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use contract::{LocalAddresses, Root};
    use serde_json::{Value, json};

    use super::*;
    use crate::base::tests::key;
    use crate::clock::Clock;
    use crate::load::load;
    use crate::model::Model;
    use crate::own_addresses::{OwnAddresses, ProxyAddresses};
    use crate::settings::Settings;
    use crate::sources::journal::EntryDigest;
    use crate::store::Store as _;

    fn entry(last: u8, weight: u64) -> Value {
        let ip = key(last).addr.ip();
        json!({ "ip": ip, "port": key(last).addr.port(), "weight": weight, "last_seen": 7 })
    }

    fn record(last: u8, was: Option<&Value>, now: Option<Value>) -> Record {
        let was = was.map(EntryDigest::of);
        Record {
            key: key(last),
            was,
            now,
        }
    }

    /// A folder with a registry's file, and what control holds when it starts on it.
    struct Registry {
        root: Root,
        _temporary: tempfile::TempDir,
    }

    impl Registry {
        fn of(entries: &[Value]) -> Registry {
            let temporary = tempfile::tempdir().expect("a folder");
            let root = Root(temporary.path().to_owned());
            std::fs::create_dir(root.0.join("data")).expect("a folder");
            let file = json!({ "backends": entries }).to_string();
            std::fs::write(root.backends_runtime(), file).expect("written");
            Registry {
                root,
                _temporary: temporary,
            }
        }

        /// Its model, and whether there is something to fold.
        fn load(&self) -> (Model, bool) {
            let settings = Settings::read(None, &self.root).expect("the default");
            let own = OwnAddresses {
                control: Vec::new(),
                local: LocalAddresses::default(),
                proxy: ProxyAddresses::default(),
            };
            let loaded = load(&settings, own, &Clock::system());
            let is_used = loaded.files.is_unmerged();
            (loaded.model, is_used)
        }

        /// The weight of each registration.
        fn weights(&self) -> Vec<(u8, Option<u16>)> {
            let entries = self.load().0.registry.entries;
            let registered = entries.iter().filter_map(|(key, entry)| {
                let weight = entry.registered.as_ref()?.weight;
                (1..=9)
                    .find(|last| *key == super::tests::key(*last))
                    .map(|last| (last, weight))
            });
            registered.collect()
        }
    }

    #[tokio::test]
    async fn a_start_takes_what_the_file_does_not_hold_yet_unless_somebody_has_edited_it() {
        let (one, two, three) = (entry(1, 5), entry(2, 5), entry(3, 5));
        let registry = Registry::of(&[one.clone(), entry(2, 99), three.clone()]);
        let mut journal = JournalFile::beside(&registry.root.backends_runtime());
        let batch = [
            record(1, Some(&one), Some(entry(1, 50))),
            record(2, Some(&two), Some(entry(2, 50))),
            record(3, Some(&three), None),
            record(4, None, Some(entry(4, 50))),
            record(5, Some(&entry(5, 5)), Some(entry(5, 50))),
        ];
        journal.append(&batch, 7, None).await.expect("room");
        let expected = [(1, Some(50)), (2, Some(99)), (4, Some(50))];
        assert_eq!(registry.weights(), expected, "2 was edited, 5 was removed");
        assert!(registry.load().1, "it is to be folded");
        journal.clear().await.expect("room");
        let of_file = [(1, Some(5)), (2, Some(99)), (3, Some(5))];
        assert_eq!(registry.weights(), of_file);
    }

    #[tokio::test]
    async fn of_a_batch_that_cannot_be_written_nothing_stays() {
        let registry = Registry::of(&[]);
        let path = registry.root.backends_runtime().with_extension("journal");
        let mut journal = JournalFile::beside(&registry.root.backends_runtime());
        let good = [record(1, None, Some(entry(1, 5)))];
        journal.append(&good, 7, None).await.expect("room");
        // A folder in its place: writing fails for root too.
        let kept = path.with_extension("kept");
        std::fs::rename(&path, &kept).expect("renamed");
        std::fs::create_dir(&path).expect("a folder in its place");
        let bad = [record(2, None, Some(entry(2, 5)))];
        let refused = journal.append(&bad, 7, None).await;
        refused.expect_err("a folder is no file");
        std::fs::remove_dir(&path).expect("removed");
        std::fs::rename(&kept, &path).expect("renamed");
        journal.append(&good, 7, None).await.expect("room again");
        assert_eq!(registry.weights(), [(1, Some(5))]);
    }

    #[tokio::test]
    async fn what_is_no_file_is_refused_at_once_and_what_others_wrote_spoils_no_line() {
        let registry = Registry::of(&[]);
        let path = registry.root.backends_runtime().with_extension("journal");
        let mut journal = JournalFile::beside(&registry.root.backends_runtime());
        let batch = [record(1, None, Some(entry(1, 5)))];
        let fifo = |path: &Path| {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.expect("coreutils").success());
        };
        let link = |path: &Path| std::os::unix::fs::symlink("/dev/null", path).expect("a link");
        for put in [&fifo as &dyn Fn(&Path), &link] {
            put(&path);
            let patience = std::time::Duration::from_secs(30);
            let refused = tokio::time::timeout(patience, journal.append(&batch, 7, None)).await;
            refused.expect("no wait").expect_err("no regular file");
            std::fs::remove_file(&path).expect("removed");
        }
        std::fs::write(&path, "{\"garbage\": 1}\nno line end").expect("written");
        journal.append(&batch, 7, None).await.expect("room");
        assert_eq!(registry.weights(), [(1, Some(5))]);
    }

    #[tokio::test]
    async fn what_others_do_to_it_is_noticed_and_what_control_does_is_not() {
        let registry = Registry::of(&[]);
        let path = registry.root.backends_runtime().with_extension("journal");
        let mut journal = JournalFile::beside(&registry.root.backends_runtime());
        journal.begin(None);
        let batch = [record(1, None, Some(entry(1, 5)))];
        assert!(!journal.is_changed_by_others().await, "there is none");
        journal.append(&batch, 7, None).await.expect("room");
        journal.append(&batch, 7, None).await.expect("room");
        assert!(!journal.is_changed_by_others().await);
        journal.clear().await.expect("room");
        assert!(!journal.is_changed_by_others().await);

        journal.append(&batch, 7, None).await.expect("room");
        let old = std::fs::read(&path).expect("it is there");
        let replace = |bytes: &[u8]| {
            let other = path.with_extension("other");
            std::fs::write(&other, bytes).expect("written");
            std::fs::rename(&other, &path).expect("renamed");
        };
        // The same bytes in another file, more of them in this one, none, and garbage.
        replace(&old);
        assert!(journal.is_changed_by_others().await && journal.is_used());
        assert!(!journal.is_changed_by_others().await, "once");
        std::fs::write(&path, [&*old, b"more"].concat()).expect("written");
        assert!(journal.is_changed_by_others().await);
        std::fs::remove_file(&path).expect("removed");
        assert!(journal.is_changed_by_others().await);
        journal.clear().await.expect("there is none");
        assert!(!journal.is_changed_by_others().await);
        std::fs::write(&path, "garbage").expect("written");
        assert!(journal.is_changed_by_others().await);
    }
}
