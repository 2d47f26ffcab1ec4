//! One POST to a vendor, one answer or one named failure.
//!
//! This module owns what is the same for every HTTP provider: the address, the lazily built client,
//! time and size bounds, and the mapping from statuses and broken connections to
//! [`ModelErrorKind`]. It leaves out the format of bodies, and retries of any kind.
//!
//! Nothing that comes from the other side is quoted in a message: an error body may hold the prompt,
//! an address may hold a key. What an error body says is recognised, and said in our own words.

use std::error::Error;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use secrecy::ExposeSecret;

use super::too_long::too_long;
use super::{ConfigError, HttpProviderConfig, failure, malformed};
use crate::agent::{ModelError, ModelErrorKind};

/// Longest wish for a pause that is taken seriously: a day. Beyond it a person is the better clock.
const MAX_RETRY_AFTER_MS: u64 = 24 * 60 * 60 * 1_000;
/// As much of an error's body as is read to recognise it, in bytes; the vendors' have under 1 kB.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// How long an unused connection is kept, in milliseconds: agents ask in bursts.
const IDLE_MS: u64 = 60_000;

/// Recognises a vendor's error body and says it in our words.
pub(super) type Explain = fn(StatusCode, &[u8]) -> Option<&'static str>;

/// Where one vendor is asked.
pub(super) struct Endpoint {
    /// The vendor's name for people.
    who: &'static str,
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
    connect_timeout: Duration,
    max_response_bytes: usize,
    explain: Explain,
    /// Built at the first question: reading the system's certificates takes longer than a start may.
    client: OnceLock<Client>,
}

impl Endpoint {
    /// `path` is appended to the base URL. `key` makes the header that carries the key.
    pub(super) fn new(
        who: &'static str,
        config: &HttpProviderConfig,
        path: fn(&Url) -> &'static [&'static str],
        key: fn(&str) -> (HeaderName, String),
        explain: Explain,
    ) -> Result<Self, ConfigError> {
        let mut url: Url = config.base_url.trim().parse().map_err(|_| ConfigError::NotAUrl(who))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ConfigError::Scheme(who));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ConfigError::Credentials(who));
        }
        url.set_fragment(None);
        let path = path(&url);
        url.path_segments_mut().map_err(|()| ConfigError::NotAUrl(who))?.pop_if_empty().extend(path);

        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let secret = config.api_key.expose_secret();
        if !secret.is_empty() {
            let (name, text) = key(secret);
            let mut value = HeaderValue::from_str(&text).map_err(|_| ConfigError::Key(who))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self {
            who,
            url,
            headers,
            timeout: Duration::from_millis(config.timeout_ms),
            connect_timeout: Duration::from_millis(config.connect_timeout_ms),
            max_response_bytes: config.max_response_bytes,
            explain,
            client: OnceLock::new(),
        })
    }

    pub(super) fn with_header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// Sends `body` once and gives the body of a 2xx answer.
    pub(super) async fn post(&self, body: Vec<u8>) -> Result<Vec<u8>, ModelError> {
        let mut response = self
            .client()?
            .post(self.url.clone())
            .headers(self.headers.clone())
            .timeout(self.timeout)
            .body(body)
            .send()
            .await
            .map_err(|e| self.lost(&e, false))?;
        if response.status().is_success() {
            let too_long = || malformed(self.who, &format!("it is longer than {} bytes", self.max_response_bytes));
            if response.content_length().is_some_and(|n| n > self.max_response_bytes as u64) {
                return Err(too_long());
            }
            let mut answer = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|e| self.lost(&e, true))? {
                if answer.len() + chunk.len() > self.max_response_bytes {
                    return Err(too_long());
                }
                answer.extend_from_slice(&chunk);
            }
            return Ok(answer);
        }
        // The status already is the error: an explanation that breaks off or is too long is gone without.
        let mut explanation = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            if explanation.len() + chunk.len() > MAX_ERROR_BYTES {
                break;
            }
            explanation.extend_from_slice(&chunk);
        }
        Err(self.refused(response.status(), response.headers(), &explanation))
    }

    fn client(&self) -> Result<&Client, ModelError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // reqwest panics without a default; when `main` or a test has set it, this changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("twelve/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(Duration::from_millis(IDLE_MS))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        // A proxy of the environment is not for servers on this machine.
        if matches!(self.url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            builder = builder.no_proxy();
        }
        // Without TLS the system's certificates are not needed, and reading them takes a while.
        if self.url.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|_| {
            let message = format!("{} cannot be asked: no TLS client could be set up (CA certificates?)", self.who);
            failure(ModelErrorKind::Unreachable, message)
        })?;
        Ok(self.client.get_or_init(|| client))
    }

    /// A question that got no whole answer.
    fn lost(&self, error: &reqwest::Error, answering: bool) -> ModelError {
        let who = self.who;
        if error.is_connect() {
            failure(ModelErrorKind::Unreachable, format!("{who} could not be reached: {}", no_connection(error)))
        } else if error.is_timeout() {
            let seconds = self.timeout.as_secs_f32();
            failure(ModelErrorKind::Timeout, format!("{who} did not answer within {seconds} s"))
        } else if !answering {
            failure(ModelErrorKind::Unreachable, format!("{who} closed the connection without an answer"))
        } else if io_cause(error, io::ErrorKind::InvalidData) {
            malformed(who, "it cannot be decompressed")
        } else {
            failure(ModelErrorKind::Timeout, format!("{who} stopped in the middle of its answer"))
        }
    }

    /// An answer with another status than success.
    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ModelError {
        let (kind, usual) = match status.as_u16() {
            429 => (ModelErrorKind::RateLimited, "rate limited"),
            503 | 529 => (ModelErrorKind::Overloaded, "overloaded"),
            500..=599 => (ModelErrorKind::Server, "an error of the server"),
            401 => (ModelErrorKind::Auth, "the API key is missing or wrong; check it"),
            403 => (ModelErrorKind::Auth, "the API key may not do this; check its rights"),
            408 => (ModelErrorKind::Timeout, "the request came too slowly"),
            404 => (ModelErrorKind::Rejected, "not found; check the base URL and the name of the model"),
            300..=399 => (
                ModelErrorKind::Rejected,
                "a redirect, which is not followed so that the key stays here; set the base URL to where it leads",
            ),
            _ => (ModelErrorKind::Rejected, "the request was refused"),
        };
        let too_long = too_long(status, body);
        let usual = if too_long.is_some() { "the request is too long for the model" } else { usual };
        let why = (self.explain)(status, body).unwrap_or(usual);
        ModelError {
            kind: too_long.unwrap_or(kind),
            message: format!("{} answered {} ({why})", self.who, status.as_u16()),
            retry_after_ms: retry_after_ms(headers),
        }
    }
}

/// Why no connection came about, and what to do.
fn no_connection(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "connecting took too long; check the network and the base URL"
    } else if io_cause(error, io::ErrorKind::ConnectionRefused) {
        "the connection was refused; check the base URL and that the server runs"
    } else if error.is_dns() {
        "its name was not found; check the base URL and the network"
    } else {
        "no connection; check the network, the certificate and the base URL"
    }
}

/// Whether an I/O error of this kind is among the causes.
fn io_cause(error: &reqwest::Error, kind: io::ErrorKind) -> bool {
    let cause: Option<&dyn Error> = error.source();
    std::iter::successors(cause, |e| (*e).source())
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == kind))
}

/// The wish of a Retry-After header in milliseconds, at most [`MAX_RETRY_AFTER_MS`].
///
/// It is a number of seconds or a date (RFC 9110, 10.2.3). A date is read against the answer's own Date
/// header, so it needs no clock and survives one that is wrong; without that header it says nothing.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let ms = match text.parse::<u64>() {
        Ok(seconds) => seconds.saturating_mul(1_000),
        Err(_) => {
            let sent = date(headers.get(DATE)?.to_str().ok()?)?;
            u64::try_from(date(text)?.saturating_sub(sent)).unwrap_or(0)
        }
    };
    Some(ms.min(MAX_RETRY_AFTER_MS))
}

/// An HTTP date in milliseconds since the epoch. The format is the fixed form of RFC 2822's.
fn date(text: &str) -> Option<i64> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    parser.parse_timestamp(text.trim()).ok().map(|t| t.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(pairs: &[(HeaderName, &str)]) -> Option<u64> {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        retry_after_ms(&headers)
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date_against_the_answers_own_date() {
        let date = (DATE, "Sun, 22 Nov 2026 14:00:00 GMT");
        assert_eq!(wish(&[]), None);
        assert_eq!(wish(&[(RETRY_AFTER, "7")]), Some(7_000));
        assert_eq!(wish(&[(RETRY_AFTER, "0")]), Some(0));
        assert_eq!(wish(&[date.clone(), (RETRY_AFTER, "Sun, 22 Nov 2026 14:01:30 GMT")]), Some(90_000));
        assert_eq!(wish(&[date.clone(), (RETRY_AFTER, "Sun, 22 Nov 2026 13:00:00 GMT")]), Some(0), "already past");
        assert_eq!(wish(&[(RETRY_AFTER, "Sun, 22 Nov 2026 14:01:30 GMT")]), None, "a date without a date to compare");
        assert_eq!(wish(&[date, (RETRY_AFTER, "soon")]), None);
        assert_eq!(wish(&[(RETRY_AFTER, "18446744073709551615")]), Some(MAX_RETRY_AFTER_MS));
    }

    #[test]
    fn a_path_is_appended_to_any_base_url() {
        let url = |base: &str| {
            let config = HttpProviderConfig::new(base, "k");
            let path: fn(&Url) -> &'static [&'static str] = |_| &["chat", "completions"];
            Endpoint::new("X", &config, path, |_| (RETRY_AFTER, String::new()), |_, _| None).map(|e| e.url.to_string())
        };
        assert_eq!(url("https://a.test/v1").unwrap(), "https://a.test/v1/chat/completions");
        assert_eq!(url("https://a.test/v1/").unwrap(), "https://a.test/v1/chat/completions");
        assert_eq!(url("http://a.test:8080").unwrap(), "http://a.test:8080/chat/completions");
        assert_eq!(url(" https://a.test/x/y/?v=1#z ").unwrap(), "https://a.test/x/y/chat/completions?v=1");
        assert_eq!(url("a.test/v1"), Err(ConfigError::NotAUrl("X")));
        assert_eq!(url(""), Err(ConfigError::NotAUrl("X")));
        assert_eq!(url("file:///etc"), Err(ConfigError::Scheme("X")));
        assert_eq!(url("https://me:secret@a.test"), Err(ConfigError::Credentials("X")));
    }
}
