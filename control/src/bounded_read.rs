//! Reading files that may be large, or anything else in a file's place: bounded, and without waiting.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::file_version::FileVersion;

/// The bytes of a file, `None` if it does not exist, or why it could not be read.
pub type Found = Result<Option<Vec<u8>>, String>;

/// Reads a file of at most `max_bytes`; `None` if it does not exist.
pub fn read_file(path: &Path, max_bytes: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match open_to_read(path, OFlags::empty()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    // One byte more than allowed, so that the parser sees that it is too large.
    file.take(max_bytes as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Opens `path` without waiting: a FIFO in a file's place does not block.
pub fn open_to_read(path: &Path, more: OFlags) -> io::Result<File> {
    let flags = more | OFlags::NONBLOCK;
    let mut options = File::options();
    options.read(true).custom_flags(flags.bits() as i32);
    options.open(path)
}

/// Reads a file, and says which one if it cannot be read.
pub fn find(path: &Path, max_bytes: usize) -> Found {
    read_file(path, max_bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// The same outside the runtime's thread. Also returns the version of the file, or an older one.
pub async fn find_apart(path: PathBuf, max_bytes: usize) -> (Found, Option<FileVersion>) {
    tokio::task::spawn_blocking(move || {
        let version = FileVersion::of(&path);
        (find(&path, max_bytes), version)
    })
    .await
    .expect("reading a file does not panic")
}
