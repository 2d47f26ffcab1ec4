//! What Slack allows, and fitting into it.
//!
//! Slack says "characters" and counts them, as far as anybody has measured, as JavaScript does: everything here
//! counts UTF-16 units, which is never less than the number of characters.

use serde_json::Value;

use crate::agent::visible;

/// Blocks of a modal or a home; Block Kit's reference.
pub const VIEW_BLOCKS: usize = 100;
pub const HEADER: usize = 150;
pub const BUTTON: usize = 75;
/// Text of an option, and its description.
pub const OPTION: usize = 75;
/// Options of a select.
pub const OPTIONS: usize = 100;
pub const CONFIRM_TITLE: usize = 100;
pub const CONFIRM_TEXT: usize = 300;
pub const CONFIRM_BUTTON: usize = 30;
/// Title, submit and close of a modal.
pub const TITLE: usize = 24;
pub const METADATA: usize = 3_000;
pub const BLOCK_ID: usize = 255;
/// A text input, and what stands in it at first.
pub const INPUT: usize = 3_000;
pub const PLACEHOLDER: usize = 150;
/// Label and hint of an input. Slack allows 2,000, which nobody reads.
pub const LABEL: usize = 300;

/// Weight of a message's blocks that we stay under, see [`weight`]. Slack refuses more than about 13,200
/// (`msg_blocks_too_long`), which is measured, not documented: slackapi/bolt-js#2509.
pub const MESSAGE: usize = 12_600;
/// Bytes of a modal that we stay under; Slack refuses more than 250 kB (`view_too_large`).
pub const VIEW_BYTES: usize = 200_000;

/// UTF-16 units.
pub fn len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The text, or as much of it as fits with `…` at its end. No character that is written out is cut through.
pub fn cut(text: &str, max: usize) -> String {
    if len(text) <= max {
        return text.to_owned();
    }
    let head = head(text, max.saturating_sub(1));
    let whole = head.get(..visible::whole(text, head.len())).unwrap_or("");
    format!("{whole}…")
}

/// The longest beginning of at most `max` units.
pub fn head(text: &str, max: usize) -> &str {
    let mut units = 0;
    for (at, c) in text.char_indices() {
        units += c.len_utf16();
        if units > max {
            return text.get(..at).unwrap_or("");
        }
    }
    text
}

/// How much a message's blocks weigh: their JSON, which is more than their texts.
pub fn weight(blocks: &[Value]) -> usize {
    blocks.iter().map(|block| len(&block.to_string()) + 1).sum()
}

/// The text in pieces of at most `max` units, cut at line ends where there are any. Together they are the text.
pub fn pieces(text: &str, max: usize) -> Vec<&str> {
    let (mut rest, mut out) = (text, Vec::new());
    while !rest.is_empty() {
        let piece = first_piece(rest, max);
        out.push(piece);
        rest = rest.get(piece.len()..).unwrap_or("");
    }
    out
}

/// The first of these.
pub fn first_piece(text: &str, max: usize) -> &str {
    let most = head(text, max.max(2));
    if most.len() == text.len() {
        return text;
    }
    let whole = || most.get(..visible::whole(text, most.len())).filter(|whole| !whole.is_empty()).unwrap_or(most);
    most.rfind('\n').and_then(|end| most.get(..=end)).unwrap_or_else(whole)
}
