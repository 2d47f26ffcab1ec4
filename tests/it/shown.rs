//! Cards hide nothing: every string of a request holds a sample of each class of characters that are not seen, or that
//! change how others are seen, and literal text for such a character; what each surface makes of it is searched for
//! what got through, for what was not shown in the strict view, and for what was shown twice. Within the crate,
//! `cli::words` and `http::console::inbox` do the same for what they own.

use serde_json::{Value, json};
use twelve::agent::visible::is_unseen;
use twelve::agent::*;
use twelve::cli::screen::{self, Line, Steps};
use twelve::platform::slack::blocks::{self, Home, HomeRequest, HomeRun, Look, StartModal};
use twelve::platform::{Card, CardState, Listing, Outbound, Row, words};

use crate::fakes::slack::limits::{self, Surface};

const NOON: Timestamp = Timestamp(1_795_356_000_000);
const LOOK: Look = Look { team: "T1", public_url: "https://agent.example.com", counter: 3 };

/// `\u{7e57}` is the literal text: a place that shows it as it is could be told a real character by it.
const SAMPLE: &str = concat!(
    "x\\u{7e57}\u{202e}\u{200b}\u{fe0f}\u{fe0f}\u{fe0f}\u{fe0f}\u{fe0f}\u{e0041}\u{e007f}\u{3164}\u{2800}\u{a0}\u{2028}",
    "\u{7}\u{1b}[2J\u{e000}\u{ffff}\u{34f}\u{2067}\u{ad}\t \r\n p\u{430}y \u{301}\u{301}\u{301}\u{301}\u{301}\u{301}z"
);
/// For what is shown in prose; nothing of it stays there.
const PROSE: &str = "x\u{202e}\u{200b}y\u{fe0f}\u{e0041}\u{3164}\u{2028}\u{7}\u{1b}[2J\u{e000}\u{ffff}\u{2067}z";

fn evil() -> String {
    SAMPLE.to_owned()
}

fn check(what: &str, shown: &str) {
    let unseen = shown.chars().find(|c| *c != '\n' && is_unseen(*c)).map(|c| format!("U+{:04X}", u32::from(c)));
    assert_eq!(unseen, None, "{what}: {shown:?}");
    let forged = shown.match_indices("\\u{7e57}").any(|(at, _)| !shown[..at].ends_with('\\'));
    assert!(!forged, "{what} is not in the strict view: {shown}");
    let twice = shown.contains("\\u{5c}u{202e") || shown.contains("\\u{5c}u{200b");
    assert!(!twice, "{what} is shown twice: {shown}");
}

/// All texts that Slack shows of a message or view: what only our own code reads is left out.
fn check_blocks(what: &str, value: &Value) {
    match value {
        Value::String(text) => check(what, text),
        Value::Array(items) => items.iter().for_each(|item| check_blocks(what, item)),
        Value::Object(fields) => {
            let carried = ["value", "private_metadata", "block_id", "action_id", "callback_id", "url"];
            for (name, value) in fields.iter().filter(|(name, _)| !carried.contains(&name.as_str())) {
                check_blocks(&format!("{what}.{name}"), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn approval() -> Approval {
    let short = "slack:T1:C1:171.2".parse::<ThreadId>().unwrap().short();
    let person = || Principal::human(evil());
    let cast = |vote| CastVote { by: person(), groups: Vec::new(), named: None, vote, at: NOON };
    Approval {
        id: ApprovalId::new(short, 7, 0),
        call: CallId::new(short, 5, 0),
        tool: evil(),
        revision: 2,
        because: Because::Edited { by: person() },
        title: evil(),
        args: json!({ SAMPLE: SAMPLE, "b": [{ SAMPLE: SAMPLE }], "c": SAMPLE }),
        original_args: Some(json!({ SAMPLE: "a", "d": SAMPLE })),
        former_terms: None,
        plan: Some(Plan { summary: evil(), facts: json!({ SAMPLE: [SAMPLE] }) }),
        digest: Digest::of(b"shown"),
        terms: Terms {
            rule: evil(),
            risk: Risk::High,
            approvers: Approvers { users: vec![evil()], groups: vec![evil()], ..Approvers::default() },
            expires_after_ms: 7_200_000,
            untrusted: Untrusted::default(),
            route: Route::default(),
        },
        requesters: vec![person()],
        requested_at: NOON,
        expires_at: NOON.plus_ms(7_200_000),
        votes: vec![cast(Vote::Approve { note: evil() }), cast(Vote::Deny { reason: evil() })],
        state: ApprovalState::Pending,
        settled_at: None,
        result: None,
    }
}

fn cards() -> Vec<Card> {
    let states = [
        (ApprovalState::Pending, CardState::Pending { approved: vec![Principal::human(evil())], needed: 2 }),
        (ApprovalState::Denied { at: NOON, reason: evil() }, CardState::Denied { by: evil(), reason: evil() }),
        (ApprovalState::Used { at: NOON }, CardState::Succeeded(PROSE.to_owned())),
        (ApprovalState::Used { at: NOON }, CardState::Failed(PROSE.to_owned())),
        (ApprovalState::Used { at: NOON }, CardState::Unknown),
        (ApprovalState::Expired { at: NOON }, CardState::Expired),
    ];
    let becauses = [Because::Edited { by: Principal::human(evil()) }, Because::Stale { why: evil() }];
    let mut all = Vec::new();
    for (state, shown) in states {
        for because in becauses.clone() {
            all.push(Card {
                approval: Approval { state: state.clone(), because, ..approval() },
                agent: evil(),
                tool: evil(),
                editable: true,
                why: PROSE.to_owned(),
                after_reading: Some(evil()),
                state: shown.clone(),
            });
        }
    }
    all
}

fn question(answer: AnswerKind) -> Question {
    Question { cause: QuestionCause::Agent, text: PROSE.to_owned(), answer }
}

fn outbounds() -> Vec<Outbound> {
    let short = approval().id.thread;
    let choice = AnswerKind::Choice { choices: vec![evil(), "b".to_owned()] };
    let mut all: Vec<Outbound> = cards().into_iter().map(|card| Outbound::Card(Box::new(card))).collect();
    all.extend([
        Outbound::Answer { agent: evil(), text: PROSE.to_owned() },
        Outbound::Question { id: QuestionId::new(short, 5, 0), question: question(choice) },
        Outbound::Unknown { call: CallId::new(short, 5, 0), title: evil(), waits_for: evil() },
        Outbound::Notice { text: evil() },
    ]);
    all
}

#[test]
fn slack_shows_every_string_of_a_request_in_the_strict_view() {
    let cards = cards();
    for card in &cards {
        let one = blocks::card(std::slice::from_ref(card), &LOOK);
        assert_eq!(limits::blocks(&json!(one.blocks), Surface::Message), Vec::<String>::new());
        check_blocks("card", &json!([one.text, one.blocks]));
        let link = blocks::link_to_card(card, None, &LOOK);
        check_blocks("link", &json!([link.text, link.blocks]));
        let schema = json!({"properties": {
            SAMPLE: {"type": "string", "description": SAMPLE},
            "b": {"type": "array"},
            "c": {"type": "string", "enum": [SAMPLE], "description": SAMPLE},
        }});
        check_blocks("edit", &blocks::edit_modal(card, &schema, &LOOK));
        check_blocks("review", &blocks::review_modal(card, &LOOK));
        check_blocks("deny", &blocks::deny_modal(card, &LOOK));
    }
    let many = blocks::card(&cards[..4], &LOOK);
    check_blocks("cards", &json!([many.text, many.blocks]));
    let id = QuestionId::new(approval().id.thread, 5, 0);
    for choices in [vec![evil()], vec![evil(); 7], vec!["b".to_owned(); 7], vec![SAMPLE.repeat(9), "c".to_owned()]] {
        let asked = question(AnswerKind::Choice { choices });
        let message = blocks::question(id, &asked, &LOOK);
        check_blocks("question", &json!([message.text, message.blocks]));
        check_blocks("answer modal", &blocks::answer_modal(id, &asked.text, &asked.answer));
    }
    let unknown = blocks::unknown(approval().call, SAMPLE, SAMPLE, &LOOK);
    check_blocks("unknown", &json!([unknown.text, unknown.blocks]));
    let notice = blocks::notice(SAMPLE);
    check_blocks("notice", &json!([notice.text, notice.blocks]));
    for answer in blocks::answer(PROSE, SAMPLE) {
        check_blocks("answer", &json!([answer.text, answer.blocks]));
    }
    let start = StartModal { place: "slack:T1:C1".into(), about: Some((evil(), PROSE.to_owned())), author: None };
    check_blocks("start", &blocks::start_modal(&start, &[(evil(), evil()), ("a".into(), evil())], Some("a")));
}

#[test]
fn lists_and_the_home_of_slack_show_names_and_titles_in_the_strict_view() {
    let row = Row {
        text: words::quote(SAMPLE),
        detail: words::quote(SAMPLE),
        requesters: vec![evil()],
        deciders: vec![evil(), format!("@{SAMPLE}")],
        link: None,
        approval: Some((approval().id, "0123456789ab".into())),
    };
    let listing = Listing { title: words::quote(SAMPLE), rows: vec![row], hint: words::quote(SAMPLE) };
    let message = blocks::listing(&listing, &LOOK);
    check_blocks("listing", &json!([message.text, message.blocks]));
    check_blocks("listing modal", &blocks::listing_modal("Waiting", &listing, &LOOK));
    let home = Home {
        waiting: vec![HomeRequest {
            id: approval().id,
            digest: "0123456789ab".into(),
            title: words::quote(SAMPLE),
            agent: words::quote(SAMPLE),
            risk: "high",
            requesters: vec![evil()],
            requested_at: NOON,
            expires_at: NOON,
            link: None,
        }],
        runs: vec![HomeRun {
            title: words::quote(SAMPLE),
            agent: words::quote(SAMPLE),
            state: "done".into(),
            updated_at: NOON,
            link: None,
        }],
        agents: vec![(evil(), evil())],
        decides_for: vec![evil()],
        ..Home::default()
    };
    check_blocks("home", &blocks::home(&home, &LOOK));
}

#[test]
fn the_terminal_shows_every_string_of_a_request_in_the_strict_view() {
    for outbound in outbounds() {
        let lines: Vec<Line> = screen::posting(&outbound, NOON);
        check("terminal", &screen::render(&lines, false));
        let text = screen::posting_json(&outbound, NOON)["text"].as_str().unwrap().to_owned();
        check("terminal, for a program", &text);
    }
    check("refused", &screen::render(&screen::refused(SAMPLE), false));
    let short = approval().id.thread;
    let call = |verdict| GatedCall { tool: evil(), args: json!({}), title: evil(), facts: None, verdict };
    let why = PROSE.to_owned();
    let calls = vec![
        call(Verdict::Auto { rule: evil() }),
        call(Verdict::Deny { rule: evil(), why: evil() }),
        call(Verdict::Invalid { error: evil() }),
        call(Verdict::Held { why: evil() }),
    ];
    let by = || Principal::human(evil());
    let model = ModelStamp { provider: evil(), model: evil(), prompt: "0".into() };
    let bodies = vec![
        Body::ModelReplied {
            seen: 1,
            step: NextStep::Call { calls, why },
            model,
            usage: Usage::default(),
            sent: 0,
            correction: String::new(),
        },
        Body::ToolFinished {
            call: CallId::new(short, 1, 0),
            outcome: Outcome::Failed { error: evil() },
            duration_ms: 1,
        },
        Body::ToolPlanned { call: CallId::new(short, 1, 1), plan: Err(evil()) },
        Body::Gathered { message: 1, texts: vec![Gathered::of_no_one(evil(), Err(evil()))] },
        Body::MessageReceived {
            from: by(),
            text: evil(),
            outside: Some(evil()),
            prefetch: Vec::new(),
            attached: vec![Attached::File { name: evil(), place: "F1".into() }],
            masked: 0,
            context: Vec::new(),
        },
        Body::Paused { by: by(), why: evil() },
        Body::QuestionAnswered {
            question: QuestionId::new(short, 1, 0),
            by: by(),
            text: evil(),
            groups: vec![],
            named: None,
        },
    ];
    let mut steps = Steps::default();
    for (seq, body) in (1..).zip(bodies) {
        let event = Event { v: EVENT_VERSION, seq, at: NOON, source: None, answers: None, prev: Digest::ZERO, body };
        check("step", &screen::render(&steps.tell(short, &event), false));
        check("history", &screen::render(&[screen::history_line(&event)], false));
        check("event", &words::event_line(&event));
    }
}

/// Where Slack shows only the beginning, Approve is not offered: what is counted is the shown text, which is longer
/// than the value.
#[test]
fn a_text_that_grows_by_being_written_out_goes_behind_review() {
    let mut card = cards().remove(0);
    card.state = CardState::Pending { approved: Vec::new(), needed: 1 };
    card.approval.original_args = None;
    card.approval.because = Because::Gated;
    // 600 characters in two alternating kinds: nothing of it can be counted in a row.
    card.approval.args = json!({ "body": format!("x{}", "\u{fe0f}\u{fe0e}".repeat(300)) });
    card.approval.plan = None;
    let whole = blocks::covered(&card.approval);
    assert_eq!(whole.matches("\\u{fe0f}\\u{fe0e}").count(), 300);
    let message = blocks::card(std::slice::from_ref(&card), &LOOK);
    let shown = json!(message.blocks).to_string();
    assert!(!shown.contains("apr.approve") && shown.contains("apr.review"), "{shown}");
    assert!(!blocks::is_whole(&card, &LOOK));
    let review = blocks::review_modal(&card, &LOOK).to_string();
    assert_eq!(review.matches("u{fe0e}").count(), 300, "all of it is in the review");
    // 35 of the same are counted, and another payload of 35 looks different.
    card.approval.args = json!({ "body": format!("x{}", "\u{fe0f}".repeat(35)) });
    assert_eq!(blocks::covered(&card.approval), "body: x\\u{fe0f*35}");
    assert!(blocks::is_whole(&card, &LOOK));
}
