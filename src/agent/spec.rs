//! A small focused agent as data: front matter (settings) and a prompt body that the operator owns.
//!
//! This module owns the format of `<name>.md`, what makes such a file usable ([`Agents::load`] says
//! everything that is wrong with all of them at once), and looking an agent up by name. It reads no
//! file: texts come in, and what tools exist and what the policy says come in with them. Rendering the
//! body is [`super::prompt`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::id::Digest;
use super::intent::Route;
use super::policy::{Approvers, Gate, Pattern, Policy, Rule, Verdict, glob};
use super::prompt::{self, PromptVars};
use super::reply::ASK_HUMAN;
use super::tool::ToolFacts;

/// Longest accepted agent file in bytes. The built-in ones have about 2,000.
pub const MAX_AGENT_FILE: usize = 128 * 1024;
/// Longest name of an agent in bytes: it stands in commands, cards and thread lists.
pub const MAX_AGENT_NAME: usize = 40;

/// What an agent is. Parsed from `<name>.md`; the digest is over the whole file.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    pub name: String,
    /// Where it was read from, for messages.
    pub file: String,
    /// One sentence for people and for pickers.
    pub description: String,
    /// Provider and model; absent: the configured default.
    pub provider: Option<String>,
    pub model: Option<String>,
    /// Tools on offer, in this order.
    pub tools: Vec<String>,
    /// The file's gates, as rules that hold for this agent only.
    pub rules: Vec<Rule>,
    /// Read-only calls made before the model is first asked in a run (factor 13).
    pub prefetch: Vec<Prefetch>,
    pub limits: Limits,
    /// The prompt body: a Jinja template.
    pub prompt: String,
    /// The line of the file on which the body starts, so that errors in it can be found.
    pub prompt_line: usize,
    pub digest: Digest,
}

impl AgentSpec {
    /// What holds for logs that no agent works on.
    pub fn nobody() -> &'static Self {
        static NOBODY: std::sync::LazyLock<AgentSpec> = std::sync::LazyLock::new(|| AgentSpec {
            name: String::new(),
            file: String::new(),
            description: String::new(),
            provider: None,
            model: None,
            tools: Vec::new(),
            rules: Vec::new(),
            prefetch: Vec::new(),
            limits: Limits::default(),
            prompt: String::new(),
            prompt_line: 0,
            digest: Digest::ZERO,
        });
        &NOBODY
    }

    /// What a model is told that calls a tool which this agent does not have; `None` if it has the tool. Names only
    /// this agent's own tools.
    pub fn no_such_tool(&self, tool: &str) -> Option<String> {
        let own = || self.tools.iter().map(String::as_str).chain([ASK_HUMAN]);
        if own().any(|name| name == tool) {
            return None;
        }
        let given: String = tool.chars().filter(|c| !c.is_control()).take(MAX_NAMED_TOOL).collect();
        let hint = did_you_mean(&given, own());
        Some(format!("this agent has no such tool: `{given}`{hint} (it has: {})", own().collect::<Vec<_>>().join(", ")))
    }
}

/// Longest name of a tool that is repeated to a model which made it up, in characters: what the vendors allow.
const MAX_NAMED_TOOL: usize = 64;

/// A call that a run starts with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefetch {
    pub tool: String,
    #[serde(default = "no_arguments")]
    pub args: Value,
}

fn no_arguments() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Bounds of one run. Reaching one asks a person; it never ends in a loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Model calls in a run before a person is asked.
    pub max_steps: u32,
    /// Tokens (input and output) in a run before a person is asked.
    pub max_tokens: u64,
    /// Failures in a row of one tool before a person is asked.
    pub max_errors: u32,
    /// Upper bound of one reply, in tokens.
    pub max_output_tokens: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_steps: 20, max_tokens: 200_000, max_errors: 3, max_output_tokens: 2_000 }
    }
}

/// The text of an agent file and the name that it is known by in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentFile {
    /// A path; the part after the last `/`, without `.md`, is the agent's name.
    pub file: String,
    pub text: String,
}

const KEYS: [&str; 7] = ["description", "provider", "model", "tools", "gates", "prefetch", "limits"];

impl AgentSpec {
    /// Reads an agent file: settings in TOML between two lines `+++`, then the prompt in Jinja. What the
    /// file does not limit is limited by `defaults`. The error is everything that is wrong with the form
    /// of the file; whether it fits the tools and the policy is [`Agents::load`]'s question.
    pub fn parse(file: &str, text: &str, defaults: &Limits) -> Result<Self, Vec<String>> {
        let one = |problem: String| vec![problem];
        let name = file.rsplit(['/', '\\']).next().unwrap_or(file).trim_end_matches(".md");
        let well_named = name.len() <= MAX_AGENT_NAME
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
        if !well_named {
            return Err(one(format!(
                "{file}: `{name}` cannot be an agent's name; rename the file: a to z first, then a to z, 0 to 9, - and _, at most {MAX_AGENT_NAME}"
            )));
        }
        if text.len() > MAX_AGENT_FILE {
            return Err(one(format!("{file}: {} bytes; an agent file has at most {MAX_AGENT_FILE}", text.len())));
        }
        let (front, prompt, prompt_line) = split(text).map_err(|why| one(format!("{file}: {why}")))?;
        // The front matter starts on line 2 of the file.
        let table: toml::Table = toml::from_str(front).map_err(|e| one(toml_problem(file, front, 1, &e)))?;
        let mut reader = FrontMatter { file, name, lines: key_lines(front), table, problems: Vec::new() };
        reader.refuse_unknown("", KEYS);

        let description = match reader.take::<String>("description") {
            Some(text) if !text.trim().is_empty() => text,
            Some(_) | None => {
                reader.problem("description", "`description` is missing: one sentence for people who choose an agent");
                String::new()
            }
        };
        let provider = reader.take("provider");
        let model = reader.take("model");
        let tools: Vec<String> = reader.take("tools").unwrap_or_default();
        if let Some(twice) = tools.iter().enumerate().find(|(i, tool)| tools.iter().take(*i).any(|t| t == *tool)) {
            reader.problem("tools", format!("the tool `{}` is listed twice", twice.1));
        }
        let rules = reader.rules(&tools);
        let limits = reader.limits(defaults);
        let prefetch = reader.prefetch();
        if prompt.trim().is_empty() {
            reader.problem("", "there is no prompt after the second `+++`");
        }
        if !reader.problems.is_empty() {
            return Err(reader.problems);
        }
        Ok(Self {
            name: name.to_owned(),
            file: file.to_owned(),
            description,
            provider,
            model,
            tools,
            rules,
            prefetch,
            limits,
            prompt: prompt.to_owned(),
            prompt_line,
            digest: Digest::of(text.as_bytes()),
        })
    }
}

/// Front matter, body, and the number of the body's first line.
fn split(text: &str) -> Result<(&str, &str, usize), &'static str> {
    let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rest = rest
        .strip_prefix("+++\n")
        .or_else(|| rest.strip_prefix("+++\r\n"))
        .ok_or("the first line has to be `+++`, followed by the settings and another `+++`")?;
    let mut at = 0;
    for (i, line) in rest.split_inclusive('\n').enumerate() {
        let end = at + line.len();
        if line.trim_end() == "+++" {
            return Ok((rest.get(..at).unwrap_or(""), rest.get(end..).unwrap_or(""), i + 3));
        }
        at = end;
    }
    Err("the settings never end: a second line `+++` is missing")
}

/// One gate of an agent file in its long form.
#[derive(Deserialize)]
struct GateTable {
    gate: Gate,
    approvers: Option<Approvers>,
    #[serde(default, with = "super::span::option")]
    expires_after: Option<u64>,
    #[serde(default)]
    args: BTreeMap<String, Pattern>,
    #[serde(default)]
    why: String,
    route: Option<Route>,
}

struct FrontMatter<'a> {
    file: &'a str,
    name: &'a str,
    lines: BTreeMap<String, usize>,
    table: toml::Table,
    problems: Vec<String>,
}

impl FrontMatter<'_> {
    fn problem(&mut self, key: &str, what: impl Display) {
        let line = self.lines.get(key).map_or_else(String::new, |line| format!(" line {}", line + 1));
        self.problems.push(format!("{}{line}: {what}", self.file));
    }

    /// Reports the keys of the table at `path` that are none of `known`, and takes them out.
    fn refuse_unknown<const N: usize>(&mut self, path: &str, known: [&str; N]) {
        let found: Vec<String> = match path {
            "" => self.table.keys().cloned().collect(),
            path => self
                .table
                .get(path)
                .and_then(toml::Value::as_table)
                .into_iter()
                .flat_map(|t| t.keys().cloned())
                .collect(),
        };
        for key in found.iter().filter(|key| !known.contains(&key.as_str())) {
            let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            self.problem(&full, format!("unknown setting `{full}`{}", did_you_mean(key, known)));
            match path {
                "" => self.table.remove(key),
                path => self.table.get_mut(path).and_then(toml::Value::as_table_mut).and_then(|t| t.remove(key)),
            };
        }
    }

    fn take<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.table.remove(key)?;
        self.read(key, value)
    }

    fn read<T: DeserializeOwned>(&mut self, key: &str, value: toml::Value) -> Option<T> {
        match value.try_into() {
            Ok(value) => Some(value),
            Err(e) => {
                self.problem(key, format!("`{key}`: {}", serde_words(e.message())));
                None
            }
        }
    }

    fn rules(&mut self, tools: &[String]) -> Vec<Rule> {
        let gates: toml::Table = self.take("gates").unwrap_or_default();
        let mut rules = Vec::new();
        for (tool, value) in gates {
            let key = format!("gates.{tool}");
            if !tools.iter().any(|name| glob(&tool, name)) {
                let hint = did_you_mean(&tool, tools.iter().map(String::as_str));
                self.problem(&key, format!("the gate for `{tool}` fits none of this agent's tools{hint}"));
                continue;
            }
            let gate = match value {
                toml::Value::String(word) => self.read(&key, toml::Value::String(word)).map(|gate| GateTable {
                    gate,
                    approvers: None,
                    expires_after: None,
                    args: BTreeMap::new(),
                    why: String::new(),
                    route: None,
                }),
                toml::Value::Table(mut table) => {
                    let known = ["gate", "approvers", "expires_after", "args", "why", "route"];
                    let unknown: Vec<String> = table.keys().filter(|k| !known.contains(&k.as_str())).cloned().collect();
                    for field in unknown {
                        table.remove(&field);
                        let hint = did_you_mean(&field, known);
                        self.problem(&format!("{key}.{field}"), format!("unknown setting `{key}.{field}`{hint}"));
                    }
                    self.read(&key, toml::Value::Table(table))
                }
                _ => {
                    self.problem(&key, format!("`{key}` has to be \"auto\", \"ask\", \"deny\" or a table with `gate`"));
                    None
                }
            };
            if let Some(GateTable { gate, approvers, expires_after, args, why, route }) = gate {
                let name = format!("agent:{}:{tool}", self.name);
                rules.push(Rule {
                    name,
                    gate,
                    tool,
                    agent: self.name.to_owned(),
                    risk: None,
                    args,
                    approvers,
                    expires_after,
                    route,
                    why,
                });
            }
        }
        rules
    }

    fn limits(&mut self, defaults: &Limits) -> Limits {
        self.refuse_unknown("limits", ["max_steps", "max_tokens", "max_errors", "max_output_tokens"]);
        let mut given: toml::Table = self.take("limits").unwrap_or_default();
        let mut limit = |name: &str, default: u64, max: u64| {
            let Some(value) = given.remove(name) else { return default };
            match value.as_integer().and_then(|n| u64::try_from(n).ok()).filter(|n| (1..=max).contains(n)) {
                Some(n) => n,
                None => {
                    let key = format!("limits.{name}");
                    self.problem(&key, format!("`{key}` has to be a whole number from 1 to {max}"));
                    default
                }
            }
        };
        // Every bound is below u32::MAX where the field is a u32, so no conversion can fail.
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Limits {
            max_steps: small(limit("max_steps", defaults.max_steps.into(), MAX_STEPS)),
            max_tokens: limit("max_tokens", defaults.max_tokens, MAX_TOKENS),
            max_errors: small(limit("max_errors", defaults.max_errors.into(), MAX_ERRORS)),
            max_output_tokens: small(limit("max_output_tokens", defaults.max_output_tokens.into(), MAX_OUTPUT_TOKENS)),
        }
    }

    fn prefetch(&mut self) -> Vec<Prefetch> {
        let given: Vec<toml::Value> = self.take("prefetch").unwrap_or_default();
        given.into_iter().enumerate().filter_map(|(i, value)| self.read(&format!("prefetch.{i}"), value)).collect()
    }
}

/// Upper ends of [`Limits`]: what no run that anybody watches comes near to.
pub const MAX_STEPS: u64 = 1_000;
pub const MAX_TOKENS: u64 = 100_000_000;
pub const MAX_ERRORS: u64 = 100;
pub const MAX_OUTPUT_TOKENS: u64 = 200_000;

/// What agents are checked against when they are loaded.
pub struct Given<'a> {
    pub app_name: &'a str,
    /// Every tool that exists.
    pub tools: &'a [ToolFacts],
    /// The canonical form of these arguments for this tool; the text of what is wrong otherwise.
    pub check_args: &'a dyn Fn(&str, &Value) -> Result<Value, String>,
    /// The rules and approvers of the configuration, without any agent's own.
    pub policy: &'a Policy,
    /// Whether each gated tool has to name its approvers: `*` (anyone here) does not count then.
    pub require_approvers: bool,
    /// The limits of agents that set none.
    pub limits: &'a Limits,
}

/// An agent that passed all checks.
#[derive(Clone, Debug)]
pub struct Agent {
    pub spec: AgentSpec,
    /// The rendered prompt: all that it depends on is known when agents are loaded.
    pub prompt: String,
}

/// The agents that can be talked to.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    by_name: BTreeMap<String, Agent>,
}

/// There is no such agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no agent `{given}`; there are {names}{hint}")]
pub struct UnknownAgent {
    given: String,
    hint: String,
    names: String,
}

impl Agent {
    /// What each event of a model names as the prompt it was asked with: partials, tools and gates
    /// included. The settings of the file are not in it; `spec.digest` is over the file.
    pub fn prompt_digest(&self) -> String {
        Digest::of(self.prompt.as_bytes()).prefix()
    }
}

impl Agents {
    /// Parses and checks all agents. A file of `overrides` takes the place of the built-in agent with its
    /// name. The error is everything that is wrong with all files, one sentence each.
    pub fn load(builtin: &[AgentFile], overrides: &[AgentFile], given: &Given) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut by_name: BTreeMap<String, AgentSpec> = BTreeMap::new();
        for layer in [builtin, overrides] {
            let mut seen: BTreeMap<String, &str> = BTreeMap::new();
            for AgentFile { file, text } in layer {
                match AgentSpec::parse(file, text, given.limits) {
                    Ok(spec) => {
                        if let Some(other) = seen.insert(spec.name.clone(), file) {
                            problems.push(format!("{file}: there is already an agent `{}`, in {other}", spec.name));
                        }
                        by_name.insert(spec.name.clone(), spec);
                    }
                    Err(found) => problems.extend(found),
                }
            }
        }
        let mut agents = BTreeMap::new();
        for (name, spec) in by_name {
            let found = problems_with(&spec, given);
            if found.is_empty() {
                match prompt::render(&spec, &PromptVars::new(&spec, given.app_name, given.tools, given.policy)) {
                    Ok(prompt) => drop(agents.insert(name, Agent { spec, prompt })),
                    Err(e) => problems.push(e.to_string()),
                }
            } else {
                problems.extend(found);
            }
        }
        if problems.is_empty() { Ok(Self { by_name: agents }) } else { Err(problems) }
    }

    pub fn get(&self, name: &str) -> Result<&Agent, UnknownAgent> {
        self.by_name.get(name).ok_or_else(|| UnknownAgent {
            given: name.chars().take(MAX_AGENT_NAME).collect(),
            hint: did_you_mean(name, self.names()),
            names: self.names().collect::<Vec<_>>().join(", "),
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Agent> {
        self.by_name.values()
    }

    /// The gates of all agents. Each rule holds for its own agent only.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.by_name.values().flat_map(|agent| &agent.spec.rules)
    }
}

/// What a well-formed agent file says that does not fit the tools or the policy.
fn problems_with(spec: &AgentSpec, given: &Given) -> Vec<String> {
    let file = &spec.file;
    let mut problems = prompt::problems_with(spec);
    let known = |name: &str| given.tools.iter().find(|t| t.name == name);
    let hint = |name: &str| did_you_mean(name, given.tools.iter().map(|t| t.name.as_str()));
    for name in &spec.tools {
        let Some(tool) = known(name) else {
            problems.push(format!("{file}: there is no tool `{name}`{}", hint(name)));
            continue;
        };
        for (rule, approvers) in who_decides(spec, tool, given.policy) {
            let asks = format!("{file}: `{name}` asks people (rule `{rule}`)");
            let anyone = approvers.users.iter().any(|user| user == "*");
            let distinct: BTreeSet<_> = approvers.users.iter().collect();
            if approvers.is_empty() {
                problems.push(format!(
                    "{asks}, but nobody may decide; name `approvers` in the gate or set `approvals.approvers`"
                ));
            } else if given.require_approvers && anyone {
                problems.push(format!(
                    "{asks}, but anyone may decide, and `approvals.require_approvers` is on; name users or groups in the gate's `approvers` or in `approvals.approvers`"
                ));
            } else if approvers.quorum == 0 {
                problems.push(format!("{asks} with a quorum of 0; at least 1 person has to approve"));
            } else if !anyone && approvers.groups.is_empty() && (approvers.quorum as usize) > distinct.len() {
                problems.push(format!(
                    "{asks} and needs {} approvals, but only {} may decide; lower `quorum` or name more approvers",
                    approvers.quorum,
                    distinct.len()
                ));
            }
        }
    }
    let mut whole = given.policy.clone();
    whole.rules.extend(spec.rules.iter().cloned());
    for Prefetch { tool: name, args } in &spec.prefetch {
        match known(name) {
            None => problems.push(format!("{file}: prefetch names a tool that does not exist: `{name}`{}", hint(name))),
            Some(tool) if tool.side_effects => problems.push(format!(
                "{file}: prefetch of `{name}`, which has side effects; only tools that read may run before the model is asked"
            )),
            Some(tool) => match (given.check_args)(name, args) {
                Err(why) => problems.push(format!("{file}: prefetch of `{name}` has bad arguments: {why}")),
                Ok(args) if !matches!(whole.verdict(&spec.name, tool, &args), Verdict::Auto { .. }) => problems.push(
                    format!("{file}: prefetch of `{name}`, which does not run by itself under the policy; only such calls may be prefetched"),
                ),
                Ok(_) => {}
            },
        }
    }
    problems
}

/// The rules that can say anything about calls of `tool` by this agent, without looking at arguments.
fn rules_for<'a>(
    spec: &'a AgentSpec,
    tool: &'a ToolFacts,
    policy: &'a Policy,
) -> impl Iterator<Item = &'a Rule> + Clone {
    policy.rules.iter().chain(&spec.rules).filter(|rule| {
        glob(&rule.tool, &tool.name)
            && glob(&rule.agent, &spec.name)
            && rule.risk.is_none_or(|least| tool.risk >= least)
    })
}

/// Everybody who could be asked about calls of `tool`, by rule. Empty if no call can ever ask.
fn who_decides<'a>(spec: &'a AgentSpec, tool: &'a ToolFacts, policy: &'a Policy) -> Vec<(&'a str, &'a Approvers)> {
    let rules = rules_for(spec, tool, policy);
    let always = |rule: &&Rule| rule.args.is_empty();
    if rules.clone().filter(always).any(|rule| rule.gate == Gate::Deny) {
        return Vec::new();
    }
    let mut asked: Vec<_> = rules
        .clone()
        .filter(|rule| rule.gate == Gate::Ask)
        .map(|rule| (rule.name.as_str(), rule.approvers.as_ref().unwrap_or(&policy.approvers)))
        .collect();
    if tool.side_effects && !rules.clone().any(|rule| always(&rule)) {
        asked.push(("default: tools with side effects ask", &policy.approvers));
    } else if policy.asks_after_untrusted(tool) && !rules.clone().filter(always).any(|rule| rule.gate == Gate::Ask) {
        asked.push(("untrusted text: not in policy.safe_after_untrusted", &policy.approvers));
    }
    asked
}

/// What the policy can say of a tool's calls before their arguments are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PossibleGate {
    Only(Gate),
    /// It depends on the arguments.
    Depends,
}

/// What the policy and the agent's own gates say of calls of `tool`.
pub fn effective_gate(spec: &AgentSpec, tool: &ToolFacts, policy: &Policy) -> PossibleGate {
    let rules = rules_for(spec, tool, policy);
    let always = rules.clone().filter(|rule| rule.args.is_empty()).map(|rule| rule.gate).max();
    let default = if tool.side_effects { Gate::Ask } else { Gate::Auto };
    let base = always.unwrap_or(default);
    // A rule on arguments can only make a stricter verdict, or take the place of the default.
    let varies = rules.filter(|rule| !rule.args.is_empty()).any(|rule| match always {
        Some(gate) => rule.gate > gate,
        None => rule.gate != default,
    });
    if varies { PossibleGate::Depends } else { PossibleGate::Only(base) }
}

/// `; did you mean `x`?`, or nothing where no candidate is near.
pub fn did_you_mean<'a>(given: &str, among: impl IntoIterator<Item = &'a str>) -> String {
    nearest(given, among).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// The candidate that `given` is most likely a misspelling of.
pub fn nearest<'a>(given: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower: String = given.to_lowercase().chars().take(100).collect();
    among
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The line (from 1) on which each key of a TOML text stands, by dotted path; elements of arrays by
/// number. Empty if the text is not TOML.
pub(crate) fn key_lines(text: &str) -> BTreeMap<String, usize> {
    fn walk(text: &str, path: &str, value: &toml::de::DeValue, lines: &mut BTreeMap<String, usize>) {
        let join = |key: &str| join_key(path, key);
        match value {
            toml::de::DeValue::Table(table) => {
                for (key, member) in table {
                    lines.insert(join(key.get_ref()), line_at(text, key.span().start));
                    walk(text, &join(key.get_ref()), member.get_ref(), lines);
                }
            }
            toml::de::DeValue::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    lines.insert(join(&i.to_string()), line_at(text, item.span().start));
                    walk(text, &join(&i.to_string()), item.get_ref(), lines);
                }
            }
            _ => {}
        }
    }
    let mut lines = BTreeMap::new();
    if let Ok(table) = toml::de::DeTable::parse(text) {
        walk(text, "", &toml::de::DeValue::Table(table.into_inner()), &mut lines);
    }
    lines
}

/// A dotted path and one more key, which is quoted if it holds a dot itself.
pub(crate) fn join_key(path: &str, key: &str) -> String {
    let key = if key.contains(['.', '"']) { format!("\"{}\"", key.replace('"', "\\\"")) } else { key.to_owned() };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The keys of a path made by [`join_key`].
pub(crate) fn split_key(path: &str) -> Vec<String> {
    let mut keys = vec![String::new()];
    let mut quoted = false;
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => keys.push(String::new()),
            c => {
                let c =
                    if c == '\\' && quoted && chars.as_str().starts_with('"') { chars.next().unwrap_or(c) } else { c };
                if let Some(key) = keys.last_mut() {
                    key.push(c);
                }
            }
        }
    }
    keys
}

fn line_at(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|b| *b == b'\n').count() + 1
}

/// What is wrong with a TOML text and on which line. Never the line itself: it may hold a secret.
pub(crate) fn toml_problem(file: &str, text: &str, lines_before: usize, error: &toml::de::Error) -> String {
    let line =
        error.span().map_or_else(String::new, |span| format!(" line {}", line_at(text, span.start) + lines_before));
    format!("{file}{line}: {}", serde_words(error.message()))
}

/// serde's words on one line, with a suggestion for an unknown field or variant.
pub(crate) fn serde_words(message: &str) -> String {
    if message.starts_with("regex parse error") {
        let why = message.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it cannot be read");
        return format!("not a regular expression: {why}");
    }
    let message = message.lines().next().unwrap_or(message);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (Some((given, known)), true) = (quoted.split_first(), message.starts_with("unknown ")) {
        let one_of = known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
        let kind = if message.starts_with("unknown field") { "unknown setting" } else { "unknown word" };
        return format!("{kind} `{given}`; allowed: {one_of}{}", did_you_mean(given, known.iter().copied()));
    }
    message.to_owned()
}
