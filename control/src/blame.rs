//! The place of a fault as a call has it.
//!
//! All layers together have a fault; the caller knows what was sent, and has to find the fault there. A fault that
//! names another part of the settings is placed at the part of the call that brings it about. Pure.

use std::collections::BTreeSet;

use contract::{DEFAULT_NAME, Fault, Faults, Name};
use serde_json::{Map, Value};

use crate::layer::{Layer, services_patch};
use crate::render::Plan;
use crate::services::{self, Kind, Listening, Patch};

type Keys = Map<String, Value>;

/// What one call says.
struct Call<'a> {
    plan: &'a Plan,
    body: &'a Keys,
    patch: Patch,
}

/// What a new `file` changes, as a call would say it.
pub fn file_as_call(changed: &BTreeSet<String>, file: &Layer) -> Keys {
    let mut body = Map::new();
    for key in changed {
        if ["listen", "algorithm"].contains(&key.as_str()) {
            body.insert(key.clone(), Value::Null);
            continue;
        }
        let proxy = body.entry("proxy").or_insert_with(|| Map::new().into());
        match services::part(key) {
            Some((kind, name)) => {
                let keys = file.services().get(kind, &name);
                proxy[kind.word()][name.as_str()] =
                    keys.cloned().map_or(Value::Null, Value::Object);
            }
            None => proxy[key.as_str()] = Value::Null,
        }
    }
    body
}

/// The same places in `control_config.json`.
pub fn in_file(mut faults: Faults) -> Faults {
    for fault in &mut faults.0 {
        let (key, _) = split(&fault.place);
        match key.as_str() {
            "listen" => fault.place = "/default_listen_port".to_owned(),
            "algorithm" => fault.place = "/default_algorithm".to_owned(),
            _ => {}
        }
    }
    faults
}

/// `faults` of `plan`, which `body` brings about, each at its place in `body`.
pub fn as_called(faults: Faults, plan: &Plan, body: &Keys) -> Faults {
    let patch = services_patch(body);
    let call = Call { plan, body, patch };
    let faults = faults.0.into_iter();
    Faults(faults.map(|fault| call.place(fault)).collect())
}

impl Call<'_> {
    fn place(&self, mut fault: Fault) -> Fault {
        let (key, rest) = split(&fault.place);
        if let Some(place) = self.place_of(&key) {
            fault.place = format!("{place}{rest}");
            return fault;
        }
        let listening = self.plan.listening();
        let own = listening.iter().find(|one| one.key == key);
        if let Some(removed) = self.removed_pool(&key, &rest) {
            return removed;
        }
        if let Some((own, place, other)) = own.and_then(|own| {
            self.newcomer(own, &listening)
                .map(|(place, other)| (own, place, other))
        }) {
            let (addr, protocol) = (other.addr, other.protocol());
            fault.found = format!("{addr}/{protocol}, which listener {} has", own.name);
            fault.place = place;
            return fault;
        }
        fault.place = match services::part(&key) {
            Some((kind, _)) if self.patch.clears(kind) => self.place_of_kind(kind),
            _ if ["", "listen", "algorithm"].contains(&key.as_str()) => fault.place,
            _ => format!("/proxy{}", fault.place),
        };
        fault
    }

    /// Where the call speaks of a key of the head; `None` where it does not.
    fn place_of(&self, key: &str) -> Option<String> {
        let proxy = self.body.get("proxy").and_then(Value::as_object);
        if let Some((kind, name)) = services::part(key) {
            let step = services::step_of(proxy?, kind, &name);
            let of_listen = || self.listen_of(key);
            return match step {
                Some(step) => Some(format!("/proxy/{}/{step}", kind.word())),
                None => of_listen(),
            };
        }
        match key {
            "listen" | "algorithm" => self.body.contains_key(key).then(|| format!("/{key}")),
            _ => proxy?.contains_key(key).then(|| format!("/proxy/{key}")),
        }
    }

    /// `listen` says where the listener `default` is, also where that has settings of its own.
    fn listen_of(&self, key: &str) -> Option<String> {
        let is_default = key == Kind::Listener.key(DEFAULT_NAME);
        (is_default && self.body.contains_key("listen")).then(|| "/listen".to_owned())
    }

    /// The fault of a listener is that the call removes its pool.
    fn removed_pool(&self, key: &str, rest: &str) -> Option<Fault> {
        let (Kind::Listener, listener) = services::part(key)? else {
            return None;
        };
        let is_of_pool = |step| rest.starts_with(step);
        if !["/pool", "/split", "/routes"].into_iter().any(is_of_pool) {
            return None;
        }
        let pools = services::pools_of(self.plan.value(key)?);
        let mut pools = pools.iter().filter_map(|pool| Name::new(pool));
        let pool = pools.find(|pool| !self.plan.has_pool(pool))?;
        let place = match self.patch.cleared(Kind::Pool).any(|one| *one == pool) {
            true => format!("/proxy/{}", Kind::Pool.key(pool.as_str())),
            false if self.patch.clears(Kind::Pool) => self.place_of_kind(Kind::Pool),
            false if self.body.get("proxy") == Some(&Value::Null) => "/proxy".to_owned(),
            false => return None,
        };
        Some(Fault {
            place,
            found: format!("removed, while listener {listener} leads to pool {pool}"),
            allowed: "a pool that no listener leads to; the same call may also remove the listener"
                .to_owned(),
        })
    }

    /// Of two listeners at one address, the one that the call is about, with its place.
    fn newcomer<'a>(
        &self,
        own: &Listening,
        listening: &'a [Listening],
    ) -> Option<(String, &'a Listening)> {
        let mut others = listening.iter().filter(|other| {
            let is_tcp = own.is_tcp && other.is_tcp;
            other.key != own.key && other.addr == own.addr && (is_tcp || own.is_udp && other.is_udp)
        });
        others.find_map(|other| Some((self.place_of(&other.key)?, other)))
    }

    fn place_of_kind(&self, kind: Kind) -> String {
        format!("/proxy/{}", kind.word())
    }
}

/// The key of the head at a place that names listeners and pools, and the rest of the place.
fn split(place: &str) -> (String, String) {
    let steps: Vec<&str> = place.split('/').skip(1).collect();
    let count = match steps.first() {
        Some(&"listeners" | &"pools") => 2,
        Some(_) | None => 1,
    };
    let count = count.min(steps.len());
    let rest = steps[count..].iter().map(|step| format!("/{step}"));
    (steps[..count].join("/"), rest.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::LocalAddresses;
    use serde_json::json;

    fn map(value: Value) -> Keys {
        match value {
            Value::Object(map) => map,
            other => panic!("tests give objects, not {other}"),
        }
    }

    #[test]
    fn a_fault_is_placed_at_what_the_call_says() {
        let at = |port: u16| json!({ "host": "127.0.0.1", "port": port, "pool": "p" });
        let read = |value: Value| Layer::default().patched(&map(value)).expect("good");
        let file = read(json!({ "proxy": { "listeners": { "m": at(7001) } } }));
        let by_api = read(json!({
            "listen": { "host": "127.0.0.1", "port": 7000 }, "proxy": { "pools": { "p": {} } },
        }));
        let named = |name: &str, port| {
            let mut one = at(port);
            one["name"] = name.into();
            one
        };
        let cases = [
            // The pool is named, and not the listener, of which nothing was sent.
            (
                json!({ "proxy": { "pools": { "p": null } } }),
                "/proxy/pools/p",
            ),
            (json!({ "proxy": { "pools": null } }), "/proxy/pools"),
            (json!({ "proxy": null }), "/proxy"),
            // Of two at one address the one that was sent, whichever is first by name.
            (
                json!({ "proxy": { "listeners": { "a": at(7001) } } }),
                "/proxy/listeners/a",
            ),
            (
                json!({ "proxy": { "listeners": { "z": at(7001) } } }),
                "/proxy/listeners/z",
            ),
            (
                json!({ "proxy": { "listeners": [named("b", 7005), named("a", 7001)] } }),
                "/proxy/listeners/1",
            ),
            (json!({ "listen": { "port": 7001 } }), "/listen"),
            (
                json!({ "proxy": { "listeners": { "z": at(7000) } } }),
                "/proxy/listeners/z",
            ),
            // What a listener lacks is placed in its entry.
            (
                json!({ "proxy": { "listeners": [{ "name": "z", "port": 7009 }] } }),
                "/proxy/listeners/0/host",
            ),
            (
                json!({ "proxy": { "listeners": [{ "name": "m", "pool": "q" }] } }),
                "/proxy/listeners/0/pool",
            ),
        ];
        for (body, place) in cases {
            let body = map(body);
            let patched = by_api.patched(&body).expect("good alone");
            let plan = Plan::of_head(patched.over(&file).head());
            let faults = plan.check(&LocalAddresses::default()).expect_err(place);
            let called = as_called(faults, &plan, &body);
            assert_eq!(called.0[0].place, place, "{called}");
        }
    }
}
