//! What the core and a model provider say to each other. Data only: no vendor's words, no I/O.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One question to a model: everything that a provider needs to build its request, byte for byte.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRequest {
    /// Name of the model as the vendor spells it.
    pub model: String,
    /// The rendered prompt of the agent.
    pub system: String,
    /// The rendered context window: our own format, one block for each event.
    pub window: String,
    /// Tools on offer, in the order of the agent's file.
    pub tools: Arc<[ToolDecl]>,
    /// Upper bound of the reply in tokens.
    pub max_output_tokens: u32,
}

impl ModelRequest {
    /// Bytes of all that the model reads: the prompt, the tools and the window.
    pub fn text_bytes(&self) -> usize {
        let tool = |t: &ToolDecl| t.name.len() + t.description.len() + super::json::canonical(&t.schema).len();
        self.system.len() + self.window.len() + self.tools.iter().map(tool).sum::<usize>()
    }
}

/// A tool as it is shown to a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToolDecl {
    pub name: String,
    pub description: String,
    /// JSON schema of the arguments, without `$ref`.
    pub schema: Value,
}

/// What came back, in no vendor's format.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelReply {
    /// Prose beside or instead of calls.
    pub text: String,
    pub calls: Vec<RawCall>,
    pub finish: Finish,
    pub usage: Usage,
    /// The model that answered, as the provider reports it.
    pub model: String,
}

/// A call as the model wrote it: nothing is checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCall {
    pub tool: String,
    /// The arguments exactly as sent, still text, so that duplicate keys can be seen.
    pub arguments: String,
}

/// Why the model stopped writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finish {
    /// It was done, or wants its calls made.
    #[default]
    Complete,
    /// It ran into the output limit. Whatever was being written is not complete, so no call of it runs.
    CutOff,
    /// It ran into the end of its context: the request left too little room for the reply.
    NoRoom,
    /// It, or its vendor's filter, would not answer.
    Refused,
}

/// Tokens as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request, cached ones included.
    pub input: u64,
    /// Tokens of the reply.
    pub output: u64,
}

impl Usage {
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// Who answered: stamped on every event that a model caused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStamp {
    /// `openai`, `anthropic` or `scripted`. A scripted answer is always labelled as such.
    pub provider: String,
    pub model: String,
    /// Digest prefix of the rendered prompt that was used.
    pub prompt: String,
}

/// What went wrong at a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelErrorKind {
    /// 429.
    RateLimited,
    /// 503 or 529.
    Overloaded,
    /// Any other 5xx.
    Server,
    /// No answer in time, or a body that stopped half-way.
    Timeout,
    /// No connection.
    Unreachable,
    /// An answer that is not what the API promises: invalid JSON, missing fields, half a stream.
    Malformed,
    /// An answer with neither text nor calls.
    Empty,
    /// The reply was cut at the output limit, inside arguments or before anything useful.
    CutOff,
    /// 401 or 403: a key is missing or wrong.
    Auth,
    /// Any other 4xx: the request itself is refused (an unknown model, say).
    Rejected,
    /// The request is longer than the model's context. In the log it is `rejected` with a ceiling beside it, so
    /// that programs before this one can read it. In tokens, where the provider said them: what it takes, and what
    /// it counted.
    TooLong { limit: Option<u64>, counted: Option<u64> },
}

impl ModelErrorKind {
    /// Whether the same request can be expected to succeed later.
    pub fn is_transient(self) -> bool {
        match self {
            Self::RateLimited | Self::Overloaded | Self::Server | Self::Timeout | Self::Unreachable => true,
            Self::Malformed | Self::Empty | Self::CutOff => true,
            Self::Auth | Self::Rejected | Self::TooLong { .. } => false,
        }
    }
}

/// A failed question to a model. `message` is short, for people, and never holds a key or a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    pub kind: ModelErrorKind,
    pub message: String,
    /// The provider's own wish (Retry-After), in milliseconds.
    pub retry_after_ms: Option<u64>,
}
