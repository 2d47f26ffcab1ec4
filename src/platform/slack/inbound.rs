//! What Slack sends, read into types. PURE: bytes and the time in, [`Inbound`] out; nothing is decided.
//!
//! Reading is total: Slack switches an app off that answers too many deliveries with an error, so what is of no
//! use to us becomes [`Inbound::Ignored`], and what is not as documented [`Inbound::Odd`]. Texts come out as
//! people read them: without Slack's escapes, and without the mention that was only there to call us.

use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use sha2::Sha256;

/// How far a request's timestamp may be from now, in seconds, either way: Slack's own advice.
pub const TOLERANCE_S: i64 = 300;
/// Longest id of Slack's that is taken, in bytes; real ones have about eleven.
const MAX_ID: usize = 40;
/// Files of one message that are read; Slack itself allows ten.
const MAX_FILES: usize = 10;
/// Forwarded messages of one message that are read.
const MAX_QUOTED: usize = 5;

/// What came, before it is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Envelope {
    /// The Events API: the whole JSON, `{"type": "event_callback", "team_id": …, "event": {…}}`.
    Event(Value),
    /// The JSON of `payload`: block actions, view submissions and closes, shortcuts.
    Interaction(Value),
    /// The fields of a slash command.
    Command(Value),
}

/// What Slack tells us, as far as it matters here.
#[derive(Clone, Debug, PartialEq)]
pub enum Inbound {
    /// `url_verification`.
    Challenge(String),
    /// Something that somebody wrote, by `app_mention` or `message`, which are the same here.
    Message(Box<Message>),
    Edited {
        by: Who,
        channel: String,
        thread: Option<String>,
        ts: String,
        text: String,
        /// When it was edited; tells two edits apart.
        edited: String,
    },
    Deleted {
        /// Its author, who need not be the one who deleted it.
        by: Who,
        channel: String,
        thread: Option<String>,
        ts: String,
        text: String,
    },
    /// On a message of ours.
    Reaction {
        by: Who,
        name: String,
        channel: String,
        ts: String,
        /// Tells two reactions apart.
        at: String,
    },
    HomeOpened {
        by: Who,
    },
    /// The agent view was opened; prompts may be suggested.
    ViewOpened {
        by: Who,
        channel: String,
        /// Its conversation; `None` where none has begun.
        thread: Option<String>,
    },
    /// The stop button of a session of ours was pressed.
    Stopped {
        by: Who,
        channel: String,
        thread: String,
        /// Tells two presses apart.
        at: String,
    },
    Action(Box<Action>),
    Submission(Box<Submission>),
    /// A modal was closed without submitting.
    Closed {
        by: Who,
        callback: String,
        metadata: String,
    },
    Shortcut(Box<Shortcut>),
    Command(Box<Command>),
    Uninstalled {
        team: String,
    },
    TokensRevoked {
        team: String,
    },
    RateLimited {
        team: String,
        minute: i64,
    },
    /// Authentic, and of no use to us; `why` is for the log and the metric.
    Ignored {
        why: &'static str,
    },
    /// Authentic, and not what the documentation says. `why` holds no text of people.
    Odd {
        why: String,
    },
}

impl Inbound {
    /// What it is, in a word, for the log and the metric.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Challenge(_) => "challenge",
            Self::Message(_) => "message",
            Self::Edited { .. } => "edit",
            Self::Deleted { .. } => "delete",
            Self::Reaction { .. } => "reaction",
            Self::HomeOpened { .. } => "home",
            Self::ViewOpened { .. } => "view",
            Self::Stopped { .. } => "stop",
            Self::Action(_) => "action",
            Self::Submission(_) => "submission",
            Self::Closed { .. } => "close",
            Self::Shortcut(_) => "shortcut",
            Self::Command(_) => "command",
            Self::Uninstalled { .. } => "uninstalled",
            Self::TokensRevoked { .. } => "tokens_revoked",
            Self::RateLimited { .. } => "rate_limited",
            Self::Ignored { .. } => "ignored",
            Self::Odd { .. } => "odd",
        }
    }
}

/// Who did something, as Slack vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The installation's team.
    pub team: String,
    /// The person's own team: another one for guests of shared channels.
    pub home: String,
    pub user: String,
    pub name: Option<String>,
}

impl Who {
    /// Whether the person belongs to the team that the app is installed in.
    pub fn is_at_home(&self) -> bool {
        self.home == self.team
    }
}

/// A message that was forwarded along with another.
#[derive(Clone, Debug, PartialEq)]
pub struct Quoted {
    pub label: String,
    pub text: String,
    /// The id of its author, if Slack names a person.
    pub author: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub by: Who,
    pub channel: String,
    /// `channel`, `group`, `im`, `mpim`.
    pub kind: String,
    pub ts: String,
    pub thread: Option<String>,
    /// As people read it, without the mention of the bot.
    pub text: String,
    /// Whether the bot is mentioned.
    pub mentions_us: bool,
    /// Whether the first message of its thread is the bot's.
    pub root_is_ours: bool,
    pub files: Vec<File>,
    /// Messages that were forwarded with it: what each is, and its text.
    pub quoted: Vec<Quoted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub id: String,
    pub name: String,
    pub mimetype: String,
    pub size: u64,
}

/// A press of a button, or a choice in a menu.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    pub by: Who,
    pub action: String,
    /// The button's value, or that of the chosen option.
    pub value: String,
    /// Tells two presses apart.
    pub action_ts: String,
    pub trigger: String,
    pub response_url: Option<String>,
    pub channel: Option<String>,
    /// The message that the button is in, and its thread.
    pub message: Option<String>,
    pub thread: Option<String>,
    /// The view that the button is in.
    pub view: Option<String>,
    /// Whether that view is a modal: another one is put on top of it.
    pub in_modal: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    pub by: Who,
    pub callback: String,
    pub metadata: String,
    /// `view.state.values`.
    pub state: Value,
    pub view: String,
    /// Changes when the view does; with the view's id it tells two submissions apart.
    pub hash: String,
    pub trigger: String,
    /// Whether it lies on top of another modal.
    pub on_top: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Shortcut {
    pub by: Who,
    pub callback: String,
    pub trigger: String,
    pub action_ts: String,
    pub response_url: Option<String>,
    pub channel: Option<String>,
    /// The message it was used on: ts, thread, author, text.
    pub message: Option<(String, Option<String>, String, String)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub by: Who,
    pub command: String,
    pub text: String,
    pub channel: String,
    pub trigger: String,
    pub response_url: Option<String>,
}

/// Why a delivery could not be read: it becomes [`Inbound::Odd`].
struct Unreadable(String);

type Read<T> = Result<T, Unreadable>;

/// Reads an envelope. `bot_user`: user id of our bot by team, where it is known already.
pub fn read(envelope: &Envelope, bot_user: impl Fn(&str) -> Option<String>) -> Inbound {
    let read = match envelope {
        Envelope::Event(body) => outer(body, &bot_user),
        Envelope::Interaction(body) => interaction(body),
        Envelope::Command(fields) => command(fields),
    };
    read.unwrap_or_else(|Unreadable(why)| Inbound::Odd { why })
}

/// The installation that a delivery is for. `None`: it names none (`url_verification`, or something odd).
pub fn team_of(envelope: &Envelope) -> Option<String> {
    match envelope {
        Envelope::Event(body) => installation(body).ok(),
        Envelope::Interaction(body) => interaction_team(body).ok(),
        Envelope::Command(fields) => command_team(fields).ok(),
    }
}

// ---- events ----

fn outer(body: &Value, bot_user: &impl Fn(&str) -> Option<String>) -> Read<Inbound> {
    match body["type"].as_str() {
        Some("event_callback") => event(body, bot_user),
        Some("url_verification") => Ok(Inbound::Challenge(word(body, "challenge")?.to_owned())),
        Some("app_rate_limited") => {
            let minute = body["minute_rate_limited"].as_i64().unwrap_or(0);
            Ok(Inbound::RateLimited { team: id(body, "team_id")?, minute })
        }
        Some(_) => Err(Unreadable("a delivery of a type that is not known".to_owned())),
        None => Err(Unreadable("a delivery without a type".to_owned())),
    }
}

/// The team that the app is installed in, as far as this delivery is concerned; the organisation's id if it is
/// installed in a whole organisation.
fn installation(body: &Value) -> Read<String> {
    let authorization = &body["authorizations"][0];
    if authorization["is_enterprise_install"].as_bool() == Some(true) {
        return id(authorization, "enterprise_id");
    }
    id(authorization, "team_id").or_else(|_| id(body, "team_id"))
}

/// What every event says about where it happened.
struct Scene<'a> {
    body: &'a Value,
    event: &'a Value,
    team: String,
    /// The bot as a user.
    us: Option<String>,
}

impl Scene<'_> {
    /// The person of this id, whose own team stands in `about`.
    fn who(&self, user: &str, about: &Value) -> Read<Who> {
        let own = ["user_team", "source_team", "team"].iter().find_map(|key| about[*key].as_str());
        Ok(Who {
            home: home(&self.team, own, self.body["team_id"].as_str(), enterprise_of(self.body)),
            team: self.team.clone(),
            user: checked("user", user)?,
            name: None,
        })
    }

    fn is_us(&self, user: &str) -> bool {
        self.us.as_deref() == Some(user)
    }

    /// Whether a program wrote it, we ourselves for example: no person stands behind it.
    fn is_by_a_program(&self, message: &Value) -> bool {
        message["bot_id"].is_string()
            || message["subtype"] == "bot_message"
            || message["user"] == "USLACKBOT"
            || message["user"].as_str().is_some_and(|user| self.is_us(user))
    }
}

fn event(body: &Value, bot_user: &impl Fn(&str) -> Option<String>) -> Read<Inbound> {
    let event = &body["event"];
    let Some(kind) = event["type"].as_str() else {
        return Err(Unreadable("an event without a type".to_owned()));
    };
    let team = installation(body)?;
    let us = bot_user(&team).or_else(|| {
        let ours = body["authorizations"].as_array()?.iter().find(|a| a["is_bot"].as_bool() == Some(true))?;
        ours["user_id"].as_str().map(str::to_owned)
    });
    let scene = Scene { body, event, team, us };
    match kind {
        "app_mention" => message(&scene, true),
        "message" => match event["subtype"].as_str() {
            None | Some("file_share" | "thread_broadcast" | "me_message") => message(&scene, false),
            Some("message_changed") => changed(&scene),
            Some("message_deleted") => deleted(&scene, &event["previous_message"], event["deleted_ts"].as_str()),
            Some("bot_message") => Ok(Inbound::Ignored { why: "a program's message" }),
            Some(_) => Ok(Inbound::Ignored { why: "a message of another subtype" }),
        },
        "reaction_added" => reaction(&scene),
        "app_home_opened" => {
            let by = scene.who(word(event, "user")?, &Value::Null)?;
            match event["tab"].as_str() {
                None | Some("home") => Ok(Inbound::HomeOpened { by }),
                // With the agent view, this tab is where conversations begin.
                Some("messages") => Ok(Inbound::ViewOpened { by, channel: id(event, "channel")?, thread: None }),
                Some(_) => Ok(Inbound::Ignored { why: "another tab of the app's home" }),
            }
        }
        "agent_session_stopped" => Ok(Inbound::Stopped {
            by: scene.who(word(event, "user")?, &Value::Null)?,
            channel: id(event, "channel")?,
            thread: ts(event, "thread_ts")?,
            at: ts(event, "event_ts")?,
        }),
        "assistant_thread_started" => {
            let thread = &event["assistant_thread"];
            Ok(Inbound::ViewOpened {
                by: scene.who(word(thread, "user_id")?, &Value::Null)?,
                channel: id(thread, "channel_id")?,
                thread: Some(ts(thread, "thread_ts")?),
            })
        }
        "app_uninstalled" => Ok(Inbound::Uninstalled { team: scene.team }),
        "tokens_revoked" => match event["tokens"]["bot"].as_array() {
            Some(bots) if !bots.is_empty() => Ok(Inbound::TokensRevoked { team: scene.team }),
            _ => Ok(Inbound::Ignored { why: "tokens of people were revoked, and none of them is used" }),
        },
        // Nobody subscribed to them here; they come where somebody added them to the app.
        "app_context_changed"
        | "assistant_thread_context_changed"
        | "agent_session_title_changed"
        | "reaction_removed"
        | "member_joined_channel"
        | "member_left_channel" => Ok(Inbound::Ignored { why: "an event of no use" }),
        _ => Err(Unreadable("an event of a type that is not known".to_owned())),
    }
}

fn message(scene: &Scene, is_mention: bool) -> Read<Inbound> {
    let event = scene.event;
    if scene.is_by_a_program(event) {
        return Ok(Inbound::Ignored { why: "a program's message" });
    }
    if event["hidden"].as_bool() == Some(true) {
        return Ok(Inbound::Ignored { why: "a hidden message" });
    }
    let channel = id(event, "channel")?;
    let raw = event["text"].as_str().unwrap_or("");
    let mentions_us = is_mention || scene.us.as_deref().is_some_and(|us| is_mentioned(raw, us));
    // A mention does not say what kind of channel it is in; the id does.
    let kind = match event["channel_type"].as_str() {
        Some(kind) => kind,
        None if channel.starts_with('D') => "im",
        None => "channel",
    };
    let ts = ts(event, "ts")?;
    let thread = thread_of(event, &ts)?;
    let ours = |user: &Value| user.as_str().is_some_and(|user| scene.is_us(user));
    Ok(Inbound::Message(Box::new(Message {
        by: scene.who(word(event, "user")?, event)?,
        kind: kind.to_owned(),
        root_is_ours: thread.is_some() && ours(&event["parent_user_id"]),
        text: plain(raw, scene.us.as_deref()),
        files: files(&event["files"]),
        quoted: quoted(&event["attachments"]),
        channel,
        ts,
        thread,
        mentions_us,
    })))
}

/// The thread that a message is in; the first message of one is in none.
fn thread_of(message: &Value, own: &str) -> Read<Option<String>> {
    match &message["thread_ts"] {
        Value::Null => Ok(None),
        _ => Ok(Some(ts(message, "thread_ts")?).filter(|thread| thread != own)),
    }
}

fn files(files: &Value) -> Vec<File> {
    let read = |file: &Value| {
        let name = file["name"].as_str().or(file["title"].as_str()).unwrap_or("without a name");
        Some(File {
            id: id(file, "id").ok()?,
            name: name.chars().take(200).collect(),
            mimetype: file["mimetype"].as_str().unwrap_or("").chars().take(100).collect(),
            size: file["size"].as_u64().unwrap_or(0),
        })
    };
    files.as_array().into_iter().flatten().filter_map(read).take(MAX_FILES).collect()
}

/// Messages that were forwarded: what Slack shows of a link is none.
fn quoted(attachments: &Value) -> Vec<Quoted> {
    let read = |attachment: &Value| {
        if attachment["is_share"].as_bool() != Some(true) {
            return None;
        }
        let text = plain(attachment["text"].as_str()?, None);
        let author = attachment["author_name"].as_str().or(attachment["author_id"].as_str());
        let author: String = author.unwrap_or("somebody").chars().take(80).collect();
        let label = format!("a forwarded message of {author}");
        let by = attachment["author_id"].as_str().filter(|id| is_id(id)).map(str::to_owned);
        (!text.is_empty()).then_some(Quoted { label, text, author: by })
    };
    attachments.as_array().into_iter().flatten().filter_map(read).take(MAX_QUOTED).collect()
}

fn changed(scene: &Scene) -> Read<Inbound> {
    let (now, before) = (&scene.event["message"], &scene.event["previous_message"]);
    if now["subtype"] == "tombstone" {
        // The first message of a thread leaves a stone where others have answered.
        return deleted(scene, before, now["ts"].as_str());
    }
    if scene.is_by_a_program(now) {
        return Ok(Inbound::Ignored { why: "a program's edit" });
    }
    let Some(edited) = now["edited"]["ts"].as_str() else {
        return Ok(Inbound::Ignored { why: "what Slack shows of a link" });
    };
    if now["text"] == before["text"] {
        return Ok(Inbound::Ignored { why: "a change that is not of the words" });
    }
    let ts = ts(now, "ts")?;
    Ok(Inbound::Edited {
        by: scene.who(word(now, "user")?, now)?,
        channel: id(scene.event, "channel")?,
        thread: thread_of(now, &ts)?,
        text: plain(now["text"].as_str().unwrap_or(""), scene.us.as_deref()),
        edited: checked_ts("edited.ts", edited)?,
        ts,
    })
}

fn deleted(scene: &Scene, before: &Value, stamp: Option<&str>) -> Read<Inbound> {
    if scene.is_by_a_program(before) {
        return Ok(Inbound::Ignored { why: "a program's message was deleted" });
    }
    let ts = checked_ts("deleted_ts", stamp.or(before["ts"].as_str()).unwrap_or(""))?;
    Ok(Inbound::Deleted {
        by: scene.who(word(before, "user")?, before)?,
        channel: id(scene.event, "channel")?,
        thread: thread_of(before, &ts)?,
        text: plain(before["text"].as_str().unwrap_or(""), scene.us.as_deref()),
        ts,
    })
}

fn reaction(scene: &Scene) -> Read<Inbound> {
    let (event, item) = (scene.event, &scene.event["item"]);
    let on_ours = event["item_user"].as_str().is_some_and(|user| scene.is_us(user));
    if item["type"] != "message" || !on_ours {
        return Ok(Inbound::Ignored { why: "a reaction to what is not ours" });
    }
    let user = word(event, "user")?;
    if scene.is_us(user) {
        return Ok(Inbound::Ignored { why: "our own reaction" });
    }
    Ok(Inbound::Reaction {
        by: scene.who(user, &Value::Null)?,
        name: word(event, "reaction")?.to_owned(),
        channel: id(item, "channel")?,
        ts: ts(item, "ts")?,
        at: ts(event, "event_ts")?,
    })
}

// ---- interactions and commands ----

fn interaction_team(body: &Value) -> Read<String> {
    if is_true(&body["is_enterprise_install"]) {
        return id(&body["enterprise"], "id");
    }
    id(&body["team"], "id").or_else(|_| id(&body["user"], "team_id"))
}

fn interaction(body: &Value) -> Read<Inbound> {
    let kind = body["type"].as_str().ok_or_else(|| Unreadable("an interaction without a type".to_owned()))?;
    if !matches!(kind, "block_actions" | "view_submission" | "view_closed" | "shortcut" | "message_action") {
        return Err(Unreadable("an interaction of a type that is not known".to_owned()));
    }
    let (team, user) = (interaction_team(body)?, &body["user"]);
    let here = body["team"]["id"].as_str();
    let name = user["name"].as_str().or(user["username"].as_str());
    let by = Who {
        home: home(&team, user["team_id"].as_str().or(here), here, enterprise_of(body)),
        user: id(user, "id")?,
        name: name.map(|name| name.chars().take(80).collect()),
        team,
    };
    let (view, text) = (&body["view"], |value: &Value| value.as_str().unwrap_or("").to_owned());
    let response_url = body["response_url"].as_str().filter(|url| !url.is_empty()).map(str::to_owned);
    match kind {
        "block_actions" => {
            let (action, container) = (&body["actions"][0], &body["container"]);
            let either = |one: &Value, other: &Value| one.as_str().or(other.as_str()).map(str::to_owned);
            let value = ["value", "selected_user", "selected_channel", "selected_conversation", "selected_date"];
            let value = action["selected_option"]["value"]
                .as_str()
                .or_else(|| value.iter().find_map(|key| action[*key].as_str()))
                .unwrap_or("");
            Ok(Inbound::Action(Box::new(Action {
                by,
                action: word(action, "action_id")?.to_owned(),
                value: value.to_owned(),
                action_ts: ts(action, "action_ts")?,
                trigger: text(&body["trigger_id"]),
                response_url,
                channel: optional_id(either(&body["channel"]["id"], &container["channel_id"]))?,
                message: optional_ts(either(&body["message"]["ts"], &container["message_ts"]))?,
                thread: optional_ts(either(&body["message"]["thread_ts"], &container["thread_ts"]))?,
                view: either(&view["id"], &container["view_id"]),
                in_modal: view["type"] == "modal",
            })))
        }
        "view_submission" => {
            let id = word(view, "id")?.to_owned();
            Ok(Inbound::Submission(Box::new(Submission {
                by,
                callback: text(&view["callback_id"]),
                metadata: text(&view["private_metadata"]),
                state: view["state"]["values"].clone(),
                hash: text(&view["hash"]),
                trigger: text(&body["trigger_id"]),
                on_top: view["root_view_id"].as_str().is_some_and(|root| root != id)
                    || view["previous_view_id"].is_string(),
                view: id,
            })))
        }
        "view_closed" => {
            Ok(Inbound::Closed { by, callback: text(&view["callback_id"]), metadata: text(&view["private_metadata"]) })
        }
        _ => {
            let message = match (kind, &body["message"]) {
                ("message_action", message) => {
                    let ts = ts(message, "ts").or_else(|_| ts(body, "message_ts"))?;
                    let thread = thread_of(message, &ts)?;
                    let author = message["user"].as_str().or(message["username"].as_str()).unwrap_or("somebody");
                    let author = author.chars().take(80).collect();
                    Some((ts, thread, author, plain(message["text"].as_str().unwrap_or(""), None)))
                }
                _ => None,
            };
            Ok(Inbound::Shortcut(Box::new(Shortcut {
                by,
                callback: word(body, "callback_id")?.to_owned(),
                trigger: text(&body["trigger_id"]),
                action_ts: text(&body["action_ts"]),
                response_url,
                channel: optional_id(body["channel"]["id"].as_str().map(str::to_owned))?,
                message,
            })))
        }
    }
}

fn command_team(fields: &Value) -> Read<String> {
    if is_true(&fields["is_enterprise_install"]) {
        return id(fields, "enterprise_id");
    }
    id(fields, "team_id")
}

fn command(fields: &Value) -> Read<Inbound> {
    let team = command_team(fields)?;
    let here = fields["team_id"].as_str();
    let name = fields["user_name"].as_str().filter(|name| !name.is_empty());
    let text = |key: &str| fields[key].as_str().unwrap_or("").to_owned();
    Ok(Inbound::Command(Box::new(Command {
        by: Who {
            home: home(&team, here, here, enterprise_of(fields)),
            user: id(fields, "user_id")?,
            name: name.map(|name| name.chars().take(80).collect()),
            team,
        },
        command: word(fields, "command")?.to_owned(),
        text: plain(&text("text"), None),
        channel: id(fields, "channel_id")?,
        trigger: text("trigger_id"),
        response_url: Some(text("response_url")).filter(|url| !url.is_empty()),
    })))
}

/// A person's own team. Where the app is installed in a whole organisation, the organisation stands for each of
/// its teams; else nothing but the installation's own id does: in a shared channel, what a delivery says of where it
/// happened may be the guest's team as well.
fn home(installed: &str, own: Option<&str>, here: Option<&str>, enterprise: Option<&str>) -> String {
    let is_of_ours = |own: &str| own == installed || (enterprise == Some(installed) && Some(own) == here);
    match own {
        Some(own) if is_id(own) && !is_of_ours(own) => own.to_owned(),
        _ => installed.to_owned(),
    }
}

/// The own team of the author of a message that Slack handed out.
pub(super) fn home_of(installed: &str, message: &Value) -> String {
    let own = ["user_team", "source_team", "team"].iter().find_map(|key| message[*key].as_str());
    home(installed, own, None, None)
}

fn enterprise_of(body: &Value) -> Option<&str> {
    body["enterprise"]["id"].as_str().or(body["enterprise_id"].as_str()).or(body["team"]["enterprise_id"].as_str())
}

// ---- fields ----

fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true) || value == "true"
}

fn word<'a>(object: &'a Value, key: &str) -> Read<&'a str> {
    object[key].as_str().filter(|text| !text.is_empty()).ok_or_else(|| Unreadable(format!("`{key}` is missing")))
}

fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// An id goes into names of threads and people, so it has to be one.
fn checked(key: &str, text: &str) -> Read<String> {
    if is_id(text) { Ok(text.to_owned()) } else { Err(Unreadable(format!("`{key}` is no id"))) }
}

fn id(object: &Value, key: &str) -> Read<String> {
    checked(key, word(object, key)?)
}

fn checked_ts(key: &str, text: &str) -> Read<String> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_ts = text.len() <= MAX_ID && text.split_once('.').is_some_and(|(s, us)| digits(s) && digits(us));
    if is_ts { Ok(text.to_owned()) } else { Err(Unreadable(format!("`{key}` is no timestamp"))) }
}

fn ts(object: &Value, key: &str) -> Read<String> {
    checked_ts(key, word(object, key)?)
}

fn optional_id(text: Option<String>) -> Read<Option<String>> {
    text.map(|text| checked("channel", &text)).transpose()
}

fn optional_ts(text: Option<String>) -> Read<Option<String>> {
    text.map(|text| checked_ts("message", &text)).transpose()
}

// ---- texts ----

fn is_mentioned(raw: &str, us: &str) -> bool {
    raw.match_indices("<@").any(|(at, _)| {
        let after = raw.get(at + 2..).unwrap_or("").strip_prefix(us).unwrap_or("");
        after.starts_with('>') || after.starts_with('|')
    })
}

/// A text of Slack's as people read it: links, mentions and escapes resolved, the mention of `us` left out.
pub fn plain(raw: &str, us: Option<&str>) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(open) = rest.find('<') {
        let (before, from) = rest.split_at(open);
        out.push_str(&unescaped(before));
        let inner = from.get(1..).unwrap_or("");
        // A `<` of a person's own is escaped, or has no mark of Slack's behind it.
        match inner.find(['>', '<']).and_then(|end| Some((inner.get(..end)?, inner.get(end..)?.strip_prefix('>')?))) {
            Some((mark, after)) if is_mark(mark) => {
                let words = marked(mark, us);
                // What called us leaves no gap behind.
                rest = if words.is_empty() { after.strip_prefix(' ').unwrap_or(after) } else { after };
                out.push_str(&words);
            }
            _ => {
                out.push('<');
                rest = inner;
            }
        }
    }
    out.push_str(&unescaped(rest));
    out.trim().to_owned()
}

fn is_mark(mark: &str) -> bool {
    mark.starts_with(['@', '#', '!'])
        || mark.split_once(':').is_some_and(|(scheme, rest)| {
            !rest.is_empty() && matches!(scheme, "http" | "https" | "mailto" | "tel" | "slack" | "ftp")
        })
}

/// What stands between `<` and `>`, for people.
fn marked(mark: &str, us: Option<&str>) -> String {
    let (target, label) = mark.split_once('|').unwrap_or((mark, ""));
    let label = unescaped(label);
    let named = |sign: char, id: &str| {
        let name = if label.is_empty() { id } else { label.trim_start_matches(sign) };
        format!("{sign}{name}")
    };
    if let Some(user) = target.strip_prefix('@') {
        return if us == Some(user) { String::new() } else { named('@', user) };
    }
    if let Some(channel) = target.strip_prefix('#') {
        return named('#', channel);
    }
    if let Some(command) = target.strip_prefix('!') {
        return match command.split_once('^') {
            Some(("subteam", group)) => named('@', group),
            // A date, or what is not known: its fallback text is what Slack itself would show.
            Some((other, _)) => {
                if label.is_empty() {
                    format!("@{other}")
                } else {
                    label
                }
            }
            None => named('@', command),
        };
    }
    let url = unescaped(target);
    let bare = |text: &str| {
        let text = ["https://", "http://", "mailto:", "tel:"].iter().find_map(|s| text.strip_prefix(s)).unwrap_or(text);
        text.trim_end_matches('/').to_owned()
    };
    if label.is_empty() {
        url
    } else if bare(&label) == bare(&url) {
        label
    } else {
        format!("{label} ({url})")
    }
}

/// Slack escapes these three, and nothing else.
fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

// ---- HTTP ----

/// Reads the body of a request to any of the paths.
///
/// # Errors
/// It is not JSON, nor a form with a payload or a command: for the log, without a word of the body.
pub fn envelope(content_type: &str, body: &[u8]) -> Result<Envelope, String> {
    let json = |bytes: &[u8]| match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err("JSON that is no object".to_owned()),
        Err(error) => Err(format!("no JSON ({:?}, line {})", error.classify(), error.line())),
    };
    let kind = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if kind != "application/x-www-form-urlencoded" {
        return json(body).map(Envelope::Event);
    }
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        // Slack gives each once; the first one counts.
        fields.entry(name.into_owned()).or_insert_with(|| Value::String(value.into_owned()));
    }
    match fields.get("payload") {
        Some(payload) => json(payload.as_str().unwrap_or("").as_bytes()).map(Envelope::Interaction),
        None if fields.contains_key("command") => Ok(Envelope::Command(Value::Object(fields))),
        None => Err("a form without a payload or a command".to_owned()),
    }
}

/// Checks `X-Slack-Signature` over the bytes as they came. `now_s`: seconds since 1970. In constant time as far as
/// the signature is concerned; an empty secret vouches for nobody.
pub fn is_signed(secret: &SecretString, timestamp: &str, signature: &str, body: &[u8], now_s: i64) -> bool {
    let secret = secret.expose_secret().as_bytes();
    // Twelve digits are 31,000 years.
    let is_time = (1..=12).contains(&timestamp.len()) && timestamp.bytes().all(|b| b.is_ascii_digit());
    let at = timestamp.parse::<i64>().ok().filter(|_| is_time);
    let is_fresh = at.is_some_and(|at| now_s.abs_diff(at) <= TOLERANCE_S.unsigned_abs());
    // Lower-case digits alone: one signature has one spelling.
    let given = signature.strip_prefix("v0=").and_then(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).ok());
    let (Some(given), true, false, Ok(mut mac)) =
        (given, is_fresh, secret.is_empty(), Hmac::<Sha256>::new_from_slice(secret))
    else {
        return false;
    };
    mac.update(b"v0:");
    mac.update(timestamp.as_bytes());
    mac.update(b":");
    mac.update(body);
    mac.verify_slice(&given).is_ok()
}
