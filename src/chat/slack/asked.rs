//! Commands in words, from messages and slash commands alike; what is shown in private.
//!
//! What changes something is answered before the acknowledgement, as far as it has to be kept; what only looks is
//! read from the store: a slash command takes the answer back with its acknowledgement, which works in every channel,
//! and anything else gets a message that only the one who asked sees.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Aside, Front, Taken, deed, principal, stranger};
use crate::agent::{ApprovalId, Intent, QuestionId, Refusal, ShortId, Terms, Thread};
use crate::chat::commands::{self, Asker, Command, Listing, Outcome};
use crate::platform::reach::{self, Standing, Team};
use crate::platform::slack::SURFACE;
use crate::platform::{Card, replies};

use crate::platform::slack::blocks::{self, Look, Message, StartModal, callback, listing, parts};
use crate::platform::slack::inbound::Who;

/// How long an acknowledgement waits for its answer: Slack gives three seconds.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// Characters of what a window only says; Slack takes 3,000 in a section.
const MAX_NOTICE: usize = 2_900;

/// A command, and where it was given.
pub(super) struct Asked {
    pub by: Who,
    /// The thread that it was said in, if the agent takes part there.
    pub here: Option<ShortId>,
    pub channel: String,
    /// The first message of the thread that it was said in.
    pub thread: Option<String>,
    /// How commands are written here.
    pub prefix: String,
    /// The right to open a window, for three seconds.
    pub trigger: Option<String>,
    pub aside: Aside,
    /// What a second delivery has in common with this one.
    pub key: Vec<String>,
}

/// What a command came to.
pub(super) enum Came {
    Taken(Taken),
    /// A new run: where its first message goes is for the caller to say.
    Start {
        agent: Option<String>,
        task: String,
    },
}

pub(super) async fn command(front: &Front, asked: Asked, command: Command) -> Came {
    // Before it is worked out: what it did already would look as if somebody had been faster.
    let key: Vec<&str> = asked.key.iter().map(String::as_str).collect();
    if front.knows(&asked.by.team, &key).await {
        return Came::Taken(Taken::DUPLICATE);
    }
    if !asked.by.is_at_home() {
        front.tell(asked.aside, "Only people of this workspace can give me commands here.".to_owned());
        return Came::Taken(Taken::REFUSED);
    }
    let changes = match &command {
        Command::Run { .. }
        | Command::Approve { .. }
        | Command::Deny { .. }
        | Command::Answer { .. }
        | Command::Steer { .. } => true,
        Command::Status { .. }
        | Command::Pending { .. }
        | Command::History { .. }
        | Command::Rules
        | Command::Agents
        | Command::Tools
        | Command::Doctor
        | Command::Help
        | Command::Unknown { .. } => false,
    };
    if !changes {
        if is_second(front, &asked).await {
            return Came::Taken(Taken::DUPLICATE);
        }
        return Came::Taken(answer_after(front, asked, command).await);
    }
    match outcome(front, &asked, &command).await {
        Outcome::Act(act) => {
            let intent = Intent { by: principal(&asked.by), act, reply: asked.aside.address() };
            Came::Taken(front.keep(&key, intent, &asked.aside).await)
        }
        Outcome::Start { agent, task } => Came::Start { agent, task },
        // What the first delivery has done is not to be wondered at.
        _ if is_second(front, &asked).await => Came::Taken(Taken::DUPLICATE),
        other => Came::Taken(present(front, asked, other).await),
    }
}

/// Whether this command was answered before: a mention arrives as two events, and each of them may come again. What
/// changes something has a log; what only looks is remembered by this process.
async fn is_second(front: &Front, asked: &Asked) -> bool {
    // A slash command is delivered once, and its answer goes back with the acknowledgement.
    if asked.trigger.is_some() {
        return false;
    }
    let key: Vec<&str> = asked.key.iter().map(String::as_str).collect();
    let Some(id) = deed(&asked.by.team, &key) else { return false };
    front.0.runtime.parts().store.summary(id.short()).await.is_ok() || !front.is_first_look(id.short())
}

async fn outcome(front: &Front, asked: &Asked, command: &Command) -> Outcome {
    let by = principal(&asked.by);
    let at = place(&asked.by.team, &asked.channel, None);
    let asker = Asker {
        at: &at,
        runtime: &front.0.runtime,
        by: &by,
        here: asked.here,
        public_url: &front.0.slack.settings().public_url,
        prefix: &asked.prefix,
        operator: front.0.settings.operators.contains(&by.id),
    };
    commands::answer(&asker, command).await
}

/// Answers a command that only looks.
async fn answer_after(front: &Front, asked: Asked, command: Command) -> Taken {
    if asked.trigger.is_none() {
        let here = front.clone();
        front.after(async move {
            let outcome = outcome(&here, &asked, &command).await;
            present(&here, asked, outcome).await;
        });
        return Taken::LOOKED;
    }
    // Reading takes milliseconds; should it take longer, the answer follows the acknowledgement.
    let (send, answer) = tokio::sync::oneshot::channel();
    let here = front.clone();
    front.after(async move {
        let outcome = outcome(&here, &asked, &command).await;
        if let Err((asked, outcome)) = send.send((asked, outcome)) {
            let (aside, look) = (asked.aside.clone(), asked.by.clone());
            match outcome {
                Outcome::Say(late) => show(&here, &aside, &listing(&late, &self::look(&here, &look))).await,
                other => drop(present(&here, asked, other).await),
            }
        }
    });
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok((asked, outcome))) => present(front, asked, outcome).await,
        Ok(Err(_)) | Err(_) => Taken::LOOKED,
    }
}

/// Shows what a command came to, to the one who gave it.
async fn present(front: &Front, asked: Asked, outcome: Outcome) -> Taken {
    let look = look(front, &asked.by);
    let message = match outcome {
        Outcome::Say(said) => listing(&said, &look),
        Outcome::Show(id) => match card(front, &asked.by, id).await {
            Ok(card) => blocks::card(&[card], &look),
            Err(why) => listing(&Listing::line(why), &look),
        },
        Outcome::Pick { agent } => match &asked.trigger {
            Some(trigger) => {
                let place = place(&asked.by.team, &asked.channel, asked.thread.as_deref());
                let view = start_window(front, &StartModal { place, about: None, author: None }, agent.as_deref());
                open_after(front, &asked.by.team, trigger, false, view, asked.aside);
                return Taken::LOOKED;
            }
            // A message gives no right to open a window.
            None => match self::outcome(front, &asked, &Command::Agents).await {
                Outcome::Say(agents) => listing(&agents, &look),
                _ => listing(
                    &Listing::line(format!("Say who shall do what: {} run <agent> <task>", asked.prefix)),
                    &look,
                ),
            },
        },
        Outcome::Doctor => {
            let here = front.clone();
            front.after(async move {
                let report = doctor(&here, &asked).await;
                here.say(&asked.aside, &report).await;
            });
            return Taken::LOOKED;
        }
        // These are not for showing; whoever asked is told rather nothing than something wrong.
        Outcome::Act(_) | Outcome::Start { .. } => return Taken::LOOKED,
    };
    if asked.trigger.is_some() {
        let answer = json!({"response_type": "ephemeral", "text": message.text, "blocks": message.blocks});
        return Taken::LOOKED.saying(answer);
    }
    let here = front.clone();
    front.after(async move { show(&here, &asked.aside, &message).await });
    Taken::LOOKED
}

pub(super) fn look<'a>(front: &'a Front, by: &'a Who) -> Look<'a> {
    Look { team: &by.team, public_url: &front.0.slack.settings().public_url, counter: 0 }
}

/// Shows a message to one person, where they are.
pub(super) async fn show(front: &Front, aside: &Aside, message: &Message) {
    let Some(channel) = &aside.channel else { return front.say(aside, &message.text).await };
    let mut body = json!({"channel": channel, "user": aside.user, "text": message.text, "blocks": message.blocks});
    if let (Some(thread), Some(body)) = (&aside.thread, body.as_object_mut()) {
        body.insert("thread_ts".to_owned(), Value::from(thread.as_str()));
    }
    if let Err(error) = front.0.slack.call(&aside.team, "chat.postEphemeral", &body).await {
        tracing::info!(%error, "an answer in private could not be shown where it was asked for");
        front.say(aside, &message.text).await;
    }
}

/// The card of an approval that this person may know of.
///
/// # Errors
/// What the person is told instead.
pub(super) async fn card(front: &Front, by: &Who, id: ApprovalId) -> Result<Card, String> {
    let unknown = || stranger(&id.to_string());
    let thread = front.0.runtime.thread(id.thread).await.map_err(|_| unknown())?;
    let approval = thread.approvals.get(&id).ok_or_else(unknown)?;
    let who = principal(by);
    // Nothing crosses teams. What another surface asked for is shown to a workspace only if a rule puts it there.
    let is_of_team = match reach::standing(&who, &thread.id) {
        Standing::Here => true,
        Standing::Foreign => false,
        Standing::Elsewhere => Team::of(&who).is_some_and(|team| {
            let Terms { approvers, route, .. } = &approval.terms;
            team.owns(&route.channel) || approvers.users.iter().chain(&approvers.groups).any(|id| team.owns(id))
        }),
    };
    if is_of_team && by.is_at_home() { Ok(Card::of(&thread, approval)) } else { Err(unknown()) }
}

/// The card, for somebody who wants to read it and is where `aside` says. Asks Slack who is in which channel and
/// group, if it has to, so only after an acknowledgement.
///
/// # Errors
/// What the person is told instead.
pub(super) async fn card_seen(front: &Front, by: &Who, id: ApprovalId, aside: &Aside) -> Result<Card, String> {
    let card = card(front, by, id).await?;
    let Terms { approvers, route, .. } = &card.approval.terms;
    let who = principal(by);
    let thread = front.0.runtime.thread(id.thread).await.map_err(|_| stranger(&id.to_string()))?;
    // Where its card stands, everybody reads it.
    let routed = reach::channel(&route.channel).filter(|to| Some(*to) == reach::channel(&aside.address()));
    if routed.is_some()
        || reach::is_named(&who, approvers, &[], &front.0.runtime.parts().people)
        || front.0.settings.operators.contains(&who.id)
        || sees(front, &thread, by, &card.approval.terms, aside).await?
    {
        return Ok(card);
    }
    Err(stranger(&id.to_string()))
}

/// Whether somebody takes part in a conversation, acts within it, or is a member of its channel now; or of a group of
/// those who decide.
async fn sees(front: &Front, thread: &Thread, by: &Who, terms: &Terms, aside: &Aside) -> Result<bool, String> {
    let who = principal(by);
    let Terms { approvers, route, .. } = terms;
    if reach::is_within(&who, thread, &route.channel, &aside.address(), &front.0.runtime.parts().people) {
        return Ok(true);
    }
    let mut wanted = reach::channels(&who, &thread.id, &route.channel);
    wanted.extend(approvers.groups.iter().cloned());
    let found = front.0.runtime.parts().platforms.groups(&who, &wanted).await;
    Ok(!found.map_err(|why| replies::unchecked(&wanted, &why.message))?.is_empty())
}

/// The thread of a question, if somebody may read it.
///
/// # Errors
/// What the person is told instead.
pub(super) async fn asked_in(front: &Front, by: &Who, id: QuestionId, aside: &Aside) -> Result<Thread, String> {
    let closed = || Refusal::NoSuchQuestion.to_string();
    let thread = front.0.runtime.thread(id.thread).await.map_err(|_| closed())?;
    let who = principal(by);
    if reach::standing(&who, &thread.id) != Standing::Here {
        return Err(closed());
    }
    if reach::is_within(&who, &thread, "", &aside.address(), &front.0.runtime.parts().people) {
        return Ok(thread);
    }
    let wanted = reach::channels(&who, &thread.id, "");
    let found = front.0.runtime.parts().platforms.groups(&who, &wanted).await;
    match found.map_err(|why| replies::unchecked(&wanted, &why.message))?.is_empty() {
        true => Err(closed()),
        false => Ok(thread),
    }
}

/// The window that starts a run.
pub(super) fn start_window(front: &Front, carried: &StartModal, preset: Option<&str>) -> Value {
    let agents = front.0.runtime.parts().agents.iter();
    let agents: Vec<(String, String)> =
        agents.map(|agent| (agent.spec.name.clone(), agent.spec.description.clone())).collect();
    blocks::start_modal(carried, &agents, preset)
}

/// The name of a place to post.
pub(super) fn place(team: &str, channel: &str, thread: Option<&str>) -> String {
    let thread = thread.map_or_else(String::new, |thread| format!(":{thread}"));
    format!("{SURFACE}:{team}:{channel}{thread}")
}

/// Opens a window after the acknowledgement, or says why it did not.
pub(super) fn open_after(front: &Front, team: &str, trigger: &str, on_top: bool, view: Value, aside: Aside) {
    let (here, team, trigger) = (front.clone(), team.to_owned(), trigger.to_owned());
    front.after(async move {
        match open(&here, &team, &trigger, on_top, &view).await {
            Ok(window) => here.opened(window, &aside),
            Err(why) => here.say(&aside, &why).await,
        }
    });
}

/// Opens a window, above the one that is open if there is one; returns its id.
///
/// # Errors
/// What the person is told.
pub(super) async fn open(
    front: &Front,
    team: &str,
    trigger: &str,
    on_top: bool,
    view: &Value,
) -> Result<String, String> {
    let method = if on_top { "views.push" } else { "views.open" };
    let called = front.0.slack.call(team, method, &json!({"trigger_id": trigger, "view": view})).await;
    called.map(|opened| opened["view"]["id"].as_str().unwrap_or("").to_owned()).map_err(|error| match error.code.as_str() {
        "expired_trigger_id" | "trigger_expired" | "exchanged_trigger_id" | "trigger_exchanged" => {
            "That took longer than the three seconds that Slack gives a window to open. Nothing was done: press again."
                .to_owned()
        }
        _ => {
            tracing::warn!(%error, "a window could not be opened");
            format!("The window could not be opened ({}), so nothing was done. Press again; if it stays so, an operator finds the cause in the log.", error.code)
        }
    })
}

/// A window that only says something; what is foreign in it was made visible where the words were put together.
pub(super) fn notice(title: &str, text: &str) -> Value {
    let said = json!({"type": "section", "text": parts::plain_shown(text, MAX_NOTICE)});
    parts::modal(callback::SHOW, "", title, None, vec![said])
}

/// What an operator can find out from this channel.
async fn doctor(front: &Front, asked: &Asked) -> String {
    let slack = &front.0.slack;
    let mut lines = Vec::new();
    match slack.workspace(&asked.by.team) {
        Some(workspace) => lines.push(format!("Connected to {} as {}.", workspace.name, workspace.bot_user)),
        None => lines.push("This workspace is not connected; the log and `twelve doctor` say why.".to_owned()),
    }
    lines.extend(slack.problems_of(&asked.by.team));
    let channel = [("channel", asked.channel.as_str())];
    match slack.read(&asked.by.team, "conversations.info", &channel).await {
        Ok(info) => {
            let is = |key: &str| info["channel"][key].as_bool() == Some(true);
            if is("is_archived") {
                lines.push("This channel is archived: nothing can be posted here.".to_owned());
            } else if is("is_member") || is("is_im") || is("is_mpim") {
                lines.push("I can read and post here.".to_owned());
            } else {
                lines.push("I am not in this channel: invite me with /invite.".to_owned());
            }
        }
        Err(error) => lines.push(format!("This channel can't be looked at: {error}.")),
    }
    let agent = front.agent(&asked.channel);
    lines.push(format!("Conversations here go to the agent {agent}."));
    lines.push("`twelve doctor` on the server checks tokens, scopes, groups and channels.".to_owned());
    lines.join("\n")
}
