//! Names of things: threads, events, calls, approvals, people, moments, digests.
//!
//! Every id that can travel to the outside (a button, a command line, a mail link) carries the short
//! id of its thread, so it finds its log without an alias table on any store. Parsing happens once,
//! at the edge; inside the program an id that exists is well formed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A moment: milliseconds since the Unix epoch, UTC. It enters the core as data, never from a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment plus `ms` milliseconds; saturates instead of wrapping.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
    }

    /// Milliseconds from `earlier` until this moment; 0 if it lies before.
    pub fn ms_since(self, earlier: Timestamp) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with seconds, for example `2026-11-22T14:02:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{}", t.strftime("%Y-%m-%dT%H:%M:%SZ")),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {expected}")]
pub struct IdError {
    given: String,
    expected: &'static str,
}

impl IdError {
    fn new(given: &str, expected: &'static str) -> Self {
        Self { given: given.chars().take(80).collect(), expected }
    }
}

/// The surface of logs that are no conversations.
pub const SYSTEM: &str = "system";

/// The full name of a conversation: `<surface>:<parts>`, for example `slack:T1:C1:171.2`,
/// `console:0192…`, `api:<uuid>`, `system:rules`. At most [`ThreadId::MAX`] bytes, no white space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ThreadId(String);

impl ThreadId {
    /// Longest accepted id in bytes; the longest real one (Discord: three snowflakes) has 70.
    pub const MAX: usize = 200;

    /// The part before the first colon.
    pub fn surface(&self) -> &str {
        self.0.split_once(':').map_or("", |(surface, _)| surface)
    }

    /// Whether this log is no conversation: nothing can be said in it.
    pub fn is_system(&self) -> bool {
        self.surface() == SYSTEM
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id under which stores, buttons and links know this thread.
    pub fn short(&self) -> ShortId {
        let hash = Sha256::digest(self.0.as_bytes());
        let text = data_encoding::BASE32_NOPAD.encode(&hash[..10]).to_ascii_lowercase();
        let mut short = [0; ShortId::LEN];
        short.copy_from_slice(text.as_bytes());
        ShortId(short)
    }
}

impl FromStr for ThreadId {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        let well_formed = s.len() <= Self::MAX
            && !s.chars().any(|c| c.is_whitespace() || c.is_control())
            && s.split_once(':').is_some_and(|(surface, rest)| {
                !surface.is_empty() && surface.bytes().all(|b| b.is_ascii_lowercase()) && !rest.is_empty()
            });
        if well_formed { Ok(Self(s.to_owned())) } else { Err(IdError::new(s, "a thread id (`<surface>:<name>`)")) }
    }
}

impl TryFrom<String> for ThreadId {
    type Error = IdError;
    fn try_from(s: String) -> Result<Self, IdError> {
        s.parse()
    }
}

impl From<ThreadId> for String {
    fn from(id: ThreadId) -> String {
        id.0
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 80 bits of SHA-256 over the [`ThreadId`], as 16 characters of lower-case base32.
///
/// Two threads share one with a probability of about 4e-13 at a million threads; the full id is in
/// the first event and compared on every load, so a collision is an error, never a mix-up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShortId([u8; 16]);

impl ShortId {
    pub const LEN: usize = 16;

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("") // reason: only ASCII is ever stored
    }
}

impl Default for ShortId {
    fn default() -> Self {
        Self([b'a'; Self::LEN])
    }
}

impl FromStr for ShortId {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        let bytes: [u8; Self::LEN] =
            s.as_bytes().try_into().map_err(|_| IdError::new(s, "a short thread id (16 letters and digits)"))?;
        if bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')) {
            Ok(Self(bytes))
        } else {
            Err(IdError::new(s, "a short thread id (16 letters and digits)"))
        }
    }
}

impl TryFrom<String> for ShortId {
    type Error = IdError;
    fn try_from(s: String) -> Result<Self, IdError> {
        s.parse()
    }
}

impl From<ShortId> for String {
    fn from(id: ShortId) -> String {
        id.as_str().to_owned()
    }
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Ids of things that an event created: a prefix, the thread, the event's sequence number and, where
/// one event can create several, an ordinal.
macro_rules! created_by_event {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            pub thread: ShortId,
            /// Sequence number of the event that created it.
            pub seq: u64,
            /// Which of the things that this event created; 0 is left out of the text.
            pub ord: u32,
        }

        impl $name {
            pub fn new(thread: ShortId, seq: u64, ord: u32) -> Self {
                Self { thread, seq, ord }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}_{}"), self.thread, self.seq)?;
                if self.ord == 0 { Ok(()) } else { write!(f, "_{}", self.ord) }
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                let parse = || {
                    let mut parts = s.strip_prefix(concat!($prefix, "_"))?.split('_');
                    let id = Self {
                        thread: parts.next()?.parse().ok()?,
                        seq: parts.next()?.parse().ok()?,
                        ord: parts.next().map_or(Some(0), |ord| ord.parse().ok())?,
                    };
                    // One text for one id: `+5`, `05` and a written 0 ordinal are refused.
                    (parts.next().is_none() && id.to_string() == s).then_some(id)
                };
                parse().ok_or_else(|| IdError::new(s, $expected))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(s: String) -> Result<Self, IdError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

created_by_event!(
    /// One tool call that a model asked for.
    CallId, "call", "a call id (`call_<thread>_<number>`)"
);
created_by_event!(
    /// One request to people; it keeps its id over all its revisions.
    ApprovalId, "apr", "an approval id (`apr_<thread>_<number>`)"
);
created_by_event!(
    /// One question to people.
    QuestionId, "q", "a question id (`q_<thread>_<number>`)"
);
created_by_event!(
    /// One effect. It is also the idempotency key towards the outside.
    EffectId, "eff", "an effect id (`eff_<thread>_<number>`)"
);

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// What the first event of a log names as its predecessor.
    pub const ZERO: Digest = Digest([0; 32]);

    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The first 12 hexadecimal digits: enough for people and buttons, never for a decision alone.
    pub fn prefix(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0[..6])
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::ZERO
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        data_encoding::HEXLOWER
            .decode(s.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| IdError::new(s, "a digest (64 hexadecimal digits)"))
    }
}

impl TryFrom<String> for Digest {
    type Error = IdError;
    fn try_from(s: String) -> Result<Self, IdError> {
        s.parse()
    }
}

impl From<Digest> for String {
    fn from(d: Digest) -> String {
        d.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix())
    }
}

/// What kind of party acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A person whom a transport has verified.
    Human,
    /// A program with a token of its own. It may start and read; it never counts as a person's vote.
    Service,
    /// One of our agents.
    Agent,
    /// The engine itself (expiry, budgets, recovery).
    System,
}

/// Who did something, as the transport verified it. Two principals are the same when kind and id are:
/// the display name is decoration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Principal {
    pub kind: PrincipalKind,
    /// `<surface>:<id>`, for example `console:ops` or `slack:T1:U1`.
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who is behind it, as the directory of people said when the event was decided ([`super::People`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

impl Principal {
    fn of(kind: PrincipalKind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into(), name: None, person: None }
    }

    pub fn human(id: impl Into<String>) -> Self {
        Self::of(PrincipalKind::Human, id)
    }

    /// A program, under the name of its token, webhook or schedule.
    pub fn service(id: impl Into<String>) -> Self {
        Self::of(PrincipalKind::Service, id)
    }

    pub fn agent(name: &str) -> Self {
        Self::of(PrincipalKind::Agent, format!("agent:{name}"))
    }

    pub fn system() -> Self {
        Self::of(PrincipalKind::System, "system:twelve")
    }

    /// The name that people see.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.id.split_once(':').map_or(self.id.as_str(), |(_, id)| id))
    }

    /// The part of the id before the first colon: where this principal was verified.
    pub fn surface(&self) -> &str {
        self.id.split_once(':').map_or("", |(surface, _)| surface)
    }

    /// Whether this is a person at this machine's own terminal, who could change the store as well.
    pub fn is_local(&self) -> bool {
        self.kind == PrincipalKind::Human && self.surface() == "console"
    }

    fn key(&self) -> (PrincipalKind, &str) {
        (self.kind, &self.id)
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Principal {}
impl PartialOrd for Principal {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Principal {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_travel_as_text_and_come_back_the_same() {
        let thread: ThreadId = "slack:T1:C1:171.2".parse().unwrap();
        assert_eq!(thread.surface(), "slack");
        for ord in [0, 3] {
            let call = CallId::new(thread.short(), 7, ord);
            assert_eq!(call.to_string().parse::<CallId>(), Ok(call));
        }
        assert!(CallId::new(thread.short(), 9, 1).to_string().len() <= 100, "fits a Discord custom_id");
    }

    #[test]
    fn one_id_has_one_spelling() {
        let short = "api:x".parse::<ThreadId>().unwrap().short();
        for bad in
            ["apr_5", "apr_aaaa_5", &format!("apr_{short}_05"), &format!("apr_{short}_5_0"), &format!("call_{short}_5")]
        {
            assert!(bad.parse::<ApprovalId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_thread_id_has_a_surface_and_no_white_space() {
        for bad in ["", "x", ":x", "x:", "Slack:x", "slack:a b", "slack:a\n", &format!("a:{}", "x".repeat(200))] {
            assert!(bad.parse::<ThreadId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_principal_is_its_id_not_its_name() {
        let mut bob = Principal::human("slack:T1:U1");
        bob.name = Some("Bob".into());
        assert_eq!(bob, Principal::human("slack:T1:U1"));
        assert_ne!(bob, Principal { kind: PrincipalKind::Agent, ..bob.clone() });
    }
}
