//! The context window: what the model sees. (in work)
use serde::{Deserialize, Serialize};

use super::id::Principal;

/// One block of the window, made from one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub seq: u64,
    pub block: Block,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Block {
    Human { from: Principal, text: String },
}
