//! The UDP flows of one worker: found by client and local address, bounded, and forgotten when
//! silent. No sockets: what a flow consists of is the caller's.
//!
//! Flows stand in order of their last datagram, so that the idle ones and the one to evict are
//! found without a search.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::recency_list::RecencyList;

/// A flow's identity as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub client: SocketAddr,
    /// The local address that the client sent to, which answers must come from.
    pub local_ip: Option<IpAddr>,
    /// The local port. Not the listener: a reload may change which of them serves this address.
    pub port: u16,
}

/// Where a flow stands in the table; reused once the flow has been removed.
pub type FlowIndex = u32;

#[derive(Debug)]
struct Entry<T> {
    key: FlowKey,
    last_seen_ms: u64,
    flow: T,
}

#[derive(Debug)]
pub struct FlowTable<T> {
    by_key: HashMap<FlowKey, FlowIndex>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<FlowIndex>,
    recency: RecencyList,
}

impl<T> Default for FlowTable<T> {
    fn default() -> Self {
        FlowTable {
            by_key: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            recency: RecencyList::default(),
        }
    }
}

impl<T> FlowTable<T> {
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub fn find(&self, key: &FlowKey) -> Option<FlowIndex> {
        self.by_key.get(key).copied()
    }

    pub fn get(&self, index: FlowIndex) -> Option<(&FlowKey, &T)> {
        let entry = self.entries.get(index as usize)?.as_ref()?;
        Some((&entry.key, &entry.flow))
    }

    pub fn get_mut(&mut self, index: FlowIndex) -> Option<(&FlowKey, &mut T)> {
        let entry = self.entries.get_mut(index as usize)?.as_mut()?;
        Some((&entry.key, &mut entry.flow))
    }

    /// A datagram passed at `now_ms`. Time never runs backwards here.
    pub fn touch(&mut self, index: FlowIndex, now_ms: u64) {
        let entry = self
            .entries
            .get_mut(index as usize)
            .and_then(Option::as_mut);
        let entry = entry.expect("the caller found this flow in the table");
        entry.last_seen_ms = now_ms;
        self.recency.touch(index);
    }

    /// Adds a flow whose key is not in the table. The bound is the caller's: see
    /// [`FlowTable::oldest`].
    pub fn insert(&mut self, key: FlowKey, flow: T, now_ms: u64) -> FlowIndex {
        let entry = Some(Entry {
            key,
            last_seen_ms: now_ms,
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
        self.recency.push_front(index);
        index
    }

    pub fn remove(&mut self, index: FlowIndex) -> Option<(FlowKey, T)> {
        let entry = self.entries.get_mut(index as usize)?.take()?;
        self.by_key.remove(&entry.key);
        self.recency.remove(index);
        self.free.push(index);
        Some((entry.key, entry.flow))
    }

    /// The flow that has been silent for longest, and since when.
    pub fn oldest(&self) -> Option<(FlowIndex, u64)> {
        let index = self.recency.oldest()?;
        let entry = self.entries[index as usize]
            .as_ref()
            .expect("listed flows are in the table");
        Some((index, entry.last_seen_ms))
    }

    pub fn indices(&self) -> impl Iterator<Item = FlowIndex> {
        self.by_key.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let a = table.insert(key(1), "a", 10);
        let b = table.insert(key(2), "b", 20);
        assert_eq!(table.oldest(), Some((a, 10)));
        table.touch(a, 30);
        assert_eq!(table.oldest(), Some((b, 20)));
        assert_eq!(table.remove(b).map(|(_, flow)| flow), Some("b"));
        assert_eq!(table.oldest(), Some((a, 30)));
        assert_eq!((table.find(&key(1)), table.find(&key(2))), (Some(a), None));
    }

    #[test]
    fn an_index_is_reused_and_a_removed_flow_is_gone() {
        let mut table = FlowTable::default();
        let a = table.insert(key(1), 1, 0);
        assert!(table.remove(a).is_some());
        assert!(table.remove(a).is_none() && table.get(a).is_none());
        assert_eq!(table.insert(key(2), 2, 0), a);
        assert_eq!(table.len(), 1);
    }
}
