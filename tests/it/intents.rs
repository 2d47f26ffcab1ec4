//! What people press in a chat surface, from the record that is kept before the acknowledgement to what they are
//! told: who is let through, what crosses no team, and what a crash in between leaves.
//!
//! The surface is a stand-in that says who is in which group and writes down what people are told; Slack itself
//! is the business of other tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use twelve::agent::*;
use twelve::platform::PostError;
use twelve::runtime::{DeliverError, Said, Surfaces};
use twelve::store::{Filter, StoreError};
use twelve::tools::Boxed;

use crate::world::*;

const THREAD: &str = "slack:T1:C1:1.1";
const DAY: u64 = 86_400_000;

/// The surface as tests need it.
#[derive(Clone, Default)]
struct Desk(Arc<DeskState>);

#[derive(Default)]
struct DeskState {
    /// Members by group. Asking for another group is an error.
    groups: Mutex<BTreeMap<String, Vec<String>>>,
    /// Why nobody can say who is in which group.
    down: Mutex<Option<String>>,
    /// How often each thing was asked.
    asked: Mutex<Vec<String>>,
    /// What people were told.
    told: Mutex<Vec<String>>,
    /// Answers of `open`, in order; after them, all is well.
    open_fails: Mutex<Vec<PostError>>,
    opened: Mutex<BTreeMap<ShortId, String>>,
    /// What asking for groups comes to, from the last to the first.
    groups_fail: Mutex<Vec<PostError>>,
    /// The threads of messages.
    messages: Mutex<BTreeMap<String, ThreadId>>,
    /// What is fetched, by name.
    files: Mutex<BTreeMap<String, String>>,
    /// While this is set, whoever comes to the place waits for ever.
    stuck_at: Mutex<Option<&'static str>>,
    stuck: AtomicUsize,
}

impl Desk {
    async fn pass(&self, place: &'static str, what: String) {
        self.0.asked.lock().unwrap().push(format!("{place} {what}").trim().to_owned());
        if *self.0.stuck_at.lock().unwrap() == Some(place) {
            self.0.stuck.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.told.lock().unwrap())
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.asked.lock().unwrap())
    }

    fn group(&self, group: &str, members: &[&str]) {
        let members = members.iter().map(|m| (*m).to_owned()).collect();
        self.0.groups.lock().unwrap().insert(group.to_owned(), members);
    }

    fn stick_at(&self, place: Option<&'static str>) {
        *self.0.stuck_at.lock().unwrap() = place;
    }

    /// Waits until somebody waits at the place.
    async fn someone_is_stuck(&self) {
        let stuck = async {
            while self.0.stuck.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), stuck).await.expect("somebody comes to the place");
    }
}

impl Surfaces for Desk {
    fn waits_for_surface(&self, _thread: &ThreadId) -> bool {
        false
    }

    fn gather<'a>(&'a self, thread: &'a ThreadId, attached: &'a Attached) -> Boxed<'a, Vec<Gathered>> {
        Box::pin(async move {
            let (label, text) = match attached {
                Attached::Quoted { label, text, .. } => (label.clone(), Ok(text.clone())),
                Attached::Earlier { before } => (format!("messages before {before}"), Err("not here".to_owned())),
                Attached::File { name, .. } => {
                    let text = self.0.files.lock().unwrap().get(name).cloned();
                    (format!("the file {name}"), text.ok_or_else(|| "it is gone".to_owned()))
                }
            };
            self.pass("gather", format!("{thread}: {label}")).await;
            vec![Gathered { label, text, by: Vec::new() }]
        })
    }

    fn groups<'a>(&'a self, person: &'a Principal, groups: &'a [String]) -> Boxed<'a, Result<Vec<String>, PostError>> {
        Box::pin(async move {
            self.pass("groups", groups.join(",")).await;
            if let Some(why) = &*self.0.down.lock().unwrap() {
                return Err(PostError::lasting(why));
            }
            if let Some(error) = self.0.groups_fail.lock().unwrap().pop() {
                return Err(error);
            }
            let known = self.0.groups.lock().unwrap();
            let is_in = |group: &String| known.get(group).is_some_and(|members| members.contains(&person.id));
            // One too many: nobody asked for it.
            Ok(groups.iter().filter(|g| is_in(g)).cloned().chain(["slack:T1:S0".to_owned()]).collect())
        })
    }

    fn open<'a>(
        &'a self,
        key: ShortId,
        place: &'a str,
        by: &'a Principal,
        text: &'a str,
    ) -> Boxed<'a, Result<ThreadId, PostError>> {
        Box::pin(async move {
            self.pass("open", place.to_owned()).await;
            let mut fails = self.0.open_fails.lock().unwrap();
            if !fails.is_empty() {
                return Err(fails.remove(0));
            }
            self.0.opened.lock().unwrap().insert(key, format!("{place}: {by} asked {text}"));
            // A thread, not a channel.
            if place.contains('.') {
                return Ok(place.parse().unwrap());
            }
            Ok(format!("{place}:{key}").parse().unwrap())
        })
    }

    fn thread_of<'a>(&'a self, _by: &'a Principal, place: &'a str) -> Boxed<'a, Result<Option<ThreadId>, PostError>> {
        Box::pin(async move {
            self.pass("thread_of", place.to_owned()).await;
            Ok(self.0.messages.lock().unwrap().get(place).cloned())
        })
    }

    fn reply<'a>(&'a self, _key: ShortId, reply: &'a str, text: &'a str) -> Boxed<'a, ()> {
        Box::pin(async move {
            self.0.told.lock().unwrap().push(format!("{reply}: {text}"));
            self.pass("reply", String::new()).await;
        })
    }
}

/// A workspace T1: `slack:T1:UANN` asks, `slack:T1:UBOB` decides, `slack:T1:UEVE` does not.
struct Team {
    w: World,
    desk: Desk,
    keys: AtomicU64,
}

fn user(name: &str) -> Principal {
    Principal { name: Some(name.to_lowercase()), ..Principal::human(format!("slack:T1:U{name}")) }
}

fn bob() -> Principal {
    user("BOB")
}

fn ann() -> Principal {
    user("ANN")
}

fn approvers(users: &[&str], groups: &[&str]) -> Approvers {
    let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    Approvers { users: own(users), groups: own(groups), ..Approvers::default() }
}

impl Team {
    async fn new(approvers: Approvers) -> Self {
        Self::with(approvers, Setup::default()).await
    }

    async fn with(approvers: Approvers, setup: Setup) -> Self {
        let desk = Desk::default();
        let policy = Policy { approvers, ..setup.policy.clone() };
        let w = World::with(Setup { policy, surfaces: Some(Arc::new(desk.clone())), ..setup }).await;
        Self { w, desk, keys: AtomicU64::new(1) }
    }

    /// Bob decides, by name.
    async fn of_bob() -> Self {
        Self::new(approvers(&["slack:T1:UBOB"], &[])).await
    }

    async fn ann_says(&self, thread: &str, text: &str) {
        let id: ThreadId = thread.parse().unwrap();
        self.w.runtime.message(&id, "tester", Said::by(ann(), text)).await.unwrap();
        self.w.runtime.settle().await.unwrap();
    }

    fn key(&self) -> ThreadId {
        format!("system:slack:T1:k{}", self.keys.fetch_add(1, Ordering::SeqCst)).parse().unwrap()
    }

    /// Kept, acknowledged, and not waited for.
    async fn keep(&self, log: &ThreadId, by: Principal, act: Act) -> Answer {
        let intent = Intent { by, act, reply: "slack:T1:C1:U".into() };
        self.w.runtime.intent(log, intent).await.unwrap().answer
    }

    /// Somebody does something; what they are told.
    async fn does(&self, by: Principal, act: Act) -> String {
        let log = self.key();
        self.does_as(&log, by, act).await
    }

    async fn does_as(&self, log: &ThreadId, by: Principal, act: Act) -> String {
        assert_eq!(self.keep(log, by, act).await, Answer::Accepted);
        self.settle().await;
        let mut told = self.desk.told();
        assert_eq!(told.len(), 1, "{told:?}");
        let said = told.remove(0).strip_prefix("slack:T1:C1:U: ").unwrap().to_owned();
        // What was told is in the log, and nothing of it is left to do.
        let events = self.w.log(log.as_str()).await;
        assert!(
            matches!(&events[..], [_, Event { body: Body::IntentHandled { said: kept, .. }, .. }] if *kept == said)
        );
        assert_eq!(self.w.thread(log.as_str()).await.status(), Status::Done);
        said
    }

    async fn settle(&self) {
        tokio::time::timeout(Duration::from_secs(20), self.w.runtime.settle()).await.expect("all rests").unwrap();
    }

    async fn until(&self, thread: &str, is_so: impl Fn(&Thread) -> bool) {
        let looks = async {
            while !is_so(&self.w.thread(thread).await) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), looks).await.expect("it comes to be so");
    }

    async fn vote(&self, thread: &str, choice: Choice) -> Act {
        let request = self.w.pending(thread).await;
        Act::Vote { approval: request.id, digest: request.digest.prefix(), choice }
    }

    async fn approve(&self, thread: &str) -> Act {
        self.vote(thread, yes()).await
    }
}

fn yes() -> Choice {
    Choice::Approve { note: String::new() }
}

fn no(reason: &str) -> Choice {
    Choice::Deny { reason: reason.to_owned() }
}

// --- votes

#[tokio::test]
async fn a_press_of_approve_by_an_approver_ships_once_and_the_person_is_told() {
    let t = Team::of_bob().await;
    t.ann_says(THREAD, "ship v1").await;
    let (log, act) = (t.key(), t.approve(THREAD).await);
    assert_eq!(t.does_as(&log, bob(), act.clone()).await, "You approved \"ship v1\".");
    assert_eq!(t.w.outside.ledger(), ["v1"]);
    // The same delivery again is known, and does nothing; another press of the same button is told how it is.
    assert_eq!(t.keep(&log, bob(), act.clone()).await, Answer::Duplicate);
    t.settle().await;
    assert_eq!(t.desk.told(), Vec::<String>::new());
    let told = t.does(bob(), act).await;
    assert!(told.starts_with("Already approved by bob (2026-01-01T00:00:00Z). It succeeded."), "{told}");
    assert_eq!(t.w.outside.ledger(), ["v1"]);
    let vote = t.w.log(THREAD).await.into_iter().find(|e| e.body.name() == "vote_cast").unwrap();
    assert_eq!(vote.source.as_deref(), Some(log.as_str()), "the vote bears the name of the press");
}

#[tokio::test]
async fn whoever_may_not_decide_is_told_who_can() {
    let t = Team::of_bob().await;
    t.ann_says(THREAD, "ship v1").await;
    let act = t.approve(THREAD).await;
    for (who, told) in [
        (user("EVE"), "You can't decide this one. It waits for T1:UBOB (1 needed, not the requester)."),
        (ann(), "You can't decide this one. It waits for T1:UBOB (1 needed, not the requester)."),
    ] {
        assert_eq!(t.does(who, act.clone()).await, told);
    }
    assert_eq!(t.w.outside.ledger(), Vec::<String>::new());
    // Who asked is no other than who decides.
    let t = Team::new(approvers(&["*"], &[])).await;
    t.ann_says(THREAD, "ship v1").await;
    let told = t.does(ann(), t.approve(THREAD).await).await;
    assert_eq!(
        told,
        "You wrote \"ship v1\" in this conversation (2026-01-01T00:00:00Z), which counts as asking, so someone else has to decide: anyone here (1 needed, not the requester). To decide on such a call yourself, let another person ask for it in a new thread."
    );
    assert_eq!(t.does(user("EVE"), t.approve(THREAD).await).await, "You approved \"ship v1\".");
}

#[tokio::test]
async fn groups_are_asked_at_the_moment_of_the_press_and_only_if_they_matter() {
    let t = Team::new(approvers(&["slack:T1:UBOB"], &["slack:T1:S1", "slack:T1:S2"])).await;
    t.desk.group("slack:T1:S2", &["slack:T1:UCAT"]);
    t.ann_says(THREAD, "ship v1").await;
    let act = t.approve(THREAD).await;
    let told = t.does(user("EVE"), act.clone()).await;
    assert!(told.starts_with("You can't decide this one. It waits for @slack:T1:S1, @slack:T1:S2"), "{told}");
    assert_eq!(t.desk.asked(), ["groups slack:T1:S1,slack:T1:S2", "reply"]);
    assert_eq!(t.does(user("CAT"), act.clone()).await, "You approved \"ship v1\".");
    let groups = t.w.log(THREAD).await.into_iter().find_map(|e| match e.body {
        Body::VoteCast { groups, .. } => Some(groups),
        _ => None,
    });
    assert_eq!(groups.unwrap(), ["slack:T1:S2"], "only the groups of the rule are noted");
    // It is decided: nobody is asked who is where.
    t.desk.asked();
    assert!(t.does(user("EVE"), act).await.starts_with("Already approved by cat"));
    assert_eq!(t.desk.asked(), ["reply"]);
    // Bob is let through by his name.
    t.ann_says(THREAD, "ship v2").await;
    assert_eq!(t.does(bob(), t.approve(THREAD).await).await, "You approved \"ship v2\".");
    assert_eq!(t.desk.asked(), ["reply"]);
}

#[tokio::test]
async fn if_nobody_can_say_who_is_in_a_group_nobody_is_let_through() {
    let t = Team::new(approvers(&[], &["release-team"])).await;
    t.desk.group("release-team", &["slack:T1:UBOB"]);
    *t.desk.0.down.lock().unwrap() = Some("Slack: missing_scope usergroups:read".to_owned());
    t.ann_says(THREAD, "ship v1").await;
    let act = t.approve(THREAD).await;
    for choice in [yes(), no("never")] {
        let told = t.does(bob(), t.vote(THREAD, choice).await).await;
        assert_eq!(
            told,
            "I couldn't check who is in @release-team (Slack: missing_scope usergroups:read), so nobody was let \
             through. An operator can run `doctor`."
        );
    }
    assert_eq!(t.w.pending(THREAD).await.votes, vec![]);
    *t.desk.0.down.lock().unwrap() = None;
    assert_eq!(t.does(bob(), act).await, "You approved \"ship v1\".");
    assert_eq!(t.w.outside.ledger(), ["v1"]);
}

#[tokio::test]
async fn everybody_is_whoever_acts_in_the_conversation_or_is_a_member_of_its_channel() {
    let t = Team::new(approvers(&["*"], &[])).await;
    let private = "slack:T1:CPRIV:1.1";
    t.ann_says(private, "ship v1").await;
    let act = t.approve(private).await;
    let short = t.w.thread(private).await.short;
    // From #C1: who is not a member of the other channel does not even learn that there is something.
    let Act::Vote { approval, .. } = &act else { panic!() };
    assert_eq!(t.does(bob(), act.clone()).await, format!("I don't know this request any more. Id {approval}."));
    let say = Act::Say { thread: short, text: "ship v666".into() };
    assert_eq!(t.does(bob(), say).await, "I don't know this conversation any more.");
    let steer = Act::Steer { what: Steer::Stop, target: Target::Thread { thread: short } };
    assert!(t.does(bob(), steer).await.starts_with("You can't stop this one."));
    assert_eq!(t.desk.asked().iter().filter(|asked| *asked == "groups slack:T1:CPRIV").count(), 3);
    // Nobody can say: nobody is let through.
    *t.desk.0.down.lock().unwrap() = Some("Slack: internal_error".into());
    assert!(t.does(bob(), act.clone()).await.starts_with("I couldn't check who is in @slack:T1:CPRIV"));
    *t.desk.0.down.lock().unwrap() = None;
    assert_eq!(t.w.pending(private).await.votes, vec![]);
    // A member is.
    t.desk.group("slack:T1:CPRIV", &["slack:T1:UBOB"]);
    assert_eq!(t.does(bob(), act).await, "You approved \"ship v1\".");
    assert_eq!(t.w.outside.ledger(), ["v1"]);
}

#[tokio::test]
async fn s20_nothing_that_is_pressed_in_one_team_reaches_another() {
    // Everybody may decide, and still nobody from elsewhere.
    let t = Team::new(approvers(&["*", "slack:T2:UMAL"], &[])).await;
    t.ann_says(THREAD, "ship v1").await;
    let act = t.approve(THREAD).await;
    let mal = Principal::human("slack:T2:UMAL");
    let Act::Vote { approval, .. } = &act else { panic!() };
    let unknown = format!("I don't know this request any more. Id {approval}.");
    // In their own team, with the id of ours; and as a guest in ours.
    let log: ThreadId = "system:slack:T2:k1".parse().unwrap();
    assert_eq!(t.does_as(&log, mal.clone(), act.clone()).await, unknown);
    assert_eq!(t.does(mal.clone(), act.clone()).await, "I don't know this request any more.");
    let short = t.w.thread(THREAD).await.short;
    for (n, act) in [
        Act::Steer { what: Steer::Stop, target: Target::Thread { thread: short } },
        Act::Say { thread: short, text: "ship v666".into() },
        Act::Steer { what: Steer::Stop, target: Target::Message { place: "slack:T1:C1:1.1".into() } },
        Act::Start { agent: "tester".into(), text: "ship v666".into(), place: "slack:T1:C1".into(), about: None },
    ]
    .into_iter()
    .enumerate()
    {
        let log: ThreadId = format!("system:slack:T2:s{n}").parse().unwrap();
        let told = t.does_as(&log, mal.clone(), act).await;
        assert!(told.starts_with("I don't know this "), "{told}");
    }
    let asked = t.desk.asked();
    assert!(!asked.iter().any(|a| a.starts_with("open") || a.starts_with("thread_of")), "{asked:?}");
    assert_eq!(t.w.pending(THREAD).await.votes, vec![]);
    assert_eq!(t.w.thread(THREAD).await.status(), Status::WaitingApproval);
    // The same place in ours.
    assert_eq!(t.does(bob(), act).await, "You approved \"ship v1\".");
}

#[tokio::test]
async fn for_a_thread_of_another_surface_only_those_count_who_are_named() {
    let everybody = Team::new(approvers(&["*"], &[])).await;
    everybody.ann_says("api:1", "ship v1").await;
    let told = everybody.does(bob(), everybody.approve("api:1").await).await;
    assert!(told.starts_with("I don't know this request any more."), "{told}");
    assert_eq!(everybody.w.outside.ledger(), Vec::<String>::new());

    let named = Team::new(approvers(&["*", "slack:T1:UBOB"], &["slack:T1:S1"])).await;
    named.desk.group("slack:T1:S1", &["slack:T1:UCAT"]);
    named.ann_says("api:1", "ship v1").await;
    let (act, asked) = (named.approve("api:1").await, "I don't know this request any more.");
    assert!(named.does(user("EVE"), act.clone()).await.starts_with(asked));
    assert_eq!(named.does(user("CAT"), act.clone()).await, "You approved \"ship v1\".");
    assert!(named.does(user("EVE"), act.clone()).await.starts_with(asked), "nor is it told how it ended");
    assert!(named.does(bob(), act).await.starts_with("Already approved by cat"));
    assert_eq!(named.w.outside.ledger(), ["v1"]);
}

#[tokio::test]
async fn a_denial_with_a_reason_an_edit_and_a_quorum_are_told_as_what_they_are() {
    let two = Approvers { quorum: 2, ..approvers(&["*"], &[]) };
    let t = Team::new(two).await;
    t.ann_says(THREAD, "ship v1").await;
    let act = t.approve(THREAD).await;
    assert_eq!(
        t.does(bob(), act.clone()).await,
        "Your approval of \"ship v1\" counts: 1 of 2. It waits for someone else."
    );
    assert_eq!(t.does(bob(), act.clone()).await, "You already approved this; it waits for someone else.");
    let edit = |args: &str| t.vote(THREAD, Choice::Edit { args: args.to_owned() });
    assert_eq!(
        t.does(user("CAT"), edit(r#"{"version":"v2"}"#).await).await,
        "You changed it to \"ship v2\". Nothing runs until the changed request is approved."
    );
    assert_eq!(
        t.does(bob(), act).await,
        "The request changed since this card was posted. Look at the current one and decide that."
    );
    for (args, told) in [
        (r#"{"version":"v2"}"#, "Nothing was changed. Approve the request as it is, or change an argument."),
        (r#"{"version":7}"#, "These arguments can't be used"),
        ("no json", "These arguments can't be used"),
    ] {
        let said = t.does(user("CAT"), edit(args).await).await;
        assert!(said.starts_with(told), "{said}");
    }
    assert_eq!(
        t.does(user("CAT"), t.vote(THREAD, no("not on a Friday")).await).await,
        "You denied \"ship v2\". It will not run, and the agent is told why."
    );
    assert!(t.w.answer(THREAD).await.contains("cat denied this call: not on a Friday"));
    assert_eq!(t.w.outside.ledger(), Vec::<String>::new());
}

#[tokio::test]
async fn a_press_after_the_expiry_and_one_on_what_never_was_are_told() {
    let t = Team::of_bob().await;
    t.ann_says(THREAD, "ship v1").await;
    let act = t.approve(THREAD).await;
    t.w.advance(3 * 3_600_000).await;
    assert_eq!(
        t.does(bob(), act).await,
        "This expired at 2026-01-01T03:00:00Z and was denied. Press \"Ask again\" to have the agent ask anew."
    );
    let approval = ApprovalId::new("slack:T1:C1:9.9".parse::<ThreadId>().unwrap().short(), 5, 0);
    let act = Act::Vote { approval, digest: "0".repeat(12), choice: yes() };
    assert_eq!(t.does(bob(), act).await, format!("I don't know this request any more. Id {approval}."));
    // And a thread that was deleted.
    t.ann_says("slack:T1:C1:2.2", "ship v2").await;
    let act = t.approve("slack:T1:C1:2.2").await;
    let short = t.w.thread("slack:T1:C1:2.2").await.short;
    t.w.runtime.delete(short, &bob()).await.unwrap();
    assert!(t.does(bob(), act).await.starts_with("I don't know this request any more."));
}

#[tokio::test]
async fn two_people_press_at_once_and_it_ships_once() {
    let t = Team::new(approvers(&["slack:T1:UBOB", "slack:T1:UCAT"], &[])).await;
    t.ann_says(THREAD, "ship v1").await;
    let act = t.approve(THREAD).await;
    let (one, two) = (t.key(), t.key());
    let kept = tokio::join!(t.keep(&one, bob(), act.clone()), t.keep(&two, user("CAT"), act));
    assert_eq!(kept, (Answer::Accepted, Answer::Accepted));
    t.settle().await;
    let mut told = t.desk.told();
    told.sort();
    assert_eq!(told.len(), 2);
    assert!(told[0].contains("Already approved by") || told[1].contains("Already approved by"), "{told:?}");
    assert_eq!(t.w.outside.ledger(), ["v1"]);
}

// --- what else can be wanted

#[tokio::test]
async fn a_question_is_answered_by_a_press_and_a_wrong_answer_is_told() {
    let t = Team::of_bob().await;
    t.ann_says(THREAD, "ask me").await;
    let question = *t.w.thread(THREAD).await.questions.first_key_value().unwrap().0;
    let answer = |text: &str| Act::Answer { question, text: text.to_owned() };
    assert_eq!(t.does(ann(), answer("up")).await, "Answer with one of: left, right.");
    assert_eq!(t.does(ann(), answer("left")).await, "Your answer was taken: left");
    assert_eq!(t.w.answer(THREAD).await, "thank you");
    assert_eq!(t.does(ann(), answer("right")).await, "This question is not open any more.");
    // What is asked elsewhere is no business of people who have no part in it.
    t.ann_says("api:1", "ask me").await;
    let question = *t.w.thread("api:1").await.questions.first_key_value().unwrap().0;
    let answer = Act::Answer { question, text: "left".into() };
    assert_eq!(t.does(bob(), answer.clone()).await, "I don't know this question any more.");
    assert_eq!(t.does(ann(), answer).await, "Your answer was taken: left");
}

#[tokio::test]
async fn a_run_is_stopped_paused_and_resumed_by_those_who_take_part_or_decide() {
    let t = Team::new(approvers(&[], &["slack:T1:S1"])).await;
    t.desk.group("slack:T1:S1", &["slack:T1:UCAT"]);
    t.ann_says(THREAD, "ship v1").await;
    let short = t.w.thread(THREAD).await.short;
    let steer = |what| Act::Steer { what, target: Target::Thread { thread: short } };
    assert_eq!(
        t.does(user("EVE"), steer(Steer::Pause)).await,
        "You can't pause this one. Those who take part in it can, and those who decide what it waits for."
    );
    assert_eq!(t.does(ann(), steer(Steer::Pause)).await, "Paused: nothing starts until somebody resumes it.");
    assert_eq!(t.does(user("CAT"), steer(Steer::Pause)).await, "It is paused already.");
    assert_eq!(t.does(user("CAT"), steer(Steer::Resume)).await, "Resumed.");
    // By a reaction on a message of ours.
    let (place, id) = ("slack:T1:C1:1.5", THREAD.parse().unwrap());
    let stop = |place: &str| Act::Steer { what: Steer::Stop, target: Target::Message { place: place.to_owned() } };
    assert_eq!(t.does(ann(), stop(place)).await, "I don't know this run any more.");
    t.desk.0.messages.lock().unwrap().insert(place.to_owned(), id);
    assert!(t.does(user("EVE"), stop(place)).await.starts_with("You can't stop this one."));
    assert_eq!(t.does(ann(), stop(place)).await, "Stopped: nothing more will run.");
    assert_eq!(t.w.thread(THREAD).await.status(), Status::Stopped);
    assert_eq!(t.does(user("EVE"), stop(place)).await, "Nothing is running here.");
}

#[tokio::test]
async fn a_reaction_stops_for_those_who_take_part_or_are_named_and_for_no_guest() {
    let t = Team::new(approvers(&["*", "slack:T1:UBOB"], &["slack:T1:C1"])).await;
    // Everybody in a channel, guests among them.
    t.desk.group("slack:T1:C1", &["slack:T1:UGUEST"]);
    let place = "slack:T1:C1:1.5";
    t.desk.0.messages.lock().unwrap().insert(place.to_owned(), THREAD.parse().unwrap());
    let stop = || Act::Steer { what: Steer::Stop, target: Target::Message { place: place.to_owned() } };
    for (by, may) in [(user("GUEST"), false), (bob(), true), (ann(), true)] {
        t.ann_says(THREAD, "ship v1").await;
        let told = t.does(by.clone(), stop()).await;
        assert_eq!(told.starts_with("Stopped"), may, "{by}: {told}");
        assert_eq!(t.w.thread(THREAD).await.status() == Status::Stopped, may, "{by}");
        if !may {
            assert!(told.starts_with("You can't stop this one."), "{told}");
        }
    }
}

#[tokio::test]
async fn who_starts_another_agent_in_a_thread_is_told_whose_thread_it_is() {
    let t = Team::with(approvers(&["slack:T1:UBOB"], &[]), Setup { more: vec!["helper"], ..Setup::default() }).await;
    t.ann_says(THREAD, "hi").await;
    let start = |agent: &str, place: &str| Act::Start {
        agent: agent.into(),
        text: "look".into(),
        place: place.into(),
        about: None,
    };
    let told = t.does(ann(), start("helper", THREAD)).await;
    assert!(told.starts_with("This thread is tester's already, so tester took it, not helper."), "{told}");
    assert!(t.desk.0.opened.lock().unwrap().values().any(|o| o.ends_with("asked tester: look")));
    assert!(t.does(ann(), start("tester", THREAD)).await.starts_with("Started: tester"));
    assert!(t.does(ann(), start("helper", "slack:T1:C1")).await.starts_with("Started: helper"));
}

#[tokio::test]
async fn a_stop_says_what_was_done_already() {
    let t = Team::of_bob().await;
    t.ann_says(THREAD, "ship v1 and v2").await;
    let thread = t.w.thread(THREAD).await;
    let first = thread.pending_approvals().min_by_key(|a| a.call).unwrap().clone();
    let act = Act::Vote { approval: first.id, digest: first.digest.prefix(), choice: yes() };
    assert_eq!(t.does(bob(), act).await, "You approved \"ship v1\".");
    let target = Target::Thread { thread: thread.short };
    assert_eq!(
        t.does(bob(), Act::Steer { what: Steer::Stop, target }).await,
        "Stopped: nothing more will run. Already done: ship v1."
    );
    assert_eq!(t.w.outside.ledger(), ["v1"]);
}

#[tokio::test]
async fn an_unknown_outcome_is_marked_by_the_approvers_alone() {
    let mut t = Team::new(approvers(&[], &["slack:T1:S1"])).await;
    t.desk.group("slack:T1:S1", &["slack:T1:UBOB"]);
    t.ann_says(THREAD, "ship v1").await;
    t.w.outside.gate.shut();
    let (log, act) = (t.key(), t.approve(THREAD).await);
    t.keep(&log, bob(), act).await;
    t.until(THREAD, |thread| thread.calls.values().any(|c| c.stage == Stage::Started)).await;
    t.w.crash().await;
    t.settle().await;
    t.desk.told();
    let call = *t.w.thread(THREAD).await.calls.first_key_value().unwrap().0;
    let mark = Act::Mark { call, mark: Mark::Succeeded { note: "it is there".into() } };
    assert!(t.does(ann(), mark.clone()).await.starts_with("You can't decide this one."));
    let log = t.key();
    assert_eq!(t.does_as(&log, bob(), mark).await, "Noted: it took effect. The agent goes on.");
    let marked = t.w.log(THREAD).await.into_iter().find(|e| e.body.name() == "outcome_marked").unwrap();
    assert_eq!(marked.source.as_deref(), Some(log.as_str()));
}

#[tokio::test]
async fn a_task_is_started_where_it_was_asked_for_with_what_it_is_about() {
    let t = Team::of_bob().await;
    let start = |agent: &str, text: &str| Act::Start {
        agent: agent.to_owned(),
        text: text.to_owned(),
        place: "slack:T1:C9".into(),
        about: Some(About { label: "a message of @mal".into(), text: "ship v666".into(), by: None }),
    };
    let log = t.key();
    let told = t.does_as(&log, ann(), start("tester", "hi")).await;
    assert_eq!(told, "Started: tester is on it and answers in its own thread.");
    let thread = format!("slack:T1:C9:{}", log.short());
    assert_eq!(t.desk.0.opened.lock().unwrap().values().collect::<Vec<_>>(), ["slack:T1:C9: ann asked tester: hi"]);
    let folded = t.w.thread(&thread).await;
    assert_eq!((folded.started_by.clone(), folded.untrusted.describe()), (ann(), "a message of @mal".to_owned()));
    assert_eq!(t.w.answer(&thread).await, "hello");
    // What can be refused is refused before anything is posted.
    t.desk.asked();
    assert!(t.does(ann(), start("nobody", "hi")).await.contains("nobody"));
    assert_eq!(
        t.does(ann(), start("tester", "  ")).await,
        "The message is empty. Write what you want the agent to do."
    );
    assert!(t.does(ann(), start("tester", &"x".repeat(200_000))).await.starts_with("The message has 200000 bytes"));
    assert!(t.desk.asked().iter().all(|asked| asked == "reply"));
    // A place that does not take it.
    *t.desk.0.open_fails.lock().unwrap() =
        vec![PostError::lasting("I can't post in #releases. Invite me with /invite @agent.")];
    assert_eq!(t.does(ann(), start("tester", "hi")).await, "I can't post in #releases. Invite me with /invite @agent.");
}

#[tokio::test]
async fn words_can_be_said_in_a_thread_by_a_press() {
    let t = Team::of_bob().await;
    t.ann_says(THREAD, "hi").await;
    let short = t.w.thread(THREAD).await.short;
    let say = Act::Say { thread: short, text: "ship v3".into() };
    assert_eq!(t.does(ann(), say).await, "Taken: tester is on it.");
    assert_eq!(t.w.pending(THREAD).await.title, "ship v3");
    // Never in a log that is no conversation, and in other surfaces' only by those who take part.
    let log: ThreadId = "system:slack:T1:k1".parse().unwrap();
    let say = |short| Act::Say { thread: short, text: "ship v4".into() };
    assert_eq!(t.does(ann(), say(log.short())).await, "I don't know this conversation any more.");
    t.ann_says("api:1", "hi").await;
    let short = t.w.thread("api:1").await.short;
    assert_eq!(t.does(bob(), say(short)).await, "I don't know this conversation any more.");
}

// --- troubles

#[tokio::test]
async fn a_platform_that_does_not_answer_for_a_moment_is_asked_again() {
    let t = Team::of_bob().await;
    let later = PostError { message: "Slack did not answer".into(), transient: true, retry_after_ms: None };
    *t.desk.0.open_fails.lock().unwrap() = vec![later];
    let act = Act::Start { agent: "tester".into(), text: "hi".into(), place: "slack:T1:C9".into(), about: None };
    assert_eq!(t.does(ann(), act).await, "Started: tester is on it and answers in its own thread.");
    assert_eq!(t.desk.asked(), ["open slack:T1:C9", "open slack:T1:C9", "reply"]);
}

#[tokio::test]
async fn who_is_in_a_group_is_asked_again_for_a_moment_before_a_vote_is_refused() {
    let t = Team::new(approvers(&[], &["release-team"])).await;
    t.desk.group("release-team", &["slack:T1:UBOB"]);
    t.ann_says(THREAD, "ship v1").await;
    let later = PostError { message: "Slack: ratelimited".into(), transient: true, retry_after_ms: Some(300) };
    *t.desk.0.groups_fail.lock().unwrap() = vec![later.clone(); 9];
    let told = t.does(bob(), t.approve(THREAD).await).await;
    assert_eq!(
        told,
        "I couldn't check who is in @release-team (Slack: ratelimited), so nobody was let through. An operator can \
         run `doctor`."
    );
    assert_eq!(t.desk.0.groups_fail.lock().unwrap().len(), 5, "four attempts");
    *t.desk.0.groups_fail.lock().unwrap() = vec![later];
    assert_eq!(t.does(bob(), t.approve(THREAD).await).await, "You approved \"ship v1\".");
}

#[tokio::test]
async fn a_trouble_that_lasts_keeps_the_intent_without_spinning_and_is_given_up_with_words() {
    let t = Team::of_bob().await;
    let later = PostError { message: "Slack did not answer.".into(), transient: true, retry_after_ms: None };
    *t.desk.0.open_fails.lock().unwrap() = vec![later; 9];
    let act = Act::Start { agent: "tester".into(), text: "hi".into(), place: "slack:T1:C9".into(), about: None };
    let log = t.key();
    t.keep(&log, ann(), act).await;
    t.settle().await;
    assert_eq!((t.desk.asked().len(), t.desk.told().len()), (4, 0));
    assert_eq!(t.w.thread(log.as_str()).await.status(), Status::Running, "it is not forgotten");
    // Whoever finds it when the lease is over tries again; an hour later it is given up.
    t.w.clock.advance_ms(2 * 3_600_000);
    t.settle().await;
    assert_eq!(t.desk.asked(), ["open slack:T1:C9", "reply"]);
    assert_eq!(
        t.desk.told(),
        ["slack:T1:C1:U: This could not be done (Slack did not answer), so nothing was changed. Please try again."]
    );
}

// --- crashes

#[tokio::test]
async fn killed_after_the_press_was_kept_and_before_it_was_carried_out() {
    let mut t = Team::new(approvers(&[], &["slack:T1:S1"])).await;
    t.desk.group("slack:T1:S1", &["slack:T1:UBOB"]);
    t.ann_says(THREAD, "ship v1").await;
    let (log, act) = (t.key(), t.approve(THREAD).await);
    t.desk.stick_at(Some("groups"));
    assert_eq!(t.keep(&log, bob(), act.clone()).await, Answer::Accepted);
    t.desk.someone_is_stuck().await;
    t.w.crash().await;
    t.desk.stick_at(None);
    assert_eq!(t.w.outside.ledger(), Vec::<String>::new());
    t.settle().await;
    assert_eq!(t.desk.told(), ["slack:T1:C1:U: You approved \"ship v1\"."]);
    assert_eq!(t.w.outside.ledger(), ["v1"]);
    assert_eq!(t.keep(&log, bob(), act).await, Answer::Duplicate);
}

#[tokio::test]
async fn killed_between_the_vote_and_the_end_of_the_intent() {
    let mut t = Team::of_bob().await;
    t.ann_says(THREAD, "ship v1").await;
    let (log, act) = (t.key(), t.approve(THREAD).await);
    t.desk.stick_at(Some("reply"));
    t.keep(&log, bob(), act).await;
    t.desk.someone_is_stuck().await;
    t.until(THREAD, |thread| thread.status() == Status::Done).await;
    t.desk.told();
    t.w.crash().await;
    t.desk.stick_at(None);
    t.settle().await;
    let told = t.desk.told();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("slack:T1:C1:U: Already approved by bob"), "{told:?}");
    assert_eq!(t.w.outside.ledger(), ["v1"]);
    let votes = t.w.log(THREAD).await.iter().filter(|e| e.body.name() == "vote_cast").count();
    assert_eq!(votes, 1);
}

#[tokio::test]
async fn a_vote_that_waits_for_others_counts_once_over_a_crash_and_the_person_is_told_that_it_counts() {
    let mut t = Team::new(Approvers { quorum: 2, ..approvers(&["*"], &[]) }).await;
    t.ann_says(THREAD, "ship v1").await;
    let (log, act) = (t.key(), t.approve(THREAD).await);
    t.desk.stick_at(Some("reply"));
    t.keep(&log, bob(), act).await;
    t.desk.someone_is_stuck().await;
    t.desk.told();
    t.w.crash().await;
    t.desk.stick_at(None);
    t.settle().await;
    assert_eq!(t.desk.told(), ["slack:T1:C1:U: You already approved this; it waits for someone else."]);
    let done = t.w.log(log.as_str()).await.into_iter().find_map(|e| match e.body {
        Body::IntentHandled { done, .. } => Some(done),
        _ => None,
    });
    assert_eq!((done, t.w.pending(THREAD).await.votes.len()), (Some(true), 1));
}

#[tokio::test]
async fn killed_between_the_first_message_and_the_end_of_a_start_there_is_one_task() {
    let mut t = Team::of_bob().await;
    let (log, place) = (t.key(), "slack:T1:C9".to_owned());
    let act = Act::Start { agent: "tester".into(), text: "ship v1".into(), place, about: None };
    t.desk.stick_at(Some("reply"));
    t.keep(&log, ann(), act).await;
    t.desk.someone_is_stuck().await;
    t.desk.told();
    t.w.crash().await;
    t.desk.stick_at(None);
    t.settle().await;
    assert_eq!(t.desk.told(), ["slack:T1:C1:U: Started: tester is on it and answers in its own thread."]);
    let thread = format!("slack:T1:C9:{}", log.short());
    let messages = t.w.log(&thread).await.iter().filter(|e| e.body.name() == "message_received").count();
    assert_eq!(messages, 1);
}

#[tokio::test]
async fn a_stop_that_is_carried_out_again_after_a_crash_does_not_stop_what_was_begun_since() {
    let mut t = Team::of_bob().await;
    t.ann_says(THREAD, "ship v1").await;
    let target = Target::Thread { thread: t.w.thread(THREAD).await.short };
    let log = t.key();
    t.desk.stick_at(Some("reply"));
    t.keep(&log, ann(), Act::Steer { what: Steer::Stop, target }).await;
    t.desk.someone_is_stuck().await;
    t.desk.told();
    let id: ThreadId = THREAD.parse().unwrap();
    t.w.runtime.message(&id, "tester", Said::by(ann(), "ship v2")).await.unwrap();
    t.w.crash().await;
    t.desk.stick_at(None);
    t.settle().await;
    assert_eq!(t.desk.told(), ["slack:T1:C1:U: Stopped: nothing more will run."]);
    assert_eq!(t.w.pending(THREAD).await.title, "ship v2");
}

#[tokio::test]
async fn killed_while_what_came_with_a_message_is_fetched_it_is_fetched_again_before_the_model_is_asked() {
    let mut t = Team::of_bob().await;
    t.desk.0.files.lock().unwrap().insert("a.log".into(), "disk full".into());
    let attached = ["a.log", "b.log"].map(|n| Attached::File { name: n.into(), place: "F1".into() }).to_vec();
    let id: ThreadId = THREAD.parse().unwrap();
    t.desk.stick_at(Some("gather"));
    t.w.runtime.message(&id, "tester", Said { attached, ..Said::by(ann(), "look") }).await.unwrap();
    t.desk.someone_is_stuck().await;
    assert_eq!(t.w.names(THREAD).await, ["thread_started", "message_received"], "the model waits");
    assert_eq!(t.w.thread(THREAD).await.status(), Status::Running);
    t.w.crash().await;
    t.desk.stick_at(None);
    t.settle().await;
    let names = t.w.names(THREAD).await;
    assert_eq!(names[..4], ["thread_started", "message_received", "gathered", "model_replied"]);
    let window = t.w.thread(THREAD).await.window.render();
    assert_eq!(window.matches("<attached").count(), 2, "{window}");
    assert!(window.contains("<attached name=\"the file a.log\" untrusted=\"yes\">\ndisk full\n"), "{window}");
    assert!(window.contains("<attached name=\"the file b.log\">\ncould not be read: it is gone\n"), "{window}");
}

#[tokio::test]
async fn a_stop_calls_back_what_is_being_fetched() {
    let t = Team::of_bob().await;
    let attached = vec![Attached::File { name: "a.log".into(), place: "F1".into() }];
    let id: ThreadId = THREAD.parse().unwrap();
    t.desk.stick_at(Some("gather"));
    t.w.runtime.message(&id, "tester", Said { attached, ..Said::by(ann(), "look") }).await.unwrap();
    t.desk.someone_is_stuck().await;
    let target = Target::Thread { thread: id.short() };
    assert_eq!(t.does(ann(), Act::Steer { what: Steer::Stop, target }).await, "Stopped: nothing more will run.");
    assert_eq!(t.w.names(THREAD).await, ["thread_started", "message_received", "stopped"]);
    assert_eq!(t.w.runtime.in_flight(), 0);
}

// --- the logs themselves

#[tokio::test]
async fn records_of_presses_are_in_no_list_of_threads_unless_asked_for() {
    let t = Team::of_bob().await;
    t.ann_says(THREAD, "ask me").await;
    let question = *t.w.thread(THREAD).await.questions.first_key_value().unwrap().0;
    t.does(ann(), Act::Answer { question, text: "left".into() }).await;
    let store = &t.w.runtime.parts().store;
    let names = async |filter: Filter| {
        let page = store.list(&filter, None, 100).await.unwrap();
        page.items.iter().map(|s| s.thread.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(Filter::default()).await, [THREAD]);
    assert_eq!(names(Filter { status: Some(Status::Done), ..Filter::default() }).await, [THREAD]);
    assert_eq!(
        names(Filter {
            requester: Some(twelve::store::Person::of(&ann(), &[], &twelve::agent::People::default())),
            ..Filter::default()
        })
        .await,
        [THREAD]
    );
    let mut all = names(Filter::everything()).await;
    all.sort();
    assert_eq!(all, [THREAD, "system:slack:T1:k1"]);
    let runs = t.w.runtime.parts().metrics.scrape(&twelve::metrics::Sampled::default());
    assert!(!runs.contains("agent=\"\""), "{runs}");
}

#[tokio::test]
async fn records_of_presses_are_forgotten_after_their_time_and_not_before_nor_those_that_are_open() {
    let settings = twelve::runtime::Settings { keep_intents_ms: 0, ..Setup::default().settings };
    let t = Team::with(approvers(&["*"], &[]), Setup { settings, ..Setup::default() }).await;
    t.ann_says(THREAD, "ask me").await;
    let question = *t.w.thread(THREAD).await.questions.first_key_value().unwrap().0;
    let answer = Act::Answer { question, text: "left".into() };
    let (old, stuck) = (t.key(), t.key());
    t.does_as(&old, ann(), answer.clone()).await;
    let later = PostError { message: "down".into(), transient: true, retry_after_ms: None };
    *t.desk.0.open_fails.lock().unwrap() = vec![later; 4];
    let start = Act::Start { agent: "tester".into(), text: "hi".into(), place: "slack:T1:C9".into(), about: None };
    t.keep(&stuck, ann(), start).await;
    t.settle().await;
    let forget = async || t.w.runtime.forget_intents().await.unwrap();
    // However short they are to be kept: a second delivery a day later has to find them.
    t.w.clock.advance_ms(DAY + 3_600_000);
    assert_eq!(forget().await, 0);
    assert_eq!(t.keep(&old, ann(), answer.clone()).await, Answer::Duplicate);
    t.w.clock.advance_ms(2 * 3_600_000);
    assert_eq!(forget().await, 1);
    let store = &t.w.runtime.parts().store;
    assert!(matches!(store.load(old.short(), 0).await, Err(StoreError::Unknown(_))), "no tombstone either");
    assert_eq!(t.w.thread(stuck.as_str()).await.version, 1, "what is still to be done stays");
    assert!(t.w.thread(THREAD).await.version > 0);
    assert!(matches!(
        t.w.runtime.deliver(old.short(), Input::Tick).await,
        Err(DeliverError::Store(StoreError::Unknown(_)))
    ));
    assert_eq!(forget().await, 0);
}
