//! Whose words have entered a thread: the fold that says who counts as having asked for a call.
//!
//! A model acts on everything in its window, and people's words stay there over runs, compactions and forks. So
//! everybody who has ever written in a thread counts for the calls that a model makes after it could read the words,
//! and for none that it made before. Each person's first and latest words are kept, so that a refusal can quote them.
//!
//! A decision is not a request: the reason of a denial or a stop and the note of a mark reach the model too, and do not
//! count. An approver who gave a reason could otherwise never approve anything again in that thread; and an approver can
//! as well change the arguments, which makes nobody a requester either.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::event::Spoken;
use super::id::{Principal, Timestamp};
use super::people::{People, Sameness};
use super::untrusted::one_line;

/// Everybody whose words have entered, and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard(BTreeMap<Principal, Words>);

#[derive(Clone, Debug, PartialEq)]
struct Words {
    first: Said,
    /// Absent: there are no others.
    latest: Option<Box<Said>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Said {
    seq: u64,
    at: Timestamp,
    words: String,
}

impl Heard {
    pub(super) fn note(&mut self, seq: u64, at: Timestamp, who: &Principal, text: &str) {
        // A text of several people, or from outside, comes without words: none are theirs for certain.
        let words = if text.trim().is_empty() { String::new() } else { one_line(text) };
        let said = Said { seq, at, words };
        match self.0.entry(who.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Words { first: said, latest: None });
            }
            Entry::Occupied(mut entry) if !said.words.is_empty() => {
                entry.get_mut().latest = Some(Box::new(said));
            }
            Entry::Occupied(_) => {}
        }
    }

    /// Those whose words stand in event `seen` or before, each with the latest of them.
    pub fn upto(&self, seen: u64) -> Vec<Spoken> {
        self.0
            .iter()
            .filter(|(_, words)| words.first.seq <= seen)
            .map(|(who, words)| {
                let said = words.latest.as_deref().filter(|said| said.seq <= seen).unwrap_or(&words.first);
                Spoken { who: who.clone(), at: said.at, words: said.words.clone() }
            })
            .collect()
    }

    /// Those who have spoken in event `from` or later.
    pub fn since(&self, from: u64) -> impl Iterator<Item = &Principal> {
        let spoke = move |words: &Words| words.latest.as_deref().unwrap_or(&words.first).seq >= from;
        self.0.iter().filter(move |(_, words)| spoke(words)).map(|(who, _)| who)
    }

    pub fn everybody(&self) -> impl Iterator<Item = &Principal> {
        self.0.keys()
    }

    /// Whether the person behind an identity has spoken, under this or another one.
    pub fn includes(&self, who: &Principal, people: &People) -> bool {
        self.0.contains_key(who) || self.everybody().any(|other| people.compare(who, other) == Sameness::Same)
    }
}
