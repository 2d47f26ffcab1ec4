//! The law of the window: it never says less than happened.
//!
//! Random conversations, judged by code that reads the events alone: results that no model call has seen are all
//! there, failures are there until the same call has succeeded, people's words survive any number of compactions
//! and forks, and what was cut says so. `PROPTEST_CASES=10000 cargo test --test it window_never_says_less` is the
//! long run.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use serde_json::json;

use super::*;

fn config(cases: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    Config { cases, failure_persistence: None::<Box<FileFailurePersistence>>.map(|p| p as _), ..Config::default() }
}

/// What happened, by the events.
#[derive(Default)]
struct Book {
    /// What people wrote, and the event; of a fork's source as well.
    people: Vec<(u64, String)>,
    /// Calls: what they are about.
    calls: BTreeMap<CallId, (String, Value)>,
    results: Vec<(u64, CallId, bool, String)>,
    /// The last event that a model has seen, and the last answer.
    seen: u64,
    answered: u64,
}

impl Book {
    fn of(events: &[Event]) -> Self {
        let mut book = Self::default();
        for event in events {
            match &event.body {
                Body::MessageReceived { text, .. } => book.people.push((event.seq, text.clone())),
                Body::QuestionAnswered { text, .. } => book.people.push((event.seq, text.clone())),
                Body::ModelReplied { seen, step, correction, .. } => {
                    book.seen = book.seen.max(*seen);
                    match step {
                        NextStep::Call { calls, .. } => {
                            for (ord, call) in (0..).zip(calls) {
                                let id = CallId::new(events_short(events), event.seq, ord);
                                book.calls.insert(id, (call.tool.clone(), call.args["about"].clone()));
                            }
                        }
                        NextStep::Done { .. } if correction.is_empty() => book.answered = event.seq,
                        _ => {}
                    }
                }
                Body::ToolFinished { call, outcome, .. } => match outcome {
                    Outcome::Succeeded { text } => book.results.push((event.seq, *call, true, text.clone())),
                    Outcome::Failed { error } => book.results.push((event.seq, *call, false, error.clone())),
                    _ => {}
                },
                _ => {}
            }
        }
        book
    }

    fn is_resolved(&self, (seq, call, ok, _): &(u64, CallId, bool, String)) -> bool {
        let same = |other: &CallId| self.calls.get(other) == self.calls.get(call);
        !ok && *seq <= self.seen && self.results.iter().any(|(s, c, ok, _)| *ok && s > seq && same(c))
    }
}

fn events_short(events: &[Event]) -> ShortId {
    match &events[0].body {
        Body::ThreadStarted { thread, .. } => thread.short(),
        other => panic!("{other:?}"),
    }
}

/// A text that is found again: a word of its own at both ends, and `size` bytes between them.
fn text(n: usize, size: usize) -> String {
    format!("[head-{n}] {} [tail-{n}]", "lorem ipsum\n".repeat(size / 12))
}

fn number(text: &str) -> String {
    text.split_once("head-").and_then(|(_, rest)| rest.split_once(']')).map(|(n, _)| n.to_owned()).unwrap_or_default()
}

/// What is wrong with the window that a model would be shown now. `people`: what was written before this thread.
fn lies(t: &Sim, before: &[String], roomy: bool) -> Result<(), String> {
    let window = t.thread.window.render();
    let events = t.events();
    let book = Book::of(&events);
    let shows = |text: &str| {
        let n = number(text);
        window.contains(&format!("[head-{n}]")) && window.contains(&format!("[tail-{n}]"))
    };
    let whole = |text: &str| window.contains(text);
    let gap = window.contains("(earlier lines left out)");
    for result in &book.results {
        let (seq, call, ok, text) = result;
        let n = number(text);
        if *seq > book.seen {
            let cut = window.contains(&format!("[head-{n}]")) && window.contains("bytes are left out here");
            if !(whole(text) || cut) {
                return Err(format!("the result {n} of {call} was not seen and is not there"));
            }
            if roomy && !whole(text) {
                return Err(format!("the result {n} of {call} was not seen, fits, and is not whole"));
            }
        }
        let named = window.contains(&format!("[head-{n}]"));
        if !ok && !named && !book.is_resolved(result) && !gap {
            return Err(format!("the failure {n} of {call} vanished"));
        }
        if roomy && !ok && named && book.is_resolved(result) && !window.contains("<summary") {
            return Err(format!("the failure {n} of {call} is resolved and still there"));
        }
    }
    for (seq, text) in &book.people {
        if *seq > book.answered && roomy && !whole(text) {
            return Err(format!("{text:?} was written since the last answer and is not whole"));
        }
        // An answer to the engine has no number.
        let head = if number(text).is_empty() { text.clone() } else { format!("[head-{}]", number(text)) };
        if roomy && !number(text).is_empty() && !shows(text) || !gap && !window.contains(&head) {
            return Err(format!("what a person wrote in event {seq} is lost"));
        }
    }
    for text in before {
        if roomy && !shows(text) {
            return Err(format!("{text:?} was written before the fork and is lost"));
        }
    }
    Ok(())
}

type Op = (u8, u8, u8);

/// Does something. `next`: numbers texts.
fn act(t: &mut Sim, (what, a, b): Op, next: &mut usize, longest: usize, refuses: bool) {
    let mut fresh = |size: usize| {
        *next += 1;
        text(*next, size.min(longest))
    };
    let size = [0, 40, 300, 2_500, 9_000][usize::from(b % 5)];
    if let Some(question) = t.thread.questions.keys().next().copied() {
        t.feed(Input::Answer { question, by: ops(), groups: Vec::new(), text: "go on".into(), source: None });
    }
    if t.thread.run.is_none() || what % 8 == 0 {
        let said = fresh(size);
        t.say(&said);
        return;
    }
    if let Some(effect) = t.effect(|e| matches!(e, Effect::RunTool { .. })) {
        if b % 11 == 0 {
            let said = fresh(size);
            t.say(&said);
        }
        let text = fresh(size);
        let outcome = if a % 3 == 0 { Outcome::Failed { error: text } } else { Outcome::Succeeded { text } };
        t.feed(Input::Finished { effect, outcome, duration_ms: 1 });
        return;
    }
    let Some(effect) = t.effect(|e| *e == Effect::CallModel) else {
        t.after(SECOND);
        return;
    };
    let seen = t.thread.version;
    if what % 8 == 1 {
        let said = fresh(size);
        t.say(&said);
    }
    let calls: Vec<Proposed> = match a % 6 {
        0 => vec![],
        n => (0..n.min(3))
            .map(|i| {
                let about = ["api", "web", "db"][usize::from(b.wrapping_add(i) % 3)];
                t.propose(["look", "fetch"][usize::from(b / 16 % 2)], json!({"about": about, "n": t.thread.version}))
            })
            .collect(),
    };
    if refuses && a % 23 == 22 {
        let kind = ModelErrorKind::TooLong { limit: (b % 2 == 0).then_some(4_000), counted: None };
        let error = ModelError { kind, message: "too long".into(), retry_after_ms: None };
        t.feed(Input::ModelFailed { effect, error });
        return;
    }
    let sent = (t.thread.window.render().len() + t.base_bytes) as u64;
    let usage = Usage { input: sent / u64::from(b % 4 + 2), output: 5 };
    let model = ModelStamp { provider: "p".into(), model: "m".into(), prompt: "p".into() };
    let text = "words".to_owned();
    t.feed(Input::Replied { effect, seen, text, calls, finish: Finish::Complete, usage, model, sent });
}

fn sim(limits: window::WindowLimits, base_bytes: usize) -> Sim {
    let mut t = Sim::new();
    t.window = limits;
    (t.base_bytes, t.message_max_bytes) = (base_bytes, 100_000);
    t.spec.limits = Limits { max_steps: 10_000, max_errors: 10_000, max_tokens: u64::MAX, ..Limits::default() };
    for tool in ["look", "fetch"] {
        t.facts.get_mut(tool).unwrap().target = vec!["about".into()];
    }
    t
}

proptest! {
    #![proptest_config(config(48))]

    /// Shortened all the time because of its blocks: nothing that counts is lost, also over forks.
    #[test]
    fn the_window_never_says_less_than_happened_however_often_it_is_shortened(
        entries in 2..12_usize,
        keep in 1..4_usize,
        forks in 0..3_usize,
        ops in prop::collection::vec(any::<Op>(), 1..60),
    ) {
        let mut t = sim(window::WindowLimits { max_tokens: 10_000_000, max_entries: entries, keep_last: keep }, 500);
        let (mut next, mut before) = (0, Vec::new());
        let every = ops.len() / (forks + 1) + 1;
        for (n, op) in ops.into_iter().enumerate() {
            if n > 0 && n % every == 0 {
                before.extend(Book::of(&t.events()).people.into_iter().map(|(_, text)| text));
                t = t.fork(&format!("console:fork{n}"));
            }
            // Its own words may be shortened in a line only where they are long.
            act(&mut t, op, &mut next, 1_500, false);
            if t.effect(|e| *e == Effect::CallModel).is_some() {
                let lie = lies(&t, &before, true);
                prop_assert!(lie.is_ok(), "{:?}\n{}\n{}", lie, t.trace(), t.thread.window.render());
            }
        }
        prop_assert_eq!(t.refolded(), t.thread);
    }

    /// Too little room for all of it: what is cut says so, and the request fits.
    #[test]
    fn the_window_never_says_less_than_happened_in_little_room(
        tokens in 3_000..20_000_u64,
        base in 0..4_000_usize,
        ops in prop::collection::vec(any::<Op>(), 1..60),
    ) {
        let mut t = sim(window::WindowLimits { max_tokens: tokens, max_entries: 60, keep_last: 10 }, base);
        let mut next = 0;
        for op in ops {
            act(&mut t, op, &mut next, 20_000, true);
            if t.effect(|e| *e == Effect::CallModel).is_some() {
                let lie = lies(&t, &[], false);
                prop_assert!(lie.is_ok(), "{:?}\n{}\n{}", lie, t.trace(), t.thread.window.render());
            }
        }
        prop_assert_eq!(t.refolded(), t.thread);
    }
}
