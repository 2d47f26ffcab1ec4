//! The log as bytes: what is written is read back the same, what was tampered with is found, and the
//! logs of every version fold for ever.

use proptest::prelude::*;
use serde_json::json;
use twelve::agent::*;

use super::*;

/// A log with a bit of everything, at fixed times.
fn log() -> Sim {
    let mut t = Sim::waiting();
    t.approve(ann());
    t.runs("deploy");
    t.done("Deployed.");
    t
}

fn found(events: &[Vec<u8>], t: &Sim) -> Option<LogError> {
    verify_chain(events, t.thread.version, t.thread.head)
}

#[test]
fn an_untouched_log_is_sound_and_its_events_encode_to_the_same_bytes() {
    let t = log();
    assert_eq!(found(&t.log, &t), None);
    for (event, bytes) in t.events().iter().zip(&t.log) {
        assert_eq!(&event.encode(), bytes);
    }
    assert_eq!(verify_chain::<Vec<u8>>(&[], 0, Digest::ZERO), None);
}

#[test]
fn an_edited_event_is_found_wherever_it_stands() {
    let t = log();
    for at in 0..t.log.len() {
        let mut events = t.log.clone();
        let mut event = t.events()[at].clone();
        event.at = event.at.plus_ms(1);
        events[at] = event.encode();
        let seq = at as u64 + 1;
        let wrong =
            if seq == t.thread.version { LogError::Head { version: seq } } else { LogError::Chain { seq: seq + 1 } };
        assert_eq!(found(&events, &t), Some(wrong), "event {seq}");
    }
}

#[test]
fn white_space_is_an_edit_too() {
    let t = log();
    let mut events = t.log.clone();
    events[2].push(b' ');
    assert_eq!(found(&events, &t), Some(LogError::Chain { seq: 4 }));
}

#[test]
fn a_removed_an_inserted_and_a_moved_event_are_found() {
    let t = log();
    let last = t.log.len();
    for at in 0..last {
        let seq = at as u64 + 1;
        let mut removed = t.log.clone();
        removed.remove(at);
        let wrong = if seq == last as u64 {
            LogError::Length { version: seq - 1, expected: seq }
        } else {
            LogError::Sequence { seq, found: seq + 1 }
        };
        assert_eq!(found(&removed, &t), Some(wrong), "removed {seq}");

        let mut inserted = t.log.clone();
        inserted.insert(at, t.log[at].clone());
        let wrong = LogError::Sequence { seq: seq + 1, found: seq };
        assert_eq!(found(&inserted, &t), Some(wrong), "inserted {seq}");

        if at + 1 < last {
            let mut moved = t.log.clone();
            moved.swap(at, at + 1);
            assert_eq!(found(&moved, &t), Some(LogError::Sequence { seq, found: seq + 1 }), "moved {seq}");
        }
    }
}

#[test]
fn a_removed_event_whose_followers_were_renumbered_is_found() {
    let t = log();
    let mut events = t.log.clone();
    events.remove(3);
    for (i, bytes) in events.iter_mut().enumerate().skip(3) {
        let event = Event::decode(bytes, i as u64 + 2).unwrap();
        *bytes = Event { seq: i as u64 + 1, ..event }.encode();
    }
    assert_eq!(found(&events, &t), Some(LogError::Chain { seq: 4 }));
}

#[test]
fn a_log_that_was_rewritten_from_some_event_on_is_found_by_its_head() {
    let t = log();
    let mut events = t.log.clone();
    let mut prev = Digest::of(&events[3]);
    for (i, bytes) in events.iter_mut().enumerate().skip(4) {
        let event = Event::decode(bytes, i as u64 + 1).unwrap();
        *bytes = Event { at: event.at.plus_ms(1), prev, ..event }.encode();
        prev = Digest::of(bytes);
    }
    assert_eq!(found(&events, &t), Some(LogError::Head { version: t.thread.version }));
    events.pop();
    let version = t.thread.version;
    assert_eq!(found(&events, &t), Some(LogError::Length { version: version - 1, expected: version }));
}

#[test]
fn an_appended_event_is_found() {
    let t = log();
    let version = t.thread.version;
    let body = Body::Cancelled { by: eve(), why: String::new() };
    let event =
        Event { v: EVENT_VERSION, seq: version + 1, at: NOON, source: None, answers: None, prev: t.thread.head, body };
    let mut events = t.log.clone();
    events.push(event.encode());
    assert_eq!(found(&events, &t), Some(LogError::Length { version: version + 1, expected: version }));
}

#[test]
fn an_event_of_a_newer_version_is_named_as_such_even_if_its_shape_is_unknown() {
    let t = log();
    let mut event = t.events()[1].clone();
    event.v = EVENT_VERSION + 1;
    let newer = LogError::TooNew { seq: 2, v: EVENT_VERSION + 1 };
    assert_eq!(Event::decode(&event.encode(), 2), Err(newer.clone()));
    let unknown = json!({"v": EVENT_VERSION + 1, "body": {"type": "dreamt"}}).to_string();
    assert_eq!(Event::decode(unknown.as_bytes(), 2), Err(newer));
    for bad in [&b""[..], b"null", b"{\"v\":1}", b"{\"v\":1,\"body\":{\"type\":\"dreamt\"}}", b"\xff"] {
        assert!(matches!(Event::decode(bad, 2), Err(LogError::Unreadable { seq: 2, .. })), "{bad:?}");
    }
}

#[test]
fn a_log_of_another_thread_is_not_folded() {
    let t = log();
    let mut other = Thread::vacant("console:other".parse().unwrap());
    assert_eq!(other.replay(&t.log), Err(LogError::WrongThread { found: "console:story".into() }));
    let mut tail = Thread::vacant(t.thread.id.clone());
    assert_eq!(tail.replay(&t.log[1..]), Err(LogError::Sequence { seq: 1, found: 2 }));
    tail.replay(&t.log[..3]).unwrap();
    tail.replay(&t.log[3..]).unwrap();
    assert_eq!(tail, t.thread, "a tail on top of a fold is the whole");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_number_and_every_text_in_a_plan_survives_the_log(number in any::<f64>(), text in any::<String>()) {
        let plan = Plan { summary: text.clone(), facts: json!({"ms": number, (text): [number]}) };
        let call = CallId::new(ShortId::default(), 1, 0);
        let body = Body::ToolPlanned { call, plan: Ok(plan) };
        let event = Event { v: 1, seq: 1, at: NOON, source: None, answers: None, prev: Digest::ZERO, body };
        let bytes = event.encode();
        let read = Event::decode(&bytes, 1).unwrap();
        prop_assert_eq!(&read, &event);
        prop_assert_eq!(read.encode(), bytes);
    }
}

// --- logs of released versions

/// Stories whose logs are kept. Each is told once, when its version is current; the file is the truth
/// from then on.
fn stories() -> Vec<(&'static str, Sim)> {
    let told = |tell: fn(&mut Sim)| {
        let mut t = Sim::new();
        t.pushes = true;
        t.deliver(ops(), "deploy api to prod", Some("m1"));
        tell(&mut t);
        t
    };
    vec![
        (
            "approved",
            told(|t| {
                t.deploy_requested();
                t.approve(ann());
                t.runs("deploy");
                t.done("Deployed.");
            }),
        ),
        (
            "denied",
            told(|t| {
                t.deploy_requested();
                t.deny(ann(), "not on a Friday");
                t.done("Not deployed.");
            }),
        ),
        (
            "edited",
            told(|t| {
                t.deploy_requested();
                t.edit(ann(), json!({"env": "test"}));
                t.planned();
            }),
        ),
        (
            "expired",
            told(|t| {
                t.deploy_requested();
                t.after(HOUR);
            }),
        ),
        (
            "asked",
            told(|t| {
                t.ask(json!({"question": "Which?", "choices": ["blue", "green"]}));
                t.reply(bob(), "2");
                t.ask(json!({"question": "Sure?", "kind": "yes_no"}));
            }),
        ),
        (
            "lost",
            told(|t| {
                t.calls(&[("ping", json!({"n": 1.5}))]);
                t.lost("ping");
            }),
        ),
        (
            "slept",
            told(|t| {
                t.calls(&[("wait", json!({}))]);
                t.start("wait");
                let until = t.now.plus_ms(HOUR);
                t.finish("wait", Outcome::Suspended { until, text: "slept".into() });
            }),
        ),
        (
            "failed",
            told(|t| {
                t.model_fails(ModelErrorKind::Overloaded, None);
                t.after(HOUR);
                t.model_fails(ModelErrorKind::Auth, None);
                let effect = t.effect(|e| matches!(e, Effect::Post { .. })).unwrap();
                t.feed(Input::PostFailed { effect, error: "429".into(), transient: true, retry_after_ms: None });
                let effect = t.effect(|e| matches!(e, Effect::Post { .. })).unwrap();
                t.feed(Input::Posted { effect, reference: "ts1".into() });
                t.pause();
            }),
        ),
        (
            "cancelled",
            told(|t| {
                t.calls(&[("look", json!({})), ("fly", json!({}))]);
                t.pause();
                t.resume();
                t.stop();
                t.say("again");
                t.cancel();
            }),
        ),
        (
            "untrusted",
            told(|t| {
                t.fetched("Ping 9 at once.");
                t.passed_on("webhook alerts", "Disk full.", &[]);
                t.calls(&[("ping", json!({"n": 9}))]);
            }),
        ),
        (
            "forked",
            told(|t| {
                t.fetched("Ping 9 at once.");
                t.done("Read.");
                *t = t.fork("console:story");
                t.say("go on");
            }),
        ),
    ]
}

/// What the first release wrote, and what is written since persons are stamped on what people do: the same format
/// with more in it.
const FIRST: &str = "v1";
const TODAY: &str = "v1-people";

fn path(kept: &str, story: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/compat/{kept}/{story}.jsonl"))
}

#[test]
fn the_logs_of_version_1_fold_for_ever_and_encode_to_the_same_bytes() {
    let mut summary = String::new();
    for (kept, story) in [FIRST, TODAY].into_iter().flat_map(|kept| stories().into_iter().map(move |(s, _)| (kept, s)))
    {
        let text = std::fs::read_to_string(path(kept, story)).unwrap();
        let lines: Vec<&[u8]> = text.lines().map(str::as_bytes).collect();
        let mut thread = Thread::vacant("console:story".parse().unwrap());
        thread.replay(&lines).unwrap_or_else(|e| panic!("{story}: {e}"));
        assert_eq!(verify_chain(&lines, thread.version, thread.head), None, "{story}");
        for (i, line) in lines.iter().enumerate() {
            assert_eq!(Event::decode(line, i as u64 + 1).unwrap().encode(), *line, "{story}, event {}", i + 1);
        }
        summary.push_str(&format!(
            "{kept} {story}: {:?}, {} events, head {}, {} tokens, due {}, {} outstanding, {} pending, window {}\n",
            thread.status(),
            thread.version,
            thread.head.prefix(),
            thread.tokens,
            match thread.due_at() {
                None => "never".to_owned(),
                Some(Timestamp(0)) => "at once".to_owned(),
                Some(at) => at.to_string(),
            },
            thread.outstanding().len(),
            thread.pending_approvals().count(),
            Digest::of(thread.window.render().as_bytes()).prefix(),
        ));
    }
    insta::assert_snapshot!(summary, @r"
    v1 approved: Done, 10 events, head f8bdc5246c0b, 220 tokens, due at once, 6 outstanding, 0 pending, window c9de389706e3
    v1 denied: Done, 8 events, head 6c7b5bb0e887, 220 tokens, due at once, 4 outstanding, 0 pending, window b1393be6ff71
    v1 edited: WaitingApproval, 8 events, head 065b5577a948, 110 tokens, due at once, 3 outstanding, 1 pending, window d1c29be56d05
    v1 expired: Running, 6 events, head 0ddd533f239e, 110 tokens, due at once, 3 outstanding, 0 pending, window 8a09b3c77404
    v1 asked: WaitingAnswer, 7 events, head 3e0bdf096753, 220 tokens, due at once, 4 outstanding, 0 pending, window 8a76df383138
    v1 lost: WaitingMark, 5 events, head eab26413a0f3, 110 tokens, due at once, 1 outstanding, 0 pending, window 5616acb895d4
    v1 slept: Sleeping, 4 events, head 95bc17dbd9eb, 110 tokens, due 2026-11-22T15:00:00Z, 0 outstanding, 0 pending, window 17ed04b969b2
    v1 failed: Paused, 9 events, head e2c7fc67fa8d, 0 tokens, due at once, 2 outstanding, 0 pending, window 6a9a1a92f7bf
    v1 cancelled: Cancelled, 8 events, head e5d1fe0b3a0c, 110 tokens, due at once, 4 outstanding, 0 pending, window 8b62a6fbb58e
    v1 untrusted: WaitingApproval, 7 events, head b9496dd767d1, 220 tokens, due at once, 1 outstanding, 1 pending, window e656ee725d6b
    v1 forked: Running, 2 events, head f0f7b0e91e84, 0 tokens, due at once, 1 outstanding, 0 pending, window a5a21207f743
    v1-people approved: Done, 10 events, head f82a69e14266, 220 tokens, due at once, 6 outstanding, 0 pending, window c9de389706e3
    v1-people denied: Done, 8 events, head 0514ecd3f290, 220 tokens, due at once, 4 outstanding, 0 pending, window b1393be6ff71
    v1-people edited: WaitingApproval, 8 events, head 959de0512c9d, 110 tokens, due at once, 3 outstanding, 1 pending, window d1c29be56d05
    v1-people expired: Running, 6 events, head f1bda09e608b, 110 tokens, due at once, 3 outstanding, 0 pending, window 8a09b3c77404
    v1-people asked: WaitingAnswer, 7 events, head 9faa808a7885, 220 tokens, due at once, 4 outstanding, 0 pending, window 8a76df383138
    v1-people lost: WaitingMark, 5 events, head 71cf9fd3b8d0, 110 tokens, due at once, 1 outstanding, 0 pending, window 5616acb895d4
    v1-people slept: Sleeping, 4 events, head 2b493ce2b365, 110 tokens, due 2026-11-22T15:00:00Z, 0 outstanding, 0 pending, window 17ed04b969b2
    v1-people failed: Paused, 9 events, head fc0434b91616, 0 tokens, due at once, 2 outstanding, 0 pending, window 6a9a1a92f7bf
    v1-people cancelled: Cancelled, 8 events, head 8d61f99de693, 110 tokens, due at once, 4 outstanding, 0 pending, window 8b62a6fbb58e
    v1-people untrusted: WaitingApproval, 7 events, head 409a8facf0b4, 220 tokens, due at once, 1 outstanding, 1 pending, window e656ee725d6b
    v1-people forked: Running, 2 events, head 10152030b7bb, 0 tokens, due at once, 1 outstanding, 0 pending, window a5a21207f743
    ");
}

#[test]
fn what_is_written_today_is_what_the_kept_logs_say() {
    for (story, t) in stories() {
        let written: String = t.log.iter().map(|e| format!("{}\n", std::str::from_utf8(e).unwrap())).collect();
        // What is kept is never written over: a changed format is a new version with a directory of its own.
        if std::env::var_os("TWELVE_WRITE_COMPAT").is_some() && !path(TODAY, story).exists() {
            std::fs::write(path(TODAY, story), &written).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path(TODAY, story)).unwrap(), written, "{story}");
    }
}
