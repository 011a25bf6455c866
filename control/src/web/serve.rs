//! The accept loops: HTTP/1.1, with TLS where it is configured, bounds on connections, headers and
//! slow clients, and an end that lets answers finish. `axum::serve` has none of these bounds.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bounds::PlaceBounds;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::deadline::WriteDeadline;
use super::ear::{Ear, Patience};
use super::tls::Tls;
use super::whole::Whole;
use crate::auth::network;
use crate::clock::Clock;

type Crowd = bounds::Crowd<IpAddr>;
type Place = bounds::Place<IpAddr>;

/// The most connections of all clients together, and of one: an address, or an IPv6 /64.
const MOST_CONNECTIONS: u64 = 4096;
const MOST_OF_ONE: usize = 1024;
/// Descriptors that connections leave to files, to the proxy's socket and to pings.
const KEPT_DESCRIPTORS: u64 = 64;
/// Connections that there may be even so.
const LEAST_CONNECTIONS: u64 = 16;
/// Bytes of requests that are not whole. A request has some hundred bytes of headers.
const MOST_UNFINISHED: usize = 4 << 20;
/// How many connections may wait to be accepted; the kernel allows at most `net.core.somaxconn`. Where
/// there is no room it drops the request for one, and that client tries again a second later.
const BACKLOG: u32 = 4096;
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
/// How often it is asked whether TTLs are to run again, while there is no place for another connection.
const FULL_LOOK: Duration = Duration::from_secs(1);

/// A socket to accept on, and by which protocol.
pub struct Door {
    pub listener: TcpListener,
    pub tls: Option<Arc<Tls>>,
}

struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Tls>>,
    place: Arc<Place>,
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

/// What clients may take of what this process has. Where there is no room, a new connection has the
/// place of one that has not yet sent a request, or else that waits for its next one.
fn bounds_within(descriptors: u64) -> PlaceBounds {
    let left = descriptors.saturating_sub(KEPT_DESCRIPTORS);
    let all = left.clamp(LEAST_CONNECTIONS, MOST_CONNECTIONS) as usize;
    PlaceBounds {
        all,
        of_one: all.min(MOST_OF_ONE),
        unfinished: MOST_UNFINISHED,
    }
}

/// Serves until `stop` is done, then lets what is being answered finish.
pub async fn serve(doors: Vec<Door>, router: Router, clock: Clock, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let limit = getrlimit(Resource::Nofile).current;
    let crowd = Crowd::new(bounds_within(limit.unwrap_or(u64::MAX)));
    let (sender, mut accepted) = mpsc::channel(1);
    let patience = Patience::default();
    let mut accepting = JoinSet::new();
    for door in doors {
        let ear = Ear::new(clock.clone(), patience.clone());
        accepting.spawn(accept_all(door, crowd.clone(), ear, sender.clone()));
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
        tracing::warn!("stopping although some answers were not sent within {FINISH:?}");
    }
}

async fn accept_all(door: Door, crowd: Crowd, mut ear: Ear, sender: mpsc::Sender<Accepted>) {
    loop {
        match accept(&door, &crowd, &mut ear).await {
            // If the receiver does not take it, the server is stopping.
            Ok(Some(accepted)) => _ = sender.send(accepted).await,
            Ok(None) => {}
            Err(error) => {
                ear.fail(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The next connection, once there is a place for it; nothing where its address has enough.
async fn accept(door: &Door, crowd: &Crowd, ear: &mut Ear) -> io::Result<Option<Accepted>> {
    if !crowd.has_room() {
        // Those that have just come are read soon.
        let _ = tokio::time::timeout(ACCEPT_PAUSE, crowd.room()).await;
    }
    while !crowd.has_room() {
        ear.is_full();
        let _ = tokio::time::timeout(FULL_LOOK, crowd.room()).await;
    }
    let (stream, peer) = poll_fn(|context| {
        let polled = door.listener.poll_accept(context);
        match &polled {
            Poll::Ready(Ok(_)) => ear.took(),
            // The task may only have had its share of the thread.
            Poll::Pending if tokio::task::coop::has_budget_remaining() => ear.took_all(),
            Poll::Pending | Poll::Ready(Err(_)) => {}
        }
        polled
    })
    .await?;
    // Without a place it is closed, which tells more than a connection that is never answered.
    let place = crowd.enter(network(peer.ip()));
    Ok(place.map(|place| Accepted {
        stream,
        peer,
        tls: door.tls.clone(),
        place,
    }))
}

/// Answers one connection until it ends, or until others need its place. How that comes about is the
/// client's business.
async fn answer(accepted: Accepted, router: Router, watcher: Watcher) {
    let (place, peer) = (accepted.place.clone(), accepted.peer);
    tokio::select! {
        biased;
        () = place.closed() => tracing::debug!("{peer}: connection closed to make room"),
        () = answer_all(accepted, router, watcher) => {}
    }
}

async fn answer_all(accepted: Accepted, router: Router, watcher: Watcher) {
    let Accepted {
        stream,
        peer,
        tls,
        place,
    } = accepted;
    // An answer is small and waited for; where this fails, it is only slower.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return answer_http(stream, peer, place, router, watcher).await;
    };
    let handshake = tls.acceptor().accept(stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => answer_http(stream, peer, place, router, watcher).await,
        Ok(Err(error)) => tracing::debug!("{peer}: TLS: {error}"),
        Err(_) => tracing::debug!("{peer}: no handshake within {HANDSHAKE_TIMEOUT:?}"),
    }
}

async fn answer_http<S>(
    stream: S,
    peer: SocketAddr,
    place: Arc<Place>,
    router: Router,
    watcher: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(WriteDeadline::new(stream, WRITE_TIMEOUT, place.clone()));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let place = place.clone();
        request.extensions_mut().insert(ConnectInfo(peer));
        let request = request.map(|body| Body::new(Whole::new(body, place.clone())));
        let answer = router.clone().oneshot(request);
        async move {
            let response = answer.await?;
            // What has its answer without its body is as good as whole.
            place.begin();
            let answering = Answering(place);
            // Over when the body is dropped, all of it handed over.
            Ok::<_, Infallible>(response.map(|body| {
                body.map_frame(move |frame| {
                    let _ = &answering;
                    frame
                })
            }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(stream, service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("{peer}: {error}");
    }
}

/// As long as it lives, a request is being answered.
struct Answering(Arc<Place>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answered();
    }
}
