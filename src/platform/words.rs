//! Words for what happened, the same at the terminal and over HTTP: one line for each event, names of
//! states. Pure functions of events and folds.
//!
//! What people, models and tools wrote is quoted in the strict view of [`crate::agent::visible`].

use serde_json::{Value, json};

use crate::agent::*;

/// Longest text of a person, a model or a tool that is quoted inside a line, in characters.
pub const MAX_QUOTE: usize = 100;

/// What `text` says on one line of at most [`MAX_QUOTE`] characters, in the strict view; line ends and rows of spaces
/// are one space.
pub fn quote(text: &str) -> String {
    // A text may be a megabyte, and what is far beyond the cut is not looked at.
    let mut words = String::new();
    for word in text.split_ascii_whitespace() {
        if words.chars().count() > 2 * MAX_QUOTE {
            break;
        }
        words.push_str(if words.is_empty() { "" } else { " " });
        words.extend(word.chars().take(3 * MAX_QUOTE));
    }
    visible::short_line(&words, MAX_QUOTE)
}

/// A status as it stands in logs and `--status`.
pub fn status_word(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::WaitingApproval => "waiting_approval",
        Status::WaitingAnswer => "waiting_answer",
        Status::WaitingMark => "waiting_mark",
        Status::Sleeping => "sleeping",
        Status::Paused => "paused",
        Status::Done => "done",
        Status::Stopped => "stopped",
        Status::Cancelled => "cancelled",
    }
}

/// Every status, for `--status`.
pub const STATUSES: [Status; 9] = [
    Status::Running,
    Status::WaitingApproval,
    Status::WaitingAnswer,
    Status::WaitingMark,
    Status::Sleeping,
    Status::Paused,
    Status::Done,
    Status::Stopped,
    Status::Cancelled,
];

/// Reads `--status`.
///
/// # Errors
/// The words that exist.
pub fn parse_status(text: &str) -> Result<Status, String> {
    let words = || STATUSES.map(status_word);
    STATUSES.into_iter().find(|s| status_word(*s) == text.trim().to_lowercase()).ok_or_else(|| {
        format!("there is no such status{} Statuses: {}", did_you_mean(text, words()), words().join(", "))
    })
}

/// One line for one event, without its number and time.
pub fn event_line(event: &Event) -> String {
    let because = |why: &str| if why.is_empty() { String::new() } else { format!(": {}", quote(why)) };
    match &event.body {
        Body::ThreadStarted { agent, by, parent, untrusted, .. } => match parent {
            Some(parent) => format!(
                "started by {} with the agent {}, as a fork of {} at event {}{}",
                quote(by.label()),
                quote(agent),
                quote(parent.thread.as_str()),
                parent.seq,
                after(untrusted)
            ),
            None => format!("started by {} with the agent {}", quote(by.label()), quote(agent)),
        },
        Body::Gathered { message, texts } => format!("what came with event {message}: {}", gathered_words(texts)),
        Body::IntentReceived { intent, .. } => {
            format!("{} wants to {}", quote(intent.by.label()), act_words(&intent.act))
        }
        Body::IntentHandled { done, said } => {
            // Our own words, which were made visible before they were kept.
            let said = visible::prose(&said.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
            let end = said.char_indices().nth(MAX_QUOTE).map_or(said.len(), |(at, _)| visible::whole(&said, at));
            let (said, more) = (said.get(..end).unwrap_or(""), if end < said.len() { "…" } else { "" });
            format!("{}: {said}{more}", if *done { "done" } else { "refused" })
        }
        Body::MessageReceived { from, text, outside, prefetch, attached, context, masked: _ } => {
            let wrote = match outside {
                Some(label) => format!("passed on a text from outside ({})", quote(label)),
                None => "wrote".to_owned(),
            };
            let calls = if prefetch.is_empty() { String::new() } else { format!(" ({} prefetched)", prefetch.len()) };
            let with =
                if attached.is_empty() { String::new() } else { format!(" (with {})", attached_words(attached)) };
            let handed = match context.is_empty() {
                true => String::new(),
                false => format!(" (with texts from outside: {})", named(context, |passage| quote(&passage.label))),
            };
            format!("{} {wrote}: {}{with}{handed}{calls}", quote(from.label()), quote(text))
        }
        Body::ModelReplied { step, model, usage, correction, .. } => {
            let what = match step {
                NextStep::Done { text } if !correction.is_empty() => {
                    format!("wrote a call or a block of the window as text; nothing ran: {}", quote(text))
                }
                NextStep::Call { calls, .. } => calls
                    .iter()
                    .map(|c| format!("{} ({})", quote(&c.tool), verdict_word(&c.verdict)))
                    .collect::<Vec<_>>()
                    .join(", "),
                NextStep::Ask { text, .. } => format!("asks: {}", quote(text)),
                NextStep::Done { text } => format!("answers: {}", quote(text)),
            };
            let tokens = usage.input.saturating_add(usage.output);
            format!("model {} [{}, {tokens} tokens]: {what}", quote(&model.model), quote(&model.provider))
        }
        Body::ModelFailed { message, ceiling: Some(bytes), retry_at: Some(_), .. } => {
            format!("too long for the model ({}); asked again with at most {bytes} bytes", quote(message))
        }
        Body::ModelFailed { message, attempt, retry_at, .. } => match retry_at {
            Some(at) => format!("model failed, attempt {attempt} ({}); again at {at}", quote(message)),
            None => format!("model failed for good after attempt {attempt} ({})", quote(message)),
        },
        Body::ToolPlanned { call, plan } => match plan {
            Ok(plan) => format!("plan of {call}: {}", quote(&plan.summary)),
            Err(error) => format!("no plan of {call}: {}", quote(error)),
        },
        Body::ApprovalRequested { approval, revision, title, digest, terms, .. } => format!(
            "approval {approval} asked, revision {revision}, digest {}: {}{}",
            digest.prefix(),
            quote(title),
            after(&terms.untrusted)
        ),
        Body::VoteCast { approval, revision, by, vote, .. } => {
            let by = quote(by.label());
            match vote {
                Vote::Approve { note } => format!("{by} approves {approval} revision {revision}{}", because(note)),
                Vote::Deny { reason } => format!("{by} denies {approval} revision {revision}{}", because(reason)),
                Vote::Edit { title, .. } => format!("{by} changes {approval} revision {revision} to: {}", quote(title)),
            }
        }
        Body::ApprovalResolved { approval, revision, resolution } => match resolution {
            Resolution::Approved => format!("approval {approval} revision {revision} is approved"),
            Resolution::Denied { reason } => {
                format!("approval {approval} revision {revision} is denied{}", because(reason))
            }
            Resolution::Expired => format!("approval {approval} revision {revision} has expired"),
            Resolution::Cancelled => format!("approval {approval} revision {revision} is cancelled"),
        },
        Body::QuestionAsked { question, text, .. } => format!("question {question}: {}", quote(text)),
        Body::QuestionAnswered { question, by, text, .. } => {
            format!("{} answers {question}: {}", quote(by.label()), quote(text))
        }
        Body::ToolStarted { call, digest, .. } => match digest {
            Some(digest) => format!("{call} started under digest {}", digest.prefix()),
            None => format!("{call} started"),
        },
        Body::ToolFinished { call, outcome, duration_ms } => {
            let took = span::show(*duration_ms);
            match outcome {
                Outcome::Succeeded { text } => format!("{call} succeeded in {took}: {}", quote(text)),
                Outcome::Failed { error } => format!("{call} failed in {took}: {}", quote(error)),
                Outcome::Suspended { until, .. } => format!("{call} waits until {until}"),
                Outcome::Unknown { error } => format!("{call} ended unknown: {}", quote(error)),
            }
        }
        Body::OutcomeLost { call } => format!("{call} was started and nobody knows how it ended"),
        Body::OutcomeMarked { call, by, mark } => {
            let by = quote(by.label());
            match mark {
                Mark::Succeeded { note } => format!("{by} marks {call} as succeeded{}", because(note)),
                Mark::Failed { note } => format!("{by} marks {call} as failed{}", because(note)),
                Mark::Retry => format!("{by} wants {call} tried again"),
            }
        }
        Body::TimerFired { timer } => match timer {
            Timer::Wake { call } => format!("{call} has waited long enough"),
            Timer::Model => "time to ask the model again".to_owned(),
            Timer::Post { .. } => "time to post again".to_owned(),
        },
        Body::Posted { posting, .. } => format!("posted {}", posting_words(posting)),
        Body::DeliveryFailed { posting, error, .. } => {
            format!("{} could not be posted: {}", posting_words(posting), quote(error))
        }
        Body::Compacted { upto, .. } => format!("the context up to event {upto} was shortened"),
        Body::Paused { by, why } => format!("paused by {}{}", quote(by.label()), because(why)),
        Body::Resumed { by } => format!("resumed by {}", quote(by.label())),
        Body::Stopped { by, why } => format!("stopped by {}{}", quote(by.label()), because(why)),
        Body::Cancelled { by, why } => format!("cancelled by {}{}", quote(by.label()), because(why)),
    }
}

/// Texts on a line before the rest is only counted.
const MAX_TEXTS_NAMED: usize = 5;

/// `errors.log (1,024 bytes); notes.pdf (not read: it is no text)`: what came of fetching what was attached.
pub fn gathered_words(texts: &[Gathered]) -> String {
    let each = |g: &Gathered| match &g.text {
        Ok(text) => format!("{} ({} bytes)", quote(&g.label), text.len()),
        Err(why) => format!("{} (not read: {})", quote(&g.label), quote(why)),
    };
    named(texts, each)
}

/// `earlier messages; the file errors.log`: what is attached to a message.
pub fn attached_words(attached: &[Attached]) -> String {
    let each = |a: &Attached| match a {
        Attached::Earlier { .. } => "earlier messages".to_owned(),
        Attached::Quoted { label, .. } => quote(label),
        Attached::File { name, .. } => format!("the file {}", quote(name)),
    };
    named(attached, each)
}

fn named<T>(all: &[T], each: impl Fn(&T) -> String) -> String {
    let mut parts: Vec<String> = all.iter().take(MAX_TEXTS_NAMED).map(each).collect();
    match all.len().saturating_sub(MAX_TEXTS_NAMED) {
        0 if parts.is_empty() => return "nothing".to_owned(),
        0 => {}
        more => parts.push(format!("{more} more")),
    }
    parts.join("; ")
}

/// What somebody wants, after "wants to".
pub fn act_words(act: &Act) -> String {
    let words = |text: &str| if text.trim().is_empty() { String::new() } else { format!(": {}", quote(text)) };
    let name = act.name();
    match act {
        Act::Vote { approval, choice, .. } => match choice {
            Choice::Approve { note: text } | Choice::Deny { reason: text } => {
                format!("{name} {approval}{}", words(text))
            }
            Choice::Edit { args } => format!("change {approval} to{}", words(args)),
        },
        Act::Answer { question, text } => format!("answer {question}{}", words(text)),
        Act::Mark { call, mark } => match mark {
            Mark::Succeeded { note } => format!("mark {call} as succeeded{}", words(note)),
            Mark::Failed { note } => format!("mark {call} as failed{}", words(note)),
            Mark::Retry => format!("have {call} tried again"),
        },
        Act::Say { thread, text } => format!("say in {}{}", quote(&thread.to_string()), words(text)),
        Act::Start { agent, text, about: None, .. } => format!("start {}{}", quote(agent), words(text)),
        Act::Start { agent, text, about: Some(about), .. } => {
            format!("start {} about {}{}", quote(agent), quote(&about.label), words(text))
        }
        Act::Steer { target: Target::Thread { thread }, .. } => format!("{name} {thread}"),
        Act::Steer { target: Target::Message { place }, .. } => format!("{name} the run at {}", quote(place)),
    }
}

/// `, after reading Fetch https://a.example`; nothing where nothing from outside was read.
fn after(untrusted: &Untrusted) -> String {
    if untrusted.is_empty() { String::new() } else { format!(", after reading {}", quote(&untrusted.describe())) }
}

fn verdict_word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Auto { .. } => "auto",
        Verdict::Ask { terms } if !terms.untrusted.is_empty() => "ask, after untrusted text",
        Verdict::Ask { .. } => "ask",
        Verdict::Deny { .. } => "deny",
        Verdict::Invalid { .. } => "invalid",
        Verdict::Held { .. } => "held",
    }
}

/// What a posting puts before people.
pub fn posting_words(posting: &Posting) -> String {
    match posting {
        Posting::Answer { seq } => format!("the answer of event {seq}"),
        Posting::Card { approval } => format!("the card of {approval}"),
        Posting::Question { question } => format!("the question {question}"),
        Posting::Unknown { call } => format!("the unknown outcome of {call}"),
        Posting::Notice { seq } => format!("the notice of event {seq}"),
    }
}

/// Where an approval stands, in a word.
pub fn approval_state(approval: &Approval) -> &'static str {
    match &approval.state {
        ApprovalState::Pending => "pending",
        ApprovalState::Revising { .. } => "revising",
        ApprovalState::Approved { .. } => "approved",
        ApprovalState::Used { .. } => "used",
        ApprovalState::Denied { .. } => "denied",
        ApprovalState::Expired { .. } => "expired",
        ApprovalState::Cancelled => "cancelled",
    }
}

pub fn event_json(event: &Event) -> Value {
    json!({ "seq": event.seq, "at": event.at.to_string(), "type": event.body.name(), "line": event_line(event) })
}

/// The events that are about an approval or the call that it is for.
pub fn history(id: ApprovalId, of: CallId, events: &[Event]) -> impl Iterator<Item = &Event> {
    events.iter().filter(move |e| match &e.body {
        Body::ApprovalRequested { approval, .. }
        | Body::VoteCast { approval, .. }
        | Body::ApprovalResolved { approval, .. } => *approval == id,
        Body::ToolPlanned { call, .. }
        | Body::ToolStarted { call, .. }
        | Body::ToolFinished { call, .. }
        | Body::OutcomeLost { call }
        | Body::OutcomeMarked { call, .. } => *call == of,
        _ => false,
    })
}

/// The call with this id, if the event proposed it.
pub fn proposed(event: &Event, id: CallId) -> Option<&GatedCall> {
    let calls = match &event.body {
        Body::MessageReceived { prefetch, .. } => prefetch,
        Body::ModelReplied { step: NextStep::Call { calls, .. }, .. } => calls,
        _ => return None,
    };
    if event.seq == id.seq { calls.get(id.ord as usize) } else { None }
}
