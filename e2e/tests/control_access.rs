//! Who may call control's API, and what is refused of what they say.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use e2e::api_bench::ApiBench;
use rustix::process::Signal;
use serde_json::json;
use testkit::host::Host;
use testkit::http::Request;
use testkit::ports::free_address;
use testkit::process::command;
use testkit::{Api, Folder, LONG, Program, skipped, until};

#[test]
fn without_tokens_only_clients_of_this_machine_are_served() {
    let bench = ApiBench::start(json!({ "host": "0.0.0.0" }));
    let table = || Request::new("GET", "/api/backends");
    assert_eq!(bench.api().call(table()).0, 200);
    let forwarded = [
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
        ("Via", "1.1 gateway"),
    ];
    for (name, value) in forwarded {
        for request in [
            table(),
            Request::new("GET", "/"),
            Request::new("POST", "/api/sync"),
        ] {
            let (status, answer) = bench.api().call(request.header(name, value));
            assert_eq!(status, 403, "{name}: {answer}");
            assert!(
                answer.to_string().contains("tokens"),
                "what to do: {answer}"
            );
        }
    }
    // From another address of this machine it is as from another machine.
    if let Some(ip) = other_address() {
        let far = Api::at(SocketAddr::new(ip, bench.control.addr.port()));
        let (status, answer) = far.call(table());
        assert_eq!(status, 403, "{answer}");
    }
}

/// An address of this machine beside loopback, if it has one. Nothing is sent.
fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[test]
fn each_token_opens_what_it_is_for() {
    let tokens =
        json!({ "read": "read-token", "register": "register-token", "write": "write-token" });
    let bench = ApiBench::start(json!({ "tokens": tokens }));
    let registration = json!({ "ip": "127.0.0.1", "port": free_address().port() }).to_string();
    let weight = format!(
        "/api/backends/{}/{}/weight",
        bench.discovered.ip(),
        bench.discovered.port()
    );
    let none = "";
    // Answers without a token and with the read, register and write token.
    let cases = [
        ("GET", "/livez", none, [200, 200, 200, 200]),
        ("GET", "/api/backends", none, [401, 200, 403, 200]),
        ("GET", "/api/logs/audit", none, [401, 200, 403, 200]),
        ("POST", "/api/register", &registration, [401, 403, 200, 200]),
        ("POST", &weight, r#"{"weight":3}"#, [401, 403, 403, 200]),
        ("POST", "/api/sync", none, [401, 403, 403, 200]),
        (
            "POST",
            "/api/ping",
            r#"{"ip":"127.0.0.1"}"#,
            [401, 403, 403, 200],
        ),
    ];
    for (method, path, body, right) in cases {
        let shown = [
            None,
            Some("read-token"),
            Some("register-token"),
            Some("write-token"),
        ];
        for (token, right) in shown.into_iter().zip(right) {
            let mut request = Request::new(method, path);
            if !body.is_empty() {
                request = request
                    .header("Content-Type", "application/json")
                    .body(body);
            }
            if let Some(token) = token {
                request = request.header("Authorization", &format!("Bearer {token}"));
            }
            let (status, answer) = bench.api().call(request);
            assert_eq!(status, right, "{method} {path} with {token:?}: {answer}");
        }
        if right[0] == 401 {
            let request = Request::new(method, path).header("Authorization", "Bearer nonsense");
            let (status, answer) = bench.api().call(request);
            assert_eq!(status, 401, "{method} {path} with a wrong one: {answer}");
        }
    }
}

#[test]
fn foreign_hosts_and_origins_are_refused() {
    let bench = ApiBench::start(json!({ "allowed_hosts": ["console.example"] }));
    let port = bench.control.addr.port();
    let hosts = [
        (format!("127.0.0.1:{port}"), true),
        (format!("localhost:{port}"), true),
        ("console.example".to_owned(), true),
        ("evil.example".to_owned(), false),
        (format!("evil.example:{port}"), false),
        (format!("localhost:{port}.evil.example"), false),
        ("127.0.0.1:1".to_owned(), false),
    ];
    for (host, right) in hosts {
        let request = Request::new("GET", "/api/backends").header("Host", &host);
        let (status, answer) = bench.api().call(request);
        assert_eq!(status == 200, right, "{host}: {status} {answer}");
        assert!(right || (400..500).contains(&status), "{host}: {answer}");
    }
    let own = format!("http://{}", bench.control.addr);
    let origins = [
        (own.as_str(), 200),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 403),
    ];
    for (origin, right) in origins {
        let request = Request::new("POST", "/api/sync").header("Origin", origin);
        let (status, answer) = bench.api().call(request);
        assert_eq!(status, right, "{origin}: {answer}");
    }
}

/// Such as a virtual address that moves here, or a network that a container joins.
#[test]
fn an_address_that_comes_later_is_ours_within_seconds() {
    let Some(host) = Host::new() else {
        return skipped("a network namespace cannot be made here");
    };
    let folder = Folder::new();
    let control = SocketAddr::from(([127, 0, 0, 1], free_address().port()));
    folder.write_control_config(&json!({
        "host": "0.0.0.0", "port": control.port(), "tokens": { "write": "write-token" },
        "default_listen_port": free_address().port(),
    }));
    let mut command = command("control_server");
    command.args(["--root", folder.root_argument()]);
    let _program = Program::spawn(host.run(&command));
    let playing = std::thread::spawn(move || {
        host.enter();
        let later: IpAddr = [10, 78, 0, 99].into();
        let name = SocketAddr::new(later, control.port()).to_string();
        // What a browser asks for at first.
        let status = |at: SocketAddr| {
            let page = Request::new("GET", "/login").header("Host", &name);
            Api::at(at).exchange(page).ok().map(|answer| answer.status)
        };
        let refused = until("control serves", LONG, || status(control));
        assert_eq!(refused, 403, "nobody has that address yet");
        host.add_address(later);
        until("the address is ours", LONG, || {
            (status(SocketAddr::new(later, control.port())) == Some(200)).then_some(())
        });
        host
    });
    playing.join().expect("it is served");
}

#[test]
fn requests_of_the_wrong_form_are_refused() {
    let bench = ApiBench::start(json!({}));
    let own = format!("http://{}", bench.control.addr);
    let json = |request: Request| request.header("Content-Type", "application/json");
    let post = |path: &str| Request::new("POST", path);
    let cases = [
        (json(post("/api/register").body(vec![b' '; 10 << 20])), 413),
        // A form is what a page of somebody else's can post without asking; curl says what it likes.
        (
            post("/api/register")
                .header("Origin", &own)
                .header("Content-Type", "text/plain")
                .body("{}"),
            415,
        ),
        (Request::new("GET", "/api/sync"), 405),
        (Request::new("GET", "/api/register"), 405),
        (Request::new("DELETE", "/api/backends"), 405),
        (Request::new("GET", "/api/logs/audit?tail=x"), 400),
        (Request::new("GET", "/no/such/page"), 404),
        (
            Request::new("GET", "/static/../../config/proxy_config.json"),
            404,
        ),
        (
            Request::new("GET", "/static/%2e%2e/%2e%2e/config/proxy_config.json"),
            404,
        ),
    ];
    for (request, right) in cases {
        let told = format!("{} {}", request.method, request.path);
        let answer = bench.api().exchange(request);
        let answer = answer.unwrap_or_else(|error| panic!("{told}: {error}"));
        assert_eq!(answer.status, right, "{told}: {}", answer.text());
    }
}

#[test]
fn bad_input_is_refused_with_its_place_and_changes_nothing() {
    let bench = ApiBench::start(json!({}));
    let good = free_address();
    let port = good.port();
    let listen = bench.listen.port();
    let own = bench.control.addr.port();
    let weight = format!(
        "/api/backends/{}/{}/weight",
        bench.discovered.ip(),
        bench.discovered.port()
    );
    let unknown = format!("/api/backends/127.0.0.9/{port}/weight");
    let register = "/api/register";
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let cases: Vec<(&str, String, u16, &str)> = vec![
        (register, String::new(), 400, ""),
        (register, "{".into(), 400, "line 1"),
        (register, "[]".into(), 400, "object"),
        (register, deep, 400, ""),
        (
            register,
            format!(r#"{{"ip":"127.0.0.1","port":{port},"gpu_usage":NaN}}"#),
            400,
            "",
        ),
        (register, r#"{"port":80}"#.into(), 400, "/ip"),
        (register, r#"{"ip":"127.0.0.1"}"#.into(), 400, "/port"),
        (
            register,
            r#"{"ip":"localhost","port":80}"#.into(),
            400,
            "/ip",
        ),
        (register, r#"{"ip":"0.0.0.0","port":80}"#.into(), 400, "/ip"),
        (
            register,
            r#"{"ip":"127.0.0.1","port":0}"#.into(),
            400,
            "/port",
        ),
        (
            register,
            r#"{"ip":"127.0.0.1","port":"x"}"#.into(),
            400,
            "/port",
        ),
        (
            register,
            format!(r#"{{"ip":"127.0.0.1","port":{port},"weight":1001}}"#),
            400,
            "/weight",
        ),
        (
            register,
            format!(r#"{{"ip":"127.0.0.1","port":{port},"weight":-1}}"#),
            400,
            "/weight",
        ),
        (
            register,
            format!(r#"{{"ip":"127.0.0.1","port":{port},"gpu_usage":1.01}}"#),
            400,
            "/gpu_usage",
        ),
        (
            register,
            format!(r#"{{"ip":"127.0.0.1","port":{port},"enabled":"yes"}}"#),
            400,
            "/enabled",
        ),
        (
            register,
            format!(r#"{{"ip":"127.0.0.1","port":{listen}}}"#),
            400,
            "127.0.0.1",
        ),
        (
            register,
            format!(r#"{{"ip":"127.0.0.1","port":{own}}}"#),
            400,
            "127.0.0.1",
        ),
        (&weight, "{}".into(), 400, "/weight"),
        (&weight, r#"{"weight":"ten"}"#.into(), 400, "/weight"),
        (&weight, r#"{"weight":1.5}"#.into(), 400, "/weight"),
        (&unknown, r#"{"weight":5}"#.into(), 404, "127.0.0.9"),
        (
            "/api/backends/nowhere/80/weight",
            r#"{"weight":5}"#.into(),
            400,
            "nowhere",
        ),
        (
            "/api/backends/127.0.0.1/99999/weight",
            r#"{"weight":5}"#.into(),
            400,
            "99999",
        ),
        ("/api/ping", r#"{"ip":"localhost"}"#.into(), 400, "ip"),
        ("/api/ping", "{}".into(), 400, "/ip"),
        ("/api/no/such/call", "{}".into(), 404, ""),
    ];
    let before = bench.api().get("/api/backends").1["backends"].clone();
    for (path, body, right, word) in cases {
        let shown: String = body.chars().take(100).collect();
        let request = Request::new("POST", path).body(body);
        let request = request.header("Content-Type", "application/json");
        let (status, answer) = bench.api().call(request);
        // A fault of the contents may be told apart from one of the form.
        let same = status == right || (right == 400 && (status == 422 || status == 404));
        assert!(same, "{path} {shown}: {status} {answer}");
        assert_eq!(answer["ok"], json!(false), "{path} {shown}: {answer}");
        assert!(
            answer.to_string().contains(word),
            "{path} {shown}: {answer}"
        );
    }
    assert_eq!(bench.api().get("/api/backends").1["backends"], before);
}

#[test]
fn slow_clients_do_not_keep_others_from_an_answer() {
    const SLOW: usize = 500;
    let mut bench = ApiBench::start(json!({}));
    // They come while nobody accepts: the kernel has to keep them all.
    bench.control.program.signal(Signal::STOP);
    let addr = bench.control.addr;
    let slow: Vec<TcpStream> = (0..SLOW)
        .map(|index| {
            let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5));
            let mut stream = stream.unwrap_or_else(|error| panic!("connection {index}: {error}"));
            let begun = stream.write_all(b"POST /api/register HTTP/1.1\r\nContent-Le");
            begun.expect("sent");
            stream
        })
        .collect();
    bench.control.program.signal(Signal::CONT);
    assert_eq!(bench.api().get("/api/backends").0, 200);
    for mut stream in slow {
        stream.set_nonblocking(true).expect("set");
        let read = stream.read(&mut [0; 64]).map_err(|error| error.kind());
        assert_eq!(read, Err(ErrorKind::WouldBlock), "given up for the answer");
    }
}

#[test]
fn ping_answers_for_known_addresses_alone() {
    let bench = ApiBench::start(json!({}));
    let (status, answer) = bench.api().post("/api/ping", &json!({ "ip": "127.0.0.1" }));
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    assert!(!answer["output"].as_str().expect("text").is_empty());
    bench.register(SocketAddr::from(([127, 0, 0, 77], 9000)));
    let (status, answer) = bench
        .api()
        .post("/api/ping", &json!({ "ip": "127.0.0.77" }));
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    for stranger in ["192.0.2.1", "127.0.0.78"] {
        let (status, answer) = bench.api().post("/api/ping", &json!({ "ip": stranger }));
        assert!((400..500).contains(&status), "{stranger}: {answer}");
        assert!(answer.to_string().contains(stranger), "{answer}");
    }
}
