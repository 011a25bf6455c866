//! Changes of the proxy's settings: by a call, which the proxy may refuse later, and by `control_config.json`.
//!
//! A change is refused if the proxy would refuse all layers together: a value that is valid alone may conflict
//! with the others.

use contract::{DEFAULT_NAME, Faults, check_strictly};
use serde_json::{Map, Value};

use super::Model;
use super::mutation::Refusal;
use crate::blame::{as_called, file_as_call, in_file};
use crate::calls;
use crate::layer::{Layer, services_patch};
use crate::registry::Effect;
use crate::render::Plan;
use crate::services::{self, Kind};
use crate::settings::Settings;

impl Model {
    /// The settings by API with `patch` applied, if the proxy accepts all layers together: a value that is
    /// valid alone may conflict with the others.
    pub(super) fn patched_settings(&self, patch: &Map<String, Value>) -> Result<Layer, Faults> {
        let patched = self.runtime_settings.patched(patch)?;
        self.refuse_clearing_of_file(patch)?;
        let plan = self.check_settings(&patched, patch)?;
        let asked = patched.over(&self.base_settings).asked(patch);
        let mut faults = self.conflicts_with_control(&plan, |key| asked.contains_key(key));
        faults.0.extend(self.own_probes(&plan, &asked).0);
        match faults.is_empty() {
            true => Ok(patched),
            false => Err(as_called(faults, &plan, patch)),
        }
    }

    /// The listeners of `plan` at an address of control, of those that `is_of_call` names.
    fn conflicts_with_control(&self, plan: &Plan, is_of_call: impl Fn(&str) -> bool) -> Faults {
        let mut faults = Faults::default();
        for listening in plan.listening() {
            let control = self.own.control_at(&listening);
            if let Some(control) = control.filter(|_| is_of_call(&listening.key)) {
                let addr = listening.addr;
                let found = format!("{addr}, where the control server listens ({control})");
                let allowed = "an address and port that the control server does not listen on";
                faults.add(&format!("/{}", listening.key), found, allowed);
            }
        }
        faults
    }

    /// Each `health.port` of the call at which a probe would reach the proxy itself.
    fn own_probes(&self, plan: &Plan, asked: &Map<String, Value>) -> Faults {
        let has_port = |value: &Value| value["port"].is_u64();
        let is_probe = |(key, value): (&String, &Value)| match services::part(key) {
            Some((Kind::Pool, _)) => has_port(&value["health"]),
            Some((Kind::Listener, _)) => false,
            None => key == "health" && has_port(value),
        };
        let mut faults = Faults::default();
        if !asked.iter().any(is_probe) {
            return faults;
        }
        let mut with_backends = self.plan(&self.rows());
        with_backends.head = plan.head.clone();
        let Ok((with_backends, _)) = with_backends.fit(&self.own) else {
            return faults;
        };
        let bytes = with_backends.render(0, 0);
        let Err(found) = check_strictly(&bytes, &self.own.of_proxy()) else {
            return faults;
        };
        let of_probes = found.0.into_iter().filter(|one| {
            let is_asked = plan
                .key_at(&one.place)
                .is_some_and(|key| asked.contains_key(&key));
            is_asked && one.place.ends_with("/health/port")
        });
        faults.0.extend(of_probes);
        faults
    }

    /// A call takes off what calls have set. A listener or pool of `control_config.json` alone would stay, so a
    /// call that clears it as a whole is refused rather than answered as if it were gone.
    fn refuse_clearing_of_file(&self, patch: &Map<String, Value>) -> Result<(), Faults> {
        let patch = services_patch(patch);
        let mut faults = Faults::default();
        let (by_api, by_file) = (
            self.runtime_settings.services(),
            self.base_settings.services(),
        );
        for kind in Kind::ALL {
            for name in patch.cleared(kind) {
                if by_api.get(kind, name).is_none() && by_file.get(kind, name).is_some() {
                    let place = format!("/proxy/{}", kind.key(name.as_str()));
                    let allowed = "null for what was set by API; take this one out of the file, \
                                   and have control read it again";
                    faults.add(&place, "null, and control_config.json defines it", allowed);
                }
            }
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(faults),
        }
    }

    /// All layers together with these settings by API. Faults are placed as `body` has them.
    fn check_settings(&self, by_api: &Layer, body: &Map<String, Value>) -> Result<Plan, Faults> {
        let plan = Plan::of_head(by_api.over(&self.base_settings).head());
        match plan.check(&self.own.of_proxy()) {
            Ok(()) => Ok(plan),
            Err(faults) => Err(as_called(faults, &plan, body)),
        }
    }

    /// Undoes the changes of a call, as far as they still apply.
    pub(super) fn roll_back(&mut self, id: u64) -> Result<Effect, Refusal> {
        let call = calls::take(&mut self.pending, id).ok_or(Refusal::Settled)?;
        let back = self.runtime_settings.taken_back(&call.old, &call.new);
        self.check_settings(&back, &Map::new())?;
        // A later call that is rolled back too must not bring the refused values again.
        for later in &mut self.pending {
            later.old = later.old.taken_back(&call.old, &call.new);
        }
        let is_same = back == self.runtime_settings;
        self.runtime_settings = back;
        Ok(if is_same {
            Effect::Unchanged
        } else {
            Effect::State
        })
    }

    /// Calls whose values the proxy was seen to run have their outcome, even if it could not be stored.
    pub fn drop_accepted(&mut self, accepted: &[(String, Value)]) {
        let base = &self.base_settings;
        self.pending.retain(|call| {
            let new = call.new.over(base).head();
            let mut changed = call.old.differing(&call.new).into_iter();
            let value = |head: &[(String, Value)], key: &str| {
                let found = head.iter().find(|(own, _)| own == key);
                found.map(|(_, value)| value.clone())
            };
            accepted.is_empty() || changed.any(|key| value(&new, &key) != value(accepted, &key))
        });
    }

    /// The number of the next call: above those that wait.
    pub fn next_call(&self) -> u64 {
        let ids = self.pending.iter().map(|call| call.id);
        ids.max().map_or(0, |id| id.saturating_add(1))
    }

    /// Takes over the present `control_config.json`.
    ///
    /// # Errors
    /// Why the proxy would refuse it together with the settings by API; nothing has changed then.
    pub fn configure(&mut self, settings: &Settings) -> Result<(), Faults> {
        if self.base_settings != settings.proxy {
            let plan = Plan::of_head(self.runtime_settings.over(&settings.proxy).head());
            let changed = self.base_settings.differing(&settings.proxy);
            let body = file_as_call(&changed, &settings.proxy);
            let placed = |faults| in_file(as_called(faults, &plan, &body));
            plan.check(&self.own.of_proxy()).map_err(placed)?;
            let default = Kind::Listener.key(DEFAULT_NAME);
            let faults = self.conflicts_with_control(&plan, |key| {
                changed.contains(key) || key == default && changed.contains("listen")
            });
            if !faults.is_empty() {
                return Err(placed(faults));
            }
            self.base_settings = settings.proxy.clone();
            self.revision += 1;
        }
        self.policy = settings.expiry;
        self.max_registrations = settings.admission.max_backends;
        Ok(())
    }
}
