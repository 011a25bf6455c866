//! The sockets of endpoints: bound here, one a worker, and known for as long as a worker has one open.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use proxy_core::plan::Endpoint;
use proxy_core::retirement::EndpointUse;
use proxy_engine::Command;
use proxy_engine::listen::{self, BindError};

/// Of each endpoint, a socket a worker.
pub type BoundSockets = Vec<(Endpoint, Vec<OwnedFd>)>;

#[derive(Debug)]
pub struct Sockets {
    worker_count: usize,
    /// What the workers have of each endpoint. They hold it too for as long as their sockets are open, retired
    /// ones included.
    uses: HashMap<Endpoint, Arc<EndpointUse>>,
}

impl Sockets {
    /// None, for so many workers.
    pub fn new(worker_count: usize) -> Sockets {
        Sockets {
            worker_count,
            uses: HashMap::new(),
        }
    }

    /// Binds what can be bound of `endpoints`; all of them or none if `together`. All are tried before
    /// the first one listens, so that nobody is accepted where that is given up again.
    pub fn bind_each(
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

    /// Whether `endpoint` can be bound now; takes nothing.
    pub fn try_one(&self, endpoint: Endpoint) -> Result<(), BindError> {
        listen::try_out(endpoint, self.holds_port_of(endpoint))
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

    /// Each worker's commands, none so far.
    pub fn no_commands(&self) -> Vec<Vec<Command>> {
        (0..self.worker_count).map(|_| Vec::new()).collect()
    }

    /// Over all workers.
    pub fn flows(&self, endpoint: &Endpoint) -> u64 {
        self.uses.get(endpoint).map_or(0, |one| one.flows())
    }

    /// Forgets what no worker has open any more.
    pub fn forget_closed(&mut self) {
        self.uses.retain(|_, one| Arc::strong_count(one) > 1);
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
