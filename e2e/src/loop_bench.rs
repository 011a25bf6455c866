//! What the tests of the whole loop begin with.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::ports::free_address;
use testkit::{Backend, Control, Folder, LONG, Manner, Proxy, until};

use crate::spread::Transport;

/// Control and proxy over backends a and b, of which discovery knows a.
pub struct LoopBench {
    pub control: Control,
    pub proxy: Proxy,
    pub folder: Folder,
    pub listen: SocketAddr,
    pub a: Backend,
    pub b: Backend,
}

impl LoopBench {
    /// With backends that echo; `settings` of control are set above the tests' own.
    pub fn start(settings: Value) -> LoopBench {
        LoopBench::of(Manner::Echo, settings)
    }

    /// The same with backends of any manner.
    pub fn of(manner: Manner, settings: Value) -> LoopBench {
        let [a, b] = ["a", "b"].map(|name| Backend::start(name, manner));
        let folder = Folder::new();
        let listen = free_address();
        folder.write_k8s(&[(a.addr, 10)]);
        let control = Control::start(&folder, listen, &settings);
        until("a is published", LONG, || published(&folder, a.addr));
        let proxy = Proxy::start_on(&folder, &["-w", "1"]);
        LoopBench {
            control,
            proxy,
            folder,
            listen,
            a,
            b,
        }
    }

    /// Registers b, or lets it beat.
    #[track_caller]
    pub fn register_b(&self) {
        let body = json!({ "ip": self.b.addr.ip(), "port": self.b.addr.port(), "weight": 10 });
        let (status, answer) = self.control.api.post("/api/register", &body);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["ok"], json!(true), "{answer}");
    }

    /// Control ends as by a power cut.
    pub fn kill_control(&mut self) {
        self.control.program.signal(Signal::KILL);
        self.control.program.wait_exit(LONG);
    }

    /// Starts control on what stands in the folder.
    pub fn restart_control(&mut self) {
        self.control = Control::start_on(&self.folder, self.control.addr);
    }

    /// Awaits the first new session that reaches `name`.
    #[track_caller]
    pub fn await_reached(&self, name: &str) {
        until("a session reaches the backend", LONG, || {
            (Transport::Tcp.ask(self.listen) == name).then_some(())
        });
    }

    /// The proxy's weight for a backend, awaited.
    #[track_caller]
    pub fn await_weight(&self, backend: &Backend, weight: u16) {
        until(&format!("the proxy gives {weight}"), LONG, || {
            let rows = self.proxy.status().backends;
            let mut rows = rows.into_iter();
            rows.find(|row| row.port == backend.addr.port() && row.weight == weight)
                .map(drop)
        });
    }
}

/// The published entry of a backend.
pub fn published(folder: &Folder, addr: SocketAddr) -> Option<Value> {
    let config = folder.proxy_config()?;
    let mut entries = config["backends"].as_array()?.iter();
    entries
        .find(|entry| entry["port"] == json!(addr.port()))
        .cloned()
}
