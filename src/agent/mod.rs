//! The core: a thread is the fold of its event log, and everything that happens is decided here.
//!
//! PURE. No clock, no randomness, no I/O, no error type that leaves it: `clippy.toml` disallows the
//! ways out, and a test checks that nothing here uses another room of the crate. It knows no platform,
//! provider, store or tool by name.
//!
//! | file | owns |
//! |---|---|
//! | `event` | the envelope, every fact that can be in a log, the hash chain |
//! | `thread` | what a log folds to ([`reduce`]), outstanding effects, status, timers |
//! | `input` | what comes into a decision and out of it: inputs, the rules as of now, answers |
//! | `step` | decisions: an input and the state become events; the gate right before a call runs |
//! | `due` | what a state calls for by itself: requests, questions, timers, a shorter window |
//! | `reply`, `ballot` | what a model's reply, and what a person's decision, amounts to |
//! | `policy`, `approval` | verdicts; votes, quorum, digest |
//! | `heard` | whose words have entered a thread, hence who counts as having asked |
//! | `people` | who is behind one or more identities; whether two are one person |
//! | `doubt` | values that only look like secrets: the question to people, and what their answer leads to |
//! | `intent` | what was done in a chat surface and is kept before it can be done; what has to be fetched first |
//! | `sources` | deliveries that were seen, so that a second one changes nothing |
//! | `untrusted` | which texts from outside have entered a thread |
//! | `window` | what the model sees, and how it stays short |
//! | `written` | calls and blocks that a model wrote as text: no answer, and never run |
//! | `spec`, `prompt` | agents as data, their prompts |
//! | `refusal` | what a person is told when an input changes nothing |
//! | `visible` | foreign text for people's eyes: the strict view and the prose view |
//! | `json`, `secret`, `span`, `id` | strict and canonical JSON; secrets; lengths of time; names |

#![deny(clippy::disallowed_methods)]

mod approval;
mod ballot;
pub mod cases;
mod doubt;
mod due;
mod event;
mod heard;
mod id;
mod input;
mod intent;
pub mod json;
mod model;
mod people;
mod policy;
pub mod prompt;
mod refusal;
mod reply;
pub mod secret;
mod sources;
pub mod span;
mod spec;
mod step;
mod thread;
mod tool;
mod untrusted;
pub mod visible;
pub mod window;
mod written;

pub use approval::*;
pub use ballot::{Wants, as_approver, eligible};
pub use doubt::*;
pub use event::*;
pub use heard::Heard;
pub use id::*;
pub use input::*;
pub use intent::*;
pub use model::*;
pub use people::*;
pub use policy::*;
pub use refusal::*;
pub use reply::{ASK_HUMAN, MAX_CALLS, ask_human_schema};
pub use secret::SecretFilter;
pub use spec::*;
pub use step::*;
pub use thread::*;
pub use tool::*;
pub use untrusted::{MAX_LABEL, MAX_NAMED, Untrusted, UntrustedText};
pub use window::{Ending, WindowLimits};

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
