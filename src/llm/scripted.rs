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

use std::sync::LazyLock;

use regex::{Captures, Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::Spanned;

use super::failure;
use crate::agent::{ModelError, ModelErrorKind, ModelReply, ModelRequest, RawCall, ToolDecl, Usage, json};

/// The model that a scripted reply names.
pub const MODEL: &str = "scripted";
/// Longest script, in bytes; the longest compiled-in one has about 7,000.
pub const MAX_SCRIPT_BYTES: usize = 256 * 1024;
/// Most replies in a script: each may be tried for each answer.
pub const MAX_REPLIES: usize = 500;
/// Most memory that one compiled regex may take, in bytes.
pub const MAX_REGEX_BYTES: usize = 512 * 1024;

/// What every scripted text ends with, so that nobody takes it for a model's.
const SAY_LABEL: &str = " (scripted answer)";
const ASK_LABEL: &str = " (scripted question)";

/// The reserved tool by which an agent asks a person.
const ASK_TOOL: &str = crate::agent::ASK_HUMAN;

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
    /// A compiled-in script is read when it is first asked something: its expressions take longer to
    /// compile than all the rest of a start, and most processes ask none or one of them.
    replies: LazyLock<Vec<Reply>, Box<dyn FnOnce() -> Vec<Reply> + Send>>,
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
        let replies = replies(text)?;
        let script = Self { replies: LazyLock::new(Box::new(move || replies)) };
        Ok(script)
    }

    /// The compiled-in script of an agent, if it has one. A test reads them all, so none can be wrong.
    pub fn builtin(agent: &str) -> Option<Self> {
        let text = builtin(agent)?;
        Some(Self { replies: LazyLock::new(Box::new(move || replies(text).unwrap_or_default())) })
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

fn replies(text: &str) -> Result<Vec<Reply>, ScriptError> {
    if text.len() > MAX_SCRIPT_BYTES {
        return Err(ScriptError::TooLong(text.len()));
    }
    let raw: RawScript = toml::from_str(text).map_err(|e| ScriptError::Syntax(e.to_string().trim_end().to_owned()))?;
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
    replies.collect()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::Finish;

    fn request(window: &str) -> ModelRequest {
        ModelRequest {
            model: MODEL.to_owned(),
            system: String::new(),
            window: window.to_owned(),
            tools: Vec::new().into(),
            max_output_tokens: 100,
        }
    }

    fn human(text: &str) -> String {
        format!("<human from=\"ops\">\n{text}\n</human>")
    }

    fn result(tool: &str, outcome: &str, text: &str) -> String {
        format!(
            "<tool_result id=\"call_aaaaaaaaaaaaaaaa_2\" tool=\"{tool}\" outcome=\"{outcome}\">\n{text}\n</tool_result>"
        )
    }

    fn call(tool: &str) -> String {
        format!("<tool_call id=\"call_aaaaaaaaaaaaaaaa_2\" tool=\"{tool}\">\n{{}}\n</tool_call>")
    }

    fn answer(text: &str) -> String {
        format!("<question>\nWell?\n</question>\n<answer from=\"ops\">\n{text}\n</answer>")
    }

    /// What a script does next, in one line: `say …`, or its calls, with prose before a `|`.
    fn next(script: &Scripted, blocks: &[String]) -> String {
        let reply = script.answer(&request(&blocks.join("\n"))).unwrap();
        assert_eq!((reply.finish, reply.usage, reply.model.as_str()), (Finish::Complete, Usage::default(), "scripted"));
        let calls = reply.calls.iter().map(|c| {
            json::parse(&c.arguments).unwrap();
            format!("{} {}", c.tool, c.arguments)
        });
        let calls = calls.collect::<Vec<_>>().join(", ");
        match reply.text.strip_suffix(" (scripted answer)") {
            Some(text) if calls.is_empty() => format!("say {text}"),
            Some(text) => format!("{text} | {calls}"),
            None => {
                assert!(reply.text.is_empty(), "not labelled: {}", reply.text);
                calls
            }
        }
    }

    fn script(text: &str) -> Scripted {
        Scripted::parse(text).unwrap_or_else(|e| panic!("{e}"))
    }

    fn builtin_script(agent: &str) -> Scripted {
        script(builtin(agent).unwrap())
    }

    // ---- the language ----

    #[test]
    fn the_first_reply_whose_conditions_all_hold_answers() {
        let script = script(
            r#"
            [[reply]]
            human = 'deploy'
            last = '^<tool_result'
            say = "both"
            [[reply]]
            human = 'deploy'
            say = "human alone"
            [[reply]]
            say = "anything"
            "#,
        );
        assert_eq!(next(&script, &[human("deploy"), result("t", "succeeded", "x")]), "say both");
        assert_eq!(next(&script, &[human("deploy")]), "say human alone");
        assert_eq!(next(&script, &[human("hello"), result("t", "succeeded", "deploy")]), "say anything");
        assert_eq!(next(&script, &[]), "say anything", "a window without a person is no match for `human`");
    }

    #[test]
    fn not_and_since_look_only_behind_the_last_human_block() {
        let script = script(
            r#"
            [[reply]]
            not = 'tool="check"'
            say = "unchecked"
            [[reply]]
            since = 'outcome="(?<how>failed)"'
            say = "$how"
            [[reply]]
            window = 'outcome="failed"'
            say = "failed once, long ago"
            "#,
        );
        let (check, failed) = (call("check"), result("check", "failed", "x"));
        assert_eq!(next(&script, &[check.clone(), failed.clone(), human("again")]), "say unchecked");
        assert_eq!(next(&script, &[human("again"), check.clone(), failed.clone()]), "say failed");
        assert_eq!(
            next(&script, &[failed, human("again"), check, result("check", "succeeded", "")]),
            "say failed once, long ago"
        );
    }

    #[test]
    fn last_is_the_whole_last_block_and_human_the_bare_text_of_the_last_one() {
        let script = script(
            r#"
            [[reply]]
            last = '^<tool_result id="call_\w+" tool="(?<tool>\w+)" outcome="(?<outcome>\w+)">\n(?s)(?<text>.*)\n</tool_result>$'
            human = '^(?<said>two)$'
            say = "$tool/$outcome/$text/$said"
            [[reply]]
            last = '^<human from="(?<who>[^"]+)">'
            human = '(?s)^(?<all>.*)$'
            say = "$who: $all"
            "#,
        );
        let text = "line <b>\n<unknown>\nend";
        assert_eq!(
            next(&script, &[human("one"), human("two"), result("t", "denied", text)]),
            format!("say t/denied/{text}/two")
        );
        assert_eq!(next(&script, &[human("a>b\n\nc &lt;human> d")]), "say ops: a>b\n\nc &lt;human> d");
    }

    #[test]
    fn groups_are_filled_into_texts_and_arguments_and_nowhere_else() {
        let script = script(
            r#"
            [[reply]]
            human = '(?<n>\S+) (?<word>\w+)(?<gone>!)?'
            say = "${word}s cost $$$n$gone."
            [[reply.call]]
            tool = "t"
            args = { n = "${n:int}", text = "$n ${word}", deep = { list = ["$word", 1, true] }, "$word" = "key" }
            [[reply.call]]
            tool = "u"
            "#,
        );
        assert_eq!(
            next(&script, &[human("7 apple")]),
            r#"apples cost $7. | t {"$word":"key","deep":{"list":["apple",1,true]},"n":7,"text":"7 apple"}, u {}"#
        );
        // No number: it stays text, and the schema of the tool says so to the "model".
        let reply = script.answer(&request(&human("x\"y word"))).unwrap();
        let args: Value = serde_json::from_str(&reply.calls[0].arguments).unwrap();
        assert_eq!((&args["n"], &args["text"]), (&json!("x\"y"), &json!("x\"y word")), "{}", reply.text);
    }

    #[test]
    fn what_people_wrote_is_never_read_as_a_template_or_as_json() {
        let script =
            script("[[reply]]\nhuman = '(?s)^(?<x>.*)$'\n[[reply.call]]\ntool = \"t\"\nargs = { x = \"<$x>\" }");
        for text in ["$x ${x} ${x:int} $$", "\",\"y\":\"z", "\\", "</human", "é\u{1F980}\u{0}"] {
            let reply = script.answer(&request(&human(text))).unwrap();
            let args = json::parse(&reply.calls[0].arguments).unwrap();
            assert_eq!(args, json!({"x": format!("<{text}>")}));
        }
    }

    #[test]
    fn a_question_is_a_call_of_ask_human_and_labelled() {
        let script = script(
            r#"
            [[reply]]
            human = 'where (?<what>\w+)'
            ask = { question = "Where to with $what?", kind = "choice", choices = ["here", "$what"] }
            [[reply]]
            human = 'sure'
            ask = { question = "Sure?", kind = "yes_no" }
            [[reply]]
            ask = { question = "What?" }
            "#,
        );
        assert_eq!(
            next(&script, &[human("where api")]),
            r#"ask_human {"choices":["here","api"],"kind":"choice","question":"Where to with api? (scripted question)"}"#
        );
        assert_eq!(
            next(&script, &[human("sure")]),
            r#"ask_human {"kind":"yes_no","question":"Sure? (scripted question)"}"#
        );
        assert_eq!(next(&script, &[human("?")]), r#"ask_human {"kind":"text","question":"What? (scripted question)"}"#);
    }

    #[test]
    fn a_failure_has_the_kind_that_the_script_names() {
        let script = script("[[reply]]\nfail = \"rate_limited\"");
        let error = script.answer(&request(&human("x"))).unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::RateLimited);
    }

    #[test]
    fn where_nothing_fits_the_answer_says_what_does() {
        let script = script(
            r#"
            [[reply]]
            human = '^a'
            help = "a thing"
            say = "a"
            [[reply]]
            human = '^aa'
            help = "a thing"
            say = "aa"
            [[reply]]
            human = '^b'
            help = "b <thing>"
            say = "b"
            "#,
        );
        let list = "It understands:\n- a thing\n- b <thing>\nSet an API key to talk to a model.";
        assert_eq!(
            next(&script, &[human("z")]),
            format!("say I only follow a script, and it has no line for that. {list}")
        );
        let stuck = [human("z"), result("t", "failed", "x")];
        assert_eq!(
            next(&script, &stuck),
            format!("say I only follow a script, and it does not say how to go on from here. {list}")
        );
    }

    #[test]
    fn the_same_request_gets_the_same_answer_from_another_process() {
        let window = [human("deploy api v1.2.3 to staging")];
        let answers: Vec<String> = (0..2).map(|_| next(&builtin_script("deployment"), &window)).collect();
        assert_eq!(answers[0], answers[1]);
    }

    #[test]
    fn a_wrong_script_is_refused_with_the_number_and_line_of_its_reply() {
        let error = |text: &str| Scripted::parse(text).err().unwrap().to_string();
        let second = |reply: &str| error(&format!("[[reply]]\nsay = \"fine\"\n\n# a comment\n[[reply]]\n{reply}"));
        for (reply, what) in [
            ("", "needs exactly one outcome: `say`, `[[reply.call]]`, `ask` or `fail`"),
            ("say = \"x\"\nfail = \"server\"", "needs exactly one outcome: `say`, `[[reply.call]]`, `ask` or `fail`"),
            ("say = \" \"", "`say` is empty"),
            ("say = \"$who\"", "`$who` is not a named group of `last`, `human`, `since` or `window`"),
            (
                "not = '(?<who>x)'\nsay = \"$who\"",
                "`$who` is not a named group of `last`, `human`, `since` or `window`",
            ),
            ("say = \"5 $\"", "`$` in `5 $` is followed by no name; write `$$` for a dollar sign"),
            (
                "human = '(?<n>x)'\nsay = \"${n:int}\"",
                "`:int` in `${n:int}` only works for a whole argument: \"${name:int}\"",
            ),
            (
                "human = '(?<n>x)'\n[[reply.call]]\ntool = \"t\"\nargs = { a = [\"n ${n:int}\"] }",
                "`:int` in `n ${n:int}` only works for a whole argument: \"${name:int}\"",
            ),
            (
                "ask = { question = \"?\", kind = \"choice\" }",
                "`choices` belong to a question of kind `choice`, and such a question needs some",
            ),
            ("human = '\\w{9}{999}{99}'\nsay = \"x\"", "the regex of `human` compiles to more than 524288 bytes"),
        ] {
            assert_eq!(second(reply), format!("reply 2 (line 5): {what}"), "{reply}");
        }
        assert!(second("last = '('\nsay = \"x\"").starts_with("reply 2 (line 5): the regex of `last` is wrong: "));
        assert!(error("[[reply]]\nsay = \"x\"\nwhen = \"y\"").contains("line 3"), "an unknown key");
        assert!(error("[[reply]]\nfail = \"tired\"").contains("line 2"), "an unknown kind");
        assert_eq!(error(""), "the script has no [[reply]]");
        assert_eq!(error(&"#".repeat(MAX_SCRIPT_BYTES + 1)), "the script has 262145 bytes; at most 262144 are read");
        assert_eq!(
            error(&"[[reply]]\nsay = \"x\"\n".repeat(MAX_REPLIES + 1)),
            "the script has 501 replies; at most 500 are read"
        );
    }

    #[test]
    fn a_window_of_megabytes_of_tags_is_read_to_its_end() {
        let script = script("[[reply]]\nhuman = 'needle'\nsay = \"found\"");
        let blocks: Vec<String> =
            (0..20_000).map(|_| result("t", "succeeded", "<tool <humane\n<\n&lt;human>")).collect();
        let window = format!("{}\n{}\n{}", human("a needle"), blocks.join("\n"), "<agent>\nunclosed");
        assert_eq!(script.answer(&request(&window)).unwrap().text, "found (scripted answer)");
        assert_eq!(View::of(&window).last, "<agent>\nunclosed");
    }

    // ---- the compiled-in scripts ----

    #[test]
    fn every_built_in_agent_has_a_script_and_no_other_agent_has() {
        for agent in ["deployment", "support", "assistant"] {
            builtin_script(agent);
        }
        assert_eq!(builtin("other"), None);
    }

    #[test]
    fn the_deployment_script_checks_deploys_and_says_what_happened() {
        let script = builtin_script("deployment");
        let mut window = vec![human("Please deploy api v1.2.3 to staging.")];
        assert_eq!(
            next(&script, &window),
            r#"I look at api in staging before I touch it. | check_service_status {"environment":"staging","service":"api"}"#
        );
        window.extend([
            call("check_service_status"),
            result("check_service_status", "succeeded", "api: healthy, v1.2.2\n3 ms"),
        ]);
        assert_eq!(
            next(&script, &window),
            r#"Status before: api: healthy, v1.2.2. Now the deployment. | deploy_service {"environment":"staging","service":"api","version":"v1.2.3"}"#
        );
        window.push(call("deploy_service"));
        let end = |outcome, text: &str| {
            next(&script, &[window.clone(), vec![result("deploy_service", outcome, text)]].concat())
        };
        assert_eq!(end("succeeded", "now v1.2.3"), "say Deployed: now v1.2.3");
        assert_eq!(end("succeeded", "now v1.2.4, edited by bob\nmore"), "say Deployed: now v1.2.4, edited by bob");
        assert_eq!(
            end("failed", "exit 1"),
            "say The deployment failed: exit 1\nI did not try again. Ask me once the cause is known."
        );
        assert_eq!(
            end("denied", "bob denied this call: not on a Friday\nDo not make it again."),
            "say Nothing was deployed: bob denied this call: not on a Friday"
        );
        assert_eq!(
            end("expired", "nobody decided in time"),
            "say Nothing was deployed: nobody decided in time. Ask me again when somebody is there."
        );
        assert_eq!(end("cancelled", "stopped"), "say Nothing was deployed: stopped");
        assert_eq!(end("not_run", "an earlier call failed"), "say Nothing was deployed: an earlier call failed");

        // A later request starts anew, whatever happened before.
        window
            .extend([result("deploy_service", "denied", "no"), "<agent>\nNothing was deployed.\n</agent>".to_owned()]);
        window.push(human("ship web 2.0.0-rc.1 to production"));
        assert_eq!(
            next(&script, &window),
            r#"I look at web in production before I touch it. | check_service_status {"environment":"production","service":"web"}"#
        );
    }

    #[test]
    fn the_deployment_script_uses_a_check_that_was_made_before_it_was_asked() {
        let script = builtin_script("deployment");
        let window = [
            human("deploy api v1.2.3 to staging"),
            call("check_service_status"),
            result("check_service_status", "succeeded", "healthy"),
        ];
        assert!(next(&script, &window).starts_with("Status before: healthy. Now the deployment. | deploy_service "));
    }

    #[test]
    fn the_deployment_script_asks_a_person_if_the_check_fails() {
        let script = builtin_script("deployment");
        let window = vec![human("deploy api v1.2.3 to staging"), result("check_service_status", "failed", "timed out")];
        assert_eq!(
            next(&script, &window),
            r#"ask_human {"kind":"yes_no","question":"I could not check api: timed out. Deploy v1.2.3 to staging all the same? (scripted question)"}"#
        );
        let answered = |text| next(&script, &[window.clone(), vec![answer(text)]].concat());
        let deploy = r#"deploy_service {"environment":"staging","service":"api","version":"v1.2.3"}"#;
        assert_eq!(answered("yes"), format!("As you say, without a check. | {deploy}"));
        assert_eq!(answered("Yes, go on"), format!("As you say, without a check. | {deploy}"));
        for no in ["no", "yesterday?", "not yet"] {
            assert_eq!(answered(no), "say Then I leave it as it is. Nothing was deployed.");
        }
    }

    #[test]
    fn the_deployment_script_asks_where_if_nobody_said() {
        let script = builtin_script("deployment");
        let mut window = vec![human("deploy api v1.2.3")];
        assert_eq!(
            next(&script, &window),
            r#"ask_human {"choices":["staging","production"],"kind":"choice","question":"Where shall api v1.2.3 go? (scripted question)"}"#
        );
        window.push(answer("staging"));
        assert!(
            next(&script, &window).ends_with(r#" | check_service_status {"environment":"staging","service":"api"}"#)
        );
        window.push(result("check_service_status", "succeeded", "healthy"));
        assert!(
            next(&script, &window)
                .ends_with(r#" | deploy_service {"environment":"staging","service":"api","version":"v1.2.3"}"#)
        );
    }

    #[test]
    fn the_deployment_script_understands_these_sentences() {
        let script = builtin_script("deployment");
        let check = |args: &str| format!("check_service_status {args}");
        for (sentence, expected) in [
            ("is api healthy", check(r#"{"service":"api"}"#)),
            ("Is the api up?", check(r#"{"service":"api"}"#)),
            ("status of api", check(r#"{"service":"api"}"#)),
            ("check on web-2", check(r#"{"service":"web-2"}"#)),
            ("how is api doing?", check(r#"{"service":"api"}"#)),
            ("is api healthy in staging?", check(r#"{"environment":"staging","service":"api"}"#)),
            ("status of api in production", check(r#"{"environment":"production","service":"api"}"#)),
            ("sleep 10 seconds", r#"sleep {"reason":"asked to wait","seconds":10}"#.to_owned()),
            ("wait for 3s", r#"sleep {"reason":"asked to wait","seconds":3}"#.to_owned()),
            ("wait a minute", r#"sleep {"reason":"asked to wait","seconds":60}"#.to_owned()),
            ("wait", r#"sleep {"reason":"asked to wait","seconds":10}"#.to_owned()),
            ("log: release day", r#"log_message {"level":"info","message":"release day"}"#.to_owned()),
        ] {
            assert_eq!(next(&script, &[human(sentence)]), expected, "{sentence}");
        }
        assert!(next(&script, &[human("hello")]).starts_with("say I check services and deploy them"));
        assert!(next(&script, &[human("deploy api")]).contains("- deploy <service> <version> to <environment>"));

        let asked = human("is api healthy?");
        let status = result("check_service_status", "succeeded", "api: healthy\n3 ms");
        assert_eq!(next(&script, &[asked.clone(), status]), "say api: healthy\n3 ms");
        let failed = result("check_service_status", "failed", "no such service");
        assert_eq!(next(&script, &[asked, failed]), "say The check did not work (failed): no such service");
        let slept = result("sleep", "succeeded", "slept 10s");
        assert_eq!(next(&script, &[human("sleep 10 seconds"), slept]), "say Awake again: slept 10s");
    }

    #[test]
    fn the_support_script_writes_the_problem_down_asks_one_question_and_ends() {
        let script = builtin_script("support");
        let log = |text: &str, level: &str| format!(r#"log_message {{"level":"{level}","message":"{text}"}}"#);
        let written = result("log_message", "succeeded", "logged");
        for (problem, level, question) in [
            (
                "I cannot log in",
                "info",
                r#"{"kind":"yes_no","question":"Do you see an error message when you sign in? (scripted question)"}"#,
            ),
            (
                "My invoice is wrong",
                "info",
                r#"{"choices":["a wrong amount","a refund","a missing invoice","something else"],"kind":"choice","question":"What is it about? (scripted question)"}"#,
            ),
            (
                "The app crashes",
                "warn",
                r#"{"kind":"text","question":"What did you do right before it happened? (scripted question)"}"#,
            ),
        ] {
            let mut window = vec![human(problem)];
            assert_eq!(next(&script, &window), log(&format!("Support request: {problem}"), level));
            window.push(written.clone());
            assert_eq!(next(&script, &window), format!("ask_human {question}"));
            window.push(answer("yes, since noon"));
            assert_eq!(
                next(&script, &window),
                format!("Thank you. I add that to the log. | {}", log("Support answer: yes, since noon", "info"))
            );
            window.push(written.clone());
            assert_eq!(
                next(&script, &window),
                "say Noted: yes, since noon. The problem and your answer are in the log for the people of support."
            );
        }
        assert!(next(&script, &[human("hello")]).starts_with("say I take down problems"));
        let failed = [human("My app is slow"), result("log_message", "failed", "disk full")];
        assert_eq!(next(&script, &failed), "say I could not write it down (log_message: failed): disk full");
    }

    #[test]
    fn the_support_script_looks_twice_before_it_calls_a_service_down() {
        let script = builtin_script("support");
        let check = || {
            "<tool_call id=\"call_aaaaaaaaaaaaaaaa_2\" tool=\"check_service_status\">\n{\"service\":\"api\"}\n</tool_call>".to_owned()
        };
        let down = result("check_service_status", "succeeded", "api staging: NOT healthy, HTTP 500 in 3 ms");
        let mut window = vec![human("the api gives me errors"), check(), down.clone()];
        let sleep = r#"sleep {"reason":"before the second check","seconds":10}"#;
        assert!(next(&script, &window).ends_with(sleep), "{}", next(&script, &window));
        window.extend([call("sleep"), result("sleep", "succeeded", "slept 10s")]);
        assert_eq!(next(&script, &window), r#"check_service_status {"service":"api"}"#);

        // Well again: that is said, and the person is asked what they see.
        let well = result("check_service_status", "succeeded", "api staging: healthy, HTTP 200 in 3 ms");
        let asked = next(&script, &[window.clone(), vec![check(), well]].concat());
        assert!(asked.contains("api staging: healthy") && asked.contains("What exactly do you see?"), "{asked}");

        window.extend([check(), down]);
        assert_eq!(
            next(&script, &window),
            r#"The second check failed as well. I note it. | log_message {"level":"error","message":"api is down, two checks in a row: api staging: NOT healthy, HTTP 500 in 3 ms (reported as: the api gives me errors)"}"#
        );
        window.extend([call("log_message"), result("log_message", "succeeded", "logged")]);
        let said = next(&script, &window);
        assert!(said.starts_with("say I checked twice, and both checks failed: api staging: NOT healthy"), "{said}");
    }

    #[test]
    fn the_support_script_writes_down_what_it_cannot_check_and_asks_what_is_unclear() {
        let script = builtin_script("support");
        for why in ["there is no service `app`", "no services are configured; an operator adds them"] {
            let window = [human("our app does not start"), result("check_service_status", "failed", why)];
            let next = next(&script, &window);
            assert!(next.contains(r#"log_message {"level":"warn","message":"Support request: our app"#), "{next}");
        }
        let vague = human("it does not work!!");
        assert!(next(&script, std::slice::from_ref(&vague)).starts_with("ask_human "));
        assert_eq!(
            next(&script, &[vague, answer("the api, a blank page")]),
            r#"Thank you. I add that to the log. | log_message {"level":"info","message":"Support request: it does not work!! Answer: the api, a blank page"}"#
        );
    }

    #[test]
    fn the_deployment_script_asks_which_version_if_nobody_said_and_takes_only_an_exact_one() {
        let script = builtin_script("deployment");
        let mut window = vec![human("please deploy the api to production")];
        assert_eq!(
            next(&script, &window),
            r#"ask_human {"kind":"text","question":"Which version of api shall go to production? (scripted question)"}"#
        );
        let vague = [window.clone(), vec![answer("the newest")]].concat();
        assert_eq!(next(&script, &vague), "say I need one exact version, such as v1.2.3. Nothing was deployed.");
        window.push(answer("v1.2.3"));
        let check = r#" | check_service_status {"environment":"production","service":"api"}"#;
        assert!(next(&script, &window).ends_with(check), "{}", next(&script, &window));
        window.push(result("check_service_status", "succeeded", "healthy"));
        let deploy = r#" | deploy_service {"environment":"production","service":"api","version":"v1.2.3"}"#;
        assert!(next(&script, &window).ends_with(deploy), "{}", next(&script, &window));
    }

    #[test]
    fn the_deployment_script_does_not_offer_what_cannot_be_deployed() {
        let script = builtin_script("deployment");
        let why = "check_service_status: no services are configured; an operator adds them as [tools.services.<name>]";
        let window = [human("deploy api v1.2.3 to staging"), result("check_service_status", "failed", why)];
        let said = next(&script, &window);
        assert!(said.starts_with("say Nothing was deployed: no services are configured;"), "{said}");
        assert!(said.contains("`twelve demo`"), "{said}");
    }

    #[test]
    fn the_deployment_script_asks_a_person_if_the_service_is_not_well() {
        let script = builtin_script("deployment");
        let status = result("check_service_status", "succeeded", "api staging: NOT healthy, HTTP 500");
        let window = [human("deploy api v1.2.3 to staging"), status];
        assert_eq!(
            next(&script, &window),
            r#"ask_human {"kind":"yes_no","question":"The service is not well: api staging: NOT healthy, HTTP 500. Deploy v1.2.3 to staging all the same? (scripted question)"}"#
        );
    }

    #[test]
    fn the_assistant_script_waits_then_looks_and_knows_a_few_codes() {
        let script = builtin_script("assistant");
        let asked = human("check the api in ten minutes and tell me");
        assert_eq!(next(&script, std::slice::from_ref(&asked)), r#"sleep {"reason":"asked to wait","seconds":600}"#);
        let slept = result("sleep", "succeeded", "slept 600s");
        assert_eq!(next(&script, &[asked, slept]), r#"check_service_status {"service":"api"}"#);
        assert!(next(&script, &[human("check api in 7 minutes")]).starts_with("say I can wait 1, 2, 5"));
        assert!(next(&script, &[human("what does HTTP 404 mean?")]).starts_with("say 404 Not Found"));
        assert!(next(&script, &[human("say 404 times")]).starts_with("say 404 times"));
    }

    #[test]
    fn the_assistant_script_understands_these_sentences() {
        let script = builtin_script("assistant");
        for (sentence, expected) in [
            ("is api healthy?", r#"check_service_status {"service":"api"}"#),
            ("status of api in staging", r#"check_service_status {"environment":"staging","service":"api"}"#),
            ("log coffee is ready", r#"log_message {"level":"info","message":"coffee is ready"}"#),
            ("log error: the disk is full", r#"log_message {"level":"error","message":"the disk is full"}"#),
            ("sleep 5 seconds", r#"sleep {"reason":"asked to wait","seconds":5}"#),
            ("say good luck", "say good luck"),
            ("Hello there", "say Hello. I can check a service, write a line to the log, or talk back a little."),
            ("thanks!", "say You are welcome."),
            ("what is the meaning of it all?", "say You wrote: what is the meaning of it all?"),
        ] {
            assert_eq!(next(&script, &[human(sentence)]), expected, "{sentence}");
        }
        let status = result("check_service_status", "succeeded", "healthy");
        assert_eq!(next(&script, &[human("is api healthy?"), status]), "say healthy");
        let logged = result("log_message", "succeeded", "logged");
        assert_eq!(next(&script, &[human("log x"), logged]), "say Written to the log.");
        let denied = result("log_message", "denied", "bob denied this call");
        assert_eq!(next(&script, &[human("log x"), denied]), "say log_message ended as denied: bob denied this call");
    }
}
