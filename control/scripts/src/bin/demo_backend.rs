//! A server to look at: answers over TCP and UDP with its own name, and, where told to, registers
//! with control and beats until it is stopped.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, error::ErrorKind};
use contract::{BackendAddr, Name, parse_backend_ip};
use control_client::arguments::{backend, base_url, seconds, token};
use control_client::{Access, BaseUrl, ControlClient, Registration, Signals};
use fastrand::Rng;
use simulators::arguments;
use simulators::echo::EchoServer;
use simulators::gauge::Gauge;
use simulators::heartbeat;
use simulators::output::{complain, say};

/// A TCP and UDP server that answers with its own name and can register with control.
///
/// TCP: sends its name on accept, then returns each line as `NAME: LINE`. UDP: returns each datagram
/// as `NAME: DATAGRAM`.
#[derive(Parser)]
#[command(version, allow_negative_numbers = true)]
struct Arguments {
    /// The address to serve; with port 0 the kernel chooses a port, which the first line names
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:19001",
          value_parser = arguments::listen)]
    listen: SocketAddr,
    /// The port to serve, instead of the one in --listen
    #[arg(long)]
    port: Option<u16>,
    /// The name to answer with [default: demo-PORT]
    #[arg(long, value_parser = arguments::name)]
    name: Option<String>,
    /// URL of the control server to register with; deregisters when stopped
    #[arg(long, value_name = "URL", value_parser = base_url)]
    register: Option<BaseUrl>,
    /// The address to register [default: the one in --listen]
    #[arg(long, value_name = "IP:PORT", requires = "register", value_parser = backend)]
    advertise: Option<BackendAddr>,
    /// The pool to register in [default: default]
    #[arg(long, value_name = "NAME", requires = "register", value_parser = arguments::pool)]
    pool: Option<Name>,
    /// Seconds from one registration to the next
    #[arg(long, value_name = "S", default_value = "3", value_parser = seconds)]
    interval: Duration,
    /// The weight to register [default: control's]
    #[arg(long, value_name = "N", requires = "register", value_parser = clap::value_parser!(u16).range(0..=1000))]
    weight: Option<u16>,
    /// The GPU usage to register, 0 to 1 [default: a value that drifts]
    #[arg(long, value_name = "SHARE", requires = "register", value_parser = arguments::share)]
    gpu: Option<f64>,
    /// The VRAM usage to register, 0 to 1 [default: a value that drifts]
    #[arg(long, value_name = "SHARE", requires = "register", value_parser = arguments::share)]
    vram: Option<f64>,
    /// Token for registering, if control requires one
    #[arg(long, requires = "register", value_parser = token)]
    token: Option<String>,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if let Some(port) = arguments.port {
        arguments.listen.set_port(port);
    }
    let reachable = parse_backend_ip(&arguments.listen.ip().to_string());
    if arguments.register.is_some() && arguments.advertise.is_none() && reachable.is_none() {
        let message = format!(
            "--register with --listen {} needs --advertise IP:PORT: clients cannot reach that address",
            arguments.listen
        );
        Arguments::command()
            .error(ErrorKind::MissingRequiredArgument, message)
            .exit();
    }
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    let signals = Signals::install().map_err(|error| format!("signal handlers: {error}"))?;
    let listen = arguments.listen;
    let server =
        EchoServer::bind(listen).map_err(|error| format!("listen on {listen}: {error}"))?;
    let bound = server
        .addr()
        .map_err(|error| format!("listen on {listen}: {error}"))?;
    let name = arguments
        .name
        .unwrap_or_else(|| format!("demo-{}", bound.port()));
    server
        .serve(&name)
        .map_err(|error| format!("threads: {error}"))?;
    say(format_args!("{name} listens on {bound} (TCP and UDP)"));

    let Some(base) = arguments.register else {
        signals.wait_for_ever();
        return Ok(());
    };
    let control = ControlClient::new(
        base,
        Access {
            token: arguments.token,
            ..Access::default()
        },
    );
    let addr = arguments
        .advertise
        .unwrap_or(BackendAddr::new(bound.ip(), bound.port()));
    let mut rng = Rng::new();
    let (mut gpu, mut vram) = (Gauge::gpu(&mut rng), Gauge::vram(&mut rng));
    let next = || {
        gpu.drift(&mut rng);
        vram.drift(&mut rng);
        Registration {
            pool: arguments.pool.clone(),
            weight: arguments.weight,
            gpu_usage: Some(arguments.gpu.unwrap_or(gpu.share())),
            vram_usage: Some(arguments.vram.unwrap_or(vram.share())),
            ..Registration::of(addr)
        }
    };
    heartbeat::run(&signals, &control, arguments.interval, next);
    match control.leave(addr, arguments.pool.as_ref()) {
        Ok(info) => say(format_args!("{addr} deregistered: {info}")),
        // Its time to live ends by itself, so this is no failure of ours.
        Err(error) => complain(format_args!("{addr} cannot deregister: {error}")),
    }
    Ok(())
}
