//! What Slack sends, as its documentation shows it, and what is read from it.

use secrecy::SecretString;
use serde_json::{Value, json};
use twelve::platform::slack::inbound::*;

/// Slack's own example of a signed request.
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const TIMESTAMP: &str = "1531420618";
const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
const NOW: i64 = 1_531_420_618;

fn signed(secret: &str, timestamp: &str, signature: &str, body: &str, now: i64) -> bool {
    is_signed(&SecretString::from(secret), timestamp, signature, body.as_bytes(), now)
}

#[test]
fn s5_slacks_documented_example_is_found_right() {
    assert!(signed(SECRET, TIMESTAMP, SIGNATURE, BODY, NOW));
}

#[test]
fn s5_whatever_differs_from_what_slack_signed_is_refused() {
    let digits = SIGNATURE.strip_prefix("v0=").unwrap();
    let upper = format!("v0={}", digits.to_uppercase());
    let capital = format!("V0={digits}");
    let next = format!("v1={digits}");
    let longer = format!("{SIGNATURE}00");
    let decoded: String = BODY.replace("%2F", "/").replace("%3A", ":");
    let table: &[(&str, &str, &str, &str, &str)] = &[
        ("nothing at all", SECRET, "", "", BODY),
        ("no signature", SECRET, TIMESTAMP, "", BODY),
        ("no timestamp", SECRET, "", SIGNATURE, BODY),
        ("upper-case digits", SECRET, TIMESTAMP, &upper, BODY),
        ("a capital version", SECRET, TIMESTAMP, &capital, BODY),
        ("another version", SECRET, TIMESTAMP, &next, BODY),
        ("no version", SECRET, TIMESTAMP, digits, BODY),
        ("half of it", SECRET, TIMESTAMP, &SIGNATURE[..35], BODY),
        ("an odd number of digits", SECRET, TIMESTAMP, &SIGNATURE[..66], BODY),
        ("one byte more", SECRET, TIMESTAMP, &longer, BODY),
        ("the version alone", SECRET, TIMESTAMP, "v0=", BODY),
        ("a space before", SECRET, TIMESTAMP, &format!(" {SIGNATURE}"), BODY),
        ("a space behind", SECRET, TIMESTAMP, &format!("{SIGNATURE} "), BODY),
        ("two of them", SECRET, TIMESTAMP, &format!("{SIGNATURE},{SIGNATURE}"), BODY),
        ("another secret", "8f742231b10e8888abcd99yyyzzz85a6", TIMESTAMP, SIGNATURE, BODY),
        ("another time", SECRET, "1531420619", SIGNATURE, BODY),
        ("a time with a sign", SECRET, "+1531420618", SIGNATURE, BODY),
        ("a negative time", SECRET, "-1531420618", SIGNATURE, BODY),
        ("a time with a fraction", SECRET, "1531420618.0", SIGNATURE, BODY),
        ("milliseconds", SECRET, "1531420618000", SIGNATURE, BODY),
        ("words for a time", SECRET, "now", SIGNATURE, BODY),
        ("a time beyond all numbers", SECRET, &"9".repeat(60), SIGNATURE, BODY),
        ("digits of another script", SECRET, "१५३१४२०६१८", SIGNATURE, BODY),
        ("another body", SECRET, TIMESTAMP, SIGNATURE, &BODY.replace("roadrunner", "coyote")),
        ("no body", SECRET, TIMESTAMP, SIGNATURE, ""),
        ("the body as it reads when decoded", SECRET, TIMESTAMP, SIGNATURE, &decoded),
        ("a line break behind the body", SECRET, TIMESTAMP, SIGNATURE, &format!("{BODY}\n")),
    ];
    for (what, secret, timestamp, signature, body) in table {
        assert!(!signed(secret, timestamp, signature, body, NOW), "{what}");
    }
}

#[test]
fn s5_five_minutes_either_way_and_no_second_more() {
    for (off, fits) in [(-301, false), (-300, true), (-299, true), (0, true), (299, true), (300, true), (301, false)] {
        assert_eq!(signed(SECRET, TIMESTAMP, SIGNATURE, BODY, NOW + off), fits, "{off} s");
    }
    for now in [i64::MIN, -1, 0, i64::MAX] {
        assert!(!signed(SECRET, TIMESTAMP, SIGNATURE, BODY, now), "{now}");
    }
}

#[test]
fn s5_an_empty_secret_vouches_for_nobody() {
    use hmac::Mac as _;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"").unwrap();
    mac.update(format!("v0:{TIMESTAMP}:{BODY}").as_bytes());
    let right = format!("v0={}", data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()));
    assert!(!signed("", TIMESTAMP, &right, BODY, NOW));
}

// ---- reading

fn bot(team: &str) -> Option<String> {
    (team == "T1").then(|| "UBOT".to_owned())
}

fn event(event: Value) -> Inbound {
    let body = json!({
        "token": "x", "team_id": "T1", "api_app_id": "A1", "type": "event_callback", "event_id": "Ev1",
        "event_time": 1_531_420_618, "event": event, "an unknown field": {"deep": [1, 2, 3]},
        "authorizations": [{
            "enterprise_id": null, "team_id": "T1", "user_id": "UBOT", "is_bot": true, "is_enterprise_install": false,
        }],
    });
    read(&Envelope::Event(body), bot)
}

fn message(fields: Value) -> Inbound {
    let mut message = json!({
        "type": "message", "channel": "C1", "channel_type": "channel", "user": "U1", "text": "hello",
        "ts": "1531420618.000200", "event_ts": "1531420618.000200", "team": "T1",
    });
    for (name, value) in fields.as_object().unwrap() {
        message[name] = value.clone();
    }
    event(message)
}

fn ann() -> Who {
    Who { team: "T1".into(), home: "T1".into(), user: "U1".into(), name: None }
}

#[test]
fn s7_a_mention_and_its_message_read_the_same() {
    let text = "<@UBOT> deploy <https://github.com/acme/api|api> to staging &amp; tell <@U2> in <#C2|releases>";
    let plain = message(json!({"text": text}));
    let Inbound::Message(read) = &plain else { panic!("{plain:?}") };
    assert_eq!(
        **read,
        Message {
            by: ann(),
            channel: "C1".into(),
            kind: "channel".into(),
            ts: "1531420618.000200".into(),
            thread: None,
            text: "deploy api (https://github.com/acme/api) to staging & tell @U2 in #releases".into(),
            mentions_us: true,
            root_is_ours: false,
            files: vec![],
            quoted: vec![],
        }
    );
    let mention = event(json!({
        "type": "app_mention", "channel": "C1", "user": "U1", "text": text, "ts": "1531420618.000200",
        "event_ts": "1531420618.000200", "team": "T1",
    }));
    assert_eq!(mention, plain);
}

#[test]
fn texts_are_read_as_people_read_them() {
    let table = [
        ("<@UBOT> stop", "stop"),
        ("<@UBOT>", ""),
        ("please, <@UBOT>, stop", "please, , stop"),
        ("ask <@UBOT|agent> now", "ask now"),
        ("<@U2|bob> &lt;b&gt; &amp;amp;", "@bob <b> &amp;"),
        ("<#C2|releases> <#C3> <#C4|>", "#releases #C3 #C4"),
        ("<!here> <!channel> <!everyone>", "@here @channel @everyone"),
        ("<!subteam^S1|@release-team> <!subteam^S1>", "@release-team @S1"),
        ("<!date^1531420618^{date}|12 July>", "12 July"),
        ("<https://a.example/x?a=1&amp;b=2>", "https://a.example/x?a=1&b=2"),
        ("<http://a.example|a.example>", "a.example"),
        ("<https://a.example/|https://a.example>", "https://a.example"),
        ("<https://evil.example|https://bank.example>", "https://bank.example (https://evil.example)"),
        ("<mailto:a@b.example|a@b.example> <tel:+1|+1>", "a@b.example +1"),
        ("a < b and c > d", "a < b and c > d"),
        ("x<y", "x<y"),
        ("<", "<"),
        ("<@", "<@"),
        ("<<@U2>>", "<@U2>"),
        ("if a <b> c", "if a <b> c"),
        ("line\n<@U2>\nline", "line\n@U2\nline"),
        ("日本 <@U2> 語", "日本 @U2 語"),
    ];
    for (raw, read) in table {
        assert_eq!(plain(raw, Some("UBOT")), read, "{raw}");
    }
}

#[test]
fn s19_what_programs_write_and_what_is_no_message_is_not_taken() {
    let ours = json!({"user": "UBOT", "bot_id": "BBOT", "app_id": "A1"});
    let table = [
        ("our own message", ours),
        ("our own without a bot's id", json!({"user": "UBOT"})),
        ("another bot's", json!({"bot_id": "B9"})),
        ("an old bot's", json!({"subtype": "bot_message", "username": "jenkins", "user": null})),
        ("Slack's own", json!({"user": "USLACKBOT"})),
        ("somebody joined", json!({"subtype": "channel_join"})),
        ("a topic", json!({"subtype": "channel_topic"})),
        ("a reply that is only announced", json!({"subtype": "message_replied"})),
        ("a hidden one", json!({"hidden": true})),
        ("a pin", json!({"subtype": "pinned_item"})),
    ];
    for (what, fields) in table {
        assert!(matches!(message(fields), Inbound::Ignored { .. }), "{what}");
    }
    let changed = |now: Value, before: Value| {
        event(json!({
            "type": "message", "subtype": "message_changed", "hidden": true, "channel": "C1", "channel_type": "channel",
            "ts": "1531420700.000100", "event_ts": "1531420700.000100", "message": now, "previous_message": before,
        }))
    };
    let stands = json!({"type": "message", "user": "U1", "text": "a", "ts": "1531420618.000200", "team": "T1"});
    let with = |fields: Value| {
        let mut message = stands.clone();
        for (name, value) in fields.as_object().unwrap() {
            message[name] = value.clone();
        }
        message
    };
    let unfurled = with(json!({"attachments": [{"from_url": "https://a.example"}]}));
    assert!(matches!(changed(unfurled, stands.clone()), Inbound::Ignored { .. }));
    // Slack shows a link in a message that was edited before.
    let old_edit = json!({"edited": {"user": "U1", "ts": "1531420650.000000"}});
    let (now, before) = (with(json!({"edited": old_edit["edited"], "attachments": []})), with(old_edit));
    assert!(matches!(changed(now, before), Inbound::Ignored { .. }));
    let ours = with(json!({"bot_id": "BBOT", "text": "b", "edited": {"user": "UBOT", "ts": "1531420700.000000"}}));
    assert!(matches!(changed(ours, stands.clone()), Inbound::Ignored { .. }));
    let edited = with(json!({"text": "b &lt;", "thread_ts": "1531420000.000100",
        "edited": {"user": "U1", "ts": "1531420700.000000"}}));
    assert_eq!(
        changed(edited, stands.clone()),
        Inbound::Edited {
            by: ann(),
            channel: "C1".into(),
            thread: Some("1531420000.000100".into()),
            ts: "1531420618.000200".into(),
            text: "b <".into(),
            edited: "1531420700.000000".into(),
        }
    );
    let gone = Inbound::Deleted {
        by: ann(),
        channel: "C1".into(),
        thread: None,
        ts: "1531420618.000200".into(),
        text: "a".into(),
    };
    let deleted = event(json!({
        "type": "message", "subtype": "message_deleted", "hidden": true, "channel": "C1", "channel_type": "channel",
        "ts": "1531420700.000100", "deleted_ts": "1531420618.000200", "event_ts": "1531420700.000100",
        "previous_message": stands,
    }));
    assert_eq!(deleted, gone);
    let stone = json!({"type": "message", "subtype": "tombstone", "user": "USLACKBOT", "hidden": true,
        "text": "This message was deleted.", "ts": "1531420618.000200", "thread_ts": "1531420618.000200"});
    assert_eq!(changed(stone, stands), gone);
}

#[test]
fn files_and_forwarded_messages_come_along() {
    let read = message(json!({
        "subtype": "file_share", "text": "look", "thread_ts": "1531420000.000100", "parent_user_id": "UBOT",
        "files": [
            {"id": "F1", "name": "errors.log", "mimetype": "text/plain", "size": 120, "url_private": "https://files.slack.com/x"},
            {"id": "F2", "mode": "tombstone"},
            {"id": "not an id"}, 7,
        ],
        "attachments": [
            {"is_share": true, "author_name": "bob", "author_id": "U2", "text": "it is &lt;down&gt;"},
            {"from_url": "https://a.example", "text": "a page that Slack shows"},
        ],
    }));
    let Inbound::Message(read) = read else { panic!("{read:?}") };
    let file = |id: &str, name: &str, mimetype: &str, size| File {
        id: id.into(),
        name: name.into(),
        mimetype: mimetype.into(),
        size,
    };
    assert_eq!(read.files, [file("F1", "errors.log", "text/plain", 120), file("F2", "without a name", "", 0)]);
    let (label, text) = ("a forwarded message of bob".to_owned(), "it is <down>".to_owned());
    assert_eq!(read.quoted, [twelve::platform::slack::inbound::Quoted { label, text, author: Some("U2".to_owned()) }]);
    assert_eq!((read.thread.as_deref(), read.root_is_ours), (Some("1531420000.000100"), true));
}

#[test]
fn s3_whatever_comes_is_read_and_nothing_of_it_is_an_error() {
    let odd = |envelope: Envelope| matches!(read(&envelope, bot), Inbound::Odd { .. } | Inbound::Ignored { .. });
    let inner = [
        json!({}),
        json!(null),
        json!([]),
        json!({"type": 7}),
        json!({"type": "a_type_of_next_year", "anything": [{}]}),
        json!({"type": "message"}),
        json!({"type": "message", "channel": "C1", "user": "U1", "text": "x", "ts": "soon"}),
        json!({"type": "message", "channel": "C1:C2", "user": "U1", "text": "x", "ts": "1.2"}),
        json!({"type": "message", "channel": "C1", "user": "U1 U2", "text": "x", "ts": "1.2"}),
        json!({"type": "message", "channel": ["C1"], "user": {}, "text": 1, "ts": 1.2}),
        json!({"type": "message", "channel": "C1", "user": "U1", "text": "x", "ts": "1.2", "thread_ts": 7}),
        json!({"type": "message", "subtype": "message_changed", "channel": "C1"}),
        json!({"type": "message", "subtype": "message_deleted", "channel": "C1"}),
        json!({"type": "app_mention"}),
        json!({"type": "reaction_added", "item": {"type": "file"}, "user": "U1"}),
        json!({"type": "reaction_added", "item": {"type": "message"}, "item_user": "UBOT", "user": "U1"}),
        json!({"type": "app_home_opened"}),
        json!({"type": "app_home_opened", "user": "U1", "tab": "messages"}),
        json!({"type": "assistant_thread_started"}),
        json!({"type": "tokens_revoked", "tokens": {"oauth": ["U1"]}}),
        json!({"type": "x".repeat(100_000)}),
    ];
    for inner in inner {
        let body = json!({"type": "event_callback", "team_id": "T1", "event": inner});
        assert!(odd(Envelope::Event(body.clone())), "{body}");
        assert!(odd(Envelope::Interaction(inner.clone())), "{inner}");
        assert!(odd(Envelope::Command(inner.clone())), "{inner}");
        assert!(odd(Envelope::Event(inner.clone())), "{inner}");
    }
    for kind in ["block_actions", "view_submission", "view_closed", "shortcut", "message_action", "block_suggestion"] {
        for rest in [json!({}), json!({"team": {"id": "T1"}}), json!({"team": {"id": "T1"}, "user": {"id": "U1"}})] {
            let mut body = rest;
            body["type"] = kind.into();
            if !(kind == "view_closed" && body["user"]["id"] == "U1") {
                assert!(odd(Envelope::Interaction(body.clone())), "{body}");
            }
        }
    }
}

#[test]
fn s20_a_person_of_another_team_keeps_that_team() {
    let Inbound::Message(guest) = message(json!({"user": "U9", "team": "T9", "user_team": "T9"})) else { panic!() };
    assert_eq!(guest.by, Who { team: "T1".into(), home: "T9".into(), user: "U9".into(), name: None });
    assert!(!guest.by.is_at_home());
    // What a delivery says of where it happened may be the guest's own team: it makes nobody one of ours.
    let mut body = json!({
        "type": "event_callback", "team_id": "T9", "enterprise_id": "E9",
        "event": {"type": "message", "channel": "C1", "user": "U9", "text": "x", "ts": "1.2", "team": "T9"},
        "authorizations": [{"enterprise_id": null, "team_id": "T1", "user_id": "UBOT", "is_bot": true}],
    });
    let home = |body: &Value| match read(&Envelope::Event(body.clone()), bot) {
        Inbound::Message(message) => (message.by.team, message.by.home),
        other => panic!("{other:?}"),
    };
    assert_eq!(home(&body), ("T1".to_owned(), "T9".to_owned()));
    body["event"]["team"] = "E9".into();
    assert_eq!(home(&body), ("T1".to_owned(), "E9".to_owned()));
    // In an organisation that the app is installed in as a whole, its teams are one.
    body["authorizations"] = json!([{"enterprise_id": "E9", "team_id": "T9", "is_enterprise_install": true}]);
    body["event"]["team"] = "T9".into();
    assert_eq!(home(&body), ("E9".to_owned(), "E9".to_owned()));
    body["event"]["team"] = "T5".into();
    assert_eq!(home(&body), ("E9".to_owned(), "T5".to_owned()));
}

fn interaction(kind: &str, fields: Value) -> Inbound {
    let mut body = json!({
        "type": kind, "token": "x", "api_app_id": "A1", "trigger_id": "13345224609.738474920.8088930838d88f008e0",
        "team": {"id": "T1", "domain": "acme"}, "enterprise": null, "is_enterprise_install": false,
        "user": {"id": "U1", "username": "ann", "name": "ann", "team_id": "T1"},
    });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    read(&Envelope::Interaction(body), bot)
}

fn named() -> Who {
    Who { name: Some("ann".into()), ..ann() }
}

#[test]
fn a_press_a_choice_and_a_window_are_read() {
    let pressed = interaction(
        "block_actions",
        json!({
            "actions": [{"type": "button", "action_id": "apr.approve", "block_id": "b1", "value": "apr_x|abc",
                "action_ts": "1531420700.1", "text": {"type": "plain_text", "text": "Approve"}}],
            "container": {"type": "message", "message_ts": "1531420618.2", "channel_id": "C1", "is_ephemeral": false,
                "thread_ts": "1531420000.1"},
            "channel": {"id": "C1", "name": "ops"}, "message": {"ts": "1531420618.2", "thread_ts": "1531420000.1"},
            "response_url": "https://hooks.slack.com/actions/T1/1/x", "state": {"values": {}},
        }),
    );
    let expected = Action {
        by: named(),
        action: "apr.approve".into(),
        value: "apr_x|abc".into(),
        action_ts: "1531420700.1".into(),
        trigger: "13345224609.738474920.8088930838d88f008e0".into(),
        response_url: Some("https://hooks.slack.com/actions/T1/1/x".into()),
        channel: Some("C1".into()),
        message: Some("1531420618.2".into()),
        thread: Some("1531420000.1".into()),
        view: None,
        in_modal: false,
    };
    assert_eq!(pressed, Inbound::Action(Box::new(expected.clone())));
    let chosen = interaction(
        "block_actions",
        json!({
            "actions": [{"type": "overflow", "action_id": "apr.more", "action_ts": "1531420700.1",
                "selected_option": {"text": {}, "value": "open|apr_x|abc"}}],
            "container": {"type": "view", "view_id": "V1"}, "view": {"id": "V1", "type": "modal"},
        }),
    );
    let expected = Action {
        action: "apr.more".into(),
        value: "open|apr_x|abc".into(),
        response_url: None,
        channel: None,
        message: None,
        thread: None,
        view: Some("V1".into()),
        in_modal: true,
        ..expected
    };
    assert_eq!(chosen, Inbound::Action(Box::new(expected)));
    let view = json!({
        "id": "V2", "type": "modal", "callback_id": "deny", "private_metadata": "apr_x|abc", "hash": "1.h",
        "root_view_id": "V1", "state": {"values": {"reason": {"r": {"type": "plain_text_input", "value": "no"}}}},
    });
    assert_eq!(
        interaction("view_submission", json!({"view": view})),
        Inbound::Submission(Box::new(Submission {
            by: named(),
            callback: "deny".into(),
            metadata: "apr_x|abc".into(),
            state: json!({"reason": {"r": {"type": "plain_text_input", "value": "no"}}}),
            view: "V2".into(),
            hash: "1.h".into(),
            trigger: "13345224609.738474920.8088930838d88f008e0".into(),
            on_top: true,
        }))
    );
    assert_eq!(
        interaction("view_closed", json!({"view": view, "is_cleared": false})),
        Inbound::Closed { by: named(), callback: "deny".into(), metadata: "apr_x|abc".into() }
    );
    assert_eq!(
        interaction(
            "message_action",
            json!({
                "callback_id": "ask", "message_ts": "1.2", "action_ts": "2.3", "channel": {"id": "C1", "name": "ops"},
                "response_url": "https://hooks.slack.com/app/T1/1/x",
                "message": {"type": "message", "user": "U2", "ts": "1.2", "thread_ts": "1.1", "text": "it is &lt;down&gt;"},
            })
        ),
        Inbound::Shortcut(Box::new(Shortcut {
            by: named(),
            callback: "ask".into(),
            trigger: "13345224609.738474920.8088930838d88f008e0".into(),
            action_ts: "2.3".into(),
            response_url: Some("https://hooks.slack.com/app/T1/1/x".into()),
            channel: Some("C1".into()),
            message: Some(("1.2".into(), Some("1.1".into()), "U2".into(), "it is <down>".into())),
        }))
    );
}

#[test]
fn s8_forms_become_interactions_and_commands() {
    const FORM: &str = "application/x-www-form-urlencoded";
    let Ok(Envelope::Command(fields)) = envelope(FORM, BODY.as_bytes()) else { panic!() };
    assert_eq!(
        fields["response_url"],
        "https://hooks.slack.com/commands/T1DC2JH3J/397700885554/96rGlfmibIGlgcZRskXaIFfN"
    );
    let read = read(&Envelope::Command(fields), bot);
    let Inbound::Command(command) = &read else { panic!("{read:?}") };
    assert_eq!(
        (command.command.as_str(), command.text.as_str(), command.channel.as_str(), command.by.name.as_deref()),
        ("/webhook-collect", "", "G8PSS9T3V", Some("roadrunner"))
    );
    let payload = "payload=%7B%22type%22%3A%22shortcut%22%2C%22a%22%3A%22b%2Bc+d%22%7D";
    let expected = Envelope::Interaction(json!({"type": "shortcut", "a": "b+c d"}));
    assert_eq!(envelope(&format!("{FORM}; charset=utf-8"), payload.as_bytes()), Ok(expected));
    assert_eq!(envelope("application/json", br#"{"type": "x"}"#), Ok(Envelope::Event(json!({"type": "x"}))));
    for (kind, body) in [
        (FORM, "ssl_check=1&token=x"),
        (FORM, ""),
        (FORM, "payload="),
        (FORM, "payload=%7B"),
        (FORM, "payload=%5B%5D"),
        (FORM, "payload=%FF"),
        ("application/json", ""),
        ("application/json", "[]"),
        ("application/json", "{\"a\": \"\u{1}\"}"),
        ("text/plain", "hello"),
        ("", ""),
    ] {
        assert!(envelope(kind, body.as_bytes()).is_err(), "{kind} {body}");
    }
    // What is said of it holds nothing of what came.
    let why = envelope("application/json", br#"{"secret": xoxb-1234}"#).unwrap_err();
    assert_eq!(why, "no JSON (Syntax, line 1)");
    assert!(envelope("application/json", "[".repeat(100_000).as_bytes()).is_err(), "deep nesting");
}
