//! A file that the publisher keeps beside the published one, for its own next start.

use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    /// That it cannot be written was logged, and has not been put right since.
    is_told: bool,
}

impl KeptFile {
    pub fn at(path: &Path) -> KeptFile {
        KeptFile {
            path: path.to_owned(),
            is_told: false,
        }
    }

    /// Replaces the file; false where that failed. A failure holds up no publish: it is logged once,
    /// and the caller tries again.
    pub async fn write(&mut self, bytes: Vec<u8>) -> bool {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || contract::publish(&path, &bytes));
        let written = written.await.expect("writing a file does not panic");
        if let Err(error) = &written
            && !self.is_told
        {
            let path = self.path.display();
            tracing::error!("{path} cannot be written: {error}; tried again");
        }
        self.is_told = written.is_err();
        written.is_ok()
    }
}
