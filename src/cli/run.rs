//! `twelve run`: one message, and the answer or what it waits for.
//!
//! The run is an ordinary thread (`api:<uuid>`): what does not end now is kept and can be decided,
//! answered and looked at with the other commands. This file owns when to stop waiting and what to say.

use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::chat::{at_rest, choose_thread, colours, person};
use super::screen::{self, Line, Steps, Style};
use super::{input, screen::render};
use crate::agent::{
    Answer, Body, Event, Input, MAX_GATHERED_BYTES, NextStep, Passage, Posting, QuestionId, Refusal, Status, Thread,
    ThreadId, refuse_context, span,
};
use crate::app::Blueprint;
use crate::platform::{Card, Platforms};
use crate::runtime::{Change, DeliverError, Runtime, Said};
use crate::store::StoreError;

/// Threads of this surface are read, not written to.
const SURFACE: &str = "api";

/// The run waits for people, a timer or a provider, and is kept.
const WAITS: u8 = 3;

#[derive(clap::Args, Debug)]
pub struct RunArgs {
    /// The agent to ask.
    pub agent: String,
    /// What it is to do; `-` reads it from stdin.
    pub message: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Hand this file over as text from outside: data for the agent, never instructions, so calls with side
    /// effects ask from then on. May be given several times; `-` reads stdin.
    #[arg(long, value_name = "FILE")]
    context: Vec<std::path::PathBuf>,
    /// Say it in this thread (`api:…`) instead of a new one.
    #[arg(long, value_name = "THREAD")]
    thread: Option<String>,
    /// Who asks, in logs and on cards; otherwise $USER.
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// How long to wait for the agent at the most.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span::parse)]
    wait: u64,
}

pub async fn run(args: RunArgs, blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    blueprint.agents.get(&args.agent)?;
    let me = person(args.name.as_deref())?;
    let message = if args.message == "-" { input::whole().context("stdin")? } else { args.message.clone() };
    // The core refuses these as well; here no store is made for them.
    let limit = blueprint.config().runtime.message_max_bytes;
    if message.trim().is_empty() {
        bail!(Refusal::EmptyMessage);
    }
    if message.len() > limit {
        bail!(Refusal::TooLong { bytes: message.len(), limit });
    }
    if args.context.iter().filter(|file| file.as_os_str() == "-").count() > usize::from(args.message != "-") {
        bail!("stdin is read once: give either the message or one --context as `-`");
    }
    let context = handed_over(&args.context)?;
    let drain = Duration::from_millis(blueprint.config().runtime.drain_timeout);
    let asked_to_end = input::asked_to_end()?;
    let runtime = blueprint.open(Platforms::default()).await?;
    let thread = choose_thread(&runtime, args.thread.as_deref(), SURFACE, &args.agent).await?;
    let mut changes = runtime.watch();
    // An answer is a person's alone: with texts from outside it is a message.
    let question = if context.is_empty() { only_question(&runtime, &thread).await? } else { None };
    let delivered = match question {
        Some(question) => {
            let answer = Input::Answer { question, by: me, groups: Vec::new(), text: message, source: None };
            runtime.deliver(thread.short(), answer).await?
        }
        None => runtime.message(&thread, &args.agent, Said { context, ..Said::by(me, message) }).await?,
    };
    if let Answer::Refused(refusal) = delivered.answer {
        runtime.drain(drain).await?;
        bail!(refusal);
    }
    let timers = {
        let runtime = runtime.clone();
        tokio::spawn(async move { runtime.run_timers().await })
    };
    let mut steps = Steps::default();
    let rested = async {
        while !at_rest(&runtime.thread(thread.short()).await?) {
            match changes.recv().await {
                Ok(change) => tell(&mut steps, &change, &delivered.thread),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            }
        }
        anyhow::Ok(())
    };
    tokio::select! {
        rested = tokio::time::timeout(Duration::from_millis(args.wait), rested) => match rested {
            Ok(rested) => rested?,
            Err(_) => eprintln!("twelve: it did not rest within {}; what it does is kept", span::show(args.wait)),
        },
        () = asked_to_end => eprintln!("twelve: interrupted; what it does is kept"),
    }
    let folded = runtime.thread(thread.short()).await?;
    let answer = last_answer(&runtime, &folded, delivered.version).await?;
    if args.json {
        input::print(&format!("{}\n", report(&folded, answer.as_deref())));
    } else {
        input::print(&render(&words(&folded, answer.as_deref()), colours()));
    }
    runtime.drain(drain).await?;
    timers.abort();
    Ok(match folded.status() {
        Status::Done => ExitCode::SUCCESS,
        Status::Stopped | Status::Cancelled => ExitCode::FAILURE,
        Status::Running
        | Status::WaitingApproval
        | Status::WaitingAnswer
        | Status::WaitingMark
        | Status::Sleeping
        | Status::Paused => ExitCode::from(WAITS),
    })
}

/// The texts of these files, each named by its file.
fn handed_over(files: &[std::path::PathBuf]) -> anyhow::Result<Vec<Passage>> {
    let read = |file: &std::path::PathBuf| {
        if file.as_os_str() == "-" {
            return anyhow::Ok(Passage { label: "stdin".to_owned(), text: input::whole().context("stdin")? });
        }
        let mut bytes = Vec::new();
        // One byte more than is taken shows that it is too long.
        let most = MAX_GATHERED_BYTES as u64 + 1;
        let what = || format!("--context {}", file.display());
        std::fs::File::open(file).and_then(|f| f.take(most).read_to_end(&mut bytes)).with_context(what)?;
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) if error.as_bytes().len() > MAX_GATHERED_BYTES => {
                String::from_utf8_lossy(error.as_bytes()).into()
            }
            Err(_) => bail!("{}: it has to be a text file in UTF-8", what()),
        };
        let name = file.file_name().map_or_else(|| file.display().to_string(), |n| n.to_string_lossy().into_owned());
        anyhow::Ok(Passage { label: format!("the file {name}"), text })
    };
    let context = files.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    match refuse_context(&context) {
        Some(refusal) => bail!(refusal),
        None => Ok(context),
    }
}

/// The question that the message answers: the only one that is open.
async fn only_question(runtime: &Runtime, thread: &ThreadId) -> anyhow::Result<Option<QuestionId>> {
    match runtime.thread(thread.short()).await {
        Ok(thread) => Ok(thread.questions.keys().next().copied().filter(|_| thread.questions.len() == 1)),
        Err(DeliverError::Store(StoreError::Unknown(_))) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Live steps go to stderr: stdout is the answer's.
fn tell(steps: &mut Steps, change: &Change, thread: &ThreadId) {
    if change.thread != thread.short() {
        return;
    }
    for (seq, bytes) in (change.first..).zip(change.events.iter()) {
        let Ok(event) = Event::decode(bytes, seq) else { continue };
        let mut lines = steps.tell(change.thread, &event);
        if matches!(event.body, Body::ModelFailed { .. } | Body::MessageReceived { masked: 1.., .. }) {
            let vacant = Thread::vacant(thread.clone());
            let notice = crate::platform::outbound(&vacant, &Posting::Notice { seq }, Some(&event));
            lines.extend(notice.iter().flat_map(|n| screen::posting(n, event.at)));
        }
        eprint!("{}", render(&lines, false));
    }
}

/// The answer to this message, if there is one: the last one after event `after - 1`.
async fn last_answer(runtime: &Runtime, thread: &Thread, after: u64) -> anyhow::Result<Option<String>> {
    let after = after.saturating_sub(1);
    let loaded = runtime.parts().store.load(thread.short, after).await?;
    let mut answer = None;
    for (seq, bytes) in (after + 1..).zip(&loaded.events) {
        if let Body::ModelReplied { step: NextStep::Done { text }, correction, .. } = Event::decode(bytes, seq)?.body
            && correction.is_empty()
        {
            answer = Some(text);
        }
    }
    Ok(answer)
}

/// For people.
fn words(thread: &Thread, answer: Option<&str>) -> Vec<Line> {
    let mut lines: Vec<Line> = answer.unwrap_or_default().trim_end().lines().map(Line::plain).collect();
    if thread.status() == Status::Done {
        return lines;
    }
    lines.push(Line::new(Style::Waiting, &format!("No final answer yet: the thread {}.", screen::standing(thread))));
    for approval in thread.pending_approvals() {
        lines.extend(screen::request_lines(&Card::of(thread, approval), thread.updated_at));
        lines.push(Line::plain(&format!(
            "  twelve approvals approve {} --digest {}",
            approval.id,
            approval.digest.prefix()
        )));
        lines.push(Line::plain(&format!("  twelve approvals deny {} --reason \"...\"", approval.id)));
    }
    for (id, question) in &thread.questions {
        lines.extend(screen::prose(Style::Waiting, "Question: ", &question.text));
        lines.push(Line::plain(&format!("  {id}  {}", crate::platform::how_to_answer(&question.answer))));
        lines.push(Line::plain(&format!("  twelve run {} \"<answer>\" --thread {}", thread.agent, thread.id)));
    }
    lines.push(Line::plain(&format!("Everything is kept. Look at it with:   twelve threads show {}", thread.short)));
    lines
}

/// For programs.
fn report(thread: &Thread, answer: Option<&str>) -> Value {
    let approvals: Vec<Value> =
        thread.pending_approvals().map(|a| screen::approval_json(&Card::of(thread, a))).collect();
    let questions: Vec<Value> =
        thread.questions.iter().map(|(id, q)| screen::question_json(id, &q.text, &q.answer)).collect();
    json!({
        "thread": thread.id, "status": thread.status(), "answer": answer, "approvals": approvals,
        "questions": questions, "tokens": thread.tokens, "events": thread.version,
    })
}
