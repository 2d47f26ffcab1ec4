//! The words of `/agent …`, `@agent …` and `!agent …`: reading them, and answering those that only look.
//!
//! It is the same on every surface. A surface reads a text with [`parse`] or [`parse_in_message`], passes what came
//! of it to [`answer`], and does what the [`Outcome`] says: nothing here writes, neither into a log nor to people.
//! What a [`Listing`] looks like is the room `platform`'s.
//!
//! | file | owns |
//! |---|---|
//! | `read` | PURE: a text becomes a [`Command`] |
//! | `look` | who may see which run and which request; finding the one that is meant |
//! | `answer` | what a command comes to |
//! | `words` | PURE: folds and rows become the words of answers |

mod answer;
mod look;
mod read;
mod words;

use crate::agent::{Act, ApprovalId, Principal, ShortId, Steer};
use crate::runtime::Runtime;

pub use crate::platform::{Listing, Row};
pub use answer::answer;
pub(in crate::chat) use look::{Broken, ROWS, concerns};
pub use look::{Groups, groups_of};
pub use read::{parse, parse_in_message};
pub(in crate::chat) use words::EXAMPLES;
pub use words::status_words;

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Without a task: a picker is wanted. Which agents exist is not known where a text is read: a name that the
    /// task begins with is taken off by [`answer`].
    Run {
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
    /// Without an id: the one question that is open.
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
    /// Where they ask, as the transport vouches for it (`slack:T1:C1`); empty: nowhere that anybody else is.
    pub at: &'a str,
    /// Base of links to the inbox; empty: no links.
    pub public_url: &'a str,
    /// How the command is written here (`/agent`), for examples in answers.
    pub prefix: &'a str,
    /// Whether this is one of the people who look after the bot: they see all runs of their workspace.
    pub operator: bool,
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// To be said in private, now.
    Say(Listing),
    /// To be kept and carried out.
    Act(Act),
    /// A new run with this agent and task; where its first message goes is the surface's business. Without an
    /// agent: that of the place.
    Start { agent: Option<String>, task: String },
    /// A picker of agents, with this one chosen.
    Pick { agent: Option<String> },
    /// The card of this approval, in private: words alone are not enough to decide it.
    Show(ApprovalId),
    /// The surface knows what to check.
    Doctor,
}
