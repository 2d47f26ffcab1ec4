//! The App Home against a Slack that checks what is published: what is on it, for whom, and when it is written again.

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use twelve::agent::*;
use twelve::chat::commands::{Asker, Outcome, answer, parse};
use twelve::chat::slack::{Front, FrontSettings, home};
use twelve::platform::Platforms;
use twelve::platform::slack::inbound::Who;
use twelve::runtime::{Clock, Said};

use crate::fakes::slack::{FakeSlack, Fault, Handle, View, limits};
use crate::slack_post::{connected, root, settings};
use crate::world::*;

const GATED: &str = r#"+++
description = "Ships things."
tools = ["look", "note", "ship", "nap"]
[gates]
ship = "ask"
+++
You are {{ agent.name }}.
"#;

struct House {
    fake: FakeSlack,
    w: World,
    front: Front,
}

/// Two workspaces of one app; requests wait for these approvers.
async fn house(approvers: Approvers) -> House {
    let clock = Clock::manual(START);
    let fake = FakeSlack::start(&clock).await;
    fake.add_team("T2", "A1");
    let slack = connected(settings(&fake, &["T1", "T2"])).await;
    let policy = Policy { approvers, expires_after_ms: 7_200_000, ..Policy::default() };
    let platforms = Platforms { console: None, slack: Some(slack.clone()) };
    let w = World::at(clock, Setup { agent: GATED.to_owned(), policy, platforms, ..Setup::default() }).await;
    let front = FrontSettings {
        agent: "tester".into(),
        channels: Default::default(),
        threads: twelve::config::Threads::All,
        channel_threads: Default::default(),
        stop_reaction: "octagonal_sign".into(),
        progress: false,
        command: "/agent".into(),
        operators: Vec::new(),
        odd: None,
    };
    let front = Front::new(w.runtime.clone(), slack, front);
    House { fake, w, front }
}

fn release_team() -> Approvers {
    Approvers { groups: vec!["slack:T1:S1".into()], ..Approvers::default() }
}

fn anyone() -> Approvers {
    Approvers { users: vec!["*".into()], ..Approvers::default() }
}

fn who(team: &str, user: &str) -> Who {
    Who { team: team.into(), home: team.into(), user: user.into(), name: None }
}

impl House {
    /// Somebody writes in #ops; the thread.
    async fn writes(&self, team: &str, user: &str, text: &str) -> String {
        let ts = root(&self.fake, team, "C1", user, text);
        let thread = format!("slack:{team}:C1:{ts}");
        let said = Said::by(Principal::human(format!("slack:{team}:{user}")), text);
        self.w.runtime.message(&thread.parse().unwrap(), "tester", said).await.unwrap();
        self.w.runtime.settle().await.unwrap();
        thread
    }

    async fn opens(&self, who: &Who) -> String {
        home::publish(&self.front, who).await;
        shown(&stands(&self.fake, who).unwrap().0)
    }
}

/// What stands in somebody's home, and how often it was written.
fn stands(fake: &Handle, who: &Who) -> Option<(View, u32)> {
    fake.team(&who.team, |t| t.homes.get(&who.user).cloned())
}

/// Every text of a view, one a line; a button as `[words value]`.
fn shown(view: &View) -> String {
    let mut lines = Vec::new();
    for block in view.view["blocks"].as_array().unwrap() {
        texts(block, &mut lines);
    }
    lines.join("\n")
}

fn texts(value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) if fields.get("type").is_some_and(|t| t == "button") => {
            let value = fields["value"].as_str().unwrap();
            lines.push(format!("[{} {value}]", fields["text"]["text"].as_str().unwrap()));
        }
        Value::Object(fields) => match fields.get("text") {
            Some(Value::String(text)) => lines.push(text.clone()),
            _ => {
                for key in ["text", "elements", "accessory"] {
                    texts(fields.get(key).unwrap_or(&Value::Null), lines);
                }
            }
        },
        Value::Array(items) => items.iter().for_each(|item| texts(item, lines)),
        _ => {}
    }
}

/// How Slack writes a moment: seconds since 1970, and what stands there where it cannot.
fn moment(at: Timestamp, format: &str) -> String {
    format!("<!date^{}^{format}|{at}>", at.0 / 1_000)
}

#[tokio::test]
async fn an_empty_home_says_so_and_what_to_try() {
    let h = house(release_team()).await;
    assert_eq!(
        h.opens(&who("T1", "U1")).await,
        format!(
            "Nothing waits for you\nMention me with a task, for example:\ncheck the status of the api service\ndeploy \
             api v1.2.3 to staging and tell me when it is done\nYour runs\nNone yet.\nStart something\ntester: Ships \
             things.\n[Start… tester]\nTwelve {}\n<https://twelve.example/inbox|Inbox>\nHelp: /agent help",
            env!("CARGO_PKG_VERSION")
        )
    );
}

#[tokio::test]
async fn a_home_shows_what_waits_for_its_owner_with_a_button_to_review_it_and_their_own_runs() {
    let h = house(release_team()).await;
    let thread = h.writes("T1", "U1", "ship v1").await;
    let request = h.w.pending(&thread).await;
    let (bob, ann) = (h.opens(&who("T1", "U2")).await, h.opens(&who("T1", "U1")).await);
    let card = h.w.thread(&thread).await.posts[&Posting::Card { approval: request.id }].reference.clone().unwrap();
    let ts = card.split_once('/').unwrap().1.replace('.', "");
    let root = thread.rsplit_once(':').unwrap().1;
    let waiting = format!(
        "Waiting for you (1)\nship v1\n[Review… {}|{}]\nhigh risk · tester\nasked for by <@U1> {}\nexpires {}\n\
         <https://acme-t1.slack.com/archives/C1/p{ts}?thread_ts={root}&amp;cid=C1|Open>\nYour runs\nNone yet.\n",
        request.id,
        request.digest.prefix(),
        moment(START, "{ago}"),
        moment(START.plus_ms(7_200_000), "{date_short_pretty} {time}"),
    );
    assert!(bob.starts_with(&waiting), "{bob}\n\nshould begin with\n\n{waiting}");
    assert!(bob.ends_with("You can approve for: <!subteam^S1>"), "{bob}");
    // Who asked has the run, and nothing to decide.
    let run = format!(
        "Your runs\nship v1\nwaits for an approval · tester\nchanged {}\n\
         <https://acme-t1.slack.com/archives/C1/p{}|Open>\n",
        moment(START, "{ago}"),
        root.replace('.', "")
    );
    assert!(ann.starts_with("Nothing waits for you") && ann.contains(&run), "{ann}");
    assert!(!ann.contains("You can approve for"), "{ann}");
}

#[tokio::test]
async fn the_same_ids_in_another_workspace_and_guests_of_it_see_nothing() {
    let named = Approvers { users: vec!["*".into(), "slack:T1:U2".into()], ..Approvers::default() };
    let h = house(named).await;
    h.writes("T1", "U1", "ship v1").await;
    let guest = Who { home: "T2".into(), ..who("T1", "U2") };
    for other in [who("T2", "U1"), who("T2", "U2"), guest] {
        let home = h.opens(&other).await;
        assert!(
            home.starts_with("Nothing waits for you") && home.contains("None yet.") && !home.contains("ship v1"),
            "{home}"
        );
    }
    assert!(h.opens(&who("T1", "U2")).await.starts_with("Waiting for you (1)\nship v1"));
}

#[tokio::test]
async fn a_home_shows_nothing_that_only_everybody_of_a_conversation_may_decide() {
    let h = house(anyone()).await;
    h.writes("T1", "U1", "ship v1").await;
    let home = h.opens(&who("T1", "U2")).await;
    assert!(home.starts_with("Nothing waits for you") && !home.contains("ship v1"), "{home}");
}

#[tokio::test]
async fn an_open_home_follows_what_happens_and_the_others_are_left_alone() {
    let h = house(release_team()).await;
    let stop = CancellationToken::new();
    let following = tokio::spawn(home::follow(h.front.clone(), stop.clone()));
    let (ann, bob, eve) = (who("T1", "U1"), who("T1", "U2"), who("T1", "U3"));
    for one in [&ann, &bob, &eve] {
        h.opens(one).await;
    }
    let thread = h.writes("T1", "U1", "ship v1").await;
    let home_of = |user: &'static str, words: &'static str| {
        let fake = h.fake.handle();
        async move {
            let there = |home: &(View, u32)| shown(&home.0).contains(words).then_some(());
            fake.until(words, |s| s.teams["T1"].homes.get(user).and_then(there)).await;
        }
    };
    home_of("U2", "Waiting for you (1)\nship v1").await;
    home_of("U1", "waits for an approval").await;
    let request = h.w.pending(&thread).await;
    let groups = vec!["slack:T1:S1".to_owned()];
    let digest = request.digest.prefix();
    let by = Principal::human("slack:T1:U2");
    h.w.give(&thread, Input::Vote { approval: request.id, digest, by, groups, vote: approve(), source: None }).await;
    home_of("U2", "Nothing waits for you").await;
    home_of("U1", "done · tester").await;
    // Nothing of it concerned eve.
    assert_eq!(stands(&h.fake, &eve).unwrap().1, 1);
    stop.cancel();
    following.await.unwrap();
}

#[tokio::test]
async fn a_home_that_another_process_wrote_meanwhile_is_written_over_with_what_is_true_now() {
    let h = house(release_team()).await;
    let bob = who("T1", "U2");
    h.opens(&bob).await;
    h.fake.team("T1", |t| t.homes.get_mut("U2").unwrap().0.hash = "hash.of.another".into());
    h.writes("T1", "U1", "ship v1").await;
    assert!(h.opens(&bob).await.starts_with("Waiting for you (1)"));
    let answers = h.fake.with(|s| {
        let published = s.calls.iter().filter(|call| call.method == "views.publish");
        published.map(|call| call.answer.clone()).collect::<Vec<_>>()
    });
    assert_eq!(answers, ["ok", "hash_conflict", "ok"]);
}

#[tokio::test]
async fn a_home_that_slack_refuses_and_groups_that_it_does_not_tell_break_nothing() {
    let h = house(release_team()).await;
    let bob = who("T1", "U2");
    h.fake.revoke("T1", "usergroups:read");
    h.fake.fault("views.publish", Fault::Error("not_enabled"));
    home::publish(&h.front, &bob).await;
    assert_eq!(stands(&h.fake, &bob), None);
    h.writes("T1", "U1", "ship v1").await;
    let home = h.opens(&bob).await;
    assert!(home.starts_with("Nothing waits for you"), "{home}");
    assert!(home.contains("I couldn't check which groups you are in (Slack: missing_scope"), "{home}");
}

#[tokio::test]
async fn the_shortcut_shows_what_waits_in_a_modal() {
    let h = house(release_team()).await;
    let thread = h.writes("T1", "U1", "ship v1").await;
    let id = h.w.pending(&thread).await.id;
    let view = home::pending_modal(&h.front, &who("T1", "U2")).await;
    assert_eq!((view["type"].as_str(), view["title"]["text"].as_str()), (Some("modal"), Some("Waiting for you")));
    let words = view.to_string();
    assert!(words.contains("1 request waits for you") && words.contains(&format!("\"{id}|")), "{words}");
    assert_eq!(limits::view(&view), Vec::<String>::new());
}

#[tokio::test]
async fn members_of_a_group_are_found_for_lists_and_asked_for_nothing_before_a_decision_is_kept() {
    let h = house(release_team()).await;
    let thread = h.writes("T1", "U1", "ship v1").await;
    let id = h.w.pending(&thread).await.id;
    let ask = async |user: &str, text: &str| {
        let by = Principal::human(format!("slack:T1:{user}"));
        let asker = Asker {
            runtime: &h.w.runtime,
            by: &by,
            here: None,
            at: "",
            public_url: "",
            prefix: "/agent",
            operator: false,
        };
        answer(&asker, &parse(text)).await
    };
    let title = async |user: &str, text: &str| match ask(user, text).await {
        Outcome::Say(listing) => listing.title,
        other => panic!("{other:?}"),
    };
    assert_eq!(title("U2", "pending").await, "1 request waits for you");
    assert_eq!(title("U3", "pending").await, "Nothing waits for you.");
    assert!(title("U2", &format!("status {}", id.thread)).await.starts_with(&format!("Run {}: ship v1", id.thread)));
    assert!(title("U3", &format!("status {}", id.thread)).await.starts_with("I don't know a run"));
    // Who is in the group is asked when the decision is carried out; until then nobody outside the conversation is
    // shown the request, and nothing of Slack is asked.
    let calls = h.fake.with(|s| s.calls.len());
    for user in ["U2", "U3"] {
        let told = title(user, &format!("approve {id}")).await;
        assert!(told.starts_with("This one is only decided where all of it can be seen: on its card. It is here: https://acme-t1.slack.com/archives/C1/p"), "{told}");
    }
    assert_eq!(ask("U1", &format!("approve {id}")).await, Outcome::Show(id));
    assert_eq!(h.fake.with(|s| s.calls.len()), calls);
}
