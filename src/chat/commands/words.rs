//! The words of answers. PURE: rows, folds and the time in, a [`Listing`] out.

use super::look::{Groups, Requests, Seen};
use super::{Asker, Listing, Row};
use crate::agent::*;
use crate::platform::how_to_answer;
use crate::platform::reach::{Team, is_open_to_all};
use crate::platform::words::{event_line, quote};
use crate::store::{ApprovalRow, Summary};

/// Rows of a list of things that are configured; the rest is counted.
const MAX_ROWS: usize = 10;
/// Choices that a sentence names.
const MAX_NAMED: usize = 5;

/// What there is to try, for those who have nothing yet.
pub(in crate::chat) const EXAMPLES: [&str; 2] =
    ["check the status of the api service", "deploy api v1.2.3 to staging and tell me when it is done"];

/// A status as people say it.
pub fn status_words(status: Status) -> &'static str {
    match status {
        Status::Running => "at work",
        Status::WaitingApproval => "waits for an approval",
        Status::WaitingAnswer => "waits for an answer",
        Status::WaitingMark => "waits for somebody to say how a call ended",
        Status::Sleeping => "waits for its time",
        Status::Paused => "paused",
        Status::Done => "done",
        Status::Stopped => "stopped",
        Status::Cancelled => "cancelled",
    }
}

/// How long ago: `3m 20s ago`, `just now`.
fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.ms_since(at) {
        0..1_000 => "just now".to_owned(),
        ms => format!("{} ago", span::show(ms)),
    }
}

/// `for 3m 20s`.
fn since(at: Timestamp, now: Timestamp) -> String {
    match now.ms_since(at) {
        0..1_000 => "since just now".to_owned(),
        ms => format!("for {}", span::show(ms)),
    }
}

fn expiry(at: Timestamp, now: Timestamp) -> String {
    if at > now { format!("expires in {}", span::show(at.ms_since(now))) } else { "expires now".to_owned() }
}

fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// Whoever decides, as [`Row::deciders`] has them.
fn deciders(approvers: &Approvers) -> Vec<String> {
    approvers.groups.iter().map(|group| format!("@{group}")).chain(approvers.users.iter().cloned()).collect()
}

/// Whether there are requests that everybody of a conversation may decide.
fn is_ever_open_to_all(policy: &Policy) -> bool {
    policy.rules.iter().filter_map(|rule| rule.approvers.as_ref()).chain([&policy.approvers]).any(is_open_to_all)
}

/// Those of them that somebody may know of: nobody of another workspace of their surface.
fn deciders_for(approvers: &Approvers, by: &Principal) -> Vec<String> {
    let theirs = |id: &String| match Team::of(by) {
        Some(team) => team.owns(id) || id.split(':').next() != Some(team.surface),
        None => true,
    };
    let shown = Approvers {
        users: approvers.users.iter().filter(|id| theirs(id)).cloned().collect(),
        groups: approvers.groups.iter().filter(|id| theirs(id)).cloned().collect(),
        ..approvers.clone()
    };
    match deciders(&shown) {
        none if none.is_empty() && !approvers.is_empty() => vec!["people of another workspace".to_owned()],
        deciders => deciders,
    }
}

fn lines(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

// ---- what went wrong ----

pub(super) fn broken(reference: &str) -> Listing {
    Listing::line(format!("Something broke on my side. Nothing was run. Reference {reference}."))
}

pub(super) fn not_an_operator() -> Listing {
    Listing::line("Only operators can run `doctor`. The setting http.admins names them.")
}

pub(super) fn unknown_word(word: &str, meant: Option<&str>, prefix: &str) -> Listing {
    let word = quote(word);
    let hint = format!("To give me a task: `{prefix} run <task>`. All words: `{prefix} help`.");
    let title = match meant {
        Some(meant) => format!("I don't know the word “{word}”. Did you mean `{prefix} {meant}`?"),
        None => format!("I don't know the word “{word}”."),
    };
    Listing { title, hint, ..Listing::default() }
}

pub(super) fn too_short(text: &str, what: &str) -> Listing {
    let least = super::read::LEAST;
    Listing::line(format!("“{}” is too short to name {what}: type at least {least} signs of its id.", quote(text)))
}

pub(super) fn unknown_run(text: &str, prefix: &str) -> Listing {
    Listing {
        title: format!("I don't know a run “{}”, or it is not yours to see.", quote(text)),
        hint: format!("`{prefix} status` lists yours."),
        ..Listing::default()
    }
}

pub(super) fn unknown_request(id: &str) -> Listing {
    Listing::line(format!("I don't know this request any more (older than 30 days?). Id {}.", quote(id)))
}

pub(super) fn unknown_question(id: &str) -> Listing {
    Listing::line(format!("The question {} is not open any more, or it is not yours to answer.", quote(id)))
}

pub(super) fn not_an_approver(approvers: &Approvers) -> Listing {
    let own = if approvers.requester_may == Some(true) { "" } else { ", not the one who asked" };
    Listing {
        title: "You can't decide this one.".to_owned(),
        rows: vec![Row {
            text: format!("It waits for somebody else ({} needed{own}).", approvers.quorum.max(1)),
            deciders: deciders(approvers),
            ..Row::default()
        }],
        ..Listing::default()
    }
}

pub(super) fn on_its_card(card: Option<String>) -> Listing {
    let where_ = card.map_or_else(String::new, |card| format!(" It is here: {card}."));
    Listing::line(format!("This one is only decided where all of it can be seen: on its card.{where_}"))
}

pub(super) fn too_long(chars: usize, most: usize) -> Listing {
    Listing::line(format!("The note has {chars} characters; at most {most} are kept with a decision. Shorten it."))
}

pub(super) fn which_request(word: &str, prefix: &str) -> Listing {
    Listing {
        title: format!("Which request? Write `{prefix} {word} <id>`."),
        hint: format!("`{prefix} pending` lists those that wait for you."),
        ..Listing::default()
    }
}

pub(super) fn ambiguous_requests(text: &str, many: &[(ApprovalId, String)]) -> Listing {
    let rows = many.iter().take(MAX_ROWS).map(|(id, title)| Row {
        text: quote(title),
        detail: id.to_string(),
        ..Row::default()
    });
    Listing {
        title: format!("“{}” fits more than one request. Type more of the id.", quote(text)),
        rows: rows.collect(),
        ..Listing::default()
    }
}

pub(super) fn ambiguous_runs(text: &str, seen: &[Seen], asker: &Asker<'_>) -> Listing {
    let now = asker.now();
    let rows = seen.iter().take(MAX_ROWS).map(|seen| {
        let summary = crate::runtime::summary(&seen.thread);
        run_row(&summary, now, None)
    });
    Listing {
        title: format!("“{}” fits more than one run. Type more of the id.", quote(text)),
        rows: rows.collect(),
        ..Listing::default()
    }
}

// ---- runs ----

fn run_row(run: &Summary, now: Timestamp, link: Option<String>) -> Row {
    Row {
        text: if run.title.is_empty() { "(no words yet)".to_owned() } else { quote(&run.title) },
        detail: lines([
            status_words(run.status).to_owned(),
            quote(&run.agent),
            format!("changed {}", ago(run.updated_at, now)),
            format!("run {}", run.thread.short()),
        ]),
        link,
        ..Row::default()
    }
}

/// What was left out, below a list.
fn rest(more: usize, uncounted: bool, page: Option<&str>) -> String {
    let where_ = page.map_or_else(String::new, |page| format!(": {page}"));
    match (more, uncounted) {
        (0, false) => String::new(),
        (0, true) => format!("There may be more{where_}."),
        (n, false) => format!("And {n} more{where_}."),
        (n, true) => format!("And at least {n} more{where_}."),
    }
}

fn joined(hints: impl IntoIterator<Item = String>) -> String {
    hints.into_iter().filter(|hint| !hint.is_empty()).collect::<Vec<_>>().join(" ")
}

pub(super) fn no_runs(prefix: &str) -> Listing {
    Listing {
        title: "You have no runs yet.".to_owned(),
        hint: format!("Try: {}.", EXAMPLES.map(|task| format!("`{prefix} run {task}`")).join(" or ")),
        ..Listing::default()
    }
}

pub(super) fn runs(
    runs: &[Summary],
    more: bool,
    now: Timestamp,
    prefix: &str,
    link: impl Fn(&Summary) -> Option<String>,
) -> Listing {
    if runs.is_empty() {
        return no_runs(prefix);
    }
    Listing {
        title: "Your runs, last change first".to_owned(),
        rows: runs.iter().map(|run| run_row(run, now, link(run))).collect(),
        hint: joined([rest(0, more, None), format!("`{prefix} status <run>` says more about one.")]),
    }
}

/// When something last happened, as far as these events tell.
fn last(events: &[Event], wanted: impl Fn(&Body) -> bool) -> Option<Timestamp> {
    events.iter().rev().find(|event| wanted(&event.body)).map(|event| event.at)
}

/// One run: state, step, what it waits for, for whom, since when.
pub(super) fn run(
    thread: &Thread,
    events: &[Event],
    limits: Option<&Limits>,
    now: Timestamp,
    prefix: &str,
    link: impl Fn(Option<&Posting>) -> Option<String>,
) -> Listing {
    let status = thread.status();
    let step = thread.run.as_ref().map_or_else(String::new, |run| match limits {
        Some(limits) => format!("step {} of {}", run.steps, limits.max_steps),
        None => format!("step {}", run.steps),
    });
    let state = Row {
        text: state_sentence(status),
        detail: lines([
            quote(&thread.agent),
            step,
            format!("{} tokens", thread.tokens),
            format!("started {}", ago(thread.created_at, now)),
            format!("changed {}", ago(thread.updated_at, now)),
        ]),
        requesters: vec![thread.started_by.id.clone()],
        link: link(None),
        ..Row::default()
    };
    let mut rows = vec![state];
    if let Some(why) = &thread.paused {
        let at = last(events, |body| matches!(body, Body::Paused { .. }));
        rows.push(Row {
            text: if why.is_empty() { "Paused".to_owned() } else { format!("Paused: {}", quote(why)) },
            detail: lines([
                at.map_or_else(String::new, |at| since(at, now)),
                format!("`{prefix} resume {}`", thread.short),
            ]),
            ..Row::default()
        });
    }
    for approval in thread.pending_approvals() {
        let approved = approval.approved_by().len();
        let of = match approval.terms.approvers.quorum {
            0 | 1 => String::new(),
            n => format!("{approved} of {n} approved"),
        };
        rows.push(Row {
            text: format!("Waits for an approval: {}", quote(&approval.title)),
            detail: lines([
                since(approval.requested_at, now),
                expiry(approval.expires_at, now),
                of,
                format!("`{}`", approval.id),
            ]),
            requesters: Vec::new(),
            deciders: deciders(&approval.terms.approvers),
            link: link(Some(&Posting::Card { approval: approval.id })),
            approval: Some((approval.id, approval.digest.prefix())),
        });
    }
    for (id, question) in &thread.questions {
        let at = events.iter().find(|event| event.seq == id.seq).map(|event| event.at);
        rows.push(Row {
            text: format!("Waits for an answer: {}", quote(&question.text)),
            detail: lines([
                at.map_or_else(String::new, |at| since(at, now)),
                visible::composed(&how_to_answer(&question.answer)),
                format!("`{prefix} answer {id} <text>`"),
            ]),
            link: link(Some(&Posting::Question { question: *id })),
            ..Row::default()
        });
    }
    for (id, call) in &thread.calls {
        match &call.stage {
            Stage::Lost => {
                let at = last(events, |body| match body {
                    Body::OutcomeLost { call } | Body::ToolFinished { call, .. } => call == id,
                    _ => false,
                });
                rows.push(Row {
                    text: format!("Nobody knows how this ended: {}", quote(&call.gated.title)),
                    detail: lines([
                        at.map_or_else(String::new, |at| since(at, now)),
                        "somebody has to look, and say so on its card".to_owned(),
                    ]),
                    link: link(Some(&Posting::Unknown { call: *id })),
                    ..Row::default()
                });
            }
            Stage::Sleeping { until, .. } => {
                rows.push(Row { text: format!("Waits until {until}: {}", quote(&call.gated.title)), ..Row::default() })
            }
            Stage::Started => {
                let at = last(events, |body| matches!(body, Body::ToolStarted { call, .. } if call == id));
                rows.push(Row {
                    text: format!("Running: {}", quote(&call.gated.title)),
                    detail: at.map_or_else(String::new, |at| since(at, now)),
                    ..Row::default()
                });
            }
            Stage::Planning | Stage::Planned { .. } | Stage::Asking | Stage::Ready => {}
        }
    }
    if let Some(retry) = thread.model.retry_at {
        let wait = span::show(retry.ms_since(now));
        rows.push(Row {
            text: format!("The model did not answer; it is asked again in {wait}."),
            detail: count(thread.model.attempts as usize, "attempt so far"),
            ..Row::default()
        });
    }
    let more = rows.len().saturating_sub(MAX_ROWS);
    rows.truncate(MAX_ROWS);
    let title = if thread.title.is_empty() { "(no words yet)".to_owned() } else { quote(&thread.title) };
    let over = matches!(status, Status::Done | Status::Stopped | Status::Cancelled);
    let stop = if over { String::new() } else { format!("`{prefix} stop {}` stops it.", thread.short) };
    Listing {
        title: format!("Run {}: {title}", thread.short),
        rows,
        hint: joined([
            rest(more, false, None),
            stop,
            format!("`{prefix} history {}` says what happened.", thread.short),
        ]),
    }
}

/// `It waits for an approval.`
fn state_sentence(status: Status) -> String {
    match status {
        Status::WaitingApproval | Status::WaitingAnswer | Status::WaitingMark | Status::Sleeping => {
            format!("It {}.", status_words(status))
        }
        Status::Running | Status::Paused | Status::Done | Status::Stopped | Status::Cancelled => {
            format!("It is {}.", status_words(status))
        }
    }
}

pub(super) fn history(thread: &Thread, events: &[Event], now: Timestamp, link: Option<String>) -> Listing {
    let rows = events.iter().map(|event| Row {
        text: event_line(event),
        detail: format!("event {} · {}", event.seq, ago(event.at, now)),
        ..Row::default()
    });
    let earlier = thread.version.saturating_sub(events.len() as u64);
    let page = link.map_or_else(String::new, |link| format!(": {link}"));
    Listing {
        title: format!("Run {}: the last {}", thread.short, count(events.len(), "event")),
        rows: rows.collect(),
        hint: match earlier {
            0 => String::new(),
            n => format!("{} before that{page}.", count(n as usize, "event")),
        },
    }
}

// ---- steering ----

fn verb(what: Steer) -> &'static str {
    match what {
        Steer::Stop => "stop",
        Steer::Pause => "pause",
        Steer::Resume => "resume",
    }
}

pub(super) fn nothing_to_steer(what: Steer, status: Status) -> Listing {
    let state = state_sentence(status);
    Listing::line(match what {
        Steer::Stop => format!("There is nothing to stop. {state}"),
        Steer::Pause => format!("There is nothing to pause. {state}"),
        Steer::Resume => format!("There is nothing to resume: only what is paused goes on by it. {state}"),
    })
}

pub(super) fn no_run_to_steer(what: Steer, prefix: &str) -> Listing {
    let title = match what {
        Steer::Stop | Steer::Pause => "None of your runs is at work.",
        Steer::Resume => "None of your runs is paused.",
    };
    Listing {
        title: title.to_owned(),
        hint: format!(
            "`{prefix} status` lists yours. To {0} somebody else's, name it: `{prefix} {0} <run>`.",
            verb(what)
        ),
        ..Listing::default()
    }
}

pub(super) fn which_run(what: Steer, many: &[Summary], more: bool, now: Timestamp, prefix: &str) -> Listing {
    Listing {
        title: format!("Which one? Write `{prefix} {} <run>`; the first signs of its id are enough.", verb(what)),
        rows: many.iter().map(|run| run_row(run, now, None)).collect(),
        hint: rest(0, more, None),
    }
}

pub(super) fn not_theirs_to_steer(thread: &Thread, prefix: &str) -> Listing {
    Listing {
        title: format!(
            "You are asked to decide something in run {}, but it is not yours: who takes part in it can stop, pause and \
             resume it.",
            thread.short
        ),
        hint: format!("To keep something from happening, deny it: `{prefix} pending` lists what waits for you."),
        ..Listing::default()
    }
}

pub(super) fn not_theirs_to_read(prefix: &str) -> Listing {
    Listing {
        title: "You are asked to decide something in this run; what was said in it is for those who take part."
            .to_owned(),
        hint: format!("`{prefix} pending` shows what waits for you."),
        ..Listing::default()
    }
}

// ---- requests and questions ----

pub(super) fn pending(
    requests: &Requests,
    links: Vec<Option<String>>,
    all: bool,
    groups: &Groups,
    now: Timestamp,
    asker: &Asker<'_>,
) -> Listing {
    let trouble = groups.trouble.as_ref().map_or_else(String::new, |why| {
        format!(
            "I couldn't check which groups you are in ({}), so what waits for a group is not listed; its cards work.",
            quote(why)
        )
    });
    let damaged = match requests.damaged {
        0 => String::new(),
        n => format!("{} cannot be read; an operator can run `doctor`.", count(n, "request")),
    };
    let of_all = match is_ever_open_to_all(&asker.runtime.parts().policy) {
        true => "What everybody of a conversation may decide is shown there, and listed when you ask there.".to_owned(),
        false => String::new(),
    };
    let inbox = asker.page("inbox");
    let prefix = asker.prefix;
    if requests.rows.is_empty() {
        let title = if all { "No request is open that is yours to see." } else { "Nothing waits for you." };
        let examples = EXAMPLES.map(|task| format!("`{prefix} run {task}`")).join(" or ");
        let try_ = if trouble.is_empty() { format!("Try: {examples}.") } else { String::new() };
        let others = if all { String::new() } else { format!("`{prefix} pending all` shows what waits for others.") };
        return Listing {
            title: title.to_owned(),
            rows: Vec::new(),
            hint: joined([rest(0, requests.more, inbox.as_deref()), trouble, damaged, of_all, others, try_]),
        };
    }
    let rows = requests.rows.iter().zip(links).map(|(row, link)| pending_row(row, now, link)).collect::<Vec<_>>();
    let title = match (all, requests.total) {
        (true, n) => format!("{} to see", open_requests(n)),
        (false, 1) => "1 request waits for you".to_owned(),
        (false, n) => format!("{n} requests wait for you"),
    };
    let left = rest(requests.total - rows.len(), requests.more, inbox.as_deref());
    let how = if all {
        String::new()
    } else {
        format!("Or in words: `{prefix} approve <id>`, `{prefix} deny <id> <reason>`.")
    };
    Listing { title, rows, hint: joined([left, trouble, damaged, how, of_all]) }
}

fn open_requests(n: usize) -> String {
    if n == 1 { "1 open request".to_owned() } else { format!("{n} open requests") }
}

fn pending_row(row: &ApprovalRow, now: Timestamp, link: Option<String>) -> Row {
    Row {
        text: quote(&row.title),
        detail: lines([
            format!("{} risk", row.risk.word()),
            quote(&row.agent),
            format!("asked {}", ago(row.requested_at, now)),
            expiry(row.expires_at, now),
            format!("`{}`", row.id),
        ]),
        requesters: row.requesters.iter().map(|p| p.id.clone()).collect(),
        deciders: deciders(&row.approvers),
        link,
        approval: Some((row.id, row.digest.prefix())),
    }
}

pub(super) fn empty_answer(prefix: &str) -> Listing {
    Listing::line(format!("The answer is empty. Write `{prefix} answer <text>`, or `{prefix} answer <id> <text>`."))
}

pub(super) fn no_question() -> Listing {
    Listing::line("No question waits for your answer.")
}

pub(super) fn which_question(many: &[(QuestionId, Question)], prefix: &str) -> Listing {
    let rows = many.iter().take(MAX_NAMED).map(|(id, question)| Row {
        text: quote(&question.text),
        detail: lines([visible::composed(&how_to_answer(&question.answer)), format!("`{prefix} answer {id} <text>`")]),
        ..Row::default()
    });
    Listing {
        title: "More than one question is open. Name the one that you answer.".to_owned(),
        rows: rows.collect(),
        hint: rest(many.len().saturating_sub(MAX_NAMED), false, None),
    }
}

// ---- what there is ----

/// What gates, and who decides.
pub(super) fn rules(policy: &Policy, requester: RequesterRule, by: &Principal) -> Listing {
    let mut rows: Vec<Row> = policy.rules.iter().map(|rule| rule_row(rule, policy, requester, by)).collect();
    let more = rows.len().saturating_sub(MAX_ROWS - 3);
    rows.truncate(MAX_ROWS - 3);
    rows.push(Row {
        text: "Any other call with side effects asks first".to_owned(),
        detail: terms(&policy.approvers, policy.expires_after_ms, requester),
        deciders: deciders_for(&policy.approvers, by),
        ..Row::default()
    });
    rows.push(Row { text: "Any other call that only reads runs by itself".to_owned(), ..Row::default() });
    let safe = match policy.safe_after_untrusted.as_slice() {
        [] => "without exception".to_owned(),
        tools => format!("except {}", tools.iter().map(|t| format!("`{}`", quote(t))).collect::<Vec<_>>().join(", ")),
    };
    rows.push(Row {
        text: "Once a run has read text from outside, its calls with side effects ask first whatever the rules say"
            .to_owned(),
        detail: safe,
        ..Row::default()
    });
    Listing {
        title: "What asks first, and who decides. Of several rules the strictest holds.".to_owned(),
        rows,
        hint: joined([
            rest(more, false, None),
            "Nobody has been given a standing permission: every call that asks is decided for itself. Operators change \
             the rules in the configuration."
                .to_owned(),
        ]),
    }
}

fn rule_row(rule: &Rule, policy: &Policy, requester: RequesterRule, by: &Principal) -> Row {
    let tool = match rule.tool.as_str() {
        "*" => "Any tool".to_owned(),
        tool => format!("`{}`", quote(tool)),
    };
    let mut when = Vec::new();
    if rule.agent != "*" {
        when.push(format!("of the agent {}", quote(&rule.agent)));
    }
    match rule.risk {
        Some(Risk::High) => when.push("of high risk".to_owned()),
        Some(risk) => when.push(format!("of {} risk or higher", risk.word())),
        None => {}
    }
    for (argument, pattern) in &rule.args {
        when.push(format!("with {} matching `{}`", quote(argument), quote(&String::from(pattern.clone()))));
    }
    let does = match rule.gate {
        Gate::Auto => "runs by itself",
        Gate::Ask => "asks first",
        Gate::Deny => "is refused",
    };
    let subject = if when.is_empty() { tool } else { format!("{tool} {}", when.join(", ")) };
    let named = format!("rule {}", quote(&rule.name));
    match rule.gate {
        Gate::Ask => {
            let approvers = rule.approvers.as_ref().unwrap_or(&policy.approvers);
            let expires = rule.expires_after.unwrap_or(policy.expires_after_ms);
            Row {
                text: format!("{subject} {does}"),
                detail: lines([terms(approvers, expires, requester), named]),
                deciders: deciders_for(approvers, by),
                ..Row::default()
            }
        }
        Gate::Auto | Gate::Deny => {
            Row { text: format!("{subject} {does}"), detail: lines([quote(&rule.why), named]), ..Row::default() }
        }
    }
}

/// How many, within what time, and whether who asked may be one of them.
fn terms(approvers: &Approvers, expires_ms: u64, requester: RequesterRule) -> String {
    let own = match (approvers.requester_may, requester) {
        (Some(true), _) | (None, RequesterRule::Always) => "also the one who asked",
        (None, RequesterRule::Local) => "the one who asked only at this machine's own terminal",
        (Some(false), _) | (None, RequesterRule::Never) => "not the one who asked",
    };
    let needed = match approvers.quorum {
        0 | 1 => "1 person decides".to_owned(),
        n => format!("{n} people decide"),
    };
    lines([format!("{needed}, {own}"), format!("within {}", span::show(expires_ms))])
}

pub(super) fn agents(agents: &Agents, prefix: &str) -> Listing {
    let all: Vec<&Agent> = agents.iter().collect();
    let rows = all.iter().take(MAX_ROWS).map(|agent| Row {
        text: format!("{}: {}", quote(&agent.spec.name), quote(&agent.spec.description)),
        detail: match agent.spec.tools.as_slice() {
            [] => "no tools".to_owned(),
            tools => format!("tools: {}", visible::composed(&tools.join(", "))),
        },
        ..Row::default()
    });
    Listing {
        title: count(all.len(), "agent"),
        rows: rows.collect(),
        hint: joined([
            rest(all.len().saturating_sub(MAX_ROWS), false, None),
            format!("`{prefix} run <agent> <task>` starts one."),
        ]),
    }
}

pub(super) fn tools(tools: &[&ToolFacts], agents: &Agents, policy: &Policy) -> Listing {
    let rows = tools.iter().take(MAX_ROWS).map(|tool| {
        let users: Vec<&Agent> = agents.iter().filter(|a| a.spec.tools.contains(&tool.name)).collect();
        let mut gates: Vec<(PossibleGate, Vec<&str>)> = Vec::new();
        for agent in &users {
            let gate = effective_gate(&agent.spec, tool, policy);
            match gates.iter_mut().find(|(other, _)| *other == gate) {
                Some((_, names)) => names.push(&agent.spec.name),
                None => gates.push((gate, vec![&agent.spec.name])),
            }
        }
        let gate = match gates.as_slice() {
            [] => "no agent has it".to_owned(),
            [(gate, names)] => format!("{} ({})", gate_words(*gate), visible::composed(&names.join(", "))),
            many => {
                let each = many
                    .iter()
                    .map(|(gate, names)| format!("{} for {}", gate_words(*gate), visible::composed(&names.join(", "))));
                each.collect::<Vec<_>>().join("; ")
            }
        };
        Row {
            text: format!("{}: {}", quote(&tool.name), quote(&tool.description)),
            detail: lines([format!("{} risk", tool.risk.word()), gate]),
            ..Row::default()
        }
    });
    Listing {
        title: count(tools.len(), "tool"),
        rows: rows.collect(),
        hint: rest(tools.len().saturating_sub(MAX_ROWS), false, None),
    }
}

fn gate_words(gate: PossibleGate) -> &'static str {
    match gate {
        PossibleGate::Only(Gate::Auto) => "runs by itself",
        PossibleGate::Only(Gate::Ask) => "asks first",
        PossibleGate::Only(Gate::Deny) => "is refused",
        PossibleGate::Depends => "depends on the arguments",
    }
}

pub(super) fn help(prefix: &str, operator: bool, inbox: Option<String>) -> Listing {
    let mut table = vec![
        ("run <agent> <task>", "starts a run; without an agent's name, with the one of this place"),
        ("status <run>", "your runs, or one: its state, what it waits for"),
        ("pending all", "what waits for your decision, or all that you may see"),
        ("approve <id> <note>, deny <id> <reason>", "decides a request"),
        ("answer <id> <text>", "answers a question of the agent"),
        ("stop, pause, resume <run>", "ends a run before its next step, holds it, lets it go on"),
        ("history <run>", "what happened last"),
        ("rules, agents, tools", "what asks first and who decides; what there is"),
    ];
    if operator {
        table.push(("doctor", "checks this place: channel, permissions, connection"));
    }
    let rows = table.into_iter().map(|(word, does)| Row { text: format!("`{word}`: {does}"), ..Row::default() });
    let inbox = inbox.map_or_else(String::new, |inbox| format!("Everything that waits: {inbox}."));
    Listing {
        title: format!("Mention me with a task, or write `{prefix}` and a word. I ask before I act."),
        rows: rows.collect(),
        hint: joined([
            format!(
                "Parts like <run> can mostly be left out. In a thread, mention me with the word, like `stop`. Try: `{prefix} run {}`.",
                EXAMPLES[0]
            ),
            inbox,
        ]),
    }
}
