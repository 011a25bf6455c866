//! What tests of the real binaries stand on: processes, folders, scripted peers, and clients.
//!
//! Everything here is blocking code on plain threads: a test reads from top to bottom, and no
//! runtime of ours can hide a fault of the program under test. Nothing here knows how the programs
//! are made inside; it knows the contract alone. A fault of the test's own surroundings panics with
//! a text that says what could not be had.

use std::io::Write as _;

pub mod wait;

pub mod pattern;
pub mod ports;
pub mod protocol;

pub mod folder;
pub mod process;

pub mod admin;
pub mod api;
pub mod http;

pub mod backend;
pub mod between;
pub mod client;
pub mod deaf;
pub mod faulty;
pub mod installed;
pub mod server;
pub mod storm;

pub mod host;
pub mod strace;
pub mod systemd;
pub mod tmpfs;

pub mod control;
pub mod proxy;

pub use api::Api;
pub use backend::{Backend, Manner};
pub use between::{Between, Kind, Peer};
pub use client::{Session, UdpClient};
pub use control::Control;
pub use folder::{Folder, proxy_config, without_probes};
pub use process::Program;
pub use proxy::Proxy;
pub use server::Server;
pub use wait::{LONG, until};

/// Ends a test that cannot be run here, with a line that is shown although the test passes.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not by a macro, whose output the test harness keeps back.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}
