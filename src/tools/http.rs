//! The one HTTP client of the tools: no redirects, no proxy, bounded times and bodies, no pool.
//!
//! No pool, because a request on a connection that the other side just closed cannot be told from one
//! that was received; a deployment must know. What is measured includes the connect, as a caller sees it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, Url, redirect};
use serde_json::Value;

use super::{shown, text};

/// Longest body that is read of any answer, in bytes. Versions and health reports are far below it.
pub const MAX_BODY: usize = 64 * 1024;

/// Longest wait for a connection. A request whose own limit is shorter than this, and that ends while it
/// connects, counts as lost: the safe side.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Default)]
pub(super) struct Http {
    /// Built at the first request: it reads the system's certificates, which takes longer than a start may.
    client: OnceLock<Result<Client, String>>,
}

/// What came back.
pub(super) struct Answer {
    pub status: u16,
    /// At most [`MAX_BODY`] bytes.
    pub body: Vec<u8>,
    /// Whether `body` is all of it.
    pub complete: bool,
    /// From before the connect until the head of the answer, in milliseconds.
    pub ms: u64,
}

/// Why nothing came back.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The request certainly never left.
    NotSent(String),
    /// The other side may have received it.
    Lost(String),
}

impl NoAnswer {
    pub fn into_text(self) -> String {
        match self {
            Self::NotSent(why) | Self::Lost(why) => why,
        }
    }
}

/// A JSON body and what identifies the call.
pub(super) struct Payload<'a> {
    pub json: &'a Value,
    pub idempotency_key: String,
    pub bearer: Option<&'a str>,
}

impl Http {
    pub async fn get(&self, url: Url, limit: Duration) -> Result<Answer, NoAnswer> {
        self.send(Method::GET, url, None, limit).await
    }

    /// The same as somebody.
    pub async fn get_as(&self, url: Url, bearer: Option<&str>, limit: Duration) -> Result<Answer, NoAnswer> {
        let mut request = self.client()?.get(url);
        if let Some(token) = bearer {
            request = request.bearer_auth(token);
        }
        answer(request, limit).await
    }

    fn client(&self) -> Result<&Client, NoAnswer> {
        self.client.get_or_init(build).as_ref().map_err(|e| NoAnswer::NotSent(e.clone()))
    }

    /// Sends one request and reads the answer, in `limit` altogether.
    pub async fn send(
        &self,
        method: Method,
        url: Url,
        payload: Option<Payload<'_>>,
        limit: Duration,
    ) -> Result<Answer, NoAnswer> {
        let mut request = self.client()?.request(method, url);
        if let Some(Payload { json, idempotency_key, bearer }) = payload {
            request = request.json(json).header("idempotency-key", idempotency_key);
            if let Some(token) = bearer {
                request = request.bearer_auth(token);
            }
        }
        answer(request, limit).await
    }
}

async fn answer(request: RequestBuilder, limit: Duration) -> Result<Answer, NoAnswer> {
    let started = Instant::now();
    let mut response = request.timeout(limit).send().await.map_err(|e| no_answer(&e, limit))?;
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let status = response.status().as_u16();
    let mut body = Vec::new();
    // The head has arrived, so the status counts even if the body never ends.
    let complete = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = MAX_BODY - body.len();
                body.extend(chunk.iter().take(room));
                if chunk.len() > room {
                    break false;
                }
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    Ok(Answer { status, body, complete, ms })
}

fn build() -> Result<Client, String> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("twelve/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| format!("the HTTP client cannot be built: {e}"))
}

/// Without the address: it may hold what is not for the reader.
pub(super) fn no_answer(error: &reqwest::Error, limit: Duration) -> NoAnswer {
    let why = if error.is_connect() && error.is_timeout() {
        format!("no connection within {}", shown(limit.min(CONNECT_TIMEOUT)))
    } else if error.is_timeout() {
        format!("no answer within {}", shown(limit))
    } else {
        let mut cause: &dyn std::error::Error = error;
        let mut said = String::new();
        while let Some(next) = cause.source() {
            cause = next;
            said = cause.to_string();
        }
        if said.is_empty() { "the request failed".to_owned() } else { text::one_line(&said, text::MAX_QUOTE) }
    };
    if error.is_connect() || error.is_builder() { NoAnswer::NotSent(why) } else { NoAnswer::Lost(why) }
}
