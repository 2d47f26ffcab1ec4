//! The command line's conversations, through the real binary: `chat` over pipes, and `run`.
//!
//! What was really deployed is read from the ledger of a service that runs here, in the test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use twelve::demo_service::{self, LedgerLine};

/// How long an expected line may take before the test fails and its process is killed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with settings, a store and a service that runs here.
pub struct Place {
    dir: TempDir,
    _service: tokio::runtime::Runtime,
}

impl Place {
    fn new() -> Self {
        Self::with("")
    }

    /// With more settings.
    fn with(more: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let files = dir.path().join("service");
        for environment in ["staging", "production"] {
            demo_service::seed(&files, "api", environment, "v1.2.2").unwrap();
        }
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let base = format!("http://{}/api", listener.local_addr().unwrap());
        runtime.spawn(demo_service::serve(files, listener));
        let environment = |name: &str| {
            format!(
                "[tools.services.api.environments.{name}]\nstatus = \"{base}/{name}/health\"\n\
                 version = {{ url = \"{base}/{name}/version\", pointer = \"/version\" }}\n"
            )
        };
        let settings = format!(
            "{more}\n[log]\nlevel = \"warn\"\n{}{}[tools.services.api.deploy]\nversions = 'v\\d+\\.\\d+\\.\\d+'\nsettle = \"10s\"\n\
             http = {{ url = \"{base}/{{environment}}/deploy\", body = {{ version = \"{{version}}\" }} }}\n",
            environment("staging"),
            environment("production"),
        );
        std::fs::write(dir.path().join("twelve.toml"), settings).unwrap();
        Self { dir, _service: runtime }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ledger(&self) -> Vec<LedgerLine> {
        demo_service::ledger(&self.path().join("service")).unwrap()
    }

    fn deployed(&self) -> Vec<(String, String)> {
        self.ledger().into_iter().map(|line| (line.environment, line.version)).collect()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twelve"));
        command.args(args).env_clear().current_dir(self.path());
        command
    }

    fn chat(&self, more: &[&str]) -> Talk {
        let args = [&["chat", "deployment", "--as", "ann"], more].concat();
        Talk::start(self.command(&args))
    }

    /// A command that is expected to end by itself, with this on stdin.
    fn once(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut to = child.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        // The process may end without reading it all.
        let writer = std::thread::spawn(move || drop(to.write_all(&stdin)));
        let id = rustix::process::Pid::from_child(&child);
        let (over, guard) = mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            if guard.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(over);
        watch.join().unwrap();
        writer.join().unwrap();
        output
    }
}

/// A process that is talked to by lines.
pub struct Talk {
    child: Child,
    keyboard: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    /// Everything that it wrote so far.
    pub seen: Vec<String>,
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Talk {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let keyboard = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (to, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard, lines, seen: Vec::new() }
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.keyboard.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Reads on until a line contains this.
    #[track_caller]
    pub fn expect(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(why) => panic!("`{part}` did not come ({why}). It wrote:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// The end of the input, and everything until the process ends.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, Vec<String>) {
        self.keyboard = None;
        self.rest()
    }

    #[track_caller]
    fn rest(&mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => rest.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return (self.child.wait().unwrap(), rest),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end; it wrote:\n{}", rest.join("\n")),
            }
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_deployment_is_asked_for_approved_and_done_once() {
    let place = Place::new();
    let mut chat = place.chat(&[]);
    chat.say("deploy api v1.2.3 to staging");
    chat.expect("- Check api in staging … ok in");
    chat.expect("Approval needed: Deploy api v1.2.3 to staging");
    chat.expect("environment = staging");
    chat.expect("version = v1.2.3");
    chat.expect("Plan          now v1.2.2 -> v1.2.3");
    chat.expect("digest ");
    chat.expect("/approve [note]");
    assert_eq!(place.deployed(), [], "nothing runs before the approval");
    chat.say("/approve looks good");
    chat.expect("approved by ann: looks good");
    chat.expect("deployment: Deployed: api staging: v1.2.2 -> v1.2.3");
    let (status, rest) = chat.end();
    assert!(status.success());
    assert!(rest.iter().any(|line| line.contains("twelve chat deployment --thread console:")), "{rest:?}");
    assert_eq!(place.deployed(), pairs(&[("staging", "v1.2.3")]));
}

#[test]
fn lines_that_come_all_at_once_wait_for_their_card() {
    let place = Place::new();
    let all = b"deploy api v1.2.3 to staging\n/approve\ndeploy api v1.2.4 to staging\nn\n/history\n";
    let output = place.once(&["chat", "deployment"], all);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let written = text(&output.stdout);
    assert!(written.contains("Deployed: api staging: v1.2.2 -> v1.2.3"), "{written}");
    assert!(written.contains("Denied: Deploy api v1.2.4 to staging"), "{written}");
    assert!(!written.contains('\u{1b}'), "no colour in a pipe");
    assert_eq!(place.deployed(), pairs(&[("staging", "v1.2.3")]));
}

#[test]
fn a_denial_reaches_the_agent_with_its_reason() {
    let place = Place::new();
    let mut chat = place.chat(&[]);
    chat.say("deploy api v1.2.3 to production");
    chat.expect("/approve [note]");
    chat.say("/deny not on a Friday");
    chat.expect("denied by ann: not on a Friday");
    chat.expect("deployment: Nothing was deployed: ann denied this call: not on a Friday");
    chat.say("/approve");
    chat.expect("Nothing waits for a decision here.");
    let approval = chat.seen.iter().find_map(|line| line.split_whitespace().find(|w| w.starts_with("apr_"))).unwrap();
    let late = format!("/approve {approval}");
    chat.say(&late);
    chat.expect("Already denied by ann");
    assert!(chat.end().0.success());
    assert_eq!(place.deployed(), []);
}

#[test]
fn an_edit_is_a_new_request_that_needs_its_own_approval() {
    let place = Place::new();
    let mut chat = place.chat(&[]);
    chat.say("deploy api v1.2.4 to production");
    chat.expect("/approve [note]");
    chat.say("/edit version=latest");
    chat.expect("These arguments can't be used");
    chat.say("/edit verison=v1.2.3");
    chat.expect("There is no argument `verison`; did you mean `version`?");
    chat.say("/edit version=v1.2.3");
    chat.expect("Approval needed: Deploy api v1.2.3 to production");
    chat.expect("version = v1.2.3");
    chat.expect("Revision 2: changed by ann: version: v1.2.4 -> v1.2.3");
    chat.expect("/approve [note]");
    assert_eq!(place.deployed(), [], "an edit alone runs nothing");
    chat.say("/edit");
    chat.expect("as one line of JSON");
    chat.say(r#"{"service":"api","environment":"staging","version":"v1.2.5"}"#);
    chat.expect("Revision 3: changed by ann: environment: production -> staging, version: v1.2.4 -> v1.2.5");
    chat.expect("/approve [note]");
    chat.say("/edit");
    chat.expect("as one line of JSON");
    chat.say("");
    chat.expect("The arguments stay as they are.");
    chat.say("y");
    chat.expect("deployment: Deployed");
    assert!(chat.end().0.success());
    assert_eq!(place.deployed(), pairs(&[("staging", "v1.2.5")]));
}

#[test]
fn an_approval_of_a_plan_that_is_not_true_any_more_asks_again() {
    let place = Place::new();
    let mut chat = place.chat(&[]);
    chat.say("deploy api v1.2.3 to staging");
    chat.expect("now v1.2.2 -> v1.2.3");
    chat.expect("/approve [note]");
    std::fs::write(place.path().join("service/api-staging.version"), "v1.1.0\n").unwrap();
    chat.say("/approve");
    chat.expect("now v1.1.0 -> v1.2.3");
    chat.expect("Revision 2: asked again: ");
    chat.expect("/approve [note]");
    assert_eq!(place.deployed(), [], "what was approved is not what would have run");
    chat.say("/approve");
    chat.expect("deployment: Deployed");
    assert!(chat.end().0.success());
    assert_eq!(place.deployed(), pairs(&[("staging", "v1.2.3")]));
}

#[test]
fn a_question_is_answered_by_plain_text() {
    let place = Place::new();
    let mut chat = place.chat(&[]);
    chat.say("deploy api v1.2.3");
    chat.expect("Question: Where shall api v1.2.3 go?");
    chat.expect("1) staging  2) production");
    chat.say("the moon");
    chat.expect("Answer with one of: staging, production.");
    chat.say("2");
    chat.expect("Approval needed: Deploy api v1.2.3 to production");
    chat.expect("/approve [note]");
    chat.say("/deny");
    chat.expect("Nothing was deployed");
    assert!(chat.end().0.success());
}

#[test]
fn stop_pause_and_resume_do_what_they_say() {
    let place = Place::new();
    let mut chat = place.chat(&[]);
    chat.say("/stop");
    chat.expect("Nothing was said here yet.");
    chat.say("deploy api v1.2.3 to staging");
    chat.expect("/approve [note]");
    chat.say("/pause");
    chat.expect("* Paused by ann");
    chat.say("/status");
    chat.expect("is paused; /resume lets it go on");
    chat.say("/resume");
    chat.expect("* Resumed by ann");
    chat.say("/stop");
    chat.expect("Cancelled: Deploy api v1.2.3 to staging");
    chat.expect("* Stopped by ann; nothing more will run");
    chat.say("/approve");
    chat.expect("Nothing waits for a decision here.");
    chat.say("/cancel");
    chat.expect("* Cancelled by ann; this thread is closed");
    chat.say("hello?");
    chat.expect("This thread was cancelled, so nothing runs here any more. Start a new one.");
    assert!(chat.end().0.success());
    assert_eq!(place.deployed(), []);
}

#[test]
fn commands_that_do_not_exist_are_answered_and_not_sent_to_the_agent() {
    let place = Place::new();
    let mut chat = place.chat(&[]);
    chat.say("/aprove");
    chat.expect("There is no command `/aprove`. Did you mean `/approve`?");
    chat.say("/kill");
    chat.expect("There is no command `/kill`.");
    chat.say("/status");
    chat.expect("Nothing was said here yet.");
    chat.say("/help");
    chat.expect("/deny [id] [reason]");
    chat.expect("/quit");
    let (status, rest) = chat.end();
    assert!(status.success());
    assert!(rest.iter().any(|line| line == "Nothing was said, so nothing was kept."), "{rest:?}");
}

#[test]
fn whoever_leaves_is_told_what_waits_and_finds_it_again() {
    let place = Place::new();
    let mut chat = place.chat(&["--thread", "console:mine"]);
    chat.say("deploy api v1.2.3 to staging");
    chat.expect("digest ");
    let card = chat.seen.last().unwrap().clone();
    chat.say("/quit");
    chat.expect("Still waiting, and kept:");
    chat.expect("twelve approvals list");
    chat.expect("twelve chat deployment --thread console:mine");
    assert!(chat.end().0.success());

    let mut again = place.chat(&["--thread", "console:mine"]);
    again.expect("Going on: the thread waits for a decision.");
    again.expect("Approval needed: Deploy api v1.2.3 to staging");
    assert_eq!(again.expect("digest "), card, "the same request, with the same digest");
    again.say("y");
    again.expect("deployment: Deployed");
    assert!(again.end().0.success());
    assert_eq!(place.deployed(), pairs(&[("staging", "v1.2.3")]));
}

#[test]
fn a_request_survives_sigkill_and_sigterm() {
    let place = Place::new();
    let mut chat = place.chat(&["--thread", "console:mine"]);
    chat.say("deploy api v1.2.3 to staging");
    chat.expect("/approve [note]");
    chat.signal(rustix::process::Signal::KILL);
    assert!(!chat.rest().0.success());

    let mut chat = place.chat(&["--thread", "console:mine"]);
    chat.expect("/approve [note]");
    chat.signal(rustix::process::Signal::TERM);
    let (status, rest) = chat.rest();
    assert!(status.success(), "it was asked to leave, and left");
    assert!(rest.iter().any(|line| line == "Still waiting, and kept:"), "{rest:?}");

    let mut chat = place.chat(&["--thread", "console:mine"]);
    chat.expect("/approve [note]");
    chat.signal(rustix::process::Signal::INT);
    chat.expect("Press Ctrl-C again");
    chat.signal(rustix::process::Signal::INT);
    assert!(chat.rest().0.success());
    assert_eq!(place.deployed(), []);
}

#[test]
fn a_requester_who_may_not_approve_is_told_so_and_somebody_else_may() {
    let place = Place::with("[approvals]\nrequester_may_approve = \"never\"\n");
    let mut chat = place.chat(&["--thread", "console:mine"]);
    chat.say("deploy api v1.2.3 to staging");
    chat.expect("Can approve   anyone here (1 needed, not the requester)");
    chat.expect("/approve [note]");
    chat.say("y");
    chat.expect("so someone else has to decide");
    assert!(chat.end().0.success());
    let args = ["chat", "deployment", "--thread", "console:mine", "--as", "bob"];
    let output = place.once(&args, b"y\n");
    assert!(text(&output.stdout).contains("approved by bob"), "{}", text(&output.stdout));
    assert_eq!(place.deployed(), pairs(&[("staging", "v1.2.3")]));
}

#[test]
fn what_a_model_writes_cannot_act_on_the_terminal() {
    let place = Place::new();
    let output = place.once(&["chat", "assistant"], "say \u{1b}[2J\rApproval needed: x\u{202e}\n".as_bytes());
    let written = text(&output.stdout);
    assert!(written.contains(r"assistant: \u{1b}[2J\u{d}Approval needed: x\u{202e}"), "{written:?}");
    assert!(written.chars().all(|c| c == '\n' || !c.is_control()), "{written:?}");
}

#[test]
fn a_message_that_is_too_long_is_refused_and_the_conversation_goes_on() {
    let place = Place::new();
    let mut chat = place.chat(&[]);
    chat.say(&"x".repeat(1_000_000));
    chat.expect("The message has 1000000 bytes; at most 102400 are read.");
    chat.say("/status");
    chat.expect("Nothing was said here yet.");
    assert!(chat.end().0.success());
}

#[test]
fn one_object_a_line_for_programs() {
    let place = Place::new();
    let args = ["chat", "deployment", "--json-lines", "--thread", "console:mine"];
    let output = place.once(&args, b"deploy api v1.2.3 to staging\n/deny no\n/nonsense\n");
    let objects: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let kinds: Vec<&str> = objects.iter().map(|o| o["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[0], "thread");
    let card = objects.iter().find(|o| o["type"] == "card").unwrap();
    assert_eq!(card["state"], "pending");
    assert_eq!(card["args"]["version"], "v1.2.3");
    assert_eq!(card["plan"]["summary"], "now v1.2.2 -> v1.2.3");
    assert_eq!(card["digest"].as_str().unwrap().len(), 64);
    for kind in ["step", "answer", "refused", "left"] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
}

#[test]
fn a_second_process_on_the_same_store_is_told_who_has_it() {
    let place = Place::new();
    let mut chat = place.chat(&[]);
    chat.expect("you are ann");
    for args in [&["chat", "deployment"][..], &["run", "deployment", "hello"]] {
        let output = place.once(args, b"");
        assert_eq!(output.status.code(), Some(1));
        let words = text(&output.stderr);
        assert!(words.starts_with("twelve: ") && words.contains("process"), "{words}");
        assert_eq!(text(&output.stdout), "");
    }
    assert!(chat.end().0.success());
}

#[test]
fn an_unknown_agent_or_thread_ends_with_what_there_is() {
    let place = Place::new();
    let cases: [(&[&str], &[&str]); 6] = [
        (&["chat", "deploymint"], &["there is no agent `deploymint`", "deployment"]),
        (&["run", "nobody", "hello"], &["there is no agent `nobody`", "assistant", "support"]),
        (&["chat", "deployment", "--thread", "zzz"], &["no thread is called `zzz`"]),
        (&["chat", "deployment", "--thread", "slack:a"], &["`slack:a` is not a thread of this command"]),
        (&["run", "deployment", "hi", "--thread", "console:a"], &["go on with it by `twelve chat`"]),
        (&["run", "deployment", "hi", "--as", "a b"], &["--as: a name has"]),
    ];
    for (args, parts) in cases {
        let output = place.once(args, b"");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let words = text(&output.stderr);
        assert!(parts.iter().all(|part| words.contains(part)), "{args:?}: {words}");
    }
    let mut chat = place.chat(&["--thread", "console:mine"]);
    chat.say("is api healthy in staging?");
    chat.expect("deployment: api staging: healthy");
    assert!(chat.end().0.success());
    let output = place.once(&["chat", "support", "--thread", "console:mine"], b"");
    assert!(text(&output.stderr).contains("belongs to the agent `deployment`"), "{}", text(&output.stderr));
}

#[test]
fn a_run_prints_its_answer_and_nothing_else() {
    let place = Place::new();
    let output = place.once(&["run", "deployment", "is api healthy in staging?"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let answer = text(&output.stdout);
    assert!(answer.starts_with("api staging: healthy") && answer.lines().count() == 1, "{answer}");
    assert!(text(&output.stderr).contains("- Check api in staging … ok in"), "steps go to stderr");

    let output = place.once(&["run", "deployment", "-", "--json"], b"is api healthy in staging?");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["thread"].as_str().unwrap().starts_with("api:"), "{report}");
    assert_eq!(report["status"], "done");
    assert!(report["answer"].as_str().unwrap().starts_with("api staging: healthy"), "{report}");
    assert_eq!((&report["approvals"], &report["questions"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    assert!(report["events"].as_u64().unwrap() >= 4 && report["tokens"].is_u64(), "{report}");
}

#[test]
fn a_run_that_waits_for_people_says_for_what_and_ends_with_3() {
    let place = Place::new();
    let args = ["run", "deployment", "deploy api v1.2.3 to staging", "--thread", "api:one"];
    let output = place.once(&args, b"");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let words = text(&output.stdout);
    for part in ["waits for a decision", "version = v1.2.3", "now v1.2.2 -> v1.2.3", "twelve approvals approve apr_"] {
        assert!(words.contains(part), "{part} is missing in:\n{words}");
    }
    let output = place.once(&["run", "deployment", "deploy api v1.2.3", "--json", "--thread", "api:two"], b"");
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["status"], "waiting_answer");
    assert_eq!(report["questions"][0]["answer"]["choices"][1], "production");
    assert_eq!(report["answer"], Value::Null);

    let output = place.once(&["run", "deployment", "staging", "--json", "--thread", "api:two"], b"");
    assert_eq!(output.status.code(), Some(3), "the message answered the question");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["approvals"][0]["args"]["environment"], "staging");
    assert_eq!(report["approvals"][0]["state"], "pending");

    let output = place.once(&["run", "deployment", "sleep 600 seconds"], b"");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("sleeps until "), "{}", text(&output.stdout));
    assert_eq!(place.deployed(), []);
}

#[test]
fn a_message_that_cannot_be_taken_leaves_nothing_behind() {
    let place = Place::new();
    let long = "x".repeat(1_000_000);
    for (stdin, words) in [
        (" \n", "The message is empty. Write what you want the agent to do."),
        (long.as_str(), "The message has 1000000 bytes; at most 102400 are read."),
    ] {
        let output = place.once(&["run", "deployment", "-"], stdin.as_bytes());
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
    assert!(!place.path().join("data").exists(), "not even a store was made");
}

#[test]
fn a_provider_that_is_down_is_said_and_the_request_is_kept() {
    // A port that was free a moment ago: nobody listens there.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let place = Place::with(&format!(
        "[model]\nprovider = \"openai\"\nmax_attempts = 2\nretry_base = \"1ms\"\n\
         [providers.openai]\nbase_url = \"http://127.0.0.1:{port}/v1\"\n"
    ));
    let output = place.once(&["run", "deployment", "hello", "--thread", "api:one"], b"");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("attempt 1, trying again in") && said.contains("Your request is kept."), "{said}");
    let words = text(&output.stdout);
    assert!(words.contains("asked 2 times") && words.contains("Look at it with:   twelve threads show"), "{words}");
}

#[test]
fn a_run_that_is_told_to_end_lets_go_of_the_model_and_keeps_everything() {
    // A provider that takes the question and never answers.
    let provider = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = provider.local_addr().unwrap().port();
    let place = Place::with(&format!(
        "[model]\nprovider = \"openai\"\n[providers.openai]\nbase_url = \"http://127.0.0.1:{port}/v1\"\n"
    ));
    let mut command = place.command(&["run", "deployment", "hello", "--thread", "api:one"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let asked = provider.accept().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(asked);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("interrupted; what it does is kept"), "{}", text(&output.stderr));
    let threads = place.once(&["threads", "list", "--json"], b"");
    assert!(text(&threads.stdout).contains("\"running\""), "{}", text(&threads.stdout));
}

#[test]
fn a_broken_store_path_is_a_sentence() {
    let place = Place::new();
    let file: PathBuf = place.path().join("data");
    std::fs::write(&file, "not a directory").unwrap();
    let output = place.once(&["chat", "deployment"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the data directory"), "{}", text(&output.stderr));
}

#[test]
fn a_file_is_handed_over_as_text_from_outside() {
    let place = Place::new();
    std::fs::write(place.path().join("alert.json"), "{\"alert\": \"disk full\"}").unwrap();
    std::fs::write(place.path().join("picture.png"), [0x89, 0xff, 0x00]).unwrap();
    std::fs::write(place.path().join("long.txt"), "ü".repeat(200_000)).unwrap();
    let run = |more: &[&str], stdin: &[u8]| {
        let args = [&["run", "deployment", "is api healthy in staging?", "--thread", "api:ctx"][..], more].concat();
        place.once(&args, stdin)
    };
    let output = run(&["--context", "alert.json", "--context", "-"], b"from a pipe");
    assert!(output.status.success(), "{output:?}");
    let shown = place.once(&["prompts", "render", "api:ctx"], b"");
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("<attached name=\"the file alert.json\" untrusted=\"yes\">\n{\"alert\": \"disk full\"}\n"),
        "{shown}"
    );
    assert!(shown.contains("<attached name=\"stdin\" untrusted=\"yes\">\nfrom a pipe\n"), "{shown}");
    for (more, words) in [
        (&["--context", "gone.txt"][..], "--context gone.txt: No such file"),
        (&["--context", "picture.png"], "it has to be a text file in UTF-8"),
        (&["--context", "long.txt"], "at most 20 with 131072 bytes"),
        (&["--context", "-", "--context", "-"], "stdin is read once"),
    ] {
        let output = run(more, b"x");
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && err.contains(words), "{more:?}: {err}");
    }
}
