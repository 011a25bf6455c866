//! What travels on a connection: one job there, its answer back.

/// A job as its sender describes it: work in seconds of the model, then memory as a share of VRAM.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    pub work: f64,
    pub memory: f64,
}

/// A part of a streamed answer.
pub const PIECE: u8 = b'.';
/// The last byte of every answer: what closes without it has not been answered.
pub const END: u8 = b'!';

impl Request {
    pub const BYTES: usize = 16;

    pub fn to_bytes(self) -> [u8; Request::BYTES] {
        let mut bytes = [0; Request::BYTES];
        let (work, memory) = bytes.split_at_mut(8);
        work.copy_from_slice(&self.work.to_be_bytes());
        memory.copy_from_slice(&self.memory.to_be_bytes());
        bytes
    }

    /// `None` where that is no job: both must be finite and not negative.
    pub fn from_bytes(bytes: [u8; Request::BYTES]) -> Option<Request> {
        let both = u128::from_be_bytes(bytes);
        let request = Request {
            work: f64::from_bits((both >> 64) as u64),
            memory: f64::from_bits(both as u64),
        };
        let is_size = |size: f64| size.is_finite() && size >= 0.0;
        (is_size(request.work) && is_size(request.memory)).then_some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_arrives_as_it_was_sent_and_nonsense_is_none() {
        let request = Request {
            work: 1.25,
            memory: 0.03,
        };
        assert_eq!(Request::from_bytes(request.to_bytes()), Some(request));
        for (work, memory) in [(f64::NAN, 0.1), (1.0, -0.1), (f64::INFINITY, 0.0)] {
            let bytes = Request { work, memory }.to_bytes();
            assert_eq!(Request::from_bytes(bytes), None, "{work} {memory}");
        }
    }
}
