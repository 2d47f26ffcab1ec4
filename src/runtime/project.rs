//! Projections: the summary of a thread, the rows of its approvals, and how both are computed again for a
//! store of an older program; the first event of a fork.
//!
//! Rows are written where they change, with the events that change them. Only an approval of which something
//! can still come changes, and all of those belong to the thread's present step: a thread without any pays
//! for this with a look at an empty list.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;

use super::{DeliverError, Delivered, Runtime, Seed};
use crate::agent::*;
use crate::platform::CardState;
use crate::store::{Append, ApprovalRow, Filter, MAX_PAGE, Progress, Projection, Store, StoreError, Summary};

/// Threads whose logs are read at the same time while all is computed again: each is in memory as a whole.
const REBUILT_AT_ONCE: usize = 8;

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

/// What lists show of an approval, as the thread stands.
pub fn approval_row(thread: &Thread, approval: &Approval) -> ApprovalRow {
    let approved_by = || approval.approved_by().into_iter().cloned().collect();
    ApprovalRow {
        id: approval.id,
        open: approval.is_open(),
        state: CardState::of(thread, approval).word().to_owned(),
        revision: approval.revision,
        digest: approval.digest,
        title: approval.title.clone(),
        tool: approval.tool.clone(),
        agent: thread.agent.clone(),
        risk: approval.terms.risk,
        rule: approval.terms.rule.clone(),
        requesters: approval.requesters.clone(),
        approvers: approval.terms.approvers.clone(),
        decided_by: approval.denied_by().map_or_else(approved_by, |by| vec![by.clone()]),
        requested_at: approval.requested_at,
        expires_at: approval.expires_at,
        settled_at: approval.settled_at,
    }
}

/// The approvals that may still change, before something happens to the thread.
pub(super) struct Live {
    /// The thread's version then: what is created later has a higher number.
    version: u64,
    rows: Vec<ApprovalRow>,
}

impl Live {
    pub(super) fn of(thread: &Thread) -> Self {
        let live = thread.approvals.values().filter(|a| a.is_live());
        Self { version: thread.version, rows: live.map(|a| approval_row(thread, a)).collect() }
    }

    /// The rows that are new or other than they were.
    pub(super) fn changed(&self, thread: &Thread) -> Vec<ApprovalRow> {
        let before = |id: ApprovalId| self.rows.iter().find(|row| row.id == id);
        let may_differ = |a: &&Approval| a.id.seq > self.version || before(a.id).is_some();
        let rows = thread.approvals.values().map(Box::as_ref).filter(may_differ).map(|a| approval_row(thread, a));
        rows.filter(|row| before(row.id) != Some(row)).collect()
    }
}

/// A whole log, folded, and every approval that ever was in it, in the order of their ids: the fold itself
/// forgets old ones.
pub fn project<B: AsRef<[u8]>>(id: ThreadId, log: &[B]) -> Result<(Thread, Vec<ApprovalRow>), LogError> {
    let mut thread = Thread::vacant(id);
    let mut rows = BTreeMap::new();
    for event in log {
        let live = Live::of(&thread);
        thread.replay(std::slice::from_ref(event))?;
        rows.extend(live.changed(&thread).into_iter().map(|row| (row.id, row)));
    }
    Ok((thread, rows.into_values().collect()))
}

/// Brings the summaries and rows of a store that an older program wrote up to date. Whoever opens a store to
/// work with it does this first: nothing else may write meanwhile. What was done before it was broken off is
/// not done again. A log that cannot be read keeps what it had.
///
/// # Errors
/// Those of the store; nothing is lost, and the next start goes on.
pub async fn rebuild(store: &Store) -> Result<(), StoreError> {
    let stored = store.projection().await?;
    if stored.is_current() {
        return Ok(());
    }
    // Only what this version did counts as done.
    let mut upto = stored.progress.filter(|p| p.to == Projection::CURRENT).map(|p| p.upto);
    tracing::info!(
        from = stored.version,
        to = Projection::CURRENT,
        resumed = upto.is_some(),
        "the store was written by another version: its lists are computed again from the logs"
    );
    let (mut threads, mut changed, mut unreadable) = (0, 0, 0);
    loop {
        let page = store.list(&Filter::everything(), upto.clone(), REBUILD_PAGE).await?;
        unreadable += page.damaged.len();
        let done = futures_util::stream::iter(page.items).map(|summary| rebuild_thread(store, summary));
        let mut done = done.buffer_unordered(REBUILT_AT_ONCE);
        while let Some(outcome) = done.next().await {
            threads += 1;
            match outcome? {
                Rebuilt::Changed => changed += 1,
                Rebuilt::Same => {}
                Rebuilt::Unreadable => unreadable += 1,
            }
        }
        let Some(next) = page.next else { break };
        let progress = Progress { to: Projection::CURRENT, upto: next.clone() };
        store.set_projection(Projection { version: stored.version, progress: Some(progress) }).await?;
        upto = Some(next);
        tracing::info!(threads, changed, "computing the lists again");
    }
    store.set_projection(Projection { version: Projection::CURRENT, progress: None }).await?;
    tracing::info!(threads, changed, unreadable, "the lists are up to date");
    Ok(())
}

/// Threads after which the place is noted: one small write for that many logs read.
const REBUILD_PAGE: usize = 64;
const _: () = assert!(REBUILD_PAGE <= MAX_PAGE);

enum Rebuilt {
    Same,
    Changed,
    Unreadable,
}

async fn rebuild_thread(store: &Store, stored: Summary) -> Result<Rebuilt, StoreError> {
    let short = stored.thread.short();
    let unreadable = |error: &dyn std::fmt::Display| {
        tracing::warn!(thread.id = %short, %error, "a thread cannot be read; its lists stay as they were");
        Ok(Rebuilt::Unreadable)
    };
    let events = match store.load(short, 0).await {
        Ok(loaded) => loaded.events,
        Err(error @ StoreError::Corrupt(_)) => return unreadable(&error),
        Err(error) => return Err(error),
    };
    let (thread, approvals) = match project(stored.thread.clone(), &events) {
        Ok(projected) => projected,
        Err(error) => return unreadable(&error),
    };
    let summary = summary(&thread);
    if summary == stored && approvals.is_empty() {
        return Ok(Rebuilt::Same);
    }
    let (expected, events) = (summary.version, Vec::new());
    store.append(Append { thread: short, expected, events, summary, approvals, lease: None }).await?;
    Ok(Rebuilt::Changed)
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
