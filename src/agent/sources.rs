//! Deliveries that were seen: a platform that hears no answer delivers again.

use std::collections::{HashSet, VecDeque};

use super::id::{Digest, Timestamp};

/// Source ids that were seen, so that a second delivery changes nothing. Bounded by age and number.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sources {
    order: VecDeque<(Timestamp, u128)>,
    known: HashSet<u128>,
}

impl Sources {
    /// Slack may deliver again for up to 24 hours; an hour of margin.
    const KEEP_MS: u64 = 25 * 3_600_000;
    /// However fast they come: 50,000 in 25 hours in one thread is one every two seconds.
    const MAX: usize = 50_000;

    fn key(source: &str) -> u128 {
        let digest = Digest::of(source.as_bytes());
        digest.0.iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte))
    }

    pub fn contains(&self, source: &str) -> bool {
        self.known.contains(&Self::key(source))
    }

    pub fn add(&mut self, source: &str, at: Timestamp) {
        let key = Self::key(source);
        if self.known.insert(key) {
            self.order.push_back((at, key));
        }
        while let Some((first, key)) = self.order.front().copied()
            && (at.ms_since(first) > Self::KEEP_MS || self.order.len() > Self::MAX)
        {
            self.order.pop_front();
            self.known.remove(&key);
        }
    }
}
