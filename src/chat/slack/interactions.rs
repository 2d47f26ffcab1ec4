//! Buttons, modals, shortcuts and slash commands become intents, or are answered at once.
//!
//! A press that changes something is kept and acknowledged; whether it may, is decided when it is carried out, because
//! who is in which group has to be asked first. A press that opens a window opens it after the acknowledgement. What
//! comes back from a window is checked as far as this process can by itself, since what is said later is not seen
//! while a window is open; then it is kept, and the window closes.

use serde_json::{Map, Value, json};

use super::asked::{self, Asked, Came, card, look, open_after, place, start_window};
use super::{Aside, Front, Taken, principal, stranger};
use crate::agent::*;
use crate::chat::commands;
use crate::platform::reach::{self, Standing};
use crate::platform::slack::Hot;
use crate::platform::slack::blocks::{self, StartModal, action, callback, field, typed};
use crate::platform::slack::inbound::{self, Who};
use crate::platform::{Card, replies};

/// Cards that one press of "Approve all" decides; a card shows fewer.
const MAX_AT_ONCE: usize = 20;

/// An approval, and the digits of its digest that the person was shown.
type Shown = (ApprovalId, String);

fn shown(value: &str) -> Option<Shown> {
    let (id, digest) = value.split_once('|')?;
    Some((id.parse().ok()?, digest.to_owned()))
}

pub(super) async fn action(front: &Front, mut pressed: inbound::Action) -> Taken {
    // What is chosen in a row's menu is a button that the row has no room for.
    if pressed.action == action::MORE
        && let Some((chosen, value)) = pressed.value.split_once('|')
        && let Some(button) = [("edit", action::EDIT), ("open", action::OPEN)].into_iter().find(|(c, _)| *c == chosen)
    {
        (pressed.action, pressed.value) = (button.1.to_owned(), value.to_owned());
    }
    let aside = Aside {
        hot: front.hot(pressed.response_url.as_deref()),
        ..Aside::of(&pressed.by).at(pressed.channel.as_deref(), pressed.thread.as_deref())
    };
    let (id, value) = (pressed.action.as_str(), pressed.value.as_str());
    if id == action::OPEN || id.starts_with("open.") {
        return Taken::IGNORED;
    }
    if !pressed.by.is_at_home() {
        front.tell(aside, stranger(value));
        return Taken::REFUSED;
    }
    let approve =
        |(approval, digest): Shown| Act::Vote { approval, digest, choice: Choice::Approve { note: String::new() } };
    let acts: Vec<(Act, String)> = match id {
        action::APPROVE => shown(value).map(|shown| (approve(shown), value.to_owned())).into_iter().collect(),
        action::APPROVE_ALL => {
            let all = value.split_whitespace().take(MAX_AT_ONCE);
            all.filter_map(|one| Some((approve(shown(one)?), one.to_owned()))).collect()
        }
        action::DENY | action::EDIT | action::REVIEW => {
            return match shown(value) {
                Some(shown) => decide(front, pressed, shown, aside),
                None => odd(front, aside, "a button without an approval"),
            };
        }
        action::AGAIN => match value.split('|').next().unwrap_or("").parse::<ApprovalId>() {
            Ok(approval) => vec![(ask_again(front, approval, &pressed.by).await, value.to_owned())],
            Err(_) => Vec::new(),
        },
        action::STOP => match value.parse() {
            Ok(thread) => {
                vec![(Act::Steer { what: Steer::Stop, target: Target::Thread { thread } }, value.to_owned())]
            }
            Err(_) => Vec::new(),
        },
        action::WRITE => return write(front, pressed, aside),
        action::CHOOSE => {
            chosen(front, value, &pressed.by).await.map(|act| (act, value.to_owned())).into_iter().collect()
        }
        action::START => {
            let preset = Some(value).filter(|agent| !agent.is_empty());
            let channel = pressed.channel.as_deref().unwrap_or(&pressed.by.user);
            let start = StartModal { place: place(&pressed.by.team, channel, None), about: None, author: None };
            let view = start_window(front, &start, preset);
            open_after(front, &pressed.by.team, &pressed.trigger, pressed.in_modal, view, aside);
            return Taken::LOOKED;
        }
        _ if id.starts_with(action::MARK) => marked(id, value).map(|act| (act, value.to_owned())).into_iter().collect(),
        _ if id.starts_with(action::ANSWER) => {
            let answer = value.split_once('|').and_then(|(question, text)| {
                Some(Act::Answer { question: question.parse().ok()?, text: text.to_owned() })
            });
            answer.map(|act| (act, value.to_owned())).into_iter().collect()
        }
        _ => return odd(front, aside, "a button that is not ours"),
    };
    if acts.is_empty() {
        return odd(front, aside, "a button with a value that cannot be read");
    }
    let mut last = Taken::IGNORED;
    for (act, value) in acts {
        let intent = Intent { by: principal(&pressed.by), act, reply: aside.address() };
        let key = ["action", &pressed.action_ts, &pressed.by.user, id, &value];
        last = front.keep(&key, intent, &aside).await;
        // What was kept before is a duplicate when it is pressed again.
        if last == Taken::AGAIN {
            return last;
        }
    }
    last
}

/// A button that we cannot have made, or not this version of us.
fn odd(front: &Front, aside: Aside, why: &'static str) -> Taken {
    tracing::warn!(why, "a press of a button means nothing to us");
    front.tell(
        aside,
        "I don't know this button any more, so nothing was done. Ask me for the current state.".to_owned(),
    );
    Taken::ODD
}

fn marked(id: &str, value: &str) -> Option<Act> {
    let mark = match id.strip_prefix(action::MARK)? {
        "succeeded" => Mark::Succeeded { note: String::new() },
        "failed" => Mark::Failed { note: String::new() },
        "retry" => Mark::Retry,
        _ => return None,
    };
    Some(Act::Mark { call: value.parse().ok()?, mark })
}

/// What was chosen in a menu: the answer, or its number where a value is too short for it.
async fn chosen(front: &Front, value: &str, by: &Who) -> Option<Act> {
    let (id, text) = value.split_once('|')?;
    let question: QuestionId = id.parse().ok()?;
    let thread = thread_of(front, question.thread, by).await;
    let asked = thread.as_ref().and_then(|thread| thread.questions.get(&question));
    let by_number = match asked.map(|asked| &asked.answer) {
        Some(AnswerKind::Choice { choices }) if !choices.iter().any(|choice| choice == text) => {
            text.parse::<usize>().ok().and_then(|number| choices.get(number.checked_sub(1)?))
        }
        // It is not open any more, or has no choices: that is what the person will be told.
        Some(AnswerKind::Choice { .. } | AnswerKind::Text | AnswerKind::YesNo) | None => None,
    };
    Some(Act::Answer { question, text: by_number.map_or(text, String::as_str).to_owned() })
}

/// Words in the name of somebody who wants a request again that came to nothing.
async fn ask_again(front: &Front, id: ApprovalId, by: &Who) -> Act {
    let thread = thread_of(front, id.thread, by).await;
    let text = match thread.as_ref().and_then(|thread| thread.approvals.get(&id)) {
        Some(request) => match &request.state {
            ApprovalState::Expired { .. } => {
                format!("Nobody decided \"{}\" in time. Please ask for it again.", request.title)
            }
            ApprovalState::Used { .. } => format!("\"{}\" did not work. Please try it again.", request.title),
            ApprovalState::Pending
            | ApprovalState::Revising { .. }
            | ApprovalState::Approved { .. }
            | ApprovalState::Denied { .. }
            | ApprovalState::Cancelled => format!("Please ask for \"{}\" again.", request.title),
        },
        None => "Please ask for your last request again.".to_owned(),
    };
    Act::Say { thread: id.thread, text }
}

/// Opens the window for a decision, if there still is one to make.
fn decide(front: &Front, pressed: inbound::Action, (id, digest): Shown, aside: Aside) -> Taken {
    let here = front.clone();
    front.after(async move {
        let opened = async {
            let card = asked::card_seen(&here, &pressed.by, id, &aside).await?;
            let by = principal(&pressed.by);
            may_still(&here, &card, &by, &digest, &pressed.action).await?;
            let look = look(&here, &pressed.by);
            let view = match pressed.action.as_str() {
                action::DENY => blocks::deny_modal(&card, &look),
                action::EDIT => blocks::edit_modal(&card, &schema(&here, &card.tool), &look),
                _ => blocks::review_modal(&card, &look),
            };
            asked::open(&here, &pressed.by.team, &pressed.trigger, pressed.in_modal, &view).await
        };
        match opened.await {
            Ok(window) => here.opened(window, &aside),
            Err(why) => unopened(&here, &pressed, &aside, &why).await,
        }
    });
    Taken::LOOKED
}

/// Says why no window came: what is said elsewhere is not seen behind one that is open.
async fn unopened(front: &Front, pressed: &inbound::Action, aside: &Aside, why: &str) {
    let (team, trigger) = (&pressed.by.team, &pressed.trigger);
    if !pressed.in_modal || asked::open(front, team, trigger, true, &asked::notice("Not done", why)).await.is_err() {
        front.say(aside, why).await;
    }
}

/// Whether a window for this would lead anywhere.
async fn may_still(front: &Front, card: &Card, by: &Principal, digest: &str, wants: &str) -> Result<(), String> {
    let vote = match wants {
        action::EDIT => Ballot::Approve { note: String::new() },
        // Who may not decide may still look.
        _ => Ballot::Deny { reason: String::new() },
    };
    match rehearsed(front, &card.approval, by, digest, vote).await {
        Answer::Refused(Refusal::AlreadyVoted) => Ok(()),
        Answer::Accepted if wants == action::EDIT && !card.editable => Err(replies::refused(&Refusal::NotEditable)),
        Answer::Refused(Refusal::NotAnApprover { .. } | Refusal::Requester { .. }) if wants == action::REVIEW => Ok(()),
        Answer::Refused(refusal) => Err(replies::refused(&refusal)),
        Answer::Accepted | Answer::Duplicate | Answer::Stale | Answer::Go { .. } => Ok(()),
    }
}

/// What a vote would come to now, as far as this process can say: membership of groups is asked for only when it
/// counts, so whoever could be let through by a group is taken for a member.
async fn rehearsed(front: &Front, approval: &Approval, by: &Principal, digest: &str, vote: Ballot) -> Answer {
    let groups = approval.terms.approvers.groups.clone();
    let input =
        Input::Vote { approval: approval.id, digest: digest.to_owned(), by: by.clone(), groups, vote, source: None };
    // What cannot be tried is decided when it is carried out.
    match front.0.runtime.rehearse(approval.id.thread, input).await {
        // Who is behind an identity may be for Slack to say, which is asked after the acknowledgement.
        Ok(Answer::Refused(Refusal::NotAnApprover { .. } | Refusal::Requester { .. } | Refusal::Unsure { .. }))
            if front.0.runtime.parts().people.matches_mail() =>
        {
            Answer::Accepted
        }
        Ok(answer) => answer,
        Err(_) => Answer::Accepted,
    }
}

fn schema(front: &Front, tool: &str) -> Value {
    let decl = front.0.runtime.parts().tools.decls(&[tool]).pop();
    decl.map_or_else(|| json!({"type": "object"}), |decl| decl.schema)
}

/// Opens the window for an answer in words.
fn write(front: &Front, pressed: inbound::Action, aside: Aside) -> Taken {
    let Ok(id) = pressed.value.split('|').next().unwrap_or("").parse::<QuestionId>() else {
        return odd(front, aside, "a button without a question");
    };
    let here = front.clone();
    front.after(async move {
        let opened = async {
            let thread = asked::asked_in(&here, &pressed.by, id, &aside).await?;
            let question = thread.questions.get(&id).ok_or_else(|| Refusal::NoSuchQuestion.to_string())?;
            let view = blocks::answer_modal(id, &question.text, &question.answer);
            asked::open(&here, &pressed.by.team, &pressed.trigger, pressed.in_modal, &view).await
        };
        match opened.await {
            Ok(window) => here.opened(window, &aside),
            Err(why) => unopened(&here, &pressed, &aside, &why).await,
        }
    });
    Taken::LOOKED
}

/// A thread of this person's workspace; for everybody else it does not exist.
async fn thread_of(front: &Front, short: ShortId, by: &Who) -> Option<Thread> {
    let thread = front.0.runtime.thread(short).await.ok()?;
    (reach::standing(&principal(by), &thread.id) == Standing::Here).then_some(thread)
}

// ---- what comes back from a window ----

pub(super) async fn submission(front: &Front, sent: inbound::Submission) -> Taken {
    let from = front.opened_from(&sent.view).unwrap_or_else(|| Aside { hot: front.hot(None), ..Aside::of(&sent.by) });
    let aside = Aside { hot: Hot { view_id: Some(sent.view.clone()), ..from.hot.clone() }, ..from };
    if !sent.by.is_at_home() {
        return refused(&sent, &stranger(&sent.metadata));
    }
    let key = ["submission", &sent.view, &sent.hash, &sent.by.user, &sent.callback, &sent.metadata];
    // One window lies on another: what it was about is decided, so both close.
    let closed = |taken: Taken| match taken {
        Taken::KEPT | Taken::DUPLICATE if sent.on_top => taken.saying(json!({"response_action": "clear"})),
        taken => taken,
    };
    // What it was delivered for before may be done: it would be refused now.
    if front.knows(&sent.by.team, &key).await {
        return closed(Taken::DUPLICATE);
    }
    let act = match sent.callback.as_str() {
        callback::DENY | callback::EDIT | callback::REVIEW => vote(front, &sent).await,
        callback::ANSWER => answer(front, &sent).await,
        callback::START => start(front, &sent),
        _ => {
            tracing::warn!("a window was sent that is not ours");
            Err(refused(&sent, "I don't know this window any more, so nothing was done."))
        }
    };
    let act = match act {
        Ok(act) => act,
        Err(refused) => return refused,
    };
    let aside = with_place(&act, &aside);
    let intent = Intent { by: principal(&sent.by), act, reply: aside.address() };
    closed(front.keep(&key, intent, &aside).await)
}

/// Why a submission was not taken, in the window itself: nothing else is seen while it is open.
fn refused(sent: &inbound::Submission, why: &str) -> Taken {
    let input = sent.state.as_object().and_then(|inputs| inputs.keys().next());
    let answer = match input {
        Some(block) => {
            let mut errors = Map::new();
            errors.insert(block.clone(), Value::from(visible::prose(why)));
            json!({"response_action": "errors", "errors": errors})
        }
        // There is no input that an error could stand at.
        None => json!({"response_action": "update", "view": asked::notice("Not done", why)}),
    };
    Taken::REFUSED.saying(answer)
}

async fn vote(front: &Front, sent: &inbound::Submission) -> Result<Act, Taken> {
    let unknown = || refused(sent, &stranger(&sent.metadata));
    let (id, digest) = shown(&sent.metadata).ok_or_else(unknown)?;
    let card = card(front, &sent.by, id).await.map_err(|why| refused(sent, &why))?;
    let by = principal(&sent.by);
    let words = |field| typed(&sent.state, field).unwrap_or_default();
    let (ballot, choice) = match sent.callback.as_str() {
        callback::DENY => {
            let reason = words(field::REASON);
            (Ballot::Deny { reason: reason.clone() }, Choice::Deny { reason })
        }
        callback::EDIT => {
            let schema = schema(front, &card.tool);
            let args = blocks::edited_args(&card.approval, &schema, &sent.state)
                .map_err(|errors| Taken::REFUSED.saying(json!({"response_action": "errors", "errors": errors})))?;
            let proposed = front.0.runtime.propose(&card.tool, &args);
            (Ballot::Edit { args: Box::new(proposed) }, Choice::Edit { args })
        }
        _ => {
            let note = words(field::NOTE);
            (Ballot::Approve { note: note.clone() }, Choice::Approve { note })
        }
    };
    match rehearsed(front, &card.approval, &by, &digest, ballot).await {
        // A window keeps nothing that looks like a secret, so no question can be asked about it from here.
        Answer::Refused(Refusal::LooksSecret { what, .. }) => {
            let next = "If it is not one, make this change in the console or at the terminal: people are asked there.";
            Err(refused(sent, &format!("Nothing was changed: {what}. {next}")))
        }
        Answer::Refused(refusal) => Err(refused(sent, &replies::refused(&refusal))),
        Answer::Accepted | Answer::Duplicate | Answer::Stale | Answer::Go { .. } => {
            Ok(Act::Vote { approval: id, digest, choice })
        }
    }
}

async fn answer(front: &Front, sent: &inbound::Submission) -> Result<Act, Taken> {
    let closed = || refused(sent, &Refusal::NoSuchQuestion.to_string());
    let question: QuestionId = sent.metadata.parse().map_err(|_| closed())?;
    let text = typed(&sent.state, field::ANSWER).unwrap_or_default();
    thread_of(front, question.thread, &sent.by).await.ok_or_else(closed)?;
    let input =
        Input::Answer { question, by: principal(&sent.by), groups: Vec::new(), text: text.clone(), source: None };
    match front.0.runtime.rehearse(question.thread, input).await {
        Ok(Answer::Refused(refusal)) => Err(refused(sent, &replies::refused(&refusal))),
        Ok(_) | Err(_) => Ok(Act::Answer { question, text }),
    }
}

fn start(front: &Front, sent: &inbound::Submission) -> Result<Act, Taken> {
    let unreadable = || refused(sent, "I don't know any more where this was to start. Close it and begin again.");
    let carried: StartModal = serde_json::from_str(&sent.metadata).map_err(|_| unreadable())?;
    let place = crate::platform::slack::Place::parse(&carried.place).filter(|place| place.team == sent.by.team);
    let place = place.ok_or_else(unreadable)?;
    let agent = typed(&sent.state, field::AGENT).unwrap_or_else(|| front.agent(&place.channel).to_owned());
    if let Err(unknown) = front.0.runtime.parts().agents.get(&agent) {
        return Err(refused(sent, &unknown.to_string()));
    }
    let text = typed(&sent.state, field::TASK).unwrap_or_default();
    let text = match (text.trim(), &carried.about) {
        ("", None) => return Err(refused(sent, &Refusal::EmptyMessage.to_string())),
        ("", Some(_)) => "Look at this message and help.".to_owned(),
        (task, _) => task.to_owned(),
    };
    let by = carried
        .author
        .map(|user| Principal::human(format!("{}:{}:{user}", crate::platform::slack::SURFACE, sent.by.team)));
    let about = carried.about.map(|(label, text)| About { label, text, by });
    Ok(Act::Start { agent, text, place: carried.place, about })
}

/// Who starts a run is answered where it starts.
fn with_place(act: &Act, aside: &Aside) -> Aside {
    let place = match act {
        Act::Start { place, .. } => crate::platform::slack::Place::parse(place),
        Act::Vote { .. } | Act::Answer { .. } | Act::Mark { .. } | Act::Say { .. } | Act::Steer { .. } => None,
    };
    match place {
        Some(place) => aside.clone().at(Some(&place.channel), place.thread.as_deref()),
        None => aside.clone(),
    }
}

// ---- shortcuts and slash commands ----

pub(super) fn shortcut(front: &Front, used: inbound::Shortcut) -> Taken {
    let aside =
        Aside { hot: front.hot(used.response_url.as_deref()), ..Aside::of(&used.by).at(used.channel.as_deref(), None) };
    if !used.by.is_at_home() {
        front.tell(aside, "Only people of this workspace can start something here.".to_owned());
        return Taken::REFUSED;
    }
    match (&used.message, &used.channel) {
        (Some((ts, thread, author, text)), Some(channel)) => {
            let root = thread.as_deref().unwrap_or(ts);
            let about = Some((format!("a message of @{author}"), text.clone()));
            let author = Some(author.clone()).filter(|author| author.starts_with(['U', 'W']));
            let start = StartModal { place: place(&used.by.team, channel, Some(root)), about, author };
            let view = start_window(front, &start, Some(front.agent(channel)));
            open_after(front, &used.by.team, &used.trigger, false, view, aside);
        }
        _ => {
            let here = front.clone();
            front.after(async move {
                let view = super::home::pending_modal(&here, &used.by).await;
                if let Err(why) = asked::open(&here, &used.by.team, &used.trigger, false, &view).await {
                    here.say(&aside, &why).await;
                }
            });
        }
    }
    Taken::LOOKED
}

pub(super) async fn command(front: &Front, given: inbound::Command) -> Taken {
    let aside =
        Aside { hot: front.hot(given.response_url.as_deref()), ..Aside::of(&given.by).at(Some(&given.channel), None) };
    let asked = Asked {
        by: given.by.clone(),
        here: None,
        channel: given.channel.clone(),
        thread: None,
        prefix: given.command.clone(),
        trigger: Some(given.trigger.clone()),
        aside: aside.clone(),
        key: vec!["command".to_owned(), given.trigger.clone(), given.by.user.clone(), given.text.clone()],
    };
    match asked::command(front, asked, commands::parse(&given.text)).await {
        Came::Taken(taken) => taken,
        Came::Start { agent, task } => {
            let agent = agent.unwrap_or_else(|| front.agent(&given.channel).to_owned());
            let act = Act::Start { agent, text: task, place: place(&given.by.team, &given.channel, None), about: None };
            let intent = Intent { by: principal(&given.by), act, reply: aside.address() };
            let key = ["command", &given.trigger, &given.by.user, &given.text];
            front.keep(&key, intent, &aside).await
        }
    }
}
