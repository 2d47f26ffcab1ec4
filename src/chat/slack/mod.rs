//! Slack: deliveries, by HTTP and by Socket Mode, on one path.
//!
//! [`Front::take`] is that path: read the envelope, keep what has to be kept, acknowledge; then, on a task, what
//! needs Slack or may take its time. Nothing is asked of Slack before the acknowledgement, and nothing is
//! acknowledged before it is in the log.
//!
//! | file | owns |
//! |---|---|
//! | `messages` | mentions, messages, edits, reactions |
//! | `interactions` | buttons, modals, shortcuts, slash commands |
//! | `asked` | commands in words, from messages and slash commands alike; what is shown in private |
//! | `home` | the App Home |
//! | `progress` | reactions, status lines, session states while a run is at work |
//! | `socket` | Socket Mode |
//! | `odd` | what nobody can read, kept in a bounded file |
//! | `catch_up` | what was said while nothing could reach us |
//! | `run` | all of it that goes on in the background, until the process stops |

pub mod asked;
pub mod catch_up;
pub mod home;
pub mod interactions;
pub mod messages;
pub mod odd;
pub mod progress;
pub mod run;
pub mod socket;

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use catch_up::catch_up;
use lru::LruCache;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, watch};

use crate::agent::{Answer, Intent, Principal, Refusal, ShortId, ThreadId};
use crate::config::Threads;
use crate::platform::replies;
use crate::platform::slack::inbound::{self, Envelope, Inbound, Who};
use crate::platform::slack::lookup::shown_name;
use crate::platform::slack::{Hot, SURFACE, Slack};
use crate::runtime::{DeliverError, Delivered, Runtime};
use crate::store::StoreError;

/// Things that are at work after their acknowledgement, at one time. More are dropped, and counted: they only look,
/// and whoever asked asks again.
const MAX_AFTER: usize = 512;
/// How long one of them may take.
const AFTER_TIMEOUT: Duration = Duration::from_secs(60);
/// Questions in messages that are remembered as answered, so that their second event is not.
const MAX_LOOKS: usize = 1_000;
/// Windows of which it is remembered where they were opened. What comes of others is said by direct message.
const MAX_WINDOWS: usize = 1_000;

/// What the way in is told.
#[derive(Clone, Debug)]
pub struct FrontSettings {
    /// The agent of conversations that name none.
    pub agent: String,
    /// Agents by channel id.
    pub channels: std::collections::BTreeMap<String, String>,
    /// What an agent hears of a thread in which it takes part.
    pub threads: Threads,
    /// The same by channel id.
    pub channel_threads: std::collections::BTreeMap<String, Threads>,
    pub stop_reaction: String,
    pub progress: bool,
    /// The slash command, for examples in answers.
    pub command: String,
    /// People who may ask for `/agent doctor`, and see all runs.
    pub operators: Vec<String>,
    /// The file in which deliveries are kept that nobody can read; `None`: they are only counted.
    pub odd: Option<std::path::PathBuf>,
}

/// The way in. Clones are handles to the same one.
#[derive(Clone)]
pub struct Front(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub runtime: Runtime,
    pub slack: Slack,
    pub settings: FrontSettings,
    /// Places for what is done after the acknowledgement.
    after: Arc<Semaphore>,
    /// How much of it is at work.
    at_work: watch::Sender<usize>,
    /// What workspaces do not let us show.
    pub refused: progress::Refused,
    /// Teams that are being caught up with.
    pub readings: catch_up::Readings,
    /// Workspaces without sockets that are counted as connected.
    by_http: Mutex<std::collections::BTreeSet<usize>>,
    /// Where deliveries are kept that nobody can read.
    odd: odd::Kept,
    /// Whose App Home has been opened.
    pub homes: home::Homes,
    /// Questions that were answered and left no log, newest first.
    looks: Mutex<LruCache<ShortId, ()>>,
    /// Where windows were opened, by their ids: what comes of them is said there. It holds what gives a right to
    /// answer, so it is in memory only.
    windows: Mutex<LruCache<String, Aside>>,
}

/// The answer to a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Ack {
    /// Taken; nothing to say.
    Empty,
    /// Taken; this goes back with the acknowledgement.
    Json(Value),
    /// The text of `url_verification`.
    Text(String),
    /// Not taken: Slack shall deliver it again.
    Again,
}

/// What came of a delivery: the answer, and a word for the metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taken {
    pub ack: Ack,
    pub outcome: &'static str,
}

impl Taken {
    /// It is in the log.
    const KEPT: Self = Self { ack: Ack::Empty, outcome: "kept" };
    /// It is in the log from before.
    const DUPLICATE: Self = Self { ack: Ack::Empty, outcome: "duplicate" };
    /// It only asks for something to look at, which follows.
    const LOOKED: Self = Self { ack: Ack::Empty, outcome: "looked" };
    const IGNORED: Self = Self { ack: Ack::Empty, outcome: "ignored" };
    const ODD: Self = Self { ack: Ack::Empty, outcome: "odd" };
    /// It was not taken for good; whoever sent it is told why.
    const REFUSED: Self = Self { ack: Ack::Empty, outcome: "refused" };
    /// It was not taken now.
    const AGAIN: Self = Self { ack: Ack::Again, outcome: "again" };

    fn saying(self, answer: Value) -> Self {
        Self { ack: Ack::Json(answer), ..self }
    }
}

/// Where somebody is told something in private.
#[derive(Clone)]
pub(super) struct Aside {
    pub team: String,
    pub user: String,
    pub channel: Option<String>,
    pub thread: Option<String>,
    pub hot: Hot,
    /// What this is about, if it may be delivered again: they are told of it once.
    pub once: Option<ShortId>,
}

impl Aside {
    fn of(by: &Who) -> Self {
        Self {
            team: by.team.clone(),
            user: by.user.clone(),
            channel: None,
            thread: None,
            hot: Hot::default(),
            once: None,
        }
    }

    fn at(self, channel: Option<&str>, thread: Option<&str>) -> Self {
        Self { channel: channel.map(str::to_owned), thread: thread.map(str::to_owned), ..self }
    }

    /// `key` is what a second delivery has in common with this one.
    fn once(self, key: &[&str]) -> Self {
        Self { once: deed(&self.team, key).map(|id| id.short()), ..self }
    }

    /// `slack:<team>:<channel or ->:<user>`, with `:<thread ts>` where there is one.
    fn address(&self) -> String {
        let channel = self.channel.as_deref().unwrap_or("-");
        let thread = self.thread.as_ref().map_or_else(String::new, |thread| format!(":{thread}"));
        format!("{SURFACE}:{}:{channel}:{}{thread}", self.team, self.user)
    }
}

impl Front {
    pub fn new(runtime: Runtime, slack: Slack, settings: FrontSettings) -> Self {
        let odd = odd::Kept::new(settings.odd.clone());
        Self(Arc::new(Inner {
            odd,
            by_http: Mutex::default(),
            runtime,
            slack,
            settings,
            after: Arc::new(Semaphore::new(MAX_AFTER)),
            at_work: watch::Sender::new(0),
            refused: progress::Refused::default(),
            readings: catch_up::Readings::default(),
            homes: home::Homes::default(),
            // reason: they are not zero
            looks: Mutex::new(LruCache::new(NonZeroUsize::new(MAX_LOOKS).unwrap_or(NonZeroUsize::MIN))),
            windows: Mutex::new(LruCache::new(NonZeroUsize::new(MAX_WINDOWS).unwrap_or(NonZeroUsize::MIN))),
        }))
    }

    /// Takes one delivery; durable when this returns anything but [`Ack::Again`].
    pub async fn take(&self, envelope: Envelope) -> Ack {
        let bot = |team: &str| self.0.slack.workspace(team).map(|workspace| workspace.bot_user.clone());
        let mut inbound = inbound::read(&envelope, bot);
        let by = by_of(&mut inbound).map(|by| self.named(by));
        let kind = inbound.name();
        let why = match &inbound {
            Inbound::Odd { why } => why.clone(),
            _ => "it names no place".to_owned(),
        };
        let taken = if self.0.runtime.is_draining() { Taken::AGAIN } else { self.taken(inbound).await };
        self.0.runtime.parts().metrics.delivery(SURFACE, kind, taken.outcome);
        if let Some(by) = by
            && by.name.is_none()
            && taken == Taken::KEPT
        {
            let front = self.clone();
            self.after(async move { progress::learn_name(&front, &by.team, &by.user).await });
        }
        if taken == Taken::ODD {
            let (came, delivery) = match envelope {
                Envelope::Event(delivery) => ("event", delivery),
                Envelope::Interaction(delivery) => ("interaction", delivery),
                Envelope::Command(delivery) => ("command", delivery),
            };
            self.keep_odd(came, &why, delivery);
        }
        taken.ack
    }

    /// Gives a person the name that is known, or remembers the one that came along. Nobody is asked.
    fn named(&self, by: &mut Who) -> Who {
        by.name = by.name.take().and_then(|name| shown_name(&name));
        if self.0.slack.workspace(&by.team).is_some() {
            if let Some(name) = &by.name {
                self.0.slack.learn_name(&by.team, &by.user, name);
            }
            by.name = self.0.slack.known_name(&by.team, &by.user);
        }
        by.clone()
    }

    /// Waits until nothing is at work that was begun after an acknowledgement.
    pub async fn idle(&self) {
        // The sender lives as long as this handle.
        let _ = self.0.at_work.subscribe().wait_for(|n| *n == 0).await;
    }

    pub fn slack(&self) -> &Slack {
        &self.0.slack
    }

    async fn taken(&self, inbound: Inbound) -> Taken {
        if let Some(team) = team(&inbound)
            && !self.0.slack.is_ours(team)
        {
            if self.0.slack.may_be_ours(team) {
                tracing::info!(slack.team = team, "Slack has not said yet whose a token is; a delivery was put off");
                return Taken::AGAIN;
            }
            tracing::info!(slack.team = team, "a delivery for a team that is not configured was ignored");
            return Taken::IGNORED;
        }
        match inbound {
            Inbound::Challenge(text) => Taken { ack: Ack::Text(text), outcome: "looked" },
            Inbound::Message(message) => messages::take(self, *message).await,
            Inbound::Edited { by, channel, thread, ts, text, edited } => {
                let place = messages::Place { by: &by, channel: &channel, thread: thread.as_deref(), ts: &ts };
                messages::edited(self, place, &text, &edited).await
            }
            Inbound::Deleted { by, channel, thread, ts, text } => {
                let place = messages::Place { by: &by, channel: &channel, thread: thread.as_deref(), ts: &ts };
                messages::deleted(self, place, &text).await
            }
            Inbound::Reaction { by, name, channel, ts, at } => {
                messages::reaction(self, &by, &name, &channel, &ts, &at).await
            }
            Inbound::HomeOpened { by } => {
                let front = self.clone();
                self.after(async move { home::publish(&front, &by).await });
                Taken::LOOKED
            }
            Inbound::Stopped { by, channel, thread, at } => messages::stopped(self, &by, &channel, &thread, &at).await,
            Inbound::ViewOpened { by, channel, thread } => {
                let front = self.clone();
                self.after(async move {
                    progress::suggest(&front, &by.team, &channel, thread.as_deref()).await;
                });
                Taken::LOOKED
            }
            Inbound::Action(action) => interactions::action(self, *action).await,
            Inbound::Submission(submission) => interactions::submission(self, *submission).await,
            Inbound::Closed { .. } => Taken::IGNORED,
            Inbound::Shortcut(shortcut) => interactions::shortcut(self, *shortcut),
            Inbound::Command(command) => interactions::command(self, *command).await,
            Inbound::Uninstalled { team } => {
                self.gone(&team, "the app was removed from the workspace; install it again and set the new token");
                Taken::LOOKED
            }
            Inbound::TokensRevoked { team } => {
                self.gone(&team, "the bot's token was revoked; install the app again and set the new token");
                Taken::LOOKED
            }
            Inbound::RateLimited { team, minute } => {
                tracing::warn!(slack.team = team, minute, "Slack left events out, because there were too many");
                catch_up::begin(self, team);
                Taken::LOOKED
            }
            Inbound::Ignored { why } => {
                tracing::debug!(why, "a delivery was ignored");
                Taken::IGNORED
            }
            Inbound::Odd { why } => {
                tracing::warn!(why, "a delivery is not what Slack's documentation says; it was acknowledged");
                Taken::ODD
            }
        }
    }

    /// Whether this is the first delivery of something that leaves no log: it only looks, or came to nothing. Nobody
    /// else is told so after it.
    pub(super) fn is_first_look(&self, key: ShortId) -> bool {
        self.0.looks.lock().unwrap_or_else(PoisonError::into_inner).put(key, ()).is_none()
    }

    /// Remembers where a window was opened.
    pub(super) fn opened(&self, window: String, from: &Aside) {
        self.0.windows.lock().unwrap_or_else(PoisonError::into_inner).put(window, from.clone());
    }

    /// Where a window was opened, if this process knows.
    pub(super) fn opened_from(&self, window: &str) -> Option<Aside> {
        self.0.windows.lock().unwrap_or_else(PoisonError::into_inner).get(window).cloned()
    }

    fn gone(&self, team: &str, why: &str) {
        tracing::error!(slack.team = team, why, "a workspace is gone");
        self.0.slack.disconnect(team);
        self.count_http();
        self.0.slack.trouble(&format!("team {team}"), Some(why.to_owned()));
    }

    /// Brings the gauge of connections up to date: Slack reaches a workspace without sockets by HTTP while its token
    /// is good, and that counts as one.
    fn count_http(&self) {
        let slack = &self.0.slack;
        let apps = slack.settings().apps();
        let connected = slack.workspaces().into_iter().map(|workspace| workspace.index);
        let now = connected.filter(|index| !apps.iter().any(|app| app.contains(index))).collect();
        let mut counted = self.0.by_http.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = &self.0.runtime.parts().metrics;
        counted.difference(&now).for_each(|_| metrics.channel_closed(SURFACE));
        now.difference(&counted).for_each(|_| metrics.channel_connected(SURFACE));
        *counted = now;
    }

    /// Does something after the acknowledgement.
    pub(super) fn after(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(permit) = self.0.after.clone().try_acquire_owned() else {
            tracing::warn!("too much is at work for Slack; an answer was left out");
            self.0.runtime.parts().metrics.delivery(SURFACE, "answer", "dropped");
            return;
        };
        let one = AtWork::one(&self.0);
        tokio::spawn(async move {
            if tokio::time::timeout(AFTER_TIMEOUT, work).await.is_err() {
                tracing::warn!("what was to follow an acknowledgement took too long and was given up");
            }
            drop((permit, one));
        });
    }

    /// Keeps what somebody did; `key` is what a second delivery has in common with it, and another deed has not.
    pub(super) async fn keep(&self, key: &[&str], intent: Intent, aside: &Aside) -> Taken {
        let Some(id) = deed(&aside.team, key) else { return Taken::ODD };
        // Before the log: it may be carried out before this goes on.
        self.0.slack.remember(id.short(), aside.hot.clone());
        match self.0.runtime.intent(&id, intent).await {
            Ok(delivered) => self.answered(&delivered, aside),
            Err(error) => self.failed(&error, aside),
        }
    }

    /// Whether it is kept already.
    pub(super) async fn knows(&self, team: &str, key: &[&str]) -> bool {
        match deed(team, key) {
            Some(id) => self.0.runtime.parts().store.summary(id.short()).await.is_ok(),
            None => false,
        }
    }

    /// What an input came to, once the log has answered.
    pub(super) fn answered(&self, delivered: &Delivered, aside: &Aside) -> Taken {
        match &delivered.answer {
            Answer::Accepted | Answer::Go { .. } => Taken::KEPT,
            Answer::Duplicate | Answer::Stale => Taken::DUPLICATE,
            Answer::Refused(refusal) => {
                self.tell(aside.clone(), replies::refused(refusal));
                Taken::REFUSED
            }
        }
    }

    /// What an input came to that could not be kept: Slack delivers it again, unless that would change nothing.
    pub(super) fn failed(&self, error: &DeliverError, aside: &Aside) -> Taken {
        match error {
            DeliverError::Contended(_) | DeliverError::Draining => Taken::AGAIN,
            DeliverError::Store(
                StoreError::Conflict { .. }
                | StoreError::NotWritable(_)
                | StoreError::Failed(_)
                | StoreError::Locked(_)
                | StoreError::Missing(_)
                | StoreError::Unknown(_),
            ) => {
                tracing::error!(%error, "a delivery could not be kept; Slack shall deliver it again");
                Taken::AGAIN
            }
            DeliverError::Store(StoreError::Deleted(_)) => {
                self.tell(aside.clone(), "This conversation was deleted here. Start a new one.".to_owned());
                Taken::REFUSED
            }
            DeliverError::Store(StoreError::TooNew(_) | StoreError::Corrupt(_))
            | DeliverError::Agent(_)
            | DeliverError::Log { .. }
            | DeliverError::CallRunning { .. } => {
                let reference = format!("{:06x}", fastrand::u32(..0x100_0000));
                tracing::error!(reference, %error, "a delivery can't be kept");
                self.tell(
                    aside.clone(),
                    format!("Something broke on my side. Nothing was run. Reference {reference}."),
                );
                Taken::REFUSED
            }
        }
    }

    /// Tells somebody something in private, after the acknowledgement.
    pub(super) fn tell(&self, aside: Aside, text: String) {
        if aside.once.is_some_and(|key| !self.is_first_look(key)) {
            return;
        }
        let front = self.clone();
        self.after(async move { front.say(&aside, &text).await });
    }

    /// Tells somebody something in private, now.
    pub(super) async fn say(&self, aside: &Aside, text: &str) {
        // It is no deed, but what gives a right to answer is found by the name of one.
        if let Some(id) = deed(&aside.team, &[&format!("{:x}", fastrand::u128(..))]) {
            self.0.slack.remember(id.short(), aside.hot.clone());
            self.0.slack.reply(id.short(), &aside.address(), text).await;
        }
    }

    /// What gives a right to answer, as of now.
    pub(super) fn hot(&self, response_url: Option<&str>) -> Hot {
        let at = self.0.runtime.parts().clock.now().0;
        Hot { response_url: response_url.map(str::to_owned), view_id: None, at }
    }

    /// The agent of a channel.
    pub(super) fn agent(&self, channel: &str) -> &str {
        self.0.settings.channels.get(channel).unwrap_or(&self.0.settings.agent)
    }

    /// Whether only what mentions the agent is for it in threads of this channel.
    pub(super) fn hears_mentions_alone(&self, channel: &str) -> bool {
        let settings = &self.0.settings;
        *settings.channel_threads.get(channel).unwrap_or(&settings.threads) == Threads::Mentions
    }

    /// `!agent`, where the slash command is `/agent`.
    pub(super) fn sign(&self) -> String {
        format!("!{}", self.0.settings.command.trim_start_matches('/'))
    }
}

/// Counts something at work, until it is dropped: also when it breaks off.
struct AtWork(Arc<Inner>);

impl AtWork {
    fn one(inner: &Arc<Inner>) -> Self {
        inner.at_work.send_modify(|n| *n += 1);
        Self(inner.clone())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.send_modify(|n| *n -= 1);
    }
}

/// The person, as threads know them.
pub(super) fn principal(by: &Who) -> Principal {
    Principal { name: by.name.clone(), ..Principal::human(format!("{SURFACE}:{}:{}", by.home, by.user)) }
}

/// The log of something that somebody did: the same for every delivery of it.
fn deed(team: &str, key: &[&str]) -> Option<ThreadId> {
    let mut hash = Sha256::new();
    for part in [&[team], key].concat() {
        // No two lists of parts look the same.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let key = data_encoding::BASE32_NOPAD.encode(digest.get(..20).unwrap_or(&digest)).to_ascii_lowercase();
    format!("system:{SURFACE}:{team}:{key}").parse().ok()
}

/// Who did it, where that is a person.
fn by_of(inbound: &mut Inbound) -> Option<&mut Who> {
    match inbound {
        Inbound::Message(message) => Some(&mut message.by),
        Inbound::Action(action) => Some(&mut action.by),
        Inbound::Submission(submission) => Some(&mut submission.by),
        Inbound::Shortcut(shortcut) => Some(&mut shortcut.by),
        Inbound::Command(command) => Some(&mut command.by),
        Inbound::Edited { by, .. }
        | Inbound::Deleted { by, .. }
        | Inbound::Reaction { by, .. }
        | Inbound::Stopped { by, .. }
        | Inbound::HomeOpened { by }
        | Inbound::ViewOpened { by, .. }
        | Inbound::Closed { by, .. } => Some(by),
        Inbound::Challenge(_)
        | Inbound::Ignored { .. }
        | Inbound::Odd { .. }
        | Inbound::Uninstalled { .. }
        | Inbound::TokensRevoked { .. }
        | Inbound::RateLimited { .. } => None,
    }
}

/// The installation that something came from.
fn team(inbound: &Inbound) -> Option<&str> {
    match inbound {
        Inbound::Challenge(_) | Inbound::Ignored { .. } | Inbound::Odd { .. } => None,
        Inbound::Message(message) => Some(&message.by.team),
        Inbound::Action(action) => Some(&action.by.team),
        Inbound::Submission(submission) => Some(&submission.by.team),
        Inbound::Shortcut(shortcut) => Some(&shortcut.by.team),
        Inbound::Command(command) => Some(&command.by.team),
        Inbound::Edited { by, .. }
        | Inbound::Deleted { by, .. }
        | Inbound::Reaction { by, .. }
        | Inbound::Stopped { by, .. }
        | Inbound::HomeOpened { by }
        | Inbound::ViewOpened { by, .. }
        | Inbound::Closed { by, .. } => Some(&by.team),
        Inbound::Uninstalled { team } | Inbound::TokensRevoked { team } | Inbound::RateLimited { team, .. } => {
            Some(team)
        }
    }
}

/// What somebody of another workspace is told who presses or asks for something here.
pub(super) fn stranger(value: &str) -> String {
    let id = value.split(['|', ' ']).next().unwrap_or("");
    match id.parse() {
        Ok(id) => Refusal::NoSuchApproval { id }.to_string(),
        Err(_) => replies::unknown("request"),
    }
}
