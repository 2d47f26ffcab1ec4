//! The policy: which calls run by themselves, which ask people, which are refused.
//!
//! Every rule that matches a call has its say and the strictest wins: deny over ask over auto. If no
//! rule matches, a tool with side effects asks and any other runs. Once text from outside has been read, a
//! call with side effects asks even where a rule says auto, unless its tool is listed as safe: the text may
//! have talked the model into it ([`Policy::verdict_after`]). The verdict, with everything that it
//! rests on, is stamped on the event that carries the call; nothing is asked of the policy again.

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::id::{Principal, PrincipalKind};
use super::intent::Route;
use super::tool::{Risk, ToolFacts};
use super::untrusted::Untrusted;

/// What a policy says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    Auto,
    Ask,
    Deny,
}

/// Who may decide, and how many have to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvers {
    /// Ids of people (`slack:T1:U1`, `console:ops`). A `*` alone stands for everybody who can see the request.
    #[serde(default)]
    pub users: Vec<String>,
    /// Names of groups whose members may decide; membership is looked up at the moment of the vote.
    #[serde(default)]
    pub groups: Vec<String>,
    /// How many different people have to approve. One denial is enough to deny.
    #[serde(default = "one")]
    pub quorum: u32,
    /// Whether the person who asked may approve. Where a rule is silent, `approvals.requester_may_approve`
    /// decides when the call is made; on an approval it always stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester_may: Option<bool>,
}

fn one() -> u32 {
    1
}

impl Default for Approvers {
    fn default() -> Self {
        Self { users: Vec::new(), groups: Vec::new(), quorum: 1, requester_may: None }
    }
}

impl Approvers {
    /// Whether anybody at all could decide.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// Whether `by`, in `groups`, is one of the approvers. Only people ever are.
    pub fn includes(&self, by: &Principal, groups: &[String]) -> bool {
        by.kind == PrincipalKind::Human
            && (self.users.iter().any(|u| u == "*" || *u == by.id) || self.groups.iter().any(|g| groups.contains(g)))
    }

    /// Whether the same people decide, and as many of them.
    pub fn same_people(&self, other: &Approvers) -> bool {
        (&self.users, &self.groups, self.quorum) == (&other.users, &other.groups, other.quorum)
    }

    /// For the card: `@release-team, bob (2 needed)`.
    pub fn describe(&self) -> String {
        let mut who: Vec<String> = self.groups.iter().map(|g| format!("@{g}")).collect();
        who.extend(self.users.iter().map(|u| match u.as_str() {
            "*" => "anyone here".to_owned(),
            u => u.split_once(':').map_or(u, |(_, id)| id).to_owned(),
        }));
        if who.is_empty() {
            who.push("nobody".to_owned());
        }
        let not_requester = if self.requester_may == Some(true) { "" } else { ", not the requester" };
        format!("{} ({} needed{not_requester})", who.join(", "), self.quorum)
    }
}

/// The terms under which a call asks. Stamped on the approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Name of the rule that made it ask.
    pub rule: String,
    pub risk: Risk,
    pub approvers: Approvers,
    /// How long people have, in milliseconds, from each revision.
    pub expires_after_ms: u64,
    /// The texts from outside that the model could have read when it made the call.
    #[serde(default, skip_serializing_if = "Untrusted::is_empty")]
    pub untrusted: Untrusted,
    /// Where it is put before them.
    #[serde(default, skip_serializing_if = "Route::is_default")]
    pub route: Route,
}

/// What was decided about one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "gate", rename_all = "lowercase")]
pub enum Verdict {
    Auto {
        rule: String,
    },
    Ask {
        terms: Terms,
    },
    Deny {
        rule: String,
        why: String,
    },
    /// Not even looked at: unknown tool, or arguments that fail the schema. Goes back to the model.
    Invalid {
        error: String,
    },
    /// Not run, because the model had not seen something newer (a message, a stop).
    Held {
        why: String,
    },
}

/// One rule. All given conditions must hold for it to match.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Shown on cards and in the log.
    pub name: String,
    pub gate: Gate,
    /// Name of a tool; `*` stands for any run of characters.
    #[serde(default = "any")]
    pub tool: String,
    /// Name of an agent, likewise.
    #[serde(default = "any")]
    pub agent: String,
    /// Matches calls of this risk or higher.
    #[serde(default)]
    pub risk: Option<Risk>,
    /// Regular expressions by argument (a dotted path), matched against the whole value as text. Of a list, a rule
    /// that denies or asks is met by one item that matches; a rule that lets run, only by all of them.
    #[serde(default)]
    pub args: std::collections::BTreeMap<String, Pattern>,
    /// For `ask`: who decides. Without it, `approvals.approvers` of the configuration.
    #[serde(default)]
    pub approvers: Option<Approvers>,
    /// For `ask`: how long people have, in milliseconds. Without it, `approvals.expires_after`.
    #[serde(default, with = "crate::agent::span::option")]
    pub expires_after: Option<u64>,
    /// For `ask`: where it is put before them. Without it, `approvals.route` of the configuration.
    #[serde(default)]
    pub route: Option<Route>,
    /// For `deny`: what people and the model are told.
    #[serde(default)]
    pub why: String,
}

fn any() -> String {
    "*".to_owned()
}

/// A regular expression that has to match a whole value.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String, Regex);

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        self.1.is_match(text)
    }

    /// The same pattern, which letters in either case match.
    pub fn ignoring_case(&self) -> Self {
        let regex = Regex::new(&format!("^(?si:{})$", self.0));
        Self(self.0.clone(), regex.unwrap_or_else(|_| self.1.clone()))
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;
    fn try_from(text: String) -> Result<Self, regex::Error> {
        // On its own first: `a)|(?:b` is only an expression, and no whole one, once it is wrapped.
        Regex::new(&text)?;
        let regex = Regex::new(&format!("^(?s:{text})$"))?;
        Ok(Self(text, regex))
    }
}

impl From<Pattern> for String {
    fn from(p: Pattern) -> String {
        p.0
    }
}

/// All rules, plus what holds where they are silent.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub rules: Vec<Rule>,
    pub approvers: Approvers,
    pub expires_after_ms: u64,
    pub route: Route,
    /// Names of tools (`*` as in rules) that a rule may still let run by themselves after text from outside
    /// has been read.
    pub safe_after_untrusted: Vec<String>,
}

impl Policy {
    /// The verdict on a call whose arguments are valid, made by a model that could have read `untrusted`.
    ///
    /// What the rules deny stays denied, and where they ask, their terms stay; a call with side effects that
    /// they let run asks the general approvers instead, unless its tool is listed as safe. Tools that only
    /// read go on reading, unless what they are asked can reach strangers ([`ToolFacts::sends`]): what they
    /// return changes nothing outside. Whoever is asked is told of the texts.
    pub fn verdict_after(&self, untrusted: &Untrusted, agent: &str, tool: &ToolFacts, args: &Value) -> Verdict {
        let verdict = self.verdict(agent, tool, args);
        if untrusted.is_empty() {
            return verdict;
        }
        let verdict = match verdict {
            Verdict::Auto { .. } if self.asks_after_untrusted(tool) => {
                self.ask(&untrusted.rule(), tool, self.approvers.clone(), None, self.route.clone())
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Ask { terms } => Verdict::Ask { terms: Terms { untrusted: untrusted.clone(), ..terms } },
            verdict => verdict,
        }
    }

    /// Whether calls of this tool never run by themselves once text from outside has been read.
    pub fn asks_after_untrusted(&self, tool: &ToolFacts) -> bool {
        (tool.side_effects || tool.sends) && !self.safe_after_untrusted.iter().any(|pattern| glob(pattern, &tool.name))
    }

    /// The verdict of the rules alone.
    pub fn verdict(&self, agent: &str, tool: &ToolFacts, args: &Value) -> Verdict {
        let matching = || self.rules.iter().filter(|r| r.matches(agent, tool, args));
        let of = |gate| matching().find(|r| r.gate == gate);
        if let Some(rule) = of(Gate::Deny) {
            let why = if rule.why.is_empty() {
                format!("the rule `{}` forbids this call", rule.name)
            } else {
                rule.why.clone()
            };
            return Verdict::Deny { rule: rule.name.clone(), why };
        }
        // Of several that ask, the one that is hardest to satisfy: more people, then people by name,
        // then the first.
        let asking = matching().filter(|r| r.gate == Gate::Ask);
        let hardest = asking.enumerate().max_by_key(|(i, rule)| {
            let approvers = rule.approvers.as_ref().unwrap_or(&self.approvers);
            (approvers.quorum, !approvers.users.iter().any(|u| u == "*"), std::cmp::Reverse(*i))
        });
        if let Some((_, rule)) = hardest {
            let approvers = rule.approvers.clone().unwrap_or_else(|| self.approvers.clone());
            let route = rule.route.clone().unwrap_or_else(|| self.route.clone());
            return self.ask(&rule.name, tool, approvers, rule.expires_after, route);
        }
        if let Some(rule) = of(Gate::Auto) {
            return Verdict::Auto { rule: rule.name.clone() };
        }
        if tool.side_effects {
            self.ask("default: tools with side effects ask", tool, self.approvers.clone(), None, self.route.clone())
        } else {
            Verdict::Auto { rule: "default: tools that only read run".to_owned() }
        }
    }

    /// The terms under which a call asks although no rule makes it ask.
    pub(super) fn general(&self, rule: &str, tool: &ToolFacts) -> Terms {
        Terms {
            rule: rule.to_owned(),
            risk: tool.risk,
            approvers: self.approvers.clone(),
            expires_after_ms: self.expires_after_ms,
            untrusted: Untrusted::default(),
            route: self.route.clone(),
        }
    }

    fn ask(
        &self,
        rule: &str,
        tool: &ToolFacts,
        approvers: Approvers,
        expires_after_ms: Option<u64>,
        route: Route,
    ) -> Verdict {
        Verdict::Ask {
            terms: Terms {
                rule: rule.to_owned(),
                risk: tool.risk,
                approvers,
                expires_after_ms: expires_after_ms.unwrap_or(self.expires_after_ms),
                untrusted: Untrusted::default(),
                route,
            },
        }
    }
}

impl Rule {
    pub fn matches(&self, agent: &str, tool: &ToolFacts, args: &Value) -> bool {
        glob(&self.tool, &tool.name)
            && glob(&self.agent, agent)
            && self.risk.is_none_or(|least| tool.risk >= least)
            && self.args.iter().all(|(path, pattern)| self.fits(&argument(args, path), pattern))
    }

    /// Whether an argument meets a pattern. The strictest reading wins: one forbidden recipient among ten is enough
    /// to forbid the mail, and one that is not allowed is enough not to let it run.
    fn fits(&self, found: &Argument, pattern: &Pattern) -> bool {
        let mut parts = found.parts.iter();
        match self.gate {
            Gate::Auto => !found.gaps && !found.parts.is_empty() && parts.all(|part| pattern.matches(part)),
            Gate::Ask | Gate::Deny => {
                parts.any(|part| pattern.matches(part))
                    || found.whole.as_deref().is_some_and(|all| pattern.matches(all))
            }
        }
    }
}

/// What an argument is to a pattern. Absent arguments, and empty lists, match none.
#[derive(Default)]
struct Argument {
    /// The value as text; of lists, each item.
    parts: Vec<String>,
    /// All of a list, as JSON.
    whole: Option<String>,
    /// Whether a list on the way is empty, or has an item without what the path names.
    gaps: bool,
}

/// The argument at a dotted path. A path goes on into each item of a list, or into the one that a number names.
fn argument(args: &Value, path: &str) -> Argument {
    fn text(value: &Value) -> String {
        value.as_str().map_or_else(|| super::json::canonical(value), str::to_owned)
    }
    fn leaves<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
            _ => found.push(value),
        }
    }
    let mut found = vec![args];
    let mut gaps = false;
    for key in path.split('.') {
        let mut next = Vec::new();
        for value in found {
            match (value, key.parse::<usize>()) {
                (Value::Array(items), Ok(index)) => next.extend(items.get(index)),
                _ => {
                    let mut items = Vec::new();
                    leaves(value, &mut items);
                    gaps |= items.iter().any(|item| item.get(key).is_none());
                    next.extend(items.into_iter().filter_map(|item| item.get(key)));
                }
            }
        }
        found = next;
    }
    let whole = match found.as_slice() {
        [list @ Value::Array(_)] => Some(text(list)),
        _ => None,
    };
    gaps |= found.iter().any(|value| value.as_array().is_some_and(Vec::is_empty));
    let mut parts = Vec::new();
    found.into_iter().for_each(|value| leaves(value, &mut parts));
    Argument { parts: parts.into_iter().map(text).collect(), whole, gaps }
}

/// Whether `name` matches `pattern`, in which each `*` stands for any run of characters.
pub fn glob(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Risk;

    #[test]
    fn of_a_list_the_strictest_reading_counts() {
        let rule = |gate: &str, path: &str, pattern: &str| -> Rule {
            let args = serde_json::json!({ path: pattern });
            serde_json::from_value(serde_json::json!({ "name": "r", "gate": gate, "args": args })).unwrap()
        };
        let tool = ToolFacts { sends: false, ..facts() };
        let args = serde_json::json!({
            "to": ["ada@example.com", "eve@evil.example"], "none": [], "one": ["ada@example.com"],
            "items": [{ "name": "a" }, { "name": "b", "tags": ["x", "y"] }], "n": 1,
        });
        for (path, pattern, auto, others) in [
            ("to", r".*@example\.com", false, true),
            ("to", r".*@evil\.example", false, true),
            ("to", r".*@.*", true, true),
            ("to", r"nobody@.*", false, false),
            // As it stands, for patterns that were written for JSON; never to let something run.
            ("to", r#"\["ada@example\.com",.*"#, false, true),
            ("one", r".*@example\.com", true, true),
            ("none", ".*", false, true),
            ("none", ".+@.*", false, false),
            ("absent", ".*", false, false),
            ("items.name", "a", false, true),
            ("items.name", "[ab]", true, true),
            ("items.tags", ".*", false, true),
            ("items.1.tags", "x|y", true, true),
            ("items.0.name", "a", true, true),
            ("items.9.name", ".*", false, false),
            ("to.1", r".*@evil\.example", true, true),
            ("n", "1", true, true),
        ] {
            let matches = |gate| rule(gate, path, pattern).matches("agent", &tool, &args);
            assert_eq!((matches("auto"), matches("ask"), matches("deny")), (auto, others, others), "{path} {pattern}");
        }
    }

    fn facts() -> ToolFacts {
        ToolFacts {
            name: "read".to_owned(),
            description: "Reads.".to_owned(),
            schema_version: 1,
            risk: Risk::Low,
            side_effects: false,
            idempotent: true,
            plans: false,
            editable: true,
            outside: true,
            sends: false,
            target: Vec::new(),
        }
    }

    #[test]
    fn after_text_from_outside_a_call_that_can_reach_strangers_asks_although_it_changes_nothing() {
        let reads = |sends| ToolFacts { sends, ..facts() };
        let mut untrusted = Untrusted::default();
        let safe = Policy { safe_after_untrusted: vec!["rea*".to_owned()], ..Policy::default() };
        let runs = |policy: &Policy, untrusted: &Untrusted, sends| {
            matches!(policy.verdict_after(untrusted, "a", &reads(sends), &Value::Null), Verdict::Auto { .. })
        };
        assert!(runs(&Policy::default(), &untrusted, true), "nothing was read yet");
        untrusted.add(3, "a page");
        assert!(!runs(&Policy::default(), &untrusted, true));
        assert!(runs(&Policy::default(), &untrusted, false));
        assert!(runs(&safe, &untrusted, true));
        // Facts in old logs and approvals keep their bytes.
        assert!(!serde_json::to_string(&reads(false)).unwrap().contains("sends"));
    }
}
