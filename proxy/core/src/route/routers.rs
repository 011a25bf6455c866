//! The routers of one worker.

use std::net::IpAddr;

use super::{Preface, Routed, Router, Target};
use crate::held_listeners::HeldListeners;
use crate::ids::{ById, ListenerId, PoolId};
use crate::snapshot::Snapshot;

/// One for each listener that the worker holds.
#[derive(Debug, Default)]
pub struct Routers(ById<Router>);

impl Routers {
    /// Goes on for `held` by the routes of `snapshot`. A listener that it does not name any more keeps its last
    /// routes; a pool that is gone stays gone for them, whichever pool has its id later.
    pub fn update(&mut self, snapshot: &Snapshot, held: &HeldListeners) {
        let routers = held.ids().map(|listener| {
            let before = self.0.take(listener);
            (listener, followed(before, listener, snapshot, held))
        });
        let routers: Vec<(ListenerId, Router)> = routers.collect();
        self.0 = ById::collect(routers);
    }

    /// Where a session or flow of `listener` goes; see [`Router::route`].
    #[inline]
    pub fn route(&mut self, listener: ListenerId, ip: IpAddr, preface: Preface<'_>) -> Routed {
        match self.0.get_mut(listener) {
            Some(router) => router.route(ip, preface),
            None => Routed::NoRoute,
        }
    }
}

fn followed(
    before: Option<Router>,
    listener: ListenerId,
    snapshot: &Snapshot,
    held: &HeldListeners,
) -> Router {
    let routes = match (snapshot.routes_of(listener), &before) {
        (Some(routes), _) => routes.clone(),
        (None, before) => {
            let last = before
                .as_ref()
                .map_or(&held.rules(listener).routes, |before| &before.routes);
            last.map(|target| match snapshot.pool(target.pool) {
                Some(_) => *target,
                None => Target {
                    pool: PoolId::NONE,
                    ..*target
                },
            })
        }
    };
    match before {
        Some(mut router) => {
            router.follow(routes);
            router
        }
        None => Router::new(routes),
    }
}
