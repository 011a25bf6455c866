//! Reading `proxy_config.json` from disk: bounded, digested, checked.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use contract::config::{MAX_FILE_BYTES, generation_of};
use contract::{Checked, Config, Faults, LocalAddresses};
use rustix::fs::OFlags;

/// A file that was read and found right.
#[derive(Debug)]
pub struct ConfigFile {
    pub checked: Checked,
    /// SHA-256 of the bytes.
    pub digest: String,
    /// Of this host, when the file was read.
    pub addresses: LocalAddresses,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    #[error("{path}: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("{path}: {faults}")]
    Faulty {
        path: String,
        faults: Faults,
        /// Where it could be read that far.
        generation: Option<u64>,
    },
}

/// For running: unknown keys are told apart.
pub fn load(path: &Path) -> Result<ConfigFile, ConfigFileError> {
    let bytes = read_bounded(path)?;
    check(path, &bytes)
}

/// What [`load`] makes of a file that holds `bytes`.
pub fn check(path: &Path, bytes: &[u8]) -> Result<ConfigFile, ConfigFileError> {
    let addresses = local_addresses();
    let checked = contract::check(bytes, &addresses);
    let checked = checked.map_err(|faults| ConfigFileError::faulty(path, bytes, faults))?;
    Ok(ConfigFile {
        checked,
        digest: contract::digest(bytes),
        addresses,
    })
}

/// For `--check`: an unknown key is a fault too.
pub fn load_strictly(path: &Path) -> Result<Config, ConfigFileError> {
    let bytes = read_bounded(path)?;
    let config = contract::check_strictly(&bytes, &local_addresses());
    config.map_err(|faults| ConfigFileError::faulty(path, &bytes, faults))
}

impl ConfigFileError {
    fn faulty(path: &Path, bytes: &[u8], faults: Faults) -> ConfigFileError {
        ConfigFileError::Faulty {
            path: path.display().to_string(),
            faults,
            generation: generation_of(bytes),
        }
    }

    /// Whether it is for want of a right.
    pub fn is_forbidden(&self) -> bool {
        match self {
            ConfigFileError::Unreadable { error, .. } => {
                error.kind() == io::ErrorKind::PermissionDenied
            }
            ConfigFileError::Faulty { .. } => false,
        }
    }

    /// The generation of the file that is refused, where it could be read that far.
    pub fn generation(&self) -> Option<u64> {
        match self {
            ConfigFileError::Unreadable { .. } => None,
            ConfigFileError::Faulty { generation, .. } => *generation,
        }
    }
}

/// One byte more than is allowed, so that the check can tell a larger file from one that just fits.
fn read_bounded(path: &Path) -> Result<Vec<u8>, ConfigFileError> {
    let mut bytes = Vec::new();
    let read = open_regular(path)
        .and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let path = path.display().to_string();
            Err(ConfigFileError::Unreadable { path, error })
        }
    }
}

/// A FIFO or a device may have no end, and keep its reader for ever.
fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // NONBLOCK, lest the open itself waits for a FIFO's writer.
    options.custom_flags(OFlags::NONBLOCK.bits() as i32);
    let file = options.read(true).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("allowed: a regular file"))
    }
}

/// Where the addresses cannot be listed, loopback and exact matches still tell our own listener.
pub fn local_addresses() -> LocalAddresses {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    LocalAddresses(interfaces.iter().map(if_addrs::Interface::ip).collect())
}
