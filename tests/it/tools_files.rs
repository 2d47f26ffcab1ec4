//! `read_file` and `write_file`: nothing outside of their directory is read or changed, by no way of
//! writing a path and by no race; a write is whole or not at all; a plan changes when the file does.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use twelve::agent::{
    AgentFile, Agents, Answer, Ballot, Because, Body, Digest, Event, GatedCall, Given, Input, Limits, NextStep,
    Outcome, Plan, Refusal, ThreadId, ToolFacts, Verdict,
};
use twelve::runtime::{Clock, Runtime, Said};
use twelve::store::{Store, StoreConfig};
use twelve::tools::canon::MAX_PATH;
use twelve::tools::files::MAX_LISTED;
use twelve::tools::{CheckedArgs, MAX_OUTPUT, MAX_REFUSAL, Registry, ToolsConfig};

use crate::fake_service::{Checked as _, call};
use crate::world::{Outside, START, Setup, ann, approve, bob, parts};

/// What stands outside and may never be seen or changed.
const SECRET: &str = "the key to everything";

/// A directory with `root` for agents, and beside it what is none of their business.
struct Place {
    dir: TempDir,
    registry: Registry,
}

impl Place {
    fn new() -> Place {
        Place::with("")
    }

    fn with(more: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root")).unwrap();
        fs::create_dir_all(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/secret"), SECRET).unwrap();
        let registry = registry(&format!("root = {:?}\n{more}", dir.path().join("root")), Path::new("unused"));
        Place { dir, registry }
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("root").join(inside)
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn put(&self, inside: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(inside).parent().unwrap()).unwrap();
        fs::write(self.path(inside), content).unwrap();
    }

    fn text(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap()
    }

    async fn read(&self, path: &str) -> Result<String, String> {
        self.run("read_file", json!({ "path": path })).await
    }

    async fn write(&self, path: &str, content: &str) -> Result<String, String> {
        self.run("write_file", json!({ "path": path, "content": content })).await
    }

    async fn plan(&self, path: &str, content: &str) -> Result<Plan, String> {
        self.registry.checked_plan("write_file", &json!({ "path": path, "content": content })).await
    }

    async fn run(&self, tool: &str, args: Value) -> Result<String, String> {
        match self.registry.checked_run(tool, &args, &call()).await {
            Outcome::Succeeded { text } => Ok(text),
            Outcome::Failed { error } => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// All names below the root, and that what is outside is as it was.
    fn names(&self) -> Vec<String> {
        assert_eq!(fs::read_to_string(self.outside().join("secret")).unwrap(), SECRET);
        assert_eq!(fs::read_dir(self.outside()).unwrap().count(), 1);
        fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                found.push(entry.path());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), found);
                }
            }
        }
        let (root, mut found) = (self.path(""), Vec::new());
        walk(&root, &mut found);
        let mut names: Vec<String> =
            found.iter().map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}

fn registry(files: &str, data_dir: &Path) -> Registry {
    let config: ToolsConfig = toml::from_str(&format!("[files]\n{files}")).unwrap();
    Registry::from_config(&config, data_dir).unwrap_or_else(|e| panic!("{e:#}"))
}

#[tokio::test]
async fn what_is_written_is_read_back_and_directories_are_made_and_listed() {
    let place = Place::new();
    assert_eq!(place.write("notes/day one.txt", "first\nsecond\n").await.unwrap(), "made notes/day one.txt, 13 bytes");
    assert_eq!(
        place.read("notes/day one.txt").await.unwrap(),
        "notes/day one.txt, 13 bytes, 2 lines\n\nfirst\nsecond\n"
    );
    assert_eq!(
        place.read("./notes//day one.txt").await.unwrap(),
        "notes/day one.txt, 13 bytes, 2 lines\n\nfirst\nsecond\n"
    );
    assert_eq!(place.write("notes/day one.txt", "other\n").await.unwrap(), "replaced notes/day one.txt, 6 bytes");
    assert_eq!(place.write("notes/day one.txt", "other\n").await.unwrap(), "notes/day one.txt is like that already");
    assert_eq!(place.write("a", "").await.unwrap(), "made a, 0 bytes");
    symlink("a", place.path("link")).unwrap();
    assert_eq!(
        place.read("").await.unwrap(),
        "the directory of files: 3 entries\na (0 bytes)\nlink (a symbolic link)\nnotes/"
    );
    assert_eq!(place.read("notes/").await.unwrap(), "`notes`: 1 entry\nday one.txt (6 bytes)");
    assert_eq!(place.names(), ["a", "link", "notes", "notes/day one.txt"], "and nothing is left over");
    assert_eq!(fs::metadata(place.path("a")).unwrap().permissions().mode() & 0o133, 0);
}

#[tokio::test]
async fn the_directory_is_made_at_the_first_write_and_is_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry("", &dir.path().join("data"));
    let read = registry.checked_run("read_file", &json!({}), &call()).await;
    assert_eq!(read, Outcome::Failed { error: "there are no files yet".to_owned() });
    let args = json!({ "path": "a/b.txt", "content": "x" });
    assert_eq!(registry.checked_plan("write_file", &args).await.unwrap().summary, "new file, 1 line, 1 bytes");
    assert!(!dir.path().join("data").exists(), "neither a read nor a plan changes anything");
    let made = registry.checked_run("write_file", &args, &call()).await;
    assert_eq!(made, Outcome::Succeeded { text: "made a/b.txt, 1 bytes".to_owned() });
    assert_eq!(fs::read_to_string(dir.path().join("data/files/a/b.txt")).unwrap(), "x");
    assert_eq!(fs::metadata(dir.path().join("data/files")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn no_way_of_writing_a_path_leads_out_of_the_directory() {
    let place = Place::new();
    place.put("in/file", "inside");
    symlink("../../outside", place.path("in/up")).unwrap();
    symlink(place.outside().join("secret"), place.path("absolute")).unwrap();
    symlink("../outside/secret", place.path("relative")).unwrap();
    symlink(place.outside().join("none"), place.path("dangling")).unwrap();
    symlink("relative", place.path("twice")).unwrap();
    symlink("loop", place.path("loop")).unwrap();
    symlink("/proc/self/root", place.path("magic")).unwrap();
    symlink("/proc/self/cwd", place.path("cwd")).unwrap();
    let before = place.names();
    let absolute = place.outside().join("secret").display().to_string();
    let (deep, long) = ("d/".repeat(33) + "f", "n".repeat(256));
    // Within what the schema counts in characters, beyond what counts in bytes.
    let longest = vec!["\u{fc}".repeat(40); 15].join("/");
    assert!(longest.len() > MAX_PATH);
    for (path, words) in [
        ("../outside/secret", "`..`"),
        ("in/../../outside/secret", "`..`"),
        ("in/..", "`..`"),
        ("..", "`..`"),
        ("in/../in/file", "`..`"),
        (absolute.as_str(), "starts at the root"),
        ("/etc/passwd", "starts at the root"),
        ("//etc/passwd", "starts at the root"),
        ("..\\outside\\secret", "backslash"),
        ("in/file\0", "control characters"),
        ("in/fi\nle", "control characters"),
        ("in/\u{202e}elif", "control characters"),
        (deep.as_str(), "more than 32 names"),
        (long.as_str(), "longer than 255 bytes"),
        (longest.as_str(), "longer than 1024 bytes"),
        (".twelve-x.tmp", "files that are being written"),
        ("in/up/secret", "`in/up/secret` leads out of the directory of files"),
        ("absolute", ""),
        ("relative", ""),
        ("twice", ""),
        ("dangling", ""),
        ("loop", ""),
        ("magic/etc/passwd", "leads out of the directory"),
        ("cwd/Cargo.toml", "leads out of the directory"),
        ("in/file/x", "is not a directory"),
    ] {
        let read = place.read(path).await.expect_err(path);
        assert!(!read.contains(SECRET) && read.contains(words), "{path}: {read}");
        assert!(read.chars().count() <= MAX_REFUSAL, "{read}");
        let write = place.write(path, "changed").await.expect_err(path);
        assert!(write.contains(words), "{path}: {write}");
        assert!(place.plan(path, "changed").await.expect_err(path).contains(words));
        if words.is_empty() {
            assert!(write.contains("is a symbolic link"), "{path}: {write}");
            assert!(read.contains("leads out of") || path == "loop", "{path}: {read}");
        }
    }
    for path in ["", "in", "in/", ".", "in/file/"] {
        let error = place.write(path, "x").await.unwrap_err();
        assert!(error.contains("a directory") || error.contains("at least 1 characters"), "{path}: {error}");
    }
    assert_eq!(place.names(), before);
    assert_eq!(place.text("in/file"), "inside");
}

#[tokio::test]
async fn a_link_that_stays_inside_is_read_but_not_written_through() {
    let place = Place::new();
    place.put("real/file", "inside");
    symlink("real", place.path("also")).unwrap();
    symlink("real/file", place.path("link")).unwrap();
    assert!(place.read("also/file").await.unwrap().ends_with("\n\ninside"));
    assert!(place.read("link").await.unwrap().ends_with("\n\ninside"));
    let error = place.write("link", "x").await.unwrap_err();
    assert_eq!(error, "`link` is a symbolic link; name the file that it points to");
    place.write("also/file", "changed").await.unwrap();
    assert_eq!(place.text("real/file"), "changed");
    assert!(fs::symlink_metadata(place.path("link")).unwrap().is_symlink());
}

#[tokio::test]
async fn what_is_no_plain_file_is_refused_and_nothing_hangs() {
    let place = Place::new();
    fs::hard_link(place.outside().join("secret"), place.path("second name")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(place.path("pipe")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    for (path, words) in [
        ("second name", "`second name` has a second name (a hard link), which may be outside"),
        ("pipe", "`pipe` is neither a file nor a directory"),
        ("socket", "`socket` is neither a file nor a directory"),
    ] {
        assert_eq!(place.read(path).await.unwrap_err(), words);
        assert_eq!(place.write(path, "x").await.unwrap_err(), words);
        assert_eq!(place.plan(path, "x").await.unwrap_err(), words);
    }
    place.put("read only", "x");
    fs::set_permissions(place.path("read only"), fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(place.write("read only", "y").await.unwrap_err(), "`read only` is read-only");
    fs::create_dir(place.path("dir")).unwrap();
    assert_eq!(place.write("dir", "y").await.unwrap_err(), "`dir` is a directory; name a file in it");
    let listed = place.read("").await.unwrap();
    assert!(listed.contains("\npipe (neither a file nor a directory)\n"), "{listed}");
    assert_eq!(place.names(), ["dir", "pipe", "read only", "second name", "socket"]);
}

#[tokio::test]
async fn only_text_of_a_bounded_length_is_read_and_written() {
    let place = Place::with("max_bytes = 1000");
    place.put("binary", b"\x89PNG\r\n\0");
    place.put("latin", b"caf\xe9");
    place.put("nul", "a\0b");
    place.put("exact", "x".repeat(1000));
    place.put("long", "x".repeat(1001));
    place.put("steers", "one\u{1b}[2J\r\n\u{202e}two\n");
    fs::File::create(place.path("huge")).unwrap().set_len(1 << 40).unwrap();
    for (path, words) in [
        ("binary", "`binary` is not UTF-8 text (7 bytes); only text is read"),
        ("latin", "`latin` is not UTF-8 text (4 bytes); only text is read"),
        ("nul", "`nul` is not UTF-8 text (3 bytes); only text is read"),
        ("long", "`long` is 1001 bytes long; at most 1000 are handled"),
        ("huge", "`huge` is 1099511627776 bytes long; at most 1000 are handled"),
        ("none", "there is no `none`"),
    ] {
        assert_eq!(place.read(path).await.unwrap_err(), words);
    }
    assert!(place.read("exact").await.unwrap().starts_with("exact, 1000 bytes, 1 line\n\nxxx"));
    let steers = place.read("steers").await.unwrap();
    assert_eq!(steers, "steers, 16 bytes, 2 lines; 3 control characters are left out here\n\none[2J\ntwo\n");
    for (content, words) in [
        ("x".repeat(1001), "write_file: `content` is 1001 bytes long; at most 1000 are written"),
        ("a\0b".to_owned(), "write_file: `content` has a NUL character in it; only text is written"),
    ] {
        assert_eq!(place.write("new", &content).await.unwrap_err(), words);
    }
    assert_eq!(place.plan("long", "x").await.unwrap_err(), "`long` is 1001 bytes long; at most 1000 are handled");
    let plan = place.plan("binary", "x").await.unwrap();
    assert!(plan.summary.starts_with("replaces 7 bytes that are not text (now "), "{}", plan.summary);
    place.write("exact", &"y".repeat(1000)).await.unwrap();
}

#[tokio::test]
async fn a_long_file_is_read_in_parts() {
    let place = Place::new();
    let lines: String = (1..=5_000).map(|n| format!("line {n}\n")).collect();
    place.put("long", &lines);
    let all = place.read("long").await.unwrap();
    assert!(all.len() <= MAX_OUTPUT && all.contains(" more bytes …\n") && all.ends_with("line 5000\n"));
    for (args, words) in [
        (json!({"path": "long", "first_line": 2500, "lines": 2}), "; 2500 to 2501\n\nline 2500\nline 2501\n"),
        (json!({"path": "long", "first_line": 5000}), "; 5000 to 5000\n\nline 5000\n"),
        (json!({"path": "long", "lines": 1}), "; 1 to 1\n\nline 1\n"),
        (json!({"path": "long", "first_line": 5001}), ", none from 5001 on\n\n"),
    ] {
        let head = format!("long, {} bytes, 5000 lines", lines.len());
        assert_eq!(place.run("read_file", args).await.unwrap(), format!("{head}{words}"));
    }
}

#[tokio::test]
async fn a_directory_with_many_files_is_listed_in_bounds() {
    let place = Place::new();
    for n in 0..MAX_LISTED + 50 {
        place.put(&format!("many/{n:04}\u{7}"), "");
    }
    place.put("many/.twelve-left.tmp", "half");
    let listed = place.read("many").await.unwrap();
    assert!(listed.starts_with("`many`: 250 entries, the first 200 of them\n0000 (0 bytes)\n"), "{listed}");
    assert_eq!(listed.lines().count(), MAX_LISTED + 1);
    assert!(listed.ends_with("\n0199 (0 bytes)"), "{listed}");
}

#[tokio::test]
async fn a_plan_says_what_changes_and_is_another_one_once_the_file_is() {
    let place = Place::new();
    let facts = place.registry.facts("write_file").unwrap();
    assert!(facts.side_effects && facts.plans && facts.idempotent && facts.editable && !facts.outside);
    let facts = place.registry.facts("read_file").unwrap();
    assert!(!facts.side_effects && facts.outside && facts.idempotent);
    let lines = |range: std::ops::RangeInclusive<u32>| range.map(|n| format!("{n}\n")).collect::<String>();
    let new = place.plan("list", &lines(1..=40)).await.unwrap();
    assert_eq!((new.summary.as_str(), &new.facts["present"]), ("new file, 40 lines, 111 bytes", &Value::Null));
    place.put("list", lines(1..=40));
    let appeared = place.plan("list", "x").await.unwrap();
    assert_ne!(appeared.facts, new.facts, "a file that has appeared asks again");
    let now = format!(" (now {})", Digest::of(lines(1..=40).as_bytes()).prefix());
    let changed = lines(1..=40).replace("7\n", "seven\n");
    for (content, summary) in [
        (lines(1..=40), "changes nothing: the file is like that already"),
        (changed, "replaces 4 of 40 lines, 127 bytes then"),
        (lines(1..=42), "adds 2 lines to 40 lines, 117 bytes then"),
        (lines(3..=40), "removes 2 of 40 lines, 107 bytes then"),
        (format!("0\n{}end\n", lines(2..=39)), "replaces 2 of 40 lines, 112 bytes then"),
        (format!("a\nb\n{}", lines(2..=40)), "replaces 1 of 40 lines with 2, 113 bytes then"),
        (lines(1..=40).trim_end().to_owned(), "replaces 1 of 40 lines, 110 bytes then"),
        (String::new(), "removes 40 of 40 lines, 0 bytes then"),
    ] {
        assert_eq!(place.plan("list", &content).await.unwrap().summary.replace(&now, ""), summary);
    }
    let before = place.plan("list", "x").await.unwrap();
    assert_eq!(place.plan("list", "x").await.unwrap(), before, "the same file is the same plan");
    assert_eq!(before.facts["present"]["bytes"], 111);
    // As long as before, and as many lines: only the digest tells.
    place.put("list", lines(1..=40).replace("13\n", "31\n"));
    let after = place.plan("list", "x").await.unwrap();
    assert_ne!(after.facts, before.facts, "a change in between asks again");
    assert_ne!(after.summary, before.summary, "and people see that it is another one");
}

/// An agent that writes what it is told, in the whole program.
const SCRIPT: &str = r#"
[[reply]]
last = '<tool_result .*tool="(?P<tool>[a-z_]+)" outcome="(?P<how>[a-z_]+)"'
say = "$tool $how"
[[reply]]
human = '^write (?P<path>\S+) (?P<content>.+)$'
[[reply.call]]
tool = "write_file"
args = { path = "$path", content = "$content" }
"#;

/// A runtime over the real tools of a place, with one agent that reads and writes.
async fn runtime(place: &mut Place, setup: &Setup, prefetch: &str) -> Runtime {
    let tools = std::mem::replace(&mut place.registry, Registry::new(vec![]).unwrap());
    let store = StoreConfig { path: place.dir.path().join("twelve.db"), durability: setup.durability };
    let (clock, outside) = (Clock::manual(START), Outside::new(place.dir.path()));
    let mut parts = parts(Store::open(&store).await.unwrap(), &clock, &outside, setup);
    let facts: Vec<ToolFacts> = tools.names().filter_map(|name| tools.facts(name).cloned()).collect();
    let given = Given {
        app_name: "twelve",
        tools: &facts,
        check_args: &|tool, args| tools.check_value(tool, args.clone()).map(CheckedArgs::into_value),
        policy: &setup.policy,
        require_approvers: false,
        limits: &Limits::default(),
    };
    let text =
        format!("+++\ndescription = \"Tests.\"\ntools = [\"read_file\", \"write_file\"]\n{prefetch}+++\nYou write.\n");
    parts.agents = Agents::load(&[AgentFile { file: "tester.md".into(), text }], &[], &given).unwrap();
    parts.tools = tools;
    Runtime::new(parts)
}

/// Whichever way arguments come in: what the rules, the card and the log have is what is written.
#[tokio::test]
async fn a_path_is_canonical_before_the_gate_sees_it_by_whichever_way_it_comes() {
    let mut place = Place::new();
    place.put("secrets/key", "old");
    let deny = json!({ "name": "no secrets", "gate": "deny", "tool": "*_file", "args": { "path": "secrets/.*" } });
    // What was fetched before is no reason to stop.
    let script = SCRIPT.replace("(?P<tool>[a-z_]+)", "(?P<tool>write_file)");
    let mut setup = Setup { script, ..Setup::default() };
    setup.policy.rules = vec![serde_json::from_value(deny).unwrap()];
    let prefetch = "[[prefetch]]\ntool = \"read_file\"\nargs = { path = \".//docs/.\" }\n";
    let runtime = runtime(&mut place, &setup, prefetch).await;
    let thread: ThreadId = "api:t".parse().unwrap();
    let say = async |text: &str| {
        runtime.message(&thread, "tester", Said::by(ann(), text)).await.unwrap();
        runtime.settle().await.unwrap();
        runtime.thread(thread.short()).await.unwrap()
    };
    // The model's own words.
    say("write .//secrets/./key new").await;
    let mut calls: Vec<GatedCall> = Vec::new();
    for event in runtime.parts().store.load(thread.short(), 0).await.unwrap().events {
        let event: Event = serde_json::from_slice(&event).unwrap();
        match event.body {
            Body::MessageReceived { prefetch, .. } => calls.extend(prefetch),
            Body::ModelReplied { step: NextStep::Call { calls: made, .. }, .. } => calls.extend(made),
            _ => {}
        }
    }
    let [fetched, denied] = calls.as_slice() else { panic!("{calls:?}") };
    // A prefetch.
    assert_eq!((fetched.tool.as_str(), &fetched.args), ("read_file", &json!({ "path": "docs", "first_line": 1 })));
    assert_eq!(denied.args, json!({ "path": "secrets/key", "content": "new" }));
    assert!(matches!(&denied.verdict, Verdict::Deny { rule, .. } if rule == "no secrets"), "{denied:?}");
    assert_eq!(place.text("secrets/key"), "old");
    // An edit, from whichever surface: they all propose it like this.
    let state = say("write ./notes two").await;
    let request = state.pending_approvals().next().unwrap().clone();
    assert_eq!((&request.args, request.title.as_str()), (&json!({ "path": "notes", "content": "two" }), "Write notes"));
    for (written, canonical) in
        [("./secrets//key", None), ("other/", None), ("/etc/passwd", None), ("./a/./b", Some("a/b"))]
    {
        let raw = json!({ "path": written, "content": "two" }).to_string();
        let edit = Ballot::Edit { args: Box::new(runtime.propose("write_file", &raw)) };
        let (approval, digest) = (request.id, request.digest.prefix());
        let vote = Input::Vote { approval, digest, by: bob(), groups: vec![], vote: edit, source: None };
        let answer = runtime.deliver(thread.short(), vote).await.unwrap().answer;
        runtime.settle().await.unwrap();
        let state = runtime.thread(thread.short()).await.unwrap();
        let now = state.pending_approvals().next().unwrap();
        match canonical {
            None => assert!(matches!(answer, Answer::Refused(Refusal::InvalidEdit { .. })), "{written}: {answer:?}"),
            Some(path) => assert_eq!((&answer, &now.args["path"]), (&Answer::Accepted, &json!(path))),
        }
    }
}

#[tokio::test]
async fn a_file_that_changes_after_people_approved_its_replacement_asks_again() {
    let mut place = Place::new();
    place.put("notes", "one\n");
    let setup = Setup { script: SCRIPT.to_owned(), ..Setup::default() };
    let runtime = runtime(&mut place, &setup, "").await;
    let thread: ThreadId = "api:t".parse().unwrap();
    runtime.message(&thread, "tester", Said::by(ann(), "write notes two")).await.unwrap();
    runtime.settle().await.unwrap();
    let approve_it = async || {
        let state = runtime.thread(thread.short()).await.unwrap();
        let request = state.pending_approvals().next().unwrap().clone();
        let (approval, digest) = (request.id, request.digest.prefix());
        let vote = Input::Vote { approval, digest, by: bob(), groups: vec![], vote: approve(), source: None };
        assert_eq!(runtime.deliver(thread.short(), vote).await.unwrap().answer, Answer::Accepted);
        runtime.settle().await.unwrap();
        request
    };
    assert_eq!(place.text("notes"), "one\n", "it asks before it writes, without any setting");
    // Somebody else writes while people decide.
    place.put("notes", "uno\n");
    let first = approve_it().await;
    assert_eq!(place.text("notes"), "uno\n", "what people approved was to replace something else");
    let second = approve_it().await;
    assert_eq!(place.text("notes"), "two");
    let (one, uno) = (Digest::of(b"one\n").prefix(), Digest::of(b"uno\n").prefix());
    let summary = |now: &str| format!("replaces 1 of 1 line (now {now}), 3 bytes then");
    assert_eq!(first.plan.unwrap().summary, summary(&one));
    let why = format!("it was approved as \"{}\", now it is \"{}\"", summary(&one), summary(&uno));
    assert_eq!(second.because, Because::Stale { why });
    let state = runtime.thread(thread.short()).await.unwrap();
    assert_eq!(state.pending_approvals().count(), 0);
    assert_eq!(place.names(), ["notes"]);
}

#[tokio::test]
async fn a_plan_for_a_file_that_is_wholly_different_is_made_in_time_and_the_same_each_time() {
    let place = Place::with("max_bytes = 262144");
    let lines = |by: u32| (0..20_000).map(|n: u32| format!("{}\n", n.wrapping_mul(by) % 9_973)).collect::<String>();
    place.put("long", lines(7919));
    let plan = place.plan("long", &lines(104_729)).await.unwrap();
    assert!(plan.summary.contains("of 20000 lines"), "{}", plan.summary);
    assert_eq!(place.plan("long", &lines(104_729)).await.unwrap(), plan);
}

#[tokio::test]
async fn a_write_keeps_the_mode_and_makes_a_new_file_so_that_no_other_name_changes() {
    let place = Place::new();
    place.put("script", "old");
    fs::set_permissions(place.path("script"), fs::Permissions::from_mode(0o750)).unwrap();
    let open = fs::File::open(place.path("script")).unwrap();
    place.write("script", "new").await.unwrap();
    assert_eq!(fs::metadata(place.path("script")).unwrap().permissions().mode() & 0o7777, 0o750);
    assert_eq!(std::io::read_to_string(open).unwrap(), "old", "who has the old one open still reads it");
    assert_eq!(place.names(), ["script"]);
}

#[tokio::test]
async fn what_a_crash_left_behind_is_cleared_away_when_the_call_runs_again() {
    let place = Place::new();
    place.put("notes", "old");
    // The process ended after it had written half of the new content.
    let left = format!(".twelve-{}.tmp", call().effect);
    place.put(&left, "half of the n");
    assert_eq!(place.text("notes"), "old");
    assert!(place.read("notes").await.unwrap().ends_with("\n\nold"));
    assert_eq!(place.write("notes", "new").await.unwrap(), "replaced notes, 3 bytes");
    assert_eq!(place.names(), ["notes"]);
    assert_eq!(place.text("notes"), "new");
    // Somebody puts a link where the unfinished file goes: it is not written through.
    symlink(place.outside().join("secret"), place.path(&left)).unwrap();
    place.write("notes", "newer").await.unwrap();
    assert_eq!(place.names(), ["notes"]);
}

#[tokio::test]
async fn a_call_that_is_stopped_before_it_began_changes_nothing() {
    let place = Place::new();
    let context = call();
    context.cancel.cancel();
    let args = json!({ "path": "a/b", "content": "x" });
    let stopped = place.registry.checked_run("write_file", &args, &context).await;
    assert_eq!(stopped, Outcome::Failed { error: "stopped before anything was written".to_owned() });
    assert_eq!(place.names(), Vec::<String>::new());
}

/// Does `step` again and again until the value is dropped.
struct Meanwhile(Arc<AtomicBool>, Option<std::thread::JoinHandle<u64>>);

impl Meanwhile {
    fn doing(mut step: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let (began, begins) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut times = 0;
            while !told.load(Ordering::Relaxed) {
                step();
                times += 1;
                let _ = began.send(());
            }
            times
        });
        begins.recv().unwrap();
        Self(stop, Some(thread))
    }

    fn end(mut self) -> u64 {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap()
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_swapped_in_while_a_call_runs_leads_nowhere() {
    let place = Place::new();
    let (root, outside) = (place.path(""), place.outside());
    fs::create_dir(root.join("good")).unwrap();
    fs::write(root.join("good/secret"), "harmless").unwrap();
    symlink(&outside, root.join("bad")).unwrap();
    fs::write(root.join("good file"), "harmless").unwrap();
    symlink(outside.join("secret"), root.join("bad file")).unwrap();
    // Two names that are by turns a real one and a way out, swapped in one step.
    let swap = {
        let root = root.clone();
        move || {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            for (a, b) in [("good", "bad"), ("good file", "bad file")] {
                renameat_with(CWD, root.join(a), CWD, root.join(b), RenameFlags::EXCHANGE).unwrap();
            }
        }
    };
    let swapping = Meanwhile::doing(swap);
    let (mut read, mut refused, mut written) = (0, 0, 0);
    for n in 0..20_000 {
        if n >= 300 && read > 0 && refused > 0 && written > 0 {
            break;
        }
        for path in ["good/secret", "good file"] {
            match place.read(path).await {
                Ok(text) => {
                    assert!(text.contains("harmless"), "{text}");
                    read += 1;
                }
                Err(error) => {
                    assert!(!error.contains(SECRET));
                    refused += 1;
                }
            }
            // One content, so that a read sees it whatever came before.
            written += u32::from(place.write(path, &format!("harmless {n}")).await.is_ok());
        }
    }
    let swaps = swapping.end();
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), SECRET);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "nothing was made there");
    assert!(read > 0 && refused > 0 && written > 0, "{read} {refused} {written} of {swaps} swaps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_the_old_content_or_the_new_and_never_a_part() {
    let place = Place::new();
    let contents = ["a".repeat(200_000), "b".repeat(150_000)];
    place.put("big", &contents[0]);
    let (path, known) = (place.path("big"), contents.clone());
    let reading = Meanwhile::doing(move || {
        let seen = fs::read_to_string(&path).unwrap();
        assert!(known.contains(&seen), "{} bytes", seen.len());
    });
    for n in 0..60 {
        place.write("big", &contents[(n + 1) % 2]).await.unwrap();
    }
    assert!(reading.end() > 0);
    assert_eq!(place.names(), ["big"]);
    assert_eq!(fs::metadata(place.path("big")).unwrap().nlink(), 1);
}

#[test]
fn a_setting_that_cannot_work_is_refused_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    symlink(dir.path(), dir.path().join("elsewhere")).unwrap();
    let refused = |files: &str| {
        let config: ToolsConfig = toml::from_str(&format!("[files]\n{files}")).unwrap();
        let error = Registry::from_config(&config, &dir.path().join("data")).err();
        error.map_or_else(String::new, |e| format!("{e:#}"))
    };
    let at = |path: PathBuf| refused(&format!("root = {path:?}"));
    for holds in [dir.path().join("data"), dir.path().to_owned(), dir.path().join("elsewhere"), PathBuf::from("/")] {
        let error = at(holds.clone());
        assert!(error.contains("holds app.data_dir"), "{holds:?}: {error}");
    }
    for apart in [dir.path().join("data/files"), dir.path().join("dat"), dir.path().join("other")] {
        assert_eq!(at(apart), "");
    }
    assert_eq!(refused("max_bytes = 0"), "tools.files.max_bytes: must be from 1 to 16777216");
    assert!(
        toml::from_str::<ToolsConfig>("[files]\nrot = 'x'").unwrap_err().to_string().contains("unknown field `rot`")
    );
}
