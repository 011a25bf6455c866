//! The pid file: which process the proxy is, and the proof of it.
//!
//! The holder keeps a POSIX record lock (`fcntl(2)`, `F_SETLK`) on the file for as long as it lives;
//! the kernel names the lock's owner to any process (`F_GETLK`), so a number that is left over, reused
//! or made up is never mistaken for the proxy.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use rustix::io::Errno;
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

/// Why the pid file cannot be held.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum PidFileError {
    /// `pid` is `None` if the holder is in another pid namespace and cannot be seen from here.
    #[error("{path}: this pid file is held by {}", name_of(*pid))]
    Held { path: PathBuf, pid: Option<i32> },
    #[error("{path}: found {found:?}, allowed: an empty file, or one process id")]
    NotAPidFile { path: PathBuf, found: String },
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
}

impl PidFileError {
    /// Whether the disk is at fault, which may pass: no other process and no other file is in the way.
    pub fn may_pass(&self) -> bool {
        let is_link = |error: &io::Error| error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
        match self {
            PidFileError::Io { error, .. } => !is_link(error),
            PidFileError::Held { .. } | PidFileError::NotAPidFile { .. } => false,
        }
    }
}

impl PidFile {
    /// Takes the lock and empties the file; it names no process until [`PidFile::announce`].
    ///
    /// # Errors
    /// Another process holds it, it is some other kind of file (which stays as it is), or the
    /// system's error.
    pub fn hold(path: &Path) -> Result<PidFile, PidFileError> {
        /// Each further one needs a holder that ended between two of our calls.
        const ATTEMPTS: usize = 100;
        let io_error = |error: io::Error| PidFileError::Io {
            path: path.to_owned(),
            error,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io_error)?;
        }
        for _ in 0..ATTEMPTS {
            let file = open(OpenOptions::new().read(true).write(true).create(true), path);
            let file = match file {
                Ok(file) => file,
                // It may still be held, if the disk became read-only afterwards.
                Err(error) => return Err(held_by_other(path)?.unwrap_or_else(|| io_error(error))),
            };
            if fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                let held = |pid| PidFileError::Held {
                    path: path.to_owned(),
                    pid,
                };
                match lock_holder(&file).map_err(io_error)? {
                    LockHolder::Process(pid) => return Err(held(Some(pid))),
                    LockHolder::Unseen => return Err(held(None)),
                    // The holder ended between the two calls.
                    LockHolder::Nobody => continue,
                }
            }
            // The holder before us may have removed the file between our open and our lock.
            if is_at(&file, path) {
                refuse_other_files(&file, path)?;
                file.set_len(0).map_err(io_error)?;
                return Ok(PidFile {
                    path: path.to_owned(),
                    file,
                });
            }
        }
        let error =
            io::Error::other("the pid file kept changing owner; gave up after several attempts");
        Err(io_error(error))
    }

    /// Writes our pid. From here on signals arrive, so the handlers must be in place.
    pub fn announce(&mut self) -> io::Result<()> {
        let line = format!("{}\n", std::process::id());
        self.file.set_len(0)?;
        // At the start of the file, wherever reading left the position: otherwise zeros precede the number.
        self.file.write_all_at(line.as_bytes(), 0)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file that is gone, or a folder that became read-only, is no reason to fail an exit.
        let _ = fs::remove_file(&self.path);
    }
}

fn name_of(pid: Option<i32>) -> String {
    match pid {
        Some(pid) => format!("another process (pid {pid})"),
        None => "another process (not visible from here)".to_owned(),
    }
}

/// The error that another process holds the file at `path`, if one does; used if it cannot be written.
fn held_by_other(path: &Path) -> Result<Option<PidFileError>, PidFileError> {
    let Ok(file) = open(OpenOptions::new().read(true), path) else {
        return Ok(None);
    };
    let holder = lock_holder(&file).map_err(|error| PidFileError::Io {
        path: path.to_owned(),
        error,
    })?;
    let pid = match holder {
        LockHolder::Nobody => return Ok(None),
        LockHolder::Process(pid) => Some(pid),
        LockHolder::Unseen => None,
    };
    let path = path.to_owned();
    Ok(Some(PidFileError::Held { path, pid }))
}

/// A file that was named as the pid file by mistake must not be lost.
fn refuse_other_files(file: &File, path: &Path) -> Result<(), PidFileError> {
    let text = read_start(file).map_err(|error| PidFileError::Io {
        path: path.to_owned(),
        error,
    })?;
    // A loss of power may leave zeros where the number was.
    let number = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    if number.is_empty() || number.parse::<i64>().is_ok() {
        return Ok(());
    }
    Err(PidFileError::NotAPidFile {
        path: path.to_owned(),
        found: text,
    })
}

/// The content of a pid file, read by another process than its holder. The proof is read separately,
/// since it counts only once the process is pinned (invariant 6).
#[derive(Debug)]
pub struct Announced {
    /// The process that the file names.
    pub pid: Pid,
    file: File,
}

/// What the kernel knows about a pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Which process locks the file.
    pub lock_holder: LockHolder,
    /// Unix seconds of the last write.
    pub written_at: i64,
    /// Every user of the machine may write it.
    pub anybody_may_write: bool,
}

/// The holder of a pid file's record lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockHolder {
    /// No process has it.
    Nobody,
    /// The process with this id.
    Process(i32),
    /// A holder that the kernel does not name here: a process of another pid namespace, or one with an
    /// open file description lock.
    Unseen,
}

impl Announced {
    /// As it is at this moment.
    pub fn evidence(&self) -> io::Result<Evidence> {
        let metadata = self.file.metadata()?;
        Ok(Evidence {
            lock_holder: lock_holder(&self.file)?,
            written_at: metadata.mtime(),
            anybody_may_write: metadata.mode() & 0o002 != 0,
        })
    }
}

/// Why a pid file names no process.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
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
    let text = read_start(&file).map_err(io_error)?;
    let number = text.trim().parse::<i32>().ok().filter(|number| *number > 1);
    let Some(pid) = number.and_then(Pid::from_raw) else {
        let found = text.trim().to_owned();
        return Err(ReadError::NotAPid {
            path: path.to_owned(),
            found,
        });
    };
    Ok(Announced { pid, file })
}

/// Longer than any pid.
fn read_start(file: &File) -> io::Result<String> {
    const LONGEST: u64 = 32;
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // NONBLOCK, so that a FIFO in its place does not hang us.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options
        .mode(0o644)
        .custom_flags(flags.bits() as i32)
        .open(path)
}

fn lock_holder(file: &File) -> io::Result<LockHolder> {
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    Ok(lock.map_or(LockHolder::Nobody, |lock| holder_of(&lock)))
}

/// `F_GETLK` gives 0 for a process that our pid namespace does not contain, and -1 for an open file
/// description lock.
fn holder_of(lock: &Flock) -> LockHolder {
    match lock.pid.map(|pid| pid.as_raw_nonzero().get()) {
        Some(pid) if pid > 0 => LockHolder::Process(pid),
        Some(_) | None => LockHolder::Unseen,
    }
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
    fn what_a_killed_holder_left_is_replaced() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("proxy.pid");
        for left in ["", "4194305\n", "\0\0\0\0"] {
            fs::write(&path, left).expect("written");
            let mut held = PidFile::hold(&path).expect("free");
            held.announce().expect("written");
            let expected = format!("{}\n", std::process::id());
            let text = fs::read_to_string(&path).expect("the file");
            assert_eq!(text, expected, "{left:?}");
        }
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
        assert_eq!(announced.pid.as_raw_nonzero().get(), 4242);
        let evidence = announced.evidence().expect("the file is open");
        assert_eq!(evidence.lock_holder, LockHolder::Nobody);
    }

    #[test]
    fn the_evidence_is_that_of_the_moment_it_is_asked_for() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("proxy.pid");
        fs::write(&path, "4242\n").expect("written");
        let announced = read(&path).expect("a pid");
        let later = std::time::UNIX_EPOCH + std::time::Duration::from_secs(77);
        let file = OpenOptions::new().write(true).open(&path).expect("opened");
        file.set_modified(later).expect("dated");
        let evidence = announced.evidence().expect("the file is open");
        assert_eq!(evidence.written_at, 77);
    }

    #[test]
    fn a_holder_without_a_pid_here_is_somebody() {
        let lock = Flock::from(FlockType::WriteLock);
        assert_eq!(lock.pid, None);
        assert_eq!(holder_of(&lock), LockHolder::Unseen);
        let held = PidFileError::Held {
            path: "proxy.pid".into(),
            pid: None,
        };
        assert!(held.to_string().contains("not visible from here"), "{held}");
    }

    #[test]
    fn a_file_that_is_no_pid_file_is_left_alone() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("proxy_config.json");
        fs::write(&path, "{\"listen\": 1}").expect("written");
        let held = PidFile::hold(&path);
        assert!(
            matches!(held, Err(PidFileError::NotAPidFile { .. })),
            "{held:?}"
        );
        assert_eq!(fs::read(&path).expect("kept"), b"{\"listen\": 1}");
        for left_over in ["", "4242\n", "-1", "\0\0\0\0"] {
            fs::write(&path, left_over).expect("written");
            PidFile::hold(&path).unwrap_or_else(|error| panic!("{left_over:?}: {error}"));
        }
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
