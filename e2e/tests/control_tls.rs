//! Control by TLS: a certificate that is renewed under a running server, and an agent that comes so.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use contract::BackendAddr;
use control_client::{Access, Authorities, BaseUrl, ControlClient, Registration};
use e2e::api_bench::ApiBench;
use e2e::beats::{beat, crowd, raise_descriptor_limit};
use rustix::process::Signal;
use serde_json::json;
use testkit::ports::free_address;
use testkit::{Folder, LONG, Program, until};

const TTL: Duration = Duration::from_secs(5);

/// A certificate for this machine, signed by itself, and its key, as PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    fn new() -> Identity {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
        Identity {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    fn trusted(&self) -> Authorities {
        Authorities::from_pem(self.certificate.as_bytes()).expect("a certificate")
    }
}

/// Control with a port for TLS.
struct Tls {
    files: Folder,
    addr: SocketAddr,
    bench: ApiBench,
}

impl Tls {
    fn start(identity: &Identity) -> Tls {
        let (files, addr) = (Folder::new(), free_address());
        write(&files, identity);
        let bench = ApiBench::start(json!({ "runtime_ttl_sec": TTL.as_secs(), "tls": {
            "host": addr.ip(), "port": addr.port(),
            "certificate": files.beside("certificate.pem"), "key": files.beside("key.pem"),
        } }));
        Tls { files, addr, bench }
    }

    fn url(&self) -> String {
        format!("https://{}", self.addr)
    }

    /// Whether a new connection is served to one who trusts nobody but `identity`.
    fn is_served_as(&self, identity: &Identity) -> bool {
        let access = Access {
            authorities: Some(identity.trusted()),
            ..Access::default()
        };
        let client = ControlClient::new(BaseUrl(self.url()), access);
        let addr = BackendAddr(self.bench.discovered);
        client.register(&Registration::of(addr)).is_ok()
    }
}

/// The key first: between the two the pair does not match, and the old one must live on.
fn write(files: &Folder, identity: &Identity) {
    for (name, text) in [
        ("key.pem", &identity.key),
        ("certificate.pem", &identity.certificate),
    ] {
        let (path, new) = (files.beside(name), files.beside("new"));
        fs::write(&new, text).expect("written");
        fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("mode");
        fs::rename(new, path).expect("in place");
    }
}

#[test]
fn a_renewed_certificate_is_taken_up_and_a_bad_one_never() {
    let [first, second, third] = [(); 3].map(|()| Identity::new());
    let mut tls = Tls::start(&first);
    assert!(tls.is_served_as(&first));
    assert!(!tls.is_served_as(&second), "a stranger to this client");

    write(&tls.files, &second);
    until("the new one is served", LONG, || {
        tls.is_served_as(&second).then_some(())
    });
    assert!(!tls.is_served_as(&first), "the old one is gone");

    let certificate = tls.files.beside("certificate.pem");
    for bad in [
        "no PEM",
        // Another key's.
        &third.certificate,
    ] {
        tls.bench.control.program.skip_lines();
        fs::write(&certificate, bad).expect("written");
        tls.bench
            .control
            .program
            .wait_for_line("the old certificate stays in use");
        assert!(tls.is_served_as(&second));
    }
    // What would hang whoever opens it.
    fs::remove_file(&certificate).expect("removed");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &certificate,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("a FIFO");
    tls.bench.control.program.wait_for_line("no regular file");
    assert!(tls.is_served_as(&second));

    fs::remove_file(&certificate).expect("removed");
    write(&tls.files, &third);
    tls.bench.control.program.signal(Signal::HUP);
    until("the third is served", LONG, || {
        tls.is_served_as(&third).then_some(())
    });
}

#[test]
fn an_agent_comes_by_tls_and_what_it_owns_is_its_own() {
    let (ours, other) = (Identity::new(), Identity::new());
    let tls = Tls::start(&ours);
    let addr = free_address();
    let ca = |identity: &Identity, name| {
        let path = tls.files.beside(name);
        fs::write(&path, &identity.certificate).expect("written");
        path
    };
    let owner = tls.files.beside("owner");
    fs::write(&owner, "the secret of node 7\n").expect("written");
    let agent = |ca: &PathBuf| {
        let mut command = testkit::process::command("gpu_agent");
        command.args(["--control", &tls.url(), "--advertise", &addr.to_string()]);
        command.args(["--source", "command", "--command", "echo {}"]);
        command.args(["--health", "none", "--interval", "0.1"]);
        command.arg("--owner-file").arg(&owner);
        command.arg("--ca-file").arg(ca);
        Program::spawn(command)
    };

    let mut stranger = agent(&ca(&other, "other.pem"));
    stranger.wait_for_line("certificate");
    drop(stranger);
    assert!(
        tls.bench.row(addr).is_none(),
        "it told nothing to a stranger"
    );

    let mut ours = agent(&ca(&ours, "ours.pem"));
    ours.wait_for_line("registered");
    assert!(tls.bench.row(addr).is_some());
    let body = json!({ "ip": addr.ip(), "port": addr.port() });
    let refused = tls.bench.api().delete("/api/register", Some(&body));
    assert_eq!(refused.0, 403, "{}", refused.1);
    ours.signal(Signal::TERM);
    assert_eq!(ours.wait_exit(LONG).code(), Some(0));
    assert!(tls.bench.row(addr).is_none(), "it has left");
}

#[test]
fn an_agent_reads_its_authorities_again() {
    let (ours, other) = (Identity::new(), Identity::new());
    let tls = Tls::start(&ours);
    let addr = free_address();
    let path = tls.files.beside("ca.pem");
    fs::write(&path, &other.certificate).expect("written");
    let mut command = testkit::process::command("gpu_agent");
    command.args(["--control", &tls.url(), "--advertise", &addr.to_string()]);
    command.args(["--source", "command", "--command", "echo {}"]);
    command.args(["--health", "none", "--interval", "0.1"]);
    command.arg("--ca-file").arg(&path);
    let mut agent = Program::spawn(command);
    agent.wait_for_line("certificate");
    fs::write(&path, "no certificate").expect("written");
    agent.wait_for_line("using the last good content");
    fs::write(&path, &ours.certificate).expect("written");
    agent.wait_for_line("registered");
    assert!(tls.bench.row(addr).is_some());
}

/// More of them than control takes connections, and each is waited for for ten seconds.
#[test]
fn handshakes_that_are_never_finished_keep_nobody_out() {
    raise_descriptor_limit();
    let identity = Identity::new();
    let tls = Tls::start(&identity);
    let plain = SocketAddr::from(([10, 0, 0, 1], 9001));
    let control = tls.bench.control.addr;
    assert!(tls.is_served_as(&identity) && beat(control, plain));
    // The beginning of a handshake record.
    let mut crowd = crowd(tls.addr, "\u{16}\u{3}\u{1}\u{2}");
    let began = Instant::now();
    let oldest = &mut crowd[0];
    oldest.set_read_timeout(Some(LONG)).expect("above zero");
    let error = oldest.read(&mut [0; 64]).err().map(|error| error.kind());
    assert_ne!(error, Some(ErrorKind::WouldBlock), "closed for a newer one");
    while began.elapsed() < TTL + Duration::from_secs(1) {
        assert!(tls.is_served_as(&identity), "by TLS");
        assert!(beat(control, plain), "in the clear");
        std::thread::sleep(Duration::from_millis(250));
    }
    drop(crowd);
    assert_eq!(
        tls.bench
            .control
            .program
            .count_lines("no heartbeat within its TTL"),
        0
    );
}
