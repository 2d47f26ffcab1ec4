//! What people do, as Slack delivers it: signed over HTTP, or in envelopes over the socket.

use std::collections::BTreeMap;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::socket::{ACK, Answered};
use super::web_api::Echo;
use super::*;

/// Where deliveries go.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Socket,
    /// To `<base>/slack/events` and so on.
    Http {
        base: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Event,
    Interaction,
    Command,
}

/// One thing that Slack tells an app.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub app: String,
    pub kind: Kind,
    pub body: Value,
}

/// How a delivery was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Acked {
    /// Over the socket: 200 for an acknowledgement, 504 for none in time, 502 for a connection that ended.
    pub status: u16,
    /// What came with it; null if nothing.
    pub body: Value,
    pub took: Duration,
}

/// What came of a submitted modal.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    /// By block id.
    pub errors: BTreeMap<String, String>,
    /// Whether no modal is left before the person.
    pub closed: bool,
}

/// A request of Slack's to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    pub path: &'static str,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Somebody in a team, and what they can do there. Everything that is delivered has to be acknowledged in time.
#[derive(Clone)]
pub struct Person {
    fake: Handle,
    pub team: String,
    pub user: String,
}

/// `v0=…` over a body, in hexadecimal.
pub fn signature(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v0:{timestamp}:").as_bytes());
    mac.update(body);
    format!("v0={}", data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()))
}

/// As a browser encodes a form.
pub fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        let mut out = String::new();
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
                b' ' => out.push('+'),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    };
    fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

impl Delivery {
    /// The body as it goes over HTTP, and its type.
    pub fn encoded(&self) -> (&'static str, Vec<u8>) {
        match self.kind {
            Kind::Event => ("application/json", self.body.to_string().into_bytes()),
            Kind::Interaction => {
                let payload = self.body.to_string();
                ("application/x-www-form-urlencoded", form(&[("payload", &payload)]).into_bytes())
            }
            Kind::Command => {
                let fields = self.body.as_object().unwrap();
                let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
                ("application/x-www-form-urlencoded", form(&fields).into_bytes())
            }
        }
    }

    pub fn event_id(&self) -> &str {
        self.body["event_id"].as_str().unwrap_or("")
    }
}

impl Handle {
    /// From now on deliveries go by HTTP: `base` is the scheme and authority of the program.
    pub fn deliver_by_http(&self, base: &str) {
        *self.0.line.lock().unwrap_or_else(PoisonError::into_inner) =
            Line::Http { base: base.trim_end_matches('/').to_owned() };
    }

    /// From now on deliveries go over the socket.
    pub fn deliver_by_socket(&self) {
        *self.0.line.lock().unwrap_or_else(PoisonError::into_inner) = Line::Socket;
    }

    /// A delivery as Slack sends it over HTTP now, signed. `retry`: number and reason.
    pub fn signed(&self, delivery: &Delivery, retry: Option<(u32, &str)>) -> HttpRequest {
        let (content_type, body) = delivery.encoded();
        let secret = self.with(|s| s.apps[&delivery.app].signing_secret.clone());
        let timestamp = (self.now() / 1000).to_string();
        let mut headers = vec![
            ("content-type".to_owned(), content_type.to_owned()),
            ("user-agent".to_owned(), "Slackbot 1.0 (+https://api.slack.com/robots)".to_owned()),
            ("x-slack-signature".to_owned(), signature(&secret, &timestamp, &body)),
            ("x-slack-request-timestamp".to_owned(), timestamp),
        ];
        if let Some((number, reason)) = retry {
            headers.push(("x-slack-retry-num".to_owned(), number.to_string()));
            headers.push(("x-slack-retry-reason".to_owned(), reason.to_owned()));
        }
        let path = match delivery.kind {
            Kind::Event => "/slack/events",
            Kind::Interaction => "/slack/interactions",
            Kind::Command => "/slack/commands",
        };
        HttpRequest { path, headers, body }
    }

    /// Sends one delivery once.
    pub async fn send(&self, delivery: &Delivery) -> Acked {
        self.attempt(delivery, None).await
    }

    /// Sends it again, as Slack does after a failure.
    pub async fn send_again(&self, delivery: &Delivery, number: u32, reason: &str) -> Acked {
        self.attempt(delivery, Some((number, reason))).await
    }

    /// Sends a delivery as Slack does: events up to three times more, until one is answered with 200.
    pub async fn deliver(&self, delivery: &Delivery) -> Acked {
        let mut acked = self.send(delivery).await;
        for retry in 1..=3 {
            if acked.status == 200 || delivery.kind != Kind::Event {
                break;
            }
            let reason = if acked.status == 504 { "http_timeout" } else { "http_error" };
            acked = self.send_again(delivery, retry, reason).await;
        }
        acked
    }

    async fn attempt(&self, delivery: &Delivery, retry: Option<(u32, &str)>) -> Acked {
        let line = self.0.line.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let start = tokio::time::Instant::now();
        let (status, body) = match line {
            Line::Socket => {
                let (kind, with_payload) = match delivery.kind {
                    Kind::Event => ("events_api", false),
                    Kind::Interaction => ("interactive", true),
                    Kind::Command => ("slash_commands", true),
                };
                match self.envelope(&delivery.app, kind, &delivery.body, with_payload, retry).await {
                    Answered::Acked(body) => (200, body),
                    Answered::Late => (504, Value::Null),
                    Answered::Lost | Answered::Nobody => (502, Value::Null),
                }
            }
            Line::Http { base } => {
                let request = self.signed(delivery, retry);
                let mut post = self.0.http.post(format!("{base}{}", request.path)).body(request.body);
                for (name, value) in &request.headers {
                    post = post.header(name, value);
                }
                match tokio::time::timeout(ACK, async { (post.send().await, ()) }).await {
                    Err(_) => (504, Value::Null),
                    Ok((Err(_), ())) => (502, Value::Null),
                    Ok((Ok(response), ())) => {
                        let status = response.status().as_u16();
                        let text = response.text().await.unwrap_or_default();
                        let body = match serde_json::from_str(&text) {
                            Ok(json) => json,
                            Err(_) if text.is_empty() => Value::Null,
                            Err(_) => Value::from(text),
                        };
                        (status, body)
                    }
                }
            }
        };
        Acked { status, body, took: start.elapsed() }
    }

    /// An event, wrapped for the team it happened in.
    pub fn event(&self, team: &str, event: Value) -> Delivery {
        let id = self.next_id("Ev");
        let time = self.now() / 1000;
        self.team(team, |t| Delivery {
            app: t.app.clone(),
            kind: Kind::Event,
            body: json!({
                "token": "verification-token", "team_id": t.id, "context_team_id": t.id,
                "context_enterprise_id": null, "api_app_id": t.app, "event": event, "type": "event_callback",
                "event_id": id, "event_time": time, "is_ext_shared_channel": false, "event_context": format!("4-{id}"),
                "authorizations": [{
                    "enterprise_id": null, "team_id": t.id, "user_id": t.bot_user, "is_bot": true,
                    "is_enterprise_install": false,
                }],
            }),
        })
    }

    /// The app was removed from the team.
    pub fn uninstalled(&self, team: &str) -> Delivery {
        self.team(team, |t| t.refused = Some("account_inactive".to_owned()));
        self.event(team, json!({"type": "app_uninstalled"}))
    }

    /// Tokens of the team were revoked.
    pub fn tokens_revoked(&self, team: &str) -> Delivery {
        let bot = self.team(team, |t| {
            t.refused = Some("token_revoked".to_owned());
            t.bot_user.clone()
        });
        self.event(team, json!({"type": "tokens_revoked", "tokens": {"oauth": [], "bot": [bot]}}))
    }

    /// More happened in the last hour than Slack tells (S4).
    pub fn rate_limited(&self, team: &str) -> Delivery {
        let minute = self.now() / 60_000 * 60;
        self.team(team, |t| Delivery {
            app: t.app.clone(),
            kind: Kind::Event,
            body: json!({
                "token": "verification-token", "type": "app_rate_limited", "team_id": t.id,
                "minute_rate_limited": minute, "api_app_id": t.app,
            }),
        })
    }

    /// The check of an address (S6).
    pub fn challenge(&self, app: &str, challenge: &str) -> Delivery {
        let body = json!({"token": "verification-token", "challenge": challenge, "type": "url_verification"});
        Delivery { app: app.to_owned(), kind: Kind::Event, body }
    }

    /// The event of a message that stands, if the bot may see it.
    fn message_event(&self, team: &str, channel: &str, ts: &str) -> Option<Delivery> {
        let origin = self.0.origin.clone();
        let event = self.team(team, |t| {
            let channel = t.channels.get(channel)?;
            let allowed = channel.members.contains(&t.bot_user)
                && t.scopes.contains(&format!("{}:history", channel.scope_kind()));
            let message = t.find(&channel.id, ts).filter(|_| allowed)?;
            let mut event = t.shown(message, false, &origin);
            event["channel"] = channel.id.clone().into();
            event["channel_type"] = channel.event_kind().into();
            event["event_ts"] = ts.into();
            if !message.files.is_empty() {
                event["subtype"] = "file_share".into();
            }
            Some(event)
        })?;
        Some(self.event(team, event))
    }

    /// Tells the bot of what itself did, as Slack does.
    pub(super) fn echo_event(&self, team: &str, echo: Echo) {
        if !self.with(|s| s.echo) {
            return;
        }
        let delivery = match &echo {
            Echo::Posted { channel, ts } => self.message_event(team, channel, ts),
            Echo::Changed { channel, ts, before } => self.changed_event(team, channel, ts, before),
            Echo::Deleted { channel, ts, before } => self.deleted_event(team, channel, ts, before),
        };
        let Some(delivery) = delivery else { return };
        let fake = self.clone();
        tokio::spawn(async move {
            let acked = fake.deliver(&delivery).await;
            // A program that ends meanwhile does not answer.
            if acked.status != 200 && acked.status != 502 {
                fake.mind(format!("the bot's own message was answered with {}", acked.status));
            }
        });
    }

    fn changed_event(&self, team: &str, channel: &str, ts: &str, before: &Value) -> Option<Delivery> {
        let mut inner = self.message_event(team, channel, ts)?.body["event"].take();
        for name in ["channel", "channel_type", "event_ts"] {
            inner.as_object_mut()?.remove(name);
        }
        let event_ts = self.with(|s| s.next_ts(0));
        let kind = self.team(team, |t| t.channels[channel].event_kind());
        Some(self.event(
            team,
            json!({
                "type": "message", "subtype": "message_changed", "hidden": true, "channel": channel,
                "channel_type": kind, "ts": event_ts, "event_ts": event_ts, "message": inner,
                "previous_message": before,
            }),
        ))
    }

    fn deleted_event(&self, team: &str, channel: &str, ts: &str, before: &Value) -> Option<Delivery> {
        let event_ts = self.with(|s| s.next_ts(0));
        let kind = self.team(team, |t| {
            let channel = t.channels.get(channel)?;
            channel.members.contains(&t.bot_user).then(|| channel.event_kind())
        })?;
        Some(self.event(
            team,
            json!({
                "type": "message", "subtype": "message_deleted", "hidden": true, "channel": channel,
                "channel_type": kind, "ts": event_ts, "event_ts": event_ts, "deleted_ts": ts,
                "previous_message": before,
            }),
        ))
    }
}

impl Person {
    pub(super) fn new(fake: Handle, team: &str, user: &str) -> Self {
        Self { fake, team: team.to_owned(), user: user.to_owned() }
    }

    /// Delivers, and expects an acknowledgement in time.
    async fn tell(&self, delivery: &Delivery) -> Value {
        let acked = self.fake.deliver(delivery).await;
        assert_eq!(acked.status, 200, "{delivery:?} got {acked:?}\n{}", self.fake.describe());
        assert!(acked.took < ACK, "{:?} were too long for {delivery:?}", acked.took);
        if delivery.kind == Kind::Event && !acked.body.is_null() {
            self.fake.mind(format!("an event was answered with {}", acked.body));
        }
        acked.body
    }

    // ---- writing

    /// Puts a message into a channel without telling anybody.
    pub fn write(&self, channel: &str, thread: Option<&str>, text: &str, files: &[&str]) -> String {
        let now = self.fake.now();
        self.fake.with(|s| {
            let ts = s.next_ts(now);
            let team = s.teams.get_mut(&self.team).unwrap();
            let place = team.channels.get(channel).unwrap_or_else(|| panic!("no channel {channel}"));
            assert!(place.members.contains(&self.user), "{} is not in {channel}", self.user);
            if let Some(root) = thread {
                let root = team.find(channel, root).unwrap_or_else(|| panic!("no message {root}"));
                assert_eq!(root.thread_ts, None, "a thread hangs on its first message");
            }
            team.messages.push(Message {
                team: self.team.clone(),
                channel: channel.to_owned(),
                ts: ts.clone(),
                thread_ts: thread.map(str::to_owned),
                user: self.user.clone(),
                bot_id: None,
                text: text.to_owned(),
                blocks: Vec::new(),
                metadata: None,
                files: files.iter().map(|f| (*f).to_owned()).collect(),
                edits: 0,
                before: Vec::new(),
                deleted: false,
                reactions: BTreeSet::new(),
            });
            ts
        })
    }

    /// The deliveries of a message that stands: `message`, and `app_mention` if it mentions the bot.
    pub fn deliveries(&self, channel: &str, ts: &str) -> Vec<Delivery> {
        let mut deliveries: Vec<Delivery> = self.fake.message_event(&self.team, channel, ts).into_iter().collect();
        let bot = self.fake.team(&self.team, |t| format!("<@{}>", t.bot_user));
        let (direct, may) = self.fake.team(&self.team, |t| {
            let kind = t.channels[channel].kind;
            (matches!(kind, ChannelKind::Im), t.scopes.contains("app_mentions:read"))
        });
        if self.fake.message(&self.team, channel, ts).text.contains(&bot) && !direct && may {
            let mut mention = deliveries.first().map(|d| d.body["event"].clone()).unwrap_or_default();
            mention["type"] = "app_mention".into();
            if let Some(mention) = mention.as_object_mut() {
                mention.remove("channel_type");
                mention.remove("subtype");
            }
            if !mention["ts"].is_null() {
                deliveries.insert(0, self.fake.event(&self.team, mention));
            }
        }
        deliveries
    }

    async fn announce(&self, channel: &str, ts: &str) {
        // At once, as Slack does: no order is promised.
        let all = self.deliveries(channel, ts);
        futures_util::future::join_all(all.iter().map(|d| self.tell(d))).await;
    }

    /// Mentions the bot at the top of a channel; the message's timestamp.
    pub async fn mention(&self, channel: &str, text: &str) -> String {
        let text = self.fake.team(&self.team, |t| format!("<@{}> {text}", t.bot_user));
        self.say(channel, &text).await
    }

    /// Mentions the bot in a thread.
    pub async fn mention_in(&self, channel: &str, root: &str, text: &str) -> String {
        let text = self.fake.team(&self.team, |t| format!("<@{}> {text}", t.bot_user));
        self.say_in_thread(channel, root, &text).await
    }

    pub async fn say(&self, channel: &str, text: &str) -> String {
        let ts = self.write(channel, None, text, &[]);
        self.announce(channel, &ts).await;
        ts
    }

    pub async fn say_in_thread(&self, channel: &str, root: &str, text: &str) -> String {
        let ts = self.write(channel, Some(root), text, &[]);
        self.announce(channel, &ts).await;
        ts
    }

    /// Says something with files.
    pub async fn share(&self, channel: &str, thread: Option<&str>, text: &str, files: &[&str]) -> String {
        let ts = self.write(channel, thread, text, files);
        self.announce(channel, &ts).await;
        ts
    }

    /// Writes to the bot directly: channel and timestamp.
    pub async fn dm(&self, text: &str) -> (String, String) {
        let channel = self.fake.dm_channel(&self.team, &self.user);
        let ts = self.say(&channel, text).await;
        (channel, ts)
    }

    /// Edits an own message.
    pub async fn edit(&self, channel: &str, ts: &str, text: &str) {
        let origin = self.fake.0.origin.clone();
        let before = self.fake.team(&self.team, |t| {
            let old = t.find(channel, ts).unwrap().clone();
            assert_eq!(old.user, self.user, "one's own message");
            let before = t.shown(&old, false, &origin);
            t.edit(channel, ts, Some(text.to_owned()), None);
            before
        });
        if let Some(delivery) = self.fake.changed_event(&self.team, channel, ts, &before) {
            self.tell(&delivery).await;
        }
    }

    /// Deletes an own message.
    pub async fn delete(&self, channel: &str, ts: &str) {
        let origin = self.fake.0.origin.clone();
        let before = self.fake.team(&self.team, |t| {
            let old = t.find(channel, ts).unwrap().clone();
            assert_eq!(old.user, self.user, "one's own message");
            t.find_mut(channel, ts).unwrap().deleted = true;
            t.shown(&old, false, &origin)
        });
        if let Some(delivery) = self.fake.deleted_event(&self.team, channel, ts, &before) {
            self.tell(&delivery).await;
        }
    }

    pub async fn react(&self, channel: &str, ts: &str, name: &str) {
        let author = self.fake.team(&self.team, |t| {
            let message = t.find_mut(channel, ts).unwrap();
            message.reactions.insert((name.to_owned(), self.user.clone()));
            message.user.clone()
        });
        let event_ts = self.fake.with(|s| s.next_ts(0));
        let event = json!({
            "type": "reaction_added", "user": self.user, "reaction": name, "item_user": author,
            "item": {"type": "message", "channel": channel, "ts": ts}, "event_ts": event_ts,
        });
        if self.fake.team(&self.team, |t| t.scopes.contains("reactions:read")) {
            self.tell(&self.fake.event(&self.team, event)).await;
        }
    }

    // ---- places

    /// Opens the Home tab.
    pub async fn open_home(&self) {
        let channel = self.fake.dm_channel(&self.team, &self.user);
        let event_ts = self.fake.with(|s| s.next_ts(0));
        let mut event = json!({
            "type": "app_home_opened", "user": self.user, "channel": channel, "tab": "home", "event_ts": event_ts,
        });
        let view = self.fake.team(&self.team, |t| t.homes.get(&self.user).map(|(v, _)| v.shown(t)));
        if let Some(view) = view {
            event["view"] = view;
        }
        self.tell(&self.fake.event(&self.team, event)).await;
    }

    /// Opens the bot's Messages tab, where the agent view is.
    pub async fn open_messages_tab(&self) {
        let channel = self.fake.dm_channel(&self.team, &self.user);
        let event_ts = self.fake.with(|s| s.next_ts(0));
        let event = json!({
            "type": "app_home_opened", "user": self.user, "channel": channel, "tab": "messages", "event_ts": event_ts,
        });
        self.tell(&self.fake.event(&self.team, event)).await;
    }

    /// Starts a conversation in the assistant's pane: channel and thread, whose first message is the app's.
    pub async fn open_assistant(&self) -> (String, String) {
        let channel = self.fake.dm_channel(&self.team, &self.user);
        let now = self.fake.now();
        let ts = self.fake.with(|s| s.next_ts(now));
        self.fake.team(&self.team, |t| {
            let (user, bot) = (t.bot_user.clone(), t.bot_id.clone());
            let text = "New Assistant Thread".to_owned();
            t.messages.push(Message {
                team: self.team.clone(),
                channel: channel.clone(),
                ts: ts.clone(),
                thread_ts: None,
                user,
                bot_id: Some(bot),
                text,
                blocks: Vec::new(),
                metadata: None,
                files: Vec::new(),
                edits: 0,
                before: Vec::new(),
                deleted: false,
                reactions: BTreeSet::new(),
            });
        });
        let event = json!({
            "type": "assistant_thread_started", "event_ts": ts,
            "assistant_thread": {
                "user_id": self.user, "channel_id": channel, "thread_ts": ts,
                "context": {"channel_id": "C1", "team_id": self.team, "enterprise_id": null},
            },
        });
        self.tell(&self.fake.event(&self.team, event)).await;
        (channel, ts)
    }

    // ---- interactions

    fn new_response_url(&self, channel: &str, thread_ts: Option<String>, message: Option<String>) -> String {
        let id = self.fake.next_id("r");
        let url = ResponseUrl {
            team: self.team.clone(),
            channel: channel.to_owned(),
            user: self.user.clone(),
            thread_ts,
            message,
            made: self.fake.now(),
            used: 0,
        };
        self.fake.with(|s| s.response_urls.insert(id.clone(), url));
        format!("{}/response/{id}", self.fake.0.origin)
    }

    fn new_trigger(&self) -> String {
        let now = self.fake.now();
        self.fake.with(|s| s.trigger(&self.team, &self.user, now))
    }

    /// What all interactions have in common.
    fn interaction(&self, kind: &str) -> Value {
        let trigger = self.new_trigger();
        self.fake.team(&self.team, |t| {
            let user = &t.users[&self.user];
            json!({
                "type": kind, "token": "verification-token", "api_app_id": t.app, "trigger_id": trigger,
                "team": {"id": t.id, "domain": t.domain}, "enterprise": null, "is_enterprise_install": false,
                "user": {"id": user.id, "username": user.name, "name": user.name, "team_id": user.home},
            })
        })
    }

    fn interaction_delivery(&self, body: Value) -> Delivery {
        Delivery { app: self.fake.team(&self.team, |t| t.app.clone()), kind: Kind::Interaction, body }
    }

    /// An action on an element, chosen or pressed.
    fn acted(&self, element: &Value, value: Option<&str>) -> Value {
        let now = self.fake.now();
        let action_ts = self.fake.with(|s| s.next_ts(now));
        let mut action = json!({
            "type": element["type"], "action_id": element["action_id"], "block_id": element["block_id"],
            "action_ts": action_ts,
        });
        match element["type"].as_str().unwrap() {
            "button" => {
                action["text"] = element["text"].clone();
                for name in ["value", "style", "url"] {
                    if !element[name].is_null() {
                        action[name] = element[name].clone();
                    }
                }
            }
            "overflow" | "static_select" | "radio_buttons" => {
                let wanted = value.expect("a value to choose");
                let options = element["options"].as_array().unwrap();
                let option = options.iter().find(|o| o["value"].as_str().is_some_and(|v| v.contains(wanted)));
                action["selected_option"] = option.unwrap_or_else(|| panic!("no {wanted:?} in {options:?}")).clone();
            }
            other => panic!("nobody can press a {other}"),
        }
        action
    }

    /// The press of a button on a message, as it is delivered; the message as it is in `kept`.
    fn pressed(&self, kept: &Message, action_id: &str, value: Option<&str>) -> Delivery {
        let all = elements(&kept.blocks);
        let fits = |e: &&Value| {
            let right = e["action_id"] == action_id;
            right && (e["type"] != "button" || value.is_none_or(|v| e["value"].as_str().is_some_and(|w| w.contains(v))))
        };
        let element = all.iter().find(fits).unwrap_or_else(|| {
            panic!("there is no {action_id} ({value:?}) on {:?}\n{}", kept.actions(), self.fake.describe())
        });
        let mut body = self.interaction("block_actions");
        body["actions"] = json!([self.acted(element, value)]);
        body["state"] = json!({"values": {}});
        body["container"] = json!({
            "type": "message", "message_ts": kept.ts, "channel_id": kept.channel, "is_ephemeral": false,
        });
        if let Some(root) = &kept.thread_ts {
            body["container"]["thread_ts"] = root.clone().into();
        }
        let origin = self.fake.0.origin.clone();
        let (message, name) = self.fake.team(&self.team, |t| {
            let channel = &t.channels[&kept.channel];
            let direct = channel.kind == ChannelKind::Im;
            (t.shown(kept, true, &origin), if direct { "directmessage".to_owned() } else { channel.name.clone() })
        });
        body["message"] = message;
        body["channel"] = json!({"id": kept.channel, "name": name});
        body["response_url"] =
            self.new_response_url(&kept.channel, kept.thread_ts.clone(), Some(kept.ts.clone())).into();
        self.interaction_delivery(body)
    }

    /// The delivery of a press on a message as it stands, not yet sent.
    ///
    /// # Panics
    /// If there is no such button.
    pub fn press_delivery(&self, message: &Message, action_id: &str, value: Option<&str>) -> Delivery {
        let stands = self.fake.message(&self.team, &message.channel, &message.ts);
        self.pressed(&stands, action_id, value)
    }

    /// Presses a button on a message as it stands.
    pub async fn press(&self, message: &Message, action_id: &str) {
        let delivery = self.press_delivery(message, action_id, None);
        self.tell(&delivery).await;
    }

    /// Presses the button whose value contains this, or chooses that option of a menu.
    pub async fn choose(&self, message: &Message, action_id: &str, value: &str) {
        let delivery = self.press_delivery(message, action_id, Some(value));
        self.tell(&delivery).await;
    }

    /// Presses a button on a message as it was: somebody's client had not yet seen the edit.
    pub async fn press_stale(&self, kept: &Message, action_id: &str) {
        let delivery = self.pressed(kept, action_id, None);
        self.tell(&delivery).await;
    }

    /// Presses a button on something that only this person sees.
    pub async fn press_private(&self, private: &Private, action_id: &str) {
        assert_eq!(private.user, self.user, "only they see it");
        let all = elements(&private.blocks);
        let element = all.iter().find(|e| e["action_id"] == action_id);
        let element = element.unwrap_or_else(|| panic!("there is no {action_id} on {:?}", private.actions()));
        let mut body = self.interaction("block_actions");
        body["actions"] = json!([self.acted(element, None)]);
        body["container"] = json!({
            "type": "message", "message_ts": private.ts, "channel_id": private.channel, "is_ephemeral": true,
        });
        let name = self.fake.team(&self.team, |t| t.channels[&private.channel].name.clone());
        body["channel"] = json!({"id": private.channel, "name": name});
        body["response_url"] = self.new_response_url(&private.channel, private.thread_ts.clone(), None).into();
        let delivery = self.interaction_delivery(body);
        self.tell(&delivery).await;
    }

    /// Presses a button in a modal or in the Home tab; the value, where several have this id.
    pub async fn press_in(&self, view: &View, action_id: &str, value: Option<&str>) {
        let blocks = view.view["blocks"].as_array().unwrap();
        let all = elements(blocks);
        let element = all.iter().find(|e| {
            e["action_id"] == action_id && value.is_none_or(|v| e["value"].as_str().is_some_and(|w| w.contains(v)))
        });
        let element = element.unwrap_or_else(|| panic!("there is no {action_id} in {all:?}"));
        let mut body = self.interaction("block_actions");
        body["actions"] = json!([self.acted(element, None)]);
        body["container"] = json!({"type": "view", "view_id": view.id});
        body["view"] = self.fake.team(&self.team, |t| view.shown(t));
        let delivery = self.interaction_delivery(body);
        self.tell(&delivery).await;
    }

    /// What is delivered when a modal is submitted with these values by block id; what is not named stays as it
    /// was. Several choices are separated by line breaks.
    ///
    /// # Panics
    /// If Slack's client would not let it be submitted: no such block, an option that is none, something
    /// required that is empty, too long.
    pub fn submit_delivery(&self, view: &View, values: &[(&str, &str)]) -> Delivery {
        assert_eq!(view.user, self.user, "only they see it");
        let blocks = view.view["blocks"].as_array().unwrap();
        for (id, _) in values {
            let known = blocks.iter().any(|b| b["block_id"] == *id && b["type"] == "input");
            assert!(known, "there is no input {id} in {blocks:?}");
        }
        let mut state = serde_json::Map::new();
        for block in blocks.iter().filter(|b| b["type"] == "input") {
            let id = block["block_id"].as_str().unwrap();
            let given = values.iter().find(|(name, _)| *name == id).map(|(_, value)| *value);
            let element = &block["element"];
            let filled = put_in(element, given);
            let empty = ["value", "selected_option", "selected_options", "selected_user"]
                .iter()
                .all(|n| filled[*n].is_null() || filled[*n] == json!([]));
            assert!(!empty || block["optional"] == json!(true), "{id} is required and empty");
            let action = element["action_id"].as_str().unwrap_or("auto");
            state.insert(id.to_owned(), json!({action: filled}));
        }
        let mut body = self.interaction("view_submission");
        body["view"] = self.fake.team(&self.team, |t| view.shown(t));
        body["view"]["state"] = json!({"values": state});
        body["response_urls"] = json!([]);
        self.interaction_delivery(body)
    }

    /// Submits a modal.
    pub async fn submit(&self, view: &View, values: &[(&str, &str)]) -> Submitted {
        let delivery = self.submit_delivery(view, values);
        let answer = self.tell(&delivery).await;
        self.after_submission(view, &answer)
    }

    /// What a modal becomes by the answer to its submission.
    pub fn after_submission(&self, view: &View, answer: &Value) -> Submitted {
        let close = |all: bool| {
            self.fake.team(&self.team, |t| {
                for (id, known) in &mut t.views {
                    if *id == view.id || all && known.user == self.user {
                        known.open = false;
                    }
                }
            });
            Submitted { errors: BTreeMap::new(), closed: true }
        };
        match answer["response_action"].as_str() {
            None if answer.is_null() || *answer == json!({}) => close(false),
            Some("clear") => close(true),
            Some("errors") => {
                let errors: BTreeMap<String, String> =
                    serde_json::from_value(answer["errors"].clone()).unwrap_or_default();
                let inputs = view.view["blocks"].as_array().unwrap();
                let known = |id: &String| inputs.iter().any(|b| b["block_id"] == *id && b["type"] == "input");
                if errors.is_empty() || !errors.keys().all(known) {
                    self.fake.mind(format!("errors have to name inputs of the modal: {answer}"));
                }
                Submitted { errors, closed: false }
            }
            Some(what @ ("update" | "push")) => {
                let replaced = self.fake.with(|s| s.replace_view(&self.team, view, &answer["view"], what == "push"));
                if let Err(wrong) = replaced {
                    self.fake.mind(format!("a submission was answered with a view that is none: {wrong}"));
                }
                Submitted { errors: BTreeMap::new(), closed: false }
            }
            _ => {
                self.fake.mind(format!("a submission was answered with {answer}"));
                Submitted { errors: BTreeMap::new(), closed: false }
            }
        }
    }

    /// Closes a modal without submitting it.
    pub async fn close(&self, view: &View) {
        let mut body = self.interaction("view_closed");
        body["view"] = self.fake.team(&self.team, |t| {
            t.views.get_mut(&view.id).unwrap().open = false;
            view.shown(t)
        });
        body["is_cleared"] = false.into();
        body.as_object_mut().unwrap().remove("trigger_id");
        if view.view["notify_on_close"] == json!(true) {
            let delivery = self.interaction_delivery(body);
            self.tell(&delivery).await;
        }
    }

    /// A slash command as it is delivered.
    pub fn command_delivery(&self, channel: &str, text: &str) -> Delivery {
        let response_url = self.new_response_url(channel, None, None);
        let trigger = self.new_trigger();
        self.fake.team(&self.team, |t| {
            let place = &t.channels[channel];
            let name = if place.kind == ChannelKind::Im { "directmessage" } else { &place.name };
            Delivery {
                app: t.app.clone(),
                kind: Kind::Command,
                body: json!({
                    "token": "verification-token", "team_id": t.id, "team_domain": t.domain, "channel_id": channel,
                    "channel_name": name, "user_id": self.user, "user_name": t.users[&self.user].name,
                    "command": "/agent", "text": text, "api_app_id": t.app, "is_enterprise_install": "false",
                    "response_url": response_url, "trigger_id": trigger,
                }),
            }
        })
    }

    /// `/agent <text>` in a channel. What is answered at once is private, like what comes later.
    pub async fn command(&self, channel: &str, text: &str) {
        let delivery = self.command_delivery(channel, text);
        let answer = self.tell(&delivery).await;
        if answer.is_null() || answer == json!({}) {
            return;
        }
        let blocks = answer["blocks"].as_array().cloned().unwrap_or_default();
        let wrong = limits::blocks(&answer["blocks"], limits::Surface::Message);
        if !blocks.is_empty() && !wrong.is_empty() {
            self.fake.mind(format!("a command was answered with {}", wrong.join("; ")));
        }
        let now = self.fake.now();
        self.fake.with(|s| {
            let private = Private {
                team: self.team.clone(),
                channel: channel.to_owned(),
                user: self.user.clone(),
                thread_ts: None,
                text: answer["text"].as_str().or(answer.as_str()).unwrap_or("").to_owned(),
                blocks: s.numbered(&blocks),
                by: "command",
                ts: s.next_ts(now),
            };
            s.private.push(private);
        });
    }

    /// A global shortcut.
    pub async fn shortcut(&self, callback: &str) {
        let mut body = self.interaction("shortcut");
        body["callback_id"] = callback.into();
        body["action_ts"] = self.fake.with(|s| s.next_ts(0)).into();
        let delivery = self.interaction_delivery(body);
        self.tell(&delivery).await;
    }

    /// A shortcut on a message.
    pub async fn message_shortcut(&self, message: &Message, callback: &str) {
        let mut body = self.interaction("message_action");
        body["callback_id"] = callback.into();
        body["action_ts"] = self.fake.with(|s| s.next_ts(0)).into();
        body["message_ts"] = message.ts.clone().into();
        let origin = self.fake.0.origin.clone();
        let (shown, name) = self
            .fake
            .team(&self.team, |t| (t.shown(message, false, &origin), t.channels[&message.channel].name.clone()));
        body["message"] = shown;
        body["channel"] = json!({"id": message.channel, "name": name});
        body["response_url"] = self.new_response_url(&message.channel, message.thread_ts.clone(), None).into();
        let delivery = self.interaction_delivery(body);
        self.tell(&delivery).await;
    }
}

/// The state of an element with what somebody put in, or what stood there.
fn put_in(element: &Value, given: Option<&str>) -> Value {
    let kind = element["type"].as_str().unwrap();
    let options = || element["options"].as_array().cloned().unwrap_or_default();
    let option = |wanted: &str| {
        let all = options();
        let found = all.iter().find(|o| o["value"] == wanted || o["text"]["text"] == wanted);
        found.unwrap_or_else(|| panic!("no option {wanted:?} in {all:?}")).clone()
    };
    match kind {
        "plain_text_input" | "number_input" | "url_text_input" | "email_text_input" => {
            let value = given.map(Value::from).unwrap_or_else(|| element["initial_value"].clone());
            if let Some(text) = value.as_str() {
                let n = text.chars().count() as u64;
                assert!(n <= element["max_length"].as_u64().unwrap_or(3000), "{n} characters do not fit");
                if kind == "number_input" && !text.is_empty() {
                    let number: f64 = text.parse().expect("a number");
                    assert!(element["is_decimal_allowed"] == json!(true) || number.fract() == 0.0, "no decimals");
                }
            }
            let value = if value == json!("") { Value::Null } else { value };
            json!({"type": kind, "value": value})
        }
        "static_select" | "radio_buttons" => {
            let chosen = given.map(option).unwrap_or_else(|| element["initial_option"].clone());
            json!({"type": kind, "selected_option": chosen})
        }
        "multi_static_select" | "checkboxes" => {
            let chosen = match given {
                Some(given) => given.lines().map(option).collect(),
                None => element["initial_options"].as_array().cloned().unwrap_or_default(),
            };
            json!({"type": kind, "selected_options": chosen})
        }
        "users_select" => json!({"type": kind, "selected_user": given}),
        other => panic!("nobody can fill in a {other}"),
    }
}
