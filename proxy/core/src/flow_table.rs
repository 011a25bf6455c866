//! The UDP flows of one worker: found by client and local address, bounded, and forgotten when
//! silent. No sockets: what a flow consists of is the caller's.
//!
//! Flows stand in order of their last datagram, a list for each listener and [`Rank`], so that the idle
//! ones and the one to evict are found without a search: idle times and bounds are the listener's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::ids::{Id, ListenerId};
use crate::recency_list::RecencyLists;

/// A flow's identity as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Where its datagrams come from.
    pub client: SocketAddr,
    /// The local address that the client sent to, which answers must come from.
    pub local_ip: Option<IpAddr>,
    /// The local port. Not the listener: a reload may change which of them serves this address.
    pub port: u16,
}

/// How far a flow has come; who has come further is kept longer where room is short. It never falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// No answer yet. A flood of forged sources stays here where nobody answers it.
    Unanswered,
    /// The backend has answered.
    Answered,
    /// The client has sent something since, as one does that got the answer. Whoever forges a source can
    /// send twice too, at the price of an answer's time for each.
    Conversing,
}

/// Each of the lower ranks keeps at least this part of a full table for itself: a flow begins in the
/// lowest one, and with no room there nobody new could be served beside a table full of others.
const LEAST_PART: usize = 8;

/// Lists of a listener, one a rank.
const RANKS: u32 = 3;

/// Where a flow stands in the table; reused once the flow has been removed.
pub type FlowIndex = u32;

#[derive(Debug)]
struct Entry<T> {
    key: FlowKey,
    last_seen_ms: u64,
    listener: ListenerId,
    rank: Rank,
    flow: T,
}

impl<T> Entry<T> {
    fn list(&self) -> u32 {
        list(self.listener, self.rank)
    }
}

fn list(listener: ListenerId, rank: Rank) -> u32 {
    listener.place() as u32 * RANKS + rank as u32
}

/// Flows by key, and those of each listener and rank in the order of their last datagrams. A step costs the
/// same however many flows there are.
#[derive(Debug)]
pub struct FlowTable<T> {
    by_key: HashMap<FlowKey, FlowIndex>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<FlowIndex>,
    lists: RecencyLists,
}

impl<T> Default for FlowTable<T> {
    fn default() -> Self {
        FlowTable {
            by_key: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            lists: RecencyLists::default(),
        }
    }
}

impl<T> FlowTable<T> {
    /// How many flows it has.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The flow with this key.
    pub fn find(&self, key: &FlowKey) -> Option<FlowIndex> {
        self.by_key.get(key).copied()
    }

    /// The flow at `index`, unless it was removed.
    pub fn get(&self, index: FlowIndex) -> Option<(&FlowKey, &T)> {
        let entry = self.entries.get(index as usize)?.as_ref()?;
        Some((&entry.key, &entry.flow))
    }

    /// The same, to change it; the key stays.
    pub fn get_mut(&mut self, index: FlowIndex) -> Option<(&FlowKey, &mut T)> {
        let entry = self.entries.get_mut(index as usize)?.as_mut()?;
        Some((&entry.key, &mut entry.flow))
    }

    /// When a datagram of the flow at `index` passed last.
    pub fn last_seen_ms(&self, index: FlowIndex) -> Option<u64> {
        Some(self.entries.get(index as usize)?.as_ref()?.last_seen_ms)
    }

    /// A datagram passed at `now_ms`, which makes the flow one of `rank`, unless it has come further
    /// already. Time never runs backwards here.
    pub fn touch(&mut self, index: FlowIndex, rank: Rank, now_ms: u64) {
        let entry = self
            .entries
            .get_mut(index as usize)
            .and_then(Option::as_mut);
        let entry = entry.expect("the caller found this flow in the table");
        entry.last_seen_ms = now_ms;
        if rank <= entry.rank {
            return self.lists.touch(entry.list(), index);
        }
        self.lists.remove(entry.list(), index);
        entry.rank = rank;
        self.lists.push_front(entry.list(), index);
    }

    /// Adds a flow of `listener` whose key is not in the table, with no answer yet. The bound is the
    /// caller's: see [`FlowTable::least_missed`].
    pub fn insert(
        &mut self,
        key: FlowKey,
        flow: T,
        listener: ListenerId,
        now_ms: u64,
    ) -> FlowIndex {
        let entry = Some(Entry {
            key,
            last_seen_ms: now_ms,
            listener,
            rank: Rank::Unanswered,
            flow,
        });
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as FlowIndex
            }
        };
        let before = self.by_key.insert(key, index);
        assert!(before.is_none(), "the caller looked for this key before");
        let list = list(listener, Rank::Unanswered);
        self.lists.push_front(list, index);
        index
    }

    /// Takes a flow out; `None` if there is none at `index`.
    pub fn remove(&mut self, index: FlowIndex) -> Option<(FlowKey, T)> {
        let entry = self.entries.get_mut(index as usize)?.take()?;
        self.by_key.remove(&entry.key);
        self.lists.remove(entry.list(), index);
        self.free.push(index);
        Some((entry.key, entry.flow))
    }

    /// The listeners that have flows.
    pub fn listeners(&self) -> impl Iterator<Item = ListenerId> {
        let places = 0..self.lists.lists().end.div_ceil(RANKS);
        let listeners = places.map(|place| ListenerId::of(place as usize));
        listeners.filter(|listener| self.len_of(*listener) > 0)
    }

    /// Flows of a listener.
    pub fn len_of(&self, listener: ListenerId) -> usize {
        let first = list(listener, Rank::Unanswered);
        let lists = first..first + RANKS;
        lists.map(|list| self.lists.len(list)).sum()
    }

    /// The flow of a listener that has been silent for longest, and since when.
    pub fn oldest(&self, listener: ListenerId) -> Option<(FlowIndex, u64)> {
        let first = list(listener, Rank::Unanswered);
        let oldest = (first..first + RANKS).filter_map(|list| self.lists.oldest(list));
        let seen = oldest.map(|index| {
            let entry = self.entries[index as usize].as_ref();
            let entry = entry.expect("listed flows are in the table");
            (index, entry.last_seen_ms)
        });
        seen.min_by_key(|(_, last_seen_ms)| *last_seen_ms)
    }

    /// The flow that makes room for another in a full table: of the listener that has most of them, its
    /// [`least_missed_of`](Self::least_missed_of). So a flood at one listener takes nothing from the others.
    pub fn least_missed(&self) -> Option<FlowIndex> {
        let most = self
            .listeners()
            .max_by_key(|listener| self.len_of(*listener));
        self.least_missed_of(most?)
    }

    /// The flow that makes room for another of its listener: of the lowest rank that holds more than its
    /// least part of the listener's, the one that has been silent for longest.
    ///
    /// A flood of forged sources so takes nothing from flows that were answered, and one that is
    /// answered nothing from clients that go on. A new flow has the time to be answered in which the flood
    /// fills what the higher ranks leave, at least its least part.
    pub fn least_missed_of(&self, listener: ListenerId) -> Option<FlowIndex> {
        let least = self.len_of(listener) / LEAST_PART;
        let lower = [Rank::Unanswered, Rank::Answered].map(|rank| list(listener, rank));
        let spare = lower.into_iter().find(|list| self.lists.len(*list) > least);
        // At most two eighths are in the lower ranks where none has more than its own.
        let highest = list(listener, Rank::Conversing);
        self.lists.oldest(spare.unwrap_or(highest))
    }

    /// Flows, and places between them that some have left: every index is below this.
    pub fn places(&self) -> usize {
        self.entries.len()
    }

    /// The places of all flows, in no order.
    pub fn indices(&self) -> impl Iterator<Item = FlowIndex> {
        self.by_key.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENER: ListenerId = ListenerId::FIRST;

    fn key(port: u16) -> FlowKey {
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        FlowKey {
            client: addr,
            local_ip: None,
            port: 0,
        }
    }

    #[test]
    fn flows_age_in_the_order_of_their_last_datagram() {
        let mut table = FlowTable::default();
        let a = table.insert(key(1), "a", LISTENER, 10);
        let b = table.insert(key(2), "b", LISTENER, 20);
        assert_eq!(table.oldest(LISTENER), Some((a, 10)));
        table.touch(a, Rank::Conversing, 30);
        assert_eq!(table.oldest(LISTENER), Some((b, 20)));
        assert_eq!(table.remove(b).map(|(_, flow)| flow), Some("b"));
        assert_eq!(table.oldest(LISTENER), Some((a, 30)));
        assert_eq!((table.find(&key(1)), table.find(&key(2))), (Some(a), None));
    }

    #[test]
    fn an_index_is_reused_and_a_removed_flow_is_gone() {
        let mut table = FlowTable::default();
        let a = table.insert(key(1), 1, LISTENER, 0);
        assert!(table.remove(a).is_some());
        assert!(table.remove(a).is_none() && table.get(a).is_none());
        assert_eq!(table.insert(key(2), 2, LISTENER, 0), a);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn the_least_missed_goes_first_and_no_rank_loses_its_least_part() {
        let mut table = FlowTable::default();
        let mut insert = |port, rank| {
            let index = table.insert(key(port), rank, LISTENER, u64::from(port));
            table.touch(index, rank, u64::from(port));
        };
        (0..8).for_each(|port| insert(port, Rank::Conversing));
        (8..16).for_each(|port| insert(port, Rank::Answered));
        (16..24).for_each(|port| insert(port, Rank::Unanswered));
        let mut order = Vec::new();
        while let Some(index) = table.least_missed() {
            order.push(table.remove(index).expect("it is listed").1);
            if order.len() == 12 {
                break;
            }
        }
        let (unanswered, answered) = (Rank::Unanswered, Rank::Answered);
        // Of 24, 23, ... flows each lower rank keeps 3, then 2, then 1.
        assert_eq!(order[..5], [unanswered; 5], "down to 3 of 19");
        assert!(order[5..].contains(&answered) && !order.contains(&Rank::Conversing));
        let left = |rank| {
            let left = table.indices().filter_map(|index| table.get(index));
            left.filter(|(_, of)| **of == rank).count()
        };
        assert_eq!(left(Rank::Conversing), 8);
        assert!(left(unanswered) >= 1 && left(answered) >= 1);
    }

    #[test]
    fn a_rank_never_falls() {
        let mut table = FlowTable::default();
        let a = table.insert(key(1), "a", LISTENER, 0);
        table.touch(a, Rank::Answered, 1);
        let b = table.insert(key(2), "b", LISTENER, 2);
        table.touch(a, Rank::Unanswered, 3);
        table.touch(b, Rank::Unanswered, 4);
        assert_eq!(table.least_missed(), Some(b));
        assert_eq!(table.oldest(LISTENER), Some((a, 3)));
    }

    #[test]
    fn a_full_table_takes_room_from_the_listener_that_has_most() {
        let mut table = FlowTable::default();
        // More listeners than there is room for at first.
        let listeners: Vec<ListenerId> = (0..20).map(ListenerId::of).collect();
        for (at, listener) in listeners.iter().enumerate() {
            let at = at as u16;
            // One has two flows more, answered ones, and they began first.
            let count = if at == 7 { 3 } else { 1 };
            for number in 0..count {
                let index = table.insert(key(at * 10 + number), at, *listener, u64::from(number));
                table.touch(index, Rank::Answered, u64::from(number));
            }
        }
        let busy = listeners[7];
        assert_eq!(table.listeners().collect::<Vec<_>>(), listeners);
        assert_eq!((table.len_of(busy), table.len_of(listeners[8])), (3, 1));
        for left in [2, 1] {
            let index = table.least_missed().expect("it is full");
            assert_eq!(table.remove(index).map(|(_, at)| at), Some(7));
            assert_eq!(table.len_of(busy), left);
        }
        let (index, seen_ms) = table.oldest(busy).expect("one is left");
        assert_eq!((table.least_missed_of(busy), seen_ms), (Some(index), 2));
        assert!(table.oldest(ListenerId::of(99)).is_none());
    }
}
