//! What is wrong with tables of the settings, each by itself and by its name, and with settings that only make sense
//! together.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::layers::{Settings, Sources, parse_dot_env, place};
use super::{Config, HttpConfig, Ids, Scope, TokenConfig, is_loopback_host, plain};
use crate::agent::{Approvers, People, Rule, serde_words, span};

/// Reads each rule by itself, so that every bad one is reported, by its name; leaves the good ones.
pub(super) fn check_rules(settings: &mut Settings, problems: &mut Vec<String>) {
    let Some(setting) = settings.get_mut("policy.rules") else { return };
    let at = place(&setting.origin);
    let Some(rules) = setting.value.as_array_mut() else { return };
    let mut number = 0;
    let mut names: Vec<String> = Vec::new();
    rules.retain(|rule| {
        number += 1;
        let name = rule.get("name").and_then(toml::Value::as_str).map_or_else(String::new, |n| format!(" `{n}`"));
        match rule.clone().try_into::<Rule>() {
            Ok(rule) if names.contains(&rule.name) => {
                problems.push(format!("{at}: policy rule {number}{name}: another rule has this name; cards and logs name rules, so names differ"));
                false
            }
            Ok(rule) => {
                names.push(rule.name);
                true
            }
            Err(e) => {
                problems.push(format!("{at}: policy rule {number}{name}: {}", serde_words(e.message())));
                false
            }
        }
    });
}

/// Reads each token by itself, likewise.
pub(super) fn check_tokens(settings: &mut Settings, problems: &mut Vec<String>) {
    let prefix = settings.get("http.proxy.prefix").map_or_else(String::new, |s| plain(&s.value));
    let ids = Ids { proxy_prefix: &prefix, people: &People::default() };
    let Some(setting) = settings.get_mut("http.tokens") else { return };
    let at = place(&setting.origin);
    let Some(tokens) = setting.value.as_array_mut() else { return };
    let mut good: Vec<TokenConfig> = Vec::new();
    let mut number = 0;
    tokens.retain(|table| {
        number += 1;
        let name = table.get("name").and_then(toml::Value::as_str).map_or_else(String::new, |n| format!(" `{n}`"));
        let why = match table.clone().try_into::<TokenConfig>() {
            Err(e) => serde_words(e.message()),
            Ok(token) => match token_problem(&token, &good, &ids) {
                Some(why) => why,
                None => {
                    good.push(token);
                    return true;
                }
            },
        };
        problems.push(format!("{at}: token {number}{name}: {why}"));
        false
    });
}

/// What is wrong with a token, given those before it.
fn token_problem(token: &TokenConfig, before: &[TokenConfig], ids: &Ids) -> Option<String> {
    let person = token.person.as_deref();
    if !TokenConfig::is_name(&token.name) {
        return Some("its name has to be 1 to 64 of a-z, 0-9, `-`, `_` and `.`, and not `local`".to_owned());
    }
    let Some(digest) = token.digest() else {
        return Some("its hash has to be `sha256:` and 64 hexadecimal digits; `twelve token` makes one".to_owned());
    };
    if before.iter().any(|other| other.name == token.name) {
        return Some("another token has this name; logs name tokens, so names differ".to_owned());
    }
    if let Some(other) = before.iter().find(|other| other.digest().as_ref() == Some(&digest)) {
        return Some(format!("it has the hash of the token `{}`; one token is one caller", other.name));
    }
    if token.scopes.is_empty() {
        return Some("it has no scopes, so it would be good for nothing; name some of \"start\", \"read\", \"resume\", \"approve\", \"admin\"".to_owned());
    }
    if person.is_none() && token.scopes.contains(&Scope::Approve) {
        return Some("only people decide, so the scope \"approve\" needs `person`, the id of the one who decides with it, for example \"web:ann\"".to_owned());
    }
    let wrong = ids.person(person?).err()?;
    Some(format!("its person: {wrong}"))
}

/// Reads each table of an array by itself, so that every bad one is reported, by its name; leaves the
/// good ones.
pub(super) fn check_each<T: serde::de::DeserializeOwned>(
    path: &str,
    what: &str,
    settings: &mut Settings,
    problems: &mut Vec<String>,
) {
    let Some(setting) = settings.get_mut(path) else { return };
    let at = place(&setting.origin);
    let Some(tables) = setting.value.as_array_mut() else { return };
    let mut number = 0;
    tables.retain(|table| {
        number += 1;
        let name = table.get("name").and_then(toml::Value::as_str).map_or_else(String::new, |n| format!(" `{n}`"));
        let read = table.clone().try_into::<T>();
        read.map_err(|e| problems.push(format!("{at}: {what} {number}{name}: {}", serde_words(e.message())))).is_ok()
    });
}

/// What the variables hold that the settings name: the environment's before those of `.env`. Empty ones count
/// as not set.
pub(super) fn variables(config: &Config, sources: &Sources) -> BTreeMap<String, SecretString> {
    // What is wrong with the file has been said when it was merged.
    let dot_env = sources.dot_env.map(|text| parse_dot_env(text, &mut Vec::new())).unwrap_or_default();
    let value = |name: &str| {
        let of = |all: &[(String, String)]| {
            all.iter().rfind(|(n, v)| n == name && !v.trim().is_empty()).map(|(_, v)| SecretString::from(v.trim()))
        };
        of(sources.environment).or_else(|| of(&dot_env))
    };
    let names = config.triggers.webhooks.iter().map(|webhook| webhook.secret_env.as_str());
    let names = names.chain(config.slack.variables());
    names.filter_map(|name| Some((name.to_owned(), value(name)?))).collect()
}

/// Settings that only make sense together.
pub(super) fn check_groups(config: &Config, settings: &Settings, problems: &mut Vec<String>) {
    let at = |path: &str| settings.get(path).map_or_else(String::new, |s| place(&s.origin));
    if let Some(why) = config.missing_for(config.provider()) {
        problems.push(format!("{}: {why}", at("model.provider")));
    }
    if config.model.retry_base > config.model.retry_cap {
        problems.push(format!(
            "{}: `model.retry_base` ({}) is above `model.retry_cap` ({}, {})",
            at("model.retry_base"),
            span::show(config.model.retry_base),
            span::show(config.model.retry_cap),
            at("model.retry_cap"),
        ));
    }
    if config.model.keep_last_events >= config.model.max_entries {
        problems.push(format!(
            "{}: `model.keep_last_events` ({}) has to be below `model.max_entries` ({}, {})",
            at("model.keep_last_events"),
            config.model.keep_last_events,
            config.model.max_entries,
            at("model.max_entries"),
        ));
    }
    if let (true, Some(other)) = (config.http.trust_loopback, opens_loopback(&config.http)) {
        problems.push(format!(
            "{}: `http.trust_loopback` can't stand beside {other}: what a proxy passes on connects from this machine as \
             well, so anybody outside would get in without a token. Remove it; programs on this machine send the local \
             token, which `twelve token local` prints",
            at("http.trust_loopback"),
        ));
    }
    let Approvers { users, groups, quorum, .. } = config.approvers();
    if groups.is_empty() && !users.is_empty() && !users.iter().any(|u| u == "*") && quorum as usize > users.len() {
        problems.push(format!(
            "{}: `approvals.approvers.quorum` is {quorum}, but only {} may decide",
            at("approvals.approvers.quorum"),
            users.len()
        ));
    }
}

/// The setting by which others than this machine reach the service, if one does.
fn opens_loopback(http: &HttpConfig) -> Option<String> {
    if !http.public_url.is_empty() {
        Some("`http.public_url`".to_owned())
    } else if !http.proxy.user_header.is_empty() {
        Some("a proxy (`http.proxy.user_header`)".to_owned())
    } else if !is_loopback_host(&http.host) {
        Some(format!("`http.host` ({}), which is not a loopback address", http.host))
    } else {
        None
    }
}
