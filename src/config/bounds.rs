//! What each setting has to be beyond its type: one table, and the words for a value that is not.

use super::is_reserved;
use crate::agent::{MAX_ERRORS, MAX_OUTPUT_TOKENS, MAX_STEPS, MAX_TOKENS, span};

/// What a value has to be, beyond its type.
pub(super) enum Bound {
    OneOf(&'static [&'static str]),
    /// Both ends included.
    Whole(i64, i64),
    /// Above the first, at most the second.
    Fraction(f64, f64),
    /// Milliseconds, both ends included.
    Span(u64, u64),
    Url,
    NotEmpty,
    /// The beginning of ids of people.
    Prefix,
    LogFilter,
}

const SECOND: u64 = 1_000;
const DAY: u64 = 86_400 * SECOND;

/// The bounds of all settings that have any. The upper ends are far beyond use; they catch wrong units.
pub(super) const BOUNDS: [(&str, Bound); 43] = [
    ("app.name", Bound::NotEmpty),
    ("app.data_dir", Bound::NotEmpty),
    ("log.level", Bound::OneOf(&["error", "warn", "info", "debug", "trace"])),
    ("log.filter", Bound::LogFilter),
    ("store.durability", Bound::OneOf(&["process", "disk"])),
    ("model.provider", Bound::OneOf(&["auto", "openai", "anthropic", "scripted"])),
    ("model.max_context_tokens", Bound::Whole(1_000, 10_000_000)),
    ("model.context_compression_threshold", Bound::Fraction(0.0, 1.0)),
    ("model.keep_last_events", Bound::Whole(1, 10_000)),
    ("model.max_entries", Bound::Whole(10, 100_000)),
    ("model.timeout", Bound::Span(SECOND, DAY)),
    ("model.max_attempts", Bound::Whole(1, 100)),
    ("model.retry_base", Bound::Span(1, DAY)),
    ("model.retry_cap", Bound::Span(1, DAY)),
    ("providers.openai.base_url", Bound::Url),
    ("providers.anthropic.base_url", Bound::Url),
    ("runtime.max_concurrent_effects", Bound::Whole(1, 100_000)),
    ("runtime.max_cached_threads", Bound::Whole(1, 10_000_000)),
    ("runtime.drain_timeout", Bound::Span(0, DAY)),
    ("runtime.lease", Bound::Span(SECOND, DAY)),
    ("runtime.message_max_bytes", Bound::Whole(1_000, 10_000_000)),
    ("runtime.keep_intents", Bound::Span(26 * 3_600 * SECOND, 10 * 365 * DAY)),
    ("approvals.expires_after", Bound::Span(SECOND, 365 * DAY)),
    ("approvals.requester_may_approve", Bound::OneOf(&["never", "local", "always"])),
    ("approvals.approvers.quorum", Bound::Whole(1, 100)),
    ("limits.max_steps", Bound::Whole(1, MAX_STEPS as i64)),
    ("limits.max_tokens", Bound::Whole(1, MAX_TOKENS as i64)),
    ("limits.max_errors", Bound::Whole(1, MAX_ERRORS as i64)),
    ("limits.max_output_tokens", Bound::Whole(1, MAX_OUTPUT_TOKENS as i64)),
    ("http.host", Bound::NotEmpty),
    ("http.port", Bound::Whole(0, 65_535)),
    ("http.max_body", Bound::Whole(1_000, 100_000_000)),
    ("http.header_timeout", Bound::Span(100, 10 * 60 * SECOND)),
    ("http.body_timeout", Bound::Span(100, 10 * 60 * SECOND)),
    ("http.max_connections", Bound::Whole(1, 100_000)),
    ("http.requests_per_minute", Bound::Whole(1, 10_000_000)),
    ("http.session", Bound::Span(60 * SECOND, 365 * DAY)),
    ("http.proxy.prefix", Bound::Prefix),
    ("slack.api_url", Bound::Url),
    ("slack.threads", Bound::OneOf(&["all", "mentions"])),
    ("slack.max_file", Bound::Whole(0, 10_000_000)),
    ("slack.max_earlier", Bound::Whole(0, 1_000)),
    ("triggers.catch_up", Bound::Span(0, 7 * DAY)),
];

impl Bound {
    /// What the value has to be, if it is not.
    pub(super) fn refuses(&self, value: &toml::Value) -> Option<String> {
        let text = value.as_str().unwrap_or("");
        match self {
            Self::OneOf(words) => (!words.contains(&text)).then(|| format!("has to be {}", one_of(words))),
            Self::Whole(least, most) => (!value.as_integer().is_some_and(|n| (*least..=*most).contains(&n)))
                .then(|| format!("has to be a whole number from {least} to {most}")),
            Self::Fraction(above, most) => (!value.as_float().is_some_and(|n| n > *above && n <= *most))
                .then(|| format!("has to be a number above {above} and at most {most}")),
            Self::Span(least, most) => match span::parse(text) {
                Ok(ms) if (*least..=*most).contains(&ms) => None,
                Ok(_) => Some(format!("has to be from {} to {}", span::show(*least), span::show(*most))),
                Err(_) => Some("has to be a length of time such as \"90s\" or \"2h 30m\"".to_owned()),
            },
            Self::Url => match reqwest::Url::parse(text) {
                Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => Some(NOT_A_URL.to_owned()),
                Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                    Some("must not hold a user name or password: they would stand in messages and logs".to_owned())
                }
                Ok(_) => None,
                Err(_) => Some(NOT_A_URL.to_owned()),
            },
            Self::Prefix if is_reserved(text) => Some(format!("can't be \"{text}\": {KEPT}")),
            Self::NotEmpty | Self::Prefix => text.trim().is_empty().then(|| "must not be empty".to_owned()),
            Self::LogFilter => {
                let readable = text.is_empty() || text.parse::<tracing_subscriber::filter::Targets>().is_ok();
                (!readable).then(|| "has to be a list like \"twelve::store=trace,hyper=debug\"".to_owned())
            }
        }
    }
}

pub(super) const KEPT: &str = "ids that begin with `console:`, `agent:` or `system:` stand for this machine's terminal, for agents and for the engine";
const NOT_A_URL: &str = "has to be a URL that starts with http:// or https://";

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("\"{w}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
