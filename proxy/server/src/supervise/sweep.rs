//! What is looked at once a second, if there is anything: endpoints that nobody needs any more, listeners that could
//! not be bound, and this host's addresses.

use std::net::IpAddr;

use proxy_engine::Command;

use super::listeners::status::words;
use super::{Supervisor, refusals};
use crate::config_file;

impl Supervisor {
    /// Whether something waits for [`Supervisor::close_unused`], [`Supervisor::try_listeners`] or
    /// [`Supervisor::look_at_addresses`].
    pub fn needs_sweep(&self) -> bool {
        let state = self.state();
        let is_trying = state.is_trying(&self.confinement);
        state.listeners.has_retired() || is_trying || state.is_watching_addresses()
    }

    /// Closes retired endpoints that nobody needs any more.
    pub async fn close_unused(&self) {
        let unused = self.state().listeners.take_unused();
        if !unused.is_empty() {
            let close = || unused.iter().copied().map(Command::Close).collect();
            self.workers.tell_all(close).await;
        }
    }

    /// Tries again to listen where that was not possible.
    pub async fn try_listeners(&self) {
        let told = {
            let mut state = self.state();
            if !state.is_trying(&self.confinement) {
                return;
            }
            let change = state.listeners.retry();
            change.map(|change| {
                let addresses = config_file::local_addresses();
                let checked = state.file.take();
                let checked = checked.expect("kept for as long as a listener is tried");
                let told = state.install(change, checked, &addresses, &self.limits);
                (told, addresses)
            })
        };
        let Some((told, addresses)) = told else {
            // Why it is refused may have changed.
            return self.tell_refusals();
        };
        let (listeners, refusals) = self.carry_out(told).await;
        tracing::info!("listening listen={}", words(&listeners));
        self.running.send_modify(|running| {
            running.listeners = listeners;
            running.addresses = addresses.0;
            refusals::update(&mut running.refusals, refusals);
        });
    }

    /// Judges the backends again where this host's addresses are others than when the file was read: one
    /// of them may have become a listener of ours, or be none any more.
    pub async fn look_at_addresses(&self) {
        if !self.state().is_watching_addresses() {
            return;
        }
        let addresses = config_file::local_addresses();
        // A host without any has failed to say.
        let is_known = !addresses.0.is_empty();
        if !is_known || is_same_set(&addresses.0, &self.running.borrow().addresses) {
            return;
        }
        let told = {
            let mut state = self.state();
            state.file.take().and_then(|checked| {
                let open = state.listeners.addresses();
                let (_, skipped) = checked.while_listening(&open, &addresses);
                if skipped == state.skipped {
                    state.file = Some(checked);
                    return None;
                }
                let change = state.listeners.no_change();
                Some(state.install(change, checked, &addresses, &self.limits))
            })
        };
        if let Some(told) = told {
            self.carry_out(told).await;
        }
        let refusals = self.state().refusals(&self.confinement);
        self.running.send_modify(|running| {
            running.addresses = addresses.0;
            refusals::update(&mut running.refusals, refusals);
        });
    }
}

fn is_same_set(one: &[IpAddr], other: &[IpAddr]) -> bool {
    let contains = |all: &[IpAddr], some: &[IpAddr]| some.iter().all(|addr| all.contains(addr));
    contains(one, other) && contains(other, one)
}
