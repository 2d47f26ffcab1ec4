//! `http_get` and `http_post`: what a model may ask of, and send to, other hosts.
//!
//! Owns the two tools and how an answer is put into words. Where they may go, and what guards each
//! connection, is in [`super::guarded`].

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use encoding_rs::Encoding;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::guarded::{Answer, End, Web};
use super::http::{NoAnswer, Payload};
use super::{Boxed, CallContext, Spec, Tool, canon, text, typed, written};
use crate::agent::{Outcome, Risk};

/// What a call may take beyond its own limit: a busy machine, and the reading of certificates at the first.
const SLACK: Duration = Duration::from_secs(5);

/// Longest address out of an answer that is shown, in characters.
const MAX_LOCATION: usize = 300;

/// Reads an address.
pub struct HttpGet {
    spec: Spec,
    web: Arc<Web>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetArgs {
    /// The address, starting with https:// or http://.
    url: canon::Url,
}

impl HttpGet {
    pub fn new(web: Arc<Web>) -> Self {
        let description = format!("Read an address by GET. Allowed hosts: {}.", web.describe());
        let spec = Spec::of::<GetArgs>("http_get", description).sends(web.reaches_anybody()).target(&["url"]);
        Self { spec, web }
    }
}

impl Tool for HttpGet {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn timeout(&self) -> Duration {
        self.web.limit() + SLACK
    }

    fn title(&self, args: &Value) -> String {
        format!("Read {}", place(args))
    }

    fn check(&self, args: &Value) -> Result<Value, String> {
        let args: GetArgs = typed(args)?;
        self.web.target(&args.url)?;
        written(&args)
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let work = async {
                let GetArgs { url } = typed(args)?;
                let asked = self.web.target(&url)?;
                let answer = self.web.get(asked.clone()).await.map_err(NoAnswer::into_text)?;
                Ok::<_, String>(in_words(&answer, Some(&asked)))
            };
            tokio::select! {
                biased;
                () = call.cancel.cancelled() => Outcome::Failed { error: "stopped before it was done".to_owned() },
                // Whatever the status: that the other side says no is an answer.
                done = work => match done {
                    Ok(text) => Outcome::Succeeded { text },
                    Err(error) => Outcome::Failed { error },
                },
            }
        })
    }
}

/// Sends a JSON object, once, with the header `Idempotency-Key`.
pub struct HttpPost {
    spec: Spec,
    web: Arc<Web>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PostArgs {
    /// The address, starting with https:// or http://. Redirects are not followed.
    url: canon::Url,
    /// The JSON object to send.
    body: Map<String, Value>,
}

impl HttpPost {
    pub fn new(web: Arc<Web>) -> Self {
        let description = format!("Send a JSON object to an address by POST. Allowed hosts: {}.", web.describe());
        // What it does is up to the other side.
        let spec = Spec::of::<PostArgs>("http_post", description).acts(Risk::High).target(&["url"]);
        Self { spec, web }
    }

    async fn send(&self, args: &Value, call: &CallContext) -> Outcome {
        let prepared = typed(args).and_then(|PostArgs { url, body }| Ok((self.web.target(&url)?, Value::Object(body))));
        let (url, body) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Outcome::Failed { error },
        };
        let payload = Payload { json: &body, idempotency_key: call.effect.to_string(), bearer: None };
        let answer = match self.web.post(url, payload).await {
            Ok(answer) => answer,
            Err(NoAnswer::NotSent(why)) => return Outcome::Failed { error: format!("{why}; nothing was sent") },
            Err(NoAnswer::Lost(why)) => return unknown(&format!("the request was sent, but {why}")),
        };
        match answer.status.as_u16() {
            // The body was not looked at there: these two ask for it to be sent again, elsewhere.
            307 | 308 => Outcome::Failed {
                error: format!(
                    "{}\nNothing was sent there: people approved the first address only.",
                    in_words(&answer, None)
                ),
            },
            400..=499 => Outcome::Failed { error: in_words(&answer, None) },
            // A gateway's 502 leaves open what happens behind it.
            500.. => unknown(&in_words(&answer, None)),
            _ => Outcome::Succeeded { text: in_words(&answer, None) },
        }
    }
}

fn unknown(why: &str) -> Outcome {
    Outcome::Unknown { error: format!("{why}\nLook whether it took effect before anything is tried again.") }
}

impl Tool for HttpPost {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn timeout(&self) -> Duration {
        self.web.limit() + SLACK
    }

    fn title(&self, args: &Value) -> String {
        format!("Send to {}", place(args))
    }

    fn check(&self, args: &Value) -> Result<Value, String> {
        let args: PostArgs = typed(args)?;
        self.web.target(&args.url)?;
        written(&args)
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            if call.cancel.is_cancelled() {
                return Outcome::Failed { error: "stopped before anything was sent".to_owned() };
            }
            tokio::select! {
                biased;
                outcome = self.send(args, call) => outcome,
                () = call.cancel.cancelled() => unknown("stopped while the request was under way"),
            }
        })
    }
}

/// The address for a title. It is canonical: a host in foreign letters shows its real form.
fn place(args: &Value) -> &str {
    args.get("url").and_then(Value::as_str).unwrap_or_default()
}

/// The status, what came with it, and the body if it can be read.
fn in_words(answer: &Answer, asked: Option<&Url>) -> String {
    let Answer { url, status, content_type, location, body, end } = answer;
    let mut said = format!("HTTP {status}");
    if !content_type.is_empty() {
        let _ = write!(said, ", {content_type}");
    }
    let _ = match end {
        End::Whole => write!(said, ", {} bytes", body.len()),
        End::Cut => write!(said, ", only the first {} bytes were read", body.len()),
        End::BrokenOff => write!(said, ", broke off after {} bytes", body.len()),
    };
    if asked.is_some_and(|asked| asked != url) {
        let _ = write!(said, ", redirected to {url}");
    }
    if let Some(location) = location {
        let location = text::cut(location.as_str(), MAX_LOCATION);
        let _ = write!(said, "\nIt points to {location} and was not followed.");
    }
    if body.is_empty() {
        return said;
    }
    match readable(content_type, body, *end != End::Whole) {
        Some(text) => said.push_str(&format!("\n\n{text}")),
        None => said.push_str("\nThe body is not text and is not shown."),
    }
    said
}

/// The body as text, in the character set that it is declared in; `None` if it is not text.
fn readable(content_type: &str, body: &[u8], more: bool) -> Option<String> {
    let content_type = content_type.to_ascii_lowercase();
    let mut parts = content_type.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let label = parts.find_map(|part| part.strip_prefix("charset=")).map(|label| label.trim_matches('"'));
    let declared = kind.starts_with("text/")
        || ["json", "xml", "javascript", "yaml", "x-www-form-urlencoded"].iter().any(|end| kind.ends_with(end));
    // A cut may go through the middle of a character; that alone makes no text unreadable.
    let body = match std::str::from_utf8(body) {
        Err(e) if more && e.error_len().is_none() => body.get(..e.valid_up_to()).unwrap_or(body),
        _ => body,
    };
    let encoding = label.and_then(|label| Encoding::for_label(label.as_bytes())).unwrap_or(encoding_rs::UTF_8);
    let (text, _, broken) = encoding.decode(body);
    let is_text = !text.contains('\0') && (declared || !broken);
    is_text.then(|| text::clean(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_text_if_it_reads_as_text_in_the_character_set_it_is_declared_in() {
        for (kind, body, more, text) in [
            ("text/plain; charset=utf-8", "caf\u{e9}".as_bytes(), false, Some("caf\u{e9}")),
            ("text/plain; charset=ISO-8859-1", b"caf\xe9", false, Some("caf\u{e9}")),
            ("text/html; Charset=\"windows-1251\"", b"\xef\xf0", false, Some("\u{43f}\u{440}")),
            ("text/plain; charset=utf-16le", b"h\0i\0", false, Some("hi")),
            ("text/plain; charset=no-such", b"hi", false, Some("hi")),
            ("", b"hi \x1b[2J\r\n\xe2\x80\xaethere", false, Some("hi [2J\nthere")),
            ("text/plain", b"one bad \xff byte", false, Some("one bad \u{fffd} byte")),
            ("application/octet-stream", b"text after all", false, Some("text after all")),
            ("application/octet-stream", b"not \xff text", false, None),
            ("application/octet-stream", b"cut \xe2\x82", true, Some("cut ")),
            ("application/octet-stream", b"ends \xe2\x82", false, None),
            ("application/pdf", b"%PDF-1.7\n\0\0", false, None),
            ("application/vnd.api+json", b"{}", false, Some("{}")),
            ("text/plain", b"nul \0", false, None),
        ] {
            assert_eq!(readable(kind, body, more).as_deref(), text, "{kind} {body:?}");
        }
    }
}
