//! The calls of control's API with which a server announces itself: register and deregister.

use std::sync::Arc;
use std::time::Duration;

use contract::{BackendAddr, Batch, Name};
use rustls::crypto::ring;
use serde_json::{Map, Value, json};
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::arguments::BaseUrl;
use crate::resolve::http_agent;

/// What a server reports about itself. A value that is `None` is left out, and control decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    pub addr: BackendAddr,
    /// `None`: the pool `default`.
    pub pool: Option<Name>,
    pub weight: Option<u16>,
    /// Share in use, 0 to 1.
    pub gpu_usage: Option<f64>,
    /// Share in use, 0 to 1.
    pub vram_usage: Option<f64>,
    /// Age of the figures, if they were not read for this call.
    pub report_age_ms: Option<u64>,
    /// How often this server registers.
    pub heartbeat_ms: Option<u64>,
    pub is_warming_up: Option<bool>,
    /// Requests that wait.
    pub queue: Option<u64>,
    /// Requests in progress.
    pub running: Option<u64>,
    pub batch: Option<Batch>,
}

impl Registration {
    /// A registration with only an address.
    pub fn of(addr: BackendAddr) -> Registration {
        Registration {
            addr,
            pool: None,
            weight: None,
            gpu_usage: None,
            vram_usage: None,
            report_age_ms: None,
            heartbeat_ms: None,
            is_warming_up: None,
            queue: None,
            running: None,
            batch: None,
        }
    }

    fn to_json(&self) -> Value {
        let mut call = backend_json(self.addr, self.pool.as_ref());
        let optional = [
            ("weight", self.weight.map(Value::from)),
            ("gpu_usage", self.gpu_usage.map(Value::from)),
            ("vram_usage", self.vram_usage.map(Value::from)),
            ("report_age_ms", self.report_age_ms.map(Value::from)),
            ("heartbeat_ms", self.heartbeat_ms.map(Value::from)),
            ("is_warming_up", self.is_warming_up.map(Value::from)),
            ("queue", self.queue.map(Value::from)),
            ("running", self.running.map(Value::from)),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                call[key] = value;
            }
        }
        if let Some(batch) = self.batch {
            batch.write(&mut call);
        }
        call
    }
}

/// The backend that a call is about.
fn backend_json(addr: BackendAddr, pool: Option<&Name>) -> Value {
    let mut backend = json!({ "ip": addr.ip(), "port": addr.port() });
    if let Some(pool) = pool {
        backend["pool"] = pool.as_str().into();
    }
    backend
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("control does not answer ({0})")]
    Away(ureq::Error),
    /// Control's own answer.
    #[error("control refused with status {status}: {message}")]
    Refused { status: u16, message: String },
    /// An answer of another program, such as an ingress in front of control.
    #[error("status {status} is no answer of control: {found}")]
    NotControl { status: u16, found: String },
}

impl CallError {
    /// Whether control itself refused the call, so that repeating it unchanged is useless. All other
    /// errors concern only this control server, or the connection to it.
    pub fn is_final(&self) -> bool {
        match self {
            CallError::Refused { status, .. } => (400..500).contains(status),
            CallError::Away(_) | CallError::NotControl { .. } => false,
        }
    }
}

/// The caller's credentials. They hold secrets, so they cannot be printed.
#[derive(Clone, Default)]
pub struct Access {
    pub token: Option<String>,
    /// The owner's secret: without it, no other client refreshes or removes what is registered with it.
    pub owner: Option<String>,
    /// Authorities that may sign control's certificate; `None`: those that the system trusts.
    pub authorities: Option<Authorities>,
}

/// Certificates of authorities, or a server's own.
#[derive(Clone)]
pub struct Authorities(Arc<Vec<Certificate<'static>>>);

impl Authorities {
    /// From PEM text (RFC 7468) of one or more certificates; other items are passed over.
    ///
    /// # Errors
    /// In words, where there is none or one cannot be read.
    pub fn from_pem(pem: &[u8]) -> Result<Authorities, String> {
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
                certificates.push(certificate);
            }
        }
        match certificates.is_empty() {
            true => Err("found no certificate, allowed: certificates as PEM".to_owned()),
            false => Ok(Authorities(Arc::new(certificates))),
        }
    }
}

/// TLS that trusts `authorities` or, without them, those of the system.
pub fn tls_config(authorities: Option<&Authorities>) -> TlsConfig {
    // If the process already has a provider, that one is used.
    let _ = ring::default_provider().install_default();
    let roots = match authorities {
        Some(Authorities(certificates)) => RootCerts::Specific(Arc::clone(certificates)),
        None => RootCerts::PlatformVerifier,
    };
    TlsConfig::builder().root_certs(roots).build()
}

/// Control, at one address.
pub struct ControlClient {
    agent: Agent,
    base: BaseUrl,
    access: Access,
}

impl ControlClient {
    /// How long one call may take in all.
    const TIMEOUT: Duration = Duration::from_secs(3);
    /// The longest answer that is read.
    const MAX_ANSWER_BYTES: u64 = 64 * 1024;
    /// Buffer for a call and an answer; a node may have a client for each engine.
    const BUFFER_BYTES: usize = 8 * 1024;

    pub fn new(base: BaseUrl, access: Access) -> ControlClient {
        let config = Agent::config_builder()
            .timeout_global(Some(ControlClient::TIMEOUT))
            // A refusal gives its reason, so it is read like any other answer.
            .http_status_as_error(false)
            .max_redirects(0)
            // Control serves only direct connections, so proxies of the environment are not used.
            .proxy(None)
            .input_buffer_size(ControlClient::BUFFER_BYTES)
            .output_buffer_size(ControlClient::BUFFER_BYTES)
            .tls_config(tls_config(access.authorities.as_ref()))
            .build();
        ControlClient {
            agent: http_agent(config),
            base,
            access,
        }
    }

    pub fn base(&self) -> &str {
        &self.base.0
    }

    /// Registers, or sends a heartbeat. Returns control's answer: whether the proxy was notified.
    pub fn register(&self, registration: &Registration) -> Result<String, CallError> {
        let mut request = self.agent.post(self.url());
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        let answered = request.send_json(self.owned(registration.to_json()));
        accepted(answered.map_err(CallError::Away)?)
    }

    /// Deregisters, so that the registration need not expire.
    pub fn leave(&self, addr: BackendAddr, pool: Option<&Name>) -> Result<String, CallError> {
        let mut request = self.agent.delete(self.url()).force_send_body();
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        let call = backend_json(addr, pool);
        let answered = request.send_json(self.owned(call));
        accepted(answered.map_err(CallError::Away)?)
    }

    /// A call with the owner's secret.
    fn owned(&self, mut call: Value) -> Value {
        if let Some(owner) = &self.access.owner {
            call["owner"] = owner.as_str().into();
        }
        call
    }

    fn url(&self) -> String {
        format!("{}/api/register", self.base())
    }

    fn bearer(&self) -> Option<String> {
        let token = self.access.token.as_ref()?;
        Some(format!("Bearer {token}"))
    }
}

/// Control answers every call with a JSON object that has `ok`.
fn accepted(mut answered: Response<ureq::Body>) -> Result<String, CallError> {
    let status = answered.status().as_u16();
    let body = answered.body_mut().with_config();
    let text = body.limit(ControlClient::MAX_ANSWER_BYTES).read_to_vec();
    let text = text.unwrap_or_default();
    let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
    let answer = answer.as_object().cloned().unwrap_or_default();
    match answer.get("ok") {
        Some(Value::Bool(true)) if (200..300).contains(&status) => Ok(told_of_proxy(&answer)),
        Some(Value::Bool(is_ok)) => Err(CallError::Refused {
            status,
            message: reason(&answer).unwrap_or_else(|| {
                format!("the answer has \"ok\": {is_ok}, and no \"message\" or \"error\"")
            }),
        }),
        Some(_) | None => Err(CallError::NotControl {
            status,
            found: found(&answered, &text),
        }),
    }
}

/// What was received instead of control's answer, for a message.
fn found(answered: &Response<ureq::Body>, text: &[u8]) -> String {
    const SHOWN: usize = 60;
    let header = |name| answered.headers().get(name)?.to_str().ok();
    if let Some(to) = header("location") {
        return format!("it redirects to {to:?}; set --control to the address of control itself");
    }
    let text = String::from_utf8_lossy(text);
    let shown: String = text.trim().chars().take(SHOWN).collect();
    let kind = header("content-type").unwrap_or("no content type");
    match shown.is_empty() {
        true => format!("an empty body ({kind})"),
        false => format!("{kind} that begins with {shown:?}"),
    }
}

/// `sync.reload.info`, the field that says whether the proxy was notified.
fn told_of_proxy(answer: &Map<String, Value>) -> String {
    let info = answer
        .get("sync")
        .and_then(|sync| sync.pointer("/reload/info"))
        .and_then(Value::as_str);
    info.unwrap_or("control does not report whether the proxy was notified")
        .to_owned()
}

/// Control's errors carry `message`; older ones and other servers carry `error`.
fn reason(answer: &Map<String, Value>) -> Option<String> {
    let words = ["message", "error"].iter().find_map(|key| {
        let words = answer.get(*key)?;
        words.as_str().or_else(|| words.get("message")?.as_str())
    });
    words.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<String, CallError> {
        let body = ureq::Body::builder().data(body.to_owned());
        let response = Response::builder().status(status).body(body);
        accepted(response.expect("a response"))
    }

    #[test]
    fn only_an_answer_that_says_ok_is_success() {
        let taken = r#"{"ok":true,"sync":{"reload":{"info":"sent SIGHUP to pid=7"}}}"#;
        assert_eq!(answer(200, taken).expect("ok"), "sent SIGHUP to pid=7");
        assert!(answer(200, r#"{"ok":true}"#).is_ok());
        for (status, body) in [
            (200, r#"{"ok":false,"message":"full"}"#),
            (200, "<html>"),
            (200, ""),
            (403, taken),
            (507, r#"{"ok":false}"#),
        ] {
            assert!(answer(status, body).is_err(), "{status} {body}");
        }
    }

    #[test]
    fn what_is_not_controls_answer_is_told_apart_and_named() {
        for (status, body, is_final, word) in [
            (403, r#"{"ok":false,"error":"no"}"#, true, "status 403: no"),
            (404, r#"{"ok":false,"error":"no"}"#, true, "status 404: no"),
            (503, r#"{"ok":false,"error":"full"}"#, false, "full"),
            (200, r#"{"ok":false}"#, false, "has \"ok\": false"),
            (200, "", false, "an empty body"),
            (200, "<html>hello", false, "begins with \"<html>hello\""),
            (401, "<html>log in", false, "no answer of control"),
            (404, "default backend", false, "begins with \"default"),
            (
                404,
                r#"{"error":"no route"}"#,
                false,
                "no answer of control",
            ),
            (302, "", false, "redirects to \"https://sso.example/\""),
        ] {
            let mut response = Response::builder().status(status);
            if status == 302 {
                response = response.header("location", "https://sso.example/");
            }
            let body = response.body(ureq::Body::builder().data(body.to_owned()));
            let error = accepted(body.expect("a response")).expect_err("no success");
            assert_eq!(error.is_final(), is_final, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_refusal_carries_its_reason() {
        for body in [
            r#"{"ok":false,"message":"a token is needed"}"#,
            r#"{"ok":false,"error":"a token is needed"}"#,
            r#"{"ok":false,"error":{"message":"a token is needed"}}"#,
        ] {
            let refused = answer(401, body).expect_err("refused").to_string();
            assert!(
                refused.contains("401") && refused.contains("a token is needed"),
                "{refused}"
            );
        }
    }

    #[test]
    fn authorities_are_certificates() {
        for text in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAA"] {
            assert!(Authorities::from_pem(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_out_of_the_call() {
        let addr = crate::arguments::backend("127.0.0.1:9001").expect("an address");
        let mut registration = Registration {
            vram_usage: Some(0.5),
            ..Registration::of(addr)
        };
        let expected = json!({ "ip": "127.0.0.1", "port": 9001, "vram_usage": 0.5 });
        assert_eq!(registration.to_json(), expected);
        registration.weight = Some(7);
        assert_eq!(registration.to_json()["weight"], 7);
    }
}
