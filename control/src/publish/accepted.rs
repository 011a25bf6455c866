//! `settings_accepted.json`: the settings that the proxy was last seen to run.
//!
//! What is published may not have been seen to run: the proxy was silent, or control was killed
//! first. A control that is started then would have nothing to publish in its place, should the proxy
//! refuse it. The file is a `proxy_config.json` without backends.

use std::path::Path;

use contract::config::MAX_FILE_BYTES;
use contract::{LocalAddresses, check, parse_object};

use super::kept_file::KeptFile;
use crate::render::{Head, Plan};
use crate::settings::read_file;

/// The file, and what it is known to say.
#[derive(Debug)]
pub struct AcceptedFile {
    file: KeptFile,
    head: Option<Head>,
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
            file: KeptFile::at(path),
            head,
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
        if self.file.write(plan.render(generation, updated_at)).await {
            self.head = Some(plan.head);
        }
    }
}
