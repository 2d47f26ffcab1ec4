//! `twelve demo`: a deployment story with a real local service, a real agent process and a real SIGKILL.
//!
//! Two processes. This one, the parent, runs the service that is deployed ([`crate::demo_service`]: HTTP on
//! loopback, a ledger in a file) and outlives the other: a `twelve serve` (or, at the terminal, a `twelve
//! chat`) of the same executable, with a configuration of its own, which is started again when it is
//! killed. So the ledger is kept outside of the process that could lie about it.
//!
//! It needs no key and no network beyond loopback, and takes nothing from the caller's settings: the child
//! works in the demo's directory, without any variable that would be a setting.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::words;
use crate::agent::verify_chain;
use crate::agent::visible::line as harmless;
use crate::config::layers::PLAIN_NAMES;
use crate::demo_service::{self, LedgerLine};
use crate::store::{Filter, MAX_PAGE, Store};
use crate::tools::directory::Directory;

/// The thread of the demo: the same in every process of it.
const THREAD: &str = "console:demo";
/// What runs before the story.
const FIRST_VERSION: &str = "v1.2.2";
/// How long the whole story may take; it takes about two seconds.
const STORY: Duration = Duration::from_secs(60);
/// How long one thing in it may be waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// A chat that dies this often is not what the demo shows.
const MAX_KILLS: u32 = 20;
const SIGKILL: i32 = 9;
/// The port of the web console, as the README has it.
const DEFAULT_PORT: u16 = 8000;

/// One line on stdout.
macro_rules! say {
    ($($words:tt)*) => {
        super::input::print(&(format!($($words)*) + "\n"))
    };
}

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Play the whole story without a person, and check it.
    #[arg(long)]
    pub script: bool,
    /// Play at this terminal instead of in a browser.
    #[arg(long, conflicts_with = "script")]
    terminal: bool,
    /// The port of the web console; 0 takes any free one.
    #[arg(long, env = "API_PORT", default_value_t = DEFAULT_PORT)]
    port: u16,
    /// Where to play: a directory that is empty or does not exist. Otherwise a fresh temporary one.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the directory of the demo: store, ledger, configuration.
    #[arg(long)]
    keep: bool,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let port = if args.script || args.terminal { 0 } else { free_port(args.port)? };
    let stage = Stage::set(args.dir.as_deref(), port).await?;
    let result = if args.script {
        say!("The demo plays in {}.", stage.dir.display());
        match tokio::time::timeout(STORY, script(&stage)).await {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("the story did not end within {STORY:?}")),
        }
    } else if args.terminal {
        play_at_terminal(&stage).await
    } else {
        play_in_browser(&stage, port).await
    };
    match result {
        Ok(()) => stage.clear(args.keep)?,
        Err(error) => {
            let kept = format!("the demo's directory is kept for a look: {}", stage.dir.display());
            return Err(error.context(kept));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Directory and service.
struct Stage {
    dir: PathBuf,
    /// Whether the directory was made by this process.
    made: bool,
    address: std::net::SocketAddr,
    service: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.service.abort();
    }
}

impl Stage {
    async fn set(dir: Option<&Path>, port: u16) -> anyhow::Result<Self> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => std::env::temp_dir().join(format!("twelve-demo-{}", uuid::Uuid::now_v7())),
        };
        let made = !dir.exists();
        std::fs::create_dir_all(&dir).with_context(|| format!("the directory {} cannot be made", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("the directory {}", dir.display()))?;
        if std::fs::read_dir(&dir)?.next().is_some() {
            bail!("{} is not empty; the demo plays in a directory of its own", dir.display());
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port on loopback for the service")?;
        let address = listener.local_addr()?;
        let files = dir.join("service");
        for service in ["api", "web"] {
            for environment in ["staging", "production"] {
                demo_service::seed(&files, service, environment, FIRST_VERSION)?;
            }
        }
        std::fs::write(dir.join("twelve.toml"), settings(address, port))?;
        Directory::at(&dir.join("data")).import_sample().context("the customers of the demo cannot be written")?;
        let service = tokio::spawn(demo_service::serve(files, listener));
        Ok(Self { dir, made, address, service })
    }

    fn ledger(&self) -> anyhow::Result<Vec<LedgerLine>> {
        demo_service::ledger(&self.dir.join("service")).context("the ledger cannot be read")
    }

    /// The version that the service itself reports.
    async fn version(&self, service: &str, environment: &str) -> anyhow::Result<String> {
        let url = format!("http://{}/{service}/{environment}/version", self.address);
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let answer: Value = client.get(url).send().await?.error_for_status()?.json().await?;
        Ok(answer.get("version").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// The chat of the demo.
    fn chat(&self, flag: &str) -> anyhow::Result<Command> {
        self.twelve(&["chat", "deployment", "--thread", THREAD, "--as", "you", flag])
    }

    /// This executable, in the demo's directory, with the demo's settings and no others.
    fn twelve(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("this program cannot be found")?);
        command.args(args).arg("--config").arg(self.dir.join("twelve.toml"));
        command.current_dir(&self.dir).kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let is_setting = ["TWELVE_", "OPENAI_", "ANTHROPIC_"].iter().any(|prefix| text.starts_with(prefix));
            if is_setting || PLAIN_NAMES.iter().any(|(plain, _)| *plain == text) {
                command.env_remove(&name);
            }
        }
        Ok(command)
    }

    /// Checks the hash chain of every log. Returns how many threads and events there are.
    async fn audit(&self) -> anyhow::Result<(usize, u64)> {
        let store = Store::open_read_only(&self.dir.join("data").join("twelve.db")).await?;
        let (mut threads, mut events, mut after) = (0, 0, None);
        loop {
            let page = store.list(&Filter::everything(), after, MAX_PAGE).await?;
            ensure!(page.damaged.is_empty(), "{} threads cannot be read back", page.damaged.len());
            for summary in &page.items {
                let loaded = store.load(summary.thread.short(), 0).await?;
                if let Some(error) = verify_chain(&loaded.events, loaded.summary.version, loaded.summary.head) {
                    bail!("the log of {} is not what was written: {error}", summary.thread);
                }
                threads += 1;
                events += loaded.summary.version;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        store.close().await?;
        Ok((threads, events))
    }

    fn clear(&self, keep: bool) -> anyhow::Result<()> {
        if keep || !self.made {
            say!("Kept: {}", self.dir.display());
            return Ok(());
        }
        std::fs::remove_dir_all(&self.dir).with_context(|| format!("{} cannot be removed", self.dir.display()))
    }
}

/// The settings of the child.
fn settings(address: std::net::SocketAddr, port: u16) -> String {
    let mut text = format!(
        "# Written by `twelve demo`.\n[log]\nlevel = \"warn\"\n\n[store]\ndurability = \"disk\"\n\n[model]\nprovider = \"scripted\"\n\n\
         # Whoever connects from this machine is let in without a token. For this machine only.\n\
         [http]\nhost = \"127.0.0.1\"\nport = {port}\ntrust_loopback = true\n\n\
         # There is one person here, who asks and decides.\n[approvals]\nrequester_may_approve = \"always\"\n\n\
         # Mails are written to data/outbox.\n[tools.email]\nallow = [\"*@example.com\"]\n"
    );
    for service in ["api", "web"] {
        for environment in ["staging", "production"] {
            text += &format!(
                "\n[tools.services.{service}.environments.{environment}]\nstatus = \"http://{address}/{service}/{environment}/health\"\nversion = {{ url = \"http://{address}/{service}/{environment}/version\", pointer = \"/version\" }}\n"
            );
        }
        text += &format!(
            "\n[tools.services.{service}.deploy]\nversions = 'v\\d+\\.\\d+\\.\\d+'\nsettle = \"10s\"\nhttp = {{ url = \"http://{address}/{{service}}/{{environment}}/deploy\", body = {{ version = \"{{version}}\" }} }}\n"
        );
    }
    text
}

/// With a person in a browser. The service is the child; when it is killed, it is started again.
async fn play_in_browser(stage: &Stage, port: u16) -> anyhow::Result<()> {
    let asked_to_end = super::input::asked_to_end()?;
    tokio::pin!(asked_to_end);
    let url = format!("http://127.0.0.1:{port}");
    let mut kills = 0;
    loop {
        // It ends when this end of its input is closed, however this process ends.
        let mut command = stage.twelve(&["serve", "--demo"])?;
        let mut child = command.stdin(Stdio::piped()).spawn().context("the service cannot be started")?;
        // Taken out: waiting for the child would close it.
        let open = child.stdin.take();
        let pid = child.id().context("the service ended at once")?;
        let ready = tokio::select! {
            ready = is_ready(&url) => ready,
            ended = child.wait() => Err(anyhow::anyhow!("the service ended with {}", ended?)),
        };
        ready?;
        if kills == 0 {
            say!("{}", welcome(stage, &url, pid));
        } else {
            say!("== The agent's process was killed with SIGKILL. It runs again as {pid}; reload the page. ==\n");
        }
        let status = tokio::select! {
            status = child.wait() => status?,
            () = &mut asked_to_end => {
                // Not by a signal: Ctrl-C at a terminal has reached it already, and a second one is impatience.
                drop(open);
                tokio::time::timeout(PATIENCE, child.wait()).await.context("the service does not end")??
            }
        };
        if status.signal() != Some(SIGKILL) {
            ensure!(status.success(), "the service ended with {status}");
            break;
        }
        kills += 1;
        ensure!(kills <= MAX_KILLS, "the service was killed {kills} times");
    }
    farewell(stage).await
}

fn welcome(stage: &Stage, url: &str, pid: u32) -> String {
    format!(
        "\nAgents that ask before they act, and two small services that really run here: api and web,\n\
         in staging and production, all at {FIRST_VERSION}. No key: the answers follow a script.\n\
         \n    {url}          chat with an agent\n    \
         {url}/inbox    what waits for a decision\n    \
         {url}/docs     the REST API\n\
         \n1. Write to the deployment agent:  deploy api v1.2.3 to staging\n\
         2. A card comes; nothing runs without you. Kill the agent's process:  kill -9 {pid}\n\
         3. It is started again, the card is still good. Approve it: it is deployed, once.\n\
         \nIt is for this machine only: whoever connects from it is you, also through a proxy. In earnest, `twelve serve`\n\
         wants a token or a sign-in link.\n\
         \nThe support agent knows customers (\"who is ada@example.com?\"). Everything plays in\n\
         {}. Ctrl-C ends it and shows what was really done.\n",
        stage.dir.display()
    )
}

/// Asks until the service answers.
async fn is_ready(url: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let asked = async {
        while !client.get(format!("{url}/healthz")).send().await.is_ok_and(|answer| answer.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.with_context(|| format!("nothing answers at {url}"))
}

/// The port, if it is free. For 0, and where the usual one is taken, another that is.
fn free_port(wanted: u16) -> anyhow::Result<u16> {
    let take = |port| std::net::TcpListener::bind(("127.0.0.1", port)).and_then(|taken| taken.local_addr());
    match take(wanted) {
        Ok(address) => Ok(address.port()),
        Err(e) if wanted == DEFAULT_PORT => {
            say!("Port {wanted} is not free ({e}), so another one is taken.");
            Ok(take(0).context("no port on loopback is free")?.port())
        }
        Err(e) => bail!("port {wanted} on 127.0.0.1 is not free ({e}); leave --port out, or give another one"),
    }
}

/// With a person at the terminal.
async fn play_at_terminal(stage: &Stage) -> anyhow::Result<()> {
    say!(
        "An agent that deploys, and two small services that really run here: api and web,\n\
         in staging and production, all at {FIRST_VERSION}. It looks first and asks before acting.\n\
         \nType, one after the other:\n\
         \n    deploy api v1.2.3 to staging    a card comes; nothing runs without you\n    \
         /kill                           SIGKILL for the agent; the card outlives it\n    \
         /approve                        now it runs, once\n\
         \nAlso: /deny <reason>, /edit version=v1.2.9, is web healthy?, /help, /quit.\n\
         It plays in {}.\n",
        stage.dir.display()
    );
    // Ctrl-C is the chat's business; this process only waits for it.
    let ignore = tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    let mut kills = 0;
    loop {
        let mut child = stage.chat("--demo")?.spawn().context("the chat cannot be started")?;
        let status = child.wait().await?;
        if status.signal() != Some(SIGKILL) {
            ensure!(status.success(), "the chat ended with {status}");
            break;
        }
        kills += 1;
        ensure!(kills <= MAX_KILLS, "the chat was killed {kills} times");
        say!("\n== The agent's process was killed with SIGKILL. It starts again, same thread. ==\n");
    }
    ignore.abort();
    farewell(stage).await
}

/// What was really done, and whether the logs are whole.
async fn farewell(stage: &Stage) -> anyhow::Result<()> {
    say!("\nThe ledger of the service, which no agent writes:");
    let ledger = stage.ledger()?;
    for line in &ledger {
        say!("  {}", ledger_words(line));
    }
    if ledger.is_empty() {
        say!("  nothing was deployed");
    }
    if stage.dir.join("data").join("twelve.db").exists() {
        let (threads, events) = stage.audit().await?;
        let (threads, events) = (words::count(threads, "thread"), words::count(events as usize, "event"));
        say!("The logs: {threads}, {events}, every one in its place in the hash chain.");
    }
    Ok(())
}

fn ledger_words(line: &LedgerLine) -> String {
    let LedgerLine { service, environment, from, version, key } = line;
    format!("{service} in {environment}: {from} -> {version}  (key {key})")
}

/// Without a person: every step is checked.
async fn script(stage: &Stage) -> anyhow::Result<()> {
    let mut chat = Chat::start(stage)?;

    chapter(1, "A deployment is approved, although the process is killed while it waits");
    chat.say("is api healthy in staging?").await?;
    let answer = chat.until("the status", |o| kind(o) == "answer").await?;
    ensure!(text(&answer, "answer").contains("api"), "the answer is not about api: {answer}");
    chat.say("deploy api v1.2.3 to staging").await?;
    let card = chat.until("the card", is_pending).await?;
    ensure!(text(&card, "text").contains(&format!("{FIRST_VERSION} -> v1.2.3")), "the card shows no plan: {card}");
    ensure!(stage.ledger()?.is_empty(), "something was deployed before anybody approved");
    chat.kill().await?;
    tell("The process was killed with SIGKILL while it waited. It is started again.");
    let mut chat = Chat::start(stage)?;
    let again = chat.until("the same card after the restart", is_pending).await?;
    for part in ["id", "digest", "revision"] {
        ensure!(again.get(part) == card.get(part), "the card has another {part} after the restart");
    }
    tell("The request is still open, with the same digest.");
    chat.say("/approve looks good").await?;
    let answer = chat.until("the answer", |o| kind(o) == "answer").await?;
    ensure!(text(&answer, "answer").starts_with("Deployed"), "it was not deployed: {answer}");
    let ledger = stage.ledger()?;
    ensure!(ledger.len() == 1, "the ledger has {} lines instead of one", ledger.len());
    deployed(&ledger, 0, "api", "staging", "v1.2.3")?;
    ensure!(stage.version("api", "staging").await? == "v1.2.3", "the service does not run v1.2.3");
    tell("The ledger has exactly one line, and the service itself says v1.2.3.");

    chapter(2, "A deployment is denied with a reason");
    chat.say("deploy web v2.0.0 to production").await?;
    chat.until("the card", is_pending).await?;
    chat.say("/deny not on a Friday").await?;
    let answer = chat.until("the answer", |o| kind(o) == "answer").await?;
    ensure!(text(&answer, "answer").contains("not on a Friday"), "the agent was not told why: {answer}");
    ensure!(stage.ledger()? == ledger, "something was deployed although it was denied");
    ensure!(stage.version("web", "production").await? == FIRST_VERSION, "web was changed although it was denied");
    tell("Nothing was deployed, and the agent says why.");

    chapter(3, "A deployment is changed by the approver");
    chat.say("deploy api v1.2.4 to production").await?;
    let first = chat.until("the card", is_pending).await?;
    chat.say("/edit version=v1.2.3").await?;
    let second = chat.until("the second revision", |o| is_pending(o) && o.get("revision") == Some(&2.into())).await?;
    ensure!(second.get("id") == first.get("id"), "the edit made another request");
    ensure!(second.get("digest") != first.get("digest"), "the edit did not change the digest");
    ensure!(second.get("votes") == Some(&0.into()), "the votes were not reset");
    ensure!(second.pointer("/args/version") == Some(&"v1.2.3".into()), "the card has not the new version: {second}");
    ensure!(text(&second, "revision_note").contains("v1.2.4 -> v1.2.3"), "the card shows no change: {second}");
    ensure!(stage.ledger()? == ledger, "the edit alone deployed something");
    chat.say("/approve").await?;
    let answer = chat.until("the answer", |o| kind(o) == "answer").await?;
    ensure!(text(&answer, "answer").contains("v1.2.3"), "the answer does not name what ran: {answer}");
    let ledger = stage.ledger()?;
    ensure!(ledger.len() == 2, "the ledger has {} lines instead of two", ledger.len());
    deployed(&ledger, 1, "api", "production", "v1.2.3")?;
    tell("What ran is what was shown: v1.2.3.");

    chapter(4, "The log proves what happened");
    chat.finish().await?;
    let (threads, events) = stage.audit().await?;
    ensure!(threads == 1 && events > 0, "there are {threads} threads instead of one");
    tell(&format!("{events} events, every one in its place in the hash chain. The ledger:"));
    for line in &ledger {
        say!("    {}", ledger_words(line));
    }
    say!("\n4 of 4 chapters went as told.");
    Ok(())
}

fn chapter(number: u32, title: &str) {
    say!("\n== {number}. {title}");
}

fn tell(words: &str) {
    say!("  => {words}");
}

fn kind(object: &Value) -> &str {
    object.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn text<'o>(object: &'o Value, name: &str) -> &'o str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn is_pending(object: &Value) -> bool {
    kind(object) == "card" && text(object, "state") == "pending"
}

fn deployed(ledger: &[LedgerLine], at: usize, service: &str, environment: &str, version: &str) -> anyhow::Result<()> {
    let line = ledger.get(at).context("the ledger is too short")?;
    let as_told = line.service == service && line.environment == environment && line.version == version;
    ensure!(as_told, "the ledger says: {}", ledger_words(line));
    Ok(())
}

/// The chat as a child process, driven by lines.
struct Chat {
    child: Child,
    keyboard: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Chat {
    fn start(stage: &Stage) -> anyhow::Result<Self> {
        let log = stage.dir.join("chat.log");
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = stage.chat("--json-lines")?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().context("the chat cannot be started")?;
        let keyboard = child.stdin.take().context("the chat has no stdin")?;
        let lines = BufReader::new(child.stdout.take().context("the chat has no stdout")?).lines();
        Ok(Self { child, keyboard, lines, log })
    }

    async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        say!("\n  you> {line}");
        self.keyboard.write_all(format!("{line}\n").as_bytes()).await.context("the chat does not listen any more")
    }

    /// Reads on until what is expected comes. A refusal never is.
    async fn until(&mut self, what: &str, found: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let read = async {
            while let Some(line) = self.lines.next_line().await? {
                let object: Value = serde_json::from_str(&line)
                    .with_context(|| format!("the chat wrote something else than JSON: {}", harmless(&line)))?;
                for line in text(&object, "text").lines() {
                    say!("    | {}", harmless(line));
                }
                ensure!(kind(&object) != "refused", "the chat refused: {}", text(&object, "text").trim_end());
                if found(&object) {
                    return Ok(object);
                }
            }
            bail!("the chat ended; the end of its log: {}", self.end_of_log())
        };
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(result) => result.with_context(|| format!("while waiting for {what}")),
            Err(_) => bail!("{what} did not come within {PATIENCE:?}; the end of the log: {}", self.end_of_log()),
        }
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<String> = log.lines().rev().take(3).map(harmless).collect();
        if lines.is_empty() { "empty".to_owned() } else { lines.into_iter().rev().collect::<Vec<_>>().join(" / ") }
    }

    /// `kill -9`.
    async fn kill(mut self) -> anyhow::Result<()> {
        ensure!(self.child.try_wait()?.is_none(), "the chat had ended before it was killed");
        self.child.start_kill()?;
        let status: ExitStatus = self.child.wait().await?;
        ensure!(status.signal() == Some(SIGKILL), "the chat was not killed, it ended with {status}");
        Ok(())
    }

    /// The end of its input: it settles and leaves by itself.
    async fn finish(mut self) -> anyhow::Result<()> {
        drop(self.keyboard);
        let end = async {
            while self.lines.next_line().await?.is_some() {}
            self.child.wait().await
        };
        let status = tokio::time::timeout(PATIENCE, end).await.context("the chat does not end")??;
        ensure!(status.success(), "the chat ended with {status}");
        Ok(())
    }
}
