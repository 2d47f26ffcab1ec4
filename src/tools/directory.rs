//! The directory: customers to look up and tickets that were opened, in a SQLite file of its own.
//!
//! Owns `<data_dir>/support.db`: its tables, the import of customers from CSV, the search, and ticket
//! numbers. Knows nothing of agents; the tools over it are in [`super::support`].
//!
//! The file is made by the first thing that writes to it, so a process that only looks leaves none behind.
//! Every operation opens the file anew (some 100 µs) and blocks its thread: call it where that is fine. Other
//! processes may use the file at the same time (WAL): readers never wait, a writer waits [`BUSY`] for its
//! turn.
//!
//! # Tables
//! - `customers`: a row for each customer as it was imported, beside it the same fields folded (lower case,
//!   without accents) for comparing. Columns of a CSV that have no meaning here are kept in `extra`, a JSON
//!   list of pairs, in the order of the file.
//! - `customer_text`: an index of three-letter pieces over the folded fields, which finds any part of a name.
//! - `tickets`: a row for each ticket. `effect` is unique: the same call, however often it runs, has one ticket.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use icu_normalizer::DecomposingNormalizerBorrowed;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, TransactionBehavior, params, params_from_iter,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text;
use crate::agent::Timestamp;

/// The file in the data directory.
pub const FILE: &str = "support.db";

/// How long a writer waits for another: an import of 100,000 customers holds the file for some 5 s.
pub const BUSY: Duration = Duration::from_secs(20);

/// Between two tries where SQLite does not wait by itself.
const PAUSE: Duration = Duration::from_millis(5);

/// Most customers of one import, and its most bytes: it is checked as a whole before anything is written.
pub const MAX_ROWS: usize = 1_000_000;
pub const MAX_CSV: u64 = 512 * 1024 * 1024;

/// Most columns of a CSV, and longest field in characters.
pub const MAX_COLUMNS: usize = 60;
pub const MAX_FIELD: usize = 4_000;

/// Longest id, name, address and so on: what is searched, in characters.
const MAX_KEY: usize = 320;

/// Refused lines that a report lists; it counts the others.
pub const MAX_REFUSED_SHOWN: usize = 20;

/// Progress of an import is told once in so many customers.
const PROGRESS: usize = 10_000;

/// Marks the file as ours (`PRAGMA application_id`): "12sd".
const APPLICATION_ID: i32 = 0x3132_7364;
const SCHEMA_VERSION: i32 = 1;

/// The sample that the demo starts with: fictional people at reserved domains.
pub const SAMPLE: &str = include_str!("../../config/demo/customers.csv");

const SCHEMA: &str = "
CREATE TABLE customers (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL, email TEXT NOT NULL, company TEXT NOT NULL, plan TEXT NOT NULL, notes TEXT NOT NULL,
    extra TEXT NOT NULL,
    id_key TEXT NOT NULL, name_key TEXT NOT NULL, email_key TEXT NOT NULL, company_key TEXT NOT NULL
) STRICT;
CREATE INDEX customers_id ON customers (id_key);
CREATE INDEX customers_name ON customers (name_key);
CREATE INDEX customers_email ON customers (email_key);
CREATE INDEX customers_company ON customers (company_key);
CREATE VIRTUAL TABLE customer_text USING fts5 (
    text, content = '', contentless_delete = 1, tokenize = 'trigram'
);
CREATE TABLE tickets (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    effect TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    customer TEXT, subject TEXT NOT NULL, body TEXT NOT NULL, priority TEXT NOT NULL
) STRICT;
";

/// One customer, as it was imported or as another system gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Customer {
    pub id: String,
    pub name: String,
    pub email: String,
    pub company: String,
    pub plan: String,
    pub notes: String,
    /// Further columns in the order of the file.
    #[serde(serialize_with = "as_map")]
    pub extra: Vec<(String, String)>,
}

fn as_map<S: serde::Serializer>(pairs: &[(String, String)], s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

/// What a search found: the best few, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub customers: Vec<Customer>,
    pub total: usize,
}

/// How urgent a ticket is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
    Urgent,
}

impl Priority {
    pub fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }
}

/// A ticket that is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTicket {
    /// The id of a customer in the directory.
    pub customer: Option<String>,
    pub subject: String,
    pub body: String,
    pub priority: Priority,
}

/// A ticket that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ticket {
    /// `T-17`.
    pub number: String,
    /// RFC 3339, UTC.
    pub opened: String,
    pub customer: Option<String>,
    pub subject: String,
    pub body: String,
    pub priority: String,
}

/// Why the directory did not do it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("there is no customer with the id `{0}`; look the customer up first, or leave `customer` out")]
    NoSuchCustomer(String),
    #[error("there is no customer with the id `{given}`; write `{id}`")]
    OtherSpelling { given: String, id: String },
    #[error("the directory is being written to by others for too long; try again")]
    Busy,
    #[error("{path} is not a directory of customers that this version of twelve can read")]
    Foreign { path: String },
    #[error("the directory {path} cannot be used: {why}")]
    Broken { path: String, why: String },
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// About the file as a whole.
    #[error("{0}; nothing was imported")]
    File(String),
    /// Lines that cannot be taken, the first [`MAX_REFUSED_SHOWN`] of them.
    #[error("{}", refused_words(.0, *.1))]
    Lines(Vec<Refused>, usize),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// A line of a CSV that is not a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where it begins in the file, from 1.
    pub line: u64,
    pub why: String,
}

fn refused_words(shown: &[Refused], total: usize) -> String {
    let lines = if total == 1 { "1 line is refused".to_owned() } else { format!("{total} lines are refused") };
    let mut said = format!("nothing was imported, because {lines}:");
    for Refused { line, why } in shown {
        let _ = write!(said, "\n  line {line}: {why}");
    }
    if total > shown.len() {
        let _ = write!(said, "\n  … and {} more", total - shown.len());
    }
    said
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    pub added: usize,
    pub changed: usize,
    pub unchanged: usize,
}

/// Where the file is. Nothing is opened or made by having this.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    pub fn at(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE) }
    }

    /// Adds customers, or changes those whose id is known. Columns that the file does not have stay as
    /// they are; customers that it does not have stay too. All of it or nothing.
    ///
    /// The first line names the columns: `id` has to be there; `name`, `email`, `company`, `plan` and
    /// `notes` are understood; others are kept as they are.
    ///
    /// `progress` is told how many customers were written so far.
    ///
    /// # Errors
    /// What is wrong with the file, or with which of its lines.
    pub fn import(&self, csv: impl Read, mut progress: impl FnMut(usize)) -> Result<Imported, ImportError> {
        let table = Table::read(csv)?;
        let mut connection = self.open_to_write()?;
        let mut write = || -> rusqlite::Result<Imported> {
            let write = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut done = Imported::default();
            for (i, row) in table.rows.iter().enumerate() {
                let known = by_id(&write, &table.value(row, Column::Id))?;
                let customer = table.customer(row, known.as_ref().map(|(_, customer)| customer));
                match known {
                    Some((_, known)) if known == customer => done.unchanged += 1,
                    Some((at, _)) => {
                        put(&write, Some(at), &customer)?;
                        done.changed += 1;
                    }
                    None => {
                        put(&write, None, &customer)?;
                        done.added += 1;
                    }
                }
                if (i + 1) % PROGRESS == 0 {
                    progress(i + 1);
                }
            }
            write.commit()?;
            Ok(done)
        };
        write().map_err(|e| self.error(&e).into())
    }

    /// Imports [`SAMPLE`].
    ///
    /// # Errors
    /// As [`Directory::import`].
    pub fn import_sample(&self) -> Result<Imported, ImportError> {
        self.import(SAMPLE.as_bytes(), |_| {})
    }

    /// At most `limit` customers that fit `query`. A customer with exactly this id or address is the only
    /// answer; otherwise every word has to stand in id, name, address or company, whole names first,
    /// then their beginnings. Words of less than three letters only narrow down what the others find; with
    /// no longer one, the text has to be the beginning of a field.
    ///
    /// # Errors
    /// The file is there and cannot be read. Without a file nobody is found.
    pub fn search(&self, query: &str, limit: usize) -> Result<Found, DirectoryError> {
        let Some(connection) = self.open_to_read()? else { return Ok(Found { customers: vec![], total: 0 }) };
        search(&connection, &fold(query), limit).map_err(|e| self.error(&e))
    }

    /// How many customers there are.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn count(&self) -> Result<usize, DirectoryError> {
        let Some(connection) = self.open_to_read()? else { return Ok(0) };
        let count = connection.query_row("SELECT count(*) FROM customers", [], |row| row.get::<_, i64>(0));
        count.map(|n| usize::try_from(n).unwrap_or(0)).map_err(|e| self.error(&e))
    }

    /// Opens a ticket, or finds the one that this effect opened before. Returns its number, `T-17`.
    ///
    /// # Errors
    /// [`DirectoryError`]; no ticket was opened then.
    pub fn open_ticket(&self, effect: &str, at: Timestamp, ticket: &NewTicket) -> Result<String, DirectoryError> {
        let mut connection = self.open_to_write()?;
        // The id has to be spelled as it is in the directory: what a rule saw is what the ticket is for.
        let mut other = None;
        let mut write = || -> rusqlite::Result<Option<i64>> {
            let write = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let before = "SELECT number FROM tickets WHERE effect = ?1";
            if let Some(number) = write.query_row(before, [effect], |row| row.get(0)).optional()? {
                return Ok(Some(number));
            }
            let customer = match &ticket.customer {
                None => None,
                Some(id) => match customer_id(&write, id)? {
                    Some(known) if known == *id => Some(known),
                    known => {
                        other = known;
                        return Ok(None);
                    }
                },
            };
            write.execute(
                "INSERT INTO tickets (effect, at, customer, subject, body, priority) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![effect, at.0, customer, ticket.subject, ticket.body, ticket.priority.word()],
            )?;
            let number = write.last_insert_rowid();
            write.commit()?;
            Ok(Some(number))
        };
        match write().map_err(|e| self.error(&e))? {
            Some(number) => Ok(format!("T-{number}")),
            None => {
                let given = text::one_line(ticket.customer.as_deref().unwrap_or_default(), 60);
                Err(match other {
                    Some(id) => DirectoryError::OtherSpelling { given, id: text::one_line(&id, 60) },
                    None => DirectoryError::NoSuchCustomer(given),
                })
            }
        }
    }

    /// The last tickets, newest first.
    ///
    /// # Errors
    /// The file is there and cannot be read. Without a file there are none.
    pub fn tickets(&self, limit: usize) -> Result<Vec<Ticket>, DirectoryError> {
        let Some(connection) = self.open_to_read()? else { return Ok(Vec::new()) };
        let read = || -> rusqlite::Result<Vec<Ticket>> {
            let mut rows = connection.prepare(
                "SELECT number, at, customer, subject, body, priority FROM tickets ORDER BY number DESC LIMIT ?1",
            )?;
            let ticket = |row: &Row<'_>| {
                Ok(Ticket {
                    number: format!("T-{}", row.get::<_, i64>(0)?),
                    opened: Timestamp(row.get(1)?).to_string(),
                    customer: row.get(2)?,
                    subject: row.get(3)?,
                    body: row.get(4)?,
                    priority: row.get(5)?,
                })
            };
            rows.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], ticket)?.collect()
        };
        read().map_err(|e| self.error(&e))
    }

    fn open_to_read(&self) -> Result<Option<Connection>, DirectoryError> {
        if !self.path.exists() {
            return Ok(None);
        }
        // Read-only would be refused where the other side's WAL has to be set up first; nothing is written.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> rusqlite::Result<(Connection, Kind)> {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(BUSY)?;
            let kind = kind(&*connection.unchecked_transaction()?)?;
            Ok((connection, kind))
        };
        match open().map_err(|e| self.error(&e))? {
            (connection, Kind::Ours) => Ok(Some(connection)),
            // Made by another process that has not written the tables yet.
            (_, Kind::Empty) => Ok(None),
            (_, Kind::Foreign) => Err(DirectoryError::Foreign { path: self.path.display().to_string() }),
        }
    }

    fn open_to_write(&self) -> Result<Connection, DirectoryError> {
        let broken = |e: &dyn std::fmt::Display| DirectoryError::Broken {
            path: self.path.display().to_string(),
            why: text::one_line(&e.to_string(), text::MAX_QUOTE),
        };
        if let Some(parent) = self.path.parent().filter(|p| !p.as_os_str().is_empty()) {
            // Customers are nobody else's business on this machine.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|e| broken(&e))?;
        }
        let open = || -> rusqlite::Result<Option<Connection>> {
            let mut connection = Connection::open(&self.path)?;
            keep_private(&self.path);
            connection.busy_timeout(BUSY)?;
            // Looked at before the file is touched in any way.
            if kind(&*connection.unchecked_transaction()?)? == Kind::Foreign {
                return Ok(None);
            }
            let write_ahead = || connection.pragma_update(None, "journal_mode", "WAL");
            // SQLite does not wait for its turn to change the mode. Of processes that make the file at the same
            // time one changes it, so the others find it changed.
            let started = Instant::now();
            while let Err(e) = write_ahead() {
                let taken = matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked));
                if !taken || started.elapsed() > BUSY {
                    return Err(e);
                }
                std::thread::sleep(PAUSE);
            }
            // A ticket whose number was told is there after a loss of power.
            connection.pragma_update(None, "synchronous", "FULL")?;
            // Two processes that start at once: one makes the tables, the other waits and finds them.
            let write = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            match kind(&write)? {
                Kind::Ours => drop(write),
                Kind::Empty => {
                    write.execute_batch(SCHEMA)?;
                    write.pragma_update(None, "application_id", APPLICATION_ID)?;
                    write.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                    write.commit()?;
                }
                Kind::Foreign => return Ok(None),
            }
            Ok(Some(connection))
        };
        let connection = open().map_err(|e| self.error(&e))?;
        connection.ok_or_else(|| DirectoryError::Foreign { path: self.path.display().to_string() })
    }

    fn error(&self, error: &rusqlite::Error) -> DirectoryError {
        use ErrorCode::{DatabaseBusy, DatabaseLocked, NotADatabase};
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => DirectoryError::Busy,
            Some(NotADatabase) => DirectoryError::Foreign { path: self.path.display().to_string() },
            _ => DirectoryError::Broken {
                path: self.path.display().to_string(),
                why: text::one_line(&error.to_string(), text::MAX_QUOTE),
            },
        }
    }
}

/// Whose a database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Empty,
    /// Another program's, or of another version of this one.
    Foreign,
}

/// Reads more than once, so it belongs into a transaction: another process may be making the tables.
fn kind(connection: &Connection) -> rusqlite::Result<Kind> {
    let mark = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let empty = || connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0));
    Ok(match (mark("application_id")?, mark("user_version")?) {
        (APPLICATION_ID, SCHEMA_VERSION) => Kind::Ours,
        (0, 0) if empty()? => Kind::Empty,
        _ => Kind::Foreign,
    })
}

/// Text as it is compared: without accents, in lower case, `ß` as `ss`, one space between words.
pub fn fold(text: &str) -> String {
    let decomposed = DecomposingNormalizerBorrowed::new_nfkd().normalize(text);
    // What is left over by the decomposition of accents: the block of combining diacritical marks.
    let bare: String = decomposed.chars().filter(|c| !('\u{300}'..='\u{36f}').contains(c)).collect();
    bare.to_lowercase().replace('ß', "ss").split_whitespace().collect::<Vec<_>>().join(" ")
}

const FIELDS: &str = "id, name, email, company, plan, notes, extra, row";

/// A row of [`FIELDS`].
fn customer(row: &Row<'_>) -> rusqlite::Result<Customer> {
    let extra: String = row.get(6)?;
    Ok(Customer {
        id: row.get(0)?,
        name: row.get(1)?,
        email: row.get(2)?,
        company: row.get(3)?,
        plan: row.get(4)?,
        notes: row.get(5)?,
        extra: serde_json::from_str(&extra).unwrap_or_default(),
    })
}

fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<(i64, Customer)>> {
    let mut one = connection.prepare_cached(&format!("SELECT {FIELDS} FROM customers WHERE id = ?1"))?;
    one.query_row([id], |row| Ok((row.get(7)?, customer(row)?))).optional()
}

/// The id as the directory spells it; `None` if it is nobody's, or more than one's but for its spelling.
fn customer_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<String>> {
    if let Some((_, exact)) = by_id(connection, id)? {
        return Ok(Some(exact.id));
    }
    let mut near = connection.prepare("SELECT id FROM customers WHERE id_key = ?1 LIMIT 2")?;
    let near: Vec<String> = near.query_map([fold(id)], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(if let [one] = near.as_slice() { Some(one.clone()) } else { None })
}

/// Writes a customer over the row `at`, or as a new one.
fn put(connection: &Connection, at: Option<i64>, c: &Customer) -> rusqlite::Result<()> {
    let extra = serde_json::to_string(&c.extra).unwrap_or_else(|_| "[]".to_owned());
    let keys = [&c.id, &c.name, &c.email, &c.company].map(|field| fold(field));
    let [id, name, email, company] = &keys;
    if let Some(at) = at {
        connection.prepare_cached("DELETE FROM customer_text WHERE rowid = ?1")?.execute([at])?;
    }
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO customers
                (row, id, name, email, company, plan, notes, extra, id_key, name_key, email_key, company_key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![at, c.id, c.name, c.email, c.company, c.plan, c.notes, extra, id, name, email, company])?;
    let at = at.unwrap_or_else(|| connection.last_insert_rowid());
    connection
        .prepare_cached("INSERT INTO customer_text (rowid, text) VALUES (?1, ?2)")?
        .execute(params![at, keys.join("\n")])?;
    Ok(())
}

/// `query` is folded.
fn search(connection: &Connection, query: &str, limit: usize) -> rusqlite::Result<Found> {
    if query.is_empty() {
        return Ok(Found { customers: vec![], total: 0 });
    }
    let exact = "id_key = ?1 OR email_key = ?1";
    let found = select(connection, exact, &[query.to_owned()], limit)?;
    if found.total > 0 {
        return Ok(found);
    }
    // A piece of the index has three letters, so a shorter word cannot be looked up in it.
    let (long, short): (Vec<&str>, Vec<&str>) = query.split(' ').partition(|word| word.chars().count() >= 3);
    if long.is_empty() {
        // Up to the last text that begins with the query: ranges of the four indexes.
        let begins = "id_key >= ?1 AND id_key < ?2 OR name_key >= ?1 AND name_key < ?2
             OR email_key >= ?1 AND email_key < ?2 OR company_key >= ?1 AND company_key < ?2";
        return select(connection, begins, &[query.to_owned(), format!("{query}\u{10ffff}")], limit);
    }
    let quoted: Vec<String> = long.iter().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
    let mut which = "?1 <> '' AND row IN (SELECT rowid FROM customer_text WHERE customer_text MATCH ?2)".to_owned();
    let mut values = vec![query.to_owned(), quoted.join(" AND ")];
    for word in short {
        values.push(word.to_owned());
        let text = "id_key || char(10) || name_key || char(10) || email_key || char(10) || company_key";
        let _ = write!(which, " AND instr({text}, ?{}) > 0", values.len());
    }
    select(connection, &which, &values, limit)
}

/// The customers of a condition whose first value is the query: whole names first, then beginnings.
fn select(connection: &Connection, which: &str, values: &[String], limit: usize) -> rusqlite::Result<Found> {
    let count = format!("SELECT count(*) FROM customers WHERE {which}");
    let total: i64 = connection.query_row(&count, params_from_iter(values), |row| row.get(0))?;
    let mut found = connection.prepare(&format!(
        "SELECT {FIELDS} FROM customers WHERE {which} ORDER BY
             CASE WHEN name_key = ?1 OR company_key = ?1 THEN 0
                  WHEN instr(name_key, ?1) = 1 OR instr(email_key, ?1) = 1 OR instr(company_key, ?1) = 1 THEN 1
                  ELSE 2 END, name_key, id LIMIT {limit}"
    ))?;
    let customers = found.query_map(params_from_iter(values), customer)?.collect::<Result<_, _>>()?;
    Ok(Found { customers, total: usize::try_from(total).unwrap_or(0) })
}

/// Where a column of a CSV goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    Id,
    Name,
    Email,
    Company,
    Plan,
    Notes,
    /// By its place in the header.
    Extra(usize),
}

/// A whole CSV, checked.
struct Table {
    header: Vec<String>,
    columns: Vec<Column>,
    rows: Vec<csv::StringRecord>,
}

impl Table {
    fn read(csv: impl Read) -> Result<Self, ImportError> {
        let file = |why: String| ImportError::File(why);
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(Bounded { inner: csv, left: MAX_CSV });
        let unreadable = |e: &csv::Error| match e.kind() {
            csv::ErrorKind::Utf8 { .. } => {
                file(format!("{}the text is not UTF-8; save the file with that encoding", line_of(e)))
            }
            csv::ErrorKind::Io(e) => file(format!("the file cannot be read: {e}")),
            _ => file(format!("{}it is not CSV", line_of(e))),
        };
        let header = reader.headers().map_err(|e| unreadable(&e))?.clone();
        let header: Vec<String> = header
            .iter()
            .enumerate()
            .map(|(i, name)| if i == 0 { name.trim_start_matches('\u{feff}') } else { name }.to_owned())
            .collect();
        let columns = columns(&header).map_err(file)?;
        let mut table = Self { header, columns, rows: Vec::new() };
        let (mut refused, mut count) = (Vec::new(), 0);
        let mut seen: HashMap<String, u64> = HashMap::new();
        for record in reader.into_records() {
            let record = record.map_err(|e| unreadable(&e))?;
            let line = record.position().map_or(0, csv::Position::line);
            if let Err(why) = table.check(&record, line, &mut seen) {
                count += 1;
                if refused.len() < MAX_REFUSED_SHOWN {
                    refused.push(Refused { line, why });
                }
                continue;
            }
            if table.rows.len() == MAX_ROWS {
                return Err(file(format!("there are more than {MAX_ROWS} customers in it; split it")));
            }
            table.rows.push(record);
        }
        if count > 0 {
            return Err(ImportError::Lines(refused, count));
        }
        if table.rows.is_empty() {
            return Err(file("there is no customer in it".to_owned()));
        }
        Ok(table)
    }

    fn check(&self, record: &csv::StringRecord, line: u64, seen: &mut HashMap<String, u64>) -> Result<(), String> {
        let (has, wants) = (record.len(), self.header.len());
        if has != wants {
            return Err(format!("it has {has} fields, the header {wants}"));
        }
        for (column, (field, name)) in self.columns.iter().zip(record.iter().zip(&self.header)) {
            let most = match column {
                Column::Id | Column::Name | Column::Email | Column::Company | Column::Plan => MAX_KEY,
                Column::Notes | Column::Extra(_) => MAX_FIELD,
            };
            if field.chars().count() > most {
                return Err(format!("`{name}` has more than {most} characters"));
            }
        }
        let id = self.value(record, Column::Id);
        if id.is_empty() {
            return Err("`id` is empty".to_owned());
        }
        let email = self.value(record, Column::Email);
        let looks = |email: &str| {
            email.split_once('@').is_some_and(|(l, d)| !l.is_empty() && !d.is_empty() && !d.contains('@'))
                && !email.contains(char::is_whitespace)
        };
        if !email.is_empty() && !looks(&email) {
            return Err(format!("`{}` is not a mail address", text::one_line(&email, 60)));
        }
        match seen.insert(id.clone(), line) {
            Some(first) => Err(format!("the id `{}` stands in line {first} already", text::one_line(&id, 60))),
            None => Ok(()),
        }
    }

    fn value(&self, record: &csv::StringRecord, column: Column) -> String {
        let at = self.columns.iter().position(|c| *c == column);
        at.and_then(|at| record.get(at)).unwrap_or_default().to_owned()
    }

    /// The customer of a row, over what is known of it.
    fn customer(&self, record: &csv::StringRecord, known: Option<&Customer>) -> Customer {
        let mut customer = known.cloned().unwrap_or_default();
        for (column, (field, name)) in self.columns.iter().zip(record.iter().zip(&self.header)) {
            let place = match column {
                Column::Id => &mut customer.id,
                Column::Name => &mut customer.name,
                Column::Email => &mut customer.email,
                Column::Company => &mut customer.company,
                Column::Plan => &mut customer.plan,
                Column::Notes => &mut customer.notes,
                Column::Extra(_) => match customer.extra.iter_mut().find(|(known, _)| known == name) {
                    Some((_, value)) => value,
                    None => {
                        customer.extra.push((name.clone(), field.to_owned()));
                        continue;
                    }
                },
            };
            field.clone_into(place);
        }
        customer
    }
}

/// What the columns mean.
fn columns(header: &[String]) -> Result<Vec<Column>, String> {
    if header.len() > MAX_COLUMNS {
        return Err(format!("the header has more than {MAX_COLUMNS} columns"));
    }
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    let mut columns = Vec::with_capacity(header.len());
    for (i, name) in header.iter().enumerate() {
        let key = fold(name);
        if key.is_empty() || name.chars().count() > MAX_KEY || name.chars().any(char::is_control) {
            return Err(format!("column {} of the header has no usable name", i + 1));
        }
        columns.push(match key.as_str() {
            "id" => Column::Id,
            "name" => Column::Name,
            "email" | "e-mail" => Column::Email,
            "company" => Column::Company,
            "plan" => Column::Plan,
            "notes" => Column::Notes,
            _ => Column::Extra(i),
        });
        let key = if key == "e-mail" { "email".to_owned() } else { key };
        if seen.insert(key, ()).is_some() {
            return Err(format!("the header names `{}` twice", text::one_line(name, 40)));
        }
    }
    if !columns.contains(&Column::Id) {
        let first = header.first().map_or("", String::as_str);
        let hint = match first.chars().find(|c| matches!(c, ';' | '\t')) {
            Some(c) if header.len() == 1 => {
                format!("; its columns seem to be separated by {c:?}, and a comma is wanted")
            }
            _ => "; the first line has to name the columns, such as id,name,email,company,plan,notes".to_owned(),
        };
        return Err(format!("the header names no column `id`{hint}"));
    }
    Ok(columns)
}

fn line_of(error: &csv::Error) -> String {
    error.position().map_or(String::new(), |at| format!("line {}: ", at.line()))
}

/// A reader that fails, instead of ending, after so many bytes: half a file must not pass for a whole one.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_CSV} bytes")))?;
        Ok(read)
    }
}

/// Takes away what others may do with the file. By its name: closing a descriptor of it would drop the locks that
/// SQLite has on it in this process. What SQLite puts beside it gets the same rights.
fn keep_private(path: &Path) {
    let Ok(found) = std::fs::metadata(path) else { return };
    let mode = found.permissions().mode();
    if mode & 0o077 != 0
        && let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o7700))
    {
        tracing::warn!(%error, "the directory of customers can be read by others, and this user may not change that");
    }
}
