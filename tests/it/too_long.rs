//! A request that is too long for the model, over both vendors' wires and in a whole run.

use std::sync::Arc;

use serde_json::json;
use twelve::agent::*;

use crate::fakes::model::{Answer as Reply, FakeModel, Vendor};
use crate::world::*;

fn too_long(vendor: Vendor) -> Reply {
    let error = match vendor {
        Vendor::OpenAi => {
            json!({"message": "This model's maximum context length is 8192 tokens.", "type": "invalid_request_error", "code": "context_length_exceeded"})
        }
        Vendor::Anthropic => {
            json!({"type": "invalid_request_error", "message": "prompt is too long: 12000 tokens > 8192 maximum"})
        }
    };
    Reply::Status { status: 400, headers: Vec::new(), body: json!({ "error": error }).to_string() }
}

async fn world(fake: &FakeModel, vendor: Vendor) -> World {
    let config = fake.config();
    World::with(Setup { provider: Some(Arc::new(move || vendor.provider(&config))), ..Setup::default() }).await
}

/// What the model was sent as its window.
fn windows(fake: &FakeModel) -> Vec<String> {
    let last = |body: serde_json::Value| body["messages"].as_array().unwrap().last().unwrap()["content"].clone();
    fake.received().iter().map(|r| last(r.json()).as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_message_that_is_longer_than_the_models_context_is_cut_with_a_note_and_answered() {
    for vendor in Vendor::BOTH {
        let fake = FakeModel::start(vendor, [too_long(vendor), Reply::say("fine now")]).await;
        let w = world(&fake, vendor).await;
        w.say("api:t", &format!("START {}END", "word ".repeat(9_000))).await;
        assert_eq!(w.answer("api:t").await, "fine now");
        let windows = windows(&fake);
        assert!(windows[0].len() > 45_000 && windows[1].len() < 20_000, "{} {}", windows[0].len(), windows[1].len());
        assert!(windows[1].starts_with("<human from=\"ann\">\nSTART word word"), "{}", &windows[1][..200]);
        assert!(windows[1].contains(" of 45009 bytes are left out here, those from "), "{}", windows[1]);
        assert!(windows[1].ends_with("word END\n</human>"));
        let names = w.names("api:t").await;
        assert_eq!(
            names,
            ["thread_started", "message_received", "model_failed", "timer_fired", "compacted", "model_replied"]
        );
        // The log is whole, and its fold gives the same window again.
        let log = w.log("api:t").await;
        assert!(matches!(&log[1].body, Body::MessageReceived { text, .. } if text.len() == 45_009));
        let mut folded = Thread::vacant("api:t".parse().unwrap());
        folded.replay(&log.iter().map(Event::encode).collect::<Vec<_>>()).unwrap();
        assert_eq!(folded.window.render(), w.thread("api:t").await.window.render());
    }
}

#[tokio::test]
async fn what_stays_too_long_is_tried_once_with_less_and_then_a_person_is_asked_who_can_let_it_go_on() {
    for vendor in Vendor::BOTH {
        let fake = FakeModel::start(vendor, [too_long(vendor), too_long(vendor)]).await;
        let w = world(&fake, vendor).await;
        w.say("api:t", &"word ".repeat(9_000)).await;
        w.advance(3_600_000).await;
        assert_eq!(fake.received().len(), 2, "asked once more, and not again by itself");
        let thread = w.thread("api:t").await;
        let (question, asked) = thread.questions.first_key_value().unwrap();
        assert!(
            asked.text.starts_with("This conversation is too long for the model, also after I shortened"),
            "{asked:?}"
        );
        assert!(asked.text.contains("model.max_context_tokens"), "{asked:?}");
        // "go on" does not send the same again.
        fake.push(too_long(vendor));
        fake.push(Reply::say("fine now"));
        w.give(
            "api:t",
            Input::Answer { question: *question, by: ann(), groups: Vec::new(), text: "go on".into(), source: None },
        )
        .await;
        assert_eq!(w.answer("api:t").await, "fine now");
        let lengths: Vec<usize> = windows(&fake).iter().map(String::len).collect();
        assert!(lengths.windows(2).all(|w| w[1] < w[0]), "{lengths:?}");
        // What was learned holds for the rest of the conversation.
        fake.push(Reply::say("and now"));
        w.say("api:t", &"more ".repeat(9_000)).await;
        assert_eq!(w.answer("api:t").await, "and now");
        let last = windows(&fake).pop().unwrap();
        assert!(last.len() < 10_000 && last.contains("more more"), "{}", last.len());
    }
}

#[tokio::test]
async fn other_refusals_of_a_provider_are_not_tried_again() {
    let body = json!({"error": {"message": "bad", "code": "invalid_value"}}).to_string();
    let fake = FakeModel::start(Vendor::OpenAi, [Reply::Status { status: 400, headers: Vec::new(), body }]).await;
    let w = world(&fake, Vendor::OpenAi).await;
    w.say("api:t", &"word ".repeat(9_000)).await;
    assert_eq!(fake.received().len(), 1);
    let text = w.thread("api:t").await.questions.values().next().unwrap().text.clone();
    assert!(text.starts_with("The model did not answer ("), "{text}");
}

#[tokio::test]
async fn a_reply_that_ran_into_the_end_of_the_context_is_asked_for_again_with_less() {
    let body = r#"{"type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"half"}],"stop_reason":"model_context_window_exceeded","usage":{"input_tokens":20,"output_tokens":30}}"#;
    let fake = FakeModel::start(Vendor::Anthropic, [Reply::Body(body.to_owned()), Reply::say("whole")]).await;
    let w = world(&fake, Vendor::Anthropic).await;
    w.say("api:t", &"word ".repeat(9_000)).await;
    assert_eq!(w.answer("api:t").await, "whole");
    let lengths: Vec<usize> = windows(&fake).iter().map(String::len).collect();
    assert!(lengths[1] * 2 <= lengths[0] + 1_000, "{lengths:?}");
    assert!(w.thread("api:t").await.tokens > 50, "what the half reply cost counts");
}
