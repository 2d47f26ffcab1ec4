//! The thread: what its log folds to, and the fold itself.
//!
//! [`reduce`] is total: any event in any state gives a state, so a log can always be read. It decides
//! nothing and reads no configuration; what was decided stands in the event (see `step` for who
//! decides). Its one act of judgement is to stay closed: an `ApprovalResolved` that the recorded votes
//! do not carry opens nothing.
//!
//! Outstanding effects are part of the fold: an effect is issued by an event and outstanding until an
//! event answers it. [`Thread::runnable`] leaves out those that have to wait (a pause, an open
//! question). After a crash the same fold gives the same list: there is no outbox.

use std::collections::{BTreeMap, BTreeSet};

use super::Status;
use super::approval::{Approval, ApprovalState, CastVote};
use super::doubt::{NOT_A_SECRET, Settled, Where};
use super::event::*;
use super::heard::Heard;
use super::id::*;
use super::input::STOP;
use super::intent::{Attached, Gathered, Intent, Passage};
use super::policy::Verdict;
use super::sources::Sources;
use super::tool::{Outcome, Plan};
use super::untrusted::Untrusted;
use super::window::{About, Block, Compaction, Ending, Entry, Window};

/// Something to be done outside. Its id is also its idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    CallModel,
    /// Ask the tool what the call would do, for the card.
    PlanTool {
        call: CallId,
    },
    RunTool {
        call: CallId,
    },
    /// Write, or rewrite, something that people see in a surface.
    Post {
        posting: Posting,
    },
    /// Fetch what is attached to the message in this event. The model waits for it.
    Gather {
        message: u64,
        attached: Vec<Attached>,
    },
    /// Do what the intent of this log wants.
    Handle,
}

/// One run: from a message to the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Event that started it.
    pub started: u64,
    /// Whose message started it.
    pub initiator: Principal,
    /// Model calls since the start, or since a person allowed more.
    pub steps: u32,
    /// Tokens likewise.
    pub tokens: u64,
    /// Failures in a row by tool.
    pub errors: BTreeMap<String, u32>,
    /// The last reply was a call written out as text.
    pub corrected: bool,
}

/// One call on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub gated: GatedCall,
    pub stage: Stage,
    pub approval: Option<ApprovalId>,
    /// Whose words could have led to it: everybody whose words the model could read when it made the call, earlier
    /// runs and a fork's source included. The last one alone would not do: an approver could ask, and have another
    /// person say a word after it.
    pub requesters: Vec<Spoken>,
}

/// How far a call is.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// The tool is asked what it would do.
    Planning,
    /// People are to be asked, with this plan.
    Planned { plan: Option<Plan>, because: Because },
    /// People are being asked.
    Asking,
    /// Cleared by the gate; runs when it is its turn.
    Ready,
    /// The start is in the log; the end is not.
    Started,
    /// Nobody knows how it ended.
    Lost,
    /// Suspended by the tool.
    Sleeping { until: Timestamp, text: String },
}

/// An open question.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub cause: QuestionCause,
    pub text: String,
    pub answer: AnswerKind,
}

/// How the model is doing between two replies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelState {
    /// Failures in a row.
    pub attempts: u32,
    pub retry_at: Option<Timestamp>,
    /// Set when it failed for good: a person is asked.
    pub down: Option<String>,
    /// Bytes that a request may have, if the last one was too long.
    pub ceiling: Option<u64>,
    /// It was asked again with less since its last reply.
    pub shortened: bool,
}

/// Where something that people see stands in a surface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PostState {
    pub reference: Option<String>,
    pub attempts: u32,
    pub retry_at: Option<Timestamp>,
    /// The surface refused it for good.
    pub undeliverable: Option<String>,
}

/// How the last run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    None,
    Done,
    Stopped,
}

/// The fold of one log.
#[derive(Clone, Debug, PartialEq)]
pub struct Thread {
    pub id: ThreadId,
    pub short: ShortId,
    /// Number of events folded.
    pub version: u64,
    /// Digest of the last event.
    pub head: Digest,
    pub agent: String,
    pub pushes: bool,
    pub started_by: Principal,
    pub parent: Option<Parent>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub title: String,
    /// All tokens ever used here.
    pub tokens: u64,
    pub run: Option<Run>,
    pub end: RunEnd,
    pub paused: Option<String>,
    pub cancelled: bool,
    /// Calls of the present step that have not ended, in the order of the reply. Boxed, like approvals: a
    /// map makes room for eleven values at once, and most threads have one.
    pub calls: BTreeMap<CallId, Box<Call>>,
    /// Open approvals, and the last settled ones, for late clicks.
    pub approvals: BTreeMap<ApprovalId, Box<Approval>>,
    pub questions: BTreeMap<QuestionId, Question>,
    pub model: ModelState,
    /// The last event in which a person said something to the agent.
    pub last_human: u64,
    /// The first call with side effects of the present reply that has failed.
    pub step_failed: Option<CallId>,
    /// The texts from outside that have ever entered this thread, or the one that it is a fork of.
    pub untrusted: Untrusted,
    /// Whose words have ever entered it, likewise.
    pub heard: Heard,
    /// What people have said of values that look like secrets.
    pub settled: Settled,
    pub window: Window,
    pub posts: BTreeMap<Posting, PostState>,
    /// What this log holds if it is no conversation.
    pub intent: Option<Box<Intent>>,
    outstanding: BTreeMap<EffectId, Effect>,
    sources: Sources,
}

/// Settled approvals that are remembered for answers to late clicks; older ones are in the log.
const REMEMBERED_APPROVALS: usize = 100;
/// Postings that are remembered so that they can be edited or tried again.
const REMEMBERED_POSTS: usize = 200;
/// What the model is told of a message from which something was taken out.
const TAKEN_OUT: &str = "Where this message has `[secret removed: …]`, the person wrote what looks like a secret; it was taken \
    out before you could read it. Do not ask for it here. If a tool needs it, say so: a person gives it to the tool in \
    another way.";
/// Characters of the title of a thread.
const TITLE_CHARS: usize = 80;

/// `(thread, event) -> (thread, effects)`: the effects are those that the event newly issued.
pub fn reduce(mut thread: Thread, event: &Event, digest: Digest) -> (Thread, Vec<(EffectId, Effect)>) {
    thread.apply(event, digest);
    let issued = thread.outstanding.iter().filter(|(id, _)| id.seq == event.seq).map(|(id, e)| (*id, e.clone()));
    let issued = issued.collect();
    (thread, issued)
}

impl Thread {
    /// A thread before its first event.
    pub fn vacant(id: ThreadId) -> Self {
        let short = id.short();
        Self {
            id,
            short,
            version: 0,
            head: Digest::ZERO,
            agent: String::new(),
            pushes: false,
            started_by: Principal::system(),
            parent: None,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            title: String::new(),
            tokens: 0,
            run: None,
            end: RunEnd::None,
            paused: None,
            cancelled: false,
            calls: BTreeMap::new(),
            approvals: BTreeMap::new(),
            questions: BTreeMap::new(),
            model: ModelState::default(),
            last_human: 0,
            step_failed: None,
            untrusted: Untrusted::default(),
            heard: Heard::default(),
            settled: Settled::default(),
            window: Window::default(),
            posts: BTreeMap::new(),
            intent: None,
            outstanding: BTreeMap::new(),
            sources: Sources::default(),
        }
    }

    /// Folds encoded events on top of this state.
    pub fn replay<B: AsRef<[u8]>>(&mut self, events: &[B]) -> Result<(), LogError> {
        for bytes in events {
            let seq = self.version + 1;
            let event = Event::decode(bytes.as_ref(), seq)?;
            if event.prev != self.head {
                return Err(LogError::Chain { seq });
            }
            if let Body::ThreadStarted { thread, .. } | Body::IntentReceived { thread, .. } = &event.body
                && *thread != self.id
            {
                return Err(LogError::WrongThread { found: thread.to_string() });
            }
            self.apply(&event, Digest::of(bytes.as_ref()));
        }
        Ok(())
    }

    /// Whether an event with this source id has been folded in the last 25 hours.
    pub fn knows_source(&self, source: &str) -> bool {
        self.sources.contains(source)
    }

    /// Every effect that no event has answered yet.
    pub fn outstanding(&self) -> &BTreeMap<EffectId, Effect> {
        &self.outstanding
    }

    /// The outstanding effects that may be performed now, oldest first.
    pub fn runnable(&self) -> impl Iterator<Item = (EffectId, &Effect)> {
        let held = self.paused.is_some() || self.cancelled;
        self.outstanding
            .iter()
            .filter(move |(_, effect)| match effect {
                Effect::Post { .. } => true,
                // What belongs to a message is read before the model is asked about it.
                Effect::CallModel => !held && self.questions.is_empty() && !self.is_gathering(),
                Effect::Gather { .. } => !self.cancelled,
                Effect::Handle => true,
                // In a cancelled thread, all that can be done about a start without an end is to say so.
                Effect::RunTool { call } if self.cancelled => {
                    self.calls.get(call).is_some_and(|c| c.is_lost_without_us())
                }
                Effect::RunTool { .. } => !held,
                Effect::PlanTool { .. } => !held,
            })
            .map(|(id, effect)| (*id, effect))
    }

    /// When something has to be looked at next if nothing is runnable.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let expiries = self.approvals.values().filter(|a| a.state == ApprovalState::Pending).map(|a| a.expires_at);
        let posts = self.posts.values().filter_map(|p| p.retry_at);
        let mut timers: Vec<Timestamp> = expiries.chain(posts).collect();
        if self.paused.is_none() && !self.cancelled {
            timers.extend(self.calls.values().filter_map(|c| match &c.stage {
                Stage::Sleeping { until, .. } => Some(*until),
                Stage::Planning
                | Stage::Planned { .. }
                | Stage::Asking
                | Stage::Ready
                | Stage::Started
                | Stage::Lost => None,
            }));
            timers.extend(self.model.retry_at);
        }
        timers.into_iter().min()
    }

    /// When the runtime has to look at this thread again: at once, at a time, or never. "At once" is no
    /// moment of this log: a clock that has gone back since would make it wait.
    pub fn due_at(&self) -> Option<Timestamp> {
        if self.runnable().next().is_some() { Some(Timestamp(0)) } else { self.next_timer() }
    }

    /// Whether what belongs to a message is still being fetched: the model waits.
    pub fn is_gathering(&self) -> bool {
        self.outstanding.values().any(|effect| matches!(effect, Effect::Gather { .. }))
    }

    /// Whether there is something to be read that a reply to the window of the event `seen` cannot have read.
    pub fn has_news_since(&self, seen: u64) -> bool {
        self.last_human > seen || self.is_gathering()
    }

    pub fn pending_approvals(&self) -> impl Iterator<Item = &Approval> {
        self.approvals.values().map(Box::as_ref).filter(|a| a.is_open())
    }

    pub fn status(&self) -> Status {
        let any = |wanted: fn(&Stage) -> bool| self.calls.values().any(|c| wanted(&c.stage));
        if self.cancelled {
            Status::Cancelled
        } else if self.paused.is_some() {
            Status::Paused
        } else if any(|s| *s == Stage::Lost) {
            Status::WaitingMark
        } else if self.pending_approvals().next().is_some() {
            Status::WaitingApproval
        } else if !self.questions.is_empty() {
            Status::WaitingAnswer
        } else if self.runnable().any(|(_, e)| !matches!(e, Effect::Post { .. })) || self.model.retry_at.is_some() {
            Status::Running
        } else if any(|s| matches!(s, Stage::Sleeping { .. })) {
            Status::Sleeping
        } else {
            match (&self.run, self.end) {
                (Some(_), _) => Status::Running,
                (None, RunEnd::Stopped) => Status::Stopped,
                (None, RunEnd::None | RunEnd::Done) => Status::Done,
            }
        }
    }

    /// The first event of the thread `id` as a fork of this one: its context, without the blocks of calls
    /// that have not ended, and the note of what in it comes from outside.
    pub fn forked(&self, id: ThreadId, by: Principal, pushes: bool) -> Body {
        Body::ThreadStarted {
            thread: id,
            agent: self.agent.clone(),
            by,
            pushes,
            parent: Some(Parent { thread: self.id.clone(), seq: self.version, head: self.head }),
            carried: self.window.carried(|call| self.calls.contains_key(&call)),
            untrusted: self.untrusted.clone(),
            heard: self.heard.upto(self.version),
        }
    }

    /// Calls that must survive a compaction.
    pub fn pending_calls(&self) -> BTreeSet<CallId> {
        self.calls.keys().copied().collect()
    }

    /// Folds one event. `digest` is that of its encoded bytes.
    pub fn apply(&mut self, event: &Event, digest: Digest) {
        self.version = event.seq;
        self.head = digest;
        self.updated_at = event.at;
        if let Some(source) = &event.source {
            self.sources.add(source, event.at);
        }
        if let Some(answered) = event.answers {
            self.outstanding.remove(&answered);
        }
        let mut issue = Issue { thread: self.short, seq: event.seq, next: 0 };
        self.fold(event, &mut issue);
        self.advance(&mut issue);
        if self.outstanding.is_empty() {
            // An emptied map keeps its room, and thousands of threads rest in memory.
            self.outstanding = BTreeMap::new();
        }
    }

    fn fold(&mut self, event: &Event, issue: &mut Issue) {
        let seq = event.seq;
        match &event.body {
            Body::ThreadStarted { thread: _, agent, by, pushes, parent, carried, untrusted, heard } => {
                self.agent.clone_from(agent);
                self.started_by.clone_from(by);
                self.pushes = *pushes;
                self.parent.clone_from(parent);
                self.created_at = event.at;
                self.untrusted = untrusted.moved_to(seq);
                for Spoken { who, at, words } in heard {
                    self.heard.note(seq, *at, who, words);
                }
                for entry in carried {
                    // A fork from before `heard` was recorded.
                    if let (true, Block::Human { from, text } | Block::Answer { from, text }) =
                        (heard.is_empty(), &entry.block)
                    {
                        self.heard.note(seq, event.at, from, text);
                    }
                    self.window.carry(seq, entry);
                }
                // The last words of the agent among them count as the last answer.
                self.window.answered(seq);
            }
            Body::MessageReceived { from, text, outside, prefetch, attached, context, masked } => {
                self.last_human = seq;
                self.heard.note(seq, event.at, from, text);
                if let Some(label) = outside {
                    self.untrusted.add(seq, label);
                }
                let block = Block::Human { from: from.clone(), text: text.clone() };
                self.window.push(Entry::new(seq, block, outside.is_some()));
                if *masked > 0 {
                    self.window.push(Entry::trusted(seq, Block::Notice { text: TAKEN_OUT.to_owned() }));
                    self.post(Posting::Notice { seq }, issue);
                }
                for Passage { label, text } in context {
                    self.untrusted.add(seq, label);
                    let block = Block::Attached { label: label.clone(), text: text.clone() };
                    self.window.push(Entry::new(seq, block, true));
                }
                if self.title.is_empty() {
                    self.title = title(text);
                }
                let overtaken: Vec<QuestionId> =
                    self.questions.iter().filter(|(_, q)| q.cause.is_overtaken()).map(|(id, _)| *id).collect();
                self.close_questions(overtaken, issue);
                // Somebody may have pressed the wrong button: after new words it is asked again.
                self.settled.secrets.clear();
                if self.run.is_none() {
                    self.start_run(seq, from);
                }
                if !attached.is_empty() {
                    let gather = Effect::Gather { message: seq, attached: attached.clone() };
                    self.outstanding.insert(issue.id(), gather);
                }
                self.take_calls(seq, seq, prefetch, "");
            }
            Body::Gathered { message: _, texts } => {
                if !texts.is_empty() {
                    // Calls of a reply that had not seen it are held, as after any newer message.
                    self.last_human = seq;
                }
                for Gathered { label, text, by } in texts {
                    by.iter().for_each(|who| self.heard.note(seq, event.at, who, ""));
                    let (text, untrusted) = match text {
                        Ok(text) => (text.clone(), true),
                        Err(why) => (format!("could not be read: {why}"), false),
                    };
                    if untrusted {
                        self.untrusted.add(seq, label);
                    }
                    self.window.push(Entry::new(seq, Block::Attached { label: label.clone(), text }, untrusted));
                }
            }
            Body::IntentReceived { thread: _, intent } => {
                self.started_by.clone_from(&intent.by);
                self.created_at = event.at;
                self.title = intent.act.name().to_owned();
                self.outstanding.insert(issue.id(), Effect::Handle);
                self.intent = Some(intent.clone().into());
            }
            Body::IntentHandled { .. } => self.end = RunEnd::Done,
            Body::ModelReplied { seen, step, model: _, usage, sent, correction } => {
                self.model = ModelState::default();
                self.window.calibrate(usage.input, *sent);
                let used = usage.input.saturating_add(usage.output);
                self.tokens = self.tokens.saturating_add(used);
                if let Some(run) = &mut self.run {
                    run.steps = run.steps.saturating_add(1);
                    run.tokens = run.tokens.saturating_add(used);
                    run.corrected = !correction.is_empty();
                }
                self.step_failed = None;
                // What the model had not seen stands behind what it said.
                self.window.saw(*seen);
                let newer = self.window.take_newer(*seen);
                self.replied(seq, *seen, step, correction, issue);
                self.window.put_back(newer);
            }
            Body::ModelFailed { error: _, message, attempt, retry_at, usage, ceiling } => {
                let used = usage.input.saturating_add(usage.output);
                self.tokens = self.tokens.saturating_add(used);
                if let Some(run) = &mut self.run {
                    run.tokens = run.tokens.saturating_add(used);
                }
                self.model = ModelState {
                    attempts: *attempt,
                    retry_at: *retry_at,
                    down: retry_at.is_none().then(|| message.clone()),
                    ceiling: *ceiling,
                    shortened: self.model.shortened || ceiling.is_some(),
                };
                if let Some(bytes) = ceiling {
                    self.window.lower_ceiling(*bytes);
                }
                // Asking again with less is no news to people.
                if ceiling.is_none() || retry_at.is_none() {
                    self.post(Posting::Notice { seq }, issue);
                }
            }
            Body::ToolPlanned { call, plan } => match plan {
                Ok(plan) => {
                    if let Some(Call { stage, .. }) = self.calls.get_mut(call).map(Box::as_mut)
                        && *stage == Stage::Planning
                    {
                        let because = self
                            .approvals
                            .values()
                            .find(|a| a.call == *call)
                            .map_or(Because::Gated, |a| a.because_again());
                        *stage = Stage::Planned { plan: Some(plan.clone()), because };
                    }
                }
                Err(error) => {
                    self.close_approvals_of(*call, ApprovalState::Cancelled, issue);
                    let untrusted = self.note_outside(seq, *call);
                    self.finish(seq, *call, Ending::Failed, error.clone(), untrusted);
                }
            },
            Body::ApprovalRequested { approval, call, args, title, terms, .. } => {
                if let Some(entry) = self.calls.get_mut(call)
                    && let Some(request) = Approval::from_event(event, &entry.gated.tool)
                {
                    entry.gated.args.clone_from(args);
                    entry.gated.title.clone_from(title);
                    entry.gated.verdict = Verdict::Ask { terms: terms.clone() };
                    entry.stage = Stage::Asking;
                    entry.approval = Some(*approval);
                    let before = self.approvals.remove(approval).map(|before| *before);
                    let moved = before.as_ref().is_some_and(|before| before.terms.route != terms.route);
                    self.approvals.insert(*approval, Box::new(request.after(before)));
                    if moved {
                        // The card that it shared with others of its reply is theirs alone from now on.
                        let others = |a: &&Approval| a.call.seq == call.seq && a.id != *approval && a.is_live();
                        let others: Vec<_> =
                            self.approvals.values().map(Box::as_ref).filter(others).map(|a| a.id).collect();
                        others.into_iter().for_each(|approval| self.post(Posting::Card { approval }, issue));
                    }
                    // What was about to run is not what was just asked for.
                    self.outstanding.retain(|_, e| *e != Effect::RunTool { call: *call });
                    self.post(Posting::Card { approval: *approval }, issue);
                }
            }
            Body::VoteCast { approval, revision, by, groups, named, vote } => {
                let Some(request) = self.approvals.get_mut(approval) else { return };
                if request.state != ApprovalState::Pending || request.revision != *revision {
                    return;
                }
                request.vote(CastVote {
                    by: by.clone(),
                    groups: groups.clone(),
                    named: named.clone(),
                    vote: vote.clone(),
                    at: event.at,
                });
                if let (Vote::Edit { args, title, terms }, Some(call)) = (vote, self.calls.get_mut(&request.call)) {
                    call.gated.args.clone_from(args);
                    call.gated.title.clone_from(title);
                    if let Some(terms) = terms {
                        call.gated.verdict = Verdict::Ask { terms: (**terms).clone() };
                    }
                    call.stage = ask_again(&call.gated, Because::Edited { by: by.clone() });
                }
                self.post(Posting::Card { approval: *approval }, issue);
            }
            Body::ApprovalResolved { approval, revision, resolution } => {
                self.close_doubts_of_edits(issue);
                self.resolve(seq, event.at, *approval, *revision, resolution, issue);
            }
            Body::QuestionAsked { question, cause, text, answer } => {
                self.window.push(Entry::trusted(seq, Block::Question { text: text.clone() }));
                let asked = Question { cause: cause.clone(), text: text.clone(), answer: answer.clone() };
                self.questions.insert(*question, asked);
                self.post(Posting::Question { question: *question }, issue);
            }
            Body::QuestionAnswered { question, by, groups, named, text } => {
                let Some(asked) = self.questions.remove(question) else { return };
                self.last_human = seq;
                self.window.push(Entry::trusted(seq, Block::Answer { from: by.clone(), text: text.clone() }));
                match &asked.cause {
                    // Pressing a button that says what a value is tells the agent nothing to do.
                    QuestionCause::LooksSecret { doubt } => {
                        // Who stops the run has not said what the value is.
                        if text != STOP {
                            let not_secret = text == NOT_A_SECRET && doubt.is_cleared(by, groups, named.as_ref());
                            self.settled.note(&doubt.suspects, not_secret);
                            self.window.push(Entry::trusted(seq, Block::Notice { text: doubt.told(not_secret) }));
                        }
                    }
                    QuestionCause::Agent
                    | QuestionCause::StepBudget
                    | QuestionCause::TokenBudget
                    | QuestionCause::Errors { .. }
                    | QuestionCause::ModelDown => self.heard.note(seq, event.at, by, text),
                }
                if let Some(run) = &mut self.run {
                    match asked.cause {
                        QuestionCause::Agent | QuestionCause::LooksSecret { .. } => {}
                        QuestionCause::StepBudget => run.steps = 0,
                        QuestionCause::TokenBudget => run.tokens = 0,
                        QuestionCause::Errors { tool } => {
                            run.errors.remove(&tool);
                        }
                        QuestionCause::ModelDown => self.model = ModelState::default(),
                    }
                }
                self.post(Posting::Question { question: *question }, issue);
            }
            Body::ToolStarted { effect: _, call, digest: _ } => {
                if let Some(call) = self.calls.get_mut(call) {
                    call.stage = Stage::Started;
                    if let Some(id) = call.approval {
                        if let Some(approval) = self.approvals.get_mut(&id) {
                            approval.state = ApprovalState::Used { at: event.at };
                        }
                        self.post(Posting::Card { approval: id }, issue);
                    }
                }
            }
            Body::ToolFinished { call, outcome, duration_ms: _ } => match outcome {
                Outcome::Succeeded { text } => {
                    let untrusted = self.note_outside(seq, *call);
                    self.finish_run_call(seq, *call, Ending::Succeeded, text.clone(), untrusted, issue);
                }
                // An error can quote what it fell over.
                Outcome::Failed { error } => {
                    let untrusted = self.note_outside(seq, *call);
                    self.finish_run_call(seq, *call, Ending::Failed, error.clone(), untrusted, issue);
                }
                // Its text enters with its end, if it is not stopped before.
                Outcome::Suspended { until, text } => {
                    if let Some(call) = self.calls.get_mut(call) {
                        call.stage = Stage::Sleeping { until: *until, text: text.clone() };
                    }
                }
                // The error goes to people, and they mark the call in words of their own. But who could tell
                // whose words those are.
                Outcome::Unknown { .. } => {
                    self.note_outside(seq, *call);
                    self.lose(*call, issue);
                }
            },
            Body::OutcomeLost { call } => self.lose(*call, issue),
            Body::OutcomeMarked { call, by, mark } => match mark {
                Mark::Succeeded { note } => {
                    let text = said(&format!("{by} says that it took effect"), note);
                    self.finish_run_call(seq, *call, Ending::Succeeded, text, false, issue);
                }
                Mark::Failed { note } => {
                    let text = said(&format!("{by} says that it did not take effect"), note);
                    self.finish_run_call(seq, *call, Ending::Failed, text, false, issue);
                }
                Mark::Retry => {
                    if let Some(call) = self.calls.get_mut(call) {
                        call.stage = match call.gated.verdict {
                            Verdict::Ask { .. } => ask_again(&call.gated, Because::Retried { by: by.clone() }),
                            Verdict::Auto { .. }
                            | Verdict::Deny { .. }
                            | Verdict::Invalid { .. }
                            | Verdict::Held { .. } => Stage::Ready,
                        };
                        if let Some(approval) = call.approval.and_then(|id| self.approvals.get_mut(&id)) {
                            approval.state = ApprovalState::Revising { because: Because::Retried { by: by.clone() } };
                            approval.settled_at = None;
                        }
                    }
                }
            },
            Body::TimerFired { timer } => match timer {
                Timer::Wake { call } => {
                    if let Some(Call { stage: Stage::Sleeping { text, .. }, .. }) =
                        self.calls.get(call).map(Box::as_ref)
                    {
                        let text = text.clone();
                        let untrusted = self.note_outside(seq, *call);
                        self.finish_run_call(seq, *call, Ending::Succeeded, text, untrusted, issue);
                    }
                }
                Timer::Model => self.model.retry_at = None,
                Timer::Post { posting } => {
                    if let Some(post) = self.posts.get_mut(posting) {
                        post.retry_at = None;
                    }
                    self.post(posting.clone(), issue);
                }
            },
            Body::Posted { posting, reference } => {
                let state = PostState { reference: Some(reference.clone()), ..PostState::default() };
                self.posts.insert(posting.clone(), state);
                self.forget_posts();
            }
            Body::DeliveryFailed { posting, error, attempt, retry_at } => {
                let post = self.posts.entry(posting.clone()).or_default();
                post.attempts = *attempt;
                post.retry_at = *retry_at;
                post.undeliverable = retry_at.is_none().then(|| error.clone());
                self.forget_posts();
            }
            Body::Compacted { upto, summary, layout, cut } => {
                let pending = self.pending_calls();
                let (upto, summary, layout, cut) = (*upto, summary.clone(), layout.clone(), *cut);
                self.window.compact(&Compaction { upto, summary, layout, cut }, &pending);
            }
            Body::Paused { by: _, why } => {
                self.paused = Some(why.clone());
                self.post(Posting::Notice { seq }, issue);
            }
            Body::Resumed { by: _ } => {
                self.paused = None;
                self.post(Posting::Notice { seq }, issue);
            }
            Body::Stopped { by, why } => {
                self.end_run(seq, said(&format!("{by} stopped the run"), why), RunEnd::Stopped, issue)
            }
            Body::Cancelled { by, why } => {
                self.end_run(seq, said(&format!("{by} cancelled the thread"), why), RunEnd::Stopped, issue);
                self.cancelled = true;
            }
        }
    }

    /// What a reply said and asked for.
    fn replied(&mut self, seq: u64, seen: u64, step: &NextStep, correction: &str, issue: &mut Issue) {
        match step {
            NextStep::Call { calls, why } => self.take_calls(seq, seen, calls, why),
            // The question itself is an event of its own; if none follows, the model is asked again.
            NextStep::Ask { text, answer: _, why, put_off } => {
                if !why.is_empty() {
                    self.window.push(Entry::trusted(seq, Block::Agent { text: why.clone() }));
                }
                if !put_off.is_empty() {
                    let text =
                        format!("not run, because you asked a question in the same reply: {}", put_off.join(", "));
                    self.window.push(Entry::trusted(seq, Block::Notice { text }));
                }
                if self.has_news_since(seen) {
                    let text = format!("your question was not put to anyone, because something new came in: {text}");
                    self.window.push(Entry::trusted(seq, Block::Notice { text }));
                }
            }
            NextStep::Done { text } => {
                self.window.push(Entry::trusted(seq, Block::Agent { text: text.clone() }));
                if !correction.is_empty() {
                    self.window.push(Entry::trusted(seq, Block::Notice { text: correction.to_owned() }));
                    return;
                }
                self.window.answered(seq);
                if self.run.is_some() {
                    self.post(Posting::Answer { seq }, issue);
                }
                if !self.has_news_since(seen) {
                    self.run = None;
                    self.end = RunEnd::Done;
                }
            }
        }
    }

    fn start_run(&mut self, seq: u64, from: &Principal) {
        self.run = Some(Run {
            started: seq,
            initiator: from.clone(),
            steps: 0,
            tokens: 0,
            errors: BTreeMap::new(),
            corrected: false,
        });
        self.model = ModelState::default();
        self.step_failed = None;
    }

    /// Takes the calls of a reply in; those that will not run end at once.
    /// `seen`: the last event that whoever made them could read.
    fn take_calls(&mut self, seq: u64, seen: u64, calls: &[GatedCall], why: &str) {
        if calls.is_empty() {
            return;
        }
        let requesters = self.heard.upto(seen);
        for (ord, gated) in calls.iter().enumerate() {
            let id = CallId::new(self.short, seq, ord as u32);
            let why = if ord == 0 { why.to_owned() } else { String::new() };
            let block = Block::ToolCall { call: id, tool: gated.tool.clone(), args: gated.args.clone(), why };
            self.window.push(Entry::trusted(seq, block));
            let (stage, end) = match &gated.verdict {
                Verdict::Auto { .. } => (Stage::Ready, None),
                Verdict::Ask { .. } => (ask_again(gated, Because::Gated), None),
                Verdict::Deny { rule, why } => (Stage::Ready, Some((Ending::Denied, format!("{why} (rule: {rule})")))),
                Verdict::Invalid { error } => (Stage::Ready, Some((Ending::Failed, error.clone()))),
                Verdict::Held { why } => (Stage::Ready, Some((Ending::NotRun, why.clone()))),
            };
            let call = Call { gated: gated.clone(), stage, approval: None, requesters: requesters.clone() };
            self.calls.insert(id, Box::new(call));
            if let Some((ending, text)) = end {
                self.finish(seq, id, ending, text, false);
            }
        }
    }

    /// Takes note that this call's tool has handed over a text. Returns whether it was written outside.
    fn note_outside(&mut self, seq: u64, id: CallId) -> bool {
        let Some(call) = self.calls.get(&id).filter(|c| c.gated.reads_outside()) else { return false };
        self.untrusted.add(seq, &call.gated.title);
        true
    }

    /// Ends a call: every call gets exactly one result, here. `untrusted`: the text was written outside.
    fn finish(&mut self, seq: u64, id: CallId, ending: Ending, text: String, untrusted: bool) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.outstanding
            .retain(|_, e| !matches!(e, Effect::PlanTool { call } | Effect::RunTool { call } if *call == id));
        if let Some(run) = &mut self.run {
            match ending {
                Ending::Failed => {
                    let failures = run.errors.entry(call.gated.tool.clone()).or_default();
                    *failures = failures.saturating_add(1);
                }
                Ending::Succeeded => {
                    run.errors.remove(&call.gated.tool);
                }
                Ending::Denied | Ending::Expired | Ending::Cancelled | Ending::NotRun => {}
            }
        }
        // People may have changed what the model asked for: it has to know what it is told about.
        if self.window.args_of(id).is_some_and(|args| *args != call.gated.args) {
            let args = super::json::canonical(&call.gated.args);
            let text = format!("a person changed the arguments of your call {id} of {}: {args}", call.gated.tool);
            self.window.push(Entry::trusted(seq, Block::Notice { text }));
        }
        if ending == Ending::Failed && call.gated.has_side_effects() {
            self.step_failed = Some(self.step_failed.map_or(id, |first| first.min(id)));
        }
        let about = call.gated.about();
        let block = Block::ToolResult { call: id, tool: call.gated.tool, ending, text };
        self.window.push(Entry::new(seq, block, untrusted).about(about));
    }

    /// Ends a call that ran, and tells the card.
    fn finish_run_call(
        &mut self,
        seq: u64,
        id: CallId,
        ending: Ending,
        text: String,
        untrusted: bool,
        issue: &mut Issue,
    ) {
        let approval = self.calls.get(&id).and_then(|c| c.approval);
        if let Some(request) = approval.and_then(|a| self.approvals.get_mut(&a)) {
            request.result = Some((ending, text.clone()));
            let card = Posting::Card { approval: request.id };
            self.post(card, issue);
        }
        self.finish(seq, id, ending, text, untrusted);
        self.forget_settled_approvals();
    }

    fn lose(&mut self, id: CallId, issue: &mut Issue) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.stage = Stage::Lost;
            self.outstanding.retain(|_, e| *e != Effect::RunTool { call: id });
            self.post(Posting::Unknown { call: id }, issue);
        }
    }

    fn resolve(
        &mut self,
        seq: u64,
        at: Timestamp,
        id: ApprovalId,
        revision: u32,
        resolution: &Resolution,
        issue: &mut Issue,
    ) {
        let Some(request) = self.approvals.get_mut(&id) else { return };
        if !request.is_open() || request.revision != revision {
            return;
        }
        let call = request.call;
        match resolution {
            Resolution::Approved => {
                // Closed unless the votes in the log carry it.
                if !request.is_carried() {
                    return;
                }
                request.state = ApprovalState::Approved { at };
                if let Some(call) = self.calls.get_mut(&call) {
                    call.stage = Stage::Ready;
                }
            }
            Resolution::Denied { reason } => {
                request.state = ApprovalState::Denied { at, reason: reason.clone() };
                let by = request.denied_by().map_or_else(|| "a person".to_owned(), |p| p.label().to_owned());
                let text = said(&format!("{by} denied this call"), reason);
                self.finish(
                    seq,
                    call,
                    Ending::Denied,
                    format!("{text}\nDo not make it again unless a person asks for it."),
                    false,
                );
            }
            Resolution::Expired => {
                request.state = ApprovalState::Expired { at };
                let text = "nobody decided in time, which counts as a denial".to_owned();
                self.finish(seq, call, Ending::Expired, text, false);
            }
            Resolution::Cancelled => {
                request.state = ApprovalState::Cancelled;
                self.finish(seq, call, Ending::Cancelled, "the request was cancelled".to_owned(), false);
            }
        }
        if let Some(request) = self.approvals.get_mut(&id) {
            request.settled_at = Some(at);
        }
        self.post(Posting::Card { approval: id }, issue);
        self.forget_settled_approvals();
    }

    fn close_approvals_of(&mut self, call: CallId, state: ApprovalState, issue: &mut Issue) {
        let open: Vec<ApprovalId> =
            self.approvals.values().filter(|a| a.call == call && a.is_live()).map(|a| a.id).collect();
        if !open.is_empty() {
            self.close_doubts_of_edits(issue);
        }
        for id in open {
            if let Some(approval) = self.approvals.get_mut(&id) {
                approval.state = state.clone();
                approval.settled_at = Some(self.updated_at);
            }
            self.post(Posting::Card { approval: id }, issue);
        }
    }

    /// A stop or a cancel: what has not started never will; what has started is awaited.
    fn end_run(&mut self, seq: u64, why: String, end: RunEnd, issue: &mut Issue) {
        self.window.push(Entry::trusted(seq, Block::Notice { text: why.clone() }));
        self.outstanding.retain(|_, effect| match effect {
            Effect::CallModel | Effect::PlanTool { .. } | Effect::Gather { .. } | Effect::Handle => false,
            Effect::RunTool { call } => self.calls.get(call).is_some_and(|c| c.stage == Stage::Started),
            Effect::Post { .. } => true,
        });
        let not_started: Vec<CallId> = self
            .calls
            .iter()
            .filter(|(_, c)| !matches!(c.stage, Stage::Started | Stage::Lost))
            .map(|(id, _)| *id)
            .collect();
        for id in not_started {
            self.close_approvals_of(id, ApprovalState::Cancelled, issue);
            self.finish(seq, id, Ending::Cancelled, why.clone(), false);
        }
        let open = self.questions.keys().copied().collect();
        self.close_questions(open, issue);
        self.model = ModelState::default();
        self.paused = None;
        self.run = None;
        self.end = end;
        self.post(Posting::Notice { seq }, issue);
    }

    /// A request is decided: whether somebody's change of it held a secret matters no more.
    fn close_doubts_of_edits(&mut self, issue: &mut Issue) {
        let of_edit =
            |q: &Question| matches!(&q.cause, QuestionCause::LooksSecret { doubt } if doubt.place == Where::Edit);
        let open = self.questions.iter().filter(|(_, q)| of_edit(q)).map(|(id, _)| *id).collect();
        self.close_questions(open, issue);
    }

    fn close_questions(&mut self, questions: Vec<QuestionId>, issue: &mut Issue) {
        for question in questions {
            self.questions.remove(&question);
            self.post(Posting::Question { question }, issue);
        }
    }

    fn forget_settled_approvals(&mut self) {
        let settled: Vec<ApprovalId> = self.approvals.values().filter(|a| !a.is_live()).map(|a| a.id).collect();
        for id in settled.iter().take(settled.len().saturating_sub(REMEMBERED_APPROVALS)) {
            self.approvals.remove(id);
        }
    }

    fn forget_posts(&mut self) {
        while self.posts.len() > REMEMBERED_POSTS
            && let Some(least) = self.least_needed_post()
        {
            self.posts.remove(&least);
        }
    }

    /// The posting whose reference can be forgotten first: the oldest of those that will hardly be edited.
    fn least_needed_post(&self) -> Option<Posting> {
        let key = |posting: &Posting, state: &PostState| {
            let (seq, open) = match posting {
                Posting::Answer { seq } | Posting::Notice { seq } => (*seq, false),
                Posting::Card { approval } => (approval.seq, self.approvals.get(approval).is_some_and(|a| a.is_live())),
                Posting::Question { question } => (question.seq, self.questions.contains_key(question)),
                Posting::Unknown { call } => (call.seq, self.calls.contains_key(call)),
            };
            (open || state.retry_at.is_some(), seq)
        };
        self.posts.iter().min_by_key(|(posting, state)| key(posting, state)).map(|(posting, _)| posting.clone())
    }

    /// Issues what the new state calls for. Everything that is ever done outside starts here.
    fn advance(&mut self, issue: &mut Issue) {
        if self.cancelled {
            return;
        }
        let mut turn_taken = false;
        let mut wanted = Vec::new();
        let mut skipped = Vec::new();
        for (id, call) in &self.calls {
            let ordered = call.gated.has_side_effects();
            match call.stage {
                // Calls with side effects run one after the other, in the order of the reply; after a
                // failure the rest of them does not run, because the model could not know of it.
                Stage::Ready | Stage::Planning | Stage::Planned { .. } | Stage::Asking
                    if ordered && self.step_failed.is_some_and(|failed| failed < *id) =>
                {
                    skipped.push(*id);
                }
                Stage::Planning => wanted.push(Effect::PlanTool { call: *id }),
                Stage::Ready if !(ordered && turn_taken) => wanted.push(Effect::RunTool { call: *id }),
                Stage::Ready
                | Stage::Planned { .. }
                | Stage::Asking
                | Stage::Started
                | Stage::Lost
                | Stage::Sleeping { .. } => {}
            }
            turn_taken |= ordered;
        }
        for effect in wanted {
            if !self.outstanding.values().any(|e| *e == effect) {
                self.outstanding.insert(issue.id(), effect);
            }
        }
        for id in skipped {
            self.close_approvals_of(id, ApprovalState::Cancelled, issue);
            self.finish(
                issue.seq,
                id,
                Ending::NotRun,
                "an earlier call of the same step failed; ask again if it is still wanted".to_owned(),
                false,
            );
        }
        let model_is_due = self.run.is_some()
            && self.calls.is_empty()
            && self.model.retry_at.is_none()
            && self.model.down.is_none()
            && !self.outstanding.values().any(|e| *e == Effect::CallModel);
        if model_is_due {
            self.outstanding.insert(issue.id(), Effect::CallModel);
        }
    }

    fn post(&mut self, posting: Posting, issue: &mut Issue) {
        // One outstanding write shows the state at the time it is performed; a second adds nothing,
        // unless the first may be on its way with the state before.
        if self.pushes {
            self.outstanding.insert(issue.id(), Effect::Post { posting });
        }
    }
}

impl Call {
    /// Whether it runs without a `ToolStarted` before it: nobody was asked, and running it twice equals
    /// running it once.
    pub fn starts_unseen(&self) -> bool {
        matches!(self.gated.verdict, Verdict::Auto { .. }) && self.gated.is_idempotent()
    }

    /// Whether a process that does not run it can only report it lost.
    fn is_lost_without_us(&self) -> bool {
        self.stage == Stage::Started && !self.gated.is_idempotent()
    }
}

impl GatedCall {
    pub fn is_idempotent(&self) -> bool {
        self.facts.as_ref().is_some_and(|f| f.idempotent)
    }

    /// Whether what it returns was written outside.
    pub fn reads_outside(&self) -> bool {
        self.facts.as_ref().is_some_and(|f| f.outside)
    }

    /// What the call is about, by the arguments that it has now.
    fn about(&self) -> About {
        let target = self.facts.as_ref().map_or(&[][..], |f| &f.target);
        About::of(&self.tool, &self.args, target, self.has_side_effects())
    }

    pub fn has_side_effects(&self) -> bool {
        self.facts.as_ref().is_some_and(|f| f.side_effects)
    }
}

/// The stage in which a gated call is put before people: with a plan first, if its tool has one.
fn ask_again(gated: &GatedCall, because: Because) -> Stage {
    if gated.facts.as_ref().is_some_and(|f| f.plans) { Stage::Planning } else { Stage::Planned { plan: None, because } }
}

fn said(what: &str, words: &str) -> String {
    if words.trim().is_empty() { what.to_owned() } else { format!("{what}: {words}") }
}

/// The first words of a text, in one line.
fn title(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(TITLE_CHARS).collect()
}

/// Numbers the effects that one event issues.
struct Issue {
    thread: ShortId,
    seq: u64,
    next: u32,
}

impl Issue {
    fn id(&mut self) -> EffectId {
        let id = EffectId::new(self.thread, self.seq, self.next);
        self.next += 1;
        id
    }
}
