//! Socket Mode: what the loop does on the wire (against a server that a test holds in its hand), and what comes of
//! deliveries (against the fake Slack).

use std::collections::BTreeMap;
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
use twelve::chat::slack::socket::{Times, run_with};
use twelve::chat::slack::{Front, FrontSettings};
use twelve::metrics::Sampled;
use twelve::platform::Platforms;
use twelve::platform::slack::{Slack, SlackSettings, WorkspaceSettings};

use crate::world::{Setup, World};

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
        pace: Default::default(),
    }
}

pub fn front_settings() -> FrontSettings {
    FrontSettings {
        agent: "tester".to_owned(),
        channels: BTreeMap::new(),
        stop_reaction: "octagonal_sign".to_owned(),
        progress: true,
        command: "/agent".to_owned(),
        operators: Vec::new(),
    }
}

/// A program over a Slack at this address.
pub async fn program(settings: SlackSettings, setup: Setup) -> (World, Front, Slack) {
    crate::crypto();
    let slack = Slack::new(settings).unwrap();
    let platforms = Platforms { console: None, slack: Some(slack.clone()) };
    let world = World::with(Setup { platforms, ..setup }).await;
    let front = Front::new(world.runtime.clone(), slack.clone(), front_settings());
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
    slack: Slack,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn over(wire: &Wire, times: Times) -> Self {
        let (world, front, slack) = program(settings(&wire.api_url, Some("T1")), Setup::default()).await;
        let stop = CancellationToken::new();
        let task = tokio::spawn(run_with(front, 0, times, stop.clone()));
        Self { world, slack, stop, task }
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
    for id in ["e1", "e2"] {
        old.deliver(id, nothing()).await;
        assert_eq!(old.acked().await, id);
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
