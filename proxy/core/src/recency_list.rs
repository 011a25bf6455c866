//! Keys in the order of their last use, so that a full table can evict its oldest entry.
//!
//! Keys are indexes into a slab; the list takes eight bytes for each up to the largest one. Every
//! operation is O(1), and none allocates once the largest key has been seen. It keeps no values and
//! knows no time. Invariant: a key is in the list at most once.

use crate::rings::Rings;

/// Stands for both ends: the newest comes next after it, the oldest just before it.
const ENDS: u32 = 0;

/// See the [module](self).
#[derive(Debug)]
pub struct RecencyList {
    /// Key `k` is node `k + 1`.
    rings: Rings,
    len: usize,
}

impl Default for RecencyList {
    fn default() -> Self {
        RecencyList::new()
    }
}

impl RecencyList {
    /// The largest key; one node stands for the ends.
    pub const MAX_KEY: u32 = u32::MAX - 1;

    pub fn new() -> RecencyList {
        RecencyList {
            rings: Rings::with_lone_nodes(1),
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The key whose last use is longest ago.
    pub fn oldest(&self) -> Option<u32> {
        let last = self.rings.previous(ENDS);
        (last != ENDS).then(|| last - 1)
    }

    /// Makes `key` the newest, whether it was in the list or not.
    ///
    /// # Panics
    /// Where the key is above [`MAX_KEY`](Self::MAX_KEY).
    pub fn push_front(&mut self, key: u32) {
        assert!(key <= Self::MAX_KEY, "key {key} is no index of a slab");
        self.rings.grow_to_hold(key + 1);
        self.remove(key);
        self.rings.link_after(ENDS, key + 1);
        self.len += 1;
    }

    /// Makes `key` the newest, if it is in the list.
    pub fn touch(&mut self, key: u32) {
        if self.contains(key) {
            self.rings.unlink(key + 1);
            self.rings.link_after(ENDS, key + 1);
        }
    }

    /// Takes `key` out, if it is in the list.
    pub fn remove(&mut self, key: u32) {
        if self.contains(key) {
            self.rings.unlink(key + 1);
            self.len -= 1;
        }
    }

    fn contains(&self, key: u32) -> bool {
        // A listed key shares its ring with the ends, so it is never lone.
        key <= Self::MAX_KEY && self.rings.holds(key + 1) && !self.rings.is_lone(key + 1)
    }
}
