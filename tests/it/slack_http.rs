//! Slack's deliveries over HTTP: whose they are, that each counts once whatever fails, and what they become.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use twelve::agent::*;
use twelve::chat::slack::{Ack, Front, FrontSettings};
use twelve::platform::Platforms;
use twelve::platform::slack::api::Pace;
use twelve::platform::slack::blocks::{action, field, parts};
use twelve::platform::slack::inbound::Envelope;
use twelve::platform::slack::{Slack, SlackSettings, WorkspaceSettings};
use twelve::runtime::{Change, Clock};

use crate::fakes::slack::deliveries::{Acked, Delivery, Kind, signature};
use crate::fakes::slack::{FakeSlack, Person};
use crate::site::{Plan, Site};
use crate::world::*;

/// The program with its HTTP side on a port, and a Slack that delivers to it.
struct Chat {
    world: World,
    fake: FakeSlack,
    front: Front,
    site: Site,
    slack: Slack,
}

fn slack(fake: &FakeSlack) -> Slack {
    let teams = fake.with(|s| {
        let secret = |app: &String| SecretString::from(s.apps[app].signing_secret.clone());
        s.teams.values().map(|t| (t.id.clone(), t.token.clone(), secret(&t.app))).collect::<Vec<_>>()
    });
    let workspace = |(team, token, secret): (String, String, SecretString)| WorkspaceSettings {
        team: Some(team),
        bot_token: SecretString::from(token),
        app_token: None,
        signing_secret: Some(secret),
    };
    let settings = SlackSettings {
        api_url: fake.api_url(),
        workspaces: teams.into_iter().map(workspace).collect(),
        public_url: "https://agents.example".to_owned(),
        max_file: 65_536,
        max_earlier: 50,
        pace: Pace { second: Duration::from_millis(1), ..Pace::default() },
    };
    Slack::new(settings).unwrap()
}

fn front(world: &World, slack: &Slack) -> Front {
    let settings = FrontSettings {
        agent: "tester".to_owned(),
        channels: [("C9".to_owned(), "nobody".to_owned())].into(),
        threads: twelve::config::Threads::All,
        channel_threads: [("C2".to_owned(), twelve::config::Threads::Mentions)].into(),
        stop_reaction: "octagonal_sign".to_owned(),
        progress: false,
        command: "/agent".to_owned(),
        operators: Vec::new(),
        odd: Some(world.dir.path().join("slack-odd.jsonl")),
    };
    Front::new(world.runtime.clone(), slack.clone(), settings)
}

/// One team, or also a second one with an app of its own and the same ids in it.
async fn chat_with(teams: &[(&str, &str)], plan: Plan) -> Chat {
    crate::crypto();
    let clock = Clock::manual(START);
    let fake = FakeSlack::start(&clock).await;
    for (team, app) in teams {
        if !fake.with(|s| s.apps.contains_key(*app)) {
            fake.add_app(app);
        }
        fake.add_team(team, app);
    }
    fake.ignore_private();
    let slack = slack(&fake);
    let platforms = Platforms { console: None, slack: Some(slack.clone()) };
    let world = World::with(Setup { platforms, ..Setup::default() }).await;
    let front = front(&world, &slack);
    let site = Site::start(world.runtime.clone(), Plan { slack: Some(front.clone()), ..plan }).await;
    fake.deliver_by_http(&format!("http://{}", site.address));
    Chat { world, fake, front, site, slack }
}

async fn chat() -> Chat {
    chat_with(&[], Plan::default()).await
}

impl Chat {
    fn ann(&self) -> Person {
        self.fake.person("T1", "U1")
    }

    /// The process dies without a word and is started again.
    async fn crash(mut self) -> Self {
        self.world.crash().await;
        self.front = front(&self.world, &self.slack);
        self.site =
            Site::start(self.world.runtime.clone(), Plan { slack: Some(self.front.clone()), ..Plan::default() }).await;
        self.fake.deliver_by_http(&format!("http://{}", self.site.address));
        self
    }

    async fn settle(&self) {
        self.front.idle().await;
        self.world.runtime.settle().await.unwrap();
    }

    /// Everything that people said in a thread, in order: from whom, and what.
    async fn said(&self, thread: &str) -> Vec<(String, String)> {
        let id: ThreadId = thread.parse().unwrap();
        let Ok(loaded) = self.world.runtime.parts().store.load(id.short(), 0).await else { return Vec::new() };
        let events = loaded.events.iter().enumerate().map(|(i, bytes)| Event::decode(bytes, i as u64 + 1).unwrap());
        let said = events.filter_map(|event| match event.body {
            Body::MessageReceived { from, text, .. } => Some((from.id, text)),
            _ => None,
        });
        said.collect()
    }

    async fn attached(&self, thread: &str) -> Vec<Vec<Attached>> {
        let log = self.world.log(thread).await;
        let attached = log.into_iter().filter_map(|event| match event.body {
            Body::MessageReceived { attached, .. } => Some(attached),
            _ => None,
        });
        attached.collect()
    }

    fn metrics(&self) -> String {
        self.world.runtime.parts().metrics.scrape(&Default::default())
    }

    #[track_caller]
    fn assert_counted(&self, kind: &str, outcome: &str, times: u64) {
        let text = self.metrics();
        let line =
            format!(r#"twelve_channel_deliveries_total{{channel="slack",kind="{kind}",outcome="{outcome}"}} {times}"#);
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> (u16, String) {
        let url = format!("http://{}{path}", self.site.address);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let post = headers.iter().fold(client.post(url).body(body), |post, (name, value)| post.header(*name, *value));
        let response = post.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Signs with this secret, as of now.
    async fn post_signed(&self, secret: &str, path: &str, kind: &str, body: &str) -> (u16, String) {
        let at = (self.world.clock.now().0 / 1_000).to_string();
        let signature = signature(secret, &at, body.as_bytes());
        let headers =
            [("content-type", kind), ("x-slack-request-timestamp", &at), ("x-slack-signature", signature.as_str())];
        self.post(path, &headers, body.to_owned()).await
    }

    /// Every intent that is kept from now on.
    fn intents(&self) -> Intents {
        Intents(self.world.runtime.watch())
    }
}

struct Intents(broadcast::Receiver<Change>);

impl Intents {
    fn kept(&mut self) -> Vec<(ThreadId, Intent)> {
        let mut kept = Vec::new();
        while let Ok(change) = self.0.try_recv() {
            if let (1, Some(first)) = (change.first, change.events.first())
                && let Body::IntentReceived { thread, intent } = Event::decode(first, 1).unwrap().body
            {
                kept.push((thread, intent));
            }
        }
        kept
    }
}

fn bob_of_t1() -> Principal {
    Principal::human("slack:T1:U2")
}

/// The deliveries of one message that asks for something to be shipped, and its thread.
fn ship(chat: &Chat) -> (Vec<Delivery>, String) {
    let ts = chat.ann().write("C1", None, "<@UBOTT1> ship v7", &[]);
    (chat.ann().deliveries("C1", &ts), format!("slack:T1:C1:{ts}"))
}

/// However often it was delivered: one turn, one request, and after one approval one deployment.
async fn assert_happens_once(chat: &Chat, thread: &str) {
    chat.settle().await;
    assert_eq!(chat.said(thread).await, [("slack:T1:U1".to_owned(), "ship v7".to_owned())]);
    let request = chat.world.pending(thread).await;
    assert_eq!(chat.world.vote_on(thread, &request, bob_of_t1(), approve()).await, Answer::Accepted);
    assert_eq!(chat.world.outside.ledger(), ["v7"]);
}

fn status(acked: &Acked) -> u16 {
    acked.status
}

// ---- S2: one effect, whatever fails

#[tokio::test]
async fn s2_a_first_attempt_that_never_arrived_is_made_up_for_by_the_second() {
    let chat = chat().await;
    let (deliveries, thread) = ship(&chat);
    for delivery in &deliveries {
        assert_eq!(status(&chat.fake.send_again(delivery, 1, "connection_failed").await), 200);
    }
    assert_happens_once(&chat, &thread).await;
}

#[tokio::test]
async fn s2_what_could_not_be_kept_is_not_acknowledged_and_counts_once_when_it_comes_again() {
    let chat = chat().await;
    let (deliveries, thread) = ship(&chat);
    // The store takes nothing any more, as with a full disk or in the moment of a crash.
    chat.world.runtime.parts().store.close().await.unwrap();
    for delivery in &deliveries {
        assert_eq!(status(&chat.fake.send(delivery).await), 503);
    }
    let chat = chat.crash().await;
    assert_eq!(chat.said(&thread).await, []);
    for delivery in &deliveries {
        assert_eq!(status(&chat.fake.send_again(delivery, 1, "http_error").await), 200);
    }
    assert_happens_once(&chat, &thread).await;
}

#[tokio::test]
async fn s2_what_was_kept_before_a_crash_but_not_acknowledged_counts_once() {
    let chat = chat().await;
    let (deliveries, thread) = ship(&chat);
    // Kept, and the process dies before the answer leaves.
    assert_eq!(chat.front.take(Envelope::Event(deliveries[0].body.clone())).await, Ack::Empty);
    let chat = chat.crash().await;
    for delivery in &deliveries {
        assert_eq!(status(&chat.fake.send_again(delivery, 1, "http_timeout").await), 200);
    }
    assert_happens_once(&chat, &thread).await;
}

#[tokio::test]
async fn s2_what_was_acknowledged_too_late_and_comes_again_for_a_day_counts_once() {
    let chat = chat().await;
    let (deliveries, thread) = ship(&chat);
    let all = deliveries.iter().chain(&deliveries).map(|d| chat.fake.send(d));
    for acked in futures_util::future::join_all(all).await {
        assert_eq!(status(&acked), 200);
    }
    for (number, ms) in [(1, 0), (2, 60_000), (3, 300_000)] {
        chat.world.clock.advance_ms(ms);
        chat.fake.clock().advance_ms(ms);
        for delivery in &deliveries {
            assert_eq!(status(&chat.fake.send_again(delivery, number, "http_timeout").await), 200);
        }
    }
    assert_happens_once(&chat, &thread).await;
    let day = 24 * 3_600_000;
    chat.world.clock.advance_ms(day);
    chat.fake.clock().advance_ms(day);
    for delivery in &deliveries {
        assert_eq!(status(&chat.fake.send_again(delivery, 3, "http_timeout").await), 200);
    }
    chat.settle().await;
    assert_eq!(chat.said(&thread).await.len(), 1);
    assert_eq!(chat.world.outside.ledger(), ["v7"]);
    chat.assert_counted("message", "kept", 1);
}

#[tokio::test]
async fn s2_the_number_of_a_retry_says_nothing_about_what_is_known() {
    let chat = chat().await;
    // Two messages that differ in nothing but their time, the second one said to be a retry.
    for text in ["look", "look"] {
        let ts = chat.ann().write("C1", None, &format!("<@UBOTT1> {text}"), &[]);
        let delivery = chat.ann().deliveries("C1", &ts).remove(0);
        assert_eq!(status(&chat.fake.send_again(&delivery, 1, "http_timeout").await), 200);
    }
    chat.assert_counted("message", "kept", 2);
    chat.settle().await;
}

#[tokio::test]
async fn s2_a_process_that_stops_takes_nothing_and_says_so() {
    let chat = chat().await;
    let (deliveries, thread) = ship(&chat);
    chat.world.runtime.begin_drain();
    assert_eq!(status(&chat.fake.send(&deliveries[0]).await), 503);
    let command = chat.ann().command_delivery("C1", "status");
    assert_eq!(status(&chat.fake.send(&command).await), 503);
    assert_eq!(chat.said(&thread).await, []);
    chat.assert_counted("message", "again", 1);
}

// ---- whose it is

#[tokio::test]
async fn s5_what_slack_did_not_sign_is_refused_without_a_word_why() {
    let chat = chat().await;
    let (deliveries, thread) = ship(&chat);
    let request = chat.fake.signed(&deliveries[0], None);
    let body = String::from_utf8(request.body.clone()).unwrap();
    let get = |name: &str| request.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap();
    let (at, right) = (get("x-slack-request-timestamp"), get("x-slack-signature"));
    let old = (at.parse::<i64>().unwrap() - 301).to_string();
    let (json, time, signed) = (("content-type", "application/json"), "x-slack-request-timestamp", "x-slack-signature");
    let stale = signature("secret-of-A1", &old, body.as_bytes());
    let other = signature("secret-of-A2", &at, body.as_bytes());
    let empty = signature("", &at, body.as_bytes());
    let reencoded = serde_json::from_str::<Value>(&body).unwrap().to_string().replace(':', ": ");
    let of_reencoded = signature("secret-of-A1", &at, reencoded.as_bytes());
    let table: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("nothing", vec![json]),
        ("no time", vec![json, (signed, &right)]),
        ("no signature", vec![json, (time, &at)]),
        ("two signatures", vec![json, (time, &at), (signed, &right), (signed, &right)]),
        ("a wrong one after it", vec![json, (time, &at), (signed, &right), (signed, &other)]),
        ("two times", vec![json, (time, &at), (time, &at), (signed, &right)]),
        ("too old", vec![json, (time, &old), (signed, &stale)]),
        ("another secret", vec![json, (time, &at), (signed, &other)]),
        ("no secret", vec![json, (time, &at), (signed, &empty)]),
        ("the same JSON in other bytes", vec![json, (time, &at), (signed, &of_reencoded)]),
        ("a token instead", vec![json, ("authorization", "Bearer token-boss")]),
    ];
    let mut answers = std::collections::BTreeSet::new();
    for (what, headers) in &table {
        for path in ["/slack/events", "/slack/interactions", "/slack/commands"] {
            let (status, answer) = chat.post(path, headers, body.clone()).await;
            assert_eq!(status, 401, "{what} {path}: {answer}");
            answers.insert(answer);
        }
    }
    assert_eq!(answers.len(), 1, "all of them are told the same: {answers:?}");
    chat.settle().await;
    assert_eq!(chat.said(&thread).await, []);
    let headers = [json, (time, at.as_str()), (signed, right.as_str())];
    assert_eq!(chat.post("/slack/events", &headers, body).await, (200, String::new()), "and the right one is right");
    chat.settle().await;
}

#[tokio::test]
async fn s6_an_address_is_confirmed_to_who_signs_the_question() {
    let chat = chat().await;
    let delivery = chat.fake.challenge("A1", "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P");
    let acked = chat.fake.send(&delivery).await;
    assert_eq!((acked.status, acked.body), (200, json!("3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P")));
    let body = delivery.body.to_string();
    let unsigned = chat.post("/slack/events", &[("content-type", "application/json")], body.clone()).await;
    assert_eq!(unsigned.0, 401);
    assert!(!unsigned.1.contains("3eZbrw1"), "{}", unsigned.1);
    assert_eq!(chat.post_signed("another", "/slack/events", "application/json", &body).await.0, 401);
}

#[tokio::test]
async fn s20_a_secret_vouches_for_the_teams_of_its_own_app_alone() {
    let chat = chat_with(&[("T2", "A2"), ("T3", "A1")], Plan::default()).await;
    let in_team = |team: &str| {
        chat.fake.event(team, json!({
        "type": "app_mention", "user": "U1", "channel": "C1", "text": format!("<@UBOT{team}> look"), "team": team,
        "ts": "1767225600.000100", "event_ts": "1767225600.000100",
    }))
    };
    for (team, secret, status) in [
        ("T1", "secret-of-A2", 401),
        ("T2", "secret-of-A1", 401),
        ("T3", "secret-of-A2", 401),
        ("T1", "secret-of-A1", 200),
        ("T2", "secret-of-A2", 200),
        ("T3", "secret-of-A1", 200),
    ] {
        let body = in_team(team).body.to_string();
        let (got, _) = chat.post_signed(secret, "/slack/events", "application/json", &body).await;
        assert_eq!(got, status, "{team} {secret}");
    }
    chat.settle().await;
    // The same channel and time in three teams are three conversations.
    for team in ["T1", "T2", "T3"] {
        let thread = format!("slack:{team}:C1:1767225600.000100");
        assert_eq!(chat.said(&thread).await, [(format!("slack:{team}:U1"), "look".to_owned())]);
    }
    // Interactions and commands name their team elsewhere.
    let press = json!({"type": "block_actions", "team": {"id": "T1"}, "user": {"id": "U1", "team_id": "T1"},
        "actions": [{"action_id": "run.stop", "value": "x", "action_ts": "1.2"}]});
    let form = crate::fakes::slack::deliveries::form(&[("payload", &press.to_string())]);
    let kind = "application/x-www-form-urlencoded";
    assert_eq!(chat.post_signed("secret-of-A2", "/slack/interactions", kind, &form).await.0, 401);
    let form = crate::fakes::slack::deliveries::form(&[("command", "/agent"), ("team_id", "T1"), ("user_id", "U1")]);
    assert_eq!(chat.post_signed("secret-of-A2", "/slack/commands", kind, &form).await.0, 401);
}

#[tokio::test]
async fn s20_a_team_that_nobody_configured_gets_nothing_done() {
    let chat = chat().await;
    let body = json!({"type": "event_callback", "team_id": "T7", "event": {
        "type": "app_mention", "user": "U1", "channel": "C1", "text": "look", "ts": "1.2"}});
    let (status, _) = chat.post_signed("secret-of-A1", "/slack/events", "application/json", &body.to_string()).await;
    assert_eq!(status, 200);
    chat.settle().await;
    assert_eq!(chat.said("slack:T7:C1:1.2").await, []);
    chat.assert_counted("message", "ignored", 1);
}

#[tokio::test]
async fn s20_a_removed_app_and_revoked_tokens_are_noted_and_nothing_else_breaks() {
    let chat = chat_with(&[("T2", "A2")], Plan::default()).await;
    assert_eq!(chat.slack.problems(), Vec::<String>::new());
    assert_eq!(status(&chat.fake.send(&chat.fake.uninstalled("T1")).await), 200);
    assert_eq!(status(&chat.fake.send(&chat.fake.tokens_revoked("T2")).await), 200);
    let problems = chat.slack.problems().join("\n");
    assert!(
        problems.contains("team T1: the app was removed") && problems.contains("team T2: the bot's token"),
        "{problems}"
    );
    // The tokens of people mean nothing to us.
    let people = chat.fake.event("T1", json!({"type": "tokens_revoked", "tokens": {"oauth": ["U1"], "bot": []}}));
    assert_eq!(status(&chat.fake.send(&people).await), 200);
    chat.assert_counted("tokens_revoked", "looked", 1);
}

#[tokio::test]
async fn without_a_signing_secret_the_paths_are_not_there() {
    crate::crypto();
    let clock = Clock::manual(START);
    let fake = FakeSlack::start(&clock).await;
    let with_secret = slack(&fake);
    let mut settings = with_secret.settings().clone();
    for none in [None, Some(SecretString::from(""))] {
        settings.workspaces[0].signing_secret = none;
        let slack = Slack::new(settings.clone()).unwrap();
        let world = World::new().await;
        let front = front(&world, &slack);
        let site = Site::start(world.runtime.clone(), Plan { slack: Some(front), ..Plan::default() }).await;
        fake.deliver_by_http(&format!("http://{}", site.address));
        assert_eq!(status(&fake.send(&fake.challenge("A1", "x")).await), 404);
        site.stop().await;
    }
}

// ---- what the guard does and does not do here

#[tokio::test]
async fn slack_is_not_held_up_by_what_holds_up_others() {
    let mut plan = Plan::default();
    plan.http.requests_per_minute = 1;
    plan.http.max_body = 2_000;
    let chat = chat_with(&[], plan).await;
    let event = chat.fake.event("T1", json!({"type": "a_type_of_next_year", "pad": "x".repeat(100_000)}));
    for _ in 0..5 {
        assert_eq!(status(&chat.fake.send(&event).await), 200);
    }
    // A name that is not ours, as a proxy may pass it on: the signature is what counts.
    let at = (chat.world.clock.now().0 / 1_000).to_string();
    let body = event.body.to_string();
    let signature = signature("secret-of-A1", &at, body.as_bytes());
    let headers =
        [("host", "slack.agents.example"), ("x-slack-request-timestamp", &at), ("x-slack-signature", &signature)];
    assert_eq!(chat.post("/slack/events", &headers, body).await.0, 200);
    // Everybody else is still counted, and bounded.
    let (first, second) =
        (chat.post("/agents/start", &[], "{}").await.0, chat.post("/agents/start", &[], "{}").await.0);
    assert_ne!(first, 429);
    assert_eq!(second, 429);
    let refused = chat.post("/agents/start", &[("host", "slack.agents.example")], "{}").await;
    assert_eq!(refused.0, 421, "{}", refused.1);
}

#[tokio::test]
async fn a_body_of_a_gigabyte_is_cut_off() {
    let chat = chat().await;
    let mut stream = TcpStream::connect(chat.site.address).await.unwrap();
    let head = "POST /slack/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1073741824\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    // One that does not say how long it is.
    let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 64 * 1024]));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/slack/events", chat.site.address);
    let sent = client.post(url).body(reqwest::Body::wrap_stream(endless)).send().await;
    // The answer comes while the body still goes out: whether the client reads it is its own business.
    if let Ok(response) = sent {
        assert_eq!(response.status().as_u16(), 413);
    }
    assert_eq!(status(&chat.fake.send(&chat.fake.challenge("A1", "x")).await), 200, "and others are served");
}

#[tokio::test]
async fn a_client_that_is_too_slow_is_cut_off() {
    let mut plan = Plan::default();
    plan.http.body_timeout = 100;
    let chat = chat_with(&[], plan).await;
    let mut stream = TcpStream::connect(chat.site.address).await.unwrap();
    let head = "POST /slack/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nsome of it";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("cut off").unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

// ---- what it becomes

#[tokio::test]
async fn s3_whatever_is_authentic_is_acknowledged_and_counted() {
    let chat = chat().await;
    let json_kind = "application/json";
    let form = "application/x-www-form-urlencoded";
    let odd = [
        (json_kind, "not JSON"),
        (json_kind, "[]"),
        (json_kind, ""),
        (json_kind, r#"{"a": 1, "a": 2}"#),
        (json_kind, r#"{"type": "event_callback"}"#),
        (json_kind, r#"{"type": "event_callback", "team_id": "T1", "event": {"type": "message", "ts": {}}}"#),
        (json_kind, r#"{"type": "a_type_of_next_year", "team_id": "T1"}"#),
        (form, "ssl_check=1&token=x"),
        (form, "payload=%7B%7D"),
        (form, "payload=nothing"),
        (form, "command=%2Fagent"),
        ("text/plain", "hello"),
    ];
    for (kind, body) in odd {
        for path in ["/slack/events", "/slack/interactions", "/slack/commands"] {
            let (status, answer) = chat.post_signed("secret-of-A1", path, kind, body).await;
            assert_eq!((status, answer.as_str()), (200, ""), "{kind} {body}");
        }
    }
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    assert_eq!(chat.post_signed("secret-of-A1", "/slack/events", json_kind, &deep).await.0, 200);
    chat.assert_counted("unreadable", "odd", 19);
    chat.assert_counted("odd", "odd", 18);
    // All of it is kept, but for what gives a right.
    chat.front.idle().await;
    let kept = std::fs::read_to_string(chat.world.dir.path().join("slack-odd.jsonl")).unwrap();
    let kept: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(kept.len(), 37);
    assert!(kept.iter().any(|k| k["kind"] == "event" && k["delivery"]["type"] == "a_type_of_next_year"));
    assert!(kept.iter().any(|k| k["kind"] == "http" && k["delivery"] == "not JSON"));
    assert!(kept.iter().any(|k| k["delivery"] == "ssl_check=1&token[left out]"), "{kept:?}");
    assert!(kept.iter().all(|k| k["at"].is_string() && !k["why"].as_str().unwrap().is_empty()));
}

#[tokio::test]
async fn s3_a_delivery_that_cannot_be_kept_as_odd_is_acknowledged_all_the_same() {
    let chat = chat().await;
    std::fs::create_dir(chat.world.dir.path().join("slack-odd.jsonl")).unwrap();
    let (status, _) = chat.post_signed("secret-of-A1", "/slack/events", "application/json", "[]").await;
    assert_eq!(status, 200);
    chat.front.idle().await;
    chat.assert_counted("unreadable", "odd", 1);
}

#[tokio::test]
async fn s7_a_mention_that_comes_as_mention_and_as_message_is_one_turn() {
    let chat = chat().await;
    let ts = chat.ann().mention("C1", "look").await;
    chat.settle().await;
    let thread = format!("slack:T1:C1:{ts}");
    assert_eq!(chat.said(&thread).await, [("slack:T1:U1".to_owned(), "look".to_owned())]);
    assert_eq!(chat.world.answer(&thread).await, "look succeeded");
    chat.assert_counted("message", "kept", 1);
    chat.assert_counted("message", "duplicate", 1);
}

#[tokio::test]
async fn where_mentions_alone_are_heard_people_talk_beside_the_agent_without_having_asked() {
    let chat = chat().await;
    chat.fake.team("T1", |t| t.channels.get_mut("C2").unwrap().members.insert("UBOTT1".to_owned()));
    let (ann, bob) = (chat.ann(), chat.fake.person("T1", "U2"));
    let root = ann.mention("C2", "ship v1").await;
    chat.settle().await;
    bob.say_in_thread("C2", &root, "looks fine to me").await;
    chat.settle().await;
    let thread = format!("slack:T1:C2:{root}");
    let say = |who: &str, text: &str| (format!("slack:T1:{who}"), text.to_owned());
    assert_eq!(chat.said(&thread).await, [say("U1", "ship v1")]);
    let request = chat.world.pending(&thread).await;
    assert_eq!(request.requesters, [Principal::human("slack:T1:U1")]);
    // What mentions it is heard, and so is the word to stop.
    bob.mention_in("C2", &root, "note").await;
    chat.settle().await;
    assert_eq!(chat.said(&thread).await, [say("U1", "ship v1"), say("U2", "note")]);
    bob.say_in_thread("C2", &root, "stop").await;
    chat.settle().await;
    assert!(chat.world.runtime.thread(thread.parse::<ThreadId>().unwrap().short()).await.unwrap().run.is_none());
}

#[tokio::test]
async fn a_message_is_taken_if_it_is_for_the_agent_and_left_alone_if_not() {
    let chat = chat().await;
    let ann = chat.ann();
    let bob = chat.fake.person("T1", "U2");
    let idle = ann.say("C1", "look").await;
    let root = ann.mention("C1", "look").await;
    chat.settle().await;
    // In the thread, others need not mention it.
    bob.say_in_thread("C1", &root, "note").await;
    let other = ann.say("C1", "lunch?").await;
    bob.say_in_thread("C1", &other, "note").await;
    chat.settle().await;
    // There it joins when it is called, and reads what was said before.
    let call = bob.mention_in("C1", &other, "look").await;
    let (dm, first) = ann.dm("look").await;
    chat.settle().await;
    let say = |who: &str, text: &str| (format!("slack:T1:{who}"), text.to_owned());
    assert_eq!(chat.said(&format!("slack:T1:C1:{idle}")).await, []);
    assert_eq!(chat.said(&format!("slack:T1:C1:{root}")).await, [say("U1", "look"), say("U2", "note")]);
    let joined = format!("slack:T1:C1:{other}");
    assert_eq!(chat.said(&joined).await, [say("U2", "look")]);
    assert_eq!(chat.attached(&joined).await, [[Attached::Earlier { before: call }]]);
    let direct = format!("slack:T1:{dm}:{first}");
    assert_eq!(chat.said(&direct).await, [say("U1", "look")]);
    assert_eq!(chat.attached(&direct).await, [[]]);
}

#[tokio::test]
async fn files_come_along_by_their_ids() {
    let chat = chat().await;
    let file = chat.fake.add_file("T1", "errors.log", "text/plain", b"it is down");
    let ts = chat.ann().share("C1", None, "<@UBOTT1> look", &[&file]).await;
    let bare = chat.ann().share("C1", None, "<@UBOTT1>", &[&file]).await;
    chat.settle().await;
    let attached = vec![Attached::File { name: "errors.log".into(), place: file }];
    assert_eq!(chat.attached(&format!("slack:T1:C1:{ts}")).await, std::slice::from_ref(&attached));
    let bare = format!("slack:T1:C1:{bare}");
    assert_eq!(chat.attached(&bare).await, [attached]);
    assert_eq!(chat.said(&bare).await[0].1, "Look at what came with this message.");
}

#[tokio::test]
async fn s19_what_programs_write_starts_nothing_and_answers_nothing() {
    let chat = chat().await;
    let ts = chat.ann().mention("C1", "look").await;
    chat.settle().await;
    let thread = format!("slack:T1:C1:{ts}");
    let version = chat.world.thread(&thread).await.version;
    let ours = json!({"type": "message", "channel": "C1", "channel_type": "channel", "team": "T1", "thread_ts": ts,
        "user": "UBOTT1", "bot_id": "BBOTT1", "text": "<@UBOTT1> note", "ts": "1767225700.000100"});
    let join = json!({"type": "message", "subtype": "channel_join", "channel": "C1", "user": "U2", "ts": "1767225700.000200",
        "text": "<@U2> has joined the channel <@UBOTT1>", "thread_ts": ts});
    let other = json!({"type": "message", "subtype": "bot_message", "bot_id": "B9", "channel": "C1", "thread_ts": ts,
        "text": "<@UBOTT1> note", "ts": "1767225700.000300"});
    let app = json!({"type": "app_mention", "bot_id": "B9", "user": "U8", "channel": "C1", "thread_ts": ts,
        "text": "<@UBOTT1> note", "ts": "1767225700.000400"});
    for event in [ours, join, other, app] {
        assert_eq!(status(&chat.fake.send(&chat.fake.event("T1", event)).await), 200);
    }
    chat.settle().await;
    assert_eq!(chat.world.thread(&thread).await.version, version);
    chat.assert_counted("ignored", "ignored", 4);
}

#[tokio::test]
async fn s19_an_edit_or_a_deletion_is_said_while_the_agent_is_at_work_and_not_afterwards() {
    let chat = chat().await;
    let ann = chat.ann();
    let ts = ann.mention("C1", "ship v7").await;
    chat.settle().await;
    let thread = format!("slack:T1:C1:{ts}");
    // It waits for people: the run is under way.
    ann.edit("C1", &ts, "<@UBOTT1> ship v8").await;
    chat.settle().await;
    let edited = "I have edited my message. It now reads:\nship v8".to_owned();
    let said = |texts: &[&str]| texts.iter().map(|t| ("slack:T1:U1".to_owned(), (*t).to_owned())).collect::<Vec<_>>();
    assert_eq!(chat.said(&thread).await, said(&["ship v7", &edited]));
    // The same edit twice is one; a link that Slack shows is none.
    let all = chat.fake.message("T1", "C1", &ts);
    assert_eq!(all.text, "<@UBOTT1> ship v8");
    let (other, done) = (ann.say("C1", "lunch?").await, ann.mention("C1", "look").await);
    chat.settle().await;
    ann.edit("C1", &other, "dinner?").await;
    ann.edit("C1", &done, "<@UBOTT1> note").await;
    ann.delete("C1", &done).await;
    chat.settle().await;
    assert_eq!(chat.said(&format!("slack:T1:C1:{done}")).await, said(&["look"]), "its run is over");
    assert_eq!(chat.said(&format!("slack:T1:C1:{other}")).await, []);
}

#[tokio::test]
async fn a_guest_of_another_workspace_is_heard_as_text_from_outside() {
    let chat = chat().await;
    let event = json!({"type": "app_mention", "user": "U9", "user_team": "T9", "team": "T9", "channel": "C1",
        "text": "<@UBOTT1> look", "ts": "1767225600.000100", "event_ts": "1767225600.000100"});
    assert_eq!(status(&chat.fake.send(&chat.fake.event("T1", event)).await), 200);
    chat.settle().await;
    let thread = "slack:T1:C1:1767225600.000100";
    assert_eq!(chat.said(thread).await, [("slack:T9:U9".to_owned(), "look".to_owned())]);
    assert!(!chat.world.thread(thread).await.untrusted.is_empty());
}

// ---- S8: what is pressed

fn press(user: &Value, action: &str, value: &str, at: &str) -> Delivery {
    let body = json!({
        "type": "block_actions", "team": {"id": "T1", "domain": "acme"}, "user": user, "trigger_id": "1.2.abc",
        "is_enterprise_install": false, "enterprise": null, "api_app_id": "A1",
        "actions": [{"type": "button", "action_id": action, "value": value, "action_ts": at, "block_id": "b"}],
        "container": {"type": "message", "message_ts": "1767225600.000200", "channel_id": "C1"},
        "channel": {"id": "C1", "name": "ops"}, "message": {"ts": "1767225600.000200", "thread_ts": "1767225600.000100"},
        "response_url": "https://hooks.slack.com/actions/T1/1/secret-of-the-url",
    });
    Delivery { app: "A1".into(), kind: Kind::Interaction, body }
}

fn ann_of_t1() -> Value {
    json!({"id": "U1", "username": "ann", "name": "ann", "team_id": "T1"})
}

const VALUE: &str = "apr_abcdefghijklmnop_5|0123456789ab";

#[tokio::test]
async fn s8_a_press_that_is_delivered_twice_is_kept_once_and_another_press_is_another() {
    let chat = chat().await;
    let mut intents = chat.intents();
    let first = press(&ann_of_t1(), "apr.approve", VALUE, "1767225601.1");
    for _ in 0..2 {
        let acked = chat.fake.send(&first).await;
        assert_eq!((acked.status, acked.body), (200, Value::Null));
    }
    let both = futures_util::future::join_all([chat.fake.send(&first), chat.fake.send(&first)]).await;
    assert!(both.iter().all(|acked| acked.status == 200));
    let kept = intents.kept();
    let [(thread, intent)] = kept.as_slice() else { panic!("{kept:?}") };
    assert!(thread.as_str().starts_with("system:slack:T1:"), "{thread}");
    let expected = Intent {
        by: Principal::human("slack:T1:U1"),
        act: Act::Vote {
            approval: "apr_abcdefghijklmnop_5".parse().unwrap(),
            digest: "0123456789ab".into(),
            choice: Choice::Approve { note: String::new() },
        },
        reply: "slack:T1:C1:U1:1767225600.000100".into(),
    };
    assert_eq!(intent, &expected);
    assert_eq!(intent.by.name.as_deref(), Some("ann"));
    // Another time, person, button or value is another deed.
    let bob = json!({"id": "U2", "name": "bob", "team_id": "T1"});
    for other in [
        press(&ann_of_t1(), "apr.approve", VALUE, "1767225602.1"),
        press(&bob, "apr.approve", VALUE, "1767225601.1"),
        press(&ann_of_t1(), "apr.all", VALUE, "1767225601.1"),
        press(&ann_of_t1(), "apr.approve", "apr_abcdefghijklmnop_6|0123456789ab", "1767225601.1"),
    ] {
        assert_eq!(status(&chat.fake.send(&other).await), 200);
        assert_eq!(intents.kept().len(), 1, "{other:?}");
    }
    // What gives a right to answer is in no log.
    for (thread, _) in kept {
        let loaded = chat.world.runtime.parts().store.load(thread.short(), 0).await.unwrap();
        let log: String = loaded.events.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
        assert!(!log.contains("secret-of-the-url") && !log.contains("hooks.slack.com"), "{log}");
    }
    chat.settle().await;
}

#[tokio::test]
async fn s8_a_press_is_not_acknowledged_before_it_is_kept() {
    let chat = chat().await;
    chat.world.runtime.parts().store.close().await.unwrap();
    let delivery = press(&ann_of_t1(), "apr.approve", VALUE, "1767225601.1");
    assert_eq!(status(&chat.fake.send(&delivery).await), 503);
    let chat = chat.crash().await;
    let mut intents = chat.intents();
    assert_eq!(status(&chat.fake.send(&delivery).await), 200);
    assert_eq!(intents.kept().len(), 1);
    chat.settle().await;
}

#[tokio::test]
async fn s8_every_button_becomes_what_it_says() {
    let chat = chat().await;
    let thread = "abcdefghijklmnop";
    let vote = |n: u64| Act::Vote {
        approval: format!("apr_{thread}_{n}").parse().unwrap(),
        digest: "0123456789ab".into(),
        choice: Choice::Approve { note: String::new() },
    };
    let call: CallId = format!("call_{thread}_5").parse().unwrap();
    let question: QuestionId = format!("q_{thread}_5").parse().unwrap();
    let short: ShortId = thread.parse().unwrap();
    let mark = |mark: Mark| vec![Act::Mark { call, mark }];
    let answer = |text: &str| vec![Act::Answer { question, text: text.into() }];
    let table: Vec<(&str, String, Vec<Act>)> = vec![
        ("apr.approve", VALUE.into(), vec![vote(5)]),
        (
            "apr.all",
            format!("{VALUE} apr_{thread}_5_1|0123456789ab apr_{thread}_6|0123456789ab"),
            vec![
                vote(5),
                Act::Vote {
                    approval: format!("apr_{thread}_5_1").parse().unwrap(),
                    digest: "0123456789ab".into(),
                    choice: Choice::Approve { note: String::new() },
                },
                vote(6),
            ],
        ),
        ("run.stop", thread.into(), vec![Act::Steer { what: Steer::Stop, target: Target::Thread { thread: short } }]),
        ("mark.succeeded", call.to_string(), mark(Mark::Succeeded { note: String::new() })),
        ("mark.failed", call.to_string(), mark(Mark::Failed { note: String::new() })),
        ("mark.retry", call.to_string(), mark(Mark::Retry)),
        ("q.0", format!("{question}|left | right"), answer("left | right")),
        ("q.choose", format!("{question}|2"), answer("2")),
        (
            "apr.again",
            format!("apr_{thread}_5"),
            vec![Act::Say { thread: short, text: "Please ask for your last request again.".into() }],
        ),
        // Nothing of these can have come from us.
        ("apr.approve", "nonsense".into(), vec![]),
        ("apr.approve", format!("apr_{thread}_5"), vec![]),
        ("mark.invented", call.to_string(), vec![]),
        ("run.stop", "nonsense".into(), vec![]),
        ("q.1", "nonsense".into(), vec![]),
        ("q.choose", "nonsense".into(), vec![]),
        ("somebody.else", VALUE.into(), vec![]),
        ("open", VALUE.into(), vec![]),
    ];
    for (number, (action, value, acts)) in table.into_iter().enumerate() {
        let mut intents = chat.intents();
        let delivery = press(&ann_of_t1(), action, &value, &format!("1767225601.{number}"));
        assert_eq!(status(&chat.fake.send(&delivery).await), 200);
        let kept: Vec<Act> = intents.kept().into_iter().map(|(_, intent)| intent.act).collect();
        assert_eq!(kept, acts, "{action} {value}");
        chat.settle().await;
    }
}

#[tokio::test]
async fn s20_who_is_of_another_workspace_decides_nothing_here() {
    let chat = chat().await;
    let mut intents = chat.intents();
    let guest = json!({"id": "U1", "name": "ann", "team_id": "T9"});
    for action in
        ["apr.approve", "apr.all", "apr.deny", "apr.edit", "apr.review", "run.stop", "mark.retry", "home.start"]
    {
        assert_eq!(status(&chat.fake.send(&press(&guest, action, VALUE, "1767225601.1")).await), 200);
    }
    chat.settle().await;
    assert_eq!(intents.kept(), []);
    chat.assert_counted("action", "refused", 8);
}

#[tokio::test]
async fn the_stop_sign_on_a_message_of_the_bot_stops_its_run() {
    let chat = chat().await;
    let mut intents = chat.intents();
    let on = |name: &str, author: &str, at: &str| {
        let event = json!({"type": "reaction_added", "user": "U1", "reaction": name, "item_user": author,
            "item": {"type": "message", "channel": "C1", "ts": "1767225600.000200"}, "event_ts": at});
        chat.fake.event("T1", event)
    };
    let stop = on("octagonal_sign", "UBOTT1", "1767225700.000100");
    for delivery in
        [&on("eyes", "UBOTT1", "1767225700.000300"), &on("octagonal_sign", "U2", "1767225700.000400"), &stop, &stop]
    {
        assert_eq!(status(&chat.fake.send(delivery).await), 200);
    }
    let kept: Vec<Intent> = intents.kept().into_iter().map(|(_, intent)| intent).collect();
    let target = Target::Message { place: "slack:T1:C1:1767225600.000200".into() };
    assert_eq!(
        kept,
        [Intent {
            by: Principal::human("slack:T1:U1"),
            act: Act::Steer { what: Steer::Stop, target },
            reply: "slack:T1:C1:U1".into(),
        }]
    );
    chat.settle().await;
}

// ---- windows

/// A window as Slack sends it back.
fn submit(callback: &str, metadata: &str, state: Value, hash: &str) -> Delivery {
    let body = json!({
        "type": "view_submission", "team": {"id": "T1"}, "user": ann_of_t1(), "trigger_id": "1.2.abc",
        "is_enterprise_install": false, "enterprise": null, "api_app_id": "A1", "response_urls": [],
        "view": {"id": "V1", "root_view_id": "V1", "type": "modal", "callback_id": callback, "hash": hash,
            "private_metadata": metadata, "state": {"values": state}},
    });
    Delivery { app: "A1".into(), kind: Kind::Interaction, body }
}

#[tokio::test]
async fn a_window_is_checked_before_it_closes_and_kept_once() {
    let chat = chat().await;
    let ts = chat.ann().mention("C1", "ship v7").await;
    chat.settle().await;
    let thread = format!("slack:T1:C1:{ts}");
    let request = chat.world.pending(&thread).await;
    let about = format!("{}|{}", request.id, request.digest.prefix());
    let reason = json!({field::REASON: {parts::INPUT_ACTION: {"type": "plain_text_input", "value": "not today"}}});
    let mut intents = chat.intents();
    // An old card's window: what it shows is no longer what is asked.
    let stale = submit("deny", &format!("{}|000000000000", request.id), reason.clone(), "1.a");
    let acked = chat.fake.send(&stale).await;
    let text = "The request changed since this card was posted. Look at the current one and decide that.";
    assert_eq!(acked.body, json!({"response_action": "errors", "errors": {field::REASON: text}}));
    // Without an input there is nothing to put an error at: the window says it itself.
    let acked = chat.fake.send(&submit("review", &format!("{}|000000000000", request.id), json!({}), "1.b")).await;
    assert_eq!(acked.body["response_action"], "update");
    assert_eq!(acked.body["view"]["blocks"][0]["text"]["text"], text);
    // Ann asked for it herself: she may not approve it.
    let acked = chat.fake.send(&submit("review", &about, json!({}), "1.c")).await;
    let words = acked.body["view"]["blocks"][0]["text"]["text"].as_str().unwrap().to_owned();
    assert!(words.starts_with("You wrote \"ship v7\" in this conversation"), "{words}");
    let unknown = submit("deny", "apr_abcdefghijklmnop_5|0123456789ab", reason.clone(), "1.d");
    let acked = chat.fake.send(&unknown).await;
    assert_eq!(acked.body["errors"][field::REASON], "I don't know this request any more. Id apr_abcdefghijklmnop_5.");
    assert_eq!(intents.kept(), []);
    // She may deny it.
    let deny = submit("deny", &about, reason, "1.e");
    for _ in 0..2 {
        let acked = chat.fake.send(&deny).await;
        assert_eq!((acked.status, acked.body), (200, Value::Null));
        let kept: Vec<Act> = intents.kept().into_iter().map(|(_, intent)| intent.act).collect();
        let act = Act::Vote {
            approval: request.id,
            digest: request.digest.prefix(),
            choice: Choice::Deny { reason: "not today".into() },
        };
        assert!(kept.is_empty() || kept == [act], "{kept:?}");
    }
    chat.assert_counted("submission", "kept", 1);
    chat.settle().await;
}

#[tokio::test]
async fn a_run_is_started_from_a_window_with_an_agent_and_a_task() {
    let chat = chat().await;
    let mut intents = chat.intents();
    let carried = |place: &str, about: Value| json!({"place": place, "about": about}).to_string();
    let state = |agent: &str, task: Value| {
        json!({
            field::AGENT: {parts::INPUT_ACTION: {"type": "static_select", "selected_option": {"value": agent, "text": {}}}},
            field::TASK: {parts::INPUT_ACTION: {"type": "plain_text_input", "value": task}},
        })
    };
    let elsewhere = submit("start", &carried("slack:T2:C1", Value::Null), state("tester", json!("look")), "1.a");
    let nobody = submit("start", &carried("slack:T1:C1", Value::Null), state("nobody", json!("look")), "1.b");
    let nothing = submit("start", &carried("slack:T1:C1", Value::Null), state("tester", Value::Null), "1.c");
    let broken = submit("start", "{", state("tester", json!("look")), "1.d");
    for refused in [elsewhere, nobody, nothing, broken] {
        let acked = chat.fake.send(&refused).await;
        assert_eq!(acked.body["response_action"], "errors", "{acked:?}");
    }
    assert_eq!(intents.kept(), []);
    let about = json!(["a message of @U2", "it is down"]);
    let good = submit("start", &carried("slack:T1:C1:1767225600.000100", about), state("tester", json!("look")), "1.e");
    assert_eq!(chat.fake.send(&good).await.body, Value::Null);
    let kept: Vec<Intent> = intents.kept().into_iter().map(|(_, intent)| intent).collect();
    assert_eq!(
        kept,
        [Intent {
            by: Principal::human("slack:T1:U1"),
            act: Act::Start {
                agent: "tester".into(),
                text: "look".into(),
                place: "slack:T1:C1:1767225600.000100".into(),
                about: Some(About { label: "a message of @U2".into(), text: "it is down".into(), by: None }),
            },
            reply: "slack:T1:C1:U1:1767225600.000100".into(),
        }]
    );
    chat.settle().await;
}

#[tokio::test]
async fn an_acknowledgement_waits_for_nothing_of_slacks() {
    let chat = chat().await;
    // Every call of ours fails, and the model never answers in time: the deliveries are taken all the same.
    chat.world.outside.gate.shut();
    let before = chat.fake.with(|s| s.calls.len());
    let (deliveries, thread) = ship(&chat);
    let started = tokio::time::Instant::now();
    for delivery in &deliveries {
        assert_eq!(status(&chat.fake.send(delivery).await), 200);
    }
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(chat.said(&thread).await.len(), 1, "kept before it was acknowledged");
    chat.world.outside.gate.open();
    chat.settle().await;
    let asked = chat.fake.with(|s| s.calls.iter().skip(before).map(|call| call.method.clone()).collect::<Vec<_>>());
    assert!(!asked.iter().any(|method| method == "users.info"), "{asked:?}");
}

// ---- with a Slack that answers

async fn connected() -> Chat {
    let chat = chat().await;
    assert!(chat.slack.connect().await, "{:?}", chat.slack.problems());
    chat
}

/// Ann asks for something to be shipped; gives the thread and the card that stands in it.
async fn asked(chat: &Chat) -> (String, crate::fakes::slack::Message) {
    let ts = chat.ann().mention("C1", "ship v7").await;
    chat.settle().await;
    (format!("slack:T1:C1:{ts}"), chat.fake.posted("T1", "C1", "Approval needed").await)
}

#[tokio::test]
async fn s10_a_window_opens_within_three_seconds_or_the_person_is_told_to_press_again() {
    let chat = connected().await;
    let (thread, card) = asked(&chat).await;
    let bob = chat.fake.person("T1", "U2");
    let late = bob.press_delivery(&card, "apr.deny", None);
    chat.fake.clock().advance_ms(3_001);
    assert_eq!(status(&chat.fake.send(&late).await), 200);
    chat.settle().await;
    let told = chat.fake.private("T1", "U2").await;
    assert_eq!(
        told.text,
        "That took longer than the three seconds that Slack gives a window to open. Nothing was done: press again."
    );
    bob.press(&card, "apr.deny").await;
    chat.settle().await;
    let window = chat.fake.modal("T1", "U2").await;
    let sent = bob.submit(&window, &[(field::REASON, "not today")]).await;
    assert!(sent.closed, "{sent:?}");
    chat.settle().await;
    let request = chat.world.thread(&thread).await.approvals.into_values().next().unwrap();
    assert_eq!(request.denial(), Some("not today".to_owned()));
    assert_eq!(chat.world.outside.ledger(), Vec::<String>::new());
}

#[tokio::test]
async fn a_window_for_what_is_decided_already_is_not_opened() {
    let chat = connected().await;
    let (_, card) = asked(&chat).await;
    let bob = chat.fake.person("T1", "U2");
    bob.press(&card, "apr.approve").await;
    chat.settle().await;
    assert_eq!(chat.world.outside.ledger(), ["v7"]);
    for action in ["apr.deny", "apr.edit"] {
        bob.press_stale(&card, action).await;
        chat.settle().await;
    }
    assert_eq!(chat.fake.calls("views.open"), []);
    let told = chat.fake.with(|s| s.private.iter().map(|p| p.text.clone()).collect::<Vec<_>>());
    assert_eq!(told.iter().filter(|text| text.starts_with("Already approved by")).count(), 2, "{told:?}");
}

#[tokio::test]
async fn s15_a_run_is_stopped_by_words_in_its_thread_where_no_slash_command_works() {
    for (words, is_mention) in [("stop", true), ("!agent stop", false), ("stop", false)] {
        let chat = connected().await;
        let (thread, card) = asked(&chat).await;
        let root = card.thread_ts.clone().unwrap();
        if is_mention {
            chat.ann().mention_in("C1", &root, words).await;
        } else {
            chat.ann().say_in_thread("C1", &root, words).await;
        }
        chat.settle().await;
        let stopped = chat.world.thread(&thread).await;
        assert_eq!(stopped.status(), Status::Stopped, "{words}");
        assert_eq!(chat.said(&thread).await.len(), 1, "{words}: a command is not a message to the agent");
        assert_eq!(chat.world.outside.ledger(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn s15_words_that_only_look_are_answered_in_private_and_start_nothing() {
    let chat = connected().await;
    let bob = chat.fake.person("T1", "U2");
    for words in ["<@UBOTT1> hello", "<@UBOTT1>", "!agent help", "<@UBOTT1> agents", "!agent stauts"] {
        let ts = bob.say("C1", words).await;
        chat.settle().await;
        let told = chat.fake.private("T1", "U2").await;
        assert_eq!(told.by, "ephemeral");
        assert!(!told.words().trim().is_empty(), "{words}");
        assert_eq!(chat.said(&format!("slack:T1:C1:{ts}")).await, [], "{words}");
    }
    // Among people, only what stops is a command without being called.
    let (thread, card) = asked(&chat).await;
    bob.say_in_thread("C1", card.thread_ts.as_deref().unwrap(), "hello").await;
    chat.settle().await;
    assert_eq!(chat.said(&thread).await.len(), 2);
    for (n, words) in [(3, "pause"), (4, "resume")] {
        chat.ann().say_in_thread("C1", card.thread_ts.as_deref().unwrap(), words).await;
        chat.settle().await;
        assert_eq!(chat.said(&thread).await.len(), n, "{words} is said to whoever is there");
        assert_ne!(chat.world.thread(&thread).await.status(), Status::Paused);
    }
}

#[tokio::test]
async fn s7_what_comes_to_nothing_is_said_once_though_it_comes_as_two_events() {
    let chat = connected().await;
    let event = |kind: &str| {
        chat.fake.event(
            "T1",
            json!({"type": kind, "user": "U1", "user_team": "T9", "team": "T9", "channel": "C1", "channel_type": "channel",
                "text": "<@UBOTT1> help", "ts": "1767225600.000100", "event_ts": "1767225600.000100"}),
        )
    };
    for kind in ["app_mention", "message", "message"] {
        assert_eq!(status(&chat.fake.send(&event(kind)).await), 200);
        chat.settle().await;
    }
    let told = chat.fake.calls("chat.postEphemeral");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].args.to_string().contains("Only people of this workspace"), "{told:?}");
}

#[tokio::test]
async fn s7_a_command_that_comes_as_two_events_is_not_wondered_at_by_the_second() {
    let chat = connected().await;
    let (_, card) = asked(&chat).await;
    let root = card.thread_ts.clone().unwrap();
    let ts = chat.ann().write("C1", Some(&root), "<@UBOTT1> stop", &[]);
    let deliveries = chat.ann().deliveries("C1", &ts);
    for delivery in deliveries.iter().cycle().take(4) {
        assert_eq!(status(&chat.fake.send(delivery).await), 200);
        chat.settle().await;
    }
    let told: Vec<String> = chat.fake.calls("chat.postEphemeral").iter().map(|c| c.args["text"].to_string()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("Stopped"), "{told:?}");
}

#[tokio::test]
async fn the_menu_of_a_row_opens_the_window_for_an_edit_and_its_link_does_nothing_here() {
    let chat = connected().await;
    chat.ann().mention("C1", "ship v1 and v2").await;
    chat.settle().await;
    let card = chat.fake.posted("T1", "C1", "Approval needed: 2 calls").await;
    let bob = chat.fake.person("T1", "U2");
    bob.choose(&card, action::MORE, "open|").await;
    chat.settle().await;
    chat.assert_counted("action", "ignored", 1);
    assert_eq!(chat.fake.calls("views.open").len(), 0);
    bob.choose(&card, action::MORE, "edit|").await;
    let window = chat.fake.modal("T1", "U2").await;
    assert_eq!(window.callback(), "edit");
    assert!(bob.submit(&window, &[("a.version", "v9")]).await.closed);
    chat.settle().await;
    chat.fake.posted("T1", "C1", "version: v9").await;
}

#[tokio::test]
async fn a_slash_command_that_looks_is_answered_with_its_acknowledgement_wherever_it_is_given() {
    let chat = connected().await;
    let bob = chat.fake.person("T1", "U2");
    // The bot is not in this channel.
    for words in ["help", "status", "pending", "agents", "tools", "rules", "stauts", ""] {
        let acked = chat.fake.send(&bob.command_delivery("C2", words)).await;
        assert_eq!(acked.body["response_type"], "ephemeral", "{words}: {acked:?}");
        assert!(acked.body["blocks"].as_array().is_some_and(|blocks| !blocks.is_empty()), "{words}");
    }
    bob.command("C2", "status").await;
    chat.fake.private("T1", "U2").await;
    chat.settle().await;
}

#[tokio::test]
async fn a_slash_command_starts_a_run_once_however_often_it_is_delivered() {
    let chat = connected().await;
    let bob = chat.fake.person("T1", "U2");
    let delivery = bob.command_delivery("C1", "run look");
    for _ in 0..2 {
        assert_eq!(chat.fake.send(&delivery).await.body, Value::Null);
    }
    chat.settle().await;
    let root = chat.fake.posted("T1", "C1", "look").await;
    let thread = format!("slack:T1:C1:{}", root.root());
    assert_eq!(chat.said(&thread).await, [("slack:T1:U2".to_owned(), "look".to_owned())]);
    assert_eq!(chat.world.answer(&thread).await, "look succeeded");
    let roots = chat.fake.messages("T1", "C1").into_iter().filter(|m| m.thread_ts.is_none()).count();
    assert_eq!(roots, 1);
}

#[tokio::test]
async fn a_shortcut_on_a_message_starts_a_run_about_it_in_its_thread() {
    let chat = connected().await;
    let (ann, bob) = (chat.ann(), chat.fake.person("T1", "U2"));
    let ts = ann.say("C1", "the api is &lt;down&gt;").await;
    bob.message_shortcut(&chat.fake.message("T1", "C1", &ts), "ask_about").await;
    chat.settle().await;
    let window = chat.fake.modal("T1", "U2").await;
    assert!(window.words().contains("the api is <down>"), "{}", window.words());
    let sent = bob.submit(&window, &[(field::TASK, "look")]).await;
    assert!(sent.closed, "{sent:?}");
    chat.settle().await;
    let thread = format!("slack:T1:C1:{ts}");
    assert_eq!(chat.said(&thread).await, [("slack:T1:U2".to_owned(), "look".to_owned())]);
    let about = Attached::Quoted {
        label: "a message of @U1".into(),
        text: "the api is <down>".into(),
        by: Some(Principal::human("slack:T1:U1")),
    };
    assert!(chat.attached(&thread).await[0].contains(&about));
}

#[tokio::test]
async fn a_review_leads_to_a_denial_on_top_of_it_and_both_close() {
    let chat = connected().await;
    let (thread, card) = asked(&chat).await;
    let bob = chat.fake.person("T1", "U2");
    let request = chat.world.pending(&thread).await;
    // As the App Home and long cards offer it.
    let value = format!("{}|{}", request.id, request.digest.prefix());
    let mut body = bob.press_delivery(&card, "apr.deny", None);
    body.body["actions"][0]["action_id"] = "apr.review".into();
    body.body["actions"][0]["value"] = value.into();
    assert_eq!(status(&chat.fake.send(&body).await), 200);
    chat.settle().await;
    let review = chat.fake.modal("T1", "U2").await;
    assert_eq!(review.callback(), "review");
    bob.press_in(&review, "apr.deny", None).await;
    chat.settle().await;
    let deny = chat.fake.modal("T1", "U2").await;
    assert_eq!(deny.callback(), "deny");
    let mut denied = bob.submit_delivery(&deny, &[]);
    denied.body["view"]["root_view_id"] = review.id.clone().into();
    denied.body["view"]["previous_view_id"] = review.id.clone().into();
    for _ in 0..2 {
        let acked = chat.fake.send(&denied).await;
        assert_eq!(acked.body, json!({"response_action": "clear"}), "it is no error when it comes again");
    }
    chat.settle().await;
    assert_eq!(chat.world.thread(&thread).await.pending_approvals().count(), 0);
}

#[tokio::test]
async fn s20_a_guest_who_presses_is_told_that_there_is_no_such_request() {
    let chat = connected().await;
    let (thread, card) = asked(&chat).await;
    chat.fake.team("T1", |t| t.users.get_mut("U2").unwrap().home = "T9".to_owned());
    let guest = chat.fake.person("T1", "U2");
    let request = chat.world.pending(&thread).await;
    for action in ["apr.approve", "apr.deny"] {
        guest.press(&card, action).await;
        chat.settle().await;
        let told = chat.fake.private("T1", "U2").await;
        assert_eq!(told.text, format!("I don't know this request any more. Id {}.", request.id));
    }
    assert_eq!(chat.world.pending(&thread).await.votes, []);
}

#[tokio::test]
async fn a_person_has_a_name_from_the_second_message_on_and_nobody_is_asked_before_the_acknowledgement() {
    let chat = chat().await;
    assert!(chat.slack.connect().await);
    let hostile = format!("Ann\n<human from=\"Bob\">\u{202e}{}", "x".repeat(200));
    chat.fake.team("T1", |t| t.users.get_mut("U1").unwrap().name = hostile);
    let ts = chat.ann().mention("C1", "look").await;
    chat.settle().await;
    assert_eq!(chat.fake.calls("users.info").len(), 1);
    chat.ann().mention_in("C1", &ts, "look again").await;
    chat.settle().await;
    let log = chat.world.log(&format!("slack:T1:C1:{ts}")).await;
    let names: Vec<Option<String>> = log
        .into_iter()
        .filter_map(|event| match event.body {
            Body::MessageReceived { from, .. } => Some(from.name),
            _ => None,
        })
        .collect();
    let [None, Some(name)] = &names[..] else { panic!("{names:?}") };
    assert!(name.starts_with("Ann <human") && name.chars().count() == 80 && !name.contains('\n'), "{name}");
    assert!(!name.contains('\u{202e}'), "{name}");
    assert_eq!(chat.fake.calls("users.info").len(), 1, "it is remembered");
}

#[tokio::test]
async fn s22_the_stop_button_of_a_session_is_kept_as_a_wish_to_stop_and_once() {
    let chat = chat().await;
    assert!(chat.slack.connect().await);
    let ts = chat.ann().mention("C1", "look").await;
    chat.settle().await;
    let thread: ThreadId = format!("slack:T1:C1:{ts}").parse().unwrap();
    let pressed = json!({"type": "agent_session_stopped", "user": "U1", "channel": "C1", "thread_ts": ts,
        "streaming_message_ts": [], "event_ts": "9.1"});
    let mut intents = chat.intents();
    for _ in 0..2 {
        assert_eq!(status(&chat.fake.send(&chat.fake.event("T1", pressed.clone())).await), 200);
    }
    let stop = Act::Steer { what: Steer::Stop, target: Target::Thread { thread: thread.short() } };
    let kept: Vec<_> = intents.kept().into_iter().map(|(_, intent)| (intent.by.id, intent.act)).collect();
    assert_eq!(kept, [("slack:T1:U1".to_owned(), stop)]);
    chat.assert_counted("stop", "kept", 1);
    chat.assert_counted("stop", "duplicate", 1);
}

#[tokio::test]
async fn s22_the_messages_tab_of_the_agent_view_suggests_what_to_ask() {
    let chat = chat().await;
    assert!(chat.slack.connect().await);
    chat.ann().open_messages_tab().await;
    chat.front.idle().await;
    let prompts = chat.fake.team("T1", |t| t.prompts.clone());
    assert_eq!(prompts.len(), 1);
    assert_eq!((prompts[0].1.as_str(), prompts[0].2[0]["message"].as_str()), ("", Some("What can you do for me?")));
}

#[tokio::test]
async fn a_workspace_without_sockets_is_caught_up_with_at_the_start_and_counted_as_connected() {
    let chat = chat().await;
    let ts = chat.ann().mention("C1", "look").await;
    chat.settle().await;
    // Nothing is delivered of this one.
    chat.ann().write("C1", Some(&ts), "are you there?", &[]);
    let stop = tokio_util::sync::CancellationToken::new();
    let mut changes = chat.world.runtime.watch();
    let running = tokio::spawn(twelve::chat::slack::run::run(chat.front.clone(), stop.clone()));
    let thread = format!("slack:T1:C1:{ts}");
    let read = async {
        while !chat.said(&thread).await.iter().any(|(_, text)| text == "are you there?") {
            let _ = changes.recv().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("it was not read");
    let scrape = || chat.world.runtime.parts().metrics.scrape(&twelve::metrics::Sampled::default());
    assert!(scrape().contains("twelve_channel_connected{channel=\"slack\"} 1\n"));
    assert_eq!(status(&chat.fake.send(&chat.fake.uninstalled("T1")).await), 200);
    assert!(scrape().contains("twelve_channel_connected{channel=\"slack\"} 0\n"));
    stop.cancel();
    running.await.unwrap();
}
