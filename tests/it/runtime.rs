//! The runtime over the real store: deliver, perform, recover, wait.

use std::collections::BTreeSet;
use std::time::Duration;

use twelve::agent::*;
use twelve::runtime::{Clock, DeliverError, Runtime, Said};
use twelve::store::{ApprovalFilter, ApprovalRow, Durability, Filter, Store, StoreConfig, StoreError};

use crate::world::*;

#[tokio::test]
async fn a_long_conversation_is_shortened_right_before_the_model_looks_and_at_no_other_time() {
    let mut setup = Setup::default();
    setup.settings.window = WindowLimits { max_tokens: 80_000, max_entries: 6, keep_last: 2 };
    let w = World::with(setup).await;
    for _ in 0..6 {
        w.say("api:t", "look").await;
    }
    let names = w.names("api:t").await;
    let shortened: Vec<usize> = (0..names.len()).filter(|i| names[*i] == "compacted").collect();
    assert!(shortened.len() > 2, "{names:?}");
    for at in shortened {
        assert_eq!(names[at + 1], "model_replied", "{names:?}");
    }
    let thread = w.thread("api:t").await;
    assert!(thread.window.render().starts_with("<summary>\nann wrote: look\n"), "{}", thread.window.render());
}

#[tokio::test]
async fn a_question_about_the_state_is_answered_without_asking_anybody() {
    let w = World::new().await;
    w.say("api:t", "look").await;
    assert_eq!(w.answer("api:t").await, "look succeeded");
    assert_eq!(
        w.names("api:t").await,
        ["thread_started", "message_received", "model_replied", "tool_finished", "model_replied"]
    );
    assert_eq!(w.thread("api:t").await.status(), Status::Done);
}

#[tokio::test]
async fn a_gated_call_waits_for_a_person_and_then_runs_exactly_once() {
    let w = World::new().await;
    w.say("api:t", "ship v1").await;
    let request = w.pending("api:t").await;
    assert_eq!(request.plan.as_ref().unwrap().summary, "now v0 -> v1");
    assert_eq!(w.outside.ledger(), Vec::<String>::new());
    assert_eq!(w.vote("api:t", bob(), approve()).await, Answer::Accepted);
    assert_eq!(w.outside.ledger(), ["v1"]);
    assert_eq!(w.answer("api:t").await, "ship succeeded");
    // The button is still on the screen: pressing it again is answered, and does nothing.
    let again = w.vote_on("api:t", &request, bob(), approve()).await;
    let Answer::Refused(refusal) = again else { panic!("{again:?}") };
    assert_eq!(refusal.to_string(), "Already approved by bob (2026-01-01T00:00:00Z). It succeeded.");
    assert_eq!(w.outside.ledger(), ["v1"]);
}

#[tokio::test]
async fn a_denial_reaches_the_agent_with_its_reason_and_nothing_runs() {
    let w = World::new().await;
    w.say("api:t", "ship v1").await;
    w.vote("api:t", bob(), deny("not on a Friday")).await;
    assert_eq!(w.answer("api:t").await, "it was not done: bob denied this call: not on a Friday");
    assert_eq!(w.outside.ledger(), Vec::<String>::new());
}

#[tokio::test]
async fn an_edit_runs_what_was_edited_and_only_after_it_was_approved_anew() {
    let w = World::new().await;
    w.say("api:t", "ship v1").await;
    let first = w.pending("api:t").await;
    let edited = w.runtime.propose("ship", r#"{"version":"v2"}"#);
    assert_eq!(w.vote("api:t", bob(), Ballot::Edit { args: Box::new(edited) }).await, Answer::Accepted);
    let second = w.pending("api:t").await;
    assert_eq!((second.id, second.revision, second.votes.len()), (first.id, 2, 0));
    assert_eq!(second.plan.as_ref().unwrap().summary, "now v0 -> v2");
    assert_eq!(w.vote_on("api:t", &first, bob(), approve()).await, Answer::Refused(Refusal::Changed));
    assert_eq!(w.outside.ledger(), Vec::<String>::new());
    w.vote("api:t", bob(), approve()).await;
    assert_eq!(w.outside.ledger(), ["v2"]);
}

#[tokio::test]
async fn a_plan_that_went_stale_voids_the_approval_and_asks_again() {
    let w = World::new().await;
    w.say("api:t", "ship v2").await;
    let first = w.pending("api:t").await;
    w.outside.set_current("v1");
    w.vote("api:t", bob(), approve()).await;
    assert_eq!(w.outside.ledger(), Vec::<String>::new());
    let second = w.pending("api:t").await;
    assert_eq!(second.revision, 2);
    assert_ne!(second.digest, first.digest);
    let why = "it was approved as \"now v0 -> v2\", now it is \"now v1 -> v2\"".to_owned();
    assert_eq!(second.because, Because::Stale { why });
    w.vote("api:t", bob(), approve()).await;
    assert_eq!(w.outside.ledger(), ["v2"]);
}

#[tokio::test]
async fn a_card_from_before_a_crash_can_still_be_decided() {
    let mut w = World::new().await;
    w.say("api:t", "ship v1").await;
    let request = w.pending("api:t").await;
    w.crash().await;
    assert_eq!(w.vote_on("api:t", &request, bob(), approve()).await, Answer::Accepted);
    assert_eq!(w.outside.ledger(), ["v1"]);
}

#[tokio::test]
async fn a_start_without_an_end_is_never_rerun_but_put_before_a_person() {
    let mut w = World::new().await;
    w.say("api:t", "ship v1").await;
    let request = w.pending("api:t").await;
    start_and_stand_still(&w, &request).await;
    // The tool is at work, and the process dies.
    w.crash().await;
    w.runtime.settle().await.unwrap();
    assert_eq!(w.thread("api:t").await.status(), Status::WaitingMark);
    assert_eq!(w.outside.ledger(), Vec::<String>::new());
    // A person looks, finds that nothing happened, and wants it tried again: that asks again.
    let call = request.call;
    assert_eq!(
        w.give("api:t", Input::Mark { call, by: bob(), groups: vec![], mark: Mark::Retry }).await,
        Answer::Accepted
    );
    assert_eq!(w.pending("api:t").await.revision, 2);
    w.vote("api:t", bob(), approve()).await;
    assert_eq!(w.outside.ledger(), ["v1"]);
    assert_eq!(w.thread("api:t").await.status(), Status::Done);
}

#[tokio::test]
async fn a_durable_sleep_holds_nothing_and_wakes_after_a_crash() {
    let mut w = World::new().await;
    w.say("api:t", "nap 90").await;
    assert_eq!(w.thread("api:t").await.status(), Status::Sleeping);
    w.crash().await;
    w.advance(89_000).await;
    assert_eq!(w.thread("api:t").await.status(), Status::Sleeping);
    w.advance(1_000).await;
    assert_eq!(w.answer("api:t").await, "nap succeeded");
}

#[tokio::test]
async fn an_approval_expires_by_itself_and_counts_as_a_denial() {
    let w = World::new().await;
    w.say("api:t", "ship v1").await;
    let request = w.pending("api:t").await;
    w.advance(7_200_000).await;
    assert_eq!(w.answer("api:t").await, "ship expired");
    let late = w.vote_on("api:t", &request, bob(), approve()).await;
    assert_eq!(late, Answer::Refused(Refusal::Expired { at: START.plus_ms(7_200_000) }));
    assert_eq!(w.outside.ledger(), Vec::<String>::new());
}

#[tokio::test]
async fn a_provider_that_is_down_is_asked_again_later_and_then_a_person_is() {
    let w = World::new().await;
    w.say("api:t", "fail").await;
    assert_eq!(w.thread("api:t").await.status(), Status::Running);
    // Half of the wait is fixed, half is chance: at most the whole.
    w.advance(2_000).await;
    w.advance(4_000).await;
    let thread = w.thread("api:t").await;
    assert_eq!(thread.status(), Status::WaitingAnswer);
    let (question, asked) = thread.questions.first_key_value().unwrap();
    assert_eq!(asked.cause, QuestionCause::ModelDown);
    let attempts = w.names("api:t").await.iter().filter(|n| **n == "model_failed").count();
    assert_eq!(attempts, 3);
    let answer =
        Input::Answer { question: *question, by: ann(), groups: Vec::new(), text: "stop".into(), source: None };
    assert_eq!(w.give("api:t", answer).await, Answer::Accepted);
    assert_eq!(w.thread("api:t").await.status(), Status::Stopped);
}

#[tokio::test]
async fn calls_with_side_effects_run_in_order_and_a_failure_skips_the_rest() {
    let w = World::new().await;
    w.say("api:t", "ship v1 and v2").await;
    let thread = w.thread("api:t").await;
    let open: Vec<Approval> = thread.pending_approvals().cloned().collect();
    assert_eq!(open.len(), 2);
    // The second is approved first: it waits for its turn.
    w.vote_on("api:t", &open[1], bob(), approve()).await;
    assert_eq!(w.outside.ledger(), Vec::<String>::new());
    w.outside.break_with("no space left");
    w.vote_on("api:t", &open[0], bob(), approve()).await;
    assert_eq!(w.outside.ledger(), Vec::<String>::new());
    assert!(w.thread("api:t").await.window.render().contains("an earlier call of the same step failed"));
}

#[tokio::test]
async fn the_same_delivery_twice_is_one_message() {
    let w = World::new().await;
    let thread: ThreadId = "api:t".parse().unwrap();
    for answer in [Answer::Accepted, Answer::Duplicate] {
        let from = ann();
        let delivered = w
            .runtime
            .message(&thread, "tester", Said { source: Some("Ev1".into()), ..Said::by(from, "hi") })
            .await
            .unwrap();
        w.runtime.settle().await.unwrap();
        assert_eq!(delivered.answer, answer);
    }
    assert_eq!(w.names("api:t").await.iter().filter(|n| **n == "message_received").count(), 1);
}

#[tokio::test]
async fn many_messages_at_once_are_all_kept_and_all_answered() {
    let w = World::new().await;
    let sends = (0..40).map(|i| {
        let (runtime, thread) = (w.runtime.clone(), "api:t".parse::<ThreadId>().unwrap());
        tokio::spawn(
            async move { runtime.message(&thread, "tester", Said::by(ann(), format!("hi {i}"))).await.unwrap() },
        )
    });
    for send in sends.collect::<Vec<_>>() {
        send.await.unwrap();
    }
    w.runtime.settle().await.unwrap();
    let log = w.log("api:t").await;
    let said: BTreeSet<String> = log
        .iter()
        .filter_map(|e| match &e.body {
            Body::MessageReceived { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(said, (0..40).map(|i| format!("hi {i}")).collect());
    let thread = w.thread("api:t").await;
    assert_eq!((thread.status(), thread.last_human <= log.len() as u64), (Status::Done, true));
    assert!(matches!(&log.last().unwrap().body, Body::ModelReplied { seen, .. } if *seen >= thread.last_human));
}

#[tokio::test]
async fn an_unknown_agent_is_named_with_those_that_exist_and_nothing_is_kept() {
    let w = World::new().await;
    let thread: ThreadId = "api:t".parse().unwrap();
    let error = w.runtime.message(&thread, "testr", Said::by(ann(), "hi")).await.unwrap_err();
    insta::assert_snapshot!(error, @"there is no agent `testr`; there are tester; did you mean `tester`?");
    assert!(matches!(w.runtime.parts().store.load(thread.short(), 0).await, Err(StoreError::Unknown(_))));
}

#[tokio::test]
async fn an_empty_or_huge_message_is_refused_before_anything_is_kept() {
    let w = World::new().await;
    for (text, refusal) in [
        (" \n".to_owned(), Refusal::EmptyMessage),
        ("x".repeat(1 << 20), Refusal::TooLong { bytes: 1 << 20, limit: 100 * 1024 }),
    ] {
        assert_eq!(w.send("api:t", &text).await.unwrap().answer, Answer::Refused(refusal));
    }
    let page = w.runtime.parts().store.list(&Filter::default(), None, 10).await.unwrap();
    assert_eq!(page.items, []);
}

#[tokio::test]
async fn a_paused_run_does_nothing_until_it_is_resumed() {
    let w = World::new().await;
    w.say("api:t", "ship v1").await;
    w.give("api:t", Input::Pause { by: bob(), why: "lunch".into() }).await;
    assert_eq!(w.vote("api:t", bob(), approve()).await, Answer::Accepted);
    assert_eq!(w.outside.ledger(), Vec::<String>::new());
    assert_eq!(w.thread("api:t").await.status(), Status::Paused);
    w.give("api:t", Input::Resume { by: bob() }).await;
    assert_eq!(w.outside.ledger(), ["v1"]);
}

#[tokio::test]
async fn a_cancelled_thread_is_over_for_good() {
    let w = World::new().await;
    w.say("api:t", "ship v1").await;
    let request = w.pending("api:t").await;
    w.give("api:t", Input::Cancel { by: ann(), why: String::new() }).await;
    let Answer::Refused(refusal) = w.vote_on("api:t", &request, bob(), approve()).await else { panic!() };
    assert_eq!(refusal.to_string(), "This was cancelled; nothing will run.");
    assert_eq!(w.send("api:t", "hello?").await.unwrap().answer, Answer::Refused(Refusal::Cancelled));
    assert_eq!((w.thread("api:t").await.status(), w.outside.ledger().len()), (Status::Cancelled, 0));
}

#[tokio::test]
async fn a_fork_carries_the_context_and_no_open_request() {
    let w = World::new().await;
    w.say("api:t", "ship v1").await;
    let at = w.thread("api:t").await.version;
    let (parent, fork): (ThreadId, ThreadId) = ("api:t".parse().unwrap(), "api:u".parse().unwrap());
    w.runtime.fork(parent.short(), at, fork, ann()).await.unwrap();
    let forked = w.thread("api:u").await;
    assert_eq!(forked.pending_approvals().count(), 0);
    assert!(forked.window.render().contains("ship v1"));
    w.say("api:u", "look").await;
    assert_eq!(w.answer("api:u").await, "look succeeded");
    assert_eq!(w.pending("api:t").await.revision, 1);
}

#[tokio::test]
async fn a_drain_gives_the_model_up_and_the_next_process_asks_it_again() {
    let mut w = World::new().await;
    w.send("api:t", "look").await.unwrap();
    w.runtime.drain(Duration::from_secs(5)).await.unwrap();
    assert!(matches!(w.send("api:t", "more").await, Err(DeliverError::Draining)));
    w.crash().await;
    w.runtime.settle().await.unwrap();
    assert_eq!(w.answer("api:t").await, "look succeeded");
}

#[tokio::test]
async fn more_threads_than_fit_the_cache_all_go_on() {
    let setup = Setup::default();
    let settings = twelve::runtime::Settings { max_cached_threads: 3, ..setup.settings.clone() };
    let w = World::with(Setup { settings, ..setup }).await;
    for i in 0..20 {
        w.say(&format!("api:t{i}"), &format!("ship v{i}")).await;
    }
    for i in (0..20).rev() {
        w.outside.set_current("v0");
        assert_eq!(w.vote(&format!("api:t{i}"), bob(), approve()).await, Answer::Accepted);
    }
    assert_eq!(w.outside.ledger(), (0..20).rev().map(|i| format!("v{i}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_long_outage_left_is_taken_up_in_bounded_portions() {
    let setup = Setup::default();
    let settings = twelve::runtime::Settings { max_concurrent_effects: 1, ..setup.settings.clone() };
    let agent = setup.agent.replace("ship = \"ask\"", "ship = \"auto\"");
    let mut w = World::with(Setup { settings, agent, ..setup }).await;
    w.outside.gate.shut();
    for i in 0..600 {
        w.send(&format!("api:t{i}"), &format!("ship v{i}")).await.unwrap();
    }
    w.crash().await;
    w.outside.gate.shut();
    let runtime = w.runtime.clone();
    let settled = tokio::spawn(async move { runtime.settle().await.unwrap() });
    // Everything is due at once, and nothing can end: no more is taken in hand than may wait.
    while w.runtime.in_flight() < 257 {
        tokio::task::yield_now().await;
    }
    // As many turns of the store as claiming the rest would take.
    let thread: ThreadId = "api:t0".parse().unwrap();
    for _ in 0..1000 {
        w.runtime.parts().store.summary(thread.short()).await.unwrap();
    }
    let in_hand = w.runtime.in_flight();
    assert!(in_hand <= 257 + 64, "{in_hand} effects in hand");
    w.outside.gate.open();
    settled.await.unwrap();
    // And nothing is left out. What had started when the process died is a person's to judge.
    let mut done = 0;
    for i in 0..600 {
        match w.thread(&format!("api:t{i}")).await.status() {
            Status::Done => done += 1,
            status => assert_eq!(status, Status::WaitingMark),
        }
    }
    assert!(done >= 599, "one at a time could have started: {done}");
    assert_eq!(w.outside.ledger().len(), done);
}

#[tokio::test]
async fn an_effect_that_breaks_the_program_holds_nothing_up_and_is_tried_again_after_its_lease() {
    let w = World::new().await;
    w.outside.set_trap(true);
    w.send("api:t", "look").await.unwrap();
    let settled = tokio::time::timeout(Duration::from_secs(20), w.runtime.settle()).await;
    settled.expect("nothing is left in flight").unwrap();
    w.outside.set_trap(false);
    assert_eq!(w.thread("api:t").await.status(), Status::Running);
    w.advance(30_000).await;
    assert_eq!(w.answer("api:t").await, "look succeeded");
}

/// Bob approves; the tool is started, and works until the gate is opened.
async fn start_and_stand_still(w: &World, request: &Approval) {
    w.outside.gate.shut();
    let vote = Input::Vote {
        approval: request.id,
        digest: request.digest.to_string(),
        by: bob(),
        groups: vec![],
        vote: approve(),
        source: None,
    };
    until_started(w, request.id.thread, vote).await;
}

/// Delivers what makes a tool start, and waits until it has.
async fn until_started(w: &World, thread: ShortId, input: Input) {
    let mut changes = w.runtime.watch();
    w.runtime.deliver(thread, input).await.unwrap();
    loop {
        let change = changes.recv().await.unwrap();
        let last = Event::decode(change.events.last().unwrap(), change.first + change.events.len() as u64 - 1).unwrap();
        if last.body.name() == "tool_started" {
            return;
        }
    }
}

#[tokio::test]
async fn a_thread_with_a_tool_at_work_stays_in_a_full_cache() {
    let setup = Setup::default();
    let settings = twelve::runtime::Settings { max_cached_threads: 1, ..setup.settings.clone() };
    let w = World::with(Setup { settings, ..setup }).await;
    w.say("api:t", "ship v1").await;
    start_and_stand_still(&w, &w.pending("api:t").await).await;
    for i in 0..5 {
        w.send(&format!("api:other{i}"), "hi").await.unwrap();
    }
    // Were its slot gone, nobody would know here that the tool is at work.
    w.send("api:t", "how is it going?").await.unwrap();
    w.outside.gate.open();
    w.runtime.settle().await.unwrap();
    assert_eq!(w.outside.ledger(), ["v1"]);
    let names = w.names("api:t").await;
    assert_eq!(names.iter().filter(|n| ["tool_started", "outcome_lost"].contains(n)).count(), 1, "{names:?}");
    assert_eq!(w.thread("api:t").await.status(), Status::Done);
}

#[tokio::test]
async fn what_a_tool_has_done_is_kept_in_hand_until_the_store_takes_it() {
    let w = World::new().await;
    w.say("api:t", "ship v1").await;
    start_and_stand_still(&w, &w.pending("api:t").await).await;
    let file = rusqlite::Connection::open(w.dir.path().join("twelve.db")).unwrap();
    file.execute_batch("CREATE TRIGGER no BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'not now'); END").unwrap();
    w.outside.gate.open();
    let settled = tokio::time::timeout(Duration::from_millis(100), w.runtime.settle()).await;
    assert!(settled.is_err(), "the result is still in hand");
    file.execute_batch("DROP TRIGGER no").unwrap();
    w.runtime.settle().await.unwrap();
    assert_eq!((w.outside.ledger(), w.answer("api:t").await), (vec!["v1".to_owned()], "ship succeeded".to_owned()));
}

#[tokio::test]
async fn what_a_dead_process_left_is_taken_up_even_if_the_clock_has_gone_back() {
    let mut w = World::new().await;
    w.say("api:t", "ship v1").await;
    start_and_stand_still(&w, &w.pending("api:t").await).await;
    w.crash().await;
    let Clock::Manual(now) = &w.clock else { panic!("worlds have manual clocks") };
    now.fetch_sub(3_600_000, std::sync::atomic::Ordering::SeqCst);
    w.runtime.settle().await.unwrap();
    assert_eq!(w.thread("api:t").await.status(), Status::WaitingMark);
}

#[tokio::test]
async fn what_an_agent_prefetches_is_there_before_its_model_is_first_asked_in_each_run() {
    let setup = Setup::default();
    let agent = setup.agent.replace("[gates]", "[[prefetch]]\ntool = \"look\"\n[gates]");
    let w = World::with(Setup { agent, ..setup }).await;
    w.say("api:t", "good morning").await;
    let names = w.names("api:t").await;
    assert_eq!(names, ["thread_started", "message_received", "tool_finished", "model_replied"]);
    w.say("api:t", "good night").await;
    assert_eq!(w.names("api:t").await[4..], ["message_received", "tool_finished", "model_replied"]);
    assert!(w.thread("api:t").await.window.render().contains("all is well"));
}

/// What lists say of the approvals of a thread, oldest first: where each is, and when that was settled, in
/// milliseconds from the start.
async fn listed(w: &World, thread: &str) -> Vec<(String, bool, u32, Option<i64>)> {
    // Reading the log checks that it says the same as the list.
    w.log(thread).await;
    let thread: ThreadId = thread.parse().unwrap();
    let mut rows = w.rows(Some(thread.short())).await;
    rows.reverse();
    let after = |at: Timestamp| at.0 - START.0;
    rows.into_iter().map(|row| (row.state, row.open, row.revision, row.settled_at.map(after))).collect()
}

fn is(state: &str, open: bool, revision: u32, settled: Option<i64>) -> (String, bool, u32, Option<i64>) {
    (state.to_owned(), open, revision, settled)
}

#[tokio::test]
async fn lists_show_an_approval_as_it_is_all_its_life() {
    let w = World::new().await;
    w.say("api:t", "ship v1").await;
    let rows = w.rows(None).await;
    let request = w.pending("api:t").await;
    let expected = ApprovalRow {
        id: request.id,
        open: true,
        state: "pending".to_owned(),
        revision: 1,
        digest: request.digest,
        title: "ship v1".to_owned(),
        tool: "ship".to_owned(),
        agent: "tester".to_owned(),
        risk: request.terms.risk,
        rule: request.terms.rule.clone(),
        requesters: vec![ann()],
        approvers: request.terms.approvers.clone(),
        decided_by: vec![],
        requested_at: START,
        expires_at: START.plus_ms(7_200_000),
        settled_at: None,
    };
    assert_eq!(rows, std::slice::from_ref(&expected));

    w.advance(1_000).await;
    let edited = w.runtime.propose("ship", r#"{"version":"v2"}"#);
    w.vote("api:t", bob(), Ballot::Edit { args: Box::new(edited) }).await;
    let second = w.pending("api:t").await;
    let expected = ApprovalRow {
        revision: 2,
        title: "ship v2".to_owned(),
        digest: second.digest,
        requested_at: START.plus_ms(1_000),
        expires_at: START.plus_ms(7_201_000),
        ..expected
    };
    assert_eq!(w.rows(None).await, std::slice::from_ref(&expected));

    w.advance(1_000).await;
    w.give("api:t", Input::Pause { by: ann(), why: String::new() }).await;
    w.vote("api:t", bob(), approve()).await;
    assert_eq!(listed(&w, "api:t").await, [is("approved", false, 2, Some(2_000))]);
    w.outside.gate.shut();
    until_started(&w, second.id.thread, Input::Resume { by: ann() }).await;
    assert_eq!(listed(&w, "api:t").await, [is("running", false, 2, Some(2_000))]);
    w.clock.advance_ms(5_000);
    w.outside.gate.open();
    w.runtime.settle().await.unwrap();
    let expected = ApprovalRow {
        open: false,
        state: "succeeded".to_owned(),
        decided_by: vec![bob()],
        settled_at: Some(START.plus_ms(2_000)),
        ..expected
    };
    assert_eq!(w.rows(None).await, [expected]);
}

#[tokio::test]
async fn lists_show_how_an_approval_ended_however_it_did() {
    let mut w = World::new().await;
    for (thread, words) in [("api:denied", "ship v1"), ("api:expired", "ship v2 and v3"), ("api:cancelled", "ship v4")]
    {
        w.say(thread, words).await;
    }
    w.advance(60_000).await;
    w.vote("api:denied", bob(), deny("no")).await;
    assert_eq!(listed(&w, "api:denied").await, [is("denied", false, 1, Some(60_000))]);
    assert_eq!(w.rows(None).await.iter().find(|row| row.state == "denied").unwrap().decided_by, [bob()]);
    w.give("api:cancelled", Input::Stop { by: ann(), why: String::new() }).await;
    assert_eq!(listed(&w, "api:cancelled").await, [is("cancelled", false, 1, Some(60_000))]);
    let late = w.thread("api:expired").await;
    w.advance(7_140_000).await;
    assert_eq!(
        listed(&w, "api:expired").await,
        [is("expired", false, 1, Some(7_200_000)), is("expired", false, 1, Some(7_200_000))]
    );
    assert_eq!(late.pending_approvals().count(), 2);

    // One that failed, and one that was skipped for it.
    w.say("api:broken", "ship v5 and v6").await;
    let open: Vec<Approval> = w.thread("api:broken").await.pending_approvals().cloned().collect();
    w.outside.break_with("no space left");
    w.vote_on("api:broken", &open[0], bob(), approve()).await;
    let at = Some(7_200_000);
    assert_eq!(listed(&w, "api:broken").await, [is("failed", false, 1, at), is("cancelled", false, 1, at)]);

    // One of which nobody knows how it ended; then somebody says it, or wants it tried again.
    for (thread, mark, ends) in [
        ("api:marked", Mark::Succeeded { note: String::new() }, is("succeeded", false, 1, at)),
        ("api:again", Mark::Retry, is("pending", true, 2, None)),
    ] {
        w.say(thread, "ship v7").await;
        let request = w.pending(thread).await;
        start_and_stand_still(&w, &request).await;
        w.crash().await;
        w.runtime.settle().await.unwrap();
        assert_eq!(listed(&w, thread).await, [is("unknown", false, 1, at)]);
        w.give(thread, Input::Mark { call: request.call, by: bob(), groups: vec![], mark }).await;
        assert_eq!(listed(&w, thread).await, [ends]);
    }
    let open = ApprovalFilter { open: Some(true), ..ApprovalFilter::default() };
    assert_eq!(w.runtime.parts().store.count_approvals(&open).await.unwrap(), 1);
}

#[tokio::test]
async fn lists_remember_more_approvals_than_the_thread_does() {
    let w = World::new().await;
    for n in 0..105 {
        w.say("api:t", "ship v1").await;
        w.vote("api:t", bob(), deny(&format!("{n}"))).await;
    }
    assert_eq!(w.thread("api:t").await.approvals.len(), 100);
    assert_eq!(listed(&w, "api:t").await, vec![is("denied", false, 1, Some(0)); 105]);
}

#[tokio::test]
async fn a_deleted_thread_is_gone_with_its_approvals_and_watchers_are_told() {
    let w = World::new().await;
    w.say("api:t", "ship v1").await;
    w.say("api:other", "ship v2").await;
    let (request, version) = (w.pending("api:t").await, w.thread("api:t").await.version);
    let short = request.id.thread;
    let mut changes = w.runtime.watch();
    let stone = w.runtime.delete(short, &bob()).await.unwrap();
    // It was cancelled first: those who watch, and the tombstone, have the last word of it.
    let cancelled = changes.try_recv().unwrap();
    let last = Event::decode(&cancelled.events[0], cancelled.first).unwrap();
    assert_eq!(last.body.name(), "cancelled");
    assert_eq!((cancelled.thread, cancelled.first, cancelled.deleted), (short, version + 1, false));
    let gone = changes.try_recv().unwrap();
    assert_eq!((gone.thread, gone.first, gone.events.len(), gone.deleted), (short, version + 2, 0, true));
    assert_eq!((stone.thread, stone.version, stone.by.as_str()), (short, version + 1, "api:bob"));
    assert_eq!(stone.head, Digest::of(&cancelled.events[0]));

    assert_eq!(w.rows(None).await.iter().map(|row| row.title.as_str()).collect::<Vec<_>>(), ["ship v2"]);
    let is_gone = |e: &DeliverError| matches!(e, DeliverError::Store(StoreError::Deleted(id)) if *id == short);
    assert!(is_gone(&w.runtime.thread(short).await.unwrap_err()));
    assert!(is_gone(&w.send("api:t", "hello?").await.unwrap_err()));
    let vote = Input::Vote {
        approval: request.id,
        digest: request.digest.to_string(),
        by: bob(),
        groups: vec![],
        vote: approve(),
        source: None,
    };
    assert!(is_gone(&w.runtime.deliver(short, vote).await.unwrap_err()));
    assert_eq!(w.runtime.delete(short, &ann()).await.unwrap(), stone, "the first one stays");
    w.advance(7_200_000).await;
    assert_eq!(w.outside.ledger(), Vec::<String>::new());
    let never: ThreadId = "api:never".parse().unwrap();
    let unknown = w.runtime.delete(never.short(), &bob()).await;
    assert!(matches!(unknown, Err(DeliverError::Store(StoreError::Unknown(_)))), "{unknown:?}");
}

#[tokio::test]
async fn a_thread_is_not_deleted_under_a_call_that_runs() {
    let mut w = World::new().await;
    w.say("api:t", "ship v1").await;
    let request = w.pending("api:t").await;
    start_and_stand_still(&w, &request).await;
    let short = request.id.thread;
    let before = w.log("api:t").await.len();
    let refused = w.runtime.delete(short, &bob()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "`ship v1` is running in thread {short}, and how it ends would be lost, so nothing was deleted. Try again \
             when it has ended; cancel the thread to have nothing else start meanwhile"
        )
    );
    let problem = twelve::http::problem::Problem::from(refused);
    assert_eq!((problem.status, problem.code), (409, "call_running"));
    assert_eq!(w.log("api:t").await.len(), before, "not even cancelled");
    // Also in the next process, which does not know yet that it is lost.
    w.crash().await;
    assert!(matches!(w.runtime.delete(short, &bob()).await, Err(DeliverError::CallRunning { .. })));
    w.runtime.settle().await.unwrap();
    assert_eq!(w.thread("api:t").await.status(), Status::WaitingMark);
    w.runtime.delete(short, &bob()).await.unwrap();
    w.runtime.drain(Duration::ZERO).await.unwrap();
    assert!(matches!(w.runtime.delete(short, &bob()).await, Err(DeliverError::Draining)));
}

#[tokio::test]
async fn a_thread_whose_agent_is_gone_can_be_deleted_although_a_call_of_it_never_ended() {
    let mut w = World::new().await;
    w.say("api:t", "ship v1").await;
    let request = w.pending("api:t").await;
    start_and_stand_still(&w, &request).await;
    w.crash().await;
    w.runtime.drain(Duration::ZERO).await.unwrap();
    let config = StoreConfig { path: w.dir.path().join("twelve.db"), durability: Durability::Process };
    let mut parts = parts(Store::open(&config).await.unwrap(), &w.clock, &w.outside, &Setup::default());
    parts.agents = Agents::default();
    let runtime = Runtime::new(parts);
    let short = request.id.thread;
    let lost = runtime.deliver(short, Input::Tick).await;
    assert!(matches!(lost, Err(DeliverError::Agent(_))), "nobody can say how it ended: {lost:?}");
    runtime.delete(short, &bob()).await.unwrap();
    assert!(matches!(runtime.thread(short).await, Err(DeliverError::Store(StoreError::Deleted(_)))));
}

#[tokio::test]
async fn asking_for_threads_that_do_not_exist_drives_none_from_memory() {
    let mut setup = Setup::default();
    setup.settings.max_cached_threads = 4;
    let w = World::with(setup).await;
    let short = w.say("api:t", "hi").await.thread.short();
    // From here on only memory has it.
    let file = rusqlite::Connection::open(w.dir.path().join("twelve.db")).unwrap();
    assert!(file.execute("UPDATE events SET body = x'7b7d'", []).unwrap() > 0);
    for n in 0..20 {
        let never = format!("api:never{n}").parse::<ThreadId>().unwrap().short();
        assert!(matches!(w.runtime.thread(never).await, Err(DeliverError::Store(StoreError::Unknown(_)))));
        let input = w.runtime.deliver(never, Input::Tick).await;
        assert!(matches!(input, Err(DeliverError::Store(StoreError::Unknown(_)))));
    }
    w.runtime.thread(short).await.unwrap();
}

#[tokio::test]
async fn what_is_on_its_way_when_its_thread_is_deleted_is_dropped() {
    let w = World::new().await;
    let mut changes = w.runtime.watch();
    w.send("api:t", "hi").await.unwrap();
    let t: ThreadId = "api:t".parse().unwrap();
    // The model is asked this very moment.
    w.runtime.delete(t.short(), &bob()).await.unwrap();
    w.runtime.settle().await.unwrap();
    let mut names = Vec::new();
    while let Ok(change) = changes.try_recv() {
        assert_eq!(change.thread, t.short());
        names.extend(
            (change.first..).zip(change.events.iter()).map(|(seq, e)| Event::decode(e, seq).unwrap().body.name()),
        );
    }
    assert_eq!(names, ["thread_started", "message_received", "cancelled"]);
    assert_eq!(w.runtime.in_flight(), 0);
}

#[tokio::test]
async fn a_thread_that_cannot_be_read_can_still_be_deleted() {
    let mut w = World::new().await;
    w.say("api:t", "ship v1").await;
    let short = w.pending("api:t").await.id.thread;
    let file = rusqlite::Connection::open(w.dir.path().join("twelve.db")).unwrap();
    assert_eq!(
        file.execute("UPDATE events SET body = x'7b7d' WHERE id = (SELECT min(id) FROM events)", []).unwrap(),
        1
    );
    w.crash().await;
    assert!(matches!(w.runtime.thread(short).await, Err(DeliverError::Log { .. })));
    w.runtime.delete(short, &bob()).await.unwrap();
    assert_eq!(w.rows(None).await, []);
}
