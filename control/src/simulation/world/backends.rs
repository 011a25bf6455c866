//! What backends and operators say by the API.

use std::collections::BTreeMap;

use super::super::oracle::Registration as Answered;
use super::{BEAT_MS, World};
use crate::base::lower;
use crate::changes::ChangeSet;
use crate::model::{Mutation, Refusal};
use crate::registry::{OverrideChange, OverridePatch, Part, Registration, Remover};
use crate::sources::entry::Said;

impl World {
    pub(super) async fn register(&mut self) {
        let addr = self.addr();
        let weight = self.random.bool().then(|| self.random.u16(0..50));
        let mut said = Registration::of(lower(addr));
        said.weight = weight;
        said.report.gpu_usage = self
            .random
            .bool()
            .then(|| f64::from(self.random.u8(0..100)) / 100.0);
        let beat = self.control().shared.heartbeat(&said);
        let done = match beat {
            Some(_) => true,
            None => self
                .mutate(Mutation::Register(said))
                .await
                .expect("there is room"),
        };
        if done {
            let before = self
                .oracle
                .registered
                .get(&addr)
                .and_then(|before| before.weight);
            let answered = Answered {
                weight: weight.or(before),
                heard_at_ms: self.now().listened_ms,
                fresh_at_ms: None,
                due_at_ms: None,
                expired_at_ms: None,
            };
            self.oracle.registered.insert(addr, answered);
            if self.random.bool() {
                self.agents.insert(addr, self.now().monotonic_ms + BEAT_MS);
            }
        }
    }

    pub(super) async fn unregister(&mut self) {
        let addr = self.addr();
        let done = self
            .mutate(Mutation::Unregister(lower(addr), Remover::Operator))
            .await;
        assert_eq!(
            done.is_ok(),
            self.oracle.registered.contains_key(&addr),
            "{addr}"
        );
        if done.unwrap_or(false) {
            self.oracle.registered.remove(&addr);
            self.agents.remove(&addr);
        }
    }

    pub(super) async fn set_override(&mut self) {
        let addr = self.addr();
        let change = match self.random.u8(0..3) {
            0 => OverrideChange::Weight(self.random.u16(0..1000)),
            1 => OverrideChange::Enabled(self.random.bool()),
            _ => OverrideChange::Drain(self.random.bool()),
        };
        let done = self
            .mutate(Mutation::SetOverride(lower(addr), change))
            .await;
        assert_eq!(done.is_ok(), self.oracle.knows(addr), "{addr}");
        if done.unwrap_or(false) {
            let word = self.oracle.overrides.entry(addr).or_default();
            match change {
                OverrideChange::Weight(weight) => word.0 = Some(weight),
                OverrideChange::Enabled(enabled) => word.1 = Some(enabled),
                OverrideChange::Drain(drain) => word.2 = Some(drain),
            }
        }
    }

    pub(super) async fn clear_override(&mut self) {
        let addr = self.addr();
        if self
            .mutate(Mutation::ClearOverride(lower(addr)))
            .await
            .unwrap_or(false)
        {
            self.oracle.overrides.remove(&addr);
        }
    }

    /// Several edits at once: all of them or none.
    pub(super) async fn change_many(&mut self) {
        let weight = self.random.u16(0..1000);
        let mut edits = BTreeMap::new();
        for _ in 0..self.random.usize(1..5) {
            let patch = OverridePatch {
                weight: Part::Set(weight),
                drain: Part::Clear,
                ..OverridePatch::default()
            };
            edits.insert(self.addr(), patch);
        }
        let addresses: Vec<_> = edits.keys().copied().collect();
        let set = ChangeSet {
            note: None,
            roll_back: None,
            edits: { edits.into_iter() }
                .map(|(addr, patch)| (lower(addr), patch))
                .collect(),
            if_revision: None,
        };
        let done = self.mutate(Mutation::Change(set)).await;
        let all_known = addresses.iter().all(|addr| self.oracle.knows(*addr));
        assert_eq!(done.is_ok(), all_known, "{addresses:?}");
        if done.unwrap_or(false) {
            for addr in addresses {
                let word = self.oracle.overrides.entry(addr).or_default();
                (word.0, word.2) = (Some(weight), None);
            }
        }
    }

    pub(super) async fn acknowledge(&mut self) {
        // Refused where nothing is held; either way nothing but the freeze is touched.
        let _ = self.mutate(Mutation::AcknowledgeExpiry).await;
    }

    /// Somebody puts a backend into the static list, or lists it otherwise.
    pub(super) async fn list(&mut self) {
        let addr = self.addr();
        let weight = self.random.bool().then(|| self.random.u16(100..200));
        let enabled = self.random.bool().then(|| self.random.bool());
        let said = Said {
            weight,
            enabled,
            ..Said::nothing_of(lower(addr))
        };
        if self.mutate_statics(Mutation::SetStatic(said)).await {
            self.oracle.statics.insert(addr, (weight, enabled));
        }
    }

    pub(super) async fn list_no_more(&mut self) {
        let addr = self.addr();
        if self
            .mutate_statics(Mutation::RemoveStatic(lower(addr)))
            .await
        {
            let listed = self.oracle.statics.remove(&addr);
            assert!(listed.is_some(), "{addr} was not listed");
        }
    }

    async fn mutate_statics(&mut self, mutation: Mutation) -> bool {
        match self.mutate(mutation).await {
            Ok(done) => done,
            Err(Refusal::StaticUnread(why)) => {
                assert!(!self.can_store(), "nothing keeps it from being read: {why}");
                false
            }
            Err(Refusal::NotStatic(key)) => {
                assert!(
                    !self.oracle.statics.contains_key(&key.addr),
                    "{key} is listed"
                );
                false
            }
            Err(other) => panic!("{other}"),
        }
    }
}
