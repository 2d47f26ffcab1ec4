//! Answers to commands: a title, rows, a hint. Foreign words stand only in elements that interpret nothing.

use serde_json::{Value, json};

use super::{Look, Message, action, escape};
use crate::agent::visible;
use crate::platform::{Listing, Row};

/// Characters of a row's text and of its detail: with more, ten rows would not fit into a message.
const MAX_TEXT: usize = 300;
/// Characters of the title and of the hint.
const MAX_TITLE: usize = 600;
/// People and groups that a row names.
const MAX_DECIDERS: usize = 5;
/// Characters of JSON of all blocks. Slack refuses messages above about 13,200; the hint and what says that
/// something was left out have to fit as well.
const MAX_BLOCKS_JSON: usize = 10_500;
/// Blocks of rows: a message has at most 50.
const MAX_BLOCKS: usize = 44;
/// Slack's limit of a modal's title.
const MAX_MODAL_TITLE: usize = 24;

/// An answer as a message. Rows that do not fit are counted.
pub fn listing(listing: &Listing, look: &Look) -> Message {
    Message { text: escape(&cut(&listing.title, MAX_TITLE)), blocks: blocks(listing, look) }
}

/// An answer as a modal. `title` is cut at Slack's 24 characters.
pub fn listing_modal(title: &str, listing: &Listing, look: &Look) -> Value {
    json!({
        "type": "modal",
        "title": plain(title, MAX_MODAL_TITLE),
        "close": plain("Close", MAX_MODAL_TITLE),
        "blocks": blocks(listing, look),
    })
}

fn blocks(listing: &Listing, look: &Look) -> Vec<Value> {
    let mut blocks = vec![rich(&listing.title, MAX_TITLE, true)];
    let mut size = 0;
    for (n, shown) in listing.rows.iter().enumerate() {
        let rows = row(shown, look);
        size += rows.iter().map(|block| block.to_string().chars().count()).sum::<usize>();
        if size > MAX_BLOCKS_JSON || blocks.len() + rows.len() > MAX_BLOCKS {
            blocks.push(context(vec![plain(
                &format!("And {} more that do not fit here.", listing.rows.len() - n),
                MAX_TEXT,
            )]));
            break;
        }
        blocks.extend(rows);
    }
    if !listing.hint.is_empty() {
        blocks.push(rich(&listing.hint, MAX_TITLE, false));
    }
    blocks
}

fn row(row: &Row, look: &Look) -> Vec<Value> {
    let text = match &row.approval {
        Some((id, digest)) => titled(&row.text, Some(review(&id.to_string(), digest))),
        None => rich(&row.text, MAX_TEXT, false),
    };
    let mut small = Vec::new();
    if !row.detail.is_empty() {
        small.push(plain(&row.detail.replace('`', ""), MAX_TEXT));
    }
    if !row.requesters.is_empty() {
        small.push(mrkdwn(format!("asked for by {}", mentions(&row.requesters, look.team))));
    }
    if !row.deciders.is_empty() {
        small.push(mrkdwn(format!("decided by {}", mentions(&row.deciders, look.team))));
    }
    small.extend(row.link.as_deref().map(link));
    let mut blocks = vec![text];
    if !small.is_empty() {
        blocks.push(context(small));
    }
    blocks
}

// ---- pieces that the App Home shares ----

/// The first `max` characters, with a sign that there were more. Nothing but prose passes this door: what is foreign
/// was made visible where the words were put together.
pub(super) fn cut(text: &str, max: usize) -> String {
    let text = visible::prose(text);
    let Some((at, _)) = text.char_indices().nth(max) else { return text };
    let most = text.char_indices().nth(max.saturating_sub(1)).map_or(at, |(at, _)| at);
    format!("{}…", text.get(..visible::whole(&text, most)).unwrap_or(""))
}

/// Text that is interpreted in no way. Slack refuses empty ones.
pub(super) fn plain(text: &str, max: usize) -> Value {
    let text = cut(text, max);
    let text = if text.trim().is_empty() { "-".to_owned() } else { text };
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

/// Our own mrkdwn: what is foreign in it has been escaped.
pub(super) fn mrkdwn(text: String) -> Value {
    super::parts::mrkdwn(&text)
}

pub(super) fn context(elements: Vec<Value>) -> Value {
    json!({ "type": "context", "elements": elements })
}

/// A line, with a button at its end.
pub(super) fn titled(text: &str, button: Option<Value>) -> Value {
    let mut section = json!({ "type": "section", "text": plain(text, MAX_TEXT) });
    if let (Some(button), Some(fields)) = (button, section.as_object_mut()) {
        fields.insert("accessory".to_owned(), button);
    }
    section
}

/// The button that opens the modal with everything, where it can be decided.
pub(super) fn review(id: &str, digest: &str) -> Value {
    json!({
        "type": "button",
        "action_id": action::REVIEW,
        "value": format!("{id}|{digest}"),
        "text": plain("Review…", 75),
    })
}

pub(super) fn link(url: &str) -> Value {
    mrkdwn(format!("<{}|Open>", escape(url).replace('|', "%7C")))
}

/// Text in which what stands between back-ticks is to be typed. In rich text nothing else is interpreted.
pub(super) fn rich(text: &str, max: usize, bold: bool) -> Value {
    let text = cut(text, max);
    let parts: Vec<&str> = text.split('`').collect();
    // Without its partner, a back-tick is only a sign.
    let paired = parts.len() % 2 == 1;
    let parts = if paired { parts } else { vec![text.as_str()] };
    let element = |(n, part): (usize, &str)| {
        let mut element = json!({ "type": "text", "text": part });
        let style = match (n % 2 == 1, bold) {
            (true, _) => json!({ "code": true }),
            (false, true) => json!({ "bold": true }),
            (false, false) => return element,
        };
        if let Some(fields) = element.as_object_mut() {
            fields.insert("style".to_owned(), style);
        }
        element
    };
    let mut elements: Vec<Value> =
        parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty()).map(element).collect();
    if elements.is_empty() {
        elements.push(json!({ "type": "text", "text": "-" }));
    }
    json!({ "type": "rich_text", "elements": [{ "type": "rich_text_section", "elements": elements }] })
}

/// People and groups: those of this team as Slack shows them, others by name.
pub(super) fn mentions(who: &[String], team: &str) -> String {
    let mut named: Vec<String> = who.iter().take(MAX_DECIDERS).map(|one| mention(one, team)).collect();
    if who.len() > MAX_DECIDERS {
        named.push(format!("{} more", who.len() - MAX_DECIDERS));
    }
    named.join(", ")
}

/// `slack:T1:U1`, `@slack:T1:S1` for a group, `*` for anyone.
fn mention(who: &str, team: &str) -> String {
    if who == "*" {
        return "anyone here".to_owned();
    }
    let (group, id) = who.strip_prefix('@').map_or((false, who), |id| (true, id));
    let here = id.strip_prefix("slack:").and_then(|rest| rest.strip_prefix(team)?.strip_prefix(':'));
    let here = here.filter(|id| !team.is_empty() && !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()));
    match (here, group) {
        (Some(user), false) => format!("<@{user}>"),
        (Some(channel), true) if channel.starts_with(['C', 'G']) => format!("the members of <#{channel}>"),
        (Some(group), true) => format!("<!subteam^{group}>"),
        (None, group) => {
            let name = id.split_once(':').map_or(id, |(_, name)| name);
            let name = escape(&cut(&visible::line(name), 60));
            if group { format!("@{name}") } else { name }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(rows: Vec<Row>) -> Message {
        let shown = Listing { title: "Two".into(), rows, hint: "Write `stop`.".into() };
        listing(&shown, &Look { team: "T1", ..Look::default() })
    }

    #[test]
    fn an_answer_shows_rows_with_a_button_where_there_is_something_to_review() {
        let id: crate::agent::ApprovalId = "apr_abcdefghijklmnop_5".parse().unwrap();
        let message = looked(vec![
            Row {
                text: "ship v1".into(),
                detail: "low risk · `apr_abcdefghijklmnop_5`".into(),
                requesters: vec!["slack:T1:U2".into()],
                deciders: vec!["@slack:T1:S1".into(), "slack:T1:U1".into(), "slack:T2:U2".into(), "*".into()],
                link: Some("https://a.example/x?a=1&b=2".into()),
                approval: Some((id, "0123456789ab".into())),
            },
            Row { text: "say `help`".into(), ..Row::default() },
        ]);
        assert_eq!(message.text, "Two");
        assert_eq!(
            json!(message.blocks),
            json!([
                { "type": "rich_text", "elements": [{ "type": "rich_text_section", "elements": [
                    { "type": "text", "text": "Two", "style": { "bold": true } }] }] },
                { "type": "section", "text": { "type": "plain_text", "text": "ship v1", "emoji": false }, "accessory": {
                    "type": "button", "action_id": "apr.review", "value": "apr_abcdefghijklmnop_5|0123456789ab",
                    "text": { "type": "plain_text", "text": "Review…", "emoji": false } } },
                { "type": "context", "elements": [
                    { "type": "plain_text", "text": "low risk · apr_abcdefghijklmnop_5", "emoji": false },
                    { "type": "mrkdwn", "text": "asked for by <@U2>", "verbatim": true },
                { "type": "mrkdwn", "text": "decided by <!subteam^S1>, <@U1>, T2:U2, anyone here", "verbatim": true },
                    { "type": "mrkdwn", "text": "<https://a.example/x?a=1&amp;b=2|Open>", "verbatim": true }] },
                { "type": "rich_text", "elements": [{ "type": "rich_text_section", "elements": [
                    { "type": "text", "text": "say " },
                    { "type": "text", "text": "help", "style": { "code": true } }] }] },
                { "type": "rich_text", "elements": [{ "type": "rich_text_section", "elements": [
                    { "type": "text", "text": "Write " },
                    { "type": "text", "text": "stop", "style": { "code": true } },
                    { "type": "text", "text": "." }] }] },
            ])
        );
    }

    #[test]
    fn s13_answers_of_any_length_fit_into_a_message() {
        let long = "<!channel> & \u{202e}*x* ".repeat(500);
        let row = || Row {
            text: long.clone(),
            detail: long.clone(),
            requesters: vec![long.clone(); 50],
            deciders: vec![long.clone(); 50],
            link: Some("https://a.example/".into()),
            approval: None,
        };
        for rows in [0, 1, 10, 200] {
            let shown = Listing { title: long.clone(), rows: (0..rows).map(|_| row()).collect(), hint: long.clone() };
            let message = listing(&shown, &Look { team: "T1", ..Look::default() });
            assert!(message.blocks.len() <= 50);
            assert!(json!(message.blocks).to_string().chars().count() <= 13_200, "{rows}");
            assert!(!json!(message.blocks).to_string().contains("mrkdwn\",\"text\":\"decided by <!channel>"));
            assert!(!message.text.contains("<!channel>"));
        }
    }

    #[test]
    fn s18_foreign_names_are_no_mentions() {
        for (who, shown) in [
            ("slack:T1:U1> <!channel", "T1:U1&gt; &lt;!channel"),
            ("@slack:T1:S1|x", "@T1:S1|x"),
            ("@<!here>", "@&lt;!here&gt;"),
            ("slack:T12:U1", "T12:U1"),
            ("@slack:T1:C9", "the members of <#C9>"),
        ] {
            assert_eq!(mention(who, "T1"), shown);
        }
        assert_eq!(mention("slack::U1", ""), ":U1");
    }
}
