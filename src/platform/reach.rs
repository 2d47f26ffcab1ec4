//! Who a run and its requests are there for. PURE: ids and folds in, yes or no out; who is in which channel or group
//! is asked by the caller.
//!
//! Everything that shows something to a person of a workspace, or lets them decide it, goes by this: nothing crosses
//! workspaces, and `*` among approvers means the people of the conversation in which it is asked. Outside a surface
//! with workspaces there is no such conversation, so there `*` lets nobody of a workspace in.

use crate::agent::{Approvers, People, Principal, PrincipalKind, Sameness, Thread, ThreadId};

/// A workspace: the first two parts of whatever belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Team<'a> {
    pub surface: &'a str,
    pub team: &'a str,
}

/// How a thread stands to a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the workspace's own.
    Here,
    /// It is of another surface: people of this workspace count where they are named.
    Elsewhere,
    /// It is another workspace's, or no run.
    Foreign,
}

impl<'a> Team<'a> {
    /// The workspace of somebody (`slack:T1:U1`), if their surface has any.
    pub fn of(by: &'a Principal) -> Option<Self> {
        let mut parts = by.id.splitn(3, ':');
        let (surface, team, rest) = (parts.next()?, parts.next()?, parts.next()?);
        (!surface.is_empty() && !team.is_empty() && !rest.is_empty()).then_some(Self { surface, team })
    }

    /// Whether a person, a thread or a place is this workspace's.
    pub fn owns(&self, name: &str) -> bool {
        let mut parts = name.splitn(3, ':');
        parts.next() == Some(self.surface) && parts.next() == Some(self.team) && parts.next().is_some()
    }

    pub fn standing(&self, thread: &ThreadId) -> Standing {
        if self.owns(thread.as_str()) {
            Standing::Here
        } else if thread.surface() == self.surface || thread.is_system() {
            Standing::Foreign
        } else {
            Standing::Elsewhere
        }
    }
}

/// How a thread stands to a person.
pub fn standing(by: &Principal, thread: &ThreadId) -> Standing {
    match Team::of(by) {
        Some(team) => team.standing(thread),
        None if thread.is_system() => Standing::Foreign,
        None => Standing::Elsewhere,
    }
}

/// The channel in which something is: `slack:T1:C1` of `slack:T1:C1:1.2`. `-` is none.
pub fn channel(place: &str) -> Option<&str> {
    let end = place.match_indices(':').nth(2).map_or(place.len(), |(at, _)| at);
    let channel = place.get(..end)?;
    let last = channel.splitn(3, ':').nth(2)?;
    (!last.is_empty() && last != "-").then_some(channel)
}

/// Whether the person behind an identity started what runs there or ever spoke in it, under this identity or another
/// one of theirs. The one predicate of every surface for whose conversation it is.
pub fn takes_part(by: &Principal, thread: &Thread, people: &People) -> bool {
    people.compare(by, &thread.started_by) == Sameness::Same || thread.heard.includes(by, people)
}

/// Whether they are an approver by name, under this identity or another one of theirs, or by one of their groups.
/// Only people ever are.
pub fn is_named(by: &Principal, approvers: &Approvers, groups: &[String], people: &People) -> bool {
    let human = by.kind == PrincipalKind::Human;
    let named = || approvers.users.iter().any(|user| people.is_named(user, by));
    human && (named() || approvers.groups.iter().any(|group| groups.contains(group)))
}

/// Whether everybody of the conversation may decide.
pub fn is_open_to_all(approvers: &Approvers) -> bool {
    approvers.users.iter().any(|user| user == "*")
}

/// Whether the conversation is before somebody's eyes, as far as that is known without asking: they take part in it,
/// or act within it. `at`: the place that the transport vouches for. `route`: where its card stands, if elsewhere.
pub fn is_within(by: &Principal, thread: &Thread, route: &str, at: &str, people: &People) -> bool {
    let at = channel(at);
    let there = || at.is_some() && (at == channel(thread.id.as_str()) || at == channel(route));
    standing(by, &thread.id) == Standing::Here && (takes_part(by, thread, people) || there())
}

/// The channels of which somebody has to be a member to see it, if they act from elsewhere: of any of them.
pub fn channels(by: &Principal, thread: &ThreadId, route: &str) -> Vec<String> {
    let Some(team) = Team::of(by).filter(|team| team.standing(thread) == Standing::Here) else { return Vec::new() };
    let places = [thread.as_str(), route].into_iter().filter(|place| team.owns(place));
    let mut channels: Vec<String> = places.filter_map(channel).map(str::to_owned).collect();
    channels.dedup();
    channels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_owns_what_bears_its_name_and_nothing_that_only_begins_like_it() {
        let by = Principal::human("slack:T1:U1");
        let team = Team::of(&by).unwrap();
        for (name, owned) in [
            ("slack:T1:U1", true),
            ("slack:T1:C1:1.2", true),
            ("slack:T12:U1", false),
            ("slack:T2:U1", false),
            ("slack:T1", false),
            ("discord:T1:U1", false),
            ("T1:U1", false),
        ] {
            assert_eq!(team.owns(name), owned, "{name}");
        }
        let standing = |id: &str| standing(&by, &id.parse().unwrap());
        assert_eq!(standing("slack:T1:C1:1.2"), Standing::Here);
        assert_eq!(standing("slack:T2:C1:1.2"), Standing::Foreign);
        assert_eq!(standing("api:1"), Standing::Elsewhere);
        assert_eq!(standing("system:slack:T1:other"), Standing::Foreign);
    }

    #[test]
    fn the_channel_of_an_address_is_what_stands_before_the_message_or_the_person() {
        for (place, expected) in [
            ("slack:T1:C1:1.2", Some("slack:T1:C1")),
            ("slack:T1:C1", Some("slack:T1:C1")),
            ("slack:T1:C1:U1:1.2", Some("slack:T1:C1")),
            ("slack:T1:-:U1", None),
            ("slack:T1:", None),
            ("slack:T1", None),
            ("", None),
        ] {
            assert_eq!(channel(place), expected, "{place}");
        }
    }
}
