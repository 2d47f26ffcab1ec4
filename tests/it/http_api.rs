//! The service around a world, as requests see it: tokens of all kinds, and one call at a time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use twelve::agent::Principal;
use twelve::config::{HttpConfig, Loaded, Scope, TokenConfig, layers::Sources};
use twelve::http::{Peer, Service, Settings};

use crate::world::World;

pub struct Api {
    pub world: World,
    pub service: Service,
    pub stop: CancellationToken,
    router: Router,
    peers: AtomicU32,
}

/// A name, its scopes, and the person behind it. The token of `ci` is `token-ci`.
const TOKENS: &[(&str, &[Scope], Option<&str>)] = &[
    ("ci", &[Scope::Start, Scope::Read, Scope::Resume], None),
    ("eve", &[Scope::Start, Scope::Read, Scope::Resume], None),
    ("ann", &[Scope::Start, Scope::Read, Scope::Resume, Scope::Approve], Some("api:ann")),
    ("bob", &[Scope::Read, Scope::Resume, Scope::Approve], Some("api:bob")),
    ("boss", &[Scope::Admin], None),
    ("chief", &[Scope::Resume, Scope::Approve, Scope::Admin], Some("api:chief")),
    ("only-start", &[Scope::Start], None),
    ("only-read", &[Scope::Read], None),
    ("only-resume", &[Scope::Resume], None),
    ("only-approve", &[Scope::Approve], Some("api:zoe")),
];

pub fn tokens() -> Vec<TokenConfig> {
    let token = |(name, scopes, person): &(&str, &[Scope], Option<&str>)| TokenConfig {
        name: (*name).to_owned(),
        hash: format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(format!("token-{name}")))),
        scopes: scopes.to_vec(),
        person: person.map(str::to_owned),
    };
    TOKENS.iter().map(token).collect()
}

pub fn http_config() -> HttpConfig {
    Loaded::from_sources(&Sources::default()).unwrap().config.http
}

pub fn service(world: &World, http: HttpConfig, demo: Option<Principal>, stop: &CancellationToken) -> Service {
    let settings = Settings {
        http,
        app_name: "twelve".to_owned(),
        secret: [7; 32],
        local_token: Some("token-local".into()),
        demo,
        stop: stop.clone(),
        triggers: Default::default(),
        slack: None,
    };
    Service::new(world.runtime.clone(), settings)
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The status and the code of a problem; fails if it is none.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16(), "{self:?}");
        assert!(json["detail"].as_str().is_some_and(|d| d.len() > 10), "{self:?}");
        (self.status.as_u16(), json["code"].as_str().unwrap().to_owned())
    }

    pub fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self.json()
    }
}

impl Api {
    pub async fn new() -> Self {
        Self::around(
            World::new().await,
            HttpConfig { tokens: tokens(), requests_per_minute: 1_000_000, ..http_config() },
            None,
        )
    }

    pub fn around(world: World, http: HttpConfig, demo: Option<Principal>) -> Self {
        let stop = CancellationToken::new();
        let service = service(&world, http, demo, &stop);
        Self { world, router: service.router(), service, stop, peers: AtomicU32::new(0) }
    }

    /// The program dies and is started again.
    pub async fn crash(&mut self) {
        self.world.crash().await;
        self.service = service(&self.world, self.service.settings().http.clone(), None, &self.stop);
        self.router = self.service.router();
    }

    /// One request as the connection hands it over. Each comes from another address, so that no rate is met
    /// by accident.
    pub async fn send(&self, mut request: Request<Body>) -> axum::response::Response {
        let n = self.peers.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let peer = SocketAddr::from(([127, n[1], n[2], n[3]], 4000));
        if request.extensions().get::<Peer>().is_none() {
            request.extensions_mut().insert(Peer(peer));
        }
        request.headers_mut().entry(header::HOST).or_insert("localhost:8000".parse().unwrap());
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn read(&self, request: Request<Body>) -> Reply {
        let response = self.send(request).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Reply { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    pub async fn get(&self, name: &str, path: &str) -> Reply {
        self.read(request(Method::GET, path, Some(name), &[], None)).await
    }

    pub async fn post(&self, name: &str, path: &str, body: Value) -> Reply {
        self.read(request(Method::POST, path, Some(name), &[], Some(body))).await
    }

    pub async fn post_with_key(&self, name: &str, key: &str, path: &str, body: Value) -> Reply {
        self.read(request(Method::POST, path, Some(name), &[("idempotency-key", key)], Some(body))).await
    }

    /// Starts an agent and lets everything happen that can; gives the short id of the thread.
    pub async fn start(&self, name: &str, message: &str) -> String {
        let reply = self.post(name, "/agents/start", serde_json::json!({ "message": message })).await.ok(202);
        self.world.runtime.settle().await.unwrap();
        reply["thread_id"].as_str().unwrap().to_owned()
    }

    pub async fn status(&self, name: &str, thread: &str) -> Value {
        self.get(name, &format!("/agents/{thread}/status")).await.ok(200)
    }
}

/// `name`: whose token is sent.
pub fn request(
    method: Method,
    path: &str,
    name: Option<&str>,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(name) = name {
        request = request.header(header::AUTHORIZATION, format!("Bearer token-{name}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match body {
        Some(body) => {
            request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).unwrap()
        }
        None => request.body(Body::empty()).unwrap(),
    }
}
