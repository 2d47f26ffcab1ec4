//! What people are told, in private, of what they pressed or commanded: one line each, what and why and what
//! next. Pure functions; in no surface's form. What others wrote is in the strict view, and not escaped yet.

use super::words::quote;
use crate::agent::*;

/// Calls that are named after a stop; the rest is counted.
const MAX_NAMED: usize = 5;

/// A vote, a change or a denial was taken; `request` is how it stands now, `title` what was approved, denied, or
/// what it was changed to.
pub fn voted(choice: &Choice, request: &Approval, title: &str) -> String {
    let title = quote(title);
    match choice {
        Choice::Approve { .. } if request.is_open() => {
            let (have, needed) = (request.approved_by().len(), request.terms.approvers.quorum.max(1));
            format!("Your approval of \"{title}\" counts: {have} of {needed}. It waits for someone else.")
        }
        Choice::Approve { .. } => format!("You approved \"{title}\"."),
        Choice::Deny { reason } if reason.trim().is_empty() => format!("You denied \"{title}\". It will not run."),
        Choice::Deny { .. } => format!("You denied \"{title}\". It will not run, and the agent is told why."),
        Choice::Edit { .. } => {
            format!("You changed it to \"{title}\". Nothing runs until the changed request is approved.")
        }
    }
}

/// How a request stands that this person has decided before.
pub fn stands(request: &Approval, by: &Principal, people: &People) -> String {
    let voted = || request.approved_by().iter().any(|voter| people.compare(voter, by) == Sameness::Same);
    match request.state {
        ApprovalState::Pending if voted() => Refusal::AlreadyVoted.to_string(),
        ApprovalState::Pending => {
            let waits_for = visible::composed(&request.terms.approvers.describe());
            format!("\"{}\" waits for {waits_for}.", quote(&request.title))
        }
        ApprovalState::Revising { .. } => {
            format!("\"{}\" is being changed; the new request follows.", quote(&request.title))
        }
        ApprovalState::Approved { .. }
        | ApprovalState::Used { .. }
        | ApprovalState::Denied { .. }
        | ApprovalState::Expired { .. }
        | ApprovalState::Cancelled => Refusal::already_decided(request).to_string(),
    }
}

/// Why nothing came of it.
pub fn refused(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Expired { at } => {
            format!("This expired at {at} and was denied. Press \"Ask again\" to have the agent ask anew.")
        }
        Refusal::NotAnApprover { .. }
        | Refusal::Requester { .. }
        | Refusal::Unsure { .. }
        | Refusal::NotAPerson
        | Refusal::AlreadyDecided { .. }
        | Refusal::AlreadyVoted
        | Refusal::Changed
        | Refusal::NoSuchApproval { .. }
        | Refusal::InvalidEdit { .. }
        | Refusal::LooksSecret { .. }
        | Refusal::NotEditable
        | Refusal::NothingChanged
        | Refusal::NoSuchQuestion
        | Refusal::NotAChoice { .. }
        | Refusal::NothingToMark
        | Refusal::EmptyMessage
        | Refusal::TooLong { .. }
        | Refusal::ContextTooLong { .. }
        | Refusal::EmptyContext { .. }
        | Refusal::Cancelled
        | Refusal::NoConversation
        | Refusal::ThreadExists
        | Refusal::NothingRuns
        | Refusal::AlreadyPaused
        | Refusal::NotPaused => visible::composed(&refusal.to_string()),
    }
}

/// It could not be found out who is in the groups that may decide.
pub fn unchecked(groups: &[String], why: &str) -> String {
    let names: Vec<String> = groups.iter().map(|g| format!("@{}", visible::line(g))).collect();
    let why = visible::line(why.trim().trim_end_matches('.'));
    format!(
        "I couldn't check who is in {} ({why}), so nobody was let through. An operator can run `doctor`.",
        names.join(", ")
    )
}

/// The same words for what is gone, what never was, and what is somebody else's.
pub fn unknown(what: &str) -> String {
    format!("I don't know this {what} any more.")
}

/// An answer was taken.
pub fn answered(text: &str) -> String {
    format!("Your answer was taken: {}", quote(text))
}

/// A call was marked.
pub fn marked(mark: &Mark) -> String {
    match mark {
        Mark::Succeeded { .. } => "Noted: it took effect. The agent goes on.".to_owned(),
        Mark::Failed { .. } => "Noted: it did not take effect. The agent goes on.".to_owned(),
        Mark::Retry => "It is tried again; what needs an approval is asked for first.".to_owned(),
    }
}

/// Words were taken in an existing conversation.
pub fn taken(agent: &str) -> String {
    format!("Taken: {} is on it.", quote(agent))
}

/// The first message of a new conversation, after "somebody asked".
pub fn opening(agent: &str, text: &str) -> String {
    format!("{agent}: {text}")
}

/// A new conversation was started.
pub fn started(agent: &str) -> String {
    format!("Started: {} is on it and answers in its own thread.", quote(agent))
}

/// Somebody asked an agent for something in a thread that is another one's.
pub fn started_by_another(wanted: &str, has: &str) -> String {
    let (wanted, has) = (quote(wanted), quote(has));
    format!(
        "This thread is {has}'s already, so {has} took it, not {wanted}. For {wanted}, start outside of this thread."
    )
}

/// A run was told to stop, pause or go on; `before` is the thread as it was.
pub fn steered(what: Steer, before: &Thread) -> String {
    match what {
        Steer::Pause => "Paused: nothing starts until somebody resumes it.".to_owned(),
        Steer::Resume => "Resumed.".to_owned(),
        Steer::Stop => {
            let started = before.run.as_ref().map_or(u64::MAX, |run| run.started);
            let done = before
                .approvals
                .values()
                .filter(|a| a.call.seq >= started && matches!(a.result, Some((Ending::Succeeded, _))));
            let running = before.calls.values().filter(|c| c.stage == Stage::Started);
            let mut said = "Stopped: nothing more will run.".to_owned();
            let sentences = [
                ("Already done", named(done.map(|a| quote(&a.title)).collect())),
                ("Running already, and not broken off", named(running.map(|c| quote(&c.gated.title)).collect())),
            ];
            for (what, which) in sentences.into_iter().filter(|(_, which)| !which.is_empty()) {
                said.push_str(&format!(" {what}: {which}."));
            }
            said
        }
    }
}

/// It is so already, because it was done before.
pub fn steered_before(what: Steer) -> String {
    match what {
        Steer::Stop => "Stopped: nothing more will run.",
        Steer::Pause => "Paused: nothing starts until somebody resumes it.",
        Steer::Resume => "Resumed.",
    }
    .to_owned()
}

/// Somebody who has no part in it.
pub fn not_yours(what: Steer) -> String {
    let what = match what {
        Steer::Stop => "stop",
        Steer::Pause => "pause",
        Steer::Resume => "resume",
    };
    format!("You can't {what} this one. Those who take part in it can, and those who decide what it waits for.")
}

/// It was tried for as long as makes sense.
pub fn given_up(why: &str) -> String {
    format!(
        "This could not be done ({}), so nothing was changed. Please try again.",
        visible::line(why.trim_end_matches('.'))
    )
}

/// Something of ours is broken; `reference` finds it in the log.
pub fn broken(reference: ShortId) -> String {
    format!("Something broke on my side. Nothing was run. Reference {reference}.")
}

fn named(mut titles: Vec<String>) -> String {
    let more = titles.len().saturating_sub(MAX_NAMED);
    titles.truncate(MAX_NAMED);
    if more > 0 {
        titles.push(format!("{more} more"));
    }
    titles.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_that_says_what_and_what_next() {
        let waits_for = || "@release-team (1 needed)".to_owned();
        let id = ApprovalId::new(ShortId::default(), 5, 0);
        let lines: Vec<String> = [
            Refusal::NotAnApprover { waits_for: waits_for() },
            Refusal::Requester { waits_for: waits_for(), wrote: Some((Timestamp(0), "deploy it".to_owned())) },
            Refusal::Unsure { you: "web:ann".into(), other: "slack:T1:U1".into(), did: "asked for it" },
            Refusal::NotAPerson,
            Refusal::AlreadyVoted,
            Refusal::Changed,
            Refusal::Expired { at: Timestamp(1_767_225_600_000) },
            Refusal::NoSuchApproval { id },
            Refusal::InvalidEdit { why: "`version` is missing".into() },
            Refusal::NotEditable,
            Refusal::NoSuchQuestion,
            Refusal::NotAChoice { choices: vec!["left".into(), "right".into()] },
            Refusal::NothingToMark,
            Refusal::Cancelled,
            Refusal::NoConversation,
            Refusal::NothingRuns,
        ]
        .iter()
        .map(refused)
        .collect();
        assert!(lines.iter().all(|line| !line.contains('\n')));
        insta::assert_snapshot!(lines.join("\n"), @r#"
        You can't decide this one. It waits for @release-team (1 needed).
        You wrote "deploy it" in this conversation (1970-01-01T00:00:00Z), which counts as asking, so someone else has to decide: @release-team (1 needed). To decide on such a call yourself, let another person ask for it in a new thread.
        I can't tell whether you are the one who asked for it (you are web:ann here, slack:T1:U1 asked for it). An operator can say who you are: add both ids to [[people]]. Nothing was decided.
        Only a person can do this.
        You already approved this; it waits for someone else.
        The request changed since this card was posted. Look at the current one and decide that.
        This expired at 2026-01-01T00:00:00Z and was denied. Press "Ask again" to have the agent ask anew.
        I don't know this request any more. Id apr_aaaaaaaaaaaaaaaa_5.
        These arguments can't be used: `version` is missing.
        The arguments of this tool can't be changed. Deny it and say what you want instead.
        This question is not open any more.
        Answer with one of: left, right.
        The outcome of this call is not in question.
        This thread was cancelled, so nothing runs here any more. Start a new one.
        This is a record of what somebody did, and no conversation. Start one of its own.
        Nothing is running here.
        "#);
    }

    #[test]
    fn what_is_no_refusal_and_no_success_is_said_as_plainly() {
        let lines = [
            unchecked(&["release-team".into(), "oncall".into()], "Slack: missing_scope usergroups:read."),
            unknown("question"),
            answered("left\nor right"),
            marked(&Mark::Retry),
            taken("deployment"),
            started("deployment"),
            opening("deployment", "deploy api"),
            not_yours(Steer::Stop),
            steered_before(Steer::Pause),
            given_up("Slack did not answer."),
            broken(ShortId::default()),
        ];
        insta::assert_snapshot!(lines.join("\n"), @"
        I couldn't check who is in @release-team, @oncall (Slack: missing_scope usergroups:read), so nobody was let through. An operator can run `doctor`.
        I don't know this question any more.
        Your answer was taken: left or right
        It is tried again; what needs an approval is asked for first.
        Taken: deployment is on it.
        Started: deployment is on it and answers in its own thread.
        deployment: deploy api
        You can't stop this one. Those who take part in it can, and those who decide what it waits for.
        Paused: nothing starts until somebody resumes it.
        This could not be done (Slack did not answer), so nothing was changed. Please try again.
        Something broke on my side. Nothing was run. Reference aaaaaaaaaaaaaaaa.
        ");
    }

    #[test]
    fn a_long_list_is_counted_and_not_cut_without_a_word() {
        assert_eq!(named((0..7).map(|n| n.to_string()).collect()), "0, 1, 2, 3, 4, 2 more");
        assert_eq!(named(vec![]), "");
    }
}
