//! The section `[slack]`: what belongs together, how tokens look, what an id is.
//!
//! It knows nothing of agents (`app` checks that those that are named exist) and asks Slack nothing (`doctor` does).
//! No token is ever quoted: a problem names the setting or the variable.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{is_loopback, variable_name};
use crate::agent::{Policy, Route};

/// The Slack surface. Without a bot token and without workspaces there is none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    pub bot_token: SecretString,
    /// With it, events come by Socket Mode.
    pub app_token: SecretString,
    /// With it, events are taken by HTTP.
    pub signing_secret: SecretString,
    /// Base of the Web API.
    pub api_url: String,
    /// The slash command as the app's manifest names it: `/agent`.
    pub command: String,
    /// The agent of conversations that name none.
    pub agent: String,
    /// What an agent hears of a thread in which it takes part.
    pub threads: Threads,
    /// Channels with an agent or a `threads` of their own.
    pub channels: Vec<SlackChannel>,
    pub workspaces: Vec<SlackWorkspace>,
    /// Name of the reaction that stops a run.
    pub stop_reaction: String,
    /// Whether people see what a run is at: a reaction, a status line, the state of the session.
    pub progress: bool,
    /// Largest file that is read into a conversation, in bytes.
    pub max_file: usize,
    /// Messages that are read when an agent joins a conversation.
    pub max_earlier: usize,
}

/// A channel whose conversations have an agent or a `threads` of their own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackChannel {
    /// `C…` or `G…`.
    pub id: String,
    /// Empty: the agent of conversations that name none.
    #[serde(default)]
    pub agent: String,
    /// What the agent hears there; without it, `slack.threads`.
    #[serde(default)]
    pub threads: Option<Threads>,
}

/// What an agent hears of a thread in which it takes part. Direct messages are always for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Threads {
    /// Everything that people write there.
    All,
    /// What mentions it or begins with its sign, and the word to stop. The others can talk beside it without their
    /// words counting as asked.
    Mentions,
}

/// One more workspace. The variables hold the tokens, never this file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackWorkspace {
    /// `T…`.
    pub team: String,
    #[serde(deserialize_with = "variable_name")]
    pub bot_token_env: String,
    /// Empty, as is `signing_secret_env`: the app of `slack.app_token`.
    #[serde(default, deserialize_with = "variable_name_or_none")]
    pub app_token_env: String,
    /// Empty, as is `app_token_env`: the app of `slack.signing_secret`.
    #[serde(default, deserialize_with = "variable_name_or_none")]
    pub signing_secret_env: String,
}

fn variable_name_or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    use serde::de::IntoDeserializer as _;
    let name = String::deserialize(deserializer)?;
    if name.is_empty() { Ok(name) } else { variable_name(name.into_deserializer()) }
}

/// Longest id of anything in Slack that is taken; today's have 9 to 11 characters.
const MAX_ID: usize = 64;
/// Longest name of a slash command, with its slash: a limit of the manifest.
const MAX_COMMAND: usize = 32;
/// Shortest signing secret that is believed to be one: Slack's have 32 characters.
const MIN_SIGNING_SECRET: usize = 16;
/// Shortest word that is taken for an id of Slack because of how it looks: `U0123`.
const MIN_BARE_ID: usize = 5;
/// Shortest one whose second character is a letter, as in `UBQ4J5K2X`: shorter ones may be words of people.
const MIN_LETTERED_ID: usize = 9;

/// What a secret of Slack is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bot,
    App,
    Signing,
}

impl SlackConfig {
    /// Whether there is a Slack surface at all.
    pub fn is_on(&self) -> bool {
        is_set(&self.bot_token) || !self.workspaces.is_empty()
    }

    /// The variables that hold secrets of workspaces.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.workspaces.iter().flat_map(SlackWorkspace::variables)
    }

    /// What is wrong with the section, one sentence each. `at` says where a setting comes from, `variable` gives
    /// what a variable of a workspace holds. One that is not set is no problem here: commands that only look do
    /// without it.
    pub(super) fn problems<'a>(
        &self,
        at: impl Fn(&str) -> String,
        variable: impl Fn(&str) -> Option<&'a SecretString>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        let (bot, app, signing) = (is_set(&self.bot_token), is_set(&self.app_token), is_set(&self.signing_secret));
        if bot && !app && !signing {
            problems.push(format!(
                "{}: `slack.bot_token` is set, but nothing brings events in; set SLACK_APP_TOKEN (Socket Mode, no public address needed) or SLACK_SIGNING_SECRET (HTTP)",
                at("slack.bot_token")
            ));
        }
        for (path, given, variable) in
            [("slack.app_token", app, "SLACK_APP_TOKEN"), ("slack.signing_secret", signing, "SLACK_SIGNING_SECRET")]
        {
            if given && !self.is_on() {
                problems.push(format!(
                    "{}: `{path}` is set, but `slack.bot_token` (SLACK_BOT_TOKEN) is not, and without it nothing can be said in Slack; set it, or take {variable} away",
                    at(path)
                ));
            }
        }
        let secure = self.api_url.starts_with("https://") || is_loopback(&self.api_url);
        if !secure {
            problems.push(format!(
                "{}: `slack.api_url` has to begin with https://, since tokens are sent there (http:// only to this machine)",
                at("slack.api_url")
            ));
        }
        for (path, kind, secret) in [
            ("slack.bot_token", Kind::Bot, &self.bot_token),
            ("slack.app_token", Kind::App, &self.app_token),
            ("slack.signing_secret", Kind::Signing, &self.signing_secret),
        ] {
            if let Some(why) = secret_problem(kind, secret, &self.api_url) {
                problems.push(format!("{}: `{path}` {why}", at(path)));
            }
        }
        problems.extend(self.workspace_problems(&at("slack.workspaces"), app || signing, variable));
        let mut seen = BTreeSet::new();
        for channel in &self.channels {
            let at = at("slack.channels");
            if !is_id(&channel.id, "CGD") {
                problems.push(format!(
                    "{at}: `slack.channels`: `{}` is no channel's id; it is the one that begins with C or G, at the end of the channel's details in Slack",
                    shown(&channel.id)
                ));
            } else if !seen.insert(&channel.id) {
                problems
                    .push(format!("{at}: `slack.channels`: `{}` is there twice; a channel has one agent", channel.id));
            }
        }
        if !is_slash_command(&self.command) {
            problems.push(format!(
                "{}: `slack.command` has to be a slash and then letters in lower case, digits, - and _, at most {MAX_COMMAND} characters, as \"/agent\"; it is `{}`",
                at("slack.command"),
                shown(&self.command)
            ));
        }
        let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'+' | b'\'');
        if !self.stop_reaction.bytes().all(named) {
            problems.push(format!(
                "{}: `slack.stop_reaction` is the name of an emoji without colons, as \"octagonal_sign\"; it is `{}`",
                at("slack.stop_reaction"),
                shown(&self.stop_reaction)
            ));
        }
        problems
    }

    /// Where requests are routed to, as far as it can be nowhere in Slack: one sentence each, with what was probably
    /// meant. Nothing without a Slack surface.
    pub fn route_problems(&self, policy: &Policy) -> Vec<String> {
        if !self.is_on() {
            return Vec::new();
        }
        let rules = policy.rules.iter().filter_map(|rule| {
            let what = format!("the rule `{}`", shown(&rule.name));
            rule.route.as_ref().map(|route| (what, route))
        });
        let all = [("`approvals.route`".to_owned(), &policy.route)].into_iter().chain(rules);
        let wrong = |route: &Route| named_problem(Named::Route, &route.channel);
        all.filter(|(_, route)| !route.channel.is_empty())
            .filter_map(|(what, route)| wrong(route).map(|why| format!("{what}: `{}` {why}", shown(&route.channel))))
            .collect()
    }

    fn workspace_problems<'a>(
        &self,
        at: &str,
        shared_app: bool,
        variable: impl Fn(&str) -> Option<&'a SecretString>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        let (mut teams, mut tokens) = (BTreeSet::new(), BTreeSet::new());
        let held = |secret: &SecretString| secret.expose_secret().trim().to_owned();
        let first = is_set(&self.bot_token).then(|| ("SLACK_BOT_TOKEN", held(&self.bot_token)));
        let mut values: Vec<(&str, String)> = first.into_iter().collect();
        for (number, workspace) in self.workspaces.iter().enumerate() {
            let mut wrong = |why: String| {
                problems.push(format!("{at}: Slack workspace {} `{}`: {why}", number + 1, shown(&workspace.team)));
            };
            if !is_id(&workspace.team, "TE") {
                wrong("that is no team's id; it begins with T (E for a whole organisation) and stands in the address of Slack in a browser, https://app.slack.com/client/T…".to_owned());
            } else if !teams.insert(&workspace.team) {
                wrong("it is there twice; one app is installed once in a workspace".to_owned());
            }
            if !tokens.insert(&workspace.bot_token_env) {
                wrong(format!(
                    "{} is the variable of another workspace; each has a bot token of its own",
                    workspace.bot_token_env
                ));
            } else if let Some(token) = variable(&workspace.bot_token_env).map(held) {
                match values.iter().find(|(_, known)| *known == token) {
                    Some((name, _)) => wrong(format!(
                        "{} holds the same token as {name}; each workspace has a bot token of its own, so set the one that its installation was given, or take it out",
                        workspace.bot_token_env
                    )),
                    None => values.push((&workspace.bot_token_env, token)),
                }
            }
            if workspace.uses_shared_app() && !shared_app {
                wrong("nothing brings its events in; give it `app_token_env` or `signing_secret_env`, or set SLACK_APP_TOKEN or SLACK_SIGNING_SECRET for all".to_owned());
            }
            for (kind, name) in [
                (Kind::Bot, &workspace.bot_token_env),
                (Kind::App, &workspace.app_token_env),
                (Kind::Signing, &workspace.signing_secret_env),
            ] {
                if let Some(why) = variable(name).and_then(|secret| secret_problem(kind, secret, &self.api_url)) {
                    wrong(format!("{name} {why}"));
                }
            }
        }
        problems
    }

    /// What has to be set before the service may start: one sentence for each variable that a workspace names and
    /// that is not set.
    pub fn missing<'a>(&self, variable: impl Fn(&str) -> Option<&'a SecretString>) -> Vec<String> {
        let missing = |workspace: &SlackWorkspace| -> Vec<String> {
            let unset = workspace.variables().filter(|name| variable(name).is_none());
            unset.map(|name| format!("Slack workspace `{}`: {name} is not set; set it, or take the workspace out of `slack.workspaces`", workspace.team)).collect()
        };
        self.workspaces.iter().flat_map(missing).collect()
    }
}

impl SlackWorkspace {
    /// Whether it is an installation of the app whose token and signing secret stand beside all workspaces.
    pub fn uses_shared_app(&self) -> bool {
        self.app_token_env.is_empty() && self.signing_secret_env.is_empty()
    }

    fn variables(&self) -> impl Iterator<Item = &str> {
        [&self.bot_token_env, &self.app_token_env, &self.signing_secret_env]
            .into_iter()
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }
}

fn is_set(secret: &SecretString) -> bool {
    !secret.expose_secret().is_empty()
}

/// Whether this is the Web API of Slack itself, whose tokens are known by how they begin.
pub fn is_slack_itself(api_url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(api_url) else { return false };
    let is = |domain: &str| url.host_str().is_some_and(|host| host == domain || host.ends_with(&format!(".{domain}")));
    is("slack.com") || is("slack-gov.com")
}

/// What follows the name of a setting that holds no such secret.
fn secret_problem(kind: Kind, secret: &SecretString, api_url: &str) -> Option<String> {
    let text = secret.expose_secret();
    if text.is_empty() {
        return None;
    }
    if text.trim().is_empty() {
        return Some("is nothing but blanks; set it, or leave it out".to_owned());
    }
    if !text.trim().bytes().all(|b| b.is_ascii_graphic()) {
        return Some("holds blanks, line ends or signs that no secret of Slack has; copy it again".to_owned());
    }
    // A fake or a compatible server may give out what it likes.
    if !is_slack_itself(api_url) {
        return None;
    }
    let text = text.trim();
    let (bot, app) = (text.starts_with("xoxb-"), text.starts_with("xapp-"));
    let why = match kind {
        Kind::Bot if bot => return None,
        Kind::Bot if app => {
            "holds an app-level token (xapp-…): the two look swapped; this one is the Bot User OAuth Token (xoxb-…)"
        }
        Kind::Bot if text.starts_with("xoxp-") => {
            "holds a user's token (xoxp-…); take the Bot User OAuth Token (xoxb-…), under OAuth & Permissions"
        }
        Kind::Bot if text.starts_with("xoxe") => {
            "holds a token that expires (xoxe…); switch token rotation off for the app, and install it again"
        }
        Kind::Bot => "does not begin with xoxb-; take the Bot User OAuth Token, under OAuth & Permissions",
        Kind::App if app => return None,
        Kind::App if bot => {
            "holds a bot token (xoxb-…): the two look swapped; this one is the app-level token (xapp-…)"
        }
        Kind::App => {
            "does not begin with xapp-; make an app-level token with the scope connections:write, under Basic Information"
        }
        Kind::Signing if text.starts_with("xox") || app => {
            "holds a token; take the Signing Secret, under Basic Information, App Credentials"
        }
        Kind::Signing if text.len() < MIN_SIGNING_SECRET => {
            "is too short for a signing secret; take the Signing Secret, under Basic Information, App Credentials"
        }
        Kind::Signing => return None,
    };
    Some(why.to_owned())
}

/// Whether this can be the name of a slash command: a slash, then letters in lower case, digits, `-` and `_`; at most 32
/// characters.
pub fn is_slash_command(text: &str) -> bool {
    let rest = text.strip_prefix('/').unwrap_or("");
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    !rest.is_empty() && text.len() <= MAX_COMMAND && rest.bytes().all(allowed)
}

/// Whether this is an id of Slack that begins with one of these letters.
fn is_id(text: &str, first: &str) -> bool {
    let rest = text.strip_prefix(|c| first.contains(c)).unwrap_or("");
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    !rest.is_empty() && text.len() <= MAX_ID && rest.bytes().all(allowed)
}

/// What an id of the settings stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    User,
    Group,
    Route,
}

impl Named {
    /// What an id of its kind begins with, after the team.
    fn letters(self) -> &'static str {
        match self {
            Self::User => "UW",
            Self::Group => "SCG",
            Self::Route => "CGD",
        }
    }

    fn form(self) -> &'static str {
        match self {
            Self::User => "slack:T…:U… (a profile in Slack -> … -> Copy member ID)",
            Self::Group => "slack:T…:S… (a user group) or slack:T…:C… (the members of a channel)",
            Self::Route => "slack:T…:C… (the channel's details in Slack, at the end)",
        }
    }
}

/// What is wrong with the id of a person, after the id itself; `None` if it can be one of Slack, or is another
/// surface's.
pub(super) fn user_problem(id: &str) -> Option<String> {
    named_problem(Named::User, id)
}

/// The same for a group.
pub(super) fn group_problem(id: &str) -> Option<String> {
    named_problem(Named::Group, id)
}

/// What is wrong with an id that a setting names, and what was probably meant. `None` if it can be one, or if it is
/// another surface's.
fn named_problem(kind: Named, id: &str) -> Option<String> {
    let words = |why: &str| Some(why.to_owned());
    let word = id.trim();
    // Ids are compared as they stand: neither a blank nor a capital letter is forgiven.
    let ours = word.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("slack:"));
    if ours {
        let parts: Vec<&str> = word.split(':').collect();
        let (team, who) = match *parts.as_slice() {
            [surface, team, who] if surface == "slack" && word == id => (team, who),
            [_, one] if is_id(one, kind.letters()) => {
                return words(&format!(
                    "lacks the team: write slack:T…:{one}; the team's id stands in the address of Slack in a browser, https://app.slack.com/client/T…"
                ));
            }
            [_, team, who] if is_id(team, "TE") && is_id(who, kind.letters()) => {
                return words(&format!("is compared letter by letter: write slack:{team}:{who}"));
            }
            _ => return words(&format!("is no id in Slack; write {}", kind.form())),
        };
        if !is_id(team, "TE") {
            return words(
                "names no team: a team's id begins with T (E for a whole organisation), and stands in the address of Slack in a browser, https://app.slack.com/client/T…",
            );
        }
        if is_id(who, kind.letters()) {
            return None;
        }
        return match kind {
            Named::User if is_id(who, "SCG") => words("is a group or a channel, not a person; name it under `groups`"),
            Named::Group if is_id(who, "UW") => words("is a person, not a group; name them under `users`"),
            Named::Route if is_id(who, "UW") => words(&format!(
                "is a person, not a channel; write {}, or `direct = true` for copies to those who decide",
                kind.form()
            )),
            Named::Route if is_id(who, "S") => words(&format!("is a user group, not a channel; write {}", kind.form())),
            _ => words(&format!("is no id in Slack; write {}", kind.form())),
        };
    }
    if word.starts_with(['#', '@']) {
        return words(&format!(
            "is a name; Slack's ids do not change when people rename things: write {}",
            kind.form()
        ));
    }
    if is_bare_id(word) {
        return match kind {
            Named::User if word.starts_with(['U', 'W']) => {
                words(&format!("lacks the surface and the team: write slack:T…:{word}"))
            }
            Named::Group if word.starts_with(['S', 'C', 'G']) => {
                words(&format!("lacks the surface and the team: write slack:T…:{word}"))
            }
            Named::Route if word.starts_with(['C', 'G', 'D']) => {
                words(&format!("lacks the surface and the team: write slack:T…:{word}"))
            }
            _ => words(&format!("looks like an id of Slack's of another kind; write {}", kind.form())),
        };
    }
    // Requests go nowhere else yet.
    if kind == Named::Route { words(&format!("is no channel in Slack; write {}", kind.form())) } else { None }
}

/// Whether a word looks like an id of Slack without its surface. All of Slack's have a digit; most begin with one.
/// Names of groups such as `SECURITY` or `TEAM1` do not look like one.
fn is_bare_id(word: &str) -> bool {
    let second = word.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    is_id(word, "UWSCGTED")
        && word.bytes().any(|b| b.is_ascii_digit())
        && word.len() >= if second { MIN_BARE_ID } else { MIN_LETTERED_ID }
}

/// What stands where an id should: short, and no secret, which is what people paste.
fn shown(text: &str) -> String {
    super::shown("", text)
}
