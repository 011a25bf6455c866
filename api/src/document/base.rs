//! The operations of the base API.

use serde_json::{Map, Value, json};

use super::operation::{Need, Operation, call};
use crate::base::Refused;
use crate::base::{
    AuditLog, Backends, DrainRequest, DrainUpdated, EnabledRequest, EnabledUpdated, Nothing,
    PingAnswer, PingRequest, Proxy, RegisterRequest, Registered, RolledBack, SettingsAnswer,
    SettingsChanged, UnregisterRequest, Unregistered, Updated, WeightRequest, WeightUpdated,
};
use crate::{SettingsRequest, Stored, Sync};

pub fn operations() -> Vec<Operation> {
    let mut all = registrations();
    all.extend(overrides());
    all.extend(whole());
    all
}

fn registrations() -> Vec<Operation> {
    const REGISTER: &str = "/api/register";
    vec![
        call::<Backends>(
            "GET",
            "/api/backends",
            Need::Read,
            "All backends",
            "The list of backends",
        ),
        call::<Stored<Registered>>(
            "POST",
            REGISTER,
            Need::Register,
            "Register a backend, or send a heartbeat; without another call within the TTL, the registration expires",
            "Registered",
        )
        .takes::<RegisterRequest>()
        .refuses(&[409])
        .stores(),
        call::<Stored<Unregistered>>(
            "DELETE",
            REGISTER,
            Need::Register,
            "Deregister a backend",
            "Done",
        )
        .takes::<UnregisterRequest>()
        .refuses(&[404])
        .stores(),
    ]
}

fn overrides() -> Vec<Operation> {
    let on_backend = |operation: Operation| {
        let port = json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
        operation
            .path("ip", "", json!({ "type": "string" }))
            .path("port", "", port)
            .refuses(&[404])
            .stores()
    };
    vec![
        on_backend(
            call::<Stored<Updated<WeightUpdated>>>(
                "POST",
                "/api/backends/{ip}/{port}/weight",
                Need::Write,
                "Set a weight as an operator's override",
                "Done",
            )
            .takes::<WeightRequest>(),
        ),
        on_backend(
            call::<Stored<Updated<EnabledUpdated>>>(
                "POST",
                "/api/backends/{ip}/{port}/enabled",
                Need::Write,
                "Enable or disable a backend",
                "Done",
            )
            .takes::<EnabledRequest>(),
        ),
        on_backend(
            call::<Stored<Updated<DrainUpdated>>>(
                "POST",
                "/api/backends/{ip}/{port}/drain",
                Need::Write,
                "Drain a backend: no new sessions, open ones finish",
                "Done",
            )
            .takes::<DrainRequest>(),
        ),
        on_backend(
            call::<Stored<Nothing>>(
                "DELETE",
                "/api/backends/{ip}/{port}/override",
                Need::Write,
                "Clear the operator's override",
                "Done",
            )
            .refuses(&[400, 408, 413]),
        ),
    ]
}

fn whole() -> Vec<Operation> {
    const SETTINGS: &str = "/api/settings";
    vec![
        call::<Sync>(
            "POST",
            "/api/sync",
            Need::Write,
            "Read the sources, publish and signal",
            "Published",
        )
        .stores(),
        call::<SettingsAnswer>(
            "GET",
            SETTINGS,
            Need::Read,
            "The settings in force",
            "The settings",
        ),
        call::<Stored<SettingsChanged>>("POST", SETTINGS, Need::Admin, "Change settings", "Done")
            .takes::<SettingsRequest>()
            .header(
                "If-Match",
                Some(false),
                "The ETag of GET /api/v1/config, or *; a stale one is 412",
            )
            .refuses(&[412])
            .refuses_with::<Refused<RolledBack>>(
                409,
                "The proxy refused the settings, and they were rolled back",
            )
            .stores(),
        call::<PingAnswer>(
            "POST",
            "/api/ping",
            Need::Write,
            "Ping a known backend or 127.0.0.1",
            "The result as text",
        )
        .takes::<PingRequest>()
        .refuses(&[429]),
        call::<Proxy>(
            "GET",
            "/api/proxy",
            Need::Read,
            "The proxy's status, and the configuration that it should run",
            "The proxy",
        ),
        call::<AuditLog>(
            "GET",
            "/api/logs/audit",
            Need::Read,
            "The last lines of the audit log",
            "Lines",
        )
        .query(
            "tail",
            "Lines, 10 to 2000",
            json!({ "type": "integer", "default": 100 }),
        )
        .refuses(&[400, 503]),
        call::<Stored<Nothing>>(
            "POST",
            "/api/expiry/acknowledge",
            Need::Admin,
            "Carry out a mass expiry that is held back",
            "Done",
        )
        .refuses(&[409])
        .stores(),
        call::<Map<String, Value>>(
            "GET",
            "/api/openapi.json",
            Need::Read,
            "This description",
            "OpenAPI 3.1",
        ),
    ]
}
