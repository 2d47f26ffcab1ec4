//! `POST /webhooks/trigger`: a signed webhook starts an agent.
//!
//! This file owns the way from a request to [`Webhook::check`] and back to an answer. What a signature
//! is, and what a payload says to an agent, is the room `triggers`'.

use axum::Json;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde::{Deserialize, Serialize};

use super::Service;
use super::problem::Problem;
use crate::agent::Status;
use crate::triggers::{Signed, StartError, Webhook};

pub fn routes() -> Router<Service> {
    Router::new().route("/webhooks/trigger", post(trigger))
}

/// Which webhook; it may be left out where there is only one.
#[derive(Debug, Deserialize)]
pub struct Which {
    name: Option<String>,
}

/// The answer to a delivery that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Triggered {
    /// The thread of this delivery: the same for every attempt.
    #[schema(example = "stxrzbm5tyk66ile")]
    pub thread_id: String,
    /// Its full name.
    #[schema(example = "webhook:alerts:e3b0c44298fc1c149afbf4c8996fb924")]
    pub thread: String,
    /// Where the thread stands (`running`, `waiting_approval`, `done`), or `deleted`.
    #[schema(example = "running")]
    pub status: String,
    /// It had been delivered before, and nothing happened now.
    pub duplicate: bool,
}

/// Start an agent by a signed webhook
///
/// The signature is that of the Standard Webhooks specification: HMAC-SHA256 with the webhook's secret over
/// `webhook-id`, `webhook-timestamp` and the body, joined by full stops. A second attempt with the same
/// `webhook-id` changes nothing.
#[utoipa::path(
    post,
    path = "/webhooks/trigger",
    tag = "webhooks",
    params(
        ("name" = Option<String>, Query, description = "Which webhook; may be left out where there is only one"),
        ("webhook-id" = String, Header, description = "The delivery's id, the same for every attempt; no full stop in it", max_length = 256),
        ("webhook-timestamp" = String, Header, description = "When it was signed, in seconds since 1970; at most five minutes away", pattern = "^[0-9]+$"),
        ("webhook-signature" = String, Header, description = "`v1,` and the base64 of the signature; several are separated by spaces"),
    ),
    request_body(content = serde_json::Value, content_type = "application/json", description = "Any JSON object; the webhook's template makes a message of it"),
    responses(
        (status = 202, description = "Taken: the agent runs, or did before", body = Triggered),
        (status = 400, description = "The query or the body cannot be read, or the name is missing", content_type = "application/problem+json"),
        (status = 401, description = "The signature is missing, wrong or too old", content_type = "application/problem+json"),
        (status = 404, description = "There is no such webhook", content_type = "application/problem+json"),
        (status = 413, description = "The body, or the message made of it, is too long", content_type = "application/problem+json"),
        (status = 422, description = "The payload lacks what the template uses", content_type = "application/problem+json"),
        (status = 503, description = "Nothing can be taken now; try again", content_type = "application/problem+json"),
    ),
    security(())
)]
pub async fn trigger(
    State(service): State<Service>,
    which: Result<Query<Which>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Triggered>), Problem> {
    let Query(which) = which.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "query", error.body_text()))?;
    let webhook = find(service.settings().triggers.webhooks(), which.name.as_deref())?;
    let max = service.settings().http.max_body;
    let body = to_bytes(body, max).await.map_err(|error| unreadable(&error, max))?;
    let runtime = service.runtime();
    let id = header(&headers, "webhook-id");
    let signed = Signed {
        id,
        timestamp: header(&headers, "webhook-timestamp"),
        signatures: header(&headers, "webhook-signature"),
    };
    if let Err(why) = webhook.check(signed, &body, runtime.parts().clock.now()) {
        tracing::warn!(webhook.name = webhook.name(), %why, "a webhook was refused");
        // Not which: whoever tries signatures learns nothing.
        let detail = "The signature of this webhook is missing, wrong or too old. Sign the body as it is sent, with the right secret and the current time.";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "bad_signature", detail));
    }
    let started = webhook.start(runtime, id, &body).await?;
    let status = started.status.map_or("deleted", word).to_owned();
    let (name, thread, duplicate) = (webhook.name(), started.thread, started.duplicate);
    tracing::info!(webhook.name = name, thread.id = %thread.short(), duplicate, "a webhook was taken");
    Ok((
        StatusCode::ACCEPTED,
        Json(Triggered { thread_id: thread.short().to_string(), thread: thread.to_string(), status, duplicate }),
    ))
}

fn find<'a>(webhooks: &'a [Webhook], name: Option<&str>) -> Result<&'a Webhook, Problem> {
    match (name, webhooks) {
        (None, [one]) => Ok(one),
        (None, [_, _, ..]) => {
            let detail = "There are several webhooks here. Say which one with ?name=.";
            Err(Problem::new(StatusCode::BAD_REQUEST, "no_name", detail))
        }
        (None, []) | (Some(_), _) => webhooks.iter().find(|w| Some(w.name()) == name).ok_or_else(|| {
            let detail = "There is no webhook of this name. They are configured under [[triggers.webhooks]].";
            Problem::new(StatusCode::NOT_FOUND, "no_such_webhook", detail)
        }),
    }
}

/// The one value of a header; empty if it is missing, given twice, or no text.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(one), None) => one.to_str().unwrap_or(""),
        _ => "",
    }
}

fn unreadable(error: &axum::Error, max: usize) -> Problem {
    let too_long = std::error::Error::source(error).is_some_and(|e| e.is::<http_body_util::LengthLimitError>());
    if too_long {
        let detail = format!("The body has more than {max} bytes, which is the most that is taken here.");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_long", detail)
    } else {
        Problem::new(StatusCode::BAD_REQUEST, "body_broken", "The body ended before it was complete. Send it again.")
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::WaitingApproval => "waiting_approval",
        Status::WaitingAnswer => "waiting_answer",
        Status::WaitingMark => "waiting_mark",
        Status::Sleeping => "sleeping",
        Status::Paused => "paused",
        Status::Done => "done",
        Status::Stopped => "stopped",
        Status::Cancelled => "cancelled",
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Body(why) => {
                let detail = format!("The body cannot be used: {why}. Send one JSON object.");
                Self::new(StatusCode::BAD_REQUEST, "body", detail)
            }
            StartError::Template(error) => {
                let detail = format!("The payload does not fit: {error}.");
                let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "template", detail);
                match error.missing {
                    Some(missing) => problem.with("missing", missing),
                    None => problem,
                }
            }
            StartError::Refused(refusal) => refusal.into(),
            StartError::Id(_) => Self::internal(&error),
            StartError::Deliver(error) => error.into(),
        }
    }
}
