//! The pid file: who the proxy is, and the proof of it.
//!
//! The holder keeps a POSIX record lock (`fcntl(2)`, `F_SETLK`) on the file for as long as it lives;
//! the kernel names the lock's owner to anyone who asks (`F_GETLK`), so that a number that is left
//! over, reused or made up is never taken for the proxy.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};

/// A pid file held by this process. Dropping it removes the file.
///
/// POSIX locks end when the process closes *any* descriptor of the file, so nothing else in the
/// holding process may open it.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

/// Why the pid file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    #[error("{path}: another process (pid {pid}) runs with this pid file")]
    Held { path: PathBuf, pid: i32 },
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
}

impl PidFile {
    /// Takes the lock and empties the file; it names nobody until [`PidFile::announce`].
    pub fn hold(path: &Path) -> Result<PidFile, PidFileError> {
        let io_error = |error: io::Error| PidFileError::Io {
            path: path.to_owned(),
            error,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io_error)?;
        }
        loop {
            let file = open(OpenOptions::new().read(true).write(true).create(true), path);
            let file = file.map_err(io_error)?;
            if fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                match lock_holder(&file).map_err(io_error)? {
                    Some(pid) => {
                        return Err(PidFileError::Held {
                            path: path.to_owned(),
                            pid,
                        });
                    }
                    // The holder ended between the two calls.
                    None => continue,
                }
            }
            // The holder before us may have removed the file between our open and our lock.
            if is_at(&file, path) {
                file.set_len(0).map_err(io_error)?;
                return Ok(PidFile {
                    path: path.to_owned(),
                    file,
                });
            }
        }
    }

    /// Writes our pid. From here on signals arrive, so the handlers must be in place.
    pub fn announce(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file
            .write_all(format!("{}\n", std::process::id()).as_bytes())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file that is gone, or a folder that became read-only, is no reason to fail an exit.
        let _ = fs::remove_file(&self.path);
    }
}

/// What a pid file says, read by someone else than its holder.
#[derive(Debug)]
pub struct Announced {
    pub pid: Pid,
    /// The owner of the record lock, where one is held.
    pub lock_holder: Option<i32>,
    /// Unix seconds of the last write.
    pub written_at: i64,
}

/// Why a pid file names nobody.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("no pid file {0}: the proxy is not running")]
    Missing(PathBuf),
    #[error("pid file {path}: found {found:?}, allowed: one process id above 1")]
    NotAPid { path: PathBuf, found: String },
    #[error("pid file {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
}

/// Reads the pid file at `path`. A symbolic link is refused.
pub fn read(path: &Path) -> Result<Announced, ReadError> {
    let io_error = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ReadError::Missing(path.to_owned()),
        _ => ReadError::Io {
            path: path.to_owned(),
            error,
        },
    };
    let file = open(OpenOptions::new().read(true), path).map_err(io_error)?;
    let mut text = Vec::new();
    const LONGEST: u64 = 32;
    (&file)
        .take(LONGEST)
        .read_to_end(&mut text)
        .map_err(io_error)?;
    let text = String::from_utf8_lossy(&text);
    let number = text.trim().parse::<i32>().ok().filter(|number| *number > 1);
    let Some(pid) = number.and_then(Pid::from_raw) else {
        let found = text.trim().to_owned();
        return Err(ReadError::NotAPid {
            path: path.to_owned(),
            found,
        });
    };
    let lock_holder = lock_holder(&file).map_err(io_error)?;
    let written_at = file.metadata().map_err(io_error)?.mtime();
    Ok(Announced {
        pid,
        lock_holder,
        written_at,
    })
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // NONBLOCK, lest a FIFO in its place hang us.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options
        .mode(0o644)
        .custom_flags(flags.bits() as i32)
        .open(path)
}

fn lock_holder(file: &File) -> io::Result<Option<i32>> {
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    Ok(lock
        .and_then(|lock| lock.pid)
        .map(|pid| pid.as_raw_nonzero().get()))
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(held), Ok(there)) => held.ino() == there.ino() && held.dev() == there.dev(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_file_names_nobody_until_announced_and_is_gone_after() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("run/proxy.pid");
        let mut held = PidFile::hold(&path).expect("free");
        assert_eq!(fs::read_to_string(&path).expect("the file"), "");
        held.announce().expect("written");
        let expected = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&path).expect("the file"), expected);
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_pid_names_nobody() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("proxy.pid");
        assert!(matches!(read(&path), Err(ReadError::Missing(_))));
        for text in [
            "",
            "\n",
            "0",
            "1",
            "-1",
            "-7",
            "12a",
            "99999999999",
            "1.5",
            "\u{0}",
        ] {
            fs::write(&path, text).expect("written");
            assert!(
                matches!(read(&path), Err(ReadError::NotAPid { .. })),
                "{text:?}"
            );
        }
        fs::write(&path, "4242\n").expect("written");
        let announced = read(&path).expect("a pid");
        assert_eq!(
            (announced.pid.as_raw_nonzero().get(), announced.lock_holder),
            (4242, None)
        );
    }

    #[test]
    fn a_symbolic_link_is_refused() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (target, path) = (temp.path().join("target"), temp.path().join("proxy.pid"));
        fs::write(&target, "4242").expect("written");
        std::os::unix::fs::symlink(&target, &path).expect("linked");
        assert!(matches!(read(&path), Err(ReadError::Io { .. })));
    }
}
