//! Folders that cannot be used, as with a disk that is full or gone.

use std::fs;
use std::path::PathBuf;

use super::World;

impl World {
    /// A folder that cannot be used, as with a disk that is full or gone.
    pub(super) async fn break_or_mend_a_folder(&mut self) {
        if !self.broken.is_empty() {
            self.mend_all();
            return;
        }
        let folder = if self.random.bool() { "data" } else { "config" };
        let path = self.root().join(folder);
        fs::rename(&path, path.with_extension("away")).expect("renamed");
        fs::write(&path, "in the way").expect("written");
        self.broken.push(folder);
    }

    pub(super) fn mend_all(&mut self) {
        for folder in std::mem::take(&mut self.broken) {
            let path = self.root().join(folder);
            fs::remove_file(&path).expect("removed");
            fs::rename(path.with_extension("away"), &path).expect("renamed");
        }
    }

    /// A path below the root, wherever its folder is at the moment.
    pub(super) fn path_of(&self, folder: &'static str, name: &str) -> PathBuf {
        let suffix = if self.broken.contains(&folder) {
            ".away"
        } else {
            ""
        };
        self.root().join(format!("{folder}{suffix}")).join(name)
    }

    pub(super) fn can_store(&self) -> bool {
        !self.broken.contains(&"data")
    }

    pub(super) fn published_path(&self) -> PathBuf {
        self.path_of("config", "proxy_config.json")
    }

    pub(super) fn root(&self) -> PathBuf {
        self.temporary.path().join("control")
    }

    /// What could not be stored for a while is stored.
    pub(super) async fn catch_up(&mut self) {
        const STORED_WITHIN_MS: u64 = 5_000;
        if self.is_behind {
            self.pass_ms(STORED_WITHIN_MS).await;
            self.is_behind = false;
        }
    }

    /// The registry's file gets what is only in the journal.
    pub(super) async fn fold(&mut self) {
        const FOLDED_WITHIN_MS: u64 = 1_000;
        if self.is_large && self.can_store() {
            self.pass_ms(FOLDED_WITHIN_MS).await;
        }
    }
}
