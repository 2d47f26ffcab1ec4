//! People: who is behind one or more identities. PURE: a directory comes in as data, comparisons go out.
//!
//! A [`Principal`] is an identity on one surface. One person can have several (`slack:T1:U1`, `web:ann`), and
//! where a rule wants different people, two identities of one person count once. The directory (`[[people]]` of
//! the settings) says which identities belong together. What it says at the moment of a decision is stamped on
//! the principal in the event ([`Principal::person`]), so folding a log never reads the directory.
//!
//! Two identities are compared in three steps, and each step can only be stricter than the next:
//! 1. The same identity, or the same person by a stamp or by the directory: [`Sameness::Same`].
//! 2. Two different people by the directory, two names in one place (one workspace, one sign-in) that differ in more
//!    than what people type now one way, now the other, or a program on either side: [`Sameness::Different`].
//! 3. Everything else is [`Sameness::Unknown`], and whoever asks stays closed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::{Principal, PrincipalKind};

/// What begins the name of a person where approvers are named: `person:ann`.
pub const PERSON: &str = "person";
/// The surface of mail addresses: `email:ann@example.com`.
pub const EMAIL: &str = "email";

/// One entry of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonEntry {
    /// Unique in the directory; stamped on events.
    pub name: String,
    /// Identities: `slack:T1:U1`, `web:ann`, `email:ann@example.com`.
    pub ids: Vec<String>,
}

/// The directory.
#[derive(Clone, Debug, Default)]
pub struct People {
    entries: Vec<PersonEntry>,
    by_id: BTreeMap<String, usize>,
    /// Whether a mail address that a surface vouches for finds the person with that `email:` identity.
    match_verified_mail: bool,
}

/// How two identities stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sameness {
    Same,
    Different,
    /// The directory does not say, and the identities come from different places.
    Unknown,
}

impl People {
    /// # Errors
    /// A sentence for each entry that cannot be meant: an empty or repeated name, no identity, an identity that
    /// two people share.
    pub fn new(entries: Vec<PersonEntry>, match_verified_mail: bool) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut by_id: BTreeMap<String, usize> = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let PersonEntry { name, ids } = entry;
            if name.trim().is_empty() || name.trim() != name || name.chars().any(char::is_control) {
                problems.push(format!("person {}: `name` must be text without blanks around it", index + 1));
            }
            if entries.iter().take(index).any(|other| other.name == *name) {
                problems.push(format!(
                    "person {} `{name}`: another entry has this name; one person is one entry",
                    index + 1
                ));
            }
            if ids.is_empty() {
                problems.push(format!("person {} `{name}`: `ids` is empty, so the entry has no effect", index + 1));
            }
            for id in ids {
                match by_id.insert(id.clone(), index) {
                    Some(other) if other != index => {
                        let other = entries.get(other).map_or("", |e| e.name.as_str());
                        problems.push(format!("person {} `{name}`: `{id}` belongs to `{other}` already", index + 1));
                    }
                    Some(_) | None => {}
                }
            }
        }
        if problems.is_empty() { Ok(Self { entries, by_id, match_verified_mail }) } else { Err(problems) }
    }

    pub fn matches_mail(&self) -> bool {
        self.match_verified_mail
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn entries(&self) -> &[PersonEntry] {
        &self.entries
    }

    fn entry(&self, id: &str) -> Option<&PersonEntry> {
        self.by_id.get(id).and_then(|index| self.entries.get(*index))
    }

    /// The person behind an identity, by the directory alone. Where verified addresses are matched, a name that is an
    /// address (a proxy's, a sign-in's: `web:ann@example.com`) is one.
    pub fn name_of(&self, id: &str) -> Option<&str> {
        let listed = self.entry(id).map(|entry| entry.name.as_str());
        listed.or_else(|| self.by_mail(id.split_once(':')?.1))
    }

    /// The person whose `email:` identity is this address, if verified addresses are matched. The domain is compared
    /// without regard to case, the local part as it stands (RFC 5321, section 2.3.11).
    pub fn by_mail(&self, address: &str) -> Option<&str> {
        if !self.match_verified_mail {
            return None;
        }
        let (local, domain) = address.rsplit_once('@')?;
        let id = format!("{EMAIL}:{local}@{}", domain.to_ascii_lowercase());
        self.entry(&id).map(|entry| entry.name.as_str())
    }

    /// The person behind an identity: as the directory has it now, else as it was stamped.
    pub fn person<'a>(&'a self, who: &'a Principal) -> Option<&'a str> {
        self.name_of(&who.id).or(who.person.as_deref())
    }

    /// Stamps the person on an identity. What a surface found by a verified mail address stays where the directory
    /// does not know the identity itself.
    pub fn stamp(&self, who: &mut Principal) {
        if who.kind == PrincipalKind::Human
            && let Some(name) = self.name_of(&who.id)
        {
            who.person = Some(name.to_owned());
        }
    }

    /// The other names of the person behind `who`: identities, and `person:<name>`.
    pub fn other_names(&self, who: &Principal) -> Vec<String> {
        let Some(name) = self.person(who).filter(|_| who.kind == PrincipalKind::Human) else { return Vec::new() };
        let entry = self.entries.iter().find(|entry| entry.name == name);
        let ids = entry.into_iter().flat_map(|entry| entry.ids.iter().cloned()).filter(|id| *id != who.id);
        ids.chain([format!("{PERSON}:{name}")]).collect()
    }

    /// Whether a name among approvers (`slack:T1:U1`, `person:ann`) stands for the person behind `who`.
    pub fn is_named(&self, name: &str, who: &Principal) -> bool {
        if who.kind != PrincipalKind::Human {
            return false;
        }
        if name == who.id {
            return true;
        }
        let Some(person) = self.person(who) else { return false };
        match name.split_once(':') {
            Some((PERSON, named)) => named == person,
            Some(_) | None => self.name_of(name) == Some(person),
        }
    }

    /// This directory with identities that it does not list itself, and the person that each was found to be.
    pub fn with(&self, known: &[Principal]) -> Self {
        let mut more = self.clone();
        for who in known.iter().filter(|who| self.name_of(&who.id).is_none()) {
            let found = who.person.as_ref().and_then(|name| self.entries.iter().position(|entry| entry.name == *name));
            if let Some(index) = found {
                more.by_id.insert(who.id.clone(), index);
            }
        }
        more
    }

    /// How two identities stand to each other.
    pub fn compare(&self, a: &Principal, b: &Principal) -> Sameness {
        if a == b {
            return Sameness::Same;
        }
        if a.kind != PrincipalKind::Human || b.kind != PrincipalKind::Human {
            return Sameness::Different;
        }
        // A stamp and today's directory may differ; either is enough to be one person.
        let (of_a, of_b) = (self.names(a), self.names(b));
        if of_a.iter().flatten().any(|name| of_b.contains(&Some(name))) {
            return Sameness::Same;
        }
        let known = |names: &[Option<&str>; 2]| names.iter().any(Option::is_some);
        if known(&of_a) && known(&of_b) {
            return Sameness::Different;
        }
        if place(&a.id) != place(&b.id) {
            return Sameness::Unknown;
        }
        // In one place two ids are two people, but for names that people type: `Ann` is `ann`, and `ann` may be
        // `ann@example.com`.
        let (a, b) = (typed(&a.id), typed(&b.id));
        let local = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
        if a == b {
            Sameness::Same
        } else if local(&a) == local(&b) {
            Sameness::Unknown
        } else {
            Sameness::Different
        }
    }

    fn names<'a>(&'a self, who: &'a Principal) -> [Option<&'a str>; 2] {
        [self.name_of(&who.id), who.person.as_deref()]
    }
}

/// Whether two principals are one person by what is stamped on them: for the fold, which reads no directory.
pub fn is_same_person(a: &Principal, b: &Principal) -> bool {
    let both_human = a.kind == PrincipalKind::Human && b.kind == PrincipalKind::Human;
    a == b || (both_human && a.person.is_some() && a.person == b.person)
}

/// The name in an identity without what people type now one way, now the other: case, and Unicode's compatibility forms.
fn typed(id: &str) -> String {
    let name = id.rsplit_once(':').map_or(id, |(_, name)| name);
    icu_normalizer::ComposingNormalizer::new_nfkc().normalize(&name.to_lowercase()).into_owned()
}

/// Where an identity was verified: everything before its last part, the surface and the workspace.
pub fn place(id: &str) -> &str {
    id.rsplit_once(':').map_or("", |(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> People {
        let entry = |name: &str, ids: &[&str]| PersonEntry {
            name: name.to_owned(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let entries = vec![
            entry("ann", &["slack:T1:U1", "web:ann", "email:ann@example.com"]),
            entry("bob", &["slack:T1:U2", "web:bob"]),
        ];
        People::new(entries, true).unwrap()
    }

    #[test]
    fn two_identities_are_one_person_two_people_or_it_cannot_be_told() {
        let people = people();
        let compare = |a: &str, b: &str| people.compare(&Principal::human(a), &Principal::human(b));
        for (a, b, expected) in [
            ("slack:T1:U1", "slack:T1:U1", Sameness::Same),
            ("slack:T1:U1", "web:ann", Sameness::Same),
            ("slack:T1:U1", "web:bob", Sameness::Different),
            ("slack:T1:U1", "slack:T1:U2", Sameness::Different),
            ("slack:T1:U8", "slack:T1:U9", Sameness::Different),
            ("slack:T1:U1", "slack:T1:U9", Sameness::Different),
            ("slack:T1:U1", "slack:T2:U1", Sameness::Unknown),
            ("slack:T1:U8", "web:kim", Sameness::Unknown),
            ("slack:T1:U1", "web:kim", Sameness::Unknown),
            ("web:kim", "console:kim", Sameness::Unknown),
            // The directory compares ids as they stand: another letter is another identity, and not another person.
            ("web:Ann", "slack:T1:U1", Sameness::Unknown),
            ("web:Kim", "web:kim", Sameness::Same),
            ("web:ｋim", "web:kim", Sameness::Same),
            ("web:kim@example.com", "web:kim", Sameness::Unknown),
            ("web:kim@a.example", "web:kim@b.example", Sameness::Unknown),
            ("web:kim@a.example", "web:jo@a.example", Sameness::Different),
        ] {
            assert_eq!(compare(a, b), expected, "{a} {b}");
            assert_eq!(compare(b, a), expected, "{b} {a}");
        }
        let program = Principal::service("api:ci");
        assert_eq!(people.compare(&program, &Principal::human("web:kim")), Sameness::Different);
        assert_eq!(people.compare(&program, &program.clone()), Sameness::Same);
    }

    #[test]
    fn a_stamp_counts_beside_the_directory() {
        let people = people();
        let stamped = Principal { person: Some("ann".to_owned()), ..Principal::human("web:new") };
        assert_eq!(people.compare(&stamped, &Principal::human("slack:T1:U1")), Sameness::Same);
        assert_eq!(people.compare(&stamped, &Principal::human("web:bob")), Sameness::Different);
        // The directory moved an identity after a vote was stamped: either counts.
        let moved = Principal { person: Some("ann".to_owned()), ..Principal::human("web:bob") };
        assert_eq!(people.compare(&moved, &Principal::human("slack:T1:U1")), Sameness::Same);
        assert_eq!(people.compare(&moved, &Principal::human("slack:T1:U2")), Sameness::Same);
        assert!(is_same_person(&stamped, &moved) && !is_same_person(&stamped, &Principal::human("slack:T1:U1")));
    }

    #[test]
    fn a_person_is_named_by_any_identity_and_a_program_by_none() {
        let people = people();
        let web = Principal::human("web:ann");
        for name in ["web:ann", "slack:T1:U1", "person:ann", "email:ann@example.com"] {
            assert!(people.is_named(name, &web), "{name}");
        }
        for name in ["web:bob", "person:bob", "person:", "slack:T1:U2", "ann", "*"] {
            assert!(!people.is_named(name, &web), "{name}");
        }
        assert!(!people.is_named("api:ci", &Principal::service("api:ci")));
        assert_eq!(people.other_names(&web), ["slack:T1:U1", "email:ann@example.com", "person:ann"]);
        assert!(people.other_names(&Principal::human("web:kim")).is_empty());
    }

    #[test]
    fn a_mail_address_finds_its_person_only_where_that_is_wanted() {
        assert_eq!(people().by_mail("ann@EXAMPLE.com"), Some("ann"));
        assert_eq!(people().by_mail("Ann@example.com"), None);
        assert_eq!(people().name_of("web:ann@example.com"), Some("ann"));
        assert_eq!(people().name_of("slack:T1:ann@example.com"), None, "no address of Slack's");
        let strict = People::new(people().entries().to_vec(), false).unwrap();
        assert_eq!(strict.by_mail("ann@example.com"), None);
    }

    #[test]
    fn an_entry_that_cannot_be_meant_is_refused_in_words() {
        let entry = |name: &str, ids: &[&str]| PersonEntry {
            name: name.to_owned(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let wrong = vec![entry("ann", &["web:a"]), entry("ann", &["web:a"]), entry(" ", &[])];
        assert_eq!(
            People::new(wrong, false).unwrap_err(),
            [
                "person 2 `ann`: another entry has this name; one person is one entry",
                "person 2 `ann`: `web:a` belongs to `ann` already",
                "person 3: `name` must be text without blanks around it",
                "person 3 ` `: `ids` is empty, so the entry has no effect",
            ]
        );
    }
}
