//! Slack's two markups, and foreign text in them.
//!
//! *mrkdwn* is what fields and small print are in: names stand in it, escaped. Prose of people and models is never
//! put there; it stands in rich text, which interprets nothing.
//!
//! *markdown* blocks are for the answers of a model. Slack reads its own `<…>` there as well: `<!channel>` calls a
//! whole channel, and a link can say another address than it leads to. An escaped `&lt;` is shown as `<` and not
//! read again (measured by others: PostHog/posthog#95054). Plain `@here` is only text while nobody sets
//! `link_names`.

use super::Look;
use super::limits::{cut, len};
use crate::agent::{Approvers, Principal, Timestamp, visible};
use crate::platform::slack::{SURFACE, person_parts};

/// mrkdwn in which text that one of the views has made is only text: no mention, link or date comes of it. Nothing but
/// prose passes this door. Stars and underscores still make it bold or italic.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible::prose(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

/// One line of foreign text for mrkdwn, in the strict view, of at most `max` units when it is escaped.
pub fn name(text: &str, max: usize) -> String {
    shortened(&visible::composed(text), max)
}

/// The same for text that one of the views has made.
pub fn shortened(text: &str, max: usize) -> String {
    let mut shown = max;
    loop {
        let escaped = escape(&cut(text, shown));
        if len(&escaped) <= max || shown == 0 {
            return escaped;
        }
        shown /= 2;
    }
}

/// The part of `slack:<team>:<id>` that Slack knows, if it is of this team and looks like one.
pub fn slack_id<'a>(id: &'a str, team: &str) -> Option<&'a str> {
    let (of, id) = person_parts(id)?;
    let well_formed = id.len() < 40 && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    (of == team && well_formed).then_some(id)
}

/// Longest label of one person or group, in units.
const MAX_LABEL: usize = 70;
/// Most people or groups that are named one by one.
const MAX_NAMED: usize = 12;

pub fn person(who: &Principal, look: &Look) -> String {
    match slack_id(&who.id, look.team) {
        Some(id) if id.starts_with(['U', 'W']) => format!("<@{id}>"),
        _ => name(who.label(), MAX_LABEL),
    }
}

/// `<@U1>, <@U2> and 3 more`.
pub fn people<'a>(people: impl IntoIterator<Item = &'a Principal>, look: &Look) -> String {
    several(people.into_iter().map(|p| person(p, look)).collect())
}

fn several(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(MAX_NAMED);
    names.truncate(MAX_NAMED);
    let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
    if more == 0 { names } else { format!("{names} and {more} more") }
}

/// Who may decide, and how many of them it takes.
pub fn approvers(approvers: &Approvers, look: &Look) -> String {
    let group = |group: &String| match slack_id(group, look.team) {
        Some(id) if id.starts_with('S') => format!("<!subteam^{id}>"),
        Some(id) if id.starts_with(['C', 'G']) => format!("members of <#{id}>"),
        _ => format!("@{}", name(group, MAX_LABEL)),
    };
    let user = |user: &String| match (user.as_str(), slack_id(user, look.team)) {
        ("*", _) => "anyone here".to_owned(),
        (_, Some(id)) if id.starts_with(['U', 'W']) => format!("<@{id}>"),
        (user, _) => {
            let label = if user.starts_with(SURFACE) { user } else { user.split_once(':').map_or(user, |(_, id)| id) };
            name(label, MAX_LABEL)
        }
    };
    let who = several(approvers.groups.iter().map(group).chain(approvers.users.iter().map(user)).collect());
    let not_requester = if approvers.requester_may == Some(true) { "" } else { ", not the requester" };
    format!("{who} ({} needed{not_requester})", approvers.quorum.max(1))
}

/// A moment in the reader's own time zone.
pub fn moment(at: Timestamp) -> String {
    let written = at.to_string();
    // reason: RFC 3339 begins with the date and the time to the minute
    let utc = written.get(..16).unwrap_or(&written).replace('T', " ");
    format!("<!date^{}^{{time}} ({{date_short_pretty}})|{utc} UTC>", at.0.div_euclid(1_000))
}

/// A link, if it can be written as one.
pub fn link(url: &str, text: &str) -> Option<String> {
    let fine = url.starts_with("http") && !url.contains(['<', '>', '|', '&']) && !url.contains(char::is_whitespace);
    fine.then(|| format!("<{url}|{}>", escape(text).replace('|', "/")))
}

// ---- markdown ----

/// The back-ticks of a line that opens a code fence. Fences of tildes count as prose: whether Slack knows them is
/// not documented, and prose is what is made safer.
fn fence(line: &str) -> Option<&str> {
    let inner = line.trim_start_matches(' ');
    let run = inner.len() - inner.trim_start_matches('`').len();
    let (ticks, info) = inner.split_at(run);
    (line.len() - inner.len() < 4 && run >= 3 && !info.contains('`')).then_some(ticks)
}

/// Whether the line closes a fence that was opened with these back-ticks.
fn closes(line: &str, open: &str) -> bool {
    fence(line).is_some_and(|ticks| ticks.len() >= open.len()) && line.trim().bytes().all(|b| b == b'`')
}

/// The model's prose for a `markdown` block: formatting stays; mentions, and links that hide their address, do not.
/// `[text](address)` becomes `text (address)`.
pub fn defused(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut open: Option<String> = None;
    for line in visible::prose(text).split_inclusive('\n') {
        match &open {
            Some(ticks) => {
                let closing = closes(line, ticks);
                code(line, &mut out);
                if closing {
                    open = None;
                }
            }
            None => {
                open = fence(line).map(str::to_owned);
                if open.is_some() { code(line, &mut out) } else { prose(line, &mut out) }
            }
        }
    }
    out
}

/// Code stays as it is, but for what would be read as a mention or a link if Slack did not take it for code.
fn code(text: &str, out: &mut String) {
    for (at, c) in text.char_indices() {
        let after = text.get(at + c.len_utf8()..).unwrap_or("");
        match c {
            '<' if is_token(after) => out.push_str("&lt;"),
            ']' if after.strip_prefix('(').is_some_and(is_address) => out.push_str("] "),
            ']' if after.strip_prefix(':').is_some_and(is_address) => out.push_str("] "),
            c => out.push(c),
        }
    }
}

/// Whether Slack would read `<` and this as a mention, a date or a link.
fn is_token(after: &str) -> bool {
    let word = |text: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or("").to_ascii_lowercase();
    match after.chars().next() {
        Some('@' | '#') => true,
        Some('!') => matches!(
            word(after.get(1..).unwrap_or("")).as_str(),
            "here" | "channel" | "everyone" | "group" | "subteam" | "date"
        ),
        Some(_) | None => {
            let scheme = word(after);
            let rest = after.get(scheme.len()..).unwrap_or("");
            rest.starts_with("://") || (matches!(scheme.as_str(), "mailto" | "tel") && rest.starts_with(':'))
        }
    }
}

/// Whether this begins like the address of a link.
fn is_address(text: &str) -> bool {
    let text = text.trim_start().trim_start_matches('<');
    let scheme = text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.')).next().unwrap_or("");
    let rest = text.get(scheme.len()..).unwrap_or("");
    text.starts_with('/') || scheme.starts_with("www.") || (!scheme.is_empty() && rest.starts_with(':'))
}

/// A line, or what is left of it, outside of code fences.
fn prose(line: &str, out: &mut String) {
    let mut rest = line;
    while let Some(at) = rest.find(['`', '<', '[', ']', '!']) {
        let (before, special) = rest.split_at(at);
        out.push_str(before);
        rest = special;
        if let Some((span, left)) = code_span(rest) {
            code(span, out);
            rest = left;
        } else if let Some((label, address, left)) = hidden_link(rest) {
            out.push_str(&label.replace('<', "&lt;").replace("](", "] ("));
            out.push_str(if label.is_empty() { "(" } else { " (" });
            out.push_str(&address.replace('<', "&lt;"));
            out.push(')');
            rest = left;
        } else {
            let mut chars = rest.chars();
            let c = chars.next().unwrap_or(' ');
            rest = chars.as_str();
            match c {
                '<' => out.push_str("&lt;"),
                // What is left of a link, and a line that would give other lines' brackets an address.
                ']' if rest.starts_with(['(', ':']) => out.push_str("] "),
                '`' => {
                    let run = rest.len() - rest.trim_start_matches('`').len();
                    let (ticks, left) = rest.split_at(run);
                    out.push('`');
                    out.push_str(ticks);
                    rest = left;
                }
                c => out.push(c),
            }
        }
    }
    out.push_str(rest);
}

/// Code in back-ticks at the beginning of the text, and what follows it.
fn code_span(text: &str) -> Option<(&str, &str)> {
    let run = text.len() - text.trim_start_matches('`').len();
    if run == 0 {
        return None;
    }
    let mut from = run;
    loop {
        let at = from + text.get(from..)?.find('`')?;
        let left = text.get(at..)?.trim_start_matches('`');
        let end = text.len() - left.len();
        if end - at == run {
            return Some((text.get(..end)?, left));
        }
        from = end;
    }
}

/// Longest label, and longest address, of a link that is rewritten, in bytes. What is longer is no link any more.
const MAX_LINK: usize = 600;

/// The label and the address of a link or picture at the beginning of the text, and what follows it.
fn hidden_link(text: &str) -> Option<(&str, &str, &str)> {
    let (label, after) = bracketed(text.strip_prefix('!').unwrap_or(text), '[', ']')?;
    let (inside, left) = bracketed(after, '(', ')')?;
    let address = inside.split_whitespace().next()?;
    let address = address.strip_prefix('<').unwrap_or(address);
    Some((label, address.strip_suffix('>').unwrap_or(address), left))
}

/// What is between a pair of brackets at the beginning of the text, and what follows it.
fn bracketed(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    let inner = text.strip_prefix(open)?;
    let mut depth = 0_u32;
    for (at, c) in inner.char_indices().take_while(|(at, _)| *at < MAX_LINK) {
        if c == close && depth == 0 {
            return Some((inner.get(..at)?, inner.get(at + 1..)?));
        }
        match c {
            c if c == open => depth += 1,
            c if c == close => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The text in parts whose JSON and whose length are at most `max` units, cut between paragraphs where that
/// goes. A code fence that is cut is closed and opened again; nothing else is added, and nothing is left out.
pub fn parts(text: &str, max: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut part = String::new();
    let mut weight = 0;
    // Where the last paragraph outside of a fence ended, in bytes.
    let mut paragraph = 0;
    let mut open: Option<String> = None;
    for line in text.split_inclusive('\n').flat_map(|line| by_weight(line, max / 4)) {
        let more = cost(line);
        if weight + more + CLOSING > max {
            match &open {
                // Not in favour of a tiny part.
                _ if paragraph > part.len() / 3 => {
                    let rest = part.split_off(paragraph);
                    out.push(std::mem::replace(&mut part, rest));
                }
                Some(opened) => {
                    let again = format!("{}\n", opened.trim_end());
                    let ticks = fence(opened).unwrap_or("```").to_owned();
                    part.push_str(if part.ends_with('\n') { "" } else { "\n" });
                    part.push_str(&ticks);
                    out.push(std::mem::replace(&mut part, again));
                }
                None => out.push(std::mem::take(&mut part)),
            }
            weight = cost(&part);
            paragraph = 0;
        }
        weight += more;
        part.push_str(line);
        match &open {
            Some(opened) if closes(line, fence(opened).unwrap_or("```")) => open = None,
            Some(_) => {}
            None if fence(line).is_some() => open = Some(cut(line, MAX_LINK)),
            None if line.trim().is_empty() => paragraph = part.len(),
            None => {}
        }
    }
    out.push(part);
    out.retain(|part| !part.trim().is_empty());
    out
}

/// Room for closing a fence.
const CLOSING: usize = 40;

/// Units of the text as JSON.
fn cost(text: &str) -> usize {
    text.chars()
        .map(|c| match c {
            '"' | '\\' | '\n' | '\t' => 2,
            c if c.is_control() => 6,
            c => c.len_utf16(),
        })
        .sum()
}

/// A line in pieces that each cost at most `max`, cut at spaces where there are any.
fn by_weight(line: &str, max: usize) -> Vec<&str> {
    let (mut rest, mut out) = (line, Vec::new());
    while cost(rest) > max {
        let mut spent = 0;
        let fits = rest.char_indices().find(|(_, c)| {
            spent += cost(c.encode_utf8(&mut [0; 4]));
            spent > max
        });
        let most = fits.map_or(rest.len(), |(at, _)| at);
        let at = rest.get(..most).and_then(|piece| piece.rfind(' ')).map_or(most, |space| space + 1);
        let Some((piece, left)) = rest.split_at_checked(at).filter(|(piece, _)| !piece.is_empty()) else { break };
        out.push(piece);
        rest = left;
    }
    out.push(rest);
    out
}
