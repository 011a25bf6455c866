//! [`Places`], shared by the connections of an accept loop.

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::places::{Id, PlaceBounds, Places};

/// How long a new connection is never closed for another one: by then, what it has sent has been read.
const NEW: Duration = Duration::from_millis(100);

/// The connections of one accept loop, or of several with common bounds.
pub struct Crowd<K>(Arc<Inner<K>>);

struct Inner<K> {
    places: Mutex<Places<K, Arc<Notify>>>,
    /// Notified when there may be room.
    room: Notify,
}

impl<K> Clone for Crowd<K> {
    fn clone(&self) -> Crowd<K> {
        Crowd(self.0.clone())
    }
}

/// One connection's place; free again when dropped.
pub struct Place<K: Copy + Eq + Hash> {
    crowd: Crowd<K>,
    id: Id,
    close: Arc<Notify>,
    /// Its answer has not been handed over in full.
    is_answering: AtomicBool,
    /// A request is in progress, until its answer has been sent.
    is_busy: AtomicBool,
}

impl<K: Copy + Eq + Hash> Crowd<K> {
    pub fn new(bounds: PlaceBounds) -> Crowd<K> {
        Crowd(Arc::new(Inner {
            places: Mutex::new(Places::new(bounds)),
            room: Notify::new(),
        }))
    }

    pub fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// Waits until another connection may come.
    pub async fn room(&self) {
        loop {
            // Created before the check, so that no notification is missed in between.
            let bell = self.0.room.notified();
            if self.has_room() {
                return;
            }
            bell.await;
        }
    }

    /// A place for a connection of `of`; another connection may be closed for it. `None`: no place is free.
    pub fn enter(&self, of: K) -> Option<Arc<Place<K>>> {
        let close = Arc::new(Notify::new());
        let entered = self.lock().enter(of, close.clone())?;
        if let Some(closed) = entered.closed {
            closed.notify_one();
        }
        Some(Arc::new(Place {
            crowd: self.clone(),
            id: entered.id,
            close,
            is_answering: AtomicBool::new(false),
            is_busy: AtomicBool::new(false),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Places<K, Arc<Notify>>> {
        self.0
            .places
            .lock()
            .expect("no holder of this lock panics: it only counts")
    }
}

impl<K: Copy + Eq + Hash> Place<K> {
    /// Ends when the connection is to be closed for another one; to be polled beside it.
    pub async fn closed(&self) {
        tokio::time::sleep(NEW).await;
        self.settle();
        self.close.notified().await;
    }

    fn settle(&self) {
        self.crowd.lock().settle(self.id);
        self.crowd.0.room.notify_waiters();
    }

    /// This number of bytes has arrived.
    pub fn read(&self, bytes: usize) {
        if self.is_busy.load(Relaxed) {
            return;
        }
        let closed = self.crowd.lock().read(self.id, bytes);
        closed.iter().for_each(|closed| closed.notify_one());
    }

    /// A request has come and is being answered.
    pub fn begin(&self) {
        self.is_answering.store(true, Relaxed);
        self.is_busy.store(true, Relaxed);
        self.crowd.lock().begin(self.id);
    }

    /// The whole answer has been handed over for sending.
    pub fn answered(&self) {
        self.is_answering.store(false, Relaxed);
    }

    /// Everything handed over has been sent.
    pub fn flushed(&self) {
        if !self.is_answering.load(Relaxed) && self.is_busy.swap(false, Relaxed) {
            self.crowd.lock().end(self.id);
            self.crowd.0.room.notify_waiters();
        }
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        self.crowd.lock().leave(self.id);
        self.crowd.0.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    fn crowd_of_one() -> Crowd<()> {
        Crowd::new(PlaceBounds {
            all: 1,
            of_one: 1,
            unfinished: 1_000,
        })
    }

    async fn is_closed(place: &Place<()>) -> bool {
        timeout(SOON, place.closed()).await.is_ok()
    }

    async fn finds_room(crowd: &Crowd<()>) -> bool {
        timeout(SOON, crowd.room()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_told_to_close_and_one_that_is_answered_is_waited_for() {
        let crowd = crowd_of_one();
        let silent = crowd.enter(()).expect("room");
        assert!(crowd.enter(()).is_none(), "it has just come");
        // Whoever waits for room hears that there is some.
        let (room, closed) = tokio::join!(finds_room(&crowd), is_closed(&silent));
        assert!(room && !closed);
        let asking = crowd.enter(()).expect("the silent one makes room");
        assert!(is_closed(&silent).await);
        drop(silent);
        asking.begin();
        assert!(!is_closed(&asking).await);
        // Not idle before the answer is handed over, and sent.
        for step in [Place::flushed, Place::answered] {
            step(&asking);
            assert!(!finds_room(&crowd).await && crowd.enter(()).is_none());
        }
        let sent = async {
            tokio::task::yield_now().await;
            asking.flushed();
        };
        assert!(tokio::join!(finds_room(&crowd), sent).0);
        assert!(crowd.enter(()).is_some() && is_closed(&asking).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_when_it_is_dropped() {
        let crowd = crowd_of_one();
        let busy = crowd.enter(()).expect("room");
        busy.begin();
        assert!(!crowd.has_room());
        drop(busy);
        assert!(crowd.enter(()).is_some());
    }
}
