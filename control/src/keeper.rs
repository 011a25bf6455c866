//! The keeper: the one task that changes the model and stores it.
//!
//! A mutation is stored before it is answered, and is not made if it cannot be stored (the model changes
//! only after the store has). Mutations that wait at the same time share one write. Sources are read here
//! too, so that an edit by others and a write by control never overtake each other.

pub mod discovery;
mod passing;
mod task;

use std::sync::Arc;

use contract::Faults;
use contract::publish::PublishError;
use tokio::sync::{mpsc, oneshot};

use crate::actor::Actor;
use crate::model::{Change, Mutation, Refusal};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::sources::Source;
use crate::store::Store;

pub use task::Task;

/// How many commands wait at most; more wait in their connections.
const QUEUE: usize = 1024;

/// A mutation that was carried out.
#[derive(Debug)]
pub struct Stored {
    pub change: Change,
    /// The model's revision that contains it.
    pub revision: u64,
}

/// A mutation that was not stored, or may be lost.
#[derive(Debug, thiserror::Error)]
pub enum NotStored {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("nothing was changed: {place} cannot be written: {error}")]
    Store {
        place: String,
        error: Arc<PublishError>,
    },
    #[error("{place}: {error}")]
    NotLasting {
        place: String,
        error: Arc<PublishError>,
    },
    #[error("the control server is stopping")]
    Stopping,
}

enum Command {
    Mutate(Box<Request>),
    /// Read the sources again now.
    ReadSources(oneshot::Sender<()>),
    /// Take over the present `control_config.json`.
    Configure(Arc<Settings>, oneshot::Sender<Result<(), Faults>>),
    Stop(oneshot::Sender<()>),
}

struct Request {
    mutation: Mutation,
    actor: Actor,
    reply: oneshot::Sender<Result<Stored, NotStored>>,
}

/// The handle of the keeper for other tasks.
#[derive(Clone)]
pub struct Keeper(mpsc::Sender<Command>);

impl Keeper {
    /// Starts the keeper.
    pub fn start(shared: Arc<Shared>, store: impl Store, sources: Vec<Source>) -> Keeper {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(Task::new(shared, store, sources).run(receiver));
        Keeper(sender)
    }

    /// Carries out and stores a mutation, and writes its line in the audit log.
    pub async fn mutate(&self, mutation: Mutation, actor: Actor) -> Result<Stored, NotStored> {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            mutation,
            actor,
            reply,
        };
        let sent = self.0.send(Command::Mutate(Box::new(request))).await;
        sent.map_err(|_| NotStored::Stopping)?;
        answer.await.map_err(|_| NotStored::Stopping)?
    }

    /// Reads the sources now; returns when the model has their content.
    pub async fn read_sources(&self) {
        let (reply, done) = oneshot::channel();
        if self.0.send(Command::ReadSources(reply)).await.is_ok() {
            // A keeper that stops has nothing more to read.
            let _ = done.await;
        }
    }

    /// Takes over the present `control_config.json`.
    ///
    /// # Errors
    /// Why the proxy would refuse it; nothing has changed then.
    pub async fn configure(&self, settings: Arc<Settings>) -> Result<(), Faults> {
        let (reply, done) = oneshot::channel();
        let sent = self.0.send(Command::Configure(settings, reply)).await;
        // A keeper that stops takes over nothing more.
        match sent {
            Ok(()) => done.await.unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }

    /// Stores the heartbeats since the last write, and ends.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.0.send(Command::Stop(reply)).await.is_ok() {
            let _ = done.await;
        }
    }
}

#[cfg(test)]
mod tests;
