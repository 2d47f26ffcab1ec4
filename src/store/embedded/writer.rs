//! The writer: one thread that owns the one connection that writes, and the leases.
//!
//! Callers queue up while a commit waits for the disk, so the next commit carries all of them: one sync
//! for many appends. Nobody gets an answer before the commit that holds his change. If a group cannot
//! be committed, it is rolled back and its members are tried one by one, so that one damaged thread or
//! one append that does not fit harms nobody else.
//!
//! Leases live in memory. Only one process has the store, so a lease that does not outlive it is void
//! at the next start without a look at any thread, and taking, keeping or giving up a lease costs no
//! write.
//!
//! Each commit looks whether the files are still where their names lead ([`super::files`]): what could not be
//! found again after a restart is refused.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::files::Files;
use super::lock::Lock;
use super::schema::{self, explain};
use super::{approvals, summary};
use crate::store::{Append, Fault, Lease, Projection, ShortId, StoreError, Timestamp};

/// Requests that wait for the writer; a caller beyond that waits to be queued.
pub const QUEUE: usize = 1_024;

/// Most requests in one commit, and the size of events in bytes after which a commit takes no more.
/// They bound what a commit holds in memory and how long the first of a group waits for the last.
const GROUP_MAX: usize = 512;
const GROUP_BYTES: usize = 8 << 20;

/// How often the writer looks for a request before it sleeps: some tens of microseconds, after each commit.
const LOOKS: usize = 100;

pub type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What callers ask of the writer.
pub enum Request {
    /// Answered with the thread's new version, or the last one of a deleted thread.
    Change(Change, Answer<u64>),
    Claim {
        worker: String,
        now: Timestamp,
        lease_ms: u64,
        limit: usize,
        answer: Answer<Vec<ShortId>>,
    },
    Renew {
        thread: ShortId,
        worker: String,
        now: Timestamp,
        lease_ms: u64,
        answer: Answer<bool>,
    },
    Release {
        thread: ShortId,
        worker: String,
        answer: Answer<()>,
    },
    /// Answered once something was really written, or with what is in the way.
    Probe(oneshot::Sender<Result<(), (Fault, StoreError)>>),
    Close(oneshot::Sender<()>),
}

/// What goes into the file.
pub enum Change {
    Append {
        append: Box<Append>,
        /// The summary as it is stored.
        row: Box<summary::Row>,
        /// The approvals as they are stored.
        approvals: Vec<approvals::Row>,
    },
    Delete {
        thread: ShortId,
        by: String,
        at: Timestamp,
    },
    Forget {
        thread: ShortId,
        version: i64,
    },
    Project(Projection),
}

pub struct Writer {
    pub path: PathBuf,
    pub conn: Connection,
    pub files: Files,
    /// Held until the last write is done.
    pub lock: Lock,
}

impl Writer {
    /// Serves requests until all handles are gone or one asked to close, then folds the write-ahead log
    /// into the database and gives the lock back.
    pub fn run(self, mut requests: mpsc::Receiver<Request>) {
        let Writer { path, conn, mut files, lock } = self;
        let mut leases = Leases::default();
        let mut closing = Vec::new();
        while let Some(first) = next_request(&mut requests) {
            let mut changes = Vec::new();
            let mut answers = Vec::new();
            let mut rest = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Change(change, answer) => {
                        bytes += change.size();
                        changes.push(change);
                        answers.push(answer);
                    }
                    Request::Close(answer) => {
                        requests.close();
                        closing.push(answer);
                    }
                    Request::Claim { .. } | Request::Renew { .. } | Request::Release { .. } | Request::Probe(_) => {
                        rest.push(request);
                    }
                }
                let full = changes.len() + rest.len() >= GROUP_MAX || bytes >= GROUP_BYTES;
                next = if full { None } else { requests.try_recv().ok() };
            }

            let outcomes = commit(&conn, &path, &mut files, &changes);
            for ((change, answer), outcome) in changes.into_iter().zip(answers).zip(outcomes) {
                if outcome.is_ok() {
                    match change {
                        Change::Append { append, .. } => {
                            if let Some(lease) = append.lease {
                                leases.take(append.thread, lease, append.summary.updated_at);
                            }
                        }
                        Change::Delete { thread, .. } | Change::Forget { thread, .. } => leases.forget(thread),
                        Change::Project(_) => {}
                    }
                }
                // A caller who has gone away does not hear of it; the change stands.
                let _ = answer.send(outcome);
            }
            for request in rest {
                match request {
                    Request::Claim { worker, now, lease_ms, limit, answer } => {
                        let claimed = leases.claim(&conn, &worker, now, lease_ms, limit);
                        let _ = answer.send(claimed.map_err(|e| explain(&path, None, &e)));
                    }
                    Request::Renew { thread, worker, now, lease_ms, answer } => {
                        let _ = answer.send(Ok(leases.renew(thread, &worker, now, lease_ms)));
                    }
                    Request::Release { thread, worker, answer } => {
                        leases.release(thread, &worker);
                        let _ = answer.send(Ok(()));
                    }
                    Request::Probe(answer) => {
                        let _ = answer.send(probe(&conn, &path, &mut files));
                    }
                    Request::Change(..) | Request::Close(_) => {} // taken above
                }
            }
        }
        if let Err(e) = fold_log(&conn) {
            // Nothing is lost: the next start reads the log.
            tracing::warn!(error = %e, "the write-ahead log of the store stays beside it");
        }
        // Where another database stands in the place of this one, SQLite leaves the other one's log alone.
        drop(conn);
        lock.release();
        for answer in closing {
            let _ = answer.send(());
        }
    }
}

/// The next request; `None` when all handles are gone. Looks a few times before it sleeps: to be woken
/// costs more than a commit that waits for no disk, and who works on a thread asks again at once.
fn next_request(requests: &mut mpsc::Receiver<Request>) -> Option<Request> {
    for _ in 0..LOOKS {
        match requests.try_recv() {
            Ok(request) => return Some(request),
            Err(TryRecvError::Disconnected) => return None,
            // Whoever else wants this core gets it.
            Err(TryRecvError::Empty) => std::thread::yield_now(),
        }
    }
    requests.blocking_recv()
}

/// Moves the write-ahead log into the database. Somebody who reads in another process does not hold
/// this up.
fn fold_log(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(Duration::ZERO)?;
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Brings what was acknowledged from a log whose name is gone into the database, where the next start finds it.
fn save(conn: &Connection, fault: Fault) {
    if fault != Fault::Gone {
        return;
    }
    if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        tracing::warn!(%error, "what the write-ahead log holds could not be moved into the database");
    }
}

/// Writes one row for real. What may be in the way of appends is in the way of this.
fn probe(conn: &Connection, path: &Path, files: &mut Files) -> Result<(), (Fault, StoreError)> {
    files.check().inspect_err(|(fault, _)| save(conn, *fault))?;
    schema::probe(conn).map_err(|e| (schema::fault(&e), explain(path, None, &e)))?;
    files.kept()
}

/// Puts changes into the file, if it is still where its name leads; and says that they are kept only if it still is
/// when that is done. One outcome for each.
fn commit(conn: &Connection, path: &Path, files: &mut Files, changes: &[Change]) -> Vec<Result<u64, StoreError>> {
    if changes.is_empty() {
        return Vec::new();
    }
    let outcomes = match files.check() {
        Ok(()) => write(conn, path, changes),
        Err((fault, error)) => {
            save(conn, fault);
            return changes.iter().map(|_| Err(error.clone())).collect();
        }
    };
    if outcomes.iter().all(Result::is_err) {
        return outcomes;
    }
    match files.kept() {
        Ok(()) => outcomes,
        Err((_, error)) => outcomes.into_iter().map(|outcome| outcome.and(Err(error.clone()))).collect(),
    }
}

/// In one commit, or one by one if that fails.
fn write(conn: &Connection, path: &Path, changes: &[Change]) -> Vec<Result<u64, StoreError>> {
    match group(conn, changes) {
        Ok(outcomes) => outcomes,
        Err(e) => match changes {
            [] => Vec::new(),
            [one] => vec![Err(explain(path, one.thread(), &e))],
            // Another program keeps the file: it would keep it from each of them for as long again.
            all if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                all.iter().map(|_| Err(explain(path, None, &e))).collect()
            }
            all => all.iter().flat_map(|one| write(conn, path, std::slice::from_ref(one))).collect(),
        },
    }
}

/// One transaction. A refusal (conflict, deleted) is an outcome, decided before anything of that change
/// is written; an error means that nothing of the group was kept.
fn group(conn: &Connection, changes: &[Change]) -> rusqlite::Result<Vec<Result<u64, StoreError>>> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let write = || {
        let outcomes = changes.iter().map(|change| change.write(conn)).collect::<rusqlite::Result<_>>()?;
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(outcomes)
    };
    let outcome = write();
    // SQLite has rolled back by itself after some errors.
    if outcome.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    outcome
}

impl Change {
    fn thread(&self) -> Option<ShortId> {
        match self {
            Change::Append { append, .. } => Some(append.thread),
            Change::Delete { thread, .. } | Change::Forget { thread, .. } => Some(*thread),
            Change::Project(_) => None,
        }
    }

    fn size(&self) -> usize {
        match self {
            Change::Append { append, approvals, .. } => {
                append.events.iter().map(Vec::len).sum::<usize>() + approvals.iter().map(|a| a.size()).sum::<usize>()
            }
            Change::Delete { .. } | Change::Forget { .. } | Change::Project(_) => 0,
        }
    }

    fn write(&self, conn: &Connection) -> rusqlite::Result<Result<u64, StoreError>> {
        match self {
            Change::Append { append, row, approvals } => write_append(conn, append, row, approvals),
            Change::Delete { thread, by, at } => write_delete(conn, *thread, by, *at),
            Change::Forget { thread, version } => write_forget(conn, *thread, *version),
            Change::Project(Projection { version, progress }) => {
                let progress = progress.as_ref().and_then(|at| serde_json::to_string(at).ok());
                conn.prepare_cached("UPDATE projection SET version = ?1, progress = ?2")?
                    .execute(params![version, progress])?;
                Ok(Ok(0))
            }
        }
    }
}

fn write_append(
    conn: &Connection,
    append: &Append,
    row: &summary::Row,
    approvals: &[approvals::Row],
) -> rusqlite::Result<Result<u64, StoreError>> {
    let Append { thread, expected, events, .. } = append;
    let stored: Option<(i64, i64, [u8; 32])> = conn
        .prepare_cached("SELECT no, version, head FROM threads WHERE short = ?1")?
        .query_row([thread.as_str()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?;
    let found = stored.map_or(0, |(_, version, _)| version.unsigned_abs());
    if stored.is_none() && is_deleted(conn, *thread)? {
        return Ok(Err(StoreError::Deleted(*thread)));
    }
    if found != *expected {
        return Ok(Err(StoreError::Conflict { thread: *thread, expected: *expected, found }));
    }
    let no = match stored {
        Some((_, _, head)) if events.is_empty() && head != row.head => {
            return Ok(Err(StoreError::Failed(format!(
                "An append to thread {thread} was refused: it has no events, and another head in its summary."
            ))));
        }
        Some((no, ..)) => {
            conn.prepare_cached(
                "UPDATE threads SET version = ?2, head = ?3, status = ?4, agent = ?5, waiting = ?6, due_at = ?7, \
                 updated_at = ?8, requester = ?9, summary = ?10 WHERE no = ?1",
            )?
            .execute(params![
                no,
                row.version,
                row.head,
                row.status,
                row.agent,
                row.waiting,
                row.due_at,
                row.updated_at,
                row.requester,
                row.json
            ])?;
            no
        }
        None if events.is_empty() => return Ok(Err(StoreError::Unknown(*thread))),
        None => {
            conn.prepare_cached(
                "INSERT INTO threads (short, version, head, status, agent, waiting, due_at, updated_at, requester, \
                 summary) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                thread.as_str(),
                row.version,
                row.head,
                row.status,
                row.agent,
                row.waiting,
                row.due_at,
                row.updated_at,
                row.requester,
                row.json
            ])?;
            conn.last_insert_rowid()
        }
    };
    let mut insert = conn.prepare_cached("INSERT INTO events (id, body) VALUES (?1, ?2)")?;
    for (seq, event) in (expected + 1..).zip(events) {
        insert.execute(params![schema::event_id(no, seq), event])?;
    }
    for approval in approvals {
        approval.write(conn, no, *thread)?;
    }
    Ok(Ok(expected + events.len() as u64))
}

fn is_deleted(conn: &Connection, thread: ShortId) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM tombstones WHERE short = ?1")?.exists([thread.as_str()])
}

fn write_delete(
    conn: &Connection,
    thread: ShortId,
    by: &str,
    at: Timestamp,
) -> rusqlite::Result<Result<u64, StoreError>> {
    let stored: Option<(i64, i64, [u8; 32])> = conn
        .prepare_cached("SELECT no, version, head FROM threads WHERE short = ?1")?
        .query_row([thread.as_str()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?;
    let Some((no, version, head)) = stored else {
        let before: Option<i64> = conn
            .prepare_cached("SELECT version FROM tombstones WHERE short = ?1")?
            .query_row([thread.as_str()], |r| r.get(0))
            .optional()?;
        return Ok(before.map(i64::unsigned_abs).ok_or(StoreError::Unknown(thread)));
    };
    // What people want gone is overwritten, not only forgotten.
    conn.pragma_update(None, "secure_delete", true)?;
    remove(conn, no)?;
    conn.pragma_update(None, "secure_delete", schema::SECURE_DELETE)?;
    conn.prepare_cached("INSERT INTO tombstones (short, version, head, at, deleter) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![thread.as_str(), version, head, at.0, by])?;
    Ok(Ok(version.unsigned_abs()))
}

fn write_forget(conn: &Connection, thread: ShortId, expected: i64) -> rusqlite::Result<Result<u64, StoreError>> {
    let stored: Option<(i64, i64, String)> = conn
        .prepare_cached("SELECT no, version, agent FROM threads WHERE short = ?1")?
        .query_row([thread.as_str()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?;
    Ok(match stored {
        None => Ok(0),
        Some((_, _, agent)) if !agent.is_empty() => Err(StoreError::Failed(format!(
            "Thread {thread} was not forgotten: the agent `{agent}` works on it. Delete it instead."
        ))),
        Some((_, version, _)) if version != expected => {
            let (expected, found) = (expected.unsigned_abs(), version.unsigned_abs());
            Err(StoreError::Conflict { thread, expected, found })
        }
        Some((no, ..)) => {
            remove(conn, no)?;
            Ok(0)
        }
    })
}

/// Takes thread number `no` out of the file.
fn remove(conn: &Connection, no: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM events WHERE id BETWEEN ?1 AND ?2")?
        .execute([schema::event_id(no, 0), schema::event_id(no, schema::MAX_EVENTS)])?;
    conn.prepare_cached("DELETE FROM approvals WHERE no = ?1")?.execute([no])?;
    conn.prepare_cached("DELETE FROM threads WHERE no = ?1")?.execute([no])?;
    Ok(())
}

/// Who works on which thread. A lease whose `until` has come is as good as none.
#[derive(Default)]
struct Leases(HashMap<ShortId, Lease>);

impl Leases {
    /// A lease that came with an append. The live lease of another worker stays.
    fn take(&mut self, thread: ShortId, lease: Lease, now: Timestamp) {
        let held_by_other = self.0.get(&thread).is_some_and(|held| held.until > now && held.worker != lease.worker);
        if held_by_other {
            return;
        }
        if lease.until > now {
            self.0.insert(thread, lease);
        } else {
            self.0.remove(&thread);
        }
    }

    fn claim(
        &mut self,
        conn: &Connection,
        worker: &str,
        now: Timestamp,
        lease_ms: u64,
        limit: usize,
    ) -> rusqlite::Result<Vec<ShortId>> {
        self.0.retain(|_, held| held.until > now);
        let mut query = conn.prepare_cached(
            "SELECT short FROM threads INDEXED BY threads_due WHERE due_at <= ?1 ORDER BY due_at, short",
        )?;
        let mut due = query.query([now.0])?;
        let mut claimed = Vec::new();
        while claimed.len() < limit
            && let Some(row) = due.next()?
        {
            let thread = super::short(row, 0)?;
            if let Entry::Vacant(free) = self.0.entry(thread) {
                free.insert(Lease { worker: worker.to_owned(), until: now.plus_ms(lease_ms) });
                claimed.push(thread);
            }
        }
        Ok(claimed)
    }

    fn renew(&mut self, thread: ShortId, worker: &str, now: Timestamp, lease_ms: u64) -> bool {
        match self.0.get_mut(&thread) {
            Some(held) if held.worker == worker && held.until > now => {
                held.until = now.plus_ms(lease_ms);
                true
            }
            _ => false,
        }
    }

    fn release(&mut self, thread: ShortId, worker: &str) {
        if self.0.get(&thread).is_some_and(|held| held.worker == worker) {
            self.0.remove(&thread);
        }
    }

    fn forget(&mut self, thread: ShortId) {
        self.0.remove(&thread);
    }
}
