//! Real sockets: TLS and its renewal, bounds on headers, slow clients.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tower::ServiceExt as _;

use super::harness::{Control, Folder, LISTEN};
use crate::clock::Clock;
use crate::settings::TlsSettings;
use crate::web::serve::{Door, listen, serve};
use crate::web::tls::Tls;

const DEADLINE: Duration = Duration::from_secs(10);

/// Serves what `control` answers on a port of the kernel's choice, until the test ends.
async fn serve_on_a_port(control: &Control, tls: Option<Arc<Tls>>) -> SocketAddr {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let addr = listener.local_addr().expect("bound");
    let doors = vec![Door { listener, tls }];
    tokio::spawn(serve(
        doors,
        control.router.clone(),
        Clock::by_hand().0,
        std::future::pending(),
    ));
    addr
}

/// Writes a certificate and its key, and returns a client that trusts no other.
fn renew(folder: &Path) -> TlsConnector {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    std::fs::write(folder.join("certificate.pem"), made.cert.pem()).expect("written");
    let key = made.signing_key.serialize_pem();
    contract::publish::publish_private(&folder.join("key.pem"), key.as_bytes()).expect("written");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("known");
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn connect(client: &TlsConnector, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").expect("a name");
    client.connect(name, TcpStream::connect(addr).await?).await
}

/// Asks on an open connection; the head of the answer.
async fn ask_on(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), head: &str) -> String {
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => answer.extend_from_slice(&buffer[..length]),
            }
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("in time");
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {LISTEN}\r\n\r\n")
}

#[tokio::test]
async fn a_renewed_certificate_is_for_new_connections_and_cuts_no_old_one() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let at = folder.root.0.join("config");
    let old_client = renew(&at);
    let settings = TlsSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        certificate: at.join("certificate.pem"),
        key: at.join("key.pem"),
    };
    let tls = Arc::new(Tls::open(&settings).expect("a good pair"));
    let addr = serve_on_a_port(&control, Some(tls.clone())).await;
    let mut kept = connect(&old_client, addr).await.expect("TLS");
    let path = get("/api/backends");
    assert!(ask_on(&mut kept, &path).await.starts_with("HTTP/1.1 200"));

    let new_client = renew(&at);
    assert!(
        connect(&new_client, addr).await.is_err(),
        "not taken up yet"
    );
    tls.reload().expect("a good pair");
    assert!(
        connect(&old_client, addr).await.is_err(),
        "the old one is gone"
    );
    let mut fresh = connect(&new_client, addr).await.expect("TLS");
    for stream in [&mut kept, &mut fresh] {
        assert!(ask_on(stream, &path).await.starts_with("HTTP/1.1 200"));
    }
    // Who speaks no TLS gets no answer, and is no trouble to others.
    let mut plain = TcpStream::connect(addr).await.expect("connected");
    assert!(!ask_on(&mut plain, &path).await.starts_with("HTTP/1.1 200"));
    assert!(ask_on(&mut fresh, &path).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_finish_its_headers_is_given_up() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let addr = serve_on_a_port(&control, None).await;
    for begun in ["", "GET / HTTP/1.1\r\nhost: "] {
        let mut stream = TcpStream::connect(addr).await.expect("connected");
        stream.write_all(begun.as_bytes()).await.expect("sent");
        let began = tokio::time::Instant::now();
        // Closed with an answer, without one, or by a reset.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        let took_s = began.elapsed().as_secs();
        assert!((20..=40).contains(&took_s), "{begun:?}: {took_s} s");
    }
}

#[tokio::test]
async fn headers_are_bounded_in_number_and_length() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let addr = serve_on_a_port(&control, None).await;
    let many = "x: y\r\n".repeat(100);
    let long = format!("x: {}\r\n", "y".repeat(70_000));
    for headers in [many, long] {
        let head = format!("GET /livez HTTP/1.1\r\nhost: {LISTEN}\r\n{headers}\r\n");
        let mut stream = TcpStream::connect(addr).await.expect("connected");
        let answer = ask_on(&mut stream, &head).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn five_hundred_slow_clients_keep_nobody_from_an_answer() {
    const SLOW: usize = 500;
    const SOON: Duration = Duration::from_secs(1);
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let addr = serve_on_a_port(&control, None).await;
    let body =
        format!("POST /api/register HTTP/1.1\r\nhost: {LISTEN}\r\ncontent-length: 99\r\n\r\n{{");
    // Slow in their headers, in their bodies, and in taking what they asked for.
    let kinds = [
        "GET / HTTP/1.1\r\nhos".to_owned(),
        body,
        get("/api/v1/events"),
    ];
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let mut stream = TcpStream::connect(addr).await.expect("connected");
        let begun = kinds[number % kinds.len()].as_bytes();
        stream.write_all(begun).await.expect("sent");
        slow.push(stream);
    }
    let mut took = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        let mut stream = TcpStream::connect(addr).await.expect("connected");
        let answer = ask_on(&mut stream, &get("/api/v1/backends")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        took.push(began.elapsed());
    }
    // All are answered; a machine that is busy with other work may have held one up.
    took.sort();
    assert!(took[took.len() / 2] < SOON, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_given_up() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let never = Body::new(Never);
    let peer: SocketAddr = "127.0.0.1:9".parse().expect("a literal");
    let request = Request::post("/api/register").header("host", LISTEN);
    let request = request.extension(axum::extract::ConnectInfo(peer));
    let began = tokio::time::Instant::now();
    let response = control
        .router
        .clone()
        .oneshot(request.body(never).expect("a request"));
    assert_eq!(response.await.expect("infallible").status(), 408);
    assert_eq!(began.elapsed(), Duration::from_secs(10));
}

/// A body of which nothing ever comes.
struct Never;

impl axum::body::HttpBody for Never {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}
