//! One line in the log for each decision, refusal and effect, whichever surface it came by.
//!
//! A line names the approval, the thread, the person, the surface, the rule and the outcome, as far as there are
//! any. It never holds what was said, arguments, titles, results or the words of an error: those are in the event log,
//! which has its own readers.

use tracing::Level;

use super::count::rule_label;
use crate::agent::*;

/// What one line says. What is not there is left out.
#[derive(Default)]
struct Line<'a> {
    says: &'static str,
    approval: Option<ApprovalId>,
    question: Option<QuestionId>,
    call: Option<CallId>,
    tool: Option<&'a str>,
    person: Option<&'a Principal>,
    rule: Option<&'a str>,
    outcome: Option<&'a str>,
    revision: Option<u32>,
    duration_ms: Option<u64>,
}

impl<'a> Line<'a> {
    fn new(says: &'static str) -> Self {
        Self { says, ..Self::default() }
    }

    /// What is known of a call: its tool, its rule, its approval.
    fn of_call(mut self, thread: &'a Thread, before: &'a Before, id: CallId) -> Self {
        self.call = Some(id);
        if let Some(call) = thread.calls.get(&id) {
            self.tool = tool(&call.gated);
            self.rule = rule(&call.gated.verdict);
            self.approval = call.approval;
        } else if let Some(call) = before.calls.iter().find(|call| call.id == id) {
            // The fold lets go of what has ended.
            self.tool = call.tool.as_deref();
            self.rule = call.rule.as_deref();
            self.approval = call.approval;
        }
        self
    }

    fn of_approval(mut self, thread: &'a Thread, id: ApprovalId) -> Self {
        self.approval = Some(id);
        if let Some(approval) = thread.approvals.get(&id) {
            self.call = Some(approval.call);
            self.tool = Some(&approval.tool);
            self.rule = Some(rule_label(&approval.terms.rule));
        }
        self
    }

    fn by(self, person: &'a Principal) -> Self {
        Self { person: Some(person), ..self }
    }

    fn outcome(self, outcome: &'a str) -> Self {
        Self { outcome: Some(outcome), ..self }
    }

    fn write(self, thread: &Thread) {
        let Line { says, approval, question, call, tool, person, rule, outcome, revision, duration_ms } = self;
        tracing::info!(
            thread.id = %thread.id.short(),
            agent.name = (!thread.agent.is_empty()).then_some(thread.agent.as_str()),
            approval.id = approval.map(display),
            approval.revision = revision,
            question.id = question.map(display),
            call.id = call.map(display),
            tool.name = tool,
            person.id = person.map(|person| person.id.as_str()),
            person.surface = person.map(Principal::surface),
            rule,
            outcome,
            duration_ms,
            "{says}"
        );
    }
}

/// A tool that exists: what a model made up is its words.
fn tool(call: &GatedCall) -> Option<&str> {
    call.facts.as_ref().map(|_| call.tool.as_str())
}

fn rule(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Auto { rule } | Verdict::Deny { rule, .. } => Some(rule_label(rule)),
        Verdict::Ask { terms } => Some(rule_label(&terms.rule)),
        Verdict::Invalid { .. } | Verdict::Held { .. } => None,
    }
}

/// What the fold knew before an input, and may have let go of since.
#[derive(Default)]
pub(super) struct Before {
    calls: Vec<Known>,
    /// Approvals that people could decide.
    open: Vec<ApprovalId>,
}

struct Known {
    id: CallId,
    tool: Option<String>,
    rule: Option<String>,
    approval: Option<ApprovalId>,
}

impl Before {
    pub fn of(thread: &Thread) -> Self {
        if !tracing::enabled!(Level::INFO) {
            return Self::default();
        }
        let known = |(id, call): (&CallId, &Call)| Known {
            id: *id,
            tool: tool(&call.gated).map(str::to_owned),
            rule: rule(&call.gated.verdict).map(str::to_owned),
            approval: call.approval,
        };
        Self {
            calls: thread.calls.iter().map(|(id, call)| known((id, call))).collect(),
            open: thread.pending_approvals().map(|approval| approval.id).collect(),
        }
    }
}

/// Writes the lines of one input, when its events are kept. `who` brought it.
pub(super) fn write(
    thread: &Thread,
    before: &Before,
    who: &Brought,
    (first, events): (u64, &[Vec<u8>]),
    answer: &Answer,
) {
    if !tracing::enabled!(Level::INFO) {
        return;
    }
    for (seq, bytes) in (first..).zip(events) {
        // It was encoded a moment ago, and whoever reads the log next says if it cannot be read.
        if let Ok(event) = Event::decode(bytes, seq) {
            note(thread, before, &event);
        }
    }
    // A stop and a cancellation end what was asked, and have no event for each request.
    for id in &before.open {
        if thread.approvals.get(id).is_some_and(|approval| approval.state == ApprovalState::Cancelled) {
            let line = Line::new("an approval was decided").of_approval(thread, *id).outcome("cancelled");
            Line { person: who.by.as_ref(), ..line }.write(thread);
        }
    }
    match answer {
        Answer::Refused(refusal) => {
            let line = Line { person: who.by.as_ref(), question: who.question, ..Line::new("an input was refused") };
            let line = match (who.approval, who.call) {
                (Some(id), _) => line.of_approval(thread, id),
                (None, Some(id)) => line.of_call(thread, before, id),
                (None, None) => line,
            };
            line.outcome(refusal.code()).write(thread);
        }
        Answer::Accepted | Answer::Duplicate | Answer::Stale | Answer::Go { .. } => {}
    }
}

/// Who brought an input, and what it is about: for a refusal, of which the log of events has nothing.
#[derive(Default)]
pub(super) struct Brought {
    by: Option<Principal>,
    approval: Option<ApprovalId>,
    question: Option<QuestionId>,
    call: Option<CallId>,
}

impl Brought {
    pub fn of(input: &Input) -> Self {
        let by = |by: &Principal| Self { by: Some(by.clone()), ..Self::default() };
        match input {
            Input::Once { input, .. } | Input::Known { input, .. } => Self::of(input),
            Input::Message { from, .. } => by(from),
            Input::Vote { approval, by: voter, .. } => Self { approval: Some(*approval), ..by(voter) },
            Input::Answer { question, by: person, .. } => Self { question: Some(*question), ..by(person) },
            Input::Mark { call, by: person, .. } => Self { call: Some(*call), ..by(person) },
            Input::Pause { by: person, .. }
            | Input::Resume { by: person }
            | Input::Stop { by: person, .. }
            | Input::Cancel { by: person, .. } => by(person),
            Input::Intent { intent } => by(&intent.by),
            Input::Gathered { .. }
            | Input::Handled { .. }
            | Input::Fork { .. }
            | Input::Replied { .. }
            | Input::ModelFailed { .. }
            | Input::Planned { .. }
            | Input::Start { .. }
            | Input::Finished { .. }
            | Input::Lost { .. }
            | Input::Posted { .. }
            | Input::PostFailed { .. }
            | Input::Tick => Self::default(),
        }
    }
}

/// The line of one event.
fn note(thread: &Thread, before: &Before, event: &Event) {
    let line = match &event.body {
        Body::ThreadStarted { by, .. } => Line::new("a thread was started").by(by),
        Body::MessageReceived { from, prefetch, .. } => {
            Line::new("a message was taken").by(from).write(thread);
            return verdicts(thread, event.seq, prefetch);
        }
        Body::ModelReplied { step, .. } => match step {
            NextStep::Call { calls, .. } => return verdicts(thread, event.seq, calls),
            NextStep::Ask { .. } => Line::new("the agent asks a person"),
            NextStep::Done { .. } => Line::new("the agent answered"),
        },
        Body::ModelFailed { .. } => Line::new("the model did not answer").outcome("failed"),
        Body::ToolPlanned { call, plan } => Line::new("a call was planned")
            .of_call(thread, before, *call)
            .outcome(if plan.is_ok() { "planned" } else { "failed" }),
        Body::ApprovalRequested { approval, revision, because, .. } => {
            let line = Line { revision: Some(*revision), ..Line::new("an approval was requested") };
            let line = line.of_approval(thread, *approval);
            match because {
                Because::Gated => line.outcome("asked"),
                Because::Edited { by } => line.by(by).outcome("edited"),
                Because::Stale { .. } => line.outcome("stale"),
                Because::Retried { by } => line.by(by).outcome("retried"),
            }
        }
        Body::VoteCast { approval, revision, by, vote, .. } => {
            let line = Line { revision: Some(*revision), ..Line::new("a person voted") };
            line.of_approval(thread, *approval).by(by).outcome(match vote {
                Vote::Approve { .. } => "approve",
                Vote::Deny { .. } => "deny",
                Vote::Edit { .. } => "edit",
            })
        }
        Body::ApprovalResolved { approval, revision, resolution } => {
            let line = Line { revision: Some(*revision), ..Line::new("an approval was decided") };
            let line = line.of_approval(thread, *approval);
            let voter = || thread.approvals.get(approval).and_then(|a| a.votes.last()).map(|vote| &vote.by);
            match resolution {
                Resolution::Approved => Line { person: voter(), ..line }.outcome("approved"),
                Resolution::Denied { .. } => Line { person: voter(), ..line }.outcome("denied"),
                Resolution::Expired => line.outcome("expired"),
                Resolution::Cancelled => line.outcome("cancelled"),
            }
        }
        Body::QuestionAsked { question, .. } => Line { question: Some(*question), ..Line::new("a question was asked") },
        Body::QuestionAnswered { question, by, .. } => {
            Line { question: Some(*question), ..Line::new("a question was answered") }.by(by)
        }
        Body::ToolStarted { call, .. } => {
            Line::new("a call was started").of_call(thread, before, *call).outcome("started")
        }
        Body::ToolFinished { call, outcome, duration_ms } => {
            let line = Line { duration_ms: Some(*duration_ms), ..Line::new("a call ended") };
            line.of_call(thread, before, *call).outcome(match outcome {
                Outcome::Succeeded { .. } => "succeeded",
                Outcome::Failed { .. } => "failed",
                Outcome::Suspended { .. } => "suspended",
                Outcome::Unknown { .. } => "unknown",
            })
        }
        Body::OutcomeLost { call } => {
            Line::new("how a call ended is not known").of_call(thread, before, *call).outcome("unknown")
        }
        Body::OutcomeMarked { call, by, mark } => {
            Line::new("a person said how a call ended").of_call(thread, before, *call).by(by).outcome(match mark {
                Mark::Succeeded { .. } => "succeeded",
                Mark::Failed { .. } => "failed",
                Mark::Retry => "retry",
            })
        }
        Body::Posted { posting, .. } => posted(thread, before, posting).outcome("posted"),
        Body::DeliveryFailed { posting, retry_at, .. } => {
            posted(thread, before, posting).outcome(if retry_at.is_some() { "put_off" } else { "failed" })
        }
        Body::Paused { by, .. } => Line::new("a run was paused").by(by),
        Body::Resumed { by } => Line::new("a run goes on").by(by),
        Body::Stopped { by, .. } => Line::new("a run was stopped").by(by),
        Body::Cancelled { by, .. } => Line::new("a thread was cancelled").by(by),
        Body::IntentReceived { intent, .. } => Line::new("what a person did in chat was kept").by(&intent.by),
        Body::IntentHandled { done, .. } => {
            Line::new("what a person did in chat was carried out").outcome(if *done { "done" } else { "refused" })
        }
        Body::Gathered { .. } => Line::new("what belongs to a message was read"),
        // They change what the model sees and when it is asked, and touch nobody.
        Body::TimerFired { .. } | Body::Compacted { .. } => return,
    };
    line.write(thread);
}

/// What the policy said of each call of an event.
fn verdicts(thread: &Thread, seq: u64, calls: &[GatedCall]) {
    for (ord, call) in (0..).zip(calls) {
        let id = CallId::new(thread.id.short(), seq, ord);
        let line = Line { call: Some(id), ..Line::new("a rule was applied to a call") };
        let line = Line { tool: tool(call), rule: rule(&call.verdict), ..line };
        line.outcome(match &call.verdict {
            Verdict::Auto { .. } => "auto",
            Verdict::Ask { .. } => "ask",
            Verdict::Deny { .. } => "deny",
            Verdict::Invalid { .. } => "invalid",
            Verdict::Held { .. } => "held",
        })
        .write(thread);
    }
}

fn posted<'a>(thread: &'a Thread, before: &'a Before, posting: &Posting) -> Line<'a> {
    match posting {
        Posting::Card { approval } => Line::new("a card was delivered").of_approval(thread, *approval),
        Posting::Question { question } => Line { question: Some(*question), ..Line::new("a question was delivered") },
        Posting::Unknown { call } => {
            Line::new("a request to say how a call ended was delivered").of_call(thread, before, *call)
        }
        Posting::Answer { .. } => Line::new("an answer was delivered"),
        Posting::Notice { .. } => Line::new("a notice was delivered"),
    }
}
