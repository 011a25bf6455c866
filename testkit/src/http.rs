//! One HTTP/1.1 request on one connection, written by hand: the same over TCP and over a unix
//! socket, with any header, so that a test can also say what no well-behaved client would.
//!
//! It reads until the server closes, as asked by `Connection: close`, and knows no chunked bodies.

use std::io::{self, Read, Write};

/// The largest answer that is read.
const MAX_ANSWER: u64 = 64 << 20;

/// A request with every header that it will have, `Connection` and `Content-Length` aside.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the server's order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Request {
        Request {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    /// Sends it and reads the answer.
    pub fn exchange(&self, stream: &mut (impl Read + Write)) -> io::Result<Answer> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "Connection: close\r\n\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend(self.body.iter().flatten());
        // A server may refuse a body before it has read all of it: its answer is what counts.
        let written = stream.write_all(&bytes);
        let mut answer = Vec::new();
        match stream.take(MAX_ANSWER).read_to_end(&mut answer) {
            Err(error) if answer.is_empty() => return Err(written.err().unwrap_or(error)),
            Ok(_) | Err(_) => {}
        }
        parse(&answer)
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name)?;
        Some(&found.1)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn parse(bytes: &[u8]) -> io::Result<Answer> {
    let bad =
        |what: &str| io::Error::other(format!("{what}: {:?}", String::from_utf8_lossy(bytes)));
    const END: &[u8] = b"\r\n\r\n";
    let end = bytes.windows(END.len()).position(|window| window == END);
    let end = end.ok_or_else(|| bad("no end of the head"))?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| bad("a head that is no text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let answer = Answer {
        status: status.ok_or_else(|| bad("no status line"))?,
        headers,
        body: bytes[end + END.len()..].to_vec(),
    };
    if let Some(length) = answer.header("content-length") {
        let whole = length.parse() == Ok(answer.body.len());
        whole.then_some(()).ok_or_else(|| bad("a cut body"))?;
    }
    match answer.header("transfer-encoding") {
        Some(_) => Err(bad("a chunked body, which this client does not know")),
        None => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that has its answer ready.
    struct Ready {
        answer: io::Cursor<Vec<u8>>,
        asked: Vec<u8>,
    }

    impl Read for Ready {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.answer.read(buffer)
        }
    }

    impl Write for Ready {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ready(answer: &str) -> Ready {
        Ready {
            answer: io::Cursor::new(answer.into()),
            asked: Vec::new(),
        }
    }

    #[test]
    fn a_request_is_written_whole_and_its_answer_read() {
        let mut server = ready("HTTP/1.1 404 Not Found\r\nX-A: b \r\nContent-Length: 2\r\n\r\nhi");
        let request = Request::new("POST", "/x").header("Host", "h").body("abc");
        let answer = request.exchange(&mut server).expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (404, "hi"));
        assert_eq!(answer.header("x-a"), Some("b"));
        let asked =
            "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
        assert_eq!(String::from_utf8_lossy(&server.asked), asked);
    }

    #[test]
    fn a_cut_answer_is_told() {
        for cut in [
            "",
            "HTTP/1.1 200",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        ] {
            let exchanged = Request::new("GET", "/").exchange(&mut ready(cut));
            assert!(exchanged.is_err(), "{cut:?}");
        }
    }
}
