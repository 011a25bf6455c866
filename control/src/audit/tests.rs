//! Lines, sums, numbers and rotation.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::*;
use crate::base::tests::key;

struct Log {
    _temp: tempfile::TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Log {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("logs/audit.log");
        Log { _temp: temp, path }
    }

    fn open(&self) -> Audit {
        Audit::open(&self.path, 1 << 20, 3, Clock::by_hand().0)
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).expect("each line is JSON"))
            .collect()
    }
}

fn write(audit: &Audit, target: &str) {
    audit.write(Entry {
        actor: &Actor::Control("test"),
        action: "weight",
        target,
        old: json!(1),
        new: json!(2),
        note: None,
        before_edit: None,
        result: "ok",
    });
}

#[test]
fn a_line_says_when_who_what_from_and_to() {
    let log = Log::new();
    write(&log.open(), "10.0.0.1:9001");
    let expected = json!({
        "time": "2024-10-27T03:33:20.000Z", "seq": 1, "actor": "control: test", "action": "weight",
        "target": "10.0.0.1:9001", "old": 1, "new": 2, "result": "ok",
    });
    assert_eq!(log.lines(), [expected]);
}

#[test]
fn numbers_go_on_after_a_restart_and_over_a_rotation() {
    let log = Log::new();
    write(&log.open(), "a");
    write(&log.open(), "b");
    fs::rename(&log.path, numbered(&log.path, 1)).expect("rotated");
    write(&log.open(), "c");
    assert_eq!(log.lines()[0]["seq"], json!(3));
}

#[test]
fn numbers_go_on_after_a_line_that_was_cut() {
    let log = Log::new();
    write(&log.open(), "a");
    let mut text = fs::read_to_string(&log.path).expect("written");
    text.push_str("{\"seq\": 2, \"ti");
    fs::write(&log.path, text).expect("written");
    write(&log.open(), "b");
    let text = fs::read_to_string(&log.path).expect("written");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("whole");
    assert_eq!(last["seq"], json!(2));
}

#[test]
fn no_text_can_forge_a_line() {
    let log = Log::new();
    write(
        &log.open(),
        "x\n{\"seq\": 9}\r\u{85}\u{2028}\u{1b}[2J\u{202e}",
    );
    let text = fs::read_to_string(&log.path).expect("written");
    assert_eq!(text.lines().count(), 1);
    assert!(
        text.trim_end()
            .chars()
            .all(|c| !c.is_control() && c.is_ascii()),
        "{text}"
    );
    let target = log.lines()[0]["target"].clone();
    assert_eq!(
        target,
        json!("x\n{\"seq\": 9}\r\u{85}\u{2028}\u{1b}[2J\u{202e}")
    );
}

#[test]
fn what_repeats_is_listed_once_and_then_counted_by_the_minute() {
    let log = Log::new();
    let audit = log.open();
    let poll = || {
        audit.note(
            &Actor::Control("test"),
            "access",
            "GET /api/backends",
            "200",
        )
    };
    (0..5).for_each(|_| poll());
    assert_eq!(log.lines().len(), 1);
    audit.sum_up();
    assert_eq!(log.lines()[1]["repeated"], json!(4));
    poll();
    assert_eq!(log.lines().len(), 2, "still known");
    audit.sum_up();
    audit.sum_up();
    assert_eq!(log.lines().len(), 3, "silence is not summed up");
    poll();
    assert_eq!(log.lines().len(), 4, "listed again after a silent minute");
}

#[test]
fn heartbeats_are_summed_up() {
    let log = Log::new();
    let audit = log.open();
    for last in [1, 2, 2, 2] {
        audit.count_heartbeat(&key(last));
    }
    audit.sum_up();
    audit.sum_up();
    let lines = log.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["heartbeats"], &lines[0]["backends"]),
        (&json!(4), &json!(2))
    );
}

#[test]
fn repeated_events_of_many_actors_stay_bounded() {
    let log = Log::new();
    let audit = log.open();
    for number in 0..2 * MAX_REPEATS {
        let path = format!("GET /{number}");
        audit.note(&Actor::Control("test"), "access", &path, "404");
    }
    // What a client sent is also in the results, as the Host that is none of ours.
    for number in 0..MAX_REPEATS {
        let result = format!("403: Host: found {number}{}", "x".repeat(30_000));
        audit.note(&Actor::Control("test"), "access", "GET /", &result);
    }
    assert_eq!(audit.lock().repeats.len(), MAX_REPEATS + 1);
    assert_eq!(log.lines().len(), MAX_REPEATS + 1);
}

#[test]
fn a_line_stays_short_whatever_was_sent() {
    let log = Log::new();
    let audit = log.open();
    let long = "x".repeat(60_000);
    let actor = Actor::Control("test");
    audit.note(&actor, "access", &long, &long);
    audit.write(Entry {
        actor: &actor,
        action: "register",
        target: &long,
        old: Value::Null,
        new: Value::Null,
        note: None,
        before_edit: None,
        result: &long,
    });
    for line in log.lines() {
        assert!(line.to_string().len() < 2 * LONGEST_RESULT, "{line}");
    }
}

#[test]
fn the_log_rotates_by_size_and_keeps_its_number_of_files() {
    let log = Log::new();
    let audit = Audit::open(&log.path, 4096, 3, Clock::by_hand().0);
    for _ in 0..200 {
        write(&audit, &"x".repeat(200));
    }
    let folder = log.path.parent().expect("a folder");
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2"]);
    for name in names {
        assert!(fs::metadata(folder.join(name)).expect("there").len() <= 4096);
    }
}

#[test]
fn a_log_that_cannot_be_written_is_counted_and_recovers() {
    let log = Log::new();
    let audit = log.open();
    let folder = log.path.parent().expect("a folder");
    fs::write(folder, b"a file where the folder should be").expect("written");
    write(&audit, "lost");
    assert_eq!(audit.counts(), (0, 1));
    assert_eq!(
        audit.last_seq(),
        0,
        "who waits for a line is not woken for none"
    );
    fs::remove_file(folder).expect("removed");
    write(&audit, "kept");
    // The one that says how many were lost, and the one that was to be written.
    assert_eq!(audit.counts(), (2, 1));
    assert_eq!(audit.last_seq(), 3);
}

#[test]
fn lines_that_are_lost_are_a_warning_until_the_log_is_written_again() {
    let log = Log::new();
    let (clock, elapsed_ms) = Clock::by_hand();
    let audit = Audit::open(&log.path, 1 << 20, 3, clock);
    write(&audit, "a");
    assert_eq!(audit.warning(), None);
    let folder = log.path.parent().expect("a folder");
    let away = folder.with_extension("away");
    fs::rename(folder, &away).expect("renamed");
    // A file in the place of the folder stops root, too.
    fs::write(folder, b"in the way").expect("written");
    elapsed_ms.store(1_000, Ordering::Relaxed);
    write(&audit, "b");
    elapsed_ms.store(2_000, Ordering::Relaxed);
    write(&audit, "c");
    audit.retry();
    let failing = audit.failing().expect("it cannot be written");
    assert_eq!((failing.since_ms, failing.lost), (1_730_000_001_000, 2));
    let warning = audit.warning().expect("a warning");
    assert!(
        warning.contains("2024-10-27T03:33:21.000Z, lines lost: 2"),
        "{warning}"
    );

    fs::remove_file(folder).expect("removed");
    fs::rename(&away, folder).expect("renamed");
    audit.retry();
    assert_eq!((audit.failing(), audit.warning()), (None, None));
    write(&audit, "d");
    let lines = log.lines();
    let said: Vec<&Value> = lines.iter().map(|line| &line["action"]).collect();
    assert_eq!(said, ["weight", "lines_lost", "weight"]);
    assert_eq!(lines[1]["lost"], json!(2));
    assert_eq!(lines[1]["since"], json!("2024-10-27T03:33:21.000Z"));
    assert_eq!(
        audit.counts(),
        (3, 2),
        "a try to say so is no line that is lost"
    );
}
