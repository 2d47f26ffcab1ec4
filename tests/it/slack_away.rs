//! A process without Slack over the store of one that has it (a command while the service is stopped): what belongs
//! to Slack is left alone there, and done by the next process that is connected.

use std::time::Duration;

use twelve::agent::*;

use crate::slack_world::{Mode, SlackWorld};
use crate::world::*;

fn slack_person(user: &str) -> Principal {
    Principal::human(format!("slack:T1:{user}"))
}

/// The process without Slack comes to rest, also when it looks again after the lease.
async fn rests(w: &SlackWorld) {
    for _ in 0..3 {
        let settled = tokio::time::timeout(Duration::from_secs(20), w.world.advance(31_000)).await;
        settled.expect("what waits for Slack keeps nobody busy");
    }
}

#[tokio::test]
async fn a_kept_press_waits_through_a_process_without_slack_and_is_carried_out_by_the_next_with_it() {
    let mut w = SlackWorld::new(Mode::Http).await;
    let (root, card) = w.asked("v1").await;
    let request = w.world.pending(&SlackWorld::thread(&root)).await;
    w.away().await;
    let log: ThreadId = "system:slack:T1:press".parse().unwrap();
    let choice = Choice::Approve { note: String::new() };
    let act = Act::Vote { approval: request.id, digest: request.digest.prefix(), choice };
    let intent = Intent { by: slack_person("U2"), act, reply: "slack:T1:C1:U2".into() };
    w.world.runtime.intent(&log, intent).await.unwrap();
    rests(&w).await;
    assert_eq!(w.world.thread(log.as_str()).await.version, 1, "nothing came of it, and nothing was used up");
    assert_eq!(w.world.outside.ledger(), Vec::<String>::new());

    w.crash().await;
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), ["v1"]);
    assert_eq!(w.slack.private("T1", "U2").await.words(), "You approved \"ship v1\".");
    assert!(w.card(&card).words().contains("*Approved* by <@U2>"), "{}", w.card(&card).words());
}

#[tokio::test]
async fn a_card_that_changes_and_an_answer_wait_through_a_process_without_slack() {
    let mut w = SlackWorld::new(Mode::Http).await;
    let (root, card) = w.asked("v1").await;
    let thread = SlackWorld::thread(&root);
    let request = w.world.pending(&thread).await;
    w.away().await;
    let (digest, by, groups) = (request.digest.prefix(), slack_person("U2"), vec!["slack:T1:S1".to_owned()]);
    let vote = Input::Vote { approval: request.id, digest, by, groups, vote: approve(), source: None };
    assert_eq!(w.world.give(&thread, vote).await, Answer::Accepted);
    rests(&w).await;
    assert_eq!(w.world.outside.ledger(), ["v1"], "what needs no Slack goes on");
    assert!(!w.world.names(&thread).await.contains(&"delivery_failed"), "no attempt is used up");
    assert_eq!(w.card(&card), card);

    w.crash().await;
    w.settle().await;
    assert!(w.card(&card).words().contains("shipped v1"), "{}", w.card(&card).words());
    assert_eq!(w.slack.thread("T1", "C1", &root).len(), 3, "{}", w.slack.describe());
    assert_eq!(w.world.outside.ledger(), ["v1"]);
}
