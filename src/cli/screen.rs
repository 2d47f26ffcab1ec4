//! What the terminal shows: cards, answers, questions, steps, as lines of text. Pure.
//!
//! Owns the words and the order of lines, and one promise: no text of a model, a tool or a person can
//! forge what the program itself says. A [`Line`] can only be made by one of the views of
//! [`crate::agent::visible`], strict but for answers and questions, and foreign text never starts a
//! line: it is indented, or it stands behind a label. It does not know where lines go; `chat` does.
//!
//! A card shows everything that the digest of its approval covers, however long: a terminal scrolls.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::agent::{
    AnswerKind, Body, CallId, Event, NextStep, Outcome, Plan, Principal, QuestionCause, Stage, Status, Thread,
    ThreadId, Timestamp, Verdict, Vote, span, visible,
};
use crate::platform::words::gathered_words;
use crate::platform::{Card, CardState, Outbound, how_to_answer};

/// How a line looks where colours are possible; its words alone say everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    Strong,
    Dim,
    Waiting,
    Good,
    Bad,
}

/// One line without anything that a terminal would act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    style: Style,
    text: String,
}

impl Line {
    /// In the strict view: line ends in `text` are written out like any other control character.
    pub fn new(style: Style, text: &str) -> Self {
        Self { style, text: visible::composed(text) }
    }

    /// A line that holds what was shown already: by the strict view as well, or in prose. A tab is four spaces.
    fn shown(style: Style, text: &str) -> Self {
        Self { style, text: visible::prose(text).replace('\t', "    ").replace('\n', " ") }
    }

    pub fn plain(text: &str) -> Self {
        Self::new(Style::Plain, text)
    }
}

/// The lines as one text, each with its line end.
pub fn render(lines: &[Line], colour: bool) -> String {
    let mut out = String::new();
    for Line { style, text } in lines {
        let code = match style {
            _ if !colour => "",
            Style::Plain => "",
            Style::Strong => "1",
            Style::Dim => "2",
            Style::Waiting => "1;33",
            Style::Good => "32",
            Style::Bad => "31",
        };
        let _ = if code.is_empty() { writeln!(out, "{text}") } else { writeln!(out, "\x1b[{code}m{text}\x1b[0m") };
    }
    out
}

/// Foreign prose behind a label; the lines after its first are indented.
pub fn prose(style: Style, label: &str, text: &str) -> Vec<Line> {
    behind(style, label, &visible::prose(text.trim_end()))
}

/// Why something was not done; others' words may be in it.
pub fn refused(text: &str) -> Vec<Line> {
    behind(Style::Bad, "", &visible::text(text.trim_end()))
}

/// What was shown already behind a label of ours.
fn behind(style: Style, label: &str, shown: &str) -> Vec<Line> {
    let mut lines = shown.split('\n');
    let words = label.trim_end_matches(' ');
    let gap = " ".repeat(label.len() - words.len());
    let first = format!("{}{gap}{}", visible::composed(words), lines.next().unwrap_or(""));
    let first = Line::shown(style, first.trim_end());
    std::iter::once(first).chain(lines.map(|line| Line::shown(style, format!("    {line}").trim_end()))).collect()
}

/// A posting as lines.
pub fn posting(outbound: &Outbound, now: Timestamp) -> Vec<Line> {
    match outbound {
        Outbound::Answer { agent, text } => prose(Style::Strong, &format!("{agent}: "), text),
        Outbound::Card(shown) => card(shown, now),
        Outbound::Question { id, question } => {
            let label = match question.cause {
                QuestionCause::Agent => "Question: ",
                QuestionCause::StepBudget
                | QuestionCause::TokenBudget
                | QuestionCause::Errors { .. }
                | QuestionCause::ModelDown
                | QuestionCause::LooksSecret { .. } => "Question (from the engine): ",
            };
            let mut lines = prose(Style::Waiting, label, &question.text);
            lines.push(Line::plain(&format!("  {}", how_to_answer(&question.answer))));
            lines.push(Line::new(Style::Dim, &format!("  {id}  type the answer, or /answer [id] <text>")));
            lines
        }
        Outbound::QuestionClosed { id } => vec![Line::new(Style::Dim, &format!("- no longer asked: {id}"))],
        Outbound::Unknown { call, title, waits_for } => vec![
            Line::new(Style::Bad, &format!("Result unknown: {title}")),
            Line::plain("  It was started, and nobody can tell how it ended. It is not run again by itself."),
            Line::plain(&format!("  Look for yourself, then mark it. It waits for: {waits_for}")),
            Line::new(Style::Dim, &format!("  {call}  /mark succeeded|failed|retry [note]")),
        ],
        Outbound::Notice { text } => behind(Style::Plain, "* ", &visible::text(text)),
    }
}

/// An approval in its present state.
pub fn card(card: &Card, now: Timestamp) -> Vec<Line> {
    let approval = &card.approval;
    let style = match &card.state {
        CardState::Pending { .. } => Style::Waiting,
        CardState::Approved | CardState::Running | CardState::Succeeded(_) => Style::Good,
        CardState::Failed(_) | CardState::Unknown => Style::Bad,
        CardState::Revising | CardState::Denied { .. } | CardState::Expired | CardState::Cancelled => Style::Dim,
    };
    let mut lines = vec![Line::new(style, &card.headline())];
    if matches!(card.state, CardState::Pending { .. }) {
        request(card, now, &mut lines);
        return lines;
    }
    // What was decided was shown in full when it was put before people; here follows what came of it.
    if card.state == CardState::Running {
        return vec![Line::new(Style::Dim, &format!("- running: {}", approval.title))];
    }
    // Also later: the card in between may never have been drawn, because it had moved on by then.
    if matches!(card.state, CardState::Approved | CardState::Succeeded(_) | CardState::Failed(_) | CardState::Unknown) {
        for cast in &approval.votes {
            if let Vote::Approve { note } = &cast.vote {
                let note = if note.is_empty() { String::new() } else { format!(": {note}") };
                lines.push(Line::plain(&format!("  approved by {}{note}", cast.by)));
            }
        }
    }
    if let Some(outcome) = card.outcome() {
        lines.push(Line::new(style, &format!("  {outcome}")));
    }
    lines.push(Line::new(Style::Dim, &format!("  {}  digest {}", approval.id, approval.digest.prefix())));
    lines
}

/// A request as it is shown where nothing can be typed: the same, without the commands of the chat.
pub fn request_lines(shown: &Card, now: Timestamp) -> Vec<Line> {
    let mut lines = card(shown, now);
    lines.pop();
    lines
}

/// Everything that a person needs to decide, and how to.
fn request(card: &Card, now: Timestamp, lines: &mut Vec<Line>) {
    let approval = &card.approval;
    let mut field = |name: &str, value: &str| lines.push(Line::plain(&format!("  {name:<13} {value}")));
    field("Agent", &card.agent);
    field("Risk", approval.terms.risk.word());
    field("Requested by", &people(&approval.requesters));
    field("Can approve", &approval.terms.approvers.describe());
    // Up to the next second: a card that is drawn a moment after it was asked with 2h says so.
    let left = approval.expires_at.ms_since(now).next_multiple_of(1000);
    field("Expires in", &format!("{} (at {}), which counts as a denial", span::show(left), approval.expires_at));
    field("Tool", &card.tool);
    for (name, value) in arguments(&approval.args) {
        field("", &format!("{name} = {value}"));
    }
    match &approval.plan {
        Some(Plan { summary, facts }) => {
            field("Plan", summary);
            if !facts.is_null() {
                field("", &format!("rests on {}", visible::inline(facts)));
            }
        }
        None => field("Plan", "none: this tool cannot say beforehand what it would do"),
    }
    // Before the agent's own words: they may be somebody else's.
    if let Some(texts) = &card.after_reading {
        lines.push(Line::new(Style::Waiting, &format!("  After reading {texts}")));
        lines.push(Line::plain("                That is text from outside. Did people here ask for this call?"));
    }
    if !card.why.trim().is_empty() {
        // Marked line by line: words of a model could look like another field of the card.
        lines.push(Line::plain("  Why, in the agent's words:"));
        let why = visible::prose(card.why.trim());
        lines.extend(why.lines().map(|line| Line::shown(Style::Plain, &format!("    | {line}"))));
    }
    if let Some(note) = card.revision_note() {
        lines.push(Line::new(Style::Waiting, &format!("  Revision {}: {note}", approval.revision)));
    }
    lines.extend(card.outcome().map(|outcome| Line::plain(&format!("  {outcome}"))));
    lines.push(Line::new(Style::Dim, &format!("  {}  digest {}", approval.id, approval.digest.prefix())));
    let edit = if card.editable { "   /edit name=value" } else { "" };
    lines.push(Line::new(Style::Strong, &format!("  /approve [note]   /deny [reason]{edit}   or y / n")));
}

fn people(people: &[Principal]) -> String {
    people.iter().map(Principal::label).collect::<Vec<_>>().join(", ")
}

/// Each argument by name, all of it.
fn arguments(args: &Value) -> Vec<(String, String)> {
    match args.as_object() {
        Some(map) if map.is_empty() => vec![("arguments".to_owned(), "none".to_owned())],
        Some(map) => map.iter().map(|(name, value)| (key(name), visible::inline(value))).collect(),
        None => vec![("arguments".to_owned(), visible::inline(args))],
    }
}

/// A name that cannot be taken for another, or for a value.
fn key(name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if plain { name.to_owned() } else { Value::from(name).to_string() }
}

/// A posting for a program: one object with everything that the lines say, and the lines.
pub fn posting_json(outbound: &Outbound, now: Timestamp) -> Value {
    let text = render(&posting(outbound, now), false);
    match outbound {
        Outbound::Answer { agent, text: answer } => {
            json!({"type": "answer", "agent": agent, "answer": answer, "text": text})
        }
        Outbound::Card(card) => {
            let mut object = approval_json(card);
            if let Some(map) = object.as_object_mut() {
                map.insert("type".to_owned(), "card".into());
                map.insert("text".to_owned(), text.into());
            }
            object
        }
        Outbound::Question { id, question } => json!({
            "type": "question", "id": id, "question": question.text, "answer": question.answer, "text": text,
        }),
        Outbound::QuestionClosed { id } => json!({"type": "question_closed", "id": id, "text": text}),
        Outbound::Unknown { call, title, waits_for } => {
            json!({"type": "unknown", "call": call, "title": title, "waits_for": waits_for, "text": text})
        }
        Outbound::Notice { text: notice } => json!({"type": "notice", "notice": notice, "text": text}),
    }
}

/// An approval for a program.
pub fn approval_json(card: &Card) -> Value {
    let approval = &card.approval;
    let state = match &card.state {
        CardState::Pending { .. } => "pending",
        CardState::Revising => "revising",
        CardState::Approved => "approved",
        CardState::Running => "running",
        CardState::Succeeded(_) => "succeeded",
        CardState::Failed(_) => "failed",
        CardState::Unknown => "unknown",
        CardState::Denied { .. } => "denied",
        CardState::Expired => "expired",
        CardState::Cancelled => "cancelled",
    };
    json!({
        "id": approval.id, "state": state, "revision": approval.revision, "digest": approval.digest,
        "title": approval.title, "headline": card.headline(), "agent": card.agent, "tool": card.tool,
        "args": approval.args, "plan": approval.plan, "why": card.why, "risk": approval.terms.risk,
        "can_approve": approval.terms.approvers.describe(), "votes": approval.votes.len(),
        "after_reading": card.after_reading, "revision_note": card.revision_note(), "outcome": card.outcome(), "expires_at": approval.expires_at,
    })
}

/// Tells events as short lines while they happen. What a posting says anyway is left out.
#[derive(Default)]
pub struct Steps {
    titles: HashMap<CallId, String>,
}

impl Steps {
    /// Takes over the calls that are open in a thread, so that their ends can be told.
    pub fn resume(&mut self, thread: &Thread) {
        let tellable = thread.calls.iter().filter(|(_, call)| call.approval.is_none());
        self.titles = tellable.map(|(id, call)| (*id, call.gated.title.clone())).collect();
    }

    /// The line about an event, if there is something to say.
    pub fn tell(&mut self, thread: crate::agent::ShortId, event: &Event) -> Vec<Line> {
        let step = |text: String| vec![Line::new(Style::Dim, &format!("- {text}"))];
        match &event.body {
            Body::MessageReceived { prefetch, .. } => {
                self.know(thread, event.seq, prefetch);
                Vec::new()
            }
            Body::ModelReplied { step: NextStep::Call { calls, why }, .. } => {
                self.know(thread, event.seq, calls);
                let asks = calls.iter().any(|c| matches!(c.verdict, Verdict::Ask { .. }));
                // A card shows these words itself.
                let mut lines = if asks || why.is_empty() { Vec::new() } else { prose(Style::Dim, "- ", why) };
                for call in calls {
                    match &call.verdict {
                        Verdict::Auto { .. } | Verdict::Ask { .. } => {}
                        Verdict::Deny { rule, why } => {
                            lines.extend(step(format!("{}: not allowed by the rule {rule}: {why}", call.title)));
                        }
                        Verdict::Invalid { error } => {
                            lines.extend(step(format!("{}: this call cannot be made: {error}", call.tool)));
                        }
                        Verdict::Held { why } => lines.extend(step(format!("{}: held back: {why}", call.title))),
                    }
                }
                lines
            }
            Body::ToolPlanned { call, plan: Err(error) } => {
                let title = self.titles.remove(call).unwrap_or_else(|| "the call".to_owned());
                step(format!("{title}: {error}"))
            }
            // From here on its card tells.
            Body::ApprovalRequested { call, .. } => {
                self.titles.remove(call);
                Vec::new()
            }
            Body::ToolFinished { call, outcome: Outcome::Suspended { until, .. }, .. } => match self.titles.get(call) {
                Some(title) => step(format!("{title} … until {until}; nothing is held meanwhile")),
                None => Vec::new(),
            },
            Body::ToolFinished { call, outcome, duration_ms } => {
                let Some(title) = self.titles.remove(call) else { return Vec::new() };
                let took = span::show(*duration_ms);
                step(match outcome {
                    Outcome::Succeeded { text } => format!("{title} … ok in {took}: {}", first_line(text)),
                    Outcome::Failed { error } => format!("{title} … failed after {took}: {}", first_line(error)),
                    Outcome::Unknown { error } => format!("{title} … ended nobody knows how: {}", first_line(error)),
                    Outcome::Suspended { text, .. } => format!("{title} … {}", first_line(text)),
                })
            }
            Body::TimerFired { timer: crate::agent::Timer::Wake { call } } => match self.titles.remove(call) {
                Some(title) => step(format!("{title} … over")),
                None => Vec::new(),
            },
            Body::TimerFired { timer: crate::agent::Timer::Model } => step("asking the model again".to_owned()),
            Body::Compacted { .. } => step("older parts of the conversation were shortened for the model".to_owned()),
            Body::Gathered { texts, .. } if !texts.is_empty() => {
                vec![Line::shown(Style::Dim, &format!("- read along: {}", gathered_words(texts)))]
            }
            Body::ThreadStarted { .. }
            | Body::Gathered { .. }
            | Body::ModelReplied { .. }
            | Body::ModelFailed { .. }
            | Body::ToolPlanned { .. }
            | Body::VoteCast { .. }
            | Body::ApprovalResolved { .. }
            | Body::QuestionAsked { .. }
            | Body::QuestionAnswered { .. }
            | Body::ToolStarted { .. }
            | Body::OutcomeLost { .. }
            | Body::OutcomeMarked { .. }
            | Body::TimerFired { .. }
            | Body::Posted { .. }
            | Body::DeliveryFailed { .. }
            | Body::Paused { .. }
            | Body::Resumed { .. }
            | Body::Stopped { .. }
            | Body::Cancelled { .. }
            | Body::IntentReceived { .. }
            | Body::IntentHandled { .. } => Vec::new(),
        }
    }

    fn know(&mut self, thread: crate::agent::ShortId, seq: u64, calls: &[crate::agent::GatedCall]) {
        for (ord, call) in (0..).zip(calls) {
            self.titles.insert(CallId::new(thread, seq, ord), call.title.clone());
        }
    }
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or("")
}

/// Where a thread stands, in one sentence.
pub fn standing(thread: &Thread) -> String {
    match thread.status() {
        Status::Running => match thread.model.retry_at {
            Some(at) => format!("waits for the model, which is asked again at {at}"),
            None => "is at work".to_owned(),
        },
        Status::WaitingApproval => "waits for a decision".to_owned(),
        Status::WaitingAnswer => "waits for an answer".to_owned(),
        Status::WaitingMark => "waits until somebody says how a call ended".to_owned(),
        Status::Sleeping => {
            let until = thread.calls.values().filter_map(|call| match &call.stage {
                Stage::Sleeping { until, .. } => Some(*until),
                Stage::Planning | Stage::Planned { .. } | Stage::Asking | Stage::Ready | Stage::Started => None,
                Stage::Lost => None,
            });
            until.min().map_or_else(|| "sleeps".to_owned(), |at| format!("sleeps until {at}"))
        }
        Status::Paused => "is paused; /resume lets it go on".to_owned(),
        Status::Done => "is done; a message starts the next run".to_owned(),
        Status::Stopped => "was stopped; a message starts the next run".to_owned(),
        Status::Cancelled => "was cancelled; nothing runs here any more".to_owned(),
    }
}

/// For `/status`: where the thread stands and what waits.
pub fn status(thread: &Thread) -> Vec<Line> {
    let mut lines = vec![
        Line::plain(&format!("{} ({}): {}", thread.id, thread.agent, standing(thread))),
        Line::new(Style::Dim, &format!("  {} events, {} tokens", thread.version, thread.tokens)),
    ];
    lines.extend(waiting(thread));
    lines
}

/// What waits for people, a line each.
pub fn waiting(thread: &Thread) -> Vec<Line> {
    let approvals = thread.pending_approvals().map(|a| format!("  {}  {}", a.id, a.title));
    let questions = thread.questions.iter().map(|(id, q)| format!("  {id}  {}", first_line(&q.text)));
    let lost = thread.calls.iter().filter(|(_, c)| c.stage == Stage::Lost);
    let lost = lost.map(|(id, c)| format!("  {id}  result unknown: {}", c.gated.title));
    approvals.chain(questions).chain(lost).map(|text| Line::plain(&text)).collect()
}

/// What is said on leaving: what still waits, and how to come back.
pub fn farewell(thread: Option<&Thread>) -> Vec<Line> {
    let Some(thread) = thread else { return vec![Line::plain("Nothing was said, so nothing was kept.")] };
    let mut lines = Vec::new();
    let open = waiting(thread);
    if !open.is_empty() {
        lines.push(Line::plain("Still waiting, and kept:"));
        lines.extend(open);
        lines.push(Line::plain("See all that waits:   twelve approvals list"));
    } else if !matches!(thread.status(), Status::Done | Status::Stopped | Status::Cancelled) {
        lines.push(Line::plain(&format!("The thread {}.", standing(thread))));
    }
    lines.push(Line::plain(&format!("Come back with:   {}", come_back(&thread.agent, &thread.id))));
    lines
}

/// The command that goes on with a thread.
pub fn come_back(agent: &str, thread: &ThreadId) -> String {
    format!("twelve chat {agent} --thread {thread}")
}

/// For `/history`: one event, short.
pub fn history_line(event: &Event) -> Line {
    let about = match &event.body {
        Body::MessageReceived { from, text, outside: None, .. } => format!("{from}: {}", first_line(text)),
        Body::MessageReceived { from, text, outside: Some(label), .. } => {
            format!("{from} passed on, from outside ({label}): {}", first_line(text))
        }
        Body::ModelReplied { step: NextStep::Done { text }, correction, .. } => match correction.is_empty() {
            true => first_line(text).to_owned(),
            false => format!("a call or a block written as text; nothing ran: {}", first_line(text)),
        },
        Body::ModelReplied { step: NextStep::Ask { text, .. }, .. } => first_line(text).to_owned(),
        Body::ModelReplied { step: NextStep::Call { calls, .. }, .. } => {
            calls.iter().map(|c| c.title.as_str()).collect::<Vec<_>>().join("; ")
        }
        Body::ModelFailed { message, attempt, .. } => format!("attempt {attempt}: {message}"),
        Body::ToolPlanned { plan: Ok(plan), .. } => plan.summary.clone(),
        Body::ToolPlanned { plan: Err(error), .. } => error.clone(),
        Body::ApprovalRequested { title, revision, .. } => format!("revision {revision}: {title}"),
        Body::VoteCast { by, vote, .. } => match vote {
            Vote::Approve { note } => format!("{by} approves {note}"),
            Vote::Deny { reason } => format!("{by} denies {reason}"),
            Vote::Edit { title, .. } => format!("{by} changes it to: {title}"),
        },
        Body::QuestionAsked { text, .. } => first_line(text).to_owned(),
        Body::QuestionAnswered { by, text, .. } => format!("{by}: {}", first_line(text)),
        Body::ToolFinished { outcome, .. } => match outcome {
            Outcome::Succeeded { text } | Outcome::Suspended { text, .. } => first_line(text).to_owned(),
            Outcome::Failed { error } | Outcome::Unknown { error } => first_line(error).to_owned(),
        },
        Body::Paused { by, why } | Body::Stopped { by, why } | Body::Cancelled { by, why } => format!("{by} {why}"),
        Body::Gathered { texts, .. } => texts.iter().map(|g| g.label.as_str()).collect::<Vec<_>>().join("; "),
        Body::IntentReceived { intent, .. } => format!("{}: {}", intent.by, intent.act.name()),
        Body::IntentHandled { said, .. } => first_line(said).to_owned(),
        Body::Resumed { by } | Body::OutcomeMarked { by, .. } => by.to_string(),
        Body::ThreadStarted { agent, by, .. } => format!("{agent}, by {by}"),
        Body::ApprovalResolved { .. }
        | Body::ToolStarted { .. }
        | Body::OutcomeLost { .. }
        | Body::TimerFired { .. }
        | Body::Posted { .. }
        | Body::DeliveryFailed { .. }
        | Body::Compacted { .. } => String::new(),
    };
    Line::plain(format!("  {:>4}  {}  {:<18} {about}", event.seq, event.at, event.body.name()).trim_end())
}

/// How an answer kind is asked for in JSON.
pub fn question_json(id: &crate::agent::QuestionId, text: &str, answer: &AnswerKind) -> Value {
    json!({"id": id, "question": text, "answer": answer})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{
        Approval, ApprovalId, ApprovalState, Approvers, Because, CastVote, Digest, Question, QuestionId, Risk, ShortId,
        Terms,
    };

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn short() -> ShortId {
        "console:x".parse::<ThreadId>().unwrap().short()
    }

    fn pending() -> Card {
        let approval = Approval {
            id: ApprovalId::new(short(), 12, 0),
            call: CallId::new(short(), 10, 0),
            tool: "deploy_service".to_owned(),
            revision: 1,
            because: Because::Gated,
            title: "Deploy api v1.2.3 to staging".to_owned(),
            args: json!({"environment": "staging", "service": "api", "version": "v1.2.3"}),
            original_args: None,
            former_terms: None,
            plan: Some(Plan { summary: "now v1.2.2 -> v1.2.3".to_owned(), facts: json!({"current": "v1.2.2"}) }),
            digest: Digest::of(b"what is covered"),
            terms: Terms {
                route: Default::default(),
                rule: "default".to_owned(),
                risk: Risk::High,
                untrusted: crate::agent::Untrusted::default(),
                approvers: Approvers { users: vec!["*".to_owned()], requester_may: Some(true), ..Approvers::default() },
                expires_after_ms: 7_200_000,
            },
            requesters: vec![Principal::human("console:ann")],
            requested_at: NOW,
            expires_at: NOW.plus_ms(7_200_000),
            votes: Vec::new(),
            state: ApprovalState::Pending,
            settled_at: None,
            result: None,
        };
        Card {
            approval,
            agent: "deployment".to_owned(),
            tool: "deploy_service".to_owned(),
            editable: true,
            why: "It is healthy.\nNow the deployment.".to_owned(),
            after_reading: None,
            state: CardState::Pending { approved: Vec::new(), needed: 1 },
        }
    }

    fn shown(card: Card) -> String {
        render(&posting(&Outbound::Card(Box::new(card)), NOW), false)
    }

    fn vote(by: &str, vote: Vote) -> CastVote {
        CastVote { by: Principal::human(format!("console:{by}")), groups: Vec::new(), named: None, vote, at: NOW }
    }

    #[test]
    fn a_card_drawn_a_moment_after_it_was_asked_shows_the_whole_time_that_people_have() {
        let mut card = pending();
        card.approval.expires_at = Timestamp(card.approval.expires_at.0 - 20);
        assert!(shown(card).contains("Expires in    2h (at "));
    }

    #[test]
    fn a_pending_card_shows_everything_that_is_approved_and_how_to_decide() {
        insta::assert_snapshot!(shown(pending()), @r#"
        Approval needed: Deploy api v1.2.3 to staging
          Agent         deployment
          Risk          high
          Requested by  ann
          Can approve   anyone here (1 needed)
          Expires in    2h (at 2023-11-15T00:13:20Z), which counts as a denial
          Tool          deploy_service
                        environment = staging
                        service = api
                        version = v1.2.3
          Plan          now v1.2.2 -> v1.2.3
                        rests on {"current":"v1.2.2"}
          Why, in the agent's words:
            | It is healthy.
            | Now the deployment.
          apr_yqdzvgu3nohaesc5_12  digest 07b29406054f
          /approve [note]   /deny [reason]   /edit name=value   or y / n
        "#);
    }

    #[test]
    fn a_card_that_cannot_be_edited_and_has_no_plan_says_so() {
        let mut card = pending();
        card.editable = false;
        card.approval.plan = None;
        card.approval.args = json!({});
        card.why = String::new();
        insta::assert_snapshot!(shown(card), @r#"
        Approval needed: Deploy api v1.2.3 to staging
          Agent         deployment
          Risk          high
          Requested by  ann
          Can approve   anyone here (1 needed)
          Expires in    2h (at 2023-11-15T00:13:20Z), which counts as a denial
          Tool          deploy_service
                        arguments = none
          Plan          none: this tool cannot say beforehand what it would do
          apr_yqdzvgu3nohaesc5_12  digest 07b29406054f
          /approve [note]   /deny [reason]   or y / n
        "#);
    }

    #[test]
    fn a_card_says_what_had_been_read_before_the_agent_speaks_for_itself() {
        let mut card = pending();
        card.after_reading = Some("Fetch https://a.example; Ticket 12\u{202e}; Ticket 13".to_owned());
        let text = shown(card);
        let from = text.find("  After").unwrap();
        insta::assert_snapshot!(text[from..], @r#"
        After reading Fetch https://a.example; Ticket 12\u{202e}; Ticket 13
                      That is text from outside. Did people here ask for this call?
        Why, in the agent's words:
          | It is healthy.
          | Now the deployment.
        apr_yqdzvgu3nohaesc5_12  digest 07b29406054f
        /approve [note]   /deny [reason]   /edit name=value   or y / n
        "#);
    }

    #[test]
    fn an_edited_card_shows_old_and_new() {
        let mut card = pending();
        card.approval.revision = 2;
        card.approval.because = Because::Edited { by: Principal::human("console:bob") };
        card.approval.original_args = Some(json!({"environment": "staging", "service": "api", "version": "v1.2.4"}));
        let text = shown(card);
        let line = text.lines().find(|line| line.contains("Revision")).unwrap();
        assert_eq!(line, "  Revision 2: changed by bob: version: v1.2.4 -> v1.2.3");
    }

    #[test]
    fn a_card_that_is_asked_again_says_why() {
        let mut card = pending();
        card.approval.revision = 3;
        card.approval.because = Because::Stale { why: "the plan changed".to_owned() };
        let stale = shown(card.clone());
        assert!(stale.contains("  Revision 3: asked again: the plan changed\n"), "{stale}");
        card.approval.because = Because::Retried { by: Principal::human("console:bob") };
        let retried = shown(card);
        assert!(retried.contains("  Revision 3: asked again: bob wants it tried once more\n"), "{retried}");
    }

    #[test]
    fn votes_that_are_in_are_shown_while_more_are_needed() {
        let mut card = pending();
        card.state = CardState::Pending { approved: vec![Principal::human("console:bob")], needed: 2 };
        let text = shown(card);
        assert!(text.contains("  1 of 2 approved: bob\n"), "{text}");
        assert!(text.contains("/approve"), "still open: {text}");
    }

    #[test]
    fn a_settled_card_says_what_came_of_it_and_offers_nothing() {
        let states = [
            (CardState::Revising, vec![]),
            (CardState::Approved, vec![vote("bob", Vote::Approve { note: "looks good".into() })]),
            (CardState::Running, vec![]),
            (CardState::Succeeded("api staging: v1.2.2 -> v1.2.3\nand more".into()), vec![]),
            (CardState::Failed("no answer".into()), vec![]),
            (CardState::Unknown, vec![]),
            (CardState::Denied { by: "bob".into(), reason: "not on a Friday".into() }, vec![]),
            (CardState::Expired, vec![]),
            (CardState::Cancelled, vec![]),
        ];
        let mut all = String::new();
        for (state, votes) in states {
            let mut card = pending();
            card.state = state;
            card.approval.votes = votes;
            all += &shown(card);
        }
        assert!(!all.contains("/approve"));
        insta::assert_snapshot!(all, @r#"
        Being changed: Deploy api v1.2.3 to staging
          a new revision is on its way
          apr_yqdzvgu3nohaesc5_12  digest 07b29406054f
        Approved: Deploy api v1.2.3 to staging
          approved by bob: looks good
          apr_yqdzvgu3nohaesc5_12  digest 07b29406054f
        - running: Deploy api v1.2.3 to staging
        Approved: Deploy api v1.2.3 to staging
          succeeded: api staging: v1.2.2 -> v1.2.3
          apr_yqdzvgu3nohaesc5_12  digest 07b29406054f
        Approved: Deploy api v1.2.3 to staging
          failed: no answer
          apr_yqdzvgu3nohaesc5_12  digest 07b29406054f
        Approved: Deploy api v1.2.3 to staging
          result unknown: it was started, and nobody can tell how it ended
          apr_yqdzvgu3nohaesc5_12  digest 07b29406054f
        Denied: Deploy api v1.2.3 to staging
          denied by bob: not on a Friday
          apr_yqdzvgu3nohaesc5_12  digest 07b29406054f
        Expired: Deploy api v1.2.3 to staging
          nobody answered in time, which counts as a denial
          apr_yqdzvgu3nohaesc5_12  digest 07b29406054f
        Cancelled: Deploy api v1.2.3 to staging
          nothing will run
          apr_yqdzvgu3nohaesc5_12  digest 07b29406054f
        "#);
    }

    #[test]
    fn long_arguments_are_shown_to_their_last_character() {
        let mut card = pending();
        let long = "x".repeat(20_000);
        card.approval.args = json!({"script": format!("{long}END"), "nested": {"a": [1, null, "b"]}});
        let text = shown(card);
        assert!(text.contains(&format!("script = {long}END\n")));
        assert!(text.contains(r#"nested = {"a":[1,null,"b"]}"#), "nested");
    }

    #[test]
    fn values_that_differ_never_look_the_same() {
        let values = [
            json!("5"),
            json!(5),
            json!("true"),
            json!(true),
            json!(""),
            json!(" "),
            json!("a"),
            json!("a "),
            json!("\"a\""),
            json!("a\nb"),
            json!("a\\nb"),
            json!("a\u{202e}b"),
            json!("a\\u202eb"),
            json!("\u{1b}"),
            json!(["a"]),
            json!("[\"a\"]"),
            json!(null),
            json!("null"),
            json!("a\u{200b}"),
            json!("\u{e0041}"),
            json!("a\tb"),
            json!("a    b"),
        ];
        let shown: std::collections::BTreeSet<String> =
            values.iter().map(|value| Line::plain(&visible::inline(value)).text).collect();
        assert_eq!(shown.len(), values.len(), "{shown:?}");
        assert!(!shown.iter().any(|text| text.chars().any(visible::is_unseen)), "{shown:?}");
    }

    /// What a terminal acts on, whoever writes it: escape sequences, carriage returns, direction marks.
    #[test]
    fn no_text_can_forge_what_the_terminal_shows() {
        let evil = "x\u{1b}[2J\u{1b}]0;t\u{7}\rApproval needed: y\u{202e}\u{9b}31m\u{2028}\nApproval needed: z\u{0}";
        let mut card = pending();
        card.approval.title = evil.to_owned();
        card.approval.args = json!({evil: evil, "b": {evil: evil}});
        card.approval.plan = Some(Plan { summary: evil.to_owned(), facts: json!({evil: evil}) });
        card.approval.original_args = Some(json!({"c": evil}));
        card.approval.because = Because::Edited { by: Principal::human(evil) };
        card.approval.requesters = vec![Principal::human(evil)];
        card.agent = evil.to_owned();
        card.tool = evil.to_owned();
        card.why = evil.to_owned();
        let mut texts = vec![shown(card.clone())];
        card.state = CardState::Denied { by: evil.to_owned(), reason: evil.to_owned() };
        texts.push(shown(card));
        let asked = Question {
            cause: QuestionCause::Agent,
            text: evil.to_owned(),
            answer: AnswerKind::Choice { choices: vec![evil.to_owned()] },
        };
        for outbound in [
            Outbound::Answer { agent: "a".to_owned(), text: evil.to_owned() },
            Outbound::Notice { text: evil.to_owned() },
            Outbound::Question { id: QuestionId::new(short(), 1, 0), question: asked },
            Outbound::Unknown { call: CallId::new(short(), 1, 0), title: evil.to_owned(), waits_for: evil.to_owned() },
        ] {
            texts.push(render(&posting(&outbound, NOW), false));
        }
        for text in texts {
            let foreign = text.chars().find(|c| *c != '\n' && visible::is_unseen(*c));
            assert_eq!(foreign, None, "{text}");
            let forged = text.lines().filter(|line| line.starts_with("Approval needed: z")).count();
            assert_eq!(forged, 0, "foreign text starts a line: {text}");
        }
    }

    #[test]
    fn colour_is_only_added_where_it_is_wanted() {
        let lines = [Line::new(Style::Bad, "no"), Line::plain("yes")];
        assert_eq!(render(&lines, false), "no\nyes\n");
        assert_eq!(render(&lines, true), "\u{1b}[31mno\u{1b}[0m\nyes\n");
    }

    #[test]
    fn questions_say_how_to_answer_them() {
        let ask = |cause, answer| {
            let question = Question { cause, text: "Where to?".to_owned(), answer };
            render(&posting(&Outbound::Question { id: QuestionId::new(short(), 7, 0), question }, NOW), false)
        };
        let choices = vec!["staging".to_owned(), "production".to_owned()];
        let all = [
            ask(QuestionCause::Agent, AnswerKind::Choice { choices }),
            ask(QuestionCause::StepBudget, AnswerKind::YesNo),
            ask(QuestionCause::Agent, AnswerKind::Text),
        ];
        insta::assert_snapshot!(all.concat(), @r#"
        Question: Where to?
          1) staging  2) production
          q_yqdzvgu3nohaesc5_7  type the answer, or /answer [id] <text>
        Question (from the engine): Where to?
          yes or no
          q_yqdzvgu3nohaesc5_7  type the answer, or /answer [id] <text>
        Question: Where to?
          answer in your own words
          q_yqdzvgu3nohaesc5_7  type the answer, or /answer [id] <text>
        "#);
    }

    #[test]
    fn an_unknown_outcome_says_what_to_do() {
        let call = CallId::new(short(), 10, 0);
        let unknown = Outbound::Unknown { call, title: "Deploy api".to_owned(), waits_for: "anyone here".to_owned() };
        insta::assert_snapshot!(render(&posting(&unknown, NOW), false), @r#"
        Result unknown: Deploy api
          It was started, and nobody can tell how it ended. It is not run again by itself.
          Look for yourself, then mark it. It waits for: anyone here
          call_yqdzvgu3nohaesc5_10  /mark succeeded|failed|retry [note]
        "#);
    }

    #[test]
    fn steps_are_told_once_and_a_card_tells_its_own() {
        let event = |seq: u64, body: Body| Event {
            v: crate::agent::EVENT_VERSION,
            seq,
            at: NOW,
            source: None,
            answers: None,
            prev: Digest::ZERO,
            body,
        };
        let call = |title: &str, verdict: Verdict| crate::agent::GatedCall {
            tool: "tool".to_owned(),
            args: json!({}),
            title: title.to_owned(),
            facts: None,
            verdict,
        };
        let auto = || Verdict::Auto { rule: "default".to_owned() };
        let terms = pending().approval.terms;
        let mut steps = Steps::default();
        let mut told = Vec::new();
        let reply = NextStep::Call {
            calls: vec![
                call("Check api", auto()),
                call("Wait 5s", auto()),
                call("Drop all", Verdict::Deny { rule: "never".to_owned(), why: "no".to_owned() }),
            ],
            why: "I look.\nThen I wait.".to_owned(),
        };
        let stamp =
            || crate::agent::ModelStamp { provider: "p".to_owned(), model: "m".to_owned(), prompt: "0".to_owned() };
        let usage = crate::agent::Usage::default();
        let replied =
            |step| Body::ModelReplied { seen: 1, step, model: stamp(), usage, sent: 0, correction: String::new() };
        let asks =
            NextStep::Call { calls: vec![call("Deploy", Verdict::Ask { terms })], why: "on the card".to_owned() };
        let finished =
            |seq, ord, outcome| Body::ToolFinished { call: CallId::new(short(), seq, ord), outcome, duration_ms: 12 };
        let ok = || Outcome::Succeeded { text: "healthy\nmore".to_owned() };
        let until = Timestamp(1_700_000_005_000);
        for (seq, body) in (2..).zip([
            replied(reply),
            finished(2, 0, ok()),
            finished(2, 0, ok()),
            finished(2, 1, Outcome::Suspended { until, text: "slept".to_owned() }),
            Body::TimerFired { timer: crate::agent::Timer::Wake { call: CallId::new(short(), 2, 1) } },
            replied(asks),
            Body::ToolPlanned { call: CallId::new(short(), 7, 0), plan: Err("locked".to_owned()) },
        ]) {
            told.extend(steps.tell(short(), &event(seq, body)));
        }
        insta::assert_snapshot!(render(&told, false), @r#"
        - I look.
            Then I wait.
        - Drop all: not allowed by the rule never: no
        - Check api … ok in 12ms: healthy
        - Wait 5s … until 2023-11-14T22:13:25Z; nothing is held meanwhile
        - Wait 5s … over
        - Deploy: locked
        "#);
    }
}
