//! Approvals: what people are asked, who may decide, what their votes amount to.
//!
//! The digest binds an approval to exactly what was shown. It is computed when the request is written
//! and again right before the call runs; a difference of any kind closes the gate and asks anew.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::event::{Because, Body, Event, Vote};
use super::id::{ApprovalId, CallId, Digest, Principal, PrincipalKind, ThreadId, Timestamp};
use super::json::canonical;
use super::people::is_same_person;
use super::policy::Terms;
use super::tool::Plan;
use super::window::Ending;

/// SHA-256 over the canonical JSON of everything that an approval covers.
pub fn approval_digest(
    thread: &ThreadId,
    call: CallId,
    tool: &str,
    schema_version: u32,
    args: &Value,
    plan: Option<&Plan>,
) -> Digest {
    let covered = json!({
        "args": args,
        "call": call,
        "plan": plan,
        "schema_version": schema_version,
        "thread": thread,
        "tool": tool,
    });
    Digest::of(canonical(&covered).as_bytes())
}

/// One person's vote on one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct CastVote {
    pub by: Principal,
    pub groups: Vec<String>,
    /// The identity among the approvers under which it counts, where that is another one of the same person.
    pub named: Option<String>,
    pub vote: Vote,
    pub at: Timestamp,
}

/// Where an approval stands.
#[derive(Clone, Debug, PartialEq)]
pub enum ApprovalState {
    Pending,
    /// A new revision is on its way; the present one can no longer be decided.
    Revising {
        because: Because,
    },
    Approved {
        at: Timestamp,
    },
    /// The call has started: this approval will never start another.
    Used {
        at: Timestamp,
    },
    Denied {
        at: Timestamp,
        reason: String,
    },
    Expired {
        at: Timestamp,
    },
    Cancelled,
}

/// A request to people, as folded.
#[derive(Clone, Debug, PartialEq)]
pub struct Approval {
    pub id: ApprovalId,
    pub call: CallId,
    pub tool: String,
    pub revision: u32,
    pub because: Because,
    pub title: String,
    pub args: Value,
    /// The arguments of the first revision, if an approver changed them.
    pub original_args: Option<Value>,
    /// The terms of the revision before, if this one is asked under others.
    pub former_terms: Option<Box<Terms>>,
    pub plan: Option<Plan>,
    pub digest: Digest,
    pub terms: Terms,
    pub requesters: Vec<Principal>,
    pub requested_at: Timestamp,
    pub expires_at: Timestamp,
    /// Votes on the present revision.
    pub votes: Vec<CastVote>,
    pub state: ApprovalState,
    /// When it was decided, expired or cancelled.
    pub settled_at: Option<Timestamp>,
    /// How the call ended, once it has.
    pub result: Option<(Ending, String)>,
}

impl Approval {
    pub(super) fn from_event(event: &Event, tool: &str) -> Option<Self> {
        let Body::ApprovalRequested {
            approval,
            call,
            revision,
            because,
            title,
            args,
            plan,
            digest,
            terms,
            requesters,
            expires_at,
        } = &event.body
        else {
            return None;
        };
        Some(Self {
            id: *approval,
            call: *call,
            tool: tool.to_owned(),
            revision: *revision,
            because: because.clone(),
            title: title.clone(),
            args: args.clone(),
            original_args: None,
            former_terms: None,
            plan: plan.clone(),
            digest: *digest,
            terms: terms.clone(),
            requesters: requesters.clone(),
            requested_at: event.at,
            expires_at: *expires_at,
            votes: Vec::new(),
            state: ApprovalState::Pending,
            settled_at: None,
            result: None,
        })
    }

    /// This revision, knowing the one before: votes start anew; the first arguments are kept, and the terms before.
    pub(super) fn after(mut self, before: Option<Approval>) -> Self {
        if let Some(before) = before {
            let first = before.original_args.unwrap_or(before.args);
            self.original_args = (first != self.args).then_some(first);
            self.former_terms = (before.terms != self.terms).then(|| Box::new(before.terms));
        }
        self
    }

    /// Whether people can decide it now.
    pub fn is_open(&self) -> bool {
        self.state == ApprovalState::Pending
    }

    /// Whether anything can still come of it.
    pub fn is_live(&self) -> bool {
        match self.state {
            ApprovalState::Pending | ApprovalState::Revising { .. } | ApprovalState::Approved { .. } => true,
            ApprovalState::Used { .. } => self.result.is_none(),
            ApprovalState::Denied { .. } | ApprovalState::Expired { .. } | ApprovalState::Cancelled => false,
        }
    }

    /// Why the next revision is needed, if one is on its way.
    pub(super) fn because_again(&self) -> Because {
        match &self.state {
            ApprovalState::Revising { because } => because.clone(),
            ApprovalState::Pending | ApprovalState::Approved { .. } | ApprovalState::Used { .. } => {
                self.because.clone()
            }
            ApprovalState::Denied { .. } | ApprovalState::Expired { .. } | ApprovalState::Cancelled => {
                self.because.clone()
            }
        }
    }

    pub(super) fn vote(&mut self, cast: CastVote) {
        if let Vote::Edit { .. } = cast.vote {
            self.state = ApprovalState::Revising { because: Because::Edited { by: cast.by.clone() } };
        }
        self.votes.push(cast);
    }

    /// Whether the terms want people who did not ask for it.
    pub fn bars_requesters(&self) -> bool {
        self.terms.approvers.requester_may != Some(true)
    }

    /// Whether the person asked for it under terms that want other people, by what the log says of both.
    fn is_barred_requester(&self, by: &Principal) -> bool {
        self.bars_requesters() && self.requesters.iter().any(|requester| is_same_person(requester, by))
    }

    /// Whether a vote is one of the approvers'.
    fn is_an_approvers(&self, cast: &CastVote) -> bool {
        let approvers = &self.terms.approvers;
        let human = cast.by.kind == PrincipalKind::Human;
        approvers.includes(&cast.by, &cast.groups)
            || (human && cast.named.as_ref().is_some_and(|named| approvers.users.contains(named)))
    }

    /// The different people whose approvals of this revision count.
    pub fn approved_by(&self) -> Vec<&Principal> {
        let mut people: Vec<&Principal> = Vec::new();
        for cast in &self.votes {
            let approves = matches!(cast.vote, Vote::Approve { .. });
            let counts = approves && self.is_an_approvers(cast) && !self.is_barred_requester(&cast.by);
            if counts && !people.iter().any(|person| is_same_person(person, &cast.by)) {
                people.push(&cast.by);
            }
        }
        people
    }

    fn valid_denial(&self) -> Option<(&Principal, &str)> {
        self.votes.iter().find_map(|cast| match &cast.vote {
            Vote::Deny { reason } if self.is_an_approvers(cast) => Some((&cast.by, reason.as_str())),
            Vote::Deny { .. } | Vote::Approve { .. } | Vote::Edit { .. } => None,
        })
    }

    pub fn denied_by(&self) -> Option<&Principal> {
        self.valid_denial().map(|(by, _)| by)
    }

    /// The reason that came with the denial, if there is one.
    pub fn denial(&self) -> Option<String> {
        self.valid_denial().map(|(_, reason)| reason.to_owned())
    }

    /// Whether enough allowed people approved this very revision, and nobody denied it.
    pub fn is_carried(&self) -> bool {
        let needed = self.terms.approvers.quorum.max(1) as usize;
        self.approved_by().len() >= needed && self.denied_by().is_none()
    }
}

/// What the value of `args` was before an edit: name, old and new value of those that differ, as
/// [`super::visible::inline`] has them, for cards.
pub fn changed_args(old: &Value, new: &Value) -> Vec<(String, String, String)> {
    let show = |v: Option<&Value>| v.map_or_else(|| "(left out)".to_owned(), super::visible::inline);
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return vec![("arguments".to_owned(), show(Some(old)), show(Some(new)))];
    };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|k| old.get(*k) != new.get(*k))
        .map(|k| (k.clone(), show(old.get(k)), show(new.get(k))))
        .collect()
}
