//! The optional keys of `proxy_config.json` about health: `health` (active probes), `ejection`
//! (passive), `all_down` and `slow_start_ms`, their defaults and ranges, in one place.
//!
//! The proxy's core decides what a verdict means for sessions and flows.

use serde_json::{Map, Value, json};

use crate::fault::Faults;
use crate::keys::{self, Reader, by_default};
use crate::object::{Object, kind};

/// How the health of backends is determined, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The active probes.
    pub probe: Probe,
    /// Ejection after failures.
    pub ejection: Ejection,
    /// What holds while no backend is available.
    pub all_down: AllDown,
    /// How long a new, returned or warmed-up backend takes from a tenth of its share to the whole
    /// share; 0: at once.
    pub slow_start_ms: u64,
}

/// The active probes of every backend that is not disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is sent, and what is expected.
    pub kind: ProbeKind,
    /// Time from one probe of a backend to the next.
    pub interval_ms: u64,
    /// Random variation of the interval, so that probes do not synchronize.
    pub jitter_percent: u64,
    /// For the whole probe, connect to answer.
    pub timeout_ms: u64,
    /// Consecutive successes that bring a backend back.
    pub rise: u64,
    /// Consecutive failures that take it out.
    pub fall: u64,
    /// Another port of the same address; absent: the backend's own.
    pub port: Option<u16>,
    /// What an `http` probe asks for.
    pub http: HttpProbe,
    /// What `send_expect` and `udp` send.
    pub send: Option<Vec<u8>>,
    /// What their answer must contain.
    pub expect: Option<Vec<u8>>,
}

/// What a probe does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// Nothing is probed.
    Off,
    /// A connect.
    Tcp,
    /// A connect, then bytes sent, bytes expected, or both.
    SendExpect,
    /// `GET` over HTTP/1.1, and the status of the answer.
    Http,
    /// A datagram, and the datagram that answers it.
    Udp,
}

/// The request of an `http` probe, and the answers that pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// The path of the request; begins with `/`.
    pub path: String,
    /// The `Host` header; absent: the address that is probed.
    pub host: Option<String>,
    /// The lowest and the highest status that is healthy.
    pub status: (u16, u16),
}

/// When a backend with failing sessions or flows is ejected for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Consecutive failures that eject a backend; 0: never.
    pub failures: u64,
    /// Length of the first ejection; each later one lasts twice as long as the one before.
    pub base_ms: u64,
    /// Length of the longest ejection; after this time without one, a backend starts with `base_ms` again.
    pub max_ms: u64,
    /// Share of a pool's backends that may be out, including those that probes took out.
    pub max_percent: u64,
}

/// What happens if every backend is out because of its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllDown {
    /// New sessions and flows are refused.
    Reject,
    /// New sessions and flows go to all backends, as if nothing were known about any.
    FailOpen,
}

impl ProbeKind {
    /// Every kind with the name that files use.
    pub const ALL: [(&str, ProbeKind); 5] = [
        ("off", ProbeKind::Off),
        ("tcp", ProbeKind::Tcp),
        ("send_expect", ProbeKind::SendExpect),
        ("http", ProbeKind::Http),
        ("udp", ProbeKind::Udp),
    ];

    /// The name in files.
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, kind)| *kind == self);
        named.expect("ALL lists every kind").0
    }
}

impl AllDown {
    /// Both rules with the name that files use.
    pub const ALL: [(&str, AllDown); 2] = [
        ("reject", AllDown::Reject),
        ("fail_open", AllDown::FailOpen),
    ];

    /// The name in files.
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, rule)| *rule == self);
        named.expect("ALL lists both").0
    }
}

impl Default for Health {
    fn default() -> Self {
        by_default(|object, faults| Health::read(object, None, faults, &mut Faults::default()))
    }
}

impl Default for Probe {
    fn default() -> Self {
        by_default(Probe::read)
    }
}

impl Default for Ejection {
    fn default() -> Self {
        by_default(Ejection::read)
    }
}

/// The most bytes of `send` and of `expect`.
pub const MAX_PAYLOAD_BYTES: usize = 4096;
const MAX_HTTP_TEXT_BYTES: usize = 1024;

impl Health {
    /// What `object` does not say is as in `top`, if there is one; `health` and `ejection` are each taken whole.
    pub(crate) fn read(
        object: &mut Object,
        top: Option<&Health>,
        faults: &mut Faults,
        unknown_keys: &mut Faults,
    ) -> Health {
        let probe = read_object(object, "health", faults, |inner, faults| {
            let probe = Probe::read(inner, faults);
            inner.unknown_keys(unknown_keys);
            probe
        });
        let ejection = read_object(object, "ejection", faults, |inner, faults| {
            let ejection = Ejection::read(inner, faults);
            inner.unknown_keys(unknown_keys);
            ejection
        });
        let mut keys = Reader::new(object, faults);
        let all_down = keys.choice("all_down", &AllDown::ALL, top.map(|top| top.all_down));
        let slow_start_ms = keys.integer("slow_start_ms", top.map(|top| top.slow_start_ms));
        let inherited = top.map(|top| (top.probe.clone(), top.ejection));
        let (probe_of_top, ejection_of_top) = inherited.unzip();
        Health {
            probe: probe.or(probe_of_top).unwrap_or_default(),
            ejection: ejection.or(ejection_of_top).unwrap_or_default(),
            all_down,
            slow_start_ms,
        }
    }

    /// The keys as [`Health::read`] reads them, every one with its effective value.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("health".into(), self.probe.to_json());
        object.insert("ejection".into(), self.ejection.to_json());
        object.insert("all_down".into(), self.all_down.name().into());
        object.insert("slow_start_ms".into(), self.slow_start_ms.into());
        object
    }
}

impl Probe {
    fn read(object: &mut Object, faults: &mut Faults) -> Probe {
        let mut keys = Reader::inside("health", object, faults);
        let probe = Probe {
            kind: keys.choice("probe", &ProbeKind::ALL, None),
            interval_ms: keys.integer("interval_ms", None),
            jitter_percent: keys.integer("jitter_percent", None),
            timeout_ms: keys.integer("timeout_ms", None),
            rise: keys.integer("rise", None),
            fall: keys.integer("fall", None),
            port: keys.integer_if_any("port", None).map(|port| port as u16),
            http: HttpProbe::read(object, faults),
            send: read_payload(object, ["send", "send_hex"], faults),
            expect: read_payload(object, ["expect", "expect_hex"], faults),
        };
        probe.demand_payload(object, faults);
        probe
    }

    /// With nothing to send and nothing to expect, the probe would be a `tcp` probe under another name,
    /// and a UDP server answers only if it receives something.
    fn demand_payload(&self, object: &Object, faults: &mut Faults) {
        let says_nothing = self.send.as_ref().is_none_or(Vec::is_empty);
        let (is_missing, allowed) = match self.kind {
            ProbeKind::Off | ProbeKind::Tcp | ProbeKind::Http => (false, ""),
            ProbeKind::SendExpect => {
                let expects_nothing = self.expect.as_ref().is_none_or(Vec::is_empty);
                let allowed = "send, expect or both (send_hex, expect_hex) for a send_expect probe";
                (says_nothing && expects_nothing, allowed)
            }
            ProbeKind::Udp => (says_nothing, "send or send_hex for a udp probe"),
        };
        if is_missing {
            faults.add(&object.pointer("send"), "nothing", allowed);
        }
    }

    fn to_json(&self) -> Value {
        let (lowest, highest) = self.http.status;
        let mut object = json!({
            "probe": self.kind.name(),
            "interval_ms": self.interval_ms,
            "jitter_percent": self.jitter_percent,
            "timeout_ms": self.timeout_ms,
            "rise": self.rise,
            "fall": self.fall,
            "http_path": self.http.path,
            "http_status": [lowest, highest],
        });
        if let Some(port) = self.port {
            object["port"] = port.into();
        }
        if let Some(host) = &self.http.host {
            object["http_host"] = host.as_str().into();
        }
        let payloads = [
            (&self.send, "send", "send_hex"),
            (&self.expect, "expect", "expect_hex"),
        ];
        for (payload, text_key, hex_key) in payloads {
            match payload
                .as_deref()
                .map(|bytes| (bytes, str::from_utf8(bytes)))
            {
                None => {}
                Some((_, Ok(text))) => object[text_key] = text.into(),
                Some((bytes, Err(_))) => object[hex_key] = hex_of(bytes).into(),
            }
        }
        object
    }
}

impl HttpProbe {
    fn read(object: &mut Object, faults: &mut Faults) -> HttpProbe {
        let path =
            read_text(object, "http_path", "a path that begins with /", faults).filter(|path| {
                let is_path = path.starts_with('/');
                if !is_path {
                    let place = object.pointer("http_path");
                    faults.add(&place, format!("{path:?}"), "a path that begins with /");
                }
                is_path
            });
        let host = read_text(object, "http_host", "a host name or address", faults);
        HttpProbe {
            path: path
                .unwrap_or(keys::default_text("health", "http_path"))
                .to_owned(),
            host: host.map(str::to_owned),
            status: read_status_range(object, faults)
                .unwrap_or(keys::default_range("health", "http_status")),
        }
    }
}

impl Ejection {
    fn read(object: &mut Object, faults: &mut Faults) -> Ejection {
        let mut keys = Reader::inside("ejection", object, faults);
        let failures = keys.integer("failures", None);
        let base_ms = keys.integer("base_ms", None);
        let said = keys.integer_if_any("max_ms", None);
        let max_ms = keys.integer("max_ms", None);
        let max_percent = keys.integer("max_percent", None);
        if let Some(max_ms) = said.filter(|max_ms| *max_ms < base_ms) {
            let allowed = format!("at least base_ms, which is {base_ms}");
            faults.add(&object.pointer("max_ms"), max_ms, allowed);
        }
        Ejection {
            failures,
            base_ms,
            max_ms: max_ms.max(base_ms),
            max_percent,
        }
    }

    fn to_json(self) -> Value {
        json!({
            "failures": self.failures,
            "base_ms": self.base_ms,
            "max_ms": self.max_ms,
            "max_percent": self.max_percent,
        })
    }
}

/// Reads the object under `key`, if there is one.
fn read_object<T>(
    object: &mut Object,
    key: &'static str,
    faults: &mut Faults,
    read: impl FnOnce(&mut Object, &mut Faults) -> T,
) -> Option<T> {
    let value = object.take(key)?;
    let place = object.pointer(key);
    let Value::Object(map) = value else {
        faults.add(&place, kind(value), "an object");
        return None;
    };
    Some(read(&mut Object::new(map, place), faults))
}

/// One line of printable ASCII without spaces: it goes into a request line or a header.
fn read_text<'a>(
    object: &mut Object<'a>,
    key: &'static str,
    allowed: &str,
    faults: &mut Faults,
) -> Option<&'a str> {
    let text = object.take_string(key, faults)?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain || text.is_empty() || text.len() > MAX_HTTP_TEXT_BYTES {
        let allowed = format!(
            "{allowed}, 1 to {MAX_HTTP_TEXT_BYTES} printable ASCII characters without spaces"
        );
        faults.add(&object.pointer(key), format!("{text:?}"), allowed);
        return None;
    }
    Some(text)
}

fn read_status_range(object: &mut Object, faults: &mut Faults) -> Option<(u16, u16)> {
    const ALLOWED: &str = "[LOWEST, HIGHEST], both from 100 to 599 and in this order";
    let value = object.take("http_status")?;
    let numbers: Option<Vec<u64>> = value
        .as_array()
        .and_then(|items| items.iter().map(Value::as_u64).collect());
    match numbers.as_deref() {
        Some(&[lowest, highest]) if 100 <= lowest && lowest <= highest && highest <= 599 => {
            Some((lowest as u16, highest as u16))
        }
        _ => {
            faults.add(&object.pointer("http_status"), value, ALLOWED);
            None
        }
    }
}

/// A payload as text under the first key or in hexadecimal under the second.
fn read_payload(
    object: &mut Object,
    [text_key, hex_key]: [&'static str; 2],
    faults: &mut Faults,
) -> Option<Vec<u8>> {
    let text = object.take_string(text_key, faults);
    let hex = object.take_string(hex_key, faults);
    let (key, bytes) = match (text, hex) {
        (None, None) => return None,
        (Some(text), None) => (text_key, Some(text.as_bytes().to_vec())),
        (None, Some(hex)) => (hex_key, bytes_of(hex)),
        (Some(_), Some(_)) => {
            let allowed = format!("{text_key} or {hex_key}, not both");
            faults.add(&object.pointer(hex_key), "both", allowed);
            return None;
        }
    };
    let fitting = bytes.filter(|bytes| bytes.len() <= MAX_PAYLOAD_BYTES);
    if fitting.is_none() {
        let allowed = if key == hex_key {
            format!("an even number of hexadecimal digits, at most {MAX_PAYLOAD_BYTES} bytes")
        } else {
            format!("at most {MAX_PAYLOAD_BYTES} bytes")
        };
        let found = text.or(hex).unwrap_or_default();
        faults.add(&object.pointer(key), format!("{found:?}"), allowed);
    }
    fitting
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
        .collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> (Health, Vec<String>) {
        let Value::Object(map) = value else {
            panic!("tests give objects")
        };
        let mut faults = Faults::default();
        let mut unknown_keys = Faults::default();
        let mut object = Object::new(&map, "");
        let health = Health::read(&mut object, None, &mut faults, &mut unknown_keys);
        object.unknown_keys(&mut unknown_keys);
        let all = faults.0.into_iter().chain(unknown_keys.0);
        (health, all.map(|fault| fault.place).collect())
    }

    #[track_caller]
    fn good(value: Value) -> Health {
        let (health, faults) = read(value);
        assert!(faults.is_empty(), "{faults:?}");
        health
    }

    #[test]
    fn nothing_said_means_tcp_probes_and_no_refusal() {
        let health = good(json!({}));
        assert_eq!(health, Health::default());
        assert_eq!(health.probe.kind, ProbeKind::Tcp);
        assert_eq!(health.all_down, AllDown::FailOpen);
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let cases = [
            json!({}),
            json!({"health": {"probe": "off"}, "ejection": {"failures": 0}}),
            json!({"health": {"probe": "http", "http_path": "/health?full=1", "port": 8000,
                   "http_host": "gpu.example:8000", "http_status": [200, 204]}}),
            json!({"health": {"probe": "udp", "send_hex": "00FF10", "expect_hex": "80"}}),
            json!({"health": {"probe": "send_expect", "send": "PING\r\n", "expect": "PONG"}}),
            json!({"all_down": "reject", "slow_start_ms": 30_000,
                   "ejection": {"base_ms": 400_000, "max_percent": 0}}),
        ];
        for case in cases {
            let health = good(case);
            assert_eq!(good(Value::Object(health.to_json())), health);
        }
        let bytes = good(json!({"health": {"probe": "udp", "send_hex": "00ff10"}}));
        assert_eq!(bytes.probe.send.as_deref(), Some(&[0x00, 0xff, 0x10][..]));
    }

    #[test]
    fn each_bad_value_is_named_by_its_place() {
        let cases = [
            (json!({"health": 7}), "/health"),
            (json!({"health": {"probe": "icmp"}}), "/health/probe"),
            (json!({"health": {"interval_ms": 9}}), "/health/interval_ms"),
            (json!({"health": {"timeout_ms": 0}}), "/health/timeout_ms"),
            (
                json!({"health": {"jitter_percent": 51}}),
                "/health/jitter_percent",
            ),
            (json!({"health": {"rise": 0}}), "/health/rise"),
            (json!({"health": {"fall": 101}}), "/health/fall"),
            (json!({"health": {"port": 0}}), "/health/port"),
            (
                json!({"health": {"intervall_ms": 5}}),
                "/health/intervall_ms",
            ),
            (
                json!({"health": {"http_path": "health"}}),
                "/health/http_path",
            ),
            (
                json!({"health": {"http_path": "/a b"}}),
                "/health/http_path",
            ),
            (
                json!({"health": {"http_host": "a\r\nb: c"}}),
                "/health/http_host",
            ),
            (
                json!({"health": {"http_status": [300, 200]}}),
                "/health/http_status",
            ),
            (
                json!({"health": {"http_status": 200}}),
                "/health/http_status",
            ),
            (json!({"health": {"probe": "udp"}}), "/health/send"),
            (
                json!({"health": {"probe": "udp", "expect": "x"}}),
                "/health/send",
            ),
            (json!({"health": {"probe": "send_expect"}}), "/health/send"),
            (json!({"health": {"send_hex": "0"}}), "/health/send_hex"),
            (json!({"health": {"send_hex": "zz"}}), "/health/send_hex"),
            (
                json!({"health": {"send": "x".repeat(5000)}}),
                "/health/send",
            ),
            (
                json!({"health": {"expect": "a", "expect_hex": "61"}}),
                "/health/expect_hex",
            ),
            (json!({"ejection": []}), "/ejection"),
            (json!({"ejection": {"failures": -1}}), "/ejection/failures"),
            (
                json!({"ejection": {"base_ms": 9, "max_ms": 8}}),
                "/ejection/max_ms",
            ),
            (
                json!({"ejection": {"max_percent": 101}}),
                "/ejection/max_percent",
            ),
            (
                json!({"ejection": {"max_share": 0.5}}),
                "/ejection/max_share",
            ),
            (json!({"all_down": "panic"}), "/all_down"),
            (json!({"slow_start_ms": -1}), "/slow_start_ms"),
        ];
        for (value, place) in cases {
            let (_, faults) = read(value.clone());
            assert_eq!(faults, [place], "{value}");
        }
    }
}
