//! Keeps secrets out of the log, and so out of prompts, cards and pages.
//!
//! This module owns the patterns of what is a secret and the words that replace one. It knows secrets
//! of two kinds: the ones that this process was configured with, removed wherever they stand, and text
//! that has the shape of a well-known credential. It does not know where text comes from or goes to:
//! whoever writes to a log, a model or a person calls [`SecretFilter::clean`] first.
//!
//! A pattern may only fire on what is a secret beyond doubt: commit hashes, UUIDs, versions and our own
//! ids are what people talk about all day. Every search is linear in the length of the text.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

/// Shortest configured secret that is searched for; a shorter one would also hit ordinary words.
pub const MIN_KNOWN_SECRET: usize = 8;

/// Removes secrets from text. Cheap to clone; its debug form shows no secret.
#[derive(Clone, Default)]
pub struct SecretFilter {
    /// Longest first, so that a secret that contains another goes as a whole.
    known: Vec<String>,
}

impl fmt::Debug for SecretFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretFilter({} known)", self.known.len())
    }
}

const CONFIGURED: &str = "configured secret";

impl SecretFilter {
    /// A filter for these secrets, as they are and as they look inside JSON, and for all patterns.
    /// Secrets shorter than [`MIN_KNOWN_SECRET`] bytes are not searched for.
    pub fn new<S: AsRef<str>>(known: impl IntoIterator<Item = S>) -> Self {
        let mut all = Vec::new();
        for secret in known {
            let secret = secret.as_ref().trim();
            if secret.len() >= MIN_KNOWN_SECRET {
                let quoted = serde_json::Value::from(secret).to_string();
                all.push(quoted.trim_matches('"').to_owned());
                all.push(secret.to_owned());
            }
        }
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Self { known: all }
    }

    /// The text with each secret replaced by `[secret removed: <kind>]`. Cleaning twice changes nothing
    /// more.
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.known {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), &removed(CONFIGURED)));
            }
        }
        for pattern in PATTERNS.iter() {
            if let Some(cleaned) = pattern.remove_from(&text) {
                text = Cow::Owned(cleaned);
            }
        }
        text
    }

    /// What kind of secret the text holds, if any: `slack token`.
    pub fn find(&self, text: &str) -> Option<&'static str> {
        if self.known.iter().any(|secret| text.contains(secret.as_str())) {
            return Some(CONFIGURED);
        }
        PATTERNS.iter().find(|p| p.secrets_in(text).next().is_some()).map(|p| p.label)
    }
}

fn removed(label: &str) -> String {
    format!("[secret removed: {label}]")
}

/// Whether a setting or argument of this name holds a secret, whatever its value looks like.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let ends =
        ["password", "passwd", "passphrase", "secret", "token", "api_key", "apikey", "access_key", "private_key"];
    ends.iter().any(|end| name.ends_with(end)) || name == "authorization" || name == "cookie"
}

struct Pattern {
    label: &'static str,
    regex: Regex,
    /// What stands before the secret in a match, and is kept. Looked for in the match only: capture
    /// groups would run the slow engine over all of it.
    before: Option<Regex>,
    /// Bytes after the secret in a match, kept as well.
    after: usize,
    /// A last look at what is before the secret and at the secret, for what an automaton cannot say.
    is_secret: fn(&str, &str) -> bool,
}

impl Pattern {
    fn new(&(label, before, secret, after, is_secret): &Row) -> Result<Self, regex::Error> {
        let regex = Regex::new(&format!("{before}{secret}{after}"))?;
        // Flags of the first part hold for the whole pattern, so the parts are read the same way alone.
        let before = if before.is_empty() { None } else { Some(Regex::new(&format!("^{before}"))?) };
        Ok(Self { label, regex, before, after: after.len(), is_secret })
    }

    fn secrets_in<'t>(&'t self, text: &'t str) -> impl Iterator<Item = std::ops::Range<usize>> + 't {
        self.regex.find_iter(text).filter_map(|found| {
            let kept = self.before.as_ref().and_then(|before| before.find(found.as_str())).map_or(0, |m| m.end());
            let (before, secret) = found.as_str().split_at_checked(kept)?;
            let secret = secret.get(..secret.len().checked_sub(self.after)?)?;
            let start = found.start() + kept;
            (self.is_secret)(before, secret).then(|| start..start + secret.len())
        })
    }

    fn remove_from(&self, text: &str) -> Option<String> {
        let mut out = String::new();
        let mut done = 0;
        for secret in self.secrets_in(text) {
            out.push_str(text.get(done..secret.start)?);
            out.push_str(&removed(self.label));
            done = secret.end;
        }
        if done == 0 {
            return None;
        }
        out.push_str(text.get(done..)?);
        Some(out)
    }
}

fn always(_: &str, _: &str) -> bool {
    true
}

fn has_digit(_: &str, secret: &str) -> bool {
    secret.bytes().any(|b| b.is_ascii_digit())
}

/// Whether text stands for a secret without being one: `$TOKEN`, `<your token>`, `****`, what we wrote.
fn is_placeholder(secret: &str) -> bool {
    secret.starts_with(['$', '<', '{', '*', '%', '[']) || secret.bytes().all(|b| matches!(b, b'x' | b'X' | b'*' | b'.'))
}

/// Decides on `name = value`. Prose (`password: required`) and code (`token = parser.next()`) write the
/// same signs, so a value without a digit counts only where it is glued to its `=` or quoted.
fn is_assigned(before: &str, secret: &str) -> bool {
    let name = before.get(..2).map(str::to_ascii_lowercase);
    let password = matches!(name.as_deref(), Some("pa" | "pw"));
    let glued = before.ends_with(['=', '"', '\'']);
    let digits = secret.bytes().filter(u8::is_ascii_digit).count();
    let long_enough = secret.len() >= if password { 4 } else { 8 };
    // a number is a count or an id unless somebody calls it a password
    let number = !password && digits == secret.len();
    long_enough && (glued || digits > 0) && !number && !is_placeholder(secret)
}

/// `https://user:$PASSWORD@host` is how people write about such URLs.
fn is_url_password(_: &str, secret: &str) -> bool {
    !is_placeholder(secret)
}

/// Label, what stands before the secret, the secret, the literal after it, and the last look.
type Row = (&'static str, &'static str, &'static str, &'static str, fn(&str, &str) -> bool);

/// Names whose values are secrets, as a case-insensitive pattern.
macro_rules! names {
    () => {
        "(?i)(?:password|passwd|passphrase|pwd|secret|(?:api|access|private|secret|auth)[_-]?key|token)"
    };
}

/// Most specific first: what one removes, a later one no longer sees.
/// Shapes are the vendors' own (their documentation of token formats and of secret scanning).
const TABLE: &[Row] = &[
    (
        "private key",
        "",
        r"(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)",
        "",
        always,
    ),
    ("anthropic key", "", r"(?-u:\b)sk-ant-[A-Za-z0-9_-]{16,}", "", always),
    ("openai key", "", r"(?-u:\b)sk-(?:proj-|svcacct-|admin-|None-)?[A-Za-z0-9_-]{20,}", "", has_digit),
    ("aws key", "", r"(?-u:\b)(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?-u:\b)", "", always),
    ("github token", "", r"(?-u:\b)(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})", "", always),
    ("gitlab token", "", r"(?-u:\b)gl(?:pat|dt|rt|ptt)-[A-Za-z0-9_-]{20,}", "", always),
    ("slack token", "", r"(?-u:\b)(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,}", "", has_digit),
    ("slack webhook", r"https://hooks\.slack\.com/(?:services|workflows|triggers)/", "[A-Za-z0-9/]{20,}", "", always),
    (
        "discord webhook",
        r"https://(?:[a-z]{1,20}\.)?discord(?:app)?\.com/api/webhooks/[0-9]{1,20}/",
        "[A-Za-z0-9_-]{30,}",
        "",
        always,
    ),
    ("discord token", "", r"(?-u:\b)[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}", "", always),
    ("stripe key", "", r"(?-u:\b)(?:(?:sk|rk)_(?:live|test)|whsec)_[A-Za-z0-9]{16,}", "", always),
    (
        "google key",
        "",
        r"(?-u:\b)(?:AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]{20,})",
        "",
        always,
    ),
    ("sendgrid key", "", r"(?-u:\b)SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}", "", always),
    (
        "registry token",
        "",
        r"(?-u:\b)(?:npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|dckr_pat_[A-Za-z0-9_-]{20,})",
        "",
        always,
    ),
    ("json web token", "", r"(?-u:\b)eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", "", always),
    (
        "authorization header",
        r#"(?i)(?:authorization["'\\]{0,2}\s{0,3}[:=]\s{0,3}["'\\]{0,2}(?:bearer|basic|token|bot|apikey)|(?-u:\b)bearer)\s{1,3}"#,
        "[a-z0-9._~+/=-]{12,}",
        "",
        has_digit,
    ),
    (
        "password in a URL",
        r#"(?i)[a-z][a-z0-9+.-]{1,20}://[^\s/:@"'<>]{0,100}:"#,
        r#"[^\s/@"'<>?#]{1,200}"#,
        "@",
        is_url_password,
    ),
    (
        "assigned secret",
        concat!(names!(), r#"["'\\]{0,2}\s{0,3}(?:=>|:=|=|:)\s{0,3}\\?["']"#),
        r#"[^"'\\\n]{4,}"#,
        "",
        is_assigned,
    ),
    (
        "assigned secret",
        concat!(names!(), r#"["'\\]{0,2}\s{0,3}(?:=>|:=|=|:)\s{0,3}"#),
        r#"[^\s"'\\,;&<>\[\]{}()|]{4,}"#,
        "",
        is_assigned,
    ),
];

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    // reason for dropping the error: a test compiles every row of this constant table
    TABLE.iter().filter_map(|row| Pattern::new(row).ok()).collect()
});

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
            ("discord token", format!("M{}.{}.{}", body(23), body(6), body(38))),
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
    fn every_pattern_compiles_and_has_a_sample() {
        for row in TABLE {
            Pattern::new(row).unwrap();
            let label = &row.0;
            assert!(samples().iter().any(|(kind, _)| kind == label), "{label} has no sample");
        }
        assert_eq!(PATTERNS.len(), TABLE.len());
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
