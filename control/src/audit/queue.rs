//! A thread that writes the audit log, so that a disk that does not respond delays only callers that wait
//! for their line, and those not for long.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::log::{Line, Log};

/// Lines that wait for the disk; more are lost, and counted.
const MOST: usize = 4_096;
/// How long an answer waits for its line.
const PATIENCE: Duration = Duration::from_secs(1);

pub enum Job {
    Write(Line),
    /// Write what was lost.
    Retry,
}

pub struct Queue {
    jobs: SyncSender<Job>,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Progress {
    counts: Mutex<Counts>,
    /// Rung whenever a job is done.
    done: Condvar,
}

#[derive(Default)]
struct Counts {
    asked: u64,
    done: u64,
    /// How many lines were written when a caller gave up waiting; until another one is written, no caller
    /// waits.
    stuck_at: Option<u64>,
}

impl Counts {
    fn is_stuck(&self) -> bool {
        self.stuck_at == Some(self.done) && self.asked > self.done
    }
}

impl Queue {
    pub fn start(log: Arc<Log>) -> io::Result<Queue> {
        let (jobs, receiver) = sync_channel(MOST);
        let progress = Arc::new(Progress::default());
        let ours = progress.clone();
        let thread = std::thread::Builder::new().name("audit".to_owned());
        thread.spawn(move || work(&log, &receiver, &ours))?;
        Ok(Queue { jobs, progress })
    }

    pub fn push(&self, log: &Log, job: Job) {
        let mut counts = self.progress.counts();
        match self.jobs.try_send(job) {
            Ok(()) => counts.asked += 1,
            Err(TrySendError::Full(Job::Retry)) => {}
            Err(TrySendError::Full(Job::Write(_)) | TrySendError::Disconnected(_)) => {
                log.lose("the disk does not answer");
            }
        }
    }

    /// How many lines wait for a disk that does not answer.
    pub fn stuck(&self) -> Option<u64> {
        let counts = self.progress.counts();
        counts.is_stuck().then(|| counts.asked - counts.done)
    }

    /// Waits until all that was pushed so far is written or lost, within reason.
    pub async fn settle(&self) {
        let target = {
            let counts = self.progress.counts();
            match counts.done >= counts.asked || counts.is_stuck() {
                true => return,
                false => counts.asked,
            }
        };
        let progress = self.progress.clone();
        let waited = tokio::task::spawn_blocking(move || progress.wait(target));
        waited.await.expect("waiting does not panic");
    }
}

impl Progress {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts
            .lock()
            .expect("no holder of this lock panics: it only counts")
    }

    fn wait(&self, target: u64) {
        let counts = self.counts();
        let is_waiting = |counts: &mut Counts| counts.done < target && !counts.is_stuck();
        let waited = self.done.wait_timeout_while(counts, PATIENCE, is_waiting);
        let (mut counts, timeout) = waited.expect("no holder of this lock panics: it only counts");
        if timeout.timed_out() && !counts.is_stuck() {
            counts.stuck_at = Some(counts.done);
            tracing::error!("the audit log's disk does not respond; new lines wait in memory");
            self.done.notify_all();
        }
    }
}

fn work(log: &Log, jobs: &Receiver<Job>, progress: &Progress) {
    for job in jobs {
        match job {
            Job::Write(line) => log.write(line),
            Job::Retry => log.retry(),
        }
        let mut counts = progress.counts();
        if counts.is_stuck() {
            tracing::warn!("the audit log's disk responds again");
        }
        counts.done += 1;
        progress.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::Map;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn lines_wait_for_a_disk_within_bounds_and_who_asks_waits_only_once() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (clock, _) = Clock::by_hand();
        let path = temp.path().join("audit.log");
        let log = Arc::new(Log::open(&path, 1 << 30, 1, clock.clone()));
        let queue = Queue::start(log.clone()).expect("a thread");
        let push = || {
            let line = Line {
                at: clock.now(),
                actor: "test".to_owned(),
                action: "write",
                target: "target".to_owned(),
                result: "ok".to_owned(),
                more: Map::new(),
            };
            queue.push(&log, Job::Write(line));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        let settle = || runtime.block_on(queue.settle());
        push();
        settle();
        assert_eq!((log.counts(), queue.stuck()), ((1, 0), None));

        let held = log.hold();
        let began = Instant::now();
        push();
        // The thread has taken it, and waits.
        settle();
        assert!(began.elapsed() >= PATIENCE);
        assert_eq!(queue.stuck(), Some(1));
        let began = Instant::now();
        for _ in 0..MOST + 10 {
            push();
            settle();
        }
        assert!(began.elapsed() < PATIENCE, "nobody else waits");
        assert_eq!(
            (log.counts(), queue.stuck()),
            ((1, 10), Some(MOST as u64 + 1))
        );

        drop(held);
        settle();
        let began = Instant::now();
        while log.counts().0 < MOST as u64 + 3 {
            assert!(
                began.elapsed() < 30 * PATIENCE,
                "what waited is not written"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        // The line that says how many are lost is one more.
        assert_eq!(log.counts(), (MOST as u64 + 3, 10));
        assert_eq!(log.failing(), None);
    }
}
