//! What stands in front of every route: bad bodies, slow ones, huge ones, wrong hosts, too many requests,
//! and what comes out when something breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::routing::get;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::ServiceExt as _;
use twelve::config::HttpConfig;
use twelve::http::Peer;
use twelve::http::guard::{WRONG_PER_MINUTE, around};
use twelve::http::serve::{Limits, listen, serve};

use crate::http_api::{Api, http_config, request, tokens};
use crate::world::World;

fn raw(kind: Option<&str>, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post("/agents/start").header("authorization", "Bearer token-ci");
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    request.body(body.into()).unwrap()
}

#[tokio::test]
async fn json_that_could_mean_two_things_is_refused_with_the_reason() {
    let api = Api::new().await;
    let deep = format!(r#"{{"message":"hi","x":{}{}}}"#, "[".repeat(70), "]".repeat(70));
    for (body, words) in [
        (r#"{"message":"hi","message":"bye"}"#, "the key `message` occurs twice"),
        (r#"{"message":"hi","n":{"a":1,"\u0061":2}}"#, "the key `a` occurs twice"),
        (r#"{"message":"hi","n":0.1000000000000000055511151231257827}"#, "cannot be represented exactly"),
        (deep.as_str(), "nested deeper than 64"),
        (r#"{"message":"hi""#, "not valid JSON"),
        (r#"{"message":"hi"} x"#, "not valid JSON"),
        ("{'message':'hi'}", "not valid JSON"),
        ("nope", "not valid JSON"),
    ] {
        let reply = api.read(raw(Some("application/json"), body.to_owned())).await;
        assert_eq!(reply.problem(), (400, "bad_json".into()), "{body}");
        assert!(reply.text.contains(words), "{reply:?}");
    }
    let broken = api.read(raw(Some("application/json; charset=utf-8"), vec![b'"', 0xff, b'"'])).await;
    assert_eq!(broken.problem(), (400, "bad_json".into()));
    let empty = api.read(raw(Some("application/json"), "")).await;
    assert_eq!(empty.problem(), (400, "bad_json".into()));
    assert_eq!(api.get("boss", "/agents").await.ok(200)["items"], json!([]), "nothing of it was kept");
}

#[tokio::test]
async fn only_json_is_read_as_json() {
    let api = Api::new().await;
    let body = r#"{"message":"hi"}"#;
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("text/json"),
        Some("application/jsonx"),
    ] {
        let reply = api.read(raw(kind, body)).await;
        assert_eq!(reply.problem(), (415, "not_json".into()), "{kind:?}");
    }
    for kind in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
        api.read(raw(Some(kind), body)).await.ok(202);
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_meant_so_are_said() {
    let api = Api::new().await;
    assert_eq!(api.get("ci", "/nothing/here").await.problem(), (404, "no_such_path".into()));
    for (method, path, allow) in [
        (Method::DELETE, "/agents/start", "POST"),
        (Method::PUT, "/agents", "GET,HEAD"),
        (Method::OPTIONS, "/agents/aaaaaaaaaaaaaaaa/status", "GET,HEAD"),
    ] {
        let reply = api.read(request(method, path, Some("ci"), &[], None)).await;
        assert_eq!(reply.problem(), (405, "method_not_allowed".into()));
        assert_eq!(reply.headers["allow"], allow, "{path}");
    }
    // Odd names are names of nothing.
    for path in ["/agents/%FF/status", "/agents/../status", "/agents/x%2Fy/status", "/agents/%00/status"] {
        assert_eq!(api.get("ci", path).await.problem().0, 404, "{path}");
    }
    assert_eq!(api.get("ci", "/assets/%FF/%FF").await.status, 404);
}

#[tokio::test]
async fn every_answer_carries_what_browsers_heed_and_a_name() {
    let api = Api::new().await;
    let ask = |path: &'static str, id: &'static str| {
        api.read(request(Method::GET, path, Some("ci"), &[("x-request-id", id)], None))
    };
    for path in ["/agents", "/nowhere", "/docs", "/openapi.json"] {
        let headers = ask(path, "mine-1").await.headers;
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cache-control"], "no-store");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(headers["x-request-id"], "mine-1");
    }
    assert_eq!(
        ask("/agents", "a b\tc").await.headers["x-request-id"].len(),
        16,
        "what cannot stand in a log is replaced"
    );
}

#[tokio::test]
async fn where_only_this_machine_is_served_other_names_are_refused() {
    let api = Api::new().await;
    let host = |host: &str| request(Method::GET, "/agents", Some("ci"), &[("host", host)], None);
    for name in ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"] {
        api.read(host(name)).await.ok(200);
    }
    for name in
        ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""]
    {
        assert_eq!(api.read(host(name)).await.problem(), (421, "wrong_host".into()), "{name}");
    }
    let twice = request(Method::GET, "/agents", Some("ci"), &[("host", "localhost"), ("host", "evil.example")], None);
    assert_eq!(api.read(twice).await.problem(), (400, "bad_host".into()));
    let whole = request(Method::GET, "http://evil.example/agents", Some("ci"), &[("host", "localhost")], None);
    assert_eq!(api.read(whole).await.problem(), (421, "wrong_host".into()));

    let named = HttpConfig { public_url: "https://agents.example/".into(), tokens: tokens(), ..http_config() };
    let api = Api::around(World::new().await, named, None);
    api.read(host("agents.example")).await.ok(200);
    assert_eq!(api.read(host("evil.example")).await.problem().0, 421);
    let everywhere = HttpConfig { host: "0.0.0.0".into(), tokens: tokens(), ..http_config() };
    Api::around(World::new().await, everywhere, None).read(host("any.example")).await.ok(200);
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back_and_others_are_not_held_up() {
    let few = HttpConfig { requests_per_minute: 5, tokens: tokens(), ..http_config() };
    let api = Api::around(World::new().await, few, None);
    for _ in 0..5 {
        api.get("ci", "/agents").await.ok(200);
    }
    let reply = api.get("ci", "/agents").await;
    assert_eq!(reply.problem(), (429, "too_many_requests".into()));
    let wait: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=13).contains(&wait), "{wait}");
    api.get("eve", "/agents").await.ok(200);
    // Without a token it is the address that counts; one IPv6 network is one address.
    let from = |address: &str, token: &str| {
        let mut asked = request(Method::GET, "/agents", None, &[("authorization", token)], None);
        if token.is_empty() {
            asked.headers_mut().remove("authorization");
        }
        asked.extensions_mut().insert(Peer(address.parse().unwrap()));
        asked
    };
    for n in 0..5 {
        assert_eq!(api.read(from(&format!("[2001:db8::{n}]:1"), "")).await.problem().0, 401);
    }
    assert_eq!(api.read(from("[2001:db8::99]:1", "")).await.problem().0, 429);
    assert_eq!(api.read(from("[2001:db8:0:1::1]:1", "")).await.problem().0, 401);
}

#[tokio::test]
async fn guessing_tokens_is_slowed_down_by_address() {
    let api = Api::new().await;
    let from = |address: &str, n: u32| {
        let mut asked = request(Method::GET, "/agents", None, &[("authorization", &format!("Bearer guess-{n}"))], None);
        asked.extensions_mut().insert(Peer(address.parse().unwrap()));
        asked
    };
    for n in 0..WRONG_PER_MINUTE {
        assert_eq!(api.read(from("192.0.2.1:1", n)).await.problem().0, 401);
    }
    assert_eq!(api.read(from("192.0.2.1:2", 99)).await.problem().0, 429);
    assert_eq!(api.read(from("192.0.2.2:1", 99)).await.problem().0, 401);
    let mut right = request(Method::GET, "/agents", Some("ci"), &[], None);
    right.extensions_mut().insert(Peer("192.0.2.1:3".parse::<std::net::SocketAddr>().unwrap()));
    api.read(right).await.ok(200);
}

/// Everything comes from the one address of a proxy.
fn by_the_proxy(method: Method, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut asked = request(method, path, None, headers, None);
    asked.extensions_mut().insert(Peer("127.0.0.1:1".parse::<std::net::SocketAddr>().unwrap()));
    asked
}

#[tokio::test]
async fn a_flood_without_a_name_blocks_no_person_no_webhook_and_no_probe() {
    let mut few = HttpConfig { requests_per_minute: 5, tokens: tokens(), ..http_config() };
    few.proxy.user_header = "x-user".to_owned();
    let api = Api::around(World::new().await, few, None);
    for _ in 0..5 {
        assert_eq!(api.read(by_the_proxy(Method::POST, "/agents/start", &[])).await.problem().0, 401);
    }
    assert_eq!(api.read(by_the_proxy(Method::POST, "/agents/start", &[])).await.problem().0, 429);
    for (method, path) in [(Method::POST, "/chat"), (Method::GET, "/")] {
        let reply = api.read(by_the_proxy(method, path, &[("x-user", "ann")])).await;
        assert_ne!(reply.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    // The person pays for what is sent in their name, whatever the method.
    for _ in 0..3 {
        let reply = api.read(by_the_proxy(Method::POST, "/chat", &[("x-user", "ann")])).await;
        assert_ne!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    }
    let reply = api.read(by_the_proxy(Method::POST, "/chat", &[("x-user", "ann")])).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    // Webhooks have a bucket of their own, and it ends as well.
    for _ in 0..5 {
        assert_eq!(api.read(by_the_proxy(Method::POST, "/webhooks/trigger", &[])).await.problem().0, 404);
    }
    assert_eq!(api.read(by_the_proxy(Method::POST, "/webhooks/trigger", &[])).await.problem().0, 429);
    for path in ["/healthz", "/readyz", "/readyz/http"] {
        for _ in 0..10 {
            let reply = api.read(by_the_proxy(Method::GET, path, &[])).await;
            assert_ne!(reply.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
        }
    }
}

#[tokio::test]
async fn a_password_that_a_proxy_passes_on_is_no_wrong_token() {
    let mut http = HttpConfig { tokens: tokens(), requests_per_minute: 1_000, ..http_config() };
    http.proxy.user_header = "x-user".to_owned();
    let api = Api::around(World::new().await, http, None);
    let basic = ("authorization", "Basic YW5uOnNlY3JldA==");
    for _ in 0..WRONG_PER_MINUTE + 5 {
        api.read(by_the_proxy(Method::GET, "/agents", &[basic, ("x-user", "ann")])).await.ok(200);
    }
    assert_eq!(api.read(by_the_proxy(Method::GET, "/agents", &[basic])).await.problem().0, 401);
    let wrong = ("authorization", "Bearer no");
    assert_eq!(api.read(by_the_proxy(Method::GET, "/agents", &[wrong, ("x-user", "ann")])).await.problem().0, 401);
}

#[tokio::test]
async fn a_route_that_breaks_gives_a_reference_and_takes_nothing_with_it() {
    let api = Api::new().await;
    let routes = Router::new()
        .route(
            "/break",
            get(|| async {
                if true {
                    panic!("secret detail")
                }
            }),
        )
        .route("/bare", get(|| async { StatusCode::CONFLICT }));
    let router = around(routes, &api.service).with_state(api.service.clone());
    for (path, status, code) in [("/break", 500, "internal"), ("/bare", 409, "refused")] {
        let asked = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
        let response = router.clone().oneshot(asked).await.unwrap();
        assert_eq!(response.status(), status);
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains(&format!("\"code\":\"{code}\"")) && !text.contains("secret"), "{text}");
        assert!(status != 500 || text.contains("Reference "), "{text}");
    }
}

// ---- Over real sockets ----

/// What a client gets that sends these bytes and then keeps the connection open.
async fn exchange(api: &Api, send: impl AsyncFnOnce(&mut TcpStream)) -> String {
    let listener = listen("127.0.0.1", 0).await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits::of(&api.service.settings().http, Duration::from_secs(5));
    let served = tokio::spawn(serve(listener, api.service.router(), limits, api.stop.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    send(&mut stream).await;
    let mut text = String::new();
    // A reset after the answer is as good as an end.
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut text)).await.expect("an answer");
    api.stop.cancel();
    drop(stream);
    served.await.unwrap();
    text
}

#[tokio::test]
async fn a_request_of_today_names_its_host_and_an_older_one_need_not() {
    let public = HttpConfig { host: "0.0.0.0".into(), tokens: tokens(), ..http_config() };
    for http in [HttpConfig { tokens: tokens(), ..http_config() }, public] {
        for (line, answered) in [("GET /agents HTTP/1.1", "400 "), ("GET /agents HTTP/1.0", "200 ")] {
            let api = Api::around(World::new().await, http.clone(), None);
            let answer = exchange(&api, async |stream: &mut TcpStream| {
                let head = format!("{line}\r\nConnection: close\r\nAuthorization: Bearer token-ci\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
            });
            let answer = answer.await;
            let status = answer.split_once(' ').unwrap().1;
            assert!(status.starts_with(answered), "{line}: {answer}");
            assert_eq!(status.contains("bad_host"), answered == "400 ", "{answer}");
        }
    }
}

#[tokio::test]
async fn a_body_whose_end_others_could_see_elsewhere_is_refused_and_what_follows_it_is_not_read() {
    let body = r#"{"message":"hi"}"#;
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (fields, status) in [
        ("Transfer-Encoding: chunked\r\n", "202 "),
        ("Transfer-Encoding: Chunked\r\n", "202 "),
        ("Transfer-Encoding: gzip, chunked\r\n", "400 "),
        ("Transfer-Encoding: chunked, chunked\r\n", "400 "),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "400 "),
        ("Transfer-Encoding: identity\r\n", "400 "),
    ] {
        let api = Api::new().await;
        let follows = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let answer = exchange(&api, async |stream: &mut TcpStream| {
            stream.write_all(format!("{HEAD}{fields}\r\n{chunked}{follows}").as_bytes()).await.unwrap();
        });
        let answer = answer.await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{fields}: {answer}");
        let answers = answer.matches("HTTP/1.1 ").count();
        assert_eq!(answers, if status == "202 " { 2 } else { 1 }, "{fields}: {answer}");
    }
}

const HEAD: &str = "POST /agents/start HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token-ci\r\nContent-Type: application/json\r\n";

#[tokio::test]
async fn a_body_of_a_gigabyte_is_refused_before_it_comes() {
    let api = Api::new().await;
    let answer = exchange(&api, async |stream: &mut TcpStream| {
        stream.write_all(format!("{HEAD}Content-Length: 1073741824\r\n\r\n{{").as_bytes()).await.unwrap();
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_body_in_chunks_is_counted_as_it_comes() {
    let api = Api::new().await;
    let given = Arc::new(AtomicUsize::new(0));
    let counted = given.clone();
    let endless = futures_util::stream::repeat_with(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok::<_, std::io::Error>(vec![b'x'; 64 * 1024])
    });
    let reply = api.read(raw(Some("application/json"), Body::from_stream(endless))).await;
    assert_eq!(reply.problem(), (413, "body_too_large".into()));
    assert_eq!(reply.headers["connection"], "close");
    assert_eq!(given.load(Ordering::SeqCst), 17, "a megabyte is 16 of them");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let slow = HttpConfig { body_timeout: 100, tokens: tokens(), ..http_config() };
    let api = Api::around(World::new().await, slow, None);
    let answer = exchange(&api, async |stream: &mut TcpStream| {
        stream.write_all(format!("{HEAD}Content-Length: 20\r\n\r\n{{\"mess").as_bytes()).await.unwrap();
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"), "{answer}");
}

#[tokio::test]
async fn a_request_over_a_real_connection_is_served() {
    let api = Api::around(World::new().await, HttpConfig { trust_loopback: true, ..http_config() }, None);
    let answer = exchange(&api, async |stream: &mut TcpStream| {
        let body = r#"{"message":"hi"}"#;
        let head =
            "POST /agents/start HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
        stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 202 ") && answer.contains("\"thread_id\""), "{answer}");
}
