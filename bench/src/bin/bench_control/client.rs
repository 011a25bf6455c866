//! A connection to control that is kept: one request after the other.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

pub struct Client {
    addr: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Client {
    /// # Errors
    /// Whatever keeps it from connecting.
    pub fn connect(addr: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        let stream = BufReader::new(stream);
        Ok(Client { addr, stream })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// A broken connection, a status other than 200, or an answer that is no JSON.
    pub fn call(&mut self, method: &str, path: &str, body: &Value) -> io::Result<Value> {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        );
        self.stream.get_mut().write_all((head + &body).as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Value> {
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        let mut length = None;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
        let length: usize = length.ok_or_else(|| io::Error::other("an answer without length"))?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        if !status.contains(" 200 ") {
            let body = String::from_utf8_lossy(&body);
            return Err(io::Error::other(format!("{}: {body}", status.trim())));
        }
        Ok(serde_json::from_slice(&body)?)
    }
}
