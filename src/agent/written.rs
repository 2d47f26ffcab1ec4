//! Calls and blocks that a model wrote as text instead of making them.
//!
//! Some models, and servers without support for tools, write a call into the prose: `<tool_call>{...}`,
//! `[TOOL_CALLS] [...]`, bare JSON. Some go on in the format of the window and make up results, or what a person
//! said. Such a text is not an answer, and nothing of it is ever run: this module only recognises it. What becomes
//! of it is decided once, in `reply`, and stands in the log.
//!
//! An honest answer may quote or discuss the same things. So a marker counts outside of code only, and where a call
//! follows it; JSON counts where it is a call of a tool that the agent has, with nothing else in it, and was not
//! made before: what was made may be quoted.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::reply::ASK_HUMAN;

/// What was found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    what: What,
    /// There is prose around it.
    amid_prose: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A call; of this tool, if it can be told.
    Call(Option<String>),
    /// A block that only the engine writes.
    Block(String),
}

impl Written {
    /// For the model.
    pub(super) fn correction(&self) -> String {
        let found = match &self.what {
            What::Call(Some(tool)) => format!("it has a call of `{tool}` written out as text"),
            What::Call(None) => "it has a tool call written out as text".to_owned(),
            What::Block(tag) => format!("it has a `{tag}` block, which only the engine writes"),
        };
        format!(
            "Your last reply was not taken as an answer: {found}. Text runs nothing: nothing was run, and no person \
             or tool said anything. To call a tool, make a real call, by the way in which the tools are offered to \
             you. If you meant no call, answer again in plain words, without it."
        )
    }

    /// For people, when it has happened again.
    pub(super) fn for_people(&self, text: &str) -> String {
        let found = match &self.what {
            What::Call(Some(tool)) => format!("a call of {tool} as text instead of making it"),
            What::Call(None) => "a tool call as text instead of making it".to_owned(),
            What::Block(_) => "results or people's words as text that did not happen".to_owned(),
        };
        let last = format!("Nothing was run. The model wrote {found}");
        if self.amid_prose && matches!(self.what, What::Call(_)) {
            return format!("{last}; what follows is only text.\n\n{text}");
        }
        format!(
            "{last}, also after it was told, so there is no answer. Ask again in other words; if it stays so, an \
             operator should choose a model, or a server, that supports tool calls."
        )
    }
}

/// Whether a text has a call of one of `tools`, or a block of the window, written out. `made` says whether a call
/// was really made.
pub(super) fn written(text: &str, tools: &[String], made: impl Fn(&str, &Value) -> bool) -> Option<Written> {
    let text = without_thoughts(text).trim();
    let known = |name: &str| known(name, tools);
    if let Some(what) = whole(text, &known) {
        return Some(Written { what, amid_prose: false });
    }
    let parts = parts(text);
    for part in &parts {
        let found = match part {
            Part::Prose(prose) => marked(prose, &known)
                .map(|what| {
                    let amid_prose = !starts_with_marker(text);
                    Written { what, amid_prose }
                })
                .or_else(|| {
                    let call = json_lines(prose, &known).into_iter().find(|(tool, args)| !made(tool, args))?;
                    Some(Written { what: What::Call(Some(call.0)), amid_prose: true })
                }),
            Part::Code(code) => {
                let call = in_code(code, &known).filter(|(tool, args)| !made(tool, args));
                call.map(|(tool, _)| Written { what: What::Call(Some(tool)), amid_prose: parts.len() > 1 })
            }
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The tool of the agent that has this name, also where a vendor's prefix stands before it.
fn known(name: &str, tools: &[String]) -> Option<String> {
    let name = name.trim();
    let name = name.strip_prefix("functions.").or_else(|| name.strip_prefix("tools.")).unwrap_or(name);
    let is_it = |tool: &&str| *tool == name;
    tools.iter().map(String::as_str).chain([ASK_HUMAN]).find(is_it).map(str::to_owned)
}

/// What reasoning models think aloud before they answer is not what they say.
fn without_thoughts(text: &str) -> &str {
    let trimmed = text.trim_start();
    let thought = ["<think>", "<thinking>"].iter().find(|tag| trimmed.starts_with(**tag));
    match thought {
        Some(tag) => {
            let end = format!("</{}", tag.trim_start_matches('<'));
            trimmed.split_once(&end).map_or(text, |(_, said)| said)
        }
        None => text,
    }
}

enum Part<'t> {
    Prose(String),
    Code(&'t str),
}

/// Prose, with inline code taken out, and the insides of fences.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    for (i, piece) in text.split("```").enumerate() {
        if i % 2 == 1 {
            // The first line of a fence names its language.
            let code =
                piece.split_once('\n').filter(|(word, _)| !word.contains(['{', '[', '<'])).map_or(piece, |(_, c)| c);
            parts.push(Part::Code(code.trim()));
        } else if !piece.trim().is_empty() {
            parts.push(Part::Prose(without_inline_code(piece)));
        }
    }
    parts
}

/// Each line without what stands between two backticks in it.
fn without_inline_code(prose: &str) -> String {
    let line = |line: &str| {
        let pieces: Vec<&str> = line.split('`').collect();
        let closed = pieces.len() - usize::from(pieces.len().is_multiple_of(2));
        let kept = pieces.iter().enumerate().filter(|(i, _)| i % 2 == 0 || *i >= closed);
        kept.map(|(_, piece)| *piece).collect::<Vec<_>>().join("code")
    };
    prose.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A text that is nothing but calls.
fn whole(text: &str, known: &impl Fn(&str) -> Option<String>) -> Option<What> {
    let calls = json_calls(text, known)?;
    calls.into_iter().next().map(|(tool, _)| What::Call(Some(tool)))
}

/// Markers of the vendors and of our window at which a call or a block follows, outside of code.
fn marked(prose: &str, known: &impl Fn(&str) -> Option<String>) -> Option<What> {
    static BLOCK: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r#"(?im)^\s*<(human|answer|notice)\s+[a-z]+\s*=|^\s*<(tool_result|human)(?:\s+[a-z]+\s*=[^>\n]*)?>\s*$|<(tool_result)\s+(?:id|tool|outcome)\s*="#).ok()
    });
    // A token that no prose has.
    static TOKEN: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)<\|python_tag\|>|<\|/?tool_calls?(?:_[a-z_]+)?\|>|<｜tool▁calls?▁|\[TOOL_CALLS\]\s*(?:[\[{]|[A-Za-z_][\w.-]*\s*[\[{(])|<\|channel\|>\s*commentary|\bto=functions\.[A-Za-z_]").ok()
    });
    // A tag with a call behind it.
    static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r#"(?i)<(?:tool_call|tool_calls|function_call|function_calls|tool_use|tool|function|invoke)(?:\s*=\s*"?([\w.-]+)"?|\s+[^>\n]*?(?:name|tool|id)\s*=\s*"?([\w.-]+)"?[^>\n]*)?\s*>?\s*(?:([\[{<])|([A-Za-z_][\w.-]*)\s*[({<\n])"#).ok()
    });
    // `Action: tool`, `Action Input: …`.
    static ACTION: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?im)^\s*\**(?:Action|Tool|Function|Tool call|Function call)\**\s*:\**\s*([A-Za-z_][\w.-]*)\s*(?:\(|\{|\n\s*\**(?:Action Input|Input|Arguments|Args|Parameters)\**\s*:)").ok()
    });
    if let Some(found) = BLOCK.as_ref().and_then(|r| r.captures(prose)) {
        let tag = (1..=3).find_map(|i| found.get(i)).map_or("human", |m| m.as_str());
        return Some(What::Block(tag.to_lowercase()));
    }
    if let Some(found) = TOKEN.as_ref().and_then(|r| r.find(prose)) {
        let after = prose.get(found.start()..).unwrap_or("");
        return Some(What::Call(names(after, known)));
    }
    for found in TAG.as_ref().into_iter().flat_map(|r| r.captures_iter(prose)) {
        let Some(all) = found.get(0) else { continue };
        let named = [1, 2, 4].iter().filter_map(|i| found.get(*i)).find_map(|m| known(m.as_str()));
        let tag = all.as_str().to_lowercase();
        let after = prose.get(all.start()..).unwrap_or("");
        // Tags that have other meanings count with a tool of the agent only.
        let plain = tag.starts_with("<tool_call") || tag.starts_with("<function_call") || tag.starts_with("<function=");
        if let Some(tool) = named.or_else(|| names(after, known)) {
            return Some(What::Call(Some(tool)));
        }
        let starts_line = prose
            .get(..all.start())
            .is_none_or(|before| before.trim_end_matches([' ', '\t']).ends_with('\n') || before.trim().is_empty());
        if plain && starts_line {
            return Some(What::Call(None));
        }
    }
    if let Some(tool) = tagged(prose, known) {
        return Some(What::Call(Some(tool)));
    }
    let action =
        ACTION.as_ref().into_iter().flat_map(|r| r.captures_iter(prose)).find_map(|c| known(c.get(1)?.as_str()));
    action.map(|tool| What::Call(Some(tool)))
}

/// A tool as an element with its arguments inside: `<deploy_service><service>api</service></deploy_service>`.
fn tagged(prose: &str, known: &impl Fn(&str) -> Option<String>) -> Option<String> {
    static START: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?m)^\s*<([A-Za-z_][\w.-]*)>").ok());
    let mut found = START.as_ref()?.captures_iter(prose).filter_map(|c| known(c.get(1)?.as_str()));
    // A name of one word may be an element of anything.
    found.find(|tool| prose.contains(&format!("</{tool}>")) && (tool.contains('_') || prose.trim().starts_with('<')))
}

/// The first tool of the agent that is named soon behind a marker.
fn names(after: &str, known: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let near: String = after.chars().take(200).collect();
    near.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))).find_map(|word| {
        let word = word.trim_matches('.');
        known(word).or_else(|| known(word.strip_suffix(".call")?))
    })
}

fn starts_with_marker(text: &str) -> bool {
    text.starts_with('<') || text.starts_with("[TOOL_CALLS]")
}

/// A fence whose inside is nothing but calls, or a marker with a call of a known tool.
fn in_code(code: &str, known: &impl Fn(&str) -> Option<String>) -> Option<(String, Value)> {
    if let Some(call) = json_calls(code, known).and_then(|calls| calls.into_iter().next()) {
        return Some(call);
    }
    let is_marked = ["<tool_call", "<function", "<invoke", "[tool_calls]", "<|python_tag|>", "<|tool_call", "print("];
    let lower = code.to_lowercase();
    if is_marked.iter().any(|marker| lower.starts_with(marker)) {
        let json = code.find(['{', '[']).and_then(|at| code.get(at..));
        let call = json.and_then(|json| first_json(json, known));
        return call.or_else(|| Some((names(code, known)?, Value::Null)));
    }
    None
}

/// The call in the first JSON value of a text.
fn first_json(text: &str, known: &impl Fn(&str) -> Option<String>) -> Option<(String, Value)> {
    match serde_json::Deserializer::from_str(text).into_iter::<Value>().next()? {
        Ok(value) => calls_of(&value, known)?.into_iter().next(),
        Err(_) => broken_call(text, known).map(|tool| (tool, Value::Null)),
    }
}

/// Calls in JSON that begins a line amid prose.
fn json_lines(prose: &str, known: &impl Fn(&str) -> Option<String>) -> Vec<(String, Value)> {
    let starts = prose.match_indices(['{', '[']).filter(|(at, _)| {
        prose.get(..*at).is_some_and(|before| {
            let line = before.rsplit('\n').next().unwrap_or("");
            line.trim().is_empty()
        })
    });
    starts.filter_map(|(at, _)| first_json(prose.get(at..)?, known)).collect()
}

/// The calls in a text that is nothing but JSON, or one call as code writes it.
fn json_calls(text: &str, known: &impl Fn(&str) -> Option<String>) -> Option<Vec<(String, Value)>> {
    static CODE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?s)^\[?\s*(?:print\()?\s*([A-Za-z_][\w.-]*?)(?:\.call)?\s*\(\s*(?:[A-Za-z_]\w*\s*=.*|\{.*\})?\s*\)\s*\)?\s*\]?;?$").ok()
    });
    if let Some(found) = CODE.as_ref().and_then(|r| r.captures(text)) {
        let tool = known(found.get(1)?.as_str())?;
        return Some(vec![(tool, Value::Null)]);
    }
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let parsed = |text: &str| {
        let mut calls = Vec::new();
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            calls.push(value.ok()?);
        }
        Some(calls)
    };
    // As Python writes it, or not JSON at all.
    let Some(values) = parsed(text).or_else(|| parsed(&text.replace('\'', "\""))) else {
        return broken_call(text, known).map(|tool| vec![(tool, Value::Null)]);
    };
    let calls: Option<Vec<_>> = values.iter().map(|value| calls_of(value, known)).collect();
    calls.map(|calls| calls.concat()).filter(|calls| !calls.is_empty())
}

/// The tool of a call that begins like JSON and is cut off, or has a fault in it.
fn broken_call(text: &str, known: &impl Fn(&str) -> Option<String>) -> Option<String> {
    static START: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let (names, arguments) = (NAMES.join("|"), ARGUMENTS.join("|"));
        Regex::new(&format!(
            r#"^[\[\s]*\{{\s*["'](?:{names})["']\s*:\s*["']([\w.-]+)["']\s*,\s*["'](?:{arguments})["']\s*:"#
        ))
        .ok()
    });
    known(START.as_ref()?.captures(text)?.get(1)?.as_str())
}

/// The calls that a JSON value is, if it is nothing else.
fn calls_of(value: &Value, known: &impl Fn(&str) -> Option<String>) -> Option<Vec<(String, Value)>> {
    match value {
        Value::Array(items) if !items.is_empty() => {
            let calls: Option<Vec<_>> = items.iter().map(|item| calls_of(item, known)).collect();
            Some(calls?.concat())
        }
        Value::Object(members) => {
            if let [(key, inner)] = members.iter().collect::<Vec<_>>().as_slice() {
                if matches!(
                    key.as_str(),
                    "tool_calls" | "tool_call" | "function_call" | "function" | "calls" | "tool_use"
                ) && (inner.is_object() || inner.is_array())
                {
                    return calls_of(inner, known);
                }
                // `{"deploy": {"env": "prod"}}`
                if inner.is_object()
                    && let Some(tool) = known(key)
                {
                    return Some(vec![(tool, (*inner).clone())]);
                }
            }
            one_call(members, known).map(|call| vec![call])
        }
        _ => None,
    }
}

/// Members that name a tool, hold its arguments, or stand beside them. With any other, an object is no call.
const NAMES: [&str; 7] = ["name", "tool", "tool_name", "function", "function_name", "action", "recipient_name"];
const ARGUMENTS: [&str; 9] =
    ["arguments", "args", "parameters", "params", "input", "tool_input", "action_input", "kwargs", "tool_args"];
const BESIDE: [&str; 12] = [
    "type",
    "id",
    "call_id",
    "index",
    "thought",
    "thoughts",
    "reasoning",
    "explanation",
    "why",
    "role",
    "content",
    "description",
];

fn one_call(
    members: &serde_json::Map<String, Value>,
    known: &impl Fn(&str) -> Option<String>,
) -> Option<(String, Value)> {
    // OpenAI's own form: the call is a member beside its id.
    for wrapped in ["function", "function_call", "tool_call"] {
        if let Some(Value::Object(inner)) = members.get(wrapped)
            && members.keys().all(|key| key == wrapped || BESIDE.contains(&key.as_str()))
        {
            return one_call(inner, known);
        }
    }
    if let Some(Value::Array(calls)) = members.get("tool_calls")
        && members.keys().all(|key| key == "tool_calls" || BESIDE.contains(&key.as_str()))
    {
        return calls.iter().find_map(|call| one_call(call.as_object()?, known));
    }
    let is_known_member =
        |key: &String| [&NAMES[..], &ARGUMENTS, &BESIDE].iter().any(|set| set.contains(&key.as_str()));
    if !members.keys().all(is_known_member) {
        return None;
    }
    let tool = NAMES.iter().find_map(|key| known(members.get(*key)?.as_str()?))?;
    let args = ARGUMENTS.iter().find_map(|key| members.get(*key));
    // A name alone may be anything's.
    if args.is_none() && !members.keys().any(|key| key != "name" && NAMES.contains(&key.as_str())) {
        return None;
    }
    let args = match args {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::Null),
        Some(args) => args.clone(),
        None => Value::Object(serde_json::Map::new()),
    };
    Some((tool, args))
}
