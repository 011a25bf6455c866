//! What was to be reached, held against what was measured.

use crate::cells::{Against, Figure, Target};
use crate::programs::Program;
use crate::results::{CellResult, Results};
use crate::statistics::{median, range};

#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub ours: f64,
    /// What ours is held against, by name, and its figure; absent for absolute targets.
    pub reference: Option<(String, f64)>,
    /// What is compared with the target: a ratio, or the figure itself.
    pub compared: f64,
    pub met: bool,
    /// Absent where the target has no stretch.
    pub stretch_met: Option<bool>,
}

/// `None` where the results lack what is needed.
pub fn verdict(target: &Target, results: &Results) -> Option<Verdict> {
    let ours = match target.figure {
        Figure::LongestAdoption => longest_adoption(results)?,
        Figure::ReloadStall => reload_stall(results)?,
        of_a_cell => figure(target.cell, of_a_cell, Program::Ours, results)?,
    };
    let (reference, compared) = match target.against {
        Against::Nothing => (None, ours),
        Against::One(peer) => {
            let theirs = figure(target.cell, target.figure, peer, results)?;
            (Some((peer.name().to_owned(), theirs)), ours / theirs)
        }
        Against::BestPeer => {
            let (best, theirs) = best_peer(target.cell, target.figure, results)?;
            (Some((best.name().to_owned(), theirs)), ours / theirs)
        }
        Against::RatioIn(other) => {
            let (_, theirs) = best_peer(target.cell, target.figure, results)?;
            let (_, theirs_there) = best_peer(other, target.figure, results)?;
            let ours_there = figure(other, target.figure, Program::Ours, results)?;
            let (here, there) = (ours / theirs, ours_there / theirs_there);
            (Some((format!("the ratio in {other}"), there)), here / there)
        }
    };
    let met = match (target.figure, &reference) {
        (Figure::Lost, Some((_, theirs))) => ours == 0.0 || *theirs > 0.0,
        _ => compared <= target.at_most,
    };
    Some(Verdict {
        ours,
        reference,
        compared,
        met,
        stretch_met: target.stretch.map(|stretch| compared <= stretch),
    })
}

/// The peer with the least of a figure.
pub fn best_peer(cell: &str, wanted: Figure, results: &Results) -> Option<(Program, f64)> {
    let peers = Program::ALL.into_iter().filter(|program| program.is_peer());
    let figures = peers.filter_map(|peer| Some((peer, figure(cell, wanted, peer, results)?)));
    figures.min_by(|(_, one), (_, other)| one.total_cmp(other))
}

fn figure(cell: &str, figure: Figure, program: Program, results: &Results) -> Option<f64> {
    let cell = results.cells.iter().find(|result| result.name == cell)?;
    let p50 = |program| cell.seen(program, |seen| Some(seen.latency?.p50));
    match figure {
        Figure::Cost => cell.cost(program),
        Figure::CostAfterBurst => cost_after_burst(cell, program),
        Figure::P50Added => Some(p50(program)? - p50(Program::Direct)?),
        Figure::P99 => cell.seen(program, |seen| Some(seen.latency?.p99)),
        Figure::Lost => cell.worst(program, |work| work.measured.lost as f64),
        // Of ours alone, and found without a cell.
        Figure::LongestAdoption | Figure::ReloadStall => None,
    }
}

/// The slowest algorithm with the largest pool.
fn longest_adoption(results: &Results) -> Option<f64> {
    let largest = results.picks.iter().map(|pick| pick.backends).max()?;
    let of_largest = results.picks.iter().filter(|pick| pick.backends == largest);
    range(of_largest.map(|pick| pick.adopt_us)).map(|(_, longest)| longest)
}

fn reload_stall(results: &Results) -> Option<f64> {
    let largest = results.reloads.iter().map(|reload| reload.backends).max()?;
    let of_largest = results
        .reloads
        .iter()
        .filter(|reload| reload.backends == largest);
    median(of_largest.map(|reload| reload.stall_us))
}

/// Bytes a session, once all sessions have had and lost their buffers.
pub fn cost_after_burst(cell: &CellResult, program: Program) -> Option<f64> {
    let idle = cell.of(program).filter_map(|sample| sample.idle.as_ref());
    let costs = idle.map(|idle| {
        let grown = idle.rss_after_burst.saturating_sub(idle.rss_before);
        grown as f64 / idle.sessions as f64
    });
    median(costs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::Unit;
    use crate::load::{Latency, Measured};
    use crate::machine::Machine;
    use crate::results::{Sample, WorkSample};

    fn sample(program: Program, cost: f64, p50: f64, lost: u64) -> Sample {
        let latency = Latency {
            p50,
            p99: p50 * 2.0,
            p999: p50 * 3.0,
            max: p50 * 4.0,
        };
        let measured = Measured {
            units: 1,
            seconds: 1.0,
            rate: 1.0,
            latency: Some(latency),
            lost,
            failed: 0,
        };
        Sample {
            round: 0,
            program,
            cost,
            work: Some(WorkSample {
                measured,
                cpu_seconds: 0.0,
                foreign: 0.0,
            }),
            idle: None,
        }
    }

    fn results(cells: Vec<(&str, Vec<Sample>)>) -> Results {
        let cells = cells.into_iter().map(|(name, samples)| CellResult {
            name: name.to_owned(),
            about: String::new(),
            unit: Unit::Request,
            samples,
        });
        Results {
            date: String::new(),
            commit: None,
            machine: Machine::look(false),
            versions: Vec::new(),
            rounds: 1,
            seconds: 1.0,
            cells: cells.collect(),
            picks: Vec::new(),
            reloads: Vec::new(),
            spreads: Vec::new(),
        }
    }

    fn target(figure: Figure, against: Against, at_most: f64) -> Target {
        Target {
            cell: "a",
            figure,
            against,
            at_most,
            stretch: Some(at_most / 2.0),
        }
    }

    #[test]
    fn ratios_are_those_of_medians_to_the_best_peer() {
        let mut samples = vec![
            sample(Program::Direct, 0.0, 10.0, 0),
            sample(Program::Haproxy, 20.0, 50.0, 0),
            sample(Program::Nginx, 10.0, 60.0, 3),
            sample(Program::HaproxyBusy, 1.0, 11.0, 0),
        ];
        for cost in [5.0, 8.0, 100.0] {
            samples.push(sample(Program::Ours, cost, 26.0, 2));
        }
        let results = results(vec![("a", samples)]);
        let judge = |figure, against, at_most| {
            let verdict = verdict(&target(figure, against, at_most), &results);
            let verdict = verdict.expect("all is measured");
            (verdict.compared, verdict.met, verdict.stretch_met)
        };
        let best = Against::BestPeer;
        assert_eq!(judge(Figure::Cost, best, 0.9), (0.8, true, Some(false)));
        assert_eq!(judge(Figure::Cost, best, 0.7), (0.8, false, Some(false)));
        // 26 - 10 against haproxy's 50 - 10.
        assert_eq!(judge(Figure::P50Added, best, 0.4).0, 0.4);
        let haproxy = Against::One(Program::Haproxy);
        assert_eq!(judge(Figure::Cost, haproxy, 0.8), (0.4, true, Some(true)));
        assert!(!judge(Figure::Lost, haproxy, 0.0).1);
        assert!(judge(Figure::Lost, Against::One(Program::Nginx), 0.0).1);
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let results = results(vec![("a", vec![sample(Program::Ours, 1.0, 1.0, 0)])]);
        let target = target(Figure::Cost, Against::BestPeer, 1.0);
        assert_eq!(verdict(&target, &results), None);
    }
}
