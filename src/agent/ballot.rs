//! A person's decision, checked against the request as it stands: who may decide, on what they were shown,
//! and what an edit leads to. What the votes amount to is `approval`'s.

use super::approval::{Approval, ApprovalState};
use super::event::{Spoken, Vote};
use super::id::{ApprovalId, Principal, PrincipalKind};
use super::input::{Ballot, Checked, Proposed, Rules};
use super::json::canonical;
use super::people::{People, Sameness};
use super::policy::{Terms, Verdict};
use super::refusal::Refusal;
use super::reply::with_requester_rule;
use super::secret::removals;
use super::thread::{Call, Thread};

/// A decision that counts, as it enters the log.
pub(super) struct Counted {
    pub revision: u32,
    /// The identity among the approvers under which it counts, where that is another one of the same person.
    pub named: Option<String>,
    pub vote: Vote,
}

/// What a person wants with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    Approve,
    Deny,
    Edit,
}

/// Checks a person's decision against the request as it stands.
pub(super) fn ballot(
    thread: &Thread,
    id: ApprovalId,
    shown: &str,
    by: &Principal,
    groups: &[String],
    ballot: Ballot,
    rules: &Rules,
) -> Result<Counted, Refusal> {
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
    let wants = match ballot {
        Ballot::Approve { .. } => Wants::Approve,
        Ballot::Deny { .. } => Wants::Deny,
        Ballot::Edit { .. } => Wants::Edit,
    };
    let named = eligible(thread, approval, by, groups, wants, rules.people)?;
    let vote = match ballot {
        Ballot::Deny { reason } => Vote::Deny { reason: rules.secrets.clean(&reason).into_owned() },
        Ballot::Approve { note } => Vote::Approve { note: rules.secrets.clean(&note).into_owned() },
        Ballot::Edit { args } => edit(thread, approval, *args, rules)?,
    };
    Ok(Counted { revision: approval.revision, named, vote })
}

/// Whether a person may decide an open request so: the one predicate of every surface that offers a decision.
///
/// The answer is the identity among the approvers under which the decision counts, if that is another identity of
/// the same person. A denial needs an approver and no more. An approval or an edit needs, where the terms want other
/// people than those who asked, one who surely is none of them; where they want several, one who surely is none of
/// those who have approved.
///
/// # Errors
/// What the person is told.
pub fn eligible(
    thread: &Thread,
    approval: &Approval,
    by: &Principal,
    groups: &[String],
    wants: Wants,
    people: &People,
) -> Result<Option<String>, Refusal> {
    if by.kind != PrincipalKind::Human {
        return Err(Refusal::NotAPerson);
    }
    let terms = &approval.terms;
    let named = as_approver(terms, by, groups, people)
        .ok_or_else(|| Refusal::NotAnApprover { waits_for: terms.approvers.describe() })?;
    if wants == Wants::Deny {
        return Ok(named);
    }
    if approval.bars_requesters() {
        let asked = thread.calls.get(&approval.call).map(Box::as_ref);
        for requester in &approval.requesters {
            match people.compare(requester, by) {
                Sameness::Different => {}
                Sameness::Same => return Err(requested(terms, asked, requester)),
                Sameness::Unknown => return Err(Refusal::unsure(by, requester, "asked for it")),
            }
        }
    }
    if wants == Wants::Approve {
        for voter in approval.approved_by() {
            match people.compare(voter, by) {
                Sameness::Different => {}
                Sameness::Same => return Err(Refusal::AlreadyVoted),
                Sameness::Unknown => return Err(Refusal::unsure(by, voter, "approved it already")),
            }
        }
    }
    Ok(named)
}

/// Whether a person is one of the approvers, and under which other identity of theirs, if it takes one.
pub fn as_approver(terms: &Terms, by: &Principal, groups: &[String], people: &People) -> Option<Option<String>> {
    let approvers = &terms.approvers;
    if approvers.includes(by, groups) {
        return Some(None);
    }
    let named = approvers.users.iter().find(|user| people.is_named(user, by));
    named.map(|user| Some(user.clone()))
}

/// The refusal for one who asked: their own words, and when.
fn requested(terms: &Terms, asked: Option<&Call>, requester: &Principal) -> Refusal {
    let spoken = asked.and_then(|call| call.requesters.iter().find(|spoken| spoken.who == *requester));
    Refusal::Requester {
        waits_for: terms.approvers.describe(),
        wrote: spoken.filter(|spoken| !spoken.words.is_empty()).map(|Spoken { at, words, .. }| (*at, words.clone())),
    }
}

/// A changed call is a new call: the whole policy judges it again, and what it says is what holds from then on.
///
/// It is judged by everything that has come in up to now, as the same call made now by the model would be. Those who
/// asked stay those who asked: changing the arguments makes an approver no requester.
fn edit(thread: &Thread, approval: &Approval, args: Proposed, rules: &Rules) -> Result<Vote, Refusal> {
    let invalid = |why: String| Refusal::InvalidEdit { why };
    let Checked { facts, args, title } = args.checked.map_err(invalid)?;
    if !facts.editable {
        return Err(Refusal::NotEditable);
    }
    if args == approval.args {
        return Err(Refusal::NothingChanged);
    }
    let look = rules.secrets.look(&args);
    if !look.is_clear() {
        return Err(Refusal::looks_secret(look));
    }
    let taken_out = |args: &serde_json::Value| removals(&canonical(args));
    if taken_out(&args) > taken_out(&approval.args) {
        return Err(invalid(
            "a value in them looked like a secret and was taken out on the way; make this change in the console or at the \
             terminal, where people can be asked about it"
                .to_owned(),
        ));
    }
    if thread.calls.get(&approval.call).is_none_or(|c| c.gated.tool != facts.name) {
        return Err(invalid(format!("they are for the tool `{}`", facts.name)));
    }
    let terms = match rules.policy.verdict_after(&thread.untrusted, &thread.agent, &facts, &args) {
        Verdict::Deny { rule, why } => return Err(invalid(format!("{why} (rule: {rule})"))),
        Verdict::Ask { terms } => {
            let asked_here = approval.requesters.iter().all(Principal::is_local) && !approval.requesters.is_empty();
            Some(Box::new(with_requester_rule(terms, rules, asked_here)))
        }
        // The changed call would run by itself: people are asked all the same, under the terms that hold.
        Verdict::Auto { .. } | Verdict::Invalid { .. } | Verdict::Held { .. } => None,
    };
    Ok(Vote::Edit { args, title, terms })
}
