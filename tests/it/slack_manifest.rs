//! The app's manifest: valid by Slack's schema, and complete for what the program subscribes to and calls.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};
use twelve::platform::slack::manifest::{App, FEATURES, events, scopes, yaml};

const APP: App = App { name: "Agent", command: "/agent", url: None };
const URL: Option<&str> = Some("https://agents.example.com");

/// The parts of Slack's manifest schema that a manifest of ours uses, with its limits, as published in November 2026
/// (github.com/slackapi/manifest-schema, schemas/manifest.schema.2.0.0.json). Nothing else is allowed.
fn schema() -> Value {
    let text = |least: u64, most: u64| json!({ "type": "string", "minLength": least, "maxLength": most });
    let flag = json!({ "type": "boolean" });
    let address = |most: u64| json!({ "type": "string", "pattern": "^https?://", "maxLength": most });
    let words = |most: u64| json!({ "type": "array", "uniqueItems": true, "maxItems": most, "items": text(1, 50) });
    let object = |properties: Value, required: &[&str]| json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required });
    let several = |least: u64, most: u64, items: Value| json!({ "type": "array", "minItems": least, "maxItems": most, "items": items });
    let display = object(
        json!({
            "name": text(1, 35),
            "description": text(1, 140),
            "long_description": text(175, 4_000),
            "background_color": { "type": "string", "pattern": "^#[0-9a-fA-F]{3}([0-9a-fA-F]{3})?$" },
        }),
        &["name"],
    );
    let shortcut = object(
        json!({
            "name": text(1, 24),
            "type": { "enum": ["message", "global"] },
            "callback_id": text(1, 255),
            "description": text(1, 150),
        }),
        &["name", "type", "callback_id", "description"],
    );
    let command = object(
        json!({
            "command": { "type": "string", "pattern": "^/", "minLength": 2, "maxLength": 32 },
            "url": address(3_000),
            "description": text(1, 2_000),
            "usage_hint": text(1, 1_000),
            "should_escape": flag,
        }),
        &["command", "description"],
    );
    let prompt = object(json!({ "title": text(1, 1_000), "message": text(1, 1_000) }), &["title", "message"]);
    let features = object(
        json!({
            "app_home": object(
                json!({
                    "home_tab_enabled": flag,
                    "messages_tab_enabled": flag,
                    "messages_tab_read_only_enabled": flag,
                }),
                &[],
            ),
            "bot_user": object(json!({ "display_name": text(1, 80), "always_online": flag }), &["display_name"]),
            "agent_view": object(
                json!({ "agent_description": text(0, 300), "suggested_prompts": several(0, 4, prompt) }),
                &[],
            ),
            "shortcuts": several(1, 10, shortcut),
            "slash_commands": several(1, 50, command),
        }),
        &[],
    );
    let settings = object(
        json!({
            "event_subscriptions": object(json!({ "request_url": address(3_500), "bot_events": words(100) }), &[]),
            "interactivity": object(json!({ "is_enabled": flag, "request_url": address(3_500) }), &["is_enabled"]),
            "org_deploy_enabled": flag,
            "socket_mode_enabled": flag,
            "token_rotation_enabled": flag,
        }),
        &[],
    );
    object(
        json!({
            "display_information": display,
            "features": features,
            "oauth_config": object(json!({ "scopes": object(json!({ "bot": words(255) }), &[]) }), &[]),
            "settings": settings,
        }),
        &["display_information"],
    )
}

/// Reads as much of YAML as a manifest uses: mappings, lists, and scalars that are quoted as in JSON or bare.
fn read(text: &str) -> Value {
    let lines: Vec<(usize, &str)> = text
        .lines()
        .map(|line| (line.len() - line.trim_start().len(), line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut rest = lines.as_slice();
    let value = block(&mut rest);
    assert!(rest.is_empty(), "not read: {rest:?}");
    value
}

fn block(lines: &mut &[(usize, &str)]) -> Value {
    let indent = lines[0].0;
    if lines[0].1.starts_with("- ") {
        let mut items = Vec::new();
        while let Some(((at, line), rest)) = lines.split_first().filter(|((at, _), _)| *at == indent) {
            let item = line.strip_prefix("- ").unwrap_or_else(|| panic!("not in the list: {line}"));
            if pair(item).is_none() {
                items.push(scalar(item));
                *lines = rest;
                continue;
            }
            // The first key of a mapping stands behind the dash; the others below it.
            let below = rest.iter().take_while(|(deeper, _)| deeper > at).count();
            let item: Vec<_> = std::iter::once((at + 2, item)).chain(rest[..below].iter().copied()).collect();
            items.push(block(&mut item.as_slice()));
            *lines = &rest[below..];
        }
        return Value::Array(items);
    }
    let mut map = Map::new();
    while let Some(((_, line), rest)) = lines.split_first().filter(|((at, _), _)| *at == indent) {
        *lines = rest;
        let (key, value) = pair(line).unwrap_or_else(|| panic!("no key: {line}"));
        let value = if value.is_empty() {
            assert!(lines[0].0 > indent, "{key} is empty");
            block(lines)
        } else {
            scalar(value)
        };
        assert!(map.insert(key.to_owned(), value).is_none(), "{key} is there twice");
    }
    Value::Object(map)
}

fn pair(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, "")))?;
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some((key, value))
}

fn scalar(text: &str) -> Value {
    match text {
        "true" | "false" => json!(text == "true"),
        _ if text.starts_with('"') => serde_json::from_str(text).unwrap(),
        _ => {
            assert!(
                !text.contains(": ")
                    && !text.contains(" #")
                    && !text.starts_with(['[', '{', '&', '*', '!', '|', '>', '\'', '@', '`', '%']),
                "{text}"
            );
            json!(text)
        }
    }
}

#[track_caller]
fn assert_valid(manifest: &Value) {
    let validator = jsonschema::draft7::new(&schema()).unwrap();
    let problems: Vec<String> =
        validator.iter_errors(manifest).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn the_manifest_is_valid_by_slacks_schema_in_both_modes_as_is_the_instance_that_slack_has_validated() {
    assert_valid(&read(include_str!("slack_manifest.example.yaml")));
    assert_valid(&read(&yaml(&APP)));
    assert_valid(&read(&yaml(&App { url: URL, ..APP })));
    // The longest that the command lets through, and names that would be something else in YAML.
    let command = format!("/{}", "a".repeat(31));
    for name in ["\u{e9}".repeat(35).as_str(), "a: \"b\" # c\\", "- yes", "null", "'{[&*!|>%@`"] {
        let manifest = read(&yaml(&App { name, command: &command, url: URL }));
        assert_valid(&manifest);
        assert_eq!(manifest["display_information"]["name"], name);
        assert_eq!(manifest["features"]["slash_commands"][0]["command"], command.as_str());
    }
}

#[test]
fn the_schema_refuses_what_slack_refuses() {
    let validator = jsonschema::draft7::new(&schema()).unwrap();
    let good = read(&yaml(&App { url: URL, ..APP }));
    let wrong: [(&str, Value); 8] = [
        ("/display_information/name", json!("x".repeat(36))),
        ("/features/slash_commands/0/command", json!("agent")),
        ("/features/shortcuts/0/name", json!("x".repeat(25))),
        ("/features/agent_view/suggested_prompts/0/message", json!("")),
        ("/features/bot_user", json!({ "always_online": true })),
        ("/oauth_config/scopes/bot/1", good["oauth_config"]["scopes"]["bot"][0].clone()),
        ("/settings/event_subscriptions/request_url", json!("agents.example.com")),
        ("/settings/interactivity", json!({ "is_enabled": true, "enabled": true })),
    ];
    assert!(validator.is_valid(&good));
    for (path, value) in wrong {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        assert!(!validator.is_valid(&bad), "{path}");
    }
}

#[test]
fn socket_mode_needs_no_address_and_http_has_all_three() {
    let socket = read(&yaml(&APP));
    assert_eq!(socket["settings"]["socket_mode_enabled"], true);
    assert!(!yaml(&APP).contains("url:"), "no request URL is left over");
    let http = read(&yaml(&App { url: URL, ..APP }));
    assert_eq!(http["settings"]["socket_mode_enabled"], false);
    let url = |pointer: &str| http.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    assert_eq!(url("/settings/event_subscriptions/request_url"), "https://agents.example.com/slack/events");
    assert_eq!(url("/settings/interactivity/request_url"), "https://agents.example.com/slack/interactions");
    assert_eq!(url("/features/slash_commands/0/url"), "https://agents.example.com/slack/commands");
}

/// The scope that each event needs, by Slack's reference; "" if none.
const EVENTS: [(&str, &str); 10] = [
    ("agent_session_stopped", "assistant:write"),
    ("app_home_opened", ""),
    ("app_mention", "app_mentions:read"),
    ("app_uninstalled", ""),
    ("message.channels", "channels:history"),
    ("message.groups", "groups:history"),
    ("message.im", "im:history"),
    ("message.mpim", "mpim:history"),
    ("reaction_added", "reactions:read"),
    ("tokens_revoked", ""),
];

/// The scopes that each method needs for all kinds of conversations, by Slack's reference.
const METHODS: [(&str, &[&str]); 27] = [
    ("agents.sessions.setStatus", &["chat:write", "assistant:write"]),
    // By an app-level token, whose scope is no bot's.
    ("apps.connections.open", &[]),
    ("assistant.threads.setStatus", &["chat:write"]),
    ("assistant.threads.setSuggestedPrompts", &["assistant:write"]),
    ("assistant.threads.setTitle", &["assistant:write"]),
    ("auth.test", &[]),
    ("bots.info", &["users:read"]),
    ("chat.delete", &["chat:write"]),
    ("chat.getPermalink", &[]),
    ("chat.postEphemeral", &["chat:write"]),
    ("chat.postMessage", &["chat:write"]),
    ("chat.update", &["chat:write"]),
    ("conversations.history", &["channels:history", "groups:history", "im:history", "mpim:history"]),
    ("conversations.info", &["channels:read", "groups:read", "im:read", "mpim:read"]),
    ("conversations.members", &["channels:read", "groups:read", "im:read", "mpim:read"]),
    ("conversations.open", &["im:write"]),
    ("conversations.replies", &["channels:history", "groups:history", "im:history", "mpim:history"]),
    ("files.info", &["files:read"]),
    ("reactions.add", &["reactions:write"]),
    ("reactions.remove", &["reactions:write"]),
    ("usergroups.list", &["usergroups:read"]),
    ("usergroups.users.list", &["usergroups:read"]),
    ("users.info", &["users:read", "users:read.email"]),
    ("views.open", &[]),
    ("views.publish", &[]),
    ("views.push", &[]),
    ("views.update", &[]),
];

#[test]
fn every_event_is_subscribed_with_the_scope_that_it_needs() {
    let manifest = read(&yaml(&APP));
    let words = |pointer: &str| -> BTreeSet<String> {
        let list = manifest.pointer(pointer).and_then(Value::as_array).unwrap();
        list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let own = |all: BTreeSet<&str>| all.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(words("/oauth_config/scopes/bot"), own(scopes()));
    assert_eq!(words("/settings/event_subscriptions/bot_events"), own(events()));
    assert_eq!(events().into_iter().collect::<Vec<_>>(), EVENTS.map(|(event, _)| event));
    for (event, scope) in EVENTS.into_iter().filter(|(_, scope)| !scope.is_empty()) {
        let feature = FEATURES.iter().find(|feature| feature.events.contains(&event)).unwrap();
        assert!(feature.scopes.contains(&scope), "{event} needs {scope}, for {}", feature.what);
    }
    // What has no event and no method: the command and the shortcuts.
    assert!(scopes().contains("commands"));
}

#[test]
fn every_method_that_the_program_calls_is_allowed_by_the_scopes_of_the_manifest() {
    let families: BTreeSet<&str> = METHODS.iter().filter_map(|(method, _)| method.split('.').next()).collect();
    let mut called = BTreeSet::new();
    for room in ["src/platform/slack", "src/chat/slack", "src/cli/doctor"] {
        for file in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(room)) {
            let text = std::fs::read_to_string(file).unwrap();
            let words = text.split('"').filter(|word| {
                let mut parts = word.split('.');
                let family = parts.next().is_some_and(|first| families.contains(first));
                family
                    && parts.clone().next().is_some()
                    && parts.all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphabetic()))
            });
            called.extend(words.map(str::to_owned));
        }
    }
    assert!(called.contains("auth.test"), "the search finds nothing: {called:?}");
    for method in called {
        let row = METHODS.iter().find(|(known, _)| *known == method);
        let (_, needed) = row.unwrap_or_else(|| panic!("{method} is called: which scopes does it need?"));
        let lacks: Vec<_> = needed.iter().filter(|scope| !scopes().contains(*scope)).collect();
        assert!(lacks.is_empty(), "{method} is called and needs {lacks:?}, which no feature names");
    }
}

#[test]
fn the_documentation_names_every_scope_and_event() {
    let text = include_str!("../../docs/slack.md");
    let absent: Vec<&str> =
        scopes().into_iter().chain(events()).filter(|word| !text.contains(&format!("`{word}`"))).collect();
    assert_eq!(absent, Vec::<&str>::new());
}

fn rust_files(room: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(room).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files.extend(rust_files(&entry));
        } else {
            files.push(entry);
        }
    }
    files
}
