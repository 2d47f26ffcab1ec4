//! One person with two identities, over the real surfaces: asked in Slack, decided in the console.

use twelve::agent::*;

use crate::site::{Plan, Site};
use crate::slack_world::{Mode, SlackWorld};
use crate::world::Setup;

fn people(entries: &[(&str, &[&str])]) -> People {
    let entry = |(name, ids): &(&str, &[&str])| PersonEntry {
        name: (*name).to_owned(),
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    };
    People::new(entries.iter().map(entry).collect(), false).unwrap()
}

/// U1 has asked in Slack; these may decide.
async fn asked(users: &[&str], people: People) -> (SlackWorld, Site, String) {
    let approvers = Approvers { users: users.iter().map(|u| (*u).to_owned()).collect(), ..Approvers::default() };
    let mut setup = Setup { people, ..Setup::default() };
    setup.policy.rules.push(Rule {
        name: "shipping".to_owned(),
        gate: Gate::Ask,
        tool: "ship".to_owned(),
        agent: "*".to_owned(),
        risk: None,
        args: Default::default(),
        approvers: Some(approvers),
        expires_after: None,
        route: None,
        why: String::new(),
    });
    let w = SlackWorld::with(Mode::Socket, setup).await;
    let (root, _) = w.asked("v1").await;
    let site = Site::start(w.world.runtime.clone(), Plan::default()).await;
    let id = w.world.pending(&format!("slack:T1:C1:{root}")).await.id.to_string();
    (w, site, id)
}

/// Presses Approve in the console as `who`, whether the page offers it or not. Returns what they see then.
async fn approves(site: &Site, who: &str, id: &str) -> String {
    let mut visitor = site.person(who).await;
    let page = visitor.get(&format!("/inbox/{id}")).await;
    let action = format!("/inbox/{id}/approve");
    if page.has_form(&action) {
        let sent = visitor.send(&page, &action, &[]).await;
        return format!("{} {}", sent.status, visitor.get(&format!("/inbox/{id}")).await.text);
    }
    crate::site::unescape(&page.text)
}

#[tokio::test]
async fn who_asked_in_slack_can_not_approve_it_in_the_console_whatever_the_directory_says() {
    let mail: &[&str] = &["slack:T1:U1", "web:ann", "email:ann@example.com"];
    for (listed, words) in [
        (people(&[]), "I can't tell whether you are the one who asked for it (you are web:ann here"),
        (people(&[("ann", mail)]), "You wrote \"deploy v1\" in this conversation"),
        (people(&[("ann", &["slack:T1:U1"])]), "I can't tell whether you are the one who asked for it"),
    ] {
        let (w, site, id) = asked(&["slack:T1:U1", "web:ann"], listed).await;
        let seen = approves(&site, "ann", &id).await;
        assert!(seen.contains(words), "{words}: {seen}");
        w.settle().await;
        assert_eq!(w.world.outside.ledger(), Vec::<String>::new());
        site.stop().await;
    }
}

#[tokio::test]
async fn another_person_of_the_directory_may_and_sees_it_on_their_lists_under_any_identity() {
    let listed = people(&[("ann", &["slack:T1:U1", "web:ann"]), ("bob", &["slack:T1:U2", "web:bob"])]);
    let (w, site, id) = asked(&["slack:T1:U2"], listed).await;
    let mut bob = site.person("bob").await;
    let waits = bob.get("/inbox?tab=mine").await;
    assert!(waits.text.contains(&id), "it waits for bob: {}", waits.text);
    // Ann's own runs are on her list, whichever surface she looks from.
    let mut ann = site.person("ann").await;
    let own = ann.get("/").await;
    assert!(own.text.contains("deploy v1"), "{}", own.text);
    let seen = approves(&site, "bob", &id).await;
    assert!(seen.starts_with("303"), "{seen}");
    w.slack.posted("T1", "C1", "ship succeeded").await;
    assert_eq!(w.world.outside.ledger().len(), 1);
    site.stop().await;
}

#[tokio::test]
async fn a_confirmed_address_in_slack_finds_the_person_where_that_is_wanted() {
    for (matched, ann_in_slack, approves_it) in [
        // Slack confirms that U1 is bob, and web:ann is ann: two people.
        (true, Some("bob@example.com"), true),
        // Slack confirms that U1 is ann.
        (true, Some("ann@EXAMPLE.com"), false),
        // Slack shows no address, or nobody wants it matched: it cannot be told.
        (true, None, false),
        (false, Some("bob@example.com"), false),
    ] {
        let entries = [("ann", "ann@example.com"), ("bob", "bob@example.com")].map(|(name, mail)| PersonEntry {
            name: name.to_owned(),
            ids: [format!("email:{mail}")].into_iter().chain((name == "ann").then(|| "web:ann".to_owned())).collect(),
        });
        let directory = People::new(entries.to_vec(), matched).unwrap();
        let (w, site, id) = asked(&["web:ann"], directory).await;
        w.slack.team("T1", |t| t.users.get_mut("U1").unwrap().email = ann_in_slack.map(str::to_owned));
        let mut ann = site.person("ann").await;
        let page = ann.get(&format!("/inbox/{id}")).await;
        assert_eq!(page.has_form(&format!("/inbox/{id}/approve")), approves_it, "the page offers what will count");
        let deny = page.form(&format!("/inbox/{id}/deny"));
        let fields: Vec<(String, String)> = deny.into_iter().filter(|(name, _)| name != "reason").collect();
        ann.post(&format!("/inbox/{id}/approve"), &fields).await;
        w.settle().await;
        assert_eq!(w.world.outside.ledger().len(), usize::from(approves_it), "{matched} {ann_in_slack:?}");
        site.stop().await;
    }
}
