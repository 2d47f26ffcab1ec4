//! The words of `/agent …`, `@agent …` and `!agent …`: reading them, and answering those that only look.

use crate::agent::{Act, ApprovalId, Principal, ShortId, Steer};
use crate::runtime::Runtime;

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Without a task: a picker is wanted.
    Run {
        agent: Option<String>,
        task: String,
    },
    Status {
        run: Option<String>,
    },
    Pending {
        all: bool,
    },
    Approve {
        id: String,
        note: String,
    },
    Deny {
        id: String,
        reason: String,
    },
    Answer {
        id: String,
        text: String,
    },
    Steer {
        what: Steer,
        run: Option<String>,
    },
    History {
        run: Option<String>,
    },
    Rules,
    Agents,
    Tools,
    Doctor,
    Help,
    Unknown {
        word: String,
        meant: Option<&'static str>,
    },
}

/// Who asks, and from where.
pub struct Asker<'a> {
    pub runtime: &'a Runtime,
    pub by: &'a Principal,
    /// The thread in which it was said, if it was in one.
    pub here: Option<ShortId>,
    /// Base of links to the inbox; empty: no links.
    pub public_url: &'a str,
    /// How the command is written here (`/agent`), for examples in answers.
    pub prefix: &'a str,
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// To be said in private, now.
    Say(Listing),
    /// To be kept and carried out.
    Act(Act),
    /// A new run with this agent and task; where its first message goes is the surface's business.
    Start { agent: Option<String>, task: String },
    /// A picker of agents.
    Pick,
    /// The card of this approval, in private: words alone are not enough to decide it.
    Show(ApprovalId),
    /// The surface knows what to check.
    Doctor,
}

/// Words in no surface's form. Plain text: surfaces escape it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// One line above the rows; may be all there is.
    pub title: String,
    pub rows: Vec<Row>,
    /// Below the rows.
    pub hint: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub text: String,
    /// In smaller print.
    pub detail: String,
    pub link: Option<String>,
    /// The approval that the row is about, where people can be offered to look at it.
    pub approval: Option<ApprovalId>,
}

/// Reads the words after the command. Total: what is not understood is [`Command::Unknown`].
pub fn parse(_text: &str) -> Command {
    Command::Help
}

/// The command, if these words of a message that is addressed to the agent are one, whole, and not a task in
/// words (`stop`, `status`, `approve apr_…`).
pub fn parse_in_message(_text: &str) -> Option<Command> {
    None
}

/// What a command comes to. Reads, and changes nothing.
pub async fn answer(_asker: &Asker<'_>, _command: &Command) -> Outcome {
    Outcome::Say(Listing::default())
}
