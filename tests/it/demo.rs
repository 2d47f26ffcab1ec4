//! The demo, as a newcomer runs it, with the real binary.

use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli_chat::Talk;

/// In a directory that holds everything that must not disturb it.
fn demo(elsewhere: &TempDir, args: &[&str]) -> Command {
    let path = elsewhere.path();
    std::fs::write(path.join("twelve.toml"), "this is = = not TOML").unwrap();
    std::fs::write(path.join(".env"), "TWELVE__NO__SUCH=1\nOPENAI_API_KEY=not-a-key\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twelve"));
    command.arg("demo").args(args).current_dir(path).env_clear();
    command.env("TMPDIR", path.join("tmp")).env("OPENAI_API_KEY", "not-a-key").env("TWELVE_CONFIG", "/nowhere.toml");
    command.env("TWELVE__MODEL__PROVIDER", "openai").env("ANTHROPIC_BASE_URL", "nonsense").env("LOG_LEVEL", "loud");
    command.env("HTTP_PROXY", "http://127.0.0.1:9").env("http_proxy", "http://127.0.0.1:9");
    std::fs::create_dir_all(path.join("tmp")).unwrap();
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_scripted_demo_tells_its_four_chapters_and_cleans_up() {
    let elsewhere = TempDir::new().unwrap();
    let Output { status, stdout, stderr } = demo(&elsewhere, &["--script"]).output().unwrap();
    let (told, errors) = (text(&stdout), text(&stderr));
    assert_eq!(status.code(), Some(0), "{told}\n{errors}");
    for part in [
        "killed with SIGKILL while it waited",
        "still open, with the same digest",
        "exactly one line",
        "denied by you: not on a Friday",
        "Revision 2: changed by you: version: v1.2.4 -> v1.2.3",
        "api in staging: v1.2.2 -> v1.2.3",
        "api in production: v1.2.2 -> v1.2.3",
        "4 of 4 chapters went as told.",
    ] {
        assert!(told.contains(part), "{part} is missing in:\n{told}");
    }
    assert_eq!(std::fs::read_dir(elsewhere.path().join("tmp")).unwrap().count(), 0, "its directory is gone");
}

#[test]
fn a_person_can_kill_the_agent_while_it_waits_and_then_approve() {
    let elsewhere = TempDir::new().unwrap();
    let mut talk = Talk::start(demo(&elsewhere, &["--terminal", "--dir", "stage"]));
    talk.expect("deploy api v1.2.3 to staging");
    talk.expect("Write what you want");
    talk.say("deploy api v1.2.3 to staging");
    talk.expect("Type /kill");
    let digest = |talk: &Talk| talk.seen.iter().rev().find(|line| line.contains("  digest ")).cloned().unwrap();
    let before = digest(&talk);
    talk.say("/kill");
    talk.expect("was killed with SIGKILL");
    talk.expect("Approval needed: Deploy api v1.2.3 to staging");
    talk.expect("The request outlived the process");
    assert_eq!(digest(&talk), before);
    talk.say("/help");
    talk.expect("/kill  ");
    talk.say("y");
    talk.expect("deployment: Deployed");
    let (status, rest) = talk.end();
    assert!(status.success());
    let ledger: Vec<&String> = rest.iter().filter(|line| line.contains("api in staging: v1.2.2 -> v1.2.3")).collect();
    assert_eq!(ledger.len(), 1, "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("1 thread, ") && line.contains("in the hash chain")), "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("Come back with")), "there is nothing to come back to: {rest:?}");
    assert!(!elsewhere.path().join("stage").exists(), "a directory that the demo made is removed");
}

#[test]
fn the_demo_does_not_play_where_something_is_and_keeps_what_it_is_told_to_keep() {
    let elsewhere = TempDir::new().unwrap();
    let output = demo(&elsewhere, &["--script", "--dir", "."]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is not empty"), "{}", text(&output.stderr));
    let output = demo(&elsewhere, &["--script", "--dir", "kept", "--keep"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(elsewhere.path().join("kept/data/twelve.db").exists());
    assert!(elsewhere.path().join("kept/service/ledger.jsonl").exists());
}

/// One request of the REST API, with the answer as JSON.
fn ask(method: &str, url: &str, body: Option<Value>) -> (u16, Value) {
    crate::crypto();
    let work = async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method.parse().unwrap(), url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Asks until the service has an open approval, and gives it whole.
fn pending(url: &str) -> Value {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let (status, page) = ask("GET", &format!("{url}/approvals"), None);
        assert_eq!(status, 200, "{page}");
        if let Some(id) = page.pointer("/items/0/id").and_then(Value::as_str) {
            return ask("GET", &format!("{url}/approvals/{id}"), None).1;
        }
        assert!(std::time::Instant::now() < deadline, "no approval came: {page}");
        std::thread::yield_now();
    }
}

#[test]
fn in_the_browser_the_agent_can_be_killed_from_outside_while_it_waits_and_the_request_is_still_good() {
    let elsewhere = TempDir::new().unwrap();
    let mut talk = Talk::start(demo(&elsewhere, &["--port", "0", "--dir", "stage"]));
    let url = talk.expect("chat with an agent").split_whitespace().next().unwrap().to_owned();
    let line = talk.expect("kill -9");
    let pid: i32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    talk.expect("Ctrl-C ends it");
    let body = json!({"message": "deploy api v1.2.3 to staging", "agent_type": "deployment", "user_id": "you"});
    let (status, started) = ask("POST", &format!("{url}/agents/start"), Some(body));
    assert_eq!(status, 202, "{started}");
    let before = pending(&url);
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let line = talk.expect("was killed with SIGKILL");
    let pid: i32 = line.split("again as ").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    let after = pending(&url);
    for part in ["id", "digest", "revision"] {
        assert_eq!(after[part], before[part], "{part}");
    }
    let id = after["id"].as_str().unwrap();
    let decision = json!({"decision": "approve", "revision": after["revision"], "digest": after["digest"]});
    let (status, decided) = ask("POST", &format!("{url}/approvals/{id}/decision"), Some(decision.clone()));
    assert_eq!(status, 200, "{decided}");
    let (status, again) = ask("POST", &format!("{url}/approvals/{id}/decision"), Some(decision));
    assert_eq!((status, again["code"].as_str()), (409, Some("already_decided")), "{again}");
    let thread = started["thread_id"].as_str().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while ask("GET", &format!("{url}/agents/{thread}/status"), None).1["status"] != "done" {
        assert!(std::time::Instant::now() < deadline, "the run does not end");
    }
    // Ctrl-C at a terminal reaches both.
    kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
    talk.signal(Signal::INT);
    let (status, rest) = talk.end();
    assert!(status.success(), "{rest:?}");
    let ledger: Vec<&String> = rest.iter().filter(|line| line.contains("api in staging: v1.2.2 -> v1.2.3")).collect();
    assert_eq!(ledger.len(), 1, "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("1 thread, ") && line.contains("in the hash chain")), "{rest:?}");
    assert!(!elsewhere.path().join("stage").exists(), "a directory that the demo made is removed");
}

#[test]
fn a_port_that_is_taken_ends_the_demo_with_a_sentence() {
    let elsewhere = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = demo(&elsewhere, &["--port", &port]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains(&format!("port {port} on 127.0.0.1 is not free")),
        "{}",
        text(&output.stderr)
    );
}
