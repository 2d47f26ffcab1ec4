//! Socket Mode, Slack's side: connections opened with tickets, envelopes, acknowledgements, refreshes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::{Handle, PATIENCE};

/// An acknowledgement has to come within this time.
pub const ACK: Duration = Duration::from_secs(3);

/// Connections of one app.
const MOST: usize = 10;

#[derive(Default)]
pub struct Sockets {
    connections: Mutex<Vec<Arc<Connection>>>,
    turn: AtomicU64,
}

struct Connection {
    id: u64,
    app: String,
    out: mpsc::UnboundedSender<Out>,
    /// By envelope id: whoever waits, and whether a payload may come along.
    waiting: Mutex<BTreeMap<String, (oneshot::Sender<Value>, bool)>>,
    open: AtomicBool,
    /// It was told to go: nothing new is sent over it.
    retiring: AtomicBool,
    pongs: AtomicU64,
}

enum Out {
    Text(String),
    Ping,
    Close,
    /// The connection breaks without a word.
    Sever,
}

/// How an envelope was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// With the payload, or null.
    Acked(Value),
    Late,
    /// The connection ended before.
    Lost,
    /// There was no connection.
    Nobody,
}

pub(super) async fn serve(fake: Handle, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        tokio::spawn(connection(fake.clone(), stream));
    }
}

// The library's own type of a refusal is that large.
#[allow(clippy::result_large_err)]
async fn connection(fake: Handle, stream: TcpStream) {
    let mut app = None;
    let accepted = tokio_tungstenite::accept_hdr_async(stream, |request: &Request, response: Response| {
        let query = super::web_api::pairs(request.uri().query().unwrap_or(""));
        let ticket = query.iter().find(|(name, _)| name == "ticket").map_or("", |(_, ticket)| ticket);
        app = fake.with(|s| s.apps.values_mut().find_map(|a| a.tickets.remove(ticket).then(|| a.id.clone())));
        if app.is_some() {
            return Ok(response);
        }
        let mut refused = ErrorResponse::new(Some("the ticket was used or never given".to_owned()));
        *refused.status_mut() = hyper::StatusCode::FORBIDDEN;
        Err(refused)
    })
    .await;
    let (Ok(mut socket), Some(app)) = (accepted, app) else { return };
    let disabled = fake.with(|s| s.apps[&app].socket_disabled);
    let others = fake.sockets_of(&app).len();
    let refused = if disabled { Some("link_disabled") } else { (others >= MOST).then_some("too_many_websockets") };
    if let Some(reason) = refused {
        if reason == "too_many_websockets" {
            fake.mind("more than 10 connections of one app");
        }
        let _ = socket.send(disconnect(reason).into()).await;
        let _ = socket.close(None).await;
        return;
    }
    let (out, mut orders) = mpsc::unbounded_channel();
    let connection = Arc::new(Connection {
        id: fake.0.sockets.turn.fetch_add(1, Ordering::SeqCst),
        app: app.clone(),
        out,
        waiting: Mutex::default(),
        open: AtomicBool::new(true),
        retiring: AtomicBool::new(false),
        pongs: AtomicU64::new(0),
    });
    let hello = json!({
        "type": "hello", "num_connections": others + 1, "connection_info": {"app_id": app},
        "debug_info": {"host": "applink-1", "build_number": 1, "approximate_connection_time": 18060},
    });
    if socket.send(hello.to_string().into()).await.is_err() {
        return;
    }
    fake.lock_connections().push(connection.clone());
    fake.with(|_| ());
    loop {
        tokio::select! {
            order = orders.recv() => {
                let sent = match order {
                    Some(Out::Text(text)) => socket.send(text.into()).await,
                    Some(Out::Ping) => socket.send(tungstenite::Message::Ping("Ping from applink-1".into())).await,
                    Some(Out::Close) => socket.close(None).await,
                    Some(Out::Sever) | None => break,
                };
                if sent.is_err() {
                    break;
                }
            }
            came = socket.next() => match came {
                Some(Ok(tungstenite::Message::Text(text))) => connection.take(&fake, &text),
                Some(Ok(tungstenite::Message::Ping(_))) => {}
                Some(Ok(tungstenite::Message::Pong(_))) => {
                    connection.pongs.fetch_add(1, Ordering::SeqCst);
                    fake.with(|_| ());
                }
                Some(Ok(tungstenite::Message::Close(_))) => {}
                Some(Ok(other)) => fake.mind(format!("a frame that Slack does not read: {other:?}")),
                Some(Err(_)) | None => break,
            }
        }
    }
    connection.open.store(false, Ordering::SeqCst);
    fake.lock_connections().retain(|c| c.id != connection.id);
    // Whoever waits learns that nothing will come.
    connection.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    fake.with(|_| ());
}

fn disconnect(reason: &str) -> String {
    json!({"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-1"}}).to_string()
}

impl Connection {
    fn take(&self, fake: &Handle, text: &str) {
        let Ok(Value::Object(ack)) = serde_json::from_str::<Value>(text) else {
            return fake.mind(format!("an acknowledgement that is no JSON object: {text}"));
        };
        let id = ack.get("envelope_id").and_then(Value::as_str).unwrap_or("");
        if ack.keys().any(|k| k != "envelope_id" && k != "payload") {
            fake.mind(format!("an acknowledgement with more than it may have: {text}"));
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let Some((answer, with_payload)) = waiting else {
            return fake.mind(format!("an acknowledgement that is late, doubled, or of another connection: {text}"));
        };
        let payload = ack.get("payload").cloned().unwrap_or_default();
        if !payload.is_null() && !with_payload {
            fake.mind(format!("a payload where none is accepted: {text}"));
        }
        let _ = answer.send(payload);
    }
}

impl Handle {
    fn lock_connections(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        self.0.sockets.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections of an app that are in use, oldest first.
    pub fn sockets_of(&self, app: &str) -> Vec<u64> {
        let all = self.lock_connections();
        all.iter().filter(|c| c.app == app && !c.retiring.load(Ordering::SeqCst)).map(|c| c.id).collect()
    }

    /// Waits until an app has this many connections in use; their ids, oldest first.
    pub async fn until_sockets(&self, app: &str, n: usize) -> Vec<u64> {
        let fake = self.clone();
        self.until(&format!("{n} connections of {app}"), |_| {
            let ids = fake.sockets_of(app);
            (ids.len() == n).then_some(ids)
        })
        .await
    }

    /// Tells a connection to go, for `warning`, `refresh_requested` or `link_disabled`. It stays open until
    /// [`Handle::close_socket`]; nothing new is sent over it.
    pub fn disconnect_socket(&self, id: u64, reason: &str) {
        let all = self.lock_connections();
        let connection = all.iter().find(|c| c.id == id).expect("a connection");
        // A warning is only one: ten seconds later the connection goes.
        connection.retiring.store(reason != "warning", Ordering::SeqCst);
        let _ = connection.out.send(Out::Text(disconnect(reason)));
        drop(all);
        self.with(|_| ());
    }

    /// Ends a connection politely.
    pub fn close_socket(&self, id: u64) {
        self.order(id, Out::Close);
    }

    /// The connection breaks without a word.
    pub fn sever_socket(&self, id: u64) {
        self.order(id, Out::Sever);
    }

    /// Something that Slack might say some day.
    pub fn say_raw(&self, id: u64, text: &str) {
        self.order(id, Out::Text(text.to_owned()));
    }

    /// Pings a connection and waits for the answer.
    pub async fn ping_socket(&self, id: u64) {
        let connection = self.lock_connections().iter().find(|c| c.id == id).expect("a connection").clone();
        let before = connection.pongs.load(Ordering::SeqCst);
        self.order(id, Out::Ping);
        self.until("a pong", |_| (connection.pongs.load(Ordering::SeqCst) > before).then_some(())).await;
    }

    /// Switches Socket Mode off (or on again) in the settings of an app: connections are told `link_disabled`.
    pub fn disable_socket(&self, app: &str, disabled: bool) {
        self.with(|s| s.apps.get_mut(app).expect("an app").socket_disabled = disabled);
        if disabled {
            for id in self.sockets_of(app) {
                self.disconnect_socket(id, "link_disabled");
                self.close_socket(id);
            }
        }
    }

    fn order(&self, id: u64, order: Out) {
        let connection = self.lock_connections().iter().find(|c| c.id == id).cloned();
        // It may be gone already.
        if let Some(connection) = connection {
            let _ = connection.out.send(order);
        }
    }

    /// Sends one envelope over one of an app's connections, in turn, and waits for its acknowledgement.
    pub(super) async fn envelope(
        &self,
        app: &str,
        kind: &str,
        payload: &Value,
        with_payload: bool,
        retry: Option<(u32, &str)>,
    ) -> Answered {
        let fake = self.clone();
        let some = self.until("a connection", |_| (!fake.sockets_of(app).is_empty()).then_some(()));
        if tokio::time::timeout(PATIENCE, some).await.is_err() {
            return Answered::Nobody;
        }
        let id = format!("env-{}", self.next_id(""));
        let mut envelope = json!({
            "envelope_id": id, "type": kind, "accepts_response_payload": with_payload, "payload": payload,
        });
        if kind == "events_api" {
            let (attempt, reason) = retry.unwrap_or((0, ""));
            envelope["retry_attempt"] = attempt.into();
            envelope["retry_reason"] = reason.into();
        }
        let (answer, answered) = oneshot::channel();
        let connection = {
            let all = self.lock_connections();
            let mine: Vec<&Arc<Connection>> =
                all.iter().filter(|c| c.app == app && !c.retiring.load(Ordering::SeqCst)).collect();
            let turn = self.0.sockets.turn.fetch_add(1, Ordering::SeqCst) as usize;
            let Some(connection) = mine.get(turn % mine.len().max(1)) else { return Answered::Lost };
            Arc::clone(connection)
        };
        let slot = (answer, with_payload);
        connection.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), slot);
        let sent = connection.out.send(Out::Text(envelope.to_string()));
        if sent.is_err() || !connection.open.load(Ordering::SeqCst) {
            return Answered::Lost;
        }
        match tokio::time::timeout(ACK, answered).await {
            Ok(Ok(payload)) => Answered::Acked(payload),
            Ok(Err(_)) => Answered::Lost,
            Err(_) => {
                connection.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                Answered::Late
            }
        }
    }
}
