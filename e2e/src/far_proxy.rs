//! A proxy on another host than the test's.

use std::net::SocketAddr;

use serde_json::Value;
use testkit::host::Host;
use testkit::process::command;
use testkit::proxy::numbered;
use testkit::{Folder, Program, Proxy};

use crate::proxy_bench::configuration;

pub struct FarProxy {
    pub proxy: Proxy,
    pub host: Host,
    _folder: Folder,
}

impl FarProxy {
    /// Starts it on `host`, listening on `listen` before backends of weight 10.
    pub fn start(
        host: Host,
        listen: SocketAddr,
        backends: &[SocketAddr],
        settings: Value,
    ) -> FarProxy {
        let config = configuration(listen, backends, settings);
        let folder = Folder::new();
        folder.write_proxy_config(&numbered(&config, 1));
        let mut command = command("proxy_server");
        command.args(["--root", folder.root_argument()]);
        FarProxy {
            proxy: Proxy::ready(&folder, Program::spawn(host.run(&command))),
            host,
            _folder: folder,
        }
    }
}
