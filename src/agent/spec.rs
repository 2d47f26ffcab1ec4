//! A small focused agent as data: front matter (settings) and a prompt body that the operator owns.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::id::Digest;
use super::policy::Rule;

/// What an agent is. Parsed from `<name>.md`; the digest is over the whole file.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    pub name: String,
    /// One sentence for people and for pickers.
    pub description: String,
    /// Provider and model; absent: the configured default.
    pub provider: Option<String>,
    pub model: Option<String>,
    /// Tools on offer, in this order.
    pub tools: Vec<String>,
    /// The file's gates, as rules that hold for this agent only.
    pub rules: Vec<Rule>,
    /// Read-only calls made before the model is first asked in a run (factor 13).
    pub prefetch: Vec<Prefetch>,
    pub limits: Limits,
    /// The prompt body: a Jinja template.
    pub prompt: String,
    pub digest: Digest,
}

/// A call that a run starts with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefetch {
    pub tool: String,
    #[serde(default)]
    pub args: Value,
}

/// Bounds of one run. Reaching one asks a person; it never ends in a loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Model calls in a run before a person is asked.
    pub max_steps: u32,
    /// Tokens (input and output) in a run before a person is asked.
    pub max_tokens: u64,
    /// Failures in a row of one tool before a person is asked.
    pub max_errors: u32,
    /// Upper bound of one reply, in tokens.
    pub max_output_tokens: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_steps: 20, max_tokens: 200_000, max_errors: 3, max_output_tokens: 2_000 }
    }
}
