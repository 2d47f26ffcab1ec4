//! Where settings come from: the layers, how they are merged, and the origin of each effective value.
//!
//! The compiled-in default file is the schema: a setting exists if it is in there, and its type is the
//! type of its default. This module knows no single setting; what their values mean is [`super`]'s.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use crate::agent::secret::is_secret_name;
use crate::agent::{SecretFilter, did_you_mean, join_key, key_lines, split_key, toml_problem};

/// Prefix of environment variables that name a setting: `TWELVE__STORE__PATH`.
pub const PREFIX: &str = "TWELVE__";

/// The variables with a name of their own, and the settings that they stand for.
pub const PLAIN_NAMES: [(&str, &str); 16] = [
    ("APP_NAME", "app.name"),
    ("DEBUG", "app.debug"),
    ("OPENAI_API_KEY", "providers.openai.api_key"),
    ("OPENAI_BASE_URL", "providers.openai.base_url"),
    ("ANTHROPIC_API_KEY", "providers.anthropic.api_key"),
    ("ANTHROPIC_BASE_URL", "providers.anthropic.base_url"),
    ("MAX_CONTEXT_TOKENS", "model.max_context_tokens"),
    ("CONTEXT_COMPRESSION_THRESHOLD", "model.context_compression_threshold"),
    ("LOG_LEVEL", "log.level"),
    ("STRUCTURED_LOGGING", "log.structured"),
    ("API_HOST", "http.host"),
    ("API_PORT", "http.port"),
    ("SLACK_BOT_TOKEN", "slack.bot_token"),
    ("SLACK_APP_TOKEN", "slack.app_token"),
    ("SLACK_SIGNING_SECRET", "slack.signing_secret"),
    ("SLACK_API_URL", "slack.api_url"),
];

/// Tables whose keys the default file does not list.
const OPEN: [&str; 1] = ["tools"];

/// Longest configuration or `.env` file that is read, in bytes.
pub const MAX_FILE: usize = 1024 * 1024;

/// Where an effective value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { name: String, line: Option<usize> },
    DotEnv { variable: String },
    Environment { variable: String },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line: None } => write!(f, "file {name}"),
            Self::File { name, line: Some(line) } => write!(f, "file {name} line {line}"),
            Self::DotEnv { variable } => write!(f, ".env {variable}"),
            Self::Environment { variable } => write!(f, "environment {variable}"),
        }
    }
}

/// One effective setting: an array or a plain value, never a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub value: Value,
    pub origin: Origin,
}

/// All effective settings by dotted path.
pub type Settings = BTreeMap<String, Setting>;

/// The layers as texts. What is absent is `None` or empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// The configuration file: its name for messages, and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// The text of the `.env` file.
    pub dot_env: Option<&'a str>,
    /// The process's environment.
    pub environment: &'a [(String, String)],
}

/// Merges the layers over the default file. Everything that does not fit is a sentence in `problems`
/// and otherwise left out, so that one mistake does not hide the next.
pub fn merge(default: &str, sources: &Sources, problems: &mut Vec<String>) -> Settings {
    let mut settings = Settings::new();
    match toml::from_str::<Table>(default) {
        Ok(table) => leaves("", table, &mut |path, value| {
            settings.insert(path, Setting { value, origin: Origin::Default });
        }),
        Err(e) => problems.push(toml_problem("default settings", default, 0, &e)),
    }
    let schema = settings.clone();
    if let Some((name, text)) = sources.file {
        file(name, text, &schema, &mut settings, problems);
    }
    let dot_env = sources.dot_env.map(|text| parse_dot_env(text, problems)).unwrap_or_default();
    let from_dot_env = |variable| Origin::DotEnv { variable };
    variables(&dot_env, from_dot_env, &schema, &mut settings, problems);
    let from_environment = |variable| Origin::Environment { variable };
    variables(sources.environment, from_environment, &schema, &mut settings, problems);
    settings
}

/// Calls `each` with every value below `table` that is not itself a table, and with empty tables of open
/// sections: there, `[tools.services.web]` alone may say something.
fn leaves(prefix: &str, table: Table, each: &mut impl FnMut(String, Value)) {
    for (key, value) in table {
        let path = join_key(prefix, &key);
        match value {
            Value::Table(inner) if inner.is_empty() && is_open(&path) => each(path, Value::Table(inner)),
            Value::Table(inner) => leaves(&path, inner, each),
            value => each(path, value),
        }
    }
}

/// Puts a setting of an open section in the place of whatever earlier layers had there.
fn put_open(path: String, setting: Setting, settings: &mut Settings) {
    let below = format!("{path}.");
    let replaces_all = !matches!(&setting.value, Value::Table(t) if t.is_empty());
    settings.retain(|other, value| {
        let above =
            path.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('.')) && !value.value.is_table();
        !(above || replaces_all && other.starts_with(&below))
    });
    settings.insert(path, setting);
}

fn is_open(path: &str) -> bool {
    OPEN.iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('.')))
}

fn file(name: &str, text: &str, schema: &Settings, settings: &mut Settings, problems: &mut Vec<String>) {
    let table = match toml::from_str::<Table>(text) {
        Ok(table) => table,
        Err(e) => return problems.push(toml_problem(name, text, 0, &e)),
    };
    let lines = key_lines(text);
    leaves("", table, &mut |path, value| {
        let origin = Origin::File { name: name.to_owned(), line: lines.get(&path).copied() };
        if is_open(&path) {
            return put_open(path, Setting { value, origin }, settings);
        }
        let Some(known) = schema.get(&path) else {
            return problems.push(format!(
                "{}: unknown setting `{path}`{}",
                place(&origin),
                explain_unknown(&path, schema)
            ));
        };
        match fit(value, &known.value) {
            Ok(value) => drop(settings.insert(path, Setting { value, origin })),
            Err(found) => problems.push(wrong_type(&origin, &path, &known.value, found)),
        }
    });
}

/// What follows `unknown setting`: the nearest one, wherever it is; or what the section has.
fn explain_unknown(path: &str, schema: &Settings) -> String {
    let near = did_you_mean(path, schema.keys().map(String::as_str));
    if !near.is_empty() {
        return near;
    }
    let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
    let siblings: Vec<&str> =
        schema.keys().filter_map(|k| k.strip_prefix(section)?.strip_prefix('.')).filter(|k| !k.contains('.')).collect();
    if !siblings.is_empty() {
        let near = did_you_mean(key, siblings.iter().copied());
        return if near.is_empty() { format!("; `{section}` has {}", siblings.join(", ")) } else { near };
    }
    if schema.keys().any(|k| k.starts_with(path) && k.as_bytes().get(path.len()) == Some(&b'.')) {
        return format!("; `{path}` is a section: write [{path}]");
    }
    // The same key in another section: the usual mistake is a missing or wrong [section] line.
    let elsewhere = schema.keys().find(|k| k.rsplit('.').next() == Some(key));
    if let Some(full) = elsewhere {
        return format!("; did you mean `{full}`?");
    }
    let mut sections: Vec<&str> = schema.keys().filter_map(|k| k.split('.').next()).chain(OPEN).collect();
    sections.dedup();
    let root = path.split('.').next().unwrap_or(path);
    match did_you_mean(root, sections.iter().copied()) {
        near if near.is_empty() => format!("; sections: {}", sections.join(", ")),
        near => near,
    }
}

/// The value in the type of the default: a whole number may stand for a fraction. Else its type.
fn fit(value: Value, default: &Value) -> Result<Value, &'static str> {
    match (value, default) {
        (Value::Integer(n), Value::Float(_)) => Ok(Value::Float(n as f64)),
        (value, default) if value.same_type(default) => Ok(value),
        (Value::Float(_), _) => Err("a fraction"),
        (value, _) => Err(type_name(&value)),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text in quotes",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list in [ ]",
        Value::Table(_) => "a table",
    }
}

fn wrong_type(origin: &Origin, path: &str, default: &Value, found: &str) -> String {
    format!("{}: `{path}` has to be {}, not {found}", place(origin), type_name(default))
}

/// The origin as the start of a sentence.
pub fn place(origin: &Origin) -> String {
    match origin {
        Origin::File { name, line: Some(line) } => format!("{name} line {line}"),
        Origin::File { name, line: None } => name.clone(),
        other => other.to_string(),
    }
}

fn variables(
    variables: &[(String, String)],
    origin: impl Fn(String) -> Origin,
    schema: &Settings,
    settings: &mut Settings,
    problems: &mut Vec<String>,
) {
    // An empty plain variable is how shells and compose files write "not set".
    let plain = variables.iter().filter(|(_, text)| !text.is_empty()).filter_map(|(name, text)| {
        let (_, path) = PLAIN_NAMES.iter().find(|(plain, _)| plain == name)?;
        Some((name, (*path).to_owned(), text))
    });
    // The long name is the more exact one, so it comes later and wins.
    let long = variables.iter().filter_map(|(name, text)| {
        let path = name.strip_prefix(PREFIX)?.to_ascii_lowercase().replace("__", ".");
        Some((name, path, text))
    });
    for (name, path, text) in plain.chain(long) {
        let origin = origin(name.clone());
        let value = match schema.get(&path) {
            Some(known) => match from_text(text, &known.value) {
                Some(value) => value,
                None => {
                    problems.push(wrong_type(&origin, &path, &known.value, &format!("`{}`", shown(&path, text))));
                    continue;
                }
            },
            None if is_open(&path) && path.split('.').all(|key| !key.is_empty()) => {
                let value = text.parse().unwrap_or_else(|_| Value::String(text.clone()));
                match value {
                    Value::Table(inner) if !inner.is_empty() => leaves(&path, inner, &mut |path, value| {
                        put_open(path, Setting { value, origin: origin.clone() }, settings);
                    }),
                    value => put_open(path, Setting { value, origin }, settings),
                }
                continue;
            }
            None => {
                let hint = explain_unknown(&path, schema);
                problems.push(format!("{}: there is no setting `{path}`{hint}", place(&origin)));
                continue;
            }
        };
        settings.insert(path, Setting { value, origin });
    }
}

/// Text of a variable in the type of the default. Text settings take it as it is.
fn from_text(text: &str, default: &Value) -> Option<Value> {
    match default {
        Value::String(_) => Some(Value::String(text.to_owned())),
        Value::Boolean(_) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Some(Value::Boolean(false)),
            _ => None,
        },
        Value::Integer(_) | Value::Float(_) | Value::Array(_) | Value::Datetime(_) | Value::Table(_) => {
            fit(text.trim().parse().ok()?, default).ok()
        }
    }
}

/// A value as it may be shown in a message: short, on one line, and no secret.
pub fn shown(path: &str, value: &str) -> String {
    if is_secret_name(path) {
        return "(hidden)".to_owned();
    }
    let clean = SecretFilter::default().clean(value).replace(|c: char| c.is_control(), " ");
    if clean.chars().count() <= 60 { clean } else { format!("{}…", clean.chars().take(60).collect::<String>()) }
}

/// Reads `NAME=value` lines: comments, `export`, single quotes (as it stands), double quotes (with `\n`,
/// `\"`, `\\`). No variable is replaced inside values: keys may hold a `$`. A line that cannot be read is
/// named by its number only, for it may hold a secret.
pub fn parse_dot_env(text: &str, problems: &mut Vec<String>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim().trim_start_matches('\u{feff}');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut wrong = |why: &str| problems.push(format!(".env line {}: {why}", i + 1));
        let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else {
            wrong("expected NAME=value");
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            wrong("the part before = is not a variable name (A to Z, 0 to 9 and _)");
            continue;
        }
        match unquote(value) {
            Some(value) => found.push((name.to_owned(), value)),
            None => wrong("the value has no closing quote, or something after it"),
        }
    }
    found
}

fn unquote(value: &str) -> Option<String> {
    let only_comment = |rest: &str| rest.trim_start().is_empty() || rest.trim_start().starts_with('#');
    if let Some(inner) = value.strip_prefix('\'') {
        let (inner, rest) = inner.split_once('\'')?;
        return only_comment(rest).then(|| inner.to_owned());
    }
    let Some(inner) = value.strip_prefix('"') else {
        let end = value.find(" #").unwrap_or(value.len());
        let bare = value.get(..end).unwrap_or(value);
        return Some(if bare.starts_with('#') { String::new() } else { bare.trim_end().to_owned() });
    };
    let mut out = String::new();
    let mut chars = inner.chars();
    loop {
        match chars.next()? {
            '"' => return only_comment(chars.as_str()).then_some(out),
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                other => out.push(other),
            },
            c => out.push(c),
        }
    }
}

/// The settings as one table, for deserialising.
pub fn table(settings: &Settings) -> Table {
    let mut root = Table::from_iter(OPEN.map(|name| (name.to_owned(), Value::Table(Table::new()))));
    for (path, setting) in settings {
        insert(&mut root, &split_key(path), &setting.value);
    }
    root
}

fn insert(table: &mut Table, keys: &[String], value: &Value) {
    match keys {
        [] => {}
        [last] => drop(table.insert(last.clone(), value.clone())),
        [first, rest @ ..] => {
            let slot = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            // `put_open` leaves no plain value above another.
            if let Some(inner) = slot.as_table_mut() {
                insert(inner, rest, value);
            }
        }
    }
}
