//! Calls that change settings, and what becomes of them.

use serde_json::json;

use super::super::oracle::DEFAULT_PORT;
use super::World;
use super::restores::SETTINGS;
use crate::calls::{OnRefusal, PendingCall, SettingsCall};
use crate::model::Mutation;

impl World {
    pub(super) async fn change_algorithm(&mut self) {
        let names = ["round_robin", "random", "source_hash", "gpu_aware"];
        let name = names[self.random.usize(0..names.len())];
        let patch = json!({ "algorithm": name });
        let patch = patch.as_object().expect("an object").clone();
        let id = self.next_call;
        self.next_call += 1;
        let changed = self
            .mutate(Mutation::ChangeSettings(SettingsCall {
                note: None,
                if_revision: None,
                roll_back: None,
                id,
                patch,
                on_refusal: OnRefusal::KeepTrying,
            }))
            .await;
        if changed.expect("it is one of the algorithms") {
            self.oracle.algorithm = Some(name);
        }
    }

    /// Somebody adds, changes or removes a listener or a pool; what does not fit is refused.
    pub(super) async fn change_services(&mut self) {
        let mut wanted = self.oracle.services;
        let is_removal = self.random.u8(0..3) == 0;
        let proxy = if self.random.bool() {
            let own = self.random.usize(0..wanted.pools.len());
            let slow_start_ms = self.random.u64(0..3);
            wanted.pools[own] = (!is_removal).then_some(slow_start_ms);
            let keys = wanted.pools[own].map(|ms| json!({ "slow_start_ms": ms }));
            json!({ "pools": { format!("p{own}"): keys } })
        } else {
            let own = self.random.usize(0..wanted.listeners.len());
            let port = 7_100 + self.random.u16(0..4);
            let pool = self.random.usize(0..wanted.pools.len());
            wanted.listeners[own] = (!is_removal).then_some((port, pool));
            let keys = wanted.listeners[own].map(|(port, pool)| {
                json!({ "host": "127.0.0.1", "port": port, "pool": format!("p{pool}") })
            });
            json!({ "listeners": { format!("l{own}"): keys } })
        };
        let patch = json!({ "proxy": proxy });
        let patch = patch.as_object().expect("an object").clone();
        let id = self.next_call;
        self.next_call += 1;
        let call = SettingsCall {
            note: None,
            if_revision: None,
            roll_back: None,
            id,
            patch,
            on_refusal: OnRefusal::KeepTrying,
        };
        match self.mutate(Mutation::ChangeSettings(call)).await {
            Ok(is_stored) => {
                assert!(wanted.fit(), "it does not fit: {wanted:?}");
                if is_stored {
                    self.oracle.services = wanted;
                }
            }
            Err(refusal) => assert!(!wanted.fit(), "it fits: {wanted:?}, {refusal}"),
        }
    }

    /// Somebody asks for another port, and may kill control before they hear what became of it.
    pub(super) async fn change_port(&mut self) {
        let is_waiting = !self.control().shared.model().pending.is_empty();
        if is_waiting || self.oracle.port_before.is_some() {
            return;
        }
        let port = 7_000 + self.random.u16(0..4);
        let on_refusal = match self.random.bool() {
            true => OnRefusal::RollBack,
            false => OnRefusal::KeepTrying,
        };
        let id = self.next_call;
        self.next_call += 1;
        let patch = json!({ "listen": { "port": port } });
        let patch = patch.as_object().expect("an object").clone();
        let call = SettingsCall {
            note: None,
            if_revision: None,
            roll_back: None,
            id,
            patch,
            on_refusal,
        };
        let changed = self.mutate(Mutation::ChangeSettings(call)).await;
        if !changed.expect("it is a port") {
            return;
        }
        let before = self.oracle.port.replace(port);
        let can_roll_back = on_refusal == OnRefusal::RollBack && before != Some(port);
        self.oracle.port_before = can_roll_back.then_some(before);
        match self.random.u8(0..5) {
            0 => return self.crash().await,
            1 if !self.broken.contains(&"config") => {
                self.control().publisher.reconcile().await;
                return self.crash().await;
            }
            2 => return self.back_up_or_restore_file(SETTINGS).await,
            _ => {}
        }
        self.publish().await;
        // Silence is an outcome for whoever waits for an answer: the change stands.
        if self.oracle.port_before.is_some() || on_refusal == OnRefusal::KeepTrying {
            let kept = self.mutate(Mutation::KeepSettings(id)).await;
            let is_kept = match on_refusal {
                OnRefusal::RollBack => kept.expect("it waits"),
                // It may have changed nothing, or its outcome may be known.
                OnRefusal::KeepTrying => kept.unwrap_or(false),
            };
            if is_kept {
                self.oracle.port_before = None;
            }
        }
    }

    /// Looks what became of a call that waits, as a server does after its answer or its start.
    pub(super) async fn resume(&mut self) {
        let calls = self.control().shared.model().pending.clone();
        for call in calls.into_iter().rev() {
            self.resume_one(&call).await;
        }
    }

    pub(super) async fn resume_one(&mut self, call: &PendingCall) {
        let outcome = self.control().outcome.borrow().clone();
        let seen = outcome.seen.as_ref().filter(|seen| seen.applied);
        let is_known = seen.is_some_and(|seen| Some(seen.generation) == outcome.generation);
        if !is_known || outcome.failure.is_some() {
            return;
        }
        let head = self.control().shared.model().settings().head();
        let refused = outcome.incidents.iter();
        let is_refused = { refused }
            .any(|incident| head.iter().any(|(key, value)| incident.refuses(key, value)));
        let port = self.oracle.port.unwrap_or(DEFAULT_PORT);
        let may_refuse = self.proxy.state().port != Some(port);
        assert!(
            !is_refused || may_refuse,
            "what the proxy runs was not refused"
        );
        let is_undone = is_refused && call.on_refusal == OnRefusal::RollBack;
        let done = match is_undone {
            true => self.mutate(Mutation::RollBackSettings(call.id)).await,
            false => self.mutate(Mutation::KeepSettings(call.id)).await,
        };
        if done.expect("it waits") && call.on_refusal == OnRefusal::RollBack {
            let before = self.oracle.port_before.take();
            if is_undone {
                self.oracle.port = before.expect("it was to be rolled back");
            }
        }
    }

    /// A call whose port the proxy was seen to run has its outcome, though that was not stored.
    pub(super) fn settle_what_was_seen(&mut self) {
        let pending = self.control().shared.model().pending.clone();
        let mut pending = pending.iter();
        let waits = pending.any(|call| call.on_refusal == OnRefusal::RollBack);
        if self.oracle.port_before.is_some() && !waits {
            assert_eq!(self.oracle.accepted_port, self.oracle.port);
            self.oracle.port_before = None;
        }
    }
}
