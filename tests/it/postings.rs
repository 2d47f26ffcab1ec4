//! What people see in a surface that is written to: cards that change, in order, and surfaces that fail.

use std::sync::{Arc, Mutex};

use twelve::agent::*;
use twelve::platform::console::Console;
use twelve::platform::{Outbound, Platforms};

use crate::world::*;

/// A world with a screen, and the lines that were drawn on it.
async fn world_with_screen() -> (World, Arc<Mutex<Vec<String>>>) {
    let (console, mut screen) = Console::new();
    let drawn: Arc<Mutex<Vec<String>>> = Arc::default();
    let lines = drawn.clone();
    tokio::spawn(async move {
        while let Some(shown) = screen.recv().await {
            let edit = if shown.post.replaces.is_some() { "edit " } else { "" };
            let line = match &shown.post.outbound {
                Outbound::Card(card) => format!("{}; {}", card.headline(), card.outcome().unwrap_or_default()),
                Outbound::Answer { text, .. } => format!("answer: {text}"),
                Outbound::Question { question, .. } => format!("question: {}", question.text),
                Outbound::QuestionClosed { .. } => "question closed".to_owned(),
                Outbound::Unknown { title, .. } => format!("unknown: {title}"),
                Outbound::Notice { text } => format!("notice: {text}"),
            };
            lines.lock().unwrap().push(format!("{edit}{line}"));
            let _ = shown.done.send(());
        }
    });
    let platforms = Platforms { console: Some(console), slack: None };
    (World::with(Setup { platforms, ..Setup::default() }).await, drawn)
}

fn taken(drawn: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *drawn.lock().unwrap())
}

#[tokio::test]
async fn one_card_tells_the_whole_story_of_an_approval_and_the_answer_comes_last() {
    let (w, drawn) = world_with_screen().await;
    w.say("console:t", "ship v1").await;
    assert_eq!(taken(&drawn), ["Approval needed: ship v1; "]);
    w.vote("console:t", bob(), approve()).await;
    let story = taken(&drawn);
    assert!(story.iter().rev().skip(1).all(|line| line.starts_with("edit Approved: ship v1")), "{story:?}");
    assert!(story.contains(&"edit Approved: ship v1; succeeded: shipped v1".to_owned()), "{story:?}");
    assert_eq!(story.last().unwrap(), "answer: ship succeeded (scripted answer)");
}

#[tokio::test]
async fn a_question_is_shown_and_closed_and_a_stop_is_told() {
    let (w, drawn) = world_with_screen().await;
    w.say("console:t", "ask me").await;
    assert_eq!(taken(&drawn), ["question: Which one? (scripted question)"]);
    let question = *w.thread("console:t").await.questions.first_key_value().unwrap().0;
    w.give("console:t", Input::Answer { question, by: ann(), groups: Vec::new(), text: "1".into(), source: None })
        .await;
    assert_eq!(taken(&drawn), ["edit question closed", "answer: thank you (scripted answer)"]);
    w.say("console:t", "ship v1").await;
    taken(&drawn);
    w.give("console:t", Input::Stop { by: ann(), why: "wrong version".into() }).await;
    let told = taken(&drawn);
    assert_eq!(
        told,
        ["edit Cancelled: ship v1; nothing will run", "notice: Stopped by ann; nothing more will run: wrong version"]
    );
}

#[tokio::test]
async fn a_model_in_trouble_is_told_with_when_it_is_tried_again() {
    let (w, drawn) = world_with_screen().await;
    w.say("console:t", "fail").await;
    let told = taken(&drawn);
    assert!(
        told[0].starts_with("notice: The model did not answer (") && told[0].ends_with("Your request is kept."),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_surface_that_is_gone_loses_nothing_and_the_approval_stays_decidable() {
    let mut w = {
        let (w, _) = world_with_screen().await;
        w.say("console:t", "ship v1").await;
        w
    };
    // The terminal is gone; the next process has none.
    w.disconnect();
    w.crash().await;
    w.vote("console:t", bob(), approve()).await;
    assert_eq!(w.outside.ledger(), ["v1"]);
    let failed = w.log("console:t").await.iter().filter(|e| e.body.name() == "delivery_failed").count();
    assert!(failed > 0, "what could not be shown is said in the log");
    assert_eq!(w.thread("console:t").await.status(), Status::Done);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_back_is_tried_again_later_and_not_at_once() {
    let (w, drawn) = world_with_screen().await;
    w.say("console:t", "hi").await;
    assert_eq!(taken(&drawn), ["answer: hello (scripted answer)"]);
    // From now on each append leaves a row that no load accepts; the fold in memory is sound.
    let file = rusqlite::Connection::open(w.dir.path().join("twelve.db")).unwrap();
    file.execute_batch("CREATE TRIGGER damage AFTER INSERT ON events BEGIN UPDATE threads SET summary = '?'; END")
        .unwrap();
    w.send("console:t", "hi").await.unwrap();
    let settled = tokio::time::timeout(std::time::Duration::from_secs(20), w.runtime.settle()).await;
    settled.expect("the runtime rests until the next attempt").unwrap();
    let waiting = |thread: &Thread| thread.posts.values().filter(|p| p.retry_at.is_some()).count();
    assert_eq!((taken(&drawn), waiting(&w.thread("console:t").await)), (vec![], 1));
    file.execute_batch("DROP TRIGGER damage").unwrap();
    w.advance(2_000).await;
    assert_eq!(taken(&drawn), ["answer: hello (scripted answer)"]);
}

#[tokio::test]
async fn whether_something_may_stand_already_is_known_for_each_attempt() {
    let (console, mut screen) = Console::new();
    let platforms = Platforms { console: Some(console), slack: None };
    let mut w = World::with(Setup { platforms, ..Setup::default() }).await;
    w.send("console:t", "ship v1").await.unwrap();
    // The first attempt of the process that asked for it: nothing of it can stand anywhere.
    let first = screen.recv().await.unwrap();
    assert_eq!((first.post.again, first.post.replaces.clone()), (false, None));
    // The process dies while it is being drawn, and nobody has noted whether it was.
    w.crash().await;
    drop(first);
    let settled = tokio::spawn({
        let runtime = w.runtime.clone();
        async move { runtime.settle().await.unwrap() }
    });
    let second = screen.recv().await.unwrap();
    assert!(second.post.again && matches!(second.post.posting, Posting::Card { .. }));
    // The attempt fails.
    drop(second.done);
    settled.await.unwrap();
    let request = w.pending("console:t").await;
    let vote = Input::Vote {
        approval: request.id,
        digest: request.digest.prefix(),
        by: bob(),
        groups: vec![],
        vote: approve(),
        source: None,
    };
    w.runtime.deliver(request.id.thread, vote).await.unwrap();
    let third = screen.recv().await.unwrap();
    assert!(third.post.again, "an attempt that failed may have come through");
    let _ = third.done.send(());
    // What is asked for from now on is new again.
    let mut later = Vec::new();
    while !later.iter().any(|(posting, _)| matches!(posting, Posting::Answer { .. })) {
        let shown = screen.recv().await.unwrap();
        later.push((shown.post.posting.clone(), shown.post.again));
        let _ = shown.done.send(());
    }
    assert!(later.iter().all(|(_, again)| !again), "{later:?}");
}
