//! Refusals: one line each for the person who pressed or wrote: what, why, what next.

use super::approval::{Approval, ApprovalState};
use super::id::{ApprovalId, Principal, Timestamp};
use super::secret::{Look, Suspect};
use super::window::Ending;

/// Why an input changed nothing. The text is shown privately, to the one who brought it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("You can't decide this one. It waits for {waits_for}.")]
    NotAnApprover { waits_for: String },
    /// `wrote`: when they wrote what makes them count as one who asked, and the beginning of it.
    #[error(
        "{}, so someone else has to decide: {waits_for}. To decide on such a call yourself, let another person ask for it in a new thread.",
        asked_for(wrote)
    )]
    Requester { waits_for: String, wrote: Option<(Timestamp, String)> },
    /// The rule wants different people, and the directory does not say whether these two are one.
    #[error(
        "I can't tell whether you are the one who {did} (you are {you} here, {other} {did}). An operator can say who you are: add both ids to [[people]]. Nothing was decided."
    )]
    Unsure { you: String, other: String, did: &'static str },
    #[error("Only a person can do this.")]
    NotAPerson,
    #[error("{text}")]
    AlreadyDecided { text: String },
    #[error("You already approved this; it waits for someone else.")]
    AlreadyVoted,
    #[error("The request changed since this card was posted. Look at the current one and decide that.")]
    Changed,
    #[error("This expired at {at} and was denied. Ask the agent again if it is still wanted.")]
    Expired { at: Timestamp },
    #[error("I don't know this request any more. Id {id}.")]
    NoSuchApproval { id: ApprovalId },
    #[error("These arguments can't be used: {why}.")]
    InvalidEdit { why: String },
    /// Values in it look like secrets; people may say that they are none.
    #[error("These arguments can't be used: {what}. {next}")]
    LooksSecret { what: String, next: &'static str, suspects: Vec<Suspect> },
    #[error("The arguments of this tool can't be changed. Deny it and say what you want instead.")]
    NotEditable,
    #[error("Nothing was changed. Approve the request as it is, or change an argument.")]
    NothingChanged,
    #[error("This question is not open any more.")]
    NoSuchQuestion,
    #[error("Answer with one of: {}.", choices.join(", "))]
    NotAChoice { choices: Vec<String> },
    #[error("The outcome of this call is not in question.")]
    NothingToMark,
    #[error("The message is empty. Write what you want the agent to do.")]
    EmptyMessage,
    #[error(
        "The message has {bytes} bytes; at most {limit} are read. Put long material where the agent can look it up."
    )]
    TooLong { bytes: usize, limit: usize },
    #[error(
        "The texts from outside that came with the message are {texts}, with {bytes} bytes; at most {max_texts} with \
         {max_bytes} bytes are taken. Send the part that matters."
    )]
    ContextTooLong { texts: usize, bytes: usize, max_texts: usize, max_bytes: usize },
    #[error(
        "Text {number} of the context is empty, or has no label. Each has a `label` that says where it comes from, and a `text`."
    )]
    EmptyContext { number: usize },
    #[error("This thread was cancelled, so nothing runs here any more. Start a new one.")]
    Cancelled,
    #[error("This is a record of what somebody did, and no conversation. Start one of its own.")]
    NoConversation,
    #[error("This thread exists already.")]
    ThreadExists,
    #[error("Nothing is running here.")]
    NothingRuns,
    #[error("It is paused already.")]
    AlreadyPaused,
    #[error("It is not paused.")]
    NotPaused,
}

/// Why a person counts as one who asked: their own words.
fn asked_for(wrote: &Option<(Timestamp, String)>) -> String {
    match wrote {
        Some((at, words)) => format!("You wrote \"{words}\" in this conversation ({at}), which counts as asking"),
        None => "Your words stand in this conversation, which counts as asking".to_owned(),
    }
}

impl Refusal {
    pub(super) fn unsure(you: &Principal, other: &Principal, did: &'static str) -> Self {
        Self::Unsure { you: you.id.clone(), other: other.id.clone(), did }
    }

    /// Stable, for programs and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAnApprover { .. } => "not_an_approver",
            Self::Requester { .. } => "requester_may_not",
            Self::Unsure { .. } => "who_is_unsure",
            Self::NotAPerson => "not_a_person",
            Self::AlreadyDecided { .. } => "already_decided",
            Self::AlreadyVoted => "already_voted",
            Self::Changed => "revision_changed",
            Self::Expired { .. } => "expired",
            Self::NoSuchApproval { .. } => "no_such_approval",
            Self::InvalidEdit { .. } => "invalid_edit",
            Self::LooksSecret { .. } => "looks_like_a_secret",
            Self::NotEditable => "not_editable",
            Self::NothingChanged => "nothing_changed",
            Self::NoSuchQuestion => "no_such_question",
            Self::NotAChoice { .. } => "not_a_choice",
            Self::NothingToMark => "nothing_to_mark",
            Self::EmptyMessage => "empty_message",
            Self::TooLong { .. } => "message_too_long",
            Self::ContextTooLong { .. } => "context_too_long",
            Self::EmptyContext { .. } => "empty_context",
            Self::Cancelled => "cancelled",
            Self::NoConversation => "no_conversation",
            Self::ThreadExists => "thread_exists",
            Self::NothingRuns => "nothing_runs",
            Self::AlreadyPaused => "already_paused",
            Self::NotPaused => "not_paused",
        }
    }

    /// For a person's change of arguments in which values look like secrets.
    pub(super) fn looks_secret(look: Look) -> Self {
        let next = if !look.configured.is_empty() {
            "A secret of this installation never passes through here; the tools that need it have it."
        } else if look.suspects.is_empty() {
            "Secrets never pass through here."
        } else {
            "Secrets never pass through here. If it is not one, answer the question in the conversation with \"Not a secret\" and make the change again."
        };
        let what = if look.quotes_a_mark {
            format!("{} stands in place of a value that was taken out", look.describe())
        } else {
            format!("{} looks like a secret", look.describe())
        };
        Self::LooksSecret { what, next, suspects: look.suspects }
    }

    pub(crate) fn already_decided(approval: &Approval) -> Self {
        let names =
            |people: Vec<&super::id::Principal>| people.iter().map(|p| p.label()).collect::<Vec<_>>().join(", ");
        let outcome = match &approval.result {
            Some((Ending::Succeeded, _)) => " It succeeded.",
            Some((Ending::Failed, _)) => " It failed.",
            Some((Ending::Denied | Ending::Expired | Ending::Cancelled | Ending::NotRun, _)) | None => "",
        };
        let text = match &approval.state {
            ApprovalState::Approved { at } | ApprovalState::Used { at } => {
                format!("Already approved by {} ({at}).{outcome}", names(approval.approved_by()))
            }
            ApprovalState::Denied { at, .. } => {
                format!("Already denied by {} ({at}).", approval.denied_by().map_or("a person", |p| p.label()))
            }
            ApprovalState::Expired { at } => format!("This expired at {at} and was denied."),
            ApprovalState::Cancelled => "This was cancelled; nothing will run.".to_owned(),
            ApprovalState::Pending | ApprovalState::Revising { .. } => "This is being decided.".to_owned(),
        };
        Self::AlreadyDecided { text }
    }
}
