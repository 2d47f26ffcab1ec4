//! Looking things up, and private answers.

use super::Slack;
use crate::agent::{Attached, Gathered, Principal, ShortId, ThreadId};
use crate::platform::PostError;

impl Slack {
    /// See [`crate::platform::Platforms::gather`].
    pub async fn gather(&self, _thread: &ThreadId, _attached: &Attached) -> Vec<Gathered> {
        Vec::new()
    }

    /// See [`crate::platform::Platforms::groups`].
    pub async fn groups(&self, _person: &Principal, _groups: &[String]) -> Result<Vec<String>, String> {
        Err("not built yet".to_owned())
    }

    /// See [`crate::platform::Platforms::open`].
    pub async fn open(&self, _key: ShortId, _place: &str, _by: &Principal, _text: &str) -> Result<ThreadId, PostError> {
        Err(PostError::lasting("not built yet"))
    }

    /// See [`crate::platform::Platforms::thread_of`].
    pub async fn thread_of(&self, _place: &str) -> Result<Option<ThreadId>, PostError> {
        Ok(None)
    }

    /// See [`crate::platform::Platforms::reply`].
    pub async fn reply(&self, _key: ShortId, _reply: &str, _text: &str) {}
}
