//! What people see of a run while it goes on: reaction, status line, session; and the prompts of the agent view.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use twelve::agent::{Answer, Input, Principal, ThreadId};
use twelve::chat::slack::Front;
use twelve::chat::slack::progress::{follow, suggest};
use twelve::runtime::{Clock, Delivered, Said};

use crate::fakes::slack::{FakeSlack, Handle};
use crate::slack_socket::{program, settings};
use crate::world::{START, Setup, World, approve, bob};

struct Stage {
    fake: FakeSlack,
    world: World,
    front: Front,
    stop: CancellationToken,
    following: JoinHandle<()>,
}

impl Stage {
    async fn new() -> Self {
        let fake = FakeSlack::start(&Clock::manual(START)).await;
        let (world, front, slack) = program(settings(&fake.api_url(), Some("T1")), Setup::default()).await;
        assert!(slack.connect().await);
        let stop = CancellationToken::new();
        let following = tokio::spawn(follow(front.clone(), stop.clone()));
        // It watches from its first step on.
        tokio::task::yield_now().await;
        Self { fake, world, front, stop, following }
    }

    /// Ann writes at the top of #ops; the message's timestamp.
    async fn say(&self, text: &str) -> String {
        let ts = self.fake.person("T1", "U1").write("C1", None, text, &[]);
        self.deliver(&ts, &ts, text).await;
        ts
    }

    async fn deliver(&self, root: &str, ts: &str, text: &str) -> Delivered {
        let said = Said { source: Some(format!("slack:C1:{ts}")), ..Said::by(Principal::human("slack:T1:U1"), text) };
        self.world.runtime.message(&thread(root), "tester", said).await.unwrap()
    }

    async fn until_eyes(&self, ts: &str, there: bool) {
        let eyes = ("eyes".to_owned(), "UBOTT1".to_owned());
        let what = format!("eyes on {ts}: {there}");
        self.fake
            .until(&what, |s| {
                let message = s.teams["T1"].messages.iter().find(|m| m.ts == ts).unwrap();
                (message.reactions.contains(&eyes) == there).then_some(())
            })
            .await;
    }

    /// Waits until the session of a thread was last set to this.
    async fn until_session(&self, root: &str, status: &str) {
        self.fake
            .until(&format!("session {status}"), |s| (last(&s.teams["T1"].sessions, root) == status).then_some(()))
            .await;
    }

    async fn until_line(&self, root: &str, words: &str) {
        self.fake
            .until(&format!("line {words}"), |s| (last(&s.teams["T1"].statuses, root) == words).then_some(()))
            .await;
    }

    async fn finish(self) {
        self.stop.cancel();
        self.following.await.unwrap();
        self.fake.finish();
    }
}

fn thread(root: &str) -> ThreadId {
    format!("slack:T1:C1:{root}").parse().unwrap()
}

fn last<'a>(all: &'a [(String, String, String)], root: &str) -> &'a str {
    all.iter().rev().find(|(_, thread, _)| thread == root).map_or("", |(.., status)| status)
}

fn called(fake: &Handle, method: &str) -> usize {
    fake.calls(method).len()
}

#[tokio::test]
async fn s22_a_run_is_shown_while_it_works_waits_and_ends() {
    let stage = Stage::new().await;
    stage.world.outside.gate.shut();
    let root = stage.say("ship v2").await;
    // It waits for a person.
    stage.until_session(&root, "suspended").await;
    stage.until_eyes(&root, true).await;
    let id = thread(&root).to_string();
    let request = stage.world.pending(&id).await;
    let vote = Input::Vote {
        approval: request.id,
        digest: request.digest.prefix(),
        by: Principal::human("slack:T1:U2"),
        groups: vec![],
        vote: approve(),
        source: None,
    };
    assert_eq!(stage.world.runtime.deliver(thread(&root).short(), vote).await.unwrap().answer, Answer::Accepted);
    // It works again, and people see on what.
    stage.until_session(&root, "processing").await;
    stage.until_line(&root, "is at work: ship v2").await;
    stage.world.outside.gate.open();
    // It is done.
    stage.until_session(&root, "active").await;
    stage.until_eyes(&root, false).await;
    stage.until_line(&root, "").await;
    // A second message begins anew, on its own message.
    let ts = stage.fake.person("T1", "U1").write("C1", Some(&root), "ask me", &[]);
    stage.deliver(&root, &ts, "ask me").await;
    stage.until_eyes(&ts, true).await;
    stage.until_session(&root, "suspended").await;
    stage.until_eyes(&root, false).await;
    stage.world.give(&id, Input::Cancel { by: bob(), why: String::new() }).await;
    stage.until_session(&root, "closed").await;
    stage.until_eyes(&ts, false).await;
    stage.finish().await;
}

#[tokio::test]
async fn s22_what_a_workspace_refuses_is_asked_once() {
    let stage = Stage::new().await;
    stage.fake.forget_method("agents.sessions.setStatus");
    stage.fake.revoke("T1", "reactions:write");
    stage.world.outside.gate.shut();
    let mut roots = Vec::new();
    for version in ["v2", "v3", "v4"] {
        let root = stage.say(&format!("ship {version}")).await;
        stage
            .fake
            .until("the refusals", |s| {
                (s.calls.iter().filter(|c| c.method == "agents.sessions.setStatus").count() == 1).then_some(())
            })
            .await;
        stage.world.runtime.settle().await.unwrap();
        roots.push((root, version));
    }
    // The status line, which comes last, is still shown: whatever was to be asked before it has been.
    for (root, version) in &roots {
        let id = thread(root).to_string();
        let request = stage.world.pending(&id).await;
        let vote = Input::Vote {
            approval: request.id,
            digest: request.digest.prefix(),
            by: Principal::human("slack:T1:U2"),
            groups: vec![],
            vote: approve(),
            source: None,
        };
        stage.world.runtime.deliver(thread(root).short(), vote).await.unwrap();
        stage.until_line(root, &format!("is at work: ship {version}")).await;
    }
    stage.world.outside.gate.open();
    for (root, _) in &roots {
        stage.until_line(root, "").await;
    }
    assert_eq!(called(&stage.fake, "agents.sessions.setStatus"), 1);
    assert_eq!(called(&stage.fake, "reactions.add"), 1);
    assert_eq!(called(&stage.fake, "reactions.remove"), 0);
    // Another workspace is asked for itself.
    stage.finish().await;
}

#[tokio::test]
async fn progress_of_a_thread_that_was_at_work_before_a_restart_is_taken_back() {
    let mut stage = Stage::new().await;
    let root = stage.say("ship v2").await;
    stage.until_session(&root, "suspended").await;
    stage.until_eyes(&root, true).await;
    stage.stop.cancel();
    (&mut stage.following).await.unwrap();
    // The next process has never seen this thread.
    stage.stop = CancellationToken::new();
    stage.following = tokio::spawn(follow(stage.front.clone(), stage.stop.clone()));
    tokio::task::yield_now().await;
    stage.world.give(&thread(&root).to_string(), Input::Stop { by: bob(), why: String::new() }).await;
    stage.until_session(&root, "active").await;
    stage.until_eyes(&root, false).await;
    stage.finish().await;
}

#[tokio::test]
async fn threads_of_other_surfaces_are_nobodys_progress() {
    let stage = Stage::new().await;
    stage.world.say("api:1", "ship v1").await;
    let root = stage.say("look").await;
    stage.until_session(&root, "active").await;
    let threads = stage.fake.team("T1", |t| t.sessions.iter().all(|(_, thread, _)| *thread == root));
    assert!(threads);
    stage.finish().await;
}

#[tokio::test]
async fn the_agent_view_suggests_what_the_agents_are_for() {
    let stage = Stage::new().await;
    let (channel, ts) = ("C1", stage.fake.person("T1", "U1").write("C1", None, "hello", &[]));
    suggest(&stage.front, "T1", channel, Some(&ts)).await;
    let prompts = stage.fake.team("T1", |t| t.prompts.clone());
    let expected = serde_json::json!([{"title": "Tests.", "message": "What can you do for me?"}]);
    assert_eq!(prompts, [(channel.to_owned(), ts.clone(), expected)]);
    stage.fake.revoke("T1", "assistant:write");
    for _ in 0..3 {
        suggest(&stage.front, "T1", channel, Some(&ts)).await;
    }
    assert_eq!(called(&stage.fake, "assistant.threads.setSuggestedPrompts"), 2, "refused once, not asked again");
    stage.finish().await;
}
