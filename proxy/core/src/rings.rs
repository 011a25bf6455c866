//! Doubly linked rings over one array of nodes: the ground of [`TimerWheel`](crate::timer_wheel)
//! and [`RecencyLists`](crate::recency_list).
//!
//! A list is a ring through a node that stands for its ends, so no link is ever absent and nothing
//! has to be told apart when a node leaves: not which list it is in, not whether it is at an end.
//! Invariant: every node is in exactly one ring, a lone one in the ring of itself.

/// Eight bytes a node.
#[derive(Debug, Default)]
pub(crate) struct Rings {
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
}

impl Rings {
    pub(crate) fn with_lone_nodes(count: u32) -> Rings {
        let mut rings = Rings::default();
        rings.grow_to_hold(count.saturating_sub(1));
        rings
    }

    /// Adds lone nodes up to `node`, where it is not yet there; the array grows by doubling.
    pub(crate) fn grow_to_hold(&mut self, node: u32) {
        let lone = |node| Link {
            previous: node,
            next: node,
        };
        if !self.holds(node) {
            let first_new = self.links.len() as u32;
            self.links.extend((first_new..=node).map(lone));
        }
    }

    pub(crate) fn holds(&self, node: u32) -> bool {
        (node as usize) < self.links.len()
    }

    pub(crate) fn next(&self, node: u32) -> u32 {
        self.links[node as usize].next
    }

    pub(crate) fn previous(&self, node: u32) -> u32 {
        self.links[node as usize].previous
    }

    pub(crate) fn is_lone(&self, node: u32) -> bool {
        self.next(node) == node
    }

    /// Takes a node out of its ring; harmless to a lone one.
    pub(crate) fn unlink(&mut self, node: u32) {
        let Link { previous, next } = self.links[node as usize];
        self.links[previous as usize].next = next;
        self.links[next as usize].previous = previous;
        self.links[node as usize] = Link {
            previous: node,
            next: node,
        };
    }

    /// Puts a lone node behind `place`.
    pub(crate) fn link_after(&mut self, place: u32, node: u32) {
        debug_assert!(self.is_lone(node), "node {node} is in a ring");
        let next = self.next(place);
        self.links[node as usize] = Link {
            previous: place,
            next,
        };
        self.links[place as usize].next = node;
        self.links[next as usize].previous = node;
    }
}
