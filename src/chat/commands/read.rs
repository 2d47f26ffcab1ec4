//! Reading what people type. PURE: a text in, a [`Command`] out; which runs, agents and requests there are is not
//! known here.

use super::Command;
use crate::agent::{ApprovalId, QuestionId, ShortId, Steer, nearest};

/// Every word, as it stands in help.
const WORDS: [&str; 15] = [
    "run", "status", "pending", "approve", "deny", "answer", "stop", "pause", "resume", "history", "rules", "agents",
    "tools", "doctor", "help",
];

/// What people say instead.
const MEANT: [(&str, &str); 18] = [
    ("start", "run"),
    ("ask", "run"),
    ("inbox", "pending"),
    ("approvals", "pending"),
    ("list", "status"),
    ("runs", "status"),
    ("accept", "approve"),
    ("reject", "deny"),
    ("decline", "deny"),
    ("reply", "answer"),
    ("cancel", "stop"),
    ("abort", "stop"),
    ("kill", "stop"),
    ("continue", "resume"),
    ("log", "history"),
    ("policy", "rules"),
    ("check", "doctor"),
    ("commands", "help"),
];

/// What is answered without a model, when it is all that was said.
const GREETINGS: [&str; 12] = [
    "hi",
    "hello",
    "hey",
    "hi there",
    "hello there",
    "hey there",
    "good morning",
    "good afternoon",
    "good evening",
    "help",
    "what can you do",
    "who are you",
];

/// Pairs of signs that people, keyboards and copied help put around what they mean.
const QUOTES: [(char, char); 9] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('„', '“'), ('”', '”'), ('‘', '’'), ('’', '’'), ('«', '»')];

/// Least digits of an id of which the rest is left out.
pub(super) const LEAST: usize = 4;

/// Reads the words after the command. Total: what is not understood is [`Command::Unknown`].
pub fn parse(text: &str) -> Command {
    let text = unquoted(without_mentions(text));
    let (word, rest) = first_word(text);
    let word = bare(word);
    let optional = || id(rest);
    let two = || {
        let (first, rest) = first_word(without_mentions(rest));
        (bare(first), unquoted(rest).to_owned())
    };
    match word.as_str() {
        "" if text.is_empty() || text.chars().all(|c| c == '?') => Command::Help,
        "run" => Command::Run { task: unquoted(rest).to_owned() },
        "status" => Command::Status { run: optional() },
        "pending" => Command::Pending { all: bare(first_word(rest).0) == "all" },
        "approve" => {
            let (id, note) = two();
            Command::Approve { id, note }
        }
        "deny" => {
            let (id, reason) = two();
            Command::Deny { id, reason }
        }
        "answer" => {
            let (id, text) = two();
            // `answer yes` means the question that is open.
            if id.starts_with("q_") {
                Command::Answer { id, text }
            } else {
                Command::Answer { id: String::new(), text: unquoted(rest).to_owned() }
            }
        }
        "stop" => Command::Steer { what: Steer::Stop, run: optional() },
        "pause" => Command::Steer { what: Steer::Pause, run: optional() },
        "resume" => Command::Steer { what: Steer::Resume, run: optional() },
        "history" => Command::History { run: optional() },
        "rules" => Command::Rules,
        "agents" => Command::Agents,
        "tools" => Command::Tools,
        "doctor" => Command::Doctor,
        "help" => Command::Help,
        _ if is_greeting(text) => Command::Help,
        _ => Command::Unknown { meant: meant(&word), word },
    }
}

/// The command, if these words of a message that is addressed to the agent are one, whole, and not a task in
/// words (`stop`, `status`, `approve apr_…`).
///
/// Strict, because what is taken for a command never reaches the agent: a word alone, or with a whole id, or with
/// what can only be an id (`apr_…`, `q_…`). `run` is no command here: a message is a run. Where the words follow
/// a sign that makes them one (`!agent stop`), use [`parse`].
pub fn parse_in_message(text: &str) -> Option<Command> {
    let text = unquoted(without_mentions(text));
    if is_greeting(text) {
        return Some(Command::Help);
    }
    // Perhaps a file came along.
    if text.is_empty() {
        return None;
    }
    let command = parse(text);
    let (_, rest) = first_word(text);
    let rest = trimmed(rest);
    let is = match &command {
        Command::Run { .. } | Command::Unknown { .. } => false,
        Command::Status { run } | Command::History { run } | Command::Steer { run, .. } => match run {
            None => rest.is_empty(),
            Some(run) => run.parse::<ShortId>().is_ok() && is_one_word(rest),
        },
        Command::Pending { .. } => rest.is_empty() || matches!(bare(rest).as_str(), "all" | "mine"),
        Command::Approve { id, .. } | Command::Deny { id, .. } => {
            is_id(id, "apr_", |id| id.parse::<ApprovalId>().is_ok())
        }
        Command::Answer { id, .. } => is_id(id, "q_", |id| id.parse::<QuestionId>().is_ok()),
        Command::Rules | Command::Agents | Command::Tools | Command::Doctor | Command::Help => rest.is_empty(),
    };
    is.then_some(command)
}

/// Whether it is an id of this kind, or the beginning of one that is long enough to be no word.
fn is_id(text: &str, prefix: &str, whole: impl Fn(&str) -> bool) -> bool {
    let digits = text.strip_prefix(prefix).map(|rest| rest.split('_').next().unwrap_or(""));
    whole(text) || digits.is_some_and(|d| d.len() >= LEAST && d.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')))
}

fn is_greeting(text: &str) -> bool {
    let words = text.to_lowercase();
    let words: Vec<&str> = words.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    GREETINGS.contains(&words.join(" ").as_str())
}

/// The word that was most likely meant.
fn meant(word: &str) -> Option<&'static str> {
    let known = MEANT.iter().find(|(other, _)| *other == word).map(|(_, meant)| *meant);
    known.or_else(|| nearest(word, WORDS))
}

/// White space, and what is not seen.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || crate::agent::visible::is_unseen(c))
}

/// The text without mentions at its beginning: surfaces leave them there.
fn without_mentions(text: &str) -> &str {
    let mut text = trimmed(text);
    while let Some(rest) = text.strip_prefix("<@").and_then(|rest| rest.split_once('>')).map(|(_, rest)| rest) {
        text = trimmed(rest.trim_start_matches([',', ':']));
    }
    text
}

/// The text without one pair of quotes around all of it.
fn unquoted(text: &str) -> &str {
    let text = trimmed(text);
    let inner = QUOTES.iter().find_map(|(open, close)| {
        let inner = text.strip_prefix(*open)?.strip_suffix(*close)?;
        (!inner.contains([*open, *close])).then_some(inner)
    });
    inner.map_or(text, trimmed)
}

fn first_word(text: &str) -> (&str, &str) {
    let text = trimmed(text);
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, trimmed(rest)))
}

fn is_one_word(text: &str) -> bool {
    first_word(text).1.is_empty()
}

/// A word or an id as it is compared: lower case, without quotes around it and signs at its end.
fn bare(word: &str) -> String {
    let of_quotes = |c: char| QUOTES.iter().any(|(open, close)| c == *open || c == *close);
    let of_sentences = |c: char| matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '…' | '#');
    trimmed(word).trim_matches(|c| of_quotes(c) || of_sentences(c)).to_lowercase()
}

/// The id that follows a word, if one does.
fn id(rest: &str) -> Option<String> {
    let id = bare(first_word(without_mentions(rest)).0);
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(task: &str) -> Command {
        Command::Run { task: task.to_owned() }
    }

    fn steer(what: Steer, run: Option<&str>) -> Command {
        Command::Steer { what, run: run.map(str::to_owned) }
    }

    fn unknown(word: &str, meant: Option<&'static str>) -> Command {
        Command::Unknown { word: word.to_owned(), meant }
    }

    #[test]
    fn every_word_of_the_table_is_read() {
        let id = || "apr_abcdefghijklmnop_5".to_owned();
        let table = [
            ("run deployment ship v1 to staging", run("deployment ship v1 to staging")),
            ("run", run("")),
            ("status", Command::Status { run: None }),
            ("status k3fq", Command::Status { run: Some("k3fq".into()) }),
            ("pending", Command::Pending { all: false }),
            ("pending mine", Command::Pending { all: false }),
            ("pending all", Command::Pending { all: true }),
            ("approve apr_abcdefghijklmnop_5", Command::Approve { id: id(), note: String::new() }),
            ("approve apr_abcdefghijklmnop_5 ok, go", Command::Approve { id: id(), note: "ok, go".into() }),
            ("deny apr_abcdefghijklmnop_5 not today", Command::Deny { id: id(), reason: "not today".into() }),
            (
                "answer q_abcdefghijklmnop_7 the left one",
                Command::Answer { id: "q_abcdefghijklmnop_7".into(), text: "the left one".into() },
            ),
            ("answer the left one", Command::Answer { id: String::new(), text: "the left one".into() }),
            ("stop", steer(Steer::Stop, None)),
            ("stop k3fq", steer(Steer::Stop, Some("k3fq"))),
            ("pause", steer(Steer::Pause, None)),
            ("resume k3fq", steer(Steer::Resume, Some("k3fq"))),
            ("history", Command::History { run: None }),
            ("rules", Command::Rules),
            ("agents", Command::Agents),
            ("tools", Command::Tools),
            ("doctor", Command::Doctor),
            ("help", Command::Help),
            ("", Command::Help),
        ];
        for (text, command) in table {
            assert_eq!(parse(text), command, "{text:?}");
        }
        for word in WORDS {
            assert!(!matches!(parse(word), Command::Unknown { .. }), "{word}");
        }
    }

    #[test]
    fn what_phones_and_copied_help_add_does_no_harm() {
        let approve = Command::Approve { id: "apr_abcdefghijklmnop_5".into(), note: "fine".into() };
        for text in [
            "  APPROVE   APR_ABCDEFGHIJKLMNOP_5  fine ",
            "approve “apr_abcdefghijklmnop_5” fine",
            "approve `apr_abcdefghijklmnop_5`, “fine”",
            "<@U0BOT> approve apr_abcdefghijklmnop_5 fine",
            "<@U0BOT>: approve\u{a0}apr_abcdefghijklmnop_5\n fine",
            "\u{200b}approve apr_abcdefghijklmnop_5 fine\u{feff}",
            "‘approve apr_abcdefghijklmnop_5 fine’",
        ] {
            assert_eq!(parse(text), approve, "{text:?}");
        }
        assert_eq!(parse("Stop!"), steer(Steer::Stop, None));
        assert_eq!(parse("stop <@U0BOT> k3fq"), steer(Steer::Stop, Some("k3fq")));
        assert_eq!(parse("“run deploy ‘api’”"), run("deploy ‘api’"));
    }

    #[test]
    fn a_task_keeps_its_lines_and_its_quotes() {
        assert_eq!(parse("run summarise:\n  “a”\n  “b”"), run("summarise:\n  “a”\n  “b”"));
        assert_eq!(parse("run tell <@U2> “hello”"), run("tell <@U2> “hello”"));
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_nearest_known_one() {
        for (text, word, meant) in [
            ("stauts", "stauts", Some("status")),
            ("aprove apr_x", "aprove", Some("approve")),
            ("cancel", "cancel", Some("stop")),
            ("reject apr_x", "reject", Some("deny")),
            ("inbox", "inbox", Some("pending")),
            ("deploy api", "deploy", None),
            ("xyzzy", "xyzzy", None),
        ] {
            assert_eq!(parse(text), unknown(word, meant), "{text:?}");
        }
    }

    #[test]
    fn a_task_in_words_is_never_taken_for_a_command() {
        for task in [
            "stop the api service",
            "status of production?",
            "pause between the two deployments",
            "stop worker7",
            "stop that",
            "resume k3fq",
            "approve the deployment",
            "approve it",
            "deny all traffic from 10.0.0.0/8",
            "answer the customer",
            "history of the api service",
            "rules for deployments?",
            "help me deploy api",
            "help, production is down",
            "hi, deploy api to staging",
            "hello world program in Rust",
            "run the tests",
            "run",
            "tools are missing on web1",
            "pending orders",
            "pending all orders",
            "doctor who is it",
            "stauts",
            "deploy api v1.2.3",
            "",
            "approve apr_x",
            "stop abcdefghijklmnop and start again",
        ] {
            assert_eq!(parse_in_message(task), None, "{task:?}");
        }
    }

    #[test]
    fn s15_in_a_thread_where_no_slash_command_works_the_words_alone_are_commands() {
        for (text, command) in [
            ("stop", steer(Steer::Stop, None)),
            ("<@U0BOT> stop", steer(Steer::Stop, None)),
            ("Stop.", steer(Steer::Stop, None)),
            ("“stop”", steer(Steer::Stop, None)),
            ("stop abcdefghijklmnop", steer(Steer::Stop, Some("abcdefghijklmnop"))),
            ("status", Command::Status { run: None }),
            ("status?", Command::Status { run: None }),
            ("pending all", Command::Pending { all: true }),
            ("approve apr_abcd lgtm", Command::Approve { id: "apr_abcd".into(), note: "lgtm".into() }),
            (
                "deny apr_abcdefghijklmnop_5",
                Command::Deny { id: "apr_abcdefghijklmnop_5".into(), reason: String::new() },
            ),
            (
                "answer q_abcdefghijklmnop_7 yes",
                Command::Answer { id: "q_abcdefghijklmnop_7".into(), text: "yes".into() },
            ),
            ("resume", steer(Steer::Resume, None)),
            ("agents", Command::Agents),
            ("hi", Command::Help),
            ("Hello!", Command::Help),
            ("good morning 👋", Command::Help),
            ("help", Command::Help),
            ("What can you do?", Command::Help),
        ] {
            assert_eq!(parse_in_message(text), Some(command), "{text:?}");
        }
    }
}
