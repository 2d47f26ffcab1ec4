//! Platforms: the surfaces that answers, cards and questions are written to.
//!
//! This module owns the translation outwards: [`outbound`] turns a folded thread and a
//! [`Posting`] into data with words, and each platform puts that into its own form. It is pure; the
//! runtime performs the posting and records where it went. A thread whose surface is read instead of
//! written (REST, web) has no postings: its log is what people look at.
//!
//! Platforms are a closed set, so [`Platforms`] is a struct of options, not a trait.

pub mod console;
pub mod form;
pub mod reach;
pub mod replies;
pub mod slack;
pub mod words;

use crate::agent::{
    AnswerKind, Approval, ApprovalId, ApprovalState, Attached, Because, Body, CallId, Ending, Event, Gathered, Posting,
    Principal, Question, QuestionId, ShortId, Thread, ThreadId, Verdict, changed_args,
};

/// Something for people to see, in words but in no platform's form.
#[derive(Clone, Debug, PartialEq)]
pub enum Outbound {
    Answer {
        agent: String,
        text: String,
    },
    /// An approval in its present state.
    Card(Box<Card>),
    Question {
        id: QuestionId,
        question: Question,
    },
    /// A question that is no longer open.
    QuestionClosed {
        id: QuestionId,
    },
    /// A call whose outcome is unknown: a person has to mark it.
    Unknown {
        call: CallId,
        title: String,
        waits_for: String,
    },
    Notice {
        text: String,
    },
}

/// Everything that a card shows. A platform may fold long parts away, but then it must not offer
/// Approve beside them.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    pub approval: Approval,
    pub agent: String,
    pub tool: String,
    pub editable: bool,
    /// The agent's own words about the call.
    pub why: String,
    /// The texts from outside that the agent had read when it made the call; they may have talked it into it.
    pub after_reading: Option<String>,
    pub state: CardState,
}

/// What a card says of itself.
#[derive(Clone, Debug, PartialEq)]
pub enum CardState {
    /// `approved` of `needed` votes are in, by these people.
    Pending {
        approved: Vec<Principal>,
        needed: u32,
    },
    Revising,
    Approved,
    Running,
    Succeeded(String),
    Failed(String),
    Unknown,
    Denied {
        by: String,
        reason: String,
    },
    Expired,
    Cancelled,
}

impl CardState {
    /// Where an approval is, as the thread stands.
    pub fn of(thread: &Thread, approval: &Approval) -> Self {
        let needed = approval.terms.approvers.quorum.max(1);
        let lost = thread.calls.get(&approval.call).is_some_and(|c| c.stage == crate::agent::Stage::Lost);
        match (&approval.state, &approval.result) {
            (ApprovalState::Pending, _) => {
                Self::Pending { approved: approval.approved_by().into_iter().cloned().collect(), needed }
            }
            (ApprovalState::Revising { .. }, _) => Self::Revising,
            (ApprovalState::Denied { reason, .. }, _) => Self::Denied {
                by: approval.denied_by().map_or_else(|| "a person".to_owned(), |p| p.label().to_owned()),
                reason: reason.clone(),
            },
            (ApprovalState::Expired { .. }, _) => Self::Expired,
            (ApprovalState::Cancelled, _) => Self::Cancelled,
            (ApprovalState::Approved { .. }, _) => Self::Approved,
            (ApprovalState::Used { .. }, Some((Ending::Succeeded, text))) => Self::Succeeded(text.clone()),
            (ApprovalState::Used { .. }, Some((_, text))) => Self::Failed(text.clone()),
            (ApprovalState::Used { .. }, None) if lost => Self::Unknown,
            (ApprovalState::Used { .. }, None) => Self::Running,
        }
    }

    /// The state in a word, for programs: it stays the same from version to version.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Revising => "revising",
            Self::Approved => "approved",
            Self::Running => "running",
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
            Self::Unknown => "unknown",
            Self::Denied { .. } => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Card {
    /// The card of an approval, as the thread stands.
    pub fn of(thread: &Thread, approval: &Approval) -> Self {
        let call = thread.calls.get(&approval.call);
        let facts = call.and_then(|c| c.gated.facts.as_ref());
        let why = thread.window.entries().find_map(|e| match &e.block {
            crate::agent::window::Block::ToolCall { call, why, .. } if *call == approval.call => Some(why.clone()),
            _ => None,
        });
        Self {
            approval: approval.clone(),
            agent: thread.agent.clone(),
            tool: call.map(|c| c.gated.tool.clone()).unwrap_or_default(),
            editable: facts.is_some_and(|f| f.editable),
            why: why.unwrap_or_default(),
            after_reading: after_reading(approval),
            state: CardState::of(thread, approval),
        }
    }

    /// `Approval needed: Deploy api v1.2.3 to production`. Like every sentence here it holds what others wrote, as
    /// they wrote it: each surface shows it by [`crate::agent::visible`].
    pub fn headline(&self) -> String {
        format!("{}: {}", self.stands(), self.approval.title)
    }

    /// `Approval needed`.
    pub fn stands(&self) -> &'static str {
        let approved = if self.approval.original_args.is_some() { "Approved with changes" } else { "Approved" };
        match &self.state {
            CardState::Pending { .. } => "Approval needed",
            CardState::Revising => "Being changed",
            CardState::Approved
            | CardState::Running
            | CardState::Succeeded(_)
            | CardState::Failed(_)
            | CardState::Unknown => approved,
            CardState::Denied { .. } => "Denied",
            CardState::Expired => "Expired",
            CardState::Cancelled => "Cancelled",
        }
    }

    /// The line about what became of it, if there is something to say.
    pub fn outcome(&self) -> Option<String> {
        let first = |text: &str| text.lines().next().unwrap_or("").chars().take(200).collect::<String>();
        match &self.state {
            CardState::Pending { approved, needed } if *needed > 1 => {
                let names: Vec<&str> = approved.iter().map(|p| p.label()).collect();
                let by = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
                Some(format!("{} of {needed} approved{by}", names.len()))
            }
            CardState::Pending { .. } | CardState::Approved => None,
            CardState::Revising => Some("a new revision is on its way".to_owned()),
            CardState::Running => Some("running…".to_owned()),
            CardState::Succeeded(text) => Some(format!("succeeded: {}", first(text))),
            CardState::Failed(text) => Some(format!("failed: {}", first(text))),
            CardState::Unknown => Some("result unknown: it was started, and nobody can tell how it ended".to_owned()),
            CardState::Denied { by, reason } if reason.is_empty() => Some(format!("denied by {by}")),
            CardState::Denied { by, reason } => Some(format!("denied by {by}: {reason}")),
            CardState::Expired => Some("nobody answered in time, which counts as a denial".to_owned()),
            CardState::Cancelled => Some("nothing will run".to_owned()),
        }
    }

    /// What asks now that the arguments were changed, if it is not what asked before.
    pub fn terms_note(&self) -> Option<String> {
        let (now, before) = (&self.approval.terms, self.approval.former_terms.as_ref()?);
        Some(if now.rule == before.rule {
            format!("under the terms that \"{}\" has now", now.rule)
        } else {
            format!("the rule \"{}\" asks now, before it was \"{}\"", now.rule, before.rule)
        })
    }

    /// Why there is a second or later revision.
    pub fn revision_note(&self) -> Option<String> {
        let changes = || {
            let old = self.approval.original_args.as_ref()?;
            let changed = changed_args(old, &self.approval.args);
            Some(changed.into_iter().map(|(k, a, b)| format!("{k}: {a} -> {b}")).collect::<Vec<_>>().join(", "))
        };
        match &self.approval.because {
            Because::Gated => None,
            Because::Edited { by } => {
                let terms = self.terms_note().map_or_else(String::new, |note| format!("; {note}"));
                Some(format!("changed by {by}: {}{terms}", changes().unwrap_or_default()))
            }
            Because::Stale { why } => Some(format!("asked again: {why}")),
            Because::Retried { by } => Some(format!("asked again: {by} wants it tried once more")),
        }
    }
}

/// `Fetch https://a.example; Fetch https://b.example`: the texts from outside that had been read when this was
/// asked for, for cards and lists. None if there were none.
pub fn after_reading(approval: &Approval) -> Option<String> {
    Some(approval.terms.untrusted.describe()).filter(|texts| !texts.is_empty())
}

/// What a posting shows, given the thread and, for answers and notices, the event that it is about.
/// `None` if there is nothing to show any more.
pub fn outbound(thread: &Thread, posting: &Posting, event: Option<&Event>) -> Option<Outbound> {
    match posting {
        Posting::Card { approval } => {
            thread.approvals.get(approval).map(|a| Outbound::Card(Box::new(Card::of(thread, a))))
        }
        Posting::Question { question } => Some(match thread.questions.get(question) {
            Some(open) => Outbound::Question { id: *question, question: open.clone() },
            None => Outbound::QuestionClosed { id: *question },
        }),
        Posting::Unknown { call } => thread.calls.get(call).map(|c| Outbound::Unknown {
            call: *call,
            title: c.gated.title.clone(),
            waits_for: match &c.gated.verdict {
                Verdict::Ask { terms } => terms.approvers.describe(),
                Verdict::Auto { .. } | Verdict::Deny { .. } | Verdict::Invalid { .. } | Verdict::Held { .. } => {
                    "anyone here".to_owned()
                }
            },
        }),
        Posting::Answer { .. } | Posting::Notice { .. } => {
            let event = event?;
            notice(thread, event)
        }
    }
}

/// What people are told of a message from which values were taken out.
pub fn masked_words(masked: u32) -> String {
    let what = if masked == 1 { "Something" } else { "Some things" };
    format!(
        "{what} in this message looked like a secret and was taken out: neither the agent nor the log has it. If it is a \
         secret, change it where it is used, since it was written here. If not, say it in other words."
    )
}

/// The words for an event that people are told of.
fn notice(thread: &Thread, event: &Event) -> Option<Outbound> {
    let with = |text: String, why: &str| Outbound::Notice {
        text: if why.is_empty() { text } else { format!("{text}: {why}") },
    };
    match &event.body {
        // Only a text that is an answer is shown as one.
        Body::ModelReplied { step: crate::agent::NextStep::Done { text }, correction, .. } if correction.is_empty() => {
            Some(Outbound::Answer { agent: thread.agent.clone(), text: text.clone() })
        }
        Body::ModelFailed { ceiling: Some(_), retry_at: Some(_), .. } => Some(Outbound::Notice {
            text: "The conversation is too long for the model; asking again with less of it.".to_owned(),
        }),
        Body::ModelFailed { message, attempt, retry_at: Some(at), .. } => {
            let wait = crate::agent::span::show(at.ms_since(event.at));
            Some(Outbound::Notice {
                text: format!(
                    "The model did not answer ({message}); attempt {attempt}, trying again in {wait}. Your request is kept."
                ),
            })
        }
        // The question that follows says it.
        Body::ModelFailed { retry_at: None, .. } => None,
        Body::MessageReceived { masked, .. } if *masked > 0 => Some(Outbound::Notice { text: masked_words(*masked) }),
        Body::Paused { by, why } => Some(with(format!("Paused by {by}"), why)),
        Body::Resumed { by } => Some(with(format!("Resumed by {by}"), "")),
        Body::Stopped { by, why } => Some(with(format!("Stopped by {by}; nothing more will run"), why)),
        Body::Cancelled { by, why } => Some(with(format!("Cancelled by {by}; this thread is closed"), why)),
        _ => None,
    }
}

/// How a question wants to be answered, for people.
pub fn how_to_answer(answer: &AnswerKind) -> String {
    match answer {
        AnswerKind::Text => "answer in your own words".to_owned(),
        AnswerKind::YesNo => "yes or no".to_owned(),
        AnswerKind::Choice { choices } => {
            choices.iter().enumerate().map(|(i, c)| format!("{}) {c}", i + 1)).collect::<Vec<_>>().join("  ")
        }
    }
}

/// Words in no surface's form, with what can be done about them. Plain text, in which a part between back-ticks is
/// to be typed; surfaces escape it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// One line above the rows; may be all there is.
    pub title: String,
    pub rows: Vec<Row>,
    /// Below the rows.
    pub hint: String,
}

impl Listing {
    /// A line.
    pub fn line(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub text: String,
    /// In smaller print.
    pub detail: String,
    /// Ids of the people who asked for it.
    pub requesters: Vec<String>,
    /// Ids of the people and groups who decide, as [`crate::agent::Approvers`] has them, groups with `@` before: a
    /// surface shows its own as names.
    pub deciders: Vec<String>,
    pub link: Option<String>,
    /// The approval that the row is about, where people can be offered to look at it, and the digits of its digest
    /// that a button carries.
    pub approval: Option<(ApprovalId, String)>,
}

/// Why a platform did not take a posting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PostError {
    pub message: String,
    /// Whether it can be expected to work later.
    pub transient: bool,
    pub retry_after_ms: Option<u64>,
}

impl PostError {
    /// It will never work like this.
    pub fn lasting(message: impl Into<String>) -> Self {
        Self { message: message.into(), transient: false, retry_after_ms: None }
    }
}

/// One posting on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Post {
    pub thread: ThreadId,
    pub outbound: Outbound,
    /// Where it stands already: edit it there instead of posting it again.
    pub replaces: Option<String>,
    /// What is posted: with the thread, the same over all attempts.
    pub posting: Posting,
    /// This attempt.
    pub key: crate::agent::EffectId,
    /// Whether it may stand already without anybody having noted where (an attempt that timed out, a crash):
    /// look for it first.
    pub again: bool,
    /// For a card, where the surface shows all calls of one reply in one message: the cards of that reply, in
    /// order, this one among them. Empty for a call that was made alone.
    pub step: Vec<Card>,
    /// Those who asked for it: told in private if the place refuses it.
    pub people: Vec<Principal>,
}

/// The cards of the calls that were made in the same reply as this one and are put before people in the same
/// place, if there are several.
pub fn step(thread: &Thread, posting: &Posting) -> Vec<Card> {
    let Posting::Card { approval } = posting else { return Vec::new() };
    let Some(this) = thread.approvals.get(approval) else { return Vec::new() };
    let together = |a: &&Approval| a.call.seq == this.call.seq && a.terms.route == this.terms.route;
    let mut same: Vec<&Approval> = thread.approvals.values().map(Box::as_ref).filter(together).collect();
    same.sort_by_key(|a| a.call);
    if same.len() < 2 { Vec::new() } else { same.into_iter().map(|a| Card::of(thread, a)).collect() }
}

/// Where the cards of the same reply stand that are put before people in other places than this one.
pub fn of_other_places(thread: &Thread, posting: &Posting) -> Vec<String> {
    let Posting::Card { approval } = posting else { return Vec::new() };
    let Some(this) = thread.approvals.get(approval) else { return Vec::new() };
    let elsewhere = |a: &&Approval| a.call.seq == this.call.seq && a.terms.route != this.terms.route && a.is_live();
    let elsewhere = thread.approvals.values().map(Box::as_ref).filter(elsewhere);
    let posts = elsewhere.filter_map(|a| thread.posts.get(&Posting::Card { approval: a.id }));
    let references = posts.filter_map(|post| post.reference.as_deref());
    references.flat_map(|all| all.split_whitespace().map(str::to_owned)).collect()
}

/// References without those that are another's.
pub fn without(references: &str, theirs: &[String]) -> String {
    let own: Vec<&str> = references.split_whitespace().filter(|one| !theirs.iter().any(|other| other == one)).collect();
    own.join(" ")
}

/// Where the cards of one reply stand: the references of all of them, each once, the first first.
pub fn together(references: impl Iterator<Item = String>) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    for reference in references {
        for one in reference.split_whitespace() {
            if !all.iter().any(|known| known == one) {
                all.push(one.to_owned());
            }
        }
    }
    (!all.is_empty()).then(|| all.join(" "))
}

/// Those who asked for what is posted.
pub fn people(thread: &Thread, posting: &Posting) -> Vec<Principal> {
    if let Posting::Card { approval } = posting
        && let Some(approval) = thread.approvals.get(approval)
    {
        return approval.requesters.clone();
    }
    match &thread.run {
        Some(run) => thread.heard.since(run.started).cloned().collect(),
        None => vec![thread.started_by.clone()],
    }
}

/// The platforms that are connected.
#[derive(Clone, Default)]
pub struct Platforms {
    pub console: Option<console::Console>,
    pub slack: Option<slack::Slack>,
}

impl Platforms {
    /// Whether threads of this surface are written to.
    pub fn pushes(&self, surface: &str) -> bool {
        match surface {
            console::SURFACE => self.console.is_some(),
            slack::SURFACE => self.slack.is_some(),
            _ => false,
        }
    }

    /// Whether what this thread asks of its surface waits for a process that is connected to it: this one is not (a
    /// command beside a stopped service). `system:<surface>:…` belongs to that surface. Nobody comes back to a
    /// terminal that is gone, so nothing waits for one.
    pub fn waits_for_surface(&self, thread: &ThreadId) -> bool {
        let mut parts = thread.as_str().split(':');
        let surface = if thread.is_system() { parts.nth(1) } else { parts.next() };
        surface == Some(slack::SURFACE) && self.slack.is_none()
    }

    /// Waits, for a bounded time, until the surface of this thread is connected, if it is about to be.
    pub async fn ready(&self, thread: &ThreadId) {
        let mut parts = thread.as_str().split(':');
        let surface = if thread.is_system() { parts.nth(1) } else { parts.next() };
        if let (Some(slack::SURFACE), Some(slack), Some(team)) = (surface, &self.slack, parts.next()) {
            slack.ready(team).await;
        }
    }

    /// Whether a surface shows the calls of one reply in one card.
    pub fn batches(&self, surface: &str) -> bool {
        surface == slack::SURFACE
    }

    /// What is attached to a message of this thread, or why it cannot be read.
    pub async fn gather(&self, thread: &ThreadId, attached: &Attached) -> Vec<Gathered> {
        match (attached, thread.surface(), &self.slack) {
            (Attached::Quoted { label, text, by }, _, _) => {
                vec![Gathered { label: label.clone(), text: Ok(text.clone()), by: by.iter().cloned().collect() }]
            }
            (_, slack::SURFACE, Some(slack)) => slack.gather(thread, attached).await,
            (Attached::Earlier { .. }, ..) => {
                vec![Gathered::of_no_one("earlier messages", Err(not_connected(thread.surface())))]
            }
            (Attached::File { name, .. }, ..) => {
                vec![Gathered::of_no_one(format!("the file {name}"), Err(not_connected(thread.surface())))]
            }
        }
    }

    /// The mail address by which a surface vouches for somebody, if it knows one.
    ///
    /// # Errors
    /// Why the surface did not say.
    pub async fn mail_of(&self, who: &Principal) -> Result<Option<String>, PostError> {
        let mut parts = who.id.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next(), &self.slack) {
            (Some(slack::SURFACE), Some(team), Some(user), Some(slack)) => Ok(slack.mail_of(team, user).await?),
            _ => Ok(None),
        }
    }

    /// Which of these groups the person is in, as of now. What the groups of another surface say is nobody's
    /// business here: they are left out.
    ///
    /// # Errors
    /// Why it could not be found out, for people, and whether it may be soon. Nobody is let through then.
    pub async fn groups(&self, person: &Principal, groups: &[String]) -> Result<Vec<String>, PostError> {
        match (person.surface(), &self.slack) {
            (slack::SURFACE, Some(slack)) => slack.groups(person, groups).await,
            _ => Ok(Vec::new()),
        }
    }

    /// The same for what is only shown: it may be a minute old.
    ///
    /// # Errors
    /// As above.
    pub async fn groups_shown(&self, person: &Principal, groups: &[String]) -> Result<Vec<String>, PostError> {
        match (person.surface(), &self.slack) {
            (slack::SURFACE, Some(slack)) => slack.groups_shown(person, groups).await,
            _ => Ok(Vec::new()),
        }
    }

    /// Posts the first message of a new conversation, once for each `key`; returns the thread that it is.
    pub async fn open(&self, key: ShortId, place: &str, by: &Principal, text: &str) -> Result<ThreadId, PostError> {
        match (by.surface(), &self.slack) {
            (slack::SURFACE, Some(slack)) => slack.open(key, place, by, text).await,
            (surface, _) => Err(PostError::lasting(not_connected(surface))),
        }
    }

    /// The thread that a message of ours belongs to.
    pub async fn thread_of(&self, by: &Principal, place: &str) -> Result<Option<ThreadId>, PostError> {
        match (by.surface(), &self.slack) {
            (slack::SURFACE, Some(slack)) => slack.thread_of(place).await,
            (surface, _) => Err(PostError::lasting(not_connected(surface))),
        }
    }

    /// Tells somebody in private what came of the intent `key`. Best effort: what cannot be told is logged.
    pub async fn reply(&self, key: ShortId, reply: &str, text: &str) {
        if let (Some((slack::SURFACE, _)), Some(slack)) = (reply.split_once(':'), &self.slack) {
            slack.reply(key, reply, text).await;
        }
    }

    /// A link to a conversation, or to what was posted in it at `reference`, for people who use its surface.
    pub fn link(&self, thread: &ThreadId, reference: Option<&str>) -> Option<String> {
        match (thread.surface(), &self.slack) {
            (slack::SURFACE, Some(slack)) => slack.link(thread, reference),
            _ => None,
        }
    }

    /// Whether people have had all of a request before them: its card stands in its surface, alone, and whole.
    pub fn showed_whole(&self, thread: &Thread, approval: &Approval) -> bool {
        let posting = Posting::Card { approval: approval.id };
        let stands = thread.posts.get(&posting).is_some_and(|post| post.reference.is_some());
        match (thread.id.surface(), &self.slack) {
            (slack::SURFACE, Some(slack)) if stands && step(thread, &posting).is_empty() => {
                let team = thread.id.as_str().split(':').nth(1).unwrap_or("");
                // The longest that a block's id can become.
                let look = slack::blocks::Look { team, public_url: &slack.settings().public_url, counter: u64::MAX };
                slack::blocks::is_whole(&Card::of(thread, approval), &look)
            }
            _ => false,
        }
    }

    /// What is wrong with the connections, one sentence each; empty if all is well.
    pub fn problems(&self) -> Vec<String> {
        self.slack.as_ref().map(slack::Slack::problems).unwrap_or_default()
    }

    /// Puts a posting where people see it; returns where it is.
    pub async fn post(&self, post: Post) -> Result<String, PostError> {
        match (post.thread.surface(), &self.console, &self.slack) {
            (console::SURFACE, Some(console), _) => console.post(post).await,
            (slack::SURFACE, _, Some(slack)) => slack.post(post).await,
            // Nobody is at that terminal now. The approval stays decidable elsewhere; the next process
            // at the terminal shows what is open.
            (surface, ..) => Err(PostError::lasting(not_connected(surface))),
        }
    }
}

fn not_connected(surface: &str) -> String {
    format!("nothing is connected for `{surface}` threads")
}
