//! The one place that knows what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::agent::Timestamp;

/// The system's clock, or one that tests turn by hand.
#[derive(Clone, Debug)]
pub enum Clock {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    pub fn manual(start: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.0)))
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp(jiff::Timestamp::now().as_millisecond()),
            Self::Manual(ms) => Timestamp(ms.load(Ordering::SeqCst)),
        }
    }

    /// Turns a manual clock forward; does nothing to the system's.
    pub fn advance_ms(&self, by: u64) {
        if let Self::Manual(ms) = self {
            ms.fetch_add(i64::try_from(by).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}
