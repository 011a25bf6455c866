//! An answer that is written bit by bit: whoever writes holds the sender, and waits where the
//! client is slow.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Frame;
use tokio::sync::mpsc;

/// Pieces that wait for the client at most.
const QUEUE: usize = 4;

pub type Sender = mpsc::Sender<Bytes>;

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

/// The answer, and where to write its body; it ends when the sender is dropped.
pub fn stream(content_type: &'static str) -> (Sender, Response) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let headers = [(header::CONTENT_TYPE, content_type)];
    (
        sender,
        (headers, Body::new(Pieces(receiver))).into_response(),
    )
}
