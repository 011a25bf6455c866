//! A proxy on another host than the test's.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::host::Host;
use testkit::process::command;
use testkit::{Folder, Program, Proxy, proxy_config, without_probes};

pub struct FarProxy {
    pub proxy: Proxy,
    pub host: Host,
    _folder: Folder,
}

impl FarProxy {
    /// Starts it on `host`, listening on `listen` before backends of weight 10, without probes unless
    /// `settings` say otherwise.
    pub fn start(
        host: Host,
        listen: SocketAddr,
        backends: &[SocketAddr],
        settings: Value,
    ) -> FarProxy {
        let backends: Vec<_> = backends.iter().map(|addr| (*addr, 10)).collect();
        let mut config = proxy_config(listen, &backends);
        for settings in [without_probes(json!({})), settings] {
            for (key, value) in settings.as_object().into_iter().flatten() {
                config[key] = value.clone();
            }
        }
        config["generation"] = json!(1);
        let folder = Folder::new();
        folder.write_proxy_config(&config);
        let mut command = command("proxy_server");
        command.args(["--root", folder.root_argument()]);
        FarProxy {
            proxy: Proxy::ready(&folder, Program::spawn(host.run(&command))),
            host,
            _folder: folder,
        }
    }
}
