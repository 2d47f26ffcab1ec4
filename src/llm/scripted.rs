//! A provider that follows a script: for the first run without a key, for tests, for prompt cases.
//!
//! Owns the script language, its matching, and the three scripts that are compiled in. It is stateless:
//! an answer depends on the request alone, so a process that was killed and started again, or another
//! replica, goes on as the first one would have. Everything it writes is labelled as scripted.
//!
//! # The language
//! A script is TOML: a list of `[[reply]]`, and the first whose conditions all hold answers.
//!
//! | condition | a regex that has to match |
//! |---|---|
//! | `human` | the text of the last `<human>` block |
//! | `last` | the last block of the window, tags and attributes included |
//! | `since` | everything after the last `<human>` block |
//! | `window` | the whole window |
//! | `not` | must *not* match everything after the last `<human>` block |
//!
//! One outcome: `say = "text"`; or one or more `[[reply.call]]` with `tool` and `args` (`say` may
//! stand beside them as the prose); or `ask = { question, kind, choices }`, a call of the reserved tool
//! `ask_human`; or `fail = "rate_limited"`, a failure by the name of its kind, for tests.
//!
//! Named groups of `last`, `human`, `since` and `window` (the first of these that has the name) are put
//! into texts and into strings of `args` as `$name` or `${name}`; an argument that is exactly
//! `"${name:int}"` becomes a number. `$$` is a dollar sign. Dot matches no line break unless `(?s)`.
//!
//! `help` says in a few words what a person may write for this reply; where nothing matches, the answer
//! lists these.

use regex::{Captures, Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::Spanned;

use super::failure;
use crate::agent::{ModelError, ModelErrorKind, ModelReply, ModelRequest, RawCall, ToolDecl, Usage, json};

/// The model that a scripted reply names.
pub const MODEL: &str = "scripted";
/// Longest script, in bytes; the longest compiled-in one has about 6,000.
pub const MAX_SCRIPT_BYTES: usize = 256 * 1024;
/// Most replies in a script: each may be tried for each answer.
pub const MAX_REPLIES: usize = 500;
/// Most memory that one compiled regex may take, in bytes.
pub const MAX_REGEX_BYTES: usize = 1024 * 1024;

/// What every scripted text ends with, so that nobody takes it for a model's.
const SAY_LABEL: &str = " (scripted answer)";
const ASK_LABEL: &str = " (scripted question)";

/// The reserved tool by which an agent asks a person.
const ASK_TOOL: &str = "ask_human";

/// The tags of the window's blocks.
const TAGS: [&str; 8] = ["human", "agent", "tool_call", "tool_result", "question", "answer", "notice", "summary"];

/// The script of a built-in agent, as TOML. Other agents have none.
pub fn builtin(agent: &str) -> Option<&'static str> {
    match agent {
        "deployment" => Some(include_str!("../../config/scripts/deployment.toml")),
        "support" => Some(include_str!("../../config/scripts/support.toml")),
        "assistant" => Some(include_str!("../../config/scripts/assistant.toml")),
        _ => None,
    }
}

/// Why a text is not a script. `Display` says where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    #[error("the script has {0} bytes; at most {MAX_SCRIPT_BYTES} are read")]
    TooLong(usize),
    #[error("the script has {0} replies; at most {MAX_REPLIES} are read")]
    TooMany(usize),
    #[error("the script has no [[reply]]")]
    NoReplies,
    #[error("the script is not the TOML that is expected: {0}")]
    Syntax(String),
    /// `number` counts from 1; `line` is where the `[[reply]]` stands.
    #[error("reply {number} (line {line}): {what}")]
    Reply { number: usize, line: usize, what: String },
}

/// A script that can be followed.
pub struct Scripted {
    replies: Vec<Reply>,
}

struct Reply {
    last: Option<Regex>,
    human: Option<Regex>,
    since: Option<Regex>,
    window: Option<Regex>,
    not: Option<Regex>,
    help: Option<String>,
    say: String,
    calls: Vec<ScriptedCall>,
    fail: Option<ModelErrorKind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScript {
    #[serde(default)]
    reply: Vec<Spanned<RawReply>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReply {
    last: Option<String>,
    human: Option<String>,
    since: Option<String>,
    window: Option<String>,
    not: Option<String>,
    help: Option<String>,
    say: Option<String>,
    #[serde(default)]
    call: Vec<ScriptedCall>,
    ask: Option<Question>,
    fail: Option<ModelErrorKind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptedCall {
    tool: String,
    #[serde(default)]
    args: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    question: String,
    #[serde(default)]
    kind: QuestionKind,
    #[serde(default)]
    choices: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum QuestionKind {
    #[default]
    Text,
    YesNo,
    Choice,
}

impl Scripted {
    /// Reads a script. Everything that could go wrong later is found here: a parsed script answers every
    /// request.
    ///
    /// # Errors
    /// With the number and the line of the reply that is wrong, and what is.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        if text.len() > MAX_SCRIPT_BYTES {
            return Err(ScriptError::TooLong(text.len()));
        }
        let raw: RawScript =
            toml::from_str(text).map_err(|e| ScriptError::Syntax(e.to_string().trim_end().to_owned()))?;
        if raw.reply.is_empty() {
            return Err(ScriptError::NoReplies);
        }
        if raw.reply.len() > MAX_REPLIES {
            return Err(ScriptError::TooMany(raw.reply.len()));
        }
        let replies = raw.reply.into_iter().enumerate().map(|(i, spanned)| {
            let line = text.get(..spanned.span().start).unwrap_or("").matches('\n').count() + 1;
            Reply::new(spanned.into_inner()).map_err(|what| ScriptError::Reply { number: i + 1, line, what })
        });
        Ok(Self { replies: replies.collect::<Result<_, _>>()? })
    }

    pub(super) fn answer(&self, request: &ModelRequest) -> Result<ModelReply, ModelError> {
        let view = View::of(&request.window);
        match self.replies.iter().find_map(|reply| Some((reply, reply.groups(&view)?))) {
            Some((reply, groups)) => reply.fill(&groups),
            None => Ok(said(self.lost(&view))),
        }
    }

    /// What is said where no reply fits.
    fn lost(&self, view: &View) -> String {
        let mut help: Vec<&str> = Vec::new();
        for text in self.replies.iter().filter_map(|reply| reply.help.as_deref()) {
            if !help.contains(&text) {
                help.push(text);
            }
        }
        let what = if view.last.starts_with("<human") || view.last.starts_with("<answer") {
            "I only follow a script, and it has no line for that."
        } else {
            "I only follow a script, and it does not say how to go on from here."
        };
        if help.is_empty() {
            format!("{what} Set an API key to talk to a model.")
        } else {
            format!("{what} It understands:\n- {}\nSet an API key to talk to a model.", help.join("\n- "))
        }
    }
}

impl Reply {
    fn new(raw: RawReply) -> Result<Self, String> {
        let outcomes = usize::from(raw.say.is_some() || !raw.call.is_empty())
            + usize::from(raw.ask.is_some())
            + usize::from(raw.fail.is_some());
        if outcomes != 1 {
            return Err("needs exactly one outcome: `say`, `[[reply.call]]`, `ask` or `fail`".to_owned());
        }
        if raw.call.is_empty() && raw.say.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return Err("`say` is empty".to_owned());
        }
        let mut calls = raw.call;
        if let Some(ask) = raw.ask {
            calls.push(ask.into_call()?);
        }
        let reply = Self {
            last: regex("last", raw.last)?,
            human: regex("human", raw.human)?,
            since: regex("since", raw.since)?,
            window: regex("window", raw.window)?,
            not: regex("not", raw.not)?,
            help: raw.help,
            say: raw.say.unwrap_or_default(),
            calls,
            fail: raw.fail,
        };
        reply.check_templates()?;
        Ok(reply)
    }

    /// The regexes whose groups can be named, in the order in which they are looked up.
    fn sources(&self) -> [&Option<Regex>; 4] {
        [&self.last, &self.human, &self.since, &self.window]
    }

    fn check_templates(&self) -> Result<(), String> {
        let known = |name: &str| {
            self.sources().into_iter().flatten().any(|regex| regex.capture_names().flatten().any(|n| n == name))
        };
        let mut wrong = None;
        let mut look = |text: &str, whole: bool| {
            for piece in pieces(text) {
                let problem = match piece {
                    Piece::Text(_) => None,
                    Piece::Broken => {
                        Some(format!("`$` in `{text}` is followed by no name; write `$$` for a dollar sign"))
                    }
                    Piece::Group { name, .. } if !known(name) => {
                        Some(format!("`${name}` is not a named group of `last`, `human`, `since` or `window`"))
                    }
                    Piece::Group { int: true, .. } if !whole || int_group(text).is_none() => {
                        Some(format!("`:int` in `{text}` only works for a whole argument: \"${{name:int}}\""))
                    }
                    Piece::Group { .. } => None,
                };
                wrong = wrong.take().or(problem);
            }
        };
        look(&self.say, false);
        for call in &self.calls {
            call.args.values().for_each(|value| each_string(value, &mut |text| look(text, true)));
        }
        wrong.map_or(Ok(()), Err)
    }

    /// What the regexes caught, if every condition holds.
    fn groups<'w>(&self, view: &View<'w>) -> Option<Vec<Captures<'w>>> {
        if self.not.as_ref().is_some_and(|regex| regex.is_match(view.since)) {
            return None;
        }
        let texts = [Some(view.last), view.human, Some(view.since), Some(view.window)];
        let mut groups = Vec::new();
        for (regex, text) in self.sources().into_iter().zip(texts) {
            if let Some(regex) = regex {
                groups.push(regex.captures(text?)?);
            }
        }
        Some(groups)
    }

    fn fill(&self, groups: &[Captures]) -> Result<ModelReply, ModelError> {
        if let Some(kind) = self.fail {
            return Err(failure(kind, format!("The script wants a failure here ({kind:?})")));
        }
        let mut reply = if self.say.is_empty() { said(String::new()) } else { said(fill(&self.say, groups)) };
        for call in &self.calls {
            let args = call.args.iter().map(|(key, value)| (key.clone(), fill_value(value, groups)));
            let arguments = json::canonical(&Value::Object(args.collect()));
            reply.calls.push(RawCall { tool: call.tool.clone(), arguments });
        }
        Ok(reply)
    }
}

impl Question {
    fn into_call(self) -> Result<ScriptedCall, String> {
        if (self.kind == QuestionKind::Choice) == self.choices.is_empty() {
            return Err("`choices` belong to a question of kind `choice`, and such a question needs some".to_owned());
        }
        let mut args = Map::new();
        args.insert("question".to_owned(), Value::String(self.question + ASK_LABEL));
        args.insert("kind".to_owned(), serde_json::to_value(self.kind).map_err(|e| e.to_string())?);
        if !self.choices.is_empty() {
            args.insert("choices".to_owned(), self.choices.into());
        }
        Ok(ScriptedCall { tool: ASK_TOOL.to_owned(), args })
    }
}

fn regex(name: &str, text: Option<String>) -> Result<Option<Regex>, String> {
    let Some(text) = text else { return Ok(None) };
    let regex = RegexBuilder::new(&text).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build();
    regex.map(Some).map_err(|e| match e {
        regex::Error::CompiledTooBig(_) => {
            format!("the regex of `{name}` compiles to more than {MAX_REGEX_BYTES} bytes")
        }
        other => format!("the regex of `{name}` is wrong: {other}"),
    })
}

fn said(text: String) -> ModelReply {
    let text = if text.is_empty() { text } else { text + SAY_LABEL };
    ModelReply { text, model: MODEL.to_owned(), usage: Usage::default(), ..ModelReply::default() }
}

/// The parts of a window that conditions look at.
struct View<'w> {
    window: &'w str,
    last: &'w str,
    /// Text of the last `<human>` block.
    human: Option<&'w str>,
    /// Everything after that block; the whole window without one.
    since: &'w str,
}

impl<'w> View<'w> {
    fn of(window: &'w str) -> Self {
        let mut view = View { window, last: window.trim(), human: None, since: window };
        let mut rest = window;
        while let Some((block, after)) = next_block(rest) {
            view.last = block;
            rest = after;
            if block.starts_with("<human") {
                view.human = Some(inside(block));
                view.since = after;
            }
        }
        view
    }
}

/// The next block and what follows it. Texts inside are escaped by the core, so the first closing tag
/// closes it; a block without one reaches to the end.
fn next_block(text: &str) -> Option<(&str, &str)> {
    let mut rest = text;
    loop {
        if let Some(tag) = opened(rest) {
            let close = format!("</{tag}>");
            let length = rest.find(&close).map_or(rest.len(), |at| at + close.len());
            return rest.split_at_checked(length);
        }
        rest = rest.split_once('\n')?.1;
    }
}

/// The tag that a line opens.
fn opened(line: &str) -> Option<&'static str> {
    let line = line.strip_prefix('<')?;
    TAGS.into_iter().find(|tag| line.strip_prefix(tag).is_some_and(|rest| rest.starts_with([' ', '>'])))
}

/// The text between a block's tags.
fn inside(block: &str) -> &str {
    let after = match block.split_once('\n') {
        Some((tag, after)) if tag.ends_with('>') => after,
        _ => block.split_once('>').map_or("", |(_, after)| after),
    };
    after.rsplit_once("</").map_or(after, |(text, _)| text).trim()
}

/// A template, piece by piece.
enum Piece<'t> {
    Text(&'t str),
    Group {
        name: &'t str,
        int: bool,
    },
    /// A dollar sign that starts nothing.
    Broken,
}

fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        pieces.push(Piece::Text(before));
        let name_end = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        if let Some(after) = after.strip_prefix('$') {
            pieces.push(Piece::Text("$"));
            rest = after;
        } else if let Some((inner, after)) = after.strip_prefix('{').and_then(|text| text.split_once('}')) {
            let (name, int) = inner.strip_suffix(":int").map_or((inner, false), |name| (name, true));
            pieces.push(if name_end(name) == name.len() { Piece::Group { name, int } } else { Piece::Broken });
            rest = after;
        } else {
            let (name, after) = after.split_at_checked(name_end(after)).unwrap_or(("", after));
            pieces.push(if name.is_empty() { Piece::Broken } else { Piece::Group { name, int: false } });
            rest = after;
        }
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// The name in a string that is exactly `${name:int}`.
fn int_group(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix(":int}").filter(|name| !name.contains(['$', '{', '}']))
}

fn group<'g>(name: &str, groups: &'g [Captures]) -> &'g str {
    groups.iter().find_map(|captures| captures.name(name)).map_or("", |found| found.as_str())
}

fn fill(template: &str, groups: &[Captures]) -> String {
    let piece = |piece| match piece {
        Piece::Text(text) => text,
        Piece::Group { name, .. } => group(name, groups),
        Piece::Broken => "$",
    };
    pieces(template).into_iter().map(piece).collect()
}

/// Fills every string inside. What should be a number and is not stays text: the schema then says so.
fn fill_value(value: &Value, groups: &[Captures]) -> Value {
    match value {
        Value::String(text) => match int_group(text).map(|name| group(name, groups)) {
            Some(digits) => digits.parse::<i64>().map_or_else(|_| digits.into(), Value::from),
            None => fill(text, groups).into(),
        },
        Value::Array(items) => items.iter().map(|item| fill_value(item, groups)).collect(),
        Value::Object(object) => {
            object.iter().map(|(key, value)| (key.clone(), fill_value(value, groups))).collect::<Map<_, _>>().into()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn each_string(value: &Value, look: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => look(text),
        Value::Array(items) => items.iter().for_each(|item| each_string(item, look)),
        Value::Object(object) => object.values().for_each(|value| each_string(value, look)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What a script looks at, in the place of a request body.
pub(super) fn body(request: &ModelRequest) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        model: &'a str,
        max_output_tokens: u32,
        system: &'a str,
        window: &'a str,
        tools: &'a [ToolDecl],
    }
    let ModelRequest { model, system, window, tools, max_output_tokens } = request;
    // Cannot fail: every map in it has string keys.
    serde_json::to_vec(&Body { model, max_output_tokens: *max_output_tokens, system, window, tools })
        .unwrap_or_default()
}
