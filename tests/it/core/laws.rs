//! Laws: what holds whatever happens, in whatever order.
//!
//! Random worlds press every button at every moment, right and wrong; the log that comes of it is
//! judged by code that knows nothing of the fold. Cases are bounded so that all of it takes seconds.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use serde_json::json;
use twelve::agent::*;

use super::*;

fn config(cases: u32) -> Config {
    // A failing case is printed with its input; nothing is written beside the sources.
    Config { cases, failure_persistence: None::<Box<FileFailurePersistence>>.map(|p| p as _), ..Config::default() }
}

type Op = (u8, u8, u8, u8);

fn pick<T: Clone>(from: &[T], n: u8) -> Option<T> {
    from.get(usize::from(n) % from.len().max(1)).cloned()
}

fn anybody(n: u8) -> Principal {
    let agent = Principal { kind: PrincipalKind::Agent, ..Principal::human("chat:ann") };
    pick(&[ann(), bob(), ann(), ops(), bob(), eve(), robot(), agent, ann(), bob(), ann(), bob()], n).unwrap()
}

/// Does something to the thread. Returns the call that was let go, with the arguments it got.
fn press(t: &mut Sim, (what, a, b, c): Op) -> Option<(CallId, Value)> {
    let effects: Vec<(EffectId, Effect)> = t.thread.outstanding().iter().map(|(id, e)| (*id, e.clone())).collect();
    let find = |wanted: fn(&Effect) -> bool, n: u8| {
        let fitting: Vec<EffectId> = effects.iter().filter(|(_, e)| wanted(e)).map(|(id, _)| *id).collect();
        // Every eighth is an effect of which nobody knows.
        if n.is_multiple_of(16) { Some(EffectId::new(t.thread.short, u64::from(a), 0)) } else { pick(&fitting, n) }
    };
    let thinks = find(|e| *e == Effect::CallModel, a);
    let plans = find(|e| matches!(e, Effect::PlanTool { .. }), a);
    let runs = find(|e| matches!(e, Effect::RunTool { .. }), a);
    let posts = find(|e| matches!(e, Effect::Post { .. }), a);
    let gathers = find(|e| matches!(e, Effect::Gather { .. }), a);
    let tools = ["look", "note", "ping", "mail", "deploy", "deploy", "wait", "nothing", "fetch"];
    // Two of three are something that the state calls for, or nothing much would ever happen.
    let mut wanted: Vec<u8> = effects
        .iter()
        .map(|(_, effect)| match effect {
            Effect::CallModel => 1,
            Effect::PlanTool { .. } => 6,
            Effect::RunTool { call } if t.thread.calls[call].stage == Stage::Started => 11,
            Effect::RunTool { call } if t.thread.calls[call].gated.facts.as_ref().is_some_and(|f| f.idempotent) => {
                [8, 11][usize::from(b % 2)]
            }
            Effect::RunTool { .. } => 8,
            Effect::Post { .. } => 19,
            Effect::Gather { .. } => 25,
            Effect::Handle => 21,
        })
        .collect();
    wanted.extend(t.thread.pending_approvals().flat_map(|_| [14; 2]));
    wanted.extend(t.thread.questions.keys().map(|_| 17));
    wanted.extend(t.thread.calls.values().filter(|c| c.stage == Stage::Lost).map(|_| 18));
    wanted.extend(t.thread.run.is_none().then_some(0));
    wanted.extend(t.thread.paused.is_some().then_some(24));
    let what = if what % 3 > 0 { pick(&wanted, what / 3).unwrap_or(21) } else { what / 3 % 24 };
    match what {
        0 if c < 24 => drop(t.passed_on(
            ["a webhook", "a mail"][usize::from(a % 2)],
            "ping 9",
            &[(["ping", "look", "note"][usize::from(b % 3)], json!({}))],
        )),
        0 if c < 48 => {
            let prefetch = vec![t.propose(["ping", "note"][usize::from(b % 2)], json!({"n": c}))];
            let (text, pushes) = ("go on".to_owned(), t.pushes);
            t.feed(Input::Message {
                context: (0..(c / 3) % 2).map(|n| passage(&format!("page {n}"))).collect(),
                attached: (0..c % 3).map(|n| file(&format!("{n}.log"))).collect(),
                from: ops(),
                text,
                source: None,
                outside: None,
                pushes,
                prefetch,
            });
        }
        0 => drop(t.deliver(
            [ops(), bob(), eve()][usize::from(a % 3)].clone(),
            "go on",
            (b > 250).then_some(["s1", "s2"][usize::from(c % 2)]),
        )),
        1..=4 => {
            let effect = thinks?;
            let calls = match b % 12 {
                0 => vec![],
                1 => vec![t.propose(ASK_HUMAN, json!({"question": "Which?"}))],
                n => (0..n.min(3))
                    .map(|i| {
                        let env = ["prod", "test", "moon"][usize::from(c.wrapping_add(i) % 3)];
                        t.propose(
                            tools[usize::from((c ^ b.rotate_left(u32::from(i) * 3)) % 9)],
                            json!({"env": env, "n": f64::from(c) / 7.0}),
                        )
                    })
                    .collect(),
            };
            let finish = if c == 0 { Finish::CutOff } else { Finish::Complete };
            let seen = t.thread.version.saturating_sub(if c > 180 { u64::from(c % 4) } else { 0 });
            let model = ModelStamp { provider: "scripted".into(), model: "m".into(), prompt: "p".into() };
            let usage = Usage { input: 50, output: 5 };
            let text = if b > 250 { "" } else { "words" }.to_owned();
            t.feed(Input::Replied { effect, seen, text, calls, finish, usage, model, sent: u64::from(a) * 10 });
        }
        5 => {
            let kind = [ModelErrorKind::Timeout, ModelErrorKind::Auth][usize::from(b > 220)];
            let error = ModelError { kind, message: "ill".into(), retry_after_ms: Some(u64::from(c) * 100) };
            t.feed(Input::ModelFailed { effect: thinks?, error });
        }
        6 | 7 => {
            let plan = if b > 220 { Err("no plan".to_owned()) } else { Ok(t.plan_now()) };
            t.feed(Input::Planned { effect: plans?, plan });
        }
        8..=10 => {
            let effect = runs?;
            let call = match t.thread.outstanding().get(&effect) {
                Some(Effect::RunTool { call }) => *call,
                _ => CallId::new(t.thread.short, 0, 0),
            };
            let tool = t.thread.calls.get(&call).map_or("look".to_owned(), |c| c.gated.tool.clone());
            let facts = t.facts[&tool].clone();
            let plan = facts.plans.then(|| if b > 240 { Err("no plan".to_owned()) } else { Ok(t.plan_now()) });
            if let Answer::Go { args, .. } = t.feed(Input::Start { effect, facts, plan }) {
                return Some((call, args));
            }
        }
        11 | 12 => {
            // A runtime reports the end of what it was allowed to start, and of nothing else.
            let started =
                |e: &Effect| match e {
                    Effect::RunTool { call } => t.thread.calls.get(call).is_some_and(|c| {
                        c.stage == Stage::Started || c.gated.facts.as_ref().is_some_and(|f| f.idempotent)
                    }),
                    _ => false,
                };
            let effect = pick(&effects.iter().filter(|(_, e)| started(e)).map(|(id, _)| *id).collect::<Vec<_>>(), a)?;
            let outcome = match b % 6 {
                0 => Outcome::Failed { error: "broke".into() },
                1 => Outcome::Unknown { error: "who knows".into() },
                2 => Outcome::Suspended { until: t.now.plus_ms(u64::from(c) * 1_000), text: "slept".into() },
                _ => Outcome::Succeeded { text: "ok".into() },
            };
            t.feed(Input::Finished { effect, outcome, duration_ms: 1 });
        }
        13 => drop(t.feed(Input::Lost { effect: runs? })),
        14..=16 => {
            let all: Vec<Approval> = t.thread.approvals.values().map(|a| (**a).clone()).collect();
            let approval = pick(&all, b)?;
            let digest = match c {
                0..=3 => String::new(),
                4..=15 => Digest::of(b"other").prefix(),
                _ => approval.digest.prefix(),
            };
            let vote = match c % 16 {
                0 => Ballot::Deny { reason: "no".into() },
                1 | 2 => Ballot::Edit { args: Box::new(t.propose("deploy", json!({"env": "test", "n": c}))) },
                _ => Ballot::Approve { note: String::new() },
            };
            let groups = if b % 5 == 0 { vec!["release".to_owned()] } else { vec![] };
            t.feed(Input::Vote { approval: approval.id, digest, by: anybody(a), groups, vote, source: None });
        }
        17 => {
            let question = pick(&t.thread.questions.keys().copied().collect::<Vec<_>>(), b)?;
            let text = ["go on", "stop", "1", "perhaps"][usize::from(c % 4)].to_owned();
            t.feed(Input::Answer { question, by: anybody(a), groups: Vec::new(), text, source: None });
        }
        18 => {
            let call = pick(&t.thread.calls.keys().copied().collect::<Vec<_>>(), b)?;
            let note = String::new();
            let mark = [Mark::Retry, Mark::Succeeded { note: note.clone() }, Mark::Failed { note }][usize::from(c % 3)]
                .clone();
            t.feed(Input::Mark { call, by: anybody(a), groups: vec![], mark });
        }
        19 => {
            let (effect, error) = (posts?, "429".to_owned());
            let failed = Input::PostFailed { effect, error, transient: c % 2 == 0, retry_after_ms: None };
            t.feed(if b % 3 == 0 { failed } else { Input::Posted { effect, reference: "ts".into() } });
        }
        20 => {
            let (by, why) = (ops(), String::new());
            match b % 16 {
                0 => drop(t.feed(Input::Cancel { by, why })),
                1..=3 => drop(t.feed(Input::Stop { by, why })),
                4..=7 => drop(t.feed(Input::Pause { by, why })),
                _ => drop(t.feed(Input::Resume { by })),
            }
        }
        21 => {
            // Clocks go back, too.
            let ms = i64::from(b) * 20_000 * if c < 60 { -1 } else { 1 };
            t.now = Timestamp(t.now.0 + ms);
            t.feed(Input::Tick);
        }
        24 => drop(t.resume()),
        25 => {
            let texts = match c % 4 {
                0 => vec![],
                1 => vec![Gathered { label: "a file".into(), text: Err("gone".into()), by: Vec::new() }],
                n => (0..n)
                    .map(|n| Gathered { label: format!("file {n}"), text: Ok("do it".into()), by: Vec::new() })
                    .collect(),
            };
            t.feed(Input::Gathered { effect: gathers?, texts });
        }
        22 => t.plan = format!("v{}", b % 2),
        _ => t.facts.get_mut("deploy").unwrap().schema_version += u32::from(b % 4 == 0),
    }
    None
}

/// The event that brought the first text from outside, by the log alone.
fn first_from_outside(log: &[Event]) -> Option<u64> {
    let mut reading = BTreeSet::new();
    let mut asleep = BTreeSet::new();
    for event in log {
        let calls = match &event.body {
            Body::MessageReceived { outside: Some(_), .. } => return Some(event.seq),
            Body::MessageReceived { context, .. } if !context.is_empty() => return Some(event.seq),
            Body::Gathered { texts, .. } if texts.iter().any(|t| t.text.is_ok()) => return Some(event.seq),
            Body::ThreadStarted { untrusted, .. } if !untrusted.is_empty() => return Some(event.seq),
            Body::ToolFinished { call, outcome: Outcome::Suspended { .. }, .. } => {
                asleep.insert(*call);
                continue;
            }
            Body::ToolFinished { call, .. } if reading.contains(call) => return Some(event.seq),
            Body::TimerFired { timer: Timer::Wake { call } } if reading.contains(call) && asleep.contains(call) => {
                return Some(event.seq);
            }
            Body::MessageReceived { prefetch, .. } => prefetch,
            Body::ModelReplied { step: NextStep::Call { calls, .. }, .. } => calls,
            _ => continue,
        };
        let made = calls.iter().zip(0..).filter(|(c, _)| c.tool == "fetch");
        reading.extend(made.map(|(_, ord)| CallId::new(log_of(log), event.seq, ord)));
    }
    None
}

/// The short id that stands in all ids of a log.
fn log_of(log: &[Event]) -> ShortId {
    match &log[0].body {
        Body::ThreadStarted { thread, .. } => thread.short(),
        other => panic!("a log does not begin with {other:?}"),
    }
}

/// What the log itself says about a call that was let go. It reads events, never the fold.
fn may_go(log: &[Event], call: CallId, args: &Value, safe: &[String]) -> Result<(), String> {
    let gated = log
        .iter()
        .find(|e| e.seq == call.seq)
        .and_then(|e| match &e.body {
            Body::ModelReplied { step: NextStep::Call { calls, .. }, .. } => calls.get(call.ord as usize),
            Body::MessageReceived { prefetch, .. } => prefetch.get(call.ord as usize),
            _ => None,
        })
        .ok_or("nobody made this call")?;
    let facts = gated.facts.as_ref().ok_or("a call of no tool")?;
    if let Some(text) = first_from_outside(log).filter(|text| *text <= call.seq) {
        match &gated.verdict {
            Verdict::Auto { .. } if facts.side_effects && !safe.contains(&gated.tool) => {
                return Err(format!("nobody was asked after event {text}"));
            }
            Verdict::Ask { terms } if terms.untrusted.is_empty() => return Err("the card names no text".into()),
            _ => {}
        }
    }
    let mut ended = None;
    for event in log.iter().filter(|e| e.seq > call.seq) {
        match &event.body {
            Body::Stopped { .. } | Body::Cancelled { .. } => ended = Some("the run had ended"),
            Body::OutcomeMarked { call: c, mark: Mark::Retry, .. } if *c == call => ended = None,
            Body::ToolFinished { call: c, outcome: Outcome::Succeeded { .. } | Outcome::Failed { .. }, .. }
                if *c == call =>
            {
                ended = Some("it had finished");
            }
            _ => {}
        }
    }
    if let Some(why) = ended {
        return Err(why.into());
    }
    let starts = log.iter().filter(|e| matches!(&e.body, Body::ToolStarted { call: c, .. } if *c == call)).count();
    let retries = log
        .iter()
        .filter(|e| matches!(&e.body, Body::OutcomeMarked { call: c, mark: Mark::Retry, .. } if *c == call))
        .count();
    if !facts.idempotent && starts != 1 + retries {
        return Err(format!("{starts} starts in the log after {retries} retries"));
    }
    let terms = match &gated.verdict {
        Verdict::Auto { .. } => return Ok(()),
        Verdict::Ask { terms } => terms,
        other => return Err(format!("the verdict was {other:?}")),
    };
    let mut requests = log.iter().filter(|e| matches!(&e.body, Body::ApprovalRequested { call: c, .. } if *c == call));
    let Some(Event {
        seq,
        body: Body::ApprovalRequested { approval, revision, digest, requesters, expires_at, args: shown, .. },
        ..
    }) = requests.next_back()
    else {
        return Err("nobody was asked".into());
    };
    let after: Vec<&Event> = log.iter().filter(|e| e.seq > *seq).collect();
    let mut people = BTreeSet::new();
    let mut approved = false;
    for event in &after {
        match &event.body {
            Body::VoteCast { approval: a, revision: r, by, groups, vote, .. } if a == approval && r == revision => {
                let listed = by.kind == PrincipalKind::Human
                    && (terms.approvers.users.contains(&by.id)
                        || terms.approvers.groups.iter().any(|g| groups.contains(g)));
                match vote {
                    Vote::Approve { .. }
                        if listed && (terms.approvers.requester_may == Some(true) || !requesters.contains(by)) =>
                    {
                        people.insert(by.id.clone());
                    }
                    Vote::Approve { .. } => return Err(format!("{by} may not approve")),
                    Vote::Deny { .. } | Vote::Edit { .. } => return Err("it was denied or changed".into()),
                }
            }
            Body::ApprovalResolved { approval: a, revision: r, resolution } if a == approval && r == revision => {
                approved = *resolution == Resolution::Approved;
            }
            _ => {}
        }
    }
    let started = after.iter().find_map(|e| match &e.body {
        Body::ToolStarted { call: c, digest, .. } if *c == call => Some((e.at, *digest)),
        _ => None,
    });
    let Some((at, started_as)) = started else { return Err("its start is not in the log".into()) };
    if !approved || people.len() < terms.approvers.quorum as usize {
        Err(format!("approved: {approved}, by {people:?}"))
    } else if started_as != Some(*digest) || shown != args {
        Err("what runs is not what was shown".into())
    } else if at >= *expires_at {
        Err("it had expired".into())
    } else {
        Ok(())
    }
}

/// A call that people would have to look at, made by a model that could not have read what came with a message.
fn made_unread(log: &[Event]) -> Option<String> {
    let mut unread = BTreeSet::new();
    for event in log {
        match &event.body {
            Body::MessageReceived { attached, .. } if !attached.is_empty() => drop(unread.insert(event.seq)),
            Body::Gathered { message, .. } => drop(unread.remove(message)),
            Body::Stopped { .. } | Body::Cancelled { .. } => unread.clear(),
            Body::ModelReplied { step: NextStep::Call { calls, .. }, .. } if !unread.is_empty() => {
                let held = |c: &GatedCall| match &c.verdict {
                    Verdict::Held { .. } | Verdict::Invalid { .. } | Verdict::Deny { .. } => true,
                    Verdict::Auto { .. } => !c.has_side_effects(),
                    Verdict::Ask { .. } => false,
                };
                if let Some(call) = calls.iter().find(|c| !held(c)) {
                    return Some(format!("{} in event {} before {unread:?} was read", call.tool, event.seq));
                }
            }
            _ => {}
        }
    }
    None
}

/// What holds in every state.
fn lawful(t: &Sim, seen: &mut usize) -> Result<(), TestCaseError> {
    let thread = &t.thread;
    prop_assert_eq!(verify_chain(&t.log, thread.version, thread.head), None);
    let events = t.events();
    prop_assert!(events.windows(2).all(|w| w[0].at <= w[1].at), "time went back");
    prop_assert!(t.log.len() >= *seen);
    *seen = t.log.len();

    prop_assert_eq!(made_unread(&events), None);
    let (mut asks, mut gathers) = (false, false);
    for (_, effect) in thread.runnable() {
        asks |= *effect == Effect::CallModel;
        gathers |= matches!(effect, Effect::Gather { .. });
    }
    prop_assert!(!(asks && gathers), "the model is asked before what came with a message was read");
    let waits = thread.outstanding().values().any(|e| matches!(e, Effect::Gather { .. }));
    prop_assert!(!waits || gathers, "nobody fetches what the model waits for");

    let questions = thread.outstanding().values().filter(|e| **e == Effect::CallModel).count();
    prop_assert!(questions <= 1, "{} questions to the model", questions);
    prop_assert!(questions == 0 || thread.calls.is_empty(), "the model is asked before its calls have ended");
    let mut distinct = BTreeMap::new();
    for effect in thread.outstanding().values().filter(|e| !matches!(e, Effect::Post { .. })) {
        *distinct.entry(format!("{effect:?}")).or_insert(0) += 1;
    }
    prop_assert!(distinct.values().all(|n| *n == 1), "an effect is outstanding twice: {:?}", distinct);

    let mut results: BTreeMap<CallId, u32> = BTreeMap::new();
    let mut made = BTreeSet::new();
    for entry in thread.window.entries() {
        match &entry.block {
            window::Block::ToolCall { call, .. } => drop(made.insert(*call)),
            window::Block::ToolResult { call, .. } => *results.entry(*call).or_default() += 1,
            _ => {}
        }
    }
    for call in &made {
        let wanted = u32::from(!thread.calls.contains_key(call));
        prop_assert_eq!(results.get(call).copied().unwrap_or(0), wanted, "results of {}", call);
    }
    prop_assert!(results.keys().all(|call| made.contains(call)));

    let due = thread.due_at();
    let waits_for_time = |at: Timestamp| due.is_some_and(|due| due <= at.max(thread.updated_at));
    for approval in thread.pending_approvals() {
        prop_assert!(waits_for_time(approval.expires_at), "nobody will notice the expiry");
    }
    if !thread.cancelled && thread.paused.is_none() {
        for call in thread.calls.values() {
            if let Stage::Sleeping { until, .. } = &call.stage {
                prop_assert!(waits_for_time(*until), "nobody will wake the call");
            }
        }
        prop_assert!(thread.model.retry_at.is_none_or(waits_for_time), "nobody will ask the model again");
    }
    prop_assert!(thread.posts.values().filter_map(|p| p.retry_at).all(waits_for_time));
    prop_assert!(thread.status() != Status::Running || due.is_some(), "it runs, and nobody will come");
    // In a cancelled thread people are told, and a start without an end is reported; nothing else.
    let works = thread.runnable().any(|(_, e)| match e {
        Effect::Post { .. } => false,
        Effect::RunTool { call } => thread.calls.get(call).is_none_or(|c| c.stage != Stage::Started),
        Effect::CallModel | Effect::PlanTool { .. } | Effect::Gather { .. } | Effect::Handle => true,
    });
    prop_assert!(!(thread.cancelled && works), "something is to be done in a cancelled thread");
    Ok(())
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn whatever_is_pressed_in_whatever_order_the_laws_hold(
        pushes: bool,
        quorum in 1..=2_u32,
        local: bool,
        ops in prop::collection::vec(any::<Op>(), 1..90),
    ) {
        let mut t = Sim::new();
        t.pushes = pushes;
        t.policy.approvers.quorum = quorum;
        t.policy.approvers.users.push("chat:bob".into());
        t.requester = if local { RequesterRule::Local } else { RequesterRule::Never };
        t.spec.limits = Limits { max_steps: 12, max_errors: 3, ..Limits::default() };
        t.say("do it");
        let mut seen = 0;
        for op in ops {
            if let Some((call, args)) = press(&mut t, op) {
                prop_assert!(!t.thread.cancelled && t.thread.paused.is_none());
                let verdict = may_go(&t.events(), call, &args, &[]);
                prop_assert!(verdict.is_ok(), "{} went: {:?}\n{}", call, verdict, t.trace());
            }
            lawful(&t, &mut seen)?;
        }
        prop_assert_eq!(t.refolded(), t.thread);
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn after_untrusted_text_no_unsafe_side_effect_starts_without_an_approval(
        forks: bool,
        safe in 0..3_usize,
        entries in 2..12_usize,
        ops in prop::collection::vec(any::<Op>(), 1..90),
    ) {
        let mut t = Sim::new();
        // Most things that happen are forgotten by the window soon after.
        t.window = window::WindowLimits { max_tokens: 1_000_000, max_entries: entries, keep_last: 1 };
        t.policy.safe_after_untrusted = [&[][..], &["note".to_owned()], &["n*te".to_owned()]][safe].to_vec();
        let safe = if safe == 0 { vec![] } else { vec!["note".to_owned()] };
        t.spec.limits = Limits { max_steps: 1_000, max_errors: 100, ..Limits::default() };
        t.say("do it");
        let half = ops.len() / 2;
        for (n, op) in ops.into_iter().enumerate() {
            if forks && n == half {
                let read = t.thread.untrusted.describe();
                t = t.fork("console:fork");
                prop_assert_eq!(t.thread.untrusted.describe(), read);
                t.say("go on there");
            }
            if let Some((call, args)) = press(&mut t, op) {
                let verdict = may_go(&t.events(), call, &args, &safe);
                prop_assert!(verdict.is_ok(), "{} went: {:?}\n{}", call, verdict, t.trace());
            }
            let first = t.thread.untrusted.texts().first().map(|text| text.seq);
            prop_assert_eq!(first, first_from_outside(&t.events()), "{}", t.trace());
            let marked = t.thread.window.entries().any(|e| e.untrusted) || t.thread.window.summary_is_untrusted();
            prop_assert!(!marked || first.is_some(), "a block is marked, and nobody knows why");
        }
        prop_assert_eq!(t.refolded(), t.thread);
    }
}

// --- crashes

/// What really happened outside, kept where no crash reaches it.
type Ledger = BTreeMap<CallId, u32>;

#[derive(Debug, PartialEq)]
struct End {
    status: Status,
    /// What was done outside, as tool and arguments.
    done: Vec<String>,
    last: Body,
}

/// Runs a world to its end, in which people approve, tools work and the model says `script`. The
/// process dies once, after `dies` micro steps (the moments between which a process can die), and is
/// started again. Returns how it ended and whether it got as far as dying.
fn world(script: &[Vec<u8>], dies: usize) -> (End, Ledger, bool) {
    let tools = ["look", "note", "ping", "mail", "deploy", "wait"];
    let mut t = Sim::new();
    let mut ledger = Ledger::new();
    let mut left = Some(dies);
    // Whether the process dies now; if so, all that is left is the bytes.
    let mut dead = |t: &mut Sim| {
        let now = left == Some(0);
        left = if now { None } else { left.map(|n| n - 1) };
        if now {
            t.thread = t.refolded();
        }
        now
    };
    let mut crashed = false;
    t.say("do it");
    for _ in 0..400 {
        crashed |= dead(&mut t);
        let lost = t.thread.calls.iter().find(|(_, c)| c.stage == Stage::Lost).map(|(id, _)| *id);
        let next = t.thread.runnable().map(|(id, e)| (id, e.clone())).next();
        if let Some(call) = lost {
            let note = "it is done".to_owned();
            let mark = if ledger.contains_key(&call) { Mark::Succeeded { note } } else { Mark::Retry };
            t.mark(ann(), mark);
        } else if let Some((effect, Effect::RunTool { call })) = next {
            let Call { gated, stage, .. } = (*t.thread.calls[&call]).clone();
            let facts = t.facts[&gated.tool].clone();
            if stage == Stage::Started && !facts.idempotent {
                t.feed(Input::Lost { effect });
                continue;
            }
            let plan = facts.plans.then(|| Ok(t.plan_now()));
            let Answer::Go { tool, .. } = t.feed(Input::Start { effect, facts, plan }) else { continue };
            if dead(&mut t) {
                crashed = true;
                continue;
            }
            *ledger.entry(call).or_default() += 1;
            if dead(&mut t) {
                crashed = true;
                continue;
            }
            let outcome = match tool.as_str() {
                "wait" => Outcome::Suspended { until: t.now.plus_ms(HOUR), text: "slept".into() },
                _ => Outcome::Succeeded { text: "ok".into() },
            };
            t.feed(Input::Finished { effect, outcome, duration_ms: 1 });
        } else if let Some((_, Effect::CallModel)) = next {
            let replies = t.events().iter().filter(|e| e.body.name() == "model_replied").count();
            match script.get(replies) {
                Some(calls) => {
                    let calls = calls.iter().enumerate();
                    let calls = calls.map(|(i, n)| (tools[usize::from(*n) % 6], json!({"n": [replies, i]})));
                    t.calls(&calls.collect::<Vec<_>>());
                }
                None => drop(t.done("All done.")),
            }
        } else if let Some((_, Effect::PlanTool { .. })) = next {
            t.planned();
        } else if t.thread.pending_approvals().next().is_some() {
            t.approve(ann());
        } else if let Some(at) = t.thread.due_at() {
            t.now = t.now.max(at);
            t.feed(Input::Tick);
        } else {
            break;
        }
    }
    let events = t.events();
    let made = |call: &CallId| -> GatedCall {
        match events.iter().find(|e| e.seq == call.seq).map(|e| &e.body) {
            Some(Body::ModelReplied { step: NextStep::Call { calls, .. }, .. }) => calls[call.ord as usize].clone(),
            other => panic!("no call was made there: {other:?}"),
        }
    };
    let mut done = Vec::new();
    for (call, times) in &ledger {
        let call = made(call);
        let twice = call.facts.as_ref().is_some_and(|f| f.idempotent);
        assert!(*times == 1 || (twice && *times == 2), "{} was done {times} times", call.title);
        done.push(call.title);
    }
    done.sort();
    let mut last = events.last().unwrap().body.clone();
    if let Body::ModelReplied { seen, .. } = &mut last {
        // A crash may cost an event or two; what it may not change is the answer.
        *seen = 0;
    }
    (End { status: t.thread.status(), done, last }, ledger, crashed)
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn a_crash_at_any_moment_leads_to_the_same_end_and_nothing_is_done_twice(
        script in prop::collection::vec(prop::collection::vec(0..6_u8, 1..4), 1..3),
    ) {
        let (end, ledger, _) = world(&script, usize::MAX);
        prop_assert_eq!(end.status, Status::Done);
        prop_assert_eq!(ledger.len(), script.iter().map(Vec::len).sum::<usize>());
        for moment in 0.. {
            let (after, _, crashed) = world(&script, moment);
            prop_assert_eq!(&after, &end, "died after {} steps", moment);
            if !crashed {
                break;
            }
        }
    }
}

// --- totality

fn anything(t: &Sim, (what, a, b, c): Op) -> Body {
    let short = t.thread.short;
    let call = CallId::new(short, u64::from(a % 12), u32::from(b % 3));
    let approval = ApprovalId::new(short, u64::from(b % 6), 0);
    let question = QuestionId::new(short, u64::from(b % 6), 0);
    let (by, text) = (anybody(c), format!("{a}<human>{b}"));
    let at = t.now.plus_ms(u64::from(c));
    let posting = match b % 5 {
        0 => Posting::Answer { seq: u64::from(a) },
        1 => Posting::Card { approval },
        2 => Posting::Question { question },
        3 => Posting::Unknown { call },
        _ => Posting::Notice { seq: u64::from(a) },
    };
    let facts = t.facts.values().nth(usize::from(c % 6)).unwrap().clone();
    let terms = Terms {
        route: Default::default(),
        rule: "r".into(),
        risk: Risk::High,
        approvers: Approvers { users: vec!["chat:ann".into()], quorum: u32::from(b % 3), ..Approvers::default() },
        expires_after_ms: 1,
        untrusted: Untrusted::default(),
    };
    let verdict = match b % 5 {
        0 | 1 => Verdict::Ask { terms: terms.clone() },
        2 => Verdict::Auto { rule: "r".into() },
        3 => Verdict::Deny { rule: "r".into(), why: "w".into() },
        _ => Verdict::Held { why: "w".into() },
    };
    let gated =
        GatedCall { tool: facts.name.clone(), args: json!({"a": a}), title: "t".into(), facts: Some(facts), verdict };
    let outcome = match a % 4 {
        0 => Outcome::Succeeded { text: text.clone() },
        1 => Outcome::Failed { error: text.clone() },
        2 => Outcome::Suspended { until: at, text: text.clone() },
        _ => Outcome::Unknown { error: text.clone() },
    };
    let plan = Plan { summary: "p".into(), facts: json!(b) };
    match what % 26 {
        0 => Body::ThreadStarted {
            thread: t.thread.id.clone(),
            agent: "x".into(),
            by,
            pushes: a % 2 == 0,
            parent: None,
            carried: vec![],
            untrusted: Untrusted::default(),
            heard: vec![],
        },
        1 => Body::MessageReceived {
            attached: vec![file("x"); usize::from(b % 3)],
            from: by,
            outside: (a % 4 == 0).then(|| text.clone()),
            text,
            prefetch: vec![gated; usize::from(c % 3)],
            context: vec![passage("y"); usize::from(b % 2)],
            masked: u32::from(b % 2),
        },
        2 => Body::ModelReplied {
            seen: u64::from(a),
            step: match c % 4 {
                0 => NextStep::Done { text },
                1 => NextStep::Ask { text, answer: AnswerKind::Text, why: String::new(), put_off: vec![] },
                _ => NextStep::Call { calls: vec![gated; usize::from(c % 3)], why: text },
            },
            model: ModelStamp { provider: "p".into(), model: "m".into(), prompt: "d".into() },
            usage: Usage { input: u64::MAX, output: u64::from(b) },
            sent: u64::from(c),
            correction: if b % 7 == 0 { "no".to_owned() } else { String::new() },
        },
        3 => Body::ModelFailed {
            error: ModelErrorKind::Server,
            message: text,
            attempt: u32::from(a),
            retry_at: (b % 2 == 0).then_some(at),
            usage: Usage::default(),
            ceiling: (c % 2 == 0).then_some(u64::from(b)),
        },
        4 => Body::ToolPlanned { call, plan: if c % 4 == 0 { Err(text) } else { Ok(plan) } },
        5 => Body::ApprovalRequested {
            approval,
            call,
            revision: u32::from(c % 3),
            because: Because::Gated,
            title: text,
            args: json!({"b": b}),
            plan: Some(plan),
            digest: Digest::of(&[a]),
            terms,
            requesters: vec![ops()],
            expires_at: at,
        },
        6 => Body::VoteCast {
            approval,
            revision: u32::from(c % 3),
            by,
            groups: vec![],
            named: (c % 5 == 0).then(|| "chat:ann".into()),
            vote: match a % 4 {
                0 => Vote::Deny { reason: text },
                1 => Vote::Edit { args: json!(a), title: text, terms: (b % 2 == 0).then(|| Box::new(terms)) },
                _ => Vote::Approve { note: text },
            },
        },
        7 => Body::ApprovalResolved {
            approval,
            revision: u32::from(c % 3),
            resolution: match a % 6 {
                0 => Resolution::Denied { reason: text },
                1 => Resolution::Expired,
                2 => Resolution::Cancelled,
                _ => Resolution::Approved,
            },
        },
        8 => Body::QuestionAsked { question, cause: QuestionCause::StepBudget, text, answer: AnswerKind::YesNo },
        9 => Body::QuestionAnswered { question, by, groups: Vec::new(), named: None, text },
        10 => Body::ToolStarted { effect: EffectId::new(short, u64::from(a), 0), call, digest: None },
        11 => Body::ToolFinished { call, outcome, duration_ms: u64::MAX },
        12 => Body::OutcomeLost { call },
        13 => Body::OutcomeMarked {
            call,
            by,
            mark: [Mark::Retry, Mark::Succeeded { note: text.clone() }, Mark::Failed { note: text }]
                [usize::from(c % 3)]
            .clone(),
        },
        14 => Body::TimerFired {
            timer: match c % 3 {
                0 => Timer::Wake { call },
                1 => Timer::Model,
                _ => Timer::Post { posting },
            },
        },
        15 => Body::Posted { posting, reference: text },
        16 => {
            Body::DeliveryFailed { posting, error: text, attempt: u32::from(a), retry_at: (c % 2 == 0).then_some(at) }
        }
        17 => Body::Compacted {
            upto: u64::from(a),
            summary: text,
            layout: match c % 3 {
                0 => vec![],
                1 => vec![window::Kept::Lines("pq".into()), window::Kept::Block(u64::from(b % 8), 0)],
                _ => vec![window::Kept::Block(u64::from(b % 8), u32::from(a % 2)), window::Kept::Lines("ö".into())],
            },
            cut: (b % 2 == 0).then_some(window::Cut { results: u64::from(c), people: Some(u64::from(a)) }),
        },
        18 => Body::Paused { by, why: text },
        19 => Body::Resumed { by },
        20 if c > 200 => Body::Stopped { by, why: text },
        21 if c > 220 => Body::Cancelled { by, why: text },
        22 | 23 => Body::Gathered {
            message: u64::from(a),
            texts: vec![Gathered {
                label: text.clone(),
                text: if b % 2 == 0 { Ok(text) } else { Err(text) },
                by: vec![],
            }],
        },
        24 => Body::IntentReceived {
            thread: t.thread.id.clone(),
            intent: Intent { by, act: Act::Answer { question, text }, reply: String::new() },
        },
        25 => Body::IntentHandled { done: a % 2 == 0, said: text },
        _ => Body::Resumed { by },
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn any_event_in_any_state_folds_and_opens_nothing_that_votes_do_not_carry(
        waits: bool,
        ops in prop::collection::vec((any::<Op>(), any::<bool>()), 1..60),
    ) {
        let t = if waits { Sim::waiting() } else { Sim::new() };
        let mut thread = t.thread.clone();
        for (op, answers) in ops {
            let seq = thread.version + 1;
            let answers = thread.outstanding().keys().next().copied().filter(|_| answers);
            let at = t.now.plus_ms(u64::from(op.2));
            let event =
                Event { v: EVENT_VERSION, seq, at, source: None, answers, prev: thread.head, body: anything(&t, op) };
            let digest = Digest::of(&event.encode());
            let (next, issued) = reduce(thread, &event, digest);
            prop_assert_eq!((next.version, next.head), (seq, digest));
            for (id, effect) in issued {
                prop_assert_eq!(id.seq, seq);
                let Effect::RunTool { call } = effect else { continue };
                let call = &next.calls[&call];
                if let Verdict::Ask { .. } = call.gated.verdict {
                    let carried = call.approval.and_then(|a| next.approvals.get(&a)).is_some_and(|a| a.is_carried());
                    prop_assert!(carried, "{:?} is to run", call);
                }
            }
            // Nothing that reads a thread panics on it, either.
            let read = (next.status(), next.due_at(), next.runnable().count(), next.window.render().len());
            prop_assert_eq!(read.2 > 0, next.runnable().next().is_some());
            thread = next;
        }
    }
}
