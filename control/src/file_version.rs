//! Whether a file is another one than was read before, for those who look again and again.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What changes whenever a file is replaced, written or given other rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileVersion {
    device: u64,
    inode: u64,
    size: u64,
    changed_at: (i64, i64),
}

impl FileVersion {
    /// `None` where there is no such file. A look costs microseconds.
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
