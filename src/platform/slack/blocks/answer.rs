//! Answers of agents, and lines from the engine.

use serde_json::{Value, json};

use super::Message;
use super::mrkdwn::{defused, parts};
use super::parts::{context, line, rich, said, strict_lines};

/// Most of an answer in one message, in units of its JSON. Slack takes 12,000 characters in `markdown` blocks, and
/// about 13,200 of all blocks; the rest is for the footer.
const PART: usize = 11_500;
/// Longest footer, in units.
const FOOTER: usize = 300;
/// Longest line from the engine, in units.
const NOTICE: usize = 2_500;

/// An answer of an agent, in as many messages as it needs, with `footer` below the last.
pub fn answer(text: &str, footer: &str) -> Vec<Message> {
    let text = defused(text.trim());
    let mut all = parts(&text, PART);
    if all.is_empty() {
        all.push("–".to_owned());
    }
    let last = all.len() - 1;
    let message = |(n, part): (usize, String)| {
        // A notification is no `markdown` block: what was escaped for that is escaped again there, in its own way.
        let plain = part.split_whitespace().collect::<Vec<_>>().join(" ").replace("&lt;", "<");
        let text = super::card::text_shown(&plain);
        let mut blocks: Vec<Value> = vec![json!({"type": "markdown", "text": part})];
        if n == last && !footer.trim().is_empty() {
            blocks.push(context(&[super::mrkdwn::name(footer, FOOTER)]));
        }
        Message { text, blocks }
    };
    all.into_iter().enumerate().map(message).collect()
}

/// A line from the engine.
pub fn notice(text: &str) -> Message {
    let words = strict_lines(text, NOTICE);
    Message { text: super::card::text_shown(&words), blocks: vec![rich(vec![line(with_links(&words))])] }
}

/// Text as it is, in which addresses can be pressed.
fn with_links(text: &str) -> Vec<Value> {
    let mut elements = Vec::new();
    let mut plain = String::new();
    for word in text.split_inclusive([' ', '\n']) {
        let address = word.trim_end_matches([' ', '\n', '.', ',', ')']);
        let after = word.get(address.len()..).unwrap_or("");
        if address.starts_with("https://") || address.starts_with("http://") {
            if !plain.is_empty() {
                elements.push(said(&std::mem::take(&mut plain)));
            }
            elements.push(json!({"type": "link", "url": address}));
            plain.push_str(after);
        } else {
            plain.push_str(word);
        }
    }
    if !plain.is_empty() || elements.is_empty() {
        elements.push(said(&plain));
    }
    elements
}
