//! Values that only look like secrets: people are asked, exactly that value passes, a real card shows it.

use super::*;

/// Looks like a token, and is made up here so that no scanner takes this file for a leak.
fn token() -> String {
    format!("{}_{}", "ghp", "a1B2c3D4e5F6".repeat(3))
}

fn deploys() -> Value {
    json!({"env": "staging", "headers": {"X-Note": token()}})
}

fn cause(t: &Sim) -> Doubt {
    match &t.thread.questions[&t.question()].cause {
        QuestionCause::LooksSecret { doubt } => (**doubt).clone(),
        other => panic!("{other:?}"),
    }
}

/// Everything that is in the log and what a model would be shown, as text.
fn everything(t: &Sim) -> String {
    format!("{}\n{:?}", String::from_utf8(t.log.concat()).unwrap(), t.thread)
}

/// A person has written, and the model made a call whose argument looks like a secret.
fn doubted() -> Sim {
    let mut t = Sim::asked();
    t.calls(&[("deploy", deploys())]);
    t
}

#[test]
fn people_see_which_argument_and_which_pattern_and_never_the_value() {
    let t = doubted();
    insta::assert_snapshot!(t.thread.questions[&t.question()].text, @r#"In a call of `deploy`, `headers.X-Note` (github token) looks like a secret. The call was not made. The value was not kept, so it can't be shown here. If it is not one, press "Not a secret": exactly this value then passes in this conversation. The agent makes the call again, and its card shows the whole value before anything runs. Who may say so: @release, ann, ops (1 needed, not the requester)."#);
    assert_eq!(
        t.thread.questions[&t.question()].answer,
        AnswerKind::Choice { choices: vec!["Not a secret".into(), "It is a secret".into(), "stop".into()] }
    );
    assert_eq!(t.thread.status(), Status::WaitingAnswer);
    assert!(
        t.runnable().iter().all(|effect| !effect.contains("model") && !effect.contains("deploy")),
        "{:?}",
        t.runnable()
    );
    assert!(!everything(&t).contains(&token()) && everything(&t).contains("staging"), "{}", everything(&t));
}

#[test]
fn after_not_a_secret_the_call_is_made_again_and_a_real_card_shows_the_whole_value() {
    let mut t = doubted();
    assert_eq!(t.reply(ann(), "not a secret"), Answer::Accepted);
    assert!(!everything(&t).contains(&token()));
    let told = format!("{:?}", t.thread.window.entries().last());
    assert!(told.contains("is not a secret: `headers.X-Note` (github token). Make the call of deploy again"), "{told}");
    // It survives a restart: the log alone says so.
    let passes = t.refolded().settled.passes;
    assert_eq!(passes.len(), 1);
    t.calls(&[("deploy", deploys())]);
    t.planned();
    assert_eq!(t.pending().args, deploys());
    // Who pressed it has told the agent nothing, and may decide.
    assert_eq!(t.approve(ann()), Answer::Accepted);
    t.runs("deploy");
}

#[test]
fn exactly_that_value_passes_and_only_in_that_thread() {
    let mut t = doubted();
    t.reply(ann(), "Not a secret");
    let mut fork = t.fork("console:fork");
    t.calls(&[("deploy", json!({"env": "staging", "headers": {"X-Note": token() + "x"}}))]);
    assert_eq!(cause(&t).suspects[0].argument, "headers.X-Note");
    assert!(t.thread.pending_approvals().next().is_none());
    fork.say("go on");
    fork.calls(&[("deploy", deploys())]);
    assert_eq!(cause(&fork).tool, "deploy");
}

#[test]
fn who_may_say_so_are_those_who_could_decide_the_call() {
    let mut t = doubted();
    let before = t.log.len();
    assert_eq!(t.reply(robot(), "Not a secret"), Answer::Refused(Refusal::NotAPerson));
    assert!(matches!(t.reply(eve(), "Not a secret"), Answer::Refused(Refusal::NotAnApprover { .. })));
    // ops is an approver and asked for it.
    assert!(matches!(t.reply(ops(), "Not a secret"), Answer::Refused(Refusal::Requester { .. })));
    assert_eq!(t.log.len(), before, "nothing of that is in the log");
    let (question, groups) = (t.question(), vec!["release".to_owned()]);
    let answer = Input::Answer { question, by: eve(), groups, text: "Not a secret".into(), source: None };
    assert_eq!(t.feed(answer), Answer::Accepted, "by her group");
    assert_eq!(t.thread.settled.passes.len(), 1);
}

#[test]
fn the_fold_lets_nothing_pass_for_an_answer_of_somebody_who_may_not() {
    let mut t = doubted();
    let (question, by) = (t.question(), eve());
    let body = Body::QuestionAnswered { question, by, groups: Vec::new(), named: None, text: "Not a secret".into() };
    let event = Event {
        v: EVENT_VERSION,
        seq: t.thread.version + 1,
        at: t.now,
        source: None,
        answers: None,
        prev: t.thread.head,
        body,
    };
    let digest = Digest::of(&event.encode());
    t.thread.apply(&event, digest);
    assert!(t.thread.settled.passes.is_empty());
}

#[test]
fn a_secret_stays_out_and_is_not_asked_about_again_until_somebody_writes() {
    let mut t = doubted();
    // Anybody may say that something is a secret.
    assert_eq!(t.reply(eve(), "It is a secret"), Answer::Accepted);
    t.calls(&[("deploy", deploys())]);
    assert!(t.thread.questions.is_empty(), "{:?}", t.thread.questions);
    let told = format!("{:?}", t.thread.window.entries().last());
    assert!(told.contains("a person said that this is a secret: `headers.X-Note`"), "{told}");
    t.say("I pressed the wrong button, try again");
    t.calls(&[("deploy", deploys())]);
    assert_eq!(cause(&t).place, Where::Call);
    assert!(!everything(&t).contains(&token()));
}

#[test]
fn a_secret_of_the_installation_is_never_asked_about_and_never_passes() {
    let mut t = Sim::asked();
    t.calls(&[("deploy", json!({"env": "staging", "note": format!("{CONFIGURED} and {}", token())}))]);
    assert!(t.thread.questions.is_empty());
    let told = format!("{:?}", t.thread.window.entries().last());
    assert!(told.contains("hold a secret of this installation: `note` (configured secret)"), "{told}");
    assert!(!everything(&t).contains(CONFIGURED) && !everything(&t).contains(&token()));
}

#[test]
fn without_a_key_the_call_is_refused_and_the_argument_named() {
    let mut t = Sim::asked();
    t.secrets = SecretFilter::default();
    t.calls(&[("deploy", deploys())]);
    assert!(t.thread.questions.is_empty());
    assert!(!everything(&t).contains(&token()));
}

#[test]
fn a_call_that_would_run_by_itself_asks_once_such_a_value_passes() {
    let mut t = Sim::asked();
    let args = json!({"path": "x", "password": "hunter2-hunter3"});
    t.calls(&[("look", args.clone())]);
    assert_eq!(cause(&t).suspects[0].argument, "password");
    t.reply(ann(), "Not a secret");
    t.calls(&[("look", args.clone())]);
    let waits = t.pending();
    assert_eq!(
        (&waits.args, waits.terms.rule.as_str()),
        (&args, "a value that looked like a secret is shown before it is used")
    );
    assert!(t.run_effect("look").is_none(), "people see it first");
    // The same tool without it runs as ever.
    assert_eq!(t.deny(ann(), "no"), Answer::Accepted);
    t.calls(&[("look", json!({"path": "y"}))]);
    t.runs("look");
}

#[test]
fn later_calls_of_the_reply_do_not_run_and_a_denied_call_is_not_asked_about() {
    let mut t = Sim::asked();
    t.calls(&[("note", json!({"text": format!("password: {}", "hunter2")})), ("ping", json!({}))]);
    assert!(t.run_effect("ping").is_none(), "the one before it was not made");
    assert_eq!(cause(&t).tool, "note");
    let mut t = Sim::asked();
    t.calls(&[("deploy", json!({"env": "moon", "password": "hunter2"}))]);
    assert!(t.thread.questions.is_empty());
    assert!(matches!(t.verdicts()["deploy"], Verdict::Deny { .. }));
    assert!(!everything(&t).contains("hunter2"));
}

#[test]
fn a_change_of_a_request_is_asked_about_and_made_again() {
    let mut t = Sim::waiting();
    let changed = json!({"env": "prod", "password": "hunter2"});
    let answer = t.edit(ann(), changed.clone());
    let Answer::Refused(refusal @ Refusal::LooksSecret { .. }) = answer else { panic!("{answer:?}") };
    insta::assert_snapshot!(refusal.to_string(), @r#"These arguments can't be used: `password` (assigned secret) looks like a secret. Secrets never pass through here. If it is not one, answer the question in the conversation with "Not a secret" and make the change again."#);
    assert_eq!((cause(&t).place, t.thread.questions.len()), (Where::Edit, 1));
    t.edit(ann(), changed.clone());
    assert_eq!(t.thread.questions.len(), 1, "asked once");
    assert!(!everything(&t).contains("hunter2"));
    assert_eq!(t.reply(ann(), "Not a secret"), Answer::Accepted);
    assert_eq!(t.edit(ann(), changed.clone()), Answer::Accepted);
    t.planned();
    assert_eq!(t.pending().args, changed);
    // Decided: a question about another change of it is open no more.
    t.edit(ann(), json!({"env": "prod", "password": "hunter3"}));
    assert_eq!(t.thread.questions.len(), 1);
    t.deny(ann(), "no");
    assert!(t.thread.questions.is_empty());
}

#[test]
fn a_plan_with_such_a_value_is_asked_about_and_passes_afterwards() {
    let mut t = Sim::asked();
    t.plan = format!("token {}", token());
    t.deploy_requested();
    assert_eq!((cause(&t).place, cause(&t).suspects[0].argument.as_str()), (Where::Plan, "now"));
    assert!(!everything(&t).contains(&token()));
    t.reply(ann(), "Not a secret");
    t.deploy_requested();
    assert_eq!(t.pending().plan.unwrap().facts, json!({"now": t.plan}));
}

#[test]
fn what_stands_in_place_of_a_secret_is_no_value_for_a_call() {
    let mut t = Sim::asked();
    t.calls(&[("deploy", json!({"env": "prod", "key": "[secret removed: github token]"}))]);
    assert!(t.thread.questions.is_empty() && t.thread.pending_approvals().next().is_none());
    let told = format!("{:?}", t.thread.window.entries().last());
    assert!(told.contains("stands in place of a value that you cannot see"), "{told}");
    t.calls(&[("mail", json!({"text": "the log says [secret removed: github token] was used"}))]);
    assert_eq!(t.pending().tool, "mail", "quoting it among other words is fine");
}

#[test]
fn words_of_a_person_and_a_stop_take_the_questions_place() {
    let mut t = doubted();
    t.say("leave that header out");
    assert!(t.thread.questions.is_empty());
    let mut t = doubted();
    assert_eq!(t.reply(eve(), "stop"), Answer::Accepted);
    assert_eq!(t.thread.status(), Status::Stopped);
    // To stop says nothing of what the value is.
    assert!(t.thread.settled.secrets.is_empty() && t.thread.settled.passes.is_empty());
    assert!(!everything(&t).contains("says that this is a secret"), "{}", everything(&t));
}

#[test]
fn a_change_that_lost_a_value_on_its_way_is_refused() {
    let mut t = Sim::waiting();
    let version = t.thread.version;
    let lost = json!({"env": "prod", "note": "use [secret removed: aws key] here"});
    let Answer::Refused(refusal) = t.edit(ann(), lost) else { panic!("the changed text would run") };
    assert!(
        refusal.to_string().contains("stands in place") || refusal.to_string().contains("was taken out on the way")
    );
    assert_eq!(t.thread.version, version, "nothing was changed");
}

#[test]
fn only_a_question_about_a_secret_needs_a_newer_program() {
    let t = doubted();
    let events = t.events();
    let about = |event: &Event| matches!(&event.body, Body::QuestionAsked { .. });
    assert!(events.iter().all(|event| event.v == if about(event) { 2 } else { 1 }) && events.iter().any(about));
    let mut t = Sim::asked();
    t.ask(json!({"question": "Which?"}));
    assert!(t.events().iter().all(|event| event.v == 1));
}
