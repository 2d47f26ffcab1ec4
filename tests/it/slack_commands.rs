//! The words of `/agent …`, over the real runtime: what a person in a workspace is told, and what they are not.

use twelve::agent::*;
use twelve::chat::commands::{Asker, Command, Listing, Outcome, answer, parse};
use twelve::platform::Platforms;

use crate::fakes::slack::Handle;
use crate::slack_post;
use crate::world::*;

/// `note` has a low risk, `ship` a high one; both ask.
const GATED: &str = r#"+++
description = "Ships things."
tools = ["look", "note", "ship", "nap"]
[gates]
ship = "ask"
note = { gate = "ask", approvers = { users = ["slack:T1:UBOB", "slack:T1:UEVE"] } }
+++
You are {{ agent.name }}.
"#;

const ANN: &str = "slack:T1:UANN";
const BOB: &str = "slack:T1:UBOB";
const EVE: &str = "slack:T1:UEVE";
/// Of another workspace that uses the same program.
const ZOE: &str = "slack:T2:UZOE";

/// Who asks, and from where.
#[derive(Clone, Copy)]
struct From<'a> {
    by: &'a str,
    here: Option<&'a str>,
    /// The place in which they ask.
    at: &'a str,
    operator: bool,
}

fn from(by: &str) -> From<'_> {
    From { by, here: None, at: "", operator: false }
}

async fn world() -> World {
    let approvers = Approvers { users: vec![BOB.into()], ..Approvers::default() };
    let policy = Policy { approvers, expires_after_ms: 7_200_000, ..Policy::default() };
    World::with(Setup { agent: GATED.to_owned(), policy, ..Setup::default() }).await
}

/// The same with a Slack that shows its cards.
async fn posting(fake: &Handle) -> World {
    let slack = slack_post::connected(slack_post::settings(fake, &["T1"])).await;
    let approvers = Approvers { users: vec![BOB.into()], ..Approvers::default() };
    let twice = "[[reply]]\nhuman = '^note twice$'\nlast = '^<human'\n[[reply.call]]\ntool = \"note\"\n\
                 [[reply.call]]\ntool = \"note\"\n";
    World::with(Setup {
        agent: GATED.to_owned(),
        policy: Policy { approvers, expires_after_ms: 7_200_000, ..Policy::default() },
        platforms: Platforms { console: None, slack: Some(slack) },
        script: format!("{twice}{SCRIPT}"),
        ..Setup::default()
    })
    .await
}

fn short(thread: &str) -> ShortId {
    thread.parse::<ThreadId>().unwrap().short()
}

/// Somebody writes in a thread; then everything happens that can happen.
async fn writes(w: &World, by: &str, thread: &str, text: &str) -> ShortId {
    let said = twelve::runtime::Said::by(Principal::human(by), text);
    w.runtime.message(&thread.parse().unwrap(), "tester", said).await.unwrap();
    w.runtime.settle().await.unwrap();
    short(thread)
}

async fn ask(w: &World, from: From<'_>, text: &str) -> Outcome {
    let by = Principal::human(from.by);
    let asker = Asker {
        runtime: &w.runtime,
        by: &by,
        here: from.here.map(short),
        at: from.at,
        public_url: "https://agent.example",
        prefix: "/agent",
        operator: from.operator,
    };
    answer(&asker, &parse(text)).await
}

/// What somebody is told, as text: `text | detail | deciders | link`.
async fn told(w: &World, from: From<'_>, text: &str) -> String {
    match ask(w, from, text).await {
        Outcome::Say(listing) => lines(&listing),
        other => panic!("{text}: {other:?}"),
    }
}

fn lines(listing: &Listing) -> String {
    let mut out = listing.title.clone();
    for row in &listing.rows {
        let who = [&row.requesters, &row.deciders].map(|ids| ids.join(" ")).join(" > ");
        let who = if who == " > " { "" } else { who.trim() };
        let more = [&row.detail, who, row.link.as_deref().unwrap_or("")].map(str::to_owned);
        let more: Vec<String> = more.into_iter().filter(|part| !part.is_empty()).collect();
        out.push_str(&format!("\n- {}{}", row.text, more.iter().map(|m| format!(" | {m}")).collect::<String>()));
    }
    if !listing.hint.is_empty() {
        out.push_str(&format!("\n{}", listing.hint));
    }
    out
}

fn stopped(outcome: &Outcome) -> Option<ShortId> {
    match outcome {
        Outcome::Act(Act::Steer { what: Steer::Stop, target: Target::Thread { thread } }) => Some(*thread),
        _ => None,
    }
}

#[tokio::test]
async fn pending_lists_what_waits_for_the_one_who_asks_and_all_what_they_may_see() {
    let w = world().await;
    let thread = writes(&w, ANN, "slack:T1:C1:1.1", "ship v1").await;
    w.clock.advance_ms(60_000);
    let id = w.pending("slack:T1:C1:1.1").await.id;
    assert_eq!(
        told(&w, from(BOB), "pending").await,
        format!(
            "1 request waits for you\n- ship v1 | high risk · tester · asked 1m ago · expires in 1h 59m · `{id}` | \
             {ANN} > {BOB} | https://agent.example/inbox/{id}\nOr in words: `/agent approve <id>`, `/agent deny <id> \
             <reason>`."
        )
    );
    // Who asked sees it, and is not asked to decide it; nobody else sees it at all.
    assert!(told(&w, from(ANN), "pending").await.starts_with("Nothing waits for you."));
    assert!(told(&w, from(ANN), "pending all").await.starts_with("1 open request to see\n- ship v1 | "));
    assert!(told(&w, from(EVE), "pending all").await.starts_with("No request is open that is yours to see."));
    // An operator sees it without deciding anything.
    let operator = From { operator: true, ..from(EVE) };
    assert!(told(&w, operator, "pending all").await.contains("- ship v1 | "));
    assert!(told(&w, operator, "pending").await.starts_with("Nothing waits for you."));
    assert_eq!(id.thread, thread);
}

#[tokio::test]
async fn a_long_list_is_cut_at_ten_rows_and_the_rest_is_counted() {
    let w = world().await;
    for n in 0..13 {
        writes(&w, ANN, &format!("slack:T1:C1:{n}.1"), "ship v1").await;
    }
    // As many of another workspace change neither rows nor count, although the store has them all.
    for n in 0..13 {
        writes(&w, ZOE, &format!("slack:T2:C1:{n}.1"), "ship v2").await;
    }
    let Outcome::Say(listing) = ask(&w, from(BOB), "pending").await else { panic!() };
    assert_eq!((listing.title.as_str(), listing.rows.len()), ("13 requests wait for you", 10));
    assert!(listing.hint.starts_with("And 3 more: https://agent.example/inbox."), "{}", listing.hint);
    assert!(listing.rows.iter().all(|row| row.text == "ship v1" && row.approval.is_some()));
    let Outcome::Say(listing) = ask(&w, from(ANN), "status").await else { panic!() };
    assert_eq!(listing.rows.len(), 10);
    assert!(listing.hint.starts_with("There may be more."), "{}", listing.hint);
}

#[tokio::test]
async fn nothing_of_another_workspace_is_seen_or_touched_whoever_asks_and_however() {
    let w = World::with(Setup { agent: GATED.to_owned(), ..Setup::default() }).await;
    let thread = "slack:T1:C1:1.1";
    let run = writes(&w, ANN, thread, "ship v1").await;
    // Anyone here may decide: anyone of the workspace, that is.
    let id = w.pending(thread).await.id;
    let there = From { at: "slack:T1:C1", ..from(BOB) };
    assert!(matches!(ask(&w, there, &format!("approve {id}")).await, Outcome::Show(shown) if shown == id));
    writes(&w, ANN, "slack:T1:C1:2.1", "ask me").await;
    let question = *w.thread("slack:T1:C1:2.1").await.questions.first_key_value().unwrap().0;
    let inside = From { by: ZOE, here: Some(thread), at: "slack:T1:C1", operator: true };
    for zoe in [from(ZOE), inside] {
        for all in ["pending", "pending all"] {
            let told = told(&w, zoe, all).await;
            assert!(told.starts_with("Nothing waits for you.") || told.starts_with("No request is open"), "{told}");
        }
        for word in ["status", "stop", "pause", "history"] {
            let named = told(&w, zoe, &format!("{word} {run}")).await;
            assert!(named.starts_with(&format!("I don't know a run “{run}”, or it is not yours to see.")), "{named}");
            let meant = told(&w, zoe, word).await;
            assert!(meant.starts_with("You have no runs") || meant.starts_with("None of your runs"), "{meant}");
        }
        for word in ["approve", "deny"] {
            assert_eq!(
                told(&w, zoe, &format!("{word} {id}")).await,
                format!("I don't know this request any more (older than 30 days?). Id {id}.")
            );
        }
        let begun: String = id.to_string().chars().take(12).collect();
        assert!(told(&w, zoe, &format!("approve {begun}")).await.starts_with("I don't know this request any more"));
        assert!(told(&w, zoe, &format!("answer {question} left")).await.starts_with("I don't know a run"));
        assert_eq!(told(&w, zoe, "answer left").await, "No question waits for your answer.");
    }
}

#[tokio::test]
async fn what_everybody_of_a_conversation_may_decide_is_shown_there_and_nowhere_else() {
    let w = World::with(Setup { agent: GATED.to_owned(), ..Setup::default() }).await;
    // One in a private channel, one of another surface.
    let run = writes(&w, ANN, "slack:T1:C1:1.1", "ship v1").await;
    let id = w.pending("slack:T1:C1:1.1").await.id;
    let rest = writes(&w, "api:key", "api:1", "ship v2").await;
    let other = w.pending("api:1").await.id;
    let there = From { at: "slack:T1:C1", ..from(BOB) };
    for away in [from(BOB), From { at: "slack:T1:C2", ..from(BOB) }, From { at: "slack:T2:C1", ..from(BOB) }] {
        for word in ["pending", "pending all"] {
            let told = told(&w, away, word).await;
            assert!(told.starts_with("Nothing waits for you.") || told.starts_with("No request is open"), "{told}");
            assert!(told.contains("What everybody of a conversation may decide is shown there"), "{told}");
        }
        for run in [run, rest] {
            assert!(told(&w, away, &format!("status {run}")).await.starts_with("I don't know a run"));
        }
        let begun: String = id.to_string().chars().take(12).collect();
        assert!(told(&w, away, &format!("approve {begun}")).await.starts_with("I don't know this request any more"));
        // Whether they are a member of the channel is asked when it counts: they are shown nothing of it.
        let told = told(&w, away, &format!("approve {id}")).await;
        assert!(told.starts_with("This one is only decided") && !told.contains("ship"), "{told}");
    }
    for word in ["pending", "pending all"] {
        let told = told(&w, there, word).await;
        assert!(told.starts_with("1 ") && told.contains("ship v1") && !told.contains("ship v2"), "{told}");
    }
    assert!(told(&w, there, &format!("status {run}")).await.starts_with(&format!("Run {run}: ship v1")));
    assert!(told(&w, there, &format!("approve {other}")).await.starts_with("I don't know this request any more"));
}

#[tokio::test]
async fn rules_name_nobody_of_another_workspace() {
    let users = vec![BOB.to_owned(), ZOE.to_owned()];
    let policy = Policy { approvers: Approvers { users, ..Approvers::default() }, ..Policy::default() };
    let w = World::with(Setup { agent: GATED.to_owned(), policy, ..Setup::default() }).await;
    for (by, theirs, not) in [(ANN, BOB, ZOE), (ZOE, ZOE, BOB)] {
        let told = told(&w, from(by), "rules").await;
        let default = told.lines().find(|line| line.starts_with("- Any other call with side")).unwrap();
        assert!(default.contains(theirs) && !default.contains(not), "{told}");
    }
}

#[tokio::test]
async fn a_request_of_low_risk_is_decided_in_words_and_a_dangerous_one_only_on_its_card() {
    let fake = slack_post::fake().await;
    let w = posting(&fake).await;
    let [one, two, several] = ["one", "two", "several"]
        .map(|text| format!("slack:T1:C1:{}", slack_post::root(&fake, "T1", "C1", "U1", text)));
    writes(&w, ANN, &one, "note").await;
    writes(&w, ANN, &two, "ship v1").await;
    let note = w.pending(&one).await;
    let ship = w.pending(&two).await;
    let vote = |choice| Outcome::Act(Act::Vote { approval: note.id, digest: note.digest.to_string(), choice });
    let approved = vote(Choice::Approve { note: "go on".into() });
    assert_eq!(ask(&w, from(BOB), &format!("approve {} go on", note.id)).await, approved);
    // The beginning of the id will do, where only one request fits that the person may see.
    let begun: String = note.id.to_string().chars().take(9).collect();
    assert_eq!(ask(&w, from(BOB), &format!("approve {begun} “go on”")).await, approved);
    assert_eq!(ask(&w, from(BOB), &format!("approve {} go on", &begun[4..])).await, approved);
    let denied = vote(Choice::Deny { reason: "not now".into() });
    assert_eq!(ask(&w, from(BOB), &format!("deny {} not now", note.id)).await, denied);
    for word in ["approve", "deny"] {
        assert_eq!(ask(&w, from(BOB), &format!("{word} {} go on", ship.id)).await, Outcome::Show(ship.id));
    }
    // Of several on one card each is looked at, and so is one that stands nowhere.
    writes(&w, ANN, &several, "note twice").await;
    let row = w.thread(&several).await.pending_approvals().next().unwrap().id;
    assert_eq!(ask(&w, from(BOB), &format!("approve {row}")).await, Outcome::Show(row));
    let nowhere = world().await;
    writes(&nowhere, ANN, "slack:T1:C1:1.1", "note").await;
    let unseen = nowhere.pending("slack:T1:C1:1.1").await.id;
    assert_eq!(ask(&nowhere, from(BOB), &format!("approve {unseen}")).await, Outcome::Show(unseen));
    // Nothing was decided by asking.
    assert_eq!(w.pending(&two).await, ship);
    assert_eq!(w.outside.ledger(), Vec::<String>::new());
}

#[tokio::test]
async fn who_may_not_decide_is_told_so_and_is_shown_nothing() {
    let w = world().await;
    writes(&w, ANN, "slack:T1:C1:1.1", "ship v1").await;
    let id = w.pending("slack:T1:C1:1.1").await.id;
    assert_eq!(
        told(&w, from(EVE), &format!("approve {id}")).await,
        format!(
            "You can't decide this one.\n- It waits for somebody else (1 needed, not the one who asked). | > {BOB}"
        )
    );
    let begun: String = id.to_string().chars().take(12).collect();
    assert!(told(&w, from(EVE), &format!("deny {begun}")).await.starts_with("I don't know this request any more"));
    assert_eq!(
        told(&w, from(BOB), "approve apr").await,
        "“apr” is too short to name a request: type at least 4 signs of its id."
    );
    assert!(told(&w, from(BOB), "approve").await.starts_with("Which request? Write `/agent approve <id>`."));
    let long = "x".repeat(2_001);
    assert_eq!(
        told(&w, from(BOB), &format!("approve {id} {long}")).await,
        "The note has 2001 characters; at most 2000 are kept with a decision. Shorten it."
    );
}

#[tokio::test]
async fn what_was_decided_before_is_answered_with_who_decided() {
    let w = world().await;
    writes(&w, ANN, "slack:T1:C1:1.1", "ship v1").await;
    let id = w.pending("slack:T1:C1:1.1").await.id;
    w.vote("slack:T1:C1:1.1", Principal::human(BOB), approve()).await;
    assert_eq!(
        told(&w, from(BOB), &format!("approve {id}")).await,
        "Already approved by T1:UBOB (2026-01-01T00:00:00Z). It succeeded."
    );
    writes(&w, ANN, "slack:T1:C1:2.1", "ship v2").await;
    let late = w.pending("slack:T1:C1:2.1").await.id;
    w.advance(7_200_001).await;
    assert!(told(&w, from(BOB), &format!("deny {late}")).await.starts_with("This expired at 2026-01-01T02:00:00Z"));
}

#[tokio::test]
async fn status_says_how_a_run_stands_whom_it_waits_for_and_since_when() {
    let w = world().await;
    assert!(told(&w, from(ANN), "status").await.starts_with("You have no runs yet.\nTry: `/agent run "));
    let run = writes(&w, ANN, "slack:T1:C1:1.1", "ship v1").await;
    w.clock.advance_ms(200_000);
    let id = w.pending("slack:T1:C1:1.1").await.id;
    let tokens = w.thread("slack:T1:C1:1.1").await.tokens;
    assert_eq!(
        told(&w, from(ANN), "status").await,
        format!(
            "Your runs, last change first\n- ship v1 | waits for an approval · tester · changed 3m 20s ago · run {run} | \
             https://agent.example/chat/{run}\n`/agent status <run>` says more about one."
        )
    );
    let whole = format!(
        "Run {run}: ship v1\n- It waits for an approval. | tester · step 1 of 20 · {tokens} tokens · started 3m 20s ago · \
         changed 3m 20s ago | {ANN} > | https://agent.example/chat/{run}\n- Waits for an approval: ship v1 | for 3m \
         20s · expires in 1h 56m · `{id}` | > {BOB} | https://agent.example/inbox/{id}\n`/agent stop {run}` stops it. \
         `/agent history {run}` says what happened."
    );
    let begun = &run.as_str()[..6];
    let inside = From { here: Some("slack:T1:C1:1.1"), ..from(EVE) };
    for (who, text) in [
        (from(ANN), format!("status {begun}")),
        (from(ANN), format!("status {}", run.as_str().to_uppercase())),
        (from(ANN), format!("status {id}")),
        // An approver of what it waits for, and whoever asks from within the conversation.
        (from(BOB), format!("status {run}")),
        (inside, "status".to_owned()),
    ] {
        assert_eq!(told(&w, who, &text).await, whole, "{text}");
    }
    assert!(told(&w, from(EVE), &format!("status {run}")).await.starts_with("I don't know a run"));
    assert!(told(&w, from(ANN), "status abc").await.starts_with("“abc” is too short to name a run"));
}

#[tokio::test]
async fn status_says_what_is_asked_paused_and_asleep() {
    let w = world().await;
    let asked = writes(&w, ANN, "slack:T1:C1:1.1", "ask me").await;
    w.clock.advance_ms(5_000);
    let question = *w.thread("slack:T1:C1:1.1").await.questions.first_key_value().unwrap().0;
    let status = told(&w, from(ANN), &format!("status {asked}")).await;
    let row = format!(
        "- Waits for an answer: Which one? (scripted question) | for 5s · 1) left  2) right · `/agent answer {question} <text>`"
    );
    assert!(status.contains(&row), "{status}");
    w.give("slack:T1:C1:1.1", Input::Pause { by: Principal::human(ANN), why: "lunch".into() }).await;
    w.clock.advance_ms(9_000);
    let status = told(&w, from(ANN), &format!("status {asked}")).await;
    assert!(status.contains(&format!("- Paused: lunch | for 9s · `/agent resume {asked}`")), "{status}");
    let asleep = writes(&w, ANN, "slack:T1:C1:2.1", "nap 60").await;
    let status = told(&w, from(ANN), &format!("status {asleep}")).await;
    assert!(
        status.contains("- It waits for its time.") && status.contains("- Waits until 2026-01-01T00:01:14Z: nap"),
        "{status}"
    );
}

#[tokio::test]
async fn stop_means_the_thread_it_was_said_in_else_the_only_run_at_work_else_it_asks_which() {
    let w = world().await;
    assert!(told(&w, from(ANN), "stop").await.starts_with("None of your runs is at work."));
    let first = writes(&w, ANN, "slack:T1:C1:1.1", "ship v1").await;
    writes(&w, ANN, "slack:T1:C1:9.1", "look").await; // done at once
    assert_eq!(stopped(&ask(&w, from(ANN), "stop").await), Some(first));
    let second = writes(&w, ANN, "slack:T1:C1:2.1", "ship v2").await;
    let which = told(&w, from(ANN), "stop").await;
    assert!(which.starts_with("Which one? Write `/agent stop <run>`"), "{which}");
    assert!(which.contains(&format!("run {first}")) && which.contains(&format!("run {second}")), "{which}");
    let within = |by| From { here: Some("slack:T1:C1:2.1"), ..from(by) };
    assert_eq!(stopped(&ask(&w, within(ANN), "stop").await), Some(second));
    // Whoever is in the conversation can stop it there; a stranger can't by its id, nor who only decides.
    assert_eq!(stopped(&ask(&w, within(EVE), "stop").await), Some(second));
    assert!(told(&w, from(EVE), &format!("stop {second}")).await.starts_with("I don't know a run"));
    assert!(told(&w, from(BOB), &format!("stop {second}")).await.starts_with("You are asked to decide something"));
    let operator = From { operator: true, ..from(EVE) };
    assert_eq!(stopped(&ask(&w, operator, &format!("stop {second}")).await), Some(second));
    assert_eq!(
        told(&w, from(ANN), &format!("resume {second}")).await,
        "There is nothing to resume: only what is paused goes on by it. It waits for an approval."
    );
    w.give("slack:T1:C1:2.1", Input::Pause { by: Principal::human(ANN), why: String::new() }).await;
    let resumed = ask(&w, from(ANN), "resume").await;
    let target = Target::Thread { thread: second };
    assert_eq!(resumed, Outcome::Act(Act::Steer { what: Steer::Resume, target }));
}

#[tokio::test]
async fn an_answer_goes_to_the_question_that_is_open() {
    let w = world().await;
    writes(&w, ANN, "slack:T1:C1:1.1", "ask me").await;
    let question = *w.thread("slack:T1:C1:1.1").await.questions.first_key_value().unwrap().0;
    let left = Outcome::Act(Act::Answer { question, text: "left".into() });
    assert_eq!(ask(&w, from(ANN), "answer left").await, left);
    assert_eq!(ask(&w, from(ANN), &format!("answer {question} left")).await, left);
    assert_eq!(ask(&w, from(ANN), &format!("answer {} left", &question.to_string()[..9])).await, left);
    let inside = From { here: Some("slack:T1:C1:1.1"), ..from(EVE) };
    assert_eq!(ask(&w, inside, "answer left").await, left);
    assert!(told(&w, from(EVE), &format!("answer {question} left")).await.starts_with("I don't know a run"));
    assert!(told(&w, from(ANN), "answer").await.starts_with("The answer is empty."));
    writes(&w, ANN, "slack:T1:C1:2.1", "ask me").await;
    let which = told(&w, from(ANN), "answer left").await;
    assert!(which.starts_with("More than one question is open.") && which.contains(&question.to_string()), "{which}");
}

#[tokio::test]
async fn history_is_for_those_who_take_part() {
    let w = world().await;
    let run = writes(&w, ANN, "slack:T1:C1:1.1", "look").await;
    let n = w.log("slack:T1:C1:1.1").await.len();
    let history = told(&w, from(ANN), "history").await;
    assert!(history.starts_with(&format!("Run {run}: the last {n} events\n- started by T1:UANN")), "{history}");
    assert!(history.contains("- T1:UANN wrote: look | event 2 · just now"), "{history}");
    let run = writes(&w, ANN, "slack:T1:C1:2.1", "ship v1").await;
    assert!(told(&w, from(BOB), &format!("history {run}")).await.starts_with("You are asked to decide something"));
    assert!(told(&w, from(EVE), &format!("history {run}")).await.starts_with("I don't know a run"));
    assert!(told(&w, from(EVE), "history").await.starts_with("You have no runs yet."));
}

#[tokio::test]
async fn run_takes_the_name_of_an_agent_off_the_task() {
    let w = world().await;
    let start = |agent: Option<&str>, task: &str| Outcome::Start { agent: agent.map(str::to_owned), task: task.into() };
    assert_eq!(ask(&w, from(ANN), "run tester ship v1").await, start(Some("tester"), "ship v1"));
    assert_eq!(ask(&w, from(ANN), "run Tester: ship v1\nand v2").await, start(Some("tester"), "ship v1\nand v2"));
    assert_eq!(ask(&w, from(ANN), "run ship the tester").await, start(None, "ship the tester"));
    assert_eq!(ask(&w, from(ANN), "run").await, Outcome::Pick { agent: None });
    assert_eq!(ask(&w, from(ANN), "run tester").await, Outcome::Pick { agent: Some("tester".into()) });
}

#[tokio::test]
async fn what_there_is_and_who_decides_is_said_in_words() {
    let w = world().await;
    assert_eq!(
        told(&w, from(ANN), "agents").await,
        "1 agent\n- tester: Ships things. | tools: look, note, ship, nap\n`/agent run <agent> <task>` starts one."
    );
    let tools = told(&w, from(ANN), "tools").await;
    assert!(tools.contains("- ship: ship for tests | high risk · asks first (tester)"), "{tools}");
    assert!(tools.contains("- look: look for tests | low risk · runs by itself (tester)"), "{tools}");
    assert!(tools.contains("- fetch: fetch for tests | low risk · no agent has it"), "{tools}");
    assert_eq!(
        told(&w, from(ANN), "rules").await,
        format!(
            "What asks first, and who decides. Of several rules the strictest holds.\n\
             - `note` of the agent tester asks first | 1 person decides, not the one who asked · within 2h · rule \
             agent:tester:note | > {BOB} {EVE}\n\
             - `ship` of the agent tester asks first | 1 person decides, not the one who asked · within 2h · rule \
             agent:tester:ship | > {BOB}\n\
             - Any other call with side effects asks first | 1 person decides, not the one who asked · within 2h | > {BOB}\n\
             - Any other call that only reads runs by itself\n\
             - Once a run has read text from outside, its calls with side effects ask first whatever the rules say | \
             without exception\n\
             Nobody has been given a standing permission: every call that asks is decided for itself. Operators change \
             the rules in the configuration."
        )
    );
}

#[tokio::test]
async fn help_lists_every_word_and_doctor_is_for_operators() {
    let w = world().await;
    let help = told(&w, from(ANN), "help").await;
    assert!(help.starts_with("Mention me with a task, or write `/agent` and a word. I ask before I act."), "{help}");
    for word in [
        "run", "status", "pending", "approve", "deny", "answer", "stop", "pause", "resume", "history", "rules",
        "agents", "tools",
    ] {
        assert!(help.contains(word), "{word} in {help}");
    }
    assert!(!help.contains("doctor"));
    let operator = From { operator: true, ..from(ANN) };
    assert!(told(&w, operator, "help").await.contains("doctor"));
    assert_eq!(ask(&w, operator, "doctor").await, Outcome::Doctor);
    assert!(told(&w, from(ANN), "doctor").await.starts_with("Only operators can run `doctor`."));
    assert_eq!(
        told(&w, from(ANN), "stauts").await,
        "I don't know the word “stauts”. Did you mean `/agent status`?\nTo give me a task: `/agent run <task>`. All \
         words: `/agent help`."
    );
    assert_eq!(parse("help"), Command::Help);
}
