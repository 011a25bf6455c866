//! Files that are checked periodically: whether they have changed since they were last read, and whether an
//! error of reading them is a new one.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files that are read together, and the versions that were last read.
#[derive(Debug)]
pub struct LastRead {
    files: Vec<PathBuf>,
    /// `None` if one of them could not be read.
    versions: Mutex<Option<Versions>>,
}

/// The version of each file; `None` if it does not exist.
type Versions = Vec<Option<FileVersion>>;

impl LastRead {
    /// None of `files` has been read so far.
    pub fn none_of(files: &[&Path]) -> LastRead {
        LastRead {
            files: files.iter().map(|file| file.to_path_buf()).collect(),
            versions: Mutex::default(),
        }
    }

    /// Whether a file has changed since it was last read, or could not be read. A check costs microseconds.
    pub fn is_outdated(&self) -> bool {
        let last = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        *last != Some(self.there())
    }

    /// Notes that `read` reads the present versions. A faulty file stays faulty until it is replaced; a
    /// failure to read it, such as a lack of descriptors, passes by itself. `is_unread` distinguishes the two.
    pub fn note<T, E>(
        &self,
        read: impl FnOnce() -> Result<T, E>,
        is_unread: impl FnOnce(&E) -> bool,
    ) -> Result<T, E> {
        let there = self.there();
        let read = read();
        let is_read = !read.as_ref().is_err_and(is_unread);
        let mut last = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        *last = is_read.then_some(there);
        read
    }

    fn there(&self) -> Versions {
        self.files
            .iter()
            .map(|file| FileVersion::of(file))
            .collect()
    }
}

/// What changes whenever a file is replaced, written or given other rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileVersion {
    device: u64,
    inode: u64,
    size: u64,
    changed_at: (i64, i64),
}

impl FileVersion {
    /// `None` if there is no such file.
    pub fn of(path: &Path) -> Option<FileVersion> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(FileVersion {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed_at: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The last reported error of reading a file, while it lasts: each is reported once.
#[derive(Debug, Default)]
pub struct LastError(Option<String>);

impl LastError {
    /// Notes `error`; whether it differs from the last one.
    pub fn is_news(&mut self, error: &str) -> bool {
        self.0.replace(error.to_owned()).as_deref() != Some(error)
    }

    /// The file has been read; whether there was an error before.
    pub fn clear(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// Warns of each note that was not there before.
pub fn warn_once(before: &[String], now: &[String]) {
    for note in now.iter().filter(|note| !before.contains(note)) {
        tracing::warn!("{note}");
    }
}
