//! What the state of a thread calls for by itself, one event at a time: approvals, questions, timers, a shorter window.
//!
//! `step` asks [`due`] after every input until it is silent. As pure as the fold: the time comes in as data.

use super::approval::approval_digest;
use super::event::*;
use super::id::*;
use super::input::{GO_ON, Rules, STOP};
use super::policy::Verdict;
use super::thread::{Effect, Stage, Thread};
use super::tool::Plan;
use super::window::Compaction;

/// What the state calls for by itself, one event at a time.
pub(super) fn due(thread: &Thread, rules: &Rules, now: Timestamp) -> Option<Body> {
    due_approval(thread, now)
        .or_else(|| due_question(thread, rules))
        .or_else(|| due_timer(thread, now))
        .or_else(|| due_compaction(thread, rules))
}

/// Only for a model that is about to look: it costs as much as the window is long.
fn due_compaction(thread: &Thread, rules: &Rules) -> Option<Body> {
    if !thread.outstanding().values().any(|e| *e == Effect::CallModel) {
        return None;
    }
    let compaction = thread.window.compaction(&rules.window, rules.base_bytes, &thread.pending_calls())?;
    let Compaction { upto, summary, layout, cut } = compaction;
    Some(Body::Compacted { upto, summary, layout, cut })
}

/// Bytes that the next request may have after one that was too long for the model: as many as the provider's own
/// numbers allow, with a margin of a tenth, or half of what was sent. Less in any case, down to a bound.
pub(super) fn ceiling(thread: &Thread, rules: &Rules, limit: Option<u64>, counted: Option<u64>) -> u64 {
    let sent = thread.window.bytes().saturating_add(rules.base_bytes) as u64;
    let half = (sent / 2).max(LEAST_CEILING);
    let Some(limit) = limit else { return half };
    // The reply needs its room as well, but never more than half of it all.
    let free = limit.saturating_sub(u64::from(rules.spec.limits.max_output_tokens)).max(limit / 2) / 10 * 9;
    // It had at least as many tokens as the model takes, whatever we had estimated.
    let tokens = counted.unwrap_or(limit).max(limit).max(thread.window.tokens(rules.base_bytes));
    let fits = u128::from(sent) * u128::from(free) / u128::from(tokens.max(1));
    u64::try_from(fits).unwrap_or(half).min(sent / 10 * 9).max(LEAST_CEILING)
}

/// Bytes below which no request is shortened: a model that cannot take these can answer nothing.
const LEAST_CEILING: u64 = 2_000;

fn due_approval(thread: &Thread, now: Timestamp) -> Option<Body> {
    for approval in thread.pending_approvals() {
        let resolution = if let Some(reason) = approval.denial() {
            Resolution::Denied { reason }
        } else if approval.is_carried() {
            Resolution::Approved
        } else if now >= approval.expires_at {
            Resolution::Expired
        } else {
            continue;
        };
        return Some(Body::ApprovalResolved { approval: approval.id, revision: approval.revision, resolution });
    }
    thread.calls.iter().find_map(|(id, call)| match &call.stage {
        Stage::Planned { plan, because } => request_body(thread, *id, plan.clone(), because.clone(), None, now),
        Stage::Planning | Stage::Asking | Stage::Ready | Stage::Started | Stage::Lost | Stage::Sleeping { .. } => None,
    })
}

/// The request to people for a call: a first revision, or the next.
pub(super) fn request_body(
    thread: &Thread,
    id: CallId,
    plan: Option<Plan>,
    because: Because,
    schema_version: Option<u32>,
    now: Timestamp,
) -> Option<Body> {
    let call = thread.calls.get(&id)?;
    let Verdict::Ask { terms } = &call.gated.verdict else { return None };
    let before = call.approval.and_then(|a| thread.approvals.get(&a));
    let schema_version = schema_version.or(call.gated.facts.as_ref().map(|f| f.schema_version))?;
    Some(Body::ApprovalRequested {
        approval: before.map_or_else(|| ApprovalId::new(thread.short, thread.version + 1, 0), |b| b.id),
        call: id,
        revision: before.map_or(1, |b| b.revision + 1),
        because,
        title: call.gated.title.clone(),
        digest: approval_digest(&thread.id, id, &call.gated.tool, schema_version, &call.gated.args, plan.as_ref()),
        args: call.gated.args.clone(),
        plan,
        terms: terms.clone(),
        requesters: call.requesters.iter().map(|spoken| spoken.who.clone()).collect(),
        expires_at: now.plus_ms(terms.expires_after_ms),
    })
}

/// Budgets, repeated errors and a silent model end at a person.
fn due_question(thread: &Thread, rules: &Rules) -> Option<Body> {
    let run = thread.run.as_ref()?;
    if !thread.questions.is_empty() || !thread.calls.is_empty() {
        return None;
    }
    let limits = &rules.spec.limits;
    let (cause, text) = if let (Some(why), Some(bytes)) = (&thread.model.down, thread.model.ceiling) {
        let kb = bytes.div_ceil(1_000);
        let text = format!(
            "This conversation is too long for the model, also after I shortened what it reads ({why}). Your request is \
             kept. Should I go on with about {kb} kB of it? A new thread, a smaller file or a narrower question help; an \
             operator can set a model with a longer context, or a lower model.max_context_tokens."
        );
        (QuestionCause::ModelDown, text)
    } else if let Some(why) = &thread.model.down {
        (
            QuestionCause::ModelDown,
            match thread.model.attempts {
                1 => format!("The model did not answer ({why}). Your request is kept. Try again?"),
                n => format!("The model did not answer ({why}; asked {n} times). Your request is kept. Try again?"),
            },
        )
    } else if let Some((tool, failures)) = run.errors.iter().find(|(_, n)| **n >= limits.max_errors) {
        (
            QuestionCause::Errors { tool: tool.clone() },
            format!("{tool} failed {failures} times in a row. Should I go on?"),
        )
    } else if run.steps >= limits.max_steps {
        (QuestionCause::StepBudget, format!("I have taken {} steps without finishing. Should I go on?", run.steps))
    } else if run.tokens >= limits.max_tokens {
        (QuestionCause::TokenBudget, format!("I have used {} tokens without finishing. Should I go on?", run.tokens))
    } else {
        return None;
    };
    let question = QuestionId::new(thread.short, thread.version + 1, 0);
    let answer = AnswerKind::Choice { choices: vec![GO_ON.to_owned(), STOP.to_owned()] };
    Some(Body::QuestionAsked { question, cause, text, answer })
}

fn due_timer(thread: &Thread, now: Timestamp) -> Option<Body> {
    let posting = thread.posts.iter().find(|(_, p)| p.retry_at.is_some_and(|at| at <= now));
    if let Some((posting, _)) = posting {
        return Some(Body::TimerFired { timer: Timer::Post { posting: posting.clone() } });
    }
    if thread.paused.is_some() || thread.cancelled {
        return None;
    }
    if thread.model.retry_at.is_some_and(|at| at <= now) {
        return Some(Body::TimerFired { timer: Timer::Model });
    }
    thread.calls.iter().find_map(|(id, call)| match &call.stage {
        Stage::Sleeping { until, .. } if *until <= now => Some(Body::TimerFired { timer: Timer::Wake { call: *id } }),
        Stage::Sleeping { .. }
        | Stage::Planning
        | Stage::Planned { .. }
        | Stage::Asking
        | Stage::Ready
        | Stage::Started
        | Stage::Lost => None,
    })
}
