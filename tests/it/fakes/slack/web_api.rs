//! The Web API, response URLs and files over HTTP.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;

/// How often a method may be called in a channel.
pub struct Pace {
    calls: usize,
    per: Duration,
    retry_after: u64,
    recent: BTreeMap<(String, String), VecDeque<Instant>>,
}

impl Pace {
    pub fn new(calls: usize, per: Duration, retry_after: u64) -> Self {
        Self { calls, per, retry_after, recent: BTreeMap::new() }
    }

    /// Takes a call, or says how long to stay away.
    fn take(&mut self, team: &str, channel: &str, now: Instant) -> Option<u64> {
        let recent = self.recent.entry((team.to_owned(), channel.to_owned())).or_default();
        while recent.front().is_some_and(|at| now.duration_since(*at) >= self.per) {
            recent.pop_front();
        }
        if recent.len() >= self.calls {
            return Some(self.retry_after);
        }
        recent.push_back(now);
        None
    }
}

/// Why a call is refused.
struct Refusal {
    code: String,
    more: Map<String, Value>,
    /// Whether the program made a mistake, and not the world.
    mistake: Option<String>,
}

type Answer = Result<Value, Refusal>;

/// The world is like that.
fn world(code: &str) -> Refusal {
    Refusal { code: code.to_owned(), more: Map::new(), mistake: None }
}

/// The program should not have asked that.
fn mistake(code: &str, what: impl Into<String>) -> Refusal {
    let what = what.into();
    let mut more = Map::new();
    more.insert("response_metadata".to_owned(), json!({"messages": [format!("[ERROR] {what}")]}));
    Refusal { code: code.to_owned(), more, mistake: Some(what) }
}

/// What is there to answer, and how.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    then: Then,
}

enum Then {
    Whole,
    Half,
    Reset,
    Silence,
}

impl Reply {
    fn json(value: &Value) -> Self {
        let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        Self { status: 200, headers, body: value.to_string(), then: Then::Whole }
    }

    fn status(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned(), then: Then::Whole }
    }
}

pub(super) async fn serve(fake: Handle, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let fake = fake.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(fake.clone(), request));
            // A connection that was broken on purpose ends with an error: fine.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(fake: Handle, request: Request<hyper::body::Incoming>) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = parts.uri.path().to_owned();
    let reply = if let Some(method) = path.strip_prefix("/api/") {
        fake.method(method, &parts, &body)
    } else if let Some(id) = path.strip_prefix("/response/") {
        fake.response_url(id, &parts, &body)
    } else if let Some(file) = path.strip_prefix("/files-pri/") {
        return Ok(fake.download(file, &parts));
    } else {
        fake.mind(format!("a request to {path}"));
        Reply::status(404, "not found")
    };
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    let length = reply.body.len();
    let bytes = Bytes::from(reply.body);
    let body = match reply.then {
        Then::Whole => Body::from(bytes),
        Then::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
        Then::Silence => {
            // Until the other side hangs up.
            std::future::pending::<Infallible>().await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        Then::Half => {
            response = response.header("content-length", length);
            let half = bytes.slice(..length / 2);
            let parts = [Ok(half), Err(io::Error::from(io::ErrorKind::ConnectionReset))];
            Body::from_stream(futures_util::stream::iter(parts))
        }
    };
    Ok(response.body(body).expect("a response"))
}

/// Methods that read: parameters, never JSON.
const READS: [&str; 11] = [
    "bots.info",
    "chat.getPermalink",
    "conversations.history",
    "conversations.info",
    "conversations.list",
    "conversations.members",
    "conversations.replies",
    "files.info",
    "usergroups.list",
    "usergroups.users.list",
    "users.info",
];

impl Handle {
    fn method(&self, method: &str, parts: &hyper::http::request::Parts, body: &Bytes) -> Reply {
        let token = parts.headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or("");
        let token = token.strip_prefix("Bearer ").unwrap_or("").to_owned();
        let (args, understood) = match arguments(method, parts, body) {
            Ok(args) => (args, Ok(())),
            Err(refusal) => (Value::Null, Err(refusal)),
        };
        let team = self.peek(|s| s.teams.values().find(|t| t.token == token).map(|t| t.id.clone()));
        let channel = ["channel", "channel_id"].iter().find_map(|name| args[name].as_str()).unwrap_or("").to_owned();
        let at_team = team.clone().unwrap_or_default();
        let key = (at_team.clone(), method.to_owned(), channel.clone());

        // Whoever was told to stay away has to.
        let now = Instant::now();
        let early = self.with(|s| match s.held_off.get(&key) {
            Some(until) if now + Duration::from_millis(20) < *until => true,
            _ => {
                s.held_off.remove(&key);
                false
            }
        });
        if early {
            self.mind(format!("{method} in {channel:?} was called before its Retry-After was over"));
            return self.too_fast(&at_team, method, &args, 1);
        }
        if let Some(wait) = self.with(|s| s.paces.get_mut(method).and_then(|pace| pace.take(&at_team, &channel, now))) {
            self.with(|s| s.held_off.insert(key, now + Duration::from_secs(wait)));
            return self.too_fast(&at_team, method, &args, wait);
        }
        let fault = self.next_fault(method, &args);
        match &fault {
            Some(Fault::Error(code)) => {
                self.note(&at_team, method, &args, code);
                return Reply::json(&json!({"ok": false, "error": code}));
            }
            Some(Fault::Status(status)) => {
                self.note(&at_team, method, &args, &format!("http_{status}"));
                return Reply::status(*status, "upstream is not there");
            }
            Some(Fault::RateLimited(wait)) => {
                self.with(|s| s.held_off.insert(key, now + Duration::from_secs(*wait)));
                return self.too_fast(&at_team, method, &args, *wait);
            }
            Some(Fault::Reset) => {
                self.note(&at_team, method, &args, "reset");
                return Reply { then: Then::Reset, ..Reply::status(200, "") };
            }
            _ => {}
        }

        let answer = understood.and_then(|()| self.authorised(method, &token, team.as_deref(), &args));
        let (value, word) = match answer {
            Ok(mut value) => {
                value["ok"] = true.into();
                (value, "ok".to_owned())
            }
            Err(refusal) => {
                if let Some(what) = refusal.mistake {
                    let args: String = args.to_string().chars().take(300).collect();
                    self.mind(format!("{method}: {}: {what} ({args})", refusal.code));
                }
                let mut value = Value::Object(refusal.more);
                value["ok"] = false.into();
                value["error"] = refusal.code.clone().into();
                (value, refusal.code)
            }
        };
        self.note(&at_team, method, &args, &word);
        let mut reply = Reply::json(&value);
        if let Some(team) = &team {
            let scopes: Vec<String> = self.team(team, |t| t.scopes.iter().cloned().collect());
            reply.headers.push(("x-oauth-scopes", scopes.join(",")));
        }
        match fault {
            Some(Fault::DoneThenReset) => reply.then = Then::Reset,
            Some(Fault::DoneThenHalf) => reply.then = Then::Half,
            Some(Fault::DoneThenSilence) => reply.then = Then::Silence,
            Some(Fault::DoneThenStatus(status)) => return Reply::status(status, "upstream is not there"),
            _ => {}
        }
        reply
    }

    fn note(&self, team: &str, method: &str, args: &Value, answer: &str) {
        let call = Call {
            team: team.to_owned(),
            method: method.to_owned(),
            args: args.clone(),
            answer: answer.to_owned(),
            at: self.now(),
        };
        self.with(|s| s.calls.push(call));
    }

    fn too_fast(&self, team: &str, method: &str, args: &Value, wait: u64) -> Reply {
        self.note(team, method, args, "ratelimited");
        let mut reply = Reply::json(&json!({"ok": false, "error": "ratelimited"}));
        reply.status = 429;
        reply.headers.push(("retry-after", wait.to_string()));
        reply
    }

    fn next_fault(&self, method: &str, args: &Value) -> Option<Fault> {
        let args = args.to_string();
        self.with(|s| {
            let ordered =
                s.faults.iter_mut().find(|f| f.method == method && f.left != Some(0) && args.contains(&f.about))?;
            ordered.met = true;
            ordered.left = ordered.left.map(|n| n - 1);
            Some(ordered.fault.clone())
        })
    }

    fn authorised(&self, method: &str, token: &str, team: Option<&str>, args: &Value) -> Answer {
        if token.is_empty() {
            return Err(mistake("not_authed", "no token came along"));
        }
        if self.peek(|s| s.unknown_methods.contains(method)) {
            return Err(world("unknown_method"));
        }
        let app = self.peek(|s| s.apps.values().find(|a| a.app_token == token).map(|a| a.id.clone()));
        match (app, team) {
            (Some(app), _) if method == "apps.connections.open" => {
                let ticket = self.next_id("ticket");
                let url = format!("{}/link/?ticket={ticket}&app_id={app}", self.0.socket_origin);
                self.with(|s| s.apps.get_mut(&app).map(|a| a.tickets.insert(ticket)));
                Ok(json!({"url": url}))
            }
            (Some(_), _) => Err(mistake("not_allowed_token_type", "an app-level token for a method of the bot")),
            (None, Some(_)) if method == "apps.connections.open" => {
                Err(mistake("not_allowed_token_type", "Socket Mode wants the app-level token"))
            }
            (None, None) => Err(world("invalid_auth")),
            (None, Some(team)) => {
                if let Some(refused) = self.team(team, |t| t.refused.clone()) {
                    return Err(world(&refused));
                }
                let echoed = self.with(|s| s.perform(team, method, args, self))?;
                if let Some(event) = echoed.1 {
                    self.echo_event(team, event);
                }
                Ok(echoed.0)
            }
        }
    }

    fn response_url(&self, id: &str, parts: &hyper::http::request::Parts, body: &Bytes) -> Reply {
        let fault = self.next_fault("response_url", &Value::from(id));
        match fault {
            Some(Fault::Status(status)) => return Reply::status(status, "upstream is not there"),
            Some(Fault::Reset) => return Reply { then: Then::Reset, ..Reply::status(200, "") },
            _ => {}
        }
        if parts.headers.contains_key("authorization") {
            self.mind("a token was sent to a response URL");
        }
        if parts.method != hyper::Method::POST {
            self.mind(format!("{} of a response URL", parts.method));
        }
        let now = self.now();
        let refused = |error: &str| Reply { status: 404, ..Reply::json(&json!({"ok": false, "error": error})) };
        let taken = self.with(|s| {
            let url = s.response_urls.get_mut(id)?;
            url.used += 1;
            Some(url.clone())
        });
        let Some(url) = taken else { return refused("invalid_url") };
        if now - url.made > RESPONSE_LIFE_MS {
            return refused("expired_url");
        }
        if url.used > RESPONSE_USES {
            return refused("used_url");
        }
        let Ok(said) = serde_json::from_slice::<Value>(body) else {
            self.mind("no JSON for a response URL");
            return Reply::status(400, "invalid_payload");
        };
        let allowed = [
            "text",
            "blocks",
            "response_type",
            "replace_original",
            "delete_original",
            "thread_ts",
            "mrkdwn",
            "unfurl_links",
            "unfurl_media",
            "metadata",
        ];
        let mut wrong: Vec<String> = said
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .filter(|k| !allowed.contains(&k.as_str()))
            .map(|k| format!("no argument `{k}` is known"))
            .collect();
        if let Some(blocks) = said.get("blocks") {
            wrong.extend(limits::blocks(blocks, limits::Surface::Message));
        }
        if said["text"].as_str().unwrap_or("").is_empty() && said["delete_original"] != json!(true) {
            wrong.push("no text".to_owned());
        }
        if !wrong.is_empty() {
            self.mind(format!("a response URL was sent {}", wrong.join("; ")));
            return Reply { status: 400, ..Reply::json(&json!({"ok": false, "error": "invalid_blocks"})) };
        }
        let blocks = said["blocks"].as_array().cloned().unwrap_or_default();
        let text = said["text"].as_str().unwrap_or("").to_owned();
        if said["replace_original"] == json!(true)
            && let Some(ts) = &url.message
        {
            if !self.team(&url.team, |t| t.edit(&url.channel, ts, Some(text), Some(blocks)).is_some()) {
                return refused("message_not_found");
            }
            return Reply::status(200, "ok");
        }
        self.with(|s| {
            let ts = s.next_ts(now);
            let blocks = s.numbered(&blocks);
            if said["response_type"] == "in_channel" {
                let team = s.teams.get_mut(&url.team).expect("a team");
                let message = team.new_message(&url.channel, ts, url.thread_ts.clone(), &text, blocks);
                team.messages.push(message);
            } else {
                s.private.push(Private {
                    team: url.team.clone(),
                    channel: url.channel.clone(),
                    user: url.user.clone(),
                    thread_ts: url.thread_ts.clone(),
                    text,
                    blocks,
                    by: "response_url",
                    ts,
                });
            }
        });
        Reply::status(200, "ok")
    }

    fn download(&self, path: &str, parts: &hyper::http::request::Parts) -> Response<Body> {
        let (team, rest) = path.split_once('-').unwrap_or((path, ""));
        let id = rest.split('/').next().unwrap_or("");
        let token = parts.headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or("");
        let found = self.peek(|s| {
            let team = s.teams.get(team)?;
            let allowed = token == format!("Bearer {}", team.token) && team.scopes.contains("files:read");
            allowed.then(|| team.files.get(id).cloned()).flatten()
        });
        match found {
            Some(file) => Response::builder()
                .header("content-type", &file.mimetype)
                .body(Body::from(file.content))
                .expect("a response"),
            // As Slack does it: a page to sign in, and 200.
            None => Response::builder()
                .header("content-type", "text/html; charset=utf-8")
                .body(Body::from("<!DOCTYPE html><html><title>Sign in | Slack</title></html>"))
                .expect("a response"),
        }
    }
}

/// The arguments of a call, as one object. Parameters of GET and forms are texts; blocks in them are JSON texts.
fn arguments(method: &str, parts: &hyper::http::request::Parts, body: &Bytes) -> Result<Value, Refusal> {
    let kind = parts.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("");
    let reads = READS.contains(&method);
    let mut args = Map::new();
    for (name, value) in pairs(parts.uri.query().unwrap_or("")) {
        args.insert(name, value.into());
    }
    if parts.method == hyper::Method::GET {
        if !reads && method != "auth.test" && method != "api.test" {
            return Err(mistake("invalid_post_type", "a method that writes was called by GET"));
        }
    } else if kind.starts_with("application/json") {
        if reads {
            return Err(mistake("invalid_arguments", "this method reads and takes no JSON"));
        }
        if !args.is_empty() {
            return Err(mistake("invalid_arguments", "JSON in the body and parameters in the address"));
        }
        return match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => Ok(Value::Object(object)),
            Ok(Value::Null) if method == "auth.test" || method == "apps.connections.open" => Ok(json!({})),
            Ok(other) => Err(mistake("json_not_object", format!("the body is {other}"))),
            Err(error) => Err(mistake("invalid_json", error.to_string())),
        };
    } else if kind.starts_with("application/x-www-form-urlencoded") {
        for (name, value) in pairs(&String::from_utf8_lossy(body)) {
            args.insert(name, value.into());
        }
    } else if !body.is_empty() {
        return Err(mistake("invalid_post_type", format!("the content type {kind:?}")));
    }
    if args.contains_key("token") {
        return Err(mistake("invalid_arguments", "a token among the parameters: it ends up in logs"));
    }
    Ok(Value::Object(args))
}

pub(super) fn pairs(form: &str) -> Vec<(String, String)> {
    let uri: hyper::Uri = format!("/?{form}").parse().unwrap_or_default();
    axum::extract::Query::try_from_uri(&uri).map(|query| query.0).unwrap_or_default()
}

/// Reads arguments with their types.
struct Args<'a> {
    args: &'a Value,
    known: BTreeSet<&'static str>,
}

impl<'a> Args<'a> {
    fn text(&mut self, name: &'static str) -> Result<&'a str, Refusal> {
        let text = self.maybe(name)?.filter(|t| !t.is_empty());
        text.ok_or_else(|| mistake("invalid_arguments", format!("missing required field: {name}")))
    }

    fn maybe(&mut self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
        self.known.insert(name);
        match &self.args[name] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            other => Err(mistake("invalid_arguments", format!("{name} has to be a string and is {other}"))),
        }
    }

    fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Refusal> {
        self.known.insert(name);
        match &self.args[name] {
            Value::Null => Ok(None),
            Value::Bool(is) => Ok(Some(*is)),
            Value::String(text) if text == "true" || text == "1" => Ok(Some(true)),
            Value::String(text) if text == "false" || text == "0" => Ok(Some(false)),
            other => Err(mistake("invalid_arguments", format!("{name} has to be true or false and is {other}"))),
        }
    }

    fn number(&mut self, name: &'static str) -> Result<Option<usize>, Refusal> {
        self.known.insert(name);
        match &self.args[name] {
            Value::Null => Ok(None),
            Value::Number(n) if n.is_u64() => Ok(n.as_u64().map(|n| n as usize)),
            Value::String(text) if text.parse::<usize>().is_ok() => Ok(text.parse().ok()),
            other => Err(mistake("invalid_arguments", format!("{name} has to be a number and is {other}"))),
        }
    }

    /// An array or object; in a form it is JSON text.
    fn json(&mut self, name: &'static str) -> Result<Option<Value>, Refusal> {
        self.known.insert(name);
        match &self.args[name] {
            Value::Null => Ok(None),
            Value::String(text) => serde_json::from_str(text)
                .map(Some)
                .map_err(|error| mistake("invalid_arguments", format!("{name} is no JSON: {error}"))),
            value => Ok(Some(value.clone())),
        }
    }

    /// Nothing else may be there.
    fn done(&self) -> Result<(), Refusal> {
        let unknown = self.args.as_object().into_iter().flat_map(Map::keys).find(|k| !self.known.contains(k.as_str()));
        match unknown {
            Some(name) => Err(mistake("invalid_arguments", format!("there is no argument `{name}`"))),
            None => Ok(()),
        }
    }
}

/// What goes out as an event when the bot's own messages come back.
pub(super) enum Echo {
    Posted { channel: String, ts: String },
    Changed { channel: String, ts: String, before: Value },
    Deleted { channel: String, ts: String, before: Value },
}

impl State {
    /// Blocks with ids for those that have none.
    pub(super) fn numbered(&mut self, blocks: &[Value]) -> Vec<Value> {
        let mut blocks = blocks.to_vec();
        for block in &mut blocks {
            if block["block_id"].is_null() {
                self.counter += 1;
                block["block_id"] = format!("auto{}", self.counter).into();
            }
        }
        blocks
    }

    fn perform(
        &mut self,
        team: &str,
        method: &str,
        args: &Value,
        fake: &Handle,
    ) -> Result<(Value, Option<Echo>), Refusal> {
        let mut a = Args { args, known: BTreeSet::new() };
        let now = fake.now();
        let mut echo = None;
        let value = match method {
            "auth.test" => {
                a.done()?;
                let t = &self.teams[team];
                json!({
                    "url": format!("https://{}.slack.com/", t.domain), "team": t.name, "user": "agent",
                    "team_id": t.id, "user_id": t.bot_user, "bot_id": t.bot_id, "is_enterprise_install": false,
                })
            }
            "chat.postMessage" => {
                self.need(team, "chat:write")?;
                let (value, posted) = self.post(team, &mut a, now)?;
                echo = Some(posted);
                value
            }
            "chat.postEphemeral" => {
                self.need(team, "chat:write")?;
                self.ephemeral(team, &mut a, now)?
            }
            "chat.update" => {
                self.need(team, "chat:write")?;
                let (value, changed) = self.update(team, &mut a, fake)?;
                echo = Some(changed);
                value
            }
            "chat.delete" => {
                self.need(team, "chat:write")?;
                let (channel, ts) = (a.text("channel")?, a.text("ts")?);
                a.done()?;
                self.visible(team, channel)?;
                let t = self.teams.get_mut(team).expect("a team");
                let before = t.find(channel, ts).ok_or_else(|| world("message_not_found"))?;
                if before.bot_id.as_deref() != Some(&t.bot_id) {
                    return Err(mistake("cant_delete_message", "a message of somebody else"));
                }
                let before = t.shown(&before.clone(), false, &fake.0.origin);
                if let Some(message) = t.find_mut(channel, ts) {
                    message.deleted = true;
                }
                echo = Some(Echo::Deleted { channel: channel.to_owned(), ts: ts.to_owned(), before });
                json!({"channel": channel, "ts": ts})
            }
            "chat.getPermalink" => {
                let (channel, ts) = (a.text("channel")?, a.text("message_ts")?);
                a.done()?;
                self.channel(team, channel)?;
                let t = &self.teams[team];
                let message = t.find(channel, ts).ok_or_else(|| world("message_not_found"))?;
                let link = format!("https://{}.slack.com/archives/{channel}/p{}", t.domain, ts.replace('.', ""));
                let link = match &message.thread_ts {
                    Some(root) => format!("{link}?thread_ts={root}&cid={channel}"),
                    None => link,
                };
                json!({"channel": channel, "permalink": link})
            }
            "conversations.history" | "conversations.replies" => self.read(team, method, &mut a, fake)?,
            "conversations.info" => {
                let channel = a.text("channel")?;
                a.boolean("include_num_members")?;
                a.boolean("include_locale")?;
                a.done()?;
                let found = self.channel(team, channel)?;
                self.need(team, &format!("{}:read", found.scope_kind()))?;
                let member = found.members.contains(&self.teams[team].bot_user);
                json!({"channel": {
                    "id": found.id, "name": found.name, "is_channel": found.kind == ChannelKind::Public,
                    "is_group": found.kind == ChannelKind::Private, "is_im": found.kind == ChannelKind::Im,
                    "is_mpim": found.kind == ChannelKind::Mpim, "is_private": found.kind != ChannelKind::Public,
                    "is_archived": found.archived, "is_member": member, "context_team_id": team,
                }})
            }
            "conversations.members" => {
                let channel = a.text("channel")?;
                let limit = a.number("limit")?.unwrap_or(100).clamp(1, 1000);
                let cursor = a.maybe("cursor")?.unwrap_or("").to_owned();
                a.done()?;
                let found = self.channel(team, channel)?;
                self.need(team, &format!("{}:read", found.scope_kind()))?;
                let (page, next) = page(&found.members.iter().cloned().collect::<Vec<_>>(), limit, &cursor)?;
                json!({"members": page, "response_metadata": {"next_cursor": next}})
            }
            "conversations.open" => {
                let users = a.maybe("users")?.map(str::to_owned);
                let channel = a.maybe("channel")?.map(str::to_owned);
                a.boolean("return_im")?;
                a.boolean("prevent_creation")?;
                a.done()?;
                match (users, channel) {
                    (Some(users), None) => {
                        let users: Vec<String> = users.split(',').map(|u| u.trim().to_owned()).collect();
                        self.need(team, if users.len() == 1 { "im:write" } else { "mpim:write" })?;
                        let t = self.teams.get_mut(team).expect("a team");
                        for user in &users {
                            match t.users.get(user) {
                                None => return Err(world("user_not_found")),
                                Some(found) if found.deleted => return Err(world("user_disabled")),
                                Some(found) if found.is_bot => return Err(mistake("cannot_dm_bot", user.clone())),
                                Some(_) => {}
                            }
                        }
                        json!({"channel": {"id": t.dm(&users)}})
                    }
                    (None, Some(channel)) => json!({"channel": {"id": self.channel(team, &channel)?.id}}),
                    _ => return Err(mistake("invalid_arguments", "either users or channel")),
                }
            }
            "users.info" => {
                self.need(team, "users:read")?;
                let user = a.text("user")?;
                a.boolean("include_locale")?;
                a.done()?;
                let user = self.teams[team].users.get(user).ok_or_else(|| world("user_not_found"))?;
                let shown = user.email.as_ref().filter(|_| self.teams[team].scopes.contains("users:read.email"));
                json!({"user": {
                    "id": user.id, "is_email_confirmed": user.email.is_some(), "team_id": user.home, "name": user.name, "deleted": user.deleted,
                    "real_name": user.real_name, "is_bot": user.is_bot, "tz": "Europe/London",
                    "profile": {
                        "real_name": user.real_name, "display_name": user.name, "team": user.home, "email": shown,
                    },
                }})
            }
            "bots.info" => {
                self.need(team, "users:read")?;
                let bot = a.text("bot")?;
                a.done()?;
                let t = &self.teams[team];
                if bot != t.bot_id {
                    return Err(world("bot_not_found"));
                }
                json!({"bot": {"id": bot, "name": "agent", "deleted": false, "user_id": t.bot_user, "app_id": t.app}})
            }
            "usergroups.list" => {
                self.need(team, "usergroups:read")?;
                let disabled = a.boolean("include_disabled")?.unwrap_or(false);
                let users = a.boolean("include_users")?.unwrap_or(false);
                a.boolean("include_count")?;
                a.done()?;
                let groups = self.teams[team].groups.values().filter(|g| disabled || !g.disabled);
                let shown: Vec<Value> = groups
                    .map(|g| {
                        let mut shown = json!({
                            "id": g.id, "team_id": team, "handle": g.handle, "name": g.name, "is_usergroup": true,
                            "date_delete": i64::from(g.disabled),
                        });
                        if users {
                            shown["users"] = g.members.clone().into();
                        }
                        shown
                    })
                    .collect();
                json!({"usergroups": shown})
            }
            "usergroups.users.list" => {
                self.need(team, "usergroups:read")?;
                let group = a.text("usergroup")?;
                let disabled = a.boolean("include_disabled")?.unwrap_or(false);
                a.done()?;
                let group = self.teams[team].groups.get(group).ok_or_else(|| world("no_such_subteam"))?;
                if group.disabled && !disabled {
                    return Err(world("no_such_subteam"));
                }
                json!({"users": group.members})
            }
            "reactions.add" | "reactions.remove" => {
                self.need(team, "reactions:write")?;
                let (channel, ts, name) = (a.text("channel")?, a.text("timestamp")?, a.text("name")?);
                a.done()?;
                if name.contains(':') {
                    return Err(mistake("invalid_name", "a name without colons"));
                }
                self.visible(team, channel)?;
                let t = self.teams.get_mut(team).expect("a team");
                let bot = t.bot_user.clone();
                let message = t.find_mut(channel, ts).ok_or_else(|| world("message_not_found"))?;
                let reaction = (name.to_owned(), bot);
                if method == "reactions.add" && !message.reactions.insert(reaction.clone()) {
                    return Err(world("already_reacted"));
                }
                if method == "reactions.remove" && !message.reactions.remove(&reaction) {
                    return Err(world("no_reaction"));
                }
                json!({})
            }
            "views.open" | "views.push" => {
                let (trigger, view) = (a.text("trigger_id")?, a.json("view")?);
                a.done()?;
                let user = self.take_trigger(team, trigger, now)?;
                let view = view.ok_or_else(|| mistake("invalid_arguments", "missing required field: view"))?;
                let shown = self.open_view(team, &user, &view)?;
                json!({"view": shown})
            }
            "views.update" => {
                let (id, external) = (a.maybe("view_id")?, a.maybe("external_id")?);
                let (hash, view) = (a.maybe("hash")?, a.json("view")?);
                a.done()?;
                let view = view.ok_or_else(|| mistake("invalid_arguments", "missing required field: view"))?;
                let known = self.teams[team].views.values().find(|v| {
                    v.open && (Some(v.id.as_str()) == id || external.is_some_and(|e| v.view["external_id"] == e))
                });
                let known = known.ok_or_else(|| world("not_found"))?.clone();
                if hash.is_some_and(|hash| hash != known.hash) {
                    return Err(world("hash_conflict"));
                }
                json!({"view": self.put_view(team, &known, &view)?})
            }
            "views.publish" => {
                let (user, view, hash) = (a.text("user_id")?, a.json("view")?, a.maybe("hash")?);
                a.done()?;
                let view = view.ok_or_else(|| mistake("invalid_arguments", "missing required field: view"))?;
                if !self.teams[team].users.contains_key(user) {
                    return Err(world("user_not_found"));
                }
                if view["type"] != "home" {
                    return Err(mistake("invalid_arguments", "only a home is published"));
                }
                let old = self.teams[team].homes.get(user).cloned();
                if let (Some(hash), Some((old, _))) = (hash, &old)
                    && hash != old.hash
                {
                    return Err(world("hash_conflict"));
                }
                check_view(&view)?;
                let (id, hash) = (self.next_id("V"), self.next_id("hash."));
                let mut whole = view.clone();
                whole["blocks"] = self.numbered(view["blocks"].as_array().map_or(&[][..], Vec::as_slice)).into();
                let view = View { id, user: user.to_owned(), hash, view: whole, open: true };
                let times = old.map_or(0, |(_, n)| n) + 1;
                let shown = view.shown(&self.teams[team]);
                self.teams.get_mut(team).expect("a team").homes.insert(user.to_owned(), (view, times));
                json!({"view": shown})
            }
            "assistant.threads.setStatus" | "agents.sessions.setStatus" => {
                let session = method.starts_with("agents");
                if session || !self.teams[team].scopes.contains("assistant:write") {
                    self.need(team, "chat:write")?;
                }
                let channel = a.text("channel_id")?;
                let thread = a.text("thread_ts")?;
                let status = if session { Some(a.text("status")?) } else { a.maybe("status")? };
                let status = status.ok_or_else(|| mistake("invalid_arguments", "missing required field: status"))?;
                if session {
                    a.maybe("title")?;
                    a.maybe("initiator_user_id")?;
                    if !["active", "processing", "suspended", "closed"].contains(&status) {
                        return Err(mistake("invalid_arguments", format!("there is no status {status}")));
                    }
                } else if a.json("loading_messages")?.is_some_and(|l| l.as_array().is_none_or(|l| l.len() > 10)) {
                    return Err(mistake("invalid_arguments", "loading_messages: 10 at most"));
                }
                a.done()?;
                self.visible(team, channel)?;
                let t = self.teams.get_mut(team).expect("a team");
                if t.find(channel, thread).is_none() {
                    return Err(world("thread_not_found"));
                }
                let entry = (channel.to_owned(), thread.to_owned(), status.to_owned());
                if session {
                    t.sessions.push(entry)
                } else {
                    t.statuses.push(entry)
                }
                json!({"status": status})
            }
            "assistant.threads.setSuggestedPrompts" => {
                self.need(team, "assistant:write")?;
                let (channel, thread) = (a.text("channel_id")?, a.maybe("thread_ts")?.unwrap_or(""));
                a.maybe("title")?;
                let prompts = a.json("prompts")?.unwrap_or_default();
                a.done()?;
                self.visible(team, channel)?;
                let good = prompts.as_array().is_some_and(|all| {
                    (1..=4).contains(&all.len())
                        && all.iter().all(|p| {
                            p.as_object().is_some_and(|o| o.len() == 2)
                                && ["title", "message"].iter().all(|n| p[n].as_str().is_some_and(|t| !t.is_empty()))
                        })
                });
                if !good {
                    return Err(mistake(
                        "invalid_arguments",
                        format!("1 to 4 prompts with title and message: {prompts}"),
                    ));
                }
                let t = self.teams.get_mut(team).expect("a team");
                t.prompts.push((channel.to_owned(), thread.to_owned(), prompts));
                json!({})
            }
            "assistant.threads.setTitle" => {
                self.need(team, "assistant:write")?;
                let (channel, _) = (a.text("channel_id")?, a.text("thread_ts")?);
                a.text("title")?;
                a.done()?;
                self.visible(team, channel)?;
                json!({})
            }
            "files.info" => {
                self.need(team, "files:read")?;
                let file = a.text("file")?;
                a.done()?;
                let file = self.teams[team].files.get(file).ok_or_else(|| world("file_not_found"))?;
                json!({"file": file.shown(team, &fake.0.origin)})
            }
            _ => return Err(mistake("unknown_method", format!("the fake does not know {method}"))),
        };
        Ok((value, echo))
    }

    fn need(&self, team: &str, scope: &str) -> Result<(), Refusal> {
        let scopes = &self.teams[team].scopes;
        if scopes.contains(scope) {
            return Ok(());
        }
        let mut refusal = world("missing_scope");
        refusal.more.insert("needed".to_owned(), scope.into());
        let provided: Vec<&str> = scopes.iter().map(String::as_str).collect();
        refusal.more.insert("provided".to_owned(), provided.join(",").into());
        Err(refusal)
    }

    /// A channel that the bot can know of.
    fn channel(&self, team: &str, channel: &str) -> Result<Channel, Refusal> {
        let t = &self.teams[team];
        let found = t.channels.get(channel).ok_or_else(|| world("channel_not_found"))?;
        if found.kind != ChannelKind::Public && !found.members.contains(&t.bot_user) {
            return Err(world("channel_not_found"));
        }
        Ok(found.clone())
    }

    /// A channel that the bot is in.
    fn visible(&self, team: &str, channel: &str) -> Result<Channel, Refusal> {
        let found = self.channel(team, channel)?;
        if !found.members.contains(&self.teams[team].bot_user) {
            return Err(world("not_in_channel"));
        }
        Ok(found)
    }

    /// A channel that the bot may write to.
    fn writable(&self, team: &str, channel: &str) -> Result<Channel, Refusal> {
        let found = self.channel(team, channel)?;
        if found.archived {
            return Err(world("is_archived"));
        }
        self.visible(team, channel)
    }

    fn content(&mut self, a: &mut Args, most_text: usize) -> Result<(Option<String>, Option<Vec<Value>>), Refusal> {
        let text = a.maybe("text")?.map(str::to_owned);
        let blocks = a.json("blocks")?;
        if text.as_ref().is_some_and(|t| t.chars().count() > most_text) {
            return Err(mistake("msg_too_long", format!("a text of more than {most_text} characters")));
        }
        if let Some(blocks) = &blocks {
            let wrong = limits::blocks(blocks, limits::Surface::Message);
            let empty = blocks.as_array().is_some_and(Vec::is_empty);
            if !wrong.is_empty() && !empty {
                let too_long = wrong.iter().any(|w| w.contains("characters in all"));
                let code = if too_long { "msg_blocks_too_long" } else { "invalid_blocks" };
                return Err(mistake(code, wrong.join("; ")));
            }
            if text.as_deref().unwrap_or("").is_empty() {
                return Err(mistake("no_text", "blocks without the text for notifications"));
            }
        }
        let blocks = blocks.and_then(|b| b.as_array().map(|b| self.numbered(b)));
        Ok((text, blocks))
    }

    fn metadata(&self, a: &mut Args) -> Result<Option<Value>, Refusal> {
        let metadata = a.json("metadata")?;
        if let Some(metadata) = &metadata {
            let good = metadata["event_type"].as_str().is_some_and(|t| !t.is_empty())
                && metadata["event_payload"].is_object()
                && metadata.as_object().is_some_and(|o| o.len() == 2);
            if !good {
                return Err(mistake("invalid_metadata_format", metadata.to_string()));
            }
            if metadata.to_string().len() > 8000 {
                return Err(mistake("metadata_too_large", "more than 8 KB"));
            }
        }
        Ok(metadata)
    }

    fn post(&mut self, team: &str, a: &mut Args, now: i64) -> Result<(Value, Echo), Refusal> {
        let to = a.text("channel")?.to_owned();
        let thread = a.maybe("thread_ts")?.map(str::to_owned);
        let (text, blocks) = self.content(a, 40_000)?;
        let metadata = self.metadata(a)?;
        for name in ["unfurl_links", "unfurl_media", "mrkdwn", "reply_broadcast", "link_names"] {
            a.boolean(name)?;
        }
        a.maybe("parse")?;
        a.done()?;
        let is_user = self.teams[team].users.contains_key(&to);
        let channel = if is_user { self.teams.get_mut(team).expect("a team").dm(&[to]) } else { to };
        let found = self.writable(team, &channel)?;
        if found.kind == ChannelKind::Im {
            let t = &self.teams[team];
            if found.members.iter().any(|m| t.users.get(m).is_some_and(|u| u.deleted)) {
                return Err(world("user_disabled"));
            }
        }
        if text.as_deref().unwrap_or("").is_empty() && blocks.as_ref().is_none_or(Vec::is_empty) {
            return Err(mistake("no_text", "neither text nor blocks"));
        }
        if let Some(root) = &thread {
            match self.teams[team].find(&channel, root) {
                None => return Err(world("thread_not_found")),
                Some(root) if root.thread_ts.is_some() => {
                    return Err(mistake("invalid_thread_ts", "thread_ts is a reply's and not the root's"));
                }
                Some(_) => {}
            }
        }
        let ts = self.next_ts(now);
        let t = self.teams.get_mut(team).expect("a team");
        let text = text.unwrap_or_default();
        let mut message = t.new_message(&channel, ts.clone(), thread, &text, blocks.unwrap_or_default());
        message.metadata = metadata;
        let shown = t.shown(&message, true, "");
        t.messages.push(message);
        let echo = Echo::Posted { channel: channel.clone(), ts: ts.clone() };
        Ok((json!({"channel": channel, "ts": ts, "message": shown}), echo))
    }

    fn ephemeral(&mut self, team: &str, a: &mut Args, now: i64) -> Result<Value, Refusal> {
        let (channel, user) = (a.text("channel")?.to_owned(), a.text("user")?.to_owned());
        let thread_ts = a.maybe("thread_ts")?.map(str::to_owned);
        let (text, blocks) = self.content(a, 40_000)?;
        for name in ["link_names", "mrkdwn"] {
            a.boolean(name)?;
        }
        a.maybe("parse")?;
        a.done()?;
        let found = self.writable(team, &channel)?;
        if !found.members.contains(&user) {
            return Err(world("user_not_in_channel"));
        }
        if text.as_deref().unwrap_or("").is_empty() && blocks.as_ref().is_none_or(Vec::is_empty) {
            return Err(mistake("no_text", "neither text nor blocks"));
        }
        let ts = self.next_ts(now);
        self.private.push(Private {
            team: team.to_owned(),
            channel,
            user,
            thread_ts,
            text: text.unwrap_or_default(),
            blocks: blocks.unwrap_or_default(),
            by: "ephemeral",
            ts: ts.clone(),
        });
        Ok(json!({"message_ts": ts}))
    }

    fn update(&mut self, team: &str, a: &mut Args, fake: &Handle) -> Result<(Value, Echo), Refusal> {
        let (channel, ts) = (a.text("channel")?.to_owned(), a.text("ts")?.to_owned());
        let given: Vec<Value> = a.json("blocks")?.and_then(|b| b.as_array().cloned()).unwrap_or_default();
        let (text, blocks) = self.content(a, 4_000)?;
        let metadata = self.metadata(a)?;
        for name in ["link_names", "reply_broadcast", "unfurl_links", "unfurl_media", "mrkdwn"] {
            a.boolean(name)?;
        }
        a.maybe("parse")?;
        a.done()?;
        if text.is_none() && blocks.is_none() {
            return Err(mistake("no_text", "neither text nor blocks"));
        }
        self.writable(team, &channel)?;
        let t = self.teams.get_mut(team).expect("a team");
        let old = t.find(&channel, &ts).ok_or_else(|| world("message_not_found"))?.clone();
        if old.bot_id.as_deref() != Some(&t.bot_id) {
            return Err(mistake("cant_update_message", "a message of somebody else"));
        }
        // S14: with the id of a block that stands, clients keep its old state.
        for block in &given {
            if let Some(id) = block["block_id"].as_str()
                && let Some(stands) = old.blocks.iter().find(|b| b["block_id"] == id)
                && stands != block
            {
                return Err(mistake(
                    "invalid_blocks",
                    format!("the block_id `{id}` stands already with another content"),
                ));
            }
        }
        let before = t.shown(&old, false, &fake.0.origin);
        let edited = t.edit(&channel, &ts, text.clone(), blocks);
        if let (Some(message), Some(metadata)) = (edited, metadata) {
            message.metadata = Some(metadata);
        }
        let value = json!({"channel": channel, "ts": ts, "text": text});
        Ok((value, Echo::Changed { channel, ts, before }))
    }

    fn read(&mut self, team: &str, method: &str, a: &mut Args, fake: &Handle) -> Answer {
        let channel = a.text("channel")?;
        let root = if method == "conversations.replies" { Some(a.text("ts")?) } else { None };
        let oldest = a.maybe("oldest")?.unwrap_or("").to_owned();
        let latest = a.maybe("latest")?.unwrap_or("").to_owned();
        let inclusive = a.boolean("inclusive")?.unwrap_or(false);
        let limit = a.number("limit")?.unwrap_or(if root.is_some() { 1000 } else { 100 });
        let cursor = a.maybe("cursor")?.unwrap_or("").to_owned();
        let metadata = a.boolean("include_all_metadata")?.unwrap_or(false);
        a.done()?;
        if limit == 0 || limit > 1000 {
            return Err(mistake("invalid_limit", format!("a limit of {limit}")));
        }
        let found = self.channel(team, channel)?;
        self.need(team, &format!("{}:history", found.scope_kind()))?;
        self.visible(team, channel)?;
        let t = &self.teams[team];
        let within = |m: &&Message| {
            let after = oldest.is_empty() || m.ts > oldest || inclusive && m.ts == oldest;
            let before = latest.is_empty() || m.ts < latest || inclusive && m.ts == latest;
            after && before
        };
        let here = t.messages.iter().filter(|m| m.channel == channel && !m.deleted);
        let mut listed: Vec<&Message> = match root {
            None => {
                let mut top: Vec<&Message> = here.filter(|m| m.thread_ts.is_none()).filter(within).collect();
                top.reverse();
                top
            }
            Some(root) => match t.find(channel, root) {
                None => return Err(world("thread_not_found")),
                // The root always comes along.
                Some(first) => here.filter(|m| m.root() == root).filter(|m| m.ts == first.ts || within(m)).collect(),
            },
        };
        // Asked for a reply, Slack shows that reply.
        if let (Some(root), true) = (root, listed.is_empty()) {
            listed = t.find(channel, root).into_iter().collect();
        }
        let listed: Vec<Message> = listed.into_iter().cloned().collect();
        let (page, next) = page(&listed, limit, &cursor)?;
        let shown: Vec<Value> = page.iter().map(|m| t.shown(m, metadata, &fake.0.origin)).collect();
        Ok(json!({"messages": shown, "has_more": !next.is_empty(), "response_metadata": {"next_cursor": next}}))
    }

    fn take_trigger(&mut self, team: &str, id: &str, now: i64) -> Result<String, Refusal> {
        let trigger = self.triggers.get_mut(id).ok_or_else(|| mistake("invalid_trigger_id", id.to_owned()))?;
        if trigger.team != team {
            return Err(mistake("invalid_trigger_id", "the trigger is another team's"));
        }
        if trigger.used {
            return Err(mistake("exchanged_trigger_id", "a trigger is used once"));
        }
        if now - trigger.made > TRIGGER_LIFE_MS {
            return Err(world("expired_trigger_id"));
        }
        trigger.used = true;
        Ok(trigger.user.clone())
    }

    fn open_view(&mut self, team: &str, user: &str, view: &Value) -> Answer {
        let id = self.next_id("V");
        let known = View { id, user: user.to_owned(), hash: String::new(), view: Value::Null, open: true };
        self.put_view(team, &known, view)
    }

    /// Puts a modal in the place of another, or a new one.
    fn put_view(&mut self, team: &str, known: &View, view: &Value) -> Answer {
        check_view(view)?;
        if view["type"] != "modal" {
            return Err(mistake("invalid_arguments", "only a modal is opened"));
        }
        let mut whole = view.clone();
        whole["blocks"] = self.numbered(view["blocks"].as_array().map_or(&[][..], Vec::as_slice)).into();
        let view = View { hash: self.next_id("hash."), view: whole, ..known.clone() };
        let t = self.teams.get_mut(team).expect("a team");
        let shown = view.shown(t);
        t.views.insert(view.id.clone(), view);
        Ok(shown)
    }

    /// What a `response_action` puts in the place of a modal.
    pub(super) fn replace_view(&mut self, team: &str, known: &View, view: &Value, pushed: bool) -> Result<(), String> {
        let answer = if pushed { self.open_view(team, &known.user, view) } else { self.put_view(team, known, view) };
        answer.map(drop).map_err(|refusal| refusal.mistake.unwrap_or(refusal.code))
    }
}

fn check_view(view: &Value) -> Result<(), Refusal> {
    let wrong = limits::view(view);
    if wrong.is_empty() { Ok(()) } else { Err(mistake("invalid_arguments", wrong.join("; "))) }
}

impl View {
    /// As answers and payloads show it, without the state.
    pub(super) fn shown(&self, team: &Team) -> Value {
        let mut shown = self.view.clone();
        for name in ["private_metadata", "callback_id", "external_id"] {
            if shown[name].is_null() {
                shown[name] = "".into();
            }
        }
        for name in ["clear_on_close", "notify_on_close"] {
            if shown[name].is_null() {
                shown[name] = false.into();
            }
        }
        shown["id"] = self.id.clone().into();
        shown["hash"] = self.hash.clone().into();
        shown["team_id"] = team.id.clone().into();
        shown["app_installed_team_id"] = team.id.clone().into();
        shown["app_id"] = team.app.clone().into();
        shown["bot_id"] = team.bot_id.clone().into();
        shown["root_view_id"] = self.id.clone().into();
        shown["previous_view_id"] = Value::Null;
        shown["state"] = json!({"values": {}});
        shown
    }
}

impl Team {
    pub(super) fn find(&self, channel: &str, ts: &str) -> Option<&Message> {
        self.messages.iter().find(|m| m.channel == channel && m.ts == ts && !m.deleted)
    }

    pub(super) fn find_mut(&mut self, channel: &str, ts: &str) -> Option<&mut Message> {
        self.messages.iter_mut().find(|m| m.channel == channel && m.ts == ts && !m.deleted)
    }

    /// A message of the bot.
    fn new_message(
        &self,
        channel: &str,
        ts: String,
        thread_ts: Option<String>,
        text: &str,
        blocks: Vec<Value>,
    ) -> Message {
        Message {
            team: self.id.clone(),
            channel: channel.to_owned(),
            ts,
            thread_ts,
            user: self.bot_user.clone(),
            bot_id: Some(self.bot_id.clone()),
            text: text.to_owned(),
            blocks,
            metadata: None,
            files: Vec::new(),
            edits: 0,
            before: Vec::new(),
            deleted: false,
            reactions: BTreeSet::new(),
        }
    }

    /// Edits a message; what is not given stays.
    pub(super) fn edit(
        &mut self,
        channel: &str,
        ts: &str,
        text: Option<String>,
        blocks: Option<Vec<Value>>,
    ) -> Option<&mut Message> {
        let message = self.find_mut(channel, ts)?;
        let before = (message.text.clone(), message.blocks.clone());
        if let Some(text) = text {
            message.text = text;
        }
        if let Some(blocks) = blocks {
            message.blocks = blocks;
        }
        if before != (message.text.clone(), message.blocks.clone()) {
            message.before.push(before);
        }
        message.edits += 1;
        Some(message)
    }
}

/// A page, and the cursor of the next.
fn page<T: Clone>(all: &[T], limit: usize, cursor: &str) -> Result<(Vec<T>, String), Refusal> {
    let start: usize = match cursor {
        "" => 0,
        _ => cursor
            .strip_prefix("next:")
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| mistake("invalid_cursor", cursor.to_owned()))?,
    };
    let page: Vec<T> = all.iter().skip(start).take(limit).cloned().collect();
    let end = start + page.len();
    Ok((page, if end < all.len() { format!("next:{end}") } else { String::new() }))
}
