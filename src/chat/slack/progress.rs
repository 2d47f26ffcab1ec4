//! What a run is at, best effort: a reaction, a status line, the state of the session; and the prompts that the
//! agent view suggests.
//!
//! It watches the changes of all threads and shows the latest state of each that lives in Slack. Nothing waits for
//! it: it has a queue of its own with one place for each thread, so states that were passed over are never sent, and
//! postings go another way. What a workspace refuses for good (a method that it does not have, a scope that was not
//! granted) is not asked again by this process. What is lost stays lost: the answer itself is a posting.
//!
//! | run | `:eyes:` on the message that began it | status line | session |
//! |---|---|---|---|
//! | at work | yes | what runs, or that it is thinking | `processing` |
//! | waits for a person, or is paused | yes | none | `suspended` |
//! | answered or stopped | no | none | `active`: it goes on when somebody writes |
//! | cancelled | no | none | `closed` |

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lru::LruCache;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Front;
use crate::agent::{Body, CallId, Event, GatedCall, NextStep, ShortId, Verdict};
use crate::platform::slack::{Place, SURFACE};
use crate::runtime::Change;
use crate::store::Status;

/// Threads whose state is remembered; older ones are read again when they change.
const REMEMBERED: usize = 10_000;
/// Threads that are brought up to date at the same time.
const AT_ONCE: usize = 8;
/// Events at the end of a log that say what a thread is at that was not watched from the beginning.
const LOOK_BACK: u64 = 300;
/// Slack takes a status line away after two minutes.
const REFRESH: Duration = Duration::from_secs(90);
/// Characters of a status line: it stands in one line behind the agent's name.
const WORDS: usize = 100;
/// Prompts that Slack shows in the agent view.
const PROMPTS: usize = 4;
/// Characters of the title of a prompt: what is cut there is not read there.
const PROMPT_TITLE: usize = 60;
/// The reaction while a run is at work.
const EYES: &str = "eyes";

const ADD: &str = "reactions.add";
const REMOVE: &str = "reactions.remove";
const WORDS_METHOD: &str = "assistant.threads.setStatus";
const SESSION: &str = "agents.sessions.setStatus";
const PROMPTS_METHOD: &str = "assistant.threads.setSuggestedPrompts";

/// The methods that a workspace has refused for good.
#[derive(Default)]
pub struct Refused(Mutex<HashSet<(String, &'static str)>>);

impl Refused {
    fn contains(&self, team: &str, method: &'static str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&(team.to_owned(), method))
    }

    fn add(&self, team: &str, method: &'static str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((team.to_owned(), method))
    }
}

/// Shows what runs are at until `stop` is cancelled; nothing if the settings want no progress.
pub async fn follow(front: Front, stop: CancellationToken) {
    if !front.0.settings.progress {
        stop.cancelled().await;
        return;
    }
    let mut changes = front.0.runtime.watch();
    let mut following = Following::new(front);
    let mut showing = FuturesUnordered::new();
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    refresh.reset();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some((short, shown)) = showing.next(), if !showing.is_empty() => following.shown(short, shown),
            change = changes.recv() => match change {
                Ok(change) => following.see(&change).await,
                // Which ones they were of is not known: those that were at work are read again.
                Err(RecvError::Lagged(_)) => following.read_again().await,
                Err(RecvError::Closed) => return,
            },
            _ = refresh.tick() => following.refresh(),
        }
        while showing.len() < AT_ONCE
            && let Some((short, place, from, to)) = following.next()
        {
            let front = following.front.clone();
            showing.push(async move { (short, show(&front, &place, from, to).await) });
        }
    }
}

/// What Slack shall show of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Show {
    /// The message with the reaction.
    eyes: Option<String>,
    words: String,
    session: &'static str,
}

/// What it shows, as far as we know; `None`: nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    eyes: Option<String>,
    words: Option<String>,
    session: Option<&'static str>,
}

/// A thread in memory.
enum Known {
    /// Of another surface.
    Other,
    Slack(Box<Followed>),
}

struct Followed {
    place: Place,
    track: Track,
    /// None until its first change.
    wanted: Option<Show>,
    shown: Shown,
    /// It is being brought up to date, or waits for its turn.
    queued: bool,
    busy: bool,
}

/// What a log says of the run, event by event.
#[derive(Clone, Debug, Default, PartialEq)]
struct Track {
    /// The message that began the run, by its time.
    trigger: Option<String>,
    /// The run goes on.
    on: bool,
    titles: BTreeMap<CallId, String>,
    /// Calls that run.
    running: BTreeMap<CallId, String>,
}

impl Track {
    fn apply(&mut self, thread: ShortId, channel: &str, event: &Event) {
        match &event.body {
            Body::MessageReceived { prefetch, .. } => {
                if !self.on {
                    let source = event.source.as_deref().and_then(|s| s.strip_prefix(SURFACE)?.strip_prefix(':'));
                    let ts = source.and_then(|s| s.strip_prefix(channel)?.strip_prefix(':'));
                    *self = Self { trigger: ts.map(str::to_owned), on: true, ..Self::default() };
                    self.call(thread, event.seq, prefetch);
                }
            }
            Body::ModelReplied { step, correction, .. } => {
                (self.titles, self.running) = Default::default();
                match step {
                    NextStep::Call { calls, .. } => self.call(thread, event.seq, calls),
                    NextStep::Done { .. } => self.on = !correction.is_empty() && self.on,
                    NextStep::Ask { .. } => {}
                }
            }
            Body::ApprovalRequested { call, title, .. } => drop(self.titles.insert(*call, title.clone())),
            Body::ToolStarted { call, .. } => {
                if let Some(title) = self.titles.get(call) {
                    self.running.insert(*call, title.clone());
                }
            }
            Body::ToolFinished { call, .. } | Body::OutcomeLost { call } => drop(self.running.remove(call)),
            Body::Stopped { .. } | Body::Cancelled { .. } => {
                self.on = false;
                (self.titles, self.running) = Default::default();
            }
            Body::ThreadStarted { .. }
            | Body::Gathered { .. }
            | Body::ModelFailed { .. }
            | Body::ToolPlanned { .. }
            | Body::VoteCast { .. }
            | Body::ApprovalResolved { .. }
            | Body::QuestionAsked { .. }
            | Body::QuestionAnswered { .. }
            | Body::OutcomeMarked { .. }
            | Body::TimerFired { .. }
            | Body::Posted { .. }
            | Body::DeliveryFailed { .. }
            | Body::Compacted { .. }
            | Body::Paused { .. }
            | Body::Resumed { .. }
            | Body::IntentReceived { .. }
            | Body::IntentHandled { .. } => {}
        }
    }

    /// Calls that run at once are at work; those that ask are when they start.
    fn call(&mut self, thread: ShortId, seq: u64, calls: &[GatedCall]) {
        for (ord, call) in (0..).zip(calls) {
            let id = CallId::new(thread, seq, ord);
            self.titles.insert(id, call.title.clone());
            if matches!(call.verdict, Verdict::Auto { .. }) {
                self.running.insert(id, call.title.clone());
            }
        }
    }

    fn show(&self, status: Status) -> Show {
        let (on, words, session) = match status {
            Status::Running | Status::Sleeping => (true, self.words(), "processing"),
            Status::WaitingApproval | Status::WaitingAnswer | Status::WaitingMark | Status::Paused => {
                (true, String::new(), "suspended")
            }
            Status::Done | Status::Stopped => (false, String::new(), "active"),
            Status::Cancelled => (false, String::new(), "closed"),
        };
        Show { eyes: self.trigger.clone().filter(|_| on), words, session }
    }

    /// Stands behind the agent's name.
    fn words(&self) -> String {
        match self.running.values().next() {
            Some(title) => cut(&format!("is at work: {title}"), WORDS),
            None => "is thinking…".to_owned(),
        }
    }
}

/// All threads that are followed.
struct Following {
    front: Front,
    threads: LruCache<ShortId, Known>,
    /// Threads whose state is to be shown, each once.
    queue: VecDeque<ShortId>,
}

impl Following {
    fn new(front: Front) -> Self {
        let remembered = NonZeroUsize::new(REMEMBERED).unwrap_or(NonZeroUsize::MIN);
        Self { front, threads: LruCache::new(remembered), queue: VecDeque::new() }
    }

    async fn see(&mut self, change: &Change) {
        if change.deleted {
            self.threads.pop(&change.thread);
            return;
        }
        if !self.threads.contains(&change.thread) {
            let known = self.read(change.thread, change.first.saturating_sub(1)).await;
            self.threads.put(change.thread, known);
        }
        let Some(Known::Slack(followed)) = self.threads.get_mut(&change.thread) else { return };
        for (seq, bytes) in (change.first..).zip(change.events.iter()) {
            if let Ok(event) = Event::decode(bytes, seq) {
                followed.track.apply(change.thread, &followed.place.channel, &event);
            }
        }
        self.want(change.thread, change.status);
    }

    /// Where a thread is, and what the events up to number `upto` say of its run.
    async fn read(&self, short: ShortId, upto: u64) -> Known {
        let store = &self.front.0.runtime.parts().store;
        let after = upto.saturating_sub(LOOK_BACK);
        let limit = usize::try_from(upto - after).unwrap_or(0);
        let loaded = match limit {
            0 => store.summary(short).await.map(|summary| (summary.thread, Vec::new())),
            _ => store.load_page(short, after, limit).await.map(|loaded| (loaded.summary.thread, loaded.events)),
        };
        let Ok((thread, events)) = loaded else { return Known::Other };
        let Some(place) = Place::parse(thread.as_str()).filter(|place| place.thread.is_some()) else {
            return Known::Other;
        };
        let mut track = Track::default();
        for (seq, bytes) in (after + 1..).zip(&events) {
            if let Ok(event) = Event::decode(bytes, seq) {
                track.apply(short, &place.channel, &event);
            }
        }
        // Another process, or this one before it forgot, may have put it there.
        let shown = Shown { eyes: track.trigger.clone(), ..Shown::default() };
        Known::Slack(Box::new(Followed { place, track, wanted: None, shown, queued: false, busy: false }))
    }

    fn want(&mut self, short: ShortId, status: Status) {
        let Some(Known::Slack(followed)) = self.threads.get_mut(&short) else { return };
        let wanted = followed.track.show(status);
        if followed.wanted.is_none() && wanted.eyes.is_some() {
            // It is put there again rather than believed in.
            followed.shown.eyes = None;
        }
        if followed.wanted.as_ref() != Some(&wanted) {
            followed.wanted = Some(wanted);
            self.enqueue(short);
        }
    }

    fn enqueue(&mut self, short: ShortId) {
        if let Some(Known::Slack(followed)) = self.threads.peek_mut(&short)
            && !followed.queued
        {
            followed.queued = true;
            if !followed.busy {
                self.queue.push_back(short);
            }
        }
    }

    /// The next thread to bring up to date: where it is, what it shows, what it shall show.
    fn next(&mut self) -> Option<(ShortId, Place, Shown, Show)> {
        loop {
            let short = self.queue.pop_front()?;
            if let Some(Known::Slack(followed)) = self.threads.peek_mut(&short)
                && let Some(wanted) = followed.wanted.clone()
            {
                (followed.queued, followed.busy) = (false, true);
                return Some((short, followed.place.clone(), followed.shown.clone(), wanted));
            }
        }
    }

    fn shown(&mut self, short: ShortId, shown: Shown) {
        if let Some(Known::Slack(followed)) = self.threads.peek_mut(&short) {
            (followed.shown, followed.busy) = (shown, false);
            if followed.queued {
                self.queue.push_back(short);
            }
        }
    }

    /// Changes were missed: what was at work is looked at again.
    async fn read_again(&mut self) {
        let at_work = self.threads.iter().filter_map(|(short, known)| match known {
            Known::Slack(followed) if followed.wanted.as_ref().is_some_and(|w| w.eyes.is_some()) => Some(*short),
            Known::Slack(_) | Known::Other => None,
        });
        for short in at_work.collect::<Vec<_>>() {
            let Ok(summary) = self.front.0.runtime.parts().store.summary(short).await else { continue };
            let read = self.read(short, summary.version).await;
            if let (Some(Known::Slack(followed)), Known::Slack(read)) = (self.threads.peek_mut(&short), read) {
                followed.track = read.track;
                self.want(short, summary.status);
            }
        }
    }

    /// Status lines are set again before Slack takes them away.
    fn refresh(&mut self) {
        let mut lines = Vec::new();
        for (short, known) in self.threads.iter_mut() {
            if let Known::Slack(followed) = known
                && !followed.busy
                && followed.wanted.as_ref().is_some_and(|w| !w.words.is_empty())
            {
                followed.shown.words = None;
                lines.push(*short);
            }
        }
        for short in lines {
            self.enqueue(short);
        }
    }
}

/// Brings what Slack shows from one state to another; returns what it shows now. What fails is left as it was.
async fn show(front: &Front, place: &Place, from: Shown, to: Show) -> Shown {
    let mut shown = from;
    let reaction = |ts: &str| json!({"channel": place.channel, "timestamp": ts, "name": EYES});
    if shown.eyes != to.eyes {
        if let Some(old) = &shown.eyes {
            attempt(front, &place.team, REMOVE, reaction(old), &["no_reaction", "message_not_found"]).await;
        }
        shown.eyes = None;
        if let Some(new) = &to.eyes
            && attempt(front, &place.team, ADD, reaction(new), &["already_reacted"]).await
        {
            shown.eyes = Some(new.clone());
        }
    }
    if shown.session != Some(to.session) {
        let body = json!({"channel_id": place.channel, "thread_ts": place.thread, "status": to.session});
        attempt(front, &place.team, SESSION, body, &[]).await;
        shown.session = Some(to.session);
    }
    // Slack shows no line before one was set, and takes it away when something is posted.
    let before = shown.words.as_deref().unwrap_or_default();
    if shown.words.as_ref() != Some(&to.words) && !(before.is_empty() && to.words.is_empty()) {
        let body = json!({"channel_id": place.channel, "thread_ts": place.thread, "status": to.words});
        attempt(front, &place.team, WORDS_METHOD, body, &[]).await;
    }
    shown.words = Some(to.words);
    shown
}

/// Suggests what to ask in the agent view that was just opened: what the agents are for.
pub async fn suggest(front: &Front, team: &str, channel: &str, thread: Option<&str>) {
    let default = &front.0.settings.agent;
    let agents = &front.0.runtime.parts().agents;
    let mut specs: Vec<_> = agents.iter().map(|agent| &agent.spec).collect();
    specs.sort_by_key(|spec| spec.name != *default);
    let prompt = |name: &str, description: &str| {
        let task = "What can you do for me?";
        // A message names no agent unless it is a command.
        let message = if name == default { task.to_owned() } else { format!("run {name} {task}") };
        json!({"title": cut(description, PROMPT_TITLE), "message": message})
    };
    let described = specs.iter().filter(|spec| !spec.description.trim().is_empty());
    let prompts: Vec<Value> = described.take(PROMPTS).map(|spec| prompt(&spec.name, &spec.description)).collect();
    if !prompts.is_empty() {
        let mut body = json!({"channel_id": channel, "prompts": prompts});
        // Without one they stand where a new conversation is begun.
        if let Some(thread) = thread {
            body["thread_ts"] = json!(thread);
        }
        attempt(front, team, PROMPTS_METHOD, body, &[]).await;
    }
}

/// Asks what people call a user, for the next time. A workspace that does not say is not asked again.
pub(super) async fn learn_name(front: &Front, team: &str, user: &str) {
    const NAMES: &str = "users.info";
    if front.0.refused.contains(team, NAMES) || front.0.slack.workspace(team).is_none() {
        return;
    }
    if let Err(error) = front.0.slack.ask_name(team, user).await
        && is_for_good(&error.code)
        && front.0.refused.add(team, NAMES)
    {
        tracing::info!(slack.team = team, %error, "this workspace does not say what people are called");
    }
}

/// One call, unless this workspace refused the method before. `fine`: errors that say it is so already. Returns
/// whether it is so now.
async fn attempt(front: &Front, team: &str, method: &'static str, body: Value, fine: &[&str]) -> bool {
    if front.0.refused.contains(team, method) {
        return false;
    }
    let Err(error) = front.0.slack.call(team, method, &body).await else { return true };
    if fine.contains(&error.code.as_str()) {
        return true;
    }
    if is_for_good(&error.code) && front.0.refused.add(team, method) {
        tracing::info!(slack.team = team, slack.method = method, %error, "this workspace shows no such progress");
    } else {
        tracing::debug!(slack.team = team, slack.method = method, %error, "progress could not be shown");
    }
    false
}

/// Whether a workspace that answers so will answer so again, whichever thread it is about.
fn is_for_good(code: &str) -> bool {
    code.starts_with("not_allowed")
        || matches!(
            code,
            "unknown_method"
                | "missing_scope"
                | "no_permission"
                | "access_denied"
                | "accesslimited"
                | "ekm_access_denied"
                | "enterprise_is_restricted"
                | "feature_not_enabled"
                | "team_access_not_granted"
                | "method_deprecated"
                | "deprecated_endpoint"
                | "not_an_agent_app"
        )
}

/// At most so many characters, with an ellipsis if there were more; on one line.
fn cut(text: &str, max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    crate::agent::visible::short_line(&line, max)
}
