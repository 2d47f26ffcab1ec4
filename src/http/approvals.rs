//! The REST API of approvals: what agents want to do, and what people decide.
//!
//! A decision names the revision that its person has seen; the core then gets that revision's digest, so
//! nothing else can be decided in its place.

use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::ask::{
    Key, MAX_NAME, MAX_RULE, Params, bad_cursor, in_path, limited, named_within, noted, refused, replayed, seen_if,
};
use super::auth::{Approve, May, Read};
use super::docs::ProblemDoc;
use super::guard::Json;
use super::problem::Problem;
use super::rest::{EventView, StatusWord};
use super::{Caller, Service};
use crate::agent::*;
use crate::config::Scope;
use crate::platform::words::{history as history_of, proposed};
use crate::platform::{Card, CardState};
use crate::store::{ApprovalCursor, ApprovalFilter, ApprovalRow, StoreError};

pub fn routes() -> Router<Service> {
    Router::new()
        .route("/approvals", get(approvals))
        .route("/approvals/{approval_id}", get(approval))
        .route("/approvals/{approval_id}/decision", post(decision))
}

/// The approval that a path names.
pub struct NamedApproval(ApprovalId);

impl FromRequestParts<Service> for NamedApproval {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let text = in_path(parts, service).await;
        let id = text.and_then(|text| text.parse().ok());
        id.map(Self).ok_or_else(|| {
            let detail =
                "There is no such request: its id looks like `apr_<thread>_<number>`; `GET /approvals` lists them.";
            Problem::new(StatusCode::NOT_FOUND, "no_such_approval", detail)
        })
    }
}

/// A request to people that is a caller's, by [`Caller::sees_approval`] or [`Caller::answers`], and its thread: as
/// it stands, or, once its fold has let go of the request, as it stood after the last event that is about it.
///
/// # Errors
/// 404 as well for one that is there and not theirs.
pub async fn their_approval(
    service: &Service,
    caller: &Caller,
    id: ApprovalId,
    is_theirs: impl Fn(&Caller, &Thread, &Approval, &People) -> bool,
) -> Result<(Thread, Approval), Problem> {
    let held = |thread: &Thread| thread.approvals.get(&id).map(|a| (**a).clone());
    let missing = || Problem::from(Refusal::NoSuchApproval { id });
    let now = seen_if(service, caller, id.thread, |_| true).await;
    let now = now.map_err(|problem| if problem.status == 404 { missing() } else { problem })?;
    if let Some(approval) = held(&now) {
        return if is_theirs(caller, &now, &approval, service.people()) { Ok((now, approval)) } else { Err(missing()) };
    }
    let then = folded_again(service, id).await?.ok_or_else(missing)?;
    match held(&then) {
        Some(approval) if is_theirs(caller, &now, &approval, service.people()) => Ok((then, approval)),
        Some(_) | None => Err(missing()),
    }
}

/// The thread as it stood after the last event that is about a request; `None` if there was no such request.
async fn folded_again(service: &Service, id: ApprovalId) -> Result<Option<Thread>, Problem> {
    let loaded = match service.runtime().parts().store.load(id.thread, 0).await {
        Ok(loaded) => loaded,
        Err(StoreError::Unknown(_) | StoreError::Deleted(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let events: Result<Vec<Event>, LogError> =
        loaded.events.iter().zip(1..).map(|(bytes, seq)| Event::decode(bytes, seq)).collect();
    let events = events.map_err(|e| Problem::internal(&e))?;
    let asked = events.iter().find_map(|event| match &event.body {
        Body::ApprovalRequested { approval, call, .. } if *approval == id => Some(*call),
        _ => None,
    });
    let last = asked.and_then(|call| history_of(id, call, &events).last()).map(|event| event.seq);
    let upto = last.and_then(|last| loaded.events.get(..usize::try_from(last).ok()?));
    let Some(upto) = upto else { return Ok(None) };
    let mut then = Thread::vacant(loaded.summary.thread);
    then.replay(upto).map_err(|e| Problem::internal(&e))?;
    Ok(Some(then))
}

/// Which requests a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// Those that can be decided now.
    #[default]
    Open,
    /// The others.
    Settled,
    All,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ApprovalsQuery {
    /// Which: `open` (if left out), `settled` or `all`.
    #[param(inline)]
    state: Option<Which>,
    /// Only requests of this agent.
    #[param(max_length = 100)]
    agent: Option<String>,
    /// Only requests of this tool.
    #[param(max_length = 100)]
    tool: Option<String>,
    /// Only requests that this rule made.
    #[param(max_length = 200)]
    rule: Option<String>,
    /// Only requests that you could decide.
    mine: Option<bool>,
    /// Most requests on the page.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,15}-apr_[a-z2-7]{16}_[1-9][0-9]{0,8}$")]
    cursor: Option<String>,
}

/// Who may decide.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ApproversView {
    /// Ids of people; `*` stands for everybody who can see it.
    pub users: Vec<String>,
    pub groups: Vec<String>,
    /// How many different people have to approve.
    pub quorum: u32,
    /// Whether who asked may approve.
    pub requester_may: bool,
}

impl ApproversView {
    fn of(approvers: &Approvers) -> Self {
        let Approvers { users, groups, quorum, requester_may } = approvers.clone();
        Self { users, groups, quorum, requester_may: requester_may == Some(true) }
    }
}

/// A request to people as lists show it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ApprovalItem {
    pub id: String,
    #[schema(value_type = String, pattern = "^[a-z2-7]{16}$")]
    pub thread_id: ShortId,
    /// Whether it can be decided now.
    pub open: bool,
    /// `pending`, `revising`, `approved`, `running`, `succeeded`, `failed`, `unknown`, `denied`, `expired` or
    /// `cancelled`.
    pub state: String,
    pub revision: u32,
    pub digest: String,
    /// The sentence for people.
    pub title: String,
    pub tool: String,
    pub agent: String,
    /// `low`, `medium` or `high`.
    pub risk: String,
    /// The rule that made it ask.
    pub rule: String,
    /// Whom it waits for, in words.
    pub waits_for: String,
    pub approvers: ApproversView,
    pub requesters: Vec<String>,
    /// Who has approved so far, or who decided.
    pub decided_by: Vec<String>,
    #[schema(format = DateTime)]
    pub requested_at: String,
    #[schema(format = DateTime)]
    pub expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub settled_at: Option<String>,
}

fn ids(people: &[Principal]) -> Vec<String> {
    people.iter().map(|p| p.id.clone()).collect()
}

impl ApprovalItem {
    fn of(row: &ApprovalRow) -> Self {
        Self {
            id: row.id.to_string(),
            thread_id: row.id.thread,
            open: row.open,
            state: row.state.clone(),
            revision: row.revision,
            digest: row.digest.to_string(),
            title: row.title.clone(),
            tool: row.tool.clone(),
            agent: row.agent.clone(),
            risk: row.risk.word().to_owned(),
            rule: row.rule.clone(),
            waits_for: row.approvers.describe(),
            approvers: ApproversView::of(&row.approvers),
            requesters: ids(&row.requesters),
            decided_by: ids(&row.decided_by),
            requested_at: row.requested_at.to_string(),
            expires_at: row.expires_at.to_string(),
            settled_at: row.settled_at.map(|at| at.to_string()),
        }
    }
}

/// A page of requests: open ones oldest first, others newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ApprovalPageView {
    pub items: Vec<ApprovalItem>,
    /// Requests that belong here and cannot be read back; an operator finds out why.
    pub damaged: Vec<String>,
    /// How many there are altogether.
    pub total: u64,
    /// Pass it as `cursor` to get the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// List requests to people
///
/// Those that you asked for, decided, or may decide now; with the scope `admin`, all.
#[utoipa::path(get, path = "/approvals", tag = "approvals", params(ApprovalsQuery),
    responses((status = 200, description = "A page of requests.", body = ApprovalPageView)),
    security(("bearer" = ["read"])))]
pub async fn approvals(
    May(caller, ..): May<Read>,
    Params(query): Params<ApprovalsQuery>,
    State(service): State<Service>,
) -> Result<axum::Json<ApprovalPageView>, Problem> {
    let limit = limited(query.limit)?;
    let filter = ApprovalFilter {
        open: match query.state.unwrap_or_default() {
            Which::Open => Some(true),
            Which::Settled => Some(false),
            Which::All => None,
        },
        agent: named_within("agent", query.agent, MAX_NAME)?,
        tool: named_within("tool", query.tool, MAX_NAME)?,
        rule: named_within("rule", query.rule, MAX_RULE)?,
        decider: query.mine.unwrap_or(false).then(|| caller.person(service.people())),
        visible_to: (!caller.may(Scope::Admin)).then(|| caller.person(service.people())),
        ..ApprovalFilter::default()
    };
    let after = query.cursor.as_deref().map(|text| {
        let place = text.split_once('-').and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
        place.map(|(at, id)| ApprovalCursor { requested_at: Timestamp(at), id }).ok_or_else(bad_cursor)
    });
    let store = &service.runtime().parts().store;
    let page = store.approvals(&filter, after.transpose()?, limit).await?;
    let total = store.count_approvals(&filter).await?;
    Ok(axum::Json(ApprovalPageView {
        items: page.items.iter().map(ApprovalItem::of).collect(),
        damaged: page.damaged.iter().map(ApprovalId::to_string).collect(),
        total,
        next: page.next.map(|cursor| format!("{}-{}", cursor.requested_at.0, cursor.id)),
    }))
}

/// One person's vote.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VoteView {
    pub by: String,
    #[schema(format = DateTime)]
    pub at: String,
    /// `approve`, `deny` or `edit`.
    pub vote: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What a tool says it would do.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PlanView {
    pub summary: String,
    /// What it found out, by tool.
    #[schema(value_type = Value)]
    pub facts: Value,
}

/// Everything about a request: what its digest covers, who may decide it until when, what became of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ApprovalView {
    pub id: String,
    #[schema(value_type = String, pattern = "^[a-z2-7]{16}$")]
    pub thread_id: ShortId,
    pub thread: String,
    pub call: String,
    /// Whether it can be decided now.
    pub open: bool,
    /// `pending`, `revising`, `approved`, `running`, `succeeded`, `failed`, `unknown`, `denied`, `expired` or
    /// `cancelled`.
    pub state: String,
    /// The sentence for people, with the state before it.
    pub headline: String,
    pub title: String,
    /// Name it when you decide: what is decided is this revision and no other.
    pub revision: u32,
    /// Covers tool, schema version, arguments, plan, thread and call.
    pub digest: String,
    /// Why there is a second or later revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_note: Option<String>,
    pub tool: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u32>,
    /// Whether its arguments may be changed.
    pub editable: bool,
    /// `low`, `medium` or `high`.
    pub risk: String,
    pub agent: String,
    /// The agent's own words about the call.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The texts from outside that the agent had read before: they may have talked it into this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_reading: Option<String>,
    #[schema(value_type = Object)]
    pub args: Value,
    /// The arguments of the first revision, if somebody changed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub original_args: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanView>,
    /// The rule that made it ask.
    pub rule: String,
    /// Whom it waits for, in words.
    pub waits_for: String,
    pub approvers: ApproversView,
    pub requesters: Vec<String>,
    #[schema(format = DateTime)]
    pub requested_at: String,
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// Votes on this revision.
    pub votes: Vec<VoteView>,
    /// What became of it, in a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// What the call returned, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Every event that is about it, oldest first.
    pub history: Vec<EventView>,
}

impl ApprovalView {
    fn of(thread: &Thread, a: &Approval, events: &[Event]) -> Self {
        let card = Card::of(thread, a);
        let gated = thread.calls.get(&a.call).map(|c| &c.gated);
        // A call that has ended is no longer in the fold; the event that proposed it still is in the log.
        let gated = gated.or_else(|| events.iter().find_map(|e| proposed(e, a.call)));
        let facts = gated.and_then(|g| g.facts.as_ref());
        let vote = |cast: &CastVote| {
            let (vote, note) = match &cast.vote {
                Vote::Approve { note } => ("approve", note.clone()),
                Vote::Deny { reason } => ("deny", reason.clone()),
                Vote::Edit { title, .. } => ("edit", title.clone()),
            };
            VoteView { by: cast.by.id.clone(), at: cast.at.to_string(), vote: vote.to_owned(), note }
        };
        Self {
            id: a.id.to_string(),
            thread_id: thread.short,
            thread: thread.id.to_string(),
            call: a.call.to_string(),
            open: a.is_open(),
            state: card.state.word().to_owned(),
            headline: card.headline(),
            title: a.title.clone(),
            revision: a.revision,
            digest: a.digest.to_string(),
            revision_note: card.revision_note(),
            tool: gated.map(|g| g.tool.clone()).unwrap_or_default(),
            schema_version: facts.map(|f| f.schema_version),
            editable: facts.is_some_and(|f| f.editable),
            risk: a.terms.risk.word().to_owned(),
            agent: thread.agent.clone(),
            why: card.why.clone(),
            after_reading: card.after_reading.clone(),
            args: a.args.clone(),
            original_args: a.original_args.clone(),
            plan: a.plan.as_ref().map(|p| PlanView { summary: p.summary.clone(), facts: p.facts.clone() }),
            rule: a.terms.rule.clone(),
            waits_for: a.terms.approvers.describe(),
            approvers: ApproversView::of(&a.terms.approvers),
            requesters: ids(&a.requesters),
            requested_at: a.requested_at.to_string(),
            expires_at: a.expires_at.to_string(),
            votes: a.votes.iter().map(vote).collect(),
            outcome: card.outcome(),
            result: a.result.as_ref().map(|(_, text)| text.clone()),
            history: history_of(a.id, a.call, events).map(EventView::of).collect(),
        }
    }
}

/// A request to people
///
/// Everything that a decision covers, the votes, and what became of it.
#[utoipa::path(get, path = "/approvals/{approval_id}", tag = "approvals",
    params(("approval_id" = String, Path, description = "The request.", pattern = "^apr_[a-z2-7]{16}_[1-9][0-9]{0,8}$")),
    responses(
        (status = 200, description = "The request.", body = ApprovalView),
        (status = 404, description = "No request that you may see.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 410, description = "Its thread was deleted.", body = ProblemDoc, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["read"])))]
pub async fn approval(
    May(caller, ..): May<Read>,
    NamedApproval(id): NamedApproval,
    State(service): State<Service>,
) -> Result<axum::Json<ApprovalView>, Problem> {
    let (thread, approval) = their_approval(&service, &caller, id, Caller::sees_approval).await?;
    let loaded = service.runtime().parts().store.load(id.thread, 0).await?;
    let events: Result<Vec<Event>, LogError> =
        loaded.events.iter().zip(1..).map(|(bytes, seq)| Event::decode(bytes, seq)).collect();
    Ok(axum::Json(ApprovalView::of(&thread, &approval, &events.map_err(|e| Problem::internal(&e))?)))
}

/// What a person decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Approve,
    Deny,
    /// Ask for other arguments: a new revision, which needs approvals of its own.
    Edit,
}

/// A decision on what one has seen.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"decision": "approve", "revision": 1, "note": "tested on staging"}))]
pub struct DecisionBody {
    pub decision: Decision,
    /// Why; the agent and who asked read it.
    #[schema(max_length = 4000)]
    pub note: Option<String>,
    /// All arguments as they should be, for `edit`.
    #[schema(value_type = Option<Object>)]
    pub args: Option<Value>,
    /// The revision that you have seen.
    #[schema(minimum = 1)]
    pub revision: u32,
    /// The digest of what you have seen, at least its first 12 digits: then nothing else can be meant.
    #[schema(pattern = "^[0-9a-f]{12,64}$")]
    pub digest: Option<String>,
}

/// What a decision led to.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Decided {
    pub id: String,
    #[schema(value_type = String, pattern = "^[a-z2-7]{16}$")]
    pub thread_id: ShortId,
    /// The state of the request after it; `pending` if more people have to approve.
    pub state: String,
    pub revision: u32,
    pub digest: String,
    /// Who has approved so far, or who decided.
    pub by: Vec<String>,
    /// When it was decided, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub at: Option<String>,
    /// Where the thread stands after it.
    pub status: StatusWord,
}

/// By whom and when a request was decided.
fn by_and_at(a: &Approval) -> (Vec<String>, Option<String>) {
    let approved = || a.approved_by().into_iter().map(|p| p.id.clone()).collect();
    match &a.state {
        ApprovalState::Approved { at } | ApprovalState::Used { at } => (approved(), Some(at.to_string())),
        ApprovalState::Denied { at, .. } => {
            (a.denied_by().map(|p| p.id.clone()).into_iter().collect(), Some(at.to_string()))
        }
        ApprovalState::Expired { at } => (Vec::new(), Some(at.to_string())),
        ApprovalState::Cancelled => (Vec::new(), None),
        ApprovalState::Pending | ApprovalState::Revising { .. } => (approved(), None),
    }
}

/// Decide a request
///
/// As the person of the token. The first valid decision wins; name the revision that you have seen, since a
/// request can change.
#[utoipa::path(post, path = "/approvals/{approval_id}/decision", tag = "approvals", request_body = DecisionBody,
    params(
        ("approval_id" = String, Path, description = "The request.", pattern = "^apr_[a-z2-7]{16}_[1-9][0-9]{0,8}$"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a second try safe.", min_length = 1, max_length = 200, pattern = "^[!-~]{1,200}$")),
    responses(
        (status = 200, description = "The decision counts.", body = Decided),
        (status = 404, description = "No request that you may see.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 409, description = "`already_decided` (with `by` and `at`), `already_voted`, or `revision_changed` (with the present `revision` and `digest`).", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 410, description = "It has expired, which counts as a denial; or its thread was deleted.", body = ProblemDoc, content_type = "application/problem+json"),
        (status = 422, description = "The new arguments can't be used, or the body can't.", body = ProblemDoc, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["approve"])))]
pub async fn decision(
    May(caller, ..): May<Approve>,
    NamedApproval(id): NamedApproval,
    key: Key,
    State(service): State<Service>,
    Json(body): Json<DecisionBody>,
) -> Result<axum::Json<Decided>, Problem> {
    let source = key.source(&caller);
    decide(&service, &caller, id, body, source).await.map(axum::Json)
}

pub async fn decide(
    service: &Service,
    caller: &Caller,
    id: ApprovalId,
    body: DecisionBody,
    source: Option<String>,
) -> Result<Decided, Problem> {
    let runtime = service.runtime();
    let note = body.note.unwrap_or_default();
    noted(&note)?;
    if body.args.is_some() != (body.decision == Decision::Edit) {
        let detail = "`args` goes with the decision `edit`, and only with that.";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "args_and_decision", detail));
    }
    let (thread, approval) = their_approval(service, caller, id, Caller::answers).await?;
    let kept = runtime.parts().secrets.clean(&note).into_owned();
    // Cleaned anew: what people let pass in this thread stands there as it is.
    let cleaned = |text: &str| runtime.parts().secrets.clean(text) == kept;
    // What was kept is the canonical form of what was sent.
    let wanted = body.args.clone().map(|args| {
        let checked = runtime.parts().tools.check_value(&approval.tool, args.clone());
        checked.map_or(args, |checked| checked.into_value())
    });
    let is_same = |vote: &Body| match vote {
        Body::VoteCast { approval, revision, vote, .. } if *approval == id && *revision == body.revision => {
            match vote {
                Vote::Approve { note } => body.decision == Decision::Approve && cleaned(note),
                Vote::Deny { reason } => body.decision == Decision::Deny && cleaned(reason),
                Vote::Edit { args, .. } => Some(args) == wanted.as_ref(),
            }
        }
        _ => false,
    };
    if let Some(source) = source.as_deref().filter(|source| thread.knows_source(source)) {
        replayed(service, id.thread, source, &is_same).await?;
        return Ok(decided(&thread, &approval));
    }
    // What is settled stays the core's to answer: the words say what became of it.
    let seen_is_this = body.revision == approval.revision
        && body
            .digest
            .as_ref()
            .is_none_or(|seen| seen.len() >= 12 && approval.digest.to_string().starts_with(seen.as_str()));
    if approval.is_open() && !seen_is_this {
        return Err(changed(&approval));
    }
    let vote = match (body.decision, &body.args) {
        (Decision::Approve, _) => Ballot::Approve { note },
        (Decision::Deny, _) => Ballot::Deny { reason: note },
        (Decision::Edit, args) => {
            let tool = thread.calls.get(&approval.call).map(|c| c.gated.tool.clone()).unwrap_or_default();
            let raw = args.as_ref().map(Value::to_string).unwrap_or_default();
            Ballot::Edit { args: Box::new(runtime.propose(&tool, &raw)) }
        }
    };
    let vote = Input::Vote {
        approval: id,
        digest: approval.digest.to_string(),
        by: caller.principal.clone(),
        groups: caller.groups.clone(),
        vote,
        source: source.clone(),
    };
    let delivered = runtime.deliver(id.thread, vote).await?;
    if let (Answer::Duplicate, Some(source)) = (&delivered.answer, &source) {
        replayed(service, id.thread, source, is_same).await?;
    }
    let (thread, approval) = their_approval(service, caller, id, Caller::answers).await?;
    let answer = match delivered.answer {
        // Settled so long ago that the fold has let go of it: the log says what became of it.
        Answer::Refused(Refusal::NoSuchApproval { .. }) => Answer::Refused(match approval.state {
            ApprovalState::Expired { at } => Refusal::Expired { at },
            _ => Refusal::already_decided(&approval),
        }),
        answer => answer,
    };
    match answer {
        Answer::Refused(Refusal::Changed) => Err(changed(&approval)),
        Answer::Refused(refusal @ (Refusal::AlreadyDecided { .. } | Refusal::Expired { .. })) => {
            let (by, at) = by_and_at(&approval);
            let state = CardState::of(&thread, &approval).word();
            Err(Problem::from(refusal).with("by", by).with("at", at).with("state", state))
        }
        Answer::Refused(refusal) => Err(refused(refusal)),
        Answer::Accepted | Answer::Duplicate | Answer::Stale | Answer::Go { .. } => Ok(decided(&thread, &approval)),
    }
}

fn decided(thread: &Thread, approval: &Approval) -> Decided {
    let (by, at) = by_and_at(approval);
    Decided {
        id: approval.id.to_string(),
        thread_id: thread.short,
        state: CardState::of(thread, approval).word().to_owned(),
        revision: approval.revision,
        digest: approval.digest.to_string(),
        by,
        at,
        status: thread.status().into(),
    }
}

fn changed(approval: &Approval) -> Problem {
    let detail = format!(
        "The request is not, or no longer, what you have seen: it is at revision {}. Look at it again and decide that.",
        approval.revision
    );
    Problem::new(StatusCode::CONFLICT, "revision_changed", detail)
        .with("revision", approval.revision)
        .with("digest", approval.digest.to_string())
}
