//! A stranger who sends what backends close on, beside clients whom they answer.

use e2e::{ALGORITHMS, strangers};
use testkit::Kind;

use crate::Outcome;

/// With each algorithm, eight sessions of a stranger to each request.
pub fn beside_requests(_: Kind) -> Outcome {
    const REQUESTS: usize = 200;
    let played = ALGORITHMS.map(|algorithm| strangers::play(algorithm, REQUESTS, 8));
    let lost: usize = played.iter().map(|one| one.requests - one.answered).sum();
    let ejections: u64 = played.iter().map(|one| one.ejections).sum();
    let figure = format!(
        "{lost} of {} requests lost, {ejections} ejections",
        REQUESTS * ALGORITHMS.len()
    );
    Outcome::of(lost == 0 && ejections == 0, figure)
}
