//! Every reason that a session, flow or datagram can end with is in the documentation, in both languages.

use proxy_core::reason::{DropReason, FlowEnd, SessionEnd};

const DOCUMENTS: [(&str, &str); 2] = [
    ("docs/traffic.md", include_str!("../../../docs/traffic.md")),
    (
        "docs/zh-CN/traffic.md",
        include_str!("../../../docs/zh-CN/traffic.md"),
    ),
];

#[test]
fn every_end_of_a_session_a_flow_and_a_datagram_is_documented() {
    let words = SessionEnd::ALL.map(SessionEnd::word).into_iter();
    let words = words.chain(FlowEnd::ALL.map(FlowEnd::word));
    let words: Vec<&str> = words.chain(DropReason::ALL.map(DropReason::word)).collect();
    for (path, text) in DOCUMENTS {
        for word in &words {
            assert!(text.contains(&format!("`{word}`")), "{path} lacks {word}");
        }
    }
}

#[test]
fn no_documented_end_of_a_session_is_one_that_no_session_has() {
    for (path, text) in DOCUMENTS {
        let rows = text
            .lines()
            .skip_while(|line| !line.starts_with("| reason |") && !line.starts_with("| 原因 |"));
        let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
        let mut found = 0;
        for row in rows {
            let cell = row.split('|').nth(1).unwrap_or_default();
            for word in cell.split('`').skip(1).step_by(2) {
                let is_known = SessionEnd::ALL.iter().any(|end| end.word() == word);
                assert!(is_known, "{path} lists {word}, which no session ends with");
                found += 1;
            }
        }
        assert_eq!(found, SessionEnd::ALL.len(), "{path}: rows of the table");
    }
}
