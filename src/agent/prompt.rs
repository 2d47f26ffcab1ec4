//! From an agent's prompt body to the exact text that a model is given as its instructions.
//!
//! Rendering is pure: the same file and the same variables give the same bytes. A template sees four
//! variables and two partials: `window.md` explains our window format, which belongs to the program, and
//! `tools.md` lists the tools. It can load nothing else and runs on a budget. A variable that does not
//! exist is an error when agents are loaded, not a hole in the prompt.

use std::collections::BTreeSet;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;

use super::policy::{Gate, Policy};
use super::spec::{AgentSpec, Limits, PossibleGate, did_you_mean, effective_gate};
use super::tool::ToolFacts;

/// Work that a template may do, in minijinja's units: one for each instruction and each 64 bytes made,
/// so at most about 3 MB and a few milliseconds. The built-in prompts use about 300.
const FUEL: u64 = 50_000;

/// Longest rendered prompt in bytes. At 4 bytes a token it would be a third of the default window.
pub const MAX_PROMPT: usize = 128 * 1024;

/// The partials that a prompt can include: what the window's blocks mean, and the list of the tools.
const PARTIALS: [(&str, &str); 2] = [
    ("window.md", include_str!("../../templates/prompts/window.md")),
    ("tools.md", include_str!("../../templates/prompts/tools.md")),
];

/// What a template can read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PromptVars {
    pub app_name: String,
    pub agent: AgentVars,
    /// The agent's tools in the order of its file.
    pub tools: Vec<ToolVars>,
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AgentVars {
    pub name: String,
    pub description: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToolVars {
    pub name: String,
    pub description: String,
    /// `low`, `medium` or `high`.
    pub risk: &'static str,
    /// `auto`, `ask`, `deny`, or `depends` where the arguments decide.
    pub gate: &'static str,
}

impl PromptVars {
    /// The variables for `spec`. Tools that do not exist are left out; loading has refused them already.
    pub fn new(spec: &AgentSpec, app_name: &str, tools: &[ToolFacts], policy: &Policy) -> Self {
        let tool = |name: &String| {
            tools.iter().find(|tool| tool.name == *name).map(|tool| ToolVars {
                name: tool.name.clone(),
                description: tool.description.clone(),
                risk: tool.risk.word(),
                gate: match effective_gate(spec, tool, policy) {
                    PossibleGate::Only(Gate::Auto) => "auto",
                    PossibleGate::Only(Gate::Ask) => "ask",
                    PossibleGate::Only(Gate::Deny) => "deny",
                    PossibleGate::Depends => "depends",
                },
            })
        };
        Self {
            app_name: app_name.to_owned(),
            agent: AgentVars { name: spec.name.clone(), description: spec.description.clone() },
            tools: spec.tools.iter().filter_map(tool).collect(),
            limits: spec.limits.clone(),
        }
    }
}

/// Why a prompt cannot be rendered, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} line {line}: {why}")]
pub struct PromptError {
    pub file: String,
    pub line: usize,
    pub why: String,
}

/// The text for the model.
///
/// # Errors
/// A variable that does not exist, a syntax error, a template beyond its budget, a prompt above
/// [`MAX_PROMPT`] bytes.
pub fn render(spec: &AgentSpec, vars: &PromptVars) -> Result<String, PromptError> {
    let env = environment();
    let text = env
        .template_from_named_str(&spec.file, &spec.prompt)
        .and_then(|template| template.render(Value::from(Serde(vars))))
        .map_err(|e| explain(spec, &e))?;
    if text.len() > MAX_PROMPT {
        let why = format!("the prompt is {} bytes long when rendered; at most {MAX_PROMPT} are allowed", text.len());
        return Err(PromptError { file: spec.file.clone(), line: spec.prompt_line, why });
    }
    Ok(text.trim().to_owned())
}

/// What can be said about a body without rendering it: syntax, partials, and variables that do not
/// exist, also where no branch reaches them and where a filter would swallow them.
pub(super) fn problems_with(spec: &AgentSpec) -> Vec<String> {
    let env = environment();
    let template = match env.template_from_named_str(&spec.file, &spec.prompt) {
        Ok(template) => template,
        Err(e) => return vec![explain(spec, &e).to_string()],
    };
    let globals: BTreeSet<String> = env.globals().map(|(name, _)| name.to_owned()).collect();
    // Sorted, for the same words each time.
    let used: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
    let mut problems = Vec::new();
    for name in used {
        let root = name.split('.').next().unwrap_or(&name);
        if VARIABLES.contains(&name.as_str()) || globals.contains(root) {
            continue;
        }
        let line = spec.prompt_line + line_of(&spec.prompt, &name).unwrap_or(0);
        let hint = match did_you_mean(&name, VARIABLES) {
            hint if hint.is_empty() => format!("; there are {}", VARIABLES.join(", ")),
            hint => hint,
        };
        problems.push(format!("{} line {line}: the prompt uses `{name}`, which does not exist{hint}", spec.file));
    }
    problems
}

/// All names that a template may use outside of its own loops and assignments.
const VARIABLES: [&str; 10] = [
    "app_name",
    "agent",
    "agent.name",
    "agent.description",
    "tools",
    "limits",
    "limits.max_steps",
    "limits.max_tokens",
    "limits.max_errors",
    "limits.max_output_tokens",
];

/// The line of the body, from 0, on which a name is first used inside a tag.
fn line_of(body: &str, name: &str) -> Option<usize> {
    body.lines().position(|line| {
        line.match_indices(name).any(|(at, _)| {
            let before = line.get(..at).unwrap_or("");
            before.rfind("{{").max(before.rfind("{%")) > before.rfind("}}").max(before.rfind("%}"))
        })
    })
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(FUEL));
    // Neither can fail for our constants: a test renders them. If one did, prompts would have more white
    // space, and including the partial would be an error.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        env.set_syntax(syntax);
    }
    for (name, text) in PARTIALS {
        let _ = env.add_template(name, text);
    }
    env
}

fn explain(spec: &AgentSpec, error: &minijinja::Error) -> PromptError {
    let why = match error.kind() {
        ErrorKind::OutOfFuel => {
            "the prompt is more work to render than is allowed; look for a loop or a repetition".to_owned()
        }
        ErrorKind::TemplateNotFound => {
            let partials = PARTIALS.map(|(name, _)| name).join(", ");
            format!("{}; a prompt can include {partials}", error.detail().unwrap_or("no such template"))
        }
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    // Lines of a partial are its own; those of the body start where the body starts in its file.
    let line = match error.name() {
        Some(name) if name != spec.file => spec.prompt_line,
        _ => spec.prompt_line + error.line().unwrap_or(1).saturating_sub(1),
    };
    PromptError { file: spec.file.clone(), line, why }
}
