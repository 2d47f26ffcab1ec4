//! What operators look at: metrics, health, the access log.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use twelve::agent::*;
use twelve::config::{HttpConfig, Loaded, layers::Sources};
use twelve::http::{Caller, Peer, Service, Settings, Via, access};
use twelve::metrics::Sampled;
use twelve::platform::{Platforms, console};
use twelve::runtime::{PROBE_MS, Said};
use twelve::telemetry;

use crate::world::*;

/// Reads OpenMetrics text strictly: every sample has a family that was declared before it, no sample comes
/// twice, histograms add up, and the text says that it is complete.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the text has an end");
    let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
    for line in body.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert!(name.starts_with("twelve_"), "{line}");
            assert_eq!(families.insert(name.to_owned(), kind.to_owned()), None, "declared twice: {line}");
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let endings = ["_total", "_bucket", "_sum", "_count", "_info", ""];
            let family =
                endings.iter().filter_map(|end| name.strip_suffix(end)).find(|name| families.contains_key(*name));
            assert!(family.is_some(), "no family was declared for {line}");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            assert_eq!(samples.insert(sample.to_owned(), value), None, "twice: {line}");
        }
    }
    for (sample, value) in &samples {
        let Some(at) = sample.find("_bucket{") else { continue };
        if let Some(labels) = sample.strip_suffix("le=\"+Inf\"}") {
            let labels = labels[at + "_bucket{".len()..].trim_end_matches(',');
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            assert_eq!(samples.get(&format!("{}_count{labels}", &sample[..at])), Some(value), "{sample}");
        }
    }
    samples
}

/// What was counted: the samples that are not 0, without buckets and sums.
fn counted(samples: &BTreeMap<String, f64>) -> BTreeMap<&str, f64> {
    let plain =
        |name: &str| !name.contains("_bucket{") && !name.contains("_seconds_sum") && !name.contains("build_info");
    samples.iter().filter(|(name, value)| plain(name) && **value != 0.0).map(|(name, v)| (name.as_str(), *v)).collect()
}

/// Somebody ships with approval, somebody denies, a tool fails, a message comes twice, the model names a tool
/// that there is not, nobody decides in time, a run is stopped.
async fn story() -> World {
    let fail = "[[reply]]\nhuman = '^fail$'";
    let invent = "[[reply]]\nhuman = '^invent$'\n[[reply.call]]\ntool = \"explode\"\n";
    let script = SCRIPT.replace(fail, &format!("{invent}{fail}"));
    let world = World::with(Setup { script, ..Setup::default() }).await;

    world.say("api:1", "ship v1").await;
    world.advance(90_000).await;
    assert_eq!(world.vote("api:1", bob(), approve()).await, Answer::Accepted);

    world.say("api:2", "ship v2").await;
    world.advance(10_000).await;
    let carol = Principal::human("web:carol");
    assert_eq!(world.vote("api:2", carol, deny("not today")).await, Answer::Accepted);

    world.say("api:3", "ship v3").await;
    world.outside.break_with("the disk is full");
    assert_eq!(world.vote("api:3", bob(), approve()).await, Answer::Accepted);

    let thread: ThreadId = "api:4".parse().unwrap();
    for answer in [Answer::Accepted, Answer::Duplicate] {
        let said = Said { source: Some("delivery-1".into()), ..Said::by(ann(), "look") };
        assert_eq!(world.runtime.message(&thread, "tester", said).await.unwrap().answer, answer);
    }
    world.runtime.settle().await.unwrap();

    world.say("api:5", "invent").await;

    world.say("api:6", "ship v6").await;
    world.advance(7_200_000).await;

    world.say("api:7", "ship v7").await;
    world.give("api:7", Input::Stop { by: ann(), why: String::new() }).await;
    world
}

#[tokio::test]
async fn a_story_yields_exactly_these_samples() {
    let world = story().await;
    let text = world.runtime.parts().metrics.scrape(&Sampled { approvals_pending: Some(0), effects_in_flight: 0 });
    let samples = parse(&text);
    let mut counted = counted(&samples);
    // As many as there are events in batches: looked at below.
    let appends = counted.remove("twelve_store_append_seconds_count").unwrap();
    let mut expected: BTreeMap<&str, f64> = BTreeMap::new();
    for (sample, value) in [
        (r#"twelve_approvals_decided_total{decision="approved",surface="api",route="agent:tester:ship"}"#, 2.0),
        (r#"twelve_approvals_decided_total{decision="denied",surface="web",route="agent:tester:ship"}"#, 1.0),
        (r#"twelve_approvals_decided_total{decision="expired",surface="none",route="agent:tester:ship"}"#, 1.0),
        (r#"twelve_approvals_decided_total{decision="cancelled",surface="none",route="agent:tester:ship"}"#, 1.0),
        (r#"twelve_approval_wait_seconds_count{decision="approved"}"#, 2.0),
        (r#"twelve_approval_wait_seconds_count{decision="denied"}"#, 1.0),
        (r#"twelve_approval_wait_seconds_count{decision="expired"}"#, 1.0),
        (r#"twelve_approval_wait_seconds_count{decision="cancelled"}"#, 1.0),
        (r#"twelve_events_deduplicated_total"#, 1.0),
        (r#"twelve_runs_total{agent="tester",outcome="done"}"#, 6.0),
        (r#"twelve_runs_total{agent="tester",outcome="stopped"}"#, 1.0),
        (r#"twelve_tool_calls_total{tool="ship",outcome="succeeded"}"#, 1.0),
        (r#"twelve_tool_calls_total{tool="ship",outcome="failed"}"#, 1.0),
        (r#"twelve_tool_calls_total{tool="look",outcome="succeeded"}"#, 1.0),
        (r#"twelve_tool_calls_total{tool="other",outcome="invalid"}"#, 1.0),
    ] {
        expected.insert(sample, value);
    }
    let model: BTreeMap<&str, f64> =
        counted.iter().filter(|(k, _)| k.contains("_llm_")).map(|(k, v)| (*k, *v)).collect();
    counted.retain(|sample, _| !sample.contains("_llm_"));
    assert_eq!(counted, expected);

    // The model and the store are counted against what the logs say.
    let (mut replies, mut events) = (0.0, 0.0);
    for thread in 1..=7 {
        for event in world.log(&format!("api:{thread}")).await {
            events += 1.0;
            replies += f64::from(u8::from(event.body.name() == "model_replied"));
        }
    }
    let expected = BTreeMap::from([
        (r#"twelve_llm_requests_total{provider="scripted",outcome="ok"}"#, replies),
        (r#"twelve_llm_request_seconds_count{provider="scripted"}"#, replies),
    ]);
    assert_eq!(model, expected);
    assert!(appends > 20.0 && appends < events, "{appends} appends of {events} events");

    // Ninety seconds, no time at all; ten seconds; two hours.
    assert_eq!(samples[r#"twelve_approval_wait_seconds_sum{decision="approved"}"#], 90.0);
    assert_eq!(samples[r#"twelve_approval_wait_seconds_bucket{le="60.0",decision="approved"}"#], 1.0);
    assert_eq!(samples[r#"twelve_approval_wait_seconds_bucket{le="300.0",decision="approved"}"#], 2.0);
    assert_eq!(samples[r#"twelve_approval_wait_seconds_sum{decision="denied"}"#], 10.0);
    assert_eq!(samples[r#"twelve_approval_wait_seconds_sum{decision="expired"}"#], 7200.0);
}

/// The names that people were promised, as far as there is something to count.
#[tokio::test]
async fn every_promised_name_that_exists_is_in_a_scrape_and_none_is_made_up() {
    let world = story().await;
    let text = world.runtime.parts().metrics.scrape(&Sampled { approvals_pending: Some(0), effects_in_flight: 0 });
    for name in [
        "approvals_pending gauge",
        "approvals_decided counter",
        "approval_wait_seconds histogram",
        "cards_update_failures counter",
        "events_deduplicated counter",
        "runs counter",
        "tool_calls counter",
        "llm_tokens counter",
        "llm_request_seconds histogram",
        "store_append_seconds histogram",
        "effects_in_flight gauge",
        "channel_connected gauge",
    ] {
        assert!(text.contains(&format!("# TYPE twelve_{name}\n")), "{name} is missing in\n{text}");
    }
    assert!(!text.contains("escalations"), "escalations count nothing yet");
}

#[tokio::test]
async fn a_card_that_cannot_be_brought_up_to_date_is_counted_as_such() {
    let (console, mut posts) = console::Console::new();
    let platforms = Platforms { console: Some(console), slack: None };
    let world = World::with(Setup { platforms, ..Setup::default() }).await;
    let screen = tokio::spawn(async move {
        while let Some(shown) = posts.recv().await {
            shown.done.send(()).unwrap();
        }
    });
    world.say("console:1", "ship v1").await;
    let text = world.runtime.parts().metrics.scrape(&Sampled::default());
    assert_eq!(parse(&text)["twelve_cards_update_failures_total"], 0.0);
    // Somebody closes the terminal; then it is decided elsewhere.
    screen.abort();
    let _ = screen.await;
    world.vote("console:1", bob(), deny("no")).await;
    let samples = parse(&world.runtime.parts().metrics.scrape(&Sampled::default()));
    // The vote, and what it came to.
    assert_eq!(samples["twelve_cards_update_failures_total"], 2.0);
    assert_eq!(samples[r#"twelve_posting_failures_total{posting="card"}"#], 2.0);
    assert_eq!(samples[r#"twelve_posting_failures_total{posting="answer"}"#], 1.0, "nothing stood there: no update");
}

#[tokio::test]
async fn a_provider_that_fails_is_counted_by_the_kind_of_failure() {
    let world = World::new().await;
    world.say("api:1", "fail").await;
    let samples = parse(&world.runtime.parts().metrics.scrape(&Sampled::default()));
    assert_eq!(samples[r#"twelve_llm_requests_total{provider="scripted",outcome="rate_limited"}"#], 1.0);
    assert_eq!(samples.get(r#"twelve_llm_requests_total{provider="scripted",outcome="ok"}"#), None);
}

fn service(world: &World) -> Service {
    let http = HttpConfig { tokens: crate::http_api::tokens(), ..crate::http_api::http_config() };
    let stop = CancellationToken::new();
    let settings = Settings {
        http,
        app_name: "twelve".into(),
        secret: [7; 32],
        local_token: Some("token-local".into()),
        demo: None,
        stop,
        triggers: Default::default(),
        slack: None,
    };
    Service::new(world.runtime.clone(), settings)
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "127.0.0.1:8000").body(Body::empty()).unwrap()
}

fn from(peer: &str, mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(Peer(peer.parse::<SocketAddr>().unwrap()));
    request
}

async fn ask(service: &Service, request: Request<Body>) -> (StatusCode, String) {
    let response = service.router().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn readiness_says_what_it_works_with_and_a_drain_ends_it() {
    let world = World::new().await;
    let service = service(&world);
    assert_eq!(ask(&service, get("/healthz")).await, (StatusCode::OK, "ok\n".to_owned()));
    let (status, body) = ask(&service, get("/readyz")).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    let expected = json!({
        "service": "twelve", "version": env!("CARGO_PKG_VERSION"), "ready": true, "reasons": [], "draining": false,
        "store": { "reachable": true, "durability": "process" },
        "providers": { "default": "scripted", "configured": ["scripted"] },
        "platforms": [],
    });
    assert_eq!(body, expected);

    world.runtime.drain(Duration::ZERO).await.unwrap();
    // What was found out just now stands for a moment.
    world.clock.advance_ms(PROBE_MS);
    let (status, body) = ask(&service, get("/readyz")).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (&body["ready"], &body["draining"], &body["store"]["reachable"]),
        (&json!(false), &json!(true), &json!(false))
    );
    let reasons = body["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), 2, "it drains, and its store is closed: {body}");
    assert!(reasons[0].as_str().unwrap().contains("stopping"), "{body}");
    // The process itself is still there.
    assert_eq!(ask(&service, get("/healthz")).await.0, StatusCode::OK);
}

/// How often the store was written to for nothing but to see whether it can be.
fn probes(world: &World) -> i64 {
    let conn = rusqlite::Connection::open_with_flags(
        world.dir.path().join("twelve.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .unwrap();
    let (rows, n): (i64, i64) =
        conn.query_row("SELECT count(*), coalesce(sum(n), 0) FROM probe", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    assert!(rows <= 1, "one row, over and over");
    n
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_writes_at_most_once_a_second_however_many_ask() {
    let world = World::new().await;
    let service = service(&world);
    assert_eq!(probes(&world), 0);
    for second in 1..=3 {
        let asked = (0..40).map(|n| ask(&service, get(if n % 2 == 0 { "/readyz" } else { "/readyz/http" })));
        for (status, body) in futures_util::future::join_all(asked).await {
            assert_eq!(status, StatusCode::OK, "{body}");
        }
        assert_eq!(probes(&world), second);
        world.clock.advance_ms(PROBE_MS - 1);
        ask(&service, get("/readyz")).await;
        assert_eq!(probes(&world), second, "a second has not passed");
        world.clock.advance_ms(1);
    }
    // Those who break off start no attempt of their own each.
    for _ in 0..20 {
        drop(tokio::time::timeout(Duration::ZERO, ask(&service, get("/readyz"))).await);
    }
    ask(&service, get("/readyz")).await;
    assert_eq!(probes(&world), 4);
}

/// Each thing that can happen to the files of a running service: what readiness says, that nothing is acknowledged
/// meanwhile, and that it heals by itself where it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_the_files_is_said_refused_and_healed() {
    type Act = fn(&std::path::Path);
    let beside = |path: &std::path::Path, ending: &str| std::path::PathBuf::from(format!("{}{ending}", path.display()));
    fn aside(path: &std::path::Path, ending: &str) {
        let name = format!("{}{ending}", path.display());
        std::fs::rename(&name, format!("{name}.aside")).unwrap();
    }
    fn back(path: &std::path::Path, ending: &str) {
        let name = format!("{}{ending}", path.display());
        std::fs::rename(format!("{name}.aside"), &name).unwrap();
    }
    fn overwrite(path: &std::path::Path, with: &[u8]) {
        use std::os::unix::fs::FileExt as _;
        std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(with, 0).unwrap();
    }
    let cases: [(&str, Act, Option<Act>, &str); 8] = [
        ("removed", |path| aside(path, ""), Some(|path| back(path, "")), "removed or replaced"),
        ("its log removed", |path| aside(path, "-wal"), Some(|path| back(path, "-wal")), "removed or replaced"),
        ("its index removed", |path| aside(path, "-shm"), Some(|path| back(path, "-shm")), "removed or replaced"),
        (
            "replaced by a copy",
            |path| {
                aside(path, "");
                std::fs::copy(format!("{}.aside", path.display()), path).unwrap();
            },
            Some(|path| back(path, "")),
            "removed or replaced",
        ),
        (
            "its directory moved",
            |path| {
                let dir = path.parent().unwrap();
                std::fs::rename(dir, dir.with_extension("moved")).unwrap();
            },
            Some(|path| {
                let dir = path.parent().unwrap();
                std::fs::rename(dir.with_extension("moved"), dir).unwrap();
            }),
            "removed or replaced",
        ),
        (
            "overwritten",
            |path| overwrite(path, b"nonsense and more"),
            Some(|path| overwrite(path, b"SQLite format 3\0")),
            "cannot be read back",
        ),
        (
            "cut off",
            |path| std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap(),
            None,
            "cannot be read back",
        ),
        (
            "its log cut off",
            |path| {
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(format!("{}-wal", path.display()))
                    .unwrap()
                    .set_len(100)
                    .unwrap()
            },
            None,
            "cannot be read back",
        ),
    ];
    for (what, harm, heal, says) in cases {
        let world = World::new().await;
        let service = service(&world);
        let path = world.dir.path().join("twelve.db");
        let start = || {
            let mut request =
                Request::post("/agents/start").header("host", "localhost").header("authorization", "Bearer token-ci");
            request = request.header("content-type", "application/json");
            request.body(Body::from(r#"{"message":"hi"}"#)).unwrap()
        };
        assert_eq!(ask(&service, start()).await.0, 202);
        world.runtime.settle().await.unwrap();
        assert_eq!(ask(&service, get("/readyz")).await.0, 200);
        assert!(beside(&path, "-wal").exists() && beside(&path, "-shm").exists());

        harm(&path);
        world.clock.advance_ms(PROBE_MS);
        for route in ["/readyz", "/readyz/http"] {
            let (status, body) = ask(&service, get(route)).await;
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (status.as_u16(), &body["ready"], &body["store"]["reachable"]),
                (503, &json!(false), &json!(false)),
                "{what}"
            );
            let reason = body["reasons"][0].as_str().unwrap();
            assert!(reason.contains(says) && !reason.contains('/'), "{what}: {reason}");
        }
        let (status, body) = ask(&service, start()).await;
        // What cannot be read any more is not written either.
        let unreadable = what == "its log cut off";
        assert_eq!(status.as_u16(), if unreadable { 500 } else { 503 }, "{what}: {body}");
        assert!(unreadable || body.contains("store_not_writable"), "{what}: {body}");
        let Some(heal) = heal else { continue };
        heal(&path);
        world.clock.advance_ms(PROBE_MS);
        let (status, body) = ask(&service, get("/readyz")).await;
        assert_eq!(status, 200, "{what}: {body}");
        assert_eq!(ask(&service, start()).await.0, 202, "{what}");
    }
}

#[tokio::test]
async fn metrics_are_for_tokens_that_may_read_on_this_machine_as_well() {
    let world = World::new().await;
    let service = service(&world);
    let header = |name: &str, value: &str| {
        let mut request = from("127.0.0.1:4000", get("/metrics"));
        let name: axum::http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let bearer = |peer: &str, token: &str| {
        let mut request = from(peer, get("/metrics"));
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    };
    for (what, request, expected) in [
        ("on this machine", from("127.0.0.1:4000", get("/metrics")), 401),
        ("on this machine, by its other address", from("[::1]:4000", get("/metrics")), 401),
        ("on this machine, with the local token", bearer("127.0.0.1:4000", "token-local"), 200),
        ("in a container, with the local token", bearer("172.17.0.1:4000", "token-local"), 200),
        ("on this machine, with a wrong token", bearer("127.0.0.1:4000", "token-lokal"), 401),
        ("somewhere else", from("192.0.2.7:4000", get("/metrics")), 401),
        ("from nobody knows where", get("/metrics"), 401),
        ("passed on by a proxy", header("x-forwarded-for", "192.0.2.7"), 401),
        ("by a name that is not this machine's", header("host", "rebound.example:8000"), 421),
        ("with a token that may read", bearer("192.0.2.7:4000", "token-only-read"), 200),
        ("with a token for everything", bearer("192.0.2.7:4000", "token-boss"), 200),
        ("with a token that may not", bearer("192.0.2.7:4000", "token-only-start"), 403),
    ] {
        let (status, body) = ask(&service, request).await;
        assert_eq!(status.as_u16(), expected, "{what}: {body}");
        if expected == 200 {
            parse(&body);
        } else {
            let problem: Value = serde_json::from_str(&body).unwrap();
            let words = match expected {
                421 => "for this machine alone",
                403 => "scope `read`",
                _ => "-H \"Authorization: Bearer $(twelve token local)\"",
            };
            assert!(problem["detail"].as_str().unwrap().contains(words), "{what}: {body}");
        }
    }
    let (_, text) = ask(&service, bearer("127.0.0.1:4000", "token-local")).await;
    let samples = parse(&text);
    // What was refused is counted as well; this scrape is not, it has no answer yet.
    let count = |status: u16| {
        samples[&format!(r#"twelve_http_requests_total{{route="/metrics",method="GET",status="{status}"}}"#)]
    };
    assert_eq!((count(200), count(401), count(403), count(421)), (4.0, 6.0, 1.0, 1.0));
    assert_eq!(samples[r#"twelve_http_request_seconds_count{route="/metrics"}"#], 12.0);
}

/// A log that can be read back.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the log says while one request is served.
async fn logged(level: &str, structured: bool, request: Request<Body>) -> String {
    let world = World::new().await;
    let service = service(&world);
    log_of(level, structured, async {
        ask(&service, request).await;
    })
    .await
}

/// What the log says while this goes on.
async fn log_of(level: &str, structured: bool, work: impl Future<Output = ()>) -> String {
    let file = format!("[log]\nstructured = {structured}\nlevel = \"{level}\"\n");
    let sources = Sources { file: Some(("twelve.toml", &file)), ..Sources::default() };
    let loaded = Loaded::from_sources(&sources).unwrap();
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = telemetry::subscriber(&loaded.config, loaded.secret_filter(), false, move || writer.clone());
    // The whole of this test runs on one thread.
    crate::listening();
    let guard = tracing::subscriber::set_default(subscriber);
    work.await;
    drop(guard);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_request_is_one_line_without_path_query_header_or_address() {
    let request = Request::get("/nowhere/secret-path?token=secret-query")
        .header("host", "localhost")
        .header("authorization", "Bearer secret-header")
        .header("x-request-id", "abc-1")
        .body(Body::from("secret-body"))
        .unwrap();
    let text = logged("info", true, from("192.0.2.7:4000", request)).await;
    let mut line: Value = serde_json::from_str(text.trim_end()).unwrap();
    assert!(line["timestamp"].take().is_string() && line["duration_ms"].take().is_u64());
    let expected = json!({
        "timestamp": null, "level": "INFO", "target": "twelve::http::access", "message": "a request was answered",
        "http.method": "GET", "http.route": "none", "http.status": 404, "duration_ms": null,
        "caller.kind": "nobody", "caller.name": "", "request.id": "abc-1",
    });
    assert_eq!(line, expected);
    assert!(!text.contains("secret") && !text.contains("192.0.2.7"), "{text}");
}

/// The fields of the lines of the runtime, without those of threads and times.
fn journal(text: &str) -> Vec<String> {
    let of_runtime = |line: &Value| line["target"] == "twelve::runtime::journal";
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(of_runtime);
    lines
        .map(|line| {
            assert_eq!(line["level"], "INFO");
            let id = line["thread.id"].as_str().unwrap();
            assert!(id.len() == 16, "{line}");
            let fields = ["tool.name", "rule", "outcome", "approval.revision", "person.id", "person.surface"];
            let shown =
                fields.iter().filter(|name| !line[**name].is_null()).map(|name| format!(" {name}={}", line[*name]));
            let ids = ["approval.id", "question.id", "call.id"].iter().filter(|name| !line[**name].is_null());
            let ids: String = ids.map(|name| format!(" {name}")).collect();
            format!("{}:{}{ids}", line["message"].as_str().unwrap(), shown.collect::<String>().replace('"', ""))
        })
        .collect()
}

/// What people decide, what is refused and what is done, each in a line of its own, without a word of what was said.
#[tokio::test]
async fn each_decision_refusal_and_effect_is_a_line() {
    let text = log_of("info", true, async {
        let world = World::new().await;
        world.say("api:1", "ship v1").await;
        let request = world.pending("api:1").await;
        let refused = world.vote("api:1", ann(), approve()).await;
        assert!(matches!(refused, Answer::Refused(_)), "{refused:?}");
        assert_eq!(world.vote("api:1", bob(), approve()).await, Answer::Accepted);
        let late = world.vote_on("api:1", &request, Principal::human("slack:T1:U9"), deny("secret words")).await;
        assert!(matches!(late, Answer::Refused(_)), "{late:?}");
        world.say("api:2", "ship v2").await;
        world.vote("api:2", bob(), deny("secret reason")).await;
        world.say("api:3", "ship v3").await;
        world.outside.break_with("secret error");
        world.vote("api:3", bob(), approve()).await;
        world.say("api:4", "look").await;
        world.say("api:5", "ship v5").await;
        world.advance(7_200_000).await;
        world.give("api:5", Input::Pause { by: ann(), why: "secret why".into() }).await;
        world.say("api:6", "ship v6").await;
        world.give("api:6", Input::Stop { by: ann(), why: "secret why".into() }).await;
    })
    .await;
    for secret in ["secret", "ship v", "v1", "v2"] {
        assert!(!text.contains(secret), "{secret} is in the log: {text}");
    }
    let told: Vec<String> = journal(&text).into_iter().filter(|line| line.contains("outcome=")).collect();
    insta::assert_snapshot!(told.join("\n"), @"
    a rule was applied to a call: tool.name=ship rule=agent:tester:ship outcome=ask call.id
    a call was planned: tool.name=ship rule=agent:tester:ship outcome=planned approval.id call.id
    an approval was requested: tool.name=ship rule=agent:tester:ship outcome=asked approval.revision=1 approval.id call.id
    an input was refused: tool.name=ship rule=agent:tester:ship outcome=requester_may_not person.id=api:ann person.surface=api approval.id call.id
    a person voted: tool.name=ship rule=agent:tester:ship outcome=approve approval.revision=1 person.id=api:bob person.surface=api approval.id call.id
    an approval was decided: tool.name=ship rule=agent:tester:ship outcome=approved approval.revision=1 person.id=api:bob person.surface=api approval.id call.id
    a call was started: tool.name=ship rule=agent:tester:ship outcome=started approval.id call.id
    a call ended: tool.name=ship rule=agent:tester:ship outcome=succeeded approval.id call.id
    an input was refused: tool.name=ship rule=agent:tester:ship outcome=already_decided person.id=slack:T1:U9 person.surface=slack approval.id call.id
    a rule was applied to a call: tool.name=ship rule=agent:tester:ship outcome=ask call.id
    a call was planned: tool.name=ship rule=agent:tester:ship outcome=planned approval.id call.id
    an approval was requested: tool.name=ship rule=agent:tester:ship outcome=asked approval.revision=1 approval.id call.id
    a person voted: tool.name=ship rule=agent:tester:ship outcome=deny approval.revision=1 person.id=api:bob person.surface=api approval.id call.id
    an approval was decided: tool.name=ship rule=agent:tester:ship outcome=denied approval.revision=1 person.id=api:bob person.surface=api approval.id call.id
    a rule was applied to a call: tool.name=ship rule=agent:tester:ship outcome=ask call.id
    a call was planned: tool.name=ship rule=agent:tester:ship outcome=planned approval.id call.id
    an approval was requested: tool.name=ship rule=agent:tester:ship outcome=asked approval.revision=1 approval.id call.id
    a person voted: tool.name=ship rule=agent:tester:ship outcome=approve approval.revision=1 person.id=api:bob person.surface=api approval.id call.id
    an approval was decided: tool.name=ship rule=agent:tester:ship outcome=approved approval.revision=1 person.id=api:bob person.surface=api approval.id call.id
    a call was started: tool.name=ship rule=agent:tester:ship outcome=started approval.id call.id
    a call ended: tool.name=ship rule=agent:tester:ship outcome=failed approval.id call.id
    a rule was applied to a call: tool.name=look rule=default outcome=auto call.id
    a call ended: tool.name=look rule=default outcome=succeeded call.id
    a rule was applied to a call: tool.name=ship rule=agent:tester:ship outcome=ask call.id
    a call was planned: tool.name=ship rule=agent:tester:ship outcome=planned approval.id call.id
    an approval was requested: tool.name=ship rule=agent:tester:ship outcome=asked approval.revision=1 approval.id call.id
    an approval was decided: tool.name=ship rule=agent:tester:ship outcome=expired approval.revision=1 approval.id call.id
    an input was refused: outcome=nothing_runs person.id=api:ann person.surface=api
    a rule was applied to a call: tool.name=ship rule=agent:tester:ship outcome=ask call.id
    a call was planned: tool.name=ship rule=agent:tester:ship outcome=planned approval.id call.id
    an approval was requested: tool.name=ship rule=agent:tester:ship outcome=asked approval.revision=1 approval.id call.id
    an approval was decided: tool.name=ship rule=agent:tester:ship outcome=cancelled person.id=api:ann person.surface=api approval.id call.id
    ");
}

#[tokio::test]
async fn a_line_names_who_was_found_to_ask() {
    for (via, kind, name) in [
        (Via::Token("ci".into()), "token", "ci"),
        (Via::Session, "session", "web:carol"),
        (Via::Proxy, "proxy", "web:carol"),
        (Via::Local, "local", "web:carol"),
        (Via::Loopback, "loopback", "web:carol"),
        (Via::Demo, "demo", "web:carol"),
    ] {
        let principal = Principal::human("web:carol");
        let caller = Caller { principal, groups: vec![], scopes: [].into(), via };
        let world = World::new().await;
        // As the door that looks at tokens does it.
        let handler = move |request: Request<Body>| async move {
            access::note_caller(request.extensions(), &caller);
            let other = Caller { via: Via::Demo, principal: Principal::human("web:eve"), ..caller };
            access::note_caller(request.extensions(), &other);
            StatusCode::NO_CONTENT
        };
        let layer = axum::middleware::from_fn_with_state(service(&world), access::record);
        let router = axum::Router::new().route("/threads/{id}", axum::routing::get(handler)).layer(layer);
        let text = log_of("info", true, async {
            router.oneshot(get("/threads/secret")).await.unwrap();
        })
        .await;
        let line: Value = serde_json::from_str(text.trim_end()).unwrap();
        let found = ["caller.kind", "caller.name", "http.route"].map(|field| line[field].as_str().unwrap());
        assert_eq!(found, [kind, name, "/threads/{id}"]);
    }
}

#[tokio::test]
async fn a_readable_line_says_the_same() {
    let request = || {
        Request::post("/healthz")
            .header("host", "localhost")
            .header("x-request-id", "abc-1")
            .body(Body::empty())
            .unwrap()
    };
    let text = logged("info", false, request()).await;
    assert_eq!(text, "", "supervisors are quiet");
    let text = logged("debug", false, request()).await;
    let line = text.split_once("DEBUG ").unwrap().1;
    let (line, rest) = line.split_once(" duration_ms=").unwrap();
    assert_eq!(line, r#"a request was answered http.method="POST" http.route="/healthz" http.status=405"#);
    let rest = rest.split_once(' ').unwrap().1;
    assert_eq!(rest, "caller.kind=\"nobody\" caller.name=\"\" request.id=\"abc-1\"\n");
}

#[tokio::test]
async fn a_request_id_is_taken_over_if_it_is_one_and_made_up_otherwise() {
    let world = World::new().await;
    let service = service(&world);
    for (given, taken) in [
        (Some("0123-abc_DEF.9"), true),
        (None, false),
        (Some(""), false),
        (Some("two words"), false),
        (Some("a\"quote"), false),
        (Some(&*"x".repeat(65)), false),
    ] {
        let mut request = Request::get("/healthz").header("host", "localhost");
        if let Some(id) = given {
            request = request.header("x-request-id", id);
        }
        let response = service.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(given == Some(id.as_str()), taken, "{given:?} became {id}");
        assert!(taken || id.len() == 16, "{id}");
    }
}
