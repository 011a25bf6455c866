//! Reloads that are asked for over the admin socket, for those who cannot send a signal.

use contract::status::Running;
use tokio::sync::{mpsc, oneshot};

/// Asks for a reload, each answered with what runs after it.
pub struct ReloadAsks(mpsc::Receiver<oneshot::Sender<Running>>);

/// Where the admin socket asks for reloads.
pub type ReloadAsk = mpsc::Sender<oneshot::Sender<Running>>;

/// Those who wait for one reload.
pub struct Waiting(Vec<oneshot::Sender<Running>>);

/// For at most so many who ask at once.
pub fn channel(most: usize) -> (ReloadAsk, ReloadAsks) {
    let (ask, asks) = mpsc::channel(most);
    (ask, ReloadAsks(asks))
}

impl ReloadAsks {
    /// Awaits somebody who asks, and takes along all who do by then: one reload that begins after
    /// their asking serves them all. Never ends once nobody can ask any more.
    pub async fn recv(&mut self) -> Waiting {
        let Some(first) = self.0.recv().await else {
            return std::future::pending().await;
        };
        let others = std::iter::from_fn(|| self.0.try_recv().ok());
        Waiting(std::iter::once(first).chain(others).collect())
    }
}

impl Waiting {
    pub fn answer(self, running: &Running) {
        for waiting in self.0 {
            // Whoever has gone needs no answer.
            let _ = waiting.send(running.clone());
        }
    }
}
