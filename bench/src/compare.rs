//! The driver: every cell, in interleaved rounds, with the order of the programs turned each round,
//! so that whatever drifts on the machine meets all of them alike.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cells::{CELLS, Cell, PICKS, RELOAD, SPREAD, Unit};
use crate::machine::{Cores, Machine, enter_own_network, raise_descriptor_limit};
use crate::measure::sample;
use crate::programs::{Program, Stage};
use crate::results::{CellResult, Results, Sample};
use crate::{picks, reload, report, spread};

/// Rounds and seconds beyond which a run is surely a mistake.
const MAX_ROUNDS: usize = 100;
const MAX_SECONDS: f64 = 30.0;
/// The least that a sample must last to be more than noise.
const MIN_SECONDS: f64 = 0.05;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Rounds; each program is measured once in each
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long each program works in a round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Only these cells, by comma; their results go to target/bench-results unless told otherwise
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these programs, by comma
    #[arg(long, value_delimiter = ',')]
    programs: Vec<String>,
    /// Where the results go [default: bench/results]
    #[arg(long)]
    results: Option<PathBuf>,
    /// Our proxy's binary
    #[arg(long, default_value = "target/release/proxy_server")]
    proxy: PathBuf,
    /// The folder with the peers' configurations and binaries
    #[arg(long, default_value = "bench")]
    bench: PathBuf,
}

type AnyError = Box<dyn std::error::Error>;

pub fn run(arguments: &Arguments) -> Result<(), AnyError> {
    let wanted = Wanted::check(arguments)?;
    let own_network = enter_own_network()?;
    // Looked at before we keep to one core, which is then all that we are told of.
    let machine = Machine::look(own_network);
    let cores = Cores::choose()?;
    cores.keep_to_load()?;
    let descriptors = raise_descriptor_limit()?;
    let proxy = std::path::absolute(&arguments.proxy)?;
    let mut stage = Stage::set(proxy, &arguments.bench, cores, own_network, descriptors)?;
    let missing = Program::ALL
        .into_iter()
        .filter(|program| !stage.has(*program));
    for program in missing {
        println!(
            "{} is left out: not installed (bench/install-peers.sh)",
            program.name()
        );
    }

    let mut results = Results {
        date: jiff::Timestamp::now().to_string(),
        commit: commit(),
        machine,
        versions: stage.versions(),
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        cells: Vec::new(),
        picks: Vec::new(),
        reloads: Vec::new(),
        spreads: Vec::new(),
    };
    for cell in CELLS.iter().filter(|cell| wanted.cell(cell.name)) {
        results.cells.push(measure_cell(&mut stage, cell, &wanted)?);
    }
    if wanted.cell(PICKS) {
        println!("{PICKS}: every algorithm with 10, 1,000 and 10,000 backends");
        results.picks = picks::measure();
    }
    if wanted.cell(RELOAD) {
        measure_reloads(&mut stage, &wanted, &mut results)?;
    }
    if wanted.cell(SPREAD) {
        println!("{SPREAD}: long sessions and flows over the workers");
        let backend = stage.start_backend(false)?;
        for round in 0..wanted.rounds {
            results
                .spreads
                .extend(spread::measure(&mut stage, &backend, round)?);
        }
    }
    report::write(&results, &wanted.folder)?;
    println!("results: {}", wanted.folder.display());
    Ok(())
}

/// What was asked for, checked.
struct Wanted {
    cells: Vec<String>,
    programs: Vec<Program>,
    rounds: usize,
    duration: Duration,
    folder: PathBuf,
}

impl Wanted {
    fn check(arguments: &Arguments) -> Result<Wanted, String> {
        let known: Vec<&str> = CELLS
            .iter()
            .map(|cell| cell.name)
            .chain([PICKS, RELOAD, SPREAD])
            .collect();
        if let Some(unknown) = arguments
            .only
            .iter()
            .find(|cell| !known.contains(&cell.as_str()))
        {
            return Err(format!(
                "no cell is called {unknown}; there are {}",
                known.join(", ")
            ));
        }
        let programs = arguments.programs.iter().map(|name| {
            let known = Program::ALL.into_iter();
            { known }
                .find(|program| program.name() == name)
                .ok_or_else(|| {
                    let names = Program::ALL.map(Program::name).join(", ");
                    format!("no program is called {name}; there are {names}")
                })
        });
        let programs = match arguments.programs.is_empty() {
            true => Program::ALL.to_vec(),
            false => programs.collect::<Result<_, _>>()?,
        };
        if !(1..=MAX_ROUNDS).contains(&arguments.rounds) {
            return Err(format!("--rounds: from 1 to {MAX_ROUNDS}"));
        }
        if !(MIN_SECONDS..=MAX_SECONDS).contains(&arguments.seconds) {
            return Err(format!("--seconds: from {MIN_SECONDS} to {MAX_SECONDS}"));
        }
        let whole = arguments.only.is_empty() && arguments.programs.is_empty();
        let folder = if whole {
            "bench/results"
        } else {
            "target/bench-results"
        };
        Ok(Wanted {
            cells: arguments.only.clone(),
            programs,
            rounds: arguments.rounds,
            duration: Duration::from_secs_f64(arguments.seconds),
            folder: arguments.results.clone().unwrap_or_else(|| folder.into()),
        })
    }

    fn cell(&self, name: &str) -> bool {
        self.cells.is_empty() || self.cells.iter().any(|cell| cell == name)
    }
}

fn measure_cell(stage: &mut Stage, cell: &Cell, wanted: &Wanted) -> Result<CellResult, AnyError> {
    println!("{}: {}", cell.name, cell.about);
    let mut programs: Vec<Program> = cell.programs.to_vec();
    programs.retain(|program| stage.has(*program) && wanted.programs.contains(program));
    let mut result = CellResult {
        name: cell.name.to_owned(),
        about: cell.about.to_owned(),
        unit: Unit::of(cell.job),
        samples: Vec::new(),
    };
    let backend = stage.start_backend(false)?;
    for round in 0..wanted.rounds {
        for &program in &programs {
            match sample(stage, cell, program, &backend, round, wanted.duration) {
                Ok(sample) => {
                    println!("  {}", in_a_line(&sample));
                    result.samples.push(sample);
                }
                // What a peer cannot do is its own affair; what ours cannot do ends the run.
                Err(error) if program.is_peer() => println!("  left out this round: {error}"),
                Err(error) => return Err(error.into()),
            }
        }
        // Each is first, and last, as often as any other.
        let turn = usize::from(programs.len() > 1);
        programs.rotate_left(turn);
    }
    Ok(result)
}

fn in_a_line(sample: &Sample) -> String {
    let mut line = format!("{:22}{:10.2}", sample.program.name(), sample.cost);
    if let Some(work) = &sample.work {
        line += &format!("{:14.0}/s", work.measured.rate);
        if let Some(latency) = work.measured.latency {
            line += &format!(
                "  p50 {:.0}  p99 {:.0}  p99.9 {:.0} µs",
                latency.p50, latency.p99, latency.p999
            );
        }
        if work.measured.lost + work.measured.failed > 0 {
            line += &format!(
                "  lost {} failed {}",
                work.measured.lost, work.measured.failed
            );
        }
        line += &format!("  foreign {:.2}", work.foreign);
    }
    if let Some(idle) = &sample.idle {
        line += &format!(
            "  rss {} -> {} -> {}  cpu {:.0} µs/s  wake-ups {:.1}/s",
            idle.rss_before,
            idle.rss_idle,
            idle.rss_after_burst,
            idle.cpu_us_a_second,
            idle.wakeups_a_second
        );
    }
    line
}

fn measure_reloads(
    stage: &mut Stage,
    wanted: &Wanted,
    results: &mut Results,
) -> Result<(), AnyError> {
    println!("{RELOAD}: with 10, 1,000 and 10,000 backends");
    let backend = stage.start_backend(true)?;
    for round in 0..wanted.rounds {
        for size in reload::POOLS {
            let result = reload::measure(stage, &backend, size, round)?;
            println!(
                "  {size:6} backends  applied in {:.2} ms  stall {:.0} µs  longest answer {:.0} µs (undisturbed {:.0})",
                result.applied_ms,
                result.stall_us,
                result.longest_answer_us,
                result.longest_answer_undisturbed_us,
            );
            results.reloads.push(result);
        }
    }
    Ok(())
}

/// Of the sources in the working folder, if git knows them.
fn commit() -> Option<String> {
    let ask = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let commit = ask(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = ask(&["status", "--porcelain", "--", "proxy", "contract"])?;
    let mark = if changed.is_empty() { "" } else { "+" };
    Some(format!("{commit}{mark}"))
}

/// Draws kept results again.
pub fn redraw(folder: &Path) -> Result<(), AnyError> {
    let bytes = std::fs::read(folder.join(report::RAW))?;
    let results: Results = serde_json::from_slice(&bytes)?;
    Ok(report::write(&results, folder)?)
}
