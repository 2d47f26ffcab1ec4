//! The strict view: what is shown can be read back.
//!
//! A character is shown as it is only if it is seen, is the one that normalisation keeps, and stands where it is read
//! as what it is: a mark on a base of its own and in normal order, so that two spellings of the same letter differ; a
//! letter among letters of its alphabet; a backslash where it cannot begin a character that is written out.
//!
//! One pass with a bounded look ahead, but for words, spaces and backslashes, each of which is looked at twice.

use icu_properties::props::Script;

use super::class;
use super::notation::Written;

/// Marks on one base that are shown; languages need four.
const MARKS: usize = 4;
/// Spaces in a row that are shown within a line: an indentation. More would push what follows out of sight.
const SPACES: usize = 32;
/// Line ends in a row that are shown, for the same reason.
const LINE_ENDS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Line,
    /// A line whose spaces are ours.
    Composed,
    Text,
    /// JSON text: its spaces and line ends are between values, and its escapes are read as JSON reads them.
    Json,
}

pub(super) fn view(text: &str, form: Form) -> String {
    let mut out = Written::new(form == Form::Json, text.len());
    let mut cluster = Cluster::default();
    let mut word = Word::default();
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at + c.len_utf8()..).unwrap_or("");
        match c {
            '\\' if form == Form::Json => {
                let escape = 1 + if rest.starts_with('u') { 5 } else { rest.chars().next().map_or(0, char::len_utf8) };
                out.show_str(text.get(at..at + escape).unwrap_or("\\"));
                cluster = Cluster::default();
                at += escape;
            }
            ' ' | '\n' | '\\' => {
                let row = row(text.get(at..).unwrap_or(""), c);
                let shown = shown_of(text, at, c, row, form);
                for _ in 0..shown {
                    out.show(c);
                }
                if shown < row {
                    out.write_out(c, row - shown);
                }
                cluster = Cluster::default();
                at += row;
            }
            c => {
                if at >= word.end && class::is_word(c) {
                    word = Word::of(text, at);
                }
                if !is_out(c) && !word.is_odd(c) && cluster.takes(c) {
                    out.show(c);
                    cluster.add(c, form);
                } else {
                    out.write_out(c, 1);
                    cluster = Cluster::default();
                }
                at += c.len_utf8();
            }
        }
    }
    out.end()
}

/// Whether it is written out wherever it stands.
fn is_out(c: char) -> bool {
    class::is_unseen(c) || (!c.is_ascii() && (class::is_double(c) || class::is_like_backslash(c)))
}

/// How many of these there are at the beginning of the text.
fn row(text: &str, c: char) -> usize {
    text.bytes().take_while(|b| u32::from(*b) == u32::from(c)).count()
}

/// How many of a row of spaces, line ends or backslashes at this place are shown; the others are written out.
fn shown_of(text: &str, at: usize, c: char, row: usize, form: Form) -> usize {
    let after = text.get(at + row..).unwrap_or("");
    let all = |shown: bool| if shown { row } else { 0 };
    match (c, form) {
        (' ' | '\n', Form::Json) => row,
        (' ', Form::Line) => usize::from(at > 0 && !after.is_empty()),
        (' ', Form::Text | Form::Composed) => all(row <= SPACES && !after.is_empty() && !after.starts_with('\n')),
        ('\n', Form::Text) => all(row <= LINE_ENDS && at > 0 && !after.is_empty()),
        ('\\', _) => all(!is_opening(text, at + row, form)),
        _ => 0,
    }
}

/// Whether a backslash before this place could be taken for the beginning of a character that is written out.
fn is_opening(text: &str, at: usize, form: Form) -> bool {
    let after = text.get(at..).unwrap_or("");
    let mut next = after.chars();
    match next.next() {
        None => false,
        Some(c @ (' ' | '\n')) => shown_of(text, at, c, row(after, c), form) == 0,
        Some('u') => next.next().is_some_and(|c| c == '{' || !c.is_ascii()),
        Some(c) => !c.is_ascii_graphic(),
    }
}

/// The last character that is shown, and the marks on it.
#[derive(Default)]
struct Cluster {
    /// The last one that marks are ordered and composed after.
    starter: Option<char>,
    /// The combining class of the last mark after it; 0: there is none.
    class: u8,
    marks: usize,
}

impl Cluster {
    /// Whether the character, shown next, is read as what it is.
    fn takes(&self, c: char) -> bool {
        if c.is_ascii() {
            return true;
        }
        let class = class::combining_class(c);
        let mark = class != 0 || class::is_mark(c);
        match self.starter {
            None => !mark,
            Some(starter) => {
                let unblocked = self.class == 0 || self.class < class;
                let ordered = class == 0 || self.class <= class;
                let composes = unblocked && class::composes(starter, c);
                ordered && !composes && (!mark || self.marks < MARKS)
            }
        }
    }

    fn add(&mut self, c: char, form: Form) {
        let class = class::combining_class(c);
        if class::is_mark(c) {
            self.marks += 1;
        } else {
            self.marks = 0;
        }
        if class == 0 {
            // A mark after it would change a sign of JSON.
            self.starter = (c != '"' || form != Form::Json).then_some(c);
            self.class = 0;
        } else {
            self.class = class;
        }
    }
}

/// A word, and its alphabet if it mixes several.
#[derive(Default)]
struct Word {
    /// In bytes.
    end: usize,
    mixes: Option<Script>,
}

impl Word {
    fn of(text: &str, at: usize) -> Self {
        let rest = text.get(at..).unwrap_or("");
        let end = at + rest.find(|c| !class::is_word(c)).unwrap_or(rest.len());
        let word = text.get(at..end).unwrap_or("");
        if word.is_ascii() {
            return Self { end, mixes: None };
        }
        let mut alphabets: Vec<(Script, usize)> = Vec::new();
        for alphabet in word.chars().filter_map(class::alphabet) {
            match alphabets.iter_mut().find(|(known, _)| *known == alphabet) {
                Some((_, letters)) => *letters += 1,
                None => alphabets.push((alphabet, 1)),
            }
        }
        // Of two that are as frequent, Latin is the word's own.
        let own = alphabets.iter().max_by_key(|(script, letters)| (*letters, *script == Script::Latin));
        Self { end, mixes: own.filter(|_| alphabets.len() > 1).map(|(script, _)| *script) }
    }

    /// A letter of another alphabet than most of its word.
    fn is_odd(&self, c: char) -> bool {
        self.mixes.is_some_and(|own| class::alphabet(c).is_some_and(|alphabet| alphabet != own))
    }
}
