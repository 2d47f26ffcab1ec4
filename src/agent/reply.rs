//! What a model's reply amounts to: which next step it is, and the gate's verdict on each call in it.
//!
//! It leaves out what becomes of a step once it is an event (`thread`), and whether a call that was let
//! through may still start (`step`).

use serde_json::Value;

use super::doubt::{Doubt, Settled, Where};
use super::event::{AnswerKind, GatedCall, NextStep};
use super::id::Principal;
use super::input::{Checked, Proposed, RequesterRule, Rules};
use super::model::{Finish, ModelError, ModelErrorKind};
use super::policy::{Terms, Verdict};
use super::secret::Look;
use super::thread::Thread;
use super::untrusted::Untrusted;
use super::written::written;

/// The tool that every agent has: a question to people. It is the core's, not the registry's.
pub const ASK_HUMAN: &str = "ask_human";

/// The gate's verdict on a proposed call, stamped with everything that it rests on.
///
/// `untrusted` is what the model could have read from outside when it made the call, and so never what
/// another call of the same reply is going to return: that text can have had no part in it. For the same
/// reason a call that was let through stays so when the text comes in before it has run.
///
/// `asked_here`: everybody whose words could have led to it sat at this machine's own terminal.
///
/// A call with values that look like secrets is not made; what people are to be asked about them is added to `doubts`.
pub(super) fn gate(
    proposed: Proposed,
    asked_here: bool,
    untrusted: &Untrusted,
    settled: &Settled,
    rules: &Rules,
    held: Option<&str>,
    doubts: &mut Vec<Doubt>,
) -> GatedCall {
    let Proposed { tool, raw, checked } = proposed;
    // A name that no tool has is the model's own words.
    let named: String = rules.secrets.clean(&tool).chars().take(MAX_TOOL_NAME).collect();
    let invalid = |error: String| GatedCall {
        tool: named.clone(),
        args: Value::String(rules.secrets.clean(&raw).chars().take(2_000).collect()),
        title: named.clone(),
        facts: None,
        verdict: Verdict::Invalid { error: rules.secrets.clean(&error).into_owned() },
    };
    let Checked { facts, args, title } = match (checked, rules.spec.no_such_tool(&tool)) {
        (Ok(checked), None) => checked,
        (Ok(_), Some(error)) | (Err(error), _) => return invalid(error),
    };
    let look = rules.secrets.look(&args);
    let mut verdict = rules.policy.verdict_after(untrusted, &rules.spec.name, &facts, &args);
    if matches!(verdict, Verdict::Auto { .. }) && look.passed {
        // A value passes because a person said what it is, who could not see it. So people see it before it is used.
        let terms = rules.policy.general("a value that looked like a secret is shown before it is used", &facts);
        verdict = Verdict::Ask { terms: Terms { untrusted: untrusted.clone(), ..terms } };
    }
    if let Verdict::Ask { terms } = verdict {
        verdict = Verdict::Ask { terms: with_requester_rule(terms, rules, asked_here) };
    }
    if let Some(why) = held.filter(|_| facts.side_effects || !matches!(verdict, Verdict::Auto { .. })) {
        verdict = Verdict::Held { why: why.to_owned() };
    }
    if look.is_clear() {
        return GatedCall { tool, args, title, facts: Some(facts), verdict };
    }
    let terms = match &verdict {
        Verdict::Ask { terms } => Some(terms.clone()),
        Verdict::Auto { .. } => Some(with_requester_rule(rules.policy.general("", &facts), rules, asked_here)),
        Verdict::Deny { .. } | Verdict::Held { .. } | Verdict::Invalid { .. } => None,
    };
    // The title is made of the arguments, so it is left out with them.
    let (title, args) = (named, rules.secrets.masked(&args));
    if let Some(terms) = terms {
        let (error, asks) = suspected(&look, settled);
        if asks {
            doubts.push(Doubt::new(&tool, Where::Call, look.suspects, terms));
        }
        verdict = Verdict::Invalid { error };
    }
    GatedCall { tool, args, title, facts: Some(facts), verdict }
}

/// What the model is told of values that look like secrets, and whether people are asked about them.
fn suspected(look: &Look, settled: &Settled) -> (String, bool) {
    let values = look.describe();
    if !look.configured.is_empty() {
        let text = format!(
            "not made: the arguments hold a secret of this installation: {values}. It never passes through here. Leave it \
             out: the tools that need it have it"
        );
        (text, false)
    } else if look.quotes_a_mark {
        let text = "not made: an argument is `[secret removed: …]`, which stands in place of a value that you cannot see. \
                    Leave it out, or ask a person how the tool can get the value without you";
        (text.to_owned(), false)
    } else if settled.knows_secret(look) {
        (format!("not made: a person said that this is a secret: {values}. Do not use it"), false)
    } else if look.suspects.is_empty() {
        (format!("not made: {values} looks like a secret; secrets never pass through here"), false)
    } else {
        let text = format!(
            "not made: the arguments hold what looks like a secret: {values}. A person is asked whether it is one; you will \
             be told the answer"
        );
        (text, true)
    }
}

/// Terms that say whether those who asked may approve, where the rule is silent.
pub(super) fn with_requester_rule(mut terms: Terms, rules: &Rules, asked_here: bool) -> Terms {
    terms.approvers.requester_may.get_or_insert(match rules.requester {
        RequesterRule::Never => false,
        RequesterRule::Always => true,
        RequesterRule::Local => asked_here,
    });
    terms
}

/// Whether all of these people, and there are some, sit at this machine's own terminal.
pub(super) fn all_here<'a>(people: impl Iterator<Item = &'a Principal>) -> bool {
    let mut people = people.peekable();
    people.peek().is_some() && people.all(Principal::is_local)
}

/// What a reply amounts to, and what the model is told if its text is no answer.
pub(super) fn next_step(
    thread: &Thread,
    seen: u64,
    text: &str,
    calls: Vec<Proposed>,
    finish: Finish,
    rules: &Rules,
    doubts: &mut Vec<Doubt>,
) -> Result<(NextStep, String), ModelError> {
    let failed = |kind, message: &str| ModelError { kind, message: message.to_owned(), retry_after_ms: None };
    let text = rules.secrets.clean(text.trim()).into_owned();
    let done = |text: String| Ok((NextStep::Done { text }, String::new()));
    match finish {
        Finish::CutOff => return Err(failed(ModelErrorKind::CutOff, "its reply was cut off at the output limit")),
        Finish::NoRoom => {
            let kind = ModelErrorKind::TooLong { limit: None, counted: None };
            return Err(failed(kind, "its reply was cut off at the end of its context"));
        }
        Finish::Refused if text.is_empty() => return done("The model declined to answer this.".to_owned()),
        Finish::Refused => return done(text),
        Finish::Complete => {}
    }
    if calls.is_empty() {
        return if text.is_empty() {
            Err(failed(ModelErrorKind::Empty, "its reply was empty"))
        } else {
            let (text, correction) = answer(thread, text, rules);
            Ok((NextStep::Done { text }, correction))
        };
    }
    Ok((calls_step(thread, seen, text, calls, rules, doubts), String::new()))
}

/// A text as an answer. A call that is written out instead of made is none: the model is told so once, then a person.
fn answer(thread: &Thread, text: String, rules: &Rules) -> (String, String) {
    let made = |tool: &str, args: &Value| thread.window.made(tool, args);
    match written(&text, &rules.spec.tools, made) {
        None => (text, String::new()),
        Some(found) if thread.run.as_ref().is_some_and(|run| !run.corrected) => (text, found.correction()),
        Some(found) => (found.for_people(&text), String::new()),
    }
}

/// The step of a reply that makes calls.
fn calls_step(
    thread: &Thread,
    seen: u64,
    text: String,
    calls: Vec<Proposed>,
    rules: &Rules,
    doubts: &mut Vec<Doubt>,
) -> NextStep {
    let asked_here = all_here(thread.heard.everybody());
    if let Some(ask) = calls.iter().find(|c| c.tool == ASK_HUMAN) {
        return match parse_ask(&ask.raw) {
            Ok((question, answer)) => {
                let clean = |text: String| rules.secrets.clean(&text).into_owned();
                let answer = match answer {
                    AnswerKind::Choice { choices } => {
                        AnswerKind::Choice { choices: choices.into_iter().map(clean).collect() }
                    }
                    AnswerKind::Text | AnswerKind::YesNo => answer,
                };
                let put_off =
                    calls.iter().filter(|c| !std::ptr::eq(*c, ask)).map(|c| c.tool.chars().take(60).collect());
                NextStep::Ask { text: clean(question), answer, why: text, put_off: put_off.collect() }
            }
            Err(error) => NextStep::Call {
                calls: vec![gate(
                    Proposed { checked: Err(error), ..ask.clone() },
                    asked_here,
                    &thread.untrusted,
                    &thread.settled,
                    rules,
                    None,
                    doubts,
                )],
                why: text,
            },
        };
    }
    if calls.len() > MAX_CALLS {
        let many = format!("at most {MAX_CALLS} calls in one reply");
        let first = calls
            .into_iter()
            .take(1)
            .map(|c| {
                let c = Proposed { checked: Err(many.clone()), ..c };
                gate(c, asked_here, &thread.untrusted, &thread.settled, rules, None, doubts)
            })
            .collect();
        return NextStep::Call { calls: first, why: text };
    }
    let held = if thread.run.is_none() {
        Some("the run was stopped")
    } else if thread.has_news_since(seen) {
        Some("a person wrote something new before this could run; read it and decide again")
    } else {
        None
    };
    // What came in after the model looked counts as read: it is never less than what the model has seen.
    let gated = |call| gate(call, asked_here, &thread.untrusted, &thread.settled, rules, held, doubts);
    NextStep::Call { calls: calls.into_iter().map(gated).collect(), why: text }
}

/// Longest name of a tool, in characters: what the vendors allow.
const MAX_TOOL_NAME: usize = 64;

/// Calls that one reply may hold: as many rows as a card can show twice over.
pub const MAX_CALLS: usize = 16;

/// Arguments of [`ASK_HUMAN`], as the model is told of them.
pub fn ask_human_schema() -> Value {
    serde_json::json!({
        "type": "object",
        "properties": {
            "question": {"type": "string", "description": "One question, in words that the person can answer."},
            "kind": {"type": "string", "enum": ["text", "yes_no", "choice"]},
            "choices": {"type": "array", "items": {"type": "string"}, "description": "For kind `choice`: 2 to 10 answers."},
        },
        "required": ["question"],
        "additionalProperties": false,
    })
}

fn parse_ask(raw: &str) -> Result<(String, AnswerKind), String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Ask {
        question: String,
        #[serde(default)]
        kind: Option<String>,
        #[serde(default)]
        choices: Vec<String>,
    }
    let value = super::json::parse(raw).map_err(|e| e.to_string())?;
    let ask: Ask = serde_json::from_value(value).map_err(|e| format!("{ASK_HUMAN}: {e}"))?;
    if ask.question.trim().is_empty() {
        return Err(format!("{ASK_HUMAN}: the question is empty"));
    }
    let kind = match ask.kind.as_deref() {
        None if ask.choices.is_empty() => AnswerKind::Text,
        Some("text") => AnswerKind::Text,
        Some("yes_no") => AnswerKind::YesNo,
        None | Some("choice") if (2..=10).contains(&ask.choices.len()) => AnswerKind::Choice { choices: ask.choices },
        None | Some("choice") => return Err(format!("{ASK_HUMAN}: give 2 to 10 choices")),
        Some(other) => return Err(format!("{ASK_HUMAN}: unknown kind `{other}`; use text, yes_no or choice")),
    };
    Ok((ask.question, kind))
}
