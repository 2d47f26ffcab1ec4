//! Slack as a platform: the Web API, and the translation in both directions.
//!
//! It owns everything about Slack that needs no runtime: connecting workspaces, calling methods at the pace that
//! Slack allows, putting postings into blocks, looking things up, and reading what Slack sends ([`inbound`]).
//! What a delivery leads to is the room `chat`'s.
//!
//! | file | owns |
//! |---|---|
//! | `api` | calling a method: time limits, pace, retries, errors in words |
//! | `post` | postings: where they go, finding one that may stand already, splitting, edits |
//! | `lookup` | groups, earlier messages, files, the thread of a message; private answers |
//! | `blocks` | PURE: what people see, as Block Kit |
//! | `inbound` | PURE: what Slack sends, read into types; signatures |
//! | `manifest` | the app's manifest, and which scope each feature needs |
//!
//! # Names
//! A thread is `slack:<team>:<channel>:<ts of its first message>`, a person `slack:<team>:<user>`, a group
//! `slack:<team>:<S… user group | C… channel, whose members count>`, a place to post `slack:<team>:<channel>` or
//! `slack:<team>:<channel>:<thread ts>`, an address for private answers `slack:<team>:<channel or ->:<user>`
//! with `:<thread ts>` where there is one. The team is always that of the installation, so the same channel id in
//! two teams never mixes; a guest of another team has that team in the id, and so is nobody's approver here.
//!
//! # Why the socket is not slack-morphism's
//! slack-morphism serves the Web API here. Its Socket Mode parses envelopes into closed types and acknowledges
//! what does not fit, hides why Slack disconnects, waits a fixed time to reconnect, has no limit on connecting,
//! and logs the connection's ticket. `chat::slack::socket` is a small loop over the same tungstenite.

pub mod api;
pub mod blocks;
pub mod inbound;
pub mod lookup;
pub mod manifest;
pub mod post;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use secrecy::{ExposeSecret as _, SecretString};

use crate::agent::{ShortId, ThreadId};

/// Threads of this surface begin with `slack:`.
pub const SURFACE: &str = "slack";

/// Different things that are remembered as not working.
const MAX_LACKS: usize = 200;

/// Answers in private that are kept at hand: older ones go to the person by the bot's token instead.
const HOT: usize = 10_000;

/// How long something waits for a workspace that is being connected, in seconds of [`api::Pace`].
const CONNECTING: u32 = 20;

/// What the platform is told.
#[derive(Clone, Debug)]
pub struct SlackSettings {
    /// Base of the Web API, without a slash at its end.
    pub api_url: String,
    pub workspaces: Vec<WorkspaceSettings>,
    /// Address of the web inbox, for links. Without a slash at its end.
    pub public_url: String,
    /// Largest file that is read, in bytes.
    pub max_file: usize,
    /// Most messages that are read when an agent joins a conversation.
    pub max_earlier: usize,
    /// How fast calls go out. Not for operators: they are Slack's limits.
    pub pace: api::Pace,
}

impl SlackSettings {
    /// The workspaces that come by Socket Mode, those of one app together: one app has one token for its sockets.
    pub fn apps(&self) -> Vec<Vec<usize>> {
        let mut apps: Vec<(&str, Vec<usize>)> = Vec::new();
        for (index, workspace) in self.workspaces.iter().enumerate() {
            let Some(token) = &workspace.app_token else { continue };
            match apps.iter_mut().find(|(known, _)| *known == token.expose_secret()) {
                Some((_, members)) => members.push(index),
                None => apps.push((token.expose_secret(), vec![index])),
            }
        }
        apps.into_iter().map(|(_, members)| members).collect()
    }
}

/// One installation.
#[derive(Clone, Debug)]
pub struct WorkspaceSettings {
    /// As configured; `None`: whichever team the token is for.
    pub team: Option<String>,
    pub bot_token: SecretString,
    /// For Socket Mode.
    pub app_token: Option<SecretString>,
    /// For HTTP.
    pub signing_secret: Option<SecretString>,
}

/// A workspace that has answered `auth.test`.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// `T…`, or the enterprise's `E…` for an installation in a whole organisation.
    pub team: String,
    pub name: String,
    /// Base of links into it: `https://acme.slack.com/`.
    pub url: String,
    /// The bot as a user (`U…`): how people mention it.
    pub bot_user: String,
    /// The bot as the sender of messages (`B…`).
    pub bot_id: String,
    /// Which of [`SlackSettings::workspaces`] it is.
    pub index: usize,
}

/// What gives a right to answer for a short time. In memory only: never in a log.
#[derive(Clone, Debug, Default)]
pub struct Hot {
    /// Five answers within thirty minutes.
    pub response_url: Option<String>,
    /// The modal that is open.
    pub view_id: Option<String>,
    /// When it came, in milliseconds since 1970.
    pub at: i64,
}

/// The same, and how much of the right is left.
pub(crate) struct Remembered {
    pub hot: Hot,
    /// When it came here: Slack's times are not our clock's.
    pub since: tokio::time::Instant,
    pub used: u32,
}

/// Slack, connected or connecting. Clones are handles to the same one.
#[derive(Clone)]
pub struct Slack(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub settings: SlackSettings,
    pub api: api::Api,
    pub gates: api::Gates,
    /// By team.
    pub workspaces: RwLock<BTreeMap<String, Arc<Workspace>>>,
    /// Teams that the app was removed from, by the workspace of the settings.
    pub gone: Mutex<BTreeMap<usize, String>>,
    /// Counts workspaces as they connect.
    pub connections: tokio::sync::watch::Sender<u64>,
    /// By what is connected (`team T1`, `socket of T1`): what is wrong with it, for people.
    pub troubles: Mutex<BTreeMap<String, String>>,
    /// By what does not work (`team T1, usergroups.users.list`, `route …`) although all is connected. For operators.
    pub lacks: Mutex<BTreeMap<String, String>>,
    /// By the intent's log.
    pub hot: Mutex<lru::LruCache<ShortId, Remembered>>,
    pub posts: post::Posts,
    pub lookups: lookup::Lookups,
}

impl Slack {
    /// # Errors
    /// No trusted root certificates on this machine; a base URL that is none.
    pub fn new(settings: SlackSettings) -> anyhow::Result<Self> {
        let api = api::Api::within(&settings.api_url, settings.pace.attempt)?;
        // reason: it is not zero
        let hot = std::num::NonZeroUsize::new(HOT).unwrap_or(std::num::NonZeroUsize::MIN);
        Ok(Self(Arc::new(Inner {
            api,
            gates: api::Gates::default(),
            workspaces: RwLock::default(),
            connections: tokio::sync::watch::Sender::default(),
            gone: Mutex::default(),
            troubles: Mutex::default(),
            lacks: Mutex::default(),
            hot: Mutex::new(lru::LruCache::new(hot)),
            posts: post::Posts::default(),
            lookups: lookup::Lookups::new(),
            settings,
        })))
    }

    pub fn settings(&self) -> &SlackSettings {
        &self.0.settings
    }

    /// The workspace of a team, once it is connected.
    pub fn workspace(&self, team: &str) -> Option<Arc<Workspace>> {
        self.0.workspaces.read().unwrap_or_else(PoisonError::into_inner).get(team).cloned()
    }

    pub fn workspaces(&self) -> Vec<Arc<Workspace>> {
        self.0.workspaces.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Whether this workspace of the settings is the one of a team. A token without a team says which one it is for
    /// only once Slack was reached: until then it is for none. A team that is gone is nobody's.
    fn answers_for(&self, index: usize, team: &str) -> bool {
        if self.gone(index).is_some() {
            return false;
        }
        let configured = self.0.settings.workspaces.get(index).map(|workspace| workspace.team.as_deref());
        match (configured, self.workspaces().iter().find(|workspace| workspace.index == index)) {
            (None, _) | (Some(None), None) => false,
            (Some(_), Some(connected)) => connected.team == team,
            (Some(Some(configured)), None) => configured == team,
        }
    }

    /// Whether the app is installed in this team, as far as that is known.
    pub fn is_ours(&self, team: &str) -> bool {
        (0..self.0.settings.workspaces.len()).any(|index| self.answers_for(index, team))
    }

    /// Whether this team may turn out to be ours: it is not known, and there is a token of which Slack has not said
    /// yet which team it is for.
    pub fn may_be_ours(&self, team: &str) -> bool {
        let connected: Vec<usize> = self.workspaces().iter().map(|workspace| workspace.index).collect();
        let mut settings = self.0.settings.workspaces.iter().enumerate();
        let is_unconfirmed = |(index, settings): (usize, &WorkspaceSettings)| {
            settings.team.is_none() && !connected.contains(&index) && self.gone(index).is_none()
        };
        let is_gone = (0..self.0.settings.workspaces.len()).any(|index| self.gone(index).as_deref() == Some(team));
        !self.is_ours(team) && !is_gone && settings.any(is_unconfirmed)
    }

    /// Waits until a team is connected that is about to be: right after a start, what a crash left over is taken up
    /// before Slack has answered for the first time. Bounded; whoever asks finds out then.
    pub async fn ready(&self, team: &str) {
        let mut connections = self.0.connections.subscribe();
        let coming = |index: usize| {
            let settings = self.0.settings.workspaces.get(index).and_then(|w| w.team.as_deref());
            settings.is_none_or(|configured| configured == team) && self.gone(index).is_none()
        };
        let connected = async {
            while self.workspace(team).is_none() && (0..self.0.settings.workspaces.len()).any(coming) {
                // The sender lives as long as this handle.
                let _ = connections.changed().await;
            }
        };
        if tokio::time::timeout(self.0.settings.pace.second * CONNECTING, connected).await.is_err() {
            tracing::warn!(slack.team = team, "Slack is still not connected");
        }
    }

    /// Whether an app that is installed in these workspaces of the settings may speak for this team. For a team that
    /// is nobody's here, anyone may: it comes to nothing.
    pub fn vouches(&self, mut indexes: impl Iterator<Item = usize>, team: &str) -> bool {
        indexes.any(|index| self.answers_for(index, team)) || !self.is_ours(team)
    }

    /// The team that a workspace of the settings was for, if the app was removed from it.
    fn gone(&self, index: usize) -> Option<String> {
        self.0.gone.lock().unwrap_or_else(PoisonError::into_inner).get(&index).cloned()
    }

    /// The app is no longer installed there: nothing is sent any more, and nothing taken, until Slack says that the
    /// token works again.
    pub fn disconnect(&self, team: &str) {
        let known = self.0.workspaces.write().unwrap_or_else(PoisonError::into_inner).remove(team);
        let mut settings = self.0.settings.workspaces.iter();
        let index = known.map(|known| known.index).or_else(|| settings.position(|w| w.team.as_deref() == Some(team)));
        if let Some(index) = index {
            self.0.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(index, team.to_owned());
        }
    }

    /// A link to the first message of a thread, or to the first of the messages that a posting's reference names.
    pub fn link(&self, thread: &ThreadId, reference: Option<&str>) -> Option<String> {
        let place = Place::parse(thread.as_str())?;
        let root = place.thread.clone()?;
        let first = reference.and_then(|reference| reference.split(' ').next()?.split_once('/'));
        let (channel, ts) = first.unwrap_or((&place.channel, &root));
        let workspace = self.workspace(&place.team)?;
        let within = (*channel == *place.channel && ts != root).then_some(root.as_str());
        Some(permalink(&workspace.url, channel, ts, within))
    }

    /// Notes what is wrong with a connection, or that all is well again. `what` names it.
    pub fn trouble(&self, what: &str, trouble: Option<String>) {
        let mut troubles = self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(words) => drop(troubles.insert(what.to_owned(), words)),
            None => drop(troubles.remove(what)),
        }
    }

    /// What is wrong with the connections, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let troubles = self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.iter().map(|(what, words)| format!("Slack, {what}: {words}")).collect()
    }

    /// Notes something that does not work while the connection does: a scope that was not granted, a route that leads
    /// nowhere. It is logged once, and no reason to call the service not ready: all the rest works.
    pub fn lack(&self, what: &str, words: String) {
        let mut lacks = self.0.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        if lacks.len() >= MAX_LACKS && !lacks.contains_key(what) {
            return;
        }
        if lacks.get(what) != Some(&words) {
            tracing::warn!(slack.what = what, "Slack: {words}");
            lacks.insert(what.to_owned(), words);
        }
    }

    /// What does not work although all is connected, one sentence each.
    pub fn lacks(&self) -> Vec<String> {
        let lacks = self.0.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        lacks.iter().map(|(what, words)| format!("Slack, {what}: {words}")).collect()
    }

    /// What is wrong with the connections of one team, and what does not work there although it is connected:
    /// neither other teams' nor what cannot be told to be this one's.
    pub fn problems_of(&self, team: &str) -> Vec<String> {
        let troubles = self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let lacks = self.0.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = troubles.iter().chain(lacks.iter()).filter(|(what, _)| {
            // `team T1`, `team T1, chat.postMessage`, `socket of T1`, `route slack:T1:C9`
            let name = what.split([' ', ',', ':']).filter(|word| !word.is_empty()).nth(1);
            match what.split(' ').next() {
                Some("socket") => what.split(' ').nth(2).is_none_or(|of| of == team),
                Some("route") => what.split(':').nth(1) == Some(team),
                _ => name == Some(team),
            }
        });
        ours.map(|(what, words)| format!("Slack, {what}: {words}")).collect()
    }

    /// Keeps what gives a right to answer the intent `key`.
    pub fn remember(&self, key: ShortId, hot: Hot) {
        let remembered = Remembered { hot, since: tokio::time::Instant::now(), used: 0 };
        self.0.hot.lock().unwrap_or_else(PoisonError::into_inner).put(key, remembered);
    }
}

/// The parts of a name that begins with `slack:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub team: String,
    pub channel: String,
    /// The first message of the thread.
    pub thread: Option<String>,
}

impl Place {
    /// Reads a thread's id, or a place to post.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (surface, team, channel) = (parts.next()?, parts.next()?, parts.next()?);
        let thread = parts.next().map(str::to_owned);
        let whole = surface == SURFACE && !team.is_empty() && !channel.is_empty() && parts.next().is_none();
        whole.then(|| Self { team: team.to_owned(), channel: channel.to_owned(), thread })
    }

    /// The thread that a message in this channel starts or belongs to.
    pub fn thread_id(&self, ts: &str) -> Option<ThreadId> {
        format!("{SURFACE}:{}:{}:{ts}", self.team, self.channel).parse().ok()
    }
}

/// The address of a message, as `chat.getPermalink` gives it; `thread` is the first message of its thread, if it is
/// not that one itself. `workspace` ends with a slash.
pub fn permalink(workspace: &str, channel: &str, ts: &str, thread: Option<&str>) -> String {
    let within = thread.map_or_else(String::new, |first| format!("?thread_ts={first}&cid={channel}"));
    format!("{workspace}archives/{channel}/p{}{within}", ts.replace('.', ""))
}

/// The team and user of a person's id.
pub fn person_parts(id: &str) -> Option<(&str, &str)> {
    let (team, user) = id.strip_prefix("slack:")?.split_once(':')?;
    (!team.is_empty() && !user.is_empty() && !user.contains(':')).then_some((team, user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspaces_of_one_app_share_its_sockets() {
        let workspace = |app: Option<&str>| WorkspaceSettings {
            team: None,
            bot_token: SecretString::from("xoxb-1"),
            app_token: app.map(SecretString::from),
            signing_secret: None,
        };
        let settings = SlackSettings {
            api_url: String::new(),
            workspaces: vec![
                workspace(Some("xapp-1")),
                workspace(None),
                workspace(Some("xapp-2")),
                workspace(Some("xapp-1")),
            ],
            public_url: String::new(),
            max_file: 0,
            max_earlier: 0,
            pace: api::Pace::default(),
        };
        assert_eq!(settings.apps(), [vec![0, 3], vec![2]]);
    }
}
