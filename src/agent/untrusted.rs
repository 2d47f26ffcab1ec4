//! Text from outside: where it came from, for as long as its thread lives.
//!
//! A page, a file, a mail, a ticket, the payload of a webhook can hold sentences that are made to be obeyed
//! by a model. Once such text is in a thread, nothing takes it out again: what the model says and asks for
//! from then on may be its doing. So the fold keeps a note of it (`thread`), the window marks the blocks
//! (`window`), and the gate asks people where it would else let a call with side effects run (`policy`).
//!
//! The note is a fold of the log apart from the window: a compaction shortens what the model reads, and
//! leaves the note alone; a fork takes it over. It holds no text from outside but titles of calls and names of
//! what came with a message, cleaned.

use serde::{Deserialize, Serialize};

/// Texts that are named: the first three, which explain all that came after them, and the newest. So
/// nobody hides a page behind a row of harmless ones.
pub const MAX_NAMED: usize = 5;
/// Of those, the oldest.
const KEEP_FIRST: usize = 3;
/// Longest label in characters: a title with a URL of ordinary length.
pub const MAX_LABEL: usize = 120;

/// The texts from outside that have entered a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untrusted {
    /// At most [`MAX_NAMED`], oldest first, each label once.
    texts: Vec<UntrustedText>,
    /// How many came between the first and the newest of those.
    #[serde(default, skip_serializing_if = "is_zero")]
    more: u64,
}

/// One text from outside: which event brought it, and where from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UntrustedText {
    pub seq: u64,
    /// The title of the call that returned it, or the name of the sender: one line of at most
    /// [`MAX_LABEL`] characters.
    pub label: String,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Untrusted {
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The texts that are named, oldest first.
    pub fn texts(&self) -> &[UntrustedText] {
        &self.texts
    }

    /// For people: `Fetch https://a.example; Ticket 12; Fetch https://b.example; 4 more; Ticket 15; Ticket 16`.
    /// Empty if there are none.
    pub fn describe(&self) -> String {
        let mut parts: Vec<String> = self.texts.iter().map(|t| t.label.clone()).collect();
        if self.more > 0 {
            parts.insert(KEEP_FIRST.min(parts.len()), format!("{} more", self.more));
        }
        parts.join("; ")
    }

    /// The name of the rule that makes a call ask because of these texts: the newest, and how many more.
    pub fn rule(&self) -> String {
        let newest = self.texts.last().map_or("from outside", |t| t.label.as_str());
        match (self.texts.len() as u64).saturating_sub(1).saturating_add(self.more) {
            0 => format!("untrusted text: {newest}"),
            others => format!("untrusted text: {newest}, and {others} more"),
        }
    }

    pub(super) fn add(&mut self, seq: u64, label: &str) {
        let label = one_line(label);
        if self.texts.iter().any(|t| t.label == label) {
            return;
        }
        if self.texts.len() >= MAX_NAMED {
            self.texts.remove(KEEP_FIRST);
            self.more = self.more.saturating_add(1);
        }
        self.texts.push(UntrustedText { seq, label });
    }

    /// The same texts in another log, where the event `seq` brought them all. What is too much is counted:
    /// the event may come from another writer.
    pub(super) fn moved_to(&self, seq: u64) -> Self {
        let mut moved = Self { texts: Vec::new(), more: self.more };
        for text in &self.texts {
            moved.add(seq, &text.label);
        }
        moved
    }
}

/// A label: one line without control characters, never empty. What else is not seen stays in it, so that surfaces
/// show it written out; what the fold makes of a log does not hang on a version of Unicode.
pub(super) fn one_line(text: &str) -> String {
    let text: String = text.chars().filter(|c| c.is_whitespace() || !c.is_control()).collect();
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = words.char_indices().nth(MAX_LABEL) {
        let keep = words.char_indices().nth(MAX_LABEL - 1).map_or(cut, |(at, _)| at);
        words.truncate(keep);
        words.push('…');
    }
    if words.is_empty() { "a text from outside".to_owned() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_short_line() {
        let label = one_line("Fetch\r\n  https://a.example/\u{202e}x\u{1b}[2J");
        assert_eq!(label, "Fetch https://a.example/\u{202e}x[2J", "it is shown written out");
        assert_eq!(one_line("\u{7}\n"), "a text from outside");
        let long = one_line(&"ü".repeat(500));
        assert_eq!((long.chars().count(), long.ends_with("ü…")), (MAX_LABEL, true));
        assert_eq!(one_line(&"x".repeat(MAX_LABEL)), "x".repeat(MAX_LABEL));
        assert_eq!(one_line(&long), long, "what is a label stays one");
    }

    #[test]
    fn the_first_texts_and_the_newest_are_named_once_each_and_those_between_are_counted() {
        let mut read = Untrusted::default();
        assert_eq!((read.describe(), read.is_empty()), (String::new(), true));
        for seq in 1..=8 {
            read.add(seq, &format!("Fetch {}", seq.max(2)));
        }
        assert_eq!(read.texts().first(), Some(&UntrustedText { seq: 1, label: "Fetch 2".into() }));
        assert_eq!(read.describe(), "Fetch 2; Fetch 3; Fetch 4; 2 more; Fetch 7; Fetch 8");
        assert_eq!(read.rule(), "untrusted text: Fetch 8, and 6 more");
        let moved = read.moved_to(1);
        assert_eq!((moved.describe(), moved.rule()), (read.describe(), read.rule()));
        assert!(moved.texts().iter().all(|t| t.seq == 1));
    }
}
