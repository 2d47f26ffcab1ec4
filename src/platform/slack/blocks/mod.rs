//! What people see in Slack, as Block Kit. PURE: words, folds and settings in, JSON out.
//!
//! Limits are Slack's (PLATFORMS, S13) and hold whatever is passed in. Foreign text is never interpreted: it is
//! escaped in mrkdwn, or stands in elements that interpret nothing.

mod home;
mod listing;

use serde_json::Value;

pub use home::{Home, HomeRequest, HomeRun, home};
pub use listing::{listing, listing_modal};

use crate::agent::{AnswerKind, Approval, Question, QuestionId};
use crate::platform::Card;

/// The action ids of our buttons. Their values are `<id>|<digest prefix>`, or only the id.
pub mod action {
    pub const APPROVE: &str = "apr.approve";
    pub const DENY: &str = "apr.deny";
    pub const EDIT: &str = "apr.edit";
    /// Opens a modal with everything, where Approve is the submit.
    pub const REVIEW: &str = "apr.review";
    /// The overflow menu; the option's value is `<what>|<id>|<digest prefix>`.
    pub const MORE: &str = "apr.more";
    /// Approves every row of a card with several; the value is `<id>|<digest prefix>` of each, by spaces.
    pub const APPROVE_ALL: &str = "apr.all";
    /// Asks the agent to ask again; the value is the approval's id.
    pub const AGAIN: &str = "apr.again";
    /// Stops the run; the value is the thread's short id.
    pub const STOP: &str = "run.stop";
    /// `mark.succeeded`, `mark.failed`, `mark.retry`; the value is the call's id.
    pub const MARK: &str = "mark.";
    /// `q.<n>`: the choice with this number; the value is `<question id>|<the answer>`.
    pub const ANSWER: &str = "q.";
    /// A select of choices; the option's value is `<question id>|<number from 1>`.
    pub const CHOOSE: &str = "q.choose";
    /// Opens a modal for an answer in words; the value is the question's id.
    pub const WRITE: &str = "q.write";
    /// A button that only opens a link.
    pub const OPEN: &str = "open";
    /// In the App Home: starts the agent named in the value.
    pub const START: &str = "home.start";
}

/// The callback ids of our modals; `private_metadata` carries what they are about.
pub mod callback {
    /// `private_metadata`: `<approval id>|<digest prefix>`, likewise for the next two.
    pub const DENY: &str = "deny";
    pub const EDIT: &str = "edit";
    pub const REVIEW: &str = "review";
    /// `private_metadata`: the question's id.
    pub const ANSWER: &str = "answer";
    /// `private_metadata`: JSON of [`StartModal`].
    pub const START: &str = "start";
}

/// What a card needs to know besides its thread.
#[derive(Clone, Debug, Default)]
pub struct Look<'a> {
    /// The team of the workspace it is shown in: its people and groups are shown as mentions.
    pub team: &'a str,
    /// Base of links to the inbox; empty: no links.
    pub public_url: &'a str,
    /// Changes with every update: a block id that stays would keep what people typed, and the old buttons.
    pub counter: u64,
}

/// A message: blocks, and the text of its notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub text: String,
    pub blocks: Vec<Value>,
}

/// What the modal that starts a run carries from the place where it was opened.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StartModal {
    /// Where the first message goes: a place, as in [`super::Place`].
    pub place: String,
    /// Label and text of the message that the task is about.
    #[serde(default)]
    pub about: Option<(String, String)>,
}

/// The card of an approval, or of several that one reply asked for (`cards` has at least one).
pub fn card(_cards: &[Card], _look: &Look) -> Message {
    Message { text: String::new(), blocks: Vec::new() }
}

/// A one-line link to a card that stands elsewhere.
pub fn link_to_card(_card: &Card, _permalink: Option<&str>, _look: &Look) -> Message {
    Message { text: String::new(), blocks: Vec::new() }
}

/// An answer of an agent, in as many messages as it needs, with `footer` below the last.
pub fn answer(_text: &str, _footer: &str) -> Vec<Message> {
    Vec::new()
}

/// An open question.
pub fn question(_id: QuestionId, _question: &Question, _look: &Look) -> Message {
    Message { text: String::new(), blocks: Vec::new() }
}

/// A question that is no longer open.
pub fn question_closed(_id: QuestionId, _look: &Look) -> Message {
    Message { text: String::new(), blocks: Vec::new() }
}

/// A call whose outcome is unknown.
pub fn unknown(_call: crate::agent::CallId, _title: &str, _waits_for: &str, _look: &Look) -> Message {
    Message { text: String::new(), blocks: Vec::new() }
}

/// A line from the engine.
pub fn notice(_text: &str) -> Message {
    Message { text: String::new(), blocks: Vec::new() }
}

/// The modal that asks for a reason (optional).
pub fn deny_modal(_card: &Card, _look: &Look) -> Value {
    Value::Null
}

/// The modal that shows everything; its submit approves.
pub fn review_modal(_card: &Card, _look: &Look) -> Value {
    Value::Null
}

/// The modal with one input for each argument, made from the tool's schema.
pub fn edit_modal(_card: &Card, _schema: &Value, _look: &Look) -> Value {
    Value::Null
}

/// The arguments that a submitted edit modal stands for, as JSON text.
///
/// # Errors
/// By block id: what is wrong with the input, for `response_action: errors`.
pub fn edited_args(
    _approval: &Approval,
    _schema: &Value,
    _state: &Value,
) -> Result<String, std::collections::BTreeMap<String, String>> {
    Ok(String::new())
}

/// The modal for an answer in words.
pub fn answer_modal(_id: QuestionId, _text: &str, _answer: &AnswerKind) -> Value {
    Value::Null
}

/// The modal that starts a run: agent picker and task. `agents`: name and description.
pub fn start_modal(_carried: &StartModal, _agents: &[(String, String)], _preset: Option<&str>) -> Value {
    Value::Null
}

/// mrkdwn in which foreign text is only text.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
