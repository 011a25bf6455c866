//! The real `control_server` and the real `proxy_server` over a folder of their own: started, asked,
//! and ended, each by its own process id.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use contract::status::Status;
use contract::{Algorithm, BackendAddr, Root, publish};
use control_client::{Access, BaseUrl, ControlClient, Registration};
use serde_json::json;
use testkit::admin::Admin;
use testkit::http::Request;
use testkit::ports::free_address;
use testkit::wait::within;

use crate::act::Health;
use crate::clock::SPEED;

/// How long a plane may take to be ready.
const PATIENCE: Duration = Duration::from_secs(15);
/// Lines of a program's log that are shown when it fails.
const SHOWN_LINES: usize = 15;

#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    #[error("{} is not built: make build", .0.display())]
    Missing(PathBuf),
    #[error("{program} does not start: {error}")]
    Start {
        program: &'static str,
        error: std::io::Error,
    },
    #[error("{program}: not within {PATIENCE:?}: {what}\n{log}")]
    NotReady {
        program: &'static str,
        what: &'static str,
        log: String,
    },
    #[error("the proxy's /status: {0}")]
    Status(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The two programs, found once and named in full.
#[derive(Debug)]
pub struct Binaries {
    control: PathBuf,
    proxy: PathBuf,
}

impl Binaries {
    pub fn in_folder(folder: &Path) -> Result<Binaries, PlaneError> {
        let find = |name| {
            let path = folder.join(name);
            let found = fs::canonicalize(&path).ok().filter(|path| path.is_file());
            found.ok_or(PlaneError::Missing(path))
        };
        Ok(Binaries {
            control: find("control_server")?,
            proxy: find("proxy_server")?,
        })
    }
}

/// Both planes before some backends. Dropped, both are gone, and their folder.
#[derive(Debug)]
pub struct Planes {
    /// Ended in this order: nobody is left to tell the proxy anything.
    _control: Plane,
    _proxy: Plane,
    /// Where control is reached.
    pub base: BaseUrl,
    /// Where the proxy listens.
    pub listen: SocketAddr,
    admin: Admin,
    _folder: tempfile::TempDir,
}

impl Planes {
    /// Starts both and awaits that all of `backends`, registered at control as a server registers
    /// itself, are known to the proxy.
    pub fn start(
        binaries: &Binaries,
        algorithm: Algorithm,
        health: Health,
        backends: &[Registration],
    ) -> Result<Planes, PlaneError> {
        let folder = tempfile::tempdir()?;
        let root = Root(folder.path().join("control"));
        let (console, listen) = (free_address(), free_address());
        let settings = control_config(console, listen, algorithm, health);
        publish(&root.control_config(), settings.to_string().as_bytes())
            .map_err(std::io::Error::from)?;
        let base = BaseUrl(format!("http://{console}"));
        let control = Plane::start("control_server", &binaries.control, &root, folder.path())?;
        let client = ControlClient::new(base.clone(), Access::default());
        for registration in backends {
            control.await_that("a server can register", || {
                client.register(registration).is_ok().then_some(())
            })?;
        }
        control.await_that("all servers are published", || {
            let bytes = fs::read(root.proxy_config()).ok()?;
            let checked = contract::check(&bytes, &contract::LocalAddresses::default()).ok()?;
            (checked.config.pools[0].backends.len() == backends.len()).then_some(())
        })?;
        let proxy = Plane::start("proxy_server", &binaries.proxy, &root, folder.path())?;
        let planes = Planes {
            admin: Admin::beside(&root.proxy_pid()),
            _control: control,
            _proxy: proxy,
            base,
            listen,
            _folder: folder,
        };
        planes._proxy.await_that("it runs with all servers", || {
            let status = planes.status().ok()?;
            (status.backends.len() == backends.len()).then_some(())
        })?;
        Ok(planes)
    }

    pub fn status(&self) -> Result<Status, PlaneError> {
        let answer = self.admin.exchange(Request::new("GET", "/status"))?;
        let status = serde_json::from_slice(&answer.body);
        status.map_err(|error| PlaneError::Status(format!("{error}: {}", answer.text())))
    }
}

/// The operator's file. The parameters that are times run as fast as the model does; all others have
/// their defaults.
fn control_config(
    console: SocketAddr,
    listen: SocketAddr,
    algorithm: Algorithm,
    health: Health,
) -> serde_json::Value {
    let default = contract::GpuAware::default();
    let faster = |time_ms: u64| time_ms / SPEED as u64;
    let (probe, ejection) = match health {
        Health::Off => (json!({ "probe": "off" }), json!({ "failures": 0 })),
        Health::On => {
            let default = contract::PoolSettings::default().health;
            let (base_ms, max_ms) = (default.ejection.base_ms, default.ejection.max_ms);
            (
                json!({ "interval_ms": faster(default.probe.interval_ms) }),
                json!({ "base_ms": faster(base_ms), "max_ms": faster(max_ms) }),
            )
        }
    };
    json!({
        "host": console.ip(), "port": console.port(),
        "default_listen_host": listen.ip(), "default_listen_port": listen.port(),
        "default_algorithm": algorithm.name(),
        "proxy": {
            "session_log": "off", "health": probe, "ejection": ejection,
            "gpu_aware": {
                "failure_half_life_ms": faster(default.failure_half_life_ms),
                "latency_memory_ms": faster(default.latency_memory_ms),
                "trial_interval_ms": faster(default.trial_interval_ms),
                "ramp_ms": faster(default.ramp_ms),
                "heartbeat_ms": faster(default.heartbeat_ms),
            },
        },
    })
}

/// What a server registers in its first call and in each beat.
pub fn registration(addr: BackendAddr, weight: u16, vram: f64, gpu: f64) -> Registration {
    use bench::sched::scenario::HEARTBEAT_MS;
    Registration {
        weight: Some(weight),
        gpu_usage: Some(gpu),
        vram_usage: Some(vram),
        heartbeat_ms: Some(HEARTBEAT_MS / SPEED as u64),
        ..Registration::of(addr)
    }
}

#[derive(Debug)]
struct Plane {
    program: &'static str,
    child: Child,
    log: PathBuf,
}

impl Plane {
    fn start(
        program: &'static str,
        binary: &Path,
        root: &Root,
        folder: &Path,
    ) -> Result<Plane, PlaneError> {
        let fault = |error| PlaneError::Start { program, error };
        let log = folder.join(program);
        let output = File::create(&log).map_err(fault)?;
        let errors = output.try_clone().map_err(fault)?;
        // It ends with us, however we end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(binary);
        command.arg("--root").arg(&root.0);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        // A tester's own settings must not change what the programs write.
        command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
        let child = command.spawn().map_err(fault)?;
        Ok(Plane {
            program,
            child,
            log,
        })
    }

    fn await_that(
        &self,
        what: &'static str,
        ask: impl FnMut() -> Option<()>,
    ) -> Result<(), PlaneError> {
        within(PATIENCE, ask).ok_or_else(|| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            PlaneError::NotReady {
                program: self.program,
                what,
                log: lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"),
            }
        })
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // It may have ended by itself. Nothing that it would still do matters: its folder goes too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        let error = Binaries::in_folder(Path::new("/nowhere")).expect_err("missing");
        let text = error.to_string();
        assert!(text.contains("/nowhere/control_server"), "{text}");
        assert!(text.contains("make build"), "{text}");
    }

    #[test]
    fn the_faster_parameters_are_ones_that_the_proxy_takes() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 2000));
        for health in [Health::Off, Health::On] {
            let settings = control_config(addr, addr, Algorithm::GpuAware, health);
            let mut config = settings["proxy"].clone();
            config["listen"] = json!({ "host": addr.ip(), "port": addr.port() });
            config["backends"] = json!([]);
            let local = contract::LocalAddresses::default();
            let checked = contract::check_strictly(config.to_string().as_bytes(), &local);
            let checked = checked.expect("it is right");
            let ejects = checked.pools[0].settings.health.ejection.failures > 0;
            assert_eq!(ejects, health == Health::On);
            let parameters = checked.pools[0].gpu_aware;
            assert_eq!(parameters.failure_half_life_ms, 250);
            assert_eq!(
                parameters.vram_soft,
                contract::GpuAware::default().vram_soft
            );
        }
    }
}
