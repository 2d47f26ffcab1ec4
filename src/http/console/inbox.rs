//! Approvals: lists over all threads, one of them in full, and decisions.
//!
//! Lists come from the store's index of approvals; no log is read for them. A decision carries what the page
//! showed (revision and digest), and the core refuses it if the request has changed since.

use std::collections::HashMap;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;

use super::chat::{any_thread, events, refuse, said, unreadable};
use super::door::{self, Answer, Known, Note, Posted, Trouble};
use super::form;
use super::pages::{Page, html};
use super::view::{self, CardView, Item, Looks, Moment};
use crate::agent::{
    Answer as Said, Approval, ApprovalId, Ballot, Event, Input, People, Refusal, Thread, Timestamp, visible,
};
use crate::config::Scope;
use crate::http::approvals;
use crate::http::problem::Problem;
use crate::http::{Caller, Service};
use crate::store::{ApprovalCursor, ApprovalFilter, ApprovalRow};

/// Approvals on one page of a list.
const PAGE: usize = 50;
/// Events before the call that a page with one approval shows: the words that led to it.
const BEFORE: u64 = 60;

// ---- lists ----

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tab {
    Pending,
    Mine,
    Decided,
    All,
}

impl Tab {
    const ALL: [Tab; 4] = [Tab::Pending, Tab::Mine, Tab::Decided, Tab::All];

    fn word(self) -> &'static str {
        match self {
            Tab::Pending => "pending",
            Tab::Mine => "mine",
            Tab::Decided => "decided",
            Tab::All => "all",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Tab::Pending => "Pending",
            Tab::Mine => "Waits for me",
            Tab::Decided => "Decided",
            Tab::All => "All",
        }
    }

    /// What the list shows to this person: what is theirs to see, whatever the query says.
    fn filter(self, caller: &Caller, people: &People) -> ApprovalFilter {
        ApprovalFilter {
            open: match self {
                Tab::Pending | Tab::Mine => Some(true),
                Tab::Decided => Some(false),
                Tab::All => None,
            },
            decider: (self == Tab::Mine).then(|| caller.person(people)),
            visible_to: (!caller.may(Scope::Admin)).then(|| caller.person(people)),
            ..ApprovalFilter::default()
        }
    }
}

#[derive(Template)]
#[template(path = "web/inbox.html")]
struct ListPage {
    page: Page,
    tabs: Vec<TabLink>,
    tab: &'static str,
    rows: Vec<Row>,
    next: Option<String>,
    agents: Vec<Choice>,
    tools: Vec<Choice>,
    rule: String,
    filtered: bool,
}

struct TabLink {
    word: &'static str,
    title: &'static str,
    count: Option<u64>,
    chosen: bool,
}

struct Choice {
    name: String,
    chosen: bool,
}

struct Row {
    id: String,
    title: String,
    agent: String,
    risk: &'static str,
    requesters: String,
    requested: Moment,
    /// Of an open one.
    expires: Option<Moment>,
    waits_for: String,
    decided_by: String,
    tone: &'static str,
    state: String,
}

pub async fn list(
    State(service): State<Service>,
    Known { caller, visitor }: Known,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let given = |name: &str| query.get(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let tab = given("tab").and_then(|word| Tab::ALL.into_iter().find(|tab| tab.word() == word)).unwrap_or(Tab::Pending);
    let parts = service.runtime().parts();
    let filter = ApprovalFilter {
        agent: given("agent"),
        tool: given("tool"),
        rule: given("rule"),
        ..tab.filter(&caller, service.people())
    };
    let after = given("after").and_then(|after| read_cursor(&after));
    let found = parts.store.approvals(&filter, after, PAGE).await?;
    let mut tabs = Vec::new();
    for each in Tab::ALL {
        let count = match each {
            Tab::Pending | Tab::Mine => {
                Some(parts.store.count_approvals(&each.filter(&caller, service.people())).await?)
            }
            Tab::Decided | Tab::All => None,
        };
        tabs.push(TabLink { word: each.word(), title: each.title(), count, chosen: each == tab });
    }
    let pending = tabs.first().and_then(|tab| tab.count).unwrap_or(0);
    let title = if pending == 0 { "Inbox".to_owned() } else { format!("({pending}) Inbox") };
    let choices = |names: Vec<&str>, chosen: &Option<String>| {
        let choice = |name: &str| Choice { name: visible::line(name), chosen: chosen.as_deref() == Some(name) };
        names.into_iter().map(choice).collect()
    };
    let now = parts.clock.now();
    let page = Page::new(&service, &visitor, "inbox", title).await.live("/inbox/live".to_owned());
    let template = ListPage {
        page,
        tabs,
        tab: tab.word(),
        rows: found.items.iter().map(|found| row(found, now)).collect(),
        next: found.next.map(|cursor| format!("{}.{}", cursor.requested_at.0, cursor.id)),
        agents: choices(parts.agents.names().collect(), &filter.agent),
        tools: choices(parts.tools.names().collect(), &filter.tool),
        filtered: filter.agent.is_some() || filter.tool.is_some() || filter.rule.is_some(),
        rule: filter.rule.unwrap_or_default(),
    };
    Ok(html(StatusCode::OK, &template))
}

fn row(row: &ApprovalRow, now: Timestamp) -> Row {
    Row {
        id: row.id.to_string(),
        title: visible::line(&row.title),
        agent: visible::line(&row.agent),
        risk: row.risk.word(),
        requesters: view::names(&row.requesters),
        requested: Moment::ago(row.requested_at, now),
        expires: row.open.then(|| Moment::until(row.expires_at, now)),
        waits_for: visible::composed(&row.approvers.describe()),
        decided_by: view::names(&row.decided_by),
        tone: match row.state.as_str() {
            "pending" => "wait",
            "revising" | "approved" | "running" => "busy",
            "succeeded" => "good",
            "failed" | "unknown" => "bad",
            _ => "rest",
        },
        state: visible::line(&row.state),
    }
}

fn read_cursor(text: &str) -> Option<ApprovalCursor> {
    let (at, id) = text.split_once('.')?;
    Some(ApprovalCursor { requested_at: Timestamp(at.parse().ok()?), id: id.parse().ok()? })
}

// ---- one approval ----

#[derive(Template)]
#[template(path = "web/approval.html")]
struct ApprovalPage {
    page: Page,
    card: CardView,
    history: Vec<(Moment, String)>,
    items: Vec<Item>,
    back: &'static str,
    /// Whether the whole conversation is theirs to see.
    sees_thread: bool,
}

/// An approval that this person may see, with what is known of it.
struct Found {
    thread: Thread,
    approval: Approval,
    events: Vec<Event>,
    /// Whether the whole conversation is theirs to see.
    sees_thread: bool,
}

/// The approval, if it is this person's by [`Caller::sees_approval`] or [`Caller::answers`].
async fn their_approval(
    service: &Service,
    caller: &Caller,
    id: &str,
    is_theirs: impl Fn(&Caller, &Thread, &Approval, &People) -> bool,
) -> Result<Found, Trouble> {
    let missing = || {
        let detail = format!("I don't know this request, or it is not yours to see. Id {}.", visible::line(id));
        Trouble(Problem::new(StatusCode::NOT_FOUND, "no_such_approval", detail))
    };
    let id: ApprovalId = id.parse().map_err(|_| missing())?;
    let found = approvals::their_approval(service, caller, id, is_theirs).await;
    let (thread, approval) =
        found.map_err(
            |problem| {
                if problem.status == StatusCode::NOT_FOUND.as_u16() { missing() } else { Trouble(problem) }
            },
        )?;
    let events = events(service, thread.short, approval.call.seq.saturating_sub(BEFORE)).await?;
    let sees_thread = caller.sees(&thread, service.people());
    Ok(Found { thread, approval, events, sees_thread })
}

pub async fn show(State(service): State<Service>, Known { caller, visitor }: Known, Path(id): Path<String>) -> Answer {
    let Found { thread, approval, events, sees_thread } =
        their_approval(&service, &caller, &id, Caller::sees_approval).await?;
    let parts = service.runtime().parts();
    let people = service.runtime().people_for(&thread, approval.id, &caller.principal).await;
    let looks = Looks { caller: &caller, people: &people, tools: &parts.tools, now: parts.clock.now() };
    let card = view::card(&thread, &approval, &events, &looks);
    let history = events.iter().filter_map(|event| {
        let line = view::history(approval.id, approval.call, event)?;
        Some((Moment::ago(event.at, looks.now), line))
    });
    let history = history.collect();
    // The conversation up to the request; this card stands above it already.
    let before: Vec<Event> = events.iter().filter(|event| event.seq <= approval.call.seq).cloned().collect();
    let items = view::items(&thread, &before, &looks);
    let items =
        items.into_iter().filter(|item| matches!(item, Item::Said { .. } | Item::Agent { .. } | Item::Notice { .. }));
    let mut items: Vec<Item> = items.collect();
    // If nobody knows how the call ended, who decided it may say.
    let lost = |item: &Item| matches!(item, Item::Lost(lost) if lost.call == approval.call.to_string());
    items.extend(view::items(&thread, &events, &looks).into_iter().rfind(lost));
    let page = Page::new(&service, &visitor, "inbox", format!("{}: {}", card.state, card.title)).await;
    let live = if sees_thread { format!("/chat/{}/live", thread.short) } else { "/inbox/live".to_owned() };
    let template = ApprovalPage { page: page.live(live), items, card, history, back: "inbox", sees_thread };
    Ok(html(StatusCode::OK, &template))
}

// ---- decisions ----

/// Where a decision leads back to.
fn back(fields: &door::Fields, approval: &Approval, sees_thread: bool) -> String {
    match fields.text("back") {
        "chat" if sees_thread => format!("/chat/{}#{}", approval.id.thread, approval.id),
        _ => format!("/inbox/{}", approval.id),
    }
}

/// Where it leads once it is taken or refused: who came too late may not see the request any more.
async fn landing(service: &Service, caller: &Caller, id: ApprovalId, to: String) -> Result<String, Trouble> {
    let thread = any_thread(service, id.thread).await?;
    let sees = thread.is_some_and(|thread| {
        let people = service.people();
        let asked = || thread.approvals.get(&id).is_some_and(|a| caller.sees_approval(&thread, a, people));
        caller.sees(&thread, people) || asked()
    });
    Ok(if sees { to } else { "/inbox".to_owned() })
}

/// What the page showed has to be what is asked now. The core compares the digest; the revision says
/// more: after a change back and forth, votes and deadline are new although the arguments are the same.
fn shown(approval: &Approval, fields: &door::Fields) -> Result<String, Refusal> {
    let revision: u32 = fields.text("revision").parse().unwrap_or(0);
    if approval.is_open() && revision != approval.revision {
        return Err(Refusal::Changed);
    }
    Ok(fields.text("digest").to_owned())
}

async fn vote(
    service: &Service,
    caller: &Caller,
    approval: &Approval,
    digest: String,
    vote: Ballot,
) -> Result<Said, Trouble> {
    let Caller { principal: by, groups, .. } = caller.clone();
    let input = Input::Vote { approval: approval.id, digest, by, groups, vote, source: None };
    Ok(service.runtime().deliver(approval.id.thread, input).await?.answer)
}

pub async fn decide(
    State(service): State<Service>,
    Path((id, decision)): Path<(String, String)>,
    Posted { caller, fields, .. }: Posted,
) -> Answer {
    let Found { approval, sees_thread, .. } = their_approval(&service, &caller, &id, Caller::answers).await?;
    let to = back(&fields, &approval, sees_thread);
    let note = fields.text("note").trim().to_owned();
    let (ballot, done) = match decision.as_str() {
        "approve" => (Ballot::Approve { note }, "Your approval is recorded."),
        "deny" => (Ballot::Deny { reason: note }, "Denied. Nothing of it runs."),
        _ => return Err(unreadable("the decision")),
    };
    let digest = match shown(&approval, &fields) {
        Ok(digest) => digest,
        Err(refusal) => return Ok(refuse(&service, &to, &refusal)),
    };
    let answer = vote(&service, &caller, &approval, digest, ballot).await?;
    let to = landing(&service, &caller, approval.id, to).await?;
    Ok(door::go(&service, &to, said(answer, Some(done))))
}

#[derive(Template)]
#[template(path = "web/edit.html")]
struct EditPage {
    page: Page,
    card: CardView,
    back: String,
}

pub async fn edit_form(
    State(service): State<Service>,
    Known { caller, visitor }: Known,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let Found { thread, approval, events, sees_thread } =
        their_approval(&service, &caller, &id, Caller::sees_approval).await?;
    let parts = service.runtime().parts();
    let people = service.runtime().people_for(&thread, approval.id, &caller.principal).await;
    let looks = Looks { caller: &caller, people: &people, tools: &parts.tools, now: parts.clock.now() };
    let card = view::card(&thread, &approval, &events, &looks);
    let page = Page::new(&service, &visitor, "inbox", format!("Change: {}", card.title)).await;
    let back = if sees_thread && query.get("back").is_some_and(|back| back == "chat") { "chat" } else { "inbox" };
    Ok(html(StatusCode::OK, &EditPage { page, card, back: back.to_owned() }))
}

pub async fn edit(
    State(service): State<Service>,
    Path(id): Path<String>,
    Posted { caller, visitor, fields }: Posted,
) -> Answer {
    let Found { thread, approval, events, sees_thread } =
        their_approval(&service, &caller, &id, Caller::answers).await?;
    let to = back(&fields, &approval, sees_thread);
    let parts = service.runtime().parts();
    let people = service.runtime().people_for(&thread, approval.id, &caller.principal).await;
    let looks = Looks { caller: &caller, people: &people, tools: &parts.tools, now: parts.clock.now() };
    let mut card = view::card(&thread, &approval, &events, &looks);
    let digest = match shown(&approval, &fields) {
        Ok(digest) => digest,
        Err(refusal) => return Ok(refuse(&service, &to, &refusal)),
    };
    let tool = thread.calls.get(&approval.call).map_or("", |call| call.gated.tool.as_str());
    let schema = parts.tools.decls(&[tool]).into_iter().next().map(|decl| decl.schema).unwrap_or_default();
    let wrong = match form::arguments(&schema, &approval.args, &fields) {
        Ok(args) => {
            let ballot = Ballot::Edit { args: Box::new(service.runtime().propose(tool, &args)) };
            match vote(&service, &caller, &approval, digest, ballot).await? {
                // What can be mended in the form is mended there; all else is said where the card is.
                Said::Refused(refusal @ (Refusal::InvalidEdit { .. } | Refusal::NothingChanged)) => refusal.to_string(),
                answer => {
                    let done = "Changed. The new request needs votes of its own, yours too.";
                    let to = landing(&service, &caller, approval.id, to).await?;
                    return Ok(door::go(&service, &to, said(answer, Some(done))));
                }
            }
        }
        Err(why) => Refusal::InvalidEdit { why }.to_string(),
    };
    if !caller.sees_approval(&thread, &approval, service.people()) {
        return Ok(door::go(&service, "/inbox", Some(Note { good: false, text: wrong })));
    }
    card.form = card.form.into_iter().map(|field| form::with(field, &fields)).collect();
    let page = Page::new(&service, &visitor, "inbox", format!("Change: {}", card.title)).await;
    let page = page.with_note(Note { good: false, text: wrong });
    let template = EditPage { page, card, back: fields.text("back").to_owned() };
    Ok(html(StatusCode::UNPROCESSABLE_ENTITY, &template))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::form::Field;
    use super::*;
    use crate::agent::visible::tests::{PROSE_SAMPLE, SAMPLE, wrong};
    use crate::agent::{
        ApprovalState, Approvers, Because, Body, CallId, CastVote, Digest, EVENT_VERSION, Plan, Principal, Risk, Terms,
        ThreadId, Untrusted, Vote,
    };
    use crate::config::Scope;
    use crate::http::Via;
    use crate::platform::form::Kind;

    fn evil() -> String {
        SAMPLE.to_owned()
    }

    fn page() -> Page {
        let text = |text: &str| text.to_owned();
        Page {
            title: evil(),
            app: text("Twelve"),
            me: None,
            can_leave: false,
            token: text("t"),
            tab: "inbox",
            waiting: 0,
            note: None,
            live: None,
            css: text("/c"),
            js: text("/j"),
            icon: text("/i"),
        }
    }

    fn approval(short: crate::agent::ShortId) -> Approval {
        let person = || Principal::human(evil());
        let cast = |vote| CastVote { by: person(), groups: Vec::new(), named: None, vote, at: Timestamp(0) };
        let untrusted: Untrusted = serde_json::from_value(json!({"texts": [{"seq": 2, "label": SAMPLE}]})).unwrap();
        let args = json!({ SAMPLE: SAMPLE, "b": [{ SAMPLE: SAMPLE }], "c": "spaces  and\n\n  lines" });
        Approval {
            id: ApprovalId::new(short, 4, 0),
            call: CallId::new(short, 3, 0),
            tool: evil(),
            revision: 2,
            because: Because::Edited { by: person() },
            title: evil(),
            original_args: Some(json!({ SAMPLE: "a", "d": SAMPLE })),
            former_terms: None,
            plan: Some(Plan { summary: evil(), facts: json!({ SAMPLE: [SAMPLE] }) }),
            digest: Digest::of(args.to_string().as_bytes()),
            args,
            terms: Terms {
                rule: evil(),
                risk: Risk::High,
                approvers: Approvers { users: vec![evil()], groups: vec![evil()], ..Approvers::default() },
                expires_after_ms: 1,
                untrusted,
                route: Default::default(),
            },
            requesters: vec![person()],
            requested_at: Timestamp(0),
            expires_at: Timestamp(0),
            votes: vec![
                cast(Vote::Approve { note: evil() }),
                cast(Vote::Deny { reason: evil() }),
                cast(Vote::Edit { args: json!({}), title: evil(), terms: None }),
            ],
            state: ApprovalState::Pending,
            settled_at: None,
            result: None,
        }
    }

    /// Of what a card shows nothing is cut, scrolled, collapsed or hidden by a style.
    #[test]
    fn no_style_hides_a_part_of_what_is_decided() {
        let css = include_str!("../../../templates/web/console.css");
        let css = regex::Regex::new(r"(?s)/\*.*?\*/").unwrap().replace_all(css, "");
        let decided = [".args", ".plan", ".changes", ".card h2", ".facts", ".outside", ".revision", ".votes"];
        let hides = [
            "overflow: hidden",
            "overflow: auto",
            "overflow: scroll",
            "text-overflow",
            "nowrap",
            "line-clamp",
            "display: none",
            "visibility",
            "opacity",
            "font-size: 0",
            "text-indent",
            "direction",
            "height: 0",
        ];
        let mut wraps = std::collections::BTreeSet::new();
        for rule in css.split('}') {
            let Some((selectors, style)) = rule.rsplit_once('{') else { continue };
            let mine = selectors.split(',').filter(|one| decided.iter().any(|d| one.trim().starts_with(d)));
            for selector in mine.map(str::trim) {
                assert!(!hides.iter().any(|h| style.contains(h)), "{selector} {{{style}}}");
                assert!(!style.contains("max-height") || style.contains("max-height: none"), "{selector} {{{style}}}");
                if style.contains("white-space: pre-wrap") {
                    wraps.insert(selector);
                }
            }
        }
        for shown in [".args th", ".args pre", ".plan strong", ".changes td", ".card h2", ".outside", ".votes q"] {
            assert!(wraps.contains(shown), "{shown} does not show spaces as they are");
        }
    }

    /// Every string of a request holds a sample of each class, and so does the page of it, in every state.
    #[test]
    fn whatever_a_request_holds_is_shown_in_the_strict_view() {
        let id: ThreadId = "web:evil".parse().unwrap();
        let mut thread = Thread::vacant(id);
        thread.agent = evil();
        let caller = Caller {
            principal: Principal::human("web:ann"),
            groups: Vec::new(),
            scopes: [Scope::Admin, Scope::Approve].into(),
            via: Via::Session,
        };
        let tools = crate::tools::Registry::new(Vec::new()).unwrap();
        let people = People::default();
        let looks = Looks { caller: &caller, people: &people, tools: &tools, now: Timestamp(0) };
        let used = |ending, text: &str| (ApprovalState::Used { at: Timestamp(0) }, Some((ending, text.to_owned())));
        let long = format!("{PROSE_SAMPLE}\nsecond line");
        let states = [
            (ApprovalState::Pending, None),
            (ApprovalState::Denied { at: Timestamp(0), reason: evil() }, None),
            used(crate::agent::Ending::Succeeded, &long),
            used(crate::agent::Ending::Failed, &long),
        ];
        let unseen = regex::Regex::new(r#"(?s) (name|value|id|for)="[^"]*""#).unwrap();
        for (state, result) in states {
            let approval = Approval { state, result, ..approval(thread.short) };
            let event = |body| Event {
                v: EVENT_VERSION,
                seq: 4,
                at: Timestamp(0),
                source: None,
                answers: None,
                prev: Digest::ZERO,
                body,
            };
            let by = || Principal::human(evil());
            let bodies = [
                Body::VoteCast {
                    approval: approval.id,
                    revision: 1,
                    by: by(),
                    groups: Vec::new(),
                    named: None,
                    vote: Vote::Edit { args: json!({}), title: evil(), terms: None },
                },
                Body::ToolPlanned { call: approval.call, plan: Err(evil()) },
                Body::Paused { by: by(), why: evil() },
                Body::MessageReceived {
                    from: by(),
                    text: PROSE_SAMPLE.to_owned(),
                    outside: Some(evil()),
                    context: Vec::new(),
                    masked: 0,
                    prefetch: Vec::new(),
                    attached: Vec::new(),
                },
            ];
            let events: Vec<Event> = bodies.into_iter().map(event).collect();
            let mut card = view::card(&thread, &approval, &events, &looks);
            card.why = visible::prose(PROSE_SAMPLE);
            card.form = vec![Field {
                name: evil(),
                kind: Kind::Choice,
                value: "a".to_owned(),
                required: true,
                options: vec![evil()],
                help: evil(),
            }];
            card.rights.edit = true;
            card.rights.deny = true;
            let line = |event: &Event| {
                Some((Moment::ago(event.at, looks.now), view::history(approval.id, approval.call, event)?))
            };
            let history = events.iter().filter_map(line).collect();
            let items = view::items(&thread, &events, &looks);
            let page = Page { title: format!("{}: {}", card.state, card.title), ..page() };
            let shown = ApprovalPage { page, items, card, history, back: "inbox", sees_thread: true }.render().unwrap();
            // What a form carries and does not show.
            let seen = unseen.replace_all(&shown, "");
            assert_eq!(wrong(&seen), None, "{seen}");
            assert!(seen.matches("\\u{202e}").count() > 15, "{seen}");
            assert!(seen.contains("spaces  and\n\n  lines"), "{seen}");
        }
    }
}
