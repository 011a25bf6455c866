//! What the engines really print, and what is read of it. Each fixture says what it follows.

use agent::engines::Engine;
use agent::figures::{Figures, Reading};
use agent::gpus::Gpu;
use proptest::prelude::*;

const VLLM: &str = include_str!("fixtures/vllm.txt");
const VLLM_OLDER: &str = include_str!("fixtures/vllm_older.txt");
const SGLANG: &str = include_str!("fixtures/sglang.txt");
const SGLANG_OLDER: &str = include_str!("fixtures/sglang_older.txt");
const TRITON: &str = include_str!("fixtures/triton.txt");
const TRITON_TRTLLM: &str = include_str!("fixtures/triton_trtllm.txt");
const TRTLLM: &str = include_str!("fixtures/trtllm.txt");
const TGI: &str = include_str!("fixtures/tgi.txt");
const DCGM: &str = include_str!("fixtures/dcgm.txt");
const DCGM_OLDER: &str = include_str!("fixtures/dcgm_older.txt");

const ALL: [(Engine, &str); 10] = [
    (Engine::Vllm, VLLM),
    (Engine::Vllm, VLLM_OLDER),
    (Engine::Sglang, SGLANG),
    (Engine::Sglang, SGLANG_OLDER),
    (Engine::Triton, TRITON),
    (Engine::Triton, TRITON_TRTLLM),
    (Engine::Trtllm, TRTLLM),
    (Engine::Tgi, TGI),
    (Engine::Dcgm, DCGM),
    (Engine::Dcgm, DCGM_OLDER),
];

type Shares = (Option<f64>, Option<f64>);

/// `(gpu, vram)` to four digits, `(queue, running)` and the number of faults.
#[track_caller]
fn check(
    (engine, text): (Engine, &str),
    gpus: &[&str],
    shares: Shares,
    requests: (Option<u64>, Option<u64>),
    faults: usize,
) {
    let Reading {
        figures,
        faults: found,
    } = read(engine, text, gpus).expect("its metrics");
    let digits = |share: Option<f64>| share.map(|share| (share * 1e4).round() / 1e4);
    let found_shares = (digits(figures.gpu_usage), digits(figures.vram_usage));
    assert_eq!(found_shares, shares, "{found:?}");
    assert_eq!((figures.queue, figures.running), requests, "{found:?}");
    assert_eq!(found.len(), faults, "{found:?}");
}

fn read(engine: Engine, text: &str, gpus: &[&str]) -> Result<Reading, String> {
    let gpus: Vec<Gpu> = gpus
        .iter()
        .map(|name| Gpu::parse(name).expect("a name"))
        .collect();
    engine.read(text, &gpus)
}

#[test]
fn engines_with_a_cache_are_summed_and_their_fullest_cache_counts() {
    let cases = [
        (VLLM, Engine::Vllm, 0.6219, 3, 21),
        (VLLM_OLDER, Engine::Vllm, 0.5, 1, 2),
        (SGLANG, Engine::Sglang, 0.28, 5, 16),
        (SGLANG_OLDER, Engine::Sglang, 0.28, 2826, 162),
        (TRTLLM, Engine::Trtllm, 0.62, 2, 8),
    ];
    for (text, engine, cache, queue, running) in cases {
        let requests = (Some(queue), Some(running));
        check((engine, text), &[], (None, Some(cache)), requests, 0);
    }
    check((Engine::Tgi, TGI), &[], (None, None), (Some(7), Some(4)), 0);
}

#[test]
fn triton_shows_all_of_its_gpus_or_those_that_are_named() {
    let triton = (Engine::Triton, TRITON);
    let queue = (Some(14), None);
    check(triton, &[], (Some(0.45), Some(0.375)), queue, 0);
    let one = ["GPU-340cec52-80ba-c0df-8511-5f9680aae0ed"];
    check(triton, &one, (Some(0.78), Some(0.5)), queue, 0);
    // It knows no index: that GPU is the driver's to tell.
    check(triton, &["0"], (None, None), queue, 0);
    check(triton, &[one[0], "GPU-unknown"], (None, None), queue, 0);
}

#[test]
fn behind_triton_the_cache_of_tensorrt_llm_counts_and_not_the_memory() {
    let whole = (Some(5), Some(7));
    let shares = (Some(0.93), Some(0.4875));
    check((Engine::Triton, TRITON_TRTLLM), &[], shares, whole, 0);
    let without_fraction: String = TRITON_TRTLLM
        .lines()
        .filter(|line| !line.contains("fraction"))
        .map(|line| format!("{line}\n"))
        .collect();
    check((Engine::Triton, &without_fraction), &[], shares, whole, 0);
}

#[test]
fn dcgm_shows_the_gpu_that_is_named_by_index_uuid_or_part() {
    let dcgm = (Engine::Dcgm, DCGM);
    let none = (None, None);
    let whole = "GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52";
    for name in ["0", whole] {
        check(dcgm, &[name], (Some(0.87), Some(0.75)), none, 0);
    }
    check(dcgm, &["1"], (None, Some(0.25)), none, 1);
    let part = "MIG-GPU-8f2c1d90-3e5a-4b17-9c2e-5da9abb51763/1/0";
    check(dcgm, &[part], (Some(0.81), Some(0.75)), none, 0);
    check(dcgm, &[whole, part], (Some(0.84), Some(0.75)), none, 0);
    check(
        (Engine::Dcgm, DCGM_OLDER),
        &[],
        (Some(0.4), Some(0.25)),
        none,
        0,
    );
}

#[test]
fn a_gpu_that_is_not_there_or_not_named_is_answered_with_those_that_are() {
    // GPU 2 is cut into parts, so it has no row of its own.
    for gpus in [&[][..], &["2"], &["7"]] {
        let reading = read(Engine::Dcgm, DCGM, gpus).expect("its metrics");
        assert_eq!(reading.figures, Figures::default());
        let part = "MIG-GPU-8f2c1d90-3e5a-4b17-9c2e-5da9abb51763/2/0";
        assert!(reading.faults[0].contains(part), "{:?}", reading.faults);
    }
}

#[test]
fn what_is_missing_or_out_of_range_is_unknown_and_told() {
    let changed = |from: &str, to: &str| {
        assert!(VLLM.contains(from));
        VLLM.replace(from, to)
    };
    let whole = (Some(3), Some(21));
    let cases = [
        (changed("vllm:kv_cache_usage_perc{", "x{"), (None, whole)),
        (changed(" 0.6218750000000001", " 62.1"), (None, whole)),
        (changed(" 0.40312499999999996", " NaN"), (None, whole)),
        (
            changed("vllm:num_requests_waiting{", "x{"),
            (Some(0.6219), (None, Some(21))),
        ),
        (changed(" 9.0", " -9.0"), (Some(0.6219), (Some(3), None))),
    ];
    for (text, (cache, requests)) in cases {
        check((Engine::Vllm, &text), &[], (None, cache), requests, 1);
    }
}

#[test]
fn what_is_no_such_engines_metrics_is_refused_with_what_was_looked_for() {
    for (engine, text) in ALL {
        for other in ["", "{\"numActiveRequests\": 3}", "<html>", "up 1\n"] {
            let why = read(engine, other, &[]).expect_err("nothing of it is there");
            assert!(why.contains("none of its metrics"), "{why}");
        }
        assert!(read(engine, text, &[]).is_ok());
    }
    assert!(read(Engine::Vllm, SGLANG, &[]).is_err());
}

proptest! {
    /// A scrape that breaks off, or has a byte changed, never panics, and never gives a share
    /// outside of its range.
    #[test]
    fn broken_scrapes_are_read_as_far_as_they_go(
        which in 0..ALL.len(),
        at in 0.0..1.0f64,
        byte in 0x20u8..0x7f,
        cut: bool,
    ) {
        let (engine, text) = ALL[which];
        let place = (text.len() as f64 * at) as usize;
        let mut bytes = text.as_bytes().to_vec();
        if cut {
            bytes.truncate(place);
        } else {
            bytes[place] = byte;
        }
        let broken = String::from_utf8_lossy(&bytes);
        if let Ok(reading) = read(engine, &broken, &[]) {
            for share in [reading.figures.gpu_usage, reading.figures.vram_usage] {
                prop_assert!(share.is_none_or(|share| (0.0..=1.0).contains(&share)));
            }
        }
    }
}
