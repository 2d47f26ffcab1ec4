//! `twelve doctor` and `twelve healthcheck`, as the real binary, against fakes on loopback.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use twelve::config::{Loaded, layers::Sources};
use twelve::http::{Service, Settings};
use twelve::store::{Durability, Store, StoreConfig};

use crate::world::World;

/// A directory with settings, and nothing in the environment but what a test puts there.
pub struct Home {
    dir: TempDir,
    environment: Vec<(&'static str, String)>,
}

/// What a command printed, and how it ended.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Home {
    pub fn new(settings: &str) -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap(), environment: Vec::new() };
        // Any port that is free when it is asked for: tests that are about the address set another.
        let port = if settings.contains("[http]") { "" } else { "[http]\nport = 0\n" };
        std::fs::write(home.path("twelve.toml"), format!("[log]\nlevel = \"error\"\n{port}{settings}")).unwrap();
        home
    }

    pub fn set(mut self, name: &'static str, value: impl ToString) -> Self {
        self.environment.push((name, value.to_string()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub async fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twelve"));
        command.args(args).current_dir(self.dir.path()).env_clear().stdin(std::process::Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(self.environment.iter().cloned());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The findings, by check: state, text and advice. The readable form has to say the same.
    pub async fn doctor(&self, code: i32) -> Findings {
        let ran = self.run(&["doctor", "--json"]).await;
        assert_eq!((ran.code, ran.err.as_str()), (code, ""), "{}", ran.out);
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(report["ok"], json!(code == 0));
        let field = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
        let checks = report["checks"].as_array().unwrap();
        Findings(checks.iter().map(|c| ["check", "state", "says", "next"].map(|name| field(c, name))).collect())
    }
}

pub struct Findings(pub Vec<[String; 4]>);

impl Findings {
    /// State, text and advice of the only finding of this check.
    #[track_caller]
    pub fn one(&self, check: &str) -> (&str, &str, &str) {
        let all: Vec<_> = self.0.iter().filter(|finding| finding[0] == check).collect();
        let [[_, state, says, next]] = all.as_slice() else { panic!("{check}: {:?}", self.0) };
        (state, says, next)
    }

    #[track_caller]
    pub fn states(&self, check: &str) -> Vec<&str> {
        self.0.iter().filter(|finding| finding[0] == check).map(|finding| finding[1].as_str()).collect()
    }

    pub fn bad(&self) -> Vec<&str> {
        let bad = |finding: &&[String; 4]| finding[1] == "failed" || finding[1] == "warn";
        self.0.iter().filter(bad).map(|finding| finding[0].as_str()).collect()
    }
}

async fn serve(router: Router) -> SocketAddr {
    crate::crypto();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

fn files(home: &Home) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![home.dir.path().to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.strip_prefix(home.dir.path()).unwrap().display().to_string();
            // SQLite's own; whoever reads a store leaves them beside it.
            if !name.ends_with("-wal") && !name.ends_with("-shm") {
                found.push(name);
            }
            if entry.is_dir() {
                open.push(entry);
            }
        }
    }
    found.sort();
    found
}

/// Makes the store, closed again.
async fn store(home: &Home) -> StoreConfig {
    std::fs::create_dir(home.path("data")).unwrap();
    std::fs::set_permissions(home.path("data"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let config = StoreConfig { path: home.path("data/twelve.db"), durability: Durability::Disk };
    Store::open(&config).await.unwrap().close().await.unwrap();
    config
}

#[tokio::test]
async fn where_nothing_is_set_up_all_is_well_and_nothing_is_made() {
    let home = Home::new("");
    let before = files(&home);
    let ran = home.run(&["doctor"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.ends_with("\nNothing failed, 0 warnings.\n"), "{}", ran.out);
    assert!(ran.out.contains("ok      configuration    2 settings set (in twelve.toml), the others"), "{}", ran.out);
    assert!(ran.out.contains("off     data directory   data is not made yet"), "{}", ran.out);
    assert_eq!(files(&home), before);
    let found = home.doctor(0).await;
    assert_eq!(found.bad(), Vec::<&str>::new());
    assert_eq!(found.one("model scripted").0, "off");
    assert_eq!(found.states("agent"), ["ok", "ok", "ok"]);
}

#[tokio::test]
async fn a_store_is_opened_read_through_and_timed_and_left_as_it_was() {
    let home = Home::new("[store]\ndurability = \"process\"\n");
    store(&home).await;
    let before = files(&home);
    let found = home.doctor(0).await;
    assert_eq!(found.bad(), Vec::<&str>::new());
    let (state, says, _) = found.one("store");
    assert_eq!(state, "ok");
    assert!(says.contains("opens for writing (") && says.ends_with("durability process)"), "{says}");
    assert_eq!(found.one("integrity"), ("ok", "the file reads back whole", ""));
    assert!(found.one("append").1.starts_with("a durable append takes "));
    assert!(found.one("disk space").1.ends_with(" are free"));
    assert_eq!(files(&home), before);
}

#[tokio::test]
async fn a_store_that_a_server_holds_is_no_failure_and_is_still_read_through() {
    let home = Home::new("");
    let config = store(&home).await;
    let held = Store::open(&config).await.unwrap();
    let found = home.doctor(0).await;
    let (state, says, _) = found.one("store");
    assert_eq!(state, "ok");
    assert!(says.contains(&format!("in use by process {}", std::process::id())), "{says}");
    assert_eq!(found.one("integrity").0, "ok");
    assert_eq!(found.states("append"), Vec::<&str>::new(), "the holder's disk is not disturbed");
    held.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_store_fails() {
    let home = Home::new("");
    let config = store(&home).await;
    let mut bytes = std::fs::read(&config.path).unwrap();
    // The first page holds the schema, which has to be readable to get this far.
    bytes[4096..].fill(0x5a);
    std::fs::write(&config.path, bytes).unwrap();
    let found = home.doctor(1).await;
    let (state, says, next) = found.one("integrity");
    assert_eq!(state, "failed");
    assert!(says.starts_with("the file is damaged: ") && next.contains("restore a backup"), "{says} {next}");
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_fails_and_an_open_one_warns() {
    // The tests run as root, whom no permission stops: a file is in the way instead.
    for place in ["in_the_way", "in_the_way/data"] {
        let home = Home::new("").set("TWELVE__APP__DATA_DIR", place);
        std::fs::write(home.path("in_the_way"), "").unwrap();
        let found = home.doctor(1).await;
        let (state, _, next) = found.one("data directory");
        assert_eq!(state, "failed", "{place}");
        assert!(next.contains("TWELVE__APP__DATA_DIR"), "{next}");
    }
    // Nobody writes there, not even root.
    let home = Home::new("").set("TWELVE__APP__DATA_DIR", "/proc/self");
    let found = home.doctor(1).await;
    assert!(found.one("data directory").1.starts_with("/proc/self cannot be written: "), "{:?}", found.0);

    let home = Home::new("");
    store(&home).await;
    std::fs::set_permissions(home.path("data"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let found = home.doctor(0).await;
    assert_eq!(found.bad(), ["data directory"]);
    assert_eq!(found.one("data directory").2, "chmod 700 data");
}

#[tokio::test]
async fn settings_that_cannot_be_read_are_all_named() {
    let home = Home::new("[app]\nname = \"\"\n[runtime]\nlease = \"1 parsec\"\n");
    let found = home.doctor(1).await;
    assert_eq!(found.states("configuration"), ["failed", "failed"]);
    assert_eq!(found.0.len(), 2, "nothing else can be looked at");
    let home = Home::new("[[policy.rules]]\nname = \"r\"\ntool = \"deplyo_service\"\ngate = \"deny\"\n");
    let found = home.doctor(1).await;
    assert!(found.one("agents").1.contains("no tool is called `deplyo_service`"), "{:?}", found.0);
}

/// Answers as a chat completions server would, or with a status; keeps what it was asked.
async fn provider(status: u16) -> (SocketAddr, Arc<Mutex<Vec<(String, Value)>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let answer = move |headers: HeaderMap, body: String| {
        let key = headers["authorization"].to_str().unwrap().to_owned();
        seen.lock().unwrap().push((key, serde_json::from_str(&body).unwrap()));
        async move {
            let whole = json!({
                "model": "m-1",
                "choices": [{ "message": { "content": "ok" }, "finish_reason": "stop" }],
                "usage": { "prompt_tokens": 9, "completion_tokens": 1 },
            });
            match status {
                // Longer than anybody waits.
                0 => std::future::pending().await,
                200 => whole.to_string().into_response(),
                _ => StatusCode::from_u16(status).unwrap().into_response(),
            }
        }
    };
    (serve(Router::new().route("/v1/chat/completions", post(answer))).await, asked)
}

#[tokio::test]
async fn a_model_is_really_asked_once_and_what_it_says_decides() {
    for (status, code, state, says, next) in [
        (200, 0, "ok", "answered in ", ""),
        (401, 1, "failed", "the API key is missing or wrong", "OPENAI_API_KEY"),
        (404, 1, "failed", "not found", "`model.model`"),
        (429, 0, "warn", "rate limited", "the account's limits"),
        (503, 0, "warn", "overloaded", "the account's limits"),
        (500, 1, "failed", "an error of the server", "base_url"),
        (0, 1, "failed", "did not answer within 1 s", "base_url"),
    ] {
        let (address, asked) = provider(status).await;
        let home = Home::new("[model]\ntimeout = \"1s\"\n")
            .set("OPENAI_BASE_URL", format!("http://{address}/v1"))
            .set("OPENAI_API_KEY", "not-a-real-key-0123");
        let found = home.doctor(code).await;
        let finding = found.one("model openai");
        assert_eq!(finding.0, state, "{status}: {finding:?}");
        assert!(finding.1.contains(says) && finding.2.contains(next), "{status}: {finding:?}");
        assert!(finding.1.contains("assistant, deployment, support"), "{finding:?}");
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 1, "three agents, one model, one question");
        assert_eq!(asked[0].0, "Bearer not-a-real-key-0123");
        assert_eq!(asked[0].1["model"], "gpt-5-mini");
        assert!(found.0.iter().all(|finding| !finding.concat().contains("not-a-real-key")), "{:?}", found.0);
    }
}

#[tokio::test]
async fn offline_asks_nobody() {
    let (address, asked) = provider(200).await;
    let settings = format!("[tools.services.api.environments.test]\nstatus = \"http://{address}/\"\n");
    let home = Home::new(&settings).set("OPENAI_BASE_URL", format!("http://{address}/v1")).set("OPENAI_API_KEY", "key");
    let ran = home.run(&["doctor", "--offline", "--json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert_eq!(ran.out.matches("(--offline)").count(), 2, "{}", ran.out);
    assert_eq!(asked.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn services_that_are_down_warn_and_what_a_deployment_lacks_is_named() {
    let address = serve(Router::new().route("/up", get(|| async { "fine" }))).await;
    let settings = format!(
        "[tools.services.api.environments]\ntest = {{ status = \"http://{address}/up\" }}\n\
         live = {{ status = \"http://{address}/down\", version = {{ url = \"http://{address}/up\" }} }}\n\
         [tools.services.api.deploy]\nversions = 'v\\d+'\n\
         [tools.services.api.deploy.http]\nurl = \"http://{address}/deploy\"\ntoken_env = \"API_DEPLOY_TOKEN\"\n"
    )
    .replace("test = {", &format!("test = {{ version = {{ url = \"http://{address}/up\" }},"));
    let home = Home::new(&settings);
    let found = home.doctor(0).await;
    assert_eq!(found.states("service api"), ["warn", "warn", "ok"], "{:?}", found.0);
    let says: Vec<&str> = found.0.iter().filter(|f| f[0] == "service api").map(|f| f[2].as_str()).collect();
    assert!(says[0].ends_with("not set: API_DEPLOY_TOKEN"), "{says:?}");
    assert!(says[1].starts_with("live: NOT healthy, HTTP 404"), "{says:?}");
    assert!(says[2].starts_with("test: healthy, HTTP 200"), "{says:?}");
    let found = home.set("API_DEPLOY_TOKEN", "set").doctor(0).await;
    assert_eq!(found.states("service api"), ["warn", "ok"], "{:?}", found.0);
}

#[tokio::test]
async fn who_gets_in_and_what_is_off_is_said() {
    let hash = "0".repeat(64);
    let home = Home::new(&format!(
        "[http]\nhost = \"0.0.0.0\"\nport = 0\n[[http.tokens]]\nname = \"ci\"\nhash = \"sha256:{hash}\"\nscopes = [\"start\", \"read\"]\n\
         [http.proxy]\nuser_header = \"X-Forwarded-User\"\n\
         [[triggers.webhooks]]\nname = \"alerts\"\nsecret_env = \"ALERTS_SECRET\"\nagent = \"support\"\nmessage = \"look\"\n"
    ));
    let found = home.doctor(1).await;
    assert_eq!(found.bad(), ["webhook"], "{:?}", found.0);
    assert_eq!(found.one("tokens").1, "ci (start, read)");
    assert_eq!(found.one("proxy").1, "X-Forwarded-User is believed from 127.0.0.1, ::1");
    assert_eq!(found.one("schedules").0, "off");
    assert!(found.one("webhook").1.contains("ALERTS_SECRET"), "{:?}", found.0);
    home.set("ALERTS_SECRET", "not-really-a-secret-but-long-enough").doctor(0).await;

    assert_eq!(found.one("local token").0, "off", "the first start of the service makes it");
    let trusting = Home::new("[http]\nport = 0\ntrust_loopback = true\n");
    let data = trusting.dir.path().join("data");
    twelve::http::secret_file::make_local_token(&data).unwrap();
    let found = trusting.doctor(0).await;
    assert_eq!(found.one("local token").0, "ok");
    let (state, says, next) = found.one("trust_loopback");
    assert!(
        state == "warn" && says.contains("also by a proxy") && next.contains("remove `http.trust_loopback`"),
        "{found:?}",
        found = found.0
    );
    std::fs::set_permissions(data.join("local.token"), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(trusting.doctor(1).await.bad().contains(&"local token"), "others can read it");

    let found = Home::new("[http]\nhost = \"0.0.0.0\"\nport = 0\n").doctor(0).await;
    assert_eq!(found.bad(), ["tokens"], "a service that others reach and that lets no program in");
}

/// Our own service on loopback, with its runtime.
async fn ours() -> (World, SocketAddr) {
    let world = World::new().await;
    let http = Loaded::from_sources(&Sources::default()).unwrap().config.http;
    let stop = CancellationToken::new();
    let settings = Settings {
        http,
        app_name: "twelve".into(),
        secret: [7; 32],
        local_token: None,
        demo: None,
        stop,
        triggers: Default::default(),
        slack: None,
    };
    let address = serve(Service::new(world.runtime.clone(), settings).router()).await;
    (world, address)
}

fn at(address: SocketAddr) -> Home {
    Home::new("").set("API_PORT", address.port())
}

#[tokio::test]
async fn an_address_is_free_ours_or_somebody_elses() {
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    assert_eq!(at(free).doctor(0).await.one("address").1, format!("{free} is free"));

    let (world, address) = ours().await;
    let version = env!("CARGO_PKG_VERSION");
    let found = at(address).doctor(0).await;
    assert_eq!(found.one("address"), ("ok", &*format!("{address} is served by twelve {version}, which is ready"), ""));
    world.runtime.drain(Duration::ZERO).await.unwrap();
    let found = at(address).doctor(0).await;
    assert_eq!((found.one("address").0, found.bad()), ("warn", vec!["address"]));

    let stranger = serve(Router::new().route("/readyz", get(|| async { "{\"ready\": true}" }))).await;
    let found = at(stranger).doctor(1).await;
    let (state, says, next) = found.one("address");
    assert_eq!((state, says), ("failed", &*format!("another program has {stranger}")));
    assert!(next.contains("API_PORT"), "{next}");
}

#[tokio::test]
async fn a_container_learns_whether_the_service_is_ready() {
    let (world, address) = ours().await;
    let home = at(address).set("API_HOST", "0.0.0.0");
    let ran = home.run(&["healthcheck"]).await;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, &*format!("ready (twelve {version})\n"), ""));

    world.runtime.drain(Duration::ZERO).await.unwrap();
    let ran = home.run(&["healthcheck"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.starts_with("twelve: not ready: The process is stopping"), "{}", ran.err);

    let stranger = serve(Router::new().route("/readyz/http", get(|| async { "{\"ready\": true}" }))).await;
    let ran = at(stranger).run(&["healthcheck"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("something else than twelve answers"), "{}", ran.err);

    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let ran = at(free).run(&["healthcheck"]).await;
    assert_eq!(ran.code, 1);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(ran.err.contains("is `twelve serve` running"), "{}", ran.err);
}
