//! What pages show, as data: a conversation, its cards, the history of an approval. Pure functions of a
//! fold, its events, the person who looks, and the time.
//!
//! Templates escape what they are given. What is foreign is shown here by one of the views of
//! [`crate::agent::visible`]: strict on cards and in names, prose in what people and agents say.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::form::{self, Field};
use crate::agent::{
    AnswerKind, Approval, ApprovalId, Body, CallId, Effect, Event, GatedCall, Mark, NextStep, Outcome, People,
    Principal, PrincipalKind, Question, QuestionCause, QuestionId, Refusal, Resolution, Stage, Status, Thread, Timer,
    Timestamp, Verdict, Vote, Wants, as_approver, changed_args, eligible, span,
    visible::{self, composed, line, prose, text as strict},
};
use crate::config::Scope;
use crate::http::Caller;
use crate::platform::words::{act_words, gathered_words};
use crate::platform::{Card, CardState};
use crate::tools::Registry;

/// Who looks, and what is known besides the log.
pub struct Looks<'a> {
    pub caller: &'a Caller,
    pub people: &'a People,
    pub tools: &'a Registry,
    pub now: Timestamp,
}

/// A moment, for people and for the script that keeps its words true.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// RFC 3339.
    pub at: String,
    pub words: String,
    /// `ago` or `until`.
    pub kind: &'static str,
}

impl Moment {
    pub fn ago(at: Timestamp, now: Timestamp) -> Self {
        let words = match now.ms_since(at) {
            0..5_000 => "just now".to_owned(),
            ms => format!("{} ago", rough(ms)),
        };
        Self { at: at.to_string(), words, kind: "ago" }
    }

    pub fn until(at: Timestamp, now: Timestamp) -> Self {
        let words = if at > now { format!("in {}", rough(at.ms_since(now))) } else { "over".to_owned() };
        Self { at: at.to_string(), words, kind: "until" }
    }
}

/// The largest unit that fits, and minutes beside hours: `41s`, `3m`, `1h 59m`, `2d`.
fn rough(ms: u64) -> String {
    // Up to the next second: what was just asked with two hours says so.
    let s = ms.div_ceil(1_000);
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m", s / 60),
        3_600..86_400 => match s % 3_600 / 60 {
            0 => format!("{}h", s / 3_600),
            m => format!("{}h {m}m", s / 3_600),
        },
        _ => format!("{}d", s / 86_400),
    }
}

/// Labels of several, each harmless.
pub fn names<'a>(people: impl IntoIterator<Item = &'a Principal>) -> String {
    people.into_iter().map(|p| line(p.label())).collect::<Vec<_>>().join(", ")
}

// ---- cards ----

/// An approval as a card: everything that its digest covers, who may decide it, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct CardView {
    pub id: String,
    pub thread: String,
    pub call: String,
    pub revision: u32,
    pub digest: String,
    pub digest_prefix: String,
    /// `Approval needed`, without the title.
    pub state: String,
    pub title: String,
    /// `wait`, `busy`, `good`, `bad` or `rest`: the colour; the words say the same.
    pub tone: &'static str,
    pub agent: String,
    pub tool: String,
    pub schema_version: Option<u32>,
    pub risk: &'static str,
    pub requesters: String,
    pub approvers: String,
    pub rule: String,
    /// Name and value, all of it.
    pub args: Vec<(String, String)>,
    pub raw: String,
    pub plan: Option<String>,
    pub plan_facts: Vec<(String, String)>,
    /// The texts from outside that had been read when the call was made.
    pub after_reading: Option<String>,
    pub why: String,
    pub requested: Moment,
    pub expires: Moment,
    pub revision_note: Option<String>,
    /// Argument, first value, present value.
    pub changes: Vec<(String, String, String)>,
    pub votes: Vec<VoteView>,
    /// One line about what became of it.
    pub outcome: Option<String>,
    /// All of what the call gave back, if that is more than the line.
    pub result: Option<String>,
    /// Whether people can decide it now.
    pub open: bool,
    pub rights: Rights,
    pub form: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VoteView {
    pub who: String,
    pub what: &'static str,
    pub note: String,
    pub at: Moment,
}

/// What the person who looks may do, and why not more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rights {
    pub approve: bool,
    pub deny: bool,
    pub edit: bool,
    pub why_not: Option<String>,
}

/// The core's own predicate of a vote; it asks it again.
fn rights(thread: &Thread, approval: &Approval, looks: &Looks, editable: bool) -> Rights {
    if !approval.is_open() {
        return Rights::default();
    }
    let caller = looks.caller;
    if !caller.may(Scope::Approve) {
        return Rights { why_not: Some(Refusal::NotAPerson.to_string()), ..Rights::default() };
    }
    let may = |wants| eligible(thread, approval, &caller.principal, &caller.groups, wants, looks.people);
    let approve = may(Wants::Approve);
    Rights {
        approve: approve.is_ok(),
        deny: may(Wants::Deny).is_ok(),
        edit: editable && may(Wants::Edit).is_ok(),
        why_not: approve.err().map(|refusal| composed(&refusal.to_string())),
    }
}

/// The call that an approval is for, as it was proposed, and the agent's words about it.
fn proposed(events: &[Event], id: CallId) -> Option<(&GatedCall, &str)> {
    let event = events.iter().find(|event| event.seq == id.seq)?;
    let (calls, why) = match &event.body {
        Body::MessageReceived { prefetch, .. } => (prefetch, ""),
        Body::ModelReplied { step: NextStep::Call { calls, why }, .. } => (calls, why.as_str()),
        _ => return None,
    };
    calls.get(id.ord as usize).map(|call| (call, if id.ord == 0 { why } else { "" }))
}

pub fn card(thread: &Thread, approval: &Approval, events: &[Event], looks: &Looks) -> CardView {
    let card = Card::of(thread, approval);
    let said = proposed(events, approval.call);
    let gated = thread.calls.get(&approval.call).map(|call| &call.gated).or(said.map(|(call, _)| call));
    let tool = approval.tool.clone();
    let schema_version = gated.and_then(|call| call.facts.as_ref()).map(|facts| facts.schema_version);
    let why = if card.why.is_empty() { said.map_or("", |(_, why)| why) } else { &card.why };
    let rights = rights(thread, approval, looks, card.editable);
    let schema = looks.tools.decls(&[&tool]).into_iter().next().map(|decl| decl.schema);
    let result = approval.result.as_ref().map(|(_, text)| prose(text.trim()));
    let covered = json!({
        "tool": tool, "schema_version": schema_version, "args": approval.args, "plan": approval.plan,
        "thread": thread.id, "call": approval.call,
    });
    CardView {
        id: approval.id.to_string(),
        thread: thread.short.to_string(),
        call: approval.call.to_string(),
        revision: approval.revision,
        digest: approval.digest.to_string(),
        digest_prefix: approval.digest.prefix(),
        state: card.stands().to_owned(),
        title: line(&approval.title),
        tone: match &card.state {
            CardState::Pending { .. } => "wait",
            CardState::Revising | CardState::Approved | CardState::Running => "busy",
            CardState::Succeeded(_) => "good",
            CardState::Failed(_) | CardState::Unknown => "bad",
            CardState::Denied { .. } | CardState::Expired | CardState::Cancelled => "rest",
        },
        agent: line(&thread.agent),
        schema_version,
        risk: approval.terms.risk.word(),
        requesters: names(&approval.requesters),
        approvers: composed(&approval.terms.approvers.describe()),
        rule: line(&approval.terms.rule),
        args: pairs(&approval.args, "arguments"),
        raw: pretty(&covered),
        plan: approval.plan.as_ref().map(|plan| strict(&plan.summary)),
        plan_facts: match approval.plan.as_ref().map(|plan| &plan.facts) {
            None | Some(Value::Null) => Vec::new(),
            Some(facts) => pairs(facts, "facts"),
        },
        after_reading: card.after_reading.as_deref().map(composed),
        why: prose(why.trim()),
        requested: Moment::ago(approval.requested_at, looks.now),
        expires: Moment::until(approval.expires_at, looks.now),
        revision_note: card.revision_note().map(|note| composed(&note)),
        changes: approval.original_args.as_ref().map_or_else(Vec::new, |old| {
            let changed = changed_args(old, &approval.args).into_iter();
            changed.map(|(name, old, new)| (visible::key(&name), composed(&old), composed(&new))).collect()
        }),
        votes: approval
            .votes
            .iter()
            .map(|cast| VoteView {
                who: line(cast.by.label()),
                what: match &cast.vote {
                    Vote::Approve { .. } => "approved",
                    Vote::Deny { .. } => "denied",
                    Vote::Edit { .. } => "changed it",
                },
                note: match &cast.vote {
                    Vote::Approve { note } => strict(note),
                    Vote::Deny { reason } => strict(reason),
                    Vote::Edit { title, .. } => line(title),
                },
                at: Moment::ago(cast.at, looks.now),
            })
            .collect(),
        outcome: card.outcome().map(|outcome| composed(&outcome)),
        result: result.filter(|text| text.lines().count() > 1 || text.chars().count() > 200),
        open: approval.is_open(),
        form: match schema {
            Some(schema) if rights.edit => form::fields(&schema, &approval.args),
            Some(_) | None => Vec::new(),
        },
        rights,
        tool: line(&tool),
    }
}

/// Each member by name, all of it.
fn pairs(value: &Value, name: &str) -> Vec<(String, String)> {
    match value.as_object() {
        Some(map) => map.iter().map(|(name, value)| (visible::key(name), visible::value(value))).collect(),
        None => vec![(name.to_owned(), visible::value(value))],
    }
}

fn pretty(value: &Value) -> String {
    visible::json(value)
}

// ---- conversations ----

/// One thing in a conversation. Each has a key, by which the script tells what is new.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `outside`: where the text comes from, if no person of ours wrote it.
    Said {
        key: String,
        who: String,
        mine: bool,
        outside: Option<String>,
        text: String,
        at: Moment,
    },
    /// The agent's words: an answer, or (`aside`) what it says while it works.
    Agent {
        key: String,
        agent: String,
        text: String,
        aside: bool,
        at: Moment,
    },
    Step(StepView),
    Card(Box<CardView>),
    Question(QuestionView),
    Lost(LostView),
    Notice {
        key: String,
        text: String,
        tone: &'static str,
        at: Moment,
    },
}

/// A call that nobody had to decide.
#[derive(Clone, Debug, PartialEq)]
pub struct StepView {
    pub key: String,
    pub title: String,
    pub state: String,
    pub tone: &'static str,
    /// What it gave back.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct QuestionView {
    pub id: String,
    pub thread: String,
    pub text: String,
    pub from_engine: bool,
    /// Buttons: what each sends, and what it says; none: an answer in words.
    pub choices: Vec<(String, String)>,
    pub open: bool,
    /// Who answered, and what.
    pub answer: Option<(String, String)>,
    pub at: Moment,
}

/// A call that was started, and nobody can tell how it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct LostView {
    pub call: String,
    pub thread: String,
    pub title: String,
    pub waits_for: String,
    pub may: bool,
    pub cancelled: bool,
}

fn step(id: CallId, call: &GatedCall, state: &str, tone: &'static str, text: &str) -> Item {
    Item::Step(StepView {
        key: id.to_string(),
        title: line(&call.title),
        state: state.to_owned(),
        tone,
        text: prose(text.trim()),
    })
}

/// What the events tell, in their order; a card or question stands where it was first asked.
pub fn items(thread: &Thread, events: &[Event], looks: &Looks) -> Vec<Item> {
    let mut told = Told { thread, events, looks, items: Vec::new(), calls: HashMap::new(), questions: HashMap::new() };
    for event in events {
        told.tell(event);
    }
    told.items
}

struct Told<'a> {
    thread: &'a Thread,
    events: &'a [Event],
    looks: &'a Looks<'a>,
    items: Vec<Item>,
    /// Where each call stands in `items`.
    calls: HashMap<CallId, usize>,
    questions: HashMap<QuestionId, usize>,
}

impl Told<'_> {
    fn tell(&mut self, event: &Event) {
        let (seq, at) = (event.seq, Moment::ago(event.at, self.looks.now));
        let key = format!("e{seq}");
        let because = |text: String, why: &str| if why.is_empty() { text } else { format!("{text}: {}", strict(why)) };
        let notice = |text: String, tone| Item::Notice { key: key.clone(), text, tone, at: at.clone() };
        let agent = |text: &str, aside| Item::Agent {
            key: key.clone(),
            agent: line(&self.thread.agent),
            text: prose(text.trim()),
            aside,
            at: at.clone(),
        };
        match &event.body {
            Body::ThreadStarted { parent: Some(parent), .. } => {
                let text = format!("Goes on from {} after its event {}", parent.thread.short(), parent.seq);
                self.items.push(notice(text, "rest"));
            }
            Body::Gathered { texts, .. } if !texts.is_empty() => {
                self.items.push(notice(format!("Read along: {}", gathered_words(texts)), "rest"));
            }
            Body::IntentReceived { intent, .. } => {
                let text = format!("{} wants to {}", line(intent.by.label()), act_words(&intent.act));
                self.items.push(notice(text, "rest"));
            }
            Body::IntentHandled { done, said } => {
                let (what, tone) = if *done { ("Done", "good") } else { ("Refused", "bad") };
                self.items.push(notice(format!("{what}: {}", prose(said)), tone));
            }
            // What came with it is told when it has been read.
            Body::MessageReceived { from, text, prefetch, outside, context, attached: _, masked } => {
                let taken_out = (*masked > 0).then(|| Item::Notice {
                    key: format!("{key}-masked"),
                    text: crate::platform::masked_words(*masked),
                    tone: "rest",
                    at: at.clone(),
                });
                self.items.push(Item::Said {
                    key: key.clone(),
                    who: line(from.label()),
                    mine: *from == self.looks.caller.principal,
                    outside: outside.as_deref().map(line),
                    text: prose(text.trim()),
                    at: at.clone(),
                });
                self.items.extend(taken_out);
                if !context.is_empty() {
                    let names: Vec<String> = context.iter().map(|passage| line(&passage.label)).collect();
                    self.items.push(notice(format!("Handed over with it, from outside: {}", names.join("; ")), "rest"));
                }
                self.take_calls(seq, prefetch);
            }
            Body::ModelReplied { step: NextStep::Call { calls, why }, .. } => {
                let asks = calls.iter().any(|call| matches!(call.verdict, Verdict::Ask { .. }));
                // A card shows these words itself.
                if !asks && !why.trim().is_empty() {
                    self.items.push(agent(why, true));
                }
                self.take_calls(seq, calls);
            }
            Body::ModelReplied { step: NextStep::Ask { why, .. }, .. } if !why.trim().is_empty() => {
                self.items.push(agent(why, true));
            }
            Body::ModelReplied { step: NextStep::Done { .. }, correction, .. } if !correction.is_empty() => {
                let text = "The agent wrote a tool call as text instead of making it. Nothing was run; it was told so.";
                self.items.push(notice(text.to_owned(), "rest"));
            }
            Body::ModelReplied { step: NextStep::Done { text }, .. } => self.items.push(agent(text, false)),
            Body::ModelFailed { ceiling: Some(_), retry_at: Some(_), .. } => {
                let text = "The conversation is too long for the model; asking again with less of it.";
                self.items.push(notice(text.to_owned(), "rest"));
            }
            Body::ModelFailed { message, attempt, retry_at: Some(retry), .. } => {
                let wait = span::show(retry.ms_since(event.at));
                let text = format!(
                    "The model did not answer ({}); attempt {attempt}, trying again in {wait}. Your request is kept.",
                    line(message)
                );
                self.items.push(notice(text, "bad"));
            }
            Body::ToolPlanned { call, plan: Err(error) } => self.change(*call, "could not be prepared", "bad", error),
            Body::ApprovalRequested { approval, call, title, .. } => self.card(*approval, *call, title),
            Body::QuestionAsked { question, cause, text, answer } => {
                let asked = Question { cause: cause.clone(), text: text.clone(), answer: answer.clone() };
                self.questions.insert(*question, self.items.len());
                self.items.push(Item::Question(self.question(*question, &asked, at)));
            }
            Body::QuestionAnswered { question, by, text, .. } => {
                let place = self.questions.get(question).and_then(|place| self.items.get_mut(*place));
                if let Some(Item::Question(view)) = place {
                    view.answer = Some((line(by.label()), prose(text)));
                }
            }
            Body::ToolStarted { call, .. } => self.change(*call, "running…", "busy", ""),
            Body::ToolFinished { call, outcome, duration_ms } => {
                let took = span::show(*duration_ms);
                match outcome {
                    Outcome::Succeeded { text } => self.change(*call, &format!("ok in {took}"), "good", text),
                    Outcome::Failed { error } => self.change(*call, &format!("failed after {took}"), "bad", error),
                    Outcome::Suspended { until, .. } => {
                        self.change(*call, &format!("waits until {until}; nothing is held meanwhile"), "busy", "");
                    }
                    Outcome::Unknown { error } => {
                        self.change(*call, "nobody can tell how it ended", "bad", error);
                        self.lost(*call);
                    }
                }
            }
            Body::OutcomeLost { call } => {
                self.change(*call, "was started; nobody can tell how it ended", "bad", "");
                self.lost(*call);
            }
            Body::OutcomeMarked { by, mark, .. } => {
                let by = line(by.label());
                let text = match mark {
                    Mark::Succeeded { note } => because(format!("{by} says that it took effect"), note),
                    Mark::Failed { note } => because(format!("{by} says that it did not take effect"), note),
                    Mark::Retry => format!("{by} wants it tried again"),
                };
                self.items.push(notice(text, "rest"));
            }
            Body::TimerFired { timer: Timer::Wake { call } } => self.change(*call, "over", "good", ""),
            Body::Compacted { .. } => {
                let text = "Older parts of the conversation were shortened for the model".to_owned();
                self.items.push(notice(text, "rest"));
            }
            Body::Paused { by, why } => {
                self.items.push(notice(because(format!("Paused by {}", line(by.label())), why), "rest"));
            }
            Body::Resumed { by } => self.items.push(notice(format!("Resumed by {}", line(by.label())), "rest")),
            Body::Stopped { by, why } => {
                let text = format!("Stopped by {}; nothing more will run", line(by.label()));
                self.items.push(notice(because(text, why), "rest"));
            }
            Body::Cancelled { by, why } => {
                let text = format!("Cancelled by {}; this conversation is closed", line(by.label()));
                self.items.push(notice(because(text, why), "rest"));
            }
            // Votes and their outcome are on the card; what is left is the engine's own bookkeeping.
            _ => {}
        }
    }

    fn take_calls(&mut self, seq: u64, calls: &[GatedCall]) {
        for (ord, call) in (0..).zip(calls) {
            let id = CallId::new(self.thread.short, seq, ord);
            let stage = self.thread.calls.get(&id).map(|call| &call.stage);
            let item = match &call.verdict {
                Verdict::Auto { .. } => match stage {
                    Some(_) => step(id, call, "running…", "busy", ""),
                    None => step(id, call, "not run", "rest", ""),
                },
                Verdict::Ask { .. } => match stage {
                    Some(_) => step(id, call, "working out what it would do…", "busy", ""),
                    None => step(id, call, "not run", "rest", ""),
                },
                Verdict::Deny { rule, why } => step(id, call, "not allowed", "bad", &format!("{why} (rule {rule})")),
                Verdict::Invalid { error } => step(id, call, "this call cannot be made", "bad", error),
                Verdict::Held { why } => step(id, call, "held back", "rest", why),
            };
            self.calls.insert(id, self.items.len());
            self.items.push(item);
        }
    }

    fn change(&mut self, call: CallId, state: &str, tone: &'static str, text: &str) {
        let place = self.calls.get(&call).and_then(|place| self.items.get_mut(*place));
        if let Some(Item::Step(step)) = place {
            step.state = state.to_owned();
            step.tone = tone;
            step.text = prose(text.trim());
        }
    }

    fn card(&mut self, id: ApprovalId, call: CallId, title: &str) {
        let item = match self.thread.approvals.get(&id) {
            Some(approval) => Item::Card(Box::new(card(self.thread, approval, self.events, self.looks))),
            // So long ago that the fold has let go of it.
            None => Item::Step(StepView {
                key: id.to_string(),
                title: line(title),
                state: "was put before people".to_owned(),
                tone: "rest",
                text: String::new(),
            }),
        };
        match self.calls.get(&call).and_then(|place| self.items.get_mut(*place)) {
            Some(place) => *place = item,
            None => {
                self.calls.insert(call, self.items.len());
                self.items.push(item);
            }
        }
    }

    fn question(&self, id: QuestionId, asked: &Question, at: Moment) -> QuestionView {
        QuestionView {
            id: id.to_string(),
            thread: self.thread.short.to_string(),
            text: prose(asked.text.trim()),
            from_engine: asked.cause != QuestionCause::Agent,
            choices: match &asked.answer {
                AnswerKind::Text => Vec::new(),
                AnswerKind::YesNo => ["yes", "no"].map(|word| (word.to_owned(), word.to_owned())).to_vec(),
                AnswerKind::Choice { choices } => choices
                    .iter()
                    .enumerate()
                    .map(|(i, choice)| {
                        // A page carries nothing that it does not show: such a choice is sent as its number.
                        let number = (i + 1).to_string();
                        let by_number = prose(choice) != *choice && !choices.contains(&number);
                        (if by_number { number } else { choice.clone() }, line(choice))
                    })
                    .collect(),
            },
            open: self.thread.questions.contains_key(&id),
            answer: None,
            at,
        }
    }

    fn lost(&mut self, id: CallId) {
        let Some(call) = self.thread.calls.get(&id).filter(|call| call.stage == Stage::Lost) else { return };
        let caller = self.looks.caller;
        let (waits_for, may) = match &call.gated.verdict {
            Verdict::Ask { terms } => (
                terms.approvers.describe(),
                as_approver(terms, &caller.principal, &caller.groups, self.looks.people).is_some(),
            ),
            Verdict::Auto { .. } | Verdict::Deny { .. } | Verdict::Invalid { .. } | Verdict::Held { .. } => {
                ("anyone here".to_owned(), caller.principal.kind == PrincipalKind::Human)
            }
        };
        self.items.push(Item::Lost(LostView {
            call: id.to_string(),
            thread: self.thread.short.to_string(),
            title: line(&call.gated.title),
            waits_for: composed(&waits_for),
            may,
            cancelled: self.thread.cancelled,
        }));
    }
}

// ---- where a thread stands ----

/// A status as a chip: colour and words.
pub fn chip(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Running => ("busy", "at work"),
        Status::WaitingApproval => ("wait", "waits for a decision"),
        Status::WaitingAnswer => ("wait", "waits for an answer"),
        Status::WaitingMark => ("bad", "outcome unknown"),
        Status::Sleeping => ("busy", "sleeps"),
        Status::Paused => ("rest", "paused"),
        Status::Done => ("good", "done"),
        Status::Stopped => ("rest", "stopped"),
        Status::Cancelled => ("rest", "closed"),
    }
}

/// What is going on right now that no item tells.
pub fn activity(thread: &Thread, now: Timestamp) -> Option<String> {
    if let Some(retry) = thread.model.retry_at.filter(|_| thread.status() == Status::Running) {
        return Some(format!("The model is asked again {}", Moment::until(retry, now).words));
    }
    let thinks = thread.runnable().any(|(_, effect)| *effect == Effect::CallModel);
    thinks.then(|| format!("{} is thinking…", line(&thread.agent)))
}

/// A line of an approval's history: who, and what; `None` for events that are not about it.
pub fn history(id: ApprovalId, of: CallId, event: &Event) -> Option<String> {
    let because = |text: String, why: &str| if why.is_empty() { text } else { format!("{text}: {}", strict(why)) };
    let by = |who: &Principal| line(who.label());
    let line = match &event.body {
        Body::ApprovalRequested { approval, revision, title, .. } if *approval == id => {
            format!("put before people, revision {revision}: {}", line(title))
        }
        Body::VoteCast { approval, revision, by: who, vote, .. } if *approval == id => match vote {
            Vote::Approve { note } => because(format!("{} approved revision {revision}", by(who)), note),
            Vote::Deny { reason } => because(format!("{} denied revision {revision}", by(who)), reason),
            Vote::Edit { title, .. } => format!("{} changed revision {revision} to: {}", by(who), line(title)),
        },
        Body::ApprovalResolved { approval, revision, resolution } if *approval == id => match resolution {
            Resolution::Approved => format!("revision {revision} is approved"),
            Resolution::Denied { reason } => because(format!("revision {revision} is denied"), reason),
            Resolution::Expired => format!("revision {revision} expired, which counts as a denial"),
            Resolution::Cancelled => format!("revision {revision} is cancelled"),
        },
        Body::ToolPlanned { call, plan } if *call == of => match plan {
            Ok(plan) => format!("planned: {}", line(&plan.summary)),
            Err(error) => format!("could not be planned: {}", line(error)),
        },
        Body::ToolStarted { call, .. } if *call == of => "started".to_owned(),
        Body::ToolFinished { call, outcome, duration_ms } if *call == of => {
            let took = span::show(*duration_ms);
            match outcome {
                Outcome::Succeeded { .. } => format!("succeeded in {took}"),
                Outcome::Failed { .. } => format!("failed after {took}"),
                Outcome::Suspended { until, .. } => format!("waits until {until}"),
                Outcome::Unknown { .. } => format!("ended unknown after {took}"),
            }
        }
        Body::OutcomeLost { call } if *call == of => "was started, and nobody knows how it ended".to_owned(),
        Body::OutcomeMarked { call, by: who, mark } if *call == of => match mark {
            Mark::Succeeded { note } => because(format!("{} says that it took effect", by(who)), note),
            Mark::Failed { note } => because(format!("{} says that it did not take effect", by(who)), note),
            Mark::Retry => format!("{} wants it tried again", by(who)),
        },
        _ => return None,
    };
    Some(line)
}
