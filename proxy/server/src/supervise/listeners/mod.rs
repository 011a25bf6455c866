//! The listeners: what is accepted on, what the configuration asks for beyond that, and what is still
//! open for those of an earlier one. Binds on the main thread; the workers only accept.
//!
//! Each listener, known by its name, changes as a whole: as long as one of its new endpoints cannot be
//! bound, those of its last accepted ones that nobody else asks for serve on, and nothing new is accepted
//! for it. The others do not wait for it.

pub mod change;
pub mod sockets;
pub mod status;
pub mod wanted;

use std::collections::HashMap;
use std::net::SocketAddr;

use contract::Name;
use contract::refusal::Refusal;
use contract::status::ListenerStatus;
use proxy_core::plan::{Endpoint, Plan, Protocol, plan};
use proxy_core::retirement::Endpoints;
use proxy_engine::Command;
use proxy_engine::clock::monotonic_ms;
use proxy_engine::listen::BindError;

use self::change::Change;
use self::sockets::{BoundSockets, Sockets};
use self::wanted::{Wanted, names};
use super::refusals;
use crate::sandbox::Confinement;

#[derive(Debug)]
pub struct Listeners {
    sockets: Sockets,
    /// What is accepted on, and what the configuration has given up but may ask for again.
    endpoints: Endpoints,
    wanted: Vec<Wanted>,
    /// Why what is accepted on is not what is wanted; in the order of `wanted`, by its places.
    unbound: Vec<(String, BindError)>,
    /// For which listener each endpoint accepts, as the last configuration says that names it.
    names: HashMap<Endpoint, Name>,
}

impl Listeners {
    /// Binds what can be bound of `wanted` for a start. What else this process needs of its rights may
    /// then be given up; the workers accept once they carry out [`Listeners::accept_on`].
    pub fn bind(wanted: Vec<Wanted>, worker_count: usize) -> (Listeners, BoundSockets) {
        let mut listeners = Listeners {
            sockets: Sockets::new(worker_count),
            endpoints: Endpoints::default(),
            unbound: Vec::new(),
            names: names(&wanted),
            wanted: Vec::new(),
        };
        let mut sockets = BoundSockets::new();
        for listener in &wanted {
            let (bound, _) = listeners.bind_of(listener, listener.endpoints.clone(), false);
            sockets.extend(bound);
        }
        let bound = sockets.iter().map(|(endpoint, _)| *endpoint);
        listeners.endpoints.open(bound);
        listeners.wanted = wanted;
        (listeners, sockets)
    }

    /// Asks for `wanted` from now on, instead of what was asked for until now.
    pub fn change_to(&mut self, wanted: Vec<Wanted>) -> Change {
        let before = self.names.clone();
        self.names.extend(names(&wanted));
        self.wanted = wanted;
        self.change(&before)
    }

    /// `names` says for which listener each open endpoint accepted until now.
    fn change(&mut self, names: &HashMap<Endpoint, Name>) -> Change {
        let wanted = std::mem::take(&mut self.wanted);
        let all: Vec<Endpoint> = wanted
            .iter()
            .flat_map(|one| one.endpoints.iter().copied())
            .collect();
        let serving: Vec<Endpoint> = self.endpoints.serving().collect();
        let Plan { mut close, .. } = plan(&serving, &all);
        let mut sockets = BoundSockets::new();
        let mut revive = Vec::new();
        self.unbound.clear();
        for listener in &wanted {
            let Plan { open, .. } = plan(&serving, &listener.endpoints);
            let (back, new): (Vec<Endpoint>, Vec<Endpoint>) = open
                .into_iter()
                .partition(|endpoint| self.endpoints.is_retired(endpoint));
            let is_own = |endpoint: &Endpoint| names.get(endpoint) == Some(&listener.name);
            let gives_up = close.iter().any(is_own);
            // With nothing to give up, what can be bound serves already.
            let (bound, are_all) = self.bind_of(listener, new, gives_up);
            if gives_up && !are_all {
                close.retain(|endpoint| !is_own(endpoint));
                continue;
            }
            revive.extend(back);
            sockets.extend(bound);
        }
        self.wanted = wanted;
        self.endpoints.revive(&revive);
        self.endpoints.retire(&close, monotonic_ms());
        self.endpoints
            .open(sockets.iter().map(|(endpoint, _)| *endpoint));
        Change {
            open: self.sockets.accept_on(sockets),
            revive,
            retire: close,
        }
    }

    /// Tries again what could not be bound. `None` where nothing has come of that.
    pub fn retry(&mut self) -> Option<Change> {
        let tried: Vec<_> = std::mem::take(&mut self.unbound)
            .into_iter()
            .map(|(place, error)| (self.sockets.try_one(error.endpoint), place, error))
            .collect();
        let is_hopeful = tried.iter().any(|(outcome, ..)| outcome.is_ok());
        self.unbound = tried
            .into_iter()
            .map(|(outcome, place, error)| (place, outcome.err().unwrap_or(error)))
            .collect();
        if !is_hopeful {
            return None;
        }
        let before: Vec<Endpoint> = self.endpoints.serving().collect();
        let change = self.change(&self.names.clone());
        (!self.endpoints.serving().eq(before)).then_some(change)
    }

    /// Whether trying again may help.
    pub fn is_trying(&self, confinement: &Confinement) -> bool {
        // One listener's stand together.
        let mut listeners = self.unbound.chunk_by(|(one, _), (other, _)| one == other);
        let helps = |(_, error): &(String, BindError)| !refusals::needs_restart(error, confinement);
        listeners.any(|listener| listener.iter().all(helps))
    }

    /// What is asked for and not accepted on.
    pub fn refusals(&self, confinement: &Confinement, now_ms: u64) -> Vec<Refusal> {
        let refusals = self.unbound.iter();
        refusals
            .map(|(place, error)| refusals::of_endpoint(error, place, confinement, now_ms))
            .collect()
    }

    /// What would be refused of `wanted`. Binds what is not held yet, and releases it at once.
    pub fn try_out(
        &self,
        wanted: &[Wanted],
        confinement: &Confinement,
        now_ms: u64,
    ) -> Vec<Refusal> {
        let each = wanted.iter().flat_map(|listener| {
            let endpoints = listener.endpoints.iter();
            endpoints.map(move |endpoint| (&listener.place, *endpoint))
        });
        let new = each.filter(|(_, endpoint)| !self.endpoints.is_held(endpoint));
        let errors = new.filter_map(|(place, endpoint)| {
            let error = self.sockets.try_one(endpoint).err()?;
            Some(refusals::of_endpoint(&error, place, confinement, now_ms))
        });
        errors.collect()
    }

    /// Whether all that is asked for is accepted on.
    pub fn is_settled(&self) -> bool {
        self.unbound.is_empty()
    }

    /// What is accepted on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let serving = self.endpoints.serving();
        serving.map(|endpoint| endpoint.addr).collect()
    }

    /// Whether an address that this host gains is accepted on.
    pub fn take_all_addresses(&self) -> bool {
        let mut serving = self.endpoints.serving();
        serving.any(|endpoint| endpoint.addr.ip().is_unspecified())
    }

    fn is_wanted(&self, endpoint: &Endpoint) -> bool {
        let mut wanted = self.wanted.iter();
        wanted.any(|listener| listener.endpoints.contains(endpoint))
    }

    /// What is accepted on, an address of a listener once.
    pub fn status(&self) -> Vec<ListenerStatus> {
        let nobody = Name::default();
        let named = |endpoint| (endpoint, self.names.get(&endpoint).unwrap_or(&nobody));
        status::of(self.endpoints.serving().map(named))
    }

    /// Retired TCP endpoints, which still accept.
    pub fn retired(&self) -> Vec<SocketAddr> {
        let retired = self.endpoints.retired();
        let tcp = retired.filter(|endpoint| endpoint.protocol == Protocol::Tcp);
        tcp.map(|endpoint| endpoint.addr).collect()
    }

    /// Forgets the retired TCP endpoints at `addrs`, and returns them to be closed.
    pub fn give_up(&mut self, addrs: &[SocketAddr]) -> Vec<Endpoint> {
        self.endpoints.give_up(addrs)
    }

    pub fn has_retired(&self) -> bool {
        self.endpoints.retired().next().is_some()
    }

    /// Retired endpoints that are to be closed. They are forgotten here.
    pub fn take_unused(&mut self) -> Vec<Endpoint> {
        let flows = |endpoint: &Endpoint| self.sockets.flows(endpoint);
        let unused = self.endpoints.take_unused(flows, monotonic_ms());
        self.sockets.forget_closed();
        let mut names = std::mem::take(&mut self.names);
        names.retain(|endpoint, _| self.is_wanted(endpoint) || self.endpoints.is_held(endpoint));
        self.names = names;
        unused
    }

    /// Every endpoint, retired ones included, for an end; nothing is tried again from here on.
    pub fn take_all(&mut self) -> Vec<Endpoint> {
        self.wanted.clear();
        self.unbound.clear();
        self.endpoints.take_all()
    }

    /// Each worker's commands to accept on what was bound for a start.
    pub fn accept_on(&mut self, sockets: BoundSockets) -> Vec<Vec<Command>> {
        self.sockets.accept_on(sockets)
    }

    /// The snapshot is another, and the listeners stay.
    pub fn no_change(&self) -> Change {
        Change {
            open: self.sockets.no_commands(),
            revive: Vec::new(),
            retire: Vec::new(),
        }
    }

    /// Binds `endpoints` of `listener` as [`Sockets::bind_each`] does, and notes those that cannot be.
    /// Returns what was bound, and whether that is all.
    fn bind_of(
        &mut self,
        listener: &Wanted,
        endpoints: Vec<Endpoint>,
        together: bool,
    ) -> (BoundSockets, bool) {
        let (bound, unbound) = self.sockets.bind_each(endpoints, together);
        let are_all = unbound.is_empty();
        let unbound = unbound.into_iter();
        self.unbound
            .extend(unbound.map(|error| (listener.place.clone(), error)));
        (bound, are_all)
    }
}

#[cfg(test)]
pub mod tests;
