//! The app's manifest, and which scope each feature needs. PURE.
//!
//! [`FEATURES`] is the one table: the manifest asks for its scopes and events, `doctor` holds what was granted against
//! it, docs/slack.md lists it, and a test holds it against the methods that the program calls. Slack grants scopes
//! when the app is installed, so one that is added here reaches a workspace when the app is installed there again.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Something that people can do, and what it takes in Slack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What is lost without it; the middle of a sentence.
    pub what: &'static str,
    /// All of them are needed.
    pub scopes: &'static [&'static str],
    /// What the app subscribes to for it.
    pub events: &'static [&'static str],
}

/// Every feature. Scopes and events as <https://docs.slack.dev/reference> has them (November 2026).
pub const FEATURES: [Feature; 19] = [
    Feature { what: "answers, approval cards and questions", scopes: &["chat:write"], events: &[] },
    Feature { what: "mentions in channels", scopes: &["app_mentions:read"], events: &["app_mention"] },
    Feature {
        what: "conversations in public channels: messages without a mention, and what was said before",
        scopes: &["channels:history"],
        events: &["message.channels"],
    },
    Feature { what: "conversations in private channels", scopes: &["groups:history"], events: &["message.groups"] },
    Feature { what: "direct messages to the bot", scopes: &["im:history"], events: &["message.im"] },
    Feature { what: "conversations in group messages", scopes: &["mpim:history"], events: &["message.mpim"] },
    Feature { what: "the slash command and the shortcuts", scopes: &["commands"], events: &[] },
    Feature { what: "approvals by user groups", scopes: &["usergroups:read"], events: &[] },
    Feature {
        what: "approvals by the members of a public channel, and names of channels",
        scopes: &["channels:read"],
        events: &[],
    },
    Feature { what: "approvals by the members of a private channel", scopes: &["groups:read"], events: &[] },
    Feature {
        what: "looking at direct and group messages (`doctor` there)",
        scopes: &["im:read", "mpim:read"],
        events: &[],
    },
    Feature {
        what: "private messages: copies for approvers, and why something could not be posted",
        scopes: &["im:write"],
        events: &[],
    },
    Feature { what: "the names of people", scopes: &["users:read"], events: &[] },
    Feature {
        what: "telling who is one person by their mail address (`approvals.match_verified_mail`)",
        scopes: &["users:read.email"],
        events: &[],
    },
    Feature { what: "text files in messages", scopes: &["files:read"], events: &[] },
    Feature { what: "stopping a run by a reaction", scopes: &["reactions:read"], events: &["reaction_added"] },
    Feature { what: "the eyes on a message while a run is at work", scopes: &["reactions:write"], events: &[] },
    Feature {
        what: "the agent view: status lines, the state of a session and its stop button, suggested prompts",
        scopes: &["assistant:write"],
        events: &["agent_session_stopped"],
    },
    Feature {
        what: "the App Home, and knowing when the app is taken away",
        scopes: &[],
        events: &["app_home_opened", "app_uninstalled", "tokens_revoked"],
    },
];

/// The scope of the app-level token that Socket Mode needs. It is no scope of the bot.
pub const SOCKET_SCOPE: &str = "connections:write";

/// The callback ids of our shortcuts.
pub mod shortcut {
    /// On a message.
    pub const ABOUT: &str = "ask_about_message";
    /// Anywhere.
    pub const INBOX: &str = "open_inbox";
}

/// Longest name of an app, in characters (Slack's manifest schema).
pub const MAX_NAME: usize = 35;

/// All scopes of the bot, sorted.
pub fn scopes() -> BTreeSet<&'static str> {
    FEATURES.iter().flat_map(|feature| feature.scopes).copied().collect()
}

/// All events that the app subscribes to, sorted.
pub fn events() -> BTreeSet<&'static str> {
    FEATURES.iter().flat_map(|feature| feature.events).copied().collect()
}

/// The scopes that are not among those that were granted, sorted, each with what is lost without it.
pub fn missing(granted: &BTreeSet<&str>) -> Vec<(&'static str, Vec<&'static str>)> {
    let lost = |scope: &str| FEATURES.iter().filter(|f| f.scopes.contains(&scope)).map(|f| f.what).collect();
    scopes().into_iter().filter(|scope| !granted.contains(scope)).map(|scope| (scope, lost(scope))).collect()
}

/// What differs from app to app.
#[derive(Clone, Copy, Debug)]
pub struct App<'a> {
    /// What people see, at most [`MAX_NAME`] characters.
    pub name: &'a str,
    /// The slash command, with its slash.
    pub command: &'a str,
    /// Where Slack reaches the service, `https://…` without a slash at its end; `None`: by Socket Mode.
    pub url: Option<&'a str>,
}

/// The manifest in YAML, with a comment that says what to do with it. Slack takes JSON as well; this form is the one
/// that people read and change.
pub fn yaml(app: &App) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_yaml(&mut out, app);
    out
}

fn write_yaml(out: &mut String, app: &App) -> std::fmt::Result {
    let App { name, command, url } = app;
    let request = |path: &str| url.map(|url| quoted(&format!("{url}{path}")));
    let bare = command.trim_start_matches('/');
    writeln!(
        out,
        "# https://api.slack.com/apps -> Create New App -> From a manifest -> YAML: paste this, then install the app."
    )?;
    writeln!(out, "# Slack grants scopes at install time: after every change of the manifest, install it again.")?;
    match url {
        None => writeln!(
            out,
            "# Socket Mode: then make an app-level token with the scope {SOCKET_SCOPE} (SLACK_APP_TOKEN)."
        )?,
        Some(_) => writeln!(
            out,
            "# HTTP: the service has to run with SLACK_SIGNING_SECRET when Slack verifies the request URL."
        )?,
    }
    writeln!(
        out,
        "# Its bot is called @{}: /invite @{} in a channel. The service has to run with slack.command = {}.",
        handle(name),
        handle(name),
        quoted(command)
    )?;
    writeln!(out, "display_information:")?;
    writeln!(out, "  name: {}", quoted(name))?;
    writeln!(out, "  description: \"Runs small agents that ask for permission before they act\"")?;
    writeln!(out, "  background_color: \"#1f2937\"")?;
    writeln!(out, "features:")?;
    writeln!(out, "  app_home:")?;
    writeln!(out, "    home_tab_enabled: true")?;
    writeln!(out, "    messages_tab_enabled: true")?;
    writeln!(out, "    messages_tab_read_only_enabled: false")?;
    writeln!(out, "  bot_user:")?;
    writeln!(out, "    display_name: {}", quoted(&handle(name)))?;
    writeln!(out, "    always_online: true")?;
    writeln!(out, "  agent_view:")?;
    writeln!(
        out,
        "    agent_description: \"Investigates and acts for your team, and asks for approval before it changes anything.\""
    )?;
    writeln!(out, "    suggested_prompts:")?;
    for (title, message) in [
        ("What can you do?", "help".to_owned()),
        ("What waits for me?", format!("!{bare} pending")),
        ("What are my runs at?", format!("!{bare} status")),
    ] {
        writeln!(out, "      - title: {}", quoted(title))?;
        writeln!(out, "        message: {}", quoted(&message))?;
    }
    writeln!(out, "  shortcuts:")?;
    for (name, kind, callback, what) in [
        ("Ask the agent", "message", shortcut::ABOUT, "Start an agent thread about this message"),
        ("Pending approvals", "global", shortcut::INBOX, "See the approvals that wait for you"),
    ] {
        writeln!(out, "    - name: {}", quoted(name))?;
        writeln!(out, "      type: {kind}")?;
        writeln!(out, "      callback_id: {callback}")?;
        writeln!(out, "      description: {}", quoted(what))?;
    }
    writeln!(out, "  slash_commands:")?;
    writeln!(out, "    - command: {}", quoted(command))?;
    if let Some(url) = request("/slack/commands") {
        writeln!(out, "      url: {url}")?;
    }
    writeln!(out, "      description: \"Start, inspect and steer agent runs\"")?;
    writeln!(
        out,
        "      usage_hint: \"[run <agent> <task> | status | pending | approve <id> | deny <id> | stop | help]\""
    )?;
    writeln!(out, "      should_escape: true")?;
    writeln!(out, "oauth_config:")?;
    writeln!(out, "  scopes:")?;
    writeln!(out, "    bot:")?;
    scopes().iter().try_for_each(|scope| writeln!(out, "      - {}", quoted(scope)))?;
    writeln!(out, "settings:")?;
    writeln!(out, "  event_subscriptions:")?;
    if let Some(url) = request("/slack/events") {
        writeln!(out, "    request_url: {url}")?;
    }
    writeln!(out, "    bot_events:")?;
    events().iter().try_for_each(|event| writeln!(out, "      - {event}"))?;
    writeln!(out, "  interactivity:")?;
    writeln!(out, "    is_enabled: true")?;
    if let Some(url) = request("/slack/interactions") {
        writeln!(out, "    request_url: {url}")?;
    }
    writeln!(out, "  org_deploy_enabled: false")?;
    writeln!(out, "  socket_mode_enabled: {}", url.is_none())?;
    writeln!(out, "  token_rotation_enabled: false")
}

/// Text in double quotes: YAML reads what JSON writes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// How people mention an app of this name: `Release Agent` is `release-agent`. `agent` if nothing is left.
fn handle(name: &str) -> String {
    let lower = name.to_lowercase();
    let kept = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let handle = kept.collect::<Vec<_>>().join("-");
    if handle.is_empty() { "agent".to_owned() } else { handle }
}
