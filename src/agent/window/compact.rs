//! When and how the window is shortened.
//!
//! A compaction is decided once, from the state and today's limits, and recorded: an event that says which
//! blocks become lines, where the lines stand among the blocks that stay, and how much of long blocks is shown.
//! Folding the event reads no limit. What is never folded: blocks that no model call has seen, what people
//! wrote since the last answer, calls that have not ended. Where these alone are too long they are cut, results
//! before people's words, the longest first.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::lines::{self, Line};
use super::render;
use super::{Block, Entry, Part, Window};
use crate::agent::id::CallId;

/// Bounds of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowLimits {
    /// Estimated tokens of a whole request (prompt, tools and window) above which old blocks are compacted.
    pub max_tokens: u64,
    /// Blocks above which they are compacted, however short they are: it bounds the work of a step.
    pub max_entries: usize,
    /// Blocks that a compaction keeps as they are, as long as they fit.
    pub keep_last: usize,
}

/// A compaction that is due, as its event records it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compaction {
    pub upto: u64,
    pub summary: String,
    pub layout: Vec<Kept>,
    pub cut: Option<Cut>,
}

/// A part of the window that stays, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// As many lines of the summary as there are letters, each letter the kind of its line.
    Lines(String),
    /// The block of this event, the first of an event being 0.
    Block(u64, u32),
}

/// How many bytes of a longer text are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Of results, attachments, arguments.
    pub results: u64,
    /// Of what people wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<u64>,
}

impl Cut {
    /// Bytes of an entry's text that are shown, if it has to be cut.
    fn limit(self, entry: &Entry) -> Option<u64> {
        let limit = if entry.block.is_a_persons() { self.people? } else { self.results };
        let is_cut = render::is_cut(render::text_bytes(&entry.block), usize::try_from(limit).unwrap_or(usize::MAX));
        if is_cut { Some(entry.limit.map_or(limit, |before| before.min(limit))) } else { entry.limit }
    }
}

/// Most bytes that all lines have together, and their part of the window if that is less.
const MAX_LINES: usize = 32_000;
const LINES_PART: usize = 4;
/// Shown bytes below which a result is not cut as long as people's words can be, too.
const MIN_RESULT: usize = 1_000;
/// Shown bytes below which no text is cut: it would say nothing any more.
const MIN_SHOWN: usize = 120;

impl Window {
    /// The compaction that is due under `limits` for a request whose prompt and tools take `base` bytes.
    ///
    /// Deterministic and without a model. Calls in `pending` are never folded. A second one right after the
    /// first is never due.
    pub fn compaction(&self, limits: &WindowLimits, base: usize, pending: &BTreeSet<CallId>) -> Option<Compaction> {
        let room = self.room(limits, base);
        if self.settled || self.bytes <= room && self.entries <= limits.max_entries {
            return None;
        }
        let folded = self.to_fold(limits, room, pending);
        let parts = self.folded(&folded, lines_room(room));
        let size: usize = parts.iter().map(Part::size).sum();
        let cut = if size > room { cut(&parts, room) } else { None };
        let changes =
            cut.is_some_and(|cut| parts.iter().filter_map(Part::entry).any(|entry| cut.limit(entry) != entry.limit));
        if folded.is_empty() && !changes {
            return None;
        }
        let upto = folded.iter().filter_map(|i| Some(self.parts.get(*i)?.entry()?.seq)).max().unwrap_or(0);
        let summary = lines::text(parts.iter().filter_map(|part| match part {
            Part::Line(line) => Some(line),
            Part::Entry(_) => None,
        }));
        Some(Compaction { upto, summary, layout: layout(&parts, upto), cut: cut.filter(|_| changes) })
    }

    /// Bytes that the window may have. Prompt and tools leave it a quarter, however long they are.
    fn room(&self, limits: &WindowLimits, base: usize) -> usize {
        let total = limits.max_tokens.saturating_mul(1000) / self.tokens_per_kb.max(1);
        let total = usize::try_from(total.min(self.ceiling.unwrap_or(u64::MAX))).unwrap_or(usize::MAX);
        total.saturating_sub(base).max(total / 4)
    }

    /// The places of the entries that become lines.
    fn to_fold(&self, limits: &WindowLimits, room: usize, pending: &BTreeSet<CallId>) -> BTreeSet<usize> {
        let kept_last: BTreeSet<usize> = {
            let entries = self.parts.iter().enumerate().rev().filter(|(_, part)| part.entry().is_some());
            entries.take(limits.keep_last.max(1)).map(|(i, _)| i).collect()
        };
        let mut may: Vec<usize> = (0..self.parts.len()).filter(|i| self.may_fold(*i, pending)).collect();
        // Oldest first; the last blocks only after all others.
        may.sort_by_key(|i| (kept_last.contains(i), *i));
        let lines: usize = self.lines().map(|line| line.text.len() + 1).sum();
        // What becomes lines may take all the room that lines have.
        let goal = (room / 2).saturating_sub(lines_room(room).min(room / 4));
        let mut left = self.bytes - lines.min(self.bytes);
        let too_many = self.entries > limits.max_entries;
        let too_long = self.bytes > room;
        let mut folded = BTreeSet::new();
        for i in may {
            let is_old = !kept_last.contains(&i);
            if !(too_many && is_old || too_long && left > goal) {
                continue;
            }
            left = left.saturating_sub(self.parts.get(i).map_or(0, Part::size));
            folded.insert(i);
        }
        folded
    }

    /// Whether the part at this place is an entry that may become a line.
    fn may_fold(&self, place: usize, pending: &BTreeSet<CallId>) -> bool {
        let Some(entry) = self.parts.get(place).and_then(Part::entry) else { return false };
        let call = entry.block.call();
        if entry.unseen || call.is_some_and(|call| pending.contains(&call)) {
            return false;
        }
        match &entry.block {
            // A result without its call would puzzle.
            Block::ToolCall { call, .. } => !self.entries().any(|e| e.unseen && e.block.call() == Some(*call)),
            block if block.is_a_persons() => place < self.last_answer(),
            _ => true,
        }
    }

    /// The place behind the last answer.
    fn last_answer(&self) -> usize {
        let is_answer = |part: &Part| {
            part.entry().is_some_and(|e| e.seq == self.answered && matches!(e.block, Block::Agent { .. }))
        };
        self.parts.iter().rposition(is_answer).map_or(0, |i| i + 1)
    }

    /// The parts once these places are lines.
    fn folded(&self, folded: &BTreeSet<usize>, lines_room: usize) -> Vec<Part> {
        let resolved = self.resolved();
        let mut parts: Vec<Part> = Vec::new();
        for (i, part) in self.parts.iter().enumerate() {
            match part {
                Part::Entry(entry) if folded.contains(&i) => {
                    let call = entry.block.call();
                    if call.is_none_or(|call| !resolved.contains(&call)) {
                        parts.push(Part::Line(lines::line(entry, call.and_then(|call| self.args_of(call)))));
                    }
                }
                part => parts.push(part.clone()),
            }
        }
        let line = |part: &Part| match part {
            Part::Line(line) => Some(line.clone()),
            Part::Entry(_) => None,
        };
        let all: Vec<Line> = parts.iter().filter_map(line).collect();
        let mut bounded = lines::bound(&all, lines_room).into_iter();
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Part::Entry(_) => kept.push(part),
                Part::Line(_) => kept.extend(bounded.next().flatten().map(Part::Line)),
            }
        }
        kept
    }

    /// Everything up to the event `upto` is what `summary` says.
    pub(in crate::agent) fn summarise(&mut self, upto: u64, summary: &str) {
        let made = Compaction { upto, summary: summary.to_owned(), layout: Vec::new(), cut: None };
        self.compact(&made, &BTreeSet::new());
    }

    /// Folds the event of a compaction.
    pub(in crate::agent) fn compact(&mut self, made: &Compaction, pending: &BTreeSet<CallId>) {
        let Compaction { upto, summary, layout, cut } = made;
        let stays = |e: &Entry| e.seq > *upto || e.block.call().is_some_and(|call| pending.contains(&call));
        let named = |e: &Entry| layout.contains(&Kept::Block(e.seq, e.ord));
        let untrusted = self.entries().any(|e| e.untrusted && !stays(e) && !named(e));
        self.lines_untrusted |= untrusted;
        let mut parts = std::mem::take(&mut self.parts);
        if layout.is_empty() && (*upto > 0 || !summary.is_empty()) {
            // An older program's: the summary stands before everything else.
            self.parts.extend(lines::parse(summary, "").into_iter().map(Part::Line));
            self.parts.extend(parts.into_iter().filter(|part| part.entry().is_some_and(stays)));
        } else if !layout.is_empty() {
            let kinds = |kept: &Kept| match kept {
                Kept::Lines(kinds) => kinds.clone(),
                Kept::Block(..) => String::new(),
            };
            let kinds: String = layout.iter().map(kinds).collect();
            let mut lines = lines::parse(summary, &kinds).into_iter();
            for kept in layout {
                match kept {
                    Kept::Lines(kinds) => self.parts.extend(lines.by_ref().take(kinds.len()).map(Part::Line)),
                    Kept::Block(seq, ord) => {
                        let is_it = |part: &Part| part.entry().is_some_and(|e| (e.seq, e.ord) == (*seq, *ord));
                        self.parts.extend(parts.iter().position(is_it).and_then(|i| parts.remove(i)));
                    }
                }
            }
            self.parts.extend(lines.map(Part::Line));
            self.parts.extend(parts.into_iter().filter(|part| part.entry().is_some_and(stays)));
        } else {
            self.parts = parts;
        }
        if let Some(cut) = cut {
            for part in &mut self.parts {
                if let Part::Entry(entry) = part {
                    entry.limit = cut.limit(entry);
                }
            }
        }
        self.bytes = self.parts.iter().map(Part::size).sum();
        self.entries = self.entries().count();
        self.settled = true;
    }
}

/// Bytes that all lines may have in a window of `room` bytes.
fn lines_room(room: usize) -> usize {
    (room / LINES_PART).clamp(MIN_SHOWN, MAX_LINES)
}

/// The parts as the event names them: up to the last line, and to the last block that would not stay by itself.
fn layout(kept: &[Part], upto: u64) -> Vec<Kept> {
    let is_named = |part: &Part| part.entry().is_none_or(|e| e.seq <= upto);
    let end = kept.iter().rposition(is_named).map_or(0, |i| i + 1);
    let mut layout: Vec<Kept> = Vec::new();
    for part in kept.iter().take(end) {
        match (part, layout.last_mut()) {
            (Part::Line(line), Some(Kept::Lines(kinds))) => kinds.push(line.kind.letter()),
            (Part::Line(line), _) => layout.push(Kept::Lines(line.kind.letter().to_string())),
            (Part::Entry(entry), _) => layout.push(Kept::Block(entry.seq, entry.ord)),
        }
    }
    layout
}

/// The longest texts that fit into `room` together.
fn cut(parts: &[Part], room: usize) -> Option<Cut> {
    let size = |results: usize, people: usize| -> usize {
        let limit = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let cut = Cut { results: limit(results), people: Some(limit(people)) };
        parts
            .iter()
            .map(|part| match part.entry() {
                Some(entry) => {
                    let whole = part.size() - render::shown_bytes(entry, entry.limit);
                    whole + render::shown_bytes(entry, cut.limit(entry))
                }
                None => part.size(),
            })
            .sum()
    };
    let fits = |bytes: usize| bytes <= room;
    let most = |least: usize, of: &dyn Fn(usize) -> usize| -> Option<usize> {
        let (mut low, mut high) = (least, room.max(least));
        if !fits(of(low)) {
            return None;
        }
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if fits(of(middle)) { low = middle } else { high = middle - 1 }
        }
        Some(low)
    };
    let limit = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    if let Some(results) = most(MIN_RESULT, &|n| size(n, usize::MAX)) {
        return Some(Cut { results: limit(results), people: None });
    }
    let both = most(MIN_SHOWN, &|n| size(n, n)).unwrap_or(MIN_SHOWN);
    Some(Cut { results: limit(both), people: Some(limit(both)) })
}
