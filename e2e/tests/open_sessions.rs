//! Who is connected: the list of open sessions and flows of the admin socket, and ending one of them.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use contract::sessions::{ListedProtocol, OpenSession, SessionList, SessionPhase};
use serde_json::{Value, json};
use testkit::client::{UdpClient, connect, connect_from};
use testkit::http::Request;
use testkit::ports::free_address;
use testkit::{Backend, Control, Folder, LONG, Manner, Proxy, Session, until};

struct Service {
    proxy: Proxy,
    _folder: Folder,
    chat: SocketAddr,
    tls: SocketAddr,
    backends: [Backend; 2],
}

impl Service {
    fn start() -> Service {
        let backends = ["one", "two"].map(|name| Backend::start(name, Manner::Echo));
        let [chat, tls] = [free_address(), free_address()];
        let pool = |backend: &Backend| -> Value {
            let backend = json!({ "ip": backend.addr.ip(), "port": backend.addr.port() });
            json!({ "backends": [backend], "health": { "probe": "off" } })
        };
        let config = json!({
            "listeners": [
                { "name": "chat", "host": chat.ip(), "port": chat.port(), "pool": "chat" },
                { "name": "tls", "host": tls.ip(), "port": tls.port(), "protocol": "tcp",
                  "preface_timeout_ms": 60_000,
                  "routes": [{ "sni": ["a.example"], "pool": "web" }, { "pool": "web" }] },
            ],
            "pools": { "chat": pool(&backends[0]), "web": pool(&backends[1]) },
        });
        let folder = Folder::new();
        Service {
            proxy: Proxy::start(&folder, &config, &["-w", "2"]),
            _folder: folder,
            chat,
            tls,
            backends,
        }
    }

    #[track_caller]
    fn list(&self, query: &str) -> SessionList {
        let answer = self
            .proxy
            .admin
            .exchange(Request::new("GET", &format!("/sessions?{query}")));
        let answer = answer.expect("the admin socket answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("as the contract says")
    }

    fn end(&self, id: &str) -> u16 {
        let request = Request::new("DELETE", &format!("/sessions/{id}"));
        self.proxy
            .admin
            .exchange(request)
            .expect("the admin socket answers")
            .status
    }

    /// The one of this client.
    #[track_caller]
    fn of(&self, client: SocketAddr) -> OpenSession {
        let mut all = self.list("limit=1000").sessions.into_iter();
        all.find(|one| one.client == client).expect("it is open")
    }
}

fn local(session: &Session) -> SocketAddr {
    session.stream.local_addr().expect("bound")
}

#[test]
fn open_sessions_and_flows_are_listed_with_what_they_are() {
    let service = Service::start();
    let mut session = Session::open(service.chat).expect("served");
    session.echo(&[7; 1_000]).expect("echoed");
    let flow = UdpClient::new(service.chat);
    flow.who().expect("answered");
    let waiting = connect(service.tls).expect("accepted");
    until("three are open", LONG, || {
        (service.list("").total == 3).then_some(())
    });

    let found = service.of(local(&session));
    assert_eq!(found.protocol, ListedProtocol::Tcp);
    assert_eq!(
        (found.listener.as_deref(), found.pool.as_deref()),
        (Some("chat"), Some("chat"))
    );
    assert_eq!(found.backend, Some(service.backends[0].addr));
    assert_eq!(found.state, SessionPhase::Open);
    assert_eq!(found.bytes_up, 1_000);
    assert!(found.bytes_down > 1_000 && found.idle_ms <= found.age_ms);

    let found = service.of(waiting.local_addr().expect("bound"));
    assert_eq!(
        (found.listener.as_deref(), found.pool, found.backend),
        (Some("tls"), None, None)
    );
    assert_eq!(found.state, SessionPhase::AwaitingHello);

    let flows = service.list("protocol=udp");
    assert_eq!((flows.total, flows.sessions.len()), (1, 1));
    assert_eq!(flows.sessions[0].protocol, ListedProtocol::Udp);
    assert_eq!(flows.sessions[0].state, SessionPhase::Open);

    session
        .stream
        .shutdown(std::net::Shutdown::Write)
        .expect("connected");
    until("it is half closed or gone", LONG, || {
        let all = service.list("pool=chat&protocol=tcp").sessions;
        all.iter()
            .all(|one| one.state != SessionPhase::Open)
            .then_some(())
    });
}

#[test]
fn a_question_names_which_and_which_come_first() {
    let service = Service::start();
    let sources = [2, 2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last));
    let sessions = sources.map(|ip| {
        let stream = connect_from(ip, service.chat).expect("accepted");
        let session = Session::over(stream).expect("served");
        std::thread::sleep(Duration::from_millis(5));
        session
    });
    let clients = sessions.each_ref().map(local);
    let listed = |query: &str| -> Vec<SocketAddr> {
        service
            .list(query)
            .sessions
            .iter()
            .map(|one| one.client)
            .collect()
    };
    assert_eq!(listed(""), clients);
    assert_eq!(listed("limit=1"), clients[..1]);
    assert_eq!(listed("client=127.0.0.2"), clients[..2]);
    assert_eq!(listed("client=127.0.0.3/32"), clients[2..]);
    assert_eq!(listed("listener=tls"), []);
    assert_eq!(listed("listener=none&pool=chat"), []);
    assert_eq!(
        listed(&format!("backend={}", service.backends[0].addr)),
        clients
    );
    assert_eq!(listed(&format!("backend={}", service.backends[1].addr)), []);
    let mut third = sessions.into_iter().nth(2).expect("three");
    third.echo(&[1; 5_000]).expect("echoed");
    assert_eq!(listed("sort=bytes&limit=1"), clients[2..]);

    let all = service.list("limit=0");
    assert_eq!(
        (all.total, all.sessions.len()),
        (1, 0),
        "two were dropped above"
    );
    assert_eq!(all.top_clients[0].client, sources[2]);
    for bad in [
        "limit=1001",
        "limit=x",
        "client=host",
        "backend=1",
        "sort=name",
        "polo=x",
    ] {
        let request = Request::new("GET", &format!("/sessions?{bad}"));
        let answer = service.proxy.admin.exchange(request).expect("answered");
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
    }
}

#[test]
fn an_operator_ends_one_session_and_one_flow_and_no_other() {
    let service = Service::start();
    let mut kept = Session::open(service.chat).expect("served");
    let mut ended = Session::open(service.chat).expect("served");
    let id = service.of(local(&ended)).id;
    assert_eq!(service.end(&id), 200);
    let error = ended.stream.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(service.end(&id), 404, "it has ended");
    for bad in ["tcp-0-0-0", "tcp-9-0-1", "x"] {
        assert_eq!(service.end(bad), 404, "{bad}");
    }
    kept.echo(b"still there").expect("echoed");

    let flow = UdpClient::new(service.chat);
    flow.who().expect("answered");
    let id = service.list("protocol=udp").sessions[0].id.clone();
    assert_eq!(service.end(&id), 200);
    assert_eq!(service.list("protocol=udp").total, 0);
    flow.who().expect("a new flow");
    let totals = service.proxy.status().totals;
    assert_eq!(totals.sessions_ended.get("ended_by_operator"), Some(&1));
    assert_eq!(totals.flows_ended.get("ended_by_operator"), Some(&1));
}

#[test]
fn thousands_are_counted_and_the_clients_with_the_most_are_named() {
    let service = Service::start();
    let sessions: Vec<Session> = (0..2_000_u32)
        .map(|at| {
            let last = if at % 4 == 0 {
                9
            } else {
                10 + (at % 100) as u8
            };
            let stream = connect_from(Ipv4Addr::new(127, 0, 0, last), service.chat);
            Session::over(stream.expect("accepted")).expect("served")
        })
        .collect();
    let all = service.list("limit=1000");
    assert_eq!((all.total, all.sessions.len()), (2_000, 1_000));
    let first = &all.top_clients[0];
    assert_eq!(
        (first.client, first.sessions),
        (Ipv4Addr::new(127, 0, 0, 9).into(), 500)
    );
    drop(sessions);
}

#[test]
fn control_passes_the_list_on_and_ends_a_session_with_a_line_in_the_audit_log() {
    let folder = Folder::new();
    let backend = Backend::start("one", Manner::Echo);
    folder.write_k8s(&[(backend.addr, 10)]);
    let listen = free_address();
    let settings = json!({ "proxy": { "health": { "probe": "off" } } });
    let control = Control::start(&folder, listen, &settings);
    until("the first file is published", LONG, || {
        folder.proxy_config()
    });
    let api = control.api;
    let (status, answer) = api.get("/api/v1/sessions");
    assert_eq!(status, 503, "{answer}");
    let _proxy = Proxy::start_on(&folder, &[]);
    let mut session = Session::open(listen).expect("served");
    session.echo(b"some bytes").expect("echoed");
    let client = local(&session);
    let path = format!(
        "/api/v1/sessions?backend={}&client=127.0.0.0/8&sort=idle&limit=10",
        backend.addr
    );
    let (status, answer) = api.get(&path);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["total"], &answer["sessions"][0]["client"]),
        (&json!(1), &json!(client))
    );
    assert_eq!(answer["sessions"][0]["pool"], "default");
    for bad in [
        "limit=1001",
        "client=x",
        "backend=[::1]",
        "pool=A",
        "sort=x",
        "x=1",
    ] {
        let (status, answer) = api.get(&format!("/api/v1/sessions?{bad}"));
        assert_eq!(status, 400, "{bad}: {answer}");
    }
    let id = answer["sessions"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let (status, answer) = api.delete(&format!("/api/v1/sessions/{id}"), None);
    assert_eq!((status, &answer["id"]), (200, &json!(id)), "{answer}");
    session.stream.read(&mut [0]).expect_err("a reset");
    assert_eq!(api.delete(&format!("/api/v1/sessions/{id}"), None).0, 404);
    let (_, audit) = api.get("/api/v1/audit?limit=10");
    let lines = audit["lines"].as_array().expect("lines").iter();
    let results: Vec<&Value> = lines
        .filter(|line| line["action"] == "end_session" && line["target"] == *id)
        .map(|line| &line["result"])
        .collect();
    assert_eq!(results.len(), 2, "{audit}");
}
