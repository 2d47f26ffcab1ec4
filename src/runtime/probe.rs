//! Whether the store takes anything, tried for real: at most once a second, for all who ask meanwhile.
//!
//! Only one attempt is under way at any time, and it goes on when whoever asked has gone: those who ask often, or
//! break off, make no more work.

use std::sync::Arc;

use super::Runtime;
use crate::agent::Timestamp;
use crate::store::{Fault, StoreError};

/// How long an answer stands, in milliseconds.
pub const PROBE_MS: u64 = 1_000;

/// The last answer, and when it was asked for.
pub(super) type Probed = Arc<tokio::sync::Mutex<Option<(Timestamp, Result<(), Fault>)>>>;

impl Runtime {
    /// Whether an append could be kept now.
    ///
    /// # Errors
    /// What is in the way; the log says more.
    pub async fn store_works(&self) -> Result<(), Fault> {
        let mut last = self.0.probed.clone().lock_owned().await;
        let now = self.now();
        if let Some((at, outcome)) = *last
            && at <= now
            && now.ms_since(at) < PROBE_MS
        {
            return outcome;
        }
        let store = self.0.parts.store.clone();
        let attempt = tokio::spawn(async move {
            let outcome = match store.probe().await {
                // What is read goes past the writer, and may fail by itself.
                Ok(()) => store.next_due(Timestamp(0)).await.map(drop).map_err(|error| (fault(&error), error)),
                Err(found) => Err(found),
            };
            let before = last.is_some_and(|(_, before)| before.is_err());
            match &outcome {
                Err((_, error)) => tracing::warn!(%error, "the store takes nothing"),
                Ok(()) if before => tracing::info!("the store works again"),
                Ok(()) => {}
            }
            let outcome = outcome.map_err(|(fault, _)| fault);
            *last = Some((now, outcome));
            outcome
        });
        attempt.await.unwrap_or(Err(Fault::Broken))
    }
}

fn fault(error: &StoreError) -> Fault {
    match error {
        StoreError::Corrupt(_) => Fault::Corrupt,
        StoreError::Locked(_) => Fault::Busy,
        StoreError::NotWritable(_)
        | StoreError::Conflict { .. }
        | StoreError::Deleted(_)
        | StoreError::Unknown(_)
        | StoreError::Missing(_)
        | StoreError::TooNew(_)
        | StoreError::Failed(_) => Fault::Broken,
    }
}
