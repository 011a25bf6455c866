//! Reading `proxy_config.json` from disk: bounded, digested, checked.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use contract::config::{MAX_FILE_BYTES, generation_of};
use contract::{Checked, Config, Faults, LocalAddresses};
use rustix::fs::OFlags;

use crate::limits::Limits;

/// A file may hold thousands of unknown keys.
const MOST_WARNINGS: usize = 16;

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

/// What came of reading the file.
#[derive(Debug)]
pub struct Loaded {
    /// Where it stands, at the end of any links; `None` where it cannot be read.
    pub found_at: Option<PathBuf>,
    pub file: Result<ConfigFile, ConfigFileError>,
}

/// For running: unknown keys are told apart.
pub fn load(path: &Path) -> Loaded {
    match read_bounded(path) {
        Ok((bytes, found_at)) => Loaded {
            found_at: Some(found_at),
            file: check(path, &bytes),
        },
        Err(error) => Loaded {
            found_at: None,
            file: Err(error),
        },
    }
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

impl ConfigFile {
    /// Says which keys of the file nobody knows.
    pub fn log_unknown_keys(&self) {
        let unknown_keys = &self.checked.unknown_keys;
        if !unknown_keys.is_empty() {
            // One line, however many backends carry such a key.
            tracing::warn!("unknown keys ignored: {unknown_keys}");
        }
    }

    /// Refuses the file where this process cannot hold its listeners.
    ///
    /// # Errors
    /// One fault, at `/listeners`.
    pub fn held_by(self, limits: &Limits, path: &Path) -> Result<ConfigFile, ConfigFileError> {
        let Some((found, allowed)) = limits.lack(&self.checked.config.listeners) else {
            return Ok(self);
        };
        let mut faults = Faults::default();
        faults.add("/listeners", found, allowed);
        Err(ConfigFileError::Faulty {
            path: path.display().to_string(),
            faults,
            generation: self.checked.config.generation,
        })
    }
}

/// Over all pools.
pub fn backend_count(config: &Config) -> usize {
    config.pools.iter().map(|pool| pool.backends.len()).sum()
}

/// What `--check` would refuse of a file that holds `bytes`, and [`check`] does not.
pub fn warnings(bytes: &[u8], addresses: &LocalAddresses) -> Vec<String> {
    let faults = contract::check_strictly(bytes, addresses).err();
    let faults = faults.filter(|_| contract::check(bytes, addresses).is_ok());
    let faults = faults.map_or_else(Vec::new, |faults| faults.0);
    faults
        .iter()
        .take(MOST_WARNINGS)
        .map(ToString::to_string)
        .collect()
}

/// For `--check`: an unknown key is a fault too.
pub fn load_strictly(path: &Path) -> Result<Config, ConfigFileError> {
    let (bytes, _) = read_bounded(path)?;
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

/// The bytes, and where they stand. One byte more than is allowed, so that the check can tell a larger
/// file from one that just fits.
fn read_bounded(path: &Path) -> Result<(Vec<u8>, PathBuf), ConfigFileError> {
    let mut bytes = Vec::new();
    let read = open_regular(path).and_then(|file| {
        let most = MAX_FILE_BYTES as u64 + 1;
        (&file).take(most).read_to_end(&mut bytes)?;
        Ok(place_of(&file).unwrap_or_else(|| path.to_owned()))
    });
    match read {
        Ok(found_at) => Ok((bytes, found_at)),
        Err(error) => {
            let path = path.display().to_string();
            Err(ConfigFileError::Unreadable { path, error })
        }
    }
}

/// Where an open file stands, as the kernel knows it, whatever links led there; `None` where /proc is
/// not mounted.
fn place_of(file: &File) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let place = rustix::fs::readlink(link, Vec::new()).ok()?;
    let place = PathBuf::from(OsString::from_vec(place.into_bytes()));
    // Said of a file that somebody has replaced since it was opened.
    const REPLACED: &str = " (deleted)";
    let is_replaced = file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
    match place.to_str().and_then(|text| text.strip_suffix(REPLACED)) {
        Some(before) if is_replaced => Some(PathBuf::from(before)),
        Some(_) | None => Some(place),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_at_the_end_of_its_links_also_when_it_is_replaced_meanwhile() {
        let folder = std::env::temp_dir().join(format!("wicketgate-place-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("volume")).expect("a temporary folder");
        let folder = folder.canonicalize().expect("it stands");
        let (target, link) = (folder.join("volume/a.json"), folder.join("link.json"));
        std::fs::write(&target, "{}").expect("written");
        std::os::unix::fs::symlink("volume/a.json", &link).expect("linked");
        let open = File::open(&link).expect("opened");
        let found = place_of(&open);
        std::fs::remove_file(&target).expect("removed");
        let replaced = place_of(&open);
        std::fs::remove_dir_all(&folder).expect("removed");
        assert_eq!((&found, &replaced), (&Some(target.clone()), &Some(target)));
    }
}
