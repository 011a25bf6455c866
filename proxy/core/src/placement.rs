//! Where a session or flow goes: a backend of its pool, chosen on a snapshot.

use std::net::IpAddr;
use std::sync::Arc;

use contract::BackendAddr;

use crate::backend::BackendState;
use crate::ids::PoolId;
use crate::pick::{BackendIndex, Request};
use crate::plan::Protocol;
use crate::route::Routers;
use crate::snapshot::Snapshot;

/// A backend that was chosen for one session or flow.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The chosen one.
    pub backend: Arc<BackendState>,
    /// Whether it joins the batch of another.
    pub joins_batch: bool,
}

/// For whom a backend is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Seeking<'a> {
    /// Of the session or flow.
    pub protocol: Protocol,
    /// The pool to choose from.
    pub pool: PoolId,
    /// What `source_hash` goes by.
    pub client_ip: IpAddr,
    /// Those that have failed it.
    pub tried: &'a [BackendAddr],
}

/// What choosing a pool and a backend of it uses up.
#[derive(Debug)]
pub struct Draw<'a> {
    /// For what is left to chance.
    pub random: &'a mut fastrand::Rng,
    /// The turns of splits.
    pub routers: &'a mut Routers,
}

impl Placement {
    /// A backend of the pool, none of those tried; `None` where there is no other, or no such pool any
    /// more: a reload may take it away while a session of it still looks for a backend.
    pub fn choose(
        snapshot: &Snapshot,
        seeking: Seeking<'_>,
        now_us: u64,
        random: &mut fastrand::Rng,
    ) -> Option<Placement> {
        let pool = snapshot.pool(seeking.pool)?;
        let tried = seeking.tried.iter();
        let tried: Vec<BackendIndex> = tried.filter_map(|addr| pool.index_of(*addr)).collect();
        let request = Request {
            client_ip: seeking.client_ip,
            tried: &tried,
        };
        let picked = pool.pick(seeking.protocol, &request, now_us, random)?;
        Some(Placement {
            backend: Arc::clone(pool.backend(picked.backend)),
            joins_batch: picked.joins_batch,
        })
    }
}
