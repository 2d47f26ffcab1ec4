//! The REST API over the whole service: what each caller can do, see and repeat.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use twelve::agent::{Approvers, Policy, Principal};
use twelve::config::{HttpConfig, Scope, TokenConfig};
use twelve::http::docs::document;
use twelve::runtime::Said;

use crate::http_api::{Api, http_config, request, tokens};
use crate::world::{World, ann};

const NOWHERE: &str = "aaaaaaaaaaaaaaaa";

async fn pending(api: &Api, caller: &str, thread: &str) -> Value {
    let status = api.status(caller, thread).await;
    assert_eq!(status["status"], "waiting_approval", "{status}");
    status["approvals"][0].clone()
}

#[tokio::test]
async fn a_start_is_kept_worked_on_and_answered() {
    let api = Api::new().await;
    let reply =
        api.post("ci", "/agents/start", json!({"message": "hi", "agent_type": "tester", "user_id": "u 1"})).await;
    let started = reply.ok(202);
    let id = started["thread_id"].as_str().unwrap();
    assert_eq!(reply.headers["location"], format!("/agents/{id}/status"));
    assert_eq!((&started["agent"], &started["user_id"]), (&json!("tester"), &json!("u 1")));
    api.world.runtime.settle().await.unwrap();
    let status = api.status("ci", id).await;
    assert_eq!(status["status"], "done");
    assert_eq!(status["answer"], "hello (scripted answer)");
    assert_eq!(status["requester"], "api:ci");
    // The whole id names the same thread.
    let whole = started["thread"].as_str().unwrap().replace(':', "%3A");
    assert_eq!(api.status("ci", &whole).await["thread_id"], *id);
    // What `user_id` says stands in the log as where the message came from, never as who wrote it.
    let history = api.get("ci", &format!("/agents/{id}/history")).await.ok(200);
    let message = &history["items"][1];
    assert!(message["source"].as_str().unwrap().starts_with("user:u 1:"), "{message}");
    assert_eq!(message["data"]["from"], json!({"kind": "service", "id": "api:ci"}));
}

#[tokio::test]
async fn a_start_tried_twice_with_one_key_is_one_thread_and_one_message() {
    let mut api = Api::new().await;
    let body = json!({"message": "hi"});
    let first = api.post_with_key("ci", "k1", "/agents/start", body.clone()).await.ok(202);
    api.world.runtime.settle().await.unwrap();
    let again = api.post_with_key("ci", "k1", "/agents/start", body.clone()).await.ok(202);
    assert_eq!(first["thread_id"], again["thread_id"]);
    api.crash().await;
    // Also after a restart, and long after the core has forgotten the delivery.
    api.world.advance(48 * 3_600_000).await;
    let late = api.post_with_key("ci", "k1", "/agents/start", body.clone()).await.ok(202);
    assert_eq!(first["thread_id"], late["thread_id"]);
    let id = first["thread_id"].as_str().unwrap();
    let history = api.get("ci", &format!("/agents/{id}/history")).await.ok(200);
    let messages = history["items"].as_array().unwrap().iter().filter(|e| e["type"] == "message_received");
    assert_eq!(messages.count(), 1);

    let other = api.post_with_key("ci", "k1", "/agents/start", json!({"message": "something else"})).await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused".into()));
    let theirs = api.post_with_key("eve", "k1", "/agents/start", body).await.ok(202);
    assert_ne!(first["thread_id"], theirs["thread_id"], "a key is its caller's own");
    for bad in ["", "two words", &"x".repeat(201)] {
        let reply = api.post_with_key("ci", bad, "/agents/start", json!({"message": "hi"})).await;
        assert_eq!(reply.problem(), (400, "bad_idempotency_key".into()));
    }
}

#[tokio::test]
async fn a_message_to_a_thread_that_exists_is_applied_once_for_a_key() {
    let api = Api::new().await;
    let id = api.start("ci", "hi").await;
    let body = json!({"message": "look", "thread_id": id});
    for _ in 0..2 {
        api.post_with_key("ci", "k2", "/agents/start", body.clone()).await.ok(202);
        api.world.runtime.settle().await.unwrap();
    }
    assert_eq!(api.world.outside.looks.load(std::sync::atomic::Ordering::SeqCst), 1);
    let other = json!({"message": "note", "thread_id": id});
    let reused = api.post_with_key("ci", "k2", "/agents/start", other).await;
    assert_eq!(reused.problem(), (422, "idempotency_key_reused".into()));
    for nobody in [NOWHERE, "not an id"] {
        let reply = api.post("ci", "/agents/start", json!({"message": "hi", "thread_id": nobody})).await;
        assert_eq!(reply.problem(), (404, "no_such_thread".into()));
    }
}

#[tokio::test]
async fn texts_from_outside_come_with_a_start_or_a_message_as_data() {
    let api = Api::new().await;
    let secret = ["AKIA", "ABCDEFGHIJKLMNOP"].concat();
    let body =
        json!({"message": "ship v1", "context": {"label": format!("mail {secret}"), "text": format!("now! {secret}")}});
    let first = api.post_with_key("ci", "k9", "/agents/start", body.clone()).await.ok(202);
    api.world.runtime.settle().await.unwrap();
    let id = first["thread_id"].as_str().unwrap();
    let thread = api.world.runtime.thread(id.parse().unwrap()).await.unwrap();
    let window = thread.window.render();
    assert!(window.contains("<attached name=\"mail ") && window.contains("untrusted=\"yes\">\nnow! "), "{window}");
    assert!(!window.contains(&secret), "{window}");
    let request = thread.pending_approvals().next().unwrap();
    assert!(request.terms.untrusted.describe().starts_with("mail "), "{:?}", request.terms);
    // Tried again with the same key it is the same; with another context it is another request.
    let again = api.post_with_key("ci", "k9", "/agents/start", body.clone()).await.ok(202);
    assert_eq!(again["thread_id"], first["thread_id"]);
    for context in [json!({"label": "mail", "text": "other"}), json!([]), Value::Null] {
        let mut other = body.clone();
        other["context"] = context;
        let reused = api.post_with_key("ci", "k9", "/agents/start", other).await;
        assert_eq!(reused.problem(), (422, "idempotency_key_reused".into()));
    }
    // With a message to a thread that exists, several.
    let id = api.start("ci", "hi").await;
    let texts = json!([{"label": "a", "text": "x"}, {"label": "b", "text": "y"}]);
    api.post("ci", "/agents/start", json!({"message": "look", "thread_id": id, "context": texts})).await.ok(202);
    api.world.runtime.settle().await.unwrap();
    let thread = api.world.runtime.thread(id.parse().unwrap()).await.unwrap();
    assert_eq!(thread.untrusted.describe(), "a; b");
    let history = api.get("ci", &format!("/agents/{id}/history")).await.ok(200);
    assert!(history.to_string().contains("with texts from outside: a; b"), "{history}");
    for (context, status, code) in [
        (json!("text"), 422, "invalid_body"),
        (json!({"text": "x"}), 422, "invalid_body"),
        (json!({"label": "a", "text": "x", "url": "y"}), 422, "invalid_body"),
        (json!({"label": " ", "text": "x"}), 422, "empty_context"),
        (json!([{"label": "a", "text": "x"}, {"label": "a", "text": " "}]), 422, "empty_context"),
        (json!(vec![json!({"label": "a", "text": "x"}); 21]), 413, "context_too_long"),
        (json!({"label": "a", "text": "x".repeat(131_072)}), 413, "context_too_long"),
    ] {
        let reply = api.post("ci", "/agents/start", json!({"message": "hi", "context": context})).await;
        assert_eq!(reply.problem(), (status, code.to_owned()), "{reply:?}");
        assert!(reply.text.contains("label") || reply.text.contains("at most 20"), "{reply:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let api = Api::new().await;
    for (body, status, code, words) in [
        (json!({"message": "hi", "agent_type": "testr"}), 422, "unknown_agent", "did you mean `tester`"),
        (json!({"message": "  "}), 422, "empty_message", "empty"),
        (json!({"message": "x".repeat(200_000)}), 413, "message_too_long", "at most 102400"),
        (json!({"message": 5}), 422, "invalid_body", "expected a string"),
        (json!({"mesage": "hi"}), 422, "invalid_body", "unknown field `mesage`"),
        (json!({}), 422, "invalid_body", "missing field `message`"),
        (json!(["hi", null, null, null]), 422, "invalid_body", "JSON object"),
        (json!({"message": "hi", "user_id": "a\u{7}"}), 422, "bad_user_id", "label"),
    ] {
        let reply = api.post("ci", "/agents/start", body).await;
        assert_eq!(reply.problem(), (status, code.to_owned()), "{reply:?}");
        assert!(reply.text.contains(words), "{reply:?}");
    }
    let list = api.get("boss", "/agents").await.ok(200);
    assert_eq!(list["items"], json!([]), "nothing was kept of any of them");
}

#[tokio::test]
async fn an_open_question_is_answered_once_by_a_person() {
    let api = Api::new().await;
    let id = api.start("ann", "ask me").await;
    let status = api.status("ann", &id).await;
    assert_eq!(status["status"], "waiting_answer");
    assert_eq!(status["questions"][0]["choices"], json!(["left", "right"]));
    let path = format!("/agents/{id}/resume");
    let wrong = api.post("ann", &path, json!({"human_response": "up"})).await;
    assert_eq!(wrong.problem(), (422, "not_a_choice".into()));
    for _ in 0..2 {
        api.post_with_key("ann", "k3", &path, json!({"human_response": "left"})).await.ok(200);
        api.world.runtime.settle().await.unwrap();
    }
    let reused = api.post_with_key("ann", "k3", &path, json!({"human_response": "right"})).await;
    assert_eq!(reused.problem(), (422, "idempotency_key_reused".into()));
    let status = api.status("ann", &id).await;
    assert_eq!((&status["status"], &status["answer"]), (&json!("done"), &json!("thank you (scripted answer)")));
    let late = api.post("ann", &path, json!({"human_response": "left"})).await;
    assert_eq!(late.problem(), (409, "nothing_waits".into()));

    let id = api.start("ci", "ask me").await;
    let program = api.post("ci", &format!("/agents/{id}/resume"), json!({"human_response": "left"})).await;
    assert_eq!(program.problem(), (403, "not_a_person".into()));
}

#[tokio::test]
async fn a_run_is_paused_resumed_with_words_and_stopped() {
    let api = Api::new().await;
    let id = api.start("ci", "ship v1").await;
    let path = |verb: &str| format!("/agents/{id}/{verb}");
    assert_eq!(api.post("ci", &path("pause"), json!({"why": "lunch"})).await.ok(200)["paused"], "lunch");
    // Said twice, it is so all the same; a body may be left out.
    assert_eq!(api.read(request(Method::POST, &path("pause"), Some("ci"), &[], None)).await.ok(200)["paused"], "lunch");
    assert_eq!(api.post("ci", &path("pause"), Value::Null).await.ok(200)["paused"], "lunch");
    let resumed = api.post("ci", &path("resume"), json!({"human_response": "go on"})).await.ok(200);
    assert_eq!(resumed["paused"], Value::Null);
    for _ in 0..2 {
        assert_eq!(api.post("ci", &path("stop"), json!({"why": "enough"})).await.ok(200)["status"], "stopped");
    }
    assert_eq!(api.post("ci", &path("pause"), json!({})).await.problem(), (409, "nothing_runs".into()));
    for _ in 0..2 {
        assert_eq!(api.post("ci", &path("cancel"), json!({})).await.ok(200)["status"], "cancelled");
    }
    let more = api.post("ci", "/agents/start", json!({"message": "hi", "thread_id": id})).await;
    assert_eq!(more.problem(), (409, "cancelled".into()));
    assert_eq!(api.world.outside.ledger(), Vec::<String>::new());
    let names = api.world.runtime.parts().store.load(id.parse().unwrap(), 0).await.unwrap().events.len();
    assert_eq!(api.status("ci", &id).await["version"], names);
}

#[tokio::test]
async fn an_approval_is_shown_whole_and_decided_once() {
    let api = Api::new().await;
    let id = api.start("ci", "ship v1").await;
    let open = pending(&api, "ci", &id).await;
    let approval = open["id"].as_str().unwrap();
    let shown = api.get("bob", &format!("/approvals/{approval}")).await.ok(200);
    for (key, value) in [
        ("open", json!(true)),
        ("state", json!("pending")),
        ("tool", json!("ship")),
        ("schema_version", json!(1)),
        ("args", json!({"version": "v1"})),
        ("requesters", json!(["api:ci"])),
        ("risk", json!("high")),
        ("revision", json!(1)),
        ("headline", json!("Approval needed: ship v1")),
        ("plan", json!({"summary": "now v0 -> v1", "facts": {"now": "v0", "to": "v1"}})),
        ("votes", json!([])),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    let path = format!("/approvals/{approval}/decision");
    let digest = shown["digest"].as_str().unwrap().to_owned();
    for (body, status, code) in [
        (json!({"decision": "approve"}), 422, "invalid_body"),
        (json!({"decision": "maybe", "revision": 1}), 422, "invalid_body"),
        (json!({"decision": "approve", "revision": 2}), 409, "revision_changed"),
        (json!({"decision": "approve", "revision": 1, "digest": "000000000000"}), 409, "revision_changed"),
        (json!({"decision": "approve", "revision": 1, "digest": &digest[..11]}), 409, "revision_changed"),
        (json!({"decision": "approve", "revision": 1, "args": {}}), 422, "args_and_decision"),
        (json!({"decision": "edit", "revision": 1}), 422, "args_and_decision"),
        (json!({"decision": "edit", "revision": 1, "args": {"version": 5}}), 422, "invalid_edit"),
        (json!({"decision": "deny", "revision": 1, "note": "x".repeat(4_001)}), 422, "note_too_long"),
    ] {
        let reply = api.post("bob", &path, body).await;
        assert_eq!(reply.problem(), (status, code.to_owned()), "{reply:?}");
    }
    assert_eq!(api.world.outside.ledger(), Vec::<String>::new());
    let body = json!({"decision": "approve", "revision": 1, "digest": &digest[..12], "note": "tested"});
    let decided = api.post_with_key("bob", "d1", &path, body.clone()).await.ok(200);
    assert_eq!(decided["by"], json!(["api:bob"]));
    api.world.runtime.settle().await.unwrap();
    assert_eq!(api.world.outside.ledger(), ["v1"]);

    let again = api.post_with_key("bob", "d1", &path, body).await.ok(200);
    assert_eq!((&again["state"], &again["by"]), (&json!("succeeded"), &json!(["api:bob"])));
    let other = api.post_with_key("bob", "d1", &path, json!({"decision": "deny", "revision": 1})).await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused".into()));
    let late = api.post("ann", &path, json!({"decision": "deny", "revision": 1})).await;
    assert_eq!(late.problem(), (409, "already_decided".into()));
    let late = late.json();
    assert_eq!((&late["by"], &late["at"], &late["state"]), (&json!(["api:bob"]), &decided["at"], &json!("succeeded")));
    assert_eq!(late["detail"], "Already approved by bob (2026-01-01T00:00:00Z). It succeeded.");
    let after = api.get("bob", &format!("/approvals/{approval}")).await.ok(200);
    assert_eq!(
        (&after["state"], &after["tool"], &after["result"]),
        (&json!("succeeded"), &json!("ship"), &json!("shipped v1"))
    );
    assert_eq!(after["history"].as_array().unwrap().last().unwrap()["type"], "tool_finished");
}

#[tokio::test]
async fn who_asked_does_not_decide_and_what_expired_is_gone() {
    let api = Api::new().await;
    let id = api.start("ann", "ship v1").await;
    let approval = pending(&api, "ann", &id).await["id"].as_str().unwrap().to_owned();
    let path = format!("/approvals/{approval}/decision");
    let approve = json!({"decision": "approve", "revision": 1});
    assert_eq!(api.post("ann", &path, approve.clone()).await.problem(), (403, "requester_may_not".into()));
    api.world.advance(3 * 3_600_000).await;
    let late = api.post("bob", &path, approve).await;
    assert_eq!(late.problem(), (410, "expired".into()));
    assert_eq!(api.world.outside.ledger(), Vec::<String>::new());
}

#[tokio::test]
async fn an_edit_makes_a_revision_and_what_was_seen_before_decides_nothing() {
    let api = Api::new().await;
    let id = api.start("ci", "ship v1").await;
    let approval = pending(&api, "ci", &id).await["id"].as_str().unwrap().to_owned();
    let path = format!("/approvals/{approval}/decision");
    api.post("bob", &path, json!({"decision": "edit", "revision": 1, "args": {"version": "v2"}})).await.ok(200);
    api.world.runtime.settle().await.unwrap();
    let stale = api.post("ann", &path, json!({"decision": "approve", "revision": 1})).await;
    assert_eq!(stale.problem(), (409, "revision_changed".into()));
    assert_eq!(stale.json()["revision"], 2);
    let shown = api.get("ann", &format!("/approvals/{approval}")).await.ok(200);
    assert_eq!((&shown["args"], &shown["original_args"]), (&json!({"version": "v2"}), &json!({"version": "v1"})));
    api.post("ann", &path, json!({"decision": "approve", "revision": 2})).await.ok(200);
    api.world.runtime.settle().await.unwrap();
    assert_eq!(api.world.outside.ledger(), ["v2"]);
}

#[tokio::test]
async fn resume_decides_only_what_is_named_in_plain_words_by_who_may() {
    let api = Api::new().await;
    let id = api.start("ci", "ship v1").await;
    let approval = pending(&api, "ci", &id).await["id"].as_str().unwrap().to_owned();
    let path = format!("/agents/{id}/resume");
    let named = |words: &str| json!({"human_response": words, "approval_id": approval, "revision": 1});
    assert_eq!(api.post("ci", &path, named("approve")).await.problem(), (403, "missing_scope".into()));
    let unnamed = api.post("chief", &path, json!({"human_response": "approve"})).await;
    assert_eq!(unnamed.problem(), (409, "waits_for_approval".into()));
    assert_eq!(unnamed.json()["approvals"], json!([approval]));
    let no_revision = json!({"human_response": "approve", "approval_id": approval});
    assert_eq!(api.post("chief", &path, no_revision).await.problem(), (422, "revision_missing".into()));
    for unclear in ["yes, but not today", "ok?", ""] {
        assert_eq!(api.post("chief", &path, named(unclear)).await.problem(), (422, "unclear_decision".into()));
    }
    let elsewhere = json!({"human_response": "approve", "approval_id": format!("apr_{NOWHERE}_5"), "revision": 1});
    assert_eq!(api.post("chief", &path, elsewhere).await.problem(), (404, "no_such_approval".into()));
    api.post("chief", &path, named("Deny: not on Fridays")).await.ok(200);
    api.world.runtime.settle().await.unwrap();
    let shown = api.get("chief", &format!("/approvals/{approval}")).await.ok(200);
    assert_eq!((&shown["state"], &shown["votes"][0]["note"]), (&json!("denied"), &json!("not on Fridays")));
}

#[tokio::test]
async fn what_is_somebody_elses_looks_like_what_does_not_exist() {
    let api = Api::new().await;
    let quiet = api.start("ci", "hi").await;
    let waiting = api.start("ci", "ship v1").await;
    let approval = pending(&api, "ci", &waiting).await["id"].as_str().unwrap().to_owned();
    let body = json!({"human_response": "x", "approval_id": approval, "revision": 1});
    for (thread, approval) in [(waiting.as_str(), approval.as_str()), (NOWHERE, "apr_aaaaaaaaaaaaaaaa_4")] {
        for path in ["status", "history"] {
            let reply = api.get("eve", &format!("/agents/{thread}/{path}")).await;
            assert_eq!(reply.problem(), (404, "no_such_thread".into()));
            assert!(reply.text.contains(thread) && !reply.text.contains("ship"), "{reply:?}");
        }
        assert_eq!(api.get("eve", &format!("/threads/{thread}/events")).await.problem().0, 404);
        assert_eq!(api.get("eve", &format!("/approvals/{approval}")).await.problem(), (404, "no_such_approval".into()));
        for verb in ["resume", "pause", "stop", "cancel"] {
            let reply = api.post("eve", &format!("/agents/{thread}/{verb}"), json!({})).await;
            assert_eq!(reply.problem(), (404, "no_such_thread".into()), "{verb}");
        }
        let reply = api.post("eve", "/agents/start", json!({"message": "me too", "thread_id": thread})).await;
        assert_eq!(reply.problem(), (404, "no_such_thread".into()));
    }
    // One who may decide sees what there is to decide, and no more.
    let decide = json!({"decision": "deny", "revision": 1});
    assert_eq!(api.get("bob", &format!("/agents/{quiet}/status")).await.problem().0, 404);
    assert_eq!(api.get("bob", &format!("/agents/{waiting}/status")).await.problem().0, 404);
    assert_eq!(
        api.post("eve", &format!("/agents/{waiting}/resume"), body).await.problem(),
        (404, "no_such_thread".into())
    );
    api.post("bob", &format!("/approvals/{approval}/decision"), decide).await.ok(200);
    let count = async |name: &str| api.get(name, "/agents").await.ok(200)["items"].as_array().unwrap().len();
    assert_eq!((count("ci").await, count("eve").await, count("boss").await), (2, 0, 2));
}

#[tokio::test]
async fn who_may_decide_sees_the_request_and_nothing_else_of_the_thread() {
    let api = Api::new().await;
    let id = api.start("ci", "ship v1").await;
    let approval = pending(&api, "ci", &id).await["id"].as_str().unwrap().to_owned();
    let (shown, decision) = (format!("/approvals/{approval}"), format!("/approvals/{approval}/decision"));
    let only_the_request = async |name: &str| {
        for path in ["status", "history"] {
            let reply = api.get(name, &format!("/agents/{id}/{path}")).await;
            assert_eq!(reply.problem(), (404, "no_such_thread".into()), "{name} {path}");
        }
        assert_eq!(api.get(name, &format!("/threads/{id}/events")).await.problem().0, 404, "{name}");
        for verb in ["resume", "pause", "stop", "cancel"] {
            let reply = api.post(name, &format!("/agents/{id}/{verb}"), json!({})).await;
            assert_eq!(reply.problem(), (404, "no_such_thread".into()), "{name} {verb}");
        }
    };
    let say = json!({"message": "ship v9", "thread_id": id});
    only_the_request("bob").await;
    assert_eq!(api.post("ann", "/agents/start", say.clone()).await.problem(), (404, "no_such_thread".into()));
    let listed = async |name: &str, state: &str| {
        let list = api.get(name, &format!("/approvals?state={state}")).await.ok(200);
        (list["total"].as_u64().unwrap(), list["items"].as_array().unwrap().len())
    };
    for name in ["ann", "bob"] {
        assert_eq!(api.get(name, &shown).await.ok(200)["title"], "ship v1", "{name}");
        assert_eq!(listed(name, "open").await, (1, 1), "{name}");
    }
    api.post("bob", &decision, json!({"decision": "approve", "revision": 1})).await.ok(200);
    api.world.runtime.settle().await.unwrap();
    assert_eq!(api.world.outside.ledger(), ["v1"]);
    // It is decided: who voted and who asked still see it, who only might have does not.
    only_the_request("bob").await;
    only_the_request("ann").await;
    assert_eq!(api.post("ann", "/agents/start", say).await.problem(), (404, "no_such_thread".into()));
    for (name, sees) in [("bob", true), ("ci", true), ("ann", false), ("eve", false)] {
        let reply = api.get(name, &shown).await;
        assert_eq!(reply.status.as_u16(), if sees { 200 } else { 404 }, "{name}: {reply:?}");
        assert_eq!(listed(name, "settled").await, if sees { (1, 1) } else { (0, 0) }, "{name}");
    }
    // Who comes too late is told what became of it.
    let late = api.post("ann", &decision, json!({"decision": "deny", "revision": 1})).await;
    assert_eq!(late.problem(), (409, "already_decided".into()));
    assert_eq!(late.json()["by"], json!(["api:bob"]));
}

#[tokio::test]
async fn a_key_of_one_is_never_that_of_another_however_their_ids_run_on() {
    let person = |name: &str, person: Option<&str>| TokenConfig {
        name: name.to_owned(),
        hash: format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(format!("token-{name}")))),
        scopes: vec![Scope::Start, Scope::Read],
        person: person.map(str::to_owned),
    };
    let tokens = vec![
        person("team", Some("slack:T1")),
        person("one", Some("slack:T1:U2")),
        person("x", None),
        person("y", Some("api:x")),
    ];
    let http = HttpConfig { tokens, requests_per_minute: 1_000_000, ..http_config() };
    let api = Api::around(World::new().await, http, None);
    let body = json!({"message": "hi"});
    for (a, key_of_a, b, key_of_b) in [("one", "x", "team", "U2:x"), ("x", "k", "y", "k")] {
        let first = api.post_with_key(a, key_of_a, "/agents/start", body.clone()).await.ok(202);
        let other = api.post_with_key(b, key_of_b, "/agents/start", body.clone()).await.ok(202);
        assert_ne!(first["thread_id"], other["thread_id"], "{a} and {b}");
        let path = format!("/agents/{}/status", other["thread_id"].as_str().unwrap());
        api.get(b, &path).await.ok(200);
        assert_eq!(api.get(a, &path).await.problem().0, 404);
    }
}

#[tokio::test]
async fn a_deleted_thread_is_gone_for_good() {
    let api = Api::new().await;
    let id = api.start("ci", "ship v1").await;
    let delete = |name| request(Method::DELETE, &format!("/agents/{id}"), Some(name), &[], None);
    assert_eq!(api.read(delete("ci")).await.problem(), (403, "missing_scope".into()));
    let reply = api.read(delete("boss")).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (204, ""));
    assert_eq!(api.get("boss", "/agents").await.ok(200)["items"], json!([]));
    let history = format!("/agents/{id}/history");
    assert_eq!(api.get("boss", &history).await.problem(), (410, "deleted".into()));
}

#[tokio::test]
async fn lists_and_logs_come_in_pages_that_meet() {
    let api = Api::new().await;
    let mut started = Vec::new();
    for n in 0..5 {
        api.world.advance(1_000).await;
        started.push(api.start("ci", if n % 2 == 0 { "hi" } else { "ask me" }).await);
    }
    let (mut seen, mut path) = (Vec::new(), "/agents?limit=2".to_owned());
    loop {
        let page = api.get("ci", &path).await.ok(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|t| t["thread_id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/agents?limit=2&cursor={next}"),
            None => break,
        }
    }
    started.reverse();
    assert_eq!(seen, started);
    let waiting = api.get("ci", "/agents?waiting=true").await.ok(200);
    assert_eq!(waiting["items"].as_array().unwrap().len(), 2);
    let done = api.get("ci", "/agents?status=done&agent=tester").await.ok(200);
    assert_eq!(done["items"].as_array().unwrap().len(), 3);

    let id = &started[0];
    let first = api.get("ci", &format!("/agents/{id}/history?limit=2")).await.ok(200);
    assert_eq!((&first["items"][1]["seq"], &first["next"], &first["version"]), (&json!(2), &json!(2), &json!(3)));
    let rest = api.get("ci", &format!("/agents/{id}/history?after=2")).await.ok(200);
    assert_eq!((&rest["items"][0]["seq"], &rest["next"]), (&json!(3), &Value::Null));
    assert_eq!(api.get("ci", &format!("/agents/{id}/history?after=99")).await.ok(200)["items"], json!([]));

    for bad in
        ["limit=0", "limit=201", "limit=x", "limit=1&limit=2", "cursor=x", "cursor=1-x", "status=finished", "nope=1"]
    {
        let reply = api.get("ci", &format!("/agents?{bad}")).await;
        assert_eq!(reply.problem(), (400, "bad_parameter".into()), "{bad}");
    }
    // What the document bounds is bounded.
    for (path, name, most) in [
        ("/agents", "agent", 100),
        ("/approvals", "agent", 100),
        ("/approvals", "tool", 100),
        ("/approvals", "rule", 200),
    ] {
        let ask = |length: usize| format!("{path}?{name}={}", "%C3%A4".repeat(length));
        assert_eq!(api.get("ci", &ask(most)).await.ok(200)["items"], json!([]));
        assert_eq!(api.get("ci", &ask(most + 1)).await.problem(), (400, "bad_parameter".into()), "{path} {name}");
    }
    for path in [format!("/agents/{id}/history"), format!("/threads/{id}/events")] {
        let reply = api.get("ci", &format!("{path}?after=1000000001")).await;
        assert_eq!(reply.problem(), (400, "bad_parameter".into()), "{path}");
    }
}

#[tokio::test]
async fn requests_are_listed_for_those_they_concern() {
    let api = Api::new().await;
    let mut asked = Vec::new();
    for (who, version) in [("ci", "v1"), ("ann", "v2"), ("ci", "v3")] {
        api.world.advance(1_000).await;
        let id = api.start(who, &format!("ship {version}")).await;
        asked.push(pending(&api, who, &id).await["id"].as_str().unwrap().to_owned());
    }
    let ids = async |name: &str, query: &str| {
        let page = api.get(name, &format!("/approvals{query}")).await.ok(200);
        let ids: Vec<String> =
            page["items"].as_array().unwrap().iter().map(|a| a["id"].as_str().unwrap().to_owned()).collect();
        (ids, page["total"].as_u64().unwrap())
    };
    let [one, two, three] = [asked[0].clone(), asked[1].clone(), asked[2].clone()];
    assert_eq!(ids("boss", "").await, (asked.clone(), 3));
    assert_eq!(ids("bob", "").await, (asked.clone(), 3));
    assert_eq!(ids("ci", "").await, (vec![one.clone(), three.clone()], 2), "a program sees what it asked for");
    assert_eq!(ids("eve", "").await, (vec![], 0));
    assert_eq!(ids("ann", "?mine=true").await, (vec![one.clone(), three.clone()], 2), "not what she asked for");
    let page = api.get("bob", "/approvals?limit=2").await.ok(200);
    let next = page["next"].as_str().unwrap();
    assert_eq!(ids("bob", &format!("?limit=2&cursor={next}")).await.0, vec![three.clone()]);
    let row = &page["items"][0];
    for (key, value) in [
        ("open", json!(true)),
        ("state", json!("pending")),
        ("tool", json!("ship")),
        ("agent", json!("tester")),
        ("title", json!("ship v1")),
        ("requesters", json!(["api:ci"])),
        ("waits_for", json!("anyone here (1 needed, not the requester)")),
    ] {
        assert_eq!(row[key], value, "{key}");
    }
    let deny = json!({"decision": "deny", "revision": 1});
    api.post("bob", &format!("/approvals/{two}/decision"), deny).await.ok(200);
    assert_eq!(ids("bob", "?state=open&tool=ship&agent=tester").await.0, vec![one, three]);
    assert_eq!(ids("bob", "?state=settled").await, (vec![two], 1));
    assert_eq!(ids("bob", "?state=all").await.1, 3);
    assert_eq!(ids("bob", "?tool=look").await, (vec![], 0));
    for bad in ["state=closed", "limit=0", "cursor=5", "mine=perhaps"] {
        assert_eq!(
            api.get("bob", &format!("/approvals?{bad}")).await.problem(),
            (400, "bad_parameter".into()),
            "{bad}"
        );
    }
}

// ---- Who gets in ----

#[tokio::test]
async fn every_route_refuses_every_wrong_token() {
    let api = Api::new().await;
    let document = document(&api.service);
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{thread_id}", NOWHERE).replace("{approval_id}", "apr_aaaaaaaaaaaaaaaa_1");
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let Some(scope) = operation["security"][0]["bearer"][0].as_str() else {
                assert_eq!(operation["security"], json!([]), "{path} says that it is open");
                continue;
            };
            let plain = |headers: &[(&str, &str)]| request(method.clone(), &path, None, headers, None);
            for headers in [
                &[][..],
                &[("authorization", "Bearer token-nobody")],
                &[("authorization", "Bearer")],
                &[("authorization", "Basic dG9rZW4tY2k6")],
                &[("authorization", "Bearer token-ci"), ("authorization", "Bearer token-ci")],
            ] {
                let reply = api.read(plain(headers)).await;
                assert_eq!(reply.problem(), (401, "unauthorized".into()), "{method} {path} {headers:?}");
                assert_eq!(reply.headers["www-authenticate"], "Bearer");
            }
            for other in ["start", "read", "resume", "approve", "admin"] {
                if other == scope || (other, scope) == ("admin", "read") {
                    continue;
                }
                let name = if other == "admin" { "boss".to_owned() } else { format!("only-{other}") };
                let reply = api.read(request(method.clone(), &path, Some(&name), &[], None)).await;
                assert_eq!(reply.problem(), (403, "missing_scope".into()), "{method} {path} with {other} alone");
                assert_eq!(reply.json()["scope"], scope);
                tried += 1;
            }
        }
    }
    assert!(tried >= 45, "{tried} combinations were tried");
}

#[tokio::test]
async fn every_documented_route_is_there_and_every_route_is_documented() {
    let api = Api::new().await;
    let document = document(&api.service);
    let mut documented: Vec<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let path = path.replace("{thread_id}", NOWHERE).replace("{approval_id}", "apr_aaaaaaaaaaaaaaaa_1");
            let reply = api.read(request(method.to_uppercase().parse().unwrap(), &path, Some("ann"), &[], None)).await;
            assert!(!reply.text.contains("no_such_path") && reply.status != 405, "{method} {path}: {reply:?}");
            let status = reply.status.as_u16().to_string();
            assert!(operation["responses"][&status].is_object(), "{method} {path} may answer {status}: say so");
        }
    }
    let sources = [
        include_str!("../../src/http/rest.rs"),
        include_str!("../../src/http/approvals.rs"),
        include_str!("../../src/http/live.rs"),
        include_str!("../../src/http/webhooks.rs"),
        include_str!("../../src/http/ops.rs"),
        include_str!("../../src/http/docs.rs"),
    ];
    let routes = sources.iter().flat_map(|text| text.split(".route(\"").skip(1));
    let mut routes: Vec<String> = routes.map(|after| after.split('"').next().unwrap().to_owned()).collect();
    routes.sort();
    documented.sort();
    assert_eq!(routes, documented);
}

#[tokio::test]
async fn the_document_says_whether_a_token_is_needed_here() {
    let trusting = HttpConfig { trust_loopback: true, ..http_config() };
    let (mine, open) = (Api::new().await, Api::around(World::new().await, trusting, None));
    let needs = |api: &Api, pointer: &str| document(&api.service).pointer(pointer).cloned();
    for (pointer, scope) in
        [("/paths/~1agents/get/security", "read"), ("/paths/~1agents~1start/post/security", "start")]
    {
        assert_eq!(needs(&mine, pointer), Some(json!([{ "bearer": [scope] }])));
        assert_eq!(needs(&open, pointer), Some(json!([{ "bearer": [scope] }, {}])));
    }
    assert_eq!(needs(&open, "/paths/~1healthz/get/security"), needs(&mine, "/paths/~1healthz/get/security"));
}

#[tokio::test]
async fn where_loopback_is_trusted_programs_on_this_machine_get_in_and_pages_of_others_do_not() {
    let trusting = HttpConfig { trust_loopback: true, ..http_config() };
    let api = Api::around(World::new().await, trusting, None);
    let here = |headers: &[(&str, &str)]| request(Method::GET, "/agents", None, headers, None);
    assert_eq!(api.read(here(&[])).await.ok(200)["items"], json!([]));
    for fine in [
        ("origin", "http://localhost:8000"),
        ("sec-fetch-site", "none"),
        ("host", "127.0.0.1:8000"),
        ("host", "[::1]:8000"),
    ] {
        api.read(here(&[fine])).await.ok(200);
    }
    for foreign in [
        ("origin", "http://evil.example"),
        ("origin", "http://localhost:3000"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("x-forwarded-for", "203.0.113.9"),
        ("authorization", "Bearer token-ci"),
    ] {
        assert_eq!(api.read(here(&[foreign])).await.problem(), (401, "unauthorized".into()), "{foreign:?}");
    }
    let mut far = here(&[]);
    far.extensions_mut().insert(twelve::http::Peer("203.0.113.9:4000".parse().unwrap()));
    assert_eq!(api.read(far).await.problem(), (401, "unauthorized".into()));
    // A program: it starts, reads and pauses, and never decides.
    let started = request(Method::POST, "/agents/start", None, &[], Some(json!({"message": "ship v1"})));
    let id = api.read(started).await.ok(202)["thread_id"].as_str().unwrap().to_owned();
    api.world.runtime.settle().await.unwrap();
    let status = api.read(request(Method::GET, &format!("/agents/{id}/status"), None, &[], None)).await.ok(200);
    assert_eq!(status["requester"], "api:local");
    let path = format!("/approvals/{}/decision", status["approvals"][0]["id"].as_str().unwrap());
    let decide = request(Method::POST, &path, None, &[], Some(json!({"decision": "approve", "revision": 1})));
    assert_eq!(api.read(decide).await.problem(), (403, "missing_scope".into()));
    // Without the setting nobody is let in for being near.
    let api = Api::around(World::new().await, http_config(), None);
    assert_eq!(api.read(here(&[])).await.problem(), (401, "unauthorized".into()));
}

#[tokio::test]
async fn a_program_with_the_local_token_starts_reads_and_answers_and_never_decides() {
    let with_tokens = HttpConfig { tokens: tokens(), ..http_config() };
    for http in [http_config(), with_tokens] {
        let api = Api::around(World::new().await, http, None);
        let started = api.post("local", "/agents/start", json!({"message": "ship v1"})).await.ok(202);
        let id = started["thread_id"].as_str().unwrap();
        api.world.runtime.settle().await.unwrap();
        let status = api.get("local", &format!("/agents/{id}/status")).await.ok(200);
        assert_eq!(status["requester"], "api:local");
        let path = format!("/approvals/{}/decision", status["approvals"][0]["id"].as_str().unwrap());
        let decided = api.post("local", &path, json!({"decision": "approve", "revision": 1})).await;
        assert_eq!(decided.problem(), (403, "missing_scope".into()));
        let deleted = api.read(request(Method::DELETE, &format!("/agents/{id}"), Some("local"), &[], None)).await;
        assert_eq!(deleted.problem(), (403, "missing_scope".into()));
        api.post("local", &format!("/agents/{id}/pause"), json!({})).await.ok(200);
        api.get("local", "/metrics").await;
    }
}

/// Bodies cost an anonymous caller nothing of ours: who they are comes first.
#[tokio::test]
async fn json_is_read_for_callers_who_may_and_for_nobody_else() {
    let api = Api::new().await;
    let broken = |path: &str, name: Option<&str>| {
        let mut asked = request(Method::POST, path, name, &[("content-type", "application/json")], None);
        *asked.body_mut() = axum::body::Body::from(r#"{"a":1,"a":"#);
        asked
    };
    let id = "aaaaaaaaaaaaaaaa";
    for path in [
        "/agents/start".to_owned(),
        format!("/agents/{id}/resume"),
        format!("/agents/{id}/pause"),
        format!("/agents/{id}/stop"),
        format!("/agents/{id}/cancel"),
        format!("/approvals/apr_{id}_1/decision"),
    ] {
        assert_eq!(api.read(broken(&path, None)).await.problem().0, 401, "{path}");
        assert_eq!(api.read(broken(&path, Some("guess"))).await.problem().0, 401, "{path}");
        assert_eq!(api.read(broken(&path, Some("only-read"))).await.problem().0, 403, "{path}");
        assert_eq!(
            api.read(broken(&path, Some("chief"))).await.problem().0,
            if path == "/agents/start" { 403 } else { 400 },
            "{path}"
        );
    }
    assert_eq!(api.read(broken("/agents/start", Some("ci"))).await.problem(), (400, "bad_json".into()));
    // What takes no JSON does not look at it.
    let mut asked = broken("/agents", Some("ci"));
    *asked.method_mut() = Method::GET;
    api.read(asked).await.ok(200);
}

#[tokio::test]
async fn in_the_demo_the_person_at_this_machine_may_do_everything() {
    let trusting = HttpConfig { trust_loopback: true, ..http_config() };
    let api = Api::around(World::new().await, trusting, Some(ann()));
    let started = request(Method::POST, "/agents/start", None, &[], Some(json!({"message": "hi"})));
    let id = api.read(started).await.ok(202)["thread_id"].as_str().unwrap().to_owned();
    let reply = api.read(request(Method::DELETE, &format!("/agents/{id}"), None, &[], None)).await;
    assert_eq!(reply.status, 204, "{reply:?}");
}

// ---- Live ----

/// The next event of a stream, comments left out: its id, its type and its data.
async fn next(
    stream: &mut (impl futures_util::Stream<Item = Result<axum::body::Bytes, axum::Error>> + Unpin),
) -> Option<(String, String, Value)> {
    loop {
        let frame =
            tokio::time::timeout(Duration::from_secs(20), stream.next()).await.expect("a frame comes")?.unwrap();
        let text = String::from_utf8(frame.to_vec()).unwrap();
        let field =
            |name: &str| text.lines().find_map(|l| l.strip_prefix(&format!("{name}: "))).unwrap_or("").to_owned();
        if !text.starts_with(':') {
            return Some((field("id"), field("event"), serde_json::from_str(&field("data")).unwrap()));
        }
    }
}

async fn watch(api: &Api, path: &str, headers: &[(&str, &str)]) -> axum::body::BodyDataStream {
    let response = api.send(request(Method::GET, path, Some("ci"), headers, None)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.into_body().into_data_stream()
}

#[tokio::test]
async fn a_watcher_sees_the_past_then_each_event_as_it_happens() {
    let api = Api::new().await;
    let id = api.start("ci", "hi").await;
    let path = format!("/threads/{id}/events");
    let mut stream = watch(&api, &path, &[]).await;
    for (seq, kind) in [("1", "thread_started"), ("2", "message_received"), ("3", "model_replied")] {
        let (at, _, data) = next(&mut stream).await.unwrap();
        assert_eq!((at.as_str(), data["type"].as_str().unwrap()), (seq, kind));
    }
    assert_eq!(
        next(&mut stream).await.unwrap(),
        (String::new(), "status".into(), json!({"status": "done", "version": 3}))
    );
    api.start("ci", "another thread").await;
    api.post("ci", "/agents/start", json!({"message": "ask me", "thread_id": id})).await.ok(202);
    api.world.runtime.settle().await.unwrap();
    let mut kinds = Vec::new();
    loop {
        let (seq, event, data) = next(&mut stream).await.unwrap();
        match event.as_str() {
            "status" if data["status"] == "waiting_answer" => break,
            "status" => {}
            _ => kinds.push(format!("{seq} {}", data["type"].as_str().unwrap())),
        }
    }
    assert_eq!(kinds, ["4 message_received", "5 model_replied", "6 question_asked"]);

    // Connected again: from where it was, not from the beginning.
    let mut stream = watch(&api, &format!("{path}?after=1"), &[("last-event-id", "5")]).await;
    assert_eq!(next(&mut stream).await.unwrap().0, "6");
    let mut stream = watch(&api, &format!("{path}?after=4"), &[]).await;
    assert_eq!(next(&mut stream).await.unwrap().0, "5");
    for bad in ["x", "1000000001"] {
        let bad = api.read(request(Method::GET, &path, Some("ci"), &[("last-event-id", bad)], None)).await;
        assert_eq!(bad.problem(), (400, "bad_parameter".into()));
    }
}

#[tokio::test]
async fn a_watcher_that_has_seen_more_than_there_is_misses_nothing_that_comes() {
    let api = Api::new().await;
    let id = api.start("ci", "hi").await;
    let mut stream = watch(&api, &format!("/threads/{id}/events?after=99"), &[]).await;
    let now = next(&mut stream).await.unwrap();
    assert_eq!(now, (String::new(), "status".into(), json!({"status": "done", "version": 3})));
    api.post("ci", "/agents/start", json!({"message": "ask me", "thread_id": id})).await.ok(202);
    let (seq, _, data) = next(&mut stream).await.unwrap();
    assert_eq!((seq.as_str(), data["type"].as_str().unwrap()), ("4", "message_received"));
}

#[tokio::test]
async fn a_watcher_that_lags_gets_everything_from_the_log_and_a_stop_ends_the_stream() {
    let api = Api::new().await;
    let id = api.start("ci", "hi").await;
    let mut stream = watch(&api, &format!("/threads/{id}/events"), &[]).await;
    assert_eq!(next(&mut stream).await.unwrap().0, "1");
    // More changes than are kept for a watcher, while this one does not read.
    for n in 0..400 {
        api.post("ci", "/agents/start", json!({"message": format!("hello {n}"), "thread_id": id})).await.ok(202);
        api.world.runtime.settle().await.unwrap();
        api.start("ci", "somebody else").await;
    }
    let version = api.status("ci", &id).await["version"].as_u64().unwrap();
    let mut expected = 2;
    while expected <= version {
        let (seq, event, _) = next(&mut stream).await.unwrap();
        if event != "status" {
            assert_eq!(seq, expected.to_string(), "each once, in order");
            expected += 1;
        }
    }
    api.stop.cancel();
    let mut last = next(&mut stream).await.unwrap();
    while last.1 == "status" {
        last = next(&mut stream).await.unwrap();
    }
    assert_eq!(last.1, "end");
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test]
async fn only_so_many_streams_are_open_and_of_one_caller_fewer() {
    let api = Api::new().await;
    let id = api.start("ci", "hi").await;
    let path = format!("/threads/{id}/events");
    let mut open = Vec::new();
    for _ in 0..twelve::http::live::MAX_EACH {
        open.push(watch(&api, &path, &[]).await);
    }
    let full = api.get("ci", &path).await;
    assert_eq!(full.problem(), (503, "too_many_streams".into()));
    assert!(full.headers.contains_key("retry-after"));
    let other = api.send(request(Method::GET, &path, Some("boss"), &[], None)).await;
    assert_eq!(other.status(), 200, "the others have their own places");
    open.pop();
    drop(watch(&api, &path, &[]).await);
}

#[tokio::test]
async fn half_of_the_connections_stay_for_requests_whatever_streams_are_open() {
    let http = HttpConfig { max_connections: 8, trust_loopback: true, ..http_config() };
    let api = Api::around(World::new().await, http, Some(ann()));
    let get = |path: &str| request(Method::GET, path, None, &[], None);
    let started = request(Method::POST, "/agents/start", None, &[], Some(json!({"message": "hi"})));
    let id = api.read(started).await.ok(202)["thread_id"].as_str().unwrap().to_owned();
    let mut open = Vec::new();
    for path in ["/inbox/live", &format!("/chat/{id}/live"), "/inbox/live", &format!("/threads/{id}/events")] {
        open.push(api.send(get(path)).await);
        assert_eq!(open.last().unwrap().status(), 200, "{path}");
    }
    for path in ["/inbox/live", &format!("/chat/{id}/live"), &format!("/threads/{id}/events")] {
        assert_eq!(api.send(get(path)).await.status(), 503, "{path}");
    }
    assert_eq!(api.send(get("/inbox")).await.status(), 200, "the page is there without it");
    open.pop();
    assert_eq!(api.send(get("/inbox/live")).await.status(), 200);
}

// ---- What went wrong before ----

#[tokio::test]
async fn a_resume_whose_first_try_died_after_its_words_goes_on_at_the_second() {
    let mut api = Api::new().await;
    let id = api.start("ci", "ship v1").await;
    let path = |verb: &str| format!("/agents/{id}/{verb}");
    api.post("ci", &path("pause"), json!({"why": "lunch"})).await.ok(200);
    let ci = Principal::service("api:ci");
    let thread = api.world.runtime.thread(id.parse().unwrap()).await.unwrap();
    let said = Said { source: Some("key:api:ci:k1".into()), ..Said::by(ci, "go on") };
    api.world.runtime.message(&thread.id, &thread.agent, said).await.unwrap();
    api.crash().await;
    let body = json!({"human_response": "go on"});
    let resumed = api.post_with_key("ci", "k1", &path("resume"), body.clone()).await.ok(200);
    assert_eq!(resumed["paused"], Value::Null);
    api.post("ci", &path("pause"), json!({"why": "dinner"})).await.ok(200);
    let again = api.post_with_key("ci", "k1", &path("resume"), body).await.ok(200);
    assert_eq!(again["paused"], "dinner", "a later pause is another matter");
}

#[tokio::test]
async fn a_request_that_the_fold_has_let_go_of_is_shown_and_cannot_be_decided_again() {
    let approvers = Approvers { users: vec!["api:bob".into()], ..Approvers::default() };
    let policy = Policy { rules: Vec::new(), approvers, expires_after_ms: 7_200_000, ..Policy::default() };
    let world = World::with(crate::world::Setup { policy, ..Default::default() }).await;
    let http = HttpConfig { tokens: tokens(), requests_per_minute: 1_000_000, ..http_config() };
    let api = Api::around(world, http, None);
    let id = api.start("ci", "ship v0").await;
    let mut first = None;
    for n in 1..=102 {
        let open = pending(&api, "ci", &id).await;
        let path = format!("/approvals/{}/decision", open["id"].as_str().unwrap());
        api.post("bob", &path, json!({"decision": "deny", "revision": 1, "note": "no"})).await.ok(200);
        first = first.or(open["id"].as_str().map(str::to_owned));
        api.world.runtime.settle().await.unwrap();
        api.post("ci", "/agents/start", json!({"message": format!("ship v{n}"), "thread_id": id})).await.ok(202);
        api.world.runtime.settle().await.unwrap();
    }
    let first = first.unwrap();
    let thread = api.world.runtime.thread(id.parse().unwrap()).await.unwrap();
    assert!(!thread.approvals.contains_key(&first.parse().unwrap()), "it is forgotten");
    let path = format!("/approvals/{first}");
    for who in ["ci", "bob"] {
        let shown = api.get(who, &path).await.ok(200);
        assert_eq!((&shown["state"], &shown["open"]), (&json!("denied"), &json!(false)));
    }
    assert_eq!(api.get("eve", &path).await.problem(), (404, "no_such_approval".into()));
    let late = api.post("bob", &format!("{path}/decision"), json!({"decision": "approve", "revision": 1})).await;
    assert_eq!(late.problem(), (409, "already_decided".into()));
    assert_eq!(late.json()["by"], json!(["api:bob"]));
}

#[tokio::test]
async fn what_is_damaged_is_named_in_lists_and_can_be_deleted() {
    let mut api = Api::new().await;
    let id = api.start("ci", "ship v1").await;
    let request_id = pending(&api, "ci", &id).await["id"].clone();
    let file = rusqlite::Connection::open(api.world.dir.path().join("twelve.db")).unwrap();
    assert_eq!(file.execute("UPDATE approvals SET body = '{'", []).unwrap(), 1);
    let listed = api.get("boss", "/approvals").await.ok(200);
    assert_eq!((&listed["items"], &listed["total"]), (&json!([]), &json!(1)));
    assert_eq!(listed["damaged"], json!([request_id]));
    let damage = "UPDATE events SET body = x'7b7d' WHERE id = (SELECT min(id) FROM events)";
    assert_eq!(file.execute(damage, []).unwrap(), 1);
    api.crash().await;
    assert_eq!(api.get("boss", &format!("/agents/{id}/status")).await.status, 500);
    let delete = || request(Method::DELETE, &format!("/agents/{id}"), Some("boss"), &[], None);
    assert_eq!(api.read(delete()).await.status, 204);
    assert_eq!(api.read(delete()).await.problem(), (410, "deleted".into()));
}

// ---- The page ----

#[tokio::test]
async fn the_page_names_every_route_and_needs_nothing_from_elsewhere() {
    let api = Api::new().await;
    let page = api.read(Request::builder().uri("/docs").body(Body::empty()).unwrap()).await;
    assert_eq!(page.status, 200);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.text.contains("<script") && !page.text.contains("src=\"http"), "no script, nothing from elsewhere");
    for path in document(&api.service)["paths"].as_object().unwrap().keys() {
        assert!(page.text.contains(&format!("</b> {path}</h3>")), "{path}");
    }
    assert!(page.text.contains("curl -X POST http://127.0.0.1:8000/agents/start"), "{}", page.text);
    assert!(
        page.text.contains("&#34;message&#34;:&#34;deploy api v1.2.3 to staging&#34;")
            || page.text.contains("deploy api v1.2.3 to staging")
    );
    assert_eq!(tokens().len(), 10);
}
