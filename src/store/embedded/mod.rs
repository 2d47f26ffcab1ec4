//! The embedded store: one SQLite file in WAL mode, for one process at a time.
//!
//! Everything that changes something goes through one writer thread, which commits in groups; reads
//! go past it, on a few connections of their own, in tokio's blocking threads. A read begins its own
//! transaction after the commit that it follows, so it sees what was acknowledged.
//!
//! At durability `disk` a commit waits for the disk (`synchronous=FULL`: one sync of the write-ahead log
//! for each group). At `process` it is handed to the operating system (`synchronous=NORMAL`): kill -9
//! takes nothing, power loss may take the last commits, and never the file.
//!
//! Left out: what an event means, clocks, retries.

mod approvals;
mod files;
mod lock;
mod schema;
mod summary;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::files::Files;
use self::lock::{InUse, Lock};
pub use self::schema::FORMAT;
use self::schema::{MAX_EVENTS, damaged, event_id, explain};
use self::writer::{Answer, Change, Request, Writer};
use super::{
    Append, ApprovalCursor, ApprovalFilter, ApprovalPage, Cursor, Digest, Durability, Fault, Filter, Loaded, MAX_FOUND,
    Page, Projection, ShortId, StoreConfig, StoreError, Summary, ThreadId, Timestamp, Tombstone,
};

/// Reads at the same time; each has a connection. More wait their turn.
const READERS: usize = 4;

/// A handle to the store of this process. Clones share it.
#[derive(Clone)]
pub struct Embedded(Arc<Inner>);

struct Inner {
    path: PathBuf,
    durability: Durability,
    /// `None` if the store was opened to be read only.
    writer: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    readers: Arc<Readers>,
}

struct Readers {
    path: PathBuf,
    turns: Arc<Semaphore>,
    /// Connections that nobody uses now; made when they are first needed.
    idle: Mutex<Vec<Connection>>,
    /// The last of these fields: it outlives every connection.
    _in_use: Arc<InUse>,
}

impl Embedded {
    pub async fn open(config: &StoreConfig) -> Result<Embedded, StoreError> {
        let config = config.clone();
        blocking(move || {
            let StoreConfig { path, durability } = config;
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir).map_err(|e| {
                    StoreError::NotWritable(format!(
                        "The directory {} of the store cannot be made ({e}). Check that this user may write there, or \
                         set `store.path`.",
                        dir.display()
                    ))
                })?;
            }
            let lock = Lock::acquire(&path)?;
            let readers = Arc::new(Readers::new(path.clone(), lock.in_use()));
            let opened = schema::open_writer(&path, durability).and_then(|conn| {
                let files = Files::of(&path, lock.database()).map_err(|e| {
                    StoreError::NotWritable(format!("The files of the store {} cannot be found ({e}).", path.display()))
                })?;
                Ok((conn, files))
            });
            let (conn, files) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    lock.release();
                    return Err(error);
                }
            };
            let (requests, queue) = mpsc::channel(writer::QUEUE);
            let writer = Writer { path: path.clone(), conn, files, lock };
            let thread = std::thread::Builder::new()
                .name("store".to_owned())
                .spawn(move || writer.run(queue))
                .map_err(|e| StoreError::Failed(format!("The store cannot start its writer: {e}.")))?;
            Ok(Embedded(Arc::new(Inner { path, durability, writer: Some(requests), thread: Some(thread), readers })))
        })
        .await
    }

    pub async fn open_read_only(path: &Path) -> Result<Embedded, StoreError> {
        let path = path.to_owned();
        blocking(move || {
            // What is not there is named by the opening.
            let in_use = InUse::of(&path).map(Arc::new);
            let conn = schema::open_reader(&path)?;
            let in_use = in_use
                .map_err(|e| StoreError::Failed(format!("The store {} cannot be looked at ({e}).", path.display())))?;
            let readers = Arc::new(Readers::new(path.clone(), in_use));
            readers.put_back(conn);
            Ok(Embedded(Arc::new(Inner { path, durability: Durability::Disk, writer: None, thread: None, readers })))
        })
        .await
    }

    pub fn durability(&self) -> Durability {
        self.0.durability
    }

    pub async fn append(&self, append: Append) -> Result<u64, StoreError> {
        let (row, approvals) = check(&append)?;
        let change = Change::Append { append: Box::new(append), row: Box::new(row), approvals };
        self.ask(|answer| Request::Change(change, answer)).await
    }

    pub async fn delete(&self, thread: ShortId, by: &str, at: Timestamp) -> Result<Tombstone, StoreError> {
        let change = Change::Delete { thread, by: by.to_owned(), at };
        self.ask(|answer| Request::Change(change, answer)).await?;
        self.tombstone(thread).await?.ok_or(StoreError::Unknown(thread))
    }

    pub async fn forget(&self, thread: ShortId, version: u64) -> Result<(), StoreError> {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        self.ask(|answer| Request::Change(Change::Forget { thread, version }, answer)).await.map(|_| ())
    }

    pub async fn resting_intents(&self, before: Timestamp, limit: usize) -> Result<Vec<(ShortId, u64)>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |conn, path| {
            conn.prepare_cached(
                "SELECT short, version FROM threads INDEXED BY threads_changed
                 WHERE updated_at < ?1 AND agent = '' AND due_at IS NULL ORDER BY updated_at, short LIMIT ?2",
            )
            .and_then(|mut query| {
                let found = |row: &Row| Ok((short(row, 0)?, row.get::<_, i64>(1)?.unsigned_abs()));
                query.query_map(params![before.0, limit], found)?.collect()
            })
            .map_err(|e| explain(path, None, &e))
        })
        .await
    }

    pub async fn claim(
        &self,
        worker: &str,
        now: Timestamp,
        lease_ms: u64,
        limit: usize,
    ) -> Result<Vec<ShortId>, StoreError> {
        let worker = worker.to_owned();
        self.ask(|answer| Request::Claim { worker, now, lease_ms, limit, answer }).await
    }

    pub async fn renew(
        &self,
        thread: ShortId,
        worker: &str,
        now: Timestamp,
        lease_ms: u64,
    ) -> Result<bool, StoreError> {
        let worker = worker.to_owned();
        self.ask(|answer| Request::Renew { thread, worker, now, lease_ms, answer }).await
    }

    pub async fn release(&self, thread: ShortId, worker: &str) -> Result<(), StoreError> {
        let worker = worker.to_owned();
        self.ask(|answer| Request::Release { thread, worker, answer }).await
    }

    pub async fn load(&self, thread: ShortId, after: u64) -> Result<Loaded, StoreError> {
        self.load_upto(thread, after, MAX_EVENTS).await
    }

    pub async fn load_page(&self, thread: ShortId, after: u64, limit: usize) -> Result<Loaded, StoreError> {
        self.load_upto(thread, after, after.saturating_add(limit as u64).min(MAX_EVENTS)).await
    }

    async fn load_upto(&self, thread: ShortId, after: u64, upto: u64) -> Result<Loaded, StoreError> {
        self.read_thread(thread, move |conn, path, no| {
            let summary = read_summary(conn, path, thread, no)?;
            let events = read_events(conn, path, thread, no, (after, upto), &summary)?;
            Ok(Loaded { events, summary })
        })
        .await
    }

    pub async fn summary(&self, thread: ShortId) -> Result<Summary, StoreError> {
        self.read_thread(thread, move |conn, path, no| read_summary(conn, path, thread, no)).await
    }

    pub async fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.read(move |conn, path| read_page(conn, path, &filter, after, limit)).await
    }

    pub async fn approvals(
        &self,
        filter: ApprovalFilter,
        after: Option<ApprovalCursor>,
        limit: usize,
    ) -> Result<ApprovalPage, StoreError> {
        self.read(move |conn, path| approvals::read_page(conn, path, &filter, after, limit)).await
    }

    pub async fn count_approvals(&self, filter: ApprovalFilter) -> Result<u64, StoreError> {
        self.read(move |conn, path| approvals::count(conn, path, &filter)).await
    }

    pub async fn projection(&self) -> Result<Projection, StoreError> {
        self.read(|conn, path| {
            let (version, progress): (u32, Option<String>) = conn
                .prepare_cached("SELECT version, progress FROM projection")
                .and_then(|mut query| query.query_row([], |row| Ok((row.get(0)?, row.get(1)?))))
                .map_err(|e| explain(path, None, &e))?;
            Ok(match progress.map(|text| serde_json::from_str(&text)) {
                None => Projection { version, progress: None },
                Some(Ok(progress)) => Projection { version, progress: Some(progress) },
                // It was begun, and nobody can say how far it came: from the beginning.
                Some(Err(_)) => Projection { version: 0, progress: None },
            })
        })
        .await
    }

    pub async fn set_projection(&self, projection: Projection) -> Result<(), StoreError> {
        self.ask(|answer| Request::Change(Change::Project(projection), answer)).await.map(|_| ())
    }

    pub async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.read(move |conn, path| {
            conn.prepare_cached("SELECT min(due_at) FROM threads INDEXED BY threads_due WHERE due_at > ?1")
                .and_then(|mut query| query.query_row([now.0], |row| row.get::<_, Option<i64>>(0)))
                .map(|due| due.map(Timestamp))
                .map_err(|e| explain(path, None, &e))
        })
        .await
    }

    pub async fn tombstone(&self, thread: ShortId) -> Result<Option<Tombstone>, StoreError> {
        self.read(move |conn, path| read_tombstone(conn, thread).map_err(|e| explain(path, Some(thread), &e))).await
    }

    pub async fn tombstones(&self, after: Option<ShortId>, limit: usize) -> Result<Vec<Tombstone>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |conn, path| {
            conn.prepare_cached(
                "SELECT short, version, head, at, deleter FROM tombstones WHERE short > ?1 ORDER BY short LIMIT ?2",
            )
            .and_then(|mut query| {
                let stone = |row: &Row| {
                    Ok(Tombstone {
                        thread: short(row, 0)?,
                        version: row.get::<_, i64>(1)?.unsigned_abs(),
                        head: Digest(row.get(2)?),
                        at: Timestamp(row.get(3)?),
                        by: row.get(4)?,
                    })
                };
                // Every short id comes after the empty text.
                query.query_map(params![after.as_ref().map_or("", ShortId::as_str), limit], stone)?.collect()
            })
            .map_err(|e| explain(path, None, &e))
        })
        .await
    }

    pub async fn find(&self, text: &str) -> Result<Vec<ShortId>, StoreError> {
        let prefix = match text.trim().parse::<ThreadId>() {
            Ok(full) => full.short().to_string(),
            Err(_) => text.trim().to_ascii_lowercase(),
        };
        // An empty text would mean every thread: nobody means that.
        if prefix.is_empty() || prefix.len() > ShortId::LEN || !prefix.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Ok(Vec::new());
        }
        self.read(move |conn, path| {
            // `{` comes right after `z`.
            conn.prepare_cached(
                "SELECT short FROM threads WHERE short >= ?1 AND short < ?1 || '{' ORDER BY short LIMIT ?2",
            )
            .and_then(|mut query| query.query_map(params![prefix, MAX_FOUND as i64], |row| short(row, 0))?.collect())
            .map_err(|e| explain(path, None, &e))
        })
        .await
    }

    pub async fn damages(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        self.read(move |conn, path| {
            // A pragma takes no parameters; a number cannot break out of it.
            let mut query =
                conn.prepare(&format!("PRAGMA quick_check({limit})")).map_err(|e| explain(path, None, &e))?;
            let found = query.query_map([], |row| row.get(0)).and_then(Iterator::collect);
            match found {
                Ok(found) => Ok(found),
                // Damaged beyond what the check can walk through.
                Err(e) => Ok(vec![e.to_string()]),
            }
            .map(|found: Vec<String>| found.into_iter().filter(|line| line != "ok").collect())
        })
        .await
    }

    pub async fn probe(&self) -> Result<(), (Fault, StoreError)> {
        let closed = || (Fault::Broken, self.closed());
        let Some(writer) = &self.0.writer else {
            return Err((Fault::ReadOnly, StoreError::NotWritable("The store is open for reading only.".to_owned())));
        };
        let (answer, outcome) = oneshot::channel();
        writer.send(Request::Probe(answer)).await.map_err(|_| closed())?;
        outcome.await.map_err(|_| closed())?
    }

    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.readers.close().await;
        if let Some(writer) = &self.0.writer {
            let (answer, done) = oneshot::channel();
            if writer.send(Request::Close(answer)).await.is_ok() {
                done.await.map_err(|_| self.closed())?;
            }
        }
        Ok(())
    }

    /// Asks the writer and waits for its answer.
    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, StoreError> {
        let Some(writer) = &self.0.writer else {
            return Err(StoreError::NotWritable(format!(
                "The store {} is open for reading only here: this command looks and changes nothing.",
                self.0.path.display()
            )));
        };
        let (answer, outcome) = oneshot::channel();
        writer.send(request(answer)).await.map_err(|_| self.closed())?;
        outcome.await.map_err(|_| self.closed())?
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &Path) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = self.0.readers.clone();
        let turn = readers.turns.clone().acquire_owned().await.map_err(|_| self.closed())?;
        blocking(move || {
            let _turn = turn;
            let mut conn = readers.take()?;
            let outcome = match conn.transaction() {
                // Dropping it ends it; there is nothing to commit.
                Ok(snapshot) => read(&snapshot, &readers.path),
                Err(e) => Err(explain(&readers.path, None, &e)),
            };
            readers.put_back(conn);
            outcome
        })
        .await
    }

    /// Reads something of a thread that exists, given its number in the file.
    async fn read_thread<T: Send + 'static>(
        &self,
        thread: ShortId,
        read: impl FnOnce(&Connection, &Path, i64) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read(move |conn, path| {
            let explain = |e: rusqlite::Error| explain(path, Some(thread), &e);
            let no: Option<i64> = conn
                .prepare_cached("SELECT no FROM threads WHERE short = ?1")
                .and_then(|mut query| query.query_row([thread.as_str()], |row| row.get(0)).optional())
                .map_err(explain)?;
            match no {
                Some(no) => read(conn, path, no),
                None if read_tombstone(conn, thread).map_err(explain)?.is_some() => Err(StoreError::Deleted(thread)),
                None => Err(StoreError::Unknown(thread)),
            }
        })
        .await
    }

    fn closed(&self) -> StoreError {
        StoreError::Failed(format!("The store {} is closed.", self.0.path.display()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends when nobody can ask it anything. Whoever opens the store next must find it free.
        self.writer = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Readers {
    fn new(path: PathBuf, in_use: Arc<InUse>) -> Self {
        Self { path, turns: Arc::new(Semaphore::new(READERS)), idle: Mutex::new(Vec::new()), _in_use: in_use }
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| schema::open_reader(&self.path), Ok)
    }

    fn put_back(&self, conn: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
    }

    /// Waits for the reads that have begun and lets no other begin.
    async fn close(&self) {
        if let Ok(_all) = self.turns.acquire_many(READERS as u32).await {
            self.turns.close();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(e) => Err(StoreError::Failed(format!("A call of the store did not come to its end: {e}."))),
    }
}

/// Refuses an append whose summary belongs to another thread or to other events, or an approval of another
/// thread: it would make a thread that no load accepts, or a row that no delete finds.
fn check(append: &Append) -> Result<(summary::Row, Vec<approvals::Row>), StoreError> {
    let Append { thread, expected, events, summary, approvals, .. } = append;
    let version = expected.saturating_add(events.len() as u64);
    let wrong = |what: &str| StoreError::Failed(format!("An append to thread {thread} was refused: {what}."));
    if summary.thread.short() != *thread {
        return Err(wrong("its summary is that of another thread"));
    }
    if summary.version != version {
        return Err(wrong(&format!("its summary says version {}, its events make it {version}", summary.version)));
    }
    if version > MAX_EVENTS {
        return Err(wrong(&format!("a thread holds at most {MAX_EVENTS} events")));
    }
    if events.last().is_some_and(|last| Digest::of(last) != summary.head) {
        return Err(wrong("the head in its summary is not the digest of its last event"));
    }
    if let Some(stray) = approvals.iter().find(|a| a.id.thread != *thread) {
        return Err(wrong(&format!("the approval {} is one of another thread", stray.id)));
    }
    let row = summary::Row::of(summary).map_err(|e| wrong(&format!("its summary cannot be written ({e})")))?;
    let approvals = approvals.iter().map(approvals::Row::of).collect::<Result<_, _>>();
    Ok((row, approvals.map_err(|e| wrong(&format!("its approvals cannot be written ({e})")))?))
}

fn read_summary(conn: &Connection, path: &Path, thread: ShortId, no: i64) -> Result<Summary, StoreError> {
    let row = summary::Row::read(conn, no).map_err(|e| explain(path, Some(thread), &e))?;
    row.summary().map_err(|why| damaged(&path.display(), thread, &why))
}

/// The events after the one number, up to the other. They must follow each other up to there or to the
/// version, and the one at the version must be the one that the head names; whether each follows from the one
/// before is the fold's to check.
fn read_events(
    conn: &Connection,
    path: &Path,
    thread: ShortId,
    no: i64,
    (after, upto): (u64, u64),
    summary: &Summary,
) -> Result<Vec<Vec<u8>>, StoreError> {
    if after >= summary.version {
        return Ok(Vec::new());
    }
    let rows: Vec<(i64, Vec<u8>)> = conn
        .prepare_cached("SELECT id, body FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id")
        .and_then(|mut query| {
            let range = [event_id(no, after), event_id(no, upto)];
            query.query_map(range, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(|e| explain(path, Some(thread), &e))?;
    let mut events = Vec::with_capacity(rows.len());
    for (seq, (id, body)) in (after + 1..).zip(rows) {
        if id != event_id(no, seq) {
            return Err(damaged(&path.display(), thread, &format!("event {seq} is missing")));
        }
        events.push(body);
    }
    let last = after + events.len() as u64;
    if last != summary.version.min(upto) {
        let why = format!("its events end with number {last}, its summary says {}", summary.version);
        return Err(damaged(&path.display(), thread, &why));
    }
    if last == summary.version && events.last().is_some_and(|body| Digest::of(body) != summary.head) {
        return Err(damaged(&path.display(), thread, "its last event is not the one that was recorded"));
    }
    Ok(events)
}

/// Which threads belong on the page comes from an index alone; then each row is read for itself, so that
/// a damaged one takes no other with it.
fn read_page(
    conn: &Connection,
    path: &Path,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page, StoreError> {
    let Filter { status, agent, waiting, requester, intents } = filter;
    let sql = if *waiting {
        "SELECT no, short, updated_at FROM threads INDEXED BY threads_waiting
         WHERE waiting = 1 AND (updated_at, short) < (?1, ?2)
           AND (?3 IS NULL OR status = ?3) AND (?4 IS NULL OR agent = ?4) AND (?5 IS NULL OR requester IN (SELECT value FROM json_each(?5)))
           AND (?6 OR agent <> '')
         ORDER BY updated_at DESC, short DESC LIMIT ?7"
    } else {
        "SELECT no, short, updated_at FROM threads INDEXED BY threads_changed
         WHERE (updated_at, short) < (?1, ?2)
           AND (?3 IS NULL OR status = ?3) AND (?4 IS NULL OR agent = ?4) AND (?5 IS NULL OR requester IN (SELECT value FROM json_each(?5)))
           AND (?6 OR agent <> '')
         ORDER BY updated_at DESC, short DESC LIMIT ?7"
    };
    // A list of names as JSON: most people have one, some have several.
    let requester = requester.as_ref().map(|person| {
        Value::from(person.principals().map(|own| approvals::requester(&own)).collect::<Vec<_>>()).to_string()
    });
    // `~` comes after every short id: the first page begins after nothing.
    let (at, id) = after.as_ref().map_or((i64::MAX, "~"), |cursor| (cursor.updated_at.0, cursor.thread.as_str()));
    // One more than asked for tells whether there is another page.
    let asked = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut found: Vec<(i64, Cursor)> = conn
        .prepare_cached(sql)
        .and_then(|mut query| {
            query
                .query_map(
                    params![at, id, status.map(summary::status_number), agent, requester, intents, asked],
                    |row| Ok((row.get(0)?, Cursor { updated_at: Timestamp(row.get(2)?), thread: short(row, 1)? })),
                )?
                .collect()
        })
        .map_err(|e| explain(path, None, &e))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = if more { found.last().map(|(_, cursor)| cursor.clone()) } else { None };
    let mut page = Page { items: Vec::with_capacity(found.len()), damaged: Vec::new(), next };
    for (no, cursor) in found {
        match read_summary(conn, path, cursor.thread, no) {
            Ok(summary) => page.items.push(summary),
            Err(StoreError::Corrupt(why)) => {
                tracing::warn!(thread.id = %cursor.thread, error = %why, "a thread of the list cannot be read");
                page.damaged.push(cursor.thread);
            }
            Err(other) => return Err(other),
        }
    }
    Ok(page)
}

fn read_tombstone(conn: &Connection, thread: ShortId) -> rusqlite::Result<Option<Tombstone>> {
    conn.prepare_cached("SELECT version, head, at, deleter FROM tombstones WHERE short = ?1")?
        .query_row([thread.as_str()], |row| {
            Ok(Tombstone {
                thread,
                version: row.get::<_, i64>(0)?.unsigned_abs(),
                head: Digest(row.get(1)?),
                at: Timestamp(row.get(2)?),
                by: row.get(3)?,
            })
        })
        .optional()
}

/// A column that holds a short id.
fn short(row: &Row, column: usize) -> rusqlite::Result<ShortId> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}
