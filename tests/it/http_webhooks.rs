//! Signed webhooks: whose a request is, what it says, and that one delivery starts one thread.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use twelve::agent::{Body as Fact, *};
use twelve::config::Loaded;
use twelve::config::layers::Sources;
use twelve::http::{Service, Settings};
use twelve::triggers::{Signed, TOLERANCE_MS, Triggers, Unsigned};

use crate::world::*;

const SECRET: &str = "a secret of the sender, long enough";
const ID: &str = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W";
const CONFIG: &str = r#"
[[triggers.webhooks]]
name = "alerts"
secret_env = "ALERTS_SECRET"
agent = "tester"
message = """
{% for i in payload.items|default([]) %}{{ i }} {% endfor %}
ship {{ payload.alert.version }}"""
"#;

fn load(file: &str, environment: &[(&str, &str)]) -> Loaded {
    let environment: Vec<_> = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let sources = Sources { file: Some(("twelve.toml", file)), dot_env: None, environment: &environment };
    Loaded::from_sources(&sources).unwrap_or_else(|problems| panic!("{problems}"))
}

fn compiled(w: &World, loaded: &Loaded) -> Result<Triggers, Vec<String>> {
    Triggers::new(&loaded.config.triggers, &w.runtime.parts().agents, |name| loaded.secret_in(name))
}

/// What is wrong with this file.
async fn refused(file: &str, environment: &[(&str, &str)]) -> String {
    let w = World::new().await;
    compiled(&w, &load(file, environment)).unwrap_err().join("\n")
}

fn service_of(w: &World, loaded: &Loaded) -> Service {
    let settings = Settings {
        http: loaded.config.http.clone(),
        app_name: "twelve".into(),
        secret: [0; 32],
        local_token: None,
        demo: None,
        stop: Default::default(),
        triggers: Arc::new(compiled(w, loaded).unwrap()),
        slack: None,
    };
    Service::new(w.runtime.clone(), settings)
}

fn service(w: &World) -> Service {
    service_of(w, &load(CONFIG, &[("ALERTS_SECRET", SECRET)]))
}

fn sign(secret: &[u8], id: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).unwrap();
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", data_encoding::BASE64.encode(&mac.finalize().into_bytes()))
}

fn seconds(w: &World) -> i64 {
    w.clock.now().0 / 1_000
}

fn request(path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let request = headers
        .iter()
        .fold(Request::post(path).header("host", "localhost"), |request, (name, value)| request.header(*name, *value));
    request.body(Body::from(body.to_owned())).unwrap()
}

/// Sends it and gives the status and the body.
async fn send(service: &Service, request: Request<Body>) -> (u16, Value) {
    let response = service.router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{status}: not JSON")))
}

/// What the sender does: signs the body now and posts it.
async fn deliver(w: &World, service: &Service, path: &str, id: &str, body: &str) -> (u16, Value) {
    let timestamp = seconds(w).to_string();
    let signature = sign(SECRET.as_bytes(), id, &timestamp, body);
    let headers = [("webhook-id", id), ("webhook-timestamp", &timestamp), ("webhook-signature", &signature)];
    let answer = send(service, request(path, &headers, body)).await;
    w.runtime.settle().await.unwrap();
    answer
}

async fn threads(w: &World) -> usize {
    w.runtime.parts().store.list(&twelve::store::Filter::default(), None, 100).await.unwrap().items.len()
}

fn short(thread: &str) -> String {
    thread.parse::<ThreadId>().unwrap().short().to_string()
}

const PATH: &str = "/webhooks/trigger?name=alerts";
const BODY: &str = r#"{"alert": {"version": "v7"}}"#;

#[tokio::test]
async fn a_signed_webhook_starts_its_agent_with_the_message_of_its_template() {
    let w = World::new().await;
    let (status, answer) = deliver(&w, &service(&w), PATH, ID, BODY).await;
    let id = answer["thread"].as_str().unwrap().to_owned();
    assert_eq!(
        (status, answer.clone()),
        (202, json!({"thread_id": short(&id), "thread": id, "status": "running", "duplicate": false}))
    );
    assert!(id.starts_with("webhook:alerts:") && id.len() == "webhook:alerts:".len() + 32, "{id}");
    let thread = w.thread(&id).await;
    let program = Principal::service("webhook:alerts");
    assert_eq!((thread.started_by.clone(), thread.agent.as_str()), (program, "tester"));
    let log = w.log(&id).await;
    let Fact::MessageReceived { text, .. } = &log[1].body else { panic!("{log:?}") };
    assert_eq!((text.as_str(), log[1].source.as_deref()), ("ship v7", Some(ID)));
    // Nobody is asked for more than the agent's own policy says: a person approves what a program began.
    assert_eq!(w.vote(&id, bob(), approve()).await, Answer::Accepted);
    assert_eq!(w.outside.ledger(), ["v7"]);
}

#[tokio::test]
async fn the_name_may_be_left_out_where_there_is_only_one_webhook() {
    let w = World::new().await;
    let one = service(&w);
    assert_eq!(deliver(&w, &one, "/webhooks/trigger", ID, BODY).await.0, 202);
    let other = CONFIG.replace("\"alerts\"", "\"other\"").replace("ALERTS_SECRET", "OTHER_SECRET");
    let environment = [("ALERTS_SECRET", SECRET), ("OTHER_SECRET", "another secret, long enough as well")];
    let two = service_of(&w, &load(&format!("{CONFIG}{other}"), &environment));
    let (status, answer) = deliver(&w, &two, "/webhooks/trigger", "msg_2", BODY).await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("no_name")));
    // The name is not signed: what is right for one is wrong for the other.
    let (status, answer) = deliver(&w, &two, "/webhooks/trigger?name=other", "msg_2", BODY).await;
    assert_eq!((status, answer["code"].as_str()), (401, Some("bad_signature")));
    for path in ["/webhooks/trigger?name=alert", "/webhooks/trigger?name="] {
        let (status, answer) = deliver(&w, &two, path, "msg_2", BODY).await;
        assert_eq!((status, answer["code"].as_str()), (404, Some("no_such_webhook")), "{path}");
    }
    let none = service_of(&w, &load("", &[]));
    assert_eq!(deliver(&w, &none, "/webhooks/trigger", "msg_2", BODY).await.0, 404);
    let (status, answer) = deliver(&w, &one, "/webhooks/trigger?name=alerts&name=x", "msg_2", BODY).await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("query")));
    assert_eq!(threads(&w).await, 1);
}

#[tokio::test]
async fn a_request_that_its_sender_did_not_sign_just_now_is_refused_without_saying_why() {
    let w = World::new().await;
    let service = service(&w);
    let now = seconds(&w);
    let tolerance = (TOLERANCE_MS / 1_000) as i64;
    let secret = SECRET.as_bytes();
    let (at, right) = (now.to_string(), sign(secret, ID, &now.to_string(), BODY));
    let many = format!("{} {right}", ["v1,AAAA"; 16].join(" "));
    let row = |what: &'static str, id: &str, at: &str, signature: &str| {
        (what, id.to_owned(), at.to_owned(), signature.to_owned())
    };
    // What is wrong with these is not the signature.
    let signed = |what: &'static str, id: &str, at: &str| row(what, id, at, &sign(secret, id, at, BODY));
    let table = [
        row("nothing of it", "", "", ""),
        row("no signature", ID, &at, ""),
        row("another secret", ID, &at, &sign(b"another secret, long enough as well", ID, &at, BODY)),
        row("no secret", ID, &at, &sign(b"", ID, &at, BODY)),
        row("another body", ID, &at, &sign(secret, ID, &at, &BODY.replace("v7", "v8"))),
        row("the body as it is when parsed", ID, &at, &sign(secret, ID, &at, &BODY.replace(' ', ""))),
        row("another id", "msg_other", &at, &right),
        row("another time", ID, &(now - 1).to_string(), &right),
        signed("signed too long ago", ID, &(now - tolerance - 1).to_string()),
        signed("signed in the future", ID, &(now + tolerance + 1).to_string()),
        signed("milliseconds", ID, &w.clock.now().0.to_string()),
        signed("a time with a sign", ID, &format!("+{at}")),
        signed("a time with a fraction", ID, &format!("{at}.0")),
        signed("no time", ID, ""),
        signed("a time beyond all numbers", ID, &"9".repeat(40)),
        signed("a time beyond milliseconds", ID, "9223372036854775807"),
        signed("no id", "", &at),
        signed("an id that is too long", &"x".repeat(257), &at),
        signed("an id with a space", "msg 1", &at),
        signed("an id with a full stop", &format!("{ID}.{at}"), &at),
        row("no version", ID, &at, right.trim_start_matches("v1,")),
        row("another version", ID, &at, &right.replace("v1,", "v2,")),
        row("the version of other keys", ID, &at, &right.replace("v1,", "v1a,")),
        row("a version in capitals", ID, &at, &right.replace("v1,", "V1,")),
        row("hexadecimal", ID, &at, &format!("v1,{}", "ab".repeat(32))),
        row("without padding", ID, &at, right.trim_end_matches('=')),
        row("half of it", ID, &at, &right[..25]),
        row("one byte more", ID, &at, &format!("v1,AA{}", &right[3..])),
        row("commas between several", ID, &at, &format!("v1,AAAA,{right}")),
        row("behind too many others", ID, &at, &many),
    ];
    let mut answers = std::collections::BTreeSet::new();
    for (what, id, timestamp, signature) in &table {
        let headers = [("webhook-id", id.as_str()), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
        let (status, answer) = send(&service, request(PATH, &headers, BODY)).await;
        assert_eq!(status, 401, "{what}: {answer}");
        answers.insert(answer.to_string());
    }
    // Missing altogether, or given twice.
    let all = [("webhook-id", ID), ("webhook-timestamp", at.as_str()), ("webhook-signature", right.as_str())];
    for left_out in 0..3 {
        let some: Vec<_> = (0..3).filter(|i| *i != left_out).map(|i| all[i]).collect();
        let twice: Vec<_> = all.iter().chain([&all[left_out]]).copied().collect();
        for headers in [some, twice] {
            let (status, answer) = send(&service, request(PATH, &headers, BODY)).await;
            assert_eq!(status, 401, "{headers:?}");
            answers.insert(answer.to_string());
        }
    }
    assert_eq!(answers.len(), 1, "all of them are told the same: {answers:?}");
    assert_eq!(threads(&w).await, 0);
    assert_eq!(send(&service, request(PATH, &all, BODY)).await.0, 202, "and the right one is right");
}

#[tokio::test]
async fn a_sender_may_sign_with_several_keys_and_up_to_five_minutes_off() {
    let w = World::new().await;
    let service = service(&w);
    let tolerance = (TOLERANCE_MS / 1_000) as i64;
    for (id, off) in [("msg_1", -tolerance), ("msg_2", tolerance), ("msg_3", 0)] {
        let at = (seconds(&w) + off).to_string();
        let right = sign(SECRET.as_bytes(), id, &at, BODY);
        let several = format!("{} v1a,AAAA  {right} v9,what", sign(b"the key from before, long enough", id, &at, BODY));
        let headers = [("webhook-id", id), ("webhook-timestamp", at.as_str()), ("webhook-signature", several.as_str())];
        assert_eq!(send(&service, request(PATH, &headers, BODY)).await.0, 202, "{id}");
    }
    assert_eq!(threads(&w).await, 3);
}

#[tokio::test]
async fn the_example_of_the_specifications_libraries_is_found_right() {
    let w = World::new().await;
    // From the test suites of the specification's reference libraries.
    let (id, timestamp) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
    let body = br#"{"test": 2432232314}"#;
    let signed = Signed { id, timestamp, signatures: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" };
    let now = Timestamp(1_614_265_330_000);
    for secret in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", " whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"] {
        let triggers = compiled(&w, &load(CONFIG, &[("ALERTS_SECRET", secret)])).unwrap();
        assert_eq!(triggers.webhooks()[0].check(signed, body, now), Ok(()));
        assert_eq!(triggers.webhooks()[0].check(signed, b"{}", now), Err(Unsigned::Signature));
    }
    // Without the prefix it is the text itself that signs.
    let triggers = compiled(&w, &load(CONFIG, &[("ALERTS_SECRET", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")])).unwrap();
    assert_eq!(triggers.webhooks()[0].check(signed, body, now), Err(Unsigned::Signature));
}

#[tokio::test]
async fn a_delivery_that_comes_again_finds_its_thread_and_changes_nothing() {
    let mut w = World::new().await;
    let first = deliver(&w, &service(&w), PATH, ID, BODY).await.1;
    let id = first["thread"].as_str().unwrap().to_owned();
    let version = w.thread(&id).await.version;
    // The very same bytes, and another body under the same id.
    let same = json!({"thread_id": short(&id), "thread": id, "status": "waiting_approval", "duplicate": true});
    for body in [BODY, r#"{"alert": {"version": "v8"}}"#, "{}"] {
        assert_eq!(deliver(&w, &service(&w), PATH, ID, body).await, (202, same.clone()));
    }
    // A restart, and the three days for which a sender tries.
    w.vote(&id, bob(), approve()).await;
    w.crash().await;
    w.advance(3 * 86_400_000).await;
    let done = json!({"thread_id": short(&id), "thread": id, "status": "done", "duplicate": true});
    assert_eq!(deliver(&w, &service(&w), PATH, ID, BODY).await, (202, done));
    assert_eq!((threads(&w).await, w.outside.ledger()), (1, vec!["v7".to_owned()]));
    assert!(w.thread(&id).await.version > version);
    // Deleting the thread does not invite the delivery again, nor tell the sender to stop altogether (410).
    w.runtime.parts().store.delete(id.parse::<ThreadId>().unwrap().short(), "ann", w.clock.now()).await.unwrap();
    w.crash().await;
    let deleted = json!({"thread_id": short(&id), "thread": id, "status": "deleted", "duplicate": true});
    assert_eq!(deliver(&w, &service(&w), PATH, ID, BODY).await, (202, deleted));
    assert_eq!(threads(&w).await, 0);
}

#[tokio::test]
async fn attempts_that_come_at_once_start_one_run() {
    let w = World::new().await;
    let service = service(&w);
    let attempts = (0..8).map(|_| deliver(&w, &service, PATH, ID, BODY));
    let answers = futures_util::future::join_all(attempts).await;
    assert!(answers.iter().all(|(status, _)| *status == 202), "{answers:?}");
    assert_eq!(answers.iter().filter(|(_, answer)| answer["duplicate"] == false).count(), 1);
    let id = answers[0].1["thread"].as_str().unwrap();
    let messages = w.names(id).await.into_iter().filter(|name| *name == "message_received").count();
    assert_eq!((threads(&w).await, messages), (1, 1));
}

/// The signature is over the raw bytes, so it comes first: nothing is parsed for a stranger.
#[tokio::test]
async fn a_body_that_cannot_be_read_is_said_to_who_signed_it_and_to_nobody_else() {
    let w = World::new().await;
    let service = service(&w);
    let broken = r#"{"a": 1, "a": "#;
    assert_eq!(deliver(&w, &service, PATH, ID, broken).await.1["code"], "body");
    let asked = Request::post(PATH)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("webhook-id", ID)
        .header("webhook-timestamp", (w.clock.now().0 / 1_000).to_string())
        .header("webhook-signature", "v1,AAAA")
        .body(Body::from(broken))
        .unwrap();
    let answer = service.router().oneshot(asked).await.unwrap();
    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn what_a_payload_does_wrong_is_said_and_starts_nothing() {
    let w = World::new().await;
    let service = service(&w);
    let long = format!(r#"{{"alert": {{"version": "{}"}}}}"#, "x".repeat(200_000));
    let huge = format!(r#"{{"alert": {{"version": "{}"}}}}"#, "x".repeat(1 << 20));
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let table: [(&str, u16, &str, &str); 11] = [
        ("not json", 400, "body", "The body cannot be used: not valid JSON"),
        ("", 400, "body", "not valid JSON"),
        (r#"["a"]"#, 400, "body", "it is not a JSON object"),
        ("7", 400, "body", "it is not a JSON object"),
        (r#"{"a": 1, "a": 2}"#, 400, "body", "the key `a` occurs twice"),
        (&deep, 400, "body", "nested deeper"),
        ("{}", 422, "template", "line 2 of the message: the payload has no `alert"),
        (r#"{"alert": {"versio": "v1"}}"#, 422, "template", "the payload has no `alert.version`."),
        (r#"{"alert": {"version": "v1"}, "items": 7}"#, 422, "template", "line 1 of the message: "),
        (&long, 413, "message_too_long", ""),
        (&huge, 413, "body_too_large", "more than 1048576 bytes"),
    ];
    for (body, status, code, words) in table {
        let (given, answer) = deliver(&w, &service, PATH, ID, body).await;
        let detail = answer["detail"].as_str().unwrap();
        let shown: String = body.chars().take(60).collect();
        assert_eq!((given, answer["code"].as_str()), (status, Some(code)), "{shown}: {answer}");
        assert!(detail.contains(words), "{shown}: {detail}");
    }
    assert_eq!(deliver(&w, &service, PATH, ID, r#"{"alert": {}}"#).await.1["missing"], "payload.alert.version");
    // What a filter could swallow is missing as well; what a default fills is not.
    for (template, expected) in [
        ("{{ payload.a | tojson }}", Err(Some("payload.a".to_owned()))),
        ("{{ payload.a | upper }}", Err(Some("payload.a".to_owned()))),
        ("{% if payload.a %}x{% endif %}", Err(Some("payload.a".to_owned()))),
        ("{{ payload.a.b.c }}", Err(Some("payload.a.b.c".to_owned()))),
        ("{{ payload.a | default('none') }}", Ok("none".to_owned())),
        ("{% if payload.a is defined %}x{% else %}y{% endif %}", Ok("y".to_owned())),
        ("{{ payload }}", Ok("{}".to_owned())),
    ] {
        let file = format!(
            "[[triggers.webhooks]]\nname = \"a\"\nsecret_env = \"A\"\nagent = \"tester\"\nmessage = \"{template}\"\n"
        );
        let triggers = compiled(&w, &load(&file, &[])).unwrap();
        assert_eq!(triggers.webhooks()[0].message(&json!({})).map_err(|e| e.missing), expected, "{template}");
    }
    // A loop over what the sender chose ends with the fuel, not with the memory.
    let items = format!(r#"{{"items": [{}0], "alert": {{"version": "v1"}}}}"#, "0,".repeat(100_000));
    let (status, answer) = deliver(&w, &service, PATH, ID, &items).await;
    assert_eq!((status, answer["code"].as_str()), (422, Some("template")), "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("more work than is allowed"), "{answer}");
    assert_eq!(threads(&w).await, 0);
    // Nothing of it is held against the id.
    assert_eq!(deliver(&w, &service, PATH, ID, BODY).await.0, 202);
    let response = service
        .router()
        .oneshot(Request::get(PATH).header("host", "localhost").body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_webhook_without_its_secret_takes_nothing_and_says_what_to_set() {
    let w = World::new().await;
    for environment in [vec![], vec![("ALERTS_SECRET", " ")]] {
        let loaded = load(CONFIG, &environment);
        let missing = compiled(&w, &loaded).unwrap().missing();
        assert!(
            missing[0].starts_with("webhook `alerts`: the environment variable ALERTS_SECRET is not set; "),
            "{missing:?}"
        );
        let service = service_of(&w, &loaded);
        let at = seconds(&w).to_string();
        let headers =
            [("webhook-id", ID), ("webhook-timestamp", &at), ("webhook-signature", &sign(b"", ID, &at, BODY))];
        assert_eq!(send(&service, request(PATH, &headers, BODY)).await.0, 401);
    }
    assert_eq!(compiled(&w, &load(CONFIG, &[("ALERTS_SECRET", SECRET)])).unwrap().missing(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_the_start_with_what_was_meant() {
    let with = |from: &str, to: &str| CONFIG.replace(from, to);
    let long_enough = [("ALERTS_SECRET", SECRET)];
    for (file, words) in [
        (
            with("\"tester\"", "\"testr\""),
            "webhook `alerts`: no agent is called `testr`; did you mean `tester`? (agents: tester)",
        ),
        (with("\"alerts\"", "\"a:b\""), "webhook `a:b`: a name is made of 1 to 64 letters, digits, - and _"),
        (format!("{CONFIG}{CONFIG}"), "webhook `alerts`: another one has this name"),
        (
            with("payload.alert.version", "alert.version"),
            "webhook `alerts`: the message uses `alert.version`; there is only `payload` (write `payload.alert.version`?)",
        ),
        (with("ship {{", "ship\n{% if %}{{"), "webhook `alerts`: line 3 of the message: syntax error: "),
        (
            with("\"alerts\"", "\"other\"") + CONFIG,
            "webhook `alerts`: it has the secret of `other`; each needs its own",
        ),
    ] {
        let problems = refused(&file, &long_enough).await;
        assert!(problems.contains(words), "{problems}");
    }
    for (secret, words) in [
        ("short", "the secret in ALERTS_SECRET has 5 bytes; at least 24 are needed"),
        ("whsec_c2hvcnQ=", "has 5 bytes; at least 24 are needed"),
        ("whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", "begins with whsec_, but what follows is not base64"),
    ] {
        let problems = refused(CONFIG, &[("ALERTS_SECRET", secret)]).await;
        assert!(problems.contains(words) && !problems.contains("!!!"), "{problems}");
    }
}

#[tokio::test]
async fn a_signing_secret_is_kept_out_of_every_log() {
    let w = World::new().await;
    let loaded = load(CONFIG, &[("ALERTS_SECRET", SECRET), ("OTHER", "not a secret of ours")]);
    assert_eq!(loaded.secret_filter().clean(&format!("it is {SECRET}")), "it is [secret removed: configured secret]");
    assert_eq!(loaded.secret_filter().clean("not a secret of ours"), "not a secret of ours");
    assert!(!format!("{loaded:?}{:?}", compiled(&w, &loaded).unwrap()).contains(SECRET));
}
