//! What an engine answers over HTTP: bounded in bytes and in time.

use std::time::Duration;

use ureq::Agent;

/// The longest answer that is read. A scrape of vLLM is some 100 kB.
pub const MAX_BODY_BYTES: u64 = 8 << 20;

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
            .build();
        Http(config.into())
    }

    /// The text at a URL. Bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// In words, where there is no answer of status 200 within the bounds.
    pub fn text(&self, url: &str) -> Result<String, String> {
        let answer = self.0.get(url).call().map_err(|error| error.to_string())?;
        let status = answer.status();
        if status != 200 {
            return Err(format!("status {status}, allowed: 200"));
        }
        let mut body = answer.into_body();
        let bytes = body.with_config().limit(MAX_BODY_BYTES).read_to_vec();
        let bytes = bytes.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
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
