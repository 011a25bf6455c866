//! Which pool a new session or flow of a listener goes to: the first route that matches it, and there the pool whose
//! turn it is.
//!
//! A worker has one [`Router`] for each listener. It asks for a session's TLS ClientHello ([`hello`]) only if a
//! route that may match the client's address needs it.

pub mod hello;
mod routers;
mod split;

use std::net::IpAddr;

use contract::route::ServerName;
use contract::{Name, Route, Routes};
use xxhash_rust::xxh3::xxh3_64;

use self::hello::Hello;
pub use self::routers::Routers;
use self::split::SplitTurns;
use crate::ids::PoolId;

/// A pool that a route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its identity in this process.
    pub pool: PoolId,
    /// Of its name, for splits by source.
    seed: u64,
}

impl Target {
    /// The pool of this name.
    pub fn new(pool: PoolId, name: &Name) -> Target {
        Target {
            pool,
            seed: xxh3_64(name.as_str().as_bytes()),
        }
    }
}

/// What is known of what a client says first.
#[derive(Debug, Clone, Copy)]
pub enum Preface<'a> {
    /// Nothing yet.
    Unread,
    /// It begins with this TLS ClientHello.
    Hello(&'a Hello<'a>),
    /// It does not begin with one.
    NotTls,
}

/// Where a session or flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routed {
    /// To a pool.
    To {
        /// [`PoolId::NONE`] where that was removed.
        pool: PoolId,
        /// What the client said in TLS decided it.
        by_tls: bool,
    },
    /// The ClientHello decides.
    AskHello,
    /// No route matches.
    NoRoute,
}

/// The routes of a listener, and whose turn it is in each of their splits.
#[derive(Debug)]
pub struct Router {
    routes: Routes<Target>,
    turns: Vec<SplitTurns>,
}

impl Router {
    /// None has had a turn.
    pub fn new(routes: Routes<Target>) -> Router {
        let turns = routes.0.iter().map(|route| SplitTurns::new(&route.split));
        Router {
            turns: turns.collect(),
            routes,
        }
    }

    /// Goes on as `routes`. A split that is in both, whichever route it belongs to, keeps its turns.
    pub fn follow(&mut self, routes: Routes<Target>) {
        if self.routes == routes {
            return;
        }
        let mut next = Router::new(routes);
        for (route, turns) in next.routes.0.iter().zip(&mut next.turns) {
            let same =
                |(before, _): &(&Route<Target>, &mut SplitTurns)| before.split == route.split;
            if let Some((_, before)) = self.routes.0.iter().zip(&mut self.turns).find(same) {
                std::mem::swap(turns, before);
            }
        }
        *self = next;
    }

    /// Where a session of a client at `ip` goes that begins so. A route that leads to several pools gives it the turn
    /// of one of them.
    #[inline]
    pub fn route(&mut self, ip: IpAddr, preface: Preface<'_>) -> Routed {
        let mut routes = self.routes.0.iter().enumerate();
        let found = routes.find(|(_, route)| may_match(route, ip, preface));
        let Some((at, route)) = found else {
            return Routed::NoRoute;
        };
        if route.asks_tls() && matches!(preface, Preface::Unread) {
            return Routed::AskHello;
        }
        Routed::To {
            pool: self.turns[at].next(&route.split, ip),
            by_tls: route.asks_tls(),
        }
    }
}

/// Whether it matches, or would with a ClientHello that has yet to come.
fn may_match(route: &Route<Target>, ip: IpAddr, preface: Preface<'_>) -> bool {
    if route
        .source
        .as_ref()
        .is_some_and(|source| !source.contain(ip))
    {
        return false;
    }
    match preface {
        Preface::Unread => true,
        Preface::NotTls => !route.asks_tls(),
        Preface::Hello(hello) => {
            let is_named = |sni: &Vec<ServerName>| {
                hello
                    .server_name
                    .is_some_and(|name| sni.iter().any(|one| one.covers(name)))
            };
            let offers = |alpn: &Vec<String>| {
                let mut offered = hello.protocols();
                offered.any(|one| alpn.iter().any(|own| own.as_bytes() == one))
            };
            route.sni.as_ref().is_none_or(is_named) && route.alpn.as_ref().is_none_or(offers)
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{Networks, Split, SplitBy};

    use super::*;
    use crate::ids::Names;

    /// Pools `0..count`.
    fn pools(count: u8) -> Vec<Target> {
        let mut names: Names<PoolId, ()> = Names::default();
        let named = (0..count).map(|at| Name::new(&format!("p{at}")).expect("a name"));
        named
            .map(|name| Target::new(names.intern(&name, |_| ()), &name))
            .collect()
    }

    fn route(pool: Target) -> Route<Target> {
        Route {
            source: None,
            sni: None,
            alpn: None,
            split: Split::to(pool),
        }
    }

    fn networks(text: &str) -> Networks {
        Networks::from_iter([text.parse().expect("a network")])
    }

    fn names(names: &[&str]) -> Option<Vec<ServerName>> {
        let names = names
            .iter()
            .map(|name| ServerName::new(name).expect("a name"));
        Some(names.collect())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    const OFFERS_H2: &[u8] = b"\x02h2\x08http/1.1";
    const OFFERS_HTTP_1: &[u8] = b"\x08http/1.1";

    #[test]
    fn the_first_route_that_matches_wins_and_keys_are_anded_and_their_values_ored() {
        let pool = pools(4);
        let mut router = Router::new(Routes(vec![
            Route {
                sni: names(&["a.example", "*.b.example"]),
                alpn: Some(vec!["h2".into(), "h3".into()]),
                ..route(pool[0])
            },
            Route {
                source: Some(networks("10.0.0.0/8")),
                ..route(pool[1])
            },
            Route {
                sni: names(&["a.example"]),
                source: Some(networks("2001:db8::/32")),
                ..route(pool[2])
            },
            route(pool[3]),
        ]));
        let (here, there, sixth) = ("10.1.2.3", "192.0.2.1", "2001:db8::1");
        for (from, name, alpn, right) in [
            (there, "a.example", OFFERS_H2, 0),
            (here, "A.EXAMPLE", OFFERS_H2, 0),
            (there, "c.B.example", OFFERS_H2, 0),
            (there, "b.example", OFFERS_H2, 3),
            (there, "a.example", OFFERS_HTTP_1, 3),
            (there, "a.example", b"", 3),
            (here, "a.example", OFFERS_HTTP_1, 1),
            (sixth, "a.example", OFFERS_HTTP_1, 2),
            (sixth, "a.example", OFFERS_H2, 0),
            (sixth, "", OFFERS_H2, 3),
        ] {
            let hello = Hello {
                server_name: (!name.is_empty()).then_some(name.as_bytes()),
                alpn,
            };
            let Routed::To { pool: to, by_tls } = router.route(ip(from), Preface::Hello(&hello))
            else {
                panic!("no route for {from} {name}");
            };
            assert_eq!(to, pool[right].pool, "{from} {name}");
            assert_eq!(by_tls, [0, 2].contains(&right));
        }
        for (from, right) in [(here, 1), (there, 3), (sixth, 3)] {
            let to = Routed::To {
                pool: pool[right].pool,
                by_tls: false,
            };
            assert_eq!(router.route(ip(from), Preface::NotTls), to);
        }
    }

    #[test]
    fn the_hello_is_asked_for_only_if_it_may_decide() {
        let pool = pools(2);
        let by_source = |network: &str| Route {
            source: Some(networks(network)),
            ..route(pool[0])
        };
        let by_name = Route {
            sni: names(&["a.example"]),
            ..route(pool[1])
        };
        let mut router = Router::new(Routes(vec![
            by_source("10.0.0.0/8"),
            by_name,
            by_source("::/0"),
        ]));
        let mut unread = |from: &str| router.route(ip(from), Preface::Unread);
        let to = Routed::To {
            pool: pool[0].pool,
            by_tls: false,
        };
        assert_eq!(unread("10.0.0.1"), to);
        assert_eq!(unread("192.0.2.1"), Routed::AskHello);
        assert_eq!(unread("::1"), Routed::AskHello);
        assert_eq!(router.route(ip("::1"), Preface::NotTls), to);
        assert_eq!(
            router.route(ip("192.0.2.1"), Preface::NotTls),
            Routed::NoRoute
        );
    }

    #[test]
    fn a_split_keeps_its_turns_over_reloads_that_change_other_things() {
        let pool = pools(3);
        let split = |shares: [u16; 2]| Route {
            split: Split {
                shares: vec![(pool[0], shares[0]), (pool[1], shares[1])],
                by: SplitBy::Turn,
            },
            ..route(pool[0])
        };
        let others = |name: &str| Route {
            sni: names(&[name]),
            ..route(pool[2])
        };
        let mut router = Router::new(Routes(vec![split([3, 1])]));
        let mut counts = [0; 2];
        for turn in 0..400 {
            if turn % 2 == 1 {
                let name = if turn % 4 == 1 { "a" } else { "b" };
                router.follow(Routes(vec![others(name), split([3, 1])]));
            }
            let Routed::To { pool: to, .. } = router.route(ip("::1"), Preface::NotTls) else {
                panic!("no route");
            };
            counts[usize::from(to == pool[1].pool)] += 1;
        }
        assert_eq!(counts, [300, 100]);
        router.follow(Routes(vec![split([0, 1])]));
        let to = Routed::To {
            pool: pool[1].pool,
            by_tls: false,
        };
        assert!((0..10).all(|_| router.route(ip("::1"), Preface::NotTls) == to));
    }
}
