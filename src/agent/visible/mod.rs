//! Foreign text on its way to people's eyes: nothing in it is hidden, and nothing in it pretends.
//!
//! Two views. The **strict** one ([`line()`], [`text`], [`value`], [`json`]) is for everything that a decision rests on:
//! arguments, plans, titles, names, notes ([`composed`] for sentences of ours that hold some). What is not seen, or changes how other text is seen, is written out as
//! `\u{200b}`; a row of the same as `\u{fe0f*35}`. What is shown can be read back, character by character: two
//! different texts never look the same. The **prose** one ([`prose`]) is for answers and messages: what scripts and
//! emoji need stays as it is, all else is written out in the same way.
//!
//! Each surface shows foreign text by one of these and by nothing else. Both views are idempotent in one direction:
//! `prose` leaves alone what the strict view made, so a surface may have a last door that lets prose through only
//! ([`prose`] again) and need not know what came from where. The strict view of what is shown already is another text:
//! it is made once, where the words are put together.
//!
//! | file | owns |
//! |---|---|
//! | `class` | what a character is, by the data of the Unicode library |
//! | `strict`, `prose` | the two views |
//! | `notation` | how a character is written out |
//!
//! Not here: look-alikes within one script (`l` and `1`, a whole word in Cyrillic). A word that mixes alphabets shows
//! its odd letters written out.

mod class;
mod notation;
mod prose;
mod strict;

use serde_json::Value;

pub use class::{is_unseen, reorders};
pub use prose::prose;

/// Strict, on one line: line ends are written out like everything else that is not seen, and so are spaces at either
/// end and beside each other, which surfaces show as one.
pub fn line(text: &str) -> String {
    strict::view(text, strict::Form::Line)
}

/// A sentence or row of ours on one line, with foreign text in it: as [`line()`], but spaces within it are ours.
pub fn composed(text: &str) -> String {
    strict::view(text, strict::Form::Composed)
}

/// The name of an argument, or of another member of an object: as it is, unless it could be taken for something else.
pub fn key(name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if plain { name.to_owned() } else { json_text(&Value::from(name).to_string()) }
}

/// Strict, in which line ends stay; not those at either end, nor rows of them. For places that show spaces as they
/// are.
pub fn text(text: &str) -> String {
    strict::view(text, strict::Form::Text)
}

/// A value as JSON over several lines, in which what is not seen is written as JSON writes it: it can be read back by
/// any JSON reader.
pub fn json(value: &Value) -> String {
    // reason: a value that was read from JSON can be written
    json_text(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// The same for JSON that is text already.
pub fn json_text(json: &str) -> String {
    strict::view(json, strict::Form::Json)
}

/// A value as people read it: text as it is, unless it could be taken for another value; all else as JSON.
pub fn value(value: &Value) -> String {
    match value {
        Value::String(bare)
            if !bare.is_empty() && bare.trim() == bare && serde_json::from_str::<Value>(bare).is_err() =>
        {
            text(bare)
        }
        value => json(value),
    }
}

/// A value on one line, for a sentence that is shown [`composed`]: a bare word as it is, all else as JSON. Nothing is
/// written out yet.
pub fn inline(value: &Value) -> String {
    let bare = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b" ._+-/:@,".contains(&b));
        plain && !text.is_empty() && text.trim() == text && serde_json::from_str::<Value>(text).is_err()
    };
    match value {
        Value::String(text) if bare(text) => text.clone(),
        value => super::json::canonical(value),
    }
}

/// Whether the strict view shows the text as it is, line ends included: it can be edited as text.
pub fn is_plain(shown: &str) -> bool {
    text(shown) == shown
}

/// As much of the strict line as `max` characters hold, with `…` where something is left out. No character that is
/// written out is cut through.
pub fn short_line(text: &str, max: usize) -> String {
    // What is far beyond what can be shown need not be looked at.
    let head = text
        .char_indices()
        .nth(max.saturating_mul(2).saturating_add(16))
        .map_or(text, |(at, _)| text.get(..at).unwrap_or(text));
    let shown = line(head);
    if head.len() == text.len() && shown.chars().count() <= max {
        return shown;
    }
    let most = shown.char_indices().nth(max.saturating_sub(1)).map_or(shown.len(), |(at, _)| at);
    format!("{}…", shown.get(..whole(&shown, most)).unwrap_or(""))
}

/// The last place at or before `at`, in bytes, where text of one of the views can be cut without cutting through a
/// character that is written out.
pub fn whole(shown: &str, at: usize) -> usize {
    notation::whole(shown, at)
}

#[cfg(test)]
pub(crate) mod tests;
