//! What the commands that look and decide have in common: finding what a person means, reading a store
//! that another process may be writing, and changing one thread and waiting until it rests.
//!
//! Looking takes no lock. Deciding takes the store for this process alone, and only for as long as the
//! change and what follows from it takes: nothing is held while a person thinks.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::sync::broadcast::error::RecvError;

use super::words;
use crate::agent::*;
use crate::app::Blueprint;
use crate::platform::Platforms;
use crate::runtime::{Clock, Delivered, Runtime};
use crate::store::{Cursor, Filter, MAX_PAGE, Store, StoreError, Summary};

pub use super::approvals::{Approvals, approvals};
pub use super::audit::{Audit, audit};
pub use super::threads::{Threads, threads};

/// What is said where there is no store yet.
pub const NOTHING_YET: &str = "nothing has happened yet: start with `twelve chat deployment`";
/// Names that an error lists before it says how many more there are.
const MAX_NAMED: usize = 8;

/// Who decides, and how long the command stays to see what comes of it.
#[derive(clap::Args, Clone, Debug)]
pub struct Doing {
    /// Who you are, instead of $USER.
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// How long to wait for the thread to come to rest.
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = span::parse)]
    wait: u64,
}

impl Doing {
    /// Milliseconds to wait for the thread to rest.
    pub fn wait_ms(&self) -> u64 {
        self.wait
    }

    /// The person at this terminal.
    ///
    /// # Errors
    /// Without a name nobody decides.
    pub fn person(&self) -> anyhow::Result<Principal> {
        let name = self.name.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_default();
        let name = name.trim();
        if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            bail!("it is not known who you are, and decisions carry a name: pass `--as NAME` or set USER");
        }
        Ok(Principal::human(format!("console:{name}")))
    }
}

/// Writes to stdout. A reader that has gone away (`| head`) is no error.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("the output cannot be written"),
        _ => Ok(()),
    }
}

pub fn say_json(value: &serde_json::Value) -> anyhow::Result<()> {
    say(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

pub fn now() -> Timestamp {
    Clock::System.now()
}

/// The store to look at; `None` if nothing has happened yet.
pub async fn look(blueprint: &Blueprint) -> anyhow::Result<Option<Store>> {
    match Store::open_read_only(&blueprint.config().store_path()).await {
        Ok(store) => Ok(Some(store)),
        Err(StoreError::Missing(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The store to look at, where there is nothing to do without one.
pub async fn must_look(blueprint: &Blueprint) -> anyhow::Result<Store> {
    look(blueprint).await?.context(NOTHING_YET)
}

/// One thread, folded, with all its events.
pub struct Looked {
    pub thread: Thread,
    pub events: Vec<Event>,
    pub summary: Summary,
}

/// Reads and folds a thread.
///
/// # Errors
/// Whatever is wrong with its log.
pub async fn read(store: &Store, short: ShortId) -> anyhow::Result<Looked> {
    let loaded = store.load(short, 0).await?;
    let in_thread = || format!("thread {short}; `twelve audit verify {short}` looks closer");
    let mut thread = Thread::vacant(loaded.summary.thread.clone());
    thread.replay(&loaded.events).with_context(in_thread)?;
    let decode = |(bytes, seq): (&Vec<u8>, u64)| Event::decode(bytes, seq);
    let events = loaded.events.iter().zip(1..).map(decode).collect::<Result<_, _>>().with_context(in_thread)?;
    Ok(Looked { thread, events, summary: loaded.summary })
}

/// Every summary that fits, page by page, up to `limit`; and the threads that cannot be read back.
pub async fn list(store: &Store, filter: &Filter, limit: usize) -> anyhow::Result<(Vec<Summary>, Vec<ShortId>)> {
    let (mut items, mut damaged) = (Vec::new(), Vec::new());
    let mut after: Option<Cursor> = None;
    while items.len() < limit {
        let page = store.list(filter, after, (limit - items.len()).min(MAX_PAGE)).await?;
        items.extend(page.items);
        damaged.extend(page.damaged);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok((items, damaged))
}

/// `a, b, c and 4 more`.
pub fn named<T: ToString>(items: &[T]) -> String {
    let mut names: Vec<String> = items.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    if items.len() > MAX_NAMED {
        names.push(format!("{} more", items.len() - MAX_NAMED));
    }
    names.join(", ")
}

/// The one thread that a person means by a thread id, the beginning of a short id, or any id that
/// carries a thread (`apr_...`, `call_...`, `q_...`).
///
/// # Errors
/// What exists, if it fits none or several.
pub async fn find_thread(store: &Store, text: &str) -> anyhow::Result<ShortId> {
    let inside = ["apr_", "call_", "q_", "eff_"].iter().find_map(|prefix| text.strip_prefix(prefix)?.split('_').next());
    let found = store.find(inside.unwrap_or(text)).await?;
    match found.as_slice() {
        [one] => return Ok(*one),
        [] => {}
        many => bail!("`{}` fits more than one thread: {}; type more of it", words::quote(text), named(many)),
    }
    let short = text.parse::<ThreadId>().map(|id| id.short()).or_else(|_| text.parse::<ShortId>());
    if let Ok(short) = short
        && let Some(t) = store.tombstone(short).await?
    {
        bail!(
            "thread {short} was deleted at {} by {} after {}",
            t.at,
            words::quote(&t.by),
            words::count(t.version as usize, "event")
        );
    }
    let (recent, _) = list(store, &Filter::default(), MAX_NAMED).await?;
    let recent: Vec<ShortId> = recent.iter().map(|s| s.thread.short()).collect();
    let exist = if recent.is_empty() {
        "there are none yet".to_owned()
    } else {
        format!("the last ones are {}", named(&recent))
    };
    bail!("there is no thread `{}`; {exist}", words::quote(text))
}

/// Takes the store for this process alone, to change something in it.
///
/// # Errors
/// [`NOTHING_YET`] if there is none; the store's own sentence if another process has it.
pub async fn take(blueprint: Blueprint) -> anyhow::Result<Runtime> {
    if !blueprint.config().store_path().exists() {
        bail!(NOTHING_YET);
    }
    blueprint.open(Platforms::default()).await
}

/// What a change led to, to be reported once the store is free again.
pub struct Changed {
    delivered: Delivered,
    /// The version before it.
    before: u64,
}

/// Delivers one input and stays until the thread rests, or `wait_ms` are over.
pub async fn change(runtime: &Runtime, short: ShortId, input: Input, wait_ms: u64) -> anyhow::Result<Changed> {
    let before = runtime.thread(short).await?.version;
    let delivered = runtime.deliver(short, input).await?;
    follow(runtime, delivered, before, wait_ms).await
}

/// Stays with a thread until it rests, or `wait_ms` are over. `before`: the last version already known.
pub async fn follow(runtime: &Runtime, delivered: Delivered, before: u64, wait_ms: u64) -> anyhow::Result<Changed> {
    let short = delivered.thread.short();
    let rest = async {
        loop {
            // Subscribed before looking: a change in between is not missed.
            let mut changes = runtime.watch();
            if runtime.thread(short).await?.runnable().next().is_none() {
                return anyhow::Ok(());
            }
            match changes.recv().await {
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    };
    // Out of time is no error: the report says what is still to be done.
    tokio::select! {
        rested = tokio::time::timeout(Duration::from_millis(wait_ms), rest) => rested.unwrap_or(Ok(()))?,
        () = super::input::asked_to_end()? => {}
    }
    Ok(Changed { delivered, before })
}

/// How to let go of the store of a configuration.
pub struct Leave {
    path: PathBuf,
    /// How long work may take to finish.
    drain: Duration,
}

impl Leave {
    pub fn of(blueprint: &Blueprint) -> Self {
        let config = blueprint.config();
        Self { path: config.store_path(), drain: Duration::from_millis(config.runtime.drain_timeout) }
    }
}

/// Lets go of the store, then says what happened and how the thread stands. It is an error if it was refused.
pub async fn report(runtime: &Runtime, changed: Changed, leave: Leave) -> anyhow::Result<ExitCode> {
    runtime.drain(leave.drain).await?;
    // Read again: work may have finished while the store was being closed.
    let store = Store::open_read_only(&leave.path).await?;
    let Looked { thread, events, .. } = read(&store, changed.delivered.thread.short()).await?;
    for event in events.iter().filter(|e| e.seq > changed.before) {
        say(&format!("{:>4}  {}  {}\n", event.seq, event.at, words::event_line(event)))?;
    }
    let stands = standing(&thread, &events);
    match changed.delivered.answer {
        Answer::Refused(refusal) => bail!("{refusal}\n{stands}"),
        Answer::Duplicate | Answer::Stale => bail!("it had been decided before; nothing changed\n{stands}"),
        Answer::Accepted | Answer::Go { .. } => {
            say(&format!("{stands}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// One or more lines: where the thread is now and what it waits for.
fn standing(thread: &Thread, events: &[Event]) -> String {
    let mut out = format!("Thread {} is {}.", thread.short, words::status_word(thread.status()).replace('_', " for "));
    for wait in words::waits(thread, events) {
        out.push_str(&format!("\n  {}\n    {}", wait.what, wait.next));
    }
    out
}
