//! The keeper over a store that several write: one that numbers what it stores, and compares the number.

use contract::{BackendKey, Root};
use serde_json::{Value, json};

use super::*;
use crate::audit::Audit;
use crate::base::tests::key;
use crate::changes::ChangeSet;
use crate::clock::{Clock, Now};
use crate::edits::Edits;
use crate::model::Model;
use crate::model::tests::model;
use crate::registry::{OverrideChange, OverridePatch, Part as PartOfOverride, Registry};
use crate::store::{Part, StoreError};
use std::collections::BTreeSet;

/// What another node does at the moment at which this one stores its change.
type Other = fn(&mut Model);

struct Numbered {
    /// The number of the last change.
    last: u64,
    /// The one that the model has been brought up to.
    read: u64,
    others: Vec<Other>,
    /// What others have stored and this node has not read.
    unread: Vec<Other>,
}

impl Store for Numbered {
    fn begin_edits(&mut self) -> Edits {
        Edits::default()
    }

    async fn read_all(&mut self, shared: &Shared) {
        self.read(Part::Registry, shared).await;
    }

    async fn read(&mut self, _: Part, shared: &Shared) {
        let mut model = shared.model();
        for other in self.unread.drain(..) {
            other(&mut model);
        }
        self.read = self.last;
        model.edits = self.last;
    }

    fn takes_whole(&self, _: &Registry) -> bool {
        false
    }

    async fn store_registry(
        &mut self,
        staged: &mut Model,
        _: &BTreeSet<&BackendKey>,
        _: Now,
    ) -> Result<(), StoreError> {
        if let Some(other) = self.others.pop() {
            self.last += 1;
            self.unread.push(other);
        }
        if self.read != self.last {
            return Err(StoreError::at("the store", PublishError::Overtaken));
        }
        self.last += 1;
        self.read = self.last;
        staged.edits = self.last;
        Ok(())
    }

    async fn store_whole_registry(&mut self, _: Model, _: Now) -> Result<(), StoreError> {
        Ok(())
    }

    fn is_behind(&self, _: &Registry) -> bool {
        false
    }

    fn is_unmerged(&self) -> bool {
        false
    }

    fn unread_statics(&self) -> Option<&str> {
        None
    }

    async fn store_statics(&mut self, _: &mut Model, _: Now) -> Result<(), StoreError> {
        Ok(())
    }

    async fn store_settings(&mut self, _: &mut Model, _: Now) -> Result<(), StoreError> {
        Ok(())
    }

    async fn store_edits(&mut self, _: Vec<Value>, _: bool, _: impl FnOnce() -> Vec<Value> + Send) {
    }

    fn edits_fault(&self) -> Option<String> {
        None
    }
}

/// A keeper over a store with 40 changes, and what another node does while this one stores its first change.
fn keeper(other: Other) -> (Task<Numbered>, tempfile::TempDir) {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = Root(temp.path().to_owned());
    let settings = Settings::read(None, &root).expect("defaults");
    let (clock, _) = Clock::by_hand();
    let audit = Audit::open(&settings.audit_log_path, 1 << 20, 1, clock.clone());
    let shared = Arc::new(Shared::new(settings, clock, audit, model()));
    let store = Numbered {
        last: 40,
        read: 40,
        others: vec![other],
        unread: Vec::new(),
    };
    (Task::new(shared, store, Vec::new()), temp)
}

fn drain(model: &mut Model) {
    let now = Clock::by_hand().0.now();
    let registry = &mut model.registry;
    let set = registry.set_override(&key(1), OverrideChange::Drain(true), "another node", now);
    set.expect("not full");
}

fn weight(if_revision: Option<u64>) -> Mutation {
    let patch = OverridePatch {
        weight: PartOfOverride::Set(7),
        ..OverridePatch::default()
    };
    Mutation::Change(ChangeSet {
        edits: vec![(key(1), patch)],
        if_revision,
        note: None,
        roll_back: None,
    })
}

#[tokio::test]
async fn a_change_that_another_node_overtakes_is_made_again_over_its_change() {
    let (mut keeper, _temp) = keeper(drain);
    let stored = keeper.mutate(weight(None), Actor::Control("test")).await;
    let stored = stored.expect("stored at the second try");
    let key = key(1).to_string();
    assert_eq!(stored.change.old[&key]["drain"], json!(true));
    let model = keeper.shared.model();
    let entry = &model.registry.entries[&self::key(1)];
    let word = entry.r#override.as_ref().expect("an override");
    assert_eq!((word.weight, word.drain), (Some(7), Some(true)));
    assert_eq!(model.edits, 42, "the number is the store's");
}

#[tokio::test]
async fn a_change_for_a_revision_that_another_node_ends_is_refused() {
    let (mut keeper, _temp) = keeper(drain);
    let refused = keeper
        .mutate(weight(Some(40)), Actor::Control("test"))
        .await;
    let current = match refused.expect_err("refused") {
        NotStored::Refused(Refusal::Stale { current, .. }) => current,
        other => panic!("{other}"),
    };
    assert_eq!(current, 41);
    let model = keeper.shared.model();
    let entry = &model.registry.entries[&self::key(1)];
    let word = entry.r#override.as_ref().expect("the other's override");
    assert_eq!((word.weight, word.drain), (None, Some(true)));
}
