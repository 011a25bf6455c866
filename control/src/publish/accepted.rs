//! `settings_accepted.json`: the settings that the proxy was last seen to run.
//!
//! What is published may not have been seen to run: the proxy was silent, or control was killed
//! first. A control that is started then would have nothing to publish in its place, should the proxy
//! refuse it. The file is a `proxy_config.json` without backends.

use std::path::{Path, PathBuf};

use contract::config::MAX_FILE_BYTES;
use contract::{LocalAddresses, check, parse_object};

use crate::render::{Head, Plan};
use crate::settings::read_file;

/// The file, and what it is known to say.
#[derive(Debug)]
pub struct AcceptedFile {
    path: PathBuf,
    head: Option<Head>,
    /// That it cannot be written was logged, and has not been put right since.
    is_told: bool,
}

/// What the file says; `None` where there is none, or none that the proxy would read.
pub fn read(path: &Path) -> Option<Head> {
    let bytes = match read_file(path, MAX_FILE_BYTES) {
        Ok(bytes) => bytes?,
        Err(error) => {
            tracing::warn!("{}: {error}; ignored", path.display());
            return None;
        }
    };
    let document = check(&bytes, &LocalAddresses::default())
        .and_then(|_| parse_object(&bytes, MAX_FILE_BYTES));
    match document {
        Ok(document) => Some(Plan::of_published(&document, Vec::new()).head),
        Err(faults) => {
            tracing::warn!("{}: {faults}; ignored", path.display());
            None
        }
    }
}

impl AcceptedFile {
    /// The file at `path`, which says `head`.
    pub fn at(path: &Path, head: Option<Head>) -> AcceptedFile {
        AcceptedFile {
            path: path.to_owned(),
            head,
            is_told: false,
        }
    }

    /// Has the file say `head`. A failure holds up no publish: it is logged once, and tried again at
    /// the next call.
    pub async fn keep(&mut self, head: Head, generation: u64, updated_at: u64) {
        if self.head.as_ref() == Some(&head) {
            return;
        }
        let plan = Plan {
            head,
            backends: Vec::new(),
        };
        let path = self.path.clone();
        let bytes = plan.render(generation, updated_at);
        let written = tokio::task::spawn_blocking(move || contract::publish(&path, &bytes));
        match written.await.expect("writing a file does not panic") {
            Ok(()) => {
                self.head = Some(plan.head);
                self.is_told = false;
            }
            Err(error) => {
                if !self.is_told {
                    let path = self.path.display();
                    tracing::error!("{path} cannot be written: {error}; tried again");
                }
                self.is_told = true;
            }
        }
    }
}
