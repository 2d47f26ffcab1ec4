//! Listening: connections in bounded number, heads of requests in bounded time, and a drain that lets
//! what is under way finish.
//!
//! `axum::serve` waits for ever for the head of a request and for a client that does not read, so the
//! loop over hyper is ours. Size and time of bodies are [`super::guard`]'s.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::Peer;
use super::problem::Problem;
use crate::config::HttpConfig;
pub use crate::config::is_loopback_host;

/// The largest head of a request, in bytes: its first line and its fields, each with its line end. More gets 431.
/// What the larger servers allow.
pub const MAX_HEAD: usize = 64 * 1024;
/// Header fields of one request.
pub const MAX_HEADERS: usize = 100;
/// A client that takes nothing of an answer for this long is cut off. Live streams send a sign of life
/// more often than this.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// The wait after an accept that failed because the machine is out of something.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the head of a request may take, from the first byte or from the end of the request before.
    pub header_timeout: Duration,
    /// Connections at one time; more wait in the backlog of the operating system.
    pub max_connections: usize,
    /// How long requests under way may take once the service is to stop.
    pub drain: Duration,
}

impl Limits {
    pub fn of(config: &HttpConfig, drain: Duration) -> Self {
        Self {
            header_timeout: Duration::from_millis(config.header_timeout),
            max_connections: config.max_connections,
            drain,
        }
    }
}

/// Takes the address.
///
/// # Errors
/// A sentence that says what to change: the port is taken, the address is not this machine's.
pub async fn listen(host: &str, port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind((host, port)).await.map_err(|e| {
        let next = match e.kind() {
            io::ErrorKind::AddrInUse => {
                "another program has it; stop that one, or set API_PORT (`http.port`) to another port"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need rights; set API_PORT (`http.port`) to a higher one"
            }
            _ => "set API_HOST (`http.host`) to an address of this machine, for example 127.0.0.1",
        };
        anyhow::anyhow!("cannot listen on {host}:{port} ({e}): {next}")
    })
}

/// Serves until `stop` fires and what is under way has ended, or its time is up. Returns how many
/// connections had to be cut off.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) -> usize {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            // Ended ones are taken off the list, so that it does not grow.
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => break,
        };
        let Some((stream, peer, place)) = accepted else { break };
        let watcher = graceful.watcher();
        let router = router.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(Peer(peer));
                let router = router.clone();
                async move {
                    // hyper's own bound is one of its buffer: it reads on while a head is not complete, so what
                    // comes in large pieces may be twice as long.
                    if head_size(&request) > MAX_HEAD {
                        return Ok(too_long_a_head());
                    }
                    router.oneshot(request.map(axum::body::Body::new) as Request).await
                }
            });
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(WRITE_TIMEOUT));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_timeout)
                .max_headers(MAX_HEADERS)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(Box::pin(stream)), service);
            // A client that broke off, or was too slow, is its own business.
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    let all_ended = async {
        graceful.shutdown().await;
        while connections.join_next().await.is_some() {}
    };
    match tokio::time::timeout(limits.drain, all_ended).await {
        Ok(()) => 0,
        Err(_) => connections.len(),
    }
}

/// The bytes of a head as it is usually written: one space in the first line twice, `: ` and a line end for each
/// field, and the empty line.
fn head_size<B>(request: &hyper::Request<B>) -> usize {
    const FIRST_LINE: usize = "  HTTP/1.1\r\n".len();
    let target = request.uri().path_and_query().map_or(1, |target| target.as_str().len());
    let authority = match (request.uri().scheme_str(), request.uri().authority()) {
        (Some(scheme), Some(authority)) => scheme.len() + "://".len() + authority.as_str().len(),
        (None, Some(authority)) => authority.as_str().len(),
        (_, None) => 0,
    };
    let fields: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    request.method().as_str().len() + target + authority + FIRST_LINE + fields + "\r\n".len()
}

fn too_long_a_head() -> Response {
    let detail =
        format!("The head of the request has more than {MAX_HEAD} bytes. Send less in the address and in fields.");
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    // What follows may be a body of any length.
    ([(header::CONNECTION, "close")], Problem::new(status, "head_too_large", detail)).into_response()
}

/// The next connection, once there is a place for it. `None` only if there never will be.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Small answers leave at once; a socket that does not know this still works.
                let _ = stream.set_nodelay(true);
                return Some((stream, peer, place));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// The address that a listener took, for links and logs.
///
/// # Errors
/// The operating system does not say.
pub fn address(listener: &TcpListener) -> anyhow::Result<SocketAddr> {
    listener.local_addr().context("the address that was taken is not known")
}
