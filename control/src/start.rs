//! From settings to a running server, and its orderly end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::pidfile::{PidFile, PidFileError};
use contract::{Faults, LocalAddresses, Root};
use tokio::signal::unix::{SignalKind, signal};

use crate::audit::Audit;
use crate::auth::{Access, Hosts, TokenFileError};
use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::load::load;
use crate::observe::Proxy;
use crate::own_addresses::{OwnAddresses, ProxyAddresses, local_addresses};
use crate::ping::Pings;
use crate::publish::{Publisher, refused_by_control};
use crate::render::Plan;
use crate::services;
use crate::settings::{Settings, SettingsError, SettingsFile};
use crate::shared::Shared;
use crate::web::serve::Door;
use crate::web::tls::{Tls, TlsError};
use crate::web::v1::Feed;
use crate::web::{self, App, AppParts};
use crate::{look, renew, series, telemetry, watch};

/// How long serving waits for the first publish; a proxy that answers slowly may take some seconds of it.
const FIRST_PUBLISH_PATIENCE: Duration = Duration::from_secs(5);

/// How long stopping waits for a disk.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("{path}: {error}", path = .path.display())]
    File { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error("listen on {addr}: {error}")]
    Listen { addr: SocketAddr, error: io::Error },
    #[error("the runtime cannot start: {0}")]
    Runtime(io::Error),
}

/// Checks valid settings for conflicts: listeners and pools must fit together with those made by API, and the proxy
/// must not listen on control's address.
///
/// # Errors
/// The faults; of the address, at the key of the proxy's or else of control's.
pub fn check(file: &SettingsFile, settings: &Settings) -> Result<(), StartError> {
    let tls = settings.tls.as_ref().map(|tls| tls.listen);
    let own = OwnAddresses {
        control: [settings.listen].into_iter().chain(tls).collect(),
        local: LocalAddresses(local_addresses()),
        proxy: ProxyAddresses::default(),
    };
    let model = load(settings, own, &Clock::system()).model;
    let path = file.path();
    if let Err(mut faults) = Plan::of_head(model.settings().head()).check(&model.own.local) {
        for fault in &mut faults.0 {
            fault.place = format!("/proxy{}", fault.place);
        }
        return Err(SettingsError::Faults { path, faults }.into());
    }
    let plan = model.plan(&[]);
    let refusals = refused_by_control(&plan, &model.own, 0);
    let Some(refusal) = refusals.first() else {
        return Ok(());
    };
    let mut faults = Faults::default();
    let key = plan.key_at(&refusal.place).unwrap_or_default();
    let place = match settings.proxy.port {
        _ if services::part(&key).is_some() => format!("/proxy/{key}"),
        Some(port) if port == model.settings().listen().port() => "/default_listen_port".into(),
        _ => "/port".to_owned(),
    };
    let allowed = "different ports for the proxy and the control server";
    let found = format!("{}: {}", refusal.value, refusal.detail);
    faults.add(&place, found, allowed);
    Err(SettingsError::Faults { path, faults }.into())
}

/// Runs the server until a signal stops it; `file` is where `settings` were read, and are read again.
pub async fn run(settings: Settings, file: SettingsFile) -> Result<(), StartError> {
    raise_descriptor_limit();
    make_folders(&settings)?;
    let mut pid_file = PidFile::hold(&settings.control_pid_path)?;
    let tls = settings.tls.as_ref().map(Tls::open).transpose()?;
    let (tls, mut doors) = (tls.map(Arc::new), Vec::new());
    let ports = [
        Some(settings.listen),
        settings.tls.as_ref().map(|tls| tls.listen),
    ];
    for (addr, tls) in ports.into_iter().flatten().zip([None, tls.clone()]) {
        let listen_error = |error| StartError::Listen { addr, error };
        let listener = web::serve::listen(addr).map_err(listen_error)?;
        doors.push(Door { listener, tls });
    }
    let listen = listening(&doors).map_err(StartError::Runtime)?;
    tell_where(&file.root, &listen);
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
    let app = start_tasks(settings, &listen, tls, Clock::system()).await?;
    // Clients that connect meanwhile wait in the kernel's queue.
    if !app.publisher.has_tried(FIRST_PUBLISH_PATIENCE).await {
        tracing::warn!(
            "the first publish takes longer than {FIRST_PUBLISH_PATIENCE:?}; control serves meanwhile"
        );
    }
    renew::start(app.clone(), file).map_err(StartError::Runtime)?;
    pid_file.announce().map_err(|error| StartError::File {
        path: app.shared.settings.control_pid_path.clone(),
        error,
    })?;
    for (addr, scheme) in listen.iter().zip(["http", "https"]) {
        tracing::info!("listening on {scheme}://{addr}{}", mode(&app));
    }
    let listen = listen[0];
    let keeper = app.keeper.clone();
    app.shared
        .audit_own("server", "start", &listen.to_string(), "ok");
    let shared = app.shared.clone();
    let streams = app.clone();
    let stopped = app.clone();
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        streams.feed.close();
    };
    let clock = shared.clock.clone();
    web::serve::serve(doors, web::router(app), clock, stop).await;
    let store = async {
        keeper.stop().await;
        renew::tokens::store_uses(&stopped).await;
    };
    if tokio::time::timeout(STORE_PATIENCE, store).await.is_err() {
        tracing::warn!(
            "stopping although the last heartbeats could not be stored within {STORE_PATIENCE:?}"
        );
    }
    shared.audit_own("server", "stop", &listen.to_string(), "ok");
    shared.audit.settle().await;
    tracing::info!("stopped");
    Ok(())
}

/// The first line of the log.
fn tell_where(root: &Root, listen: &[SocketAddr]) {
    let folder = root.0.canonicalize().unwrap_or_else(|_| root.0.clone());
    let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
    tracing::info!(
        "control_server {} root={} listen={}",
        env!("CARGO_PKG_VERSION"),
        folder.display(),
        listen.join(",")
    );
}

fn listening(doors: &[Door]) -> io::Result<Vec<SocketAddr>> {
    doors
        .iter()
        .map(|door| door.listener.local_addr())
        .collect()
}

fn mode(app: &App) -> &'static str {
    match app.access.needs_tokens() {
        true => "",
        false => " (protected mode: no tokens configured, so only this machine is served)",
    }
}

/// Starts everything but the web server, which listens on `listen`: first without TLS, then with it.
///
/// # Errors
/// The tokens cannot be read: then no client is served.
pub async fn start_tasks(
    settings: Settings,
    listen: &[SocketAddr],
    tls: Option<Arc<Tls>>,
    clock: Clock,
) -> Result<App, TokenFileError> {
    remove_litter(&settings);
    let access = Access::open(
        &settings.tokens_path,
        &settings.token_uses_path,
        settings.tokens.clone(),
        clock.clone(),
    )?;
    let own = OwnAddresses {
        control: listen.to_vec(),
        local: LocalAddresses(local_addresses()),
        proxy: ProxyAddresses::default(),
    };
    let loaded = load(&settings, own, &clock);
    for warning in loaded.model.warnings() {
        tracing::warn!("{warning}");
    }
    let audit = Audit::open(
        &settings.audit_log_path,
        settings.audit_max_bytes,
        settings.audit_files,
        clock.clone(),
    );
    if let Err(error) = audit.write_apart() {
        tracing::warn!("no thread for the audit log: {error}; a slow disk delays everything else");
    }
    let proxy = Proxy::at(&contract::paths::proxy_socket(&settings.proxy_pid_path));
    let shared = Arc::new(Shared::new(settings, clock, audit, loaded.model));
    tokio::spawn(shared.clock.clone().run());
    let mut watched = loaded.files.watched();
    let sources = loaded.sources.iter();
    watched.extend(sources.filter_map(|source| Some(source.watched()?.to_owned())));
    let keeper = Keeper::start(shared.clone(), loaded.files, loaded.sources);
    let publisher = Publisher::start(shared.clone(), proxy.clone(), loaded.found);
    tokio::spawn(series::task::run(shared.clone(), proxy.clone()));
    tokio::spawn(telemetry::run(shared.clone(), proxy.clone()));
    tokio::spawn(look::run(
        shared.clone(),
        proxy.clone(),
        publisher.outcomes(),
    ));
    tokio::spawn(watch::run(keeper.clone(), watched, shared.clone()));
    let on_all = listen.iter().any(|addr| addr.ip().is_unspecified());
    let names: Vec<IpAddr> = match on_all {
        true => local_addresses(),
        false => listen.iter().map(SocketAddr::ip).collect(),
    };
    let ports: Vec<u16> = listen.iter().map(SocketAddr::port).collect();
    let settings = &shared.settings;
    let app = App::new(AppParts {
        hosts: Hosts::new(&ports, &names, &settings.allowed_hosts),
        access,
        tls,
        port: ports[0],
        pings: Pings::new(),
        feed: Feed::new(shared.clock.now().unix_ms),
        shared: shared.clone(),
        keeper,
        publisher,
        proxy,
    });
    renew::tokens::begin_grace(&app);
    tokio::spawn(web::settings_call::resume(app.clone()));
    if on_all {
        tokio::spawn(renew::follow_addresses(app.clone()));
    }
    Ok(app)
}

/// Raises the limit on descriptors: the usual soft limit of 1,024 is less than the allowed connections.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("the descriptor limit stays {:?}: {error}", limit.current);
    }
}

fn make_folders(settings: &Settings) -> Result<(), StartError> {
    let files = [
        &settings.proxy_config_path,
        &settings.proxy_pid_path,
        &settings.k8s_endpoints_path,
        &settings.static_backends_path,
        &settings.runtime_backends_path,
        &settings.settings_runtime_path,
        &settings.audit_log_path,
        &settings.control_pid_path,
    ];
    for folder in files.into_iter().filter_map(|file| file.parent()) {
        std::fs::create_dir_all(folder).map_err(|error| StartError::File {
            path: folder.to_owned(),
            error,
        })?;
    }
    Ok(())
}

/// Removes temporary files of killed writers.
pub fn remove_litter(settings: &Settings) {
    let ours: [&Path; 8] = [
        &settings.proxy_config_path,
        &settings.runtime_backends_path,
        &settings.settings_runtime_path,
        &settings.settings_accepted_path,
        &settings.published_sources_path,
        &settings.edits_path,
        &settings.tokens_path,
        &settings.token_uses_path,
    ];
    let next = crate::publish::beside(&settings.settings_accepted_path).ok();
    for path in ours.into_iter().chain(next.as_deref()) {
        if let Err(error) = contract::publish::remove_litter(path) {
            tracing::warn!(
                "{}: a leftover temporary file cannot be removed: {error}",
                path.display()
            );
        }
    }
}
