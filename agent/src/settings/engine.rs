//! One engine, or one GPU: from where its figures come, how it is reached and checked, and what is reported.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use contract::config::MAX_WEIGHT;
use contract::{BackendAddr, Batch, Faults, Name, Object};
use control_client::arguments::{ALLOWED_BACKEND, backend};
use serde_json::{Map, Value};
use ureq::http::Uri;

use crate::engines::Engine;
use crate::fetch::{Login, Reach};
use crate::gpus::{ALLOWED_GPU, Gpu, MAX_GPUS};
use crate::health::Health;

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(2_000);

/// One engine, or one GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineSettings {
    /// The address at which clients reach it.
    pub advertise: BackendAddr,
    /// The pool that it serves; `None`: `default`.
    pub pool: Option<Name>,
    pub source: Source,
    /// The GPUs that it runs on; empty if none is set.
    pub gpus: Vec<Gpu>,
    pub weight: Option<u16>,
    pub batch: Option<Batch>,
    pub health: Health,
    /// How metrics and health are reached.
    pub reach: Reach,
    /// How long one read and one health check may take.
    pub timeout: Duration,
}

/// Where an engine's figures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The driver alone.
    Nvml,
    /// A command for `/bin/sh` that prints JSON.
    Command(String),
    /// The metrics of an engine.
    Metrics { engine: Engine, url: String },
}

impl Source {
    pub fn name(&self) -> &'static str {
        match self {
            Source::Nvml => "nvml",
            Source::Command(_) => "command",
            Source::Metrics { engine, .. } => engine.name(),
        }
    }

    /// What it is read from.
    pub(crate) fn place(&self) -> &str {
        match self {
            Source::Nvml => "NVML",
            Source::Command(command) => command,
            Source::Metrics { url, .. } => url,
        }
    }
}

/// A name for log lines.
impl std::fmt::Display for EngineSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addr: SocketAddr = self.advertise.0;
        write!(f, "{addr} ({})", self.source.name())
    }
}

/// The source that a name means, before its url or command is known.
#[derive(Clone, Copy)]
enum Kind {
    Nvml,
    Command,
    Metrics(Engine),
}

const KINDS: [(&str, Kind); 11] = [
    ("nvml", Kind::Nvml),
    ("vllm", Kind::Metrics(Engine::Vllm)),
    ("sglang", Kind::Metrics(Engine::Sglang)),
    ("triton", Kind::Metrics(Engine::Triton)),
    ("trtllm", Kind::Metrics(Engine::Trtllm)),
    ("tgi", Kind::Metrics(Engine::Tgi)),
    ("lmdeploy", Kind::Metrics(Engine::Lmdeploy)),
    ("llamacpp", Kind::Metrics(Engine::Llamacpp)),
    ("dcgm", Kind::Metrics(Engine::Dcgm)),
    ("amd", Kind::Metrics(Engine::Amd)),
    ("command", Kind::Command),
];

/// Reads one engine; `place` is the JSON pointer of `map`. `None` where there are faults.
pub fn read_engine(
    map: &Map<String, Value>,
    place: &str,
    faults: &mut Faults,
) -> Option<EngineSettings> {
    let faults_before = faults.0.len();
    let mut object = Object::new(map, place);
    let advertise = read_advertise(&mut object, faults);
    let pool = read_pool(&mut object, faults);
    let names = KINDS.map(|(name, _)| name).join(", ");
    object.take_required("source", &format!("one of {names}"), faults);
    let kind = object.take_choice("source", &KINDS, faults);
    let gpus = read_gpus(&mut object, kind, faults);
    let source = read_source(&mut object, kind, advertise, faults);
    let health = read_health(&mut object, source.as_ref(), advertise, faults);
    let reach = read_reach(&mut object, faults);
    let weight = object.take_integer("weight", 0, MAX_WEIGHT, faults);
    let batch = Batch::read(&mut object, faults);
    let timeout_ms = object.take_integer("timeout_ms", 50, 30_000, faults);
    object.unknown_keys(faults);
    if faults.0.len() > faults_before {
        return None;
    }
    Some(EngineSettings {
        advertise: advertise?,
        pool,
        source: source?,
        gpus,
        weight: weight.map(|weight| weight as u16),
        batch,
        health: health?,
        reach,
        timeout: timeout_ms.map_or(DEFAULT_TIMEOUT, Duration::from_millis),
    })
}

fn read_advertise(object: &mut Object, faults: &mut Faults) -> Option<BackendAddr> {
    object.take_required("advertise", ALLOWED_BACKEND, faults);
    let text = object.take_string("advertise", faults)?;
    let parsed = backend(text);
    if parsed.is_err() {
        faults.add(&object.pointer("advertise"), text, ALLOWED_BACKEND);
    }
    parsed.ok()
}

fn read_pool(object: &mut Object, faults: &mut Faults) -> Option<Name> {
    let text = object.take_string("pool", faults)?;
    let pool = Name::new(text);
    if pool.is_none() {
        let allowed = "1 to 63 of a-z, 0-9, - and _, beginning with a letter";
        faults.add(&object.pointer("pool"), text, allowed);
    }
    pool
}

/// `0`, `"GPU-..."`, or several in an array: an engine may span GPUs.
fn read_gpus(object: &mut Object, kind: Option<Kind>, faults: &mut Faults) -> Vec<Gpu> {
    let place = object.pointer("gpu");
    let value = match kind {
        Some(Kind::Nvml) => object.take_required("gpu", ALLOWED_GPU, faults),
        Some(Kind::Command | Kind::Metrics(_)) | None => object.take("gpu"),
    };
    let items = match value {
        None => return Vec::new(),
        Some(Value::Array(items)) => items.as_slice(),
        Some(single) => std::slice::from_ref(single),
    };
    if !(1..=MAX_GPUS).contains(&items.len()) {
        let allowed = format!("1 to {MAX_GPUS} GPUs");
        faults.add(&place, format!("{} GPUs", items.len()), allowed);
        return Vec::new();
    }
    let is_dcgm = matches!(kind, Some(Kind::Metrics(Engine::Dcgm)));
    let is_amd = matches!(kind, Some(Kind::Metrics(Engine::Amd)));
    let mut gpus = Vec::with_capacity(items.len());
    for item in items {
        let text = item.as_str().map_or(item.to_string(), str::to_owned);
        match Gpu::parse(&text) {
            None => faults.add(&place, &text, ALLOWED_GPU),
            Some(gpu) if gpus.contains(&gpu) => faults.add(&place, &text, "each GPU once"),
            // Its rows name a part by the whole GPU and the instance in it.
            Some(gpu @ Gpu::Mig(_)) if is_dcgm && gpu.instance().is_none() => {
                faults.add(&place, gpu, "with source dcgm, MIG-GPU-UUID/INSTANCE/0");
            }
            Some(gpu @ Gpu::Mig(_)) if is_amd => {
                faults.add(
                    &place,
                    gpu,
                    "with source amd, an index or a UUID as amd-smi lists it",
                );
            }
            Some(gpu) if gpu.is_bare() && kind.is_some() && !is_amd => {
                faults.add(&place, gpu, ALLOWED_GPU);
            }
            Some(gpu) => gpus.push(gpu),
        }
    }
    gpus
}

/// Credentials for the engine, and the authorities of its certificate.
fn read_reach(object: &mut Object, faults: &mut Faults) -> Reach {
    let mut path = |key| object.take_string(key, faults).map(PathBuf::from);
    let token = path("engine_token_file").map(Login::Token);
    let password = path("engine_login_file").map(Login::Password);
    let ca_file = path("engine_ca_file");
    if token.is_some() && password.is_some() {
        let place = object.pointer("engine_login_file");
        faults.add(&place, "a second one", "a token or a login, not both");
    }
    Reach {
        ca_file,
        login: token.or(password),
    }
}

fn read_source(
    object: &mut Object,
    kind: Option<Kind>,
    advertise: Option<BackendAddr>,
    faults: &mut Faults,
) -> Option<Source> {
    let url = object.take_string("url", faults);
    let command = object.take_string("command", faults);
    let mut refuse = |key, is_given: bool, allowed: &str| {
        if is_given {
            faults.add(&object.pointer(key), "a value", allowed);
        }
    };
    match kind? {
        Kind::Nvml => {
            refuse("url", url.is_some(), "none with source nvml");
            refuse("command", command.is_some(), "none with source nvml");
            Some(Source::Nvml)
        }
        Kind::Command => {
            refuse("url", url.is_some(), "none with source command");
            let allowed = "a command that prints JSON, for /bin/sh";
            object.take_required("command", allowed, faults);
            Some(Source::Command(command?.to_owned()))
        }
        Kind::Metrics(engine) => {
            refuse("command", command.is_some(), "one with source command only");
            let default: Uri = engine.default_url().parse().expect("our own are right");
            let uri = match url {
                Some(text) => read_url(object, "url", text, faults)?,
                None if engine.shows_metrics_where_it_serves() => {
                    let own = format!("http://127.0.0.1:{}", advertise?.port());
                    own.parse().expect("our own are right")
                }
                None => default.clone(),
            };
            let path = match uri.path_and_query() {
                Some(path) if path != "/" => path.as_str(),
                Some(_) | None => default.path(),
            };
            let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
            Some(Source::Metrics {
                engine,
                url: format!("{scheme}://{authority}{path}"),
            })
        }
    }
}

/// A URL, `tcp` for a connect to the advertised address, or `none`. By default, an engine with a health
/// check of its own is checked there, and everything else by a connect.
fn read_health(
    object: &mut Object,
    source: Option<&Source>,
    advertise: Option<BackendAddr>,
    faults: &mut Faults,
) -> Option<Health> {
    let connect = advertise.map(|addr| Health::Tcp(addr.0));
    match object.take_string("health", faults) {
        Some("tcp") => connect,
        Some("none") => Some(Health::None),
        Some(text) => {
            let uri = read_url(object, "health", text, faults)?;
            Some(Health::Http(uri.to_string()))
        }
        None => match source? {
            Source::Nvml | Source::Command(_) => connect,
            Source::Metrics { engine, url } => match engine.health() {
                None => connect,
                Some((port, path)) => {
                    let uri: Uri = url.parse().expect("checked above");
                    let host = uri.host().expect("checked above");
                    let scheme = uri.scheme_str().expect("checked above");
                    let usual = if scheme == "https" { 443 } else { 80 };
                    let port = port.or(uri.port_u16()).unwrap_or(usual);
                    Some(Health::Http(format!("{scheme}://{host}:{port}{path}")))
                }
            },
        },
    }
}

fn read_url(object: &Object, key: &str, text: &str, faults: &mut Faults) -> Option<Uri> {
    let uri = text.parse::<Uri>().ok().filter(|uri| {
        let host = uri.host().unwrap_or_default();
        let no_name = uri
            .authority()
            .is_some_and(|part| !part.as_str().contains('@'));
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        is_http && !host.is_empty() && no_name
    });
    if uri.is_none() {
        const ALLOWED: &str = "http://HOST[:PORT][/PATH] or https://..., \
            with credentials only in engine_token_file or engine_login_file";
        let allowed = match key {
            "health" => format!("tcp, none, {ALLOWED}"),
            _ => ALLOWED.to_owned(),
        };
        faults.add(&object.pointer(key), text, allowed);
    }
    uri
}
