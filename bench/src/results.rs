//! The raw figures as they are kept: everything that the tables and charts are made of.

use serde::{Deserialize, Serialize};

use crate::cells::Unit;
use crate::load::Measured;
use crate::machine::Machine;
use crate::programs::Program;
use crate::statistics::{median, range};

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// RFC 3339.
    pub date: String,
    /// Of our sources, where they are a git checkout; `+` says that they were changed since.
    pub commit: Option<String>,
    pub machine: Machine,
    /// Program and what it says of itself.
    pub versions: Vec<(String, String)>,
    pub rounds: usize,
    /// How long each program worked in each round.
    pub seconds: f64,
    pub cells: Vec<CellResult>,
    pub picks: Vec<PickResult>,
    pub reloads: Vec<ReloadResult>,
    #[serde(default)]
    pub spreads: Vec<SpreadResult>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct CellResult {
    pub name: String,
    pub about: String,
    pub unit: Unit,
    pub samples: Vec<Sample>,
}

/// One program in one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    pub round: usize,
    pub program: Program,
    /// The primary figure, in the cell's unit.
    pub cost: f64,
    /// What the load saw; absent for idle sessions.
    pub work: Option<WorkSample>,
    /// Absent for work.
    pub idle: Option<IdleSample>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkSample {
    #[serde(flatten)]
    pub measured: Measured,
    /// User and system, of the program's process tree.
    pub cpu_seconds: f64,
    /// Of the time, how much all cores together were busy with what is not of the bench: above a
    /// few hundredths, somebody else was at work.
    pub foreign: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IdleSample {
    pub sessions: usize,
    /// Resident bytes of the process tree: before the first session, with all open, and after each
    /// of them has exchanged 16 KiB and gone silent again.
    pub rss_before: u64,
    pub rss_idle: u64,
    pub rss_after_burst: u64,
    /// Over a second in which nothing happens.
    pub cpu_us_a_second: f64,
    pub wakeups_a_second: f64,
}

/// One algorithm with one number of backends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PickResult {
    pub algorithm: String,
    pub backends: usize,
    pub ns_a_pick: f64,
    /// While two workers pick, and count sessions at ten times the rate that they could serve;
    /// absent from older results.
    #[serde(default)]
    pub ns_among_two: Option<f64>,
    /// The same with a session for each pick and nothing else to do.
    #[serde(default)]
    pub ns_among_two_flat_out: Option<f64>,
    /// What a reload pays for it, off the data path.
    pub build_us: f64,
    /// What a reload pays for the rotations of both protocols to go on; in results from before there
    /// was one rotation for all workers, each worker paid it on the data path.
    pub adopt_us: f64,
}

/// Reloads of the real program with one number of backends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReloadResult {
    pub backends: usize,
    pub round: usize,
    /// From the signal until the proxy says that the new generation runs.
    pub applied_ms: f64,
    /// How long the reload with a client kept the worker from it, as the worker itself measured.
    #[serde(default)]
    pub stall_us: f64,
    /// The longest wait of a client with one connection, in a run with a reload in its middle.
    pub longest_answer_us: f64,
    /// The same in an equally long run without one.
    pub longest_answer_undisturbed_us: f64,
}

/// How many long sessions or flows the busiest worker had.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpreadResult {
    /// `tcp` or `udp`.
    pub protocol: String,
    pub workers: usize,
    /// Open at once.
    pub count: usize,
    pub round: usize,
    /// 1 is even.
    pub busiest_to_mean: f64,
}

impl CellResult {
    /// The samples of one program.
    pub fn of(&self, program: Program) -> impl Iterator<Item = &Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.program == program)
    }

    /// Programs that were measured, in the order that they are always shown in.
    pub fn programs(&self) -> impl Iterator<Item = Program> {
        let measured = |program: &Program| self.of(*program).next().is_some();
        Program::ALL.into_iter().filter(measured)
    }

    pub fn cost(&self, program: Program) -> Option<f64> {
        median(self.of(program).map(|sample| sample.cost))
    }

    pub fn cost_range(&self, program: Program) -> Option<(f64, f64)> {
        range(self.of(program).map(|sample| sample.cost))
    }

    /// The median over the rounds of something that the load saw.
    pub fn seen(&self, program: Program, figure: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
        let works = self.of(program).filter_map(|sample| sample.work.as_ref());
        median(works.filter_map(|work| figure(&work.measured)))
    }

    /// The worst round, for what should not happen at all.
    pub fn worst(&self, program: Program, figure: impl Fn(&WorkSample) -> f64) -> Option<f64> {
        let works = self.of(program).filter_map(|sample| sample.work.as_ref());
        range(works.map(figure)).map(|(_, worst)| worst)
    }
}
