//! The text that a model is sent: blocks in tags, cuts that say what they left out, and escaping.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;

use super::{Block, Entry, Part, Window, lines};
use crate::agent::id::Principal;
use crate::agent::json::canonical;

/// The tags of our blocks. Text inside a block cannot hold one.
pub const TAGS: [&str; 9] =
    ["human", "agent", "tool_call", "tool_result", "question", "answer", "notice", "summary", "attached"];

/// Room that a block's tags take, for the estimate.
pub(super) const TAG_BYTES: usize = 60;
/// Room that the note on a cut takes, for the estimate. Texts are not cut to save less than this.
pub(super) const NOTE_BYTES: usize = 260;

impl Window {
    /// The text that a model is sent.
    pub fn render(&self) -> String {
        let resolved = self.resolved();
        let mut out = String::with_capacity(self.bytes + 256);
        let mut folded: Vec<&lines::Line> = Vec::new();
        let flush = |out: &mut String, folded: &mut Vec<&lines::Line>| {
            if !folded.is_empty() {
                block(out, "summary", mark(self.lines_untrusted), lines::text(folded.drain(..)).trim_end());
            }
        };
        for part in &self.parts {
            match part {
                Part::Line(line) => folded.push(line),
                Part::Entry(entry) => {
                    let is_resolved = entry.block.call().is_some_and(|call| resolved.contains(&call));
                    let why = matches!(&entry.block, Block::ToolCall { why, .. } if !why.is_empty());
                    if !is_resolved || why {
                        flush(&mut out, &mut folded);
                        render_entry(&mut out, entry, is_resolved);
                    }
                }
            }
        }
        flush(&mut out, &mut folded);
        out
    }
}

/// One block. Of a call that is resolved only the words that came with the reply.
fn render_entry(out: &mut String, entry: &Entry, is_resolved: bool) {
    let mark = mark(entry.untrusted);
    let rest = rest_of(&entry.block);
    match &entry.block {
        Block::Human { from, text } => {
            block(out, "human", &(from_attribute(from) + mark), &cut(text, entry.limit, rest))
        }
        Block::Agent { text } => block(out, "agent", mark, &cut(text, entry.limit, rest)),
        Block::ToolCall { call, tool, args, why } => {
            if !why.is_empty() {
                block(out, "agent", "", why);
            }
            if !is_resolved {
                let attributes = format!(" id=\"{call}\" tool=\"{}\"", attribute(tool));
                block(out, "tool_call", &attributes, &cut(&canonical(args), entry.limit, rest));
            }
        }
        Block::ToolResult { call, tool, ending, text } => {
            let attributes = format!(" id=\"{call}\" tool=\"{}\" outcome=\"{}\"{mark}", attribute(tool), ending.word());
            block(out, "tool_result", &attributes, &cut(text, entry.limit, rest));
        }
        Block::Question { text } => block(out, "question", mark, &cut(text, entry.limit, rest)),
        Block::Answer { from, text } => {
            block(out, "answer", &(from_attribute(from) + mark), &cut(text, entry.limit, rest))
        }
        Block::Notice { text } => block(out, "notice", mark, &cut(text, entry.limit, rest)),
        Block::Attached { label, text } => {
            block(out, "attached", &format!(" name=\"{}\"{mark}", attribute(label)), &cut(text, entry.limit, rest));
        }
    }
}

/// How the model gets at what was cut out of a block.
fn rest_of(block: &Block) -> &'static str {
    match block {
        Block::ToolResult { .. } => {
            "To read them, make this call again for a part of it: a range, a page, a narrower filter"
        }
        Block::Human { .. } | Block::Answer { .. } => {
            "If you need them, say so, and ask for that part in a message of its own"
        }
        Block::Attached { .. } => "If you need them, ask the person for that part of it",
        Block::ToolCall { .. } | Block::Agent { .. } | Block::Question { .. } | Block::Notice { .. } => {
            "They are in the log, for people"
        }
    }
}

/// Head and tail of a text that has to be cut, and a note between them.
pub(super) fn cut<'t>(text: &'t str, limit: Option<u64>, rest: &str) -> Cow<'t, str> {
    let Some(limit) = limit.and_then(|l| usize::try_from(l).ok()).filter(|l| is_cut(text.len(), *l)) else {
        return text.into();
    };
    let (head, tail) = head_and_tail(text, limit);
    let left_out = text.len() - head.len() - tail.len();
    let (from, to, all) = (head.len(), head.len() + left_out, text.len());
    format!(
        "{head}\n[cut: {left_out} of {all} bytes are left out here, those from {from} to {to}, because all of it would \
         be too long for the model. {rest}.]\n{tail}"
    )
    .into()
}

/// Whether a text of this length is cut under this limit.
pub(super) fn is_cut(length: usize, limit: usize) -> bool {
    length > limit.saturating_add(NOTE_BYTES)
}

/// The first two thirds and the last third of `room` bytes of a text, between characters.
pub(super) fn head_and_tail(text: &str, room: usize) -> (&str, &str) {
    let tail = room / 3;
    let end = text.floor_char_boundary(room.saturating_sub(tail).min(text.len()));
    let start = text.ceil_char_boundary(text.len().saturating_sub(tail).max(end));
    (text.get(..end).unwrap_or(""), text.get(start..).unwrap_or(""))
}

/// About how many bytes a block takes when it is rendered.
pub(super) fn size(entry: &Entry) -> usize {
    let why = match &entry.block {
        Block::ToolCall { why, .. } if !why.is_empty() => why.len() + TAG_BYTES,
        _ => 0,
    };
    TAG_BYTES + why + shown_bytes(entry, entry.limit)
}

/// About how many bytes of a block's text are shown under a limit.
pub(super) fn shown_bytes(entry: &Entry, limit: Option<u64>) -> usize {
    let length = text_bytes(&entry.block);
    match limit.and_then(|l| usize::try_from(l).ok()) {
        Some(limit) if is_cut(length, limit) => limit + NOTE_BYTES,
        _ => length,
    }
}

/// About how many bytes a block's text has.
pub(super) fn text_bytes(block: &Block) -> usize {
    match block {
        Block::Human { text, .. } | Block::Agent { text } | Block::Question { text } => text.len(),
        Block::Answer { text, .. } | Block::Notice { text } => text.len(),
        Block::Attached { label, text } => label.len() + text.len(),
        Block::ToolCall { args, .. } => value_size(args),
        Block::ToolResult { text, .. } => text.len(),
    }
}

/// About as long as the JSON text, without writing it.
fn value_size(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 5,
        Value::String(s) => s.len() + 2,
        Value::Array(items) => items.iter().map(|v| value_size(v) + 1).sum::<usize>() + 2,
        Value::Object(members) => members.iter().map(|(k, v)| k.len() + 4 + value_size(v)).sum::<usize>() + 2,
    }
}

fn block(out: &mut String, tag: &str, attributes: &str, text: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    // Writing to a String cannot fail.
    let _ = write!(out, "<{tag}{attributes}>\n{}\n</{tag}>", escape(text));
}

/// The attribute of a block whose text was written outside.
fn mark(untrusted: bool) -> &'static str {
    if untrusted { " untrusted=\"yes\"" } else { "" }
}

fn from_attribute(from: &Principal) -> String {
    format!(" from=\"{}\"", attribute(from.label()))
}

/// Names stand in quotes: nothing may end the quotes, the tag or the line.
fn attribute(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '<' | '>')).take(80).collect()
}

/// Writes the `<` of anything that looks like one of our tags as `&lt;`.
fn escape(text: &str) -> Cow<'_, str> {
    static TAG: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(&format!(r"(?i)<(\s*/?\s*(?:{})\b)", TAGS.join("|"))).ok());
    if !text.contains('<') {
        return text.into();
    }
    match &*TAG {
        Some(tag) => tag.replace_all(text, "&lt;$1"),
        // reason: the pattern is a constant that a test compiles; were it wrong, escaping more is safe
        None => text.replace('<', "&lt;").into(),
    }
}
