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
        let status = match &refusal {
            Refusal::NotAnApprover { .. } => StatusCode::FORBIDDEN,
            Refusal::Requester { .. } => StatusCode::FORBIDDEN,
            Refusal::Unsure { .. } => StatusCode::FORBIDDEN,
            Refusal::NotAPerson => StatusCode::FORBIDDEN,
            Refusal::AlreadyDecided { .. } => StatusCode::CONFLICT,
            Refusal::AlreadyVoted => StatusCode::CONFLICT,
            Refusal::Changed => StatusCode::CONFLICT,
            Refusal::Expired { .. } => StatusCode::GONE,
            Refusal::NoSuchApproval { .. } => StatusCode::NOT_FOUND,
            Refusal::InvalidEdit { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::LooksSecret { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::NotEditable => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::NothingChanged => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::NoSuchQuestion => StatusCode::CONFLICT,
            Refusal::NotAChoice { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::NothingToMark => StatusCode::CONFLICT,
            Refusal::EmptyMessage => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::ContextTooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::EmptyContext { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Cancelled => StatusCode::CONFLICT,
            Refusal::NoConversation => StatusCode::CONFLICT,
            Refusal::ThreadExists => StatusCode::CONFLICT,
            Refusal::NothingRuns => StatusCode::CONFLICT,
            Refusal::AlreadyPaused => StatusCode::CONFLICT,
            Refusal::NotPaused => StatusCode::CONFLICT,
        };
        Self::new(status, refusal.code(), refusal.to_string())
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
