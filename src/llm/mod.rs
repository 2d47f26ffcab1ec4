//! Model providers: the closed set of vendors that a [`ModelRequest`] can be put to.
//!
//! This module owns the translation between the core's words ([`crate::agent::ModelRequest`],
//! [`crate::agent::ModelReply`]) and each vendor's, and the naming of everything that can go wrong on
//! the way. It leaves out retries (each failure is an event, and the runtime schedules the next
//! attempt durably), the prompt and the window (built by the core), and whether a call may run (the
//! core's gate). No call is checked here: an unknown tool or bad arguments are passed through as they
//! came, because the core answers them.
//!
//! [`openai`] and [`anthropic`] speak HTTP through `wire`; [`scripted`] needs neither key nor net.

pub mod anthropic;
pub mod openai;
pub mod scripted;
mod too_long;
mod wire;

use std::fmt;

use secrecy::SecretString;

use crate::agent::{Finish, ModelError, ModelErrorKind, ModelReply, ModelRequest};

pub use anthropic::Anthropic;
pub use openai::{OpenAi, TokenLimitField};
pub use scripted::Scripted;

/// Longest answer that is read, in bytes. A reply of 100,000 tokens has about 0.5 MB.
pub const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;
/// How long one question may take altogether, in milliseconds. Both vendors' own clients wait 600 s;
/// without streaming a long answer is silent until it is complete.
pub const TIMEOUT_MS: u64 = 120_000;
/// How long a connection may take to open, TLS included, in milliseconds.
pub const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// Where an HTTP provider is and how much patience it gets.
#[derive(Clone)]
pub struct HttpProviderConfig {
    /// `http` or `https`, with or without a path and a trailing slash; no user name or password.
    pub base_url: String,
    /// Empty: no key is sent, which local servers accept.
    pub api_key: SecretString,
    /// For the whole question, connecting and reading included, in milliseconds.
    pub timeout_ms: u64,
    /// For opening a connection, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest answer that is read, in bytes, counted after decompression.
    pub max_response_bytes: usize,
}

impl HttpProviderConfig {
    /// The default bounds for this server and key.
    pub fn new(base_url: impl Into<String>, api_key: impl Into<SecretString>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: api_key.into(),
            timeout_ms: TIMEOUT_MS,
            connect_timeout_ms: CONNECT_TIMEOUT_MS,
            max_response_bytes: MAX_RESPONSE_BYTES,
        }
    }
}

/// Why a provider cannot be set up. Never holds the key or the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("the base URL of {0} is not a URL; write it like `https://host/path`")]
    NotAUrl(&'static str),
    #[error("the base URL of {0} has to start with `http://` or `https://`")]
    Scheme(&'static str),
    #[error("the base URL of {0} holds a user name or password; take it out and set the API key instead")]
    Credentials(&'static str),
    #[error("the API key of {0} holds characters that cannot be sent (a line break?); copy it again")]
    Key(&'static str),
}

/// A model vendor, ready to be asked.
pub enum Provider {
    OpenAi(OpenAi),
    Anthropic(Anthropic),
    Scripted(Scripted),
}

impl Provider {
    /// The name in settings, agents' files and events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OpenAi(_) => "openai",
            Self::Anthropic(_) => "anthropic",
            Self::Scripted(_) => "scripted",
        }
    }

    /// The model that is asked for where neither the agent nor the settings name one.
    pub fn default_model(&self) -> &'static str {
        match self {
            Self::OpenAi(_) => openai::DEFAULT_MODEL,
            Self::Anthropic(_) => anthropic::DEFAULT_MODEL,
            Self::Scripted(_) => scripted::MODEL,
        }
    }

    /// Puts the request to the model: one attempt, within the configured time. Dropping the future
    /// cancels it and closes its connection.
    ///
    /// # Errors
    /// Every failure has a [`ModelErrorKind`] and a short message for people, which never holds a key,
    /// a body or an address. A reply that was cut off is no error but [`Finish::CutOff`] without calls.
    pub async fn complete(&self, request: &ModelRequest) -> Result<ModelReply, ModelError> {
        match self {
            Self::OpenAi(provider) => provider.complete(request).await,
            Self::Anthropic(provider) => provider.complete(request).await,
            Self::Scripted(script) => script.answer(request),
        }
    }

    /// Exactly the body that [`Provider::complete`] sends. `scripted` sends nothing: here it gives what
    /// its script looks at.
    pub fn request_bytes(&self, request: &ModelRequest) -> Vec<u8> {
        match self {
            Self::OpenAi(provider) => provider.body(request),
            Self::Anthropic(provider) => provider.body(request),
            Self::Scripted(_) => scripted::body(request),
        }
    }
}

impl fmt::Debug for Provider {
    /// The name alone: an address may hold what is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Provider({})", self.name())
    }
}

/// What holds for every vendor's reply. Calls of a reply that was cut off or refused are dropped: the
/// last of them may be half, and nobody can tell which.
fn settle(mut reply: ModelReply, who: &str) -> Result<ModelReply, ModelError> {
    match reply.finish {
        Finish::CutOff | Finish::NoRoom | Finish::Refused => {
            reply.calls.clear();
            Ok(reply)
        }
        Finish::Complete if reply.calls.is_empty() && reply.text.trim().is_empty() => {
            Err(failure(ModelErrorKind::Empty, format!("{who} sent an empty reply")))
        }
        Finish::Complete => Ok(reply),
    }
}

fn failure(kind: ModelErrorKind, message: String) -> ModelError {
    ModelError { kind, message, retry_after_ms: None }
}

/// An answer that the vendor's own description of its interface rules out.
fn malformed(who: &str, what: &str) -> ModelError {
    failure(ModelErrorKind::Malformed, format!("{who} sent an answer that cannot be used: {what}"))
}
