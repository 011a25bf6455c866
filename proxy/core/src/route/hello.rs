//! The TLS ClientHello at the beginning of a session, as far as routes ask: the server name and the protocols that
//! the client offers.
//!
//! Formats: records and the ClientHello are those of RFC 8446 (sections 5.1 and 4.1.2), which all versions since TLS 1.0
//! share; the server name is that of RFC 6066, section 3; the protocols are those of RFC 7301, section 3.1. The
//! ClientHello is read in clear text, whether or not it carries an encrypted one (ECH): the name is then that of
//! the outer one. Nothing is decrypted and nothing is answered.
//!
//! A ClientHello may span several TCP segments and several records. With the key share of a post-quantum group it
//! always does the former.

use std::borrow::Cow;

/// The longest ClientHello, with the header of its message.
pub const MAX_HELLO: usize = 16 << 10;
/// The most bytes that are looked at: a ClientHello and the headers of the records that it is cut into.
pub const MAX_PREFACE: usize = 2 * MAX_HELLO;

const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
/// Bytes of a record (RFC 8446, section 5.1).
const MAX_RECORD: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const ALPN: u16 = 16;

/// What a ClientHello says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The server name as sent, in any case, without a dot at its end.
    pub server_name: Option<&'a [u8]>,
    /// The list of ALPN as sent, each name after its length; empty where there is none.
    pub(super) alpn: &'a [u8],
}

/// What the first bytes of a session are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<'a> {
    /// The beginning of what may be a ClientHello; nothing is decided before there are `at_least` bytes.
    Part {
        /// From the first one on, at most [`MAX_PREFACE`].
        at_least: usize,
    },
    /// A whole message; [`Hello::read`] reads it.
    Message(Cow<'a, [u8]>),
    /// Something else, or a ClientHello that is too long.
    NotTls,
}

/// Finds the ClientHello in the first bytes of a session.
pub fn find(bytes: &[u8]) -> Found<'_> {
    match gather(&bytes[..bytes.len().min(MAX_PREFACE)]) {
        Ok(message) => Found::Message(message),
        Err(Some(at_least)) if at_least <= MAX_PREFACE => Found::Part { at_least },
        Err(_) => Found::NotTls,
    }
}

/// The message that the records carry; `Err`: how many bytes are needed, or nothing if they are no ClientHello.
fn gather(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Option<usize>> {
    let first = record(bytes, 0)?;
    let mut message = Cow::Borrowed(first);
    let mut end = RECORD_HEADER + first.len();
    loop {
        let length = message_length(&message)?;
        if let Some(length) = length.filter(|length| *length <= message.len()) {
            return Ok(match message {
                Cow::Borrowed(message) => Cow::Borrowed(&message[..length]),
                Cow::Owned(mut message) => {
                    message.truncate(length);
                    Cow::Owned(message)
                }
            });
        }
        let next = record(bytes, end)?;
        end += RECORD_HEADER + next.len();
        message.to_mut().extend_from_slice(next);
    }
}

/// What the record that begins at `start` carries.
fn record(bytes: &[u8], start: usize) -> Result<&[u8], Option<usize>> {
    let rest = bytes.get(start..).unwrap_or_default();
    let looks_right = rest.first().is_none_or(|kind| *kind == HANDSHAKE)
        && rest.get(1).is_none_or(|version| *version == 3);
    if !looks_right {
        return Err(None);
    }
    let header = rest
        .get(..RECORD_HEADER)
        .ok_or(Some(start + RECORD_HEADER))?;
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    // An empty record of a handshake is forbidden, and would let a client send headers for ever.
    if !(1..=MAX_RECORD).contains(&length) {
        return Err(None);
    }
    let end = RECORD_HEADER + length;
    match rest.get(RECORD_HEADER..end) {
        Some(carried) => Ok(carried),
        // What there is of it may be something else.
        None => match rest
            .get(RECORD_HEADER)
            .is_none_or(|kind| start > 0 || *kind == CLIENT_HELLO)
        {
            true => Err(Some(start + end)),
            false => Err(None),
        },
    }
}

/// The length of the message with its header; `None`: its header is not whole yet.
fn message_length(message: &[u8]) -> Result<Option<usize>, Option<usize>> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(None);
    }
    let Some(header) = message.get(..MESSAGE_HEADER) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    let length = MESSAGE_HEADER + length;
    match length <= MAX_HELLO {
        true => Ok(Some(length)),
        false => Err(None),
    }
}

impl<'a> Hello<'a> {
    /// Reads a message of [`Found::Message`]; `None` where its lengths contradict each other.
    pub fn read(message: &'a [u8]) -> Option<Hello<'a>> {
        let mut body = Reader(message.get(MESSAGE_HEADER..)?);
        // Version and random.
        body.take(2 + 32)?;
        let session_id = body.take_u8()?;
        body.take(session_id.into())?;
        let cipher_suites = body.take_u16()?;
        body.take(cipher_suites.into())?;
        let compression_methods = body.take_u8()?;
        body.take(compression_methods.into())?;
        let mut hello = Hello {
            server_name: None,
            alpn: &[],
        };
        // Before TLS 1.3 a client may leave out all extensions.
        if body.0.is_empty() {
            return Some(hello);
        }
        let mut extensions = body.take_list()?;
        while !extensions.0.is_empty() {
            let kind = extensions.take_u16()?;
            let mut extension = extensions.take_list()?;
            match kind {
                SERVER_NAME => hello.server_name = read_server_name(&mut extension)?,
                ALPN => hello.alpn = read_alpn(&mut extension)?,
                _ => {}
            }
        }
        body.0.is_empty().then_some(hello)
    }

    /// The protocols that the client offers, the most wanted first.
    pub fn protocols(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = Reader(self.alpn);
        std::iter::from_fn(move || {
            let length = rest.take_u8()?;
            rest.take(length.into())
        })
    }
}

/// The first host name of the list.
fn read_server_name<'a>(extension: &mut Reader<'a>) -> Option<Option<&'a [u8]>> {
    let mut names = extension.take_list()?;
    while !names.0.is_empty() {
        let kind = names.take_u8()?;
        let name = names.take_list()?.0;
        if kind == HOST_NAME {
            return Some(Some(name.strip_suffix(b".").unwrap_or(name)));
        }
    }
    Some(None)
}

/// The list, in which every length is right.
fn read_alpn<'a>(extension: &mut Reader<'a>) -> Option<&'a [u8]> {
    let list = extension.take_list()?.0;
    let mut rest = Reader(list);
    while !rest.0.is_empty() {
        let length = rest.take_u8()?;
        rest.take(length.into())?;
    }
    Some(list)
}

/// Bytes that have yet to be read. What would go beyond them is `None`.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn take_u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn take_u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A list after its length in two bytes.
    fn take_list(&mut self) -> Option<Reader<'a>> {
        let length = self.take_u16()?;
        self.take(length.into()).map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(items: &[u8]) -> Vec<u8> {
        [&(items.len() as u16).to_be_bytes(), items].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes(), &*list(content)].concat()
    }

    /// A ClientHello with these extensions and so many bytes of another one.
    fn message(extensions: &[Vec<u8>], filler: usize) -> Vec<u8> {
        let filler = extension(21, &vec![0; filler]);
        let extensions = [extensions.concat(), filler].concat();
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[0],
            &list(&[0x13, 0x01]),
            &[1, 0],
            &list(&extensions),
        ]
        .concat();
        let length = (body.len() as u32).to_be_bytes();
        [&[CLIENT_HELLO], &length[1..], &body].concat()
    }

    fn named(name: &[u8]) -> Vec<u8> {
        extension(SERVER_NAME, &list(&[&[HOST_NAME], &*list(name)].concat()))
    }

    fn alpn(names: &[&[u8]]) -> Vec<u8> {
        let names: Vec<Vec<u8>> = names
            .iter()
            .map(|name| [&[name.len() as u8], *name].concat())
            .collect();
        extension(ALPN, &list(&names.concat()))
    }

    /// The message in records of these lengths, the last one as often as needed.
    fn records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
        let mut rest = message;
        let mut lengths = lengths.iter().copied();
        let mut last = 1;
        let mut bytes = Vec::new();
        while !rest.is_empty() {
            last = lengths.next().unwrap_or(last);
            let (carried, after) = rest.split_at(last.min(rest.len()));
            bytes.extend([&[HANDSHAKE, 3, 1], &*list(carried)].concat());
            rest = after;
        }
        bytes
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Read {
        Part(usize),
        Hello(Option<Vec<u8>>, Vec<Vec<u8>>),
        NotTls,
    }

    fn read(bytes: &[u8]) -> Read {
        match find(bytes) {
            Found::Part { at_least } => Read::Part(at_least),
            Found::NotTls => Read::NotTls,
            Found::Message(message) => match Hello::read(&message) {
                None => Read::NotTls,
                Some(hello) => Read::Hello(
                    hello.server_name.map(<[u8]>::to_vec),
                    hello.protocols().map(<[u8]>::to_vec).collect(),
                ),
            },
        }
    }

    fn right(name: &str, protocols: &[&str]) -> Read {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let name = (!name.is_empty()).then(|| bytes(name));
        Read::Hello(name, protocols.iter().map(|one| bytes(one)).collect())
    }

    proptest! {
        #[test]
        fn a_hello_is_read_however_it_is_cut_and_never_before_it_is_whole(
            lengths in proptest::collection::vec(prop_oneof![1_usize..10, 1_usize..2_000], 1..20),
            filler in 0_usize..4_000,
            more in proptest::collection::vec(0_u8.., 0..40),
        ) {
            let message = message(&[named(b"a.example"), alpn(&[b"h2", b"http/1.1"])], filler);
            let whole = records(&message, &lengths);
            prop_assume!(whole.len() <= MAX_PREFACE);
            let mut needed = 0;
            for end in 0..whole.len() {
                let Read::Part(at_least) = read(&whole[..end]) else {
                    return Err(TestCaseError::fail(format!("decided at {end} of {}", whole.len())));
                };
                prop_assert!(at_least > end && at_least <= whole.len());
                prop_assert!(at_least >= needed);
                needed = at_least;
            }
            let found = right("a.example", &["h2", "http/1.1"]);
            prop_assert_eq!(&read(&whole), &found);
            prop_assert_eq!(&read(&[whole, more].concat()), &found);
        }

        #[test]
        fn no_bytes_panic_or_ask_for_more_than_the_bound(
            start in prop_oneof![Just(vec![]), Just(vec![HANDSHAKE, 3, 1]), Just(vec![HANDSHAKE, 3, 1, 0, 60, 1, 0, 0, 56])],
            rest in proptest::collection::vec(0_u8.., 0..300),
        ) {
            let bytes = [start, rest].concat();
            if let Read::Part(at_least) = read(&bytes) {
                prop_assert!(at_least > bytes.len() && at_least <= MAX_PREFACE);
            }
        }

        #[test]
        fn lengths_that_lie_are_found_out(at in 0_usize..200, value in 0_u8..) {
            let mut bytes = records(&message(&[named(b"a.example"), alpn(&[b"h2"])], 100), &[16_000]);
            let at = at % bytes.len();
            bytes[at] = value;
            if let Read::Hello(name, protocols) = read(&bytes) {
                prop_assert!(name.is_none_or(|name| name.len() <= 20));
                prop_assert!(protocols.len() <= 2);
            }
        }
    }

    #[test]
    fn what_is_no_hello_is_known_by_its_first_bytes() {
        let hello = message(&[named(b"a.example")], 0);
        let one_record = |message: &[u8]| records(message, &[16_000]);
        let cases: [(&str, &[u8]); 7] = [
            ("HTTP", b"G"),
            ("SSH", b"SSH-2.0-OpenSSH"),
            ("SSL 2", &[0x80, 0x2e, 1, 3, 1]),
            ("another record", &[23, 3, 3]),
            ("another version", &[HANDSHAKE, 2]),
            ("an empty record", &[HANDSHAKE, 3, 1, 0, 0]),
            ("another message", &[HANDSHAKE, 3, 1, 0, 50, 2]),
        ];
        for (what, bytes) in cases {
            assert_eq!(read(bytes), Read::NotTls, "{what}");
        }
        let mut other_in_between = records(&hello, &[20]);
        other_in_between[25] = 21;
        assert_eq!(read(&other_in_between), Read::NotTls);
        let long = [&[CLIENT_HELLO, 0, 0x40, 0], &*vec![0; 100]].concat();
        assert_eq!(read(&one_record(&long)), Read::NotTls, "longer than 16 KiB");
        let longest = message(&[named(b"a.example")], MAX_HELLO - hello.len() - 4 + 4);
        assert_eq!(longest.len(), MAX_HELLO);
        assert_eq!(read(&records(&longest, &[8_000])), right("a.example", &[]));
        assert_eq!(
            read(&records(&longest, &[1])),
            Read::NotTls,
            "a record for each byte"
        );
    }

    #[test]
    fn a_hello_may_say_nothing_and_odd_names_are_what_they_are() {
        let of = |extensions: &[Vec<u8>]| read(&records(&message(extensions, 3), &[50]));
        assert_eq!(of(&[]), right("", &[]));
        assert_eq!(of(&[named(b"A.example.")]), right("A.example", &[]));
        assert_eq!(of(&[named(b"")]), Read::Hello(Some(vec![]), vec![]));
        assert_eq!(
            of(&[named(b"\xff\0")]),
            Read::Hello(Some(b"\xff\0".to_vec()), vec![])
        );
        assert_eq!(of(&[extension(ALPN, &list(&[9, b'h']))]), Read::NotTls);
        assert_eq!(of(&[extension(SERVER_NAME, &[0, 1])]), Read::NotTls);
        let without_extensions =
            [&[3, 3][..], &[7; 32], &[0], &list(&[0x13, 0x01]), &[1, 0]].concat();
        let length = (without_extensions.len() as u32).to_be_bytes();
        let message = [&[CLIENT_HELLO], &length[1..], &*without_extensions].concat();
        assert_eq!(read(&records(&message, &[50])), right("", &[]));
    }
}
