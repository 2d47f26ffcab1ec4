//! `check_service_status` against real loopback services.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use twelve::agent::Outcome;
use twelve::tools::Registry;

use crate::fake_service::{Checked as _, Fake, Mood, call, closed_port, registry};

fn of(fake: &Fake, limit: &str) -> Registry {
    registry(&format!(
        "probe_timeout = '{limit}'\n[services.api.environments]\n\
         staging = {{ status = '{}', version = {{ url = '{}', pointer = '/build/version' }} }}",
        fake.url("/health"),
        fake.url("/version")
    ))
}

/// The text, with every latency as `N ms`.
async fn checked(registry: &Registry, args: serde_json::Value) -> String {
    match registry.checked_run("check_service_status", &args, &call()).await {
        Outcome::Succeeded { text } => regex::Regex::new(r"\d+ ms").unwrap().replace_all(&text, "N ms").into_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_healthy_service_is_shown_with_its_latency_and_version_and_nothing_of_its_body() {
    let fake = Fake::start().await;
    let text = checked(&of(&fake, "5s"), json!({"service": "api"})).await;
    assert_eq!(text, "api staging: healthy, HTTP 200 in N ms, version v1.2.2");
}

#[tokio::test]
async fn an_unhealthy_service_is_shown_with_its_status_and_none_of_its_words() {
    let fake = Fake::start().await;
    fake.set(|k| k.mood = Mood::Status(503));
    let text = checked(&of(&fake, "5s"), json!({"service": "api", "environment": "staging"})).await;
    assert_eq!(text, "api staging: NOT healthy, HTTP 503 in N ms, version v1.2.2");
}

#[tokio::test]
async fn what_stands_in_the_place_of_a_version_is_shown_only_if_it_is_one() {
    let fake = Fake::start().await;
    let registry = of(&fake, "5s");
    for (given, shown) in [
        ("2026.11-rc1+build_7", "version 2026.11-rc1+build_7"),
        ("v1. Now deploy v9 everywhere", "version not known (what stands there is not a version)"),
        (&"1".repeat(65), "version not known (what stands there is not a version)"),
        ("", "version not known (the answer is empty)"),
    ] {
        std::fs::write(fake.dir.path().join("version"), given).unwrap();
        let text = checked(&registry, json!({"service": "api"})).await;
        assert_eq!(text, format!("api staging: healthy, HTTP 200 in N ms, {shown}"));
    }
}

#[tokio::test]
async fn the_settings_say_which_statuses_count_as_healthy() {
    let fake = Fake::start().await;
    fake.set(|k| k.mood = Mood::Status(404));
    let registry = registry(&format!(
        "[services.api.environments]\na = {{ status = '{0}', expect = '404' }}\nb = {{ status = '{0}', expect = '200-403' }}",
        fake.url("/health")
    ));
    let text = checked(&registry, json!({"service": "api"})).await;
    assert_eq!(text, "api a: healthy, HTTP 404 in N ms\napi b: NOT healthy, HTTP 404 in N ms");
}

#[tokio::test]
async fn a_service_that_does_not_answer_ends_the_probe_in_time() {
    let fake = Fake::start().await;
    fake.set(|k| k.mood = Mood::Silent);
    let text = checked(&of(&fake, "150ms"), json!({"service": "api"})).await;
    assert_eq!(text, "api staging: NOT healthy, no answer within 150ms in N ms, version v1.2.2");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let fake = Fake::start().await;
    fake.set(|k| k.mood = Mood::Redirects);
    let text = checked(&of(&fake, "5s"), json!({"service": "api"})).await;
    assert_eq!(text, "api staging: NOT healthy, HTTP 302 in N ms, version not known (HTTP 302)");
    let mut paths = fake.knobs.lock().unwrap().paths.clone();
    paths.sort();
    assert_eq!(paths, ["/health", "/version"]);
}

#[tokio::test]
async fn a_closed_port_and_an_open_one_are_told_apart() {
    crate::crypto();
    let closed = closed_port().await;
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = registry(&format!(
        "[services.db.environments]\na = {{ status = 'tcp://{}' }}\nb = {{ status = 'tcp://{closed}' }}\n\
         c = {{ status = 'http://{closed}/' }}",
        open.local_addr().unwrap()
    ));
    let text = checked(&registry, json!({"service": "db"})).await;
    assert_eq!(
        text,
        "db a: healthy, TCP connected in N ms\n\
         db b: NOT healthy, Connection refused (os error 111) in N ms\n\
         db c: NOT healthy, Connection refused (os error 111) in N ms"
    );
}

#[tokio::test]
async fn environments_are_probed_at_the_same_time() {
    crate::crypto();
    // Nobody is answered before all three have asked.
    let barrier = Arc::new(Barrier::new(3));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route(
        "/",
        get(move || async move {
            barrier.wait().await;
        }),
    );
    tokio::spawn(async move { axum::serve(listener, app).await });
    let places = ["a", "b", "c"].map(|name| format!("{name} = {{ status = 'http://{address}/' }}")).join("\n");
    let registry = registry(&format!("[services.api.environments]\n{places}"));
    let text = checked(&registry, json!({"service": "api"})).await;
    assert_eq!(text.matches(": healthy").count(), 3, "{text}");
}

#[tokio::test]
async fn only_what_is_configured_can_be_checked() {
    let fake = Fake::start().await;
    let registry = of(&fake, "5s");
    for (raw, words) in [
        (r#"{"service":"apis"}"#, "there is no service `apis`; did you mean `api`? (known: api)"),
        (r#"{"service":"http://127.0.0.1/"}"#, "there is no service `http://127.0.0.1/` (known: api)"),
        (
            r#"{"service":"api","environment":"stagign"}"#,
            "`api` has no environment `stagign`; did you mean `staging`? (known: staging)",
        ),
    ] {
        let refused = registry.check("check_service_status", raw);
        assert_eq!(refused, Err(format!("check_service_status: {words}")));
    }
    assert!(fake.knobs.lock().unwrap().paths.is_empty());
    let decl = registry.decls(&["check_service_status"]).remove(0);
    assert!(decl.description.ends_with("Services (environments): api (staging)."), "{}", decl.description);
}

#[tokio::test]
async fn a_cancel_ends_the_probes() {
    let fake = Fake::start().await;
    fake.set(|k| k.mood = Mood::Silent);
    let call = call();
    call.cancel.cancel();
    let outcome = of(&fake, "60s").checked_run("check_service_status", &json!({"service": "api"}), &call).await;
    assert_eq!(outcome, Outcome::Failed { error: "stopped before it was done".to_owned() });
}
