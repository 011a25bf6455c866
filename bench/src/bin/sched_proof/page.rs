//! The figures as text, as a page, and as a chart.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use bench::chart::{self, Bar, Group, number};

use crate::act::Act;
use crate::clock::{SPEED, real_ms};
use crate::results::{
    GPU_AWARE, LEAST_CONNECTIONS, ROUND_ROBIN, Results, Row, to_least_connections,
};
use crate::sample::{PATIENCE, Sample, TOLERANCE};

const RAW: &str = "scheduling-real.json";
const PAGE: &str = "scheduling-real.md";
const CHART: &str = "scheduling-real.svg";

/// What is told of a run as soon as it has ended.
pub fn line(sample: &Sample) -> String {
    format!(
        "round {} {:<15} {:<27} p50 {:>7} ms  p99 {:>7} ms{:1}  lost {:>6.2} %  unanswered {:>5.2} %  \
         {:.2} cores, {:.2} of others{}",
        sample.round,
        sample.act,
        sample.policy,
        number(sample.p50_ms),
        number(sample.p99_ms),
        bound_mark(sample.p99_is_at_least),
        sample.lost_share * 100.0,
        sample.unanswered_share * 100.0,
        sample.cores_used,
        sample.cores_of_others,
        if sample.is_valid { "" } else { "  INVALID" },
    )
}

pub fn write(folder: &Path, results: &Results) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let raw = serde_json::to_string_pretty(results)? + "\n";
    std::fs::write(folder.join(RAW), raw)?;
    draw(folder, results)
}

/// Page and chart from the raw figures in `folder`.
pub fn redraw(folder: &Path) -> io::Result<()> {
    let raw = std::fs::read(folder.join(RAW))?;
    draw(folder, &serde_json::from_slice(&raw)?)
}

fn draw(folder: &Path, results: &Results) -> io::Result<()> {
    let svg = chart::draw(
        "Scheduling by the real proxy, before models of GPU servers on real sockets",
        "mean of the rounds, and the least and the largest of them",
        &groups(results),
    );
    std::fs::write(folder.join(CHART), svg)?;
    std::fs::write(folder.join(PAGE), page(results))
}

fn page(results: &Results) -> String {
    let mut text = String::new();
    let jobs = results.jobs;
    let sum = |count: fn(&Sample) -> u64| results.samples.iter().map(count).sum::<u64>();
    let ages = results.samples.iter().map(|sample| sample.oldest_report_ms);
    let machine = &results.machine;
    add(
        &mut text,
        format_args!(
            "# Scheduling on real sockets\n\n\
             Written by `make sched-proof`; the raw figures are in [{RAW}]({RAW}).\n\n\
             **This is a model of GPUs on real sockets, not GPUs.** The real `control_server` and the real\n\
             `proxy_server` stand before eight model servers on loopback. These register at control and beat\n\
             over its API with `gpu_usage`, `vram_usage` and `heartbeat_ms`, and control hands the figures to\n\
             the proxy over `proxy.sock`. An open loop of Poisson arrivals with heavy-tailed work (log-normal,\n\
             CV 1.5) goes through the proxy, {jobs} jobs a run, a connection each. Behind each listener works\n\
             the model that `sched_sim` uses ([scheduling.md](scheduling.md)): slots that share the speed, a\n\
             queue, VRAM for each job; where it says so, a job that does not fit is reset.\n\n\
             - Time runs {SPEED} times as fast: a mean job of 1 s takes {} ms, a heartbeat of 5 s {} ms. So do\n\
             \x20 those parameters of the proxy that are times; all others have their defaults. What cannot run\n\
             \x20 faster is {SPEED} times slower for it than it would be: that control sends figures every 50 ms\n\
             \x20 at most, and that the proxy scores every 100 ms. `peak_ewma`, whose decay is 10 s, is left out\n\
             \x20 for that.\n\
             - The proxy neither probes nor ejects, so that the policy alone is seen; it does in the last act.\n\
             - Answers come whole when a job ends, as from a server that does not stream. In\n\
             \x20 `mixed_streamed` a piece comes in each second of the model in which a job runs, as from a language\n\
             \x20 server that streams: the first byte of all but short jobs then tells of the queue alone.\n\
             - In a round every policy gets the same jobs; planes are started afresh for each. Policies take\n\
             \x20 turns in going first. Latency runs from when a job was due to the end of its answer.\n\
             - Jobs that are unanswered {} s after the last arrival count with their age; a quantile above\n\
             \x20 such an age is marked `+`: it is at least as long. Lost jobs have no latency: read the losses\n\
             \x20 beside it.\n\
             - A run is invalid where more than 1 % of the jobs were sent, or of the answers given, more than\n\
             \x20 {} ms late. *simulated* is what `sched_sim` says of the same jobs, with every answer awaited.\n\
             - In all runs together {} reports were taken by control, {} failed, and there were {} reloads;\n\
             \x20 at the end of a run the oldest report at the proxy was at most {} ms old.\n\
             - {}, {} cores, Linux {}; proxy {}.\n\n\
             ![Scheduling on real sockets]({CHART})\n",
            real_ms(1.0),
            real_ms(5.0),
            real_ms(PATIENCE) / 1e3,
            real_ms(TOLERANCE),
            number(sum(|sample| sample.reports_taken_by_control) as f64),
            sum(|sample| sample.reports_failed),
            sum(|sample| sample.reloads),
            ages.max().unwrap_or_default(),
            machine.cpu,
            machine.cores,
            machine.kernel,
            results.version,
        ),
    );
    add_short(&mut text, results);
    text + &tables(results)
}

/// What is to be seen, without its parts: of each act the one figure that it is about.
fn add_short(text: &mut String, results: &Results) {
    add(
        text,
        format_args!(
            "## In short\n\n\
             | act | figure | round_robin | least_connections | gpu_aware | gpu_aware / least_connections | simulated |\n\
             |---|---|---:|---:|---:|---:|---:|"
        ),
    );
    for act in results.acts() {
        let rows = results.rows(act.name);
        let figure = Figure::of(&rows);
        let shown = |policy| {
            let row = rows.iter().find(|row| row.policy == policy);
            row.map_or("-".to_owned(), |row| figure.text(row))
        };
        let ratio = |value: fn(&Row) -> f64| {
            let ours = rows.iter().find(|row| row.policy == GPU_AWARE);
            in_parts(ours.and_then(|ours| to_least_connections(&rows, ours, value)))
        };
        add(
            text,
            format_args!(
                "| {} | {} | {} | {} | {} | {} | {} |",
                act.name,
                figure.name(),
                shown(ROUND_ROBIN),
                shown(LEAST_CONNECTIONS),
                shown(GPU_AWARE),
                ratio(figure.measured()),
                ratio(figure.simulated()),
            ),
        );
    }
    add(text, format_args!(""));
}

pub fn tables(results: &Results) -> String {
    let mut text = String::new();
    for act in results.acts() {
        add_act(&mut text, results, &act);
    }
    text
}

fn add_act(text: &mut String, results: &Results, act: &Act) {
    let rows = results.rows(act.name);
    add(
        text,
        format_args!(
            "## {}\n\n{}; load {:.0} %.\n\n\
             | policy | rounds | p50 ms | p99 ms | least to largest | p99 / least_connections | simulated | lost % | lost / least_connections | simulated lost % | unanswered % | cores used |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            act.name,
            act.about,
            act.scenario.rho * 100.0
        ),
    );
    for row in &rows {
        let ratio = |figure| in_parts(to_least_connections(&rows, row, figure));
        let invalid = match row.invalid {
            0 => String::new(),
            count => format!(" ({count} invalid)"),
        };
        add(
            text,
            format_args!(
                "| {} | {}{invalid} | {} | {}{} | {} to {} | {} | {} | {:.2} | {} | {:.2} | {:.2} | {:.2} |",
                row.policy,
                row.rounds,
                number(row.p50_ms),
                number(row.p99_ms),
                bound_mark(row.p99_is_at_least),
                number(row.p99_range_ms.0),
                number(row.p99_range_ms.1),
                ratio(|row| row.p99_ms),
                ratio(|row| row.simulated_p99_ms),
                row.lost_share * 100.0,
                ratio(|row| row.lost_share),
                row.simulated_lost_share * 100.0,
                row.unanswered_share * 100.0,
                row.cores_used,
            ),
        );
    }
    add(text, format_args!(""));
}

fn in_parts(ratio: Option<f64>) -> String {
    ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// What an act is about: latency where nothing is lost, losses where something is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Figure {
    P99,
    Lost,
}

impl Figure {
    fn of(rows: &[Row]) -> Figure {
        if rows.iter().any(|row| row.lost_share > 0.0) {
            Figure::Lost
        } else {
            Figure::P99
        }
    }

    fn name(self) -> &'static str {
        match self {
            Figure::P99 => "p99, ms",
            Figure::Lost => "jobs lost, percent",
        }
    }

    fn measured(self) -> fn(&Row) -> f64 {
        match self {
            Figure::P99 => |row| row.p99_ms,
            Figure::Lost => |row| row.lost_share,
        }
    }

    fn simulated(self) -> fn(&Row) -> f64 {
        match self {
            Figure::P99 => |row| row.simulated_p99_ms,
            Figure::Lost => |row| row.simulated_lost_share,
        }
    }

    fn text(self, row: &Row) -> String {
        match self {
            Figure::P99 => number(row.p99_ms) + bound_mark(row.p99_is_at_least),
            Figure::Lost => format!("{:.2}", row.lost_share * 100.0),
        }
    }

    /// Of latency without round_robin, whose bar would leave the others no length.
    fn bar(self, row: &Row) -> Option<Bar> {
        let (value, range) = match self {
            Figure::P99 if row.policy == ROUND_ROBIN => return None,
            Figure::P99 => (row.p99_ms, row.p99_range_ms),
            Figure::Lost => {
                let (least, largest) = row.lost_range;
                (row.lost_share * 100.0, (least * 100.0, largest * 100.0))
            }
        };
        let name = match row.policy {
            ROUND_ROBIN => "round robin",
            LEAST_CONNECTIONS => "least conn.",
            "power_of_two" => "two choices",
            other => other,
        };
        let is_ours = row.policy == GPU_AWARE;
        Some(Bar {
            name,
            value,
            range,
            is_ours,
        })
    }
}

fn groups(results: &Results) -> Vec<Group> {
    let group = |act: Act| {
        let rows = results.rows(act.name);
        let figure = Figure::of(&rows);
        Group {
            title: format!("{}: {}", act.name, figure.name()),
            bars: rows.iter().filter_map(|row| figure.bar(row)).collect(),
        }
    };
    let groups = results.acts().into_iter().map(group);
    groups.filter(|group| !group.bars.is_empty()).collect()
}

/// A quantile that is only a bound from below.
fn bound_mark(is_at_least: bool) -> &'static str {
    if is_at_least { "+" } else { "" }
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String does not fail");
}
