//! Sessions of every shape: both ends know from one seed what is sent each way, in which pieces, who
//! stalls when, and whether it ends in order or by a reset; and each checks what reaches it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::client::connect;
use crate::pattern::{Pattern, Random, mix};

/// The seed of a session, which the client sends before its stream.
pub const SEED_BYTES: usize = 8;

/// Most streams are short.
const SHORT: u64 = 64 << 10;
/// One session in so many has streams of up to [`LONG_STREAM`].
const LONG_ONE_IN: u64 = 150;
const LONG_STREAM: u64 = 4 << 20;
/// One session in so many is reset, by either end.
const RESET_ONE_IN: u64 = 10;
/// One read in so many is late.
const STALL_ONE_IN: u64 = 200;
const STALL: Duration = Duration::from_millis(2);
/// Every second long stream is not read before the other end has sent what the network holds.
const LONG_STALL: Duration = Duration::from_millis(200);
/// Long streams change between large pieces and small ones, so that a proxy which moves streams in
/// another way than messages changes between both.
const LARGE_PIECE: u64 = 256 << 10;
const SMALL_PIECE: u64 = 1 << 10;
const SMALL_PIECES_IN_A_ROW: u64 = 40;

/// An end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Client,
    Backend,
}

/// What one end sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stream {
    seed: u64,
    length: u64,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    up: Stream,
    down: Stream,
    /// Who resets the session when its stream is written, if anybody does; else both close in order.
    reset_by: Option<End>,
}

impl Plan {
    fn of(seed: u64) -> Plan {
        let mut random = Random::new(mix(seed));
        let is_long = random.below(LONG_ONE_IN) == 0;
        let mut stream = |salt: u64| {
            // Of every order of magnitude as many as of any other, empty ones too.
            let most = if is_long { LONG_STREAM } else { SHORT };
            let bits = random.below(u64::from(most.ilog2()) + 1);
            let length = if is_long {
                most / 2 + random.below(most / 2)
            } else {
                random.below(1 << bits)
            };
            Stream {
                seed: seed.wrapping_mul(2).wrapping_add(salt),
                length,
            }
        };
        let (up, down) = (stream(0), stream(1));
        let reset_by = match random.below(RESET_ONE_IN * 2) {
            0 => Some(End::Client),
            1 => Some(End::Backend),
            _ => None,
        };
        Plan { up, down, reset_by }
    }

    /// What `end` sends and what it receives.
    fn of_end(&self, end: End) -> (Stream, Stream) {
        match end {
            End::Client => (self.up, self.down),
            End::Backend => (self.down, self.up),
        }
    }
}

/// Plays the client's end of the sessions of `seeds`, from so many clients at the same time. What
/// went otherwise than it should, each with the seed that replays it.
pub fn play_clients(addr: SocketAddr, seeds: Range<u64>, clients: usize) -> Vec<String> {
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Err(failure) = play_client(addr, seed) {
                        failures.lock().expect("no holder panics").push(failure);
                    }
                }
            });
        }
    });
    failures.into_inner().expect("no holder panics")
}

/// Plays the client's end of the session of `seed`.
///
/// # Errors
/// What went otherwise than it should, with the seed that replays it.
pub fn play_client(addr: SocketAddr, seed: u64) -> Result<(), String> {
    let played = connect(addr).and_then(|mut stream| {
        stream.write_all(&seed.to_le_bytes())?;
        play(stream, End::Client, seed)
    });
    played.map_err(|error| format!("seed {seed}, client: {error}"))
}

/// Plays the backend's end of a session.
///
/// # Errors
/// As those of [`play_client`].
pub fn play_backend(mut stream: TcpStream) -> Result<(), String> {
    let mut seed = [0; SEED_BYTES];
    match stream.read_exact(&mut seed) {
        Ok(()) => {}
        // The client may have reset before its seed was passed on.
        Err(error) if is_reset(&error) => return Ok(()),
        Err(error) => return Err(format!("a seed, backend: {error}")),
    }
    let seed = u64::from_le_bytes(seed);
    let played = stream
        .set_nodelay(true)
        .and_then(|()| play(stream, End::Backend, seed));
    played.map_err(|error| format!("seed {seed}, backend: {error}"))
}

fn play(mut stream: TcpStream, end: End, seed: u64) -> io::Result<()> {
    let plan = Plan::of(seed);
    let (sends, receives) = plan.of_end(end);
    if plan.reset_by == Some(end) {
        // The other end reads all the time, so this does not wait for ever.
        return send(&mut stream, sends)
            .and_then(|()| set_socket_linger(&stream, Some(Duration::ZERO)).map_err(Into::into));
    }
    let is_to_be_reset = plan.reset_by.is_some();
    let mut writer = stream.try_clone()?;
    let (sent, received) = std::thread::scope(|scope| {
        let sent = scope.spawn(move || {
            send(&mut writer, sends)?;
            writer.shutdown(Shutdown::Write)
        });
        let received = receive(&mut stream, receives);
        (sent.join().expect("the writer does not panic"), received)
    });
    if is_to_be_reset {
        return expect_reset(sent, received);
    }
    let length = received?;
    if length < receives.length {
        return Err(failure(format!("{length} of {} bytes", receives.length)));
    }
    sent
}

/// A socket tells of a reset once: to the write or to the read that asks first.
fn expect_reset(sent: io::Result<()>, received: io::Result<u64>) -> io::Result<()> {
    let check = |error: io::Error| is_reset(&error).then_some(()).ok_or(error);
    match (sent, received) {
        (_, Err(error)) => check(error),
        (Err(error), Ok(_)) => check(error),
        (Ok(()), Ok(length)) => Err(failure(format!(
            "an orderly close after {length} bytes, not a reset"
        ))),
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

fn failure(text: String) -> io::Error {
    io::Error::other(text)
}

fn send(stream: &mut TcpStream, what: Stream) -> io::Result<()> {
    let mut random = Random::new(what.seed);
    let mut pattern = Pattern::new(what.seed);
    let mut buffer = vec![0; LARGE_PIECE as usize];
    let mut small_left = 0;
    while pattern.position() < what.length {
        let most = if small_left > 0 {
            SMALL_PIECE
        } else {
            LARGE_PIECE
        };
        small_left = match small_left {
            0 if random.below(4) == 0 => SMALL_PIECES_IN_A_ROW,
            left => left.saturating_sub(1),
        };
        let rest = what.length - pattern.position();
        let piece = &mut buffer[..(1 + random.below(most)).min(rest) as usize];
        pattern.fill(piece);
        stream.write_all(piece)?;
        if small_left > 0 {
            // Others run, so that small pieces are also read as such.
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// Reads to the end in order; returns how many bytes came.
///
/// # Errors
/// The system's, or, of the kind `Other`, what came otherwise than it was sent.
fn receive(stream: &mut TcpStream, what: Stream) -> io::Result<u64> {
    let mut random = Random::new(!what.seed);
    let mut pattern = Pattern::new(what.seed);
    let mut buffer = vec![0; SHORT as usize];
    if what.length > SHORT && random.below(2) == 0 {
        std::thread::sleep(LONG_STALL);
    }
    loop {
        if random.below(STALL_ONE_IN) == 0 {
            std::thread::sleep(STALL);
        }
        let most = 1 + random.below(buffer.len() as u64) as usize;
        let length = match stream.read(&mut buffer[..most]) {
            Ok(0) => return Ok(pattern.position()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let right = pattern.expect(&buffer[..length]);
        right.map_err(|mismatch| failure(format!("byte {} is wrong", mismatch.at)))?;
        if pattern.position() > what.length {
            return Err(failure(format!(
                "{} bytes and more of {}",
                pattern.position(),
                what.length
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_among_the_first_seeds() {
        let plans: Vec<Plan> = (0..2_000).map(Plan::of).collect();
        let has = |shape: fn(&Plan) -> bool| plans.iter().any(shape);
        assert!(has(
            |plan| plan.up.length > SHORT && plan.down.length > SHORT
        ));
        assert!(has(|plan| plan.up.length == 0 && plan.reset_by.is_none()));
        assert!(has(|plan| plan.reset_by == Some(End::Client)));
        assert!(has(|plan| plan.reset_by == Some(End::Backend)));
        assert!(plans.iter().all(|plan| plan.up.seed != plan.down.seed));
    }
}
