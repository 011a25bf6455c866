//! The page with tables, and what stands in which chart.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::verdict::{best_peer, cost_after_burst, verdict};
use crate::cells::{Against, Figure, TARGETS, Target};
use crate::load::Measured;
use crate::programs::Program;
use crate::results::{CellResult, PickResult, Results, SpreadResult};
use crate::statistics::{median, range};
use bench::chart::{self, Bar, Group, number};

/// One chart: the primary figure of some cells.
#[derive(Debug)]
pub struct Chart {
    pub file: &'static str,
    title: &'static str,
    subtitle: &'static str,
    cells: &'static [&'static str],
}

pub const CHARTS: [Chart; 4] = [
    Chart {
        file: "requests.svg",
        title: "Requests and connections",
        subtitle: "µs of the proxy's CPU for each, one worker; less is better; median and range of the rounds",
        cells: &["rr64-c1", "rr64-c64", "rr64-c1000", "rr16k-c64", "short"],
    },
    Chart {
        file: "streams.svg",
        title: "Streams",
        subtitle: "ms of the proxy's CPU a GB, one worker; less is better; median and range of the rounds",
        cells: &["down-1", "down-8", "up-1", "up-8"],
    },
    Chart {
        file: "datagrams.svg",
        title: "Datagrams",
        subtitle: "µs of the proxy's CPU a round trip, one worker; less is better; median and range of the rounds",
        cells: &["udp64-w1", "udp64-w8", "udp1200-w1", "udp1200-w8"],
    },
    Chart {
        file: "memory.svg",
        title: "Idle sessions",
        subtitle: "bytes of resident memory for each; less is better; median and range of the rounds",
        cells: &["idle-4500"],
    },
];

/// `None` where nothing of it was measured.
pub fn chart(plan: &Chart, results: &Results) -> Option<String> {
    let find = |name: &&str| results.cells.iter().find(|cell| cell.name == **name);
    let groups: Vec<Group> = plan.cells.iter().filter_map(find).map(group).collect();
    let is_empty = groups.iter().all(|group| group.bars.is_empty());
    (!is_empty).then(|| chart::draw(plan.title, plan.subtitle, &groups))
}

fn group(cell: &CellResult) -> Group {
    let programs = cell
        .programs()
        .filter(|program| *program != Program::Direct);
    let bars = programs.filter_map(|program| {
        Some(Bar {
            name: program.name(),
            value: cell.cost(program)?,
            range: cell.cost_range(program)?,
            is_ours: program == Program::Ours,
        })
    });
    Group {
        title: cell.about.clone(),
        bars: bars.collect(),
    }
}

pub fn page(results: &Results, charts: &[&Chart]) -> String {
    let mut page = String::new();
    head(&mut page, results);
    targets(&mut page, results);
    for chart in charts {
        add(
            &mut page,
            format_args!("![{}]({})\n", chart.title, chart.file),
        );
    }
    costs(&mut page, results);
    rates(&mut page, results);
    idle(&mut page, results);
    picks(&mut page, &results.picks);
    reloads(&mut page, results);
    spreads(&mut page, &results.spreads);
    page
}

fn add(page: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(page, "{line}").expect("writing to a String does not fail");
}

fn head(page: &mut String, results: &Results) {
    let machine = &results.machine;
    let network = match machine.own_network {
        true => "loopback of its own network namespace",
        false => "the machine's own loopback",
    };
    let commit = results.commit.as_deref().unwrap_or("unknown");
    let (rounds, seconds) = (results.rounds, results.seconds);
    add(
        page,
        format_args!(
            "# What the data path costs\n\n\
         Written by `make bench`; the raw figures are in [results.json](results.json). Every figure is the \
         median of {rounds} interleaved rounds of {seconds} s, each with a program started afresh.\n\n\
         - {}, commit {commit}\n- {}, {} cores, Linux {}, {network}, {}",
            results.date, machine.cpu, machine.cores, machine.kernel, machine.congestion_control,
        ),
    );
    for (program, version) in &results.versions {
        add(page, format_args!("- {program}: {version}"));
    }
    let foreign = results.cells.iter().flat_map(|cell| &cell.samples);
    let foreign = median(foreign.filter_map(|sample| Some(sample.work.as_ref()?.foreign)));
    if let Some(foreign) = foreign {
        let share = foreign * 100.0;
        add(
            page,
            format_args!("- other work on the machine meanwhile: {share:.0} % of a core (median)"),
        );
    }
    page.push('\n');
}

fn targets(page: &mut String, results: &Results) {
    let judged: Vec<_> = TARGETS
        .iter()
        .filter_map(|target| Some((target, verdict(target, results)?)))
        .collect();
    if judged.is_empty() {
        return;
    }
    add(
        page,
        format_args!(
            "## Targets\n\n| work | figure | ours | against | compared | target | |\n|---|---|---:|---|---:|---|---|"
        ),
    );
    for (target, verdict) in judged {
        let against = match &verdict.reference {
            Some((name, figure)) => format!("{name}: {}", number(*figure)),
            None => "-".to_owned(),
        };
        let stretch = target
            .stretch
            .map(|stretch| format!(", stretch {stretch:.2}"));
        let at_most = match target.against {
            Against::Nothing => number(target.at_most),
            Against::BestPeer | Against::One(_) | Against::RatioIn(_) => {
                format!("{:.2}", target.at_most)
            }
        };
        // Nothing lost, held against nothing lost, has no ratio.
        let compared = match verdict.compared {
            ratio if ratio.is_finite() => number(ratio),
            _ => "-".to_owned(),
        };
        let word = match (verdict.met, verdict.stretch_met) {
            (true, Some(true)) => "met, stretch too",
            (true, _) => "met",
            (false, _) => "**not met**",
        };
        add(
            page,
            format_args!(
                "| {} | {} | {} | {against} | {compared} | ≤ {at_most}{} | {word} |",
                target.cell,
                figure_name(target),
                number(verdict.ours),
                stretch.unwrap_or_default(),
            ),
        );
    }
    page.push('\n');
}

fn figure_name(target: &Target) -> &'static str {
    match target.figure {
        Figure::Cost if target.cell.starts_with("idle") => "bytes a session",
        Figure::Cost => "CPU",
        Figure::CostAfterBurst => "bytes a session after a burst",
        Figure::P50Added => "added p50 (µs)",
        Figure::P99 => "p99 (µs)",
        Figure::Lost => "lost",
        Figure::LongestAdoption => "rotations carried over a reload (µs)",
        Figure::ReloadStall => "a worker's stall at a reload, as it measures it (µs)",
    }
}

fn costs(page: &mut String, results: &Results) {
    let programs = [
        Program::Ours,
        Program::Haproxy,
        Program::Nginx,
        Program::Envoy,
    ];
    let names = programs.map(Program::name).join(" | ");
    add(
        page,
        format_args!(
            "## CPU a unit of work\n\nUser and system time of the whole process tree: median (least to largest round).\n\n\
         | work | unit | {names} | to the best peer |\n|---|---|---:|---:|---:|---:|---:|"
        ),
    );
    for cell in results.cells.iter().filter(|cell| is_work(cell)) {
        let figures = programs.map(|program| spread(cell.cost(program), cell.cost_range(program)));
        let best = best_peer(&cell.name, Figure::Cost, results);
        let ratio = cell.cost(Program::Ours).zip(best);
        let ratio =
            ratio.map(|(ours, (peer, theirs))| format!("{:.2} of {}", ours / theirs, peer.name()));
        add(
            page,
            format_args!(
                "| {}: {} | {} | {} | {} |",
                cell.name,
                cell.about,
                cell.unit.cost(),
                figures.join(" | "),
                ratio.unwrap_or_default(),
            ),
        );
    }
    page.push('\n');
}

fn is_work(cell: &CellResult) -> bool {
    cell.samples.iter().any(|sample| sample.work.is_some())
}

fn spread(median: Option<f64>, range: Option<(f64, f64)>) -> String {
    match (median, range) {
        (Some(median), Some((least, largest))) => {
            format!("{} ({}–{})", number(median), number(least), number(largest))
        }
        (Some(median), None) => number(median),
        (None, _) => "-".to_owned(),
    }
}

fn rates(page: &mut String, results: &Results) {
    add(
        page,
        format_args!(
            "## Rate and latency\n\nClosed loop, one core for load and backend together. Streams in MB/s.\n\n\
         | work | program | a second | p50 µs | p99 µs | p99.9 µs | lost | failed |\n|---|---|---:|---:|---:|---:|---:|---:|"
        ),
    );
    for cell in results.cells.iter().filter(|cell| is_work(cell)) {
        for program in cell.programs() {
            let seen = |figure: fn(&Measured) -> Option<f64>| cell.seen(program, figure);
            let shown = |figure| seen(figure).map_or("-".to_owned(), number);
            let unit = match cell.unit {
                crate::cells::Unit::Gigabyte => 1e6,
                _ => 1.0,
            };
            let rate = seen(|seen| Some(seen.rate)).unwrap_or_default() / unit;
            let lost = cell.worst(program, |work| work.measured.lost as f64);
            let failed = cell.worst(program, |work| work.measured.failed as f64);
            add(
                page,
                format_args!(
                    "| {} | {} | {} | {} | {} | {} | {} | {} |",
                    cell.name,
                    program.name(),
                    number(rate),
                    shown(|seen| Some(seen.latency?.p50)),
                    shown(|seen| Some(seen.latency?.p99)),
                    shown(|seen| Some(seen.latency?.p999)),
                    lost.unwrap_or_default(),
                    failed.unwrap_or_default(),
                ),
            );
        }
    }
    page.push('\n');
}

fn idle(page: &mut String, results: &Results) {
    for cell in results.cells.iter().filter(|cell| !is_work(cell)) {
        add(
            page,
            format_args!(
                "## {}\n\n| program | bytes a session | after a burst | whole RSS, MiB | CPU, µs/s | wake-ups/s |\n|---|---:|---:|---:|---:|---:|",
                cell.about
            ),
        );
        for program in cell.programs() {
            let idle = || cell.of(program).filter_map(|sample| sample.idle.as_ref());
            let shown = |value: Option<f64>| value.map_or("-".to_owned(), number);
            let mib = median(idle().map(|idle| idle.rss_idle as f64 / f64::from(1 << 20)));
            add(
                page,
                format_args!(
                    "| {} | {} | {} | {} | {} | {} |",
                    program.name(),
                    spread(cell.cost(program), cell.cost_range(program)),
                    shown(cost_after_burst(cell, program)),
                    shown(mib),
                    shown(median(idle().map(|idle| idle.cpu_us_a_second))),
                    shown(median(idle().map(|idle| idle.wakeups_a_second))),
                ),
            );
        }
        page.push('\n');
    }
}

fn picks(page: &mut String, picks: &[PickResult]) {
    if picks.is_empty() {
        return;
    }
    let sizes = crate::picks::POOLS;
    let heads = sizes.map(|size| size.to_string()).join(" | ");
    add(
        page,
        format_args!(
            "## A pick, by number of backends\n\nns a pick, alone and, after the slash, while two workers pick and count sessions; in brackets what a reload costs, in µs: to \
             build the table, and for the rotations of TCP and UDP to go on where they stand.\n\n\
         | algorithm | {heads} |\n|---|---:|---:|---:|---:|"
        ),
    );
    for (algorithm, _) in contract::Algorithm::ALL {
        let cells = sizes.map(|size| {
            let mut all = picks.iter();
            let found = all.find(|pick| pick.algorithm == algorithm && pick.backends == size);
            found.map_or("-".to_owned(), |found| {
                let [pick, build, adopt] =
                    [found.ns_a_pick, found.build_us, found.adopt_us].map(number);
                let among_two = found.ns_among_two.map_or("-".to_owned(), number);
                format!("{pick} / {among_two} ({build}, {adopt})")
            })
        });
        add(
            page,
            format_args!("| {algorithm} | {} |", cells.join(" | ")),
        );
    }
    page.push('\n');
}

fn reloads(page: &mut String, results: &Results) {
    if results.reloads.is_empty() {
        return;
    }
    add(
        page,
        format_args!(
            "## A reload, by number of backends\n\nEvery backend changes. The worker has a core for itself; a client with one \
         connection asks all the time.\n\n\
         | backends | applied after, ms | the worker's stall, µs | longest answer, µs | without a reload, µs |\n|---:|---:|---:|---:|---:|"
        ),
    );
    for size in crate::reload::POOLS {
        let of_size = || {
            results
                .reloads
                .iter()
                .filter(move |reload| reload.backends == size)
        };
        let shown = |figure: fn(&crate::results::ReloadResult) -> f64| {
            spread(median(of_size().map(figure)), range(of_size().map(figure)))
        };
        add(
            page,
            format_args!(
                "| {} | {} | {} | {} | {} |",
                size,
                shown(|reload| reload.applied_ms),
                shown(|reload| reload.stall_us),
                shown(|reload| reload.longest_answer_us),
                shown(|reload| reload.longest_answer_undisturbed_us),
            ),
        );
    }
}

/// A row for each number of workers and protocol, a column for each number of sessions.
fn spreads(page: &mut String, spreads: &[SpreadResult]) {
    let distinct =
        |of: fn(&SpreadResult) -> usize| -> BTreeSet<usize> { spreads.iter().map(of).collect() };
    let counts = distinct(|one| one.count);
    if counts.is_empty() {
        return;
    }
    let heads: Vec<String> = counts.iter().map(|count| format!("{count} open")).collect();
    add(
        page,
        format_args!(
            "\n## Long sessions and flows over the workers\n\nWhat the busiest worker has, as a multiple of the \
             mean: median (least to largest round). 1 is even.\n\n| | {} |\n|---|{}",
            heads.join(" | "),
            "---:|".repeat(heads.len())
        ),
    );
    for workers in distinct(|one| one.workers) {
        for protocol in ["tcp", "udp"] {
            let cells = counts.iter().map(|count| {
                let of_cell = spreads.iter().filter(|one| {
                    one.protocol == protocol && one.workers == workers && one.count == *count
                });
                let shares: Vec<f64> = of_cell.map(|one| one.busiest_to_mean).collect();
                spread(
                    median(shares.iter().copied()),
                    range(shares.iter().copied()),
                )
            });
            let cells: Vec<String> = cells.collect();
            add(
                page,
                format_args!("| {workers} workers, {protocol} | {} |", cells.join(" | ")),
            );
        }
    }
}
