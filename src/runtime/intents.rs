//! Carrying out intents: what somebody did in a chat surface becomes an input of the thread that it is about.
//!
//! It is done again after a crash, so each step is one that may be done twice: the input carries the intent's
//! own id as its source, and the first message of a new thread is looked for before it is posted. Whoever
//! acted is told what came of it, also when nothing did, and the telling is in the log.
//!
//! Who somebody is was verified by the transport and stands in the intent; which groups they are in is asked
//! here, at this moment, and an answer that cannot be had lets nobody through. Nothing crosses teams: what
//! belongs to another team gets the same words as what never was.
//!
//! A trouble that may pass (a store or a platform that does not answer) is no outcome: the intent stays
//! outstanding. It is tried again a few times at once, then by whoever finds it when the lease is over, and
//! given up, with words, after an hour. Who is in a group or a channel is asked again only a few times: then the
//! person is told that it could not be found out, and presses again.
//!
//! `*` among approvers is everybody who can see the request (`platform::reach`): who acts in the conversation itself,
//! which the transport vouches for with `Intent::reply`, who takes part in it, or is a member of its channel now.

use std::sync::Arc;
use std::time::Duration;

use super::{DeliverError, Delivered, Runtime, Said, Slot, crash};
use crate::agent::*;
use crate::platform::reach::{self, Standing, Team};
use crate::platform::{Platforms, PostError, replies};
use crate::store::StoreError;
use crate::tools::Boxed;

/// Intents that are carried out at one time. They have places of their own, so that no click waits for a model.
pub(super) const MAX_HANDLED_AT_ONCE: usize = 32;
/// Waits between the attempts that follow each other at once.
const WAITS: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];
/// Longest wait of them, if a platform asks for one.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How long an intent is tried while a trouble lasts, in milliseconds.
const GIVE_UP_MS: u64 = 60 * 60 * 1_000;

/// What the runtime asks of the surfaces besides posting: see the methods of [`Platforms`] for each.
pub trait Surfaces: Send + Sync {
    fn waits_for_surface(&self, thread: &ThreadId) -> bool;
    fn gather<'a>(&'a self, thread: &'a ThreadId, attached: &'a Attached) -> Boxed<'a, Vec<Gathered>>;
    fn groups<'a>(&'a self, person: &'a Principal, groups: &'a [String]) -> Boxed<'a, Result<Vec<String>, PostError>>;
    fn open<'a>(
        &'a self,
        key: ShortId,
        place: &'a str,
        by: &'a Principal,
        text: &'a str,
    ) -> Boxed<'a, Result<ThreadId, PostError>>;
    fn thread_of<'a>(&'a self, by: &'a Principal, place: &'a str) -> Boxed<'a, Result<Option<ThreadId>, PostError>>;
    fn reply<'a>(&'a self, key: ShortId, reply: &'a str, text: &'a str) -> Boxed<'a, ()>;
}

impl Surfaces for Platforms {
    fn waits_for_surface(&self, thread: &ThreadId) -> bool {
        Platforms::waits_for_surface(self, thread)
    }
    fn gather<'a>(&'a self, thread: &'a ThreadId, attached: &'a Attached) -> Boxed<'a, Vec<Gathered>> {
        Box::pin(Platforms::gather(self, thread, attached))
    }
    fn groups<'a>(&'a self, person: &'a Principal, groups: &'a [String]) -> Boxed<'a, Result<Vec<String>, PostError>> {
        Box::pin(Platforms::groups(self, person, groups))
    }
    fn open<'a>(
        &'a self,
        key: ShortId,
        place: &'a str,
        by: &'a Principal,
        text: &'a str,
    ) -> Boxed<'a, Result<ThreadId, PostError>> {
        Box::pin(Platforms::open(self, key, place, by, text))
    }
    fn thread_of<'a>(&'a self, by: &'a Principal, place: &'a str) -> Boxed<'a, Result<Option<ThreadId>, PostError>> {
        Box::pin(Platforms::thread_of(self, by, place))
    }
    fn reply<'a>(&'a self, key: ShortId, reply: &'a str, text: &'a str) -> Boxed<'a, ()> {
        Box::pin(Platforms::reply(self, key, reply, text))
    }
}

/// What came of it, and what the person is told.
struct Told {
    done: bool,
    said: String,
}

impl Told {
    fn yes(said: String) -> Self {
        Self { done: true, said }
    }
    fn no(said: String) -> Self {
        Self { done: false, said }
    }
    fn unknown(what: &str) -> Self {
        Self::no(replies::unknown(what))
    }
}

/// Why there is no outcome yet.
struct Later {
    why: String,
    /// At least so long before the next attempt.
    wait: Duration,
    /// The outcome if it is the same after the attempts that follow at once; `None`: it stays outstanding.
    at_last: Option<Told>,
}

impl Later {
    fn new(why: String) -> Self {
        Self { why, wait: Duration::ZERO, at_last: None }
    }
}

/// An outcome that is reached early, or a trouble that may pass.
enum Stop {
    Told(Told),
    Later(Later),
}

impl From<Told> for Stop {
    fn from(told: Told) -> Self {
        Self::Told(told)
    }
}

type Step<T> = Result<T, Stop>;

/// Where an intent comes from: `system:<surface>:<team>:<key>`.
struct Origin<'a> {
    log: &'a ThreadId,
    team: Team<'a>,
}

impl<'a> Origin<'a> {
    fn of(log: &'a ThreadId) -> Option<Self> {
        let mut parts = log.as_str().splitn(4, ':');
        let (system, surface, team, key) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let whole = system == SYSTEM && !surface.is_empty() && !team.is_empty() && !key.is_empty();
        whole.then_some(Self { log, team: Team { surface, team } })
    }

    fn owns(&self, name: &str) -> bool {
        self.team.owns(name)
    }
}

/// Somebody who acts.
struct Actor<'a> {
    by: &'a Principal,
    origin: Origin<'a>,
    /// Where they are told what came of it, which is where they acted.
    at: &'a str,
    people: &'a People,
}

impl Actor<'_> {
    /// The name under which an input that comes of this is delivered.
    fn source(&self) -> String {
        self.origin.log.as_str().to_owned()
    }

    /// Whether they can see the request without anybody having to be asked.
    fn is_within(&self, thread: &Thread, route: &Route) -> bool {
        reach::is_within(self.by, thread, &route.channel, self.at, self.people)
    }

    /// Whether they are an approver by their own name, or one of all in the conversation that they are in.
    fn is_named(&self, thread: &Thread, terms: &Terms) -> bool {
        let all = || reach::is_open_to_all(&terms.approvers) && self.is_within(thread, &terms.route);
        reach::is_named(self.by, &terms.approvers, &[], self.people) || all()
    }
}

impl Runtime {
    /// `None`: there is no outcome yet, and nothing is to be done at once.
    pub(super) async fn handle(&self, slot: &Arc<Slot>, id: EffectId) -> Option<Input> {
        let (log, intent, since) =
            self.look(slot, id, |t| t.intent.clone().map(|i| (t.id.clone(), i, t.created_at))).await.flatten()?;
        self.connected(&log).await?;
        crash::point("intent.before_act");
        let mut waits = WAITS.iter();
        let told = loop {
            match self.carry_out(&log, &intent).await {
                Ok(told) => break told,
                Err(Later { why, .. }) if self.now().ms_since(since) > GIVE_UP_MS => {
                    break Told::no(replies::given_up(&why));
                }
                Err(later) => {
                    tracing::warn!(thread.id = %slot.short, why = later.why, "an intent cannot be carried out now");
                    let Some(wait) = waits.next() else { break later.at_last? };
                    tokio::select! {
                        () = tokio::time::sleep(later.wait.min(MAX_WAIT).max(*wait)) => {}
                        () = self.0.stop.cancelled() => return None,
                    }
                }
            }
        };
        crash::point("intent.after_act");
        self.0.surfaces.reply(slot.short, &intent.reply, &told.said).await;
        crash::point("intent.after_reply");
        Some(Input::Handled { effect: id, done: told.done, said: told.said })
    }

    async fn carry_out(&self, log: &ThreadId, intent: &Intent) -> Result<Told, Later> {
        let Some(origin) = Origin::of(log) else { return Ok(Told::unknown("request")) };
        // Somebody of another team who can see this team's messages.
        if intent.by.kind != PrincipalKind::Human || !origin.owns(&intent.by.id) {
            return Ok(Told::unknown("request"));
        }
        let at = if origin.owns(&intent.reply) { intent.reply.as_str() } else { "" };
        let actor = Actor { by: &intent.by, origin, at, people: &self.0.parts.people };
        let step = match &intent.act {
            Act::Vote { approval, digest, choice } => self.vote(&actor, *approval, digest, choice).await,
            Act::Answer { question, text } => self.answer(&actor, *question, text).await,
            Act::Mark { call, mark } => self.mark(&actor, *call, mark).await,
            Act::Say { thread, text } => self.say(&actor, *thread, text).await,
            Act::Start { agent, text, place, about } => self.start(&actor, agent, text, place, about.as_ref()).await,
            Act::Steer { what, target } => self.steer(&actor, *what, target).await,
        };
        match step {
            Ok(told) | Err(Stop::Told(told)) => Ok(told),
            Err(Stop::Later(later)) => Err(later),
        }
    }

    async fn vote(&self, actor: &Actor<'_>, id: ApprovalId, shown: &str, choice: &Choice) -> Step<Told> {
        let unknown = || Told::no(replies::refused(&Refusal::NoSuchApproval { id }));
        let (thread, _) = self.find(actor, id.thread).await?.ok_or_else(unknown)?;
        let request = thread.approvals.get(&id).ok_or_else(unknown)?;
        let terms = &request.terms;
        // What is decided already, or another revision, is said without asking who is in which group, but only to
        // those who can see it.
        let matters = request.is_open() && request.digest.to_string().starts_with(shown);
        let groups = if matters || !(actor.is_named(&thread, terms) || actor.is_within(&thread, &terms.route)) {
            self.groups(actor, &thread, terms).await?
        } else {
            Vec::new()
        };
        if groups.is_empty() && !self.may_know(actor, &thread, terms).await? {
            return Ok(unknown());
        }
        let vote = match choice {
            Choice::Approve { note } => Ballot::Approve { note: note.clone() },
            Choice::Deny { reason } => Ballot::Deny { reason: reason.clone() },
            Choice::Edit { args } => Ballot::Edit { args: Box::new(self.propose(&request.tool, args)) },
        };
        let title = match &vote {
            Ballot::Edit { args } => args.checked.as_ref().map_or_else(|_| String::new(), |c| c.title.clone()),
            Ballot::Approve { .. } | Ballot::Deny { .. } => request.title.clone(),
        };
        let (by, digest, source) = (actor.by.clone(), shown.to_owned(), Some(actor.source()));
        let input = Input::Vote { approval: id, digest, by, groups, vote, source };
        let answer = self.pass_on(actor, id.thread, input, "request").await?;
        if let Answer::Refused(refusal) = &answer {
            return Ok(Told::no(replies::refused(refusal)));
        }
        let (thread, _) = self.find(actor, id.thread).await?.ok_or_else(unknown)?;
        let Some(request) = thread.approvals.get(&id) else { return Ok(unknown()) };
        Ok(Told::yes(match answer {
            Answer::Accepted => replies::voted(choice, request, &title),
            // It was done before a crash: how it stands by now.
            _ => replies::stands(request, actor.by, actor.people),
        }))
    }

    async fn answer(&self, actor: &Actor<'_>, question: QuestionId, text: &str) -> Step<Told> {
        let unknown = || Told::unknown("question");
        let (thread, standing) = self.find(actor, question.thread).await?.ok_or_else(unknown)?;
        if !self.sees(actor, &thread, standing).await? {
            return Ok(unknown());
        }
        // Whether a value is a secret is the approvers' business.
        let groups = match thread.questions.get(&question).map(|asked| &asked.cause) {
            Some(QuestionCause::LooksSecret { doubt }) => self.groups(actor, &thread, &doubt.terms).await?,
            _ => Vec::new(),
        };
        let (by, text, source) = (actor.by.clone(), text.to_owned(), Some(actor.source()));
        let input = Input::Answer { question, by, groups, text: text.clone(), source };
        let answer = self.pass_on(actor, question.thread, input, "question").await?;
        Ok(outcome(answer, || replies::answered(&text)))
    }

    async fn mark(&self, actor: &Actor<'_>, call: CallId, mark: &Mark) -> Step<Told> {
        let unknown = || Told::unknown("call");
        let (thread, standing) = self.find(actor, call.thread).await?.ok_or_else(unknown)?;
        let groups = match thread.calls.get(&call).map(|c| &c.gated.verdict) {
            Some(Verdict::Ask { terms }) => {
                let groups = self.groups(actor, &thread, terms).await?;
                if groups.is_empty() && !self.may_know(actor, &thread, terms).await? {
                    return Ok(unknown());
                }
                groups
            }
            _ if !self.sees(actor, &thread, standing).await? => return Ok(unknown()),
            _ => Vec::new(),
        };
        let input = Input::Mark { call, by: actor.by.clone(), groups, mark: mark.clone() };
        let answer = self.pass_on(actor, call.thread, once(actor, input), "call").await?;
        Ok(outcome(answer, || replies::marked(mark)))
    }

    async fn say(&self, actor: &Actor<'_>, short: ShortId, text: &str) -> Step<Told> {
        let unknown = || Told::unknown("conversation");
        let (thread, standing) = self.find(actor, short).await?.ok_or_else(unknown)?;
        if !self.sees(actor, &thread, standing).await? {
            return Ok(unknown());
        }
        let said = Said { source: Some(actor.source()), ..Said::by(actor.by.clone(), text) };
        let delivered = self.message(&thread.id, &thread.agent, said).await;
        let answer = self.judge(actor, delivered, "conversation")?;
        Ok(outcome(answer, || replies::taken(&thread.agent)))
    }

    async fn start(
        &self,
        actor: &Actor<'_>,
        agent: &str,
        text: &str,
        place: &str,
        about: Option<&About>,
    ) -> Step<Told> {
        let parts = &self.0.parts;
        // What can be refused is refused before anything is posted.
        parts.agents.get(agent).map_err(|unknown| Told::no(unknown.to_string()))?;
        if text.trim().is_empty() {
            return Ok(Told::no(replies::refused(&Refusal::EmptyMessage)));
        }
        let limit = parts.settings.message_max_bytes;
        if text.len() > limit {
            return Ok(Told::no(replies::refused(&Refusal::TooLong { bytes: text.len(), limit })));
        }
        if !actor.origin.owns(place) {
            return Ok(Told::unknown("place"));
        }
        // A thread keeps the agent that it has.
        let has = match place.parse::<ThreadId>() {
            Ok(there) => self.agent_of(&there).await,
            Err(_) => None,
        };
        let opening = replies::opening(has.as_deref().unwrap_or(agent), text);
        let opened = self.0.surfaces.open(actor.origin.log.short(), place, actor.by, &opening).await;
        crash::point("intent.after_open");
        let thread = opened.map_err(post_trouble)?;
        if !actor.origin.owns(thread.as_str()) {
            tracing::error!(thread.id = %thread, "a conversation was opened in another team");
            return Ok(Told::no(replies::broken(actor.origin.log.short())));
        }
        let quoted = about.map(|about| Attached::Quoted {
            label: about.label.clone(),
            text: about.text.clone(),
            by: about.by.clone(),
        });
        let said = Said {
            source: Some(actor.source()),
            attached: quoted.into_iter().collect(),
            ..Said::by(actor.by.clone(), text)
        };
        let delivered = self.message(&thread, agent, said).await;
        let answer = self.judge(actor, delivered, "conversation")?;
        let has = self.agent_of(&thread).await;
        Ok(outcome(answer, || match has {
            Some(has) if has != agent => replies::started_by_another(agent, &has),
            _ => replies::started(agent),
        }))
    }

    /// The agent of a thread that exists.
    async fn agent_of(&self, thread: &ThreadId) -> Option<String> {
        self.thread(thread.short()).await.ok().map(|thread| thread.agent)
    }

    async fn steer(&self, actor: &Actor<'_>, what: Steer, target: &Target) -> Step<Told> {
        let unknown = || Told::unknown("run");
        let short = match target {
            Target::Thread { thread } => *thread,
            Target::Message { place } if !actor.origin.owns(place) => return Ok(unknown()),
            Target::Message { place } => {
                let found = self.0.surfaces.thread_of(actor.by, place).await.map_err(post_trouble)?;
                found.ok_or_else(unknown)?.short()
            }
        };
        let (thread, standing) = self.find(actor, short).await?.ok_or_else(unknown)?;
        if thread.knows_source(&actor.source()) {
            return Ok(Told::yes(replies::steered_before(what)));
        }
        // Slack does not say whose workspace somebody who reacts is of: `*` and groups may let guests in.
        let may = match target {
            Target::Thread { .. } => self.may_steer(actor, &thread, standing).await?,
            Target::Message { .. } => {
                let named = |request: &Approval| {
                    request.terms.approvers.users.iter().any(|user| actor.people.is_named(user, actor.by))
                };
                thread.run.is_none()
                    || reach::takes_part(actor.by, &thread, actor.people)
                    || thread.pending_approvals().any(named)
            }
        };
        if !may {
            return Ok(match standing {
                Standing::Here => Told::no(replies::not_yours(what)),
                Standing::Elsewhere | Standing::Foreign => unknown(),
            });
        }
        let by = actor.by.clone();
        let input = match what {
            Steer::Stop => Input::Stop { by, why: String::new() },
            Steer::Pause => Input::Pause { by, why: String::new() },
            Steer::Resume => Input::Resume { by },
        };
        let answer = self.pass_on(actor, short, once(actor, input), "run").await?;
        Ok(outcome(answer, || replies::steered(what, &thread)))
    }

    /// Whether they take part in what runs there, or decide what it waits for.
    async fn may_steer(&self, actor: &Actor<'_>, thread: &Thread, standing: Standing) -> Step<bool> {
        // Where nothing runs there is nothing to protect, but its existence.
        if reach::takes_part(actor.by, thread, actor.people) || (thread.run.is_none() && standing == Standing::Here) {
            return Ok(true);
        }
        for request in thread.pending_approvals() {
            let terms = &request.terms;
            if actor.is_named(thread, terms) || !self.groups(actor, thread, terms).await?.is_empty() {
                return Ok(true);
            }
            if reach::is_open_to_all(&terms.approvers) && self.is_member(actor, thread, &terms.route).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The groups of these approvers that the person is in, asked only if they are not let through anyway.
    async fn groups(&self, actor: &Actor<'_>, thread: &Thread, terms: &Terms) -> Step<Vec<String>> {
        let wanted = &terms.approvers.groups;
        if wanted.is_empty() || actor.is_named(thread, terms) {
            return Ok(Vec::new());
        }
        self.members(actor, wanted).await
    }

    /// Whether a request is there for them, who are in none of the groups of its approvers: as an approver, or because
    /// they can see the conversation. Who may decide is judged by the log; it takes `*` for everybody, so nobody else
    /// gets that far.
    async fn may_know(&self, actor: &Actor<'_>, thread: &Thread, terms: &Terms) -> Step<bool> {
        let known = actor.is_named(thread, terms) || actor.is_within(thread, &terms.route);
        Ok(known || self.is_member(actor, thread, &terms.route).await?)
    }

    /// Whether they can see the conversation; in what another surface runs, whether they take part.
    async fn sees(&self, actor: &Actor<'_>, thread: &Thread, standing: Standing) -> Step<bool> {
        let here = Route::default();
        let known = match standing {
            Standing::Here => actor.is_within(thread, &here),
            Standing::Elsewhere | Standing::Foreign => reach::takes_part(actor.by, thread, actor.people),
        };
        Ok(known || self.is_member(actor, thread, &here).await?)
    }

    /// Whether they are a member of the conversation's channel now, or of that in which its card stands.
    async fn is_member(&self, actor: &Actor<'_>, thread: &Thread, route: &Route) -> Step<bool> {
        let channels = reach::channels(actor.by, &thread.id, &route.channel);
        Ok(!channels.is_empty() && !self.members(actor, &channels).await?.is_empty())
    }

    /// Those of these groups that they are in.
    async fn members(&self, actor: &Actor<'_>, wanted: &[String]) -> Step<Vec<String>> {
        match self.0.surfaces.groups(actor.by, wanted).await {
            Ok(found) => Ok(found.into_iter().filter(|group| wanted.contains(group)).collect()),
            Err(error) => {
                let told = Told::no(replies::unchecked(wanted, &error.message));
                if !error.transient {
                    return Err(told.into());
                }
                let wait = Duration::from_millis(error.retry_after_ms.unwrap_or(0));
                Err(Stop::Later(Later { why: error.message, wait, at_last: Some(told) }))
            }
        }
    }

    /// The thread that is meant, unless it is none of this team's business.
    async fn find(&self, actor: &Actor<'_>, short: ShortId) -> Step<Option<(Thread, Standing)>> {
        let thread = match self.thread(short).await {
            Ok(thread) => thread,
            Err(error) => return self.trouble(actor, error).map(|()| None),
        };
        Ok(match actor.origin.team.standing(&thread.id) {
            Standing::Foreign => None,
            standing => Some((thread, standing)),
        })
    }

    async fn pass_on(&self, actor: &Actor<'_>, thread: ShortId, input: Input, what: &str) -> Step<Answer> {
        let delivered = self.deliver(thread, input).await;
        self.judge(actor, delivered, what)
    }

    fn judge(&self, actor: &Actor<'_>, delivered: Result<Delivered, DeliverError>, what: &str) -> Step<Answer> {
        match delivered {
            Ok(delivered) => Ok(delivered.answer),
            Err(error) => {
                self.trouble(actor, error)?;
                Err(Told::unknown(what).into())
            }
        }
    }

    /// What an error means here; `Ok`: the thread does not exist.
    fn trouble(&self, actor: &Actor<'_>, error: DeliverError) -> Step<()> {
        match error {
            DeliverError::Store(StoreError::Unknown(_) | StoreError::Deleted(_)) => Ok(()),
            DeliverError::Store(
                StoreError::Conflict { .. }
                | StoreError::NotWritable(_)
                | StoreError::Locked(_)
                | StoreError::Failed(_),
            )
            | DeliverError::Contended(_)
            | DeliverError::Draining => {
                tracing::warn!(thread.id = %actor.origin.log.short(), %error, "an intent has to wait for the store");
                Err(Stop::Later(Later::new("the store did not answer".to_owned())))
            }
            DeliverError::Agent(unknown) => Err(Told::no(unknown.to_string()).into()),
            DeliverError::Store(StoreError::Missing(_) | StoreError::TooNew(_) | StoreError::Corrupt(_))
            | DeliverError::Log { .. }
            | DeliverError::CallRunning { .. } => {
                let reference = actor.origin.log.short();
                tracing::error!(thread.id = %reference, %error, "an intent cannot be carried out");
                Err(Told::no(replies::broken(reference)).into())
            }
        }
    }
}

/// An input without a name of its own, delivered once for this intent.
fn once(actor: &Actor<'_>, input: Input) -> Input {
    Input::Once { source: actor.source(), input: Box::new(input) }
}

/// What the answer to an input means for the person; `taken`: what they are told if it was accepted, now or
/// before a crash.
fn outcome(answer: Answer, taken: impl FnOnce() -> String) -> Told {
    match answer {
        Answer::Accepted | Answer::Duplicate => Told::yes(taken()),
        Answer::Refused(refusal) => Told::no(replies::refused(&refusal)),
        // No input of a person is answered like this.
        Answer::Stale | Answer::Go { .. } => Told::unknown("request"),
    }
}

fn post_trouble(error: PostError) -> Stop {
    if error.transient { Stop::Later(Later::new(error.message)) } else { Told::no(error.message).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_comes_from_a_team_or_from_nowhere() {
        let log: ThreadId = "system:slack:T1:abc".parse().unwrap();
        assert!(Origin::of(&log).unwrap().owns("slack:T1:U1"));
        for odd in ["system:slack", "system:slack:T1", "system:slack::k", "slack:T1:C1:1.1"] {
            assert!(Origin::of(&odd.parse().unwrap()).is_none(), "{odd}");
        }
    }
}
