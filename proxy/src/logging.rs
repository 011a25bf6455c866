//! The process log: to standard error, or to a file that `SIGUSR1` opens anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// A log file that can be moved away and opened anew while others write.
#[derive(Debug, Clone)]
pub struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl LogFile {
    pub fn open(path: &Path) -> io::Result<LogFile> {
        let file = Arc::new(Mutex::new(append_to(path)?));
        Ok(LogFile {
            path: path.to_owned(),
            file,
        })
    }

    /// Writes to a new file of the same name from here on. On an error the old one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        let file = append_to(&self.path)?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }
}

impl Write for &LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = &'a LogFile;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Begins logging, at the level that `RUST_LOG` asks for, by default `info`.
pub fn start(file: Option<LogFile>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let format = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false);
    match file {
        Some(file) => format.with_ansi(false).with_writer(file).init(),
        None => {
            let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
            format.with_ansi(is_terminal).with_writer(io::stderr).init();
        }
    }
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
        let log = LogFile::open(&path).expect("a temporary file");
        (&log).write_all(b"before\n").expect("written");
        std::fs::rename(&path, &moved).expect("moved");
        log.reopen().expect("opened anew");
        (&log).write_all(b"after\n").expect("written");
        let (old, new) = (std::fs::read(&moved), std::fs::read(&path));
        std::fs::remove_file(&path).expect("removed");
        std::fs::remove_file(&moved).expect("removed");
        assert_eq!(old.expect("the old file"), b"before\n");
        assert_eq!(new.expect("the new file"), b"after\n");
    }
}
