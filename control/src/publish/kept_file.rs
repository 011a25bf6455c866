//! A file that the publisher keeps beside the published one, for its own next start.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    /// A failed write was logged, and none has succeeded since.
    is_told: bool,
    /// The prepared file beside it, which will replace it; at a start, possibly one of an earlier process.
    beside: Beside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    Unknown,
    Prepared,
}

impl KeptFile {
    pub fn at(path: &Path) -> KeptFile {
        KeptFile {
            path: path.to_owned(),
            is_told: false,
            beside: Beside::Unknown,
        }
    }

    /// Writes the next version beside the file, so that a full disk already has room for it. A failure does
    /// not matter: the file is then written when it is needed.
    pub async fn prepare(&mut self, bytes: Vec<u8>) {
        let path = self.path.clone();
        let prepared = blocking(move || contract::publish(&beside(&path)?, &bytes)).await;
        self.beside = match prepared {
            Ok(()) => Beside::Prepared,
            Err(_) => Beside::Unknown,
        };
    }

    /// Removes the prepared version: another one is wanted, or the file already has it.
    pub async fn discard(&mut self) {
        if self.beside == Beside::Nothing {
            return;
        }
        let path = self.path.clone();
        let removed = blocking(move || match std::fs::remove_file(beside(&path)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        });
        if removed.await.is_ok() {
            self.beside = Beside::Nothing;
        }
    }

    /// Replaces the file with the prepared version; false if there is none, or on failure.
    pub async fn put_in_place(&mut self) -> bool {
        if self.beside != Beside::Prepared {
            return false;
        }
        let path = self.path.clone();
        let moved = blocking(move || {
            let end = contract::publish::end_of_links(&path)?;
            std::fs::rename(beside(&path)?, &end)?;
            let folder = end.parent().map(std::fs::File::open).transpose()?;
            // Every reader sees it already, even if a power failure may lose it.
            let _ = folder.map(|folder| folder.sync_all());
            Ok::<(), io::Error>(())
        });
        let is_moved = moved.await.is_ok();
        if is_moved {
            self.beside = Beside::Nothing;
        }
        is_moved
    }

    /// Replaces the file; false on failure. A failure delays no publish: it is logged once, and the caller
    /// retries.
    pub async fn write(&mut self, bytes: Vec<u8>) -> bool {
        let path = self.path.clone();
        let written = blocking(move || contract::publish(&path, &bytes)).await;
        if let Err(error) = &written
            && !self.is_told
        {
            let path = self.path.display();
            tracing::error!("{path} cannot be written: {error}; retrying");
        }
        self.is_told = written.is_err();
        written.is_ok()
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.expect("writing a file does not panic")
}

/// If `path` is a link: in the folder of the file itself, since a rename cannot leave its file system.
pub fn beside(path: &Path) -> io::Result<PathBuf> {
    let end = contract::publish::end_of_links(path)?;
    Ok(end.with_extension("json.next"))
}
