//! How others find this proxy: its pid file, and the admin socket beside it. Where the disk does not let
//! them be made, the proxy serves without them, says so once, and makes them when it can.

use std::path::{Path, PathBuf};

use contract::paths::proxy_socket;
use contract::pidfile::{PidFile, PidFileError};
use rustix::process::Gid;
use tokio::net::UnixListener;

use crate::admin::socket::{self, BindError};
use crate::sandbox::Confinement;

#[derive(Debug)]
pub struct Announcement {
    /// Goes before the pid file, whose lock protects it.
    socket: Option<SocketFile>,
    pid_file: Option<PidFile>,
    is_written: bool,
    /// Bound, and not served yet.
    listener: Option<UnixListener>,
    pid_path: PathBuf,
    socket_path: PathBuf,
    /// Who may use the socket beside the proxy's own user.
    group: Option<Gid>,
    /// What is missing, for a log that does not run yet.
    missing: Vec<String>,
    /// Whether the process may still make what is missing.
    makes_files: bool,
}

/// The admin socket's place, given back at the end.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that is gone, or a folder that became read-only, is no reason to fail an exit.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Announcement {
    /// Takes the pid file. It names nobody until [`Announcement::make`].
    ///
    /// # Errors
    /// Another proxy holds the file, or it is none.
    pub fn hold(pid_path: &Path) -> Result<Announcement, PidFileError> {
        let mut missing = Vec::new();
        let pid_file = match PidFile::hold(pid_path) {
            Ok(file) => Some(file),
            Err(error) if error.may_pass() => {
                missing.push(format!("serving without a pid file: {error}"));
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Announcement {
            socket: None,
            pid_file,
            is_written: false,
            listener: None,
            pid_path: pid_path.to_owned(),
            socket_path: proxy_socket(pid_path),
            group: None,
            missing,
            makes_files: true,
        })
    }

    /// Binds the admin socket, which `group` may use too.
    ///
    /// # Errors
    /// Those that do not pass by themselves.
    pub fn bind_socket(&mut self, group: Option<Gid>) -> Result<(), String> {
        self.group = group;
        let bound = self.try_socket();
        let Err(error) = bound else {
            return Ok(());
        };
        let text = format!("{}: {error}", self.socket_path.display());
        if !error.may_pass() {
            return Err(text);
        }
        let text = format!("serving without an admin socket: {text}");
        self.missing.push(text);
        Ok(())
    }

    /// Whether a file could not be made, so that the right to make it is kept.
    pub fn lacks_files(&self) -> bool {
        self.pid_file.is_none() || self.socket.is_none()
    }

    /// Serves the admin socket and writes the pid file. From here on signals arrive, so the handlers
    /// must be in place.
    pub fn make(&mut self, confinement: &Confinement, serve: &dyn Fn(UnixListener)) {
        self.makes_files = confinement.makes_files();
        let outlook = match self.makes_files {
            true => "retrying every second",
            false => "a restart is needed: its folder did not exist at the start",
        };
        for missing in self.missing.drain(..) {
            tracing::warn!("{missing}; {outlook}");
        }
        self.listener.take().into_iter().for_each(serve);
        if let Some(Err(error)) = self.write() {
            let path = self.pid_path.display();
            tracing::warn!("serving without a pid file: {path}: {error}; retrying every second");
        }
    }

    /// Whether [`Announcement::try_again`] may do something.
    pub fn is_waiting(&self) -> bool {
        let is_unwritten = self.pid_file.is_some() && !self.is_written;
        is_unwritten || self.makes_files && self.lacks_files()
    }

    /// Makes what is missing, if that is possible by now.
    pub fn try_again(&mut self, serve: &dyn Fn(UnixListener)) {
        if !self.is_waiting() {
            return;
        }
        if self.pid_file.is_none() {
            self.pid_file = PidFile::hold(&self.pid_path).ok();
        }
        // Without the pid file, another proxy may hold it by now, and the socket is that one's.
        if self.pid_file.is_some() && self.socket.is_none() && self.try_socket().is_ok() {
            tracing::info!("the admin socket is ready");
            self.listener.take().into_iter().for_each(serve);
        }
        if !self.is_written && matches!(self.write(), Some(Ok(()))) {
            tracing::info!("the pid file is written");
        }
    }

    fn try_socket(&mut self) -> Result<(), BindError> {
        self.listener = Some(socket::bind(&self.socket_path, self.group)?);
        self.socket = Some(SocketFile(self.socket_path.clone()));
        Ok(())
    }

    fn write(&mut self) -> Option<std::io::Result<()>> {
        let written = self.pid_file.as_mut()?.announce();
        self.is_written = written.is_ok();
        Some(written)
    }
}
