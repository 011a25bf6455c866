//! Lists of open sessions and flows that somebody asked for. Each turn looks at a part of them, so that nothing waits
//! for a list.

use std::collections::VecDeque;
use std::ops::Range;

use proxy_core::listing::{Listing, Wanted};
use proxy_core::plan::Protocol;
use tokio::sync::mpsc;

use super::sweep::Sweep;

/// All that are under way, the oldest first.
#[derive(Debug, Default)]
pub struct Listings(VecDeque<UnderWay>);

#[derive(Debug)]
struct UnderWay {
    listing: Listing,
    sessions: Sweep,
    flows: Sweep,
    answer: mpsc::Sender<Listing>,
}

/// What a turn is to look at.
pub struct Part<'a> {
    pub sessions: Range<usize>,
    pub flows: Range<usize>,
    pub listing: &'a mut Listing,
}

impl Listings {
    pub fn begin(&mut self, wanted: Wanted, answer: mpsc::Sender<Listing>) {
        let listing = Listing::new(wanted);
        let sweep = |protocol| {
            let mut sweep = Sweep::default();
            if listing.wants(protocol) {
                sweep.begin();
            }
            sweep
        };
        let (sessions, flows) = (sweep(Protocol::Tcp), sweep(Protocol::Udp));
        self.0.push_back(UnderWay {
            listing,
            sessions,
            flows,
            answer,
        });
    }

    pub fn is_any_under_way(&self) -> bool {
        !self.0.is_empty()
    }

    /// The part of this turn: some sessions or, after the last one, some flows. So many places there are.
    pub fn part(&mut self, sessions: usize, flows: usize) -> Option<Part<'_>> {
        let first = self.0.front_mut()?;
        let sessions = first.sessions.part(sessions);
        let flows = match sessions.is_empty() {
            true => first.flows.part(flows),
            false => 0..0,
        };
        Some(Part {
            sessions,
            flows,
            listing: &mut first.listing,
        })
    }

    /// The part has been looked at. The last one is answered with what was found; nobody may wait for it any more.
    pub fn part_is_done(&mut self) {
        let is_done =
            |first: &UnderWay| !first.sessions.is_under_way() && !first.flows.is_under_way();
        if self.0.front().is_some_and(is_done)
            && let Some(UnderWay {
                listing, answer, ..
            }) = self.0.pop_front()
        {
            let _ = answer.try_send(listing);
        }
    }
}
