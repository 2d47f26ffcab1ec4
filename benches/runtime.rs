//! What the runtime costs, against floors measured in the same run: `cargo bench --bench runtime`.
//!
//! The model follows a script and the tools do nothing, so that what is left is ours: fold, decide,
//! append, dispatch. There are two floors, both given the very events that the runtime has just
//! written, in the same groups: the bare store (`Store::append`, no runtime), and bare SQLite (one
//! transaction for each group, no store). Floor and measurement take turns, because the machine that
//! this runs on is shared; figures are medians.
//!
//! What needs a fresh process (memory, start) is measured in one: this program starts itself.
//! Sections (`steps`, `many`, `decisions`, `long`, `start`, `paused`) can be named after `--`;
//! `RUNTIME_THREADS` sets the number of paused threads (100,000). What the figures mean, and what they
//! were, stands in `docs/performance.md`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs};

use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::task::JoinSet;
use twelve::agent::*;
use twelve::app::Blueprint;
use twelve::llm::{Provider, Scripted};
use twelve::metrics::Metrics;
use twelve::platform::Platforms;
use twelve::runtime::{Change, Clock, Parts, Providers, Runtime, Said, Settings, summary};
use twelve::store::{Append, Durability, Store, StoreConfig};
use twelve::tools::{Boxed, CallContext, CheckedArgs, Registry, Spec, Tool};

/// Threads at work at the same time, where it is about throughput.
const CALLERS: usize = 64;

/// Set for the processes that this one starts: what they are to do, and with which store.
const CHILD: &str = "RUNTIME_BENCH_CHILD";
const CHILD_STORE: &str = "RUNTIME_BENCH_STORE";

const AGENT: &str = r#"+++
description = "Looks, and ships after people agreed."
tools = ["look", "ship"]
[gates]
ship = "ask"
+++
You are {{ agent.name }}. Look before you answer. Ship what people ask for, and nothing else.
"#;

const SCRIPT: &str = r#"
[[reply]]
last = '^<tool_result'
say = "That is done, and all is well."
[[reply]]
human = '^look'
[[reply.call]]
tool = "look"
args = { service = "api" }
[[reply]]
human = '^ship'
say = "The service is healthy; shipping it as asked."
[[reply.call]]
tool = "ship"
args = { service = "api", version = "v1.2.3", environment = "production" }
[[reply]]
human = '.'
say = "All is well."
"#;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    match env::var(CHILD).as_deref() {
        Ok("ready") => return runtime.block_on(child_ready()),
        Ok("paused") => return runtime.block_on(child_paused()),
        Ok(other) => panic!("no such child: {other}"),
        Err(_) => {}
    }
    // `cargo test --all-targets` starts benches too, without this flag.
    if !env::args().any(|arg| arg == "--bench") {
        return;
    }
    // `cargo bench --bench runtime -- steps` measures only what is named.
    let named: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = move |section: &str| named.is_empty() || named.iter().any(|name| name == section);
    println!("file system {}, load {}", file_system(&scratch_parent()), load());
    // On a worker, as everything else: the thread that blocks on the runtime is woken at a higher price.
    let measured = runtime.spawn({
        let wanted = wanted.clone();
        async move {
            for durability in [Durability::Process, Durability::Disk] {
                if wanted("steps") {
                    steps(durability).await;
                }
                if wanted("many") {
                    many_threads(durability).await;
                }
                if wanted("decisions") {
                    decisions(durability).await;
                }
            }
            if wanted("long") {
                long_thread().await;
            }
        }
    });
    runtime.block_on(measured).unwrap();
    if wanted("start") {
        start();
    }
    if wanted("paused") {
        paused();
    }
    println!("load {}", load());
}

// ---- what is measured ----

/// One thread at a time: message, model, tool, model, done.
async fn steps(durability: Durability) {
    // Short rounds: what floor and measurement share is the disk of the moment.
    let (rounds, runs) = if durability == Durability::Process { (60, 50) } else { (60, 10) };
    let bench = Rounds::open(durability, 1).await;
    let (mut ours, mut stores, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let mut appends = 0;
    for round in 0..rounds + WARM {
        let mut log = Log::new(&bench.world.runtime);
        let mut took = Duration::ZERO;
        for run in 0..runs {
            let thread = name(&format!("step-{round}-{run}"));
            let start = Instant::now();
            bench.world.say(&thread, "look at the api in production, please").await;
            log.until(&thread, Status::Done).await;
            took += start.elapsed();
        }
        appends = log.groups.len() / runs;
        let floors = bench.floors(&log).await;
        if round >= WARM {
            ours.push(micros(took, runs));
            stores.push(micros(floors.0, runs));
            bare.push(micros(floors.1, runs));
        }
    }
    bench.close().await;
    let run = median(&ours);
    println!("step, {durability:?}, one thread at a time (a run: message, model, tool, model; {appends} appends)");
    println!(
        "  run {run:.0} us; a model step with its share of message and tool {:.0} us; an append {:.0} us",
        run / 2.0,
        run / appends as f64
    );
    show_floors(&ours, &stores, &bare);
}

/// The same runs in many threads at once.
async fn many_threads(durability: Durability) {
    let (rounds, runs) = (8, 10);
    let bench = Rounds::open(durability, CALLERS).await;
    let (mut ours, mut stores, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds + WARM {
        let total = CALLERS * runs;
        let log = Log::new(&bench.world.runtime);
        let start = Instant::now();
        let names = (0..total).map(|n| name(&format!("many-{round}-{n}")));
        let log =
            run_all(&bench.world.runtime, log, names, "look at the api in production, please", Status::Done).await;
        let took = start.elapsed();
        let floors = bench.floors(&log).await;
        if round >= WARM {
            ours.push(micros(took, total));
            stores.push(micros(floors.0, total));
            bare.push(micros(floors.1, total));
        }
    }
    bench.close().await;
    let run = median(&ours);
    println!("step, {durability:?}, {CALLERS} threads at once");
    println!("  {:.0} runs/s, {:.0} model steps/s; {run:.0} us a run", 1e6 / run, 2e6 / run);
    show_floors(&ours, &stores, &bare);
}

fn show_floors(ours: &[f64], stores: &[f64], bare: &[f64]) {
    println!(
        "  floor: bare store {:.0} us a run, ratio {}; bare SQLite {:.0} us a run, ratio {}",
        median(stores),
        ratios(ours, stores),
        median(bare),
        ratios(ours, bare)
    );
}

/// Sends the text to every thread, [`CALLERS`] at a time, and waits until each has the status.
async fn run_all(
    runtime: &Runtime,
    mut log: Log,
    threads: impl Iterator<Item = ThreadId>,
    text: &str,
    wanted: Status,
) -> Log {
    let mut open = 0;
    let mut threads = threads.fuse();
    let mut started = JoinSet::new();
    loop {
        while open < CALLERS
            && let Some(thread) = threads.next()
        {
            let (runtime, text) = (runtime.clone(), text.to_owned());
            started
                .spawn(async move { runtime.message(&thread, "bench", Said::by(person("ann"), text)).await.unwrap() });
            open += 1;
        }
        if open == 0 {
            started.join_all().await;
            return log;
        }
        while started.try_join_next().is_some() {}
        open -= usize::from(log.next().await.1 == wanted);
    }
}

/// From a person's decision to the last event of the run: vote, plan again, start, tool, model, done.
async fn decisions(durability: Durability) {
    let runs = if durability == Durability::Process { 1_500 } else { 300 };
    let bench = Rounds::open(durability, 1).await;
    let (mut took, mut floor) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let thread = name(&format!("decide-{run}"));
        let mut log = Log::new(&bench.world.runtime);
        bench.world.say(&thread, "ship it").await;
        log.until(&thread, Status::WaitingApproval).await;
        let (folded, asked) = (bench.world.runtime.thread(thread.short()).await.unwrap(), log.groups.len());
        let approval = folded.pending_approvals().next().unwrap();
        let vote = Input::Vote {
            approval: approval.id,
            digest: approval.digest.prefix(),
            by: person("bob"),
            groups: Vec::new(),
            vote: Ballot::Approve { note: String::new() },
            source: None,
        };
        let start = Instant::now();
        bench.world.runtime.deliver(thread.short(), vote).await.unwrap();
        log.until(&thread, Status::Done).await;
        took.push(micros(start.elapsed(), 1));
        let mut appends = log.appends();
        let decided = appends.split_off(asked);
        append_all(&bench.store, appends, 1).await;
        floor.push(micros(append_all(&bench.store, decided, 1).await, 1));
    }
    bench.close().await;
    took.sort_by(f64::total_cmp);
    floor.sort_by(f64::total_cmp);
    let at = |sorted: &[f64], q: f64| sorted[((sorted.len() - 1) as f64 * q) as usize];
    println!("decision to final event, {durability:?}");
    for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
        let (ours, floor) = (at(&took, q), at(&floor, q));
        println!(
            "  {name} {ours:.0} us; floor, the same appends to the bare store, {floor:.0} us; ratio {:.2}",
            ours / floor
        );
    }
}

/// A thread of 10,000 events against threads of 10: what a message costs, and the step after it.
async fn long_thread() {
    const EVENTS: u64 = 10_000;
    const RUNS: usize = 400;
    let dir = scratch();
    let world = World::open(&dir.path().join("twelve.db"), Durability::Process).await;
    let mut log = Log::new(&world.runtime);
    let long = name("long");
    let grow = async |log: &mut Log, thread: &ThreadId, events: u64| {
        loop {
            world.say(thread, "how is the api in production doing today, is anything wrong with it?").await;
            if log.until(thread, Status::Done).await >= events {
                return;
            }
        }
    };
    grow(&mut log, &long, EVENTS).await;
    // All before the first is measured: the newest thread of a file is the cheapest to append to.
    let shorts: Vec<ThreadId> = (0..RUNS).map(|run| name(&format!("short-{run}"))).collect();
    for short in &shorts {
        grow(&mut log, short, 10).await;
    }
    let (mut appends, mut steps, mut bytes) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
    for short in &shorts {
        for (which, thread) in [short, &long].into_iter().enumerate() {
            let (written, start) = (written(), Instant::now());
            world.say(thread, "how is the api in production doing today, is anything wrong with it?").await;
            let appended = Instant::now();
            log.until(thread, Status::Done).await;
            appends[which].push(micros(appended - start, 1));
            steps[which].push(micros(appended.elapsed(), 1));
            bytes[which].push((self::written() - written) as f64);
        }
    }
    let version = world.runtime.thread(long.short()).await.unwrap().version;
    world.close().await;
    let show = |what: &str, unit: &str, both: &[Vec<f64>; 2]| {
        let (short, long) = (median(&both[0]), median(&both[1]));
        println!("  {what}: {long:.0} {unit} / {short:.0} {unit} = {:.2}", long / short);
    };
    println!("a thread of {version} events against threads of 10 (Process; medians of {RUNS} runs)");
    show("message, appended", "us", &appends);
    show("the model step after it, up to its append", "us", &steps);
    show("bytes given to the operating system for both", "bytes", &bytes);
    // A mean shows what a median leaves out: compactions, and the log that is folded back into the file.
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    println!(
        "  means: step {:.0} us / {:.0} us = {:.2}; bytes {:.2}",
        mean(&steps[1]),
        mean(&steps[0]),
        mean(&steps[1]) / mean(&steps[0]),
        mean(&bytes[1]) / mean(&bytes[0])
    );
}

/// A fresh process with the default configuration: until its store is open and nothing is left to recover.
fn start() {
    let mut taken = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..11 {
        let dir = scratch();
        let (took, resident, _) = ready(&dir.path().join("twelve.db"));
        taken.push(took);
        memory.push(resident as f64 / 1024.0);
    }
    let size = fs::metadata(env!("CARGO_BIN_EXE_twelve")).unwrap().len();
    println!(
        "start to ready (a new process, an empty store): {:.1} ms; resident memory {:.1} MB; program {:.1} MB",
        median(&taken),
        median(&memory),
        size as f64 / 1e6
    );
}

/// Threads that wait for an approval, made through the runtime; then a process that finds them.
fn paused() {
    let dir = scratch();
    let path = dir.path().join("twelve.db");
    let said = child("paused", &path).wait_with_output().unwrap();
    print!("{}", String::from_utf8(said.stdout).unwrap());
    assert!(said.status.success());
    let empty = scratch();
    let (mut with, mut without, mut inside, mut memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..7 {
        let (took, resident, opened) = ready(&path);
        with.push(took);
        inside.push(opened);
        let (took, resident_empty, _) = ready(&empty.path().join("twelve.db"));
        without.push(took);
        memory.push(resident as f64 - resident_empty as f64);
    }
    println!(
        "  restart to ready {:.1} ms ({:.1} ms with an empty store), {:.1} ms of it for the store and the recovery; resident memory {:+.0} KiB against an empty store",
        median(&with),
        median(&without),
        median(&inside),
        median(&memory)
    );
}

// ---- processes of their own ----

fn child(what: &str, store: &Path) -> std::process::Child {
    Command::new(env::current_exe().unwrap())
        .env(CHILD, what)
        .env(CHILD_STORE, store)
        .current_dir(store.parent().unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Milliseconds until a new process is ready, its resident memory in KiB, and the milliseconds that it
/// took to open the store and recover.
fn ready(store: &Path) -> (f64, u64, f64) {
    use std::io::BufRead as _;
    let start = Instant::now();
    let mut child = child("ready", store);
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let took = micros(start.elapsed(), 1) / 1e3;
    assert!(child.wait().unwrap().success());
    let mut words = line.split_whitespace();
    let mut number = || words.next().unwrap().parse::<f64>().unwrap();
    (took, number() as u64, number())
}

async fn child_ready() {
    let config = twelve::config::Loaded::from_process(None).unwrap();
    let mut blueprint = Blueprint::new(config).unwrap();
    blueprint.loaded.config.store.path = PathBuf::from(env::var_os(CHILD_STORE).unwrap());
    let start = Instant::now();
    let runtime = blueprint.open(Platforms::default()).await.unwrap();
    runtime.fire_due().await.unwrap();
    println!("{} {}", resident(), micros(start.elapsed(), 1) / 1e3);
    runtime.drain(Duration::from_secs(1)).await.unwrap();
}

async fn child_paused() {
    let threads: usize = env::var("RUNTIME_THREADS").map_or(100_000, |n| n.parse().unwrap());
    let path = PathBuf::from(env::var_os(CHILD_STORE).unwrap());
    let world = World::open(&path, Durability::Process).await;
    // What the first threads bring with them (stacks, page caches, compiled schemas) is not theirs.
    let warm = 2 * CALLERS;
    make_paused(&world.runtime, "warm", warm).await;
    let before = resident();
    let start = Instant::now();
    make_paused(&world.runtime, "paused", threads).await;
    let took = start.elapsed();
    let after = resident();
    world.close().await;
    let conn = Connection::open(&path).unwrap();
    let (events, raw): (i64, i64) =
        conn.query_row("SELECT count(*), sum(length(body)) FROM events", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    let size = fs::metadata(&path).unwrap().len();
    println!(
        "{threads} paused threads of {} events in {:.1} s; resident memory {:+.1} MB (from {:.1} MB)",
        events / (threads + warm) as i64,
        took.as_secs_f64(),
        (after as f64 - before as f64) / 1024.0,
        before as f64 / 1024.0
    );
    println!(
        "  store {:.1} MB for {:.1} MB of events, ratio {:.2}",
        size as f64 / 1e6,
        raw as f64 / 1e6,
        size as f64 / raw as f64
    );
}

/// Threads that wait for an approval. Returns when all of them wait.
async fn make_paused(runtime: &Runtime, prefix: &str, threads: usize) {
    // Without the events: what this program remembers is not what the runtime needs.
    let log = Log { forgets: true, ..Log::new(runtime) };
    let names = (0..threads).map(|n| name(&format!("{prefix}-{n}")));
    run_all(runtime, log, names, "ship it", Status::WaitingApproval).await;
}

// ---- the app ----

struct World {
    runtime: Runtime,
    timers: tokio::task::JoinHandle<()>,
}

impl World {
    async fn open(path: &Path, durability: Durability) -> Self {
        let runtime = Runtime::new(parts(open(path, durability).await));
        let timers = tokio::spawn({
            let runtime = runtime.clone();
            async move { runtime.run_timers().await }
        });
        Self { runtime, timers }
    }

    async fn say(&self, thread: &ThreadId, text: &str) {
        self.runtime.message(thread, "bench", Said::by(person("ann"), text)).await.unwrap();
    }

    async fn close(self) {
        assert_eq!(self.runtime.drain(Duration::from_secs(10)).await.unwrap(), 0);
        self.timers.await.unwrap();
    }
}

/// As the program does it with its default settings, but for the agent, the tools and the script.
fn parts(store: Store) -> Parts {
    let facts = |name: &str, acts: bool| ToolFacts {
        name: name.to_owned(),
        description: format!("Makes the service {name}."),
        schema_version: 1,
        risk: if acts { Risk::High } else { Risk::Low },
        side_effects: acts,
        idempotent: !acts,
        plans: acts,
        editable: acts,
        outside: false,
        sends: false,
        target: Vec::new(),
    };
    let text = json!({"type": "string", "maxLength": 40});
    let schema = json!({
        "type": "object",
        "properties": {"service": text, "version": text, "environment": text},
        "additionalProperties": false
    });
    let tool = |name, acts| -> Arc<dyn Tool> {
        Arc::new(Nothing { spec: Spec::described(facts(name, acts), schema.clone()) })
    };
    let tools = Registry::new(vec![tool("look", false), tool("ship", true)]).unwrap();
    let known: Vec<ToolFacts> = tools.names().filter_map(|n| tools.facts(n).cloned()).collect();
    let mut policy = Policy {
        approvers: Approvers { users: vec!["*".to_owned()], ..Approvers::default() },
        expires_after_ms: 7_200_000,
        ..Policy::default()
    };
    let given = Given {
        app_name: "twelve",
        tools: &known,
        check_args: &|tool, args| tools.check_value(tool, args.clone()).map(CheckedArgs::into_value),
        policy: &policy,
        require_approvers: false,
        limits: &Limits::default(),
    };
    let file = AgentFile { file: "bench.md".to_owned(), text: AGENT.to_owned() };
    let agents = Agents::load(&[file], &[], &given).unwrap();
    policy.rules.extend(agents.rules().cloned());
    let script = Provider::Scripted(Scripted::parse(SCRIPT).unwrap());
    Parts {
        store,
        agents,
        tools,
        providers: Providers {
            named: HashMap::new(),
            scripted: HashMap::from([("bench".to_owned(), script)]),
            default: "scripted".to_owned(),
            model: None,
        },
        policy,
        requester: RequesterRule::Never,
        people: People::default(),
        secrets: SecretFilter::default(),
        platforms: Platforms::default(),
        metrics: Metrics::default(),
        clock: Clock::System,
        // The defaults of config/default.toml.
        settings: Settings {
            window: WindowLimits { max_tokens: 80_000, max_entries: 400, keep_last: 40 },
            retry: Retry { max_attempts: 5, base_ms: 2_000, cap_ms: 60_000 },
            message_max_bytes: 100 * 1024,
            max_concurrent_effects: 64,
            max_cached_threads: 512,
            lease_ms: 30_000,
            sweep_ms: 30_000,
            keep_intents_ms: 30 * 86_400_000,
        },
    }
}

/// A tool that does nothing, at once.
struct Nothing {
    spec: Spec,
}

impl Tool for Nothing {
    fn spec(&self) -> &Spec {
        &self.spec
    }
    fn title(&self, _args: &Value) -> String {
        "Deploy api v1.2.3 to production".to_owned()
    }
    fn plan<'a>(&'a self, _args: &'a Value) -> Boxed<'a, Result<Plan, String>> {
        Box::pin(async {
            let facts = json!({"current": "v1.2.2", "wanted": "v1.2.3", "healthy": true});
            Ok(Plan { summary: "now v1.2.2 -> v1.2.3".to_owned(), facts })
        })
    }
    fn run<'a>(&'a self, _args: &'a Value, _call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async { Outcome::Succeeded { text: "api is at v1.2.3 and healthy (12 ms)".to_owned() } })
    }
}

// ---- floors ----

/// What was appended while somebody watched: the floors append it again.
struct Log {
    watch: Receiver<Change>,
    /// Thread and events of each append, in the order of the commits of one thread.
    groups: Vec<(ShortId, Arc<[Vec<u8>]>)>,
    forgets: bool,
}

impl Log {
    fn new(runtime: &Runtime) -> Self {
        Self { watch: runtime.watch(), groups: Vec::new(), forgets: false }
    }

    /// The next append: its thread's version and status after it.
    async fn next(&mut self) -> (u64, Status, ShortId) {
        let change = self.watch.recv().await.unwrap();
        let after = change.first + change.events.len() as u64 - 1;
        if !self.forgets {
            self.groups.push((change.thread, change.events));
        }
        (after, change.status, change.thread)
    }

    /// Waits until the thread has this status, and gives its version.
    async fn until(&mut self, thread: &ThreadId, wanted: Status) -> u64 {
        loop {
            let (version, status, short) = self.next().await;
            if short == thread.short() && status == wanted {
                return version;
            }
        }
    }

    /// The appends as the runtime made them.
    fn appends(&self) -> Vec<Append> {
        let mut threads: HashMap<ShortId, Thread> = HashMap::new();
        let mut appends = Vec::with_capacity(self.groups.len());
        for (short, events) in &self.groups {
            let thread = threads.entry(*short).or_insert_with(|| {
                let first = Event::decode(&events[0], 1).unwrap();
                let Body::ThreadStarted { thread, .. } = first.body else { panic!("not the first event") };
                Thread::vacant(thread)
            });
            let expected = thread.version;
            thread.replay(events).unwrap();
            let summary = summary(thread);
            appends.push(Append {
                thread: *short,
                expected,
                events: events.to_vec(),
                summary,
                approvals: Vec::new(),
                lease: None,
            });
        }
        appends
    }
}

/// Rounds of which the first are not counted: stores grow their log once, then write over it.
const WARM: usize = 3;

/// The app and both floors, each with a file of its own, open over all rounds.
struct Rounds {
    world: World,
    store: Store,
    bare: Mutex<Connection>,
    callers: usize,
    _dir: tempfile::TempDir,
}

impl Rounds {
    async fn open(durability: Durability, callers: usize) -> Self {
        let dir = scratch();
        let bare = Connection::open(dir.path().join("bare.db")).unwrap();
        bare.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)).unwrap();
        bare.execute_batch("CREATE TABLE events (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
        // A few bytes at a time, SQLite alone would take many rounds until it writes over its log.
        bare.pragma_update(None, "synchronous", "OFF").unwrap();
        for _ in 0..1_500 {
            bare.execute("INSERT INTO events (body) VALUES (zeroblob(4000))", []).unwrap();
        }
        bare.pragma_update(None, "synchronous", if durability == Durability::Disk { "FULL" } else { "NORMAL" })
            .unwrap();
        Self {
            world: World::open(&dir.path().join("twelve.db"), durability).await,
            store: open(&dir.path().join("store.db"), durability).await,
            bare: Mutex::new(bare),
            callers,
            _dir: dir,
        }
    }

    /// What the same events cost the bare store and bare SQLite.
    async fn floors(&self, log: &Log) -> (Duration, Duration) {
        let store = append_all(&self.store, log.appends(), self.callers).await;
        (store, insert_all(&self.bare.lock().unwrap(), &log.groups, self.callers))
    }

    async fn close(self) {
        self.world.close().await;
        self.store.close().await.unwrap();
    }
}

/// Appends, by so many callers at a time; each has threads of its own.
async fn append_all(store: &Store, appends: Vec<Append>, callers: usize) -> Duration {
    let mut shares: Vec<Vec<Append>> = vec![Vec::new(); callers];
    let mut owner = HashMap::new();
    for append in appends {
        let next = owner.len() % callers;
        shares[*owner.entry(append.thread).or_insert(next)].push(append);
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for share in shares {
        let store = store.clone();
        tasks.spawn(async move {
            for append in share {
                store.append(append).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    start.elapsed()
}

/// Straight to SQLite with the same settings: `group` appends in a transaction, one table, no version
/// check, no summary, no index, no other thread.
fn insert_all(conn: &Connection, groups: &[(ShortId, Arc<[Vec<u8>]>)], group: usize) -> Duration {
    let start = Instant::now();
    for commit in groups.chunks(group) {
        let tx = conn.unchecked_transaction().unwrap();
        let mut insert = tx.prepare_cached("INSERT INTO events (body) VALUES (?1)").unwrap();
        for event in commit.iter().flat_map(|(_, events)| events.iter()) {
            insert.execute([event]).unwrap();
        }
        drop(insert);
        tx.commit().unwrap();
    }
    start.elapsed()
}

// ---- small things ----

async fn open(path: &Path, durability: Durability) -> Store {
    Store::open(&StoreConfig { path: path.to_owned(), durability }).await.unwrap()
}

fn name(name: &str) -> ThreadId {
    format!("api:0192f3c4-7b1a-7c3e-9d2f-{name}").parse().unwrap()
}

fn person(name: &str) -> Principal {
    Principal::human(format!("api:{name}"))
}

/// Beside the build, not in a memory file system that /tmp may be.
fn scratch_parent() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(scratch_parent()).unwrap()
}

fn micros(time: Duration, n: usize) -> f64 {
    time.as_secs_f64() * 1e6 / n as f64
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The median of the rounds' ratios, because what disturbed a round disturbed both; and its quartiles,
/// which show how much was disturbed.
fn ratios(ours: &[f64], floor: &[f64]) -> String {
    let mut all: Vec<f64> = ours.iter().zip(floor).map(|(a, b)| a / b).collect();
    all.sort_by(f64::total_cmp);
    let at = |quarter: usize| all[(all.len() - 1) * quarter / 4];
    format!("{:.2} (half of the rounds {:.2} to {:.2})", at(2), at(1), at(3))
}

/// Resident memory of this process in KiB (Linux; 0 elsewhere).
fn resident() -> u64 {
    field("/proc/self/status", "VmRSS:")
}

/// Bytes that this process has given to the operating system to write (Linux; 0 elsewhere).
fn written() -> u64 {
    field("/proc/self/io", "wchar:")
}

fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The load averages of the machine (Linux).
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The type of the file system that holds `path` (Linux).
fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let holds = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (mount, kind) = (words.next()?, words.next()?);
        path.starts_with(mount).then(|| (mount.len(), kind.to_owned()))
    });
    holds.max().map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}
