//! What is due: timers that have come, and at start whatever a dead process left outstanding.
//!
//! Both are the same question to the store (which threads are due and in nobody's hands?), so recovery
//! needs no code of its own: a claimed thread gets a tick, and dispatch does the rest.
//!
//! Now and then it forgets the intents that were carried out long ago.

use std::sync::PoisonError;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::{DeliverError, KEEP_INTENTS_MIN_MS, Runtime, crash};
use crate::agent::{Input, ShortId, Timestamp};
use crate::store::StoreError;

/// Threads claimed at a time.
const CLAIM: usize = 64;
/// Effects that may wait for their turn before more threads are claimed: after a long outage a hundred
/// thousand may be due, and each one in hand is a fold in memory.
const BACKLOG: usize = 256;

/// Intents that are forgotten in one go, and those of them at the same time, which one commit carries.
const FORGET: usize = 500;
const FORGET_AT_ONCE: usize = 64;
/// How often old intents are looked for, in milliseconds: each look goes through a list of threads.
const FORGET_EVERY_MS: u64 = 60 * 60 * 1_000;

impl Runtime {
    /// Claims what is due and sets it going. Returns how many threads that were.
    pub async fn fire_due(&self) -> Result<usize, DeliverError> {
        let (store, settings) = (&self.0.parts.store, &self.0.parts.settings);
        let room = settings.max_concurrent_effects + BACKLOG;
        let mut in_flight = self.0.in_flight.subscribe();
        let mut total = 0;
        loop {
            tokio::select! {
                // The sender lives as long as this handle.
                _ = in_flight.wait_for(|n| *n < room) => {}
                () = self.0.stop.cancelled() => return Ok(total),
            }
            let due = store.claim(&self.0.worker, self.now(), settings.lease_ms, CLAIM).await?;
            if due.is_empty() {
                return Ok(total);
            }
            total += due.len();
            for short in due {
                crash::point("timer.before_tick");
                // A thread that cannot be read must not keep the others from going on.
                match self.deliver(short, Input::Tick).await {
                    Ok(_) => {}
                    // The next process claims what is left.
                    Err(DeliverError::Draining) => return Ok(total),
                    Err(error) => {
                        tracing::error!(thread.id = %short, %error, "a thread that is due cannot go on");
                    }
                }
            }
        }
    }

    /// Recovers what is outstanding, then wakes threads when they are due, until the runtime drains.
    pub async fn run_timers(&self) {
        let sweep = self.0.parts.settings.sweep_ms;
        let lease = self.0.parts.settings.lease_ms;
        let mut forgot: Option<Timestamp> = None;
        loop {
            if forgot.is_none_or(|at| self.now().ms_since(at) >= FORGET_EVERY_MS) {
                forgot = Some(self.now());
                match self.forget_intents().await {
                    Ok(0) => {}
                    Ok(intents) => tracing::info!(intents, "old records of what people pressed were forgotten"),
                    Err(_) if self.0.stop.is_cancelled() => return,
                    Err(error) => tracing::error!(%error, "old records of what people pressed could not be forgotten"),
                }
            }
            let next = match self.look_after().await {
                Ok(next) => next.unwrap_or(sweep),
                // A drain closes the store while this looks; that is no news.
                Err(_) if self.0.stop.is_cancelled() => return,
                Err(error) => {
                    tracing::error!(%error, "the store could not say what is due; trying again");
                    sweep
                }
            };
            let wait = next.min(sweep).min(lease / 3).max(1);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                () = self.0.rearm.notified() => {}
                () = self.0.stop.cancelled() => return,
            }
        }
    }

    /// Removes, for good, the intents that were carried out longer ago than they are kept. Returns how many.
    pub async fn forget_intents(&self) -> Result<usize, StoreError> {
        let keep = self.0.parts.settings.keep_intents_ms.max(KEEP_INTENTS_MIN_MS);
        let before = Timestamp(self.now().0.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX)));
        let store = &self.0.parts.store;
        let mut forgotten = 0;
        loop {
            let old = store.resting_intents(before, FORGET).await?;
            let (found, mut gone) = (old.len(), 0);
            let each = futures_util::stream::iter(old).map(|(short, version)| self.forget(short, version));
            let mut each = each.buffer_unordered(FORGET_AT_ONCE);
            while let Some(outcome) = each.next().await {
                gone += usize::from(outcome?);
            }
            forgotten += gone;
            // What would not go now is left to the next time.
            if found < FORGET || gone == 0 || self.0.stop.is_cancelled() {
                return Ok(forgotten);
            }
        }
    }

    async fn forget(&self, short: ShortId, version: u64) -> Result<bool, StoreError> {
        let cached = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).peek(&short).cloned();
        let mut state = match &cached {
            Some(slot) => Some(slot.state.lock().await),
            None => None,
        };
        match self.0.parts.store.forget(short, version).await {
            Ok(()) => {}
            // Something happened to it meanwhile.
            Err(StoreError::Conflict { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        if let Some(state) = &mut state {
            state.thread = None;
        }
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).pop(&short);
        Ok(true)
    }

    /// Sets going what is due and keeps what is held; gives the milliseconds until the next timer.
    async fn look_after(&self) -> Result<Option<u64>, DeliverError> {
        self.fire_due().await?;
        self.renew_leases().await;
        let now = self.now();
        Ok(self.0.parts.store.next_due(now).await?.map(|at| at.ms_since(now)))
    }

    /// Keeps the threads whose effects are being performed here.
    async fn renew_leases(&self) {
        let held: Vec<_> = {
            let slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever performs an effect holds its slot.
            slots.iter().filter(|(_, slot)| std::sync::Arc::strong_count(slot) > 1).map(|(short, _)| *short).collect()
        };
        let (now, lease) = (self.now(), self.0.parts.settings.lease_ms);
        for short in held {
            if let Err(error) = self.0.parts.store.renew(short, &self.0.worker, now, lease).await {
                tracing::warn!(thread.id = %short, %error, "a lease could not be renewed");
            }
        }
    }
}
