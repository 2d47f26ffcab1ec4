//! `twelve audit`: is every log the one that was written, and a copy of them for elsewhere.
//!
//! Verifying finds what was edited, removed, inserted or moved by someone who did not also rewrite every
//! event after it and the recorded head. Against someone who did, compare heads with an earlier export:
//! a head that was exported once can never come back under another history.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::inspect::{self, say, say_json};
use super::words;
use crate::agent::*;
use crate::app::Blueprint;
use crate::store::{Cursor, Filter, Loaded, MAX_PAGE, Store, StoreError, Tombstone};

#[derive(clap::Subcommand, Debug)]
pub enum Audit {
    /// Check the hash chain of every log, or of one.
    Verify {
        id: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Every event as it is stored, one a line, and a line with version and head after each thread.
    Export {
        id: Option<String>,
        /// A new file; stdout without it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

pub async fn audit(command: Audit, blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    let store = inspect::must_look(&blueprint).await?;
    match command {
        Audit::Verify { id, json } => verify(&store, id.as_deref(), json).await,
        Audit::Export { id, out } => export(&store, id.as_deref(), out.as_deref()).await,
    }
}

/// One thread's log and what is wrong with it.
struct Checked {
    events: usize,
    found: Option<String>,
}

/// Reads a log and checks it against the recorded version and head. `None`: it was deleted or forgotten meanwhile.
async fn check(store: &Store, short: ShortId) -> anyhow::Result<Option<(Checked, Option<Loaded>)>> {
    let loaded = match store.load(short, 0).await {
        Ok(loaded) => loaded,
        Err(StoreError::Corrupt(why)) => return Ok(Some((Checked { events: 0, found: Some(why) }, None))),
        Err(StoreError::Deleted(_) | StoreError::Unknown(_)) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let found = broken(&loaded, short);
    Ok(Some((Checked { events: loaded.events.len(), found }, Some(loaded))))
}

/// What is wrong with a log that the store could read.
fn broken(loaded: &Loaded, short: ShortId) -> Option<String> {
    let summary = &loaded.summary;
    if summary.thread.short() != short {
        return Some(format!("its summary belongs to another thread ({})", words::quote(summary.thread.as_str())));
    }
    if let Some(error) = verify_chain(&loaded.events, summary.version, summary.head) {
        return Some(error.to_string());
    }
    let mut thread = Thread::vacant(summary.thread.clone());
    thread.replay(&loaded.events).err().map(|error| error.to_string())
}

/// All threads, also those that change while the pages are read: they move to the front, so the front is
/// read again until it holds nothing new.
async fn every_thread(store: &Store) -> anyhow::Result<BTreeSet<ShortId>> {
    let mut all = BTreeSet::new();
    let mut seen_upto: Option<Timestamp> = None;
    loop {
        let mut newest = None;
        let mut new = false;
        let mut after: Option<Cursor> = None;
        loop {
            let page = store.list(&Filter::everything(), after, MAX_PAGE).await?;
            newest = newest.or(page.items.first().map(|s| s.updated_at));
            let known = page.items.last().is_some_and(|s| seen_upto.is_some_and(|seen| s.updated_at < seen));
            for short in page.items.iter().map(|s| s.thread.short()).chain(page.damaged) {
                new |= all.insert(short);
            }
            after = page.next;
            if after.is_none() || known {
                break;
            }
        }
        if !new {
            return Ok(all);
        }
        seen_upto = newest;
    }
}

async fn every_tombstone(store: &Store) -> anyhow::Result<Vec<Tombstone>> {
    let mut all: Vec<Tombstone> = Vec::new();
    loop {
        let page = store.tombstones(all.last().map(|t| t.thread), MAX_PAGE).await?;
        let last = page.len() < MAX_PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

async fn verify(store: &Store, id: Option<&str>, as_json: bool) -> anyhow::Result<ExitCode> {
    let (threads, stones) = match id {
        Some(id) => (BTreeSet::from([inspect::find_thread(store, id).await?]), Vec::new()),
        None => (every_thread(store).await?, every_tombstone(store).await?),
    };
    let (mut intact, mut events, mut bad) = (0, 0, Vec::new());
    for short in threads {
        let Some((checked, _)) = check(store, short).await? else { continue };
        match checked.found {
            Some(found) => bad.push((short, found)),
            None => {
                intact += 1;
                events += checked.events;
            }
        }
    }
    if as_json {
        let bad: Vec<Value> = bad.iter().map(|(short, found)| json!({ "thread": short, "found": found })).collect();
        say_json(
            &json!({ "threads": intact + bad.len(), "intact": intact, "events": events, "broken": bad, "deleted": stones.len() }),
        )?;
    } else {
        for (short, found) in &bad {
            say(&format!("{short}  BROKEN  {}\n", visible::composed(found)))?;
        }
        let deleted = match stones.len() {
            0 => String::new(),
            n => format!(" {} deleted; the heads are kept.", words::count(n, "thread")),
        };
        say(&format!(
            "{} with {} as written.{deleted}\n",
            words::count(intact, "thread"),
            words::count(events, "event")
        ))?;
    }
    if bad.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!(
        "{} not the log that was written: {}. Keep the file as evidence and restore a backup",
        if bad.len() == 1 { "1 thread is".to_owned() } else { format!("{} threads are", bad.len()) },
        inspect::named(&bad.iter().map(|(short, _)| *short).collect::<Vec<_>>())
    )
}

async fn export(store: &Store, id: Option<&str>, out: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (threads, stones) = match id {
        Some(id) => (BTreeSet::from([inspect::find_thread(store, id).await?]), Vec::new()),
        None => (every_thread(store).await?, every_tombstone(store).await?),
    };
    let mut to: Box<dyn Write> = match out {
        Some(path) => {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
            let file = file.map_err(|e| match e.kind() {
                std::io::ErrorKind::AlreadyExists => anyhow::anyhow!(
                    "{} exists, and an export never overwrites; name another file, or move that one away",
                    path.display()
                ),
                _ => anyhow::anyhow!("{} cannot be written: {e}", path.display()),
            })?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let (mut written, mut events, mut bad) = (0, 0, Vec::new());
    for short in threads {
        let Some((checked, loaded)) = check(store, short).await? else { continue };
        if let Some(found) = checked.found {
            eprintln!("twelve: thread {short}: {}", visible::composed(&found));
            bad.push(short);
        }
        let Some(loaded) = loaded else { continue };
        if loaded.events.iter().any(|bytes| bytes.contains(&b'\n')) {
            eprintln!("twelve: thread {short} is left out: an event holds a line break, which nothing here writes");
            continue;
        }
        for bytes in &loaded.events {
            to.write_all(bytes).and_then(|()| to.write_all(b"\n")).context("the export cannot be written")?;
        }
        let end = json!({ "thread": loaded.summary.thread, "short": short, "version": loaded.summary.version, "head": loaded.summary.head });
        writeln!(to, "{end}").context("the export cannot be written")?;
        written += 1;
        events += loaded.events.len();
    }
    for stone in &stones {
        let line = json!({ "deleted": stone.thread, "version": stone.version, "head": stone.head, "at": stone.at.to_string(), "by": stone.by });
        writeln!(to, "{line}").context("the export cannot be written")?;
    }
    to.flush().context("the export cannot be written")?;
    if let Some(path) = out {
        say(&format!(
            "{} with {} in {}.\n",
            words::count(written, "thread"),
            words::count(events, "event"),
            path.display()
        ))?;
    }
    if bad.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("not intact: {}; `twelve audit verify` says more", inspect::named(&bad))
}
