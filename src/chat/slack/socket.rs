//! Socket Mode: envelopes over sockets that we dial.
//!
//! It owns the connections: dialling, keeping them alive, replacing one before Slack closes it, what is wrong with
//! them in words. What an envelope means is [`Front::take`]'s, which is the same for HTTP.
//!
//! # An envelope
//! Read, put into the lane of its conversation, taken ([`Front::take`] appends), and only then acknowledged on the
//! connection that it came by. Envelopes of one lane are taken one after the other, in the order in which they came,
//! whichever connection brought them; lanes do not wait for each other. What is not taken is not acknowledged, so
//! Slack delivers it again; what nobody can read is counted, kept ([`super::odd`]) and acknowledged,
//! because it would not get better.
//!
//! # Connections
//! Two for each app, so that one of them is there while the other one is dialled anew. When Slack announces that it
//! will close one, the next is open before the old one is given up, and what the old one has brought is acknowledged
//! by it. After a time without any connection, what was said meanwhile is read ([`super::catch_up()`]).
//!
//! The address that Slack gives for dialling holds a ticket: it is never logged, nor are bodies.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _, future};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Ack, Front, catch_up};
use crate::agent::Timestamp;
use crate::platform::slack::SURFACE;
use crate::platform::slack::inbound::{Envelope, team_of};

/// Connections of one app. Slack allows ten, so there can be five processes.
const CONNECTIONS: usize = 2;
/// Envelopes that are taken or wait for their turn; reading pauses above it. Slack waits three seconds for an
/// acknowledgement, so this is what it can have under way at 300 a second.
const TAKES: usize = 1_000;
/// Largest message that is read, in bytes. A larger one costs the connection, so it is above the 1 MB of HTTP.
const MAX_MESSAGE: usize = 4 << 20;
/// Bytes that are read at once.
const READ_BUFFER: usize = 16 << 10;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long what may take.
#[derive(Clone, Debug)]
pub struct Times {
    /// From dialling until Slack has said hello.
    pub dial: Duration,
    /// One write.
    pub write: Duration,
    /// One delivery until it is durable. Slack delivers again after three seconds.
    pub take: Duration,
    /// We ask whether Slack is still there this often.
    pub ping: Duration,
    /// Without anything at all for so long, the connection is dead.
    pub silence: Duration,
    /// An old connection is still read for so long after the new one is open.
    pub linger: Duration,
    /// What was taken is acknowledged within this before a connection is closed.
    pub drain: Duration,
    /// For Slack's answer when we close.
    pub close: Duration,
    /// First wait before dialling again; doubles up to `backoff_cap`, with jitter.
    pub backoff: Duration,
    pub backoff_cap: Duration,
    /// Wait when only a person can help: Socket Mode is turned off, the token is wrong.
    pub slowly: Duration,
    /// A connection that stood for so long was none that failed.
    pub settled: Duration,
    /// How often it is looked for workspaces that have come up and have not been caught up with.
    pub look: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            dial: seconds(15),
            write: seconds(10),
            take: seconds(30),
            ping: seconds(10),
            silence: seconds(35),
            linger: seconds(2),
            // With what closing takes less than the three seconds that Slack waits.
            drain: seconds(2),
            close: Duration::from_millis(500),
            backoff: Duration::from_millis(500),
            backoff_cap: seconds(30),
            slowly: seconds(60),
            settled: seconds(3),
            look: seconds(2),
        }
    }
}

/// Keeps the connections of the app whose token the workspace `index` of the settings has. Ends when `stop` is
/// cancelled and what was taken is acknowledged; at once if there is no such token.
pub async fn run(front: Front, index: usize, stop: CancellationToken) {
    run_with(front, index, Times::default(), stop).await;
}

/// [`run`] with other times.
pub async fn run_with(front: Front, index: usize, times: Times, stop: CancellationToken) {
    let Some(app) = App::new(front, index, times, stop) else { return };
    let app = Arc::new(app);
    let connections = future::join_all((0..CONNECTIONS).map(|_| app.keep()));
    tokio::join!(connections, app.keep_up());
    // Connections that are being closed.
    app.tasks.close();
    let bound = app.times.drain + app.times.drain + app.times.close;
    if timeout(bound, app.tasks.wait()).await.is_err() {
        tracing::warn!(slack.socket = %app.name, "stopping before all deliveries are taken; Slack delivers them again");
    }
}

/// One app, and what its connections share.
struct App {
    front: Front,
    token: SecretString,
    /// Workspaces of the settings that this app is installed in.
    indexes: BTreeSet<usize>,
    /// What troubles are noted under.
    name: String,
    times: Times,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// One for each envelope that is taken or waits.
    permits: Arc<Semaphore>,
    /// What waits by conversation. A lane is there while somebody works on it.
    lanes: Mutex<HashMap<String, VecDeque<Job>>>,
    line: Mutex<Line>,
    /// The line is up again after a gap.
    came_up: Notify,
}

/// Whether anything can reach us.
#[derive(Default)]
struct Line {
    /// Connections that are open.
    up: usize,
    /// Since when none was, or was ever.
    deaf_since: Option<Timestamp>,
    /// Since when each workspace (of the settings) is to be read: the beginning of its first gap that was not read
    /// to the end; `None`: since long.
    owed: BTreeMap<usize, Option<Timestamp>>,
    /// Why the last connection was lost, if none was opened since.
    why: Option<String>,
}

impl Line {
    fn owe(&mut self, index: usize, since: Option<Timestamp>) {
        // `None` is before all others.
        self.owed.entry(index).and_modify(|first| *first = since.min(*first)).or_insert(since);
    }
}

/// A delivery on its way.
struct Job {
    id: String,
    envelope: Envelope,
    /// Whether the acknowledgement may carry an answer.
    answerable: bool,
    acks: mpsc::Sender<Value>,
    _permit: OwnedSemaphorePermit,
}

/// Why a connection is to be replaced.
#[derive(Debug, PartialEq)]
enum Leave {
    /// Slack is about to close it.
    Refresh,
    /// It is gone, or should be.
    Lost(String),
    /// Only a person can help.
    Refused(String),
}

/// A connection that is served by its own task.
struct Standing {
    retire: CancellationToken,
    leave: oneshot::Receiver<Leave>,
    since: Instant,
}

impl App {
    fn new(front: Front, index: usize, times: Times, stop: CancellationToken) -> Option<Self> {
        let settings = front.0.slack.settings();
        let first = settings.workspaces.get(index)?;
        let token = first.app_token.clone()?;
        let indexes = settings.apps().into_iter().find(|app| app.contains(&index))?.into_iter().collect();
        let name = first.team.as_ref().map_or_else(|| "socket".to_owned(), |team| format!("socket of {team}"));
        Some(Self {
            token,
            indexes,
            name,
            times,
            stop,
            front,
            tasks: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(TAKES)),
            lanes: Mutex::default(),
            line: Mutex::default(),
            came_up: Notify::new(),
        })
    }

    /// Keeps one connection until the end: dials, waits for a reason to leave it, dials again.
    async fn keep(self: &Arc<Self>) {
        let mut failures = 0;
        let mut old: Option<Standing> = None;
        loop {
            let dialled = tokio::select! {
                () = self.stop.cancelled() => return,
                dialled = self.dial() => dialled,
            };
            let leave = match dialled {
                Ok(socket) => {
                    let mut new = self.stand(socket);
                    if let Some(old) = old.take() {
                        old.retire.cancel();
                    }
                    // Its task ends by itself when all is stopped.
                    let left = (&mut new.leave).await;
                    failures = if new.since.elapsed() < self.times.settled { failures + 1 } else { 0 };
                    let leave = left.unwrap_or_else(|_| Leave::Lost("it broke".to_owned()));
                    if leave == Leave::Refresh {
                        old = Some(new);
                    } else {
                        new.retire.cancel();
                    }
                    leave
                }
                Err(leave) => {
                    failures += 1;
                    leave
                }
            };
            if self.stop.is_cancelled() {
                return;
            }
            let wait = if failures == 0 { Duration::ZERO } else { self.backoff(failures) };
            let wait = match leave {
                Leave::Refresh => wait,
                Leave::Lost(why) => {
                    let (name, wait_ms) = (&self.name, wait.as_millis() as u64);
                    tracing::warn!(slack.socket = %name, why, wait_ms, "no connection to Slack; dialling again");
                    self.note_trouble(format!("no connection: {why}; trying again"));
                    wait
                }
                Leave::Refused(why) => {
                    tracing::error!(slack.socket = %self.name, why, "Slack lets no socket connect");
                    self.note_trouble(why);
                    self.times.slowly
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// Half of it at least, and never the same for all that lost their connection at the same moment.
    fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.times.backoff.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.times.backoff_cap).mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// People are told only when nothing at all reaches us, which may be later: when the other connection ends.
    fn note_trouble(&self, why: String) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.why = Some(why.clone());
        if line.up == 0 {
            self.front.0.slack.trouble(&self.name, Some(why));
        }
    }

    /// A connection over which Slack has said hello.
    async fn dial(&self) -> Result<Socket, Leave> {
        let slack = &self.front.0.slack;
        let opened = slack.0.api.call(&self.token, "apps.connections.open", &json!({})).await.map_err(|error| {
            match error.is_transient() {
                true => Leave::Lost(error.to_string()),
                false => Leave::Refused(refusal(&error.code, &error.to_string())),
            }
        })?;
        let url = opened.get("url").and_then(Value::as_str).unwrap_or_default();
        // A ticket is as good as a token: it goes in plain text nowhere but to a test's own machine.
        let plain = slack.settings().api_url.starts_with("http://");
        if !(url.starts_with("wss://") || (plain && url.starts_with("ws://"))) {
            return Err(Leave::Lost("Slack gave no wss:// address to connect to".to_owned()));
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let connecting = async {
            let (mut socket, _) = connect_async_with_config(url, Some(config), true).await.map_err(|e| lost(&e))?;
            while let Some(message) = socket.next().await {
                let Message::Text(text) = message.map_err(|e| lost(&e))? else { continue };
                return match read(&text) {
                    Frame::Hello => Ok(socket),
                    Frame::Disconnect(reason) => Err(leaving(&reason)),
                    Frame::Delivery { .. } | Frame::Odd { .. } => {
                        Err(Leave::Lost("Slack did not say hello".to_owned()))
                    }
                };
            }
            Err(Leave::Lost("Slack closed the connection before it said hello".to_owned()))
        };
        let late = |_| Leave::Lost(format!("Slack said no hello within {} s", self.times.dial.as_secs_f64()));
        timeout(self.times.dial, connecting).await.map_err(late)?
    }

    /// Serves a connection on a task of its own.
    fn stand(self: &Arc<Self>, socket: Socket) -> Standing {
        let (told, leave) = oneshot::channel();
        let retire = CancellationToken::new();
        let up = Up::new(self.clone());
        let (app, retired) = (self.clone(), retire.clone());
        self.tasks.spawn(async move {
            app.serve(socket, up, &retired, told).await;
        });
        Standing { retire, leave, since: Instant::now() }
    }

    /// Reads envelopes and writes acknowledgements until there is a reason to end. Envelopes are read until all is
    /// stopped, or for a while after this connection has been replaced; then what was taken is still acknowledged.
    async fn serve(
        self: &Arc<Self>,
        mut socket: Socket,
        up: Up,
        retire: &CancellationToken,
        told: oneshot::Sender<Leave>,
    ) {
        let metrics = &self.front.0.runtime.parts().metrics;
        let mut told = Some(told);
        let mut tell = |leave: Leave| drop(told.take().map(|told| told.send(leave)));
        // Room for all that can be under way: whoever has an acknowledgement never waits here.
        let (sender, mut acks) = mpsc::channel::<Value>(TAKES);
        let mut sender = Some(sender);
        let mut permit = None;
        let (mut heard, mut end) = (Instant::now(), None);
        let mut ping = interval(self.times.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let reading = sender.is_some();
            tokio::select! {
                biased;
                ack = acks.recv() => {
                    // No sender is left: everything that was taken is acknowledged.
                    let Some(ack) = ack else { break };
                    let sent = timeout(self.times.write, socket.send(Message::text(ack.to_string()))).await;
                    if let Some(leave) = unsent(sent) {
                        return tell(leave);
                    }
                }
                () = self.stop.cancelled(), if reading => {
                    (sender, end) = (None, Some(Instant::now() + self.times.drain));
                }
                () = retire.cancelled(), if reading && end.is_none() => {
                    end = Some(Instant::now() + self.times.linger);
                }
                () = sleep_until(end.unwrap_or(heard)), if end.is_some() => {
                    if sender.take().is_none() {
                        tracing::warn!(slack.socket = %self.name, "not all that came is taken; Slack delivers it again");
                        break;
                    }
                    end = Some(Instant::now() + self.times.drain);
                }
                _ = ping.tick() => {
                    if reading && permit.is_some() && heard.elapsed() > self.times.silence {
                        return tell(Leave::Lost(format!("nothing came for {} s", self.times.silence.as_secs_f64())));
                    }
                    let sent = timeout(self.times.write, socket.send(Message::Ping(Default::default()))).await;
                    if let Some(leave) = unsent(sent) {
                        return tell(leave);
                    }
                }
                // Nothing is read that there is no room for.
                room = self.permits.clone().acquire_owned(), if reading && permit.is_none() => {
                    (permit, heard) = (room.ok(), Instant::now());
                }
                message = socket.next(), if reading && permit.is_some() => {
                    heard = Instant::now();
                    let text = match message {
                        Some(Ok(Message::Text(text))) => text,
                        // Pings are answered by the library. There are no binary messages.
                        Some(Ok(Message::Close(_))) | None => return tell(Leave::Lost("Slack closed it".to_owned())),
                        Some(Ok(_)) => continue,
                        Some(Err(error)) => return tell(lost(&error)),
                    };
                    match (read(&text), &sender, permit.take()) {
                        (Frame::Delivery { id, lane, envelope, answerable }, Some(acks), Some(permit)) => {
                            self.put(lane, Job { id, envelope, answerable, acks: acks.clone(), _permit: permit });
                        }
                        (Frame::Disconnect(reason), _, _) => {
                            metrics.channel_disconnected(SURFACE, &reason);
                            let reason_known = known_reason(&reason);
                            tracing::info!(slack.socket = %self.name, reason = reason_known, "Slack ends a connection");
                            let leave = leaving(&reason);
                            if matches!(leave, Leave::Refused(_)) {
                                // There is no next one to wait for.
                                (sender, end) = (None, Some(Instant::now() + self.times.drain));
                            }
                            tell(leave);
                        }
                        (Frame::Odd { id, why }, acks, _) => {
                            metrics.channel_unreadable(SURFACE);
                            tracing::warn!(slack.socket = %self.name, why, "Slack sent something that cannot be read");
                            let said = serde_json::from_str(&text).unwrap_or_else(|_| json!(text.as_str()));
                            self.front.keep_odd("socket", why, said);
                            if let (Some(id), Some(acks)) = (id, acks) {
                                // It has room: the permit is ours.
                                let _ = acks.try_send(acknowledge(&id, None));
                            }
                        }
                        (Frame::Hello, _, _) | (Frame::Delivery { .. }, _, _) => {}
                    }
                }
            }
        }
        tell(Leave::Lost("it was closed".to_owned()));
        drop(up);
        // Slack often leaves the answer out.
        let closing = async {
            let _ = socket.close(None).await;
            while let Some(Ok(_)) = socket.next().await {}
        };
        let _ = timeout(self.times.close, closing).await;
    }

    /// Takes a delivery when those of its lane that came before it are taken.
    fn put(self: &Arc<Self>, lane: Option<String>, job: Job) {
        let Some(lane) = lane else {
            let app = self.clone();
            drop(self.tasks.spawn(async move { app.take(job).await }));
            return;
        };
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = lanes.get_mut(&lane) {
            waiting.push_back(job);
            return;
        }
        lanes.insert(lane.clone(), VecDeque::new());
        let app = self.clone();
        self.tasks.spawn(async move {
            let mut next = Some(job);
            while let Some(job) = next {
                app.take(job).await;
                let mut lanes = app.lanes.lock().unwrap_or_else(PoisonError::into_inner);
                next = lanes.get_mut(&lane).and_then(VecDeque::pop_front);
                if next.is_none() {
                    lanes.remove(&lane);
                }
            }
        });
    }

    /// Takes a delivery, and acknowledges it if it is durable.
    async fn take(&self, job: Job) {
        let Job { id, envelope, answerable, acks, _permit } = job;
        // An app speaks for the workspaces that it is installed in, whatever its envelopes say.
        if let Some(team) = team_of(&envelope)
            && !self.front.0.slack.vouches(self.indexes.iter().copied(), &team)
        {
            tracing::warn!(slack.socket = %self.name, slack.team = team, "a delivery for another app's team was ignored");
            self.front.0.runtime.parts().metrics.delivery(SURFACE, "foreign", "ignored");
            let _ = acks.try_send(acknowledge(&id, None));
            return;
        }
        // Whatever breaks in there, the lane goes on.
        let taking = AssertUnwindSafe(self.front.take(envelope)).catch_unwind();
        let answer = match timeout(self.times.take, taking).await {
            Ok(Ok(Ack::Json(answer))) => Some(answer),
            Ok(Ok(Ack::Text(text))) => Some(json!({"text": text})),
            Ok(Ok(Ack::Empty)) => None,
            Ok(Ok(Ack::Again)) => return,
            Ok(Err(_)) => return tracing::error!("taking a delivery of Slack's broke; it is not acknowledged"),
            Err(_) => return tracing::error!("a delivery of Slack's was not kept in time; it is not acknowledged"),
        };
        // If the connection is gone, Slack delivers it again, and the log knows it.
        let _ = acks.try_send(acknowledge(&id, answer.filter(|_| answerable)));
    }

    /// Reads what was said while nothing could reach us: for each workspace after each gap, and at the start.
    async fn keep_up(&self) {
        loop {
            let owes = !self.line.lock().unwrap_or_else(PoisonError::into_inner).owed.is_empty();
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.came_up.notified() => {}
                () = sleep(self.times.look), if owes => {}
            }
            for workspace in self.front.0.slack.workspaces() {
                let since = {
                    let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
                    if line.up == 0 { None } else { line.owed.remove(&workspace.index) }
                };
                let Some(since) = since else { continue };
                let mut handed = 0;
                let whole = tokio::select! {
                    () = self.stop.cancelled() => return,
                    whole = catch_up::since(&self.front, &workspace.team, since, &mut handed) => whole,
                };
                if !whole {
                    self.line.lock().unwrap_or_else(PoisonError::into_inner).owe(workspace.index, since);
                }
            }
        }
    }
}

/// Counts a connection as open while it is there.
struct Up(Arc<App>);

impl Up {
    fn new(app: Arc<App>) -> Self {
        {
            let mut line = app.line.lock().unwrap_or_else(PoisonError::into_inner);
            line.up += 1;
            line.why = None;
            if line.up == 1 {
                let since = line.deaf_since.take();
                for index in &app.indexes {
                    line.owe(*index, since);
                }
            }
            app.front.0.slack.trouble(&app.name, None);
        }
        app.front.0.runtime.parts().metrics.channel_connected(SURFACE);
        tracing::info!(slack.socket = %app.name, "connected to Slack");
        app.came_up.notify_one();
        Self(app)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let mut line = self.0.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.up = line.up.saturating_sub(1);
        if line.up == 0 {
            line.deaf_since = Some(self.0.front.0.runtime.parts().clock.now());
            if let Some(why) = line.why.take() {
                self.0.front.0.slack.trouble(&self.0.name, Some(why));
            }
        }
        self.0.front.0.runtime.parts().metrics.channel_closed(SURFACE);
    }
}

/// One message of the socket.
#[derive(Debug, PartialEq)]
enum Frame {
    Hello,
    Disconnect(String),
    Delivery {
        id: String,
        lane: Option<String>,
        envelope: Envelope,
        answerable: bool,
    },
    /// Not what the documentation says; `why` names no content.
    Odd {
        id: Option<String>,
        why: &'static str,
    },
}

/// Reads a message of the socket. Total.
fn read(text: &str) -> Frame {
    let Ok(Value::Object(mut message)) = serde_json::from_str(text) else {
        return Frame::Odd { id: None, why: "it is no JSON object" };
    };
    let word = |name: &str| message.get(name).and_then(Value::as_str).map(str::to_owned);
    let (kind, id, reason) = (word("type").unwrap_or_default(), word("envelope_id"), word("reason"));
    let answerable = message.get("accepts_response_payload").and_then(Value::as_bool).unwrap_or(false);
    let id = match (kind.as_str(), id) {
        ("hello", _) => return Frame::Hello,
        ("disconnect", _) => return Frame::Disconnect(reason.unwrap_or_default()),
        (_, Some(id)) => id,
        (_, None) => return Frame::Odd { id: None, why: "it has no envelope_id" },
    };
    let payload = match message.remove("payload") {
        Some(payload @ Value::Object(_)) => payload,
        Some(_) | None => return Frame::Odd { id: Some(id), why: "it has no payload" },
    };
    let lane = lane(&payload);
    let envelope = match kind.as_str() {
        "events_api" => Envelope::Event(payload),
        "interactive" => Envelope::Interaction(payload),
        "slash_commands" => Envelope::Command(payload),
        _ => return Frame::Odd { id: Some(id), why: "its type is not known" },
    };
    Frame::Delivery { id, lane, envelope, answerable }
}

/// What a delivery is about: whatever comes of the same conversation is taken in order. `None`: nothing waits for it.
fn lane(payload: &Value) -> Option<String> {
    let first = |paths: &[&str]| paths.iter().find_map(|path| payload.pointer(path).and_then(Value::as_str));
    let channel = first(&["/event/channel", "/event/item/channel", "/container/channel_id", "/channel/id"]);
    let thread = first(&[
        "/event/thread_ts",
        "/event/message/thread_ts",
        "/event/previous_message/thread_ts",
        "/event/message/ts",
        "/event/deleted_ts",
        "/event/item/ts",
        "/event/ts",
        "/container/thread_ts",
        "/container/message_ts",
        "/message/thread_ts",
        "/message/ts",
    ]);
    let team = first(&["/team_id", "/team/id", "/user/team_id"]).unwrap_or_default();
    match (channel, thread, first(&["/view/id", "/container/view_id"])) {
        (Some(channel), Some(thread), _) => Some(format!("{team}/{channel}/{thread}")),
        (_, _, Some(view)) => Some(format!("{team}/{view}")),
        _ => None,
    }
}

fn acknowledge(id: &str, answer: Option<Value>) -> Value {
    match answer {
        Some(answer) => json!({"envelope_id": id, "payload": answer}),
        None => json!({"envelope_id": id}),
    }
}

/// What Slack's reason to disconnect means.
fn leaving(reason: &str) -> Leave {
    match reason {
        "link_disabled" => Leave::Refused(refusal(reason, reason)),
        "too_many_websockets" => Leave::Refused(
            "the app has ten connections already (too_many_websockets); stop other processes with this app token"
                .to_owned(),
        ),
        // `warning`, `refresh_requested`, and what may come to be.
        _ => Leave::Refresh,
    }
}

fn known_reason(reason: &str) -> &'static str {
    let known = ["warning", "refresh_requested", "link_disabled", "too_many_websockets"];
    known.into_iter().find(|known| *known == reason).unwrap_or("other")
}

/// What a person has to do before Slack lets us connect.
fn refusal(code: &str, words: &str) -> String {
    let next = match code {
        "link_disabled" => {
            return "Socket Mode is turned off for this app (link_disabled); turn it on at api.slack.com/apps under \
                    Socket Mode, or set slack.signing_secret and use HTTP"
                .to_owned();
        }
        "missing_scope" => "give the app-level token the scope connections:write, under Basic Information",
        "invalid_auth"
        | "not_authed"
        | "token_revoked"
        | "token_expired"
        | "account_inactive"
        | "not_allowed_token_type" => {
            "make a new app-level token (xapp-…) with the scope connections:write, under Basic Information, and set \
             SLACK_APP_TOKEN"
        }
        _ => "look at the app's settings at api.slack.com/apps",
    };
    format!("{words}; {next}")
}

fn unsent(sent: Result<Result<(), Error>, tokio::time::error::Elapsed>) -> Option<Leave> {
    match sent {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(lost(&error)),
        Err(_) => Some(Leave::Lost("Slack does not read".to_owned())),
    }
}

/// Why a connection is lost. The library's own words may hold the address, and with it the ticket.
fn lost(error: &Error) -> Leave {
    let why = match error {
        Error::ConnectionClosed | Error::AlreadyClosed => "Slack closed it".to_owned(),
        Error::Io(error) => format!("network: {}", error.kind()),
        Error::Tls(_) => "the TLS handshake failed".to_owned(),
        Error::Capacity(_) => format!("a message was larger than {MAX_MESSAGE} bytes"),
        Error::Protocol(_) | Error::Utf8(_) | Error::AttackAttempt => "what came was no WebSocket".to_owned(),
        Error::WriteBufferFull(_) => "Slack does not read".to_owned(),
        Error::Url(_) | Error::HttpFormat(_) => "Slack gave an address that cannot be used".to_owned(),
        Error::Http(response) => format!("Slack answered {} to the dialling", response.status().as_u16()),
    };
    Leave::Lost(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_conversation_goes_in_one_lane() {
        let event = |event: Value| lane(&json!({"team_id": "T1", "event": event}));
        let root = Some("T1/C1/1.0".to_owned());
        assert_eq!(event(json!({"type": "message", "channel": "C1", "ts": "1.0"})), root);
        assert_eq!(event(json!({"type": "app_mention", "channel": "C1", "ts": "1.0"})), root);
        assert_eq!(event(json!({"type": "message", "channel": "C1", "ts": "2.0", "thread_ts": "1.0"})), root);
        let edited = json!({"type": "message", "subtype": "message_changed", "channel": "C1", "ts": "9.0",
            "message": {"ts": "2.0", "thread_ts": "1.0"}});
        assert_eq!(event(edited), root);
        let press = json!({"type": "block_actions", "team": {"id": "T1"}, "channel": {"id": "C1"},
            "container": {"type": "message", "channel_id": "C1", "message_ts": "5.0", "thread_ts": "1.0"}});
        assert_eq!(lane(&press), root);
        let view = json!({"type": "view_submission", "team": {"id": "T1"}, "view": {"id": "V1"}});
        assert_eq!(lane(&view), Some("T1/V1".to_owned()));
        assert_eq!(lane(&json!({"command": "/agent", "team_id": "T1", "channel_id": "C1"})), None);
    }

    #[test]
    fn what_cannot_be_read_keeps_its_envelope_id() {
        assert_eq!(read("{"), Frame::Odd { id: None, why: "it is no JSON object" });
        assert_eq!(read("[1]"), Frame::Odd { id: None, why: "it is no JSON object" });
        assert_eq!(read(r#"{"type":"events_api"}"#), Frame::Odd { id: None, why: "it has no envelope_id" });
        let id = Some("e1".to_owned());
        assert_eq!(
            read(r#"{"type":"events_api","envelope_id":"e1","payload":7}"#),
            Frame::Odd { id: id.clone(), why: "it has no payload" }
        );
        assert_eq!(
            read(r#"{"type":"new_thing","envelope_id":"e1","payload":{}}"#),
            Frame::Odd { id, why: "its type is not known" }
        );
    }

    #[test]
    fn the_words_for_a_lost_connection_never_hold_the_address() {
        use tokio_tungstenite::tungstenite::error::UrlError;
        let error = Error::Url(UrlError::UnableToConnect("wss://x.slack.example/?ticket=abc".to_owned()));
        assert_eq!(lost(&error), Leave::Lost("Slack gave an address that cannot be used".to_owned()));
    }
}
