//! Conversations: the list of one's own, starting one, and everything that is said and done in it.

use std::collections::HashMap;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use data_encoding::HEXLOWER;

use super::door::{self, Answer, Fields, Known, Note, Posted, Trouble};
use super::pages::{Page, html};
use super::view::{self, Item, Looks, Moment};
use crate::agent::{
    self, ApprovalId, CallId, Event, Input, Mark, Principal, QuestionId, Refusal, Sameness, ShortId, Status, Thread,
    ThreadId, visible,
};
use crate::config::Scope;
use crate::http::problem::Problem;
use crate::http::{Caller, Service, session};
use crate::runtime::{DeliverError, Said};
use crate::store::{Cursor, Filter, StoreError, Summary};

/// Conversations on one page of the list.
const PAGE: usize = 20;
/// Events on one page of a conversation; the steps of about a dozen runs.
const EVENTS: u64 = 400;
/// The agent that the examples on pages are for. Where there is none of this name, there are no examples.
const EXAMPLES_FOR: &str = "deployment";
/// Longest random part of a form, in bytes.
const MAX_ONCE: usize = 64;

// ---- the list ----

#[derive(Template)]
#[template(path = "web/chats.html")]
struct ListPage {
    page: Page,
    agents: Vec<AgentChoice>,
    /// Agents whose answers follow a script, because no model is configured.
    scripted: bool,
    threads: Vec<Row>,
    damaged: usize,
    next: Option<String>,
    everybody: bool,
    examples: bool,
    message: String,
    once: String,
}

struct AgentChoice {
    name: String,
    about: String,
    chosen: bool,
}

struct Row {
    short: String,
    title: String,
    agent: String,
    who: String,
    tone: &'static str,
    words: &'static str,
    changed: Moment,
}

pub async fn list(
    State(service): State<Service>,
    Known { caller, visitor }: Known,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let everybody = caller.may(Scope::Admin) && query.get("who").is_some_and(|who| who == "everybody");
    let people = service.people();
    let requester = (!everybody).then(|| caller.person(people));
    let is_own = |row: &Summary| people.compare(&row.requester, &caller.principal) == Sameness::Same;
    let after = query.get("after").and_then(|after| read_cursor(after));
    let parts = service.runtime().parts();
    let found = parts.store.list(&Filter { requester, ..Filter::default() }, after, PAGE).await?;
    let now = parts.clock.now();
    let threads = found.items.iter().filter(|row| everybody || is_own(row));
    let threads = threads.map(|summary| row(summary, now)).collect();
    // The one that was talked to last, if the address names none.
    let last = found.items.iter().find(|row| is_own(row)).map(|row| row.agent.as_str());
    let chosen = query.get("agent").map(String::as_str).or(last).unwrap_or(EXAMPLES_FOR);
    let scripted = parts
        .agents
        .iter()
        .any(|agent| parts.providers.pick(&agent.spec).is_ok_and(|(provider, _)| provider.name() == "scripted"));
    let agents = parts.agents.iter().map(|agent| AgentChoice {
        name: visible::line(&agent.spec.name),
        about: visible::composed(&agent.spec.description),
        chosen: agent.spec.name == chosen,
    });
    let page = Page::new(&service, &visitor, "chat", "Chat").await;
    let template = ListPage {
        page,
        agents: agents.collect(),
        scripted,
        threads,
        damaged: found.damaged.len(),
        next: found.next.map(|cursor| format!("{}.{}", cursor.updated_at.0, cursor.thread)),
        everybody,
        examples: parts.agents.get(EXAMPLES_FOR).is_ok(),
        message: query.get("message").cloned().unwrap_or_default(),
        once: once()?,
    };
    Ok(html(StatusCode::OK, &template))
}

fn row(summary: &Summary, now: agent::Timestamp) -> Row {
    let (tone, words) = view::chip(summary.status);
    Row {
        short: summary.thread.short().to_string(),
        title: if summary.title.is_empty() { "(nothing said yet)".to_owned() } else { visible::line(&summary.title) },
        agent: visible::line(&summary.agent),
        who: visible::line(summary.requester.label()),
        tone,
        words,
        changed: Moment::ago(summary.updated_at, now),
    }
}

fn read_cursor(text: &str) -> Option<Cursor> {
    let (at, thread) = text.split_once('.')?;
    Some(Cursor { updated_at: agent::Timestamp(at.parse().ok()?), thread: thread.parse().ok()? })
}

/// Makes one filling-in of a form different from the next, so that sending it twice is seen.
fn once() -> Result<String, Trouble> {
    session::random::<16>().map(|bytes| HEXLOWER.encode(&bytes)).map_err(|e| Trouble(Problem::internal(&e)))
}

/// What the sender of this form calls this delivery of it.
fn source(fields: &Fields, person: &Principal) -> Option<String> {
    let once = fields.text("once");
    // Ids hold colons: the length says where this one ends.
    (!once.is_empty() && once.len() <= MAX_ONCE).then(|| format!("web:{}:{}:{once}", person.id.len(), person.id))
}

pub async fn start(State(service): State<Service>, Posted { caller, fields, .. }: Posted) -> Answer {
    may(&caller, Scope::Start)?;
    let source = source(&fields, &caller.principal);
    let form = match &source {
        Some(source) => source.clone(),
        None => once()?,
    };
    let thread = session::thread_of_form(&service, &caller.principal, &form);
    let thread: ThreadId = thread.parse().map_err(|e| Trouble(Problem::internal(&e)))?;
    let said = Said { source, ..Said::by(caller.principal, fields.text("message")) };
    let delivered = service.runtime().message(&thread, fields.text("agent"), said).await?;
    Ok(match delivered.answer {
        agent::Answer::Refused(refusal) => {
            door::go(&service, "/", Some(Note { good: false, text: refusal.to_string() }))
        }
        _ => door::go(&service, &format!("/chat/{}", thread.short()), None),
    })
}

fn may(caller: &Caller, scope: Scope) -> Result<(), Trouble> {
    if caller.may(scope) {
        return Ok(());
    }
    let detail = "You may look here, but not do this.";
    Err(Trouble(Problem::new(StatusCode::FORBIDDEN, "missing_scope", detail)))
}

// ---- one conversation ----

#[derive(Template)]
#[template(path = "web/chat.html")]
struct ThreadPage {
    page: Page,
    short: String,
    title: String,
    agent: String,
    tone: &'static str,
    words: &'static str,
    items: Vec<Item>,
    activity: Option<String>,
    /// Of what is open, the first: where to look.
    first_open: Option<String>,
    can_pause: bool,
    can_resume: bool,
    can_stop: bool,
    closed: bool,
    /// The last event of the page before.
    earlier: Option<u64>,
    /// Whether this is the end of the conversation.
    latest: bool,
    back: &'static str,
    once: String,
}

/// The thread, if this person may see it. What they may not see is not there.
pub async fn their_thread(service: &Service, caller: &Caller, short: &str) -> Result<Thread, Trouble> {
    let missing = || {
        let detail = "There is no such conversation, or it is not yours to see.";
        Trouble(Problem::new(StatusCode::NOT_FOUND, "no_such_thread", detail))
    };
    let short: ShortId = short.parse().map_err(|_| missing())?;
    match any_thread(service, short).await? {
        Some(thread) if caller.sees(&thread, service.people()) => Ok(thread),
        Some(_) | None => Err(missing()),
    }
}

/// The thread, whoever may see it.
pub async fn any_thread(service: &Service, short: ShortId) -> Result<Option<Thread>, Trouble> {
    match service.runtime().thread(short).await {
        Ok(thread) => Ok(Some(thread)),
        Err(DeliverError::Store(StoreError::Unknown(_))) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The events after number `from`, as many of them as can be read.
pub async fn events(service: &Service, short: ShortId, from: u64) -> Result<Vec<Event>, Trouble> {
    let loaded = service.runtime().parts().store.load(short, from).await?;
    let decode = |(seq, bytes): (u64, &Vec<u8>)| Event::decode(bytes, seq).map_err(|e| Trouble(Problem::internal(&e)));
    (from + 1..).zip(&loaded.events).map(decode).collect()
}

pub async fn show(
    State(service): State<Service>,
    Known { caller, visitor }: Known,
    Path(short): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let thread = their_thread(&service, &caller, &short).await?;
    let upto = query.get("upto").and_then(|upto| upto.parse::<u64>().ok()).filter(|upto| *upto < thread.version);
    let from = upto.unwrap_or(thread.version).saturating_sub(EVENTS);
    let mut events = events(&service, thread.short, from).await?;
    if let Some(upto) = upto {
        events.retain(|event| event.seq <= upto);
    }
    let parts = service.runtime().parts();
    let now = parts.clock.now();
    let items =
        view::items(&thread, &events, &Looks { caller: &caller, people: &parts.people, tools: &parts.tools, now });
    let title = if thread.title.is_empty() { "Conversation".to_owned() } else { visible::line(&thread.title) };
    let (tone, words) = view::chip(thread.status());
    let first_open = thread.pending_approvals().next().map(|approval| approval.id.to_string());
    let first_open = first_open.or_else(|| thread.questions.keys().next().map(QuestionId::to_string));
    let runs = thread.run.is_some() && !thread.cancelled;
    let page = Page::new(&service, &visitor, "chat", title.clone()).await;
    let template = ThreadPage {
        page: if upto.is_none() { page.live(format!("/chat/{}/live", thread.short)) } else { page },
        short: thread.short.to_string(),
        title,
        agent: visible::line(&thread.agent),
        tone,
        words,
        items,
        activity: view::activity(&thread, now),
        first_open,
        can_pause: runs && thread.paused.is_none(),
        can_resume: thread.status() == Status::Paused,
        can_stop: runs,
        closed: thread.cancelled,
        earlier: (from > 0).then_some(from),
        latest: upto.is_none(),
        back: "chat",
        once: once()?,
    };
    Ok(html(StatusCode::OK, &template))
}

// ---- what is done in it ----

/// Delivers an input and leads back, with the refusal if there is one.
async fn deliver(service: &Service, short: ShortId, input: Input, done: Option<&str>, place: &str) -> Answer {
    let delivered = service.runtime().deliver(short, input).await?;
    Ok(door::go(service, &format!("/chat/{short}{place}"), said(delivered.answer, done)))
}

/// What the page says about it.
pub fn said(answer: agent::Answer, done: Option<&str>) -> Option<Note> {
    match answer {
        agent::Answer::Refused(refusal) => Some(Note { good: false, text: refusal.to_string() }),
        agent::Answer::Stale => Some(Note { good: false, text: "That came too late to matter.".to_owned() }),
        agent::Answer::Accepted | agent::Answer::Duplicate | agent::Answer::Go { .. } => {
            done.map(|text| Note { good: true, text: text.to_owned() })
        }
    }
}

pub async fn say(
    State(service): State<Service>,
    Path(short): Path<String>,
    Posted { caller, fields, .. }: Posted,
) -> Answer {
    may(&caller, Scope::Start)?;
    let thread = their_thread(&service, &caller, &short).await?;
    let said_by =
        Said { source: source(&fields, &caller.principal), ..Said::by(caller.principal, fields.text("message")) };
    let delivered = service.runtime().message(&thread.id, &thread.agent, said_by).await?;
    Ok(door::go(&service, &format!("/chat/{}#end", thread.short), said(delivered.answer, None)))
}

pub async fn answer(
    State(service): State<Service>,
    Path(short): Path<String>,
    Posted { caller, fields, .. }: Posted,
) -> Answer {
    may(&caller, Scope::Resume)?;
    let thread = their_thread(&service, &caller, &short).await?;
    let question: QuestionId = fields.text("question").parse().map_err(|_| unreadable("the question"))?;
    let input = Input::Answer {
        question,
        by: caller.principal.clone(),
        groups: caller.groups.clone(),
        text: fields.text("text").to_owned(),
        source: None,
    };
    deliver(&service, thread.short, input, None, &format!("#{question}")).await
}

/// The request by which a call came about, if that is all that this person sees of the thread: who decided
/// may say how the call ended, without the conversation around it.
async fn approved(
    service: &Service,
    caller: &Caller,
    short: &str,
    call: Option<CallId>,
) -> Result<Option<ApprovalId>, Trouble> {
    let Some(call) = call.filter(|call| call.thread.as_str() == short) else { return Ok(None) };
    let thread = any_thread(service, call.thread).await?.filter(|thread| !caller.sees(thread, service.people()));
    Ok(thread.and_then(|thread| {
        let mut approvals = thread.approvals.values();
        approvals.find(|a| a.call == call && caller.sees_approval(&thread, a, service.people())).map(|a| a.id)
    }))
}

pub async fn mark(
    State(service): State<Service>,
    Path(short): Path<String>,
    Posted { caller, fields, .. }: Posted,
) -> Answer {
    may(&caller, Scope::Approve)?;
    let call: Option<CallId> = fields.text("call").parse().ok();
    let (thread, to) = match approved(&service, &caller, &short, call).await? {
        Some(approval) => (approval.thread, format!("/inbox/{approval}")),
        None => {
            let thread = their_thread(&service, &caller, &short).await?.short;
            (thread, format!("/chat/{thread}#end"))
        }
    };
    let call = call.ok_or_else(|| unreadable("the call"))?;
    let note = fields.text("note").trim().to_owned();
    let mark = match fields.text("mark") {
        "succeeded" => Mark::Succeeded { note },
        "failed" => Mark::Failed { note },
        "retry" => Mark::Retry,
        _ => return Err(unreadable("the mark")),
    };
    let input = Input::Mark { call, by: caller.principal, groups: caller.groups, mark };
    let delivered = service.runtime().deliver(thread, input).await?;
    Ok(door::go(&service, &to, said(delivered.answer, Some("Noted."))))
}

pub async fn control(
    State(service): State<Service>,
    Path((short, control)): Path<(String, String)>,
    Posted { caller, .. }: Posted,
) -> Answer {
    may(&caller, Scope::Resume)?;
    let thread = their_thread(&service, &caller, &short).await?;
    let (by, why) = (caller.principal, String::new());
    let input = match control.as_str() {
        "pause" => Input::Pause { by, why },
        "resume" => Input::Resume { by },
        "stop" => Input::Stop { by, why },
        _ => {
            let detail =
                format!("There is nothing called `{}` that can be done to a conversation.", visible::line(&control));
            return Err(Trouble(Problem::new(StatusCode::NOT_FOUND, "no_such_page", detail)));
        }
    };
    deliver(&service, thread.short, input, None, "#end").await
}

pub fn unreadable(what: &str) -> Trouble {
    let detail =
        format!("The form does not say {what} in a way that can be read. Load the page again and try once more.");
    Trouble(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unreadable_form", detail))
}

/// A refusal that no input was needed for.
pub fn refuse(service: &Service, to: &str, refusal: &Refusal) -> Response {
    door::go(service, to, Some(Note { good: false, text: refusal.to_string() }))
}
