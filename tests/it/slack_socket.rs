//! Socket Mode: what the loop does on the wire (against a server that a test holds in its hand), and what comes of
//! deliveries (against the fake Slack).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use futures_util::{SinkExt as _, StreamExt as _};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_util::sync::CancellationToken;
use twelve::agent::{Body, Event, ShortId, ThreadId};
use twelve::chat::slack::socket::{Times, run_with};
use twelve::chat::slack::{Ack, Front, FrontSettings, catch_up};
use twelve::llm::HttpProviderConfig;
use twelve::metrics::Sampled;
use twelve::platform::Platforms;
use twelve::platform::slack::api::Pace;
use twelve::platform::slack::inbound::Envelope;
use twelve::platform::slack::{Slack, SlackSettings, WorkspaceSettings};
use twelve::runtime::Clock;
use twelve::store::Filter;

use crate::fakes::model::Vendor;
use crate::fakes::slack::deliveries::Acked;
use crate::fakes::slack::{FakeSlack, Handle};
use crate::world::{START, Setup, World};

/// How long a test waits for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Short enough to see what follows; long enough that nothing happens by itself that a test does not wait for.
fn times() -> Times {
    let ms = Duration::from_millis;
    Times { linger: ms(50), backoff: ms(5), backoff_cap: ms(20), slowly: ms(50), settled: ms(0), ..Times::default() }
}

pub fn settings(api_url: &str, team: Option<&str>) -> SlackSettings {
    SlackSettings {
        api_url: api_url.to_owned(),
        workspaces: vec![WorkspaceSettings {
            team: team.map(str::to_owned),
            bot_token: SecretString::from("xoxb-test-T1"),
            app_token: Some(SecretString::from("xapp-test-A1")),
            signing_secret: None,
        }],
        public_url: "https://agents.example".to_owned(),
        max_file: 65_536,
        max_earlier: 50,
        pace: Pace { second: Duration::from_millis(1), ..Pace::default() },
    }
}

pub fn front_settings() -> FrontSettings {
    FrontSettings {
        agent: "tester".to_owned(),
        channels: BTreeMap::new(),
        threads: twelve::config::Threads::All,
        channel_threads: Default::default(),
        stop_reaction: "octagonal_sign".to_owned(),
        progress: true,
        command: "/agent".to_owned(),
        operators: Vec::new(),
        odd: None,
    }
}

/// A program over a Slack at this address.
pub async fn program(settings: SlackSettings, setup: Setup) -> (World, Front, Slack) {
    crate::crypto();
    let slack = Slack::new(settings).unwrap();
    let platforms = Platforms { console: None, slack: Some(slack.clone()) };
    let world = World::with(Setup { platforms, ..setup }).await;
    let odd = Some(world.dir.path().join("slack-odd.jsonl"));
    let front = Front::new(world.runtime.clone(), slack.clone(), FrontSettings { odd, ..front_settings() });
    (world, front, slack)
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Slack's side of the socket, as a test plays it: every connection is handed over, and says only what it is told.
struct Wire {
    api_url: String,
    opened: mpsc::UnboundedReceiver<Line>,
    /// What `apps.connections.open` says next; empty: a ticket.
    answers: Arc<Mutex<Vec<Value>>>,
}

/// One connection, held by Slack.
struct Line(WebSocketStream<TcpStream>);

impl Wire {
    async fn start() -> Self {
        let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ws = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api_url = format!("http://{}/api", api.local_addr().unwrap());
        let answers: Arc<Mutex<Vec<Value>>> = Arc::default();
        let state = (ws.local_addr().unwrap(), answers.clone());
        let open = |State((address, answers)): State<(std::net::SocketAddr, Arc<Mutex<Vec<Value>>>)>,
                    headers: HeaderMap| async move {
            assert_eq!(headers["authorization"], "Bearer xapp-test-A1");
            let next = answers.lock().unwrap().pop();
            Json(next.unwrap_or_else(|| json!({"ok": true, "url": format!("ws://{address}/link/?ticket=hush-hush")})))
        };
        let router = axum::Router::new().route("/api/apps.connections.open", post(open)).with_state(state);
        tokio::spawn(async move { axum::serve(api, router).await });
        let (handed, opened) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = ws.accept().await.unwrap();
                // reason: tungstenite's own type of callback
                #[allow(clippy::result_large_err)]
                let ticket = |request: &Request, response: Response| {
                    assert_eq!(request.uri().query(), Some("ticket=hush-hush"));
                    Ok(response)
                };
                if let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, ticket).await {
                    let _ = handed.send(Line(socket));
                }
            }
        });
        Self { api_url, opened, answers }
    }

    /// The next connection, before Slack has said anything.
    async fn dialled(&mut self) -> Line {
        soon("a connection", self.opened.recv()).await.unwrap()
    }

    /// The next connection, in use.
    async fn connection(&mut self) -> Line {
        let mut line = self.dialled().await;
        line.hello().await;
        line
    }
}

impl Line {
    async fn hello(&mut self) {
        self.say(&json!({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}})).await;
    }

    async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn disconnect(&mut self, reason: &str) {
        self.say(&json!({"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-1"}})).await;
    }

    async fn deliver(&mut self, id: &str, event: Value) {
        self.say(&envelope(id, event)).await;
    }

    /// What comes next, pings aside; `None`: the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            return match soon("a message of the program", self.0.next()).await {
                Some(Ok(Message::Text(text))) => Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => None,
                Some(Ok(other)) => panic!("{other:?}"),
            };
        }
    }

    async fn acked(&mut self) -> String {
        let ack = self.next().await.expect("an acknowledgement");
        assert_eq!(ack.as_object().unwrap().len(), 1, "{ack}");
        ack["envelope_id"].as_str().unwrap().to_owned()
    }
}

fn envelope(id: &str, event: Value) -> Value {
    json!({
        "type": "events_api", "envelope_id": id, "accepts_response_payload": false, "retry_attempt": 0,
        "retry_reason": "",
        "payload": {
            "type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event_id": format!("Ev{id}"),
            "event_time": 1_767_225_600, "event": event,
            "authorizations": [{"team_id": "T1", "user_id": "UBOTT1", "is_bot": true, "is_enterprise_install": false}],
        },
    })
}

/// An event that means nothing to anybody: it is acknowledged, and that is all.
fn nothing() -> Value {
    json!({"type": "channel_rename", "channel": {"id": "C1", "name": "ops"}})
}

struct Running {
    world: World,
    front: Front,
    slack: Slack,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn over(wire: &Wire, times: Times) -> Self {
        let (world, front, slack) = program(settings(&wire.api_url, Some("T1")), Setup::default()).await;
        let stop = CancellationToken::new();
        let task = tokio::spawn(run_with(front.clone(), 0, times, stop.clone()));
        Self { world, front, slack, stop, task }
    }

    fn scraped(&self) -> String {
        self.world.runtime.parts().metrics.scrape(&Sampled::default())
    }

    fn has(&self, sample: &str) {
        let text = self.scraped();
        assert!(text.lines().any(|line| line == sample), "{sample} is missing in\n{text}");
    }

    async fn stopped(self) {
        self.stop.cancel();
        soon("the end", self.task).await.unwrap();
    }
}

#[tokio::test]
async fn s16_the_next_connection_is_open_before_the_old_one_ends() {
    let mut wire = Wire::start().await;
    let running = Running::over(&wire, times()).await;
    let (mut old, mut other) = (wire.connection().await, wire.connection().await);
    old.disconnect("refresh_requested").await;
    // The next one is dialled, and the old one is still served: nobody has said hello over the next one yet.
    let mut next = wire.dialled().await;
    // Four times as long as it would linger.
    let start = std::time::Instant::now();
    for number in 0.. {
        let id = format!("old-{number}");
        old.deliver(&id, nothing()).await;
        assert_eq!(old.acked().await, id);
        if start.elapsed() > Duration::from_millis(200) {
            break;
        }
    }
    next.hello().await;
    next.deliver("e3", nothing()).await;
    assert_eq!(next.acked().await, "e3");
    // What Slack had sent over the old one already is taken as well.
    old.deliver("e4", nothing()).await;
    assert_eq!(old.acked().await, "e4");
    assert_eq!(old.next().await, None, "then it ends");
    other.deliver("e5", nothing()).await;
    assert_eq!(other.acked().await, "e5");
    running.has("twelve_channel_connected{channel=\"slack\"} 2");
    running.has("twelve_channel_connections_total{channel=\"slack\"} 3");
    running.has("twelve_channel_disconnects_total{channel=\"slack\",reason=\"refresh_requested\"} 1");
    assert_eq!(running.slack.problems(), Vec::<String>::new());
    running.stopped().await;
}

#[tokio::test]
async fn s16_a_warning_is_heeded_and_a_connection_that_slack_closes_is_dialled_again() {
    let mut wire = Wire::start().await;
    let running = Running::over(&wire, times()).await;
    let (mut first, mut second) = (wire.connection().await, wire.connection().await);
    first.disconnect("warning").await;
    let _third = wire.connection().await;
    second.0.close(None).await.unwrap();
    let mut fourth = wire.connection().await;
    drop(first);
    fourth.deliver("e1", nothing()).await;
    assert_eq!(fourth.acked().await, "e1");
    running.stopped().await;
}

#[tokio::test]
async fn s16_without_socket_mode_nothing_is_ready_and_the_cause_is_named() {
    let mut wire = Wire::start().await;
    let running = Running::over(&wire, times()).await;
    let (mut first, mut second) = (wire.connection().await, wire.connection().await);
    first.disconnect("link_disabled").await;
    second.disconnect("link_disabled").await;
    assert_eq!((first.next().await, second.next().await), (None, None));
    // It is tried again, slowly. Until then people are told why.
    let (mut first, mut second) = (wire.dialled().await, wire.dialled().await);
    let problems = running.slack.problems();
    assert_eq!(
        problems,
        ["Slack, socket of T1: Socket Mode is turned off for this app (link_disabled); turn it on at \
          api.slack.com/apps under Socket Mode, or set slack.signing_secret and use HTTP"]
    );
    running.has("twelve_channel_connected{channel=\"slack\"} 0");
    first.disconnect("link_disabled").await;
    second.hello().await;
    second.deliver("e1", nothing()).await;
    assert_eq!(second.acked().await, "e1");
    assert_eq!(running.slack.problems(), Vec::<String>::new(), "one connection is enough");
    running.stopped().await;
}

#[tokio::test]
async fn an_app_token_that_slack_refuses_is_named_with_what_to_do() {
    let mut wire = Wire::start().await;
    let refusal = || json!({"ok": false, "error": "invalid_auth"});
    *wire.answers.lock().unwrap() = vec![refusal(), refusal(), refusal(), refusal()];
    let running = Running::over(&wire, times()).await;
    let mut line = wire.dialled().await;
    assert_eq!(
        running.slack.problems(),
        ["Slack, socket of T1: Slack, apps.connections.open: invalid_auth; make a new app-level token (xapp-…) with \
          the scope connections:write, under Basic Information, and set SLACK_APP_TOKEN"]
    );
    line.hello().await;
    line.deliver("e1", nothing()).await;
    assert_eq!(line.acked().await, "e1");
    assert_eq!(running.slack.problems(), Vec::<String>::new());
    running.stopped().await;
}

#[tokio::test]
async fn s17_what_nobody_can_read_is_counted_and_acknowledged_where_it_can_be() {
    let mut wire = Wire::start().await;
    let running = Running::over(&wire, times()).await;
    let mut line = wire.connection().await;
    line.0.send(Message::text("{\"type\": \"events_api\", ")).await.unwrap();
    line.say(&json!(["no", "object"])).await;
    line.say(&json!({"type": "events_api", "payload": {"type": "event_callback"}})).await;
    line.say(&json!({"type": "telepathy", "envelope_id": "odd-1", "payload": {"secret": "thought"}})).await;
    line.say(&json!({"type": "interactive", "envelope_id": "odd-2", "payload": "text"})).await;
    assert_eq!((line.acked().await, line.acked().await), ("odd-1".to_owned(), "odd-2".to_owned()));
    line.deliver("e1", nothing()).await;
    assert_eq!(line.acked().await, "e1", "the connection goes on");
    running.has("twelve_channel_unreadable_total{channel=\"slack\"} 5");
    running.front.idle().await;
    let kept = std::fs::read_to_string(running.world.dir.path().join("slack-odd.jsonl")).unwrap();
    assert_eq!(kept.lines().filter(|line| line.contains("\"kind\":\"socket\"")).count(), 5, "{kept}");
    assert!(kept.contains("telepathy") && kept.contains("its type is not known"), "{kept}");
    running.stopped().await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_given_up() {
    let mut wire = Wire::start().await;
    let ms = Duration::from_millis;
    let running = Running::over(&wire, Times { ping: ms(20), silence: ms(100), ..times() }).await;
    // This side is never read, so no ping of the program's is answered.
    let (_silent, _silent_too) = (wire.connection().await, wire.connection().await);
    let (_next, mut last) = (wire.connection().await, wire.connection().await);
    last.0.send(Message::Ping("Ping from applink-1".into())).await.unwrap();
    let pong = async {
        loop {
            if let Message::Pong(pong) = last.0.next().await.unwrap().unwrap() {
                return pong;
            }
        }
    };
    assert_eq!(&soon("a pong", pong).await[..], b"Ping from applink-1");
    running.stopped().await;
}

#[tokio::test]
async fn a_message_without_end_costs_the_connection_not_the_memory() {
    let mut wire = Wire::start().await;
    let running = Running::over(&wire, times()).await;
    let (mut line, _other) = (wire.connection().await, wire.connection().await);
    // It may be cut off while it is still being sent.
    let _ = line.0.send(Message::text("x".repeat(5 << 20))).await;
    let mut next = wire.connection().await;
    next.deliver("e1", nothing()).await;
    assert_eq!(next.acked().await, "e1");
    running.stopped().await;
}

#[tokio::test]
async fn a_connection_is_not_used_before_hello_and_a_silent_one_is_dialled_again() {
    let mut wire = Wire::start().await;
    let running = Running::over(&wire, Times { dial: Duration::from_millis(100), ..times() }).await;
    let (_mute, mut rash) = (wire.dialled().await, wire.dialled().await);
    rash.deliver("e1", nothing()).await;
    assert_eq!(rash.next().await, None);
    let mut line = wire.connection().await;
    line.deliver("e1", nothing()).await;
    assert_eq!(line.acked().await, "e1");
    running.stopped().await;
}

#[tokio::test]
async fn the_end_closes_the_connections() {
    let mut wire = Wire::start().await;
    let running = Running::over(&wire, times()).await;
    let (mut first, mut second) = (wire.connection().await, wire.connection().await);
    first.deliver("e1", nothing()).await;
    assert_eq!(first.acked().await, "e1");
    running.stop.cancel();
    assert_eq!((first.next().await, second.next().await), (None, None));
    running.stopped().await;
}

/// What a log says, line by line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_names_the_cause_and_never_the_ticket_the_token_or_a_body() {
    let lines = Lines::default();
    let writer = lines.clone();
    crate::listening();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let mut wire = Wire::start().await;
    let unreachable = json!({"ok": true, "url": "ws://127.0.0.1:1/link/?ticket=hush-hush"});
    *wire.answers.lock().unwrap() = vec![unreachable];
    let running = Running::over(&wire, times()).await;
    let (mut line, _other) = (wire.connection().await, wire.connection().await);
    line.say(&json!({"type": "telepathy", "envelope_id": "odd-1", "payload": {"secret": "thought"}})).await;
    assert_eq!(line.acked().await, "odd-1");
    line.disconnect("refresh_requested").await;
    let _next = wire.connection().await;
    running.stopped().await;
    drop(guard);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for words in ["no connection to Slack; dialling again", "network: connection refused", "its type is not known"] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    let ours: String = text.lines().filter(|line| line.contains("twelve")).collect();
    assert!(!ours.is_empty());
    for secret in ["hush-hush", "xapp-test", "thought"] {
        assert!(!ours.contains(secret), "{secret} is in\n{ours}");
    }
}

// ---- with the fake Slack: what comes of deliveries

/// The program over the fake Slack, reached by Socket Mode.
struct Stage {
    fake: FakeSlack,
    world: World,
    front: Front,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Stage {
    async fn new(setup: Setup) -> Self {
        let fake = FakeSlack::start(&Clock::manual(START)).await;
        let (world, front, slack) = program(settings(&fake.api_url(), Some("T1")), setup).await;
        assert!(slack.connect().await);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run_with(front.clone(), 0, times(), stop.clone()));
        fake.until_sockets("A1", 2).await;
        Self { fake, world, front, stop, task }
    }

    /// What people said in a thread, as its log has it.
    async fn said(&self, root: &str) -> Vec<String> {
        let Ok(loaded) = self.world.runtime.parts().store.load(short("C1", root), 0).await else { return Vec::new() };
        let events = (1..).zip(&loaded.events).map(|(seq, bytes)| Event::decode(bytes, seq).unwrap());
        events
            .filter_map(|e| match e.body {
                Body::MessageReceived { text, .. } => Some(text),
                _ => None,
            })
            .collect()
    }

    async fn until_said(&self, root: &str, expected: &[&str]) {
        let all = async {
            while self.said(root).await != expected {
                tokio::task::yield_now().await;
            }
        };
        soon(&format!("{expected:?} is said"), all).await;
    }

    /// No connection until it is mended.
    async fn cut(&self) {
        self.fake.disable_socket("A1", true);
        for id in self.fake.sockets_of("A1") {
            self.fake.sever_socket(id);
        }
        soon("the end of the connections", async {
            while self.front.slack().problems().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn mend(&self) {
        self.fake.disable_socket("A1", false);
        self.fake.until_sockets("A1", 2).await;
        soon("the connections", async {
            while !self.front.slack().problems().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn finish(self) {
        self.stop.cancel();
        soon("the end", self.task).await.unwrap();
        self.front.idle().await;
        self.fake.finish();
    }
}

fn short(channel: &str, root: &str) -> ShortId {
    format!("slack:T1:{channel}:{root}").parse::<ThreadId>().unwrap().short()
}

/// Another program that keeps the store's file to itself for half a second at a time, with a moment in between.
struct Slowed {
    /// How often the file was given back.
    given_back: Arc<AtomicU32>,
    end: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Slowed {
    /// Returns once the store is slow.
    async fn new(world: &World) -> Self {
        let path = world.dir.path().join("twelve.db");
        let (end, ended) = std::sync::mpsc::channel();
        let (tell, slow) = tokio::sync::oneshot::channel();
        let given_back = Arc::new(AtomicU32::new(0));
        let count = given_back.clone();
        let thread = std::thread::spawn(move || {
            let mut tell = Some(tell);
            let file = rusqlite::Connection::open(path).unwrap();
            file.busy_timeout(Duration::from_secs(5)).unwrap();
            loop {
                file.execute_batch("BEGIN IMMEDIATE").unwrap();
                if let Some(tell) = tell.take() {
                    tell.send(()).unwrap();
                }
                let ends = ended.recv_timeout(Duration::from_millis(500)).is_ok();
                count.fetch_add(1, Ordering::SeqCst);
                file.execute_batch("ROLLBACK").unwrap();
                // As long as SQLite waits at most before it looks again.
                if ends || ended.recv_timeout(Duration::from_millis(110)).is_ok() {
                    return;
                }
            }
        });
        slow.await.unwrap();
        Self { given_back, end, thread }
    }

    fn end(self) {
        let _ = self.end.send(());
        self.thread.join().unwrap();
    }
}

/// A model that does not answer for 30 seconds.
async fn slow_model() -> (Setup, TcpListener) {
    crate::crypto();
    // Connections are made, and nobody ever reads them.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", nobody.local_addr().unwrap());
    let config = HttpProviderConfig { timeout_ms: 30_000, ..HttpProviderConfig::new(&base, SecretString::from("key")) };
    let provider = move || Vendor::OpenAi.provider(&config);
    (Setup { provider: Some(Arc::new(provider)), ..Setup::default() }, nobody)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_every_ack_comes_in_time_with_a_slow_store_a_slow_model_and_200_events_a_second() {
    const EVENTS: u32 = 600;
    let (setup, _nobody) = slow_model().await;
    let stage = Stage::new(setup).await;
    let slowed = Slowed::new(&stage.world).await;
    let ann = stage.fake.person("T1", "U1");
    let mut beat = tokio::time::interval(Duration::from_millis(5));
    let mut sent: Vec<JoinHandle<Acked>> = Vec::new();
    let mut roots = Vec::new();
    for number in 0..EVENTS {
        beat.tick().await;
        let root = ann.write("C1", None, &format!("<@UBOTT1> task {number}"), &[]);
        // The mention alone: one event for each message.
        let delivery = ann.deliveries("C1", &root).remove(0);
        let fake: Handle = stage.fake.handle();
        sent.push(tokio::spawn(async move { fake.send(&delivery).await }));
        roots.push(root);
    }
    let mut worst = Duration::ZERO;
    for acked in sent {
        let acked = acked.await.unwrap();
        // The fake answers 504 itself after three seconds.
        assert_eq!(acked.status, 200);
        worst = worst.max(acked.took);
    }
    slowed.end();
    assert!(worst > Duration::from_millis(300), "the store was not slow: {worst:?}");
    for (number, root) in roots.iter().enumerate() {
        assert_eq!(stage.said(root).await, [format!("task {number}")]);
    }
    stage.world.runtime.begin_drain();
    stage.finish().await;
}

#[tokio::test]
async fn s1_nothing_is_acknowledged_before_it_is_in_the_log() {
    let (setup, _nobody) = slow_model().await;
    let stage = Stage::new(setup).await;
    let slowed = Slowed::new(&stage.world).await;
    let ann = stage.fake.person("T1", "U1");
    let root = ann.write("C1", None, "<@UBOTT1> task", &[]);
    // One delivery: a second one of this message would wait for the first.
    assert_eq!(stage.fake.send(&ann.deliveries("C1", &root)[0]).await.status, 200);
    // Nobody could write before.
    assert!(slowed.given_back.load(Ordering::SeqCst) > 0, "it was acknowledged before it could be kept");
    assert_eq!(stage.said(&root).await, ["task"]);
    slowed.end();
    stage.world.runtime.begin_drain();
    stage.finish().await;
}

#[tokio::test]
async fn s16_connections_that_are_replaced_under_load_lose_nothing_and_double_nothing() {
    let (setup, _nobody) = slow_model().await;
    let stage = Stage::new(setup).await;
    let ann = stage.fake.person("T1", "U1");
    let root = ann.mention("C1", "begin").await;
    let mut expected = vec!["begin".to_owned()];
    for round in 0..5 {
        let mut sent = Vec::new();
        for number in 0..20 {
            let text = format!("message {round}.{number}");
            let ts = ann.write("C1", Some(&root), &text, &[]);
            let delivery = ann.deliveries("C1", &ts).remove(0);
            let fake = stage.fake.handle();
            sent.push(async move { fake.deliver(&delivery).await.status });
            expected.push(text);
        }
        let ids = stage.fake.until_sockets("A1", 2).await;
        let refresh = async {
            stage.fake.disconnect_socket(ids[round % 2], "refresh_requested");
            stage.fake.until_sockets("A1", 2).await;
        };
        let (statuses, ()) = tokio::join!(futures_util::future::join_all(sent), refresh);
        assert_eq!(statuses, [200; 20]);
    }
    // All of one conversation, each once. Two connections keep no order between them.
    let mut said = stage.said(&root).await;
    said.sort();
    expected.sort();
    assert_eq!(said, expected);
    stage.world.runtime.begin_drain();
    stage.finish().await;
}

#[tokio::test]
async fn messages_of_one_thread_stay_in_order_and_no_other_thread_waits_for_them() {
    let mut wire = Wire::start().await;
    let (setup, _nobody) = slow_model().await;
    let (world, front, _slack) = program(settings(&wire.api_url, Some("T1")), setup).await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(run_with(front.clone(), 0, times(), stop.clone()));
    let (mut one, mut two) = (wire.connection().await, wire.connection().await);
    let slowed = Slowed::new(&world).await;
    let said = |root: &str, ts: &str| {
        json!({"type": "message", "channel": "D1", "channel_type": "im", "user": "U1", "ts": ts, "thread_ts": root,
               "text": format!("at {ts}")})
    };
    let root = "1767225600.000100";
    for number in 1..=6 {
        let ts = format!("1767225600.00010{number}");
        one.deliver(&format!("e{number}"), said(root, &ts)).await;
    }
    two.deliver("other", said("1767225600.000900", "1767225600.000901")).await;
    assert_eq!(two.acked().await, "other");
    for number in 1..=6 {
        assert_eq!(one.acked().await, format!("e{number}"));
    }
    slowed.end();
    let loaded = world.runtime.parts().store.load(short("D1", root), 0).await.unwrap();
    let texts: Vec<String> = (1..)
        .zip(&loaded.events)
        .filter_map(|(seq, bytes)| match Event::decode(bytes, seq).unwrap().body {
            Body::MessageReceived { text, .. } => Some(text),
            _ => None,
        })
        .collect();
    let expected: Vec<String> = (1..=6).map(|number| format!("at 1767225600.00010{number}")).collect();
    assert_eq!(texts, expected);
    stop.cancel();
    soon("the end", task).await.unwrap();
    world.runtime.begin_drain();
}

#[tokio::test]
async fn what_was_taken_when_the_end_came_is_acknowledged_and_what_is_not_taken_is_not() {
    let mut wire = Wire::start().await;
    let (setup, _nobody) = slow_model().await;
    let (world, front, _slack) = program(settings(&wire.api_url, Some("T1")), setup).await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(run_with(front.clone(), 0, times(), stop.clone()));
    let (mut line, mut other) = (wire.connection().await, wire.connection().await);
    let message = |ts: &str| json!({"type": "message", "channel": "D1", "channel_type": "im", "user": "U1", "ts": ts, "text": "task"});
    let slowed = Slowed::new(&world).await;
    line.deliver("e1", message("1767225600.000100")).await;
    line.deliver("e2", nothing()).await;
    // Whoever is second has been read after the first.
    assert_eq!(line.acked().await, "e2");
    stop.cancel();
    assert_eq!(line.acked().await, "e1");
    assert_eq!((line.next().await, other.next().await), (None, None));
    slowed.end();
    soon("the end", task).await.unwrap();
    assert_eq!(world.runtime.parts().store.list(&Filter::default(), None, 10).await.unwrap().items.len(), 1);
    world.runtime.begin_drain();
}

#[tokio::test]
async fn s4_what_was_said_while_nobody_listened_is_read_afterwards() {
    let (setup, _nobody) = slow_model().await;
    let stage = Stage::new(setup).await;
    let (ann, bob) = (stage.fake.person("T1", "U1"), stage.fake.person("T1", "U2"));
    let root = ann.mention("C1", "begin").await;
    ann.say_in_thread("C1", &root, "one").await;
    // Events are left out: too many, or nobody was connected.
    let missed = bob.write("C1", Some(&root), "two", &[]);
    let elsewhere = bob.write("C1", None, "<@UBOTT1> another task", &[]);
    bob.write("C1", None, "not meant for the agent", &[]);
    bob.write("C1", Some(&root), "status", &[]);
    bob.write("C1", None, "<@UBOTT1> help", &[]);
    assert_eq!(catch_up(&stage.front, "T1").await, 4, "both answers and what is new in the channel");
    assert_eq!(stage.said(&root).await, ["begin", "one", "two"]);
    assert_eq!(stage.said(&elsewhere).await, ["another task"]);
    // The deliveries come after all, and again; and so does the reading.
    for delivery in bob.deliveries("C1", &missed).iter().chain(&bob.deliveries("C1", &elsewhere)) {
        assert_eq!(stage.fake.deliver(delivery).await.status, 200);
    }
    catch_up(&stage.front, "T1").await;
    assert_eq!(stage.said(&root).await, ["begin", "one", "two"]);
    assert_eq!(stage.said(&elsewhere).await, ["another task"]);
    stage.world.runtime.begin_drain();
    stage.finish().await;
}

#[tokio::test]
async fn s4_a_notice_that_events_were_left_out_is_accepted_and_they_are_read() {
    let (setup, _nobody) = slow_model().await;
    let stage = Stage::new(setup).await;
    let ann = stage.fake.person("T1", "U1");
    let root = ann.mention("C1", "begin").await;
    ann.write("C1", Some(&root), "left out", &[]);
    let notice = stage.fake.rate_limited("T1");
    assert_eq!(stage.fake.send(&notice).await.status, 200);
    stage.front.idle().await;
    assert_eq!(stage.said(&root).await, ["begin", "left out"]);
    stage.world.runtime.begin_drain();
    stage.finish().await;
}

#[tokio::test]
async fn s4_after_a_time_without_any_connection_the_gap_is_read() {
    let (setup, _nobody) = slow_model().await;
    let stage = Stage::new(setup).await;
    let ann = stage.fake.person("T1", "U1");
    let root = ann.mention("C1", "begin").await;
    ann.write("C1", Some(&root), "said into the silence", &[]);
    for id in stage.fake.until_sockets("A1", 2).await {
        stage.fake.sever_socket(id);
    }
    stage.until_said(&root, &["begin", "said into the silence"]).await;
    stage.world.runtime.begin_drain();
    stage.finish().await;
}

#[tokio::test]
async fn s4_what_was_left_out_is_read_whatever_came_after_it() {
    let (setup, _nobody) = slow_model().await;
    let stage = Stage::new(setup).await;
    let (ann, bob) = (stage.fake.person("T1", "U1"), stage.fake.person("T1", "U2"));
    let root = ann.mention("C1", "begin").await;
    ann.write("C1", Some(&root), "left out", &[]);
    bob.say_in_thread("C1", &root, "delivered").await;
    let fresh = bob.write("C1", None, "<@UBOTT1> another task", &[]);
    bob.write("C1", Some(&fresh), "and more about it", &[]);
    catch_up(&stage.front, "T1").await;
    assert_eq!(stage.said(&root).await, ["begin", "delivered", "left out"]);
    assert_eq!(stage.said(&fresh).await, ["another task", "and more about it"]);
    stage.world.runtime.begin_drain();
    stage.finish().await;
}

#[tokio::test]
async fn what_people_said_before_the_agent_joined_is_not_said_to_it_by_catching_up() {
    let (setup, _nobody) = slow_model().await;
    let stage = Stage::new(setup).await;
    let (ann, bob) = (stage.fake.person("T1", "U1"), stage.fake.person("T1", "U2"));
    let root = bob.write("C1", None, "among ourselves", &[]);
    bob.write("C1", Some(&root), "delete everything", &[]);
    ann.mention_in("C1", &root, "join us").await;
    bob.write("C1", Some(&root), "left out", &[]);
    catch_up(&stage.front, "T1").await;
    assert_eq!(stage.said(&root).await, ["join us", "left out"]);
    stage.world.runtime.begin_drain();
    stage.finish().await;
}

#[tokio::test]
async fn s4_a_second_gap_does_not_hide_a_first_one_that_was_not_read() {
    let (setup, _nobody) = slow_model().await;
    let stage = Stage::new(setup).await;
    let ann = stage.fake.person("T1", "U1");
    let root = ann.mention("C1", "begin").await;
    ann.write("C1", Some(&root), "before", &[]);
    stage.cut().await;
    stage.mend().await;
    stage.until_said(&root, &["begin", "before"]).await;
    // Nothing can be read while the workspace is not connected.
    stage.front.slack().disconnect("T1");
    stage.cut().await;
    ann.write("C1", Some(&root), "in the first gap", &[]);
    stage.mend().await;
    stage.world.clock.advance_ms(10 * 60 * 1_000);
    stage.fake.clock().advance_ms(10 * 60 * 1_000);
    stage.cut().await;
    stage.mend().await;
    assert!(stage.front.slack().connect().await);
    stage.until_said(&root, &["begin", "before", "in the first gap"]).await;
    stage.world.runtime.begin_drain();
    stage.finish().await;
}

#[tokio::test]
async fn s20_a_socket_speaks_for_the_workspaces_of_its_own_app_alone() {
    let mut wire = Wire::start().await;
    let mut settings = settings(&wire.api_url, Some("T1"));
    let another = WorkspaceSettings {
        team: Some("T2".to_owned()),
        app_token: Some(SecretString::from("xapp-test-A2")),
        ..settings.workspaces[0].clone()
    };
    settings.workspaces.push(another);
    let (world, front, slack) = program(settings, Setup::default()).await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(run_with(front.clone(), 0, times(), stop.clone()));
    let running = Running { world, front, slack, stop, task };
    let mut line = wire.connection().await;
    for (id, team) in [("e1", "T2"), ("e2", "T1")] {
        let mut said = envelope(
            id,
            json!({"type": "app_mention", "user": "U1", "channel": "C1", "text": "<@UBOT> look",
            "team": team, "ts": "1767225600.000100", "event_ts": "1767225600.000100"}),
        );
        said["payload"]["team_id"] = json!(team);
        said["payload"]["authorizations"][0]["team_id"] = json!(team);
        line.say(&said).await;
        assert_eq!(line.acked().await, id);
    }
    let threads = running.world.runtime.parts().store.list(&Filter::default(), None, 10).await.unwrap().items;
    assert_eq!(threads.iter().map(|t| t.thread.as_str()).collect::<Vec<_>>(), ["slack:T1:C1:1767225600.000100"]);
    running.has(r#"twelve_channel_deliveries_total{channel="slack",kind="foreign",outcome="ignored"} 1"#);
    running.stopped().await;
}

#[tokio::test]
async fn s20_a_token_without_a_team_is_for_no_team_before_slack_says_so_nor_after_it_is_gone() {
    let fake = FakeSlack::start(&Clock::manual(START)).await;
    fake.ignore_private();
    let (world, front, slack) = program(settings(&fake.api_url(), None), Setup::default()).await;
    let says = async |team: &str, ts: &str| {
        let mut said = envelope(
            "e1",
            json!({"type": "app_mention", "user": "U1", "channel": "C1", "text": "look",
            "team": team, "ts": ts, "event_ts": ts}),
        );
        said["payload"]["team_id"] = json!(team);
        said["payload"]["authorizations"][0]["team_id"] = json!(team);
        let ack = front.take(Envelope::Event(said["payload"].take())).await;
        let threads = world.runtime.parts().store.list(&Filter::default(), None, 10).await.unwrap().items;
        (ack, threads.len())
    };
    // Slack delivers again what is put off.
    assert_eq!(says("T1", "1767225600.000100").await, (Ack::Again, 0));
    assert_eq!(says("T7", "1767225600.000100").await, (Ack::Again, 0));
    assert!(slack.connect().await);
    assert_eq!(says("T7", "1767225600.000100").await, (Ack::Empty, 0));
    assert_eq!(says("T1", "1767225600.000100").await, (Ack::Empty, 1));
    world.runtime.settle().await.unwrap();
    let gone = fake.uninstalled("T1");
    assert_eq!(front.take(Envelope::Event(gone.body.clone())).await, Ack::Empty);
    assert_eq!(says("T7", "1767225600.000200").await, (Ack::Empty, 1));
    assert_eq!(says("T1", "1767225600.000200").await, (Ack::Empty, 1));
    // It works again.
    fake.team("T1", |t| t.refused = None);
    assert!(slack.connect().await);
    assert_eq!(says("T1", "1767225600.000200").await, (Ack::Empty, 2));
    world.runtime.settle().await.unwrap();
}
