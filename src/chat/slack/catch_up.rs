//! Catching up: what was said while nothing could reach us is read, and goes the same way as a delivery.
//!
//! Slack drops events when there are too many (`app_rate_limited`), and while no connection is open. Afterwards the
//! channels of the conversations that agents take part in are read for new mentions, and then the conversations
//! themselves, all from the beginning of the gap: that a later message is known says nothing about the earlier ones.
//! Every message gets the id that its delivery would have had, so one that arrives both ways is one. What was said
//! in a thread before the agent joined it is not handed over: that came along when it joined.
//!
//! Not found: a mention in a thread that has no log (a channel's history does not show answers), and whatever was
//! said in channels in which no agent has taken part lately, or before the last day, or beyond the bounds below.
//!
//! Left out: presses of buttons, which people repeat; edits and deletions; words that only ask for something to look
//! at (`status`), because nobody waits for that answer any more.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Ack, AtWork, Front};
use crate::agent::Timestamp;
use crate::chat::commands::{self, Command};
use crate::platform::slack::inbound::Envelope;
use crate::platform::slack::{Place, SURFACE};
use crate::store::{Filter, MAX_PAGE, Status, StoreError, Summary};

/// How far back is read, in milliseconds. Slack itself delivers again for up to a day.
const BACK_MS: u64 = 24 * 3_600_000;
/// Before a gap is noticed, messages may have been lost for so long, in milliseconds: a dead connection is found
/// within half a minute, and clocks differ.
const MARGIN_MS: u64 = 120_000;
/// Longest reading of one team: Slack answers about fifty such questions a minute.
const READING: Duration = Duration::from_secs(15 * 60);
/// Conversations that are read, those with the latest changes first.
const MAX_THREADS: usize = 200;
/// Summaries that are looked through for them.
const MAX_SCANNED: usize = 5_000;
/// Only conversations with a change in this time, in milliseconds: a week, as long as an approval may be open.
const RECENT_MS: u64 = 7 * 24 * 3_600_000;
/// Channels that are read for new mentions.
const MAX_CHANNELS: usize = 50;
/// Pages of one conversation or channel.
const MAX_PAGES: usize = 5;
/// Messages of a page.
const PAGE: &str = "100";

/// Teams that are being read, and whether they are to be read once more afterwards.
#[derive(Default)]
pub struct Readings(Mutex<BTreeMap<String, bool>>);

/// Reads what a team said, on a task of its own; at most one for each team. What is left out while it is being read
/// is read afterwards: Slack says every minute that it leaves events out.
pub(super) fn begin(front: &Front, team: String) {
    {
        let mut readings = front.0.readings.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(again) = readings.get_mut(&team) {
            *again = true;
            return;
        }
        readings.insert(team.clone(), false);
    }
    let (front, one) = (front.clone(), AtWork::one(&front.0));
    tokio::spawn(async move {
        loop {
            // Whatever breaks in there, this team can be read again.
            let reading = AssertUnwindSafe(timeout(READING, catch_up(&front, &team))).catch_unwind().await;
            if !matches!(reading, Ok(Ok(_))) {
                tracing::warn!(slack.team = team, "catching up took too long or broke, and was given up");
            }
            let mut readings = front.0.readings.0.lock().unwrap_or_else(PoisonError::into_inner);
            match readings.get_mut(&team) {
                Some(again) if *again => *again = false,
                Some(_) | None => {
                    readings.remove(&team);
                    break;
                }
            }
        }
        drop(one);
    });
}

/// Reads what was said in the conversations of a team in the last day and is not known. Returns how many messages
/// were handed over; most are known, and change nothing.
pub async fn catch_up(front: &Front, team: &str) -> usize {
    let mut handed = 0;
    since(front, team, None, &mut handed).await;
    handed
}

/// The same from a moment on at which all was still heard. Returns whether all was taken; if not, it is to be read
/// again.
pub(super) async fn since(front: &Front, team: &str, heard: Option<Timestamp>, handed: &mut usize) -> bool {
    let now = front.0.runtime.parts().clock.now();
    let day_ago = Timestamp(now.0.saturating_sub(BACK_MS as i64));
    let heard = heard.map_or(day_ago, |at| Timestamp(at.0.saturating_sub(MARGIN_MS as i64)).max(day_ago));
    let Some(known) = conversations(front, team, now).await else { return false };
    let channels: BTreeSet<&str> = known.iter().map(|(_, place)| place.channel.as_str()).collect();
    for channel in channels.into_iter().take(MAX_CHANNELS) {
        match (Reading { front, team, channel, root: None, after: in_micros(heard) }).read().await {
            Some(messages) => *handed += messages,
            None => return false,
        }
    }
    // What has just begun has answers as well.
    let Some(threads) = conversations(front, team, now).await else { return false };
    for (summary, place) in &threads {
        let Some(root) = &place.thread else { continue };
        let mut after = in_micros(heard);
        if summary.created_at >= heard {
            after = after.max(joined(front, summary, &place.channel).await);
        }
        match (Reading { front, team, channel: &place.channel, root: Some(root), after }).read().await {
            Some(messages) => *handed += messages,
            None => return false,
        }
    }
    tracing::info!(slack.team = team, threads = threads.len(), messages = *handed, "caught up with Slack");
    true
}

/// The conversations of a team that may have gone on, latest change first. `None`: the store does not say.
async fn conversations(front: &Front, team: &str, now: Timestamp) -> Option<Vec<(Summary, Place)>> {
    let (mut found, mut after, mut scanned) = (Vec::new(), None, 0);
    loop {
        let page = match front.0.runtime.parts().store.list(&Filter::default(), after, MAX_PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(slack.team = team, %error, "cannot list the conversations to catch up with");
                return None;
            }
        };
        for summary in page.items {
            scanned += 1;
            if scanned > MAX_SCANNED || found.len() == MAX_THREADS || now.ms_since(summary.updated_at) > RECENT_MS {
                return Some(found);
            }
            if summary.thread.surface() != SURFACE || summary.status == Status::Cancelled {
                continue;
            }
            if let Some(place) = Place::parse(summary.thread.as_str()).filter(|place| place.team == team) {
                found.push((summary, place));
            }
        }
        after = page.next;
        if after.is_none() {
            return Some(found);
        }
    }
}

/// When the agent joined a conversation, in microseconds since 1970: the message that its log begins with, else the
/// beginning of the log.
async fn joined(front: &Front, summary: &Summary, channel: &str) -> u64 {
    #[derive(Deserialize)]
    struct Sourced {
        source: Option<String>,
    }
    let loaded = front.0.runtime.parts().store.load(summary.thread.short(), 0).await;
    let events = loaded.map(|loaded| loaded.events).unwrap_or_default();
    let first = events.iter().find_map(|bytes| serde_json::from_slice::<Sourced>(bytes).ok()?.source);
    let first = first.and_then(|source| micros(source.strip_prefix(&format!("{SURFACE}:{channel}:"))?));
    first.unwrap_or_else(|| in_micros(summary.created_at))
}

fn in_micros(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000)
}

/// What is to be read: the answers of a conversation, or what is new in a channel.
struct Reading<'a> {
    front: &'a Front,
    team: &'a str,
    channel: &'a str,
    root: Option<&'a str>,
    /// In microseconds since 1970.
    after: u64,
}

impl Reading<'_> {
    /// Hands over what is new, oldest first; returns how many. `None`: nothing can be taken now.
    async fn read(&self) -> Option<usize> {
        let after = format!("{}.{:06}", self.after / 1_000_000, self.after % 1_000_000);
        let (mut cursor, mut messages) = (String::new(), Vec::new());
        for _ in 0..MAX_PAGES {
            let mut params = vec![("channel", self.channel), ("oldest", after.as_str()), ("limit", PAGE)];
            let method = match self.root {
                Some(root) => {
                    params.push(("ts", root));
                    "conversations.replies"
                }
                None => "conversations.history",
            };
            if !cursor.is_empty() {
                params.push(("cursor", cursor.as_str()));
            }
            let mut page = match self.front.0.slack.read(self.team, method, &params).await {
                Ok(page) => page,
                Err(error) => {
                    let channel = self.channel;
                    tracing::warn!(slack.team = self.team, slack.channel = channel, %error, "cannot catch up here");
                    break;
                }
            };
            if let Some(Value::Array(found)) = page.get_mut("messages").map(Value::take) {
                messages.extend(found);
            }
            let next = page.pointer("/response_metadata/next_cursor").and_then(Value::as_str).unwrap_or_default();
            if next.is_empty() {
                break;
            }
            cursor = next.to_owned();
        }
        let ts = |message: &Value| message.get("ts").and_then(Value::as_str).and_then(micros).unwrap_or(0);
        // The first message of a conversation comes with every page.
        messages.retain(|message| ts(message) > self.after && self.is_wanted(message));
        messages.sort_by_key(ts);
        messages.dedup_by_key(|message| ts(message));
        let (mut handed, mut colleagues) = (0, BTreeMap::new());
        for message in messages {
            if self.root.is_none() && self.has_log(&message).await {
                continue;
            }
            let here = self.here(&message, &mut colleagues).await;
            let envelope = envelope(self.team, self.channel, here.as_deref(), message);
            if self.front.take(envelope).await == Ack::Again {
                tracing::warn!(slack.team = self.team, "nothing can be taken now; catching up is given up");
                return None;
            }
            handed += 1;
        }
        Some(handed)
    }

    /// Whether the message is worth handing over; whether it is meant for an agent is decided where deliveries are.
    fn is_wanted(&self, message: &Value) -> bool {
        let field = |name: &str| message.get(name).and_then(Value::as_str);
        let bot = self.front.0.slack.workspace(self.team).map(|w| w.bot_user.clone()).unwrap_or_default();
        let author = field("user").unwrap_or_default();
        if author.is_empty() || author == bot || message.get("bot_id").is_some_and(|id| !id.is_null()) {
            return false;
        }
        // In a channel's history, answers that were sent to the channel as well belong to their conversation.
        if self.root.is_none() && field("thread_ts").is_some_and(|root| Some(root) != field("ts")) {
            return false;
        }
        let text = field("text").unwrap_or_default().replace(&format!("<@{bot}>"), " ");
        let words = text.trim();
        let sign = format!("!{}", self.front.0.settings.command.trim_start_matches('/'));
        let signed = words.strip_prefix(&sign).filter(|rest| rest.is_empty() || rest.starts_with(' '));
        let only_looks = |command: Command| match command {
            Command::Run { .. }
            | Command::Approve { .. }
            | Command::Deny { .. }
            | Command::Answer { .. }
            | Command::Steer { .. } => false,
            Command::Status { .. }
            | Command::Pending { .. }
            | Command::History { .. }
            | Command::Rules
            | Command::Agents
            | Command::Tools
            | Command::Doctor
            | Command::Help
            | Command::Unknown { .. } => true,
        };
        match signed {
            Some(words) => !only_looks(commands::parse(words.trim())),
            // A mere mention asks what there is.
            None if words.is_empty() => message.get("files").is_some(),
            None => !commands::parse_in_message(words).is_some_and(only_looks),
        }
    }

    /// Whether this first message of a conversation was taken before: its answers are read with its log, and a
    /// conversation that was deleted here is not begun again.
    async fn has_log(&self, message: &Value) -> bool {
        let place = Place { team: self.team.to_owned(), channel: self.channel.to_owned(), thread: None };
        let ts = message.get("ts").and_then(Value::as_str).unwrap_or_default();
        let Some(thread) = place.thread_id(ts) else { return true };
        let summary = self.front.0.runtime.parts().store.summary(thread.short()).await;
        !matches!(summary, Err(StoreError::Unknown(_)))
    }

    /// The workspace that a delivery would have named. Where the app is installed in a whole organisation, that is
    /// the author's own if it belongs to the organisation; a guest's is none of ours. `known`: by author.
    async fn here(&self, message: &Value, known: &mut BTreeMap<String, bool>) -> Option<String> {
        if !is_organisation(self.team) {
            return Some(self.team.to_owned());
        }
        let own = ["user_team", "source_team", "team"].iter().find_map(|key| message.get(*key)?.as_str())?;
        let user = message.get("user").and_then(Value::as_str)?;
        let colleague = match known.get(user) {
            Some(colleague) => *colleague,
            None => {
                let answer = self.front.0.slack.read(self.team, "users.info", &[("user", user)]).await;
                let of = answer.as_ref().ok().and_then(|a| a.pointer("/user/enterprise_user/enterprise_id")?.as_str());
                let colleague = of == Some(self.team);
                known.insert(user.to_owned(), colleague);
                colleague
            }
        };
        colleague.then(|| own.to_owned())
    }
}

fn is_organisation(team: &str) -> bool {
    team.starts_with('E')
}

/// The delivery that this message would have been. `here`: the workspace in which it would have happened.
fn envelope(team: &str, channel: &str, here: Option<&str>, mut message: Value) -> Envelope {
    let kind = match channel.as_bytes().first() {
        Some(b'D') => "im",
        Some(b'G') => "group",
        _ => "channel",
    };
    if let Some(event) = message.as_object_mut() {
        event.insert("type".to_owned(), json!("message"));
        event.insert("channel".to_owned(), json!(channel));
        event.insert("channel_type".to_owned(), json!(kind));
    }
    let organisation = is_organisation(team).then_some(team);
    Envelope::Event(json!({
        "type": "event_callback",
        "team_id": here,
        "enterprise_id": organisation,
        "event": message,
        "authorizations": [{
            "enterprise_id": organisation, "team_id": here, "is_bot": true,
            "is_enterprise_install": organisation.is_some(),
        }],
    }))
}

/// Slack's `1767225600.000100` in microseconds.
fn micros(ts: &str) -> Option<u64> {
    let (seconds, fraction) = ts.split_once('.')?;
    let fraction: u64 = fraction.parse().ok().filter(|_| fraction.len() == 6)?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_an_organisation_a_colleague_of_any_workspace_is_at_home_and_a_guest_is_not() {
        use crate::platform::slack::inbound::{self, Inbound};
        let said = |team: &str, here: Option<&str>, own: Option<&str>| {
            let message = json!({"user": "U1", "text": "hi", "ts": "1767225600.000100", "team": own});
            match inbound::read(&envelope(team, "C1", here, message), |_| None) {
                Inbound::Message(message) => (message.by.team, message.by.home),
                other => panic!("{other:?}"),
            }
        };
        let parts = |team: &str, home: &str| (team.to_owned(), home.to_owned());
        assert_eq!(said("E1", Some("T7"), Some("T7")), parts("E1", "E1"));
        assert_eq!(said("E1", None, Some("T9")), parts("E1", "T9"));
        assert_eq!(said("E1", None, None), parts("E1", "E1"));
        assert_eq!(said("T1", Some("T1"), Some("T1")), parts("T1", "T1"));
        assert_eq!(said("T1", Some("T1"), Some("T9")), parts("T1", "T9"));
    }

    #[test]
    fn only_the_plain_number_of_a_message_is_a_time() {
        assert_eq!(micros("1767225600.000100"), Some(1_767_225_600_000_100));
        assert_eq!(micros("1767225600.0001"), None);
        assert_eq!(micros("1767225600.000100:edited"), None);
        assert_eq!(micros("99999999999999999999.000100"), None);
    }
}
