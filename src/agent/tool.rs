//! What the core knows of tools: facts about them, calls of them, results. No tool's name is known here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::id::Timestamp;

/// How much harm a call can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    #[default]
    Low,
    Medium,
    High,
}

impl Risk {
    pub fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// What a tool declares about itself. Stamped on each call, so that a replay never asks the code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolFacts {
    pub name: String,
    /// One sentence for the model and for people.
    pub description: String,
    /// Raised when the meaning of the arguments changes; part of an approval's digest.
    pub schema_version: u32,
    pub risk: Risk,
    /// Whether a call changes anything outside. Such a call asks by default.
    pub side_effects: bool,
    /// Whether running a call twice equals running it once. Such a call reruns after a crash.
    pub idempotent: bool,
    /// Whether the tool can say beforehand what a call would do.
    pub plans: bool,
    /// Whether an approver may change the arguments.
    pub editable: bool,
    /// Whether what a call returns was written outside (a web page, a file, a mail): the model may be told
    /// anything in it, so calls with side effects ask people once it has been read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
    /// Whether the arguments of a call can reach strangers (any public host, say) although it changes nothing: a
    /// way out for what the model has read, so such calls too ask people once text from outside has been read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sends: bool,
    /// Names of the arguments that say what a call is about (`service` and `environment` of a deployment): a failed
    /// call is resolved by a later success of a call with the same values there. Empty: all arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<String>,
}

/// What a call would do, worked out right before people are asked and again right before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// One line for the card, for example `now v1.2.2 -> v1.2.3`.
    pub summary: String,
    /// Everything the plan rests on; part of the digest. Two plans are the same if this is.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub facts: Value,
}

/// How a call of a tool ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// It worked. `text` is what the model reads; it is capped by the registry.
    Succeeded { text: String },
    /// It did not work, and surely changed nothing more. `error` is short.
    Failed { error: String },
    /// It has to wait: the call finishes with `text` when `until` has come, without holding anything.
    Suspended { until: Timestamp, text: String },
    /// Nobody can tell whether it took effect (a timeout or a lost connection after sending).
    Unknown { error: String },
}
