//! What the tests of control's API begin with.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::ports::free_address;
use testkit::{Api, Control, Folder, LONG, until};

use crate::loop_bench::published;

/// Control with one discovered backend, and no proxy.
pub struct ApiBench {
    pub control: Control,
    pub folder: Folder,
    /// Where the proxy is to listen.
    pub listen: SocketAddr,
    /// The backend that discovery has found.
    pub discovered: SocketAddr,
}

impl ApiBench {
    /// `settings` are set above the tests' own.
    pub fn start(settings: Value) -> ApiBench {
        let folder = Folder::new();
        let listen = free_address();
        let discovered = free_address();
        folder.write_k8s(&[(discovered, 10)]);
        let control = Control::start(&folder, listen, &settings);
        until("the first file is published", LONG, || {
            published(&folder, discovered)
        });
        ApiBench {
            control,
            folder,
            listen,
            discovered,
        }
    }

    pub fn api(&self) -> Api {
        self.control.api
    }

    /// The row of one backend, if there is one.
    pub fn row(&self, addr: SocketAddr) -> Option<Value> {
        let (status, table) = self.api().get("/api/backends");
        assert_eq!(status, 200, "{table}");
        let rows = table["backends"].as_array().expect("a list").clone();
        rows.into_iter()
            .find(|row| row["ip"] == json!(addr.ip()) && row["port"] == json!(addr.port()))
    }

    /// Registers a backend with nothing but its address; returns the answer.
    pub fn register(&self, addr: SocketAddr) -> Value {
        let body = json!({ "ip": addr.ip(), "port": addr.port() });
        let (status, answer) = self.api().post("/api/register", &body);
        assert_eq!(status, 200, "{answer}");
        answer
    }
}
