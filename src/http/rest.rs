//! The REST API of threads: start agents, look at them, answer them, stop them.
//!
//! Handlers translate: a body becomes an input to the runtime, an answer of the core becomes a status.
//! Nothing is decided here but what a caller may see: what they may not see is answered like what does not
//! exist. A principal is the caller's, never a field of a body.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::approvals::{Decision, DecisionBody, decide};
use super::ask::{
    Key, MAX_NAME, Named, Params, bad_cursor, limited, named_within, noted, read_after, replayed, seen, taken,
    thread_named,
};
use super::auth::{Admin, May, Read, Resume, Start, require};
use super::docs::ProblemDoc;
use super::guard::{Json, OptionalJson};
use super::problem::Problem;
use super::{Caller, Service};
use crate::agent::window::Block;
use crate::agent::*;
use crate::config::Scope;
use crate::platform::how_to_answer;
use crate::platform::words::{event_line, status_word};
use crate::runtime::{DeliverError, Said};
use crate::store::{Cursor, Filter, StoreError, Summary};

/// Longest `user_id`, in characters.
const MAX_LABEL: usize = 200;
/// The agent that a message goes to if it names none, where there is one of this name.
const DEFAULT_AGENT: &str = "deployment";

pub fn routes() -> Router<Service> {
    Router::new()
        .route("/agents/start", post(start))
        .route("/agents", get(list))
        .route("/agents/{thread_id}", delete(remove))
        .route("/agents/{thread_id}/status", get(status))
        .route("/agents/{thread_id}/history", get(history))
        .route("/agents/{thread_id}/resume", post(resume))
        .route("/agents/{thread_id}/pause", post(pause))
        .route("/agents/{thread_id}/stop", post(stop))
        .route("/agents/{thread_id}/cancel", post(cancel))
}

/// A message to an agent.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"message": "deploy api v1.2.3 to staging", "agent_type": "deployment"}))]
pub struct StartBody {
    /// What the agent is to do, in plain words. At most `runtime.message_max_bytes` bytes.
    #[schema(min_length = 1, max_length = 25600, pattern = "\\S")]
    message: String,
    /// Which agent; without it the default one. In a thread that exists its own agent answers.
    #[schema(min_length = 1, max_length = 100)]
    agent_type: Option<String>,
    /// A label of yours for whom this is. It is kept in the log as part of the message's source (unless an
    /// `Idempotency-Key` takes that place) and returned, and gives nobody any right: who is asking is decided
    /// by the token alone.
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\p{C}]+$")]
    user_id: Option<String>,
    /// Write to this thread instead of starting one. Your own, or one that you may see.
    #[schema(pattern = "^([a-z2-7]{16}|[a-z]{1,20}:[!-~]{1,170})$")]
    thread_id: Option<String>,
    /// Texts from outside for the agent to work on (an alert, a mail, a page), one or several: data, never
    /// instructions. From then on calls with side effects ask people. Together at most 131072 bytes, after that
    /// refused, and at most 20; secrets in them are masked.
    context: Option<ContextBody>,
}

/// One text from outside, or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "`context` is `{\"label\": ..., \"text\": ...}` or a list of these, each with both as strings and nothing else"
)]
pub enum ContextBody {
    One(PassageBody),
    Several(Vec<PassageBody>),
}

/// A text from outside.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"label": "alert 4711", "text": "disk full on db-1"}))]
pub struct PassageBody {
    /// Where it comes from, in a few words: people see it on cards, the model beside the text.
    #[schema(min_length = 1, max_length = 120, pattern = "\\S")]
    label: String,
    #[schema(min_length = 1, max_length = 32768, pattern = "\\S")]
    text: String,
}

impl ContextBody {
    fn passages(self) -> Vec<Passage> {
        let bodies = match self {
            Self::One(body) => vec![body],
            Self::Several(bodies) => bodies,
        };
        bodies.into_iter().map(|PassageBody { label, text }| Passage { label, text }).collect()
    }
}

/// A message that was accepted: it is in the log, the agent works on it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Started {
    #[schema(value_type = String, pattern = "^[a-z2-7]{16}$")]
    pub thread_id: ShortId,
    /// The whole id.
    pub thread: String,
    pub status: StatusWord,
    pub agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    pub links: Links,
}

/// Where to look next.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Links {
    pub status: String,
    pub history: String,
    pub events: String,
}

impl Links {
    fn of(short: ShortId) -> Self {
        Self {
            status: format!("/agents/{short}/status"),
            history: format!("/agents/{short}/history"),
            events: format!("/threads/{short}/events"),
        }
    }
}

/// Where a thread stands. The same words as in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusWord {
    Running,
    WaitingApproval,
    WaitingAnswer,
    WaitingMark,
    Sleeping,
    Paused,
    Done,
    Stopped,
    Cancelled,
}

macro_rules! same_words {
    ($($name:ident),*) => {
        impl From<Status> for StatusWord {
            fn from(status: Status) -> Self {
                match status { $(Status::$name => Self::$name,)* }
            }
        }
        impl From<StatusWord> for Status {
            fn from(word: StatusWord) -> Self {
                match word { $(StatusWord::$name => Self::$name,)* }
            }
        }
    };
}
same_words!(Running, WaitingApproval, WaitingAnswer, WaitingMark, Sleeping, Paused, Done, Stopped, Cancelled);

/// Start an agent, or write to a thread
///
/// The message is in the log when this answers; the agent works on it after that. Look at the status, or
/// watch the events.
#[utoipa::path(post, path = "/agents/start", tag = "agents", request_body = StartBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a second try safe: it reaches the same thread and changes nothing.", min_length = 1, max_length = 200, pattern = "^[!-~]{1,200}$")),
    responses(
        (status = 202, description = "Accepted: it is kept and being worked on.", body = Started, headers(("Location" = String, description = "Where its status is."))),
        (status = 404, description = "`thread_id` names no thread that you may see.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 409, description = "The thread was cancelled.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 410, description = "The thread was deleted.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 413, description = "The message, or the texts from outside, are too long.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 422, description = "No such agent, an empty message, a field that does not exist, or a key that was used for another request.", body = ProblemDoc, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["start"])))]
pub async fn start(
    May(caller, ..): May<Start>,
    key: Key,
    State(service): State<Service>,
    Json(body): Json<StartBody>,
) -> Result<impl IntoResponse, Problem> {
    let runtime = service.runtime();
    let StartBody { message, agent_type, user_id, thread_id, context } = body;
    let context = context.map(ContextBody::passages).unwrap_or_default();
    let plain =
        |label: &String| (1..=MAX_LABEL).contains(&label.chars().count()) && !label.chars().any(char::is_control);
    if user_id.as_ref().is_some_and(|label| !plain(label)) {
        let detail = format!("`user_id` is a label of 1 to {MAX_LABEL} characters without control characters.");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_user_id", detail));
    }
    let keyed = key.source(&caller);
    let (thread, known) = match &thread_id {
        Some(text) => {
            let short = thread_named(text).ok_or_else(|| {
                let detail =
                    "`thread_id` is no id of a thread: it has 16 letters and digits. Leave it out to start one.";
                Problem::new(StatusCode::NOT_FOUND, "no_such_thread", detail)
            })?;
            let thread = seen(&service, &caller, short).await?;
            (thread.id.clone(), Some(thread))
        }
        None => match &keyed {
            // Its thread may be there from the first try, however long ago that was.
            Some(source) => {
                let id = derived(source)?;
                match runtime.thread(id.short()).await {
                    Ok(thread) if caller.sees(&thread, service.people()) => (id, Some(thread)),
                    Ok(_) => return Err(StoreError::Unknown(id.short()).into()),
                    Err(DeliverError::Store(StoreError::Unknown(_))) => (id, None),
                    Err(error) => return Err(error.into()),
                }
            }
            None => (api_thread(uuid::Uuid::now_v7())?, None),
        },
    };
    let short = thread.short();
    let agent = match (agent_type, &known) {
        (Some(name), _) => {
            runtime.parts().agents.get(&name).map_err(DeliverError::from)?;
            name
        }
        (None, Some(thread)) => thread.agent.clone(),
        (None, None) => default_agent(&service),
    };
    let said_before =
        |thread: &Thread| keyed.as_deref().is_some_and(|source| thread_id.is_none() || thread.knows_source(source));
    let again = match &known {
        Some(thread) if said_before(thread) => true,
        Some(_) | None => {
            let label = || user_id.as_ref().map(|label| format!("user:{label}:{}", uuid::Uuid::now_v7()));
            let said = Said {
                from: caller.principal.clone(),
                text: message.clone(),
                source: keyed.clone().or_else(label),
                outside: None,
                attached: Vec::new(),
                context: context.clone(),
            };
            taken(runtime.message(&thread, &agent, said).await?)?.answer == Answer::Duplicate
        }
    };
    if let (true, Some(source)) = (again, &keyed) {
        let kept = runtime.parts().secrets.clean(&message).into_owned();
        let handed = passages(context, &runtime.parts().secrets);
        // Cleaned anew: what people let pass in this thread stands there as it is.
        let cleaned = |text: &str| runtime.parts().secrets.clean(text) == kept;
        let is_same = |body: &Body| matches!(body, Body::MessageReceived { text, context, .. } if cleaned(text) && *context == handed);
        replayed(&service, short, source, is_same).await?;
    }
    let now = runtime.thread(short).await?;
    if again && thread_id.is_none() && now.agent != agent {
        let detail = format!("This Idempotency-Key was used to start the agent `{}`. Nothing was done.", now.agent);
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail));
    }
    let links = Links::of(short);
    let location = [(header::LOCATION, links.status.clone())];
    let started = Started {
        thread_id: short,
        thread: thread.to_string(),
        status: now.status().into(),
        agent: now.agent,
        user_id,
        links,
    };
    Ok((StatusCode::ACCEPTED, location, axum::Json(started)))
}

fn api_thread(id: uuid::Uuid) -> Result<ThreadId, Problem> {
    format!("api:{id}").parse().map_err(|e: IdError| Problem::internal(&e))
}

/// The thread that a key starts.
fn derived(source: &str) -> Result<ThreadId, Problem> {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(Digest::of(source.as_bytes()).0) {
        *to = from;
    }
    api_thread(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// The agent that a message goes to if it names none.
pub fn default_agent(service: &Service) -> String {
    let agents = &service.runtime().parts().agents;
    let named = agents.names().find(|name| *name == DEFAULT_AGENT).or_else(|| agents.names().next());
    named.unwrap_or(DEFAULT_AGENT).to_owned()
}

/// A thread as it stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StatusView {
    #[schema(value_type = String, pattern = "^[a-z2-7]{16}$")]
    pub thread_id: ShortId,
    pub thread: String,
    pub status: StatusWord,
    pub agent: String,
    /// The first words of the first message.
    pub title: String,
    /// Who started it.
    pub requester: String,
    /// What the agent answered, once its run is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Open requests to people, oldest first.
    pub approvals: Vec<OpenApproval>,
    /// Open questions, oldest first.
    pub questions: Vec<OpenQuestion>,
    /// Why it is paused, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// All tokens ever used here.
    pub tokens: u64,
    /// Number of events in the log.
    pub version: u64,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
    pub links: Links,
}

/// A request that waits for people.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OpenApproval {
    pub id: String,
    pub revision: u32,
    pub digest: String,
    pub title: String,
    /// Whom it waits for.
    pub waits_for: String,
    #[schema(format = DateTime)]
    pub expires_at: String,
}

/// A question that waits for an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OpenQuestion {
    pub id: String,
    pub text: String,
    /// What kind of answer it wants, in words.
    pub answer: String,
    /// What may be answered, if that is fixed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

impl StatusView {
    fn of(thread: &Thread) -> Self {
        let said = |entry: &crate::agent::window::Entry| match &entry.block {
            Block::Agent { text } => Some(text.clone()),
            _ => None,
        };
        let last = || thread.window.entries().filter_map(said).next_back();
        let question = |(id, q): (&QuestionId, &Question)| OpenQuestion {
            id: id.to_string(),
            text: q.text.clone(),
            answer: how_to_answer(&q.answer),
            choices: match &q.answer {
                AnswerKind::Text => Vec::new(),
                AnswerKind::YesNo => vec!["yes".to_owned(), "no".to_owned()],
                AnswerKind::Choice { choices } => choices.clone(),
            },
        };
        let open = |a: &Approval| OpenApproval {
            id: a.id.to_string(),
            revision: a.revision,
            digest: a.digest.to_string(),
            title: a.title.clone(),
            waits_for: a.terms.approvers.describe(),
            expires_at: a.expires_at.to_string(),
        };
        Self {
            thread_id: thread.short,
            thread: thread.id.to_string(),
            status: thread.status().into(),
            agent: thread.agent.clone(),
            title: thread.title.clone(),
            requester: thread.started_by.id.clone(),
            answer: if thread.run.is_none() { last() } else { None },
            approvals: thread.pending_approvals().map(open).collect(),
            questions: thread.questions.iter().map(question).collect(),
            paused: thread.paused.clone(),
            tokens: thread.tokens,
            version: thread.version,
            created_at: thread.created_at.to_string(),
            updated_at: thread.updated_at.to_string(),
            links: Links::of(thread.short),
        }
    }
}

/// Where a thread stands
///
/// What it waits for, and the agent's answer once the run is over.
#[utoipa::path(get, path = "/agents/{thread_id}/status", tag = "agents",
    params(("thread_id" = String, Path, description = "The thread: its short id, or its whole id.", pattern = "^([a-z2-7]{16}|[a-z]{1,20}:[!-~]{1,170})$")),
    responses(
        (status = 200, description = "The thread as it stands.", body = StatusView),
        (status = 404, description = "No thread that you may see.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 410, description = "The thread was deleted.", body = ProblemDoc, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["read"])))]
pub async fn status(
    May(caller, ..): May<Read>,
    Named(short): Named,
    State(service): State<Service>,
) -> Result<axum::Json<StatusView>, Problem> {
    Ok(axum::Json(StatusView::of(&seen(&service, &caller, short).await?)))
}

/// One fact of a log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventView {
    #[schema(minimum = 1)]
    pub seq: u64,
    #[schema(format = DateTime)]
    pub at: String,
    /// `message_received`, `approval_requested` and so on.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The event in one line of plain words.
    pub line: String,
    /// The id that the sender gave to what caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Everything that the event holds, by its type.
    #[schema(value_type = Object)]
    pub data: Value,
}

impl EventView {
    pub fn of(event: &Event) -> Self {
        Self {
            seq: event.seq,
            at: event.at.to_string(),
            kind: event.body.name(),
            line: event_line(event),
            source: event.source.clone(),
            // reason: a body is plain data with string keys
            data: serde_json::to_value(&event.body).unwrap_or_default(),
        }
    }
}

/// A part of a log, oldest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HistoryPage {
    pub items: Vec<EventView>,
    /// Pass it as `after` to get the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Number of events in the log.
    pub version: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Only events after the one with this number.
    #[param(minimum = 0, maximum = 1000000000)]
    after: Option<u64>,
    /// Most events on the page.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// The log of a thread
///
/// Every event, oldest first, page by page. Nothing in it ever changes.
#[utoipa::path(get, path = "/agents/{thread_id}/history", tag = "agents",
    params(("thread_id" = String, Path, description = "The thread: its short id, or its whole id.", pattern = "^([a-z2-7]{16}|[a-z]{1,20}:[!-~]{1,170})$"), HistoryQuery),
    responses(
        (status = 200, description = "A page of events.", body = HistoryPage),
        (status = 404, description = "No thread that you may see.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 410, description = "The thread was deleted.", body = ProblemDoc, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["read"])))]
pub async fn history(
    May(caller, ..): May<Read>,
    Named(short): Named,
    Params(query): Params<HistoryQuery>,
    State(service): State<Service>,
) -> Result<axum::Json<HistoryPage>, Problem> {
    let limit = limited(query.limit)?;
    let after = read_after(query.after)?;
    seen(&service, &caller, short).await?;
    let loaded = service.runtime().parts().store.load_page(short, after, limit).await?;
    let read = |(bytes, seq): (&Vec<u8>, u64)| Event::decode(bytes, seq).map(|event| EventView::of(&event));
    let items: Result<Vec<EventView>, LogError> =
        loaded.events.iter().zip(after.saturating_add(1)..).map(read).collect();
    let items = items.map_err(|e| Problem::internal(&e))?;
    let next = items.last().map(|event| event.seq).filter(|last| *last < loaded.summary.version);
    Ok(axum::Json(HistoryPage { items, next, version: loaded.summary.version }))
}

/// An answer to what a thread waits for.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"human_response": "staging"}))]
pub struct ResumeBody {
    /// The answer to the open question; or, with `approval_id`, `approve` or `deny`, with `: and why` behind
    /// it if you like; or what to tell the agent when a paused run goes on.
    #[schema(max_length = 25600)]
    human_response: Option<String>,
    /// Which question is answered, where several are open.
    #[schema(pattern = "^q_[a-z2-7]{16}_[1-9][0-9]{0,8}$")]
    question_id: Option<String>,
    /// Which request is decided; needs the scope `approve`.
    #[schema(pattern = "^apr_[a-z2-7]{16}_[1-9][0-9]{0,8}$")]
    approval_id: Option<String>,
    /// The revision of the request that you have seen.
    #[schema(minimum = 1)]
    revision: Option<u32>,
    /// The digest of what you have seen, at least its first 12 digits.
    #[schema(pattern = "^[0-9a-f]{12,64}$")]
    digest: Option<String>,
}

/// Answer, or let a paused run go on
///
/// Answers the open question; lets a paused run go on; or decides an approval, if its id and revision are
/// named and the caller has the scope `approve` as well.
#[utoipa::path(post, path = "/agents/{thread_id}/resume", tag = "agents", request_body = ResumeBody,
    params(
        ("thread_id" = String, Path, description = "The thread: its short id, or its whole id.", pattern = "^([a-z2-7]{16}|[a-z]{1,20}:[!-~]{1,170})$"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a second try safe.", min_length = 1, max_length = 200, pattern = "^[!-~]{1,200}$")),
    responses(
        (status = 200, description = "The thread after it.", body = StatusView),
        (status = 404, description = "No thread, or no such request in it, that you may see.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 409, description = "Nothing waits for this, or not for this any more.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 410, description = "The request has expired, or the thread was deleted.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 422, description = "The answer is none of the choices, or the body does not say enough.", body = ProblemDoc, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["resume"])))]
pub async fn resume(
    May(caller, ..): May<Resume>,
    Named(short): Named,
    key: Key,
    State(service): State<Service>,
    Json(body): Json<ResumeBody>,
) -> Result<axum::Json<StatusView>, Problem> {
    let runtime = service.runtime();
    let thread = seen(&service, &caller, short).await?;
    let source = key.source(&caller);
    let text = body.human_response.clone().unwrap_or_default();
    if let Some(id) = &body.approval_id {
        require(&caller, Scope::Approve)?;
        let id = id.parse::<ApprovalId>().ok().filter(|id| id.thread == short).ok_or_else(|| {
            Problem::new(StatusCode::NOT_FOUND, "no_such_approval", "There is no such request in this thread.")
        })?;
        let Some(revision) = body.revision else {
            let detail =
                "Name the `revision` of the request that you have seen: what is decided is that one and no other.";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "revision_missing", detail));
        };
        let (decision, note) = in_words(&text)?;
        let body = DecisionBody { decision, note: Some(note), args: None, revision, digest: body.digest };
        decide(&service, &caller, id, body, source).await?;
        return Ok(axum::Json(StatusView::of(&runtime.thread(short).await?)));
    }
    if let Some(source) = source.as_deref().filter(|source| thread.knows_source(source)) {
        let kept = runtime.parts().secrets.clean(text.trim()).into_owned();
        let said = replayed(&service, short, source, |body| match body {
            // Cleaned anew: what people let pass in this thread stands there as it is.
            Body::QuestionAnswered { text, .. } => runtime.parts().secrets.clean(text).eq_ignore_ascii_case(&kept),
            Body::MessageReceived { text, .. } => runtime.parts().secrets.clean(text.trim()) == kept,
            _ => false,
        })
        .await?;
        // What was said and what lets the run go on are two deliveries, and the first try may have died between
        // them.
        if thread.paused.is_some() && is_still_paused_since(&service, short, said).await? {
            go_on(&service, short, caller.principal.clone()).await?;
        }
        return Ok(axum::Json(StatusView::of(&runtime.thread(short).await?)));
    }
    let question = match &body.question_id {
        // One that is closed, or not ours, is the core's to refuse.
        Some(id) => Some(id.parse::<QuestionId>().ok().filter(|id| id.thread == short).ok_or(Refusal::NoSuchQuestion)?),
        None if thread.questions.len() > 1 => {
            let open: Vec<String> = thread.questions.keys().map(QuestionId::to_string).collect();
            let detail = "Several questions are open; name the one that you answer as `question_id`.";
            return Err(Problem::new(StatusCode::CONFLICT, "which_question", detail).with("questions", open));
        }
        None => thread.questions.keys().next().copied(),
    };
    let by = caller.principal.clone();
    match question {
        Some(question) => {
            taken(
                runtime
                    .deliver(short, Input::Answer { question, by, groups: caller.groups.clone(), text, source })
                    .await?,
            )?;
        }
        None if thread.paused.is_some() => {
            if !text.trim().is_empty() {
                let said = Said { source, ..Said::by(by.clone(), text) };
                taken(runtime.message(&thread.id, &thread.agent, said).await?)?;
            }
            go_on(&service, short, by).await?;
        }
        None => return Err(nothing_waits(&thread)),
    }
    Ok(axum::Json(StatusView::of(&runtime.thread(short).await?)))
}

/// Lets a paused run go on; that another try did so first is no error.
async fn go_on(service: &Service, short: ShortId, by: Principal) -> Result<(), Problem> {
    let delivered = service.runtime().deliver(short, Input::Resume { by }).await?;
    match delivered.answer {
        Answer::Refused(Refusal::NotPaused) => Ok(()),
        _ => taken(delivered).map(|_| ()),
    }
}

/// Whether the thread, which is paused, has been so ever since this event: a later pause is another matter.
async fn is_still_paused_since(service: &Service, short: ShortId, seq: u64) -> Result<bool, Problem> {
    let loaded = service.runtime().parts().store.load(short, seq).await?;
    for (bytes, seq) in loaded.events.iter().zip(seq.saturating_add(1)..) {
        let event = Event::decode(bytes, seq).map_err(|e| Problem::internal(&e))?;
        if matches!(event.body, Body::Paused { .. } | Body::Resumed { .. }) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn nothing_waits(thread: &Thread) -> Problem {
    let open: Vec<String> = thread.pending_approvals().map(|a| a.id.to_string()).collect();
    if !open.is_empty() {
        let detail = "This thread waits for a decision. Name its `approval_id` and `revision`, or use `POST /approvals/{id}/decision`.";
        return Problem::new(StatusCode::CONFLICT, "waits_for_approval", detail).with("approvals", open);
    }
    let status = status_word(thread.status());
    let detail = format!(
        "Nothing waits for an answer here: the thread is {status}. To say more, use `POST /agents/start` with its `thread_id`."
    );
    Problem::new(StatusCode::CONFLICT, "nothing_waits", detail)
}

/// A decision in plain words: nothing is guessed, since "yes, but" is no yes.
fn in_words(text: &str) -> Result<(Decision, String), Problem> {
    let (word, note) = text.split_once(':').unwrap_or((text, ""));
    let decision = match word.trim().to_lowercase().as_str() {
        "approve" | "approved" | "yes" => Decision::Approve,
        "deny" | "denied" | "no" => Decision::Deny,
        _ => {
            let detail =
                "A decision is `approve` or `deny`, with `: and why` behind it if you like. Nothing was decided.";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unclear_decision", detail));
        }
    };
    Ok((decision, note.trim().to_owned()))
}

/// Why, for the log.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"why": "wrong version"}))]
pub struct WhyBody {
    #[schema(max_length = 4000)]
    #[serde(default)]
    why: String,
}

/// Brings a hand on the brake. What is so already is no error: a second try finds it done.
async fn control(
    service: &Service,
    caller: &Caller,
    short: ShortId,
    why: String,
    input: impl FnOnce(Principal, String) -> Input,
    is_so: impl Fn(&Thread) -> bool,
) -> Result<axum::Json<StatusView>, Problem> {
    noted(&why)?;
    let thread = seen(service, caller, short).await?;
    if !is_so(&thread) {
        taken(service.runtime().deliver(short, input(caller.principal.clone(), why)).await?)?;
    }
    Ok(axum::Json(StatusView::of(&service.runtime().thread(short).await?)))
}

/// Pause a run
///
/// Nothing new starts until it is resumed; a call that has started ends. A thread that is paused stays so.
#[utoipa::path(post, path = "/agents/{thread_id}/pause", tag = "agents",
    request_body(content = Option<WhyBody>, description = "Why; may be left out."),
    params(("thread_id" = String, Path, description = "The thread: its short id, or its whole id.", pattern = "^([a-z2-7]{16}|[a-z]{1,20}:[!-~]{1,170})$")),
    responses(
        (status = 200, description = "The thread after it.", body = StatusView),
        (status = 404, description = "No thread that you may see.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 409, description = "Nothing runs here.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 410, description = "The thread was deleted.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 422, description = "The body can't be used.", body = ProblemDoc, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["resume"])))]
pub async fn pause(
    May(caller, ..): May<Resume>,
    Named(short): Named,
    State(service): State<Service>,
    OptionalJson(body): OptionalJson<WhyBody>,
) -> Result<axum::Json<StatusView>, Problem> {
    let input = |by, why| Input::Pause { by, why };
    control(&service, &caller, short, body.why, input, |t| t.paused.is_some() && !t.cancelled).await
}

/// Stop a run
///
/// The run ends before its next step; the thread can be used again. A run that was stopped stays so.
#[utoipa::path(post, path = "/agents/{thread_id}/stop", tag = "agents",
    request_body(content = Option<WhyBody>, description = "Why; may be left out."),
    params(("thread_id" = String, Path, description = "The thread: its short id, or its whole id.", pattern = "^([a-z2-7]{16}|[a-z]{1,20}:[!-~]{1,170})$")),
    responses(
        (status = 200, description = "The thread after it.", body = StatusView),
        (status = 404, description = "No thread that you may see.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 409, description = "Nothing runs here.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 410, description = "The thread was deleted.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 422, description = "The body can't be used.", body = ProblemDoc, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["resume"])))]
pub async fn stop(
    May(caller, ..): May<Resume>,
    Named(short): Named,
    State(service): State<Service>,
    OptionalJson(body): OptionalJson<WhyBody>,
) -> Result<axum::Json<StatusView>, Problem> {
    let input = |by, why| Input::Stop { by, why };
    control(&service, &caller, short, body.why, input, |t| t.status() == Status::Stopped).await
}

/// Cancel a thread
///
/// The thread ends for good: what is open is closed, nothing runs in it any more.
#[utoipa::path(post, path = "/agents/{thread_id}/cancel", tag = "agents",
    request_body(content = Option<WhyBody>, description = "Why; may be left out."),
    params(("thread_id" = String, Path, description = "The thread: its short id, or its whole id.", pattern = "^([a-z2-7]{16}|[a-z]{1,20}:[!-~]{1,170})$")),
    responses(
        (status = 200, description = "The thread after it.", body = StatusView),
        (status = 404, description = "No thread that you may see.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 410, description = "The thread was deleted.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 422, description = "The body can't be used.", body = ProblemDoc, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["resume"])))]
pub async fn cancel(
    May(caller, ..): May<Resume>,
    Named(short): Named,
    State(service): State<Service>,
    OptionalJson(body): OptionalJson<WhyBody>,
) -> Result<axum::Json<StatusView>, Problem> {
    let input = |by, why| Input::Cancel { by, why };
    control(&service, &caller, short, body.why, input, |t| t.cancelled).await
}

/// Delete a thread
///
/// Everything that was said and done in it is removed for good; what is open is cancelled first. A record
/// that there was such a thread, and who deleted it, stays.
#[utoipa::path(delete, path = "/agents/{thread_id}", tag = "agents",
    params(("thread_id" = String, Path, description = "The thread: its short id, or its whole id.", pattern = "^([a-z2-7]{16}|[a-z]{1,20}:[!-~]{1,170})$")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "No such thread.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 409, description = "A call is at work; try again when it has ended.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 410, description = "It was deleted before.", body = ProblemDoc, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["admin"])))]
pub async fn remove(
    May(caller, ..): May<Admin>,
    Named(short): Named,
    State(service): State<Service>,
) -> Result<StatusCode, Problem> {
    // Whoever may delete sees everything, so nothing is folded for it: a damaged thread can be deleted, too.
    if service.runtime().parts().store.tombstone(short).await?.is_some() {
        return Err(StoreError::Deleted(short).into());
    }
    service.runtime().delete(short, &caller.principal).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A thread as lists show it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ThreadRow {
    #[schema(value_type = String, pattern = "^[a-z2-7]{16}$")]
    pub thread_id: ShortId,
    pub thread: String,
    pub status: StatusWord,
    pub agent: String,
    pub title: String,
    pub requester: String,
    /// Open requests to people.
    pub approvals: Vec<String>,
    /// Open questions.
    pub questions: Vec<String>,
    pub tokens: u64,
    pub version: u64,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl ThreadRow {
    fn of(summary: &Summary) -> Self {
        Self {
            thread_id: summary.thread.short(),
            thread: summary.thread.to_string(),
            status: summary.status.into(),
            agent: summary.agent.clone(),
            title: summary.title.clone(),
            requester: summary.requester.id.clone(),
            approvals: summary.approvals.iter().map(ApprovalId::to_string).collect(),
            questions: summary.questions.iter().map(QuestionId::to_string).collect(),
            tokens: summary.tokens,
            version: summary.version,
            created_at: summary.created_at.to_string(),
            updated_at: summary.updated_at.to_string(),
        }
    }
}

/// A page of threads, last change first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ThreadPage {
    pub items: Vec<ThreadRow>,
    /// Threads that belong here and cannot be read back; an operator finds out why.
    pub damaged: Vec<String>,
    /// Pass it as `cursor` to get the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only threads that stand so.
    status: Option<StatusWord>,
    /// Only threads of this agent.
    #[param(max_length = 100)]
    agent: Option<String>,
    /// Only threads with an open request or question.
    waiting: Option<bool>,
    /// Most threads on the page.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,15}-[a-z2-7]{16}$")]
    cursor: Option<String>,
}

/// List threads
///
/// Those that you started, last change first; with the scope `admin`, all.
#[utoipa::path(get, path = "/agents", tag = "agents", params(ListQuery),
    responses((status = 200, description = "A page of threads.", body = ThreadPage)),
    security(("bearer" = ["read"])))]
pub async fn list(
    May(caller, ..): May<Read>,
    Params(query): Params<ListQuery>,
    State(service): State<Service>,
) -> Result<axum::Json<ThreadPage>, Problem> {
    let limit = limited(query.limit)?;
    let filter = Filter {
        status: query.status.map(Status::from),
        agent: named_within("agent", query.agent, MAX_NAME)?,
        waiting: query.waiting.unwrap_or(false),
        requester: if caller.may(Scope::Admin) { None } else { Some(caller.person(service.people())) },
        intents: false,
    };
    let after = query.cursor.as_deref().map(|text| {
        let place = text.split_once('-').and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
        place.map(|(at, thread)| Cursor { updated_at: Timestamp(at), thread }).ok_or_else(bad_cursor)
    });
    let page = service.runtime().parts().store.list(&filter, after.transpose()?, limit).await?;
    Ok(axum::Json(ThreadPage {
        items: page.items.iter().map(ThreadRow::of).collect(),
        damaged: page.damaged.iter().map(ShortId::to_string).collect(),
        next: page.next.map(|cursor| format!("{}-{}", cursor.updated_at.0, cursor.thread)),
    }))
}
