//! Calling a method of the Web API.
//!
//! It owns time limits, pace, retries, and errors in words. slack-morphism makes the request; it waits for ever,
//! retries nothing and hands out errors that carry whole bodies, so none of its errors leaves this file.
//!
//! # Pace
//! Slack allows each method so many calls a minute, and each channel about one message a second. Calls are let
//! through at that rate (with a small burst), in the order in which they came. A `429` closes exactly the method
//! that it was the answer to, for `chat.*` only in that channel, for as long as `Retry-After` says. Whoever would
//! have to wait longer than is worth it is sent away with the time after which to come again.
//!
//! # Retries
//! What was refused by the pace was certainly not done: it is always tried again, within the wait that is allowed.
//! Other failures that may pass are tried again only for methods that may be repeated; a message is never posted
//! again without looking for it first (`post`).

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hyper_rustls::HttpsConnectorBuilder;
use lru::LruCache;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use slack_morphism::errors::SlackClientError;
use slack_morphism::prelude::{SlackApiToken, SlackClient, SlackClientHyperHttpsConnector};
use tokio::time::Instant;

use super::{Slack, Workspace};
use crate::platform::PostError;

/// Attempts of one call that may be repeated.
const ATTEMPTS: u32 = 3;

/// Longest detail of an error, in characters.
const MAX_DETAIL: usize = 400;

/// Methods and channels whose pace is remembered. One that is forgotten starts with a full burst.
const GATES: usize = 20_000;

/// How long calls wait for their turn: nobody looks at what came later.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same for what needs a `trigger_id`, which lives three seconds.
const PATIENCE_TRIGGER: Duration = Duration::from_secs(2);

/// Longest `Retry-After` that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// How fast calls go out, and how long they may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long one second of Slack's documented limits lasts: a second. Only a test against a fake shortens it.
    /// What `Retry-After` says is never shortened.
    pub second: Duration,
    /// Longest wait of a message for its turn in its channel. What would wait longer is tried again later by
    /// whoever sent it.
    pub patience: Duration,
    /// How long one attempt may take, connecting included.
    pub attempt: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { second: Duration::from_secs(1), patience: Duration::from_secs(120), attempt: Duration::from_secs(15) }
    }
}

/// The client, for all tokens.
pub struct Api {
    client: SlackClient<SlackClientHyperHttpsConnector>,
    attempt: Duration,
}

/// Why a call did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub struct SlackError {
    pub method: String,
    /// Slack's own code (`channel_not_found`), or ours: `timeout`, `unreachable`, `http_503`, `ratelimited`,
    /// `not_connected`, `odd_answer` (what came was not an answer of Slack).
    pub code: String,
    /// What Slack adds: the scopes that are needed and granted, what is wrong with the blocks.
    pub detail: String,
    /// For `missing_scope`: the scope.
    pub scope: Option<String>,
    pub retry_after_ms: Option<u64>,
}

impl SlackError {
    /// Whether the same call may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self.code.as_str(), "ratelimited" | "rate_limited") || self.is_unsure()
    }

    /// Whether Slack may have done it all the same.
    pub fn is_unsure(&self) -> bool {
        matches!(
            self.code.as_str(),
            "timeout"
                | "unreachable"
                | "odd_answer"
                | "internal_error"
                | "fatal_error"
                | "service_unavailable"
                | "request_timeout"
                | "team_added_to_org"
        ) || self.code.starts_with("http_5")
    }

    /// Whether it was only too fast: it was certainly not done.
    fn is_pace(&self) -> bool {
        matches!(self.code.as_str(), "ratelimited" | "rate_limited")
    }

    /// `missing_scope usergroups:read`, or the code alone.
    pub fn short(&self) -> String {
        match &self.scope {
            Some(scope) => format!("{} {scope}", self.code),
            None => self.code.clone(),
        }
    }

    pub(super) fn new(method: &str, code: impl Into<String>) -> Self {
        Self { method: method.to_owned(), code: code.into(), detail: String::new(), scope: None, retry_after_ms: None }
    }

    fn detailed(self, detail: &str) -> Self {
        Self { detail: detail.chars().take(MAX_DETAIL).collect(), ..self }
    }

    fn words(&self) -> String {
        let detail = if self.detail.is_empty() { String::new() } else { format!(" ({})", self.detail) };
        format!("Slack, {}: {}{detail}", self.method, self.code)
    }
}

impl From<SlackError> for PostError {
    fn from(error: SlackError) -> Self {
        let message = match trouble_words(&error) {
            Some(words) => format!("Slack: {words}"),
            None => error.words(),
        };
        Self { message, transient: error.is_transient(), retry_after_ms: error.retry_after_ms }
    }
}

impl Api {
    /// # Errors
    /// No trusted root certificates on this machine.
    pub fn new(api_url: &str) -> anyhow::Result<Self> {
        Self::within(api_url, Pace::default().attempt)
    }

    /// The same with another limit for one attempt.
    ///
    /// # Errors
    /// As above.
    pub fn within(api_url: &str, attempt: Duration) -> anyhow::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("this machine has no trusted root certificates; install the package ca-certificates")?
            .https_or_http()
            .enable_http1()
            .build();
        let connector = SlackClientHyperHttpsConnector::with_connector(connector);
        let client = SlackClient::new(connector.with_slack_api_url(api_url.trim_end_matches('/')));
        Ok(Self { client, attempt })
    }

    /// One attempt, with a JSON body.
    pub async fn call(&self, token: &SecretString, method: &str, body: &Value) -> Result<Value, SlackError> {
        let token = SlackApiToken::new(token.expose_secret().into());
        let session = self.client.open_session(&token);
        let call = session.http_session_api.http_post(method, body, None);
        Self::answered(method, tokio::time::timeout(self.attempt, call).await)
    }

    /// One attempt, with parameters: many methods that read take no JSON.
    pub async fn read(&self, token: &SecretString, method: &str, params: &[(&str, &str)]) -> Result<Value, SlackError> {
        let token = SlackApiToken::new(token.expose_secret().into());
        let session = self.client.open_session(&token);
        let params: Vec<(&str, Option<&str>)> = params.iter().map(|(name, value)| (*name, Some(*value))).collect();
        let call = session.http_session_api.http_get(method, &params, None);
        Self::answered(method, tokio::time::timeout(self.attempt, call).await)
    }

    fn answered(
        method: &str,
        answer: Result<Result<Value, SlackClientError>, tokio::time::error::Elapsed>,
    ) -> Result<Value, SlackError> {
        let failed = |code: &str| SlackError::new(method, code);
        match answer {
            Err(_) => Err(failed("timeout")),
            // slack-morphism makes `{}` of a page that somebody in between put there.
            Ok(Ok(value)) if value["ok"] == true => Ok(value),
            Ok(Ok(_)) => Err(failed("odd_answer").detailed("what came is not an answer of Slack")),
            Ok(Err(SlackClientError::ApiError(error))) => {
                let body = error.http_response_body.and_then(|body| serde_json::from_str(&body).ok());
                Err(refused(method, &error.code, &body.unwrap_or(Value::Null)))
            }
            Ok(Err(SlackClientError::RateLimitError(error))) => {
                let wait = error.retry_after.map(|wait| wait.as_millis() as u64);
                Err(SlackError { retry_after_ms: wait, ..failed("ratelimited") })
            }
            Ok(Err(SlackClientError::HttpError(error))) => Err(failed(&format!("http_{}", error.status_code.as_u16()))),
            Ok(Err(SlackClientError::ProtocolError(_))) => {
                Err(failed("odd_answer").detailed("what came is not an answer of Slack"))
            }
            Ok(Err(error)) => Err(failed("unreachable").detailed(&root(&error))),
        }
    }
}

/// What Slack says of a call that it refused.
fn refused(method: &str, code: &str, body: &Value) -> SlackError {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let scope = text(&body["needed"]).filter(|_| code == "missing_scope");
    let mut detail: Vec<String> = Vec::new();
    detail.extend(scope.as_ref().map(|scope| format!("needs the scope {scope}")));
    detail.extend(text(&body["provided"]).map(|provided| format!("granted are {provided}")));
    for list in [&body["errors"], &body["response_metadata"]["messages"]] {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        detail.extend(list.iter().map(|each| text(each).unwrap_or_else(|| each.to_string())));
    }
    SlackError { scope, ..SlackError::new(method, code).detailed(&detail.join("; ")) }
}

/// The last cause: `Connection refused`. None of them knows an address or a header.
fn root(error: &SlackClientError) -> String {
    let mut cause: &dyn std::error::Error = match error {
        SlackClientError::HttpProtocolError(e) => match &e.cause {
            Some(cause) => cause.as_ref(),
            None => return String::new(),
        },
        SlackClientError::SystemError(e) => match &e.cause {
            Some(cause) => cause.as_ref(),
            None => return String::new(),
        },
        _ => return String::new(),
    };
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// What may be done twice without anybody noticing.
fn is_repeatable(method: &str) -> bool {
    matches!(
        method,
        "chat.update"
            | "chat.delete"
            | "conversations.open"
            | "reactions.add"
            | "reactions.remove"
            | "views.publish"
            | "assistant.threads.setStatus"
            | "assistant.threads.setTitle"
            | "assistant.threads.setSuggestedPrompts"
            | "agents.sessions.setStatus"
    )
}

/// Calls a minute, and how many of them at once, for each method; Slack's tiers 2 to 4 as documented ("20+",
/// "50+", "100+"), with a quarter of a minute's calls at once. Messages: "several hundred a minute" in a workspace.
fn quota(method: &str) -> (u32, u32) {
    match method {
        "chat.postMessage" => (300, 60),
        "usergroups.users.list" | "usergroups.list" => (20, 5),
        "users.info"
        | "conversations.members"
        | "files.info"
        | "views.open"
        | "views.push"
        | "views.update"
        | "views.publish"
        | "chat.postEphemeral"
        | "chat.getPermalink"
        | "agents.sessions.setStatus" => (100, 25),
        "assistant.threads.setStatus" => (600, 60),
        _ => (50, 12),
    }
}

/// The same for what leaves a reserve: two fifths of the calls at once.
fn sparing((per_minute, burst): (u32, u32)) -> (u32, u32) {
    (per_minute, (burst * 2 / 5).max(1))
}

/// Messages in one channel: one a second, and some more at once.
const CHANNEL_QUOTA: (u32, u32) = (60, 3);

/// What goes along with a call.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Json(&'a Value),
    /// For what only reads.
    Params(&'a [(&'a str, &'a str)]),
}

/// When what may be called again.
pub(crate) struct Gates(Mutex<LruCache<Key, Gate>>);

/// A team and a method, and for what goes into channels, the channel.
type Key = (String, String, String);

#[derive(Clone, Copy, Default)]
struct Gate {
    /// When the burst is full again, were nobody to come.
    full: Option<Instant>,
    /// What `Retry-After` said.
    closed: Option<Instant>,
}

impl Gate {
    fn opens(&self, now: Instant, (per_minute, burst): (u32, u32), second: Duration) -> Instant {
        let ahead = second * 60 / per_minute.max(1) * burst.saturating_sub(1);
        let free = self.full.map_or(now, |full| full.checked_sub(ahead).unwrap_or(now));
        free.max(self.closed.unwrap_or(now)).max(now)
    }

    fn take(&mut self, at: Instant, (per_minute, _): (u32, u32), second: Duration) {
        self.full = Some(self.full.unwrap_or(at).max(at) + second * 60 / per_minute.max(1));
    }
}

impl Default for Gates {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(NonZeroUsize::new(GATES).unwrap_or(NonZeroUsize::MIN))))
    }
}

impl Gates {
    /// A turn, before `until`; else when there would be one.
    fn take(
        &self,
        keys: &[(Key, (u32, u32))],
        now: Instant,
        until: Instant,
        second: Duration,
    ) -> Result<Instant, Instant> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = now;
        for (key, quota) in keys {
            at = at.max(gates.get(key).copied().unwrap_or_default().opens(now, *quota, second));
        }
        if at > until {
            return Err(at);
        }
        for (key, quota) in keys {
            gates.get_or_insert_mut(key.clone(), Gate::default).take(at, *quota, second);
        }
        Ok(at)
    }

    fn close(&self, key: &Key, until: Instant) {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.get_or_insert_mut(key.clone(), Gate::default);
        gate.closed = Some(gate.closed.map_or(until, |closed| closed.max(until)));
    }
}

impl Slack {
    /// Calls a method for a team, at the pace that Slack allows.
    ///
    /// # Errors
    /// What Slack said after the last attempt; `not_connected` for a team that is not; `ratelimited` with the time
    /// to wait if its turn would come too late.
    pub async fn call(&self, team: &str, method: &str, body: &Value) -> Result<Value, SlackError> {
        let token = self.token(team, method)?;
        let channel = if method.starts_with("chat.") { body["channel"].as_str().unwrap_or_default() } else { "" };
        self.paced(team, method, channel, &token, Asked::Json(body), false).await
    }

    /// The same for a method that reads.
    pub async fn read(&self, team: &str, method: &str, params: &[(&str, &str)]) -> Result<Value, SlackError> {
        let token = self.token(team, method)?;
        self.paced(team, method, "", &token, Asked::Params(params), false).await
    }

    /// The same for what is only shown: it leaves most of what is allowed at once to the others, and takes no turn
    /// before it is there.
    pub(super) async fn read_sparingly(
        &self,
        team: &str,
        method: &str,
        params: &[(&str, &str)],
    ) -> Result<Value, SlackError> {
        let token = self.token(team, method)?;
        self.paced(team, method, "", &token, Asked::Params(params), true).await
    }

    async fn paced(
        &self,
        team: &str,
        method: &str,
        channel: &str,
        token: &SecretString,
        asked: Asked<'_>,
        sparingly: bool,
    ) -> Result<Value, SlackError> {
        let pace = &self.0.settings.pace;
        let patience = match method {
            "chat.postMessage" => pace.patience,
            "views.open" | "views.push" => PATIENCE_TRIGGER,
            _ => PATIENCE,
        };
        let until = Instant::now() + patience;
        let key = |channel: &str| (team.to_owned(), method.to_owned(), channel.to_owned());
        let allowed = if sparingly { sparing(quota(method)) } else { quota(method) };
        let mut keys = vec![(key(""), allowed)];
        if !channel.is_empty() {
            keys.push((key(channel), if method == "chat.postMessage" { CHANNEL_QUOTA } else { quota(method) }));
        }
        let mut failures = 0;
        loop {
            let now = Instant::now();
            match self.0.gates.take(&keys, now, if sparingly { now } else { until }, pace.second) {
                Ok(at) => tokio::time::sleep_until(at).await,
                Err(at) if sparingly && at <= until => {
                    tokio::time::sleep_until(at).await;
                    continue;
                }
                Err(at) => {
                    let wait = at.saturating_duration_since(Instant::now()).as_millis() as u64;
                    return Err(SlackError {
                        retry_after_ms: Some(wait.max(1)),
                        ..SlackError::new(method, "ratelimited")
                    });
                }
            }
            let answer = match asked {
                Asked::Json(body) => self.0.api.call(token, method, body).await,
                Asked::Params(params) => self.0.api.read(token, method, params).await,
            };
            let error = match answer {
                Ok(answer) => {
                    self.is_well(team, method);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            self.note(team, &error);
            if error.is_pace() {
                // At least a second: else this would spin.
                let wait = Duration::from_millis(error.retry_after_ms.unwrap_or(1_000));
                let wait = wait.clamp(Duration::from_secs(1), MAX_RETRY_AFTER);
                tracing::warn!(
                    slack.team = team,
                    slack.method = method,
                    seconds = wait.as_secs(),
                    "Slack asks to slow down"
                );
                self.0.gates.close(&key(channel), Instant::now() + wait);
                continue;
            }
            failures += 1;
            let repeatable = matches!(asked, Asked::Params(_)) || is_repeatable(method);
            if !(repeatable && error.is_unsure() && failures < ATTEMPTS) {
                return Err(error);
            }
            tokio::time::sleep(pace.second / 4 * failures).await;
        }
    }

    pub(super) fn token(&self, team: &str, method: &str) -> Result<SecretString, SlackError> {
        let workspace = self.workspace(team).and_then(|w| self.0.settings.workspaces.get(w.index));
        workspace.map(|w| w.bot_token.clone()).ok_or_else(|| {
            SlackError::new(method, "not_connected").detailed(&format!("the team {team} is not connected"))
        })
    }

    /// Notes what only people can put right.
    fn note(&self, team: &str, error: &SlackError) {
        let Some(words) = trouble_words(error) else { return };
        match error.code.as_str() {
            // Without it nothing can be answered at all. Any other scope takes one feature away.
            "missing_scope" if error.method == NEEDED => {
                self.trouble(&format!("team {team}, {}", error.method), Some(words));
            }
            "missing_scope" => self.lack(&format!("team {team}, {}", error.method), words),
            _ => self.trouble(&format!("team {team}"), Some(words)),
        }
    }

    /// A call that works says that the token does, and that this method's scope is there.
    fn is_well(&self, team: &str, method: &str) {
        let mut troubles = self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if !troubles.is_empty() {
            troubles.remove(&format!("team {team}"));
            troubles.remove(&format!("team {team}, {method}"));
        }
        drop(troubles);
        let mut lacks = self.0.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        if !lacks.is_empty() {
            lacks.remove(&format!("team {team}, {method}"));
        }
    }

    /// Asks Slack which team each token is for (`auth.test`). Those that do not answer are noted as troubles and can
    /// be asked again: a workspace that was connected stays so. Returns whether all are connected.
    pub async fn connect(&self) -> bool {
        let mut all = true;
        for (index, settings) in self.0.settings.workspaces.iter().enumerate() {
            let mut before = self.0.settings.workspaces.iter().take(index);
            let what = match &settings.team {
                Some(team) if before.all(|w| w.team.as_ref() != Some(team)) => format!("team {team}"),
                _ => format!("bot token {}", index + 1),
            };
            let connected = self.connect_one(index).await;
            all &= connected.is_ok();
            if let Err(words) = &connected {
                tracing::warn!(slack.what = what, "a Slack workspace is not connected: {words}");
            }
            self.trouble(&what, connected.err());
        }
        all
    }

    /// # Errors
    /// Why not, for people.
    async fn connect_one(&self, index: usize) -> Result<(), String> {
        let Some(settings) = self.0.settings.workspaces.get(index) else { return Ok(()) };
        let answer = self.0.api.call(&settings.bot_token, "auth.test", &Value::Object(Default::default())).await;
        let answer = answer.map_err(|e| trouble_words(&e).unwrap_or_else(|| format!("{e}; it is tried again")))?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let whole_organisation = answer["is_enterprise_install"] == true;
        let team = match text("enterprise_id") {
            enterprise if whole_organisation && !enterprise.is_empty() => enterprise,
            _ => text("team_id"),
        };
        if team.is_empty() || text("user_id").is_empty() {
            return Err("Slack does not say which team the token is for".to_owned());
        }
        if text("bot_id").is_empty() {
            return Err("the token is a person's, not the bot's: use the one that begins with xoxb-".to_owned());
        }
        if let Some(configured) = &settings.team
            && *configured != team
        {
            let name = text("team");
            return Err(format!(
                "its token is for the team {team} ({name}), not for {configured}: it is not used. Correct the team, or \
                 the variable that holds the token"
            ));
        }
        let mut workspaces = self.0.workspaces.write().unwrap_or_else(PoisonError::into_inner);
        if workspaces.get(&team).is_some_and(|other| other.index != index) {
            return Err(format!("another token is for the team {team} as well; that one is used. Remove one of them"));
        }
        tracing::info!(slack.team = team, "connected to the Slack workspace {}", text("team"));
        let workspace = Workspace {
            team: team.clone(),
            name: text("team"),
            url: text("url"),
            bot_user: text("user_id"),
            bot_id: text("bot_id"),
            index,
        };
        workspaces.insert(team, std::sync::Arc::new(workspace));
        drop(workspaces);
        self.0.connections.send_modify(|count| *count += 1);
        self.0.gone.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
        Ok(())
    }
}

/// The one method without which a workspace is of no use.
const NEEDED: &str = "chat.postMessage";

/// What people have to do about a call that failed, if only they can do something.
fn trouble_words(error: &SlackError) -> Option<String> {
    let words = match error.code.as_str() {
        "missing_scope" => {
            let scope = error.scope.as_deref().unwrap_or("that it needs");
            format!(
                "{} needs the scope {scope}, which the app was not granted: add it under OAuth & Permissions and \
                 install the app again",
                error.method
            )
        }
        "invalid_auth" | "not_authed" => {
            "Slack does not know the bot token: copy it again from OAuth & Permissions of the app".to_owned()
        }
        "token_revoked" => "the bot token was revoked: install the app again and set the new token".to_owned(),
        "token_expired" => {
            "the bot token has expired: turn token rotation off for the app, install it again and set the new token"
                .to_owned()
        }
        "account_inactive" => {
            "the app was removed from the workspace, or its user was deactivated: install it again and set the new token"
                .to_owned()
        }
        "not_allowed_token_type" => "the token is of the wrong kind: use the one that begins with xoxb-".to_owned(),
        "team_access_not_granted" | "access_denied" | "org_login_required" | "ekm_access_denied" => {
            format!("Slack does not let the app into this workspace ({}): ask an admin of the workspace", error.code)
        }
        _ => return None,
    };
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(method: &str, channel: &str) -> Key {
        ("T1".to_owned(), method.to_owned(), channel.to_owned())
    }

    #[test]
    fn a_channel_takes_a_few_messages_at_once_and_then_one_a_second() {
        let gates = Gates::default();
        let start = Instant::now();
        let keys = [(key("chat.postMessage", "C1"), CHANNEL_QUOTA)];
        let until = start + SECOND * 100;
        let turns: Vec<u64> =
            (0..7).map(|_| (gates.take(&keys, start, until, SECOND).unwrap() - start).as_secs()).collect();
        assert_eq!(turns, [0, 0, 0, 1, 2, 3, 4]);
        let other = [(key("chat.postMessage", "C2"), CHANNEL_QUOTA)];
        assert_eq!(gates.take(&other, start, until, SECOND).unwrap(), start, "another channel does not wait");
        assert_eq!(
            gates.take(&keys, start, start + SECOND * 3, SECOND),
            Err(start + SECOND * 5),
            "who would wait too long"
        );
        assert_eq!(gates.take(&keys, start, until, SECOND), Ok(start + SECOND * 5), "takes no turn away");
        let later = start + SECOND * 60;
        assert_eq!(gates.take(&keys, later, until, SECOND), Ok(later));
    }

    #[test]
    fn what_is_only_shown_leaves_calls_to_decisions() {
        let gates = Gates::default();
        let now = Instant::now();
        let method = "usergroups.users.list";
        let shown = [(key(method, ""), sparing(quota(method)))];
        let decided = [(key(method, ""), quota(method))];
        let shows = (0..9).filter(|_| gates.take(&shown, now, now, SECOND).is_ok()).count();
        let decisions = (0..9).filter(|_| gates.take(&decided, now, now, SECOND).is_ok()).count();
        assert_eq!((shows, decisions), (2, 3));
        assert_eq!(gates.take(&shown, now, now, SECOND), Err(now + SECOND * 12));
        assert_eq!(gates.take(&decided, now, now, SECOND), Err(now + SECOND * 3), "who waits has no turn yet");
    }

    #[test]
    fn a_retry_after_closes_exactly_what_it_was_said_of() {
        let gates = Gates::default();
        let start = Instant::now();
        gates.close(&key("chat.postMessage", "C1"), start + SECOND * 7);
        gates.close(&key("chat.postMessage", "C1"), start + SECOND * 2);
        let after = |method: &str, channel: &str| {
            let keys = [(key(method, ""), quota(method)), (key(method, channel), CHANNEL_QUOTA)];
            (gates.take(&keys, start, start + SECOND * 60, SECOND).unwrap() - start).as_secs()
        };
        assert_eq!(after("chat.postMessage", "C2"), 0);
        assert_eq!(after("chat.update", "C1"), 0);
        assert_eq!(after("chat.postMessage", "C1"), 7);
    }

    #[test]
    fn what_slack_adds_to_an_error_is_in_it_and_nothing_else_of_the_body() {
        let body = json!({
            "ok": false, "error": "missing_scope", "needed": "usergroups:read", "provided": "chat:write,im:write",
            "text": "a secret of somebody"
        });
        let error = refused("usergroups.users.list", "missing_scope", &body);
        assert_eq!(
            error.to_string(),
            "Slack, usergroups.users.list: missing_scope (needs the scope usergroups:read; granted are chat:write,im:write)"
        );
        assert_eq!(error.short(), "missing_scope usergroups:read");
        let body = json!({"error": "invalid_blocks", "errors": ["no more than 50 items"],
            "response_metadata": {"messages": ["[ERROR] no more than 50 items [json-pointer:/blocks]"]}});
        let error = refused("chat.postMessage", "invalid_blocks", &body);
        assert_eq!(error.detail, "no more than 50 items; [ERROR] no more than 50 items [json-pointer:/blocks]");
        assert!(!error.is_transient() && error.scope.is_none());
    }
}
