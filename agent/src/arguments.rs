//! The command line. Its options for an engine pass the same checks as those of a file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::access::AccessFrom;
use agent::settings::{MAX_CONTROLS, Settings, read_engine};
use agent::watched::MAX_FILE_BYTES;
use agent::watched::read_file;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};
use contract::{Fault, Faults};
use control_client::BaseUrl;
use control_client::arguments as words;
use serde_json::{Map, Value};

/// The variable that may hold control's token.
const TOKEN_VARIABLE: &str = "WICKETGATE_TOKEN";

/// Registers this node's inference engines with control and reports their load every second.
///
/// Set one engine by options, or several by --config. When the agent stops, it deregisters them.
#[derive(Parser)]
#[command(
    name = "gpu_agent",
    version,
    disable_version_flag = true,
    allow_negative_numbers = true
)]
pub struct Arguments {
    /// URL of the control server; required unless the file of --config names one. Repeat it for
    /// several: if one does not answer as control does, the agent calls the next
    #[arg(long, value_name = "URL", value_parser = words::base_url)]
    control: Vec<BaseUrl>,
    /// Token for registering with control; visible to everyone on this machine, unlike --token-file
    #[arg(long, value_parser = words::token, conflicts_with = "token_file")]
    token: Option<String>,
    /// A file that holds the token, read again when it changes [default: the variable
    /// WICKETGATE_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A file that holds a secret of 16 to 256 bytes; clients without it can neither refresh nor remove
    /// what this agent registered
    #[arg(long, value_name = "FILE")]
    owner_file: Option<PathBuf>,
    /// PEM certificates of the authorities that may sign control's certificate, for an https URL
    /// [default: those that the system trusts]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Seconds from one heartbeat to the next, 0.1 to 60 [default: 1]
    #[arg(long, value_name = "S", value_parser = interval)]
    interval: Option<Duration>,
    /// Do not report figures older than this many seconds, 0.1 to 600 [default: 5]
    #[arg(long, value_name = "S", value_parser = stale)]
    stale: Option<Duration>,
    /// Serve the agent's own metrics at http://ADDR/metrics, such as 127.0.0.1:9105
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    /// A JSON file that lists the engines; replaces the options below
    #[arg(long, value_name = "FILE", conflicts_with_all = ENGINE_OPTIONS)]
    config: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineOptions,
    /// Read each engine once, print a line of JSON for each, and exit; needs no control
    #[arg(long, conflicts_with = "check")]
    pub once: bool,
    /// Check the options and the file, name each fault and its place, and exit
    #[arg(short = 't', long)]
    pub check: bool,
    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: (),
}

const ENGINE_OPTIONS: [&str; 14] = [
    "advertise",
    "pool",
    "source",
    "url",
    "command",
    "gpu",
    "weight",
    "max_batch",
    "batch_window_ms",
    "health",
    "timeout_ms",
    "engine_token_file",
    "engine_login_file",
    "engine_ca_file",
];

#[derive(clap::Args)]
struct EngineOptions {
    /// The address at which clients reach the engine
    #[arg(long, value_name = "IP:PORT")]
    advertise: Option<String>,
    /// The pool that the engine serves [default: default]
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// nvml, vllm, sglang, triton, trtllm, tgi, lmdeploy, llamacpp, dcgm, amd or command
    #[arg(long)]
    source: Option<String>,
    /// URL of the engine's metrics, http or https [default: 127.0.0.1 with the port of --advertise, or
    /// the usual port of triton, dcgm and amd]
    #[arg(long)]
    url: Option<String>,
    /// With --source command: the command to run with /bin/sh; it prints {"gpu_usage", "vram_usage",
    /// "queue", "running"} as JSON
    #[arg(long)]
    command: Option<String>,
    /// The GPU that the engine runs on: an index, a UUID or a MIG UUID; repeat it for several
    #[arg(long)]
    gpu: Vec<String>,
    /// The weight to register [default: none, so control decides]
    #[arg(long, value_name = "N")]
    weight: Option<i64>,
    /// The largest batch of requests that the engine serves together; needs --batch-window-ms
    #[arg(long, value_name = "N")]
    max_batch: Option<i64>,
    /// How long a batch waits for more requests; needs --max-batch
    #[arg(long, value_name = "MS")]
    batch_window_ms: Option<i64>,
    /// The engine's health check: an http or https URL, tcp (a connect to --advertise) or none
    /// [default: the engine's own check, else tcp]
    #[arg(long, value_name = "URL|tcp|none")]
    health: Option<String>,
    /// How long one read of the source may take [default: 2000]
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<i64>,
    /// A file that holds a bearer token for --url and --health
    #[arg(long, value_name = "FILE", conflicts_with = "engine_login_file")]
    engine_token_file: Option<String>,
    /// A file that holds USER:PASSWORD for --url and --health
    #[arg(long, value_name = "FILE")]
    engine_login_file: Option<String>,
    /// PEM certificates of the authorities that may sign the engine's certificate, for https in --url
    /// and --health [default: those that the system trusts]
    #[arg(long, value_name = "FILE")]
    engine_ca_file: Option<String>,
}

fn interval(text: &str) -> Result<Duration, String> {
    seconds(text, 60.0)
}

fn stale(text: &str) -> Result<Duration, String> {
    seconds(text, 600.0)
}

fn seconds(text: &str, most: f64) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|seconds| (0.1..=most).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("allowed: seconds from 0.1 to {most}"))
}

/// Ends with a fault of the command line.
pub fn refuse(message: &str) -> ! {
    let mut command = Arguments::command();
    command.error(ErrorKind::ValueValidation, message).exit()
}

impl Arguments {
    /// The settings of the file or of the options. A bad command line ends the program.
    ///
    /// # Errors
    /// Every fault of the file, in words.
    pub fn settings(&self) -> Result<Settings, String> {
        let mut settings = match &self.config {
            Some(path) => read_config(path)?,
            None => self
                .engine
                .settings()
                .unwrap_or_else(|faults| refuse(&with_options(faults))),
        };
        if !self.control.is_empty() {
            settings.control = self.control.clone();
        }
        if settings.control.len() > MAX_CONTROLS {
            refuse(&format!("--control: at most {MAX_CONTROLS} of them"));
        }
        if let Some(twice) = words::given_twice(&settings.control) {
            refuse(&format!("--control: {} is given twice", twice.0));
        }
        settings.metrics_listen = self.metrics_listen.or(settings.metrics_listen);
        settings.interval = self.interval.unwrap_or(settings.interval);
        settings.stale_after = self.stale.unwrap_or(settings.stale_after);
        Ok(settings)
    }

    /// Credentials for control; the command line takes precedence over the file of --config.
    ///
    /// # Errors
    /// What is wrong with the variable, in words that do not reveal the secret.
    pub fn access(&self, settings: &Settings) -> Result<AccessFrom, String> {
        let first = |one: &Option<PathBuf>, other: &Option<PathBuf>| {
            one.as_ref().or(other.as_ref()).cloned()
        };
        let token_file = first(&self.token_file, &settings.token_file);
        let token = match self.token.is_some() || token_file.is_some() {
            true => self.token.clone(),
            false => token_of_environment()?,
        };
        Ok(AccessFrom {
            token,
            token_file,
            owner_file: first(&self.owner_file, &settings.owner_file),
            ca_file: first(&self.ca_file, &settings.ca_file),
        })
    }
}

fn token_of_environment() -> Result<Option<String>, String> {
    let text = match std::env::var(TOKEN_VARIABLE) {
        Ok(text) => text,
        Err(std::env::VarError::NotPresent) => return Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => String::new(),
    };
    let token = words::token(text.trim());
    token
        .map(Some)
        .map_err(|allowed| format!("{TOKEN_VARIABLE}: {allowed}"))
}

impl EngineOptions {
    fn settings(&self) -> Result<Settings, Faults> {
        let mut faults = Faults::default();
        match read_engine(&self.to_object(), "", &mut faults) {
            Some(engine) => Ok(Settings::of(engine)),
            None => Err(faults),
        }
    }

    /// The engine in the form that a file has.
    fn to_object(&self) -> Map<String, Value> {
        let words = |text: &Option<String>| text.as_deref().map(Value::from);
        let gpus = (!self.gpu.is_empty()).then(|| Value::from(self.gpu.clone()));
        let values = [
            words(&self.advertise),
            words(&self.pool),
            words(&self.source),
            words(&self.url),
            words(&self.command),
            gpus,
            self.weight.map(Value::from),
            self.max_batch.map(Value::from),
            self.batch_window_ms.map(Value::from),
            words(&self.health),
            self.timeout_ms.map(Value::from),
            words(&self.engine_token_file),
            words(&self.engine_login_file),
            words(&self.engine_ca_file),
        ];
        let named = ENGINE_OPTIONS.into_iter().zip(values);
        named
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}

/// Faults with options for places instead of JSON pointers.
fn with_options(faults: Faults) -> String {
    let options = faults.0.into_iter().map(|fault| Fault {
        place: fault.place.replace('/', "--").replace('_', "-"),
        ..fault
    });
    Faults(options.collect()).to_string()
}

fn read_config(path: &Path) -> Result<Settings, String> {
    let bytes = read_file(path, MAX_FILE_BYTES)?;
    Settings::read(&bytes).map_err(|faults| format!("{}: {faults}", path.display()))
}
