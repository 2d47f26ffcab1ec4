//! A Slack on loopback: the Web API, Socket Mode, and deliveries by HTTP, as PLATFORMS.md (S1 to S22) has them.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | teams, people, channels, messages, what went wrong; orders for faults; reading what stands |
//! | `web_api` | the methods, response URLs and files over HTTP: tokens, scopes, argument types, refusals |
//! | `limits` | what Slack refuses in blocks and views |
//! | `deliveries` | what people do ([`Person`]), as payloads, by signed HTTP or over the socket |
//! | `socket` | Socket Mode: tickets, envelopes, acknowledgements, refreshes |
//!
//! It answers as Slack answers. What Slack refuses *because the program made a mistake* (blocks over a limit, a
//! JSON body for a method that reads, a call during a `Retry-After`, a late acknowledgement, a reused block id)
//! fails the test when the fake is dropped, and so do ordered faults that nobody ran into and private answers
//! that nobody looked at. What Slack refuses because its world is like that (not in the channel, a scope that is
//! missing, an expired trigger) is only answered.
//!
//! Its time is a [`Clock`]: timestamps of messages and signatures, life of triggers and response URLs. Pace and
//! acknowledgements are in tokio's time.

// The stories of several rooms use it; not each of them uses everything.
#![allow(dead_code)]

pub mod deliveries;
pub mod limits;
pub mod socket;
pub mod web_api;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use twelve::runtime::Clock;

pub use deliveries::{Line, Person};

/// Scopes of the manifest's example, and those that features beyond it need.
pub const SCOPES: [&str; 20] = [
    "app_mentions:read",
    "assistant:write",
    "channels:history",
    "channels:read",
    "chat:write",
    "commands",
    "files:read",
    "groups:history",
    "groups:read",
    "im:history",
    "im:read",
    "im:write",
    "mpim:history",
    "mpim:read",
    "mpim:write",
    "reactions:read",
    "reactions:write",
    "usergroups:read",
    "users:read",
    "users:read.email",
];

/// How long a test waits for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Five answers, thirty minutes.
pub const RESPONSE_USES: u32 = 5;
pub const RESPONSE_LIFE_MS: i64 = 30 * 60 * 1000;
pub const TRIGGER_LIFE_MS: i64 = 3_000;

/// The fake, as the test owns it. Methods are [`Handle`]'s.
pub struct FakeSlack {
    handle: Handle,
    serving: Vec<JoinHandle<()>>,
    finished: bool,
}

/// A handle to the fake.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    clock: Clock,
    /// `http://127.0.0.1:<port>`.
    origin: String,
    /// `ws://127.0.0.1:<port>`.
    socket_origin: String,
    http: reqwest::Client,
    /// Where deliveries go, and the connections of the socket.
    line: Mutex<Line>,
    sockets: socket::Sockets,
}

#[derive(Default)]
pub struct State {
    pub apps: BTreeMap<String, App>,
    pub teams: BTreeMap<String, Team>,
    /// Every call of a method, in order.
    pub calls: Vec<Call>,
    /// What was said in private, by `chat.postEphemeral` or a response URL, and not yet looked at.
    pub private: Vec<Private>,
    pub response_urls: BTreeMap<String, ResponseUrl>,
    pub triggers: BTreeMap<String, Trigger>,
    /// What the program must not do.
    wrong: Vec<String>,
    faults: Vec<Ordered>,
    paces: BTreeMap<String, web_api::Pace>,
    /// Calls of method and channel that are to stay away, until then.
    held_off: BTreeMap<(String, String, String), tokio::time::Instant>,
    unknown_methods: BTreeSet<String>,
    private_ignored: bool,
    echo: bool,
    counter: u64,
    last_micros: i64,
}

/// An app as it is registered: its secrets.
#[derive(Clone, Debug)]
pub struct App {
    pub id: String,
    pub signing_secret: String,
    pub app_token: String,
    /// Its tickets for the socket, not yet used.
    tickets: BTreeSet<String>,
    /// Whether Socket Mode is switched off in the app's settings.
    socket_disabled: bool,
}

pub struct Team {
    pub id: String,
    pub app: String,
    pub name: String,
    pub domain: String,
    pub token: String,
    pub bot_user: String,
    pub bot_id: String,
    pub scopes: BTreeSet<String>,
    /// What every call is refused with: `account_inactive`, `token_revoked`.
    pub refused: Option<String>,
    pub users: BTreeMap<String, User>,
    pub channels: BTreeMap<String, Channel>,
    pub groups: BTreeMap<String, Group>,
    pub messages: Vec<Message>,
    pub files: BTreeMap<String, File>,
    /// Modals, by id.
    pub views: BTreeMap<String, View>,
    /// Published homes, by user: the view, and how often it was published.
    pub homes: BTreeMap<String, (View, u32)>,
    /// Status line by channel and thread; every one that was ever set.
    pub statuses: Vec<(String, String, String)>,
    /// State of the session by channel and thread; every one that was ever set.
    pub sessions: Vec<(String, String, String)>,
    /// Suggested prompts by channel and thread.
    pub prompts: Vec<(String, String, Value)>,
}

#[derive(Clone, Debug)]
pub struct User {
    pub id: String,
    pub name: String,
    pub real_name: String,
    /// Another team's for guests of shared channels.
    pub home: String,
    pub is_bot: bool,
    pub deleted: bool,
    /// As the profile shows it, if the user has confirmed it.
    pub email: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    Public,
    Private,
    Im,
    Mpim,
}

#[derive(Clone, Debug)]
pub struct Channel {
    pub id: String,
    pub name: String,
    pub kind: ChannelKind,
    pub members: BTreeSet<String>,
    pub archived: bool,
}

impl Channel {
    /// As events name it.
    pub fn event_kind(&self) -> &'static str {
        match self.kind {
            ChannelKind::Public => "channel",
            ChannelKind::Private => "group",
            ChannelKind::Im => "im",
            ChannelKind::Mpim => "mpim",
        }
    }

    /// As scopes name it.
    fn scope_kind(&self) -> &'static str {
        match self.kind {
            ChannelKind::Public => "channels",
            ChannelKind::Private => "groups",
            ChannelKind::Im => "im",
            ChannelKind::Mpim => "mpim",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Group {
    pub id: String,
    pub handle: String,
    pub name: String,
    pub members: Vec<String>,
    pub disabled: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub team: String,
    pub channel: String,
    pub ts: String,
    pub thread_ts: Option<String>,
    pub user: String,
    /// Set for messages of bots.
    pub bot_id: Option<String>,
    pub text: String,
    pub blocks: Vec<Value>,
    pub metadata: Option<Value>,
    pub files: Vec<String>,
    /// How often it was edited.
    pub edits: u32,
    /// Every content before the one that stands: text and blocks.
    pub before: Vec<(String, Vec<Value>)>,
    pub deleted: bool,
    /// Name and user.
    pub reactions: BTreeSet<(String, String)>,
}

impl Message {
    /// The thread it is in, or that it starts.
    pub fn root(&self) -> &str {
        self.thread_ts.as_deref().unwrap_or(&self.ts)
    }

    /// The action ids of its buttons and menus, in order.
    pub fn actions(&self) -> Vec<String> {
        elements(&self.blocks).iter().filter_map(|e| e["action_id"].as_str().map(str::to_owned)).collect()
    }

    /// Every text that people read in it, a line each.
    pub fn words(&self) -> String {
        words(&self.blocks, &self.text)
    }
}

/// Something that one person saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Private {
    pub team: String,
    pub channel: String,
    pub user: String,
    pub thread_ts: Option<String>,
    pub text: String,
    pub blocks: Vec<Value>,
    /// `ephemeral` or `response_url`.
    pub by: &'static str,
    pub ts: String,
}

impl Private {
    pub fn words(&self) -> String {
        words(&self.blocks, &self.text)
    }

    pub fn actions(&self) -> Vec<String> {
        elements(&self.blocks).iter().filter_map(|e| e["action_id"].as_str().map(str::to_owned)).collect()
    }
}

#[derive(Clone, Debug)]
pub struct File {
    pub id: String,
    pub name: String,
    pub mimetype: String,
    pub content: Vec<u8>,
    /// As it is announced; another one than the content's for a file that lies.
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub id: String,
    pub user: String,
    pub hash: String,
    /// As it was given, with block ids filled in.
    pub view: Value,
    pub open: bool,
}

impl View {
    pub fn words(&self) -> String {
        let blocks = self.view["blocks"].as_array().cloned().unwrap_or_default();
        let title = self.view["title"]["text"].as_str().unwrap_or("");
        words(&blocks, title)
    }

    pub fn callback(&self) -> &str {
        self.view["callback_id"].as_str().unwrap_or("")
    }
}

#[derive(Clone, Debug)]
pub struct ResponseUrl {
    pub team: String,
    pub channel: String,
    pub user: String,
    pub thread_ts: Option<String>,
    /// The message that it is about, if it is one that stands in a channel.
    pub message: Option<String>,
    pub made: i64,
    pub used: u32,
}

#[derive(Clone, Debug)]
pub struct Trigger {
    pub team: String,
    pub user: String,
    pub made: i64,
    pub used: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub team: String,
    pub method: String,
    pub args: Value,
    /// `ok`, or the error.
    pub answer: String,
    pub at: i64,
}

/// What goes wrong with a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Refused with this error.
    Error(&'static str),
    /// This status, without doing anything.
    Status(u16),
    /// 429 with `Retry-After`, in seconds; the same method and channel have to stay away that long.
    RateLimited(u64),
    /// The connection breaks before anything is done.
    Reset,
    /// It is done, and the connection breaks before the answer.
    DoneThenReset,
    /// It is done, and half of the answer comes.
    DoneThenHalf,
    /// It is done, and the answer is a 500.
    DoneThenStatus(u16),
    /// It is done, and no answer comes while the connection stays: until the other side gives up.
    DoneThenSilence,
}

struct Ordered {
    method: String,
    /// Only calls with these words in their arguments; empty: any.
    about: String,
    fault: Fault,
    /// `None`: always.
    left: Option<u32>,
    met: bool,
}

impl Drop for FakeSlack {
    fn drop(&mut self) {
        for task in &self.serving {
            task.abort();
        }
        if !std::thread::panicking() && !self.finished {
            self.handle.check();
        }
    }
}

impl Deref for FakeSlack {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl FakeSlack {
    /// One app `A1` in one team `T1`, furnished as [`Handle::add_team`] says. Deliveries go over the socket.
    pub async fn start(clock: &Clock) -> Self {
        crate::crypto();
        let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ws = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handle = Handle(Arc::new(Shared {
            state: Mutex::new(State { last_micros: clock.now().0 * 1000, ..State::default() }),
            changes: watch::Sender::new(0),
            clock: clock.clone(),
            origin: format!("http://{}", api.local_addr().unwrap()),
            socket_origin: format!("ws://{}", ws.local_addr().unwrap()),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            line: Mutex::new(Line::Socket),
            sockets: socket::Sockets::default(),
        }));
        handle.add_app("A1");
        handle.add_team("T1", "A1");
        let serving =
            vec![tokio::spawn(web_api::serve(handle.clone(), api)), tokio::spawn(socket::serve(handle.clone(), ws))];
        Self { handle, serving, finished: false }
    }

    /// Ends it now: nothing went wrong, and nothing is left unread.
    pub fn finish(mut self) {
        self.finished = true;
        self.handle.check();
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Handle {
    /// For `SLACK_API_URL`.
    pub fn api_url(&self) -> String {
        format!("{}/api", self.0.origin)
    }

    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    fn now(&self) -> i64 {
        self.0.clock.now().0
    }

    /// Looks at everything, or changes it.
    pub fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let result = f(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.changes.send_modify(|n| *n += 1);
        result
    }

    fn peek<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        f(&self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something is there.
    pub async fn until<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let mut changes = self.0.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(found) = self.peek(&look) {
                return found;
            }
            if tokio::time::timeout(PATIENCE, changes.changed()).await.is_err() {
                panic!("in vain: {what}\n{}", self.describe());
            }
        }
    }

    // ---- the world

    /// An app with secrets of its own: `xapp-test-<id>`, `secret-of-<id>`.
    pub fn add_app(&self, id: &str) {
        let app = App {
            id: id.to_owned(),
            signing_secret: format!("secret-of-{id}"),
            app_token: format!("xapp-test-{id}"),
            tickets: BTreeSet::new(),
            socket_disabled: false,
        };
        self.with(|s| s.apps.insert(id.to_owned(), app));
    }

    /// A team where the app is installed: token `xoxb-test-<team>`, the bot `UBOT<team>`/`BBOT<team>` named agent;
    /// people U1 ann, U2 bob, U3 eve; channels C1 #ops with all of them, C2 #releases without the bot, G1 #secret
    /// (private) with bot, ann and bob; the user group S1 @release-team with bob. All ids are the same in all
    /// teams.
    pub fn add_team(&self, id: &str, app: &str) {
        let bot = format!("UBOT{id}");
        let user = |user: &str, name: &str, real: &str| User {
            id: user.to_owned(),
            name: name.to_owned(),
            real_name: real.to_owned(),
            home: id.to_owned(),
            is_bot: user == bot,
            deleted: false,
            email: None,
        };
        let users = [
            user("U1", "ann", "Ann Adams"),
            user("U2", "bob", "Bob Brown"),
            user("U3", "eve", "Eve Evans"),
            user(&bot, "agent", "Agent"),
        ];
        let channel = |channel: &str, name: &str, kind, members: &[&str]| Channel {
            id: channel.to_owned(),
            name: name.to_owned(),
            kind,
            members: members.iter().map(|m| (*m).to_owned()).collect(),
            archived: false,
        };
        let channels = [
            channel("C1", "ops", ChannelKind::Public, &["U1", "U2", "U3", &bot]),
            channel("C2", "releases", ChannelKind::Public, &["U1", "U2", "U3"]),
            channel("G1", "secret", ChannelKind::Private, &["U1", "U2", &bot]),
        ];
        let group = Group {
            id: "S1".to_owned(),
            handle: "release-team".to_owned(),
            name: "Release team".to_owned(),
            members: vec!["U2".to_owned()],
            disabled: false,
        };
        let team = Team {
            id: id.to_owned(),
            app: app.to_owned(),
            name: format!("Acme {id}"),
            domain: format!("acme-{}", id.to_lowercase()),
            token: format!("xoxb-test-{id}"),
            bot_user: bot.clone(),
            bot_id: format!("BBOT{id}"),
            scopes: SCOPES.iter().map(|s| (*s).to_owned()).collect(),
            refused: None,
            users: users.into_iter().map(|u| (u.id.clone(), u)).collect(),
            channels: channels.into_iter().map(|c| (c.id.clone(), c)).collect(),
            groups: [(group.id.clone(), group)].into(),
            messages: Vec::new(),
            files: BTreeMap::new(),
            views: BTreeMap::new(),
            homes: BTreeMap::new(),
            statuses: Vec::new(),
            sessions: Vec::new(),
            prompts: Vec::new(),
        };
        self.with(|s| s.teams.insert(id.to_owned(), team));
    }

    /// Looks at a team, or changes it.
    pub fn team<R>(&self, team: &str, f: impl FnOnce(&mut Team) -> R) -> R {
        self.with(|s| f(s.teams.get_mut(team).unwrap_or_else(|| panic!("no team {team}"))))
    }

    /// Takes a scope away, as if the app was installed before it was asked for.
    pub fn revoke(&self, team: &str, scope: &str) {
        assert!(self.team(team, |t| t.scopes.remove(scope)), "there was no scope {scope}");
    }

    /// Somebody with these rights in this team.
    pub fn person(&self, team: &str, user: &str) -> Person {
        self.team(team, |t| assert!(t.users.contains_key(user), "no user {user}"));
        Person::new(self.clone(), team, user)
    }

    /// A file that lies in the team; its id.
    pub fn add_file(&self, team: &str, name: &str, mimetype: &str, content: &[u8]) -> String {
        let id = self.next_id("F");
        let file = File {
            id: id.clone(),
            name: name.to_owned(),
            mimetype: mimetype.to_owned(),
            size: content.len() as u64,
            content: content.to_vec(),
        };
        self.team(team, |t| t.files.insert(id.clone(), file));
        id
    }

    /// A method that this Slack does not know (S22).
    pub fn forget_method(&self, method: &str) {
        self.with(|s| s.unknown_methods.insert(method.to_owned()));
    }

    // ---- orders

    /// The next call of a method goes wrong.
    pub fn fault(&self, method: &str, fault: Fault) {
        self.fault_about(method, "", fault);
    }

    /// The next call of a method whose arguments, as JSON, contain these words.
    pub fn fault_about(&self, method: &str, about: &str, fault: Fault) {
        let ordered = Ordered { method: method.to_owned(), about: about.to_owned(), fault, left: Some(1), met: false };
        self.with(|s| s.faults.push(ordered));
    }

    /// From now on every call of a method.
    pub fn fault_always(&self, method: &str, fault: Fault) {
        let ordered = Ordered { method: method.to_owned(), about: String::new(), fault, left: None, met: false };
        self.with(|s| s.faults.push(ordered));
    }

    /// All is well again with this method.
    pub fn heal(&self, method: &str) {
        self.with(|s| {
            let unmet = s.faults.iter().any(|f| f.method == method && !f.met);
            assert!(!unmet, "nobody ran into the fault of {method}");
            s.faults.retain(|f| f.method != method);
        });
    }

    /// At most `calls` of a method within `per`, in each channel; else 429 with this `Retry-After` in seconds.
    pub fn pace(&self, method: &str, calls: usize, per: Duration, retry_after: u64) {
        self.with(|s| s.paces.insert(method.to_owned(), web_api::Pace::new(calls, per, retry_after)));
    }

    /// Messages of the bot come back as events (S19), edits as well.
    pub fn echo(&self) {
        self.with(|s| s.echo = true);
    }

    // ---- what stands

    pub fn calls(&self, method: &str) -> Vec<Call> {
        self.peek(|s| s.calls.iter().filter(|c| c.method == method).cloned().collect())
    }

    /// All messages of a channel that stand, in order.
    pub fn messages(&self, team: &str, channel: &str) -> Vec<Message> {
        self.peek(|s| {
            let Some(team) = s.teams.get(team) else { return Vec::new() };
            team.messages.iter().filter(|m| m.channel == channel && !m.deleted).cloned().collect()
        })
    }

    /// The messages of a thread that stand, its root first.
    pub fn thread(&self, team: &str, channel: &str, root: &str) -> Vec<Message> {
        self.messages(team, channel).into_iter().filter(|m| m.root() == root).collect()
    }

    pub fn message(&self, team: &str, channel: &str, ts: &str) -> Message {
        let found = self.messages(team, channel).into_iter().find(|m| m.ts == ts);
        found.unwrap_or_else(|| panic!("no message {ts} in {channel}\n{}", self.describe()))
    }

    /// Waits for a message of the bot in a channel (also edited into this) that has these words, and returns the
    /// newest.
    pub async fn posted(&self, team: &str, channel: &str, words: &str) -> Message {
        self.until(&format!("a message in {channel} with {words:?}"), |s| {
            let messages = s.teams.get(team)?.messages.iter().rev();
            messages
                .filter(|m| m.channel == channel && m.bot_id.is_some() && !m.deleted)
                .find(|m| m.words().contains(words))
                .cloned()
        })
        .await
    }

    /// The channel of direct messages between the bot and somebody.
    pub fn dm_channel(&self, team: &str, user: &str) -> String {
        self.team(team, |t| t.dm(&[user.to_owned()]))
    }

    /// Waits for what somebody is told in private, and takes it: what is left at the end fails the test.
    pub async fn private(&self, team: &str, user: &str) -> Private {
        let ts = self
            .until(&format!("something in private for {user}"), |s| {
                s.private.iter().find(|p| p.team == team && p.user == user).map(|p| p.ts.clone())
            })
            .await;
        self.with(|s| {
            let at = s.private.iter().position(|p| p.ts == ts).unwrap();
            s.private.remove(at)
        })
    }

    /// What was said in private is of no interest to this test.
    pub fn ignore_private(&self) {
        self.with(|s| s.private_ignored = true);
    }

    /// Waits for the modal that is open before somebody.
    pub async fn modal(&self, team: &str, user: &str) -> View {
        self.until(&format!("an open modal of {user}"), |s| {
            let mut views = s.teams.get(team)?.views.values();
            views.rfind(|v| v.user == user && v.open).cloned()
        })
        .await
    }

    /// Waits for the home of somebody to have these words.
    pub async fn home(&self, team: &str, user: &str, words: &str) -> View {
        self.until(&format!("a home of {user} with {words:?}"), |s| {
            let (view, _) = s.teams.get(team)?.homes.get(user)?;
            view.words().contains(words).then(|| view.clone())
        })
        .await
    }

    // ---- judgement

    /// Something that the program must not do.
    fn mind(&self, what: impl Into<String>) {
        self.with(|s| s.wrong.push(what.into()));
    }

    /// What the program did wrong so far, with these words, is what this test wants: takes it off the list.
    ///
    /// # Panics
    /// If nothing was wrong.
    pub fn excuse(&self, words: &str) -> Vec<String> {
        let excused: Vec<String> = self.with(|s| {
            let (excused, rest) = std::mem::take(&mut s.wrong).into_iter().partition(|w| w.contains(words));
            s.wrong = rest;
            excused
        });
        assert!(!excused.is_empty(), "nothing was wrong with {words:?}\n{}", self.describe());
        excused
    }

    /// Nothing went wrong, and nothing is left unread.
    ///
    /// # Panics
    /// If not.
    pub fn check(&self) {
        let (wrong, unmet, private) = self.peek(|s| {
            let unmet: Vec<String> =
                s.faults.iter().filter(|f| !f.met).map(|f| format!("{}: {:?}", f.method, f.fault)).collect();
            let private = if s.private_ignored { Vec::new() } else { s.private.clone() };
            (s.wrong.clone(), unmet, private)
        });
        assert_eq!(wrong, Vec::<String>::new(), "Slack minds\n{}", self.describe());
        assert_eq!(unmet, Vec::<String>::new(), "faults that nobody ran into\n{}", self.describe());
        assert_eq!(private, Vec::new(), "private answers that nobody looked at");
    }

    /// Everything that stands, for the reader of a failed test.
    pub fn describe(&self) -> String {
        self.peek(|s| {
            let mut lines = vec!["--- Slack:".to_owned()];
            for team in s.teams.values() {
                for m in &team.messages {
                    let gone = if m.deleted { " (deleted)" } else { "" };
                    let thread = m.thread_ts.as_deref().map(|t| format!(" in {t}")).unwrap_or_default();
                    let at = format!("{} {} {}{thread}{gone} by {}", m.team, m.channel, m.ts, m.user);
                    lines.push(format!("{at}, {} edits: {:?} {:?}", m.edits, m.words(), m.actions()));
                }
                for v in team.views.values() {
                    let open = if v.open { "open" } else { "closed" };
                    lines.push(format!("{} view {} of {} ({open}): {:?}", team.id, v.id, v.user, v.words()));
                }
            }
            lines.extend(s.private.iter().map(|p| format!("private to {} in {}: {:?}", p.user, p.channel, p.words())));
            let start = s.calls.len().saturating_sub(40);
            for c in s.calls.iter().skip(start) {
                let args: String = c.args.to_string().chars().take(160).collect();
                lines.push(format!("call {} {}: {} {args}", c.team, c.method, c.answer));
            }
            lines.extend(s.wrong.iter().map(|w| format!("WRONG {w}")));
            lines.join("\n")
        })
    }

    // ---- ids

    fn next_id(&self, prefix: &str) -> String {
        self.with(|s| s.next_id(prefix))
    }
}

impl State {
    fn next_id(&mut self, prefix: &str) -> String {
        self.counter += 1;
        format!("{prefix}{:06}", self.counter)
    }

    /// A timestamp for a message: now, and later than all before.
    fn next_ts(&mut self, now_ms: i64) -> String {
        self.last_micros = (now_ms * 1000).max(self.last_micros + 100);
        format!("{}.{:06}", self.last_micros / 1_000_000, self.last_micros % 1_000_000)
    }

    fn trigger(&mut self, team: &str, user: &str, now: i64) -> String {
        let id = self.next_id("trigger.");
        self.triggers
            .insert(id.clone(), Trigger { team: team.to_owned(), user: user.to_owned(), made: now, used: false });
        id
    }
}

impl Team {
    /// The conversation between the bot and these people; it is opened if there is none.
    fn dm(&mut self, users: &[String]) -> String {
        let id = match users {
            [user] => format!("D{user}"),
            several => format!("GM{}", several.concat()),
        };
        let kind = if users.len() == 1 { ChannelKind::Im } else { ChannelKind::Mpim };
        let mut members: BTreeSet<String> = users.iter().cloned().collect();
        members.insert(self.bot_user.clone());
        let name = if users.len() == 1 { String::new() } else { format!("mpdm-{}", users.join("--")) };
        let channel = Channel { id: id.clone(), name, kind, members, archived: false };
        self.channels.entry(id.clone()).or_insert(channel);
        id
    }

    /// A message as the API and events show it.
    fn shown(&self, message: &Message, with_metadata: bool, origin: &str) -> Value {
        let mut shown = json!({
            "type": "message",
            "user": message.user,
            "text": message.text,
            "ts": message.ts,
            "team": self.id,
        });
        let is_bot = message.bot_id.is_some();
        if !message.blocks.is_empty() {
            shown["blocks"] = Value::from(message.blocks.clone());
        } else if !is_bot {
            let text = if message.text.is_empty() { " " } else { &message.text };
            shown["blocks"] = json!([{"type": "rich_text", "block_id": "b", "elements": [
                {"type": "rich_text_section", "elements": [{"type": "text", "text": text}]}]}]);
        }
        if let Some(bot) = &message.bot_id {
            shown["bot_id"] = bot.clone().into();
            shown["app_id"] = self.app.clone().into();
        } else {
            shown["client_msg_id"] = format!("cm-{}", message.ts).into();
        }
        if let Some(root) = &message.thread_ts {
            shown["thread_ts"] = root.clone().into();
            let parent = self.messages.iter().find(|m| m.ts == *root && m.channel == message.channel);
            if let Some(parent) = parent.filter(|_| *root != message.ts) {
                shown["parent_user_id"] = parent.user.clone().into();
            }
        }
        let replies = self
            .messages
            .iter()
            .filter(|m| m.thread_ts.as_deref() == Some(&message.ts) && m.channel == message.channel);
        let replies = replies.filter(|m| !m.deleted).count();
        if replies > 0 && message.thread_ts.is_none() {
            shown["thread_ts"] = message.ts.clone().into();
            shown["reply_count"] = replies.into();
        }
        if message.edits > 0 {
            shown["edited"] = json!({"user": message.user, "ts": format!("{}.000000", message.edits)});
        }
        if !message.files.is_empty() {
            let files = message.files.iter().filter_map(|id| self.files.get(id));
            shown["files"] = files.map(|f| f.shown(&self.id, origin)).collect();
        }
        if with_metadata && let Some(metadata) = &message.metadata {
            shown["metadata"] = metadata.clone();
        }
        if !message.reactions.is_empty() {
            let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for (name, user) in &message.reactions {
                by_name.entry(name).or_default().push(user);
            }
            let shown_reactions = by_name.iter().map(|(n, u)| json!({"name": n, "users": u, "count": u.len()}));
            shown["reactions"] = shown_reactions.collect();
        }
        shown
    }
}

impl File {
    fn shown(&self, team: &str, origin: &str) -> Value {
        let url = format!("{origin}/files-pri/{team}-{}", self.id);
        let extension = self.name.rsplit_once('.').map_or("text", |(_, e)| e);
        json!({
            "id": self.id, "name": self.name, "title": self.name, "mimetype": self.mimetype, "filetype": extension,
            "pretty_type": "File", "size": self.size, "mode": "hosted", "is_external": false, "user_team": team,
            "file_access": "visible",
            "url_private": format!("{url}/{}", self.name),
            "url_private_download": format!("{url}/download/{}", self.name),
        })
    }
}

/// The elements of all blocks that can be pressed or chosen.
fn elements(blocks: &[Value]) -> Vec<Value> {
    let mut found = Vec::new();
    for block in blocks {
        if matches!(block["type"].as_str(), Some("actions" | "context_actions")) {
            found.extend(block["elements"].as_array().into_iter().flatten().map(|e| with_block(e, block)));
        }
        for name in ["accessory", "element"] {
            if block[name]["action_id"].is_string() {
                found.push(with_block(&block[name], block));
            }
        }
    }
    found
}

fn with_block(element: &Value, block: &Value) -> Value {
    let mut element = element.clone();
    element["block_id"] = block["block_id"].clone();
    element
}

/// Every text in blocks, a line each, in order; the plain text if there are no blocks.
fn words(blocks: &[Value], text: &str) -> String {
    fn collect(value: &Value, into: &mut VecDeque<String>) {
        match value {
            Value::Object(object) => {
                for key in ["title", "label", "text", "fields", "elements", "element", "accessory", "options", "hint"] {
                    match object.get(key) {
                        Some(Value::String(text)) if key == "text" => into.push_back(text.clone()),
                        Some(value) => collect(value, into),
                        None => {}
                    }
                }
            }
            Value::Array(all) => all.iter().for_each(|v| collect(v, into)),
            _ => {}
        }
    }
    let mut lines = VecDeque::new();
    blocks.iter().for_each(|block| collect(block, &mut lines));
    if lines.is_empty() {
        return text.to_owned();
    }
    Vec::from(lines).join("\n")
}
