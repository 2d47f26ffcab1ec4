//! The card of an approval in each of its states, and of several that one reply asked for.
//!
//! The rule of this file: whoever can press Approve has everything before them that the digest covers. A text that
//! is too long for the card is behind Review, where it is whole; one that no modal holds is approved in the inbox.

use serde_json::Value;

use super::limits::{MESSAGE, VIEW_BYTES, cut, len, pieces, weight};
use super::mrkdwn::{approvers, link, moment, people};
use super::parts::{
    actions, bold, boxed, button, confirm, context, divider, emoji, header, italic, line, link_button, mrkdwn, person,
    prose, rich, said, styled,
};
use super::{Look, Message, action};
use crate::agent::{Approval, Because, Risk, ShortId, Vote, changed_args};
use crate::platform::visible::{harmless, spelled, visible};
use crate::platform::{Card, CardState};

/// Longest text of what is approved that a card shows whole, in units: about a screen.
const WHOLE: usize = 2_500;
/// The same where the rest of the card, or other rows, need the room.
const SHORTER: [usize; 6] = [WHOLE, 1_500, 800, 400, 200, 100];
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
            let draw = |shown: usize| single(one, shown, look);
            Message { text: text(&one.headline()), blocks: fitting(SHORTER.into_iter().map(draw)) }
        }
        several => {
            let sizes = (1..=ROWS).rev().flat_map(|rows| SHORTER.map(|shown| (rows, shown)));
            // Rows matter more than what they show: behind Review it is whole.
            let blocks = fitting(sizes.map(|(rows, shown)| batch(several, rows, shown, look)));
            Message { text: text(&batch_headline(several)), blocks }
        }
    }
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
    super::mrkdwn::name(words, QUOTE)
}

// ---- what is approved ----

/// Everything that the digest covers and that this approval's card does not say elsewhere, a line each: arguments
/// and plan. A name begins at the margin, and nothing else does.
pub fn covered(approval: &Approval) -> String {
    let mut out = String::new();
    pairs(&approval.args, "arguments", "", &mut out);
    if let Some(plan) = &approval.plan {
        out.push_str("\n\nWhat it would do:\n  ");
        out.push_str(&continued(&visible(plan.summary.trim()), "  "));
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
        Some(object) => object.iter().map(|(name, value)| (label(name), value)).collect(),
        None => vec![(name.to_owned(), value)],
    };
    let width = members.iter().map(|(name, _)| len(name)).filter(|width| *width <= ALIGNED).max().unwrap_or(0);
    for (i, (name, value)) in members.iter().enumerate() {
        let pad = " ".repeat(width.saturating_sub(len(name)));
        let value = spelled(value);
        let shown = if value.contains('\n') {
            format!("\n{margin}  │ {}", continued(&value, &format!("{margin}  │ ")))
        } else {
            format!(" {pad}{value}")
        };
        out.push_str(&format!("{}{margin}{name}:{shown}", if i == 0 { "" } else { "\n" }));
    }
}

/// A name as it is, unless it could be taken for something else.
fn label(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if plain {
        name.to_owned()
    } else {
        crate::platform::visible::visible_json(&Value::String(name.to_owned()).to_string())
    }
}

fn continued(text: &str, margin: &str) -> String {
    text.replace('\n', &format!("\n{margin}"))
}

/// The text, or its first lines and how many characters are left out.
fn beginning(text: &str, max: usize) -> (String, Option<usize>) {
    if len(text) <= max {
        return (text.to_owned(), None);
    }
    // reason: a text that is not empty has a first piece
    let first = pieces(text, max).first().copied().unwrap_or("");
    let left_out = text.chars().count() - first.chars().count();
    (first.trim_end_matches('\n').to_owned(), Some(left_out))
}

/// The pieces for a modal in which all of it can be read; `None`: no modal holds it.
pub fn reviewable(approval: &Approval) -> Option<Vec<Value>> {
    /// Units of one block, and the most blocks; a modal takes 100, of which some say other things.
    const PIECE: usize = 2_900;
    const PIECES: usize = 80;
    let text = covered(approval);
    // Before it is cut: arguments may be a megabyte.
    if text.len() > VIEW_BYTES {
        return None;
    }
    let pieces = pieces(&text, PIECE);
    let blocks: Vec<Value> =
        pieces.iter().map(|piece| rich(vec![boxed(piece.strip_suffix('\n').unwrap_or(piece))])).collect();
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

fn single(card: &Card, shown: usize, look: &Look) -> Vec<Value> {
    let approval = &card.approval;
    let state = state(card);
    let mut blocks = vec![
        header(&format!("{state}: {}", approval.tool)),
        rich(vec![line(vec![bold(&prose(&approval.title, SENTENCE))])]),
        fields(card, look),
    ];
    let (what, left_out) = what(card, shown, look);
    blocks.push(rich(what));
    if let Some(why) = why(card) {
        blocks.push(why);
    }
    blocks.extend(left_out.map(|words| context(&[words])));
    blocks.extend(decided(card, look));
    let mut buttons = buttons(card, shown);
    let has_more = matches!(card.state, CardState::Pending { .. } | CardState::Succeeded(_) | CardState::Failed(_));
    buttons.extend(address(approval, look).filter(|_| has_more).map(|url| link_button(action::OPEN, "Open", &url)));
    if !buttons.is_empty() {
        blocks.push(actions(&format!("apr:{}:{}", approval.id, look.counter), buttons));
    }
    blocks.push(context(&footer(approval).into_iter().chain(expiry(approval)).collect::<Vec<_>>()));
    blocks
}

/// `Approval needed`, without the title.
fn state(card: &Card) -> String {
    let headline = card.headline();
    headline.strip_suffix(&format!(": {}", card.approval.title)).unwrap_or(&headline).to_owned()
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
fn what(card: &Card, shown: usize, look: &Look) -> (Vec<Value>, Option<String>) {
    let approval = &card.approval;
    let mut elements = Vec::new();
    elements.extend(warned(card));
    elements.extend(revision(card, look));
    let (begin, left_out) = beginning(&covered(approval), shown);
    elements.push(boxed(&begin));
    let left_out = left_out.map(|n| {
        let more = format!("+ {} more characters", number(n));
        match (approval.is_open(), reviewable(approval).is_some()) {
            (true, true) => format!("{more}. *Review…* shows all of it."),
            (true, false) => format!("{more}, too long for Slack. Read it and decide in {}.", inbox(approval, look)),
            (false, _) => more,
        }
    });
    (elements, left_out)
}

/// The texts from outside that may have talked the agent into it.
fn warned(card: &Card) -> Option<Value> {
    let words = format!(" {}", cut(&harmless(card.after_reading.as_deref()?), LIST));
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
        Because::Stale { why } => Some(vec![bold("Asked again: "), said(&prose(why, QUOTE))]),
        Because::Retried { by } => {
            Some(vec![bold("Asked again: "), person(by, look), said(" wants it tried once more")])
        }
    };
    let changes = approval.original_args.as_ref().map_or_else(Vec::new, |old| changed_args(old, &approval.args));
    let mut left = LIST;
    let mut elements: Vec<Value> = first.into_iter().map(line).collect();
    for (name, old, new) in changes {
        let change = format!("{}: {} → {}", label(&name), cut(&harmless(&old), 120), cut(&harmless(&new), 120));
        if len(&change) > left {
            elements.push(line(vec![italic("and more that changed")]));
            break;
        }
        left -= len(&change);
        elements.push(line(vec![said(&change)]));
    }
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
        .map(|(by, note)| line(vec![person(by, look), said(": "), italic(&format!("“{}”", prose(&note, QUOTE)))]))
        .collect();
    if !notes.is_empty() {
        blocks.push(rich(notes));
    }
    let first = |text: &str| cut(&harmless(text.trim().lines().next().unwrap_or("")), QUOTE);
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

fn buttons(card: &Card, shown: usize) -> Vec<Value> {
    let approval = &card.approval;
    let value = format!("{}|{}", approval.id, approval.digest.prefix());
    match &card.state {
        CardState::Pending { needed, .. } => {
            let mut buttons = Vec::new();
            if len(&covered(approval)) <= shown {
                buttons.push(approve(card, &value, *needed));
            } else if reviewable(approval).is_some() {
                buttons.push(styled(button(action::REVIEW, &value, "Review…"), "primary"));
            }
            buttons.push(styled(button(action::DENY, &value, "Deny…"), "danger"));
            if card.editable && super::edit::fits(&approval.args) {
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
    let title = prose(&card.approval.title, 200).replace('\n', " ");
    if let Some(approve) = approve.as_object_mut() {
        let label = cut(&format!("Approve: {title}"), super::limits::BUTTON);
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

fn batch_headline(cards: &[Card]) -> String {
    let open = cards.iter().filter(|card| card.approval.is_open()).count();
    match open {
        0 => format!("{} calls, all decided", cards.len()),
        1 => format!("Approval needed: 1 of {} calls", cards.len()),
        open if open == cards.len() => format!("Approval needed: {open} calls"),
        open => format!("Approval needed: {open} of {} calls", cards.len()),
    }
}

/// One row for each of the first `rows`, those that wait before the others.
fn batch(cards: &[Card], rows: usize, shown: usize, look: &Look) -> Vec<Value> {
    let mut order: Vec<usize> = (0..cards.len()).collect();
    order.sort_by_key(|i| cards.get(*i).is_none_or(|card| !card.approval.is_open()));
    order.truncate(rows);
    order.sort_unstable();
    let listed: Vec<(usize, &Card)> = order.into_iter().filter_map(|i| Some((i, cards.get(i)?))).collect();
    let mut blocks = vec![header(&batch_headline(cards))];
    let Some(first) = cards.first() else { return blocks };
    let agent = format!("Agent *{}*", super::mrkdwn::name(&first.agent, 80));
    blocks.push(context(&[agent, format!("requested by {}", people(&first.approval.requesters, look))]));
    blocks.extend(why(first));
    for (i, card) in &listed {
        blocks.push(divider());
        blocks.extend(row(*i + 1, card, first, shown, look));
    }
    let open: Vec<&Card> = cards.iter().filter(|card| card.approval.is_open()).collect();
    let harmless_and_whole = |card: &&Card| {
        let listed = listed.iter().any(|(_, shown)| shown.approval.id == card.approval.id);
        listed && card.approval.terms.risk < Risk::High && len(&covered(&card.approval)) <= shown
    };
    if open.len() > 1 && open.iter().all(harmless_and_whole) {
        let values: Vec<String> =
            open.iter().map(|card| format!("{}|{}", card.approval.id, card.approval.digest.prefix())).collect();
        let all = button(action::APPROVE_ALL, &values.join(" "), &format!("Approve all {}", open.len()));
        blocks.push(divider());
        let block_id = format!(
            "all:{}:{}",
            open.first().map(|card| card.approval.id.to_string()).unwrap_or_default(),
            look.counter
        );
        blocks.push(actions(&block_id, vec![styled(all, "primary")]));
    }
    let left_out = cards.len() - listed.len();
    if left_out > 0 {
        let url = format!("{}/inbox", look.public_url);
        let inbox = link(&url, "the web inbox").unwrap_or_else(|| "the web inbox".to_owned());
        blocks.push(context(&[format!("{left_out} more in {inbox}, or here once others are decided.")]));
    }
    blocks
}

/// What it says as the row before it would is left out: `first` has said it.
fn row(n: usize, card: &Card, first: &Card, shown: usize, look: &Look) -> Vec<Value> {
    let approval = &card.approval;
    let title = format!("{n}. {}", prose(&approval.title, SENTENCE / 2).replace('\n', " "));
    let (what, left_out) = what(card, shown, look);
    let mut elements = vec![line(vec![bold(&title), said(&format!("  {}", approval.tool))])];
    elements.extend(what);
    let terms = |card: &Card| (approvers(&card.approval.terms.approvers, look), card.approval.expires_at);
    let mut small = vec![risk(approval.terms.risk).to_owned()];
    // The first row that is listed may not be the first call.
    if n == 1 || terms(card) != terms(first) {
        small.push(format!("can approve: {}", terms(card).0));
        small.extend(expiry(approval));
    }
    small.extend(left_out);
    small.extend(status(card, look));
    small.extend(footer(approval));
    let mut blocks = vec![rich(elements), context(&small)];
    let buttons = buttons(card, shown);
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
    let title = line(vec![bold(&prose(&approval.title, SENTENCE))]);
    Message { text: text(&card.headline()), blocks: vec![rich(vec![title]), context(&[small])] }
}
