use std::sync::atomic::{AtomicU64, Ordering};

use super::super::token_file::{TokenEntry, TokenFile};
use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const NEEDS: [Need; 5] = [
    Need::Nothing,
    Need::Read,
    Need::Register,
    Need::Write,
    Need::Admin,
];

struct Bench {
    temp: tempfile::TempDir,
    access: Access,
    elapsed_ms: Arc<AtomicU64>,
}

impl Bench {
    /// `made_up` are tokens of `control_config.json`, `generated` those of the token file.
    fn new(made_up: &[(&str, Scope)], generated: &[TokenEntry]) -> Bench {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let file = temp.path().join("tokens.json");
        if !generated.is_empty() {
            token_file::write(&file, &file_of(generated)).expect("written");
        }
        let configured = made_up.iter().map(|(token, scope)| KnownToken {
            hash: SecretHash::of(token),
            scope: *scope,
            label: format!("the {} token", scope.name()),
            expires_at: None,
            is_generated: false,
        });
        let (clock, elapsed_ms) = Clock::by_hand();
        let access = Access::open(
            &file,
            &temp.path().join("uses.json"),
            TokenSet(configured.collect()),
            clock,
        )
        .expect("good");
        Bench {
            temp,
            access,
            elapsed_ms,
        }
    }

    fn rewrite(&self, entries: &[TokenEntry]) {
        let file = self.temp.path().join("tokens.json");
        token_file::write(&file, &file_of(entries)).expect("written");
        assert!(self.access.is_file_unread());
        self.access.reload().expect("good");
        assert!(!self.access.is_file_unread());
    }

    fn ask(&self, ip: IpAddr, shown: Shown, need: Need) -> Result<Scope, Denied> {
        let caller = Caller {
            ip,
            forwarded: false,
            shown,
        };
        let grant = self.access.judge(&caller, need)?;
        Ok(grant.expect("proved").scope)
    }
}

fn file_of(entries: &[TokenEntry]) -> TokenFile {
    TokenFile {
        entries: entries.to_vec(),
        grace_until: None,
    }
}

fn entry(token: &str, scope: Scope, expires_at: Option<u64>) -> TokenEntry {
    TokenEntry {
        name: "t".to_owned(),
        scope,
        hash: SecretHash::of(token),
        created_at: 0,
        expires_at,
    }
}

#[test]
fn until_tokens_are_configured_only_loopback_is_served() {
    let bench = Bench::new(&[], &[]);
    let mapped = "::ffff:127.0.0.1".parse().expect("a literal");
    for need in NEEDS {
        for ip in [LOOPBACK, mapped] {
            assert_eq!(bench.ask(ip, Shown::Nothing, need), Ok(Scope::Admin));
        }
        assert_eq!(
            bench.ask(REMOTE, Shown::Nothing, need),
            Err(Denied::Protected)
        );
        let forwarded = Caller {
            ip: LOOPBACK,
            forwarded: true,
            shown: Shown::Nothing,
        };
        assert_eq!(bench.access.judge(&forwarded, need), Err(Denied::Protected));
    }
}

#[test]
fn each_scope_opens_what_it_is_for() {
    use Need::{Admin, Read, Register, Write};
    let opened = [
        (Scope::Read, vec![Read]),
        (Scope::Register, vec![Register]),
        (Scope::Write, vec![Read, Register, Write]),
        (Scope::Admin, vec![Read, Register, Write, Admin]),
    ];
    for (scope, opened) in opened {
        let bench = Bench::new(&[], &[entry("secret", scope, None)]);
        for need in NEEDS.into_iter().filter(|need| *need != Need::Nothing) {
            let right = match opened.contains(&need) {
                true => Ok(scope),
                false => Err(Denied::LesserToken(need)),
            };
            assert_eq!(bench.ask(LOOPBACK, Shown::Bearer("secret"), need), right);
            let none = bench.ask(LOOPBACK, Shown::Nothing, need);
            assert_eq!(none, Err(Denied::NoToken));
            let wrong = bench.ask(LOOPBACK, Shown::Bearer(""), need);
            assert_eq!(wrong, Err(Denied::WrongToken));
        }
    }
}

#[test]
fn tokens_come_and_go_without_a_restart_and_the_last_one_opens_nothing() {
    let bench = Bench::new(&[], &[]);
    bench.rewrite(&[entry("one", Scope::Read, None)]);
    assert_eq!(
        bench.ask(LOOPBACK, Shown::Nothing, Need::Read),
        Err(Denied::NoToken)
    );
    let signed_in = bench.access.sign_in(REMOTE, "one").expect("right");
    let session = Shown::Session(&signed_in.id);
    assert_eq!(bench.ask(REMOTE, session, Need::Read), Ok(Scope::Read));
    assert!(bench.access.is_still_good(&signed_in.grant));

    bench.rewrite(&[]);
    let revoked = bench.ask(REMOTE, Shown::Bearer("one"), Need::Read);
    assert_eq!(revoked, Err(Denied::WrongToken));
    assert_eq!(
        bench.ask(REMOTE, session, Need::Read),
        Err(Denied::SessionOver)
    );
    assert!(!bench.access.is_still_good(&signed_in.grant));
    assert_eq!(
        bench.ask(LOOPBACK, Shown::Nothing, Need::Read),
        Err(Denied::NoToken)
    );
}

#[test]
fn a_token_file_that_goes_takes_its_tokens_along_and_opens_nothing() {
    let bench = Bench::new(&[], &[entry("one", Scope::Admin, None)]);
    std::fs::remove_file(bench.temp.path().join("tokens.json")).expect("removed");
    assert!(bench.access.is_file_unread());
    let changes = bench.access.reload().expect("absent is no fault");
    assert_eq!(
        changes,
        [TokenChange::Removed("token t (admin)".to_owned())]
    );
    for (shown, right) in [
        (Shown::Nothing, Denied::NoToken),
        (Shown::Bearer("one"), Denied::WrongToken),
    ] {
        assert_eq!(bench.ask(LOOPBACK, shown, Need::Read), Err(right));
    }
    bench.rewrite(&[entry("one", Scope::Admin, None)]);
    let back = bench.ask(REMOTE, Shown::Bearer("one"), Need::Admin);
    assert_eq!(back, Ok(Scope::Admin));
}

#[test]
fn a_bad_file_changes_nothing_and_is_told_once() {
    let bench = Bench::new(&[], &[entry("one", Scope::Read, None)]);
    std::fs::write(bench.temp.path().join("tokens.json"), "{").expect("written");
    assert!(bench.access.is_file_unread());
    assert!(bench.access.reload().is_err());
    assert!(!bench.access.is_file_unread());
    assert_eq!(
        bench.ask(REMOTE, Shown::Bearer("one"), Need::Read),
        Ok(Scope::Read)
    );
}

#[test]
fn a_file_that_cannot_be_read_is_tried_again() {
    let bench = Bench::new(&[], &[entry("one", Scope::Read, None)]);
    let file = bench.temp.path().join("tokens.json");
    let aside = bench.temp.path().join("aside.json");
    std::fs::rename(&file, &aside).expect("moved");
    // No link is followed, so opening it fails.
    std::os::unix::fs::symlink(&aside, &file).expect("linked");
    for _ in 0..2 {
        assert!(bench.access.is_file_unread());
        assert!(bench.access.reload().is_err());
    }
    std::fs::rename(&aside, &file).expect("moved back");
    assert!(bench.access.is_file_unread());
    bench.access.reload().expect("good");
    assert!(!bench.access.is_file_unread());
}

#[test]
fn an_expired_token_opens_nothing_and_ends_its_sessions() {
    let now_s = Clock::by_hand().0.now().unix_s();
    let bench = Bench::new(&[], &[entry("brief", Scope::Admin, Some(now_s + 60))]);
    let brief = Shown::Bearer("brief");
    assert_eq!(bench.ask(REMOTE, brief, Need::Admin), Ok(Scope::Admin));
    let signed_in = bench.access.sign_in(REMOTE, "brief").expect("right");
    bench.elapsed_ms.store(60_000, Ordering::Relaxed);
    assert_eq!(
        bench.ask(REMOTE, brief, Need::Read),
        Err(Denied::ExpiredToken)
    );
    let session = Shown::Session(&signed_in.id);
    assert_eq!(
        bench.ask(REMOTE, session, Need::Read),
        Err(Denied::SessionOver)
    );
    assert!(matches!(
        bench.access.sign_in(REMOTE, "brief"),
        Err(Denied::ExpiredToken)
    ));
}

#[test]
fn who_tries_too_often_waits_and_nobody_else_does() {
    let made_up = [("made-up-token", Scope::Read)];
    let bench = Bench::new(&made_up, &[entry("generated", Scope::Read, None)]);
    let mut last = Ok(Scope::Read);
    for _ in 0..20 {
        last = bench.ask(REMOTE, Shown::Bearer("guess"), Need::Read);
    }
    assert_eq!(last, Err(Denied::TooManyFailures { retry_after_s: 6 }));
    // A right guess must look like a wrong one now, or waiting would be for nothing.
    assert_eq!(
        bench.ask(REMOTE, Shown::Bearer("made-up-token"), Need::Read),
        last
    );
    let open = Caller {
        ip: REMOTE,
        forwarded: false,
        shown: Shown::Bearer("made-up-token"),
    };
    assert_eq!(bench.access.judge(&open, Need::Nothing), Ok(None));
    let unguessable = bench.ask(REMOTE, Shown::Bearer("generated"), Need::Read);
    assert_eq!(unguessable, Ok(Scope::Read));
    let elsewhere = bench.ask(LOOPBACK, Shown::Bearer("made-up-token"), Need::Read);
    assert_eq!(elsewhere, Ok(Scope::Read));
    bench.elapsed_ms.store(6_000, Ordering::Relaxed);
    let later = bench.ask(REMOTE, Shown::Bearer("made-up-token"), Need::Read);
    assert_eq!(later, Ok(Scope::Read));
}

#[test]
fn a_session_ends_when_it_is_signed_out() {
    let bench = Bench::new(&[("made-up-token", Scope::Write)], &[]);
    let signed_in = bench
        .access
        .sign_in(REMOTE, "made-up-token")
        .expect("right");
    let session = Shown::Session(&signed_in.id);
    assert_eq!(bench.ask(REMOTE, session, Need::Write), Ok(Scope::Write));
    bench.access.sign_out(SessionKey::of(&signed_in.id));
    assert_eq!(
        bench.ask(REMOTE, session, Need::Write),
        Err(Denied::SessionOver)
    );
    let invented = Shown::Session("0123456789");
    assert_eq!(
        bench.ask(REMOTE, invented, Need::Write),
        Err(Denied::SessionOver)
    );
}

#[test]
fn when_a_token_was_last_used_is_written_down_and_forgotten_with_it() {
    let bench = Bench::new(
        &[],
        &[
            entry("one", Scope::Read, None),
            entry("two", Scope::Read, None),
        ],
    );
    let file = bench.temp.path().join("uses.json");
    bench.access.store_uses().expect("nothing to write");
    assert!(!file.exists(), "nobody has used one");
    let used_at = Clock::by_hand().0.now().unix_s() + 5;
    bench.elapsed_ms.store(5_000, Ordering::Relaxed);
    for token in ["one", "two"] {
        let used = bench.ask(REMOTE, Shown::Bearer(token), Need::Read);
        assert_eq!(used, Ok(Scope::Read));
    }
    bench.access.store_uses().expect("written");
    let ids = ["one", "two"].map(|token| SecretHash::of(token).id());
    let stored = token_uses::read(&file);
    assert!(
        ids.iter().all(|id| stored.get(id) == Some(&used_at)),
        "{stored:?}"
    );

    bench.rewrite(&[entry("one", Scope::Read, None)]);
    bench.elapsed_ms.store(6_000, Ordering::Relaxed);
    let signed_in = bench.access.sign_in(REMOTE, "one").expect("right");
    bench.elapsed_ms.store(9_000, Ordering::Relaxed);
    let session = bench.ask(REMOTE, Shown::Session(&signed_in.id), Need::Read);
    assert_eq!(session, Ok(Scope::Read));
    bench.access.store_uses().expect("written");
    let stored = token_uses::read(&file);
    assert_eq!(
        stored,
        [(ids[0].clone(), used_at + 4)].into(),
        "a session's use is its token's"
    );
}
