//! The small real service of the demo: what `twelve demo` checks and deploys.
//!
//! It is a service in the sense that matters: it answers over HTTP, runs a version, and changes that
//! version when it is told to. All of its state is files in one directory, so it survives restarts, and
//! what was really done to it can be read without it:
//!
//! - `<service>-<environment>.version`: the version that runs there;
//! - `ledger.jsonl`: one line for each deployment that was carried out.
//!
//! It demands an `Idempotency-Key` and writes it down, but deliberately does not drop a repeated one:
//! the ledger has to show a deployment that ran twice, not hide it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path as Parts, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Longest request body in bytes; a version has 64 characters at most.
const MAX_BODY: usize = 4 * 1024;

/// Longest name, version and idempotency key in bytes.
const MAX_NAME: usize = 64;
const MAX_KEY: usize = 128;

/// One deployment that was carried out, as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    pub service: String,
    pub environment: String,
    /// What ran before.
    pub from: String,
    pub version: String,
    /// The key that came with the request.
    pub key: String,
}

struct Demo {
    dir: PathBuf,
    /// Deployments happen one after the other.
    turn: Mutex<()>,
}

type Answer = (StatusCode, Json<Value>);

/// Serves the directory on `listener` until the future is dropped.
///
/// # Errors
/// The directory cannot be created, or the listener breaks.
pub async fn serve(dir: PathBuf, listener: TcpListener) -> io::Result<()> {
    fs::create_dir_all(&dir)?;
    let app = Router::new()
        .route("/{service}/{environment}/health", get(health))
        .route("/{service}/{environment}/version", get(version))
        .route("/{service}/{environment}/deploy", post(deploy))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(Demo { dir, turn: Mutex::new(()) }));
    axum::serve(listener, app).await
}

/// Makes `service` run `version` in `environment` unless it runs some version there already.
///
/// # Errors
/// A name or version that is not usable, or a directory that cannot be written.
pub fn seed(dir: &Path, service: &str, environment: &str, version: &str) -> io::Result<()> {
    if !is_service(service) || !is_environment(environment) || !is_version(version) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{service}` `{environment}` `{version}` are not a service, an environment and a version"),
        ));
    }
    fs::create_dir_all(dir)?;
    if version_file(dir, service, environment).exists() {
        return Ok(());
    }
    write_version(dir, service, environment, version)
}

/// The deployments that were carried out in `dir`, oldest first.
///
/// # Errors
/// The ledger cannot be read, or a line of it is not one that [`serve`] wrote.
pub fn ledger(dir: &Path) -> io::Result<Vec<LedgerLine>> {
    match fs::read_to_string(dir.join("ledger.jsonl")) {
        Ok(text) => text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

async fn health(State(demo): State<Arc<Demo>>, Parts((service, environment)): Parts<(String, String)>) -> Answer {
    match running(&demo.dir, &service, &environment) {
        Ok(version) => {
            let body = json!({ "service": service, "environment": environment, "status": "ok", "version": version });
            (StatusCode::OK, Json(body))
        }
        Err(answer) => answer,
    }
}

async fn version(State(demo): State<Arc<Demo>>, Parts((service, environment)): Parts<(String, String)>) -> Answer {
    match running(&demo.dir, &service, &environment) {
        Ok(version) => (StatusCode::OK, Json(json!({ "version": version }))),
        Err(answer) => answer,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deploy {
    version: String,
}

async fn deploy(
    State(demo): State<Arc<Demo>>,
    Parts((service, environment)): Parts<(String, String)>,
    headers: HeaderMap,
    body: Result<Json<Deploy>, JsonRejection>,
) -> Answer {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or("").to_owned();
    if key.is_empty() || key.len() > MAX_KEY {
        return refuse(StatusCode::BAD_REQUEST, "the header Idempotency-Key is missing or too long");
    }
    let version = match body {
        Ok(Json(Deploy { version })) if is_version(&version) => version,
        Ok(_) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, "that is not a version"),
        Err(e) => return refuse(e.status(), &e.body_text()),
    };
    let work = tokio::task::spawn_blocking(move || {
        let _turn = demo.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let from = running(&demo.dir, &service, &environment)?;
        let line = LedgerLine { service, environment, from, version, key };
        let done = append(&demo.dir, &line)
            .and_then(|()| write_version(&demo.dir, &line.service, &line.environment, &line.version));
        match done {
            Ok(()) => Ok((StatusCode::OK, Json(json!({ "from": line.from, "version": line.version })))),
            Err(e) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("the files cannot be written: {e}"))),
        }
    });
    match work.await {
        Ok(Ok(answer) | Err(answer)) => answer,
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the deployment broke"),
    }
}

fn refuse(status: StatusCode, why: &str) -> Answer {
    (status, Json(json!({ "error": why })))
}

fn running(dir: &Path, service: &str, environment: &str) -> Result<String, Answer> {
    let nothing = || refuse(StatusCode::NOT_FOUND, "no such service runs there");
    if !is_service(service) || !is_environment(environment) {
        return Err(nothing());
    }
    match fs::read_to_string(version_file(dir, service, environment)) {
        Ok(version) => Ok(version.trim().to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(nothing()),
        Err(e) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("the version cannot be read: {e}"))),
    }
}

fn version_file(dir: &Path, service: &str, environment: &str) -> PathBuf {
    dir.join(format!("{service}-{environment}.version"))
}

fn append(dir: &Path, line: &LedgerLine) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("ledger.jsonl"))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// A reader sees the old version or the new one, also after a crash.
fn write_version(dir: &Path, service: &str, environment: &str, version: &str) -> io::Result<()> {
    let path = version_file(dir, service, environment);
    let fresh = path.with_extension("version.new");
    let mut file = File::create(&fresh)?;
    writeln!(file, "{version}")?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    File::open(dir)?.sync_all()
}

/// Names become file names, so nothing in them means anything to a file system.
fn is_service(name: &str) -> bool {
    is_word(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Without `-`, so that a file name can be read in one way only.
fn is_environment(name: &str) -> bool {
    is_word(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

fn is_version(text: &str) -> bool {
    is_word(text, |c| c.is_ascii_alphanumeric() || "._+-".contains(c)) && !text.starts_with(['.', '-', '_', '+'])
}

fn is_word(text: &str, legal: impl Fn(char) -> bool) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && text.chars().all(legal)
}
