//! "Something changed", as server-sent events. A tick says that, and nothing else: the page then fetches
//! itself again, so what is shown passes the same door as ever, also when somebody was signed out since.
//!
//! Ticks come from the runtime's own changes: a page that is only open asks the store for nothing.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event as Sent, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::chat::their_thread;
use super::door::{Answer, Known};
use crate::http::Service;
use crate::runtime::Change;

/// The least time between two ticks: a page shows what happened meanwhile at once.
const GAP: Duration = Duration::from_millis(200);
/// How often a quiet stream gives a sign of life; half of what proxies usually wait, and less than the
/// service waits for a client that takes nothing.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
/// When a browser that lost its stream comes back.
const RETRY: Duration = Duration::from_secs(2);

/// What happens in one thread.
pub async fn thread(State(service): State<Service>, Known { caller, .. }: Known, Path(thread): Path<String>) -> Answer {
    let changes = service.runtime().watch();
    let short = their_thread(&service, &caller, &thread).await?.short;
    Ok(ticks(&service, changes, move |change| change.thread == short))
}

/// What happens to approvals.
pub async fn inbox(State(service): State<Service>, _known: Known) -> Answer {
    let changes = service.runtime().watch();
    Ok(ticks(&service, changes, |change| change.events.iter().any(|event| is_about_approvals(event))))
}

/// Whether an encoded event changes an approval as lists show it. Only looks for the names of such events:
/// decoding each for each open page would cost more than a page too many now and then.
fn is_about_approvals(event: &[u8]) -> bool {
    const TYPES: [&str; 6] = [
        "\"type\":\"approval_requested\"",
        "\"type\":\"vote_cast\"",
        "\"type\":\"approval_resolved\"",
        "\"type\":\"tool_started\"",
        "\"type\":\"tool_finished\"",
        "\"type\":\"outcome_",
    ];
    let text = String::from_utf8_lossy(event);
    TYPES.iter().any(|wanted| text.contains(wanted))
}

struct Ticking<F> {
    changes: Receiver<Change>,
    wanted: F,
    service: Service,
    sent: u64,
}

fn ticks(service: &Service, changes: Receiver<Change>, wanted: impl Fn(&Change) -> bool + Send + 'static) -> Response {
    let state = Ticking { changes, wanted, service: service.clone(), sent: 0 };
    let events = stream::unfold(state, |mut state| async move {
        let event = next(&mut state).await?;
        Some((Ok::<Sent, Infallible>(event), state))
    });
    Sse::new(events).into_response()
}

/// The next thing to send; `None` when the service stops.
async fn next<F: Fn(&Change) -> bool>(state: &mut Ticking<F>) -> Option<Sent> {
    let stop = state.service.settings().stop.clone();
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
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return None,
            change = tokio::time::timeout(SIGN_OF_LIFE, state.changes.recv()) => change,
        };
        match change {
            Err(_quiet) => return Some(Sent::default().comment("still here")),
            Ok(Err(RecvError::Closed)) => return None,
            // Too many to follow: something of them was surely wanted.
            Ok(Err(RecvError::Lagged(_))) => break,
            Ok(Ok(change)) if (state.wanted)(&change) => break,
            Ok(Ok(_)) => {}
        }
    }
    // One tick stands for all that has come by now.
    while state.changes.try_recv().is_ok() {}
    state.sent += 1;
    Some(Sent::default().event("changed").data(state.sent.to_string()))
}
