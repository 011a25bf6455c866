//! How new sessions and flows spread over the backends.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use testkit::{Session, UdpClient};

/// Sessions or flows by the name of the backend that they have reached.
pub type Spread = BTreeMap<String, u64>;

/// Clients that ask at the same time in [`of`].
const CLIENTS: u64 = 4;

/// TCP and UDP alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];

    /// The backend that a new session or flow reaches.
    #[track_caller]
    pub fn ask(self, addr: SocketAddr) -> String {
        match self {
            Transport::Tcp => {
                let session = Session::open(addr).expect("a session is served");
                let name = session.backend.clone();
                session
                    .finish()
                    .expect("an echoing backend closes in order");
                name
            }
            Transport::Udp => {
                UdpClient::new(addr)
                    .who()
                    .expect("a flow is served")
                    .backend
            }
        }
    }
}

/// Opens `count` sessions or flows, one after the other.
#[track_caller]
pub fn in_turn(transport: Transport, addr: SocketAddr, count: u64) -> Spread {
    let mut spread = Spread::new();
    for _ in 0..count {
        *spread.entry(transport.ask(addr)).or_default() += 1;
    }
    spread
}

/// Opens `count` sessions or flows, from several clients at the same time.
#[track_caller]
pub fn of(transport: Transport, addr: SocketAddr, count: u64) -> Spread {
    std::thread::scope(|scope| {
        let ask = || in_turn(transport, addr, count / CLIENTS);
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        let mut sum = Spread::new();
        for client in clients {
            for (name, count) in client.join().expect("every session is served") {
                *sum.entry(name).or_default() += count;
            }
        }
        sum
    })
}

/// A spread as a test writes it down.
pub fn spread<const N: usize>(rows: [(&str, u64); N]) -> Spread {
    rows.map(|(name, count)| (name.to_owned(), count)).into()
}

/// Whether each backend has its share of `total` to within `tolerance`, a share of that share.
#[track_caller]
pub fn assert_near(spread: &Spread, shares: &[(&str, f64)], total: u64, tolerance: f64) {
    assert_eq!(spread.values().sum::<u64>(), total, "{spread:?}");
    for (name, share) in shares {
        let right = share * total as f64;
        let found = spread.get(*name).copied().unwrap_or(0) as f64;
        assert!(
            (found - right).abs() <= right * tolerance,
            "{name}: {found} of {total}, should be {right}: {spread:?}"
        );
    }
}
