//! Errors as problem details (RFC 9457): a status, a stable `code` for programs, a sentence for people.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::agent::Refusal;
use crate::runtime::DeliverError;
use crate::store::StoreError;

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub title: String,
    pub status: u16,
    /// What, why, and what next, in one or two sentences.
    pub detail: String,
    /// Stable, for programs: `not_an_approver`, `already_decided`.
    pub code: &'static str,
    /// More for programs, such as `by` and `at` of a decision.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            more: Map::new(),
        }
    }

    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    /// Something broke on our side: a reference for the person, the details in the log alone.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        let reference = format!("{:06x}", fastrand::u32(..0x100_0000));
        tracing::error!(reference, %error, "a request could not be served");
        let detail = format!("Something broke on our side. Nothing was run. Reference {reference}.");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).with("reference", reference)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match &refusal {
            Refusal::NotAnApprover { .. } => (StatusCode::FORBIDDEN, "not_an_approver"),
            Refusal::Requester { .. } => (StatusCode::FORBIDDEN, "requester_may_not"),
            Refusal::Unsure { .. } => (StatusCode::FORBIDDEN, "who_is_unsure"),
            Refusal::NotAPerson => (StatusCode::FORBIDDEN, "not_a_person"),
            Refusal::AlreadyDecided { .. } => (StatusCode::CONFLICT, "already_decided"),
            Refusal::AlreadyVoted => (StatusCode::CONFLICT, "already_voted"),
            Refusal::Changed => (StatusCode::CONFLICT, "revision_changed"),
            Refusal::Expired { .. } => (StatusCode::GONE, "expired"),
            Refusal::NoSuchApproval { .. } => (StatusCode::NOT_FOUND, "no_such_approval"),
            Refusal::InvalidEdit { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_edit"),
            Refusal::LooksSecret { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "looks_like_a_secret"),
            Refusal::NotEditable => (StatusCode::UNPROCESSABLE_ENTITY, "not_editable"),
            Refusal::NothingChanged => (StatusCode::UNPROCESSABLE_ENTITY, "nothing_changed"),
            Refusal::NoSuchQuestion => (StatusCode::CONFLICT, "no_such_question"),
            Refusal::NotAChoice { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "not_a_choice"),
            Refusal::NothingToMark => (StatusCode::CONFLICT, "nothing_to_mark"),
            Refusal::EmptyMessage => (StatusCode::UNPROCESSABLE_ENTITY, "empty_message"),
            Refusal::TooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "message_too_long"),
            Refusal::ContextTooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "context_too_long"),
            Refusal::EmptyContext { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "empty_context"),
            Refusal::Cancelled => (StatusCode::CONFLICT, "cancelled"),
            Refusal::NoConversation => (StatusCode::CONFLICT, "no_conversation"),
            Refusal::ThreadExists => (StatusCode::CONFLICT, "thread_exists"),
            Refusal::NothingRuns => (StatusCode::CONFLICT, "nothing_runs"),
            Refusal::AlreadyPaused => (StatusCode::CONFLICT, "already_paused"),
            Refusal::NotPaused => (StatusCode::CONFLICT, "not_paused"),
        };
        Self::new(status, code, refusal.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unknown(thread) => {
                let detail = format!("There is no thread {thread}. It may never have been, or the id is mistyped.");
                Self::new(StatusCode::NOT_FOUND, "no_such_thread", detail)
            }
            StoreError::Deleted(thread) => {
                let detail = format!("The thread {thread} was deleted. Start a new one.");
                Self::new(StatusCode::GONE, "deleted", detail)
            }
            StoreError::NotWritable(_) => {
                tracing::error!(%error, "the store does not take anything");
                let detail = "The store can't be written to now, so nothing was accepted. Try again; an operator finds the cause in the log.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_not_writable", detail)
            }
            StoreError::Conflict { .. }
            | StoreError::Missing(_)
            | StoreError::Locked(_)
            | StoreError::TooNew(_)
            | StoreError::Corrupt(_)
            | StoreError::Failed(_) => Self::internal(&error),
        }
    }
}

impl From<DeliverError> for Problem {
    fn from(error: DeliverError) -> Self {
        match error {
            DeliverError::Store(error) => error.into(),
            DeliverError::Agent(unknown) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_agent", unknown.to_string())
            }
            DeliverError::Contended(_) | DeliverError::Draining => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "try_again", error.to_string())
            }
            DeliverError::CallRunning { .. } => Self::new(StatusCode::CONFLICT, "call_running", error.to_string()),
            DeliverError::Log { .. } => Self::internal(&error),
        }
    }
}
