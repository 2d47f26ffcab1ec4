//! Who may see which run and which request, and finding the one that is meant.
//!
//! Somebody takes part in a run that they started, spoke in, or ask from within; operators take part in all. Who
//! only decides a request of it sees that request and where the run stands. What belongs to another workspace does
//! not exist for them, whatever else holds: a store is shared by all workspaces. `*` among approvers is everybody
//! who can see the conversation, so it shows a request to those who ask from within it, and to nobody elsewhere.
//! What each of that means is `platform::reach`'s.

use super::{Asker, Listing, words};
use crate::agent::*;
use crate::platform::reach::{self, Standing, channel, is_named, standing};
use crate::runtime::DeliverError;
use crate::store::{ApprovalFilter, ApprovalRow, Filter, MAX_FOUND, Person, StoreError, Summary};

/// Rows that an answer has; the rest is counted.
pub(in crate::chat) const ROWS: usize = 10;
/// Requests that a list looks through, over all workspaces. A store with more says "more than".
const SCANNED: usize = 500;
/// Runs that are looked through for somebody's own.
const SCANNED_RUNS: usize = 200;
/// Rows that are asked of the store at once.
const PAGE: usize = 50;
/// Groups of the policy that a person is looked for in. Each can be a question to the platform.
const MAX_GROUPS: usize = 20;

/// Why nothing can be said: an error of the store, or of a log.
pub(in crate::chat) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Which groups somebody is in, as of now: for lists. Decisions ask again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    pub of: Vec<String>,
    /// Why it could not be found out.
    pub trouble: Option<String>,
}

/// The groups that the policy names and that this person is in.
pub async fn groups_of(runtime: &crate::runtime::Runtime, by: &Principal) -> Groups {
    let policy = &runtime.parts().policy;
    let approvers = policy.rules.iter().filter_map(|rule| rule.approvers.as_ref()).chain([&policy.approvers]);
    let mut named: Vec<String> = approvers.flat_map(|approvers| approvers.groups.iter().cloned()).collect();
    named.sort();
    named.dedup();
    named.truncate(MAX_GROUPS);
    among(runtime, by, &named).await
}

async fn among(runtime: &crate::runtime::Runtime, by: &Principal, named: &[String]) -> Groups {
    if named.is_empty() {
        return Groups::default();
    }
    match runtime.parts().platforms.groups_shown(by, named).await {
        Ok(of) => Groups { of, trouble: None },
        Err(error) => Groups { of: Vec::new(), trouble: Some(error.message) },
    }
}

/// Whether a request is on the lists of somebody: they are named, take part, or ask from within the conversation.
/// That everybody of a conversation may decide it puts it on no list elsewhere.
pub(in crate::chat) fn concerns(
    by: &Principal,
    thread: &Summary,
    request: &ApprovalRow,
    groups: &Groups,
    at: &str,
    people: &People,
) -> bool {
    let own = |other: &Principal| people.compare(other, by) == Sameness::Same;
    let takes_part =
        || own(&thread.requester) || request.requesters.iter().any(own) || request.decided_by.iter().any(own);
    let there = || channel(at).is_some() && channel(at) == channel(thread.thread.as_str());
    match standing(by, &thread.thread) {
        Standing::Foreign => false,
        Standing::Elsewhere => is_named(by, &request.approvers, &groups.of, people),
        Standing::Here => is_named(by, &request.approvers, &groups.of, people) || takes_part() || there(),
    }
}

/// A run, as somebody sees it.
pub(super) struct Seen {
    pub thread: Thread,
    /// They take part in it. If not, they are asked to decide something of it.
    pub theirs: bool,
}

impl Asker<'_> {
    /// Who is behind which identities.
    pub(super) fn people(&self) -> &People {
        &self.runtime.parts().people
    }

    pub(super) fn now(&self) -> Timestamp {
        self.runtime.parts().clock.now()
    }

    /// The run, if it is there and in their workspace.
    pub(super) async fn reach(&self, short: ShortId) -> Result<Option<Thread>, Broken> {
        match self.runtime.thread(short).await {
            Ok(thread) => Ok((standing(self.by, &thread.id) != Standing::Foreign).then_some(thread)),
            Err(DeliverError::Store(StoreError::Unknown(_) | StoreError::Deleted(_))) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// The run, if it is there and theirs to see. Asks no platform: whoever may decide in it only as a member of a
    /// group is not known to.
    pub(super) async fn see(&self, short: ShortId) -> Result<Option<Seen>, Broken> {
        let Some(thread) = self.reach(short).await? else { return Ok(None) };
        let theirs = self.operator || self.here == Some(short) || reach::takes_part(self.by, &thread, self.people());
        let decides = || thread.pending_approvals().any(|a| self.decides(&thread, a, &[]));
        Ok((theirs || decides()).then_some(Seen { thread, theirs }))
    }

    /// Whether a request is known to be theirs to decide, without anybody being asked.
    pub(super) fn decides(&self, thread: &Thread, request: &Approval, groups: &[String]) -> bool {
        let Terms { approvers, route, .. } = &request.terms;
        let all = || {
            reach::is_open_to_all(approvers)
                && reach::is_within(self.by, thread, &route.channel, self.at, self.people())
        };
        is_named(self.by, approvers, groups, self.people()) || all()
    }

    /// The same, for what only looks: members of groups are found as well.
    pub(super) async fn see_by_groups(&self, short: ShortId) -> Result<Option<Seen>, Broken> {
        if let Some(seen) = self.see(short).await? {
            return Ok(Some(seen));
        }
        let Some(thread) = self.reach(short).await? else { return Ok(None) };
        let mut groups: Vec<String> =
            thread.pending_approvals().flat_map(|a| a.terms.approvers.groups.iter().cloned()).collect();
        groups.sort();
        groups.dedup();
        groups.truncate(MAX_GROUPS);
        let groups = among(self.runtime, self.by, &groups).await.of;
        let decides = thread.pending_approvals().any(|a| self.decides(&thread, a, &groups));
        Ok(decides.then_some(Seen { thread, theirs: false }))
    }

    /// The run that `text` names: its short id, the beginning of it, or any id that carries it. Otherwise the
    /// answer that says why there is none. `by_groups`: also what somebody decides as a member of a group.
    pub(super) async fn find(&self, text: &str, by_groups: bool) -> Result<Result<Seen, Listing>, Broken> {
        let inside = ["apr_", "call_", "q_"].iter().find_map(|prefix| text.strip_prefix(prefix)?.split('_').next());
        let text = inside.unwrap_or(text);
        if text.len() < super::read::LEAST {
            return Ok(Err(words::too_short(text, "a run")));
        }
        let found = self.runtime.parts().store.find(text).await?;
        // The same is said of what is not there and of what is not theirs.
        let crowded = found.len() >= MAX_FOUND;
        let mut seen = Vec::new();
        for short in found {
            seen.extend(if by_groups { self.see_by_groups(short).await? } else { self.see(short).await? });
        }
        Ok(match seen.len() {
            0 => Err(words::unknown_run(text, self.prefix)),
            1 if !crowded => Ok(seen.remove(0)),
            _ => Err(words::ambiguous_runs(text, &seen, self)),
        })
    }

    /// The runs that this person started, last change first, up to `limit`; and whether there may be more.
    pub(in crate::chat) async fn own(
        &self,
        limit: usize,
        wanted: impl Fn(&Summary) -> bool,
    ) -> Result<(Vec<Summary>, bool), Broken> {
        let filter = Filter { requester: Some(Person::of(self.by, &[], self.people())), ..Filter::default() };
        let (mut own, mut after, mut scanned) = (Vec::new(), None, 0);
        loop {
            let page = self.runtime.parts().store.list(&filter, after, PAGE).await?;
            scanned += page.items.len();
            own.extend(
                page.items.into_iter().filter(|s| standing(self.by, &s.thread) != Standing::Foreign && wanted(s)),
            );
            after = page.next;
            if after.is_none() || own.len() > limit || scanned >= SCANNED_RUNS {
                break;
            }
        }
        let more = after.is_some() || own.len() > limit;
        own.truncate(limit);
        Ok((own, more))
    }

    /// Requests that can be decided now, oldest first: those that this person could decide, or all that are
    /// theirs to see.
    pub(in crate::chat) async fn requests(&self, all: bool, groups: &Groups) -> Result<Requests, Broken> {
        let person = Person::of(self.by, &groups.of, self.people());
        let filter = ApprovalFilter {
            open: Some(true),
            decider: (!all).then(|| person.clone()),
            visible_to: (all && !self.operator).then_some(person),
            ..ApprovalFilter::default()
        };
        let store = &self.runtime.parts().store;
        let (mut requests, mut after, mut scanned) = (Requests::default(), None, 0);
        loop {
            let page = store.approvals(&filter, after, PAGE).await?;
            scanned += page.items.len();
            requests.damaged += page.damaged.len();
            for row in page.items {
                let summary = match store.summary(row.id.thread).await {
                    Ok(summary) => summary,
                    Err(StoreError::Unknown(_) | StoreError::Deleted(_)) => continue,
                    Err(other) => return Err(other.into()),
                };
                let theirs = concerns(self.by, &summary, &row, groups, self.at, self.people())
                    || (all && self.operator && standing(self.by, &summary.thread) != Standing::Foreign);
                if !theirs {
                    continue;
                }
                requests.total += 1;
                if requests.rows.len() < ROWS {
                    requests.rows.push(row);
                }
            }
            after = page.next;
            if after.is_none() || scanned >= SCANNED {
                requests.more = after.is_some();
                return Ok(requests);
            }
        }
    }

    /// The request that `text` names: its id, or the beginning of the id of one that is open and theirs to see.
    pub(super) async fn find_request(&self, text: &str) -> Result<Result<ApprovalId, Listing>, Broken> {
        if let Ok(id) = text.parse::<ApprovalId>() {
            return Ok(Ok(id));
        }
        let digits = text.strip_prefix("apr_").unwrap_or(text);
        let thread = digits.split('_').next().unwrap_or("");
        if thread.len() < super::read::LEAST {
            return Ok(Err(words::too_short(text, "a request")));
        }
        let found = self.runtime.parts().store.find(thread).await?;
        let crowded = found.len() >= MAX_FOUND;
        let mut fitting = Vec::new();
        for short in found {
            if let Some(Seen { thread, .. }) = self.see(short).await? {
                let open = thread.pending_approvals().map(|a| (a.id, a.title.clone()));
                fitting.extend(open.filter(|(id, _)| id.to_string().trim_start_matches("apr_").starts_with(digits)));
            }
        }
        Ok(match fitting.as_slice() {
            [] => Err(words::unknown_request(text)),
            [(id, _)] if !crowded => Ok(*id),
            many => Err(words::ambiguous_requests(text, many)),
        })
    }

    /// A link to what waits in a thread, or to the thread.
    pub(in crate::chat) fn link(&self, thread: &Thread, posting: Option<&Posting>) -> Option<String> {
        let post = posting.and_then(|posting| thread.posts.get(posting));
        let reference = post.and_then(|post| post.reference.as_deref());
        let there = match posting {
            Some(_) if reference.is_none() => None,
            _ => self.runtime.parts().platforms.link(&thread.id, reference),
        };
        there.or_else(|| {
            let page = match posting {
                Some(Posting::Card { approval }) => format!("inbox/{approval}"),
                _ => format!("chat/{}", thread.short),
            };
            self.page(&page)
        })
    }

    /// A page of the web inbox.
    pub(super) fn page(&self, page: &str) -> Option<String> {
        (!self.public_url.is_empty()).then(|| format!("{}/{page}", self.public_url.trim_end_matches('/')))
    }
}

/// Requests of a list.
#[derive(Default)]
pub(in crate::chat) struct Requests {
    pub rows: Vec<ApprovalRow>,
    /// Those that were found, the rows among them.
    pub total: usize,
    /// Whether there may be others that were not looked at.
    pub more: bool,
    /// Those that cannot be read back.
    pub damaged: usize,
}
