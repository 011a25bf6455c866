//! What a start needs of files, ports and sockets: all that may want rights which the process gives
//! up before it serves anybody.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::TcpListener;

use crate::announcement::Announcement;
use crate::arguments::{Arguments, Paths};
use crate::config_file::{self, ConfigFile, ConfigFileError, Loaded};
use crate::limits::Limits;
use crate::listeners::{BoundSockets, Listeners, Wanted};
use crate::privileges::GroupName;

/// All that is had before the process gives up the rights to it.
pub struct Ready {
    pub bound: Bound,
    pub announcement: Announcement,
    pub metrics: Option<TcpListener>,
}

impl Ready {
    /// The pid file, the configuration, the listeners and the admin socket, in this order.
    pub fn get(arguments: &Arguments, paths: &Paths) -> Result<Ready, Box<dyn std::error::Error>> {
        let mut announcement = Announcement::hold(&paths.pid_file)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = arguments.workers.map_or(cores, usize::from);
        let bound = Bound::bind(paths.config.clone(), workers)?;
        let group = arguments.socket_group.as_ref().map(GroupName::find);
        let group = group
            .transpose()
            .map_err(|error| format!("--socket-group: {error}"))?;
        announcement.bind_socket(group)?;
        let metrics = arguments.metrics_listen.map(|addr| {
            bind_metrics(addr).map_err(|error| format!("--metrics-listen {addr}: {error}"))
        });
        Ok(Ready {
            bound,
            announcement,
            metrics: metrics.transpose()?,
        })
    }
}

fn bind_metrics(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

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
