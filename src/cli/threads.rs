//! `twelve threads`: what there is, how it got there, and a hand on the brake.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::inspect::{self, Doing, Leave, say, say_json};
use super::words;
use crate::agent::*;
use crate::app::Blueprint;
use crate::store::{ApprovalFilter, Filter, Loaded, MAX_PAGE, Store};

#[derive(clap::Subcommand, Debug)]
pub enum Threads {
    /// The threads, last change first.
    List {
        /// Only threads in this state.
        #[arg(long, value_parser = words::parse_status)]
        status: Option<Status>,
        /// Only threads of this agent.
        #[arg(long)]
        agent: Option<String>,
        /// Only threads with an open approval or question.
        #[arg(long)]
        waiting: bool,
        /// Also the records of what people pressed in chat, each a log of its own.
        #[arg(long)]
        intents: bool,
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[arg(long)]
        json: bool,
    },
    /// One thread: its state, whom it waits for, calls, approvals, budget, last events.
    Show {
        /// A thread id, or the beginning of a short id.
        id: String,
        #[arg(long)]
        json: bool,
    },
    /// Folds a log event by event, and checks that the end is what is stored.
    Replay {
        id: String,
        /// Stop after this event.
        #[arg(long, value_name = "N")]
        at: Option<u64>,
        #[arg(long)]
        json: bool,
    },
    /// A new thread with the context that this one had after an event. Open calls and approvals stay behind.
    Fork {
        id: String,
        #[arg(long, value_name = "N")]
        at: u64,
        /// The first message in the fork.
        #[arg(long)]
        message: Option<String>,
        #[command(flatten)]
        doing: Doing,
    },
    /// End the run before its next step; the thread can be used again.
    Stop(Control),
    /// Hold everything that has not started.
    Pause(Control),
    /// Go on after a pause.
    Resume(Control),
    /// End the thread for good.
    Cancel(Control),
    /// Say how a call ended whose outcome is unknown.
    Mark {
        /// The id of the call: `call_...`.
        call: String,
        how: How,
        /// What you saw; the agent reads it.
        #[arg(long, default_value = "")]
        note: String,
        #[command(flatten)]
        doing: Doing,
    },
    /// Answer an open question.
    Answer {
        /// The id of the question: `q_...`.
        question: String,
        text: String,
        #[command(flatten)]
        doing: Doing,
    },
    /// Threads that will not move on by themselves, why, and what to do.
    Stuck {
        /// How long people, or outstanding work, may take before they count.
        #[arg(long, value_name = "SPAN", default_value = "30m", value_parser = span::parse)]
        older: u64,
        #[arg(long)]
        json: bool,
    },
    /// Remove a thread for good. Only the digest of its last event stays.
    Delete {
        id: String,
        /// Without it nothing is removed.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        doing: Doing,
    },
}

#[derive(clap::Args, Debug)]
pub struct Control {
    id: String,
    /// What people are told.
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    doing: Doing,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub enum How {
    Succeeded,
    Failed,
    Retry,
}

pub async fn threads(command: Threads, blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    match command {
        Threads::List { status, agent, waiting, intents, limit, json } => {
            list(&blueprint, Filter { status, agent, waiting, requester: None, intents }, limit, json).await
        }
        Threads::Show { id, json } => show(&blueprint, &id, json).await,
        Threads::Replay { id, at, json } => replay(&blueprint, &id, at, json).await,
        Threads::Fork { id, at, message, doing } => fork(blueprint, &id, at, message, &doing).await,
        Threads::Stop(c) => control(blueprint, c, |by, why| Input::Stop { by, why }).await,
        Threads::Pause(c) => control(blueprint, c, |by, why| Input::Pause { by, why }).await,
        Threads::Resume(c) => control(blueprint, c, |by, _| Input::Resume { by }).await,
        Threads::Cancel(c) => control(blueprint, c, |by, why| Input::Cancel { by, why }).await,
        Threads::Mark { call, how, note, doing } => {
            let call: CallId = call.parse()?;
            let mark = match how {
                How::Succeeded => Mark::Succeeded { note },
                How::Failed => Mark::Failed { note },
                How::Retry => Mark::Retry,
            };
            act(blueprint, &doing, call.thread, |by| Input::Mark { call, by, groups: Vec::new(), mark }).await
        }
        Threads::Answer { question, text, doing } => {
            let question: QuestionId = question.parse()?;
            let input = |by| Input::Answer { question, by, groups: Vec::new(), text, source: None };
            act(blueprint, &doing, question.thread, input).await
        }
        Threads::Stuck { older, json } => stuck(&blueprint, older, json).await,
        Threads::Delete { id, yes, doing } => delete(blueprint, &id, yes, &doing).await,
    }
}

async fn list(blueprint: &Blueprint, filter: Filter, limit: usize, json: bool) -> anyhow::Result<ExitCode> {
    if let Some(agent) = &filter.agent
        && let Err(unknown) = blueprint.agents.get(agent)
    {
        // Threads outlive their agents: not an error, but the most likely mistake.
        eprintln!("twelve: {unknown}");
    }
    let Some(store) = inspect::look(blueprint).await? else {
        say(&if json { "[]\n".to_owned() } else { format!("{}\n", inspect::NOTHING_YET) })?;
        return Ok(ExitCode::SUCCESS);
    };
    // One more than asked for tells whether there are more.
    let (mut found, damaged) = inspect::list(&store, &filter, limit.saturating_add(1)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    if json {
        say_json(&found.iter().map(words::summary_json).collect())?;
    } else if found.is_empty() {
        say("No thread fits.\n")?;
    } else {
        let now = inspect::now();
        let row = |s: &crate::store::Summary| {
            vec![
                s.thread.short().to_string(),
                words::status_word(s.status).to_owned(),
                words::quote(&s.agent),
                words::age(s.updated_at, now),
                words::quote(s.requester.label()),
                words::quote(&s.title),
            ]
        };
        let rows: Vec<_> = found.iter().map(row).collect();
        say(&words::table(&["THREAD", "STATUS", "AGENT", "CHANGED", "BY", "TITLE"], &rows))?;
        if more {
            say(&format!("There are more than {limit}; see them with --limit.\n"))?;
        }
    }
    for short in damaged {
        eprintln!("twelve: thread {short} cannot be read back; `twelve audit verify {short}` says why");
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(blueprint: &Blueprint, id: &str, json: bool) -> anyhow::Result<ExitCode> {
    let store = inspect::must_look(blueprint).await?;
    let short = inspect::find_thread(&store, id).await?;
    let looked = inspect::read(&store, short).await?;
    if json {
        say_json(&words::thread_json(&looked.thread, &looked.events))?;
    } else {
        let limits = blueprint.agents.get(&looked.thread.agent).ok().map(|a| &a.spec.limits);
        say(&words::thread_view(&looked.thread, &looked.events, limits, inspect::now()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn replay(blueprint: &Blueprint, id: &str, at: Option<u64>, json: bool) -> anyhow::Result<ExitCode> {
    let store = inspect::must_look(blueprint).await?;
    let short = inspect::find_thread(&store, id).await?;
    let loaded = store.load(short, 0).await?;
    let version = loaded.summary.version;
    let upto = at.unwrap_or(version);
    if upto == 0 || upto > version {
        bail!("thread {short} has {}; --at is a number from 1 to {version}", words::count(version as usize, "event"));
    }
    let mut thread = Thread::vacant(loaded.summary.thread.clone());
    let mut steps = Vec::new();
    for (bytes, seq) in loaded.events.iter().zip(1..=upto) {
        let event = Event::decode(bytes, seq)?;
        if event.prev != thread.head {
            return Err(LogError::Chain { seq }).with_context(|| format!("thread {short}"));
        }
        let (folded, effects) = reduce(thread, &event, Digest::of(bytes));
        thread = folded;
        if json {
            let effects: Vec<_> =
                effects.iter().map(|(id, e)| json!({ "id": id, "effect": words::effect_line(e) })).collect();
            let mut step = words::event_json(&event);
            if let Some(step) = step.as_object_mut() {
                step.insert("effects".to_owned(), effects.into());
                step.insert("status".to_owned(), words::status_word(thread.status()).into());
            }
            steps.push(step);
        } else {
            let mut line = format!("{seq:>4}  {}  {}\n", event.at, words::event_line(&event));
            for (id, effect) in &effects {
                line.push_str(&format!("      -> {}  ({id})\n", words::effect_line(effect)));
            }
            say(&line)?;
        }
    }
    // A log of which only a part was folded has nothing to be compared with.
    let differences = if upto == version { differences(&store, &loaded).await? } else { vec![] };
    if json {
        say_json(&json!({
            "thread": words::summary_json(&crate::runtime::summary(&thread)),
            "events": steps,
            "complete": upto == version,
            "differences": differences,
        }))?;
    } else if upto < version {
        say(&format!("After event {upto} of {version} the thread was {}.\n", words::status_word(thread.status())))?;
    } else if differences.is_empty() {
        say(&format!(
            "The fold of {} is what is stored: {}.\n",
            words::count(upto as usize, "event"),
            words::status_word(thread.status())
        ))?;
    }
    if differences.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("the fold is not what is stored for thread {short}: {}", differences.join("; "))
}

/// What the stored summary and rows of approvals say that the log does not.
async fn differences(store: &Store, loaded: &Loaded) -> anyhow::Result<Vec<String>> {
    let (thread, folded) = crate::runtime::project(loaded.summary.thread.clone(), &loaded.events)?;
    let mut differences = differing_fields(&crate::runtime::summary(&thread), &loaded.summary)?;
    let filter = ApprovalFilter { thread: Some(thread.short), ..ApprovalFilter::default() };
    let (mut stored, mut after) = (BTreeMap::new(), None);
    loop {
        let page = store.approvals(&filter, after, MAX_PAGE).await?;
        differences.extend(page.damaged.iter().map(|id| format!("the row of {id} in the list is not readable")));
        stored.extend(page.damaged.into_iter().map(|id| (id, None)));
        stored.extend(page.items.into_iter().map(|row| (row.id, Some(row))));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // Rows of a thread that has moved on since its log was read are not those of that log.
    if store.summary(thread.short).await?.version != loaded.summary.version {
        return Ok(differences);
    }
    for row in folded {
        match stored.remove(&row.id) {
            None => differences.push(format!("{} is missing in the list of approvals", row.id)),
            Some(Some(stored)) => {
                let fields = differing_fields(&row, &stored)?;
                differences.extend(fields.into_iter().map(|field| format!("{}: {field}", row.id)));
            }
            Some(None) => {}
        }
    }
    differences.extend(stored.into_keys().map(|id| format!("the list has {id}, the log has not")));
    Ok(differences)
}

fn differing_fields<T: serde::Serialize>(folded: &T, stored: &T) -> anyhow::Result<Vec<String>> {
    let (folded, stored) = (serde_json::to_value(folded)?, serde_json::to_value(stored)?);
    let keys = |v: &serde_json::Value| v.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut all: Vec<String> = keys(&folded).into_iter().chain(keys(&stored)).collect();
    all.sort();
    all.dedup();
    let absent = serde_json::Value::Null;
    let differs = all.into_iter().filter_map(|key| {
        let (f, s) = (folded.get(&key).unwrap_or(&absent), stored.get(&key).unwrap_or(&absent));
        (f != s).then(|| format!("{key} is stored as {s}, the log says {f}"))
    });
    Ok(differs.collect())
}

async fn fork(
    blueprint: Blueprint,
    id: &str,
    at: u64,
    message: Option<String>,
    doing: &Doing,
) -> anyhow::Result<ExitCode> {
    let by = doing.person()?;
    let leave = Leave::of(&blueprint);
    let runtime = inspect::take(blueprint).await?;
    let parent = inspect::find_thread(&runtime.parts().store, id).await?;
    let version = runtime.thread(parent).await?.version;
    if at == 0 || at > version {
        bail!("thread {parent} has {}; --at is a number from 1 to {version}", words::count(version as usize, "event"));
    }
    let fork: ThreadId = format!("console:{}", uuid::Uuid::now_v7()).parse()?;
    let mut delivered = runtime.fork(parent, at, fork.clone(), by.clone()).await?;
    if let Answer::Refused(refusal) = &delivered.answer {
        bail!("thread {parent} cannot be forked. {refusal}");
    }
    if let Some(text) = message {
        let agent = runtime.thread(fork.short()).await?.agent;
        delivered = runtime.message(&fork, &agent, crate::runtime::Said::by(by, text)).await?;
    }
    let changed = inspect::follow(&runtime, delivered, 0, doing.wait_ms()).await?;
    say(&format!("Thread {} ({fork}) is a fork of {parent} at event {at}.\n", fork.short()))?;
    inspect::report(&runtime, changed, leave).await
}

async fn control(
    blueprint: Blueprint,
    control: Control,
    input: impl FnOnce(Principal, String) -> Input,
) -> anyhow::Result<ExitCode> {
    let Control { id, why, doing } = control;
    let by = doing.person()?;
    let short = inspect::find_thread(&inspect::must_look(&blueprint).await?, &id).await?;
    act(blueprint, &doing, short, |_| input(by, why)).await
}

/// Changes one thread and stays until it rests.
pub async fn act(
    blueprint: Blueprint,
    doing: &Doing,
    short: ShortId,
    input: impl FnOnce(Principal) -> Input,
) -> anyhow::Result<ExitCode> {
    let by = doing.person()?;
    let leave = Leave::of(&blueprint);
    let runtime = inspect::take(blueprint).await?;
    let changed = inspect::change(&runtime, short, input(by), doing.wait_ms()).await?;
    inspect::report(&runtime, changed, leave).await
}

async fn stuck(blueprint: &Blueprint, older: u64, json: bool) -> anyhow::Result<ExitCode> {
    let Some(store) = inspect::look(blueprint).await? else {
        say(&if json { "[]\n".to_owned() } else { format!("{}\n", inspect::NOTHING_YET) })?;
        return Ok(ExitCode::SUCCESS);
    };
    let now = inspect::now();
    let mut found = Vec::new();
    let mut checked = 0;
    let candidates =
        words::STATUSES.into_iter().filter(|s| !matches!(s, Status::Done | Status::Stopped | Status::Cancelled));
    let mut broken = Vec::new();
    for status in candidates {
        let filter = Filter { status: Some(status), ..Filter::everything() };
        let (threads, damaged) = inspect::list(&store, &filter, usize::MAX).await?;
        broken.extend(damaged);
        for summary in threads {
            checked += 1;
            match inspect::read(&store, summary.thread.short()).await {
                Ok(looked) => found.extend(
                    words::waits(&looked.thread, &looked.events)
                        .into_iter()
                        .filter(|wait| is_stuck(wait, &looked.thread, older, now))
                        .map(|wait| (looked.thread.short, wait)),
                ),
                Err(_) => broken.push(summary.thread.short()),
            }
        }
    }
    found.sort_by_key(|(_, wait)| wait.since);
    if json {
        let rows = found.iter().map(|(short, wait)| {
            let mut row = wait.json();
            if let Some(row) = row.as_object_mut() {
                row.insert("thread".to_owned(), json!(short));
            }
            row
        });
        say_json(&rows.collect())?;
    } else if found.is_empty() {
        say(&format!("Nothing is stuck: {} looked at.\n", words::count(checked, "open thread")))?;
    }
    for (short, wait) in found.iter().filter(|_| !json) {
        let who = if wait.is_for_people() { format!(" by {}", wait.who) } else { String::new() };
        say(&format!("{short}  {}{who}, {}\n  {}\n", wait.what, words::age(wait.since, now), wait.next))?;
    }
    for short in broken {
        eprintln!("twelve: thread {short} cannot be read; `twelve audit verify {short}` says why");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a wait will not end by itself, or should have ended by now.
fn is_stuck(wait: &words::Wait, thread: &Thread, older: u64, now: Timestamp) -> bool {
    let waited = now.ms_since(wait.since) >= older;
    match wait.kind {
        // Nobody can know that these need them unless they are told.
        "mark" => true,
        "model" if wait.is_for_people() => true,
        "model" => thread.model.retry_at.is_some_and(|at| now.ms_since(at) >= older),
        "sleep" => thread.next_timer().is_some_and(|at| now.ms_since(at) >= older),
        _ => waited,
    }
}

async fn delete(blueprint: Blueprint, id: &str, yes: bool, doing: &Doing) -> anyhow::Result<ExitCode> {
    let by = doing.person()?;
    let looking = inspect::must_look(&blueprint).await?;
    let short = inspect::find_thread(&looking, id).await?;
    let summary = looking.summary(short).await?;
    let what = format!("{}, head {}", words::count(summary.version as usize, "event"), summary.head);
    if !yes {
        bail!(
            "thread {short} ({}, {what}) would be removed for good; nothing was done. Keep a copy with `twelve audit export {short}`, then repeat with --yes",
            words::quote(&summary.title)
        );
    }
    looking.close().await?;
    let drain = Duration::from_millis(blueprint.config().runtime.drain_timeout);
    let runtime = inspect::take(blueprint).await?;
    let deleted = runtime.delete(short, &by).await;
    runtime.drain(drain).await?;
    let stone = deleted?;
    say(&format!(
        "Thread {short} is deleted: {} went, and nothing of it will run. Its head was {}.\n",
        words::count(stone.version as usize, "event"),
        stone.head
    ))?;
    Ok(ExitCode::SUCCESS)
}
