//! The card of an approval in each of its states, and of several that one reply asked for.
//!
//! The rule of this file: whoever can press Approve has everything before them that the digest covers. A text that
//! is too long for the card is behind Review, where it is whole; one that no modal holds is approved in the inbox.

use serde_json::Value;

use super::limits::{MESSAGE, VIEW_BYTES, cut, first_piece, len, pieces, weight};
use super::mrkdwn::{approvers, link, moment, people};
use super::parts::{
    actions, bold, boxed, button, confirm, context, divider, emoji, header, italic, line, link_button, linked, mrkdwn,
    option, overflow, person, prose, rich, said, strict, strict_lines, styled,
};
use super::{Look, Message, action};
use crate::agent::{Approval, Because, Risk, ShortId, Vote, changed_args, visible};
use crate::platform::{Card, CardState};

/// Longest text of what is approved that a card shows whole, in units: about a screen.
const WHOLE: usize = 2_500;
/// The same where the rest of the card, or other rows, need the room.
const SHORTER: [usize; 6] = [WHOLE, 1_500, 800, 400, 200, SHORTEST];
const SHORTEST: usize = 100;
/// Most rows of a card for several calls.
const ROWS: usize = 8;
/// Longest title, in units. What it is made from stands below it.
const SENTENCE: usize = 400;
/// Longest quote of the agent, of a person, of a result, in units.
const QUOTE: usize = 300;
/// Longest list of texts from outside, and of changes, in units.
const LIST: usize = 600;
/// Most notes of voters that are shown.
const NOTES: usize = 4;

/// The card of an approval, or of several that one reply asked for (`cards` has at least one).
pub fn card(cards: &[Card], look: &Look) -> Message {
    match cards {
        [] => Message { text: String::new(), blocks: Vec::new() },
        [one] => {
            let seen = Seen::of(one);
            let draw = |shown: usize| single(&seen, shown, look);
            Message { text: text(&one.headline()), blocks: fitting(SHORTER.into_iter().map(draw)) }
        }
        several => {
            let seen: Vec<Seen> = several.iter().map(Seen::of).collect();
            let sizes = (1..=ROWS).rev().flat_map(|rows| SHORTER.map(|shown| (rows, shown)));
            // Rows matter more than what they show: behind Review it is whole.
            let blocks = fitting(sizes.map(|(rows, shown)| batch(&seen, rows, shown, look)));
            Message { text: text(&batch_headline(several.iter())), blocks }
        }
    }
}

/// Whether the card of this approval, where it stands alone, shows all of what its digest covers.
pub fn is_whole(card: &Card, look: &Look) -> bool {
    let seen = Seen::of(card);
    let drawn = SHORTER.into_iter().find(|shown| weight(&single(&seen, *shown, look)) <= MESSAGE);
    drawn.is_some_and(|shown| seen.size <= shown)
}

/// The first drawing that Slack takes, or the last.
fn fitting(drawings: impl Iterator<Item = Vec<Value>>) -> Vec<Value> {
    let mut last = Vec::new();
    for blocks in drawings {
        if weight(&blocks) <= MESSAGE {
            return blocks;
        }
        last = blocks;
    }
    last
}

/// The text of a notification: Slack reads it as mrkdwn.
pub(super) fn text(words: &str) -> String {
    text_shown(&visible::composed(words.trim()))
}

/// The same of words that one of the views has made.
pub(super) fn text_shown(words: &str) -> String {
    let words = super::mrkdwn::shortened(&words.replace('\n', " "), QUOTE);
    if words.is_empty() { "–".to_owned() } else { words }
}

// ---- what is approved ----

/// Everything that the digest covers and that this approval's card does not say elsewhere, a line each: arguments
/// and plan. A name begins at the margin, and nothing else does.
pub fn covered(approval: &Approval) -> String {
    let mut out = String::new();
    pairs(&approval.args, "arguments", "", &mut out);
    if let Some(plan) = &approval.plan {
        out.push_str("\n\nWhat it would do:\n  ");
        out.push_str(&continued(&visible::text(&plan.summary), "  "));
        if !plan.facts.is_null() {
            out.push('\n');
            pairs(&plan.facts, "facts", "  ", &mut out);
        }
    }
    out
}

/// Widest name that others are aligned to, in units.
const ALIGNED: usize = 24;

fn pairs(value: &Value, name: &str, margin: &str, out: &mut String) {
    let members: Vec<(String, &Value)> = match value.as_object() {
        Some(object) if object.is_empty() => {
            out.push_str(&format!("{margin}(no {name})"));
            return;
        }
        Some(object) => object.iter().map(|(name, value)| (visible::key(name), value)).collect(),
        None => vec![(name.to_owned(), value)],
    };
    let width = members.iter().map(|(name, _)| len(name)).filter(|width| *width <= ALIGNED).max().unwrap_or(0);
    for (i, (name, value)) in members.iter().enumerate() {
        let pad = " ".repeat(width.saturating_sub(len(name)));
        let value = visible::value(value);
        let shown = if value.contains('\n') {
            format!("\n{margin}  │ {}", continued(&value, &format!("{margin}  │ ")))
        } else {
            format!(" {pad}{value}")
        };
        out.push_str(&format!("{}{margin}{name}:{shown}", if i == 0 { "" } else { "\n" }));
    }
}

fn continued(text: &str, margin: &str) -> String {
    text.replace('\n', &format!("\n{margin}"))
}

/// A card and what is approved by it, worked out once: arguments may be a megabyte, and several drawings are made.
struct Seen<'a> {
    card: &'a Card,
    /// See [`covered`].
    text: String,
    /// Of the text, in units and in characters.
    size: usize,
    chars: usize,
    /// Whether a modal holds it.
    reviewable: bool,
    /// Whether it can be changed in a modal.
    editable: bool,
}

impl<'a> Seen<'a> {
    fn of(card: &'a Card) -> Self {
        let text = covered(&card.approval);
        let open = card.approval.is_open();
        let reviewable = open && len(&text) > SHORTEST && pieces_of(&text).is_some();
        let editable = open && card.editable && super::edit::fits(&card.approval.args);
        Self { card, size: len(&text), chars: text.chars().count(), reviewable, editable, text }
    }

    /// The text, or its first lines and how many characters are left out.
    fn beginning(&self, max: usize) -> (&str, Option<usize>) {
        if self.size <= max {
            return (&self.text, None);
        }
        let first = first_piece(&self.text, max);
        (first.trim_end_matches('\n'), Some(self.chars - first.chars().count()))
    }
}

/// The pieces for a modal in which all of it can be read; `None`: no modal holds it.
pub(super) fn reviewable(approval: &Approval) -> Option<Vec<Value>> {
    pieces_of(&covered(approval))
}

fn pieces_of(text: &str) -> Option<Vec<Value>> {
    /// Units of one block, and the most blocks; a modal takes 100, of which some say other things.
    const PIECE: usize = 2_900;
    const PIECES: usize = 80;
    if text.len() > VIEW_BYTES {
        return None;
    }
    let piece = |piece: &str| rich(vec![boxed(piece.strip_suffix('\n').unwrap_or(piece))]);
    let blocks: Vec<Value> = pieces(text, PIECE).into_iter().map(piece).collect();
    let bytes: usize = blocks.iter().map(|block| block.to_string().len()).sum();
    (blocks.len() <= PIECES && bytes <= VIEW_BYTES).then_some(blocks)
}

/// Thousands with commas.
fn number(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

// ---- one approval ----

fn single(seen: &Seen, shown: usize, look: &Look) -> Vec<Value> {
    let card = seen.card;
    let approval = &card.approval;
    let state = card.stands();
    let mut blocks = vec![
        header(&format!("{state}: {}", approval.tool)),
        rich(vec![line(vec![bold(&strict(&approval.title, SENTENCE))])]),
        fields(card, look),
    ];
    let (what, left_out) = what(seen, shown, look);
    blocks.push(rich(what));
    if let Some(why) = why(card) {
        blocks.push(why);
    }
    blocks.extend(left_out.map(|words| context(&[words])));
    blocks.extend(decided(card, look));
    let mut buttons = buttons(seen, shown);
    let has_more = matches!(card.state, CardState::Pending { .. } | CardState::Succeeded(_) | CardState::Failed(_));
    buttons.extend(address(approval, look).filter(|_| has_more).map(|url| link_button(action::OPEN, "Open", &url)));
    if !buttons.is_empty() {
        blocks.push(actions(&format!("apr:{}:{}", approval.id, look.counter), buttons));
    }
    blocks.push(context(&footer(approval).into_iter().chain(expiry(approval)).collect::<Vec<_>>()));
    blocks
}

fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::Low => ":large_green_circle: low",
        Risk::Medium => ":large_yellow_circle: medium",
        Risk::High => ":red_circle: high",
    }
}

pub(super) fn fields(card: &Card, look: &Look) -> Value {
    let approval = &card.approval;
    let field = |name: &str, value: String| mrkdwn(&format!("*{name}*\n{value}"));
    let fields = vec![
        field("Agent", super::mrkdwn::name(&card.agent, 80)),
        field("Risk", risk(approval.terms.risk).to_owned()),
        field("Requested by", people(&approval.requesters, look)),
        field("Can approve", approvers(&approval.terms.approvers, look)),
    ];
    serde_json::json!({"type": "section", "fields": fields})
}

/// What is approved, as elements of rich text, and the line about what is left out of it.
fn what(seen: &Seen, shown: usize, look: &Look) -> (Vec<Value>, Option<String>) {
    let card = seen.card;
    let approval = &card.approval;
    let mut elements = Vec::new();
    elements.extend(warned(card));
    elements.extend(revision(card, look));
    let (begin, left_out) = seen.beginning(shown);
    elements.push(boxed(begin));
    let left_out = left_out.map(|n| {
        let more = format!("+ {} more characters", number(n));
        match (approval.is_open(), seen.reviewable) {
            (true, true) => format!("{more}. *Review…* shows all of it."),
            (true, false) => format!("{more}, too long for Slack. Read it and decide in {}.", inbox(approval, look)),
            (false, _) => more,
        }
    });
    (elements, left_out)
}

/// The texts from outside that may have talked the agent into it.
fn warned(card: &Card) -> Option<Value> {
    let words = format!(" {}", strict(card.after_reading.as_deref()?, LIST));
    Some(line(vec![emoji("warning"), bold(" After reading texts from outside:"), said(&words)]))
}

/// The same as a block.
pub(super) fn warning(card: &Card) -> Option<Value> {
    warned(card).map(|line| rich(vec![line]))
}

/// Where an approval can be looked at outside of Slack, in mrkdwn.
fn inbox(approval: &Approval, look: &Look) -> String {
    let link = address(approval, look).and_then(|url| link(&url, "the web inbox"));
    link.unwrap_or_else(|| format!("the web inbox, or with `twelve approvals show {}`", approval.id))
}

fn address(approval: &Approval, look: &Look) -> Option<String> {
    let url = format!("{}/inbox/{}", look.public_url, approval.id);
    (look.public_url.starts_with("http") && len(&url) <= 1_000).then_some(url)
}

/// Why there is a second or later revision, and what it changed.
fn revision(card: &Card, look: &Look) -> Vec<Value> {
    let approval = &card.approval;
    let first = match &approval.because {
        Because::Gated => None,
        Because::Edited { by } => Some(vec![bold("Changed by "), person(by, look)]),
        Because::Stale { why } => Some(vec![bold("Asked again: "), said(&strict_lines(why, QUOTE))]),
        Because::Retried { by } => {
            Some(vec![bold("Asked again: "), person(by, look), said(" wants it tried once more")])
        }
    };
    let changes = approval.original_args.as_ref().map_or_else(Vec::new, |old| changed_args(old, &approval.args));
    let mut left = LIST;
    let mut elements: Vec<Value> = first.into_iter().map(line).collect();
    for (name, old, new) in changes {
        let change = format!(
            "{}: {} → {}",
            visible::key(&name),
            cut(&visible::composed(&old), 120),
            cut(&visible::composed(&new), 120)
        );
        if len(&change) > left {
            elements.push(line(vec![italic("and more that changed")]));
            break;
        }
        left -= len(&change);
        elements.push(line(vec![said(&change)]));
    }
    elements.extend(card.terms_note().map(|note| line(vec![bold("Now "), said(&prose(&note, QUOTE))])));
    elements
}

fn why(card: &Card) -> Option<Value> {
    let words = prose(&card.why, QUOTE);
    (!words.is_empty()).then(|| rich(vec![line(vec![said("Why (agent's words): "), italic(&words)])]))
}

/// What became of it: votes, notes, the outcome.
fn decided(card: &Card, look: &Look) -> Vec<Value> {
    let approval = &card.approval;
    let mut blocks = Vec::new();
    if let Some(words) = status(card, look) {
        blocks.push(context(&[words]));
    }
    let quotes = |voted: &Vote| match voted {
        Vote::Approve { note } => Some(note.clone()),
        Vote::Deny { reason } => Some(reason.clone()),
        Vote::Edit { .. } => None,
    };
    let said_by = approval.votes.iter().filter_map(|cast| Some((&cast.by, quotes(&cast.vote)?)));
    let notes: Vec<Value> = said_by
        .filter(|(_, note)| !note.trim().is_empty())
        .take(NOTES)
        .map(|(by, note)| {
            line(vec![person(by, look), said(": "), italic(&format!("“{}”", strict_lines(&note, QUOTE)))])
        })
        .collect();
    if !notes.is_empty() {
        blocks.push(rich(notes));
    }
    let first = |text: &str| prose(text.trim().lines().next().unwrap_or(""), QUOTE);
    match &card.state {
        CardState::Succeeded(text) if !text.trim().is_empty() => {
            blocks.push(rich(vec![line(vec![bold("Result: "), said(&first(text))])]));
        }
        CardState::Failed(text) if !text.trim().is_empty() => {
            blocks.push(rich(vec![line(vec![bold("Error: "), said(&first(text))])]));
        }
        _ => {}
    }
    blocks
}

/// Where it stands, in mrkdwn; `None` while it only waits.
fn status(card: &Card, look: &Look) -> Option<String> {
    let approval = &card.approval;
    let at = approval.settled_at.map(|at| format!(" at {}", moment(at))).unwrap_or_default();
    let approved = || {
        let changes = if approval.original_args.is_some() { " with changes" } else { "" };
        format!(":white_check_mark: *Approved{changes}* by {}{at}", people(approval.approved_by(), look))
    };
    Some(match &card.state {
        CardState::Pending { approved, needed } if *needed > 1 => {
            let by = if approved.is_empty() { String::new() } else { format!(": {}", people(approved, look)) };
            format!("{} of {needed} approved{by}", approved.len())
        }
        CardState::Pending { .. } => return None,
        CardState::Revising => ":hourglass_flowing_sand: A new revision is on its way".to_owned(),
        CardState::Approved => approved(),
        CardState::Running => format!("{} · :arrow_forward: Running…", approved()),
        CardState::Succeeded(_) => format!("{} · :heavy_check_mark: succeeded", approved()),
        CardState::Failed(_) => format!("{} · :x: failed", approved()),
        CardState::Unknown => format!(
            "{} · :grey_question: *Result unknown*: it was started, and nobody can tell how it ended. Look, then say \
             what happened.",
            approved()
        ),
        CardState::Denied { by, .. } => {
            let by =
                approval.denied_by().map_or_else(|| super::mrkdwn::name(by, 80), |by| super::mrkdwn::person(by, look));
            format!(":no_entry: *Denied* by {by}{at}")
        }
        CardState::Expired => format!(":hourglass: *Expired*{at}: nobody answered in time, which counts as a denial"),
        CardState::Cancelled => format!(":heavy_minus_sign: *Cancelled*{at}: nothing will run"),
    })
}

fn buttons(seen: &Seen, shown: usize) -> Vec<Value> {
    let card = seen.card;
    let approval = &card.approval;
    let value = value(approval);
    match &card.state {
        CardState::Pending { needed, .. } => {
            let mut buttons = Vec::new();
            if seen.size <= shown {
                buttons.push(approve(card, &value, *needed));
            } else if seen.reviewable {
                buttons.push(styled(button(action::REVIEW, &value, "Review…"), "primary"));
            }
            buttons.push(styled(button(action::DENY, &value, "Deny…"), "danger"));
            if seen.editable {
                buttons.push(button(action::EDIT, &value, "Edit…"));
            }
            buttons
        }
        CardState::Running => vec![stop(approval.id.thread)],
        CardState::Failed(_) => vec![button(action::AGAIN, &approval.id.to_string(), "Retry")],
        CardState::Expired => vec![button(action::AGAIN, &approval.id.to_string(), "Ask again")],
        CardState::Unknown => super::question::marks(approval.call),
        CardState::Revising
        | CardState::Approved
        | CardState::Succeeded(_)
        | CardState::Denied { .. }
        | CardState::Cancelled => Vec::new(),
    }
}

fn approve(card: &Card, value: &str, needed: u32) -> Value {
    let mut approve = styled(button(action::APPROVE, value, "Approve"), "primary");
    let title = super::limits::head(&card.approval.title, 200);
    if let Some(approve) = approve.as_object_mut() {
        let label = cut(&format!("Approve: {}", visible::line(title)), super::limits::BUTTON);
        approve.insert("accessibility_label".to_owned(), label.into());
        if card.approval.terms.risk == Risk::High {
            let what = if needed > 1 { "This is your vote for it" } else { "It runs now" };
            let words = format!("{title}. {what}, with exactly the arguments of the card.");
            approve.insert("confirm".to_owned(), confirm("High risk: approve it?", &words, "Approve", "Not yet"));
        }
    }
    approve
}

fn stop(thread: ShortId) -> Value {
    let mut stop = styled(button(action::STOP, thread.as_str(), "Stop"), "danger");
    if let Some(stop) = stop.as_object_mut() {
        let words = "The call that runs now ends as it ends; nothing after it will start.";
        stop.insert("confirm".to_owned(), confirm("Stop the run?", words, "Stop", "Go on"));
    }
    stop
}

/// Id and revision.
fn footer(approval: &Approval) -> Vec<String> {
    let mut footer = vec![format!("`{}`", approval.id)];
    if approval.revision > 1 {
        footer.push(format!("revision {}", approval.revision));
    }
    footer
}

fn expiry(approval: &Approval) -> Option<String> {
    approval.is_open().then(|| format!("expires {}, which counts as a denial", moment(approval.expires_at)))
}

// ---- several approvals ----

fn batch_headline<'a>(cards: impl ExactSizeIterator<Item = &'a Card>) -> String {
    let all = cards.len();
    let open = cards.filter(|card| card.approval.is_open()).count();
    match open {
        0 => format!("{all} calls, all decided"),
        1 => format!("Approval needed: 1 of {all} calls"),
        open if open == all => format!("Approval needed: {open} calls"),
        open => format!("Approval needed: {open} of {all} calls"),
    }
}

/// One row for each of the first `rows`, those that wait before the others.
fn batch(all: &[Seen], rows: usize, shown: usize, look: &Look) -> Vec<Value> {
    let is_open = |seen: &Seen| seen.card.approval.is_open();
    let mut listed: Vec<(usize, &Seen)> = all.iter().enumerate().collect();
    listed.sort_by_key(|(_, seen)| !is_open(seen));
    listed.truncate(rows);
    listed.sort_by_key(|(i, _)| *i);
    let lead = listed.iter().find(|(_, seen)| is_open(seen)).or(listed.first());
    let Some(lead) = lead.map(|(_, seen)| seen.card) else { return Vec::new() };
    let agent = format!("Agent *{}*", super::mrkdwn::name(&lead.agent, 80));
    let mut blocks = vec![
        header(&batch_headline(all.iter().map(|seen| seen.card))),
        context(&[agent, format!("requested by {}", people(&lead.approval.requesters, look))]),
    ];
    blocks.extend(all.first().and_then(|first| why(first.card)));
    for (i, seen) in &listed {
        blocks.push(divider());
        blocks.extend(row(*i + 1, seen, lead, shown, look));
    }
    let open: Vec<&Seen> = all.iter().filter(|seen| is_open(seen)).collect();
    let all_listed = listed.iter().filter(|(_, seen)| is_open(seen)).count() == open.len();
    let low_and_whole = |seen: &&Seen| seen.card.approval.terms.risk < Risk::High && seen.size <= shown;
    if open.len() > 1 && all_listed && open.iter().all(low_and_whole) {
        let values: Vec<String> = open.iter().map(|seen| value(&seen.card.approval)).collect();
        let approve = button(action::APPROVE_ALL, &values.join(" "), &format!("Approve all {}", open.len()));
        blocks.push(divider());
        blocks.push(actions(&format!("all:{}:{}", lead.approval.id, look.counter), vec![styled(approve, "primary")]));
    }
    let left_out = all.len() - listed.len();
    if left_out > 0 {
        let url = format!("{}/inbox", look.public_url);
        let inbox = link(&url, "the web inbox").unwrap_or_else(|| "the web inbox".to_owned());
        blocks.push(context(&[format!("{left_out} more in {inbox}, or here once others are decided.")]));
    }
    blocks
}

/// What a button about an approval says.
pub(super) fn value(approval: &Approval) -> String {
    format!("{}|{}", approval.id, approval.digest.prefix())
}

/// A call of a card for several. Who may decide and until when is left out where it is as `lead` says it.
fn row(n: usize, seen: &Seen, lead: &Card, shown: usize, look: &Look) -> Vec<Value> {
    let card = seen.card;
    let approval = &card.approval;
    let title = format!("{n}. {}", strict(&approval.title, SENTENCE / 2));
    let (what, left_out) = what(seen, shown, look);
    let mut elements = vec![line(vec![bold(&title), said(&format!("  {}", strict(&approval.tool, 80)))])];
    elements.extend(what);
    let terms = |card: &Card| (approvers(&card.approval.terms.approvers, look), card.approval.expires_at);
    let mut small = vec![risk(approval.terms.risk).to_owned()];
    if approval.id == lead.approval.id || terms(card) != terms(lead) {
        small.push(format!("can approve: {}", terms(card).0));
        small.extend(expiry(approval));
    }
    small.extend(left_out);
    small.extend(status(card, look));
    small.extend(footer(approval));
    let mut blocks = vec![rich(elements), context(&small)];
    let mut buttons = buttons(seen, shown);
    // A row is short: what is seldom wanted is in a menu.
    let edit = buttons.iter().position(|button| button["action_id"] == action::EDIT).map(|at| buttons.remove(at));
    let mut menu: Vec<Value> = edit.iter().map(|_| option("Edit…", &format!("edit|{}", value(approval)))).collect();
    if let Some(url) = address(approval, look).filter(|_| approval.is_open()) {
        menu.push(linked(option("Open in the browser", &format!("open|{}", value(approval))), &url));
    }
    if !menu.is_empty() {
        buttons.push(overflow(action::MORE, menu));
    }
    if !buttons.is_empty() {
        blocks.push(actions(&format!("apr:{}:{}", approval.id, look.counter), buttons));
    }
    blocks
}

// ---- elsewhere ----

/// A one-line link to a card that stands elsewhere.
pub fn link_to_card(card: &Card, permalink: Option<&str>, look: &Look) -> Message {
    let approval = &card.approval;
    let there = permalink
        .and_then(|url| link(url, "Open the card"))
        .or_else(|| address(approval, look).and_then(|url| link(&url, "Open it in the web inbox")));
    let stands = match &card.state {
        CardState::Pending { .. } => {
            let votes = status(card, look).map(|votes| format!(" · {votes}")).unwrap_or_default();
            format!(":hourglass_flowing_sand: Waiting for {}{votes}", approvers(&approval.terms.approvers, look))
        }
        _ => status(card, look).unwrap_or_default(),
    };
    let small = [Some(stands), there].into_iter().flatten().collect::<Vec<_>>().join(" · ");
    let title = line(vec![bold(&strict(&approval.title, SENTENCE))]);
    Message { text: text(&card.headline()), blocks: vec![rich(vec![title]), context(&[small])] }
}
