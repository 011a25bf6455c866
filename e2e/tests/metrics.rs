//! The metrics of all programs: each is described, in base units, and in the form that is asked for.

use std::io::Write as _;
use std::process::{Command, Stdio};

use e2e::loop_bench::LoopBench;
use serde_json::json;
use testkit::http::Request;
use testkit::installed::binary;
use testkit::ports::free_address;
use testkit::{Api, LONG, Program, until};

const DOCUMENT: &str = include_str!("../../docs/metrics-and-logs.md");

/// Of each program, in the Prometheus text format, once every kind of metric has a value.
fn expositions() -> Vec<String> {
    let bench = LoopBench::start(json!({}));
    let settings = json!({ "algorithm": "gpu_aware" });
    let (status, answer) = bench.control.api.post("/api/settings", &settings);
    assert_eq!(status, 200, "{answer}");
    bench.await_reached("a");
    until("a session has ended and a cost is told", LONG, || {
        let metrics = bench.proxy.admin.metrics();
        (metrics.contains("sessions_ended_total{") && metrics.contains("backend_cost{"))
            .then_some(())
    });
    let answer = bench.control.api.exchange(Request::new("GET", "/metrics"));
    let answer = answer.expect("control answers");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let wanted = Request::new("GET", "/metrics").header("Accept", "application/openmetrics-text");
    let openmetrics = bench.control.api.exchange(wanted).expect("control answers");
    assert!(openmetrics.text().ends_with("# EOF\n"));
    vec![answer.text(), bench.proxy.admin.metrics(), of_agent(&bench)]
}

/// Of an agent that has read figures and said them.
fn of_agent(bench: &LoopBench) -> String {
    let (control, listen) = (format!("http://{}", bench.control.addr), free_address());
    let figures = r#"{"gpu_usage": 0.5, "vram_usage": 0.25, "queue": 1, "running": 2}"#;
    let agent = Program::start(
        "gpu_agent",
        [
            "--control",
            &control,
            "--advertise",
            &bench.b.addr.to_string(),
            "--source",
            "command",
            "--command",
            &format!("echo '{figures}'"),
            "--health",
            "none",
            "--interval",
            "0.1",
            "--metrics-listen",
            &listen.to_string(),
        ],
    );
    let api = Api::at(listen);
    let text = until("the agent says what it has read", LONG, || {
        let answer = api.exchange(Request::new("GET", "/metrics")).ok()?.text();
        answer
            .contains("wicketgate_agent_vram_usage_ratio{")
            .then_some(answer)
    });
    drop(agent);
    text
}

#[test]
fn each_metric_is_in_base_units_and_described_as_in_the_document() {
    let mut names = Vec::new();
    for text in expositions() {
        let described: Vec<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
            .collect();
        let is_described = |name: &str| described.iter().any(|(described, _)| *described == name);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().expect("a name");
            let of_histogram = ["_bucket", "_sum", "_count"];
            let family = of_histogram.iter().find_map(|end| name.strip_suffix(end));
            let is_described = is_described(name) || family.is_some_and(is_described);
            assert!(is_described, "no help: {name}");
        }
        for (name, help) in described {
            let row = DOCUMENT.lines().find(|line| {
                [format!("| `{name}` |"), format!("| `{name}{{")]
                    .iter()
                    .any(|start| line.starts_with(start))
            });
            let row = row.unwrap_or_else(|| panic!("docs/metrics-and-logs.md lacks {name}"));
            let meaning = row.trim_end_matches(" |").rsplit(" | ").next();
            let meaning = meaning.map(|meaning| meaning.replace('`', ""));
            assert_eq!(
                meaning.as_deref(),
                Some(help.trim_end_matches('.')),
                "{name}"
            );
            for unit in ["_ms", "_us", "_percent", "_kb", "_mb"] {
                assert!(!name.ends_with(unit), "{name} is not in its base unit");
            }
            names.push(name.to_owned());
        }
    }
    let listed = DOCUMENT.lines().filter_map(|line| {
        let name = line
            .strip_prefix("| `wicketgate_")?
            .split(['`', '{', ' '])
            .next()?;
        (!line.contains("`{") && line.matches('|').count() == 4)
            .then(|| format!("wicketgate_{name}"))
    });
    for name in listed {
        assert!(
            names.contains(&name),
            "docs/metrics-and-logs.md lists {name}, which is none"
        );
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let Some(promtool) = binary("promtool") else {
        eprintln!("skipped: promtool is missing; on Debian: apt-get install prometheus");
        return;
    };
    for text in expositions() {
        let mut check = Command::new(&promtool);
        check.args(["check", "metrics"]).stdin(Stdio::piped());
        check.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut check = check.spawn().expect("promtool starts");
        let mut input = check.stdin.take().expect("a pipe");
        input.write_all(text.as_bytes()).expect("promtool reads");
        drop(input);
        let output = check.wait_with_output().expect("promtool ends");
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert!(output.status.success() && told.is_empty(), "{told}");
    }
}
