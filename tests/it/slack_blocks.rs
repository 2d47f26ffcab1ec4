//! What people see in Slack: words and blocks of every card in every state, within Slack's limits whatever is in
//! them (S13), and nothing that is interpreted as what it should not be (S18).

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use twelve::agent::*;
use twelve::platform::slack::blocks::{self, Home, HomeRequest, HomeRun, Look, Message, StartModal, action, field};
use twelve::platform::{Card, CardState, Listing, Row};

use crate::fakes::slack::limits::{self, Surface};

const NOON: Timestamp = Timestamp(1_795_356_000_000);
const LOOK: Look = Look { team: "T1", public_url: "https://agent.example.com", counter: 3 };

fn short() -> ShortId {
    "slack:T1:C1:171.2".parse::<ThreadId>().unwrap().short()
}

fn person(id: &str) -> Principal {
    Principal::human(format!("slack:T1:{id}"))
}

fn approval(args: Value) -> Approval {
    Approval {
        id: ApprovalId::new(short(), 7, 0),
        call: CallId::new(short(), 5, 0),
        tool: "deploy_service".into(),
        revision: 1,
        because: Because::Gated,
        title: "Deploy api v1.2.3 to production".into(),
        args,
        original_args: None,
        former_terms: None,
        plan: Some(Plan { summary: "now v1.2.2 -> v1.2.3".into(), facts: json!({"current": "v1.2.2"}) }),
        digest: Digest::of(b"shown"),
        terms: Terms {
            rule: "production".into(),
            risk: Risk::High,
            approvers: Approvers {
                users: vec!["slack:T1:U0ANN".into(), "slack:T2:U9".into()],
                groups: vec!["slack:T1:S0RELEASE".into()],
                quorum: 1,
                requester_may: Some(false),
            },
            expires_after_ms: 7_200_000,
            untrusted: Untrusted::default(),
            route: Route::default(),
        },
        requesters: vec![person("U012ABC")],
        requested_at: NOON,
        expires_at: NOON.plus_ms(7_200_000),
        votes: Vec::new(),
        state: ApprovalState::Pending,
        settled_at: None,
        result: None,
    }
}

fn deploy() -> Value {
    json!({"service": "api", "version": "v1.2.3", "environment": "production"})
}

fn card(approval: Approval, state: CardState) -> Card {
    Card {
        agent: "deployment".into(),
        tool: approval.tool.clone(),
        editable: true,
        why: "the user asked for it; staging has run v1.2.3 without errors for 2 h".into(),
        after_reading: None,
        state,
        approval,
    }
}

fn pending(args: Value) -> Card {
    card(approval(args), CardState::Pending { approved: Vec::new(), needed: 1 })
}

fn settled(state: ApprovalState, shown: CardState) -> Card {
    let mut approval = approval(deploy());
    let cast = |by: &str, vote: Vote| CastVote { by: person(by), groups: Vec::new(), named: None, vote, at: NOON };
    approval.votes = match &shown {
        CardState::Denied { reason, .. } => vec![cast("U0ANN", Vote::Deny { reason: reason.clone() })],
        CardState::Expired | CardState::Cancelled => Vec::new(),
        _ => vec![cast("U0ANN", Vote::Approve { note: "ok after the freeze".into() })],
    };
    approval.state = state;
    approval.settled_at = Some(NOON.plus_ms(60_000));
    card(approval, shown)
}

/// One card for each state, by name.
fn states() -> BTreeMap<&'static str, Card> {
    let used = || ApprovalState::Used { at: NOON };
    let mut voted = pending(deploy());
    voted.approval.terms.approvers.quorum = 2;
    voted.state = CardState::Pending { approved: vec![person("U0BOB")], needed: 2 };
    let mut edited = settled(ApprovalState::Approved { at: NOON }, CardState::Approved);
    edited.approval.original_args = Some(json!({"service": "api", "version": "v1.2.2", "environment": "production"}));
    edited.approval.because = Because::Edited { by: person("U0BOB") };
    edited.approval.revision = 2;
    let mut stale = pending(deploy());
    stale.approval.because = Because::Stale { why: "the service moved on: it is v1.2.4 now".into() };
    stale.approval.revision = 2;
    let mut read = pending(deploy());
    read.after_reading = Some("Fetch https://a.example".into());
    let denied = ApprovalState::Denied { at: NOON, reason: "not before the freeze ends".into() };
    let revising = ApprovalState::Revising { because: Because::Edited { by: person("U0BOB") } };
    let mut low = pending(deploy());
    low.approval.terms.risk = Risk::Low;
    BTreeMap::from([
        ("pending", pending(deploy())),
        ("pending_low", low),
        ("pending_voted", voted),
        ("pending_stale", stale),
        ("pending_after_reading", read),
        ("pending_long", pending(json!({"body": "All work and no play. ".repeat(200)}))),
        ("pending_too_long", pending(json!({"body": "All work and no play. ".repeat(20_000)}))),
        ("revising", settled(revising, CardState::Revising)),
        ("approved", settled(ApprovalState::Approved { at: NOON }, CardState::Approved)),
        ("approved_with_changes", edited),
        ("running", settled(used(), CardState::Running)),
        ("succeeded", settled(used(), CardState::Succeeded("deployed api v1.2.3 in 41s\nlog: …".into()))),
        ("failed", settled(used(), CardState::Failed("the health check did not pass".into()))),
        ("unknown", settled(used(), CardState::Unknown)),
        (
            "denied",
            settled(denied, CardState::Denied { by: "ann".into(), reason: "not before the freeze ends".into() }),
        ),
        ("expired", settled(ApprovalState::Expired { at: NOON }, CardState::Expired)),
        ("cancelled", settled(ApprovalState::Cancelled, CardState::Cancelled)),
    ])
}

/// The cards of calls of one reply.
fn batch(n: u32, args: impl Fn(u32) -> Value, risk: Risk) -> Vec<Card> {
    (0..n)
        .map(|i| {
            let mut card = pending(args(i));
            card.approval.id = ApprovalId::new(short(), 7, i);
            card.approval.call = CallId::new(short(), 5, i);
            card.approval.terms.risk = risk;
            card
        })
        .collect()
}

/// The buttons of a message or view: action id and value.
fn pressed(blocks: &[Value]) -> Vec<(String, String)> {
    let elements = blocks.iter().filter(|b| b["type"] == "actions").flat_map(|b| b["elements"].as_array().unwrap());
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    elements.map(|e| (text(&e["action_id"]), text(&e["value"]))).collect()
}

fn actions_of(message: &Message) -> Vec<String> {
    pressed(&message.blocks).into_iter().map(|(action, _)| action).collect()
}

/// All text of one kind that is in a value: `text`, `mrkdwn`, `plain_text`, `markdown`.
fn texts(value: &Value, kind: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            if let (Some(of), Some(text)) = (object.get("type"), object.get("text").and_then(Value::as_str))
                && of == kind
            {
                out.push(text.to_owned());
            }
            object.values().for_each(|value| texts(value, kind, out));
        }
        Value::Array(all) => all.iter().for_each(|value| texts(value, kind, out)),
        _ => {}
    }
}

fn texts_of(blocks: &[Value], kind: &str) -> Vec<String> {
    let mut out = Vec::new();
    blocks.iter().for_each(|block| texts(block, kind, &mut out));
    out
}

/// A message as people read it, a line for each part.
fn read(message: &Message) -> String {
    fn say(value: &Value, out: &mut String) {
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        match value["type"].as_str().unwrap_or("") {
            "header" => out.push_str(&format!("# {}\n", text(&value["text"]["text"]))),
            "section" if value["fields"].is_array() => {
                for field in value["fields"].as_array().unwrap() {
                    out.push_str(&format!("| {}\n", text(&field["text"]).replace('\n', " ")));
                }
            }
            "section" => out.push_str(&format!("{}\n", text(&value["text"]["text"]))),
            "markdown" => out.push_str(&format!("{}\n", text(&value["text"]))),
            "context" => {
                let all: Vec<String> = value["elements"].as_array().unwrap().iter().map(|e| text(&e["text"])).collect();
                out.push_str(&format!("small: {}\n", all.join(" | ")));
            }
            "divider" => out.push_str("---\n"),
            "rich_text" => value["elements"].as_array().unwrap().iter().for_each(|e| say(e, out)),
            "rich_text_section" => {
                value["elements"].as_array().unwrap().iter().for_each(|e| say(e, out));
                out.push('\n');
            }
            "rich_text_preformatted" => {
                let inside = text(&value["elements"][0]["text"]);
                out.push_str(&format!("```\n{inside}\n```\n"));
            }
            "text" if value["style"]["bold"] == true => out.push_str(&format!("*{}*", text(&value["text"]))),
            "text" if value["style"]["italic"] == true => out.push_str(&format!("_{}_", text(&value["text"]))),
            "text" => out.push_str(&text(&value["text"])),
            "user" => out.push_str(&format!("@{}", text(&value["user_id"]))),
            "emoji" => out.push_str(&format!(":{}:", text(&value["name"]))),
            "link" => out.push_str(&text(&value["url"])),
            "actions" => {
                let shown = |e: &Value| {
                    let confirm = if e["confirm"].is_object() { "?" } else { "" };
                    let words = e["text"]["text"].as_str().or(e["placeholder"]["text"].as_str());
                    let menu = || {
                        let options =
                            e["options"].as_array().unwrap().iter().map(|o| o["text"]["text"].as_str().unwrap());
                        format!("⋯ {}", options.collect::<Vec<_>>().join(" / "))
                    };
                    format!("[{}{confirm}]", words.map_or_else(menu, str::to_owned))
                };
                let all: Vec<String> = value["elements"].as_array().unwrap().iter().map(shown).collect();
                out.push_str(&format!("{}\n", all.join(" ")));
            }
            other => out.push_str(&format!("<{other}>\n")),
        }
    }
    let mut out = String::new();
    message.blocks.iter().for_each(|block| say(block, &mut out));
    out
}

/// What Slack would refuse of a message.
fn wrong(message: &Message) -> Vec<String> {
    let mut wrong = limits::blocks(&Value::from(message.blocks.clone()), Surface::Message);
    let json: usize = message.blocks.iter().map(|b| b.to_string().encode_utf16().count()).sum();
    if json > 13_200 {
        wrong.push(format!("{json} units of JSON"));
    }
    if message.text.is_empty() || message.text.encode_utf16().count() > 3_000 {
        wrong.push("the text of the notification".to_owned());
    }
    wrong
}

const NONE: [String; 0] = [];

// ---- words ----

#[test]
fn a_card_says_everything_that_is_decided_and_offers_what_can_be_done() {
    let message = blocks::card(&[pending(deploy())], &LOOK);
    assert_eq!(message.text, "Approval needed: Deploy api v1.2.3 to production");
    insta::assert_snapshot!(read(&message), @r#"
    # Approval needed: deploy_service
    *Deploy api v1.2.3 to production*
    | *Agent* deployment
    | *Risk* :red_circle: high
    | *Requested by* <@U012ABC>
    | *Can approve* <!subteam^S0RELEASE>, <@U0ANN>, slack:T2:U9 (1 needed, not the requester)
    ```
    environment: production
    service:     api
    version:     v1.2.3

    What it would do:
      now v1.2.2 -> v1.2.3
      current: v1.2.2
    ```
    Why (agent's words): _the user asked for it; staging has run v1.2.3 without errors for 2 h_
    [Approve?] [Deny…] [Edit…] [Open]
    small: `apr_owbxueajyleqk2kk_7` | expires <!date^1795363200^{time} ({date_short_pretty})|2026-11-22 16:00 UTC>, which counts as a denial
    "#);
}

#[test]
fn each_state_says_what_became_of_it_and_keeps_no_button_that_does_nothing() {
    let mut all = String::new();
    for name in states().keys().filter(|name| !name.starts_with("pending")) {
        let card = &states()[name];
        let lines = read(&blocks::card(std::slice::from_ref(card), &LOOK));
        let first = lines.lines().next().unwrap();
        // What is the same on each card is in the snapshot of the first.
        let rest = lines.lines().skip_while(|line| !line.starts_with("Why")).skip(1);
        all.push_str(&format!("{name}: {first}\n{}\n\n", rest.collect::<Vec<_>>().join("\n")));
    }
    insta::assert_snapshot!(all, @r#"
    approved: # Approved: deploy_service
    small: :white_check_mark: *Approved* by <@U0ANN> at <!date^1795356060^{time} ({date_short_pretty})|2026-11-22 14:01 UTC>
    @U0ANN: _“ok after the freeze”_
    small: `apr_owbxueajyleqk2kk_7`

    approved_with_changes: # Approved with changes: deploy_service
    small: :white_check_mark: *Approved with changes* by <@U0ANN> at <!date^1795356060^{time} ({date_short_pretty})|2026-11-22 14:01 UTC>
    @U0ANN: _“ok after the freeze”_
    small: `apr_owbxueajyleqk2kk_7` | revision 2

    cancelled: # Cancelled: deploy_service
    small: :heavy_minus_sign: *Cancelled* at <!date^1795356060^{time} ({date_short_pretty})|2026-11-22 14:01 UTC>: nothing will run
    small: `apr_owbxueajyleqk2kk_7`

    denied: # Denied: deploy_service
    small: :no_entry: *Denied* by <@U0ANN> at <!date^1795356060^{time} ({date_short_pretty})|2026-11-22 14:01 UTC>
    @U0ANN: _“not before the freeze ends”_
    small: `apr_owbxueajyleqk2kk_7`

    expired: # Expired: deploy_service
    small: :hourglass: *Expired* at <!date^1795356060^{time} ({date_short_pretty})|2026-11-22 14:01 UTC>: nobody answered in time, which counts as a denial
    [Ask again]
    small: `apr_owbxueajyleqk2kk_7`

    failed: # Approved: deploy_service
    small: :white_check_mark: *Approved* by <@U0ANN> at <!date^1795356060^{time} ({date_short_pretty})|2026-11-22 14:01 UTC> · :x: failed
    @U0ANN: _“ok after the freeze”_
    *Error: *the health check did not pass
    [Retry] [Open]
    small: `apr_owbxueajyleqk2kk_7`

    revising: # Being changed: deploy_service
    small: :hourglass_flowing_sand: A new revision is on its way
    @U0ANN: _“ok after the freeze”_
    small: `apr_owbxueajyleqk2kk_7`

    running: # Approved: deploy_service
    small: :white_check_mark: *Approved* by <@U0ANN> at <!date^1795356060^{time} ({date_short_pretty})|2026-11-22 14:01 UTC> · :arrow_forward: Running…
    @U0ANN: _“ok after the freeze”_
    [Stop?]
    small: `apr_owbxueajyleqk2kk_7`

    succeeded: # Approved: deploy_service
    small: :white_check_mark: *Approved* by <@U0ANN> at <!date^1795356060^{time} ({date_short_pretty})|2026-11-22 14:01 UTC> · :heavy_check_mark: succeeded
    @U0ANN: _“ok after the freeze”_
    *Result: *deployed api v1.2.3 in 41s
    [Open]
    small: `apr_owbxueajyleqk2kk_7`

    unknown: # Approved: deploy_service
    small: :white_check_mark: *Approved* by <@U0ANN> at <!date^1795356060^{time} ({date_short_pretty})|2026-11-22 14:01 UTC> · :grey_question: *Result unknown*: it was started, and nobody can tell how it ended. Look, then say what happened.
    @U0ANN: _“ok after the freeze”_
    [Mark succeeded] [Mark failed] [Retry?]
    small: `apr_owbxueajyleqk2kk_7`
    "#);
}

#[test]
fn votes_changes_and_texts_from_outside_are_on_the_card() {
    let line_of = |name: &str, with: &str| {
        let lines = read(&blocks::card(&[states()[name].clone()], &LOOK));
        lines.lines().find(|line| line.contains(with)).unwrap_or_else(|| panic!("{name}: {lines}")).to_owned()
    };
    assert_eq!(line_of("pending_voted", "of 2"), "small: 1 of 2 approved: <@U0BOB>");
    assert_eq!(line_of("pending_stale", "again"), "*Asked again: *the service moved on: it is v1.2.4 now");
    assert_eq!(
        line_of("pending_after_reading", "outside"),
        ":warning:* After reading texts from outside:* Fetch https://a.example"
    );
    assert_eq!(line_of("approved_with_changes", "Changed"), "*Changed by *@U0BOB");
    assert_eq!(line_of("approved_with_changes", "→"), "version: v1.2.2 → v1.2.3");
}

#[test]
fn several_calls_are_one_card_with_a_row_each() {
    let mut cards = batch(3, |i| json!({"service": format!("s{i}")}), Risk::Medium);
    let settled = settled(ApprovalState::Used { at: NOON }, CardState::Succeeded("done".into()));
    cards[1].state = settled.state.clone();
    cards[1].approval = Approval { id: cards[1].approval.id, ..settled.approval };
    let message = blocks::card(&cards, &LOOK);
    insta::assert_snapshot!(read(&message), @r#"
    # Approval needed: 2 of 3 calls
    small: Agent *deployment* | requested by <@U012ABC>
    Why (agent's words): _the user asked for it; staging has run v1.2.3 without errors for 2 h_
    ---
    *1. Deploy api v1.2.3 to production*  deploy_service
    ```
    service: s0

    What it would do:
      now v1.2.2 -> v1.2.3
      current: v1.2.2
    ```
    small: :large_yellow_circle: medium | can approve: <!subteam^S0RELEASE>, <@U0ANN>, slack:T2:U9 (1 needed, not the requester) | expires <!date^1795363200^{time} ({date_short_pretty})|2026-11-22 16:00 UTC>, which counts as a denial | `apr_owbxueajyleqk2kk_7`
    [Approve] [Deny…] [⋯ Edit… / Open in the browser]
    ---
    *2. Deploy api v1.2.3 to production*  deploy_service
    ```
    environment: production
    service:     api
    version:     v1.2.3

    What it would do:
      now v1.2.2 -> v1.2.3
      current: v1.2.2
    ```
    small: :red_circle: high | :white_check_mark: *Approved* by <@U0ANN> at <!date^1795356060^{time} ({date_short_pretty})|2026-11-22 14:01 UTC> · :heavy_check_mark: succeeded | `apr_owbxueajyleqk2kk_7_1`
    ---
    *3. Deploy api v1.2.3 to production*  deploy_service
    ```
    service: s2

    What it would do:
      now v1.2.2 -> v1.2.3
      current: v1.2.2
    ```
    small: :large_yellow_circle: medium | `apr_owbxueajyleqk2kk_7_2`
    [Approve] [Deny…] [⋯ Edit… / Open in the browser]
    ---
    [Approve all 2]
    "#);
    let all = pressed(&message.blocks).pop().unwrap();
    let values: Vec<String> =
        [&cards[0], &cards[2]].map(|c| format!("{}|{}", c.approval.id, c.approval.digest.prefix())).to_vec();
    assert_eq!(all, (action::APPROVE_ALL.to_owned(), values.join(" ")));
}

#[test]
fn approve_all_is_only_for_what_is_harmless_and_seen_whole() {
    let offers = |cards: &[Card]| actions_of(&blocks::card(cards, &LOOK)).contains(&action::APPROVE_ALL.to_owned());
    let small = |_: u32| json!({"service": "api"});
    assert!(offers(&batch(2, small, Risk::Low)));
    assert!(offers(&batch(8, small, Risk::Medium)));
    assert!(!offers(&batch(9, small, Risk::Low)), "one of them is not to be seen");
    let mut one_high = batch(3, small, Risk::Low);
    one_high[2].approval.terms.risk = Risk::High;
    assert!(!offers(&one_high));
    assert!(!offers(&batch(2, |i| json!({"body": "x".repeat(3_000 * i as usize)}), Risk::Low)), "one is cut");
    let mut one_left = batch(2, small, Risk::Low);
    one_left[0].approval.state = ApprovalState::Cancelled;
    assert!(!offers(&one_left));
}

#[test]
fn rows_that_wait_come_before_those_that_are_decided_when_there_is_no_room_for_all() {
    let mut cards = batch(12, |i| json!({"service": format!("s{i}")}), Risk::Low);
    for card in &mut cards[..6] {
        card.approval.state = ApprovalState::Cancelled;
        card.state = CardState::Cancelled;
    }
    let shown = read(&blocks::card(&cards, &LOOK));
    for i in 6..12 {
        assert!(shown.contains(&format!("service: s{i}\n")), "{shown}");
    }
    assert!(shown.contains("more in <https://agent.example.com/inbox|the web inbox>"), "{shown}");
}

#[test]
fn what_is_too_long_for_a_card_is_reviewed_and_what_is_too_long_for_slack_is_decided_in_the_inbox() {
    let long = blocks::card(&[states()["pending_long"].clone()], &LOOK);
    assert_eq!(actions_of(&long), [action::REVIEW, action::DENY, action::OPEN], "no input holds it, so no Edit");
    assert!(read(&long).contains("+ 1,968 more characters. *Review…* shows all of it."), "{}", read(&long));
    let modal = blocks::review_modal(&states()["pending_long"], &LOOK);
    assert_eq!(modal["submit"]["text"], "Approve");
    let id = states()["pending_long"].approval.id;
    assert_eq!(modal["private_metadata"], format!("{id}|{}", Digest::of(b"shown").prefix()));

    let too_long = &states()["pending_too_long"];
    let message = blocks::card(std::slice::from_ref(too_long), &LOOK);
    assert_eq!(actions_of(&message), [action::DENY, action::OPEN]);
    let link = format!("decide in <https://agent.example.com/inbox/{id}|the web inbox>");
    assert!(read(&message).contains(&link), "{}", read(&message));
    assert_eq!(blocks::review_modal(too_long, &LOOK).get("submit"), None);
    let bare = blocks::card(std::slice::from_ref(too_long), &Look { public_url: "", ..LOOK });
    assert!(read(&bare).contains(&format!("`twelve approvals show {id}`")), "{}", read(&bare));
}

#[test]
fn a_value_cannot_pretend_to_be_another_argument() {
    let shown = blocks::covered(&approval(json!({
        "version": "v1\nenvironment: staging",
        "environment": "production",
        "a: b": "x",
        "note": "true",
        "force": true,
    })));
    insta::assert_snapshot!(shown, @r#"
    "a: b":      x
    environment: production
    force:       true
    note:        "true"
    version:
      │ v1
      │ environment: staging

    What it would do:
      now v1.2.2 -> v1.2.3
      current: v1.2.2
    "#);
}

#[test]
fn names_of_another_team_are_words_and_those_of_ours_are_mentions() {
    let mut card = pending(deploy());
    card.approval.requesters = vec![
        person("U1"),
        Principal { name: Some("Eve <!here>".into()), ..Principal::human("slack:T2:U2") },
        Principal::human("console:ops"),
    ];
    card.approval.terms.approvers = Approvers {
        users: vec!["*".into(), "slack:T1:U3".into(), "console:bob".into()],
        groups: vec!["slack:T1:C7".into(), "slack:T1:S8".into(), "slack:T2:S9".into(), "slack:T1:S8><!here".into()],
        quorum: 2,
        requester_may: Some(true),
    };
    let lines = read(&blocks::card(&[card], &LOOK));
    let field = |name: &str| lines.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert_eq!(field("Requested by"), "| *Requested by* <@U1>, Eve &lt;!here&gt;, ops");
    assert_eq!(
        field("Can approve"),
        "| *Can approve* members of <#C7>, <!subteam^S8>, @slack:T2:S9, @slack:T1:S8&gt;&lt;!here, anyone here, <@U3>, \
         bob (2 needed)"
    );
}

#[test]
fn a_link_to_a_card_elsewhere_says_who_it_waits_for_and_then_what_became_of_it() {
    let waiting = blocks::link_to_card(&pending(deploy()), Some("https://acme.slack.com/archives/C9/p1"), &LOOK);
    let done = blocks::link_to_card(&states()["denied"], None, &LOOK);
    insta::assert_snapshot!(format!("{}\n{}", read(&waiting), read(&done)), @r#"
    *Deploy api v1.2.3 to production*
    small: :hourglass_flowing_sand: Waiting for <!subteam^S0RELEASE>, <@U0ANN>, slack:T2:U9 (1 needed, not the requester) · <https://acme.slack.com/archives/C9/p1|Open the card>

    *Deploy api v1.2.3 to production*
    small: :no_entry: *Denied* by <@U0ANN> at <!date^1795356060^{time} ({date_short_pretty})|2026-11-22 14:01 UTC> · <https://agent.example.com/inbox/apr_owbxueajyleqk2kk_7|Open it in the web inbox>
    "#);
}

// ---- questions ----

fn ask(text: &str, answer: AnswerKind) -> Message {
    let question = Question { cause: QuestionCause::Agent, text: text.into(), answer };
    blocks::question(QuestionId::new(short(), 9, 0), &question, &LOOK)
}

fn choices(all: &[&str]) -> AnswerKind {
    AnswerKind::Choice { choices: all.iter().map(|c| (*c).to_owned()).collect() }
}

#[test]
fn a_question_has_buttons_a_menu_or_a_modal() {
    let id = QuestionId::new(short(), 9, 0).to_string();
    let yes_no = ask("Really?", AnswerKind::YesNo);
    assert_eq!(
        pressed(&yes_no.blocks),
        [("q.1".to_owned(), format!("{id}|yes")), ("q.2".to_owned(), format!("{id}|no"))]
    );
    let few = ask("Where?", choices(&["staging", "production"]));
    assert_eq!(
        pressed(&few.blocks),
        [("q.1".to_owned(), format!("{id}|staging")), ("q.2".to_owned(), format!("{id}|production"))]
    );
    assert_eq!(pressed(&ask("Why?", AnswerKind::Text).blocks), [(action::WRITE.to_owned(), id.clone())]);
    let many = ask("Which?", choices(&["a", "b", "c", "d", "e", "f", "b"]));
    let menu = &many.blocks[1]["elements"][0];
    let values: Vec<&str> = menu["options"].as_array().unwrap().iter().map(|o| o["value"].as_str().unwrap()).collect();
    assert_eq!(values, [1, 2, 3, 4, 5, 6].map(|n| format!("{id}|{n}")), "b is there once");
    assert_eq!(actions_of(&many), [action::CHOOSE, action::WRITE]);
}

#[test]
fn a_choice_that_is_too_long_for_a_menu_is_listed_above_it() {
    let long = "x".repeat(300);
    let message = ask("Which?", choices(&["short", &long]));
    let id = QuestionId::new(short(), 9, 0);
    let options = message.blocks[2]["elements"][0]["options"].as_array().unwrap();
    assert_eq!(options[1]["value"], format!("{id}|2"));
    assert_eq!(options[1]["text"]["text"], format!("2) {}…", "x".repeat(71)));
    assert!(read(&message).contains(&format!("2) {long}")));
}

#[test]
fn an_unknown_outcome_is_marked_by_a_person() {
    let call = CallId::new(short(), 5, 0);
    let message = blocks::unknown(call, "Deploy api", "@release (1 needed)", &LOOK);
    let value = |what: &str| (format!("mark.{what}"), call.to_string());
    assert_eq!(pressed(&message.blocks), [value("succeeded"), value("failed"), value("retry")]);
    insta::assert_snapshot!(read(&message), @r#"
    :grey_question: Result unknown: *Deploy api*
    It was started, and nobody can tell how it ended. Look, then say what happened.
    [Mark succeeded] [Mark failed] [Retry?]
    small: Waits for @release (1 needed) · `call_owbxueajyleqk2kk_5`
    "#);
    assert_eq!(wrong(&blocks::question_closed(QuestionId::new(short(), 9, 0), &LOOK)), NONE);
}

// ---- answers ----

#[test]
fn an_answer_keeps_its_formatting_and_has_its_footer_below() {
    let messages = blocks::answer("# Done\n**api** is at `v1.2.3`.", "deployment · 12.3k tokens");
    let blocks = json!([
        {"type": "markdown", "text": "# Done\n**api** is at `v1.2.3`."},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "deployment · 12.3k tokens", "verbatim": true}]},
    ]);
    assert_eq!(messages.len(), 1);
    assert_eq!(Value::from(messages[0].blocks.clone()), blocks);
    assert_eq!(blocks::answer(" \n", "")[0].blocks, [json!({"type": "markdown", "text": "–"})], "never nothing");
}

#[test]
fn s13_a_long_answer_is_split_between_paragraphs_and_a_code_fence_is_closed_and_opened_again() {
    let paragraphs: Vec<String> = (0..60).map(|i| format!("Paragraph {i}. {}", "Words. ".repeat(60))).collect();
    let messages = blocks::answer(&paragraphs.join("\n\n"), "end");
    let parts: Vec<&str> = messages.iter().map(|m| m.blocks[0]["text"].as_str().unwrap()).collect();
    assert!(parts.len() > 2);
    assert!(parts.iter().all(|part| part.starts_with("Paragraph ")), "each part begins with a paragraph");
    assert_eq!(parts.concat().trim(), paragraphs.join("\n\n").trim());
    assert!(messages[..parts.len() - 1].iter().all(|m| m.blocks.len() == 1), "the footer is below the last");
    assert_eq!(messages.last().unwrap().blocks.len(), 2);

    let code: Vec<String> = (0..2_000).map(|i| format!("let x{i} = {i};")).collect();
    let messages = blocks::answer(&format!("Look:\n```rust\n{}\n```\nThat is all.", code.join("\n")), "");
    let mut lines = Vec::new();
    for message in &messages {
        let part = message.blocks[0]["text"].as_str().unwrap();
        assert_eq!(part.matches("```").count() % 2, 0, "{part}");
        lines.extend(part.lines().filter(|line| line.starts_with("let ")).map(str::to_owned));
    }
    assert!(messages.len() > 2);
    assert!(messages[1].blocks[0]["text"].as_str().unwrap().starts_with("```rust\nlet "));
    assert_eq!(lines, code);
}

#[test]
fn a_notice_is_text_in_which_addresses_can_be_pressed() {
    let message = blocks::notice("Invite me with /invite <@U1>. Kept: https://agent.example.com/chat/x.");
    let elements = json!([
        {"type": "text", "text": "Invite me with /invite <@U1>. Kept: "},
        {"type": "link", "url": "https://agent.example.com/chat/x"},
        {"type": "text", "text": "."},
    ]);
    assert_eq!(message.blocks[0]["elements"][0]["elements"], elements);
}

// ---- modals ----

fn schema() -> Value {
    json!({"type": "object", "additionalProperties": false, "required": ["to", "body", "count", "level"], "properties": {
        "to": {"type": "string", "description": "Who."},
        "body": {"type": "string"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "count": {"type": "integer"},
        "ratio": {"type": ["number", "null"]},
        "urgent": {"type": "boolean"},
        "level": {"type": "string", "enum": ["low", "high"]},
        "colour": {"type": "string", "enum": ["red", "blue"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "extra": {"type": "object"},
    }})
}

fn message_args() -> Value {
    json!({"to": "ann", "body": "one\ntwo", "count": 9_007_199_254_740_993_i64, "ratio": 0.1, "urgent": true,
           "level": "low", "tags": ["a", "b"], "extra": {"x": [1, 1.0]}})
}

/// What Slack sends when a modal is submitted, with these inputs changed; trimmed, as Slack may.
fn submitted(modal: &Value, changes: &[(&str, Value)]) -> Value {
    let mut state = json!({});
    for block in modal["blocks"].as_array().unwrap().iter().filter(|b| b["type"] == "input") {
        let element = &block["element"];
        let id = block["block_id"].as_str().unwrap();
        let value = match element["type"].as_str().unwrap() {
            "static_select" => json!({"type": "static_select", "selected_option": element["initial_option"]}),
            kind => {
                let text = element["initial_value"].as_str().map(str::trim).filter(|text| !text.is_empty());
                json!({"type": kind, "value": text})
            }
        };
        state[id] = json!({"v": value});
    }
    for (id, value) in changes {
        assert!(state.get(*id).is_some(), "{id} is an input of {modal}");
        let kind = state[*id]["v"]["type"].clone();
        state[*id]["v"] = match value {
            Value::String(text) if kind == "static_select" => {
                json!({"type": kind, "selected_option": {"value": text}})
            }
            value => json!({"type": kind, "value": value}),
        };
    }
    state
}

#[test]
fn the_edit_modal_has_an_input_for_each_argument() {
    let modal = blocks::edit_modal(&pending(message_args()), &schema(), &LOOK);
    assert_eq!(limits::view(&modal), NONE);
    let show = |b: &Value| {
        let e = &b["element"];
        let now = e["initial_value"].as_str().or(e["initial_option"]["text"]["text"].as_str()).unwrap_or("-");
        let kind = if e["multiline"] == true { "lines" } else { e["type"].as_str().unwrap() };
        let needed = if b["optional"] == true { "" } else { "*" };
        format!(
            "{}{needed} {kind} {now:?} {}",
            b["block_id"].as_str().unwrap(),
            b["hint"]["text"].as_str().unwrap_or("no hint")
        )
    };
    let inputs = modal["blocks"].as_array().unwrap().iter().filter(|b| b["type"] == "input");
    insta::assert_snapshot!(inputs.map(show).collect::<Vec<_>>().join("\n"), @r#"
    a.body* lines "one\ntwo" no hint
    a.colour static_select "-" no hint
    a.count* plain_text_input "9007199254740993" A whole number.
    a.extra lines "{\n  \"x\": [\n    1,\n    1.0\n  ]\n}" JSON.
    a.level* static_select "low" no hint
    a.note plain_text_input "-" no hint
    a.ratio plain_text_input "0.1" A number.
    a.tags lines "a\nb" One a line.
    a.to* plain_text_input "ann" Who.
    a.urgent static_select "yes" no hint
    "#);
}

#[test]
fn an_edit_that_touches_nothing_gives_the_arguments_back_exactly() {
    let args = message_args();
    let modal = blocks::edit_modal(&pending(args.clone()), &schema(), &LOOK);
    let back = blocks::edited_args(&approval(args.clone()), &schema(), &submitted(&modal, &[])).unwrap();
    assert_eq!(json::parse(&back).unwrap(), args);
}

#[test]
fn what_is_typed_becomes_values_of_the_schemas_types() {
    let modal = blocks::edit_modal(&pending(message_args()), &schema(), &LOOK);
    let state = submitted(
        &modal,
        &[
            ("a.to", "bob".into()),
            ("a.note", "now".into()),
            ("a.count", "18446744073709551615".into()),
            ("a.ratio", "0.30".into()),
            ("a.urgent", "1".into()),
            ("a.level", "1".into()),
            ("a.tags", "x y\n\nz".into()),
            ("a.extra", "{\"y\": null}".into()),
        ],
    );
    let back = blocks::edited_args(&approval(message_args()), &schema(), &state).unwrap();
    let wanted = json!({"to": "bob", "body": "one\ntwo", "note": "now", "count": 18_446_744_073_709_551_615_u64, "ratio": 0.3,
                        "urgent": false, "level": "high", "tags": ["x y", "z"], "extra": {"y": null}});
    assert_eq!(json::parse(&back).unwrap(), wanted);
    let state = submitted(&modal, &[("a.urgent", "-".into()), ("a.ratio", Value::Null)]);
    let back = blocks::edited_args(&approval(message_args()), &schema(), &state).unwrap();
    let back = json::parse(&back).unwrap();
    assert_eq!((back.get("urgent"), back.get("ratio")), (None, None), "left out");
}

#[test]
fn what_cannot_be_read_is_said_below_its_input() {
    let modal = blocks::edit_modal(&pending(message_args()), &schema(), &LOOK);
    let state = submitted(
        &modal,
        &[
            ("a.count", "4.5".into()),
            ("a.ratio", "1e999".into()),
            ("a.extra", "{\"a\":1,\"a\":2}".into()),
            ("a.to", "x".into()),
        ],
    );
    let wrong = blocks::edited_args(&approval(message_args()), &schema(), &state).unwrap_err();
    insta::assert_snapshot!(wrong.into_iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join("\n"), @r#"
    a.count: `count` has to be a whole number
    a.extra: `extra` is not JSON that can be used: the key `a` occurs twice in one object
    a.ratio: `ratio` has to be a number, such as 1.5
    "#);
}

#[test]
fn arguments_that_the_schema_does_not_name_are_edited_all_together() {
    let args = json!({"to": "ann", "unheard": [1]});
    let modal = blocks::edit_modal(&pending(args.clone()), &schema(), &LOOK);
    let inputs: Vec<&Value> = modal["blocks"].as_array().unwrap().iter().filter(|b| b["type"] == "input").collect();
    assert_eq!(inputs.len(), 1, "nobody changes what they do not see");
    let same = blocks::edited_args(&approval(args.clone()), &schema(), &submitted(&modal, &[]));
    assert_eq!(json::parse(&same.unwrap()).unwrap(), args);
    let changed = submitted(&modal, &[("all", "{\"to\": \"bob\"}".into())]);
    assert_eq!(blocks::edited_args(&approval(args.clone()), &schema(), &changed).unwrap(), "{\"to\":\"bob\"}");
    let broken = submitted(&modal, &[("all", "[1]".into())]);
    let wrong = blocks::edited_args(&approval(args), &schema(), &broken).unwrap_err();
    assert_eq!(wrong["all"], "It has to be a JSON object: { … }");
}

#[test]
fn a_modal_for_what_is_settled_changes_nothing_and_says_why() {
    let done = &states()["denied"];
    for modal in
        [blocks::deny_modal(done, &LOOK), blocks::review_modal(done, &LOOK), blocks::edit_modal(done, &schema(), &LOOK)]
    {
        assert_eq!(limits::view(&modal), NONE);
        assert_eq!(modal.get("submit"), None);
        let words = texts_of(modal["blocks"].as_array().unwrap(), "text").join(" ");
        assert!(words.contains("This can no longer be decided: denied by ann: not before the freeze ends."), "{words}");
    }
}

#[test]
fn modals_carry_what_they_are_about_and_their_inputs_can_be_read() {
    let card = pending(deploy());
    let subject = format!("{}|{}", card.approval.id, card.approval.digest.prefix());
    let deny = blocks::deny_modal(&card, &LOOK);
    assert_eq!((deny["callback_id"].as_str(), deny["private_metadata"].as_str()), (Some("deny"), Some(&*subject)));
    let state = submitted(&deny, &[(field::REASON, "not now".into())]);
    assert_eq!(blocks::typed(&state, field::REASON).as_deref(), Some("not now"));
    assert_eq!(blocks::typed(&submitted(&deny, &[]), field::REASON), None);

    let review = blocks::review_modal(&card, &LOOK);
    assert_eq!(
        (review["callback_id"].as_str(), review["private_metadata"].as_str()),
        (Some("review"), Some(&*subject))
    );
    assert_eq!(pressed(review["blocks"].as_array().unwrap()), [(action::DENY.to_owned(), subject)]);

    let id = QuestionId::new(short(), 9, 0);
    let answer = blocks::answer_modal(id, "Where?", &choices(&["staging", "production"]));
    assert_eq!(answer["private_metadata"], id.to_string());
    let state = submitted(&answer, &[(field::ANSWER, "production".into())]);
    assert_eq!(blocks::typed(&state, field::ANSWER).as_deref(), Some("production"));

    let carried = StartModal {
        place: "slack:T1:C1".into(),
        about: Some(("a message of @bob".into(), "it is down".into())),
        author: None,
    };
    let agents = [("deployment".to_owned(), "Deploys.".to_owned()), ("support".to_owned(), String::new())];
    let start = blocks::start_modal(&carried, &agents, Some("support"));
    assert_eq!(start["blocks"][0]["element"]["initial_option"]["value"], "support");
    assert_eq!(serde_json::from_str::<StartModal>(start["private_metadata"].as_str().unwrap()).unwrap(), carried);
    let state = submitted(&start, &[(field::AGENT, "deployment".into()), (field::TASK, "look".into())]);
    assert_eq!(blocks::typed(&state, field::AGENT).as_deref(), Some("deployment"));
    assert_eq!(blocks::typed(&state, field::TASK).as_deref(), Some("look"));
}

// ---- S18: foreign text is not interpreted ----

#[test]
fn s18_a_models_mentions_and_hidden_links_are_only_text_and_its_formatting_stays() {
    let table = [
        ("Hello <!channel> and <!here|here> and <@U1>", "Hello &lt;!channel> and &lt;!here|here> and &lt;@U1>"),
        ("**bold** _it_ `code` > a < b", "**bold** _it_ `code` > a &lt; b"),
        ("[good.example](https://evil.example/x?a=1&b=2)", "good.example (https://evil.example/x?a=1&b=2)"),
        ("![logo](https://evil.example/i.png \"title\")", "logo (https://evil.example/i.png)"),
        ("<https://evil.example|https://good.example>", "&lt;https://evil.example|https://good.example>"),
        ("[a [b](c) d](https://evil.example)", "a [b] (c) d (https://evil.example)"),
        ("[x][ref]\n\n[ref]: https://evil.example", "[x][ref]\n\n[ref] : https://evil.example"),
        ("[two\nlines](https://evil.example)", "[two\nlines] (https://evil.example)"),
        ("- [ ] open\n- [x] done", "- [ ] open\n- [x] done"),
        ("`<!channel>` and `Vec<u8>`", "`&lt;!channel>` and `Vec<u8>`"),
        ("` [good](https://evil.example) `", "` [good] (https://evil.example) `"),
        ("a ` b\n` [good](https://evil.example) `", "a ` b\n` [good] (https://evil.example) `"),
        (
            "```\n<!everyone> Vec<u8> arr[0](x) #[a](https://e.example)\n```",
            "```\n&lt;!everyone> Vec<u8> arr[0](x) #[a] (https://e.example)\n```",
        ),
        ("~~~\n[good](https://evil.example)\n~~~", "~~~\ngood (https://evil.example)\n~~~"),
        ("safe\u{202e}gnp.exe", "safe\\u{202e}gnp.exe"),
        ("&lt;!channel&gt;", "&lt;!channel&gt;"),
    ];
    for (wrote, shown) in table {
        let message = &blocks::answer(wrote, "")[0];
        assert_eq!(message.blocks[0]["text"], shown, "{wrote}");
    }
}

/// Every `<…>` in mrkdwn: what Slack would read as a mention, a date or a link.
fn tokens(mrkdwn: &str) -> Vec<&str> {
    mrkdwn.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect()
}

#[test]
fn s18_no_foreign_text_becomes_a_mention_or_a_link_in_any_card() {
    let evil = "<!channel> <@U0EVIL> <https://evil.example|good> [good](https://evil.example) *bold* & \u{202e}";
    let ours = ["@U0", "!subteam^S0RELEASE", "!date^", "https://agent.example.com/inbox", "https://acme.slack.com/"];
    let mut seen = 0;
    for (name, mut card) in states() {
        card.agent = evil.into();
        card.tool = evil.into();
        card.why = evil.into();
        card.after_reading = Some(evil.into());
        let approval = &mut card.approval;
        approval.title = evil.into();
        approval.tool = evil.into();
        approval.args = json!({evil: evil, "list": [evil]});
        approval.original_args = Some(json!({evil: "other"}));
        approval.plan = Some(Plan { summary: evil.into(), facts: json!({evil: evil}) });
        approval.requesters.push(Principal { name: Some(evil.into()), ..Principal::human("slack:T2:U1") });
        approval.terms.approvers.groups.push(evil.into());
        approval.terms.approvers.users.push(evil.into());
        for cast in &mut approval.votes {
            cast.vote = Vote::Deny { reason: evil.into() };
            cast.by.name = Some(evil.into());
        }
        card.state = match card.state {
            CardState::Succeeded(_) => CardState::Succeeded(evil.into()),
            CardState::Failed(_) => CardState::Failed(evil.into()),
            CardState::Denied { .. } => CardState::Denied { by: evil.into(), reason: evil.into() },
            state => state,
        };
        let link = blocks::link_to_card(&card, Some("https://acme.slack.com/archives/C1/p1"), &LOOK);
        let one = blocks::card(std::slice::from_ref(&card), &LOOK);
        let two = blocks::card(&[card.clone(), card], &LOOK);
        for message in [one, two, link] {
            let mut markup = texts_of(&message.blocks, "mrkdwn");
            markup.push(message.text.clone());
            for text in &markup {
                for token in tokens(text) {
                    seen += 1;
                    assert!(
                        ours.iter().any(|ours| token.starts_with(ours)) && !token.contains("EVIL"),
                        "{name}: {text}"
                    );
                }
            }
            assert_eq!(texts_of(&message.blocks, "markdown"), Vec::<String>::new());
            assert!(!Value::from(message.blocks).to_string().contains('\u{202e}'), "{name}");
        }
    }
    assert!(seen > 50, "the cards do have mentions of their own");
}

#[test]
fn s18_foreign_words_of_questions_notices_and_modals_are_only_text() {
    let evil = "<!channel> [good](https://evil.example)";
    let id = QuestionId::new(short(), 9, 0);
    let messages = [
        ask(evil, choices(&[evil, "b"])),
        ask(evil, choices(&[evil; 7])),
        blocks::unknown(CallId::new(short(), 5, 0), evil, evil, &LOOK),
        blocks::notice(evil),
        blocks::answer(evil, evil).remove(0),
    ];
    for message in messages {
        assert_eq!(tokens(&message.text), NONE, "{}", message.text);
        for text in texts_of(&message.blocks, "mrkdwn") {
            assert_eq!(tokens(&text), NONE, "{text}");
        }
        for text in texts_of(&message.blocks, "markdown") {
            assert!(!text.contains('<') && !text.contains("]("), "{text}");
        }
    }
    let carried = StartModal { place: "slack:T1:C1".into(), about: Some((evil.into(), evil.into())), author: None };
    for modal in [
        blocks::answer_modal(id, evil, &choices(&[evil, "b"])),
        blocks::start_modal(&carried, &[(evil.into(), evil.into())], None),
        blocks::edit_modal(&pending(json!({"to": evil})), &schema(), &LOOK),
    ] {
        for text in texts_of(modal["blocks"].as_array().unwrap(), "mrkdwn") {
            assert_eq!(tokens(&text), NONE, "{text}");
        }
    }
    assert_eq!(blocks::escape("a<b>&\u{200b}"), "a&lt;b&gt;&amp;\\u{200b}");
}

// ---- S13: limits ----

/// Fragments that are hard on one limit or another.
const HARD: [&str; 12] =
    ["a", "word ", "\n", "\"", "\\", "<&>", "😀", "é\u{301}", "\u{202e}\u{200b}", "\u{0}", "`", "שלום "];

fn hard() -> impl Strategy<Value = String> {
    let piece = (prop::sample::select(HARD.to_vec()), prop::sample::select(vec![1_usize, 3, 80, 700, 3_000]));
    prop::collection::vec(piece, 0..5).prop_map(|all| all.iter().map(|(text, n)| text.repeat(*n)).collect())
}

/// Arguments, each value of which ends with a mark of its own, and the marks.
fn marked() -> impl Strategy<Value = (Value, Vec<String>)> {
    let value = (hard(), prop::sample::select(vec![1_usize, 1, 1, 1, 1, 1, 1, 30]));
    (prop::collection::vec(value, 0..12), any::<bool>()).prop_map(|(values, nested)| {
        let mut args = serde_json::Map::new();
        let mut marks = Vec::new();
        for (i, (text, times)) in values.into_iter().enumerate() {
            let mark = format!("END{i}END");
            let text = Value::from(format!("{}{mark}", text.repeat(times)));
            let name = text.as_str().unwrap().chars().take(3).collect::<String>();
            args.insert(format!("{name}{i}"), if nested && i == 0 { json!([{"deep": text}]) } else { text });
            marks.push(mark);
        }
        (Value::Object(args), marks)
    })
}

fn whole(value: &Value, marks: &[String]) -> bool {
    let shown = value.to_string();
    marks.iter().all(|mark| shown.contains(mark.as_str()))
}

/// A schema that names these arguments, and one more: a tool's schema names all that its calls can have.
fn names(args: &Value, words: &str) -> Value {
    let mut properties: serde_json::Map<String, Value> = args
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| (name.clone(), json!({ "description": words })))
        .collect();
    properties.insert(words.to_owned(), json!({ "type": "string", "description": words }));
    json!({ "properties": properties })
}

/// Approve is only where all of it is to be seen.
fn never_cut(name: &str, blocks: &[Value], modal: &Value, marks: &[String]) -> Result<(), TestCaseError> {
    let pre: Vec<&Value> = blocks.iter().filter(|b| b["type"] == "rich_text").collect();
    let offered = pressed(blocks);
    let approve = offered.iter().any(|(action, _)| action == action::APPROVE);
    let review = offered.iter().any(|(action, _)| action == action::REVIEW);
    prop_assert!(!approve || whole(&json!(pre), marks), "{name}: Approve beside what is cut");
    prop_assert!(!(approve && review));
    prop_assert!(!review || modal["submit"].is_object(), "{name}: Review leads nowhere");
    // In pieces, one after the other: together they are the text.
    let mut inside = String::new();
    for block in modal["blocks"].as_array().unwrap().iter().filter(|b| b["type"] == "rich_text") {
        for part in block["elements"].as_array().unwrap().iter().flat_map(|e| e["elements"].as_array().unwrap()) {
            inside.push_str(part["text"].as_str().unwrap_or(""));
        }
    }
    let inside = json!(inside);
    prop_assert!(modal["submit"].is_null() || whole(&inside, marks), "{name}: a review that is cut");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s13_a_card_of_any_arguments_is_within_limits_and_is_never_cut_beside_approve(
        (args, marks) in marked(),
        words in hard(),
        which in 0..17_usize,
        quorum in 1..40_u32,
    ) {
        let (name, mut card) = states().into_iter().nth(which).unwrap();
        card.approval.args = args;
        card.approval.title = words.clone();
        card.approval.tool = words.clone();
        card.agent = words.clone();
        card.why = words.clone();
        card.after_reading = Some(words.clone());
        card.approval.original_args = Some(json!({words.clone(): words.clone()}));
        card.approval.plan = Some(Plan { summary: words.clone(), facts: Value::Null });
        let named = |i: u32| Principal { name: Some(words.clone()), ..Principal::human(format!("slack:T2:U{i}")) };
        card.approval.requesters.extend((0..quorum).map(named));
        card.approval.terms.approvers.users.extend((0..quorum).map(|i| format!("slack:T1:U{i}")));
        for cast in &mut card.approval.votes {
            cast.vote = Vote::Approve { note: words.clone() };
        }
        card.state = match card.state {
            CardState::Succeeded(_) => CardState::Succeeded(words.clone()),
            CardState::Failed(_) => CardState::Failed(words.clone()),
            CardState::Pending { .. } => CardState::Pending { approved: (0..quorum - 1).map(named).collect(), needed: quorum },
            state => state,
        };
        let message = blocks::card(std::slice::from_ref(&card), &LOOK);
        prop_assert_eq!(wrong(&message), NONE, "{}", name);
        prop_assert_eq!(wrong(&blocks::link_to_card(&card, Some(&words), &LOOK)), NONE, "{}", name);
        let review = blocks::review_modal(&card, &LOOK);
        prop_assert_eq!(limits::view(&review), NONE, "{}", name);
        prop_assert!(review.to_string().len() < 250_000);
        never_cut(name, &message.blocks, &review, &marks)?;
        prop_assert_eq!(limits::view(&blocks::deny_modal(&card, &LOOK)), NONE, "{}", name);
        let edit = blocks::edit_modal(&card, &names(&card.approval.args, &words), &LOOK);
        prop_assert_eq!(limits::view(&edit), NONE, "{}", name);
        let offered = actions_of(&message).contains(&action::EDIT.to_owned());
        prop_assert!(!offered || edit["submit"].is_object(), "{}: Edit leads nowhere", name);
    }

    #[test]
    fn s13_a_card_of_any_calls_is_within_limits_and_no_row_is_cut_beside_approve(
        all in prop::collection::vec((marked(), any::<bool>()), 2..17),
        words in hard(),
    ) {
        let mut cards = batch(all.len() as u32, |i| all[i as usize].0.0.clone(), Risk::Low);
        for (card, (_, open)) in cards.iter_mut().zip(&all) {
            card.approval.title = words.clone();
            card.why = words.clone();
            if !open {
                card.approval.state = ApprovalState::Cancelled;
                card.state = CardState::Cancelled;
            }
        }
        let message = blocks::card(&cards, &LOOK);
        prop_assert_eq!(wrong(&message), NONE);
        // A row is a text, small print and its buttons.
        let offered = pressed(&message.blocks);
        for (card, ((_, marks), open)) in cards.iter().zip(&all) {
            let id = card.approval.id.to_string();
            let row = message.blocks.iter().position(|b| b["block_id"] == format!("apr:{id}:3"));
            let Some(row) = row else { continue };
            prop_assert!(open, "a decided row has no buttons");
            never_cut(&id, &message.blocks[row - 2..=row], &blocks::review_modal(card, &LOOK), marks)?;
        }
        let approve_all = offered.iter().find(|(action, _)| action == action::APPROVE_ALL);
        if let Some((_, values)) = approve_all {
            let open = all.iter().filter(|(_, open)| *open);
            prop_assert_eq!(values.split(' ').count(), open.clone().count());
            prop_assert!(open.clone().all(|((_, marks), _)| whole(&json!(message.blocks), marks)));
        }
    }

    #[test]
    fn s13_any_answer_is_split_within_limits_and_none_of_it_is_left_out(text in hard(), more in hard(), fenced: bool) {
        let text = if fenced { format!("{more}\n```rust\n{text}\n```\n{more}") } else { format!("{text}\n\n{more}") };
        let messages = blocks::answer(&text, &more);
        for message in &messages {
            prop_assert_eq!(wrong(message), NONE);
        }
        let letters = |text: &str| text.chars().filter(|c| c.is_alphabetic() && !"rustult".contains(*c)).count();
        let shown: usize = messages.iter().map(|m| letters(m.blocks[0]["text"].as_str().unwrap())).sum();
        prop_assert!(shown >= letters(&text), "{} of {}", shown, letters(&text));
    }

    #[test]
    fn s13_any_question_and_any_line_is_within_limits(
        text in hard(),
        choices in prop::collection::vec(hard(), 0..200),
        kind in 0..3_u8,
    ) {
        let answer = match kind {
            0 => AnswerKind::Text,
            1 => AnswerKind::YesNo,
            _ => AnswerKind::Choice { choices },
        };
        prop_assert_eq!(wrong(&ask(&text, answer.clone())), NONE);
        let id = QuestionId::new(short(), u64::MAX, u32::MAX);
        prop_assert_eq!(limits::view(&blocks::answer_modal(id, &text, &answer)), NONE);
        prop_assert_eq!(wrong(&blocks::notice(&text)), NONE);
        prop_assert_eq!(wrong(&blocks::unknown(CallId::new(short(), u64::MAX, u32::MAX), &text, &text, &LOOK)), NONE);
    }

    #[test]
    fn s13_the_modal_that_starts_a_run_is_within_limits(
        words in hard(),
        agents in prop::collection::vec(hard(), 0..150),
    ) {
        let carried = StartModal { place: "slack:T1:C1:171.2".into(), about: Some((words.clone(), words.repeat(10))), author: None };
        let mut agents: Vec<(String, String)> =
            agents.into_iter().enumerate().map(|(i, text)| (format!("a{i}"), text)).collect();
        agents.push(("chosen".into(), words));
        let modal = blocks::start_modal(&carried, &agents, Some("chosen"));
        prop_assert_eq!(limits::view(&modal), NONE);
        prop_assert_eq!(&modal["blocks"][0]["element"]["initial_option"]["value"], "chosen");
        let carried: Result<StartModal, _> = serde_json::from_str(modal["private_metadata"].as_str().unwrap());
        prop_assert_eq!(carried.unwrap().place, "slack:T1:C1:171.2");
    }

    #[test]
    fn any_text_that_nobody_touched_comes_back_from_the_edit_modal_as_it_was(text in hard(), lines in hard()) {
        let args = json!({"to": text, "body": lines, "count": 1, "level": "high", "tags": [text, "b"], "extra": {"x": lines}});
        let card = pending(args.clone());
        let modal = blocks::edit_modal(&card, &schema(), &LOOK);
        prop_assert_eq!(limits::view(&modal), NONE);
        if modal["submit"].is_object() {
            let back = blocks::edited_args(&card.approval, &schema(), &submitted(&modal, &[])).unwrap();
            prop_assert_eq!(json::parse(&back).unwrap(), args);
        }
    }
}

#[test]
fn s13_a_megabyte_of_arguments_is_drawn_at_once_and_offers_no_approve() {
    for fragment in HARD {
        let args = json!({"body": fragment.repeat(1_000_000 / fragment.len())});
        let some = json!({"body": fragment.repeat(20_000)});
        let cards = [vec![pending(args)], batch(16, |_| some.clone(), Risk::Low)];
        for cards in cards {
            let message = blocks::card(&cards, &LOOK);
            assert_eq!(wrong(&message), NONE, "{fragment:?}");
            let offered = actions_of(&message);
            let alone = cards.len() == 1;
            // A row of the same that is not seen is counted: then a megabyte of it is shown whole.
            let counted = blocks::covered(&cards[0].approval).len() < 100;
            let harmless = |a: &String| match a.as_str() {
                action::DENY | action::OPEN | action::MORE => true,
                action::APPROVE | action::APPROVE_ALL => counted,
                action::REVIEW => !alone,
                _ => false,
            };
            assert!(offered.iter().all(harmless), "{offered:?}");
            assert!(!read(&message).contains("Edit…"), "no input holds it");
        }
    }
}

#[test]
fn s13_an_argument_that_is_not_there_and_has_too_long_a_name_keeps_nobody_from_editing_the_others() {
    let card = pending(json!({"a": "x".repeat(2_000), "b": "y".repeat(2_000)}));
    let edit = blocks::edit_modal(&card, &names(&card.approval.args, &"z".repeat(700)), &LOOK);
    assert_eq!(limits::view(&edit), NONE);
    assert!(edit["submit"].is_object() && edit["blocks"].as_array().unwrap().len() == 3, "{edit}");
}

#[test]
fn s13_there_is_no_length_at_which_a_card_is_cut_beside_approve() {
    let mut offered = std::collections::BTreeSet::new();
    for length in (0..9_000).step_by(250).chain([2_380, 2_390, 2_400, 2_410, 2_420]) {
        let marks = ["END".to_owned()];
        let args = json!({"body": format!("{}END", "x".repeat(length))});
        for cards in [vec![pending(args.clone())], batch(3, |_| args.clone(), Risk::Low)] {
            let message = blocks::card(&cards, &LOOK);
            let review = blocks::review_modal(&cards[0], &LOOK);
            never_cut(&length.to_string(), &message.blocks, &review, &marks).unwrap();
            let all = actions_of(&message).iter().any(|action| action == action::APPROVE_ALL);
            assert!(!all || json!(message.blocks).to_string().matches("END").count() == cards.len(), "{length}");
            offered.extend(actions_of(&message));
        }
    }
    assert!(offered.contains(action::APPROVE) && offered.contains(action::REVIEW), "both sides of the limit");
}

#[test]
fn s13_block_ids_change_with_every_update_and_are_each_there_once() {
    for cards in [vec![pending(deploy())], batch(8, |_| deploy(), Risk::Low)] {
        let ids = |counter: u64| -> Vec<String> {
            let message = blocks::card(&cards, &Look { counter, ..LOOK });
            message.blocks.iter().filter_map(|b| b["block_id"].as_str().map(str::to_owned)).collect()
        };
        let (one, two) = (ids(1), ids(2));
        assert!(!one.is_empty());
        assert!(one.iter().all(|id| !two.contains(id)), "{one:?} {two:?}");
    }
}

// ---- for the validator that is not ours ----

/// One of everything that people see, by name: `{"blocks": …}` for a message, or a view.
fn everything() -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let mut add = |name: String, message: Message| {
        all.insert(name, json!({"blocks": message.blocks}));
    };
    let permalink = Some("https://acme.slack.com/archives/C9/p1");
    for (name, card) in states() {
        add(format!("card_{name}"), blocks::card(std::slice::from_ref(&card), &LOOK));
        add(format!("link_{name}"), blocks::link_to_card(&card, permalink, &LOOK));
    }
    for n in [2, 8, 9, 16] {
        add(format!("batch_{n}"), blocks::card(&batch(n, |_| deploy(), Risk::Low), &LOOK));
    }
    let numbered = |(i, mut card): (usize, Card)| {
        card.approval.id = ApprovalId::new(short(), 7, i as u32);
        card
    };
    let of_states: Vec<Card> = states().into_values().enumerate().map(numbered).collect();
    add("batch_of_states".into(), blocks::card(&of_states, &LOOK));
    let long = "x".repeat(200);
    let kinds = [
        ("text", AnswerKind::Text),
        ("yes_no", AnswerKind::YesNo),
        ("few", choices(&["staging", "production"])),
        ("many", choices(&["a", "b", "c", "d", "e", "f"])),
        ("long", choices(&["a", &long])),
    ];
    for (name, answer) in &kinds {
        add(format!("question_{name}"), ask("**Where** to, <!here>?", answer.clone()));
    }
    let id = QuestionId::new(short(), 9, 0);
    let call = CallId::new(short(), 5, 0);
    add("question_closed".into(), blocks::question_closed(id, &LOOK));
    add("unknown".into(), blocks::unknown(call, "Deploy api", "@release (1 needed)", &LOOK));
    add("notice".into(), blocks::notice("Paused by ann. Kept: https://agent.example.com/chat/x"));
    for (n, message) in
        blocks::answer(&"# Report\n\n- one `two`\n\n".repeat(1_000), "deployment").into_iter().enumerate()
    {
        add(format!("answer_{n}"), message);
    }
    let row = Row {
        text: "Deploy api".into(),
        detail: "high risk".into(),
        requesters: Vec::new(),
        deciders: vec!["@slack:T1:S1".into()],
        link: Some("https://agent.example.com/inbox/x".into()),
        approval: Some((ApprovalId::new(short(), 7, 0), "0123456789ab".into())),
    };
    let listing = Listing { title: "One waits".into(), rows: vec![row], hint: "Write `/agent help`.".into() };
    add("listing".into(), blocks::listing(&listing, &LOOK));

    let card = pending(message_args());
    let carried = StartModal {
        place: "slack:T1:C1".into(),
        about: Some(("a message of @bob".into(), "down".into())),
        author: None,
    };
    let agents = [("deployment".to_owned(), "Deploys.".to_owned()), ("support".to_owned(), String::new())];
    let request = HomeRequest {
        id: card.approval.id,
        digest: "0123456789ab".into(),
        title: "Deploy api".into(),
        agent: "deployment".into(),
        risk: "high",
        requesters: vec!["slack:T1:U1".into()],
        requested_at: NOON,
        expires_at: NOON.plus_ms(1_000),
        link: Some("https://agent.example.com/inbox/x".into()),
    };
    let run = HomeRun {
        title: "Deploy api".into(),
        agent: "deployment".into(),
        state: "at work".into(),
        updated_at: NOON,
        link: None,
    };
    let home = Home {
        waiting: vec![request],
        total: 12,
        runs: vec![run],
        agents: agents.to_vec(),
        decides_for: vec!["@slack:T1:S1".into()],
        command: "/agent".into(),
        version: "0.1.0".into(),
        ..Home::default()
    };
    let mut add = |name: &str, view: Value| drop(all.insert(name.to_owned(), view));
    add("modal_deny", blocks::deny_modal(&card, &LOOK));
    add("modal_review", blocks::review_modal(&card, &LOOK));
    add("modal_review_long", blocks::review_modal(&states()["pending_long"], &LOOK));
    add("modal_review_elsewhere", blocks::review_modal(&states()["pending_too_long"], &LOOK));
    add("modal_edit", blocks::edit_modal(&card, &schema(), &LOOK));
    add("modal_edit_all", blocks::edit_modal(&card, &json!({}), &LOOK));
    add("modal_settled", blocks::deny_modal(&states()["denied"], &LOOK));
    add("modal_start", blocks::start_modal(&carried, &agents, Some("support")));
    add("modal_listing", blocks::listing_modal("Waiting for you", &listing, &LOOK));
    for (name, answer) in &kinds {
        add(&format!("modal_answer_{name}"), blocks::answer_modal(id, "Where to?", answer));
    }
    add("home", blocks::home(&home, &LOOK));
    add("home_empty", blocks::home(&Home { command: "/agent".into(), ..Home::default() }, &LOOK));
    all
}

/// `tests/block_kit/check.sh` has them checked by slack_sdk: it names a directory in `TWELVE_BLOCKS`.
#[test]
fn blocks_are_written_out_for_a_validator_that_is_not_ours() {
    let everything = everything();
    for (name, document) in &everything {
        let wrong = match document.get("type") {
            Some(_) => limits::view(document),
            None => limits::blocks(&document["blocks"], Surface::Message),
        };
        assert_eq!(wrong, NONE, "{name}");
    }
    if let Some(directory) = std::env::var_os("TWELVE_BLOCKS") {
        for (name, document) in &everything {
            let path = std::path::Path::new(&directory).join(format!("{name}.json"));
            std::fs::write(path, serde_json::to_vec_pretty(document).unwrap()).unwrap();
        }
    }
}

#[test]
fn a_card_is_whole_as_long_as_slack_counts_no_more_than_it_shows() {
    assert!(blocks::is_whole(&pending(deploy()), &LOOK));
    // Slack counts UTF-16 units: each of these is two.
    let text = |n: usize| json!({ "text": "🚀".repeat(n) });
    for (args, whole) in [(text(1_000), true), (text(1_300), false), (json!({ "text": "x".repeat(2_600) }), false)] {
        let card = pending(args);
        assert_eq!(blocks::is_whole(&card, &LOOK), whole);
        let drawn = blocks::card(std::slice::from_ref(&card), &LOOK);
        let drawn = serde_json::to_string(&drawn.blocks).unwrap();
        assert_eq!(drawn.contains(action::APPROVE), whole, "Approve stands where all of it is shown");
    }
}
