//! The accept loop of admin socket and metrics: HTTP/1.1, one request a connection, and a bound on
//! connections and on the time that each may take. `axum::serve` has none of these, and clients that
//! connect and say nothing would take every descriptor from the sessions.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

/// How long a client may take over its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(3);

/// What the clients of one listener may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; more wait in the accept queue.
    pub connections: usize,
    /// From the accept to the last byte of the answer.
    pub exchange: Duration,
}

/// Serves for as long as it is polled.
pub async fn serve<L: Listener>(mut listener: L, routes: Router, bounds: Bounds) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        // Waits by itself where descriptors are short.
        let (stream, _) = listener.accept().await;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .keep_alive(false)
            .serve_connection(
                TokioIo::new(stream),
                TowerToHyperService::new(routes.clone()),
            );
        tokio::spawn(async move {
            // How a client's connection ends is the client's business.
            let _ = tokio::time::timeout(bounds.exchange, connection).await;
            drop(place);
        });
    }
}
