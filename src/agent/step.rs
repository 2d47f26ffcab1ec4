//! Deciding: an input and the present state become events.
//!
//! [`step`] is where judgement lives: is this click valid, does this call need people, is the budget
//! used up, has something expired. It is as pure as the fold: configuration ([`Rules`]), the time and
//! one random number come in as data, and what was decided goes out as events that are already folded
//! into the thread. The caller appends them with the version that the thread had before; if somebody
//! else was first, it throws the thread away, loads it again and decides again.
//!
//! After every input, [`due`] is asked until it is silent: what the new state calls for by itself
//! (an approval to be requested, resolved or expired, a question about a budget, a timer) becomes
//! part of the same append.

use serde_json::Value;

use super::approval::{Approval, ApprovalState, approval_digest};
use super::ballot::{Counted, as_approver, ballot};
use super::doubt::{Doubt, NOT_A_SECRET, Where};
use super::event::*;
use super::id::*;
use super::intent::{
    Attached, Gathered, Intent, MAX_GATHERED_BYTES, MAX_PASSAGES, Passage, attachable, bounded, passages,
};
use super::model::{Finish, ModelError, ModelErrorKind, ModelStamp, Usage};
use super::people::People;
use super::policy::{Policy, Verdict};
use super::refusal::Refusal;
use super::reply::{all_here, gate, next_step};
use super::secret::{SecretFilter, Suspect, removals};
use super::spec::AgentSpec;
use super::thread::{Call, Effect, Stage, Thread};
use super::tool::{Outcome, Plan, ToolFacts};
use super::untrusted::{Untrusted, one_line};
use super::window::{Compaction, WindowLimits};

/// What the operator wants, as of now.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub spec: &'a AgentSpec,
    pub policy: &'a Policy,
    pub requester: RequesterRule,
    /// Who is behind which identities.
    pub people: &'a People,
    pub secrets: &'a SecretFilter,
    pub window: WindowLimits,
    pub retry: Retry,
    /// Longest accepted message, in bytes.
    pub message_max_bytes: usize,
    /// Bytes that the agent's prompt and the declarations of its tools take in each request to the model.
    pub base_bytes: usize,
}

/// Whether the person who asked may approve, where a rule's approvers do not say so themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequesterRule {
    Never,
    /// Only a person at this machine's own terminal, who could change the store as well.
    Local,
    Always,
}

/// How often and when a failed attempt is made again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    pub max_attempts: u32,
    /// Wait after the first failure, in milliseconds; doubled each time.
    pub base_ms: u64,
    /// Longest wait, in milliseconds; also bounds what a provider may ask for, tenfold.
    pub cap_ms: u64,
}

impl Retry {
    /// The wait after `attempt` failures: half fixed, half random (`dice` in 0..1), so that many
    /// threads do not come back at the same moment. A provider's own wish is a lower bound.
    pub fn wait_ms(&self, attempt: u32, wish_ms: Option<u64>, dice: f64) -> u64 {
        let full = self.base_ms.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(self.cap_ms);
        let half = full / 2;
        let jitter = (half as f64 * dice.clamp(0.0, 1.0)) as u64;
        (half + jitter).max(wish_ms.unwrap_or(0).min(self.cap_ms.saturating_mul(10)))
    }
}

/// A call as a model (or a prefetch, or an edit) proposes it, after the registry has looked at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposed {
    pub tool: String,
    /// What the model wrote, for a call that is not valid.
    pub raw: String,
    pub checked: Result<Checked, String>,
}

/// A call whose tool exists and whose arguments are valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    pub facts: ToolFacts,
    pub args: Value,
    pub title: String,
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// A person, or a program with a token, says something. Starts the thread if it is vacant.
    Message {
        from: Principal,
        text: String,
        source: Option<String>,
        /// Where the text comes from if no person of ours wrote it (the payload of a webhook, say).
        outside: Option<String>,
        pushes: bool,
        prefetch: Vec<Proposed>,
        /// What belongs to it and has to be fetched.
        attached: Vec<Attached>,
        /// Texts from outside that come with it.
        context: Vec<Passage>,
    },
    /// What was attached to a message, or why it could not be read.
    Gathered {
        effect: EffectId,
        texts: Vec<Gathered>,
    },
    /// What somebody did in a chat surface, for a vacant log that is this intent's own.
    Intent {
        intent: Box<Intent>,
    },
    /// An intent was carried out or refused, and the person was told so.
    Handled {
        effect: EffectId,
        done: bool,
        said: String,
    },
    /// Another input, by the name that its sender gave to it: a second delivery changes nothing. For those
    /// that have no name of their own.
    Once {
        source: String,
        input: Box<Input>,
    },
    /// Another input, with what surfaces said right before of who is behind identities that the directory does not
    /// list itself ([`Principal::person`] of each).
    Known {
        people: Vec<Principal>,
        input: Box<Input>,
    },
    /// Starts a vacant thread as the fork of another.
    Fork {
        started: Box<Body>,
    },
    Replied {
        effect: EffectId,
        seen: u64,
        text: String,
        calls: Vec<Proposed>,
        finish: Finish,
        usage: Usage,
        model: ModelStamp,
        /// Bytes of the request: prompt, tools, window.
        sent: u64,
    },
    ModelFailed {
        effect: EffectId,
        error: ModelError,
    },
    Planned {
        effect: EffectId,
        plan: Result<Plan, String>,
    },
    /// May this call run now? Asked right before it would. `plan` is fresh if the tool plans and asks.
    Start {
        effect: EffectId,
        facts: ToolFacts,
        plan: Option<Result<Plan, String>>,
    },
    Finished {
        effect: EffectId,
        outcome: Outcome,
        duration_ms: u64,
    },
    /// The start is in the log, and nobody is running it.
    Lost {
        effect: EffectId,
    },
    /// `digest` is what the person's card showed: at least the 12 digits of [`Digest::prefix`].
    Vote {
        approval: ApprovalId,
        digest: String,
        by: Principal,
        groups: Vec<String>,
        vote: Ballot,
        source: Option<String>,
    },
    Answer {
        question: QuestionId,
        by: Principal,
        /// As the transport verified them; they count where the answer needs an approver.
        groups: Vec<String>,
        text: String,
        source: Option<String>,
    },
    Mark {
        call: CallId,
        by: Principal,
        groups: Vec<String>,
        mark: Mark,
    },
    Posted {
        effect: EffectId,
        reference: String,
    },
    PostFailed {
        effect: EffectId,
        error: String,
        transient: bool,
        retry_after_ms: Option<u64>,
    },
    Pause {
        by: Principal,
        why: String,
    },
    Resume {
        by: Principal,
    },
    Stop {
        by: Principal,
        why: String,
    },
    Cancel {
        by: Principal,
        why: String,
    },
    /// Time has passed.
    Tick,
}

impl Input {
    /// Stamps the person on whoever brought it, so that each event says who that was when it was decided.
    fn stamp(&mut self, people: &People) {
        match self {
            Input::Message { from, .. } => people.stamp(from),
            Input::Vote { by, .. }
            | Input::Answer { by, .. }
            | Input::Mark { by, .. }
            | Input::Pause { by, .. }
            | Input::Resume { by }
            | Input::Stop { by, .. }
            | Input::Cancel { by, .. } => people.stamp(by),
            Input::Intent { intent } => people.stamp(&mut intent.by),
            Input::Once { input, .. } | Input::Known { input, .. } => input.stamp(people),
            Input::Fork { started } => {
                if let Body::ThreadStarted { by, .. } = &mut **started {
                    people.stamp(by);
                }
            }
            Input::Gathered { texts, .. } => {
                texts.iter_mut().flat_map(|gathered| &mut gathered.by).for_each(|by| people.stamp(by));
            }
            Input::Handled { .. }
            | Input::Replied { .. }
            | Input::ModelFailed { .. }
            | Input::Planned { .. }
            | Input::Start { .. }
            | Input::Finished { .. }
            | Input::Lost { .. }
            | Input::Posted { .. }
            | Input::PostFailed { .. }
            | Input::Tick => {}
        }
    }
}

/// A person's decision as a surface hands it over.
#[derive(Clone, Debug, PartialEq)]
pub enum Ballot {
    Approve { note: String },
    Deny { reason: String },
    Edit { args: Box<Proposed> },
}

/// What the one who brought the input is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Accepted,
    /// It was delivered before; nothing changed.
    Duplicate,
    /// It came too late to matter (an answer to an effect that is no longer outstanding).
    Stale,
    /// The call may run, with exactly these arguments.
    Go {
        tool: String,
        args: Value,
    },
    Refused(Refusal),
}

/// Decides. The returned bytes are the encoded events, folded into `thread` already.
pub fn step(thread: &mut Thread, mut input: Input, rules: &Rules, now: Timestamp, dice: f64) -> (Vec<Vec<u8>>, Answer) {
    let known;
    let mut rules = *rules;
    if let Input::Known { people, input: inner } = input {
        known = rules.people.with(&people);
        rules.people = &known;
        input = *inner;
    }
    let rules = &rules;
    input.stamp(rules.people);
    // Clocks of two machines differ; a log's time never goes back, so what has expired by it stays so.
    let now = now.max(thread.updated_at);
    let mut log = Recorder { thread, now, source: None, events: Vec::new() };
    // What people said is not a secret passes in this thread.
    let letting = rules.secrets.letting(&log.thread.settled.passes);
    let rules = &Rules { secrets: &letting, ..*rules };
    // First what time alone has done: a vote after the expiry finds the request expired.
    log.settle(rules);
    let answer = log.decide(input, rules, dice);
    log.settle(rules);
    (log.events, answer)
}

/// Seals events into the chain and folds them.
struct Recorder<'t> {
    thread: &'t mut Thread,
    now: Timestamp,
    /// Of an [`Input::Once`]: the first event that comes of it carries it.
    source: Option<String>,
    events: Vec<Vec<u8>>,
}

impl Recorder<'_> {
    fn record(&mut self, body: Body) {
        self.record_with(None, None, body);
    }

    fn answer(&mut self, effect: EffectId, body: Body) {
        self.record_with(None, Some(effect), body);
    }

    fn record_with(&mut self, source: Option<String>, answers: Option<EffectId>, body: Body) {
        let event = Event {
            v: EVENT_VERSION,
            seq: self.thread.version + 1,
            at: self.now,
            source: source.or_else(|| self.source.take()),
            answers,
            prev: self.thread.head,
            body,
        };
        let bytes = event.encode();
        self.thread.apply(&event, Digest::of(&bytes));
        self.events.push(bytes);
    }

    fn settle(&mut self, rules: &Rules) {
        if self.thread.version == 0 {
            return;
        }
        while let Some(body) = due(self.thread, rules, self.now) {
            self.record(body);
        }
    }

    fn decide(&mut self, input: Input, rules: &Rules, dice: f64) -> Answer {
        let clean = |text: String| rules.secrets.clean(&text).into_owned();
        match input {
            Input::Message { from, text, source, outside, pushes, prefetch, attached, context } => {
                let outside = outside.map(|label| one_line(&rules.secrets.clean(&label)));
                self.message(from, &text, source, outside, pushes, prefetch, attached, context, rules)
            }
            Input::Gathered { effect, texts } => match self.thread.outstanding().get(&effect) {
                Some(Effect::Gather { message, .. }) => {
                    let message = *message;
                    self.answer(effect, Body::Gathered { message, texts: bounded(texts, rules.secrets) });
                    Answer::Accepted
                }
                Some(_) | None => Answer::Stale,
            },
            Input::Once { source, input } => {
                if self.is_duplicate(Some(&source)) {
                    return Answer::Duplicate;
                }
                self.source = Some(source);
                let answer = self.decide(*input, rules, dice);
                self.source = None;
                answer
            }
            // Taken apart before; one inside another says nothing more.
            Input::Known { input, .. } => self.decide(*input, rules, dice),
            Input::Intent { intent } => {
                if !self.thread.id.is_system() {
                    return Answer::Refused(Refusal::ThreadExists);
                }
                if self.thread.version > 0 {
                    return Answer::Duplicate;
                }
                let intent = intent.cleaned(rules.secrets);
                self.record(Body::IntentReceived { thread: self.thread.id.clone(), intent });
                Answer::Accepted
            }
            Input::Handled { effect, done, said } => match self.thread.outstanding().get(&effect) {
                Some(Effect::Handle) => {
                    self.answer(effect, Body::IntentHandled { done, said: clean(said) });
                    Answer::Accepted
                }
                Some(_) | None => Answer::Stale,
            },
            Input::Fork { started } => {
                // Nor is there anything to go on with in the record of an intent, on which no agent works.
                let of_no_agent = matches!(&*started, Body::ThreadStarted { agent, .. } if agent.is_empty());
                if self.thread.id.is_system() || of_no_agent {
                    return Answer::Refused(Refusal::NoConversation);
                }
                if self.thread.version > 0 || !matches!(*started, Body::ThreadStarted { .. }) {
                    return Answer::Refused(Refusal::ThreadExists);
                }
                self.record(*started);
                Answer::Accepted
            }
            Input::Replied { effect, seen, text, calls, finish, usage, model, sent } => {
                if self.thread.outstanding().get(&effect) != Some(&Effect::CallModel) {
                    return Answer::Stale;
                }
                let mut doubts = Vec::new();
                match next_step(self.thread, seen, &text, calls, finish, rules, &mut doubts) {
                    Ok((step, correction)) => {
                        let newer = self.thread.has_news_since(seen);
                        let question = match &step {
                            NextStep::Ask { text, answer, .. } if !newer => Some((text.clone(), answer.clone())),
                            NextStep::Ask { .. } | NextStep::Call { .. } | NextStep::Done { .. } => None,
                        };
                        self.answer(effect, Body::ModelReplied { seen, step, model, usage, sent, correction });
                        if let Some((text, answer)) = question {
                            self.ask(QuestionCause::Agent, text, answer);
                        }
                        self.raise(doubts);
                    }
                    Err(error) => self.model_failed(effect, &error, usage, rules, dice),
                }
                Answer::Accepted
            }
            Input::ModelFailed { effect, error } => {
                if self.thread.outstanding().get(&effect) != Some(&Effect::CallModel) {
                    return Answer::Stale;
                }
                self.model_failed(effect, &error, Usage::default(), rules, dice);
                Answer::Accepted
            }
            Input::Planned { effect, plan } => match self.thread.outstanding().get(&effect) {
                Some(Effect::PlanTool { call }) => {
                    let call = *call;
                    let (plan, doubt) = self.clean_plan(call, plan, rules);
                    self.answer(effect, Body::ToolPlanned { call, plan });
                    self.raise(doubt);
                    Answer::Accepted
                }
                Some(_) | None => Answer::Stale,
            },
            Input::Start { effect, facts, plan } => {
                let call = match self.thread.outstanding().get(&effect) {
                    Some(Effect::RunTool { call }) => *call,
                    Some(_) | None => return Answer::Stale,
                };
                let (plan, doubt) = plan.map(|plan| self.clean_plan(call, plan, rules)).unzip();
                let answer = self.start(effect, &facts, plan);
                if !self.thread.calls.contains_key(&call) {
                    self.raise(doubt.into_iter().flatten());
                }
                answer
            }
            Input::Finished { effect, outcome, duration_ms } => match self.thread.outstanding().get(&effect) {
                // What was never started cannot have taken effect; it can only have failed before.
                Some(Effect::RunTool { call })
                    if matches!(outcome, Outcome::Failed { .. })
                        || self
                            .thread
                            .calls
                            .get(call)
                            .is_some_and(|c| c.stage == Stage::Started || c.starts_unseen()) =>
                {
                    let call = *call;
                    self.answer(
                        effect,
                        Body::ToolFinished { call, outcome: clean_outcome(outcome, rules.secrets), duration_ms },
                    );
                    Answer::Accepted
                }
                Some(_) | None => Answer::Stale,
            },
            Input::Lost { effect } => match self.thread.outstanding().get(&effect) {
                Some(Effect::RunTool { call })
                    if self.thread.calls.get(call).is_some_and(|c| c.stage == Stage::Started) =>
                {
                    let call = *call;
                    self.answer(effect, Body::OutcomeLost { call });
                    Answer::Accepted
                }
                Some(_) | None => Answer::Stale,
            },
            Input::Vote { approval, digest, by, groups, vote, source } => {
                if self.is_duplicate(source.as_deref()) {
                    return Answer::Duplicate;
                }
                match ballot(self.thread, approval, &digest, &by, &groups, vote, rules) {
                    Ok(Counted { revision, named, vote }) => {
                        let cast = Body::VoteCast { approval, revision, by, groups, named, vote };
                        self.record_with(source, None, cast);
                        Answer::Accepted
                    }
                    Err(refusal) => {
                        if let Refusal::LooksSecret { suspects, .. } = &refusal {
                            self.doubt_edit(approval, suspects.clone());
                        }
                        Answer::Refused(refusal)
                    }
                }
            }
            Input::Answer { question, by, groups, text, source } => {
                if self.is_duplicate(source.as_deref()) {
                    return Answer::Duplicate;
                }
                self.human_answer(question, by, groups, &text, source, rules)
            }
            Input::Mark { call, by, groups, mark } => {
                if by.kind != PrincipalKind::Human {
                    return Answer::Refused(Refusal::NotAPerson);
                }
                let Some(state) = self.thread.calls.get(&call).filter(|c| c.stage == Stage::Lost) else {
                    return Answer::Refused(Refusal::NothingToMark);
                };
                // The truth may still be told of what had started; trying again would be a start.
                if self.thread.cancelled && mark == Mark::Retry {
                    return Answer::Refused(Refusal::Cancelled);
                }
                // Marking decides what the agent believes of a gated call: the approvers' business.
                if let Verdict::Ask { terms } = &state.gated.verdict
                    && as_approver(terms, &by, &groups, rules.people).is_none()
                {
                    return Answer::Refused(Refusal::NotAnApprover { waits_for: terms.approvers.describe() });
                }
                let mark = match mark {
                    Mark::Succeeded { note } => Mark::Succeeded { note: clean(note) },
                    Mark::Failed { note } => Mark::Failed { note: clean(note) },
                    Mark::Retry => Mark::Retry,
                };
                self.record(Body::OutcomeMarked { call, by, mark });
                Answer::Accepted
            }
            Input::Posted { effect, reference } => match self.thread.outstanding().get(&effect) {
                Some(Effect::Post { posting }) => {
                    let posting = posting.clone();
                    self.answer(effect, Body::Posted { posting, reference });
                    Answer::Accepted
                }
                Some(_) | None => Answer::Stale,
            },
            Input::PostFailed { effect, error, transient, retry_after_ms } => {
                let Some(Effect::Post { posting }) = self.thread.outstanding().get(&effect).cloned() else {
                    return Answer::Stale;
                };
                let attempt = self.thread.posts.get(&posting).map_or(0, |p| p.attempts) + 1;
                let again = transient && attempt < rules.retry.max_attempts;
                let retry_at = again.then(|| self.now.plus_ms(rules.retry.wait_ms(attempt, retry_after_ms, dice)));
                let error = rules.secrets.clean(&error).into_owned();
                self.answer(effect, Body::DeliveryFailed { posting, error, attempt, retry_at });
                Answer::Accepted
            }
            Input::Pause { by, why } => {
                self.control(Body::Paused { by, why: clean(why) }, |t| match (&t.paused, &t.run) {
                    (Some(_), _) => Some(Refusal::AlreadyPaused),
                    (None, None) => Some(Refusal::NothingRuns),
                    (None, Some(_)) => None,
                })
            }
            Input::Resume { by } => {
                self.control(Body::Resumed { by }, |t| if t.paused.is_some() { None } else { Some(Refusal::NotPaused) })
            }
            Input::Stop { by, why } => self.control(Body::Stopped { by, why: clean(why) }, |t| {
                if t.run.is_some() { None } else { Some(Refusal::NothingRuns) }
            }),
            Input::Cancel { by, why } => self.control(Body::Cancelled { by, why: clean(why) }, |_| None),
            Input::Tick => Answer::Accepted,
        }
    }

    fn is_duplicate(&self, source: Option<&str>) -> bool {
        source.is_some_and(|s| self.thread.knows_source(s))
    }

    fn control(&mut self, body: Body, refuse: impl Fn(&Thread) -> Option<Refusal>) -> Answer {
        if self.thread.version == 0 {
            return Answer::Refused(Refusal::NothingRuns);
        }
        if self.thread.cancelled {
            return Answer::Refused(Refusal::Cancelled);
        }
        match refuse(self.thread) {
            Some(refusal) => Answer::Refused(refusal),
            None => {
                self.record(body);
                Answer::Accepted
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one input")]
    fn message(
        &mut self,
        from: Principal,
        text: &str,
        source: Option<String>,
        outside: Option<String>,
        pushes: bool,
        prefetch: Vec<Proposed>,
        attached: Vec<Attached>,
        context: Vec<Passage>,
        rules: &Rules,
    ) -> Answer {
        // Also of a log that is vacant: no agent ever works where only the record of an intent belongs.
        if self.thread.id.is_system() {
            return Answer::Refused(Refusal::NoConversation);
        }
        if self.is_duplicate(source.as_deref()) {
            return Answer::Duplicate;
        }
        if self.thread.cancelled {
            return Answer::Refused(Refusal::Cancelled);
        }
        if text.trim().is_empty() {
            return Answer::Refused(Refusal::EmptyMessage);
        }
        if text.len() > rules.message_max_bytes {
            return Answer::Refused(Refusal::TooLong { bytes: text.len(), limit: rules.message_max_bytes });
        }
        if let Some(refusal) = refuse_context(&context) {
            return Answer::Refused(refusal);
        }
        let context = passages(context, rules.secrets);
        if self.thread.version == 0 {
            let started = Body::ThreadStarted {
                thread: self.thread.id.clone(),
                agent: rules.spec.name.clone(),
                by: from.clone(),
                pushes,
                parent: None,
                carried: Vec::new(),
                untrusted: Untrusted::default(),
                heard: Vec::new(),
            };
            self.record(started);
        }
        let starts_run = self.thread.run.is_none();
        // Calls that come along with a message are gated like those of a reply: by what is in the thread, and
        // in this very message, since their arguments may have been made from it.
        let mut doubts = Vec::new();
        let mut untrusted = self.thread.untrusted.clone();
        if let Some(label) = &outside {
            untrusted.add(self.thread.version + 1, label);
        }
        for passage in &context {
            untrusted.add(self.thread.version + 1, &passage.label);
        }
        let calls = if starts_run {
            let asked_here = all_here(self.thread.heard.everybody().chain([&from]));
            let settled = &self.thread.settled;
            prefetch.into_iter().map(|p| gate(p, asked_here, &untrusted, settled, rules, None, &mut doubts)).collect()
        } else {
            Vec::new()
        };
        let clean = rules.secrets.clean(text).into_owned();
        // What a person quotes from here was taken out before.
        let masked = removals(&clean).saturating_sub(removals(text)) as u32;
        let text = clean;
        let attached = attachable(attached, rules.secrets);
        let received = Body::MessageReceived { from, text, outside, prefetch: calls, attached, context, masked };
        self.record_with(source, None, received);
        self.raise(doubts);
        Answer::Accepted
    }

    fn human_answer(
        &mut self,
        question: QuestionId,
        by: Principal,
        groups: Vec<String>,
        text: &str,
        source: Option<String>,
        rules: &Rules,
    ) -> Answer {
        let Some(asked) = self.thread.questions.get(&question) else {
            return Answer::Refused(Refusal::NoSuchQuestion);
        };
        if by.kind != PrincipalKind::Human {
            return Answer::Refused(Refusal::NotAPerson);
        }
        if text.len() > rules.message_max_bytes {
            return Answer::Refused(Refusal::TooLong { bytes: text.len(), limit: rules.message_max_bytes });
        }
        let text = match (&asked.answer, text.trim()) {
            (_, "") => return Answer::Refused(Refusal::EmptyMessage),
            (AnswerKind::Text, text) => rules.secrets.clean(text).into_owned(),
            (AnswerKind::YesNo, text) => match text.to_lowercase().as_str() {
                "y" | "yes" => "yes".to_owned(),
                "n" | "no" => "no".to_owned(),
                _ => return Answer::Refused(Refusal::NotAChoice { choices: vec!["yes".into(), "no".into()] }),
            },
            (AnswerKind::Choice { choices }, text) => {
                let by_number = text.parse::<usize>().ok().and_then(|n| choices.get(n.checked_sub(1)?));
                match choices.iter().find(|c| c.eq_ignore_ascii_case(text)).or(by_number) {
                    Some(choice) => choice.clone(),
                    None => return Answer::Refused(Refusal::NotAChoice { choices: choices.clone() }),
                }
            }
        };
        let ends = asked.cause != QuestionCause::Agent && text == STOP;
        let (groups, named) = match &asked.cause {
            QuestionCause::LooksSecret { doubt } if text == NOT_A_SECRET => {
                match doubt.clears(&by, &groups, rules.people) {
                    Ok(named) => (groups, named),
                    Err(refusal) => return Answer::Refused(refusal),
                }
            }
            _ => (Vec::new(), None),
        };
        self.record_with(source, None, Body::QuestionAnswered { question, by: by.clone(), groups, named, text });
        if ends {
            self.record(Body::Stopped { by, why: "instead of going on".to_owned() });
        }
        Answer::Accepted
    }

    /// Asks people about values that look like secrets; once, however often they come.
    fn raise(&mut self, doubts: impl IntoIterator<Item = Doubt>) {
        for doubt in doubts {
            let is_open = self.thread.questions.values().any(|open| match &open.cause {
                QuestionCause::LooksSecret { doubt: other } => {
                    other.place == doubt.place && other.suspects == doubt.suspects
                }
                _ => false,
            });
            // After a stop nothing waits for the answer.
            if is_open || doubt.suspects.is_empty() || self.thread.run.is_none() {
                continue;
            }
            let doubt = match doubt.requesters.is_empty() {
                true => Doubt { requesters: self.thread.heard.everybody().cloned().collect(), ..doubt },
                false => doubt,
            };
            let text = doubt.question();
            self.ask(QuestionCause::LooksSecret { doubt: Box::new(doubt) }, text, Doubt::answers());
        }
    }

    /// The same for a person's change of a request.
    fn doubt_edit(&mut self, approval: ApprovalId, suspects: Vec<Suspect>) {
        let Some(request) = self.thread.approvals.get(&approval) else { return };
        let doubt = Doubt::new(&request.tool, Where::Edit, suspects, request.terms.clone());
        let requesters = request.requesters.clone();
        self.raise([Doubt { requesters, ..doubt }]);
    }

    /// A plan is shown and logged, and its digest is compared with a later one's: nothing in its facts can be blotted
    /// out, so a plan that rests on what looks like a secret is not one. People may say that it is none.
    fn clean_plan(
        &self,
        call: CallId,
        plan: Result<Plan, String>,
        rules: &Rules,
    ) -> (Result<Plan, String>, Vec<Doubt>) {
        let clean = |text: &str| rules.secrets.clean(text).into_owned();
        let Plan { summary, facts } = match plan {
            Ok(plan) => plan,
            Err(error) => return (Err(clean(&error)), Vec::new()),
        };
        let look = rules.secrets.look(&facts);
        if look.is_clear() {
            return (Ok(Plan { summary: clean(&summary), facts }), Vec::new());
        }
        let error = format!("not made: what it would do holds what looks like a secret: {}", look.describe());
        let Some(Call { gated, .. }) = self.thread.calls.get(&call).map(Box::as_ref) else {
            return (Err(error), Vec::new());
        };
        let doubt = match (&gated.verdict, look.configured.is_empty() && !self.thread.settled.knows_secret(&look)) {
            (Verdict::Ask { terms }, true) => Some(Doubt::new(&gated.tool, Where::Plan, look.suspects, terms.clone())),
            _ => None,
        };
        let asked =
            if doubt.is_some() { ". A person is asked whether it is one; you will be told the answer" } else { "" };
        (Err(format!("{error}{asked}")), doubt.into_iter().collect())
    }

    fn ask(&mut self, cause: QuestionCause, text: String, answer: AnswerKind) {
        let question = QuestionId::new(self.thread.short, self.thread.version + 1, 0);
        self.record(Body::QuestionAsked { question, cause, text, answer });
    }

    fn model_failed(&mut self, effect: EffectId, error: &ModelError, usage: Usage, rules: &Rules, dice: f64) {
        let attempt = self.thread.model.attempts + 1;
        let message = rules.secrets.clean(&error.message).into_owned();
        let (error, ceiling, retry_at) = match error.kind {
            ModelErrorKind::TooLong { limit, counted } => {
                let ceiling = ceiling(self.thread, rules, limit, counted);
                // Once, with less; after that a person has to say whether with still less.
                let again = !self.thread.model.shortened;
                (ModelErrorKind::Rejected, Some(ceiling), again.then_some(self.now))
            }
            kind => {
                let again = kind.is_transient() && attempt < rules.retry.max_attempts;
                let wait = rules.retry.wait_ms(attempt, error.retry_after_ms, dice);
                (kind, None, again.then(|| self.now.plus_ms(wait)))
            }
        };
        self.answer(effect, Body::ModelFailed { error, message, attempt, retry_at, usage, ceiling });
    }

    /// The gate, right before a call runs. Whatever is missing or different, it stays closed.
    fn start(&mut self, effect: EffectId, facts: &ToolFacts, plan: Option<Result<Plan, String>>) -> Answer {
        let Some(Effect::RunTool { call: id }) = self.thread.outstanding().get(&effect).cloned() else {
            return Answer::Stale;
        };
        if !self.thread.runnable().any(|(runnable, _)| runnable == effect) {
            return Answer::Stale;
        }
        let Some(call) = self.thread.calls.get(&id) else { return Answer::Stale };
        let go = Answer::Go { tool: call.gated.tool.clone(), args: call.gated.args.clone() };
        match (&call.stage, &call.gated.verdict) {
            // Started before, and declared safe to run again: then, and still.
            (Stage::Started, _) if facts.idempotent && call.gated.is_idempotent() => return go,
            (Stage::Ready, Verdict::Auto { .. }) => {
                if !call.starts_unseen() || !facts.idempotent {
                    self.record(Body::ToolStarted { effect, call: id, digest: None });
                }
                return go;
            }
            (Stage::Ready, Verdict::Ask { .. }) => {}
            (Stage::Ready, Verdict::Deny { .. } | Verdict::Invalid { .. } | Verdict::Held { .. }) => {
                return Answer::Stale;
            }
            (
                Stage::Started
                | Stage::Planning
                | Stage::Planned { .. }
                | Stage::Asking
                | Stage::Lost
                | Stage::Sleeping { .. },
                _,
            ) => {
                return Answer::Stale;
            }
        }
        let plan = match plan.transpose() {
            Ok(plan) => plan,
            Err(error) => {
                // What would run can no longer be said, so nothing runs.
                self.answer(effect, Body::ToolPlanned { call: id, plan: Err(error) });
                return Answer::Stale;
            }
        };
        let approval = call.approval.and_then(|a| self.thread.approvals.get(&a));
        let digest = approval_digest(
            &self.thread.id,
            id,
            &call.gated.tool,
            facts.schema_version,
            &call.gated.args,
            plan.as_ref(),
        );
        match approval.map_or(Clearance::Closed, |a| clearance(a, id, digest, self.now)) {
            Clearance::Cleared => {
                self.record(Body::ToolStarted { effect, call: id, digest: Some(digest) });
                go
            }
            Clearance::Stale(why) => {
                let why = match (approval.and_then(|a| a.plan.as_ref()), &plan) {
                    (Some(old), Some(new)) if old != new => {
                        format!("it was approved as \"{}\", now it is \"{}\"", old.summary, new.summary)
                    }
                    _ => why,
                };
                let request =
                    request_body(self.thread, id, plan, Because::Stale { why }, Some(facts.schema_version), self.now);
                if let Some(body) = request {
                    self.record(body);
                }
                Answer::Stale
            }
            Clearance::Closed => {
                // A fold never leads here; a log that does gets an end, not a loop.
                let outcome = Outcome::Failed { error: "not run: there is no valid approval for it".to_owned() };
                self.answer(effect, Body::ToolFinished { call: id, outcome, duration_ms: 0 });
                Answer::Stale
            }
        }
    }
}

/// What an approval is worth at the moment of the start.
#[derive(Clone, Debug, PartialEq)]
pub enum Clearance {
    Cleared,
    /// It was given, but not for this: ask again.
    Stale(String),
    /// It was not given, or was used.
    Closed,
}

/// Invariants 1 and 2, in one place: approved, by enough allowed people, unused, unexpired, and for
/// exactly what would run.
pub fn clearance(approval: &Approval, call: CallId, digest: Digest, now: Timestamp) -> Clearance {
    if approval.call != call || !matches!(approval.state, ApprovalState::Approved { .. }) || !approval.is_carried() {
        return Clearance::Closed;
    }
    if approval.digest != digest {
        return Clearance::Stale("what would run now is not what was approved".to_owned());
    }
    if now >= approval.expires_at {
        return Clearance::Stale("it was approved, but could not run before the approval expired".to_owned());
    }
    Clearance::Cleared
}

/// The answer that ends a run instead of continuing it.
pub const STOP: &str = "stop";
/// The answer that lets a run go on.
pub const GO_ON: &str = "go on";

/// What the state calls for by itself, one event at a time.
fn due(thread: &Thread, rules: &Rules, now: Timestamp) -> Option<Body> {
    due_approval(thread, now)
        .or_else(|| due_question(thread, rules))
        .or_else(|| due_timer(thread, now))
        .or_else(|| due_compaction(thread, rules))
}

/// Only for a model that is about to look: it costs as much as the window is long.
fn due_compaction(thread: &Thread, rules: &Rules) -> Option<Body> {
    if !thread.outstanding().values().any(|e| *e == Effect::CallModel) {
        return None;
    }
    let compaction = thread.window.compaction(&rules.window, rules.base_bytes, &thread.pending_calls())?;
    let Compaction { upto, summary, layout, cut } = compaction;
    Some(Body::Compacted { upto, summary, layout, cut })
}

/// Bytes that the next request may have after one that was too long for the model: as many as the provider's own
/// numbers allow, with a margin of a tenth, or half of what was sent. Less in any case, down to a bound.
fn ceiling(thread: &Thread, rules: &Rules, limit: Option<u64>, counted: Option<u64>) -> u64 {
    let sent = thread.window.bytes().saturating_add(rules.base_bytes) as u64;
    let half = (sent / 2).max(LEAST_CEILING);
    let Some(limit) = limit else { return half };
    // The reply needs its room as well, but never more than half of it all.
    let free = limit.saturating_sub(u64::from(rules.spec.limits.max_output_tokens)).max(limit / 2) / 10 * 9;
    // It had at least as many tokens as the model takes, whatever we had estimated.
    let tokens = counted.unwrap_or(limit).max(limit).max(thread.window.tokens(rules.base_bytes));
    let fits = u128::from(sent) * u128::from(free) / u128::from(tokens.max(1));
    u64::try_from(fits).unwrap_or(half).min(sent / 10 * 9).max(LEAST_CEILING)
}

/// Bytes below which no request is shortened: a model that cannot take these can answer nothing.
const LEAST_CEILING: u64 = 2_000;

/// Why texts from outside cannot come with a message.
pub fn refuse_context(context: &[Passage]) -> Option<Refusal> {
    let bytes = context.iter().map(|p| p.label.len() + p.text.len()).sum();
    if context.len() > MAX_PASSAGES || bytes > MAX_GATHERED_BYTES {
        let (max_texts, max_bytes) = (MAX_PASSAGES, MAX_GATHERED_BYTES);
        return Some(Refusal::ContextTooLong { texts: context.len(), bytes, max_texts, max_bytes });
    }
    let empty = context.iter().position(|p| p.label.trim().is_empty() || p.text.trim().is_empty())?;
    Some(Refusal::EmptyContext { number: empty + 1 })
}

fn due_approval(thread: &Thread, now: Timestamp) -> Option<Body> {
    for approval in thread.pending_approvals() {
        let resolution = if let Some(reason) = approval.denial() {
            Resolution::Denied { reason }
        } else if approval.is_carried() {
            Resolution::Approved
        } else if now >= approval.expires_at {
            Resolution::Expired
        } else {
            continue;
        };
        return Some(Body::ApprovalResolved { approval: approval.id, revision: approval.revision, resolution });
    }
    thread.calls.iter().find_map(|(id, call)| match &call.stage {
        Stage::Planned { plan, because } => request_body(thread, *id, plan.clone(), because.clone(), None, now),
        Stage::Planning | Stage::Asking | Stage::Ready | Stage::Started | Stage::Lost | Stage::Sleeping { .. } => None,
    })
}

/// The request to people for a call: a first revision, or the next.
fn request_body(
    thread: &Thread,
    id: CallId,
    plan: Option<Plan>,
    because: Because,
    schema_version: Option<u32>,
    now: Timestamp,
) -> Option<Body> {
    let call = thread.calls.get(&id)?;
    let Verdict::Ask { terms } = &call.gated.verdict else { return None };
    let before = call.approval.and_then(|a| thread.approvals.get(&a));
    let schema_version = schema_version.or(call.gated.facts.as_ref().map(|f| f.schema_version))?;
    Some(Body::ApprovalRequested {
        approval: before.map_or_else(|| ApprovalId::new(thread.short, thread.version + 1, 0), |b| b.id),
        call: id,
        revision: before.map_or(1, |b| b.revision + 1),
        because,
        title: call.gated.title.clone(),
        digest: approval_digest(&thread.id, id, &call.gated.tool, schema_version, &call.gated.args, plan.as_ref()),
        args: call.gated.args.clone(),
        plan,
        terms: terms.clone(),
        requesters: call.requesters.iter().map(|spoken| spoken.who.clone()).collect(),
        expires_at: now.plus_ms(terms.expires_after_ms),
    })
}

/// Budgets, repeated errors and a silent model end at a person.
fn due_question(thread: &Thread, rules: &Rules) -> Option<Body> {
    let run = thread.run.as_ref()?;
    if !thread.questions.is_empty() || !thread.calls.is_empty() {
        return None;
    }
    let limits = &rules.spec.limits;
    let (cause, text) = if let (Some(why), Some(bytes)) = (&thread.model.down, thread.model.ceiling) {
        let kb = bytes.div_ceil(1_000);
        let text = format!(
            "This conversation is too long for the model, also after I shortened what it reads ({why}). Your request is \
             kept. Should I go on with about {kb} kB of it? A new thread, a smaller file or a narrower question help; an \
             operator can set a model with a longer context, or a lower model.max_context_tokens."
        );
        (QuestionCause::ModelDown, text)
    } else if let Some(why) = &thread.model.down {
        (
            QuestionCause::ModelDown,
            match thread.model.attempts {
                1 => format!("The model did not answer ({why}). Your request is kept. Try again?"),
                n => format!("The model did not answer ({why}; asked {n} times). Your request is kept. Try again?"),
            },
        )
    } else if let Some((tool, failures)) = run.errors.iter().find(|(_, n)| **n >= limits.max_errors) {
        (
            QuestionCause::Errors { tool: tool.clone() },
            format!("{tool} failed {failures} times in a row. Should I go on?"),
        )
    } else if run.steps >= limits.max_steps {
        (QuestionCause::StepBudget, format!("I have taken {} steps without finishing. Should I go on?", run.steps))
    } else if run.tokens >= limits.max_tokens {
        (QuestionCause::TokenBudget, format!("I have used {} tokens without finishing. Should I go on?", run.tokens))
    } else {
        return None;
    };
    let question = QuestionId::new(thread.short, thread.version + 1, 0);
    let answer = AnswerKind::Choice { choices: vec![GO_ON.to_owned(), STOP.to_owned()] };
    Some(Body::QuestionAsked { question, cause, text, answer })
}

fn due_timer(thread: &Thread, now: Timestamp) -> Option<Body> {
    let posting = thread.posts.iter().find(|(_, p)| p.retry_at.is_some_and(|at| at <= now));
    if let Some((posting, _)) = posting {
        return Some(Body::TimerFired { timer: Timer::Post { posting: posting.clone() } });
    }
    if thread.paused.is_some() || thread.cancelled {
        return None;
    }
    if thread.model.retry_at.is_some_and(|at| at <= now) {
        return Some(Body::TimerFired { timer: Timer::Model });
    }
    thread.calls.iter().find_map(|(id, call)| match &call.stage {
        Stage::Sleeping { until, .. } if *until <= now => Some(Body::TimerFired { timer: Timer::Wake { call: *id } }),
        Stage::Sleeping { .. }
        | Stage::Planning
        | Stage::Planned { .. }
        | Stage::Asking
        | Stage::Ready
        | Stage::Started
        | Stage::Lost => None,
    })
}

fn clean_outcome(outcome: Outcome, secrets: &SecretFilter) -> Outcome {
    let clean = |text: String| secrets.clean(&text).into_owned();
    match outcome {
        Outcome::Succeeded { text } => Outcome::Succeeded { text: clean(text) },
        Outcome::Failed { error } => Outcome::Failed { error: clean(error) },
        Outcome::Suspended { until, text } => Outcome::Suspended { until, text: clean(text) },
        Outcome::Unknown { error } => Outcome::Unknown { error: clean(error) },
    }
}
