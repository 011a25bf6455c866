//! The root folder of the contract, and the path of each file in it.

use std::io;
use std::path::{Path, PathBuf};

/// The contract's root folder, by default `control`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(pub PathBuf);

/// Why there is no root folder to work in.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum RootError {
    #[error("root folder {} does not exist; check --root", .0.display())]
    Missing(PathBuf),
    #[error("root folder {}: not a folder; check --root", .0.display())]
    NotAFolder(PathBuf),
    #[error("root folder {}: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl Root {
    /// Checks that the folder exists, so that a misspelt one is reported instead of created.
    ///
    /// # Errors
    /// It does not exist, or is not a folder.
    pub fn require(&self) -> Result<(), RootError> {
        let path = || self.0.clone();
        match std::fs::metadata(&self.0) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(RootError::NotAFolder(path())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(RootError::Missing(path()))
            }
            Err(error) => Err(RootError::Io {
                path: path(),
                error,
            }),
        }
    }

    /// Creates the folder if it does not exist.
    pub fn init(&self) -> Result<(), RootError> {
        std::fs::create_dir_all(&self.0).map_err(|error| RootError::Io {
            path: self.0.clone(),
            error,
        })
    }

    /// The default root: `control` in the working folder, or the working folder itself if it is inside
    /// one.
    pub fn default_from(working_folder: &Path) -> Self {
        let below = working_folder.join("control");
        let inside = working_folder
            .file_name()
            .is_some_and(|name| name == "control");
        if inside && !below.is_dir() {
            Root(PathBuf::from("."))
        } else {
            Root("control".into())
        }
    }

    /// What the proxy is configured by; control writes it.
    pub fn proxy_config(&self) -> PathBuf {
        self.0.join("config/proxy_config.json")
    }

    /// Control's own settings; the operator writes them.
    pub fn control_config(&self) -> PathBuf {
        self.0.join("config/control_config.json")
    }

    /// The tokens, by their digests.
    pub fn tokens(&self) -> PathBuf {
        self.0.join("config/tokens.json")
    }

    /// When each token was used last.
    pub fn token_uses(&self) -> PathBuf {
        self.0.join("data/token_uses.json")
    }

    /// The proxy's pid file; its admin socket is beside it.
    pub fn proxy_pid(&self) -> PathBuf {
        self.0.join("run/proxy.pid")
    }

    /// What discovery writes.
    pub fn k8s_endpoints(&self) -> PathBuf {
        self.0.join("data/k8s_endpoints.json")
    }

    /// The static list of backends.
    pub fn static_backends(&self) -> PathBuf {
        self.0.join("data/static_backends.json")
    }

    /// Registrations and overrides.
    pub fn backends_runtime(&self) -> PathBuf {
        self.0.join("data/backends_runtime.json")
    }

    /// Settings by API.
    pub fn settings_runtime(&self) -> PathBuf {
        self.0.join("data/settings_runtime.json")
    }

    /// The settings that the proxy accepted last.
    pub fn settings_accepted(&self) -> PathBuf {
        self.0.join("data/settings_accepted.json")
    }

    /// Which source each published value came from.
    pub fn published_sources(&self) -> PathBuf {
        self.0.join("data/published_sources.json")
    }

    /// The last edits of people, one JSON object a line.
    pub fn edits(&self) -> PathBuf {
        self.0.join("data/edits.jsonl")
    }

    /// The audit log, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.0.join("logs/audit.log")
    }
}

/// The admin socket is beside the pid file and has its name, so that one path names a proxy:
/// `<root>/run/proxy.sock` by default.
pub fn proxy_socket(pid_file: &Path) -> PathBuf {
    pid_file.with_extension("sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pid_file_has_a_socket_of_its_own() {
        let socket_of = |pid_file| proxy_socket(Path::new(pid_file));
        assert_eq!(socket_of("run/proxy.pid"), Path::new("run/proxy.sock"));
        assert_eq!(socket_of("run/second.pid"), Path::new("run/second.sock"));
        assert_eq!(socket_of("bare"), Path::new("bare.sock"));
    }

    #[test]
    fn the_root_is_found_from_the_repository_and_from_inside_control() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(Root::default_from(temp.path()), Root("control".into()));
        let control = temp.path().join("control");
        std::fs::create_dir(&control).expect("a folder");
        assert_eq!(Root::default_from(temp.path()), Root("control".into()));
        assert_eq!(Root::default_from(&control), Root(".".into()));
    }

    #[test]
    fn a_root_that_is_not_there_is_told_and_not_made() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let root = Root(temp.path().join("typo"));
        assert!(matches!(root.require(), Err(RootError::Missing(_))));
        assert!(!root.0.exists());
        root.init().expect("made");
        root.require().expect("there");
        let file = Root(root.0.join("file"));
        std::fs::write(&file.0, "").expect("written");
        assert!(matches!(file.require(), Err(RootError::NotAFolder(_))));
    }
}
