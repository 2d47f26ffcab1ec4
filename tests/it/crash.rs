//! kill -9 of the real program at every named step, and what is left of it.
//!
//! The program under test is the built binary, talking over a pipe. The service that it deploys to runs
//! in this process, and so does its ledger: a double deployment cannot hide. Each story is played once
//! for each step and each time that the step comes up; then the program is started again, and whatever
//! a person can see must be true.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use twelve::agent::*;
use twelve::demo_service;
use twelve::runtime::crash::POINTS;
use twelve::store::{Store, StoreError};

const THREAD: &str = "console:crash";
/// More often than any step comes up in one process of these stories.
const MOST_TIMES: usize = 40;
/// The program is ended if it has not ended by itself by then; it takes well under a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stage: the service, and a directory with the program's settings and store.
struct Stage {
    dir: TempDir,
    service: TempDir,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// How a process ended.
#[derive(Debug, PartialEq)]
enum End {
    Killed,
    ByItself,
}

impl Stage {
    async fn new() -> Self {
        let (dir, service) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        demo_service::seed(service.path(), "api", "staging", "v1.2.2").unwrap();
        let settings = format!(
            r#"
[log]
level = "error"
[store]
durability = "process"
[model]
provider = "scripted"
[tools.services.api.environments.staging]
status = "http://{address}/api/staging/health"
version = {{ url = "http://{address}/api/staging/version", pointer = "/version" }}
[tools.services.api.deploy]
versions = 'v\d+\.\d+\.\d+'
http = {{ url = "http://{address}/api/staging/deploy", body = {{ version = "{{version}}" }} }}
"#
        );
        std::fs::write(dir.path().join("twelve.toml"), settings).unwrap();
        let server = tokio::spawn(demo_service::serve(service.path().to_owned(), listener));
        Self { dir, service, server }
    }

    /// Runs the program on these lines until it ends, by itself or by the crash that was asked for.
    async fn chat(&self, lines: &str, crash: Option<(&str, usize)>) -> End {
        let (dir, lines) = (self.dir.path().to_owned(), lines.to_owned());
        let crash = crash.map(|(point, nth)| format!("{point}:{nth}"));
        let run = tokio::task::spawn_blocking(move || chat(&dir, &lines, crash.as_deref()));
        tokio::time::timeout(PATIENCE, run).await.expect("the program ends").unwrap()
    }

    /// The log, chain checked; empty if the thread does not exist.
    async fn log(&self) -> (Thread, Vec<Event>) {
        let id: ThreadId = THREAD.parse().unwrap();
        let mut thread = Thread::vacant(id.clone());
        let store = match Store::open_read_only(&self.dir.path().join("data/twelve.db")).await {
            Ok(store) => store,
            Err(StoreError::Missing(_)) => return (thread, Vec::new()),
            Err(e) => panic!("{e}"),
        };
        let events = match store.load(id.short(), 0).await {
            Ok(loaded) => {
                assert_eq!(verify_chain(&loaded.events, loaded.summary.version, loaded.summary.head), None);
                loaded.events
            }
            Err(StoreError::Unknown(_)) => Vec::new(),
            Err(e) => panic!("{e}"),
        };
        thread.replay(&events).unwrap();
        let events = events.iter().enumerate().map(|(i, b)| Event::decode(b, i as u64 + 1).unwrap()).collect();
        (thread, events)
    }

    /// How often the outside was really changed.
    fn deployments(&self) -> usize {
        demo_service::ledger(self.service.path()).unwrap().len()
    }

    /// Starts the program with nothing to say: it takes up whatever was left, and ends when all rests.
    async fn recover(&self) -> Thread {
        assert_eq!(self.chat("", None).await, End::ByItself);
        self.log().await.0
    }
}

fn chat(dir: &Path, lines: &str, crash: Option<&str>) -> End {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twelve"));
    command
        .args(["chat", "deployment", "--thread", THREAD, "--as", "ops"])
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(crash) = crash {
        command.env("TWELVE_CRASH_AT", crash);
    }
    let mut child = command.spawn().unwrap();
    // It may be dead before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let output = child.wait_with_output().unwrap();
    match output.status.signal() {
        Some(9) => End::Killed,
        None if output.status.success() => End::ByItself,
        _ => panic!("{:?}\n{}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}

/// Everything that must hold whatever happened: at most one deployment, no start without an approval,
/// one result for each call.
fn check(stage: &Stage, log: &[Event], at: &str) {
    assert!(stage.deployments() <= 1, "{at}: deployed {} times", stage.deployments());
    let mut approved = BTreeSet::new();
    let mut started = BTreeSet::new();
    let mut finished = BTreeSet::new();
    for event in log {
        match &event.body {
            Body::ApprovalResolved { approval, resolution: Resolution::Approved, .. } => {
                approved.insert(*approval);
            }
            Body::ToolStarted { call, .. } => {
                assert!(!approved.is_empty(), "{at}: started without an approval");
                assert!(started.insert(*call), "{at}: started twice");
            }
            Body::ToolFinished { call, .. } => assert!(finished.insert(*call), "{at}: finished twice"),
            _ => {}
        }
    }
    assert_eq!(stage.deployments().min(1), started.len().min(stage.deployments()), "{at}: deployed without a start");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_before_the_decision_loses_nothing_and_deploys_nothing() {
    let mut hit = BTreeSet::new();
    for point in POINTS {
        for nth in 1..=MOST_TIMES {
            let at = format!("{point}:{nth}");
            let stage = Stage::new().await;
            let ask = "deploy api v1.2.3 to staging\n";
            if stage.chat(ask, Some((point, nth))).await == End::ByItself {
                break;
            }
            hit.insert(*point);
            let mut thread = stage.recover().await;
            if thread.version == 0 {
                // It died before the message was kept, so nobody was told that it was: it is said again.
                stage.chat(ask, None).await;
                thread = stage.log().await.0;
            }
            assert_eq!(thread.status(), Status::WaitingApproval, "{at}");
            assert_eq!(stage.deployments(), 0, "{at}");
            // And the card is good.
            stage.chat("/approve\n", None).await;
            let (thread, log) = stage.log().await;
            check(&stage, &log, &at);
            assert_eq!((thread.status(), stage.deployments()), (Status::Done, 1), "{at}");
        }
    }
    let reached: Vec<&str> = hit.into_iter().collect();
    assert_eq!(
        reached,
        [
            "deliver.after_append",
            "deliver.before_append",
            "model.after_call",
            "model.before_call",
            "plan.after_call",
            "post.after_send",
            "post.before_send",
            "tool.after_run",
            "tool.after_start",
            "tool.before_start",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_after_the_decision_deploys_once_or_asks_a_person() {
    let mut hit = BTreeSet::new();
    let mut unknown = 0;
    for point in POINTS {
        for nth in 1..=MOST_TIMES {
            let at = format!("{point}:{nth}");
            let stage = Stage::new().await;
            stage.chat("deploy api v1.2.3 to staging\n", None).await;
            if stage.chat("/approve\n", Some((point, nth))).await == End::ByItself {
                break;
            }
            hit.insert(*point);
            let mut thread = stage.recover().await;
            if thread.status() == Status::WaitingApproval {
                // It died before the vote was kept, so nobody was told that it was.
                assert_eq!(stage.deployments(), 0, "{at}");
                stage.chat("/approve\n", None).await;
                thread = stage.log().await.0;
            }
            if thread.status() == Status::WaitingMark {
                // It died between start and finish. The person looks at the service, and says what is.
                unknown += 1;
                let mark = if stage.deployments() == 1 { "/mark succeeded\n" } else { "/mark failed\n" };
                stage.chat(mark, None).await;
                thread = stage.log().await.0;
            } else {
                assert_eq!(stage.deployments(), 1, "{at}");
            }
            let (_, log) = stage.log().await;
            check(&stage, &log, &at);
            assert_eq!(thread.status(), Status::Done, "{at}");
        }
    }
    assert!(hit.contains("tool.after_start") && hit.contains("tool.after_run"), "{hit:?}");
    assert!(unknown >= 2, "a death between start and finish is never taken for either: {unknown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_a_timer_fires_does_not_lose_the_timer() {
    let stage = Stage::new().await;
    assert_eq!(stage.chat("deploy api v1.2.3 to staging\n", Some(("plan.after_call", 1))).await, End::Killed);
    // What a dead process left is due like any timer; this one dies over it as well, twice.
    for _ in 0..2 {
        assert_eq!(stage.chat("", Some(("timer.before_tick", 1))).await, End::Killed);
    }
    assert_eq!(stage.recover().await.status(), Status::WaitingApproval);
}
