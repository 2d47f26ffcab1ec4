//! What people do in Slack with an agent, from the first word to the outcome, by HTTP and by Socket Mode.

use std::sync::Arc;

use tokio::sync::Semaphore;
use twelve::agent::*;

use crate::fakes::model::{Answer as Reply, FakeModel, Vendor};
use crate::slack_world::{Mode, SlackWorld};
use crate::world::*;

/// Each story in both modes.
macro_rules! stories {
    ($($name:ident)*) => {
        mod by_http {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Mode::Http).await;
            })*
        }
        mod by_socket {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Mode::Socket).await;
            })*
        }
    };
}

stories! {
    a_mention_is_looked_into_asked_about_approved_and_deployed_exactly_once
    a_denial_with_a_reason_reaches_the_card_and_the_agent
    an_edit_asks_anew_and_what_was_edited_is_what_runs
    a_stranger_who_presses_approve_is_told_who_may_and_nothing_runs
    the_requester_who_presses_approve_is_told_that_someone_else_has_to
    two_people_who_approve_at_once_deploy_once
    a_double_click_and_a_doubled_delivery_deploy_once
    a_click_after_expiry_is_told_so_and_ask_again_asks_anew
    a_click_on_a_card_from_before_a_crash_simply_works
    a_message_during_a_model_call_is_seen_before_anything_runs
    stop_in_the_thread_settles_the_card_and_nothing_runs
    a_stop_sign_on_the_bots_message_stops_the_run
    a_question_to_the_bot_that_comes_as_two_events_is_answered_once
    slash_commands_start_show_and_decide
    the_home_shows_what_waits_and_review_decides_it
    a_shortcut_on_a_message_starts_a_run_about_it
    the_global_shortcut_shows_what_waits
    several_calls_of_one_reply_are_one_card_with_a_row_each
    copies_for_different_approvers_show_each_their_own_and_no_button_stays
    a_question_is_answered_by_a_button_and_closed
    a_click_from_another_team_is_not_known_here
}

async fn a_mention_is_looked_into_asked_about_approved_and_deployed_exactly_once(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    let (root, card) = w.asked("v1.2.3").await;
    assert_eq!(w.world.outside.looks.load(std::sync::atomic::Ordering::SeqCst), 1, "the status is checked first");
    assert!(card.words().contains("version: v1.2.3"), "{}", card.words());
    assert!(card.words().contains("now v0 -> v1.2.3"), "{}", card.words());
    assert_eq!(w.world.outside.ledger(), Vec::<String>::new());

    w.bob().press(&card, "apr.approve").await;
    w.slack.posted("T1", "C1", "ship succeeded").await;
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), ["v1.2.3"]);
    let done = w.card(&card);
    assert!(done.words().contains("*Approved* by <@U2>"), "{}", done.words());
    assert!(done.words().contains("shipped v1.2.3"), "{}", done.words());
    assert!(done.actions().iter().all(|a| !a.starts_with("apr.")), "{:?}", done.actions());
    assert_eq!(w.slack.private("T1", "U2").await.words(), "You approved \"ship v1.2.3\".");
    // The card and the answer, and nothing twice.
    let thread = w.slack.thread("T1", "C1", &root);
    assert_eq!(thread.len(), 3, "{}", w.slack.describe());
    // The reaction is gone, and whoever looked saw that it waited for a person.
    let (bot, states) = w
        .slack
        .until("the end of the session", |s| {
            let team = &s.teams["T1"];
            let states: Vec<String> = team.sessions.iter().map(|(_, _, state)| state.clone()).collect();
            let reacted = team.messages.iter().any(|m| !m.reactions.is_empty());
            (!reacted && states.last().is_some_and(|s| s == "active")).then(|| (team.bot_user.clone(), states))
        })
        .await;
    assert!(states.contains(&"suspended".to_owned()), "{states:?}");
    assert_eq!(bot, "UBOTT1");
    // One mention is one message, though it came as two events; the bot's own messages came back and are none.
    let names = w.world.names(&SlackWorld::thread(&root)).await;
    assert_eq!(names.iter().filter(|n| **n == "message_received").count(), 1, "{names:?}");
}

async fn a_denial_with_a_reason_reaches_the_card_and_the_agent(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    let (_, card) = w.asked("v2").await;
    w.bob().press(&card, "apr.deny").await;
    let modal = w.slack.modal("T1", "U2").await;
    assert_eq!(modal.callback(), "deny");
    assert!(w.bob().submit(&modal, &[("reason", "a freeze is on")]).await.closed);
    w.slack.posted("T1", "C1", "it was not done").await;
    w.settle().await;
    let done = w.card(&card);
    assert!(done.words().contains("Denied") && done.words().contains("a freeze is on"), "{}", done.words());
    assert!(done.actions().iter().all(|a| !a.starts_with("apr.")), "{:?}", done.actions());
    assert!(w.slack.private("T1", "U2").await.words().contains("You denied \"ship v2\""));
    assert_eq!(w.world.outside.ledger(), Vec::<String>::new());
}

async fn an_edit_asks_anew_and_what_was_edited_is_what_runs(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    let (_, card) = w.asked("v1").await;
    w.bob().press(&card, "apr.edit").await;
    let modal = w.slack.modal("T1", "U2").await;
    // What the tool would not take is said where it was typed.
    let refused = w.bob().submit(&modal, &[("a.version", "a version that is much too long")]).await;
    assert!(!refused.closed && refused.errors.contains_key("a.version"), "{refused:?}");
    assert!(w.bob().submit(&modal, &[("a.version", "v9")]).await.closed);
    let anew = w.slack.posted("T1", "C1", "revision 2").await;
    w.settle().await;
    let anew = w.card(&anew);
    assert!(anew.words().contains("version: v9"), "{}", anew.words());
    assert!(w.slack.private("T1", "U2").await.words().contains("You changed it"));
    // The old card, as somebody may still have it before them, no longer decides anything.
    w.bob().press_stale(&card, "apr.approve").await;
    assert!(w.slack.private("T1", "U2").await.words().contains("changed"));
    w.bob().press(&anew, "apr.approve").await;
    w.slack.posted("T1", "C1", "ship succeeded").await;
    w.settle().await;
    w.slack.private("T1", "U2").await;
    assert_eq!(w.world.outside.ledger(), ["v9"]);
    assert!(w.card(&anew).words().contains("Approved with changes"), "{}", w.card(&anew).words());
}

async fn a_stranger_who_presses_approve_is_told_who_may_and_nothing_runs(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    let (_, card) = w.asked("v1").await;
    w.eve().press(&card, "apr.approve").await;
    let told = w.slack.private("T1", "U3").await;
    assert!(told.words().contains("You can't decide this one."), "{}", told.words());
    w.settle().await;
    assert_eq!(w.card(&card).actions(), card.actions());
    assert_eq!(w.world.outside.ledger(), Vec::<String>::new());
    // Nobody is let through while it cannot be checked who is in the group.
    w.slack.revoke("T1", "usergroups:read");
    w.bob().press(&card, "apr.approve").await;
    let told = w.slack.private("T1", "U2").await;
    assert!(told.words().contains("usergroups:read") && told.words().contains("nobody was let through"), "{told:?}");
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), Vec::<String>::new());
}

async fn the_requester_who_presses_approve_is_told_that_someone_else_has_to(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    w.slack.team("T1", |t| t.groups.get_mut("S1").unwrap().members.push("U1".to_owned()));
    let (_, card) = w.asked("v1").await;
    w.ann().press(&card, "apr.approve").await;
    let told = w.slack.private("T1", "U1").await;
    assert!(told.words().contains("You wrote \"deploy v1\" in this conversation"), "{}", told.words());
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), Vec::<String>::new());
    w.bob().press(&card, "apr.approve").await;
    w.slack.posted("T1", "C1", "ship succeeded").await;
    w.settle().await;
    w.slack.private("T1", "U2").await;
    assert_eq!(w.world.outside.ledger(), ["v1"]);
}

async fn two_people_who_approve_at_once_deploy_once(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    w.slack.team("T1", |t| t.groups.get_mut("S1").unwrap().members.push("U3".to_owned()));
    let (_, card) = w.asked("v1").await;
    let (bob, eve) = (w.bob(), w.eve());
    tokio::join!(bob.press(&card, "apr.approve"), eve.press(&card, "apr.approve"));
    w.slack.posted("T1", "C1", "ship succeeded").await;
    let told = [w.slack.private("T1", "U2").await.words(), w.slack.private("T1", "U3").await.words()];
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), ["v1"]);
    let counted = told.iter().filter(|t| *t == "You approved \"ship v1\".").count();
    let late = told.iter().filter(|t| t.contains("Already approved by")).count();
    assert_eq!((counted, late), (1, 1), "{told:?}");
}

async fn a_double_click_and_a_doubled_delivery_deploy_once(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    let (_, card) = w.asked("v1").await;
    let bob = w.bob();
    // Two clicks, each delivered twice.
    let one = bob.press_delivery(&card, "apr.approve", None);
    let two = bob.press_delivery(&card, "apr.approve", None);
    for delivery in [&one, &two, &one, &two] {
        assert_eq!(w.slack.send(delivery).await.status, 200);
    }
    w.slack.posted("T1", "C1", "ship succeeded").await;
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), ["v1"]);
    // One answer for each click.
    w.slack.private("T1", "U2").await;
    w.slack.private("T1", "U2").await;
}

async fn a_click_after_expiry_is_told_so_and_ask_again_asks_anew(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    let (_, card) = w.asked("v1").await;
    w.advance(7_200_000).await;
    let expired = w.slack.posted("T1", "C1", "Expired: ship").await;
    assert_eq!(expired.ts, card.ts);
    w.bob().press_stale(&card, "apr.approve").await;
    assert!(w.slack.private("T1", "U2").await.words().contains("expired"));
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), Vec::<String>::new());
    w.ann().press(&expired, "apr.again").await;
    w.settle().await;
    let taken = w.slack.private("T1", "U1").await;
    assert!(taken.words().contains("tester is on it"), "{}", taken.words());
    w.settle().await;
}

async fn a_click_on_a_card_from_before_a_crash_simply_works(mode: Mode) {
    let mut w = SlackWorld::new(mode).await;
    let (root, card) = w.asked("v1").await;
    w.crash().await;
    w.bob().press(&card, "apr.approve").await;
    w.slack.posted("T1", "C1", "ship succeeded").await;
    w.settle().await;
    assert_eq!(w.slack.private("T1", "U2").await.words(), "You approved \"ship v1\".");
    assert_eq!(w.world.outside.ledger(), ["v1"]);
    assert!(w.card(&card).words().contains("shipped v1"), "{}", w.card(&card).words());
    // The mention, the card, the answer: nothing was posted again.
    assert_eq!(w.slack.thread("T1", "C1", &root).len(), 3, "{}", w.slack.describe());
}

async fn a_message_during_a_model_call_is_seen_before_anything_runs(mode: Mode) {
    let gate = Arc::new(Semaphore::new(0));
    let ship = Reply::call("ship", serde_json::json!({"version": "v1"}));
    let model =
        FakeModel::start(Vendor::OpenAi, [Reply::Later(gate.clone(), Box::new(ship)), Reply::say("Then I leave it.")])
            .await;
    let provider = {
        let config = model.config();
        let make = move || Vendor::OpenAi.provider(&config);
        Some(Arc::new(make) as Arc<dyn Fn() -> twelve::llm::Provider + Send + Sync>)
    };
    let w = SlackWorld::with(mode, Setup { provider, ..Setup::default() }).await;
    let root = w.ann().mention("C1", "ship v1").await;
    w.slack.until("the model is asked", |_| (model.received().len() == 1).then_some(())).await;
    w.ann().say_in_thread("C1", &root, "wait, do not ship it").await;
    gate.add_permits(1);
    w.slack.posted("T1", "C1", "Then I leave it.").await;
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), Vec::<String>::new());
    let second = String::from_utf8(model.received()[1].body.clone()).unwrap();
    assert!(second.contains("wait, do not ship it"), "{second}");
    assert!(w.slack.messages("T1", "C1").iter().all(|m| m.actions().is_empty()), "no card was posted");
}

async fn stop_in_the_thread_settles_the_card_and_nothing_runs(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    let (root, card) = w.asked("v1").await;
    w.ann().mention_in("C1", &root, "stop").await;
    let told = w.slack.private("T1", "U1").await;
    assert!(told.words().contains("Stopped: nothing more will run."), "{}", told.words());
    w.settle().await;
    let settled = w.card(&card);
    assert!(settled.actions().iter().all(|a| !a.starts_with("apr.")), "{:?} {}", settled.actions(), settled.words());
    w.bob().press_stale(&card, "apr.approve").await;
    let told = w.slack.private("T1", "U2").await;
    assert!(told.words().contains("cancelled"), "{}", told.words());
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), Vec::<String>::new());
}

async fn a_stop_sign_on_the_bots_message_stops_the_run(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    let (_, card) = w.asked("v1").await;
    w.ann().react("C1", &card.ts, "octagonal_sign").await;
    let told = w.slack.private("T1", "U1").await;
    assert!(told.words().contains("Stopped"), "{}", told.words());
    w.settle().await;
    assert!(w.card(&card).actions().iter().all(|a| !a.starts_with("apr.")), "{}", w.card(&card).words());
}

async fn a_question_to_the_bot_that_comes_as_two_events_is_answered_once(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    w.ann().mention("C1", "help").await;
    let told = w.slack.private("T1", "U1").await;
    assert!(told.words().contains("I ask before I act"), "{}", told.words());
    w.settle().await;
    // A second one would be left over.
    w.slack.check();
}

async fn slash_commands_start_show_and_decide(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    w.ann().command("C1", "help").await;
    assert!(w.slack.private("T1", "U1").await.words().contains("I ask before I act"));
    w.ann().command("C1", "pendnig").await;
    assert!(w.slack.private("T1", "U1").await.words().contains("pending"));

    w.ann().command("C1", "run tester deploy v1").await;
    let card = w.slack.posted("T1", "C1", "Approval needed: ship").await;
    w.settle().await;
    let started = w.slack.private("T1", "U1").await;
    assert!(started.words().contains("Started: tester"), "{}", started.words());
    let root = card.thread_ts.clone().expect("the run has a thread of its own");
    let root = w.slack.message("T1", "C1", &root);
    assert!(root.words().contains("deploy v1") && root.words().contains("U1"), "{}", root.words());

    w.ann().command("C1", "status").await;
    assert!(w.slack.private("T1", "U1").await.words().contains("deploy v1"));
    // High risk: words do not decide it, its card does.
    let thread = w.world.thread(&SlackWorld::thread(&root.ts)).await;
    let approval = thread.pending_approvals().next().unwrap().id;
    w.bob().command("C1", &format!("approve {approval}")).await;
    let shown = w.slack.private("T1", "U2").await;
    assert!(shown.words().contains("on its card"), "{}", shown.words());
    assert_eq!(w.world.outside.ledger(), Vec::<String>::new());
    w.bob().press(&w.card(&card), "apr.approve").await;
    w.slack.posted("T1", "C1", "ship succeeded").await;
    w.settle().await;
    w.slack.private("T1", "U2").await;
    assert_eq!(w.world.outside.ledger(), ["v1"]);
    assert!(w.card(&card).words().contains("shipped v1"));
}

async fn the_home_shows_what_waits_and_review_decides_it(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    w.bob().open_home().await;
    w.slack.home("T1", "U2", "Nothing waits for you").await;
    let (_, card) = w.asked("v1").await;
    // It is brought up to date by itself.
    let home = w.slack.home("T1", "U2", "Waiting for you (1)").await;
    assert!(home.words().contains("ship v1"), "{}", home.words());
    w.bob().press_in(&home, "apr.review", None).await;
    let modal = w.slack.modal("T1", "U2").await;
    assert!(modal.words().contains("version: v1"), "{}", modal.words());
    assert!(w.bob().submit(&modal, &[("note", "looks good")]).await.closed);
    w.slack.posted("T1", "C1", "ship succeeded").await;
    w.slack.home("T1", "U2", "Nothing waits for you").await;
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), ["v1"]);
    assert!(w.card(&card).words().contains("looks good"), "{}", w.card(&card).words());
    // What came of it is said where she can see it.
    let dm = w.slack.dm_channel("T1", "U2");
    w.slack.posted("T1", &dm, "You approved").await;
}

async fn a_shortcut_on_a_message_starts_a_run_about_it(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    let ts = w.bob().say("C1", "the build is red again").await;
    w.ann().message_shortcut(&w.slack.message("T1", "C1", &ts), "ask_about_message").await;
    let modal = w.slack.modal("T1", "U1").await;
    assert!(modal.words().contains("the build is red again"), "{}", modal.words());
    assert!(w.ann().submit(&modal, &[("task", "note")]).await.closed);
    w.slack.posted("T1", "C1", "note succeeded").await;
    w.settle().await;
    assert!(w.slack.private("T1", "U1").await.words().contains("Started"));
    // Bob's words came along, as words of somebody else.
    let threads = w.world.runtime.parts().store.list(&twelve::store::Filter::default(), None, 10).await.unwrap();
    let thread = w.world.runtime.thread(threads.items[0].thread.short()).await.unwrap();
    let texts = format!("{:?}", thread.window);
    assert!(texts.contains("the build is red again"), "{texts}");
    assert!(!thread.untrusted.is_empty(), "what bob wrote is not ann's");
}

async fn the_global_shortcut_shows_what_waits(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    w.asked("v1").await;
    w.bob().shortcut("open_inbox").await;
    let modal = w.slack.modal("T1", "U2").await;
    assert!(modal.words().contains("ship v1"), "{}", modal.words());
    w.bob().close(&modal).await;
}

async fn several_calls_of_one_reply_are_one_card_with_a_row_each(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    let root = w.ann().mention("C1", "ship v1 and v2").await;
    let card = w.slack.posted("T1", "C1", "Approval needed: 2 calls").await;
    w.settle().await;
    let card = w.card(&card);
    // High risk: each by itself.
    assert!(!card.actions().contains(&"apr.all".to_owned()), "{:?}", card.actions());
    let thread = w.world.thread(&SlackWorld::thread(&root)).await;
    let (one, two) = {
        let mut open: Vec<&Approval> = thread.pending_approvals().collect();
        open.sort_by_key(|a| a.call);
        (open[0].id.to_string(), open[1].id.to_string())
    };
    w.bob().choose(&card, "apr.approve", &one).await;
    assert_eq!(w.slack.private("T1", "U2").await.words(), "You approved \"ship v1\".");
    w.settle().await;
    w.bob().choose(&w.card(&card), "apr.deny", &two).await;
    let modal = w.slack.modal("T1", "U2").await;
    assert!(w.bob().submit(&modal, &[]).await.closed);
    w.slack.private("T1", "U2").await;
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), ["v1"]);
    let done = w.card(&card);
    assert!(done.actions().iter().all(|a| !a.starts_with("apr.")), "{:?}", done.actions());
    let cards = w.slack.thread("T1", "C1", &root);
    assert_eq!(cards.iter().filter(|m| m.words().contains("calls")).count(), 1, "{}", w.slack.describe());
}

async fn copies_for_different_approvers_show_each_their_own_and_no_button_stays(mode: Mode) {
    let agent = r#"+++
description = "Tests."
tools = ["note", "ship"]
[gates]
ship = { gate = "ask", approvers = { users = ["slack:T1:U2"] }, route = { direct = true } }
note = { gate = "ask", approvers = { users = ["slack:T1:U3"] }, route = { direct = true } }
+++
You are {{ agent.name }}.
"#;
    let script = "[[reply]]\nhuman = '^both$'\nlast = '^<human'\n[[reply.call]]\ntool = \"ship\"\n\
                  args = { version = \"v1\" }\n[[reply.call]]\ntool = \"note\"\n";
    let setup =
        Setup { agent: agent.to_owned(), script: format!("{script}{}", Setup::default().script), ..Setup::default() };
    let w = SlackWorld::with(mode, setup).await;
    w.ann().mention("C1", "both").await;
    w.slack.posted("T1", "C1", "Approval needed: 2 calls").await;
    w.settle().await;
    let copy = |user: &str| {
        let direct = w.slack.dm_channel("T1", user);
        let all: Vec<_> = w.slack.messages("T1", &direct).into_iter().filter(|m| m.bot_id.is_some()).collect();
        assert_eq!(all.len(), 1, "one copy for {user}: {all:?}");
        all[0].clone()
    };
    let (bobs, eves) = (copy("U2"), copy("U3"));
    assert!(bobs.words().contains("ship v1") && !bobs.words().contains("note"), "{}", bobs.words());
    assert!(eves.words().contains("note") && !eves.words().contains("ship v1"), "{}", eves.words());
    let live = || {
        let mine = |m: &&crate::fakes::slack::Message| m.actions().iter().any(|a| a.starts_with("apr."));
        w.slack.with(|s| s.teams["T1"].messages.iter().filter(mine).count())
    };
    assert_eq!(live(), 3);
    w.eve().press(&eves, "apr.approve").await;
    w.slack.private("T1", "U3").await;
    w.settle().await;
    assert_eq!(live(), 2, "{}", w.slack.describe());
    w.bob().press(&bobs, "apr.approve").await;
    w.slack.private("T1", "U2").await;
    w.settle().await;
    assert_eq!(live(), 0, "{}", w.slack.describe());
    assert!(copy("U2").words().contains("Approved") && copy("U3").words().contains("Approved"));
}

async fn a_question_is_answered_by_a_button_and_closed(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    w.ann().mention("C1", "ask me").await;
    let question = w.slack.posted("T1", "C1", "Which one?").await;
    w.settle().await;
    let question = w.card(&question);
    let action = question.actions()[0].clone();
    w.ann().press(&question, &action).await;
    w.slack.posted("T1", "C1", "thank you").await;
    w.settle().await;
    w.slack.private("T1", "U1").await;
    assert_eq!(w.card(&question).actions(), Vec::<String>::new());
}

async fn a_click_from_another_team_is_not_known_here(mode: Mode) {
    let w = SlackWorld::new(mode).await;
    let (_, card) = w.asked("v1").await;
    // The same app in a team that is not configured here: the same card, the same ids.
    w.slack.add_team("T2", "A1");
    let mut pressed = w.bob().press_delivery(&card, "apr.approve", None);
    pressed.body["team"]["id"] = "T2".into();
    pressed.body["user"]["team_id"] = "T2".into();
    assert_eq!(w.slack.send(&pressed).await.status, 200);
    // Somebody of another team in a shared channel of this one.
    let mut pressed = w.bob().press_delivery(&card, "apr.approve", None);
    pressed.body["user"]["team_id"] = "T2".into();
    assert_eq!(w.slack.send(&pressed).await.status, 200);
    let told = w.slack.private("T1", "U2").await;
    assert!(told.words().contains("I don't know this request"), "{}", told.words());
    w.settle().await;
    assert_eq!(w.world.outside.ledger(), Vec::<String>::new());
    assert_eq!(w.card(&card).actions(), card.actions());
}
