//! Credentials that are known by their shape or by the phrase around them: key blocks, headers, cookies, links,
//! password files, manifests.
//!
//! A shape is searched for only in texts that hold one of its keywords. Every expression runs in linear time and has
//! one group: the secret.

use std::ops::Range;
use std::sync::OnceLock;

use regex::Regex;

use super::value::*;

/// What an expression cannot say of what it found.
type Check = fn(&str) -> bool;

pub(super) struct Shape {
    pub label: &'static str,
    pub keywords: &'static [&'static str],
    expression: &'static str,
    check: Check,
    compiled: OnceLock<Option<Regex>>,
}

const fn shape(
    label: &'static str,
    keywords: &'static [&'static str],
    expression: &'static str,
    check: Check,
) -> Shape {
    Shape { label, keywords, expression, check, compiled: OnceLock::new() }
}

fn always(_: &str) -> bool {
    true
}

fn is_token(value: &str) -> bool {
    !is_placeholder(value)
        && (is_random(value, 12) || (value.len() >= 20 && is_random(value, 8)))
        && !is_digest_word(value)
}

/// `authentication-2`, `tokens`: what prose has behind "bearer".
fn is_digest_word(value: &str) -> bool {
    is_name(value) || is_common(value)
}

/// What a header of authorization carries: more is taken for one than in prose.
fn is_header(value: &str) -> bool {
    let odd =
        !value.bytes().all(|b| b.is_ascii_alphabetic()) && value.len() >= 16 && variety(value) >= 8 && !is_name(value);
    !is_placeholder(value)
        && !is_common(value)
        && !value.contains("::")
        && !value.starts_with(':')
        && !value.contains('(')
        && (is_basic(value) || is_random(value, 8) || odd)
}

fn is_given(value: &str) -> bool {
    !is_placeholder(value) && !is_common(value)
}

fn is_opaque(value: &str) -> bool {
    !is_placeholder(value) && is_random(value, 20)
}

pub(super) static SHAPES: [Shape; 19] = [
    shape(
        "private key",
        &["private key"],
        r"((?s:-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)))",
        always,
    ),
    shape(
        "private key",
        &["private-lines:"],
        r"Private-Lines: [0-9]{1,3}(?:\s|\\n|\\r){1,4}((?:[A-Za-z0-9+/=]{1,80}(?:\s|\\n|\\r){0,4}){1,200})",
        always,
    ),
    shape(
        "slack webhook",
        &["hooks.slack"],
        r"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/([A-Za-z0-9+/]{20,})",
        always,
    ),
    shape(
        "discord webhook",
        &["/api/webhooks/"],
        r"discord(?:app)?\.com/api/webhooks/[0-9]{1,20}/([A-Za-z0-9_-]{30,})",
        always,
    ),
    shape(
        "teams webhook",
        &["/webhookb2/", "/incomingwebhook/"],
        r"/(?i:webhookb2|IncomingWebhook)/([A-Za-z0-9@/-]{40,})",
        always,
    ),
    shape("zapier webhook", &["hooks.zapier"], r"hooks\.zapier\.com/hooks/catch/([A-Za-z0-9/]{10,})", always),
    shape(
        "discord token",
        // Real ones are known by their beginning as well (`tokens`); these words let made-up ones be found.
        &["discord", "bot", "token"],
        r"(?-u:\b)([MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,})",
        is_opaque,
    ),
    shape("telegram token", &[":aa"], r"(?:^|[^0-9])([0-9]{8,11}:AA[A-Za-z0-9_-]{30,40})", always),
    shape(
        "json web token",
        &["eyj"],
        r"(?:^|[^A-Za-z0-9_-]|\\[nrt]|%3D|%20)(eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){2,4})",
        always,
    ),
    shape("new relic key", &["nral"], r"(?-u:\b)([0-9a-zA-Z]{36}(?:NRAL|FFFFNRAL))", has_digit),
    shape("mailchimp key", &["-us"], r"(?-u:\b)([0-9a-f]{32}-us[0-9]{1,2})(?-u:\b)", always),
    shape(
        "password in a file",
        &[":5432:", ":5433:", ":6432:", ":*:", ".pgpass"],
        r#"(?m)(?:^|["'\s]|\\n)(?:[A-Za-z0-9_.*-]{1,80}|/[A-Za-z0-9_./-]{1,80}):(?:[0-9]{4,5}|\*):[A-Za-z0-9_.*-]{1,63}:[A-Za-z0-9_.*-]{1,63}:([^\s"'\\]{3,})"#,
        is_given,
    ),
    shape(
        "oracle password",
        &["sqlplus", "jdbc:oracle", "expdp", "impdp", "sqlldr", "rman target"],
        r#"(?i)(?:sqlplus|sqlldr|expdp|impdp|rman target|jdbc:oracle:[a-z]{2,6}:)(?:[ \t]{1,4}-[a-z]{1,4}){0,3}[ \t]{0,4}["']?[A-Za-z0-9_$#]{1,64}/([^\s@"'/]{2,})"#,
        is_given,
    ),
    shape(
        "authorization header",
        &["authorization"],
        r#"(?i)authorization["'\\\]]{0,4}\s{0,3}(?:=>|[:=,])\s{0,3}\\{0,3}["'`]{0,2}(?:(?:bearer|basic|token|bot|api-?key|key|digest|negotiate|ntlm|ssws|geniekey|splunk|oauth|jwt|hmac|dpop|zoho-oauthtoken|klaviyo-api-key|snowflake|sso-key|pat|user)(?:\s|%20){1,3})?(?:token=)?\\{0,3}["']?([^\s"'`\\,;<>]{8,})"#,
        is_header,
    ),
    shape(
        "authorization header",
        &["bearer"],
        r#"(?i)(?-u:\b)bearer(?:\s|%20){1,3}["']?([a-z0-9._~+/=-]{12,})"#,
        is_token,
    ),
    shape("authorization header", &["basic"], r"(?i)(?-u:\b)basic(?:\s|%20){1,3}([a-z0-9+/_-]{6,}={0,2})", is_basic),
    shape(
        "password",
        &["auth=(", "auth = (", "basicauth("],
        r#"(?i)auth\s{0,2}=?\s{0,2}\(\s{0,2}["'][^"']{1,80}["']\s{0,2},\s{0,2}["']([^"']{3,})["']"#,
        is_given,
    ),
    shape(
        "unseal key",
        &["unseal key", "recovery key"],
        r"(?i)(?:unseal|recovery) key [0-9]{1,2}\s{0,3}[:=]\s{0,3}([A-Za-z0-9+/=]{20,})",
        always,
    ),
    shape(
        "password",
        &["--password-stdin", "sudo -s", "--stdin", "chpasswd"],
        r#"(?:echo|printf|<<<)\s{1,4}(?:-[ne]\s{1,4})?(?:%s\s{1,4})?["']?([^\s"'|]{3,})["']?(?:\s{0,4}\|\s{0,4}[^|\n]{0,200})?(?:--password-stdin|sudo -S|--stdin|chpasswd)"#,
        is_given,
    ),
];

impl Shape {
    fn regex(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| Regex::new(self.expression).ok()).as_ref()
    }

    pub(super) fn secrets_in(&self, text: &str) -> Vec<Range<usize>> {
        let Some(regex) = self.regex() else { return Vec::new() };
        let mut found = Vec::new();
        // Matches first, groups within them: groups over the whole text would run the slow engine.
        for whole in regex.find_iter(text) {
            let secret = regex.captures_at(text, whole.start()).and_then(|groups| groups.get(1));
            if let Some(secret) = secret.filter(|s| (self.check)(s.as_str())) {
                found.push(secret.range());
            }
        }
        found
    }
}

// ---- cookies ----

pub(super) const COOKIE_LABEL: &str = "cookie";
/// Bytes of a header that are read; browsers send no more than this for one cookie.
const MAX_COOKIES: usize = 4096;
/// Words in the name of a cookie that carries a session.
const SESSION_WORDS: &[&str] =
    &["sess", "sid", "auth", "token", "jwt", "remember", "csrf", "xsrf", "login", "secret", "key", "id"];

/// The values of the cookies behind the header's name that ends at `end`.
///
/// Returns as well how far that was read.
pub(super) fn cookies(text: &str, start: usize, end: usize) -> (Vec<Range<usize>>, usize) {
    let Some(rest) = text.get(end..) else { return (Vec::new(), end) };
    let only_first =
        text.get(..start).is_some_and(|before| super::assigned::tail(before, 4).eq_ignore_ascii_case("set-"));
    let lead = rest
        .bytes()
        .take(12)
        .take_while(|b| matches!(b, b'"' | b'\'' | b'\\' | b':' | b'=' | b' ' | b'`' | b','))
        .count();
    let signs = rest.get(..lead).unwrap_or("");
    if !signs.contains([':', '=', '\'', '"', ' ']) {
        return (Vec::new(), end);
    }
    let line = rest.get(lead..).unwrap_or("");
    let line = line.get(..MAX_COOKIES).unwrap_or(line);
    let line = line.split(['\n', '\r', '"', '\'', '\\', '`']).next().unwrap_or("");
    let mut found = Vec::new();
    let mut at = end + lead;
    for pair in line.split(';').take(if only_first { 1 } else { 100 }) {
        if let Some((name, value)) = pair.split_once('=') {
            let lower = name.trim().to_ascii_lowercase();
            let value_at = at + name.len() + 1;
            let value = value.split_whitespace().next().unwrap_or("");
            let session = value.len() >= 6
                && SESSION_WORDS.iter().any(|word| lower.contains(word))
                && has_digit(value)
                && !is_name(value);
            let named = !lower.is_empty() && !lower.contains(char::is_whitespace);
            if named && !is_placeholder(value) && (session || is_random(value, 16)) {
                found.push(value_at..value_at + value.len());
            }
        }
        at += pair.len() + 1;
    }
    (found, at)
}

// ---- links ----

pub(super) const LINK_LABEL: &str = "password in a URL";

/// The password in the URL whose `://` stands at `start..end`: between the first colon and the last `@` of what
/// names the host. People write passwords with `@`, `/` and `#` there, which a URL may not hold.
pub(super) fn link_password(text: &str, start: usize, end: usize) -> Option<Range<usize>> {
    let scheme = text
        .get(..start)?
        .bytes()
        .rev()
        .take(24)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'-'))
        .count();
    if scheme == 0 {
        return None;
    }
    let web = text.get(start - scheme..start)?.to_ascii_lowercase();
    let web = web.ends_with("http") || web.ends_with("https");
    let rest = text.get(end..)?;
    let most = (0..=rest.len().min(2048)).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0);
    let rest = rest.get(..most)?;
    let stop =
        rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`')).unwrap_or(rest.len());
    let rest = rest.get(..stop)?;
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let colon = rest.find(':');
    // `host:8080/a@b`: a port, and an `@` in the path.
    let port = colon.is_some_and(|c| {
        rest.get(c + 1..authority).is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.len() <= 5)
    });
    let last_at = |part: &str| part.rfind('@');
    let within = rest.get(..authority).and_then(last_at);
    let at_sign = match within {
        // `postgres://app:p@ss/w0rd@db:5432/x`: behind the first slash, and still before the host. On the web an `@`
        // there belongs to the path, as in `/@scope/package`.
        Some(at) if !web => host_before(rest, at),
        Some(at) => Some(at),
        None if port => None,
        // `https://bob:p/w@host`: what stands behind the colon is not a port.
        None => colon.and_then(|_| rest.find('?').map_or(rest, |q| rest.get(..q).unwrap_or(rest)).rfind('@')),
    }?;
    let user_end = colon.filter(|colon| *colon < at_sign);
    match user_end {
        Some(colon) => {
            let user = rest.get(..colon)?;
            let password = rest.get(colon + 1..at_sign)?;
            let stand_in = is_placeholder(password) || is_example(user, password);
            // `https://<token>:x-oauth-basic@host`: the secret is the user.
            if matches!(password, "" | "x-oauth-basic" | "x" | "@") {
                return is_random(user, 16).then(|| end..end + colon);
            }
            (!stand_in).then(|| end + colon + 1..end + at_sign)
        }
        None => {
            let user = rest.get(..at_sign)?;
            (is_random(user, 20) && !is_placeholder(user) && !user.contains(['/', ':']) && !user.contains('.'))
                .then(|| end..end + at_sign)
        }
    }
}

/// The last `@` that can stand before a host: what follows is a name or an address, then a port, a path or nothing.
fn host_before(rest: &str, first: usize) -> Option<usize> {
    let all = rest.char_indices().filter(|(at, c)| *c == '@' && *at >= first).map(|(at, _)| at);
    let looks_like_host = |at: &usize| {
        let host = rest.get(at + 1..).unwrap_or("");
        let length = host
            .bytes()
            .take_while(|b| {
                b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'[' | b']' | b'(' | b'{' | b'$')
            })
            .count();
        length > 0
            && host.as_bytes().get(length).is_none_or(|b| {
                matches!(b, b':' | b'/' | b'?' | b',' | b')' | b';' | b'#' | b'.' | b'\\' | b'}' | b']')
            })
    };
    // An address in the query (`?user=a@b`) is behind a question mark.
    let query = rest.find('?').unwrap_or(rest.len());
    all.filter(|at| *at < query).rfind(looks_like_host).or(Some(first))
}

/// `user:password@host`, as documentation shows it.
fn is_example(user: &str, password: &str) -> bool {
    let user = user.to_ascii_lowercase();
    let password = password.to_ascii_lowercase();
    matches!(user.as_str(), "user" | "username" | "name" | "usr" | "me" | "u" | "login" | "")
        && matches!(password.as_str(), "pass" | "password" | "passwd" | "pwd" | "pw" | "p" | "secret")
}

// ---- manifests ----

pub(super) const MANIFEST_LABEL: &str = "value of a Kubernetes secret";

/// The values of a Kubernetes `Secret`: of `data` in Base64, of `stringData` as they are.
/// Returns as well where the document ends.
pub(super) fn manifest_values(text: &str, at: usize) -> (Vec<Range<usize>>, usize) {
    let mut found = Vec::new();
    let from = text.get(..at).and_then(|t| t.rfind("\n---")).unwrap_or(0);
    let until = text.get(at..).and_then(|t| t.find("\n---")).map_or(text.len(), |n| at + n);
    // Inside JSON the lines are written out.
    let written_out = text.get(at..).is_some_and(|t| t.lines().next().is_some_and(|line| line.contains("\\n")));
    let Some(document) = text.get(from..until) else { return (found, until) };
    let mut block: Option<(usize, bool)> = None;
    let mut line_at = from;
    for line in document.split_inclusive(if written_out { "\\n" } else { "\n" }) {
        let whole = line.len();
        let line = if written_out { line.strip_suffix("\\n").unwrap_or(line) } else { line };
        let indent = line.len() - line.trim_start().len();
        let key = line.trim_end().trim_start();
        match block {
            _ if key.is_empty() => {}
            Some((depth, plain)) if indent > depth => {
                if let Some((_, value)) = key.split_once(':') {
                    let value = value.trim().trim_matches(['"', '\'', '\\']);
                    let encoded =
                        value.len() >= 4 && base64_text(value).is_some() || (value.len() >= 24 && is_random(value, 24));
                    if value.len() >= 3
                        && !is_placeholder(value)
                        && (plain && !is_common(value) || encoded)
                        && let Some(start) = line.find(value)
                    {
                        found.push(line_at + start..line_at + start + value.len());
                    }
                }
            }
            _ => {
                block = match key {
                    "data:" => Some((indent, false)),
                    "stringData:" => Some((indent, true)),
                    _ => None,
                };
            }
        }
        line_at += whole;
    }
    (found, until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_compiles_and_has_one_group() {
        for shape in &SHAPES {
            let regex =
                shape.regex().unwrap_or_else(|| panic!("{}: {:?}", shape.label, Regex::new(shape.expression).err()));
            assert_eq!(regex.captures_len(), 2, "{}", shape.label);
        }
    }

    #[test]
    fn the_password_of_a_link_is_found_wherever_people_put_signs() {
        let found = |text: &str| {
            let at = text.find("://")?;
            link_password(text, at, at + 3).map(|range| text[range].to_owned())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found("postgres://app:hunter22@db:5432/app"), some("hunter22"));
        assert_eq!(found("postgres://app:p@ss@db:5432/app"), some("p@ss"));
        assert_eq!(found("postgres://app:p@ss/w0rd@db:5432/app"), some("p@ss/w0rd"));
        assert_eq!(found("https://bob:p@ss@host/@scope/pkg"), some("p@ss"));
        assert_eq!(found("https://bob:p/w1x@host/x"), some("p/w1x"));
        assert_eq!(found("mongodb+srv://u:pw7@c0.example.net,c1.example.net/?x=a@b"), some("pw7"));
        assert_eq!(found("redis://:p4ss@127.0.0.1/0"), some("p4ss"));
        for harmless in [
            "https://example.com:8080/a@b",
            "http://[::1]:8080/x",
            "https://example.com/@user",
            "ssh://git@host/x",
            "https://user:password@host",
            "https://bob:$PW@host",
            "https://bob:<pw>@host",
            "mysql://u:${PW}@h/d",
        ] {
            assert_eq!(found(harmless), None, "{harmless}");
        }
    }
}
