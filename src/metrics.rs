//! What operators graph: the names, the types, and the text that is scraped.
//!
//! Whoever does something counts it here, at the place where it is done; nothing is derived from logs.
//! This module knows no other room, so every room may count.

/// The metrics of this process. Clones are handles to the same ones.
#[derive(Clone, Debug, Default)]
pub struct Metrics {}
