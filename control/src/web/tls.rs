//! TLS for the console: certificate and key from files, read again when they change. A connection
//! keeps the certificate that it began with, so a new one ends no connection.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::bounded_read::open_to_read;
use crate::file_version::LastRead;
use crate::settings::TlsSettings;

/// The largest file of certificates or keys.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why there is no TLS, or no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {error}", path = .path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{path}: no PEM text: {error}", path = .path.display())]
    Pem { path: PathBuf, error: pem::Error },
    #[error("{path}: found no certificate, allowed: PEM, the server's own certificate first", path = .0.display())]
    NoCertificate(PathBuf),
    #[error("{path}: found mode {mode:03o}, allowed: 640 or less, since it is a private key", path = .path.display())]
    OpenKey { path: PathBuf, mode: u32 },
    #[error("{certificate} and {key}: {error}", certificate = .certificate.display(), key = .key.display())]
    Unusable {
        certificate: PathBuf,
        key: PathBuf,
        error: rustls::Error,
    },
}

pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    last_read: LastRead,
    config: Mutex<Arc<ServerConfig>>,
}

impl Tls {
    /// # Errors
    /// Why these files are no certificate with its key.
    pub fn open(settings: &TlsSettings) -> Result<Tls, TlsError> {
        let (certificate, key) = (settings.certificate.clone(), settings.key.clone());
        let last_read = LastRead::none_of(&[&certificate, &key]);
        let config = last_read.note(|| read(&certificate, &key), is_unread)?;
        Ok(Tls {
            certificate,
            key,
            last_read,
            config: Mutex::new(config),
        })
    }

    /// Whether either file is another one than was read last, or could not be read.
    pub fn is_a_file_unread(&self) -> bool {
        self.last_read.is_outdated()
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    /// Why the new ones cannot be used; the old certificate stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let read = || read(&self.certificate, &self.key);
        let config = self.last_read.note(read, is_unread)?;
        *self.config.lock().expect(UNPOISONED) = config;
        Ok(())
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.lock().expect(UNPOISONED).clone())
    }
}

const UNPOISONED: &str = "no holder of this lock panics: it only reads or replaces a value";

fn is_unread(error: &TlsError) -> bool {
    matches!(error, TlsError::File { .. })
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let pem_error = |path: &Path| {
        let path = path.to_owned();
        |error| TlsError::Pem { path, error }
    };
    let (bytes, _) = read_file(certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(pem_error(certificate))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(certificate.to_owned()));
    }
    let (bytes, mode) = read_file(key)?;
    if mode & 0o037 != 0 {
        let path = key.to_owned();
        return Err(TlsError::OpenKey { path, mode });
    }
    let secret = PrivateKeyDer::from_pem_slice(&bytes).map_err(pem_error(key))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for the versions that rustls asks for");
    let config = builder
        .with_no_client_auth()
        .with_single_cert(chain, secret);
    let mut config = config.map_err(|error| TlsError::Unusable {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        error,
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The bytes and the mode. Links are followed, since tools that renew certificates use them.
fn read_file(path: &Path) -> Result<(Vec<u8>, u32), TlsError> {
    let read = || -> io::Result<(Vec<u8>, u32)> {
        let file = open_to_read(path, rustix::fs::OFlags::empty())?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other(
                "found no regular file, allowed: a regular file",
            ));
        }
        let mode = metadata.mode() & 0o777;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok((bytes, mode))
    };
    read().map_err(|error| TlsError::File {
        path: path.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    struct Files {
        _temp: tempfile::TempDir,
        settings: TlsSettings,
    }

    fn files() -> Files {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let settings = TlsSettings {
            listen: ([127, 0, 0, 1], 0).into(),
            certificate: temp.path().join("certificate.pem"),
            key: temp.path().join("key.pem"),
        };
        let files = Files {
            _temp: temp,
            settings,
        };
        files.renew();
        files
    }

    impl Files {
        fn renew(&self) {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
            let made = made.expect("a certificate");
            write(&self.settings.certificate, &made.cert.pem(), 0o644);
            write(&self.settings.key, &made.signing_key.serialize_pem(), 0o600);
        }
    }

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).expect("written");
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, permissions).expect("set");
    }

    #[test]
    fn a_new_pair_is_taken_and_a_bad_one_leaves_the_old_certificate() {
        let files = files();
        let tls = Tls::open(&files.settings).expect("a good pair");
        assert!(!tls.is_a_file_unread());
        let first = tls.config.lock().expect("whole").clone();
        files.renew();
        assert!(tls.is_a_file_unread());
        tls.reload().expect("a good pair");
        assert!(!tls.is_a_file_unread());
        let second = tls.config.lock().expect("whole").clone();
        assert!(!Arc::ptr_eq(&first, &second));

        write(
            &files.settings.certificate,
            "-----BEGIN CERTIFICATE-----\n",
            0o644,
        );
        assert!(tls.is_a_file_unread() && tls.reload().is_err());
        assert!(!tls.is_a_file_unread(), "it is not tried again and again");
        std::fs::remove_file(&files.settings.certificate).expect("removed");
        std::fs::create_dir(&files.settings.certificate).expect("made");
        for _ in 0..2 {
            assert!(tls.is_a_file_unread(), "what cannot be read is tried again");
            assert!(tls.reload().is_err());
        }
        assert!(Arc::ptr_eq(&second, &*tls.config.lock().expect("whole")));
    }

    #[test]
    fn each_fault_names_its_file() {
        let files = files();
        let (certificate, key) = (&files.settings.certificate, &files.settings.key);
        let good_key = std::fs::read_to_string(key).expect("read");
        let refused = || match Tls::open(&files.settings) {
            Ok(_) => panic!("a bad pair was taken"),
            Err(error) => error.to_string(),
        };
        for mode in [0o644, 0o660, 0o604] {
            write(key, &good_key, mode);
            assert!(refused().contains("key.pem: found mode"), "{mode:o}");
        }
        write(key, &good_key, 0o640);
        Tls::open(&files.settings).expect("a group may read it");
        write(key, "no key", 0o600);
        assert!(refused().contains("key.pem: no PEM"));
        files.renew();
        let other = std::fs::read_to_string(certificate).expect("read");
        files.renew();
        write(certificate, &other, 0o644);
        assert!(refused().contains("certificate.pem and"), "{}", refused());
        write(certificate, &good_key, 0o644);
        assert!(refused().contains("found no certificate"));
        std::fs::remove_file(certificate).expect("removed");
        assert!(refused().contains("certificate.pem: "));
    }
}
