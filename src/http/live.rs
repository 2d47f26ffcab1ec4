//! Live events of a thread as a stream (SSE): first what the log has after a given event, then each event as
//! it is appended. A watcher costs no reading of the store while it keeps up; one that lags reads what it
//! missed from there.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::routing::get;
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;

use super::Service;
use super::ask::{Named, Params, bad_parameter, read_after, seen};
use super::auth::{May, Read};
use super::docs::ProblemDoc;
use super::problem::Problem;
use super::rest::EventView;
use crate::agent::{Event, ShortId, Status};
use crate::platform::words::status_word;
use crate::runtime::Change;
use crate::store::StoreError;

/// Streams at one time, of all callers: half of the connections that are taken by default.
pub const MAX_STREAMS: usize = 512;
/// A sign of life this often: proxies and our own writer cut a silent connection off after a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Why there is no more of a thread.
const DELETED: &str = "the thread was deleted";

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
    State(service): State<Service>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let last = headers.get("last-event-id").map(|last| last.to_str().ok().and_then(|last| last.trim().parse().ok()));
    let after = match last {
        Some(Some(last)) => read_after(Some(last))?,
        Some(None) => return Err(bad_parameter("the header Last-Event-ID is the number of an event")),
        None => read_after(query.after)?,
    };
    seen(&service, &caller, short).await?;
    let place = service.streams().clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{MAX_STREAMS} streams are open already; try again later, or read the history.");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", detail)
    })?;
    // Watched before the store is read: what happens in between is in one of the two.
    let changes = service.runtime().watch();
    let watch = Watch { service, short, after, changes, queue: VecDeque::new(), phase: Phase::Reading, _place: place };
    let stream = unfold(watch, |mut watch| async move { watch.next().await.map(|event| (Ok(event), watch)) });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

struct Watch {
    service: Service,
    short: ShortId,
    /// The last event that was sent.
    after: u64,
    changes: Receiver<Change>,
    queue: VecDeque<sse::Event>,
    phase: Phase,
    _place: OwnedSemaphorePermit,
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
                Phase::Reading => self.read().await,
                Phase::Watching => tokio::select! {
                    change = self.changes.recv() => match change {
                        Ok(change) if change.thread != self.short => {}
                        Ok(change) if change.deleted => self.end(DELETED),
                        Ok(change) => self.take(&change),
                        Err(RecvError::Lagged(_)) => self.phase = Phase::Reading,
                        Err(RecvError::Closed) => self.phase = Phase::Ended,
                    },
                    () = self.service.settings().stop.cancelled() => {
                        self.end("the service is stopping; connect again in a moment");
                    }
                },
                Phase::Ended => return None,
            }
        }
    }

    /// What the log has that was not sent.
    async fn read(&mut self) {
        match self.service.runtime().parts().store.load(self.short, self.after).await {
            Ok(loaded) => {
                self.phase = Phase::Watching;
                // Who has seen more than there is (the store was put back to a backup) sees what comes next.
                self.after = self.after.min(loaded.summary.version);
                self.send(self.after.saturating_add(1), &loaded.events, loaded.summary.status);
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
        self.send(change.first, &change.events, change.status);
    }

    /// Queues the events, of which the first has the number `first`, that were not sent yet.
    fn send(&mut self, first: u64, events: &[Vec<u8>], status: Status) {
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
        let status = json!({ "status": status_word(status), "version": self.after });
        self.queue.push_back(sse::Event::default().event("status").data(status.to_string()));
    }

    fn end(&mut self, why: &str) {
        self.phase = Phase::Ended;
        self.queue.push_back(sse::Event::default().event("end").data(json!({ "why": why }).to_string()));
    }
}
