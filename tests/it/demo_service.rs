//! The demo's service over the wire, and `deploy_service` against it.

use std::net::SocketAddr;
use std::path::Path;

use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use twelve::agent::Outcome;
use twelve::demo_service::{LedgerLine, ledger, seed, serve};

use crate::fake_service::{Checked as _, call, registry};

async fn start(dir: &Path) -> (SocketAddr, JoinHandle<std::io::Result<()>>) {
    crate::crypto();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), tokio::spawn(serve(dir.to_owned(), listener)))
}

async fn body(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn deploy(at: SocketAddr, path: &str, key: Option<&str>, sent: Value) -> (u16, Value) {
    let mut request = Client::new().post(format!("http://{at}{path}")).json(&sent);
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    body(request.send().await.unwrap()).await
}

async fn health(at: SocketAddr) -> (u16, Value) {
    body(Client::new().get(format!("http://{at}/api-backend/staging/health")).send().await.unwrap()).await
}

fn line(from: &str, version: &str, key: &str) -> LedgerLine {
    LedgerLine {
        service: "api-backend".to_owned(),
        environment: "staging".to_owned(),
        from: from.to_owned(),
        version: version.to_owned(),
        key: key.to_owned(),
    }
}

#[tokio::test]
async fn a_deployment_takes_effect_at_once_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "api-backend", "staging", "v1.2.2").unwrap();
    let (at, server) = start(dir.path()).await;
    let as_of =
        |version: &str| json!({"service": "api-backend", "environment": "staging", "status": "ok", "version": version});
    assert_eq!(health(at).await, (200, as_of("v1.2.2")));
    let done = deploy(at, "/api-backend/staging/deploy", Some("k1"), json!({"version": "v1.2.3"})).await;
    assert_eq!(done, (200, json!({"from": "v1.2.2", "version": "v1.2.3"})));
    assert_eq!(health(at).await, (200, as_of("v1.2.3")));
    server.abort();
    let _ = server.await;

    seed(dir.path(), "api-backend", "staging", "v0.0.1").unwrap();
    let (at, _server) = start(dir.path()).await;
    assert_eq!(health(at).await, (200, as_of("v1.2.3")), "seeding changes nothing that runs");
    let version = Client::new().get(format!("http://{at}/api-backend/staging/version")).send().await.unwrap();
    assert_eq!(body(version).await, (200, json!({"version": "v1.2.3"})));
    assert_eq!(ledger(dir.path()).unwrap(), [line("v1.2.2", "v1.2.3", "k1")]);
}

#[tokio::test]
async fn the_ledger_shows_a_deployment_that_was_made_twice() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "api-backend", "staging", "v1").unwrap();
    let (at, _server) = start(dir.path()).await;
    let mut posts = tokio::task::JoinSet::new();
    for _ in 0..10 {
        posts.spawn(deploy(at, "/api-backend/staging/deploy", Some("same"), json!({"version": "v2"})));
    }
    assert!(posts.join_all().await.iter().all(|(status, _)| *status == 200));
    assert_eq!(ledger(dir.path()).unwrap().len(), 10);
}

#[tokio::test]
async fn what_is_not_a_proper_request_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "api-backend", "staging", "v1.2.2").unwrap();
    let (at, _server) = start(dir.path()).await;
    let good = "/api-backend/staging/deploy";
    for (path, key, sent, status) in [
        (good, None, json!({"version": "v2"}), 400),
        (good, Some("k"), json!({"version": "../../x"}), 422),
        (good, Some("k"), json!({"version": "v2\n"}), 422),
        (good, Some("k"), json!({"version": "v2", "also": 1}), 422),
        (good, Some("k"), json!({"version": "x".repeat(100_000)}), 413),
        ("/other/staging/deploy", Some("k"), json!({"version": "v2"}), 404),
        ("/..%2fapi-backend/staging/deploy", Some("k"), json!({"version": "v2"}), 404),
    ] {
        let (got, answer) = deploy(at, path, key, sent.clone()).await;
        assert_eq!(got, status, "{path} {sent} {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    assert_eq!(ledger(dir.path()).unwrap(), []);
    assert_eq!(health(at).await.1["version"], "v1.2.2");
    assert!(seed(dir.path(), "../x", "staging", "v1").is_err());
}

#[tokio::test]
async fn deploy_service_deploys_to_it_as_the_demo_does() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "api-backend", "staging", "v1.2.2").unwrap();
    let (at, _server) = start(dir.path()).await;
    let registry = registry(&format!(
        "[services.api-backend.environments.staging]\n\
         status = 'http://{at}/api-backend/staging/health'\n\
         version = {{ url = 'http://{at}/api-backend/staging/version', pointer = '/version' }}\n\
         [services.api-backend.deploy]\nversions = 'v\\d+\\.\\d+\\.\\d+'\n\
         http = {{ url = 'http://{at}/{{service}}/{{environment}}/deploy', body = {{ version = '{{version}}' }} }}"
    ));
    let args = json!({"service": "api-backend", "version": "v1.2.3", "environment": "staging"});
    assert_eq!(registry.checked_plan("deploy_service", &args).await.unwrap().summary, "now v1.2.2 -> v1.2.3");
    let Outcome::Succeeded { text } = registry.checked_run("deploy_service", &args, &call()).await else {
        panic!("failed")
    };
    assert!(text.starts_with("api-backend staging: v1.2.2 -> v1.2.3, healthy in "), "{text}");
    let key = call().effect.to_string();
    assert_eq!(ledger(dir.path()).unwrap(), [line("v1.2.2", "v1.2.3", &key)]);
}
