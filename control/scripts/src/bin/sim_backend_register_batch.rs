//! Plays a GPU server under small requests, to show what batching saves: registers its VRAM usage
//! every interval, each request on its own or all of them in one batch.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use contract::{BackendAddr, Batch, Name};
use control_client::arguments::{base_url, seconds, token};
use control_client::{Access, BaseUrl, ControlClient, Registration, Signals};
use simulators::arguments;
use simulators::gauge::round;
use simulators::heartbeat;
use simulators::output::{complain, say};
use simulators::vram::{BATCH_WINDOW_MS, Bill, KEPT, Mode, SHARE, WEIGHTS, bar, settled_usage};

/// Shows what batching saves: a GPU server that registers the VRAM its small requests hold.
///
/// Stop it and start the other mode on the same address: the same row shows the other figures.
/// When stopped, it prints what its requests cost, and what they cost in the other mode.
#[derive(Parser)]
#[command(version, allow_negative_numbers = true)]
struct Arguments {
    /// How small requests are served: one by one, or in one batch
    #[arg(long, value_enum)]
    mode: Mode,
    /// URL of the control server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080",
          value_parser = base_url)]
    base: BaseUrl,
    /// The address to register
    #[arg(long, default_value = "127.0.0.1", value_parser = arguments::backend_ip)]
    ip: IpAddr,
    /// The port to register
    #[arg(long, default_value_t = 19006, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The pool to register in [default: default]
    #[arg(long, value_name = "NAME", value_parser = arguments::pool)]
    pool: Option<Name>,
    /// Small requests in each interval
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(0..=1000))]
    small_reqs: u16,
    /// Seconds from one registration to the next
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    interval: Duration,
    /// Token for registering, if control requires one
    #[arg(long, value_parser = token)]
    token: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            complain(format_args!("signal handlers: {error}"));
            return ExitCode::FAILURE;
        }
    };
    introduce(&arguments);
    let addr = BackendAddr::new(arguments.ip, arguments.port);
    let control = ControlClient::new(
        arguments.base,
        Access {
            token: arguments.token,
            ..Access::default()
        },
    );
    let (mode, requests) = (arguments.mode, arguments.small_reqs);
    let (mut bill, mut other) = (Bill::new(mode), Bill::new(mode.other()));
    let interval_ms = arguments.interval.as_millis() as u64;
    let next = || {
        let all_fit = bill.take(requests);
        other.take(requests);
        say(interval_line(mode, requests, bill.usage(), all_fit));
        Registration {
            pool: arguments.pool.clone(),
            vram_usage: Some(round(bill.usage())),
            heartbeat_ms: Some(interval_ms),
            running: Some(requests.into()),
            batch: batch_of(mode, requests),
            ..Registration::of(addr)
        }
    };
    heartbeat::run(&signals, &control, arguments.interval, next);
    for bill in [bill, other] {
        say(bill.line());
    }
    say("stopped; the registration stays until its TTL ends, or until the next run refreshes it");
    ExitCode::SUCCESS
}

/// The batching that the server reports. Under `gpu_aware`, the proxy then keeps requests that arrive together together.
fn batch_of(mode: Mode, requests: u16) -> Option<Batch> {
    match mode {
        Mode::NoBatch => None,
        Mode::Batch => Some(Batch {
            max: requests.max(1),
            window_ms: BATCH_WINDOW_MS,
        }),
    }
}

fn introduce(arguments: &Arguments) {
    let percent = |share: f64| format!("{:.0}%", share * 100.0);
    let requests = arguments.small_reqs;
    say(format_args!(
        "the model's weights take {} of VRAM and a share takes {}; {requests} small requests arrive every \
         {} s, and {} of the earlier shares are still held then",
        percent(WEIGHTS),
        percent(SHARE),
        arguments.interval.as_secs_f64(),
        percent(KEPT)
    ));
    for mode in [Mode::NoBatch, Mode::Batch] {
        let shares = mode.shares(requests);
        let here = if mode == arguments.mode {
            "  <- this run"
        } else {
            ""
        };
        say(format_args!(
            "{:>7}: {} an interval, settles at {} of VRAM{here}",
            mode.name(),
            counted(shares),
            percent(settled_usage(shares))
        ));
    }
}

fn counted(shares: u16) -> String {
    format!("{shares} share{}", if shares == 1 { "" } else { "s" })
}

fn interval_line(mode: Mode, requests: u16, usage: f64, all_fit: bool) -> String {
    let full = if all_fit {
        ""
    } else {
        "  full: some requests do not fit"
    };
    format!(
        "{:>7}  {requests} requests = {:<8}  [{}] registers vram_usage={usage:.3}{full}",
        mode.name(),
        counted(mode.shares(requests)),
        bar(usage)
    )
}
