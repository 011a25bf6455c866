//! What the supervisor starts on: a checked configuration, and the sockets that it asks for.

use std::path::PathBuf;

use super::listeners::Listeners;
use super::listeners::sockets::BoundSockets;
use super::listeners::wanted::Wanted;
use crate::config_file::{self, ConfigFile, ConfigFileError, Loaded};
use crate::limits::Limits;

/// A configuration, and the sockets that it asks for; those that can be had.
#[derive(Debug)]
pub struct Bound {
    pub config_path: PathBuf,
    /// Where the file stands, at the end of any links.
    pub found_at: PathBuf,
    pub file: ConfigFile,
    pub limits: Limits,
    pub worker_count: usize,
    pub listeners: Listeners,
    pub sockets: BoundSockets,
}

impl Bound {
    /// Reads the configuration and binds its listeners for `worker_count` workers.
    pub fn bind(config_path: PathBuf, worker_count: usize) -> Result<Bound, ConfigFileError> {
        let limits = Limits::of_process(worker_count);
        let Loaded { found_at, file } = config_file::load(&config_path);
        let file = file?.held_by(&limits, &config_path)?;
        let wanted = Wanted::of(&file.checked);
        let (listeners, sockets) = Listeners::bind(wanted, worker_count);
        Ok(Bound {
            found_at: found_at.unwrap_or_else(|| config_path.clone()),
            config_path,
            file,
            limits,
            worker_count,
            listeners,
            sockets,
        })
    }
}
