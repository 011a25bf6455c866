//! The other proxies: where their binaries are, and their configurations filled in.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Program;

/// Where a package puts nginx's stream module, if it is not built in.
const STREAM_MODULES: [&str; 2] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
];

#[derive(Debug)]
pub struct Peers {
    /// The folder with their configurations.
    folder: PathBuf,
    pub haproxy: Option<PathBuf>,
    pub nginx: Option<PathBuf>,
    pub envoy: Option<PathBuf>,
}

/// What the places in a configuration become.
#[derive(Debug)]
pub struct Values<'a> {
    pub workers: usize,
    pub port: u16,
    pub backend: u16,
    pub sessions: u64,
    pub descriptors: u64,
    pub busy_polling: bool,
    pub nginx_buffer: &'a str,
}

impl Peers {
    /// `bench` is the folder that has `peers/` and `cache/`.
    pub fn find(bench: &Path) -> Peers {
        let cached = bench.join("cache/envoy");
        Peers {
            folder: bench.join("peers"),
            haproxy: find_binary("haproxy"),
            nginx: find_binary("nginx"),
            envoy: Some(cached)
                .filter(|path| path.is_file())
                .or_else(|| find_binary("envoy")),
        }
    }

    /// Writes a peer's configuration into `folder` and returns its command line.
    pub fn arguments(
        &self,
        program: Program,
        folder: &Path,
        values: &Values<'_>,
    ) -> io::Result<Vec<OsString>> {
        let (binary, template) = match program {
            Program::Haproxy | Program::HaproxyBusy => (&self.haproxy, "haproxy.cfg"),
            Program::Nginx => (&self.nginx, "nginx.conf"),
            Program::Envoy => (&self.envoy, "envoy.yaml"),
            Program::Direct | Program::Ours => unreachable!("not a peer"),
        };
        let binary = binary.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let text = fs::read_to_string(self.folder.join(template))?;
        let config = folder.join(template);
        fs::write(&config, filled_in(&text, values, folder))?;
        let mut arguments = vec![OsString::from(binary)];
        match program {
            // -db: in the foreground, without a master process.
            Program::Haproxy | Program::HaproxyBusy => {
                arguments.extend(["-db".into(), "-f".into(), config.into()]);
            }
            Program::Nginx => {
                arguments.extend(["-p".into(), folder.into(), "-c".into(), config.into()]);
            }
            Program::Envoy => {
                let workers = values.workers.to_string();
                let options = [
                    "--disable-hot-restart",
                    "--log-level",
                    "error",
                    "--concurrency",
                ];
                arguments.extend(options.map(OsString::from));
                arguments.extend([workers.into(), "-c".into(), config.into()]);
            }
            Program::Direct | Program::Ours => unreachable!("returned no template"),
        }
        Ok(arguments)
    }
}

/// Puts the values into the places `@NAME@`.
fn filled_in(template: &str, values: &Values<'_>, folder: &Path) -> String {
    let module = STREAM_MODULES
        .into_iter()
        .find(|path| Path::new(path).is_file());
    let places = [
        ("@WORKERS@", values.workers.to_string()),
        ("@PORT@", values.port.to_string()),
        ("@BACKEND@", values.backend.to_string()),
        ("@SESSIONS@", values.sessions.to_string()),
        ("@DESCRIPTORS@", values.descriptors.to_string()),
        ("@BUFFER@", values.nginx_buffer.to_owned()),
        ("@FOLDER@", folder.display().to_string()),
        (
            "@BUSY_POLLING@",
            if values.busy_polling {
                "busy-polling"
            } else {
                ""
            }
            .to_owned(),
        ),
        (
            "@STREAM_MODULE@",
            module.map_or(String::new(), |path| format!("load_module {path};")),
        ),
    ];
    places
        .iter()
        .fold(template.to_owned(), |text, (place, value)| {
            text.replace(place, value)
        })
}

/// A binary in `PATH`, or where daemons are, which is not in everyone's `PATH`.
fn find_binary(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_every_configuration_is_filled_in() {
        let values = Values {
            workers: 1,
            port: 2000,
            backend: 2001,
            sessions: 10,
            descriptors: 100,
            busy_polling: true,
            nginx_buffer: "16k",
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        for name in ["haproxy.cfg", "nginx.conf", "envoy.yaml"] {
            let template = fs::read_to_string(folder.join(name)).expect("it is committed");
            let text = filled_in(&template, &values, Path::new("/tmp/x"));
            let settings = text
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'));
            for line in settings {
                let is_left = line.contains('@') && !line.contains("\"@type\"");
                assert!(!is_left, "{name}: {line}");
            }
        }
    }
}
