//! `settings_accepted.json`: the settings that the proxy was last seen to run.
//!
//! Published settings may never have been seen to run: the proxy did not answer, or control was killed first.
//! After a restart, control would then have nothing to publish in their place if the proxy refuses them. The file
//! is a `proxy_config.json` without backends.
//!
//! The next version is written beside it before publishing (`settings_accepted.json.next`), and renamed if the
//! file cannot be written once the proxy runs it: on a disk that has become full meanwhile, a rename is still
//! possible.

use std::path::Path;

use contract::config::MAX_FILE_BYTES;
use contract::{LocalAddresses, check, parse_object};

use super::kept_file::KeptFile;
use crate::bounded_read::read_file;
use crate::layer::Layer;
use crate::render::{Head, Plan};

/// The file, and its known content.
#[derive(Debug)]
pub struct AcceptedFile {
    file: KeptFile,
    head: Option<Head>,
    /// What is prepared beside it.
    prepared: Option<Head>,
}

/// The content of the file; `None` if it is missing, or the proxy would refuse it.
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
        Ok(document) => Some(Layer::of_published(&document).head()),
        Err(faults) => {
            tracing::warn!("{}: {faults}; ignored", path.display());
            None
        }
    }
}

impl AcceptedFile {
    /// The file at `path`, which holds `head`.
    pub fn at(path: &Path, head: Option<Head>) -> AcceptedFile {
        AcceptedFile {
            file: KeptFile::at(path),
            head: head.map(sorted),
            prepared: None,
        }
    }

    /// Writes `head`, which is about to be published, beside the file.
    pub async fn prepare(&mut self, head: Head, generation: u64, updated_at: u64) {
        let head = sorted(head);
        if self.prepared.as_ref() == Some(&head) {
            return;
        }
        if self.head.as_ref() == Some(&head) {
            self.prepared = None;
            return self.file.discard().await;
        }
        let (head, bytes) = rendered(head, generation, updated_at);
        self.file.prepare(bytes).await;
        self.prepared = Some(head);
    }

    /// Writes `head` into the file. A failure delays no publish: it is logged once, and retried at the next
    /// call.
    pub async fn keep(&mut self, head: Head, generation: u64, updated_at: u64) {
        let head = sorted(head);
        if self.head.as_ref() == Some(&head) {
            return;
        }
        let is_prepared = self.prepared.as_ref() == Some(&head);
        let (head, bytes) = rendered(head, generation, updated_at);
        if self.file.write(bytes).await || is_prepared && self.file.put_in_place().await {
            self.head = Some(head);
            // What the proxy may yet refuse stays.
            if is_prepared {
                self.prepared = None;
                self.file.discard().await;
            }
        }
    }
}

/// By key: what is wanted and what was accepted have orders of their own.
fn sorted(mut head: Head) -> Head {
    head.sort_by(|(one, _), (other, _)| one.cmp(other));
    head
}

fn rendered(head: Head, generation: u64, updated_at: u64) -> (Head, Vec<u8>) {
    let plan = Plan::of_head(head);
    let bytes = plan.render(generation, updated_at);
    (plan.head, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::MetadataExt as _;

    fn head(port: u16) -> Head {
        let document = json!({
            "listen": { "host": "127.0.0.1", "port": port }, "algorithm": "round_robin", "backends": [],
        });
        let bytes = document.to_string().into_bytes();
        let document = parse_object(&bytes, MAX_FILE_BYTES).expect("it is good");
        sorted(Layer::of_published(&document).head())
    }

    fn sorted_of(path: &Path) -> Option<Head> {
        read(path).map(sorted)
    }

    #[tokio::test]
    async fn what_was_prepared_is_put_in_place_where_nothing_can_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("settings_accepted.json");
        let beside = folder.path().join("settings_accepted.json.next");
        let mut file = AcceptedFile::at(&path, None);
        file.keep(head(1), 1, 1).await;
        let reversed = head(2).into_iter().rev().collect();
        file.prepare(reversed, 2, 2).await;
        assert_eq!(sorted_of(&path), Some(head(1)), "it runs these still");
        let prepared = std::fs::metadata(&beside).expect("it is there").ino();
        // No temporary file can be made, as where the disk is full.
        let temporary = format!(".settings_accepted.json.{}.tmp", std::process::id());
        let temporary = folder.path().join(temporary);
        std::fs::create_dir(&temporary).expect("made");
        file.keep(head(2), 2, 2).await;
        assert_eq!(sorted_of(&path), Some(head(2)));
        assert_eq!(
            std::fs::metadata(&path).expect("it is there").ino(),
            prepared
        );
        // What is not what was prepared waits for the disk.
        file.keep(head(3), 3, 3).await;
        assert_eq!(sorted_of(&path), Some(head(2)));
        std::fs::remove_dir(&temporary).expect("removed");
        file.prepare(head(4), 4, 4).await;
        file.keep(head(3), 4, 4).await;
        assert!(beside.exists(), "the proxy may run it yet");
        file.prepare(head(3), 5, 5).await;
        assert!(!beside.exists(), "it is not wanted any more");
        assert_eq!(sorted_of(&path), Some(head(3)));
    }
}
