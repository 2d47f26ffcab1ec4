//! The same conversation over both vendors' wires, and what their failures come to in a whole run.

use std::sync::Arc;

use serde_json::json;
use twelve::agent::*;

use crate::fakes::model::{Answer as Reply, FakeModel, Vendor};
use crate::world::*;

async fn world(fake: &FakeModel, vendor: Vendor) -> World {
    let config = fake.config();
    World::with(Setup { provider: Some(Arc::new(move || vendor.provider(&config))), ..Setup::default() }).await
}

#[tokio::test]
async fn the_same_conversation_runs_against_both_vendors_tool_calls_included() {
    let mut traces = Vec::new();
    for vendor in Vendor::BOTH {
        let fake = FakeModel::start(
            vendor,
            [
                Reply::call("look", json!({})),
                Reply::call("ship", json!({"version": "v1"})),
                Reply::say("v1 is out."),
                Reply::call("ask_human", json!({"question": "Again?", "kind": "yes_no"})),
                Reply::say("Good."),
            ],
        )
        .await;
        let w = world(&fake, vendor).await;
        w.say("api:t", "bring out v1").await;
        w.vote("api:t", bob(), approve()).await;
        assert_eq!((w.answer("api:t").await.as_str(), w.outside.ledger()), ("v1 is out.", vec!["v1".to_owned()]));
        w.say("api:t", "thanks").await;
        let thread = w.thread("api:t").await;
        let question = *thread.questions.first_key_value().unwrap().0;
        w.give("api:t", Input::Answer { question, by: ann(), groups: Vec::new(), text: "no".into(), source: None })
            .await;
        assert_eq!(w.answer("api:t").await, "Good.");
        // The second request shows the first result, in our format, to either vendor.
        let second = String::from_utf8(fake.received()[1].body.clone()).unwrap();
        assert!(second.contains("tool_result") && second.contains("all is well"), "{second}");
        assert!(w.thread("api:t").await.tokens > 0);
        traces.push((w.names("api:t").await, w.thread("api:t").await.window.render()));
    }
    assert_eq!(traces[0], traces[1]);
}

#[tokio::test]
async fn a_call_with_duplicate_keys_or_wrong_arguments_never_reaches_the_gate() {
    for vendor in Vendor::BOTH {
        let raw = |arguments: &str| Reply::Call { text: String::new(), calls: vec![("ship".into(), arguments.into())] };
        let fake = FakeModel::start(
            vendor,
            [raw(r#"{"version":"v1","version":"v2"}"#), raw(r#"{"version":7}"#), Reply::say("I give up.")],
        )
        .await;
        let w = world(&fake, vendor).await;
        w.say("api:t", "bring out v1").await;
        assert_eq!(w.answer("api:t").await, "I give up.");
        let shown = w.thread("api:t").await.window.render();
        assert!(shown.contains("the key `version` occurs twice"), "{shown}");
        assert_eq!(w.names("api:t").await.iter().filter(|n| **n == "approval_requested").count(), 0);
    }
}

#[tokio::test]
async fn a_tool_that_the_agent_does_not_have_is_an_error_for_the_model_with_those_that_it_has() {
    for vendor in Vendor::BOTH {
        let fake = FakeModel::start(vendor, [Reply::call("shipp", json!({})), Reply::say("Sorry.")]).await;
        let w = world(&fake, vendor).await;
        w.say("api:t", "bring out v1").await;
        let shown = w.thread("api:t").await.window.render();
        let words =
            "this agent has no such tool: `shipp`; did you mean `ship`? (it has: look, note, ship, nap, ask_human)";
        assert!(shown.contains(words), "{shown}");
    }
}

/// Of a tool that exists and is not this agent's, nothing is told: neither its arguments nor its neighbours.
#[tokio::test]
async fn a_call_of_another_agents_tool_is_refused_before_its_arguments_are_looked_at() {
    for vendor in Vendor::BOTH {
        let raw =
            Reply::Call { text: String::new(), calls: vec![("fetch".into(), r#"{"nonsense":1,"nonsense":2}"#.into())] };
        let fake = FakeModel::start(vendor, [raw, Reply::say("Sorry.")]).await;
        let w = world(&fake, vendor).await;
        assert!(w.runtime.parts().tools.facts("fetch").is_some(), "the tool is there, and not this agent's");
        w.say("api:t", "bring out v1").await;
        let shown = w.thread("api:t").await.window.render();
        let said = shown.split("outcome=\"failed\">\n").nth(1).unwrap().lines().next().unwrap();
        assert_eq!(said, "this agent has no such tool: `fetch` (it has: look, note, ship, nap, ask_human)");
    }
}

#[tokio::test]
async fn three_errors_in_a_row_end_at_a_person() {
    for vendor in Vendor::BOTH {
        let wrong = || Reply::call("ship", json!({"version": 7}));
        let fake = FakeModel::start(vendor, [wrong(), wrong(), wrong(), Reply::say("Better now.")]).await;
        let w = world(&fake, vendor).await;
        w.say("api:t", "bring out v1").await;
        let thread = w.thread("api:t").await;
        let (question, asked) = thread.questions.first_key_value().unwrap();
        assert_eq!(asked.text, "ship failed 3 times in a row. Should I go on?");
        w.give(
            "api:t",
            Input::Answer { question: *question, by: ann(), groups: Vec::new(), text: "go on".into(), source: None },
        )
        .await;
        assert_eq!(w.answer("api:t").await, "Better now.");
    }
}

#[tokio::test]
async fn a_provider_in_trouble_is_retried_when_it_wants_and_the_request_is_kept() {
    for vendor in Vendor::BOTH {
        let busy = Reply::Status { status: 429, headers: vec![("retry-after", "20".into())], body: "{}".into() };
        let cut = Reply::CutInArguments { tool: "ship".into() };
        let fake = FakeModel::start(vendor, [busy, cut, Reply::say("Here I am.")]).await;
        let w = world(&fake, vendor).await;
        w.say("api:t", "hello").await;
        w.advance(19_999).await;
        assert_eq!(fake.received().len(), 1, "not before it wants to");
        w.advance(1).await;
        assert_eq!(fake.received().len(), 2);
        w.advance(4_000).await;
        assert_eq!(w.answer("api:t").await, "Here I am.");
        assert_eq!(w.outside.ledger(), Vec::<String>::new(), "a cut-off call never runs");
    }
}
