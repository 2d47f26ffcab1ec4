//! What a person types into the chat, as data. Pure: one line in, one [`Command`] or one sentence out.

use serde_json::{Map, Value};

use crate::agent::{ApprovalId, CallId, Mark, QuestionId, did_you_mean};

/// The commands, for help and for "did you mean".
pub const NAMES: [&str; 13] = [
    "/approve", "/deny", "/edit", "/answer", "/mark", "/pause", "/resume", "/stop", "/cancel", "/status", "/history",
    "/help", "/quit",
];

/// The help, a line each.
pub const HELP: [&str; 13] = [
    "any text                      a message to the agent, or the answer if one question is open",
    "/approve [id] [note]          let the call run, exactly as shown (y works if one is open)",
    "/deny [id] [reason]           do not let it run (n works if one is open)",
    "/edit [id] [name=value ...]   ask for other arguments; without any, edit them as JSON",
    "/answer [id] <text>           answer a question",
    "/mark [id] succeeded|failed|retry [note]   say how a call of unknown outcome ended",
    "/pause, /resume               hold the run before its next step; let it go on",
    "/stop                         end the run; the thread can be used again",
    "/cancel                       end the thread for good",
    "/status                       where the thread stands and what waits",
    "/history                      the last events of the log",
    "/help                         this",
    "/quit                         leave; what waits is kept",
];

/// One more line of help where `/kill` exists.
pub const HELP_DEMO: &str = "/kill                         end this process by SIGKILL; the demo starts it again";

/// One line, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Nothing,
    /// A message, an answer, or `y`/`n`: what it is depends on what is open.
    Text(String),
    Approve {
        id: Option<ApprovalId>,
        note: String,
    },
    Deny {
        id: Option<ApprovalId>,
        reason: String,
    },
    Edit {
        id: Option<ApprovalId>,
        change: Change,
    },
    Answer {
        id: Option<QuestionId>,
        text: String,
    },
    Mark {
        id: Option<CallId>,
        mark: Mark,
    },
    Pause,
    Resume,
    Stop,
    Cancel,
    Status,
    History,
    Help,
    Quit,
    /// Only in the demo: this process kills itself with SIGKILL.
    Kill,
}

/// What an edit changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing was given: it is asked for.
    Ask,
    /// These arguments get these values.
    Some(Vec<(String, String)>),
    /// All arguments, as JSON text.
    All(String),
}

impl Command {
    /// Whether it makes sense while the agent is at work, so that it need not wait.
    pub fn is_urgent(&self) -> bool {
        match self {
            Self::Pause
            | Self::Resume
            | Self::Stop
            | Self::Cancel
            | Self::Status
            | Self::History
            | Self::Help
            | Self::Kill
            | Self::Nothing => true,
            Self::Text(_)
            | Self::Approve { .. }
            | Self::Deny { .. }
            | Self::Edit { .. }
            | Self::Answer { .. }
            | Self::Mark { .. }
            | Self::Quit => false,
        }
    }
}

/// Reads one line. `demo`: whether `/kill` exists.
///
/// # Errors
/// A sentence for the one who typed it.
pub fn parse(line: &str, demo: bool) -> Result<Command, String> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(Command::Nothing);
    }
    if !line.starts_with('/') {
        return Ok(Command::Text(line.to_owned()));
    }
    let (name, rest) = word(line);
    let alone = |command| {
        if rest.is_empty() { Ok(command) } else { Err(format!("{name} takes nothing more. Leave `{rest}` out.")) }
    };
    match name {
        "/approve" => with_id(rest, "apr_").map(|(id, note)| Command::Approve { id, note: note.to_owned() }),
        "/deny" => with_id(rest, "apr_").map(|(id, reason)| Command::Deny { id, reason: reason.to_owned() }),
        "/edit" => {
            let (id, rest) = with_id(rest, "apr_")?;
            let change = match rest {
                "" => Change::Ask,
                json if json.starts_with('{') => Change::All(json.to_owned()),
                pairs => Change::Some(assignments(pairs)?),
            };
            Ok(Command::Edit { id, change })
        }
        "/answer" => match with_id(rest, "q_")? {
            (_, "") => Err("Write the answer behind it: /answer <text>".to_owned()),
            (id, text) => Ok(Command::Answer { id, text: text.to_owned() }),
        },
        "/mark" => {
            let (id, rest) = with_id(rest, "call_")?;
            let (mark, note) = word(rest);
            let note = note.to_owned();
            let mark = match mark {
                "succeeded" => Mark::Succeeded { note },
                "failed" => Mark::Failed { note },
                "retry" => Mark::Retry,
                _ => return Err("Say how it ended: /mark succeeded, /mark failed or /mark retry.".to_owned()),
            };
            Ok(Command::Mark { id, mark })
        }
        "/pause" => alone(Command::Pause),
        "/resume" => alone(Command::Resume),
        "/stop" => alone(Command::Stop),
        "/cancel" => alone(Command::Cancel),
        "/status" => alone(Command::Status),
        "/history" => alone(Command::History),
        "/help" => alone(Command::Help),
        "/quit" | "/exit" => alone(Command::Quit),
        "/kill" if demo => alone(Command::Kill),
        _ => {
            let near = did_you_mean(name, NAMES).replace("; did", " Did");
            let next = if near.is_empty() { " /help lists what there is." } else { near.as_str() };
            Err(format!("There is no command `{name}`.{next}"))
        }
    }
}

/// The first word, and the rest without white space around it.
fn word(text: &str) -> (&str, &str) {
    text.split_once(char::is_whitespace).map_or((text, ""), |(first, rest)| (first, rest.trim()))
}

/// An id at the front, if there is one.
fn with_id<'t, I>(text: &'t str, prefix: &str) -> Result<(Option<I>, &'t str), String>
where
    I: std::str::FromStr,
    I::Err: std::fmt::Display,
{
    let (first, rest) = word(text);
    if !first.starts_with(prefix) {
        return Ok((None, text));
    }
    match first.parse() {
        Ok(id) => Ok((Some(id), rest)),
        Err(e) => Err(format!("{e}. /status shows what is open.")),
    }
}

/// `version=v1.2.3 note="two words"`.
fn assignments(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let how = || "Write it as /edit name=value (a value with spaces in double quotes).".to_owned();
        let (name, after) = rest.split_once('=').ok_or_else(how)?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(how());
        }
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(|| "A double quote is not closed.".to_owned())?,
            None => after.split_at(after.find(char::is_whitespace).unwrap_or(after.len())),
        };
        pairs.push((name.to_owned(), value.to_owned()));
        rest = left.trim_start();
    }
    Ok(pairs)
}

/// The arguments after a change. A text stays a text; a value of another type is read as JSON.
///
/// # Errors
/// A sentence for the one who typed it.
pub fn changed(args: &Value, pairs: &[(String, String)]) -> Result<Value, String> {
    let mut map: Map<String, Value> = args.as_object().cloned().unwrap_or_default();
    for (name, text) in pairs {
        let value = match map.get(name) {
            Some(Value::String(_)) => Value::String(text.clone()),
            Some(_) => serde_json::from_str(text).map_err(|_| {
                format!("`{name}` is not a text, so write its value as JSON, for example {name}=5 or {name}=true.")
            })?,
            None => {
                let near = did_you_mean(name, map.keys().map(String::as_str));
                if !near.is_empty() {
                    return Err(format!("There is no argument `{name}`{near}"));
                }
                // One that was left out so far; the tool's schema says whether it exists.
                serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
            }
        };
        map.insert(name.clone(), value);
    }
    Ok(Value::Object(map))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::ThreadId;

    #[test]
    fn what_is_typed_becomes_a_command_or_a_sentence() {
        let short = "console:x".parse::<ThreadId>().unwrap().short();
        let (approval, question) = (ApprovalId::new(short, 7, 0), QuestionId::new(short, 9, 0));
        let cases = [
            ("  ".to_owned(), Command::Nothing),
            ("deploy api".to_owned(), Command::Text("deploy api".into())),
            ("/approve".to_owned(), Command::Approve { id: None, note: String::new() }),
            ("/approve go ahead".to_owned(), Command::Approve { id: None, note: "go ahead".into() }),
            (format!("/deny {approval}  too late"), Command::Deny { id: Some(approval), reason: "too late".into() }),
            (format!("/answer {question} yes"), Command::Answer { id: Some(question), text: "yes".into() }),
            ("/edit".to_owned(), Command::Edit { id: None, change: Change::Ask }),
            (
                "/edit version=v1 why=\"two words\"".to_owned(),
                Command::Edit {
                    id: None,
                    change: Change::Some(vec![("version".into(), "v1".into()), ("why".into(), "two words".into())]),
                },
            ),
            ("/edit {\"a\":1}".to_owned(), Command::Edit { id: None, change: Change::All("{\"a\":1}".into()) }),
            ("/mark retry".to_owned(), Command::Mark { id: None, mark: Mark::Retry }),
            ("/stop".to_owned(), Command::Stop),
        ];
        for (line, command) in cases {
            assert_eq!(parse(&line, false), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_is_not_a_command_is_answered_with_a_suggestion() {
        let said = |line: &str| parse(line, false).unwrap_err();
        insta::assert_snapshot!(
            ["/aprove", "/xyzzy", "/stop now", "/approve apr_5", "/mark", "/answer", "/edit version", "/kill", "/\u{1b}[2J"]
                .map(|line| crate::agent::visible::text(&said(line))).join("\n"),
            @r#"
        There is no command `/aprove`. Did you mean `/approve`?
        There is no command `/xyzzy`. /help lists what there is.
        /stop takes nothing more. Leave `now` out.
        `apr_5` is not an approval id (`apr_<thread>_<number>`). /status shows what is open.
        Say how it ended: /mark succeeded, /mark failed or /mark retry.
        Write the answer behind it: /answer <text>
        Write it as /edit name=value (a value with spaces in double quotes).
        There is no command `/kill`. /help lists what there is.
        There is no command `/\u{1b}[2J`. /help lists what there is.
        "#
        );
        assert_eq!(parse("/kill", true), Ok(Command::Kill), "the demo has one more");
    }

    #[test]
    fn an_edit_keeps_the_type_of_what_it_replaces() {
        let args = json!({"version": "v1", "replicas": 2, "force": false});
        let set = |name: &str, value: &str| changed(&args, &[(name.to_owned(), value.to_owned())]);
        assert_eq!(set("version", "5"), Ok(json!({"version": "5", "replicas": 2, "force": false})));
        assert_eq!(set("replicas", "3"), Ok(json!({"version": "v1", "replicas": 3, "force": false})));
        assert!(set("replicas", "many").unwrap_err().contains("write its value as JSON"));
        assert_eq!(set("verison", "v2").unwrap_err(), "There is no argument `verison`; did you mean `version`?");
    }
}
