//! A schedule: when it is due, and firing it once.
//!
//! A scheduled time becomes the thread `schedule:<name>:<time in UTC>`. Whoever fires a time that has its
//! thread already changes nothing, so a restart, a second replica or a clock that goes back cannot start
//! an agent twice. After a stretch in which nobody looked (a restart, a machine that slept, a clock that
//! jumped) only the latest time fires, if it is not older than `triggers.catch_up`; the others are named
//! in the log as missed.

use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use super::{Triggers, program};
use crate::agent::{Answer, ShortId, ThreadId, Timestamp, did_you_mean};
use crate::config::ScheduleConfig;
use crate::runtime::{DeliverError, Runtime, Said};
use crate::store::StoreError;

/// The longest time between two looks at the clock, in milliseconds: a clock that is set, or a machine
/// that wakes up, is noticed after this long.
pub const MAX_LOOK_MS: u64 = 15_000;
/// How late the loop may be for a time that nobody missed, in milliseconds, however short the catch-up is.
const GRACE_MS: u64 = 60_000;
/// The wait after the store refused to take a message, in milliseconds.
const RETRY_MS: u64 = 5_000;
/// Missed times that are counted; more are said as "at least".
const MAX_MISSED: usize = 100;

/// One message that an agent gets at fixed times.
pub struct Schedule {
    name: String,
    agent: String,
    message: String,
    /// As configured, for people.
    written: String,
    cron: Cron,
    zone: TimeZone,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({} -> {}: {})", self.name, self.agent, self.written)
    }
}

impl Schedule {
    pub(super) fn new(config: &ScheduleConfig) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        if config.message.trim().is_empty() {
            problems.push("the message is empty".to_owned());
        }
        let zone = TimeZone::get(&config.timezone).map_err(|_| {
            let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
            let hint = did_you_mean(&config.timezone, known.iter().map(String::as_str));
            problems.push(format!(
                "there is no time zone `{}`{hint} (names are those of the IANA, such as Europe/Berlin)",
                config.timezone
            ));
        });
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&config.cron).map_err(|error| {
            problems.push(format!(
                "`{}` is not a cron time: {error} (five fields: minute hour day month weekday)",
                config.cron
            ));
        });
        let (Ok(zone), Ok(cron)) = (zone, cron) else { return Err(problems) };
        let written = format!("{} {}", config.cron.trim(), config.timezone);
        let (name, agent, message) = (config.name.clone(), config.agent.clone(), config.message.clone());
        let schedule = Self { name, agent, message, written, cron, zone };
        // From a fixed moment on: what never comes (30 February) never comes from anywhere.
        if schedule.next_after(Timestamp(0)).is_none() {
            problems.push(format!("`{}` is a time that never comes", config.cron));
        }
        if problems.is_empty() { Ok(schedule) } else { Err(problems) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first scheduled time after this moment.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let from = jiff::Timestamp::from_second(after.0.div_euclid(1_000)).ok()?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&from, false).ok()?;
        let next = Timestamp(next.timestamp().as_millisecond());
        // Whatever happens at a change of the clock: time goes forward.
        (next > after).then_some(next)
    }

    /// For people: `nightly -> deployment: 0 3 * * * Europe/Berlin, next 2026-11-23 03:00 CET`.
    pub fn describe(&self, now: Timestamp) -> String {
        let next = self.next_after(now).and_then(|at| jiff::Timestamp::from_millisecond(at.0).ok());
        let next = next.map_or_else(
            || "never again".to_owned(),
            |at| format!("next {}", at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M %Z")),
        );
        format!("{} -> {}: {}, {next}", self.name, self.agent, self.written)
    }

    /// The latest scheduled time after `from` up to and including `until`, and those before it, newest
    /// first, at most [`MAX_MISSED`].
    fn due(&self, from: Timestamp, until: Timestamp) -> Option<(Timestamp, Vec<Timestamp>)> {
        let mut times = std::collections::VecDeque::new();
        let mut at = from;
        while let Some(next) = self.next_after(at).filter(|next| *next <= until) {
            times.push_front(next);
            times.truncate(MAX_MISSED + 1);
            at = next;
        }
        let latest = times.pop_front()?;
        Some((latest, times.into()))
    }

    fn thread(&self, at: Timestamp) -> Option<ThreadId> {
        ThreadId::from_str(&format!("schedule:{}:{at}", self.name)).ok()
    }

    /// Starts the agent for one time; false if it had been started.
    async fn fire(&self, runtime: &Runtime, at: Timestamp) -> Result<bool, DeliverError> {
        let Some(thread) = self.thread(at) else { return Ok(false) };
        // The thread knows its sources for a day; it is itself the proof for ever.
        if exists(runtime, thread.short()).await? {
            return Ok(false);
        }
        let said = Said {
            from: program(format!("schedule:{}", self.name)),
            text: self.message.clone(),
            source: Some(thread.to_string()),
            outside: None,
            attached: Vec::new(),
            context: Vec::new(),
        };
        match runtime.message(&thread, &self.agent, said).await?.answer {
            Answer::Accepted => {
                tracing::info!(schedule.name = self.name, thread.id = %thread.short(), "a schedule started its agent");
                Ok(true)
            }
            Answer::Refused(refusal) => {
                tracing::error!(schedule.name = self.name, %refusal, "a schedule could not start its agent");
                Ok(false)
            }
            Answer::Duplicate | Answer::Stale | Answer::Go { .. } => Ok(false),
        }
    }

    /// How many of these times, newest first, passed without a thread since the last that has one.
    async fn missed(&self, runtime: &Runtime, times: &[Timestamp]) -> Result<usize, DeliverError> {
        for (missed, at) in times.iter().enumerate() {
            if let Some(thread) = self.thread(*at)
                && exists(runtime, thread.short()).await?
            {
                return Ok(missed);
            }
        }
        Ok(times.len())
    }
}

/// Whether this thread is there, or was until somebody deleted it.
async fn exists(runtime: &Runtime, thread: ShortId) -> Result<bool, StoreError> {
    match runtime.parts().store.summary(thread).await {
        Ok(_) | Err(StoreError::Deleted(_)) => Ok(true),
        Err(StoreError::Unknown(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Up to when each schedule has been looked after, in this process.
#[derive(Clone, Debug, PartialEq)]
pub struct Handled(Vec<Timestamp>);

impl Handled {
    /// What a process that starts now has to assume: nothing within the catch-up.
    pub fn before(triggers: &Triggers, now: Timestamp) -> Self {
        let catch_up = i64::try_from(triggers.catch_up_ms).unwrap_or(i64::MAX);
        Self(vec![Timestamp(now.0.saturating_sub(catch_up)); triggers.schedules.len()])
    }
}

/// Fires what is due and gives the milliseconds until the next look.
///
/// # Errors
/// [`DeliverError::Draining`] alone: whatever else goes wrong is logged and tried again.
pub async fn fire_due(triggers: &Triggers, runtime: &Runtime, handled: &mut Handled) -> Result<u64, DeliverError> {
    let now = runtime.parts().clock.now();
    let window = i64::try_from(triggers.catch_up_ms.max(GRACE_MS)).unwrap_or(i64::MAX);
    let oldest = Timestamp(now.0.saturating_sub(window));
    let mut wait = MAX_LOOK_MS;
    for (schedule, handled) in triggers.schedules.iter().zip(&mut handled.0) {
        // A clock that went back: what comes now may have fired before, and then its thread is there.
        let from = (*handled).min(now).max(oldest);
        match look_after(schedule, runtime, from, now).await {
            Ok(()) => *handled = now,
            Err(DeliverError::Draining) => return Err(DeliverError::Draining),
            Err(error) => {
                tracing::error!(schedule.name = schedule.name, %error, "a schedule could not be looked after; trying again");
                wait = wait.min(RETRY_MS);
            }
        }
        if let Some(next) = schedule.next_after(now) {
            wait = wait.min(next.ms_since(now).max(1));
        }
    }
    Ok(wait)
}

async fn look_after(
    schedule: &Schedule,
    runtime: &Runtime,
    from: Timestamp,
    now: Timestamp,
) -> Result<(), DeliverError> {
    let Some((latest, earlier)) = schedule.due(from, now) else { return Ok(()) };
    if schedule.fire(runtime, latest).await? {
        let missed = schedule.missed(runtime, &earlier).await?;
        if missed > 0 {
            let least = if missed >= MAX_MISSED { "at least " } else { "" };
            tracing::warn!(
                schedule.name = schedule.name,
                "{least}{missed} earlier times of a schedule passed while nobody looked and were left out"
            );
        }
    }
    Ok(())
}

/// Fires the schedules until `stop` is cancelled: before the runtime drains, since a store that is closed is
/// to this loop a store that fails.
pub async fn run_schedules(triggers: Arc<Triggers>, runtime: Runtime, stop: CancellationToken) {
    if triggers.schedules.is_empty() {
        return;
    }
    let mut handled = Handled::before(&triggers, runtime.parts().clock.now());
    loop {
        let wait = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            looked = fire_due(&triggers, &runtime, &mut handled) => match looked {
                Ok(wait) => wait,
                Err(_) => return,
            },
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
            () = stop.cancelled() => return,
        }
    }
}
