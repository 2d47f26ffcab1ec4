//! Schedules: when they are due, and that each time starts its agent once.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use twelve::agent::{Body, *};
use twelve::config::Loaded;
use twelve::config::layers::Sources;
use twelve::runtime::Clock;
use twelve::store::Filter;
use twelve::triggers::{Handled, MAX_LOOK_MS, Schedule, Triggers, fire_due, run_schedules};

use crate::world::*;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// Right before the first time of all.
const START_MINUS_ONE: Timestamp = Timestamp(START.0 - 1);

fn triggers(w: &World, file: &str) -> Result<Triggers, Vec<String>> {
    let sources = Sources { file: Some(("twelve.toml", file)), ..Sources::default() };
    let loaded = Loaded::from_sources(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    Triggers::new(&loaded.config.triggers, &w.runtime.parts().agents, |_| None)
}

fn at(cron: &str, timezone: &str) -> String {
    format!(
        "[[triggers.schedules]]\nname = \"check\"\ncron = \"{cron}\"\ntimezone = \"{timezone}\"\nagent = \"tester\"\nmessage = \"look\"\n"
    )
}

fn millis(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

/// The next times after a moment.
async fn next_times(cron: &str, timezone: &str, after: &str, n: usize) -> Vec<String> {
    let w = World::new().await;
    let triggers = triggers(&w, &at(cron, timezone)).unwrap();
    let next = |after: &Timestamp| triggers.schedules()[0].next_after(*after);
    std::iter::successors(next(&millis(after)), next).take(n).map(|t| t.to_string()).collect()
}

/// The scheduled times that have a thread, in order.
async fn fired(w: &World) -> Vec<String> {
    w.runtime.settle().await.unwrap();
    let page = w.runtime.parts().store.list(&Filter::default(), None, 100).await.unwrap();
    let mut ids: Vec<String> = page.items.into_iter().map(|s| s.thread.to_string()).collect();
    ids.sort();
    ids.iter().map(|id| id.strip_prefix("schedule:check:").unwrap_or(id).to_owned()).collect()
}

#[tokio::test]
async fn the_five_fields_mean_what_they_mean_to_cron() {
    let monday = "2026-11-23T10:00:00Z";
    for (cron, expected) in [
        ("30 9 * * *", ["2026-11-24T09:30:00Z", "2026-11-25T09:30:00Z"]),
        ("*/20 * * * *", ["2026-11-23T10:20:00Z", "2026-11-23T10:40:00Z"]),
        ("5-10/5 10 * * *", ["2026-11-23T10:05:00Z", "2026-11-23T10:10:00Z"]),
        // 0 and 7 are both Sunday, 1 is Monday.
        ("0 0 * * 0", ["2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"]),
        ("0 0 * * 7", ["2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"]),
        ("0 0 * * sun", ["2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"]),
        ("0 0 * * 1", ["2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"]),
        ("0 0 * * MON-FRI", ["2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"]),
        ("0 0 * * 6-7", ["2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"]),
        ("0 0 1 jan *", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
        // A day of the month and a weekday: either.
        ("0 0 1 * 4", ["2026-11-26T00:00:00Z", "2026-12-01T00:00:00Z"]),
        ("0 0 29 2 *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        ("@daily", ["2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"]),
        ("@weekly", ["2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"]),
        ("@hourly", ["2026-11-23T11:00:00Z", "2026-11-23T12:00:00Z"]),
    ] {
        assert_eq!(next_times(cron, "UTC", monday, 2).await, expected, "{cron}");
    }
}

#[tokio::test]
async fn a_day_with_a_change_of_the_clock_has_each_daily_time_once() {
    let zone = "Europe/Berlin";
    // 29 March 2026: 02:00 becomes 03:00. What lies in the gap comes right after it, what does not is as ever.
    assert_eq!(
        next_times("30 2 * * *", zone, "2026-03-28T00:00:00Z", 3).await,
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    assert_eq!(
        next_times("30 1 * * *", zone, "2026-03-28T12:00:00Z", 2).await,
        ["2026-03-29T00:30:00Z", "2026-03-29T23:30:00Z"]
    );
    assert_eq!(
        next_times("30 * * * *", zone, "2026-03-29T00:00:00Z", 3).await,
        ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"]
    );
    // 25 October 2026: 03:00 becomes 02:00. A daily time comes the first time only, an hourly one each hour.
    assert_eq!(
        next_times("30 2 * * *", zone, "2026-10-24T12:00:00Z", 2).await,
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        next_times("30 2 * * *", zone, "2026-10-25T00:45:00Z", 1).await,
        ["2026-10-26T01:30:00Z"],
        "also for who looks in between"
    );
    assert_eq!(
        next_times("30 * * * *", zone, "2026-10-25T00:00:00Z", 3).await,
        ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]
    );
    // A zone with half an hour, and one without changes.
    assert_eq!(next_times("0 9 * * *", "Asia/Kolkata", "2026-11-23T00:00:00Z", 1).await, ["2026-11-23T03:30:00Z"]);
    assert_eq!(next_times("0 9 * * *", "UTC", "2026-03-29T00:00:00Z", 1).await, ["2026-03-29T09:00:00Z"]);
}

#[tokio::test]
async fn a_schedule_starts_its_agent_at_each_of_its_times() {
    let w = World::new().await;
    let triggers = triggers(&w, &at("*/10 * * * *", "UTC")).unwrap();
    w.clock.advance_ms(1);
    let mut handled = Handled::before(&triggers, w.clock.now());
    // It is 00:00:00.001: the time of midnight is within the catch-up.
    assert_eq!(fire_due(&triggers, &w.runtime, &mut handled).await.unwrap(), MAX_LOOK_MS);
    assert_eq!(fired(&w).await, ["2026-01-01T00:00:00Z"]);
    for wait in [5, 10] {
        w.clock.advance_ms(10 * MINUTE - 5 - wait / 10 * 5);
        let early = fired(&w).await;
        let wait = fire_due(&triggers, &w.runtime, &mut handled).await.unwrap();
        assert_eq!(fired(&w).await, early, "nothing is early");
        w.clock.advance_ms(wait);
        fire_due(&triggers, &w.runtime, &mut handled).await.unwrap();
        w.clock.advance_ms(3);
    }
    assert_eq!(fired(&w).await, ["2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z", "2026-01-01T00:20:00Z"]);
    let id = "schedule:check:2026-01-01T00:10:00Z";
    let program = Principal::service("schedule:check");
    assert_eq!(w.thread(id).await.started_by, program);
    let log = w.log(id).await;
    let Body::MessageReceived { text, .. } = &log[1].body else { panic!("{log:?}") };
    assert_eq!((text.as_str(), log[1].source.as_deref()), ("look", Some(id)));
    assert_eq!(w.answer(id).await, "look succeeded");
}

#[tokio::test]
async fn a_time_that_was_fired_does_not_fire_again_after_a_restart() {
    let mut w = World::new().await;
    let triggers = triggers(&w, &at("0 * * * *", "UTC")).unwrap();
    w.clock.advance_ms(5 * MINUTE);
    for _ in 0..3 {
        let mut handled = Handled::before(&triggers, w.clock.now());
        fire_due(&triggers, &w.runtime, &mut handled).await.unwrap();
        assert_eq!(fired(&w).await, ["2026-01-01T00:00:00Z"]);
        assert_eq!(
            w.names("schedule:check:2026-01-01T00:00:00Z").await.iter().filter(|n| **n == "message_received").count(),
            1
        );
        w.crash().await;
        w.clock.advance_ms(10 * MINUTE);
    }
    // Nor when its thread was deleted.
    let thread: ThreadId = "schedule:check:2026-01-01T00:00:00Z".parse().unwrap();
    w.runtime.parts().store.delete(thread.short(), "ann", w.clock.now()).await.unwrap();
    fire_due(&triggers, &w.runtime, &mut Handled::before(&triggers, w.clock.now())).await.unwrap();
    assert_eq!(fired(&w).await, Vec::<String>::new());
}

#[tokio::test]
async fn after_a_downtime_only_the_latest_time_within_the_catch_up_fires() {
    for (catch_up, down, expected) in [
        ("1h", 3 * HOUR + 30 * MINUTE, vec!["2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z"]),
        ("2h", 3 * HOUR + 30 * MINUTE, vec!["2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z"]),
        ("10m", 3 * HOUR + 30 * MINUTE, vec!["2026-01-01T00:00:00Z"]),
        ("0s", 3 * HOUR + 1, vec!["2026-01-01T00:00:00Z"]),
        ("1h", 3 * HOUR, vec!["2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z"]),
    ] {
        let mut w = World::new().await;
        let triggers =
            triggers(&w, &format!("[triggers]\ncatch_up = \"{catch_up}\"\n{}", at("0 * * * *", "UTC"))).unwrap();
        let mut handled = Handled::before(&triggers, START_MINUS_ONE);
        fire_due(&triggers, &w.runtime, &mut handled).await.unwrap();
        w.crash().await;
        w.clock.advance_ms(down);
        let mut handled = Handled::before(&triggers, w.clock.now());
        for _ in 0..3 {
            fire_due(&triggers, &w.runtime, &mut handled).await.unwrap();
        }
        assert_eq!(fired(&w).await, expected, "catch_up {catch_up}, down for {down} ms");
    }
}

#[tokio::test]
async fn a_clock_that_jumps_fires_one_time_at_most_and_none_again() {
    let w = World::new().await;
    let triggers = triggers(&w, &at("* * * * *", "UTC")).unwrap();
    let mut handled = Handled::before(&triggers, START_MINUS_ONE);
    fire_due(&triggers, &w.runtime, &mut handled).await.unwrap();
    // A year ahead: one time, not half a million.
    let year = 365 * 24 * HOUR;
    w.clock.advance_ms(year);
    fire_due(&triggers, &w.runtime, &mut handled).await.unwrap();
    let both = ["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"];
    assert_eq!(fired(&w).await, both);
    // Back again: what has fired does not, and what comes then does.
    let Clock::Manual(ms) = &w.clock else { panic!() };
    ms.store(START.0 + 1_000, std::sync::atomic::Ordering::SeqCst);
    fire_due(&triggers, &w.runtime, &mut handled).await.unwrap();
    assert_eq!(fired(&w).await, both);
    w.clock.advance_ms(MINUTE);
    fire_due(&triggers, &w.runtime, &mut handled).await.unwrap();
    assert_eq!(fired(&w).await, ["2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", "2027-01-01T00:00:00Z"]);
}

#[tokio::test]
async fn the_loop_fires_what_is_due_when_it_starts_and_ends_when_it_is_told_to() {
    let w = World::new().await;
    let triggers = Arc::new(triggers(&w, &at("0 * * * *", "UTC")).unwrap());
    let mut changes = w.runtime.watch();
    let stop = CancellationToken::new();
    let task = tokio::spawn(run_schedules(triggers.clone(), w.runtime.clone(), stop.clone()));
    changes.recv().await.unwrap();
    stop.cancel();
    task.await.unwrap();
    assert_eq!(fired(&w).await, ["2026-01-01T00:00:00Z"]);
    // Told before it looks, it does not even look.
    w.clock.advance_ms(HOUR);
    run_schedules(triggers, w.runtime.clone(), stop).await;
    assert_eq!(fired(&w).await, ["2026-01-01T00:00:00Z"]);
}

#[tokio::test]
async fn a_schedule_that_cannot_work_is_refused_at_the_start() {
    let w = World::new().await;
    let refused = |file: &str| triggers(&w, file).unwrap_err().join("\n");
    for (file, words) in [
        (at("0 9 * *", "UTC"), "schedule `check`: `0 9 * *` is not a cron time: "),
        (at("0 0 9 * * *", "UTC"), "is not a cron time: "),
        (at("61 9 * * *", "UTC"), "is not a cron time: "),
        (at("@reboot", "UTC"), "`@reboot` is not a cron time: "),
        (at("", "UTC"), "`` is not a cron time: "),
        (at("0 0 30 2 *", "UTC"), "`0 0 30 2 *` is a time that never comes"),
        (at("0 9 * * *", "Europe/Berln"), "there is no time zone `Europe/Berln`; did you mean `Europe/Berlin`?"),
        (at("0 9 * * *", "UTC").replace("\"look\"", "\" \""), "schedule `check`: the message is empty"),
        (at("0 9 * * *", "UTC").replace("tester", "testr"), "no agent is called `testr`; did you mean `tester`?"),
        (at("0 9 * * *", "UTC").repeat(2), "schedule `check`: another one has this name"),
    ] {
        let problems = refused(&file);
        assert!(problems.contains(words), "{problems}");
    }
    let two = at("0 9 * *", "Mars/Olympus").replace("\"check\"", "\"one\"") + &at("x", "UTC");
    assert_eq!(refused(&two).lines().count(), 3, "all of it is said at once: {}", refused(&two));
}

#[test]
fn a_machine_without_time_zones_has_those_that_are_compiled_in() {
    assert!(jiff::tz::TimeZoneDatabase::bundled().get("Europe/Berlin").is_ok());
}

#[tokio::test]
async fn people_are_told_when_it_comes_next() {
    let w = World::new().await;
    let triggers = triggers(&w, &at("0 9 * * 1-5", "Europe/Berlin")).unwrap();
    let schedule: &Schedule = &triggers.schedules()[0];
    assert_eq!(
        schedule.describe(millis("2026-11-22T12:00:00Z")),
        "check -> tester: 0 9 * * 1-5 Europe/Berlin, next 2026-11-23 09:00 CET"
    );
}
