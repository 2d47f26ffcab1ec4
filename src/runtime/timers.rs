//! What is due: timers that have come, and at start whatever a dead process left outstanding.
//!
//! Both are the same question to the store (which threads are due and in nobody's hands?), so recovery
//! needs no code of its own: a claimed thread gets a tick, and dispatch does the rest.

use std::time::Duration;

use super::{DeliverError, Runtime, crash};
use crate::agent::Input;

/// Threads claimed at a time.
const CLAIM: usize = 64;
/// Effects that may wait for their turn before more threads are claimed: after a long outage a hundred
/// thousand may be due, and each one in hand is a fold in memory.
const BACKLOG: usize = 256;

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
        loop {
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
            let slots = self.0.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
