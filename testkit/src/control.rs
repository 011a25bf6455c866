//! A running `control_server`.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::api::Api;
use crate::folder::Folder;
use crate::http::Request;
use crate::ports::free_address;
use crate::process::Program;
use crate::wait::{LONG, until};

#[derive(Debug)]
pub struct Control {
    pub program: Program,
    pub api: Api,
    pub addr: SocketAddr,
}

impl Control {
    /// Writes `control_config.json`, in which the proxy is to listen on `listen` and `settings` are
    /// set above the tests' own, starts control on a free port, and awaits that it serves.
    #[track_caller]
    pub fn start(folder: &Folder, listen: SocketAddr, settings: &Value) -> Control {
        let addr = free_address();
        let mut config = json!({
            "host": addr.ip(),
            "port": addr.port(),
            "default_listen_host": listen.ip(),
            "default_listen_port": listen.port(),
        });
        for (key, value) in settings.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        folder.write_control_config(&config);
        Control::start_on(folder, addr)
    }

    /// Starts control on the settings that stand, which name `addr`, and awaits that it serves.
    #[track_caller]
    pub fn start_on(folder: &Folder, addr: SocketAddr) -> Control {
        let program = Program::start("control_server", ["--root", folder.root_argument()]);
        let mut control = Control {
            program,
            api: Api::at(addr),
            addr,
        };
        until("control serves", LONG, || {
            assert!(control.program.is_running(), "control has ended");
            let answer = control.api.exchange(Request::new("GET", "/livez")).ok()?;
            (answer.status == 200).then_some(())
        });
        control
    }
}
