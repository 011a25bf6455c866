//! The command line of `proxy_server`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use contract::paths::{Root, RootError};

use crate::privileges::{GroupName, Identity};

/// The data plane of Wicketgate: forwards TCP sessions and UDP flows to a pool of backends.
#[derive(Debug, Parser)]
#[command(name = "proxy_server", version, about)]
// clap prints `<root>` as it is.
#[allow(rustdoc::invalid_html_tags)]
pub struct Arguments {
    /// The root folder [default: control, or the current folder inside it]
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// The configuration [default: <root>/config/proxy_config.json]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The pid file, written when the proxy is ready; the admin socket is beside it [default: <root>/run/proxy.pid]
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Worker threads [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Pin each worker to its own core
    #[arg(long)]
    pub pin: bool,
    /// Also serve GET /metrics on this address
    #[arg(long, value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,
    /// Log to this file; SIGUSR1 reopens it [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// When started by root, run as this user and only this group [default: the user's own]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub user: Option<Identity>,
    /// Also let this group use the admin socket (mode 0660)
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<GroupName>,
    /// Keep the right to bind ports below 1024, so that a reload can bind one
    #[arg(long)]
    pub keep_bind: bool,
    /// Run without seccomp, Landlock and no_new_privs
    #[arg(long)]
    pub no_sandbox: bool,
    /// Check the configuration, bind nothing, and exit
    #[arg(short = 't', long)]
    pub check: bool,
    /// Print the configuration with every default filled in, bind nothing, and exit
    #[arg(short = 'T', long)]
    pub dump: bool,
    /// Print a JSON Schema of the configuration, and exit
    #[arg(long)]
    pub schema: bool,
}

/// Where things are, after the defaults.
pub struct Paths {
    /// The contract's folder.
    pub root: PathBuf,
    pub config: PathBuf,
    pub pid_file: PathBuf,
}

impl Arguments {
    /// The contract's folder where it is needed: not if each file that is used is named by itself.
    ///
    /// # Errors
    /// It does not exist: a misspelt one is refused before anything is made in it.
    pub fn require_root(&self, paths: &Paths) -> Result<(), RootError> {
        let only_reads = self.check || self.dump;
        let is_named = self.config.is_some() && (only_reads || self.pid_file.is_some());
        match self.root.is_none() && is_named {
            true => Ok(()),
            false => Root(paths.root.clone()).require(),
        }
    }

    pub fn paths(&self) -> Paths {
        let root = self.root.clone().map(Root).unwrap_or_else(|| {
            // Without a working folder there is nothing to stand inside of.
            Root::default_from(&std::env::current_dir().unwrap_or_default())
        });
        Paths {
            config: self.config.clone().unwrap_or_else(|| root.proxy_config()),
            pid_file: self.pid_file.clone().unwrap_or_else(|| root.proxy_pid()),
            root: root.0,
        }
    }
}
