//! Live events of a thread as a stream (SSE): first what the log has after a given event, then each event as
//! it is appended. A watcher costs no reading of the store while it keeps up; one that lags reads what it
//! missed from there.
//!
//! It also owns the places that streams take, these and those of the console ([`Streams`]), and the question
//! whether whoever opened one may still look ([`Watcher`]).

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, Sse};
use axum::routing::get;
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};
use utoipa::IntoParams;

use super::ask::{Named, Params, bad_parameter, read_after, seen};
use super::auth::{Identity, May, Read, identify, require};
use super::docs::ProblemDoc;
use super::problem::Problem;
use super::rest::EventView;
use super::{Caller, Service};
use crate::agent::{Event, Principal, ShortId, Status};
use crate::config::Scope;
use crate::platform::words::status_word;
use crate::runtime::Change;
use crate::store::StoreError;

/// Most streams of one caller at one time: a person with a page open in every tab.
pub const MAX_EACH: usize = 32;
/// Events that a watcher reads from the log at a time.
const CHUNK: usize = 200;
/// A sign of life this often: proxies and our own writer cut a silent connection off after a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Why there is no more of a thread.
const DELETED: &str = "the thread was deleted";
/// The same, for one who may not look any more.
const NOT_YOURS: &str = "you are not signed in any more, or the thread is not yours to see any more";

/// Places for live streams. A stream keeps its connection, so at most half of `http.max_connections` may be
/// streams: the rest stays for requests. With a single connection there are none.
pub struct Streams {
    most: usize,
    /// By the id of who opened them.
    open: Mutex<HashMap<String, usize>>,
}

/// The place of an open stream; it is free again when this is dropped.
pub struct Place {
    streams: Arc<Streams>,
    of: String,
}

impl Streams {
    pub fn new(max_connections: usize) -> Arc<Self> {
        Arc::new(Self { most: max_connections / 2, open: Mutex::default() })
    }

    /// A place for a stream of this caller.
    ///
    /// # Errors
    /// 503 if there is none, for them or at all.
    pub fn place(self: &Arc<Self>, caller: &Caller) -> Result<Place, Problem> {
        let full = |detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", detail);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= self.most {
            let most = self.most;
            return Err(full(format!("{most} streams are open already; try again later, or read the history.")));
        }
        let own = open.entry(caller.principal.id.clone()).or_default();
        if *own >= MAX_EACH {
            return Err(full(format!("You have {MAX_EACH} streams open already; close one, or read the history.")));
        }
        *own += 1;
        Ok(Place { streams: self.clone(), of: caller.principal.id.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.of) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.remove(&self.of);
            }
        }
    }
}

/// Who opened a stream, as the request said it. A stream outlives the answer to that question, so it is asked
/// again before anything is sent: sessions end, and threads change hands.
pub struct Watcher {
    pub service: Service,
    pub parts: Parts,
    /// Says who sent a request, if they may look at all.
    pub who: fn(&Service, &Parts) -> Option<Caller>,
    pub principal: Principal,
    /// What they look at; without it, all that is theirs.
    pub thread: Option<ShortId>,
}

impl Watcher {
    /// Whether they may still look, as the same one as before.
    pub async fn may_look(&self) -> bool {
        let caller = (self.who)(&self.service, &self.parts).filter(|caller| caller.principal == self.principal);
        match (caller, self.thread) {
            (None, _) => false,
            (Some(caller), Some(thread)) if !caller.may(Scope::Admin) => {
                match seen(&self.service, &caller, thread).await {
                    Ok(_) => true,
                    // What is gone is told as that.
                    Err(_) => self.service.runtime().parts().store.tombstone(thread).await.is_ok_and(|t| t.is_some()),
                }
            }
            (Some(_), _) => true,
        }
    }
}

/// Who may read by the REST API.
fn reader(service: &Service, parts: &Parts) -> Option<Caller> {
    match identify(service, parts) {
        Identity::Known(caller) if require(&caller, Scope::Read).is_ok() => Some(caller),
        Identity::Known(_) | Identity::Nobody | Identity::Wrong => None,
    }
}

pub fn routes() -> Router<Service> {
    Router::new().route("/threads/{thread_id}/events", get(events))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Begin after the event with this number; without it at the beginning.
    #[param(minimum = 0, maximum = 1000000000)]
    after: Option<u64>,
}

/// Watch a thread
///
/// A stream of server-sent events that stays open: every event of the log from `after` on (or from the header
/// `Last-Event-ID`, which browsers send when they connect again), then new ones as they happen. Each has its
/// number as `id` and the event, as in the history, as `data`. Events of the type `status` say where the
/// thread stands; one of the type `end` says why there will be no more.
#[utoipa::path(get, path = "/threads/{thread_id}/events", tag = "live",
    params(
        ("thread_id" = String, Path, description = "The thread: its short id, or its whole id.", pattern = "^([a-z2-7]{16}|[a-z]{1,20}:[!-~]{1,170})$"),
        EventsQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that was seen.", minimum = 0, maximum = 1000000000)),
    responses(
        (status = 200, description = "The stream.", body = String, content_type = "text/event-stream"),
        (status = 404, description = "No thread that you may see.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 410, description = "The thread was deleted.", body = ProblemDoc, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["read"])))]
pub async fn events(
    May(caller, ..): May<Read>,
    Named(short): Named,
    Params(query): Params<EventsQuery>,
    headers: HeaderMap,
    parts: Parts,
    State(service): State<Service>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let last = headers.get("last-event-id").map(|last| last.to_str().ok().and_then(|last| last.trim().parse().ok()));
    let after = match last {
        Some(Some(last)) => read_after(Some(last))?,
        Some(None) => return Err(bad_parameter("the header Last-Event-ID is the number of an event")),
        None => read_after(query.after)?,
    };
    seen(&service, &caller, short).await?;
    let place = service.streams().place(&caller)?;
    // Watched before the store is read: what happens in between is in one of the two.
    let changes = service.runtime().watch();
    let watcher = Watcher { service, parts, who: reader, principal: caller.principal, thread: Some(short) };
    let watch = Watch {
        watcher,
        short,
        after,
        changes,
        queue: VecDeque::new(),
        phase: Phase::Reading,
        sign_at: Instant::now() + HEARTBEAT,
        _place: place,
    };
    let stream = unfold(watch, |mut watch| async move { watch.next().await.map(|event| (Ok(event), watch)) });
    Ok(Sse::new(stream))
}

struct Watch {
    watcher: Watcher,
    short: ShortId,
    /// The last event that was sent.
    after: u64,
    changes: Receiver<Change>,
    queue: VecDeque<sse::Event>,
    phase: Phase,
    /// When the next sign of life is due.
    sign_at: Instant,
    _place: Place,
}

enum Phase {
    /// The log may have events that were not sent.
    Reading,
    /// Everything was sent; the next change is waited for.
    Watching,
    Ended,
}

impl Watch {
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            match self.phase {
                Phase::Reading => {
                    if self.may_look().await {
                        self.read().await;
                    }
                }
                Phase::Watching => tokio::select! {
                    change = self.changes.recv() => match change {
                        Ok(change) if change.thread != self.short => {}
                        Ok(change) if change.deleted => self.end(DELETED),
                        Ok(change) => {
                            if self.may_look().await {
                                self.take(&change);
                            }
                        }
                        Err(RecvError::Lagged(_)) => self.phase = Phase::Reading,
                        Err(RecvError::Closed) => self.phase = Phase::Ended,
                    },
                    () = sleep_until(self.sign_at) => {
                        self.sign_at = Instant::now() + HEARTBEAT;
                        if self.may_look().await {
                            self.queue.push_back(sse::Event::default().comment("still here"));
                        }
                    }
                    () = self.watcher.service.settings().stop.cancelled() => {
                        self.end("the service is stopping; connect again in a moment");
                    }
                },
                Phase::Ended => return None,
            }
        }
    }

    /// Whether this may go on; ends it if not.
    async fn may_look(&mut self) -> bool {
        let may = self.watcher.may_look().await;
        if !may {
            self.end(NOT_YOURS);
        }
        may
    }

    /// What the log has that was not sent, a part at a time.
    async fn read(&mut self) {
        match self.watcher.service.runtime().parts().store.load_page(self.short, self.after, CHUNK).await {
            Ok(loaded) => {
                // Who has seen more than there is (the store was put back to a backup) sees what comes next.
                self.after = self.after.min(loaded.summary.version);
                let first = self.after.saturating_add(1);
                let is_all = self.after.saturating_add(CHUNK as u64) >= loaded.summary.version;
                if is_all {
                    self.phase = Phase::Watching;
                }
                self.send(first, &loaded.events, is_all.then_some(loaded.summary.status));
            }
            Err(StoreError::Deleted(_)) => self.end(DELETED),
            Err(error) => self.end(&Problem::internal(&error).detail),
        }
    }

    fn take(&mut self, change: &Change) {
        if change.first > self.after.saturating_add(1) {
            // Something was missed.
            self.phase = Phase::Reading;
            return;
        }
        self.send(change.first, &change.events, Some(change.status));
    }

    /// Queues the events, of which the first has the number `first`, that were not sent yet.
    fn send(&mut self, first: u64, events: &[Vec<u8>], status: Option<Status>) {
        for (bytes, seq) in events.iter().zip(first..) {
            if seq <= self.after {
                continue;
            }
            match Event::decode(bytes, seq) {
                Ok(event) => {
                    let data = serde_json::to_string(&EventView::of(&event)).unwrap_or_default();
                    self.queue.push_back(sse::Event::default().id(seq.to_string()).data(data));
                    self.after = seq;
                }
                Err(error) => return self.end(&Problem::internal(&error).detail),
            }
        }
        let Some(status) = status else { return };
        let status = json!({ "status": status_word(status), "version": self.after });
        self.queue.push_back(sse::Event::default().event("status").data(status.to_string()));
    }

    fn end(&mut self, why: &str) {
        self.phase = Phase::Ended;
        self.queue.push_back(sse::Event::default().event("end").data(json!({ "why": why }).to_string()));
    }
}
