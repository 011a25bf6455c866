//! A proxy that is played: it reads the published file when it is told to, and refuses ports for a
//! while, by the part or the whole file, or says nothing at all.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use contract::refusal::{Refusal, RefusalCode};
use contract::status::{Reload, Running};
use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use crate::observe::{Played, Proxy, Unknown};

#[derive(Debug)]
pub struct State {
    path: PathBuf,
    pub refused_ports: BTreeSet<u16>,
    pub is_silent: bool,
    /// A refused part costs the whole file.
    is_whole: bool,
    /// It can be asked before anything is published.
    can_check: bool,
    /// Where it listens; `None` before its first file.
    pub port: Option<u16>,
    /// A port that it was told to listen on and tries again.
    tried: Option<u16>,
    running: Running,
}

#[derive(Clone)]
pub struct PlayedProxy(Arc<Mutex<State>>);

impl PlayedProxy {
    pub fn at(path: PathBuf, is_whole: bool, can_check: bool) -> PlayedProxy {
        PlayedProxy(Arc::new(Mutex::new(State {
            path,
            refused_ports: BTreeSet::new(),
            is_silent: false,
            is_whole,
            can_check,
            port: None,
            tried: None,
            running: Running {
                pid: 7,
                started_at_ms: None,
                generation: 0,
                digest: String::new(),
                config_digest: None,
                config_path: None,
                loaded_at_ms: 0,
                last_reload: None,
                listeners: vec![],
                addresses: vec![],
                refusals: vec![],
            },
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }

    pub fn client(&self) -> Proxy {
        let state = self.clone();
        let played: Played = Arc::new(move |method, path, body| {
            let mut state = state.state();
            let unknown = |why: &str| Unknown::Failed {
                path: PathBuf::new(),
                why: why.to_owned(),
            };
            if state.is_silent {
                return Err(unknown("it says nothing"));
            }
            state.try_again();
            let answer = match (method, path.split('?').next().unwrap_or_default()) {
                (&Method::POST, "/reload") => {
                    state.reload();
                    json!(state.running)
                }
                (&Method::POST, "/check") if state.can_check => {
                    let document = serde_json::from_slice(body).expect("a document");
                    json!({ "refusals": state.refusals(&document) })
                }
                (&Method::GET, "/generation") => json!(state.running),
                _ => {
                    return Err(Unknown::NoSuchCall {
                        path: PathBuf::new(),
                        call: path.to_owned(),
                    });
                }
            };
            Ok(Bytes::from(answer.to_string()))
        });
        Proxy::played(played)
    }
}

impl State {
    fn refusals(&self, document: &Map<String, Value>) -> Vec<Refusal> {
        let port = port_of(document);
        let is_refused = self.refused_ports.contains(&port) && self.port != Some(port);
        let refusal = Refusal {
            code: RefusalCode::AddressInUse,
            place: "/listen".to_owned(),
            value: format!("0.0.0.0:{port}/tcp"),
            detail: String::new(),
            since: 1,
        };
        is_refused.then_some(refusal).into_iter().collect()
    }

    pub fn reload(&mut self) {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        let Ok(Value::Object(document)) = serde_json::from_slice(&bytes) else {
            return;
        };
        let generation = document["generation"].as_u64();
        let refusals = self.refusals(&document);
        let ok = refusals.is_empty() || !self.is_whole;
        self.running.last_reload = Some(Reload {
            at_ms: 1,
            ok,
            generation,
            reason: None,
        });
        self.tried = None;
        match refusals.is_empty() {
            true => self.port = Some(port_of(&document)),
            false if ok => self.tried = Some(port_of(&document)),
            false => {}
        }
        self.running.refusals = refusals;
        if ok {
            self.running.generation = generation.expect("control numbers what it publishes");
            self.running.config_digest = Some(contract::config_digest(&document));
        }
    }

    /// A listener that could not be bound is bound as soon as it can be.
    fn try_again(&mut self) {
        let tried = self.tried.filter(|port| !self.refused_ports.contains(port));
        if let Some(port) = tried {
            self.port = Some(port);
            self.tried = None;
            self.running.refusals.clear();
        }
    }

    pub fn runs(&self) -> (u64, Option<&str>) {
        let running = &self.running;
        (running.generation, running.config_digest.as_deref())
    }
}

pub fn port_of(document: &Map<String, Value>) -> u16 {
    let port = document["listen"]["port"].as_u64();
    port.and_then(|port| port.try_into().ok()).expect("a port")
}
