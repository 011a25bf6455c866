//! What a start needs of files, ports and sockets: all that may want rights which the process gives
//! up before it serves anybody.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::announcement::Announcement;
use crate::arguments::{Arguments, Paths};
use crate::privileges::GroupName;
use crate::supervise::bound::Bound;

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
