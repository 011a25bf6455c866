//! Keys in the order of their last use, in several lists, so that a full table can evict its oldest entry.
//!
//! Keys are indexes into a slab; all lists together take eight bytes for each up to the largest one. Every
//! operation on a list that is there is O(1), and none allocates once the largest key has been seen. It
//! keeps no values and knows no time. Invariant: a key is in at most one list.

use crate::rings::Rings;

/// Lists that there is room for at first; each takes as much as a key.
const LISTS: u32 = 8;

/// See the [module](self).
#[derive(Debug)]
pub struct RecencyLists {
    /// List `l` is node `l`: the newest comes next after it, the oldest just before it. Key `k` is node
    /// `room + k`.
    rings: Rings,
    room: u32,
    lens: Vec<usize>,
}

impl Default for RecencyLists {
    fn default() -> Self {
        RecencyLists::with_room(LISTS)
    }
}

impl RecencyLists {
    /// The largest key.
    pub const MAX_KEY: u32 = u32::MAX >> 1;
    /// The largest list.
    pub const MAX_LIST: u32 = u32::MAX >> 2;

    fn with_room(room: u32) -> RecencyLists {
        RecencyLists {
            rings: Rings::with_lone_nodes(room),
            room,
            lens: vec![0; room as usize],
        }
    }

    /// How many keys a list has; 0 if there is no such list.
    pub fn len(&self, list: u32) -> usize {
        self.lens.get(list as usize).copied().unwrap_or(0)
    }

    /// Whether a list has no keys.
    pub fn is_empty(&self, list: u32) -> bool {
        self.len(list) == 0
    }

    /// Lists from 0 on, of which some may be empty: there are keys in no others.
    pub fn lists(&self) -> std::ops::Range<u32> {
        0..self.room
    }

    /// The key of `list` whose last use is longest ago.
    pub fn oldest(&self, list: u32) -> Option<u32> {
        if list >= self.room {
            return None;
        }
        let last = self.rings.previous(list);
        (last != list).then(|| last - self.room)
    }

    /// Makes `key`, which is in no list, the newest of `list`.
    ///
    /// # Panics
    /// Where the key is above [`MAX_KEY`](Self::MAX_KEY) or the list above [`MAX_LIST`](Self::MAX_LIST).
    pub fn push_front(&mut self, list: u32, key: u32) {
        assert!(key <= Self::MAX_KEY, "key {key} is no index of a slab");
        assert!(list <= Self::MAX_LIST, "list {list} is too large");
        if list >= self.room {
            self.make_room(list);
        }
        let node = self.room + key;
        self.rings.grow_to_hold(node);
        self.rings.link_after(list, node);
        self.lens[list as usize] += 1;
    }

    /// Makes `key` the newest of `list`, which it is in.
    pub fn touch(&mut self, list: u32, key: u32) {
        let node = self.room + key;
        self.rings.unlink(node);
        self.rings.link_after(list, node);
    }

    /// Takes `key` out of `list`, which it is in.
    pub fn remove(&mut self, list: u32, key: u32) {
        self.rings.unlink(self.room + key);
        self.lens[list as usize] -= 1;
    }

    /// Puts every list where there is room for `list` too.
    fn make_room(&mut self, list: u32) {
        let mut lists = RecencyLists::with_room((list + 1).next_power_of_two());
        for list in self.lists() {
            while let Some(key) = self.oldest(list) {
                self.remove(list, key);
                lists.push_front(list, key);
            }
        }
        *self = lists;
    }
}
