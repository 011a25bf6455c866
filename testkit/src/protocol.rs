//! What scripted backends and their clients agree on.

use std::io::{self, Write as _};
use std::net::TcpStream;

use crate::pattern::Pattern;

/// The datagram that is answered with a greeting.
pub const WHO: &[u8] = b"who?";

/// The seed of what clients send where nothing else has been agreed.
pub const UP_SEED: u64 = 1;

/// What [`crate::Manner::Duplex`] says at the end of a stream that arrived right.
pub const RIGHT: u8 = b'R';
pub(crate) const WRONG: u8 = b'W';

/// The two streams of a [`crate::Manner::Duplex`] session, which the client sends first.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed_up: u64,
    pub length_up: u64,
    pub seed_down: u64,
    pub length_down: u64,
}

impl Plan {
    pub const BYTES: usize = 32;

    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let numbers = [
            self.seed_up,
            self.length_up,
            self.seed_down,
            self.length_down,
        ];
        let mut bytes = [0; Self::BYTES];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::BYTES]) -> Plan {
        let number = |index: usize| {
            let place = &bytes[index * 8..][..8];
            u64::from_le_bytes(place.try_into().expect("eight bytes"))
        };
        Plan {
            seed_up: number(0),
            length_up: number(1),
            seed_down: number(2),
            length_down: number(3),
        }
    }
}

/// Sends `length` bytes of the pattern of `seed` in pieces of at most `piece` bytes.
pub fn send_pattern(
    stream: &mut TcpStream,
    seed: u64,
    length: u64,
    piece: usize,
) -> io::Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; piece];
    while pattern.position() < length {
        let rest = length - pattern.position();
        let piece = &mut buffer[..piece.min(rest as usize)];
        pattern.fill(piece);
        stream.write_all(piece)?;
    }
    Ok(())
}
