//! Slack, as `doctor` looks at it: tokens, scopes held against features, Socket Mode or HTTP, and whether the people,
//! groups and channels that the settings name are there. It only reads, and no token is in anything that it says.
//!
//! It asks by a client of its own: what was granted stands in a header, which the Web API's client does not show.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::{Line, failed, off, ok, warn};
use crate::app::{Blueprint, workspaces};
use crate::cli::words::{count, quote};
use crate::config::{SlackConfig, is_loopback};
use crate::platform::slack::manifest::{SOCKET_SCOPE, missing, scopes};
use crate::platform::slack::{Place, WorkspaceSettings, person_parts};

const CHECK: &str = "slack";
const SCOPES: &str = "slack scopes";
const SOCKET: &str = "slack socket";
const HTTP: &str = "slack http";
const APPROVERS: &str = "slack approvers";
const CHANNELS: &str = "slack channels";
/// How long one answer of Slack may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes. A user group of 10,000 has 130 kB.
const MAX_ANSWER: usize = 1 << 20;
/// People, groups and channels that are looked up at most: Slack allows 20 a minute of some.
const MAX_LOOKUPS: usize = 40;
/// Approvers of other surfaces that are named at most.
const MAX_SHOWN: usize = 20;
/// Where an app's settings are.
const APPS: &str = "https://api.slack.com/apps -> the app";

/// Why Slack did not say what was asked: its own code, or `timeout`, `unreachable`, `odd_answer`.
struct Refused {
    code: String,
    /// The scope that is missing, if that is why.
    needed: Option<String>,
}

impl Refused {
    fn new(code: &str) -> Self {
        Self { code: code.to_owned(), needed: None }
    }

    fn words(&self) -> String {
        match &self.needed {
            Some(scope) => format!("{}: {}", quote(&self.code), quote(scope)),
            None => quote(&self.code),
        }
    }

    fn is_network(&self) -> bool {
        matches!(self.code.as_str(), "timeout" | "unreachable" | "odd_answer") || self.code.starts_with("http_")
    }

    fn is_passing(&self) -> bool {
        self.code == "ratelimited" || self.is_network()
    }
}

struct Answer {
    body: Value,
    /// What the token was granted, if Slack says so.
    scopes: Option<String>,
}

struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    fn new(base: &str) -> anyhow::Result<Self> {
        // Directly and without redirects, as the service itself goes there.
        let http = reqwest::Client::builder()
            .user_agent(concat!("twelve/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    async fn ask(&self, token: &SecretString, method: &str, params: &[(&str, &str)]) -> Result<Answer, Refused> {
        let url = format!("{}/{method}", self.base);
        // What reads takes its parameters in the address; the two without any want a POST.
        let request = if params.is_empty() { self.http.post(url) } else { self.http.get(url).query(params) };
        let request = request.bearer_auth(token.expose_secret());
        let failed = |e: reqwest::Error| Refused::new(if e.is_timeout() { "timeout" } else { "unreachable" });
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status.as_u16() == 429 {
            return Err(Refused::new("ratelimited"));
        }
        if !status.is_success() {
            return Err(Refused::new(&format!("http_{}", status.as_u16())));
        }
        let scopes = response.headers().get("x-oauth-scopes").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return Err(Refused::new("odd_answer"));
            }
        }
        let body: Value = serde_json::from_slice(&bytes).map_err(|_| Refused::new("odd_answer"))?;
        if body["ok"] == true {
            return Ok(Answer { body, scopes });
        }
        let text = |key: &str| body[key].as_str().map(str::to_owned);
        Err(Refused { code: text("error").unwrap_or_else(|| "odd_answer".to_owned()), needed: text("needed") })
    }
}

pub(super) async fn lines(blueprint: &Blueprint, offline: bool) -> Vec<Line> {
    let config = blueprint.config();
    let slack = &config.slack;
    if !slack.is_on() {
        return vec![
            off(CHECK, "no bot token is set, so there is no Slack")
                .next("docs/slack.md goes through it; `twelve manifest slack` prints the app's manifest"),
        ];
    }
    let unset = slack.missing(|name| blueprint.loaded.secret_in(name));
    let mut lines: Vec<Line> = unset.into_iter().map(|why| failed(CHECK, why)).collect();
    let installed = workspaces(&blueprint.loaded);
    lines.push(agents(slack));
    lines.extend(http(&config.http.public_url, &installed));
    if offline {
        let says = format!("{} set up; not asked (--offline)", count(installed.len(), "workspace"));
        lines.push(off(CHECK, says));
        return lines;
    }
    let client = match Client::new(&slack.api_url) {
        Ok(client) => client,
        Err(error) => return vec![failed(CHECK, format!("Slack cannot be asked: {error:#}"))],
    };
    let mut teams = BTreeMap::new();
    for workspace in &installed {
        lines.extend(connection(&client, workspace, &mut teams).await);
    }
    lines.extend(sockets(&client, &installed).await);
    let mut lookups = Lookups { client: &client, teams: &teams, done: 0 };
    lines.extend(named_people(&mut lookups, blueprint).await);
    lines.extend(named_channels(&mut lookups, blueprint).await);
    if !teams.is_empty() {
        lines.push(
            off("slack app home", "Slack does not say whether the Home tab and the events are switched on")
                .next(format!("if the Home tab is empty or mentions do not arrive: paste `twelve manifest slack` at {APPS} -> App Manifest, save, install again")),
        );
    }
    lines
}

/// Who answers where. That these agents are there was checked with the configuration.
fn agents(slack: &SlackConfig) -> Line {
    let channels: Vec<String> =
        slack.channels.iter().map(|c| format!("{} to {}", quote(&c.id), quote(&c.agent))).collect();
    let own = if channels.is_empty() { String::new() } else { format!("; {}", channels.join(", ")) };
    ok(CHECK, format!("conversations go to the agent {}{own}", quote(&slack.agent)))
}

/// One token: whose it is, and what it may do. Who is connected is put into `teams`.
async fn connection<'w>(
    client: &Client,
    workspace: &'w WorkspaceSettings,
    teams: &mut BTreeMap<String, &'w WorkspaceSettings>,
) -> Vec<Line> {
    let label = workspace.team.as_deref().unwrap_or("SLACK_BOT_TOKEN");
    let answer = match client.ask(&workspace.bot_token, "auth.test", &[]).await {
        Ok(answer) => answer,
        Err(refused) => return vec![not_connected(label, &refused)],
    };
    let text = |key: &str| answer.body[key].as_str().unwrap_or_default().to_owned();
    let whole = answer.body["is_enterprise_install"] == true && !text("enterprise_id").is_empty();
    let team = if whole { text("enterprise_id") } else { text("team_id") };
    let name = quote(&text("team"));
    if workspace.team.as_ref().is_some_and(|configured| *configured != team) {
        let says = format!("{label}: its token is for {name} ({})", quote(&team));
        return vec![failed(CHECK, says).next("give each workspace the token of its own installation")];
    }
    if teams.insert(team.clone(), workspace).is_some() {
        let says = format!("{label}: another token is for {name} ({}) already", quote(&team));
        return vec![failed(CHECK, says).next("take one of the two away; one app is installed once in a workspace")];
    }
    let mut lines = vec![ok(
        CHECK,
        format!("{name} ({}): connected as @{} ({})", quote(&team), quote(&text("user")), quote(&text("user_id"))),
    )];
    let Some(granted) = &answer.scopes else {
        let says = format!("{name}: this server does not say which scopes were granted");
        lines.push(warn(SCOPES, says));
        return lines;
    };
    let granted: BTreeSet<&str> = granted.split(',').map(str::trim).filter(|scope| !scope.is_empty()).collect();
    let lacking = missing(&granted);
    if lacking.is_empty() {
        lines.push(ok(SCOPES, format!("{name}: all {} are granted", scopes().len())));
    }
    lines.extend(lacking.into_iter().map(|(scope, lost)| {
        let says = format!("{name}: missing {scope}: {} will not work", lost.join("; "));
        let next = format!("add {scope} at {APPS} -> OAuth & Permissions -> Scopes -> Bot Token Scopes, then install the app again (Install App -> Reinstall)");
        // Without these nobody can talk to it; the others take a part away.
        let vital = matches!(scope, "chat:write" | "app_mentions:read");
        if vital { failed(SCOPES, says) } else { warn(SCOPES, says) }.next(next)
    }));
    lines
}

fn not_connected(label: &str, refused: &Refused) -> Line {
    let says = |what: &str| format!("{label}: {what} ({})", refused.words());
    match refused.code.as_str() {
        "invalid_auth" | "not_authed" | "not_allowed_token_type" => {
            failed(CHECK, says("Slack does not take the token"))
                .next(format!("copy the Bot User OAuth Token again: {APPS} -> OAuth & Permissions"))
        }
        "account_inactive" | "token_revoked" => failed(CHECK, says("the app is no longer installed there"))
            .next(format!("install it again: {APPS} -> Install App; then set the new Bot User OAuth Token")),
        "token_expired" => failed(CHECK, says("the token has expired"))
            .next(format!("make the app from `twelve manifest slack`, which has token rotation off: {APPS}")),
        "ratelimited" => warn(CHECK, says("Slack is asked too often")).next("ask again in a minute"),
        _ if refused.is_network() => failed(CHECK, says("Slack could not be asked"))
            .next("check the network and `slack.api_url`; Slack is reached directly, not through a proxy"),
        _ => failed(CHECK, says("Slack refuses the token"))
            .next("https://docs.slack.dev/reference/methods/auth.test says what that means"),
    }
}

/// Whether a connection can be opened with each app-level token. Nothing connects: Slack only gives an address.
async fn sockets(client: &Client, installed: &[WorkspaceSettings]) -> Vec<Line> {
    let mut tokens: Vec<&SecretString> = Vec::new();
    for token in installed.iter().filter_map(|workspace| workspace.app_token.as_ref()) {
        if !tokens.iter().any(|known| known.expose_secret() == token.expose_secret()) {
            tokens.push(token);
        }
    }
    if tokens.is_empty() {
        return vec![off(SOCKET, "no app-level token is set: Slack delivers by HTTP")];
    }
    let mut lines = Vec::new();
    for (number, token) in tokens.iter().enumerate() {
        let label = if tokens.len() > 1 { format!("app {}: ", number + 1) } else { String::new() };
        lines.push(match client.ask(token, "apps.connections.open", &[]).await {
            Ok(_) => ok(SOCKET, format!("{label}Socket Mode is on, a connection can be opened")),
            Err(refused) if refused.code == "missing_scope" => {
                failed(SOCKET, format!("{label}the app-level token lacks the scope {SOCKET_SCOPE}"))
                    .next(format!("make one with it: {APPS} -> Basic Information -> App-Level Tokens, and set SLACK_APP_TOKEN"))
            }
            Err(refused) if refused.is_passing() => {
                warn(SOCKET, format!("{label}Slack could not be asked ({})", refused.words())).next("ask again in a minute")
            }
            Err(refused) => failed(SOCKET, format!("{label}no connection can be opened ({})", refused.words())).next(
                format!("switch Socket Mode on: {APPS} -> Socket Mode; and check the app-level token under Basic Information"),
            ),
        });
    }
    lines
}

/// Whether Slack can reach us, where it is to.
fn http(public_url: &str, installed: &[WorkspaceSettings]) -> Vec<Line> {
    if installed.iter().all(|workspace| workspace.signing_secret.is_none()) {
        return vec![off(HTTP, "no signing secret is set: nothing is taken by HTTP")];
    }
    // Where Socket Mode brings the events, an address is not needed.
    let needed = installed.iter().any(|workspace| workspace.app_token.is_none());
    let at = public_url.trim_end_matches('/');
    let reachable = at.starts_with("https://") && !is_loopback(at);
    let next = "set `http.public_url` (TWELVE__HTTP__PUBLIC_URL) to the https address that reaches this service, and give the same to `twelve manifest slack --url`";
    vec![match (reachable, needed) {
        (true, _) => ok(HTTP, format!("signed deliveries are taken; Slack has to be told {at}/slack/events")),
        (false, true) => {
            warn(HTTP, "a signing secret is set, but no https address under which Slack reaches this service")
                .next(next)
        }
        (false, false) => off(HTTP, "a signing secret is set, and no https address: deliveries come by Socket Mode"),
    }]
}

/// Asks for things that the settings name, up to a bound.
struct Lookups<'a> {
    client: &'a Client,
    teams: &'a BTreeMap<String, &'a WorkspaceSettings>,
    done: usize,
}

impl Lookups<'_> {
    /// `None`: enough was asked.
    async fn ask(&mut self, team: &str, method: &str, params: &[(&str, &str)]) -> Option<Result<Value, Refused>> {
        if self.done >= MAX_LOOKUPS {
            return None;
        }
        let workspace = self.teams.get(team)?;
        self.done += 1;
        Some(self.client.ask(&workspace.bot_token, method, params).await.map(|answer| answer.body))
    }
}

/// Everybody whom the settings name as approver in Slack, with what names them.
async fn named_people(lookups: &mut Lookups<'_>, blueprint: &Blueprint) -> Vec<Line> {
    let mut named: BTreeMap<&str, &str> = BTreeMap::new();
    let mut others: BTreeSet<&str> = BTreeSet::new();
    let rules = blueprint.policy.rules.iter();
    let rules = rules.filter_map(|rule| Some((rule.name.as_str(), rule.approvers.as_ref()?)));
    let all = std::iter::once(("approvals.approvers", &blueprint.policy.approvers)).chain(rules);
    for (what, approvers) in all {
        for id in approvers.users.iter().chain(&approvers.groups).filter(|id| *id != "*") {
            match id.starts_with("slack:") {
                true => drop(named.entry(id).or_insert(what)),
                false => drop(others.insert(id)),
            }
        }
    }
    let (mut lines, mut fine, mut left) = (Vec::new(), 0, 0);
    lines.extend(elsewhere(&others));
    for (id, what) in named {
        let shown = format!("{} (named by {})", quote(id), quote(what));
        let Some((team, who)) = person_parts(id) else {
            lines.push(
                failed(APPROVERS, format!("{shown} names nobody"))
                    .next("write slack:T…:U… for a person, slack:T…:S… for a user group, slack:T…:C… for the members of a channel"),
            );
            continue;
        };
        if !lookups.teams.contains_key(team) {
            lines.push(
                failed(
                    APPROVERS,
                    format!("{shown}: the workspace {} is not connected, so nobody is let through", quote(team)),
                )
                .next("name somebody of a workspace that is, or set that workspace up"),
            );
            continue;
        }
        let (method, params) = match who.chars().next() {
            Some('S') => ("usergroups.users.list", ("usergroup", who)),
            Some('C' | 'G') => ("conversations.info", ("channel", who)),
            _ => ("users.info", ("user", who)),
        };
        match lookups.ask(team, method, &[params]).await {
            None => left += 1,
            Some(Ok(found)) => match nobody(&found) {
                None => fine += 1,
                Some(why) => lines.push(
                    warn(APPROVERS, format!("{shown}: {why}")).next("name somebody else too, or requests may expire"),
                ),
            },
            Some(Err(refused)) => lines.push(unknown(APPROVERS, &shown, &refused)),
        }
    }
    if fine > 0 {
        lines.push(ok(APPROVERS, format!("{} found where they are said to be", count(fine, "approver"))));
    }
    if left > 0 {
        lines.push(off(APPROVERS, format!("{left} more were not looked up, so as not to ask Slack too often")));
    }
    lines
}

/// Those whom Slack does not know: people of other surfaces, and groups of the proxy's header.
fn elsewhere(others: &BTreeSet<&str>) -> Option<Line> {
    if others.is_empty() {
        return None;
    }
    let shown: Vec<String> = others.iter().take(MAX_SHOWN).map(|id| quote(id)).collect();
    let more = match others.len().saturating_sub(MAX_SHOWN) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let says = format!("not looked up, since they do not begin with slack: {}{more}", shown.join(", "));
    Some(off(APPROVERS, says).next("in Slack they let nobody through; they count where people sign in otherwise"))
}

/// Why what was found lets nobody through.
fn nobody(found: &Value) -> Option<&'static str> {
    if found["users"].as_array().is_some_and(Vec::is_empty) {
        return Some("nobody is in this user group");
    }
    if found["user"]["deleted"] == true {
        return Some("this person's account is deactivated");
    }
    if found["user"]["is_bot"] == true {
        return Some("that is a bot, and no bot decides");
    }
    (found["channel"]["is_archived"] == true).then_some("the channel is archived")
}

fn unknown(check: &str, shown: &str, refused: &Refused) -> Line {
    match refused.code.as_str() {
        "missing_scope" => failed(check, format!("{shown} can't be looked up ({})", refused.words()))
            .next("add the scope as said above, and install the app again"),
        "user_not_found" | "users_not_found" | "no_such_subteam" | "subteam_not_found" => {
            failed(check, format!("{shown} is not there ({})", refused.words()))
                .next("look the id up in Slack: a person's profile -> … -> Copy member ID; a user group's or channel's details, at the end")
        }
        "channel_not_found" => failed(check, format!("{shown} is not there, or is private and the bot is not in it"))
            .next("check the id; in a private channel, /invite the bot"),
        _ => warn(check, format!("{shown} could not be looked up ({})", refused.words())).next("ask again in a minute"),
    }
}

/// The channels that requests are routed to, and those with an agent of their own: the bot has to be in them.
async fn named_channels(lookups: &mut Lookups<'_>, blueprint: &Blueprint) -> Vec<Line> {
    let mut named: BTreeMap<(Option<String>, String), String> = BTreeMap::new();
    let policy = &blueprint.policy;
    let routes = std::iter::once(("approvals.route".to_owned(), &policy.route));
    let routes =
        routes.chain(policy.rules.iter().filter_map(|r| Some((format!("the rule {}", r.name), r.route.as_ref()?))));
    let mut lines = Vec::new();
    for (what, route) in routes.filter(|(_, route)| route.channel.starts_with("slack:")) {
        match Place::parse(&route.channel) {
            Some(place) => drop(named.entry((Some(place.team), place.channel)).or_insert(what)),
            None => lines.push(
                failed(CHANNELS, format!("{} (of {}) is no channel", quote(&route.channel), quote(&what)))
                    .next("write slack:T…:C…"),
            ),
        }
    }
    for channel in &blueprint.config().slack.channels {
        // Its settings name no team: it is where it is found.
        named.entry((None, channel.id.clone())).or_insert_with(|| "slack.channels".to_owned());
    }
    for ((team, channel), what) in named {
        let shown = format!("{} (of {})", quote(&channel), quote(&what));
        let teams: Vec<String> = match team {
            Some(team) if !lookups.teams.contains_key(&team) => {
                lines.push(
                    failed(
                        CHANNELS,
                        format!("{shown}: the workspace {} is not connected, so nothing is posted there", quote(&team)),
                    )
                    .next("set that workspace up, or take the channel out"),
                );
                continue;
            }
            Some(team) => vec![team],
            None => lookups.teams.keys().cloned().collect(),
        };
        let mut last = None;
        for team in teams {
            match lookups.ask(&team, "conversations.info", &[("channel", &channel)]).await {
                Some(Ok(found)) => {
                    last = Some(channel_line(&shown, &found["channel"]));
                    break;
                }
                Some(Err(refused)) => last = Some(unknown(CHANNELS, &shown, &refused)),
                None => {}
            }
        }
        lines.extend(last);
    }
    lines
}

fn channel_line(shown: &str, channel: &Value) -> Line {
    let name = quote(channel["name"].as_str().unwrap_or_default());
    if channel["is_archived"] == true {
        return failed(CHANNELS, format!("{shown}: #{name} is archived, so nothing is posted there"))
            .next("unarchive it, or name another channel");
    }
    if channel["is_member"] == false && channel["is_im"] != true {
        return failed(CHANNELS, format!("{shown}: the bot is not in #{name}, so nothing is posted there"))
            .next(format!("in #{name}: /invite the bot"));
    }
    ok(CHANNELS, format!("{shown}: the bot is in #{name}"))
}
