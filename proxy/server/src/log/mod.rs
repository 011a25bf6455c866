//! The process log: to standard error, or to a file that `SIGUSR1` opens anew.
//!
//! All lines go through one bounded queue to a thread of its own. Where the reader of the log stops,
//! lines are dropped and counted; nothing in the process ever waits for it, or a full pipe would make
//! the proxy deaf to signals.

pub mod sessions;

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer as FormatWriter;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// Lines under way to the log thread, which writes them faster than they can be formatted.
const QUEUE_LINES: usize = 65_536;
/// How long the end of the process waits for lines that are not written yet.
const FINISH: Duration = Duration::from_secs(2);

/// One for the process, as the log is.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// The log under way.
pub struct Log {
    file: Option<LogFile>,
    guard: WorkerGuard,
}

/// Begins logging, to `path` or else to standard error, at the level that `RUST_LOG` asks for, by
/// default `info`.
pub fn start(path: Option<&Path>) -> io::Result<Log> {
    let builder = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES)
        .thread_name("log");
    let (file, (writer, guard)) = match path {
        Some(path) => {
            let (file, writer) = LogFile::open(path)?;
            (Some(file), builder.finish(writer))
        }
        None => {
            // A descriptor of its own: `io::stderr()` is locked while a write waits.
            let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
            (None, builder.finish(stderr))
        }
    };
    DROPPED.get_or_init(|| writer.error_counter());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(path.is_none() && io::stderr().is_terminal())
        .with_writer(writer)
        .init();
    Ok(Log { file, guard })
}

/// Lines that were dropped because the log's reader could not keep up.
pub fn lines_dropped() -> u64 {
    DROPPED
        .get()
        .map_or(0, |dropped| dropped.dropped_lines() as u64)
}

impl Log {
    /// Opens the log file anew, for those who moved the old one away.
    pub fn reopen(&self) {
        match self.file.as_ref().map(LogFile::reopen) {
            Some(Err(error)) => tracing::error!("the log file cannot be reopened: {error}"),
            Some(Ok(())) => tracing::info!("log file reopened"),
            None => tracing::info!("no log file to reopen: the log goes to standard error"),
        }
    }

    /// Writes what is still queued, for as long as [`FINISH`] allows.
    pub fn finish(self) {
        let (done, finished) = mpsc::channel();
        // The guard waits a second itself, but then writes to standard output, which may be blocked
        // too.
        let finish = move || {
            drop(self.guard);
            // Nobody waits any more after FINISH.
            let _ = done.send(());
        };
        if std::thread::Builder::new().spawn(finish).is_ok() {
            let _ = finished.recv_timeout(FINISH);
        }
    }
}

/// The main thread's end of a log file: opens it anew, and never waits for a write.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    reopened: Arc<Mutex<Option<File>>>,
}

/// The log thread's end.
#[derive(Debug)]
struct LogFileWriter {
    file: File,
    /// To be written to from the next line on.
    reopened: Arc<Mutex<Option<File>>>,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<(LogFile, LogFileWriter)> {
        let reopened = Arc::default();
        let file = LogFile {
            path: path.to_owned(),
            reopened: Arc::clone(&reopened),
        };
        let writer = LogFileWriter {
            file: append_to(path)?,
            reopened,
        };
        Ok((file, writer))
    }

    /// On an error the old one stays in use.
    fn reopen(&self) -> io::Result<()> {
        let file = append_to(&self.path)?;
        *self.reopened.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }
}

impl Write for LogFileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let reopened = {
            let mut reopened = self.reopened.lock().unwrap_or_else(PoisonError::into_inner);
            reopened.take()
        };
        if let Some(file) = reopened {
            self.file = file;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line of its own, where no log runs.
pub fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut stamp = String::new();
    // The form of the other lines; a clock that cannot be told leaves it out.
    let _ = SystemTime.format_time(&mut FormatWriter::new(&mut stamp));
    writeln!(append_to(path)?, "{stamp} {line}")
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_moved_away_is_opened_anew() {
        let path = std::env::temp_dir().join(format!("wicketgate-log-{}", std::process::id()));
        let moved = path.with_extension("1");
        let (log, mut writer) = LogFile::open(&path).expect("a temporary file");
        writer.write_all(b"before\n").expect("written");
        std::fs::rename(&path, &moved).expect("moved");
        log.reopen().expect("opened anew");
        writer.write_all(b"after\n").expect("written");
        let (old, new) = (std::fs::read(&moved), std::fs::read(&path));
        std::fs::remove_file(&path).expect("removed");
        std::fs::remove_file(&moved).expect("removed");
        assert_eq!(old.expect("the old file"), b"before\n");
        assert_eq!(new.expect("the new file"), b"after\n");
    }
}
