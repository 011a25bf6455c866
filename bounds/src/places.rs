//! Which connections are held, and which one is closed when they run short.
//!
//! A connection that has not yet sent a whole request costs its client nothing, so a client with many of
//! them could keep all others out. Such connections are closed first, the oldest first; then those that
//! wait for their next request, the longest wait first. One with a request in progress is never closed.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// A connection's number; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

/// What a connection waits for, the first to be closed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Waits {
    /// Its first request has not arrived in full.
    ForRequest,
    ForNext,
}

/// In the order in which they are closed: what it waits for, since when.
type Turn = (Waits, u64, Id);

struct Held<K, C> {
    of: K,
    state: State,
    /// Bytes of a request that is not whole.
    unfinished: usize,
    handle: C,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is new: what it has sent may not have been read yet, so it is not closed.
    New,
    Waits(Turn),
    /// A request is in progress.
    Busy,
}

struct Of {
    count: usize,
    waiting: BTreeSet<Turn>,
}

/// Limits on connections.
#[derive(Debug, Clone, Copy)]
pub struct PlaceBounds {
    pub all: usize,
    /// Of one client.
    pub of_one: usize,
    /// Bytes of requests that are not whole, of all together.
    pub unfinished: usize,
}

/// The connections of clients `K`; each has a handle `C`, by which it is closed.
pub struct Places<K, C> {
    bounds: PlaceBounds,
    held: HashMap<Id, Held<K, C>>,
    of_each: HashMap<K, Of>,
    waiting: BTreeSet<Turn>,
    unfinished: usize,
    /// Grows with each that comes and each that begins to wait.
    next: u64,
}

/// A new connection's place, and what was closed for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Entered<C> {
    pub id: Id,
    pub closed: Option<C>,
}

impl<K: Copy + Eq + Hash, C> Places<K, C> {
    pub fn new(bounds: PlaceBounds) -> Places<K, C> {
        Places {
            bounds,
            held: HashMap::new(),
            of_each: HashMap::new(),
            waiting: BTreeSet::new(),
            unfinished: 0,
            next: 0,
        }
    }

    /// Whether another connection fits, of a client below its limit.
    pub fn has_room(&self) -> bool {
        self.held.len() < self.bounds.all || !self.waiting.is_empty()
    }

    /// Adds a connection; `None` if there is no room, and no connection that may be closed for it: one of
    /// the same client if that client is at its limit, otherwise one of any client.
    pub fn enter(&mut self, of: K, handle: C) -> Option<Entered<C>> {
        let own = self.of_each.get(&of);
        let first = match own {
            Some(own) if own.count >= self.bounds.of_one => Some(own.waiting.first()?),
            Some(_) | None if self.held.len() >= self.bounds.all => Some(self.waiting.first()?),
            Some(_) | None => None,
        };
        let first = first.map(|(_, _, id)| *id);
        let closed = first.and_then(|id| self.leave(id));
        let id = Id(self.count());
        let held = Held {
            of,
            state: State::New,
            unfinished: 0,
            handle,
        };
        self.held.insert(id, held);
        let of = self.of_each.entry(of).or_insert_with(|| Of {
            count: 0,
            waiting: BTreeSet::new(),
        });
        of.count += 1;
        Some(Entered { id, closed })
    }

    /// This number of bytes of an unfinished request has arrived. Returns the connections to close, in the
    /// usual order, so that all such bytes stay within their limit.
    pub fn read(&mut self, id: Id, bytes: usize) -> Vec<C> {
        match self.held.get_mut(&id) {
            Some(held) if held.state != State::Busy => held.unfinished += bytes,
            Some(_) | None => return Vec::new(),
        }
        self.unfinished += bytes;
        let mut closed = Vec::new();
        while self.unfinished > self.bounds.unfinished {
            let holds_some = |(_, _, id): &&Turn| self.held[id].unfinished > 0;
            let first = self.waiting.iter().find(holds_some);
            // Only new connections are left.
            let Some((_, _, first)) = first.copied() else {
                break;
            };
            closed.extend(self.leave(first));
        }
        closed
    }

    /// Its first request has still not arrived in full.
    pub fn settle(&mut self, id: Id) {
        if self.held.get(&id).map(|held| held.state) == Some(State::New) {
            self.wait(id, Some(Waits::ForRequest));
        }
    }

    /// Its request is complete and is being answered. False if it has been closed meanwhile.
    pub fn begin(&mut self, id: Id) -> bool {
        self.wait(id, None)
    }

    /// It has received its answer, and waits for its next request.
    pub fn end(&mut self, id: Id) {
        self.wait(id, Some(Waits::ForNext));
    }

    /// Removes the connection. Returns its handle, unless it was already gone.
    pub fn leave(&mut self, id: Id) -> Option<C> {
        self.wait(id, None);
        let held = self.held.remove(&id)?;
        let of = self.of_each.get_mut(&held.of);
        let of = of.expect("who holds a connection is counted");
        of.count -= 1;
        if of.count == 0 {
            self.of_each.remove(&held.of);
        }
        Some(held.handle)
    }

    fn count(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn wait(&mut self, id: Id, waits: Option<Waits>) -> bool {
        let since = self.count();
        let Some(held) = self.held.get_mut(&id) else {
            return false;
        };
        let of = self.of_each.get_mut(&held.of);
        let of = of.expect("who holds a connection is counted");
        // Bytes of a request count until it is whole, or the connection gone.
        if waits.is_none() {
            self.unfinished -= std::mem::take(&mut held.unfinished);
        }
        let turn = waits.map(|waits| (waits, since, id));
        let state = turn.map_or(State::Busy, State::Waits);
        if let State::Waits(before) = std::mem::replace(&mut held.state, state) {
            self.waiting.remove(&before);
            of.waiting.remove(&before);
        }
        self.waiting.extend(turn);
        of.waiting.extend(turn);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: PlaceBounds = PlaceBounds {
        all: 4,
        of_one: 3,
        unfinished: 100,
    };

    /// Connections are named by their handles; a client is the first letter of it.
    struct World(Places<char, &'static str>, HashMap<&'static str, Id>);

    impl World {
        fn new() -> World {
            World(Places::new(BOUNDS), HashMap::new())
        }

        /// Who is closed for it; `Err` where it is refused.
        fn come(&mut self, name: &'static str) -> Result<Option<&'static str>, ()> {
            let of = name.chars().next().expect("a name");
            let entered = self.0.enter(of, name).ok_or(())?;
            self.1.insert(name, entered.id);
            Ok(entered.closed)
        }

        /// The same of one that says nothing for a while.
        fn enter(&mut self, name: &'static str) -> Result<Option<&'static str>, ()> {
            let closed = self.come(name)?;
            self.0.settle(self.1[name]);
            Ok(closed)
        }

        fn begin(&mut self, name: &str) -> bool {
            self.0.begin(self.1[name])
        }

        fn end(&mut self, name: &str) {
            self.0.end(self.1[name]);
        }
    }

    #[test]
    fn the_oldest_that_has_sent_no_request_makes_room_for_anybody() {
        let mut world = World::new();
        for name in ["a1", "a2", "b1", "c1"] {
            assert_eq!(world.enter(name), Ok(None));
        }
        assert!(world.begin("a1"));
        assert_eq!(world.enter("d1"), Ok(Some("a2")));
        assert!(!world.begin("a2"), "its request comes too late");
        assert_eq!(world.enter("e1"), Ok(Some("b1")));
        assert_eq!(world.0.held.len(), BOUNDS.all);
    }

    #[test]
    fn who_waits_for_its_next_request_is_closed_after_those_and_one_in_progress_never() {
        let mut world = World::new();
        for name in ["a1", "b1", "c1", "d1"] {
            assert_eq!(world.enter(name), Ok(None));
        }
        for name in ["a1", "b1", "c1"] {
            assert!(world.begin(name));
        }
        world.end("b1");
        world.end("a1");
        assert_eq!(world.enter("e1"), Ok(Some("d1")), "silent though younger");
        assert!(world.begin("e1"));
        assert_eq!(world.enter("f1"), Ok(Some("b1")), "idle for longest");
        assert!(world.begin("f1"));
        assert_eq!(world.enter("g1"), Ok(Some("a1")));
        assert!(world.begin("g1"));
        assert!(!world.0.has_room());
        assert_eq!(world.enter("h1"), Err(()), "all are being answered");
        world.end("c1");
        assert!(world.0.has_room());
        assert_eq!(world.enter("h1"), Ok(Some("c1")));
    }

    #[test]
    fn a_client_that_has_enough_makes_room_for_itself_and_for_nobody_else() {
        let mut world = World::new();
        for name in ["b1", "a1", "a2", "a3"] {
            assert_eq!(world.enter(name), Ok(None));
        }
        assert_eq!(world.enter("a4"), Ok(Some("a1")), "not the older b1");
        for name in ["a2", "a3", "a4"] {
            assert!(world.begin(name));
        }
        assert_eq!(world.enter("a5"), Err(()), "b1 is not its own to close");
        assert!(world.begin("b1"), "b1 is as it was");
    }

    #[test]
    fn bytes_of_unfinished_requests_are_bounded_all_together() {
        let mut world = World::new();
        for name in ["d1", "a1", "b1", "c1"] {
            assert_eq!(world.enter(name), Ok(None));
        }
        let (a1, b1, c1) = (world.1["a1"], world.1["b1"], world.1["c1"]);
        assert!(world.0.read(a1, 40).is_empty() && world.0.read(b1, 40).is_empty());
        assert_eq!(world.0.read(c1, 40), ["a1"]);
        assert!(world.begin("b1"), "a request that is whole is none of them");
        assert!(world.0.read(b1, 1_000).is_empty());
        assert!(world.0.read(c1, 60).is_empty());
        assert_eq!(world.0.read(c1, 1), ["c1"]);
        world.end("b1");
        assert_eq!(
            world.0.read(b1, 101),
            ["b1"],
            "a second request counts, too"
        );
        assert_eq!((world.0.unfinished, world.0.held.len()), (0, 1));
        assert!(world.begin("d1"), "who holds nothing stays");
    }

    #[test]
    fn one_that_has_just_come_is_not_closed_before_it_is_read() {
        let mut world = World::new();
        for name in ["a1", "b1", "c1", "d1"] {
            assert_eq!(world.come(name), Ok(None));
        }
        assert!(!world.0.has_room());
        assert_eq!(world.come("e1"), Err(()));
        assert!(world.begin("a1") && world.begin("b1"));
        world.end("b1");
        for name in ["a1", "b1", "c1"] {
            world.0.settle(world.1[name]);
        }
        assert_eq!(world.come("e1"), Ok(Some("c1")), "silent");
        assert_eq!(world.come("f1"), Ok(Some("b1")), "idle, and no silent one");
        assert!(world.0.read(world.1["f1"], 101).is_empty());
        world.0.settle(world.1["f1"]);
        assert_eq!(world.0.read(world.1["f1"], 1), ["f1"]);
    }

    #[test]
    fn nothing_is_kept_of_who_is_gone() {
        let mut world = World::new();
        for name in ["a1", "a2", "b1"] {
            assert_eq!(world.enter(name), Ok(None));
        }
        world.begin("a2");
        for (_, id) in std::mem::take(&mut world.1) {
            assert!(world.0.leave(id).is_some());
            assert!(world.0.leave(id).is_none());
            world.0.end(id);
        }
        assert!(
            world.0.held.is_empty() && world.0.waiting.is_empty() && world.0.of_each.is_empty()
        );
    }
}
