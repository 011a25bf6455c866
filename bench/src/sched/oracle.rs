//! What could be reached by somebody who knows everything but the future: the server where this very
//! job would finish first. No proxy can know that; it shows how much is left to gain.

use super::server::{Job, Server};

/// Index of the best server among those that are there; a tie goes to the first.
pub fn pick(servers: &[Server], is_there: &[bool], job: &Job, now: f64) -> usize {
    let there = (0..servers.len()).filter(|&at| is_there[at]);
    let finish = |at: usize| {
        // Where it would be lost is the last choice.
        servers[at]
            .would_finish(job)
            .map_or(f64::INFINITY, |finish| finish - now)
    };
    there
        .min_by(|&a, &b| finish(a).total_cmp(&finish(b)))
        .expect("a server is always there")
}
