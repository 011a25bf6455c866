//! Inputs by seed from a corpus: what a fuzzer does without looking at coverage, so that it needs no
//! nightly compiler.

use fastrand::Rng;

/// The longest input that is grown.
const LONGEST: usize = 64 << 10;
/// The most changes to one input.
const MOST_CHANGES: usize = 8;
/// Pieces that readers of JSON and of metrics trip over.
const PIECES: [&[u8]; 24] = [
    b"0",
    b"-1",
    b"1e999",
    b"-0.0",
    b"1.0",
    b"18446744073709551616",
    b"4294967296",
    b"null",
    b"true",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"\\u0000",
    b"\\ud800",
    b"\xff\xfe",
    b"\x00",
    b"\n",
    b"NaN",
    b"{\"\":[",
    b"::",
];

/// The input of `seed`, made from `corpus`, which is not empty.
pub fn input(corpus: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut random = Rng::with_seed(seed);
    let mut bytes = corpus[random.usize(0..corpus.len())].clone();
    for _ in 0..random.usize(1..=MOST_CHANGES) {
        change(&mut bytes, corpus, &mut random);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Rng) {
    let at = random.usize(0..=bytes.len());
    let end = at + random.usize(0..=(bytes.len() - at).min(32));
    match random.u8(0..7) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.u8(0..8);
            }
        }
        1 => bytes.insert(at, random.u8(..)),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let copy = bytes[at..end].to_vec();
            let to = random.usize(0..=bytes.len());
            bytes.splice(to..to, copy);
        }
        4 => {
            let piece = PIECES[random.usize(0..PIECES.len())];
            bytes.splice(at..end, piece.iter().copied());
        }
        5 => {
            let other = &corpus[random.usize(0..corpus.len())];
            let from = random.usize(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            // Numbers are where bounds are.
            let digit = bytes[at..].iter().position(u8::is_ascii_digit);
            if let Some(digit) = digit {
                bytes[at + digit] = b'0' + random.u8(0..10);
            }
        }
    }
}
