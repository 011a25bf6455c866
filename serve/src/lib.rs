//! How status and metrics are served: HTTP/1.1, one request a connection, and a bound on
//! connections and on the time that each may take. `axum::serve` has no such bounds: clients that
//! connect and send nothing would take all descriptors from the sessions.

use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use bounds::{Crowd, PlaceBounds};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tower::ServiceExt as _;

/// How long a client may take over its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(3);
/// Headers, and of an answer what waits to be sent.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// Limits on the clients of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; where all have sent a request, more wait in the accept queue.
    pub connections: usize,
    /// From the accept to the last byte of the answer.
    pub exchange: Duration,
}

/// Serves for as long as it is polled. Where connections run short, one that has not yet sent its
/// request makes room for the next.
pub async fn serve<L: Listener>(mut listener: L, routes: Router, bounds: Bounds) {
    let crowd = Crowd::new(PlaceBounds {
        all: bounds.connections,
        of_one: bounds.connections,
        unfinished: bounds.connections * MAX_BUFFER_BYTES,
    });
    loop {
        crowd.room().await;
        // Waits by itself where descriptors are short.
        let (stream, _) = listener.accept().await;
        let place = loop {
            match crowd.enter(()) {
                Some(place) => break place,
                // The connection that could have been closed for it has sent a request meanwhile.
                None => crowd.room().await,
            }
        };
        let routes = routes.clone();
        let asked = place.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            // All headers have come. It is the connection's only request.
            asked.begin();
            routes.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_BUFFER_BYTES)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // How a client's connection ends is the client's business.
            tokio::select! {
                biased;
                () = place.closed() => {}
                _ = tokio::time::timeout(bounds.exchange, connection) => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Semaphore;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    #[tokio::test]
    async fn the_last_that_could_be_closed_may_send_its_request_before_the_next_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let addr = listener.local_addr().expect("an address");
        let gate = Arc::new(Semaphore::new(0));
        let asked = Arc::new(Semaphore::new(0));
        let (held, told) = (gate.clone(), asked.clone());
        let routes = Router::new().route(
            "/",
            get(async move || {
                told.add_permits(1);
                held.acquire().await.expect("open").forget();
                "answer"
            }),
        );
        let bounds = Bounds {
            connections: 2,
            exchange: Duration::from_secs(60),
        };
        let server = tokio::spawn(serve(listener, routes, bounds));
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(TcpStream::connect(addr).await.expect("connected"));
        }
        clients[0].write_all(REQUEST).await.expect("sent");
        // By then the other one could be closed for the next, for which the server waits.
        tokio::time::sleep(Duration::from_millis(300)).await;
        clients[1].write_all(REQUEST).await.expect("sent");
        let both = asked.acquire_many(2).await.expect("open");
        clients.push(TcpStream::connect(addr).await.expect("connected"));
        clients[2].write_all(REQUEST).await.expect("sent");
        both.forget();
        gate.add_permits(3);
        for client in &mut clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("read");
            assert!(answer.ends_with("answer"), "{answer}");
        }
        server.abort();
    }
}
