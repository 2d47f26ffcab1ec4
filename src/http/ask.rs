//! What requests of the REST API bring besides a body: names in paths, parameters, idempotency keys; and
//! what a caller may see of what they name.
//!
//! `Idempotency-Key` makes a repeated POST safe. The key becomes part of the `source` of the event that the
//! request leads to, so the core drops a second delivery, over restarts as well; the log also says whether
//! the second request is the first one again ([`replayed`]). A start with a key derives its thread from
//! caller and key, so every try reaches the same thread.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use super::{Caller, Service};
use crate::agent::{Answer, Body, Event, Principal, PrincipalKind, Refusal, ShortId, Thread, ThreadId};
use crate::config::Scope;
use crate::runtime::{DeliverError, Delivered};
use crate::store::StoreError;

/// Rows of a list if nothing else is asked for.
const DEFAULT_LIMIT: usize = 50;
/// Most rows of a list.
pub const MAX_LIMIT: usize = 200;
/// Longest `Idempotency-Key`, in bytes.
const MAX_KEY: usize = 200;
/// Longest name of an agent or a tool in a query, in characters.
pub const MAX_NAME: usize = 100;
/// Longest name of a rule in a query, in characters.
pub const MAX_RULE: usize = 200;
/// Highest number of an event that can be asked for; no log comes near it.
const MAX_EVENT: u64 = 1_000_000_000;
/// Longest note or reason, in characters.
pub const MAX_NOTE: usize = 4_000;

/// The thread that a path names: a short id, or a whole thread id.
pub struct Named(pub ShortId);

impl FromRequestParts<Service> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let text = in_path(parts, service).await;
        let short = text.as_deref().and_then(thread_named);
        short.map(Self).ok_or_else(|| {
            let detail = "There is no such thread: its id has 16 letters and digits, like the answer to `POST /agents/start` gives it.";
            Problem::new(StatusCode::NOT_FOUND, "no_such_thread", detail)
        })
    }
}

pub async fn in_path(parts: &mut Parts, service: &Service) -> Option<String> {
    // What is no text names nothing.
    Path::<String>::from_request_parts(parts, service).await.ok().map(|Path(text)| text)
}

pub fn thread_named(text: &str) -> Option<ShortId> {
    text.parse().ok().or_else(|| text.parse::<ThreadId>().ok().map(|id| id.short()))
}

/// Parameters of the query.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Service> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                let text = rejection.body_text();
                Err(bad_parameter(text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text)))
            }
        }
    }
}

pub fn bad_parameter(why: &str) -> Problem {
    let detail = format!("A parameter of the query can't be used: {why}. `/docs` says what it may be.");
    Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", detail)
}

/// A bound on the rows of a list.
pub fn limited(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(bad_parameter(&format!("limit is from 1 to {MAX_LIMIT}"))),
    }
}

/// The number of the event after which to read on.
pub fn read_after(after: Option<u64>) -> Result<u64, Problem> {
    match after.unwrap_or(0) {
        after @ 0..=MAX_EVENT => Ok(after),
        _ => Err(bad_parameter(&format!("the number of an event is at most {MAX_EVENT}"))),
    }
}

/// A name to look for, of at most `most` characters.
pub fn named_within(name: &str, given: Option<String>, most: usize) -> Result<Option<String>, Problem> {
    if given.as_ref().is_some_and(|given| given.chars().count() > most) {
        return Err(bad_parameter(&format!("{name} has at most {most} characters")));
    }
    Ok(given)
}

/// The key of a request that may be repeated.
pub struct Key(Option<String>);

impl FromRequestParts<Service> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, Problem> {
        let mut given = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = given.next() else { return Ok(Self(None)) };
        let fits = |key: &&str| (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        let key = value.to_str().ok().filter(fits).filter(|_| given.next().is_none());
        key.map(|key| Self(Some(key.to_owned()))).ok_or_else(|| {
            let detail = format!(
                "`Idempotency-Key` is one header of 1 to {MAX_KEY} visible characters without spaces. Nothing was done."
            );
            Problem::new(StatusCode::BAD_REQUEST, "bad_idempotency_key", detail)
        })
    }
}

impl Key {
    /// The source of what this request leads to: nobody else's key can be meant.
    pub fn source(&self, caller: &Caller) -> Option<String> {
        let Principal { kind, id, .. } = &caller.principal;
        let kind = match kind {
            PrincipalKind::Human => "human",
            PrincipalKind::Service => "service",
            PrincipalKind::Agent => "agent",
            PrincipalKind::System => "system",
        };
        // Ids and keys may both hold colons: the length says where one ends.
        self.0.as_ref().map(|key| format!("key:{kind}:{}:{id}:{key}", id.len()))
    }
}

/// Checks that a request is the same as the one that used its key first; gives the number of the event that
/// this one led to.
///
/// # Errors
/// 422 if it is another one.
pub async fn replayed(
    service: &Service,
    short: ShortId,
    source: &str,
    is_same: impl Fn(&Body) -> bool,
) -> Result<u64, Problem> {
    let loaded = service.runtime().parts().store.load(short, 0).await?;
    for (bytes, seq) in loaded.events.iter().zip(1..) {
        let event = Event::decode(bytes, seq).map_err(|e| Problem::internal(&e))?;
        if event.source.as_deref() == Some(source) && is_same(&event.body) {
            return Ok(seq);
        }
    }
    let detail =
        "This Idempotency-Key was used for another request. Nothing was done; take a new key for a new request.";
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail))
}

pub fn bad_cursor() -> Problem {
    bad_parameter("cursor is `next` of the page before, as it stands there")
}

/// A thread that a caller may see.
///
/// # Errors
/// 404 as well for one that is there and not theirs; 410 for a deleted one only to who administers.
pub async fn seen(service: &Service, caller: &Caller, short: ShortId) -> Result<Thread, Problem> {
    seen_if(service, caller, short, |thread| caller.sees(thread, service.people())).await
}

/// A thread that a caller may see for this reason.
///
/// # Errors
/// As [`seen`].
pub async fn seen_if(
    service: &Service,
    caller: &Caller,
    short: ShortId,
    may_see: impl Fn(&Thread) -> bool,
) -> Result<Thread, Problem> {
    match service.runtime().thread(short).await {
        Ok(thread) if may_see(&thread) => Ok(thread),
        Ok(_) => Err(StoreError::Unknown(short).into()),
        Err(DeliverError::Store(StoreError::Deleted(_))) if !caller.may(Scope::Admin) => {
            Err(StoreError::Unknown(short).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// What came of an input, unless it was refused.
pub fn taken(delivered: Delivered) -> Result<Delivered, Problem> {
    match delivered.answer {
        Answer::Refused(refusal) => Err(refused(refusal)),
        Answer::Accepted | Answer::Duplicate | Answer::Stale | Answer::Go { .. } => Ok(delivered),
    }
}

pub fn refused(refusal: Refusal) -> Problem {
    let problem = Problem::from(refusal.clone());
    match refusal {
        Refusal::NotAPerson => Problem {
            detail: "Only a person can do this, and your token stands for none. An operator can give it a `person`."
                .to_owned(),
            ..problem
        },
        _ => problem,
    }
}

pub fn noted(note: &str) -> Result<(), Problem> {
    if note.chars().count() <= MAX_NOTE {
        return Ok(());
    }
    let detail = format!("A note or reason has at most {MAX_NOTE} characters.");
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "note_too_long", detail))
}
