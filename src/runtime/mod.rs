//! The runtime: the only loop. An input becomes events, events become effects, effects are performed,
//! and each result is an input again.
//!
//! [`Runtime::deliver`] is the only way into a log, for people and for results alike: load the fold
//! (from the cache, or from the store), decide, compare-and-append, then dispatch what became runnable.
//! Whoever is told "accepted" is told so after the append. A conflict means that somebody else was
//! first: load again, decide again.
//!
//! There is no queue of work besides the fold: what is outstanding is derived from the log, so after a
//! crash the same list comes back. A thread that waits costs nothing here: no task, no timer, and its
//! fold may leave the cache.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | deliver, the cache of folds, dispatch, drain |
//! | `perform` | one function for each kind of effect |
//! | `intents` | carrying out what was done in a chat surface |
//! | `timers` | claiming what is due: timers, and at start the recovery of outstanding effects |
//! | `project` | summaries, rows of approvals, forks |
//! | `count` | what operators graph of it |
//! | `journal` | a line in the log for each decision, refusal and effect |
//! | `probe` | whether the store takes anything |
//! | `clock`, `crash` | time; places at which tests kill the process |

mod clock;
mod count;
pub mod crash;
mod intents;
mod journal;
mod people;
mod perform;
mod probe;
mod project;
mod timers;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::*;
use crate::llm::Provider;
use crate::metrics::Metrics;
use crate::platform::Platforms;
use crate::store::{Append, Lease, Store, StoreError, Tombstone};
use crate::tools::{Registry, contained};

pub use clock::Clock;
pub use intents::Surfaces;
pub use perform::model_request;
pub use probe::PROBE_MS;
pub use project::{approval_row, project, rebuild, summary};

/// What a runtime is made of.
pub struct Parts {
    pub store: Store,
    pub agents: Agents,
    pub tools: Registry,
    pub providers: Providers,
    pub policy: Policy,
    pub requester: RequesterRule,
    /// Who is behind which identities.
    pub people: People,
    pub secrets: SecretFilter,
    pub platforms: Platforms,
    pub metrics: Metrics,
    pub clock: Clock,
    pub settings: Settings,
}

/// Bounds and times. The configuration documents each.
#[derive(Clone, Debug)]
pub struct Settings {
    pub window: WindowLimits,
    pub retry: Retry,
    pub message_max_bytes: usize,
    /// Effects performed at the same time in this process.
    pub max_concurrent_effects: usize,
    /// Folds that are kept in memory.
    pub max_cached_threads: usize,
    /// How long a worker may be silent before others take its threads over, in milliseconds.
    pub lease_ms: u64,
    /// How often the store is asked for work that nobody announced, in milliseconds.
    pub sweep_ms: u64,
    /// How long intents are kept that were carried out, in milliseconds. At least [`KEEP_INTENTS_MIN_MS`].
    pub keep_intents_ms: u64,
}

/// A platform delivers again for up to 24 hours, and a second delivery has to be found; two hours of margin.
pub const KEEP_INTENTS_MIN_MS: u64 = 26 * 3_600_000;

/// The providers that are set up, and which one an agent gets.
pub struct Providers {
    /// `openai`, `anthropic`: those that have a key.
    pub named: HashMap<String, Provider>,
    /// Scripts by agent.
    pub scripted: HashMap<String, Provider>,
    /// The provider of agents that name none.
    pub default: String,
    /// The model of agents that name none, for the default provider.
    pub model: Option<String>,
}

impl Providers {
    /// The provider and model of an agent.
    pub fn pick(&self, spec: &AgentSpec) -> Result<(&Provider, String), String> {
        let name = spec.provider.as_deref().unwrap_or(&self.default);
        let provider = if name == "scripted" { self.scripted.get(&spec.name) } else { self.named.get(name) };
        let provider = provider.ok_or_else(|| match name {
            "scripted" => format!(
                "there is no script for the agent `{}`; set a provider's key, or providers.scripted.script",
                spec.name
            ),
            _ => format!("the provider `{name}` is not set up; set its API key"),
        })?;
        let default_model = if name == self.default { self.model.clone() } else { None };
        let model = spec.model.clone().or(default_model).unwrap_or_else(|| provider.default_model().to_owned());
        Ok((provider, model))
    }
}

/// Why an input could not be delivered. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Agent(#[from] UnknownAgent),
    #[error("thread {thread}: {source}")]
    Log { thread: ShortId, source: LogError },
    #[error("thread {0} is written by many at once; try again")]
    Contended(ShortId),
    #[error("the process is stopping; try again in a moment")]
    Draining,
    /// A thread is not deleted under a call that is at work.
    #[error(
        "`{title}` is running in thread {thread}, and how it ends would be lost, so nothing was deleted. Try again \
         when it has ended; cancel the thread to have nothing else start meanwhile"
    )]
    CallRunning { thread: ShortId, title: String },
}

/// A message as an edge hands it over.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub from: Principal,
    pub text: String,
    /// Id that the sender gave to it; a second delivery changes nothing.
    pub source: Option<String>,
    /// Where the text comes from if no person of ours wrote it (the payload of a webhook, say).
    pub outside: Option<String>,
    /// What belongs to it and is fetched before the model is asked.
    pub attached: Vec<Attached>,
    /// Texts from outside that are handed over with it.
    pub context: Vec<Passage>,
}

impl Said {
    /// Somebody's own words, delivered once.
    pub fn by(from: Principal, text: impl Into<String>) -> Self {
        Self { from, text: text.into(), source: None, outside: None, attached: Vec::new(), context: Vec::new() }
    }
}

/// What an input led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    pub answer: Answer,
    pub thread: ThreadId,
    /// Version of the thread after it.
    pub version: u64,
    pub status: Status,
}

/// Events that were just appended to a thread: for those who watch.
#[derive(Clone, Debug)]
pub struct Change {
    pub thread: ShortId,
    /// Sequence number of the first of them.
    pub first: u64,
    pub events: Arc<[Vec<u8>]>,
    pub status: Status,
    /// Whether approvals are now other than lists showed them.
    pub approvals: bool,
    /// The thread is gone: there are no events, and there will be none.
    pub deleted: bool,
}

/// Attempts to append before an input is given back: each conflict means that somebody else succeeded.
const MAX_CONFLICTS: u32 = 20;
/// Changes that a slow watcher may lag behind before it has to read the store.
const WATCH_QUEUE: usize = 1024;
/// Postings on their way at the same time: most of them wait for their turn at the platform's pace.
const MAX_POSTINGS: usize = 1024;

/// The loop. Clones are handles to the same one.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// Bytes of prompt and tools in each request, by agent.
    base_bytes: HashMap<String, usize>,
    /// Names this process in leases.
    worker: String,
    surfaces: Arc<dyn Surfaces>,
    /// What `permits` are to other effects, for intents.
    hands: Arc<Semaphore>,
    posting_permits: Arc<Semaphore>,
    slots: Mutex<lru::LruCache<ShortId, Arc<Slot>>>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    draining: AtomicBool,
    /// Fires when model calls and waits are to be given up (they are done again by the next process).
    stop: CancellationToken,
    in_flight: watch::Sender<usize>,
    changes: broadcast::Sender<Change>,
    /// The timer loop looks again.
    rearm: Notify,
    probed: probe::Probed,
}

/// One thread in memory. Its lock orders everything that this process does to the thread.
struct Slot {
    short: ShortId,
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    thread: Option<Thread>,
    /// Effects that are being performed here, and what makes them give up.
    in_flight: HashMap<EffectId, CancellationToken>,
    /// Postings that this process issued and has not tried yet: nothing of them can stand anywhere.
    untried: HashSet<EffectId>,
}

/// How a vacant thread would begin.
struct Seed {
    id: ThreadId,
    agent: String,
}

impl Runtime {
    pub fn new(parts: Parts) -> Self {
        let surfaces = Arc::new(parts.platforms.clone());
        Self::with_surfaces(parts, surfaces)
    }

    /// One that asks these surfaces what it would ask [`Parts::platforms`]; postings still go there.
    pub fn with_surfaces(parts: Parts, surfaces: Arc<dyn Surfaces>) -> Self {
        // reason: 1 is not zero
        let cached = NonZeroUsize::new(parts.settings.max_cached_threads).unwrap_or(NonZeroUsize::MIN);
        let permits = parts.settings.max_concurrent_effects.max(1);
        let rules = parts.policy.rules.iter().map(|rule| rule.name.as_str());
        parts.metrics.know(parts.agents.names(), parts.tools.names(), rules.chain(count::unnamed_rules()));
        let base = |agent: &Agent| (agent.spec.name.clone(), perform::base_bytes(&parts.tools, agent));
        Self(Arc::new(Inner {
            base_bytes: parts.agents.iter().map(base).collect(),
            worker: uuid::Uuid::now_v7().to_string(),
            surfaces,
            hands: Arc::new(Semaphore::new(intents::MAX_HANDLED_AT_ONCE)),
            posting_permits: Arc::new(Semaphore::new(MAX_POSTINGS)),
            slots: Mutex::new(lru::LruCache::unbounded()),
            permits: Arc::new(Semaphore::new(permits)),
            tasks: TaskTracker::new(),
            draining: AtomicBool::new(false),
            stop: CancellationToken::new(),
            in_flight: watch::Sender::new(0),
            changes: broadcast::Sender::new(WATCH_QUEUE),
            rearm: Notify::new(),
            probed: probe::Probed::default(),
            parts: Parts { settings: Settings { max_cached_threads: cached.get(), ..parts.settings }, ..parts },
        }))
    }

    pub fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Changes from now on, of all threads.
    pub fn watch(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// A message from a person, or from a program with a token. A new thread needs the name of its agent.
    pub async fn message(&self, thread: &ThreadId, agent: &str, said: Said) -> Result<Delivered, DeliverError> {
        self.0.parts.agents.get(agent)?;
        let pushes = self.0.parts.platforms.pushes(thread.surface());
        let seed = Seed { id: thread.clone(), agent: agent.to_owned() };
        let Said { from, text, source, outside, attached, context } = said;
        let input = Input::Message { from, text, source, outside, pushes, prefetch: Vec::new(), attached, context };
        self.deliver_to(thread.short(), Some(&seed), input, None).await
    }

    /// What somebody did in a chat surface, kept under an id of its own (`system:<surface>:…`, made from the
    /// delivery's own key): once this returns it may be acknowledged. A second delivery is a duplicate.
    pub async fn intent(&self, id: &ThreadId, intent: Intent) -> Result<Delivered, DeliverError> {
        let seed = Seed { id: id.clone(), agent: String::new() };
        self.deliver_to(id.short(), Some(&seed), Input::Intent { intent: intent.into() }, None).await
    }

    /// Any other input, for a thread that exists.
    pub async fn deliver(&self, thread: ShortId, input: Input) -> Result<Delivered, DeliverError> {
        let input = self.with_known_people(thread, input).await;
        self.deliver_to(thread, None, input, None).await
    }

    /// A call that an agent makes, as the gate wants it. Of a tool that the agent does not have, the arguments are
    /// not even looked at.
    pub(crate) fn propose_as(&self, spec: &AgentSpec, tool: &str, raw: &str) -> Proposed {
        match spec.no_such_tool(tool) {
            Some(stranger) => Proposed { tool: tool.to_owned(), raw: raw.to_owned(), checked: Err(stranger) },
            None => self.propose(tool, raw),
        }
    }

    /// A call as the gate wants it: looked at by the registry, with the canonical arguments.
    pub fn propose(&self, tool: &str, raw: &str) -> Proposed {
        let tools = &self.0.parts.tools;
        let checked = match tools.facts(tool) {
            Some(facts) => tools.check(tool, raw).map(|args| {
                let args = args.into_value();
                Checked { facts: facts.clone(), title: tools.title(tool, &args), args }
            }),
            None => Err(match tools.check(tool, raw) {
                Err(error) => error,
                Ok(_) => format!("there is no tool `{tool}`"),
            }),
        };
        Proposed { tool: tool.to_owned(), raw: raw.to_owned(), checked }
    }

    /// The folded thread as it is now. A copy: nothing that is done to it is kept.
    pub async fn thread(&self, short: ShortId) -> Result<Thread, DeliverError> {
        let slot = self.known_slot(short).await?;
        let mut state = slot.state.lock().await;
        let thread = match state.thread.take() {
            Some(thread) => thread,
            None => {
                state.untried.clear();
                self.load(short, None).await?
            }
        };
        let copy = thread.clone();
        state.thread = Some(thread);
        Ok(copy)
    }

    /// What an input would be answered with now. Nothing of it is kept, and by the time that it is delivered the
    /// answer may be another one.
    pub async fn rehearse(&self, short: ShortId, input: Input) -> Result<Answer, DeliverError> {
        let mut thread = self.thread(short).await?;
        let spec = &self.0.parts.agents.get(&thread.agent)?.spec;
        let (_, answer) = step(&mut thread, input, &self.rules(spec), self.now(), 0.5);
        Ok(answer)
    }

    async fn load(&self, short: ShortId, seed: Option<&Seed>) -> Result<Thread, DeliverError> {
        match self.0.parts.store.load(short, 0).await {
            Ok(loaded) => {
                let mut thread = Thread::vacant(loaded.summary.thread.clone());
                thread.replay(&loaded.events).map_err(|source| DeliverError::Log { thread: short, source })?;
                Ok(thread)
            }
            Err(StoreError::Unknown(_)) if seed.is_some() => {
                Ok(Thread::vacant(seed.map(|s| s.id.clone()).ok_or(StoreError::Unknown(short))?))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Load, decide, compare-and-append, dispatch. `finished` is the effect whose result this is.
    async fn deliver_to(
        &self,
        short: ShortId,
        seed: Option<&Seed>,
        input: Input,
        finished: Option<EffectId>,
    ) -> Result<Delivered, DeliverError> {
        if finished.is_none() && self.0.draining.load(Ordering::SeqCst) {
            return Err(DeliverError::Draining);
        }
        let slot = if seed.is_some() { self.slot(short) } else { self.known_slot(short).await? };
        let mut state = slot.state.lock().await;
        self.deliver_in(&slot, &mut state, seed, input, finished).await
    }

    /// [`Runtime::deliver_to`], for one who holds the thread already.
    async fn deliver_in(
        &self,
        slot: &Arc<Slot>,
        state: &mut SlotState,
        seed: Option<&Seed>,
        input: Input,
        finished: Option<EffectId>,
    ) -> Result<Delivered, DeliverError> {
        let short = slot.short;
        let who = journal::Brought::of(&input);
        for _ in 0..MAX_CONFLICTS {
            let mut thread = match state.thread.take() {
                Some(thread) => thread,
                None => {
                    // Whoever appended meanwhile may have posted as well.
                    state.untried.clear();
                    self.load(short, seed).await?
                }
            };
            let agent = match (thread.version, seed) {
                (0, Some(seed)) => seed.agent.clone(),
                _ => thread.agent.clone(),
            };
            let spec = match self.0.parts.agents.get(&agent) {
                Ok(agent) => &agent.spec,
                // The log of an intent: no agent works on it.
                Err(_) if agent.is_empty() => AgentSpec::nobody(),
                Err(unknown) => {
                    state.thread = Some(thread);
                    return Err(unknown.into());
                }
            };
            let (first, now) = (thread.version + 1, self.now());
            let mut input = input.clone();
            if let Input::Message { prefetch, .. } = &mut input
                && thread.run.is_none()
            {
                // By the thread's own agent, whichever was named with the message.
                *prefetch = spec.prefetch.iter().map(|p| self.propose_as(spec, &p.tool, &p.args.to_string())).collect();
            }
            let live = project::Live::of(&thread);
            let before = count::Before::of(&thread);
            let known = journal::Before::of(&thread);
            let (events, answer) = step(&mut thread, input, &self.rules(spec), now, fastrand::f64());
            let delivered =
                Delivered { answer, thread: thread.id.clone(), version: thread.version, status: thread.status() };
            let mut kept: Arc<[Vec<u8>]> = Arc::from([]);
            if !events.is_empty() {
                let works_on = thread.runnable().next().is_some();
                let append = Append {
                    thread: short,
                    expected: first - 1,
                    events,
                    summary: summary(&thread),
                    approvals: live.changed(&thread),
                    // A thread that rests is given up at once: its next timer may be anybody's.
                    lease: Some(if works_on {
                        self.lease(now)
                    } else {
                        Lease { worker: self.0.worker.clone(), until: now }
                    }),
                };
                kept = append.events.clone().into();
                let approvals = !append.approvals.is_empty();
                crash::point("deliver.before_append");
                let appending = Instant::now();
                match self.0.parts.store.append(append).await {
                    Ok(_) => self.0.parts.metrics.appended(appending.elapsed()),
                    Err(StoreError::Conflict { .. }) => continue,
                    // The fold holds events that are not in the log: it goes.
                    Err(e) => {
                        self.0.parts.metrics.append_failed();
                        return Err(e.into());
                    }
                }
                crash::point("deliver.after_append");
                if thread.next_timer().is_some() {
                    self.0.rearm.notify_one();
                }
                // Nobody watching is not an error.
                let status = delivered.status;
                let change = Change { thread: short, first, events: kept.clone(), status, approvals, deleted: false };
                let _ = self.0.changes.send(change);
            }
            journal::write(&thread, &known, &who, (first, &kept), &delivered.answer);
            if let Some(finished) = finished {
                state.in_flight.remove(&finished);
            }
            self.count(&before, &thread, &delivered.answer);
            let is_post = |effect: &Effect| matches!(effect, Effect::Post { .. });
            let issued = thread.outstanding().iter().filter(|(id, effect)| id.seq >= first && is_post(effect));
            state.untried.extend(issued.map(|(id, _)| *id));
            state.untried.retain(|id| thread.outstanding().contains_key(id));
            if state.untried.is_empty() {
                // An emptied set keeps its room, and thousands of threads rest in memory.
                state.untried = HashSet::new();
            }
            self.dispatch(slot, state, &thread);
            if thread.version > 0 {
                state.thread = Some(thread);
            }
            return Ok(delivered);
        }
        Err(DeliverError::Contended(short))
    }

    /// Removes a thread for good, with its approvals; the tombstone stays. Nothing of it runs afterwards, and
    /// what is still on its way is dropped. Deleting it again gives the same tombstone.
    ///
    /// # Errors
    /// `CallRunning` while a call is at work or may be found lost, and nothing is changed; `Draining`; those of
    /// the store.
    pub async fn delete(&self, short: ShortId, by: &Principal) -> Result<Tombstone, DeliverError> {
        if self.0.draining.load(Ordering::SeqCst) {
            return Err(DeliverError::Draining);
        }
        let slot = self.slot(short);
        let mut state = slot.state.lock().await;
        match self.cancel_in(&slot, &mut state, by).await {
            Ok(()) => {}
            // Nobody can go on with it, so there is nothing to cancel.
            Err(DeliverError::Agent(_) | DeliverError::Log { .. } | DeliverError::Store(StoreError::Corrupt(_))) => {}
            Err(DeliverError::Store(StoreError::Deleted(_))) => {
                let stone = self.0.parts.store.tombstone(short).await?;
                return Ok(stone.ok_or(StoreError::Deleted(short))?);
            }
            Err(other) => return Err(other),
        }
        let stone = self.0.parts.store.delete(short, &by.id, self.now()).await?;
        tracing::info!(thread.id = %short, person.id = by.id, person.surface = by.surface(), "a thread was deleted");
        state.thread = None;
        for give_up in state.in_flight.values() {
            give_up.cancel();
        }
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).pop(&short);
        let (first, events, status) = (stone.version + 1, Arc::from([]), Status::Cancelled);
        let change = Change { thread: short, first, events, status, approvals: true, deleted: true };
        let _ = self.0.changes.send(change);
        Ok(stone)
    }

    /// Cancels a thread in which no call is at work.
    async fn cancel_in(&self, slot: &Arc<Slot>, state: &mut SlotState, by: &Principal) -> Result<(), DeliverError> {
        let thread = match state.thread.take() {
            Some(thread) => thread,
            None => {
                state.untried.clear();
                self.load(slot.short, None).await?
            }
        };
        // Nobody will ever say how a call ended whose agent is gone, unless it is at work here.
        let agent_is_there = self.0.parts.agents.get(&thread.agent).is_ok();
        let is_here = |call: CallId| {
            let runs = |id| matches!(thread.outstanding().get(id), Some(Effect::RunTool { call: c }) if *c == call);
            state.in_flight.keys().any(runs)
        };
        let mut started = thread.calls.iter().filter(|(_, call)| call.stage == Stage::Started);
        let running = started.find(|(id, _)| agent_is_there || is_here(**id)).map(|(_, call)| call.gated.title.clone());
        let cancelled = thread.cancelled;
        state.thread = Some(thread);
        match running {
            Some(title) => Err(DeliverError::CallRunning { thread: slot.short, title }),
            None if cancelled => Ok(()),
            None => {
                let cancel = Input::Cancel { by: by.clone(), why: "it is being deleted".to_owned() };
                self.deliver_in(slot, state, None, cancel, None).await.map(|_| ())
            }
        }
    }

    /// Starts what is runnable and not yet on its way, and calls back what is no longer wanted.
    fn dispatch(&self, slot: &Arc<Slot>, state: &mut SlotState, thread: &Thread) {
        for (id, give_up) in &state.in_flight {
            if thread.cancelled || !thread.outstanding().contains_key(id) {
                give_up.cancel();
            }
        }
        if self.0.draining.load(Ordering::SeqCst) {
            return;
        }
        // Postings of a thread go out one after the other, so that people read them in order.
        let is_posting = |id: &EffectId| matches!(thread.outstanding().get(id), Some(Effect::Post { .. }));
        let mut posting = state.in_flight.keys().any(is_posting);
        // They stay outstanding, for the next process that is connected there.
        let waits = self.0.surfaces.waits_for_surface(&thread.id);
        for (id, effect) in thread.runnable() {
            if waits && matches!(effect, Effect::Handle | Effect::Gather { .. } | Effect::Post { .. }) {
                continue;
            }
            let is_post = matches!(effect, Effect::Post { .. });
            if state.in_flight.contains_key(&id) || (is_post && posting) {
                continue;
            }
            posting |= is_post;
            let give_up = CancellationToken::new();
            state.in_flight.insert(id, give_up.clone());
            self.0.in_flight.send_modify(|n| *n += 1);
            let (runtime, slot, effect) = (self.clone(), slot.clone(), effect.clone());
            // A press that waits for Slack, or a message for its turn in a busy channel, holds up nothing else.
            let permits = match effect {
                Effect::Handle => self.0.hands.clone(),
                Effect::Post { .. } => self.0.posting_permits.clone(),
                Effect::CallModel | Effect::PlanTool { .. } | Effect::RunTool { .. } | Effect::Gather { .. } => {
                    self.0.permits.clone()
                }
            };
            self.0.tasks.spawn(async move {
                if let Ok(_permit) = permits.acquire_owned().await
                    && let Err(panic) = contained(runtime.perform(&slot, id, &effect, &give_up)).await
                {
                    // It may be tried again once the lease is over: at once, it would only break again.
                    tracing::error!(thread.id = %slot.short, effect.id = %id, panic, "performing an effect broke");
                    slot.state.lock().await.in_flight.remove(&id);
                }
                runtime.0.in_flight.send_modify(|n| *n -= 1);
            });
        }
    }

    fn rules<'a>(&'a self, spec: &'a AgentSpec) -> Rules<'a> {
        let parts = &self.0.parts;
        Rules {
            spec,
            policy: &parts.policy,
            requester: parts.requester,
            people: &parts.people,
            secrets: &parts.secrets,
            window: parts.settings.window,
            retry: parts.settings.retry,
            message_max_bytes: parts.settings.message_max_bytes,
            base_bytes: self.0.base_bytes.get(&spec.name).copied().unwrap_or(0),
        }
    }

    fn now(&self) -> Timestamp {
        self.0.parts.clock.now()
    }

    fn lease(&self, now: Timestamp) -> Lease {
        Lease { worker: self.0.worker.clone(), until: now.plus_ms(self.0.parts.settings.lease_ms) }
    }

    /// The slot of a thread that exists: asking for threads that do not must not drive others from the cache.
    async fn known_slot(&self, short: ShortId) -> Result<Arc<Slot>, DeliverError> {
        let cached = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).get(&short).cloned();
        if let Some(slot) = cached {
            return Ok(slot);
        }
        self.0.parts.store.summary(short).await?;
        Ok(self.slot(short))
    }

    /// The slot of a thread. Slots that nobody holds leave the cache, oldest first, above its bound.
    fn slot(&self, short: ShortId) -> Arc<Slot> {
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&short) {
            return slot.clone();
        }
        let slot = Arc::new(Slot { short, state: tokio::sync::Mutex::default() });
        slots.put(short, slot.clone());
        let excess = slots.len().saturating_sub(self.0.parts.settings.max_cached_threads);
        // A slot that is held elsewhere may have effects in flight: it stays, and is tried again later.
        for _ in 0..excess.min(4) {
            match slots.pop_lru() {
                Some((held, slot)) if Arc::strong_count(&slot) > 1 => drop(slots.put(held, slot)),
                Some(_) | None => {}
            }
        }
        slot
    }

    /// Effects that are being performed, or wait for their turn, in this process.
    pub fn in_flight(&self) -> usize {
        *self.0.in_flight.borrow()
    }

    /// Whether the process is stopping: nothing new is taken any more.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::SeqCst)
    }

    /// Waits until nothing is being performed and nothing is due, without passing time.
    pub async fn settle(&self) -> Result<(), DeliverError> {
        let mut in_flight = self.0.in_flight.subscribe();
        loop {
            // The sender lives as long as this handle.
            let _ = in_flight.wait_for(|n| *n == 0).await;
            let claimed = self.fire_due().await?;
            if claimed == 0 && *in_flight.borrow_and_update() == 0 {
                return Ok(());
            }
        }
    }

    /// Takes no more work and gives model calls up; tools that run go on. [`Runtime::drain`] waits for them.
    pub fn begin_drain(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
        self.0.stop.cancel();
        self.0.rearm.notify_one();
        self.0.tasks.close();
    }

    /// Stops taking work, gives model calls up, waits up to `bound` for tools to finish, closes the
    /// store. Returns how many effects were still at work; the next process takes care of them.
    pub async fn drain(&self, bound: Duration) -> Result<usize, StoreError> {
        self.begin_drain();
        let left = match tokio::time::timeout(bound, self.0.tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => *self.0.in_flight.borrow(),
        };
        self.0.parts.store.close().await?;
        Ok(left)
    }
}
