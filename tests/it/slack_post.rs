//! Postings into Slack: where they stand, once, in order, and what happens when Slack does not take them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use serde_json::json;
use twelve::agent::*;
use twelve::platform::slack::api::Pace;
use twelve::platform::slack::{Slack, SlackSettings, WorkspaceSettings};
use twelve::platform::{Card, CardState, Outbound, Platforms, Post, PostError};
use twelve::runtime::Clock;

use crate::fakes::slack::{FakeSlack, Fault, Handle};
use crate::world::{START, Setup, World};

/// A fake Slack, and the root of a conversation in #ops.
pub async fn fake() -> FakeSlack {
    let fake = FakeSlack::start(&Clock::manual(START)).await;
    fake.ignore_private();
    fake
}

/// The settings for these teams, with a pace for tests.
pub fn settings(fake: &Handle, teams: &[&str]) -> SlackSettings {
    let workspace = |team: &&str| WorkspaceSettings {
        team: Some((*team).to_owned()),
        bot_token: format!("xoxb-test-{team}").into(),
        app_token: None,
        signing_secret: None,
    };
    SlackSettings {
        api_url: fake.api_url(),
        workspaces: teams.iter().map(workspace).collect(),
        public_url: "https://twelve.example".to_owned(),
        max_file: 1_000,
        max_earlier: 5,
        pace: Pace {
            second: Duration::from_millis(4),
            patience: Duration::from_secs(20),
            attempt: Duration::from_millis(800),
        },
    }
}

pub async fn connected(settings: SlackSettings) -> Slack {
    let slack = Slack::new(settings).unwrap();
    assert!(slack.connect().await, "{:?}", slack.problems());
    slack
}

/// A message of somebody in a channel, as the root of a conversation; its timestamp.
pub fn root(fake: &Handle, team: &str, channel: &str, user: &str, text: &str) -> String {
    said(fake, team, channel, user, text, None)
}

/// A message of somebody.
pub fn said(fake: &Handle, team: &str, channel: &str, user: &str, text: &str, thread: Option<&str>) -> String {
    use crate::fakes::slack::Message;
    fake.with(|s| {
        let team = s.teams.get_mut(team).unwrap();
        let ts = format!("{}.{:06}", START.0 / 1000, team.messages.len() + 1);
        team.messages.push(Message {
            team: team.id.clone(),
            channel: channel.to_owned(),
            ts: ts.clone(),
            thread_ts: thread.map(str::to_owned),
            user: user.to_owned(),
            bot_id: None,
            text: text.to_owned(),
            blocks: Vec::new(),
            metadata: None,
            files: Vec::new(),
            edits: 0,
            before: Vec::new(),
            deleted: false,
            reactions: std::collections::BTreeSet::new(),
        });
        ts
    })
}

fn post_of(thread: &str, posting: Posting, outbound: Outbound, seq: u64) -> Post {
    let thread: ThreadId = thread.parse().unwrap();
    Post {
        key: EffectId::new(thread.short(), seq, 0),
        thread,
        outbound,
        replaces: None,
        posting,
        again: false,
        step: Vec::new(),
        people: vec![Principal::human("slack:T1:U1")],
    }
}

fn answer(thread: &str, seq: u64, text: &str) -> Post {
    let outbound = Outbound::Answer { agent: "ops".to_owned(), text: text.to_owned() };
    post_of(thread, Posting::Answer { seq }, outbound, seq)
}

/// A request to ship something, from `thread`.
fn card(thread: &str, seq: u64, call: (u64, u32), version: &str, route: Route) -> Card {
    let short = thread.parse::<ThreadId>().unwrap().short();
    let approval = Approval {
        id: ApprovalId::new(short, seq, 0),
        call: CallId::new(short, call.0, call.1),
        tool: "ship".to_owned(),
        revision: 1,
        because: Because::Gated,
        title: format!("Ship {version}"),
        args: json!({"version": version}),
        original_args: None,
        former_terms: None,
        plan: None,
        digest: Digest::of(version.as_bytes()),
        terms: Terms {
            rule: "ship".to_owned(),
            risk: Risk::Low,
            approvers: Approvers {
                users: vec!["slack:T1:U2".to_owned(), "slack:T9:U9".to_owned(), "console:ops".to_owned()],
                ..Approvers::default()
            },
            expires_after_ms: 7_200_000,
            untrusted: Untrusted::default(),
            route,
        },
        requesters: vec![Principal::human("slack:T1:U1")],
        requested_at: START,
        expires_at: START.plus_ms(7_200_000),
        votes: Vec::new(),
        state: ApprovalState::Pending,
        settled_at: None,
        result: None,
    };
    Card {
        approval,
        agent: "ops".to_owned(),
        tool: "ship".to_owned(),
        editable: false,
        why: "it is asked for".to_owned(),
        after_reading: None,
        state: CardState::Pending { approved: Vec::new(), needed: 1 },
    }
}

fn card_post(thread: &str, card: &Card, seq: u64) -> Post {
    let posting = Posting::Card { approval: card.approval.id };
    post_of(thread, posting, Outbound::Card(Box::new(card.clone())), seq)
}

/// The same card once somebody has denied it.
fn denied(card: &Card) -> Card {
    let mut card = card.clone();
    card.state = CardState::Denied { by: "bob".to_owned(), reason: "not today".to_owned() };
    card
}

fn texts(fake: &Handle, team: &str, channel: &str) -> Vec<String> {
    let ours = fake.messages(team, channel).into_iter().filter(|m| m.bot_id.is_some());
    ours.map(|m| m.words()).collect()
}

fn ts_of(reference: &str) -> (String, String) {
    let (channel, ts) = reference.split_once('/').unwrap();
    (channel.to_owned(), ts.to_owned())
}

#[tokio::test]
async fn s11_a_hundred_answers_in_one_channel_arrive_in_order_and_other_channels_do_not_wait() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let (ops, secret) = (root(&fake, "T1", "C1", "U1", "hi"), root(&fake, "T1", "G1", "U1", "hi"));
    let done = Arc::new(AtomicUsize::new(0));
    let post = async |post: Post| {
        slack.post(post).await.unwrap();
        done.fetch_add(1, Ordering::SeqCst)
    };
    let many = (0..100).map(|n| post(answer(&format!("slack:T1:C1:{ops}"), n, &format!("answer {n}."))));
    let other = post(answer(&format!("slack:T1:G1:{secret}"), 1, "elsewhere"));
    let (_, elsewhere) = tokio::join!(join_all(many), other);
    assert!(elsewhere < 15, "it came as number {elsewhere}");
    let said = texts(&fake, "T1", "C1");
    let numbers: Vec<String> = said.iter().map(|t| t.split(['.', '\n']).next().unwrap().to_owned()).collect();
    assert_eq!(numbers, (0..100).map(|n| format!("answer {n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn s11_a_retry_after_holds_up_one_channel_loses_nothing_and_keeps_the_order() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let (ops, secret) = (root(&fake, "T1", "C1", "U1", "hi"), root(&fake, "T1", "G1", "U1", "hi"));
    // Whoever calls before the time is over is told off by the fake.
    fake.fault_about("chat.postMessage", "\"C1\"", Fault::RateLimited(1));
    let ops = format!("slack:T1:C1:{ops}");
    let posts = [
        answer(&ops, 1, "one."),
        answer(&ops, 2, "two."),
        answer(&ops, 3, "three."),
        answer(&format!("slack:T1:G1:{secret}"), 1, "elsewhere"),
    ];
    let all: Vec<_> = posts.into_iter().map(|post| Box::pin(slack.post(post))).collect();
    let (first, place, rest) = select_all(all).await;
    assert_eq!((first.is_ok(), place), (true, 3), "the other channel is first");
    assert!(join_all(rest).await.iter().all(Result::is_ok));
    let said = texts(&fake, "T1", "C1");
    assert_eq!(said.len(), 3);
    assert!(said[0].starts_with("one.") && said[1].starts_with("two.") && said[2].starts_with("three."), "{said:?}");
}

#[tokio::test]
async fn s11_what_would_wait_too_long_is_given_back_with_the_time_to_wait() {
    let fake = fake().await;
    let mut settings = settings(&fake, &["T1"]);
    settings.pace.patience = Duration::from_millis(300);
    let slack = connected(settings).await;
    let ops = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
    fake.fault("chat.postMessage", Fault::RateLimited(30));
    let error = slack.post(answer(&ops, 1, "one.")).await.unwrap_err();
    assert!(error.transient && error.retry_after_ms.is_some_and(|ms| ms > 29_000 && ms <= 30_000), "{error:?}");
    let error = slack.post(answer(&ops, 2, "two.")).await.unwrap_err();
    assert!(error.transient && error.retry_after_ms.is_some_and(|ms| ms > 29_000), "{error:?}");
    assert_eq!(fake.calls("chat.postMessage").len(), 1, "nobody asks before the time is over");
}

#[tokio::test]
async fn s12_a_message_that_was_taken_without_an_answer_stands_once() {
    for fault in [
        Fault::DoneThenSilence,
        Fault::DoneThenReset,
        Fault::DoneThenHalf,
        Fault::DoneThenStatus(503),
        Fault::Reset,
        Fault::Status(500),
    ] {
        let fake = fake().await;
        let slack = connected(settings(&fake, &["T1"])).await;
        let ops = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
        fake.fault("chat.postMessage", fault.clone());
        let reference = slack.post(answer(&ops, 1, "one.")).await.unwrap();
        let ours: Vec<String> = fake
            .messages("T1", "C1")
            .into_iter()
            .filter(|m| m.bot_id.is_some())
            .map(|m| format!("{}/{}", m.channel, m.ts))
            .collect();
        assert_eq!(ours, [reference], "{fault:?}");
    }
}

#[tokio::test]
async fn s12_after_a_crash_a_posting_that_stands_is_found_and_not_posted_again() {
    let fake = fake().await;
    let ops = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
    let routed = card(&ops, 7, (6, 0), "v1", Route { channel: "slack:T1:G1".to_owned(), direct: true });
    let posts = [answer(&ops, 1, "one."), card_post(&ops, &routed, 8)];
    let before = connected(settings(&fake, &["T1"])).await;
    let mut stood = Vec::new();
    for post in posts.clone() {
        stood.push(before.post(post).await.unwrap());
    }
    let count = || fake.calls("chat.postMessage").len();
    let posted = count();
    // Another process, which knows nothing of it.
    let after = connected(settings(&fake, &["T1"])).await;
    for (post, stood) in posts.into_iter().zip(stood) {
        assert_eq!(after.post(Post { again: true, ..post }).await.unwrap(), stood);
    }
    assert_eq!(count(), posted);
    // What is not there is posted, also when it might have been.
    after.post(Post { again: true, ..answer(&ops, 2, "two.") }).await.unwrap();
    assert_eq!(count(), posted + 1);
}

#[tokio::test]
async fn s11_a_channel_that_is_closed_holds_up_no_other_work_of_the_process() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let (ops, secret) = (root(&fake, "T1", "C1", "U1", "hi"), root(&fake, "T1", "G1", "U1", "hi"));
    let mut setup = Setup { platforms: Platforms { console: None, slack: Some(slack) }, ..Setup::default() };
    setup.settings.max_concurrent_effects = 1;
    let w = World::with(setup).await;
    fake.fault_about("chat.postMessage", "\"C1\"", Fault::RateLimited(1));
    w.send(&format!("slack:T1:C1:{ops}"), "hi").await.unwrap();
    fake.until("a message that has to wait", |s| s.calls.iter().any(|c| c.answer == "ratelimited").then_some(())).await;
    w.send(&format!("slack:T1:G1:{secret}"), "hi").await.unwrap();
    w.runtime.settle().await.unwrap();
    let order: Vec<(String, String)> = fake
        .calls("chat.postMessage")
        .into_iter()
        .map(|c| (c.args["channel"].as_str().unwrap().to_owned(), c.answer))
        .collect();
    let of = |channel: &str, answer: &str| (channel.to_owned(), answer.to_owned());
    assert_eq!(order, [of("C1", "ratelimited"), of("G1", "ok"), of("C1", "ok")]);
}

#[tokio::test]
async fn no_token_and_nothing_that_people_said_is_in_the_log_at_any_level() {
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    crate::listening();
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .finish();
    let _listening = tracing::subscriber::set_default(subscriber);
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let ops = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
    slack.post(answer(&ops, 1, "a private matter")).await.unwrap();
    for fault in [Fault::Error("invalid_blocks"), Fault::Status(500), Fault::DoneThenHalf] {
        fake.fault("chat.postMessage", fault);
    }
    slack.post(answer(&ops, 2, "a private matter")).await.unwrap();
    fake.fault("chat.postMessage", Fault::Error("no_permission"));
    let said = slack.post(answer(&ops, 3, "a private matter")).await.unwrap_err().to_string();
    fake.fault("chat.postMessage", Fault::Reset);
    slack.post(answer(&ops, 4, "a private matter")).await.unwrap();
    let log = String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned() + &said;
    assert!(log.contains("chat.postMessage"), "something is logged");
    for secret in ["xoxb-", "private matter"] {
        assert!(!log.contains(secret), "{}", log.lines().find(|l| l.contains(secret)).unwrap());
    }
}

#[tokio::test]
async fn s14_an_edit_that_fails_is_tried_again_and_then_the_card_is_posted_anew() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let ops = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
    let asked = card(&ops, 7, (6, 0), "v1", Route::default());
    let first = slack.post(card_post(&ops, &asked, 8)).await.unwrap();
    let (channel, ts) = ts_of(&first);
    assert!(fake.message("T1", &channel, &ts).actions().iter().any(|a| a.starts_with("apr.")));
    let edit =
        |stands: &str, seq: u64, card: &Card| Post { replaces: Some(stands.to_owned()), ..card_post(&ops, card, seq) };

    // It passes.
    fake.fault("chat.update", Fault::Status(503));
    fake.fault("chat.update", Fault::Reset);
    assert_eq!(slack.post(edit(&first, 10, &denied(&asked))).await, Ok(first.clone()));
    let stands = fake.message("T1", &channel, &ts);
    assert!(stands.actions().is_empty() && stands.words().contains("Denied"), "{}", stands.words());

    // It does not pass now: the effect tries again.
    fake.fault_always("chat.update", Fault::Status(503));
    assert!(slack.post(edit(&first, 11, &denied(&asked))).await.unwrap_err().transient);
    fake.heal("chat.update");
    slack.post(edit(&first, 12, &asked)).await.unwrap();

    // It never works: the new one says it, the old one has no buttons any more.
    for (seq, code) in [(20, "msg_too_long"), (21, "edit_window_closed"), (22, "cant_update_message")] {
        let first = slack.post(card_post(&ops, &card(&ops, seq, (seq, 0), "v2", Route::default()), seq)).await.unwrap();
        let asked = card(&ops, seq, (seq, 0), "v2", Route::default());
        fake.fault("chat.update", Fault::Error(code));
        let second = slack.post(edit(&first, seq + 10, &denied(&asked))).await.unwrap();
        assert_ne!(first, second);
        let (channel, ts) = ts_of(&second);
        assert!(fake.message("T1", &channel, &ts).words().contains("Denied"), "{code}");
        let (channel, ts) = ts_of(&first);
        let old = fake.message("T1", &channel, &ts);
        assert!(old.actions().is_empty() && old.words().contains("posted again"), "{code}: {}", old.words());
    }
}

#[tokio::test]
async fn a_card_that_somebody_deleted_is_posted_anew_and_a_question_that_is_over_is_not() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let thread = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
    let asked = card(&thread, 7, (6, 0), "v1", Route::default());
    let first = slack.post(card_post(&thread, &asked, 8)).await.unwrap();
    fake.team("T1", |t| t.messages.last_mut().unwrap().deleted = true);
    let edit = Post { replaces: Some(first.clone()), ..card_post(&thread, &denied(&asked), 9) };
    let second = slack.post(edit).await.unwrap();
    assert_ne!(first, second);
    // Also where it was not yet noted where it stands.
    fake.team("T1", |t| t.messages.last_mut().unwrap().deleted = true);
    let other = card(&thread, 9, (8, 0), "v2", Route::default());
    let stood = slack.post(card_post(&thread, &other, 10)).await.unwrap();
    fake.team("T1", |t| t.messages.last_mut().unwrap().deleted = true);
    assert_ne!(slack.post(card_post(&thread, &other, 11)).await.unwrap(), stood);

    let id = QuestionId::new(thread.parse::<ThreadId>().unwrap().short(), 11, 0);
    let posting = Posting::Question { question: id };
    fake.team("T1", |t| t.messages.last_mut().unwrap().deleted = true);
    let closed = post_of(&thread, posting, Outbound::QuestionClosed { id }, 12);
    let count = fake.calls("chat.postMessage").len();
    let closed = Post { replaces: Some(second.clone()), ..closed };
    assert_eq!(slack.post(closed).await, Ok(second));
    assert_eq!(fake.calls("chat.postMessage").len(), count);
}

#[tokio::test]
async fn a_routed_card_stands_in_its_channel_with_a_link_and_copies_and_all_of_them_are_edited() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let ts = root(&fake, "T1", "C1", "U1", "hi");
    let thread = format!("slack:T1:C1:{ts}");
    let asked = card(&thread, 7, (6, 0), "v1", Route { channel: "slack:T1:G1".to_owned(), direct: true });
    let reference = slack.post(card_post(&thread, &asked, 8)).await.unwrap();
    let places: Vec<String> = reference.split(' ').map(|r| ts_of(r).0).collect();
    let direct = fake.dm_channel("T1", "U2");
    assert_eq!(places, ["G1", "C1", direct.as_str()]);
    let shown = |n: usize| {
        let (channel, ts) = ts_of(reference.split(' ').nth(n).unwrap());
        fake.message("T1", &channel, &ts)
    };
    assert_eq!(shown(0).thread_ts, None);
    assert_eq!(shown(1).thread_ts, Some(ts));
    assert!(shown(0).actions().iter().any(|a| a == "apr.approve") && shown(2).actions() == shown(0).actions());
    assert!(!shown(1).actions().iter().any(|a| a.starts_with("apr.")), "the link decides nothing");
    // Each message names its conversation, wherever it stands.
    assert_eq!(shown(0).metadata.unwrap()["event_payload"]["thread"], thread.as_str());

    let edit = Post { replaces: Some(reference.clone()), ..card_post(&thread, &denied(&asked), 9) };
    assert_eq!(slack.post(edit).await, Ok(reference.clone()));
    for n in [0, 2] {
        assert!(shown(n).actions().iter().all(|a| a != "apr.approve") && shown(n).words().contains("Denied"));
    }
}

#[tokio::test]
async fn a_request_that_an_edit_moved_leaves_no_live_card_in_its_former_channel() {
    let fake = fake().await;
    fake.team("T1", |t| t.channels.get_mut("C2").unwrap().members.insert("UBOTT1".to_owned()));
    let slack = connected(settings(&fake, &["T1"])).await;
    let thread = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
    let route = |channel: &str| Route { channel: format!("slack:T1:{channel}"), direct: true };
    let before = card(&thread, 7, (6, 0), "v1", route("G1"));
    let first = slack.post(card_post(&thread, &before, 8)).await.unwrap();
    let after = card(&thread, 7, (6, 0), "v2", route("C2"));
    let moved = Post { replaces: Some(first), ..card_post(&thread, &after, 9) };
    let references = slack.post(moved).await.unwrap();
    assert!(references.starts_with("C2/") && !references.contains("G1/"), "{references}");
    let live = |channel: &str| {
        let all = fake.messages("T1", channel);
        all.iter().filter(|m| m.actions().iter().any(|a| a.starts_with("apr."))).count()
    };
    assert_eq!((live("C2"), live("G1")), (1, 0));
    assert_eq!(live(&fake.dm_channel("T1", "U2")), 1, "the approver's copy is kept and up to date");
}

#[tokio::test]
async fn s20_a_route_into_another_team_is_never_followed() {
    let fake = fake().await;
    fake.add_team("T2", "A1");
    let slack = connected(settings(&fake, &["T1", "T2"])).await;
    let thread = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
    let asked = card(&thread, 7, (6, 0), "v1", Route { channel: "slack:T2:C1".to_owned(), direct: false });
    let reference = slack.post(card_post(&thread, &asked, 8)).await.unwrap();
    assert!(reference.starts_with("C1/"));
    assert_eq!((texts(&fake, "T1", "C1").len(), texts(&fake, "T2", "C1").len()), (1, 0));
    assert_eq!(slack.problems(), Vec::<String>::new(), "all is connected");
    let problems = slack.lacks();
    assert!(
        problems[0].starts_with("Slack, route slack:T2:C1: a request of the team T1 (Acme T1) is to go"),
        "{problems:?}"
    );
}

#[tokio::test]
async fn s20_the_same_channel_and_message_in_two_teams_never_mix() {
    let fake = fake().await;
    fake.add_team("T2", "A1");
    let slack = connected(settings(&fake, &["T1", "T2"])).await;
    let (one, two) = (root(&fake, "T1", "C1", "U1", "hi"), root(&fake, "T2", "C1", "U1", "hi"));
    assert_eq!(one, two, "even the time is the same");
    let first = slack.post(answer(&format!("slack:T1:C1:{one}"), 1, "for one.")).await.unwrap();
    let second = Post { again: true, ..answer(&format!("slack:T2:C1:{two}"), 1, "for two.") };
    slack.post(second).await.unwrap();
    assert!(texts(&fake, "T1", "C1")[0].starts_with("for one."));
    assert!(texts(&fake, "T2", "C1")[0].starts_with("for two."));
    assert_eq!((texts(&fake, "T1", "C1").len(), texts(&fake, "T2", "C1").len()), (1, 1));
    let edit = Post { replaces: Some(first), ..answer(&format!("slack:T1:C1:{one}"), 1, "for one, again.") };
    slack.post(edit).await.unwrap();
    assert!(texts(&fake, "T2", "C1")[0].starts_with("for two."));
    let elsewhere = slack.post(answer("slack:T3:C1:1.2", 1, "nobody")).await.unwrap_err();
    assert!(!elsewhere.transient && elsewhere.message.contains("T3"), "{elsewhere:?}");
}

#[tokio::test]
async fn the_cards_of_one_reply_are_one_message() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let thread = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
    let both = [card(&thread, 7, (6, 0), "v1", Route::default()), card(&thread, 8, (6, 1), "v2", Route::default())];
    // The first comes before the second is known.
    let first = slack.post(card_post(&thread, &both[0], 9)).await.unwrap();
    // Where it stands is not yet in the log, as after a crash: it is found all the same.
    let after = connected(settings(&fake, &["T1"])).await;
    let second = Post { step: both.to_vec(), again: true, ..card_post(&thread, &both[1], 10) };
    assert_eq!(after.post(second).await, Ok(first));
    let said = texts(&fake, "T1", "C1");
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("Ship v1") && said[0].contains("Ship v2"), "{said:?}");
}

#[tokio::test]
async fn a_place_that_refuses_is_told_to_those_who_asked_in_private_and_once() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let ts = root(&fake, "T1", "C2", "U1", "hi");
    let thread = format!("slack:T1:C2:{ts}");
    let error = slack.post(answer(&thread, 1, "one.")).await.unwrap_err();
    assert_eq!(error, PostError::lasting("I can't post in #releases. Invite me with /invite @agent."));
    slack.post(answer(&thread, 2, "two.")).await.unwrap_err();
    let told =
        || -> Vec<String> { fake.messages("T1", &fake.dm_channel("T1", "U1")).into_iter().map(|m| m.text).collect() };
    let first = told();
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first[0].starts_with("I can't post in #releases. Invite me with /invite @agent. The conversation is kept: https://twelve.example/chat/"), "{first:?}");

    // A card for a channel that is archived: the approvals stay decidable.
    fake.team("T1", |t| t.channels.get_mut("G1").unwrap().archived = true);
    let thread = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U2", "hi"));
    let asked = card(&thread, 7, (6, 0), "v1", Route { channel: "slack:T1:G1".to_owned(), direct: false });
    let error = slack.post(card_post(&thread, &asked, 8)).await.unwrap_err();
    assert!(!error.transient && error.message.starts_with("I can't post in #secret. It is archived"), "{error:?}");
    let told = told();
    let inbox = format!("https://twelve.example/inbox/{}", asked.approval.id);
    assert!(told.len() == 2 && told[1].contains(&inbox), "{told:?}");

    // With copies for the approvers, somebody sees it.
    let asked = card(&thread, 9, (8, 0), "v2", Route { channel: "slack:T1:G1".to_owned(), direct: true });
    let reference = slack.post(card_post(&thread, &asked, 10)).await.unwrap();
    assert!(reference.starts_with(&fake.dm_channel("T1", "U2")), "{reference}");
}

#[tokio::test]
async fn what_slack_does_not_take_as_blocks_is_sent_in_plain_words_without_buttons() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let thread = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
    fake.fault("chat.postMessage", Fault::Error("invalid_blocks"));
    let asked = card(&thread, 7, (6, 0), "v1", Route::default());
    let (channel, ts) = ts_of(&slack.post(card_post(&thread, &asked, 8)).await.unwrap());
    let stands = fake.message("T1", &channel, &ts);
    let inbox = format!("https://twelve.example/inbox/{}", asked.approval.id);
    assert!(stands.actions().iter().all(|a| !a.starts_with("apr.")) && stands.text.contains(&inbox), "{stands:?}");
}

#[tokio::test]
async fn a_long_answer_comes_in_several_messages_one_after_the_other() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let thread = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
    let paragraphs: Vec<String> = (0..60).map(|n| format!("paragraph {n}: {}", "word ".repeat(120))).collect();
    let post = answer(&thread, 1, &paragraphs.join("\n\n"));
    // The second part is taken without an answer; the third is not taken at all at first.
    fake.fault_about("chat.postMessage", "/1\"", Fault::DoneThenReset);
    let reference = slack.post(post).await.unwrap();
    let said = texts(&fake, "T1", "C1");
    assert!(said.len() > 2 && reference.split(' ').count() == said.len(), "{}", said.len());
    let all = said.join("\n");
    let places: Vec<usize> = (0..60).map(|n| all.find(&format!("paragraph {n}:")).unwrap()).collect();
    assert!(places.is_sorted() && all.matches("paragraph 20:").count() == 1);
}

#[tokio::test]
async fn two_tokens_of_one_team_and_a_token_of_another_team_are_named_and_not_used() {
    let fake = fake().await;
    fake.add_team("T2", "A1");
    let mut settings = settings(&fake, &["T1", "T2", "T9"]);
    settings.workspaces[1].team = None;
    settings.workspaces[1].bot_token = "xoxb-test-T1".into();
    settings.workspaces[2].bot_token = "xoxb-test-T2".into();
    let slack = Slack::new(settings).unwrap();
    assert!(!slack.connect().await);
    assert_eq!(slack.workspaces().iter().map(|w| (w.team.as_str(), w.index)).collect::<Vec<_>>(), [("T1", 0)]);
    assert_eq!(
        slack.problems(),
        [
            "Slack, bot token 2: another token is for the team T1 as well; that one is used. Remove one of them",
            "Slack, team T9: its token is for the team T2 (Acme T2), not for T9: it is not used. Correct the team, or \
             the variable that holds the token",
        ]
    );
}

#[tokio::test]
async fn a_workspace_that_does_not_answer_is_asked_again_and_a_token_that_is_revoked_is_said() {
    let fake = fake().await;
    let slack = Slack::new(settings(&fake, &["T1"])).unwrap();
    fake.fault("auth.test", Fault::Status(503));
    assert!(!slack.connect().await && slack.workspace("T1").is_none());
    assert!(slack.problems()[0].contains("http_503; it is tried again"), "{:?}", slack.problems());
    let thread = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi"));
    assert!(slack.post(answer(&thread, 1, "one.")).await.unwrap_err().transient, "it may be connected soon");
    assert!(slack.connect().await && slack.problems().is_empty());

    fake.team("T1", |t| t.refused = Some("token_revoked".to_owned()));
    let error = slack.post(answer(&thread, 1, "one.")).await.unwrap_err();
    assert_eq!(
        error,
        PostError::lasting("Slack: the bot token was revoked: install the app again and set the new token")
    );
    assert_eq!(
        slack.problems(),
        ["Slack, team T1: the bot token was revoked: install the app again and set the new token"]
    );
    fake.team("T1", |t| t.refused = None);
    slack.post(answer(&thread, 1, "one.")).await.unwrap();
    assert_eq!(slack.problems(), Vec::<String>::new());
}
