//! What an input changed that is counted: seen by comparing the fold before and after it, so that nothing
//! has to be read back from the events.

use super::Runtime;
use crate::agent::{Answer, Approval, ApprovalId, ApprovalState, RunEnd, Thread};
use crate::metrics::{Decision, RunOutcome};

/// Rules that no configuration names: how their names begin, and the label that stands for all of them.
const UNNAMED: [(&str, &str); 2] = [("default:", "default"), ("untrusted text:", "untrusted")];

/// The labels of rules that no configuration names.
pub(super) fn unnamed_rules<'a>() -> impl Iterator<Item = &'a str> {
    UNNAMED.into_iter().map(|(_, label)| label)
}

/// The label of a rule. Names that are made here tell what was read, which is for people.
pub(super) fn rule_label(rule: &str) -> &str {
    UNNAMED.iter().find(|(beginning, _)| rule.starts_with(beginning)).map_or(rule, |(_, label)| label)
}

/// What of a thread can end.
pub(super) struct Before {
    /// Event that started the run.
    run: Option<u64>,
    /// Approvals that people could decide. Empty for most inputs, and then it takes no memory.
    open: Vec<ApprovalId>,
}

impl Before {
    pub fn of(thread: &Thread) -> Self {
        Self {
            run: thread.run.as_ref().map(|run| run.started),
            open: thread.pending_approvals().map(|approval| approval.id).collect(),
        }
    }
}

impl Runtime {
    /// To be called once for each input, when its events are kept.
    pub(super) fn count(&self, before: &Before, after: &Thread, answer: &Answer) {
        let metrics = &self.0.parts.metrics;
        if *answer == Answer::Duplicate {
            metrics.deduplicated();
        }
        if before.run.is_some() && before.run != after.run.as_ref().map(|run| run.started) {
            let outcome = match after.end {
                _ if after.cancelled => RunOutcome::Cancelled,
                RunEnd::Stopped => RunOutcome::Stopped,
                RunEnd::None | RunEnd::Done => RunOutcome::Done,
            };
            metrics.run_ended(&after.agent, outcome);
        }
        for approval in before.open.iter().filter_map(|id| after.approvals.get(id)) {
            let (decision, decider) = match &approval.state {
                // Undecided, or asked anew.
                ApprovalState::Pending | ApprovalState::Revising { .. } => continue,
                ApprovalState::Approved { .. } | ApprovalState::Used { .. } => {
                    (Decision::Approved, last_voter(approval))
                }
                ApprovalState::Denied { .. } => (Decision::Denied, last_voter(approval)),
                ApprovalState::Expired { .. } => (Decision::Expired, None),
                ApprovalState::Cancelled => (Decision::Cancelled, None),
            };
            let rule = rule_label(&approval.terms.rule);
            let waited_ms = after.updated_at.ms_since(approval.requested_at);
            metrics.approval_decided(decision, decider, rule, waited_ms);
        }
    }
}

/// The surface of whoever cast the vote that decided.
fn last_voter(approval: &Approval) -> Option<&str> {
    approval.votes.last().map(|vote| vote.by.surface())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_say_what_they_stand_for_share_a_label() {
        assert_eq!(rule_label("default: tools with side effects ask"), "default");
        assert_eq!(rule_label("untrusted text: http_get example.com, and 2 more"), "untrusted");
        assert_eq!(rule_label("prod deploys"), "prod deploys");
        assert_eq!(unnamed_rules().collect::<Vec<_>>(), ["default", "untrusted"]);
    }
}
