//! A person's decision, checked against the request as it stands: who may decide, on what they were shown,
//! and what an edit may lead to. What the votes amount to is `approval`'s.

use super::approval::ApprovalState;
use super::event::Vote;
use super::id::{ApprovalId, Principal, PrincipalKind};
use super::policy::Verdict;
use super::refusal::Refusal;
use super::step::{Ballot, Checked, Proposed, Rules};
use super::thread::Thread;

/// Checks a person's decision against the request as it stands.
pub(super) fn ballot(
    thread: &Thread,
    id: ApprovalId,
    shown: &str,
    by: &Principal,
    groups: &[String],
    ballot: Ballot,
    rules: &Rules,
) -> Result<(u32, Vote), Refusal> {
    let approval = thread.approvals.get(&id).ok_or(Refusal::NoSuchApproval { id })?;
    match approval.state {
        ApprovalState::Pending => {}
        ApprovalState::Revising { .. } => return Err(Refusal::Changed),
        ApprovalState::Expired { at } => return Err(Refusal::Expired { at }),
        ApprovalState::Approved { .. }
        | ApprovalState::Used { .. }
        | ApprovalState::Denied { .. }
        | ApprovalState::Cancelled => {
            return Err(Refusal::already_decided(approval));
        }
    }
    // At least the prefix that a button carries; less could be guessed.
    if shown.len() < 12 || !approval.digest.to_string().starts_with(shown) {
        return Err(Refusal::Changed);
    }
    if by.kind != PrincipalKind::Human {
        return Err(Refusal::NotAPerson);
    }
    if !approval.terms.approvers.includes(by, groups) {
        return Err(Refusal::NotAnApprover { waits_for: approval.terms.approvers.describe() });
    }
    let barred = approval.is_barred_requester(by);
    let vote = match ballot {
        Ballot::Deny { reason } => Vote::Deny { reason: rules.secrets.clean(&reason).into_owned() },
        Ballot::Approve { .. } | Ballot::Edit { .. } if barred => {
            return Err(Refusal::Requester { waits_for: approval.terms.approvers.describe() });
        }
        Ballot::Approve { .. } if approval.approved_by().contains(&by) => return Err(Refusal::AlreadyVoted),
        Ballot::Approve { note } => Vote::Approve { note: rules.secrets.clean(&note).into_owned() },
        Ballot::Edit { args } => {
            let Proposed { checked, .. } = *args;
            let Checked { facts, args, title } = checked.map_err(|why| Refusal::InvalidEdit { why })?;
            if !facts.editable {
                return Err(Refusal::NotEditable);
            }
            if args == approval.args {
                return Err(Refusal::NothingChanged);
            }
            if let Some(label) = rules.secrets.find(&super::json::canonical(&args)) {
                return Err(Refusal::InvalidEdit { why: format!("they contain what looks like a secret ({label})") });
            }
            if thread.calls.get(&approval.call).is_none_or(|c| c.gated.tool != facts.name) {
                return Err(Refusal::InvalidEdit { why: format!("they are for the tool `{}`", facts.name) });
            }
            // An edit may only lead to a call that these very people could be asked for: never around
            // a deny, and never to what a rule puts before others. It is judged by what the model had read
            // when it made the call: what has come in since had no part in it, nor in this person's edit.
            match rules.policy.verdict_after(&approval.terms.untrusted, &thread.agent, &facts, &args) {
                Verdict::Deny { why, .. } => return Err(Refusal::InvalidEdit { why }),
                Verdict::Ask { terms } if !approval.terms.approvers.same_people(&terms.approvers) => {
                    let why = format!(
                        "the rule `{}` puts them before {}; deny this and ask for that instead",
                        terms.rule,
                        terms.approvers.describe()
                    );
                    return Err(Refusal::InvalidEdit { why });
                }
                Verdict::Ask { .. } | Verdict::Auto { .. } | Verdict::Invalid { .. } | Verdict::Held { .. } => {}
            }
            Vote::Edit { args, title }
        }
    };
    Ok((approval.revision, vote))
}
