//! Prompt cases: what an agent is expected to do in a situation, as data beside its prompt.
//!
//! This module owns the format of `<name>.cases.toml` and the judgement on one reply. Who asks a model,
//! and which, is up to the caller (`twelve prompts test`); [`check`] is pure, so the same case judges a
//! scripted reply in our own tests and a real one at the operator's.

use serde::Deserialize;
use serde_json::Value;

use super::id::{CallId, Principal, ShortId};
use super::json;
use super::model::ModelReply;
use super::reply::ASK_HUMAN;
use super::spec::toml_problem;
use super::window::{About, Block, Ending, Entry, Window};

/// Bytes that are counted as one token: the usual rule of thumb for English prose. No provider is asked.
pub const BYTES_PER_TOKEN: usize = 4;

/// One situation and what has to come of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// The conversation so far, oldest first.
    #[serde(default)]
    pub window: Vec<CaseBlock>,
    /// What the reply has to be; absent: only the prompt is looked at.
    #[serde(default)]
    pub expect: Option<Expect>,
    /// Tools that the reply must not call.
    #[serde(default)]
    pub never: Vec<String>,
    /// Texts that the rendered prompt has to contain, and must not contain.
    #[serde(default)]
    pub prompt_contains: Vec<String>,
    #[serde(default)]
    pub prompt_lacks: Vec<String>,
    /// Upper bound of the rendered prompt, in tokens of [`BYTES_PER_TOKEN`] bytes.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
}

/// A block of the window, as short as it can be written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CaseBlock {
    Human(String),
    Agent(String),
    ToolCall(CaseCall),
    ToolResult(CaseResult),
    Question(String),
    Answer(String),
    Notice(String),
    Summary(String),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseCall {
    pub tool: String,
    #[serde(default)]
    pub args: Value,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseResult {
    pub tool: String,
    /// `succeeded`, `failed`, `denied`, `expired`, `cancelled` or `not_run`.
    pub outcome: String,
    #[serde(default)]
    pub text: String,
    /// Whether the text was written outside, and is marked so in the window.
    #[serde(default)]
    pub untrusted: bool,
}

/// What a reply has to be: one of a call, an answer, a question.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// The first call has to be of this tool...
    pub tool: Option<String>,
    /// ...with at least these arguments.
    pub args: Option<Value>,
    /// The reply has to be an answer that contains each of these, in any case.
    pub say_contains: Vec<String>,
    /// The reply has to ask a person.
    pub asks: bool,
}

const OUTCOMES: [&str; 6] = ["succeeded", "failed", "denied", "expired", "cancelled", "not_run"];

/// Reads a file of cases.
///
/// # Errors
/// Everything that is wrong with it, one sentence each.
pub fn parse(file: &str, text: &str) -> Result<Vec<Case>, Vec<String>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Cases {
        #[serde(default)]
        case: Vec<Case>,
    }
    let cases = toml::from_str::<Cases>(text).map_err(|e| vec![toml_problem(file, text, 0, &e)])?.case;
    let mut problems = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        let mut wrong = |what: String| problems.push(format!("{file}: case `{}`: {what}", case.name));
        if cases.iter().take(i).any(|other| other.name == case.name) {
            wrong("there is another case with this name".to_owned());
        }
        for block in &case.window {
            if let CaseBlock::ToolResult(CaseResult { outcome, .. }) = block
                && !OUTCOMES.contains(&outcome.as_str())
            {
                let hint = super::did_you_mean(outcome, OUTCOMES);
                wrong(format!("`{outcome}` is no outcome; there are {}{hint}", OUTCOMES.join(", ")));
            }
        }
        if let Some(expect) = &case.expect {
            let kinds = [expect.tool.is_some(), !expect.say_contains.is_empty(), expect.asks];
            if kinds.iter().filter(|given| **given).count() != 1 {
                wrong("`expect` has to name exactly one of `tool`, `say_contains` and `asks`".to_owned());
            }
            if expect.args.is_some() && expect.tool.is_none() {
                wrong("`expect.args` needs `expect.tool`".to_owned());
            }
        }
        if case.expect.is_none()
            && case.never.is_empty()
            && case.prompt_contains.is_empty()
            && case.prompt_lacks.is_empty()
            && case.max_prompt_tokens.is_none()
        {
            wrong("it expects nothing".to_owned());
        }
    }
    if problems.is_empty() { Ok(cases) } else { Err(problems) }
}

/// The conversation of a case as the window that a model would see.
pub fn window(case: &Case) -> Window {
    let thread = ShortId::default();
    let person = || Principal::human("case:person");
    let mut window = Window::default();
    let mut last: Vec<(&str, CallId)> = Vec::new();
    for (block, seq) in case.window.iter().zip(1..) {
        let untrusted = matches!(block, CaseBlock::ToolResult(result) if result.untrusted);
        let block = match block {
            CaseBlock::Human(text) => Block::Human { from: person(), text: text.clone() },
            CaseBlock::Agent(text) => Block::Agent { text: text.clone() },
            CaseBlock::ToolCall(CaseCall { tool, args }) => {
                let call = CallId::new(thread, seq, 0);
                last.push((tool, call));
                let args = if args.is_null() { Value::Object(serde_json::Map::new()) } else { args.clone() };
                Block::ToolCall { call, tool: tool.clone(), args, why: String::new() }
            }
            CaseBlock::ToolResult(CaseResult { tool, outcome, text, untrusted: _ }) => Block::ToolResult {
                // A result belongs to the last call of its tool.
                call: last.iter().rev().find(|(of, _)| of == tool).map_or(CallId::new(thread, seq, 0), |(_, c)| *c),
                tool: tool.clone(),
                // `parse` has refused every other word.
                ending: Ending::from_word(outcome).unwrap_or(Ending::NotRun),
                text: text.clone(),
            },
            CaseBlock::Question(text) => Block::Question { text: text.clone() },
            CaseBlock::Answer(text) => Block::Answer { from: person(), text: text.clone() },
            CaseBlock::Notice(text) => Block::Notice { text: text.clone() },
            CaseBlock::Summary(text) => {
                window.summarise(seq, text);
                continue;
            }
        };
        let mut entry = Entry::new(seq, block, untrusted);
        if let Block::ToolResult { call, tool, .. } = &entry.block
            && let Some(args) = window.args_of(*call)
        {
            let about = About::of(tool, args, &[], false);
            entry = entry.about(about);
        }
        window.push(entry);
    }
    window
}

/// What is wrong with a prompt under this case. Needs no model.
pub fn check_prompt(case: &Case, prompt: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for text in case.prompt_contains.iter().filter(|text| !prompt.contains(text.as_str())) {
        problems.push(format!("the prompt lacks `{text}`"));
    }
    for text in case.prompt_lacks.iter().filter(|text| prompt.contains(text.as_str())) {
        problems.push(format!("the prompt contains `{text}`"));
    }
    let tokens = prompt.len().div_ceil(BYTES_PER_TOKEN);
    if let Some(max) = case.max_prompt_tokens.filter(|max| tokens > *max) {
        problems.push(format!("the prompt has about {tokens} tokens; at most {max} are allowed"));
    }
    problems
}

/// What is wrong with a prompt and a model's reply under this case; empty if all is as expected.
pub fn check(case: &Case, prompt: &str, reply: &ModelReply) -> Vec<String> {
    let mut problems = check_prompt(case, prompt);
    for call in reply.calls.iter().filter(|call| case.never.contains(&call.tool)) {
        problems.push(format!("it called `{}`, which it must not", call.tool));
    }
    let Some(expect) = &case.expect else { return problems };
    let did = || match reply.calls.first() {
        Some(call) => format!("it called `{}` {}", call.tool, short(&call.arguments)),
        None => format!("it said `{}`", short(&reply.text)),
    };
    if let Some(tool) = &expect.tool {
        match reply.calls.first() {
            Some(call) if call.tool == *tool => {
                if let Some(wanted) = &expect.args {
                    match json::parse(&call.arguments) {
                        Ok(args) => missing("", wanted, &args, &mut problems),
                        Err(e) => problems.push(format!("the arguments of `{tool}` are {e}")),
                    }
                }
            }
            Some(_) | None => problems.push(format!("expected a call of `{tool}`, but {}", did())),
        }
    }
    if expect.asks && reply.calls.first().is_none_or(|call| call.tool != ASK_HUMAN) {
        problems.push(format!("expected a question to a person, but {}", did()));
    }
    if !expect.say_contains.is_empty() {
        if !reply.calls.is_empty() {
            problems.push(format!("expected an answer, but {}", did()));
        }
        let said = reply.text.to_lowercase();
        for text in expect.say_contains.iter().filter(|text| !said.contains(&text.to_lowercase())) {
            problems.push(format!("the answer lacks `{text}`: `{}`", short(&reply.text)));
        }
    }
    problems
}

/// Reports what of `wanted` is not in `found`. Objects may have more members; all else has to be equal.
fn missing(path: &str, wanted: &Value, found: &Value, problems: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (key, value) in wanted {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match found.get(key) {
                    Some(other) => missing(&path, value, other, problems),
                    None => problems.push(format!("the argument `{path}` is missing; expected {value}")),
                }
            }
        }
        (wanted, found) if json::canonical(wanted) == json::canonical(found) => {}
        (wanted, found) => {
            let found = short(&found.to_string());
            problems.push(format!("the argument `{path}` is {found}; expected {wanted}"));
        }
    }
}

fn short(text: &str) -> String {
    let cut: String = text.chars().take(120).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}
