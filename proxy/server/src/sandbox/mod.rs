//! What the process gives up before it serves anybody: capabilities, new privileges, most system
//! calls, and every file but those it needs.
//!
//! It is for the case that somebody makes the proxy run what it should not. All of it belongs to the
//! calling thread and to the threads that this one starts later, so it comes before the first of
//! them. Where the kernel lacks a part the proxy serves all the same, and says so in its log.

mod calls;
mod files;

use std::path::{Path, PathBuf};

use proxy_engine::clock::monotonic_us;
use rustix::thread::{CapabilitySet, set_no_new_privs};

use crate::privileges::{PrivilegeError, keep_only};
use files::Folders;

/// How the process is to be confined.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Seccomp, Landlock and `no_new_privs`.
    pub sandbox: bool,
    /// The right to bind ports below 1024 is kept for reloads.
    pub keep_bind: bool,
    /// The process has become another user, and gives up the rights that it kept until now.
    pub is_other_user: bool,
    /// The contract's folder.
    pub root: &'a Path,
    pub config: &'a Path,
    pub pid_file: &'a Path,
    pub log_file: Option<&'a Path>,
    /// The pid file or the admin socket could not be made yet: the right to make them is kept.
    pub makes_files: bool,
}

/// How the process is confined; by default, not at all.
#[derive(Debug, Default)]
pub struct Confinement {
    parts: Vec<&'static str>,
    missing: Vec<String>,
    /// Where Landlock lets files be read; `None` where it lets them be read anywhere.
    readable: Option<Vec<PathBuf>>,
    gave_up_bind: bool,
    gave_up_files: bool,
}

/// Confines the calling thread, and every thread that it starts from now on.
pub fn enter(wanted: &Wanted<'_>) -> Result<Confinement, PrivilegeError> {
    let mut confinement = Confinement {
        parts: Vec::new(),
        missing: Vec::new(),
        readable: None,
        gave_up_bind: false,
        gave_up_files: false,
    };
    if wanted.sandbox || wanted.is_other_user {
        keep_only(match wanted.keep_bind {
            true => CapabilitySet::NET_BIND_SERVICE,
            false => CapabilitySet::empty(),
        })?;
        confinement.gave_up_bind = !wanted.keep_bind;
        confinement.parts.push(match wanted.keep_bind {
            true => "no capabilities but CAP_NET_BIND_SERVICE",
            false => "no capabilities",
        });
    }
    if !wanted.sandbox {
        let text = "--no-sandbox: system calls and file access are not confined";
        confinement.missing.push(text.to_owned());
        return Ok(confinement);
    }
    set_no_new_privs(true).map_err(PrivilegeError::Kept)?;
    confinement.parts.push("no_new_privs");
    // Where the time is read without a system call is looked up at the first reading, in a file.
    monotonic_us();
    // Files first: the calls that restrict them are none that the filter lets through.
    let folders = Folders::of(wanted);
    match files::restrict(&folders) {
        Ok(()) => {
            confinement.parts.push("Landlock");
            confinement.gave_up_files = !folders.makes_files();
            confinement.readable = Some(folders.readable);
        }
        Err(why) => confinement.missing.push(format!("no Landlock: {why}")),
    }
    match calls::restrict(wanted.makes_files) {
        Ok(()) => confinement.parts.push("seccomp"),
        Err(why) => confinement.missing.push(format!("no seccomp: {why}")),
    }
    Ok(confinement)
}

impl Confinement {
    /// Told once there is a log, whose thread is confined as well.
    pub fn log(&self) {
        for missing in &self.missing {
            tracing::warn!("{missing}");
        }
        if !self.parts.is_empty() {
            tracing::info!("confined: {}", self.parts.join(", "));
        }
    }

    /// Whether a pid file and an admin socket that could not be made at the start may be made later.
    pub fn makes_files(&self) -> bool {
        !self.gave_up_files
    }

    /// Why a file may not be read that others may read.
    pub fn of_reading(&self) -> Option<String> {
        let readable = self.readable.as_ref()?;
        let folders: Vec<String> = readable.iter().map(|f| f.display().to_string()).collect();
        Some(format!(
            "Landlock allows reading only in {}, the folders of the configuration at the start: \
             restart the proxy if the configuration has moved. Without capabilities, even root \
             reads only files that owner and mode allow",
            folders.join(" and ")
        ))
    }

    /// Why a port may not be bound that others may bind.
    pub fn of_binding(&self) -> Option<String> {
        let text = "restart the proxy to bind a port below 1024; with --keep-bind, a reload can bind one \
                    too";
        self.gave_up_bind.then(|| text.to_owned())
    }
}
