//! The commands that look and decide, as the real binary: what they print, what they change, how they end.
//!
//! Each test has a directory of its own with a `twelve.toml`, a script in the place of a model and an
//! empty environment. Threads are made through the library, then the store is closed: the binary finds
//! what an earlier process left.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Once;

use rusqlite::{Connection, params};
use serde_json::Value;
use tempfile::TempDir;
use twelve::agent::{Event, Principal, ShortId, ThreadId};
use twelve::app::Blueprint;
use twelve::config::Loaded;
use twelve::config::layers::Sources;
use twelve::platform::Platforms;
use twelve::store::Store;

/// What the model would say. Notes ask people (a policy rule), deployments ask by default.
const SCRIPT: &str = r#"
[[reply]]
last = '''^<tool_result [^>]*outcome="succeeded">'''
say = "It is done."
[[reply]]
last = '''^<tool_result '''
say = "It was not done."
[[reply]]
last = '''^<answer'''
say = "Thank you."
[[reply]]
human = '''^note (?<message>.*)'''
say = "You want it noted."
[[reply.call]]
tool = "log_message"
args = { message = "$message", level = "info" }
[[reply]]
human = '''^deploy (?<version>\d+)'''
[[reply.call]]
tool = "deploy_service"
args = { service = "api", version = "$version", environment = "test" }
[[reply]]
human = '''^ask'''
ask = { question = "Which colour?", kind = "choice", choices = ["red", "blue"] }
[[reply]]
human = '''.'''
say = "Hello."
"#;

struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        static TLS: Once = Once::new();
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let dir = tempfile::tempdir().unwrap();
        let home = Self { dir };
        home.write("script.toml", SCRIPT);
        home.write(
            "twelve.toml",
            &format!(
                "[app]\ndata_dir = {data:?}\n[log]\nlevel = \"error\"\n[providers.scripted]\nscript = {script:?}\n\
                 [[policy.rules]]\nname = \"notes ask\"\ntool = \"log_message\"\ngate = \"ask\"\n{more}",
                data = home.path("data"),
                script = home.path("script.toml"),
            ),
        );
        home
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn blueprint(&self) -> Blueprint {
        let text = std::fs::read_to_string(self.path("twelve.toml")).unwrap();
        let sources = Sources { file: Some(("twelve.toml", &text)), ..Sources::default() };
        Blueprint::new(Loaded::from_sources(&sources).unwrap()).unwrap()
    }

    /// A thread of sam's in which these messages were sent, one after the other, each until all rests.
    async fn thread(&self, name: &str, agent: &str, messages: &[&str]) -> ShortId {
        let runtime = self.blueprint().open(Platforms::default()).await.unwrap();
        let id: ThreadId = format!("console:{name}").parse().unwrap();
        for text in messages {
            let sam = Principal::human("console:sam");
            runtime.message(&id, agent, twelve::runtime::Said::by(sam, *text)).await.unwrap();
            runtime.settle().await.unwrap();
        }
        runtime.drain(std::time::Duration::from_secs(5)).await.unwrap();
        id.short()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twelve"));
        command.args(args).current_dir(self.dir.path()).env_clear().env("HOME", self.dir.path()).env("USER", "ops");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(std::process::Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().unwrap())
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(args).ok()).unwrap()
    }

    fn database(&self) -> Connection {
        Connection::open(self.path("data/twelve.db")).unwrap()
    }
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    /// What it printed; it has to have worked and complained of nothing.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// What it complained of; it has to have failed.
    #[track_caller]
    fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.err);
        self.err
    }
}

/// The only open approval: its id and digest.
fn open_approval(home: &Home) -> (String, String) {
    let open = home.json(&["approvals", "list", "--json"]);
    let [one] = open.as_array().unwrap().as_slice() else { panic!("{open}") };
    (one["id"].as_str().unwrap().to_owned(), one["digest"].as_str().unwrap().to_owned())
}

fn statuses(home: &Home) -> Vec<String> {
    let threads = home.json(&["threads", "list", "--json"]);
    threads.as_array().unwrap().iter().map(|t| t["status"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn where_nothing_has_happened_yet_every_command_says_how_to_start_and_makes_no_store() {
    let home = Home::new();
    let start = "nothing has happened yet: start with `twelve chat deployment`\n";
    for args in [&["threads", "list"][..], &["threads", "stuck"], &["approvals", "list"]] {
        assert_eq!(home.run(args).ok(), start, "{args:?}");
    }
    for args in [&["threads", "list", "--json"][..], &["threads", "stuck", "--json"], &["approvals", "list", "--json"]]
    {
        assert_eq!(home.run(args).ok(), "[]\n", "{args:?}");
    }
    for args in [
        &["threads", "show", "abc"][..],
        &["threads", "stop", "abc"],
        &["threads", "delete", "abc", "--yes"],
        &["threads", "fork", "abc", "--at", "1"],
        &["approvals", "show", "apr_abc"],
        &["approvals", "deny", "apr_abc"],
        &["audit", "verify"],
        &["prompts", "render", "abc"],
    ] {
        assert_eq!(home.run(args).failed(), format!("twelve: {start}"), "{args:?}");
    }
    assert!(!home.path("data").exists());
}

#[tokio::test]
async fn records_of_presses_are_listed_when_asked_for_and_always_checked_and_told_in_words() {
    let home = Home::new();
    let short = home.thread("colours", "assistant", &["ask"]).await;
    let log: ThreadId = "system:other:T1:k1".parse().unwrap();
    let runtime = home.blueprint().open(Platforms::default()).await.unwrap();
    let thread = runtime.thread(short).await.unwrap();
    let question = *thread.questions.first_key_value().unwrap().0;
    let act = twelve::agent::Act::Answer { question, text: "red".into() };
    let by = Principal::human("other:T1:U1");
    runtime.intent(&log, twelve::agent::Intent { by, act, reply: "other:T1:C1:U1".into() }).await.unwrap();
    runtime.settle().await.unwrap();
    runtime.drain(std::time::Duration::from_secs(5)).await.unwrap();

    let ids = |args: &[&str]| {
        let listed = home.json(args);
        let mut ids: Vec<String> =
            listed.as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&["threads", "list", "--json"]), [short.to_string()]);
    let mut both = [short.to_string(), log.short().to_string()];
    both.sort();
    assert_eq!(ids(&["threads", "list", "--intents", "--json"]), both);
    assert!(home.run(&["audit", "verify"]).ok().starts_with("2 threads with "));
    let exported = home.run(&["audit", "export"]).ok();
    assert!(exported.contains("intent_received") && exported.contains("intent_handled"), "{exported}");
    // Somebody of another surface, who has no part in that thread.
    let shown = home.run(&["threads", "show", log.short().as_str()]).ok();
    assert!(shown.contains(&format!("T1:U1 wants to answer {question}: red")), "{shown}");
    assert!(shown.contains("refused: I don't know this question any more."), "{shown}");
    let fork = home.run(&["threads", "fork", log.short().as_str(), "--at", "2"]).failed();
    assert!(fork.contains("no conversation"), "{fork}");
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_are_listed_shown_and_found_by_any_unique_beginning() {
    let home = Home::new();
    let waits = home.thread("one", "assistant", &["note the lights are on"]).await;
    let done = home.thread("two", "support", &["good day"]).await;
    let listed = home.run(&["threads", "list"]).ok();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    assert!(lines[0].starts_with("THREAD            STATUS            AGENT      CHANGED"), "{listed}");
    assert!(lines[1].starts_with(&format!("{done}  done              support ")), "{listed}");
    assert!(lines[2].ends_with("sam  note the lights are on"), "{listed}");

    let only = home.json(&["threads", "list", "--waiting", "--agent", "assistant", "--json"]);
    assert_eq!(only[0]["id"], waits.to_string());
    assert_eq!(only.as_array().unwrap().len(), 1);
    assert!(only[0]["updated_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(home.json(&["threads", "list", "--status", "done", "--json"])[0]["id"], done.to_string());
    assert!(
        home.run(&["threads", "list", "--limit", "1"]).ok().contains("There are more than 1; see them with --limit.")
    );

    let shown = home.run(&["threads", "show", &waits.to_string()[..6]]).ok();
    assert!(shown.contains("status    waiting_approval"), "{shown}");
    assert!(shown.contains("approval of: Log: the lights are on by anyone here (1 needed), "), "{shown}");
    assert!(shown.contains("this run  1 of 20 steps"), "{shown}");
    assert_eq!(home.json(&["threads", "show", "console:two", "--json"])["thread"]["status"], "done");
    assert_eq!(
        home.run(&["threads", "show", "zzz"]).failed(),
        format!("twelve: there is no thread `zzz`; the last ones are {done}, {waits}\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_what_they_have_not_seen_and_what_is_approved_runs_once() {
    let home = Home::new();
    home.thread("one", "assistant", &["note the lights are on"]).await;
    let (id, digest) = open_approval(&home);
    let prefix = &digest[..12];

    let shown = home.run(&["approvals", "show", &id]).ok();
    for part in [
        "Approval needed: Log: the lights are on",
        "\"message\": \"the lights are on\"",
        "rule        notes ask",
        &digest,
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(
        home.run(&["approvals", "approve", &id]).failed(),
        format!(
            "twelve: nobody approves what they have not seen, and this is no terminal: look with `twelve approvals show {id}`, then pass `--digest {prefix}`\n"
        )
    );
    assert_eq!(
        home.run(&["approvals", "approve", &id, "--digest", &digest[..4]]).failed(),
        "twelve: --digest needs at least the first 12 digits of what you have seen\n"
    );
    let other = home.run(&["approvals", "approve", &id, "--digest", "000000000000"]).failed();
    assert!(other.starts_with("twelve: The request changed since this card was posted."), "{other}");
    assert_eq!(statuses(&home), ["waiting_approval"]);

    let approved = home.run(&["approvals", "approve", &id, "--digest", prefix, "--note", "fine", "--as", "kim"]).ok();
    for part in [&format!("kim approves {id} revision 1: fine"), "succeeded in", "answers: It is done.", "is done."] {
        assert!(approved.contains(part), "{part} in {approved}");
    }
    let again = home.run(&["approvals", "approve", &id]).failed();
    assert!(again.starts_with("twelve: Already approved by kim ("), "{again}");
    assert!(again.contains("It succeeded."), "{again}");
    let history = &home.json(&["approvals", "show", &id, "--json"])["history"];
    let types: Vec<&str> = history.as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["approval_requested", "vote_cast", "approval_resolved", "tool_started", "tool_finished"]);
    assert_eq!(home.run(&["approvals", "list"]).ok(), "Nothing waits for a decision.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_carries_its_reason_and_nothing_runs() {
    let home = Home::new();
    home.thread("one", "assistant", &["note the lights are on"]).await;
    let (id, _) = open_approval(&home);
    // The beginning of an id is enough, with or without the prefix.
    let denied = home.run(&["approvals", "deny", &id[4..10], "--reason", "not today"]).ok();
    assert!(denied.contains(&format!("ops denies {id} revision 1: not today")), "{denied}");
    assert!(denied.contains("answers: It was not done."), "{denied}");
    assert!(!denied.contains("started"), "{denied}");
    let again = home.run(&["approvals", "deny", &id]).failed();
    assert!(again.starts_with("twelve: Already denied by ops ("), "{again}");
    assert_eq!(
        home.run(&["approvals", "show", "apr_zz"]).failed(),
        "twelve: there is no open approval `apr_zz`; nothing waits for a decision\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_makes_a_revision_with_a_digest_of_its_own() {
    let home = Home::new();
    home.thread("one", "assistant", &["note the lights are on"]).await;
    let (id, first) = open_approval(&home);
    let bad = home.run(&["approvals", "edit", &id, "--set", "loudness=3"]).failed();
    assert!(bad.starts_with("twelve: These arguments can't be used: log_message: "), "{bad}");
    let twice = home.run(&["approvals", "edit", &id, "--args", r#"{"message": "a", "message": "b"}"#]).failed();
    assert!(twice.starts_with("twelve: These arguments can't be used: "), "{twice}");
    let same = home.run(&["approvals", "edit", &id, "--set", "level=info"]).failed();
    assert!(same.starts_with("twelve: Nothing was changed."), "{same}");

    home.run(&["approvals", "edit", &id, "--set", "message=the lights are off", "--set", "level=warn"]).ok();
    let (same_id, second) = open_approval(&home);
    assert_eq!(same_id, id);
    assert_ne!(first, second);
    let shown = home.run(&["approvals", "show", &id]).ok();
    assert!(shown.contains("revision 2, pending") && shown.contains("changed by ops: level: info -> warn"), "{shown}");
    let old = home.run(&["approvals", "approve", &id, "--digest", &first]).failed();
    assert!(old.starts_with("twelve: The request changed since"), "{old}");
    assert!(home.run(&["approvals", "approve", &id, "--digest", &second]).ok().contains("It is done."));
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_works_while_another_process_has_the_store_and_deciding_says_who_is_in_the_way() {
    let home = Home::new();
    let short = home.thread("one", "assistant", &["note the lights are on"]).await;
    let held = Store::open(&home.blueprint().store_config().unwrap()).await.unwrap();
    let (id, digest) = open_approval(&home);
    assert_eq!(statuses(&home), ["waiting_approval"]);
    assert!(home.run(&["audit", "verify"]).ok().starts_with("1 thread with "));
    let expected = match Store::open(&home.blueprint().store_config().unwrap()).await {
        Err(e) => format!("twelve: {e}\n"),
        Ok(_) => panic!("the store was opened twice"),
    };
    for args in [
        &["approvals", "approve", &id, "--digest", &digest][..],
        &["threads", "stop", short.as_str()],
        &["threads", "delete", short.as_str(), "--yes"],
    ] {
        assert_eq!(home.run(args).failed(), expected, "{args:?}");
    }
    held.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_is_paused_resumed_stopped_and_cancelled_by_name() {
    let home = Home::new();
    let short = home.thread("one", "assistant", &["ask me"]).await;
    let id = short.as_str();
    let paused = home.run(&["threads", "pause", id, "--why", "lunch"]).ok();
    assert!(paused.contains("paused by ops: lunch") && paused.contains("is paused."), "{paused}");
    assert!(home.run(&["threads", "pause", id]).failed().starts_with("twelve: It is paused already."));
    assert!(home.run(&["threads", "resume", id]).ok().contains("is waiting for answer."));
    assert!(home.run(&["threads", "stop", id]).ok().contains("is stopped."));
    assert!(home.run(&["threads", "stop", id]).failed().starts_with("twelve: Nothing is running here."));
    assert!(home.run(&["threads", "cancel", id]).ok().contains("is cancelled."));
    let nameless = home.command(&["threads", "stop", id]).env_remove("USER").output().unwrap();
    assert!(Ran::from(nameless).failed().contains("pass `--as NAME` or set USER"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_its_id() {
    let home = Home::new();
    let short = home.thread("one", "assistant", &["ask me"]).await;
    let question = home.json(&["threads", "show", short.as_str(), "--json"])["questions"][0]["id"].clone();
    let question = question.as_str().unwrap();
    let wrong = home.run(&["threads", "answer", question, "green"]).failed();
    assert!(wrong.starts_with("twelve: Answer with one of: red, blue."), "{wrong}");
    let answered = home.run(&["threads", "answer", question, "2"]).ok();
    assert!(
        answered.contains("ops answers") && answered.contains(": blue") && answered.contains("Thank you."),
        "{answered}"
    );
    assert!(home.run(&["threads", "answer", question, "red"]).failed().contains("not open any more"));
    assert!(home.run(&["threads", "answer", "q_1", "red"]).failed().contains("`q_1` is not a question id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_starts_with_the_context_of_an_event_and_leaves_the_parent_alone() {
    let home = Home::new();
    let parent = home.thread("one", "assistant", &["good day", "note the lights are on"]).await;
    let before = home.json(&["threads", "show", parent.as_str(), "--json"]);
    let forked = home.run(&["threads", "fork", parent.as_str(), "--at", "3", "--message", "ask me"]).ok();
    assert!(forked.contains(&format!("is a fork of {parent} at event 3.")), "{forked}");
    assert!(forked.contains("asks: Which colour?"), "{forked}");
    assert_eq!(home.json(&["threads", "show", parent.as_str(), "--json"])["thread"]["head"], before["thread"]["head"]);
    let window = home.run(&["prompts", "render", forked.split_whitespace().nth(1).unwrap()]).ok();
    assert!(window.contains("good day") && !window.contains("the lights are on"), "{window}");
    let beyond = home.run(&["threads", "fork", parent.as_str(), "--at", "99"]).failed();
    assert!(beyond.contains("--at is a number from 1 to "), "{beyond}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_thread_leaves_its_head_and_is_counted() {
    let home = Home::new();
    let short = home.thread("one", "assistant", &["note the lights are on"]).await;
    let head = home.json(&["threads", "show", short.as_str(), "--json"])["thread"]["head"].clone();
    let version = home.json(&["threads", "show", short.as_str(), "--json"])["thread"]["version"].clone();
    let asked = home.run(&["threads", "delete", short.as_str()]).failed();
    assert!(asked.contains("nothing was done") && asked.contains("repeat with --yes"), "{asked}");
    assert_eq!(statuses(&home), ["waiting_approval"]);
    let deleted = home.run(&["threads", "delete", short.as_str(), "--yes"]).ok();
    // It is cancelled first, as over HTTP: the last event is that.
    assert!(deleted.contains(&format!("is deleted: {} events went", version.as_u64().unwrap() + 1)), "{deleted}");
    assert!(deleted.contains("Its head was ") && !deleted.contains(head.as_str().unwrap()), "{deleted}");
    let gone = home.run(&["threads", "show", "console:one"]).failed();
    assert!(
        gone.starts_with(&format!("twelve: thread {short} was deleted at ")) && gone.contains(" by console:ops "),
        "{gone}"
    );
    let verified = home.json(&["audit", "verify", "--json"]);
    assert_eq!((&verified["deleted"], &verified["threads"]), (&1.into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_shows_every_event_and_finds_a_summary_that_its_log_does_not_carry() {
    let home = Home::new();
    let short = home.thread("one", "assistant", &["good day"]).await;
    let replayed = home.run(&["threads", "replay", short.as_str()]).ok();
    assert!(replayed.contains("sam wrote: good day\n      -> ask the model  (eff_"), "{replayed}");
    assert!(replayed.ends_with("The fold of 3 events is what is stored: done.\n"), "{replayed}");
    let part = home.run(&["threads", "replay", short.as_str(), "--at", "2"]).ok();
    assert!(part.ends_with("After event 2 of 3 the thread was running.\n"), "{part}");
    let json = home.json(&["threads", "replay", short.as_str(), "--json"]);
    assert_eq!(json["events"].as_array().unwrap().len(), 3);
    assert_eq!(json["events"][1]["effects"][0]["effect"], "ask the model");

    let edited = home.database().execute("UPDATE threads SET summary = replace(summary, 'good day', 'bad day')", []);
    assert_eq!(edited.unwrap(), 1);
    let found = home.run(&["threads", "replay", short.as_str()]);
    assert!(!found.out.contains("is what is stored"), "{}", found.out);
    assert_eq!(
        found.failed(),
        format!(
            "twelve: the fold is not what is stored for thread {short}: title is stored as \"bad day\", the log says \"good day\"\n"
        )
    );
}

/// The rows of one thread's events, in order.
fn rows(db: &Connection) -> Vec<(i64, Vec<u8>)> {
    let mut query = db.prepare("SELECT id, body FROM events ORDER BY id").unwrap();
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

/// Verifies with an untouched thread beside it, which must stay out of the verdict.
async fn verdict_after(change: impl FnOnce(&Connection, &[(i64, Vec<u8>)])) -> (String, Value) {
    let home = Home::new();
    let short = home.thread("one", "assistant", &["good day", "note the lights are on"]).await;
    let mine = rows(&home.database());
    home.thread("two", "assistant", &["good day"]).await;
    assert_eq!(home.json(&["audit", "verify", "--json"])["broken"], serde_json::json!([]));
    change(&home.database(), &mine);
    let ran = home.run(&["audit", "verify", "--json"]);
    let verdict: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&verdict["threads"], &verdict["intact"]), (&2.into(), &1.into()), "{verdict}");
    let expected = format!(
        "twelve: 1 thread is not the log that was written: {short}. Keep the file as evidence and restore a backup\n"
    );
    assert_eq!(ran.failed(), expected);
    let alone = home.run(&["audit", "verify", short.as_str()]).failed();
    assert_eq!(alone, expected);
    assert_eq!(home.run(&["audit", "verify", "console:two"]).code, Some(0));
    let broken = verdict["broken"][0].clone();
    assert_eq!(broken["thread"], short.to_string());
    let found = broken["found"].as_str().unwrap().replace(&home.path("").display().to_string(), "");
    (found, verdict)
}

fn edit(body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("good day"), "{text}");
    text.replace("good day", "bad day!").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_an_edited_event() {
    let (found, _) = verdict_after(|db, rows| {
        db.execute("UPDATE events SET body = ?2 WHERE id = ?1", params![rows[1].0, edit(&rows[1].1)]).unwrap();
    })
    .await;
    assert_eq!(
        found,
        "event 3 does not follow the event before it: one of the two was edited, removed, inserted or moved"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_an_edited_last_event() {
    let (found, _) = verdict_after(|db, rows| {
        let (id, body) = rows.last().unwrap();
        let text = String::from_utf8(body.clone()).unwrap();
        let at = Event::decode(body, rows.len() as u64).unwrap().at.0;
        let later = text.replace(&format!("\"at\":{at}"), &format!("\"at\":{}", at + 1));
        assert_ne!(later, text);
        db.execute("UPDATE events SET body = ?2 WHERE id = ?1", params![id, later.into_bytes()]).unwrap();
    })
    .await;
    assert!(found.contains("its last event is not the one that was recorded"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_a_removed_event() {
    let (found, _) = verdict_after(|db, rows| {
        db.execute("DELETE FROM events WHERE id = ?1", [rows[2].0]).unwrap();
    })
    .await;
    assert!(found.contains("event 3 is missing"), "{found}");
}

/// Removes the third event and closes the gap, with the version in the thread's row lowered as well.
#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_a_removed_event_whose_gap_was_closed() {
    let (found, _) = verdict_after(|db, rows| {
        db.execute("DELETE FROM events WHERE id = ?1", [rows[2].0]).unwrap();
        for (id, _) in &rows[3..] {
            db.execute("UPDATE events SET id = id - 1 WHERE id = ?1", [id]).unwrap();
        }
        db.execute("UPDATE threads SET version = version - 1 WHERE no = ?1", [rows[0].0 >> 31]).unwrap();
    })
    .await;
    assert_eq!(found, "event 3 says that it is number 4: an event was removed, inserted or moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_reordered_events() {
    let (found, _) = verdict_after(|db, rows| {
        for (to, from) in [(1, 2), (2, 1)] {
            db.execute("UPDATE events SET body = ?2 WHERE id = ?1", params![rows[to].0, rows[from].1]).unwrap();
        }
    })
    .await;
    assert_eq!(found, "event 2 says that it is number 3: an event was removed, inserted or moved");
}

/// Events moved with their numbers made to fit: only the chain can tell.
#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_reordered_events_that_were_renumbered() {
    let (found, _) = verdict_after(|db, rows| {
        for (to, from) in [(1, 2), (2, 1)] {
            let text = String::from_utf8(rows[from].1.clone()).unwrap();
            let text = text.replacen(&format!("\"seq\":{}", from + 1), &format!("\"seq\":{}", to + 1), 1);
            db.execute("UPDATE events SET body = ?2 WHERE id = ?1", params![rows[to].0, text.into_bytes()]).unwrap();
        }
    })
    .await;
    assert!(found.starts_with("event 2 does not follow the event before it"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_an_inserted_event() {
    let (found, _) = verdict_after(|db, rows| {
        for (id, _) in rows[2..].iter().rev() {
            db.execute("UPDATE events SET id = id + 1 WHERE id = ?1", [id]).unwrap();
        }
        let copy = String::from_utf8(rows[1].1.clone()).unwrap().replacen("\"seq\":2", "\"seq\":3", 1);
        db.execute("INSERT INTO events (id, body) VALUES (?1, ?2)", params![rows[2].0, copy.into_bytes()]).unwrap();
        db.execute("UPDATE threads SET version = version + 1 WHERE no = ?1", [rows[0].0 >> 31]).unwrap();
    })
    .await;
    assert!(found.starts_with("event 3 does not follow the event before it"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_an_event_that_was_added_at_the_end() {
    let (found, _) = verdict_after(|db, rows| {
        let (id, body) = rows.last().unwrap();
        db.execute("INSERT INTO events (id, body) VALUES (?1, ?2)", params![id + 1, body]).unwrap();
    })
    .await;
    assert!(found.contains("its events end with number"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_the_stored_bytes_and_never_overwrites() {
    let home = Home::new();
    let kept = home.thread("one", "assistant", &["good day"]).await;
    let stored: Vec<String> =
        rows(&home.database()).into_iter().map(|(_, body)| String::from_utf8(body).unwrap()).collect();
    home.thread("two", "assistant", &["good day"]).await;
    home.run(&["threads", "delete", "console:two", "--yes"]).ok();
    let file = home.path("export.jsonl");
    let args = ["audit", "export", "--out", file.to_str().unwrap()];
    assert!(home.run(&args).ok().starts_with("1 thread with 3 events in "));
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], stored);
    let end: Value = serde_json::from_str(lines[3]).unwrap();
    let head = twelve::agent::Digest::of(stored[2].as_bytes()).to_string();
    assert_eq!(end, serde_json::json!({ "thread": "console:one", "short": kept, "version": 3, "head": head }));
    assert!(lines[4].contains("\"deleted\":"));
    assert_eq!(lines.len(), 5);
    let again = home.run(&args).failed();
    assert!(again.contains("an export never overwrites"), "{again}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(home.run(&["audit", "export", kept.as_str()]).ok(), format!("{}\n", lines[..4].join("\n")));
}

/// A service `api` whose version is a line in a file, deployed by a command; healthy while it listens.
fn service(dir: &Path) -> (String, std::net::TcpListener) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::fs::write(dir.join("version"), "1\n").unwrap();
    let version = dir.join("version").display().to_string();
    let deploy = format!("echo {{version}} > {version}; echo {{version}} >> {version}.ledger");
    let toml = format!(
        "[tools.services.api.environments.test]\nstatus = \"tcp://127.0.0.1:{port}\"\nversion = {{ command = [\"cat\", {version:?}] }}\n\
         [tools.services.api.deploy]\nversions = '\\d+'\nsettle = \"2s\"\n\
         [tools.services.api.deploy.command]\nargv = [\"sh\", \"-c\", {deploy:?}, \"{{version}}\"]\n"
    );
    (toml, listener)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_end_nobody_saw_is_stuck_until_a_person_marks_it() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _listening) = service(dir.path());
    let home = Home::with(&config);
    let short = home.thread("one", "deployment", &["deploy 2"]).await;
    let (id, digest) = open_approval(&home);
    let shown = home.run(&["approvals", "show", &id]).ok();
    assert!(shown.contains("\nPlan\n") && shown.contains("(schema 1)"), "{shown}");

    // The process dies between the start and the end of the deployment.
    let approve = ["approvals", "approve", &id, "--digest", &digest];
    let died = home.command(&approve).env("TWELVE_CRASH_AT", "tool.after_start").output().unwrap();
    assert_eq!(died.status.code(), None, "{died:?}");
    let stuck = home.run(&["threads", "stuck", "--older", "0s"]).ok();
    assert!(stuck.contains(&format!("{short}  outstanding: run call_{short}_3")), "{stuck}");
    // With the usual patience it is not: somebody may be at it.
    assert!(home.run(&["threads", "stuck"]).ok().starts_with("Nothing is stuck: 1 open thread looked at."));

    // Whoever writes next takes the thread up, and finds that the outcome is unknown.
    let again = home.run(&approve).failed();
    assert!(again.starts_with("twelve: Already approved by ops ("), "{again}");
    assert_eq!(statuses(&home), ["waiting_mark"]);
    let stuck = home.json(&["threads", "stuck", "--json"]);
    assert_eq!((&stuck[0]["kind"], &stuck[0]["thread"]), (&"mark".into(), &short.to_string().into()));
    let call = format!("call_{short}_3");
    let marked = home.run(&["threads", "mark", &call, "failed", "--note", "I looked"]).ok();
    assert!(marked.contains(&format!("ops marks {call} as failed: I looked")), "{marked}");
    assert!(marked.contains("It was not done."), "{marked}");
    assert!(home.run(&["threads", "mark", &call, "retry"]).failed().contains("is not in question"));
    assert!(!dir.path().join("version.ledger").exists(), "a call that was started is never rerun silently");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_would_be_sent_is_printed_to_the_byte() {
    let home = Home::new();
    let short = home.thread("one", "assistant", &["good day"]).await;
    let prompt = home.run(&["prompts", "render", "--agent", "assistant"]).ok();
    let rendered = home.run(&["prompts", "render", short.as_str()]).ok();
    let window = "<human from=\"sam\">\ngood day\n</human>\n<agent>\nHello. (scripted answer)\n</agent>";
    assert_eq!(rendered, format!("{prompt}\n{window}\n"));
    let request = home.run(&["prompts", "render", short.as_str(), "--request"]).ok();
    let request: Value = serde_json::from_str(&request).unwrap();
    assert_eq!(request["window"], window);
    assert_eq!(format!("{}\n", request["system"].as_str().unwrap()), prompt);
    assert!(home.run(&["prompts", "render", "--agent", "assistent"]).failed().contains("did you mean `assistant`?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn prompt_cases_pass_or_fail_with_an_exit_code() {
    let home = Home::new();
    let mine = "+++\ndescription = \"Mine.\"\ntools = [\"log_message\"]\n+++\nYou are {{ agent.name }}.\n";
    let cases = r#"
[[case]]
name = "it says who it is"
prompt_contains = ["You are mine"]
[[case]]
name = "it notes what it is told"
window = [{ human = "note milk" }]
expect = { tool = "log_message", args = { message = "milk" } }
[[case]]
name = "it stops after a failure"
window = [{ human = "note milk" }, { tool_call = { tool = "log_message" } }, { tool_result = { tool = "log_message", outcome = "failed", text = "full" } }]
expect = { say_contains = ["not done"] }
"#;
    std::fs::create_dir(home.path("agents")).unwrap();
    home.write("agents/mine.md", mine);
    home.write("agents/mine.cases.toml", cases);
    let agents = home.path("agents").display().to_string();
    let run = |args: &[&str]| Ran::from(home.command(args).env("TWELVE__AGENTS__DIRECTORY", &agents).output().unwrap());
    assert_eq!(
        run(&["prompts", "test", "mine"]).ok(),
        "pass  mine  it says who it is\npass  mine  it notes what it is told\npass  mine  it stops after a failure\n3 cases passed, 0 failed.\n"
    );
    home.write("agents/mine.cases.toml", &cases.replace("\"milk\"", "\"tea\""));
    let failed = run(&["prompts", "test", "mine"]);
    assert_eq!(failed.code, Some(1));
    assert!(
        failed.out.contains(
            "FAIL  mine  it notes what it is told\n      the argument `message` is \"milk\"; expected \"tea\"\n"
        ),
        "{}",
        failed.out
    );
    assert!(failed.out.ends_with("2 cases passed, 1 failed.\n"), "{}", failed.out);
    let no_key = run(&["prompts", "test", "mine", "--provider", "openai"]).failed();
    assert!(no_key.contains("set OPENAI_API_KEY"), "{no_key}");
    assert!(run(&["prompts", "test", "mine", "--provider", "opnai"]).failed().contains("did you mean `openai`"));
}

#[test]
fn a_rule_that_no_call_can_match_is_refused_with_what_was_probably_meant() {
    let rules = |text: &str| Home::with(text).run(&["config", "check"]);
    let wrong = rules(
        "[[policy.rules]]\nname = \"a\"\ntool = \"deploy_servce\"\ngate = \"deny\"\n\
         [[policy.rules]]\nname = \"b\"\nagent = \"deploymnt\"\ngate = \"deny\"\n\
         [[policy.rules]]\nname = \"c\"\ntool = \"deploy_*\"\ngate = \"deny\"\nargs = { enviroment = \"production\" }\n\
         [[policy.rules]]\nname = \"d\"\ntool = \"shell_*\"\ngate = \"deny\"\n",
    )
    .failed();
    insta::assert_snapshot!(wrong, @r"
    twelve: policy rule `a`: no tool is called `deploy_servce`, so it would never match; did you mean `deploy_service`? (tools: log_message, sleep, check_service_status, deploy_service, http_get, http_post, read_file, write_file, send_email, lookup_customer, create_support_ticket)
    policy rule `b`: no agent is called `deploymnt`, so it would never match; did you mean `deployment`? (agents: assistant, deployment, support)
    policy rule `c`: `deploy_*` has no argument `enviroment`, so it would never match; did you mean `environment`?
    policy rule `d`: no tool is called `shell_*`, so it would never match (tools: log_message, sleep, check_service_status, deploy_service, http_get, http_post, read_file, write_file, send_email, lookup_customer, create_support_ticket)
    ");
    // So is a pattern that no canonical argument can match: it would fall silent.
    let wrong = rules(
        "[tools.services.api.environments]\nproduction = { status = \"http://127.0.0.1/\" }\n\
         [[policy.rules]]\nname = \"url\"\ntool = \"http_*\"\ngate = \"deny\"\nargs = { url = \"https://API.example.com/.*\" }\n\
         [[policy.rules]]\nname = \"path\"\ntool = \"*_file\"\ngate = \"ask\"\nargs = { path = \"./secrets/.*\" }\n\
         [[policy.rules]]\nname = \"mail\"\ntool = \"*\"\ngate = \"auto\"\nargs = { to = '.*@EXAMPLE\\.com' }\n\
         [[policy.rules]]\nname = \"word\"\ntool = \"create_*\"\ngate = \"deny\"\nargs = { priority = \"hihg\" }\n\
         [[policy.rules]]\nname = \"place\"\ntool = \"check_*\"\ngate = \"deny\"\nargs = { environment = \"Production\" }\n\
         [[policy.rules]]\nname = \"fine\"\ntool = \"http_*\"\ngate = \"deny\"\nargs = { url = '(?i)https://API\\.example\\.com/.*' }\n",
    )
    .failed();
    insta::assert_snapshot!(wrong, @r"
    twelve: policy rule `url`: `url`: no url is ever written as `https://API.example.com/.*` has it, so it would never match; the canonical form of `https://API.example.com/` is `https://api.example.com/`
    policy rule `path`: `path`: no path is ever written as `./secrets/.*` has it, so it would never match; the canonical form of `./secrets/` is `secrets/`
    policy rule `mail`: `to`: no mail is ever written as `.*@EXAMPLE\.com` has it, so it would never match; the canonical form of `@EXAMPLE.com` is `@example.com`
    policy rule `word`: `priority`: `hihg` matches no value, so it would never match; did you mean `high`? (known: low, normal, high, urgent)
    policy rule `place`: `environment`: `Production` would never match; the canonical form of this environment is `production`
    ");
    // Gates of an agent file, too.
    let home = Home::with("");
    let mine = "+++\ndescription = \"Mine.\"\ntools = [\"read_file\"]\n[gates]\nread_file = { gate = \"deny\", args = { path = \"/etc/.*\" } }\n+++\nYou read.\n";
    std::fs::create_dir(home.path("agents")).unwrap();
    home.write("agents/mine.md", mine);
    let agents = home.path("agents").display().to_string();
    let checked = home.command(&["config", "check"]).env("TWELVE__AGENTS__DIRECTORY", &agents).output().unwrap();
    let said = Ran::from(checked).failed();
    assert!(said.contains("`agent:mine:read_file`: `path`: no path is ever written as `/etc/.*` has it"), "{said}");
    // So is a tool that is listed as safe and does not exist: it would go on asking, and nobody would know why.
    let wrong = rules("[policy]\nsafe_after_untrusted = [\"log_*\", \"log_mesage\", \"shell\"]\n").failed();
    insta::assert_snapshot!(wrong, @r"
    twelve: `policy.safe_after_untrusted`: no tool is called `log_mesage`; did you mean `log_message`? (tools: log_message, sleep, check_service_status, deploy_service, http_get, http_post, read_file, write_file, send_email, lookup_customer, create_support_ticket)
    `policy.safe_after_untrusted`: no tool is called `shell` (tools: log_message, sleep, check_service_status, deploy_service, http_get, http_post, read_file, write_file, send_email, lookup_customer, create_support_ticket)
    ");
    // An argument that one of several tools has is enough, and so is an optional one.
    let right = "[[policy.rules]]\nname = \"a\"\ngate = \"ask\"\nargs = { environment = \"production\" }\n";
    assert!(rules(right).ok().starts_with("ok: "));
}

#[test]
fn an_output_that_cannot_be_written_is_a_sentence_for_every_command_that_prints() {
    let home = Home::new();
    for args in [&["completions", "bash"][..], &["config", "default"], &["tools"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = home.command(args).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("twelve: the output cannot be written: "), "{args:?}: {said}");
        // A reader that went away has what it wanted.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = home.command(args).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_says_why_it_did_not_write_its_file() {
    let home = Home::new();
    home.thread("one", "assistant", &["good day"]).await;
    home.run(&["audit", "export", "--out", "log.jsonl"]).ok();
    let exists = home.run(&["audit", "export", "--out", "log.jsonl"]).failed();
    assert!(exists.contains("log.jsonl exists, and an export never overwrites; name another file"), "{exists}");
    let nowhere = home.run(&["audit", "export", "--out", "nowhere/log.jsonl"]).failed();
    assert!(nowhere.contains("nowhere/log.jsonl cannot be written: No such file"), "{nowhere}");
}

#[test]
fn without_any_setting_every_built_in_case_is_put_to_its_script_and_passes() {
    let home = Home::new();
    std::fs::remove_file(home.path("twelve.toml")).unwrap();
    let report = home.json(&["prompts", "test", "--json"]);
    let built_in: usize = twelve::config::builtin_cases()
        .iter()
        .map(|file| twelve::agent::cases::parse(&file.file, &file.text).unwrap().len())
        .sum();
    assert_eq!((&report["passed"], &report["failed"]), (&built_in.into(), &0.into()), "{report}");
    for case in report["cases"].as_array().unwrap() {
        assert_eq!(case["not_asked"], Value::Null, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_shows_what_an_agent_file_changes_and_which_threads_ran_under_another() {
    let home = Home::new();
    let short = home.thread("one", "support", &["good day"]).await;
    assert!(home.run(&["prompts", "diff", "support"]).ok().starts_with("support: no difference ("));
    assert!(
        home.run(&["prompts", "diff", "--threads"])
            .ok()
            .ends_with("Every thread's last reply was made under the prompt in use.\n")
    );
    let builtin = twelve::config::builtin_agents();
    let support = builtin.iter().find(|f| f.file == "support.md").unwrap();
    std::fs::create_dir(home.path("agents")).unwrap();
    home.write("agents/support.md", &support.text.replace("Three sentences at most", "Two sentences at most"));
    let agents = home.path("agents").display().to_string();
    let run = |args: &[&str]| Ran::from(home.command(args).env("TWELVE__AGENTS__DIRECTORY", &agents).output().unwrap());
    let diff = run(&["prompts", "diff", "support", "--threads"]).ok();
    assert!(
        diff.contains("--- builtin/support.md\n+++ ")
            && diff.contains("\n-Three sentences")
            && diff.contains("\n+Two sentences"),
        "{diff}"
    );
    assert!(diff.contains(&format!("\n{short}  support  ")), "{diff}");
    assert!(run(&["prompts", "diff", "--against", "ffff"]).failed().contains("logs keep digests, not texts"));
    let info = run(&["info"]).ok();
    assert!(info.contains("3 agents, 1 from files ("), "{info}");
}

#[test]
fn tools_say_what_they_do_and_what_their_gate_is_for_each_agent() {
    let home = Home::new();
    let tools = home.run(&["tools"]).ok();
    assert!(tools.starts_with("TOOL                   RISK    SIDE EFFECTS  IDEMPOTENT  GATE BY AGENT\n"), "{tools}");
    assert!(tools.contains("assistant: ask, deployment: ask, support: ask\n"), "{tools}");
    for row in [
        "send_email             medium  yes           no          support: ask\n",
        "create_support_ticket  low     yes           yes         support: auto\n",
    ] {
        assert!(tools.contains(row), "{tools}");
    }
    assert_eq!(home.run(&["list-tools"]).ok(), tools);
    assert_eq!(home.json(&["tools", "--json"])[3]["gates"]["deployment"], "ask");
    assert_eq!(home.json(&["tools", "--schema", "sleep"])["required"][0], "seconds");
    assert!(home.run(&["tools", "--schema", "slep"]).failed().contains("did you mean `sleep`?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_factors_are_read_from_what_would_run() {
    let home = Home::with("[limits]\nmax_steps = 7\n");
    let state = |n: usize| home.json(&["info", "--json"])["factors"][n - 1]["state"].as_str().unwrap().to_owned();
    assert!(state(5).ends_with("durability disk, schema 2, event format 2; not made yet"), "{}", state(5));
    let short = home.thread("one", "assistant", &["good day"]).await;
    home.thread("two", "assistant", &["ask me"]).await;
    assert!(state(5).ends_with("; holds 2 threads"), "{}", state(5));
    assert!(state(6).starts_with("threads: 1 waiting for answer, 1 done"), "{}", state(6));
    assert!(state(7).contains("3 gated tools (deploy_service, log_message, send_email)"), "{}", state(7));
    assert!(state(8).contains("after 7 steps"), "{}", state(8));
    assert!(state(12).ends_with("fold to what is stored"), "{}", state(12));
    home.database().execute("UPDATE threads SET summary = replace(summary, 'ask me', 'ask you')", []).unwrap();
    assert!(state(12).ends_with("does NOT fold to what is stored"), "{}", state(12));
    assert_eq!(home.json(&["info", "--json"])["factors"].as_array().unwrap().len(), 13);
    assert!(home.run(&["info"]).ok().contains("provider scripted, model scripted"));
    assert!(!short.as_str().is_empty());
}

#[test]
fn a_check_says_everything_that_is_wrong_or_that_all_is_well() {
    let home = Home::new();
    assert_eq!(
        home.run(&["config", "check"]).ok(),
        format!(
            "ok: provider scripted, model scripted; store {} (durability disk); agents assistant, deployment, support\n",
            home.path("data/twelve.db").display()
        )
    );
    assert!(!home.path("data").exists(), "a check changes nothing");
    home.write("bad.toml", "[modle]\nx = 1\n[store]\ndurability = \"paper\"\n");
    let bad = home.run(&["--config", "bad.toml", "config", "check"]).failed();
    assert!(bad.contains("2 problems") && bad.contains("modle") && bad.contains("paper"), "{bad}");
    home.write("bad.toml", "[tools]\nprobe_timeot = \"1s\"\n");
    assert_eq!(
        home.run(&["--config", "bad.toml", "config", "check"]).failed(),
        "twelve: the section [tools]: unknown setting `probe_timeot`; allowed: `probe_timeout`, `services`, `http`, `files`, `email`, `support`; did you mean `probe_timeout`?\n"
    );
    std::fs::create_dir(home.path("agents")).unwrap();
    home.write("agents/one.md", "+++\ndescription = \"x\"\ntools = [\"slep\"]\n+++\nHello {{ agnet.name }}\n");
    home.write("agents/two.md", "no front matter");
    home.write("bad.toml", &format!("[agents]\ndirectory = {:?}\n", home.path("agents")));
    let bad = home.run(&["--config", "bad.toml", "config", "check"]).failed();
    for part in ["there is no tool `slep`", "did you mean `agent", "two.md: the first line has to be `+++`"] {
        assert!(bad.contains(part), "{part} in {bad}");
    }
    let shown = home.json(&["config", "show", "--json"]);
    let origin = |key: &str| shown.as_array().unwrap().iter().find(|s| s["key"] == key).unwrap()["origin"].clone();
    assert_eq!(origin("log.level"), "file twelve.toml line 4");
    assert_eq!(origin("log.structured"), "default");
}

#[test]
fn the_default_file_is_printed_and_its_example_of_tools_works_as_it_stands() {
    let home = Home::new();
    // Also where the settings that are there cannot be read.
    home.write("twelve.toml", "not toml");
    let default = home.run(&["config", "default"]).ok();
    assert_eq!(default, twelve::config::DEFAULT);
    let (settings, example) = default.split_once("[tools]\n").unwrap();
    let lines = example.lines().map(|line| line.strip_prefix("# ").unwrap_or(""));
    let is_toml =
        |line: &&str| line.starts_with(['#', '[']) || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let example: Vec<&str> = lines.filter(is_toml).collect();
    home.write("twelve.toml", &format!("{settings}[tools]\n{}\n", example.join("\n")));
    let ran = home.run(&["--config", "twelve.toml", "tools"]).ok();
    assert!(ran.contains("api (staging), web (production)"), "{ran}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_counts_also_where_nobody_waits_for_what_follows() {
    let home = Home::new();
    let short = home.thread("one", "assistant", &["note the lights are on"]).await;
    let (id, digest) = open_approval(&home);
    let approved = home.run(&["approvals", "approve", &id, "--digest", &digest, "--wait", "0s"]).ok();
    assert!(approved.contains(&format!("ops approves {id} revision 1")), "{approved}");
    // Whatever was left is taken up by the next command that writes; it finds nothing to resume.
    home.run(&["threads", "resume", short.as_str()]).failed();
    assert_eq!(statuses(&home), ["done"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_in_a_thread_that_cannot_be_read_hides_no_other() {
    let home = Home::new();
    home.thread("one", "assistant", &["note the lights are on"]).await;
    let broken = rows(&home.database());
    home.thread("two", "assistant", &["note the lights are off"]).await;
    home.database().execute("UPDATE events SET body = ?2 WHERE id = ?1", params![broken[1].0, b"{}".to_vec()]).unwrap();
    // A list reads no log; whoever wants to decide is told.
    let listed = home.run(&["approvals", "list"]).ok();
    assert!(listed.contains("Log: the lights are off") && listed.lines().count() == 3, "{listed}");
    let open = home.json(&["approvals", "list", "--json"]);
    let shown = home.run(&["approvals", "show", open[0]["id"].as_str().unwrap()]).failed();
    assert!(shown.contains("event 2 cannot be read"), "{shown}");
    // The same for a row that cannot be read: the log is all that counts.
    home.database().execute("UPDATE approvals SET body = '{' WHERE row = 2", []).unwrap();
    let listed = home.run(&["approvals", "list"]);
    let id = open[1]["id"].as_str().unwrap();
    assert_eq!((listed.code, listed.out.lines().count()), (Some(0), 2), "{}", listed.out);
    assert_eq!(
        listed.err,
        format!("twelve: {id} cannot be listed; `twelve approvals show {id}` reads it from its log\n")
    );
    assert!(home.run(&["approvals", "show", id]).ok().contains("the lights are off"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_says_what_of_an_approval_can_be_said_without_its_log() {
    let home = Home::new();
    home.thread("one", "assistant", &["note the lights are on"]).await;
    let listed = home.json(&["approvals", "list", "--json"]);
    let shown = home.json(&["approvals", "show", listed[0]["id"].as_str().unwrap(), "--json"]);
    for field in
        ["id", "thread", "agent", "state", "revision", "title", "digest", "requesters", "requested_at", "expires_at"]
    {
        assert_eq!(listed[0][field], shown[field], "{field}");
    }
    assert_eq!((&listed[0]["tool"], &listed[0]["rule"]), (&"log_message".into(), &"notes ask".into()));
    assert_eq!((&listed[0]["risk"], &listed[0]["approvers"]), (&shown["terms"]["risk"], &shown["terms"]["approvers"]));
    assert_eq!(listed[0]["decided_by"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_an_older_program_is_brought_up_to_date_by_the_first_command_that_writes() {
    let home = Home::new();
    home.thread("one", "assistant", &["note the lights are on"]).await;
    let (id, _) = open_approval(&home);
    crate::store_rebuild::to_format_1(&home.path("data/twelve.db"));
    let old = home.run(&["approvals", "list"]).failed();
    assert!(old.ends_with("has the older format 1. Start an agent once: that brings it up to date.\n"), "{old}");
    home.run(&["run", "assistant", "good morning"]).ok();
    assert_eq!(open_approval(&home).0, id);
    // Broken off in between, lists say that they are not complete.
    home.database().execute("UPDATE projection SET version = 0", []).unwrap();
    let listed = home.run(&["approvals", "list"]);
    assert!(listed.out.contains(&id), "{}", listed.out);
    assert!(listed.err.contains("not all listed yet; start an agent once"), "{}", listed.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_finds_rows_of_approvals_that_are_not_what_the_log_says() {
    let home = Home::new();
    let short = home.thread("one", "assistant", &["note the lights are on"]).await.to_string();
    let (id, _) = open_approval(&home);
    let replay = ["threads", "replay", &short];
    assert!(home.run(&replay).ok().contains("is what is stored"));
    for (sql, says) in [
        (
            "UPDATE approvals SET rule = 'another'",
            format!("{id}: rule is stored as \"another\", the log says \"notes ask\""),
        ),
        ("UPDATE approvals SET body = '{'", format!("the row of {id} in the list is not readable")),
        (
            "UPDATE approvals SET seq = seq + 1, body = json_set('{}', '$.x', 1)",
            format!("{id} is missing in the list of approvals"),
        ),
        ("DELETE FROM approvals", format!("{id} is missing in the list of approvals")),
    ] {
        home.database().execute(sql, []).unwrap();
        let found = home.run(&replay).failed();
        assert!(found.contains(&says), "{sql}: {found}");
    }
}

#[test]
fn a_case_is_the_window_that_a_model_would_see() {
    let case = r#"
[[case]]
name = "one of each"
window = [
  { summary = "long ago" },
  { human = "deploy it" },
  { tool_call = { tool = "sleep", args = { seconds = 1 } } },
  { tool_result = { tool = "sleep", outcome = "failed", text = "tired" } },
  { question = "Which?" },
  { answer = "that" },
  { notice = "stopped" },
  { agent = "ok" },
]
prompt_contains = ["x"]
"#;
    let cases = twelve::agent::cases::parse("x.cases.toml", case).unwrap();
    insta::assert_snapshot!(twelve::agent::cases::window(&cases[0]).render(), @r#"
    <summary>
    long ago
    </summary>
    <human from="person">
    deploy it
    </human>
    <tool_call id="call_aaaaaaaaaaaaaaaa_3" tool="sleep">
    {"seconds":1}
    </tool_call>
    <tool_result id="call_aaaaaaaaaaaaaaaa_3" tool="sleep" outcome="failed">
    tired
    </tool_result>
    <question>
    Which?
    </question>
    <answer from="person">
    that
    </answer>
    <notice>
    stopped
    </notice>
    <agent>
    ok
    </agent>
    "#);
}
