//! `twelve doctor`: looks at everything that the program needs, says how it is and what to do next.
//!
//! Each check is a function that gives lines; none of them stops the others. What it leaves behind: nothing.
//! It writes a file into the data directory and takes it away again, measures an append in a store of its
//! own beside the real one, and asks each model for one short word (unless `--offline`).
//!
//! A line is `ok`; `off`: not set up, and that is fine; `warn`: it works, but look at it; `failed`. Only the
//! last makes the exit code 1.

mod slack;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::fs::{Access, access, statvfs};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::healthcheck;
use super::inspect::{self, now, say, say_json};
use super::words;
use crate::agent::*;
use crate::app::{self, Blueprint};
use crate::config::{self, Config, Loaded, ProviderKind};
use crate::http::secret_file;
use crate::llm::Provider;
use crate::store::{Append, Durability, Filter, Store, StoreConfig, StoreError};
use crate::tools::{CallContext, ToolsConfig};

/// How long a model may take for one word.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(10);
/// Tokens that the answer may have. Enough for models that think first: some refuse a request that
/// leaves them too few, which would look like a failure here.
const PROBE_TOKENS: u32 = 256;
/// Free space below which the store is about to fail, and below which somebody should look, in bytes.
const NO_SPACE: u64 = 64 << 20;
const LOW_SPACE: u64 = 1 << 30;
/// A store larger than this is not read through here, in bytes: that would take longer than people wait.
const MAX_CHECKED: u64 = 1 << 30;
/// Damages that are named at most.
const MAX_DAMAGES: usize = 3;
/// An append slower than this is worth a look at the disk. Consumer SSDs sync in about 5 ms.
const SLOW_APPEND: Duration = Duration::from_millis(100);
/// How far the log may be ahead of the clock: two machines' clocks differ by less.
const MAX_SKEW_MS: u64 = 60_000;
/// 2026-01-01T00:00:00Z; no clock that is right says less.
const WRITTEN: Timestamp = Timestamp(1_767_225_600_000);
/// Services that are looked at at the same time.
const PROBES: usize = 16;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Ask nobody outside this machine: neither models nor services nor Slack.
    #[arg(long)]
    offline: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Off,
    Warn,
    Failed,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Failed => "failed",
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Line {
    check: String,
    state: State,
    says: String,
    /// What to do; absent where there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Line {
    fn new(check: &str, state: State, says: impl Into<String>) -> Self {
        Self { check: check.to_owned(), state, says: says.into(), next: None }
    }

    fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

fn ok(check: &str, says: impl Into<String>) -> Line {
    Line::new(check, State::Ok, says)
}

fn off(check: &str, says: impl Into<String>) -> Line {
    Line::new(check, State::Off, says)
}

fn warn(check: &str, says: impl Into<String>) -> Line {
    Line::new(check, State::Warn, says)
}

fn failed(check: &str, says: impl Into<String>) -> Line {
    Line::new(check, State::Failed, says)
}

/// Where the findings go as they are made.
struct Report {
    json: bool,
    secrets: SecretFilter,
    lines: Vec<Line>,
}

impl Report {
    fn add(&mut self, lines: impl IntoIterator<Item = Line>) -> anyhow::Result<()> {
        for mut line in lines {
            for text in std::iter::once(&mut line.says).chain(&mut line.next) {
                *text = self.secrets.clean(text).replace('\n', " ");
            }
            if !self.json {
                say(&format!("{:<7} {:<16} {}\n", line.state.word(), line.check, line.says))?;
                if let Some(next) = &line.next {
                    say(&format!("{:24} -> {next}\n", ""))?;
                }
            }
            self.lines.push(line);
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<ExitCode> {
        let count = |state| self.lines.iter().filter(|line| line.state == state).count();
        let (failures, warnings) = (count(State::Failed), count(State::Warn));
        if self.json {
            say_json(&json!({ "ok": failures == 0, "checks": self.lines }))?;
        } else {
            let warnings = words::count(warnings, "warning");
            say(&match failures {
                0 => format!("\nNothing failed, {warnings}.\n"),
                _ => format!("\n{failures} failed, {warnings}.\n"),
            })?;
        }
        Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Reads the configuration itself: where it cannot be read, that is what is to be said.
pub async fn run(args: Args, loaded: Result<Loaded, config::Problems>) -> anyhow::Result<ExitCode> {
    let secrets = loaded.as_ref().map(Loaded::secret_filter).unwrap_or_default();
    let mut report = Report { json: args.json, secrets, lines: Vec::new() };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(config::Problems(problems)) => {
            let next = "mend it; `twelve config check` says the same, `twelve config default` shows every setting";
            report.add(problems.into_iter().map(|problem| failed("configuration", problem).next(next)))?;
            return report.finish();
        }
    };
    report.add([configuration(&loaded)])?;
    let config = loaded.config.clone();
    let space = data_directory(&config.app.data_dir);
    let usable = space.iter().all(|line| line.state != State::Failed);
    report.add(space)?;
    let (lines, newest) = store(&config, usable).await;
    report.add(lines)?;
    report.add([clock(now(), newest)])?;
    match Blueprint::new(loaded) {
        Ok(blueprint) => {
            report.add(agents(&blueprint))?;
            report.add(people(&blueprint))?;
            report.add(models(&config, &blueprint.agents, args.offline).await)?;
            report.add(services(&config, &blueprint, args.offline).await)?;
            report.add(slack::lines(&blueprint, args.offline).await)?;
        }
        Err(error) => {
            let lines: Vec<Line> = format!("{error:#}").lines().map(|line| failed("agents", line)).collect();
            report.add(lines)?;
        }
    }
    // A mail transport and the list of hosts that agents may reach are looked at here, once there are any.
    report.add(who_gets_in(&config))?;
    report.add([address(&config).await])?;
    report.add(triggers(&config))?;
    report.finish()
}

/// Whether people can be told apart where a rule wants different ones, and whether groups can be anybody's.
fn people(blueprint: &Blueprint) -> Vec<Line> {
    const CHECK: &str = "people";
    let listed = words::count(blueprint.people.entries().len(), "person");
    let next = "list each person with all their ids in [[people]]; docs/agents.md says how";
    let unsure = blueprint.unsure_rules();
    if unsure.is_empty() {
        return vec![ok(CHECK, format!("{listed} listed; every rule can tell the people apart that it wants"))];
    }
    unsure.into_iter().map(|note| warn(CHECK, note).next(next)).collect()
}

fn configuration(loaded: &Loaded) -> Line {
    let set: Vec<String> = loaded.shown().into_iter().map(|s| s.origin).filter(|origin| origin != "default").collect();
    // `file twelve.toml line 3`, `environment API_PORT`: by where, without the line or the name.
    let place = |origin: &str| match origin.split_once(' ') {
        Some(("file", file)) => file.split(" line ").next().unwrap_or(file).to_owned(),
        Some((place, _)) => place.to_owned(),
        None => origin.to_owned(),
    };
    let places: BTreeSet<String> = set.iter().map(|origin| place(origin)).collect();
    match set.len() {
        0 => ok("configuration", "every setting is at its default"),
        n => {
            let places = places.into_iter().collect::<Vec<_>>().join(", ");
            ok(
                "configuration",
                format!("{} set (in {places}), the others at their defaults", words::count(n, "setting")),
            )
        }
    }
}

fn data_directory(directory: &Path) -> Vec<Line> {
    const CHECK: &str = "data directory";
    let shown = directory.display();
    let elsewhere = "let this user write there, or set `app.data_dir` (TWELVE__APP__DATA_DIR) to another place";
    let metadata = match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return vec![failed(CHECK, format!("{shown} is not a directory")).next(elsewhere)],
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let above =
                directory.ancestors().skip(1).map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
            let Some(above) = above.into_iter().find(|above| above.exists()) else {
                return vec![failed(CHECK, format!("{shown} is not there, nor anything above it")).next(elsewhere)];
            };
            return vec![match access(above, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) if above.is_dir() => off(CHECK, format!("{shown} is not made yet: the first start makes it")),
                Ok(()) => failed(CHECK, format!("{} is not a directory", above.display())).next(elsewhere),
                Err(e) => failed(CHECK, format!("{shown} cannot be made in {}: {e}", above.display())).next(elsewhere),
            }];
        }
        Err(e) => return vec![failed(CHECK, format!("{shown} cannot be looked at: {e}")).next(elsewhere)],
    };
    if let Err(e) = write_probe(&directory.join(format!(".doctor-{}", std::process::id()))) {
        return vec![failed(CHECK, format!("{shown} cannot be written: {e}")).next(elsewhere)];
    }
    let mode = metadata.permissions().mode() & 0o777;
    let private = match mode & 0o077 {
        0 => ok(CHECK, format!("{shown} can be written, and nobody else may read it")),
        _ => warn(
            CHECK,
            format!("{shown} can be written, but other users of this machine may look into it (mode {mode:o})"),
        )
        .next(format!("chmod 700 {shown}")),
    };
    vec![private, space(directory)]
}

/// Writes and syncs a small file, and takes it away.
fn write_probe(file: &Path) -> std::io::Result<()> {
    let written = std::fs::File::create_new(file).and_then(|mut file| {
        file.write_all(b"doctor\n")?;
        file.sync_all()
    });
    // What could not be made need not be removed.
    let _ = std::fs::remove_file(file);
    written
}

fn space(directory: &Path) -> Line {
    const CHECK: &str = "disk space";
    let free = match statvfs(directory) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(e) => return warn(CHECK, format!("it is not known how much is free: {e}")),
    };
    free_space(free).unwrap_or_else(|| ok(CHECK, format!("{} are free", bytes(free))))
}

/// What is wrong with so much free space, if anything is.
fn free_space(free: u64) -> Option<Line> {
    const CHECK: &str = "disk space";
    let next = "make room, or move `app.data_dir`: when it is full, nothing is accepted any more";
    match free {
        ..NO_SPACE => Some(failed(CHECK, format!("only {} are free", bytes(free))).next(next)),
        NO_SPACE..LOW_SPACE => Some(warn(CHECK, format!("only {} are free", bytes(free))).next(next)),
        LOW_SPACE.. => None,
    }
}

fn bytes(n: u64) -> String {
    match n {
        ..0x10_0000 => format!("{} kB", n >> 10),
        0x10_0000..0x4000_0000 => format!("{} MB", n >> 20),
        0x4000_0000.. => format!("{:.1} GB", n as f64 / f64::from(1 << 30)),
    }
}

/// The store; and when the newest thing in it happened.
async fn store(config: &Config, usable: bool) -> (Vec<Line>, Option<Timestamp>) {
    const CHECK: &str = "store";
    let path = config.store_path();
    let durability = if config.store.durability == "process" { Durability::Process } else { Durability::Disk };
    let mut lines = Vec::new();
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => {
            lines.push(off(CHECK, format!("there is none at {} yet: the first start makes it", path.display())));
            if usable {
                lines.extend(append_probe(&path, durability).await);
            }
            return (lines, None);
        }
        Err(e) => return (vec![failed(CHECK, format!("{} cannot be looked at: {e}", path.display()))], None),
    }
    let size = std::fs::metadata(&path).map_or(0, |m| m.len());
    let about = format!("{}, durability {}", bytes(size), config.store.durability);
    match Store::open(&StoreConfig { path: path.clone(), durability }).await {
        Ok(store) => {
            lines.push(ok(CHECK, format!("{} opens for writing ({about})", path.display())));
            if let Err(error) = store.close().await {
                lines.push(warn(CHECK, format!("it does not close: {error}")));
            }
            lines.extend(append_probe(&path, durability).await);
        }
        // A server that runs is no failure.
        Err(StoreError::Locked(why)) => lines.push(ok(CHECK, format!("{why} ({about})"))),
        Err(error) => {
            lines.push(failed(CHECK, error.to_string()).next("see \"Errors of the store\" in docs/operations.md"))
        }
    }
    let Ok(reader) = Store::open_read_only(&path).await else { return (lines, None) };
    lines.push(integrity(&reader, size).await);
    let newest = reader
        .list(&Filter::everything(), None, 1)
        .await
        .ok()
        .and_then(|page| page.items.first().map(|s| s.updated_at));
    (lines, newest)
}

async fn integrity(store: &Store, size: u64) -> Line {
    const CHECK: &str = "integrity";
    if size > MAX_CHECKED {
        return off(CHECK, format!("not read through: the store has {}", bytes(size)))
            .next("`twelve audit verify` reads every log");
    }
    match store.damages(MAX_DAMAGES).await {
        Ok(found) if found.is_empty() => ok(CHECK, "the file reads back whole"),
        Ok(found) => failed(CHECK, format!("the file is damaged: {}", found.join("; ")))
            .next("stop everything that uses it, then restore a backup or `sqlite3 ... .recover`"),
        Err(error) => failed(CHECK, error.to_string()).next("see \"Errors of the store\" in docs/operations.md"),
    }
}

/// Times one durable append in a store of its own, beside the real one: on the same disk, in nobody's log.
async fn append_probe(beside: &Path, durability: Durability) -> Option<Line> {
    const CHECK: &str = "append";
    let directory = beside.parent().filter(|d| d.is_dir())?.join(format!(".doctor-{}", std::process::id()));
    let took = timed_append(&directory, durability).await;
    // It holds nothing but the probe.
    let _ = std::fs::remove_dir_all(&directory);
    Some(match took {
        Ok(took) if took <= SLOW_APPEND => {
            ok(CHECK, format!("a durable append takes {:.1} ms", took.as_secs_f64() * 1e3))
        }
        Ok(took) => warn(CHECK, format!("a durable append takes {} ms", took.as_millis()))
            .next("every step of an agent waits for some of these: put the data directory on a faster local disk"),
        Err(error) => failed(CHECK, format!("an append did not go through: {error:#}"))
            .next("see \"Errors of the store\" in docs/operations.md"),
    })
}

async fn timed_append(directory: &Path, durability: Durability) -> anyhow::Result<Duration> {
    std::fs::create_dir(directory)?;
    let store = Store::open(&StoreConfig { path: directory.join("probe.db"), durability }).await?;
    let id: ThreadId = "system:doctor".parse()?;
    let body = Body::ThreadStarted {
        thread: id.clone(),
        agent: "doctor".to_owned(),
        by: Principal::system(),
        pushes: false,
        parent: None,
        carried: Vec::new(),
        untrusted: Untrusted::default(),
        heard: Vec::new(),
    };
    let event = Event { v: EVENT_VERSION, seq: 1, at: now(), source: None, answers: None, prev: Digest::ZERO, body };
    let encoded = event.encode();
    let (thread, _) = reduce(Thread::vacant(id), &event, Digest::of(&encoded));
    let append = Append {
        thread: thread.short,
        expected: 0,
        events: vec![encoded],
        summary: crate::runtime::summary(&thread),
        approvals: Vec::new(),
        lease: None,
    };
    let started = Instant::now();
    store.append(append).await?;
    let took = started.elapsed();
    store.close().await?;
    Ok(took)
}

fn clock(now: Timestamp, newest: Option<Timestamp>) -> Line {
    const CHECK: &str = "clock";
    let ahead = newest.map_or(0, |newest| newest.ms_since(now));
    if now < WRITTEN {
        failed(CHECK, format!("it says {now}, which is before this program was written")).next("set the clock (NTP)")
    } else if ahead > MAX_SKEW_MS {
        warn(CHECK, format!("it says {now}, but the newest event in the store is {} later", span::show(ahead)))
            .next("set the clock (NTP): until it catches up, approvals expire and timers fire late")
    } else {
        ok(CHECK, format!("it says {now}"))
    }
}

fn agents(blueprint: &Blueprint) -> Vec<Line> {
    let agent = |agent: &Agent| {
        let tools = if agent.spec.tools.is_empty() { "no tools".to_owned() } else { agent.spec.tools.join(", ") };
        ok("agent", format!("{}: {tools}", agent.spec.name))
    };
    blueprint.agents.iter().map(agent).collect()
}

/// Each model that an agent asks, with one real question.
async fn models(config: &Config, agents: &Agents, offline: bool) -> Vec<Line> {
    let providers = match app::providers(config, agents) {
        Ok(providers) => providers,
        Err(error) => return vec![failed("model", format!("{error:#}"))],
    };
    let mut lines = Vec::new();
    let mut asked: BTreeMap<(&str, String), (&Provider, Vec<&str>)> = BTreeMap::new();
    for agent in agents.iter() {
        match providers.pick(&agent.spec) {
            Ok((provider, model)) => {
                asked.entry((provider.name(), model)).or_insert((provider, Vec::new())).1.push(&agent.spec.name);
            }
            Err(why) => lines.push(failed("model", format!("{}: {why}", agent.spec.name))),
        }
    }
    let used: BTreeSet<&str> = asked.keys().map(|(provider, _)| *provider).collect();
    let questions = asked.into_iter().map(|((name, model), (provider, agents))| async move {
        let check = format!("model {name}");
        let who = format!("{model} (for {})", inspect::named(&agents));
        if matches!(provider, Provider::Scripted(_)) {
            let next = "set OPENAI_API_KEY or ANTHROPIC_API_KEY (or a base URL on this machine) to ask a real one";
            return off(&check, format!("no model is asked: a script answers for {}", inspect::named(&agents)))
                .next(next);
        }
        if offline {
            return off(&check, format!("{who} is set up; not asked (--offline)"));
        }
        ask_model(&check, &who, name, provider, model).await
    });
    lines.extend(join_all(questions).await);
    for kind in [ProviderKind::OpenAi, ProviderKind::Anthropic] {
        let name = kind.name();
        if used.contains(name) {
            continue;
        }
        let says = match providers.named.contains_key(name) {
            true => "it is set up, but no agent asks it".to_owned(),
            false => "no key is set".to_owned(),
        };
        lines.push(off(&format!("model {name}"), says));
    }
    lines
}

async fn ask_model(check: &str, who: &str, provider_name: &str, provider: &Provider, model: String) -> Line {
    let request = ModelRequest {
        model,
        system: String::new(),
        window: "Answer with the one word: ok".to_owned(),
        tools: Arc::new([]),
        max_output_tokens: PROBE_TOKENS,
    };
    let started = Instant::now();
    let reply = tokio::time::timeout(PROVIDER_TIMEOUT, provider.complete(&request)).await;
    let ms = started.elapsed().as_millis();
    let variable = provider_name.to_ascii_uppercase();
    let network = format!("check the network, a proxy, and `providers.{provider_name}.base_url`");
    match reply {
        Ok(Ok(reply)) => {
            let Usage { input, output } = reply.usage;
            ok(check, format!("{who} answered in {ms} ms ({} tokens)", input.saturating_add(output)))
        }
        Ok(Err(error)) => {
            let says = format!("{who}: {error}");
            match error.kind {
                ModelErrorKind::RateLimited | ModelErrorKind::Overloaded => warn(check, says)
                    .next("agents try again by themselves; if it stays so, look at the account's limits"),
                ModelErrorKind::Empty | ModelErrorKind::CutOff => {
                    warn(check, says).next("it answers, but said nothing; try it with `twelve chat`")
                }
                ModelErrorKind::Auth => {
                    failed(check, says).next(format!("set {variable}_API_KEY to a key that is valid there"))
                }
                ModelErrorKind::Rejected | ModelErrorKind::TooLong { .. } => failed(check, says)
                    .next(format!("check `model.model`, `providers.{provider_name}.default_model` and the base URL")),
                ModelErrorKind::Server
                | ModelErrorKind::Timeout
                | ModelErrorKind::Unreachable
                | ModelErrorKind::Malformed => failed(check, says).next(network),
            }
        }
        Err(_) => failed(check, format!("{who} did not answer within {} s", PROVIDER_TIMEOUT.as_secs())).next(network),
    }
}

/// The services that tools reach: how they are, and what a deployment of them lacks.
async fn services(config: &Config, blueprint: &Blueprint, offline: bool) -> Vec<Line> {
    const TOOL: &str = "check_service_status";
    // The blueprint has read it already.
    let Ok(tools) = config.tools.clone().try_into::<ToolsConfig>() else { return Vec::new() };
    if tools.services.is_empty() {
        let says = "none is set up, so nothing can be checked or deployed";
        return vec![off("services", says).next("add [tools.services.<name>], see `twelve config default`")];
    }
    let mut lines = Vec::new();
    for (name, service) in &tools.services {
        let check = format!("service {name}");
        let Some(deploy) = &service.deploy else { continue };
        let token = deploy.http.iter().filter_map(|http| http.token_env.as_ref());
        let seen = deploy.command.iter().flat_map(|command| &command.env);
        let unset: Vec<&str> =
            token.chain(seen).map(String::as_str).filter(|v| std::env::var_os(v).is_none()).collect();
        if !unset.is_empty() {
            let says = format!("its deployment wants variables that are not set: {}", unset.join(", "));
            lines.push(
                warn(&check, says).next("set them in the environment of the program (`.env` is for settings only)"),
            );
        }
        if !deploy.lock.is_empty() || deploy.lock_file.as_ref().is_some_and(|file| file.exists()) {
            lines.push(off(&check, "its deployment is locked"));
        }
    }
    if offline {
        let says = format!("{} set up; not looked at (--offline)", words::count(tools.services.len(), "service"));
        lines.push(off("services", says));
        return lines;
    }
    let names: Vec<&String> = tools.services.keys().collect();
    for some in names.chunks(PROBES) {
        let looks = some.iter().map(|name| async move {
            // No thread asks, so the call is nobody's.
            let context = CallContext {
                effect: EffectId::new(ShortId::default(), 0, 0),
                now: now(),
                cancel: CancellationToken::new(),
            };
            let outcome = match blueprint.tools.check_value(TOOL, json!({ "service": name })) {
                Ok(args) => blueprint.tools.run(TOOL, args.as_value(), &context).await,
                Err(error) => Outcome::Failed { error },
            };
            (*name, outcome)
        });
        for (name, outcome) in join_all(looks).await {
            lines.extend(service_lines(name, &outcome));
        }
    }
    lines
}

/// One line for each environment, as the tool says it. A service that is down is not our failure.
fn service_lines(name: &str, outcome: &Outcome) -> Vec<Line> {
    let check = format!("service {name}");
    match outcome {
        Outcome::Succeeded { text } => {
            let line = |text: &str| {
                let says = text.strip_prefix(name).unwrap_or(text).trim_start();
                if says.contains(": NOT healthy") || says.contains("version not known") {
                    warn(&check, says).next("look at the service itself, or at its addresses under [tools.services]")
                } else {
                    ok(&check, says)
                }
            };
            text.lines().map(line).collect()
        }
        Outcome::Failed { error } | Outcome::Unknown { error } => vec![warn(&check, error)],
        Outcome::Suspended { text, .. } => vec![warn(&check, text)],
    }
}

/// Tokens, the proxy and links: who can come in, and who cannot.
fn who_gets_in(config: &Config) -> Vec<Line> {
    let http = &config.http;
    let local = config::is_loopback_host(&http.host);
    let tokens = if !http.tokens.is_empty() {
        let each = http.tokens.iter().map(|token| {
            let scopes: Vec<String> = token.scopes.iter().map(|s| format!("{s:?}").to_lowercase()).collect();
            format!("{} ({})", words::quote(&token.name), scopes.join(", "))
        });
        ok("tokens", inspect::named(&each.collect::<Vec<_>>()))
    } else if local {
        off("tokens", "none besides the local one: only programs on this machine may use the API")
            .next("`twelve token NAME` makes one")
    } else {
        warn("tokens", format!("none, although {} is reached from other machines: no program gets in", http.host))
            .next("`twelve token NAME` makes one; or set API_HOST=127.0.0.1")
    };
    let proxy = if !http.proxy.user_header.is_empty() {
        ok(
            "proxy",
            format!("{} is believed from {}", words::quote(&http.proxy.user_header), http.proxy.from.join(", ")),
        )
    } else {
        off("proxy", "none is trusted: people sign in by `twelve login-link`")
    };
    [vec![tokens, local_token(config)], trusted_loopback(config).into_iter().collect(), vec![proxy]].concat()
}

/// The token of programs on this machine.
fn local_token(config: &Config) -> Line {
    const CHECK: &str = "local token";
    let path = config.app.data_dir.join(secret_file::LOCAL_TOKEN.name);
    match secret_file::local_token(&config.app.data_dir) {
        Ok(Some(_)) => ok(CHECK, "programs on this machine send what `twelve token local` prints"),
        Ok(None) => off(CHECK, format!("{} is not made yet: the first `twelve serve` makes it", path.display())),
        Err(error) => failed(CHECK, format!("{error:#}")).next("`twelve serve` does not start until this is mended"),
    }
}

/// Where a connection from this machine is enough: what could bring others in that way.
fn trusted_loopback(config: &Config) -> Option<Line> {
    const CHECK: &str = "trust_loopback";
    let says = "whoever connects from this machine gets in without a token, also by a proxy or a tunnel here";
    let passed_on = !config.triggers.webhooks.is_empty() || config.slack.is_on();
    let next = match passed_on {
        true => "webhooks or Slack are set up, so something may pass requests on to here: remove `http.trust_loopback`",
        false => "remove `http.trust_loopback` unless nobody else can reach this machine",
    };
    config.http.trust_loopback.then(|| warn(CHECK, says).next(next))
}

/// An address without the brackets that an IPv6 one may have.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn address(config: &Config) -> Line {
    const CHECK: &str = "address";
    let http = &config.http;
    let at = format!("{}:{}", http.host, http.port);
    if http.port == 0 {
        return ok(CHECK, format!("any free port of {}", http.host));
    }
    // Taken and given back at once.
    match TcpListener::bind((bare(&http.host), http.port)) {
        Ok(_) => ok(CHECK, format!("{at} is free")),
        Err(e) if e.kind() == ErrorKind::AddrInUse => match healthcheck::ask(http, "/readyz").await {
            Ok(health) if health.ready => {
                ok(CHECK, format!("{at} is served by twelve {}, which is ready", health.version))
            }
            Ok(health) => warn(CHECK, format!("{at} is served by twelve {}, which is not ready", health.version))
                .next(health.reasons.join(" ")),
            Err(_) => failed(CHECK, format!("another program has {at}"))
                .next("stop that one, or set API_PORT (`http.port`) to another port"),
        },
        Err(e) => failed(CHECK, format!("{at} cannot be listened at: {e}"))
            .next("set API_HOST and API_PORT to an address of this machine and a port that this user may take"),
    }
}

fn triggers(config: &Config) -> Vec<Line> {
    let triggers = &config.triggers;
    let mut lines = Vec::new();
    if triggers.webhooks.is_empty() {
        lines.push(off("webhooks", "none is set up: no program starts an agent by a signed request"));
    }
    for webhook in &triggers.webhooks {
        let says = format!("{} starts {}", words::quote(&webhook.name), words::quote(&webhook.agent));
        lines.push(match std::env::var_os(&webhook.secret_env).filter(|secret| !secret.is_empty()) {
            Some(_) => ok("webhook", says),
            None => {
                failed("webhook", format!("{says}, but its secret {} is not set", words::quote(&webhook.secret_env)))
                    .next("set that variable to the secret that the sender signs with")
            }
        });
    }
    if triggers.schedules.is_empty() {
        lines.push(off("schedules", "none is set up"));
    }
    for schedule in &triggers.schedules {
        let what =
            format!("{} starts {} at `{}`", words::quote(&schedule.name), words::quote(&schedule.agent), schedule.cron);
        lines.push(ok("schedule", what));
    }
    lines
}
