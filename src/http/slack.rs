//! Slack's deliveries over HTTP: events, interactions, slash commands.
//!
//! This file owns the way from a request to [`Front::take`] and back: whose signature it is, which teams that
//! signature vouches for, and which status says what to Slack. The three paths take the same; Slack lets people give
//! one address for all. The signature is over the bytes as they came, so it is checked before anything reads them.
//!
//! These paths are for Slack alone: the guard neither counts their requests (all come from a few addresses of
//! Slack's, or a proxy's), nor asks which host they name; what it bounds, it bounds
//! here too. They are not in the OpenAPI document: the contract is Slack's.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use secrecy::ExposeSecret as _;

use super::Service;
use super::problem::Problem;
use crate::chat::slack::{Ack, Front};
use crate::platform::slack::inbound::{envelope, is_signed, team_of};

/// Where Slack delivers, whatever it delivers.
pub const PATHS: [&str; 3] = ["/slack/events", "/slack/interactions", "/slack/commands"];
/// The largest delivery that is taken, in bytes, however much other requests may have.
pub const MAX_BODY: usize = 1024 * 1024;

pub fn routes(service: &Service) -> Router<Service> {
    if !is_served(service) {
        return Router::new();
    }
    PATHS.iter().fold(Router::new(), |routes, path| routes.route(path, post(deliver)))
}

/// Whether this is one of the paths, and served.
pub fn is_ours(service: &Service, path: &str) -> bool {
    PATHS.contains(&path) && is_served(service)
}

/// Only if some workspace has a signing secret: else nobody could say whose a delivery is.
fn is_served(service: &Service) -> bool {
    service.settings().slack.as_ref().is_some_and(|front| {
        let workspaces = front.slack().settings().workspaces.iter();
        workspaces.filter_map(|w| w.signing_secret.as_ref()).any(|secret| !secret.expose_secret().is_empty())
    })
}

async fn deliver(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(front) = &service.settings().slack else { return unsigned("there is no Slack") };
    let signers = signers(&service, front, &headers, &body);
    if signers.is_empty() {
        return unsigned("the signature is missing, wrong or too old");
    }
    let kind = once(&headers, header::CONTENT_TYPE.as_str()).unwrap_or("");
    let envelope = match envelope(kind, &body) {
        Ok(envelope) => envelope,
        Err(why) => {
            // Slack stops delivering to who refuses what it sends.
            tracing::warn!(why, "a delivery of Slack cannot be read; it was acknowledged");
            service.runtime().parts().metrics.delivery("slack", "unreadable", "odd");
            front.keep_odd("http", &why, String::from_utf8_lossy(&body).into_owned().into());
            return StatusCode::OK.into_response();
        }
    };
    if let Some(team) = team_of(&envelope)
        && !front.slack().vouches(signers.iter().copied(), &team)
    {
        return unsigned("the signature is of another workspace's app");
    }
    match front.take(envelope).await {
        Ack::Empty => StatusCode::OK.into_response(),
        Ack::Text(text) => text.into_response(),
        Ack::Json(answer) => axum::Json(answer).into_response(),
        // Slack tries again at once, in a minute, and in five.
        Ack::Again => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "try_again",
            "This can't be kept now, so it was not taken. Deliver it again.",
        )
        .into_response(),
    }
}

/// Which workspaces' secrets signed these bytes: several have the same one if they have the same app.
fn signers(service: &Service, front: &Front, headers: &HeaderMap, body: &[u8]) -> Vec<usize> {
    let (Some(timestamp), Some(signature)) =
        (once(headers, "x-slack-request-timestamp"), once(headers, "x-slack-signature"))
    else {
        return Vec::new();
    };
    let now_s = service.runtime().parts().clock.now().0.div_euclid(1_000);
    let mut checked: Vec<(&str, bool)> = Vec::new();
    let mut signers = Vec::new();
    for (index, workspace) in front.slack().settings().workspaces.iter().enumerate() {
        let Some(secret) = &workspace.signing_secret else { continue };
        let known = checked.iter().find(|(known, _)| *known == secret.expose_secret()).map(|(_, signed)| *signed);
        let signed = known.unwrap_or_else(|| is_signed(secret, timestamp, signature, body, now_s));
        checked.push((secret.expose_secret(), signed));
        if signed {
            signers.push(index);
        }
    }
    signers
}

/// The one value of a header.
fn once<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut given = headers.get_all(name).iter();
    match (given.next(), given.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    }
}

/// Without a word about what is wrong: whoever tries signatures learns nothing.
fn unsigned(why: &'static str) -> Response {
    tracing::warn!(why, "a delivery that claims to be Slack's was refused");
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "This is not signed as it has to be.").into_response()
}
