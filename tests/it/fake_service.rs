//! A service on loopback whose state is a directory: `version` is what runs, `ledger` has one line for
//! each deployment that really happened. Scripts write the same files, so back ends can be mixed.

use std::fs;
use std::future::pending;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

use twelve::agent::{EffectId, Outcome, Plan, ThreadId, Timestamp};
use twelve::tools::{CallContext, Registry, ToolsConfig};

/// What the service does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Well,
    /// Health answers this status and `why it is so`, on a line before many others.
    Status(u16),
    /// Health never answers.
    Silent,
    /// Everything is redirected to `/elsewhere`.
    Redirects,
}

/// A request to `/deploy`, as it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub method: Method,
    pub uri: String,
    pub key: String,
    pub bearer: String,
    pub body: Value,
}

pub struct Knobs {
    pub mood: Mood,
    /// What `/deploy` answers, and whether it deploys before that.
    pub deploy: (u16, bool),
    /// How many readings still give the version from before a deployment.
    pub stale_reads: u32,
    pub seen: Vec<Seen>,
    /// Paths of all requests.
    pub paths: Vec<String>,
}

pub struct Fake {
    pub dir: TempDir,
    pub address: SocketAddr,
    pub knobs: Arc<Mutex<Knobs>>,
}

type Shared = (Arc<Mutex<Knobs>>, Arc<Path>);

impl Fake {
    /// Runs v1.2.2, healthy.
    pub async fn start() -> Fake {
        crate::crypto();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("version"), "v1.2.2").unwrap();
        fs::write(dir.path().join("before"), "v1.2.2").unwrap();
        let knobs = Knobs { mood: Mood::Well, deploy: (200, true), stale_reads: 0, seen: vec![], paths: vec![] };
        let knobs = Arc::new(Mutex::new(knobs));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared: Shared = (knobs.clone(), Arc::from(dir.path()));
        let app = Router::new().fallback(answer).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Fake { dir, address, knobs }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn set(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.knobs.lock().unwrap());
    }

    pub fn ledger(&self) -> Vec<String> {
        fs::read_to_string(self.dir.path().join("ledger")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// A script that deploys: it takes the version as its first argument, after `first` has run.
    pub fn script(&self, first: &str) -> String {
        let dir = self.dir.path().display();
        let text = format!(
            "cd '{dir}' || exit 9\n{first}\necho \"$1 $TWELVE_EFFECT_ID\" >> ledger\nprintf %s \"$1\" > version\n"
        );
        let path = self.dir.path().join("deploy.sh");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// A registry that knows this service as `api` in `staging`, deployed as `deploy` (TOML) says.
    pub fn registry(&self, deploy: &str) -> Registry {
        let text = format!(
            "probe_timeout = '2s'\n\
             [services.api.environments.staging]\n\
             status = '{}'\n\
             version = {{ url = '{}', pointer = '/build/version' }}\n\
             [services.api.deploy]\n{}{}{deploy}",
            self.url("/health"),
            self.url("/version"),
            if deploy.contains("versions =") { "" } else { "versions = 'v\\d+\\.\\d+\\.\\d+'\n" },
            if deploy.contains("settle =") { "" } else { "settle = '300ms'\n" },
        );
        registry(&text)
    }

    /// The same, deployed by [`Fake::script`].
    pub fn by_script(&self, first: &str, more: &str) -> Registry {
        let script = self.script(first);
        self.registry(&format!(
            "{more}\ncommand = {{ argv = ['/bin/sh', '{script}', '{{version}}'], timeout = '20s' }}"
        ))
    }
}

pub fn registry(toml: &str) -> Registry {
    let config: ToolsConfig = toml::from_str(toml).unwrap_or_else(|e| panic!("{e}"));
    Registry::from_config(&config, Path::new("unused")).unwrap_or_else(|e| panic!("{e:#}"))
}

pub fn call() -> CallContext {
    let thread = "console:test".parse::<ThreadId>().unwrap().short();
    CallContext { effect: EffectId::new(thread, 7, 0), now: Timestamp(1_000), cancel: Default::default() }
}

/// An address where nobody listens.
pub async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn answer(
    State((knobs, dir)): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mood = {
        let mut knobs = knobs.lock().unwrap();
        knobs.paths.push(uri.path().to_owned());
        knobs.mood
    };
    if mood == Mood::Redirects && uri.path() != "/elsewhere" {
        return (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response();
    }
    match uri.path() {
        "/health" | "/elsewhere" => match mood {
            Mood::Silent => pending().await,
            Mood::Status(status) => {
                let text = format!("why it is so\nsecret details\n{}", "x".repeat(300_000));
                (StatusCode::from_u16(status).unwrap(), text).into_response()
            }
            Mood::Well | Mood::Redirects => format!("fine\n{}", "x".repeat(300_000)).into_response(),
        },
        "/version" => {
            let mut knobs = knobs.lock().unwrap();
            let deployed = fs::read_to_string(dir.join("ledger")).is_ok();
            let name = if deployed && knobs.stale_reads > 0 {
                knobs.stale_reads -= 1;
                "before"
            } else {
                "version"
            };
            let version = fs::read_to_string(dir.join(name)).unwrap();
            axum::Json(serde_json::json!({ "build": { "version": version } })).into_response()
        }
        path if path.starts_with("/deploy") => {
            let text = |name: &str| headers.get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
            let seen = Seen {
                method,
                uri: uri.to_string(),
                key: text("idempotency-key"),
                bearer: text("authorization"),
                body: serde_json::from_slice(&body).unwrap(),
            };
            let (status, deploys) = knobs.lock().unwrap().deploy;
            if deploys {
                let version = seen.body["version"].as_str().unwrap().to_owned();
                let mut ledger = fs::OpenOptions::new().create(true).append(true).open(dir.join("ledger")).unwrap();
                writeln!(ledger, "{version} {}", seen.key).unwrap();
                fs::write(dir.join("version"), version).unwrap();
            }
            let echo = format!("you sent {}", seen.bearer);
            knobs.lock().unwrap().seen.push(seen);
            if status == 0 { pending().await } else { (StatusCode::from_u16(status).unwrap(), echo).into_response() }
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Calls as the runtime makes them: what is planned and run are the arguments that the check gave.
pub trait Checked {
    async fn checked_run(&self, tool: &str, args: &Value, call: &CallContext) -> Outcome;
    async fn checked_plan(&self, tool: &str, args: &Value) -> Result<Plan, String>;
}

impl Checked for Registry {
    async fn checked_run(&self, tool: &str, args: &Value, call: &CallContext) -> Outcome {
        match self.check_value(tool, args.clone()) {
            Ok(args) => self.run(tool, args.as_value(), call).await,
            Err(error) => Outcome::Failed { error },
        }
    }

    async fn checked_plan(&self, tool: &str, args: &Value) -> Result<Plan, String> {
        self.plan(tool, self.check_value(tool, args.clone())?.as_value()).await
    }
}
