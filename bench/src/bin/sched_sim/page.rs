//! The figures as text, as a page, and as charts.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use bench::chart::{self, Bar, Group, number};
use contract::Algorithm;

use crate::claims::{self, lost, vram_shares};
use crate::figures::{self, Row, of};
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::run::Result;

/// For a terminal.
pub fn table(results: &[Result]) -> String {
    let mut text = String::new();
    add(
        &mut text,
        format_args!(
            "{:<24} {:<27} {:>8} {:>9} {:>8} {:>9}",
            "scenario", "policy", "p50 s", "p99 s", "lost %", "p99 / lc"
        ),
    );
    for row in figures::rows(results) {
        add(
            &mut text,
            format_args!(
                "{:<24} {:<27} {:>8} {:>9} {:>8.2} {:>9}",
                row.scenario,
                row.policy,
                number(row.p50_s),
                number(row.p99_s),
                row.lost_share * 100.0,
                ratio(&row)
            ),
        );
    }
    text
}

fn ratio(row: &Row) -> String {
    row.p99_ratio_to_lc
        .map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
}

const PAGE: &str = "scheduling.md";
const P99_CHART: &str = "scheduling-p99.svg";
const LOST_CHART: &str = "scheduling-lost.svg";

/// Writes page and charts into `folder`.
pub fn write(folder: &Path, results: &[Result]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let p99 = chart::draw(
        "99th percentile of the time to the answer, seconds",
        "mean of the seeds, and the least and the largest of them",
        &groups(results, &P99_SCENARIOS, &P99_POLICIES, |one| {
            one.quantile(0.99)
        }),
    );
    std::fs::write(folder.join(P99_CHART), p99)?;
    let lost = chart::draw(
        "Jobs lost for want of VRAM, percent",
        "mean of the seeds, and the least and the largest of them",
        &groups(results, &LOST_SCENARIOS, &LOST_POLICIES, |one| {
            one.lost_share() * 100.0
        }),
    );
    std::fs::write(folder.join(LOST_CHART), lost)?;
    std::fs::write(folder.join(PAGE), page(results))
}

const P99_SCENARIOS: [&str; 9] = [
    "mixed_86",
    "trace",
    "image_86",
    "equal_88",
    "tuned_86",
    "slow",
    "cold",
    "bursts",
    "four_proxies_86",
];
/// Those whose bars leave the others any length.
const P99_POLICIES: [(&str, Policy); 4] = [
    ("least conn.", Policy::LEAST_CONNECTIONS),
    ("two choices", Policy::Picker(Algorithm::PowerOfTwo)),
    ("gpu_aware", Policy::GPU_AWARE),
    ("oracle", Policy::Oracle),
];
const LOST_SCENARIOS: [&str; 5] = [
    "pressure_80",
    "pressure_92",
    "image_pressure_80",
    "image_pressure_92",
    "black_hole",
];
const LOST_POLICIES: [(&str, Policy); 6] = [
    ("round robin", Policy::Picker(Algorithm::RoundRobin)),
    ("least conn.", Policy::LEAST_CONNECTIONS),
    ("two choices", Policy::Picker(Algorithm::PowerOfTwo)),
    ("peak ewma", Policy::Picker(Algorithm::PeakEwma)),
    ("gpu_aware", Policy::GPU_AWARE),
    ("oracle", Policy::Oracle),
];

fn groups(
    results: &[Result],
    scenarios: &[&str],
    policies: &[(&'static str, Policy)],
    figure: impl Fn(&Outcome) -> f64,
) -> Vec<Group> {
    let group = |scenario: &&str| {
        let bars = policies.iter().filter_map(|&(name, policy)| {
            let outcomes = &of(results, scenario, policy)?.outcomes;
            let figures = || outcomes.iter().map(&figure);
            Some(Bar {
                name,
                value: figures::mean(figures()),
                range: (
                    figures().fold(f64::MAX, f64::min),
                    figures().fold(0.0, f64::max),
                ),
                is_ours: policy == Policy::GPU_AWARE,
            })
        });
        Group {
            title: (*scenario).to_owned(),
            bars: bars.collect(),
        }
    };
    let groups = scenarios.iter().map(group);
    groups.filter(|group| !group.bars.is_empty()).collect()
}

fn page(results: &[Result]) -> String {
    let mut text = String::new();
    let seeds = results.first().map_or(0, |result| result.outcomes.len());
    add(
        &mut text,
        format_args!(
            "# Scheduling\n\n\
             What each way of choosing a backend does, in a discrete-event simulation over the very pickers\n\
             and the very scorer that the proxy links (`bench/src/bin/sched_sim`). {seeds} paired seeds; every\n\
             policy gets the same arrivals. `make sched` makes this page again to the last digit.\n\n\
             It is a model: servers that share their speed evenly among the jobs in their slots, a queue\n\
             behind these, memory for each job, reports every 5 s that are 50 ms late. What it says of real\n\
             GPUs has not been measured on any. Latency is that of jobs that were answered, so a policy that\n\
             loses heavy jobs flatters its own: read the losses beside it.\n\n\
             ![p99]({P99_CHART})\n\n![losses]({LOST_CHART})\n"
        ),
    );
    add_claims(&mut text, results);
    add_scenarios(&mut text, results);
    text
}

fn add_claims(text: &mut String, results: &[Result]) {
    add(
        text,
        format_args!(
            "## What gpu_aware is to reach\n\n\
             | scenario | figure | reached | at most | |\n|---|---|---:|---:|---|"
        ),
    );
    for claim in claims::claims(results) {
        let verdict = if claim.is_met() { "met" } else { "**missed**" };
        add(
            text,
            format_args!(
                "| {} | {} | {:.3} | {:.3} | {verdict} |",
                claim.scenario, claim.what, claim.value, claim.limit
            ),
        );
    }
}

fn add_scenarios(text: &mut String, results: &[Result]) {
    add(text, format_args!("\n## All figures"));
    let rows = figures::rows(results);
    let mut shown = "";
    for (row, result) in rows.iter().zip(results) {
        let scenario = &result.scenario;
        if scenario.name != shown {
            shown = &scenario.name;
            add(
                text,
                format_args!(
                    "\n### {shown}\n\n{}; load {:.0} %.\n\n\
                     | policy | p50 s | p99 s | least to largest p99 | lost % | p99 / least_connections | VRAM shares a request |\n\
                     |---|---:|---:|---:|---:|---:|---:|",
                    scenario.about,
                    scenario.rho * 100.0
                ),
            );
        }
        let p99s = || result.outcomes.iter().map(|outcome| outcome.quantile(0.99));
        let shares =
            vram_shares(&result.outcomes).map_or("-".to_owned(), |shares| format!("{shares:.3}"));
        add(
            text,
            format_args!(
                "| {} | {} | {} | {} to {} | {:.2} | {} | {shares} |",
                row.policy,
                number(row.p50_s),
                number(row.p99_s),
                number(p99s().fold(f64::MAX, f64::min)),
                number(p99s().fold(0.0, f64::max)),
                lost(&result.outcomes) * 100.0,
                ratio(row),
            ),
        );
    }
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String does not fail");
}
