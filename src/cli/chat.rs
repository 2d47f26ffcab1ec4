//! `twelve chat`: talking to an agent at this terminal.
//!
//! Owns the loop between a person and a runtime: lines in, postings and steps out. What is shown is
//! worded in `screen`, what is typed is understood in `command`; every decision is the core's. The loop
//! remembers one thing that matters: which revision of an approval was last *shown*. A vote carries the
//! digest of that one, so nobody approves what they have not seen.
//!
//! From a pipe, lines are taken one at a time when the agent rests, so that a script's `/approve` finds
//! its card; `/stop` and its like are taken at once.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};

use super::command::{self, Change, Command};
use super::input::{Input, Print, Typed};
use super::screen::{self, Line, Steps, Style};
use crate::agent::{
    Answer, ApprovalId, Ballot, CallId, Event, Input as Step, Principal, QuestionId, Refusal, ShortId, Stage, Status,
    Thread, ThreadId, Timestamp,
};
use crate::app::Blueprint;
use crate::platform::console::{self, Console, Shown};
use crate::platform::{Card, CardState, Outbound, Platforms};
use crate::runtime::{self, DeliverError, Runtime, Said};
use crate::store::StoreError;

/// Longest name of a person at the terminal, in bytes.
const MAX_NAME: usize = 64;
/// Events that `/history` shows.
const HISTORY: u64 = 30;
const PROMPT: &str = "> ";
const EDIT_PROMPT: &str = "new arguments (empty: leave them)> ";

#[derive(clap::Args, Debug)]
pub struct ChatArgs {
    /// The agent to talk to.
    pub agent: String,
    /// Go on with this thread: its id (`console:…`) or the beginning of its short id.
    #[arg(long, value_name = "THREAD")]
    thread: Option<String>,
    /// Who you are, in logs and on cards; otherwise $USER.
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// One JSON object a line, for programs that drive a chat.
    #[arg(long, hide = true)]
    json_lines: bool,
    /// Adds `/kill`.
    #[arg(long, hide = true)]
    demo: bool,
}

/// What the demo says under its first card, and under one that outlived a process.
const DEMO_FIRST: [&str; 2] = [
    "Nothing has run yet. Type /kill: this process then ends itself, as by `kill -9`,",
    "and is started again. The request outlives it. Or decide it right away.",
];
const DEMO_AGAIN: [&str; 2] = [
    "The request outlived the process: same id, same digest, and nothing has run.",
    "Now /approve, or /deny not today, or /edit version=v1.2.9",
];

/// Whether the conversation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    Leave,
}

pub async fn chat(args: ChatArgs, blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    let about = blueprint.agents.get(&args.agent)?.spec.description.clone();
    let me = person(args.name.as_deref())?;
    let drain = Duration::from_millis(blueprint.config().runtime.drain_timeout);
    let (console, mut postings) = Console::new();
    let runtime = blueprint.open(Platforms { console: Some(console), slack: None }).await?;
    let thread = choose_thread(&runtime, args.thread.as_deref(), console::SURFACE, &args.agent).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (mut input, print) = Input::start()?;
    let mut changes = runtime.watch();
    let mut chat = Chat {
        screen: Screen { print, json: args.json_lines, colour: colours() },
        short: thread.short(),
        agent: args.agent,
        demo: args.demo,
        greeting: false,
        runtime,
        thread,
        me,
        shown: HashMap::new(),
        steps: Steps::default(),
        editing: None,
        initial: String::new(),
        warned: false,
    };
    // What is open is drawn before recovery starts, so that what recovery posts again is not drawn twice.
    chat.greet(&about).await?;
    let timers = {
        let runtime = chat.runtime.clone();
        tokio::spawn(async move { runtime.run_timers().await })
    };

    let mut held: Option<String> = None;
    let mut ended = false;
    if input.is_terminal() {
        input.want(PROMPT, "");
    }
    loop {
        while let Ok(change) = changes.try_recv() {
            chat.tell(&change);
        }
        while let Ok(shown) = postings.try_recv() {
            chat.draw(shown);
        }
        if (held.is_some() || ended) && chat.rests().await? {
            match held.take() {
                Some(line) if chat.take(&line).await == Flow::On => continue,
                Some(_) | None => break,
            }
        }
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = hang_up.recv() => break,
            _ = interrupt.recv() => if chat.interrupted() == Flow::Leave { break },
            change = changes.recv() => match change {
                Ok(change) => chat.tell(&change),
                Err(broadcast::error::RecvError::Lagged(_)) => chat.missed(),
                Err(broadcast::error::RecvError::Closed) => break,
            },
            Some(shown) = postings.recv() => chat.draw(shown),
            typed = input.next(), if held.is_none() && !ended => {
                let flow = match typed {
                    Typed::Line(line) if input.is_terminal() || chat.is_urgent(&line) => chat.take(&line).await,
                    Typed::Line(line) => {
                        held = Some(line);
                        Flow::On
                    }
                    Typed::Interrupted => chat.interrupted(),
                    Typed::End if input.is_terminal() => Flow::Leave,
                    Typed::End => {
                        ended = true;
                        Flow::On
                    }
                };
                if flow == Flow::Leave {
                    break;
                }
                if input.is_terminal() {
                    let prompt = if chat.editing.is_some() { EDIT_PROMPT } else { PROMPT };
                    input.want(prompt, &std::mem::take(&mut chat.initial));
                }
            }
        }
    }
    drop(input);
    chat.leave(drain, &mut postings).await?;
    timers.abort();
    Ok(ExitCode::SUCCESS)
}

/// Who types: `console:<name>`.
///
/// # Errors
/// The name cannot be part of an id.
pub fn person(name: Option<&str>) -> anyhow::Result<Principal> {
    let from_system = || std::env::var("USER").ok().filter(|name| is_name(name));
    match name {
        Some(name) if is_name(name) => Ok(Principal::human(format!("console:{name}"))),
        Some(_) => bail!("--as: a name has 1 to {MAX_NAME} letters, digits or `._-@`"),
        None => Ok(Principal::human(format!("console:{}", from_system().unwrap_or_else(|| "you".to_owned())))),
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(|c| c.is_alphanumeric() || "._-@".contains(c))
}

/// A fresh thread of the surface, or the one that is meant by `given`.
///
/// # Errors
/// None or several are meant, it belongs to another surface or another agent, or it was deleted.
pub async fn choose_thread(
    runtime: &Runtime,
    given: Option<&str>,
    surface: &str,
    agent: &str,
) -> anyhow::Result<ThreadId> {
    let store = &runtime.parts().store;
    let Some(given) = given else {
        return Ok(format!("{surface}:{}", uuid::Uuid::now_v7()).parse()?);
    };
    let thread: ThreadId = match given.parse() {
        Ok(thread) => thread,
        Err(_) => match store.find(given).await?.as_slice() {
            [] => {
                bail!("no thread is called `{}`; `twelve threads list` shows them", crate::agent::visible::line(given))
            }
            [one] => store.summary(*one).await?.thread,
            many => bail!("`{given}` could be any of {} threads; write more of it", many.len()),
        },
    };
    if thread.surface() != surface {
        let how = match thread.surface() {
            console::SURFACE => "go on with it by `twelve chat`",
            _ => "look at it with `twelve threads show`, decide with `twelve approvals`",
        };
        bail!("`{thread}` is not a thread of this command (`{surface}:…`); {how}");
    }
    match store.summary(thread.short()).await {
        Ok(summary) if summary.agent != agent => {
            bail!("`{thread}` belongs to the agent `{}`: {}", summary.agent, screen::come_back(&summary.agent, &thread))
        }
        Ok(_) | Err(StoreError::Unknown(_)) => Ok(thread),
        Err(e) => Err(e).context(format!("the thread `{thread}`")),
    }
}

/// Colour only for people who want it.
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether nothing is at work in a thread and nothing is left to be shown.
pub fn at_rest(thread: &Thread) -> bool {
    thread.runnable().next().is_none() && thread.status() != Status::Running
}

/// Where lines go.
struct Screen {
    print: Print,
    json: bool,
    colour: bool,
}

impl Screen {
    fn posting(&mut self, outbound: &Outbound, now: Timestamp) {
        if self.json {
            self.object(&screen::posting_json(outbound, now));
        } else {
            let text = screen::render(&screen::posting(outbound, now), self.colour);
            (self.print)(&text);
        }
    }

    /// `kind` is for programs: `step`, `told`, `refused`.
    fn lines(&mut self, kind: &str, lines: &[Line]) {
        if lines.is_empty() {
            return;
        }
        if self.json {
            self.object(&json!({"type": kind, "text": screen::render(lines, false)}));
        } else {
            (self.print)(&screen::render(lines, self.colour));
        }
    }

    fn object(&mut self, object: &Value) {
        (self.print)(&format!("{object}\n"));
    }
}

struct Chat {
    runtime: Runtime,
    agent: String,
    thread: ThreadId,
    short: ShortId,
    me: Principal,
    screen: Screen,
    demo: bool,
    /// What an earlier process left open is being drawn.
    greeting: bool,
    /// The card of each approval as it was drawn last.
    shown: HashMap<ApprovalId, Card>,
    steps: Steps,
    /// The next line is the new arguments of this approval.
    editing: Option<ApprovalId>,
    /// What the next line starts with, to be edited.
    initial: String,
    /// Ctrl-C was pressed once.
    warned: bool,
}

impl Chat {
    fn now(&self) -> Timestamp {
        self.runtime.parts().clock.now()
    }

    /// The thread as it stands; `None` before the first message.
    async fn look(&self) -> Result<Option<Thread>, DeliverError> {
        match self.runtime.thread(self.short).await {
            Ok(thread) => Ok(Some(thread)),
            Err(DeliverError::Store(StoreError::Unknown(_))) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn rests(&self) -> Result<bool, DeliverError> {
        Ok(self.look().await?.as_ref().is_none_or(at_rest))
    }

    async fn greet(&mut self, about: &str) -> anyhow::Result<()> {
        let thread = self.look().await?;
        if self.screen.json {
            let version = thread.as_ref().map_or(0, |t| t.version);
            self.screen.object(&json!({
                "type": "thread", "thread": self.thread, "agent": self.agent, "version": version,
            }));
        } else {
            let mut lines = vec![Line::new(Style::Strong, &format!("{}: {about}", self.agent))];
            lines.push(Line::new(Style::Dim, &format!("{}, you are {}", self.thread, self.me)));
            if let Ok(agent) = self.runtime.parts().agents.get(&self.agent)
                && let Ok((provider, _)) = self.runtime.parts().providers.pick(&agent.spec)
                && provider.name() == "scripted"
            {
                lines.push(Line::plain("No model is configured: the answers follow a script, and say so."));
            }
            match &thread {
                Some(thread) => lines.push(Line::plain(&format!("Going on: the thread {}.", screen::standing(thread)))),
                None => lines.push(Line::plain("Write what you want, or /help. Ctrl-D leaves; what waits is kept.")),
            }
            self.screen.lines("told", &lines);
        }
        if let Some(thread) = thread {
            self.steps.resume(&thread);
            self.greeting = true;
            for outbound in open_things(&thread) {
                self.show(outbound);
            }
            self.greeting = false;
        }
        Ok(())
    }

    /// Draws a posting and tells the runtime that it was.
    fn draw(&mut self, Shown { post, done }: Shown) {
        if post.thread == self.thread {
            self.show(post.outbound);
        } else {
            self.elsewhere(&post.thread, &post.outbound);
        }
        // The runtime may have stopped waiting.
        let _ = done.send(());
    }

    fn show(&mut self, outbound: Outbound) {
        let now = self.now();
        if let Outbound::Card(card) = &outbound {
            // A card is posted again for each event that concerns it, also if nothing of it looks different.
            if self.shown.get(&card.approval.id) == Some(card) {
                return;
            }
            self.screen.posting(&outbound, now);
            let first = self.shown.is_empty() && matches!(card.state, CardState::Pending { .. });
            self.shown.insert(card.approval.id, (**card).clone());
            if self.demo && first {
                let hints: &[&str] = if self.greeting { &DEMO_AGAIN } else { &DEMO_FIRST };
                let lines: Vec<Line> = hints.iter().map(|hint| Line::new(Style::Dim, hint)).collect();
                self.screen.lines("told", &lines);
            }
            return;
        }
        self.screen.posting(&outbound, now);
    }

    /// Another thread of a terminal came to life here: it is named, and decided where it lives.
    fn elsewhere(&mut self, thread: &ThreadId, outbound: &Outbound) {
        let what = match outbound {
            Outbound::Card(card) => card.headline(),
            Outbound::Answer { agent, text } => format!("{agent}: {text}"),
            Outbound::Question { question, .. } => format!("a question: {}", question.text),
            Outbound::Unknown { title, .. } => format!("result unknown: {title}"),
            Outbound::Notice { text } => text.clone(),
            Outbound::QuestionClosed { .. } => return,
        };
        self.screen.lines("elsewhere", &screen::prose(Style::Dim, &format!("- in {thread}: "), &what));
    }

    fn tell(&mut self, change: &runtime::Change) {
        if change.thread != self.short {
            return;
        }
        for (seq, bytes) in (change.first..).zip(change.events.iter()) {
            if let Ok(event) = Event::decode(bytes, seq) {
                let lines = self.steps.tell(self.short, &event);
                self.screen.lines("step", &lines);
            }
        }
    }

    fn missed(&mut self) {
        self.screen.lines("step", &[Line::new(Style::Dim, "- some steps went by too fast to be shown; see /history")]);
    }

    fn interrupted(&mut self) -> Flow {
        if self.warned {
            return Flow::Leave;
        }
        self.warned = true;
        self.editing = None;
        self.told("Press Ctrl-C again, or Ctrl-D, to leave; what waits is kept. /stop ends the run.");
        Flow::On
    }

    fn told(&mut self, text: &str) {
        self.screen.lines("told", &[Line::plain(text)]);
    }

    fn refused(&mut self, text: &str) {
        self.screen.lines("refused", &screen::refused(text));
    }

    fn is_urgent(&self, line: &str) -> bool {
        self.editing.is_none() && command::parse(line, self.demo).map_or(true, |command| command.is_urgent())
    }

    async fn take(&mut self, line: &str) -> Flow {
        self.warned = false;
        if let Some(id) = self.editing.take() {
            if line.trim().is_empty() {
                self.told("The arguments stay as they are.");
            } else {
                self.edit(id, line.trim().to_owned()).await;
            }
            return Flow::On;
        }
        match command::parse(line, self.demo) {
            Ok(Command::Quit) => return Flow::Leave,
            Ok(command) => {
                if let Err(error) = self.obey(command).await {
                    self.refused(&format!("That was not done: {error}."));
                }
            }
            Err(words) => self.refused(&words),
        }
        Flow::On
    }

    async fn obey(&mut self, command: Command) -> Result<(), DeliverError> {
        let by = self.me.clone();
        match command {
            Command::Nothing | Command::Quit => {}
            Command::Text(text) => self.said(text).await?,
            Command::Approve { id, note } => self.vote(id, Ballot::Approve { note }).await?,
            Command::Deny { id, reason } => self.vote(id, Ballot::Deny { reason }).await?,
            Command::Edit { id, change } => self.change(id, change).await?,
            Command::Answer { id, text } => self.answer(id, text).await?,
            Command::Mark { id, mark } => {
                let Some(call) = self.the_lost_call(id).await? else { return Ok(()) };
                self.deliver(Step::Mark { call, by, groups: Vec::new(), mark }).await?;
            }
            Command::Pause => self.deliver(Step::Pause { by, why: String::new() }).await?,
            Command::Resume => self.deliver(Step::Resume { by }).await?,
            Command::Stop => self.deliver(Step::Stop { by, why: String::new() }).await?,
            Command::Cancel => self.deliver(Step::Cancel { by, why: String::new() }).await?,
            Command::Status => match self.look().await? {
                Some(thread) => self.screen.lines("told", &screen::status(&thread)),
                None => self.told("Nothing was said here yet."),
            },
            Command::History => self.history().await?,
            Command::Help => {
                let demo = self.demo.then_some(&command::HELP_DEMO);
                let lines = command::HELP.iter().chain(demo).map(|line| Line::plain(&format!("  {line}")));
                let lines: Vec<Line> = lines.collect();
                self.screen.lines("told", &lines);
            }
            Command::Kill => {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            }
        }
        Ok(())
    }

    /// Plain text: an answer if something is asked, else a message.
    async fn said(&mut self, text: String) -> Result<(), DeliverError> {
        let thread = self.look().await?;
        let (questions, approvals) =
            thread.as_ref().map_or((0, 0), |t| (t.questions.len(), t.pending_approvals().count()));
        let letter = matches!(text.as_str(), "y" | "n" | "Y" | "N");
        match (questions, approvals) {
            (1, 0) => self.answer(None, text).await,
            (0, 1) if letter && text.eq_ignore_ascii_case("y") => {
                self.vote(None, Ballot::Approve { note: String::new() }).await
            }
            (0, 1) if letter => self.vote(None, Ballot::Deny { reason: String::new() }).await,
            _ if letter && questions + approvals > 1 => {
                self.refused("More than one thing is open, so say which: /approve <id>, /deny <id> or /answer <id>. /status lists them.");
                Ok(())
            }
            (1, _) if !letter => self.answer(None, text).await,
            (2.., _) => {
                self.refused("More than one question is open, so say which: /answer <id> <text>. /status lists them.");
                Ok(())
            }
            _ => {
                let delivered =
                    self.runtime.message(&self.thread, &self.agent, Said::by(self.me.clone(), text)).await?;
                self.heard(delivered.answer);
                Ok(())
            }
        }
    }

    async fn deliver(&mut self, input: Step) -> Result<(), DeliverError> {
        match self.runtime.deliver(self.short, input).await {
            Ok(delivered) => self.heard(delivered.answer),
            Err(DeliverError::Store(StoreError::Unknown(_))) => self.told("Nothing was said here yet."),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn heard(&mut self, answer: Answer) {
        match answer {
            // Whoever wants something else now is told the way out.
            Answer::Refused(refusal @ Refusal::NotAChoice { .. }) => {
                self.refused(&format!("{refusal} Or /stop, which ends the run."));
            }
            Answer::Refused(refusal) => self.refused(&refusal.to_string()),
            Answer::Accepted | Answer::Duplicate | Answer::Stale | Answer::Go { .. } => {}
        }
    }

    /// The approval that is meant: the given one, or the only one that is open.
    async fn the_approval(&mut self, given: Option<ApprovalId>) -> Result<Option<ApprovalId>, DeliverError> {
        if given.is_some() {
            return Ok(given);
        }
        let open: Vec<ApprovalId> =
            self.look().await?.iter().flat_map(|t| t.pending_approvals().map(|a| a.id).collect::<Vec<_>>()).collect();
        Ok(self.the_only(&open, "decision"))
    }

    async fn the_lost_call(&mut self, given: Option<CallId>) -> Result<Option<CallId>, DeliverError> {
        if given.is_some() {
            return Ok(given);
        }
        let open: Vec<CallId> = self
            .look()
            .await?
            .iter()
            .flat_map(|t| t.calls.iter().filter(|(_, call)| call.stage == Stage::Lost).map(|(id, _)| *id))
            .collect();
        Ok(self.the_only(&open, "mark"))
    }

    fn the_only<I: Copy + std::fmt::Display>(&mut self, open: &[I], what: &str) -> Option<I> {
        match open {
            [one] => return Some(*one),
            [] => self.refused(&format!("Nothing waits for a{} {what} here.", if what == "answer" { "n" } else { "" })),
            many => {
                let ids = many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                self.refused(&format!("{} wait for it, so say which: {ids}", many.len()));
            }
        }
        None
    }

    async fn vote(&mut self, given: Option<ApprovalId>, vote: Ballot) -> Result<(), DeliverError> {
        let Some(id) = self.the_approval(given).await? else { return Ok(()) };
        let Some(digest) = self.shown_digest(id).await? else { return Ok(()) };
        let by = self.me.clone();
        self.deliver(Step::Vote { approval: id, digest, by, groups: Vec::new(), vote, source: None }).await
    }

    /// The digest of what was last shown for an approval. What was not shown yet is shown now, and has to
    /// be decided again.
    async fn shown_digest(&mut self, id: ApprovalId) -> Result<Option<String>, DeliverError> {
        if let Some(card) = self.shown.get(&id) {
            return Ok(Some(card.approval.digest.prefix()));
        }
        let here = if id.thread == self.short { self.look().await? } else { None };
        match here.as_ref().and_then(|t| t.approvals.get(&id).map(|a| Card::of(t, a))) {
            Some(card) => {
                self.show(Outbound::Card(Box::new(card)));
                self.refused("It had not been shown here. Look at it, then decide again.");
            }
            None if id.thread != self.short => {
                self.refused("That belongs to another thread. `twelve approvals show` and `approve` work for any.");
            }
            None => self.refused(&crate::agent::Refusal::NoSuchApproval { id }.to_string()),
        }
        Ok(None)
    }

    async fn change(&mut self, given: Option<ApprovalId>, change: Change) -> Result<(), DeliverError> {
        let Some(id) = self.the_approval(given).await? else { return Ok(()) };
        if self.shown_digest(id).await?.is_none() {
            return Ok(());
        }
        let Some(args) = self.shown.get(&id).map(|card| card.approval.args.clone()) else { return Ok(()) };
        match change {
            Change::Ask => {
                // The same value in other words: what is not seen is edited as JSON writes it.
                let args = crate::agent::visible::json_text(&args.to_string());
                self.initial = args.clone();
                self.editing = Some(id);
                self.told("Write the arguments as they should be, as one line of JSON. They are now:");
                self.told(&format!("  {args}"));
            }
            Change::All(text) => self.edit(id, text).await,
            Change::Some(pairs) => match command::changed(&args, &pairs) {
                Ok(args) => self.edit(id, args.to_string()).await,
                Err(words) => self.refused(&words),
            },
        }
        Ok(())
    }

    /// Asks for these arguments instead. The text goes through the same checks as a model's.
    async fn edit(&mut self, id: ApprovalId, text: String) {
        let Some(tool) = self.shown.get(&id).map(|card| card.tool.clone()) else { return };
        let args = Box::new(self.runtime.propose(&tool, &text));
        if let Err(error) = self.vote(Some(id), Ballot::Edit { args }).await {
            self.refused(&format!("That was not done: {error}."));
        }
    }

    async fn answer(&mut self, given: Option<QuestionId>, text: String) -> Result<(), DeliverError> {
        let question = match given {
            Some(given) => given,
            None => {
                let open: Vec<QuestionId> =
                    self.look().await?.iter().flat_map(|t| t.questions.keys().copied().collect::<Vec<_>>()).collect();
                let Some(only) = self.the_only(&open, "answer") else { return Ok(()) };
                only
            }
        };
        let by = self.me.clone();
        self.deliver(Step::Answer { question, by, groups: Vec::new(), text, source: None }).await
    }

    async fn history(&mut self) -> Result<(), DeliverError> {
        let Some(thread) = self.look().await? else {
            self.told("Nothing was said here yet.");
            return Ok(());
        };
        let from = thread.version.saturating_sub(HISTORY);
        let loaded = self.runtime.parts().store.load(self.short, from).await?;
        let mut lines = Vec::new();
        if from > 0 {
            lines.push(Line::new(Style::Dim, &format!("  {from} older events: twelve threads show {}", self.short)));
        }
        for (seq, bytes) in (from + 1..).zip(&loaded.events) {
            lines.push(match Event::decode(bytes, seq) {
                Ok(event) => screen::history_line(&event),
                Err(error) => Line::new(Style::Bad, &format!("  {error}")),
            });
        }
        self.screen.lines("told", &lines);
        Ok(())
    }

    /// Says what waits, lets running tools finish within the bound, and goes on drawing meanwhile.
    async fn leave(&mut self, bound: Duration, postings: &mut mpsc::Receiver<Shown>) -> anyhow::Result<()> {
        let runtime = self.runtime.clone();
        let drained = runtime.drain(bound);
        tokio::pin!(drained);
        // Read before the store closes; what running tools still do to it is shown by whoever comes back.
        let thread = self.look().await?;
        let left = loop {
            tokio::select! {
                biased;
                Some(shown) = postings.recv() => self.draw(shown),
                left = &mut drained => break left?,
            }
        };
        // The demo's directory goes with it: there is nothing to come back to.
        let mut lines = if self.demo { Vec::new() } else { screen::farewell(thread.as_ref()) };
        if left > 0 {
            let words = format!("{left} calls were still at work after {bound:?}; the next start takes care of them.");
            lines.push(Line::plain(&words));
        }
        self.screen.lines("left", &lines);
        Ok(())
    }
}

/// Everything that waits for people in a thread, as it is posted.
fn open_things(thread: &Thread) -> Vec<Outbound> {
    use crate::agent::Posting;
    let cards = thread.approvals.values().filter(|a| a.is_live()).map(|a| Posting::Card { approval: a.id });
    let questions = thread.questions.keys().map(|question| Posting::Question { question: *question });
    let lost = thread.calls.iter().filter(|(_, call)| call.stage == Stage::Lost);
    let lost = lost.map(|(call, _)| Posting::Unknown { call: *call });
    let postings = cards.chain(questions).chain(lost);
    postings.filter_map(|posting| crate::platform::outbound(thread, &posting, None)).collect()
}
