//! The UDP listeners of a worker: their sockets, and whom they take new flows for.

use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use proxy_core::flow::listening::{Listening, Sockets};
use proxy_core::flow_table::FlowKey;
use proxy_core::ids::ListenerId;
use proxy_core::plan::Endpoint;
use proxy_core::retirement::{EndpointUse, Life};
use proxy_core::snapshot::Snapshot;
use proxy_sys::datagrams::{Datagram, Route};
use slab::Slab;

use crate::own_address::is_of_this_host;
use crate::worker::context::Context;
use crate::worker::poller::{Interest, Token};

/// One socket that takes datagrams in.
pub struct Listener {
    pub is: Listening,
    pub socket: OwnedFd,
    /// Nothing says that a read would block.
    pub is_ready: bool,
    /// Flows of this endpoint over all workers.
    pub in_use: Arc<EndpointUse>,
    /// Datagrams that the kernel had no room for, as it told last.
    lost: u32,
}

impl Listener {
    /// How answers reach the client of `key`. A socket bound to one address needs not be told which
    /// they leave from.
    pub fn route_to(&self, key: &FlowKey) -> Route {
        let listen = self.is.endpoint.addr;
        let to = match key.client {
            SocketAddr::V4(v4) if listen.is_ipv6() => {
                SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()))
            }
            client => client,
        };
        let from = key.local_ip.filter(|_| listen.ip().is_unspecified());
        Route { to, from }
    }

    /// Datagrams that the kernel has dropped since it told last: it counts `lost` in all.
    pub fn lost_since(&mut self, lost: u32) -> usize {
        let before = std::mem::replace(&mut self.lost, lost);
        lost.wrapping_sub(before) as usize
    }
}

/// The listeners of a worker.
#[derive(Default)]
pub struct Listeners(Slab<Listener>);

impl Sockets for Listeners {
    fn all(&self) -> impl Iterator<Item = (usize, &Listening)> {
        self.0.iter().map(|(place, listener)| (place, &listener.is))
    }

    fn at(&self, place: usize) -> &Listening {
        &self.0[place].is
    }

    fn is_of_this_host(&self, addr: SocketAddr) -> bool {
        is_of_this_host(addr)
    }
}

impl Listeners {
    pub fn open(
        &mut self,
        context: &Context,
        endpoint: Endpoint,
        listener: ListenerId,
        socket: OwnedFd,
        in_use: Arc<EndpointUse>,
    ) -> rustix::io::Result<()> {
        let entry = self.0.vacant_entry();
        let token = Token::UdpListener(entry.key() as u32);
        context.poller.watch(&socket, token, Interest::Arrivals)?;
        entry.insert(Listener {
            is: Listening::new(endpoint, listener),
            socket,
            is_ready: true,
            in_use,
            lost: 0,
        });
        Ok(())
    }

    /// Has what is open take new flows for those whom `snapshot` names.
    pub fn reroute(&mut self, snapshot: &Snapshot) {
        for (_, Listener { is, .. }) in &mut self.0 {
            let listener = snapshot.listener_at(is.endpoint, Some(is.listener));
            is.listener = listener.unwrap_or(is.listener);
        }
    }

    /// The listeners that sockets are open for.
    pub fn open_for(&self) -> impl Iterator<Item = ListenerId> {
        self.all().map(|(_, one)| one.listener)
    }

    /// Of each socket of `endpoint`.
    pub fn lives_at(&mut self, endpoint: Endpoint) -> impl Iterator<Item = &mut Life> {
        let all = self.0.iter_mut();
        let all = all.map(|(_, listener)| &mut listener.is);
        all.filter(move |is| is.endpoint == endpoint)
            .map(|is| &mut is.life)
    }

    pub fn event(&mut self, index: u32) {
        if let Some(listener) = self.0.get_mut(index as usize) {
            listener.is_ready = true;
        }
    }

    pub fn get(&self, place: usize) -> &Listener {
        &self.0[place]
    }

    pub fn get_mut(&mut self, place: usize) -> &mut Listener {
        &mut self.0[place]
    }

    /// Places of sockets, some of them empty.
    pub fn places(&self) -> usize {
        self.0.capacity()
    }

    pub fn is_ready(&self, place: usize) -> bool {
        let listener = self.0.get(place);
        listener.is_some_and(|listener| listener.is_ready)
    }

    pub fn is_any_ready(&self) -> bool {
        self.0.iter().any(|(_, listener)| listener.is_ready)
    }

    /// Closes the sockets whose life is over.
    pub fn remove_closed(&mut self) {
        self.0.retain(|_, listener| !listener.is.life.is_closed());
    }

    /// Whose flow a datagram that came by the socket at `place` belongs to; `None` where nobody says who sent it.
    pub fn key_of(&self, place: usize, datagram: Datagram<'_>) -> Option<FlowKey> {
        let source = datagram.source?;
        let listening = self.at(place);
        Some(FlowKey {
            client: canonical(source),
            local_ip: listening.local_ip(datagram.local_ip),
            port: listening.endpoint.addr.port(),
        })
    }
}

/// An IPv4 client of an IPv6 socket is one of IPv4. A link-local one can only be answered where its
/// link is named, and the same address on another link is another client.
fn canonical(source: SocketAddr) -> SocketAddr {
    match source {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into()
        }
        source => SocketAddr::new(source.ip().to_canonical(), source.port()),
    }
}
