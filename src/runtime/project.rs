//! Projections: the summary of a thread, and the first event of a fork.

use super::{DeliverError, Delivered, Runtime, Seed};
use crate::agent::*;
use crate::store::Summary;

/// What lists and timers need of a thread. Can be rebuilt from the log at any time.
pub fn summary(thread: &Thread) -> Summary {
    Summary {
        thread: thread.id.clone(),
        status: thread.status(),
        agent: thread.agent.clone(),
        title: thread.title.clone(),
        requester: thread.started_by.clone(),
        approvals: thread.pending_approvals().map(|a| a.id).collect(),
        questions: thread.questions.keys().copied().collect(),
        tokens: thread.tokens,
        version: thread.version,
        head: thread.head,
        created_at: thread.created_at,
        updated_at: thread.updated_at,
        due_at: thread.due_at(),
    }
}

impl Runtime {
    /// Starts `fork` with the context that `parent` had after its event `at`. Open calls, approvals and
    /// questions stay with the parent: nothing can be decided twice.
    pub async fn fork(
        &self,
        parent: ShortId,
        at: u64,
        fork: ThreadId,
        by: Principal,
    ) -> Result<Delivered, DeliverError> {
        let mut loaded = self.0.parts.store.load(parent, 0).await?;
        loaded.events.truncate(usize::try_from(at).unwrap_or(usize::MAX));
        let mut thread = Thread::vacant(loaded.summary.thread);
        thread.replay(&loaded.events).map_err(|source| DeliverError::Log { thread: parent, source })?;
        let started = thread.forked(fork.clone(), by, self.0.parts.platforms.pushes(fork.surface()));
        let seed = Seed { id: fork.clone(), agent: thread.agent };
        self.deliver_to(fork.short(), Some(&seed), Input::Fork { started: Box::new(started) }, None).await
    }
}
