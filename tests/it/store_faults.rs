//! What goes wrong around the embedded store, with the real thing: damaged files, a full disk, a
//! second process, kill -9.
//!
//! A test that needs another process starts this test binary again with only itself to run and the
//! variable [`CHILD`] set; it then plays the other part.

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use twelve::agent::{ShortId, Timestamp};
use twelve::store::{ApprovalFilter, Durability, Fault, Filter, Store, StoreConfig, StoreError};

use crate::store_contract::{append, approval, thread};

/// Where the child finds the store. Unset in the process that cargo started.
const CHILD: &str = "TWELVE_TEST_STORE";

fn config(path: impl Into<PathBuf>) -> StoreConfig {
    StoreConfig { path: path.into(), durability: Durability::Process }
}

async fn open(path: &Path) -> Store {
    Store::open(&config(path)).await.unwrap()
}

async fn open_error(path: &Path) -> StoreError {
    match Store::open(&config(path)).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(e) => e,
    }
}

/// The `n`-th of many events of about 3 KB that are all different.
fn event(n: usize, seq: u64) -> Vec<u8> {
    format!("thread {n} event {seq} ").into_bytes().repeat(150)
}

/// A closed store with `threads` threads of `events` events each.
async fn filled(path: &Path, threads: usize, events: u64) {
    let store = open(path).await;
    for n in 0..threads {
        let bodies: Vec<_> = (1..=events).map(|seq| event(n, seq)).collect();
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        store.append(append(&thread(n), 0, &bodies)).await.unwrap();
    }
    store.close().await.unwrap();
}

/// This test binary again, to play the other part of `test`. `wrap` may be a shell that prepares it.
fn child(test: &str, path: &Path, wrap: Option<&str>) -> Child {
    let binary = std::env::current_exe().unwrap();
    let mut command = match wrap {
        Some(script) => {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh"]).arg(&binary);
            command
        }
        None => Command::new(&binary),
    };
    let name = format!("store_faults::{test}");
    command.args([&name, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// The lines that the child says, without those of the test harness.
fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| line.split_once("@@ ").map(|(_, said)| said.to_owned()))
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@@ {what}").unwrap();
    out.flush().unwrap();
}

fn played_by_child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    filled(&path, 1, 1).await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 3).unwrap();
    let before = fs::read(&path).unwrap();
    let expected = format!(
        "The store {} was written by a newer twelve (format 3; this one knows up to 2). Nothing was changed. Update \
         twelve, or set `store.path` to another file.",
        path.display()
    );
    let error = open_error(&path).await;
    assert!(matches!(&error, StoreError::TooNew(_)), "{error:?}");
    assert_eq!(error.to_string(), expected);
    let error = Store::open_read_only(&path).await.err().unwrap();
    assert!(matches!(error, StoreError::TooNew(why) if why == expected));
    assert!(fs::read(&path).unwrap() == before, "nothing was changed");
    // An older program is no way to lose the store: the newer one still opens it.
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    assert_eq!(open(&path).await.load(thread(0).short(), 0).await.unwrap().events, [event(0, 1)]);
}

#[tokio::test]
async fn a_file_that_is_no_store_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("notes.txt");
    fs::write(&text, "not a database, but somebody's notes\n".repeat(300)).unwrap();
    let foreign = dir.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    let impossible = dir.path().join("impossible.db");
    filled(&impossible, 1, 1).await;
    Connection::open(&impossible).unwrap().pragma_update(None, "user_version", -3).unwrap();
    for (path, says) in [
        (&text, "is damaged or is no store at all (file is not a database). Restore a backup, or save"),
        (&foreign, "is a database of another program, not a store of twelve. Nothing was changed. Set `store.path`"),
        (&impossible, "says that its format is -3, which never existed. Restore a backup."),
    ] {
        let before = fs::read(path).unwrap();
        for error in [open_error(path).await, Store::open_read_only(path).await.err().unwrap()] {
            assert!(matches!(&error, StoreError::Corrupt(_)), "{error:?}");
            assert!(error.to_string().contains(says) && error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        assert!(fs::read(path).unwrap() == before, "{} was changed", path.display());
    }
}

#[tokio::test]
async fn a_truncated_file_is_an_error_and_not_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    filled(&path, 20, 2).await;
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    // Half of the file is gone: that must come out at the latest when a thread is read.
    match Store::open(&config(&path)).await {
        Err(error) => assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}"),
        Ok(store) => {
            let mut errors = 0;
            for n in 0..20 {
                match store.load(thread(n).short(), 0).await {
                    Ok(loaded) => assert_eq!(loaded.events, [event(n, 1), event(n, 2)]),
                    Err(error) => {
                        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
                        errors += 1;
                    }
                }
            }
            assert!(errors > 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_harms_only_the_threads_on_it() {
    const THREADS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    filled(&path, THREADS, 3).await;
    // Garbage over one leaf of the events.
    let (offset, size): (i64, i64) = Connection::open(&path)
        .unwrap()
        .query_row(
            "SELECT pgoffset, pgsize FROM dbstat WHERE name = 'events' AND pagetype = 'leaf' ORDER BY path LIMIT 1 \
             OFFSET 50",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(offset as u64)).unwrap();
    file.write_all(&vec![0xA5; size as usize]).unwrap();
    drop(file);

    let store = open(&path).await;
    let mut damaged = Vec::new();
    for n in 0..THREADS {
        match store.load(thread(n).short(), 0).await {
            Ok(loaded) => assert_eq!(loaded.events, [event(n, 1), event(n, 2), event(n, 3)]),
            Err(StoreError::Corrupt(why)) => {
                let short = thread(n).short();
                assert!(why.starts_with(&format!("Thread {short} cannot be read back from ")), "{why}");
                assert!(why.contains(". Other threads are not affected. Restore a backup, or save what is"), "{why}");
                damaged.push(n);
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!((1..=2).contains(&damaged.len()), "one page of 4 KB holds one event: {damaged:?}");

    // Appends that are queued together with one to the damaged thread: it fails, the others are kept.
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..THREADS {
        let store = store.clone();
        tasks.spawn(async move { (n, store.append(append(&thread(n), 3, &[&event(n, 4)])).await) });
    }
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            (_, Ok(version)) => assert_eq!(version, 4),
            (n, Err(error)) => {
                assert!(damaged.contains(&n), "{error}");
                assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
            }
        }
    }
    for n in (0..THREADS).filter(|n| !damaged.contains(n)) {
        assert_eq!(store.load(thread(n).short(), 3).await.unwrap().events, [event(n, 4)]);
    }
    let page = store.list(&Filter::default(), None, THREADS).await.unwrap();
    assert_eq!(page.items.len(), THREADS, "summaries lie on other pages");
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_edited_row_is_an_error_of_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    filled(&path, 9, 3).await;
    let edit = |sql: &str, n: usize| {
        let conn = Connection::open(&path).unwrap();
        let short = thread(n).short();
        let no: i64 =
            conn.query_row("SELECT no FROM threads WHERE short = ?1", [short.as_str()], |r| r.get(0)).unwrap();
        assert_eq!(conn.execute(&sql.replace("$no", &no.to_string()), []).unwrap(), 1, "{sql}");
    };
    let edits = [
        (
            "UPDATE events SET body = x'00' WHERE id = ($no << 31) + 3",
            "its last event is not the one that was recorded",
        ),
        ("DELETE FROM events WHERE id = ($no << 31) + 2", "event 2 is missing"),
        ("DELETE FROM events WHERE id = ($no << 31) + 3", "its events end with number 2, its summary says 3"),
        ("INSERT INTO events VALUES (($no << 31) + 4, x'00')", "its events end with number 4, its summary says 3"),
        ("UPDATE threads SET summary = '{' WHERE no = $no", "its summary is not readable"),
        ("UPDATE threads SET status = 7 WHERE no = $no", "its summary and its status do not agree"),
        ("UPDATE threads SET head = x'00' WHERE no = $no", "cannot be read back from"),
    ];
    for (n, (sql, _)) in edits.iter().enumerate() {
        edit(sql, n);
    }
    let store = open(&path).await;
    for (n, (sql, says)) in edits.iter().enumerate() {
        match store.load(thread(n).short(), 0).await {
            Err(StoreError::Corrupt(why)) => assert!(why.contains(says), "{sql}: {why}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    // An event in the middle that was replaced is not the store's to find: the fold checks the chain.
    for n in edits.len()..9 {
        assert_eq!(store.load(thread(n).short(), 0).await.unwrap().events, [event(n, 1), event(n, 2), event(n, 3)]);
    }
    let page = store.list(&Filter::default(), None, 20).await.unwrap();
    let mut unreadable: Vec<ShortId> = (4..7).map(|n| thread(n).short()).collect();
    unreadable.sort();
    let mut damaged = page.damaged.clone();
    damaged.sort();
    assert_eq!((page.items.len(), damaged), (6, unreadable), "said, not left out");
    // They can be deleted like any other, except where the head itself is gone.
    store.delete(thread(4).short(), "console:ops", Timestamp(5)).await.unwrap();
    assert!(matches!(store.load(thread(4).short(), 0).await, Err(StoreError::Deleted(_))));
}

/// The limit on file sizes makes every write beyond it fail for real, for any user. `trap ''` keeps the
/// signal that would come with it from ending the child.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_an_append_leaves_no_trace_and_reads_go_on() {
    const TEST: &str = "on_a_full_disk_an_append_leaves_no_trace_and_reads_go_on";
    let Some(path) = played_by_child() else {
        let dir = tempfile::tempdir().unwrap();
        let mut child = child(TEST, &dir.path().join("threads.db"), Some("trap '' XFSZ; exec \"$@\""));
        let said: Vec<String> = said(&mut child).collect();
        assert!(child.wait().unwrap().success(), "{said:?}");
        assert_eq!(said, ["went on"]);
        return;
    };
    let store = open(&path).await;
    let mut versions = [0; 4];
    for (n, version) in versions.iter_mut().enumerate() {
        *version = store.append(append(&thread(n), 0, &[&event(n, 1)])).await.unwrap();
    }
    let limit = |bytes| {
        let maximum = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
    };
    // Room for a few appends more, then none.
    let wal = PathBuf::from(format!("{}-wal", path.display()));
    limit(Some(fs::metadata(&wal).unwrap().len() + 200_000));
    let mut refusals = 0;
    for _ in 0..100 {
        let mut tasks = tokio::task::JoinSet::new();
        for (n, &version) in versions.iter().enumerate() {
            let store = store.clone();
            tasks.spawn(async move { (n, store.append(append(&thread(n), version, &[&event(n, version + 1)])).await) });
        }
        while let Some(done) = tasks.join_next().await {
            match done.unwrap() {
                (n, Ok(version)) => versions[n] = version,
                (_, Err(StoreError::NotWritable(why))) => {
                    assert!(
                        why.contains(" could not be written (disk I/O error). Nothing of this was kept; "),
                        "{why}"
                    );
                    refusals += 1;
                }
                (_, Err(other)) => panic!("{other:?}"),
            }
        }
        if refusals > 20 {
            break;
        }
    }
    assert!(refusals > 20 && versions.iter().any(|&v| v > 1), "{refusals} refusals at {versions:?}");
    let check = async |versions: &[u64]| {
        for (n, &version) in versions.iter().enumerate() {
            let loaded = store.load(thread(n).short(), 0).await.unwrap();
            assert_eq!(loaded.summary.version, version);
            assert_eq!(loaded.events, (1..=version).map(|seq| event(n, seq)).collect::<Vec<_>>());
        }
    };
    check(&versions).await;
    assert!(matches!(
        store.delete(thread(0).short(), "console:ops", Timestamp(0)).await,
        Err(StoreError::NotWritable(_))
    ));
    assert!(matches!(store.probe().await, Err((_, StoreError::NotWritable(_)))));
    check(&versions).await;
    // Space is back.
    limit(None);
    store.probe().await.unwrap();
    for (n, version) in versions.iter_mut().enumerate() {
        *version = store.append(append(&thread(n), *version, &[&event(n, *version + 1)])).await.unwrap();
    }
    check(&versions).await;
    store.close().await.unwrap();
    let store = open(&path).await;
    for (n, &version) in versions.iter().enumerate() {
        assert_eq!(store.load(thread(n).short(), 0).await.unwrap().events.len() as u64, version);
    }
    say("went on");
}

/// Permission bits do not bind root, so the two places are ones where nobody can make a file.
#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let below_file = file.join("deep/threads.db");
    let directory = dir.path().join("directory");
    fs::create_dir(&directory).unwrap();
    for path in [below_file.as_path(), Path::new("/proc/threads.db"), &directory] {
        let error = open_error(path).await;
        assert!(matches!(&error, StoreError::NotWritable(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(path.parent().unwrap().to_str().unwrap()), "{text}");
        assert!(text.contains("this user may write") && text.contains("set `store.path`"), "{text}");
    }
    // A directory that is only missing is made.
    let store = open(&dir.path().join("new/deep/threads.db")).await;
    assert_eq!(store.append(append(&thread(1), 0, &[b"one"])).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_may_look_and_not_write() {
    const TEST: &str = "a_second_process_may_look_and_not_write";
    if let Some(path) = played_by_child() {
        let store = open(&path).await;
        store.append(append(&thread(1), 0, &[b"one"])).await.unwrap();
        say("open");
        // Until the parent has seen enough.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    let missing = Store::open_read_only(&path).await.err().unwrap();
    assert!(matches!(&missing, StoreError::Missing(_)), "{missing:?}");
    assert!(missing.to_string().starts_with(&format!("There is no store at {} yet.", path.display())), "{missing}");
    assert!(!path.exists(), "looking makes nothing");

    let mut child = child(TEST, &path, None);
    assert_eq!(said(&mut child).next().as_deref(), Some("open"));
    let locked = open_error(&path).await;
    assert!(matches!(&locked, StoreError::Locked(_)), "{locked:?}");
    let program = std::env::current_exe().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        locked.to_string(),
        format!(
            "The store {} is in use by process {} ({program}). Commands that look work beside it; if it is `twelve serve`, decide in its inbox or over REST. Otherwise stop it first.",
            path.display(),
            child.id()
        )
    );
    // By another name it is the same store.
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(open_error(&link).await, StoreError::Locked(_)));

    let looking = Store::open_read_only(&path).await.unwrap();
    assert_eq!(looking.load(thread(1).short(), 0).await.unwrap().events, [b"one"]);
    assert_eq!(looking.list(&Filter::default(), None, 9).await.unwrap().items.len(), 1);
    let t = thread(1).short();
    let writes = [
        looking.append(append(&thread(1), 1, &[b"two"])).await.err(),
        looking.delete(t, "console:ops", Timestamp(0)).await.err(),
        looking.claim("w", Timestamp(9), 9, 9).await.err(),
        looking.renew(t, "w", Timestamp(9), 9).await.err(),
        looking.release(t, "w").await.err(),
    ];
    for error in writes {
        let Some(StoreError::NotWritable(why)) = error else { panic!("{error:?}") };
        assert!(why.ends_with("is open for reading only here: this command looks and changes nothing."), "{why}");
    }

    // It dies without a word: its lock file is there, and no obstacle.
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(dir.path().join("threads.db.lock").exists());
    let store = open(&path).await;
    assert_eq!(store.append(append(&thread(1), 1, &[b"two"])).await.unwrap(), 2);
    assert_eq!(looking.load(t, 0).await.unwrap().events, [b"one", b"two"], "who looks sees what is new");
    store.close().await.unwrap();
}

/// The lock is the file's own: whatever happens to its names, a second process gets the same answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_of_the_file_lets_a_second_process_write() {
    const TEST: &str = "no_name_of_the_file_lets_a_second_process_write";
    if let Some(path) = played_by_child() {
        let store = open(&path).await;
        store.append(append(&thread(1), 0, &[b"one"])).await.unwrap();
        say("open");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    let mut child = child(TEST, &path, None);
    assert_eq!(said(&mut child).next().as_deref(), Some("open"));
    let is_locked = async |path: &Path, what: &str| {
        let error = open_error(path).await;
        assert!(matches!(&error, StoreError::Locked(_)), "{what}: {error:?}");
        assert!(error.to_string().contains("is in use by"), "{what}: {error}");
    };
    is_locked(&path, "its own name").await;
    fs::remove_file(dir.path().join("threads.db.lock")).unwrap();
    is_locked(&path, "the lock file removed").await;
    fs::remove_file(dir.path().join("threads.db.lock")).unwrap();
    fs::write(dir.path().join("threads.db.lock"), "another file").unwrap();
    is_locked(&path, "the lock file replaced").await;
    let hard = dir.path().join("hard.db");
    fs::hard_link(&path, &hard).unwrap();
    is_locked(&hard, "a hard link").await;
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let moved = elsewhere.join("moved.db");
    fs::rename(&path, &moved).unwrap();
    is_locked(&moved, "renamed").await;
    // Whoever looks is not kept out, and changes nothing about it.
    let looking = Store::open_read_only(&moved).await;
    drop(looking);
    is_locked(&moved, "renamed, and looked at").await;
    child.kill().unwrap();
    child.wait().unwrap();
    fs::rename(&moved, &path).unwrap();
    assert_eq!(open(&path).await.load(thread(1).short(), 0).await.unwrap().events, [b"one"]);
}

/// The kinds of locks (`POSIX`, `FLOCK`) that this process has on a file, by the kernel's list.
fn locks_on(path: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = format!(":{} ", fs::metadata(path).unwrap().ino());
    let pid = std::process::id().to_string();
    let list = fs::read_to_string("/proc/locks").unwrap();
    let mine = list.lines().filter(|line| line.contains(&inode) && line.split_whitespace().any(|word| word == pid));
    let mut kinds: Vec<String> = mine.filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// Closing any descriptor of a file takes all POSIX locks of the process on it away: those of SQLite.
#[tokio::test]
async fn a_refused_second_opening_in_the_same_process_takes_no_lock_from_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    let store = open(&path).await;
    store.append(append(&thread(1), 0, &[b"one"])).await.unwrap();
    assert_eq!(store.load(thread(1).short(), 0).await.unwrap().events.len(), 1);
    let before = locks_on(&path);
    assert_eq!(before, ["FLOCK", "POSIX"]);
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let hard = dir.path().join("hard.db");
    fs::hard_link(&path, &hard).unwrap();
    for name in [&path, &link, &hard] {
        assert!(matches!(open_error(name).await, StoreError::Locked(_)));
        assert_eq!(locks_on(&path), before, "{}", name.display());
    }
    let looking = Store::open_read_only(&path).await.unwrap();
    looking.close().await.unwrap();
    drop(looking);
    assert_eq!(locks_on(&path), before);
    store.close().await.unwrap();
    drop(store);
    assert_eq!(locks_on(&path), [""; 0], "nothing is left");
    // Again, and with somebody who looks all the while.
    let store = open(&path).await;
    let looking = Store::open_read_only(&path).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    assert_eq!(looking.load(thread(1).short(), 0).await.unwrap().events.len(), 1);
    let store = open(&path).await;
    assert_eq!(store.append(append(&thread(1), 1, &[b"two"])).await.unwrap(), 2);
    assert_eq!(looking.load(thread(1).short(), 0).await.unwrap().events.len(), 2);
}

#[tokio::test]
async fn the_files_are_this_users_alone_also_where_they_were_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    let modes = || {
        let mut found: Vec<(String, u32)> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().permissions().mode() & 0o777))
            .collect();
        found.sort();
        found
    };
    let private =
        ["threads.db", "threads.db-shm", "threads.db-wal", "threads.db.lock"].map(|name| (name.to_owned(), 0o600));
    let store = open(&path).await;
    assert_eq!(modes(), private);
    store.close().await.unwrap();
    // As an older program left them.
    for (name, _) in modes() {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o664)).unwrap();
    }
    let store = open(&path).await;
    assert_eq!(modes(), private);
    assert_eq!(store.append(append(&thread(1), 0, &[b"one"])).await.unwrap(), 1);
}

/// What was acknowledged is in the log alone when that is removed: it is brought to where the next start looks.
#[tokio::test]
async fn what_was_acknowledged_outlives_a_removed_log() {
    let dir = tempfile::tempdir().unwrap();
    for killed in [true, false] {
        let path = dir.path().join(format!("{killed}.db"));
        let store = open(&path).await;
        for seq in 0..5 {
            store.append(append(&thread(1), seq, &[&event(1, seq + 1)])).await.unwrap();
        }
        fs::remove_file(dir.path().join(format!("{killed}.db-wal"))).unwrap();
        assert!(matches!(store.append(append(&thread(1), 5, &[b"six"])).await, Err(StoreError::NotWritable(_))));
        assert!(matches!(store.probe().await, Err((Fault::Gone, _))));
        // As a process that is killed leaves it: the database alone.
        let left = dir.path().join(format!("left-{killed}.db"));
        let found = if killed {
            fs::copy(&path, &left).unwrap();
            left
        } else {
            store.close().await.unwrap();
            path
        };
        drop(store);
        let events = open(&found).await.load(thread(1).short(), 0).await.unwrap().events;
        assert_eq!(events, (1..=5).map(|seq| event(1, seq)).collect::<Vec<_>>(), "killed: {killed}");
    }
}

/// The end of a process whose files were replaced must not touch what stands there now.
#[tokio::test]
async fn closing_a_store_that_was_replaced_leaves_the_other_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("threads.db"), dir.path().join("aside.db"));
    let store = open(&path).await;
    store.append(append(&thread(1), 0, &[b"one"])).await.unwrap();
    for ending in ["", "-wal", "-shm"] {
        fs::rename(format!("{}{ending}", path.display()), format!("{}{ending}", aside.display())).unwrap();
    }
    // A backup is put in its place, with a log that has not been moved into the database.
    for ending in ["", "-wal"] {
        fs::copy(format!("{}{ending}", aside.display()), format!("{}{ending}", path.display())).unwrap();
    }
    assert!(matches!(store.append(append(&thread(1), 1, &[b"two"])).await, Err(StoreError::NotWritable(_))));
    store.close().await.unwrap();
    drop(store);
    let store = open(&path).await;
    assert_eq!(store.load(thread(1).short(), 0).await.unwrap().events, [b"one"], "what was acknowledged is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_takes_nothing_that_was_acknowledged() {
    const TEST: &str = "kill_9_takes_nothing_that_was_acknowledged";
    const THREADS: usize = 6;
    if let Some(path) = played_by_child() {
        let durability = if path.ends_with("disk.db") { Durability::Disk } else { Durability::Process };
        let store = Store::open(&StoreConfig { path, durability }).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..THREADS {
            let store = store.clone();
            tasks.spawn(async move {
                let mut version = store.summary(thread(n).short()).await.map_or(0, |summary| summary.version);
                loop {
                    version = store.append(append(&thread(n), version, &[&event(n, version + 1)])).await.unwrap();
                    say(&format!("{n} {version}"));
                }
            });
        }
        tasks.join_all().await;
    }
    for name in ["disk.db", "process.db"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let mut acknowledged = [0u64; THREADS];
        // The same store dies again and again, early and late, also in the middle of a checkpoint.
        for moment in [1, 2, 7, 40, 150, 700] {
            let mut child = child(TEST, &path, None);
            let mut lines = said(&mut child);
            let mut note = |line: String| {
                let (n, version) = line.split_once(' ').unwrap();
                acknowledged[n.parse::<usize>().unwrap()] = version.parse().unwrap();
            };
            lines.by_ref().take(moment).for_each(&mut note);
            child.kill().unwrap();
            // What it said before it died and nobody had read yet.
            lines.for_each(&mut note);
            assert_eq!(child.wait().unwrap().signal(), Some(9), "it did not end by itself");

            let store = open(&path).await;
            for (n, &version) in acknowledged.iter().enumerate().filter(|&(_, &version)| version > 0) {
                let loaded = store.load(thread(n).short(), 0).await.unwrap();
                assert!(loaded.summary.version >= version, "{name}: thread {n} lost event {version}");
                let expected: Vec<_> = (1..=loaded.summary.version).map(|seq| event(n, seq)).collect();
                assert!(loaded.events == expected, "{name}: thread {n} after {moment}");
            }
            store.close().await.unwrap();
        }
        assert!(acknowledged.iter().sum::<u64>() >= 900, "{acknowledged:?}");
    }
}

#[tokio::test]
async fn closing_finishes_what_was_asked_for_and_leaves_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    let store = open(&path).await;
    let asked: Vec<_> = (0..50)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.append(append(&thread(n), 0, &[b"one"])).await })
        })
        .collect();
    // On this runtime of one thread all of them have asked when this task goes on.
    tokio::task::yield_now().await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    for task in asked {
        assert_eq!(task.await.unwrap().unwrap(), 1);
    }
    for refused in [
        store.append(append(&thread(60), 0, &[b"late"])).await.err(),
        store.load(thread(49).short(), 0).await.err(),
        store.claim("w", Timestamp(0), 1, 1).await.err(),
    ] {
        assert!(matches!(refused, Some(StoreError::Failed(_))), "{refused:?}");
    }
    assert!(!dir.path().join("threads.db-wal").exists(), "the log was folded into the database");
    // The lock is free while the old handle is still around.
    let store = open(&path).await;
    for n in 0..50 {
        assert_eq!(store.load(thread(n).short(), 0).await.unwrap().events, [b"one"]);
    }
    assert!(matches!(store.load(thread(60).short(), 0).await, Err(StoreError::Unknown(_))));
}

#[tokio::test]
async fn what_was_deleted_is_not_in_the_file_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    filled(&path, 5, 3).await;
    let mentions = |n: usize| {
        let bytes = fs::read(&path).unwrap();
        let word = format!("thread {n} event ");
        bytes.windows(word.len()).filter(|window| *window == word.as_bytes()).count()
    };
    assert!(mentions(2) > 100);
    let others = mentions(3);
    let store = open(&path).await;
    store.delete(thread(2).short(), "console:ops", Timestamp(0)).await.unwrap();
    store.close().await.unwrap();
    assert_eq!((mentions(2), mentions(3)), (0, others));
}

#[tokio::test]
async fn leases_are_void_when_the_store_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    let store = open(&path).await;
    let mut first = append(&thread(1), 0, &[b"one"]);
    first.summary.due_at = Some(Timestamp(0));
    store.append(first).await.unwrap();
    assert_eq!(store.claim("a", Timestamp(0), 1_000_000, 1).await.unwrap(), [thread(1).short()]);
    // Dropped, not closed: the next one finds the store free all the same.
    drop(store);
    let store = open(&path).await;
    assert_eq!(store.claim("b", Timestamp(1), 1_000, 1).await.unwrap(), [thread(1).short()]);
}

#[tokio::test]
async fn an_append_writes_as_much_to_a_long_thread_as_to_a_short_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    let wal = dir.path().join("threads.db-wal");
    // Some neighbours, so that both threads lie in the middle of the file.
    filled(&path, 300, 2).await;
    let (short, long) = (thread(100), thread(200));
    let store = open(&path).await;
    store.append(append(&short, 2, &[b"event".as_slice(); 8])).await.unwrap();
    store.append(append(&long, 2, &[b"event".as_slice(); 9_998])).await.unwrap();
    store.close().await.unwrap();
    let mut written = Vec::new();
    for (t, version) in [(&short, 10), (&long, 10_000)] {
        let store = open(&path).await;
        for n in 0..50 {
            store.append(append(t, version + n, &[&event(0, n)])).await.unwrap();
        }
        written.push(fs::metadata(&wal).unwrap().len());
        store.close().await.unwrap();
    }
    let ratio = written[1] as f64 / written[0] as f64;
    assert!((0.8..=1.2).contains(&ratio), "{written:?} bytes for 50 appends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_is_free_although_programs_are_being_started() {
    // A process that is being started holds copies of all our files until it runs its program.
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let enough = Arc::new(AtomicBool::new(false));
    let starter = std::thread::spawn({
        let enough = enough.clone();
        move || {
            while !enough.load(Ordering::Relaxed) {
                assert!(Command::new("true").status().unwrap().success());
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    let mut outcome = Ok(());
    for _ in 0..200 {
        match Store::open(&config(&path)).await {
            Ok(store) => store.close().await.unwrap(),
            Err(error) => outcome = Err(error),
        }
    }
    enough.store(true, Ordering::Relaxed);
    starter.join().unwrap();
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[tokio::test]
async fn an_edited_row_of_an_approval_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    let store = open(&path).await;
    for n in 0..4 {
        let mut append = append(&thread(n), 0, &[b"one"]);
        append.approvals = vec![approval(&thread(n), 1, n as i64)];
        store.append(append).await.unwrap();
    }
    store.close().await.unwrap();
    let conn = Connection::open(&path).unwrap();
    for (n, sql) in [(1, "body = '{'"), (2, "body = json_remove(body, '$.title')")] {
        let sql = format!("UPDATE approvals SET {sql} WHERE short = ?1");
        assert_eq!(conn.execute(&sql, [thread(n).short().as_str()]).unwrap(), 1);
    }
    drop(conn);
    let store = open(&path).await;
    let page = store.approvals(&ApprovalFilter { open: Some(true), ..Default::default() }, None, 9).await.unwrap();
    assert_eq!(page.items, [approval(&thread(0), 1, 0), approval(&thread(3), 1, 3)]);
    assert_eq!(page.damaged, [approval(&thread(1), 1, 1).id, approval(&thread(2), 1, 2).id], "said, not left out");
    store.delete(thread(1).short(), "console:ops", Timestamp(0)).await.unwrap();
}

#[tokio::test]
async fn of_a_deleted_thread_no_earlier_list_entry_is_left_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    let store = open(&path).await;
    // Rows and summaries grow and shrink in turn, so that they move about in their pages.
    for version in 0..40u64 {
        for n in 0..6 {
            let mut append = append(&thread(n), version, &[b"event"]);
            let padding = "x".repeat((version as usize * 37 + n * 11) % 300);
            append.summary.title = format!("summary of {n}, {version} {padding}");
            let mut row = approval(&thread(n), 1 + version % 7, 5);
            row.title = format!("request of {n}, {version} {padding}");
            row.requesters[0].id = format!("web:asker-{n}-{padding}");
            row.open = version % 3 > 0;
            append.approvals = vec![row];
            store.append(append).await.unwrap();
        }
    }
    store.delete(thread(2).short(), "console:ops", Timestamp(0)).await.unwrap();
    store.close().await.unwrap();
    let bytes = fs::read(&path).unwrap();
    let mentions = |word: &str| bytes.windows(word.len()).filter(|window| *window == word.as_bytes()).count();
    for (what, other) in [("summary of 2", "summary of 3"), ("request of 2", "request of 3"), ("asker-2", "asker-3")] {
        assert_eq!((mentions(what), mentions(other) > 0), (0, true), "{what}");
    }
}
