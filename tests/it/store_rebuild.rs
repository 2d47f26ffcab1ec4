//! A store of an older program: brought up to the present format, and its lists computed from the logs.

use std::path::Path;

use rusqlite::Connection;
use twelve::agent::*;
use twelve::runtime::rebuild;
use twelve::store::{
    ApprovalFilter, ApprovalRow, Cursor, Durability, Filter, Progress, Projection, Store, StoreConfig, StoreError,
    Summary,
};

use crate::world::*;

/// Format 1, as the first program made it.
const V1: &str = "
CREATE TABLE threads (
    no         INTEGER PRIMARY KEY,
    short      TEXT    NOT NULL UNIQUE,
    version    INTEGER NOT NULL,
    head       BLOB    NOT NULL,
    status     INTEGER NOT NULL,
    agent      TEXT    NOT NULL,
    waiting    INTEGER NOT NULL,
    due_at     INTEGER,
    updated_at INTEGER NOT NULL,
    summary    TEXT    NOT NULL
) STRICT;
CREATE INDEX threads_changed ON threads (updated_at, short, status, agent);
CREATE INDEX threads_waiting ON threads (updated_at, short, status, agent) WHERE waiting = 1;
CREATE INDEX threads_due ON threads (due_at, short) WHERE due_at IS NOT NULL;
CREATE TABLE events (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE tombstones (
    short   TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    head    BLOB    NOT NULL,
    at      INTEGER NOT NULL,
    deleter TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA application_id = 1415007318;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
";

/// Turns a closed store into one of format 1 with the same logs and summaries.
pub fn to_format_1(path: &Path) {
    let newer = path.with_extension("newer");
    std::fs::rename(path, &newer).unwrap();
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(V1).unwrap();
    conn.execute("ATTACH ?1 AS newer", [newer.to_str().unwrap()]).unwrap();
    let columns = "no, short, version, head, status, agent, waiting, due_at, updated_at, summary";
    conn.execute_batch(&format!(
        "INSERT INTO threads SELECT {columns} FROM newer.threads;
         INSERT INTO events SELECT * FROM newer.events;
         INSERT INTO tombstones SELECT * FROM newer.tombstones;"
    ))
    .unwrap();
}

/// A world with a bit of everything has been, and its store is now one of format 1: what its lists said.
async fn an_old_store() -> (World, Vec<ApprovalRow>, Vec<Summary>) {
    let w = World::new().await;
    for (thread, words) in [("api:none", "look"), ("api:open", "ship v1 and v2"), ("api:done", "ship v3")] {
        w.say(thread, words).await;
        w.advance(1_000).await;
    }
    w.vote("api:done", bob(), approve()).await;
    w.say("api:open", "a word").await;
    for n in 0..102 {
        w.say("api:often", "ship v4").await;
        w.vote("api:often", bob(), deny(&format!("{n}"))).await;
    }
    let rows = w.rows(None).await;
    let summaries = w.runtime.parts().store.list(&Filter::default(), None, 100).await.unwrap().items;
    assert_eq!((rows.len(), summaries.len()), (105, 4));
    w.runtime.drain(std::time::Duration::ZERO).await.unwrap();
    to_format_1(&w.dir.path().join("twelve.db"));
    (w, rows, summaries)
}

async fn open(path: &Path) -> Store {
    Store::open(&StoreConfig { path: path.to_owned(), durability: Durability::Process }).await.unwrap()
}

async fn all_rows(store: &Store) -> Vec<ApprovalRow> {
    let page = store.approvals(&ApprovalFilter::default(), None, 1_000).await.unwrap();
    assert_eq!((page.damaged, page.next), (vec![], None));
    page.items
}

#[tokio::test]
async fn lists_of_an_old_store_are_computed_from_its_logs() {
    let (w, rows, summaries) = an_old_store().await;
    let path = w.dir.path().join("twelve.db");
    let look = Store::open_read_only(&path).await.err().unwrap();
    assert_eq!(
        look.to_string(),
        format!("The store {} has the older format 1. Start an agent once: that brings it up to date.", path.display())
    );
    let store = open(&path).await;
    assert_eq!(store.projection().await.unwrap(), Projection { version: 0, progress: None });
    // Who started what was in the summaries already.
    let by_ann = Filter {
        requester: Some(twelve::store::Person::of(&ann(), &[], &twelve::agent::People::default())),
        ..Filter::default()
    };
    assert_eq!(store.list(&by_ann, None, 100).await.unwrap().items, summaries);
    assert_eq!(all_rows(&store).await, []);

    rebuild(&store).await.unwrap();
    assert!(store.projection().await.unwrap().is_current());
    assert_eq!(all_rows(&store).await, rows, "also those that the threads have forgotten");
    assert_eq!(store.list(&Filter::default(), None, 100).await.unwrap().items, summaries);
    let open_ones = ApprovalFilter { open: Some(true), ..ApprovalFilter::default() };
    assert_eq!(store.count_approvals(&open_ones).await.unwrap(), 2);
    // Once is enough: what is up to date is not looked at again.
    let t = summaries[0].thread.short();
    store.close().await.unwrap();
    Connection::open(&path).unwrap().execute("DELETE FROM approvals WHERE short = ?1", [t.as_str()]).unwrap();
    let store = open(&path).await;
    rebuild(&store).await.unwrap();
    assert!(all_rows(&store).await.iter().all(|row| row.id.thread != t));
}

#[tokio::test]
async fn a_summary_that_an_older_program_computed_otherwise_is_computed_again() {
    let (w, _, summaries) = an_old_store().await;
    let path = w.dir.path().join("twelve.db");
    let edit = "UPDATE threads SET status = 7, summary = json_set(summary, '$.status', 'done', '$.approvals', json('[]'), '$.title', 'x')";
    assert_eq!(Connection::open(&path).unwrap().execute(edit, []).unwrap(), 4);
    let store = open(&path).await;
    rebuild(&store).await.unwrap();
    assert_eq!(store.list(&Filter::default(), None, 100).await.unwrap().items, summaries);
}

#[tokio::test]
async fn what_cannot_be_read_keeps_nothing_else_from_being_computed() {
    let (w, rows, summaries) = an_old_store().await;
    let path = w.dir.path().join("twelve.db");
    let conn = Connection::open(&path).unwrap();
    let done = "api:done".parse::<ThreadId>().unwrap().short();
    let none = "api:none".parse::<ThreadId>().unwrap().short();
    let open_one = "api:open".parse::<ThreadId>().unwrap().short();
    let spoil = |sql: &str, short: ShortId| assert_eq!(conn.execute(sql, [short.as_str()]).unwrap(), 1, "{sql}");
    spoil("UPDATE threads SET summary = '{' WHERE short = ?1", done);
    let first = "WHERE id = (SELECT (no << 31) + 1 FROM threads WHERE short = ?1)";
    spoil(&format!("DELETE FROM events {first}"), none);
    spoil(&format!("UPDATE events SET body = x'7b7d' {first}"), open_one);
    drop(conn);
    let store = open(&path).await;
    rebuild(&store).await.unwrap();
    assert!(store.projection().await.unwrap().is_current());
    let readable: Vec<_> = rows.into_iter().filter(|row| ![done, open_one].contains(&row.id.thread)).collect();
    assert_eq!(all_rows(&store).await, readable);
    let listed = store.list(&Filter::default(), None, 100).await.unwrap();
    assert_eq!((listed.items.len(), listed.damaged), (summaries.len() - 1, vec![done]));
}

#[tokio::test]
async fn computing_goes_on_where_it_was_broken_off() {
    const THREADS: usize = 70;
    let w = World::new().await;
    for n in 0..THREADS {
        w.say(&format!("api:t{n}"), "ship v1").await;
        w.advance(1).await;
    }
    let (rows, path) = (w.rows(None).await, w.dir.path().join("twelve.db"));
    w.runtime.drain(std::time::Duration::ZERO).await.unwrap();
    to_format_1(&path);
    let store = open(&path).await;
    // The oldest thread comes last, and its row is not taken.
    let oldest = "api:t0".parse::<ThreadId>().unwrap().short();
    let file = Connection::open(&path).unwrap();
    let refuse =
        "CREATE TRIGGER no BEFORE INSERT ON approvals WHEN NEW.short = '$' BEGIN SELECT RAISE(ABORT, 'not now'); END";
    file.execute_batch(&refuse.replace('$', oldest.as_str())).unwrap();
    assert!(matches!(rebuild(&store).await, Err(StoreError::Failed(_))));
    let broken_off = store.projection().await.unwrap();
    let Projection { version: 0, progress: Some(Progress { to: Projection::CURRENT, upto }) } = &broken_off else {
        panic!("{broken_off:?}")
    };
    assert!(!broken_off.is_current() && upto.thread != oldest);

    // What is done is not done again: a row that somebody took away since is not put back.
    file.execute_batch("DROP TRIGGER no").unwrap();
    let newest = format!("api:t{}", THREADS - 1).parse::<ThreadId>().unwrap().short();
    assert_eq!(file.execute("DELETE FROM approvals WHERE short = ?1", [newest.as_str()]).unwrap(), 1);
    rebuild(&store).await.unwrap();
    assert!(store.projection().await.unwrap().is_current());
    assert_eq!(all_rows(&store).await, rows[1..]);

    // What another version has begun is done from the beginning, also if it began with what we had.
    let upto = Cursor { updated_at: Timestamp(0), thread: oldest };
    for version in [0, Projection::CURRENT] {
        file.execute_batch("DELETE FROM approvals").unwrap();
        let progress = Some(Progress { to: Projection::CURRENT + 1, upto: upto.clone() });
        store.set_projection(Projection { version, progress }).await.unwrap();
        rebuild(&store).await.unwrap();
        assert_eq!(all_rows(&store).await, rows);
    }
}
