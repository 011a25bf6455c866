//! Reading `proxy_config.json` from disk: bounded, digested, checked.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use contract::config::MAX_FILE_BYTES;
use contract::{Checked, Faults, LocalAddresses};

/// A file that was read and found right.
#[derive(Debug)]
pub struct ConfigFile {
    pub checked: Checked,
    /// SHA-256 of the bytes.
    pub digest: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    #[error("{path}: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("{path}: {faults}")]
    Faulty { path: String, faults: Faults },
}

pub fn load(path: &Path) -> Result<ConfigFile, ConfigFileError> {
    let name = path.display().to_string();
    let bytes = match read_bounded(path) {
        Ok(bytes) => bytes,
        Err(error) => return Err(ConfigFileError::Unreadable { path: name, error }),
    };
    match contract::check(&bytes, &local_addresses()) {
        Ok(checked) => Ok(ConfigFile {
            checked,
            digest: contract::digest(&bytes),
        }),
        Err(faults) => Err(ConfigFileError::Faulty { path: name, faults }),
    }
}

/// One byte more than is allowed, so that the check can tell a larger file from one that just fits.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the addresses cannot be listed, loopback and exact matches still tell our own listener.
fn local_addresses() -> LocalAddresses {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    LocalAddresses(interfaces.iter().map(if_addrs::Interface::ip).collect())
}
