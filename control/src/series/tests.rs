//! What is kept of the whole, by hand-made looks.

use super::*;

const PROCESS: (u32, Option<u64>) = (7, Some(1));
/// A full minute.
const BEGAN_MS: u64 = 1_800_000_000_000;

fn totals(sessions: u64, failed: u64, first_bytes: &[(u64, u64)]) -> Totals {
    let mut totals = crate::history::tests::seen("up", "").totals;
    totals.counters.sessions_total = sessions;
    totals.counters.sessions_active = sessions / 10;
    totals.sessions_ended.insert("no_backend".into(), failed);
    totals
        .sessions_ended
        .insert("client_closed".into(), sessions - failed);
    // Of flows as many fail; the others are of a one-way protocol.
    totals.flows_ended.insert("unanswered".into(), failed);
    totals.flows_ended.insert("one_way".into(), sessions);
    totals.first_byte.buckets = first_bytes.to_vec();
    totals
}

fn heard(monotonic_ms: u64, totals: Totals) -> Option<Heard> {
    Some(Heard {
        monotonic_ms,
        process: PROCESS,
        totals,
        taking: 3,
    })
}

fn fleet(gpu: f64) -> Fleet {
    Fleet {
        backends: 4,
        gpu: Some(gpu),
        vram: None,
        vram_batched: None,
        vram_unbatched: None,
    }
}

/// One figure of the whole.
fn figure(series: &Series, step_ms: u64, name: &str) -> Vec<Option<f64>> {
    let whole = series.whole(step_ms, 0, u64::MAX);
    let figures = whole["series"][name].as_array().expect("a figure");
    figures.iter().map(Value::as_f64).collect()
}

#[test]
fn rates_and_quantiles_are_of_the_step_and_gauges_of_its_end() {
    let mut series = Series::new(DEFAULT_BYTES);
    let looks = [
        totals(100, 0, &[(200, 90)]),
        totals(150, 5, &[(200, 95), (90_000, 5)]),
    ];
    for (step, totals) in looks.into_iter().enumerate() {
        let passed_ms = step as u64 * STEP_MS;
        series.look(heard(passed_ms, totals));
        series.step(BEGAN_MS + passed_ms, fleet(0.5));
    }
    let of = |name| figure(&series, STEP_MS, name);
    assert_eq!(of("session_rate"), [None, Some(9.0)]);
    assert_eq!(of("failed_rate"), [None, Some(1.0)]);
    assert_eq!(of("failed_no_backend_rate"), [None, Some(1.0)]);
    assert_eq!(of("failed_backend_reset_rate"), [None, Some(0.0)]);
    assert_eq!(of("flow_failed_rate"), [None, Some(1.0)]);
    assert_eq!(of("first_byte_p50_us"), [None, Some(200.0)]);
    assert_eq!(of("first_byte_p99_us"), [None, Some(90_000.0)]);
    assert_eq!(of("sessions"), [Some(10.0), Some(15.0)]);
    assert_eq!(of("taking"), [Some(3.0), Some(3.0)]);
    assert_eq!(of("gpu"), [Some(0.5), Some(0.5)]);
    assert_eq!(of("vram"), [None, None]);
}

#[test]
fn a_proxy_that_is_not_heard_or_another_one_leaves_gaps() {
    let mut series = Series::new(DEFAULT_BYTES);
    let mut other = heard(15_000, totals(3, 0, &[]));
    other.as_mut().expect("made above").process.0 = 8;
    let looks = [
        heard(0, totals(10, 0, &[])),
        None,
        heard(10_000, totals(20, 0, &[])),
        other,
    ];
    for (step, look) in (0..).zip(looks) {
        series.look(look);
        series.step(BEGAN_MS + step * STEP_MS, fleet(0.5));
    }
    let of = |name| figure(&series, STEP_MS, name);
    assert_eq!(of("session_rate"), [None; 4]);
    assert_eq!(of("sessions"), [Some(1.0), None, Some(2.0), Some(0.0)]);
    assert_eq!(of("backends"), [Some(4.0); 4]);
}

#[test]
fn a_minute_keeps_means_of_gauges_and_rates_over_all_of_it() {
    let mut series = Series::new(DEFAULT_BYTES);
    let mut ended = Vec::new();
    for step in 0..=24 {
        let passed_ms = step * STEP_MS;
        series.look(heard(passed_ms, totals(step * step, 0, &[(100, step)])));
        let gpu = if step % 2 == 0 { 0.25 } else { 0.75 };
        ended.extend(series.step(BEGAN_MS + passed_ms, fleet(gpu)));
    }
    assert_eq!(ended, [BEGAN_MS, BEGAN_MS + MINUTE_MS]);
    let rates = figure(&series, MINUTE_MS, "session_rate");
    assert_eq!(rates, [Some(144.0 / 60.0), Some((576.0 - 144.0) / 60.0)]);
    assert_eq!(figure(&series, MINUTE_MS, "gpu"), [Some(0.5); 2]);
    let whole = series.whole(MINUTE_MS, BEGAN_MS + 1, u64::MAX);
    assert_eq!(whole["first_ms"], json!(BEGAN_MS + MINUTE_MS));
    assert_eq!(whole["count"], json!(1));
}

#[test]
fn figures_are_told_with_four_digits() {
    let cases = [
        (0.0, json!(0)),
        (12.0, json!(12)),
        (0.123_456, json!(0.1235)),
        (98_765.4, json!(98_770)),
        (f32::NAN, Value::Null),
        (f32::INFINITY, Value::Null),
    ];
    for (figure, right) in cases {
        assert_eq!(known(figure), right, "{figure}");
    }
}

#[test]
fn the_bound_in_bytes_is_one_of_backends() {
    assert!(backends_within(DEFAULT_BYTES) > 100_000);
    assert!(backends_within(LEAST_BYTES) > 100);
}
