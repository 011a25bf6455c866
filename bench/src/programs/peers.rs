//! The other proxies: where their binaries are, and their configurations filled in.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use testkit::installed::{binary, load_stream_module};

use super::Program;

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
            haproxy: binary("haproxy"),
            nginx: binary("nginx"),
            envoy: Some(cached)
                .filter(|path| path.is_file())
                .or_else(|| binary("envoy")),
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
        ("@STREAM_MODULE@", load_stream_module()),
    ];
    places
        .iter()
        .fold(template.to_owned(), |text, (place, value)| {
            text.replace(place, value)
        })
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
