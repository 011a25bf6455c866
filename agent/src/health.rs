//! Whether an engine serves yet.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::fetch::Http;

/// How an engine is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// A GET that has to be answered with success.
    Http(String),
    /// A connect.
    Tcp(SocketAddr),
    /// Not at all: it counts as warm.
    None,
}

impl Health {
    /// # Errors
    /// In words: what was checked, and why it failed.
    pub fn check(&self, http: &Http, timeout: Duration) -> Result<(), String> {
        match self {
            Health::Http(url) => http.answers(url).map_err(|why| format!("{url}: {why}")),
            Health::Tcp(addr) => match TcpStream::connect_timeout(addr, timeout) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("connect to {addr}: {error}")),
            },
            Health::None => Ok(()),
        }
    }
}

/// Whether an engine is warm, from the checks so far. One success makes it warm; only several consecutive
/// misses make it cold again, since a busy engine may miss one, and each change moves sessions.
#[derive(Debug, Default)]
pub struct Warmth {
    is_warm: bool,
    misses: u32,
}

impl Warmth {
    /// How many misses in a row make a warm engine cold.
    pub const MISSES: u32 = 3;

    /// Takes the outcome of one check; true where the engine is warming up.
    pub fn is_warming_up(&mut self, is_healthy: bool) -> bool {
        self.misses = if is_healthy {
            0
        } else {
            self.misses.saturating_add(1)
        };
        self.is_warm = is_healthy || (self.is_warm && self.misses < Warmth::MISSES);
        !self.is_warm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_yes_makes_it_warm_and_three_misses_in_a_row_cold() {
        let mut warmth = Warmth::default();
        let checks = [
            false, false, true, false, false, true, false, false, false, true,
        ];
        let warming = checks.map(|is_healthy| warmth.is_warming_up(is_healthy));
        let expected = [
            true, true, false, false, false, false, false, false, true, false,
        ];
        assert_eq!(warming, expected);
    }
}
