//! The pure core, driven by hand: no runtime, no clock, no store.
//!
//! [`Sim`] holds what a store would (the encoded events) and what a worker would (their fold). Every
//! input goes through the real [`step`], and the bytes that come of it are folded on their own, too: a
//! scenario in which the live thread differs from its log fails at the step that made the difference.
//! It leaves out the world: what tools and models answer is said by each test.

mod attached;
mod chain;
mod doubts;
mod laws;
mod people;
mod policy;
mod scenarios;
mod window_law;
mod window_told;
mod written;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use twelve::agent::*;

/// 2026-11-22T14:00:00Z: a fixed moment, so that logs and snapshots stay the same.
pub const NOON: Timestamp = Timestamp(1_795_356_000_000);
pub const SECOND: u64 = 1_000;
pub const HOUR: u64 = 3_600_000;

/// One thread in the hands of a test.
#[derive(Clone)]
pub struct Sim {
    pub thread: Thread,
    pub log: Vec<Vec<u8>>,
    pub now: Timestamp,
    pub dice: f64,
    pub spec: AgentSpec,
    pub policy: Policy,
    pub requester: RequesterRule,
    /// Lists everybody of the tests as a person of their own.
    pub people: People,
    /// Knows one secret and has the key of an installation.
    pub secrets: SecretFilter,
    pub retry: Retry,
    pub window: window::WindowLimits,
    pub message_max_bytes: usize,
    pub base_bytes: usize,
    pub pushes: bool,
    /// What the tools say of themselves today.
    pub facts: BTreeMap<String, ToolFacts>,
    /// What a planning tool would say it does, now.
    pub plan: String,
    /// A second fold, of nothing but the bytes.
    pub mirror: Thread,
    shown: usize,
}

/// The one secret that the tests' installation is configured with.
pub const CONFIGURED: &str = "hush-hush-hush";

pub fn ops() -> Principal {
    Principal::human("console:ops")
}
pub fn ann() -> Principal {
    Principal::human("chat:ann")
}
pub fn bob() -> Principal {
    Principal::human("chat:bob")
}
pub fn eve() -> Principal {
    Principal::human("chat:eve")
}
pub fn robot() -> Principal {
    Principal::service("chat:ann")
}

/// Tools as the tests need them. `look` only reads; `note` may run twice and runs by itself; `ping`
/// must not run twice and runs by itself; `fetch` returns what strangers wrote; `mail` and `deploy` ask people, `deploy` with a plan;
/// `wait` suspends.
pub fn tools() -> BTreeMap<String, ToolFacts> {
    let tool = |name: &str, risk, side_effects, idempotent, plans| ToolFacts {
        name: name.to_owned(),
        description: format!("{name}s"),
        schema_version: 1,
        risk,
        side_effects,
        idempotent,
        plans,
        editable: name == "deploy",
        outside: name == "fetch",
        sends: false,
        target: Vec::new(),
    };
    [
        tool("look", Risk::Low, false, true, false),
        tool("wait", Risk::Low, false, true, false),
        tool("fetch", Risk::Low, false, true, false),
        tool("note", Risk::Low, true, true, false),
        tool("ping", Risk::Medium, true, false, false),
        tool("mail", Risk::Medium, true, false, false),
        tool("deploy", Risk::High, true, false, true),
    ]
    .into_iter()
    .map(|t| (t.name.clone(), t))
    .collect()
}

pub fn rule(name: &str, gate: Gate, tool: &str) -> Rule {
    Rule {
        route: None,
        name: name.into(),
        gate,
        tool: tool.into(),
        agent: "*".into(),
        risk: None,
        args: BTreeMap::new(),
        approvers: None,
        expires_after: None,
        why: String::new(),
    }
}

/// A directory of people: name and identities of each.
pub fn directory(people: &[(&str, &[&str])]) -> People {
    let entry = |(name, ids): &(&str, &[&str])| PersonEntry {
        name: (*name).to_owned(),
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    };
    People::new(people.iter().map(entry).collect(), false).unwrap()
}

pub fn pattern(text: &str) -> Pattern {
    Pattern::try_from(text.to_owned()).unwrap()
}

/// A file that comes with a message.
pub fn file(name: &str) -> Attached {
    Attached::File { name: name.into(), place: format!("place of {name}") }
}

/// A text from outside that is handed over with a message.
pub fn passage(label: &str) -> Passage {
    Passage { label: label.into(), text: format!("what stands in {label}") }
}

pub fn read(label: &str, text: &str) -> Gathered {
    Gathered { label: label.into(), text: Ok(text.into()), by: Vec::new() }
}

impl Sim {
    pub fn new() -> Self {
        let forbidden = Rule {
            args: [("env".to_owned(), pattern("moon"))].into(),
            why: "nothing is deployed to the moon".into(),
            ..rule("no moon", Gate::Deny, "deploy")
        };
        Self {
            thread: Thread::vacant("console:story".parse().unwrap()),
            log: Vec::new(),
            now: NOON,
            dice: 0.5,
            spec: AgentSpec {
                file: "tester.md".into(),
                prompt_line: 1,
                name: "ops".into(),
                description: "A test agent.".into(),
                provider: None,
                model: None,
                tools: tools().into_keys().collect(),
                rules: Vec::new(),
                prefetch: Vec::new(),
                limits: Limits::default(),
                prompt: String::new(),
                digest: Digest::ZERO,
            },
            policy: Policy {
                rules: vec![rule("notes run", Gate::Auto, "note"), rule("pings run", Gate::Auto, "ping"), forbidden],
                approvers: Approvers {
                    users: vec!["chat:ann".into(), "console:ops".into()],
                    groups: vec!["release".into()],
                    quorum: 1,
                    requester_may: None,
                },
                expires_after_ms: HOUR,
                ..Policy::default()
            },
            secrets: SecretFilter::new([CONFIGURED]).with_key([7; 32]),
            requester: RequesterRule::Never,
            people: directory(&[
                ("ops", &["console:ops"]),
                ("ann", &["chat:ann"]),
                ("bob", &["chat:bob"]),
                ("eve", &["chat:eve"]),
            ]),
            retry: Retry { max_attempts: 4, base_ms: SECOND, cap_ms: 60 * SECOND },
            window: window::WindowLimits { max_tokens: 50_000, max_entries: 400, keep_last: 100 },
            message_max_bytes: 1_000,
            base_bytes: 0,
            pushes: false,
            facts: tools(),
            plan: "v1 -> v2".into(),
            mirror: Thread::vacant("console:story".parse().unwrap()),
            shown: 0,
        }
    }

    /// A thread with a message in it: the model is asked.
    pub fn asked() -> Self {
        let mut sim = Self::new();
        assert_eq!(sim.say("do it"), Answer::Accepted);
        sim.trace();
        sim
    }

    /// A thread in which `deploy` waits for people.
    pub fn waiting() -> Self {
        let mut sim = Self::asked();
        sim.deploy_requested();
        sim.trace();
        sim
    }

    pub fn deploy_requested(&mut self) {
        self.calls(&[("deploy", json!({"env": "prod"}))]);
        self.planned();
    }

    /// Gives an input to the core, keeps what a store would, and folds the bytes again.
    pub fn feed(&mut self, input: Input) -> Answer {
        let rules = Rules {
            spec: &self.spec,
            policy: &self.policy,
            requester: self.requester,
            people: &self.people,
            secrets: &self.secrets,
            window: self.window,
            retry: self.retry,
            message_max_bytes: self.message_max_bytes,
            base_bytes: self.base_bytes,
        };
        let (events, answer) = step(&mut self.thread, input, &rules, self.now, self.dice);
        self.mirror.replay(&events).unwrap();
        assert_eq!(self.mirror, self.thread, "the live thread is the fold of its log");
        self.log.extend(events);
        answer
    }

    /// The fold of the bytes alone, as after a crash.
    pub fn refolded(&self) -> Thread {
        let mut thread = Thread::vacant(self.thread.id.clone());
        thread.replay(&self.log).unwrap();
        thread
    }

    pub fn events(&self) -> Vec<Event> {
        self.log.iter().enumerate().map(|(i, bytes)| Event::decode(bytes, i as u64 + 1).unwrap()).collect()
    }

    // --- people

    pub fn say(&mut self, text: &str) -> Answer {
        self.say_as(ops(), text)
    }

    pub fn say_as(&mut self, from: Principal, text: &str) -> Answer {
        self.deliver(from, text, None)
    }

    pub fn deliver(&mut self, from: Principal, text: &str, source: Option<&str>) -> Answer {
        let (source, pushes) = (source.map(str::to_owned), self.pushes);
        self.feed(Input::Message {
            context: Vec::new(),
            attached: Vec::new(),
            from,
            text: text.into(),
            source,
            outside: None,
            pushes,
            prefetch: Vec::new(),
        })
    }

    /// Somebody writes, and things come along that have to be fetched.
    pub fn say_with(&mut self, text: &str, attached: Vec<Attached>) -> Answer {
        let (text, pushes) = (text.to_owned(), self.pushes);
        let prefetch = Vec::new();
        let context = Vec::new();
        self.feed(Input::Message {
            context,
            attached,
            from: ops(),
            text,
            source: None,
            outside: None,
            pushes,
            prefetch,
        })
    }

    /// What came along has been fetched.
    pub fn gathered(&mut self, texts: Vec<Gathered>) -> Answer {
        let effect = self.effect(|e| matches!(e, Effect::Gather { .. })).expect("something is to be fetched");
        self.feed(Input::Gathered { effect, texts })
    }

    /// A program passes on what somebody else wrote, and some calls are made before the model looks.
    pub fn passed_on(&mut self, label: &str, text: &str, prefetch: &[(&str, Value)]) -> Answer {
        let from = Principal::service("hook:alerts");
        let prefetch = prefetch.iter().map(|(tool, args)| self.propose(tool, args.clone())).collect();
        let (outside, pushes) = (Some(label.to_owned()), self.pushes);
        self.feed(Input::Message {
            context: Vec::new(),
            attached: Vec::new(),
            from,
            text: text.into(),
            source: None,
            outside,
            pushes,
            prefetch,
        })
    }

    /// The same world with a fork of this thread in it.
    pub fn fork(&self, id: &str) -> Self {
        let mut fork = self.clone();
        fork.thread = Thread::vacant(id.parse().unwrap());
        (fork.mirror, fork.log, fork.shown) = (fork.thread.clone(), Vec::new(), 0);
        let started = Box::new(self.thread.forked(fork.thread.id.clone(), ops(), false));
        assert_eq!(fork.feed(Input::Fork { started }), Answer::Accepted);
        fork
    }

    /// A page of strangers is read.
    pub fn fetched(&mut self, text: &str) {
        self.calls(&[("fetch", json!({"url": "https://a.example"}))]);
        assert!(matches!(self.start("fetch"), Answer::Go { .. }));
        self.finish("fetch", Outcome::Succeeded { text: text.into() });
    }

    /// The verdicts on the calls of the last reply, by tool.
    pub fn verdicts(&self) -> BTreeMap<String, Verdict> {
        let calls = self.events().into_iter().rev().find_map(|e| match e.body {
            Body::ModelReplied { step: NextStep::Call { calls, .. }, .. } => Some(calls),
            Body::MessageReceived { prefetch, .. } if !prefetch.is_empty() => Some(prefetch),
            _ => None,
        });
        calls.unwrap_or_default().into_iter().map(|c| (c.tool, c.verdict)).collect()
    }

    pub fn pending(&self) -> Approval {
        self.thread.pending_approvals().next().expect("an approval waits").clone()
    }

    pub fn vote(&mut self, by: Principal, vote: Ballot) -> Answer {
        let Approval { id, digest, .. } = self.pending();
        self.vote_on(id, &digest.prefix(), by, vote)
    }

    pub fn vote_on(&mut self, approval: ApprovalId, digest: &str, by: Principal, vote: Ballot) -> Answer {
        self.feed(Input::Vote { approval, digest: digest.into(), by, groups: Vec::new(), vote, source: None })
    }

    pub fn approve(&mut self, by: Principal) -> Answer {
        self.vote(by, Ballot::Approve { note: String::new() })
    }

    pub fn deny(&mut self, by: Principal, reason: &str) -> Answer {
        self.vote(by, Ballot::Deny { reason: reason.into() })
    }

    pub fn edit(&mut self, by: Principal, args: Value) -> Answer {
        let args = Box::new(self.propose("deploy", args));
        self.vote(by, Ballot::Edit { args })
    }

    pub fn question(&self) -> QuestionId {
        *self.thread.questions.keys().next().expect("a question is open")
    }

    pub fn reply(&mut self, by: Principal, text: &str) -> Answer {
        self.feed(Input::Answer { question: self.question(), by, groups: Vec::new(), text: text.into(), source: None })
    }

    pub fn mark(&mut self, by: Principal, mark: Mark) -> Answer {
        let call = self.thread.calls.iter().find(|(_, c)| c.stage == Stage::Lost).map(|(id, _)| *id).unwrap();
        self.feed(Input::Mark { call, by, groups: vec![], mark })
    }

    pub fn pause(&mut self) -> Answer {
        self.feed(Input::Pause { by: ops(), why: String::new() })
    }

    pub fn resume(&mut self) -> Answer {
        self.feed(Input::Resume { by: ops() })
    }

    pub fn stop(&mut self) -> Answer {
        self.feed(Input::Stop { by: ops(), why: String::new() })
    }

    pub fn cancel(&mut self) -> Answer {
        self.feed(Input::Cancel { by: ops(), why: "enough".into() })
    }

    // --- the model

    pub fn propose(&self, tool: &str, args: Value) -> Proposed {
        let raw = json::canonical(&args);
        let checked = match self.facts.get(tool) {
            Some(facts) => Ok(Checked { facts: facts.clone(), title: format!("{tool} {raw}"), args }),
            None => Err(format!("there is no tool `{tool}`")),
        };
        Proposed { tool: tool.into(), raw, checked }
    }

    pub fn thinking(&self) -> EffectId {
        self.effect(|e| *e == Effect::CallModel).expect("the model is asked")
    }

    pub fn effect(&self, wanted: impl Fn(&Effect) -> bool) -> Option<EffectId> {
        self.thread.outstanding().iter().find(|(_, e)| wanted(e)).map(|(id, _)| *id)
    }

    pub fn replied(&mut self, seen: u64, text: &str, calls: Vec<Proposed>, finish: Finish) -> Answer {
        let effect = self.thinking();
        let usage = Usage { input: 100, output: 10 };
        let model = ModelStamp { provider: "scripted".into(), model: "m".into(), prompt: "p".into() };
        self.feed(Input::Replied { effect, seen, text: text.into(), calls, finish, usage, model, sent: 0 })
    }

    pub fn calls(&mut self, calls: &[(&str, Value)]) -> Answer {
        let calls = calls.iter().map(|(tool, args)| self.propose(tool, args.clone())).collect();
        self.replied(self.thread.version, "", calls, Finish::Complete)
    }

    pub fn done(&mut self, text: &str) -> Answer {
        self.replied(self.thread.version, text, Vec::new(), Finish::Complete)
    }

    pub fn ask(&mut self, args: Value) -> Answer {
        self.calls(&[(ASK_HUMAN, args)])
    }

    pub fn model_fails(&mut self, kind: ModelErrorKind, retry_after_ms: Option<u64>) -> Answer {
        let effect = self.thinking();
        let error = ModelError { kind, message: "it is ill".into(), retry_after_ms };
        self.feed(Input::ModelFailed { effect, error })
    }

    // --- tools

    pub fn plan_now(&self) -> Plan {
        Plan { summary: self.plan.clone(), facts: json!({"now": self.plan}) }
    }

    /// The tool says what it would do.
    pub fn planned(&mut self) -> Answer {
        let effect = self.effect(|e| matches!(e, Effect::PlanTool { .. })).expect("a plan is wanted");
        self.feed(Input::Planned { effect, plan: Ok(self.plan_now()) })
    }

    pub fn run_effect(&self, tool: &str) -> Option<EffectId> {
        self.effect(
            |e| matches!(e, Effect::RunTool { call } if self.thread.calls.get(call).is_some_and(|c| c.gated.tool == tool)),
        )
    }

    pub fn start(&mut self, tool: &str) -> Answer {
        let effect = self.run_effect(tool).expect("the call is to run");
        let facts = self.facts[tool].clone();
        let plan = facts.plans.then(|| Ok(self.plan_now()));
        self.feed(Input::Start { effect, facts, plan })
    }

    pub fn finish(&mut self, tool: &str, outcome: Outcome) -> Answer {
        let effect = self.run_effect(tool).expect("the call runs");
        self.feed(Input::Finished { effect, outcome, duration_ms: 5 })
    }

    /// Starts it and lets it succeed.
    pub fn runs(&mut self, tool: &str) {
        assert!(matches!(self.start(tool), Answer::Go { .. }), "{tool} may run");
        self.finish(tool, Outcome::Succeeded { text: format!("{tool} ok") });
    }

    pub fn fails(&mut self, tool: &str) {
        assert!(matches!(self.start(tool), Answer::Go { .. }), "{tool} may run");
        self.finish(tool, Outcome::Failed { error: format!("{tool} broke") });
    }

    /// It started, and the worker died.
    pub fn lost(&mut self, tool: &str) {
        assert!(matches!(self.start(tool), Answer::Go { .. }), "{tool} may run");
        let effect = self.run_effect(tool).unwrap();
        self.feed(Input::Lost { effect });
    }

    pub fn runnable(&self) -> Vec<String> {
        self.thread.runnable().map(|(_, e)| show_effect(&self.thread, e)).collect()
    }

    // --- time

    pub fn after(&mut self, ms: u64) -> Answer {
        self.now = self.now.plus_ms(ms);
        self.feed(Input::Tick)
    }

    /// The readable events since the last time this was asked.
    pub fn trace(&mut self) -> String {
        let events = self.events();
        let lines: Vec<String> = events.iter().skip(self.shown).map(|e| show(e, &events)).collect();
        self.shown = events.len();
        lines.join("\n")
    }
}

fn show_effect(thread: &Thread, effect: &Effect) -> String {
    let tool = |id: &CallId| thread.calls.get(id).map_or("?", |c| c.gated.tool.as_str()).to_owned();
    match effect {
        Effect::CallModel => "ask the model".into(),
        Effect::PlanTool { call } => format!("plan {}", tool(call)),
        Effect::RunTool { call } => format!("run {}", tool(call)),
        Effect::Gather { message, .. } => format!("gather {message}"),
        Effect::Handle => "handle".to_owned(),
        Effect::Post { posting } => format!("post {}", show_posting(posting)),
    }
}

fn show_posting(posting: &Posting) -> String {
    match posting {
        Posting::Answer { seq } => format!("answer#{seq}"),
        Posting::Card { approval } => format!("card#{}", approval.seq),
        Posting::Question { question } => format!("question#{}", question.seq),
        Posting::Unknown { call } => format!("unknown#{}", call.seq),
        Posting::Notice { seq } => format!("notice#{seq}"),
    }
}

fn show_time(at: Timestamp) -> String {
    match at.0 - NOON.0 {
        ms if ms % 1_000 == 0 => format!("+{}s", ms / 1_000),
        ms => format!("+{ms}ms"),
    }
}

/// One event in one line, with the fields that matter; numbers of calls and approvals are the
/// sequence numbers of the events that made them.
fn show(event: &Event, log: &[Event]) -> String {
    let tool = |id: &CallId| {
        let made = log.iter().find(|e| e.seq == id.seq).map(|e| &e.body);
        match made {
            Some(Body::ModelReplied { step: NextStep::Call { calls, .. }, .. }) => calls[id.ord as usize].tool.clone(),
            Some(Body::MessageReceived { prefetch, .. }) => prefetch[id.ord as usize].tool.clone(),
            _ => format!("{id}"),
        }
    };
    let gated = |calls: &[GatedCall]| -> String {
        let one = |c: &GatedCall| {
            let verdict = match &c.verdict {
                Verdict::Auto { rule } => format!("auto ({rule})"),
                Verdict::Ask { terms } => format!("ask ({})", terms.rule),
                Verdict::Deny { why, .. } => format!("deny ({why})"),
                Verdict::Invalid { error } => format!("invalid ({error})"),
                Verdict::Held { why } => format!("held ({why})"),
            };
            format!("{} {} -> {verdict}", c.tool, json::canonical(&c.args))
        };
        calls.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    let text = match &event.body {
        Body::Gathered { texts, .. } => {
            let read = |g: &Gathered| format!("{}: {:?}", g.label, g.text);
            texts.iter().map(read).collect::<Vec<_>>().join("; ")
        }
        Body::IntentReceived { intent, .. } => format!("{}: {}", intent.by, intent.act.name()),
        Body::IntentHandled { done, said } => format!("{done}: {said}"),
        Body::ThreadStarted { agent, by, parent, carried, untrusted, .. } => {
            let fork = parent.as_ref().map_or(String::new(), |p| format!(" fork of {} at {}", p.thread, p.seq));
            let untrusted = match untrusted.describe() {
                texts if texts.is_empty() => String::new(),
                texts => format!(" untrusted={texts}"),
            };
            format!("agent={agent} by={by}{fork} carried={}{untrusted}", carried.len())
        }
        Body::MessageReceived { from, text, outside, prefetch, context, .. } => {
            let handed = context.iter().map(|p| format!(" context={}", p.label)).collect::<String>();
            let outside = outside.as_ref().map_or(String::new(), |label| format!(" outside={label}"));
            format!("{from}: {text:?}{outside}{handed} {}", gated(prefetch))
        }
        Body::ModelReplied { seen, step, correction, .. } => {
            let step = match step {
                NextStep::Call { calls, why } if why.is_empty() => gated(calls),
                NextStep::Call { calls, why } => format!("{why:?} {}", gated(calls)),
                NextStep::Ask { text, .. } => format!("ask {text:?}"),
                NextStep::Done { text } if !correction.is_empty() => format!("no answer {text:?}"),
                NextStep::Done { text } => format!("done {text:?}"),
            };
            format!("seen={seen} {step}")
        }
        Body::ModelFailed { error, message, attempt, retry_at, ceiling, .. } => {
            let ceiling = ceiling.map_or(String::new(), |bytes| format!(" ceiling={bytes}"));
            let retry = retry_at.map_or("never".into(), show_time);
            format!("{error:?} {message:?} attempt={attempt} retry={retry}{ceiling}")
        }
        Body::ToolPlanned { call, plan } => match plan {
            Ok(plan) => format!("{}: {}", tool(call), plan.summary),
            Err(error) => format!("{} failed: {error}", tool(call)),
        },
        Body::ApprovalRequested { approval, call, revision, because, args, plan, requesters, expires_at, .. } => {
            let because = match because {
                Because::Gated => "gated".to_owned(),
                Because::Edited { by } => format!("edited by {by}"),
                Because::Stale { why } => format!("stale: {why}"),
                Because::Retried { by } => format!("retried by {by}"),
            };
            let requesters: Vec<&str> = requesters.iter().map(|p| p.label()).collect();
            format!(
                "#{} r{revision} {} {} plan={} because={because} requesters={} expires={}",
                approval.seq,
                tool(call),
                json::canonical(args),
                plan.as_ref().map_or("-", |p| p.summary.as_str()),
                requesters.join(","),
                show_time(*expires_at)
            )
        }
        Body::VoteCast { approval, revision, by, groups, vote, .. } => {
            let vote = match vote {
                Vote::Approve { note } => format!("approve {note:?}"),
                Vote::Deny { reason } => format!("deny {reason:?}"),
                Vote::Edit { args, .. } => format!("edit {}", json::canonical(args)),
            };
            format!("#{} r{revision} {by}{groups:?}: {vote}", approval.seq)
        }
        Body::ApprovalResolved { approval, revision, resolution } => {
            format!("#{} r{revision} {resolution:?}", approval.seq)
        }
        Body::QuestionAsked { question, cause, text, answer } => {
            format!("#{} {cause:?} {text:?} {answer:?}", question.seq)
        }
        Body::QuestionAnswered { question, by, text, .. } => format!("#{} {by}: {text:?}", question.seq),
        Body::ToolStarted { call, digest, .. } => {
            format!("{} digest={}", tool(call), if digest.is_some() { "yes" } else { "no" })
        }
        Body::ToolFinished { call, outcome, .. } => {
            let outcome = match outcome {
                Outcome::Succeeded { text } => format!("succeeded {text:?}"),
                Outcome::Failed { error } => format!("failed {error:?}"),
                Outcome::Suspended { until, text } => format!("suspended until {} {text:?}", show_time(*until)),
                Outcome::Unknown { error } => format!("unknown {error:?}"),
            };
            format!("{} {outcome}", tool(call))
        }
        Body::OutcomeLost { call } => tool(call),
        Body::OutcomeMarked { call, by, mark } => format!("{} by {by}: {mark:?}", tool(call)),
        Body::TimerFired { timer } => match timer {
            Timer::Wake { call } => format!("wake {}", tool(call)),
            Timer::Model => "model".into(),
            Timer::Post { posting } => format!("post {}", show_posting(posting)),
        },
        Body::Posted { posting, reference } => format!("{} at {reference}", show_posting(posting)),
        Body::DeliveryFailed { posting, error, attempt, retry_at } => format!(
            "{} {error:?} attempt={attempt} retry={}",
            show_posting(posting),
            retry_at.map_or("never".into(), show_time)
        ),
        Body::Compacted { upto, summary, cut, .. } => {
            let cut = cut.map_or(String::new(), |cut| format!(" cut={}/{:?}", cut.results, cut.people));
            format!("upto={upto} {} lines{cut}", summary.lines().count())
        }
        Body::Paused { by, why } | Body::Stopped { by, why } | Body::Cancelled { by, why } => {
            if why.is_empty() {
                by.to_string()
            } else {
                format!("{by}: {why}")
            }
        }
        Body::Resumed { by } => by.to_string(),
    };
    format!("{} {} {}", event.seq, event.body.name(), text).trim_end().to_owned()
}
