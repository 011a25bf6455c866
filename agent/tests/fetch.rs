//! How engines are reached: TLS, credentials, packed answers, redirects and answers that break off.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use agent::engines::Engine;
use agent::fetch::{Http, Login, MAX_BODY_BYTES, Reach};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const VLLM: &str = include_str!("fixtures/vllm_0.11.txt");
/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// A request's head, and whatever is to be answered to it.
type Script = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// A server of one request a connection. It ends with the test's process.
struct Engines {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Engines {
    fn start(script: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Engines {
        Engines::with(None, Arc::new(script))
    }

    fn with(tls: Option<Arc<ServerConfig>>, script: Arc<Script>) -> Engines {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let engines = Engines {
            addr,
            asked: Arc::clone(&asked),
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (tls, script, asked) = (tls.clone(), Arc::clone(&script), Arc::clone(&asked));
                thread::spawn(move || match tls {
                    None => serve(stream, script.as_ref(), &asked),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("it is right");
                        serve(
                            StreamOwned::new(connection, stream),
                            script.as_ref(),
                            &asked,
                        );
                    }
                });
            }
        });
        engines
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn serve(stream: impl Read + Write, script: &Script, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|length| length > 2) {}
    let answer = script(&head);
    asked.lock().expect("no panic").push(head);
    let mut stream = reader.into_inner();
    // Whoever breaks off is the test's own affair.
    let _ = stream.write_all(&answer).and_then(|()| stream.flush());
}

fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} S\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn whole() -> Vec<u8> {
    answer(200, "", VLLM.as_bytes())
}

fn http(reach: &Reach) -> Http {
    Http::open(LONG, reach).expect("its files are right")
}

/// How many requests wait, as the metrics at a URL say.
fn queue(http: &Http, url: &str) -> Result<u64, String> {
    let reading = http.read(url, |body| Engine::Vllm.read(body, &[]))?;
    Ok(reading.figures.queue.expect("it is whole"))
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let (path, beside) = (folder.join(name), folder.join("beside"));
    fs::write(&beside, text).expect("a temporary folder can be written");
    fs::rename(&beside, &path).expect("a temporary folder can be written");
    path
}

/// A server that shows a certificate of `name`, and that certificate.
fn by_tls(name: &str) -> (Engines, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("made");
    let certificate = made.cert.pem();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("ours")];
    let key = made.signing_key.serialize_pem();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("ours");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    let engines = Engines::with(Some(Arc::new(config)), Arc::new(|_: &str| whole()));
    (engines, certificate)
}

#[test]
fn an_engine_by_tls_shows_a_certificate_of_its_own_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engines, certificate) = by_tls("127.0.0.1");
    let (elsewhere, of_elsewhere) = by_tls("gpu-2.example");
    let url = |engines: &Engines| format!("https://{}/metrics", engines.addr);
    let ca_file = write(folder.path(), "ca.pem", &certificate);
    let reach = Reach {
        ca_file: Some(ca_file),
        login: None,
    };
    let http = http(&reach);
    assert_eq!(queue(&http, &url(&engines)), Ok(3));
    assert_eq!(http.answers(&url(&engines)), Ok(()));
    let why = queue(&http, &url(&elsewhere)).expect_err("signed by nobody known");
    assert!(why.contains("certificate"), "{why}");

    // The file is read again: now the other one is known, but its name is another.
    write(folder.path(), "ca.pem", &of_elsewhere);
    let why = queue(&http, &url(&elsewhere)).expect_err("another name");
    assert!(
        why.contains("not valid for name") && why.contains("127.0.0.1"),
        "{why}"
    );
    assert!(queue(&http, &url(&engines)).is_err(), "no longer known");
    write(folder.path(), "ca.pem", "half a certif");
    assert!(
        queue(&http, &url(&elsewhere))
            .expect_err("as before")
            .contains("name")
    );
}

#[test]
fn an_engine_is_shown_who_asks_and_a_replaced_file_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let engines = Engines::start(|head: &str| {
        let knows = ["Bearer new-token", "Basic YTpi"].iter().any(|who| {
            let head = head.to_ascii_lowercase();
            head.contains(&format!("authorization: {who}\r\n").to_ascii_lowercase())
        });
        if knows { whole() } else { answer(401, "", b"") }
    });
    let url = engines.url("/metrics");
    let why = queue(&http(&Reach::default()), &url).expect_err("nobody");
    assert!(
        why.contains("401") && why.contains("--engine-token-file"),
        "{why}"
    );

    let path = write(folder.path(), "token", "old-token\n");
    let token = http(&Reach {
        ca_file: None,
        login: Some(Login::Token(path)),
    });
    assert!(
        token
            .answers(&url)
            .expect_err("the old one")
            .contains("401")
    );
    write(folder.path(), "token", "new-token\n");
    assert_eq!((token.answers(&url), queue(&token, &url)), (Ok(()), Ok(3)));
    // What cannot be used takes no good one's place.
    for bad in ["", "two words"] {
        write(folder.path(), "token", bad);
        assert_eq!(queue(&token, &url), Ok(3), "{bad:?}");
    }
    let path = write(folder.path(), "login", "a:b\n");
    let login = http(&Reach {
        ca_file: None,
        login: Some(Login::Password(path)),
    });
    assert_eq!((login.answers(&url), queue(&login, &url)), (Ok(()), Ok(3)));

    let missing = Reach {
        ca_file: None,
        login: Some(Login::Token(folder.path().join("missing"))),
    };
    let why = Http::open(LONG, &missing).err().expect("it is missing");
    assert!(why.contains("missing"), "{why}");
}

#[test]
fn redirects_are_followed_on_the_same_host_and_credentials_stay_at_home() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = Engines::start(|_: &str| whole());
    let to = |place: &str| answer(307, &format!("Location: {place}\r\n"), b"moved");
    let elsewhere = other.url("/metrics");
    let engines = Engines::start(move |head: &str| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        match path {
            "/metrics" => to("/metrics/"),
            "/health" => to("metrics/"),
            "/port" => to(&elsewhere),
            "/host" => to("http://localhost:1/metrics"),
            "/round" => to("/round"),
            "/nowhere" => answer(307, "", b""),
            _ => whole(),
        }
    });
    let path = write(folder.path(), "token", "s3cret");
    let http = http(&Reach {
        ca_file: None,
        login: Some(Login::Token(path)),
    });
    assert_eq!(queue(&http, &engines.url("/metrics")), Ok(3));
    assert_eq!(http.answers(&engines.url("/health")), Ok(()));
    assert!(engines.asked().iter().all(|head| head.contains("s3cret")));
    assert_eq!(queue(&http, &engines.url("/port")), Ok(3));
    assert!(!other.asked()[0].contains("s3cret"), "{:?}", other.asked());
    for (path, why) in [
        ("/host", "same host"),
        ("/round", "redirects"),
        ("/nowhere", "307"),
    ] {
        let told = queue(&http, &engines.url(path)).expect_err(path);
        assert!(told.contains(why), "{told}");
    }
    let rounds = engines.asked();
    let rounds = rounds.iter().filter(|head| head.contains("/round")).count();
    assert!(rounds <= 6, "{rounds}");
}

#[test]
fn packed_answers_are_unpacked_asked_for_or_not() {
    let pack = |text: &[u8]| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(text).expect("memory takes it");
        packed.finish().expect("memory takes it")
    };
    let packed = pack(VLLM.as_bytes());
    // More than is read of an answer, in a few kilobytes.
    let line = "x".repeat(16 << 10) + "\n";
    let bomb = pack(line.repeat((MAX_BODY_BYTES >> 14) as usize).as_bytes());
    let engines = Engines::start(move |head: &str| {
        let packed_as = |as_what: &str, body: &[u8]| {
            answer(200, &format!("Content-Encoding: {as_what}\r\n"), body)
        };
        match head.split(' ').nth(1).unwrap_or_default() {
            "/gzip" => packed_as("gzip", &packed),
            "/cut" => packed_as("gzip", &packed[..packed.len() / 2]),
            "/plain" => packed_as("identity", VLLM.as_bytes()),
            "/lie" => packed_as("gzip", VLLM.as_bytes()),
            "/br" => packed_as("br", &packed),
            _ => packed_as("gzip", &bomb),
        }
    });
    let http = http(&Reach::default());
    for path in ["/gzip", "/plain"] {
        assert_eq!(queue(&http, &engines.url(path)), Ok(3), "{path}");
    }
    for path in ["/cut", "/lie", "/br", "/bomb"] {
        let why = queue(&http, &engines.url(path)).expect_err(path);
        let words = match path {
            "/br" => "br",
            "/bomb" => "limit",
            _ => "",
        };
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn an_answer_that_breaks_off_gives_nothing_wherever_that_is() {
    let lines = VLLM.split_inclusive('\n');
    let ends: Vec<usize> = lines
        .scan(0, |end, line| {
            *end += line.len();
            Some(*end)
        })
        .collect();
    let chunked = |body: &str| {
        let head = "HTTP/1.1 200 S\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        format!("{head}{:x}\r\n{body}\r\n", body.len())
    };
    let engines = Engines::start(move |head: &str| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (kind, end) = path[1..].split_once('/').expect("the test's own");
        let end: usize = end.parse().expect("the test's own");
        match kind {
            "length" => whole()[..whole().len() - VLLM.len() + end].to_vec(),
            "chunk" => chunked(&VLLM[..end]).into_bytes(),
            _ => format!("{}0\r\n\r\n", chunked(&VLLM[..end])).into_bytes(),
        }
    });
    let http = http(&Reach::default());
    for end in ends {
        for kind in ["length", "chunk"] {
            let read = queue(&http, &engines.url(&format!("/{kind}/{end}")));
            let is_whole = kind == "length" && end == VLLM.len();
            assert_eq!(read.is_ok(), is_whole, "{kind} {end}: {read:?}");
        }
    }
    let url = engines.url(&format!("/whole/{}", VLLM.len()));
    assert_eq!(queue(&http, &url), Ok(3));
}

/// Without a length, an answer ends wherever the connection does.
#[test]
fn an_answer_of_open_metrics_is_whole_only_with_its_last_line() {
    const WHOLE: &str = include_str!("fixtures/vllm_0.11_openmetrics.txt");
    let engines = Engines::start(|head: &str| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let end: usize = path[1..].parse().expect("the test's own");
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let head = format!("HTTP/1.1 200 S\r\nConnection: close\r\nContent-Type: {kind}\r\n\r\n");
        format!("{head}{}", &WHOLE[..end]).into_bytes()
    });
    let http = http(&Reach::default());
    let mut end = 0;
    for line in WHOLE.split_inclusive('\n') {
        end += line.len();
        let read = queue(&http, &engines.url(&format!("/{end}")));
        assert_eq!(read.is_ok(), end == WHOLE.len(), "{end}: {read:?}");
    }
    let without_feed = engines.url(&format!("/{}", WHOLE.len() - 1));
    assert_eq!(queue(&http, &without_feed), Ok(3));
}

#[test]
fn an_answer_that_drips_is_waited_for_no_longer_than_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().expect("one comes");
        let head = b"HTTP/1.1 200 S\r\nContent-Length: 1000000\r\n\r\n";
        let mut is_there = stream.write_all(head).is_ok();
        while is_there {
            thread::sleep(Duration::from_millis(20));
            is_there = stream.write_all(b"#").is_ok();
        }
    });
    let http = Http::open(Duration::from_millis(300), &Reach::default()).expect("no files");
    let begun = Instant::now();
    let why = queue(&http, &url).expect_err("late");
    assert!(begun.elapsed() < LONG && why.contains("timeout"), "{why}");
}
