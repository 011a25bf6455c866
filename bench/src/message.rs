//! What load and backend say to each other over TCP: one kind of message for every kind of work.
//!
//! A message is a header and filler. The header says how long the message is and how many bytes the
//! backend shall answer with, so that an exchange, an upload and a download are the same thing with
//! other numbers, and the backend needs to know nothing of what is measured. Every byte is
//! accounted for by the header: a proxy that loses or doubles one makes the next header unreadable.

/// Marks the start of a message; a stream that has slipped by a byte does not hold it.
const MARK: [u8; 4] = *b"wgb1";

/// Mark, message length and answer length, little endian.
pub const HEADER_BYTES: usize = 12;

/// Builds a message of `bytes` bytes (at least a header) that asks for `answer_bytes` in return.
pub fn message(bytes: u32, answer_bytes: u32) -> Vec<u8> {
    let mut message = vec![0x5a; (bytes as usize).max(HEADER_BYTES)];
    let length = message.len() as u32;
    message[..4].copy_from_slice(&MARK);
    message[4..8].copy_from_slice(&length.to_le_bytes());
    message[8..12].copy_from_slice(&answer_bytes.to_le_bytes());
    message
}

/// Reads the messages of one connection from whatever pieces they arrive in.
#[derive(Debug, Default)]
pub struct Reader {
    header: [u8; HEADER_BYTES],
    filled: usize,
    /// Of the message whose header is read: bytes to come, and the answer that is due then.
    body_left: u64,
    answer_bytes: u64,
}

/// The bytes are not a message: the stream has lost, doubled or changed some.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no message where one should begin")]
pub struct NotAMessage;

impl Reader {
    /// How many of the next bytes are filler, which nobody needs to look at.
    pub fn filler_ahead(&self) -> u64 {
        self.body_left
    }

    /// Takes `count` bytes of filler that were not looked at; returns the answer bytes now due.
    pub fn skip(&mut self, count: u64) -> u64 {
        debug_assert!(count <= self.body_left, "more than filler_ahead");
        self.body_left -= count;
        if count > 0 && self.body_left == 0 {
            std::mem::take(&mut self.answer_bytes)
        } else {
            0
        }
    }

    /// Takes the next bytes of the connection; returns the answer bytes that became due.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<u64, NotAMessage> {
        let mut due = 0;
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let skipped = self.body_left.min(bytes.len() as u64);
                due += self.skip(skipped);
                bytes = &bytes[skipped as usize..];
                continue;
            }
            let taken = (HEADER_BYTES - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEADER_BYTES {
                due += self.begin_body()?;
            }
        }
        Ok(due)
    }

    fn begin_body(&mut self) -> Result<u64, NotAMessage> {
        let number = |at: usize| {
            let bytes = self.header[at..at + 4].try_into();
            u64::from(u32::from_le_bytes(bytes.expect("four bytes")))
        };
        let (length, answer) = (number(4), number(8));
        if self.header[..4] != MARK || length < HEADER_BYTES as u64 {
            return Err(NotAMessage);
        }
        self.filled = 0;
        self.body_left = length - HEADER_BYTES as u64;
        if self.body_left == 0 {
            return Ok(answer);
        }
        self.answer_bytes = answer;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_from_any_pieces() {
        let lengths = [(12, 7), (64, 64), (13, 1), (300, 0), (64, 16_384)];
        let stream: Vec<u8> = lengths.iter().flat_map(|&(n, a)| message(n, a)).collect();
        let asked: u64 = lengths.iter().map(|&(_, answer)| u64::from(answer)).sum();
        for piece in 1..=stream.len() {
            let mut reader = Reader::default();
            let pieces = stream.chunks(piece);
            let due: u64 = pieces.map(|piece| reader.feed(piece).expect("right")).sum();
            assert_eq!(due, asked, "in pieces of {piece}");
            assert_eq!(reader.filler_ahead(), 0);
        }
    }

    #[test]
    fn an_answer_is_due_only_once_the_message_is_whole() {
        let mut reader = Reader::default();
        let bytes = message(100, 5);
        assert_eq!(reader.feed(&bytes[..99]), Ok(0));
        assert_eq!(reader.filler_ahead(), 1);
        assert_eq!(reader.skip(1), 5);
    }

    #[test]
    fn a_stream_that_slipped_by_a_byte_is_noticed() {
        let mut reader = Reader::default();
        let two: Vec<u8> = [message(64, 1), message(64, 1)].concat();
        let mut lost = two.clone();
        lost.remove(20);
        assert_eq!(reader.feed(&lost), Err(NotAMessage));
    }
}
