//! What comes into a decision and what comes out of it: inputs, the rules as of now, answers.
//!
//! Types alone. What becomes of an input is decided by `step`; this file knows nothing of it, so that `reply`, `ballot`
//! and `doubt` can speak of inputs without it.

use serde_json::Value;

use super::event::*;
use super::id::*;
use super::intent::{Attached, Gathered, Intent, Passage};
use super::model::{Finish, ModelError, ModelStamp, Usage};
use super::people::People;
use super::policy::Policy;
use super::refusal::Refusal;
use super::secret::SecretFilter;
use super::spec::AgentSpec;
use super::tool::{Outcome, Plan, ToolFacts};
use super::window::WindowLimits;

/// The answer that ends a run instead of continuing it.
pub const STOP: &str = "stop";
/// The answer that lets a run go on.
pub const GO_ON: &str = "go on";

/// What the operator wants, as of now.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub spec: &'a AgentSpec,
    pub policy: &'a Policy,
    pub requester: RequesterRule,
    /// Who is behind which identities.
    pub people: &'a People,
    pub secrets: &'a SecretFilter,
    pub window: WindowLimits,
    pub retry: Retry,
    /// Longest accepted message, in bytes.
    pub message_max_bytes: usize,
    /// Bytes that the agent's prompt and the declarations of its tools take in each request to the model.
    pub base_bytes: usize,
}

/// Whether the person who asked may approve, where a rule's approvers do not say so themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequesterRule {
    Never,
    /// Only a person at this machine's own terminal, who could change the store as well.
    Local,
    Always,
}

/// How often and when a failed attempt is made again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    pub max_attempts: u32,
    /// Wait after the first failure, in milliseconds; doubled each time.
    pub base_ms: u64,
    /// Longest wait, in milliseconds; also bounds what a provider may ask for, tenfold.
    pub cap_ms: u64,
}

impl Retry {
    /// The wait after `attempt` failures: half fixed, half random (`dice` in 0..1), so that many
    /// threads do not come back at the same moment. A provider's own wish is a lower bound.
    pub fn wait_ms(&self, attempt: u32, wish_ms: Option<u64>, dice: f64) -> u64 {
        let full = self.base_ms.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(self.cap_ms);
        let half = full / 2;
        let jitter = (half as f64 * dice.clamp(0.0, 1.0)) as u64;
        (half + jitter).max(wish_ms.unwrap_or(0).min(self.cap_ms.saturating_mul(10)))
    }
}

/// A call as a model (or a prefetch, or an edit) proposes it, after the registry has looked at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposed {
    pub tool: String,
    /// What the model wrote, for a call that is not valid.
    pub raw: String,
    pub checked: Result<Checked, String>,
}

/// A call whose tool exists and whose arguments are valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    pub facts: ToolFacts,
    pub args: Value,
    pub title: String,
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// A person, or a program with a token, says something. Starts the thread if it is vacant.
    Message {
        from: Principal,
        text: String,
        source: Option<String>,
        /// Where the text comes from if no person of ours wrote it (the payload of a webhook, say).
        outside: Option<String>,
        pushes: bool,
        prefetch: Vec<Proposed>,
        /// What belongs to it and has to be fetched.
        attached: Vec<Attached>,
        /// Texts from outside that come with it.
        context: Vec<Passage>,
    },
    /// What was attached to a message, or why it could not be read.
    Gathered {
        effect: EffectId,
        texts: Vec<Gathered>,
    },
    /// What somebody did in a chat surface, for a vacant log that is this intent's own.
    Intent {
        intent: Box<Intent>,
    },
    /// An intent was carried out or refused, and the person was told so.
    Handled {
        effect: EffectId,
        done: bool,
        said: String,
    },
    /// Another input, by the name that its sender gave to it: a second delivery changes nothing. For those
    /// that have no name of their own.
    Once {
        source: String,
        input: Box<Input>,
    },
    /// Another input, with what surfaces said right before of who is behind identities that the directory does not
    /// list itself ([`Principal::person`] of each).
    Known {
        people: Vec<Principal>,
        input: Box<Input>,
    },
    /// Starts a vacant thread as the fork of another.
    Fork {
        started: Box<Body>,
    },
    Replied {
        effect: EffectId,
        seen: u64,
        text: String,
        calls: Vec<Proposed>,
        finish: Finish,
        usage: Usage,
        model: ModelStamp,
        /// Bytes of the request: prompt, tools, window.
        sent: u64,
    },
    ModelFailed {
        effect: EffectId,
        error: ModelError,
    },
    Planned {
        effect: EffectId,
        plan: Result<Plan, String>,
    },
    /// May this call run now? Asked right before it would. `plan` is fresh if the tool plans and asks.
    Start {
        effect: EffectId,
        facts: ToolFacts,
        plan: Option<Result<Plan, String>>,
    },
    Finished {
        effect: EffectId,
        outcome: Outcome,
        duration_ms: u64,
    },
    /// The start is in the log, and nobody is running it.
    Lost {
        effect: EffectId,
    },
    /// `digest` is what the person's card showed: at least the 12 digits of [`Digest::prefix`].
    Vote {
        approval: ApprovalId,
        digest: String,
        by: Principal,
        groups: Vec<String>,
        vote: Ballot,
        source: Option<String>,
    },
    Answer {
        question: QuestionId,
        by: Principal,
        /// As the transport verified them; they count where the answer needs an approver.
        groups: Vec<String>,
        text: String,
        source: Option<String>,
    },
    Mark {
        call: CallId,
        by: Principal,
        groups: Vec<String>,
        mark: Mark,
    },
    Posted {
        effect: EffectId,
        reference: String,
    },
    PostFailed {
        effect: EffectId,
        error: String,
        transient: bool,
        retry_after_ms: Option<u64>,
    },
    Pause {
        by: Principal,
        why: String,
    },
    Resume {
        by: Principal,
    },
    Stop {
        by: Principal,
        why: String,
    },
    Cancel {
        by: Principal,
        why: String,
    },
    /// Time has passed.
    Tick,
}

impl Input {
    /// Stamps the person on whoever brought it, so that each event says who that was when it was decided.
    pub(super) fn stamp(&mut self, people: &People) {
        match self {
            Input::Message { from, .. } => people.stamp(from),
            Input::Vote { by, .. }
            | Input::Answer { by, .. }
            | Input::Mark { by, .. }
            | Input::Pause { by, .. }
            | Input::Resume { by }
            | Input::Stop { by, .. }
            | Input::Cancel { by, .. } => people.stamp(by),
            Input::Intent { intent } => people.stamp(&mut intent.by),
            Input::Once { input, .. } | Input::Known { input, .. } => input.stamp(people),
            Input::Fork { started } => {
                if let Body::ThreadStarted { by, .. } = &mut **started {
                    people.stamp(by);
                }
            }
            Input::Gathered { texts, .. } => {
                texts.iter_mut().flat_map(|gathered| &mut gathered.by).for_each(|by| people.stamp(by));
            }
            Input::Handled { .. }
            | Input::Replied { .. }
            | Input::ModelFailed { .. }
            | Input::Planned { .. }
            | Input::Start { .. }
            | Input::Finished { .. }
            | Input::Lost { .. }
            | Input::Posted { .. }
            | Input::PostFailed { .. }
            | Input::Tick => {}
        }
    }
}

/// A person's decision as a surface hands it over.
#[derive(Clone, Debug, PartialEq)]
pub enum Ballot {
    Approve { note: String },
    Deny { reason: String },
    Edit { args: Box<Proposed> },
}

/// What the one who brought the input is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Accepted,
    /// It was delivered before; nothing changed.
    Duplicate,
    /// It came too late to matter (an answer to an effect that is no longer outstanding).
    Stale,
    /// The call may run, with exactly these arguments.
    Go {
        tool: String,
        args: Value,
    },
    Refused(Refusal),
}
