//! Intents: what somebody did in a chat surface, kept before it is acknowledged.
//!
//! A press of a button cannot be decided at once: who is in which group has to be asked first, and a platform
//! wants its acknowledgement before that. So the press is a log of its own (`system:<surface>:…`, one intent
//! in it), its thread id is made from the delivery's own key, and a second delivery finds the log and changes
//! nothing. The one effect of that log is [`super::Effect::Handle`]; [`super::Body::IntentHandled`] ends it
//! and says what the person was told. It is a record of refused clicks as well.

use serde::{Deserialize, Serialize};

use super::event::Mark;
use super::id::{ApprovalId, CallId, Principal, QuestionId, ShortId};
use super::refusal::Refusal;
use super::secret::SecretFilter;
use super::untrusted::one_line;

/// What somebody wants, and where the answer goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// As the transport verified it.
    pub by: Principal,
    pub act: Act,
    /// Where the person is told what came of it, in the surface's own words. Never a secret: what gives a right
    /// to answer (a response URL, an interaction token) stays in memory.
    pub reply: String,
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Act {
    /// `digest` is what the card showed: at least the 12 digits of [`super::Digest::prefix`].
    Vote {
        approval: ApprovalId,
        digest: String,
        choice: Choice,
    },
    Answer {
        question: QuestionId,
        text: String,
    },
    Mark {
        call: CallId,
        mark: Mark,
    },
    /// Words for a thread that exists ("Ask again").
    Say {
        thread: ShortId,
        text: String,
    },
    /// A new thread. `place` is where its first message is posted, in the surface's own words.
    Start {
        agent: String,
        text: String,
        place: String,
        /// A message that the task is about. Whoever wrote it, it was not the person who asks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        about: Option<About>,
    },
    Steer {
        what: Steer,
        target: Target,
    },
}

impl Intent {
    /// Without what looks like a secret: people paste them into reasons and tasks.
    pub(super) fn cleaned(self, secrets: &SecretFilter) -> Self {
        let clean = |text: String| secrets.clean(&text).into_owned();
        let act = match self.act {
            Act::Vote { approval, digest, choice } => {
                let choice = match choice {
                    Choice::Approve { note } => Choice::Approve { note: clean(note) },
                    Choice::Deny { reason } => Choice::Deny { reason: clean(reason) },
                    Choice::Edit { args } => Choice::Edit { args: clean(args) },
                };
                Act::Vote { approval, digest, choice }
            }
            Act::Answer { question, text } => Act::Answer { question, text: clean(text) },
            Act::Mark { call, mark } => {
                let mark = match mark {
                    Mark::Succeeded { note } => Mark::Succeeded { note: clean(note) },
                    Mark::Failed { note } => Mark::Failed { note: clean(note) },
                    Mark::Retry => Mark::Retry,
                };
                Act::Mark { call, mark }
            }
            Act::Say { thread, text } => Act::Say { thread, text: clean(text) },
            Act::Start { agent, text, place, about } => {
                let about = about.map(|about| About { label: clean(about.label), text: clean(about.text), ..about });
                Act::Start { agent, text: clean(text), place, about }
            }
            act @ Act::Steer { .. } => act,
        };
        Self { act, ..self }
    }
}

impl Act {
    /// What it is, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Act::Vote { choice: Choice::Approve { .. }, .. } => "approve",
            Act::Vote { choice: Choice::Deny { .. }, .. } => "deny",
            Act::Vote { choice: Choice::Edit { .. }, .. } => "edit",
            Act::Answer { .. } => "answer",
            Act::Mark { .. } => "mark",
            Act::Say { .. } => "say",
            Act::Start { .. } => "start",
            Act::Steer { what: Steer::Stop, .. } => "stop",
            Act::Steer { what: Steer::Pause, .. } => "pause",
            Act::Steer { what: Steer::Resume, .. } => "resume",
        }
    }
}

/// A text that a task is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// What it is, for people: `a message of @bob in #ops`.
    pub label: String,
    pub text: String,
    /// Who wrote it, as the transport verified it, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Principal>,
}

/// A person's decision as it travels: [`super::Ballot`] before the registry has looked at an edit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Choice {
    Approve {
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
    },
    Deny {
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The whole arguments, as JSON text.
    Edit { args: String },
}

/// What a run is told from outside its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    Stop,
    Pause,
    Resume,
}

/// The thread that is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    Thread {
        thread: ShortId,
    },
    /// The one that this message of ours belongs to, in the surface's own words.
    Message {
        place: String,
    },
}

/// Something that belongs to a message and has to be fetched before the model is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Attached {
    /// What was said in this conversation before the agent joined it; up to this message, in the surface's
    /// own words.
    Earlier { before: String },
    /// A text that came along with the message, written by somebody else.
    Quoted {
        label: String,
        text: String,
        /// Who wrote it, as the transport verified it, if it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Principal>,
    },
    /// A file; `place` says where it is, in the surface's own words (an id, never a link with a token).
    File { name: String, place: String },
}

/// What came of fetching it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "GatheredText", into = "GatheredText")]
pub struct Gathered {
    /// What it is, for people and for the model: `the file errors.log`.
    pub label: String,
    /// Its text, or why there is none. Nobody who writes to the agent vouches for it: it counts as text from
    /// outside.
    pub text: Result<String, String>,
    /// Whose words are in it, as the transport verified them: they count as heard.
    pub by: Vec<Principal>,
}

impl Gathered {
    /// A text of which nobody says who wrote it.
    pub fn of_no_one(label: impl Into<String>, text: Result<String, String>) -> Self {
        Self { label: label.into(), text, by: Vec::new() }
    }
}

/// [`Gathered`] as it is written: a `text`, or why it is `missing`.
#[derive(Serialize, Deserialize)]
struct GatheredText {
    label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    by: Vec<Principal>,
}

impl From<Gathered> for GatheredText {
    fn from(Gathered { label, text, by }: Gathered) -> Self {
        match text {
            Ok(text) => Self { label, text: Some(text), missing: None, by },
            Err(why) => Self { label, text: None, missing: Some(why), by },
        }
    }
}

impl TryFrom<GatheredText> for Gathered {
    type Error = &'static str;
    fn try_from(GatheredText { label, text, missing, by }: GatheredText) -> Result<Self, Self::Error> {
        match (text, missing) {
            (Some(text), None) => Ok(Self { label, text: Ok(text), by }),
            (None, Some(why)) => Ok(Self { label, text: Err(why), by }),
            (Some(_), Some(_)) | (None, None) => Err("it has either a `text` or says why it is `missing`"),
        }
    }
}

/// A text from outside that a program hands over with a message: data for the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// Where it comes from, for people and for the model: one line.
    pub label: String,
    pub text: String,
}

/// Texts from outside that one message may hand over.
pub const MAX_PASSAGES: usize = 20;

/// Texts from outside as they enter the event of their message: without secrets, each label one line.
pub fn passages(context: Vec<Passage>, secrets: &SecretFilter) -> Vec<Passage> {
    let clean = |Passage { label, text }: Passage| Passage {
        label: one_line(&secrets.clean(&label)),
        text: secrets.clean(&text).into_owned(),
    };
    context.into_iter().map(clean).collect()
}

/// Things attached to one message that are fetched; the rest is named as left out. Slack sends at most ten files
/// with a message.
pub const MAX_ATTACHED: usize = 20;
/// Texts that come of fetching them: earlier messages may be a text each.
pub const MAX_GATHERED: usize = 200;
/// Bytes of all texts of one message together: about 40,000 tokens, half of what the default settings leave to a
/// whole conversation.
pub const MAX_GATHERED_BYTES: usize = 128 * 1024;
/// Longest reason why something could not be read, in characters.
const MAX_WHY: usize = 300;

/// What is attached to a message, as it may enter its event.
pub(super) fn attachable(attached: Vec<Attached>, secrets: &SecretFilter) -> Vec<Attached> {
    let line = |text: String| one_line(&secrets.clean(&text));
    let clean = |text: String| secrets.clean(&text).into_owned();
    let left_out = attached.len().saturating_sub(MAX_ATTACHED);
    let kept = attached.into_iter().take(MAX_ATTACHED).map(|each| match each {
        Attached::Earlier { before } => Attached::Earlier { before: clean(before) },
        Attached::Quoted { label, text, by } => {
            Attached::Quoted { label: line(label), text: cut(clean(text), MAX_GATHERED_BYTES), by }
        }
        Attached::File { name, place } => Attached::File { name: line(name), place: clean(place) },
    });
    let mut kept: Vec<Attached> = kept.collect();
    if left_out > 0 {
        let text = format!("not read: at most {MAX_ATTACHED} things are read with one message");
        kept.push(Attached::Quoted { label: format!("{left_out} more attachments"), text, by: None });
    }
    kept
}

/// What was fetched for one message, as it may enter the log: without secrets, and within its bounds. Nothing is
/// left out without a word.
pub(super) fn bounded(texts: Vec<Gathered>, secrets: &SecretFilter) -> Vec<Gathered> {
    let left_out = texts.len().saturating_sub(MAX_GATHERED);
    let mut room = MAX_GATHERED_BYTES;
    let mut take = |Gathered { label, text, by }: Gathered| {
        let label = one_line(&secrets.clean(&label));
        let text = match text {
            Ok(_) if room == 0 => {
                Err(format!("what came with this message is longer than {MAX_GATHERED_BYTES} bytes altogether"))
            }
            Ok(text) => {
                let text = secrets.clean(&text).into_owned();
                let (length, text) = (text.len(), cut(text, room));
                room = room.saturating_sub(length);
                Ok(text)
            }
            Err(why) => {
                let why = secrets.clean(&why).split_whitespace().collect::<Vec<_>>().join(" ");
                Err(why.chars().take(MAX_WHY).collect())
            }
        };
        Gathered { label, text, by }
    };
    let mut kept: Vec<Gathered> = texts.into_iter().take(MAX_GATHERED).map(&mut take).collect();
    if left_out > 0 {
        let why = format!("at most {MAX_GATHERED} texts are read with one message");
        kept.push(Gathered::of_no_one(format!("{left_out} more texts"), Err(why)));
    }
    kept
}

/// At most `room` bytes of a text, and a note on what is missing.
fn cut(text: String, room: usize) -> String {
    if text.len() <= room {
        return text;
    }
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (kept, missing) = text.split_at(end);
    format!("{kept}\n[cut here: {} more bytes]", missing.len())
}

/// Why texts from outside cannot come with a message.
pub fn refuse_context(context: &[Passage]) -> Option<Refusal> {
    let bytes = context.iter().map(|p| p.label.len() + p.text.len()).sum();
    if context.len() > MAX_PASSAGES || bytes > MAX_GATHERED_BYTES {
        let (max_texts, max_bytes) = (MAX_PASSAGES, MAX_GATHERED_BYTES);
        return Some(Refusal::ContextTooLong { texts: context.len(), bytes, max_texts, max_bytes });
    }
    let empty = context.iter().position(|p| p.label.trim().is_empty() || p.text.trim().is_empty())?;
    Some(Refusal::EmptyContext { number: empty + 1 })
}

/// Where an approval is put before people, besides its own conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// A channel in the surface's own words (`slack:T1:C9`). Empty: the conversation itself.
    pub channel: String,
    /// Whether the approvers get a copy in private.
    pub direct: bool,
}

impl Route {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
