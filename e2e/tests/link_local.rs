//! A client whose address counts on its link alone (RFC 4291) is answered on that link.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use e2e::far_proxy::FarProxy;
use serde_json::json;
use testkit::client::connect;
use testkit::host::Host;
use testkit::ports::free_address_on;
use testkit::{Backend, LONG, Manner, Session, skipped, without_probes};

#[test]
fn a_client_on_the_link_is_served_by_tcp_and_udp() {
    const PORT: u16 = 9_000;
    let Some(host) = Host::new() else {
        return skipped("a network namespace cannot be made here");
    };
    let Some((addr, link)) = host.link_local() else {
        return skipped("there is no IPv6 here");
    };
    let backend = Backend::start_at(free_address_on(host.here), "a", Manner::Echo);
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
    let far = FarProxy::start(host, any, &[backend.addr], without_probes(json!({})));
    let listen: SocketAddr = SocketAddrV6::new(addr, PORT, 0, link).into();

    let client = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a port is free");
    client.connect(listen).expect("there is a route");
    client.set_read_timeout(Some(LONG)).expect("not zero");
    for _ in 0..2 {
        client.send(b"hello").expect("sent");
        let mut answer = [0; 16];
        let length = client.recv(&mut answer).expect("answered");
        assert_eq!(&answer[..length], b"hello");
    }
    assert_eq!(far.proxy.status().totals.counters.flows_total, 1);

    let stream = connect(listen).expect("it listens");
    let mut session = Session::over(stream).expect("served");
    session.echo(b"hello").expect("the same comes back");
}
