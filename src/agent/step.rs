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

use super::approval::{Approval, ApprovalState, approval_digest};
use super::ballot::{Counted, as_approver, ballot};
use super::doubt::{Doubt, NOT_A_SECRET, Where};
use super::due::{ceiling, due, request_body};
use super::event::*;
use super::id::*;
use super::input::*;
use super::intent::{Attached, Passage, attachable, bounded, passages, refuse_context};
use super::model::{ModelError, ModelErrorKind, Usage};
use super::policy::Verdict;
use super::refusal::Refusal;
use super::reply::{all_here, gate, next_step};
use super::secret::{SecretFilter, Suspect, removals};
use super::thread::{Call, Effect, Stage, Thread};
use super::tool::{Outcome, Plan, ToolFacts};
use super::untrusted::{Untrusted, one_line};

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
            v: body.version(),
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

fn clean_outcome(outcome: Outcome, secrets: &SecretFilter) -> Outcome {
    let clean = |text: String| secrets.clean(&text).into_owned();
    match outcome {
        Outcome::Succeeded { text } => Outcome::Succeeded { text: clean(text) },
        Outcome::Failed { error } => Outcome::Failed { error: clean(error) },
        Outcome::Suspended { until, text } => Outcome::Suspended { until, text: clean(text) },
        Outcome::Unknown { error } => Outcome::Unknown { error: clean(error) },
    }
}
