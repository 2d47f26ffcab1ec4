//! The App Home: what waits for a person, their runs, agents to start.
//!
//! It is written when somebody opens it, and again when something changes that concerns them ([`follow`]): only for
//! people who have opened it since this process started, the last `MAX_HOMES` of them. What did not change on it
//! is not written again. It only shows: what is pressed on it is decided anew, from the log, with groups as of then.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use super::asked::look;
use super::{Front, principal};
use crate::agent::{ApprovalId, Digest, Posting, Principal, Sameness, ShortId, Timestamp};
use crate::chat::commands::{self, Asker, Broken, Command, EXAMPLES, Groups, Outcome, ROWS};
use crate::platform::reach::{Standing, standing};
use crate::platform::slack::blocks::{self, Home, HomeRequest, HomeRun};
use crate::platform::slack::inbound::Who;
use crate::platform::{Listing, words::quote};
use crate::runtime::Change;
use crate::store::{ApprovalFilter, StoreError};

/// People whose home is kept up to date. Whoever opened theirs longest ago is left out first.
const MAX_HOMES: usize = 1_000;
/// How long changes are collected before homes are written: one deed makes several.
const DEBOUNCE: Duration = Duration::from_millis(700);
/// How long it is believed who is in which group, in milliseconds. Only for what is shown.
const GROUPS_MS: u64 = 600_000;
/// Threads that changes are looked up of at once; with more, every home is looked at.
const MAX_CHANGED: usize = 500;
/// Requests of a thread that are looked at to see whom a change concerns.
const MAX_REQUESTS: usize = 50;
/// Homes that are written at the same time.
const AT_ONCE: usize = 8;
/// Attempts to write over what another process has written meanwhile.
const ATTEMPTS: usize = 3;
/// Kinds of trouble that are remembered as logged.
const MAX_LOGGED: usize = 100;

/// The homes that have been opened.
pub(crate) struct Homes {
    /// By team of the installation, team of the person, and person.
    opened: Mutex<lru::LruCache<(String, String, String), Arc<Opened>>>,
    /// What went wrong by team and code, and was logged.
    logged: Mutex<BTreeSet<(String, String)>>,
}

impl Default for Homes {
    fn default() -> Self {
        // reason: it is not zero
        let most = NonZeroUsize::new(MAX_HOMES).unwrap_or(NonZeroUsize::MIN);
        Self { opened: Mutex::new(lru::LruCache::new(most)), logged: Mutex::default() }
    }
}

impl Homes {
    fn open(&self, who: &Who) -> Arc<Opened> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh =
            || Arc::new(Opened { who: who.clone(), stands: tokio::sync::Mutex::default(), shown: Mutex::default() });
        opened.get_or_insert((who.team.clone(), who.home.clone(), who.user.clone()), fresh).clone()
    }

    fn all(&self) -> Vec<Arc<Opened>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.iter().map(|(_, opened)| opened.clone()).collect()
    }

    fn is_empty(&self) -> bool {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether this trouble is new, and is to be logged.
    fn is_news(&self, team: &str, code: &str) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.len() < MAX_LOGGED && logged.insert((team.to_owned(), code.to_owned()))
    }

    fn is_well(&self, team: &str) {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| other != team);
    }
}

/// One person's home.
struct Opened {
    who: Who,
    /// Held while it is written, so that what is written last is what was read last.
    stands: tokio::sync::Mutex<Stands>,
    shown: Mutex<Shown>,
}

/// What a home was made of.
#[derive(Clone, Default)]
struct Shown {
    /// The threads of its rows.
    threads: BTreeSet<ShortId>,
    groups: Groups,
    groups_at: Option<Timestamp>,
}

impl Opened {
    fn shown(&self) -> Shown {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How it stands in Slack.
#[derive(Default)]
struct Stands {
    /// Slack's name for what stands there: a write over something else is refused.
    hash: Option<String>,
    view: Option<Digest>,
}

/// Writes somebody's home, and keeps it up to date from now on.
pub async fn publish(front: &Front, who: &Who) {
    let opened = front.0.homes.open(who);
    write(front, &opened, true).await;
}

/// The modal of the global shortcut: what waits for somebody.
pub async fn pending_modal(front: &Front, who: &Who) -> Value {
    let by = principal(who);
    let listing = match commands::answer(&asker(front, &by), &Command::Pending { all: false }).await {
        Outcome::Say(listing) => listing,
        // reason: that command only ever says something
        _ => Listing::default(),
    };
    blocks::listing_modal("Waiting for you", &listing, &look(front, who))
}

/// Keeps the homes that have been opened up to date, until `stop`.
pub async fn follow(front: Front, stop: CancellationToken) {
    let mut changes = front.0.runtime.watch();
    loop {
        let mut changed = Changed::default();
        tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => match change {
                Ok(change) => changed.note(&change),
                Err(RecvError::Lagged(_)) => changed.all = true,
                Err(RecvError::Closed) => return,
            }
        }
        if front.0.homes.is_empty() {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(DEBOUNCE) => {}
        }
        loop {
            match changes.try_recv() {
                Ok(change) => changed.note(&change),
                Err(TryRecvError::Lagged(_)) => changed.all = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let homes = futures_util::stream::iter(concerned(&front, changed).await);
        let written = homes.for_each_concurrent(AT_ONCE, |opened| {
            let front = &front;
            async move { write(front, &opened, false).await }
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = written => {}
        }
    }
}

/// Which threads have changed.
#[derive(Default)]
struct Changed {
    threads: BTreeSet<ShortId>,
    /// Too many to be counted.
    all: bool,
}

impl Changed {
    fn note(&mut self, change: &Change) {
        self.threads.insert(change.thread);
        self.all |= self.threads.len() > MAX_CHANGED;
    }
}

/// The homes on which something may be other than it was.
async fn concerned(front: &Front, changed: Changed) -> Vec<Arc<Opened>> {
    let homes = front.0.homes.all();
    if changed.all {
        return homes;
    }
    let store = &front.0.runtime.parts().store;
    let mut concerned: BTreeSet<usize> = BTreeSet::new();
    for short in changed.threads {
        let summary = match store.summary(short).await {
            Ok(summary) if summary.thread.surface() == "system" => continue,
            Ok(summary) => Some(summary),
            Err(StoreError::Unknown(_) | StoreError::Deleted(_)) => None,
            Err(error) => {
                tracing::warn!(thread.id = %short, %error, "a thread can't be read; homes that show it may be old");
                continue;
            }
        };
        let filter = ApprovalFilter { thread: Some(short), open: Some(true), ..ApprovalFilter::default() };
        let rows = store.approvals(&filter, None, MAX_REQUESTS).await.map(|page| page.items).unwrap_or_default();
        for (n, opened) in homes.iter().enumerate() {
            let by = principal(&opened.who);
            let shown = opened.shown();
            let theirs = summary.as_ref().is_some_and(|summary| {
                let people = &front.0.runtime.parts().people;
                let mine = people.compare(&summary.requester, &by) == Sameness::Same;
                let own = mine && standing(&by, &summary.thread) != Standing::Foreign;
                own || rows.iter().any(|row| commands::concerns(&by, summary, row, &shown.groups, "", people))
            });
            if theirs || shown.threads.contains(&short) {
                concerned.insert(n);
            }
        }
    }
    concerned.into_iter().filter_map(|n| homes.get(n).cloned()).collect()
}

/// Writes one home, if it is other than it stands, or `anyhow`: then who is in which group is asked again as well.
async fn write(front: &Front, opened: &Opened, anyhow: bool) {
    let mut stands = opened.stands.lock().await;
    let who = &opened.who;
    for _ in 0..ATTEMPTS {
        let view = match view(front, opened, anyhow).await {
            Ok(view) => view,
            Err(error) => {
                tracing::error!(slack.team = who.team, %error, "what is on an App Home can't be read");
                return;
            }
        };
        let digest = Digest::of(view.to_string().as_bytes());
        if stands.view == Some(digest) && !anyhow {
            return;
        }
        let mut body = json!({ "user_id": who.user, "view": view });
        if let (Some(hash), Some(fields)) = (&stands.hash, body.as_object_mut()) {
            fields.insert("hash".to_owned(), json!(hash));
        }
        match front.0.slack.call(&who.team, "views.publish", &body).await {
            Ok(answer) => {
                stands.hash = answer["view"]["hash"].as_str().map(str::to_owned);
                stands.view = Some(digest);
                front.0.homes.is_well(&who.team);
                return;
            }
            // Another process has written it: what is true now is read again, and written over it.
            Err(error) if error.code == "hash_conflict" => stands.hash = None,
            Err(error) => {
                // The next change tries again.
                (stands.view, stands.hash) = (None, None);
                if front.0.homes.is_news(&who.team, &error.code) {
                    tracing::warn!(slack.team = who.team, %error, "an App Home could not be written; said once");
                }
                return;
            }
        }
    }
}

async fn view(front: &Front, opened: &Opened, fresh: bool) -> Result<Value, Broken> {
    let (who, mut shown) = (&opened.who, opened.shown());
    let by = principal(who);
    let asker = asker(front, &by);
    let parts = front.0.runtime.parts();
    let now = parts.clock.now();
    if fresh || shown.groups_at.is_none_or(|at| now.ms_since(at) > GROUPS_MS) || shown.groups.trouble.is_some() {
        shown.groups = commands::groups_of(&front.0.runtime, &by).await;
        shown.groups_at = Some(now);
    }
    let requests = asker.requests(false, &shown.groups).await?;
    let (runs, more_runs) = asker.own(ROWS, |_| true).await?;
    let mut waiting = Vec::new();
    for row in requests.rows {
        let link = link(&asker, row.id).await;
        waiting.push(HomeRequest {
            id: row.id,
            digest: row.digest.prefix(),
            title: quote(&row.title),
            agent: quote(&row.agent),
            risk: row.risk.word(),
            requesters: row.requesters.iter().map(|p| p.id.clone()).collect(),
            requested_at: row.requested_at,
            expires_at: row.expires_at,
            link,
        });
    }
    shown.threads = waiting.iter().map(|r| r.id.thread).chain(runs.iter().map(|r| r.thread.short())).collect();
    let groups = shown.groups.clone();
    *opened.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    let runs = runs.iter().map(|run| HomeRun {
        title: if run.title.is_empty() { "(no words yet)".to_owned() } else { quote(&run.title) },
        agent: quote(&run.agent),
        state: commands::status_words(run.status).to_owned(),
        updated_at: run.updated_at,
        link: parts.platforms.link(&run.thread, None),
    });
    let home = Home {
        waiting,
        total: requests.total,
        more: requests.more,
        trouble: groups.trouble.as_ref().map_or_else(String::new, |why| {
            format!(
                "I couldn't check which groups you are in ({}), so what waits for a group is not listed here.",
                quote(why)
            )
        }),
        runs: runs.collect(),
        more_runs,
        agents: parts.agents.iter().map(|a| (a.spec.name.clone(), a.spec.description.clone())).collect(),
        decides_for: decides_for(front, &by, &groups),
        examples: EXAMPLES.map(str::to_owned).to_vec(),
        command: front.0.settings.command.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(blocks::home(&home, &look(front, who)))
}

/// The groups that somebody decides with, and the rules that name them.
fn decides_for(front: &Front, by: &Principal, groups: &Groups) -> Vec<String> {
    let rules = front.0.runtime.parts().policy.rules.iter();
    let naming = rules.filter(|rule| rule.approvers.as_ref().is_some_and(|a| a.users.contains(&by.id)));
    let mut named: Vec<String> = naming.map(|rule| format!("rule {}", quote(&rule.name))).collect();
    named.dedup();
    groups.of.iter().map(|group| format!("@{group}")).chain(named).collect()
}

async fn link(asker: &Asker<'_>, id: ApprovalId) -> Option<String> {
    let thread = asker.runtime.thread(id.thread).await.ok()?;
    asker.link(&thread, Some(&Posting::Card { approval: id }))
}

/// As Slack vouches for them: guests of shared channels are people of their own team, and so nobody here.
fn asker<'a>(front: &'a Front, by: &'a Principal) -> Asker<'a> {
    Asker {
        runtime: &front.0.runtime,
        by,
        here: None,
        at: "",
        public_url: &front.0.slack.settings().public_url,
        prefix: &front.0.settings.command,
        operator: front.0.settings.operators.contains(&by.id),
    }
}
