//! Looking things up, and private answers.
//!
//! Who is in a group is asked for each decision and never remembered: a vote counts by what is true at that moment,
//! and what cannot be found out lets nobody through. Those that come while the same is being asked share the next
//! question, which is asked after all of them came. What is only shown may be a minute old, and leaves most of what
//! Slack allows at once to decisions. Names are only words, so they are remembered for as long as the process lives.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use lru::LruCache;
use reqwest::{Client, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::SlackError;
use super::blocks::{self, Message};
use super::{Place, SURFACE, Slack, person_parts, post};
use crate::agent::{Attached, Gathered, Principal, ShortId, ThreadId, visible};
use crate::platform::PostError;

/// Names and private channels that are remembered.
const NAMES: usize = 5_000;

/// Members of one page (Slack's own maximum), and pages that are read at most of a channel whose members decide.
const MEMBERS: usize = 1_000;
const MEMBER_PAGES: usize = 20;

/// Messages of one page of a conversation, and pages that are read at most to get to the newest.
const PAGE: usize = 200;
const PAGES: usize = 10;

/// Longest name of a person, in characters.
const MAX_NAME: usize = 80;

/// Longest text of one earlier message, in characters.
const MAX_SAID: usize = 4_000;

/// Longest first message of a conversation that is started by a command, in characters: a section holds 3000.
const MAX_ASKED: usize = 2_500;

/// Slack's own limits on a response URL.
const RESPONSES: u32 = 5;
const RESPONSE_LIFE: Duration = Duration::from_secs(30 * 60);

/// How old may be what is only shown of who is in a group.
const SHOWN: Duration = Duration::from_secs(60);

/// What an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Purpose {
    Decide,
    Show,
}

/// A purpose, a team, and a group or a member of a channel: equal questions wait for each other.
type Question = (Purpose, String, String);

/// Who of those that were asked about is in it.
struct Members {
    asked: Instant,
    found: Result<Vec<String>, PostError>,
}

/// What is remembered, and the client for addresses that Slack hands out.
pub struct Lookups {
    /// By team and user or channel.
    names: Mutex<LruCache<(String, String), String>>,
    /// The private channel of a user, by team and user.
    directs: Mutex<LruCache<(String, String), String>>,
    members: Mutex<LruCache<Question, Arc<tokio::sync::Mutex<Option<Members>>>>>,
    /// Built at the first use: it reads the system's certificates.
    client: OnceLock<Result<Client, String>>,
}

impl Lookups {
    pub fn new() -> Self {
        let bound = NonZeroUsize::new(NAMES).unwrap_or(NonZeroUsize::MIN);
        Self {
            names: Mutex::new(LruCache::new(bound)),
            directs: Mutex::new(LruCache::new(bound)),
            members: Mutex::new(LruCache::new(bound)),
            client: OnceLock::new(),
        }
    }
}

impl Default for Lookups {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes from a cache.
fn known(cache: &Mutex<LruCache<(String, String), String>>, team: &str, id: &str) -> Option<String> {
    let key = (team.to_owned(), id.to_owned());
    cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
}

fn remember(cache: &Mutex<LruCache<(String, String), String>>, team: &str, id: &str, what: &str) {
    let key = (team.to_owned(), id.to_owned());
    cache.lock().unwrap_or_else(PoisonError::into_inner).put(key, what.to_owned());
}

/// A name as it is shown: one line, in which nothing is hidden, of at most `MAX_NAME` characters; `None` if nothing
/// is left. It decides nothing: people may call themselves what they like.
pub fn shown_name(name: &str) -> Option<String> {
    let words = name.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(visible::short_line(&words, MAX_NAME)).filter(|name| !name.is_empty())
}

impl Slack {
    /// See [`crate::platform::Platforms::gather`].
    pub async fn gather(&self, thread: &ThreadId, attached: &Attached) -> Vec<Gathered> {
        let place = Place::parse(thread.as_str());
        match attached {
            Attached::Quoted { label, text, by } => {
                vec![Gathered { label: label.clone(), text: Ok(text.clone()), by: by.iter().cloned().collect() }]
            }
            Attached::Earlier { before } => {
                let said = match &place {
                    Some(place) => self.earlier(place, before).await,
                    None => Err("this is no thread of Slack".to_owned()),
                };
                let label = "the earlier messages of this conversation".to_owned();
                match said {
                    Ok((text, _)) if text.is_empty() => Vec::new(),
                    Ok((text, by)) => vec![Gathered { label, text: Ok(text), by }],
                    Err(why) => vec![Gathered::of_no_one(label, Err(why))],
                }
            }
            Attached::File { name, place: file } => {
                let text = match &place {
                    Some(place) => self.file(&place.team, file.rsplit(':').next().unwrap_or(file)).await,
                    None => Err("this is no thread of Slack".to_owned()),
                };
                vec![Gathered::of_no_one(format!("the file {name}"), text)]
            }
        }
    }

    /// What people and other bots said before this message, oldest first, and which people; empty if nothing was.
    async fn earlier(&self, place: &Place, before: &str) -> Result<(String, Vec<Principal>), String> {
        let (Some(thread), Some(workspace)) = (&place.thread, self.workspace(&place.team)) else {
            return Err("its workspace is not connected".to_owned());
        };
        let before = before.rsplit(':').next().unwrap_or(before);
        if before == thread {
            return Ok((String::new(), Vec::new()));
        }
        let limit = PAGE.to_string();
        let mut said: std::collections::VecDeque<Value> = std::collections::VecDeque::new();
        let mut cursor = String::new();
        for _ in 0..PAGES {
            let mut params = vec![
                ("channel", place.channel.as_str()),
                ("ts", thread.as_str()),
                ("latest", before),
                ("limit", limit.as_str()),
            ];
            if !cursor.is_empty() {
                params.push(("cursor", &cursor));
            }
            let page = self.read(&place.team, "conversations.replies", &params).await;
            let page = page.map_err(|e| format!("Slack did not show them ({})", e.short()))?;
            for message in page["messages"].as_array().into_iter().flatten() {
                let ts = message["ts"].as_str().unwrap_or_default();
                let text = message["text"].as_str().unwrap_or_default();
                // The parent comes with every page; `latest` does not bind it.
                let is_new = said.iter().all(|m| m["ts"] != ts);
                if is_new && is_before(ts, before) && !text.trim().is_empty() && !post::is_ours(message, &workspace) {
                    said.push_back(message.clone());
                }
            }
            while said.len() > self.settings().max_earlier {
                said.pop_front();
            }
            cursor = page["response_metadata"]["next_cursor"].as_str().unwrap_or_default().to_owned();
            if cursor.is_empty() {
                break;
            }
        }
        let mut lines = Vec::new();
        let mut by: Vec<Principal> = Vec::new();
        for message in &said {
            if let (Some(user), true) = (message["user"].as_str(), message["bot_id"].is_null()) {
                let home = super::inbound::home_of(&place.team, message);
                let who = Principal::human(format!("{}:{home}:{user}", super::SURFACE));
                if !by.contains(&who) {
                    by.push(who);
                }
            }
            let name = self.author(&place.team, message).await;
            let text: String =
                post::unescaped(message["text"].as_str().unwrap_or_default()).chars().take(MAX_SAID).collect();
            lines.push(format!("{name}: {text}"));
        }
        Ok((lines.join("\n"), by))
    }

    async fn author(&self, team: &str, message: &Value) -> String {
        let bot = [&message["username"], &message["bot_profile"]["name"]].into_iter().find_map(Value::as_str);
        match (message["user"].as_str(), bot) {
            (Some(user), None) => self.name_of(team, user).await.unwrap_or_else(|| user.to_owned()),
            (_, Some(bot)) => bot.to_owned(),
            (None, None) => "somebody".to_owned(),
        }
    }

    /// The text of a file.
    ///
    /// # Errors
    /// Why there is none, for people and for the model.
    async fn file(&self, team: &str, id: &str) -> Result<String, String> {
        let token = self.token(team, "files.info").map_err(|_| "its workspace is not connected".to_owned())?;
        let info = self.read(team, "files.info", &[("file", id)]).await;
        let info = info.map_err(|e| format!("Slack did not hand it out ({})", e.short()))?;
        let file = &info["file"];
        let most = self.settings().max_file;
        let too_long = || format!("it is longer than the {most} bytes that are read");
        if file["size"].as_u64().is_some_and(|size| size > most as u64) {
            return Err(too_long());
        }
        if !is_text(file) {
            let kind = file["mimetype"].as_str().or(file["filetype"].as_str()).unwrap_or("unknown");
            return Err(format!("it is no text ({kind})"));
        }
        let address = [&file["url_private_download"], &file["url_private"]].into_iter().find_map(Value::as_str);
        let url = address.and_then(|address| Url::parse(address).ok());
        let url = url.ok_or_else(|| "Slack says no address for it".to_owned())?;
        // The bot's token goes with the request.
        if !is_slacks(&url, &["slack.com", "slack-files.com"], &self.settings().api_url) {
            return Err("it is kept outside Slack".to_owned());
        }
        let (content_type, bytes) = self.download(url, &token, most).await?.ok_or_else(too_long)?;
        let is_page = content_type.starts_with("text/html");
        if is_page && !file["mimetype"].as_str().unwrap_or_default().contains("html") {
            return Err("Slack handed out a page instead (the app needs the scope files:read)".to_owned());
        }
        decoded(&content_type, &bytes)
    }

    /// The content type and the bytes; `None` if there are more than `most`.
    async fn download(&self, url: Url, token: &SecretString, most: usize) -> Result<Option<(String, Vec<u8>)>, String> {
        let broken = |e: reqwest::Error| format!("Slack did not hand it out ({})", words_of(&e));
        let mut answer = self.client()?.get(url).bearer_auth(token.expose_secret()).send().await.map_err(broken)?;
        if !answer.status().is_success() {
            return Err(format!("Slack did not hand it out (HTTP {})", answer.status().as_u16()));
        }
        let content_type = answer.headers().get(reqwest::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            if bytes.len() + chunk.len() > most {
                return Ok(None);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some((content_type, bytes)))
    }

    fn client(&self) -> Result<&Client, String> {
        let build = || {
            let client = Client::builder()
                .no_proxy()
                // A redirect would be followed with the token, or to where nobody has looked.
                .redirect(redirect::Policy::none())
                .timeout(self.settings().pace.attempt)
                .build();
            client.map_err(|_| "no secure connection is possible from here".to_owned())
        };
        self.0.lookups.client.get_or_init(build).as_ref().map_err(Clone::clone)
    }

    /// See [`crate::platform::Platforms::groups`].
    ///
    /// # Errors
    /// As there.
    pub async fn groups(&self, person: &Principal, groups: &[String]) -> Result<Vec<String>, PostError> {
        self.groups_for(Purpose::Decide, person, groups).await
    }

    /// See [`crate::platform::Platforms::groups_shown`].
    ///
    /// # Errors
    /// As there.
    pub async fn groups_shown(&self, person: &Principal, groups: &[String]) -> Result<Vec<String>, PostError> {
        self.groups_for(Purpose::Show, person, groups).await
    }

    async fn groups_for(
        &self,
        purpose: Purpose,
        person: &Principal,
        groups: &[String],
    ) -> Result<Vec<String>, PostError> {
        let Some((team, user)) = person_parts(&person.id) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let mut failed: Option<PostError> = None;
        for group in groups {
            // A group of another team is not this person's, whoever shares a channel with it.
            let Some(place) = Place::parse(group).filter(|p| p.team == team && p.thread.is_none()) else { continue };
            if !place.channel.starts_with(['S', 'C', 'G']) {
                continue;
            }
            match self.is_in(purpose, team, user, &place.channel).await {
                Ok(true) => found.push(group.clone()),
                Ok(false) => {}
                Err(why) => {
                    tracing::warn!(
                        slack.team = team,
                        slack.group = place.channel,
                        why = why.message,
                        "a group could not be looked up"
                    );
                    // If one of them can be asked again, all are.
                    if failed.as_ref().is_none_or(|failed| why.transient && !failed.transient) {
                        failed = Some(why);
                    }
                }
            }
        }
        // One that is certain is enough: approvers are in any of the groups.
        match failed {
            Some(why) if found.is_empty() => Err(why),
            _ => Ok(found),
        }
    }

    async fn is_in(&self, purpose: Purpose, team: &str, user: &str, group: &str) -> Result<bool, PostError> {
        let came = Instant::now();
        let is_user_group = group.starts_with('S');
        let about = if is_user_group { group.to_owned() } else { format!("{group}/{user}") };
        let kept = {
            let mut members = self.0.lookups.members.lock().unwrap_or_else(PoisonError::into_inner);
            members.get_or_insert((purpose, team.to_owned(), about), Arc::default).clone()
        };
        let mut kept = kept.lock().await;
        let is_fresh = |members: &&Members| {
            let may_be_old = purpose == Purpose::Show && members.found.is_ok() && members.asked.elapsed() < SHOWN;
            members.asked >= came || may_be_old
        };
        if let Some(members) = kept.as_ref().filter(is_fresh) {
            return members.found.as_ref().map(|found| found.iter().any(|u| u == user)).map_err(Clone::clone);
        }
        let asked = Instant::now();
        let found = match is_user_group {
            true => self.members_of_user_group(purpose, team, group).await,
            false => self.is_in_channel(purpose, team, user, group).await.map(|is_in| match is_in {
                true => vec![user.to_owned()],
                false => Vec::new(),
            }),
        };
        let is_in = found.as_ref().map(|found| found.iter().any(|u| u == user)).map_err(Clone::clone);
        *kept = Some(Members { asked, found });
        is_in
    }

    async fn ask(
        &self,
        purpose: Purpose,
        team: &str,
        method: &str,
        params: &[(&str, &str)],
    ) -> Result<Value, PostError> {
        let answer = match purpose {
            Purpose::Decide => self.read(team, method, params).await,
            Purpose::Show => self.read_sparingly(team, method, params).await,
        };
        answer.map_err(|error| PostError {
            message: format!("Slack: {}", error.short()),
            // Right after the start, the workspace is about to be connected.
            transient: error.is_transient() || error.code == "not_connected",
            retry_after_ms: error.retry_after_ms,
        })
    }

    async fn members_of_user_group(&self, purpose: Purpose, team: &str, group: &str) -> Result<Vec<String>, PostError> {
        let params = [("usergroup", group), ("include_disabled", "false")];
        let answer = self.ask(purpose, team, "usergroups.users.list", &params).await?;
        match answer["users"].as_array() {
            Some(users) => Ok(users.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
            None => Err(PostError::lasting("Slack: the answer names no users")),
        }
    }

    async fn is_in_channel(&self, purpose: Purpose, team: &str, user: &str, channel: &str) -> Result<bool, PostError> {
        let limit = MEMBERS.to_string();
        let mut cursor = String::new();
        for _ in 0..MEMBER_PAGES {
            let mut params = vec![("channel", channel), ("limit", limit.as_str())];
            if !cursor.is_empty() {
                params.push(("cursor", &cursor));
            }
            let page = self.ask(purpose, team, "conversations.members", &params).await?;
            let unnamed = || PostError::lasting("Slack: the answer names no members");
            let members = page["members"].as_array().ok_or_else(unnamed)?;
            if members.iter().any(|m| m == user) {
                return Ok(true);
            }
            cursor = page["response_metadata"]["next_cursor"].as_str().unwrap_or_default().to_owned();
            if cursor.is_empty() {
                return Ok(false);
            }
        }
        Err(PostError::lasting(format!("Slack: the channel has more than {} members", MEMBERS * MEMBER_PAGES)))
    }

    /// See [`crate::platform::Platforms::open`]. `text` is `<agent>: <task>`. `place` may be a user (`slack:T1:U1`): then it is begun in private.
    ///
    /// # Errors
    /// For people.
    pub async fn open(&self, key: ShortId, place: &str, by: &Principal, text: &str) -> Result<ThreadId, PostError> {
        let Some(mut place) = Place::parse(place) else {
            return Err(PostError::lasting(format!("`{place}` is no place in Slack")));
        };
        if self.workspace(&place.team).is_none() {
            return Err(self.not_connected(&place.team));
        }
        if place.channel.starts_with(['U', 'W']) {
            place.channel = self.direct(&place.team, &place.channel).await?;
        }
        let who = match person_parts(&by.id) {
            Some((team, user)) if team == place.team => format!("<@{user}>"),
            _ => blocks::escape(&visible::line(by.label())),
        };
        let mut asked: String = text.chars().take(MAX_ASKED).collect();
        if asked.len() < text.len() {
            asked.push('…');
        }
        let line = match asked.split_once(": ") {
            Some((agent, task)) => {
                format!("{who} asked *{}*: {}", blocks::escape(&visible::line(agent)), blocks::escape(task))
            }
            None => format!("{who} asked: {}", blocks::escape(&asked)),
        };
        let message = Message { blocks: vec![blocks::parts::section(&line)], text: line };
        let key = format!("open/{key}");
        let found = match self.find(&place, &key).await? {
            Some(found) => found,
            None => match self.send(&place, &message, &post::metadata(&key, ""), &key).await {
                Ok(sent) => sent,
                Err(error) if post::is_place(&error) => {
                    return Err(PostError::lasting(self.refusal_words(&place, &error).await));
                }
                Err(error) => return Err(error.into()),
            },
        };
        let thread = place.thread.clone().unwrap_or(found.ts);
        let there = Place { channel: found.channel, ..place };
        there.thread_id(&thread).ok_or_else(|| PostError::lasting("Slack says no time for the message"))
    }

    /// See [`crate::platform::Platforms::thread_of`]: `place` is `slack:<team>:<channel>:<ts>` of any message.
    ///
    /// # Errors
    /// Slack does not show the message.
    pub async fn thread_of(&self, place: &str) -> Result<Option<ThreadId>, PostError> {
        let Some(place) = Place::parse(place) else { return Ok(None) };
        let Some(workspace) = self.workspace(&place.team) else { return Err(self.not_connected(&place.team)) };
        let Some(ts) = &place.thread else { return Ok(None) };
        let params = [
            ("channel", place.channel.as_str()),
            ("ts", ts),
            ("oldest", ts),
            ("latest", ts),
            ("inclusive", "true"),
            ("include_all_metadata", "true"),
            ("limit", "10"),
        ];
        let page = match self.read(&place.team, "conversations.replies", &params).await {
            Ok(page) => page,
            Err(error) if error.code == "thread_not_found" => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let messages = page["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(message) = messages.iter().find(|m| m["ts"] == **ts && post::is_ours(m, &workspace)) else {
            return Ok(None);
        };
        // A card elsewhere names its conversation.
        let named = post::thread_in(message).filter(|t| Place::parse(t).is_some_and(|p| p.team == place.team));
        Ok(match named {
            Some(thread) => thread.parse().ok(),
            None => place.thread_id(message["thread_ts"].as_str().unwrap_or(ts)),
        })
    }

    /// See [`crate::platform::Platforms::reply`]. `reply` is `slack:<team>:<channel or ->:<user>`, and the thread.
    pub async fn reply(&self, key: ShortId, reply: &str, text: &str) {
        let mut parts = reply.split(':');
        let (Some(SURFACE), Some(team), Some(channel), Some(user)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            tracing::error!(intent = %key, "an answer has no address in Slack");
            return;
        };
        let thread = parts.next();
        if self.respond(key, text).await {
            return;
        }
        if channel != "-" {
            let mut body = json!({"channel": channel, "user": user, "text": blocks::escape(text)});
            if let Some(thread) = thread {
                body["thread_ts"] = json!(thread);
            }
            match self.call(team, "chat.postEphemeral", &body).await {
                Ok(_) => return,
                Err(error) => tracing::debug!(slack.team = team, %error, "an answer goes to the person in private"),
            }
        }
        if let Err(error) = self.tell(team, user, &blocks::notice(text)).await {
            tracing::warn!(slack.team = team, intent = %key, %error, "somebody could not be told what came of it");
        }
    }

    /// Answers by the response URL, if there is one that still works.
    async fn respond(&self, key: ShortId, text: &str) -> bool {
        let url = {
            let mut hot = self.0.hot.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(kept) = hot.get_mut(&key) else { return false };
            if !still_answers(kept.used, kept.since.elapsed()) {
                return false;
            }
            let Some(url) = kept.hot.response_url.as_deref().and_then(|url| Url::parse(url).ok()) else { return false };
            kept.used += 1;
            url
        };
        // Whoever forged a delivery would learn what was answered.
        if !is_slacks(&url, &["hooks.slack.com"], &self.settings().api_url) {
            tracing::warn!(intent = %key, "a response URL is not Slack's; it is not used");
            return false;
        }
        let body = json!({"response_type": "ephemeral", "replace_original": false, "text": blocks::escape(text)});
        let sent = match self.client() {
            Ok(client) => client.post(url).json(&body).send().await,
            Err(_) => return false,
        };
        match sent {
            Ok(answer) if answer.status().is_success() => true,
            Ok(answer) => {
                tracing::debug!(intent = %key, status = answer.status().as_u16(), "a response URL does not work any more");
                false
            }
            Err(error) => {
                tracing::debug!(intent = %key, why = words_of(&error), "a response URL does not answer");
                false
            }
        }
    }

    /// The private channel with a user.
    pub(super) async fn direct(&self, team: &str, user: &str) -> Result<String, SlackError> {
        if let Some(channel) = known(&self.0.lookups.directs, team, user) {
            return Ok(channel);
        }
        let answer = self.call(team, "conversations.open", &json!({"users": user})).await?;
        let Some(channel) = answer["channel"]["id"].as_str() else {
            return Err(SlackError::new("conversations.open", "odd_answer"));
        };
        remember(&self.0.lookups.directs, team, user, channel);
        Ok(channel.to_owned())
    }

    /// What people call a user; `None` if Slack does not say.
    pub async fn name_of(&self, team: &str, user: &str) -> Option<String> {
        if let Some(name) = known(&self.0.lookups.names, team, user) {
            return Some(name);
        }
        self.ask_name(team, user).await.ok().flatten()
    }

    /// The same; asks Slack in any case.
    ///
    /// # Errors
    /// Slack does not say.
    pub async fn ask_name(&self, team: &str, user: &str) -> Result<Option<String>, SlackError> {
        let answer = self.read(team, "users.info", &[("user", user)]).await?;
        let it = &answer["user"];
        let names = [&it["profile"]["display_name"], &it["real_name"], &it["profile"]["real_name"], &it["name"]];
        let name = names.into_iter().filter_map(Value::as_str).find_map(shown_name);
        if let Some(name) = &name {
            remember(&self.0.lookups.names, team, user, name);
        }
        Ok(name)
    }

    /// The mail address of a user that Slack has confirmed, if it shows one. Asked each time: it decides who counts as
    /// one person.
    ///
    /// # Errors
    /// Slack does not say.
    pub async fn mail_of(&self, team: &str, user: &str) -> Result<Option<String>, SlackError> {
        let answer = self.read(team, "users.info", &[("user", user)]).await?;
        let user = &answer["user"];
        let confirmed = user["is_email_confirmed"].as_bool() == Some(true);
        Ok(user["profile"]["email"].as_str().filter(|_| confirmed).map(str::to_owned))
    }

    /// What people call a user, as far as it is remembered. Asks nobody.
    pub fn known_name(&self, team: &str, user: &str) -> Option<String> {
        known(&self.0.lookups.names, team, user)
    }

    /// Remembers a name that came with a delivery, unless one is known: Slack's answer to a question is the better one.
    pub fn learn_name(&self, team: &str, user: &str, name: &str) {
        if let (None, Some(name)) = (self.known_name(team, user), shown_name(name)) {
            remember(&self.0.lookups.names, team, user, &name);
        }
    }

    /// `#releases`; its id if Slack does not say.
    pub(super) async fn channel_name(&self, team: &str, channel: &str) -> String {
        if let Some(name) = known(&self.0.lookups.names, team, channel) {
            return name;
        }
        let answer = self.read(team, "conversations.info", &[("channel", channel)]).await;
        let Ok(answer) = answer else { return channel.to_owned() };
        match answer["channel"]["name"].as_str() {
            Some(name) => {
                let name = format!("#{name}");
                remember(&self.0.lookups.names, team, channel, &name);
                name
            }
            None if answer["channel"]["is_im"] == true => "our private conversation".to_owned(),
            None => channel.to_owned(),
        }
    }
}

/// Whether a response URL is worth trying.
fn still_answers(used: u32, age: Duration) -> bool {
    used < RESPONSES && age < RESPONSE_LIFE
}

/// Whether an address is on one of Slack's hosts, or where the Web API is by configuration.
fn is_slacks(url: &Url, hosts: &[&str], api_url: &str) -> bool {
    let of_slack = |host: &str| {
        let is =
            |known: &&str| host == *known || (known.matches('.').count() == 1 && host.ends_with(&format!(".{known}")));
        hosts.iter().any(is)
    };
    let is_plain = url.username().is_empty() && url.password().is_none();
    let is_theirs = url.scheme() == "https" && url.port().is_none() && url.host_str().is_some_and(of_slack);
    let is_configured = Url::parse(api_url).is_ok_and(|api| api.origin() == url.origin());
    is_plain && (is_theirs || is_configured)
}

/// Of a failed request, without its address, which gives a right.
fn words_of(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke"
    }
}

/// Whether a timestamp is before another; `1503435956.000247`, so not by its text alone.
fn is_before(ts: &str, other: &str) -> bool {
    let parts = |ts: &str| {
        let (seconds, micros) = ts.split_once('.')?;
        Some((seconds.parse::<u64>().ok()?, micros.parse::<u64>().ok()?))
    };
    match (parts(ts), parts(other)) {
        (Some(ts), Some(other)) => ts < other,
        _ => false,
    }
}

/// Endings of files that are text where Slack does not know their type.
const TEXTS: [&str; 14] =
    ["txt", "log", "md", "csv", "tsv", "json", "yaml", "yml", "toml", "ini", "conf", "xml", "sql", "diff"];

/// Whether a file says that it is text.
fn is_text(file: &Value) -> bool {
    let mimetype = file["mimetype"].as_str().unwrap_or_default().to_ascii_lowercase();
    let kind = mimetype.split(';').next().unwrap_or_default().trim();
    let known = ["json", "xml", "yaml", "toml", "javascript", "x-sh", "x-ndjson", "sql"];
    let declared = kind.starts_with("text/") || known.iter().any(|end| kind.ends_with(end));
    let unknown = matches!(kind, "" | "application/octet-stream" | "binary/octet-stream");
    let ending = file["name"].as_str().and_then(|name| name.rsplit_once('.')).map(|(_, end)| end.to_ascii_lowercase());
    declared || file["mode"] == "snippet" || (unknown && ending.is_some_and(|end| TEXTS.contains(&end.as_str())))
}

/// Bytes as text: as their byte order mark says, else as declared, else UTF-8.
fn decoded(content_type: &str, bytes: &[u8]) -> Result<String, String> {
    let label = content_type.split(';').map(str::trim).find_map(|part| part.strip_prefix("charset="));
    let declared = label.and_then(|label| encoding_rs::Encoding::for_label(label.trim_matches('"').as_bytes()));
    let (encoding, bom) = encoding_rs::Encoding::for_bom(bytes).unwrap_or((declared.unwrap_or(encoding_rs::UTF_8), 0));
    let bytes = bytes.get(bom..).unwrap_or_default();
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes);
    match text {
        Some(text) if !text.contains('\0') => Ok(text.replace("\r\n", "\n")),
        _ => Err(format!("it is no text in {}", encoding.name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_a_response_url_is_used_five_times_within_thirty_minutes() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert!(still_answers(0, minutes(0)) && still_answers(4, minutes(29)));
        assert!(!still_answers(5, minutes(0)) && !still_answers(0, minutes(30)));
    }

    #[test]
    fn only_addresses_of_slack_get_an_answer_or_a_token() {
        let api = "http://127.0.0.1:4000/api";
        let hooks = |url: &str| is_slacks(&Url::parse(url).unwrap(), &["hooks.slack.com"], api);
        assert!(hooks("https://hooks.slack.com/actions/T1/1/x") && hooks("http://127.0.0.1:4000/response/1"));
        for other in [
            "http://hooks.slack.com/actions/T1/1/x",
            "https://hooks.slack.com:8443/x",
            "https://hooks.slack.com.example.com/x",
            "https://example.com/hooks.slack.com",
            "https://hooks.slack.com@example.com/x",
            "https://user@hooks.slack.com/x",
            "https://a.hooks.slack.com/x",
            "http://127.0.0.1:4001/response/1",
            "https://127.0.0.1:4000/response/1",
        ] {
            assert!(!hooks(other), "{other}");
        }
        let files = |url: &str| is_slacks(&Url::parse(url).unwrap(), &["slack.com", "slack-files.com"], api);
        assert!(files("https://files.slack.com/files-pri/T1-F1/a.txt") && files("https://slack-files.com/T1-F1-x"));
        assert!(!files("https://notslack.com/a.txt") && !files("https://evil-slack-files.com/a"));
    }

    #[test]
    fn a_file_is_text_if_it_says_so_and_reads_as_such() {
        for (file, text) in [
            (json!({"mimetype": "text/plain"}), true),
            (json!({"mimetype": "application/json; charset=utf-8"}), true),
            (json!({"mimetype": "image/svg+xml"}), true),
            (json!({"mimetype": "application/octet-stream", "name": "App.LOG"}), true),
            (json!({"mode": "snippet", "mimetype": "application/x-perl"}), true),
            (json!({"mimetype": "application/octet-stream", "name": "a.bin"}), false),
            (json!({"mimetype": "image/png", "name": "a.txt"}), false),
            (json!({"mimetype": "application/pdf"}), false),
        ] {
            assert_eq!(is_text(&file), text, "{file}");
        }
        assert_eq!(decoded("text/plain; charset=iso-8859-1", b"caf\xe9").as_deref(), Ok("caf\u{e9}"));
        assert_eq!(decoded("", b"\xef\xbb\xbfa\r\nb").as_deref(), Ok("a\nb"));
        assert_eq!(decoded("text/plain", b"\xff\xfeh\0i\0").as_deref(), Ok("hi"));
        assert_eq!(decoded("text/plain", b"caf\xe9"), Err("it is no text in UTF-8".to_owned()));
        assert!(decoded("text/plain", b"a\0b").is_err());
    }

    #[test]
    fn timestamps_are_compared_as_numbers() {
        assert!(is_before("999.000001", "1000.000000") && is_before("1.000001", "1.000002"));
        assert!(!is_before("1.000002", "1.000002") && !is_before("", "1.0"));
    }
}
