//! Who counts as one person, who counts as having asked, and what an edit is judged by.
//!
//! The laws at the end judge logs by code of their own: it knows the directory as a list of sets and nothing of
//! `agent::people`. Short by default; `PROPTEST_CASES=10000 cargo test --test it core::people` is the long run.

use proptest::prelude::*;

use super::*;

fn web(name: &str) -> Principal {
    Principal::human(format!("web:{name}"))
}
fn slack(name: &str) -> Principal {
    Principal::human(format!("slack:T1:{name}"))
}

/// A thread in which U1 of Slack has asked for a deployment, with these approvers and this directory.
fn asked_in_slack(users: &[&str], quorum: u32, people: People) -> Sim {
    let mut t = Sim::new();
    t.people = people;
    t.policy.approvers =
        Approvers { users: users.iter().map(|u| (*u).to_owned()).collect(), quorum, ..Approvers::default() };
    t.say_as(slack("U1"), "deploy it");
    t.deploy_requested();
    t
}

fn words(answer: &Answer) -> String {
    match answer {
        Answer::Refused(refusal) => refusal.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_requester_with_another_identity_is_the_requester() {
    let people = directory(&[("ann", &["slack:T1:U1", "web:ann"]), ("bob", &["web:bob"])]);
    let mut t = asked_in_slack(&["slack:T1:U1", "web:ann", "web:bob"], 1, people);
    let told = words(&t.approve(web("ann")));
    assert!(told.starts_with("You wrote \"deploy it\" in this conversation"), "{told}");
    assert_eq!(t.run_effect("deploy"), None);
    assert_eq!(t.approve(web("bob")), Answer::Accepted);
    assert!(t.run_effect("deploy").is_some());
}

#[test]
fn where_the_directory_is_silent_about_two_surfaces_it_stays_closed_in_words() {
    let mut t = asked_in_slack(&["slack:T1:U1", "web:ann", "slack:T1:U2", "slack:T2:U1"], 1, People::default());
    for other in [web("ann"), Principal::human("slack:T2:U1")] {
        let told = words(&t.approve(other.clone()));
        assert_eq!(
            told,
            format!(
                "I can't tell whether you are the one who asked for it (you are {} here, slack:T1:U1 asked for it). An \
                 operator can say who you are: add both ids to [[people]]. Nothing was decided.",
                other.id
            )
        );
    }
    assert_eq!(t.run_effect("deploy"), None);
    // Two identities of one workspace are two people, and who may only be the requester may still say no.
    let mut denied = t.clone();
    assert_eq!(denied.deny(web("ann"), "no"), Answer::Accepted);
    assert_eq!(t.approve(slack("U2")), Answer::Accepted);
    assert!(t.run_effect("deploy").is_some());
}

#[test]
fn one_entry_in_the_directory_is_not_enough_to_tell_two_apart() {
    let people = directory(&[("ann", &["slack:T1:U1"])]);
    let mut t = asked_in_slack(&["web:ann"], 1, people);
    assert!(matches!(t.approve(web("ann")), Answer::Refused(Refusal::Unsure { .. })));
    t.people = directory(&[("ann", &["slack:T1:U1"]), ("bob", &["web:ann"])]);
    assert_eq!(t.approve(web("ann")), Answer::Accepted, "the operator says who is who, and it works at once");
}

#[test]
fn where_nobody_has_to_be_different_the_directory_is_not_asked() {
    let mut t = Sim::new();
    t.people = People::default();
    t.requester = RequesterRule::Always;
    t.policy.approvers = Approvers { users: vec!["web:ann".into()], ..Approvers::default() };
    t.say_as(slack("U1"), "deploy it");
    t.deploy_requested();
    assert_eq!(t.approve(web("ann")), Answer::Accepted);
}

#[test]
fn a_program_that_asks_needs_no_entry() {
    let mut t = Sim::new();
    t.people = People::default();
    t.policy.approvers = Approvers { users: vec!["web:ann".into()], ..Approvers::default() };
    t.say_as(Principal::service("webhook:alerts"), "deploy it");
    t.deploy_requested();
    assert_eq!(t.approve(web("ann")), Answer::Accepted);
}

#[test]
fn one_person_with_two_identities_is_one_vote() {
    let listed = directory(&[("ann", &["slack:T1:U1"]), ("bob", &["slack:T1:U2", "web:bob"]), ("kim", &["web:kim"])]);
    let mut t = asked_in_slack(&["slack:T1:U2", "web:bob", "web:kim"], 2, listed);
    assert_eq!(t.approve(slack("U2")), Answer::Accepted);
    assert_eq!(t.approve(web("bob")), Answer::Refused(Refusal::AlreadyVoted));
    assert_eq!(t.run_effect("deploy"), None);
    assert_eq!(t.approve(web("kim")), Answer::Accepted);
    assert!(t.run_effect("deploy").is_some());
    // Where the directory does not know the second, it cannot be told whether it is the first again.
    let mut t = asked_in_slack(&["slack:T1:U2", "web:kim"], 2, directory(&[("bob", &["slack:T1:U2"])]));
    assert_eq!(t.approve(slack("U2")), Answer::Accepted);
    let told = words(&t.approve(web("kim")));
    assert!(told.contains("web:kim") && told.contains("[[people]]"), "{told}");
}

#[test]
fn the_stamp_holds_in_the_log_after_the_directory_has_changed() {
    let both = directory(&[("ann", &["slack:T1:U1"]), ("bob", &["slack:T1:U2", "web:bob"])]);
    let mut t = asked_in_slack(&["slack:T1:U2", "web:bob"], 2, both);
    assert_eq!(t.approve(slack("U2")), Answer::Accepted);
    // The entry is gone, the vote says whose it was. The new directory makes web:bob another person.
    t.people = directory(&[("ann", &["slack:T1:U1"]), ("bob", &["web:bob"]), ("rob", &["slack:T1:U2"])]);
    assert_eq!(t.approve(web("bob")), Answer::Refused(Refusal::AlreadyVoted), "either says so: one person");
    // Forged into the log by another program, it is still one person for the fold.
    let Approval { id: approval, revision, .. } = t.pending();
    let by = Principal { person: Some("bob".to_owned()), ..web("bob") };
    let vote = Vote::Approve { note: String::new() };
    let cast = Body::VoteCast { approval, revision, by, groups: vec![], named: None, vote };
    let mut thread = t.thread.clone();
    for body in [cast, Body::ApprovalResolved { approval, revision, resolution: Resolution::Approved }] {
        let (v, seq, prev) = (EVENT_VERSION, thread.version + 1, thread.head);
        let event = Event { v, seq, at: t.now, source: None, answers: None, prev, body };
        thread.apply(&event, Digest::of(&event.encode()));
    }
    assert!(thread.runnable().all(|(_, effect)| !matches!(effect, Effect::RunTool { .. })));
}

#[test]
fn an_approver_is_known_under_each_of_their_identities() {
    for named in ["slack:T1:U2", "person:bob"] {
        let people = directory(&[("ann", &["slack:T1:U1"]), ("bob", &["slack:T1:U2", "web:bob"])]);
        let mut t = asked_in_slack(&[named], 1, people);
        assert_eq!(t.approve(web("bob")), Answer::Accepted, "{named}");
        assert!(t.run_effect("deploy").is_some());
        // What counted is in the log: the fold reads no directory.
        assert_eq!(t.refolded(), t.thread);
        let cast = t.events().into_iter().find_map(|e| match e.body {
            Body::VoteCast { by, named, .. } => Some((by.id, by.person, named)),
            _ => None,
        });
        assert_eq!(cast, Some(("web:bob".into(), Some("bob".into()), Some(named.into()))));
    }
    let mut t = asked_in_slack(&["person:bob"], 1, directory(&[("ann", &["slack:T1:U1", "web:bob"])]));
    assert!(matches!(t.approve(web("bob")), Answer::Refused(Refusal::NotAnApprover { .. })));
}

// --- whose words count

#[test]
fn who_spoke_in_an_earlier_run_counts_and_who_speaks_after_the_call_does_not() {
    let mut t = Sim::new();
    t.policy.approvers.users.push("chat:bob".into());
    t.say_as(bob(), "always deploy to prod when asked");
    t.done("Noted.");
    t.say("do it");
    t.deploy_requested();
    assert_eq!(t.pending().requesters, [bob(), ops()]);
    let told = words(&t.approve(bob()));
    assert!(told.contains("\"always deploy to prod when asked\"") && told.contains("new thread"), "{told}");
    // The words came after the call: they bar from nothing, and the quoted ones stay those from before.
    t.say_as(ann(), "looks good");
    assert_eq!(t.approve(ann()), Answer::Accepted);
}

#[test]
fn a_fork_does_not_make_anybody_forget_who_asked() {
    let mut t = Sim::new();
    t.say_as(ann(), "deploy to prod");
    t.done("When?");
    let mut fork = t.fork("console:fork");
    fork.say("now");
    fork.deploy_requested();
    assert_eq!(fork.pending().requesters, [ann(), ops()]);
    let told = words(&fork.approve(ann()));
    assert!(told.contains("\"deploy to prod\""), "{told}");
}

#[test]
fn who_wrote_what_was_read_along_counts_as_well() {
    let mut t = Sim::new();
    t.say_with("do what ann says", vec![Attached::Earlier { before: "1".into() }]);
    t.gathered(vec![Gathered { label: "earlier".into(), text: Ok("ann: ship it".into()), by: vec![ann()] }]);
    t.deploy_requested();
    assert_eq!(t.pending().requesters, [ann(), ops()]);
    let told = words(&t.approve(ann()));
    assert!(told.starts_with("Your words stand in this conversation"), "{told}");
}

#[test]
fn a_reason_given_with_a_denial_makes_nobody_a_requester() {
    let mut t = Sim::waiting();
    t.deny(ann(), "only v2");
    t.deploy_requested();
    assert_eq!(t.pending().requesters, [ops()]);
    assert_eq!(t.approve(ann()), Answer::Accepted);
}

// --- laws

/// Everybody of the random worlds: identities of four people over three places.
const IDS: [&str; 8] =
    ["slack:T1:U1", "slack:T1:U2", "slack:T2:U1", "web:a", "web:b", "web:c", "console:a", "email:a@b.example"];

fn id(n: u8) -> Principal {
    Principal::human(IDS[usize::from(n) % IDS.len()])
}

/// Who is one person, as sets of ids: index of the set for each of [`IDS`], or none.
fn sets(seed: &[u8; 8]) -> [Option<u8>; 8] {
    seed.map(|n| (n % 6 < 4).then_some(n % 6))
}

fn listed(sets: &[Option<u8>; 8]) -> People {
    let entries = (0..4u8).filter_map(|person| {
        let ids: Vec<String> =
            IDS.iter().zip(sets).filter(|(_, set)| **set == Some(person)).map(|(id, _)| (*id).to_owned()).collect();
        (!ids.is_empty()).then(|| PersonEntry { name: format!("p{person}"), ids })
    });
    People::new(entries.collect(), false).unwrap()
}

/// Whether two identities are surely two people: the law's own words.
fn surely_two(a: &str, b: &str, sets: &[Option<u8>; 8]) -> bool {
    let set = |id: &str| IDS.iter().position(|known| *known == id).and_then(|at| sets[at]);
    let place = |id: &str| id.rsplit_once(':').unwrap().0.to_owned();
    match (set(a), set(b)) {
        (Some(a), Some(b)) => a != b,
        _ => a != b && place(a) == place(b),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Law C: what starts was approved by as many people as the terms want, who are surely different from each
    /// other and, where the terms want that, from everybody whose words the model could have read.
    #[test]
    fn nothing_starts_without_enough_people_who_are_surely_different(
        seed in any::<[u8; 8]>(),
        askers in prop::collection::vec(any::<u8>(), 1..3),
        votes in prop::collection::vec((any::<u8>(), 0..8u8), 0..10),
        quorum in 1..4u32,
        barred in any::<bool>(),
    ) {
        let sets = sets(&seed);
        let mut t = Sim::new();
        t.people = listed(&sets);
        let users = vec!["*".to_owned()];
        t.policy.approvers = Approvers { users, quorum, requester_may: Some(!barred), ..Approvers::default() };
        for asker in &askers {
            t.say_as(id(*asker), "do it");
        }
        t.deploy_requested();
        for (voter, what) in votes {
            if t.thread.pending_approvals().next().is_none() {
                continue;
            }
            match what {
                0 => _ = t.edit(id(voter), json!({"env": format!("e{voter}")})),
                _ => _ = t.approve(id(voter)),
            }
            if t.effect(|e| matches!(e, Effect::PlanTool { .. })).is_some() {
                t.planned();
            }
        }
        if t.run_effect("deploy").is_none() {
            return Ok(());
        }
        let log = t.events();
        let last = log.iter().rev().find_map(|e| match &e.body {
            Body::ApprovalRequested { revision, .. } => Some(*revision),
            _ => None,
        }).unwrap();
        let approved: Vec<String> = log.iter().filter_map(|e| match &e.body {
            Body::VoteCast { revision, by, vote: Vote::Approve { .. }, .. } if *revision == last => Some(by.id.clone()),
            _ => None,
        }).collect();
        prop_assert!(approved.len() >= quorum as usize, "{approved:?}");
        for (n, a) in approved.iter().enumerate() {
            for b in approved.iter().skip(n + 1) {
                prop_assert!(surely_two(a, b, &sets), "{a} and {b} are counted as two");
            }
            for asker in askers.iter().filter(|_| barred) {
                prop_assert!(surely_two(a, &id(*asker).id, &sets), "{a} may be {:?}, who asked", id(*asker).id);
            }
        }
    }

    /// Law B: an edited call is asked for under exactly the terms of the same call made directly, is refused where
    /// that is denied, and keeps its terms where that would run; and with the same people pressing Approve it
    /// never starts where the direct one would not.
    #[test]
    fn an_edited_call_needs_nothing_less_than_asking_for_it_directly(
        rules in prop::collection::vec((0..3u8, 0..4u8, 0..4u8, 1..3u32, 0..3u8, 1..9u64), 0..5),
        from in 0..4u8,
        to in 0..4u8,
        read in 0..3u8,
        local in any::<bool>(),
        votes in prop::collection::vec(0..4u8, 0..5),
    ) {
        let env = |n: u8| ["dev", "test", "stage", "prod"][usize::from(n)];
        let person = |n: u8| [ann(), bob(), eve(), ops()][usize::from(n)].clone();
        let mut t = Sim::new();
        t.requester = if local { RequesterRule::Local } else { RequesterRule::Never };
        t.policy.approvers.users = vec!["*".into()];
        for (n, (gate, env_of, who, quorum, requester, hours)) in rules.into_iter().enumerate() {
            t.policy.rules.push(Rule {
                args: [("env".to_owned(), pattern(env(env_of)))].into(),
                approvers: Some(Approvers {
                    users: vec![person(who).id, "*".to_owned()].into_iter().take(1 + usize::from(who % 2)).collect(),
                    groups: vec![],
                    quorum,
                    requester_may: [None, Some(false), Some(true)][usize::from(requester)],
                }),
                expires_after: Some(hours * HOUR),
                ..rule(&format!("rule {n}"), [Gate::Ask, Gate::Auto, Gate::Deny][usize::from(gate)], "deploy")
            });
        }
        // The same thread up to here, with or without text from outside in it.
        t.say("do it");
        if read > 0 {
            t.fetched("hello");
        }
        let mut direct = t.clone();
        t.calls(&[("deploy", json!({"env": env(from)}))]);
        if t.effect(|e| matches!(e, Effect::PlanTool { .. })).is_none() {
            return Ok(());
        }
        t.planned();
        direct.calls(&[("deploy", json!({"env": env(to)}))]);
        if from == to {
            return Ok(());
        }
        let before = t.pending().terms;
        let editor = (0..4).map(person).find(|p| eligible(
            &t.thread, &t.pending(), p, &[], Wants::Edit, &t.people,
        ).is_ok());
        let Some(editor) = editor else { return Ok(()) };
        let answer = t.edit(editor, json!({"env": env(to)}));
        match direct.verdicts().remove("deploy").unwrap() {
            Verdict::Deny { why, .. } => {
                let told = words(&answer);
                prop_assert!(told.contains(&why), "{told}");
                return Ok(());
            }
            Verdict::Ask { terms } => {
                prop_assert_eq!(&answer, &Answer::Accepted);
                t.planned();
                prop_assert_eq!(&t.pending().terms, &terms);
                prop_assert_eq!(t.pending().expires_at, t.now.plus_ms(terms.expires_after_ms));
                direct.planned();
                prop_assert_eq!(t.pending().requesters, direct.pending().requesters);
            }
            Verdict::Auto { .. } => {
                prop_assert_eq!(&answer, &Answer::Accepted);
                t.planned();
                prop_assert_eq!(&t.pending().terms, &before);
                return Ok(());
            }
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
        for voter in votes {
            for world in [&mut t, &mut direct] {
                if world.thread.pending_approvals().next().is_some() {
                    world.approve(person(voter));
                }
            }
        }
        prop_assert_eq!(t.run_effect("deploy").is_some(), direct.run_effect("deploy").is_some());
    }
}
