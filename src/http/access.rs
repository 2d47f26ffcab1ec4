//! One line in the log, and one count, for each request.
//!
//! A line names the method, the route's template, the status, the time until the head of the answer, who
//! asked and the request's id. It never holds a path (links carry tokens), a query, a header, a body or an
//! address. Requests of supervisors and scrapers are logged at `debug`.
//!
//! This is to be the outermost layer: what an inner one refuses is counted as well.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::{Caller, Service, Via};
use crate::metrics::method_name;

/// The header that carries a request's id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Ids of others are taken over up to this length, in characters.
const MAX_ID: usize = 64;

/// Routes that machines ask every few seconds.
const QUIET: [&str; 4] = ["/healthz", "/readyz", "/readyz/http", "/metrics"];

/// Who turned out to ask; filled in by whoever finds out.
#[derive(Clone, Default)]
struct Asking(Arc<OnceLock<(&'static str, String)>>);

/// To be called by whoever has found out who is asking, so that the log names them.
pub fn note_caller(extensions: &Extensions, caller: &Caller) {
    let Some(Asking(asking)) = extensions.get::<Asking>() else { return };
    let (kind, name) = match &caller.via {
        Via::Token(name) => ("token", name),
        Via::Session => ("session", &caller.principal.id),
        Via::Proxy => ("proxy", &caller.principal.id),
        Via::Local => ("local", &caller.principal.id),
        Via::Loopback => ("loopback", &caller.principal.id),
        Via::Demo => ("demo", &caller.principal.id),
    };
    // Whoever was first found out stays.
    let _ = asking.set((kind, name.clone()));
}

/// The layer.
pub async fn record(State(service): State<Service>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let asking = Asking::default();
    request.headers_mut().insert(REQUEST_ID, id.clone());
    request.extensions_mut().insert(asking.clone());
    let method = method_name(request.method().as_str());
    let route = request.extensions().get::<MatchedPath>().cloned();

    let mut response = next.run(request).await;

    let id = response.headers_mut().entry(REQUEST_ID).or_insert(id).clone();
    let took = started.elapsed();
    let status = response.status().as_u16();
    let route = route.as_ref().map(MatchedPath::as_str);
    service.runtime().parts().metrics.request(route, method, status, took);
    let (kind, name) = asking.0.get().map_or(("nobody", ""), |(kind, name)| (*kind, name.as_str()));
    let (id, route) = (id.to_str().unwrap_or_default(), route.unwrap_or("none"));
    let duration_ms = took.as_millis() as u64;
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                http.method = method,
                http.route = route,
                http.status = status,
                duration_ms,
                caller.kind = kind,
                caller.name = name,
                request.id = id,
                "a request was answered"
            )
        };
    }
    match status {
        500.. => line!(warn),
        _ if QUIET.contains(&route) => line!(debug),
        _ => line!(info),
    }
    response
}

/// The id that a proxy gave, if it is one; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let fits = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        (1..=MAX_ID).contains(&bytes.len()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
    };
    headers.get(REQUEST_ID).filter(fits).cloned().unwrap_or_else(|| {
        let id = format!("{:016x}", fastrand::u64(..));
        // Hexadecimal digits always fit into a header.
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("none"))
    })
}
