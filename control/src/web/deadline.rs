//! A bound on slow readers: everything that waits to be sent must be taken within a time limit, or the
//! connection ends. An event stream may last; the limit applies to each piece of it.

use std::future::Future as _;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bounds::Place;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

pub struct WriteDeadline<S> {
    stream: S,
    /// The place of this connection, which is notified of received and sent bytes.
    place: Arc<Place<IpAddr>>,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// Something could not be written at once, and not all has been written since.
    is_late: bool,
}

impl<S> WriteDeadline<S> {
    pub fn new(stream: S, limit: Duration, place: Arc<Place<IpAddr>>) -> WriteDeadline<S> {
        WriteDeadline {
            stream,
            place,
            limit,
            timer: Box::pin(sleep(limit)),
            is_late: false,
        }
    }

    /// What a write that has to wait comes to.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if !self.is_late {
            self.is_late = true;
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        ready!(self.timer.as_mut().poll(context));
        let limit = self.limit;
        let message = format!("the client did not take its answer within {limit:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.place.read(buffer.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.wait(context),
            written => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, slices) {
            Poll::Pending => self.wait(context),
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has nothing more to write: the client is not late any more.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.wait(context),
            flushed => {
                self.is_late = false;
                self.place.flushed();
                flushed
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => self.wait(context),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const LIMIT: Duration = Duration::from_secs(60);

    fn place() -> Arc<Place<IpAddr>> {
        let bounds = bounds::PlaceBounds {
            all: 1,
            of_one: 1,
            unfinished: 1,
        };
        let crowd = bounds::Crowd::new(bounds);
        crowd.enter([192, 0, 2, 1].into()).expect("room")
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_or_a_little_at_a_time_is_given_up() {
        for bytes_a_second in [0, 1] {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut ours = WriteDeadline::new(ours, LIMIT, place());
            let reader = tokio::spawn(async move {
                let mut buffer = vec![0; bytes_a_second];
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if bytes_a_second > 0 && theirs.read(&mut buffer).await.is_err() {
                        return;
                    }
                }
            });
            let began = Instant::now();
            let written = tokio::time::timeout(2 * LIMIT, ours.write_all(&[7; 1000])).await;
            let error = written.expect("in time").expect_err("given up");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(began.elapsed(), LIMIT);
            reader.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_keeps_up_stays_however_long_it_takes() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = WriteDeadline::new(ours, LIMIT, place());
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 50];
            while theirs.read_exact(&mut buffer).await.is_ok() {
                tokio::time::sleep(LIMIT / 3).await;
            }
        });
        for _ in 0..20 {
            ours.write_all(&[7; 100]).await.expect("taken");
            ours.flush().await.expect("flushed");
        }
        drop(ours);
        reader.await.expect("ended");
    }
}
