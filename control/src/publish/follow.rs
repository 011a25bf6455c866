//! The publisher follows the proxy: what it runs, what it refuses, and when that is over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::status::Running;
use contract::{Refusal, RefusalCode};

use super::confirm::{Answer, Seen};
use super::refusals::{Incident, Process};
use super::task::Task;
use crate::observe::Unknown;
use crate::own_addresses::{OwnAddresses, ProxyAddresses};
use crate::render::Plan;

/// A generation that the proxy refused as a whole is signalled again after this number of looks, then
/// after twice as many, up to the maximum.
const FIRST_LOOKS: u32 = 4;
const MOST_LOOKS: u32 = 64;
/// Consecutive looks without an answer after which a proxy counts as silent: on a busy machine a single one
/// fails now and then.
const SILENT_LOOKS: u32 = 3;
/// How long a start waits for the answer of a proxy that already runs.
const FIRST_PATIENCE: Duration = Duration::from_millis(500);

impl Task {
    /// The first step: reads the status of a proxy that already runs, publishes, and looks.
    pub async fn begin(&mut self) {
        // A proxy that answers slowly is followed by the first look that gets an answer.
        let _ = tokio::time::timeout(FIRST_PATIENCE, self.hear()).await;
        self.reconcile().await;
        self.look().await;
    }

    /// Asks the proxy what it runs, and follows that.
    pub async fn look(&mut self) -> Option<Running> {
        let running = match self.proxy.generation(0, Duration::ZERO).await {
            Ok(running) => running,
            Err(unknown) => {
                self.unheard += 1;
                let is_silent = self.unheard >= SILENT_LOOKS && self.was_heard;
                let silent = is_silent.then(|| unknown.to_string());
                self.outcome.send_modify(|outcome| {
                    outcome.seen = None;
                    outcome.silent = silent;
                });
                return None;
            }
        };
        if self.take(&running).await {
            self.reconcile().await;
        }
        Some(running)
    }

    /// Asks the same of a proxy that has not been heard yet; the caller publishes.
    pub(super) async fn hear(&mut self) {
        if let Ok(running) = self.proxy.generation(0, Duration::ZERO).await {
            self.take(&running).await;
        }
    }

    /// Follows what the proxy has answered to a publish.
    pub(super) async fn follow(&mut self, answer: Answer) {
        if let Some(running) = &answer.running
            && self.take(running).await
        {
            self.reconcile().await;
        }
        self.outcome.send_modify(|outcome| {
            outcome.followed = outcome.followed.max(answer.generation);
        });
    }

    /// Takes over the proxy's status; true if something else must be published now.
    async fn take(&mut self, running: &Running) -> bool {
        let is_behind = self.take_over(running);
        self.keep_accepted().await;
        is_behind
    }

    fn take_over(&mut self, running: &Running) -> bool {
        let shared = self.shared.clone();
        self.unheard = 0;
        self.was_heard = true;
        self.outcome
            .send_if_modified(|outcome| outcome.silent.take().is_some());
        let seen_generation = &shared.seen_generation;
        // A generation that the proxy refused counts too: its refusal must not be attributed to a generation of control.
        let tried = running.last_reload.as_ref().and_then(|r| r.generation);
        let latest = running.generation.max(tried.unwrap_or(0));
        seen_generation.fetch_max(latest, Ordering::Relaxed);
        let learned = {
            let own = ProxyAddresses::of(running);
            let mut model = shared.model();
            let is_new = model.own.proxy != own;
            model.own.proxy = own;
            is_new
        };
        let Some(published) = &self.published else {
            return learned;
        };
        let generation = published.generation;
        let is_foreign = shared.digests().is_foreign(running, generation);
        let seen = Seen::of(&shared, running, generation);
        let before = self.holds.incidents().to_vec();
        let sent_at_ms = {
            let outcome = self.outcome.borrow();
            let sent = outcome.sent.as_ref();
            sent.filter(|sent| sent.generation == generation)
                .map(|sent| sent.at_ms)
        };
        let refused = refused_as_a_whole(running, generation, sent_at_ms);
        if let Some(refusals) = refused.filter(|_| !seen.applied) {
            self.holds
                .refuse(&published.plan, &refusals, Some(Process::of(running)));
        } else if seen.applied && running.generation == generation {
            match running.last_reload.as_ref().filter(|reload| !reload.ok) {
                None => {
                    let (plan, refusals) = (&published.plan, &running.refusals);
                    self.holds.accept(plan, refusals, Process::of(running));
                }
                // It runs control's file, so a later refusal concerns another file. The outcome of the
                // last signal may still be missing.
                Some(reload) if sent_at_ms.is_none_or(|at_ms| reload.at_ms > at_ms) => {
                    let refusals = &running.refusals;
                    self.holds
                        .refuse_file(reload, refusals, Process::of(running));
                }
                Some(_) => {}
            }
        }
        self.tell_incidents();
        if seen.other_file.is_some()
            && self
                .outcome
                .borrow()
                .seen
                .as_ref()
                .is_none_or(|seen| seen.other_file.is_none())
        {
            tracing::error!("not applied: {}", seen.reason.clone().unwrap_or_default());
        }
        self.outcome
            .send_modify(|outcome| outcome.seen = Some(seen));
        let has_changed = self.holds.incidents() != before;
        if is_foreign {
            self.overrule(running, generation);
        }
        learned || is_foreign || has_changed
    }

    /// The proxy has read a file that another program wrote. The wanted configuration is published again
    /// with a higher generation, whatever the file holds by now.
    fn overrule(&mut self, running: &Running, ours: u64) {
        let path = self.shared.settings.proxy_config_path.display().to_string();
        let theirs = running.generation;
        tracing::warn!(
            "{path} was replaced by others: the proxy runs their generation {theirs}, not the published \
             {ours}; publishing again with a higher generation"
        );
        self.shared.audit_own(
            "publisher",
            "file_edit",
            &path,
            "replaced by others, and the proxy read it; published again",
        );
        self.published = None;
    }

    /// Whether control itself refuses something of `plan` that is not held already.
    pub(super) fn refuse_before(&mut self, plan: &Plan, own: &OwnAddresses) -> bool {
        let now = self.shared.clock.now().unix_ms;
        let mut refusals = refused_by_control(plan, own, now);
        let held = self.holds.incidents();
        refusals.retain(|refusal| {
            let key = plan.key_at(&refusal.place).unwrap_or_default();
            let value = plan.value(&key).cloned().unwrap_or_default();
            !held.iter().any(|incident| incident.refuses(&key, &value))
        });
        if !refusals.is_empty() {
            self.holds.refuse(plan, &refusals, None);
        }
        !refusals.is_empty()
    }

    /// Asks the proxy whether it would take `plan`.
    pub(super) async fn ask_before(&mut self, plan: &Plan) {
        let now = self.shared.clock.now().unix_ms;
        if let Ok(refusals) = self.proxy.check(plan.render(0, now / 1_000)).await {
            let process = self.outcome.borrow().seen.as_ref().map(|seen| seen.process);
            self.holds.refuse(plan, &refusals, process);
        }
    }

    /// Asks the proxy whether it would now accept what it has refused, and releases those parts. For a
    /// proxy that is too old to be asked, or if a caller insists, they are published.
    pub(super) async fn try_again(&mut self, is_forced: bool) {
        let process = self.outcome.borrow().seen.as_ref().map(|seen| seen.process);
        let wanted = self.wanted();
        // A value that is no longer wanted is no longer refused.
        self.holds.stand_in(wanted.plan.clone());
        let (plan, tried) = self.holds.candidate(wanted.plan, process);
        if tried.is_empty() {
            return;
        }
        let now = self.shared.clock.now().unix_ms;
        let by_control = refused_by_control(&plan, &wanted.own, now);
        let count = self.holds.incidents().len();
        match self.proxy.check(plan.render(0, now / 1_000)).await {
            Ok(mut refusals) => {
                refusals.extend(by_control);
                self.holds.tried(&plan, &tried, &refusals, process);
            }
            // An older proxy gets it published, which delays everything else only for that moment.
            Err(unknown) if is_forced || matches!(unknown, Unknown::NoSuchCall { .. }) => {
                if !self.holds.publish_again(&tried) {
                    // The file already has it.
                    self.looks_in_vain = MOST_LOOKS - 1;
                }
                self.holds.refuse(&plan, &by_control, None);
            }
            Err(_) => {}
        }
        if self.holds.incidents().len() < count {
            // The refused file may hold what the proxy would accept now: it is signalled at the next
            // look, without back-off.
            self.looks_in_vain = MOST_LOOKS - 1;
        }
    }

    /// Logs each incident that has begun, and each that is over, since the last call; answers name those
    /// that last.
    pub(super) fn tell_incidents(&mut self) {
        let now = self.holds.incidents();
        let before = &self.told;
        if now == before {
            return;
        }
        let is_in = |list: &[Incident], one: &Incident| {
            let mut list = list.iter();
            list.any(|other| other.part == one.part && other.code == one.code)
        };
        for one in now.iter().filter(|one| !is_in(before, one)) {
            let (code, place) = (one.code.word(), one.part.place());
            let (value, detail) = (&one.value, &one.detail);
            tracing::error!(
                "proxy_refused code={code} place={place} value={value} detail={detail:?}"
            );
        }
        for one in before.iter().filter(|one| !is_in(now, one)) {
            let (code, place, value) = (one.code.word(), one.part.place(), &one.value);
            tracing::info!("proxy_refusal_over code={code} place={place} value={value}");
        }
        self.told = now.to_vec();
        let incidents = Arc::new(self.told.clone());
        self.outcome
            .send_modify(|outcome| outcome.incidents = incidents);
    }

    /// A proxy that was starting, or lost a signal, gets another one. One that has tried this
    /// generation and refused it is signalled again too, with back-off.
    pub(super) async fn signal_again(&mut self, running: &Running) {
        let Some(published) = &self.published else {
            return;
        };
        let outcome = self.outcome.borrow().clone();
        if let Some(sent) = &outcome.sent
            && sent.confirmation.borrow().is_none()
        {
            return;
        }
        let (ours, theirs) = (published.generation, running.generation);
        let is_other = |seen: &Seen| seen.other_file.is_some();
        if theirs >= ours || outcome.seen.as_ref().is_some_and(is_other) {
            self.looks_in_vain = 0;
            return;
        }
        let last = running.last_reload.as_ref();
        if last.and_then(|reload| reload.generation) == Some(ours) {
            self.looks_in_vain += 1;
            let is_due = self.looks_in_vain.is_power_of_two() && self.looks_in_vain >= FIRST_LOOKS;
            if !is_due && !self.looks_in_vain.is_multiple_of(MOST_LOOKS) {
                return;
            }
        }
        let (Ok(told) | Err(told)) = self.tell_proxy().await;
        tracing::warn!("proxy runs an older generation running={theirs} published={ours}: {told}");
    }
}

/// The refusal of `generation` as a whole, of which the proxy was notified at `sent_at_ms`.
fn refused_as_a_whole(
    running: &Running,
    generation: u64,
    sent_at_ms: Option<u64>,
) -> Option<Vec<Refusal>> {
    let reload = running.last_reload.as_ref().filter(|reload| !reload.ok)?;
    let is_ours = match reload.generation {
        Some(tried) => tried == generation,
        // The file could not be read that far: it may be an earlier one of another program.
        None => {
            let is_later = sent_at_ms.is_some_and(|at_ms| reload.at_ms >= at_ms);
            is_later && !running.refusals.is_empty()
        }
    };
    if !is_ours {
        return None;
    }
    if !running.refusals.is_empty() {
        return Some(running.refusals.clone());
    }
    // An older proxy has no codes: it is only known that it refused the file.
    Some(vec![Refusal {
        code: RefusalCode::Invalid,
        place: String::new(),
        value: String::new(),
        detail: reload.reason.clone().unwrap_or_default(),
        since: reload.at_ms,
    }])
}

/// Control's own address cannot be a listen address: one of the two could not be reached.
pub fn refused_by_control(plan: &Plan, own: &OwnAddresses, now_ms: u64) -> Vec<Refusal> {
    let refused = plan.listening().into_iter().filter_map(|listening| {
        let control = own.control_at(&listening)?;
        Some(Refusal {
            code: RefusalCode::AddressInUse,
            place: plan.place_of(&listening.key),
            value: format!("{}/tcp", listening.addr),
            detail: format!("the control server listens on {control}"),
            since: now_ms,
        })
    });
    refused.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::status::Reload;
    use serde_json::json;

    #[test]
    fn a_refusal_without_a_generation_is_ours_only_where_it_came_after_our_signal() {
        const OURS: u64 = 5;
        let refusal = Refusal {
            code: RefusalCode::Invalid,
            place: String::new(),
            value: String::new(),
            detail: String::new(),
            since: 0,
        };
        for (tried, at_ms, sent_at_ms, is_ours) in [
            (Some(5), 10, None, true),
            (Some(4), 30, Some(20), false),
            (None, 10, Some(20), false),
            (None, 30, Some(20), true),
            (None, 30, None, false),
        ] {
            let running = json!({
                "pid": 7, "generation": 4, "digest": "", "loaded_at_ms": 0, "last_reload": null,
                "refusals": [refusal],
            });
            let mut running: Running = serde_json::from_value(running).expect("plain data");
            running.last_reload = Some(Reload {
                at_ms,
                ok: false,
                generation: tried,
                reason: None,
            });
            let found = refused_as_a_whole(&running, OURS, sent_at_ms);
            assert_eq!(found.is_some(), is_ours, "{tried:?} {at_ms} {sent_at_ms:?}");
        }
    }
}
