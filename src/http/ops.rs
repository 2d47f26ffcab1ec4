//! What operators and their machines look at: is it up, can it work, what has it done.
//!
//! `/healthz` and `/readyz` are open, because a supervisor has no token: they name no thread, person or
//! address. A broken Slack makes the whole not ready, since somebody has to look; it must not take the web away from
//! people, so a load balancer asks `/readyz/http`, which is about nothing but requests. `/metrics` tells how busy people are, so it needs a token with the scope `read` (or `admin`),
//! from this very machine as well: what a proxy on this machine passes on is somebody else's request.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::Service;
use super::auth::{May, Read};
use crate::metrics::{self, Sampled};
use crate::runtime::Runtime;
use crate::store::{ApprovalFilter, Durability, Fault};

/// How long the store may take to say that it is there. Probes of the usual supervisors wait 1 to 5 s.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// What `readyz` calls itself, so that `doctor` knows one of ours from a stranger at the same port.
pub const SERVICE: &str = "twelve";

/// The routes of this file.
pub fn routes() -> Router<Service> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/readyz/http", get(readyz_http))
        .route("/metrics", get(scrape))
}

/// Whether the service can work, and what it works with.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// Always `twelve`.
    pub service: &'static str,
    pub version: &'static str,
    pub ready: bool,
    /// Why not, one sentence each; empty if it is ready.
    pub reasons: Vec<String>,
    /// Whether it is stopping and takes nothing new.
    pub draining: bool,
    pub store: StoreReadiness,
    pub providers: ProviderReadiness,
    /// Surfaces that are written to.
    pub platforms: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct StoreReadiness {
    /// Whether it answers, and just now took something that was written for this.
    pub reachable: bool,
    /// What an acknowledged event survives: `process` (kill -9) or `disk` (loss of power).
    pub durability: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ProviderReadiness {
    /// The provider of agents that name none.
    pub default: String,
    /// Those that are set up. None of them is asked: `twelve doctor` does that.
    pub configured: Vec<String>,
}

/// The process is up and answers.
#[utoipa::path(
    get, path = "/healthz", tag = "operations", operation_id = "healthz", security(()),
    responses((status = 200, description = "The process is up.", body = String, content_type = "text/plain", example = "ok\n"))
)]
pub async fn healthz() -> Response {
    ([(header::CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

/// Whether all of it can work: the store takes what is written to it (tried for real, at most once a second), the process is not stopping, chat surfaces are connected. Asks no
/// model.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "readyz", security(()),
    responses(
        (status = 200, description = "Ready.", body = Readiness),
        (status = 503, description = "Not ready; `reasons` says why.", body = Readiness),
    )
)]
pub async fn readyz(State(service): State<Service>) -> Response {
    let mut readiness = readiness(service.runtime()).await;
    let parts = service.runtime().parts();
    readiness
        .reasons
        .extend(parts.platforms.problems().iter().map(|problem| parts.secrets.clean(problem).into_owned()));
    readiness.ready = readiness.reasons.is_empty();
    answer(readiness)
}

/// Whether it can answer requests, whatever is wrong with chat surfaces: for load balancers.
#[utoipa::path(
    get, path = "/readyz/http", tag = "operations", operation_id = "readyz_http", security(()),
    responses(
        (status = 200, description = "Ready to answer requests.", body = Readiness),
        (status = 503, description = "Not ready; `reasons` says why.", body = Readiness),
    )
)]
pub async fn readyz_http(State(service): State<Service>) -> Response {
    answer(readiness(service.runtime()).await)
}

fn answer(readiness: Readiness) -> Response {
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(readiness)).into_response()
}

/// Whether this runtime can work now, chat surfaces aside.
pub async fn readiness(runtime: &Runtime) -> Readiness {
    let parts = runtime.parts();
    let draining = runtime.is_draining();
    let mut reasons = Vec::new();
    if draining {
        reasons
            .push("The process is stopping and takes nothing new. Ask another one, or again in a moment.".to_owned());
    }
    let reachable = match tokio::time::timeout(STORE_TIMEOUT, runtime.store_works()).await {
        Ok(Ok(())) => true,
        Ok(Err(fault)) => {
            reasons.push(store_reason(fault).to_owned());
            false
        }
        Err(_) => {
            let seconds = STORE_TIMEOUT.as_secs();
            tracing::warn!(timeout_s = seconds, "the store does not answer in time");
            reasons.push(format!("The store did not answer within {seconds} s. Look at the disk and at the log."));
            false
        }
    };
    let mut configured: Vec<String> = parts.providers.named.keys().cloned().collect();
    if !parts.providers.scripted.is_empty() {
        configured.push("scripted".to_owned());
    }
    configured.sort();
    Readiness {
        service: SERVICE,
        version: env!("CARGO_PKG_VERSION"),
        ready: reasons.is_empty(),
        reasons,
        draining,
        store: StoreReadiness {
            reachable,
            durability: match parts.store.durability() {
                Durability::Process => "process",
                Durability::Disk => "disk",
            },
        },
        providers: ProviderReadiness { default: parts.providers.default.clone(), configured },
        platforms: [crate::platform::console::SURFACE, crate::platform::slack::SURFACE]
            .into_iter()
            .filter(|surface| parts.platforms.pushes(surface))
            .collect(),
    }
}

/// Without paths and ids: whoever asks has no token. The log has the rest.
fn store_reason(fault: Fault) -> &'static str {
    match fault {
        Fault::Full => "The disk of the store is full, so nothing is accepted. Make room; it goes on by itself.",
        Fault::Gone => {
            "A file of the store was removed or replaced while it was open, so nothing is accepted. Put the same file back, or restart the service; the log says which."
        }
        Fault::ReadOnly => {
            "The store can only be read, so nothing is accepted. Let the service's user write to it; it goes on by itself."
        }
        Fault::Corrupt => {
            "The store cannot be read back, so nothing is accepted. Run `twelve doctor`; the log says more."
        }
        Fault::Busy => "Another program keeps the store locked. Run `twelve doctor`; the log says more.",
        Fault::Broken => {
            "The store cannot be written to, or is closed. Look at its disk and at the log, then restart the service."
        }
    }
}

/// What this process has done since it started, as OpenMetrics text.
///
/// Needs a token with the scope `read` or `admin`; a scraper on the same machine can send the local token.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "metrics", security(("bearer" = ["read"])),
    responses(
        (status = 200, description = "OpenMetrics text.", body = String, content_type = "application/openmetrics-text"),
        (status = 401, description = "No token, or an unknown one.", content_type = "application/problem+json"),
        (status = 403, description = "The token has neither the scope `read` nor `admin`.", content_type = "application/problem+json"),
    )
)]
pub async fn scrape(_: May<Read>, State(service): State<Service>) -> Response {
    let runtime = service.runtime();
    let open = ApprovalFilter { open: Some(true), ..ApprovalFilter::default() };
    let approvals_pending =
        match tokio::time::timeout(STORE_TIMEOUT, runtime.parts().store.count_approvals(&open)).await {
            Ok(Ok(count)) => Some(count),
            Ok(Err(error)) => {
                tracing::debug!(%error, "open approvals could not be counted");
                None
            }
            Err(_) => None,
        };
    let text = runtime.parts().metrics.scrape(&Sampled { approvals_pending, effects_in_flight: runtime.in_flight() });
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], text).into_response()
}
