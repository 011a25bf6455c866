//! The workers together: started, told something, ended.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use proxy_core::health::watch::Failing;
use proxy_core::listing::{Listing, OpenId, Wanted};
use proxy_core::snapshot::Snapshot;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::sync::mpsc;

use crate::worker::Worker;
use crate::worker::context::{Parts, Shared};
use crate::worker::counters::WorkerCounters;
use crate::worker::mailbox::{Command, Mailbox};
use crate::worker::scoring_bell::ScoringBell;
use crate::worker::session_log::{Entries, SessionLogger};

/// A worker turns in microseconds; one that has not answered for so long is told of in the log.
const ACK_PATIENCE: Duration = Duration::from_secs(5);

/// The threads of the data path. They go on until [`Workers::stop`].
pub struct Workers {
    handles: Vec<Handle>,
    shared: Arc<Shared>,
    /// Taken when they are stopped.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Handle {
    mailbox: Arc<Mailbox>,
    counters: Arc<WorkerCounters>,
}

impl Workers {
    /// Starts `count` workers that route by `snapshot`, each on a core of its own if `is_pinned` and
    /// with at most `most_pipes` pipes. They tell `reports` of backends that fail, and `ended` of sessions and
    /// flows that have ended.
    pub fn start(
        count: usize,
        is_pinned: bool,
        snapshot: &Arc<Snapshot>,
        most_pipes: usize,
        reports: &mpsc::Sender<Failing>,
        ended: &Entries,
    ) -> std::io::Result<Workers> {
        let shared = Arc::new(Shared::default());
        let cores = if is_pinned {
            allowed_cores()
        } else {
            Vec::new()
        };
        let mut handles = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for worker in 0..count {
            let counters = Arc::<WorkerCounters>::default();
            let mailbox = Arc::new(Mailbox::new()?);
            let parts = Parts {
                worker,
                snapshot: Arc::clone(snapshot),
                shared: Arc::clone(&shared),
                log: SessionLogger::new(ended.clone(), Arc::clone(&counters)),
                counters: Arc::clone(&counters),
                most_pipes,
                reports: reports.clone(),
            };
            let core = cores.get(worker % cores.len().max(1)).copied();
            let run = Worker::new(parts, Arc::clone(&mailbox))?;
            threads.push(spawn(worker, run, core)?);
            handles.push(Handle { mailbox, counters });
        }
        Ok(Workers {
            handles,
            shared,
            threads: Mutex::new(threads),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// Rung when backends become busy.
    pub fn scoring_bell(&self) -> &ScoringBell {
        &self.shared.scoring
    }

    /// What each worker has counted so far.
    pub fn counters(&self) -> impl Iterator<Item = &WorkerCounters> {
        self.handles.iter().map(|handle| &*handle.counters)
    }

    /// Sends each worker its commands. The receiver ends when all have carried them out.
    pub fn send(&self, commands: Vec<Vec<Command>>) -> mpsc::Receiver<()> {
        let (ack, all_done) = mpsc::channel(1);
        for (handle, commands) in self.handles.iter().zip(commands) {
            handle.mailbox.send(commands, ack.clone());
        }
        all_done
    }

    /// Sends each worker its commands and waits until all have carried them out.
    pub async fn tell_each(&self, commands: Vec<Vec<Command>>) {
        let mut all_done = self.send(commands);
        while tokio::time::timeout(ACK_PATIENCE, all_done.recv())
            .await
            .is_err()
        {
            tracing::error!("a worker has not processed its commands for {ACK_PATIENCE:?}");
        }
    }

    /// Tells all workers the same.
    pub async fn tell_all(&self, commands: impl Fn() -> Vec<Command>) {
        self.tell_each(self.handles.iter().map(|_| commands()).collect())
            .await;
    }

    /// The open sessions and flows that are asked for. Workers find them within some turns.
    pub async fn list(&self, wanted: &Wanted) -> Listing {
        let (answer, mut answers) = mpsc::channel(self.count());
        let command = |_| Command::List {
            wanted: wanted.clone(),
            answer: answer.clone(),
        };
        drop(
            self.send(
                self.handles
                    .iter()
                    .map(|handle| vec![command(handle)])
                    .collect(),
            ),
        );
        drop(answer);
        let mut all = Listing::new(wanted.clone());
        while let Some(listing) = answers.recv().await {
            all.merge(listing);
        }
        all
    }

    /// Ends one session or flow. Returns false where it is not open.
    pub async fn end(&self, id: OpenId) -> bool {
        let has_ended = Arc::new(AtomicBool::new(false));
        let commands = (0..self.count()).map(|worker| match worker == id.worker {
            true => vec![Command::End {
                id,
                has_ended: Arc::clone(&has_ended),
            }],
            false => Vec::new(),
        });
        self.tell_each(commands.collect()).await;
        has_ended.load(Relaxed)
    }

    /// Ends every session and flow, and the workers.
    pub async fn stop(&self) {
        self.tell_all(|| vec![Command::Stop]).await;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for worker in threads.drain(..) {
            // A worker that panicked has ended too.
            let _ = worker.join();
        }
    }
}

fn spawn(index: usize, worker: Worker, core: Option<usize>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            core.map_or(Ok(()), keep_on).unwrap_or_else(|error| {
                tracing::warn!("a worker cannot be pinned to core {core:?}: {error}");
            });
            worker.run();
        })
}

/// The cores that this process may run on.
fn allowed_cores() -> Vec<usize> {
    let is_allowed = |allowed: CpuSet| move |core: &usize| allowed.is_set(*core);
    match sched_getaffinity(None) {
        Ok(allowed) => (0..CpuSet::MAX_CPU).filter(is_allowed(allowed)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Keeps the calling thread on `core`.
fn keep_on(core: usize) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)
}
