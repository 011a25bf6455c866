//! Random bytes that both ends of a connection can tell without talking: a stream named by a seed.

/// A position in the stream of a seed. Equal seeds give equal streams, however they are cut.
#[derive(Debug, Clone)]
pub struct Pattern {
    seed: u64,
    position: u64,
}

/// The first byte that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Counted from the start of the stream.
    pub at: u64,
}

const WORD: u64 = 8;

impl Pattern {
    pub fn new(seed: u64) -> Pattern {
        Pattern { seed, position: 0 }
    }

    /// The first `length` bytes of the stream of `seed`.
    pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        Pattern::new(seed).fill(&mut bytes);
        bytes
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes the next bytes of the stream.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let mut rest = buffer;
        while !rest.is_empty() {
            let word = self.word();
            let skip = (self.position % WORD) as usize;
            let count = rest.len().min(WORD as usize - skip);
            rest[..count].copy_from_slice(&word[skip..skip + count]);
            rest = &mut rest[count..];
            self.position += count as u64;
        }
    }

    /// Compares `bytes` with the next bytes of the stream.
    pub fn expect(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = self.word();
            let skip = (self.position % WORD) as usize;
            let count = rest.len().min(WORD as usize - skip);
            let right = &word[skip..skip + count];
            if rest[..count] != *right {
                let same = rest.iter().zip(right).take_while(|(a, b)| a == b).count();
                let at = self.position + same as u64;
                return Err(Mismatch { at });
            }
            rest = &rest[count..];
            self.position += count as u64;
        }
        Ok(())
    }

    fn word(&self) -> [u8; WORD as usize] {
        mix(mix(self.seed).wrapping_add(self.position / WORD)).to_le_bytes()
    }
}

/// The output function of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014), one step for each number.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A small seeded generator, for the choices of a test.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number from 0 up to, not including, `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(mix(self.0)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_however_it_is_cut() {
        let whole = Pattern::bytes(7, 1000);
        for cut in [1, 3, 8, 13, 64, 999] {
            let mut pattern = Pattern::new(7);
            let mut pieces = Vec::new();
            while pieces.len() < whole.len() {
                let mut piece = vec![0; cut.min(whole.len() - pieces.len())];
                pattern.fill(&mut piece);
                pieces.extend(piece);
            }
            assert!(pieces == whole, "cut into {cut}");
        }
    }

    #[test]
    fn one_changed_byte_is_found_where_it_is() {
        for at in [0, 5, 8, 500, 999] {
            let mut bytes = Pattern::bytes(9, 1000);
            bytes[at] ^= 1;
            let mut pattern = Pattern::new(9);
            pattern.expect(&[]).expect("nothing is right");
            let found = pattern.expect(&bytes);
            assert_eq!(found, Err(Mismatch { at: at as u64 }));
        }
    }

    #[test]
    fn seeds_give_different_streams() {
        assert_ne!(Pattern::bytes(1, 64), Pattern::bytes(2, 64));
    }
}
