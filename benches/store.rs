//! What the embedded store costs, against a floor measured in the same run: `cargo bench --bench store`.
//!
//! The floor is bare rusqlite that commits the same event bytes in groups of the same size into one
//! table, with the same journal and sync settings: no summary, no indexes, no channel, no async.
//! `STORE_THREADS` sets the number of paused threads (100,000); `STORE_ONLY=approvals` measures lists of
//! approvals alone.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use rusqlite::Connection;
use tokio::task::JoinSet;
use twelve::agent::{ApprovalId, Approvers, Digest, Principal, Risk, ShortId, Status, ThreadId, Timestamp};
use twelve::store::{Append, ApprovalFilter, ApprovalRow, Durability, Filter, Person, Store, StoreConfig, Summary};

/// Events of one paused thread, and their size together: a short conversation that waits for an approval.
const EVENTS: u64 = 5;
const THREAD_BYTES: usize = 3_000;
/// Callers at the same time, which is also the group of the floor.
const CALLERS: usize = 64;

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benches too, without this flag.
    if !env::args().any(|arg| arg == "--bench") {
        return;
    }
    if env::var("STORE_ONLY").is_ok_and(|only| only == "approvals") {
        return approvals().await;
    }
    for durability in [Durability::Process, Durability::Disk] {
        throughput(durability).await;
    }
    for durability in [Durability::Process, Durability::Disk] {
        long_thread(durability).await;
    }
    paused().await;
    approvals().await;
}

fn event(thread: u64, seq: u64) -> Vec<u8> {
    let mut body = format!("{{\"v\":1,\"seq\":{seq},\"thread\":{thread},\"text\":\"").into_bytes();
    body.resize(THREAD_BYTES / EVENTS as usize - 2, b'x');
    body.extend_from_slice(b"\"}");
    body
}

fn append(thread: u64, expected: u64, events: Vec<Vec<u8>>) -> Append {
    let id: ThreadId = format!("slack:T0123456789:C0123456789:{thread}.000200").parse().unwrap();
    let version = expected + events.len() as u64;
    let waits = version.is_multiple_of(EVENTS);
    let short = id.short();
    Append {
        thread: short,
        expected,
        summary: Summary {
            thread: id,
            status: if waits { Status::WaitingApproval } else { Status::Running },
            agent: "deployment".to_owned(),
            title: "please deploy v1.2.3 of the api to production".to_owned(),
            requester: Principal::human("slack:T0123456789:U0123456789"),
            approvals: if waits { vec![ApprovalId::new(short, 4, 0)] } else { Vec::new() },
            questions: Vec::new(),
            tokens: 12_345,
            version,
            head: events.last().map_or(Digest::ZERO, |last| Digest::of(last)),
            created_at: Timestamp(1_790_000_000_000 + thread as i64),
            updated_at: Timestamp(1_790_000_000_000 + (thread * 10 + version) as i64),
            due_at: waits.then(|| Timestamp(1_790_100_000_000 + thread as i64)),
        },
        events,
        approvals: if waits { vec![approval(thread, short, true)] } else { Vec::new() },
        lease: None,
    }
}

/// The approval of a thread: every tenth one is for a group alone, the others for everybody.
fn approval(thread: u64, short: ShortId, open: bool) -> ApprovalRow {
    let everybody = Approvers { users: vec!["*".to_owned()], ..Approvers::default() };
    let group = Approvers { groups: vec!["release-team".to_owned()], quorum: 2, ..Approvers::default() };
    let requested_at = Timestamp(1_790_000_000_000 + thread as i64 / 3);
    ApprovalRow {
        id: ApprovalId::new(short, 4, 0),
        open,
        state: if open { "pending" } else { "succeeded" }.to_owned(),
        revision: 1,
        digest: Digest::of(&thread.to_be_bytes()),
        title: "Deploy api v1.2.3 to production".to_owned(),
        tool: "deploy_service".to_owned(),
        agent: if thread.is_multiple_of(4) { "support" } else { "deployment" }.to_owned(),
        risk: Risk::High,
        rule: "production deploys".to_owned(),
        requesters: vec![Principal::human(format!("slack:T0123456789:U{}", thread % 1_000))],
        approvers: if thread.is_multiple_of(10) { group } else { everybody },
        decided_by: if open { Vec::new() } else { vec![Principal::human("slack:T0123456789:U0123456789")] },
        requested_at,
        expires_at: requested_at.plus_ms(7_200_000),
        settled_at: (!open).then(|| requested_at.plus_ms(60_000)),
    }
}

async fn open(path: &Path, durability: Durability) -> Store {
    Store::open(&StoreConfig { path: path.to_owned(), durability }).await.unwrap()
}

fn scratch() -> tempfile::TempDir {
    // Beside the build, not in a memory file system that /tmp may be.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn micros(time: Duration, n: usize) -> f64 {
    time.as_secs_f64() * 1e6 / n as f64
}

async fn throughput(durability: Durability) {
    const ROUNDS: u64 = 100;
    let total = CALLERS * ROUNDS as usize;
    let dir = scratch();
    let floor_of_group = floor(&dir.path().join("floor.db"), durability, ROUNDS, CALLERS as u64);
    let store = open(&dir.path().join("store.db"), durability).await;
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS as u64 {
        let store = store.clone();
        callers.spawn(async move {
            for version in 0..ROUNDS {
                store.append(append(caller, version, vec![event(caller, version)])).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    let time = start.elapsed();
    println!(
        "append, {durability:?}, {CALLERS} callers: {:.0}/s, {:.1} us each; floor {:.1} us; ratio {:.2}",
        total as f64 / time.as_secs_f64(),
        micros(time, total),
        micros(floor_of_group, total),
        time.as_secs_f64() / floor_of_group.as_secs_f64()
    );
    let floor_of_one = floor(&dir.path().join("floor-one.db"), durability, 200, 1);
    let start = Instant::now();
    for version in 0..200 {
        store.append(append(1_000, version, vec![event(1_000, version)])).await.unwrap();
    }
    let time = start.elapsed();
    println!(
        "append, {durability:?}, one caller: {:.1} us each; floor {:.1} us; ratio {:.2}",
        micros(time, 200),
        micros(floor_of_one, 200),
        time.as_secs_f64() / floor_of_one.as_secs_f64()
    );
    store.close().await.unwrap();
}

fn floor(path: &Path, durability: Durability, rounds: u64, group: u64) -> Duration {
    let mut conn = Connection::open(path).unwrap();
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)).unwrap();
    let synchronous = if durability == Durability::Disk { "FULL" } else { "NORMAL" };
    conn.pragma_update(None, "synchronous", synchronous).unwrap();
    conn.execute_batch("CREATE TABLE events (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
    let start = Instant::now();
    for version in 0..rounds {
        let tx = conn.transaction().unwrap();
        for caller in 0..group {
            tx.prepare_cached("INSERT INTO events VALUES (?1, ?2)")
                .unwrap()
                .execute(((caller << 31 | version) as i64, event(caller, version)))
                .unwrap();
        }
        tx.commit().unwrap();
    }
    start.elapsed()
}

async fn long_thread(durability: Durability) {
    const APPENDS: u64 = 300;
    let dir = scratch();
    let path = dir.path().join("store.db");
    let store = open(&path, durability).await;
    for (thread, version) in [(1, 10), (2, 10_000), (3, 10)] {
        store.append(append(thread, 0, (1..=version).map(|seq| event(thread, seq)).collect())).await.unwrap();
    }
    store.close().await.unwrap();
    let mut cost = Vec::new();
    for (thread, version) in [(1, 10), (2, 10_000)] {
        let store = open(&path, durability).await;
        let start = Instant::now();
        for n in version..version + APPENDS {
            store.append(append(thread, n, vec![event(thread, n)])).await.unwrap();
        }
        let time = start.elapsed();
        let bytes = fs::metadata(format!("{}-wal", path.display())).unwrap().len();
        let start = Instant::now();
        for _ in 0..APPENDS {
            store.load(append(thread, 0, Vec::new()).thread, version + APPENDS - 1).await.unwrap();
        }
        cost.push((micros(time, APPENDS as usize), bytes, micros(start.elapsed(), APPENDS as usize)));
        store.close().await.unwrap();
    }
    if let [(short, short_bytes, short_load), (long, long_bytes, long_load)] = cost[..] {
        println!(
            "thread of 10,000 events against one of 10, {durability:?}: append {long:.0} us / {short:.0} us = {:.2}, \
             log bytes {:.2}, load of the tail {long_load:.0} us / {short_load:.0} us",
            long / short,
            long_bytes as f64 / short_bytes as f64
        );
    }
}

async fn paused() {
    let threads: u64 = env::var("STORE_THREADS").map_or(100_000, |n| n.parse().unwrap());
    // In turn: each thread gets its next event when all others have got theirs. That is the worst order
    // for the pages of the file; one after the other is the best.
    for in_turn in [false, true] {
        let dir = scratch();
        let path = dir.path().join("store.db");
        let store = open(&path, Durability::Process).await;
        let before = resident();
        let order: Box<dyn Iterator<Item = (u64, u64)>> = if in_turn {
            Box::new((0..EVENTS).flat_map(|v| (0..threads).map(move |t| (t, v))))
        } else {
            Box::new((0..threads).flat_map(|t| (0..EVENTS).map(move |v| (t, v))))
        };
        let start = Instant::now();
        let mut running = JoinSet::new();
        for (thread, version) in order {
            // An event of a thread is sent when the one before it was acknowledged.
            while running.len() >= CALLERS || (!in_turn && version > 0 && !running.is_empty()) {
                running.join_next().await.unwrap().unwrap();
            }
            let store = store.clone();
            running.spawn(async move {
                store.append(append(thread, version, vec![event(thread, version)])).await.unwrap();
            });
        }
        running.join_all().await;
        let time = start.elapsed();
        let grown = resident().saturating_sub(before);
        store.close().await.unwrap();
        drop(store);
        let raw = threads * EVENTS * event(0, 0).len() as u64;
        let size = fs::metadata(&path).unwrap().len();
        println!(
            "{threads} paused threads, {}: {:.2} MB for {:.2} MB of events, ratio {:.3}; {:.1} s; resident memory +{} KiB",
            if in_turn { "in turn" } else { "one after the other" },
            size as f64 / 1e6,
            raw as f64 / 1e6,
            size as f64 / raw as f64,
            time.as_secs_f64(),
            grown
        );
        parts(&path);

        let start = Instant::now();
        let store = open(&path, Durability::Disk).await;
        let opened = start.elapsed();
        let now = Timestamp(1_790_100_000_000 + 49);
        let due = store.claim("worker", now, 1_000, 100).await.unwrap().len();
        store.next_due(now).await.unwrap();
        let ready = start.elapsed();
        let start = Instant::now();
        let page = store.list(&Filter { waiting: true, ..Filter::default() }, None, 50).await.unwrap();
        let listed = start.elapsed();
        let start = Instant::now();
        let none = Filter {
            agent: Some("nobody".to_owned()),
            status: Some(Status::Done),
            waiting: false,
            requester: None,
            intents: false,
        };
        let nothing = store.list(&none, None, 50).await.unwrap().items.len();
        println!(
            "  open {:.2} ms, ready ({due} due) {:.2} ms; page of {} {:.2} ms; page of {nothing}, past all threads {:.1} ms",
            opened.as_secs_f64() * 1e3,
            ready.as_secs_f64() * 1e3,
            page.items.len(),
            listed.as_secs_f64() * 1e3,
            start.elapsed().as_secs_f64() * 1e3
        );
        store.close().await.unwrap();
    }
}

/// Pages of 50 and counts, with 10,000 open approvals alone and beside 100,000 settled ones.
async fn approvals() {
    const OPEN: u64 = 10_000;
    let dir = scratch();
    let path = dir.path().join("store.db");
    let mut from = 0;
    for settled in [0, 100_000] {
        let store = open(&path, Durability::Process).await;
        let mut running = JoinSet::new();
        for thread in from..OPEN + settled {
            while running.len() >= CALLERS {
                running.join_next().await.unwrap().unwrap();
            }
            let mut append = append(thread, 0, vec![event(thread, 0)]);
            append.approvals = vec![approval(thread, append.thread, thread < OPEN)];
            let store = store.clone();
            running.spawn(async move { store.append(append).await.unwrap() });
        }
        running.join_all().await;
        from = OPEN + settled;
        store.close().await.unwrap();
        println!("{OPEN} open approvals, {settled} settled: {:.1} MB", fs::metadata(&path).unwrap().len() as f64 / 1e6);

        let store = open(&path, Durability::Process).await;
        let person = |id: &str, groups: &[&str]| {
            let groups = groups.iter().map(|g| (*g).to_owned()).collect();
            Some(Person { principal: Principal::human(id), also: Vec::new(), groups })
        };
        let mut nobody = person("slack:T0123456789:U9", &[]);
        if let Some(nobody) = &mut nobody {
            nobody.principal.kind = twelve::agent::PrincipalKind::Service;
        }
        let every = ApprovalFilter::default();
        let open_ones = ApprovalFilter { open: Some(true), ..every.clone() };
        let before = resident();
        for (what, filter) in [
            ("open", open_ones.clone()),
            ("open, one agent", ApprovalFilter { agent: Some("support".to_owned()), ..open_ones.clone() }),
            ("open, to decide by anybody", ApprovalFilter { decider: person("web:x", &[]), ..open_ones.clone() }),
            (
                "open, to decide by a member of ten groups",
                ApprovalFilter {
                    decider: person("web:x", &["a", "b", "c", "d", "e", "f", "g", "h", "i", "release-team"]),
                    ..open_ones.clone()
                },
            ),
            ("open, seen by a program that asked for none", ApprovalFilter { visible_to: nobody.clone(), ..open_ones }),
            ("settled", ApprovalFilter { open: Some(false), ..every.clone() }),
            ("all, seen by one person", ApprovalFilter { visible_to: person("web:x", &["y"]), ..every.clone() }),
            ("all, seen by a program that asked for none", ApprovalFilter { visible_to: nobody, ..every }),
        ] {
            let start = Instant::now();
            let page = store.approvals(&filter, None, 50).await.unwrap();
            let first = start.elapsed();
            let start = Instant::now();
            let next = store.approvals(&filter, page.next, 50).await.unwrap();
            let second = start.elapsed();
            let start = Instant::now();
            let count = store.count_approvals(&filter).await.unwrap();
            println!(
                "  {what}: page of {} {:.2} ms, the next {} {:.2} ms, count of {count} {:.2} ms",
                page.items.len(),
                first.as_secs_f64() * 1e3,
                next.items.len(),
                second.as_secs_f64() * 1e3,
                start.elapsed().as_secs_f64() * 1e3
            );
        }
        println!("  resident memory +{} KiB", resident().saturating_sub(before));
        let mine = Filter {
            requester: Some(Person {
                principal: Principal::human("slack:T0123456789:U7"),
                also: Vec::new(),
                groups: Vec::new(),
            }),
            ..Filter::default()
        };
        let start = Instant::now();
        let page = store.list(&mine, None, 50).await.unwrap();
        println!(
            "  threads of somebody with none: page of {} {:.2} ms",
            page.items.len(),
            start.elapsed().as_secs_f64() * 1e3
        );
        store.close().await.unwrap();
    }
    parts(&path);
}

/// Where the bytes of the file are.
fn parts(path: &PathBuf) {
    let conn = Connection::open(path).unwrap();
    let mut query =
        conn.prepare("SELECT name, sum(pgsize), sum(unused) FROM dbstat GROUP BY name ORDER BY 2 DESC").unwrap();
    let rows = query
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, f64>(1)?, row.get::<_, f64>(2)?)))
        .unwrap();
    for (name, size, unused) in rows.map(Result::unwrap).filter(|(_, size, _)| *size > 1e6) {
        println!("  {name}: {:.2} MB, {:.0} % of it unused", size / 1e6, 100.0 * unused / size);
    }
}

/// Resident memory of this process in KiB (Linux; 0 elsewhere).
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
