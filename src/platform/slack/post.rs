//! Postings: where they go, finding one that may stand already, splitting, edits.
//!
//! # In order
//! Messages into one channel go out one after the other, in the order in which they came (`Posts::lanes`); a
//! message whose channel is busy waits here and holds up no other channel. The runtime gives the postings of one
//! thread one at a time.
//!
//! # Once
//! `chat.postMessage` knows no idempotency key. So each message carries one in its metadata
//! (`<thread>/<what>/<part>`), and where an attempt may have been accepted without an answer (a time-out, a crash),
//! the channel is read and what stands there is adopted.
//!
//! # Edits
//! A message that cannot be edited any more is posted anew, and the old one is made harmless if possible: a settled
//! card must not keep live buttons.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::SlackError;
use super::blocks::{self, Look, Message};
use super::{Place, Slack, Workspace, person_parts};
use crate::agent::{Posting, Principal};
use crate::platform::{Card, CardState, Outbound, Post, PostError};

/// The type of our metadata. Slack allows letters, digits and underscores.
pub const EVENT: &str = "twelve_post";

/// Keys that are remembered: where a message stands, whether it may stand, who was told of a refusal. What is
/// forgotten is looked for in the channel.
const REMEMBERED: usize = 20_000;

/// Messages of one page, and pages that are read at most, when a message is looked for.
const PAGE: usize = 200;
const PAGES: usize = 10;

/// Attempts to post a message before the posting is given back; before each but the first, it is looked for.
const ATTEMPTS: u32 = 3;

/// Approvers who get a copy of a card.
const COPIES: usize = 20;
/// People who are told that a place refuses.
const TOLD: usize = 5;

/// A number that differs wherever what is shown differs: Slack refuses an update in which a block keeps its id and
/// not its content. The attempt's number alone would not do: after a crash the same attempt shows what is so by then.
fn counter(post: &Post) -> u64 {
    let shown = crate::agent::Digest::of(format!("{} {:?} {:?}", post.key, post.outbound, post.step).as_bytes());
    shown.0.iter().take(6).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What is on its way.
pub struct Posts {
    /// By team and channel: whose turn it is. Only those with somebody in them.
    lanes: Mutex<HashMap<(String, String), Lane>>,
    /// Until when turns are given away to those who were sent back, by team and channel: each comes again at a time
    /// of its own, in the order in which they came.
    booked: Mutex<LruCache<(String, String), Instant>>,
    /// Where the message with a key stands.
    stands: Mutex<LruCache<String, Reference>>,
    /// Messages that were sent without anybody knowing whether they arrived.
    unsure: Mutex<LruCache<String, ()>>,
    /// Who was told of which place.
    told: Mutex<LruCache<String, ()>>,
}

#[derive(Default)]
struct Lane {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Those in it, waiting or at work.
    inside: u32,
}

type Turn = Arc<tokio::sync::Mutex<()>>;

/// A place in a lane, until it is dropped.
struct InLane<'a> {
    posts: &'a Posts,
    key: (String, String),
}

impl Default for Posts {
    fn default() -> Self {
        let bound = NonZeroUsize::new(REMEMBERED).unwrap_or(NonZeroUsize::MIN);
        Self {
            lanes: Mutex::default(),
            booked: Mutex::new(LruCache::new(bound)),
            stands: Mutex::new(LruCache::new(bound)),
            unsure: Mutex::new(LruCache::new(bound)),
            told: Mutex::new(LruCache::new(bound)),
        }
    }
}

impl Drop for InLane<'_> {
    fn drop(&mut self) {
        let mut lanes = self.posts.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get_mut(&self.key) {
            lane.inside -= 1;
            if lane.inside == 0 {
                lanes.remove(&self.key);
            }
        }
    }
}

impl Posts {
    /// Joins a lane, if no more than `most` are in it; else how many there are.
    fn enter(&self, team: &str, channel: &str, most: u32) -> Result<(InLane<'_>, Turn), u32> {
        let key = (team.to_owned(), channel.to_owned());
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(key.clone()).or_default();
        if lane.inside > most {
            return Err(lane.inside);
        }
        lane.inside += 1;
        let turn = lane.turn.clone();
        Ok((InLane { posts: self, key }, turn))
    }

    /// After how long somebody who does not get into a lane shall come again.
    fn book(&self, team: &str, channel: &str, now: Instant, inside: u32, second: Duration) -> Duration {
        let key = (team.to_owned(), channel.to_owned());
        let mut booked = self.booked.lock().unwrap_or_else(PoisonError::into_inner);
        let free = now + second * inside;
        let at = booked.get(&key).map_or(free, |until| free.max(*until)) + second;
        booked.put(key, at);
        at - now
    }

    fn standing(&self, key: &str) -> Option<Reference> {
        self.stands.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn stands(&self, key: &str, reference: &Reference) {
        self.stands.lock().unwrap_or_else(PoisonError::into_inner).put(key.to_owned(), reference.clone());
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner).pop(key);
    }

    fn may_stand(&self, key: &str) {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner).put(key.to_owned(), ());
    }

    fn is_unsure(&self, key: &str) -> bool {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Whether this is the first time.
    fn tell_once(&self, key: String) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).put(key, ()).is_none()
    }
}

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub channel: String,
    pub ts: String,
}

impl Reference {
    /// The references of a posting.
    pub fn parse(text: &str) -> Vec<Self> {
        let one = |each: &str| {
            let (channel, ts) = each.split_once('/')?;
            (!channel.is_empty() && !ts.is_empty()).then(|| Self { channel: channel.to_owned(), ts: ts.to_owned() })
        };
        text.split_whitespace().filter_map(one).collect()
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.channel, self.ts)
    }
}

/// A message on its way to a place.
struct Part<'a> {
    post: &'a Post,
    place: Place,
    /// Which one of the posting it is.
    part: String,
    message: Message,
    /// Whether a message that is found may show an older state.
    changes: bool,
}

impl Slack {
    /// Puts a posting where people see it; returns where it is: one `<channel>/<ts>` for each message, separated
    /// by spaces. A card's own message is the first.
    ///
    /// # Errors
    /// For people. What may pass is `transient`; it is tried again by the effect.
    pub async fn post(&self, post: Post) -> Result<String, PostError> {
        let Some(place) = Place::parse(post.thread.as_str()) else {
            return Err(PostError::lasting(format!("{} is no thread of Slack", post.thread)));
        };
        let Some(workspace) = self.workspace(&place.team) else { return Err(self.not_connected(&place.team)) };
        let look = Look { team: &place.team, public_url: &self.settings().public_url, counter: counter(&post) };
        let one = |message| vec![message];
        let (messages, changes) = match &post.outbound {
            Outbound::Card(card) => return self.post_card(&post, &place, &workspace, card, &look).await,
            Outbound::Answer { agent, text } => (blocks::answer(text, agent), false),
            Outbound::Question { id, question } => (one(blocks::question(*id, question, &look)), true),
            Outbound::QuestionClosed { id } => (one(blocks::question_closed(*id, &look)), true),
            Outbound::Unknown { call, title, waits_for } => {
                (one(blocks::unknown(*call, title, waits_for, &look)), true)
            }
            Outbound::Notice { text } => (one(blocks::notice(text)), false),
        };
        let standing = Reference::parse(post.replaces.as_deref().unwrap_or_default());
        let mut references = Vec::new();
        for (n, message) in messages.into_iter().enumerate() {
            let part = Part { post: &post, place: place.clone(), part: n.to_string(), message, changes };
            match self.show(&part, standing.get(n)).await {
                Ok(reference) => references.push(reference.to_string()),
                Err(error) => return Err(self.refused(&post, &place, &error).await),
            }
        }
        Ok(references.join(" "))
    }

    pub(super) fn not_connected(&self, team: &str) -> PostError {
        let coming = self.settings().workspaces.iter().any(|w| w.team.as_deref().is_none_or(|t| t == team));
        let message = format!("the Slack workspace {team} is not connected");
        PostError { message, transient: coming, retry_after_ms: None }
    }

    /// The card where its route says, a link to it in its conversation, copies for the approvers.
    async fn post_card(
        &self,
        post: &Post,
        place: &Place,
        workspace: &Workspace,
        card: &Card,
        look: &Look<'_>,
    ) -> Result<String, PostError> {
        let cards: &[Card] = if post.step.is_empty() { std::slice::from_ref(card) } else { &post.step };
        let message = blocks::card(cards, look);
        let home = self.home_of(card, place, workspace);
        let standing = Reference::parse(post.replaces.as_deref().unwrap_or_default());
        let stands_in = |channel: &str| standing.iter().find(|r| r.channel == channel);
        let part = |place: &Place, part: &str, message: &Message| Part {
            post,
            place: place.clone(),
            part: part.to_owned(),
            message: message.clone(),
            changes: true,
        };
        let mut references = Vec::new();

        let mut refused = None;
        let own = match self.show(&part(&home, "card", &message), stands_in(&home.channel)).await {
            Ok(reference) => Some(reference),
            Err(error) if error.is_transient() => return Err(error.into()),
            // The approvers' copies may still reach somebody.
            Err(error) => {
                refused = Some(self.refused(post, &home, &error).await);
                None
            }
        };
        if home.channel != place.channel
            && let Some(own) = &own
        {
            let permalink = self.permalink(&place.team, own).await;
            let link = blocks::link_to_card(card, permalink.as_deref(), look);
            match self.show(&part(place, "link", &link), stands_in(&place.channel)).await {
                Ok(reference) => references.push(reference),
                Err(error) if error.is_transient() => return Err(error.into()),
                // The request itself stands where the approvers are.
                Err(error) => drop(self.refused(post, place, &error).await),
            }
        }
        let shown = |r: &Reference| r.channel == home.channel || r.channel == place.channel;
        // Who is asked about which of these cards gets those, in one message.
        let mut copies: Vec<(String, Vec<Card>)> = Vec::new();
        let others = standing.iter().any(|r| !shown(r));
        for asked in cards.iter().filter(|c| others || (c.approval.terms.route.direct && is_undecided(c))) {
            for user in approvers_in(asked, &place.team) {
                match self.direct(&place.team, user).await {
                    Ok(channel) if channel == home.channel || channel == place.channel => {}
                    Ok(channel) => match copies.iter_mut().find(|(c, _)| *c == channel) {
                        Some((_, rows)) => rows.push(asked.clone()),
                        None => copies.push((channel, vec![asked.clone()])),
                    },
                    Err(error) => tracing::warn!(slack.team = place.team, %error, "an approver gets no copy of a card"),
                }
            }
        }
        // An edit may have moved the request to another channel: what stands in the former one is over. Direct messages
        // (their channels' ids begin with D) are copies.
        let is_copy = |r: &&Reference| !shown(r) && r.channel.starts_with('D');
        if let Some(own) = &own {
            for former in standing.iter().filter(|r| !shown(r) && !r.channel.starts_with('D')) {
                self.make_harmless(&place.team, former, own).await;
            }
        }
        // A copy of whom nobody can tell is not forgotten: it has buttons.
        for there in standing.iter().filter(is_copy) {
            if !copies.iter().any(|(channel, _)| *channel == there.channel) {
                let same = |c: &&Card| c.approval.terms.approvers == card.approval.terms.approvers;
                copies.push((there.channel.clone(), cards.iter().filter(same).cloned().collect()));
            }
        }
        for (channel, rows) in copies {
            let stands = stands_in(&channel).cloned();
            // The others are brought up to date with their own cards.
            let is_about_this = rows.iter().any(|row| row.approval.id == card.approval.id);
            let is_new = stands.is_none() && card.approval.terms.route.direct && is_undecided(card);
            if !is_about_this || (stands.is_none() && !is_new) {
                continue;
            }
            let message = blocks::card(&rows, look);
            let there = Place { team: place.team.clone(), channel, thread: None };
            match (
                self.show(&part(&there, &format!("copy-{}", there.channel), &message), stands.as_ref()).await,
                stands,
            ) {
                (Ok(reference), _) => references.push(reference),
                // An old copy must not be forgotten: it has buttons.
                (Err(error), Some(_)) if error.is_transient() => return Err(error.into()),
                (Err(error), stands) => {
                    tracing::warn!(slack.team = place.team, %error, "a copy of a card is not up to date");
                    references.extend(stands);
                }
            }
        }
        match refused {
            Some(refused) if references.is_empty() => Err(refused),
            _ => {
                // One that cannot be edited now stays the card's own: it may be possible later.
                let own = own.or_else(|| stands_in(&home.channel).cloned());
                Ok(own.iter().chain(&references).map(Reference::to_string).collect::<Vec<_>>().join(" "))
            }
        }
    }

    /// Where the card of a request stands: where its route says, if that is in this workspace.
    fn home_of(&self, card: &Card, place: &Place, workspace: &Workspace) -> Place {
        let route = &card.approval.terms.route.channel;
        let what = format!("route {route}");
        match Place::parse(route) {
            _ if route.is_empty() => place.clone(),
            Some(home) if home.team == place.team && home.channel == place.channel => place.clone(),
            Some(home) if home.team == place.team => home,
            Some(_) => {
                let words = format!(
                    "a request of the team {} ({}) is to go to a channel of another team, which never happens: it is \
                     shown in its own conversation. Give that team's agents a route of their own",
                    place.team, workspace.name
                );
                self.lack(&what, words);
                place.clone()
            }
            None => {
                let words = "this is no channel (slack:<team>:<channel>): requests are shown in their own conversation";
                self.lack(&what, words.to_owned());
                place.clone()
            }
        }
    }

    /// Makes a message stand in its place as it is now.
    async fn show(&self, part: &Part<'_>, stands: Option<&Reference>) -> Result<Reference, SlackError> {
        let Some(stands) = stands else { return self.put(part).await };
        let error = match self.edit(&part.place.team, stands, &part.message, &part.key()).await {
            Ok(()) => return Ok(stands.clone()),
            Err(error) if error.is_transient() || is_place(&error) => return Err(error),
            // Nothing is missing where a question that is over was deleted.
            Err(error)
                if error.code == "message_not_found"
                    && matches!(part.post.outbound, Outbound::QuestionClosed { .. }) =>
            {
                return Ok(stands.clone());
            }
            Err(error) => error,
        };
        tracing::warn!(slack.team = part.place.team, %error, "a message cannot be edited; it is posted anew");
        let anew = Part {
            post: part.post,
            place: part.place.clone(),
            part: format!("{}-after-{}", part.part, stands.ts),
            message: part.message.clone(),
            changes: part.changes,
        };
        let reference = self.put(&anew).await?;
        self.make_harmless(&part.place.team, stands, &reference).await;
        Ok(reference)
    }

    async fn edit(&self, team: &str, at: &Reference, message: &Message, key: &Value) -> Result<(), SlackError> {
        let mut body = body_of(message, key);
        body["channel"] = json!(at.channel);
        body["ts"] = json!(at.ts);
        self.call(team, "chat.update", &body).await.map(drop)
    }

    /// Takes the buttons from a message that another one has taken the place of.
    async fn make_harmless(&self, team: &str, old: &Reference, new: &Reference) {
        let link = self.permalink(team, new).await;
        let text = match link {
            Some(link) => format!("This was posted again: {link}"),
            None => "This was posted again, further down.".to_owned(),
        };
        let done = self.edit(team, old, &blocks::notice(&text), &Value::Null).await;
        // A message that is gone has no buttons.
        if let Err(error) = done
            && error.code != "message_not_found"
        {
            tracing::warn!(slack.team = team, %error, "an old message keeps its buttons; whoever presses them is told");
        }
    }

    async fn permalink(&self, team: &str, of: &Reference) -> Option<String> {
        let params = [("channel", of.channel.as_str()), ("message_ts", of.ts.as_str())];
        let answer = self.read(team, "chat.getPermalink", &params).await;
        answer.ok()?["permalink"].as_str().map(str::to_owned)
    }

    /// Posts a message, unless it stands already.
    async fn put(&self, part: &Part<'_>) -> Result<Reference, SlackError> {
        let key = part.key_text();
        let posts = &self.0.posts;
        let found = match posts.standing(&key) {
            Some(reference) => Some(reference),
            None if part.post.again || posts.is_unsure(&key) => self.find(&part.place, &key).await?,
            None => None,
        };
        let Some(found) = found else {
            let reference = match self.send(&part.place, &part.message, &part.key(), &key).await {
                // Better in plain words than not at all. It has no buttons, so nothing is approved that is not shown.
                Err(error) if is_content(&error) => {
                    tracing::error!(slack.team = part.place.team, %error, "Slack does not take a message as it is; it is sent in plain words");
                    self.send(&part.place, &self.plain(&part.message, &part.post.posting), &part.key(), &key).await?
                }
                sent => sent?,
            };
            posts.stands(&key, &reference);
            return Ok(reference);
        };
        posts.stands(&key, &found);
        if part.changes {
            // It may show an older state, or have been deleted since.
            return Box::pin(self.show(part, Some(&found))).await;
        }
        Ok(found)
    }

    fn plain(&self, message: &Message, posting: &Posting) -> Message {
        let base = &self.settings().public_url;
        let link = match posting {
            Posting::Card { approval } if !base.is_empty() => format!(" {base}/inbox/{approval}"),
            _ => String::new(),
        };
        let text: String = unescaped(&message.text).chars().take(MAX_PLAIN).collect();
        blocks::notice(&format!("{text}{link}"))
    }

    /// Posts a message when it is its turn in its channel. Where nobody can tell whether it arrived, it is looked for
    /// before it is sent again.
    pub(super) async fn send(
        &self,
        place: &Place,
        message: &Message,
        metadata: &Value,
        key: &str,
    ) -> Result<Reference, SlackError> {
        let mut body = body_of(message, metadata);
        body["channel"] = json!(place.channel);
        body["unfurl_links"] = json!(false);
        body["unfurl_media"] = json!(false);
        if let Some(thread) = &place.thread {
            body["thread_ts"] = json!(thread);
        }
        let pace = &self.0.settings.pace;
        let (posts, until) = (&self.0.posts, Instant::now() + pace.patience);
        let too_long = |inside: u32| {
            let wait = posts.book(&place.team, &place.channel, Instant::now(), inside, pace.second);
            let retry_after_ms = Some(wait.as_millis() as u64);
            SlackError { retry_after_ms, ..SlackError::new("chat.postMessage", "ratelimited") }
        };
        // About one a second goes out.
        let most = (pace.patience.as_secs_f64() / pace.second.as_secs_f64().max(0.001)) as u32;
        let (_inside, turn) = posts.enter(&place.team, &place.channel, most).map_err(too_long)?;
        let Ok(_turn) = tokio::time::timeout_at(until, turn.lock()).await else { return Err(too_long(most)) };
        let mut failures = 0;
        loop {
            let error = match self.call(&place.team, "chat.postMessage", &body).await {
                Ok(answer) => {
                    let text = |name: &str| answer[name].as_str().map(str::to_owned);
                    return match (text("channel"), text("ts")) {
                        (Some(channel), Some(ts)) => Ok(Reference { channel, ts }),
                        _ => Err(SlackError::new("chat.postMessage", "odd_answer")),
                    };
                }
                Err(error) => error,
            };
            if !error.is_unsure() {
                return Err(error);
            }
            posts.may_stand(key);
            failures += 1;
            if failures == ATTEMPTS || Instant::now() >= until {
                return Err(error);
            }
            tokio::time::sleep(pace.second * failures).await;
            match self.find(place, key).await {
                Ok(Some(reference)) => return Ok(reference),
                Ok(None) => {}
                // It is looked for again with the next attempt of the effect.
                Err(_) => return Err(error),
            }
        }
    }

    /// The message of ours with this key. Where the conversation cannot be read for good (a scope is missing), it
    /// counts as not there: a message that stands twice is better than one that nobody sees.
    ///
    /// # Errors
    /// It may be possible later.
    pub(super) async fn find(&self, place: &Place, key: &str) -> Result<Option<Reference>, SlackError> {
        let Some(workspace) = self.workspace(&place.team) else { return Ok(None) };
        let limit = PAGE.to_string();
        let mut cursor = String::new();
        for _ in 0..PAGES {
            let mut params =
                vec![("channel", place.channel.as_str()), ("limit", limit.as_str()), ("include_all_metadata", "true")];
            let method = match &place.thread {
                Some(thread) => {
                    params.push(("ts", thread));
                    "conversations.replies"
                }
                None => "conversations.history",
            };
            if !cursor.is_empty() {
                params.push(("cursor", &cursor));
            }
            let page = match self.read(&place.team, method, &params).await {
                Ok(page) => page,
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    tracing::warn!(slack.team = place.team, %error, "it cannot be seen whether a message stands already");
                    return Ok(None);
                }
            };
            let messages = page["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
            let found = messages.iter().find(|m| is_ours(m, &workspace) && key_in(m) == Some(key));
            if let Some(ts) = found.and_then(|m| m["ts"].as_str()) {
                return Ok(Some(Reference { channel: place.channel.clone(), ts: ts.to_owned() }));
            }
            cursor = page["response_metadata"]["next_cursor"].as_str().unwrap_or_default().to_owned();
            if cursor.is_empty() {
                return Ok(None);
            }
        }
        tracing::warn!(slack.team = place.team, "a message was not found among the many of its conversation");
        Ok(None)
    }

    /// What becomes of a posting that Slack refused. If the place itself refuses, those who asked are told in private.
    async fn refused(&self, post: &Post, place: &Place, error: &SlackError) -> PostError {
        if !is_place(error) {
            return error.clone().into();
        }
        let words = self.refusal_words(place, error).await;
        let base = &self.settings().public_url;
        let next = match &post.posting {
            Posting::Card { approval } if !base.is_empty() => {
                format!("The request stays open: it can be decided at {base}/inbox/{approval}")
            }
            Posting::Card { .. } => "The request stays open: it can be decided in the inbox.".to_owned(),
            _ if !base.is_empty() => format!("The conversation is kept: {base}/chat/{}", post.thread.short()),
            _ => "The conversation is kept.".to_owned(),
        };
        let message = blocks::notice(&format!("{words} {next}"));
        for person in post.people.iter().take(TOLD) {
            let Some(user) = user_in(person, &place.team) else { continue };
            let once = format!("{}/{}/{}/{user}", post.thread.short(), place.team, place.channel);
            if !self.0.posts.tell_once(once) {
                continue;
            }
            if let Err(error) = self.tell(&place.team, user, &message).await {
                tracing::warn!(slack.team = place.team, %error, "nobody could be told that a place refuses");
            }
        }
        PostError::lasting(words)
    }

    /// Writes to somebody in private.
    pub(super) async fn tell(&self, team: &str, user: &str, message: &Message) -> Result<Reference, SlackError> {
        let channel = self.direct(team, user).await?;
        let place = Place { team: team.to_owned(), channel, thread: None };
        let key = format!("tell/{}", uuid::Uuid::now_v7());
        self.send(&place, message, &metadata(&key, ""), &key).await
    }

    /// What, why, what next.
    pub(super) async fn refusal_words(&self, place: &Place, error: &SlackError) -> String {
        let channel = self.channel_name(&place.team, &place.channel).await;
        let why = match error.code.as_str() {
            "not_in_channel" | "channel_not_found" => {
                let bot = match self.workspace(&place.team) {
                    Some(workspace) => self.name_of(&place.team, &workspace.bot_user).await,
                    None => None,
                };
                format!("Invite me with /invite @{}.", bot.as_deref().unwrap_or("agent"))
            }
            "is_archived" => "It is archived: bring it back, or write to me somewhere else.".to_owned(),
            "thread_not_found" => "The first message of the conversation was deleted.".to_owned(),
            "user_disabled" | "user_not_found" | "users_not_found" | "cannot_dm_bot" | "is_inactive" => {
                "Nobody reads there any more.".to_owned()
            }
            "missing_scope" => {
                format!(
                    "The app was not granted {}; an operator can run `doctor`.",
                    error.scope.as_deref().unwrap_or("a scope")
                )
            }
            code => format!("Slack does not let me ({code}): ask an admin of the workspace."),
        };
        format!("I can't post in {channel}. {why}")
    }
}

/// Longest message that is sent in plain words, in characters: it fits one section.
const MAX_PLAIN: usize = 2_500;

impl Part<'_> {
    fn key_text(&self) -> String {
        format!("{}/{}/{}", self.post.thread.short(), posting_key(&self.post.posting, &self.post.outbound), self.part)
    }

    fn key(&self) -> Value {
        metadata(&self.key_text(), self.post.thread.as_str())
    }
}

/// What a message is known by. `thread` is the conversation that it belongs to, wherever it stands.
pub(super) fn metadata(key: &str, thread: &str) -> Value {
    json!({"event_type": EVENT, "event_payload": {"key": key, "thread": thread}})
}

/// The same over all attempts, and for all cards of one reply.
fn posting_key(posting: &Posting, outbound: &Outbound) -> String {
    match (posting, outbound) {
        (Posting::Card { .. }, Outbound::Card(card)) => {
            let direct = if card.approval.terms.route.direct { "-direct" } else { "" };
            // Cards of one reply that go to different places are different messages.
            let route = &card.approval.terms.route.channel;
            let route = if route.is_empty() { String::new() } else { format!("-{route}") };
            format!("cards-{}{direct}{route}", card.approval.call.seq)
        }
        (Posting::Card { approval }, _) => format!("card-{approval}"),
        (Posting::Answer { seq }, _) => format!("answer-{seq}"),
        (Posting::Notice { seq }, _) => format!("notice-{seq}"),
        (Posting::Question { question }, _) => format!("question-{}-{}", question.seq, question.ord),
        (Posting::Unknown { call }, _) => format!("unknown-{}-{}", call.seq, call.ord),
    }
}

fn body_of(message: &Message, metadata: &Value) -> Value {
    let mut body = json!({"text": message.text, "blocks": message.blocks});
    if !metadata.is_null() {
        body["metadata"] = metadata.clone();
    }
    body
}

/// The key in a message's metadata.
fn key_in(message: &Value) -> Option<&str> {
    let metadata = &message["metadata"];
    if metadata["event_type"] != EVENT {
        return None;
    }
    metadata["event_payload"]["key"].as_str()
}

/// The conversation that a message of ours belongs to, as it says itself.
pub(super) fn thread_in(message: &Value) -> Option<&str> {
    let metadata = &message["metadata"];
    let thread = metadata["event_payload"]["thread"].as_str().filter(|thread| !thread.is_empty());
    thread.filter(|_| metadata["event_type"] == EVENT)
}

/// Slack escapes three characters in texts.
pub(super) fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Whether our bot wrote it.
pub(super) fn is_ours(message: &Value, workspace: &Workspace) -> bool {
    let is = |name: &str, id: &str| !id.is_empty() && message[name] == id;
    is("bot_id", &workspace.bot_id) || is("user", &workspace.bot_user)
}

/// Whether the place refuses, whatever is posted there.
pub(super) fn is_place(error: &SlackError) -> bool {
    matches!(
        error.code.as_str(),
        "not_in_channel"
            | "channel_not_found"
            | "is_archived"
            | "no_permission"
            | "restricted_action"
            | "restricted_action_read_only_channel"
            | "restricted_action_thread_only_channel"
            | "restricted_action_non_threadable_channel"
            | "restricted_action_thread_locked"
            | "ekm_access_denied"
            | "thread_not_found"
            | "user_disabled"
            | "user_not_found"
            | "users_not_found"
            | "cannot_dm_bot"
            | "is_inactive"
            | "messages_tab_disabled"
            | "method_not_supported_for_channel_type"
            | "missing_scope"
    )
}

/// Whether Slack refuses what the message is made of.
fn is_content(error: &SlackError) -> bool {
    matches!(
        error.code.as_str(),
        "invalid_blocks"
            | "invalid_blocks_format"
            | "msg_too_long"
            | "msg_blocks_too_long"
            | "markdown_text_conflict"
            | "no_text"
            | "invalid_arguments"
            | "metadata_too_large"
    )
}

/// Whether a card waits for somebody, now or again.
fn is_undecided(card: &Card) -> bool {
    matches!(card.state, CardState::Pending { .. } | CardState::Revising)
}

/// The approvers who are named, as users of this team.
fn approvers_in<'c>(card: &'c Card, team: &str) -> impl Iterator<Item = &'c str> {
    let users = card.approval.terms.approvers.users.iter();
    let named = move |id: &'c String| person_parts(id).filter(|(t, _)| *t == team).map(|(_, user)| user);
    users.filter_map(named).filter(|user| user.starts_with(['U', 'W'])).take(COPIES)
}

/// A person's user id, if they are of this team.
fn user_in<'p>(person: &'p Principal, team: &str) -> Option<&'p str> {
    person_parts(&person.id).filter(|(t, _)| *t == team).map(|(_, user)| user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s11_those_who_find_a_lane_full_come_again_one_after_the_other() {
        let (posts, now, second) = (Posts::default(), Instant::now(), Duration::from_secs(1));
        let inside: Vec<_> = (0..3).map(|_| posts.enter("T1", "C1", 2).ok().unwrap()).collect();
        let full = posts.enter("T1", "C1", 2).err().unwrap();
        let waits: Vec<u64> = (0..3).map(|_| posts.book("T1", "C1", now, full, second).as_secs()).collect();
        assert_eq!((full, waits), (3, vec![4, 5, 6]));
        assert_eq!(posts.book("T2", "C1", now, 3, second).as_secs(), 4, "another team has turns of its own");
        assert!(posts.enter("T2", "C1", 2).is_ok());
        drop(inside);
        assert!(posts.enter("T1", "C1", 2).is_ok() && posts.lanes.lock().unwrap().is_empty());
        let later = now + second * 60;
        assert_eq!(posts.book("T1", "C1", later, 3, second).as_secs(), 4);
    }

    #[test]
    fn references_are_read_as_they_are_written() {
        let two = "C1/1503435956.000247 D9/2.1";
        let written: Vec<String> = Reference::parse(two).iter().map(Reference::to_string).collect();
        assert_eq!(written.join(" "), two);
        assert_eq!(Reference::parse(" C1 /1 C1/ x/2"), [Reference { channel: "x".to_owned(), ts: "2".to_owned() }]);
    }
}
