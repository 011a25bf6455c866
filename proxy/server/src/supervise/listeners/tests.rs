use std::net::{SocketAddr, TcpListener, UdpSocket};

use contract::Name;
use proxy_core::plan::{Endpoint, Protocol};

use super::Listeners;
use super::status::words;
use super::wanted::Wanted;
use crate::sandbox::Confinement;

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
pub fn free() -> SocketAddr {
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
