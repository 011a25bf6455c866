//! What an engine answers over HTTP: bounded in bytes and in time.

use std::io::Read;
use std::time::Duration;

use ureq::Agent;

/// The longest answer that is read, unpacked. A scrape of vLLM is some 100 kB; nothing of it is kept
/// but the samples that are wanted, so this bounds the work and not the memory.
pub const MAX_BODY_BYTES: u64 = 128 << 20;
/// What of an answer is held at a time.
const BUFFER_BYTES: usize = 16 << 10;

pub struct Http(Agent);

impl Http {
    /// `timeout` is for a whole exchange, from connect to the last byte.
    pub fn new(timeout: Duration) -> Http {
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            // Engines are neighbours; no proxy of the environment stands between.
            .proxy(None)
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .build();
        Http(config.into())
    }

    /// What `take` makes of the bytes at a URL, as they come in.
    ///
    /// # Errors
    /// In words, where there is no answer of status 200 within the bounds, or `take` refuses it.
    pub fn read<T>(
        &self,
        url: &str,
        take: impl FnOnce(&mut dyn Read) -> Result<T, String>,
    ) -> Result<T, String> {
        let answer = self.0.get(url).call().map_err(|error| error.to_string())?;
        let status = answer.status();
        if status != 200 {
            return Err(format!("status {status}, allowed: 200"));
        }
        let mut body = answer.into_body();
        take(&mut body.with_config().limit(MAX_BODY_BYTES).reader())
    }

    /// Whether there is an answer of success at a URL.
    pub fn answers(&self, url: &str) -> Result<(), String> {
        let answer = self.0.get(url).call().map_err(|error| error.to_string())?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(format!("status {}", answer.status())),
        }
    }
}
