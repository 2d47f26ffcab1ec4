//! A folded block as a line, and which lines give way first.
//!
//! People's words keep head and tail, a denial its "do not make it again", a failure and a change their
//! arguments. Everything else is a line. All lines together are bounded: what is least needed goes first, and
//! people's words become shorter before the oldest of them goes.

use std::sync::LazyLock;

use regex::Regex;

use super::render::head_and_tail;
use super::{Block, Ending, Entry};
use crate::agent::json::canonical;
use crate::agent::untrusted::one_line;

/// What a line is, for what gives way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// What a person wrote, or was asked.
    Person,
    /// A denial, an expiry, a word of the engine.
    Ruling,
    /// A call that failed.
    Failure,
    /// A call that changed something.
    Change,
    Other,
    /// Where lines are missing.
    Gap,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Person, Self::Ruling, Self::Failure, Self::Change, Self::Other, Self::Gap];

    pub(super) fn letter(self) -> char {
        match self {
            Self::Person => 'p',
            Self::Ruling => 'r',
            Self::Failure => 'f',
            Self::Change => 'c',
            Self::Other => 'o',
            Self::Gap => 'g',
        }
    }

    fn of(letter: char) -> Self {
        Self::ALL.into_iter().find(|kind| kind.letter() == letter).unwrap_or(Self::Other)
    }
}

/// What is left of a folded block. Where it has several lines, all but the first begin with two spaces.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub kind: Kind,
    pub text: String,
}

/// Bytes of what a person wrote that a line keeps at first. Shorter bounds follow when many have to fit.
const PERSON_BYTES: [usize; 10] = [2_000, 1_400, 1_000, 700, 500, 350, 250, 180, 120, 80];
/// Bytes of a denial, with its reason.
const RULING_BYTES: usize = 700;
/// Bytes of an answer of the agent.
const ANSWER_BYTES: usize = 400;
/// Bytes of any other text, and of arguments.
const OTHER_BYTES: usize = 160;
const GAP: &str = "(earlier lines left out)";

/// The lines as one text.
pub(super) fn text<'l>(lines: impl Iterator<Item = &'l Line>) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.text);
        text.push('\n');
    }
    text
}

/// The lines of a text and their kinds. Without kinds, an older program wrote the text.
pub(super) fn parse(text: &str, kinds: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut kinds = kinds.chars();
    for line in text.lines() {
        match lines.last_mut() {
            Some(last) if line.starts_with("  ") => {
                last.text.push('\n');
                last.text.push_str(line);
            }
            _ => {
                let kind = kinds.next().map_or_else(|| guess(line), Kind::of);
                lines.push(Line { kind, text: line.to_owned() });
            }
        }
    }
    lines
}

fn guess(line: &str) -> Kind {
    let words = |word: &str| line.split_once(word).is_some_and(|(who, _)| !who.is_empty() && !who.contains(':'));
    match line {
        GAP => Kind::Gap,
        _ if words(" wrote: ") || words(" answered: ") && !line.starts_with("you ") => Kind::Person,
        _ if words(" denied: ") || words(" expired: ") => Kind::Ruling,
        _ if words(" failed: ") => Kind::Failure,
        _ => Kind::Other,
    }
}

/// A block as a line. What was written outside says so in each line: the mark of a whole summary cannot tell
/// the model which of them, and no line of it may look like one of a person. `args`: those of the call that a
/// result belongs to.
pub(super) fn line(entry: &Entry, args: Option<&serde_json::Value>) -> Line {
    let outside = |text: &str| {
        let short = one_line(text);
        if short.ends_with('…') { format!("{short} ({} bytes)", text.len()) } else { short }
    };
    let (kind, text) = match &entry.block {
        Block::Human { from, text } if entry.untrusted => {
            (Kind::Other, format!("{} passed on (untrusted): {}", name(from.label()), outside(text)))
        }
        Block::ToolResult { .. } => return result_line(entry, args),
        Block::Agent { text } | Block::Question { text } | Block::Answer { text, .. } | Block::Notice { text }
            if entry.untrusted =>
        {
            (Kind::Other, format!("(untrusted) {}", outside(text)))
        }
        Block::Attached { label, text } if entry.untrusted => {
            (Kind::Other, format!("attached (untrusted) {}: {}", one_line(label), outside(text)))
        }
        // A name of its own begins no line: who named it could make it look like one of a person.
        Block::Attached { label, text } => {
            (Kind::Other, format!("attached {}: {}", one_line(label), first(text, OTHER_BYTES)))
        }
        Block::Human { from, text } => (Kind::Person, format!("{} wrote: {}", name(from.label()), words(text))),
        Block::Answer { from, text } => (Kind::Person, format!("{} answered: {}", name(from.label()), words(text))),
        Block::Agent { text } => (Kind::Other, format!("you answered: {}", first(text, ANSWER_BYTES))),
        Block::ToolCall { tool, args, .. } => {
            (Kind::Other, format!("you called {} {}", name(tool), first(&canonical(args), OTHER_BYTES)))
        }
        Block::Question { text } => (Kind::Person, format!("you asked: {}", first(text, ANSWER_BYTES))),
        Block::Notice { text } => (Kind::Ruling, first(text, ANSWER_BYTES)),
    };
    Line { kind, text }
}

fn result_line(entry: &Entry, args: Option<&serde_json::Value>) -> Line {
    let Block::ToolResult { tool, ending, text, .. } = &entry.block else {
        return Line { kind: Kind::Other, text: String::new() };
    };
    let changes = entry.about.is_some_and(|about| about.changes);
    let kind = match ending {
        Ending::Denied | Ending::Expired => Kind::Ruling,
        Ending::Failed => Kind::Failure,
        Ending::Succeeded | Ending::Cancelled | Ending::NotRun if changes => Kind::Change,
        Ending::Succeeded | Ending::Cancelled | Ending::NotRun => Kind::Other,
    };
    // These stand on their own: the line of the call may be gone before them.
    let with = match args {
        Some(args) if kind != Kind::Other => format!(" {}", first(&canonical(args), 2 * OTHER_BYTES)),
        Some(_) | None => String::new(),
    };
    let (tool, word) = (name(tool), ending.word());
    let text = if entry.untrusted {
        let short = one_line(text);
        let size = if short.ends_with('…') { sized(text.len()) } else { String::new() };
        format!("{tool}{with} {word} (untrusted{size}): {short}")
    } else {
        let room = if kind == Kind::Ruling { RULING_BYTES } else { OTHER_BYTES };
        let short = if kind == Kind::Ruling { joined(text, room) } else { first(text, room) };
        let size = match (short.ends_with('…'), kind) {
            (true, Kind::Other) => format!(" ({})", sized(text.len()).trim_start_matches(", ")),
            (true, _) | (false, _) => String::new(),
        };
        format!("{tool}{with} {word}{size}: {short}")
    };
    Line { kind, text }
}

fn sized(bytes: usize) -> String {
    format!(", {bytes} bytes; to read them, make the call again")
}

/// A name at the start of a line: it can neither end the line nor say what follows a name.
fn name(text: &str) -> String {
    one_line(text).replace(": ", " ")
}

/// Everything that a reader may take for the end of a line.
fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What a person wrote, all lines of it, head and tail if it is long.
fn words(text: &str) -> String {
    let lines = text.trim().split(is_line_end).map(str::trim_end).filter(|line| !line.is_empty());
    shorten(&lines.collect::<Vec<_>>().join("\n  "), PERSON_BYTES[0])
}

/// A text in one line, of at most `room` bytes.
fn first(text: &str, room: usize) -> String {
    let mut joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.retain(|c| !is_line_end(c));
    if joined.len() > room {
        joined.truncate(joined.floor_char_boundary(room));
        joined.push('…');
    }
    joined
}

/// A text in one line, head and tail if it is long.
fn joined(text: &str, room: usize) -> String {
    shorten(&first(text, usize::MAX), room)
}

/// Head and tail of a text that is longer than `room` bytes. The note tells how long it was before it was ever
/// shortened.
fn shorten(text: &str, room: usize) -> String {
    static NOTE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\[… of ([0-9]{1,12}) bytes …\]").ok());
    if text.len() <= room + 40 {
        return text.to_owned();
    }
    let before =
        NOTE.as_ref().and_then(|note| note.captures(text)).and_then(|found| found.get(1)?.as_str().parse().ok());
    let all = before.unwrap_or(0_usize).max(text.len());
    let (head, tail) = head_and_tail(text, room);
    // A piece of an older note would only puzzle.
    let head = head.rsplit_once("[… of").filter(|(_, cut)| !cut.contains(']')).map_or(head, |(head, _)| head);
    let tail = tail.split_once("…]").filter(|(cut, _)| !cut.contains('[')).map_or(tail, |(_, tail)| tail);
    let (head, tail) = (head.trim_end(), tail.trim_start());
    format!("{head} [… of {all} bytes …] {tail}")
}

/// Which of these lines stay if all of them may have `room` bytes; `None` for those that go.
pub(super) fn bound(lines: &[Line], room: usize) -> Vec<Option<Line>> {
    let length = |line: &Line| line.text.len() + 1;
    if lines.iter().map(length).sum::<usize>() <= room {
        return lines.iter().cloned().map(Some).collect();
    }
    let mut kept: Vec<Option<Line>> = vec![None; lines.len()];
    let of = |kind: Kind| move |(_, line): &(usize, &Line)| line.kind == kind;
    // People first: all of them a little shorter before one of them goes.
    let share = room.saturating_sub(GAP.len() + 1) / 4 * 3;
    let people = || lines.iter().enumerate().filter(of(Kind::Person));
    let shortened = |most: usize| people().map(|(i, l)| (i, shorten(&l.text, most))).collect::<Vec<_>>();
    let mut words = Vec::new();
    for most in PERSON_BYTES {
        words = shortened(most);
        if words.iter().map(|(_, text)| text.len() + 1).sum::<usize>() <= share {
            break;
        }
    }
    // Then the first one, and the newest.
    let mut left = share;
    let first = words.first().map(|(i, _)| *i);
    words.sort_by_key(|(i, _)| (Some(*i) != first, std::cmp::Reverse(*i)));
    for (i, text) in words {
        match left.checked_sub(text.len() + 1) {
            Some(rest) => left = rest,
            None => break,
        }
        if let Some(place) = kept.get_mut(i) {
            *place = Some(Line { kind: Kind::Person, text });
        }
    }
    let mut left = room.saturating_sub(GAP.len() + 1).saturating_sub(share - left);
    for kind in [Kind::Ruling, Kind::Failure, Kind::Change, Kind::Other] {
        for (i, line) in lines.iter().enumerate().filter(of(kind)).collect::<Vec<_>>().into_iter().rev() {
            match left.checked_sub(length(line)) {
                Some(rest) => left = rest,
                None => break,
            }
            if let Some(place) = kept.get_mut(i) {
                *place = Some(line.clone());
            }
        }
    }
    // One note, where the first line is missing.
    if let Some(place) = kept.iter_mut().find(|line| line.is_none()) {
        *place = Some(Line { kind: Kind::Gap, text: GAP.to_owned() });
    }
    kept
}
