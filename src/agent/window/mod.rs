//! The context window: what the model sees, in our own format.
//!
//! One block for each thing that matters to the next step, newest last. The window is a fold of the log like
//! everything else: [`Window::render`] is a pure function, so `twelve prompts render` prints exactly what a
//! provider is sent. The log is never rewritten; three things keep the window short:
//! - the tools cap their results;
//! - a failed call drops out once the model has seen the failure and *the same call* has succeeded;
//! - a compaction ([`Window::compaction`]) folds old blocks into lines, and cuts what does not fit.
//!
//! The window never says less than happened: a result that no model call has seen is never folded, people's
//! words stay (whole since the last answer, later head and tail), and each cut says its size and how to read
//! the rest.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | blocks, entries, what was seen, which failures are resolved |
//! | `compact` | when and how it is shortened |
//! | `lines` | a folded block as a line, and which lines give way first |
//! | `render` | the text that a model is sent, cuts, escaping |
//!
//! Text inside a block is data. What could be read as one of our tags is escaped, so neither a person
//! nor a tool's output can forge a block.

mod compact;
mod lines;
mod render;

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::id::{CallId, Digest, Principal};
use super::json::canonical;

pub use compact::{Compaction, Cut, Kept, WindowLimits};
use lines::Line;
pub use render::TAGS;

/// One block and the event that it was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub seq: u64,
    pub block: Block,
    /// Whether its text was written outside: data for the model, and marked as such.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untrusted: bool,
    /// For a result: which call it belongs to, by what the call is about. In a log only if that is not all of
    /// its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// Whether no model has replied yet to a window that held it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen: bool,
    /// Bytes of its text that are shown, if a compaction had to cut it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Set on a notice that carries folded lines into a fork: the kind of each line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lines: String,
    /// Tells blocks of one event apart: the first has 0.
    #[serde(skip)]
    ord: u32,
}

impl Entry {
    pub fn new(seq: u64, block: Block, untrusted: bool) -> Self {
        // What it wrote itself, a model knows.
        let unseen = !matches!(block, Block::Agent { .. } | Block::ToolCall { .. });
        Self { seq, block, untrusted, about: None, unseen, limit: None, lines: String::new(), ord: 0 }
    }

    pub fn trusted(seq: u64, block: Block) -> Self {
        Self::new(seq, block, false)
    }

    /// A result of the call that this is about.
    pub(super) fn about(mut self, about: About) -> Self {
        self.about = Some(about);
        self
    }
}

/// What a call is about: two calls with the same digest are the same call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Of the tool's name and its target arguments.
    pub call: Digest,
    /// Whether such a call changes anything outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changes: bool,
}

impl About {
    /// `target` names the arguments that say what a call is about; empty: all of them.
    pub fn of(tool: &str, args: &Value, target: &[String], changes: bool) -> Self {
        let about = match args {
            Value::Object(members) if !target.is_empty() => {
                let named = target.iter().filter_map(|name| members.get(name).map(|v| (name.clone(), v.clone())));
                Value::Object(named.collect())
            }
            all => all.clone(),
        };
        let key = canonical(&Value::Array(vec![Value::String(tool.to_owned()), about]));
        Self { call: Digest::of(key.as_bytes()), changes }
    }
}

/// What a block says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Block {
    Human {
        from: Principal,
        text: String,
    },
    Agent {
        text: String,
    },
    ToolCall {
        call: CallId,
        tool: String,
        args: Value,
        #[serde(default)]
        why: String,
    },
    ToolResult {
        call: CallId,
        tool: String,
        ending: Ending,
        text: String,
    },
    Question {
        text: String,
    },
    Answer {
        from: Principal,
        text: String,
    },
    Notice {
        text: String,
    },
    /// Something that came with a message: a file, what was said before the agent joined.
    Attached {
        label: String,
        text: String,
    },
}

impl Block {
    /// The call that a block belongs to.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Block::ToolCall { call, .. } | Block::ToolResult { call, .. } => Some(*call),
            Block::Human { .. }
            | Block::Agent { .. }
            | Block::Question { .. }
            | Block::Answer { .. }
            | Block::Notice { .. }
            | Block::Attached { .. } => None,
        }
    }

    fn is_a_persons(&self) -> bool {
        matches!(self, Block::Human { .. } | Block::Answer { .. })
    }
}

/// How a call ended, as the model is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Succeeded,
    Failed,
    /// A person, or a rule, said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The run was stopped.
    Cancelled,
    /// Not run: something newer came first, or an earlier call of the same reply failed.
    NotRun,
}

impl Ending {
    /// The ending that [`Ending::word`] calls so.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::Denied, Self::Expired, Self::Cancelled, Self::NotRun]
            .into_iter()
            .find(|ending| ending.word() == word)
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::NotRun => "not_run",
        }
    }
}

/// Tokens for a thousand bytes before a provider has told us better; English prose has about 250,
/// JSON about 330.
const TOKENS_PER_KB: u64 = 300;

/// A part of the window: a block as it came, or the line that is left of one.
// Most parts are entries; boxing them would cost an allocation for each.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Entry(Entry),
    Line(Line),
}

impl Part {
    fn entry(&self) -> Option<&Entry> {
        match self {
            Part::Entry(entry) => Some(entry),
            Part::Line(_) => None,
        }
    }

    fn size(&self) -> usize {
        match self {
            Part::Entry(entry) => render::size(entry),
            Part::Line(line) => line.text.len() + 1,
        }
    }
}

/// The folded window of one thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    parts: VecDeque<Part>,
    /// Whether anything untrusted was ever folded into lines: what was dropped since may live on in the
    /// agent's own lines.
    lines_untrusted: bool,
    bytes: usize,
    entries: usize,
    tokens_per_kb: u64,
    /// Bytes that a whole request may have, learned from a provider that refused a longer one.
    ceiling: Option<u64>,
    /// The event with the last answer.
    answered: u64,
    /// Nothing has changed since the last compaction: another would find nothing.
    settled: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            parts: VecDeque::new(),
            lines_untrusted: false,
            bytes: 0,
            entries: 0,
            tokens_per_kb: TOKENS_PER_KB,
            ceiling: None,
            answered: 0,
            settled: false,
        }
    }
}

impl Window {
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.parts.iter().filter_map(Part::entry)
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.parts.iter().filter_map(|part| match part {
            Part::Line(line) => Some(line),
            Part::Entry(_) => None,
        })
    }

    /// What is left of folded blocks, one line each; a line that goes on is indented.
    pub fn summary(&self) -> String {
        lines::text(self.lines())
    }

    /// Whether the folded lines hold some that were written outside.
    pub fn summary_is_untrusted(&self) -> bool {
        self.lines_untrusted
    }

    pub(super) fn push(&mut self, mut entry: Entry) {
        entry.ord = self.entries().rev().take_while(|e| e.seq == entry.seq).count() as u32;
        let part = Part::Entry(entry);
        self.bytes += part.size();
        self.entries += 1;
        self.settled = false;
        self.parts.push_back(part);
    }

    /// An entry of another thread, which the event `seq` brought.
    pub(super) fn carry(&mut self, seq: u64, entry: &Entry) {
        let kinds = match &entry.block {
            // Programs before this one marked the folded lines by the number 0 alone.
            Block::Notice { .. } if entry.seq == 0 && entry.lines.is_empty() => Some(""),
            Block::Notice { .. } if !entry.lines.is_empty() => Some(entry.lines.as_str()),
            _ => None,
        };
        match (&entry.block, kinds) {
            (Block::Notice { text }, Some(kinds)) => {
                self.lines_untrusted |= entry.untrusted;
                for line in lines::parse(text, kinds) {
                    let part = Part::Line(line);
                    self.bytes += part.size();
                    self.parts.push_back(part);
                }
            }
            _ => {
                let about = entry.about.or_else(|| self.about_all(&entry.block));
                self.push(Entry { seq, about, ..entry.clone() });
            }
        }
    }

    /// What a fork takes over: all parts but the blocks of calls for which `is_open` holds.
    pub(super) fn carried(&self, is_open: impl Fn(CallId) -> bool) -> Vec<Entry> {
        let mut carried: Vec<Entry> = Vec::new();
        for part in &self.parts {
            match part {
                Part::Entry(entry) if entry.block.call().is_some_and(&is_open) => {}
                Part::Entry(entry) => {
                    let about = entry.about.filter(|about| self.about_all(&entry.block) != Some(*about));
                    carried.push(Entry { about, ..entry.clone() });
                }
                Part::Line(line) => match carried.last_mut() {
                    Some(Entry { block: Block::Notice { text }, lines, .. }) if !lines.is_empty() => {
                        text.push_str(&line.text);
                        text.push('\n');
                        lines.push(line.kind.letter());
                    }
                    _ => {
                        let block = Block::Notice { text: format!("{}\n", line.text) };
                        let lines = line.kind.letter().to_string();
                        carried.push(Entry { lines, ..Entry::new(0, block, self.lines_untrusted) });
                    }
                },
            }
        }
        carried
    }

    /// A model replied to the window as it was at the event `seen`.
    pub(super) fn saw(&mut self, seen: u64) {
        self.settled = false;
        for part in &mut self.parts {
            if let Part::Entry(entry) = part {
                entry.unseen &= entry.seq > seen;
            }
        }
    }

    /// Takes off what is newer than `seen` at the end, so that the reply can be put before it.
    pub(super) fn take_newer(&mut self, seen: u64) -> Vec<Entry> {
        let newer = |part: &Part| part.entry().is_some_and(|e| e.seq > seen);
        let mut taken = Vec::new();
        while self.parts.back().is_some_and(newer)
            && let Some(Part::Entry(entry)) = self.parts.pop_back()
        {
            self.bytes = self.bytes.saturating_sub(render::size(&entry));
            self.entries -= 1;
            taken.push(entry);
        }
        taken.reverse();
        taken
    }

    /// Puts back what was taken off, behind what came in meanwhile.
    pub(super) fn put_back(&mut self, newer: Vec<Entry>) {
        for entry in newer {
            let part = Part::Entry(entry);
            self.bytes += part.size();
            self.entries += 1;
            self.parts.push_back(part);
        }
    }

    /// The event `seq` answered what people had asked.
    pub(super) fn answered(&mut self, seq: u64) {
        self.answered = seq;
    }

    /// Learns from what a provider counted for a request of `sent` bytes (prompt, tools and window): vendors'
    /// tokenizers are not ours to run.
    pub(super) fn calibrate(&mut self, input_tokens: u64, sent: u64) {
        if input_tokens > 0 && sent > 0 {
            // Bounds: 5 bytes a token is more than any prose has, 1 byte a token less than any tokenizer.
            self.tokens_per_kb = (input_tokens.saturating_mul(1000) / sent).clamp(200, 1000);
        }
    }

    /// A provider refused a request as too long: no later one may have more bytes than this.
    pub(super) fn lower_ceiling(&mut self, bytes: u64) {
        self.settled = false;
        self.ceiling = Some(self.ceiling.map_or(bytes, |before| before.min(bytes)));
    }

    /// About how many bytes the rendered window has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tokens for a thousand bytes, as far as known.
    pub fn tokens_per_kb(&self) -> u64 {
        self.tokens_per_kb
    }

    /// About how many tokens a request has whose prompt and tools take `base` bytes.
    pub fn tokens(&self, base: usize) -> u64 {
        (self.bytes.saturating_add(base) as u64).saturating_mul(self.tokens_per_kb) / 1000
    }

    /// Failed calls that the model has seen fail, and of which the same call has succeeded since: history that
    /// only distracts a model.
    fn resolved(&self) -> BTreeSet<CallId> {
        let mut succeeded = BTreeSet::new();
        let mut resolved = BTreeSet::new();
        for entry in self.entries().rev() {
            if let (Block::ToolResult { call, ending, .. }, Some(about)) = (&entry.block, &entry.about) {
                if *ending == Ending::Succeeded {
                    succeeded.insert(about.call.0);
                } else if *ending == Ending::Failed && !entry.unseen && succeeded.contains(&about.call.0) {
                    resolved.insert(*call);
                }
            }
        }
        resolved
    }

    /// What a result is about if its call is about all of its arguments.
    fn about_all(&self, block: &Block) -> Option<About> {
        let Block::ToolResult { call, tool, .. } = block else { return None };
        Some(About::of(tool, self.args_of(*call)?, &[], false))
    }

    /// Whether such a call was made, as far as the window still shows it.
    pub(super) fn made(&self, tool: &str, args: &Value) -> bool {
        self.entries().any(|e| match &e.block {
            Block::ToolCall { tool: made, args: with, .. } => made == tool && with == args,
            _ => false,
        })
    }

    /// The arguments that a call was made with, if its block is still there.
    pub(super) fn args_of(&self, id: CallId) -> Option<&Value> {
        self.entries().rev().find_map(|e| match &e.block {
            Block::ToolCall { call, args, .. } if *call == id => Some(args),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
