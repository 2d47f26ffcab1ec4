//! The core. PURE: no clock, no randomness, no I/O, no error type that leaves it. (in work)

pub mod cases;
mod event;
mod id;
pub mod json;
mod model;
mod policy;
pub mod prompt;
pub mod secret;
pub mod span;
mod spec;
mod tool;
pub mod window;

pub use event::*;
pub use id::*;
pub use model::*;
pub use policy::*;
pub use secret::SecretFilter;
pub use spec::*;
pub(crate) use spec::{join_key, key_lines, serde_words, split_key, toml_problem};
pub use tool::*;

use serde::{Deserialize, Serialize};

/// Where a thread stands: a fold of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A model, a tool or a retry is at work.
    Running,
    /// Waits for people to decide an approval.
    WaitingApproval,
    /// Waits for a person's answer, to the agent's question or to the engine's.
    WaitingAnswer,
    /// A call's outcome is unknown; a person has to mark it.
    WaitingMark,
    /// Waits for a durable timer.
    Sleeping,
    Paused,
    /// The last run gave its answer; the next message starts another.
    Done,
    Stopped,
    /// For good.
    Cancelled,
}
