//! Keeps secrets out of the log, and so out of prompts, cards and pages.
//!
//! This module owns what counts as a secret and the words that replace one. It knows secrets of two kinds: the ones
//! that this process was configured with, removed wherever they stand, and text that has the shape of a credential.
//! It does not know where text comes from or goes to: callers that write to a log, a model or a person call
//! [`SecretFilter::clean`] first.
//!
//! | file | finds |
//! |---|---|
//! | `tokens` | credentials that are known by how they begin (`ghp_…`) |
//! | `shapes` | key blocks, headers, cookies, links, password files, manifests |
//! | `commands` | passwords in command lines (`mysql -p…`) |
//! | `assigned`, `names` | values behind a name (`password: …`), told from prose, code and references by `value` |
//! | `published` | the rules of gitleaks, as data |
//! | `args` | the same in the arguments of a call, argument by argument |
//!
//! One pass over the text finds every keyword of every rule; a text without one costs no more. What a keyword leads
//! to is read where it stands, or is an expression that runs in linear time.
//!
//! A text that only looks like a secret can be let pass: people say so, and the filter is told the keyed hash of
//! exactly that value ([`SecretFilter::letting`]). A configured secret is never let pass.

mod args;
mod assigned;
mod commands;
#[cfg(test)]
mod corpus;
mod names;
mod published;
mod shapes;
mod tokens;
mod value;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

pub use args::{Look, Suspect};

use super::id::Digest;

/// Shortest configured secret that is searched for, in bytes; a shorter one would also hit ordinary words.
pub const MIN_KNOWN_SECRET: usize = 8;

/// Removes secrets from text. Cheap to clone; its debug form shows no secret.
#[derive(Clone, Default)]
pub struct SecretFilter {
    known: Option<Arc<Known>>,
    /// The key of this installation: hashes of values that are let pass are made with it.
    key: Option<Arc<[u8; 32]>>,
    /// Values that only look like secrets, by their keyed hashes.
    passed: Arc<BTreeSet<Digest>>,
}

struct Known {
    search: AhoCorasick,
    number: usize,
}

impl fmt::Debug for SecretFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretFilter({} known)", self.known.as_ref().map_or(0, |known| known.number))
    }
}

const CONFIGURED: &str = "configured secret";
/// What stands at the front of every replacement.
const MARK: &str = "[secret removed: ";
/// Longest label, in bytes; those of the published rules are about half as long.
const MAX_LABEL: usize = 80;

/// A secret in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    at: Range<usize>,
    label: &'static str,
}

impl SecretFilter {
    /// A filter for these secrets, as they are and as they look inside JSON, and for all patterns.
    /// Secrets shorter than [`MIN_KNOWN_SECRET`] bytes are not searched for.
    pub fn new<S: AsRef<str>>(known: impl IntoIterator<Item = S>) -> Self {
        let mut all = BTreeSet::new();
        for secret in known {
            let secret = secret.as_ref().trim();
            if secret.len() >= MIN_KNOWN_SECRET {
                let quoted = serde_json::Value::from(secret).to_string();
                all.insert(quoted.trim_matches('"').to_owned());
                all.insert(secret.to_owned());
            }
        }
        let number = all.len();
        // Of two that begin at one place the longer goes as a whole.
        let search = AhoCorasickBuilder::new().match_kind(MatchKind::LeftmostLongest).build(&all);
        // reason for dropping the error: it stands for more than two billion bytes of secrets
        let known = search.ok().filter(|_| number > 0).map(|search| Arc::new(Known { search, number }));
        Self { known, ..Self::default() }
    }

    /// With the key of this installation: only a filter that has one can let values pass.
    pub fn with_key(self, key: [u8; 32]) -> Self {
        Self { key: Some(Arc::new(key)), ..self }
    }

    /// Whether values can be let pass at all.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// This filter, letting pass the values with these keyed hashes as well.
    pub fn letting(&self, passed: &BTreeSet<Digest>) -> Self {
        if passed.is_empty() {
            return self.clone();
        }
        Self { passed: Arc::new(self.passed.union(passed).copied().collect()), ..self.clone() }
    }

    /// HMAC-SHA256 of a value with the key of this installation. A value as JSON writes it has the hash of the value.
    fn keyed(&self, value: &str) -> Option<Digest> {
        let key = self.key.as_ref()?;
        let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(key.as_slice()).ok()?;
        mac.update(b"not a secret\0");
        mac.update(args::unescaped(value).as_bytes());
        Some(Digest(mac.finalize().into_bytes().into()))
    }

    fn is_passed(&self, value: &str) -> bool {
        !self.passed.is_empty() && self.keyed(value).is_some_and(|hash| self.passed.contains(&hash))
    }

    fn holds_known(&self, text: &str) -> bool {
        self.known.as_ref().is_some_and(|known| known.search.is_match(text))
    }

    /// The text with each secret replaced by `[secret removed: <kind>]`. Cleaning twice changes nothing more.
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = match &self.known {
            Some(known) if known.search.is_match(text) => {
                let mut out = String::with_capacity(text.len());
                known.search.replace_all_with(text, &mut out, |_, _, out| {
                    out.push_str(&removed(CONFIGURED));
                    true
                });
                Cow::Owned(out)
            }
            Some(_) | None => Cow::Borrowed(text),
        };
        let found = self.patterns_in(&text);
        if found.is_empty() {
            return text;
        }
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for Found { at, label } in found {
            out.push_str(text.get(done..at.start).unwrap_or(""));
            out.push_str(&removed(label));
            done = at.end;
        }
        out.push_str(text.get(done..).unwrap_or(""));
        Cow::Owned(out)
    }

    /// What kind of secret the text holds, if any: `slack token`.
    pub fn find(&self, text: &str) -> Option<&'static str> {
        if self.holds_known(text) {
            return Some(CONFIGURED);
        }
        self.patterns_in(text).first().map(|found| found.label)
    }

    /// What looks like a secret and is not let pass.
    fn patterns_in(&self, text: &str) -> Vec<Found> {
        let mut found = scan(text);
        found.retain(|f| text.get(f.at.clone()).is_some_and(|value| !self.is_passed(value)));
        found
    }
}

fn removed(label: &str) -> String {
    format!("{MARK}{label}]")
}

/// How many secrets were taken out of a cleaned text.
pub fn removals(text: &str) -> usize {
    text.matches(MARK).count()
}

/// Whether a setting or argument of this name holds a secret, whatever its value looks like.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let ends =
        ["password", "passwd", "passphrase", "secret", "token", "api_key", "apikey", "access_key", "private_key"];
    ends.iter().any(|end| name.ends_with(end)) || name == "authorization" || name == "cookie"
}

// ---- the search ----

/// What a keyword leads to.
#[derive(Clone, Copy)]
enum Lead {
    Token(usize),
    Name(names::Class),
    Program(usize),
    Shape(usize),
    Published(usize),
    Link,
    Cookie,
    Manifest,
    Mark,
}

/// Of two that overlap, the one with the more telling label gives its own: the lower pair.
fn rank(lead: Lead) -> (u8, usize) {
    match lead {
        Lead::Mark => (0, 0),
        Lead::Token(row) => (0, row),
        Lead::Shape(n) => (1, n),
        Lead::Link | Lead::Cookie => (2, 0),
        Lead::Program(_) | Lead::Manifest => (3, 0),
        Lead::Published(n) => (4, n),
        Lead::Name(_) => (5, 0),
    }
}

type Ranked = ((u8, usize), Found);

struct Keywords {
    search: AhoCorasick,
    /// By the number of the pattern; several rules may share a keyword.
    leads: Vec<Vec<Lead>>,
    /// As they are written: prefixes of tokens are told by their case.
    words: Vec<String>,
}

static KEYWORDS: LazyLock<Option<Keywords>> = LazyLock::new(|| {
    let mut by_word: BTreeMap<String, Vec<Lead>> = BTreeMap::new();
    let mut add = |word: &str, lead| by_word.entry(word.to_owned()).or_default().push(lead);
    tokens::prefixes().for_each(|(row, prefix)| add(prefix, Lead::Token(row)));
    names::NAMES.iter().for_each(|(name, class)| add(name, Lead::Name(*class)));
    commands::programs().for_each(|(row, program)| add(program, Lead::Program(row)));
    for (n, shape) in shapes::SHAPES.iter().enumerate() {
        shape.keywords.iter().for_each(|keyword| add(keyword, Lead::Shape(n)));
    }
    for (n, rule) in published::rules().iter().enumerate() {
        rule.keywords.iter().for_each(|keyword| add(keyword, Lead::Published(n)));
    }
    add("://", Lead::Link);
    ["cookie", "curl -b"].iter().for_each(|word| add(word, Lead::Cookie));
    ["kind: secret\n", "kind: \"secret\"", "kind: secret\r", "kind: secret\\n"]
        .iter()
        .for_each(|word| add(word, Lead::Manifest));
    add(MARK, Lead::Mark);
    let (words, leads): (Vec<String>, Vec<Vec<Lead>>) = by_word.into_iter().unzip();
    // reason for dropping the error: a test builds it from these constant tables
    let search = AhoCorasickBuilder::new().ascii_case_insensitive(true).build(&words).ok()?;
    Some(Keywords { search, leads, words })
});

/// Everything in the text that looks like a secret: apart from one another, in order.
fn scan(text: &str) -> Vec<Found> {
    let Some(keywords) = KEYWORDS.as_ref() else { return Vec::new() };
    let mut found: Vec<Ranked> = Vec::new();
    let mut shapes_seen = [false; shapes::SHAPES.len()];
    let mut rules_seen: BTreeSet<usize> = BTreeSet::new();
    let mut marks: Vec<Range<usize>> = Vec::new();
    // A secret that was found is not read again for the names that stand in it, nor a line of cookies or a manifest.
    let (mut covered, mut cookies_until, mut manifest_until) = (0, 0, 0);
    for hit in keywords.search.find_overlapping_iter(text) {
        let (start, end) = (hit.start(), hit.end());
        let number = hit.pattern().as_usize();
        for lead in keywords.leads.get(number).into_iter().flatten() {
            let lead = *lead;
            let inside = start < covered || marks.last().is_some_and(|mark| start < mark.end);
            let mut add = |at: Range<usize>, label: &'static str| {
                covered = covered.max(at.end);
                found.push((rank(lead), Found { at, label }));
            };
            match lead {
                Lead::Shape(n) => shapes_seen[n] = true,
                Lead::Published(n) => _ = rules_seen.insert(n),
                Lead::Mark => {
                    let label = text.as_bytes().iter().skip(end).take(MAX_LABEL).position(|b| *b == b']');
                    marks.push(start..end + label.map_or(0, |length| length + 1));
                }
                Lead::Token(row) if keywords.words.get(number).map(String::as_str) == text.get(start..end) => {
                    if let Some(at) = tokens::credential(row, text, start, end) {
                        add(at, tokens::label(row));
                    }
                }
                Lead::Token(_) => {}
                Lead::Name(class) if !inside => {
                    if let Some(at) = assigned::value_of(class, text, start, end) {
                        add(at, assigned::LABEL);
                    }
                }
                Lead::Name(_) => {}
                Lead::Program(row) => {
                    commands::passwords(row, text, start, end).into_iter().for_each(|at| add(at, commands::LABEL));
                }
                Lead::Link => {
                    if let Some(at) = shapes::link_password(text, start, end) {
                        add(at, shapes::LINK_LABEL);
                    }
                }
                Lead::Cookie if start >= cookies_until => {
                    let (values, until) = shapes::cookies(text, start, end);
                    cookies_until = until;
                    values.into_iter().for_each(|at| add(at, shapes::COOKIE_LABEL));
                }
                Lead::Cookie => {}
                Lead::Manifest if start >= manifest_until => {
                    let (values, until) = shapes::manifest_values(text, start);
                    manifest_until = until;
                    values.into_iter().for_each(|at| add(at, shapes::MANIFEST_LABEL));
                }
                Lead::Manifest => {}
            }
        }
    }
    for (n, shape) in shapes::SHAPES.iter().enumerate().filter(|(n, _)| shapes_seen[*n]) {
        let ranked = |at| (rank(Lead::Shape(n)), Found { at, label: shape.label });
        found.extend(shape.secrets_in(text).into_iter().map(ranked));
    }
    for (n, rule) in rules_seen.into_iter().filter_map(|n| Some((n, published::rules().get(n)?))) {
        let ranked = |at| (rank(Lead::Published(n)), Found { at, label: rule.label.as_str() });
        found.extend(rule.secrets_in(text).into_iter().map(ranked));
    }
    // What was taken out before is not taken out again.
    let touches = |at: &Range<usize>| {
        let next = marks.partition_point(|mark| mark.end <= at.start);
        marks.get(next).is_some_and(|mark| mark.start < at.end)
    };
    found.retain(|(_, f)| f.at.start < f.at.end && text.get(f.at.clone()).is_some() && !touches(&f.at));
    together(found)
}

/// Overlapping ones as one, with the label of the most telling.
fn together(mut found: Vec<Ranked>) -> Vec<Found> {
    found.sort_by(|(a_rank, a), (b_rank, b)| (a.at.start, a_rank).cmp(&(b.at.start, b_rank)));
    let mut merged: Vec<Ranked> = Vec::new();
    for (rank, next) in found {
        match merged.last_mut() {
            Some((best, last)) if next.at.start < last.at.end => {
                last.at.end = last.at.end.max(next.at.end);
                if rank < *best {
                    *best = rank;
                    last.label = next.label;
                }
            }
            Some(_) | None => merged.push((rank, next)),
        }
    }
    merged.into_iter().map(|(_, found)| found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Secrets of well-known shapes are put together here, so that no scanner takes this file for a leak.
    fn samples() -> Vec<(&'static str, String)> {
        let body = |n: usize| "aB3dE6gH9jK2mN5pQ8sT".chars().cycle().take(n).collect::<String>();
        let upper = "J4K5L6M7N2P3Q4R5";
        vec![
            (
                "private key",
                format!("-----BEGIN OPENSSH {}-----\n{}\n-----END OPENSSH PRIVATE KEY-----", "PRIVATE KEY", body(64)),
            ),
            ("private key", format!("-----BEGIN {}-----\\n{}", "PRIVATE KEY", body(64))),
            ("anthropic key", format!("{}-ant-api03-{}", "sk", body(40))),
            ("openai key", format!("{}-proj-{}", "sk", body(40))),
            ("openai key", format!("{}-{}", "sk", body(48))),
            ("aws key", format!("{}{upper}", "AKIA")),
            ("github token", format!("{}_{}", "ghp", body(36))),
            ("github token", format!("{}_pat_{}", "github", body(40))),
            ("gitlab token", format!("{}-{}", "glpat", body(20))),
            ("slack token", format!("{}-12345678901-{}", "xoxb", body(24))),
            ("slack token", format!("{}-1-A1B2C3-{}", "xapp", body(24))),
            ("slack webhook", format!("https://hooks.slack.com/services/T0/B0/{}", body(24))),
            ("discord webhook", format!("https://discord.com/api/webhooks/123456/{}", body(60))),
            ("discord token", format!("MT{}.{}.{}", body(22), body(6), body(38))),
            ("stripe key", format!("{}_live_{}", "sk", body(24))),
            ("google key", format!("{}{}", "AIza", body(35))),
            ("sendgrid key", format!("{}.{}.{}", "SG", body(22), body(43))),
            ("registry token", format!("{}_{}", "npm", body(36))),
            ("json web token", format!("{}{}.eyJ{}.{}", "eyJ", body(20), body(20), body(20))),
            ("authorization header", format!("Authorization: Bearer {}", body(24))),
            ("authorization header", format!("\"authorization\": \"Basic {}==\"", body(24))),
            ("authorization header", format!("curl -H 'bearer {}'", body(24))),
            ("password in a URL", "postgres://app:hunter22@db.internal:5432/app".into()),
            ("password in a URL", "redis://:p4ss@127.0.0.1/0".into()),
            ("assigned secret", "password=correcthorse".into()),
            ("assigned secret", "PGPASSWORD=hunter2".into()),
            ("assigned secret", "db_password: hunter2".into()),
            ("assigned secret", r#"{"apiKey": "correct horse battery"}"#.into()),
            ("assigned secret", r#"{\"client_secret\": \"abcdefgh\"}"#.into()),
            ("assigned secret", "aws_secret_access_key = aB3dE6gH9jK2mN5pQ8sT/+aB3dE6".into()),
            ("assigned secret", "https://example.com/hook?token=abc12345&x=1".into()),
        ]
    }

    #[test]
    fn each_kind_of_secret_is_found_and_removed_wherever_it_stands() {
        let filter = SecretFilter::default();
        for (label, secret) in samples() {
            for text in [secret.clone(), format!("the log says {secret}"), format!("über\n\t{secret}\nand more é")] {
                assert_eq!(filter.find(&text), Some(label), "{text}");
                let clean = filter.clean(&text);
                assert!(clean.contains(&format!("[secret removed: {label}]")), "{text} -> {clean}");
                assert_eq!(filter.find(&clean), None, "{clean}");
                assert_eq!(filter.clean(&clean), clean, "cleaning twice changes nothing");
            }
        }
    }

    #[test]
    fn what_stands_around_a_secret_is_kept() {
        let clean = |text: &str| SecretFilter::default().clean(text).into_owned();
        insta::assert_snapshot!(clean("postgres://app:hunter22@db.internal:5432/app is down"),
            @"postgres://app:[secret removed: password in a URL]@db.internal:5432/app is down");
        insta::assert_snapshot!(clean("GET /?token=abc12345&x=1 and password=hunter2, ok"),
            @"GET /?token=[secret removed: assigned secret]&x=1 and password=[secret removed: assigned secret], ok");
        insta::assert_snapshot!(clean(r#"{"user":"bob","password":"hunter2 too","n":1}"#),
            @r#"{"user":"bob","password":"[secret removed: assigned secret]","n":1}"#);
        insta::assert_snapshot!(clean("Authorization: Bearer abcdefghij0123456789 was sent"),
            @"Authorization: Bearer [secret removed: authorization header] was sent");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        let filter = SecretFilter::default();
        for text in [
            "deploy api v1.2.3-rc.1+build.5 to production",
            "commit 9fceb02d0ae598e95dc970b74767f19372d61af8 fixes it (9fceb02)",
            "550e8400-e29b-41d4-a716-446655440000 and 0192f3a0-7e5b-7c3a-9f00-1234567890ab",
            "apr_abcdefghijklmnop_12 and call_abcdefghijklmnop_12_3 in thread abcdefghijklmnop",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "the token: it is missing; password: required; secret: unknown",
            "max_tokens=100000, tokens: 12345678, token=12345678",
            "let token = parser.next_token(); password: String,",
            "export TOKEN=$GITHUB_TOKEN; password=${DB_PASSWORD}; api_key=<your key>; secret=********",
            "Authorization: Bearer tokens are required; a bearer authentication scheme",
            "https://example.com:8080/a@b and http://[::1]:8080/ and mailto:bob@example.com",
            "risk-assessment-of-the-deployment-pipeline, task-1234567890123456789012345",
            "slack:T1:C1:171.2, discord:1:2:3, console:ops, email:0192f3a0",
            "AKIABC is not a key, and neither is sk-learn-contrib-something-long-enough",
            "2026-11-22T14:02:00Z INFO effect.id=12.0 duration_ms=41 status=200",
        ] {
            assert_eq!(filter.find(text), None, "{text}");
            assert!(matches!(filter.clean(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn a_configured_secret_is_removed_as_it_is_and_as_json_shows_it() {
        let filter = SecretFilter::new(["plain words", "with \"quotes\" inside", "short"]);
        assert_eq!(filter.clean("say plain words, short"), "say [secret removed: configured secret], short",);
        assert_eq!(filter.clean(r#"{"a":"with \"quotes\" inside"}"#), r#"{"a":"[secret removed: configured secret]"}"#);
        assert_eq!(filter.find("plain words"), Some(CONFIGURED));
        assert_eq!(format!("{filter:?}"), "SecretFilter(3 known)");
    }

    #[test]
    fn a_secret_that_holds_another_goes_as_a_whole() {
        let filter = SecretFilter::new(["password", "password-and-more"]);
        assert_eq!(filter.clean("password-and-more"), "[secret removed: configured secret]");
    }

    #[test]
    fn names_of_secret_settings_are_known() {
        for name in ["api_key", "bot_token", "Client-Secret", "password", "Authorization", "openai_api_key"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["max_tokens", "key", "base_url", "tokens_used", "monkey"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
