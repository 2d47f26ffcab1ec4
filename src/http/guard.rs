//! In front of everything: the right host, who is asking and how often, bodies of bounded size in bounded
//! time; for handlers, JSON that means one thing only ([`Json`], read once the caller is known); and behind everything: headers that browsers heed, problems instead
//! of bare statuses, a reference instead of a panic.
//!
//! The time for the head of a request and the number of connections are [`super::serve`]'s. Which scope a
//! route needs is the route's.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::access::note_caller;
use super::auth::{Identity, Payer, host_of, identify, name_of, payer};
use super::problem::Problem;
use super::serve::is_loopback_host;
use super::{Peer, Service, slack};
use crate::agent::json;
use crate::tools::contained;

/// Requests with a wrong token that one address gets a real answer to, in a minute: enough for somebody who
/// is setting a token up.
pub const WRONG_PER_MINUTE: u32 = 30;
/// Requests after which those who have not asked lately are forgotten.
const FORGET_EVERY: u32 = 1024;
/// Where webhooks are delivered.
const TRIGGER: &str = "/webhooks/trigger";
/// What a machine asks to find out whether this one lives, from an address that others share: such an
/// answer costs little, and a refusal would stop the service.
const UNCOUNTED: [&str; 3] = ["/healthz", "/readyz", "/readyz/http"];
/// How often who has asked lately.
pub struct Rates {
    all: DefaultKeyedRateLimiter<String>,
    wrong: DefaultKeyedRateLimiter<String>,
    asked: AtomicU32,
}

impl Rates {
    pub fn new(requests_per_minute: u32) -> Self {
        let quota = |n: u32| Quota::per_minute(NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN));
        Self {
            all: RateLimiter::keyed(quota(requests_per_minute)),
            wrong: RateLimiter::keyed(quota(WRONG_PER_MINUTE)),
            asked: AtomicU32::new(0),
        }
    }

    /// How long this one has to wait, if it comes too often.
    fn check(&self, path: &str, payer: Payer, wrong: bool, peer: Option<IpAddr>) -> Result<(), Duration> {
        if UNCOUNTED.contains(&path) {
            return Ok(());
        }
        if self.asked.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.all.retain_recent();
            self.wrong.retain_recent();
        }
        let (limiter, key) = match payer {
            // Their signature says who they are; whoever else is at the address does not hold them up.
            _ if path == TRIGGER => (&self.all, format!("webhooks {}", address(peer))),
            Payer::Token(name) => (&self.all, format!("token {name}")),
            Payer::Person(id) => (&self.all, format!("person {id}")),
            Payer::Address if wrong => (&self.wrong, address(peer)),
            Payer::Address => (&self.all, address(peer)),
        };
        limiter.check_key(&key).map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

/// Where somebody is. Who has one IPv6 address has a whole /64 of them.
fn address(peer: Option<IpAddr>) -> String {
    match peer.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("from {a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Some(IpAddr::V4(ip)) => format!("from {ip}"),
        None => "from nowhere".to_owned(),
    }
}

/// Puts the guard around all routes that there are so far.
pub fn around(routes: Router<Service>, service: &Service) -> Router<Service> {
    routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(service.clone(), guard))
}

async fn unknown_path() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no_such_path",
        "There is nothing at this address. `/docs` lists what there is.",
    )
}

async fn wrong_method(method: Method) -> Problem {
    let detail = format!("{method} is not for this address; the header Allow says what is.");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

async fn guard(State(service): State<Service>, request: Request, next: Next) -> Response {
    dressed(match contained(admit(&service, request, next)).await {
        Ok(Ok(response)) => response,
        Ok(Err(refused)) => *refused,
        Err(panic) => Problem::internal(&panic).into_response(),
    })
}

/// Everything that a request has to pass before a route sees it.
async fn admit(service: &Service, request: Request, next: Next) -> Result<Response, Box<Response>> {
    let settings = &service.settings().http;
    let (mut parts, body) = request.into_parts();
    let refuse = |problem: Problem| Box::new(problem.into_response());
    check_framing(&parts.headers)
        .map_err(|problem| Box::new(([(header::CONNECTION, "close")], problem).into_response()))?;
    let slacks = slack::is_ours(service, parts.uri.path());
    // Who signs what it sends needs no name for us, no token, and is not held up with others at its address.
    if !slacks {
        check_host(service, &parts).map_err(refuse)?;
        let identity = identify(service, &parts);
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
        let (payer, wrong) = (payer(service, &parts, &identity), matches!(identity, Identity::Wrong));
        let counted = service.rates().check(parts.uri.path(), payer, wrong, peer);
        counted.map_err(|wait| Box::new(too_often(wait)))?;
        if let Identity::Known(caller) = &identity {
            note_caller(&parts.extensions, caller);
            parts.extensions.insert(caller.clone());
        }
        parts.extensions.insert(identity);
    }
    let max_body = if slacks { slack::MAX_BODY } else { settings.max_body };
    let body = if body.is_end_stream() {
        Bytes::new()
    } else {
        let reading = read(body, &parts.headers, max_body);
        let limit = Duration::from_millis(settings.body_timeout);
        let body = tokio::time::timeout(limit, reading).await.unwrap_or_else(|_| Err(too_slow(limit)));
        // What was not read is not waited for either.
        body.map_err(|problem| Box::new(([(header::CONNECTION, "close")], problem).into_response()))?
    };
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

/// Where a body ends has to be plain to whatever passes the request on as well: a proxy that reads
/// `Transfer-Encoding` in another way than we do would take the rest of the body for a request of its own.
fn check_framing(headers: &HeaderMap) -> Result<(), Problem> {
    let mut given = headers.get_all(header::TRANSFER_ENCODING).iter();
    let plain = match (given.next(), given.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if plain {
        return Ok(());
    }
    let detail = "A body is sent with a Content-Length, or with `Transfer-Encoding: chunked` and nothing else there.";
    Err(Problem::new(StatusCode::BAD_REQUEST, "bad_transfer_encoding", detail))
}

/// A request says once which host it is for (RFC 9112, 3.2). Where only this machine is served, a name that
/// somebody else's DNS points here is not ours.
fn check_host(service: &Service, parts: &Parts) -> Result<(), Problem> {
    let settings = &service.settings().http;
    let mut given = parts.headers.get_all(header::HOST).iter();
    let (host, again) = (given.next(), given.next());
    if again.is_some() || (host.is_none() && parts.version == Version::HTTP_11) {
        let detail = "A request names the host that it is for once, in the header Host.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_host", detail));
    }
    if !is_loopback_host(&settings.host) {
        return Ok(());
    }
    let ours = host_of(&settings.public_url()).unwrap_or_default();
    let is_ours = |name: &str| is_loopback_host(name) || (!ours.is_empty() && ours.eq_ignore_ascii_case(name));
    // What speaks an older HTTP need not name one.
    if host.is_none_or(|host| host.to_str().is_ok_and(|host| is_ours(name_of(host))))
        && parts.uri.host().is_none_or(is_ours)
    {
        return Ok(());
    }
    let detail = "This service is for this machine alone and is not called so. Use localhost, or have an operator set `http.public_url`.";
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", detail))
}

fn too_often(wait: Duration) -> Response {
    let seconds = wait.as_secs() + 1;
    let detail = format!("Too many requests; try again in {seconds} s.");
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail);
    ([(header::RETRY_AFTER, HeaderValue::from(seconds))], problem).into_response()
}

fn too_slow(limit: Duration) -> Problem {
    let detail = format!("The body did not come within {} s. Nothing was done; send it again.", limit.as_secs_f32());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
}

/// The whole body, of at most `most` bytes. What says that it is longer is not read at all.
async fn read(mut body: Body, headers: &HeaderMap, most: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("The body has more than {most} bytes. Put long material where the agent can look it up.");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let mut read: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "broken_body", "The body broke off. Nothing was done; send it again.")
        })?;
        if let Ok(data) = frame.into_data() {
            if read.len().saturating_add(data.len()) > most {
                return Err(too_large());
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.into())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// The answer with what every answer carries.
fn dressed(response: Response) -> Response {
    let bare = !response.headers().contains_key(header::CONTENT_TYPE);
    let mut response = match response.status() {
        // Nobody has said anything about it yet.
        status if bare && (status.is_client_error() || status.is_server_error()) => {
            let reason = status.canonical_reason().unwrap_or("refused");
            let mut explained = Problem::new(status, "refused", format!("{reason}.")).into_response();
            for (name, value) in response.headers() {
                if !matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING) {
                    explained.headers_mut().append(name, value.clone());
                }
            }
            explained
        }
        _ => response,
    };
    let status = response.status();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    set(header::CACHE_CONTROL, "no-store");
    match status {
        StatusCode::UNAUTHORIZED => set(header::WWW_AUTHENTICATE, "Bearer"),
        StatusCode::SERVICE_UNAVAILABLE => set(header::RETRY_AFTER, "2"),
        _ => {}
    }
    response
}

/// A JSON body as `T`. Taken after the caller: reading JSON is work that nobody gets who has no right to it.
pub struct Json<T>(pub T);

/// A JSON body as `T`, or nothing at all, which may be said as `null`.
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Service> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Service) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            let detail = "This takes JSON: send it with `Content-Type: application/json`.";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail));
        }
        match parsed(body).await? {
            Some(value) => from_value(&value).map(Json),
            None => {
                Err(Problem::new(StatusCode::BAD_REQUEST, "bad_json", "The body is empty; it has to be a JSON object."))
            }
        }
    }
}

impl<T: DeserializeOwned + Default> FromRequest<Service> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, service: &Service) -> Result<Self, Problem> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        if !is_json(request.headers()) {
            return Json::from_request(request, service).await.map(|Json(body)| Self(body));
        }
        match parsed(request.into_body()).await? {
            None | Some(Value::Null) => Ok(Self(T::default())),
            Some(value) => from_value(&value).map(Self),
        }
    }
}

/// The one value of a JSON body; `None` if it is empty. The guard has read it already, and bounded it.
async fn parsed(body: Body) -> Result<Option<Value>, Problem> {
    let read = axum::body::to_bytes(body, usize::MAX).await;
    let bytes = read.map_err(|error| Problem::internal(&error))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let value = std::str::from_utf8(&bytes)
        .map_err(|_| "it is not UTF-8 text".to_owned())
        .and_then(|text| json::parse(text).map_err(|e| e.to_string()));
    value.map(Some).map_err(|why| {
        let detail = format!("The body can't be read as JSON: {why}. Nothing was done.");
        Problem::new(StatusCode::BAD_REQUEST, "bad_json", detail)
    })
}

fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Problem> {
    // serde would also read a struct from an array.
    let why = match value {
        Value::Object(_) => match T::deserialize(value) {
            Ok(read) => return Ok(read),
            Err(e) => e.to_string(),
        },
        _ => "it has to be a JSON object".to_owned(),
    };
    let detail = format!("The body can't be used: {why}. `/docs` says what it may hold.");
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail))
}
