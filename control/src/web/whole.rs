//! When a request is complete, so that its connection is no longer closed for others: once its whole body has
//! arrived. A body that never arrives costs its client nothing, and must not hold a place.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bounds::Place;
use hyper::body::{Body, Frame, SizeHint};

/// A request's body that tells its connection's place when all of it has come.
pub struct Whole<B> {
    body: B,
    place: Arc<Place<IpAddr>>,
}

impl<B: Body> Whole<B> {
    pub fn new(body: B, place: Arc<Place<IpAddr>>) -> Whole<B> {
        let whole = Whole { body, place };
        // Most requests have none.
        whole.tell_end();
        whole
    }

    fn tell_end(&self) {
        if self.body.is_end_stream() {
            self.place.begin();
        }
    }
}

impl<B: Body + Unpin> Body for Whole<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            // Of one that comes in chunks the last is known by its end alone.
            None => self.place.begin(),
            Some(_) => self.tell_end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::Bytes;
    use bounds::{Crowd, PlaceBounds};
    use http_body_util::{BodyExt as _, Empty, Full};

    use super::*;

    /// After how many frames the connection of `body` is not closed for others any more.
    async fn frames_until_whole(
        body: impl Body<Data = Bytes, Error = Infallible> + Unpin,
    ) -> usize {
        let crowd = Crowd::new(PlaceBounds {
            all: 1,
            of_one: 1,
            unfinished: 1_000,
        });
        let place = crowd.enter([192, 0, 2, 1].into()).expect("room");
        let new = tokio::time::timeout(Duration::from_secs(1), place.closed());
        assert!(new.await.is_err(), "nobody else has come");
        assert!(crowd.has_room(), "it may be closed for another one");
        let mut body = Whole::new(body, place);
        let mut frames = 0;
        while crowd.has_room() {
            frames += 1;
            let frame = body.frame().await;
            assert!(frame.is_some() || !crowd.has_room(), "its end was missed");
        }
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_whole_when_its_body_has_come_and_not_before() {
        assert_eq!(frames_until_whole(Empty::new()).await, 0);
        assert_eq!(frames_until_whole(Full::from("of known length")).await, 1);
        assert_eq!(frames_until_whole(Chunks(2)).await, 3);
    }

    /// So many chunks, of which nobody knows beforehand.
    struct Chunks(usize);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or(0);
            Poll::Ready(left.map(|_| Ok(Frame::data(Bytes::from_static(b"chunk")))))
        }
    }
}
