//! What `proxy_config.json` tells a proxy, in lines for a person.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use contract::config::MAX_FILE_BYTES;
use contract::{Backend, Config, Fault, LocalAddresses, check};

/// Reads the file and says what is in it: one line for the whole, then one for each backend, or
/// one for each fault.
pub fn lines(path: &Path) -> Vec<String> {
    match read(path) {
        Ok(bytes) => match check(&bytes, &LocalAddresses::default()) {
            Ok(checked) => {
                let mut lines = taken(&checked.config);
                lines.extend(checked.unknown_keys.0.iter().map(warning));
                lines
            }
            Err(faults) => refused(&faults.0),
        },
        Err(error) => vec![format!(
            "refused: {} cannot be read: {error}",
            path.display()
        )],
    }
}

/// At most one byte more than is allowed, which is enough to be refused.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn taken(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for listener in &config.listeners {
        let generation = match config.generation {
            Some(generation) => generation.to_string(),
            None => "none".to_owned(),
        };
        let listen: Vec<String> = listener.addrs().map(|addr| addr.to_string()).collect();
        let mut pools: Vec<usize> = listener.routes.pools().copied().collect();
        pools.sort_unstable();
        pools.dedup();
        for pool in pools.into_iter().map(|at| &config.pools[at]) {
            lines.push(format!(
                "generation={generation} listen={} algorithm={} backends={}",
                listen.join(","),
                pool.algorithm.name(),
                pool.backends.len()
            ));
            lines.extend(pool.backends.iter().map(backend));
        }
    }
    lines
}

fn backend(backend: &Backend) -> String {
    let percent = |share: Option<f64>| match share {
        Some(share) => format!("{:.0}%", share * 100.0),
        None => "-".to_owned(),
    };
    let state = match (backend.enabled, backend.is_warming_up) {
        (false, _) => " disabled",
        (true, true) => " warming",
        (true, false) => "",
    };
    format!(
        "  {} weight={} gpu={} vram={}{state}",
        backend.addr,
        backend.weight,
        percent(backend.report.gpu_usage),
        percent(backend.report.vram_usage)
    )
}

fn warning(fault: &Fault) -> String {
    format!("  warning: {fault}")
}

fn refused(faults: &[Fault]) -> Vec<String> {
    let mut lines = vec![format!("refused: faults={}", faults.len())];
    lines.extend(faults.iter().map(|fault| format!("  {fault}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &str) -> Vec<String> {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("proxy_config.json");
        std::fs::write(&path, text).expect("written");
        lines(&path)
    }

    #[test]
    fn a_good_file_is_told_with_each_backend() {
        let told = lines_of(
            r#"{ "listen": {"host": "0.0.0.0", "port": 10080}, "algorithm": "random",
                 "generation": 7, "backends": [
                   {"ip": "10.0.0.1", "port": 9001, "weight": 30, "gpu_usage": 0.25},
                   {"ip": "10.0.0.2", "port": 9001, "enabled": false}] }"#,
        );
        let expected = [
            "generation=7 listen=0.0.0.0:10080 algorithm=random backends=2",
            "  10.0.0.1:9001 weight=30 gpu=25% vram=-",
            "  10.0.0.2:9001 weight=10 gpu=- vram=- disabled",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn every_fault_is_told_and_an_absent_file_too() {
        let told = lines_of(r#"{"listen": {"host": "x", "port": 0}, "backends": [{"ip": "y"}]}"#);
        assert_eq!(told.len(), 5, "{told:#?}");
        assert!(told[0].starts_with("refused"), "{told:#?}");
        for place in [
            "/listen/host",
            "/listen/port",
            "/backends/0/ip",
            "/backends/0/port",
        ] {
            assert!(
                told.iter().any(|line| line.contains(place)),
                "{place}: {told:#?}"
            );
        }
        let absent = lines(Path::new("/nowhere/proxy_config.json"));
        assert!(absent[0].starts_with("refused: /nowhere/"), "{absent:?}");
    }
}
