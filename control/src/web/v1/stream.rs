//! An answer that is written in pieces: the writer holds the sender, and waits if the client is slow.

use std::convert::Infallible;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Frame;
use tokio::sync::mpsc;

/// Pieces that wait for the client at most.
const QUEUE: usize = 4;

struct Pieces(mpsc::Receiver<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Where the pieces of an answer go.
pub struct Sender {
    queue: mpsc::Sender<Bytes>,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl Sender {
    /// Waits where the client is slow.
    ///
    /// # Errors
    /// The client has gone.
    pub async fn send(&mut self, piece: Bytes) -> Result<(), Gone> {
        let piece = match &mut self.gzip {
            Some(gzip) => flushed(gzip, &piece),
            None => piece,
        };
        self.queue.send(piece).await.map_err(|_| Gone)
    }

    /// Ends when the client has gone.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }
}

/// The client of a stream is no longer there.
#[derive(Debug)]
pub struct Gone;

/// A piece compressed so that the client can read all of it at once.
fn flushed(gzip: &mut GzEncoder<Vec<u8>>, piece: &[u8]) -> Bytes {
    let written = gzip.write_all(piece).and_then(|()| gzip.flush());
    written.expect("writing to memory does not fail");
    std::mem::take(gzip.get_mut()).into()
}

/// The answer, and where to write its body; it ends when the sender is dropped.
pub fn stream(content_type: &'static str) -> (Sender, Response) {
    let (queue, receiver) = mpsc::channel(QUEUE);
    let headers = [(header::CONTENT_TYPE, content_type)];
    let response = (headers, Body::new(Pieces(receiver))).into_response();
    (Sender { queue, gzip: None }, response)
}

/// The same, compressed piece by piece with gzip (RFC 1952).
pub fn gzip_stream(content_type: &'static str) -> (Sender, Response) {
    let (mut sender, mut response) = stream(content_type);
    // The fastest level: control has one thread.
    sender.gzip = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let encoding = HeaderValue::from_static("gzip");
    response
        .headers_mut()
        .insert(header::CONTENT_ENCODING, encoding);
    (sender, response)
}
