//! Values that only look like secrets: people are asked, and what they say holds for exactly that value.
//!
//! A call, a change of one or a plan that holds such a value is not made. The value is kept nowhere: the question
//! names the argument and the pattern, and carries the value's keyed hash. "Not a secret" lets the value pass in this
//! thread from then on; the model is asked to make the call again, and the card of that call shows the whole value.
//!
//! What people say holds for one thread, not for the installation: whoever decides knows this conversation and this
//! call, and a value that is harmless here (a made-up password in a test) may be a real one elsewhere. It is part of
//! the log, so it survives restarts and replays; a fork asks again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ballot::as_approver;
use super::event::AnswerKind;
use super::id::{Digest, Principal, PrincipalKind};
use super::input::STOP;
use super::people::{People, Sameness};
use super::policy::Terms;
use super::refusal::Refusal;
use super::secret::{Look, Suspect};

/// The answer that lets the value pass.
pub const NOT_A_SECRET: &str = "Not a secret";
/// The answer that does not.
pub const A_SECRET: &str = "It is a secret";

/// Values whose nature people have settled in one thread, of each kind. Further ones are asked about each time.
const MAX_SETTLED: usize = 1_000;

/// Where the value stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Where {
    /// In the arguments of a call.
    Call,
    /// In a person's change of a request.
    Edit,
    /// In what a tool said that a call would do.
    Plan,
}

/// A question whether values are secrets, with everything that the answer rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    pub tool: String,
    pub place: Where,
    pub suspects: Vec<Suspect>,
    /// Who may say that they are not: those who could decide the call itself.
    pub terms: Terms,
    /// Who asked for the call.
    pub requesters: Vec<Principal>,
}

impl Doubt {
    pub(super) fn new(tool: &str, place: Where, suspects: Vec<Suspect>, terms: Terms) -> Self {
        Self { tool: tool.to_owned(), place, suspects, terms, requesters: Vec::new() }
    }

    pub(super) fn answers() -> AnswerKind {
        AnswerKind::Choice { choices: vec![NOT_A_SECRET.to_owned(), A_SECRET.to_owned(), STOP.to_owned()] }
    }

    fn describe(&self) -> String {
        Look::at(self.suspects.clone()).describe()
    }

    /// The question as people read it.
    pub(super) fn question(&self) -> String {
        let Self { tool, place, .. } = self;
        let values = self.describe();
        let (looks, it, passes) = match self.suspects.len() {
            0 | 1 => ("looks like a secret", "it is not one", "exactly this value then passes"),
            _ => ("look like secrets", "none of them is one", "exactly these values then pass"),
        };
        let (what, then) = match place {
            Where::Call => (
                format!("In a call of `{tool}`, {values} {looks}. The call was not made."),
                "The agent makes the call again, and its card shows the whole value before anything runs.",
            ),
            Where::Plan => (
                format!("In what `{tool}` would do, {values} {looks}. The call was not made."),
                "The agent makes the call again, and its card shows the whole plan before anything runs.",
            ),
            Where::Edit => (
                format!("In a change of a request for `{tool}`, {values} {looks}. Nothing was changed."),
                "Make the change again; the card then shows the whole value.",
            ),
        };
        format!(
            "{what} The value was not kept, so it can't be shown here. If {it}, press \"{NOT_A_SECRET}\": {passes} in this \
             conversation. {then} Who may say so: {}.",
            self.terms.approvers.describe()
        )
    }

    /// Whether a person may say that these are no secrets, and as which other identity of theirs.
    ///
    /// # Errors
    /// What the person is told.
    pub fn clears(&self, by: &Principal, groups: &[String], people: &People) -> Result<Option<String>, Refusal> {
        if by.kind != PrincipalKind::Human {
            return Err(Refusal::NotAPerson);
        }
        let waits_for = || self.terms.approvers.describe();
        let named = as_approver(&self.terms, by, groups, people)
            .ok_or_else(|| Refusal::NotAnApprover { waits_for: waits_for() })?;
        if self.terms.approvers.requester_may != Some(true) {
            for requester in &self.requesters {
                match people.compare(requester, by) {
                    Sameness::Different => {}
                    Sameness::Same => return Err(Refusal::Requester { waits_for: waits_for(), wrote: None }),
                    Sameness::Unknown => return Err(Refusal::unsure(by, requester, "asked for it")),
                }
            }
        }
        Ok(named)
    }

    /// Whether the log says that an approver said so: the fold opens nothing for anybody else.
    pub(super) fn is_cleared(&self, by: &Principal, groups: &[String], named: Option<&String>) -> bool {
        let approvers = &self.terms.approvers;
        let other_name = named.is_some_and(|named| approvers.users.contains(named));
        by.kind == PrincipalKind::Human && (approvers.includes(by, groups) || other_name)
    }

    /// What the model is told of the answer.
    pub(super) fn told(&self, not_secret: bool) -> String {
        let (tool, values) = (&self.tool, self.describe());
        match (not_secret, self.place) {
            (true, Where::Call | Where::Plan) => {
                format!(
                    "A person says that this is not a secret: {values}. Make the call of {tool} again, with the same arguments."
                )
            }
            (true, Where::Edit) => {
                format!(
                    "A person says that a value in their change of a request for {tool} is not a secret. They change it themselves."
                )
            }
            (false, Where::Call | Where::Plan) => format!(
                "A person says that this is a secret: {values}. Do not make the call of {tool} with it. Leave it out, or ask how the \
                 tool can get it without you."
            ),
            (false, Where::Edit) => format!(
                "A person says that a value in a change of a request for {tool} is a secret. Nothing was changed."
            ),
        }
    }
}

/// What people have said of values in one thread, by their keyed hashes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settled {
    pub passes: BTreeSet<Digest>,
    pub secrets: BTreeSet<Digest>,
}

impl Settled {
    pub(super) fn note(&mut self, suspects: &[Suspect], not_secret: bool) {
        for Suspect { hash, .. } in suspects {
            let (to, from) = match not_secret {
                true => (&mut self.passes, &mut self.secrets),
                false => (&mut self.secrets, &mut self.passes),
            };
            from.remove(hash);
            if to.len() < MAX_SETTLED {
                to.insert(*hash);
            }
        }
    }

    /// Whether people have said of one of these that it is a secret, since somebody last wrote.
    pub(super) fn knows_secret(&self, look: &Look) -> bool {
        look.suspects.iter().any(|suspect| self.secrets.contains(&suspect.hash))
    }
}
