//! What people see in Slack, as Block Kit. PURE: words, folds and settings in, JSON out.
//!
//! Limits are Slack's (PLATFORMS, S13) and hold whatever is passed in. Foreign text is never interpreted: names are
//! escaped in mrkdwn; what people, models and tools wrote stands in rich text, which interprets nothing; only the
//! answers and questions of a model keep their formatting, in `markdown` blocks without mentions and hidden links.
//!
//! | file | owns |
//! |---|---|
//! | `card` | approvals: one, several, each state; what must be seen before Approve is offered |
//! | `question` | questions, unknown outcomes |
//! | `answer` | answers of any length, lines from the engine |
//! | `modals` | reasons, review, answers in words, starting a run |
//! | `edit` | changing arguments: inputs from a schema, and back |
//! | `home`, `listing` | the App Home, what commands answer |
//! | `mrkdwn` | Slack's two markups, and foreign text in them |
//! | `parts` | the elements of messages and views |
//! | `limits` | what Slack allows |

mod answer;
mod card;
mod edit;
mod home;
mod limits;
mod listing;
mod modals;
mod mrkdwn;
pub mod parts;
mod question;

use serde_json::Value;

pub use answer::{answer, notice};
pub use card::{card, covered, is_whole, link_to_card};
pub use edit::{edit_modal, edited_args};
pub use home::{Home, HomeRequest, HomeRun, home};
pub use listing::{listing, listing_modal};
pub use modals::{answer_modal, deny_modal, review_modal, start_modal};
pub use mrkdwn::{escape, moment};
pub use question::{question, question_closed, unknown};

/// The action ids of our buttons. Their values are `<id>|<digest prefix>`, or only the id.
pub mod action {
    pub const APPROVE: &str = "apr.approve";
    pub const DENY: &str = "apr.deny";
    pub const EDIT: &str = "apr.edit";
    /// Opens a modal with everything, where Approve is the submit.
    pub const REVIEW: &str = "apr.review";
    /// The menu of a row; the option's value is `<edit|open>|<id>|<digest prefix>`.
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
    /// `private_metadata`: JSON of [`super::StartModal`].
    pub const START: &str = "start";
    /// Only shows something; it has no submit.
    pub const SHOW: &str = "show";
}

/// The block ids of inputs in our modals, for [`typed`].
pub mod field {
    /// Why it is denied.
    pub const REASON: &str = "reason";
    /// The note of an approval, in the review.
    pub const NOTE: &str = "note";
    pub const ANSWER: &str = "answer";
    pub const AGENT: &str = "agent";
    pub const TASK: &str = "task";
}

/// What was entered in the input with this block id: the text, or the value of the chosen option. `state` is the
/// view's `state.values`. `None`: nothing was.
pub fn typed(state: &Value, block_id: &str) -> Option<String> {
    let element = state.get(block_id)?.get(parts::INPUT_ACTION)?;
    let value = element.get("value").or_else(|| element.get("selected_option")?.get("value"))?;
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
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
    /// The id of its author, if Slack names a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}
