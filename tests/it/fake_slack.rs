//! The fake Slack itself: what it answers, delivers and minds.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;
use twelve::platform::slack::api::Api;
use twelve::runtime::Clock;

use crate::fakes::slack::{FakeSlack, Fault, limits};
use crate::world::START;

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn start() -> (FakeSlack, Api) {
    let fake = FakeSlack::start(&Clock::manual(START)).await;
    let api = Api::new(&fake.api_url()).unwrap();
    (fake, api)
}

async fn call(api: &Api, method: &str, body: Value) -> Result<Value, String> {
    api.call(&"xoxb-test-T1".to_owned().into(), method, &body).await.map_err(|error| error.code)
}

async fn read(api: &Api, method: &str, params: &[(&str, &str)]) -> Result<Value, String> {
    api.read(&"xoxb-test-T1".to_owned().into(), method, params).await.map_err(|error| error.code)
}

async fn open(fake: &FakeSlack, api: &Api) -> Socket {
    let answer = api.call(&"xapp-test-A1".to_owned().into(), "apps.connections.open", &json!({})).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::connect_async(answer["url"].as_str().unwrap()).await.unwrap();
    assert_eq!(next(&mut socket).await["type"], "hello");
    fake.until("the connection", |_| (!fake.sockets_of("A1").is_empty()).then_some(())).await;
    socket
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        let came = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.expect("a frame");
        if let tungstenite::Message::Text(text) = came.unwrap().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[tokio::test]
async fn it_posts_edits_reads_and_deletes_messages_of_the_bot() {
    let (fake, api) = start().await;
    let root = fake.person("T1", "U1").write("C1", None, "hello", &[]);
    let blocks = json!([{"type": "section", "block_id": "a:1", "text": {"type": "mrkdwn", "text": "one"}}]);
    let posted = call(
        &api,
        "chat.postMessage",
        json!({
            "channel": "C1", "thread_ts": root, "text": "one", "blocks": blocks,
            "metadata": {"event_type": "twelve_post", "event_payload": {"key": "k"}},
        }),
    )
    .await
    .unwrap();
    let ts = posted["ts"].as_str().unwrap();
    let thread =
        read(&api, "conversations.replies", &[("channel", "C1"), ("ts", &root), ("include_all_metadata", "true")])
            .await
            .unwrap();
    assert_eq!(thread["messages"][1]["metadata"]["event_payload"]["key"], "k");
    assert_eq!(thread["messages"][0]["reply_count"], 1);

    let blocks = json!([{"type": "section", "block_id": "a:2", "text": {"type": "mrkdwn", "text": "two"}}]);
    call(&api, "chat.update", json!({"channel": "C1", "ts": ts, "text": "two", "blocks": blocks})).await.unwrap();
    let message = fake.message("T1", "C1", ts);
    assert_eq!((message.words(), message.edits), ("two".to_owned(), 1));
    call(&api, "chat.delete", json!({"channel": "C1", "ts": ts})).await.unwrap();
    assert_eq!(fake.thread("T1", "C1", &root).len(), 1);
    fake.finish();
}

#[tokio::test]
async fn it_refuses_what_slack_refuses_and_the_test_fails_for_what_was_the_programs_mistake() {
    let (fake, api) = start().await;
    let post = |channel: &str, text: &str| {
        let body = json!({"channel": channel, "text": text});
        call(&api, "chat.postMessage", body)
    };
    // The world.
    assert_eq!(post("C2", "x").await, Err("not_in_channel".to_owned()));
    assert_eq!(post("C9", "x").await, Err("channel_not_found".to_owned()));
    fake.team("T1", |t| t.channels.get_mut("C1").unwrap().archived = true);
    assert_eq!(post("C1", "x").await, Err("is_archived".to_owned()));
    fake.revoke("T1", "usergroups:read");
    assert_eq!(read(&api, "usergroups.users.list", &[("usergroup", "S1")]).await, Err("missing_scope".to_owned()));
    fake.check();
    // The program.
    fake.team("T1", |t| t.channels.get_mut("C1").unwrap().archived = false);
    let long = json!([{"type": "header", "text": {"type": "plain_text", "text": "x".repeat(151)}}]);
    let wrong = call(&api, "chat.postMessage", json!({"channel": "C1", "text": "x", "blocks": long})).await;
    assert_eq!(wrong, Err("invalid_blocks".to_owned()));
    let wrong = call(&api, "chat.postMessage", json!({"channel": "C1", "text": "x", "unfurl_links": "no"})).await;
    assert_eq!(wrong, Err("invalid_arguments".to_owned()));
    let wrong = call(&api, "conversations.replies", json!({"channel": "C1", "ts": "1.2"})).await;
    assert_eq!(wrong, Err("invalid_arguments".to_owned()));
    assert_eq!(fake.excuse("").len(), 3);
    fake.finish();
}

#[tokio::test]
async fn a_call_that_comes_before_its_retry_after_is_over_is_the_programs_mistake() {
    let (fake, api) = start().await;
    fake.fault("chat.postMessage", Fault::RateLimited(1));
    let body = |channel: &str| json!({"channel": channel, "text": "x"});
    assert_eq!(call(&api, "chat.postMessage", body("C1")).await, Err("ratelimited".to_owned()));
    // Another channel is not held back.
    call(&api, "chat.postMessage", body("G1")).await.unwrap();
    fake.check();
    assert_eq!(call(&api, "chat.postMessage", body("C1")).await, Err("ratelimited".to_owned()));
    assert_eq!(fake.excuse("Retry-After").len(), 1);
}

#[tokio::test]
async fn it_can_do_what_it_was_asked_and_lose_the_answer() {
    let (fake, api) = start().await;
    for fault in [Fault::DoneThenReset, Fault::DoneThenHalf, Fault::DoneThenStatus(500), Fault::Reset] {
        fake.fault("chat.postMessage", fault);
        call(&api, "chat.postMessage", json!({"channel": "C1", "text": "x"})).await.unwrap_err();
    }
    assert_eq!(fake.messages("T1", "C1").len(), 3);
}

#[tokio::test]
async fn a_mention_comes_twice_over_the_socket_and_waits_for_both_acknowledgements() {
    let (fake, api) = start().await;
    let mut socket = open(&fake, &api).await;
    let serving = tokio::spawn(async move {
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let envelope = next(&mut socket).await;
            kinds.push(envelope["payload"]["event"]["type"].as_str().unwrap().to_owned());
            let ack = json!({"envelope_id": envelope["envelope_id"]}).to_string();
            socket.send(ack.into()).await.unwrap();
        }
        (kinds, socket)
    });
    let ts = fake.person("T1", "U1").mention("C1", "deploy").await;
    let (mut kinds, mut socket) = serving.await.unwrap();
    kinds.sort();
    assert_eq!(kinds, ["app_mention", "message"]);
    assert_eq!(fake.message("T1", "C1", &ts).text, "<@UBOTT1> deploy");
    // An acknowledgement of nothing.
    socket.send(json!({"envelope_id": "env-none"}).to_string().into()).await.unwrap();
    // A frame later, the first one was read.
    let ping = tokio::spawn(async move { while socket.next().await.is_some_and(|m| m.is_ok()) {} });
    fake.ping_socket(fake.sockets_of("A1")[0]).await;
    ping.abort();
    assert_eq!(fake.excuse("late, doubled, or of another connection").len(), 1);
}

#[tokio::test]
async fn a_modal_opens_within_three_seconds_and_once_for_a_trigger() {
    let (fake, api) = start().await;
    let ann = fake.person("T1", "U1");
    let command = ann.command_delivery("C1", "run");
    let trigger = command.body["trigger_id"].as_str().unwrap();
    let view = json!({
        "type": "modal", "callback_id": "x", "title": {"type": "plain_text", "text": "Hello"},
        "submit": {"type": "plain_text", "text": "Go"},
        "blocks": [{"type": "input", "block_id": "why", "label": {"type": "plain_text", "text": "Why"},
            "element": {"type": "plain_text_input", "action_id": "v"}}],
    });
    call(&api, "views.open", json!({"trigger_id": trigger, "view": view})).await.unwrap();
    let modal = fake.modal("T1", "U1").await;
    let submitted = ann.submit_delivery(&modal, &[("why", "because")]);
    assert_eq!(submitted.body["view"]["state"]["values"]["why"]["v"]["value"], "because");

    let late = ann.command_delivery("C1", "run");
    fake.clock().advance_ms(3_001);
    let late = json!({"trigger_id": late.body["trigger_id"], "view": view});
    assert_eq!(call(&api, "views.open", late).await, Err("expired_trigger_id".to_owned()));
}

#[tokio::test]
async fn a_response_url_takes_five_answers_within_thirty_minutes() {
    let (fake, _) = start().await;
    let http = reqwest::Client::new();
    let url = fake.person("T1", "U1").command_delivery("C1", "status").body["response_url"].clone();
    let say = || http.post(url.as_str().unwrap()).json(&json!({"text": "fine"})).send();
    for _ in 0..5 {
        assert_eq!(say().await.unwrap().status(), 200);
        assert_eq!(fake.private("T1", "U1").await.words(), "fine");
    }
    assert_eq!(say().await.unwrap().status(), 404);
}

#[tokio::test]
async fn its_signature_is_the_one_in_the_documentation() {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
        &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let signed =
        crate::fakes::slack::deliveries::signature("8f742231b10e8888abcd99yyyzzz85a5", "1531420618", body.as_bytes());
    assert_eq!(signed, "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503");
}

/// What is wrong with one block in a message, one line each.
fn minded(block: Value) -> Vec<String> {
    limits::blocks(&json!([block]), limits::Surface::Message)
}

#[test]
fn it_takes_blocks_at_each_limit_and_minds_those_above() {
    let x = |n: usize| "x".repeat(n);
    let plain = |n: usize| json!({"type": "plain_text", "text": x(n)});
    let words = |n: usize| json!({"type": "mrkdwn", "text": x(n)});
    let button = |n: usize| json!({"type": "button", "action_id": "a", "text": plain(n)});
    let actions = |element: Value| json!({"type": "actions", "elements": [element]});
    let with = |mut element: Value, name: &str, value: Value| {
        element[name] = value;
        element
    };
    let several = |n: usize, of: &dyn Fn(usize) -> Value| Value::Array((0..n).map(of).collect());
    let option = |i: usize, n: usize| json!({"text": plain(3), "value": format!("{i:03}{}", x(n - 3))});
    let menu = |kind: &str, n: usize, value: usize| json!({"type": kind, "action_id": "m", "options": several(n, &|i| option(i, value))});
    let confirm = |title: usize, text: usize, yes: usize| {
        let confirm = json!({"title": plain(title), "text": plain(text), "confirm": plain(yes), "deny": plain(2)});
        actions(with(button(3), "confirm", confirm))
    };
    let many = |n: usize| json!({"type": "actions", "elements": several(n, &|i| with(button(3), "action_id", format!("a{i}").into()))});
    let cases: Vec<(&str, Value, Value)> = vec![
        ("header", json!({"type": "header", "text": plain(150)}), json!({"type": "header", "text": plain(151)})),
        ("section", json!({"type": "section", "text": words(3000)}), json!({"type": "section", "text": words(3001)})),
        (
            "fields",
            json!({"type": "section", "fields": several(10, &|_| words(10))}),
            json!({"type": "section", "fields": several(11, &|_| words(10))}),
        ),
        (
            "a field",
            json!({"type": "section", "fields": [words(2000)]}),
            json!({"type": "section", "fields": [words(2001)]}),
        ),
        (
            "context",
            json!({"type": "context", "elements": several(10, &|_| words(1))}),
            json!({"type": "context", "elements": several(11, &|_| words(1))}),
        ),
        ("actions", many(25), many(26)),
        ("a button", actions(button(75)), actions(button(76))),
        (
            "a value",
            actions(with(button(1), "value", x(2000).into())),
            actions(with(button(1), "value", x(2001).into())),
        ),
        (
            "an action id",
            actions(with(button(1), "action_id", x(255).into())),
            actions(with(button(1), "action_id", x(256).into())),
        ),
        ("a block id", json!({"type": "divider", "block_id": x(255)}), json!({"type": "divider", "block_id": x(256)})),
        ("a confirm title", confirm(100, 1, 1), confirm(101, 1, 1)),
        ("a confirm text", confirm(1, 300, 1), confirm(1, 301, 1)),
        ("a confirm button", confirm(1, 1, 30), confirm(1, 1, 31)),
        ("an overflow value", actions(menu("overflow", 5, 75)), actions(menu("overflow", 5, 76))),
        ("an overflow menu", actions(menu("overflow", 5, 9)), actions(menu("overflow", 6, 9))),
        ("a select", actions(menu("static_select", 100, 9)), actions(menu("static_select", 101, 9))),
        ("markdown", json!({"type": "markdown", "text": x(12_000)}), json!({"type": "markdown", "text": x(12_001)})),
        ("emptiness", json!({"type": "header", "text": plain(1)}), json!({"type": "header", "text": plain(0)})),
        ("properties", actions(button(1)), actions(with(button(1), "colour", "red".into()))),
        ("the kind of text", json!({"type": "header", "text": plain(1)}), json!({"type": "header", "text": words(1)})),
        ("styles", actions(with(button(1), "style", "danger".into())), actions(with(button(1), "style", "big".into()))),
    ];
    for (what, at, above) in cases {
        assert_eq!(minded(at), Vec::<String>::new(), "{what}");
        assert_ne!(minded(above), Vec::<String>::new(), "{what}");
    }
    let blocks = |n: usize| several(n, &|_| json!({"type": "divider"}));
    assert!(limits::blocks(&blocks(50), limits::Surface::Message).is_empty());
    assert_eq!(limits::blocks(&blocks(51), limits::Surface::Message).len(), 1);
    assert!(limits::blocks(&blocks(100), limits::Surface::Home).is_empty());
    assert_eq!(limits::blocks(&blocks(101), limits::Surface::Home).len(), 1);
    let twice = json!([{"type": "divider", "block_id": "a"}, {"type": "divider", "block_id": "a"}]);
    assert_eq!(limits::blocks(&twice, limits::Surface::Message).len(), 1);
    let much = several(5, &|_| json!({"type": "section", "text": words(2_650)}));
    assert_eq!(limits::blocks(&much, limits::Surface::Message).len(), 1);
}

#[test]
fn it_takes_a_modal_at_each_limit_and_minds_those_above() {
    let plain = |n: usize| json!({"type": "plain_text", "text": "x".repeat(n)});
    let input = |most: u64, initial: usize| {
        json!({"type": "input", "block_id": "a", "label": plain(3),
            "element": {"type": "plain_text_input", "action_id": "v", "max_length": most,
                "initial_value": "x".repeat(initial)}})
    };
    let modal = |title: usize, metadata: usize, input: Value| {
        json!({"type": "modal", "callback_id": "c", "title": plain(title), "submit": plain(24),
            "private_metadata": "x".repeat(metadata), "blocks": [input]})
    };
    assert_eq!(limits::view(&modal(24, 3000, input(3000, 3000))), Vec::<String>::new());
    for above in [
        modal(25, 3000, input(3000, 3000)),
        modal(24, 3001, input(3000, 3000)),
        modal(24, 3000, input(3001, 3000)),
        modal(24, 3000, input(10, 11)),
    ] {
        assert_eq!(limits::view(&above).len(), 1);
    }
    let mut without = modal(24, 0, input(10, 1));
    without.as_object_mut().unwrap().remove("submit");
    assert_eq!(limits::view(&without).len(), 1);
}

#[tokio::test]
async fn an_update_with_the_id_of_a_block_that_stands_is_the_programs_mistake() {
    let (fake, api) = start().await;
    let blocks = |text: &str| json!([{"type": "section", "block_id": "a", "text": {"type": "mrkdwn", "text": text}}]);
    let posted = call(&api, "chat.postMessage", json!({"channel": "C1", "text": "x", "blocks": blocks("one")})).await;
    let ts = posted.unwrap()["ts"].clone();
    let update = |text: &str| json!({"channel": "C1", "ts": ts, "text": "x", "blocks": blocks(text)});
    // The same once more is nothing.
    call(&api, "chat.update", update("one")).await.unwrap();
    assert_eq!(call(&api, "chat.update", update("two")).await, Err("invalid_blocks".to_owned()));
    assert_eq!(fake.excuse("the block_id `a` stands already").len(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_acknowledgement_brings_the_event_again_on_another() {
    let (fake, api) = start().await;
    let (mut one, mut two) = (open(&fake, &api).await, open(&fake, &api).await);
    let ids = fake.until_sockets("A1", 2).await;
    let event = fake.event("T1", json!({"type": "something_new"}));
    let sending = tokio::spawn({
        let (fake, event) = (fake.handle(), event.clone());
        async move { fake.deliver(&event).await }
    });
    // Whichever got it breaks; the other one acknowledges.
    let (first, broken) = tokio::select! {
        envelope = next(&mut one) => (envelope, ids[0]),
        envelope = next(&mut two) => (envelope, ids[1]),
    };
    assert_eq!((&first["retry_attempt"], &first["payload"]["event_id"]), (&json!(0), &json!(event.event_id())));
    fake.sever_socket(broken);
    let other = if broken == ids[0] { &mut two } else { &mut one };
    let again = next(other).await;
    assert_eq!((&again["retry_attempt"], &again["payload"]["event_id"]), (&json!(1), &json!(event.event_id())));
    other.send(json!({"envelope_id": again["envelope_id"]}).to_string().into()).await.unwrap();
    assert_eq!(sending.await.unwrap().status, 200);
}

#[tokio::test]
async fn socket_mode_that_is_switched_off_says_link_disabled_and_lets_nobody_in() {
    let (fake, api) = start().await;
    let mut socket = open(&fake, &api).await;
    fake.disable_socket("A1", true);
    let told = next(&mut socket).await;
    assert_eq!((&told["type"], &told["reason"]), (&json!("disconnect"), &json!("link_disabled")));
    let answer = api.call(&"xapp-test-A1".to_owned().into(), "apps.connections.open", &json!({})).await.unwrap();
    let url = answer["url"].as_str().unwrap();
    let (mut again, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert_eq!(next(&mut again).await["reason"], "link_disabled");
    // A ticket is used once.
    tokio_tungstenite::connect_async(url).await.unwrap_err();
}

#[tokio::test]
async fn what_is_said_in_private_and_not_looked_at_fails_the_test() {
    let (fake, api) = start().await;
    fake.fault("chat.update", Fault::Error("message_not_found"));
    call(&api, "chat.postEphemeral", json!({"channel": "C1", "user": "U1", "text": "no"})).await.unwrap();
    let handle = fake.handle();
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle.check()));
    assert!(failed.is_err(), "a fault was not met");
    call(&api, "chat.update", json!({"channel": "C1", "ts": "1.2", "text": "x"})).await.unwrap_err();
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle.check()));
    assert!(failed.is_err(), "nobody looked");
    assert_eq!(fake.private("T1", "U1").await.by, "ephemeral");
    fake.finish();
}
