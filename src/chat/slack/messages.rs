//! What people write, edit, delete and react to.
//!
//! A message is for an agent if it is a direct message, mentions the bot, begins with its sign (`!agent`), or stands in
//! a thread in which the agent takes part already, unless the settings say that mentions alone are heard there. It is delivered under an id made of channel and timestamp, so
//! `app_mention`, `message` and every repetition of them are one.

use super::asked::{self, Asked, Came};
use super::{Aside, Front, Taken, principal};
use crate::agent::*;
use crate::chat::commands::{self, Command};
use crate::platform::slack::SURFACE;
use crate::platform::slack::inbound::{self, Who};
use crate::runtime::{DeliverError, Said};
use crate::store::StoreError;

/// What a message of another workspace's people counts as: it comes from outside, like a web page.
const FROM_A_GUEST: &str = "a guest from another workspace";

/// Where a message stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub by: &'a Who,
    pub channel: &'a str,
    pub thread: Option<&'a str>,
    pub ts: &'a str,
}

impl Place<'_> {
    /// The first message of its thread, which may be itself.
    fn root(&self) -> &str {
        self.thread.unwrap_or(self.ts)
    }

    fn thread_id(&self) -> Option<ThreadId> {
        format!("{SURFACE}:{}:{}:{}", self.by.team, self.channel, self.root()).parse().ok()
    }

    fn source(&self) -> String {
        format!("{SURFACE}:{}:{}", self.channel, self.ts)
    }

    fn aside(&self) -> Aside {
        Aside::of(self.by).at(Some(self.channel), self.thread)
    }

    /// What all deliveries of this message have in common.
    fn key(&self) -> [&str; 3] {
        ["message", self.channel, self.ts]
    }

    /// Where the author is told of something once, however often the message is delivered.
    fn aside_once(&self) -> Aside {
        self.aside().once(&self.key())
    }
}

/// Whether there is a log of the thread that a message stands in.
enum Log {
    New,
    Known,
    /// There was one.
    Deleted,
}

pub(super) async fn take(front: &Front, message: inbound::Message) -> Taken {
    let (thread, channel) = (message.thread.clone(), message.channel.clone());
    let place = Place { by: &message.by, channel: &channel, thread: thread.as_deref(), ts: &message.ts };
    let Some(id) = place.thread_id() else { return Taken::ODD };
    let direct = message.kind == "im";
    let signed = after_sign(&message.text, &front.sign());
    let addressed = direct || message.mentions_us || signed.is_some();
    if !addressed && thread.is_none() {
        return Taken::IGNORED;
    }
    // The first message of a thread has no log, or is known by its source.
    let log = match thread {
        None => Log::New,
        Some(_) => match front.0.runtime.parts().store.summary(id.short()).await {
            Ok(_) => Log::Known,
            Err(StoreError::Unknown(_)) => Log::New,
            Err(StoreError::Deleted(_)) => Log::Deleted,
            Err(error) => return front.failed(&error.into(), &place.aside_once()),
        },
    };
    let takes_part = match log {
        Log::Known => true,
        Log::New => message.root_is_ours && place.thread.is_some(),
        Log::Deleted => false,
    };
    if !addressed && !takes_part {
        return Taken::IGNORED;
    }
    let came_along = !message.files.is_empty() || !message.quoted.is_empty();
    let command = match signed {
        Some(words) => Some(commands::parse(words)),
        None if message.text.is_empty() && !came_along => addressed.then_some(Command::Help),
        None if direct || message.mentions_us => commands::parse_in_message(&message.text),
        // Said among people, `help` or `status` may be meant for one of them; to stop is never wrong.
        None => {
            commands::parse_in_message(&message.text).filter(|c| matches!(c, Command::Steer { what: Steer::Stop, .. }))
        }
    };
    if message.text.is_empty() && !came_along && command.is_none() {
        return Taken::IGNORED;
    }
    if !addressed && command.is_none() && front.hears_mentions_alone(&channel) {
        return Taken::IGNORED;
    }
    if let (None, Log::Known, true) = (&command, &log, place.by.is_at_home())
        && let Some(question) = settled_by(front, &id, &message.text).await
    {
        let aside = place.aside_once();
        let act = Act::Answer { question, text: message.text.trim().to_owned() };
        let intent = Intent { by: principal(place.by), act, reply: aside.address() };
        return front.keep(&place.key(), intent, &aside).await;
    }
    let Some(command) = command else { return say(front, place, &message, &log, None, &message.text).await };
    let asked = Asked {
        by: message.by.clone(),
        here: matches!(log, Log::Known).then(|| id.short()),
        channel: channel.clone(),
        thread: Some(place.root().to_owned()),
        prefix: front.sign(),
        trigger: None,
        aside: place.aside_once(),
        key: place.key().map(str::to_owned).to_vec(),
    };
    match asked::command(front, asked, command).await {
        Came::Taken(taken) => taken,
        Came::Start { agent, task } => say(front, place, &message, &log, agent.as_deref(), &task).await,
    }
}

/// The question whether a value is a secret that these very words answer, if it is the only one that is open. As a
/// message they would be words for the agent, and whoever wrote them would have asked for what it does next.
async fn settled_by(front: &Front, id: &ThreadId, text: &str) -> Option<QuestionId> {
    let thread = front.0.runtime.thread(id.short()).await.ok()?;
    let doubts = thread.questions.iter().filter(|(_, asked)| matches!(asked.cause, QuestionCause::LooksSecret { .. }));
    let (mut doubts, said) = (doubts, text.trim());
    let (question, asked) = doubts.next()?;
    let is_answer = match &asked.answer {
        AnswerKind::Choice { choices } => choices.iter().any(|choice| choice.eq_ignore_ascii_case(said)),
        AnswerKind::Text | AnswerKind::YesNo => false,
    };
    (is_answer && doubts.next().is_none()).then_some(*question)
}

/// What follows `!agent`, if the message begins with it.
fn after_sign<'a>(text: &'a str, sign: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(sign.len())?;
    (head.eq_ignore_ascii_case(sign) && rest.chars().next().is_none_or(char::is_whitespace)).then(|| rest.trim())
}

/// Hands a message over to its thread.
async fn say(
    front: &Front,
    place: Place<'_>,
    message: &inbound::Message,
    log: &Log,
    agent: Option<&str>,
    text: &str,
) -> Taken {
    let Some(id) = place.thread_id() else { return Taken::ODD };
    let mut attached = Vec::new();
    if place.thread.is_some() && matches!(log, Log::New) {
        attached.push(Attached::Earlier { before: place.ts.to_owned() });
    }
    let quoted = message.quoted.iter();
    attached.extend(quoted.map(|quoted| Attached::Quoted {
        label: quoted.label.clone(),
        text: quoted.text.clone(),
        by: quoted.author.as_ref().map(|user| Principal::human(format!("{SURFACE}:{}:{user}", place.by.team))),
    }));
    let files = message.files.iter();
    attached.extend(files.map(|file| Attached::File { name: file.name.clone(), place: file.id.clone() }));
    let text = match text {
        "" => "Look at what came with this message.",
        text => text,
    };
    let said = Said {
        source: Some(place.source()),
        outside: (!place.by.is_at_home()).then(|| FROM_A_GUEST.to_owned()),
        attached,
        ..Said::by(principal(place.by), text)
    };
    let agent = agent.unwrap_or_else(|| front.agent(place.channel));
    match front.0.runtime.message(&id, agent, said).await {
        Ok(delivered) => front.answered(&delivered, &place.aside_once()),
        Err(error) => front.failed(&error, &place.aside_once()),
    }
}

/// Somebody changed a message. It matters while the agent is at work on it; what it said before stays said.
pub(super) async fn edited(front: &Front, place: Place<'_>, text: &str, edited: &str) -> Taken {
    let words = format!("I have edited my message. It now reads:\n{text}");
    correct(front, place, &format!("{}:edited:{edited}", place.source()), words).await
}

/// Somebody took a message back.
pub(super) async fn deleted(front: &Front, place: Place<'_>, text: &str) -> Taken {
    let words = format!("I have deleted this message of mine, so don't act on it:\n{text}");
    correct(front, place, &format!("{}:deleted", place.source()), words).await
}

/// A further message about one that was taken in, if a run is under way.
async fn correct(front: &Front, place: Place<'_>, source: &str, words: String) -> Taken {
    let Some(id) = place.thread_id() else { return Taken::ODD };
    let aside = place.aside().once(&["correction", source]);
    let runtime = &front.0.runtime;
    let thread = match runtime.thread(id.short()).await {
        Ok(thread) => thread,
        Err(DeliverError::Store(StoreError::Unknown(_) | StoreError::Deleted(_))) => return Taken::IGNORED,
        Err(error) => return front.failed(&error, &aside),
    };
    if thread.run.is_none() || thread.cancelled || !thread.knows_source(&place.source()) {
        return Taken::IGNORED;
    }
    let said = Said {
        source: Some(source.to_owned()),
        outside: (!place.by.is_at_home()).then(|| FROM_A_GUEST.to_owned()),
        ..Said::by(principal(place.by), words)
    };
    match runtime.message(&id, &thread.agent, said).await {
        Ok(delivered) => front.answered(&delivered, &aside),
        Err(error) => front.failed(&error, &aside),
    }
}

/// The sign that stops a run, on a message of the bot.
pub(super) async fn reaction(front: &Front, by: &Who, name: &str, channel: &str, ts: &str, at: &str) -> Taken {
    if name != front.0.settings.stop_reaction {
        return Taken::IGNORED;
    }
    let aside = Aside::of(by).at(Some(channel), None);
    let target = Target::Message { place: format!("{SURFACE}:{}:{channel}:{ts}", by.team) };
    let act = Act::Steer { what: Steer::Stop, target };
    let intent = Intent { by: principal(by), act, reply: aside.address() };
    front.keep(&["reaction", channel, ts, &by.user, name, at], intent, &aside).await
}

/// The stop button that Slack shows while a session is at work. The thread is named by its first message, which may
/// be a person's.
pub(super) async fn stopped(front: &Front, by: &Who, channel: &str, thread: &str, at: &str) -> Taken {
    let aside = Aside::of(by).at(Some(channel), Some(thread));
    let Some(id) = (Place { by, channel, thread: Some(thread), ts: thread }).thread_id() else { return Taken::ODD };
    let act = Act::Steer { what: Steer::Stop, target: Target::Thread { thread: id.short() } };
    let intent = Intent { by: principal(by), act, reply: aside.address() };
    front.keep(&["stopped", channel, thread, &by.user, at], intent, &aside).await
}
