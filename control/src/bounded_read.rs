//! Reading files that may be large, or anything else in a file's place: bounded, and without waiting.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

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
