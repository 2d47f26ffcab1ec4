//! Storage of event logs: the contract, and the closed set of stores that keep it.
//!
//! # The contract, in prose
//! A store keeps, for each thread, an append-only list of opaque events, one [`Summary`], and at most
//! one lease. It never looks into an event. The contract, which every store is tested against by one
//! suite (`tests/it/store_contract.rs`):
//!
//! 1. `append` is atomic: all events and the summary, or nothing. It succeeds only if the thread's
//!    version (number of events) equals `expected`; otherwise [`StoreError::Conflict`] and no change.
//!    The version after it is `expected + events.len()`.
//! 2. When `append` has returned, what it wrote is as durable as [`Store::durability`] says.
//! 3. `load(thread, after)` gives the events with sequence numbers above `after`, in order, byte for
//!    byte as they were appended.
//! 4. `claim` hands out threads whose `due_at` has come and that no living worker holds; two workers
//!    never hold the same thread. A lease only saves work: safety is rule 1.
//! 5. `delete` removes events and summary and leaves a tombstone with the last version and head digest;
//!    any later `append` or `load` of that thread gets [`StoreError::Deleted`].
//! 6. A damaged thread gives an error for that thread; others go on.

pub mod embedded;

use serde::{Deserialize, Serialize};

use crate::agent::{ApprovalId, Digest, Principal, QuestionId, ShortId, ThreadId, Timestamp};

/// The projection of a thread that lists and timers need. Computed by the fold, written with the events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub thread: ThreadId,
    pub status: Status,
    pub agent: String,
    /// First line of the first message, cut.
    pub title: String,
    pub requester: Principal,
    /// Open approvals, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<ApprovalId>,
    /// Open questions, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<QuestionId>,
    /// Tokens used so far, input and output.
    pub tokens: u64,
    /// Number of events; equals the version.
    pub version: u64,
    /// Digest of the last event's bytes.
    pub head: Digest,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When the runtime has to look at this thread again: at once if an effect is outstanding, else at
    /// the next timer, else never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
}

pub use crate::agent::Status;

/// How much a successful append survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// kill -9 of the process. Not power loss.
    Process,
    /// Power loss of the machine: the disk was told to sync, and said that it did.
    Disk,
}

/// One append.
#[derive(Clone, Debug)]
pub struct Append {
    pub thread: ShortId,
    /// The version that the writer had seen; 0 for a new thread.
    pub expected: u64,
    /// Encoded events, with the sequence numbers `expected + 1 ..`.
    pub events: Vec<Vec<u8>>,
    pub summary: Summary,
    /// The writer goes on working on this thread until then: written with the events, so it costs nothing.
    pub lease: Option<Lease>,
}

/// Who works on a thread, and until when others keep off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub worker: String,
    pub until: Timestamp,
}

/// Which threads a list shows. All given conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub status: Option<Status>,
    pub agent: Option<String>,
    /// Only threads with at least one open approval or question.
    pub waiting: bool,
}

/// One page of a list, newest change first.
#[derive(Clone, Debug)]
pub struct Page {
    pub items: Vec<Summary>,
    /// Pass it to get the next page.
    pub next: Option<Cursor>,
}

/// A place in a list that stays valid while threads change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub updated_at: Timestamp,
    pub thread: ShortId,
}

/// What remains of a deleted thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    pub thread: ShortId,
    pub version: u64,
    pub head: Digest,
    pub at: Timestamp,
    pub by: String,
}

/// Why a store did not do it. Each text says what, why and what next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else appended first. Load again and decide again.
    #[error("thread {thread} has moved on: expected version {expected}, found {found}")]
    Conflict { thread: ShortId, expected: u64, found: u64 },
    #[error("thread {0} was deleted")]
    Deleted(ShortId),
    #[error("there is no thread {0}")]
    Unknown(ShortId),
    /// Another process has the store open for writing.
    #[error("{0}")]
    Locked(String),
    /// The disk is full or the directory cannot be written. Nothing of the append was kept.
    #[error("{0}")]
    NotWritable(String),
    /// Written by a newer version of this program.
    #[error("{0}")]
    TooNew(String),
    /// What is stored cannot be read back.
    #[error("{0}")]
    Corrupt(String),
    /// The store is closing or broke in a way that has no better name.
    #[error("{0}")]
    Failed(String),
}
