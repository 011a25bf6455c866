//! `bench`: what the data path costs, beside haproxy, nginx, envoy and no proxy at all.
//!
//! `compare` measures and writes the results; `report` draws them again; `load` and `backend` are
//! the two ends of it, for use by hand. The proxy is not touched: it is a program like the others.

mod histogram;
mod message;

mod backend;
mod load;

mod programs;

mod cells;
mod measure;
mod picks;
mod reload;
mod spread;

mod results;

mod compare;
mod report;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench::{machine, poll, processes, statistics};
use clap::{Parser, Subcommand};

use backend::Backend;
use load::{Load, Work};

#[derive(Debug, Parser)]
#[command(name = "bench", version, about = "Compares the proxy with others")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure all programs and write the results
    Compare(compare::Arguments),
    /// Measure what a pick costs, and print it
    Picks,
    /// Write table and charts again from the results kept in a folder
    Report { folder: PathBuf },
    /// Answer messages over TCP and return datagrams over UDP, on the same port
    Backend {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Drive a proxy, or a backend directly, and print what was measured as JSON
    Load {
        #[arg(long)]
        target: SocketAddr,
        #[arg(long, default_value_t = 1.0)]
        seconds: f64,
        #[command(subcommand)]
        work: WorkArguments,
    },
}

#[derive(Debug, Subcommand)]
enum WorkArguments {
    /// Requests and answers on open connections
    Exchange {
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[arg(long, default_value_t = 64)]
        bytes: u32,
    },
    /// Connect, 64 B each way, close
    Short {
        #[arg(long, default_value_t = 64)]
        parallel: usize,
    },
    /// Streams from the backend
    Down {
        #[arg(long, default_value_t = 1)]
        streams: usize,
    },
    /// Streams to the backend
    Up {
        #[arg(long, default_value_t = 1)]
        streams: usize,
    },
    /// Datagrams and their return
    Datagrams {
        #[arg(long, default_value_t = 16)]
        flows: usize,
        #[arg(long, default_value_t = 1)]
        window: usize,
        #[arg(long, default_value_t = 64)]
        bytes: usize,
    },
}

impl WorkArguments {
    fn work(&self) -> Work {
        match *self {
            WorkArguments::Exchange { connections, bytes } => Work::Exchange { connections, bytes },
            WorkArguments::Short { parallel } => Work::Short { parallel },
            WorkArguments::Down { streams } => Work::Download { streams },
            WorkArguments::Up { streams } => Work::Upload { streams },
            WorkArguments::Datagrams {
                flows,
                window,
                bytes,
            } => Work::Datagrams {
                flows,
                window,
                bytes,
            },
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<(), Box<dyn std::error::Error>> {
    match task {
        Task::Compare(arguments) => compare::run(arguments),
        Task::Picks => {
            print!("{}", picks::table());
            Ok(())
        }
        Task::Report { folder } => compare::redraw(folder),
        Task::Backend { listen } => {
            machine::raise_descriptor_limit()?;
            let mut backend = Backend::bind(*listen)?;
            println!("listening {}", backend.addr()?);
            Ok(backend.serve()?)
        }
        Task::Load {
            target,
            seconds,
            work,
        } => {
            machine::raise_descriptor_limit()?;
            let duration = Duration::try_from_secs_f64(*seconds)?;
            let mut load = Load::prepare(*target, work.work())?;
            println!("{}", serde_json::to_string_pretty(&load.run(duration)?)?);
            Ok(())
        }
    }
}
