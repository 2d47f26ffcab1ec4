//! Listening, against real sockets: what slow clients, full houses and a stop lead to.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use twelve::http::Peer;
use twelve::http::serve::{Limits, MAX_HEAD, MAX_HEADERS, is_loopback_host, listen, serve};

struct Served {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    cut_off: JoinHandle<usize>,
}

const LIMITS: Limits =
    Limits { header_timeout: Duration::from_millis(200), max_connections: 2, drain: Duration::from_secs(20) };

async fn start(router: Router, limits: Limits) -> Served {
    let listener = listen("127.0.0.1", 0).await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let cut_off = tokio::spawn(serve(listener, router, limits, stop.clone()));
    Served { address, stop, cut_off }
}

async fn send(address: std::net::SocketAddr, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// Everything until the other side closes.
async fn read(mut stream: TcpStream) -> String {
    let mut text = String::new();
    // A reset says the same as an end.
    let _ = stream.read_to_string(&mut text).await;
    text
}

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn hello() -> Router {
    let who =
        |request: axum::extract::Request| async move { request.extensions().get::<Peer>().unwrap().0.to_string() };
    Router::new().route("/", get(who))
}

#[tokio::test]
async fn a_request_knows_the_other_end_of_its_connection() {
    let served = start(hello(), LIMITS).await;
    let stream = send(served.address, GET).await;
    let me = stream.local_addr().unwrap().to_string();
    let answer = read(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&me), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_head_is_cut_off() {
    let served = start(hello(), LIMITS).await;
    let stream = send(served.address, "GET / HTTP/1.1\r\nHost: local").await;
    // It ends by itself: reading to the end would hang otherwise.
    assert!(!read(stream).await.contains("200 OK"));
}

#[tokio::test]
async fn a_head_with_too_many_fields_is_refused() {
    let served = start(hello(), LIMITS).await;
    let fields: String = (0..150).map(|n| format!("x-{n}: y\r\n")).collect();
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let stream = send(served.address, &head).await;
    assert!(read(stream).await.starts_with("HTTP/1.1 431"));
}

/// A head of exactly this many bytes, with this many fields.
fn head_of(size: usize, fields: usize, first_line: &str) -> String {
    let mut head = format!("{first_line}\r\nHost: localhost\r\nConnection: close\r\n");
    for n in 3..fields {
        head += &format!("x-{n}: y\r\n");
    }
    let rest = size - head.len() - "x: \r\n\r\n".len();
    head += &format!("x: {}\r\n\r\n", "y".repeat(rest));
    assert_eq!((head.len(), head.matches("\r\n").count()), (size, fields + 2));
    head
}

#[tokio::test]
async fn the_bounds_of_a_head_are_exactly_those_that_are_documented() {
    let docs = include_str!("../../docs/service.md");
    assert_eq!((MAX_HEAD, MAX_HEADERS), (64 << 10, 100));
    assert!(docs.contains("| | 64 KiB (first line and fields), 100 fields | 431 |"));
    let long = format!("GET /?{} HTTP/1.1", "q".repeat(40_000));
    for (size, fields, first_line, status) in [
        (MAX_HEAD, 10, "GET / HTTP/1.1", "200"),
        (MAX_HEAD + 1, 10, "GET / HTTP/1.1", "431"),
        (MAX_HEAD, 10, &long, "200"),
        (MAX_HEAD + 1, 10, &long, "431"),
        (MAX_HEAD + 100, 10, "GET / HTTP/1.1", "431"),
        (2 * MAX_HEAD - 1, 10, "GET / HTTP/1.1", "431"),
        (2 * MAX_HEAD, 10, "GET / HTTP/1.1", "431"),
        (5 * MAX_HEAD, 10, "GET / HTTP/1.1", "431"),
        (4_000, MAX_HEADERS, "GET / HTTP/1.1", "200"),
        (4_000, MAX_HEADERS + 1, "GET / HTTP/1.1", "431"),
    ] {
        let head = head_of(size, fields, first_line);
        // At once, and in pieces that end one byte before the bound, at it, and in the middle.
        for cuts in [vec![], vec![MAX_HEAD - 1], vec![MAX_HEAD], vec![1_000, 30_000, 60_000]] {
            let served = start(hello(), Limits { header_timeout: Duration::from_secs(20), ..LIMITS }).await;
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut from = 0;
            for cut in cuts.into_iter().chain([head.len()]).filter(|cut| *cut <= head.len()) {
                // It may have been answered, and the connection closed, before all of it was sent.
                if stream.write_all(&head.as_bytes()[from..cut]).await.is_err() {
                    break;
                }
                from = cut;
            }
            let answer = read(stream).await;
            // A reset can take the answer with it, if it was refused while more was on its way.
            let refused_early = answer.is_empty() && status == "431" && size > MAX_HEAD + 1;
            assert!(refused_early || answer.starts_with(&format!("HTTP/1.1 {status}")), "{size} {fields}: {answer}");
        }
    }
}

#[tokio::test]
async fn connections_above_the_bound_wait_for_a_place() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let gate = CancellationToken::new();
    let opened = gate.clone();
    let slow = move || {
        let (arrived, gate) = (arrived.clone(), gate.clone());
        async move {
            arrived.send(()).unwrap();
            gate.cancelled().await;
            "done"
        }
    };
    let served = start(Router::new().route("/", get(slow)), LIMITS).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(send(served.address, GET).await);
    }
    arrivals.recv().await.unwrap();
    arrivals.recv().await.unwrap();
    assert!(arrivals.try_recv().is_err(), "a third request was let in beside two");
    opened.cancel();
    for stream in streams {
        assert!(read(stream).await.ends_with("done"));
    }
}

#[tokio::test]
async fn what_is_under_way_finishes_when_the_service_stops_and_nothing_new_begins() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let gate = CancellationToken::new();
    let opened = gate.clone();
    let slow = move || {
        let (arrived, gate) = (arrived.clone(), gate.clone());
        async move {
            arrived.send(()).unwrap();
            gate.cancelled().await;
            "done"
        }
    };
    let served = start(Router::new().route("/", get(slow)), LIMITS).await;
    let under_way = send(served.address, GET).await;
    arrivals.recv().await.unwrap();
    served.stop.cancel();
    // The port is given up while the request is still being served.
    while TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    opened.cancel();
    assert!(read(under_way).await.ends_with("done"));
    assert_eq!(served.cut_off.await.unwrap(), 0);
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_off_and_counted() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let never = move || {
        let arrived = arrived.clone();
        async move {
            arrived.send(()).unwrap();
            std::future::pending::<()>().await
        }
    };
    let limits = Limits { drain: Duration::from_millis(50), ..LIMITS };
    let served = start(Router::new().route("/", get(never)), limits).await;
    let under_way = send(served.address, GET).await;
    arrivals.recv().await.unwrap();
    served.stop.cancel();
    assert_eq!(served.cut_off.await.unwrap(), 1);
    assert_eq!(read(under_way).await, "");
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_sentence_that_says_what_to_do() {
    let taken = listen("127.0.0.1", 0).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = listen("127.0.0.1", port).await.unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("API_PORT"), "{error}");
}

#[test]
fn only_this_machines_own_names_are_loopback() {
    for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1", "[::1]"] {
        assert!(is_loopback_host(host), "{host}");
    }
    for host in ["0.0.0.0", "::", "example.com", "localhost.example.com", "128.0.0.1", ""] {
        assert!(!is_loopback_host(host), "{host}");
    }
}
