//! The listeners: what is accepted on, what the configuration asks for beyond that, and what is still
//! open for those of an earlier one. Binds on the main thread; the workers only accept.
//!
//! Each listener, known by its name, changes as a whole: as long as one of its new endpoints cannot be
//! bound, those of its last accepted ones that nobody else asks for serve on, and nothing new is accepted
//! for it. The others do not wait for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use contract::refusal::Refusal;
use contract::status::ListenerStatus;
use contract::{Checked, Name};
use proxy_core::plan::{Endpoint, Plan, Protocol, endpoints_of, plan};
use proxy_core::retirement::{EndpointUse, Endpoints};
use proxy_engine::Command;
use proxy_engine::clock::monotonic_ms;
use proxy_engine::listen::{self, BindError};

use super::refusals;
use crate::sandbox::Confinement;

/// Of each endpoint, a socket a worker.
pub type BoundSockets = Vec<(Endpoint, Vec<OwnedFd>)>;

/// What the configuration asks for with one listener.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub name: Name,
    /// JSON pointer of the listener in the file.
    pub place: String,
    pub endpoints: Vec<Endpoint>,
}

impl Wanted {
    /// All that a file asks for.
    pub fn of(checked: &Checked) -> Vec<Wanted> {
        let listeners = checked.config.listeners.iter();
        let wanted = listeners.map(|listener| Wanted {
            name: listener.name.clone(),
            place: checked.place_of(&listener.name).to_owned(),
            endpoints: endpoints_of(listener).collect(),
        });
        wanted.collect()
    }
}

#[derive(Debug)]
pub struct Listeners {
    worker_count: usize,
    /// What is accepted on, and what the configuration has given up but may ask for again.
    endpoints: Endpoints,
    wanted: Vec<Wanted>,
    /// Why what is accepted on is not what is wanted; in the order of `wanted`, by its places.
    unbound: Vec<(String, BindError)>,
    /// What the workers have of each endpoint. They hold it too for as long as their sockets are open, retired
    /// ones included.
    uses: HashMap<Endpoint, Arc<EndpointUse>>,
    /// For which listener each endpoint accepts, as the last configuration says that names it.
    names: HashMap<Endpoint, Name>,
}

/// What the workers are told of a change of the listeners.
#[derive(Debug)]
pub struct Change {
    /// Of each worker.
    open: Vec<Vec<Command>>,
    revive: Vec<Endpoint>,
    retire: Vec<Endpoint>,
}

impl Change {
    /// Each worker's commands: it does `first`, accepts on what is new, and gives up what is old.
    pub fn after(self, first: impl Fn() -> Command) -> Vec<Vec<Command>> {
        let mut commands = self.open;
        for commands in &mut commands {
            commands.insert(0, first());
            commands.extend(self.revive.iter().copied().map(Command::Revive));
            commands.extend(self.retire.iter().copied().map(Command::Retire));
        }
        commands
    }
}

impl Listeners {
    /// Binds what can be bound of `wanted` for a start. What else this process needs of its rights may
    /// then be given up; the workers accept once they carry out [`Listeners::accept_on`].
    pub fn bind(wanted: Vec<Wanted>, worker_count: usize) -> (Listeners, BoundSockets) {
        let mut listeners = Listeners {
            worker_count,
            endpoints: Endpoints::default(),
            unbound: Vec::new(),
            names: names(&wanted),
            wanted: Vec::new(),
            uses: HashMap::new(),
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
            open: self.accept_on(sockets),
            revive,
            retire: close,
        }
    }

    /// Tries again what could not be bound. `None` where nothing has come of that.
    pub fn retry(&mut self) -> Option<Change> {
        let tried: Vec<_> = std::mem::take(&mut self.unbound)
            .into_iter()
            .map(|(place, error)| (self.try_one(error.endpoint), place, error))
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
            let error = self.try_one(endpoint).err()?;
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
        let mut listeners: Vec<ListenerStatus> = Vec::new();
        for endpoint in self.endpoints.serving() {
            let addr = endpoint.addr;
            let name = self.names.get(&endpoint).cloned().unwrap_or_default();
            let name = name.as_str();
            let (tcp, udp) = match endpoint.protocol {
                Protocol::Tcp => (true, false),
                Protocol::Udp => (false, true),
            };
            let mut known = listeners.iter_mut();
            match known.find(|one| (one.addr, &*one.name) == (addr, name)) {
                Some(listener) => {
                    listener.tcp |= tcp;
                    listener.udp |= udp;
                }
                None => listeners.push(ListenerStatus {
                    name: name.to_owned(),
                    addr,
                    tcp,
                    udp,
                }),
            }
        }
        listeners
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
        let uses = &self.uses;
        let flows = |endpoint: &Endpoint| uses.get(endpoint).map_or(0, |one| one.flows());
        let unused = self.endpoints.take_unused(flows, monotonic_ms());
        self.uses.retain(|_, one| Arc::strong_count(one) > 1);
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

    /// Each worker's commands to accept on what was bound.
    pub fn accept_on(&mut self, sockets: BoundSockets) -> Vec<Vec<Command>> {
        let mut commands = self.no_commands();
        for (endpoint, sockets) in sockets {
            let in_use = Arc::<EndpointUse>::default();
            self.uses.insert(endpoint, Arc::clone(&in_use));
            for (commands, socket) in commands.iter_mut().zip(sockets) {
                commands.push(Command::Open {
                    endpoint,
                    socket,
                    in_use: Arc::clone(&in_use),
                });
            }
        }
        commands
    }

    pub fn no_change(&self) -> Change {
        Change {
            open: self.no_commands(),
            revive: Vec::new(),
            retire: Vec::new(),
        }
    }

    fn no_commands(&self) -> Vec<Vec<Command>> {
        (0..self.worker_count).map(|_| Vec::new()).collect()
    }

    /// Binds `endpoints` of `listener` as [`bind_each`](Self::bind_each) does, and notes those that cannot be.
    /// Returns what was bound, and whether that is all.
    fn bind_of(
        &mut self,
        listener: &Wanted,
        endpoints: Vec<Endpoint>,
        together: bool,
    ) -> (BoundSockets, bool) {
        let (bound, unbound) = self.bind_each(endpoints, together);
        let are_all = unbound.is_empty();
        let unbound = unbound.into_iter();
        self.unbound
            .extend(unbound.map(|error| (listener.place.clone(), error)));
        (bound, are_all)
    }

    /// Binds what can be bound of `endpoints`; all of them or none if `together`. All are tried before
    /// the first one listens, so that nobody is accepted where that is given up again.
    fn bind_each(
        &self,
        endpoints: Vec<Endpoint>,
        together: bool,
    ) -> (BoundSockets, Vec<BindError>) {
        let (mut bound, mut unbound) = (BoundSockets::new(), Vec::new());
        let mut free = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            match self.try_one(endpoint) {
                Ok(()) => free.push(endpoint),
                Err(error) => unbound.push(error),
            }
        }
        if together && !unbound.is_empty() {
            return (bound, unbound);
        }
        for endpoint in free {
            match listen::bind(endpoint, self.worker_count) {
                Ok(sockets) => bound.push((endpoint, sockets)),
                Err(error) => unbound.push(error),
            }
        }
        if together && !unbound.is_empty() {
            bound.clear();
        }
        (bound, unbound)
    }

    fn try_one(&self, endpoint: Endpoint) -> Result<(), BindError> {
        listen::try_out(endpoint, self.holds_port_of(endpoint))
    }

    /// Whether a worker of ours still has a socket on the port, be it a retired one.
    fn holds_port_of(&self, endpoint: Endpoint) -> bool {
        self.uses.iter().any(|(ours, one)| {
            let is_open = Arc::strong_count(one) > 1;
            let same_port = ours.addr.port() == endpoint.addr.port();
            is_open && same_port && ours.protocol == endpoint.protocol
        })
    }
}

fn names(wanted: &[Wanted]) -> HashMap<Endpoint, Name> {
    let each = wanted.iter().flat_map(|listener| {
        let endpoints = listener.endpoints.iter();
        endpoints.map(|endpoint| (*endpoint, listener.name.clone()))
    });
    each.collect()
}

/// The listeners in a log line, as `127.0.0.1:80/tcp+udp`; `none` where nothing is accepted on.
pub fn words(listeners: &[ListenerStatus]) -> String {
    let word = |listener: &ListenerStatus| {
        let protocols = match (listener.tcp, listener.udp) {
            (true, true) => "tcp+udp",
            (false, true) => "udp",
            (true, false) | (false, false) => "tcp",
        };
        format!("{}/{protocols}", listener.addr)
    };
    match listeners {
        [] => "none".to_owned(),
        some => some.iter().map(word).collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    /// A listener for TCP and UDP.
    fn named(name: &str, addr: SocketAddr) -> Wanted {
        let protocols = [Protocol::Tcp, Protocol::Udp];
        Wanted {
            name: Name::new(name).expect("a name"),
            place: format!("/{name}"),
            endpoints: protocols.map(|protocol| Endpoint { addr, protocol }).into(),
        }
    }

    /// One listener, and nothing else.
    fn listener(addr: SocketAddr) -> Vec<Wanted> {
        vec![named("default", addr)]
    }

    /// An address of loopback that was free a moment ago, for TCP and for UDP.
    pub(crate) fn free() -> SocketAddr {
        for _ in 0..100 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            let addr = listener.local_addr().expect("bound");
            if UdpSocket::bind(addr).is_ok() {
                return addr;
            }
        }
        panic!("no port is free for both");
    }

    fn values(listeners: &Listeners) -> Vec<String> {
        let refusals = listeners.refusals(&Confinement::default(), 0);
        refusals.into_iter().map(|refusal| refusal.value).collect()
    }

    #[test]
    fn a_start_opens_what_is_free_and_the_rest_when_it_is() {
        let addr = free();
        let taken = UdpSocket::bind(addr).expect("free");
        let (mut listeners, bound) = Listeners::bind(listener(addr), 2);
        assert_eq!(bound.len(), 1, "TCP alone");
        let _accepting = listeners.accept_on(bound);
        assert_eq!(words(&listeners.status()), format!("{addr}/tcp"));
        assert_eq!(values(&listeners), [format!("{addr}/udp")]);
        assert!(listeners.retry().is_none());
        assert!(listeners.is_trying(&Confinement::default()));
        drop(taken);
        let change = listeners.retry().expect("it is free");
        assert_eq!(change.open.len(), 2, "a worker each");
        assert_eq!(words(&listeners.status()), format!("{addr}/tcp+udp"));
        assert!(values(&listeners).is_empty());
    }

    #[test]
    fn a_listener_changes_as_a_whole_and_only_when_all_of_it_can_be_bound() {
        let (old, new, newest) = (free(), free(), free());
        let (mut listeners, bound) = Listeners::bind(listener(old), 1);
        let _accepting = listeners.accept_on(bound);
        let taken = UdpSocket::bind(new).expect("free");
        let change = listeners.change_to(listener(new));
        assert!(change.retire.is_empty() && change.open[0].is_empty());
        assert_eq!(words(&listeners.status()), format!("{old}/tcp+udp"));
        assert_eq!(values(&listeners), [format!("{new}/udp")]);
        // What could have been bound of it is free for others.
        drop(TcpListener::bind(new).expect("released"));
        assert!(listeners.retry().is_none());

        // A newer one is tried instead, and the one before no more.
        let change = listeners.change_to(listener(newest));
        assert_eq!((change.retire.len(), change.open[0].len()), (2, 2));
        drop(taken);
        assert!(!listeners.is_trying(&Confinement::default()));
        assert_eq!(words(&listeners.status()), format!("{newest}/tcp+udp"));
        assert!(listeners.has_retired());
    }

    #[test]
    fn a_trial_takes_nothing() {
        let (old, taken) = (free(), free());
        let (mut listeners, bound) = Listeners::bind(listener(old), 1);
        let _accepting = listeners.accept_on(bound);
        let _other = TcpListener::bind(taken).expect("free");
        let tried = |addr| {
            let refusals = listeners.try_out(&listener(addr), &Confinement::default(), 7);
            let values = refusals.into_iter().map(|refusal| refusal.value);
            values.collect::<Vec<_>>()
        };
        assert_eq!(tried(taken), [format!("{taken}/tcp")]);
        assert!(tried(old).is_empty(), "it is ours");
        let all = SocketAddr::from(([0, 0, 0, 0], old.port()));
        assert!(tried(all).is_empty(), "so is its port");
        let nowhere = SocketAddr::from(([192, 0, 2, 1], old.port()));
        assert_eq!(tried(nowhere).len(), 2, "no interface has it");
        let somewhere = free();
        assert!(tried(somewhere).is_empty());
        TcpListener::bind(somewhere).expect("released");
        UdpSocket::bind(somewhere).expect("released");
    }

    #[test]
    fn a_listener_that_gets_another_name_keeps_its_sockets() {
        let addr = free();
        let (mut listeners, bound) = Listeners::bind(vec![named("chat", addr)], 1);
        let _accepting = listeners.accept_on(bound);
        for name in ["chat", "talk"] {
            let change = listeners.change_to(vec![named(name, addr)]);
            assert!(
                change.retire.is_empty() && change.open[0].is_empty(),
                "{name}"
            );
            assert!(!listeners.has_retired());
            assert_eq!(listeners.status()[0].name, name);
        }
    }

    fn status(listeners: &Listeners) -> Vec<String> {
        let status = listeners.status();
        let mut all: Vec<String> = status
            .iter()
            .map(|one| format!("{} {}", one.name, words(std::slice::from_ref(one))))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_listener_that_cannot_move_keeps_its_own_and_the_others_do_not_wait() {
        let [a, b, to, other] = [free(), free(), free(), free()];
        let before = vec![named("a", a), named("b", b), named("c", other)];
        let (mut listeners, bound) = Listeners::bind(before, 1);
        let _accepting = listeners.accept_on(bound);
        let taken = UdpSocket::bind(to).expect("free");
        let new = free();
        let wanted = vec![named("b", new), named("a", to)];
        let change = listeners.change_to(wanted);
        assert_eq!(
            (change.retire.len(), change.open[0].len()),
            (4, 2),
            "b moves, c ends"
        );
        let right = [format!("a {a}/tcp+udp"), format!("b {new}/tcp+udp")];
        assert_eq!(status(&listeners), right);
        let refusals = listeners.refusals(&Confinement::default(), 0);
        let refused = refusals.iter().map(|one| (&*one.place, one.value.clone()));
        assert_eq!(refused.collect::<Vec<_>>(), [("/a", format!("{to}/udp"))]);
        drop(taken);
        let change = listeners.retry().expect("it is free");
        assert_eq!((change.retire.len(), change.open[0].len()), (2, 2));
        let right = [format!("a {to}/tcp+udp"), format!("b {new}/tcp+udp")];
        assert_eq!(status(&listeners), right);
        assert!(listeners.is_settled());
    }

    #[test]
    fn listeners_that_change_addresses_among_themselves_open_and_close_nothing() {
        let [a, b] = [free(), free()];
        let (mut listeners, bound) = Listeners::bind(vec![named("a", a), named("b", b)], 1);
        let _accepting = listeners.accept_on(bound);
        let change = listeners.change_to(vec![named("a", b), named("b", a)]);
        assert!(change.retire.is_empty() && change.open[0].is_empty());
        let right = [format!("a {b}/tcp+udp"), format!("b {a}/tcp+udp")];
        assert_eq!(status(&listeners), right);
    }

    #[test]
    fn an_address_that_another_asks_for_is_not_kept() {
        let [a, to] = [free(), free()];
        let (mut listeners, bound) = Listeners::bind(vec![named("a", a)], 1);
        let _accepting = listeners.accept_on(bound);
        let _taken = UdpSocket::bind(to).expect("free");
        let change = listeners.change_to(vec![named("a", to), named("b", a)]);
        assert!(change.retire.is_empty());
        let right = [format!("a {to}/tcp"), format!("b {a}/tcp+udp")];
        assert_eq!(status(&listeners), right, "a has nothing to give up");
    }
}
