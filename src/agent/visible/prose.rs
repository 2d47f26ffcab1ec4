//! The prose view: what scripts and emoji need stays, in the places where they need it; what hides, reorders or
//! smuggles text is written out.

use icu_properties::props::{GeneralCategory, HangulSyllableType, Script};

use super::class;
use super::notation::Written;

/// Marks on one base that are shown. Hebrew and Tibetan have up to six.
const MARKS: usize = 8;
/// Embeddings and isolates that may stand within each other.
const DEPTH: usize = 8;
/// The flags that are spelled with tags: a black flag, these, and the end of tags. Unicode recommends these three.
const FLAGS: [&str; 3] = ["gbeng", "gbsct", "gbwls"];
const BLACK_FLAG: char = '\u{1f3f4}';
const END_OF_TAGS: char = '\u{e007f}';
const KEYCAP: char = '\u{20e3}';

/// Answers and messages. Line ends stay, and come out as one character; tabs stay.
pub fn prose(text: &str) -> String {
    let mut out = Written::new(false, text.len());
    for line in text.split_inclusive('\n') {
        let (line, ends) = match line.strip_suffix('\n') {
            Some(line) => (line.strip_suffix('\r').unwrap_or(line), true),
            None => (line, false),
        };
        if line.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
            out.show_str(line);
        } else {
            one_line(line, &mut out);
        }
        if ends {
            out.show('\n');
        }
    }
    out.end()
}

fn one_line(line: &str, out: &mut Written) {
    let chars: Vec<char> = line.chars().collect();
    let closed = closed(&chars);
    let mut before = Before::default();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let flag = if c == BLACK_FLAG { flag(chars.get(at + 1..).unwrap_or(&[])) } else { 0 };
        let next = chars.get(at + 1).copied();
        if c == '\t' || c.is_ascii_graphic() || c == ' ' || before.takes(c, next) || is_closed(&closed, at) {
            out.show(c);
            before.add(c);
            for tag in chars.iter().skip(at + 1).take(flag) {
                out.show(*tag);
            }
        } else {
            out.write_out(c, 1);
            before = Before { in_row: true, ..Before::default() };
        }
        at += 1 + flag;
    }
}

/// Tags after a black flag that make it the flag of a country.
fn flag(after: &[char]) -> usize {
    let tags = |name: &&str| {
        let tags = name.bytes().map(|b| char::from_u32(0xe0000 + u32::from(b)));
        tags.chain([Some(END_OF_TAGS)]).zip(0..).all(|(tag, i)| after.get(i).copied() == tag)
    };
    FLAGS.iter().find(|name| tags(name)).map_or(0, |name| name.len() + 1)
}

/// What is shown before a character, as far as it matters to it.
#[derive(Default)]
struct Before {
    /// `None`: nothing, or something that is written out.
    last: Option<char>,
    /// An emoji that may be joined with another.
    emoji: bool,
    /// A letter, with its marks, after which a joiner means something.
    joins: bool,
    marks: usize,
    /// Right after something that is written out.
    in_row: bool,
}

impl Before {
    /// Whether the character stays.
    fn takes(&self, c: char, next: Option<char>) -> bool {
        let last = self.last;
        let after = |wanted: fn(char) -> bool| last.is_some_and(wanted);
        let ahead = |wanted: fn(char) -> bool| next.is_some_and(wanted);
        match c {
            '\u{200d}' => (self.emoji && ahead(class::is_pictograph)) || self.joins,
            '\u{200c}' => self.joins && ahead(|c| is_shown_letter(c) && class::takes_joiners(c)),
            '\u{200e}' | '\u{200f}' | '\u{61c}' => {
                !self.in_row && !after(|c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}'))
            }
            '\u{fe0f}' if next == Some(KEYCAP) => after(class::is_emoji),
            '\u{fe0e}' | '\u{fe0f}' => after(|c| !c.is_ascii() && class::is_emoji(c)),
            '\u{fe00}'..='\u{fe02}' => after(takes_variants),
            '\u{e0100}'..='\u{e01ef}' => after(class::is_ideograph),
            '\u{180b}'..='\u{180f}' => after(|c| class::is_letter(c) && class::script(c) == Script::Mongolian),
            '\u{34f}' => after(|c| (class::is_letter(c) || class::is_mark(c)) && c != '\u{34f}'),
            '\u{ad}' => after(class::is_letter) && ahead(is_shown_letter),
            '\u{200b}' => after(class::breaks_by_words) && ahead(|c| is_shown_letter(c) && class::breaks_by_words(c)),
            '\u{115f}' => ahead(|c| c != '\u{1160}' && class::jamo(c) == HangulSyllableType::VowelJamo),
            '\u{1160}' => after(|c| c != '\u{115f}' && class::jamo(c) == HangulSyllableType::LeadingJamo),
            '\u{13430}'..='\u{1343f}' => after(|c| class::script(c) == Script::EgyptianHieroglyphs),
            c if class::is_mark(c) && class::is_prose(c) => last.is_some() && self.marks < MARKS,
            c => class::is_prose(c),
        }
    }

    fn add(&mut self, c: char) {
        let mark = class::is_mark(c);
        // Selectors and joiners are marks by category, and no weight on their base.
        let light = class::is_ignorable(c);
        self.emoji = match c {
            '\u{fe0f}' => self.emoji,
            c if class::is_emoji_modifier(c) => self.emoji,
            c => class::is_pictograph(c),
        };
        self.joins = if mark && !light { self.joins || class::takes_joiners(c) } else { class::takes_joiners(c) };
        self.marks = match (mark, light) {
            (true, false) => self.marks + 1,
            (_, true) => self.marks,
            (false, false) => 0,
        };
        self.last = (c != ' ' && c != '\t').then_some(c);
        self.in_row = false;
    }
}

/// A letter that is shown wherever it stands.
fn is_shown_letter(c: char) -> bool {
    class::is_letter(c) && class::is_prose(c)
}

/// Signs and letters for which Unicode lists variants.
fn takes_variants(c: char) -> bool {
    class::is_ideograph(c)
        || class::category(c) == GeneralCategory::MathSymbol
        || matches!(class::script(c), Script::Myanmar | Script::PhagsPa | Script::Manichaean)
}

fn is_closed(closed: &[usize], at: usize) -> bool {
    closed.binary_search(&at).is_ok()
}

/// Places of the embeddings and isolates that are closed on their line, and of what closes them, in order. Overrides
/// are not among them: they show letters in another order than they have.
fn closed(chars: &[char]) -> Vec<usize> {
    let mut stay = Vec::new();
    let mut open: Vec<(usize, char)> = Vec::new();
    for (at, c) in chars.iter().enumerate() {
        match c {
            '\u{202a}' | '\u{202b}' | '\u{202d}' | '\u{202e}' | '\u{2066}'..='\u{2068}' => open.push((at, *c)),
            '\u{202c}' | '\u{2069}' => {
                let isolates = |c: char| ('\u{2066}'..='\u{2068}').contains(&c);
                let fits = open.last().is_some_and(|(_, opened)| isolates(*opened) == (*c == '\u{2069}'));
                if !fits {
                    continue;
                }
                let overrides = |c: char| matches!(c, '\u{202d}' | '\u{202e}');
                if let Some((begun, opened)) = open.pop()
                    && !overrides(opened)
                    && open.len() < DEPTH
                {
                    stay.extend([begun, at]);
                }
            }
            _ => {}
        }
    }
    stay.sort_unstable();
    stay
}
