//! The accept loops: HTTP/1.1, with TLS where it is configured, bounds on connections, headers and
//! slow clients, and an end that lets answers finish. `axum::serve` has none of these bounds.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::deadline::WriteDeadline;
use super::tls::Tls;
use crate::auth::network;

/// Connections at once; more wait in the backlog.
const MAX_CONNECTIONS: usize = 4096;
/// How many connections may wait to be accepted; the kernel allows at most `net.core.somaxconn`. Where
/// there is no room it drops the request for one, and that client tries again a second later.
const BACKLOG: u32 = 4096;
/// Connections of one address (an IPv6 /64 is one) at once, so that none takes all places; more are
/// closed.
const MAX_OF_ONE: usize = 1024;
/// How long a client may take over its headers, and how long a kept connection may be silent.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Request line and headers (hyper may read as much again before it looks), and how many headers; more
/// is answered by 431.
const MAX_HEADER_BYTES: usize = 32 << 10;
const MAX_HEADERS: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what waits to be sent may wait for a slow reader.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long answers may take to finish at the end.
const FINISH: Duration = Duration::from_secs(3);
/// The pause after a failed accept: without descriptors the next one fails at once too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket to accept on, and by which protocol.
pub struct Door {
    pub listener: TcpListener,
    pub tls: Option<Arc<Tls>>,
}

struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Tls>>,
    place: Place,
}

/// Listens on `addr`, also beside sessions of a server before that linger in TIME_WAIT.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` is done, then lets what is being answered finish.
pub async fn serve(doors: Vec<Door>, router: Router, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let places = Places::default();
    let (sender, mut accepted) = mpsc::channel(1);
    let mut accepting = JoinSet::new();
    for door in doors {
        accepting.spawn(accept_all(door, places.clone(), sender.clone()));
    }
    tokio::pin!(stop);
    loop {
        let connection = tokio::select! {
            Some(connection) = accepted.recv() => connection,
            () = &mut stop => break,
        };
        tokio::spawn(answer(connection, router.clone(), graceful.watcher()));
    }
    // Closes the sockets.
    drop(accepting);
    if tokio::time::timeout(FINISH, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some answers were not finished within {FINISH:?}");
    }
}

async fn accept_all(door: Door, places: Places, sender: mpsc::Sender<Accepted>) {
    loop {
        match accept(&door, &places).await {
            // Who does not take it has been told to stop.
            Ok(Some(accepted)) => _ = sender.send(accepted).await,
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The next connection, once there is a place for it; nothing where its address has enough.
async fn accept(door: &Door, places: &Places) -> io::Result<Option<Accepted>> {
    let permit = places.all.clone().acquire_owned().await;
    let permit = permit.expect("the semaphore is never closed");
    let (stream, peer) = door.listener.accept().await?;
    let place = places.take(peer.ip(), permit);
    Ok(place.map(|place| Accepted {
        stream,
        peer,
        tls: door.tls.clone(),
        place,
    }))
}

/// Answers one connection until it ends. How that comes about is the client's business.
async fn answer(accepted: Accepted, router: Router, watcher: Watcher) {
    let Accepted {
        stream,
        peer,
        tls,
        place,
    } = accepted;
    // An answer is small and waited for; where this fails, it is only slower.
    let _ = stream.set_nodelay(true);
    match tls {
        None => answer_http(stream, peer, router, watcher).await,
        Some(tls) => {
            let handshake = tls.acceptor().accept(stream);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => answer_http(stream, peer, router, watcher).await,
                Ok(Err(error)) => tracing::debug!("{peer}: TLS: {error}"),
                Err(_) => tracing::debug!("{peer}: no handshake within {HANDSHAKE_TIMEOUT:?}"),
            }
        }
    }
    drop(place);
}

async fn answer_http<S>(stream: S, peer: SocketAddr, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.map(axum::body::Body::new)
    });
    let stream = TokioIo::new(WriteDeadline::new(stream, WRITE_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(stream, TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("{peer}: {error}");
    }
}

/// Who holds connections.
#[derive(Clone)]
struct Places {
    all: Arc<Semaphore>,
    of_each: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection's place; free again when dropped.
struct Place {
    ip: IpAddr,
    of_each: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            all: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            of_each: Arc::default(),
        }
    }
}

impl Places {
    fn take(&self, ip: IpAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        let ip = network(ip);
        let mut of_each = self.of_each.lock().expect(UNPOISONED);
        let count = of_each.entry(ip).or_default();
        // Without a place it is closed, which tells more than a connection that is never answered.
        if *count >= MAX_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Place {
            ip,
            of_each: self.of_each.clone(),
            _permit: permit,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of_each = self.of_each.lock().expect(UNPOISONED);
        if let Some(count) = of_each.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                of_each.remove(&self.ip);
            }
        }
    }
}

const UNPOISONED: &str = "no holder of this lock panics: it only counts";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_never_takes_all_places_and_gives_its_own_back() {
        let places = Places::default();
        let take = |ip: &str| {
            let permit = places.all.clone().try_acquire_owned().expect("a place");
            places.take(ip.parse().expect("a literal"), permit)
        };
        for (greedy, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::2:3", "2001:db8:0:1::1"),
        ] {
            let mut held: Vec<Place> = (0..MAX_OF_ONE).map_while(|_| take(greedy)).collect();
            assert_eq!(held.len(), MAX_OF_ONE);
            assert!(take(same).is_none() && take(other).is_some());
            held.pop();
            assert!(take(same).is_some());
            drop(held);
            assert!(places.of_each.lock().expect("whole").is_empty());
            assert_eq!(places.all.available_permits(), MAX_CONNECTIONS);
        }
    }
}
