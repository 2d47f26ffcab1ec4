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
//!    A read that begins after that sees it.
//! 3. `load(thread, after)` gives the events with sequence numbers above `after`, in order, byte for
//!    byte as they were appended, and the summary of the same moment. `load_page` gives the first `limit` of
//!    them and reads no more.
//! 4. `claim` hands out threads whose `due_at` has come and that no living worker holds; two workers
//!    never hold the same thread. A lease ends by itself at `until`, by `release`, by `delete`, and (a
//!    store of one process) with the process. A lease only saves work: safety is rule 1.
//! 5. `delete` removes events, summary and approvals and leaves a tombstone with the last version and head digest;
//!    any later `append` or `load` of that thread gets [`StoreError::Deleted`].
//!    `forget` removes a log on which no agent works and leaves nothing.
//! 6. A damaged thread gives an error for that thread; others go on.
//! 7. The rows of [`Append::approvals`] are written with the events or not at all; a row takes the place of
//!    the one with the same id. They go with their thread. `approvals` and `count_approvals` answer from the
//!    rows alone, by exactly the rules of [`Approvers::includes`] and of the requester, and load no log.
//! 8. Summaries and rows can be computed again from the logs. The store keeps how far that has been done
//!    ([`Projection`]); a store that is made by this program is up to date.
//!
//! A store reads no clock: every moment comes in as data. A call whose future is dropped may still
//! take effect, as if the process had died right after it.

pub mod embedded;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::embedded::Embedded;

use crate::agent::{ApprovalId, Approvers, Digest, People, Principal, QuestionId, Risk, ShortId, ThreadId, Timestamp};

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
    /// When the runtime has to look at this thread again: at once (0) if an effect is outstanding, else
    /// at the next timer, else never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
}

pub use crate::agent::Status;

/// One approval as lists show it: a projection, written in the same step as the events that changed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRow {
    pub id: ApprovalId,
    /// Whether people can decide it now.
    pub open: bool,
    /// `pending`, `revising`, `approved`, `running`, `succeeded`, `failed`, `unknown`, `denied`, `expired` or
    /// `cancelled`.
    pub state: String,
    pub revision: u32,
    pub digest: Digest,
    /// The sentence for people.
    pub title: String,
    pub tool: String,
    pub agent: String,
    pub risk: Risk,
    /// Name of the rule that made it ask.
    pub rule: String,
    pub requesters: Vec<Principal>,
    pub approvers: Approvers,
    /// Who has approved the present revision so far, or who decided.
    pub decided_by: Vec<Principal>,
    pub requested_at: Timestamp,
    pub expires_at: Timestamp,
    /// When it was decided, expired or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
}

/// Which approvals a list shows. All given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApprovalFilter {
    /// Only those of this thread.
    pub thread: Option<ShortId>,
    /// Only those that can be decided now (`true`), or only the others.
    pub open: Option<bool>,
    pub agent: Option<String>,
    pub tool: Option<String>,
    pub rule: Option<String>,
    /// Only those that this person could decide, were they open: one of the approvers, and not barred for
    /// having asked. Only people decide.
    pub decider: Option<Person>,
    /// Only those that this person, or program, asked for or decided, and open ones that they are an
    /// approver of: what one without further rights may see.
    pub visible_to: Option<Person>,
}

/// Somebody, with the groups that the transport vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub principal: Principal,
    /// Other names of the same person, as the directory of people has them: identities, and `person:<name>`.
    pub also: Vec<String>,
    pub groups: Vec<String>,
}

impl Person {
    /// Somebody with everything that the directory knows of them.
    pub fn of(principal: &Principal, groups: &[String], people: &People) -> Self {
        Self { principal: principal.clone(), also: people.other_names(principal), groups: groups.to_vec() }
    }

    /// All identities under which they asked or decided.
    pub fn principals(&self) -> impl Iterator<Item = Principal> {
        let others = self.also.iter().map(|id| Principal { id: id.clone(), ..self.principal.clone() });
        std::iter::once(self.principal.clone()).chain(others)
    }
}

/// One page of approvals: if only open ones are asked for, oldest request first; else newest request first.
/// What was requested at the same moment is in the order of ids.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalPage {
    pub items: Vec<ApprovalRow>,
    /// Approvals that belong on this page and whose rows cannot be read back: said, not left out.
    pub damaged: Vec<ApprovalId>,
    /// Pass it to get the next page.
    pub next: Option<ApprovalCursor>,
}

/// A place in a list of approvals that stays valid while approvals change: one that does not change while
/// somebody pages is shown exactly once. A new revision is a new request, and moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalCursor {
    pub requested_at: Timestamp,
    pub id: ApprovalId,
}

/// By which version of the program the summaries and rows of approvals of a store were computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    /// That of every thread, or, while all is computed again, of every thread that is not done yet.
    pub version: u32,
    pub progress: Option<Progress>,
}

/// How far computing all again has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The version that computes.
    pub to: u32,
    /// In the order of [`Store::list`], the last thread that is done.
    pub upto: Cursor,
}

impl Projection {
    /// Raise it when a summary or a row comes out differently for a log that was there before.
    pub const CURRENT: u32 = 2;

    /// Whether lists show everything, as this program computes it.
    pub fn is_current(&self) -> bool {
        self.version == Self::CURRENT && self.progress.is_none()
    }
}

/// How much a successful append survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// kill -9 of the process. Power loss may take the last appends with it, never the file.
    Process,
    /// Power loss of the machine: the disk was told to sync, and said that it did.
    #[default]
    Disk,
}

/// Where the store is and what it promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The database file. SQLite's `-wal` and `-shm` files and our `.lock` file lie beside it.
    pub path: PathBuf,
    #[serde(default)]
    pub durability: Durability,
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
    /// The approvals that these events changed, as they are now. All are of this thread.
    pub approvals: Vec<ApprovalRow>,
    /// The writer goes on working on this thread until then: taken with the events, so it costs nothing.
    /// A lease of another worker that is live at `summary.updated_at` stays; `None` changes nothing; the
    /// holder gives its lease up with an `until` that has passed.
    pub lease: Option<Lease>,
}

/// Events of a thread and the summary that belongs to the last of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Encoded events, oldest first; empty if the thread has none above the given number.
    pub events: Vec<Vec<u8>>,
    pub summary: Summary,
}

/// Who works on a thread, and until when others keep off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub worker: String,
    pub until: Timestamp,
}

/// Which threads a list shows. All given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub status: Option<Status>,
    pub agent: Option<String>,
    /// Only threads with at least one open approval or question.
    pub waiting: bool,
    /// Only threads that this person, or program, started.
    pub requester: Option<Person>,
    /// Also logs on which no agent works: records of what people pressed, which are no conversations.
    pub intents: bool,
}

impl Filter {
    /// Every log that there is: for those who check, copy or compute again.
    pub fn everything() -> Self {
        Self { intents: true, ..Self::default() }
    }
}

/// One page of a list, newest change first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub items: Vec<Summary>,
    /// Threads that belong on this page and cannot be read back: said, not left out.
    pub damaged: Vec<ShortId>,
    /// Pass it to get the next page.
    pub next: Option<Cursor>,
}

/// A place in a list that stays valid while threads change: a thread that does not change while
/// somebody pages is shown exactly once; one that changes moves to the front.
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

/// What keeps a store from taking anything, for who may not read more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no room left.
    Full,
    /// The file was removed or replaced while it was open: what is written goes nowhere.
    Gone,
    ReadOnly,
    /// What is stored is not what was written.
    Corrupt,
    /// Another program keeps the file locked.
    Busy,
    /// It is closed, or failed in a way that has no better name.
    Broken,
}

/// Why a store did not do it. Each text says what, why and what next.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else appended first. Load again and decide again.
    #[error("thread {thread} has moved on: expected version {expected}, found {found}")]
    Conflict { thread: ShortId, expected: u64, found: u64 },
    #[error("thread {0} was deleted")]
    Deleted(ShortId),
    #[error("there is no thread {0}")]
    Unknown(ShortId),
    /// There is nothing to look at: no store was ever opened for writing there.
    #[error("{0}")]
    Missing(String),
    /// Another process has the store open for writing.
    #[error("{0}")]
    Locked(String),
    /// The disk is full, the directory cannot be written, or the store was opened for reading only.
    /// Nothing of the append was kept.
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

/// A place for event logs. Cloning gives another handle to the same store.
#[derive(Clone)]
pub enum Store {
    Embedded(Embedded),
}

impl Store {
    /// Opens the store for this process alone, making it if there is none.
    ///
    /// Errors: `Locked` if another process has it, `NotWritable`, `TooNew`, `Corrupt`.
    pub async fn open(config: &StoreConfig) -> Result<Store, StoreError> {
        Embedded::open(config).await.map(Store::Embedded)
    }

    /// Opens a store to look at, also while another process writes. It takes no lock; every call that
    /// would change something, a lease included, gets `NotWritable`.
    ///
    /// Errors: `Missing` if there is no store, `TooNew`, `Corrupt`.
    pub async fn open_read_only(path: &Path) -> Result<Store, StoreError> {
        Embedded::open_read_only(path).await.map(Store::Embedded)
    }

    /// What a successful append survives. A store that was opened to be read says `Disk`: it reports
    /// nothing of its own.
    pub fn durability(&self) -> Durability {
        match self {
            Store::Embedded(s) => s.durability(),
        }
    }

    /// Adds events to a thread and gives the new version.
    ///
    /// Errors: `Conflict`, `Deleted`, `NotWritable`, `Corrupt`; `Failed` if the summary does not fit the
    /// events, or an approval the thread. An append without events changes the summary and rows of approvals
    /// alone and needs a thread that exists.
    pub async fn append(&self, append: Append) -> Result<u64, StoreError> {
        match self {
            Store::Embedded(s) => s.append(append).await,
        }
    }

    /// The events after number `after` (0: all) and the summary, of one moment. Errors: `Unknown`,
    /// `Deleted`, `Corrupt` (an event is missing, or the last one is not the recorded head).
    pub async fn load(&self, thread: ShortId, after: u64) -> Result<Loaded, StoreError> {
        match self {
            Store::Embedded(s) => s.load(thread, after).await,
        }
    }

    /// The first `limit` events after number `after` (at most [`MAX_PAGE`]) and the summary, of one moment:
    /// there are more if its version is above the last one's number. Errors as [`Store::load`], as far as
    /// these events show them.
    pub async fn load_page(&self, thread: ShortId, after: u64, limit: usize) -> Result<Loaded, StoreError> {
        match self {
            Store::Embedded(s) => s.load_page(thread, after, limit.min(MAX_PAGE)).await,
        }
    }

    /// The summary alone. Errors as [`Store::load`].
    pub async fn summary(&self, thread: ShortId) -> Result<Summary, StoreError> {
        match self {
            Store::Embedded(s) => s.summary(thread).await,
        }
    }

    /// One page of at most `limit` threads (at most [`MAX_PAGE`]), last change first.
    pub async fn list(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        match self {
            Store::Embedded(s) => s.list(filter.clone(), after, limit.min(MAX_PAGE)).await,
        }
    }

    /// One page of at most `limit` approvals (at most [`MAX_PAGE`]), over all threads.
    pub async fn approvals(
        &self,
        filter: &ApprovalFilter,
        after: Option<ApprovalCursor>,
        limit: usize,
    ) -> Result<ApprovalPage, StoreError> {
        match self {
            Store::Embedded(s) => s.approvals(filter.clone(), after, limit.min(MAX_PAGE)).await,
        }
    }

    /// How many approvals [`Store::approvals`] would show altogether.
    pub async fn count_approvals(&self, filter: &ApprovalFilter) -> Result<u64, StoreError> {
        match self {
            Store::Embedded(s) => s.count_approvals(filter.clone()).await,
        }
    }

    /// By which version of the program summaries and rows were computed.
    pub async fn projection(&self) -> Result<Projection, StoreError> {
        match self {
            Store::Embedded(s) => s.projection().await,
        }
    }

    /// Notes how far summaries and rows have been computed again.
    pub async fn set_projection(&self, projection: Projection) -> Result<(), StoreError> {
        match self {
            Store::Embedded(s) => s.set_projection(projection).await,
        }
    }

    /// Takes up to `limit` threads that are due at `now`, longest due first, for `lease_ms` milliseconds.
    /// A thread that this worker holds already is not given again.
    pub async fn claim(
        &self,
        worker: &str,
        now: Timestamp,
        lease_ms: u64,
        limit: usize,
    ) -> Result<Vec<ShortId>, StoreError> {
        match self {
            Store::Embedded(s) => s.claim(worker, now, lease_ms, limit).await,
        }
    }

    /// The earliest `due_at` after `now`, leases aside: when to call [`Store::claim`] again at the latest.
    pub async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        match self {
            Store::Embedded(s) => s.next_due(now).await,
        }
    }

    /// Keeps a live lease for `lease_ms` from `now` on. `false`: it has run out or is another worker's.
    pub async fn renew(
        &self,
        thread: ShortId,
        worker: &str,
        now: Timestamp,
        lease_ms: u64,
    ) -> Result<bool, StoreError> {
        match self {
            Store::Embedded(s) => s.renew(thread, worker, now, lease_ms).await,
        }
    }

    /// Gives a lease up. Somebody else's lease stays.
    pub async fn release(&self, thread: ShortId, worker: &str) -> Result<(), StoreError> {
        match self {
            Store::Embedded(s) => s.release(thread, worker).await,
        }
    }

    /// Removes a thread with its approvals for good; the tombstone stays. Deleting it again gives the same tombstone.
    /// Errors: `Unknown`, `NotWritable`, `Corrupt`.
    pub async fn delete(&self, thread: ShortId, by: &str, at: Timestamp) -> Result<Tombstone, StoreError> {
        match self {
            Store::Embedded(s) => s.delete(thread, by, at).await,
        }
    }

    /// Logs on which no agent works, which rest, and whose last change lies before `before`: at most `limit` (at
    /// most [`MAX_PAGE`]), longest resting first, each with its version.
    pub async fn resting_intents(&self, before: Timestamp, limit: usize) -> Result<Vec<(ShortId, u64)>, StoreError> {
        match self {
            Store::Embedded(s) => s.resting_intents(before, limit.min(MAX_PAGE)).await,
        }
    }

    /// Removes a log for good and leaves no tombstone: afterwards it never was, and its id may be used again.
    /// For records that are kept for a time, never for conversations. What is not there is not an error.
    ///
    /// Errors: `Conflict` if its version is another one, and nothing is changed; `NotWritable`; `Failed` if an
    /// agent works on it.
    pub async fn forget(&self, thread: ShortId, version: u64) -> Result<(), StoreError> {
        match self {
            Store::Embedded(s) => s.forget(thread, version).await,
        }
    }

    /// What remains of a deleted thread; `None` if it was not deleted.
    pub async fn tombstone(&self, thread: ShortId) -> Result<Option<Tombstone>, StoreError> {
        match self {
            Store::Embedded(s) => s.tombstone(thread).await,
        }
    }

    /// What remains of deleted threads, at most `limit` (at most [`MAX_PAGE`]), in the order of their short
    /// ids, beginning after `after`.
    pub async fn tombstones(&self, after: Option<ShortId>, limit: usize) -> Result<Vec<Tombstone>, StoreError> {
        match self {
            Store::Embedded(s) => s.tombstones(after, limit.min(MAX_PAGE)).await,
        }
    }

    /// The threads that a person may mean by `text`: a full [`ThreadId`] or the beginning of a short id,
    /// in any case. At most [`MAX_FOUND`], in the order of their short ids.
    pub async fn find(&self, text: &str) -> Result<Vec<ShortId>, StoreError> {
        match self {
            Store::Embedded(s) => s.find(text).await,
        }
    }

    /// What is wrong with the file itself, at most `limit` sentences; none if it reads back whole. Reads all
    /// of it: about a second for each GB that the operating system has in memory.
    pub async fn damages(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        match self {
            Store::Embedded(s) => s.damages(limit).await,
        }
    }

    /// Writes one row of its own for real, over the last one: whether an append could be kept now.
    pub async fn probe(&self) -> Result<(), (Fault, StoreError)> {
        match self {
            Store::Embedded(s) => s.probe().await,
        }
    }

    /// Finishes what was asked for, then closes; later calls on any handle get `Failed`. A handle that is
    /// dropped without it does the same, and blocks its thread meanwhile.
    pub async fn close(&self) -> Result<(), StoreError> {
        match self {
            Store::Embedded(s) => s.close().await,
        }
    }
}

/// Most threads on one page of a list, and most events on one page of a log.
pub const MAX_PAGE: usize = 1_000;

/// Most candidates that [`Store::find`] gives: a person who gets this many types another letter.
pub const MAX_FOUND: usize = 20;
