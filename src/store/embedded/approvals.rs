//! Rows of approvals: columns for what filters and orders look at, JSON for the rest.
//!
//! The two list indexes carry every column that a filter looks at, so which rows belong on a page, and how
//! many there are altogether, comes from one scan of an index that touches no row: of the open ones alone
//! where only those are asked for. 10,000 entries take a few milliseconds (`benches/store.rs`).
//!
//! Who may decide and who asked are lists, kept as text: each name is one line of JSON with a line break
//! before and after it. JSON has no raw line break, so `instr` finds whole names alone, and no name can be
//! written that reads as two.

use std::fmt::Write as _;
use std::path::Path;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params, params_from_iter};
use serde_json::Value;

use super::schema::explain;
use crate::agent::PrincipalKind;
use crate::store::{
    ApprovalCursor, ApprovalFilter, ApprovalId, ApprovalPage, ApprovalRow, Person, Principal, ShortId, StoreError,
    Timestamp,
};

/// Fields that have a column of their own and are therefore not in the JSON.
const IN_COLUMNS: [&str; 6] = ["id", "open", "requested_at", "agent", "tool", "rule"];

/// What a row of `approvals` holds beside the names of its thread.
pub struct Row {
    seq: i64,
    ord: i64,
    open: bool,
    requested_at: i64,
    agent: String,
    tool: String,
    rule: String,
    /// Whether those who asked may not decide.
    bars: bool,
    approvers: String,
    requesters: String,
    json: String,
}

impl Row {
    pub fn of(row: &ApprovalRow) -> Result<Row, serde_json::Error> {
        let mut json = serde_json::to_value(row)?;
        if let Some(fields) = json.as_object_mut() {
            for name in IN_COLUMNS {
                fields.remove(name);
            }
        }
        let users = row.approvers.users.iter().map(|user| name("user", user));
        let groups = row.approvers.groups.iter().map(|group| name("group", group));
        Ok(Row {
            seq: i64::try_from(row.id.seq).unwrap_or(i64::MAX),
            ord: i64::from(row.id.ord),
            open: row.open,
            requested_at: row.requested_at.0,
            agent: row.agent.clone(),
            tool: row.tool.clone(),
            rule: row.rule.clone(),
            bars: row.approvers.requester_may != Some(true),
            approvers: lines(users.chain(groups)),
            requesters: lines(row.requesters.iter().map(principal).chain(row.decided_by.iter().map(who_decided))),
            json: json.to_string(),
        })
    }

    /// Bytes of text, for the bound of a commit.
    pub fn size(&self) -> usize {
        self.json.len() + self.approvers.len() + self.requesters.len()
    }

    /// Puts it in the place of the row of the same approval, if there is one.
    pub fn write(&self, conn: &Connection, no: i64, short: ShortId) -> rusqlite::Result<()> {
        conn.prepare_cached(
            "INSERT INTO approvals
               (no, short, seq, ord, open, requested_at, agent, tool, rule, bars, approvers, requesters, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT (no, seq, ord) DO UPDATE SET open = ?5, requested_at = ?6, agent = ?7, tool = ?8,
               rule = ?9, bars = ?10, approvers = ?11, requesters = ?12, body = ?13",
        )?
        .execute(params![
            no,
            short.as_str(),
            self.seq,
            self.ord,
            self.open,
            self.requested_at,
            self.agent,
            self.tool,
            self.rule,
            self.bars,
            self.approvers,
            self.requesters,
            self.json
        ])?;
        Ok(())
    }
}

fn name(kind: &str, name: &str) -> String {
    Value::String(format!("{kind} {name}")).to_string()
}

/// A principal as [`Principal`] compares them: by kind and id.
pub fn principal(principal: &Principal) -> String {
    name(kind(principal.kind), &principal.id)
}

/// Who has decided stands among those who asked, under a word that no kind of principal has: the indexes
/// of lists carry that column.
fn who_decided(principal: &Principal) -> String {
    name("decided", &format!("{} {}", kind(principal.kind), principal.id))
}

/// The word under which a kind stands in the file: for ever, and as the migration to format 2 found it in
/// the summaries.
fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Human => "human",
        PrincipalKind::Service => "service",
        PrincipalKind::Agent => "agent",
        PrincipalKind::System => "system",
    }
}

/// The column by which lists find the threads that somebody started.
pub fn requester(principal: &Principal) -> String {
    format!("{} {}", kind(principal.kind), principal.id)
}

fn lines(names: impl Iterator<Item = String>) -> String {
    let mut list = String::from("\n");
    for name in names {
        list.push_str(&name);
        list.push('\n');
    }
    list
}

/// A question about rows: the text after `SELECT ... FROM approvals`, and its values in order.
struct Question {
    sql: String,
    values: Vec<Sql>,
}

impl Question {
    fn of(filter: &ApprovalFilter) -> Question {
        let ApprovalFilter { thread, open, agent, tool, rule, decider, visible_to } = filter;
        let index = match (thread, open) {
            (Some(_), _) => "approvals_of",
            (None, Some(true)) => "approvals_open",
            (None, Some(false) | None) => "approvals_all",
        };
        let mut question = Question { sql: format!("INDEXED BY {index} WHERE 1"), values: Vec::new() };
        if let Some(thread) = thread {
            question.sql.push_str(" AND no = (SELECT no FROM threads WHERE short = ?)");
            question.values.push(Sql::Text(thread.as_str().to_owned()));
        }
        match open {
            Some(true) => question.sql.push_str(" AND open = 1"),
            Some(false) => question.sql.push_str(" AND open = 0"),
            None => {}
        }
        for (column, wanted) in [("agent", agent), ("tool", tool), ("rule", rule)] {
            if let Some(wanted) = wanted {
                let _ = write!(question.sql, " AND {column} = ?"); // a String takes everything
                question.values.push(Sql::Text(wanted.clone()));
            }
        }
        if let Some(person) = decider {
            question.sql.push_str(" AND (");
            question.may_decide(person);
            question.sql.push_str(") AND NOT (bars AND (");
            question.mentions_any("requesters", person.principals().map(|own| principal(&own)));
            question.sql.push_str("))");
        }
        if let Some(person) = visible_to {
            question.sql.push_str(" AND (");
            let own = person.principals().flat_map(|own| [principal(&own), who_decided(&own)]);
            question.mentions_any("requesters", own);
            // The index of the open ones has no column that says so.
            question.sql.push_str(if *open == Some(true) { " OR (1 AND (" } else { " OR (open = 1 AND (" });
            question.may_decide(person);
            question.sql.push_str(")))");
        }
        question
    }

    /// Whether somebody is one of the approvers, as [`crate::agent::Approvers::includes`] has it.
    fn may_decide(&mut self, person: &Person) {
        if person.principal.kind != PrincipalKind::Human {
            // No name is empty. A constant would let SQLite drop the index that it was told to use.
            return self.mentions("approvers", String::new());
        }
        let own = person.also.iter().map(String::as_str);
        let users = ["*", person.principal.id.as_str()].into_iter().chain(own).map(|user| name("user", user));
        let groups = person.groups.iter().map(|group| name("group", group));
        self.mentions_any("approvers", users.chain(groups));
    }

    fn mentions_any(&mut self, column: &str, names: impl Iterator<Item = String>) {
        for (n, name) in names.enumerate() {
            if n > 0 {
                self.sql.push_str(" OR ");
            }
            self.mentions(column, name);
        }
    }

    fn mentions(&mut self, column: &str, name: String) {
        let _ = write!(self.sql, "instr({column}, ?)");
        self.values.push(Sql::Text(format!("\n{name}\n")));
    }
}

/// Which rows belong on the page comes from an index alone; then each is read for itself, so that a
/// damaged one takes no other with it.
pub fn read_page(
    conn: &Connection,
    path: &Path,
    filter: &ApprovalFilter,
    after: Option<ApprovalCursor>,
    limit: usize,
) -> Result<ApprovalPage, StoreError> {
    let (beyond, order) = if filter.open == Some(true) { (">", "ASC") } else { ("<", "DESC") };
    let Question { mut sql, mut values } = Question::of(filter);
    if let Some(ApprovalCursor { requested_at, id }) = after {
        let _ = write!(sql, " AND (requested_at, short, seq, ord) {beyond} (?, ?, ?, ?)");
        values.push(Sql::Integer(requested_at.0));
        values.push(Sql::Text(id.thread.as_str().to_owned()));
        values.push(Sql::Integer(i64::try_from(id.seq).unwrap_or(i64::MAX)));
        values.push(Sql::Integer(i64::from(id.ord)));
    }
    let _ = write!(sql, " ORDER BY requested_at {order}, short {order}, seq {order}, ord {order} LIMIT ?");
    // One more than asked for tells whether there is another page.
    values.push(Sql::Integer(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)));
    let mut found: Vec<(i64, ApprovalCursor)> = conn
        .prepare_cached(&format!("SELECT row, requested_at, short, seq, ord FROM approvals {sql}"))
        .and_then(|mut query| {
            query
                .query_map(params_from_iter(values), |row| {
                    let id = ApprovalId::new(super::short(row, 2)?, row.get::<_, i64>(3)?.unsigned_abs(), row.get(4)?);
                    Ok((row.get(0)?, ApprovalCursor { requested_at: Timestamp(row.get(1)?), id }))
                })?
                .collect()
        })
        .map_err(|e| explain(path, None, &e))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = if more { found.last().map(|(_, cursor)| *cursor) } else { None };
    let mut page = ApprovalPage { items: Vec::with_capacity(found.len()), damaged: Vec::new(), next };
    for (row, cursor) in found {
        match read_row(conn, row, cursor).map_err(|e| explain(path, Some(cursor.id.thread), &e)) {
            Ok(Ok(row)) => page.items.push(row),
            Ok(Err(why)) => {
                tracing::warn!(approval.id = %cursor.id, error = why, "an approval of the list cannot be read");
                page.damaged.push(cursor.id);
            }
            Err(StoreError::Corrupt(why)) => {
                tracing::warn!(approval.id = %cursor.id, error = %why, "an approval of the list cannot be read");
                page.damaged.push(cursor.id);
            }
            Err(other) => return Err(other),
        }
    }
    Ok(page)
}

pub fn count(conn: &Connection, path: &Path, filter: &ApprovalFilter) -> Result<u64, StoreError> {
    let Question { sql, values } = Question::of(filter);
    conn.prepare_cached(&format!("SELECT count(*) FROM approvals {sql}"))
        .and_then(|mut query| query.query_row(params_from_iter(values), |row| row.get::<_, i64>(0)))
        .map(i64::unsigned_abs)
        .map_err(|e| explain(path, None, &e))
}

/// One row, or why it cannot be read back.
fn read_row(conn: &Connection, row: i64, at: ApprovalCursor) -> rusqlite::Result<Result<ApprovalRow, String>> {
    let (open, agent, tool, rule, body): (bool, String, String, String, String) = conn
        .prepare_cached("SELECT open, agent, tool, rule, body FROM approvals WHERE row = ?1")?
        .query_row([row], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)))?;
    let read = || {
        let mut json: Value = serde_json::from_str(&body)?;
        if let Some(fields) = json.as_object_mut() {
            fields.insert("id".to_owned(), at.id.to_string().into());
            fields.insert("open".to_owned(), open.into());
            fields.insert("requested_at".to_owned(), at.requested_at.0.into());
            fields.insert("agent".to_owned(), agent.into());
            fields.insert("tool".to_owned(), tool.into());
            fields.insert("rule".to_owned(), rule.into());
        }
        serde_json::from_value(json)
    };
    Ok(read().map_err(|e: serde_json::Error| e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_be_written_that_reads_as_another() {
        let me = format!("\n{}\n", principal(&Principal::human("web:bob")));
        let others = ["web:bobby", "x\"\n\"human web:bob", "x\nhuman web:bob", "x\\\n\"human web:bob\"\ny", "WEB:BOB"];
        for other in others {
            let list = lines([Principal::human(other)].iter().map(principal));
            assert!(!list.contains(&me), "{list:?}");
        }
        let together = lines([Principal::human("a"), Principal::human("web:bob")].iter().map(principal));
        assert!(together.contains(&me), "{together:?}");
    }

    #[test]
    fn pages_and_counts_read_one_index_and_sort_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("threads.db");
        let conn = super::super::schema::open_writer(&path, crate::store::Durability::Process).unwrap();
        let person = Some(Person {
            principal: Principal::human("web:bob"),
            also: vec!["person:bob".into()],
            groups: vec!["ops".into()],
        });
        for open in [Some(true), Some(false), None] {
            let filter = ApprovalFilter {
                open,
                agent: Some("a".into()),
                tool: Some("t".into()),
                rule: Some("r".into()),
                decider: person.clone(),
                visible_to: person.clone(),
                thread: None,
            };
            let Question { sql, values } = Question::of(&filter);
            let order = if open == Some(true) { "ASC" } else { "DESC" };
            let columns = ["requested_at", "short", "seq", "ord"].map(|c| format!("{c} {order}")).join(", ");
            let sql =
                format!("EXPLAIN QUERY PLAN SELECT row, requested_at, short FROM approvals {sql} ORDER BY {columns}");
            let plan: Vec<String> = conn
                .prepare(&sql)
                .unwrap()
                .query_map(params_from_iter(values), |row| row.get(3))
                .unwrap()
                .collect::<rusqlite::Result<_>>()
                .unwrap();
            let index = if open == Some(true) { "approvals_open" } else { "approvals_all" };
            assert_eq!(plan, [format!("SCAN approvals USING COVERING INDEX {index}")]);
        }
    }
}
