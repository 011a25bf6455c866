//! What the engines really print, and what is read of it. Each fixture says what it follows.

use std::io::{BufReader, Read, repeat};

use agent::engines::Engine;
use agent::exposition::MAX_SAMPLES;
use agent::figures::{Figures, Reading};
use agent::gpus::Gpu;
use proptest::prelude::*;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("fixtures/", $name, ".txt"))
    };
}

const VLLM: &str = fixture!("vllm_0.11");
const SGLANG: &str = fixture!("sglang_0.5");
const SGLANG_PRIORITY: &str = fixture!("sglang_0.5_priority");
const SGLANG_DECODE: &str = fixture!("sglang_0.5_decode");
const TRITON: &str = fixture!("triton_25");
const TRITON_TRTLLM: &str = fixture!("triton_25_trtllm");
const TRITON_TRTLLM_OLDER: &str = fixture!("triton_24_trtllm");
const DCGM: &str = fixture!("dcgm_4");
const DCGM_MIG: &str = fixture!("dcgm_3_mig");
const AMD: &str = fixture!("amd_device_metrics_1.4");
const AMD_SMI: &str = fixture!("amd_smi_exporter_0.2");
const OMNISTAT: &str = fixture!("amd_omnistat_1");

type Shares = (Option<f64>, Option<f64>);
type Requests = (Option<u64>, Option<u64>);

/// A fixture, the GPUs that are named, `(gpu, vram)` to four digits, and `(queue, running)`.
type Expected = (
    Engine,
    &'static str,
    &'static [&'static str],
    Shares,
    Requests,
);

const NONE: Requests = (None, None);

/// Every fixture and its figures; nothing is wrong with any of them.
const ALL: [Expected; 23] = [
    (
        Engine::Vllm,
        VLLM,
        &[],
        (None, Some(0.6219)),
        (Some(3), Some(21)),
    ),
    (
        Engine::Vllm,
        fixture!("vllm_0.6"),
        &[],
        (None, Some(0.5)),
        (Some(1), Some(2)),
    ),
    (
        Engine::Vllm,
        fixture!("vllm_0.11_openmetrics"),
        &[],
        (None, Some(1.0)),
        (Some(3), Some(12)),
    ),
    (
        Engine::Vllm,
        fixture!("vllm_0.8_ray_2.43"),
        &[],
        (None, Some(0.5)),
        (Some(2), Some(10)),
    ),
    (
        Engine::Vllm,
        fixture!("vllm_0.11_ray_2.49"),
        &[],
        (None, Some(0.5)),
        (Some(2), Some(10)),
    ),
    (
        Engine::Sglang,
        SGLANG,
        &[],
        (None, Some(0.28)),
        (Some(5), Some(16)),
    ),
    (
        Engine::Sglang,
        fixture!("sglang_0.4"),
        &[],
        (None, Some(0.28)),
        (Some(2826), Some(162)),
    ),
    (
        Engine::Sglang,
        SGLANG_PRIORITY,
        &[],
        (None, Some(0.41)),
        (Some(3), Some(12)),
    ),
    (
        Engine::Sglang,
        SGLANG_DECODE,
        &[],
        (None, Some(0.73)),
        (Some(49), Some(31)),
    ),
    (
        Engine::Sglang,
        fixture!("sglang_0.5_prefill"),
        &[],
        (None, Some(0.05)),
        (Some(8), Some(6)),
    ),
    (
        Engine::Sglang,
        fixture!("sglang_0.5_otel"),
        &[],
        (None, Some(0.72)),
        (Some(2), Some(20)),
    ),
    (
        Engine::Trtllm,
        fixture!("trtllm_1"),
        &[],
        (None, Some(0.62)),
        (Some(2), Some(8)),
    ),
    (
        Engine::Tgi,
        fixture!("tgi_3"),
        &[],
        (None, None),
        (Some(7), Some(4)),
    ),
    (
        Engine::Lmdeploy,
        fixture!("lmdeploy_0.9"),
        &[],
        (None, Some(0.35)),
        (Some(4), Some(7)),
    ),
    (
        Engine::Lmdeploy,
        fixture!("lmdeploy_0.11"),
        &[],
        (None, Some(0.9)),
        (Some(13), Some(8)),
    ),
    (
        Engine::Llamacpp,
        fixture!("llamacpp_b4500"),
        &[],
        (None, Some(0.42)),
        (Some(46), Some(4)),
    ),
    (
        Engine::Llamacpp,
        fixture!("llamacpp_b6500"),
        &[],
        (None, None),
        (Some(46), Some(4)),
    ),
    (
        Engine::Triton,
        TRITON,
        &[],
        (Some(0.45), Some(0.375)),
        (Some(14), None),
    ),
    (
        Engine::Triton,
        TRITON_TRTLLM,
        &[],
        (Some(0.93), Some(0.4875)),
        (Some(5), Some(7)),
    ),
    (
        Engine::Triton,
        TRITON_TRTLLM_OLDER,
        &[],
        (Some(0.93), Some(0.4875)),
        (Some(5), Some(7)),
    ),
    (Engine::Dcgm, DCGM, &["0"], (Some(0.87), Some(0.75)), NONE),
    (
        Engine::Dcgm,
        fixture!("dcgm_1"),
        &[],
        (Some(0.4), Some(0.25)),
        NONE,
    ),
    (Engine::Amd, AMD, &["0"], (Some(0.88), Some(0.8001)), NONE),
];

/// `(gpu, vram)` to four digits, `(queue, running)` and the number of faults.
#[track_caller]
fn check(
    (engine, text): (Engine, &str),
    gpus: &[&str],
    shares: Shares,
    requests: Requests,
    faults: usize,
) {
    let Reading {
        figures,
        faults: found,
        warnings,
    } = read(engine, text, gpus).expect("its metrics");
    let digits = |share: Option<f64>| share.map(|share| (share * 1e4).round() / 1e4);
    let found_shares = (digits(figures.gpu_usage), digits(figures.vram_usage));
    assert_eq!(found_shares, shares, "{found:?} {text}");
    assert_eq!(
        (figures.queue, figures.running),
        requests,
        "{found:?} {text}"
    );
    assert_eq!(found.len(), faults, "{found:?} {text}");
    assert_eq!(warnings, Vec::<String>::new());
}

fn read(engine: Engine, text: &str, gpus: &[&str]) -> Result<Reading, String> {
    engine.read(text.as_bytes(), &named(gpus))
}

fn named(gpus: &[&str]) -> Vec<Gpu> {
    let gpus = gpus.iter();
    gpus.map(|name| Gpu::parse(name).expect("a name")).collect()
}

#[test]
fn every_fixture_gives_its_figures() {
    for (engine, text, gpus, shares, requests) in ALL {
        check((engine, text), gpus, shares, requests, 0);
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    // Two of AMD's exporters are tried elsewhere, and one of DCGM's.
    let count = std::fs::read_dir(folder).expect("the fixtures").count();
    assert_eq!(count, ALL.len() + 3, "a fixture that nothing reads");
}

#[test]
fn line_ends_of_windows_a_mark_and_doubled_rows_change_no_figure() {
    for (engine, text, gpus, ..) in ALL {
        let plain = read(engine, text, gpus).expect("its metrics");
        let windows = text.replace('\n', "\r\n");
        assert_eq!(read(engine, &windows, gpus), Ok(plain.clone()));
        let doubled: String = text
            .lines()
            .flat_map(|line| [line, "\n", line, "\n"])
            .collect();
        assert_eq!(read(engine, &doubled, gpus), Ok(plain.clone()));
        // The mark must not hide the first line.
        let rows: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let marked = format!("\u{feff}{}\n", rows.join("\n"));
        let marked = read(engine, &marked, gpus).expect("its metrics");
        assert_eq!(marked.figures, plain.figures);
        assert!(marked.warnings[0].contains("byte order mark"), "{marked:?}");
    }
}

/// Only the transport shows a cut between two lines; see `agent/src/fetch.rs`.
#[test]
fn a_scrape_that_is_cut_within_a_line_gives_nothing() {
    for (engine, text, gpus, ..) in ALL {
        for length in 0..text.len() {
            if !text.is_char_boundary(length) || text[..length].ends_with('\n') {
                continue;
            }
            let cut = read(engine, &text[..length], gpus);
            let is_complete = text.ends_with("# EOF\n") && length == text.len() - 1;
            assert_eq!(cut.is_ok(), is_complete, "{length}: {cut:?}");
        }
    }
}

#[test]
fn of_several_names_of_one_figure_the_first_counts_alone() {
    let shares = (None, Some(0.6219));
    let both = format!("{VLLM}{}", VLLM.replace("vllm:", "vllm_"));
    check((Engine::Vllm, &both), &[], shares, (Some(3), Some(21)), 0);
    let other = "vllm_num_requests_waiting 7\nvllm:gpu_cache_usage_perc 0.9\n";
    for text in [format!("{VLLM}{other}"), format!("{other}{VLLM}")] {
        check((Engine::Vllm, &text), &[], shares, (Some(3), Some(21)), 0);
    }
}

#[test]
fn the_total_of_all_priorities_counts_alone_where_it_is_there() {
    let shares = (None, Some(0.41));
    // A collector on the way may drop empty labels.
    let without_empty = SGLANG_PRIORITY.replace("priority=\"\",", "");
    check(
        (Engine::Sglang, &without_empty),
        &[],
        shares,
        (Some(3), Some(12)),
        0,
    );
    let without_total: String = SGLANG_PRIORITY
        .lines()
        .filter(|line| !line.contains("_reqs{") || !line.contains("priority=\"\""))
        .map(|line| format!("{line}\n"))
        .collect();
    check(
        (Engine::Sglang, &without_total),
        &[],
        shares,
        (Some(3), Some(12)),
        0,
    );
}

#[test]
fn triton_shows_all_of_its_gpus_or_those_that_are_named() {
    let triton = (Engine::Triton, TRITON);
    let queue = (Some(14), None);
    let one = ["GPU-340cec52-80ba-c0df-8511-5f9680aae0ed"];
    check(triton, &one, (Some(0.78), Some(0.5)), queue, 0);
    // It knows no index: that GPU is the driver's to tell.
    check(triton, &["0"], (None, None), queue, 0);
    check(triton, &[one[0], "GPU-unknown"], (None, None), queue, 0);
}

#[test]
fn behind_triton_the_cache_of_tensorrt_llm_counts_and_not_the_memory() {
    let without_fraction: String = TRITON_TRTLLM
        .lines()
        .filter(|line| !line.contains("fraction"))
        .map(|line| format!("{line}\n"))
        .collect();
    let shares = (Some(0.93), Some(0.4875));
    check(
        (Engine::Triton, &without_fraction),
        &[],
        shares,
        (Some(5), Some(7)),
        0,
    );
}

#[test]
fn a_backend_of_triton_that_shows_no_waiting_requests_is_read_by_what_it_has_taken_in() {
    let shares = (Some(0.93), Some(0.4875));
    // The two are counted one after the other.
    let fewer = TRITON_TRTLLM_OLDER.replace("\"1\"} 11\n", "\"1\"} 5\n");
    check((Engine::Triton, &fewer), &[], shares, (Some(1), Some(7)), 0);
    let without: String = TRITON_TRTLLM_OLDER
        .lines()
        .filter(|line| !line.contains("\"active\""))
        .map(|line| format!("{line}\n"))
        .collect();
    check((Engine::Triton, &without), &[], shares, (None, Some(7)), 1);
}

#[test]
fn dcgm_shows_the_gpu_that_is_named_by_index_uuid_or_part() {
    let dcgm = (Engine::Dcgm, DCGM);
    let whole = "GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52";
    check(dcgm, &[whole], (Some(0.87), Some(0.75)), NONE, 0);
    check(dcgm, &["1"], (None, Some(0.25)), NONE, 1);
    let part = "MIG-GPU-8f2c1d90-3e5a-4b17-9c2e-5da9abb51763/1/0";
    check(dcgm, &[part], (Some(0.81), Some(0.75)), NONE, 0);
    check(dcgm, &[whole, part], (Some(0.84), Some(0.75)), NONE, 0);
}

#[test]
fn a_part_of_a_gpu_is_as_busy_as_its_engine_and_never_idle_by_mistake() {
    let part = |number: u32| format!("MIG-GPU-8f2c1d90-3e5a-4b17-9c2e-5da9abb51763/{number}/0");
    for (number, gpu, vram, faults) in [
        (1, Some(0.93), 0.75, 0),
        (2, Some(0.0), 0.0, 0),
        // Nothing but the utilization, which is 0 for every part.
        (3, None, 0.5, 1),
    ] {
        let shares = (gpu, Some(vram));
        check(
            (Engine::Dcgm, DCGM_MIG),
            &[&part(number)],
            shares,
            NONE,
            faults,
        );
    }
}

#[test]
fn amds_gpus_are_named_by_number_or_uuid() {
    let uuid = "27ff74a1-0000-1000-80f1-0d1e2b3c4d5e";
    for name in ["1", uuid] {
        check(
            (Engine::Amd, AMD),
            &[name],
            (Some(0.03), Some(0.01)),
            NONE,
            0,
        );
    }
    check(
        (Engine::Amd, AMD),
        &["0", "1"],
        (Some(0.455), Some(0.405)),
        NONE,
        0,
    );
    for (from, to) in [
        ("gpu_", "amd_gpu_"),
        ("gpu_gfx_activity", "GPU_GFX_ACTIVITY"),
    ] {
        let renamed = AMD.replace(from, to).replace("{card", "{x=\"\",card");
        let renamed = renamed
            .replace("amd_gpu_id", "gpu_id")
            .replace("amd_gpu_uuid", "gpu_uuid");
        check(
            (Engine::Amd, &renamed),
            &[uuid],
            (Some(0.03), Some(0.01)),
            NONE,
            0,
        );
    }
    // It shows how busy the memory is, and not how full.
    check((Engine::Amd, AMD_SMI), &["0"], (Some(0.64), None), NONE, 0);
    check(
        (Engine::Amd, OMNISTAT),
        &["0"],
        (Some(0.97), Some(0.25)),
        NONE,
        0,
    );
    check(
        (Engine::Amd, OMNISTAT),
        &["1"],
        (Some(0.0), Some(0.0002)),
        NONE,
        0,
    );
    for text in [AMD, AMD_SMI, OMNISTAT] {
        check((Engine::Amd, text), &[], (None, None), NONE, 1);
        check((Engine::Amd, text), &["7"], (None, None), NONE, 1);
    }
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
fn what_is_missing_or_out_of_range_is_reported_and_costs_only_itself() {
    let changed = |from: &str, to: &str| {
        assert!(VLLM.contains(from));
        VLLM.replace(from, to)
    };
    let whole = (Some(3), Some(21));
    let cases = [
        (changed("vllm:kv_cache_usage_perc{", "x{"), (None, whole)),
        // Of the two caches the other one counts.
        (
            changed(" 0.6218750000000001", " 62.1"),
            (Some(0.4031), whole),
        ),
        (
            changed(" 0.6218750000000001", " -0.3"),
            (Some(0.4031), whole),
        ),
        (
            changed(" 0.40312499999999996", " NaN"),
            (Some(0.6219), whole),
        ),
        (changed(" 0.40312499999999996", " x"), (Some(0.6219), whole)),
        (
            changed("vllm:num_requests_waiting{", "x{"),
            (Some(0.6219), (None, Some(21))),
        ),
        // A sum without one of its parts would be too little.
        (changed(" 9.0", " -9.0"), (Some(0.6219), (Some(3), None))),
        (changed(" 9.0", " +Inf"), (Some(0.6219), (Some(3), None))),
        (changed(" 9.0", " nine"), (Some(0.6219), (Some(3), None))),
    ];
    for (text, (cache, requests)) in cases {
        check((Engine::Vllm, &text), &[], (None, cache), requests, 1);
    }
    // Rounding is not out of range.
    let full = changed(" 0.6218750000000001", " 1.01");
    check((Engine::Vllm, &full), &[], (None, Some(1.0)), whole, 0);
    let empty = changed(" 0.40312499999999996", " -0.01");
    check((Engine::Vllm, &empty), &[], (None, Some(0.6219)), whole, 0);
}

#[test]
fn one_bad_gpu_is_not_hidden_in_a_mean() {
    let gpus = ["0", "MIG-GPU-8f2c1d90-3e5a-4b17-9c2e-5da9abb51763/2/0"];
    check(
        (Engine::Dcgm, DCGM),
        &gpus,
        (Some(0.435), Some(0.5)),
        NONE,
        0,
    );
    let bad = DCGM.replace("\"} 87", "\"} 187");
    check((Engine::Dcgm, &bad), &gpus, (None, Some(0.5)), NONE, 1);
    let bad = DCGM.replace("\"} 61440", "\"} -61440");
    check((Engine::Dcgm, &bad), &gpus, (Some(0.435), None), NONE, 1);
    let bad = TRITON.replace(" 42949672960", " +Inf");
    check(
        (Engine::Triton, &bad),
        &[],
        (Some(0.45), None),
        (Some(14), None),
        2,
    );
}

#[test]
fn what_is_no_such_engines_metrics_is_refused_with_what_was_looked_for() {
    for (engine, text, ..) in ALL {
        for other in ["", "{\"numActiveRequests\": 3}", "<html>", "up 1\n"] {
            let why = read(engine, other, &[]).expect_err("nothing of it is there");
            assert!(
                why.contains("no metrics of this engine") && why.len() < 400,
                "{why}"
            );
        }
        assert!(read(engine, text, &[]).is_ok());
    }
    assert!(read(Engine::Vllm, SGLANG, &[]).is_err());
}

#[test]
fn huge_scrapes_are_read_in_a_bounded_room_or_refused() {
    let whole = (Some(3), Some(21));
    let mut many = VLLM.to_owned();
    let labels: String = (0..60)
        .map(|n| format!("label_{n}=\"{n:0>60}\","))
        .collect();
    for number in 0..200_000 {
        many += &format!("vllm:e2e_request_latency_seconds_bucket{{le=\"{number}\"}} 1\n");
    }
    many += &format!("vllm:other{{{labels}}} 1\n");
    check((Engine::Vllm, &many), &[], (None, Some(0.6219)), whole, 0);

    let rows = |count: usize| -> String {
        let rows = (0..count).map(|n| format!("vllm:num_requests_waiting{{engine=\"{n}\"}} 1\n"));
        rows.collect()
    };
    let most = rows(MAX_SAMPLES);
    let reading = read(Engine::Vllm, &most, &[]).expect("as many as allowed");
    assert_eq!(reading.figures.queue, Some(MAX_SAMPLES as u64));
    let why = read(Engine::Vllm, &rows(1_000_000), &[]).expect_err("too many");
    assert!(why.contains("12000"), "{why}");

    // One line without an end.
    let endless = VLLM.as_bytes().chain(repeat(b'x').take(64 << 20));
    let why = Engine::Vllm
        .read(BufReader::new(endless), &[])
        .expect_err("cut");
    assert!(why.contains("ends within a line"), "{why}");
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
        let (engine, text, gpus, ..) = ALL[which];
        let place = (text.len() as f64 * at) as usize;
        let mut bytes = text.as_bytes().to_vec();
        if cut {
            bytes.truncate(place);
        } else {
            bytes[place] = byte;
        }
        if let Ok(reading) = engine.read(bytes.as_slice(), &named(gpus)) {
            for share in [reading.figures.gpu_usage, reading.figures.vram_usage] {
                prop_assert!(share.is_none_or(|share| (0.0..=1.0).contains(&share)));
            }
        }
    }
}
