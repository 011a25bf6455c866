//! What is held, what stands in for it, and when it is over.

use serde_json::json;

use super::*;
use crate::base::tests::key;
use contract::{Name, Report};

const ALGORITHM: &str = "algorithm";

fn plan(listen: u16, algorithm: &str, backends: &[u8]) -> Plan {
    let backend = |last: &u8| Backend {
        addr: key(*last).addr,
        weight: 10,
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch: None,
    };
    Plan {
        head: vec![
            (
                "listen".to_owned(),
                json!({"host": "127.0.0.1", "port": listen}),
            ),
            (ALGORITHM.to_owned(), json!(algorithm)),
        ],
        pools: [(Name::default(), backends.iter().map(backend).collect())].into(),
    }
}

fn process(pid: u32, started_at_ms: u64) -> Process {
    Process {
        pid,
        started_at_ms: Some(started_at_ms),
    }
}

fn refusal(code: RefusalCode, place: &str) -> Refusal {
    Refusal {
        code,
        place: place.to_owned(),
        value: "x".to_owned(),
        detail: "why".to_owned(),
        since: 5,
    }
}

fn places(holds: &Holds) -> Vec<String> {
    holds
        .incidents()
        .iter()
        .map(|one| one.part.place())
        .collect()
}

#[test]
fn a_refused_key_keeps_its_accepted_value_and_the_rest_is_as_wanted() {
    for place in ["/listen", "/listen/port"] {
        let mut holds = Holds::new(Some(plan(1, "random", &[1]).head));
        let wanted = plan(2, "source_hash", &[1, 2]);
        holds.accept(
            &wanted,
            &[refusal(RefusalCode::AddressInUse, place)],
            process(7, 1),
        );
        let (standing, left_out) = holds.stand_in(wanted.clone());
        assert_eq!(standing, plan(1, "source_hash", &[1, 2]));
        assert!(left_out.is_empty());
        // It stands in for as long as the refused value is wanted.
        holds.accept(&standing, &[], process(7, 1));
        assert_eq!(holds.stand_in(wanted.clone()).0, standing);
        assert_eq!(
            holds.stand_in(plan(3, "random", &[])).0,
            plan(3, "random", &[])
        );
        assert!(holds.incidents().is_empty());
    }
}

#[test]
fn a_refused_backend_is_left_out_and_named() {
    let mut holds = Holds::new(Some(plan(1, "random", &[]).head));
    let wanted = plan(1, "random", &[1, 2, 3]);
    let refused = refusal(RefusalCode::OwnListener, "/backends/1");
    holds.accept(&wanted, &[refused], process(7, 1));
    let (standing, left_out) = holds.stand_in(wanted);
    assert_eq!(standing, plan(1, "random", &[1, 3]));
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].key, key(2));
    // Its place moves, and what is refused does not.
    let (standing, _) = holds.stand_in(plan(1, "random", &[2, 3]));
    assert_eq!(standing, plan(1, "random", &[3]));
}

#[test]
fn a_refusal_without_a_place_holds_what_was_not_accepted() {
    let mut holds = Holds::new(Some(plan(1, "random", &[1]).head));
    let wanted = plan(2, "random", &[1, 2]);
    holds.refuse(
        &wanted,
        &[refusal(RefusalCode::Invalid, "")],
        Some(process(7, 1)),
    );
    assert_eq!(places(&holds), ["/listen"]);
    assert_eq!(holds.stand_in(wanted).0, plan(1, "random", &[1, 2]));
    // Where all keys are accepted ones, nothing can stand in.
    let mut holds = Holds::new(Some(plan(1, "random", &[1]).head));
    let wanted = plan(1, "random", &[1, 2]);
    holds.refuse(
        &wanted,
        &[refusal(RefusalCode::Invalid, "(line 1)")],
        Some(process(7, 1)),
    );
    assert_eq!(places(&holds), [""]);
    assert_eq!(holds.stand_in(wanted.clone()).0, wanted);
    holds.accept(&wanted, &[], process(7, 1));
    assert!(holds.incidents().is_empty(), "it runs now");
}

#[test]
fn nothing_stands_in_at_a_first_start() {
    let mut holds = Holds::new(None);
    let wanted = plan(2, "random", &[1]);
    holds.accept(
        &wanted,
        &[refusal(RefusalCode::AddressInUse, "/listen")],
        process(7, 1),
    );
    assert_eq!(holds.stand_in(wanted.clone()).0, wanted);
    assert_eq!(places(&holds), ["/listen"]);
    holds.accept(&wanted, &[], process(7, 1));
    assert!(
        holds.incidents().is_empty(),
        "the proxy has bound it by itself"
    );
}

#[test]
fn what_was_published_is_presumed_to_run_where_no_proxy_was_heard() {
    let wanted = plan(2, "random", &[]);
    let in_use = [refusal(RefusalCode::AddressInUse, "/listen")];
    let mut holds = Holds::new(None);
    holds.presume(&plan(1, "random", &[]));
    holds.accept(&wanted, &in_use, process(7, 1));
    assert_eq!(holds.stand_in(wanted.clone()).0, plan(1, "random", &[]));
    // What is known to be refused is not.
    let mut holds = Holds::new(None);
    holds.refuse(&plan(1, "random", &[]), &in_use, Some(process(7, 1)));
    holds.presume(&plan(1, "random", &[]));
    assert_eq!(holds.accepted_head(), None);
}

#[test]
fn a_stand_in_that_is_refused_too_stands_in_no_more() {
    let (wanted, accepted) = (plan(2, "random", &[]), plan(1, "random", &[]));
    let in_use = [refusal(RefusalCode::AddressInUse, "/listen")];
    let mut holds = Holds::new(Some(accepted.head));
    holds.accept(&wanted, &in_use, process(7, 1));
    let (standing, _) = holds.stand_in(wanted.clone());
    assert_eq!(standing.listening()[0].addr.port(), 1);
    // As when the proxy was restarted meanwhile, and the old port is taken too.
    holds.accept(&standing, &in_use, process(7, 1));
    for _ in 0..2 {
        assert_eq!(holds.stand_in(wanted.clone()).0, wanted);
        assert_eq!(places(&holds), ["/listen"]);
        assert_eq!(holds.incidents()[0].kept, None);
        holds.accept(&wanted, &in_use, process(7, 1));
    }
    holds.accept(&wanted, &[], process(7, 1));
    assert!(holds.incidents().is_empty());
}

#[test]
fn what_would_be_taken_is_not_held_any_more() {
    let mut holds = Holds::new(Some(plan(1, "random", &[]).head));
    let wanted = plan(2, "source_hash", &[1]);
    let in_use = refusal(RefusalCode::AddressInUse, "/listen");
    let invalid = refusal(RefusalCode::Invalid, "/algorithm");
    holds.refuse(&wanted, &[in_use.clone(), invalid], Some(process(7, 1)));
    holds.stand_in(wanted.clone());
    let (candidate, tried) = holds.candidate(wanted.clone(), Some(process(7, 1)));
    assert_eq!((&candidate, tried.len()), (&wanted, 2));
    holds.tried(&candidate, &tried, &[in_use], Some(process(7, 1)));
    assert_eq!(places(&holds), ["/listen"]);
    assert_eq!(
        holds.stand_in(wanted.clone()).0,
        plan(1, "source_hash", &[1])
    );
    holds.tried(&candidate, &tried, &[], Some(process(7, 1)));
    assert_eq!(holds.stand_in(wanted.clone()).0, wanted);
}

#[test]
fn what_needs_a_restart_is_tried_with_another_process_alone() {
    let mut holds = Holds::new(Some(plan(1, "random", &[]).head));
    let wanted = plan(2, "random", &[]);
    let refused = [refusal(RefusalCode::NeedsRestart, "/listen")];
    holds.refuse(&wanted, &refused, Some(process(7, 1)));
    let (candidate, tried) = holds.candidate(wanted.clone(), Some(process(7, 1)));
    assert_eq!(candidate, plan(1, "random", &[]));
    assert!(tried.is_empty());
    // In a container each has the same id. An older one says nothing else of itself.
    let older = |pid| Process {
        pid,
        started_at_ms: None,
    };
    for (first, other, is_tried) in [
        (process(7, 1), process(8, 2), true),
        (process(1, 1), process(1, 2), true),
        (process(1, 1), process(1, 1), false),
        (older(1), process(1, 1), true),
        (older(7), older(8), true),
        (older(1), older(1), false),
    ] {
        let mut holds = Holds::new(Some(plan(1, "random", &[]).head));
        holds.refuse(&wanted, &refused, Some(first));
        let (candidate, _) = holds.candidate(wanted.clone(), Some(other));
        assert_eq!(candidate == wanted, is_tried, "{first:?} {other:?}");
    }
    let told = holds.incidents()[0].described(5);
    assert_eq!(told.try_again_s, None);
    assert!(holds.incidents()[0].describe().contains("--keep-bind"));
}

#[test]
fn an_incident_keeps_its_beginning_and_puts_faults_of_one_part_together() {
    let mut holds = Holds::new(Some(plan(1, "random", &[]).head));
    let wanted = plan(2, "random", &[]);
    let faults = ["/listen/host", "/listen/port"];
    let mut faults = faults.map(|place| refusal(RefusalCode::Invalid, place));
    holds.refuse(&wanted, &faults, Some(process(7, 1)));
    assert_eq!(holds.incidents()[0].detail, "why");
    faults[1].detail = "too low".to_owned();
    holds.refuse(&wanted, &faults, Some(process(7, 1)));
    assert_eq!(holds.incidents()[0].detail, "why; too low");
    let mut later = refusal(RefusalCode::Invalid, "/listen");
    later.since = 9;
    holds.refuse(&wanted, &[later], Some(process(7, 1)));
    assert_eq!(holds.incidents().len(), 1);
    assert_eq!(holds.incidents()[0].since, 5);
}
