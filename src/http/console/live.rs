//! "Something changed", as server-sent events. A tick says that, and nothing else: the page then fetches
//! itself again, so what is shown passes the same door as ever, also when somebody was signed out since.
//!
//! Ticks come from the runtime's own changes: a page that is only open asks the store for nothing. Whether
//! its person may still look is asked before each tick and each sign of life; the last tick of one who may not
//! says `ended`, and the page that fetches itself then says why.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::sse::{Event as Sent, Sse};
use futures_util::stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::chat::their_thread;
use super::door::{Answer, Known};
use crate::agent::ShortId;
use crate::http::live::{Place, Watcher};
use crate::http::{Caller, Service, session};
use crate::runtime::Change;

/// The least time between two ticks: a page shows what happened meanwhile at once.
const GAP: Duration = Duration::from_millis(200);
/// How often a quiet stream gives a sign of life; half of what proxies usually wait, and less than the
/// service waits for a client that takes nothing.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
/// When a browser that lost its stream comes back.
const RETRY: Duration = Duration::from_secs(2);

/// What happens in one thread.
pub async fn thread(
    State(service): State<Service>,
    Known { caller, .. }: Known,
    Path(thread): Path<String>,
    parts: Parts,
) -> Answer {
    let changes = service.runtime().watch();
    let short = their_thread(&service, &caller, &thread).await?.short;
    ticks(service, changes, caller, parts, Some(short))
}

/// What happens to approvals.
pub async fn inbox(State(service): State<Service>, Known { caller, .. }: Known, parts: Parts) -> Answer {
    let changes = service.runtime().watch();
    ticks(service, changes, caller, parts, None)
}

struct Ticking {
    changes: Receiver<Change>,
    watcher: Watcher,
    sent: u64,
    /// When the next sign of life is due.
    sign_at: Instant,
    ended: bool,
    _place: Place,
}

/// Ticks about this thread; without one, about approvals, as lists show them.
fn ticks(service: Service, changes: Receiver<Change>, caller: Caller, parts: Parts, thread: Option<ShortId>) -> Answer {
    let place = service.streams().place(&caller)?;
    let watcher = Watcher { service, parts, who: session::find, principal: caller.principal, thread };
    let sign_at = Instant::now() + SIGN_OF_LIFE;
    let state = Ticking { changes, watcher, sent: 0, sign_at, ended: false, _place: place };
    let events = stream::unfold(state, |mut state| async move {
        let event = next(&mut state).await?;
        Some((Ok::<Sent, Infallible>(event), state))
    });
    Ok(Sse::new(events).into_response())
}

/// The next thing to send; `None` when the service stops, or when they may not look any more.
async fn next(state: &mut Ticking) -> Option<Sent> {
    let stop = state.watcher.service.settings().stop.clone();
    if state.ended {
        return None;
    }
    if state.sent == 0 {
        // At once, so that the browser knows that it listens; it then looks for what it missed.
        state.sent = 1;
        return Some(Sent::default().event("listening").data("1").retry(RETRY));
    }
    if state.sent > 1 {
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(GAP) => {}
        }
    }
    let is_tick = loop {
        let change = tokio::select! {
            () = stop.cancelled() => return None,
            () = sleep_until(state.sign_at) => break false,
            change = state.changes.recv() => change,
        };
        match change {
            Err(RecvError::Closed) => return None,
            // Too many to follow: something of them was surely wanted.
            Err(RecvError::Lagged(_)) => break true,
            Ok(change) => match state.watcher.thread {
                Some(thread) if change.thread == thread => break true,
                None if change.approvals => break true,
                Some(_) | None => {}
            },
        }
    };
    state.sign_at = Instant::now() + SIGN_OF_LIFE;
    if !state.watcher.may_look().await {
        state.ended = true;
        return Some(Sent::default().event("ended").data("1"));
    }
    if !is_tick {
        return Some(Sent::default().comment("still here"));
    }
    // One tick stands for all that has come by now.
    while state.changes.try_recv().is_ok() {}
    state.sent += 1;
    Some(Sent::default().event("changed").data(state.sent.to_string()))
}
