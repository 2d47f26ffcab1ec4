//! A summary as a row: columns for what is looked for or compared, JSON for the rest.

use rusqlite::Connection;
use serde_json::Value;

use super::approvals;
use crate::store::{Digest, Status, Summary};

/// Fields that have a column of their own and are therefore not in the JSON.
const IN_COLUMNS: [&str; 5] = ["version", "head", "agent", "due_at", "updated_at"];

/// What a row of `threads` holds beside its two names.
pub struct Row {
    pub version: i64,
    pub head: [u8; 32],
    pub status: i64,
    pub agent: String,
    pub waiting: bool,
    pub due_at: Option<i64>,
    pub updated_at: i64,
    /// For lists alone: the summary has it too, with the name.
    pub requester: String,
    pub json: String,
}

/// The number under which a status stands in the file. Numbers are for ever; new ones go to the end.
pub fn status_number(status: Status) -> i64 {
    match status {
        Status::Running => 1,
        Status::WaitingApproval => 2,
        Status::WaitingAnswer => 3,
        Status::WaitingMark => 4,
        Status::Sleeping => 5,
        Status::Paused => 6,
        Status::Done => 7,
        Status::Stopped => 8,
        Status::Cancelled => 9,
    }
}

impl Row {
    pub fn of(summary: &Summary) -> Result<Row, serde_json::Error> {
        let mut json = serde_json::to_value(summary)?;
        if let Some(fields) = json.as_object_mut() {
            for name in IN_COLUMNS {
                fields.remove(name);
            }
        }
        Ok(Row {
            version: i64::try_from(summary.version).unwrap_or(i64::MAX),
            head: summary.head.0,
            status: status_number(summary.status),
            agent: summary.agent.clone(),
            waiting: !summary.approvals.is_empty() || !summary.questions.is_empty(),
            due_at: summary.due_at.map(|t| t.0),
            updated_at: summary.updated_at.0,
            requester: approvals::requester(&summary.requester),
            json: json.to_string(),
        })
    }

    /// Reads the row of thread number `no`, which exists.
    pub fn read(conn: &Connection, no: i64) -> rusqlite::Result<Row> {
        conn.prepare_cached(
            "SELECT version, head, status, agent, waiting, due_at, updated_at, requester, summary FROM threads WHERE no = \
             ?1",
        )?
        .query_row([no], |r| {
            Ok(Row {
                version: r.get(0)?,
                head: r.get(1)?,
                status: r.get(2)?,
                agent: r.get(3)?,
                waiting: r.get(4)?,
                due_at: r.get(5)?,
                updated_at: r.get(6)?,
                requester: r.get(7)?,
                json: r.get(8)?,
            })
        })
    }

    /// The summary, or why it cannot be read back.
    pub fn summary(self) -> Result<Summary, String> {
        let wrong = |e: serde_json::Error| format!("its summary is not readable ({e})");
        let mut json: Value = serde_json::from_str(&self.json).map_err(wrong)?;
        if let Some(fields) = json.as_object_mut() {
            fields.insert("version".to_owned(), self.version.into());
            fields.insert("head".to_owned(), Digest(self.head).to_string().into());
            fields.insert("agent".to_owned(), self.agent.into());
            fields.insert("due_at".to_owned(), self.due_at.into());
            fields.insert("updated_at".to_owned(), self.updated_at.into());
        }
        let summary: Summary = serde_json::from_value(json).map_err(wrong)?;
        match status_number(summary.status) == self.status {
            true => Ok(summary),
            false => Err("its summary and its status do not agree".to_owned()),
        }
    }
}
