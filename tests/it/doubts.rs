//! A value that only looks like a secret, through the real runtime and store, with crashes in between.

use twelve::agent::*;

use crate::world::{Setup, World, ann, approve, bob};

/// Twenty characters that look like a key of a cloud, made up here.
fn key() -> String {
    format!("{}{}", "AK", "IAJ4K5L6M7N2P3Q4R5")
}

fn script() -> String {
    let call = format!("[[reply.call]]\ntool = \"ship\"\nargs = {{ version = \"{}\" }}\n", key());
    format!(
        "[[reply]]\nlast = 'Make the call of ship again'\n{call}\
         [[reply]]\nlast = '<tool_result .*outcome=\"(?P<how>[a-z_]+)\"'\nsay = \"ship $how\"\n\
         [[reply]]\nhuman = '^go'\n{call}"
    )
}

async fn stored(w: &World) -> String {
    let events = w.log("api:t").await;
    events.iter().map(|event| String::from_utf8(event.encode()).unwrap()).collect()
}

#[tokio::test]
async fn what_people_call_no_secret_passes_after_a_crash_and_its_card_shows_it() {
    let mut w = World::with(Setup { script: script(), ..Setup::default() }).await;
    w.say("api:t", "go").await;
    w.crash().await;
    let thread = w.thread("api:t").await;
    assert_eq!(thread.status(), Status::WaitingAnswer);
    let (question, asked) = thread.questions.first_key_value().unwrap();
    assert!(asked.text.contains("`version` (aws key) looks like a secret"), "{}", asked.text);
    assert!(!stored(&w).await.contains(&key()), "it is kept nowhere");
    let answer =
        |by, text: &str| Input::Answer { question: *question, by, groups: Vec::new(), text: text.into(), source: None };
    // Who asked for it may not, here as with the approval.
    assert!(matches!(w.give("api:t", answer(ann(), "Not a secret")).await, Answer::Refused(Refusal::Requester { .. })));
    assert_eq!(w.give("api:t", answer(bob(), "Not a secret")).await, Answer::Accepted);
    w.crash().await;
    let waits = w.pending("api:t").await;
    assert_eq!(waits.args["version"], key().as_str());
    assert_eq!(w.vote("api:t", bob(), approve()).await, Answer::Accepted);
    assert_eq!(w.answer("api:t").await, "ship succeeded");
    assert_eq!(w.outside.current(), key());
}

#[tokio::test]
async fn a_message_says_that_something_was_taken_out_of_it() {
    let w = World::with(Setup { script: script(), ..Setup::default() }).await;
    w.say("api:t", &format!("use {} for it", key())).await;
    let events = w.log("api:t").await;
    let masked = events.iter().find_map(|event| match &event.body {
        Body::MessageReceived { text, masked, .. } => Some((text.clone(), *masked)),
        _ => None,
    });
    assert_eq!(masked, Some(("use [secret removed: aws key] for it".to_owned(), 1)));
    let told = format!("{:?}", w.thread("api:t").await.window);
    assert!(told.contains("it was taken out before you could read it"), "{told}");
    // What is quoted from here was taken out before.
    w.say("api:t", "it says [secret removed: aws key]").await;
    let again =
        w.log("api:t").await.into_iter().filter(|e| matches!(e.body, Body::MessageReceived { masked: 1.., .. }));
    assert_eq!(again.count(), 1);
}
