//! The fake Slack itself: what it answers, delivers and minds.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;
use twelve::platform::slack::api::{Api, Pace};
use twelve::runtime::Clock;

use crate::fakes::slack::{FakeSlack, Fault};
use crate::world::START;

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn start() -> (FakeSlack, Api) {
    let fake = FakeSlack::start(&Clock::manual(START)).await;
    let api = Api::new(&fake.api_url(), &Pace::default()).unwrap();
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
