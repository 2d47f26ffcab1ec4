//! What a delivery from Slack costs until it is acknowledged, against a floor measured in the same run:
//! `cargo bench --bench slack`.
//!
//! The program under test is the real binary (`twelve serve`) in a process of its own. This process is Slack
//! twice over: it signs and sends events over kept-alive connections, and it answers the Web API. It is also
//! the model, which takes 20 seconds for every answer, so that no run ends while acknowledgements are measured.
//! The floor is a second server process: the same listening loop, the check of the signature, the same store
//! with the same group commit, and nothing else: it verifies, parses, appends the two events of a new thread,
//! answers.
//!
//! Sections (`cpu`, `rate`) can be named after `--`. `SLACK_PAUSED` sets how many threads wait for an approval
//! meanwhile (3,000). What the figures mean, and what they were, stands in `docs/performance.md`.

mod common;

use std::env;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::*;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use twelve::agent::*;
use twelve::http::serve::{Limits, listen, serve};
use twelve::store::{Durability, Store, StoreConfig};

const CONNECTIONS: usize = 16;
/// Events of one round of the section about CPU, over all connections.
const ROUND: usize = 2_000;
const ROUNDS: usize = 5;
/// Events a second, and for how long, in the section about latency.
const RATE: u64 = 200;
const RATE_SECONDS: u64 = 30;
/// How long the model takes.
const MODEL: Duration = Duration::from_secs(20);
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Waits for people: the threads that are paused.
const WRITER: &str = r#"+++
description = "Writes a line after people agreed."
provider = "scripted"
tools = ["log_message"]
[gates]
log_message = "ask"
+++
You write what people ask for.
"#;

/// Asks the slow model: the threads that Slack starts.
const THINKER: &str = r#"+++
description = "Thinks for a long time."
provider = "openai"
tools = []
+++
You think.
"#;

const SCRIPT: &str = r#"
[[reply]]
human = '.'
say = "I would write this line."
[[reply.call]]
tool = "log_message"
args = { message = "the release of this week is on its way to production" }
"#;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Ok(dir) = env::var(FLOOR) {
        return runtime.block_on(floor(Path::new(&dir)));
    }
    // `cargo test --all-targets` starts benches too, without this flag.
    if !env::args().any(|arg| arg == "--bench") {
        return;
    }
    let named: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |section: &str| named.is_empty() || named.iter().any(|name| name == section);
    println!("load {}", load());
    for durability in ["process", "disk"] {
        if wanted("cpu") {
            runtime.block_on(cpu(durability));
        }
        if wanted("rate") {
            runtime.block_on(rate(durability));
        }
    }
    println!("load {}", load());
}

// ---- what is measured ----

/// Mentions as fast as 16 connections go: CPU time of the server for each, until it rests.
async fn cpu(durability: &str) {
    let outside = outside().await;
    let (ours_dir, floor_dir) = (scratch(), scratch());
    let ours = program(ours_dir.path(), durability, outside).await;
    let floor = Server::floor(floor_dir.path(), durability, false);
    let mut cpu: [Vec<f64>; 2] = Default::default();
    let mut rates: [Vec<f64>; 2] = Default::default();
    for round in 0..=ROUNDS {
        for (which, server) in [&ours, &floor].into_iter().enumerate() {
            let before = server.cpu();
            let began = Instant::now();
            storm(server.address).await;
            let took = began.elapsed();
            server.quiet().await;
            // The first round warms caches and grows the store's log.
            if round > 0 {
                cpu[which].push((server.cpu() - before).as_secs_f64() * 1e6 / ROUND as f64);
                rates[which].push(ROUND as f64 / took.as_secs_f64());
            }
        }
    }
    println!("a mention, signed, until its acknowledgement; {CONNECTIONS} connections, {durability}");
    println!("  CPU {:.0} us an event; {:.0} events/s", median(&cpu[0]), median(&rates[0]));
    println!(
        "  floor (verify, parse, append, answer): CPU {:.0} us, {:.0} events/s; ratio of CPU {}",
        median(&cpu[1]),
        median(&rates[1]),
        ratios(&cpu[0], &cpu[1])
    );
}

/// Latency at a steady rate, with a slow model at work and threads that wait for people.
async fn rate(durability: &str) {
    let paused: usize = env::var("SLACK_PAUSED").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000);
    let outside = outside().await;
    let (ours_dir, floor_dir) = (scratch(), scratch());
    let ours = program(ours_dir.path(), durability, outside).await;
    fill(ours.address, paused).await;
    ours.quiet().await;
    println!(
        "{RATE} events/s for {RATE_SECONDS} s, a model that takes {} s, {paused} paused threads, {durability}",
        MODEL.as_secs()
    );
    let floor = Server::floor(floor_dir.path(), durability, false);
    for (server, name) in [(&ours, "ack"), (&floor, "floor")] {
        let took = steady(server.address).await;
        println!(
            "  {name}: p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms",
            at(&took, 0.5),
            at(&took, 0.99),
            at(&took, 1.0)
        );
    }
    println!("  resident {} KiB", ours.resident());
}

/// Each event is sent at its time, whether or not the last one is back. Milliseconds, sorted.
async fn steady(address: SocketAddr) -> Vec<f64> {
    let total = RATE * RATE_SECONDS;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for connection in 0..CONNECTIONS as u64 {
        tasks.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut took = Vec::new();
            for n in (connection..total).step_by(CONNECTIONS) {
                let due = began + Duration::from_micros(n * 1_000_000 / RATE);
                tokio::time::sleep_until(due.into()).await;
                mention(&mut client).await;
                // From when it was due: a queue in the client counts as well.
                took.push(due.elapsed().as_secs_f64() * 1e3);
            }
            took
        });
    }
    let mut took: Vec<f64> = tasks.join_all().await.into_iter().flatten().collect();
    took.sort_by(f64::total_cmp);
    took
}

async fn storm(address: SocketAddr) {
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        tasks.spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..ROUND / CONNECTIONS {
                mention(&mut client).await;
            }
        });
    }
    tasks.join_all().await;
}

/// One mention that starts a thread; it was acknowledged when this returns.
async fn mention(client: &mut Client) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let ts = format!("{now}.{n:06}");
    let body = json!({
        "token": "unused", "team_id": "T1", "api_app_id": "A1", "type": "event_callback",
        "event_id": format!("Ev{n}"), "event_time": now,
        "authorizations": [{"enterprise_id": null, "team_id": "T1", "user_id": "UBOT", "is_bot": true,
            "is_enterprise_install": false}],
        "event": {"type": "app_mention", "user": "U1", "text": "<@UBOT> how is the api doing today?",
            "ts": ts, "channel": "C1", "event_ts": ts, "team": "T1"},
    })
    .to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("v0:{now}:{body}").as_bytes());
    let signature = data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes());
    let headers = format!("x-slack-request-timestamp: {now}\r\nx-slack-signature: v0={signature}\r\n");
    let (status, answer) = client.post_with("/slack/events", &headers, &body).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
}

/// Starts threads that stop at an approval.
async fn fill(address: SocketAddr, threads: usize) {
    let mut tasks = JoinSet::new();
    for share in 0..CONNECTIONS {
        tasks.spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in (share..threads).step_by(CONNECTIONS) {
                let body = json!({ "message": "note the release", "agent_type": "writer" }).to_string();
                let (status, _) = client.post("/agents/start", &body).await;
                assert_eq!(status, 202);
            }
        });
    }
    tasks.join_all().await;
}

// ---- the outside ----

/// Slack's Web API and a slow model, on one port.
async fn outside() -> SocketAddr {
    use axum::extract::Path;
    use axum::routing::{get, post};
    let method = async |Path(method): Path<String>| {
        static TS: AtomicU64 = AtomicU64::new(1);
        let ts = format!("1700000000.{:06}", TS.fetch_add(1, Ordering::Relaxed));
        axum::Json(match method.as_str() {
            "auth.test" => json!({"ok": true, "url": "https://bench.slack.com/", "team": "Bench", "user": "agent",
                "team_id": "T1", "user_id": "UBOT", "bot_id": "BBOT", "is_enterprise_install": false}),
            _ => json!({"ok": true, "channel": "C1", "ts": ts, "messages": [], "has_more": false}),
        })
    };
    let think = async || {
        tokio::time::sleep(MODEL).await;
        axum::Json(json!({"id": "1", "object": "chat.completion", "model": "slow", "choices": [{"index": 0,
            "finish_reason": "stop", "message": {"role": "assistant", "content": "All is well."}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}}))
    };
    let router =
        axum::Router::new().route("/api/{method}", get(method).post(method)).route("/v1/chat/completions", post(think));
    let listener = listen("127.0.0.1", 0).await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits =
        Limits { header_timeout: Duration::from_secs(60), max_connections: 1_024, drain: Duration::from_secs(1) };
    tokio::spawn(serve(listener, router, limits, CancellationToken::new()));
    address
}

/// `twelve serve`, connected to that Slack and that model.
async fn program(dir: &Path, durability: &str, outside: SocketAddr) -> Server {
    let settings = "[slack]\nagent = \"thinker\"\nprogress = false\n";
    let (api, model) = (format!("http://{outside}/api"), format!("http://{outside}/v1"));
    let environment = [
        ("SLACK_BOT_TOKEN", "xoxb-bench"),
        ("SLACK_SIGNING_SECRET", SECRET),
        ("SLACK_API_URL", api.as_str()),
        ("OPENAI_API_KEY", "bench"),
        ("OPENAI_BASE_URL", model.as_str()),
    ];
    let agents = [("writer", WRITER), ("thinker", THINKER)];
    let server = Server::program(dir, durability, &agents, SCRIPT, settings, &environment);
    // Until the workspace is known, deliveries are put off.
    let mut client = Client::connect(server.address).await;
    for _ in 0..1_000 {
        if client.get("/readyz").await.0 == 200 {
            return server;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("Slack was not connected");
}

// ---- the floor ----

/// Verifies, parses, appends what a new thread begins with, answers.
async fn floor(dir: &Path) {
    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;
    let durability =
        if env::var(FLOOR_DURABILITY).as_deref() == Ok("disk") { Durability::Disk } else { Durability::Process };
    let store = Store::open(&StoreConfig { path: dir.join("twelve.db"), durability }).await.unwrap();
    let event = async move |State(store): State<Store>, headers: HeaderMap, body: String| {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("v0:{}:{body}", header("x-slack-request-timestamp")).as_bytes());
        let given = header("x-slack-signature").trim_start_matches("v0=");
        let given = data_encoding::HEXLOWER.decode(given.as_bytes()).unwrap();
        if mac.verify_slice(&given).is_err() {
            return StatusCode::UNAUTHORIZED;
        }
        let body: Value = serde_json::from_str(&body).unwrap();
        let field = |name: &str| body["event"][name].as_str().unwrap().to_owned();
        let id: ThreadId = format!("slack:T1:{}:{}", field("channel"), field("ts")).parse().unwrap();
        let from = Principal::human(format!("slack:T1:{}", field("user")));
        let mut thread = Thread::vacant(id.clone());
        let begun = Body::ThreadStarted {
            thread: id.clone(),
            agent: "thinker".to_owned(),
            by: from.clone(),
            pushes: true,
            parent: None,
            carried: Vec::new(),
            heard: Vec::new(),
            untrusted: Untrusted::default(),
        };
        let text = field("text");
        let received = Body::MessageReceived {
            context: Vec::new(),
            attached: Vec::new(),
            from,
            text,
            masked: 0,
            prefetch: Vec::new(),
            outside: None,
        };
        store.append(append(&mut thread, vec![begun, received])).await.unwrap();
        StatusCode::OK
    };
    let router = axum::Router::new().route("/slack/events", post(event)).with_state(store);
    let listener = listen("127.0.0.1", 0).await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    let limits =
        Limits { header_timeout: Duration::from_secs(10), max_connections: 1_024, drain: Duration::from_secs(1) };
    serve(listener, router, limits, CancellationToken::new()).await;
}
