//! Who is behind the identities of a decision: what only a surface can say, asked right before.
//!
//! With `approvals.match_verified_mail`, a mail address that a surface vouches for finds the person of the directory.
//! The core decides with what is handed to it here; if a surface does not answer, nothing is handed over, and the core
//! stays closed where people have to be different.

use super::Runtime;
use crate::agent::*;

/// Identities of one decision that surfaces are asked about. Each is a question to a platform.
const MAX_ASKED: usize = 20;

impl Runtime {
    /// The directory, with what surfaces say now of who is behind the identities that a decision of `by` would be held
    /// against: for pages that offer one.
    pub async fn people_for(&self, thread: &Thread, approval: ApprovalId, by: &Principal) -> People {
        self.0.parts.people.with(&self.known_people(thread, approval, by).await)
    }

    /// A decision, with what surfaces say of who is behind the identities that it is held against.
    pub(super) async fn with_known_people(&self, thread: ShortId, input: Input) -> Input {
        if !self.0.parts.people.matches_mail() || !is_a_decision(&input) {
            return input;
        }
        // A thread that cannot be read is reported by the delivery itself.
        let Ok(thread) = self.thread(thread).await else { return input };
        let people = self.found(held_against(&thread, &input)).await;
        if people.is_empty() { input } else { Input::Known { people, input: Box::new(input) } }
    }

    /// Those whom the directory does not list by the identity itself, with the person that a surface's word finds.
    async fn known_people(&self, thread: &Thread, approval: ApprovalId, by: &Principal) -> Vec<Principal> {
        if !self.0.parts.people.matches_mail() {
            return Vec::new();
        }
        self.found(of_request(thread, approval, by)).await
    }

    async fn found(&self, mut asked: Vec<Principal>) -> Vec<Principal> {
        let people = &self.0.parts.people;
        asked.retain(|who| who.kind == PrincipalKind::Human && people.person(who).is_none());
        asked.sort();
        asked.dedup();
        asked.truncate(MAX_ASKED);
        let mut known = Vec::new();
        for who in asked {
            let person = match self.0.parts.platforms.mail_of(&who).await {
                Ok(mail) => mail.and_then(|mail| people.by_mail(&mail).map(str::to_owned)),
                Err(error) => {
                    tracing::warn!(person.id = who.id, %error, "a surface does not say who a person is");
                    None
                }
            };
            known.push(Principal { person, ..who });
        }
        known
    }
}

/// Whether an input is weighed by who brings it.
fn is_a_decision(input: &Input) -> bool {
    match input {
        Input::Vote { .. } | Input::Answer { .. } | Input::Mark { .. } => true,
        Input::Once { input, .. } => is_a_decision(input),
        _ => false,
    }
}

/// The identities that a decision is held against, its own first.
fn held_against(thread: &Thread, input: &Input) -> Vec<Principal> {
    match input {
        Input::Vote { approval, by, .. } => of_request(thread, *approval, by),
        Input::Answer { question, by, .. } => match thread.questions.get(question).map(|asked| &asked.cause) {
            Some(QuestionCause::LooksSecret { doubt }) => {
                std::iter::once(by).chain(&doubt.requesters).cloned().collect()
            }
            _ => Vec::new(),
        },
        Input::Mark { by, .. } => vec![by.clone()],
        Input::Once { input, .. } => held_against(thread, input),
        _ => Vec::new(),
    }
}

fn of_request(thread: &Thread, approval: ApprovalId, by: &Principal) -> Vec<Principal> {
    let mut all = vec![by.clone()];
    if let Some(request) = thread.approvals.get(&approval) {
        all.extend(request.requesters.iter().cloned());
        all.extend(request.votes.iter().map(|cast| cast.by.clone()));
    }
    all
}
