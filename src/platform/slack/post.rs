//! Postings: where they go, finding one that may stand already, splitting, edits.

use super::Slack;
use crate::platform::{Post, PostError};

/// What is on its way.
#[derive(Default)]
pub struct Posts {}

impl Slack {
    /// Puts a posting where people see it; returns where it is: one `<channel>/<ts>` for each message, separated
    /// by spaces.
    pub async fn post(&self, _post: Post) -> Result<String, PostError> {
        Err(PostError::lasting("not built yet"))
    }
}
