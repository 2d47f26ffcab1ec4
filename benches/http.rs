//! What the service costs, against a floor measured in the same run: `cargo bench --bench http`.
//!
//! The program under test is the real binary (`twelve serve`) in a process of its own, so that its CPU time
//! is its own; this process is the clients, over loopback and kept-alive connections. The floor is a second
//! server process: the same listening loop, the same strict JSON, the same store with the same group commit,
//! and nothing else. It parses, appends the events of a new thread and answers; `floor + run` also makes the
//! appends that the run itself makes after the answer (the model's reply), because the program does that
//! work in the same process.
//!
//! Sections (`start`, `rate`, `lists`, `watch`) can be named after `--`. `HTTP_PENDING` sets how many approvals
//! are pending (10,000). What the figures mean, and what they were, stands in `docs/performance.md`.

mod common;

use std::env;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use twelve::agent::*;
use twelve::http::serve::{Limits, listen, serve};
use twelve::store::{Durability, Store, StoreConfig};

const CONNECTIONS: usize = 16;
/// Requests of one round of the throughput section, over all connections.
const ROUND: usize = 4_000;
const ROUNDS: usize = 5;
/// Requests a second, and for how long, in the section about latency.
const RATE: u64 = 200;
const RATE_SECONDS: u64 = 15;

const AGENT: &str = r#"+++
description = "Answers, and writes a line after people agreed."
tools = ["log_message"]
[gates]
log_message = "ask"
+++
You are {{ agent.name }}. Look before you answer. Write what people ask for, and nothing else.
"#;

const SCRIPT: &str = r#"
[[reply]]
human = '^note'
say = "I would write this line."
[[reply.call]]
tool = "log_message"
args = { message = "the release of this week is on its way to production" }
[[reply]]
human = '.'
say = "All is well."
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
        if wanted("start") {
            runtime.block_on(start(durability));
        }
    }
    if wanted("rate") || wanted("lists") || wanted("watch") {
        for durability in ["process", "disk"] {
            runtime.block_on(with_many_pending(durability, &wanted));
        }
    }
    println!("load {}", load());
}

// ---- what is measured ----

/// `POST /agents/start` as fast as 16 connections go: CPU time of the server for each request.
async fn start(durability: &str) {
    let (ours_dir, floor_dir, run_dir) = (scratch(), scratch(), scratch());
    let ours = program(ours_dir.path(), durability);
    let floor = Server::floor(floor_dir.path(), durability, false);
    let floor_run = Server::floor(run_dir.path(), durability, true);
    let servers = [&ours, &floor, &floor_run];
    let mut cpu: [Vec<f64>; 3] = Default::default();
    let mut rates: [Vec<f64>; 3] = Default::default();
    for round in 0..=ROUNDS {
        for (which, server) in servers.iter().enumerate() {
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
    println!("POST /agents/start, {CONNECTIONS} connections, {durability}");
    println!("  CPU {:.0} us a request, the run included; {:.0} requests/s", median(&cpu[0]), median(&rates[0]));
    for (which, name) in [(1, "floor (parse, append, answer)"), (2, "floor + run (the reply's append as well)")] {
        println!(
            "  {name}: CPU {:.0} us, {:.0} requests/s; ratio of CPU {}",
            median(&cpu[which]),
            median(&rates[which]),
            ratios(&cpu[0], &cpu[which])
        );
    }
}

/// Everything that needs a store in which many approvals are pending.
async fn with_many_pending(durability: &str, wanted: &impl Fn(&str) -> bool) {
    let pending: usize = env::var("HTTP_PENDING").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let dir = scratch();
    let server = program(dir.path(), durability);
    let empty = server.resident();
    fill(server.address, pending).await;
    server.quiet().await;
    println!(
        "{pending} threads wait for an approval, {durability}: resident {} KiB (empty {empty} KiB)",
        server.resident()
    );
    if wanted("rate") {
        rate(&server).await;
    }
    if wanted("lists") && durability == "process" {
        lists(&server).await;
    }
    if wanted("watch") && durability == "process" {
        watch(&server).await;
    }
}

/// Latency at a steady rate: each request is sent at its time, whether or not the last one is back.
async fn rate(server: &Server) {
    let total = RATE * RATE_SECONDS;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for connection in 0..CONNECTIONS as u64 {
        let address = server.address;
        tasks.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut took = Vec::new();
            for n in (connection..total).step_by(CONNECTIONS) {
                let due = began + Duration::from_micros(n * 1_000_000 / RATE);
                tokio::time::sleep_until(due.into()).await;
                let (status, _) = client.post("/agents/start", &message("how is the api doing?")).await;
                assert_eq!(status, 202);
                // From when it was due: a queue in the client counts as well.
                took.push(due.elapsed().as_secs_f64() * 1e3);
            }
            took
        });
    }
    let mut took: Vec<f64> = tasks.join_all().await.into_iter().flatten().collect();
    took.sort_by(f64::total_cmp);
    println!(
        "  {RATE} requests/s of POST /agents/start for {RATE_SECONDS} s: p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms",
        at(&took, 0.5),
        at(&took, 0.99),
        at(&took, 1.0)
    );
}

/// The pages that list what is pending.
async fn lists(server: &Server) {
    let before = server.resident();
    let mut client = Client::connect(server.address).await;
    for path in ["/approvals", "/approvals?state=all&limit=200", "/inbox", "/agents?waiting=true"] {
        let mut took = Vec::new();
        let mut bytes = 0;
        for _ in 0..200 {
            let began = Instant::now();
            let (status, body) = client.get(path).await;
            assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
            took.push(began.elapsed().as_secs_f64() * 1e3);
            bytes = body.len();
        }
        took.sort_by(f64::total_cmp);
        println!(
            "  GET {path}: p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms ({bytes} bytes)",
            at(&took, 0.5),
            at(&took, 0.99),
            at(&took, 1.0)
        );
    }
    println!("  800 pages later: resident {} KiB (before {before} KiB)", server.resident());
}

/// A hundred people watch threads in which nothing happens.
async fn watch(server: &Server) {
    let mut client = Client::connect(server.address).await;
    let (_, body) = client.get("/agents?limit=100").await;
    let page: Value = serde_json::from_slice(&body).unwrap();
    let threads: Vec<String> =
        page["items"].as_array().unwrap().iter().map(|t| t["thread_id"].as_str().unwrap().to_owned()).collect();
    let idle = async |what: &str| {
        let (cpu, read) = (server.cpu(), server.read_bytes());
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (cpu, read) = ((server.cpu() - cpu).as_secs_f64() * 1e3, server.read_bytes() - read);
        println!("  5 s with {what}: {cpu:.0} ms of CPU, {read} bytes read");
    };
    idle("nobody watching").await;
    let mut watchers = Vec::new();
    for thread in &threads {
        let mut watcher = Client::connect(server.address).await;
        watcher.open(&format!("/threads/{thread}/events")).await;
        watchers.push(watcher);
    }
    server.quiet().await;
    idle(&format!("{} watchers", watchers.len())).await;
}

/// [`ROUND`] threads are started over [`CONNECTIONS`] connections.
async fn storm(address: SocketAddr) {
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        tasks.spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..ROUND / CONNECTIONS {
                let (status, body) = client.post("/agents/start", &message("how is the api doing?")).await;
                assert_eq!(status, 202, "{}", String::from_utf8_lossy(&body));
            }
        });
    }
    tasks.join_all().await;
}

/// Starts threads that stop at an approval.
async fn fill(address: SocketAddr, threads: usize) {
    let mut tasks = JoinSet::new();
    for share in 0..CONNECTIONS {
        tasks.spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in (share..threads).step_by(CONNECTIONS) {
                let (status, _) = client.post("/agents/start", &message("note the release")).await;
                assert_eq!(status, 202);
            }
        });
    }
    tasks.join_all().await;
}

fn program(dir: &Path, durability: &str) -> Server {
    Server::program(dir, durability, &[("bench", AGENT)], SCRIPT, "", &[])
}

fn message(text: &str) -> String {
    json!({ "message": text, "agent_type": "bench" }).to_string()
}

// ---- the floor ----

/// Parses, appends what a new thread begins with, answers.
async fn floor(dir: &Path) {
    use axum::extract::State;
    use axum::routing::post;
    let durability =
        if env::var(FLOOR_DURABILITY).as_deref() == Ok("disk") { Durability::Disk } else { Durability::Process };
    let run = env::var(FLOOR_RUN).is_ok();
    let store = Store::open(&StoreConfig { path: dir.join("twelve.db"), durability }).await.unwrap();
    let started = async move |State(store): State<Store>, body: String| {
        let body = json::parse(&body).unwrap();
        let id: ThreadId = format!("api:{}", uuid::Uuid::now_v7()).parse().unwrap();
        let ann = Principal::human("api:ann");
        let mut thread = Thread::vacant(id.clone());
        let (agent, text) =
            (body["agent_type"].as_str().unwrap().to_owned(), body["message"].as_str().unwrap().to_owned());
        let begun = Body::ThreadStarted {
            thread: id.clone(),
            agent,
            by: ann.clone(),
            pushes: false,
            parent: None,
            carried: Vec::new(),
            heard: Vec::new(),
            untrusted: Untrusted::default(),
        };
        let received = Body::MessageReceived {
            context: Vec::new(),
            attached: Vec::new(),
            from: ann,
            text,
            masked: 0,
            prefetch: Vec::new(),
            outside: None,
        };
        let first = append(&mut thread, vec![begun, received]);
        store.append(first).await.unwrap();
        if run {
            let answer = Body::ModelReplied {
                seen: 2,
                step: NextStep::Done { text: "All is well. (scripted answer)".to_owned() },
                model: ModelStamp { provider: "scripted".into(), model: "scripted".into(), prompt: "0".repeat(12) },
                usage: Usage { input: 300, output: 10 },
                sent: 0,
                correction: String::new(),
            };
            let second = append(&mut thread, vec![answer]);
            tokio::spawn(async move { store.append(second).await.unwrap() });
        }
        (axum::http::StatusCode::ACCEPTED, axum::Json(json!({ "thread_id": id.short(), "status": "running" })))
    };
    let router = axum::Router::new().route("/agents/start", post(started)).with_state(store);
    let listener = listen("127.0.0.1", 0).await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    let limits =
        Limits { header_timeout: Duration::from_secs(10), max_connections: 1_024, drain: Duration::from_secs(1) };
    serve(listener, router, limits, CancellationToken::new()).await;
}
