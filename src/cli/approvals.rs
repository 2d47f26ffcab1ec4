//! `twelve approvals`: what waits for a decision, everything that a decision covers, and the decision.
//!
//! Nobody approves what they have not seen: an approval names the digest of what was shown. On a
//! terminal the whole request is shown first and then asked; elsewhere `--digest` is required.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::inspect::{self, Doing, Leave, Looked, say, say_json};
use super::words;
use crate::agent::*;
use crate::app::Blueprint;
use crate::store::{ApprovalFilter, ApprovalRow, MAX_PAGE, Store};

#[derive(clap::Subcommand, Debug)]
pub enum Approvals {
    /// What waits for a decision, oldest first.
    List {
        #[arg(long)]
        json: bool,
    },
    /// Everything that a decision covers, the votes, and the history.
    Show {
        /// The id of the approval, or the beginning of the id of an open one.
        id: String,
        #[arg(long)]
        json: bool,
    },
    /// Let the call run, with exactly these arguments.
    Approve {
        id: String,
        #[arg(long, default_value = "")]
        note: String,
        /// The digest of what you have seen, at least its first 12 digits.
        #[arg(long)]
        digest: Option<String>,
        #[command(flatten)]
        doing: Doing,
    },
    /// Refuse the call.
    Deny {
        id: String,
        /// The agent and the requester read it.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        doing: Doing,
    },
    /// Ask for other arguments: a new revision, which needs approvals of its own.
    Edit {
        id: String,
        /// All arguments, as JSON.
        #[arg(long, value_name = "JSON", conflicts_with = "set", required_unless_present = "set")]
        args: Option<String>,
        /// One argument, by its dotted path; can be given several times.
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        #[command(flatten)]
        doing: Doing,
    },
}

pub async fn approvals(command: Approvals, blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    match command {
        Approvals::List { json } => list(&blueprint, json).await,
        Approvals::Show { id, json } => show(&blueprint, &id, json).await,
        Approvals::Approve { id, note, digest, doing } => approve(blueprint, &id, note, digest, &doing).await,
        Approvals::Deny { id, reason, doing } => {
            let (_, approval) = look_at(&blueprint, &id).await?;
            vote(blueprint, &approval, approval.digest.to_string(), Ballot::Deny { reason }, &doing).await
        }
        Approvals::Edit { id, args, set, doing } => edit(blueprint, &id, args, &set, &doing).await,
    }
}

/// Every open approval, oldest first. No log is read.
async fn open(store: &Store) -> anyhow::Result<Vec<ApprovalRow>> {
    if !store.projection().await?.is_current() {
        eprintln!(
            "twelve: the store was written by another version, and what waits is not all listed yet; start an agent once, that brings it up to date"
        );
    }
    let filter = ApprovalFilter { open: Some(true), ..ApprovalFilter::default() };
    let (mut open, mut after) = (Vec::new(), None);
    loop {
        let page = store.approvals(&filter, after, MAX_PAGE).await?;
        open.extend(page.items);
        // One that cannot be read must not hide the others.
        for id in page.damaged {
            eprintln!("twelve: {id} cannot be listed; `twelve approvals show {id}` reads it from its log");
        }
        after = page.next;
        if after.is_none() {
            return Ok(open);
        }
    }
}

async fn list(blueprint: &Blueprint, as_json: bool) -> anyhow::Result<ExitCode> {
    let open = match inspect::look(blueprint).await? {
        Some(store) => open(&store).await?,
        None if as_json => Vec::new(),
        None => {
            say(&format!("{}\n", inspect::NOTHING_YET))?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if as_json {
        say_json(&open.iter().map(row_json).collect())?;
    } else if open.is_empty() {
        say("Nothing waits for a decision.\n")?;
    } else {
        let now = inspect::now();
        let row = |a: &ApprovalRow| {
            vec![
                a.id.to_string(),
                a.risk.word().to_owned(),
                words::quote(&a.agent),
                words::age(a.requested_at, now),
                words::until(a.expires_at, now),
                visible::composed(&a.approvers.describe()),
                words::quote(&a.title),
            ]
        };
        let rows: Vec<_> = open.iter().map(row).collect();
        say(&words::table(&["APPROVAL", "RISK", "AGENT", "ASKED", "EXPIRES", "WAITS FOR", "WHAT"], &rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a list says of an approval; `show` says the rest, such as the arguments.
fn row_json(a: &ApprovalRow) -> Value {
    let ids = |people: &[Principal]| people.iter().map(|p| p.id.clone()).collect::<Vec<_>>();
    json!({
        "id": a.id,
        "thread": a.id.thread,
        "agent": a.agent,
        "tool": a.tool,
        "state": a.state,
        "revision": a.revision,
        "title": a.title,
        "digest": a.digest,
        "risk": a.risk,
        "rule": a.rule,
        "approvers": a.approvers,
        "requesters": ids(&a.requesters),
        "decided_by": ids(&a.decided_by),
        "requested_at": a.requested_at.to_string(),
        "expires_at": a.expires_at.to_string(),
    })
}

/// The approval that a person means: a whole id, or the beginning of the id of an open one.
async fn find(store: &Store, text: &str) -> anyhow::Result<(Looked, ApprovalId)> {
    let id = match text.parse::<ApprovalId>() {
        Ok(id) => id,
        Err(_) => {
            let open: Vec<ApprovalId> = open(store).await?.iter().map(|a| a.id).collect();
            let fits = |id: &&ApprovalId| {
                let full = id.to_string();
                full.starts_with(text) || full.trim_start_matches("apr_").starts_with(text)
            };
            let found: Vec<&ApprovalId> = open.iter().filter(fits).collect();
            let given = words::quote(text);
            match found.as_slice() {
                [one] => **one,
                [] if open.is_empty() => bail!("there is no open approval `{given}`; nothing waits for a decision"),
                [] => bail!("there is no open approval `{given}`; open are {}", inspect::named(&open)),
                many => bail!("`{given}` fits more than one approval: {}; type more of it", inspect::named(many)),
            }
        }
    };
    Ok((inspect::read(store, inspect::find_thread(store, id.thread.as_str()).await?).await?, id))
}

async fn look_at(blueprint: &Blueprint, text: &str) -> anyhow::Result<(Looked, Approval)> {
    let store = inspect::must_look(blueprint).await?;
    let (looked, id) = find(&store, text).await?;
    let approval = looked.thread.approvals.get(&id).cloned();
    let exist: Vec<ApprovalId> = looked.thread.approvals.keys().copied().collect();
    let approval = approval.with_context(|| match exist.as_slice() {
        [] => format!("there is no approval {id}; its thread has none"),
        exist => format!("there is no approval {id}; its thread has {}", inspect::named(exist)),
    })?;
    Ok((looked, *approval))
}

async fn show(blueprint: &Blueprint, text: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    let (looked, approval) = look_at(blueprint, text).await?;
    if !as_json {
        say(&words::approval_view(&looked.thread, &approval, &looked.events, inspect::now()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = words::approval_json(&approval);
    if let Some(shown) = shown.as_object_mut() {
        let history = words::history(approval.id, approval.call, &looked.events).map(words::event_json);
        shown.insert("thread".to_owned(), json!(looked.thread.short));
        shown.insert("agent".to_owned(), json!(looked.thread.agent));
        shown.insert("history".to_owned(), history.collect());
    }
    say_json(&shown)?;
    Ok(ExitCode::SUCCESS)
}

async fn approve(
    blueprint: Blueprint,
    text: &str,
    note: String,
    digest: Option<String>,
    doing: &Doing,
) -> anyhow::Result<ExitCode> {
    let (looked, approval) = look_at(&blueprint, text).await?;
    let seen = match digest {
        Some(digest) if digest.trim().len() < approval.digest.prefix().len() => {
            bail!("--digest needs at least the first {} digits of what you have seen", approval.digest.prefix().len())
        }
        Some(digest) => digest.trim().to_lowercase(),
        // What is no longer open needs no look: the refusal says what became of it.
        None if !approval.is_open() => approval.digest.to_string(),
        None if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() => {
            say(&words::approval_view(&looked.thread, &approval, &looked.events, inspect::now()))?;
            if !confirmed()? {
                bail!("nothing was decided");
            }
            approval.digest.to_string()
        }
        None => bail!(
            "nobody approves what they have not seen, and this is no terminal: look with `twelve approvals show {}`, then pass `--digest {}`",
            approval.id,
            approval.digest.prefix()
        ),
    };
    vote(blueprint, &approval, seen, Ballot::Approve { note }, doing).await
}

fn confirmed() -> anyhow::Result<bool> {
    say("\nApprove exactly this? [y/N] ")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("the answer cannot be read")?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

async fn vote(
    blueprint: Blueprint,
    approval: &Approval,
    digest: String,
    vote: Ballot,
    doing: &Doing,
) -> anyhow::Result<ExitCode> {
    let id = approval.id;
    let input = |by| Input::Vote { approval: id, digest, by, groups: Vec::new(), vote, source: None };
    super::threads::act(blueprint, doing, id.thread, input).await
}

async fn edit(
    blueprint: Blueprint,
    text: &str,
    args: Option<String>,
    set: &[String],
    doing: &Doing,
) -> anyhow::Result<ExitCode> {
    let (looked, approval) = look_at(&blueprint, text).await?;
    let raw = match args {
        Some(raw) => raw,
        None => changed(approval.args.clone(), set)?.to_string(),
    };
    // A settled approval has no call any more; the refusal says what became of it.
    let tool = looked.thread.calls.get(&approval.call).map(|c| c.gated.tool.clone()).unwrap_or_default();
    let leave = Leave::of(&blueprint);
    let by = doing.person()?;
    let runtime = inspect::take(blueprint).await?;
    let args = Box::new(runtime.propose(&tool, &raw));
    let vote = Input::Vote {
        approval: approval.id,
        digest: approval.digest.to_string(),
        by,
        groups: Vec::new(),
        vote: Ballot::Edit { args },
        source: None,
    };
    let changed = inspect::change(&runtime, approval.id.thread, vote, doing.wait_ms()).await?;
    inspect::report(&runtime, changed, leave).await
}

/// The arguments with `key=value` put in. What was a text stays one; elsewhere a value is JSON if it reads
/// as JSON, else a text.
fn changed(mut args: Value, set: &[String]) -> anyhow::Result<Value> {
    for one in set {
        let (path, text) = one
            .split_once('=')
            .with_context(|| format!("`--set {}` has no `=`; write --set key=value", words::quote(one)))?;
        let mut at = &mut args;
        for key in path.split('.') {
            if at.is_null() {
                *at = json!({});
            }
            let Some(members) = at.as_object_mut() else {
                bail!("`--set {}`: there is no `{}` to set something in", words::quote(one), words::quote(path));
            };
            at = members.entry(key).or_insert(Value::Null);
        }
        *at = match &at {
            Value::String(_) => Value::String(text.to_owned()),
            _ => crate::agent::json::parse(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        };
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(args: Value, pairs: &[&str]) -> Result<Value, String> {
        changed(args, &pairs.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_set_argument_keeps_its_type_where_it_had_one() {
        let args = json!({ "version": "1", "count": 2, "deep": { "flag": true } });
        let changed = set(args, &["version=1.10", "count=3", "deep.flag=false", "note=a=b"]).unwrap();
        assert_eq!(changed, json!({ "version": "1.10", "count": 3, "deep": { "flag": false }, "note": "a=b" }));
    }

    #[test]
    fn a_set_argument_that_fits_nowhere_is_refused() {
        assert_eq!(set(json!({}), &["version"]).unwrap_err(), "`--set version` has no `=`; write --set key=value");
        assert_eq!(
            set(json!({ "version": "1" }), &["version.x=2"]).unwrap_err(),
            "`--set version.x=2`: there is no `version.x` to set something in"
        );
    }
}
