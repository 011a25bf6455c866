//! Files of this repository that tests hold to what they promise.

use std::path::{Path, PathBuf};

pub fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A file of the package for systemd.
pub fn packaged(name: &str) -> PathBuf {
    in_repository("packaging/systemd").join(name)
}
