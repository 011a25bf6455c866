//! The pid file of a proxy that runs. On a disk that is full or read-only the proxy serves without it,
//! says so, and writes it when it can.

use contract::pidfile::PidFile;

#[derive(Debug)]
pub struct Announcement {
    /// Held from the start to the end; `None` where the disk did not let it be made.
    file: Option<PidFile>,
    is_written: bool,
}

impl Announcement {
    /// Writes `file`. From here on signals arrive, so the handlers must be in place.
    pub fn make(file: Option<PidFile>) -> Announcement {
        let mut announcement = Announcement {
            file,
            is_written: false,
        };
        if let Some(Err(error)) = announcement.write() {
            tracing::warn!(
                "serving without a pid file, which is tried again: it cannot be written: {error}"
            );
        }
        announcement
    }

    /// Whether [`Announcement::try_again`] may do something.
    pub fn is_waiting(&self) -> bool {
        self.file.is_some() && !self.is_written
    }

    pub fn try_again(&mut self) {
        if self.is_waiting() && matches!(self.write(), Some(Ok(()))) {
            tracing::info!("the pid file is written");
        }
    }

    fn write(&mut self) -> Option<std::io::Result<()>> {
        let written = self.file.as_mut()?.announce();
        self.is_written = written.is_ok();
        Some(written)
    }
}
