//! The store contract (`src/store/mod.rs`) as one suite: every store runs it.
//!
//! Each rule is a function of a fresh, empty store; `contract!` makes a test of it for one way to open
//! such a store.

use std::collections::{BTreeMap, BTreeSet};

use tempfile::TempDir;
use twelve::agent::{
    ApprovalId, Approvers, Digest, Principal, PrincipalKind, QuestionId, Risk, ShortId, Status, ThreadId, Timestamp,
};
use twelve::store::{
    Append, ApprovalCursor, ApprovalFilter, ApprovalRow, Cursor, Durability, Filter, Lease, Person, Progress,
    Projection, Store, StoreConfig, StoreError, Summary, Tombstone,
};

macro_rules! contract {
    ($name:ident, $fresh:path: $($rule:ident)*) => {
        mod $name {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let (store, _keep) = $fresh().await;
                super::$rule(&store).await;
            })*
        }
    };
}

macro_rules! contract_of {
    ($name:ident, $fresh:path) => {
        contract! { $name, $fresh:
            an_append_needs_the_version_that_the_writer_saw
            of_many_appends_to_one_version_exactly_one_wins
            a_log_comes_back_byte_for_byte_from_any_point
            a_page_of_a_log_holds_what_was_asked_for_and_no_more
            what_was_acknowledged_is_seen_by_the_next_read
            an_append_without_events_changes_the_summary_alone
            a_summary_that_does_not_fit_its_events_is_refused
            a_claim_gives_what_is_due_and_nothing_else
            two_workers_never_claim_the_same_thread
            a_lease_ends_when_its_time_comes_or_when_it_is_given_up
            an_append_takes_a_lease_unless_another_worker_lives
            the_next_due_moment_is_the_earliest_to_come
            a_deleted_thread_leaves_a_tombstone_and_nothing_else
            tombstones_are_listed_in_pages
            a_forgotten_log_leaves_nothing_and_only_logs_without_an_agent_are_forgotten
            logs_without_an_agent_are_in_no_list_unless_asked_for_and_rest_longest_first
            what_was_never_there_is_unknown
            pages_show_every_quiet_thread_once_while_others_change
            filters_must_all_hold
            a_thread_is_found_by_its_name_and_by_the_beginning_of_its_short_id
            threads_are_found_by_who_started_them
            a_row_takes_the_place_of_the_one_with_its_id
            rows_are_written_with_their_events_or_not_at_all
            open_approvals_come_oldest_first_and_the_others_newest_first
            pages_show_every_quiet_approval_once_while_others_change
            filters_of_approvals_must_all_hold
            who_may_decide_and_who_may_see_is_what_the_approvers_say
            rows_go_with_their_thread
            how_far_the_projection_is_comes_back
        }
    };
}

contract_of!(embedded_process, super::fresh_process);
contract_of!(embedded_disk, super::fresh_disk);

async fn fresh_process() -> (Store, TempDir) {
    fresh(Durability::Process).await
}

async fn fresh_disk() -> (Store, TempDir) {
    fresh(Durability::Disk).await
}

async fn fresh(durability: Durability) -> (Store, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreConfig { path: dir.path().join("threads.db"), durability }).await.unwrap();
    assert_eq!(store.durability(), durability);
    (store, dir)
}

/// The name of test thread number `n`.
pub fn thread(n: usize) -> ThreadId {
    format!("api:thread-{n}").parse().unwrap()
}

/// An append to `thread` that every store accepts if `expected` is its version. It changes at
/// moment `1_000 + version`.
pub fn append(thread: &ThreadId, expected: u64, events: &[&[u8]]) -> Append {
    let version = expected + events.len() as u64;
    Append {
        thread: thread.short(),
        expected,
        events: events.iter().map(|event| event.to_vec()).collect(),
        summary: Summary {
            thread: thread.clone(),
            status: Status::Running,
            agent: "deployment".to_owned(),
            title: "deploy the API — now".to_owned(),
            requester: Principal::human("console:ops"),
            approvals: Vec::new(),
            questions: Vec::new(),
            tokens: 1_234,
            version,
            head: events.last().map_or(Digest::ZERO, |last| Digest::of(last)),
            created_at: Timestamp(1_000),
            updated_at: Timestamp(1_000 + version as i64),
            due_at: None,
        },
        approvals: Vec::new(),
        lease: None,
    }
}

fn due(n: usize, at: i64) -> Append {
    let mut append = append(&thread(n), 0, &[b"due"]);
    append.summary.due_at = Some(Timestamp(at));
    append
}

fn shorts(numbers: impl IntoIterator<Item = usize>) -> Vec<ShortId> {
    numbers.into_iter().map(|n| thread(n).short()).collect()
}

async fn an_append_needs_the_version_that_the_writer_saw(store: &Store) {
    let t = thread(1);
    assert_eq!(store.append(append(&t, 0, &[b"one", b"two"])).await.unwrap(), 2);
    let before = store.load(t.short(), 0).await.unwrap();
    for wrong in [0, 1, 3, 99] {
        let refused = store.append(append(&t, wrong, &[b"lost", b"lost too"])).await;
        assert!(
            matches!(&refused, Err(StoreError::Conflict { thread, expected, found: 2 })
                if *thread == t.short() && *expected == wrong),
            "expected {wrong}: {refused:?}"
        );
    }
    assert_eq!(store.load(t.short(), 0).await.unwrap(), before, "a refused append leaves no trace");
    let refused = store.append(append(&thread(2), 1, &[b"late"])).await;
    assert!(matches!(refused, Err(StoreError::Conflict { expected: 1, found: 0, .. })), "{refused:?}");
    assert!(matches!(store.load(thread(2).short(), 0).await, Err(StoreError::Unknown(_))));
    assert_eq!(store.append(append(&t, 2, &[b"three"])).await.unwrap(), 3);
}

async fn of_many_appends_to_one_version_exactly_one_wins(store: &Store) {
    const WRITERS: usize = 24;
    let t = thread(1);
    let mut won = Vec::new();
    for version in 0..10 {
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let (store, t) = (store.clone(), t.clone());
            let event = format!("{version} by {writer}").into_bytes();
            tasks.spawn(async move { (store.append(append(&t, version, &[&event])).await, event) });
        }
        let mut winners = 0;
        while let Some(done) = tasks.join_next().await {
            match done.unwrap() {
                (Ok(new), event) => {
                    assert_eq!(new, version + 1);
                    winners += 1;
                    won.push(event);
                }
                (Err(StoreError::Conflict { found, .. }), _) => assert_eq!(found, version + 1),
                (Err(other), _) => panic!("{other}"),
            }
        }
        assert_eq!(winners, 1, "at version {version}");
    }
    assert_eq!(store.load(t.short(), 0).await.unwrap().events, won);
}

async fn a_log_comes_back_byte_for_byte_from_any_point(store: &Store) {
    let events: Vec<Vec<u8>> = vec![
        b"plain".to_vec(),
        Vec::new(),
        vec![0, 255, 254, 0],
        "Größe \u{1F680}".as_bytes().to_vec(),
        vec![b'x'; 4_061],
        vec![b'y'; 4_062],
        (0..1_000_000u32).map(|i| (i % 251) as u8).collect(),
    ];
    let (t, other) = (thread(1), thread(2));
    for (seq, event) in (0..).zip(&events) {
        // Two logs that grow in turn: neither may show up in the other.
        store.append(append(&t, seq, &[event])).await.unwrap();
        store.append(append(&other, seq, &[b"other"])).await.unwrap();
    }
    for after in 0..=events.len() {
        let loaded = store.load(t.short(), after as u64).await.unwrap();
        assert!(loaded.events == events[after..], "after {after}");
        assert_eq!(loaded.summary.version, events.len() as u64);
    }
    assert!(store.load(t.short(), 1_000_000).await.unwrap().events.is_empty());
    assert!(store.load(t.short(), u64::MAX).await.unwrap().events.is_empty());
    assert_eq!(store.load(other.short(), 0).await.unwrap().events, vec![b"other".to_vec(); events.len()]);
}

async fn a_page_of_a_log_holds_what_was_asked_for_and_no_more(store: &Store) {
    let t = thread(1);
    let events: [&[u8]; 5] = [b"1", b"2", b"3", b"4", b"5"];
    store.append(append(&t, 0, &events)).await.unwrap();
    for after in 0..=6u64 {
        for limit in 0..=6usize {
            let page = store.load_page(t.short(), after, limit).await.unwrap();
            let wanted: Vec<_> = events.iter().skip(after as usize).take(limit).map(|e| e.to_vec()).collect();
            assert_eq!((page.events, page.summary.version), (wanted, 5), "{limit} after {after}");
        }
    }
    assert!(store.load_page(t.short(), u64::MAX, usize::MAX).await.unwrap().events.is_empty());
    assert!(matches!(store.load_page(thread(2).short(), 0, 1).await, Err(StoreError::Unknown(_))));
}

async fn what_was_acknowledged_is_seen_by_the_next_read(store: &Store) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            let t = thread(n);
            for version in 0..20u64 {
                let append = append(&t, version, &[&version.to_be_bytes()]);
                let summary = append.summary.clone();
                store.append(append).await.unwrap();
                assert_eq!(store.summary(t.short()).await.unwrap(), summary);
                let loaded = store.load(t.short(), version).await.unwrap();
                assert_eq!(loaded.events, vec![version.to_be_bytes().to_vec()]);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

async fn an_append_without_events_changes_the_summary_alone(store: &Store) {
    let t = thread(1);
    assert!(matches!(store.append(append(&t, 0, &[])).await, Err(StoreError::Unknown(_))));
    store.append(append(&t, 0, &[b"one"])).await.unwrap();
    let mut change = append(&t, 1, &[]);
    let refused = store.append(change.clone()).await;
    assert!(matches!(refused, Err(StoreError::Failed(_))), "its head would be that of no event: {refused:?}");
    change.summary.head = Digest::of(b"one");
    change.summary.due_at = Some(Timestamp(7));
    change.summary.title = "another title".to_owned();
    let summary = change.summary.clone();
    assert_eq!(store.append(change).await.unwrap(), 1);
    let loaded = store.load(t.short(), 0).await.unwrap();
    assert_eq!((loaded.events, loaded.summary), (vec![b"one".to_vec()], summary));
}

async fn a_summary_that_does_not_fit_its_events_is_refused(store: &Store) {
    let good = append(&thread(1), 0, &[b"one"]);
    let mut other_thread = good.clone();
    other_thread.thread = thread(2).short();
    let mut other_version = good.clone();
    other_version.summary.version = 2;
    let mut other_head = good.clone();
    other_head.summary.head = Digest::of(b"two");
    for wrong in [other_thread, other_version, other_head] {
        let refused = store.append(wrong.clone()).await;
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?} for {wrong:?}");
        assert!(matches!(store.load(wrong.thread, 0).await, Err(StoreError::Unknown(_))));
    }
    assert_eq!(store.append(good).await.unwrap(), 1);
}

async fn a_claim_gives_what_is_due_and_nothing_else(store: &Store) {
    for (n, at) in [(1, 300), (2, 100), (3, 200), (4, 301)] {
        store.append(due(n, at)).await.unwrap();
    }
    store.append(append(&thread(5), 0, &[b"never due"])).await.unwrap();
    assert!(store.claim("w", Timestamp(99), 1_000, 10).await.unwrap().is_empty());
    assert!(store.claim("w", Timestamp(300), 1_000, 0).await.unwrap().is_empty());
    assert_eq!(store.claim("w", Timestamp(300), 1_000, 2).await.unwrap(), shorts([2, 3]), "longest due first");
    assert_eq!(store.claim("w", Timestamp(300), 1_000, 10).await.unwrap(), shorts([1]), "its own are not given twice");
    // A thread whose work is done is not due any more, whoever held it.
    store.release(thread(2).short(), "w").await.unwrap();
    store.append(append(&thread(2), 1, &[b"done"])).await.unwrap();
    assert!(store.claim("w", Timestamp(300), 1_000, 10).await.unwrap().is_empty());
}

async fn two_workers_never_claim_the_same_thread(store: &Store) {
    const THREADS: usize = 60;
    for n in 0..THREADS {
        store.append(due(n, n as i64)).await.unwrap();
    }
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..6 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let more = store.claim(&format!("w{worker}"), Timestamp(1_000), 5_000, 3).await.unwrap();
                if more.is_empty() {
                    return mine;
                }
                mine.extend(more);
            }
        });
    }
    let mut all = Vec::new();
    while let Some(mine) = tasks.join_next().await {
        all.extend(mine.unwrap());
    }
    assert_eq!(all.len(), THREADS, "each thread once");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), shorts(0..THREADS).into_iter().collect());
}

async fn a_lease_ends_when_its_time_comes_or_when_it_is_given_up(store: &Store) {
    let t = thread(1).short();
    store.append(due(1, 0)).await.unwrap();
    let claim = async |worker: &str, now| store.claim(worker, Timestamp(now), 100, 1).await.unwrap();
    let renew = async |worker: &str, now| store.renew(t, worker, Timestamp(now), 100).await.unwrap();

    assert!(!renew("a", 0).await, "nobody holds it yet");
    assert_eq!(claim("a", 0).await, [t]);
    assert!(claim("b", 99).await.is_empty());
    assert!(!renew("b", 50).await, "it is a's");
    assert!(renew("a", 50).await);
    assert!(claim("b", 149).await.is_empty(), "renewed until 150");
    assert_eq!(claim("b", 150).await, [t], "run out at 150");
    assert!(!renew("a", 151).await, "it is b's by now");

    store.release(t, "a").await.unwrap();
    assert!(claim("a", 160).await.is_empty(), "a cannot give up what is b's");
    store.release(t, "b").await.unwrap();
    assert_eq!(claim("a", 160).await, [t]);
    assert!(!renew("a", 260).await, "run out at 260, even if nobody else took it");
    store.release(thread(9).short(), "a").await.unwrap();
}

async fn an_append_takes_a_lease_unless_another_worker_lives(store: &Store) {
    let t = thread(1);
    let mut version = 0;
    // An append at `now` by `worker`, which keeps the thread until `until`; it is due at once.
    let mut write = async |lease: Option<(&str, i64)>, now: i64| {
        let mut append = append(&t, version, &[b"event"]);
        append.summary.updated_at = Timestamp(now);
        append.summary.due_at = Some(Timestamp(0));
        append.lease = lease.map(|(worker, until)| Lease { worker: worker.to_owned(), until: Timestamp(until) });
        version = store.append(append).await.unwrap();
    };
    let renew = async |worker: &str, now| store.renew(t.short(), worker, Timestamp(now), 100).await.unwrap();
    let claimed = async |worker: &str, now| !store.claim(worker, Timestamp(now), 100, 1).await.unwrap().is_empty();

    write(Some(("a", 100)), 0).await;
    assert!(!claimed("b", 99).await, "taken with the append");
    write(None, 10).await;
    assert!(!claimed("b", 99).await, "an append of somebody else changes nothing");
    write(Some(("b", 500)), 20).await;
    assert!(renew("a", 99).await, "a lives until 100");
    assert!(!renew("b", 99).await);
    write(Some(("b", 500)), 199).await;
    assert!(renew("b", 200).await, "a has run out");
    write(Some(("b", 300)), 300).await;
    assert!(claimed("c", 300).await, "b gave it up");

    // A refused append takes no lease.
    let mut refused = append(&t, 0, &[b"stale"]);
    refused.summary.updated_at = Timestamp(1_000);
    refused.lease = Some(Lease { worker: "d".to_owned(), until: Timestamp(9_000) });
    assert!(matches!(store.append(refused).await, Err(StoreError::Conflict { .. })));
    assert!(claimed("e", 1_000).await);
}

async fn the_next_due_moment_is_the_earliest_to_come(store: &Store) {
    assert_eq!(store.next_due(Timestamp(0)).await.unwrap(), None);
    for (n, at) in [(1, 500), (2, 100), (3, 300)] {
        store.append(due(n, at)).await.unwrap();
    }
    for (now, next) in [(0, Some(100)), (100, Some(300)), (499, Some(500)), (500, None)] {
        assert_eq!(store.next_due(Timestamp(now)).await.unwrap(), next.map(Timestamp), "after {now}");
    }
    store.append(append(&thread(3), 1, &[b"no longer due"])).await.unwrap();
    assert_eq!(store.next_due(Timestamp(100)).await.unwrap(), Some(Timestamp(500)));
}

async fn a_deleted_thread_leaves_a_tombstone_and_nothing_else(store: &Store) {
    let (t, other) = (thread(1), thread(2));
    let mut first = append(&t, 0, &[b"one", b"two"]);
    first.summary.due_at = Some(Timestamp(0));
    let head = first.summary.head;
    store.append(first).await.unwrap();
    store.append(append(&other, 0, &[b"other"])).await.unwrap();
    assert_eq!(store.tombstone(t.short()).await.unwrap(), None);
    assert_eq!(store.claim("w", Timestamp(0), 1_000, 1).await.unwrap(), [t.short()]);

    let tombstone = store.delete(t.short(), "console:ops", Timestamp(77)).await.unwrap();
    assert_eq!(
        tombstone,
        Tombstone { thread: t.short(), version: 2, head, at: Timestamp(77), by: "console:ops".to_owned() }
    );
    assert_eq!(store.tombstone(t.short()).await.unwrap(), Some(tombstone.clone()));
    assert_eq!(store.delete(t.short(), "console:dev", Timestamp(99)).await.unwrap(), tombstone, "the first one stays");
    for expected in [0, 2] {
        let refused = store.append(append(&t, expected, &[b"three"])).await;
        assert!(matches!(refused, Err(StoreError::Deleted(id)) if id == t.short()), "{refused:?}");
    }
    assert!(matches!(store.load(t.short(), 0).await, Err(StoreError::Deleted(_))));
    assert!(matches!(store.summary(t.short()).await, Err(StoreError::Deleted(_))));
    assert!(!store.renew(t.short(), "w", Timestamp(1), 1_000).await.unwrap(), "its lease went with it");
    assert!(store.claim("v", Timestamp(9_000), 1_000, 9).await.unwrap().is_empty());
    assert!(store.find(t.as_str()).await.unwrap().is_empty());
    let page = store.list(&Filter::default(), None, 10).await.unwrap();
    assert_eq!(page.items.into_iter().map(|s| s.thread).collect::<Vec<_>>(), std::slice::from_ref(&other));
    assert_eq!(store.load(other.short(), 0).await.unwrap().events, [b"other"]);
}

async fn tombstones_are_listed_in_pages(store: &Store) {
    assert_eq!(store.tombstones(None, 10).await.unwrap(), []);
    let mut stones = Vec::new();
    for n in 0..5 {
        store.append(append(&thread(n), 0, &[b"first"])).await.unwrap();
        if n > 0 {
            stones.push(store.delete(thread(n).short(), "ops", Timestamp(n as i64)).await.unwrap());
        }
    }
    stones.sort_by_key(|stone| stone.thread);
    assert_eq!(store.tombstones(None, 10).await.unwrap(), stones);
    assert_eq!(store.tombstones(None, 3).await.unwrap(), stones[..3]);
    assert_eq!(store.tombstones(Some(stones[2].thread), 3).await.unwrap(), stones[3..]);
}

/// The record of something that somebody pressed: no agent works on it.
fn record(n: usize, expected: u64, events: &[&[u8]]) -> Append {
    let id: ThreadId = format!("system:slack:T1:{n}").parse().unwrap();
    let mut append = append(&id, expected, events);
    append.summary.agent = String::new();
    append.summary.status = Status::Done;
    append
}

async fn a_forgotten_log_leaves_nothing_and_only_logs_without_an_agent_are_forgotten(store: &Store) {
    let (first, other) = (record(1, 0, &[b"pressed", b"done"]), thread(2));
    let short = first.thread;
    store
        .append(Append { lease: Some(Lease { worker: "w".into(), until: Timestamp(9_000) }), ..first.clone() })
        .await
        .unwrap();
    store.append(append(&other, 0, &[b"one"])).await.unwrap();
    let moved_on = store.forget(short, 1).await;
    assert!(matches!(moved_on, Err(StoreError::Conflict { expected: 1, found: 2, .. })), "{moved_on:?}");
    let refused = store.forget(other.short(), 1).await;
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    assert_eq!(store.load(short, 0).await.unwrap().events.len(), 2);
    store.forget(short, 2).await.unwrap();
    assert!(matches!(store.load(short, 0).await, Err(StoreError::Unknown(_))));
    assert!(matches!(store.summary(short).await, Err(StoreError::Unknown(_))));
    assert_eq!((store.tombstone(short).await.unwrap(), store.tombstones(None, 9).await.unwrap()), (None, vec![]));
    assert!(!store.renew(short, "w", Timestamp(1), 1_000).await.unwrap(), "its lease went with it");
    assert_eq!(store.list(&Filter::everything(), None, 9).await.unwrap().items.len(), 1);
    store.forget(short, 2).await.unwrap();
    // It never was: the same id begins anew, with none of what was there before.
    assert_eq!(store.append(record(1, 0, &[b"again"])).await.unwrap(), 1);
    assert_eq!(store.load(short, 0).await.unwrap().events, [b"again"]);
    assert_eq!(store.load(other.short(), 0).await.unwrap().events, [b"one"]);
}

async fn logs_without_an_agent_are_in_no_list_unless_asked_for_and_rest_longest_first(store: &Store) {
    for n in 0..6 {
        let mut append = record(n, 0, &[b"pressed"]);
        append.summary.updated_at = Timestamp(100 - n as i64);
        // The last of them is still to be carried out.
        append.summary.due_at = (n == 5).then_some(Timestamp(0));
        store.append(append).await.unwrap();
    }
    store.append(append(&thread(9), 0, &[b"one"])).await.unwrap();
    let listed = async |filter: Filter| store.list(&filter, None, 99).await.unwrap().items.len();
    assert_eq!((listed(Filter::default()).await, listed(Filter::everything()).await), (1, 7));
    let done = Filter { status: Some(Status::Done), ..Filter::default() };
    assert_eq!(listed(done.clone()).await, 0);
    assert_eq!(listed(Filter { intents: true, ..done }).await, 6);
    // Pages that hold none of them still end where they should.
    let page = store.list(&Filter::default(), None, 1).await.unwrap();
    assert_eq!((page.items.len(), page.next), (1, None));
    let resting = async |before: i64, limit: usize| store.resting_intents(Timestamp(before), limit).await.unwrap();
    let id = |n: usize| (record(n, 0, &[b"pressed"]).thread, 1);
    assert_eq!(resting(100, 9).await, [id(4), id(3), id(2), id(1)]);
    assert_eq!(resting(100, 2).await, [id(4), id(3)]);
    assert_eq!(resting(96, 9).await, []);
    assert_eq!(resting(i64::MAX, 9).await.len(), 5, "neither what is to be done nor a conversation");
}

async fn what_was_never_there_is_unknown(store: &Store) {
    let t = thread(1).short();
    assert!(matches!(store.load(t, 0).await, Err(StoreError::Unknown(id)) if id == t));
    assert!(matches!(store.summary(t).await, Err(StoreError::Unknown(id)) if id == t));
    assert!(matches!(store.delete(t, "console:ops", Timestamp(0)).await, Err(StoreError::Unknown(id)) if id == t));
    assert_eq!(store.tombstone(t).await.unwrap(), None);
    let page = store.list(&Filter::default(), None, 10).await.unwrap();
    assert_eq!((page.items, page.damaged, page.next), (Vec::new(), Vec::new(), None));
}

async fn pages_show_every_quiet_thread_once_while_others_change(store: &Store) {
    // Groups of four threads share a moment: the order within one moment must be stable as well.
    for n in 0..22 {
        let mut append = append(&thread(n), 0, &[b"one"]);
        append.summary.updated_at = Timestamp(n as i64 / 4);
        store.append(append).await.unwrap();
    }
    let mut seen: Vec<(Timestamp, ShortId)> = Vec::new();
    let mut after: Option<Cursor> = None;
    let mut busy = BTreeSet::new();
    for round in 0.. {
        let page = store.list(&Filter::default(), after, 5).await.unwrap();
        assert!(page.items.len() == 5 || page.next.is_none());
        seen.extend(page.items.iter().map(|s| (s.updated_at, s.thread.short())));
        // One thread that was shown and one that was not change meanwhile; one of each is deleted.
        for (n, gone) in [(21 - round, false), (round, false), (15 - round, true)] {
            if round < 3 && busy.insert(n) {
                if gone {
                    store.delete(thread(n).short(), "console:ops", Timestamp(0)).await.unwrap();
                } else {
                    let mut append = append(&thread(n), 1, &[b"two"]);
                    append.summary.updated_at = Timestamp(1_000 + n as i64);
                    store.append(append).await.unwrap();
                }
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(seen.iter().rev().is_sorted(), "newest first, ties by id: {seen:?}");
    let mut times: BTreeMap<ShortId, usize> = BTreeMap::new();
    for (_, id) in &seen {
        *times.entry(*id).or_default() += 1;
    }
    assert!(times.values().all(|&n| n == 1), "{times:?}");
    for n in (0..22).filter(|n| !busy.contains(n)) {
        assert!(times.contains_key(&thread(n).short()), "thread {n} was quiet and not shown");
    }
    // The last page is known to be the last, also when it is full.
    let all = store.list(&Filter::default(), None, 19).await.unwrap();
    assert_eq!((all.items.len(), all.next), (19, None));
}

async fn filters_must_all_hold(store: &Store) {
    let put = async |n: usize, status: Status, agent: &str, approvals: usize, questions: usize| {
        let mut append = append(&thread(n), 0, &[b"one"]);
        let short = append.thread;
        let summary = &mut append.summary;
        (summary.status, summary.agent) = (status, agent.to_owned());
        summary.updated_at = Timestamp(n as i64);
        summary.approvals = (0..approvals).map(|i| ApprovalId::new(short, 5, i as u32)).collect();
        summary.questions = (0..questions).map(|i| QuestionId::new(short, 6, i as u32)).collect();
        let expected = summary.clone();
        store.append(append).await.unwrap();
        assert_eq!(store.summary(short).await.unwrap(), expected);
    };
    put(1, Status::Running, "deployment", 0, 0).await;
    put(2, Status::WaitingApproval, "deployment", 2, 0).await;
    put(3, Status::WaitingAnswer, "support", 0, 1).await;
    put(4, Status::WaitingApproval, "support", 1, 1).await;
    put(5, Status::Done, "support", 0, 0).await;
    // A stopped thread with an open approval: waiting is about what is open, not about the status.
    put(6, Status::Paused, "deployment", 1, 0).await;
    let statuses = [
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
    for (n, status) in (10..).zip(statuses) {
        put(n, status, "every", 0, 0).await;
        let filter = Filter {
            status: Some(status),
            agent: Some("every".to_owned()),
            waiting: false,
            requester: None,
            intents: false,
        };
        let page = store.list(&filter, None, 50).await.unwrap();
        assert_eq!(page.items.iter().map(|s| s.thread.clone()).collect::<Vec<_>>(), [thread(n)], "{status:?}");
    }
    let agent = |name: &str| Some(name.to_owned());
    for (filter, expected) in [
        (Filter { agent: agent("support"), ..Filter::default() }, vec![5, 4, 3]),
        (
            Filter {
                status: Some(Status::WaitingApproval),
                agent: agent("support"),
                waiting: false,
                requester: None,
                intents: false,
            },
            vec![4],
        ),
        (Filter { waiting: true, ..Filter::default() }, vec![6, 4, 3, 2]),
        (
            Filter {
                waiting: true,
                status: Some(Status::WaitingApproval),
                agent: None,
                requester: None,
                intents: false,
            },
            vec![4, 2],
        ),
        (
            Filter { waiting: true, status: None, agent: agent("deployment"), requester: None, intents: false },
            vec![6, 2],
        ),
        (Filter { waiting: true, status: Some(Status::Done), agent: None, requester: None, intents: false }, vec![]),
        (Filter { agent: agent("nobody"), ..Filter::default() }, vec![]),
    ] {
        // One at a time, so that the filter also holds across pages.
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(&filter, after, 1).await.unwrap();
            found.extend(page.items.into_iter().map(|s| s.thread));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected.into_iter().map(thread).collect::<Vec<_>>(), "{filter:?}");
    }
    // A decided approval takes the thread from the list of those that wait.
    store.append(append(&thread(2), 1, &[b"decided"])).await.unwrap();
    let page = store.list(&Filter { waiting: true, ..Filter::default() }, None, 50).await.unwrap();
    assert_eq!(page.items.len(), 3);
}

async fn a_thread_is_found_by_its_name_and_by_the_beginning_of_its_short_id(store: &Store) {
    for n in 0..40 {
        store.append(append(&thread(n), 0, &[b"one"])).await.unwrap();
    }
    let mut all = shorts(0..40);
    all.sort();
    for t in shorts(0..40) {
        for length in [1, 2, 6, 16] {
            let prefix = &t.as_str()[..length];
            let expected: Vec<_> = all.iter().copied().filter(|id| id.as_str().starts_with(prefix)).collect();
            assert_eq!(store.find(prefix).await.unwrap(), expected, "{prefix}");
            assert_eq!(store.find(&format!(" {} ", prefix.to_uppercase())).await.unwrap(), expected);
        }
    }
    assert_eq!(store.find("api:thread-7").await.unwrap(), shorts([7]));
    for nothing in ["", " ", "api:thread-", "api:nobody", "%", "a_", "0", "{", "aaaaaaaaaaaaaaaaa", "é", "' OR 1"] {
        assert!(store.find(nothing).await.unwrap().is_empty(), "{nothing:?}");
    }
}

async fn threads_are_found_by_who_started_them(store: &Store) {
    let kim = Principal { name: Some("Kim".to_owned()), ..Principal::human("slack:T1:U1") };
    let program = Principal { kind: PrincipalKind::Service, ..kim.clone() };
    let quoted = Principal::human("web:\"k\\im\" \u{7f}\u{e9}");
    for (n, who) in [(1, &kim), (2, &program), (3, &quoted), (4, &kim), (5, &program)] {
        let mut append = append(&thread(n), 0, &[b"one"]);
        append.summary.requester = who.clone();
        append.summary.updated_at = Timestamp(n as i64);
        if n == 4 {
            append.summary.questions = vec![QuestionId::new(append.thread, 1, 0)];
        }
        store.append(append).await.unwrap();
    }
    let by = async |who: &Principal, waiting: bool| {
        let filter = Filter {
            requester: Some(twelve::store::Person::of(who, &[], &twelve::agent::People::default())),
            waiting,
            ..Filter::default()
        };
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(&filter, after, 1).await.unwrap();
            found.extend(page.items.into_iter().map(|s| s.thread));
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    };
    assert_eq!(by(&kim, false).await, [thread(4), thread(1)]);
    assert_eq!(by(&Principal::human("slack:T1:U1"), true).await, [thread(4)], "a name is decoration");
    assert_eq!(by(&program, false).await, [thread(5), thread(2)]);
    assert_eq!(by(&quoted, false).await, [thread(3)]);
    assert_eq!(by(&Principal::human("slack:T1:U"), false).await, []);
}

/// An open approval of `thread`, requested at moment `at` by its event `seq`.
pub fn approval(thread: &ThreadId, seq: u64, at: i64) -> ApprovalRow {
    ApprovalRow {
        id: ApprovalId::new(thread.short(), seq, 0),
        open: true,
        state: "pending".to_owned(),
        revision: 1,
        digest: Digest::of(b"what is covered"),
        title: "deploy the API — now".to_owned(),
        tool: "deploy_service".to_owned(),
        agent: "deployment".to_owned(),
        risk: Risk::High,
        rule: "production".to_owned(),
        requesters: vec![Principal { name: Some("Ann".to_owned()), ..Principal::human("web:ann") }],
        approvers: Approvers { users: vec!["*".to_owned()], ..Approvers::default() },
        decided_by: Vec::new(),
        requested_at: Timestamp(at),
        expires_at: Timestamp(at + 7_200_000),
        settled_at: None,
    }
}

fn settled(mut row: ApprovalRow, state: &str, at: i64) -> ApprovalRow {
    (row.open, row.state, row.settled_at) = (false, state.to_owned(), Some(Timestamp(at)));
    row.decided_by = vec![Principal::human("web:bob")];
    row
}

/// An append of one event to thread number `n`, with rows.
fn with_rows(n: usize, expected: u64, approvals: Vec<ApprovalRow>) -> Append {
    Append { approvals, ..append(&thread(n), expected, &[b"event"]) }
}

/// Everything that fits, two at a time; what the store counts is as many.
async fn rows(store: &Store, filter: &ApprovalFilter) -> Vec<ApprovalRow> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.approvals(filter, after, 2).await.unwrap();
        assert_eq!(page.damaged, []);
        assert!(page.items.len() == 2 || page.next.is_none());
        found.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(store.count_approvals(filter).await.unwrap(), found.len() as u64, "{filter:?}");
    found
}

fn only_open(open: bool) -> ApprovalFilter {
    ApprovalFilter { open: Some(open), ..ApprovalFilter::default() }
}

async fn a_row_takes_the_place_of_the_one_with_its_id(store: &Store) {
    let t = thread(1);
    let (first, other) = (approval(&t, 1, 10), approval(&t, 2, 20));
    let twin = ApprovalRow { id: ApprovalId::new(t.short(), 1, 1), ..approval(&t, 1, 30) };
    store.append(with_rows(1, 0, vec![first.clone(), other.clone(), twin.clone()])).await.unwrap();
    assert_eq!(rows(store, &only_open(true)).await, [first.clone(), other.clone(), twin.clone()]);

    // A new revision is a new request: everything may differ.
    let mut second = approval(&t, 1, 40);
    (second.revision, second.digest, second.title) = (2, Digest::of(b"other"), "deploy another".to_owned());
    (second.tool, second.rule, second.agent) = ("restart".to_owned(), "silent".to_owned(), "support".to_owned());
    (second.requesters, second.risk) = (vec![Principal::human("web:eve")], Risk::Low);
    second.approvers = Approvers { groups: vec!["ops".to_owned()], requester_may: Some(true), ..Approvers::default() };
    store.append(with_rows(1, 1, vec![second.clone()])).await.unwrap();
    assert_eq!(rows(store, &only_open(true)).await, [other.clone(), twin.clone(), second.clone()]);

    // Rows can be written without events, like a summary.
    let (second, twin) = (settled(second, "succeeded", 50), settled(twin, "denied", 50));
    let mut quiet = append(&t, 2, &[]);
    quiet.summary.head = Digest::of(b"event");
    quiet.approvals = vec![second.clone(), twin.clone()];
    assert_eq!(store.append(quiet).await.unwrap(), 2);
    assert_eq!(rows(store, &only_open(true)).await, std::slice::from_ref(&other));
    assert_eq!(rows(store, &only_open(false)).await, [second.clone(), twin.clone()]);
    assert_eq!(rows(store, &ApprovalFilter::default()).await, [second, twin, other]);
}

async fn rows_are_written_with_their_events_or_not_at_all(store: &Store) {
    let kept = approval(&thread(1), 1, 1);
    store.append(with_rows(1, 0, vec![kept.clone()])).await.unwrap();
    store.append(with_rows(2, 0, Vec::new())).await.unwrap();
    store.delete(thread(2).short(), "console:ops", Timestamp(0)).await.unwrap();

    let lost = |n| settled(approval(&thread(n), 1, 2), "denied", 3);
    let stale = with_rows(1, 0, vec![lost(1)]);
    assert!(matches!(store.append(stale).await, Err(StoreError::Conflict { .. })));
    let late = with_rows(2, 0, vec![lost(2)]);
    assert!(matches!(store.append(late).await, Err(StoreError::Deleted(_))));
    let mut vacant = with_rows(3, 0, vec![lost(3)]);
    (vacant.events, vacant.summary.version) = (Vec::new(), 0);
    assert!(matches!(store.append(vacant).await, Err(StoreError::Unknown(_))));
    let mut other_head = with_rows(1, 1, vec![lost(1)]);
    other_head.summary.head = Digest::of(b"other");
    assert!(matches!(store.append(other_head).await, Err(StoreError::Failed(_))));
    // No delete would find the row of a thread under another one.
    let stray = with_rows(1, 1, vec![lost(1), lost(4)]);
    assert!(matches!(store.append(stray).await, Err(StoreError::Failed(why)) if why.contains("another thread")));
    assert_eq!(rows(store, &ApprovalFilter::default()).await, [kept]);
    assert_eq!(store.summary(thread(1).short()).await.unwrap().version, 1);
}

async fn open_approvals_come_oldest_first_and_the_others_newest_first(store: &Store) {
    let mut all = Vec::new();
    for n in 0..12 {
        // Three share each moment, two of them in one thread.
        let t = thread(n / 2);
        let row = approval(&t, 1 + n as u64 % 2, 100 - (n as i64 / 3));
        let row = if n % 4 == 3 { settled(row, "expired", 500 - n as i64) } else { row };
        store.append(with_rows(n / 2, n as u64 % 2, vec![row.clone()])).await.unwrap();
        all.push(row);
    }
    all.sort_by_key(|row| (row.requested_at, row.id));
    let open: Vec<_> = all.iter().filter(|row| row.open).cloned().collect();
    assert_eq!(rows(store, &only_open(true)).await, open);
    all.reverse();
    assert_eq!(rows(store, &ApprovalFilter::default()).await, all);
    all.retain(|row| !row.open);
    assert_eq!(rows(store, &only_open(false)).await, all);
}

async fn pages_show_every_quiet_approval_once_while_others_change(store: &Store) {
    for filter in [only_open(true), ApprovalFilter::default()] {
        // Four share each moment. Thread n has approval n; every other run of the loop starts anew.
        for n in 0..22 {
            let found = store.summary(thread(n).short()).await.map_or(0, |s| s.version);
            let row = approval(&thread(n), 1, n as i64 / 4);
            store.append(with_rows(n, found, vec![row])).await.unwrap();
        }
        let mut seen: Vec<ApprovalId> = Vec::new();
        let mut after: Option<ApprovalCursor> = None;
        let mut busy = BTreeSet::new();
        for round in 0.. {
            let page = store.approvals(&filter, after, 5).await.unwrap();
            assert!(page.items.len() == 5 || page.next.is_none());
            seen.extend(page.items.iter().map(|row| row.id));
            // One at each end and one in the middle are decided or asked for again meanwhile.
            for n in [round, 21 - round, 11 + round] {
                if round < 3 && busy.insert(n) {
                    let version = store.summary(thread(n).short()).await.unwrap().version;
                    let row = approval(&thread(n), 1, 1_000 + n as i64);
                    let row =
                        if n % 2 == 0 { settled(approval(&thread(n), 1, n as i64 / 4), "denied", 7) } else { row };
                    store.append(with_rows(n, version, vec![row])).await.unwrap();
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        for n in (0..22).filter(|n| !busy.contains(n)) {
            let times = seen.iter().filter(|id| id.thread == thread(n).short()).count();
            assert_eq!(times, 1, "approval {n} was quiet; {filter:?}");
        }
    }
    // The last page is known to be the last, also when it is full.
    let all = store.approvals(&ApprovalFilter::default(), None, 22).await.unwrap();
    assert_eq!((all.items.len(), all.next), (22, None));
}

async fn filters_of_approvals_must_all_hold(store: &Store) {
    let word = |words: [&str; 2], n: usize| words[n % 2].to_owned();
    let mut all = Vec::new();
    for n in 0..16 {
        let mut row = approval(&thread(n), 1, n as i64);
        row.agent = word(["deployment", "support"], n);
        row.tool = word(["deploy", "refund"], n / 2);
        row.rule = word(["production", "money"], n / 4);
        row.open = n < 8;
        store.append(with_rows(n, 0, vec![row.clone()])).await.unwrap();
        all.push(row);
    }
    let one_of = |words: [&str; 2]| [None, Some(words[0].to_owned()), Some(words[1].to_owned()), Some("Deploy".into())];
    for open in [None, Some(true), Some(false)] {
        for agent in one_of(["deployment", "support"]) {
            for tool in one_of(["deploy", "refund"]) {
                for rule in one_of(["production", "money"]) {
                    for t in [None, Some(thread(3).short()), Some(thread(99).short())] {
                        let (agent, tool, rule) = (agent.clone(), tool.clone(), rule.clone());
                        let filter = ApprovalFilter { thread: t, open, agent, tool, rule, ..ApprovalFilter::default() };
                        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|w| w == found);
                        let fits = |row: &&ApprovalRow| {
                            is(&filter.agent, &row.agent)
                                && is(&filter.tool, &row.tool)
                                && is(&filter.rule, &row.rule)
                                && open.is_none_or(|open| open == row.open)
                                && t.is_none_or(|t| t == row.id.thread)
                        };
                        let mut expected: Vec<ApprovalRow> = all.iter().filter(fits).cloned().collect();
                        if open != Some(true) {
                            expected.reverse();
                        }
                        assert_eq!(rows(store, &filter).await, expected, "{filter:?}");
                    }
                }
            }
        }
    }
}

async fn who_may_decide_and_who_may_see_is_what_the_approvers_say(store: &Store) {
    let people = |ids: &[&str]| ids.iter().map(|id| Principal::human(*id)).collect::<Vec<_>>();
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let mut all = Vec::new();
    let approvers = [
        (&["*"][..], &[][..]),
        (&["web:bob"], &[]),
        (&["web:bobby", "web:ann"], &[]),
        (&[], &["ops"]),
        (&["web:eve"], &["ops", "release team"]),
        (&[], &["web:bob", "*"]),
        (&[], &[]),
        (&["x\"\n\"user web:bob", "user web:bob", "web:b_b", "WEB:BOB"], &[]),
    ];
    for (users, groups) in approvers {
        for requester_may in [None, Some(false), Some(true)] {
            for requesters in [&["web:ann"][..], &["web:bob", "web:ann"], &[], &["x\"\n\"human web:bob", "web:bobb"]] {
                let n = all.len();
                let mut row = approval(&thread(n), 1, n as i64);
                row.approvers = Approvers { users: words(users), groups: words(groups), quorum: 2, requester_may };
                row.requesters = people(requesters);
                row.open = n % 3 > 0;
                row.decided_by = if n % 4 == 0 { people(&["web:bob", "web:ann"]) } else { Vec::new() };
                if n % 5 == 0 {
                    row.requesters.push(Principal { kind: PrincipalKind::Service, ..Principal::human("api:ci") });
                }
                store.append(with_rows(n, 0, vec![row.clone()])).await.unwrap();
                all.push(row);
            }
        }
    }
    let mut askers =
        people(&["web:ann", "web:bob", "web:eve", "web:", "*", "web:b_b", "api:ci", "x\"\n\"user web:bob"]);
    for kind in [PrincipalKind::Service, PrincipalKind::Agent, PrincipalKind::System] {
        askers.push(Principal { kind, ..Principal::human("api:ci") });
        askers.push(Principal { kind, ..Principal::human("web:bob") });
    }
    for principal in askers {
        for groups in [&[][..], &["ops"], &["release", "web:bob"], &["release team", "x", "*"]] {
            let person = Person::of(&principal, &words(groups), &twelve::agent::People::default());
            let includes = |row: &ApprovalRow| row.approvers.includes(&person.principal, &person.groups);
            let asked = |row: &ApprovalRow| row.requesters.contains(&person.principal);
            let decides =
                |row: &ApprovalRow| includes(row) && (row.approvers.requester_may == Some(true) || !asked(row));
            for open in [None, Some(true), Some(false)] {
                let decider = ApprovalFilter { decider: Some(person.clone()), open, ..ApprovalFilter::default() };
                let sees = ApprovalFilter { visible_to: Some(person.clone()), open, ..ApprovalFilter::default() };
                let both = ApprovalFilter { visible_to: Some(person.clone()), ..decider.clone() };
                let decided = |row: &ApprovalRow| row.decided_by.contains(&person.principal);
                let sees_it = |row: &ApprovalRow| (row.open && includes(row)) || asked(row) || decided(row);
                for (filter, decides_it, sees_too) in [(decider, true, false), (sees, false, true), (both, true, true)]
                {
                    let fits = |row: &ApprovalRow| (!decides_it || decides(row)) && (!sees_too || sees_it(row));
                    let expected = all.iter().filter(|row| open.is_none_or(|open| open == row.open) && fits(row));
                    let mut expected: Vec<ApprovalId> = expected.map(|row| row.id).collect();
                    if open != Some(true) {
                        expected.reverse();
                    }
                    let page = store.approvals(&filter, None, 1_000).await.unwrap();
                    assert_eq!(page.items.iter().map(|row| row.id).collect::<Vec<_>>(), expected, "{filter:?}");
                    assert_eq!(store.count_approvals(&filter).await.unwrap(), expected.len() as u64);
                }
            }
        }
    }
}

async fn rows_go_with_their_thread(store: &Store) {
    let (t, other) = (thread(1), thread(2));
    let gone = vec![approval(&t, 1, 1), settled(approval(&t, 2, 2), "denied", 3)];
    let stays = approval(&other, 1, 4);
    store.append(with_rows(1, 0, gone)).await.unwrap();
    store.append(with_rows(2, 0, vec![stays.clone()])).await.unwrap();
    let first = store.approvals(&only_open(true), None, 1).await.unwrap();
    store.delete(t.short(), "console:ops", Timestamp(9)).await.unwrap();
    for filter in [ApprovalFilter::default(), only_open(true)] {
        assert_eq!(rows(store, &filter).await, std::slice::from_ref(&stays));
    }
    assert_eq!(rows(store, &only_open(false)).await, []);
    let page = store.approvals(&only_open(true), first.next, 5).await.unwrap();
    assert_eq!(page.items, [stays], "a place in the list outlives the approval that it names");
}

async fn how_far_the_projection_is_comes_back(store: &Store) {
    let new = store.projection().await.unwrap();
    assert_eq!(new, Projection { version: Projection::CURRENT, progress: None });
    assert!(new.is_current());
    let upto = Cursor { updated_at: Timestamp(7), thread: thread(1).short() };
    for projection in [
        Projection { version: 0, progress: None },
        Projection { version: Projection::CURRENT, progress: Some(Progress { to: 9, upto: upto.clone() }) },
        Projection { version: 3, progress: Some(Progress { to: Projection::CURRENT, upto }) },
    ] {
        store.set_projection(projection.clone()).await.unwrap();
        assert_eq!(store.projection().await.unwrap(), projection);
        assert!(!projection.is_current());
    }
}
