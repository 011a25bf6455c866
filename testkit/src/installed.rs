//! What is installed on this machine of the proxies that people know.

use std::path::{Path, PathBuf};

/// Where a package puts nginx's stream module, if it is not built in.
const STREAM_MODULES: [&str; 2] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
];

/// A binary in `PATH`, or where daemons are, which is not in everyone's `PATH`.
pub fn binary(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The line of nginx's configuration that loads its stream module; empty where that is built in.
pub fn load_stream_module() -> String {
    let module = STREAM_MODULES
        .into_iter()
        .find(|path| Path::new(path).is_file());
    module.map_or(String::new(), |path| format!("load_module {path};"))
}
