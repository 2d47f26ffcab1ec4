//! The event: the only truth. Everything else is a fold over events.
//!
//! An [`Event`] is an envelope (version, sequence number, time, where it came from, what it answers,
//! the digest of the event before it) around a [`Body`], a fact in the past tense. Its encoded bytes
//! are stored as they are and hashed as they are, so a log is a hash chain: an edited, removed,
//! inserted or moved event breaks it ([`verify_chain`]).
//!
//! Decisions are recorded, not re-derived: the verdict of the gate, the approvers, the moment of
//! expiry, the digest of the prompt are in the events. Folding a log never reads configuration.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::doubt::Doubt;
use super::id::{ApprovalId, CallId, Digest, EffectId, Principal, QuestionId, ThreadId, Timestamp};
use super::intent::{Attached, Gathered, Intent, Passage};
use super::model::{ModelErrorKind, ModelStamp, Usage};
use super::policy::{Terms, Verdict};
use super::tool::{Outcome, Plan, ToolFacts};
use super::untrusted::Untrusted;

/// Version of the envelope and of the bodies that this program writes. It reads all versions up to it.
pub const EVENT_VERSION: u16 = 2;

/// One fact in a thread's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub v: u16,
    /// 1 for the first event of a thread, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    /// Id that the sender gave to what caused this event; a second delivery of it changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The effect that this event is the result of; it is no longer outstanding then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<EffectId>,
    /// Digest of the encoded event before; [`Digest::ZERO`] for the first.
    pub prev: Digest,
    pub body: Body,
}

fn is_none_masked(n: &u32) -> bool {
    *n == 0
}

/// A call with everything that was decided about it when the model's reply came in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatedCall {
    pub tool: String,
    /// As parsed; for a call that could not be parsed, the text as a string.
    pub args: Value,
    /// The sentence for people.
    pub title: String,
    /// Absent for a tool that does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ToolFacts>,
    pub verdict: Verdict,
}

/// What the model chose to do next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NextStep {
    /// Call tools. `why` is the prose that came with the calls: the agent's words, shown as such.
    Call {
        calls: Vec<GatedCall>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// Ask a person and wait.
    Ask {
        text: String,
        answer: AnswerKind,
        /// The prose that came with it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
        /// Tools that were called beside the question. They are not run: the answer may change everything.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        put_off: Vec<String>,
    },
    /// Answer; the run is over.
    Done { text: String },
}

/// What kind of answer a question wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AnswerKind {
    Text,
    YesNo,
    Choice { choices: Vec<String> },
}

/// Who or what raised a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum QuestionCause {
    /// The model wants to know something.
    Agent,
    /// The run used up its steps.
    StepBudget,
    /// The run used up its tokens.
    TokenBudget,
    /// One tool failed too often in a row.
    Errors { tool: String },
    /// The provider did not answer, however often it was asked.
    ModelDown,
    /// A value looks like a secret, so a call was not made; its approvers may say that it is none.
    LooksSecret { doubt: Box<Doubt> },
}

impl QuestionCause {
    /// Whether words of a person take its place.
    pub(super) fn is_overtaken(&self) -> bool {
        match self {
            Self::Agent | Self::LooksSecret { .. } => true,
            Self::StepBudget | Self::TokenBudget | Self::Errors { .. } | Self::ModelDown => false,
        }
    }
}

/// One person's answer to an approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Vote {
    Approve {
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
    },
    Deny {
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Ask for these arguments instead. Makes a new revision, which needs votes of its own.
    Edit {
        args: Value,
        title: String,
        /// What the policy says of the changed call. Absent where it would let it run: the terms stay then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Box<Terms>>,
    },
}

/// How an approval ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Resolution {
    Approved,
    Denied {
        reason: String,
    },
    /// Nobody decided in time: counts as a denial.
    Expired,
    /// The run was stopped or the thread cancelled.
    Cancelled,
}

/// Why a revision of an approval was put before people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Because {
    /// The gate says so.
    Gated,
    /// An approver changed the arguments.
    Edited { by: Principal },
    /// What was approved is not what would run now (other plan, other tool version, expired approval).
    Stale { why: String },
    /// The call's outcome was unknown and a person wants it tried again.
    Retried { by: Principal },
}

/// What a person says about a call whose outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mark {
    Succeeded {
        note: String,
    },
    Failed {
        note: String,
    },
    /// Ask for an approval again, then run again.
    Retry,
}

/// Something that people see in a surface that we write to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Posting {
    /// The answer in the event with this number.
    Answer {
        seq: u64,
    },
    /// The card of an approval in its present state. Posted again (edited) when that changes.
    Card {
        approval: ApprovalId,
    },
    Question {
        question: QuestionId,
    },
    /// Calls whose outcome is unknown, with the buttons to mark it.
    Unknown {
        call: CallId,
    },
    /// A line about what just happened, in the event with this number (a retry, a pause, a stop).
    Notice {
        seq: u64,
    },
}

/// What a durable timer was set for. Expiry of an approval needs none: its resolution is the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Timer {
    /// A suspended call wakes up.
    Wake { call: CallId },
    /// The model is asked again.
    Model,
    /// A posting is tried again.
    Post { posting: Posting },
}

/// Where a forked thread comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub thread: ThreadId,
    /// The last event that was carried over, and its digest.
    pub seq: u64,
    pub head: Digest,
}

/// What a person said to an agent, as far as it is quoted to them when it bars them from a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    pub who: Principal,
    pub at: Timestamp,
    /// The beginning of it, on one line.
    pub words: String,
}

/// What happened.
// A body is made, folded and dropped; none is kept in a collection where its size would count.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// Always the first event, and only that.
    ThreadStarted {
        thread: ThreadId,
        agent: String,
        by: Principal,
        /// Whether answers are written to a surface; otherwise readers come and look.
        pushes: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
        /// What a fork carries over: the parent's context, ready for the window.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        carried: Vec<super::window::Entry>,
        /// The texts from outside that had entered the parent: a fork is no way to be rid of them.
        #[serde(default, skip_serializing_if = "Untrusted::is_empty")]
        untrusted: Untrusted,
        /// Everybody whose words stand in the parent: they count as heard here as well.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        heard: Vec<Spoken>,
    },
    MessageReceived {
        from: Principal,
        text: String,
        /// Where the text comes from, if nobody of ours wrote it (the payload of a webhook, a mail).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outside: Option<String>,
        /// Calls made before the model is asked, if this message starts a run (factor 13).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prefetch: Vec<GatedCall>,
        /// What belongs to it and is fetched before the model is asked.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attached: Vec<Attached>,
        /// Texts from outside that were handed over with it: data, not the sender's words.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        context: Vec<Passage>,
        /// How many values that look like secrets were taken out of the text.
        #[serde(default, skip_serializing_if = "is_none_masked")]
        masked: u32,
    },
    /// What was attached to the message in event `message`, or why it could not be read.
    Gathered {
        message: u64,
        texts: Vec<Gathered>,
    },
    ModelReplied {
        /// The last event that the model had seen.
        seen: u64,
        step: NextStep,
        model: ModelStamp,
        usage: Usage,
        /// Bytes of the request (prompt, tools, window) that the provider counted.
        #[serde(default, skip_serializing_if = "is_zero")]
        sent: u64,
        /// Set where the text of a `Done` is no answer but a call, or a block of the window, written out: nothing
        /// of it ran, and the model is told these words and asked again.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        correction: String,
    },
    ModelFailed {
        error: ModelErrorKind,
        message: String,
        /// 1 for the first failure in a row.
        attempt: u32,
        /// When it is tried again; absent: not before a person says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<Timestamp>,
        /// Tokens that a reply cost although it could not be used.
        #[serde(default, skip_serializing_if = "Usage::is_zero")]
        usage: Usage,
        /// Set where the request was too long for the model: bytes that later ones may have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ceiling: Option<u64>,
    },
    /// A tool said what a call would do. An error is the call's result: nothing is asked or run.
    ToolPlanned {
        call: CallId,
        plan: Result<Plan, String>,
    },
    /// A revision of an approval was put before people. Everything that they see and that the digest
    /// covers is in here.
    ApprovalRequested {
        approval: ApprovalId,
        call: CallId,
        revision: u32,
        because: Because,
        title: String,
        args: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<Plan>,
        digest: Digest,
        terms: Terms,
        /// Who asked for it: under `requester_may = false` none of them may approve.
        requesters: Vec<Principal>,
        expires_at: Timestamp,
    },
    VoteCast {
        approval: ApprovalId,
        revision: u32,
        by: Principal,
        /// Groups that the transport verified at the moment of the vote.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        groups: Vec<String>,
        /// The identity among the approvers under which the vote counts, where that is another one of the same
        /// person by the directory of people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        named: Option<String>,
        vote: Vote,
    },
    ApprovalResolved {
        approval: ApprovalId,
        revision: u32,
        resolution: Resolution,
    },
    QuestionAsked {
        question: QuestionId,
        cause: QuestionCause,
        text: String,
        answer: AnswerKind,
    },
    QuestionAnswered {
        question: QuestionId,
        by: Principal,
        /// Groups that the transport verified, where the answer needs an approver.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        groups: Vec<String>,
        /// The identity among the approvers under which the answer counts, as with a vote.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        named: Option<String>,
        text: String,
    },
    /// Written before a tool runs that must not run twice. Uses its approval up.
    ToolStarted {
        effect: EffectId,
        call: CallId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
    },
    ToolFinished {
        call: CallId,
        outcome: Outcome,
        duration_ms: u64,
    },
    /// A worker died between start and finish: nobody knows. Never rerun silently.
    OutcomeLost {
        call: CallId,
    },
    OutcomeMarked {
        call: CallId,
        by: Principal,
        mark: Mark,
    },
    /// A durable timer came due.
    TimerFired {
        timer: Timer,
    },
    Posted {
        posting: Posting,
        /// Where it is, in the surface's words, so that it can be edited.
        reference: String,
    },
    DeliveryFailed {
        posting: Posting,
        error: String,
        attempt: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<Timestamp>,
    },
    /// Window entries of events up to `upto` are shown as `summary` from now on. The log keeps them.
    Compacted {
        upto: u64,
        summary: String,
        /// Where the lines of the summary stand among blocks that are older than `upto` and stay.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        layout: Vec<super::window::Kept>,
        /// How much is shown of the long blocks that are left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut: Option<super::window::Cut>,
    },
    Paused {
        by: Principal,
        why: String,
    },
    Resumed {
        by: Principal,
    },
    /// The run ends before its next step; the thread can be used again.
    Stopped {
        by: Principal,
        why: String,
    },
    /// The thread ends for good.
    Cancelled {
        by: Principal,
        why: String,
    },
    /// Always the first event of a log that holds an intent, which is no conversation.
    IntentReceived {
        thread: ThreadId,
        intent: Intent,
    },
    /// The intent was carried out or refused, and this is what the person was told.
    IntentHandled {
        done: bool,
        said: String,
    },
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Body {
    /// The version of the format that a program has to know to read it: a question about a value that looks like a
    /// secret came with 2. Everything else is as it was, so a log without one is read by every program.
    pub fn version(&self) -> u16 {
        match self {
            Body::QuestionAsked { cause: QuestionCause::LooksSecret { .. }, .. } => 2,
            _ => 1,
        }
    }

    /// The event's type as it stands in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Body::ThreadStarted { .. } => "thread_started",
            Body::MessageReceived { .. } => "message_received",
            Body::ModelReplied { .. } => "model_replied",
            Body::ModelFailed { .. } => "model_failed",
            Body::ToolPlanned { .. } => "tool_planned",
            Body::ApprovalRequested { .. } => "approval_requested",
            Body::VoteCast { .. } => "vote_cast",
            Body::ApprovalResolved { .. } => "approval_resolved",
            Body::QuestionAsked { .. } => "question_asked",
            Body::QuestionAnswered { .. } => "question_answered",
            Body::ToolStarted { .. } => "tool_started",
            Body::ToolFinished { .. } => "tool_finished",
            Body::OutcomeLost { .. } => "outcome_lost",
            Body::OutcomeMarked { .. } => "outcome_marked",
            Body::TimerFired { .. } => "timer_fired",
            Body::Posted { .. } => "posted",
            Body::DeliveryFailed { .. } => "delivery_failed",
            Body::Compacted { .. } => "compacted",
            Body::Paused { .. } => "paused",
            Body::Resumed { .. } => "resumed",
            Body::Stopped { .. } => "stopped",
            Body::Cancelled { .. } => "cancelled",
            Body::Gathered { .. } => "gathered",
            Body::IntentReceived { .. } => "intent_received",
            Body::IntentHandled { .. } => "intent_handled",
        }
    }
}

/// Why stored bytes are not an event of this log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("event {seq} cannot be read: {why}")]
    Unreadable { seq: u64, why: String },
    #[error(
        "event {seq} was written by a newer version (event format {v}, this program knows {EVENT_VERSION}); update twelve"
    )]
    TooNew { seq: u64, v: u16 },
    #[error("event {seq} says that it is number {found}: an event was removed, inserted or moved")]
    Sequence { seq: u64, found: u64 },
    #[error("event {seq} does not follow the event before it: one of the two was edited, removed, inserted or moved")]
    Chain { seq: u64 },
    #[error(
        "the log ends with event {version}, but its head should be event {expected}: events at the end were removed or added"
    )]
    Length { version: u64, expected: u64 },
    #[error("the last event, {version}, is not the one that was recorded as head: it was edited")]
    Head { version: u64 },
    #[error("the log belongs to another thread ({found})")]
    WrongThread { found: String },
}

impl Event {
    /// The bytes that are stored and hashed.
    pub fn encode(&self) -> Vec<u8> {
        // reason: every part is a plain struct or enum with string keys; serde_json cannot fail on those
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the event that should have number `seq`.
    pub fn decode(bytes: &[u8], seq: u64) -> Result<Event, LogError> {
        #[derive(Deserialize)]
        struct Head {
            v: u16,
        }
        let unreadable = |e: serde_json::Error| LogError::Unreadable { seq, why: e.to_string() };
        match serde_json::from_slice::<Event>(bytes) {
            Ok(event) if event.v > EVENT_VERSION => Err(LogError::TooNew { seq, v: event.v }),
            Ok(event) if event.seq != seq => Err(LogError::Sequence { seq, found: event.seq }),
            Ok(event) => Ok(event),
            Err(e) => match serde_json::from_slice::<Head>(bytes) {
                Ok(head) if head.v > EVENT_VERSION => Err(LogError::TooNew { seq, v: head.v }),
                _ => Err(unreadable(e)),
            },
        }
    }
}

/// Checks a whole log against the version and head that are recorded for it. The first thing found
/// wrong is returned; `None` means that every event is the one that was written, in its place.
pub fn verify_chain<B: AsRef<[u8]>>(events: &[B], expected: u64, head: Digest) -> Option<LogError> {
    let mut prev = Digest::ZERO;
    for (i, bytes) in events.iter().enumerate() {
        let seq = i as u64 + 1;
        match Event::decode(bytes.as_ref(), seq) {
            Err(e) => return Some(e),
            Ok(event) if event.prev != prev => return Some(LogError::Chain { seq }),
            Ok(_) => prev = Digest::of(bytes.as_ref()),
        }
    }
    let version = events.len() as u64;
    if version != expected {
        Some(LogError::Length { version, expected })
    } else if prev != head {
        Some(LogError::Head { version })
    } else {
        None
    }
}
