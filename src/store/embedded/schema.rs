//! The file: its layout and versions, how a connection to it is set up, and what SQLite's errors mean
//! to the person who reads them.
//!
//! # Layout
//! | table | holds |
//! |---|---|
//! | `threads` | one row for each thread: its version, head digest and summary, and beside them what lists and claims look for |
//! | `events` | the encoded events under `no << 31 \| seq` |
//! | `approvals` | one row for each approval, see `approvals.rs` |
//! | `projection` | by which version of the program summaries and rows of approvals were computed |
//! | `tombstones` | what remains of deleted threads |
//! | `probe` | one row that is overwritten to see whether anything can be written |
//!
//! A thread's number `no` in the upper bits of an event's rowid keeps the events of one thread side by
//! side in one B-tree without a second index, so the tail of a thread is one seek however long it is;
//! and a rowid table keeps an event in its leaf page up to 4,061 bytes, a `WITHOUT ROWID` table only
//! up to about 1,000. The summary is stored as JSON without the fields that have columns of their own.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};

use crate::store::{Durability, Fault, Projection, ShortId, StoreError};

/// `PRAGMA application_id`: "TWLV". It tells our files from other programs' databases.
pub const APPLICATION_ID: i64 = 0x5457_4C56;

/// What brings a file from version `n` to `n + 1`, in order; `PRAGMA user_version` says where it is.
/// A step that has been released is never edited.
const MIGRATIONS: &[&str] = &[
    V1, V2,
    // Number 3 goes here.
];

/// The version of the layout that this program writes.
pub const FORMAT: usize = MIGRATIONS.len();

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
-- Both list indexes carry what a filter looks at, so that a page is found without touching other rows.
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
";

/// Rows of approvals, and threads by who started them. The rows themselves come from the logs: whoever opens
/// the store to work with it computes them (`projection` says that it is still to be done). A summary that
/// is not readable stays so, and harms no other.
const V2: &str = "
CREATE TABLE approvals (
    row          INTEGER PRIMARY KEY,
    no           INTEGER NOT NULL,
    short        TEXT    NOT NULL,
    seq          INTEGER NOT NULL,
    ord          INTEGER NOT NULL,
    open         INTEGER NOT NULL,
    requested_at INTEGER NOT NULL,
    agent        TEXT    NOT NULL,
    tool         TEXT    NOT NULL,
    rule         TEXT    NOT NULL,
    bars         INTEGER NOT NULL,
    approvers    TEXT    NOT NULL,
    requesters   TEXT    NOT NULL,
    body         TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX approvals_of ON approvals (no, seq, ord);
CREATE INDEX approvals_open ON approvals
    (requested_at, short, seq, ord, agent, tool, rule, bars, approvers, requesters) WHERE open = 1;
CREATE INDEX approvals_all ON approvals
    (requested_at, short, seq, ord, open, agent, tool, rule, bars, approvers, requesters);
CREATE TABLE projection (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    version  INTEGER NOT NULL,
    progress TEXT
) STRICT;
INSERT INTO projection VALUES (1, 0, NULL);
ALTER TABLE threads ADD COLUMN requester TEXT NOT NULL DEFAULT '';
UPDATE threads SET requester = CASE WHEN json_valid(summary) THEN
    coalesce(json_extract(summary, '$.requester.kind') || ' ' || json_extract(summary, '$.requester.id'), '')
    ELSE '' END;
DROP INDEX threads_changed;
DROP INDEX threads_waiting;
CREATE INDEX threads_changed ON threads (updated_at, short, status, agent, requester);
CREATE INDEX threads_waiting ON threads (updated_at, short, status, agent, requester) WHERE waiting = 1;
";

/// What [`probe`] overwrites. Not a step of its own: a program that does not know the table still opens the file.
const PROBE: &str = "CREATE TABLE IF NOT EXISTS probe (one INTEGER PRIMARY KEY CHECK (one = 1), n INTEGER NOT NULL, room BLOB NOT NULL) STRICT";

/// How much is written to see whether there is room, in bytes: more than a usual commit, which changes some ten pages
/// of 4 KiB. Otherwise the last free kilobytes of a disk would look like room.
const PROBE_BYTES: i64 = 64 << 10;

/// Writes for real, and leaves one row that says how often.
pub fn probe(conn: &Connection) -> rusqlite::Result<()> {
    // SQLite leaves out pages that do not change, so the content is another one each time.
    conn.prepare_cached(
        "INSERT INTO probe VALUES (1, 1, randomblob(?1)) ON CONFLICT (one) DO UPDATE SET n = n + 1, room = excluded.room",
    )?
    .execute([PROBE_BYTES])
    .map(drop)
}

/// Bits of an event's rowid that hold its sequence number.
const SEQ_BITS: u32 = 31;

/// Most events of one thread: what [`SEQ_BITS`] can count.
pub const MAX_EVENTS: u64 = (1 << SEQ_BITS) - 1;

/// How long to wait for another program (a backup, an sqlite3 shell) that holds the file.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Page cache of the writer and of each reader, in KiB. The pages that every append touches (the ends
/// of the indexes, inner nodes) are a few hundred KiB at 100,000 threads.
const WRITER_CACHE_KIB: i64 = 2_048;
const READER_CACHE_KIB: i64 = 512;

/// Size in bytes to which the write-ahead log is cut back after it has grown (a long read in another
/// process keeps it from being reused).
const WAL_KEPT: i64 = 16 << 20;

/// What a change frees is overwritten where that costs no further write, so that deleting a thread finds no
/// earlier summary or row of it left behind. A delete itself overwrites everything.
pub const SECURE_DELETE: &str = "FAST";

/// The rowid of an event. `no` comes from the file, `seq` is at most [`MAX_EVENTS`].
pub fn event_id(no: i64, seq: u64) -> i64 {
    (no << SEQ_BITS) | i64::try_from(seq.min(MAX_EVENTS)).unwrap_or(i64::MAX) // reason: 31 bits fit
}

/// The one connection that writes. Makes the tables in an empty file and brings an older one up to date.
pub fn open_writer(path: &Path, durability: Durability) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = connect(path, flags, WRITER_CACHE_KIB)?;
    // The file is looked at before anything in it is changed.
    let found = version(&conn, path)?;
    let set_up = |conn: &mut Connection| -> rusqlite::Result<String> {
        let mode = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        let synchronous = match durability {
            Durability::Disk => "FULL",
            Durability::Process => "NORMAL",
        };
        conn.pragma_update(None, "synchronous", synchronous)?;
        conn.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
        conn.pragma_update(None, "secure_delete", SECURE_DELETE)?;
        if found < MIGRATIONS.len() {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for step in MIGRATIONS.iter().skip(found) {
                tx.execute_batch(step)?;
            }
            if found == 0 {
                // What is not there need not be computed again.
                tx.execute("UPDATE projection SET version = ?1", [Projection::CURRENT])?;
            }
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
            tx.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
            tx.commit()?;
        }
        conn.execute_batch(PROBE)?;
        Ok(mode)
    };
    match set_up(&mut conn).map_err(|e| explain(path, None, &e))?.as_str() {
        "wal" => Ok(conn),
        mode => Err(StoreError::NotWritable(format!(
            "The store {} cannot keep a write-ahead log there (SQLite chose `{mode}`). Put it on a local disk.",
            path.display()
        ))),
    }
}

/// A connection that only reads. Errors: `Missing`, `TooNew`, `Corrupt`.
pub fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let missing = || {
        StoreError::Missing(format!(
            "There is no store at {} yet. Start an agent first, or check `store.path`.",
            path.display()
        ))
    };
    if !path.exists() {
        return Err(missing());
    }
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX, READER_CACHE_KIB)?;
    match version(&conn, path)? {
        0 => Err(missing()),
        found if found < MIGRATIONS.len() => Err(StoreError::Failed(format!(
            "The store {} has the older format {found}. Start an agent once: that brings it up to date.",
            path.display()
        ))),
        _ => Ok(conn),
    }
}

fn connect(path: &Path, flags: OpenFlags, cache_kib: i64) -> Result<Connection, StoreError> {
    let open = || {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY_WAIT)?;
        conn.pragma_update(None, "cache_size", -cache_kib)?;
        Ok(conn)
    };
    open().map_err(|e| explain(path, None, &e))
}

/// The version of the file's layout; 0 for an empty file.
fn version(conn: &Connection, path: &Path) -> Result<usize, StoreError> {
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        Ok((
            conn.pragma_query_value(None, "application_id", |row| row.get(0))?,
            conn.pragma_query_value(None, "user_version", |row| row.get(0))?,
            conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
        ))
    };
    match read().map_err(|e| explain(path, None, &e))? {
        (0, 0, 0) => Ok(0),
        (APPLICATION_ID, found, _) => match usize::try_from(found) {
            Ok(found) if (1..=MIGRATIONS.len()).contains(&found) => Ok(found),
            Ok(0) | Err(_) => Err(StoreError::Corrupt(format!(
                "The store {} says that its format is {found}, which never existed. Restore a backup.",
                path.display()
            ))),
            Ok(_) => Err(StoreError::TooNew(format!(
                "The store {} was written by a newer twelve (format {found}; this one knows up to {}). Nothing was \
                 changed. Update twelve, or set `store.path` to another file.",
                path.display(),
                MIGRATIONS.len()
            ))),
        },
        _ => Err(StoreError::Corrupt(format!(
            "{} is a database of another program, not a store of twelve. Nothing was changed. Set `store.path` to \
             another file.",
            path.display()
        ))),
    }
}

/// What keeps a store from working, by the error of SQLite.
pub fn fault(error: &rusqlite::Error) -> Fault {
    let Some(code) = error.sqlite_error_code() else { return Fault::Corrupt };
    match code {
        ErrorCode::DiskFull => Fault::Full,
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Fault::ReadOnly,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Fault::Corrupt,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => Fault::Busy,
        _ => Fault::Broken,
    }
}

/// What an error of SQLite means here; `thread` if it came up while one thread was read or written.
pub fn explain(path: &Path, thread: Option<ShortId>, error: &rusqlite::Error) -> StoreError {
    let path = path.display();
    let (code, extended) = match error {
        rusqlite::Error::SqliteFailure(e, _) => (e.code, e.extended_code),
        // Columns that do not hold what we put there: an edited row.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => (ErrorCode::DatabaseCorrupt, ffi::SQLITE_CORRUPT),
        other => return StoreError::Failed(format!("The store {path} failed: {other}.")),
    };
    match code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => match thread {
            Some(thread) => damaged(&path, thread, &error.to_string()),
            None => StoreError::Corrupt(format!(
                "The store {path} is damaged or is no store at all ({error}). Restore a backup, or save what is \
                 readable with `sqlite3 {path} .recover`."
            )),
        },
        ErrorCode::SystemIoFailure if matches!(extended, ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ) => {
            StoreError::Failed(format!("The store {path} cannot be read ({error}). Check the disk."))
        }
        ErrorCode::DiskFull | ErrorCode::SystemIoFailure => StoreError::NotWritable(format!(
            "The store {path} could not be written ({error}). Nothing of this was kept; what was there can still be \
             read. Make room on the disk, then try again."
        )),
        ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => StoreError::NotWritable(format!(
            "The store {path} cannot be opened ({error}). Check that its directory exists and that this user may write \
             to it, or set `store.path`."
        )),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            StoreError::Locked(format!(
                "Another program keeps the file of the store {path} locked ({error}). End it (an sqlite3 shell, a \
                 backup), then try again."
            ))
        }
        ErrorCode::TooBig => StoreError::Failed(format!("An event is too large for the store {path} ({error}).")),
        _ => StoreError::Failed(format!("The store {path} failed: {error}.")),
    }
}

/// One thread cannot be read back.
pub fn damaged(path: &impl std::fmt::Display, thread: ShortId, why: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "Thread {thread} cannot be read back from {path}: {why}. Other threads are not affected. Restore a backup, or \
         save what is readable with `sqlite3 {path} .recover`."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_durability_has_its_sync_setting_in_a_write_ahead_log() {
        let dir = tempfile::tempdir().unwrap();
        for (name, durability, synchronous) in [("disk", Durability::Disk, 2), ("process", Durability::Process, 1)] {
            let conn = open_writer(&dir.path().join(name), durability).unwrap();
            assert_eq!(conn.pragma_query_value(None, "synchronous", |row| row.get(0)), Ok(synchronous));
            assert_eq!(conn.pragma_query_value(None, "journal_mode", |row| row.get(0)), Ok("wal".to_owned()));
        }
    }

    #[test]
    fn what_is_in_the_way_is_told_apart() {
        let found = |extended| fault(&rusqlite::Error::SqliteFailure(ffi::Error::new(extended), None));
        for (expected, codes) in [
            (Fault::Full, &[ffi::SQLITE_FULL][..]),
            (Fault::ReadOnly, &[ffi::SQLITE_READONLY, ffi::SQLITE_READONLY_DBMOVED, ffi::SQLITE_PERM][..]),
            (Fault::Corrupt, &[ffi::SQLITE_CORRUPT, ffi::SQLITE_CORRUPT_INDEX, ffi::SQLITE_NOTADB][..]),
            (Fault::Busy, &[ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED][..]),
            (Fault::Broken, &[ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_NOMEM][..]),
        ] {
            for code in codes {
                assert_eq!(found(*code), expected, "{code}");
            }
        }
    }

    #[test]
    fn what_sqlite_says_becomes_the_error_that_callers_branch_on() {
        let path = Path::new("threads.db");
        let kind =
            |extended| match explain(path, None, &rusqlite::Error::SqliteFailure(ffi::Error::new(extended), None)) {
                StoreError::Corrupt(_) => "corrupt",
                StoreError::NotWritable(_) => "not writable",
                StoreError::Locked(_) => "locked",
                StoreError::Failed(_) => "failed",
                other => panic!("{other}"),
            };
        for (expected, codes) in [
            ("corrupt", &[ffi::SQLITE_CORRUPT, ffi::SQLITE_CORRUPT_INDEX, ffi::SQLITE_NOTADB][..]),
            ("not writable", &[ffi::SQLITE_FULL, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_FSYNC][..]),
            ("not writable", &[ffi::SQLITE_READONLY, ffi::SQLITE_CANTOPEN, ffi::SQLITE_PERM][..]),
            ("locked", &[ffi::SQLITE_BUSY, ffi::SQLITE_BUSY_SNAPSHOT, ffi::SQLITE_LOCKED][..]),
            ("failed", &[ffi::SQLITE_IOERR_READ, ffi::SQLITE_TOOBIG, ffi::SQLITE_NOMEM][..]),
        ] {
            for code in codes {
                assert_eq!(kind(*code), expected, "{code}");
            }
        }
    }
}
